/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * model - the state of a store and what each op does to it, written to be read and believed.
 * Objects are in model_obj.c, batches in model_batch.c.
 */
#include "model_impl.h"

/* --- containers --- */

struct m_cont *m_cont_by_id(const struct model *m, uint32_t id)
{
	for (size_t i = 0; i < m->cont_count; i++) {
		if (m->conts[i].info.id == id)
			return &m->conts[i];
	}
	return NULL;
}

static bool cont_pos(const struct model *m, const char *name, size_t name_len, size_t *ret_at)
{
	size_t i = 0;

	while (i < m->cont_count && m_bytes_cmp(m->conts[i].info.name,
	                                        strlen(m->conts[i].info.name), name, name_len) < 0)
		i++;
	*ret_at = i;
	return i < m->cont_count && strlen(m->conts[i].info.name) == name_len &&
	       !memcmp(m->conts[i].info.name, name, name_len);
}

/* The container that a CONT_ or SNAP_ op means. */
static struct m_cont *cont_of(const struct model *m, const struct pst_op *op)
{
	size_t at;

	if (!op->name_len)
		return m_cont_by_id(m, op->cont);
	return cont_pos(m, op->name, op->name_len, &at) ? &m->conts[at] : NULL;
}

void m_cont_info(const struct m_cont *c, struct pst_cont_info *ret)
{
	*ret = c->info;
	ret->used_bytes = c->live.blocks * MODEL_BLOCK;
	ret->used_objects = c->live.obj_count;
	ret->snapshots = c->snap_count;
	ret->logical_bytes = 0;
	for (size_t i = 0; i < c->live.obj_count; i++)
		ret->logical_bytes += c->live.objs[i]->size;
}

static void cont_done(struct m_cont *c)
{
	m_view_free(&c->live);
	for (size_t i = 0; i < c->snap_count; i++)
		m_view_free(&c->snaps[i].view);
	free(c->snaps);
}

static int name_check(const char *name, uint32_t name_len)
{
	if (!name_len || !name || memchr(name, 0, name_len))
		return -EINVAL;
	return name_len > PST_NAME_MAX ? -ENAMETOOLONG : 0;
}

static int do_cont_create(struct model *m, struct pst_op *op, uint64_t now)
{
	struct pst_cont_info *in = op->cont_info;
	struct m_cont *c;
	size_t at;
	int r = name_check(op->name, op->name_len);

	if (r)
		return r;
	if (cont_pos(m, op->name, op->name_len, &at))
		return -EEXIST;
	m->conts = m_array_insert(m->conts, &m->cont_count, at, sizeof(*m->conts));
	c = &m->conts[at];
	memcpy(c->info.name, op->name, op->name_len);
	c->info.id = m->adopt_ids && in ? in->id : m->next_cont++;
	c->info.ctime_ns = now;
	if (in) {
		c->info.props = in->props;
		c->info.layout = in->layout;
		c->info.quota_bytes = in->quota_bytes;
		c->info.quota_objects = in->quota_objects;
		m_cont_info(c, in);
	}
	op->cont = c->info.id;
	return 0;
}

static int do_cont_get(struct model *m, struct pst_op *op)
{
	struct m_cont *c = cont_of(m, op);

	if (!c)
		return -ENOENT;
	if (op->cont_info)
		m_cont_info(c, op->cont_info);
	op->cont = c->info.id;
	return 0;
}

static int do_cont_set(struct model *m, struct pst_op *op)
{
	struct m_cont *c = cont_of(m, op);

	if (!c)
		return -ENOENT;
	if (op->attr_mask & PST_SET_QUOTA_BYTES)
		c->info.quota_bytes = op->cont_info->quota_bytes;
	if (op->attr_mask & PST_SET_QUOTA_OBJECTS)
		c->info.quota_objects = op->cont_info->quota_objects;
	if (op->attr_mask & PST_SET_PROPS)
		c->info.props = op->cont_info->props;
	return 0;
}

static int do_cont_destroy(struct model *m, struct pst_op *op)
{
	struct m_cont *c = cont_of(m, op);

	if (!c)
		return -ENOENT;
	if (c->snap_count)
		return -EBUSY;
	cont_done(c);
	m_array_remove(m->conts, &m->cont_count, (size_t)(c - m->conts), sizeof(*m->conts));
	return 0;
}

