/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_to_server - requests and more, from a client that may say anything, to a listener on the names layer
 * on the model. In version 2 there is a world before it comes: container "a" with in/f, in/l (a symbolic link to f)
 * and secret, and a snapshot of it.
 *
 * What a client can't make up is put into requests of version 2 for it:
 *
 *   container ~0, view ~0     the world's, its snapshot's
 *   offset ~0, of a WATCH     the number that the last answer to a WATCH brought
 *   inode ~0 - 0xff + k       the one that handle k is of
 *   a handle that begins      0xff  stays as it is. Else handle k, the kth (of HANDLES, again and again) that an
 *   with the byte k, then     answer brought; p, x: its byte p is changed by x; how: 1 the request's inode,
 *   p, x, how                 2 its view stay as they are: else they become the handle's
 */
#include "wire_ends.h"

#include "fs/fs.h"
#include "model_store.h"
#include "ops.h"
#include "wire/codec.h"
#include "wire/wire.h"

#define HANDLES 8

static uint8_t window[64 * KIB];

static struct {
	struct session_table *t;
	struct wire_listener *l;
	uint32_t cont;
	uint64_t view, cap;
	char token[CAP_TOKEN_MAX];
	struct wire_welcome w; /* its text is not kept */
	uint64_t number;       /* of the last WATCH's answer */
	struct {
		uint8_t bytes[WIRE_HANDLE_BYTES];
		uint64_t ino, view;
	} handle[HANDLES];
	unsigned handles; /* that were brought */
	struct {
		uint64_t view;
		bool shown;
	} asked[64]; /* by id */
	bool ended;
} z;

/* What inputs of version 2 have reached, since the program began. */
static struct {
	unsigned done[256];  /* requests without a handle that were answered with 0 */
	unsigned shown[256]; /* with one */
	unsigned view, nameless,
	        listed; /* a handle shown of a view; brought by CREATE without a name; by READDIR */
	unsigned forged, stale, other, expired,
	        revoked; /* refused for the handle that they showed */
	unsigned resumed, noticed;
} reached;

/* --- answers --- */

static void keep(const uint8_t *bytes, uint64_t ino, uint64_t view)
{
	unsigned k = z.handles++ % HANDLES;

	memcpy(z.handle[k].bytes, bytes, WIRE_HANDLE_BYTES);
	z.handle[k].ino = ino;
	z.handle[k].view = view;
}

static void page_heard(const struct wire_resp *m, struct wire_in *in, uint64_t view)
{
	const struct pst_op op = {.opcode = m->opcode, .want_values = true};
	struct wire_entry e;

	while (in->at != in->end) {
		pst_assert(!wire_entry_get(in, &op, &e));
		reached.listed += e.handle != NULL;
		if (e.handle)
			keep(e.handle, e.e.id, view);
	}
}

static void count(const struct wire_resp *m, bool shown, uint64_t view)
{
	if (ends.version < 2)
		return;
	if (!m->status) {
		(shown ? reached.shown : reached.done)[m->opcode]++;
		reached.view += shown && view;
		reached.noticed += m->opcode == PST_OP_WATCH && z.number;
	}
	reached.forged += shown && m->status == -EBADF;
	reached.stale += shown && m->status == -ESTALE;
	reached.other += shown && m->status == -EACCES;
	reached.expired += shown && m->status == -EKEYEXPIRED;
	reached.revoked += shown && m->status == -EKEYREVOKED;
}

static void resp_heard(const uint8_t *msg, uint32_t len)
{
	struct pst_op op = {.want_values = true};
	const struct wire_op *w;
	const uint8_t *handle = NULL;
	struct wire_resp m;
	struct wire_in in;
	uint64_t view;

	pst_assert(len >= sizeof(m));
	wire_resp_get(&m, msg);
	pst_assert(wire_resp_sane(&m, len) && m.version == z.w.version);
	view = z.asked[m.id % ARRAY_LEN(z.asked)].view;
	if (!(m.what & WIRE_AGAIN))
		count(&m, z.asked[m.id % ARRAY_LEN(z.asked)].shown, view);
	w = wire_op_of(m.opcode);
	if (m.status || m.what & WIRE_AGAIN || !w)
		return;
	op.opcode = m.opcode;
	in = (struct wire_in){.at = msg + sizeof(m), .version = m.version};
	in.end = in.at + m.body_len;
	if (w->gives && m.opcode != PST_OP_BATCH) /* whose answer takes the batch to be read */
		pst_assert(!wire_answer_get(&in, &op, &handle));
	pst_assert(!handle || m.version > 1);
	reached.nameless += m.opcode == PST_OP_CREATE && handle && !op.attr.nlink;
	if (handle)
		keep(handle, m.word, view);
	if (m.opcode == PST_OP_WATCH)
		z.number = m.ret_off;
	if (w->is & WIRE_OP_LIST && !(m.what & WIRE_PUSHED)) {
		in.end = msg + len;
		in.at = in.end - m.len;
		page_heard(&m, &in, view);
	}
}

