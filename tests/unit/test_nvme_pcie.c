/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nvme/pcie, as far as it goes without a device: a device's addresses against a map of what is taken,
 * names of PCI functions, device strings. The rest is in tests/lab.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "bdev/bdev.h"
#include "loop/loop.h"
#include "nvme/vfio.h"

#define UNIT  0x1000ull
#define UNITS 512u
#define BASE  0x40000000ull

static void test_iova_edges(void **state)
{
	struct iova_space s = {0};
	uint64_t a = 1;

	assert_int_equal(iova_take(&s, UNIT, UNIT, &a), -ENOSPC);
	assert_int_equal(iova_allow(&s, 10, 9), -EINVAL);
	assert_int_equal(iova_allow(&s, 0, IOVA_FIRST - 1), 0);
	assert_int_equal(s.allowed_count, 0); /* nothing that may be given out */
	assert_int_equal(iova_allow(&s, 0, IOVA_FIRST + 2 * UNIT - 1), 0);
	assert_int_equal(iova_allow(&s, IOVA_FIRST, UINT64_MAX), -EINVAL);
	assert_int_equal(iova_allow(&s, -(3 * UNIT), UINT64_MAX), 0);
	assert_int_equal(iova_take(&s, 0, UNIT, &a), -ENOSPC);
	assert_int_equal(iova_take(&s, 4 * UNIT, UNIT, &a), -ENOSPC);
	assert_int_equal(a, 1);
	/* Up to the last address there is, and not beyond. */
	assert_int_equal(iova_take(&s, 3 * UNIT, UNIT, &a), 0);
	assert_true(a == -(3 * UNIT));
	assert_int_equal(iova_take(&s, 3 * UNIT, UNIT, &a), -ENOSPC);
	assert_int_equal(iova_take(&s, UNIT, UNIT, &a), 0);
	assert_int_equal(a, IOVA_FIRST);
	assert_int_equal(iova_take(&s, UNIT, 2 * UNIT, &a), -ENOSPC);
	assert_int_equal(iova_take(&s, UNIT, UNIT, &a), 0);
	assert_int_equal(a, IOVA_FIRST + UNIT);
	assert_int_equal(iova_take(&s, UNIT, UNIT, &a), -ENOSPC);
	assert_int_equal(iova_give(&s, IOVA_FIRST + 1), 0);
	assert_int_equal(iova_give(&s, IOVA_FIRST), UNIT);
	assert_int_equal(iova_give(&s, IOVA_FIRST), 0);
	assert_int_equal(iova_give(&s, -(3 * UNIT)), 3 * UNIT);
	iova_done(&s);
}

/* What was given out must be allowed where it is to be used again. */
static void test_iova_allows(void **state)
{
	struct iova_space s = {0}, now = {0};
	uint64_t a, b;

	assert_int_equal(iova_allow(&s, BASE, BASE + 8 * UNIT - 1), 0);
	assert_true(iova_allows(&now, &s)); /* nothing is taken */
	assert_int_equal(iova_take(&s, 3 * UNIT, UNIT, &a), 0);
	assert_int_equal(iova_take(&s, UNIT, UNIT, &b), 0);
	assert_false(iova_allows(&now, &s));
	assert_int_equal(iova_allow(&now, BASE, BASE + 3 * UNIT - 1), 0);
	assert_false(iova_allows(&now, &s));
	assert_int_equal(iova_allow(&now, BASE + 3 * UNIT, BASE + 4 * UNIT - 1), 0);
	assert_true(iova_allows(&now, &s));
	assert_int_equal(iova_give(&s, a), 3 * UNIT);
	assert_int_equal(iova_take(&s, 4 * UNIT, UNIT, &a), 0);
	assert_false(iova_allows(&now, &s)); /* beyond the end */
	iova_done(&s);
	iova_done(&now);
}

/* The lowest place in the model that fits; -1: none. */
static int model_find(const uint8_t *used, unsigned len, unsigned align)
{
	for (unsigned at = 0; at + len <= UNITS; at += align) {
		unsigned n = 0;

		while (n < len && !used[at + n])
			n++;
		if (n == len)
			return (int)at;
	}
	return -1;
}

