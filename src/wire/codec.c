/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * codec - the table of ops as the wire sees them, and the fields of requests and answers.
 */
#include "wire/codec.h"

#define B(f) WIRE_BIT(WIRE_F_##f)

enum {
	PATH = B(NAME) | B(DIRS),
	PATHS = B(NAME) | B(NAME2) | B(DIRS),
	TOKEN = WIRE_OP_TOKEN,
	INODE = WIRE_OP_INODE,
};

const struct wire_op wire_ops[256] = {
        [PST_OP_CONT_CREATE] = {WIRE_OP_KNOWN | TOKEN | WIRE_OP_CONT, B(NAME) | B(CONT), B(CONT)},
        [PST_OP_CONT_OPEN] = {WIRE_OP_KNOWN | WIRE_OP_CONT, B(NAME) | B(MASKS), B(CONT)},
        [PST_OP_CONT_LIST] = {WIRE_OP_KNOWN | WIRE_OP_LIST, B(START), 0},
        [PST_OP_CONT_GET] = {WIRE_OP_KNOWN | WIRE_OP_CONT, B(NAME) | B(MASKS), B(CONT)},
        [PST_OP_CONT_SET] = {WIRE_OP_KNOWN | TOKEN | WIRE_OP_CONT, B(NAME) | B(CONT) | B(MASKS),
                             B(CONT)},
        [PST_OP_CONT_DESTROY] = {WIRE_OP_KNOWN | TOKEN | WIRE_OP_CONT, B(NAME), 0},
        [PST_OP_SNAP_CREATE] = {WIRE_OP_KNOWN | TOKEN | WIRE_OP_CONT, B(NAME) | B(NAME2), B(SNAP)},
        [PST_OP_SNAP_OPEN] = {WIRE_OP_KNOWN | WIRE_OP_CONT, B(NAME) | B(NAME2), B(SNAP)},
        [PST_OP_SNAP_LIST] = {WIRE_OP_KNOWN | WIRE_OP_LIST, B(NAME) | B(START), 0},
        [PST_OP_SNAP_DESTROY] = {WIRE_OP_KNOWN | TOKEN | WIRE_OP_CONT, B(NAME) | B(NAME2), 0},

        [PST_OP_READ] = {WIRE_OP_KNOWN | WIRE_OP_OBJECT | WIRE_OP_DATA_OUT | WIRE_OP_HOT, 0, 0},
        [PST_OP_WRITE] = {WIRE_OP_KNOWN | TOKEN | WIRE_OP_OBJECT | WIRE_OP_DATA_IN | WIRE_OP_HOT, 0,
                          0},
        [PST_OP_BATCH] = {WIRE_OP_KNOWN | TOKEN | WIRE_OP_OBJECT | WIRE_OP_BATCH, B(MUTS), B(OFFS)},
        [PST_OP_STAT] = {WIRE_OP_KNOWN | WIRE_OP_OBJECT, 0, B(STAT)},
        [PST_OP_OBJ_LIST] = {WIRE_OP_KNOWN | WIRE_OP_OBJECT | WIRE_OP_LIST, B(START), 0},
        [PST_OP_KV_GET] = {WIRE_OP_KNOWN | WIRE_OP_OBJECT | WIRE_OP_VAL_OUT, B(KEY), 0},
        [PST_OP_KV_LIST] = {WIRE_OP_KNOWN | WIRE_OP_OBJECT | WIRE_OP_LIST, B(KEY) | B(START), 0},
        [PST_OP_FLUSH] = {WIRE_OP_KNOWN, 0, 0},
        [PST_OP_EXTENTS] = {WIRE_OP_KNOWN | INODE | WIRE_OP_OBJECT, PATH | B(RANGE), 0},

        [PST_OP_LOOKUP] = {WIRE_OP_KNOWN | INODE, PATH, B(ATTR) | B(HANDLE)},
        [PST_OP_CREATE] = {WIRE_OP_KNOWN | TOKEN | WIRE_OP_DATA_IN, PATH | B(ATTR) | B(MASKS),
                           B(ATTR) | B(HANDLE)},
        [PST_OP_MKDIR] = {WIRE_OP_KNOWN | TOKEN, PATH | B(ATTR) | B(MASKS), B(ATTR)},
        [PST_OP_SYMLINK] = {WIRE_OP_KNOWN | TOKEN, PATHS | B(ATTR) | B(MASKS), B(ATTR) | B(HANDLE)},
        [PST_OP_LINK] = {WIRE_OP_KNOWN | INODE | TOKEN, PATHS, B(ATTR) | B(HANDLE)},
        [PST_OP_UNLINK] = {WIRE_OP_KNOWN | TOKEN, PATH, B(ATTR)},
        [PST_OP_RMDIR] = {WIRE_OP_KNOWN | TOKEN, PATH, B(ATTR)},
        [PST_OP_RENAME] = {WIRE_OP_KNOWN | TOKEN, PATHS, B(ATTR)},
        [PST_OP_READDIR] = {WIRE_OP_KNOWN | WIRE_OP_LIST, PATH | B(START), 0},
        [PST_OP_READLINK] = {WIRE_OP_KNOWN | INODE | WIRE_OP_VAL_OUT, PATH, 0},
        [PST_OP_GETATTR] = {WIRE_OP_KNOWN | INODE, PATH, B(ATTR) | B(HANDLE)},
        [PST_OP_SETATTR] = {WIRE_OP_KNOWN | INODE | TOKEN, PATH | B(ATTR) | B(MASKS), B(ATTR)},
        [PST_OP_GETXATTR] = {WIRE_OP_KNOWN | INODE | WIRE_OP_VAL_OUT, PATH | B(KEY), 0},
        [PST_OP_SETXATTR] = {WIRE_OP_KNOWN | INODE | TOKEN | WIRE_OP_VAL_IN, PATH | B(KEY), 0},
        [PST_OP_LISTXATTR] = {WIRE_OP_KNOWN | INODE | WIRE_OP_LIST, PATH | B(START), 0},
        [PST_OP_REMOVEXATTR] = {WIRE_OP_KNOWN | INODE | TOKEN, PATH | B(KEY), 0},
        [PST_OP_FILE_OPEN] = {WIRE_OP_KNOWN | INODE | TOKEN, PATH, B(ATTR) | B(HANDLE)},
        [PST_OP_FILE_CLOSE] = {WIRE_OP_KNOWN | TOKEN, 0, 0},
        [PST_OP_FILE_READ] = {WIRE_OP_KNOWN | INODE | WIRE_OP_DATA_OUT | WIRE_OP_HOT, PATH, 0},
        [PST_OP_FILE_WRITE] = {WIRE_OP_KNOWN | INODE | TOKEN | WIRE_OP_DATA_IN | WIRE_OP_HOT, PATH,
                               0},
        [PST_OP_FSYNC] = {WIRE_OP_KNOWN | INODE, PATH, 0},
        [PST_OP_STATFS] = {WIRE_OP_KNOWN, B(MASKS), B(CONT) | B(STATUS)},

        [PST_OP_STATUS] = {WIRE_OP_KNOWN, 0, B(STATUS)},
        [PST_OP_SCRUB] = {WIRE_OP_KNOWN | WIRE_OP_STEADY, B(SCRUB), B(SCRUB)},
        [PST_OP_WATCH] = {WIRE_OP_KNOWN | WIRE_OP_OBJECT | WIRE_OP_STEADY | WIRE_OP_HOT, 0, 0},
        [PST_OP_FIGURES] = {WIRE_OP_KNOWN | WIRE_OP_VAL_OUT, 0, 0},
};