static void heard(struct tape *t, const void *msg, uint32_t len)
{
	const uint8_t *m = msg;

	pst_assert(len >= sizeof(struct wire_note));
	if (m[0] == WIRE_WELCOME) {
		pst_assert(!wire_welcome_get(&z.w, msg, len));
		reached.resumed += ends.version > 1 && z.w.resumed;
	} else if (m[0] == WIRE_RESP) {
		resp_heard(msg, len);
	}
}

/* --- requests --- */

static void handle_mend(struct wire_req *m, uint8_t *bytes, uint8_t *end)
{
	unsigned have = MIN(z.handles, HANDLES), k = bytes[0];
	uint8_t place = bytes[1] % WIRE_HANDLE_BYTES, flip = bytes[2], how = bytes[3];

	if (k == 0xff || !have)
		return;
	k %= have;
	memcpy(bytes, z.handle[k].bytes, WIRE_HANDLE_BYTES);
	bytes[place] ^= flip;
	if (!(how & 1))
		m->oid_lo = z.handle[k].ino;
	if (!(how & 1) && m->opcode == PST_OP_EXTENTS && m->body_len >= 24)
		memcpy(end - 8, &z.handle[k].ino, 8); /* the last of its fields */
	if (!(how & 2))
		m->view = z.handle[k].view;
}

static void mend(uint8_t *msg, uint32_t len)
{
	struct wire_req m;
	uint32_t at;

	if (msg[0] != WIRE_REQ || len < sizeof(m))
		return;
	wire_req_get(&m, msg);
	at = sizeof(m) + (m.what & WIRE_WINDOW ? sizeof(struct wire_desc) : 0) +
	     (m.what & WIRE_MARKED ? 2 * WIRE_MARK_BYTES : 0);
	if (m.cont == UINT32_MAX)
		m.cont = z.cont;
	if (m.view == UINT64_MAX)
		m.view = z.view;
	if (m.opcode == PST_OP_WATCH && m.off == UINT64_MAX)
		m.off = z.number;
	if (m.oid_lo >> 8 == UINT64_MAX >> 8 && z.handles)
		m.oid_lo = z.handle[(m.oid_lo & 0xff) % MIN(z.handles, HANDLES)].ino;
	if (m.what & WIRE_HANDLE && len >= at + WIRE_HANDLE_BYTES)
		handle_mend(&m, msg + at, msg + len);
	z.asked[m.id % ARRAY_LEN(z.asked)].view = m.view;
	z.asked[m.id % ARRAY_LEN(z.asked)].shown = m.what & WIRE_HANDLE;
	wire_req_put(msg, &m);
}

static void gone(struct tape *t)
{
	if (ends.tape == t)
		ends.tape = NULL;
}

static void made(struct tape *t)
{
	ends.tape = t;
	t->gone = gone;
	t->sent = heard;
	t->mem = window;
	t->mem_len = sizeof(window);
}

static void come(bool token)
{
	struct wire_hello h = {.version = ends.version,
	                       .version_min = 1,
	                       .slots = 8,
	                       .depth = 16,
	                       .session = z.w.session,
	                       .name = ""};
	static uint8_t msg[1024];

	if (token) {
		h.cred = z.token;
		h.cred_len = (uint32_t)strlen(z.token);
	}
	memcpy(h.secret, z.w.secret, sizeof(h.secret));
	if (!tape_accept(ends.loop, made))
		return;
	tape_say(ends.tape, msg, wire_hello_put(msg, sizeof(msg), &h));
	ends_turns(4);
}

/* --- what the half itself is asked --- */

static void cap_done(struct cap_op *o, int status)
{
	z.ended = true;
}

static void cap_wait(int rc)
{
	for (unsigned i = 0; !rc && !z.ended; i++) {
		pst_assert(i < 100000);
		ends_turns(1);
	}
	z.ended = false;
}

static void ask(const uint8_t *msg, uint32_t len, bool token)
{
	struct cap_op op = {.info.id = z.cap, .by = "test", .done = cap_done};

	switch (msg[0]) {
	case ASK_LATER:
		ends_sleep((msg[1] % 12 + 1) * 600 * NSEC_PER_SEC);
		break;
	case ASK_RETURN:
		if (ends.tape && !ends.tape->is_down)
			tape_down(ends.tape, -ECONNRESET);
		ends_turns(4);
		come(token);
		break;
	case ASK_REVOKE:
		cap_wait(cap_revoke(z.t, &op));
		break;
	case ASK_ROTATE:
		cap_wait(session_key_rotate(z.t, &op));
		break;
	}
}

/* --- the world --- */

static void make(struct store *s, uint8_t opcode, const char *name, const char *text)
{
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
	struct pst_op op = {
	        .opcode = opcode, .cont = z.cont, .name = name, .name_len = (uint32_t)strlen(name)};

	if (opcode == PST_OP_SYMLINK) {
		op.name2 = text;
		op.name2_len = (uint32_t)iov.iov_len;
	} else if (iov.iov_len) {
		op.iov = &iov;
		op.iov_count = 1;
		op.len = iov.iov_len;
	}
	pst_assert(!ops_run(s, &op));
}

