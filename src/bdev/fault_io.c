/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A request's way through the fault device (see fault_int.h). Everything random about it is drawn
 * at submission, so that the faults depend on the seed and on the order of requests, not on timing.
 */
#include "bdev/fault_int.h"

#define OP_BIT(op)  (1u << (op))
#define OPS_MUTATE  (OP_BIT(BDEV_WRITE) | OP_BIT(BDEV_WRITE_ZEROES) | OP_BIT(BDEV_FLUSH))
#define SPARE_BLOCK 64 /* a torn write's holes on the stack up to here */

static struct fault_req *req_get(struct fault *f)
{
	struct list *n = list_pop(&f->spare);

	return n ? list_entry(n, struct fault_req, link) : mem_alloc(sizeof(struct fault_req));
}

void req_end(struct fault_req *q, int status)
{
	struct fault *f = q->fault;
	struct bdev_io *io = q->io;

	if (!status)
		status = q->status;
	if (f->cut)
		status = -EREMOTEIO;
	if (q->write)
		cache_release(&f->cache, q->write, ++f->done_seq);
	mem_free(q->overlay);
	list_push_front(&f->spare, &q->link);
	bdev_done(&f->bdev, io, status);
}

/* --- reads --- */

/* Copies @len bytes (@src NULL: zeroes) to @off within @iov. */
static void iov_fill(const struct iovec *iov, uint64_t off, const uint8_t *src, size_t len)
{
	for (; len; iov++) {
		size_t n;

		if (off >= iov->iov_len) {
			off -= iov->iov_len;
			continue;
		}
		n = MIN(len, iov->iov_len - (size_t)off);
		if (src) {
			memcpy((char *)iov->iov_base + off, src, n);
			src += n;
		} else {
			memset((char *)iov->iov_base + off, 0, n);
		}
		len -= n;
		off = 0;
	}
}

static void iov_flip(const struct iovec *iov, uint64_t bit)
{
	uint64_t off = bit / 8;

	while (off >= iov->iov_len)
		off -= iov++->iov_len;
	((uint8_t *)iov->iov_base)[off] ^= (uint8_t)(1u << (bit % 8));
}

static void read_finish(struct fault_req *q, int status)
{
	if (!status && q->flip)
		iov_flip(q->io->iov, q->flip_bit);
	req_end(q, status);
}

static void read_below_done(struct bdev_io *io)
{
	struct fault_req *q = container_of(io, struct fault_req, child);
	uint32_t bb = q->fault->cache.block_bytes;

	for (uint32_t i = 0; i < q->overlay_count && !io->status; i++)
		iov_fill(q->io->iov, (uint64_t)q->overlay_index[i] * bb,
		         q->overlay + (size_t)i * bb, bb);
	read_finish(q, io->status);
}

/*
 * Sets aside what the cache holds of a read that also goes below: by the time the device answers, a
 * flush may have taken it out of the cache, and the answer may be older than that flush.
 */
static int overlay_take(struct fault_req *q, uint32_t cached)
{
	struct cache *c = &q->fault->cache;
	uint64_t first = q->io->off_bytes / c->block_bytes;
	uint32_t count = (uint32_t)(q->io->len_bytes / c->block_bytes), n = 0;

	q->overlay = mem_alloc((size_t)cached * (c->block_bytes + sizeof(*q->overlay_index)));
	if (!q->overlay)
		return -ENOMEM;
	q->overlay_index = (uint32_t *)(void *)(q->overlay + (size_t)cached * c->block_bytes);
	for (uint32_t i = 0; i < count; i++) {
		struct cache_version *v = cache_find(c, first + i);
		struct iovec one = {q->overlay + (size_t)n * c->block_bytes, c->block_bytes};

		if (!v)
			continue;
		iov_fill(&one, 0, cache_data(c, v), c->block_bytes);
		q->overlay_index[n++] = i;
	}
	q->overlay_count = n;
	return 0;
}

static uint32_t cached_blocks(const struct cache *c, uint64_t first, uint32_t count)
{
	uint32_t n = 0;

	if (!cache_is_empty(c)) {
		for (uint32_t i = 0; i < count; i++)
			n += cache_find(c, first + i) != NULL;
	}
	return n;
}

static void child_submit(struct fault_req *q, void (*done)(struct bdev_io *io))
{
	const struct bdev_io *io = q->io;

	q->child = (struct bdev_io){.op = io->op,
	                            .flags = io->flags,
	                            .iov_count = io->iov_count,
	                            .off_bytes = io->off_bytes,
	                            .len_bytes = io->len_bytes,
	                            .iov = io->iov,
	                            .region = io->region,
	                            .done = done};
	bdev_submit(q->fault->below, &q->child);
}

