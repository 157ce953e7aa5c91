/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * model_batch - conditions and changes. A batch is made on copies of the objects that it touches,
 * which replace the originals only when all of it has succeeded.
 */
#include "model_impl.h"

/* One object that a batch changes: what it was, and the copy that the changes are made on. */
struct work {
	struct pst_oid oid;
	struct m_obj *old, *new; /* NULL: is not there */
};

static bool only_takes_away(const struct pst_mut *mut)
{
	return mut->kind == PST_KV_DEL || mut->kind == PST_ARRAY_PUNCH ||
	       mut->kind == PST_OBJ_DELETE;
}

static int mut_check(const struct pst_mut *mut, uint64_t *bytes)
{
	if (mut->kind >= PST_KV_PUT && !mut->oid.hi && !mut->oid.lo && !only_takes_away(mut))
		return -EINVAL;
	if (mut->kind < PST_KV_PUT && (mut->err >= 0 || mut->err < -4095))
		return -EINVAL;
	switch (mut->kind) {
	case PST_IF_NO_KEYS:
		return mut->key_len > PST_KEY_MAX ? -ENAMETOOLONG : 0;
	case PST_IF_KEY_ABSENT:
	case PST_IF_KEY_PRESENT:
	case PST_KV_DEL:
		return m_key_check(mut->key, mut->key_len);
	case PST_IF_KEY_EQ:
	case PST_KV_PUT:
		if (mut->val_len > PST_VALUE_MAX)
			return -E2BIG;
		return m_key_check(mut->key, mut->key_len);
	case PST_IF_LABEL_EQ:
	case PST_SET_LABEL:
		return mut->val_len > PST_LABEL_MAX ? -E2BIG : 0;
	case PST_ARRAY_WRITE:
	case PST_ARRAY_APPEND:
		*bytes += mut->len;
		if (*bytes > PST_IO_MAX || mut->len > PST_IO_MAX)
			return -E2BIG;
		if (mut->iov ? m_iov_bytes(mut->iov, mut->iov_count) != mut->len
		             : mut->val_len != mut->len)
			return -EINVAL;
		if (mut->kind == PST_ARRAY_APPEND)
			return 0;
		return mut->off > PST_OBJECT_MAX - mut->len ? -EFBIG : 0;
	case PST_ARRAY_PUNCH:
		if (mut->len > PST_OBJECT_MAX)
			return -EFBIG;
		return mut->off > PST_OBJECT_MAX - mut->len ? -EFBIG : 0;
	case PST_ARRAY_RESIZE:
		return mut->off > PST_OBJECT_MAX ? -EFBIG : 0;
	case PST_IF_OBJ_ABSENT:
	case PST_IF_OBJ_PRESENT:
	case PST_IF_SIZE_EQ:
	case PST_SET_MTIME:
	case PST_OBJ_DELETE:
		return 0;
	default:
		return -EINVAL;
	}
}

static bool cond_holds(const struct m_view *v, const struct pst_mut *mut)
{
	const struct m_obj *o = m_obj_find(v, mut->oid);
	const struct m_kv *kv;
	size_t at;

	switch (mut->kind) {
	case PST_IF_KEY_ABSENT:
		return !m_kv_find(o, mut->key, mut->key_len);
	case PST_IF_KEY_PRESENT:
		return m_kv_find(o, mut->key, mut->key_len);
	case PST_IF_KEY_EQ:
		kv = m_kv_find(o, mut->key, mut->key_len);
		return kv &&
		       !m_bytes_cmp(kv->bytes + kv->key_len, kv->val_len, mut->val, mut->val_len);
	case PST_IF_NO_KEYS:
		if (!o)
			return true;
		m_kv_pos(o, mut->key, mut->key_len, &at);
		return at == o->kv_count || o->kvs[at]->key_len < mut->key_len ||
		       (mut->key_len && memcmp(o->kvs[at]->bytes, mut->key, mut->key_len));
	case PST_IF_LABEL_EQ:
		return !m_bytes_cmp(o ? o->label : NULL, o ? o->label_len : 0, mut->val,
		                    mut->val_len);
	case PST_IF_OBJ_ABSENT:
		return !o;
	case PST_IF_OBJ_PRESENT:
		return o;
	case PST_IF_SIZE_EQ:
		return (o ? o->size : 0) == mut->off;
	default: /* a change */
		return true;
	}
}

