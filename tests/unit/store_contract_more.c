/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * store_contract_more - cases on snapshots, quotas, replay, many ops at once, and long random runs
 * that a model follows.
 */
#include <stdio.h>

#include "gen.h"
#include "store_contract_impl.h"

/* --- snapshots --- */

static void snap_life(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct pst_cont_info info;
	uint64_t v1, v2, again;

	assert_int_equal(ops_snap_create(s, "nocont", "s", &v1), -ENOENT);
	assert_int_equal(ops_snap_create(s, "c", "", &v1), -EINVAL);
	assert_int_equal(ops_snap_create(s, "c", "s1", &v1), 0);
	assert_int_equal(ops_snap_create(s, "c", "s1", &v2), -EEXIST);
	assert_int_equal(ops_snap_create(s, "c", "s2", &v2), 0);
	assert_int_not_equal(v1, 0);
	assert_int_not_equal(v1, v2);
	assert_int_equal(ops_snap_open(s, "c", "s1", &again), 0);
	assert_int_equal(again, v1);
	assert_int_equal(ops_snap_open(s, "c", "s3", &again), -ENOENT);
	assert_int_equal(ops_cont_get(s, c, &info), 0);
	assert_int_equal(info.snapshots, 2);
	assert_int_equal(ops_cont_destroy(s, "c"), -EBUSY);
	assert_int_equal(ops_snap_destroy(s, "c", "s1"), 0);
	assert_int_equal(ops_snap_destroy(s, "c", "s1"), -ENOENT);
	assert_int_equal(ops_snap_open(s, "c", "s1", &again), -ENOENT);
	assert_int_equal(ops_read(s, c, v1, oid_of(1), 0, &again, 8, NULL), -ENOENT);
	assert_int_equal(ops_snap_destroy(s, "c", "s2"), 0);
	assert_int_equal(ops_cont_destroy(s, "c"), 0);
}

static void snap_view(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct pst_oid o = oid_of(1), p = oid_of(2);
	static uint8_t w[200000], x[5000];
	struct pst_mut after[] = {
	        MUT_WRITE(o, 50000, x, 5000),
	        MUT_OFF(PST_ARRAY_PUNCH, o, 100000, 30000),
	        MUT_OFF(PST_ARRAY_RESIZE, o, 150000, 0),
	        MUT_KEY(PST_KV_DEL, o, "k1", 0),
	        MUT_PUT(o, "k2", "new", 3),
	        MUT_OFF(PST_OBJ_DELETE, p, 0, 0),
	        MUT_PUT(oid_of(3), "k", "v", 1),
	};
	uint64_t view, n;
	char v[8] = {0};

	fill(w, sizeof(w), 1);
	fill(x, sizeof(x), 2);
	assert_int_equal(ops_write(s, c, o, 0, w, sizeof(w)), 0);
	assert_int_equal(ops_kv_put(s, c, o, "k1", "one", 3), 0);
	assert_int_equal(ops_kv_put(s, c, o, "k2", "two", 3), 0);
	assert_int_equal(ops_write(s, c, p, 0, w, 100), 0);
	assert_int_equal(ops_snap_create(s, "c", "s", &view), 0);
	assert_int_equal(ops_batch(s, c, after, ARRAY_LEN(after)), 0);
	for (unsigned pass = 0; pass < 2; pass++) {
		expect_bytes(s, c, view, o, 0, w, sizeof(w));
		assert_int_equal(size_of(s, c, view, o), sizeof(w));
		assert_int_equal(ops_kv_get(s, c, view, o, "k1", v, 8, &n), 0);
		assert_string_equal(v, "one");
		assert_int_equal(ops_kv_get(s, c, view, o, "k2", v, 8, &n), 0);
		assert_string_equal(v, "two");
		expect_bytes(s, c, view, p, 0, w, 100);
		assert_int_equal(size_of(s, c, view, oid_of(3)), UINT64_MAX);
		if (!contract_factory->reopen)
			break;
		contract_factory->reopen(*state);
		s = store_of(state);
		assert_int_equal(ops_snap_open(s, "c", "s", &view), 0);
	}
	expect_bytes(s, c, 0, o, 50000, x, 5000);
	expect_bytes(s, c, 0, o, 100000, NULL, 30000);
	assert_int_equal(size_of(s, c, 0, o), 150000);
	assert_int_equal(size_of(s, c, 0, p), UINT64_MAX);
	assert_int_equal(ops_kv_get(s, c, 0, o, "k1", v, 8, &n), -ENOENT);
}

