/* SPDX-License-Identifier: BSD-3-Clause */
#include "session_util.h"

/* --- stores in between --- */

static enum pst_outcome bottom_submit(struct store *s, struct pst_op *op)
{
	struct sx *x = container_of(s, struct sx, bottom);

	if (x->hold_below && x->hold_below(op)) {
		assert_null(x->held_below);
		x->hold_below = NULL;
		x->held_below = op;
		return PST_QUEUED;
	}
	return store_submit(x->eng.store, op);
}

void sx_release_below(struct sx *x)
{
	struct pst_op *op = x->held_below;

	x->held_below = NULL;
	if (store_submit(x->eng.store, op) == PST_DONE)
		op->done(op);
	sx_turn(x);
}

static void bottom_cancel(struct store *s, struct pst_op *op)
{
	struct sx *x = container_of(s, struct sx, bottom);

	store_cancel(x->eng.store, op);
}

static int stay_open(struct store *s)
{
	return 0;
}

static const struct store_ops bottom_ops = {"bottom", bottom_submit, bottom_cancel, stay_open};

static enum pst_outcome door_submit(struct store *s, struct pst_op *op)
{
	struct sx *x = container_of(s, struct sx, door);

	if (x->busy)
		return PST_BUSY;
	if (x->hold && x->hold(op)) {
		list_push(&x->held, &op->link);
		x->held_count++;
		return PST_QUEUED;
	}
	x->passed[op->opcode]++;
	return store_submit(x->fs, op);
}

static void door_cancel(struct store *s, struct pst_op *op)
{
	struct sx *x = container_of(s, struct sx, door);
	struct pst_op *o;

	list_for_each (o, &x->held, link)
		if (o == op) {
			op->status = -ECANCELED; /* when the door opens */
			return;
		}
	store_cancel(x->fs, op);
}

static const struct store_ops door_ops = {"door", door_submit, door_cancel, stay_open};

void sx_release(struct sx *x)
{
	struct list *n;

	x->hold = NULL;
	while ((n = list_pop(&x->held)) != NULL) {
		struct pst_op *op = list_entry(n, struct pst_op, link);

		x->held_count--;
		if (op->status == -ECANCELED) {
			op->done(op);
			continue;
		}
		x->passed[op->opcode]++;
		switch (store_submit(x->fs, op)) {
		case PST_DONE:
			op->done(op);
			break;
		case PST_BUSY:
			fail_msg("the store is busy");
			break;
		default:
			break;
		}
	}
	sx_turn(x);
}

/* --- the stack --- */

static void heard(void *arg, const struct audit_event *e)
{
	struct sx *x = arg;
	unsigned i = x->events++ % SX_EVENTS;

	x->event[i] = *e;
	(void)snprintf(x->who[i], sizeof(x->who[i]), "%s", e->who ? e->who : "");
	x->event[i].who = x->who[i];
	assert_true(audit_format(e, x->line, sizeof(x->line)) < sizeof(x->line));
	x->refused += e->status != 0;
}

const struct audit_event *sx_last(struct sx *x)
{
	assert_true(x->events > 0);
	return &x->event[(x->events - 1) % SX_EVENTS];
}

bool sx_audited(struct sx *x, enum audit_what what, int status)
{
	for (unsigned i = 0; i < MIN(x->events, (unsigned)SX_EVENTS); i++)
		if (x->event[i].what == what && x->event[i].status == status)
			return true;
	return false;
}

void sx_forget(struct sx *x)
{
	x->events = x->refused = 0;
}

int sx_try_open(struct sx *x)
{
	assert_int_equal(fs_new(&x->fs, &x->bottom, NULL, &x->err), 0);
	x->door = (struct store){.ops = &door_ops, .loop = x->eng.loop, .caps = x->fs->caps};
	x->opts.audit = heard;
	x->opts.audit_arg = x;
	x->opts.sim_seed++;
	return session_table_open(&x->t, &x->door, &x->opts, &x->err);
}

static void bottom_fill(struct sx *x)
{
	x->bottom =
	        (struct store){.ops = &bottom_ops, .loop = x->eng.loop, .caps = x->eng.store->caps};
}

void sx_start(struct sx *x)
{
	list_init(&x->held);
	x->eng.start_ns = 1750000000 * NSEC_PER_SEC; /* in 2025 */
	eng_start(&x->eng);
	bottom_fill(x);
	assert_int_equal(sx_try_open(x), 0);
}

void sx_stop(struct sx *x)
{
	session_table_close(x->t);
	x->t = NULL;
	assert_int_equal(store_close(x->fs), 0);
	x->fs = NULL;
}

void sx_end(struct sx *x)
{
	if (x->t)
		sx_stop(x);
	eng_end(&x->eng);
}

