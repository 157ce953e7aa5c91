/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * model_obj - what one object of the model is made of: blocks, array, key-values; and views, which
 * are sorted arrays of objects. No cleverness: binary searches and memmove.
 *
 * Memory comes from malloc directly, so that allocation-failure sweeps of the code under test do
 * not fail here; running out is fatal.
 */
#include "model_impl.h"

void *m_xalloc(size_t len)
{
	void *p = calloc(1, len ? len : 1);

	pst_assert(p);
	return p;
}

/* Makes room for one more at @at in the array *@items. */
void *m_array_insert(void *items, size_t *count, size_t at, size_t item_len)
{
	char *p = realloc(items, (*count + 1) * item_len);

	pst_assert(p && at <= *count);
	memmove(p + (at + 1) * item_len, p + at * item_len, (*count - at) * item_len);
	memset(p + at * item_len, 0, item_len);
	++*count;
	return p;
}

void m_array_remove(void *items, size_t *count, size_t at, size_t item_len)
{
	char *p = items;

	pst_assert(at < *count);
	memmove(p + at * item_len, p + (at + 1) * item_len, (*count - at - 1) * item_len);
	--*count;
}

void *m_array_dup(const void *items, size_t count, size_t item_len)
{
	void *p = m_xalloc(count * item_len);

	if (count)
		memcpy(p, items, count * item_len);
	return p;
}

int m_bytes_cmp(const void *a, size_t a_len, const void *b, size_t b_len)
{
	size_t n = MIN(a_len, b_len);
	int c = n ? memcmp(a, b, n) : 0;

	return c ? c : (a_len > b_len) - (a_len < b_len);
}

int m_oid_cmp(struct pst_oid a, struct pst_oid b)
{
	if (a.hi != b.hi)
		return a.hi < b.hi ? -1 : 1;
	return (a.lo > b.lo) - (a.lo < b.lo);
}

/* --- blocks --- */

/* Where block @index is or would be; true when it is there. */
bool m_block_pos(const struct m_obj *o, uint64_t index, size_t *ret_at)
{
	size_t lo = 0, hi = o->block_count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (o->blocks[mid].index < index)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret_at = lo;
	return lo < o->block_count && o->blocks[lo].index == index;
}

const struct m_data *m_block_find(const struct m_obj *o, uint64_t index)
{
	size_t at;

	return m_block_pos(o, index, &at) ? o->blocks[at].data : NULL;
}

static void data_unref(struct m_data *d)
{
	if (--d->refs == 0)
		free(d);
}

/* The block's bytes for changing: nobody else's. */
static uint8_t *block_own(struct m_block *b)
{
	if (b->data->refs > 1) {
		struct m_data *copy = m_xalloc(sizeof(*copy));

		memcpy(copy->bytes, b->data->bytes, MODEL_BLOCK);
		copy->refs = 1;
		b->data->refs--;
		b->data = copy;
	}
	return b->data->bytes;
}

static struct m_block *block_get(struct m_obj *o, uint64_t index)
{
	size_t at;

	if (!m_block_pos(o, index, &at)) {
		o->blocks = m_array_insert(o->blocks, &o->block_count, at, sizeof(*o->blocks));
		o->blocks[at].index = index;
		o->blocks[at].data = m_xalloc(sizeof(struct m_data));
		o->blocks[at].data->refs = 1;
	}
	return &o->blocks[at];
}

static void block_remove(struct m_obj *o, size_t at)
{
	data_unref(o->blocks[at].data);
	m_array_remove(o->blocks, &o->block_count, at, sizeof(*o->blocks));
}

/* --- arrays --- */

void m_obj_read(const struct m_obj *o, uint64_t off, void *buf, size_t len)
{
	uint8_t *to = buf;

	while (len) {
		uint64_t in = off % MODEL_BLOCK;
		size_t n = MIN(len, MODEL_BLOCK - in);
		const struct m_data *d = m_block_find(o, off / MODEL_BLOCK);

		if (d)
			memcpy(to, d->bytes + in, n);
		else
			memset(to, 0, n);
		to += n;
		off += n;
		len -= n;
	}
}

void m_array_write(struct m_obj *o, uint64_t off, const uint8_t *from, size_t len)
{
	if (len)
		o->size = MAX(o->size, off + len);
	while (len) {
		uint64_t in = off % MODEL_BLOCK;
		size_t n = MIN(len, MODEL_BLOCK - in);

		memcpy(block_own(block_get(o, off / MODEL_BLOCK)) + in, from, n);
		from += n;
		off += n;
		len -= n;
	}
}

