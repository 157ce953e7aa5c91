/* SPDX-License-Identifier: BSD-3-Clause */
/* Power cuts by the fault device: what was flushed stays, what was not is kept, lost or torn. */
#include <stdio.h>

#include "fault_util.h"

/* One cut after 12 unflushed writes of 4 blocks over a flushed base: counts what became of them. */
static void cut_once(uint64_t seed, unsigned *kept, unsigned *lost, unsigned *torn, unsigned *gaps)
{
	struct env e;
	bool earlier_lost = false;

	env_open(&e, seed);
	write_tag(&e, 0, 16, 1000, 0);
	write_tag(&e, 48, 16, 1001, 0);
	flush(&e);
	for (uint64_t i = 0; i < 12; i++)
		write_tag(&e, i * 4, 4, i, 0);
	fault_cut(e.b);
	assert_true(fault_is_cut(e.b));
	assert_int_equal(do_io(e.b, BDEV_FLUSH, 0, NULL, 0, 0), -EREMOTEIO);
	wait_quiet(&e);
	for (uint64_t i = 0; i < 12; i++) {
		unsigned n = 0;

		for (uint32_t k = 0; k < 4; k++) {
			bool is_new = has_tag(e.below, i * 4 + k, i, k);

			n += is_new;
			if (!is_new && i < 4)
				assert_true(has_tag(e.below, i * 4 + k, 1000, (uint32_t)i * 4 + k));
		}
		*kept += n == 4;
		*lost += n == 0;
		*torn += n > 0 && n < 4;
		*gaps += n == 4 && earlier_lost;
		earlier_lost |= n == 0;
	}
	for (uint32_t i = 0; i < 16; i++)
		assert_true(has_tag(e.below, 48 + i, 1001, i));
	env_close(&e);
}

static void test_cut(void **state)
{
	unsigned kept = 0, lost = 0, torn = 0, gaps = 0;

	for (uint64_t seed = 0; seed < 60; seed++)
		cut_once(seed, &kept, &lost, &torn, &gaps);
	assert_in_range(kept, 60, 660);
	assert_in_range(lost, 60, 660);
	assert_in_range(torn, 30, 660);
	assert_in_range(gaps, 20, 660); /* later writes survive earlier ones */
}

/* Of two unflushed writes to one place either may be what remains, or neither. */
static void test_cut_of_overlapping_writes(void **state)
{
	unsigned old = 0, first = 0, second = 0;

	for (uint64_t seed = 0; seed < 200; seed++) {
		struct env e;

		env_open(&e, seed);
		write_tag(&e, 5, 1, 1, 0);
		flush(&e);
		write_tag(&e, 5, 1, 2, 0);
		write_tag(&e, 4, 2, 3, 0);
		fault_cut(e.b);
		wait_quiet(&e);
		old += has_tag(e.below, 5, 1, 0);
		first += has_tag(e.below, 5, 2, 0);
		second += has_tag(e.below, 5, 3, 1);
		env_close(&e);
	}
	assert_int_equal(old + first + second, 200);
	assert_true(old > 20 && first > 20 && second > 20);
}

static void test_cut_ends_requests(void **state)
{
	struct env e;
	struct tio t[4];
	uint8_t buf[4][BB] = {{0}};

	env_open(&e, 1);
	memset(t, 0, sizeof(t));
	set(&e, "delay_us", "1000");
	tio_submit(e.b, &t[0], BDEV_READ, 0, buf[0], BB, 0);
	tio_submit(e.b, &t[1], BDEV_WRITE, 0, buf[1], BB, 0);
	tio_submit(e.b, &t[2], BDEV_FLUSH, 0, NULL, 0, 0);
	tio_submit(e.b, &t[3], BDEV_WRITE, BB, buf[3], BB, BDEV_FUA);
	fault_cut(e.b);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(t[i].done, 0); /* not from inside fault_cut either */
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(tio_wait(&t[i]), -EREMOTEIO);
		assert_true(t[i].done_ns < 2 * NSEC_PER_SEC);
	}
	assert_int_equal(do_io(e.b, BDEV_READ, 0, buf[0], BB, 0), -EREMOTEIO);
	env_close(&e);
}

/* In the middle of a flush: some of it may be below, and what was flushed before is. */
static void test_cut_during_flush(void **state)
{
	unsigned some = 0;

	for (uint64_t seed = 0; seed < 60; seed++) {
		struct env e;
		struct tio f = {.done = 0};
		unsigned n = 0;

		env_open(&e, seed);
		write_tag(&e, 60, 4, 77, 0);
		flush(&e);
		for (uint64_t i = 0; i < 40; i++)
			write_tag(&e, i, 1, i, 0);
		tio_submit(e.b, &f, BDEV_FLUSH, 0, NULL, 0, 0);
		for (uint64_t turn = 0; turn < seed % 5; turn++)
			loop_turn(e.loop, 0);
		fault_cut(e.b);
		if (!f.done)
			assert_int_equal(tio_wait(&f), -EREMOTEIO);
		wait_quiet(&e);
		for (uint64_t i = 0; i < 40; i++)
			n += has_tag(e.below, i, i, 0);
		if (!f.io.status)
			assert_int_equal(n, 40);
		some += n > 0 && n < 40;
		for (uint32_t i = 0; i < 4; i++)
			assert_true(has_tag(e.below, 60 + i, 77, i));
		env_close(&e);
	}
	assert_true(some > 10);
}

static void test_cut_after(void **state)
{
	uint8_t buf[BB] = {1};

	for (uint64_t n = 1; n <= 6; n++) {
		struct env e;
		char text[8];
		uint64_t seen = 0;

		env_open(&e, n);
		snprintf(text, sizeof(text), "%u", (unsigned)n);
		set(&e, "cut_after", text);
		for (uint64_t i = 1; i <= 6; i++) {
			int rc = i & 1 ? do_io(e.b, BDEV_WRITE, 0, buf, BB, 0)
			               : do_io(e.b, BDEV_FLUSH, 0, NULL, 0, 0);

			assert_int_equal(rc, i < n ? 0 : -EREMOTEIO);
			seen += i <= n;
			assert_int_equal(fault_mutations(e.b), seen);
			assert_int_equal(fault_is_cut(e.b), i >= n);
		}
		env_close(&e);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_cut),
	        cmocka_unit_test(test_cut_of_overlapping_writes),
	        cmocka_unit_test(test_cut_ends_requests),
	        cmocka_unit_test(test_cut_during_flush),
	        cmocka_unit_test(test_cut_after),
	};

	return cmocka_run_group_tests_name("fault_cut", tests, NULL, NULL);
}
