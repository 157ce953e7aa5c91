/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * csum - checksum pages: four bytes for each block of data, in a place computed from its address,
 * with a bounded cache.
 *
 * A page in the cache may be partial: when a checksum is set whose page is not here, only the new
 * ones are known (`valid`), and the rest is read when somebody needs it, at the latest before the
 * page is written back. A page is written by checkpoints only, into the older of its two slots, so
 * that a torn write leaves the other one; and only when all frames that changed it are durable
 * (R3).
 */
#include "store/local/engine.h"

#define LOAD_BLOCKS 2

#define SLAB_MIN_PAGES 4u
#define SLAB_BYTES_MAX (2 * MIB)
#define IDLE_MAX       64u

/* Pages come from slabs that grow with the cache and live as long as the store. */
struct csum_slab {
	struct csum_slab *next;
	struct csum_page page[];
};

/* What the devices say of a page: the newest whole slot that was found. */
struct csum_base {
	bool found;
	uint8_t slot;
	uint64_t version;
	const struct media_csums *csums;
};

struct csum_io {
	struct dio dio;
	struct shard *shard;
	struct csum_page *page;
	unsigned dev, tries;
	bool unread; /* a device could not be read, which may pass */
	struct csum_base base;
	struct iovec iov;
	uint8_t *buf; /* two slots read and the best one so far, or one slot written */
	struct csum_io *next;
};

static const struct media_csums never_written; /* says zero of each block */

/* Pages are numbered one after another: neighbours have buckets of their own as they are. */
static struct csum_page **bucket(struct csum_cache *c, uint64_t index)
{
	return &c->hash[index & c->hash_mask];
}

static inline __attribute__((always_inline)) struct csum_page *page_find(struct csum_cache *c,
                                                                         uint64_t index)
{
	struct csum_page *p = *bucket(c, index);

	while (p && p->index != index)
		p = p->hash_next;
	return p;
}

static void spare_put(struct csum_cache *c, struct csum_page *p)
{
	p->hash_next = c->spare;
	c->spare = p;
	c->spares++;
}

static struct csum_page *spare_take(struct csum_cache *c)
{
	struct csum_page *p = c->spare;

	c->spare = p->hash_next;
	c->spares--;
	return p;
}

static int slab_add(struct csum_cache *c)
{
	const uint64_t most =
	        (SLAB_BYTES_MAX - sizeof(struct csum_slab)) / sizeof(struct csum_page);
	uint64_t count = MIN(MAX(c->slab_pages, SLAB_MIN_PAGES), most);
	size_t bytes = sizeof(struct csum_slab) + count * sizeof(struct csum_page);
	struct csum_slab *slab = mem_alloc_slab(count == most ? SLAB_BYTES_MAX : bytes);

	if (!slab)
		return -ENOMEM;
	slab->next = c->slab;
	c->slab = slab;
	c->slab_pages += count;
	while (count)
		spare_put(c, &slab->page[--count]);
	return 0;
}

static void page_remove(struct csum_cache *c, struct csum_page *p)
{
	struct csum_page **at = bucket(c, p->index);

	while (*at != p)
		at = &(*at)->hash_next;
	*at = p->hash_next;
	list_del(&p->clock);
	c->pages--;
	spare_put(c, p);
}

/* The first page that was not used since it was looked at last, and that nobody needs. */
static bool evict_one(struct csum_cache *c)
{
	for (uint64_t left = 2 * c->pages; left; left--) {
		struct csum_page *p = list_first(&c->clock, struct csum_page, clock);

		if (!p->used && !p->dirty && !p->loading && !p->pins) {
			page_remove(c, p);
			return true;
		}
		p->used = false;
		list_del(&p->clock);
		list_push(&c->clock, &p->clock);
	}
	return false;
}

static struct csum_page *page_new(struct csum_cache *c, uint64_t index)
{
	struct csum_page **b, *p;

