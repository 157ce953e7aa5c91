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

#include "served.h"

struct rig {
	struct served s;
	uint32_t cont, other;
};

static void grant(struct rig *g, uint32_t rights, const char *prefix, const char *subject,
                  uint64_t expiry_ns)
{
	struct cap_info i = {.cont = g->cont, .rights = rights, .expiry_ns = expiry_ns};

	(void)snprintf(i.prefix, sizeof(i.prefix), "%s", prefix);
	(void)snprintf(i.subject, sizeof(i.subject), "%s", subject);
	served_grant(&g->s, &i);
}

/* Who the next client says that it is; 0: it can't say. */
static void peer_uid(struct rig *g, uint32_t uid)
{
	g->s.knobs.client.has_cred = uid != 0;
	g->s.knobs.client.uid = uid;
}

static int setup(void **state)
{
	struct rig *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	*state = g;
	served_start(&g->s, NSEC_PER_SEC);
	g->s.knobs.has_peer = true;
	assert_int_equal(ops_cont_create(g->s.store, "c", &g->cont), 0);
	assert_int_equal(ops_cont_create(g->s.store, "d", &g->other), 0);
	return 0;
}

static int teardown(void **state)
{
	struct rig *g = *state;

	served_end(&g->s);
	free(g);
	return 0;
}

/* A write that must end with @status: told to the audit, and nothing is logged. */
static void refused_write(struct rig *g, uint32_t cont, int status)
{
	uint64_t before = served_records(&g->s);
	unsigned told = g->s.refused[AUDIT_REQUEST];
	struct pst_obj_stat stat;

	assert_int_equal(ops_write(g->s.remote, cont, oid_of(9), 0, "x", 1), status);
	assert_int_equal(g->s.refused[AUDIT_REQUEST], told + 1);
	assert_int_equal(g->s.refused_last, status);
	assert_int_equal(served_records(&g->s), before);
	assert_int_equal(ops_stat(g->s.store, cont, 0, oid_of(9), &stat), 0);
	assert_false(stat.exists);
}

/* A client that must not get in at all: what it is told. */
static int refused(struct rig *g, const char *cred)
{
	uint64_t before = served_records(&g->s);
	unsigned told = g->s.refused[AUDIT_AUTH] + g->s.refused[AUDIT_SESSION_OPEN];
	struct table_figures f;
	int status;

	status = served_client(&g->s, cred);
	assert_int_not_equal(status, 0);
	assert_true(g->s.refused[AUDIT_AUTH] + g->s.refused[AUDIT_SESSION_OPEN] > told);
	session_table_figures(g->s.table, &f);
	assert_int_equal(f.sessions, 0);
	assert_int_equal(served_records(&g->s), before);
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
	peer_uid(g, 1001);
	refused_client(g, NULL, -EACCES);
	peer_uid(g, 1000);
	assert_int_equal(served_client(&g->s, NULL), 0);
	assert_int_equal(ops_write(g->s.remote, g->cont, oid_of(1), 0, "x", 1), 0);
}

static void forged_token(void **state)
{
	struct rig *g = *state;
	char token[CAP_TOKEN_MAX];

	grant(g, RIGHTS_ALL, "", "", 0);
	for (size_t i = 0; i < strlen(g->s.op.token); i += 7) {
		int status;

		memcpy(token, g->s.op.token, sizeof(token));
		token[i] = token[i] == 'A' ? 'B' : 'A';
		if (!strcmp(token, g->s.op.token))
			continue;
		/* Where it names another capability, that may have been one that is gone. */
		status = refused(g, token);
		assert_true(status == -EBADF || status == -EKEYREVOKED);
	}
	assert_int_equal(served_client(&g->s, g->s.op.token), 0);
}

static void wrong_container(void **state)
{
	struct rig *g = *state;

	grant(g, RIGHTS_ALL, "", "", 0);
	assert_int_equal(served_client(&g->s, g->s.op.token), 0);
	refused_write(g, g->other, -EACCES);
	refused_write(g, g->other, -EACCES); /* and the session goes on */
	assert_int_equal(ops_write(g->s.remote, g->cont, oid_of(1), 0, "x", 1), 0);
}

