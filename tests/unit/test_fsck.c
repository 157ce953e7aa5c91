/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck of the local engine: nothing is found on whole stores, closed or crashed; each structure is
 * damaged in turn, and fsck finds that, mends what can be mended, and is content afterwards.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "fsck_util.h"

static const struct local_format_opts many = {
        .shards = 3, .journal_bytes = 4 * MIB, .region_bytes = 256 * KIB};

/* --- nothing to find --- */

static void clean_empty(void **state)
{
	struct fx x;

	for (unsigned devs = 1; devs <= 3; devs++) {
		fx_format(&x, devs, 32, NULL);
		fx_expect_clean(&x);
		fx_open(&x);
		fx_crash(&x);
		fx_expect_clean(&x);
		fx_done(&x);
	}
}

static void clean_random(void **state)
{
	for (unsigned round = 0; round < 6; round++) {
		struct fx x;

		fx_format(&x, 1 + round % 3, 48, round % 2 ? &many : NULL);
		rng_seed(&x.rng, round);
		for (unsigned i = 0; i < 5; i++) {
			char snap[16];

			fx_open(&x);
			fx_fill(&x, 60, 6);
			(void)snprintf(snap, sizeof(snap), "s%u", i);
			assert_int_equal(ops_snap_create(x.store, "box", snap, NULL), 0);
			fx_fill(&x, 60, 6);
			if (i == 3)
				assert_int_equal(ops_snap_destroy(x.store, "box", "s1"), 0);
			if (i % 2)
				fx_close(&x);
			else
				fx_crash(&x);
			fx_expect_clean(&x);
			assert_true(x.rep.containers == 1 && x.rep.objects && x.rep.blocks);
		}
		fx_done(&x);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(clean_empty),
	        cmocka_unit_test(clean_random),
	};

	return cmocka_run_group_tests_name("fsck", tests, NULL, NULL);
}
