/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kv - looking at objects: values, lists of keys and objects, attributes, the map of an array. Most
 * of it is in DRAM and answered at once; values that lie outside the index are read first.
 */
#include "store/local/engine.h"

struct vread { /* one value being read */
	struct dio dio;
	struct shard *shard;
	struct pst_op *op;
	struct media_outval out;
	uint32_t epoch, next, done_blocks;
	uint8_t *buf;
	void (*done)(struct vread *v, int status);
	/* KV_LIST goes on after this key */
	uint16_t key_len;
	uint8_t key[PST_KEY_MAX];
};
_Static_assert(sizeof(struct vread) <= REQ_BYTES, "a value's read fits in a request");

static void vread_next(struct dio *d);

static void vread_end(struct vread *v, int status)
{
	if (!status && !PLANTED(v->shard->l, PLANT_SKIP_CHECKSUM) &&
	    crc32c(0, v->buf, le32_get(v->out.len)) != le32_get(v->out.crc)) {
		v->shard->l->stat.csum_errors++;
		log_error("container %s object %016llx%016llx: the checksum of a value does not "
		          "match",
		          cont_text(v->shard->l, v->op->cont), (unsigned long long)v->op->oid.hi,
		          (unsigned long long)v->op->oid.lo);
		status = -EIO;
	}
	reader_exit(v->shard, v->epoch);
	v->done(v, status);
}

static void vread_step(struct vread *v)
{
	unsigned i = v->next++;
	uint32_t blocks = le16_get(v->out.extent[i].blocks);

	v->dio.done = vread_next;
	dio_data(v->shard->l, &v->dio, BDEV_READ, get48(v->out.extent[i].addr), blocks,
	         v->buf + (size_t)v->done_blocks * BLOCK_BYTES, NULL);
	v->done_blocks += blocks;
}

static void vread_next(struct dio *d)
{
	struct vread *v = container_of(d, struct vread, dio);

	if (!d->status && v->next < le16_get(v->out.extents))
		vread_step(v);
	else
		vread_end(v, d->status);
}

static void vread_free(struct vread *v)
{
	mem_free(v->buf);
	req_put(v->shard->l, v);
}

/* Begins to read the value that the item @val describes. NULL with -EAGAIN, -ENOMEM or -EIO. */
static int vread_start(struct shard *s, struct pst_op *op, const uint8_t *val, size_t val_len,
                       const void *key, size_t key_len, void (*done)(struct vread *v, int status))
{
	struct vread *v = req_get(s->l);

	if (!v)
		return req_error(s->l);
	memset(v, 0, sizeof(*v));
	v->shard = s;
	v->op = op;
	v->done = done;
	v->key_len = (uint16_t)key_len;
	memcpy(v->key, key, key_len);
	if (outval_decode(val + 1, val_len - 1, &v->out)) {
		req_put(s->l, v);
		return -EIO;
	}
	v->buf = mem_alloc_aligned(BLOCK_BYTES, ALIGN_UP(le32_get(v->out.len), BLOCK_BYTES));
	if (!v->buf) {
		req_put(s->l, v);
		return -ENOMEM;
	}
	v->epoch = reader_enter(s);
	vread_step(v);
	return 0;
}

static enum pst_outcome not_now(struct pst_op *op, int err)
{
	return err == -EAGAIN ? PST_BUSY : op_fail(op, err);
}

static size_t kv_key(uint8_t key[BT_KEY_MAX], struct pst_oid oid, const void *k, size_t len)
{
	key_obj(key, oid, KEY_KV);
	if (len)
		memcpy(key + KEY_OBJ_BYTES, k, len);
	return KEY_OBJ_BYTES + len;
}

/* --- KV_GET --- */

static void got(struct vread *v, int status)
{
	struct pst_op *op = v->op;
	struct local *l = v->shard->l;

	if (!status)
		memcpy(op->val, v->buf, op->ret_len);
	vread_free(v);
	op_done(l, op, status);
}

static enum pst_outcome get_try(struct shard *s, struct pst_op *op)
{
	uint8_t key[BT_KEY_MAX];
	struct media_outval out;
	const struct btree *t;
	const uint8_t *val;
	struct shard *home;
	const void *found;
	size_t len;
	int err = cont_view(s->l, op, &home, &t);