static struct work *work_get(struct work *works, size_t *count, const struct m_view *v,
                             struct pst_oid oid)
{
	struct work *w;

	for (size_t i = 0; i < *count; i++) {
		if (!m_oid_cmp(works[i].oid, oid))
			return &works[i];
	}
	w = &works[(*count)++];
	w->oid = oid;
	w->old = m_obj_find(v, oid);
	w->new = w->old ? m_obj_clone(w->old) : NULL;
	return w;
}

static int work_write(struct m_obj *o, struct pst_mut *mut, struct pst_op *op)
{
	uint64_t off;

	if (mut->kind == PST_ARRAY_APPEND) {
		if (o->size > PST_OBJECT_MAX - mut->len)
			return -EFBIG;
		mut->off = op->ret_off = o->size;
	}
	off = mut->off;
	if (!mut->iov) {
		m_array_write(o, off, mut->val, mut->len);
	} else {
		for (uint32_t i = 0; i < mut->iov_count; i++) {
			m_array_write(o, off, mut->iov[i].iov_base, mut->iov[i].iov_len);
			off += mut->iov[i].iov_len;
		}
	}
	op->ret_len += mut->len;
	return 0;
}

static int work_change(struct work *w, struct pst_mut *mut, struct pst_op *op, uint64_t now)
{
	struct m_obj *o = w->new;

	if (mut->kind == PST_OBJ_DELETE) {
		m_obj_free(o);
		w->new = NULL;
		return 0;
	}
	if (!o && (mut->kind == PST_KV_DEL || mut->kind == PST_ARRAY_PUNCH))
		return 0;
	if (!o) {
		o = w->new = m_xalloc(sizeof(*o));
		o->oid = w->oid;
	}
	if (mut->kind >= PST_ARRAY_WRITE && mut->kind <= PST_ARRAY_RESIZE) {
		o->mtime = now;
		o->mtime_set = false;
	}
	switch (mut->kind) {
	case PST_KV_PUT:
		m_kv_put(o, mut);
		return 0;
	case PST_KV_DEL:
		m_kv_del(o, mut->key, mut->key_len);
		return 0;
	case PST_ARRAY_WRITE:
	case PST_ARRAY_APPEND:
		return work_write(o, mut, op);
	case PST_ARRAY_PUNCH:
		m_array_punch(o, mut->off, mut->len);
		return 0;
	case PST_ARRAY_RESIZE:
		m_array_resize(o, mut->off);
		return 0;
	case PST_SET_LABEL:
		o->label_len = (uint8_t)mut->val_len;
		if (mut->val_len)
			memcpy(o->label, mut->val, mut->val_len);
		return 0;
	case PST_SET_MTIME:
		o->mtime = mut->off;
		o->mtime_set = true;
		return 0;
	default:
		pst_assert(!"a condition among the changes");
	}
}

/* Values that don't fit in an index count as space, as the array's blocks do. */
static uint64_t m_obj_blocks(const struct m_obj *o)
{
	uint64_t blocks = o->block_count;

	for (size_t i = 0; i < o->kv_count; i++)
		if (o->kvs[i]->val_len > MODEL_VALUE_INLINE)
			blocks += DIV_ROUND_UP(o->kvs[i]->val_len, MODEL_BLOCK);
	return blocks;
}

uint64_t m_used(const struct model *m)
{
	uint64_t blocks = 0;

	for (size_t i = 0; i < m->cont_count; i++) {
		blocks += m->conts[i].live.blocks;
		for (size_t j = 0; j < m->conts[i].snap_count; j++)
			blocks += m->conts[i].snaps[j].view.blocks;
	}
	return blocks * MODEL_BLOCK;
}

