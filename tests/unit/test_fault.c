/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fault device: that every fault it promises happens and can be seen, that nothing else
 * happens, that what is not flushed is readable and what is flushed is safe, and that a seed is a
 * seed.
 */
#include "fault_util.h"

static uint32_t bits_different(const uint8_t *a, const uint8_t *b, size_t len)
{
	uint32_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += (uint32_t)__builtin_popcount((unsigned)(a[i] ^ b[i]));
	return n;
}

/* The same on a device that carries requests out in any order. */
static void env_open_unordered(struct env *e, uint64_t seed)
{
	e->loop = sim_loop();
	e->below = must_open("fault:mem:256k?cache=0&delay_jitter_us=40", e->loop);
	assert_int_equal(fault_wrap(&e->b, e->below, seed, NULL), 0);
}

/* --- the cache --- */

static void test_cache_until_flush(void **state)
{
	struct env e;

	env_open(&e, 1);
	assert_true(e.b->info.volatile_cache);
	write_tag(&e, 3, 4, 7, 0);
	for (uint32_t i = 0; i < 4; i++) {
		assert_true(has_tag(e.b, 3 + i, 7, i));
		assert_false(has_tag(e.below, 3 + i, 7, i));
	}
	flush(&e);
	for (uint32_t i = 0; i < 4; i++)
		assert_true(has_tag(e.below, 3 + i, 7, i));
	env_close(&e);
}

static void test_fua_is_durable(void **state)
{
	struct env e;

	for (uint64_t seed = 0; seed < 20; seed++) {
		env_open(&e, seed);
		write_tag(&e, 3, 4, 1, 0);
		write_tag(&e, 4, 2, 2, BDEV_FUA); /* and never undone by the older write */
		assert_true(has_tag(e.below, 4, 2, 0));
		assert_true(has_tag(e.b, 3, 1, 0));
		fault_cut(e.b);
		while (loop_turn(e.loop, 0) > 0)
			;
		assert_true(has_tag(e.below, 4, 2, 0));
		assert_true(has_tag(e.below, 5, 2, 1));
		env_close(&e);
	}
}

static void test_flush_covers_only_what_completed(void **state)
{
	struct env e;
	struct tio w = {.done = 0}, f = {.done = 0};
	uint8_t buf[BB];

	env_open(&e, 1);
	pattern(buf, BB, 5);
	set(&e, "delay_us", "100");
	tio_submit(e.b, &w, BDEV_WRITE, 0, buf, BB, 0);
	set(&e, "delay_us", "0");
	tio_submit(e.b, &f, BDEV_FLUSH, 0, NULL, 0, 0);
	assert_int_equal(tio_wait(&f), 0);
	assert_int_equal(w.done, 0);
	assert_false(has_tag(e.below, 0, 5, 0));
	assert_int_equal(tio_wait(&w), 0);
	flush(&e);
	assert_true(has_tag(e.below, 0, 5, 0));
	env_close(&e);
}

static void test_close_writes_back(void **state)
{
	struct loop *loop = sim_loop();
	struct bdev *b = must_open("fault:mem:256k?name=wb&seed=3", loop);
	struct env e = {.loop = loop, .b = b};

	for (uint32_t i = 0; i < COUNT; i++)
		write_tag(&e, i, 1, i, 0);
	bdev_close(b);
	b = must_open("mem:256k?name=wb", loop);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_true(has_tag(b, i, i, 0));
	bdev_close(b);
	assert_int_equal(bdev_mem_forget("wb"), 0);
	loop_free(loop);
}

struct model {
	struct env e;
	struct rng rng;
	uint8_t now[COUNT * BB];
	uint64_t tags;
};

static void model_change(struct model *m)
{
	uint32_t first = (uint32_t)rng_below(&m->rng, COUNT);
	uint32_t count = 1 + (uint32_t)rng_below(&m->rng, MIN(8, COUNT - first));
	uint64_t off = (uint64_t)first * BB, len = (uint64_t)count * BB;

	if (rng_chance(&m->rng, 0.1)) {
		memset(m->now + off, 0, len);
		assert_int_equal(do_io(m->e.b, BDEV_WRITE_ZEROES, off, NULL, len, 0), 0);
		return;
	}
	pattern(m->now + off, len, ++m->tags);
	assert_int_equal(do_io(m->e.b, BDEV_WRITE, off, m->now + off, len,
	                       rng_chance(&m->rng, 0.1) ? BDEV_FUA : 0),
	                 0);
}

