/* SPDX-License-Identifier: BSD-3-Clause */
/* What every block device must do; see bdev_contract.h. */
#include "bdev_contract.h"

#include <stdio.h>

#define DEV_BYTES CONTRACT_DEV_BYTES

struct fix {
	struct bdev_case *c;
	struct loop *loop;
	struct bdev *b;
	uint64_t bb;
};

static struct loop *case_loop(const struct bdev_case *c)
{
	struct loop *loop = NULL;
	struct loop_opts opts;

	if (c->sim)
		return sim_loop();
	loop_opts_default(&opts);
	assert_int_equal(loop_new(&loop, &opts, NULL), 0);
	return loop;
}

static int case_open(struct fix *f, struct bdev **ret, bool read_only, struct pst_err *err)
{
	struct bdev_open_opts opts = {
	        .create = !read_only, .size_bytes = DEV_BYTES, .read_only = read_only};

	return bdev_open(ret, f->c->spec, f->loop, &opts, err);
}

static int setup(void **state)
{
	struct bdev_case *c = *state;
	struct fix *f = calloc(1, sizeof(*f));
	struct pst_err err = {0};

	c->fresh(c);
	f->c = c;
	f->loop = case_loop(c);
	if (case_open(f, &f->b, false, &err)) {
		print_error("%s: %s\n", c->spec, err.text);
		return -1;
	}
	f->bb = f->b->info.block_bytes;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	bdev_close(f->b);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void *buf_new(size_t len)
{
	void *p = NULL;

	assert_int_equal(posix_memalign(&p, 4096, MAX(len, 4096)), 0);
	memset(p, 0xa5, len);
	return p;
}

static void put(struct fix *f, uint64_t off, uint64_t len, uint64_t tag)
{
	void *buf = buf_new(len);

	pattern(buf, len, tag);
	assert_int_equal(do_io(f->b, BDEV_WRITE, off, buf, len, 0), 0);
	free(buf);
}

/* The @len bytes at @off are the pattern @tag (0: zeroes), from @skip bytes into it. */
static void expect(struct fix *f, uint64_t off, uint64_t len, uint64_t tag, uint64_t skip)
{
	uint8_t *want = buf_new(skip + len), *got = buf_new(len);

	if (tag)
		pattern(want, skip + len, tag);
	else
		memset(want, 0, skip + len);
	assert_int_equal(do_io(f->b, BDEV_READ, off, got, len, 0), 0);
	assert_memory_equal(got, want + skip, len);
	free(want);
	free(got);
}

static void test_info(void **state)
{
	struct fix *f = *state;
	const struct bdev_info *i = &f->b->info;

	assert_int_equal(i->size_bytes, DEV_BYTES);
	assert_true(i->block_bytes == 512 || i->block_bytes == 4096);
	assert_true(i->mem_align >= 1 && i->mem_align <= 4096);
	assert_int_equal(i->mem_align & (i->mem_align - 1), 0);
	assert_string_equal(i->name, f->c->spec);
	assert_ptr_equal(f->b->loop, f->loop);
}

static void test_read_back(void **state)
{
	struct fix *f = *state;
	const uint64_t at[][2] = {{0, f->bb},
	                          {f->bb, 3 * f->bb},
	                          {DEV_BYTES - f->bb, f->bb},
	                          {64 * KIB, 256 * KIB},
	                          {0, DEV_BYTES}};

	for (size_t i = 0; i < ARRAY_LEN(at); i++) {
		put(f, at[i][0], at[i][1], i + 1);
		expect(f, at[i][0], at[i][1], i + 1, 0);
	}
	expect(f, 17 * f->bb, f->bb, 5, 17 * f->bb);
}

static void test_iov(void **state)
{
	struct fix *f = *state;
	uint64_t a = f->b->info.mem_align, len = 4 * f->bb;
	uint8_t *buf = buf_new(len + a), *copy = buf_new(len);
	struct tio t = {.loop = f->loop};

	pattern(buf, len, 7);
	memcpy(copy, buf, len);
	t.iov[0] = (struct iovec){buf, a};
	t.iov[1] = (struct iovec){buf + a, 2 * f->bb - a};
	t.iov[2] = (struct iovec){buf + 2 * f->bb, 2 * f->bb};
	t.io = (struct bdev_io){.op = BDEV_WRITE,
	                        .off_bytes = 8 * f->bb,
	                        .len_bytes = len,
	                        .iov = t.iov,
	                        .iov_count = 3,
	                        .done = tio_done};
	bdev_submit(f->b, &t.io);
	assert_int_equal(tio_wait(&t), 0);
	expect(f, 8 * f->bb, len, 7, 0);

	memset(buf, 0, len);
	t.done = 0;
	t.io.op = BDEV_READ;
	bdev_submit(f->b, &t.io);
	assert_int_equal(tio_wait(&t), 0);
	assert_memory_equal(buf, copy, len);
	free(buf);
	free(copy);
}

/* A device queues without limit: far more than any ring or queue holds. */
static void test_many_at_once(void **state)
{
	struct fix *f = *state;
	enum { MANY = 3000 };
	uint64_t span = MAX(1, MIN(DEV_BYTES / f->bb, MANY));
	uint8_t *bufs = buf_new(MANY * f->bb), *want = buf_new(f->bb);
	struct tio *t = calloc(MANY, sizeof(*t));

	for (uint64_t i = 0; i < span; i++) {
		pattern(bufs + i * f->bb, f->bb, i + 1);
		tio_submit(f->b, &t[i], BDEV_WRITE, i * f->bb, bufs + i * f->bb, f->bb, 0);
	}
	for (uint64_t i = 0; i < span; i++)
		assert_int_equal(tio_wait(&t[i]), 0);
	for (uint64_t i = 0; i < MANY; i++)
		tio_submit(f->b, &t[i], BDEV_READ, i % span * f->bb, bufs + i * f->bb, f->bb, 0);
	assert_int_equal(f->b->inflight, MANY);
	for (uint64_t i = 0; i < MANY; i++) {
		assert_int_equal(tio_wait(&t[i]), 0);
		pattern(want, f->bb, i % span + 1);
		assert_memory_equal(bufs + i * f->bb, want, f->bb);
	}
	assert_int_equal(f->b->inflight, 0);
	free(t);
	free(bufs);
	free(want);
}

struct chain {
	struct bdev_io io;
	struct iovec iov;
	struct bdev *b;
	unsigned left;
	bool inside;
};

static void chain_done(struct bdev_io *io)
{
	struct chain *ch = container_of(io, struct chain, io);

	assert_int_equal(io->status, 0);
	assert_false(ch->inside);
	if (!--ch->left)
		return;
	ch->inside = true;
	io->op = io->op == BDEV_READ ? BDEV_WRITE : BDEV_READ;
	bdev_submit(ch->b, io);
	ch->inside = false;
}

static void test_resubmit_from_done(void **state)
{
	struct fix *f = *state;
	struct chain ch = {.b = f->b, .left = 500};

	ch.iov = (struct iovec){buf_new(f->bb), f->bb};
	ch.io = (struct bdev_io){.op = BDEV_WRITE,
	                         .len_bytes = f->bb,
	                         .iov = &ch.iov,
	                         .iov_count = 1,
	                         .done = chain_done};
	bdev_submit(f->b, &ch.io);
	while (ch.left)
		assert_true(loop_turn(f->loop, NSEC_PER_SEC) >= 0);
	free(ch.iov.iov_base);
}

static void test_bad_requests(void **state)
{
	struct fix *f = *state;
	uint64_t bb = f->bb, far = UINT64_MAX - bb + 1;
	const struct {
		unsigned op;
		uint64_t off, len;
		uint32_t flags;
	} bad[] = {
	        {BDEV_READ, 1, bb, 0},
	        {BDEV_READ, 0, bb - 1, 0},
	        {BDEV_READ, 0, 0, 0},
	        {BDEV_READ, DEV_BYTES, bb, 0},
	        {BDEV_WRITE, DEV_BYTES - bb, 2 * bb, 0},
	        {BDEV_WRITE, far, bb, 0},
	        {BDEV_WRITE, far, 2 * bb, 0},
	        {BDEV_DISCARD, bb, far, 0},
	        {BDEV_WRITE_ZEROES, DEV_BYTES, bb, 0},
	        {BDEV_WRITE_ZEROES, 0, 0, 0},
	        {BDEV_WRITE, 0, bb, 2},
	        {BDEV_READ, 0, bb, BDEV_FUA},
	        {BDEV_FLUSH, 0, 0, BDEV_FUA},
	        {BDEV_WRITE_ZEROES + 1, 0, bb, 0},
	        {255, 0, bb, 0},
	};
	uint8_t *buf = buf_new(4 * bb);

	put(f, 0, DEV_BYTES, 3);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(do_io(f->b, (enum bdev_op)bad[i].op, bad[i].off, buf, bad[i].len,
		                       bad[i].flags),
		                 -EINVAL);
	expect(f, 0, DEV_BYTES, 3, 0);
	free(buf);
}

static void test_bad_iov(void **state)
{
	struct fix *f = *state;
	uint8_t *buf = buf_new(4 * f->bb);
	struct iovec iov[3] = {{buf, f->bb}, {buf, SIZE_MAX - f->bb + 1}, {buf, f->bb}};
	struct tio t = {.loop = f->loop};

	t.io = (struct bdev_io){
	        .op = BDEV_READ, .len_bytes = 2 * f->bb, .iov = iov, .done = tio_done};
	for (uint32_t n = 0; n <= 3; n++) { /* too little, and a sum that wraps around */
		t.io.iov_count = n;
		t.done = 0;
		bdev_submit(f->b, &t.io);
		assert_int_equal(t.done, 0);
		assert_int_equal(tio_wait(&t), -EINVAL);
	}
	if (f->b->info.mem_align > 1)
		assert_int_equal(do_io(f->b, BDEV_READ, 0, buf + 1, f->bb, 0), -EINVAL);
	free(buf);
}

static void test_zeroes_and_discard(void **state)
{
	struct fix *f = *state;
	uint64_t from = 5 * f->bb, len = DEV_BYTES / 2 + f->bb;

	put(f, 0, DEV_BYTES, 4);
	assert_int_equal(do_io(f->b, BDEV_WRITE_ZEROES, from, NULL, len, 0), 0);
	expect(f, from, len, 0, 0);
	expect(f, 0, from, 4, 0);
	expect(f, from + len, DEV_BYTES - from - len, 4, from + len);
	put(f, from + f->bb, f->bb, 8);
	expect(f, from, f->bb, 0, 0);
	expect(f, from + f->bb, f->bb, 8, 0);

	assert_int_equal(do_io(f->b, BDEV_DISCARD, from, NULL, len, 0), 0);
	expect(f, 0, from, 4, 0);
	expect(f, from + len, DEV_BYTES - from - len, 4, from + len);
	put(f, from, f->bb, 9); /* and the space is still usable */
	expect(f, from, f->bb, 9, 0);
}

static void test_flush_and_fua(void **state)
{
	struct fix *f = *state;
	uint8_t *buf = buf_new(f->bb);

	assert_int_equal(do_io(f->b, BDEV_FLUSH, 0, NULL, 0, 0), 0);
	pattern(buf, f->bb, 6);
	assert_int_equal(do_io(f->b, BDEV_WRITE, f->bb, buf, f->bb, BDEV_FUA), 0);
	expect(f, f->bb, f->bb, 6, 0);
	assert_int_equal(do_io(f->b, BDEV_FLUSH, 0, NULL, 0, 0), 0);
	free(buf);
}

static void reopen(struct fix *f, bool read_only)
{
	struct pst_err err = {0};

	bdev_close(f->b);
	f->b = NULL;
	if (case_open(f, &f->b, read_only, &err))
		fail_msg("%s", err.text);
}

static void test_contents_survive_closing(void **state)
{
	struct fix *f = *state;

	put(f, 0, DEV_BYTES / 2, 1);
	assert_int_equal(do_io(f->b, BDEV_FLUSH, 0, NULL, 0, 0), 0);
	put(f, DEV_BYTES / 2, DEV_BYTES / 2, 2);
	reopen(f, false);
	assert_int_equal(f->b->info.size_bytes, DEV_BYTES);
	expect(f, 0, DEV_BYTES / 2, 1, 0);
	expect(f, DEV_BYTES / 2, DEV_BYTES / 2, 2, 0);
}

static void test_read_only(void **state)
{
	struct fix *f = *state;
	uint8_t *buf = buf_new(f->bb);

	put(f, 0, f->bb, 1);
	reopen(f, true);
	assert_int_equal(do_io(f->b, BDEV_WRITE, 0, buf, f->bb, 0), -EROFS);
	assert_int_equal(do_io(f->b, BDEV_WRITE_ZEROES, 0, NULL, f->bb, 0), -EROFS);
	assert_int_equal(do_io(f->b, BDEV_DISCARD, 0, NULL, f->bb, 0), -EROFS);
	expect(f, 0, f->bb, 1, 0);
	free(buf);
}

static void test_locked(void **state)
{
	struct fix *f = *state;
	struct pst_err err = {0};
	struct bdev *b = NULL;

	assert_int_equal(case_open(f, &b, false, &err), -EBUSY);
	assert_true(strlen(err.text) > 0);
	assert_int_equal(case_open(f, &b, true, &err), -EBUSY);
	reopen(f, true);
	assert_int_equal(case_open(f, &b, false, &err), -EBUSY);
	assert_int_equal(case_open(f, &b, true, &err), 0);
	bdev_close(b);
	reopen(f, false);
}

static void test_sync_helpers(void **state)
{
	struct fix *f = *state;
	uint8_t *a = buf_new(3 * f->bb), *b = buf_new(3 * f->bb);

	pattern(a, 3 * f->bb, 1);
	assert_int_equal(bdev_write_sync(f->b, f->bb, a, 3 * f->bb, BDEV_FUA), 0);
	assert_int_equal(bdev_flush_sync(f->b), 0);
	assert_int_equal(bdev_read_sync(f->b, f->bb, b, 3 * f->bb), 0);
	assert_memory_equal(a, b, 3 * f->bb);
	assert_int_equal(bdev_read_sync(f->b, DEV_BYTES, b, f->bb), -EINVAL);
	free(a);
	free(b);
}

static void test_region(void **state)
{
	struct fix *f = *state;
	struct mem_region *r;
	struct tio t = {.loop = f->loop};

	assert_int_equal(mem_region_new(&r, MEM_HOST, 2 * f->bb), 0);
	t.iov[0] = (struct iovec){r->addr, f->bb};
	t.io = (struct bdev_io){.op = BDEV_WRITE,
	                        .len_bytes = f->bb,
	                        .iov = t.iov,
	                        .iov_count = 1,
	                        .region = r,
	                        .done = tio_done};
	pattern(r->addr, f->bb, 11);
	bdev_submit(f->b, &t.io);
	assert_int_equal(tio_wait(&t), 0);
	expect(f, 0, f->bb, 11, 0);
	t.iov[0].iov_base = (char *)r->addr + f->bb;
	t.io.op = BDEV_READ;
	t.done = 0;
	bdev_submit(f->b, &t.io);
	assert_int_equal(tio_wait(&t), 0);
	assert_memory_equal(r->addr, (char *)r->addr + f->bb, f->bb);
	bdev_close(f->b); /* a registration must not outlive its device, nor need it */
	mem_region_free(r);
	assert_int_equal(case_open(f, &f->b, false, NULL), 0);
}

/* Random requests, up to 16 at a time, that don't overlap while in flight, against a copy in
 * memory. */
static void test_random_against_model(void **state)
{
	struct fix *f = *state;
	enum { SLOTS = 16, ROUNDS = 40 };
	uint64_t slot_bytes = DEV_BYTES / SLOTS, slot_blocks = slot_bytes / f->bb;
	uint8_t *model = buf_new(DEV_BYTES), *bufs = buf_new(DEV_BYTES);
	struct tio t[SLOTS];
	struct rng r;

	rng_seed(&r, 1);
	put(f, 0, DEV_BYTES, 1);
	pattern(model, DEV_BYTES, 1);
	for (uint64_t round = 0; round < ROUNDS; round++) {
		memset(t, 0, sizeof(t));
		for (uint64_t i = 0; i < SLOTS; i++) {
			uint64_t first = rng_below(&r, slot_blocks);
			uint64_t len = (1 + rng_below(&r, slot_blocks - first)) * f->bb;
			uint64_t off = i * slot_bytes + first * f->bb;
			enum bdev_op op = rng_chance(&r, 0.5) ? BDEV_WRITE : BDEV_READ;

			if (op == BDEV_WRITE) {
				pattern(bufs + i * slot_bytes, len, round * SLOTS + i + 2);
				memcpy(model + off, bufs + i * slot_bytes, len);
			}
			tio_submit(f->b, &t[i], op, off, bufs + i * slot_bytes, len,
			           op == BDEV_WRITE && rng_chance(&r, 0.1) ? BDEV_FUA : 0);
		}
		for (unsigned i = 0; i < SLOTS; i++) {
			assert_int_equal(tio_wait(&t[i]), 0);
			assert_memory_equal(t[i].iov[0].iov_base, model + t[i].io.off_bytes,
			                    t[i].io.len_bytes);
		}
	}
	assert_int_equal(do_io(f->b, BDEV_READ, 0, bufs, DEV_BYTES, 0), 0);
	assert_memory_equal(bufs, model, DEV_BYTES);
	free(model);
	free(bufs);
}

static void lent_done(struct bdev_io *io)
{
	struct tio *t = container_of(io, struct tio, io);
	uint8_t *buf = t->iov[0].iov_base;

	if (io->lent) { /* and then the memory was left alone */
		for (uint64_t i = 0; i < io->len_bytes; i++)
			assert_int_equal(buf[i], 0xa5);
		memcpy(buf, io->lent, io->len_bytes);
	}
	tio_done(io);
}

/* Who can do with a look gets the data in one place or the other. */
static void test_lent(void **state)
{
	struct fix *f = *state;
	uint8_t *buf = buf_new(64 * KIB), *want = buf_new(64 * KIB);
	struct tio t = {.loop = f->loop};

	put(f, 64 * KIB, 64 * KIB, 5);
	pattern(want, 64 * KIB, 5);
	memset(buf, 0xa5, 64 * KIB);
	t.iov[0] = (struct iovec){buf, 64 * KIB};
	t.io = (struct bdev_io){.op = BDEV_READ,
	                        .lend = true,
	                        .off_bytes = 64 * KIB,
	                        .len_bytes = 64 * KIB,
	                        .iov = t.iov,
	                        .iov_count = 1,
	                        .done = lent_done};
	bdev_submit(f->b, &t.io);
	assert_int_equal(tio_wait(&t), 0);
	assert_memory_equal(buf, want, 64 * KIB);
	if (!strncmp(f->c->spec, "mem:", 4))
		assert_non_null(t.io.lent);
	free(buf);
	free(want);
}

/* Opening with each allocation failing in turn: -ENOMEM and nothing left behind, or success. */
static void test_open_without_memory(void **state)
{
	struct fix *f = *state;
	/* A controller whose memory is out says only that there was an error. */
	bool far = strncmp(f->c->spec, "nvme", 4) == 0;

	bdev_close(f->b);
	for (uint64_t n = 1;; n++) {
		struct pst_err err = {0};
		uint64_t asked;
		int rc;

		mem_alloc_fail_at(n, n & 1);
		rc = case_open(f, &f->b, false, &err);
		asked = mem_alloc_fail_at(0, false);
		if (asked < n) {
			assert_int_equal(rc, 0);
			assert_true(n > 1);
			return;
		}
		if (rc) {
			assert_true(rc == -ENOMEM || (rc == -EIO && far));
			assert_true(strlen(err.text) > 0);
		} else {
			put(f, 0, f->bb, 1);
			bdev_close(f->b);
		}
		f->b = NULL;
	}
}

size_t bdev_contract_add(struct CMUnitTest *tests, struct bdev_case *c)
{
	static const struct {
		const char *name;
		CMUnitTestFunction fn;
	} suite[] = {
#define T(name) {#name, test_##name}
	        T(info),
	        T(read_back),
	        T(iov),
	        T(many_at_once),
	        T(resubmit_from_done),
	        T(bad_requests),
	        T(bad_iov),
	        T(zeroes_and_discard),
	        T(flush_and_fua),
	        T(contents_survive_closing),
	        T(read_only),
	        T(locked),
	        T(sync_helpers),
	        T(region),
	        T(random_against_model),
	        T(lent),
	        T(open_without_memory),
#undef T
	};
	static char names[16 * BDEV_CONTRACT_TESTS][64];
	static size_t used;

	for (size_t i = 0; i < ARRAY_LEN(suite); i++, used++) {
		pst_assert(used < ARRAY_LEN(names));
		snprintf(names[used], sizeof(names[used]), "%s %s", c->label, suite[i].name);
		tests[i] = (struct CMUnitTest){names[used], suite[i].fn, setup, teardown, c};
	}
	return ARRAY_LEN(suite);
}
