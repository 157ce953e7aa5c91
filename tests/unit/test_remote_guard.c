/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a client may not do, asked over the wire: each case is refused with the right error, is in
 * the audit, and leaves no trace in the store (the count of its commits' records says so, where
 * nothing else was written meanwhile).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "bdev/bdev.h"
#include "fabric/sim.h"
#include "fs/fs.h"
#include "ops.h"
#include "session/audit.h"
#include "store/local/local.h"
#include "wire/wire.h"

struct rig {
	struct loop *loop;
	struct store *store, *remote;
	struct session_table *table;
	struct wire_listener *listener;
	uint32_t cont, other;
	struct cap_op op;
	bool done;
	int status;
	uint32_t peer_uid;
	struct sim_knobs knobs;                 /* read at each connect */
	unsigned refused[AUDIT_SUPPRESSED + 1]; /* as the audit has them */
	int refused_last;
};

static void audit(void *arg, const struct audit_event *e)
{
	struct rig *g = arg;

	if (!e->status)
		return;
	g->refused[e->what]++;
	g->refused_last = e->status;
}

static void cap_done(struct cap_op *o, int status)
{
	struct rig *g = container_of(o, struct rig, op);

	g->done = true;
	g->status = status;
}

static int cap_wait(struct rig *g, int rc)
{
	while (!rc && !g->done)
		(void)loop_turn(g->loop, NSEC_PER_MSEC);
	g->done = false;
	return rc ? rc : g->status;
}

static void grant(struct rig *g, uint32_t rights, const char *prefix, const char *subject,
                  uint64_t expiry_ns)
{
	g->op = (struct cap_op){.done = cap_done};
	g->op.info.cont = g->cont;
	g->op.info.rights = rights;
	g->op.info.expiry_ns = expiry_ns;
	(void)snprintf(g->op.info.prefix, sizeof(g->op.info.prefix), "%s", prefix);
	(void)snprintf(g->op.info.subject, sizeof(g->op.info.subject), "%s", subject);
	assert_int_equal(cap_wait(g, cap_grant(g->table, &g->op)), 0);
}

static int client(struct rig *g, const char *cred)
{
	struct remote_opts ro = {.at = {{.provider = "sim", .addr = "here"}},
	                         .at_count = 1,
	                         .cred = cred,
	                         .seed = 11,
	                         .fabric = {.seed = 11, .sim = &g->knobs}};
	struct pst_err err = {0};
	int rc;

	sim_knobs_draw(&g->knobs, 11);
	g->knobs.has_peer = true;
	g->knobs.client.has_cred = g->peer_uid != 0;
	g->knobs.client.uid = g->peer_uid;
	rc = remote_open(&g->remote, g->loop, &ro, &err);
	if (rc)
		g->remote = NULL;
	assert_true(!rc == !err.text[0]); /* an error has a sentence */
	return rc;
}

static int setup(void **state)
{
	struct rig *g = calloc(1, sizeof(*g));
	struct session_opts so = {
	        .sim_seed = 7, .owner_uid = 4000000, .audit = audit, .audit_arg = g};
	struct local_format_opts fo = {0};
	struct pst_err err = {0};
	struct store *engine;
	struct loop_opts lo;
	struct bdev *dev;

	assert_non_null(g);
	*state = g;
	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = NSEC_PER_SEC;
	assert_int_equal(loop_new(&g->loop, &lo, NULL), 0);
	assert_int_equal(bdev_open(&dev, "mem:16m", g->loop, NULL, &err), 0);
	assert_int_equal(local_format(&dev, 1, &fo, &err), 0);
	assert_int_equal(local_open(&engine, g->loop, &dev, 1, NULL, &err), 0);
	assert_int_equal(fs_new(&g->store, engine, NULL, &err), 0);
	assert_int_equal(session_table_open(&g->table, g->store, &so, &err), 0);
	assert_int_equal(wire_listener_new(&g->listener, g->table, NULL, &err), 0);
	assert_int_equal(wire_listener_add(g->listener, "sim", "here", NULL, NULL, &err), 0);
	assert_int_equal(ops_cont_create(g->store, "c", &g->cont), 0);
	assert_int_equal(ops_cont_create(g->store, "d", &g->other), 0);
	return 0;
}

static int teardown(void **state)
{
	struct rig *g = *state;

	if (g->remote)
		(void)store_close(g->remote);
	wire_listener_close(g->listener, NSEC_PER_SEC);
	session_table_close(g->table);
	assert_int_equal(store_close(g->store), 0);
	fabric_finish(g->loop);
	loop_free(g->loop);
	free(g);
	return 0;
}

static uint64_t records(struct rig *g)
{
	struct pst_store_status st;
	struct pst_op op = {.opcode = PST_OP_STATUS, .status_out = &st};

	assert_int_equal(ops_run(g->store, &op), 0);
	return st.commit_records;
}