static void read_start(struct fault_req *q)
{
	struct cache *c = &q->fault->cache;
	uint64_t first = q->io->off_bytes / c->block_bytes;
	uint32_t count = (uint32_t)(q->io->len_bytes / c->block_bytes);
	uint32_t cached = cached_blocks(c, first, count);

	if (cached == count) {
		for (uint32_t i = 0; i < count; i++)
			iov_fill(q->io->iov, (uint64_t)i * c->block_bytes,
			         cache_data(c, cache_find(c, first + i)), c->block_bytes);
		read_finish(q, 0);
		return;
	}
	if (cached && overlay_take(q, cached)) {
		req_end(q, -ENOMEM);
		return;
	}
	child_submit(q, read_below_done);
}

static void read_prepare(struct fault *f, struct fault_req *q)
{
	q->step = REQ_READ;
	if (rng_chance(&f->rng, f->knobs.read_error))
		q->status = -EIO;
	q->flip = rng_chance(&f->rng, f->knobs.bit_flip);
	if (q->flip)
		q->flip_bit = rng_below(&f->rng, q->io->len_bytes * 8);
}

/* --- writes --- */

enum write_fault {
	HURT_LOST = 1,
	HURT_TORN = 2,
	HURT_ROT = 4,
	HURT_MOVED = 8,
	HURT_ERROR = 16, /* what a failed write leaves behind is torn as well */
};

static unsigned write_draw(struct fault *f)
{
	const struct fault_knobs *k = &f->knobs;
	unsigned hurt = 0;

	hurt |= rng_chance(&f->rng, k->write_error) ? HURT_ERROR : 0;
	hurt |= rng_chance(&f->rng, k->lost_write) ? HURT_LOST : 0;
	hurt |= rng_chance(&f->rng, k->torn_write) ? HURT_TORN : 0;
	hurt |= rng_chance(&f->rng, k->bit_rot) ? HURT_ROT : 0;
	hurt |= rng_chance(&f->rng, k->misdirect) ? HURT_MOVED : 0;
	return hurt;
}

/* Which of @count blocks are not stored: some, and unless @all_may not all and not none. */
static void holes_draw(struct rng *r, bool *holes, uint32_t count, bool all_may)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < count; i++)
		n += holes[i] = rng_next(r) & 1;
	if (!all_may && count > 1 && (n == 0 || n == count)) {
		uint32_t i = (uint32_t)rng_below(r, count);

		holes[i] = !holes[i];
	}
}

static int write_insert(struct fault *f, struct cache_write *w, unsigned hurt)
{
	bool few[SPARE_BLOCK] = {false}, *holes = few;

	/* One block is written whole or not at all: only an error can make it a hole. */
	if (!(hurt & HURT_ERROR) && (w->count == 1 || !(hurt & HURT_TORN))) {
		cache_insert(&f->cache, w, NULL);
		return 0;
	}
	if (w->count > SPARE_BLOCK) {
		holes = mem_calloc(w->count, sizeof(*holes));
		if (!holes)
			return -ENOMEM;
	}
	holes_draw(&f->rng, holes, w->count, hurt & HURT_ERROR);
	cache_insert(&f->cache, w, holes);
	if (holes != few)
		mem_free(holes);
	return 0;
}