static void test_iova_model(void **state)
{
	struct iova_space s = {0};
	uint8_t used[UNITS];
	uint64_t taken[UNITS], addr;
	unsigned lens[UNITS], count = 0;
	struct rng rng;

	rng_seed(&rng, 5);
	/* Holes in what is allowed count as taken in the model. */
	memset(used, 1, sizeof(used));
	for (unsigned at = 0; at < UNITS; at += 100) {
		unsigned len = 70;

		assert_int_equal(
		        iova_allow(&s, BASE + at * UNIT, BASE + MIN(at + len, UNITS) * UNIT - 1),
		        0);
		memset(used + at, 0, MIN(len, UNITS - at));
	}
	for (unsigned step = 0; step < 20000; step++) {
		unsigned len = 1 + (unsigned)rng_below(&rng, 24), align = 1u << rng_below(&rng, 5);
		int at = model_find(used, len, align), rc;

		if (count && rng_below(&rng, 100) < (step / 4000 % 2 ? 60 : 40)) {
			unsigned n = (unsigned)rng_below(&rng, count);

			assert_true(iova_give(&s, taken[n]) == lens[n] * UNIT);
			memset(used + (taken[n] - BASE) / UNIT, 0, lens[n]);
			taken[n] = taken[--count];
			lens[n] = lens[count];
			continue;
		}
		rc = iova_take(&s, len * UNIT, align * UNIT, &addr);
		assert_int_equal(rc, at < 0 ? -ENOSPC : 0);
		if (rc)
			continue;
		assert_true(addr == BASE + (unsigned)at * UNIT);
		memset(used + at, 1, len);
		taken[count] = addr;
		lens[count++] = len;
	}
	iova_done(&s);
}

static void test_names(void **state)
{
	static const struct {
		const char *text, *name;
	} names[] = {
	        {"0000:01:00.0", "0000:01:00.0"},
	        {"01:00.0", "0000:01:00.0"},
	        {"10000:AB:1f.7", "10000:ab:1f.7"},
	        {"", NULL},
	        {":", NULL},
	        {"01:00", NULL},
	        {"01:00.", NULL},
	        {"01:20.0", NULL},
	        {"01:00.8", NULL},
	        {"01:00.0 ", NULL},
	        {"001:00.0", NULL},
	        {"0:0:01:00.0", NULL},
	        {"123456789:01:00.0", NULL},
	        {"../../01:00.0", NULL},
	        {"0x01:00.0", NULL},
	};
	char name[VFIO_PCI_NAME_MAX];

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		assert_int_equal(vfio_pci_name(names[i].text, name), names[i].name != NULL);
		if (names[i].name)
			assert_string_equal(name, names[i].name);
	}
}

static void test_strings(void **state)
{
	static const struct {
		const char *device, *says;
		int rc;
	} bad[] = {
	        {"nvme:ffff:ff:1f.7", "there is no such PCI function", -ENOENT},
	        {"nvme:ffff:ff:1f.7?interrupts=1&nsid=3&entries=64&timeout=1", "no such PCI",
	         -ENOENT},
	        {"nvme:/dev/nvme0n1", "no PCI address", -EINVAL},
	        {"nvme:ffff:ff:1f.7?nsid=0", "nsid", -EINVAL},
	        {"nvme:ffff:ff:1f.7?entries=1", "entries", -EINVAL},
	        {"nvme:ffff:ff:1f.7?lba=512", "lba", -EINVAL},
	        {"nvme:ffff:ff:1f.7?interrupts=maybe", "interrupts", -EINVAL},
	        {"nvme:ffff:ff:1f.7?reconnect=501", "reconnect", -EINVAL},
	};
	struct loop_opts lo;
	struct loop *loop;

	loop_opts_default(&lo);
	assert_int_equal(loop_new(&loop, &lo, NULL), 0);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct pst_err err = {0};
		struct bdev *b;

		assert_int_equal(bdev_open(&b, bad[i].device, loop, NULL, &err), bad[i].rc);
		if (!strstr(err.text, bad[i].says))
			fail_msg("%s: '%s'", bad[i].device, err.text);
	}
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_iova_edges), cmocka_unit_test(test_iova_allows),
	        cmocka_unit_test(test_iova_model), cmocka_unit_test(test_names),
	        cmocka_unit_test(test_strings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