/* --- fields out --- */

/* Begins a field; field_end() fills its length in. */
static uint8_t *field_begin(struct wire_out *out, enum wire_field tag)
{
	uint8_t *at = out->at;

	wire_put_16(out, (uint16_t)tag);
	wire_put_16(out, 0);
	wire_put_32(out, 0);
	return at;
}

static void field_end(struct wire_out *out, uint8_t *at)
{
	size_t len = (size_t)(out->at - at) - 8;
	le32 le = le32_make((uint32_t)len);

	wire_put_pad(out, len);
	if (!out->full)
		memcpy(at + 4, &le, 4);
}

static void field_bytes(struct wire_out *out, enum wire_field tag, const void *p, size_t len)
{
	uint8_t *at = field_begin(out, tag);

	wire_put_bytes(out, p, len);
	field_end(out, at);
}

static void start_put(struct wire_out *out, const struct pst_op *op)
{
	struct pst_oid oid;
	uint8_t *at = field_begin(out, WIRE_F_START);

	if (op->opcode == PST_OP_OBJ_LIST && op->start_len == sizeof(oid)) {
		memcpy(&oid, op->start, sizeof(oid));
		wire_put_64(out, oid.hi);
		wire_put_64(out, oid.lo);
	} else {
		wire_put_bytes(out, op->start, op->start_len);
	}
	field_end(out, at);
}

