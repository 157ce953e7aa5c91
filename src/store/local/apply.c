/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * apply - a record changes the trees. The same code runs when a mutation commits and when recovery
 * replays it, so that the two can't differ. Nothing here waits; when committing, memory was
 * reserved.
 *
 * While recovering, allocation is not tracked (it is derived from the trees afterwards), and no
 * snapshot holds anything back: drop_blocks() only makes the journal forget.
 */
#include "store/local/engine.h"

struct applying { /* one record being applied */
	struct shard *s;
	struct cont *c;
	uint64_t frame, time_ns;
	struct jblock *const *data;
	uint32_t data_count;
};

/* A head with its label out of the tree's way, since the tree is about to change. */
struct own_head {
	struct head h;
	uint8_t label[PST_LABEL_MAX];
};

static void own_head_get(const struct applying *a, struct pst_oid oid, struct own_head *o)
{
	head_get(&a->c->tree, oid, &o->h);
	if (!o->h.exists) {
		a->c->objects++;
		o->h.exists = true;
		o->h.mtime = a->time_ns;
	}
	if (o->h.label_len)
		memcpy(o->label, o->h.label, o->h.label_len);
	o->h.label = o->label;
}

static void own_head_put(const struct applying *a, struct pst_oid oid, const struct own_head *o)
{
	a->s->map_version++;
	a->s->page_version++;
	head_put(&a->c->tree, oid, &o->h);
}

static void resize_to(const struct applying *a, struct head *h, uint64_t size)
{
	a->c->logical_bytes += size - h->size;
	h->size = size;
}

/* --- reading records --- */

bool change_next(struct rec_reader *r, struct change *ch)
{
	const struct media_change *m = (const void *)r->p;
	size_t room = (size_t)(r->end - r->p), len;

	if (room < sizeof(*m))
		return false;
	ch->body_len = le32_get(m->body_len);
	len = sizeof(*m) + ALIGN_UP((uint64_t)ch->body_len, 8);
	ch->key_len = le16_get(m->key_len);
	if (len > room || ch->key_len > ch->body_len)
		return false;
	ch->kind = m->kind;
	ch->flags = m->flags;
	ch->oid = (struct pst_oid){le64_get(m->oid_hi), le64_get(m->oid_lo)};
	ch->body = r->p + sizeof(*m);
	r->p += len;
	return true;
}

int record_check(const struct media_record *r, size_t room)
{
	uint32_t len;

	if (room < sizeof(*r))
		return -EBADMSG;
	len = le32_get(r->len);
	if (len < sizeof(*r) || len > room || len % 8)
		return -EBADMSG;
	if (le16_get(r->flags) & REC_F_TOKEN && len < sizeof(*r) + sizeof(struct media_reply))
		return -EBADMSG;
	return 0;
}

static const uint8_t *record_body(const struct media_record *r, size_t *ret_len)
{
	size_t skip = sizeof(*r);

	if (le16_get(r->flags) & REC_F_TOKEN)
		skip += sizeof(struct media_reply);
	*ret_len = le32_get(r->len) - skip;
	return (const uint8_t *)r + skip;
}

/* --- array changes --- */

struct write_view { /* a CH_WRITE body, bounds checked */
	uint64_t size_min;
	const struct media_piece *piece;
	uint32_t pieces, data_index;
	const le32 *csum;
};

static int write_decode(const struct change *ch, struct write_view *w)
{
	const struct media_write *m = (const void *)ch->body;
	uint64_t need = sizeof(*m), blocks = 0;

	if (ch->body_len < need)
		return -EBADMSG;
	w->size_min = le64_get(m->size_min);
	w->pieces = le32_get(m->pieces);
	w->data_index = le32_get(m->data_index);
	if (w->pieces > ch->body_len / sizeof(struct media_piece) || w->size_min > PST_OBJECT_MAX)
		return -EBADMSG;
	need += w->pieces * sizeof(struct media_piece);
	if (need > ch->body_len)
		return -EBADMSG;
	w->piece = (const void *)(m + 1);
	for (uint32_t i = 0; i < w->pieces; i++) {
		uint64_t lblk = le64_get(w->piece[i].lblk);
		uint32_t n = le32_get(w->piece[i].blocks);

		if (!n || n > PST_IO_MAX / BLOCK_BYTES + 1 || lblk > PST_OBJECT_MAX / BLOCK_BYTES)
			return -EBADMSG;
		blocks += n;
	}
	w->csum = (const void *)(w->piece + w->pieces);
	need += blocks * sizeof(le32);
	return need == ch->body_len ? 0 : -EBADMSG;
}

