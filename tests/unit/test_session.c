/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_session - sessions: opened, resumed and fenced, their slots, what they hold open, limits, ends,
 * and what a restart leaves of them.
 */
#include "session_util.h"

#define OWNER 1000

static struct pst_mut put_muts[128]; /* those of ops under way */
static unsigned put_next;

/* A kv-put into object 1 of @cont: key "k", one byte. */
static struct pst_op put_op(uint32_t cont, const char *val)
{
	struct pst_mut *m = &put_muts[put_next++ % ARRAY_LEN(put_muts)];

	*m = (struct pst_mut)MUT_PUT(oid_of(1), "k", val, 1);
	return (struct pst_op){.opcode = PST_OP_BATCH, .cont = cont, .muts = m, .mut_count = 1};
}

static int value_of(struct sx *x, uint32_t cont)
{
	char v = 0;

	return ops_kv_get(x->fs, cont, 0, oid_of(1), "k", &v, 1, NULL) ? 0 : v;
}

static struct pst_op with_token(const struct client *c, struct pst_op op, uint32_t slot,
                                uint64_t seq)
{
	op.token = (struct pst_token){.session = c->number, .slot = slot, .seq = seq};
	return op;
}

static bool is_batch(const struct pst_op *op)
{
	/* Not those of the table itself. */
	return op->opcode == PST_OP_BATCH && (op->token.session || op->mut_count == 0);
}

static void test_open_close(void **state)
{
	struct sx x = {.opts.owner_uid = OWNER};
	struct client c = {0}, d = {.slots = 7};
	struct ident nobody = {0};
	struct table_figures f;

	sx_start(&x);
	assert_int_equal(client_open_as(&c, &x, &nobody), -EACCES);
	assert_true(sx_audited(&x, AUDIT_SESSION_OPEN, -EACCES));
	assert_int_equal(client_open_owner(&c, &x), 0);
	assert_int_equal(c.slots, 64);
	assert_int_equal(client_open_owner(&d, &x), 0);
	assert_int_equal(d.slots, 7);
	assert_true(c.number && d.number && c.number != d.number);
	assert_string_equal(session_ident(c.conn.session)->who, "uid:1000");
	assert_true(session_is_admin(c.conn.session));
	session_table_figures(x.t, &f);
	assert_int_equal(f.sessions, 2);
	assert_int_equal(client_bye(&c), 0);
	assert_int_equal(client_bye(&d), 0);
	session_table_figures(x.t, &f);
	assert_int_equal(f.sessions, 0);
	assert_int_equal(f.conns, 0);
	/* What was closed can't be resumed. */
	client_link(&c, &x);
	assert_int_equal(client_resume(&c), -ESTALE);
	client_unlink(&c);
	d = (struct client){.slots = SESSION_SLOTS_MAX + 1};
	assert_int_equal(client_open_owner(&d, &x), -EINVAL);
	sx_end(&x);
}

/* The connection goes while the session's record is on its way: nothing is left. */
static int abandoned_status;

static void abandoned_done(struct session_open *o, int status)
{
	abandoned_status = status;
}

static void test_open_abandoned(void **state)
{
	struct sx x = {.opts.owner_uid = OWNER};
	struct session_conn conn;
	struct session_open o = {.conn = &conn, .done = abandoned_done};
	struct table_figures f;

	sx_start(&x);
	assert_int_equal(session_auth_peer(x.t, &o.ident, OWNER, 1), 0);
	session_conn_init(&conn, x.t, NULL);
	assert_int_equal(session_open(&o), 0);
	abandoned_status = 1;
	session_conn_done(&conn);
	while (abandoned_status == 1)
		(void)loop_turn(x.eng.loop, NSEC_PER_SEC);
	assert_int_equal(abandoned_status, -ECONNABORTED);
	sx_turn(&x);
	session_table_figures(x.t, &f);
	assert_int_equal(f.sessions, 0);
	sx_restart(&x);
	session_table_figures(x.t, &f);
	assert_int_equal(f.sessions, 0);
	sx_end(&x);
}