static void name_put(struct wire_out *out, const struct pst_op *op, uint32_t takes)
{
	if (takes & B(NAME) && op->name_len)
		field_bytes(out, WIRE_F_NAME, op->name, op->name_len);
	if (takes & B(NAME2) && op->name2_len)
		field_bytes(out, WIRE_F_NAME2, op->name2, op->name2_len);
	if (takes & B(DIRS) && (op->dir || op->dir2)) {
		uint8_t *at = field_begin(out, WIRE_F_DIRS);

		wire_put_64(out, op->dir);
		wire_put_64(out, op->dir2);
		field_end(out, at);
	}
}

static uint32_t wanted(const struct pst_op *op)
{
	return (op->cont_info ? WIRE_WANT_CONT : 0) | (op->status_out ? WIRE_WANT_STATUS : 0);
}

static void masks_put(struct wire_out *out, const struct pst_op *op)
{
	uint8_t *at = field_begin(out, WIRE_F_MASKS);

	wire_put_32(out, op->attr_mask);
	wire_put_32(out, wanted(op));
	field_end(out, at);
}

#define FIELD(out, tag, call)                               \
	do {                                                \
		uint8_t *field_at_ = field_begin(out, tag); \
		call;                                       \
		field_end(out, field_at_);                  \
	} while (0)

bool wire_body_put(struct wire_out *out, const struct pst_op *op)
{
	const struct wire_op *w = wire_op_of(op->opcode);

	if (w->takes & B(KEY) && op->key_len)
		field_bytes(out, WIRE_F_KEY, op->key, op->key_len);
	if (w->takes & B(START) && op->start)
		start_put(out, op);
	name_put(out, op, w->takes);
	if (w->takes & B(ATTR))
		FIELD(out, WIRE_F_ATTR, wire_attr_put(out, &op->attr));
	if (w->takes & B(MASKS) && (op->attr_mask || wanted(op)))
		masks_put(out, op);
	if (w->takes & B(CONT) && op->cont_info)
		FIELD(out, WIRE_F_CONT, wire_cont_put(out, op->cont_info));
	if (w->takes & B(SCRUB))
		FIELD(out, WIRE_F_SCRUB, wire_scrub_put(out, op->scrub));
	if (w->takes & B(MUTS))
		FIELD(out, WIRE_F_MUTS, wire_muts_put(out, op));
	if (w->takes & B(RANGE)) {
		uint8_t *at = field_begin(out, WIRE_F_RANGE);

		wire_put_64(out, op->len);
		wire_put_64(out, op->ino);
		field_end(out, at);
	}
	return !out->full;
}

static void offs_put(struct wire_out *out, const struct pst_op *op)
{
	uint8_t *at = NULL;

	for (uint32_t i = 0; i < op->mut_count; i++) {
		if (op->muts[i].kind != PST_ARRAY_APPEND)
			continue;
		if (!at)
			at = field_begin(out, WIRE_F_OFFS);
		wire_put_64(out, op->muts[i].off);
	}
	if (at)
		field_end(out, at);
}

bool wire_answer_put(struct wire_out *out, const struct pst_op *op)
{
	const struct wire_op *w = wire_op_of(op->opcode);

	if (w->gives & B(ATTR))
		FIELD(out, WIRE_F_ATTR, wire_attr_put(out, &op->attr));
	if (w->gives & B(CONT) && op->cont_info)
		FIELD(out, WIRE_F_CONT, wire_cont_put(out, op->cont_info));
	if (w->gives & B(SNAP) && op->snap_info)
		FIELD(out, WIRE_F_SNAP, wire_snap_put(out, op->snap_info));
	if (w->gives & B(STAT))
		FIELD(out, WIRE_F_STAT, wire_stat_put(out, op->stat));
	if (w->gives & B(STATUS) && op->status_out)
		FIELD(out, WIRE_F_STATUS, wire_status_put(out, op->status_out, op->want_values));
	if (w->gives & B(SCRUB))
		FIELD(out, WIRE_F_SCRUB, wire_scrub_put(out, op->scrub));
	if (w->gives & B(OFFS))
		offs_put(out, op);
	return !out->full;
}

bool wire_handle_put(struct wire_out *out, const uint8_t handle[WIRE_HANDLE_BYTES])
{
	field_bytes(out, WIRE_F_HANDLE, handle, WIRE_HANDLE_BYTES);
	return !out->full;
}

/* --- fields in --- */

struct fields {
	uint32_t there;
	struct wire_in in[WIRE_FIELDS];
};

