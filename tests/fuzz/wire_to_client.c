/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_to_client - answers and more, from a server that may say anything, to a remote store with an op of
 * each kind under way. Answers and events get the id of a request that the client has sent: byte 8 says
 * which; 0xff (since version 2): the last one with the answer's opcode that had none yet.
 */
#include "wire_ends.h"

#include "wire/codec.h"
#include "wire/wire.h"

#define OPS       96 /* ends of its own, and those that ASK_OP adds */
#define IDS       512
#define SESSION   5
#define BACK_TURN 200 /* until a client that was cut has come back, or won't */

static struct {
	uint64_t id;
	uint8_t opcode;
	bool answered;
} sent[IDS];
static unsigned ids;
static unsigned ended;
static uint8_t memory[PST_OP_FIGURES + 1][8192];
static bool resumed, older, offers;
static uint64_t epoch;

/* What inputs of version 2 have reached, since the program began. */
static struct {
	unsigned done[256];    /* ops that ended with 0 */
	unsigned shown[256];   /* requests with a handle */
	unsigned resent, gone; /* opens by number after a return; ops that ended with -ESTALE, */
	unsigned older;        /* and those that did because the store is an older copy */
} reached;

static void welcome(struct tape *t)
{
	struct wire_welcome w = {.version = ends.version, .session = SESSION, .caps = 0x1ff};
	uint8_t buf[512];

	w.caps |= offers ? WIRE_OFFERS_RDMA : 0;
	w.resumed = resumed;
	w.epoch = epoch;
	w.opening = 7;
	w.opening_seen = older ? 8 : 7;
	w.slots = 64;
	w.depth = OPS;
	w.text = "";
	tape_say(t, buf, wire_welcome_put(buf, sizeof(buf), &w));
}

static void heard(struct tape *t, const void *msg, uint32_t len)
{
	const uint8_t *m = msg;
	struct wire_req r;

	if (m[0] == WIRE_HELLO)
		welcome(t);
	if (m[0] != WIRE_REQ)
		return;
	pst_assert(len >= sizeof(r));
	wire_req_get(&r, msg);
	pst_assert(wire_req_sane(&r, len) && !older);
	reached.shown[r.opcode] += r.what & WIRE_HANDLE ? 1 : 0;
	reached.resent += epoch > 2 && r.opcode == PST_OP_FILE_OPEN && r.oid_lo;
	if (ids == IDS)
		return;
	sent[ids].opcode = r.opcode;
	sent[ids].answered = false;
	sent[ids++].id = r.id;
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
}

/* --- ops --- */

static void done(struct pst_op *op)
{
	ended++;
	if (ends.version < 2)
		return;
	reached.done[op->opcode] += op->status == 0;
	reached.gone += op->status == -ESTALE && !older;
	reached.older += op->status == -ESTALE && older;
}

static bool entry(struct pst_op *op, const struct pst_entry *e)
{
	const volatile uint8_t *name = (const void *)e->name, *val = e->val;

	/* Every byte is read, for the sanitizer to see. */
	for (uint32_t i = 0; i < e->name_len; i++)
		(void)name[i];
	for (uint32_t i = 0; val && i < e->val_len; i++)
		(void)val[i];
	if (e->cont)
		pst_assert(strlen(e->cont->name) <= PST_NAME_MAX);
	return true;
}

/* An op of that kind, with memory for what it may bring. False: it was not taken, or ended at once. */
static bool op_start(struct store *s, struct pst_op *op, uint8_t opcode, uint64_t ino)
{
	static struct pst_cont_info cont;
	static struct pst_snap_info snap;
	static struct pst_obj_stat stat;
	static struct pst_store_status status;
	static struct pst_scrub_report scrub;
	static struct pst_mut mut = {.kind = PST_ARRAY_APPEND, .val = "x", .val_len = 1, .len = 1};
	static struct iovec iov[PST_OP_FIGURES + 1];
	const struct wire_op *w = opcode <= PST_OP_FIGURES ? wire_op_of(opcode) : NULL;

	if (!w)
		return false;
	*op = (struct pst_op){.opcode = opcode, .cont = 1, .ino = ino, .entry = entry};
	op->done = done;
	op->cont_info = w->gives & WIRE_BIT(WIRE_F_CONT) ? &cont : NULL;
	op->snap_info = w->gives & WIRE_BIT(WIRE_F_SNAP) ? &snap : NULL;
	op->stat = w->gives & WIRE_BIT(WIRE_F_STAT) ? &stat : NULL;
	op->status_out = w->gives & WIRE_BIT(WIRE_F_STATUS) ? &status : NULL;
	op->scrub = w->gives & WIRE_BIT(WIRE_F_SCRUB) ? &scrub : NULL;
	op->muts = &mut;
	op->mut_count = 1;
	op->val = memory[opcode];
	op->val_cap = 100;
	op->want_values = true;
	iov[opcode] = (struct iovec){memory[opcode], sizeof(memory[opcode])};
	op->iov = &iov[opcode];
	op->iov_count = 1;
	op->len = sizeof(memory[opcode]);
	return store_submit(s, op) == PST_QUEUED;
}

/* --- messages --- */

static uint64_t id_for(const uint8_t *msg)
{
	if (ends.version > 1 && msg[0] == WIRE_RESP && msg[8] == 0xff)
		for (unsigned i = ids; i-- > 0;)
			if (sent[i].opcode == msg[2] && !sent[i].answered) {
				sent[i].answered = true;
				return sent[i].id;
			}
	return sent[msg[8] % ids].id;
}