/* Reads through an iovec whose pieces do not fall on blocks. */
static void model_read(struct model *m)
{
	uint32_t first = (uint32_t)rng_below(&m->rng, COUNT);
	uint32_t count = 1 + (uint32_t)rng_below(&m->rng, COUNT - first);
	uint64_t len = (uint64_t)count * BB, a = rng_below(&m->rng, len), c;
	uint8_t *buf = malloc(len);
	struct tio t = {.loop = m->e.loop};

	c = a + rng_below(&m->rng, len - a);
	t.iov[0] = (struct iovec){buf, a};
	t.iov[1] = (struct iovec){buf + a, c - a};
	t.iov[2] = (struct iovec){buf + c, len - c};
	t.io = (struct bdev_io){.op = BDEV_READ,
	                        .off_bytes = (uint64_t)first * BB,
	                        .len_bytes = len,
	                        .iov = t.iov,
	                        .iov_count = 3,
	                        .done = tio_done};
	bdev_submit(m->e.b, &t.io);
	assert_int_equal(tio_wait(&t), 0);
	assert_memory_equal(buf, m->now + (size_t)first * BB, len);
	free(buf);
}

/* What was written is read, whatever part of it a flush under way has taken below. */
static void test_reads_what_was_written(void **state)
{
	static struct model m;

	for (uint64_t seed = 0; seed < 40; seed++) {
		struct tio f = {.done = 1};

		memset(&m, 0, sizeof(m));
		rng_seed(&m.rng, seed);
		if (seed % 3 == 2)
			env_open_unordered(&m.e, seed);
		else
			env_open(&m.e, seed);
		set(&m.e, "delay_jitter_us", seed & 1 ? "7" : "0");
		set(&m.e, "cache", seed % 5 == 4 ? "0" : "1");
		for (unsigned step = 0; step < 150; step++) {
			if (rng_chance(&m.rng, 0.1) && f.done)
				tio_submit(m.e.b, &f, BDEV_FLUSH, 0, NULL, 0, 0);
			if (rng_chance(&m.rng, 0.5))
				model_change(&m);
			else
				model_read(&m);
		}
		while (!f.done)
			loop_turn(m.e.loop, UINT64_MAX);
		assert_int_equal(f.io.status, 0);
		flush(&m.e);
		for (uint64_t b = 0; b < COUNT; b++) {
			uint8_t buf[BB];

			do_io(m.e.below, BDEV_READ, b * BB, buf, BB, 0);
			assert_memory_equal(buf, m.now + b * BB, BB);
		}
		env_close(&m.e);
	}
}

/* A flush or FUA write that comes after another must not be overtaken on its way below. */
static void test_overlapping_flushes(void **state)
{
	struct env e;
	struct tio f[8], w = {.done = 0};
	uint8_t buf[BB];

	env_open(&e, 1);
	memset(f, 0, sizeof(f));
	for (unsigned i = 0; i < ARRAY_LEN(f); i++) {
		write_tag(&e, 0, 8, i, 0);
		tio_submit(e.b, &f[i], BDEV_FLUSH, 0, NULL, 0, 0);
	}
	pattern(buf, BB, 99);
	tio_submit(e.b, &w, BDEV_WRITE, 0, buf, BB, BDEV_FUA);
	assert_int_equal(tio_wait(&w), 0);
	for (unsigned i = 0; i < ARRAY_LEN(f); i++)
		assert_int_equal(tio_wait(&f[i]), 0);
	assert_true(has_tag(e.below, 0, 99, 0));
	for (uint32_t i = 1; i < 8; i++)
		assert_true(has_tag(e.below, i, 7, i));
	env_close(&e);
}

/* --- single faults --- */

