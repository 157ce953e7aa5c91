/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * admit - may this batch be committed? Its form, its conditions, and what it takes of space,
 * memory, log and quota. Nothing here changes anything.
 */
#include "store/local/engine.h"

/* --- checking --- */

static int key_check(const struct pst_mut *m)
{
	if (!m->key_len || !m->key)
		return -EINVAL;
	return m->key_len > PST_KEY_MAX ? -ENAMETOOLONG : 0;
}

static int data_check(const struct pst_mut *m, uint64_t *bytes)
{
	uint64_t have = m->val_len;

	*bytes += m->len;
	if (m->len > PST_IO_MAX || *bytes > PST_IO_MAX)
		return -E2BIG;
	if (m->iov) {
		have = 0;
		for (uint32_t i = 0; i < m->iov_count; i++)
			have += m->iov[i].iov_len;
	}
	if (have != m->len || (m->len && !m->iov && !m->val))
		return -EINVAL;
	return m->kind == PST_ARRAY_WRITE && m->off > PST_OBJECT_MAX - m->len ? -EFBIG : 0;
}

/* A condition that does not hold ends the batch with its err: 0 would look as if all were done. */
static int cond_check(const struct pst_mut *m)
{
	if (m->err >= 0 || m->err < -4095)
		return -EINVAL;
	switch (m->kind) {
	case PST_IF_NO_KEYS:
		return m->key_len > PST_KEY_MAX ? -ENAMETOOLONG : 0;
	case PST_IF_KEY_ABSENT:
	case PST_IF_KEY_PRESENT:
		return key_check(m);
	case PST_IF_KEY_EQ:
		return m->val_len > PST_VALUE_MAX ? -E2BIG : key_check(m);
	case PST_IF_LABEL_EQ:
		return m->val_len > PST_LABEL_MAX ? -E2BIG : 0;
	default:
		return 0;
	}
}

static bool makes_object(const struct pst_mut *m)
{
	return m->kind >= PST_KV_PUT && m->kind != PST_OBJ_DELETE && m->kind != PST_KV_DEL &&
	       m->kind != PST_ARRAY_PUNCH;
}

int batch_mut_check(const struct pst_mut *m, uint64_t *bytes)
{
	if (unlikely(oid_none(m->oid)) && makes_object(m))
		return -EINVAL;
	switch (m->kind) {
	case PST_KV_DEL:
		return key_check(m);
	case PST_KV_PUT:
		return m->val_len > PST_VALUE_MAX ? -E2BIG : key_check(m);
	case PST_SET_LABEL:
		return m->val_len > PST_LABEL_MAX ? -E2BIG : 0;
	case PST_ARRAY_WRITE:
	case PST_ARRAY_APPEND:
		return data_check(m, bytes);
	case PST_ARRAY_PUNCH:
		if (m->len > PST_OBJECT_MAX)
			return -EFBIG;
		return m->off > PST_OBJECT_MAX - m->len ? -EFBIG : 0;
	case PST_ARRAY_RESIZE:
		return m->off > PST_OBJECT_MAX ? -EFBIG : 0;
	case PST_IF_KEY_ABSENT:
	case PST_IF_KEY_PRESENT:
	case PST_IF_KEY_EQ:
	case PST_IF_NO_KEYS:
	case PST_IF_LABEL_EQ:
	case PST_IF_OBJ_ABSENT:
	case PST_IF_OBJ_PRESENT:
	case PST_IF_SIZE_EQ:
		return cond_check(m);
	case PST_SET_MTIME:
	case PST_OBJ_DELETE:
		return 0;
	default:
		return -EINVAL;
	}
}

/* --- conditions --- */

static size_t full_key(uint8_t key[BT_KEY_MAX], const struct pst_mut *m)
{
	key_obj(key, m->oid, KEY_KV);
	if (m->key_len)
		memcpy(key + KEY_OBJ_BYTES, m->key, m->key_len);
	return KEY_OBJ_BYTES + (size_t)m->key_len;
}

/* A large value is compared by length and CRC32C: reading it would make the commit wait. */
static bool value_is(const uint8_t *val, size_t len, const struct pst_mut *m)
{
	struct media_outval out;

	if (val[0] == VAL_INLINE)
		return len - 1 == m->val_len &&
		       (!m->val_len || !memcmp(val + 1, m->val, m->val_len));
	return !outval_decode(val + 1, len - 1, &out) && le32_get(out.len) == m->val_len &&
	       le32_get(out.crc) == crc32c(0, m->val, m->val_len);
}

static bool key_holds(const struct btree *t, const struct pst_mut *m)
{
	uint8_t key[BT_KEY_MAX];
	const void *val;
	size_t len;
	bool there = !bt_get(t, key, full_key(key, m), &val, &len);

	if (m->kind == PST_IF_KEY_ABSENT)
		return !there;
	if (m->kind == PST_IF_KEY_PRESENT)
		return there;
	return there && value_is(val, len, m);
}

