/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck_data - checksum pages, and data against them.
 *
 * A slot of a checksum page is torn when the power is cut while a checkpoint writes it; the log
 * then still has every frame that changed the page, so that the page is dirty once the log was
 * replayed, and the next checkpoint writes that slot again. A slot that is damaged on a page that
 * is not dirty was damaged at rest.
 *
 * When no slot of a page is left on any mirror, its blocks can't be verified any more. The
 * checksums are not computed anew from the data: that would bless whatever lies there. Reads of
 * these blocks fail with EIO until they are written again; what they hold can be fetched with
 * PST_F_NOVERIFY by somebody who knows better. A page that no block in use needs is emptied.
 */
#include <stdio.h>

#include "store/local/fsck_int.h"

#define SLOTS 2

/* --- checksum pages --- */

struct cpage { /* both slots on every device, as read */
	uint64_t index;
	bool whole[PST_DEVICES_MAX][SLOTS], empty[PST_DEVICES_MAX][SLOTS];
	uint64_t version[PST_DEVICES_MAX][SLOTS];
	uint8_t *image; /* [devs][SLOTS] blocks */
};

static struct media_csums *slot_image(const struct cpage *p, unsigned d, unsigned k)
{
	return (void *)(p->image + ((size_t)d * SLOTS + k) * BLOCK_BYTES);
}

static bool is_zero(const void *p, size_t n)
{
	const uint8_t *b = p;

	return !b[0] && !memcmp(b, b + 1, n - 1);
}

static void cpage_read(const struct fsck *f, struct cpage *p)
{
	struct local *l = f->l;

	for (unsigned d = 0; d < l->geo.devs; d++) {
		uint64_t at = l->geo.csum_start + SLOTS * p->index;
		int err = meta_read_sync(l, d, at, slot_image(p, d, 0), SLOTS);

		for (unsigned k = 0; k < SLOTS; k++) {
			const struct media_csums *m = slot_image(p, d, k);

			if (err) /* one bad block must not take the other with it */
				err = 0, p->whole[d][k] = !meta_read_sync(l, d, at + k,
				                                          slot_image(p, d, k), 1);
			else
				p->whole[d][k] = true;
			p->empty[d][k] = p->whole[d][k] && is_zero(m, sizeof(*m));
			p->whole[d][k] = p->whole[d][k] && csum_slot_ok(l, m, p->index);
			p->version[d][k] = p->whole[d][k] ? le64_get(m->version) : 0;
		}
	}
}

static uint64_t newest_on(const struct cpage *p, unsigned d)
{
	return MAX(p->version[d][0], p->version[d][1]);
}

/* The first of the newest versions of all. */
static bool newest(const struct fsck *f, const struct cpage *p, unsigned *ret_d, unsigned *ret_k)
{
	bool any = false;

	for (unsigned d = 0; d < f->l->geo.devs; d++)
		for (unsigned k = 0; k < SLOTS; k++)
			if (p->whole[d][k] &&
			    (!any || p->version[d][k] > p->version[*ret_d][*ret_k])) {
				*ret_d = d;
				*ret_k = k;
				any = true;
			}
	return any;
}

/* Does data in use depend on the page? */
static bool page_needed(const struct fsck *f, uint64_t index)
{
	const struct geometry *g = &f->l->geo;
	uint64_t first = index / g->csum_region_pages * g->region_span +
	                 index % g->csum_region_pages * CSUMS_PER_PAGE;

	for (size_t i = 0; i < f->refs; i++) {
		const struct fsck_ref *r = &f->ref[i];

		if (!r->nocsum && r->addr < first + CSUMS_PER_PAGE && r->addr + r->blocks > first)
			return true;
	}
	return false;
}

/* Writes slot @k of every device anew: the newest content, with a version above. */
static bool slot_rewrite(struct fsck *f, const struct cpage *p, unsigned k, unsigned from_d,
                         unsigned from_k)
{
	struct media_csums *m = (void *)f->buf;

	memcpy(m, slot_image(p, from_d, from_k), sizeof(*m));
	if (from_k != k)
		m->version = le64_make(le64_get(m->version) + 1);
	m->crc = le32_make(crc32c(0, (const uint8_t *)m + 8, sizeof(*m) - 8));
	return !meta_write_sync(f->l, f->l->geo.csum_start + SLOTS * p->index + k, m, 1);
}

static bool page_empty(struct fsck *f, const struct cpage *p)
{
	memset(f->buf, 0, (size_t)SLOTS * BLOCK_BYTES);
	return !meta_write_sync(f->l, f->l->geo.csum_start + SLOTS * p->index, f->buf, SLOTS);
}