static int do_cont_list(struct model *m, struct pst_op *op)
{
	for (size_t i = 0; i < m->cont_count; i++) {
		struct pst_cont_info info;
		struct pst_entry e = {.name = info.name, .cont = &info};

		m_cont_info(&m->conts[i], &info);
		e.id = info.id;
		e.name_len = (uint32_t)strlen(info.name);
		if (op->start && m_bytes_cmp(e.name, e.name_len, op->start, op->start_len) <= 0)
			continue;
		if (!op->entry(op, &e))
			break;
	}
	return 0;
}

/* --- snapshots: a copy of everything --- */

static bool snap_pos(const struct m_cont *c, const char *name, size_t name_len, size_t *ret_at)
{
	size_t i = 0;

	while (i < c->snap_count && m_bytes_cmp(c->snaps[i].info.name,
	                                        strlen(c->snaps[i].info.name), name, name_len) < 0)
		i++;
	*ret_at = i;
	return i < c->snap_count && strlen(c->snaps[i].info.name) == name_len &&
	       !memcmp(c->snaps[i].info.name, name, name_len);
}

static int do_snap_create(struct model *m, struct pst_op *op, uint64_t now)
{
	struct m_cont *c = cont_of(m, op);
	struct m_snap *s;
	size_t at;
	int r;

	if (!c)
		return -ENOENT;
	r = name_check(op->name2, op->name2_len);
	if (r)
		return r;
	if (snap_pos(c, op->name2, op->name2_len, &at))
		return -EEXIST;
	c->snaps = m_array_insert(c->snaps, &c->snap_count, at, sizeof(*c->snaps));
	s = &c->snaps[at];
	memcpy(s->info.name, op->name2, op->name2_len);
	s->info.view = m->adopt_ids && op->snap_info ? op->snap_info->view : m->next_view++;
	s->info.ctime_ns = now;
	s->info.used_bytes = c->live.blocks * MODEL_BLOCK;
	s->info.used_objects = c->live.obj_count;
	m_view_clone(&s->view, &c->live);
	if (op->snap_info)
		*op->snap_info = s->info;
	return 0;
}

static int do_snap_open_or_destroy(struct model *m, struct pst_op *op)
{
	struct m_cont *c = cont_of(m, op);
	size_t at;

	if (!c || !snap_pos(c, op->name2, op->name2_len, &at))
		return -ENOENT;
	if (op->opcode == PST_OP_SNAP_OPEN) {
		if (op->snap_info)
			*op->snap_info = c->snaps[at].info;
		op->cont = c->info.id;
		return 0;
	}
	m_view_free(&c->snaps[at].view);
	m_array_remove(c->snaps, &c->snap_count, at, sizeof(*c->snaps));
	return 0;
}

static int do_snap_list(struct model *m, struct pst_op *op)
{
	struct m_cont *c = cont_of(m, op);

	if (!c)
		return -ENOENT;
	for (size_t i = 0; i < c->snap_count; i++) {
		const struct pst_snap_info *info = &c->snaps[i].info;
		struct pst_entry e = {.name = info->name, .snap = info, .id = info->view};

		e.name_len = (uint32_t)strlen(info->name);
		if (op->start && m_bytes_cmp(e.name, e.name_len, op->start, op->start_len) <= 0)
			continue;
		if (!op->entry(op, &e))
			break;
	}
	return 0;
}

/* --- reading --- */

static int view_of(const struct model *m, const struct pst_op *op, const struct m_view **ret_view)
{
	struct m_cont *c = m_cont_by_id(m, op->cont);

	if (!c)
		return -ENOENT;
	if (!op->view) {
		*ret_view = &c->live;
		return 0;
	}
	for (size_t i = 0; i < c->snap_count; i++) {
		if (c->snaps[i].info.view == op->view) {
			*ret_view = &c->snaps[i].view;
			return 0;
		}
	}
	return -ENOENT;
}

uint64_t m_iov_bytes(const struct iovec *iov, uint32_t count)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < count; i++)
		sum += iov[i].iov_len;
	return sum;
}