/* Sequence numbers, in all ways that they can come: section 1.1 of the design. */
static void test_slots(void **state)
{
	struct sx x = {.opts.owner_uid = OWNER};
	struct client c = {0};
	uint64_t records;
	struct pst_op op;
	uint32_t cont;

	sx_start(&x);
	cont = sx_cont(&x, "a", PST_LAYOUT_OBJECT);
	assert_int_equal(client_open_owner(&c, &x), 0);
	op = with_token(&c, put_op(cont, "1"), 0, 1);
	assert_int_equal(client_run(&c, &op), 0);
	op = with_token(&c, put_op(cont, "2"), 0, 2);
	assert_int_equal(client_run(&c, &op), 0);
	assert_int_equal(value_of(&x, cont), '2');
	/* Again: answered, not executed. */
	records = sx_records(&x);
	op = with_token(&c, put_op(cont, "x"), 0, 2);
	assert_int_equal(client_run(&c, &op), 0);
	assert_int_equal(value_of(&x, cont), '2');
	/* Older: refused. */
	op = with_token(&c, put_op(cont, "x"), 0, 1);
	assert_int_equal(client_run(&c, &op), -ESTALE);
	assert_int_equal(sx_records(&x), records);
	/* Slots don't know of each other. */
	op = with_token(&c, put_op(cont, "3"), 63, 1);
	assert_int_equal(client_run(&c, &op), 0);
	/* A gap ends the session. */
	op = with_token(&c, put_op(cont, "x"), 0, 4);
	assert_int_equal(client_run(&c, &op), -ECONNABORTED);
	assert_int_equal(c.cut, -EPROTO);
	assert_true(sx_audited(&x, AUDIT_SESSION_CUT, -EPROTO));
	assert_int_equal(value_of(&x, cont), '3');
	client_unlink(&c);
	sx_turn(&x);
	client_link(&c, &x);
	assert_int_equal(client_resume(&c), -ESTALE);
	client_unlink(&c);
	sx_end(&x);
}

static void test_bad_tokens(void **state)
{
	struct sx x = {.opts.owner_uid = OWNER};
	uint32_t cont;

	sx_start(&x);
	cont = sx_cont(&x, "a", PST_LAYOUT_OBJECT);
	for (unsigned i = 0; i < 4; i++) {
		struct client c = {0}, other = {0};
		struct pst_op op;

		assert_int_equal(client_open_owner(&c, &x), 0);
		assert_int_equal(client_open_owner(&other, &x), 0);
		op = with_token(&c, put_op(cont, "x"), 0, 1);
		op.token.session = i == 0 ? c.number + 1 : op.token.session;
		op.token.slot = i == 1 ? 64 : op.token.slot;
		op.token.seq = i == 2 ? 0 : op.token.seq;
		op.token.session = i == 3 ? other.number : op.token.session;
		assert_int_equal(client_run(&c, &op), -ECONNABORTED);
		assert_int_equal(c.cut, -EPROTO);
		client_unlink(&c);
		assert_int_equal(client_bye(&other), 0);
	}
	assert_int_equal(value_of(&x, cont), 0);
	sx_end(&x);
}