static void snap_readonly(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct pst_mut m = MUT_PUT(oid_of(1), "k", "v", 1);
	struct iovec iov = {(char[]){"x"}, 1};
	struct pst_op op = {.opcode = PST_OP_BATCH, .cont = c, .muts = &m, .mut_count = 1};

	assert_int_equal(ops_snap_create(s, "c", "s", &op.view), 0);
	assert_int_equal(ops_run(s, &op), -EROFS);
	op.opcode = PST_OP_WRITE;
	op.oid = oid_of(1);
	op.iov = &iov;
	op.iov_count = 1;
	op.len = 1;
	assert_int_equal(ops_run(s, &op), -EROFS);
	assert_int_equal(size_of(s, c, 0, oid_of(1)), UINT64_MAX);
}

/* Space comes back when a snapshot goes: many rounds would not fit otherwise. */
static void snap_space(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	uint8_t *w = malloc(2u << 20);

	for (unsigned round = 0; round < 60; round++) {
		fill(w, 2u << 20, round);
		assert_int_equal(ops_write(s, c, oid_of(1), 0, w, 2u << 20), 0);
		assert_int_equal(ops_snap_create(s, "c", "s", NULL), 0);
		fill(w, 2u << 20, round + 100);
		assert_int_equal(ops_write(s, c, oid_of(1), 0, w, 2u << 20), 0);
		assert_int_equal(ops_snap_destroy(s, "c", "s"), 0);
		expect_bytes(s, c, 0, oid_of(1), 0, w, 2u << 20);
	}
	free(w);
}

/* --- quotas --- */

static void quota_bytes(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct pst_mut del = MUT_OFF(PST_OBJ_DELETE, oid_of(1), 0, 0);
	static uint8_t w[65536];
	struct pst_cont_info info;

	assert_int_equal(ops_cont_quota(s, c, 16 * 4096, 0), 0);
	assert_int_equal(ops_write(s, c, oid_of(1), 0, w, 8 * 4096), 0);
	assert_int_equal(ops_write(s, c, oid_of(2), 0, w, 9 * 4096), -EDQUOT);
	assert_int_equal(size_of(s, c, 0, oid_of(2)), UINT64_MAX);
	assert_int_equal(ops_write(s, c, oid_of(2), 0, w, 7 * 4096 + 1), 0);
	assert_int_equal(ops_write(s, c, oid_of(2), 8 * 4096, w, 1), -EDQUOT);
	assert_int_equal(ops_write(s, c, oid_of(2), 0, w, 8 * 4096), 0); /* nothing more is taken */
	assert_int_equal(ops_kv_put(s, c, oid_of(2), "k", "v", 1), 0);
	assert_int_equal(ops_cont_quota(s, c, 4096, 0), 0); /* below the use: what is there stays */
	assert_int_equal(ops_write(s, c, oid_of(1), 0, w, 8 * 4096), 0);
	assert_int_equal(ops_batch(s, c, &del, 1), 0);
	assert_int_equal(ops_write(s, c, oid_of(1), 0, w, 1), -EDQUOT);
	assert_int_equal(ops_cont_quota(s, c, 9 * 4096, 0), 0);
	assert_int_equal(ops_write(s, c, oid_of(1), 0, w, 1), 0);
	assert_int_equal(ops_cont_get(s, c, &info), 0);
	assert_int_equal(info.quota_bytes, 9 * 4096);
	assert_int_equal(info.used_bytes, 9 * 4096);
}

