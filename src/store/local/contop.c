/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * contop - the ops on containers and snapshots: CONT_* and SNAP_*; and SESSION_CLOSE.
 */
#include "store/local/engine.h"
#include "store/local/stall.h"

struct cont_name *cont_name_find(struct local *l, const char *name, uint32_t len)
{
	struct cont_name *n;

	list_for_each (n, &l->names, link)
		if (strlen(n->name) == len && !memcmp(n->name, name, len))
			return n;
	return NULL;
}

/* The container that the op means: by name, or else by id. */
static struct cont_name *target(struct local *l, const struct pst_op *op)
{
	return op->name_len ? cont_name_find(l, op->name, op->name_len)
	                    : cont_name_by_id(l, op->cont);
}

static int name_check(const char *name, uint32_t len)
{
	if (!len || !name || memchr(name, 0, len))
		return -EINVAL;
	return len > PST_NAME_MAX ? -ENAMETOOLONG : 0;
}

static struct snap *snap_find(struct cont *c, const char *name, uint32_t len)
{
	struct snap *n;

	if (c)
		list_for_each (n, &c->snaps, link)
			if (strlen(n->name) == len && !memcmp(n->name, name, len))
				return n;
	return NULL;
}

#define SLOTS_MAX 1024 /* of a session: as many items go with it */

/* --- records --- */

/*
 * Room for a record with @body_len bytes of body on shard @s, its header and token filled in. 0
 * with the place of the body; or -EAGAIN: not now.
 */
static int record_begin(struct shard *s, struct pst_op *op, unsigned type, uint32_t cont,
                        size_t body_len, struct media_record **ret_rec, void **ret_body,
                        uint64_t *ret_frame)
{
	uint32_t len = (uint32_t)(sizeof(struct media_record) + ALIGN_UP(body_len, 8));
	bool token = op->token.session != 0;
	struct media_record *r;
	int err;

	if (token)
		len += sizeof(struct media_reply);
	err = spares_fill(s->l);
	if (!err)
		err = bt_reserve(&s->env, type == REC_SESSION_CLOSE ? SLOTS_MAX : 8, true);
	if (err == -ENOSPC)
		return refuse(s->l, PST_SCARCE_INDEX);
	if (!err)
		err = log_room(s, len, 0, true);
	if (err)
		return err;
	r = log_at(s);
	log_append(s, len);
	*ret_frame = log_open_frame(s);
	memset(r, 0, len);
	r->len = le32_make(len);
	r->type = le16_make((uint16_t)type);
	r->cont = le32_make(cont);
	r->tenant = le32_make(op->tenant);
	r->time_ns = le64_make(loop_real_now(s->l->store.loop));
	*ret_rec = r;
	*ret_body = r + 1;
	if (token) {
		r->flags = le16_make(REC_F_TOKEN);
		reply_fill((struct media_reply *)(r + 1), op, le64_get(r->time_ns));
		*ret_body = (uint8_t *)(r + 1) + sizeof(struct media_reply);
	}
	return 0;
}

static enum pst_outcome record_end(struct shard *s, struct pst_op *op, struct media_record *r,
                                   uint64_t frame)
{
	int err = apply_record(s, r, frame, NULL, 0);

	if (err) { /* only for want of memory; the record is in the log: stop before it is durable
		    */
		local_stop(s->l, err, "a container record could not be applied");
		return op_fail(op, err);
	}
	return op_committed(s, op, frame);
}

static enum pst_outcome not_now(struct pst_op *op, int err)
{
	return err == -EAGAIN ? PST_BUSY : op_fail(op, err);
}

/* Answered from an earlier execution? */
static bool replayed(struct shard *s, struct pst_op *op, enum pst_outcome *ret)
{
	int err;

	if (!op->token.session)
		return false;
	err = token_answer(s, op);
	if (err == -ENOENT)
		return false;
	*ret = err ? op_fail(op, err) : op_committed(s, op, s->log.last_record);
	return true;
}

/* --- containers --- */

/* Its state, if that is on this reactor and there is any. */
static struct cont *here(struct local *l, const struct cont_name *n)
{
	return l->shard[n->home] ? cont_find(l->shard[n->home], n->id) : NULL;
}