/* The same request while the first still runs: it waits, and both are answered. */
static void test_parked(void **state)
{
	struct sx x = {.opts.owner_uid = OWNER};
	struct client c = {0}, again;
	struct creq q = {0}, q2 = {0};
	uint32_t cont;

	sx_start(&x);
	cont = sx_cont(&x, "a", PST_LAYOUT_OBJECT);
	assert_int_equal(client_open_owner(&c, &x), 0);
	x.hold = is_batch;
	q.r.op = with_token(&c, put_op(cont, "1"), 0, 1);
	creq_start(&q, &c);
	assert_int_equal(x.held_count, 1);
	/* The connection breaks; the client comes again and sends it again. */
	again = (struct client){.number = c.number};
	memcpy(again.secret, c.secret, sizeof(c.secret));
	client_unlink(&c);
	client_link(&again, &x);
	assert_int_equal(client_resume(&again), 0);
	q2.r.op = with_token(&again, put_op(cont, "1"), 0, 1);
	creq_start(&q2, &again);
	assert_int_equal(q2.admit, -EINPROGRESS);
	sx_turn(&x);
	assert_int_equal(q2.status, 1);
	assert_int_equal(x.held_count, 1);
	sx_release(&x);
	assert_int_equal(creq_wait(&q), 0);
	assert_int_equal(creq_wait(&q2), 0);
	assert_int_equal(value_of(&x, cont), '1');
	assert_int_equal(client_bye(&again), 0);
	sx_end(&x);
}

/* Resuming fences: what the old connection sends afterwards reaches nothing. */
static void test_fence(void **state)
{
	struct sx x = {.opts.owner_uid = OWNER};
	struct client c = {0}, again;
	struct pst_op op;
	uint32_t cont;
	uint8_t wrong[SESSION_SECRET_BYTES];

	sx_start(&x);
	cont = sx_cont(&x, "a", PST_LAYOUT_OBJECT);
	assert_int_equal(client_open_owner(&c, &x), 0);
	again = (struct client){.number = c.number};
	memcpy(again.secret, c.secret, sizeof(c.secret));
	client_link(&again, &x);
	memcpy(wrong, c.secret, sizeof(wrong));
	wrong[3] ^= 1;
	assert_int_equal(session_resume(&again.conn, c.number, wrong), -EACCES);
	assert_true(sx_audited(&x, AUDIT_SESSION_RESUME, -EACCES));
	assert_int_equal(session_resume(&again.conn, c.number + 1, c.secret), -ESTALE);
	assert_int_equal(c.cut, 0);
	assert_int_equal(client_resume(&again), 0);
	assert_int_equal(c.cut, -ESTALE);
	op = with_token(&c, put_op(cont, "x"), 0, 1);
	assert_int_equal(client_run(&c, &op), -ECONNABORTED);
	assert_int_equal(value_of(&x, cont), 0);
	op = with_token(&again, put_op(cont, "1"), 0, 1);
	assert_int_equal(client_run(&again, &op), 0);
	client_unlink(&c);
	assert_int_equal(client_bye(&again), 0);
	sx_end(&x);
}

/* "Was this done?": after "no" it never will be. */
static void test_probe(void **state)
{
	struct sx x = {.opts.owner_uid = OWNER};
	struct client c = {0};
	struct creq q = {0}, ask = {0}, late = {0};
	struct pst_op op;
	uint32_t cont;

	sx_start(&x);
	cont = sx_cont(&x, "a", PST_LAYOUT_OBJECT);
	assert_int_equal(client_open_owner(&c, &x), 0);
	op = with_token(&c, (struct pst_op){.opcode = PST_OP_BATCH, .cont = cont}, 0, 1);
	assert_int_equal(client_run(&c, &op), -ENOENT);
	op = with_token(&c, put_op(cont, "x"), 0, 1);
	assert_int_equal(client_run(&c, &op), -ESTALE);
	assert_int_equal(value_of(&x, cont), 0);
	op = with_token(&c, put_op(cont, "2"), 0, 2);
	assert_int_equal(client_run(&c, &op), 0);
	op = with_token(&c, (struct pst_op){.opcode = PST_OP_BATCH, .cont = cont}, 0, 2);
	assert_int_equal(client_run(&c, &op), 0);
	/* Asked while it runs: the question waits. */
	x.hold = is_batch;
	q.r.op = with_token(&c, put_op(cont, "3"), 0, 3);
	creq_start(&q, &c);
	ask.r.op = with_token(&c, (struct pst_op){.opcode = PST_OP_BATCH, .cont = cont}, 0, 3);
	creq_start(&ask, &c);
	assert_int_equal(ask.admit, -EINPROGRESS);
	sx_release(&x);
	assert_int_equal(creq_wait(&q), 0);
	assert_int_equal(creq_wait(&ask), 0);
	assert_int_equal(value_of(&x, cont), '3');
	/* The question runs when the request comes: answered no, so the request is refused. */
	x.hold = is_batch;
	ask.r.op = with_token(&c, (struct pst_op){.opcode = PST_OP_BATCH, .cont = cont}, 0, 4);
	creq_start(&ask, &c);
	late.r.op = with_token(&c, put_op(cont, "4"), 0, 4);
	creq_start(&late, &c);
	sx_release(&x);
	assert_int_equal(creq_wait(&ask), -ENOENT);
	assert_int_equal(creq_wait(&late), -ESTALE);
	assert_int_equal(value_of(&x, cont), '3');
	assert_int_equal(client_bye(&c), 0);
	sx_end(&x);
}

