/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Each allocation and each request of each kind of op fails in turn. An op then succeeds or fails
 * and changes nothing; want of memory never stops the store; a write or a flush of metadata that
 * fails does, and says so, reads go on, and the next open has all that was acknowledged.
 */
#include "eng_util.h"

static uint8_t data[400 * 1024];

enum kind {
	K_SMALL,
	K_PARTIAL,
	K_LARGE,
	K_APPEND,
	K_VALUE,
	K_LARGE_VALUE,
	K_BATCH,
	K_DELETE,
	K_SNAP_CREATE,
	K_OVER_SNAP,
	K_SNAP_DESTROY,
	K_CONT_CREATE,
	K_CONT_SET,
	K_CONT_DESTROY,
	K_READ,
	K_GET,
	K_FLUSH,
	K_COUNT,
};

struct world {
	struct eng e;
	struct model *m;
	uint32_t cont;
};

/* The op of kind @k, the @round-th time; its memory is static. */
static struct pst_op *op_make(struct world *w, enum kind k, unsigned round)
{
	static struct pst_op op;
	static struct pst_cont_info cinfo;
	static struct pst_snap_info sinfo;
	static struct pst_mut m[6];
	static struct iovec iov;
	static char name[16];
	static uint8_t got[400 * 1024];
	uint32_t len = 0;

	memset(&op, 0, sizeof(op));
	memset(&cinfo, 0, sizeof(cinfo));
	memset(m, 0, sizeof(m));
	(void)snprintf(name, sizeof(name), "n%u", k == K_CONT_DESTROY ? 0 : round);
	op = (struct pst_op){.opcode = PST_OP_WRITE, .cont = w->cont, .oid = oid_of(1), .muts = m};
	switch (k) {
	case K_SMALL:
		len = BB;
		op.off = (uint64_t)(round % 50) * BB;
		break;
	case K_PARTIAL:
		len = 3000;
		op.off = (uint64_t)(round % 50) * 5000 + 3;
		break;
	case K_OVER_SNAP:
		len = 100;
		op.oid = oid_of(2);
		op.off = (uint64_t)(round % 50) * 70 + 3;
		break;
	case K_LARGE:
		len = 300 * 1024;
		op.off = 77;
		break;
	case K_APPEND:
		len = 30;
		op.flags = PST_F_APPEND;
		break;
	case K_VALUE:
		m[0] = (struct pst_mut)MUT_PUT(oid_of(3), name, data, 300);
		op.mut_count = 1;
		break;
	case K_LARGE_VALUE:
		m[0] = (struct pst_mut)MUT_PUT(oid_of(3), name, data + round, 30000);
		op.mut_count = 1;
		break;
	case K_BATCH:
		m[0] = (struct pst_mut)MUT_PUT(oid_of(3), name, data + round, 3000);
		m[1] = (struct pst_mut)MUT_WRITE(oid_of(4), round * 100, data, 9000);
		m[2] = (struct pst_mut)MUT_OFF(PST_ARRAY_PUNCH, oid_of(4), round * 50, 4500);
		m[3] = (struct pst_mut)MUT_OFF(PST_ARRAY_RESIZE, oid_of(1), 250000 - round * 9, 0);
		m[4] = (struct pst_mut)MUT_WRITE(oid_of(1000 + round), 0, data, 10);
		op.mut_count = 5;
		break;
	case K_DELETE:
		m[0] = (struct pst_mut)MUT_OFF(PST_OBJ_DELETE, oid_of(1 + round % 4), 0, 0);
		op.mut_count = 1;
		break;
	case K_SNAP_CREATE:
	case K_SNAP_DESTROY:
		op.opcode = k == K_SNAP_CREATE ? PST_OP_SNAP_CREATE : PST_OP_SNAP_DESTROY;
		op.name = "a";
		op.name_len = 1;
		op.name2 = name;
		op.name2_len = (uint32_t)strlen(name);
		op.snap_info = &sinfo;
		return &op;
	case K_CONT_CREATE:
	case K_CONT_DESTROY:
		op.opcode = k == K_CONT_CREATE ? PST_OP_CONT_CREATE : PST_OP_CONT_DESTROY;
		op.name = name;
		op.name_len = (uint32_t)strlen(name);
		op.cont_info = &cinfo;
		return &op;
	case K_CONT_SET:
		op.opcode = PST_OP_CONT_SET;
		op.cont_info = &cinfo;
		cinfo.quota_bytes = 1000000000 + round;
		op.attr_mask = PST_SET_QUOTA_BYTES;
		return &op;
	case K_READ:
		op.opcode = PST_OP_READ;
		op.len = sizeof(got);
		iov = (struct iovec){got, sizeof(got)};
		op.iov = &iov;
		op.iov_count = 1;
		return &op;
	case K_GET:
		op.opcode = PST_OP_KV_GET;
		op.oid = oid_of(9);
		op.key = "key";
		op.key_len = 3;
		op.val = got;
		op.val_cap = sizeof(got);
		return &op;
	case K_FLUSH:
		op.opcode = PST_OP_FLUSH;
		return &op;
	case K_COUNT:
		break;
	}
	if (op.mut_count)
		op.opcode = PST_OP_BATCH;
	iov = (struct iovec){data + round % 100, len};
	op.iov = &iov;
	op.iov_count = 1;
	op.len = len;
	return &op;
}