static bool addr_ok(const struct shard *s, uint64_t addr, uint32_t blocks)
{
	const struct geometry *g = &s->l->geo;

	return addr && addr / g->region_span < g->regions &&
	       addr % g->region_span + blocks <= g->region_span;
}

static inline void journal_run(struct shard *s, uint64_t addr, uint32_t blocks,
                               struct jblock *const *j, uint64_t frame)
{
	for (uint32_t i = 0; i < blocks; i++) {
		if (s->l->recovering && PLANTED(s->l, PLANT_JOURNAL_OUT_OF_ORDER) &&
		    jrnl_find(s, addr + i))
			continue;
		jrnl_insert(s, j[i], addr + i, frame);
	}
}

static inline void csum_run(struct shard *s, uint64_t addr, uint32_t blocks, const le32 *csum,
                            uint64_t frame)
{
	for (uint32_t i = 0; i < blocks; i++)
		csum_set(s, addr + i, le32_get(csum[i]), frame);
}

static int write_piece(const struct applying *a, const struct media_piece *p, bool nocsum,
                       struct pst_oid oid, struct head *h, const le32 *csum, uint32_t *data_at)
{
	struct shard *s = a->s;
	struct extent e = {le64_get(p->lblk), le64_get(p->addr), le32_get(p->blocks), a->c->epoch,
	                   nocsum};
	uint32_t flags = le32_get(p->flags);

	if (!addr_ok(s, e.addr, e.blocks))
		return -EBADMSG;
	if (!(flags & PIECE_IN_PLACE))
		extent_map(s, a->c, oid, h, &e);
	if (flags & PIECE_JOURNALED) {
		if (*data_at > a->data_count || e.blocks > a->data_count - *data_at)
			return -EBADMSG;
		for (uint32_t i = 0; i < e.blocks; i++)
			if (a->data[*data_at + i]->addr)
				return -EBADMSG; /* a block has one place */
		journal_run(s, e.addr, e.blocks, a->data + *data_at, a->frame);
		*data_at += e.blocks;
	}
	if (!nocsum)
		csum_run(s, e.addr, e.blocks, csum, a->frame);
	return 0;
}

static bool all_in_place(const struct write_view *w)
{
	for (uint32_t i = 0; i < w->pieces; i++)
		if (!(le32_get(w->piece[i].flags) & PIECE_IN_PLACE))
			return false;
	return true;
}

/* The checksum that block 0 has after it, if it writes that; pieces are in order. */
static const le32 *block0_csum(const struct change *ch, const struct write_view *w)
{
	return w->pieces && !le64_get(w->piece[0].lblk) && !(ch->flags & CH_F_NOCSUM) ? w->csum
	                                                                              : NULL;
}

static int apply_write(const struct applying *a, const struct change *ch)
{
	struct write_view w;
	struct own_head o;
	uint32_t data_at;
	const le32 *csum, *csum0;
	int err = write_decode(ch, &w);
	bool light;

	if (err)
		return err;
	csum = w.csum;
	data_at = w.data_index;
	csum0 = block0_csum(ch, &w);
	light = all_in_place(&w) &&
	        head_touch(a->s, &a->c->tree, ch->oid, w.size_min, a->time_ns, csum0);
	if (!light)
		own_head_get(a, ch->oid, &o);
	for (uint32_t i = 0; i < w.pieces && !err; i++) {
		err = write_piece(a, &w.piece[i], ch->flags & CH_F_NOCSUM, ch->oid, &o.h, csum,
		                  &data_at);
		csum += le32_get(w.piece[i].blocks);
	}
	if (light || err)
		return err;
	if (csum0 && o.h.has_extent && o.h.ext_blocks == 1) {
		o.h.has_csum = true;
		o.h.csum = le32_get(*csum0);
	}
	if (w.size_min > o.h.size)
		resize_to(a, &o.h, w.size_min);
	o.h.mtime = a->time_ns;
	own_head_put(a, ch->oid, &o);
	return 0;
}