/* A crash in between: the session resumes, and a repeat is answered. */
static void test_restart(void **state)
{
	struct sx x = {.opts.owner_uid = OWNER};
	struct client c = {.slots = 8};
	struct pst_op op;
	uint64_t records;
	uint32_t cont;

	sx_start(&x);
	cont = sx_cont(&x, "a", PST_LAYOUT_OBJECT);
	assert_int_equal(client_open_owner(&c, &x), 0);
	op = with_token(&c, put_op(cont, "1"), 3, 1);
	assert_int_equal(client_run(&c, &op), 0);
	for (unsigned i = 0; i < 2; i++) {
		client_unlink(&c);
		if (i)
			sx_restart(&x);
		else
			sx_cut(&x);
		client_link(&c, &x);
		assert_int_equal(client_resume(&c), 0);
		assert_int_equal(session_slots(c.conn.session), 8);
		assert_string_equal(session_ident(c.conn.session)->who, "uid:1000");
		records = sx_records(&x);
		op = with_token(&c, put_op(cont, "x"), 3, 1 + i);
		assert_int_equal(client_run(&c, &op), 0);
		assert_int_equal(value_of(&x, cont), '1' + i);
		assert_int_equal(sx_records(&x), records);
		op = with_token(&c, put_op(cont, "2"), 3, 2 + i);
		assert_int_equal(client_run(&c, &op), 0);
		assert_int_equal(value_of(&x, cont), '2');
	}
	/* Closed, it is gone from the store too, answers and all. */
	assert_int_equal(client_bye(&c), 0);
	for (unsigned s = 0; s < eng_local(&x.eng)->geo.shards; s++)
		assert_false(session_known(eng_local(&x.eng)->shard[s], c.number));
	sx_cut(&x);
	client_link(&c, &x);
	assert_int_equal(client_resume(&c), -ESTALE);
	client_unlink(&c);
	sx_end(&x);
}

static struct pst_op create_op(struct client *c, uint32_t cont, const char *name, uint32_t slot,
                               uint64_t seq)
{
	return with_token(c, names_op(PST_OP_CREATE, cont, name), slot, seq);
}

static struct cap_op prefix_grant(struct sx *x, const char *cont, const char *prefix)
{
	struct cap_info i = {.rights = RIGHTS_ALL};
	struct cap_op o;

	(void)snprintf(i.cont_name, sizeof(i.cont_name), "%s", cont);
	(void)snprintf(i.prefix, sizeof(i.prefix), "%s", prefix);
	assert_int_equal(sx_grant(x, &i, &o), 0);
	return o;
}

/*
 * After a restart the slot knows nothing: an answer is found by its number alone, and with it came an inode
 * and a handle for it. Another container's is not told. By which of two capabilities for one directory it
 * comes is all the same.
 */
