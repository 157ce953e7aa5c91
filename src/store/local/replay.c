/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay - reading a shard's log back: see recover.c for where it ends and why.
 *
 * Two passes: the first follows the frames and learns the greatest mark; the second applies them,
 * verifies the data of those that no mark covers, and brings those to every device.
 */
#include "store/local/engine.h"

#define WINDOW_BLOCKS 256

struct replay {
	struct shard *s;
	struct pst_err *err;
	uint64_t epoch, first_seq, first_pos;
	uint64_t mark;        /* frames up to here were durable, as some frame says */
	uint64_t last_record; /* newest frame applied that has records */
	uint64_t seq, pos;    /* of the next frame */
	bool ended;           /* an earlier recovery ended the log before it */
	bool mend;            /* what no mark covers goes to every device before it counts */
	uint8_t *meta;        /* FRAME_META_MAX */
	/* Blocks of the log read ahead: [win_pos, +win_blocks) as device win_dev has them. */
	uint8_t *win;
	uint64_t win_pos;
	uint32_t win_blocks;
	unsigned win_dev;
	uint8_t *probe; /* one block */
	struct jblock **data;
	uint32_t data_count;
};

static uint64_t place(const struct replay *r, uint64_t pos)
{
	const struct geometry *g = &r->s->l->geo;

	return g->log_start + r->s->id * g->log_blocks + pos % g->log_blocks;
}

/* Reads log blocks through a window, since most come one after another. */
static int log_read(struct replay *r, unsigned dev, uint64_t pos, void *buf, uint32_t blocks)
{
	struct local *l = r->s->l;

	while (blocks) {
		uint64_t to_end = l->geo.log_blocks - pos % l->geo.log_blocks;
		uint32_t n;

		if (dev != r->win_dev || pos < r->win_pos || pos >= r->win_pos + r->win_blocks) {
			int err;

			n = (uint32_t)MIN(WINDOW_BLOCKS, to_end);
			r->win_blocks = 0;
			err = meta_read_sync(l, dev, place(r, pos), r->win, n);
			if (err) /* a bad block near by must not hide good ones */
				return meta_read_sync(l, dev, place(r, pos), buf, blocks);
			r->win_dev = dev;
			r->win_pos = pos;
			r->win_blocks = n;
		}
		n = (uint32_t)MIN(blocks, r->win_pos + r->win_blocks - pos);
		memcpy(buf, r->win + (pos - r->win_pos) * BLOCK_BYTES, (size_t)n * BLOCK_BYTES);
		buf = (uint8_t *)buf + (size_t)n * BLOCK_BYTES;
		pos += n;
		blocks -= n;
	}
	return 0;
}

static bool crc_ok(const struct media_frame *f)
{
	return le32_get(f->crc) == crc32c(0, (const uint8_t *)f + 8, le32_get(f->meta_bytes) - 8);
}

static void data_drop(struct replay *r)
{
	for (uint32_t i = 0; i < r->data_count; i++)
		jblock_unref(r->s, r->data[i]);
	r->data_count = 0;
}

/* The frame at r->pos with r->seq as device @dev has it. 0: whole (its data in r->data); else no.
 */
static int frame_from(struct replay *r, unsigned dev, uint64_t pos)
{
	struct local *l = r->s->l;
	struct media_frame *f = (void *)r->meta;
	uint32_t meta_blocks, n;
	int err = log_read(r, dev, pos, r->meta, 1);

	if (err)
		return err;
	if (!frame_check(l, r->s->id, f, pos) || le64_get(f->seq) != r->seq ||
	    le64_get(f->epoch) != r->epoch)
		return -EBADMSG;
	meta_blocks = (uint32_t)DIV_ROUND_UP(le32_get(f->meta_bytes), BLOCK_BYTES);
	n = le32_get(f->data_blocks);
	if (meta_blocks > 1)
		err = log_read(r, dev, pos + 1, r->meta + BLOCK_BYTES, meta_blocks - 1);
	if (err)
		return err;
	if (!crc_ok(f) && !PLANTED(l, PLANT_ACCEPT_TORN_RECORD))
		return -EBADMSG;
	for (r->data_count = 0; r->data_count < n; r->data_count++) {
		struct jblock *j = jblock_new(r->s);

		if (!j)
			return -ENOMEM;
		r->data[r->data_count] = j;
		err = log_read(r, dev, pos + meta_blocks + r->data_count, j->data, 1);
		if (err) {
			r->data_count++;
			return err;
		}
	}
	return 0;
}