static int do_read(const struct m_view *v, struct pst_op *op)
{
	const struct m_obj *o = m_obj_find(v, op->oid);
	uint64_t off = op->off, left;

	if (!o && op->flags & PST_F_EXISTING)
		return -ESTALE;
	if (op->len > PST_IO_MAX)
		return -E2BIG;
	if (op->off > PST_OBJECT_MAX || m_iov_bytes(op->iov, op->iov_count) != op->len)
		return -EINVAL;
	left = o && o->size > op->off ? MIN(op->len, o->size - op->off) : 0;
	op->ret_len = left;
	for (uint32_t i = 0; left; i++) {
		size_t n = MIN(left, op->iov[i].iov_len);

		m_obj_read(o, off, op->iov[i].iov_base, n);
		off += n;
		left -= n;
	}
	return 0;
}

static int do_stat(const struct m_view *v, struct pst_op *op)
{
	const struct m_obj *o = m_obj_find(v, op->oid);
	struct pst_obj_stat st = {0};

	if (o) {
		st.exists = true;
		st.size_bytes = o->size;
		st.alloc_bytes = o->block_count * MODEL_BLOCK;
		st.mtime_ns = o->mtime;
		st.label_len = o->label_len;
		memcpy(st.label, o->label, o->label_len);
	}
	*op->stat = st;
	return 0;
}

static int do_obj_list(const struct m_view *v, struct pst_op *op)
{
	for (size_t i = 0; i < v->obj_count; i++) {
		struct pst_entry e = {.oid = v->objs[i]->oid};

		e.name = &e.oid;
		e.name_len = sizeof(e.oid);
		if (op->start) {
			struct pst_oid start;

			if (op->start_len != sizeof(start))
				return -EINVAL;
			memcpy(&start, op->start, sizeof(start));
			if (m_oid_cmp(e.oid, start) <= 0)
				continue;
		}
		if (!op->entry(op, &e))
			break;
	}
	return 0;
}

int m_key_check(const void *key, uint32_t key_len)
{
	if (!key_len || !key)
		return -EINVAL;
	return key_len > PST_KEY_MAX ? -ENAMETOOLONG : 0;
}

static int do_kv_get(const struct m_view *v, struct pst_op *op)
{
	const struct m_kv *kv;
	int r = m_key_check(op->key, op->key_len);

	if (r)
		return r;
	kv = m_kv_find(m_obj_find(v, op->oid), op->key, op->key_len);
	if (!kv)
		return -ENOENT;
	op->ret_len = kv->val_len;
	if (kv->val_len > op->val_cap)
		return -ERANGE;
	if (kv->val_len)
		memcpy(op->val, kv->bytes + kv->key_len, kv->val_len);
	return 0;
}

static int do_kv_list(const struct m_view *v, struct pst_op *op)
{
	const struct m_obj *o = m_obj_find(v, op->oid);

	if (op->key_len > PST_KEY_MAX || op->start_len > PST_KEY_MAX)
		return -ENAMETOOLONG;
	for (size_t i = 0; o && i < o->kv_count; i++) {
		const struct m_kv *kv = o->kvs[i];
		struct pst_entry e = {.name = kv->bytes, .name_len = kv->key_len, .oid = op->oid};

		if (kv->key_len < op->key_len ||
		    (op->key_len && memcmp(kv->bytes, op->key, op->key_len)))
			continue;
		if (op->start && m_bytes_cmp(kv->bytes, kv->key_len, op->start, op->start_len) <= 0)
			continue;
		if (op->want_values) {
			e.val = kv->bytes + kv->key_len;
			e.val_len = kv->val_len;
		}
		if (!op->entry(op, &e))
			break;
	}
	return 0;
}

