/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * page - the pages that lists travel in: entries, one after the other.
 *
 *   OFFSET SIZE MEANING
 *        0    2 length of the name
 *        2    1 type (READDIR: DT_*)
 *        3    1 what is there: 1 attributes, 2 a container, 4 a snapshot, 8 a handle
 *        4    4 length of the value
 *        8    8 id
 *       16   16 object: hi, lo
 *       32      name, value, attributes or information, handle, zeroes up to a multiple of 8
 *
 * An object list's entries have no name: it is the object's id.
 */
#include "wire/codec.h"

enum {
	HAS_ATTR = 1,
	HAS_CONT = 2,
	HAS_SNAP = 4,
	HAS_HANDLE = 8,
};

bool wire_entry_put(struct wire_out *out, const struct pst_op *op, const struct pst_entry *e,
                    const uint8_t *handle)
{
	uint8_t *begin = out->at;
	uint32_t name_len = op->opcode == PST_OP_OBJ_LIST ? 0 : e->name_len;
	uint32_t val_len = e->val ? e->val_len : 0;

	wire_put_16(out, (uint16_t)name_len);
	wire_put_8(out, e->type);
	wire_put_8(out, (uint8_t)((e->attr ? HAS_ATTR : 0) | (e->cont ? HAS_CONT : 0) |
	                          (e->snap ? HAS_SNAP : 0) | (handle ? HAS_HANDLE : 0)));
	wire_put_32(out, val_len);
	wire_put_64(out, e->id);
	wire_put_64(out, e->oid.hi);
	wire_put_64(out, e->oid.lo);
	wire_put_bytes(out, e->name, name_len);
	wire_put_bytes(out, e->val, val_len);
	if (e->attr)
		wire_attr_put(out, e->attr);
	if (e->cont)
		wire_cont_put(out, e->cont);
	if (e->snap)
		wire_snap_put(out, e->snap);
	if (handle)
		wire_put_bytes(out, handle, WIRE_HANDLE_BYTES);
	wire_put_pad(out, (size_t)(out->at - begin));
	if (!out->full)
		return true;
	out->at = begin;
	out->full = false;
	return false;
}

int wire_entry_get(struct wire_in *in, const struct pst_op *op, struct wire_entry *w)
{
	const uint8_t *begin = in->at;
	struct pst_entry *e = &w->e;
	uint8_t has, info;

	memset(e, 0, sizeof(*e));
	e->name_len = wire_get_16(in);
	e->type = wire_get_8(in);
	has = wire_get_8(in);
	e->val_len = wire_get_32(in);
	e->id = wire_get_64(in);
	e->oid.hi = wire_get_64(in);
	e->oid.lo = wire_get_64(in);
	info = has & (HAS_ATTR | HAS_CONT | HAS_SNAP);
	if (has > 15 || (info & (info - 1)) || e->name_len > WIRE_KEY_MAX ||
	    e->val_len > PST_VALUE_MAX || (e->val_len && !op->want_values) ||
	    !e->name_len != (op->opcode == PST_OP_OBJ_LIST) ||
	    (has & HAS_HANDLE && op->opcode != PST_OP_READDIR))
		return -EPROTO;
	e->name = wire_get_bytes(in, e->name_len);
	e->val = wire_get_bytes(in, e->val_len);
	if (!op->want_values)
		e->val = NULL;
	if (has & HAS_ATTR) {
		wire_attr_get(in, &w->attr);
		e->attr = &w->attr;
	}
	if (has & HAS_CONT) {
		wire_cont_get(in, &w->cont);
		e->cont = &w->cont;
	}
	if (has & HAS_SNAP) {
		wire_snap_get(in, &w->snap);
		e->snap = &w->snap;
	}
	w->handle = has & HAS_HANDLE ? wire_get_bytes(in, WIRE_HANDLE_BYTES) : NULL;
	wire_get_pad(in, (size_t)(in->at - begin));
	if (in->bad || (op->opcode == PST_OP_CONT_LIST) != (e->cont != NULL) ||
	    (op->opcode == PST_OP_SNAP_LIST) != (e->snap != NULL))
		return -EPROTO;
	if (op->opcode == PST_OP_OBJ_LIST) {
		w->oid = e->oid;
		e->name = &w->oid;
		e->name_len = sizeof(w->oid);
	}
	return 0;
}

uint32_t wire_entry_place(const struct pst_op *op, const struct pst_entry *e, uint8_t *ret)
{
	memcpy(ret, e->name, e->name_len);
	return e->name_len;
}