/* A write that must end with @status: told to the audit, and nothing is logged. */
static void refused_write(struct rig *g, uint32_t cont, int status)
{
	uint64_t before = records(g);
	unsigned told = g->refused[AUDIT_REQUEST];
	struct pst_obj_stat stat;

	assert_int_equal(ops_write(g->remote, cont, oid_of(9), 0, "x", 1), status);
	assert_int_equal(g->refused[AUDIT_REQUEST], told + 1);
	assert_int_equal(g->refused_last, status);
	assert_int_equal(records(g), before);
	assert_int_equal(ops_stat(g->store, cont, 0, oid_of(9), &stat), 0);
	assert_false(stat.exists);
}

/* A client that must not get in at all: what it is told. */
static int refused(struct rig *g, const char *cred)
{
	uint64_t before = records(g);
	unsigned told = g->refused[AUDIT_AUTH] + g->refused[AUDIT_SESSION_OPEN];
	struct table_figures f;
	int status;

	status = client(g, cred);
	assert_int_not_equal(status, 0);
	assert_true(g->refused[AUDIT_AUTH] + g->refused[AUDIT_SESSION_OPEN] > told);
	session_table_figures(g->table, &f);
	assert_int_equal(f.sessions, 0);
	assert_int_equal(records(g), before);
	return status;
}

static void refused_client(struct rig *g, const char *cred, int status)
{
	assert_int_equal(refused(g, cred), status);
}

static void no_capability(void **state)
{
	refused_client(*state, NULL, -EACCES);
}

static void another_uid(void **state)
{
	struct rig *g = *state;

	grant(g, RIGHTS_ALL, "", "uid:1000", 0);
	g->peer_uid = 1001;
	refused_client(g, NULL, -EACCES);
	g->peer_uid = 1000;
	assert_int_equal(client(g, NULL), 0);
	assert_int_equal(ops_write(g->remote, g->cont, oid_of(1), 0, "x", 1), 0);
}

static void forged_token(void **state)
{
	struct rig *g = *state;
	char token[CAP_TOKEN_MAX];

	grant(g, RIGHTS_ALL, "", "", 0);
	for (size_t i = 0; i < strlen(g->op.token); i += 7) {
		int status;

		memcpy(token, g->op.token, sizeof(token));
		token[i] = token[i] == 'A' ? 'B' : 'A';
		if (!strcmp(token, g->op.token))
			continue;
		/* Where it names another capability, that may have been one that is gone. */
		status = refused(g, token);
		assert_true(status == -EBADF || status == -EKEYREVOKED);
	}
	assert_int_equal(client(g, g->op.token), 0);
}

static void wrong_container(void **state)
{
	struct rig *g = *state;

	grant(g, RIGHTS_ALL, "", "", 0);
	assert_int_equal(client(g, g->op.token), 0);
	refused_write(g, g->other, -EACCES);
	refused_write(g, g->other, -EACCES); /* and the session goes on */
	assert_int_equal(ops_write(g->remote, g->cont, oid_of(1), 0, "x", 1), 0);
}

static void read_only(void **state)
{
	struct rig *g = *state;
	uint64_t len;
	char c;

	assert_int_equal(ops_write(g->store, g->cont, oid_of(1), 0, "y", 1), 0);
	grant(g, RIGHT_READ | RIGHT_LIST, "", "", 0);
	assert_int_equal(client(g, g->op.token), 0);
	refused_write(g, g->cont, -EACCES);
	assert_int_equal(ops_read(g->remote, g->cont, 0, oid_of(1), 0, &c, 1, &len), 0);
	assert_int_equal(c, 'y');
}

static int make(struct store *s, uint32_t cont, uint8_t opcode, const char *path)
{
	struct pst_op op = {
	        .opcode = opcode, .cont = cont, .name = path, .name_len = (uint32_t)strlen(path)};

	op.attr.mode = 0755;
	return ops_run(s, &op);
}

/* A prefix is the root of what its holder sees; objects by their numbers are nothing to it. */
static bool no_entry(struct pst_op *op, const struct pst_entry *e)
{
	return true;
}

static void wrong_prefix(void **state)
{
	struct rig *g = *state;

	assert_int_equal(make(g->store, g->cont, PST_OP_MKDIR, "in"), 0);
	assert_int_equal(make(g->store, g->cont, PST_OP_MKDIR, "out"), 0);
	grant(g, RIGHTS_ALL, "in", "", 0);
	assert_int_equal(client(g, g->op.token), 0);
	assert_int_equal(make(g->remote, g->cont, PST_OP_MKDIR, "mine"), 0);
	assert_int_equal(make(g->store, g->cont, PST_OP_LOOKUP, "in/mine"), 0);
	assert_int_equal(make(g->remote, g->cont, PST_OP_MKDIR, "/../out/mine"), -ENOENT);
	assert_int_equal(make(g->store, g->cont, PST_OP_LOOKUP, "out/mine"), -ENOENT);
	refused_write(g, g->cont, -EACCES);
}