static int do_extents(const struct m_view *v, struct pst_op *op)
{
	const struct m_obj *o = m_obj_find(v, op->oid);
	uint64_t end, op_end = op->len > PST_OBJECT_MAX ? PST_OBJECT_MAX : op->off + op->len;
	size_t at;

	if (!o || op->off >= o->size)
		return -ENXIO;
	m_block_pos(o, op->off / MODEL_BLOCK, &at);
	if (at == o->block_count || o->blocks[at].index * MODEL_BLOCK >= MIN(op_end, o->size))
		return -ENXIO;
	op->ret_off = MAX(op->off, o->blocks[at].index * MODEL_BLOCK);
	end = (o->blocks[at].index + 1) * MODEL_BLOCK;
	while (++at < o->block_count && o->blocks[at].index * MODEL_BLOCK == end)
		end += MODEL_BLOCK;
	op->ret_len = MIN(MIN(end, op_end), o->size) - op->ret_off;
	return 0;
}

/* --- replay --- */

static struct m_replay *replay_slot(struct model *m, const struct pst_token *t)
{
	for (size_t i = 0; i < m->replay_count; i++) {
		if (m->replays[i].token.session == t->session &&
		    m->replays[i].token.slot == t->slot)
			return &m->replays[i];
	}
	return NULL;
}

/* True when the op needs no execution: *@ret is its status. */
static bool replay_answer(struct model *m, struct pst_op *op, int *ret)
{
	const struct m_replay *r = replay_slot(m, &op->token);
	bool query = op->opcode == PST_OP_BATCH && !op->mut_count;

	if (r && op->token.seq < r->token.seq) {
		*ret = -ESTALE;
		return true;
	}
	if (r && op->token.seq == r->token.seq && op->token.about && r->token.about &&
	    op->token.about != r->token.about) {
		*ret = -ESTALE;
		return true;
	}
	if (r && op->token.seq == r->token.seq) {
		op->ret_off = r->ret_off;
		op->ret_len = r->ret_len;
		op->ino = r->ino;
		*ret = r->status;
		return true;
	}
	*ret = -ENOENT;
	return query;
}

static void replay_record(struct model *m, const struct pst_op *op, int status)
{
	struct m_replay *r = replay_slot(m, &op->token);

	if (!r) {
		m->replays = m_array_insert(m->replays, &m->replay_count, m->replay_count,
		                            sizeof(*m->replays));
		r = &m->replays[m->replay_count - 1];
	}
	r->token = op->token;
	r->status = status;
	r->ret_off = op->ret_off;
	r->ret_len = op->ret_len;
	r->ino = op->ino;
}

/* --- ops --- */

static int do_mutate(struct model *m, struct pst_op *op, uint64_t now)
{
	switch (op->opcode) {
	case PST_OP_CONT_CREATE:
		return do_cont_create(m, op, now);
	case PST_OP_CONT_SET:
		return do_cont_set(m, op);
	case PST_OP_CONT_DESTROY:
		return do_cont_destroy(m, op);
	case PST_OP_SNAP_CREATE:
		return do_snap_create(m, op, now);
	case PST_OP_SNAP_DESTROY:
		return do_snap_open_or_destroy(m, op);
	case PST_OP_BATCH:
		if (!op->mut_count && !op->token.session)
			return -EINVAL;
		return m_change(m, op, now);
	default:
		return m_change(m, op, now);
	}
}

static int do_look(struct model *m, struct pst_op *op)
{
	const struct m_view *v;
	int r = view_of(m, op, &v);

	if (r)
		return r;
	switch (op->opcode) {
	case PST_OP_READ:
		return do_read(v, op);
	case PST_OP_STAT:
		return do_stat(v, op);
	case PST_OP_OBJ_LIST:
		return do_obj_list(v, op);
	case PST_OP_KV_GET:
		return do_kv_get(v, op);
	case PST_OP_KV_LIST:
		return do_kv_list(v, op);
	default:
		return do_extents(v, op);
	}
}

static int do_status(struct model *m, struct pst_op *op)
{
	struct pst_store_status *st = op->status_out;

	memset(st, 0, sizeof(*st));
	st->shards = 1;
	st->size_bytes = m->size_bytes ? m->size_bytes : 1ull << 40;
	st->used_bytes = MIN(m_used(m), st->size_bytes);
	st->free_bytes = st->size_bytes - st->used_bytes;
	st->containers = m->cont_count;
	for (size_t i = 0; i < m->cont_count; i++)
		st->objects += m->conts[i].live.obj_count;
	return 0;
}