static bool no_keys(const struct btree *t, const struct pst_mut *m)
{
	uint8_t key[BT_KEY_MAX];
	size_t len = full_key(key, m);
	struct bt_iter it;

	bt_seek(&it, t, key, len);
	return !it.valid || it.key_len < len || memcmp(it.key, key, len);
}

bool batch_holds(const struct btree *t, const struct pst_mut *m)
{
	struct head h;

	switch (m->kind) {
	case PST_IF_KEY_ABSENT:
	case PST_IF_KEY_PRESENT:
	case PST_IF_KEY_EQ:
		return key_holds(t, m);
	case PST_IF_NO_KEYS:
		return no_keys(t, m);
	case PST_IF_LABEL_EQ:
		head_get(t, m->oid, &h);
		return h.label_len == m->val_len &&
		       (!m->val_len || !memcmp(h.label, m->val, m->val_len));
	case PST_IF_OBJ_ABSENT:
		head_get(t, m->oid, &h);
		return !h.exists;
	case PST_IF_OBJ_PRESENT:
		head_get(t, m->oid, &h);
		return h.exists;
	case PST_IF_SIZE_EQ:
		head_get(t, m->oid, &h);
		return h.size == m->off;
	}
	return true;
}

/* --- limits --- */

/* Blocks of [first, end) that the array has mapped. */
uint64_t mapped_blocks(const struct btree *t, struct pst_oid oid, uint64_t first, uint64_t end,
                       uint32_t *ret_extents)
{
	uint64_t n = 0;
	struct extent e;
	struct head h;

	head_get(t, oid, &h);
	while (h.exists && first < end && extent_find(t, oid, &h, first, &e) && e.lblk < end) {
		uint64_t from = MAX(first, e.lblk), to = MIN(end, e.lblk + e.blocks);

		n += to - from;
		first = to;
		++*ret_extents;
	}
	return n;
}

/*
 * How many changes of the tree an array entry makes, for bt_reserve(). It wants to know of puts, each
 * of which may split a leaf, and of leaves that are touched, each of which may have to be copied.
 *
 * A write of j journaled blocks and r runs is applied as at most m = j + r pieces, in ascending order.
 * Each puts its extent and what it leaves on the right of one that it cuts: 2m. What it leaves on the
 * left of one is put once for the whole write: pieces that follow each other find the last one's right
 * rest, and where there are blocks between them an extent ends there (in place or not is true of all
 * of an extent, and so is whether it is shared). With the head that is 2m + 2 puts.
 * What is deleted is either such a rest, in a leaf that was touched when it was put, or one of the K
 * extents that were there. Deleting takes copies of leaves only. Keys that follow each other lie in at
 * most K + 2 leaves: as many as puts, while K <= j. A punch, a resize and a delete may pass over more.
 * Of two neighbouring leaves one at least is a quarter full (a delete that leaves less merges them,
 * unless the other is more than half full); so extents, of which a hundred fit in a leaf, lie in fewer
 * than K / 4 + 2 leaves, and keys, three or more to a leaf, in at most 2 K / 3 + 2. For c changes
 * bt_reserve() has 3 c pages at least where there are as many: copies, new leaves, roots.
 */
static void demand_array(const struct wreq *q, uint32_t i, const struct cont *c, struct demand *d)
{
	const struct pst_mut *m = &q->mut[i];
	const struct wmut *w = &q->w[i];
	uint64_t first, end;
	uint32_t extents = 0;

	d->journal_blocks += w->j_count;
	d->record_bytes += (uint32_t)(2 * sizeof(struct media_change) + sizeof(struct media_write) +
	                              (w->j_count + w->run_count) * sizeof(struct media_piece) +
	                              (w->j_count + w->direct_blocks) * 4 + 24);
	d->csum_pages += 2 + (w->j_count + w->direct_blocks) / CSUMS_PER_PAGE;
	/* The common small write knows its answer without looking. */
	if (is_write(m) && w->j_count && !w->direct_blocks) {
		d->tree_changes += 4 + 2 * w->j_count;
		return;
	}
	array_range(q, i, &first, &end);
	if (first < end)
		(void)mapped_blocks(&c->tree, m->oid, first, end, &extents);
	d->tree_changes += 6 + 2 * (w->j_count + w->run_count) + 2 * MIN(extents, 16) + extents / 4;
}

static uint32_t count_keys(const struct btree *t, struct pst_oid oid)
{
	uint8_t key[KEY_OBJ_BYTES];
	struct bt_iter it;
	uint32_t n = 0;

	key_obj(key, oid, KEY_KV);
	for (bt_seek(&it, t, key, sizeof(key));
	     it.valid && it.key_len > sizeof(key) && !memcmp(it.key, key, sizeof(key));
	     bt_next(&it))
		n++;
	return n;
}

