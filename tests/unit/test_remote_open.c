/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Open files over the wire: that a handle does what its capability allows, that a number alone does
 * not, and that what is open stays open: while others remove its names, while it is opened and closed at
 * the same time, while its handle expires, and when the server is started again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "served.h"

#define GRACE_NS (60 * NSEC_PER_SEC)
#define NOW_NS   (1700000000 * NSEC_PER_SEC) /* handles count from 2020 on */

struct rig {
	struct served s;
	uint32_t cont;
	uint64_t in, f, secret; /* inodes */
};

/* --- ops, by one end or the other --- */

static struct pst_op numbered(uint8_t opcode, uint32_t cont, uint64_t ino)
{
	return (struct pst_op){.opcode = opcode, .cont = cont, .ino = ino};
}

static int run(struct store *s, uint8_t opcode, uint32_t cont, const char *name, uint64_t *ret_ino)
{
	struct pst_op op = names_op(opcode, cont, name);
	int rc;

	op.attr.mode = opcode == PST_OP_MKDIR ? 0755 : 0100644;
	op.attr_mask = PST_ATTR_MODE;
	rc = ops_run(s, &op);
	if (!rc && ret_ino)
		*ret_ino = op.ino;
	return rc;
}

static int by_number(struct store *s, uint8_t opcode, uint32_t cont, uint64_t ino)
{
	struct pst_op op = numbered(opcode, cont, ino);

	return ops_run(s, &op);
}

static int io(struct store *s, uint8_t opcode, uint32_t cont, uint64_t ino, char *buf, size_t len)
{
	struct iovec iov = {buf, len};
	struct pst_op op = numbered(opcode, cont, ino);

	op.iov = &iov;
	op.iov_count = 1;
	op.len = len;
	return ops_run(s, &op);
}

static int reads(struct rig *g, uint64_t ino, const char *text)
{
	char buf[16] = {0};
	int rc = io(g->s.remote, PST_OP_FILE_READ, g->cont, ino, buf, sizeof(buf) - 1);

	if (!rc)
		assert_string_equal(buf, text);
	return rc;
}

static int writes(struct rig *g, uint64_t ino, const char *text)
{
	return io(g->s.remote, PST_OP_FILE_WRITE, g->cont, ino, (char *)(uintptr_t)text,
	          strlen(text));
}

static bool exists(struct rig *g, uint64_t ino)
{
	struct pst_obj_stat st;

	assert_int_equal(ops_stat(g->s.store, g->cont, 0, fs_oid(ino), &st), 0);
	return st.exists;
}

static uint64_t make(struct rig *g, const char *name, const char *text)
{
	struct pst_op op = names_op(PST_OP_CREATE, g->cont, name);
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};

	op.attr.mode = 0100644;
	op.attr_mask = PST_ATTR_MODE;
	op.iov = &iov;
	op.iov_count = 1;
	op.len = iov.iov_len;
	assert_int_equal(ops_run(g->s.store, &op), 0);
	return op.ino;
}

/* --- the rig --- */

static void client(struct rig *g, uint32_t rights, const char *prefix)
{
	struct cap_info i = {.cont = g->cont, .rights = rights};

	(void)snprintf(i.prefix, sizeof(i.prefix), "%s", prefix);
	served_grant(&g->s, &i);
	assert_int_equal(served_client(&g->s, g->s.op.token), 0);
}

static int setup(void **state)
{
	struct rig *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	*state = g;
	g->s.grace_ns = GRACE_NS;
	g->s.ro.insecure = true;
	served_start(&g->s, NOW_NS);
	assert_int_equal(ops_cont_create(g->s.store, "c", &g->cont), 0);
	assert_int_equal(run(g->s.store, PST_OP_MKDIR, g->cont, "in", &g->in), 0);
	g->f = make(g, "in/f", "inside");
	g->secret = make(g, "secret", "outside");
	return 0;
}

static int teardown(void **state)
{
	struct rig *g = *state;

	served_end(&g->s);
	free(g);
	return 0;
}

/* It must end with @status: told to the audit, and nothing is logged. */
static void refused(struct rig *g, struct pst_op op, int status)
{
	uint64_t before = served_records(&g->s);
	unsigned told = g->s.refused[AUDIT_REQUEST];

	assert_int_equal(ops_run(g->s.remote, &op), status);
	assert_int_equal(g->s.refused[AUDIT_REQUEST], told + 1);
	assert_int_equal(g->s.refused_last, status);
	assert_int_equal(served_records(&g->s), before);
}

