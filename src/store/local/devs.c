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
	uint64_t region, w, stripe, in;

	if (g->devs == 1) /* a region spans as many addresses as blocks */
		return (struct place){0, g->data_start + addr, blocks};
	region = addr / g->region_span;
	w = addr % g->region_span;
	pst_assert_slow(region < g->regions);
	stripe = w / g->stripe;
	in = w % g->stripe;
	return (struct place){
	        .dev = (unsigned)(stripe % g->devs),
	        .block = g->data_start + region * g->region_blocks + stripe / g->devs * g->stripe +
	                 in,
	        .run = (uint32_t)MIN((uint64_t)blocks, g->stripe - in),
	};
}

uint64_t geo_meta_block(const struct geometry *g, uint64_t addr)
{
	return g->data_start + addr / g->region_span * g->region_blocks + addr % g->region_span;
}

static struct sub_io *sub_get(struct local *l, struct dio *d)
{
	struct sub_io *s = l->sub_free;

	if (d->pending == 1) /* only the caller's hold: the embedded one is unused */
		return &d->first;
	if (s)
		l->sub_free = s->next;
	else
		s = mem_alloc(sizeof(*s));
	return s;
}

/* Is something left? Passes over devices that need no flush. */
static bool more(struct dio *d)
{
	struct local *l = d->l;

	if (d->todo.mirrored)
		return d->todo.dev < l->geo.devs;
	if (likely(d->todo.op != BDEV_FLUSH))
		return d->todo.blocks > 0;
	for (; d->todo.dev < l->geo.devs; d->todo.dev++) {
		unsigned i = d->todo.dev;

		if (i && PLANTED(l, PLANT_FLUSH_ONE_DEVICE))
			continue;
		if (!d->todo.dirty_only || l->dev_dirty[i] || l->flushing[i])
			break;
	}
	return d->todo.dev < l->geo.devs;
}

static void sub_done(struct bdev_io *io);

static void forced_done(struct bdev_io *io);

/* The end of it will say that something is durable: others have to know while it is under way. */
static void forced_begin(struct dio *d, struct sub_io *s)
{
	if (d->todo.op != BDEV_FLUSH && !(d->todo.flags & BDEV_FUA))
		return;
	if (d->todo.mirrored && d->todo.dev == 1) /* the first; dio_flush() does it for itself */
		crew_settle_after(d);
	s->io.done = forced_done;
	crew_force_begin(d->l, s);
}

static inline __attribute__((always_inline)) void sub_submit(struct dio *d, struct sub_io *s,
                                                             unsigned dev, uint64_t dev_block,
                                                             const struct iovec *iov,
                                                             unsigned iov_count, uint64_t len)
{
	struct local *l = d->l;

	if (iov_count == 1) {
		s->iov = iov[0];
		iov = &s->iov;
	}
	s->io.op = (uint8_t)d->todo.op;
	s->io.off_bytes = dev_block << BLOCK_SHIFT;
	s->io.len_bytes = len;
	s->io.iov = iov;
	s->io.iov_count = iov_count;
	s->io.region = d->todo.region;
	s->dev = dev;
	if (d->todo.op == BDEV_READ)
		l->stat.dev_read_bytes += len;
	else
		l->stat.dev_write_bytes += len;
	bdev_submit(l->dev[dev], &s->io);
}

