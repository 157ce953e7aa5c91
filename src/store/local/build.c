/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * build - the record of a batch, change by change in the open frame; each is applied as soon as it
 * is built, so that a change sees what the ones before it did. write.c has checked that nothing can
 * fail.
 */
#include "store/local/engine.h"

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

/* The place where block @lblk may be overwritten, or 0. @h comes from head_peek(). */
static uint64_t place_of(const struct builder *b, const struct head *h, struct extent *e,
                         uint64_t lblk)
{
	if (!h->exists)
		return 0;
	if (!(e->blocks && lblk >= e->lblk && lblk < e->lblk + e->blocks)) {
		const struct extent *found = extent_peek(&b->c->tree, h, lblk, e);

		if (!found) {
			e->blocks = 0;
			return 0;
		}
		*e = *found;
	}
	if (lblk < e->lblk || e->birth <= b->c->newest_snap || e->nocsum != b->nocsum)
		return 0;
	return e->addr + (lblk - e->lblk);
}

/* The journaled blocks of @w that build_write() would give new places now. */
uint32_t blocks_to_place(struct shard *s, struct cont *c, struct pst_oid oid, const struct wmut *w)
{
	struct builder b = {.c = c, .nocsum = c->props & PST_PROP_CHECKSUM_OFF};
	const struct head *h = head_peek(s, &c->tree, oid);
	struct extent e = {0};
	uint32_t n = 0;

	for (uint32_t k = 0; k < w->j_count; k++)
		n += !place_of(&b, h, &e, w->j[k]->lblk);
	return n;
}

/* Gives each journaled block its place and writes the pieces; returns their number. */
static uint32_t place_journaled(struct builder *b, const struct wmut *w, struct pst_oid oid)
{
	struct shard *s = b->q->shard;
	struct extent e = {0};
	const struct head *h = head_peek(s, &b->c->tree, oid);
	uint32_t pieces = 0, k = 0;

	while (k < w->j_count) {
		uint64_t lblk = w->j[k]->lblk, addr = place_of(b, h, &e, lblk);
		uint32_t n = 1, flags = PIECE_JOURNALED;

		if (addr) {
			flags |= PIECE_IN_PLACE;
			while (k + n < w->j_count && w->j[k + n]->lblk == lblk + n &&
			       (addr + n) % s->l->geo.region_span &&
			       place_of(b, h, &e, lblk + n) == addr + n)
				n++;
		} else {
			while (k + n < w->j_count && w->j[k + n]->lblk == lblk + n &&
			       !place_of(b, h, &e, lblk + n))
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
	        .about = le32_make(op->token.about),
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
	/* Answers are found by the number alone: one may not be taken for another request's. */
	if (op->token.about && le32_get(r.about) && le32_get(r.about) != op->token.about)
		return -ESTALE;
	op->ret_len = le64_get(r.ret_len);
	op->ret_off = le64_get(r.ret_off);
	op->ino = le64_get(r.word);
	return 0;
}

void *batch_record_begin(struct shard *s, struct media_record *r, const struct pst_op *op,
                         uint64_t time_ns)
{
	struct media_reply *reply = (void *)(r + 1);

	*r = (struct media_record){.type = le16_make(REC_BATCH),
	                           .cont = le32_make(op->cont),
	                           .tenant = le32_make(op->tenant),
	                           .time_ns = le64_make(time_ns)};
	if (!op->token.session)
		return reply;
	reply_fill(reply, op, time_ns);
	token_record(s, reply);
	if (PLANTED(s->l, PLANT_DROP_REPLAY_RECORD))
		return reply;
	r->flags = le16_make(REC_F_TOKEN);
	return reply + 1;
}

uint64_t batch_build(struct wreq *q, struct cont *c)
{
	struct shard *s = q->shard;
	struct pst_op *op = q->op;
	struct media_record *r = log_at(s);
	struct builder b = {.q = q, .c = c, .start = (uint8_t *)r};

	b.frame = log_open_frame(s);
	b.time_ns = loop_real_now(s->l->store.loop);
	b.nocsum = c->props & PST_PROP_CHECKSUM_OFF;
	b.p = batch_record_begin(s, r, op, b.time_ns);
	for (uint32_t i = 0; i < q->count; i++)
		build_one(&b, i);
	r->changes = le32_make(b.changes);
	r->len = le32_make((uint32_t)(b.p - b.start));
	log_append(s, (uint32_t)(b.p - b.start));
	return b.frame;
}