	while (c->pages >= c->limit && evict_one(c))
		;
	if (!c->spare && slab_add(c))
		return NULL;
	p = spare_take(c);
	memset(p, 0, offsetof(struct csum_page, csum));
	p->index = index;
	p->used = true;
	list_init(&p->waiters);
	list_init(&p->to_write);
	b = bucket(c, index);
	p->hash_next = *b;
	*b = p;
	list_push(&c->clock, &p->clock);
	c->pages++;
	return p;
}

int csum_init(struct shard *s, uint64_t limit_pages)
{
	struct csum_cache *c = &s->csum;
	unsigned size = 64;

	c->limit = MAX(limit_pages, 16);
	while (size < c->limit && size < (1u << 20))
		size *= 2;
	c->hash_mask = size - 1;
	list_init(&c->clock);
	list_init(&c->to_write);
	c->hash = mem_calloc(size, sizeof(*c->hash));
	return c->hash ? 0 : -ENOMEM;
}

void csum_done(struct shard *s)
{
	struct csum_cache *c = &s->csum;

	if (!c->hash)
		return;
	while (c->slab) {
		struct csum_slab *slab = c->slab;

		c->slab = slab->next;
		mem_free(slab);
	}
	while (c->idle) {
		struct csum_io *io = c->idle;

		c->idle = io->next;
		mem_free(io->buf);
		mem_free(io);
	}
	list_init(&c->clock);
	c->spare = NULL;
	c->spares = c->slab_pages = 0;
	c->idles = 0;
	mem_free(c->hash);
	c->hash = NULL;
	c->pages = c->dirty = 0;
}

/* A page whose blocks are no longer the shard's: what it says must not reach the device any more.
 */
static void page_discard(struct csum_cache *c, struct csum_page *p)
{
	if (p->dirty) {
		c->dirty--;
		list_del(&p->to_write);
	}
	page_remove(c, p);
}

bool csum_drop_region(struct shard *s, uint64_t region)
{
	uint64_t first = region * s->l->geo.csum_region_pages;
	struct csum_page *p;

	for (unsigned i = 0; i < s->l->geo.csum_region_pages; i++) {
		p = page_find(&s->csum, first + i);
		if (p && (p->pins || p->loading))
			return false;
	}
	for (unsigned i = 0; i < s->l->geo.csum_region_pages; i++) {
		p = page_find(&s->csum, first + i);
		if (p)
			page_discard(&s->csum, p);
	}
	return true;
}

void csum_drop_foreign(struct shard *s)
{
	struct csum_page *p, *next;

	list_for_each_safe (p, next, &s->csum.clock, clock) {
		const struct region *r = &s->l->region[p->index / s->l->geo.csum_region_pages];

		if (r->class != SPACE_DATA || r->owner != s->id)
			page_discard(&s->csum, p);
	}
}

bool csum_dirty_many(const struct shard *s)
{
	return s->csum.dirty > s->csum.limit / 2;
}

int csum_reserve(struct shard *s, unsigned pages)
{
	struct csum_cache *c = &s->csum;

	while (c->spares < pages)
		if (slab_add(c))
			return -ENOMEM;
	/* A page more than the limit is harmless; that all of them are dirty is not. */
	return c->dirty + pages > c->limit && c->dirty ? -EAGAIN : 0;
}

void csum_set(struct shard *s, uint64_t addr, uint32_t csum, uint64_t frame)
{
	struct csum_cache *c = &s->csum;
	unsigned slot;
	uint64_t index = geo_csum_page(&s->l->geo, addr, &slot);
	struct csum_page *p = page_find(c, index);

	if (!p) {
		p = page_new(c, index);
		if (!p) {
			/* The record is in the log already: it must not be half applied. */
			local_stop(s->l, -ENOMEM, "no memory for a checksum page");
			return;
		}
	}
	p->csum[slot] = csum;
	p->valid[slot / 64] |= 1ull << (slot % 64);
	p->frame = MAX(p->frame, frame);
	if (!p->dirty) {
		p->dirty = true;
		c->dirty++;
	}
	p->used = true;
}

