/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_wire - hostile bytes from both ends of a channel, on a tape.
 *
 * The first byte chooses the direction. To a client: a remote store with an op of each kind under way
 * gets the rest as messages (a length of two bytes before each); ids are mended, so that answers find
 * someone. To a server: a listener on the names layer on the model gets them, behind a good hello, or
 * without one. Nothing may crash, be read beyond its end, or be left behind; and whatever the peer
 * says, every op of the client ends.
 */
#include "fuzz.h"

#include "fs/fs.h"
#include "model_store.h"
#include "tape.h"
#include "wire/codec.h"
#include "wire/wire.h"

#define MESSAGES_MAX 40

static struct loop *loop;
static struct tape *tape;

static void loop_make(void)
{
	struct loop_opts lo;

	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = NSEC_PER_SEC;
	pst_assert(!loop_new(&loop, &lo, NULL));
}

static void turns(unsigned n)
{
	while (n-- > 0)
		(void)loop_turn(loop, 2 * NSEC_PER_MSEC);
}

/* --- to a client --- */

#define OPS 96

static uint64_t last_id[OPS];
static unsigned ids;
static unsigned ended;
static uint8_t memory[PST_OP_FIGURES + 1][8192];

static void heard(struct tape *t, const void *msg, uint32_t len)
{
	const uint8_t *m = msg;
	struct wire_req r;
	uint8_t buf[512];

	if (m[0] == WIRE_REQ && ids < OPS) {
		wire_req_get(&r, msg);
		last_id[ids++] = r.id;
	} else if (m[0] == WIRE_HELLO) {
		struct wire_welcome w = {.version = 1, .session = 5, .epoch = 2, .caps = 0x1ff};

		w.slots = 64;
		w.depth = OPS;
		w.text = "";
		tape_say(t, buf, wire_welcome_put(buf, sizeof(buf), &w));
	}
}

static void gone(struct tape *t)
{
	if (tape == t)
		tape = NULL;
}

static void client_made(struct tape *t)
{
	tape = t;
	t->gone = gone;
	t->sent = heard;
}

static void client_done(struct pst_op *op)
{
	ended++;
}

static bool client_entry(struct pst_op *op, const struct pst_entry *e)
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

/* An op of each kind, with memory for what it may bring. */
static unsigned client_ops(struct store *s, struct pst_op *ops)
{
	static struct pst_cont_info cont;
	static struct pst_snap_info snap;
	static struct pst_obj_stat stat;
	static struct pst_store_status status;
	static struct pst_scrub_report scrub;
	static struct pst_mut mut = {.kind = PST_ARRAY_APPEND, .val = "x", .val_len = 1, .len = 1};
	static struct iovec iov[PST_OP_FIGURES + 1];
	unsigned n = 0;

	for (unsigned c = 1; c <= PST_OP_FIGURES; c++) {
		const struct wire_op *w = wire_op_of((uint8_t)c);
		struct pst_op *op = &ops[n];

		if (!w)
			continue;
		*op = (struct pst_op){.opcode = (uint8_t)c, .cont = 1, .entry = client_entry};
		op->done = client_done;
		op->cont_info = w->gives & WIRE_BIT(WIRE_F_CONT) ? &cont : NULL;
		op->snap_info = w->gives & WIRE_BIT(WIRE_F_SNAP) ? &snap : NULL;
		op->stat = w->gives & WIRE_BIT(WIRE_F_STAT) ? &stat : NULL;
		op->status_out = w->gives & WIRE_BIT(WIRE_F_STATUS) ? &status : NULL;
		op->scrub = w->gives & WIRE_BIT(WIRE_F_SCRUB) ? &scrub : NULL;
		op->muts = &mut;
		op->mut_count = 1;
		op->val = memory[c];
		op->val_cap = 100;
		op->want_values = true;
		iov[c] = (struct iovec){memory[c], sizeof(memory[c])};
		op->iov = &iov[c];
		op->iov_count = 1;
		op->len = sizeof(memory[c]);
		n += store_submit(s, op) == PST_QUEUED;
	}
	return n;
}