static void page_lost(struct fsck *f, struct shard *s, struct cpage *p)
{
	bool needed = page_needed(f, p->index);

	fsck_found(f, !needed && fsck_repair(f) && page_empty(f, p),
	           needed ? NULL : "empty it, for no data in use depends on it",
	           "checksum page %llu of shard %u is damaged in both slots%s%s",
	           (unsigned long long)p->index, s->id,
	           f->l->geo.devs > 1 ? " of every mirror" : "",
	           needed ? ": blocks in use can't be verified, and read as errors until they are "
	                    "written again"
	                  : "");
}

/* One that a device has damaged; or whole, but older on this device than it should be. */
static void slot_found(struct fsck *f, struct shard *s, struct cpage *p, unsigned d, unsigned k,
                       const char *what)
{
	unsigned from_d = 0, from_k = 0;
	bool done = false;

	if (fsck_repair(f) && newest(f, p, &from_d, &from_k))
		done = slot_rewrite(f, p, k, from_d, from_k);
	fsck_found(f, done, "write it anew from the newest whole one",
	           "%s: slot %u of checksum page %llu of shard %u %s", f->l->dev[d]->info.name, k,
	           (unsigned long long)p->index, s->id, what);
	if (done) /* what else is wrong with the page may be gone */
		cpage_read(f, p);
}

static void page_check(struct fsck *f, struct shard *s, struct cpage *p)
{
	unsigned nd = 0, nk = 0;
	bool some = false, all_empty = true;

	cpage_read(f, p);
	for (unsigned d = 0; d < f->l->geo.devs; d++)
		for (unsigned k = 0; k < SLOTS; k++) {
			all_empty &= p->empty[d][k];
			some |= p->whole[d][k];
		}
	if (all_empty || csum_is_dirty(s, p->index))
		return;
	if (!some) {
		page_lost(f, s, p);
		return;
	}
	for (unsigned d = 0; d < f->l->geo.devs; d++)
		for (unsigned k = 0; k < SLOTS; k++)
			/* Slot 1 is empty until a page is written the second time. A power cut can
			 * keep the first write to slot 0 from one mirror. */
			if (!p->whole[d][k] && !(p->empty[d][k] && (k == 1 || f->l->geo.devs > 1)))
				slot_found(f, s, p, d, k, "is damaged");
	(void)newest(f, p, &nd, &nk);
	for (unsigned d = 0; d < f->l->geo.devs; d++)
		if (newest_on(p, d) != p->version[nd][nk] ||
		    memcmp(slot_image(p, d, nk), slot_image(p, nd, nk), BLOCK_BYTES))
			slot_found(f, s, p, d, nk, "differs from its mirror");
}

void fsck_csums(struct fsck *f, struct shard *s)
{
	const struct geometry *g = &f->l->geo;
	struct cpage p = {0};

	p.image = mem_alloc_aligned(BLOCK_BYTES, (size_t)g->devs * SLOTS * BLOCK_BYTES);
	if (!p.image) {
		f->status = -ENOMEM;
		return;
	}
	for (uint64_t r = 0; r < g->regions; r++)
		for (uint32_t i = 0; i < g->csum_region_pages && fsck_owns(s, r); i++) {
			p.index = r * g->csum_region_pages + i;
			page_check(f, s, &p);
		}
	mem_free(p.image);
}

/* --- data --- */

static void block_bad(struct fsck *f, const struct fsck_ref *r, uint64_t addr, const char *what)
{
	char where[FSCK_WHERE_MAX];

	f->rep->csum_errors++;
	fsck_found(f, false, NULL, "%s byte %llu (block %llu): %s",
	           fsck_where(f, where, r->cont, NULL, r->oid),
	           (unsigned long long)(r->lblk + (addr - r->addr)) * BLOCK_BYTES,
	           (unsigned long long)addr, what);
}

static void block_check(struct fsck *f, struct shard *s, const struct fsck_ref *r, uint64_t addr,
                        const uint8_t *home)
{
	const struct jblock *j = jrnl_find(s, addr);
	struct csum_page *p;
	unsigned slot;
	int err = csum_load_sync(s, geo_csum_page(&s->l->geo, addr, &slot), &p);

	if (err == -ENOMEM) {
		f->status = err;
		return;
	}
	if (j)
		home = j->data;
	if (!home)
		block_bad(f, r, addr, "it can't be read");
	else if (err)
		block_bad(f, r, addr, "its checksum can't be read");
	else if (crc32c(0, home, BLOCK_BYTES) != p->csum[slot])
		block_bad(f, r, addr, "the checksum does not match");
}

static void run_check(struct fsck *f, struct shard *s, const struct fsck_ref *r, uint64_t from,
                      uint64_t end)
{
	while (from < end && !f->status) {
		uint32_t n = (uint32_t)MIN(end - from, FSCK_BUF_BLOCKS);
		bool all = !data_read_sync(s->l, from, f->buf, n);

		for (uint32_t i = 0; i < n && !f->status; i++) {
			uint8_t *block = f->buf + (size_t)i * BLOCK_BYTES;
			bool ok = all || !data_read_sync(s->l, from + i, block, 1);

			block_check(f, s, r, from + i, ok ? block : NULL);
		}
		fsck_progress(f, (uint64_t)n * BLOCK_BYTES);
		from += n;
	}
}