void sx_restart(struct sx *x)
{
	sx_stop(x);
	eng_reopen(&x->eng);
	bottom_fill(x);
	assert_int_equal(sx_try_open(x), 0);
}

void sx_cut(struct sx *x)
{
	sx_stop(x);
	eng_cut(&x->eng);
	eng_open(&x->eng);
	bottom_fill(x);
	assert_int_equal(sx_try_open(x), 0);
}

void sx_turn(struct sx *x)
{
	/* A held op can't end, so a turn that did nothing is no proof that nothing will happen. */
	for (unsigned idle = 0; idle < 3;)
		idle = loop_turn(x->eng.loop, 0) > 0 ? 0 : idle + 1;
}

void sx_sleep(struct sx *x, uint64_t ns)
{
	uint64_t until = loop_now(x->eng.loop) + ns;

	while (loop_now(x->eng.loop) < until)
		(void)loop_turn(x->eng.loop, until - loop_now(x->eng.loop));
}

uint64_t sx_records(struct sx *x)
{
	struct pst_store_status st;
	struct pst_op op = {.opcode = PST_OP_STATUS, .status_out = &st};

	assert_int_equal(ops_run(x->eng.store, &op), 0);
	return st.commit_records;
}

/* --- capabilities --- */

static void cap_ended(struct cap_op *o, int status)
{
	*(int *)(uintptr_t)o->by = status;
}

/* The text that goes into the audit is the place of the status: any bytes will do. */
static int cap_wait(struct sx *x, struct cap_op *o,
                    int (*fn)(struct session_table *, struct cap_op *))
{
	_Alignas(8) char status[SESSION_TEXT_MAX] = {0};
	int rc;

	memcpy(status, &(int){1}, sizeof(int));
	o->by = status;
	o->done = cap_ended;
	rc = fn(x->t, o);
	if (rc)
		return rc;
	while (*(int *)(void *)status == 1)
		(void)loop_turn(x->eng.loop, NSEC_PER_SEC);
	return *(int *)(void *)status;
}

int sx_grant(struct sx *x, const struct cap_info *info, struct cap_op *ret_op)
{
	struct cap_op o = {.info = *info};
	int rc = cap_wait(x, &o, cap_grant);

	if (ret_op)
		*ret_op = o;
	return rc;
}

int sx_revoke(struct sx *x, uint64_t id)
{
	struct cap_op o = {.info.id = id};

	return cap_wait(x, &o, cap_revoke);
}

int sx_renew(struct sx *x, uint64_t id, uint64_t expiry_ns)
{
	struct cap_op o = {.info = {.id = id, .expiry_ns = expiry_ns}};

	return cap_wait(x, &o, cap_renew);
}

int sx_rotate(struct sx *x)
{
	struct cap_op o = {0};

	return cap_wait(x, &o, session_key_rotate);
}

static int tenant_status;

static void tenant_ended(struct tenant_op *o, int status)
{
	tenant_status = status;
}

int sx_tenant(struct sx *x, uint32_t id, const char *name, const struct qos *q)
{
	struct tenant_op o = {.id = id, .qos = *q, .by = "test", .done = tenant_ended};
	int rc;

	(void)snprintf(o.name, sizeof(o.name), "%s", name);
	tenant_status = 1;
	rc = tenant_set(x->t, &o);
	while (!rc && tenant_status == 1)
		(void)loop_turn(x->eng.loop, NSEC_PER_SEC);
	return rc ? rc : tenant_status;
}

uint32_t sx_cont(struct sx *x, const char *name, uint8_t layout)
{
	struct pst_cont_info info = {.layout = layout};
	struct pst_op op = {.opcode = PST_OP_CONT_CREATE,
	                    .name = name,
	                    .name_len = (uint32_t)strlen(name),
	                    .cont_info = &info};

	assert_int_equal(ops_run(x->fs, &op), 0);
	return op.cont;
}

/* --- clients --- */

static void client_cut(struct session_conn *conn, int why)
{
	struct client *c = container_of(conn, struct client, conn);

	assert_int_equal(c->cut, 0);
	c->cut = why;
}

void client_link(struct client *c, struct sx *x)
{
	c->x = x;
	c->cut = 0;
	session_conn_init(&c->conn, x->t, client_cut);
	c->linked = true;
}

void client_unlink(struct client *c)
{
	if (c->linked)
		session_conn_done(&c->conn);
	c->linked = false;
}

static int open_status;

static void open_ended(struct session_open *o, int status)
{
	open_status = status;
}

int client_open_as(struct client *c, struct sx *x, const struct ident *id)
{
	struct session_open o = {
	        .conn = &c->conn, .ident = *id, .slots = c->slots, .done = open_ended};
	int rc;

	client_link(c, x);
	open_status = 1;
	rc = session_open(&o);
	while (!rc && open_status == 1)
		(void)loop_turn(x->eng.loop, NSEC_PER_SEC);
	rc = rc ? rc : open_status;
	if (rc) {
		client_unlink(c);
		return rc;
	}
	c->number = o.number;
	c->slots = o.slots;
	memcpy(c->secret, o.secret, sizeof(c->secret));
	return 0;
}

