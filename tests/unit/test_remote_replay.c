/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the store contract asks of replay, asked of a served store. The `remote` store gives its own tokens, so a
 * client that speaks by hand resends here what was answered: under the same number, on the same connection, on another
 * one that goes on with the session, and on one to a server that was killed and started again meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "raw_client.h"
#include "served.h"

#define NOW_NS (1700000000 * NSEC_PER_SEC)

enum again {
	AGAIN_HERE,    /* on the same connection */
	AGAIN_BACK,    /* on another one */
	AGAIN_STARTED, /* after the server was killed and started */
	AGAINS,
};

struct rig {
	struct served s;
	uint32_t cont;
	char token[CAP_TOKEN_MAX];
	struct raw_client raw;
};

static int setup(void **state)
{
	struct rig *g = calloc(1, sizeof(*g));
	struct cap_info i = {.rights = RIGHTS_ALL};

	assert_non_null(g);
	*state = g;
	served_start(&g->s, NOW_NS);
	assert_int_equal(ops_cont_create(g->s.store, "c", &g->cont), 0);
	i.cont = g->cont;
	served_grant(&g->s, &i);
	memcpy(g->token, g->s.op.token, sizeof(g->token));
	return 0;
}

static int teardown(void **state)
{
	struct rig *g = *state;

	raw_hang_up(&g->raw);
	served_end(&g->s);
	free(g);
	return 0;
}

static void come(struct rig *g)
{
	if (g->raw.loop)
		raw_hang_up(&g->raw);
	assert_int_equal(raw_open(&g->raw, g->s.loop, g->token), 0);
}

/* The answer was lost, and the client does what one does then. */
static void come_again(struct rig *g, enum again how)
{
	struct wire_welcome was = g->raw.welcome;
	struct wire_resp resp = g->raw.resp;

	if (how == AGAIN_HERE)
		return;
	raw_hang_up(&g->raw);
	if (how == AGAIN_STARTED)
		served_restart(&g->s);
	raw_connect(&g->raw, g->s.loop);
	assert_int_equal(raw_hello(&g->raw, g->token, &was), 0);
	assert_true(g->raw.welcome.resumed);
	assert_int_equal(g->raw.welcome.session, was.session);
	g->raw.resp = resp; /* to compare with */
}

static uint64_t size_of(struct rig *g, struct pst_oid oid)
{
	struct pst_obj_stat st;

	assert_int_equal(ops_stat(g->s.store, g->cont, 0, oid, &st), 0);
	return st.exists ? st.size_bytes : UINT64_MAX;
}

/* It is answered as it was, and nothing is made. */
static void same_answer(struct rig *g, const struct raw_req *q)
{
	struct wire_resp was = g->raw.resp;
	uint64_t records = served_records(&g->s);

	assert_int_equal(raw_run(&g->raw, q), 0);
	assert_int_equal(g->raw.resp.ret_len, was.ret_len);
	assert_int_equal(g->raw.resp.ret_off, was.ret_off);
	assert_int_equal(g->raw.resp.word, was.word);
	assert_int_equal(served_records(&g->s), records);
}

static struct raw_req batch(const struct rig *g, struct pst_mut *muts, uint32_t count, uint64_t seq)
{
	return (struct raw_req){.opcode = PST_OP_BATCH,
	                        .cont = g->cont,
	                        .muts = muts,
	                        .mut_count = count,
	                        .slot = 2,
	                        .seq = seq};
}

static void an_append(void **state)
{
	struct rig *g = *state;
	struct pst_oid o = oid_of(1);
	struct pst_mut m = {
	        .kind = PST_ARRAY_APPEND, .oid = o, .val = "abc", .val_len = 3, .len = 3};
	struct pst_mut gone = MUT_OFF(PST_OBJ_DELETE, o, 0, 0);

	for (enum again how = 0; how < AGAINS; how++) {
		struct raw_req q = batch(g, &m, 1, 1), ask = batch(g, NULL, 0, 1);

		come(g);
		assert_int_equal(raw_run(&g->raw, &q), 0);
		assert_int_equal(g->raw.resp.ret_off, 0);
		assert_int_equal(m.off, 0);
		/* What another one makes meanwhile stays. */
		assert_int_equal(ops_write(g->s.store, g->cont, o, 3, "defg", 4), 0);
		come_again(g, how);
		same_answer(g, &q);
		assert_int_equal(raw_run(&g->raw, &ask), 0); /* "was this done?" */
		assert_int_equal(g->raw.resp.ret_off, 0);
		assert_int_equal(size_of(g, o), 7);
		q.seq = 2; /* the next one is another change */
		assert_int_equal(raw_run(&g->raw, &q), 0);
		assert_int_equal(g->raw.resp.ret_off, 7);
		come_again(g, how);
		same_answer(g, &q);
		q.seq = 1; /* one that was answered, and known to be */
		assert_int_equal(raw_run(&g->raw, &q), -ESTALE);
		q = batch(g, &m, 1, 1);
		q.slot = 3; /* another slot has nothing to do with it */
		assert_int_equal(raw_run(&g->raw, &q), 0);
		assert_int_equal(size_of(g, o), 13);
		assert_int_equal(ops_batch(g->s.store, g->cont, &gone, 1), 0);
	}
}

