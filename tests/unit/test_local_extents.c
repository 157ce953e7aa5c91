/* SPDX-License-Identifier: BSD-3-Clause */
/* Reads of objects whose blocks lie here and there: each one is found among those that the engine keeps
 * at hand, and what lies between them is nothing. */
#include "eng_util.h"

#define SPAN 1024u /* blocks of an object */

static struct eng e;
static uint32_t cont;
static bool mapped[SPAN];

static int setup(void **state)
{
	e = (struct eng){.devs = 1, .dev_bytes = 256 * MIB};
	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "c", &cont), 0);
	return 0;
}

static int teardown(void **state)
{
	eng_end(&e);
	return 0;
}

static void put(struct pst_oid oid, uint64_t at)
{
	assert_int_equal(eng_put(&e, cont, oid, at * BB, BB, oid.lo * SPAN + at), 0);
	mapped[at] = true;
}

/* @count runs of one to @run_max blocks, at most @gap_max apart, beginning with a gap if @hole. */
static void lay_out(struct rng *rng, struct pst_oid oid, unsigned count, unsigned run_max,
                    unsigned gap_max, bool hole)
{
	uint64_t at = hole ? 1 + rng_below(rng, gap_max) : 0;

	memset(mapped, 0, sizeof(mapped));
	for (unsigned i = 0; i < count; i++) {
		uint64_t n = 1 + rng_below(rng, run_max);

		for (; n && at < SPAN; n--, at++)
			put(oid, at);
		at += 1 + rng_below(rng, gap_max);
	}
}

/* Blocks by themselves, in no order. */
static void look(struct rng *rng, struct pst_oid oid)
{
	static const uint8_t nothing[BB];
	static _Alignas(4096) uint8_t buf[BB];

	eng_checkpoint(&e); /* from the device, not from the journal */
	for (unsigned i = 0; i < SPAN; i++) {
		uint64_t at = rng_below(rng, SPAN);
		struct eng_op o;

		if (mapped[at]) {
			assert_int_equal(
			        eng_expect(&e, cont, 0, oid, at * BB, BB, oid.lo * SPAN + at), 0);
			continue;
		}
		memset(buf, 0xee, sizeof(buf));
		eng_read_op(&o, cont, 0, oid, at * BB, buf, BB);
		eng_submit(&e, &o);
		assert_int_equal(eng_wait(&e, &o), 0);
		assert_memory_equal(buf, nothing, o.op.ret_len);
	}
}

static void here_and_there(void **state)
{
	static const unsigned counts[] = {1, 2, 3, 5, 16, 31, 32, 33, 60};
	struct pst_oid oid = {0};
	struct rng rng;

	rng_seed(&rng, 1);
	for (unsigned i = 0; i < ARRAY_LEN(counts); i++)
		for (unsigned how = 0; how < 8; how++) {
			oid.lo++;
			lay_out(&rng, oid, counts[i], how & 1 ? 16 : 1, how & 2 ? 50 : 2, how & 4);
			look(&rng, oid);
		}
}

/* All of them at the beginning, and one far away. */
static void crowded(void **state)
{
	struct pst_oid oid = {.lo = 1};
	struct rng rng;

	rng_seed(&rng, 2);
	lay_out(&rng, oid, 29, 1, 1, false);
	put(oid, SPAN - 1);
	look(&rng, oid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(here_and_there, setup, teardown),
	        cmocka_unit_test_setup_teardown(crowded, setup, teardown),
	};

	return cmocka_run_group_tests_name("local_extents", tests, NULL, NULL);
}