bool apply_overwrite(struct shard *s, struct cont *c, uint64_t frame, uint64_t time_ns,
                     struct pst_oid oid, uint64_t size_min, const struct media_piece *piece,
                     struct jblock *const *j, const le32 *csum)
{
	uint64_t addr = le64_get(piece->addr);
	uint32_t blocks = le32_get(piece->blocks);

	journal_run(s, addr, blocks, j, frame);
	if (csum)
		csum_run(s, addr, blocks, csum, frame);
	return head_touch(s, &c->tree, oid, size_min, time_ns, le64_get(piece->lblk) ? NULL : csum);
}

static int apply_punch(const struct applying *a, const struct change *ch)
{
	const le64 *body = (const void *)ch->body;
	struct own_head o;

	if (ch->body_len != 16)
		return -EBADMSG;
	own_head_get(a, ch->oid, &o);
	extent_unmap(a->s, a->c, ch->oid, &o.h, le64_get(body[0]), le64_get(body[1]));
	o.h.mtime = a->time_ns;
	own_head_put(a, ch->oid, &o);
	return 0;
}

static int apply_resize(const struct applying *a, const struct change *ch)
{
	struct own_head o;
	uint64_t size;

	if (ch->body_len != 8)
		return -EBADMSG;
	size = le64_get(*(const le64 *)(const void *)ch->body);
	if (size > PST_OBJECT_MAX)
		return -EBADMSG;
	own_head_get(a, ch->oid, &o);
	extent_unmap(a->s, a->c, ch->oid, &o.h, DIV_ROUND_UP(size, BLOCK_BYTES), UINT64_MAX);
	resize_to(a, &o.h, size);
	o.h.mtime = a->time_ns;
	own_head_put(a, ch->oid, &o);
	return 0;
}

/* --- keys, labels, whole objects --- */

static void drop_value(const struct applying *a, const uint8_t *val, size_t len)
{
	struct media_outval out;

	if (len < 1 || val[0] != VAL_OUT || outval_decode(val + 1, len - 1, &out))
		return;
	for (unsigned i = 0; i < le16_get(out.extents); i++)
		drop_blocks(a->s, a->c, get48(out.extent[i].addr), le16_get(out.extent[i].blocks),
		            le32_get(out.birth));
}

static size_t key_value(uint8_t key[BT_KEY_MAX], const struct change *ch)
{
	key_obj(key, ch->oid, KEY_KV);
	memcpy(key + KEY_OBJ_BYTES, ch->body, ch->key_len);
	return KEY_OBJ_BYTES + (size_t)ch->key_len;
}

static void touch_object(const struct applying *a, struct pst_oid oid)
{
	uint8_t key[KEY_OBJ_BYTES];
	const void *val;
	size_t len;

	key_obj(key, oid, KEY_HEAD);
	if (bt_get(&a->c->tree, key, sizeof(key), &val, &len)) {
		struct head h = {.exists = true, .mtime = a->time_ns};

		a->c->objects++;
		a->s->map_version++;
		a->s->page_version++;
		head_put(&a->c->tree, oid, &h);
	}
}