/* Sends the next of what is left with @s. */
static void send_one(struct dio *d, struct sub_io *s)
{
	struct local *l = d->l;
	unsigned dev;

	memset(&s->io, 0, offsetof(struct bdev_io, link));
	s->io.done = sub_done;
	s->parent = d;
	s->joined = NULL;
	if (d->todo.mirrored) {
		dev = d->todo.dev++;
		if (unlikely(l->crew))
			forced_begin(d, s);
		s->io.flags = dev && PLANTED(l, PLANT_FLUSH_ONE_DEVICE) ? 0 : d->todo.flags;
		sub_submit(d, s, dev, d->todo.at, d->todo.iov, d->todo.iov_count, d->todo.len);
	} else if (unlikely(d->todo.op == BDEV_FLUSH)) {
		dev = d->todo.dev++;
		if (d->todo.dirty_only && !l->dev_dirty[dev]) {
			/* The data that made the device dirty is being flushed for somebody else:
			 * that is waited for. */
			s->next = l->flushing[dev]->joined;
			l->flushing[dev]->joined = s;
			return;
		}
		l->stat.dev_flushes++;
		l->flushing[dev] = s;
		l->dev_dirty[dev] = false;
		if (unlikely(l->crew))
			forced_begin(d, s);
		sub_submit(d, s, dev, 0, NULL, 0, 0);
	} else {
		struct place at = place_of(&l->geo, d->todo.at, d->todo.blocks);
		struct iovec iov = {d->todo.buf, (uint64_t)at.run << BLOCK_SHIFT};

		d->todo.buf += iov.iov_len;
		d->todo.at += at.run;
		d->todo.blocks -= at.run;
		sub_submit(d, s, at.dev, at.block, &iov, 1, iov.iov_len);
	}
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
	if (unlikely(!d->status &&
	             more(d))) { /* there was no memory for it: this one is free now */
		send_one(d, s);
		return;
	}
	if (s != &d->first) {
		s->next = d->l->sub_free;
		d->l->sub_free = s;
	}
	dio_put(d);
}

/* Out of line: what it needs would be saved and restored by every read. */
static __attribute__((noinline)) void changed(struct sub_io *s)
{
	struct sub_io *joined = s->joined;
	struct local *l = s->parent->l;
	struct bdev_io *io = &s->io;
	int status = io->status;

	/* Now, not when it was submitted: only a flush that begins from now on covers it. */
	if (s->parent->commits && io->op == BDEV_WRITE)
		l->dev_dirty[s->dev] = true;
	if (l->flushing[s->dev] == s)
		l->flushing[s->dev] = NULL;
	/* At once, not when its frame ends: the device counts as clean, and says of a lost write only
	 * once that it was lost. Nobody's data that it was to force out may be acknowledged. */
	if (unlikely(status && io->op == BDEV_FLUSH))
		local_stop(l, status, "a device can't be flushed");
	sub_end(s, status);
	while (joined) {
		s = joined;
		joined = s->next;
		sub_end(s, status);
	}
}

static void sub_done(struct bdev_io *io)
{
	struct sub_io *s = container_of(io, struct sub_io, io);

	if (likely(io->op == BDEV_READ))
		sub_end(s, io->status);
	else
		changed(s);
}

static void forced_done(struct bdev_io *io)
{
	struct sub_io *s = container_of(io, struct sub_io, io);

	crew_force_end(s->parent->l, s, io->status);
	changed(s);
}

/*
 * done() must not run from inside the call. Parts never complete inside bdev_submit(), so the hold
 * that is ours until all are submitted can be given up at once: there is always one, but for a flush
 * that finds nothing to do.
 */
static bool dio_run(struct local *l, struct dio *d)
{
	struct sub_io *s;

	d->l = l;
	d->status = 0;
	d->pending = 1;
	while (more(d) && (s = sub_get(l, d)) != NULL) {
		d->pending++;
		send_one(d, s);
	}
	if (d->pending == 1)
		return false;
	d->pending--;
	return true;
}

/* All of it on one device: in one request, the embedded one. */
static inline void dio_one(struct local *l, struct dio *d, enum bdev_op op, uint64_t block,
                           void *buf, uint64_t len, struct mem_region *region, bool lend)
{
	struct sub_io *s = &d->first;

	d->l = l;
	d->status = 0;
	d->pending = 1;
	d->todo.op = op;
	d->todo.mirrored = false;
	d->todo.blocks = 0; /* nothing is left */
	s->parent = d;
	s->joined = NULL;
	s->dev = 0;
	s->iov = (struct iovec){buf, len};
	s->io.op = (uint8_t)op;
	s->io.lend = lend;
	s->io.lent = NULL;
	s->io.flags = 0;
	s->io.off_bytes = block << BLOCK_SHIFT;
	s->io.len_bytes = len;
	s->io.iov = &s->iov;
	s->io.iov_count = 1;
	s->io.region = region;
	s->io.done = sub_done;
	*(op == BDEV_READ ? &l->stat.dev_read_bytes : &l->stat.dev_write_bytes) += len;
	bdev_submit(l->dev[0], &s->io);
}