static void test_fail_at(void **state)
{
	struct env e;
	uint8_t buf[BB] = {0};

	env_open(&e, 1);
	write_tag(&e, 0, 1, 1, 0);
	fault_fail_at(e.b, 1u << BDEV_WRITE, 2, -ENOSPC);
	write_tag(&e, 1, 1, 1, 0);
	assert_true(has_tag(e.b, 0, 1, 0)); /* reads don't count */
	assert_int_equal(do_io(e.b, BDEV_WRITE, 0, buf, BB, 0), -ENOSPC);
	assert_true(has_tag(e.b, 0, 1, 0)); /* and nothing was stored */
	write_tag(&e, 0, 1, 2, 0);
	fault_fail_at(e.b, 1u << BDEV_READ, 1, -EIO);
	assert_int_equal(do_io(e.b, BDEV_READ, 0, buf, BB, 0), -EIO);
	assert_int_equal(do_io(e.b, BDEV_READ, 0, buf, BB, 0), 0);
	fault_fail_at(e.b, 1u << BDEV_FLUSH, 1, -EIO);
	assert_int_equal(do_io(e.b, BDEV_FLUSH, 0, NULL, 0, 0), -EIO);
	flush(&e);
	env_close(&e);
}

static void test_errors(void **state)
{
	struct env e;
	uint8_t buf[BB] = {0};
	unsigned n = 0;

	env_open(&e, 1);
	set(&e, "read_error", "1");
	assert_int_equal(do_io(e.b, BDEV_READ, 0, buf, BB, 0), -EIO);
	set(&e, "read_error", "0.2");
	for (unsigned i = 0; i < 1000; i++)
		n += do_io(e.b, BDEV_READ, 0, buf, BB, 0) == -EIO;
	assert_in_range(n, 140, 260);
	set(&e, "read_error", "0");
	set(&e, "write_error", "1");
	assert_int_equal(do_io(e.b, BDEV_WRITE, 0, buf, BB, 0), -EIO);
	assert_int_equal(do_io(e.b, BDEV_WRITE_ZEROES, 0, NULL, BB, 0), -EIO);
	set(&e, "write_error", "0");
	set(&e, "flush_error", "1");
	assert_int_equal(do_io(e.b, BDEV_FLUSH, 0, NULL, 0, 0), -EIO);
	env_close(&e);
}

/* Blocks of a write of 8 at block 8 that are stored, through @knob and with @cache, after a flush.
 */
static unsigned stored_of_8(const char *knob, const char *cache, uint64_t seed, int want)
{
	struct env e;
	uint8_t buf[8 * BB];
	unsigned n = 0;

	env_open(&e, seed);
	set(&e, "cache", cache);
	write_tag(&e, 8, 8, 1, 0);
	flush(&e);
	set(&e, knob, "1");
	pattern(buf, sizeof(buf), 2);
	assert_int_equal(do_io(e.b, BDEV_WRITE, 8ull * BB, buf, sizeof(buf), 0), want);
	if (cache[0] == '1')
		flush(&e);
	for (uint32_t i = 0; i < 8; i++) {
		bool is_new = has_tag(e.below, 8 + i, 2, i);

		assert_int_equal(is_new, has_tag(e.b, 8 + i, 2, i));
		assert_true(is_new || has_tag(e.b, 8 + i, 1, i));
		n += is_new;
	}
	env_close(&e);
	return n;
}

static void test_lost_and_torn_writes(void **state)
{
	unsigned partial = 0;

	for (uint64_t seed = 0; seed < 10; seed++) {
		const char *cache = seed & 1 ? "1" : "0";
		unsigned n;

		assert_int_equal(stored_of_8("lost_write", cache, seed, 0), 0);
		assert_in_range(stored_of_8("torn_write", cache, seed, 0), 1, 7);
		n = stored_of_8("write_error", cache, seed, -EIO);
		partial += n > 0 && n < 8;
	}
	assert_true(partial > 2);
}

