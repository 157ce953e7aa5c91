/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_session - what a hostile client may say: tokens, secrets, handles, and requests of every kind
 * under a capability for the directory /in. The input is a program. Whatever it does, nothing beside
 * /in is read or changed, no token that the fuzzer makes up is accepted, and the table is whole enough
 * to be closed.
 */
#include "fs/fs.h"
#include "model_store.h"
#include "ops.h"
#include "session/session_int.h"

#include "fuzz.h"

#define STEPS_MAX 32

static const void *bytes(struct input *in, size_t want, uint32_t *ret_len)
{
	const void *p = in->data;

	*ret_len = (uint32_t)MIN(want, in->len);
	in->data += *ret_len;
	in->len -= *ret_len;
	return p;
}

struct fuzzed {
	struct loop *loop;
	struct store *fs;
	struct session_table *t;
	struct session_conn conn;
	struct session_req req;
	uint32_t cont;
	uint64_t ino[6]; /* root, in, out, in/f, out/secret, the last one that was answered */
	char token[CAP_TOKEN_MAX];
	uint8_t handle[SESSION_HANDLE_BYTES];
	bool ended;
	int status;
};

static void turn(struct fuzzed *z)
{
	(void)loop_turn(z->loop, NSEC_PER_MSEC);
}

static int run(struct fuzzed *z, uint8_t opcode, const char *name, const char *text, uint64_t *ret)
{
	struct iovec iov = {(void *)(uintptr_t)text, text ? strlen(text) : 0};
	struct pst_op op = {.opcode = opcode,
	                    .cont = z->cont,
	                    .name = name,
	                    .name_len = (uint32_t)strlen(name),
	                    .iov = &iov,
	                    .iov_count = text ? 1 : 0,
	                    .len = iov.iov_len};
	int rc = ops_run(z->fs, &op);

	*ret = op.ino;
	return rc;
}

static void cap_done(struct cap_op *o, int status)
{
	pst_assert(!status);
	o->info.id |= 1ull << 63;
}

static void open_done(struct session_open *o, int status)
{
	pst_assert(!status);
	o->slots |= 1u << 31;
}

static void cut(struct session_conn *c, int why)
{
}

static void start(struct fuzzed *z)
{
	struct session_opts opts = {.owner_uid = 1, .sim_seed = 7, .opens_max = 4};
	struct loop_opts lo;
	struct store *model;
	struct cap_op cap = {.info = {.cont_name = "a", .prefix = "in", .rights = RIGHTS_ALL},
	                     .by = "test",
	                     .done = cap_done};
	struct session_open o = {.conn = &z->conn, .slots = 4, .done = open_done};

	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = 1750000000 * NSEC_PER_SEC;
	pst_assert(!loop_new(&z->loop, &lo, NULL) && !model_store_new(&model, z->loop, NULL) &&
	           !fs_new(&z->fs, model, NULL, NULL) && !ops_cont_create(z->fs, "a", &z->cont));
	z->ino[0] = PST_INO_ROOT;
	pst_assert(!run(z, PST_OP_MKDIR, "in", NULL, &z->ino[1]));
	pst_assert(!run(z, PST_OP_MKDIR, "out", NULL, &z->ino[2]));
	pst_assert(!run(z, PST_OP_CREATE, "in/f", "inside", &z->ino[3]));
	pst_assert(!run(z, PST_OP_CREATE, "out/secret", "secret", &z->ino[4]));
	pst_assert(!session_table_open(&z->t, z->fs, &opts, NULL));
	pst_assert(!cap_grant(z->t, &cap));
	while (!(cap.info.id >> 63))
		turn(z);
	memcpy(z->token, cap.token, sizeof(z->token));
	session_conn_init(&z->conn, z->t, cut);
	pst_assert(!session_auth_token(z->t, &o.ident, z->token, strlen(z->token)));
	pst_assert(!session_open(&o));
	while (!(o.slots >> 31))
		turn(z);
	pst_assert(!handle_seal(z->conn.session, z->t->cap[1], RIGHTS_ALL, z->cont,
	                        fs_oid(z->ino[3]), 0, z->handle));
}