/* Is the object of entry @i there when it is that entry's turn? */
static bool there_before(const struct wreq *q, uint32_t i, const struct cont *c)
{
	struct pst_oid oid = q->mut[i].oid;

	while (i--) {
		const struct pst_mut *m = &q->mut[i];

		if (m->oid.hi != oid.hi || m->oid.lo != oid.lo)
			continue;
		if (m->kind == PST_OBJ_DELETE)
			return false;
		if (makes_object(m))
			return true;
	}
	return batch_holds(&c->tree, &(struct pst_mut){.kind = PST_IF_OBJ_PRESENT, .oid = oid});
}

/* By how many entry @i changes the number of objects. */
static int objects_made(const struct wreq *q, uint32_t i, const struct cont *c)
{
	if (q->mut[i].kind == PST_OBJ_DELETE)
		return -(int)there_before(q, i, c);
	return makes_object(&q->mut[i]) && !there_before(q, i, c);
}

void batch_demand(const struct wreq *q, const struct cont *c, struct demand *d)
{
	memset(d, 0, sizeof(*d));
	d->record_bytes = sizeof(struct media_record) + sizeof(struct media_reply);
	d->tree_changes = q->op->token.session ? 3 : 1;
	for (uint32_t i = 0; i < q->count; i++) {
		const struct pst_mut *m = &q->mut[i];

		if (m->kind < PST_KV_PUT)
			continue;
		if (m->kind >= PST_ARRAY_WRITE && m->kind <= PST_ARRAY_RESIZE) {
			demand_array(q, i, c, d);
		} else if (m->kind == PST_OBJ_DELETE) {
			demand_array(q, i, c, d);
			d->tree_changes += count_keys(&c->tree, m->oid) / 4 + 16;
		} else {
			d->record_bytes +=
			        (uint32_t)ALIGN_UP(sizeof(struct media_change) + 8 + m->key_len +
			                                   MIN(m->val_len, BT_VALUE_MAX),
			                           8);
			d->tree_changes += 4;
		}
		if (c->quota_objects)
			d->new_objects += objects_made(q, i, c);
	}
	d->new_blocks = d->journal_blocks;
	if (c->quota_blocks)
		d->growth_blocks = batch_growth(q, c);
}

static int quota_check(const struct cont *c, const struct demand *d)
{
	if (c->quota_blocks && d->growth_blocks > 0 &&
	    c->used_blocks + (uint64_t)d->growth_blocks > c->quota_blocks)
		return -EDQUOT;
	if (c->quota_objects && d->new_objects > 0 &&
	    c->objects + (uint64_t)d->new_objects > c->quota_objects)
		return -EDQUOT;
	return 0;
}

/* How many journaled blocks overwrite none in place. Only where one entry alone changes what is
 * mapped: what the others would leave is not known before they are applied. */
static uint32_t new_places(const struct wreq *q, struct cont *c, uint32_t journal_blocks)
{
	uint32_t changing = 0, n = 0;

	for (uint32_t i = 0; i < q->count; i++) {
		unsigned kind = q->mut[i].kind;

		changing += kind == PST_OBJ_DELETE ||
		            (kind >= PST_ARRAY_WRITE && kind <= PST_ARRAY_RESIZE);
	}
	if (changing > 1)
		return journal_blocks;
	for (uint32_t i = 0; i < q->count; i++)
		n += blocks_to_place(q->shard, c, q->mut[i].oid, &q->w[i]);
	return n;
}

static int space_check(struct wreq *q, struct cont *c, const struct demand *d)
{
	struct shard *s = q->shard;
	int err = space_reserve(s, d->new_blocks);

	if (err == -ENOSPC)
		err = space_reserve(s, new_places(q, c, d->journal_blocks));
	if (err == -ENOSPC && s->space.data.count) {
		log_want_mark(s);
		return -EAGAIN;
	}
	return err == -ENOSPC ? refuse(s->l, PST_SCARCE_DATA) : err;
}

/* Could the index still be written, once it has grown by this? Else it would stop the store. */
static int index_check(struct wreq *q)
{
	struct local *l = q->shard->l;

	if (likely(!l->index_near) || q->deletes_only || space_index_fits(l, 0))
		return 0;
	/* One that is under way gives pages back. */
	return q->shard->ckpt.state != CKPT_IDLE ? -EAGAIN : refuse(l, PST_SCARCE_DATA);
}

/* Everything that can stand in the way; 0: nothing does. */
int batch_admit(struct wreq *q, struct cont *c, const struct demand *d)
{
	struct shard *s = q->shard;
	int err = quota_check(c, d);

	if (!err)
		err = bt_reserve(&s->env, d->tree_changes, q->deletes_only);
	if (err == -ENOSPC || (!err && !q->deletes_only && s->l->index_full))
		return refuse(s->l, PST_SCARCE_INDEX);
	if (!err)
		err = index_check(q);
	if (!err && d->csum_pages) {
		err = csum_reserve(s, d->csum_pages);
		if (err == -EAGAIN)
			ckpt_want(s);
	}
	if (!err)
		err = space_check(q, c, d);
	if (!err)
		err = log_room(s, d->record_bytes, d->journal_blocks, q->deletes_only);
	return err;
}