/* The token is looked at before the conditions, which don't hold any more; and of a failure nothing is kept. */
static void conditions(void **state)
{
	struct rig *g = *state;
	struct pst_oid o = oid_of(1);
	struct pst_mut m[] = {MUT_KEY(PST_IF_KEY_ABSENT, o, "k", -EEXIST), MUT_PUT(o, "k", "v", 1)};
	struct pst_mut del = MUT_KEY(PST_KV_DEL, o, "k", 0);
	char v[4];

	for (enum again how = 0; how < AGAINS; how++) {
		struct raw_req q = batch(g, m, 2, 1);

		come(g);
		assert_int_equal(raw_run(&g->raw, &q), 0);
		come_again(g, how);
		same_answer(g, &q);
		q.seq = 2;
		assert_int_equal(raw_run(&g->raw, &q), -EEXIST);
		assert_int_equal(g->raw.resp.index, 0);
		come_again(g, how);
		assert_int_equal(raw_run(&g->raw, &q), -EEXIST);
		assert_int_equal(ops_batch(g->s.store, g->cont, &del, 1), 0);
		come_again(g, how);
		assert_int_equal(raw_run(&g->raw, &q), 0); /* now it is executed, and kept */
		assert_int_equal(ops_batch(g->s.store, g->cont, &del, 1), 0);
		come_again(g, how);
		same_answer(g, &q);
		assert_int_equal(ops_kv_get(g->s.store, g->cont, 0, o, "k", v, sizeof(v), NULL),
		                 -ENOENT);
	}
}

static void a_write(void **state)
{
	struct rig *g = *state;
	struct pst_oid o = oid_of(9);
	char got[5] = "";

	for (enum again how = 0; how < AGAINS; how++) {
		struct raw_req q = {.opcode = PST_OP_WRITE,
		                    .cont = g->cont,
		                    .ino = o.lo,
		                    .data = "old!",
		                    .len = 4,
		                    .seq = 1};

		come(g);
		assert_int_equal(raw_run(&g->raw, &q), 0);
		assert_int_equal(g->raw.resp.ret_len, 4);
		assert_int_equal(ops_write(g->s.store, g->cont, o, 0, "new!", 4), 0);
		come_again(g, how);
		same_answer(g, &q);
		assert_int_equal(ops_read(g->s.store, g->cont, 0, o, 0, got, 4, NULL), 0);
		assert_string_equal(got, "new!");
	}
}

/* The same number for something else: whose answer it is, is not told. */
static void another_request(void **state)
{
	struct rig *g = *state;
	struct pst_oid o = oid_of(9);
	struct pst_mut m = MUT_PUT(o, "k", "v", 1);

	for (enum again how = 0; how < AGAINS; how++) {
		struct raw_req q = {.opcode = PST_OP_WRITE,
		                    .cont = g->cont,
		                    .ino = o.lo,
		                    .data = "data",
		                    .len = 4,
		                    .slot = 2,
		                    .seq = 1};

		come(g);
		assert_int_equal(raw_run(&g->raw, &q), 0);
		come_again(g, how);
		q = batch(g, &m, 1, 1);
		/* A server that was started again knows the answer, and not the session's last request. */
		assert_int_equal(raw_run(&g->raw, &q),
		                 how == AGAIN_STARTED ? -ESTALE : -ECONNRESET);
		assert_int_equal(ops_kv_get(g->s.store, g->cont, 0, o, "k", &(char[4]){0}, 4, NULL),
		                 -ENOENT);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	static const struct CMUnitTest tests[] = {
	        T(an_append),
	        T(conditions),
	        T(a_write),
	        T(another_request),
	};

	pst_log_set(NULL, NULL, PST_LOG_ERROR);
	return cmocka_run_group_tests_name("remote_replay", tests, NULL, NULL);
}