bool csum_get(struct shard *s, uint64_t addr, uint32_t *ret_csum)
{
	struct csum_cache *c = &s->csum;
	unsigned slot;
	struct csum_page *p = page_find(c, geo_csum_page(&s->l->geo, addr, &slot));

	if (!p || !(p->loaded || p->valid[slot / 64] >> (slot % 64) & 1)) {
		c->misses++;
		return false;
	}
	c->hits++;
	if (!p->used)
		p->used = true;
	*ret_csum = p->csum[slot];
	return true;
}

bool csum_is_dirty(struct shard *s, uint64_t index)
{
	const struct csum_page *p = page_find(&s->csum, index);

	return p && p->dirty;
}

/* --- loading --- */

bool csum_slot_ok(const struct local *l, const struct media_csums *m, uint64_t index)
{
	return le32_get(m->magic) == CSUM_MAGIC && le64_get(m->index) == index &&
	       le64_get(m->log_id) == le64_get(l->super.log_id) &&
	       le32_get(m->crc) == crc32c(0, (const uint8_t *)m + 8, sizeof(*m) - 8);
}

static bool all_zero(const uint8_t *p, size_t n)
{
	return !p[0] && !memcmp(p, p + 1, n - 1);
}

/*
 * Looks at both slots in @buf, which base->csums points into afterwards. 0: nothing is wrong with
 * them; -EBADMSG: one is damaged, so that another device may know better.
 */
static int slots_take(const struct local *l, uint64_t index, const uint8_t *buf,
                      struct csum_base *base)
{
	const struct media_csums *both = (const void *)buf;
	unsigned newer = le64_get(both[1].version) > le64_get(both[0].version);
	int err = 0;

	for (unsigned n = 0; n < LOAD_BLOCKS; n++) {
		unsigned i = n ? !newer : newer;
		const struct media_csums *m = &both[i];

		/* With nobody to ask about the older slot there is no need to verify it. */
		if (n && base->found && l->geo.devs == 1)
			break;
		if (!csum_slot_ok(l, m, index)) {
			if (!all_zero((const uint8_t *)m, BLOCK_BYTES))
				err = -EBADMSG;
			continue;
		}
		if (base->found && base->version >= le64_get(m->version))
			continue;
		*base = (struct csum_base){true, (uint8_t)i, le64_get(m->version), m};
	}
	if (!base->found && !err)
		*base = (struct csum_base){true, 1, 0, &never_written};
	return err;
}

/* What was found so far must outlive the next look at slots in the same buffer. */
static void base_keep(struct csum_base *base, void *block)
{
	if (!base->found || base->csums == &never_written)
		return;
	memmove(block, base->csums, sizeof(*base->csums));
	base->csums = block;
}

static void page_take(struct csum_page *p, const struct csum_base *base)
{
	p->version = base->version;
	p->slot = base->slot;
	for (unsigned w = 0; w < ARRAY_LEN(p->valid); w++) {
		unsigned from = w * 64, to = MIN(from + 64, CSUMS_PER_PAGE);

		/* What was set since stays. */
		for (unsigned i = from; i < to; i++)
			if (!p->dirty || !(p->valid[w] >> (i % 64) & 1))
				p->csum[i] = le32_get(base->csums->csum[i]);
	}
	p->loaded = true;
}

static struct csum_io *io_get(struct csum_cache *c)
{
	struct csum_io *io = c->idle;
	uint8_t *buf;

	if (io) {
		c->idle = io->next;
		c->idles--;
		buf = io->buf;
	} else {
		io = mem_alloc(sizeof(*io));
		buf = io ? mem_alloc_pages((LOAD_BLOCKS + 1ull) * BLOCK_BYTES) : NULL;
		if (!buf) {
			mem_free(io);
			return NULL;
		}
	}
	memset(io, 0, sizeof(*io));
	io->buf = buf;
	return io;
}

static void io_put(struct csum_cache *c, struct csum_io *io)
{
	if (c->idles >= IDLE_MAX) {
		mem_free(io->buf);
		mem_free(io);
		return;
	}
	io->next = c->idle;
	c->idle = io;
	c->idles++;
}

static void load_start(struct csum_io *io)
{
	struct local *l = io->shard->l;

	dio_meta_read(l, &io->dio, io->dev, l->geo.csum_start + 2 * io->page->index, io->buf,
	              LOAD_BLOCKS);
}

