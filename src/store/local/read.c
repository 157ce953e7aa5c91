/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * read - array reads.
 *
 * A read looks everything up at once, so that it sees one moment: what is journaled is copied, what
 * is a hole is zeroed, and the rest becomes parts, runs of blocks that are read from the devices
 * with the checksums that were true then. Space that is freed meanwhile is not reused before the
 * read has ended (R4), and blocks overwritten meanwhile stay as they were on the device (jrnl.c).
 *
 * An op that takes lent data (op->lend) gets it where the device has it, if one part brings all of it; it
 * is verified there. What was written in order lies in extents that follow one another on the device: those
 * are one run.
 *
 * Only when requests run out in the middle does a read go on later, and then it may see a later
 * moment.
 */
#include "store/local/engine.h"

#define PART_BLOCKS 256

struct read_state {                /* in op->priv, after op_state */
	uint8_t *buf;              /* block `first` lies here */
	uint8_t *bounce;           /* buf, when it is ours */
	uint64_t first, next, end; /* blocks */
	uint32_t epoch, pending;
	int status;
	bool more;    /* stopped for want of requests */
	bool resumed; /* and went on */
};

struct part {
	struct dio dio;
	struct csum_wait wait[2];
	struct shard *shard;
	struct pst_op *op;
	uint64_t lblk, addr;
	uint8_t *buf;
	uint16_t blocks, missing; /* missing: checksums not known yet */
	uint8_t pending;
	bool verify;
	int status;
	uint64_t known[PART_BLOCKS / 64];
	uint32_t csum[PART_BLOCKS];
};
_Static_assert(sizeof(struct part) <= REQ_BYTES, "a part of a read fits in a request");

static struct read_state *state(struct pst_op *op)
{
	_Static_assert(sizeof(struct op_state) + sizeof(struct read_state) <=
	                       sizeof(((struct pst_op *)0)->priv),
	               "a read's state fits in the op");
	return (struct read_state *)((uint8_t *)op->priv + sizeof(struct op_state));
}

static enum pst_outcome go_on_later(struct shard *s, struct pst_op *op);

/* --- the end --- */

static void scatter(const struct pst_op *op, const uint8_t *from)
{
	uint64_t left = op->ret_len;

	for (uint32_t i = 0; left; i++) {
		size_t n = MIN(left, op->iov[i].iov_len);

		memcpy(op->iov[i].iov_base, from, n);
		from += n;
		left -= n;
	}
}

static __attribute__((noinline)) void bounce_end(struct pst_op *op)
{
	struct read_state *r = state(op);

	if (!r->status)
		scatter(op, r->bounce + op->off % BLOCK_BYTES);
	mem_free(r->bounce);
}

static inline int finish(struct shard *s, struct pst_op *op)
{
	struct read_state *r = state(op);

	reader_exit(s, r->epoch);
	if (unlikely(r->bounce))
		bounce_end(op);
	if (!r->status)
		s->l->stat.user_read_bytes += op->ret_len;
	return r->status;
}

static void bad_block(struct part *p, uint32_t i, int status, const char *what)
{
	struct pst_op *op = p->op;

	op->ret_off = (p->lblk + i) * BLOCK_BYTES;
	log_error("container %s object %016llx%016llx byte %llu (block %llu): %s",
	          cont_text(p->shard->l, op->cont), (unsigned long long)op->oid.hi,
	          (unsigned long long)op->oid.lo, (unsigned long long)op->ret_off,
	          (unsigned long long)(p->addr + i), what);
	p->status = status;
}

static void bad_csum(struct part *p, uint32_t i)
{
	p->shard->l->stat.csum_errors++;
	bad_block(p, i, -EIO, "the checksum does not match");
}

static __attribute__((noinline)) void verify_run(struct part *p)
{
	struct pst_op *op = p->op;
	uint32_t i, n = p->blocks;

	if (op->csum_made)
		memcpy(op->csum + (p->lblk - state(op)->first), p->csum, n * sizeof(*p->csum));
	for (i = 0; i < n; i++)
		if (crc32c_piece(p->buf + (size_t)i * BLOCK_BYTES, i == 0, i + 1 < n) != p->csum[i])
			break;
	if (unlikely(i < n))
		bad_csum(p, i);
}

static inline void verify(struct part *p)
{
	struct pst_op *op = p->op;

	if (unlikely(p->blocks > 1)) {
		verify_run(p);
		return;
	}
	if (op->csum_made)
		op->csum[p->lblk - state(op)->first] = p->csum[0];
	if (unlikely(crc32c(0, p->buf, BLOCK_BYTES) != p->csum[0]))
		bad_csum(p, 0);
}