	if (err)
		return op_fail(op, err);
	if (!t || bt_get(t, key, kv_key(key, op->oid, op->key, op->key_len), &found, &len) || !len)
		return op_fail(op, -ENOENT);
	val = found;
	if (val[0] == VAL_INLINE) {
		op->ret_len = len - 1;
		if (op->ret_len > op->val_cap)
			return op_fail(op, -ERANGE);
		if (op->ret_len)
			memcpy(op->val, val + 1, op->ret_len);
		return op_fail(op, 0);
	}
	if (outval_decode(val + 1, len - 1, &out))
		return op_fail(op, -EIO);
	op->ret_len = le32_get(out.len);
	if (op->ret_len > op->val_cap)
		return op_fail(op, -ERANGE);
	err = vread_start(s, op, val, len, op->key, op->key_len, got);
	return err ? not_now(op, err) : PST_QUEUED;
}

enum pst_outcome kv_get_submit(struct local *l, struct pst_op *op)
{
	struct shard *s = shard_of_cont(l, op->cont);

	if (!s)
		return op_fail(op, -ENOENT);
	if (!op->key_len || !op->key)
		return op_fail(op, -EINVAL);
	if (op->key_len > PST_KEY_MAX)
		return op_fail(op, -ENAMETOOLONG);
	return op_run(s, op, get_try);
}

/* --- KV_LIST --- */

static void listed_value(struct vread *v, int status);

/* Entries after @start (inclusive when @at), until one needs its value read. */
static enum pst_outcome list_from(struct shard *s, struct pst_op *op, const void *start,
                                  size_t start_len)
{
	uint8_t from[BT_KEY_MAX], prefix[BT_KEY_MAX];
	size_t from_len, prefix_len = kv_key(prefix, op->oid, op->key, op->key_len);
	const struct btree *t;
	struct shard *home;
	struct bt_iter it;
	int err = cont_view(s->l, op, &home, &t);

	if (err || !t)
		return op_fail(op, err);
	from_len = start ? kv_key(from, op->oid, start, start_len) : 0;
	if (start && (from_len > prefix_len || memcmp(from, prefix, from_len) >= 0)) {
		bt_seek(&it, t, from, from_len);
		if (it.valid && it.key_len == from_len && !memcmp(it.key, from, from_len))
			bt_next(&it);
	} else {
		bt_seek(&it, t, prefix, prefix_len);
	}
	for (; it.valid; bt_next(&it)) {
		const uint8_t *val = it.val;
		struct pst_entry e = {.name = it.key + KEY_OBJ_BYTES, .oid = op->oid};

		if (it.key_len < prefix_len || memcmp(it.key, prefix, prefix_len))
			break;
		e.name_len = (uint32_t)(it.key_len - KEY_OBJ_BYTES);
		if (op->want_values && val[0] == VAL_OUT) {
			err = vread_start(s, op, val, it.val_len, e.name, e.name_len, listed_value);
			pst_assert(err != -EAGAIN); /* the callers saw to a free request */
			return err ? op_fail(op, err) : PST_QUEUED;
		}
		if (op->want_values) {
			e.val = val + 1;
			e.val_len = (uint32_t)it.val_len - 1;
		}
		if (!op->entry(op, &e))
			break;
	}
	return op_fail(op, 0);
}

static void listed_value(struct vread *v, int status)
{
	struct pst_op *op = v->op;
	struct shard *s = v->shard;
	struct pst_entry e = {.name = v->key, .name_len = v->key_len, .oid = op->oid};
	uint8_t key[PST_KEY_MAX];
	size_t key_len = v->key_len;
	bool more;

	e.val = v->buf;
	e.val_len = le32_get(v->out.len);
	op->status = status;
	more = !status && op->entry(op, &e);
	memcpy(key, v->key, key_len);
	vread_free(v); /* first: the next value finds this request free */
	if (!more || list_from(s, op, key, key_len) != PST_QUEUED)
		op_done(s->l, op, op->status);
}