/* Runs it; what succeeds is done to the model too. */
static int run(struct world *w, enum kind k, unsigned round)
{
	struct pst_op *op = op_make(w, k, round);
	int r = ops_run(w->e.store, op);

	if (!r && k != K_READ && k != K_GET && k != K_FLUSH) {
		model_apply(w->m, op, loop_now(w->e.loop));
		assert_int_equal(op->status, 0);
	}
	return r;
}

static void world_start(struct world *w)
{
	static struct pst_cont_info info;
	struct pst_op create = {
	        .opcode = PST_OP_CONT_CREATE, .name = "a", .name_len = 1, .cont_info = &info};
	struct pst_mut put[] = {MUT_PUT(oid_of(9), "key", data, 40000)};
	struct pst_op base = {.opcode = PST_OP_BATCH, .muts = put, .mut_count = 1};

	memset(&info, 0, sizeof(info));
	eng_fill(data, sizeof(data), 1);
	eng_start(&w->e);
	w->m = model_new(0);
	model_adopt_ids(w->m);
	assert_int_equal(ops_run(w->e.store, &create), 0);
	model_apply(w->m, &create, loop_now(w->e.loop));
	w->cont = info.id;
	base.cont = w->cont;
	assert_int_equal(ops_run(w->e.store, &base), 0);
	model_apply(w->m, &base, loop_now(w->e.loop));
	assert_int_equal(run(w, K_LARGE, 0), 0);
	for (uint64_t i = 2; i < 5; i++) {
		struct pst_mut m[] = {MUT_WRITE(oid_of(i), 0, data + i, 100000)};

		base.muts = m;
		assert_int_equal(ops_run(w->e.store, &base), 0);
		model_apply(w->m, &base, loop_now(w->e.loop));
	}
}

static void world_check(struct world *w)
{
	struct pst_err err = {0};

	if (model_diff(w->m, w->e.store, &err))
		fail_msg("%s", err.text);
}

static void world_end(struct world *w)
{
	model_free(w->m);
	eng_end(&w->e);
}

/* What the kind needs to be there before. */
static void set_up(struct world *w, enum kind k, unsigned round)
{
	if (k == K_SNAP_DESTROY)
		assert_int_equal(run(w, K_SNAP_CREATE, round), 0);
	if (k == K_OVER_SNAP)
		assert_int_equal(run(w, K_SNAP_CREATE, 5000 + round), 0);
	if (k == K_CONT_DESTROY)
		assert_int_equal(run(w, K_CONT_CREATE, 0), 0);
}

static void tear_down(struct world *w, enum kind k, unsigned round)
{
	if (k == K_OVER_SNAP)
		assert_int_equal(run(w, K_SNAP_DESTROY, 5000 + round), 0);
	if (k == K_SNAP_CREATE || k == K_SNAP_DESTROY)
		(void)run(w, K_SNAP_DESTROY, round);
	if (k == K_CONT_DESTROY)
		(void)run(w, K_CONT_DESTROY, 0);
}