static void quota_objects(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct pst_mut two[] = {MUT_PUT(oid_of(8), "k", "v", 1), MUT_PUT(oid_of(9), "k", "v", 1)};
	struct pst_mut swap[] = {MUT_OFF(PST_OBJ_DELETE, oid_of(1), 0, 0),
	                         MUT_PUT(oid_of(7), "k", "v", 1)};

	assert_int_equal(ops_cont_quota(s, c, 0, 3), 0);
	assert_int_equal(ops_kv_put(s, c, oid_of(1), "k", "v", 1), 0);
	assert_int_equal(ops_kv_put(s, c, oid_of(2), "k", "v", 1), 0);
	assert_int_equal(ops_batch(s, c, two, 2), -EDQUOT);
	assert_int_equal(size_of(s, c, 0, oid_of(8)), UINT64_MAX);
	assert_int_equal(ops_kv_put(s, c, oid_of(3), "k", "v", 1), 0);
	assert_int_equal(ops_write(s, c, oid_of(4), 0, "x", 1), -EDQUOT);
	assert_int_equal(ops_kv_put(s, c, oid_of(3), "k2", "v", 1), 0);
	assert_int_equal(ops_batch(s, c, swap, 2), 0);
	assert_int_equal(size_of(s, c, 0, oid_of(7)), 0);
}

/* --- replay --- */

static void maybe_reopen(void **state)
{
	if (contract_factory->reopen)
		contract_factory->reopen(*state);
}

static void replay(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct pst_mut m = {.kind = PST_ARRAY_APPEND, .oid = oid_of(1), .val = "abc", .val_len = 3};
	struct pst_op op = {.opcode = PST_OP_BATCH, .cont = c, .muts = &m, .mut_count = 1};
	struct pst_op ask = {.opcode = PST_OP_BATCH, .cont = c};

	if (!(s->caps & PST_CAP_REPLAY))
		return; /* `remote` gives its own tokens: test_remote_replay.c */
	m.len = 3;
	op.token = ask.token = (struct pst_token){.session = 7, .slot = 2, .seq = 10};
	op.ino = 4242;
	assert_int_equal(ops_run(s, &ask), -ENOENT);
	assert_int_equal(ops_run(s, &op), 0);
	assert_int_equal(op.ret_off, 0);
	assert_int_equal(ops_write(s, c, oid_of(1), 3, "defg", 4), 0); /* another's change */
	maybe_reopen(state);
	s = store_of(state);
	op.ino = ask.ino = 0;
	op.ret_off = 99;
	assert_int_equal(ops_run(s, &op), 0); /* answered, not executed */
	assert_int_equal(op.ret_off, 0);
	assert_int_equal(op.ino, 4242);
	assert_int_equal(size_of(s, c, 0, oid_of(1)), 7);
	assert_int_equal(ops_run(s, &ask), 0);
	assert_int_equal(ask.ino, 4242);
	op.token.about = 5; /* of a request that did not say */
	assert_int_equal(ops_run(s, &op), 0);
	op.token.seq = 11;
	op.ino = 1;
	assert_int_equal(ops_run(s, &op), 0);
	assert_int_equal(op.ret_off, 7);
	maybe_reopen(state);
	s = store_of(state);
	op.token.about = 6; /* another one: it is not told what became of this one */
	op.ino = 77;
	assert_int_equal(ops_run(s, &op), -ESTALE);
	assert_int_equal(op.ino, 77);
	op.token.about = 5;
	assert_int_equal(ops_run(s, &op), 0);
	assert_int_equal(op.ino, 1);
	ask.token.seq = 11; /* who asks says nothing */
	assert_int_equal(ops_run(s, &ask), 0);
	op.token.about = 0;
	ask.token.seq = 10;
	op.token.seq = 10;
	assert_int_equal(ops_run(s, &op), -ESTALE);
	assert_int_equal(ops_run(s, &ask), -ESTALE);
	op.token.slot = 3; /* another slot, another session: nothing to do with it */
	assert_int_equal(ops_run(s, &op), 0);
	op.token.session = 8;
	assert_int_equal(ops_run(s, &op), 0);
	assert_int_equal(size_of(s, c, 0, oid_of(1)), 16);
}