static enum pst_outcome list_try(struct shard *s, struct pst_op *op)
{
	/* Once an entry was handed out there is no way back to the queue. */
	void *req = op->want_values ? req_get(s->l) : NULL;

	if (op->want_values && !req)
		return PST_BUSY;
	if (req)
		req_put(s->l, req);
	return list_from(s, op, op->start, op->start_len);
}

static enum pst_outcome obj_list_try(struct shard *s, struct pst_op *op)
{
	uint8_t key[KEY_OBJ_BYTES];
	const struct btree *t;
	struct shard *home;
	struct pst_oid at = {0};
	int err = cont_view(s->l, op, &home, &t);
	bool skip = op->start != NULL;

	if (err || !t)
		return op_fail(op, err);
	if (op->start && op->start_len != sizeof(at))
		return op_fail(op, -EINVAL);
	if (op->start)
		memcpy(&at, op->start, sizeof(at));
	for (;;) {
		struct pst_entry e = {0};
		struct bt_iter it;

		/* From one object to the next, past all its extents and keys. */
		key_obj(key, at, skip ? 0xff : KEY_HEAD);
		bt_seek(&it, t, key, sizeof(key));
		if (!it.valid)
			break;
		e.oid = at = oid_of_key(it.key);
		skip = true;
		if (it.key_len != KEY_OBJ_BYTES || it.key[16] != KEY_HEAD)
			continue;
		e.name = &e.oid;
		e.name_len = sizeof(e.oid);
		if (!op->entry(op, &e))
			break;
	}
	return op_fail(op, 0);
}

enum pst_outcome list_submit(struct local *l, struct pst_op *op)
{
	struct shard *s = shard_of_cont(l, op->cont);

	if (!s)
		return op_fail(op, -ENOENT);
	if (op->opcode == PST_OP_OBJ_LIST)
		return op_run(s, op, obj_list_try);
	if (op->key_len > PST_KEY_MAX || op->start_len > PST_KEY_MAX)
		return op_fail(op, -ENAMETOOLONG);
	return op_run(s, op, list_try);
}

/* --- STAT, EXTENTS --- */

static enum pst_outcome stat_fill(struct pst_op *op, const struct btree *t)
{
	struct pst_obj_stat *st = op->stat;
	struct head h = {0};

	if (t)
		head_get(t, op->oid, &h);
	memset(st, 0, sizeof(*st));
	if (!h.exists)
		return op_fail(op, 0);
	st->exists = true;
	st->size_bytes = h.size;
	st->alloc_bytes = h.blocks * BLOCK_BYTES;
	st->mtime_ns = h.mtime;
	st->label_len = h.label_len;
	memcpy(st->label, h.label, h.label_len);
	return op_fail(op, 0);
}

/* The first run of data that ends after op->off. */
static enum pst_outcome extents(struct pst_op *op, const struct btree *t)
{
	uint64_t limit = op->len > PST_OBJECT_MAX ? PST_OBJECT_MAX : op->off + op->len, end;
	struct head h = {0};
	struct extent e;

	if (t)
		head_get(t, op->oid, &h);
	if (!h.exists || op->off >= h.size)
		return op_fail(op, -ENXIO);
	limit = MIN(limit, h.size);
	if (!extent_find(t, op->oid, &h, op->off / BLOCK_BYTES, &e) ||
	    e.lblk * BLOCK_BYTES >= limit)
		return op_fail(op, -ENXIO);
	op->ret_off = MAX(op->off, e.lblk * BLOCK_BYTES);
	do
		end = e.lblk + e.blocks;
	while (end * BLOCK_BYTES < limit && extent_find(t, op->oid, &h, end, &e) && e.lblk == end);
	op->ret_len = MIN(end * BLOCK_BYTES, limit) - op->ret_off;
	return op_fail(op, 0);
}

enum pst_outcome stat_submit(struct local *l, struct pst_op *op)
{
	const struct btree *t;
	struct shard *home;
	int err = cont_view(l, op, &home, &t);

	if (err)
		return op_fail(op, err);
	return op->opcode == PST_OP_STAT ? stat_fill(op, t) : extents(op, t);
}