void cont_info_fill(struct local *l, const struct cont_name *n, struct pst_cont_info *info)
{
	struct cont *c = here(l, n);

	memset(info, 0, sizeof(*info));
	memcpy(info->name, n->name, sizeof(info->name));
	info->id = n->id;
	info->home_shard = n->home;
	info->layout = (uint8_t)n->layout;
	info->ctime_ns = n->ctime_ns;
	memcpy(info->uuid, n->uuid, sizeof(info->uuid));
	info->props = c ? c->props : n->props;
	info->quota_bytes = c ? c->quota_bytes : n->quota_bytes;
	info->quota_objects = c ? c->quota_objects : n->quota_objects;
	if (!c)
		return;
	info->used_bytes = c->used_blocks * BLOCK_BYTES;
	info->used_objects = c->objects;
	info->logical_bytes = c->logical_bytes;
	info->snapshots = c->snap_count;
}

static enum pst_outcome create_try(struct shard *s, struct pst_op *op)
{
	struct local *l = s->l;
	struct pst_cont_info *in = op->cont_info;
	struct media_cont_name *m;
	struct media_record *r;
	enum pst_outcome out;
	uint64_t frame;
	void *body;
	int err = name_check(op->name, op->name_len);

	if (err)
		return op_fail(op, err);
	if (replayed(s, op, &out)) {
		struct cont_name *n = cont_name_find(l, op->name, op->name_len);

		/* The record of the answer has no room for the id. */
		op->cont = n ? n->id : 0;
		if (n && in)
			cont_info_fill(l, n, in);
		return out;
	}
	if (cont_name_find(l, op->name, op->name_len))
		return op_fail(op, -EEXIST);
	if (in && (in->layout > PST_LAYOUT_OBJECT || in->props & ~PST_PROP_CHECKSUM_OFF))
		return op_fail(op, -ENOTSUP);
	err = record_begin(s, op, REC_CONT_CREATE, l->next_cont, sizeof(*m) + op->name_len, &r,
	                   &body, &frame);
	if (err)
		return not_now(op, err);
	m = body;
	m->id = r->cont;
	m->home_shard = le32_make(l->next_cont % l->geo.shards);
	m->name_len = le16_make((uint16_t)op->name_len);
	m->ctime_ns = r->time_ns;
	local_uuid(l, m->uuid);
	if (in) {
		m->props = le32_make(in->props);
		m->layout = le16_make(in->layout);
		m->quota_bytes = le64_make(in->quota_bytes);
		m->quota_objects = le64_make(in->quota_objects);
	}
	memcpy(m + 1, op->name, op->name_len);
	op->cont = l->next_cont;
	out = record_end(s, op, r, frame);
	if (in && cont_name_by_id(l, op->cont))
		cont_info_fill(l, cont_name_by_id(l, op->cont), in);
	return out;
}

static enum pst_outcome destroy_try(struct shard *s, struct pst_op *op)
{
	struct media_record *r;
	struct cont_name *n;
	enum pst_outcome out;
	uint64_t frame;
	struct cont *c;
	void *body;
	int err;

	if (replayed(s, op, &out))
		return out;
	n = target(s->l, op);
	if (!n)
		return op_fail(op, -ENOENT);
	c = here(s->l, n); /* elsewhere it was asked before, and is held: crew_multi.c */
	if (!c && op->name_len && s->l->crew && !s->l->shard[n->home])
		return op_fail(op, -ENOENT); /* made since then under a name that was nobody's */
	if (c && c->snap_count)
		return op_fail(op, -EBUSY);
	err = record_begin(s, op, REC_CONT_DESTROY, n->id, 0, &r, &body, &frame);
	return err ? not_now(op, err) : record_end(s, op, r, frame);
}

static enum pst_outcome set_try(struct shard *s, struct pst_op *op)
{
	struct cont_name *n = target(s->l, op);
	struct media_cont_set *m;
	struct media_record *r;
	enum pst_outcome out;
	uint64_t frame;
	void *body;
	int err;