static void replay_failure(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct pst_mut m[] = {MUT_KEY(PST_IF_KEY_ABSENT, oid_of(1), "k", -EEXIST),
	                      MUT_PUT(oid_of(1), "k", "v", 1)};
	struct pst_mut del = MUT_KEY(PST_KV_DEL, oid_of(1), "k", 0);
	struct pst_op op = {.opcode = PST_OP_BATCH, .cont = c, .muts = m, .mut_count = 2};

	if (!(s->caps & PST_CAP_REPLAY))
		return; /* `remote` gives its own tokens: test_remote_replay.c */
	op.token = (struct pst_token){.session = 7, .slot = 0, .seq = 1};
	assert_int_equal(ops_run(s, &op), 0);
	assert_int_equal(ops_run(s, &op), 0); /* the token is looked at before the condition */
	op.token.seq = 2;
	assert_int_equal(ops_run(s, &op), -EEXIST);
	assert_int_equal(ops_batch(s, c, &del, 1), 0);
	assert_int_equal(ops_run(s, &op), 0); /* a failure was not recorded: executed now */
}

static void replay_write(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct iovec iov = {(char[]){"old!"}, 4};
	struct pst_op op = {.opcode = PST_OP_WRITE, .cont = c, .oid = oid_of(1), .len = 4};

	if (!(s->caps & PST_CAP_REPLAY))
		return; /* `remote` gives its own tokens: test_remote_replay.c */
	op.iov = &iov;
	op.iov_count = 1;
	op.token = (struct pst_token){.session = 1, .slot = 1, .seq = 1};
	assert_int_equal(ops_run(s, &op), 0);
	assert_int_equal(ops_write(s, c, oid_of(1), 0, "new!", 4), 0);
	maybe_reopen(state);
	s = store_of(state);
	assert_int_equal(ops_run(s, &op), 0);
	assert_int_equal(op.ret_len, 4);
	expect_bytes(s, c, 0, oid_of(1), 0, "new!", 4);
}

/* --- many at once --- */

struct many {
	struct store *store;
	struct pst_op ops[200];
	struct pst_mut muts[200];
	unsigned char val[200];
	unsigned ended, times[200];
};

static void many_done(struct pst_op *op)
{
	struct many *m = op->user;

	m->times[op - m->ops]++;
	m->ended++;
}

static void many_submit(struct many *m, unsigned i)
{
	enum pst_outcome out;

	m->ops[i].user = m;
	m->ops[i].done = many_done;
	while ((out = store_submit(m->store, &m->ops[i])) == PST_BUSY) {
		assert_true(m->ended < i); /* busy only while something will end */
		loop_turn(m->store->loop, NSEC_PER_SEC);
	}
	if (out == PST_DONE)
		many_done(&m->ops[i]);
}

static void many_wait(struct many *m, unsigned count)
{
	for (unsigned turns = 0; m->ended < count; turns++) {
		assert_true(turns < 10000000);
		loop_turn(m->store->loop, NSEC_PER_SEC);
	}
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(m->times[i], 1);
}

static void concurrent_appends(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct many *m = calloc(1, sizeof(*m));
	bool seen[200] = {0};
	uint8_t got[200];

	m->store = s;
	for (unsigned i = 0; i < 200; i++) {
		m->val[i] = (unsigned char)i;
		m->muts[i] = (struct pst_mut){.kind = PST_ARRAY_APPEND, .oid = oid_of(1)};
		m->muts[i].val = &m->val[i];
		m->muts[i].val_len = 1;
		m->muts[i].len = 1;
		m->ops[i].opcode = PST_OP_BATCH;
		m->ops[i].cont = c;
		m->ops[i].muts = &m->muts[i];
		m->ops[i].mut_count = 1;
		many_submit(m, i);
	}
	many_wait(m, 200);
	assert_int_equal(ops_read(s, c, 0, oid_of(1), 0, got, 200, NULL), 0);
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(m->ops[i].status, 0);
		assert_true(m->ops[i].ret_off < 200 && !seen[m->ops[i].ret_off]);
		seen[m->ops[i].ret_off] = true;
		assert_int_equal(got[m->ops[i].ret_off], i);
	}
	free(m);
}