static inline __attribute__((always_inline)) void part_put(struct part *p)
{
	struct shard *s = p->shard;
	struct pst_op *op = p->op;
	struct read_state *r = state(op);

	if (--p->pending)
		return;
	if (likely(!p->status && p->verify))
		verify(p);
	if (p->status && !r->status)
		r->status = p->status;
	req_put(s->l, p);
	if (--r->pending)
		return;
	if (unlikely(r->more && !r->status)) {
		enum pst_outcome out = go_on_later(s, op);

		if (out == PST_QUEUED)
			return;
		if (out == PST_BUSY)
			r->status = -ENOMEM;
	}
	op_done(s->l, op, finish(s, op));
}

static void part_read(struct dio *d)
{
	struct part *p = container_of(d, struct part, dio);

	if (d->status)
		bad_block(p, 0, d->status, strerror(-d->status));
	else if (unlikely(d->first.io.lent)) {
		p->buf = (uint8_t *)(uintptr_t)d->first.io.lent; /* only read */
		p->op->lent = p->buf;
	}
	part_put(p);
}

/* The page of some missing checksums is here: those not known when the read began are in its base.
 */
static void part_csums(struct part *p, int status, const struct csum_page *page,
                       const struct media_csums *base)
{
	for (uint32_t i = 0; i < p->blocks && !status; i++) {
		unsigned slot;

		if (p->known[i / 64] >> (i % 64) & 1)
			continue;
		if (geo_csum_page(&p->shard->l->geo, p->addr + i, &slot) != page->index)
			continue;
		p->csum[i] = le32_get(base->csum[slot]);
		p->known[i / 64] |= 1ull << (i % 64);
	}
	if (status)
		bad_block(p, 0, -EIO, "its checksums can't be read");
	part_put(p);
}

static void part_csums_first(struct csum_wait *w, int status, const struct csum_page *page,
                             const struct media_csums *base)
{
	part_csums(container_of(w, struct part, wait[0]), status, page, base);
}

static void part_csums_second(struct csum_wait *w, int status, const struct csum_page *page,
                              const struct media_csums *base)
{
	part_csums(container_of(w, struct part, wait[1]), status, page, base);
}

/* --- the beginning --- */

static inline __attribute__((always_inline)) void csums_capture(struct part *p)
{
	if (likely(p->blocks == 1)) {
		p->known[0] = csum_get(p->shard, p->addr, &p->csum[0]);
		p->missing = !p->known[0];
		return;
	}
	memset(p->known, 0, DIV_ROUND_UP(p->blocks, 64) * sizeof(p->known[0]));
	for (uint32_t i = 0; i < p->blocks; i++) {
		if (csum_get(p->shard, p->addr + i, &p->csum[i]))
			p->known[i / 64] |= 1ull << (i % 64);
		else
			p->missing++;
	}
}

static int csums_load(struct part *p)
{
	uint64_t last = UINT64_MAX;
	unsigned waits = 0, slot;
	int err = 0;

	for (uint32_t i = 0; i < p->blocks && !err; i++) {
		uint64_t index;

		if (p->known[i / 64] >> (i % 64) & 1)
			continue;
		index = geo_csum_page(&p->shard->l->geo, p->addr + i, &slot);
		if (index == last)
			continue;
		last = index;
		pst_assert(waits < ARRAY_LEN(p->wait)); /* runs are shorter than a page covers */
		p->wait[waits].ready = waits ? part_csums_second : part_csums_first;
		err = csum_load(p->shard, p->addr + i, &p->wait[waits++]);
		if (!err)
			p->pending++;
	}
	return err;
}