/* --- verifying a frame's data --- */

struct verify {
	struct replay *r;
	uint8_t *block;
	bool journaled; /* what is in the frame; else what lies at its place */
};

static int verify_write(const struct verify *v, const struct change *ch)
{
	const struct media_write *m = (const void *)ch->body;
	const struct media_piece *p = (const void *)(m + 1);
	const struct geometry *g = &v->r->s->l->geo;
	const le32 *csum;
	uint32_t at, n;

	if (ch->body_len < sizeof(*m))
		return -EBADMSG;
	n = le32_get(m->pieces);
	at = le32_get(m->data_index);
	if (n > (ch->body_len - sizeof(*m)) / sizeof(*p))
		return -EBADMSG;
	csum = (const void *)(p + n);
	for (uint32_t i = 0; i < n; i++) {
		bool journaled = le32_get(p[i].flags) & PIECE_JOURNALED;
		uint64_t addr = le64_get(p[i].addr);

		for (uint32_t k = 0; k < le32_get(p[i].blocks); k++, csum++) {
			const uint8_t *block = v->block;

			if ((const uint8_t *)(csum + 1) > ch->body + ch->body_len)
				return -EBADMSG;
			if (journaled && at >= v->r->data_count)
				return -EBADMSG;
			if (journaled)
				block = v->r->data[at++]->data;
			if (journaled != v->journaled)
				continue;
			if (addr / g->region_span >= g->regions)
				return -EBADMSG;
			if (!journaled) {
				int err = data_read_sync(v->r->s->l, addr + k, v->block, 1);

				if (err)
					return err;
			}
			if (crc32c(0, block, BLOCK_BYTES) != le32_get(*csum))
				return -EBADMSG;
		}
	}
	return 0;
}

static int verify_value(const struct verify *v, const struct change *ch)
{
	struct local *l = v->r->s->l;
	struct media_outval out;
	uint32_t crc = 0, left;

	if (v->journaled || !(ch->flags & CH_F_OUT))
		return 0;
	if (outval_decode(ch->body + ch->key_len, ch->body_len - ch->key_len, &out))
		return -EBADMSG;
	left = le32_get(out.len);
	for (unsigned i = 0; i < le16_get(out.extents); i++) {
		uint64_t addr = get48(out.extent[i].addr);

		for (uint32_t k = 0; k < le16_get(out.extent[i].blocks); k++) {
			uint32_t n = MIN(left, BLOCK_BYTES);
			int err = -EBADMSG;

			if (addr / l->geo.region_span < l->geo.regions)
				err = data_read_sync(l, addr + k, v->block, 1);
			if (err)
				return err;
			crc = crc32c(crc, v->block, n);
			left -= n;
		}
	}
	return crc == le32_get(out.crc) ? 0 : -EBADMSG;
}

/* Does the data that the frame speaks of match its checksums? */
static int frame_verify(struct replay *r, bool journaled)
{
	const struct media_frame *f = (const void *)r->meta;
	const uint8_t *p = r->meta + sizeof(*f), *end = r->meta + le32_get(f->meta_bytes);
	struct verify v = {r, r->probe, journaled};
	int err = 0;

	for (uint32_t i = 0; i < le32_get(f->records) && !err; i++) {
		const struct media_record *rec = (const void *)p;
		struct rec_reader rr;
		struct change ch;

		err = record_check(rec, (size_t)(end - p));
		if (err)
			break;
		rr.p = p + sizeof(*rec);
		if (le16_get(rec->flags) & REC_F_TOKEN)
			rr.p += sizeof(struct media_reply);
		p += le32_get(rec->len);
		rr.end = p;
		if (le16_get(rec->type) != REC_BATCH ||
		    (!journaled && !cont_name_by_id(r->s->l, le32_get(rec->cont))))
			continue;
		for (uint32_t k = 0; k < le32_get(rec->changes) && !err; k++) {
			if (!change_next(&rr, &ch))
				err = -EBADMSG;
			else if (ch.kind == CH_WRITE)
				err = verify_write(&v, &ch);
			else if (ch.kind == CH_KV_PUT)
				err = verify_value(&v, &ch);
		}
	}
	return err;
}