static int apply_kv_put(const struct applying *a, const struct change *ch)
{
	uint8_t key[BT_KEY_MAX], val[BT_VALUE_MAX];
	const uint8_t *body = ch->body + ch->key_len;
	size_t key_len, len = ch->body_len - ch->key_len, old_len;
	const void *old;

	if (!ch->key_len || ch->key_len > PST_KEY_MAX || len > sizeof(val) - 1)
		return -EBADMSG;
	touch_object(a, ch->oid);
	key_len = key_value(key, ch);
	if (bt_get(&a->c->tree, key, key_len, &old, &old_len) == 0)
		drop_value(a, old, old_len);
	val[0] = ch->flags & CH_F_OUT ? VAL_OUT : VAL_INLINE;
	memcpy(val + 1, body, len);
	if (ch->flags & CH_F_OUT) {
		struct media_outval out;

		if (outval_decode(body, len, &out))
			return -EBADMSG;
		for (unsigned i = 0; i < le16_get(out.extents); i++) {
			if (!addr_ok(a->s, get48(out.extent[i].addr),
			             le16_get(out.extent[i].blocks)))
				return -EBADMSG;
			a->c->used_blocks += le16_get(out.extent[i].blocks);
		}
		out.birth = le32_make(a->c->epoch);
		memcpy(val + 1, &out, len);
	}
	a->s->page_version++;
	bt_put(&a->c->tree, key, key_len, val, len + 1);
	return 0;
}

static int apply_kv_del(const struct applying *a, const struct change *ch)
{
	uint8_t key[BT_KEY_MAX];
	size_t key_len, old_len;
	const void *old;

	if (!ch->key_len || ch->key_len > PST_KEY_MAX || ch->key_len != ch->body_len)
		return -EBADMSG;
	key_len = key_value(key, ch);
	if (bt_get(&a->c->tree, key, key_len, &old, &old_len))
		return 0;
	drop_value(a, old, old_len);
	a->s->page_version++;
	bt_del(&a->c->tree, key, key_len);
	return 0;
}

static int apply_label(const struct applying *a, const struct change *ch)
{
	struct own_head o;

	if (ch->body_len > PST_LABEL_MAX)
		return -EBADMSG;
	own_head_get(a, ch->oid, &o);
	o.h.label_len = (uint8_t)ch->body_len;
	memcpy(o.label, ch->body, ch->body_len);
	own_head_put(a, ch->oid, &o);
	return 0;
}

static int apply_mtime(const struct applying *a, const struct change *ch)
{
	struct own_head o;

	if (ch->body_len != 8)
		return -EBADMSG;
	own_head_get(a, ch->oid, &o);
	o.h.mtime = le64_get(*(const le64 *)(const void *)ch->body);
	own_head_put(a, ch->oid, &o);
	return 0;
}

static void delete_keys(const struct applying *a, struct pst_oid oid)
{
	uint8_t key[KEY_OBJ_BYTES];
	struct bt_iter it;

	key_obj(key, oid, KEY_KV);
	for (;;) {
		uint8_t found[BT_KEY_MAX];
		size_t len;

		bt_seek(&it, &a->c->tree, key, sizeof(key));
		if (!it.valid || it.key_len < KEY_OBJ_BYTES || memcmp(it.key, key, KEY_OBJ_BYTES))
			return;
		len = it.key_len;
		memcpy(found, it.key, len);
		drop_value(a, it.val, it.val_len);
		bt_del(&a->c->tree, found, len);
	}
}

static int apply_delete(const struct applying *a, const struct change *ch)
{
	uint8_t key[KEY_OBJ_BYTES];
	struct head h;

	head_get(&a->c->tree, ch->oid, &h);
	if (!h.exists)
		return 0;
	a->s->map_version++;
	a->s->page_version++;
	extent_unmap(a->s, a->c, ch->oid, &h, 0, UINT64_MAX);
	delete_keys(a, ch->oid);
	key_obj(key, ch->oid, KEY_HEAD);
	bt_del(&a->c->tree, key, sizeof(key));
	a->c->objects -= a->c->objects > 0;
	a->c->logical_bytes -= MIN(h.size, a->c->logical_bytes);
	return 0;
}