/* Unaligned overwrites of one block at once: each byte is its writer's, none is lost. */
static void concurrent_overwrites(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct many *m = calloc(1, sizeof(*m));
	struct iovec iov[200];
	uint8_t got[200 * 50];
	static uint8_t data[200][50];

	m->store = s;
	assert_int_equal(ops_write(s, c, oid_of(1), 0, got, sizeof(got)), 0);
	for (unsigned i = 0; i < 200; i++) {
		memset(data[i], (int)i, 50);
		iov[i] = (struct iovec){data[i], 50};
		m->ops[i] = (struct pst_op){.opcode = PST_OP_WRITE, .cont = c, .oid = oid_of(1)};
		m->ops[i].off = i * 50;
		m->ops[i].len = 50;
		m->ops[i].iov = &iov[i];
		m->ops[i].iov_count = 1;
		many_submit(m, i);
	}
	many_wait(m, 200);
	assert_int_equal(ops_read(s, c, 0, oid_of(1), 0, got, sizeof(got), NULL), 0);
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(m->ops[i].status, 0);
		assert_memory_equal(got + i * 50, data[i], 50);
	}
	free(m);
}

/* Of conditional puts on one key at once, one wins. */
static void concurrent_conditions(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct many *m = calloc(1, sizeof(*m));
	static struct pst_mut muts[100][2];
	unsigned won = 0;

	m->store = s;
	for (unsigned i = 0; i < 100; i++) {
		muts[i][0] = (struct pst_mut)MUT_KEY(PST_IF_KEY_ABSENT, oid_of(1), "k", -EEXIST);
		muts[i][1] = (struct pst_mut)MUT_PUT(oid_of(1), "k", &m->val[i], 1);
		m->val[i] = (unsigned char)i;
		m->ops[i] = (struct pst_op){.opcode = PST_OP_BATCH, .cont = c};
		m->ops[i].muts = muts[i];
		m->ops[i].mut_count = 2;
		many_submit(m, i);
	}
	many_wait(m, 100);
	for (unsigned i = 0; i < 100; i++) {
		unsigned char v = 255;

		assert_true(!m->ops[i].status || m->ops[i].status == -EEXIST);
		if (m->ops[i].status)
			continue;
		won++;
		assert_int_equal(ops_kv_get(s, c, 0, oid_of(1), "k", &v, 1, NULL), 0);
		assert_int_equal(v, i);
	}
	assert_int_equal(won, 1);
	free(m);
}

static void cancel_any(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct many *m = calloc(1, sizeof(*m));
	char key[8];

	m->store = s;
	for (unsigned i = 0; i < 100; i++) {
		m->val[i] = (unsigned char)i;
		m->muts[i] = (struct pst_mut){.kind = PST_KV_PUT, .oid = oid_of(1 + i), .key = "k"};
		m->muts[i].key_len = 1;
		m->ops[i] = (struct pst_op){.opcode = PST_OP_BATCH, .cont = c};
		m->ops[i].muts = &m->muts[i];
		m->ops[i].mut_count = 1;
		many_submit(m, i);
		if (i % 3 == 0)
			store_cancel(s, &m->ops[i]);
	}
	many_wait(m, 100);
	for (unsigned i = 0; i < 100; i++) {
		int r = ops_kv_get(s, c, 0, oid_of(1 + i), "k", key, 8, NULL);

		assert_true(m->ops[i].status == 0 ||
		            (i % 3 == 0 && m->ops[i].status == -ECANCELED));
		assert_int_equal(r, m->ops[i].status ? -ENOENT : 0);
		store_cancel(s, &m->ops[i]); /* done: harmless */
	}
	free(m);
}

