/* SPDX-License-Identifier: BSD-3-Clause */
/* Reads of data that a device lends: seen where it lies, and verified there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "bdev/bdev.h"
#include "ops.h"
#include "store/local/local.h"

#define BB  4096u
#define LEN (256u * BB)

struct lent_read {
	struct pst_op op;
	struct iovec iov;
	uint32_t csum[LEN / BB];
	uint8_t seen[LEN]; /* of what was lent */
	uint8_t *lent;     /* where that was: the device's own */
	bool ended;
};

static struct {
	struct loop *loop;
	struct store *store;
	uint32_t cont;
	uint8_t data[LEN], buf[LEN];
	struct lent_read r;
} t;

static void done(struct pst_op *op)
{
	struct lent_read *r = container_of(op, struct lent_read, op);

	if (op->status == 0 && op->lent) {
		memcpy(r->seen, op->lent, op->ret_len);
		r->lent = (uint8_t *)(uintptr_t)op->lent;
	}
	r->ended = true;
}

static int read_lent(uint64_t off, uint64_t len)
{
	struct lent_read *r = &t.r;

	memset(r, 0, sizeof(*r));
	memset(t.buf, 0xee, sizeof(t.buf));
	r->iov = (struct iovec){t.buf, len};
	r->op = (struct pst_op){.opcode = PST_OP_READ,
	                        .cont = t.cont,
	                        .oid = {.lo = 1},
	                        .off = off,
	                        .len = len,
	                        .iov = &r->iov,
	                        .iov_count = 1,
	                        .csum = r->csum,
	                        .lend = true,
	                        .done = done};
	assert_int_equal(store_submit(t.store, &r->op), PST_QUEUED);
	while (!r->ended)
		assert_true(loop_turn(t.loop, NSEC_PER_MSEC) >= 0);
	return r->op.status;
}

static void put(uint64_t off, uint64_t len)
{
	struct iovec iov = {t.data + off, len};
	struct pst_op op = {.opcode = PST_OP_WRITE,
	                    .cont = t.cont,
	                    .oid = {.lo = 1},
	                    .off = off,
	                    .len = len,
	                    .iov = &iov,
	                    .iov_count = 1};

	assert_int_equal(store_run(t.store, &op), 0);
}

#define DEVICE "mem:1g?name=lent"

static void reopen(void)
{
	struct pst_err err = {0};
	struct bdev *dev;

	assert_int_equal(store_close(t.store), 0);
	assert_int_equal(bdev_open(&dev, DEVICE, t.loop, NULL, &err), 0);
	assert_int_equal(local_open(&t.store, t.loop, &dev, 1, NULL, &err), 0);
}

/* An empty store, in regions of @region_bytes. */
static void make(uint64_t region_bytes)
{
	const struct loop_opts lo = {.sim = true};
	struct local_format_opts fo = {.shards = 1, .region_bytes = region_bytes};
	struct pst_err err = {0};
	struct bdev *dev;

	assert_int_equal(loop_new(&t.loop, &lo, NULL), 0);
	assert_int_equal(bdev_open(&dev, DEVICE, t.loop, NULL, &err), 0);
	assert_int_equal(local_format(&dev, 1, &fo, &err), 0);
	assert_int_equal(local_open(&t.store, t.loop, &dev, 1, NULL, &err), 0);
	assert_int_equal(ops_cont_create(t.store, "c", &t.cont), 0);
	for (unsigned i = 0; i < LEN; i++)
		t.data[i] = (uint8_t)hash_u64(i);
}

static int setup(void **state)
{
	make(0);
	put(0, LEN);
	return 0;
}

static int setup_empty(void **state)
{
	make(0);
	return 0;
}

/* The object is longer than a region, which has 64 blocks. */
static int setup_small(void **state)
{
	make(64 * BB);
	put(0, LEN);
	return 0;
}

static int teardown(void **state)
{
	(void)store_close(t.store);
	loop_free(t.loop);
	return bdev_mem_forget("lent");
}

static void all_of_it(void **state)
{
	assert_int_equal(read_lent(0, LEN), 0);
	assert_int_equal(t.r.op.ret_len, LEN);
	assert_non_null(t.r.lent);
	assert_memory_equal(t.r.seen, t.data, LEN);
	assert_int_equal(t.buf[0], 0xee); /* nothing was copied */
	assert_true(t.r.op.csum_made);
	for (unsigned i = 0; i < LEN / BB; i++)
		assert_int_equal(t.r.csum[i], crc32c(0, t.data + i * BB, BB));
}

