/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * quota - by how much a batch changes the space that its container uses.
 *
 * What counts of a block or of a key is the last entry that says something of it; what was there is
 * what the tree has. So each entry is asked about what no later one covers.
 */
#include "store/local/engine.h"

static bool same_object(const struct pst_mut *a, const struct pst_mut *b)
{
	return a->oid.lo == b->oid.lo && a->oid.hi == b->oid.hi;
}

void array_range(const struct wreq *q, uint32_t i, uint64_t *ret_first, uint64_t *ret_end)
{
	const struct wmut *w = &q->w[i];

	*ret_first = *ret_end = 0;
	switch (q->mut[i].kind) {
	case PST_ARRAY_WRITE:
	case PST_ARRAY_APPEND:
		*ret_first = w->off / BLOCK_BYTES;
		*ret_end = w->len ? DIV_ROUND_UP(w->off + w->len, BLOCK_BYTES) : *ret_first;
		break;
	case PST_ARRAY_PUNCH:
		*ret_first = DIV_ROUND_UP(w->off, BLOCK_BYTES);
		*ret_end = (w->off + w->len) / BLOCK_BYTES;
		break;
	case PST_ARRAY_RESIZE:
		*ret_first = DIV_ROUND_UP(w->off, BLOCK_BYTES);
		*ret_end = UINT64_MAX;
		break;
	case PST_OBJ_DELETE:
		*ret_end = UINT64_MAX;
		break;
	}
}

/* Is block @lblk in the range of an entry after @i? *ret_to: so far, or else up to the next such
 * block. */
static bool covered(const struct wreq *q, uint32_t i, uint64_t lblk, uint64_t *ret_to)
{
	uint64_t first, end, next = UINT64_MAX;

	for (uint32_t k = i + 1; k < q->count; k++) {
		if (!same_object(&q->mut[k], &q->mut[i]))
			continue;
		array_range(q, k, &first, &end);
		if (first <= lblk && lblk < end) {
			*ret_to = end;
			return true;
		}
		if (first > lblk && first < end)
			next = MIN(next, first);
	}
	*ret_to = next;
	return false;
}

static int64_t array_growth(const struct wreq *q, uint32_t i, const struct cont *c)
{
	uint64_t at, end, to;
	uint32_t extents = 0;
	int64_t n = 0;

	for (array_range(q, i, &at, &end); at < end; at = to) {
		bool later = covered(q, i, at, &to);

		to = MIN(to, end);
		if (later)
			continue;
		n -= (int64_t)mapped_blocks(&c->tree, q->mut[i].oid, at, to, &extents);
		if (is_write(&q->mut[i]))
			n += (int64_t)(to - at);
	}
	return n;
}

/* Does an entry after @i say what becomes of this key? */
static bool key_later(const struct wreq *q, uint32_t i, const void *key, size_t len)
{
	for (uint32_t k = i + 1; k < q->count; k++) {
		const struct pst_mut *m = &q->mut[k];

		if (!same_object(m, &q->mut[i]))
			continue;
		if (m->kind == PST_OBJ_DELETE)
			return true;
		if ((m->kind == PST_KV_PUT || m->kind == PST_KV_DEL) && m->key_len == len &&
		    !memcmp(m->key, key, len))
			return true;
	}
	return false;
}

static int64_t value_blocks(const uint8_t *val, size_t len)
{
	struct media_outval out;

	if (len < 1 || val[0] != VAL_OUT || outval_decode(val + 1, len - 1, &out))
		return 0;
	return DIV_ROUND_UP(le32_get(out.len), BLOCK_BYTES);
}

static int64_t key_growth(const struct wreq *q, uint32_t i, const struct cont *c)
{
	const struct pst_mut *m = &q->mut[i];
	uint8_t key[BT_KEY_MAX];
	const void *was;
	size_t len;
	int64_t n = 0;

	if (key_later(q, i, m->key, m->key_len))
		return 0;
	if (m->kind == PST_KV_PUT && q->w[i].has_out)
		n = DIV_ROUND_UP(m->val_len, BLOCK_BYTES);
	key_obj(key, m->oid, KEY_KV);
	memcpy(key + KEY_OBJ_BYTES, m->key, m->key_len);
	if (!bt_get(&c->tree, key, KEY_OBJ_BYTES + (size_t)m->key_len, &was, &len))
		n -= value_blocks(was, len);
	return n;
}

/* The large values of an object that is deleted. */
static int64_t keys_growth(const struct wreq *q, uint32_t i, const struct cont *c)
{
	uint8_t key[KEY_OBJ_BYTES];
	struct bt_iter it;
	int64_t n = 0;

	key_obj(key, q->mut[i].oid, KEY_KV);
	for (bt_seek(&it, &c->tree, key, sizeof(key));
	     it.valid && it.key_len > sizeof(key) && !memcmp(it.key, key, sizeof(key));
	     bt_next(&it)) {
		int64_t blocks = value_blocks(it.val, it.val_len);

		if (blocks && !key_later(q, i, it.key + sizeof(key), it.key_len - sizeof(key)))
			n -= blocks;
	}
	return n;
}

int64_t batch_growth(const struct wreq *q, const struct cont *c)
{
	int64_t n = 0;

	for (uint32_t i = 0; i < q->count; i++) {
		switch (q->mut[i].kind) {
		case PST_OBJ_DELETE:
			n += keys_growth(q, i, c);
			/* fall through */
		case PST_ARRAY_WRITE:
		case PST_ARRAY_APPEND:
		case PST_ARRAY_PUNCH:
		case PST_ARRAY_RESIZE:
			n += array_growth(q, i, c);
			break;
		case PST_KV_PUT:
		case PST_KV_DEL:
			n += key_growth(q, i, c);
			break;
		}
	}
	return n;
}