	if (replayed(s, op, &out))
		return out;
	if (!n || n->home != s->id) /* the name may be another one's by now, who lives elsewhere */
		return op_fail(op, -ENOENT);
	if (op->attr_mask & PST_SET_PROPS && op->cont_info->props & ~PST_PROP_CHECKSUM_OFF)
		return op_fail(op, -ENOTSUP);
	err = record_begin(s, op, REC_CONT_SET, n->id, sizeof(*m), &r, &body, &frame);
	if (err)
		return not_now(op, err);
	m = body;
	m->mask = le32_make(op->attr_mask);
	m->props = le32_make(op->cont_info->props);
	m->quota_bytes = le64_make(op->cont_info->quota_bytes);
	m->quota_objects = le64_make(op->cont_info->quota_objects);
	return record_end(s, op, r, frame);
}

static enum pst_outcome get(struct local *l, struct pst_op *op)
{
	struct cont_name *n = target(l, op);

	if (!n)
		return op_fail(op, -ENOENT);
	if (op->cont_info)
		cont_info_fill(l, n, op->cont_info);
	op->cont = n->id;
	return op_fail(op, 0);
}

/* Does @name come after the entry where the last call ended? */
static bool after_start(const struct pst_op *op, const char *name, size_t len)
{
	size_t n = MIN(len, op->start_len);
	int c = op->start && n ? memcmp(name, op->start, n) : 0;

	return !op->start || c > 0 || (c == 0 && len > op->start_len);
}

unsigned cont_names_after(struct local *l, const void *start, uint32_t start_len,
                          struct pst_cont_info *info, unsigned max)
{
	const struct pst_op from = {.start = start, .start_len = start_len};
	struct cont_name *n;
	unsigned count = 0;

	list_for_each (n, &l->names, link)
		if (count < max && after_start(&from, n->name, strlen(n->name)))
			cont_info_fill(l, n, &info[count++]);
	return count;
}

static enum pst_outcome list_conts(struct local *l, struct pst_op *op)
{
	struct cont_name *n;

	list_for_each (n, &l->names, link) {
		struct pst_cont_info info;
		struct pst_entry e = {.name = n->name, .id = n->id, .cont = &info};

		e.name_len = (uint32_t)strlen(n->name);
		if (!after_start(op, n->name, e.name_len))
			continue;
		cont_info_fill(l, n, &info);
		if (!op->entry(op, &e))
			break;
	}
	return op_fail(op, 0);
}

/* --- snapshots --- */

static void snap_fill(const struct snap *n, struct pst_snap_info *info)
{
	memset(info, 0, sizeof(*info));
	memcpy(info->name, n->name, sizeof(info->name));
	info->view = n->id;
	info->ctime_ns = n->ctime_ns;
	info->used_bytes = n->used_blocks * BLOCK_BYTES;
	info->used_objects = n->objects;
}

static enum pst_outcome snap_create_try(struct shard *s, struct pst_op *op)
{
	struct cont_name *n = target(s->l, op);
	struct media_record *r;
	struct media_snap *m;
	enum pst_outcome out;
	uint64_t frame;
	struct cont *c;
	void *body;
	int err = name_check(op->name2, op->name2_len);

	if (replayed(s, op, &out))
		return out;
	if (!n || n->home != s->id) /* as in set_try() */
		return op_fail(op, -ENOENT);
	if (err)
		return op_fail(op, err);
	c = cont_get(s, n->id);
	if (!c)
		return op_fail(op, -ENOMEM);
	if (snap_find(c, op->name2, op->name2_len))
		return op_fail(op, -EEXIST);
	if (n->holds)
		return op_hold(s, op);
	if (c->epoch == UINT32_MAX)
		return op_fail(op, -EOVERFLOW);
	err = record_begin(s, op, REC_SNAP_CREATE, n->id, sizeof(*m) + op->name2_len, &r, &body,
	                   &frame);
	if (err)
		return not_now(op, err);
	m = body;
	m->id = le64_make(c->epoch);
	m->name_len = le32_make(op->name2_len);
	memcpy(m + 1, op->name2, op->name2_len);
	out = record_end(s, op, r, frame);
	if (op->snap_info && !list_empty(&c->snaps))
		snap_fill(list_entry(c->snaps.prev, struct snap, link), op->snap_info);
	return out;
}

static enum pst_outcome snap_destroy_try(struct shard *s, struct pst_op *op)
{
	struct cont_name *n = target(s->l, op);
	struct media_record *r;
	enum pst_outcome out;
	struct snap *sn;
	uint64_t frame;
	void *body;
	int err;