static void read_only(void **state)
{
	struct rig *g = *state;
	uint64_t len;
	char c;

	assert_int_equal(ops_write(g->s.store, g->cont, oid_of(1), 0, "y", 1), 0);
	grant(g, RIGHT_READ | RIGHT_LIST, "", "", 0);
	assert_int_equal(served_client(&g->s, g->s.op.token), 0);
	refused_write(g, g->cont, -EACCES);
	assert_int_equal(ops_read(g->s.remote, g->cont, 0, oid_of(1), 0, &c, 1, &len), 0);
	assert_int_equal(c, 'y');
}

static int make(struct store *s, uint32_t cont, uint8_t opcode, const char *path)
{
	struct pst_op op = names_op(opcode, cont, path);

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

	assert_int_equal(make(g->s.store, g->cont, PST_OP_MKDIR, "in"), 0);
	assert_int_equal(make(g->s.store, g->cont, PST_OP_MKDIR, "out"), 0);
	grant(g, RIGHTS_ALL, "in", "", 0);
	assert_int_equal(served_client(&g->s, g->s.op.token), 0);
	assert_int_equal(make(g->s.remote, g->cont, PST_OP_MKDIR, "mine"), 0);
	assert_int_equal(make(g->s.store, g->cont, PST_OP_LOOKUP, "in/mine"), 0);
	assert_int_equal(make(g->s.remote, g->cont, PST_OP_MKDIR, "/../out/mine"), -ENOENT);
	assert_int_equal(make(g->s.store, g->cont, PST_OP_LOOKUP, "out/mine"), -ENOENT);
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
	struct pst_op look = names_op(PST_OP_LOOKUP, g->cont, "secret");
	char buf[8] = "x";
	struct iovec iov = {buf, sizeof(buf)};
	uint64_t before;

	assert_int_equal(make(g->s.store, g->cont, PST_OP_MKDIR, "in"), 0);
	assert_int_equal(make(g->s.store, g->cont, PST_OP_CREATE, "secret"), 0);
	assert_int_equal(ops_run(g->s.store, &look), 0);
	grant(g, RIGHTS_ALL, "in", "", 0);
	assert_int_equal(served_client(&g->s, g->s.op.token), 0);
	before = served_records(&g->s);
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
		(void)ops_run(g->s.remote, &op);
		if (i % 3 < 2) /* dir2 is looked at by those alone that go to a second place */
			assert_true(op.status < 0);
		assert_int_not_equal(op.attr.ino, look.ino);
	}
	assert_int_equal(served_records(&g->s), before);
	assert_int_equal(make(g->s.store, g->cont, PST_OP_LOOKUP, "in/mine"), -ENOENT);
}

static void expired(void **state)
{
	struct rig *g = *state;

	grant(g, RIGHTS_ALL, "", "", loop_real_now(g->s.loop) + 3 * NSEC_PER_SEC);
	assert_int_equal(served_client(&g->s, g->s.op.token), 0);
	assert_int_equal(ops_write(g->s.remote, g->cont, oid_of(1), 0, "x", 1), 0);
	served_sleep(&g->s, 4 * NSEC_PER_SEC);
	refused_write(g, g->cont, -EKEYEXPIRED);
	served_hang_up(&g->s);
	served_sleep(&g->s, 100 * NSEC_PER_MSEC);
	refused_client(g, g->s.op.token, -EKEYEXPIRED);
}

static void revoked(void **state)
{
	struct rig *g = *state;
	char token[CAP_TOKEN_MAX];

	grant(g, RIGHTS_ALL, "", "", 0);
	memcpy(token, g->s.op.token, sizeof(token));
	assert_int_equal(served_client(&g->s, token), 0);
	assert_int_equal(ops_write(g->s.remote, g->cont, oid_of(1), 0, "x", 1), 0);
	assert_int_equal(served_revoke(&g->s, g->s.op.info.id), 0);
	refused_write(g, g->cont, -EKEYREVOKED);
	remote_cut(g->s.remote); /* nor over a new connection */
	refused_write(g, g->cont, -EKEYREVOKED);
	served_hang_up(&g->s);
	served_sleep(&g->s, 100 * NSEC_PER_MSEC);
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