static inline __attribute__((always_inline)) int part_start(struct shard *s, struct pst_op *op,
                                                            const struct head *h, uint64_t lblk,
                                                            uint64_t addr, uint32_t blocks,
                                                            bool nocsum)
{
	struct read_state *r = state(op);
	struct part *p;
	int err = 0;

	/* One that goes on has just given a request back and takes that again, whatever others took
	 * meanwhile: nobody would wake it. */
	p = unlikely(r->resumed) && r->pending == 1 ? req_get_part(s->l) : req_get(s->l);

	if (!p)
		return -EAGAIN;
	p->dio.commits = false;
	p->shard = s;
	p->op = op;
	p->lblk = lblk;
	p->addr = addr;
	p->blocks = (uint16_t)blocks;
	p->missing = 0;
	p->status = 0;
	p->buf = r->buf + (lblk - r->first) * BLOCK_BYTES;
	p->verify = !nocsum && !(op->flags & PST_F_NOVERIFY) && !PLANTED(s->l, PLANT_SKIP_CHECKSUM);
	p->pending = 1;
	p->dio.done = part_read;
	r->pending++;
	if (unlikely(!p->verify)) {
		op->csum_made = false;
	} else {
		if (h->has_csum && lblk == 0 && !(op->flags & PST_F_CSUM_PAGE)) {
			p->known[0] = 1;
			p->csum[0] = h->csum;
			s->csum.hits++;
		} else {
			csums_capture(p);
		}
		if (p->missing)
			err = csums_load(p);
		if (err)
			p->status = err; /* no memory: the read fails when it comes back */
	}
	/* All of the op in one part, which ends when the device has answered: nothing is left of it that
	 * could still be copied. */
	if (unlikely(op->lend) && blocks == r->end - r->first && !p->missing && !r->bounce)
		dio_look(s->l, &p->dio, addr, blocks, p->buf, op->region);
	else
		dio_data(s->l, &p->dio, BDEV_READ, addr, blocks, p->buf,
		         r->bounce ? NULL : op->region);
	return 0;
}

/* Journaled blocks are copied, runs of others are read. */
static int read_extent(struct shard *s, struct pst_op *op, const struct head *h, uint64_t lblk,
                       uint64_t addr, uint32_t blocks, bool nocsum)
{
	struct read_state *r = state(op);

	while (blocks) {
		struct jblock *j = jrnl_find(s, addr);
		uint32_t run = 1;

		if (j) {
			memcpy(r->buf + (lblk - r->first) * BLOCK_BYTES, j->data, BLOCK_BYTES);
			if (op->csum_made)
				op->csum[lblk - r->first] = j->csum;
		} else {
			int err;

			while (run < blocks && run < PART_BLOCKS &&
			       (!s->jrnl.count || !jrnl_find(s, addr + run)))
				run++;
			err = part_start(s, op, h, lblk, addr, run, nocsum);
			if (err)
				return err;
		}
		lblk += run;
		addr += run;
		blocks -= run;
		r->next = lblk;
	}
	return 0;
}

/* The extent that maps @lblk, or the first one after it; NULL: none. */
static const struct extent *extent_at(const struct pst_op *op, const struct btree *t,
                                      const struct head *h, bool peeked, uint64_t lblk,
                                      struct extent *scratch)
{
	if (!h->exists)
		return NULL;
	if (peeked)
		return extent_peek(t, h, lblk, scratch);
	return extent_find(t, op->oid, h, lblk, scratch) ? scratch : NULL;
}

/* Where the run ends that begins with @e at r->next: with the extents that follow on the device, in its region.
 * A first block whose checksum is the head's is none of them: it is verified by that alone. */
static uint64_t run_end(const struct shard *s, struct pst_op *op, const struct btree *t,
                        const struct head *h, bool peeked, const struct extent *e)
{
	const struct read_state *r = state(op);
	uint64_t to = e->lblk + e->blocks, addr = e->addr + e->blocks;
	struct extent scratch;

	if (h->has_csum && !r->next)
		return to;
	while (to < r->end && addr % s->l->geo.region_span) {
		const struct extent *n = extent_at(op, t, h, peeked, to, &scratch);

		if (!n || n->lblk != to || n->addr != addr || n->nocsum != e->nocsum)
			break;
		to += n->blocks;
		addr += n->blocks;
	}
	return to;
}

/* Starts parts from r->next on. PST_QUEUED: some are under way; PST_DONE: none is, and none was
 * needed any more; PST_BUSY: none could be. */
static enum pst_outcome go_on(struct shard *s, struct pst_op *op, const struct btree *t,
                              const struct head *h, bool peeked)
{
	struct read_state *r = state(op);
	int err = 0;

	r->more = false;
	r->pending++; /* ours, while parts may not end yet */
	while (r->next < r->end && !err) {
		struct extent scratch;
		const struct extent *e = extent_at(op, t, h, peeked, r->next, &scratch);
		uint64_t to = r->end;

		if (!e || e->lblk > r->next) {
			to = e ? MIN(to, e->lblk) : to;
			op->csum_made = false; /* of nothing there are none */
			memset(r->buf + (r->next - r->first) * BLOCK_BYTES, 0,
			       (to - r->next) * BLOCK_BYTES);
			r->next = to;
			continue;
		}
		to = MIN(to, run_end(s, op, t, h, peeked, e));
		err = read_extent(s, op, h, r->next, e->addr + (r->next - e->lblk),
		                  (uint32_t)(to - r->next), e->nocsum);
	}
	r->more = err != 0;
	if (--r->pending)
		return PST_QUEUED;
	return err ? PST_BUSY : PST_DONE;
}