	if (replayed(s, op, &out))
		return out;
	sn = n ? snap_find(cont_find(s, n->id), op->name2, op->name2_len) : NULL;
	if (!sn)
		return op_fail(op, -ENOENT);
	/* A checkpoint holds on to the trees that it writes, and what only the snapshot held could
	 * not be told from that. */
	if (s->ckpt.state != CKPT_IDLE)
		return PST_BUSY;
	err = record_begin(s, op, REC_SNAP_DESTROY, n->id, 8, &r, &body, &frame);
	if (err)
		return not_now(op, err);
	*(le64 *)body = le64_make(sn->id);
	return record_end(s, op, r, frame);
}

static enum pst_outcome snap_open(struct local *l, struct pst_op *op)
{
	struct cont_name *n = target(l, op);
	struct snap *sn =
	        n ? snap_find(cont_find(l->shard[n->home], n->id), op->name2, op->name2_len) : NULL;

	if (!sn)
		return op_fail(op, -ENOENT);
	if (op->snap_info)
		snap_fill(sn, op->snap_info);
	op->cont = n->id;
	return op_fail(op, 0);
}

/* In order of names: few enough to look for the next one each time. */
static enum pst_outcome list_snaps(struct local *l, struct pst_op *op)
{
	struct cont_name *n = target(l, op);
	struct cont *c = n ? cont_find(l->shard[n->home], n->id) : NULL;
	const char *last = NULL;

	if (!n)
		return op_fail(op, -ENOENT);
	for (;;) {
		struct snap *sn, *best = NULL;
		struct pst_snap_info info;
		struct pst_entry e = {.snap = &info};

		if (c)
			list_for_each (sn, &c->snaps, link)
				if (after_start(op, sn->name, strlen(sn->name)) &&
				    (!last || strcmp(sn->name, last) > 0) &&
				    (!best || strcmp(sn->name, best->name) < 0))
					best = sn;
		if (!best)
			break;
		snap_fill(best, &info);
		e.name = last = best->name;
		e.name_len = (uint32_t)strlen(best->name);
		e.id = best->id;
		if (!op->entry(op, &e))
			break;
	}
	return op_fail(op, 0);
}

static enum pst_outcome run_at_home(struct local *l, struct pst_op *op, op_try try)
{
	struct cont_name *n = target(l, op);

	return n ? op_run(l->shard[n->home], op, try) : op_fail(op, -ENOENT);
}

/* --- sessions --- */

static enum pst_outcome session_close_try(struct shard *s, struct pst_op *op)
{
	struct media_record *r;
	uint64_t frame;
	void *body;
	int err;

	if (!session_known(s, op->ino))
		return op_fail(op, 0);
	err = record_begin(s, op, REC_SESSION_CLOSE, 0, 8, &r, &body, &frame);
	if (err)
		return not_now(op, err);
	*(le64 *)body = le64_make(op->ino);
	return record_end(s, op, r, frame);
}

enum pst_outcome session_close_submit(struct local *l, struct pst_op *op)
{
	if (!op->ino || op->token.session)
		return op_fail(op, -EINVAL);
	if (op->off >= l->geo.shards)
		return op_fail(op, -ENXIO);
	pst_assert(l->shard[op->off]);
	return op_run(l->shard[op->off], op, session_close_try);
}

enum pst_outcome cont_submit(struct local *l, struct pst_op *op)
{
	switch (op->opcode) {
	case PST_OP_CONT_CREATE:
		return op_run(l->shard[0], op, create_try);
	case PST_OP_CONT_DESTROY:
		return op_run(l->shard[0], op, destroy_try);
	case PST_OP_CONT_SET:
		return run_at_home(l, op, set_try);
	case PST_OP_SNAP_CREATE:
		return run_at_home(l, op, snap_create_try);
	case PST_OP_SNAP_DESTROY:
		return run_at_home(l, op, snap_destroy_try);
	case PST_OP_CONT_LIST:
		return list_conts(l, op);
	case PST_OP_SNAP_LIST:
		return list_snaps(l, op);
	case PST_OP_SNAP_OPEN:
		return snap_open(l, op);
	default:
		return get(l, op);
	}
}