#define READ_TRIES 4 /* of a device, before what it can't read counts as lost */

/* Has an attempt that ended with @err to be followed by another? A device that has both slots whole
 * ends it; each is asked once, and more often when one could not be read. */
static bool load_again(struct csum_io *io, int err)
{
	unsigned devs = io->shard->l->geo.devs;

	if (!err)
		return false;
	io->unread |= err != -EBADMSG;
	return ++io->tries < (io->unread ? READ_TRIES * devs : devs);
}

static void waiters_run(struct csum_page *p, int err, const struct media_csums *base)
{
	struct list todo, *n;

	/* Who is answered may ask again at once: that is for the next load. */
	list_init(&todo);
	list_splice(&todo, &p->waiters);
	p->pins++;
	while ((n = list_pop(&todo)) != NULL) {
		struct csum_wait *w = list_entry(n, struct csum_wait, link);

		w->ready(w, err, p, base);
	}
	p->pins--;
}

static void loaded(struct dio *d)
{
	struct csum_io *io = container_of(d, struct csum_io, dio);
	struct shard *s = io->shard;
	struct csum_page *p = io->page;
	int err = d->status;

	if (!err)
		err = slots_take(s->l, p->index, io->buf, &io->base);
	if (load_again(io, err)) {
		base_keep(&io->base, io->buf + (size_t)LOAD_BLOCKS * BLOCK_BYTES);
		io->dev = (io->dev + 1) % s->l->geo.devs;
		load_start(io);
		return;
	}
	if (io->base.found) {
		s->l->stat.mirror_repairs += io->tries > 0;
		page_take(p, &io->base);
		err = 0;
	} else {
		log_error("checksum page %llu can't be read: %s", (unsigned long long)p->index,
		          strerror(-err));
	}
	p->loading = false;
	waiters_run(p, err, io->base.csums);
	io_put(&s->csum, io);
	if (err && !p->dirty && !p->loading)
		page_remove(&s->csum, p);
}

static int load_begin(struct shard *s, struct csum_page *p)
{
	struct csum_io *io;

	if (p->loading)
		return 0;
	io = io_get(&s->csum);
	if (!io)
		return -ENOMEM;
	io->shard = s;
	io->page = p;
	io->dev = (unsigned)(p->index % s->l->geo.devs);
	io->dio.done = loaded;
	p->loading = true;
	load_start(io);
	return 0;
}

int csum_load(struct shard *s, uint64_t addr, struct csum_wait *w)
{
	struct csum_cache *c = &s->csum;
	unsigned slot;
	uint64_t index = geo_csum_page(&s->l->geo, addr, &slot);
	struct csum_page *p = page_find(c, index);

	if (!p)
		p = page_new(c, index);
	if (!p)
		return -ENOMEM;
	if (load_begin(s, p))
		return -ENOMEM;
	list_push(&p->waiters, &w->link);
	return 0;
}

int csum_load_sync(struct shard *s, uint64_t index, struct csum_page **ret_page)
{
	struct csum_cache *c = &s->csum;
	struct csum_page *p = page_find(c, index);
	struct csum_base base = {0};
	uint8_t *buf;
	int err = -EIO;

	if (!p)
		p = page_new(c, index);
	if (!p)
		return -ENOMEM;
	if (p->loaded) {
		*ret_page = p;
		return 0;
	}
	buf = mem_alloc_aligned(BLOCK_BYTES, 3ull * BLOCK_BYTES);
	if (!buf)
		return -ENOMEM;
	for (unsigned d = 0; d < s->l->geo.devs && err; d++) {
		err = meta_read_sync(s->l, d, s->l->geo.csum_start + 2 * index, buf, LOAD_BLOCKS);
		if (!err)
			err = slots_take(s->l, index, buf, &base);
		base_keep(&base, buf + (size_t)LOAD_BLOCKS * BLOCK_BYTES);
	}
	if (base.found) {
		page_take(p, &base);
		err = 0;
	}
	mem_free(buf);
	if (!err)
		*ret_page = p;
	return err;
}