/* --- large values, and checksums in heads --- */

struct values {
	struct fsck *f;
	struct shard *s;
	struct cont *c;
	struct snap *snap;
};

static void value_bad(struct values *v, const uint8_t *key, size_t key_len, const char *what)
{
	char where[FSCK_WHERE_MAX], hex[65];
	size_t n = MIN(key_len - KEY_OBJ_BYTES, sizeof(hex) / 2);

	for (size_t i = 0; i < n; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", key[KEY_OBJ_BYTES + i]);
	v->f->rep->csum_errors++;
	fsck_found(v->f, false, NULL, "%s, the value of key %s%s: %s",
	           fsck_where(v->f, where, v->c->id, v->snap, oid_of_key(key)), hex,
	           n < key_len - KEY_OBJ_BYTES ? "..." : "", what);
}

static void value_check(void *arg, const uint8_t *key, size_t key_len, const uint8_t *val,
                        size_t val_len)
{
	struct values *v = arg;
	struct media_outval out;
	uint32_t crc = 0, left;

	if (key_len <= KEY_OBJ_BYTES || key[16] != KEY_KV || val_len < 2 || val[0] != VAL_OUT ||
	    outval_decode(val + 1, val_len - 1, &out))
		return;
	left = le32_get(out.len);
	for (unsigned i = 0; i < le16_get(out.extents); i++) {
		uint64_t addr = get48(out.extent[i].addr);

		for (uint32_t k = 0; k < le16_get(out.extent[i].blocks); k++, addr++) {
			uint32_t n = MIN(left, BLOCK_BYTES);

			if (addr / v->s->l->geo.region_span >= v->s->l->geo.regions)
				return; /* told by fsck_refs() */
			if (data_read_sync(v->s->l, addr, v->f->buf, 1)) {
				value_bad(v, key, key_len, "it can't be read");
				return;
			}
			crc = crc32c(crc, v->f->buf, n);
			left -= n;
		}
	}
	if (crc != le32_get(out.crc))
		value_bad(v, key, key_len, "the checksum does not match");
	fsck_progress(v->f, ALIGN_UP((uint64_t)le32_get(out.len), BLOCK_BYTES));
}

/* The copy of a checksum in a head must be what the page says. */
static void head_check(struct values *v, const uint8_t *key, const uint8_t *val, size_t val_len)
{
	char where[FSCK_WHERE_MAX];
	struct csum_page *p;
	struct head h;
	unsigned slot;

	if (head_decode(val, val_len, &h) || !h.has_csum ||
	    h.addr / v->s->l->geo.region_span >= v->s->l->geo.regions)
		return; /* nothing to compare, or told by others */
	if (!csum_load_sync(v->s, geo_csum_page(&v->s->l->geo, h.addr, &slot), &p) &&
	    p->csum[slot] != h.csum) {
		v->f->rep->csum_errors++;
		fsck_found(v->f, false, NULL,
		           "%s: the checksum in its head is not that of its checksum page",
		           fsck_where(v->f, where, v->c->id, v->snap, oid_of_key(key)));
	}
}

static void item_check(void *arg, const uint8_t *key, size_t key_len, const uint8_t *val,
                       size_t val_len)
{
	if (key_len == KEY_OBJ_BYTES && key[16] == KEY_HEAD)
		head_check(arg, key, val, val_len);
	else
		value_check(arg, key, key_len, val, val_len);
}

static void values_check(struct fsck *f, struct shard *s, struct cont *c)
{
	struct values v = {f, s, c, NULL};
	struct snap *n;

	list_for_each (n, &c->snaps, link) {
		v.snap = n;
		bt_walk(&n->tree, fsck_enter_once, item_check, &v);
	}
	v.snap = NULL;
	bt_walk(&c->tree, fsck_enter_once, item_check, &v);
	list_for_each (n, &c->snaps, link)
		bt_walk(&n->tree, fsck_leave_once, NULL, NULL);
	bt_walk(&c->tree, fsck_leave_once, NULL, NULL);
}

void fsck_data(struct fsck *f, struct shard *s)
{
	uint64_t next = 0;
	struct cont *c;

	for (size_t i = 0; i < f->refs && !f->status; i++) {
		const struct fsck_ref *r = &f->ref[i];
		uint64_t from = MAX(next, r->addr), end = r->addr + r->blocks;

		if (r->nocsum || from >= end)
			continue;
		run_check(f, s, r, from, end);
		next = end;
	}
	list_for_each (c, &s->conts, link)
		values_check(f, s, c);
}
