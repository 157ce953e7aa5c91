/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * devs - several devices as one address space.
 *
 * A region is the same range of blocks on every device. In a data region addresses run over the
 * devices in stripes; in a meta region only the first region_blocks addresses exist, and each of
 * them is a block on every device (a mirror). With one device the two are the same.
 */
#include "store/local/engine.h"

struct place {
	unsigned dev;
	uint64_t block;
	uint32_t run; /* blocks from here on that lie one after another */
};

static struct place place_of(const struct geometry *g, uint64_t addr, uint32_t blocks)
{
	uint64_t region = addr / g->region_span, w = addr % g->region_span;
	uint64_t base = g->data_start + region * g->region_blocks;
	struct place p;

	pst_assert_slow(region < g->regions);
	if (g->devs == 1) {
		p.dev = 0;
		p.block = base + w;
		p.run = blocks;
	} else {
		uint64_t stripe = w / g->stripe, in = w % g->stripe;

		p.dev = (unsigned)(stripe % g->devs);
		p.block = base + stripe / g->devs * g->stripe + in;
		p.run = (uint32_t)MIN((uint64_t)blocks, g->stripe - in);
	}
	return p;
}

uint64_t geo_meta_block(const struct geometry *g, uint64_t addr)
{
	return g->data_start + addr / g->region_span * g->region_blocks + addr % g->region_span;
}

uint64_t geo_csum_page(const struct geometry *g, uint64_t addr, unsigned *ret_slot)
{
	uint64_t region = addr / g->region_span;
	uint32_t w = (uint32_t)(addr % g->region_span);

	*ret_slot = w % CSUMS_PER_PAGE;
	return region * g->csum_region_pages + w / CSUMS_PER_PAGE;
}

static struct sub_io *sub_get(struct local *l, struct dio *d)
{
	struct sub_io *s = l->sub_free;

	if (d->pending == 1) /* only the caller's hold: the embedded one is unused */
		s = &d->first;
	else if (s)
		l->sub_free = s->next;
	else
		s = mem_alloc(sizeof(*s));
	if (s) {
		memset(&s->io, 0, offsetof(struct bdev_io, link));
		s->parent = d;
		s->joined = NULL;
	}
	return s;
}

static void dio_put(struct dio *d)
{
	if (--d->pending == 0)
		d->done(d);
}

static void sub_end(struct sub_io *s, int status)
{
	struct dio *d = s->parent;

	if (status && !d->status)
		d->status = status;
	if (s != &d->first) {
		s->next = d->l->sub_free;
		d->l->sub_free = s;
	}
	dio_put(d);
}

static void sub_done(struct bdev_io *io)
{
	struct sub_io *s = container_of(io, struct sub_io, io), *joined = s->joined;
	struct local *l = s->parent->l;
	int status = io->status;

	/* Now, not when it was submitted: only a flush that begins from now on covers it. */
	if (s->parent->commits && io->op == BDEV_WRITE)
		l->dev_dirty[s->dev] = true;
	if (l->flushing[s->dev] == s)
		l->flushing[s->dev] = NULL;
	sub_end(s, status);
	while (joined) {
		s = joined;
		joined = s->next;
		sub_end(s, status);
	}
}

static void sub_submit(struct local *l, struct dio *d, unsigned dev, enum bdev_op op,
                       uint32_t flags, uint64_t dev_block, const struct iovec *iov,
                       unsigned iov_count, uint64_t len, struct mem_region *region)
{
	struct sub_io *s = sub_get(l, d);

	if (!s) {
		d->status = -ENOMEM;
		return;
	}
	if (op == BDEV_FLUSH) {
		l->flushing[dev] = s;
		l->dev_dirty[dev] = false;
	}
	if (iov_count == 1) {
		s->iov = iov[0];
		iov = &s->iov;
	}
	s->io.op = (uint8_t)op;
	s->io.flags = flags;
	s->io.off_bytes = dev_block << BLOCK_SHIFT;
	s->io.len_bytes = len;
	s->io.iov = iov;
	s->io.iov_count = iov_count;
	s->io.region = region;
	s->io.done = sub_done;
	s->dev = dev;
	d->pending++;
	if (op == BDEV_READ)
		l->stat.dev_read_bytes += len;
	else
		l->stat.dev_write_bytes += len;
	bdev_submit(l->dev[dev], &s->io);
}

static void dio_begin(struct local *l, struct dio *d)
{
	d->l = l;
	d->status = 0;
	d->pending =
	        1; /* ours, until all parts are submitted; done() then runs from a later turn */
}

/*
 * done() must not run from inside the call. Parts never complete inside bdev_submit(), so the hold
 * can be given up at once, unless there was no part at all.
 */