/* Copies the write into the cache, as hurt as was drawn. */
static int write_cache(struct fault *f, struct fault_req *q, unsigned hurt)
{
	const struct bdev_io *io = q->io;
	uint32_t bb = f->cache.block_bytes;
	uint64_t block = io->off_bytes / bb, blocks = f->bdev.info.size_bytes / bb;
	uint32_t count = (uint32_t)(io->len_bytes / bb);
	bool zeroes = io->op == BDEV_WRITE_ZEROES;
	int rc;

	if (hurt & HURT_MOVED)
		block = rng_below(&f->rng, blocks - count + 1);
	rc = cache_write_new(&f->cache, &q->write, block, count, zeroes ? NULL : io->iov,
	                     io->iov_count);
	if (rc)
		return rc;
	if ((hurt & HURT_ROT) && !zeroes) {
		uint64_t bit = rng_below(&f->rng, io->len_bytes * 8);

		q->write->data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	rc = write_insert(f, q->write, hurt);
	if (rc) {
		cache_release(&f->cache, q->write, 0);
		q->write = NULL;
	}
	return rc;
}

static void write_prepare(struct fault *f, struct fault_req *q)
{
	unsigned hurt = write_draw(f);
	/* Cached versions would hide what is written past them. */
	bool cached = f->knobs.cache || !cache_is_empty(&f->cache);

	if (q->status || (hurt & HURT_LOST)) {
		q->step = REQ_END;
	} else if (!cached && !hurt) {
		q->step = REQ_PASS;
	} else {
		q->step = !f->knobs.cache || (q->io->flags & BDEV_FUA) ? REQ_JOB : REQ_END;
		q->status = write_cache(f, q, hurt);
	}
	if (!q->status && (hurt & HURT_ERROR))
		q->status = -EIO;
}

/* --- submission --- */

static void flush_prepare(struct fault *f, struct fault_req *q)
{
	q->step = REQ_JOB;
	q->flush_seq = f->done_seq;
	if (rng_chance(&f->rng, f->knobs.flush_error))
		q->status = -EIO;
}

static void req_prepare(struct fault *f, struct fault_req *q)
{
	switch ((enum bdev_op)q->io->op) {
	case BDEV_READ:
		read_prepare(f, q);
		break;
	case BDEV_WRITE:
	case BDEV_WRITE_ZEROES:
		write_prepare(f, q);
		break;
	case BDEV_FLUSH:
		flush_prepare(f, q);
		break;
	case BDEV_DISCARD:
		/* Contents are undefined afterwards: gone or still there, as the seed has it. */
		q->step = f->below->info.discard && rng_chance(&f->rng, 0.5) ? REQ_PASS : REQ_END;
		break;
	}
}

static void req_run(struct fault_req *q);

static void delay_over(struct loop_timer *t)
{
	struct fault_req *q = container_of(t, struct fault_req, timer);

	list_del(&q->link);
	req_run(q);
}

/* Has q run later: by the poller, or by a timer. */
static void req_schedule(struct fault *f, struct fault_req *q)
{
	const struct fault_knobs *k = &f->knobs;
	uint64_t us = k->delay_us;

	if (k->delay_jitter_us)
		us += rng_below(&f->rng, k->delay_jitter_us + 1);
	q->timer.fired = delay_over;
	if (us &&
	    !loop_timer_arm(f->bdev.loop, &q->timer, loop_now(f->bdev.loop) + us * NSEC_PER_USEC)) {
		list_push(&f->delayed, &q->link);
		return;
	}
	if (us && !q->status)
		q->status = -ENOMEM; /* the timer's: a delay that was asked for is not skipped */
	list_push(&f->ready, &q->link);
}

static bool fails_now(struct fault *f, uint8_t op)
{
	return f->fail.n && (f->fail.ops_mask & OP_BIT(op)) && --f->fail.n == 0;
}

void fault_submit(struct bdev *b, struct bdev_io *io)
{
	struct fault *f = container_of(b, struct fault, bdev);
	struct fault_req *q = req_get(f);

	if (!q) {
		list_push(&f->starved, &io->link);
		return;
	}
	memset(q, 0, sizeof(*q));
	list_init(&q->link);
	q->fault = f;
	q->io = io;
	if (f->cut) {
		list_push(&f->ready, &q->link);
		return;
	}
	if (fails_now(f, io->op))
		q->status = f->fail.status;
	req_prepare(f, q);
	req_schedule(f, q);
	if (OPS_MUTATE & OP_BIT(io->op)) {
		f->mutations++;
		if (f->mutations == f->knobs.cut_after)
			fault_cut(b);
	}
}

/* --- execution --- */

static void pass_done(struct bdev_io *io)
{
	req_end(container_of(io, struct fault_req, child), io->status);
}

static void req_run(struct fault_req *q)
{
	struct fault *f = q->fault;

	/* A write that fails may still have put something into the cache: if that may not stay
	 * there its job is done all the same. */
	if (f->cut || q->step == REQ_END || (q->status && !q->write)) {
		if (!f->cut && q->io->op == BDEV_FLUSH)
			flush_failed(f, q->flush_seq);
		req_end(q, 0);
	} else if (q->step == REQ_JOB) {
		job_queue(q);
	} else if (q->step == REQ_READ) {
		read_start(q);
	} else {
		child_submit(q, pass_done);
	}
}

int fault_poll(struct loop_poller *p)
{
	struct fault *f = container_of(p, struct fault, poller);
	struct list batch, starved;
	struct list *n;
	int count = 0;

	list_init(&batch);
	list_init(&starved);
	list_splice(&batch, &f->ready);
	list_splice(&starved, &f->starved);
	while ((n = list_pop(&batch))) {
		req_run(list_entry(n, struct fault_req, link));
		count++;
	}
	while ((n = list_pop(&starved))) {
		bdev_done(&f->bdev, list_entry(n, struct bdev_io, link), -ENOMEM);
		count++;
	}
	return count;
}

bool fault_may_sleep(struct loop_poller *p)
{
	struct fault *f = container_of(p, struct fault, poller);

	return list_empty(&f->ready) && list_empty(&f->starved);
}