/* --- mirrors --- */

/* Block @k of the frame in hand. */
static const uint8_t *frame_block(const struct replay *r, uint32_t k)
{
	const struct media_frame *f = (const void *)r->meta;
	uint32_t meta_blocks = (uint32_t)DIV_ROUND_UP(le32_get(f->meta_bytes), BLOCK_BYTES);

	return k < meta_blocks ? r->meta + (size_t)k * BLOCK_BYTES : r->data[k - meta_blocks]->data;
}

/*
 * Brings the frame in hand, which nothing says was durable, to the devices that don't have it as it
 * is here. What comes after recovery relies on it; with a single copy, losing that would be damage in
 * the middle of the log.
 */
static int frame_mend(struct replay *r)
{
	struct local *l = r->s->l;
	const struct media_frame *f = (const void *)r->meta;
	uint32_t blocks = (uint32_t)DIV_ROUND_UP(le32_get(f->meta_bytes), BLOCK_BYTES) +
	                  le32_get(f->data_blocks);

	for (unsigned d = 0; d < l->geo.devs; d++) {
		bool mended = false;

		for (uint32_t k = 0; k < blocks; k++) {
			const uint8_t *block = frame_block(r, k);
			int err = log_read(r, d, r->pos + k, r->probe, 1);

			if (!err && !memcmp(r->probe, block, BLOCK_BYTES))
				continue;
			err = bdev_write_sync(l->dev[d], place(r, r->pos + k) << BLOCK_SHIFT, block,
			                      BLOCK_BYTES, 0);
			if (err)
				return err_set(r->err, err, "%s can't be written: %s",
				               l->dev[d]->info.name, strerror(-err));
			mended = true;
		}
		l->stat.mirror_repairs += mended;
		if (mended && d == r->win_dev)
			r->win_blocks = 0;
	}
	return 0;
}

static bool to_mend(const struct replay *r)
{
	return r->mend && r->seq > r->mark;
}

static int log_unread(const struct replay *r, int err)
{
	return err_set(r->err, err, "shard %u: the log can't be read: %s", r->s->id,
	               strerror(-err));
}

/*
 * The next frame, from the first device that has it whole: 0; 1: there is none; or an error. What
 * could not be read is not taken for the end: it may have been acknowledged.
 */
static int frame_next(struct replay *r)
{
	struct local *l = r->s->l;

	if (r->ended)
		return 1;
	for (;;) {
		const struct media_frame *f = (const void *)r->meta;
		int err = -EBADMSG, unread = 0;

		for (unsigned d = 0; d < l->geo.devs && err; d++) {
			data_drop(r);
			err = frame_from(r, d, r->pos);
			if (!err && !PLANTED(l, PLANT_ACCEPT_TORN_RECORD))
				err = frame_verify(r, true);
			if (err == -ENOMEM)
				return log_unread(r, err);
			if (err && err != -EBADMSG)
				unread = err;
			if (!err && d)
				l->stat.mirror_repairs++;
		}
		if (err) {
			data_drop(r);
			return unread ? log_unread(r, unread) : 1;
		}
		if (!(le16_get(f->flags) & FRAME_SKIP))
			return 0;
		err = to_mend(r) ? frame_mend(r) : 0;
		if (err)
			return err;
		r->pos = DIV_ROUND_UP(r->pos + 1, l->geo.log_blocks) * l->geo.log_blocks;
	}
}