static bool only_secret(struct pst_op *op, const struct pst_entry *e)
{
	pst_assert(e->name_len == 6 && !memcmp(e->name, "secret", 6));
	(*(unsigned *)op->user)++;
	return true;
}

static bool root_entry(struct pst_op *op, const struct pst_entry *e)
{
	pst_assert((e->name_len == 2 && !memcmp(e->name, "in", 2)) ||
	           (e->name_len == 3 && !memcmp(e->name, "out", 3)));
	return true;
}

/* What lies beside the prefix is as it was. */
static void check(struct fuzzed *z)
{
	unsigned count = 0;
	char buf[16] = "";
	struct iovec iov = {buf, 15};
	struct pst_op op = {.opcode = PST_OP_FILE_READ,
	                    .cont = z->cont,
	                    .name = "out/secret",
	                    .name_len = 10,
	                    .iov = &iov,
	                    .iov_count = 1,
	                    .len = 15};

	pst_assert(!ops_run(z->fs, &op) && !strcmp(buf, "secret"));
	op = (struct pst_op){.opcode = PST_OP_GETATTR, .cont = z->cont, .ino = z->ino[4]};
	pst_assert(!ops_run(z->fs, &op) && op.attr.nlink == 1 && op.attr.uid == 0 &&
	           (op.attr.mode & 07777) == 0644);
	op = (struct pst_op){.opcode = PST_OP_READDIR,
	                     .cont = z->cont,
	                     .ino = z->ino[2],
	                     .entry = only_secret,
	                     .user = &count};
	pst_assert(store_submit(z->fs, &op) == PST_DONE && !op.status && count == 1);
	op.ino = PST_INO_ROOT;
	op.entry = root_entry;
	pst_assert(store_submit(z->fs, &op) == PST_DONE && !op.status);
}

static void finish(struct fuzzed *z)
{
	session_conn_done(&z->conn);
	turn(z);
	check(z);
	session_table_close(z->t);
	store_close(z->fs);
	loop_free(z->loop);
}

/* --- requests --- */

/* Others leave op->ino as the message had it. */
static bool answers_inode(const struct pst_op *op)
{
	return (op->opcode >= PST_OP_LOOKUP && op->opcode <= PST_OP_LINK) ||
	       op->opcode == PST_OP_GETATTR || op->opcode == PST_OP_SETATTR ||
	       op->opcode == PST_OP_FILE_OPEN;
}

/* Of these op->ino says what was read or changed. */
static bool takes_inode(const struct pst_op *op)
{
	return (op->opcode >= PST_OP_READDIR && op->opcode <= PST_OP_REMOVEXATTR) ||
	       op->opcode == PST_OP_FILE_READ || op->opcode == PST_OP_FILE_WRITE;
}

static void end(struct fuzzed *z)
{
	const struct pst_op *op = &z->req.op;

	if (!op->status && op->ino && (answers_inode(op) || takes_inode(op))) {
		pst_assert(op->ino != z->ino[2] && op->ino != z->ino[4]);
		z->ino[5] = op->ino;
		(void)session_handle(&z->req, z->handle);
	}
	z->status = session_end(&z->req);
	z->ended = true;
}

static void done(struct pst_op *op)
{
	end(container_of(op, struct fuzzed, req.op));
}

static void go(struct session_req *r, int status)
{
	struct fuzzed *z = container_of(r, struct fuzzed, req);

	if (!status) {
		session_submit(r);
		return;
	}
	z->status = status;
	z->ended = true;
}

static bool inside_only(struct pst_op *op, const struct pst_entry *e)
{
	pst_assert(!(e->name_len == 6 && !memcmp(e->name, "secret", 6)) ||
	           op->opcode != PST_OP_READDIR);
	pst_assert(!e->name_len || *(const char *)e->name != ':');
	return true;
}