static __attribute__((noinline)) void dio_striped(struct local *l, struct dio *d, enum bdev_op op,
                                                  uint64_t addr, uint32_t blocks, void *buf,
                                                  struct mem_region *region)
{
	bool some;

	d->todo.op = op;
	d->todo.mirrored = false;
	d->todo.at = addr;
	d->todo.blocks = blocks;
	d->todo.buf = buf;
	d->todo.region = region;
	some = dio_run(l, d);
	pst_assert(some);
}

void dio_data(struct local *l, struct dio *d, enum bdev_op op, uint64_t addr, uint32_t blocks,
              void *buf, struct mem_region *region)
{
	if (l->geo.devs == 1)
		dio_one(l, d, op, l->geo.data_start + addr, buf, (uint64_t)blocks << BLOCK_SHIFT,
		        region, false);
	else
		dio_striped(l, d, op, addr, blocks, buf, region);
}

void dio_look(struct local *l, struct dio *d, uint64_t addr, uint32_t blocks, void *buf,
              struct mem_region *region)
{
	if (l->geo.devs == 1)
		dio_one(l, d, BDEV_READ, l->geo.data_start + addr, buf,
		        (uint64_t)blocks << BLOCK_SHIFT, region, true);
	else
		dio_striped(l, d, BDEV_READ, addr, blocks, buf, region);
}

void dio_meta_write(struct local *l, struct dio *d, uint64_t dev_block, const struct iovec *iov,
                    unsigned iov_count, uint64_t len_bytes, bool fua)
{
	bool some;

	d->todo.op = BDEV_WRITE;
	d->todo.mirrored = true;
	d->todo.dev = 0;
	d->todo.flags = fua ? BDEV_FUA : 0;
	d->todo.at = dev_block;
	d->todo.iov = iov;
	d->todo.iov_count = iov_count;
	d->todo.len = len_bytes;
	d->todo.region = NULL;
	some = dio_run(l, d);
	pst_assert(some);
}

void dio_meta_read(struct local *l, struct dio *d, unsigned dev, uint64_t dev_block, void *buf,
                   uint32_t blocks)
{
	struct iovec iov = {buf, (uint64_t)blocks << BLOCK_SHIFT};

	d->todo.op = BDEV_READ;
	d->todo.mirrored = false;
	d->todo.blocks = 0;
	d->todo.region = NULL;
	d->l = l;
	d->status = 0;
	d->pending = 1;
	memset(&d->first.io, 0, offsetof(struct bdev_io, link));
	d->first.io.done = sub_done;
	d->first.parent = d;
	d->first.joined = NULL;
	sub_submit(d, &d->first, dev, dev_block, &iov, 1, iov.iov_len);
}

bool dio_flush(struct local *l, struct dio *d, bool dirty_only)
{
	d->todo.op = BDEV_FLUSH;
	d->todo.mirrored = false;
	d->todo.dirty_only = dirty_only;
	d->todo.dev = 0;
	d->todo.region = NULL;
	if (unlikely(l->crew)) {
		crew_settle_after(d);
		if (dio_run(l, d))
			return true;
		d->done = d->todo.settled;
		return false;
	}
	return dio_run(l, d);
}

/* --- blocking forms --- */

int meta_write_sync(struct local *l, uint64_t dev_block, const void *buf, uint32_t blocks)
{
	int err = 0;

	for (unsigned i = 0; i < l->geo.devs && !err; i++) {
		err = bdev_write_sync(l->dev[i], dev_block << BLOCK_SHIFT, buf,
		                      (size_t)blocks << BLOCK_SHIFT, 0);
		l->sync_failed = i;
	}
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

	for (unsigned i = 0; i < l->geo.devs && !err; i++) {
		err = bdev_flush_sync(l->dev[i]);
		l->sync_failed = i;
	}
	return err;
}
