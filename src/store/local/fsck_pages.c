/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck_pages - watches recovery: it is content with the first mirror that has an index page or a
 * log frame whole; here the others are compared with it.
 */
#include "store/local/fsck_int.h"

static void page_note(struct fsck *f, struct shard *s, uint64_t addr)
{
	if (f->pages == f->pages_cap) {
		size_t cap = f->pages_cap ? 2 * f->pages_cap : 1024;
		void *p = mem_realloc(f->page, cap * sizeof(*f->page));

		if (!p) {
			f->status = -ENOMEM;
			return;
		}
		f->page = p;
		f->pages_cap = cap;
	}
	f->page[f->pages++] = (struct fsck_page){addr, s->id};
}

void fsck_watch_page(struct load_watch *w, struct shard *s, uint64_t addr, const uint8_t *image)
{
	struct fsck *f = container_of(w, struct fsck, watch);
	struct local *l = s->l;
	uint64_t at = geo_meta_block(&l->geo, addr);

	page_note(f, s, addr);
	for (unsigned d = 0; d < l->geo.devs && l->geo.devs > 1; d++) {
		int err = meta_read_sync(l, d, at, f->buf, 1);
		bool done = false;

		if (!err && !memcmp(f->buf, image, BLOCK_BYTES))
			continue;
		if (fsck_repair(f)) {
			memcpy(f->buf, image, BLOCK_BYTES);
			done = !bdev_write_sync(l->dev[d], at << BLOCK_SHIFT, f->buf, BLOCK_BYTES,
			                        0);
		}
		fsck_found(f, done, "rewrite it from its mirror",
		           "%s: the index page of shard %u at block %llu %s", l->dev[d]->info.name,
		           s->id, (unsigned long long)at,
		           err ? "can't be read" : "differs from its mirror");
	}
}

/* Is device @d's copy of the frame like the one that is applied? */
static bool frame_same(struct fsck *f, struct shard *s, unsigned d, const struct media_frame *m,
                       struct jblock *const *data)
{
	struct local *l = s->l;
	uint32_t meta = le32_get(m->meta_bytes), meta_blocks = DIV_ROUND_UP(meta, BLOCK_BYTES);
	uint64_t at =
	        l->geo.log_start + s->id * l->geo.log_blocks + le64_get(m->pos) % l->geo.log_blocks;

	for (uint32_t i = 0; i < meta_blocks; i++) {
		size_t from = (size_t)i * BLOCK_BYTES;

		if (meta_read_sync(l, d, at + i, f->buf, 1) ||
		    memcmp(f->buf, (const uint8_t *)m + from, MIN(BLOCK_BYTES, meta - from)))
			return false;
	}
	for (uint32_t i = 0; i < le32_get(m->data_blocks); i++)
		if (meta_read_sync(l, d, at + meta_blocks + i, f->buf, 1) ||
		    memcmp(f->buf, data[i]->data, BLOCK_BYTES))
			return false;
	return true;
}

void fsck_watch_frame(struct load_watch *w, struct shard *s, const struct media_frame *m,
                      struct jblock *const *data, bool durable)
{
	struct fsck *f = container_of(w, struct fsck, watch);

	f->rep->frames++;
	f->rep->records += le32_get(m->records);
	/* One that was on its way when the power was cut may be on one mirror only. */
	for (unsigned d = 0; d < s->l->geo.devs && durable && s->l->geo.devs > 1; d++) {
		if (frame_same(f, s, d, m, data))
			continue;
		f->checkpoint = true;
		fsck_found(f, fsck_repair(f), "a checkpoint, after which it is not needed",
		           "%s: frame %llu of the log of shard %u differs from its mirror",
		           s->l->dev[d]->info.name, (unsigned long long)le64_get(m->seq), s->id);
	}
}