static void mend(uint8_t *msg, uint32_t len)
{
	bool push = len >= 16 && msg[9] & 1;
	uint64_t id;

	if (len < 16 || !ids || (msg[0] != WIRE_RESP && msg[0] != WIRE_EVENT))
		return;
	id = id_for(msg);
	msg[1] = ends.version;
	memcpy(msg + 8, &id, 8);
	if (msg[0] == WIRE_RESP && push && ends.tape && ends.tape->window)
		msg[3] |= WIRE_PUSHED;
}

static void come_back(uint8_t how)
{
	resumed = how & 1;
	epoch += how >> 1 & 1;
	if (ends.tape && !ends.tape->is_down)
		tape_down(ends.tape, -ECONNRESET);
	older |= how >> 2 & 1;
	offers = how >> 3 & 1;
	ends_turns(BACK_TURN);
}

struct client {
	struct store *s;
	struct pst_op op[OPS];
	unsigned used, count; /* of op; of those that are to end */
};

static void ask(struct client *c, const uint8_t *msg, uint32_t len)
{
	uint64_t ino = 0;

	switch (msg[0]) {
	case ASK_LATER:
		ends_sleep((msg[1] % 12 + 1) * 600 * NSEC_PER_SEC);
		break;
	case ASK_RETURN:
		come_back(msg[1]);
		break;
	case ASK_OP:
		if (len < 12 || c->used == OPS)
			break;
		memcpy(&ino, msg + 4, 8);
		c->count += op_start(c->s, &c->op[c->used++], msg[1], ino);
		ends_turns(2);
		break;
	case ASK_CANCEL:
		if (c->used)
			store_cancel(c->s, &c->op[msg[1] % c->used]);
		break;
	}
}

static void all_end(struct client *c)
{
	tape_made = NULL; /* nobody answers any more: they end by their time */
	if (ends.tape) {
		ends.tape->sent = NULL;
		if (!ends.tape->is_down)
			tape_down(ends.tape, -ECONNRESET);
	}
	while (ended < c->count)
		(void)loop_turn(ends.loop, NSEC_PER_SEC);
	(void)store_close(c->s);
}

void to_client(struct input *in)
{
	struct remote_opts o = {.at = {{.provider = "tape", .addr = "x"},
	                               {.provider = "tape", .addr = "y", .offered = true}},
	                        .at_count = 2,
	                        .seed = 1,
	                        .name = "fuzz",
	                        .bufs = {16, 4, 2, 1, 1}};
	static uint8_t msg[MESSAGE_MAX];
	static struct client c;
	uint32_t len;

	memset(&c, 0, sizeof(c));
	ids = ended = 0;
	epoch = 2;
	resumed = older = offers = false;
	o.reconnect_ns = NSEC_PER_SEC;
	tape_made = made;
	if (remote_open(&c.s, ends.loop, &o, NULL))
		return;
	for (unsigned k = 1; k <= PST_OP_FIGURES; k++) {
		bool queued = op_start(c.s, &c.op[c.used], (uint8_t)k, 0);

		c.used += queued;
		c.count += queued;
	}
	ends_turns(c.count + 2);
	for (unsigned i = 0; i < MESSAGES_MAX && (len = ends_next(in, msg)) > 0; i++) {
		if (ends.version > 1 && msg[0] >= ASK_FIRST) {
			ask(&c, msg, len);
			continue;
		}
		mend(msg, len);
		if (ends.tape)
			tape_say(ends.tape, msg, len);
		ends_turns(1);
	}
	all_end(&c);
}

const char *client_missing(void)
{
	static const struct {
		const char *what;
		const unsigned *count;
	} want[] = {
	        {"client: a FILE_OPEN that ended well", &reached.done[PST_OP_FILE_OPEN]},
	        {"client: a FILE_CLOSE that ended well", &reached.done[PST_OP_FILE_CLOSE]},
	        {"client: a CREATE that ended well", &reached.done[PST_OP_CREATE]},
	        {"client: a READDIR that ended well", &reached.done[PST_OP_READDIR]},
	        {"client: a WATCH that ended well", &reached.done[PST_OP_WATCH]},
	        {"client: a STATUS that ended well", &reached.done[PST_OP_STATUS]},
	        {"client: a read that ended well", &reached.done[PST_OP_FILE_READ]},
	        {"client: a write that ended well", &reached.done[PST_OP_FILE_WRITE]},
	        {"client: a handle shown by a read", &reached.shown[PST_OP_FILE_READ]},
	        {"client: a handle shown by a write", &reached.shown[PST_OP_FILE_WRITE]},
	        {"client: a handle shown to have it renewed", &reached.shown[PST_OP_GETATTR]},
	        {"client: a handle shown by a FILE_OPEN", &reached.shown[PST_OP_FILE_OPEN]},
	        {"client: a handle shown by an xattr's op", &reached.shown[PST_OP_GETXATTR]},
	        {"client: what was open is opened again", &reached.resent},
	        {"client: what was open is lost", &reached.gone},
	        {"client: an older copy is found out", &reached.older},
	};

	for (unsigned i = 0; i < ARRAY_LEN(want); i++)
		if (!*want[i].count)
			return want[i].what;
	return NULL;
}