static void dio_end(struct dio *d)
{
	if (d->pending > 1) {
		d->pending--;
		return;
	}
	/* Nothing was submitted (no memory, or nothing to flush): an empty flush carries the news.
	 */
	sub_submit(d->l, d, 0, BDEV_FLUSH, 0, 0, NULL, 0, 0, NULL);
	pst_assert(d->pending > 1);
	d->pending--;
}

void dio_data(struct local *l, struct dio *d, enum bdev_op op, uint64_t addr, uint32_t blocks,
              void *buf, struct mem_region *region)
{
	uint8_t *p = buf;

	dio_begin(l, d);
	while (blocks) {
		struct place at = place_of(&l->geo, addr, blocks);
		uint64_t len = (uint64_t)at.run << BLOCK_SHIFT;
		struct iovec iov = {p, len};

		sub_submit(l, d, at.dev, op, 0, at.block, &iov, 1, len, region);
		p += len;
		addr += at.run;
		blocks -= at.run;
	}
	dio_end(d);
}

void dio_meta_write(struct local *l, struct dio *d, uint64_t dev_block, const struct iovec *iov,
                    unsigned iov_count, uint64_t len_bytes, bool fua)
{
	dio_begin(l, d);
	for (unsigned i = 0; i < l->geo.devs; i++) {
		uint32_t flags = fua ? BDEV_FUA : 0;

		if (i && PLANTED(l, PLANT_FLUSH_ONE_DEVICE))
			flags = 0;
		sub_submit(l, d, i, BDEV_WRITE, flags, dev_block, iov, iov_count, len_bytes, NULL);
	}
	dio_end(d);
}

void dio_meta_read(struct local *l, struct dio *d, unsigned dev, uint64_t dev_block, void *buf,
                   uint32_t blocks)
{
	struct iovec iov = {buf, (uint64_t)blocks << BLOCK_SHIFT};

	dio_begin(l, d);
	sub_submit(l, d, dev, BDEV_READ, 0, dev_block, &iov, 1, iov.iov_len, NULL);
	dio_end(d);
}

/* The data that made the device dirty is being flushed for somebody else: that is waited for. */
static void flush_join(struct local *l, struct dio *d, unsigned dev)
{
	struct sub_io *s = sub_get(l, d);

	if (!s) {
		d->status = -ENOMEM;
		return;
	}
	s->next = l->flushing[dev]->joined;
	l->flushing[dev]->joined = s;
	d->pending++;
}

bool dio_flush(struct local *l, struct dio *d, bool dirty_only)
{
	dio_begin(l, d);
	for (unsigned i = 0; i < l->geo.devs; i++) {
		if (i && PLANTED(l, PLANT_FLUSH_ONE_DEVICE))
			continue;
		if (!dirty_only || l->dev_dirty[i]) {
			l->stat.dev_flushes++;
			sub_submit(l, d, i, BDEV_FLUSH, 0, 0, NULL, 0, 0, NULL);
		} else if (l->flushing[i]) {
			flush_join(l, d, i);
		}
	}
	if (dirty_only && d->pending == 1 && !d->status)
		return false;
	dio_end(d);
	return true;
}

/* --- blocking forms --- */

int meta_write_sync(struct local *l, uint64_t dev_block, const void *buf, uint32_t blocks)
{
	int err = 0;

	for (unsigned i = 0; i < l->geo.devs && !err; i++)
		err = bdev_write_sync(l->dev[i], dev_block << BLOCK_SHIFT, buf,
		                      (size_t)blocks << BLOCK_SHIFT, 0);
	return err;
}

int meta_read_sync(struct local *l, unsigned dev, uint64_t dev_block, void *buf, uint32_t blocks)
{
	return bdev_read_sync(l->dev[dev], dev_block << BLOCK_SHIFT, buf,
	                      (size_t)blocks << BLOCK_SHIFT);
}

int data_read_sync(struct local *l, uint64_t addr, void *buf, uint32_t blocks)
{
	uint8_t *p = buf;
	int err = 0;

	while (blocks && !err) {
		struct place at = place_of(&l->geo, addr, blocks);
		size_t len = (size_t)at.run << BLOCK_SHIFT;

		err = bdev_read_sync(l->dev[at.dev], at.block << BLOCK_SHIFT, p, len);
		p += len;
		addr += at.run;
		blocks -= at.run;
	}
	return err;
}

int flush_all_sync(struct local *l)
{
	int err = 0;

	for (unsigned i = 0; i < l->geo.devs && !err; i++)
		err = bdev_flush_sync(l->dev[i]);
	return err;
}