static void test_misdirect(void **state)
{
	struct env e;
	unsigned there = 0, elsewhere = 0;

	env_open(&e, 5);
	set(&e, "misdirect", "1");
	write_tag(&e, 8, 1, 9, 0);
	for (uint64_t b = 0; b < COUNT; b++) {
		bool here = has_tag(e.b, b, 9, 0);

		there += here && b == 8;
		elsewhere += here && b != 8;
	}
	assert_int_equal(there, 0);
	assert_int_equal(elsewhere, 1);
	env_close(&e);
}

static void test_bits(void **state)
{
	struct env e;
	uint8_t want[4 * BB], got[4 * BB], again[4 * BB];

	pattern(want, sizeof(want), 4);
	env_open(&e, 5);
	write_tag(&e, 0, 4, 4, 0);
	set(&e, "bit_flip", "1"); /* in what is read, not in what is stored; cached or not */
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(do_io(e.b, BDEV_READ, 0, got, sizeof(got), 0), 0);
		assert_int_equal(bits_different(want, got, sizeof(want)), 1);
		flush(&e);
	}
	set(&e, "bit_flip", "0");
	assert_int_equal(do_io(e.b, BDEV_READ, 0, got, sizeof(got), 0), 0);
	assert_memory_equal(want, got, sizeof(want));

	set(&e, "bit_rot", "1"); /* in what is stored: the same bit each time */
	write_tag(&e, 0, 4, 4, 0);
	assert_int_equal(do_io(e.b, BDEV_READ, 0, got, sizeof(got), 0), 0);
	assert_int_equal(bits_different(want, got, sizeof(want)), 1);
	flush(&e);
	assert_int_equal(do_io(e.below, BDEV_READ, 0, again, sizeof(again), 0), 0);
	assert_memory_equal(got, again, sizeof(got));
	env_close(&e);
}

/* A failed flush may have lost what it covered, and the next one's success does not bring it back.
 */
static void test_flush_retry_is_not_safe(void **state)
{
	struct env e;
	unsigned stored = 0;

	env_open(&e, 5);
	for (uint64_t i = 0; i < 40; i++)
		write_tag(&e, i, 1, i, 0);
	set(&e, "flush_error", "1");
	assert_int_equal(do_io(e.b, BDEV_FLUSH, 0, NULL, 0, 0), -EIO);
	set(&e, "flush_error", "0");
	flush(&e);
	for (uint64_t i = 0; i < 40; i++) {
		assert_true(has_tag(e.b, i, i, 0));
		stored += has_tag(e.below, i, i, 0);
	}
	assert_in_range(stored, 8, 32);
	env_close(&e);
}

static void test_delay(void **state)
{
	struct env e;
	struct tio t[16];
	unsigned orders = 0, moved = 0;
	uint8_t buf[BB] = {0};
	uint64_t start;

	env_open(&e, 2);
	set(&e, "delay_us", "500");
	start = loop_now(e.loop);
	assert_int_equal(do_io(e.b, BDEV_READ, 0, buf, BB, 0), 0);
	assert_in_range(loop_now(e.loop) - start, 500 * NSEC_PER_USEC, 600 * NSEC_PER_USEC);
	set(&e, "delay_jitter_us", "1000");
	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		t[i].orders = &orders;
		tio_submit(e.b, &t[i], BDEV_WRITE, (uint64_t)i * BB, buf, BB, 0);
	}
	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		assert_int_equal(tio_wait(&t[i]), 0);
		assert_in_range(t[i].done_ns - start, 1000 * NSEC_PER_USEC, 2100 * NSEC_PER_USEC);
		moved += t[i].order != i + 1;
	}
	assert_true(moved > 4);
	env_close(&e);
}

static void test_discard(void **state)
{
	struct env e;

	env_open(&e, 2);
	assert_true(e.b->info.discard);
	write_tag(&e, 0, 8, 1, 0);
	write_tag(&e, 8, 8, 2, 0);
	flush(&e);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(do_io(e.b, BDEV_DISCARD, 0, NULL, 8ull * BB, 0), 0);
	assert_false(has_tag(e.b, 0, 1, 0)); /* by one of eight coins */
	assert_true(has_tag(e.b, 8, 2, 0));
	env_close(&e);
}