static void test_restart_other_request(void **state)
{
	struct sx x = {.opts.owner_uid = OWNER};
	struct client c = {.slots = 8};
	struct cap_op in_a, also, in_b;
	struct ident id = {0};
	uint32_t a, b;
	uint64_t ino;
	struct pst_op op;

	sx_start(&x);
	a = sx_cont(&x, "a", PST_LAYOUT_POSIX);
	b = sx_cont(&x, "b", PST_LAYOUT_POSIX);
	assert_int_equal(client_open_owner(&c, &x), 0);
	for (unsigned i = 0; i < 2; i++) {
		op = names_op(PST_OP_MKDIR, i ? b : a, "dir");
		assert_int_equal(client_run(&c, &op), 0);
	}
	assert_int_equal(client_bye(&c), 0);
	in_a = prefix_grant(&x, "a", "dir");
	also = prefix_grant(&x, "a", "dir");
	in_b = prefix_grant(&x, "b", "dir");
	assert_int_equal(session_auth_token(x.t, &id, in_a.token, strlen(in_a.token)), 0);
	assert_int_equal(session_auth_token(x.t, &id, also.token, strlen(also.token)), 0);
	assert_int_equal(session_auth_token(x.t, &id, in_b.token, strlen(in_b.token)), 0);
	c = (struct client){.slots = 8};
	assert_int_equal(client_open_as(&c, &x, &id), 0);
	op = create_op(&c, a, "f", 3, 1);
	assert_int_equal(client_run(&c, &op), 0);
	assert_true(c.has_got);
	ino = op.ino;
	for (unsigned i = 0; i < 4; i++) {
		client_unlink(&c);
		sx_cut(&x);
		if (i == 3) /* the one that a request is allowed by first */
			assert_int_equal(sx_revoke(&x, in_a.info.id), 0);
		client_link(&c, &x);
		assert_int_equal(client_resume(&c), 0);
		op = create_op(&c, i ? a : b, "f", 3, 1);
		op.opcode = i == 1 ? PST_OP_MKDIR : PST_OP_CREATE;
		assert_int_equal(client_run(&c, &op), i >= 2 ? 0 : -ESTALE);
		assert_int_equal(c.has_got, i >= 2);
		if (i >= 2)
			assert_int_equal(op.ino, ino);
	}
	assert_int_equal(client_lookup(&c, b, "f", NULL), -ENOENT);
	assert_int_equal(client_bye(&c), 0);
	sx_end(&x);
}

static void test_expiry(void **state)
{
	struct sx x = {.opts = {.owner_uid = OWNER,
	                        .lease_ns = NSEC_PER_SEC,
	                        .expiry_ns = 10 * NSEC_PER_SEC}};
	struct client c = {0}, stays = {0};
	struct table_figures f;
	uint64_t ino;
	uint32_t cont;
	struct pst_op op;

	sx_start(&x);
	cont = sx_cont(&x, "a", PST_LAYOUT_POSIX);
	assert_int_equal(client_open_owner(&c, &x), 0);
	assert_int_equal(client_open_owner(&stays, &x), 0);
	assert_int_equal(client_create(&c, cont, "f", "text", &ino), 0);
	op = names_op(PST_OP_FILE_OPEN, cont, "f");
	assert_int_equal(client_run(&c, &op), 0);
	assert_true(held_find(c.conn.session, cont, ino));
	client_unlink(&c);
	sx_sleep(&x, 2 * NSEC_PER_SEC);
	/* The lease is over: what it held is let go. */
	assert_int_equal(x.passed[PST_OP_FILE_CLOSE], 1);
	client_link(&c, &x);
	assert_int_equal(client_resume(&c), 0);
	assert_false(held_find(c.conn.session, cont, ino));
	client_unlink(&c);
	sx_sleep(&x, 20 * NSEC_PER_SEC);
	session_table_figures(x.t, &f);
	assert_int_equal(f.expired, 1);
	assert_int_equal(f.sessions, 1); /* one that is connected does not expire */
	client_link(&c, &x);
	assert_int_equal(client_resume(&c), -ESTALE);
	client_unlink(&c);
	assert_int_equal(client_bye(&stays), 0);
	sx_end(&x);
}