static unsigned entries;

static bool any_entry(struct pst_op *op, const struct pst_entry *e)
{
	entries++;
	return true;
}

static int list(struct rig *g, uint8_t opcode, uint64_t ino)
{
	struct pst_op op = numbered(opcode, g->cont, ino);

	entries = 0;
	op.want_values = opcode == PST_OP_READDIR;
	op.entry = any_entry;
	return ops_run(g->s.remote, &op);
}

/* --- what a capability of a directory does --- */

static void all_by_number(struct rig *g, uint64_t ino)
{
	struct pst_op op;
	char val[8];

	assert_int_equal(reads(g, ino, "inside"), 0);
	assert_int_equal(writes(g, ino, "INSIDE"), 0);
	assert_int_equal(reads(g, ino, "INSIDE"), 0);
	assert_int_equal(by_number(g->s.remote, PST_OP_GETATTR, g->cont, ino), 0);
	assert_int_equal(by_number(g->s.remote, PST_OP_FSYNC, g->cont, ino), 0);
	op = numbered(PST_OP_SETATTR, g->cont, ino);
	op.attr_mask = PST_ATTR_MODE;
	op.attr.mode = 0600;
	assert_int_equal(ops_run(g->s.remote, &op), 0);
	op = numbered(PST_OP_SETXATTR, g->cont, ino);
	op.key = "user.k";
	op.key_len = 6;
	op.val = (char[]){"v"};
	op.val_cap = 1;
	assert_int_equal(ops_run(g->s.remote, &op), 0);
	op = numbered(PST_OP_GETXATTR, g->cont, ino);
	op.key = "user.k";
	op.key_len = 6;
	op.val = val;
	op.val_cap = sizeof(val);
	assert_int_equal(ops_run(g->s.remote, &op), 0);
	assert_int_equal(list(g, PST_OP_LISTXATTR, ino), 0);
	assert_int_equal(entries, 1);
	op.opcode = PST_OP_REMOVEXATTR;
	op.val = NULL;
	op.val_cap = 0;
	assert_int_equal(ops_run(g->s.remote, &op), 0);
	assert_int_equal(writes(g, ino, "inside"), 0);
}

static void by_handle(void **state)
{
	struct rig *g = *state;
	struct pst_op op;
	uint64_t ino, other;

	client(g, RIGHTS_ALL, "in");
	refused(g, numbered(PST_OP_GETATTR, g->cont, g->f), -EACCES);
	assert_int_equal(run(g->s.remote, PST_OP_FILE_OPEN, g->cont, "f", &ino), 0);
	assert_int_equal(ino, g->f);
	all_by_number(g, ino);
	refused(g, numbered(PST_OP_GETATTR, g->cont, g->secret), -EACCES);
	refused(g, numbered(PST_OP_FILE_OPEN, g->cont, g->secret), -EACCES);
	op = numbered(PST_OP_LINK, g->cont, g->secret);
	op.name2 = "mine";
	op.name2_len = 4;
	refused(g, op, -EACCES);
	op.ino = ino;
	assert_int_equal(ops_run(g->s.remote, &op), 0);
	assert_int_equal(run(g->s.store, PST_OP_LOOKUP, g->cont, "in/mine", &other), 0);
	assert_int_equal(other, g->f);
	assert_int_equal(by_number(g->s.remote, PST_OP_FILE_CLOSE, g->cont, ino), 0);
}

/* What was looked up, or listed with attributes, may be named by number, too. */
static void resolved(void **state)
{
	struct rig *g = *state;

	client(g, RIGHTS_ALL, "in");
	assert_int_equal(run(g->s.remote, PST_OP_LOOKUP, g->cont, "f", NULL), 0);
	all_by_number(g, g->f);
	served_hang_up(&g->s);
	client(g, RIGHTS_ALL, "in");
	refused(g, numbered(PST_OP_GETATTR, g->cont, g->f), -EACCES);
	assert_int_equal(list(g, PST_OP_READDIR, g->in), 0);
	assert_int_equal(entries, 1);
	all_by_number(g, g->f);
}