/* --- memory --- */

/* @cold: on a store that was just opened each time. */
static void allocations(enum kind k, bool cold, unsigned devs)
{
	struct world w = {.e = {.dev_bytes = 16 * MIB, .devs = devs, .plain = true}};
	bool failed = true;

	world_start(&w);
	for (unsigned n = 1; failed; n++) {
		int r;

		assert_true(n < 400);
		set_up(&w, k, n);
		if (cold)
			eng_reopen(&w.e);
		(void)mem_alloc_fail_at(n, false);
		r = run(&w, k, n);
		failed = mem_alloc_fail_at(0, false) >= n;
		if (r && r != -ENOMEM)
			fail_msg("kind %u, allocation %u: %d", k, n, r);
		if (eng_stopped(&w.e, NULL, 0))
			fail_msg("kind %u, allocation %u stopped the store", k, n);
		if (n % 7 == 0)
			world_check(&w);
		tear_down(&w, k, n);
	}
	world_check(&w);
	eng_drop(&w.e);
	eng_open(&w.e);
	world_check(&w);
	world_end(&w);
}

static void each_allocation(void **state)
{
	for (enum kind k = 0; k < K_COUNT; k++) {
		for (unsigned devs = 1; devs <= 3; devs += 2) {
			allocations(k, false, devs);
			allocations(k, true, devs);
		}
	}
}

/* A checkpoint, and a close, put off what they have no memory for and come to their end. */
static void each_allocation_of_a_checkpoint(void **state)
{
	for (unsigned how = 0; how < 4; how++) {
		bool failed = true, closing = how % 2;
		struct world w = {
		        .e = {.dev_bytes = 16 * MIB, .devs = how / 2 ? 3 : 1, .plain = true}};

		world_start(&w);
		for (unsigned n = 1; failed; n++) {
			assert_true(n < 400);
			assert_int_equal(run(&w, K_BATCH, n), 0);
			assert_int_equal(run(&w, K_SMALL, n), 0);
			if (n % 2)
				assert_int_equal(run(&w, K_SNAP_CREATE, n), 0);
			(void)mem_alloc_fail_at(n, false);
			if (closing) {
				assert_int_equal(eng_close(&w.e), 0);
				failed = mem_alloc_fail_at(0, false) >= n;
				eng_open(&w.e);
				(void)ops_cont_open(w.e.store, "a", &w.cont);
			} else {
				eng_checkpoint(&w.e);
				failed = mem_alloc_fail_at(0, false) >= n;
				assert_false(eng_stopped(&w.e, NULL, 0));
			}
		}
		world_check(&w);
		world_end(&w);
	}
}

/* Memory does not come back: closing and opening end, with an error, and nothing is lost. */
static void no_memory_any_more(void **state)
{
	struct world w = {.e = {.dev_bytes = 16 * MIB, .devs = 2, .plain = true}};
	unsigned closed = 0, late = 0;

	world_start(&w);
	for (unsigned n = 1; n < 40; n++) {
		assert_int_equal(run(&w, K_BATCH, n), 0);
		eng_log_clear();
		(void)mem_alloc_fail_at(n, true);
		if (eng_close(&w.e)) {
			assert_true(eng_logged("too long for memory"));
			closed++;
		}
		(void)mem_alloc_fail_at(0, false);
		eng_open_devs(&w.e);
		(void)mem_alloc_fail_at(8 * n, true);
		if (local_open(&w.e.store, w.e.loop, w.e.dev, w.e.devs, &w.e.opts, &w.e.err)) {
			w.e.store = NULL;
			late += strstr(w.e.err.text, "too long for memory") != NULL;
		}
		(void)mem_alloc_fail_at(0, false);
		if (!w.e.store) {
			eng_close_devs(&w.e);
			eng_open(&w.e);
		}
		(void)ops_cont_open(w.e.store, "a", &w.cont);
	}
	world_check(&w);
	assert_true(closed && late);
	world_end(&w);
}

/* --- requests --- */

/* Request @n of @kinds fails during an op of kind @k and the checkpoint after it. False: there were
 * fewer. */