/* go_on() for the commonest read: of one block, which lies on the device. False: not so simple. */
static bool read_block(struct shard *s, struct pst_op *op, const struct btree *t,
                       const struct head *h, uint64_t lblk)
{
	uint64_t addr;
	bool nocsum;

	if (h->has_extent && lblk < h->ext_blocks) {
		addr = h->addr + lblk;
		nocsum = h->nocsum;
	} else {
		struct extent scratch;
		const struct extent *e = h->exists ? extent_peek(t, h, lblk, &scratch) : NULL;

		if (!e || e->lblk > lblk)
			return false;
		addr = e->addr + (lblk - e->lblk);
		nocsum = e->nocsum;
	}
	return !(s->jrnl.count && jrnl_find(s, addr)) &&
	       !part_start(s, op, h, lblk, addr, 1, nocsum);
}

static enum pst_outcome go_on_later(struct shard *s, struct pst_op *op)
{
	struct read_state *r = state(op);
	const struct btree *t;
	struct shard *home;
	struct head h;
	int err = cont_view(s->l, op, &home, &t);

	if (err || !t) {
		r->status = err ? err : -ESTALE;
		return PST_DONE;
	}
	head_get(t, op->oid, &h);
	r->resumed = true;
	return go_on(s, op, t, &h, false);
}

/* May the device write straight into the caller's memory? Whole blocks must fit. */
static bool direct(const struct local *l, const struct pst_op *op, uint64_t blocks)
{
	return op->iov_count == 1 && op->off % BLOCK_BYTES == 0 &&
	       op->iov[0].iov_len >= blocks * BLOCK_BYTES &&
	       IS_ALIGNED((uintptr_t)op->iov[0].iov_base, l->mem_align);
}

static enum pst_outcome read_begin(struct shard *s, struct pst_op *op, const struct btree *t,
                                   const struct head *h)
{
	uint64_t len = op->off < h->size ? MIN(op->len, h->size - op->off) : 0;
	uint64_t first = op->off / BLOCK_BYTES, end = DIV_ROUND_UP(op->off + len, BLOCK_BYTES);
	struct read_state *r = state(op);
	enum pst_outcome out;

	op->ret_len = len;
	if (!len)
		return op_fail(op, 0);
	*r = (struct read_state){.first = first, .next = first, .end = end};
	op->csum_made = op->csum && (op->off | len) % BLOCK_BYTES == 0;
	if (direct(s->l, op, end - first)) {
		r->buf = op->iov[0].iov_base;
	} else {
		r->bounce = mem_alloc_pages((end - first) * BLOCK_BYTES);
		if (!r->bounce)
			return op_fail(op, -ENOMEM);
		r->buf = r->bounce;
	}
	r->epoch = reader_enter(s);
	if (end - first == 1 && read_block(s, op, t, h, first))
		return PST_QUEUED;
	out = go_on(s, op, t, h, true);
	if (out == PST_QUEUED)
		return out;
	if (out == PST_BUSY) { /* no request was free: begin again later */
		reader_exit(s, r->epoch);
		mem_free(r->bounce);
		return PST_BUSY;
	}
	return op_fail(op, finish(s, op));
}

static enum pst_outcome read_try(struct shard *s, struct pst_op *op)
{
	static const struct head none;
	const struct head *h = &none;
	const struct btree *t;
	struct shard *home;
	struct cont *c = cont_find(s, op->cont);
	int err;

	if (likely(c && !op->view)) {
		t = &c->tree;
	} else {
		err = cont_view(s->l, op, &home, &t);
		if (err)
			return op_fail(op, err);
	}
	if (t)
		h = head_peek(s, t, op->oid);
	if (!h->exists && op->flags & PST_F_EXISTING)
		return op_fail(op, -ESTALE);
	return read_begin(s, op, t, h);
}

enum pst_outcome read_submit(struct local *l, struct pst_op *op)
{
	struct shard *s = shard_of_cont(l, op->cont);

	if (!s)
		return op_fail(op, -ENOENT);
	if (op->len > PST_IO_MAX)
		return op_fail(op, -E2BIG);
	if (op->off > PST_OBJECT_MAX || op_iov_bytes(op) != op->len)
		return op_fail(op, -EINVAL);
	return op_run_read(s, op, read_try);
}