/* The next message of the input; its length comes first. */
static uint32_t next(const uint8_t **data, size_t *size, uint8_t *msg, uint32_t cap)
{
	uint32_t len;

	if (*size < 3)
		return 0;
	len = (uint32_t)((*data)[0] | (*data)[1] << 8) % cap;
	*data += 2;
	*size -= 2;
	len = (uint32_t)MIN(len, *size);
	memcpy(msg, *data, len);
	*data += len;
	*size -= len;
	return len;
}

static void to_client(const uint8_t *data, size_t size)
{
	struct remote_opts o = {.at = {{.provider = "tape", .addr = "x"}},
	                        .at_count = 1,
	                        .seed = 1,
	                        .name = "fuzz"};
	static struct pst_op ops[OPS];
	static uint8_t msg[16 * KIB];
	struct store *s;
	unsigned count;
	uint32_t len;

	ids = ended = 0;
	o.reconnect_ns = NSEC_PER_SEC;
	tape_made = client_made;
	if (remote_open(&s, loop, &o, NULL))
		return;
	count = client_ops(s, ops);
	turns(count + 2);
	for (unsigned i = 0; i < MESSAGES_MAX && (len = next(&data, &size, msg, sizeof(msg))) > 0;
	     i++) {
		if (len >= 16 && ids && (msg[0] == WIRE_RESP || msg[0] == WIRE_EVENT)) {
			msg[1] = 1;
			memcpy(msg + 8, &last_id[msg[8] % ids], 8);
			if (msg[0] == WIRE_RESP && msg[9] & 1 && tape && tape->window)
				msg[3] |= WIRE_PUSHED;
		}
		if (tape)
			tape_say(tape, msg, len);
		turns(1);
	}
	tape_made = NULL; /* nobody answers any more: they end by their time */
	if (tape) {
		tape->sent = NULL;
		if (!tape->is_down)
			tape_down(tape, -ECONNRESET);
	}
	while (ended < count)
		(void)loop_turn(loop, NSEC_PER_SEC);
	(void)store_close(s);
}

/* --- to a server --- */

static uint8_t server_memory[64 * KIB];

static void server_made(struct tape *t)
{
	tape = t;
	t->gone = gone;
	t->mem = server_memory;
	t->mem_len = sizeof(server_memory);
}

static void to_server(const uint8_t *data, size_t size, bool hello)
{
	struct wire_hello h = {.version = 1, .version_min = 1, .slots = 8, .depth = 16, .name = ""};
	struct wire_listener_opts lo = {.bufs = {32, 4, 2, 2, 1}, .colds_max = 4};
	struct session_opts so = {.open_access = true, .sim_seed = 1};
	static uint8_t msg[16 * KIB];
	struct wire_listener *l;
	struct session_table *t;
	struct store *model, *s;
	uint32_t len;

	pst_assert(!model_store_new(&model, loop, NULL));
	pst_assert(!fs_new(&s, model, NULL, NULL));
	pst_assert(!session_table_open(&t, s, &so, NULL));
	pst_assert(!wire_listener_new(&l, t, &lo, NULL));
	pst_assert(!wire_listener_add(l, "tape", "x", NULL, NULL, NULL));
	pst_assert(tape_accept(loop, server_made));
	if (hello && tape) {
		tape_say(tape, msg, wire_hello_put(msg, sizeof(msg), &h));
		turns(4);
	}
	for (unsigned i = 0;
	     i < MESSAGES_MAX && tape && (len = next(&data, &size, msg, sizeof(msg))) > 0; i++) {
		tape_say(tape, msg, len);
		turns(2);
	}
	wire_listener_close(l, NSEC_PER_MSEC);
	session_table_close(t);
	pst_assert(!store_close(s));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	loop_make();
	if (data[0] % 4 == 0)
		to_client(data + 1, size - 1);
	else
		to_server(data + 1, size - 1, data[0] % 4 != 1);
	pst_assert(!tape_alive());
	loop_free(loop);
	return 0;
}