static void deadline_passed(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct pst_mut m = MUT_PUT(oid_of(1), "k", "v", 1);
	struct pst_op op = {.opcode = PST_OP_BATCH, .cont = c, .muts = &m, .mut_count = 1};

	op.deadline_ns = 1;
	loop_turn(s->loop, 0);
	assert_int_equal(ops_run(s, &op), -ETIMEDOUT);
	assert_int_equal(size_of(s, c, 0, oid_of(1)), UINT64_MAX);
	op.deadline_ns = loop_now(s->loop) + 3600 * NSEC_PER_SEC;
	assert_int_equal(ops_run(s, &op), 0);
}

static void unknown_opcode(void **state)
{
	struct store *s = store_of(state);
	struct pst_op op = {.opcode = 255};

	assert_int_equal(ops_run(s, &op), -ENOTSUP);
	op.opcode = PST_OP_NONE;
	assert_int_equal(ops_run(s, &op), -ENOTSUP);
}

/* Nothing brings it into being, alone or in the company of others; what reads or takes away finds nothing. */
static void no_object_zero(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct pst_oid none = {0};
	struct pst_mut makes[] = {
	        MUT_PUT(none, "k", "v", 1),
	        MUT_WRITE(none, 0, "v", 1),
	        {.kind = PST_ARRAY_APPEND, .oid = none, .val = "v", .val_len = 1, .len = 1},
	        MUT_OFF(PST_ARRAY_RESIZE, none, 1, 0),
	        {.kind = PST_SET_LABEL, .oid = none, .val = "v", .val_len = 1},
	        MUT_OFF(PST_SET_MTIME, none, 1, 0),
	};
	struct pst_mut others[] = {
	        MUT_KEY(PST_IF_OBJ_ABSENT, none, "", -EEXIST),
	        MUT_KEY(PST_KV_DEL, none, "k", 0),
	        MUT_OFF(PST_ARRAY_PUNCH, none, 0, 1),
	        MUT_OFF(PST_OBJ_DELETE, none, 0, 0),
	        MUT_PUT(oid_of(2), "k", "v", 1),
	};
	struct iovec iov = {(char *)"v", 1};
	struct pst_op append = {.opcode = PST_OP_WRITE, .cont = c, .flags = PST_F_APPEND};
	struct pst_cont_info info;
	char v[8];
	uint64_t len = 7;

	for (unsigned i = 0; i < ARRAY_LEN(makes); i++) {
		struct pst_mut two[] = {MUT_PUT(oid_of(1), "k", "v", 1), makes[i]};

		assert_int_equal(ops_batch(s, c, &makes[i], 1), -EINVAL);
		assert_int_equal(ops_batch(s, c, two, 2), -EINVAL);
		assert_int_equal(size_of(s, c, 0, oid_of(1)), UINT64_MAX);
	}
	assert_int_equal(ops_write(s, c, none, 0, "v", 1), -EINVAL);
	append.len = 1;
	append.iov = &iov;
	append.iov_count = 1;
	assert_int_equal(ops_run(s, &append), -EINVAL);
	assert_int_equal(size_of(s, c, 0, none), UINT64_MAX);
	assert_int_equal(ops_read(s, c, 0, none, 0, v, sizeof(v), &len), 0);
	assert_int_equal(len, 0);
	assert_int_equal(ops_kv_get(s, c, 0, none, "k", v, sizeof(v), NULL), -ENOENT);
	assert_int_equal(ops_batch(s, c, others, ARRAY_LEN(others)), 0);
	assert_int_equal(ops_cont_get(s, c, &info), 0);
	assert_int_equal(info.used_objects, 1); /* the other one */
	assert_int_equal(size_of(s, c, 0, oid_of(2)), 0);
}