/* --- writing back --- */

struct csum_writer { /* waits for the base of a partial page */
	struct csum_wait wait;
	struct shard *shard;
	struct csum_page *page;
};

void csum_write_begin(struct shard *s)
{
	struct csum_page *p;

	list_for_each (p, &s->csum.clock, clock)
		if (p->dirty) {
			list_del(&p->to_write);
			list_push(&s->csum.to_write, &p->to_write);
		}
}

static void written(struct dio *d)
{
	struct csum_io *io = container_of(d, struct csum_io, dio);
	struct shard *s = io->shard;
	struct csum_page *p = io->page;

	p->pins--;
	if (d->status)
		local_stop(s->l, d->status, "a checksum page can't be written");
	s->ckpt.pending--;
	mem_free(io->buf);
	mem_free(io);
}

/*
 * When both slots are damaged, what is known now is all that will ever be known: the page is
 * written with zeros for the rest, whose blocks will read as checksum errors, as they do already.
 * That is so too when the power was cut in the page's first write, which leaves slot 0 torn and
 * slot 1 empty: slot 0 is written again.
 */
static void load_for_write(struct csum_wait *w, int status, const struct csum_page *page,
                           const struct media_csums *base)
{
	struct csum_writer *cw = container_of(w, struct csum_writer, wait);

	if (status == -EBADMSG || status == -EIO) {
		page_take(cw->page, &(struct csum_base){true, 1, 1ull << 48, &never_written});
	} else if (status) {
		local_stop(cw->shard->l, status, "a checksum page can't be read");
	}
	mem_free(cw);
}

/* The page as it is now goes into the slot that does not hold its newest version. */
static int page_write(struct shard *s, struct csum_page *p)
{
	struct local *l = s->l;
	struct csum_io *io = mem_calloc(1, sizeof(*io));
	struct media_csums *m;

	if (!io)
		return -ENOMEM;
	io->buf = mem_alloc_aligned(BLOCK_BYTES, BLOCK_BYTES);
	if (!io->buf) {
		mem_free(io);
		return -ENOMEM;
	}
	io->shard = s;
	io->page = p;
	io->dio.done = written;
	p->version++;
	p->slot ^= 1;
	m = (void *)io->buf;
	m->magic = le32_make(CSUM_MAGIC);
	m->index = le64_make(p->index);
	m->version = le64_make(p->version);
	m->log_id = l->super.log_id;
	for (unsigned i = 0; i < CSUMS_PER_PAGE; i++)
		m->csum[i] = le32_make(p->csum[i]);
	m->crc = le32_make(crc32c(0, (const uint8_t *)m + 8, sizeof(*m) - 8));
	p->dirty = false;
	list_del(&p->to_write);
	s->csum.dirty--;
	p->pins++;
	s->ckpt.pending++;
	io->iov = (struct iovec){io->buf, BLOCK_BYTES};
	dio_meta_write(l, &io->dio, l->geo.csum_start + 2 * p->index + p->slot, &io->iov, 1,
	               BLOCK_BYTES, false);
	return 0;
}

static int load_wanted(struct shard *s, struct csum_page *p)
{
	struct csum_writer *w = mem_calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->wait.ready = load_for_write;
	w->shard = s;
	w->page = p;
	list_push(&p->waiters, &w->wait.link);
	if (load_begin(s, p)) {
		list_del(&w->wait.link);
		mem_free(w);
		return -ENOMEM;
	}
	return 0;
}

bool csum_write_step(struct shard *s)
{
	struct csum_cache *c = &s->csum;
	struct csum_page *p, *next;
	int err = 0;

	list_for_each_safe (p, next, &c->to_write, to_write) {
		if (s->ckpt.pending >= 4 * CKPT_IOS || err)
			break;
		if (p->pins) /* its last write is still under way */
			continue;
		if (!p->loaded)
			err = p->loading ? 0 : load_wanted(s, p);
		else if (p->frame <= s->log.durable)
			err = page_write(s, p);
		else
			log_want(s);
	}
	if (err)
		local_tick(s->l);
	return list_empty(&c->to_write);
}