static void frame_step(struct replay *r)
{
	const struct media_frame *f = (const void *)r->meta;

	r->pos += DIV_ROUND_UP(le32_get(f->meta_bytes), BLOCK_BYTES) + le32_get(f->data_blocks);
	r->seq++;
	r->ended = le16_get(f->flags) & FRAME_END;
}

/* --- the end of the log --- */

/*
 * What a whole frame at @pos of device @dev says against ending the log at r->seq: that this frame
 * was durable, or that the store was opened again since, so that a newer header than ours must be
 * damaged.
 */
static int witness(struct replay *r, unsigned dev, uint64_t pos)
{
	struct local *l = r->s->l;
	const struct media_frame *f = (const void *)r->meta;
	uint64_t epoch;
	uint32_t blocks;

	/* The log may have gone round since our header. */
	if (log_read(r, dev, pos, r->meta, 1) || le64_get(f->pos) < pos ||
	    (le64_get(f->pos) - pos) % l->geo.log_blocks ||
	    !frame_check(l, r->s->id, f, le64_get(f->pos)))
		return 0;
	epoch = le64_get(f->epoch);
	if (epoch < r->epoch || le64_get(f->seq) < r->seq ||
	    (epoch == r->epoch && le64_get(f->durable) < r->seq))
		return 0;
	blocks = (uint32_t)DIV_ROUND_UP(le32_get(f->meta_bytes), BLOCK_BYTES);
	if (blocks > 1 && log_read(r, dev, pos + 1, r->meta + BLOCK_BYTES, blocks - 1))
		return 0;
	if (!crc_ok(f))
		return 0;
	if (epoch > r->epoch)
		return err_set(
		        r->err, -EBADMSG,
		        "a header of shard %u is damaged: its log goes on after it was opened "
		        "%llu times, and the header that is left is from when that was %llu times",
		        r->s->id, (unsigned long long)epoch, (unsigned long long)r->epoch);
	return err_set(r->err, -EBADMSG,
	               "the log of shard %u is damaged: frame %llu (block %llu) can't be read, and "
	               "frame %llu says that it was durable",
	               r->s->id, (unsigned long long)r->seq, (unsigned long long)place(r, r->pos),
	               (unsigned long long)le64_get(f->seq));
}

static int damage_check(struct replay *r)
{
	uint64_t end = r->first_pos + r->s->l->geo.log_blocks;
	int err = 0;

	for (unsigned d = 0; d < r->s->l->geo.devs && !err; d++)
		for (uint64_t pos = r->pos; pos < end && !err; pos++)
			err = witness(r, d, pos);
	return err;
}

static void rewind_to_start(struct replay *r)
{
	r->seq = r->first_seq;
	r->pos = r->first_pos;
	r->ended = false;
}

/* Pass 1: follows the frames; the greatest mark. */
static int survey(struct replay *r, uint64_t *ret_end)
{
	int err;

	rewind_to_start(r);
	while ((err = frame_next(r)) == 0) {
		r->mark = MAX(r->mark, le64_get(((const struct media_frame *)r->meta)->durable));
		frame_step(r);
	}
	data_drop(r);
	*ret_end = r->seq;
	if (err != 1)
		return err;
	if (r->seq <= r->mark)
		return err_set(r->err, -EBADMSG,
		               "the log of shard %u is damaged: frame %llu (block %llu) can't be "
		               "read, and it was durable",
		               r->s->id, (unsigned long long)r->seq,
		               (unsigned long long)place(r, r->pos));
	return damage_check(r);
}

/* --- pass 2 --- */

static bool cont_at_home(const struct shard *s, uint32_t id)
{
	const struct cont_name *n = cont_name_by_id(s->l, id);

	return n && n->home == s->id;
}

static uint32_t changes_max(const struct media_record *rec)
{
	return MIN(le32_get(rec->changes), le32_get(rec->len) / sizeof(struct media_change));
}