static void rights(void **state)
{
	struct rig *g = *state;
	struct pst_op op;

	client(g, RIGHT_READ | RIGHT_LIST, "in");
	assert_int_equal(run(g->s.remote, PST_OP_FILE_OPEN, g->cont, "f", NULL), 0);
	assert_int_equal(reads(g, g->f, "inside"), 0);
	op = numbered(PST_OP_FILE_WRITE, g->cont, g->f);
	refused(g, op, -EACCES);
	op = numbered(PST_OP_SETATTR, g->cont, g->f);
	op.attr_mask = PST_ATTR_SIZE;
	refused(g, op, -EACCES);
	op = numbered(PST_OP_SETXATTR, g->cont, g->f);
	op.key = "user.k";
	op.key_len = 6;
	refused(g, op, -EACCES);
	assert_int_equal(reads(g, g->f, "inside"), 0);
}

static void expires(void **state)
{
	struct rig *g = *state;
	unsigned told;

	g->s.so.handle_ns = NSEC_PER_SEC;
	served_restart(&g->s);
	client(g, RIGHTS_ALL, "in");
	assert_int_equal(run(g->s.remote, PST_OP_FILE_OPEN, g->cont, "f", NULL), 0);
	assert_int_equal(reads(g, g->f, "inside"), 0);
	served_sleep(&g->s, 10 * NSEC_PER_SEC);
	told = g->s.refused[AUDIT_REQUEST];
	all_by_number(g, g->f); /* renewed behind the scenes */
	assert_int_equal(g->s.refused[AUDIT_REQUEST], told + 1);
	assert_int_equal(g->s.refused_last, -EKEYEXPIRED);
	assert_int_equal(by_number(g->s.remote, PST_OP_FILE_CLOSE, g->cont, g->f), 0);
	served_sleep(&g->s, 10 * NSEC_PER_SEC);
	assert_int_equal(writes(g, g->f, "closed"), 0);
}

static void revoked(void **state)
{
	struct rig *g = *state;

	client(g, RIGHTS_ALL, "in");
	assert_int_equal(run(g->s.remote, PST_OP_FILE_OPEN, g->cont, "f", NULL), 0);
	assert_int_equal(reads(g, g->f, "inside"), 0);
	assert_int_equal(served_revoke(&g->s, g->s.op.info.id), 0);
	refused(g, numbered(PST_OP_GETATTR, g->cont, g->f), -EKEYREVOKED);
	refused(g, numbered(PST_OP_FILE_WRITE, g->cont, g->f), -EKEYREVOKED);
	served_restart(&g->s);
	assert_int_equal(by_number(g->s.remote, PST_OP_GETATTR, g->cont, g->f), -EKEYREVOKED);
	assert_int_equal(by_number(g->s.remote, PST_OP_FILE_WRITE, g->cont, g->f), -EKEYREVOKED);
}

static void destroyed(void **state)
{
	struct rig *g = *state;
	struct pst_op op = names_op(PST_OP_CONT_DESTROY, g->cont, "c");
	uint64_t before;
	uint32_t again;

	client(g, RIGHTS_ALL, "in");
	assert_int_equal(run(g->s.remote, PST_OP_FILE_OPEN, g->cont, "f", NULL), 0);
	assert_int_equal(ops_run(g->s.store, &op), 0);
	assert_int_equal(ops_cont_create(g->s.store, "c", &again), 0);
	assert_int_not_equal(again, g->cont);
	before = served_records(&g->s);
	assert_int_equal(by_number(g->s.remote, PST_OP_GETATTR, g->cont, g->f), -ENOENT);
	assert_int_equal(reads(g, g->f, ""), -ENOENT);
	assert_int_equal(writes(g, g->f, "x"), -ENOENT);
	assert_int_equal(served_records(&g->s), before);
}

/* What is open is not its name: it can be moved out, and stays open. A directory is its place. */
static void moved_out(void **state)
{
	struct rig *g = *state;
	struct pst_op op = names_op(PST_OP_RENAME, g->cont, "in/f");
	uint64_t d;

	client(g, RIGHTS_ALL, "in");
	assert_int_equal(run(g->s.remote, PST_OP_MKDIR, g->cont, "d", &d), 0);
	assert_int_equal(run(g->s.remote, PST_OP_FILE_OPEN, g->cont, "f", NULL), 0);
	op.name2 = "out";
	op.name2_len = 3;
	assert_int_equal(ops_run(g->s.store, &op), 0);
	assert_int_equal(run(g->s.remote, PST_OP_LOOKUP, g->cont, "f", NULL), -ENOENT);
	assert_int_equal(reads(g, g->f, "inside"), 0);
	op = names_op(PST_OP_RENAME, g->cont, "in/d");
	op.name2 = "d";
	op.name2_len = 1;
	assert_int_equal(ops_run(g->s.store, &op), 0);
	assert_int_equal(by_number(g->s.remote, PST_OP_GETATTR, g->cont, d), -EACCES);
}