/* Cuts the body into its fields; @allowed: bits of those that may be there. */
static int fields_get(struct wire_in *in, uint32_t allowed, struct fields *f)
{
	unsigned last = 0;

	f->there = 0;
	while (in->at != in->end && !in->bad) {
		uint16_t tag = wire_get_16(in);
		uint32_t len;

		wire_get_zero(in, 2);
		len = wire_get_32(in);
		if (in->bad || tag <= last || tag >= WIRE_FIELDS || !(allowed & WIRE_BIT(tag)))
			return -EPROTO;
		last = tag;
		f->in[tag].at = wire_get_bytes(in, len);
		f->in[tag].end = in->at;
		f->in[tag].bad = false;
		f->in[tag].version = in->version;
		wire_get_pad(in, len);
		f->there |= WIRE_BIT(tag);
	}
	return in->bad ? -EPROTO : 0;
}

static bool has(const struct fields *f, enum wire_field tag)
{
	return f->there & WIRE_BIT(tag);
}

/* A field is bad when it was short, or when something is left of it. */
static bool whole(const struct fields *f, enum wire_field tag)
{
	return !f->in[tag].bad && f->in[tag].at == f->in[tag].end;
}

static const void *all_of(struct fields *f, enum wire_field tag, uint32_t max, uint32_t *ret_len)
{
	struct wire_in *in = &f->in[tag];

	if (wire_in_left(in) > max) {
		in->bad = true;
		return NULL;
	}
	*ret_len = wire_in_left(in);
	return wire_get_bytes(in, *ret_len);
}

static void start_get(struct fields *f, struct pst_op *op, struct wire_scratch *s)
{
	struct wire_in *in = &f->in[WIRE_F_START];

	if (op->opcode == PST_OP_OBJ_LIST) {
		s->start.hi = wire_get_64(in);
		s->start.lo = wire_get_64(in);
		op->start = &s->start;
		op->start_len = sizeof(s->start);
	} else {
		op->start = all_of(f, WIRE_F_START, WIRE_KEY_MAX, &op->start_len);
	}
}

static void text_get(struct fields *f, struct pst_op *op, struct wire_scratch *s)
{
	if (has(f, WIRE_F_KEY))
		op->key = all_of(f, WIRE_F_KEY, WIRE_KEY_MAX, &op->key_len);
	if (has(f, WIRE_F_START))
		start_get(f, op, s);
	if (has(f, WIRE_F_NAME))
		op->name = all_of(f, WIRE_F_NAME, WIRE_PATH_MAX, &op->name_len);
	if (has(f, WIRE_F_NAME2))
		op->name2 = all_of(f, WIRE_F_NAME2, WIRE_PATH_MAX, &op->name2_len);
	if (has(f, WIRE_F_DIRS)) {
		op->dir = wire_get_64(&f->in[WIRE_F_DIRS]);
		op->dir2 = wire_get_64(&f->in[WIRE_F_DIRS]);
	}
}

/* Gives the op places for all that its answer may need. */
static void places(struct pst_op *op, const struct wire_op *w, uint32_t want,
                   struct wire_scratch *s)
{
	if (w->gives & B(CONT) && (want & WIRE_WANT_CONT || op->cont_info))
		op->cont_info = &s->cont;
	if (w->gives & B(SNAP))
		op->snap_info = &s->snap;
	if (w->gives & B(STAT))
		op->stat = &s->stat;
	if (w->gives & B(STATUS) && (want & WIRE_WANT_STATUS || op->opcode == PST_OP_STATUS))
		op->status_out = &s->status;
	if (w->gives & B(SCRUB))
		op->scrub = &s->scrub;
}

int wire_body_get(struct wire_in *in, struct pst_op *op, struct wire_scratch *s,
                  uint32_t payload_len)
{
	const struct wire_op *w = wire_op_of(op->opcode);
	uint32_t want = 0;
	struct fields f;

	if (fields_get(in, w->takes, &f) < 0)
		return -EPROTO;
	memset(&s->cont, 0, sizeof(s->cont));
	text_get(&f, op, s);
	if (has(&f, WIRE_F_ATTR))
		wire_attr_get(&f.in[WIRE_F_ATTR], &op->attr);
	if (has(&f, WIRE_F_MASKS)) {
		op->attr_mask = wire_get_32(&f.in[WIRE_F_MASKS]);
		want = wire_get_32(&f.in[WIRE_F_MASKS]);
	}
	if (has(&f, WIRE_F_CONT)) {
		wire_cont_get(&f.in[WIRE_F_CONT], &s->cont);
		op->cont_info = &s->cont;
	}
	if (has(&f, WIRE_F_RANGE)) {
		op->len = wire_get_64(&f.in[WIRE_F_RANGE]);
		op->ino = wire_get_64(&f.in[WIRE_F_RANGE]);
	}
	if (has(&f, WIRE_F_SCRUB)) {
		memset(&s->scrub, 0, sizeof(s->scrub));
		wire_scrub_get(&f.in[WIRE_F_SCRUB], &s->scrub);
	}
	if (has(&f, WIRE_F_MUTS))
		wire_muts_get(&f.in[WIRE_F_MUTS], op, s, payload_len);
	for (unsigned t = 1; t < WIRE_FIELDS; t++)
		if (has(&f, t) && !whole(&f, t))
			return -EPROTO;
	if ((w->takes & B(MUTS) && !has(&f, WIRE_F_MUTS)) ||
	    (op->opcode == PST_OP_CONT_SET && !op->cont_info))
		return -EPROTO;
	places(op, w, want, s);
	return 0;
}