void m_array_punch(struct m_obj *o, uint64_t off, uint64_t len)
{
	uint64_t end = off + len;
	size_t at;

	if (!len)
		return;
	m_block_pos(o, off / MODEL_BLOCK, &at);
	while (at < o->block_count && o->blocks[at].index * MODEL_BLOCK < end) {
		uint64_t start = o->blocks[at].index * MODEL_BLOCK;
		uint64_t from = MAX(start, off), to = MIN(start + MODEL_BLOCK, end);

		if (to - from == MODEL_BLOCK) {
			block_remove(o, at);
			continue;
		}
		memset(block_own(&o->blocks[at]) + (from - start), 0, to - from);
		at++;
	}
}

void m_array_resize(struct m_obj *o, uint64_t size)
{
	/* What lies beyond the size is zero or not there: a later growth reads zero. */
	if (size < o->size)
		m_array_punch(o, size, ALIGN_UP(o->size, MODEL_BLOCK) - size);
	o->size = size;
}

/* --- keys --- */

bool m_kv_pos(const struct m_obj *o, const void *key, size_t key_len, size_t *ret_at)
{
	size_t lo = 0, hi = o->kv_count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct m_kv *kv = o->kvs[mid];

		if (m_bytes_cmp(kv->bytes, kv->key_len, key, key_len) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret_at = lo;
	return lo < o->kv_count &&
	       !m_bytes_cmp(o->kvs[lo]->bytes, o->kvs[lo]->key_len, key, key_len);
}

const struct m_kv *m_kv_find(const struct m_obj *o, const void *key, size_t key_len)
{
	size_t at;

	return o && m_kv_pos(o, key, key_len, &at) ? o->kvs[at] : NULL;
}

static void kv_unref(struct m_kv *kv)
{
	if (--kv->refs == 0)
		free(kv);
}

void m_kv_put(struct m_obj *o, const struct pst_mut *mut)
{
	struct m_kv *kv = m_xalloc(sizeof(*kv) + mut->key_len + mut->val_len);
	size_t at;

	kv->refs = 1;
	kv->key_len = mut->key_len;
	kv->val_len = mut->val_len;
	memcpy(kv->bytes, mut->key, mut->key_len);
	if (mut->val_len)
		memcpy(kv->bytes + mut->key_len, mut->val, mut->val_len);
	if (m_kv_pos(o, mut->key, mut->key_len, &at))
		kv_unref(o->kvs[at]);
	else
		o->kvs = m_array_insert(o->kvs, &o->kv_count, at, sizeof(*o->kvs));
	o->kvs[at] = kv;
}

void m_kv_del(struct m_obj *o, const void *key, size_t key_len)
{
	size_t at;

	if (m_kv_pos(o, key, key_len, &at)) {
		kv_unref(o->kvs[at]);
		m_array_remove(o->kvs, &o->kv_count, at, sizeof(*o->kvs));
	}
}

/* --- objects and views --- */

bool m_obj_pos(const struct m_view *v, struct pst_oid oid, size_t *ret_at)
{
	size_t lo = 0, hi = v->obj_count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (m_oid_cmp(v->objs[mid]->oid, oid) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret_at = lo;
	return lo < v->obj_count && !m_oid_cmp(v->objs[lo]->oid, oid);
}

struct m_obj *m_obj_find(const struct m_view *v, struct pst_oid oid)
{
	size_t at;

	return m_obj_pos(v, oid, &at) ? v->objs[at] : NULL;
}

struct m_obj *m_obj_clone(const struct m_obj *o)
{
	struct m_obj *c = m_array_dup(o, 1, sizeof(*o));

	c->blocks = m_array_dup(o->blocks, o->block_count, sizeof(*o->blocks));
	c->kvs = m_array_dup(o->kvs, o->kv_count, sizeof(*o->kvs));
	for (size_t i = 0; i < o->block_count; i++)
		o->blocks[i].data->refs++;
	for (size_t i = 0; i < o->kv_count; i++)
		o->kvs[i]->refs++;
	return c;
}

void m_obj_free(struct m_obj *o)
{
	if (!o)
		return;
	for (size_t i = 0; i < o->block_count; i++)
		data_unref(o->blocks[i].data);
	for (size_t i = 0; i < o->kv_count; i++)
		kv_unref(o->kvs[i]);
	free(o->blocks);
	free(o->kvs);
	free(o);
}

void m_view_clone(struct m_view *ret, const struct m_view *v)
{
	*ret = *v;
	ret->objs = m_array_dup(v->objs, v->obj_count, sizeof(*v->objs));
	for (size_t i = 0; i < v->obj_count; i++)
		ret->objs[i] = m_obj_clone(v->objs[i]);
}

void m_view_free(struct m_view *v)
{
	for (size_t i = 0; i < v->obj_count; i++)
		m_obj_free(v->objs[i]);
	free(v->objs);
}