static int execute(struct model *m, struct pst_op *op, uint64_t now)
{
	int r;

	switch (op->opcode) {
	case PST_OP_CONT_OPEN:
	case PST_OP_CONT_GET:
		return do_cont_get(m, op);
	case PST_OP_CONT_LIST:
		return do_cont_list(m, op);
	case PST_OP_SNAP_OPEN:
		return do_snap_open_or_destroy(m, op);
	case PST_OP_SNAP_LIST:
		return do_snap_list(m, op);
	case PST_OP_READ:
	case PST_OP_STAT:
	case PST_OP_OBJ_LIST:
	case PST_OP_KV_GET:
	case PST_OP_KV_LIST:
	case PST_OP_EXTENTS:
		return do_look(m, op);
	case PST_OP_FLUSH:
		return !op->cont || m_cont_by_id(m, op->cont) ? 0 : -ENOENT;
	case PST_OP_STATUS:
		return do_status(m, op);
	case PST_OP_CONT_CREATE:
	case PST_OP_CONT_SET:
	case PST_OP_CONT_DESTROY:
	case PST_OP_SNAP_CREATE:
	case PST_OP_SNAP_DESTROY:
	case PST_OP_WRITE:
	case PST_OP_BATCH:
		if (op->token.session && replay_answer(m, op, &r))
			return r;
		r = do_mutate(m, op, now);
		if (op->token.session && !r)
			replay_record(m, op, r);
		return r;
	default:
		return -ENOTSUP;
	}
}

void model_apply(struct model *m, struct pst_op *op, uint64_t now_ns)
{
	op->ret_off = op->ret_len = 0;
	op->ret_index = 0;
	op->status = execute(m, op, now_ns);
}

void model_adopt_ids(struct model *m)
{
	m->adopt_ids = true;
}

void model_ignore_limits(struct model *m)
{
	m->ignore_limits = true;
}

void model_snap_insert(struct model *m, uint32_t cont, const struct pst_snap_info *info,
                       const struct model *from)
{
	struct m_cont *c = m_cont_by_id(m, cont);
	const struct m_cont *f = m_cont_by_id(from, cont);
	struct m_snap *s;
	size_t at;

	pst_assert(c && f && !snap_pos(c, info->name, strlen(info->name), &at));
	c->snaps = m_array_insert(c->snaps, &c->snap_count, at, sizeof(*c->snaps));
	s = &c->snaps[at];
	s->info = *info;
	s->info.used_bytes = f->live.blocks * MODEL_BLOCK;
	s->info.used_objects = f->live.obj_count;
	m_view_clone(&s->view, &f->live);
}

uint64_t model_used_bytes(const struct model *m)
{
	return m_used(m);
}

void model_cont_used(const struct model *m, uint32_t cont, uint64_t *ret_bytes,
                     uint64_t *ret_objects)
{
	const struct m_cont *c = m_cont_by_id(m, cont);

	*ret_bytes = c ? c->live.blocks * MODEL_BLOCK : 0;
	*ret_objects = c ? c->live.obj_count : 0;
}

/* --- the whole --- */

struct model *model_new(uint64_t size_bytes)
{
	struct model *m = m_xalloc(sizeof(*m));

	m->size_bytes = size_bytes;
	m->next_cont = 1;
	m->next_view = 1;
	return m;
}

void model_free(struct model *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->cont_count; i++)
		cont_done(&m->conts[i]);
	free(m->conts);
	free(m->replays);
	free(m);
}

struct model *model_clone(const struct model *m)
{
	struct model *c = m_array_dup(m, 1, sizeof(*m));

	c->conts = m_array_dup(m->conts, m->cont_count, sizeof(*m->conts));
	c->replays = m_array_dup(m->replays, m->replay_count, sizeof(*m->replays));
	for (size_t i = 0; i < m->cont_count; i++) {
		struct m_cont *to = &c->conts[i];
		const struct m_cont *from = &m->conts[i];

		m_view_clone(&to->live, &from->live);
		to->snaps = m_array_dup(from->snaps, from->snap_count, sizeof(*from->snaps));
		for (size_t j = 0; j < from->snap_count; j++)
			m_view_clone(&to->snaps[j].view, &from->snaps[j].view);
	}
	return c;
}