/* --- answers in --- */

/* What is told is checked as a whole before any of it is given out. */
struct answer {
	struct pst_attr attr;
	struct pst_cont_info cont;
	struct pst_snap_info snap;
	struct pst_obj_stat stat;
	struct pst_store_status status;
	struct pst_scrub_report scrub;
};

static void answer_read(struct fields *f, struct answer *a)
{
	if (has(f, WIRE_F_ATTR))
		wire_attr_get(&f->in[WIRE_F_ATTR], &a->attr);
	if (has(f, WIRE_F_CONT))
		wire_cont_get(&f->in[WIRE_F_CONT], &a->cont);
	if (has(f, WIRE_F_SNAP))
		wire_snap_get(&f->in[WIRE_F_SNAP], &a->snap);
	if (has(f, WIRE_F_STAT))
		wire_stat_get(&f->in[WIRE_F_STAT], &a->stat);
	if (has(f, WIRE_F_STATUS))
		wire_status_get(&f->in[WIRE_F_STATUS], &a->status);
	if (has(f, WIRE_F_SCRUB))
		wire_scrub_get(&f->in[WIRE_F_SCRUB], &a->scrub);
}

static void scrub_copy(struct pst_scrub_report *to, const struct pst_scrub_report *from)
{
	to->total_bytes = from->total_bytes;
	to->done_bytes = from->done_bytes;
	to->objects = from->objects;
	to->errors = from->errors;
	to->repaired = from->repaired;
}

/* As many as the batch has appends. */
static int offs_get(struct wire_in *in, struct pst_op *op)
{
	uint32_t appends = 0;

	for (uint32_t i = 0; i < op->mut_count; i++)
		appends += op->muts[i].kind == PST_ARRAY_APPEND;
	if (wire_in_left(in) != appends * 8)
		return -EPROTO;
	for (uint32_t i = 0; i < op->mut_count; i++)
		if (op->muts[i].kind == PST_ARRAY_APPEND)
			op->muts[i].off = wire_get_64(in);
	return 0;
}

int wire_answer_get(struct wire_in *in, struct pst_op *op, const uint8_t **ret_handle)
{
	const struct wire_op *w = wire_op_of(op->opcode);
	const uint8_t *handle = NULL;
	struct answer a;
	struct fields f;

	if (fields_get(in, w->gives, &f) < 0)
		return -EPROTO;
	memset(&a.stat, 0, sizeof(a.stat));
	answer_read(&f, &a);
	if (has(&f, WIRE_F_HANDLE))
		handle = wire_get_bytes(&f.in[WIRE_F_HANDLE], WIRE_HANDLE_BYTES);
	for (unsigned t = 1; t < WIRE_FIELDS; t++)
		if (has(&f, t) && t != WIRE_F_OFFS && !whole(&f, t))
			return -EPROTO;
	if (((w->gives & B(ATTR)) && !has(&f, WIRE_F_ATTR)) ||
	    (op->stat && !has(&f, WIRE_F_STAT)) || (op->status_out && !has(&f, WIRE_F_STATUS)) ||
	    (op->scrub && !has(&f, WIRE_F_SCRUB)) || (op->snap_info && !has(&f, WIRE_F_SNAP)) ||
	    (op->cont_info && !has(&f, WIRE_F_CONT)))
		return -EPROTO;
	if (has(&f, WIRE_F_OFFS) && offs_get(&f.in[WIRE_F_OFFS], op) < 0)
		return -EPROTO;
	if (has(&f, WIRE_F_ATTR))
		op->attr = a.attr;
	if (op->cont_info)
		*op->cont_info = a.cont;
	if (op->snap_info)
		*op->snap_info = a.snap;
	if (op->stat)
		*op->stat = a.stat;
	if (op->status_out)
		*op->status_out = a.status;
	if (op->scrub)
		scrub_copy(op->scrub, &a.scrub);
	if (ret_handle)
		*ret_handle = handle;
	return 0;
}