static void world(struct store *s)
{
	pst_assert(!ops_cont_create(s, "a", &z.cont));
	make(s, PST_OP_MKDIR, "in", "");
	make(s, PST_OP_CREATE, "in/f", "inside");
	make(s, PST_OP_SYMLINK, "in/l", "f");
	make(s, PST_OP_CREATE, "secret", "secret");
	pst_assert(!ops_snap_create(s, "a", "s", &z.view));
}

static void grant(void)
{
	struct cap_op op = {.info = {.cont_name = "a", .prefix = "in", .rights = RIGHTS_ALL},
	                    .by = "test",
	                    .done = cap_done};

	cap_wait(cap_grant(z.t, &op));
	z.cap = op.info.id;
	memcpy(z.token, op.token, sizeof(z.token));
}

static void messages(struct input *in, bool token)
{
	static uint8_t msg[MESSAGE_MAX];
	uint32_t len;

	for (unsigned i = 0; i < MESSAGES_MAX && (len = ends_next(in, msg)) > 0; i++) {
		if (ends.version > 1 && msg[0] >= ASK_FIRST) {
			ask(msg, len, token);
			continue;
		}
		if (!ends.tape)
			continue;
		if (ends.version > 1)
			mend(msg, len);
		tape_say(ends.tape, msg, len);
		ends_turns(4);
	}
}

void to_server(struct input *in, unsigned how)
{
	struct wire_listener_opts lo = {.bufs = {32, 4, 2, 2, 1}, .colds_max = 4};
	struct session_opts so = {.open_access = true, .sim_seed = 1};
	bool token = how & SERVER_TOKEN && ends.version > 1;
	struct store *model, *s;

	memset(&z, 0, sizeof(z));
	pst_assert(!model_store_new(&model, ends.loop, NULL));
	pst_assert(!fs_new(&s, model, NULL, NULL));
	if (ends.version > 1)
		world(s);
	pst_assert(!session_table_open(&z.t, s, &so, NULL));
	if (token)
		grant();
	pst_assert(!wire_listener_new(&z.l, z.t, &lo, NULL));
	pst_assert(!wire_listener_add(z.l, "tape", "x", NULL, NULL, NULL));
	if (how & SERVER_HELLO)
		come(token);
	else
		pst_assert(tape_accept(ends.loop, made));
	messages(in, token);
	wire_listener_close(z.l, NSEC_PER_MSEC);
	session_table_close(z.t);
	pst_assert(!store_close(s));
}

const char *server_missing(void)
{
	static const struct {
		const char *what;
		const unsigned *count;
	} want[] = {
	        {"server: FILE_READ by a handle", &reached.shown[PST_OP_FILE_READ]},
	        {"server: FILE_WRITE by a handle", &reached.shown[PST_OP_FILE_WRITE]},
	        {"server: GETATTR by a handle", &reached.shown[PST_OP_GETATTR]},
	        {"server: SETATTR by a handle", &reached.shown[PST_OP_SETATTR]},
	        {"server: FSYNC by a handle", &reached.shown[PST_OP_FSYNC]},
	        {"server: LINK by a handle", &reached.shown[PST_OP_LINK]},
	        {"server: READLINK by a handle", &reached.shown[PST_OP_READLINK]},
	        {"server: EXTENTS by a handle", &reached.shown[PST_OP_EXTENTS]},
	        {"server: GETXATTR by a handle", &reached.shown[PST_OP_GETXATTR]},
	        {"server: SETXATTR by a handle", &reached.shown[PST_OP_SETXATTR]},
	        {"server: LISTXATTR by a handle", &reached.shown[PST_OP_LISTXATTR]},
	        {"server: REMOVEXATTR by a handle", &reached.shown[PST_OP_REMOVEXATTR]},
	        {"server: FILE_OPEN by a handle", &reached.shown[PST_OP_FILE_OPEN]},
	        {"server: a handle of a snapshot's view", &reached.view},
	        {"server: a handle that a list brought", &reached.listed},
	        {"server: CREATE without a name", &reached.nameless},
	        {"server: FILE_OPEN by a name", &reached.done[PST_OP_FILE_OPEN]},
	        {"server: FILE_CLOSE", &reached.done[PST_OP_FILE_CLOSE]},
	        {"server: a forged handle", &reached.forged},
	        {"server: another store's handle", &reached.stale},
	        {"server: a handle of another file", &reached.other},
	        {"server: an expired handle", &reached.expired},
	        {"server: a revoked handle", &reached.revoked},
	        {"server: a WATCH that heard of a change", &reached.noticed},
	        {"server: a session that went on", &reached.resumed},
	};

	for (unsigned i = 0; i < ARRAY_LEN(want); i++)
		if (!*want[i].count)
			return want[i].what;
	return NULL;
}