/* --- what is open stays open --- */

static void counted(void **state)
{
	struct rig *g = *state;

	client(g, RIGHTS_ALL, "");
	for (int i = 0; i < 3; i++)
		assert_int_equal(run(g->s.remote, PST_OP_FILE_OPEN, g->cont, "in/f", NULL), 0);
	assert_int_equal(run(g->s.store, PST_OP_UNLINK, g->cont, "in/f", NULL), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(by_number(g->s.remote, PST_OP_FILE_CLOSE, g->cont, g->f), 0);
		assert_int_equal(reads(g, g->f, "inside"), 0);
	}
	assert_int_equal(by_number(g->s.remote, PST_OP_FILE_CLOSE, g->cont, g->f), 0);
	assert_false(exists(g, g->f));
}

static void ended(struct pst_op *op)
{
	op->user = op;
}

/* The last close and another open under way at once, in whatever order they are executed. */
static void open_and_close(void **state)
{
	struct rig *g = *state;

	client(g, RIGHTS_ALL, "in");
	assert_int_equal(run(g->s.remote, PST_OP_FILE_OPEN, g->cont, "f", NULL), 0);
	for (int i = 0; i < 200; i++) {
		struct pst_op op[2] = {numbered(PST_OP_FILE_CLOSE, g->cont, g->f),
		                       names_op(PST_OP_FILE_OPEN, g->cont, "f")};

		for (int k = 0; k < 2; k++) {
			struct pst_op *o = &op[(i + k) % 2];

			o->done = ended;
			if (store_submit(g->s.remote, o) == PST_DONE)
				o->user = o;
		}
		while (!op[0].user || !op[1].user)
			(void)loop_turn(g->s.loop, NSEC_PER_MSEC);
		assert_int_equal(op[0].status, 0);
		assert_int_equal(op[1].status, 0);
	}
	assert_int_equal(run(g->s.store, PST_OP_UNLINK, g->cont, "in/f", NULL), 0);
	assert_int_equal(reads(g, g->f, "inside"), 0);
	assert_true(exists(g, g->f));
	assert_int_equal(by_number(g->s.remote, PST_OP_FILE_CLOSE, g->cont, g->f), 0);
	assert_false(exists(g, g->f));
}

/* Unlinked while it is open, and then the server is started again. */
static void restarted(struct rig *g, const char *prefix, const char *name)
{
	client(g, RIGHTS_ALL, prefix);
	assert_int_equal(run(g->s.remote, PST_OP_FILE_OPEN, g->cont, name, NULL), 0);
	assert_int_equal(run(g->s.store, PST_OP_UNLINK, g->cont, "in/f", NULL), 0);
	served_restart(&g->s);
	assert_int_equal(run(g->s.store, PST_OP_LOOKUP, g->cont, "secret", NULL), 0);
}

static void open_unlinked(void **state)
{
	struct rig *g = *state;

	restarted(g, "in", "f");
	assert_int_equal(reads(g, g->f, "inside"), 0);
	served_sleep(&g->s, 2 * GRACE_NS);
	assert_int_equal(run(g->s.store, PST_OP_LOOKUP, g->cont, "secret", NULL), 0);
	assert_int_equal(reads(g, g->f, "inside"), 0);
	served_restart(&g->s); /* and once more */
	assert_int_equal(writes(g, g->f, "INSIDE"), 0);
	served_sleep(&g->s, 2 * GRACE_NS);
	assert_int_equal(run(g->s.store, PST_OP_LOOKUP, g->cont, "secret", NULL), 0);
	assert_int_equal(reads(g, g->f, "INSIDE"), 0);
	assert_int_equal(by_number(g->s.remote, PST_OP_FILE_CLOSE, g->cont, g->f), 0);
	assert_false(exists(g, g->f));
}

static void open_unlinked_whole(void **state)
{
	struct rig *g = *state;

	restarted(g, "", "in/f");
	served_sleep(&g->s, 2 * GRACE_NS);
	assert_int_equal(run(g->s.store, PST_OP_LOOKUP, g->cont, "secret", NULL), 0);
	assert_int_equal(reads(g, g->f, "inside"), 0);
	assert_int_equal(by_number(g->s.remote, PST_OP_FILE_CLOSE, g->cont, g->f), 0);
	assert_false(exists(g, g->f));
}