static bool request_fails(struct eng like, enum kind k, uint32_t kinds, unsigned n)
{
	struct world w = {.e = like};
	char why[200];
	bool stopped;
	int r;

	world_start(&w);
	if (n % 2) {
		eng_reopen(&w.e);
		(void)ops_cont_open(w.e.store, "a", &w.cont);
	}
	set_up(&w, k, n);
	eng_fail_at(&w.e, kinds, n, -EIO);
	r = run(&w, k, n);
	if (r)
		assert_int_equal(r, -EIO);
	if (!r)
		eng_checkpoint(&w.e);
	stopped = eng_stopped(&w.e, why, sizeof(why));
	eng_fail_at(&w.e, 0, 0, -EIO);
	if (stopped) {
		assert_true(why[0]);
		assert_int_not_equal(kinds, 1 << BDEV_READ);
		/* Changes are refused, looking still works. */
		assert_int_equal(run(&w, K_SMALL, n), -EIO);
		assert_int_equal(run(&w, K_VALUE, n), -EIO);
		assert_int_equal(run(&w, K_FLUSH, n), -EIO);
		assert_int_equal(run(&w, K_CONT_CREATE, 77), -EIO);
		assert_int_equal(run(&w, K_READ, n), 0);
		assert_int_equal(run(&w, K_GET, n), 0);
	} else if (r) {
		world_check(&w); /* it changed nothing */
	}
	if (stopped && n % 3) {
		assert_int_equal(eng_close(&w.e), -EIO);
	} else {
		eng_drop(&w.e);
	}
	eng_open(&w.e);
	/* An op that failed when the store stopped may have happened; it must be whole then. */
	if (!r || !stopped) {
		world_check(&w);
	} else {
		struct pst_err err = {0};

		if (model_diff(w.m, w.e.store, &err)) {
			struct pst_op *op = op_make(&w, k, n);

			model_apply(w.m, op, loop_now(w.e.loop));
			world_check(&w);
		}
	}
	world_end(&w);
	return r || stopped;
}

static void requests(uint32_t kinds, unsigned devs)
{
	unsigned failed = 0;

	for (enum kind k = 0; k < K_COUNT; k++) {
		struct eng like = {.dev_bytes = 8 * MIB, .devs = devs};
		unsigned quiet = 0;

		/* A few that went unnoticed (read again, say) are not the end. */
		for (unsigned n = 1; n < 60 && quiet < 3; n++) {
			bool did = request_fails(like, k, kinds, n);

			quiet = did ? 0 : quiet + 1;
			failed += did;
		}
	}
	assert_true(failed > 5);
}

static void each_write(void **state)
{
	requests(1 << BDEV_WRITE, 1);
}

static void each_flush(void **state)
{
	requests(1 << BDEV_FLUSH, 2);
}

static void each_read(void **state)
{
	requests(1 << BDEV_READ, 1);
}

/* Two writers wait for a block's old content, which can't be read: the first fails, the second
 * tries for itself. */
static void failed_read_under_a_lock(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB};
	static uint8_t one[10], two[10];
	struct eng_op a, b;
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, 64 * BB, 1), 0);
	eng_reopen(&e);
	eng_write_op(&a, c, oid_of(1), 100, one, sizeof(one), 0);
	eng_write_op(&b, c, oid_of(1), 300, two, sizeof(two), 0);
	eng_fail_at(&e, 1 << BDEV_READ, 2, -EIO); /* the checksum page comes first */
	eng_submit(&e, &a);
	eng_submit(&e, &b);
	assert_int_equal(eng_wait(&e, &a), -EIO);
	assert_int_equal(eng_wait(&e, &b), 0);
	assert_true(list_empty(&eng_local(&e)->shard[0]->rlocks));
	eng_end(&e);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(each_allocation),
	        cmocka_unit_test(each_allocation_of_a_checkpoint),
	        cmocka_unit_test(no_memory_any_more),
	        cmocka_unit_test(each_write),
	        cmocka_unit_test(each_flush),
	        cmocka_unit_test(each_read),
	        cmocka_unit_test(failed_read_under_a_lock),
	};

	if (argc > 1) /* one case alone */
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("local engine: failures", tests, NULL, NULL);
}