static int apply_change(const struct applying *a, const struct change *ch)
{
	switch (ch->kind) {
	case CH_WRITE:
		return apply_write(a, ch);
	case CH_PUNCH:
		return apply_punch(a, ch);
	case CH_RESIZE:
		return apply_resize(a, ch);
	case CH_KV_PUT:
		return apply_kv_put(a, ch);
	case CH_KV_DEL:
		return apply_kv_del(a, ch);
	case CH_LABEL:
		return apply_label(a, ch);
	case CH_MTIME:
		return apply_mtime(a, ch);
	case CH_DELETE:
		return apply_delete(a, ch);
	}
	return -EBADMSG;
}

int apply_one(struct shard *s, struct cont *c, uint64_t frame, uint64_t time_ns,
              struct jblock *const *data, uint32_t data_count, const struct change *ch)
{
	struct applying a = {s, c, frame, time_ns, data, data_count};

	return apply_change(&a, ch);
}

/* --- replay tokens --- */

static void token_key(uint8_t key[13], uint64_t session, uint32_t slot)
{
	key[0] = 'T';
	put_be64(key + 1, session);
	put_be32(key + 9, slot);
}

int token_lookup(struct shard *s, const struct pst_token *t, struct media_reply *ret_reply)
{
	uint8_t key[13];
	const void *val;
	size_t len;

	token_key(key, t->session, t->slot);
	if (bt_get(&s->sys, key, sizeof(key), &val, &len) || len != sizeof(*ret_reply))
		return -ENOENT;
	memcpy(ret_reply, val, len);
	return 0;
}

void token_record(struct shard *s, const struct media_reply *r)
{
	uint8_t key[13];

	token_key(key, le64_get(r->session), le32_get(r->slot));
	bt_put(&s->sys, key, sizeof(key), r, sizeof(*r));
}

bool session_known(struct shard *s, uint64_t session)
{
	uint8_t key[13];
	struct bt_iter it;

	token_key(key, session, 0);
	bt_seek(&it, &s->sys, key, sizeof(key));
	return it.valid && it.key_len == sizeof(key) && !memcmp(it.key, key, 9);
}

static void session_forget(struct shard *s, uint64_t session)
{
	uint8_t key[13];
	struct bt_iter it;

	for (;;) {
		uint8_t found[13];

		token_key(key, session, 0);
		bt_seek(&it, &s->sys, key, sizeof(key));
		if (!it.valid || it.key_len != sizeof(key) || memcmp(it.key, key, 9))
			return;
		memcpy(found, it.key, sizeof(found));
		bt_del(&s->sys, found, sizeof(found));
	}
}

/* --- records --- */

static int apply_batch(struct applying *a, const struct media_record *r)
{
	struct rec_reader rr;
	struct change ch;
	uint32_t left = le32_get(r->changes);
	size_t len;
	int err = 0;

	rr.p = record_body(r, &len);
	rr.end = rr.p + len;
	while (left && !err) {
		if (!change_next(&rr, &ch))
			return -EBADMSG;
		err = apply_change(a, &ch);
		left--;
	}
	return err;
}

int apply_record(struct shard *s, const struct media_record *r, uint64_t frame,
                 struct jblock *const *data, uint32_t data_count)
{
	struct applying a = {s, NULL, frame, le64_get(r->time_ns), data, data_count};
	const uint8_t *body;
	size_t len;

	if (le16_get(r->flags) & REC_F_TOKEN)
		token_record(s, (const struct media_reply *)(r + 1));
	body = record_body(r, &len);
	switch (le16_get(r->type)) {
	case REC_BATCH:
	case REC_CONT_SET:
	case REC_SNAP_CREATE:
	case REC_SNAP_DESTROY:
		a.c = cont_get(s, le32_get(r->cont));
		if (!a.c)
			return -ENOMEM;
		if (le16_get(r->type) == REC_BATCH)
			return apply_batch(&a, r);
		return cont_apply(s, a.c, r, body, len);
	case REC_CONT_CREATE:
	case REC_CONT_DESTROY:
		return cont_table_apply(s, r, frame, body, len);
	case REC_SESSION_CLOSE:
		if (len < 8)
			return -EBADMSG;
		session_forget(s, le64_get(*(const le64 *)(const void *)body));
		return 0;
	}
	return -EBADMSG;
}
