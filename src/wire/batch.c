/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * batch - a batch's conditions and changes as a field, and its payload: what they write, one after
 * the other, in the order of the changes that carry any.
 *
 * The field: the count (4), zero (4), then for each
 *
 *   OFFSET SIZE MEANING
 *        0    1 kind: enum pst_mut_kind
 *        1    1 zero
 *        2    2 length of the key
 *        4    4 err of a condition, as in a status
 *        8   16 object: hi, lo
 *       24    8 offset, size or time
 *       32    8 length; of what carries payload, how much
 *       40      the key, zeroes up to a multiple of 8
 */
#include "wire/codec.h"

enum carries {
	NOTHING,
	VALUE, /* val, val_len */
	DATA,  /* iov or val, len */
};

static enum carries carries(uint8_t kind)
{
	switch (kind) {
	case PST_IF_KEY_EQ:
	case PST_IF_LABEL_EQ:
	case PST_KV_PUT:
	case PST_SET_LABEL:
		return VALUE;
	case PST_ARRAY_WRITE:
	case PST_ARRAY_APPEND:
		return DATA;
	default:
		return NOTHING;
	}
}

/* Its err says what the batch ends with; that of a change says nothing. */
static bool is_condition(unsigned kind)
{
	return kind < PST_KV_PUT;
}

static bool has_key(uint8_t kind)
{
	return (kind >= PST_IF_KEY_ABSENT && kind <= PST_IF_NO_KEYS) || kind == PST_KV_PUT ||
	       kind == PST_KV_DEL;
}

static uint64_t payload_of(const struct pst_mut *m)
{
	switch (carries(m->kind)) {
	case VALUE:
		return m->val_len;
	case DATA:
		return m->len;
	default:
		return 0;
	}
}

/* --- client --- */

static int data_check(const struct pst_mut *m)
{
	uint64_t have = m->val_len;

	if (m->iov) {
		have = 0;
		for (uint32_t i = 0; i < m->iov_count; i++)
			have += m->iov[i].iov_len;
	}
	return have != m->len || (m->len && !m->iov && !m->val) ? -EINVAL : 0;
}

static int mut_check(const struct pst_mut *m)
{
	/* What the server would not let pass is not sent. */
	if (m->kind < PST_KV_PUT && (m->err >= 0 || m->err < -4095))
		return -EINVAL;
	if (has_key(m->kind) && m->key_len > PST_KEY_MAX)
		return -ENAMETOOLONG;
	if (has_key(m->kind) && m->key_len && !m->key)
		return -EINVAL;
	switch (carries(m->kind)) {
	case VALUE:
		return m->val_len > PST_VALUE_MAX     ? -E2BIG
		       : m->val_len && m->val == NULL ? -EINVAL
		                                      : 0;
	case DATA:
		return m->len > PST_IO_MAX ? -E2BIG : data_check(m);
	default:
		return 0;
	}
}

int64_t wire_batch_payload(const struct pst_op *op)
{
	uint64_t total = 0, data = 0;

	if (op->mut_count > PST_BATCH_MAX)
		return -E2BIG;
	for (uint32_t i = 0; i < op->mut_count; i++) {
		const struct pst_mut *m = &op->muts[i];
		int rc = mut_check(m);

		if (rc < 0)
			return rc;
		total += payload_of(m);
		data += carries(m->kind) == DATA ? m->len : 0;
	}
	return data > PST_IO_MAX ? -E2BIG : (int64_t)total;
}

int wire_batch_iov(const struct pst_op *op, struct iovec *iov, unsigned max)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < op->mut_count; i++) {
		const struct pst_mut *m = &op->muts[i];
		unsigned count = m->iov && carries(m->kind) == DATA ? m->iov_count : 1;

		if (!payload_of(m))
			continue;
		if (count > max - n)
			return -E2BIG;
		if (carries(m->kind) == DATA && m->iov) {
			memcpy(iov + n, m->iov, count * sizeof(*iov));
		} else {
			iov[n].iov_base = (void *)(uintptr_t)m->val;
			iov[n].iov_len = payload_of(m);
		}
		n += count;
	}
	return (int)n;
}

void wire_muts_put(struct wire_out *out, const struct pst_op *op)
{
	wire_put_32(out, op->mut_count);
	wire_put_32(out, 0);
	for (uint32_t i = 0; i < op->mut_count; i++) {
		const struct pst_mut *m = &op->muts[i];
		uint32_t key_len = has_key(m->kind) ? m->key_len : 0;

		wire_put_8(out, m->kind);
		wire_put_8(out, 0);
		wire_put_16(out, (uint16_t)key_len);
		wire_put_32(out, is_condition(m->kind) ? (uint32_t)m->err : 0);
		wire_put_64(out, m->oid.hi);
		wire_put_64(out, m->oid.lo);
		wire_put_64(out, m->off);
		wire_put_64(out, carries(m->kind) == NOTHING ? m->len : payload_of(m));
		wire_put_bytes(out, m->key, key_len);
		wire_put_pad(out, key_len);
	}
}

/* --- server --- */

static void mut_get(struct wire_in *in, struct pst_mut *m)
{
	m->kind = wire_get_8(in);
	wire_get_zero(in, 1);
	m->key_len = wire_get_16(in);
	m->err = (int32_t)wire_get_32(in);
	m->oid.hi = wire_get_64(in);
	m->oid.lo = wire_get_64(in);
	m->off = wire_get_64(in);
	m->len = wire_get_64(in);
	if (m->key_len > WIRE_KEY_MAX || (m->key_len && !has_key(m->kind)) ||
	    (is_condition(m->kind) && (m->err > 0 || m->err < -4095)))
		in->bad = true;
	m->key = wire_get_bytes(in, m->key_len);
	wire_get_pad(in, m->key_len);
}

void wire_muts_get(struct wire_in *in, struct pst_op *op, struct wire_scratch *s,
                   uint32_t payload_len)
{
	uint32_t at = 0;

	op->muts = s->muts;
	op->mut_count = wire_get_32(in);
	wire_get_zero(in, 4);
	if (op->mut_count > PST_BATCH_MAX)
		in->bad = true;
	for (uint32_t i = 0; i < op->mut_count && !in->bad; i++) {
		struct pst_mut *m = &s->muts[i];

		memset(m, 0, sizeof(*m));
		mut_get(in, m);
		s->at[i] = at;
		if (carries(m->kind) == NOTHING)
			continue;
		if (m->len > payload_len - at) {
			in->bad = true;
			return;
		}
		at += (uint32_t)m->len;
		m->val_len = (uint32_t)m->len;
		if (carries(m->kind) == VALUE)
			m->len = 0;
		else if (m->kind == PST_ARRAY_APPEND) /* stays, where a record answers */
			m->off = UINT64_MAX;
	}
	if (at != payload_len)
		in->bad = true;
}

void wire_batch_place(struct pst_op *op, struct wire_scratch *s, uint8_t *payload)
{
	for (uint32_t i = 0; i < op->mut_count; i++) {
		struct pst_mut *m = &op->muts[i];

		if (carries(m->kind) == NOTHING || !m->val_len)
			continue;
		m->val = payload + s->at[i];
		if (carries(m->kind) == VALUE)
			continue;
		s->iov[i] = (struct iovec){.iov_base = payload + s->at[i], .iov_len = m->len};
		m->iov = &s->iov[i];
		m->iov_count = 1;
	}
}