/* --- seeds, options, memory --- */

/* A digest of everything that can be seen of a device with every fault on. */
static uint32_t history(uint64_t seed)
{
	static const char *const on[] = {"read_error", "write_error", "flush_error", "bit_flip",
	                                 "bit_rot",    "lost_write",  "torn_write",  "misdirect"};
	struct env e;
	struct rng r;
	uint8_t buf[8 * BB];
	uint32_t crc = 0;

	env_open(&e, seed);
	rng_seed(&r, 42); /* the workload is always the same */
	for (unsigned i = 0; i < ARRAY_LEN(on); i++)
		set(&e, on[i], "0.1");
	set(&e, "delay_jitter_us", "50");
	set(&e, "cut_after", "150");
	for (unsigned i = 0; i < 400; i++) {
		uint64_t off = rng_below(&r, COUNT - 8) * BB, len = (1 + rng_below(&r, 8)) * BB;
		enum bdev_op op = (enum bdev_op)rng_below(&r, BDEV_WRITE_ZEROES + 1);
		int rc;

		pattern(buf, sizeof(buf), i);
		rc = do_io(e.b, op, off, buf, len, 0);
		crc = crc32c(crc, &rc, sizeof(rc));
		crc = crc32c(crc, buf, sizeof(buf));
	}
	wait_quiet(&e);
	for (uint64_t b = 0; b < COUNT; b++) {
		assert_int_equal(do_io(e.below, BDEV_READ, b * BB, buf, BB, 0), 0);
		crc = crc32c(crc, buf, BB);
	}
	assert_true(fault_is_cut(e.b));
	env_close(&e);
	return crc;
}

static void test_same_seed_same_faults(void **state)
{
	for (uint64_t seed = 0; seed < 5; seed++) {
		assert_int_equal(history(seed), history(seed));
		assert_int_not_equal(history(seed), history(seed + 1));
	}
}

/* Many requests in flight, every fault on, memory short, cuts in the middle: each ends exactly
 * once. */
static void storm(uint64_t seed)
{
	static const char *const on[] = {"read_error", "write_error", "flush_error", "bit_flip",
	                                 "bit_rot",    "lost_write",  "torn_write",  "misdirect"};
	enum { WIDE = 32 };
	static uint8_t bufs[WIDE][8 * BB];
	struct tio t[WIDE];
	struct env e;
	struct rng r;

	env_open(&e, seed);
	rng_seed(&r, seed);
	for (unsigned i = 0; i < ARRAY_LEN(on); i++)
		set(&e, on[i], rng_chance(&r, 0.5) ? "0.2" : "0");
	set(&e, "delay_jitter_us", rng_chance(&r, 0.5) ? "5" : "0");
	memset(t, 0, sizeof(t));
	for (unsigned i = 0; i < WIDE; i++)
		t[i].done = 1;
	for (unsigned step = 0; step < 300; step++) {
		unsigned i = (unsigned)rng_below(&r, WIDE);
		enum bdev_op op = (enum bdev_op)rng_below(&r, BDEV_WRITE_ZEROES + 1);

		if (rng_chance(&r, 0.05))
			mem_alloc_fail_at(1 + rng_below(&r, 4), false);
		if (rng_chance(&r, 0.02))
			set(&e, "cache", rng_chance(&r, 0.5) ? "1" : "0");
		if (rng_chance(&r, 0.002))
			fault_cut(e.b);
		assert_int_equal(t[i].done <= 1, 1);
		if (t[i].done)
			tio_submit(e.b, &t[i], op, rng_below(&r, COUNT - 8) * BB, bufs[i],
			           (1 + rng_below(&r, 8)) * BB,
			           op == BDEV_WRITE && rng_chance(&r, 0.2) ? BDEV_FUA : 0);
		if (rng_chance(&r, 0.4))
			loop_turn(e.loop, 0);
	}
	for (unsigned i = 0; i < WIDE; i++)
		tio_wait(&t[i]);
	mem_alloc_fail_at(0, false);
	assert_int_equal(e.b->inflight, 0);
	env_close(&e);
}