/* Without a time of grace the file would be gone: these tests would tell. */
static void no_grace(void **state)
{
	struct rig *g = *state;

	g->s.grace_ns = 0;
	restarted(g, "in", "f");
	assert_false(exists(g, g->f));
	assert_int_equal(reads(g, g->f, ""), -ESTALE);
	served_sleep(&g->s, 2 * GRACE_NS);
	assert_int_equal(reads(g, g->f, ""), -ESTALE);
	assert_int_equal(by_number(g->s.remote, PST_OP_FILE_CLOSE, g->cont, g->f), 0);
}

/* It has a name when the server starts, and none before its client is back. */
static void unlinked_in_grace(void **state)
{
	struct rig *g = *state;

	client(g, RIGHTS_ALL, "in");
	assert_int_equal(run(g->s.remote, PST_OP_FILE_OPEN, g->cont, "f", NULL), 0);
	served_restart(&g->s);
	assert_int_equal(run(g->s.store, PST_OP_UNLINK, g->cont, "in/f", NULL), 0);
	assert_true(exists(g, g->f));
	assert_int_equal(reads(g, g->f, "inside"), 0);
	served_sleep(&g->s, 2 * GRACE_NS);
	assert_int_equal(run(g->s.store, PST_OP_LOOKUP, g->cont, "secret", NULL), 0);
	assert_int_equal(reads(g, g->f, "inside"), 0);
	assert_int_equal(by_number(g->s.remote, PST_OP_FILE_CLOSE, g->cont, g->f), 0);
	assert_false(exists(g, g->f));
}

/* Two held it, and the one that comes back first closes it: the other one still finds it. */
static void closed_by_the_first_one_back(void **state)
{
	struct rig *g = *state;

	assert_int_equal(by_number(g->s.store, PST_OP_FILE_OPEN, g->cont, g->f), 0);
	assert_int_equal(by_number(g->s.store, PST_OP_FILE_OPEN, g->cont, g->f), 0);
	assert_int_equal(run(g->s.store, PST_OP_UNLINK, g->cont, "in/f", NULL), 0);
	served_restart(&g->s);
	assert_int_equal(by_number(g->s.store, PST_OP_FILE_OPEN, g->cont, g->f), 0);
	assert_int_equal(by_number(g->s.store, PST_OP_FILE_CLOSE, g->cont, g->f), 0);
	assert_true(exists(g, g->f));
	assert_int_equal(by_number(g->s.store, PST_OP_FILE_OPEN, g->cont, g->f), 0);
	served_sleep(&g->s, 2 * GRACE_NS);
	assert_int_equal(run(g->s.store, PST_OP_LOOKUP, g->cont, "secret", NULL), 0);
	assert_true(exists(g, g->f));
	assert_int_equal(by_number(g->s.store, PST_OP_FILE_CLOSE, g->cont, g->f), 0);
	assert_false(exists(g, g->f));
}

/* Whoever held it does not come back: it goes when the time of grace is over, with many others. */
static void never_back(void **state)
{
	struct rig *g = *state;
	uint64_t ino[40];
	char name[16];

	for (unsigned i = 0; i < ARRAY_LEN(ino); i++) {
		(void)snprintf(name, sizeof(name), "in/%u", i);
		ino[i] = make(g, name, "x");
		assert_int_equal(by_number(g->s.store, PST_OP_FILE_OPEN, g->cont, ino[i]), 0);
		assert_int_equal(run(g->s.store, PST_OP_UNLINK, g->cont, name, NULL), 0);
	}
	served_restart(&g->s);
	assert_int_equal(by_number(g->s.store, PST_OP_FILE_OPEN, g->cont, ino[7]), 0);
	for (unsigned i = 0; i < ARRAY_LEN(ino); i++)
		assert_true(exists(g, ino[i]));
	served_sleep(&g->s, 2 * GRACE_NS);
	assert_int_equal(run(g->s.store, PST_OP_LOOKUP, g->cont, "secret", NULL), 0);
	for (unsigned i = 0; i < ARRAY_LEN(ino); i++)
		assert_int_equal(exists(g, ino[i]), i == 7);
	assert_int_equal(by_number(g->s.store, PST_OP_FILE_OPEN, g->cont, ino[8]), -ESTALE);
	assert_int_equal(by_number(g->s.store, PST_OP_FILE_CLOSE, g->cont, ino[7]), 0);
	assert_false(exists(g, ino[7]));
}