static void some_of_it(void **state)
{
	assert_int_equal(read_lent(3 * BB, 5 * BB), 0);
	assert_memory_equal(t.r.seen, t.data + 3 * BB, 5 * BB);
	/* Off the blocks' borders it is put together elsewhere. */
	assert_int_equal(read_lent(100, 2 * BB), 0);
	assert_null(t.r.lent);
	assert_memory_equal(t.buf, t.data + 100, 2 * BB);
}

static void snap(const char *name)
{
	assert_int_equal(ops_snap_create(t.store, "c", name, NULL), 0);
}

/* What a snapshot parts is another extent, though the next on the device: all the same it is one run. */
static void extents_in_order(void **state)
{
	put(0, LEN / 4);
	snap("a");
	put(LEN / 4, LEN / 4);
	snap("b");
	put(LEN / 2, LEN / 2);
	assert_int_equal(read_lent(0, LEN), 0);
	assert_non_null(t.r.lent);
	assert_memory_equal(t.r.seen, t.data, LEN);
	assert_int_equal(read_lent(5 * BB, LEN - 7 * BB), 0);
	assert_non_null(t.r.lent);
	assert_memory_equal(t.r.seen, t.data + 5 * BB, LEN - 7 * BB);
}

/* Written in another order, they lie in another order. */
static void extents_in_disorder(void **state)
{
	put(LEN / 2, LEN / 2);
	put(0, LEN / 2);
	assert_int_equal(read_lent(0, LEN), 0);
	assert_null(t.r.lent);
	assert_memory_equal(t.buf, t.data, LEN);
}

/* The first block's checksum lies in the object's head, that of the next, which follows on the device, does not. */
static void first_block_alone(void **state)
{
	put(0, BB);
	reopen(); /* it has left the journal */
	assert_int_equal(read_lent(0, BB), 0);
	assert_non_null(t.r.lent);
	snap("a");
	put(BB, LEN - BB);
	assert_int_equal(read_lent(0, LEN), 0);
	assert_null(t.r.lent);
	assert_memory_equal(t.buf, t.data, LEN);
	assert_int_equal(read_lent(BB, LEN - BB), 0);
	assert_non_null(t.r.lent);
	assert_memory_equal(t.r.seen, t.data + BB, LEN - BB);
}

/* Each region has checksum pages of its own: a run ends with it. */
static void regions_apart(void **state)
{
	for (unsigned b = 0; b < LEN / BB / 2; b += 16) { /* longer than one */
		assert_int_equal(read_lent(b * BB, LEN / 2), 0);
		assert_null(t.r.lent);
		assert_memory_equal(t.buf, t.data + b * BB, LEN / 2);
	}
}

/* A block that is still in the journal lies elsewhere: then the memory that was given is filled. */
static void journaled(void **state)
{
	t.data[9 * BB] ^= 1;
	put(9 * BB, BB);
	assert_int_equal(read_lent(0, LEN), 0);
	if (!t.r.lent)
		assert_memory_equal(t.buf, t.data, LEN);
	else /* it has gone home already */
		assert_memory_equal(t.r.seen, t.data, LEN);
}

static void damaged(void **state)
{
	assert_int_equal(read_lent(0, LEN), 0);
	t.r.lent[7 * BB + 5] ^= 4;
	assert_int_equal(read_lent(0, LEN), -EIO);
	assert_int_equal(read_lent(8 * BB, BB), 0);
	assert_memory_equal(t.r.seen, t.data + 8 * BB, BB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(all_of_it, setup, teardown),
	        cmocka_unit_test_setup_teardown(some_of_it, setup, teardown),
	        cmocka_unit_test_setup_teardown(extents_in_order, setup_empty, teardown),
	        cmocka_unit_test_setup_teardown(extents_in_disorder, setup_empty, teardown),
	        cmocka_unit_test_setup_teardown(first_block_alone, setup_empty, teardown),
	        cmocka_unit_test_setup_teardown(regions_apart, setup_small, teardown),
	        cmocka_unit_test_setup_teardown(journaled, setup, teardown),
	        cmocka_unit_test_setup_teardown(damaged, setup, teardown),
	};

	return cmocka_run_group_tests_name("local engine: lent data", tests, NULL, NULL);
}