static int apply_frame(struct replay *r)
{
	const struct media_frame *f = (const void *)r->meta;
	const uint8_t *p = r->meta + sizeof(*f), *end = r->meta + le32_get(f->meta_bytes);
	struct shard *s = r->s;

	for (uint32_t i = 0; i < le32_get(f->records); i++) {
		const struct media_record *rec = (const void *)p;
		int err = record_check(rec, (size_t)(end - p));
		unsigned type = le16_get(rec->type);
		bool home = !err && type != REC_CONT_CREATE && type != REC_CONT_DESTROY &&
		            type != REC_SESSION_CLOSE;

		if (err)
			return err;
		p += le32_get(rec->len);
		s->l->stat.recovery_records++;
		if (home && !cont_at_home(s, le32_get(rec->cont))) {
			/* Destroyed later, by shard 0: only its answer is worth keeping. */
			if (le16_get(rec->flags) & REC_F_TOKEN)
				token_record(s, (const struct media_reply *)(rec + 1));
			continue;
		}
		/* What was let in before fits in again. */
		if (bt_reserve_beyond(&s->env, 64 + 8 * changes_max(rec)))
			return -ENOMEM;
		err = apply_record(s, rec, r->seq, r->data, r->data_count);
		if (err)
			return err;
	}
	return 0;
}

static int apply_all(struct replay *r, uint64_t end)
{
	const struct local *l = r->s->l;
	int err;

	rewind_to_start(r);
	r->mend = (!l->opts.read_only || (l->watch && l->watch->mend)) && l->geo.devs > 1;
	while (r->seq < end) {
		err = frame_next(r);
		if (err)
			return err == 1 ? log_unread(r, -EIO) : err;
		if (r->seq > r->mark && !PLANTED(r->s->l, PLANT_ACCEPT_TORN_RECORD)) {
			err = frame_verify(r, false);
			if (err == -EBADMSG)
				break; /* the tail outran its data */
			if (err)
				return log_unread(r, err);
		}
		err = to_mend(r) ? frame_mend(r) : 0;
		if (err)
			return err;
		if (r->s->l->watch)
			r->s->l->watch->frame(r->s->l->watch, r->s, (const void *)r->meta, r->data,
			                      r->seq <= r->mark);
		err = apply_frame(r);
		if (err)
			return err_set(r->err, err == -ENOMEM ? err : -EBADMSG,
			               "shard %u: frame %llu of the log makes no sense", r->s->id,
			               (unsigned long long)r->seq);
		if (le32_get(((const struct media_frame *)r->meta)->records))
			r->last_record = r->seq;
		frame_step(r);
		data_drop(r);
	}
	data_drop(r);
	return 0;
}

int replay_log(struct shard *s, const struct media_header *h, bool sure, struct pst_err *err)
{
	struct replay r = {.s = s, .err = err, .epoch = le64_get(h->epoch)};
	uint64_t end;
	int e = -ENOMEM;

	r.first_seq = le64_get(h->frame_seq) + 1;
	r.first_pos = le64_get(h->log_pos);
	r.mark = le64_get(h->frame_seq);
	if (sure && le32_get(h->clean)) { /* closed in order: nothing came after */
		log_start_at(s, r.first_seq, r.first_pos, r.first_pos, r.first_seq - 1);
		s->log.mark = r.first_seq - 1;
		s->log.marked = true;
		return 0;
	}
	r.meta = mem_alloc_aligned(BLOCK_BYTES, FRAME_META_MAX);
	r.probe = mem_alloc_aligned(BLOCK_BYTES, BLOCK_BYTES);
	r.win = mem_alloc_pages((size_t)WINDOW_BLOCKS * BLOCK_BYTES);
	r.data = mem_calloc(FRAME_DATA_BLOCKS_MAX, sizeof(*r.data));
	if (r.meta && r.probe && r.win && r.data) {
		e = survey(&r, &end);
		if (!e)
			e = apply_all(&r, end);
	} else {
		err_set(err, e, "no memory to read the log");
	}
	data_drop(&r);
	mem_free(r.meta);
	mem_free(r.probe);
	mem_free(r.win);
	mem_free(r.data);
	if (!e) {
		log_start_at(s, r.seq, r.pos, r.first_pos, r.seq - 1);
		s->log.mark = MIN(r.mark, r.seq - 1);
		s->log.marked = r.last_record <= s->log.mark;
	}
	return e;
}