/* Inodes held open belong to a session. */
static void test_held(void **state)
{
	struct sx x = {.opts = {.owner_uid = OWNER, .opens_max = 40}};
	struct client a = {0}, b = {0};
	uint64_t ino, many[40];
	struct pst_op op;
	uint32_t cont;
	char buf[16];

	sx_start(&x);
	cont = sx_cont(&x, "a", PST_LAYOUT_POSIX);
	assert_int_equal(client_open_owner(&a, &x), 0);
	assert_int_equal(client_open_owner(&b, &x), 0);
	assert_int_equal(client_create(&a, cont, "f", "text", &ino), 0);
	for (unsigned i = 0; i < 3; i++) { /* repeats are held once */
		op = names_op(PST_OP_FILE_OPEN, cont, "f");
		assert_int_equal(client_run(&a, &op), 0);
	}
	sx_turn(&x);
	op = names_op(PST_OP_UNLINK, cont, "f");
	assert_int_equal(client_run(&a, &op), 0);
	/* Another one's close is without effect, and so is one more than needed. */
	op = (struct pst_op){.opcode = PST_OP_FILE_CLOSE, .cont = cont, .ino = ino};
	assert_int_equal(client_run(&b, &op), 0);
	assert_int_equal(client_read(&b, cont, ino, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "text");
	op = (struct pst_op){.opcode = PST_OP_FILE_CLOSE, .cont = cont, .ino = ino};
	assert_int_equal(client_run(&a, &op), 0);
	assert_int_equal(client_run(&a, &op), 0);
	assert_int_equal(client_read(&b, cont, ino, buf, sizeof(buf)), -ESTALE);
	/* As many as are allowed. */
	for (unsigned i = 0; i < 40; i++) {
		op = names_op(PST_OP_CREATE, cont, NULL);
		assert_int_equal(client_run(&a, &op), 0);
		many[i] = op.ino;
	}
	op = names_op(PST_OP_CREATE, cont, NULL);
	assert_int_equal(client_run(&a, &op), -ENFILE);
	for (unsigned i = 0; i < 40; i += 2) {
		op = (struct pst_op){.opcode = PST_OP_FILE_CLOSE, .cont = cont, .ino = many[i]};
		assert_int_equal(client_run(&a, &op), 0);
	}
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(held_find(a.conn.session, cont, many[i]), i % 2);
	/* With the session the rest goes, and the files with it. */
	assert_int_equal(client_bye(&a), 0);
	assert_int_equal(client_read(&b, cont, many[1], buf, sizeof(buf)), -ESTALE);
	assert_int_equal(client_bye(&b), 0);
	sx_end(&x);
}

static bool is_close(const struct pst_op *op)
{
	return op->opcode == PST_OP_FILE_CLOSE;
}

/* Two closes at a time of what two sessions hold: the other one's hold stays. */
static void test_held_twice(void **state)
{
	struct sx x = {.opts.owner_uid = OWNER};
	struct client a = {0}, b = {0};
	struct creq q[2];
	struct pst_op op;
	uint64_t ino;
	uint32_t cont;
	char buf[16];

	memset(q, 0, sizeof(q));
	sx_start(&x);
	cont = sx_cont(&x, "a", PST_LAYOUT_POSIX);
	assert_int_equal(client_open_owner(&a, &x), 0);
	assert_int_equal(client_open_owner(&b, &x), 0);
	assert_int_equal(client_create(&a, cont, "f", "text", &ino), 0);
	op = names_op(PST_OP_FILE_OPEN, cont, "f");
	assert_int_equal(client_run(&a, &op), 0);
	op = names_op(PST_OP_FILE_OPEN, cont, "f");
	assert_int_equal(client_run(&b, &op), 0);
	x.hold = is_close;
	for (unsigned i = 0; i < 2; i++) {
		q[i].r.op = (struct pst_op){.opcode = PST_OP_FILE_CLOSE, .cont = cont, .ino = ino};
		creq_start(&q[i], &a);
	}
	assert_int_equal(x.held_count, 1);
	assert_false(held_find(a.conn.session, cont, ino));
	sx_release(&x);
	assert_int_equal(creq_wait(&q[0]), 0);
	assert_int_equal(creq_wait(&q[1]), 0);
	op = names_op(PST_OP_UNLINK, cont, "f");
	assert_int_equal(client_run(&a, &op), 0);
	assert_int_equal(client_read(&b, cont, ino, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "text");
	assert_int_equal(client_bye(&a), 0);
	assert_int_equal(client_bye(&b), 0);
	sx_end(&x);
}

/* Depth and bytes: what is above is refused, and nothing is kept of it. */
static void test_limits(void **state)
{
	struct sx x = {.opts = {.owner_uid = OWNER,
	                        .session = {.depth_max = 4, .bytes_max = 100000},
	                        .sessions_max = 2}};
	struct client c = {0}, d = {0}, e = {0};
	static char data[60000];
	struct iovec iov = {data, sizeof(data)};
	struct creq q[5];
	uint32_t cont;

	sx_start(&x);
	cont = sx_cont(&x, "a", PST_LAYOUT_OBJECT);
	assert_int_equal(client_open_owner(&c, &x), 0);
	assert_int_equal(client_open_owner(&d, &x), 0);
	assert_int_equal(client_open_owner(&e, &x), -EAGAIN);
	x.hold = is_batch;
	memset(q, 0, sizeof(q));
	for (unsigned i = 0; i < 5; i++) {
		q[i].r.op = with_token(&c, put_op(cont, "1"), i, 1);
		creq_start(&q[i], &c);
		assert_int_equal(q[i].admit, i == 4 ? -EAGAIN : 0);
	}
	sx_release(&x);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(creq_wait(&q[i]), 0);
	/* The refused one may come again under its number. */
	q[4].r.op = with_token(&c, put_op(cont, "5"), 4, 1);
	creq_start(&q[4], &c);
	assert_int_equal(creq_wait(&q[4]), 0);
	memset(q, 0, sizeof(q));
	for (unsigned i = 0; i < 2; i++) {
		x.busy = true;
		q[i].r.op = (struct pst_op){.opcode = PST_OP_WRITE,
		                            .cont = cont,
		                            .oid = oid_of(2),
		                            .len = sizeof(data),
		                            .iov = &iov,
		                            .iov_count = 1};
		creq_start(&q[i], &c);
		assert_int_equal(q[i].admit, i ? -EAGAIN : 0);
	}
	x.busy = false;
	assert_int_equal(creq_wait(&q[0]), 0);
	assert_int_equal(client_bye(&c), 0);
	assert_int_equal(client_bye(&d), 0);
	sx_end(&x);
}

/* Lets through what is held now, and holds what comes. */
static void open_once(struct sx *x)
{
	struct list now;

	list_init(&now);
	list_splice(&now, &x->held);
	x->held_count = 0;
	while (!list_empty(&now)) {
		struct pst_op *op = list_entry(list_pop(&now), struct pst_op, link);

		if (store_submit(x->fs, op) == PST_DONE)
			op->done(op);
	}
	sx_turn(x);
}

/* Few run at a time; who floods waits behind its own, and rates are kept to. */
static void test_queue(void **state)
{
	enum { FLOOD = 64 };
	struct sx x = {.opts = {.owner_uid = OWNER, .running_max = 2}};
	struct client flood = {0}, light = {0};
	static struct creq q[FLOOD], l;
	unsigned rounds = 0;
	uint32_t cont;

	sx_start(&x);
	cont = sx_cont(&x, "a", PST_LAYOUT_OBJECT);
	assert_int_equal(client_open_owner(&flood, &x), 0);
	assert_int_equal(client_open_owner(&light, &x), 0);
	x.hold = is_batch;
	for (unsigned i = 0; i < FLOOD; i++) {
		q[i].r.op = with_token(&flood, put_op(cont, "1"), i, 1);
		creq_start(&q[i], &flood);
		assert_int_equal(q[i].admit, i < 2 ? 0 : -EINPROGRESS);
	}
	l.r.op = with_token(&light, put_op(cont, "9"), 0, 1);
	creq_start(&l, &light);
	assert_int_equal(l.admit, -EINPROGRESS);
	/* Two at a time: those that run, one of the flood's, then the light one's. */
	for (; l.status == 1; rounds++) {
		open_once(&x);
		assert_true(rounds < 3);
	}
	assert_int_equal(l.status, 0);
	sx_release(&x);
	for (unsigned i = 0; i < FLOOD; i++)
		assert_int_equal(creq_wait(&q[i]), 0);
	assert_int_equal(client_bye(&flood), 0);
	assert_int_equal(client_bye(&light), 0);
	sx_end(&x);
}

/* A connection that goes takes what waits with it, and what runs ends by itself. */
static void test_unlink_while_waiting(void **state)
{
	struct sx x = {.opts = {.owner_uid = OWNER, .running_max = 1}};
	struct client c = {0};
	struct creq q[3];
	uint32_t cont;

	memset(q, 0, sizeof(q));
	sx_start(&x);
	cont = sx_cont(&x, "a", PST_LAYOUT_OBJECT);
	assert_int_equal(client_open_owner(&c, &x), 0);
	x.hold = is_batch;
	for (unsigned i = 0; i < 3; i++) {
		q[i].r.op = with_token(&c, put_op(cont, i ? "2" : "1"), i, 1);
		creq_start(&q[i], &c);
	}
	client_unlink(&c);
	assert_int_equal(q[1].status, -ECONNABORTED);
	assert_int_equal(q[2].status, -ECONNABORTED);
	assert_int_equal(q[0].status, 1);
	sx_release(&x);
	assert_int_equal(creq_wait(&q[0]), 0);
	assert_int_equal(value_of(&x, cont), '1');
	/* The dropped ones come again. */
	client_link(&c, &x);
	assert_int_equal(client_resume(&c), 0);
	for (unsigned i = 0; i < 3; i++) {
		q[i].r.op = with_token(&c, put_op(cont, i ? "2" : "x"), i, 1);
		creq_start(&q[i], &c);
		assert_int_equal(creq_wait(&q[i]), 0);
	}
	assert_int_equal(value_of(&x, cont), '2');
	assert_int_equal(client_bye(&c), 0);
	sx_end(&x);
}

/* Closing a session stops what runs. */
static void test_close_while_running(void **state)
{
	struct sx x = {.opts.owner_uid = OWNER};
	struct client c = {0};
	struct creq q = {0};
	uint32_t cont;

	sx_start(&x);
	cont = sx_cont(&x, "a", PST_LAYOUT_OBJECT);
	assert_int_equal(client_open_owner(&c, &x), 0);
	x.hold = is_batch;
	q.r.op = with_token(&c, put_op(cont, "1"), 0, 1);
	creq_start(&q, &c);
	assert_int_equal(client_bye(&c), 0);
	sx_release(&x);
	assert_int_equal(creq_wait(&q), -ESTALE);
	sx_turn(&x);
	assert_int_equal(value_of(&x, cont), 0);
	sx_end(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_open_close),
	        cmocka_unit_test(test_open_abandoned),
	        cmocka_unit_test(test_slots),
	        cmocka_unit_test(test_bad_tokens),
	        cmocka_unit_test(test_parked),
	        cmocka_unit_test(test_fence),
	        cmocka_unit_test(test_probe),
	        cmocka_unit_test(test_restart),
	        cmocka_unit_test(test_restart_other_request),
	        cmocka_unit_test(test_expiry),
	        cmocka_unit_test(test_held),
	        cmocka_unit_test(test_held_twice),
	        cmocka_unit_test(test_limits),
	        cmocka_unit_test(test_queue),
	        cmocka_unit_test(test_unlink_while_waiting),
	        cmocka_unit_test(test_close_while_running),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
