/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hist: bucket borders, percentiles against sorted values, merging.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/hist.h"

static void test_buckets(void **state)
{
	uint64_t prev = 0;

	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		uint64_t top = hist_bucket_top(i);

		assert_int_equal(hist_bucket(top), i);
		if (top < UINT64_MAX)
			assert_int_equal(hist_bucket(top + 1), i + 1);
		assert_true(i == 0 || top > prev);
		/* No bucket is wider than a 64th of its values. */
		assert_true(top - prev <= MAX(1, top / HIST_SUB));
		prev = top;
	}
	assert_int_equal(prev, UINT64_MAX);
	assert_int_equal(hist_bucket(UINT64_MAX), HIST_BUCKETS - 1);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void test_percentiles(void **state)
{
	static uint64_t values[10000];
	static struct hist h;
	struct rng rng;

	hist_init(&h);
	assert_int_equal(hist_percentile(&h, 0.5), 0);
	assert_true(hist_mean(&h) == 0);
	rng_seed(&rng, 5);
	for (unsigned i = 0; i < ARRAY_LEN(values); i++) {
		values[i] = rng_next(&rng) >> rng_below(&rng, 64);
		hist_add(&h, values[i]);
	}
	qsort(values, ARRAY_LEN(values), sizeof(values[0]), compare);
	for (unsigned i = 1; i <= 1000; i++) {
		uint64_t got = hist_percentile(&h, i / 1000.0), want = values[i * 10 - 1];

		assert_true(got >= want && got - want <= want / HIST_SUB);
	}
	assert_int_equal(hist_percentile(&h, 1.0), values[ARRAY_LEN(values) - 1]);
	assert_int_equal(hist_percentile(&h, 0.0), hist_percentile(&h, 1e-9));
	assert_int_equal(h.min, values[0]);
}

static void test_merge(void **state)
{
	static struct hist a, b, all;

	hist_init(&a);
	hist_init(&b);
	hist_init(&all);
	for (uint64_t v = 1; v < 100000; v += 7) {
		hist_add(v % 2 ? &a : &b, v);
		hist_add(&all, v);
	}
	hist_merge(&a, &b);
	assert_memory_equal(&a, &all, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_buckets),
	        cmocka_unit_test(test_percentiles),
	        cmocka_unit_test(test_merge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