/* A file that has no name yet, and gets it after the restart. */
static void nameless(void **state)
{
	struct rig *g = *state;
	struct pst_op op = {.opcode = PST_OP_CREATE, .cont = g->cont};
	uint64_t ino;

	client(g, RIGHTS_ALL, "in");
	op.attr.mode = 0100644;
	op.attr_mask = PST_ATTR_MODE;
	assert_int_equal(ops_run(g->s.remote, &op), 0);
	ino = op.ino;
	assert_int_equal(writes(g, ino, "before"), 0);
	served_restart(&g->s);
	op = numbered(PST_OP_LINK, g->cont, ino);
	op.name2 = "new";
	op.name2_len = 3;
	assert_int_equal(ops_run(g->s.remote, &op), 0);
	assert_int_equal(reads(g, ino, "before"), 0);
	assert_int_equal(by_number(g->s.remote, PST_OP_FILE_CLOSE, g->cont, ino), 0);
	served_sleep(&g->s, 2 * GRACE_NS);
	assert_int_equal(run(g->s.store, PST_OP_LOOKUP, g->cont, "in/new", NULL), 0);
	assert_true(exists(g, ino));
}

/* The server notices at once that the channel is dead, and lets go after a lease; the client much later. */
static void away_unnoticed(void **state)
{
	struct rig *g = *state;

	g->s.grace_ns = 0;
	g->s.so.lease_ns = 10 * NSEC_PER_SEC;
	served_restart(&g->s);
	client(g, RIGHTS_ALL, "in");
	assert_int_equal(run(g->s.remote, PST_OP_FILE_OPEN, g->cont, "f", NULL), 0);
	sim_cut(remote_chan(g->s.remote), 13 * NSEC_PER_SEC, NSEC_PER_MSEC);
	served_sleep(&g->s, 15 * NSEC_PER_SEC);
	assert_int_equal(run(g->s.remote, PST_OP_LOOKUP, g->cont, "nothing", NULL), -ENOENT);
	served_sleep(&g->s, NSEC_PER_SEC);
	assert_int_equal(run(g->s.store, PST_OP_UNLINK, g->cont, "in/f", NULL), 0);
	assert_int_equal(reads(g, g->f, "inside"), 0);
	assert_int_equal(by_number(g->s.remote, PST_OP_FILE_CLOSE, g->cont, g->f), 0);
	assert_false(exists(g, g->f));
}

/* The session is gone, and the handle with it. */
static void session_gone(void **state)
{
	struct rig *g = *state;

	client(g, RIGHTS_ALL, "in");
	assert_int_equal(run(g->s.remote, PST_OP_FILE_OPEN, g->cont, "f", NULL), 0);
	served_crash(&g->s);
	served_sleep(&g->s, 10 * NSEC_PER_SEC); /* the client finds nobody */
	g->s.so.expiry_ns = NSEC_PER_MSEC;
	served_up(&g->s);
	for (int i = 0; i < 5; i++)
		(void)loop_turn(g->s.loop, NSEC_PER_MSEC);
	assert_int_equal(run(g->s.remote, PST_OP_LOOKUP, g->cont, "nothing", NULL), -ENOENT);
	served_sleep(&g->s, NSEC_PER_SEC);
	assert_int_equal(reads(g, g->f, ""), -ESTALE);
	assert_int_equal(by_number(g->s.remote, PST_OP_FILE_CLOSE, g->cont, g->f), 0);
	assert_int_equal(run(g->s.remote, PST_OP_FILE_OPEN, g->cont, "f", NULL), 0);
	assert_int_equal(reads(g, g->f, "inside"), 0);
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	static const struct CMUnitTest tests[] = {
	        T(by_handle),
	        T(resolved),
	        T(rights),
	        T(expires),
	        T(revoked),
	        T(destroyed),
	        T(moved_out),
	        T(counted),
	        T(open_and_close),
	        T(no_grace),
	        T(open_unlinked),
	        T(open_unlinked_whole),
	        T(never_back),
	        T(nameless),
	        T(unlinked_in_grace),
	        T(closed_by_the_first_one_back),
	        T(session_gone),
	        T(away_unnoticed),
	};

	pst_log_set(NULL, NULL, PST_LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
