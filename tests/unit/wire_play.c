/* SPDX-License-Identifier: BSD-3-Clause */
#include "wire_play.h"

const char *golden_path;
bool golden_print;

/* --- golden lines --- */

void golden(const char *name, const void *bytes, size_t len)
{
	static char hex[128 * 1024], line[128 * 1024];
	size_t name_len = strlen(name);
	bool found = false;
	FILE *f;

	for (size_t i = 0; i < len; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", ((const uint8_t *)bytes)[i]);
	hex[2 * len] = 0;
	if (golden_print) {
		(void)printf("%s %s\n", name, hex);
		return;
	}
	f = fopen(golden_path, "r");
	assert_non_null(f);
	while (!found && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		found = !strncmp(line, name, name_len) && line[name_len] == ' ';
	}
	(void)fclose(f);
	if (!found)
		fail_msg("%s: no golden line: %s", name, hex);
	if (strcmp(line + name_len + 1, hex))
		fail_msg("%s:\n%s\nis not\n%s", name, hex, line + name_len + 1);
}

/* --- a client on a tape --- */

struct play_env env;

static void welcome_it(struct tape *t)
{
	uint8_t msg[512];
	struct wire_welcome w = {.version = 1,
	                         .session = 0x5e5510,
	                         .opening = 3,
	                         .epoch = 9,
	                         .caps = 0x1ff,
	                         .slots = 64,
	                         .depth = 32,
	                         .lease_ms = 60000,
	                         .expiry_s = 3600,
	                         .text = "golden",
	                         .text_len = 6};
	uint32_t len;

	memset(w.secret, 0x5e, 16);
	memset(w.store, 0x51, 16);
	len = wire_welcome_put(msg, sizeof(msg), &w);
	golden("WELCOME", msg, len);
	tape_say(t, msg, len);
}

static void same_bytes(const char *what, const void *a, uint32_t a_len, const void *b,
                       uint32_t b_len)
{
	if (a_len != b_len || (a_len && memcmp(a, b, a_len)))
		fail_msg("%s: %s is not what was sent", env.name, what);
}

static void same_muts(const struct pst_op *got, const struct pst_op *want)
{
	assert_int_equal(got->mut_count, want->mut_count);
	for (uint32_t i = 0; i < got->mut_count; i++) {
		const struct pst_mut *g = &got->muts[i], *w = &want->muts[i];

		assert_int_equal(g->kind, w->kind);
		assert_int_equal(g->err, w->err);
		assert_int_equal(g->oid.lo, w->oid.lo);
		same_bytes("key", g->key, g->key_len, w->key, w->key_len);
		if (w->val && !w->iov)
			same_bytes("value", g->val, g->val_len, w->val, w->val_len);
		if (w->kind != PST_ARRAY_APPEND)
			assert_int_equal(g->off, w->off);
	}
}

static void same_op(const struct pst_op *got, const struct pst_op *want, const struct wire_op *w)
{
	assert_int_equal(got->opcode, want->opcode);
	assert_int_equal(got->flags, want->flags);
	assert_int_equal(got->cont, want->cont);
	assert_int_equal(got->view, want->view);
	assert_int_equal(got->want_values, want->want_values);
	if (w->takes & WIRE_BIT(WIRE_F_KEY))
		same_bytes("key", got->key, got->key_len, want->key, want->key_len);
	if (w->takes & WIRE_BIT(WIRE_F_START))
		same_bytes("start", got->start, got->start_len, want->start, want->start_len);
	if (w->takes & WIRE_BIT(WIRE_F_NAME))
		same_bytes("name", got->name, got->name_len, want->name, want->name_len);
	if (w->takes & WIRE_BIT(WIRE_F_NAME2))
		same_bytes("name2", got->name2, got->name2_len, want->name2, want->name2_len);
	if (w->takes & WIRE_BIT(WIRE_F_DIRS)) {
		assert_int_equal(got->dir, want->dir);
		assert_int_equal(got->dir2, want->dir2);
	}
	if (w->takes & WIRE_BIT(WIRE_F_MASKS))
		assert_int_equal(got->attr_mask, want->attr_mask);
	if (w->takes & WIRE_BIT(WIRE_F_ATTR))
		assert_memory_equal(&got->attr, &want->attr, sizeof(got->attr));
	if (w->takes & WIRE_BIT(WIRE_F_MUTS))
		same_muts(got, want);
}

/* The server's part. */
static void answer(struct tape *t, const struct wire_req *m, struct pst_op *op)
{
	static uint8_t msg[32 * KIB], payload[8 * KIB];
	struct wire_out out = {
	        .at = msg + sizeof(struct wire_resp),
	        .end = msg + sizeof(msg),
	        .version = 1}; /* one back: what it says of version 2 is in test_wire.c */
	struct wire_resp r = {.kind = WIRE_RESP, .version = 1, .opcode = m->opcode, .id = m->id};
	uint32_t len = 0;
	char name[64];

	if (env.fill)
		env.fill(op, payload, &len);
	assert_true(wire_answer_put(&out, op));
	r.status = op->status;
	r.ret_len = op->ret_len;
	r.ret_off = op->ret_off;
	r.index = op->ret_index;
	r.word = op->opcode <= PST_OP_SNAP_DESTROY ? op->cont : op->ino;
	r.len = len;
	r.body_len = (uint32_t)(out.at - msg - sizeof(r));
	if (len && m->what & WIRE_CRC) {
		r.what |= WIRE_CRC;
		r.crc = crc32c(0, payload, len);
	}
	wire_put_bytes(&out, payload, len);
	wire_resp_put(msg, &r);
	(void)snprintf(name, sizeof(name), "RESP-%s", env.name);
	golden(name, msg, (size_t)(out.at - msg));
	tape_say(t, msg, (uint32_t)(out.at - msg));
}

static void on_req(struct tape *t, const void *msg, uint32_t len)
{
	const struct wire_op *w;
	struct pst_op op = {0};
	struct wire_in in;
	struct wire_req m;
	const uint8_t *at = msg;
	char name[64];

	(void)snprintf(name, sizeof(name), "REQ-%s", env.name);
	golden(name, msg, len);
	env.requests++;
	wire_req_get(&m, msg);
	assert_true(wire_req_sane(&m, len));
	w = wire_op_of(m.opcode);
	assert_non_null(w);
	op.opcode = m.opcode;
	op.flags = m.flags;
	op.cont = m.cont;
	op.view = m.view;
	op.want_values = m.what & WIRE_VALUES;
	op.ret_index = UINT32_MAX;
	at += sizeof(m) + (m.what & WIRE_WINDOW ? sizeof(struct wire_desc) : 0);
	in = (struct wire_in){.at = at, .end = at + m.body_len, .version = m.version};
	assert_int_equal(wire_body_get(&in, &op, &env.scratch, w->is & WIRE_OP_BATCH ? m.len : 0),
	                 0);
	at += m.body_len;
	if (w->is & WIRE_OP_BATCH)
		wire_batch_place(&op, &env.scratch, (uint8_t *)(uintptr_t)at);
	same_op(&op, env.expect, w);
	answer(t, &m, &op);
}

static void on_sent(struct tape *t, const void *msg, uint32_t len)
{
	switch (*(const uint8_t *)msg) {
	case WIRE_HELLO:
		golden("HELLO", msg, len);
		welcome_it(t);
		break;
	case WIRE_REQ:
		on_req(t, msg, len);
		break;
	default:
		fail_msg("a message of kind %u", *(const uint8_t *)msg);
	}
}

static void made(struct tape *t)
{
	env.tape = t;
	t->sent = on_sent;
}

int play_setup(void **state)
{
	struct remote_opts o = {.at = {{.provider = "tape", .addr = "golden"}},
	                        .at_count = 1,
	                        .seed = 1,
	                        .name = "golden"};
	struct loop_opts lo;
	struct pst_err err;

	memset(&env, 0, sizeof(env));
	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = NSEC_PER_SEC;
	assert_int_equal(loop_new(&env.loop, &lo, NULL), 0);
	tape_made = made;
	o.cred = "token";
	o.volatile_ok = true;
	assert_int_equal(remote_open(&env.store, env.loop, &o, &err), 0);
	return 0;
}

int play_teardown(void **state)
{
	assert_int_equal(store_close(env.store), 0);
	assert_int_equal(tape_alive(), 0);
	loop_free(env.loop);
	return 0;
}

void play_done(struct pst_op *op)
{
	env.ended = true;
}

/* Sends @op; the answer has what @fill gives. */
int play(const char *name, struct pst_op *op,
         void (*fill)(struct pst_op *op, void *payload, uint32_t *ret_len))
{
	env.name = name;
	env.expect = op;
	env.fill = fill;
	env.ended = false;
	env.requests = 0;
	op->done = play_done;
	assert_int_equal(store_submit(env.store, op), PST_QUEUED);
	for (unsigned i = 0; i < 20 && !env.ended; i++)
		(void)loop_turn(env.loop, NSEC_PER_MSEC);
	assert_true(env.ended);
	assert_int_equal(env.requests, 1);
	return op->status;
}