static void request(struct fuzzed *z, struct input *in)
{
	static char out[PST_PATH_MAX];
	static struct pst_cont_info info;
	static struct pst_snap_info snap;
	static struct pst_obj_stat st;
	static struct pst_store_status status;
	struct pst_op *op = &z->req.op;
	uint8_t flags, pick, what = byte(in);
	uint8_t handle[SESSION_HANDLE_BYTES];
	struct pst_mut mut[2] = {{0}};
	struct iovec iov;
	uint32_t n;

	memset(&z->req, 0, sizeof(z->req));
	op->opcode = byte(in);
	flags = byte(in);
	pick = byte(in);
	op->cont = what & 1 ? z->cont : what & 2 ? z->t->sys_cont : byte(in);
	op->flags = flags & 0x7f;
	op->ino = z->ino[pick % 6] * (what >> 7);
	op->dir = z->ino[pick / 6 % 6] * (what >> 6 & 1);
	op->dir2 = z->ino[byte(in) % 6] * (what >> 5 & 1);
	op->name_len = byte(in) % 64;
	op->name = bytes(in, op->name_len, &n);
	op->name_len = n;
	op->name2_len = byte(in) % 64;
	op->name2 = bytes(in, op->name2_len, &n);
	op->name2_len = n;
	op->attr_mask = byte(in);
	op->attr.uid = byte(in);
	op->key = op->name2;
	op->key_len = op->name2_len;
	op->val = out;
	op->val_cap = op->opcode == PST_OP_SETXATTR ? 8 : sizeof(out);
	op->oid = fs_oid(z->ino[byte(in) % 6]);
	iov = (struct iovec){out, op->len = byte(in) % 32};
	op->iov = &iov;
	op->iov_count = 1;
	mut[0] = (struct pst_mut){.kind = byte(in),
	                          .oid = op->oid,
	                          .key = op->name2,
	                          .key_len = op->name2_len,
	                          .val = out,
	                          .val_len = 4,
	                          .len = 4};
	op->muts = mut;
	op->mut_count = flags >> 7;
	op->cont_info = &info;
	op->snap_info = &snap;
	op->stat = &st;
	op->status_out = &status;
	op->entry = inside_only;
	op->done = done;
	if (what & 4)
		op->token = (struct pst_token){.session = session_number(z->conn.session),
		                               .slot = byte(in) % 5,
		                               .seq = byte(in) % 4};
	memcpy(handle, z->handle, sizeof(handle));
	if (what & 8)
		handle[byte(in) % SESSION_HANDLE_BYTES] ^= byte(in);
	z->req.handle = what & 24 ? handle : NULL;
	z->req.go = go;
	z->ended = false;
	if (op->opcode == PST_OP_SCRUB || op->opcode == PST_OP_STATFS)
		return;
	int rc = session_admit(&z->conn, &z->req);

	if (!rc)
		session_submit(&z->req);
	else if (rc != -EINPROGRESS)
		return;
	while (!z->ended)
		turn(z);
}

static void step(struct fuzzed *z, struct input *in)
{
	struct ident id = {0};
	char text[CAP_TOKEN_MAX + 8];
	uint8_t secret[SESSION_SECRET_BYTES] = {0};
	const void *p;
	uint32_t n;

	switch (byte(in) % 8) {
	case 0: /* a token, made up or made out of a good one */
		memcpy(text, z->token, CAP_TOKEN_MAX);
		n = byte(in) % sizeof(text);
		text[n % CAP_TOKEN_MAX] = (char)byte(in);
		p = bytes(in, byte(in) % 16, &n);
		memcpy(text + 8, p, n);
		n = byte(in) & 1 ? 58 : byte(in) % sizeof(text);
		if (n != 58 || memcmp(text, z->token, n) != 0)
			pst_assert(session_auth_token(z->t, &id, text, n) < 0);
		break;
	case 1:
		p = bytes(in, sizeof(secret), &n);
		memcpy(secret, p, n);
		{
			struct session_conn c;

			session_conn_init(&c, z->t, cut);
			pst_assert(z->conn.session == NULL ||
			           session_resume(&c, session_number(z->conn.session), secret) < 0);
			session_conn_done(&c);
		}
		break;
	default:
		if (z->conn.session)
			request(z, in);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {.data = data, .len = size};
	static struct fuzzed z;

	memset(&z, 0, sizeof(z));
	start(&z);
	for (unsigned i = 0; i < STEPS_MAX && in.len; i++)
		step(&z, &in);
	finish(&z);
	return 0;
}