/* May the container take what @works would make of it? */
static int limits_check(const struct model *m, const struct m_cont *c, const struct work *works,
                        size_t count)
{
	int64_t blocks = 0, objects = 0;
	uint64_t bytes, objs;

	for (size_t i = 0; i < count; i++) {
		blocks += (int64_t)(works[i].new ? m_obj_blocks(works[i].new) : 0);
		blocks -= (int64_t)(works[i].old ? m_obj_blocks(works[i].old) : 0);
		objects += (works[i].new != NULL) - (works[i].old != NULL);
	}
	bytes = (c->live.blocks + (uint64_t)blocks) * MODEL_BLOCK;
	objs = c->live.obj_count + (uint64_t)objects;
	if (blocks > 0 && c->info.quota_bytes && bytes > c->info.quota_bytes)
		return -EDQUOT;
	if (objects > 0 && c->info.quota_objects && objs > c->info.quota_objects)
		return -EDQUOT;
	if (blocks > 0 && m->size_bytes &&
	    m_used(m) + (uint64_t)blocks * MODEL_BLOCK > m->size_bytes)
		return -ENOSPC;
	return 0;
}

static void work_commit(struct m_view *v, struct work *w)
{
	size_t at;
	bool there = m_obj_pos(v, w->oid, &at);

	if (w->old)
		v->blocks -= m_obj_blocks(w->old);
	if (w->new)
		v->blocks += m_obj_blocks(w->new);
	if (w->new && !there)
		v->objs = m_array_insert(v->objs, &v->obj_count, at, sizeof(*v->objs));
	if (!w->new &&there)
		m_array_remove(v->objs, &v->obj_count, at, sizeof(*v->objs));
	if (w->new)
		v->objs[at] = w->new;
	m_obj_free(w->old);
}

static int batch(struct model *m, struct m_cont *c, struct pst_op *op, struct pst_mut *muts,
                 uint32_t mut_count, uint64_t now)
{
	struct work works[PST_BATCH_MAX] = {0};
	uint64_t bytes = 0;
	size_t count = 0;
	int r = 0;

	if (mut_count > PST_BATCH_MAX)
		return -E2BIG;
	for (uint32_t i = 0; !r && i < mut_count; i++)
		r = mut_check(&muts[i], &bytes);
	if (r)
		return r;
	for (uint32_t i = 0; i < mut_count; i++) {
		if (!cond_holds(&c->live, &muts[i])) {
			op->ret_index = i;
			return muts[i].err;
		}
	}
	for (uint32_t i = 0; !r && i < mut_count; i++) {
		if (muts[i].kind >= PST_KV_PUT)
			r = work_change(work_get(works, &count, &c->live, muts[i].oid), &muts[i],
			                op, now);
	}
	if (!r && !m->ignore_limits)
		r = limits_check(m, c, works, count);
	for (size_t i = 0; i < count; i++) {
		if (r)
			m_obj_free(works[i].new);
		else
			work_commit(&c->live, &works[i]);
	}
	return r;
}

static int do_write(struct model *m, struct m_cont *c, struct pst_op *op, uint64_t now)
{
	struct pst_mut mut = {
	        .kind = op->flags & PST_F_APPEND ? PST_ARRAY_APPEND : PST_ARRAY_WRITE,
	        .oid = op->oid,
	        .off = op->off,
	        .len = op->len,
	        .iov = op->iov,
	        .iov_count = op->iov_count,
	};

	if ((op->len && !op->iov) || (!op->oid.hi && !op->oid.lo))
		return -EINVAL;
	if (op->flags & PST_F_EXISTING && !m_obj_find(&c->live, op->oid))
		return -ESTALE;
	return batch(m, c, op, &mut, 1, now);
}

int m_change(struct model *m, struct pst_op *op, uint64_t now)
{
	struct m_cont *c = m_cont_by_id(m, op->cont);

	if (!c)
		return -ENOENT;
	if (op->view)
		return -EROFS;
	if (op->opcode == PST_OP_WRITE)
		return do_write(m, c, op, now);
	return batch(m, c, op, op->muts, op->mut_count, now);
}