static void test_storm(void **state)
{
	for (uint64_t seed = 0; seed < 200; seed++)
		storm(seed);
}

static void refused(const char *spec, const char *word)
{
	struct loop *loop = sim_loop();
	struct pst_err err = {0};
	struct bdev *b;

	assert_int_equal(bdev_open(&b, spec, loop, NULL, &err), -EINVAL);
	if (!strstr(err.text, word))
		fail_msg("%s: '%s' lacks '%s'", spec, err.text, word);
	loop_free(loop);
}

static void test_options(void **state)
{
	struct loop *loop = sim_loop();
	struct bdev *b;

	refused("fault:mem:1m?colour=3", "colour");
	refused("fault:mem:1m?read_error=1.5", "read_error");
	refused("fault:mem:1m?read_error=-0.1", "read_error");
	refused("fault:mem:1m?cache=maybe", "cache");
	refused("fault:mem:1m?seed=x", "seed");
	refused("fault:mem:1m?seed=1&seed=2", "seed");
	refused("fault:", "nothing");
	b = must_open("fault:fault:mem:1m?block=512&bit_flip=1e-3&cache=0", loop);
	assert_int_equal(b->info.block_bytes, 512);
	assert_string_equal(b->info.name, "fault:fault:mem:1m?block=512&bit_flip=1e-3&cache=0");
	assert_int_equal(fault_set(b, "colour", "1", NULL), -EINVAL);
	bdev_close(b);
	/* Opening costs the same at any size: a simulation opens thousands. */
	b = must_open("fault:mem:16t", loop);
	bdev_close(b);
	loop_free(loop);
}

/* Every allocation on the way fails once: each request ends well or with -ENOMEM, and what ended
 * well is there. */
static void test_no_memory(void **state)
{
	for (uint64_t n = 1;; n++) {
		struct loop *loop = sim_loop();
		struct bdev *b = NULL;
		uint8_t buf[2 * BB], got[4 * BB];
		uint64_t asked;
		int rc, wr = -1;

		pattern(buf, sizeof(buf), 1);
		mem_alloc_fail_at(n, false);
		rc = bdev_open(&b, "fault:mem:1m?delay_us=10", loop, NULL, NULL);
		if (!rc) {
			wr = do_io(b, BDEV_WRITE, BB, buf, sizeof(buf), 0);
			rc = do_io(b, BDEV_READ, 0, got, sizeof(got), 0);
			assert_true(rc == 0 || rc == -ENOMEM);
			rc = do_io(b, BDEV_FLUSH, 0, NULL, 0, 0);
			assert_true(rc == 0 || rc == -ENOMEM);
		} else {
			assert_int_equal(rc, -ENOMEM);
		}
		asked = mem_alloc_fail_at(0, false);
		if (b) {
			assert_true(wr == 0 || wr == -ENOMEM);
			assert_int_equal(do_io(b, BDEV_READ, BB, got, sizeof(buf), 0), 0);
			if (!wr)
				assert_memory_equal(got, buf, sizeof(buf));
			bdev_close(b);
		}
		loop_free(loop);
		if (asked < n) {
			assert_true(n > 8);
			return;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_cache_until_flush),
	        cmocka_unit_test(test_fua_is_durable),
	        cmocka_unit_test(test_flush_covers_only_what_completed),
	        cmocka_unit_test(test_close_writes_back),
	        cmocka_unit_test(test_reads_what_was_written),
	        cmocka_unit_test(test_overlapping_flushes),
	        cmocka_unit_test(test_fail_at),
	        cmocka_unit_test(test_errors),
	        cmocka_unit_test(test_lost_and_torn_writes),
	        cmocka_unit_test(test_misdirect),
	        cmocka_unit_test(test_bits),
	        cmocka_unit_test(test_flush_retry_is_not_safe),
	        cmocka_unit_test(test_delay),
	        cmocka_unit_test(test_discard),
	        cmocka_unit_test(test_same_seed_same_faults),
	        cmocka_unit_test(test_storm),
	        cmocka_unit_test(test_options),
	        cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