/* A file's number says nothing of where the file lies, in whichever field it comes. */
static void numbers(void **state)
{
	static const uint8_t opcodes[] = {PST_OP_LOOKUP,      PST_OP_GETATTR,   PST_OP_SETATTR,
	                                  PST_OP_GETXATTR,    PST_OP_SETXATTR,  PST_OP_LISTXATTR,
	                                  PST_OP_REMOVEXATTR, PST_OP_FILE_OPEN, PST_OP_FILE_READ,
	                                  PST_OP_FILE_WRITE,  PST_OP_READLINK,  PST_OP_LINK,
	                                  PST_OP_READDIR,     PST_OP_FSYNC,     PST_OP_WATCH};
	struct rig *g = *state;
	struct pst_op look = {
	        .opcode = PST_OP_LOOKUP, .cont = g->cont, .name = "secret", .name_len = 6};
	char buf[8] = "x";
	struct iovec iov = {buf, sizeof(buf)};
	uint64_t before;

	assert_int_equal(make(g->store, g->cont, PST_OP_MKDIR, "in"), 0);
	assert_int_equal(make(g->store, g->cont, PST_OP_CREATE, "secret"), 0);
	assert_int_equal(ops_run(g->store, &look), 0);
	grant(g, RIGHTS_ALL, "in", "", 0);
	assert_int_equal(client(g, g->op.token), 0);
	before = records(g);
	for (unsigned i = 0; i < 3 * ARRAY_LEN(opcodes); i++) {
		struct pst_op op = {.opcode = opcodes[i / 3],
		                    .cont = g->cont,
		                    .key = "user.k",
		                    .key_len = 6,
		                    .val = buf,
		                    .val_cap = 1,
		                    .iov = &iov,
		                    .iov_count = 1,
		                    .len = sizeof(buf),
		                    .name2 = "mine",
		                    .name2_len = 4,
		                    .entry = no_entry,
		                    .attr_mask = PST_ATTR_MODE};
		uint64_t *field[] = {&op.ino, &op.dir, &op.dir2};

		*field[i % 3] = look.ino;
		(void)ops_run(g->remote, &op);
		if (i % 3 < 2) /* dir2 is looked at by those alone that go to a second place */
			assert_true(op.status < 0);
		assert_int_not_equal(op.attr.ino, look.ino);
	}
	assert_int_equal(records(g), before);
	assert_int_equal(make(g->store, g->cont, PST_OP_LOOKUP, "in/mine"), -ENOENT);
}

static void expired(void **state)
{
	struct rig *g = *state;

	grant(g, RIGHTS_ALL, "", "", loop_real_now(g->loop) + 3 * NSEC_PER_SEC);
	assert_int_equal(client(g, g->op.token), 0);
	assert_int_equal(ops_write(g->remote, g->cont, oid_of(1), 0, "x", 1), 0);
	for (int i = 0; i < 4000; i++)
		(void)loop_turn(g->loop, NSEC_PER_MSEC);
	refused_write(g, g->cont, -EKEYEXPIRED);
	assert_int_equal(store_close(g->remote), 0);
	for (int i = 0; i < 100; i++)
		(void)loop_turn(g->loop, NSEC_PER_MSEC);
	refused_client(g, g->op.token, -EKEYEXPIRED);
}

static void revoked(void **state)
{
	struct rig *g = *state;
	char token[CAP_TOKEN_MAX];

	grant(g, RIGHTS_ALL, "", "", 0);
	memcpy(token, g->op.token, sizeof(token));
	assert_int_equal(client(g, token), 0);
	assert_int_equal(ops_write(g->remote, g->cont, oid_of(1), 0, "x", 1), 0);
	assert_int_equal(cap_wait(g, cap_revoke(g->table, &g->op)), 0);
	refused_write(g, g->cont, -EKEYREVOKED);
	remote_cut(g->remote); /* nor over a new connection */
	refused_write(g, g->cont, -EKEYREVOKED);
	assert_int_equal(store_close(g->remote), 0);
	for (int i = 0; i < 100; i++)
		(void)loop_turn(g->loop, NSEC_PER_MSEC);
	refused_client(g, token, -EKEYREVOKED);
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	static const struct CMUnitTest tests[] = {
	        T(no_capability), T(another_uid), T(forged_token), T(wrong_container), T(read_only),
	        T(wrong_prefix),  T(numbers),     T(expired),      T(revoked),
	};

	pst_log_set(NULL, NULL, PST_LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