int client_open_token(struct client *c, struct sx *x, const char *token)
{
	struct ident id = {0};
	int rc = session_auth_token(x->t, &id, token, strlen(token));

	return rc ? rc : client_open_as(c, x, &id);
}

int client_open_owner(struct client *c, struct sx *x)
{
	struct ident id = {0};
	int rc = session_auth_peer(x->t, &id, x->opts.owner_uid, 0);

	return rc ? rc : client_open_as(c, x, &id);
}

int client_resume(struct client *c)
{
	return session_resume(&c->conn, c->number, c->secret);
}

int client_bye(struct client *c)
{
	int rc = session_close(&c->conn);

	client_unlink(c);
	sx_turn(c->x);
	return rc;
}

/* --- requests --- */

static void creq_end(struct creq *q)
{
	q->c->has_got = q->r.op.status == 0 && session_handle(&q->r, q->c->got) == 0;
	q->status = session_end(&q->r);
}

static void creq_done(struct pst_op *op)
{
	struct creq *q = container_of(op, struct creq, r.op);

	assert_false(q->done);
	q->done = true;
	creq_end(q);
}

static void creq_go(struct session_req *r, int status)
{
	struct creq *q = container_of(r, struct creq, r);

	assert_false(q->went);
	q->went = true;
	if (status)
		q->status = status;
	else
		session_submit(r);
}

void creq_start(struct creq *q, struct client *c)
{
	q->c = c;
	q->status = 1;
	q->went = q->done = false;
	q->r.handle = c->handle;
	q->r.go = creq_go;
	q->r.op.done = creq_done;
	q->admit = session_admit(&c->conn, &q->r);
	if (!q->admit)
		session_submit(&q->r);
	else if (q->admit != -EINPROGRESS)
		q->status = q->admit;
}

int creq_wait(struct creq *q)
{
	for (unsigned i = 0; q->status == 1; i++) {
		assert_true(i < 1000000);
		(void)loop_turn(q->c->x->eng.loop, NSEC_PER_SEC);
	}
	return q->status;
}

static bool mutating(const struct pst_op *op)
{
	switch (op->opcode) {
	case PST_OP_WRITE:
	case PST_OP_BATCH:
	case PST_OP_FILE_WRITE:
	case PST_OP_SETATTR:
	case PST_OP_SETXATTR:
	case PST_OP_REMOVEXATTR:
		return true;
	}
	return op->opcode >= PST_OP_CREATE && op->opcode <= PST_OP_RENAME;
}

int client_run(struct client *c, struct pst_op *op)
{
	struct creq q = {.r.op = *op};
	int rc;

	if (c->tokens && mutating(op))
		q.r.op.token = (struct pst_token){.session = c->number, .seq = ++c->seq};
	creq_start(&q, c);
	rc = creq_wait(&q);
	*op = q.r.op;
	return rc;
}

int client_create(struct client *c, uint32_t cont, const char *name, const char *text,
                  uint64_t *ret_ino)
{
	struct pst_op op = names_op(PST_OP_CREATE, cont, name);
	struct iovec iov = {(void *)(uintptr_t)text, text ? strlen(text) : 0};
	int rc;

	op.flags = PST_F_EXCL;
	if (text) {
		op.iov = &iov;
		op.iov_count = 1;
		op.len = iov.iov_len;
	}
	rc = client_run(c, &op);
	if (!rc && ret_ino)
		*ret_ino = op.ino;
	return rc;
}

int client_read(struct client *c, uint32_t cont, uint64_t ino, char *buf, size_t len)
{
	struct iovec iov = {buf, len - 1};
	struct pst_op op = {.opcode = PST_OP_FILE_READ,
	                    .cont = cont,
	                    .ino = ino,
	                    .len = len - 1,
	                    .iov = &iov,
	                    .iov_count = 1};
	int rc;

	memset(buf, 0, len);
	rc = client_run(c, &op);
	return rc;
}

int client_write(struct client *c, uint32_t cont, uint64_t ino, const char *text)
{
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
	struct pst_op op = {.opcode = PST_OP_FILE_WRITE,
	                    .cont = cont,
	                    .ino = ino,
	                    .len = iov.iov_len,
	                    .iov = &iov,
	                    .iov_count = 1};

	return client_run(c, &op);
}

int client_lookup(struct client *c, uint32_t cont, const char *name, uint64_t *ret_ino)
{
	struct pst_op op = names_op(PST_OP_LOOKUP, cont, name);
	int rc = client_run(c, &op);

	if (!rc && ret_ino)
		*ret_ino = op.ino;
	return rc;
}
