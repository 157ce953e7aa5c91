/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * write - WRITE and BATCH: checking, committing, and what happens in between.
 *
 *   write_submit -> write_try -> [prep_start] -> commit -> op_committed
 *                      ^              |             |
 *                      |  write_prepared (I/O done) |
 *                      +---- stalled: log room, memory, space, a lock ----+
 *
 * commit() is atomic: everything that can fail is checked first, then the record is built change by
 * change in the open frame, and each change is applied as it is built, so that a change sees what
 * the ones before it did.
 */
#include "store/local/engine.h"

#define WMUTS_INLINE 1

static bool is_write(const struct pst_mut *m)
{
	return m->kind == PST_ARRAY_WRITE || m->kind == PST_ARRAY_APPEND;
}

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

static int mut_check(const struct pst_mut *m, uint64_t *bytes)
{
	switch (m->kind) {
	case PST_IF_NO_KEYS:
		return m->key_len > PST_KEY_MAX ? -ENAMETOOLONG : 0;
	case PST_IF_KEY_ABSENT:
	case PST_IF_KEY_PRESENT:
	case PST_KV_DEL:
		return key_check(m);
	case PST_IF_KEY_EQ:
	case PST_KV_PUT:
		return m->val_len > PST_VALUE_MAX ? -E2BIG : key_check(m);
	case PST_IF_LABEL_EQ:
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

static bool holds(const struct btree *t, const struct pst_mut *m)
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
static uint64_t mapped(const struct btree *t, struct pst_oid oid, uint64_t first, uint64_t end,
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

struct demand { /* what committing takes, at most */
	uint32_t record_bytes, journal_blocks, new_blocks, tree_changes, csum_pages;
	int64_t growth_blocks, new_objects;
};

static void demand_array(const struct wreq *q, uint32_t i, const struct cont *c, struct demand *d)
{
	const struct pst_mut *m = &q->mut[i];
	const struct wmut *w = &q->w[i];
	uint64_t first = 0, end = 0, was;
	uint32_t extents = 0;

	d->journal_blocks += w->j_count;
	d->record_bytes += (uint32_t)(2 * sizeof(struct media_change) + sizeof(struct media_write) +
	                              (w->j_count + w->run_count) * sizeof(struct media_piece) +
	                              (w->j_count + w->direct_blocks) * 4 + 24);
	d->csum_pages += 2 + (w->j_count + w->direct_blocks) / CSUMS_PER_PAGE;
	switch (m->kind) {
	case PST_ARRAY_WRITE:
	case PST_ARRAY_APPEND:
		first = w->off / BLOCK_BYTES;
		end = DIV_ROUND_UP(w->off + w->len, BLOCK_BYTES);
		break;
	case PST_ARRAY_PUNCH:
		first = DIV_ROUND_UP(w->off, BLOCK_BYTES);
		end = (w->off + w->len) / BLOCK_BYTES;
		break;
	case PST_ARRAY_RESIZE:
		first = DIV_ROUND_UP(w->off, BLOCK_BYTES);
		end = UINT64_MAX;
		break;
	case PST_OBJ_DELETE:
		end = UINT64_MAX;
		break;
	}
	/* The common small write knows its answer without looking. */
	if (is_write(m) && w->j_count && !w->direct_blocks && !c->quota_blocks) {
		d->tree_changes += 4 + 2 * w->j_count;
		return;
	}
	was = first < end ? mapped(&c->tree, m->oid, first, end, &extents) : 0;
	d->tree_changes += 6 + 2 * (w->j_count + w->run_count) + 2 * MIN(extents, 16) + extents / 4;
	d->growth_blocks += is_write(m) ? (int64_t)(end - first) - (int64_t)was : -(int64_t)was;
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

static void demand_of(const struct wreq *q, const struct cont *c, struct demand *d)
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
			if (q->w[i].has_out)
				d->growth_blocks += DIV_ROUND_UP(m->val_len, BLOCK_BYTES);
		}
		if (c->quota_objects && m->kind != PST_OBJ_DELETE && m->kind != PST_KV_DEL &&
		    m->kind != PST_ARRAY_PUNCH) {
			struct head h;

			head_get(&c->tree, m->oid, &h);
			d->new_objects += !h.exists; /* twice the same: once too many is safe */
		} else if (c->quota_objects && m->kind == PST_OBJ_DELETE) {
			d->new_objects -=
			        holds(&c->tree,
			              &(struct pst_mut){.kind = PST_IF_OBJ_PRESENT, .oid = m->oid});
		}
	}
	d->new_blocks = d->journal_blocks;
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

static int space_check(struct shard *s, const struct demand *d)
{
	if (s->space.class[SPACE_DATA].free >= d->new_blocks ||
	    space_available(s->l) >= d->new_blocks)
		return 0;
	if (s->space.data.count) {
		log_want_mark(s);
		return -EAGAIN;
	}
	return -ENOSPC;
}

/* Everything that can stand in the way; 0: nothing does. */
static int admit(struct wreq *q, struct cont *c, const struct demand *d)
{
	struct shard *s = q->shard;
	int err = quota_check(c, d);

	if (!err)
		err = bt_reserve(&s->env, d->tree_changes, q->deletes_only);
	if (!err && !q->deletes_only && s->l->index_full)
		err = -ENOSPC;
	if (!err && d->csum_pages) {
		err = csum_reserve(s, d->csum_pages);
		if (err == -EAGAIN)
			ckpt_want(s);
	}
	if (!err)
		err = space_check(s, d);
	if (!err)
		err = log_room(s, d->record_bytes, d->journal_blocks, q->deletes_only);
	return err;
}

/* --- building --- */

struct builder {
	struct wreq *q;
	struct cont *c;
	uint8_t *start, *p;
	uint64_t frame, time_ns;
	uint32_t changes;
	bool nocsum;
};

static void apply_built(struct builder *b, const uint8_t *from)
{
	struct rec_reader r = {from, b->p};
	struct jblock *const *data;
	struct change ch;
	uint32_t count;
	int err;

	data = log_data(b->q->shard, &count);
	if (!change_next(&r, &ch))
		pst_assert(!"a change that was just built can't be read");
	err = apply_one(b->q->shard, b->c, b->frame, b->time_ns, data, count, &ch);
	if (err)
		local_stop(b->q->shard->l, err, "a change could not be applied");
	b->changes++;
}

static struct media_change *change_begin(struct builder *b, unsigned kind, struct pst_oid oid)
{
	struct media_change *m = (void *)b->p;

	*m = (struct media_change){
	        .kind = (uint8_t)kind, .oid_hi = le64_make(oid.hi), .oid_lo = le64_make(oid.lo)};
	b->p += sizeof(*m);
	return m;
}

static void change_end(struct builder *b, struct media_change *m)
{
	const uint8_t *body = (const uint8_t *)(m + 1);
	uint32_t len = (uint32_t)(b->p - body), pad = -len & 7;

	m->body_len = le32_make(len);
	memset(b->p, 0, pad);
	b->p += pad;
	apply_built(b, (const uint8_t *)m);
}

static void put_bytes(struct builder *b, const void *bytes, size_t len)
{
	if (len)
		memcpy(b->p, bytes, len);
	b->p += len;
}

static void put_u64(struct builder *b, uint64_t v)
{
	le64 le = le64_make(v);

	put_bytes(b, &le, sizeof(le));
}

static void put_piece(struct builder *b, uint64_t lblk, uint64_t addr, uint32_t blocks,
                      uint32_t flags)
{
	struct media_piece p = {le64_make(lblk), le64_make(addr), le32_make(blocks),
	                        le32_make(flags)};

	put_bytes(b, &p, sizeof(p));
}

/* The place where block @lblk may be overwritten, or 0. */
static uint64_t place_of(const struct builder *b, struct pst_oid oid, const struct head *h,
                         struct extent *e, uint64_t lblk)
{
	if (!h->exists)
		return 0;
	if (!(e->blocks && lblk >= e->lblk && lblk < e->lblk + e->blocks) &&
	    !extent_peek(&b->c->tree, h, lblk, e)) {
		e->blocks = 0;
		return 0;
	}
	if (lblk < e->lblk || e->birth <= b->c->newest_snap || e->nocsum != b->nocsum)
		return 0;
	return e->addr + (lblk - e->lblk);
}

/* Gives each journaled block its place and writes the pieces; returns their number. */
static uint32_t place_journaled(struct builder *b, const struct wmut *w, struct pst_oid oid)
{
	struct shard *s = b->q->shard;
	struct extent e = {0};
	const struct head *h = head_peek(s, &b->c->tree, oid);
	uint32_t pieces = 0, k = 0;

	while (k < w->j_count) {
		uint64_t lblk = w->j[k]->lblk, addr = place_of(b, oid, h, &e, lblk);
		uint32_t n = 1, flags = PIECE_JOURNALED;

		if (addr) {
			flags |= PIECE_IN_PLACE;
			while (k + n < w->j_count && w->j[k + n]->lblk == lblk + n &&
			       (addr + n) % s->l->geo.region_span &&
			       place_of(b, oid, h, &e, lblk + n) == addr + n)
				n++;
		} else {
			while (k + n < w->j_count && w->j[k + n]->lblk == lblk + n &&
			       !place_of(b, oid, h, &e, lblk + n))
				n++;
			n = space_alloc(s, SPACE_DATA, n, &addr);
			pst_assert(n); /* space_check() counted them */
		}
		put_piece(b, lblk, addr, n, flags);
		pieces++;
		for (uint32_t i = 0; i < n; i++)
			log_append_data(s, w->j[k + i]);
		k += n;
	}
	return pieces;
}

static void build_write(struct builder *b, uint32_t i)
{
	const struct pst_mut *m = &b->q->mut[i];
	struct wmut *w = &b->q->w[i];
	struct media_change *ch = change_begin(b, CH_WRITE, m->oid);
	struct media_write *mw = (void *)b->p;
	uint64_t lblk = w->direct_first;
	uint32_t data_index, pieces;

	log_data(b->q->shard, &data_index);
	b->p += sizeof(*mw);
	pieces = place_journaled(b, w, m->oid);
	for (uint32_t k = 0; k < w->run_count; k++) {
		put_piece(b, lblk, w->run[k].addr, w->run[k].blocks, 0);
		lblk += w->run[k].blocks;
		pieces++;
	}
	w->run_count = 0; /* the tree has them now */
	mw->size_min = le64_make(is_write(m) && w->len ? w->off + w->len : 0);
	mw->pieces = le32_make(pieces);
	mw->data_index = le32_make(data_index);
	if (b->nocsum)
		ch->flags = CH_F_NOCSUM;
	for (uint32_t k = 0; k < w->j_count; k++) {
		le32 crc = le32_make(w->j[k]->csum);

		put_bytes(b, &crc, sizeof(crc));
	}
	for (uint32_t k = 0; k < w->direct_blocks; k++) {
		le32 crc = le32_make(w->csum[k]);

		put_bytes(b, &crc, sizeof(crc));
	}
	change_end(b, ch);
}

static void build_kv(struct builder *b, uint32_t i)
{
	const struct pst_mut *m = &b->q->mut[i];
	struct wmut *w = &b->q->w[i];
	struct media_change *ch =
	        change_begin(b, m->kind == PST_KV_PUT ? CH_KV_PUT : CH_KV_DEL, m->oid);

	ch->key_len = le16_make((uint16_t)m->key_len);
	put_bytes(b, m->key, m->key_len);
	if (m->kind == PST_KV_PUT && w->has_out) {
		ch->flags = CH_F_OUT;
		w->out.birth = le32_make(b->c->epoch);
		put_bytes(b, &w->out,
		          offsetof(struct media_outval, extent) +
		                  le16_get(w->out.extents) * sizeof(w->out.extent[0]));
		w->run_count = 0;
	} else if (m->kind == PST_KV_PUT) {
		put_bytes(b, m->val, m->val_len);
	}
	change_end(b, ch);
}

static void build_simple(struct builder *b, uint32_t i)
{
	const struct pst_mut *m = &b->q->mut[i];
	struct media_change *ch;

	switch (m->kind) {
	case PST_ARRAY_RESIZE:
		ch = change_begin(b, CH_RESIZE, m->oid);
		put_u64(b, m->off);
		break;
	case PST_SET_LABEL:
		ch = change_begin(b, CH_LABEL, m->oid);
		put_bytes(b, m->val, m->val_len);
		break;
	case PST_SET_MTIME:
		ch = change_begin(b, CH_MTIME, m->oid);
		put_u64(b, m->off);
		break;
	default:
		ch = change_begin(b, CH_DELETE, m->oid);
		break;
	}
	change_end(b, ch);
}

static void build_punch(struct builder *b, uint32_t i)
{
	const struct pst_mut *m = &b->q->mut[i];
	uint64_t first = DIV_ROUND_UP(m->off, BLOCK_BYTES), end = (m->off + m->len) / BLOCK_BYTES;
	struct media_change *ch;

	if (b->q->w[i].j_count)
		build_write(b, i);
	ch = change_begin(b, CH_PUNCH, m->oid);
	put_u64(b, first);
	put_u64(b, end > first ? end - first : 0);
	change_end(b, ch);
}

static void build_one(struct builder *b, uint32_t i)
{
	const struct pst_mut *m = &b->q->mut[i];
	struct head h;

	switch (m->kind) {
	case PST_ARRAY_WRITE:
	case PST_ARRAY_APPEND:
		build_write(b, i);
		break;
	case PST_ARRAY_PUNCH:
		head_get(&b->c->tree, m->oid, &h);
		if (h.exists)
			build_punch(b, i);
		break;
	case PST_ARRAY_RESIZE:
		if (b->q->w[i].j_count)
			build_write(b, i);
		build_simple(b, i);
		break;
	case PST_KV_PUT:
	case PST_KV_DEL:
		build_kv(b, i);
		break;
	case PST_SET_LABEL:
	case PST_SET_MTIME:
	case PST_OBJ_DELETE:
		build_simple(b, i);
		break;
	}
}

void reply_fill(struct media_reply *m, const struct pst_op *op, uint64_t time_ns)
{
	*m = (struct media_reply){
	        .session = le64_make(op->token.session),
	        .slot = le32_make(op->token.slot),
	        .seq = le64_make(op->token.seq),
	        .ret_len = le64_make(op->ret_len),
	        .ret_off = le64_make(op->ret_off),
	        .word = le64_make(op->ino),
	        .time_ns = le64_make(time_ns),
	};
}

int token_answer(struct shard *s, struct pst_op *op)
{
	struct media_reply r;

	if (token_lookup(s, &op->token, &r) || le64_get(r.seq) < op->token.seq)
		return -ENOENT;
	if (le64_get(r.seq) > op->token.seq)
		return -ESTALE;
	op->ret_len = le64_get(r.ret_len);
	op->ret_off = le64_get(r.ret_off);
	op->ino = le64_get(r.word);
	return 0;
}

static uint64_t build(struct wreq *q, struct cont *c)
{
	struct shard *s = q->shard;
	struct pst_op *op = q->op;
	struct media_record *r = log_at(s);
	struct builder b = {.q = q, .c = c, .start = (uint8_t *)r, .p = (uint8_t *)(r + 1)};

	b.frame = log_open_frame(s);
	b.time_ns = loop_real_now(s->l->store.loop);
	b.nocsum = c->props & PST_PROP_CHECKSUM_OFF;
	*r = (struct media_record){.type = le16_make(REC_BATCH),
	                           .cont = le32_make(op->cont),
	                           .tenant = le32_make(op->tenant),
	                           .time_ns = le64_make(b.time_ns)};
	if (op->token.session) {
		struct media_reply reply;

		reply_fill(&reply, op, b.time_ns);
		if (!PLANTED(s->l, PLANT_DROP_REPLAY_RECORD)) {
			r->flags = le16_make(REC_F_TOKEN);
			put_bytes(&b, &reply, sizeof(reply));
		}
		token_record(s, &reply);
	}
	for (uint32_t i = 0; i < q->count; i++)
		build_one(&b, i);
	r->changes = le32_make(b.changes);
	r->len = le32_make((uint32_t)(b.p - b.start));
	log_append(s, (uint32_t)(b.p - b.start));
	return b.frame;
}

/* --- requests --- */

static void wreq_free(struct wreq *q)
{
	struct local *l = q->shard->l;

	rlocks_drop(q);
	prep_undo(q);
	if (q->w != &q->one_w)
		mem_free(q->w);
	if (q->lock != &q->one_lock)
		mem_free(q->lock);
	op_state(q->op)->req = NULL;
	req_put(l, q);
}

static struct wreq *wreq_new(struct shard *s, struct pst_op *op)
{
	struct wreq *q = req_get(s->l);

	if (!q)
		return NULL;
	memset(q, 0, offsetof(struct wreq, one_j));
	q->op = op;
	q->shard = s;
	q->w = &q->one_w;
	q->lock = &q->one_lock;
	if (op->opcode == PST_OP_WRITE) {
		q->mut = &q->one_mut;
		q->count = 1;
		q->array = true;
		q->one_mut = (struct pst_mut){
		        .kind = op->flags & PST_F_APPEND ? PST_ARRAY_APPEND : PST_ARRAY_WRITE,
		        .oid = op->oid,
		        .off = op->off,
		        .len = op->len,
		        .iov = op->iov,
		        .iov_count = op->iov_count,
		};
	} else {
		q->mut = op->muts;
		q->count = op->mut_count;
	}
	if (q->count > WMUTS_INLINE) {
		q->w = mem_calloc(q->count, sizeof(*q->w));
		q->lock = mem_calloc(q->count, sizeof(*q->lock));
		if (!q->w || !q->lock) {
			mem_free(q->w);
			mem_free(q->lock);
			req_put(s->l, q);
			return NULL;
		}
	} else {
		q->one_w.j = q->one_j;
		q->one_w.j_cap = JBLOCKS_INLINE;
	}
	q->deletes_only = true;
	for (uint32_t i = 0; i < q->count; i++) {
		unsigned kind = q->mut[i].kind;

		list_init(&q->lock[i].link);
		if (kind >= PST_KV_PUT && kind != PST_KV_DEL && kind != PST_ARRAY_PUNCH &&
		    kind != PST_OBJ_DELETE)
			q->deletes_only = false;
	}
	op_state(op)->req = q;
	return q;
}

/* The answer's numbers, which the record holds too. */
static void outputs(struct wreq *q)
{
	struct pst_op *op = q->op;

	op->ret_len = op->ret_off = 0;
	for (uint32_t i = 0; i < q->count; i++) {
		if (!is_write(&q->mut[i]))
			continue;
		op->ret_len += q->w[i].len;
		if (q->mut[i].kind == PST_ARRAY_APPEND)
			q->mut[i].off = op->ret_off = q->w[i].off;
	}
}

static enum pst_outcome finish(struct wreq *q, int status)
{
	struct pst_op *op = q->op;

	wreq_free(q);
	return op_fail(op, status);
}

static enum pst_outcome commit(struct wreq *q)
{
	struct shard *s = q->shard;
	struct pst_op *op = q->op;
	struct demand d;
	struct cont *c;
	uint64_t frame, bytes;
	int err;

	if (s->l->stopped)
		return finish(q, s->l->stop_status);
	if (shard_of_cont(s->l, op->cont) != s)
		return finish(q, -ENOENT);
	c = cont_get(s, op->cont);
	if (!c)
		return finish(q, -ENOMEM);
	if (op->token.session) {
		err = token_answer(s, op);
		if (err != -ENOENT) {
			wreq_free(q);
			return err ? op_fail(op, err) : op_committed(s, op, s->log.last_record);
		}
	}
	for (uint32_t i = 0; i < q->count; i++) {
		if (!holds(&c->tree, &q->mut[i])) {
			op->ret_index = i;
			return finish(q, q->mut[i].err);
		}
	}
	if (op->flags & PST_F_EXISTING && !head_peek(s, &c->tree, op->oid)->exists)
		return finish(q, -ESTALE);
	demand_of(q, c, &d);
	err = admit(q, c, &d);
	if (err == -EAGAIN) {
		rlocks_take(q); /* what was prepared must stay true */
		return PST_BUSY;
	}
	if (err)
		return finish(q, err);
	outputs(q);
	frame = build(q, c);
	bytes = op->ret_len;
	s->l->stat.user_write_bytes += bytes;
	wreq_free(q);
	return s->l->stopped ? op_fail(op, s->l->stop_status) : op_committed(s, op, frame);
}

static enum pst_outcome write_try(struct shard *s, struct pst_op *op)
{
	struct wreq *q = op_state(op)->req;
	int err;

	if (!q)
		q = wreq_new(s, op);
	if (!q)
		return PST_BUSY;
	if (!q->prepared) {
		if (rlocks_conflict(q))
			return PST_BUSY;
		err = prep_start(q);
		if (err == -EINPROGRESS)
			return PST_QUEUED;
		if (err == -EAGAIN) {
			prep_reset(q);
			return PST_BUSY;
		}
		if (err)
			return finish(q, err);
		prep_fill(q);
		q->prepared = true;
	}
	return commit(q);
}

/* The I/O of a preparation has ended. */
void write_prepared(struct wreq *q)
{
	struct pst_op *op = q->op;
	struct shard *s = q->shard;

	if (q->status == -EAGAIN) { /* it was only half begun: again from the start */
		rlocks_drop(q);
		prep_reset(q);
		q->status = 0;
		op_again(s, op, write_try);
		return;
	}
	if (q->status) {
		int status = q->status;

		wreq_free(q);
		op_done(s->l, op, status);
		return;
	}
	prep_fill(q);
	q->prepared = true;
	op_again(s, op, write_try);
}

/* "Was this done?": a batch of nothing. */
static enum pst_outcome ask_try(struct shard *s, struct pst_op *op)
{
	int err = token_answer(s, op);

	return err ? op_fail(op, err) : op_committed(s, op, s->log.last_record);
}

void write_abandon(struct wreq *q)
{
	wreq_free(q);
}

enum pst_outcome write_submit(struct local *l, struct pst_op *op)
{
	struct shard *s = shard_of_cont(l, op->cont);
	struct pst_mut one = {.kind = PST_ARRAY_WRITE, .off = op->off, .len = op->len};
	uint64_t bytes = 0;
	int err = 0;

	if (!s)
		return op_fail(op, -ENOENT);
	if (op->view)
		return op_fail(op, -EROFS);
	if (op->opcode == PST_OP_WRITE) {
		one.kind = op->flags & PST_F_APPEND ? PST_ARRAY_APPEND : PST_ARRAY_WRITE;
		one.iov = op->iov;
		one.iov_count = op->iov_count;
		err = op->len && !op->iov ? -EINVAL : data_check(&one, &bytes);
		return err ? op_fail(op, err) : op_run(s, op, write_try);
	}
	if (op->mut_count > PST_BATCH_MAX)
		return op_fail(op, -E2BIG);
	if (!op->mut_count && !op->token.session)
		return op_fail(op, -EINVAL);
	if (!op->mut_count)
		return op_run(s, op, ask_try);
	for (uint32_t i = 0; i < op->mut_count && !err; i++)
		err = mut_check(&op->muts[i], &bytes);
	return err ? op_fail(op, err) : op_run(s, op, write_try);
}