static void volatile_flush(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	static uint8_t w[100000];
	struct iovec iov = {w, sizeof(w)};
	struct pst_op op = {.opcode = PST_OP_WRITE, .cont = c, .oid = oid_of(1)};

	fill(w, sizeof(w), 4);
	op.flags = PST_F_VOLATILE;
	op.len = sizeof(w);
	op.iov = &iov;
	op.iov_count = 1;
	assert_int_equal(ops_run(s, &op), 0);
	expect_bytes(s, c, 0, oid_of(1), 0, w, sizeof(w)); /* seen at once */
	assert_int_equal(ops_flush(s, c), 0);
	maybe_reopen(state);
	expect_bytes(store_of(state), c, 0, oid_of(1), 0, w, sizeof(w));
}

/* --- long runs beside a model --- */

static void follow(struct store *s, struct model *m, struct rng *rng, const struct gen_scope *sc,
                   unsigned count)
{
	struct pst_err err;

	for (unsigned i = 0; i < count; i++) {
		struct gen_op *g = gen_op_new(rng, sc);

		ops_run(s, &g->op);
		if (gen_op_check(g, m, 0, &err))
			fail_msg("op %u: %s", i, err.text);
		gen_op_free(g);
	}
}

static void random_against_model(void **state)
{
	struct pst_oid oids[8];
	struct gen_scope sc = {.oids = oids,
	                       .oid_count = 8,
	                       .span_bytes = 1u << 20,
	                       .io_max_bytes = 200000,
	                       .value_max = 20000,
	                       .volatile_ok = true,
	                       .read_percent = 40,
	                       .delete_weight = 1};
	struct store *s = store_of(state);
	struct model *m = model_new(0);
	struct pst_cont_info info = {0};
	struct pst_op op = {.opcode = PST_OP_CONT_CREATE, .name = "c", .name_len = 1};
	struct pst_err err;
	struct rng rng;

	rng_seed(&rng, 42);
	model_adopt_ids(m);
	for (unsigned i = 0; i < 8; i++)
		oids[i] = (struct pst_oid){.hi = i / 3, .lo = 1 + i};
	info.id = sc.cont = make_cont(s);
	op.cont_info = &info;
	model_apply(m, &op, 0);
	for (unsigned round = 0; round < 6; round++) {
		struct pst_snap_info snap = {0};
		struct pst_op take = {.opcode = PST_OP_SNAP_CREATE, .cont = sc.cont};
		char name[8];

		follow(s, m, &rng, &sc, 400);
		take.name2 = name;
		take.name2_len = (uint32_t)snprintf(name, sizeof(name), "s%u", round % 3);
		take.snap_info = &snap;
		if (round >= 3) {
			take.opcode = PST_OP_SNAP_DESTROY;
			assert_int_equal(ops_run(s, &take), 0);
			model_apply(m, &take, 0);
			take.opcode = PST_OP_SNAP_CREATE;
		}
		assert_int_equal(ops_run(s, &take), 0);
		model_apply(m, &take, 0);
		if (model_diff(m, s, &err))
			fail_msg("round %u: %s", round, err.text);
		maybe_reopen(state);
		s = store_of(state);
		if (model_diff(m, s, &err))
			fail_msg("round %u, opened again: %s", round, err.text);
	}
	model_free(m);
}

const struct CMUnitTest contract_more_cases[] = {
        CASE(snap_life),
        CASE(snap_view),
        CASE(snap_readonly),
        CASE(snap_space),
        CASE(quota_bytes),
        CASE(quota_objects),
        CASE(replay),
        CASE(replay_failure),
        CASE(replay_write),
        CASE(concurrent_appends),
        CASE(concurrent_overwrites),
        CASE(concurrent_conditions),
        CASE(cancel_any),
        CASE(deadline_passed),
        CASE(unknown_opcode),
        CASE(no_object_zero),
        CASE(volatile_flush),
        CASE(random_against_model),
};
const size_t contract_more_count = ARRAY_LEN(contract_more_cases);
