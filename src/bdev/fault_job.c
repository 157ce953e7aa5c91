/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What leaves the fault device's cache for the device below: by a flush, by a write that must be
 * durable at once, at close, and at a power cut. One job at a time, so that no two requests below
 * overlap; it allocates nothing, so that it can't fail half way for want of memory.
 */
#include "bdev/fault_int.h"

static void job_next(struct fault *f);

bool job_busy(const struct fault *f)
{
	return f->job.active;
}

/* --- writing the chosen versions below --- */

/* Moves the cursor to the next chosen version; false when there is none. */
static bool cursor_find(struct fault *f)
{
	struct fault_job *j = &f->job;

	while (j->at) {
		for (; j->at_index < j->at->count; j->at_index++) {
			if (j->at->versions[j->at_index].chosen)
				return true;
		}
		j->at = j->at->link.next == &f->cache.writes
		                ? NULL
		                : list_first(&j->at->link, struct cache_write, link);
		j->at_index = 0;
	}
	return false;
}

static void child_done(struct bdev_io *io);

/* Writes the run of adjacent chosen versions at the cursor, and moves behind it. */
static void child_submit(struct fault *f)
{
	struct fault_job *j = &f->job;
	struct job_child *c = j->spare[--j->spare_count];
	struct cache_write *w = j->at;
	uint32_t first = j->at_index, bb = f->cache.block_bytes;
	uint64_t len;

	while (j->at_index < w->count && w->versions[j->at_index].chosen)
		j->at_index++;
	len = (uint64_t)(j->at_index - first) * bb;
	c->fault = f;
	c->io = (struct bdev_io){.op = w->data ? BDEV_WRITE : BDEV_WRITE_ZEROES,
	                         .flags = w->data ? j->flags : 0,
	                         .off_bytes = (w->block + first) * bb,
	                         .len_bytes = len,
	                         .done = child_done};
	if (w->data) {
		c->iov.iov_base = w->data + (size_t)first * bb;
		c->iov.iov_len = len;
		c->io.iov = &c->iov;
		c->io.iov_count = 1;
	}
	j->inflight++;
	bdev_submit(f->below, &c->io);
}

static void job_advance(struct fault *f)
{
	struct fault_job *j = &f->job;

	while (!j->status && j->spare_count && cursor_find(f))
		child_submit(f);
	if (!j->inflight)
		j->written(f, j->status);
}

static void child_done(struct bdev_io *io)
{
	struct job_child *c = container_of(io, struct job_child, io);
	struct fault_job *j = &c->fault->job;

	j->spare[j->spare_count++] = c;
	j->inflight--;
	if (io->status && !j->status)
		j->status = io->status;
	job_advance(c->fault);
}

static void job_write(struct fault *f, struct fault_req *q, uint32_t flags,
                      void (*written)(struct fault *f, int status))
{
	struct fault_job *j = &f->job;

	cache_settle(&f->cache);
	j->active = true;
	j->req = q;
	j->written = written;
	j->flags = flags;
	j->status = 0;
	j->at = cache_is_empty(&f->cache) ? NULL
	                                  : list_first(&f->cache.writes, struct cache_write, link);
	j->at_index = 0;
	j->spare_count = 0;
	for (unsigned i = 0; i < JOB_DEPTH; i++)
		j->spare[j->spare_count++] = &j->child[i];
	job_advance(f);
}

static void choose_write(struct cache_write *w)
{
	w->in_job = true;
	for (uint32_t i = 0; i < w->count; i++)
		w->versions[i].chosen = w->versions[i].live;
}

/* --- the power cut --- */

static void cut_written(struct fault *f, int status)
{
	f->job.active = false;
	f->cut_applied = true;
	if (status)
		log_warn("%s: what survived the power cut could not be written: error %d",
		         f->bdev.info.name, status);
}

/*
 * Each write is kept, lost or torn by itself. How kindly is drawn first: between losing nothing and
 * losing all, so that the extremes are seen as well as the mixtures.
 */
static void cut_choose(struct fault *f)
{
	static const double moods[] = {0.0, 0.1, 0.5, 0.5, 0.9, 1.0};
	double keep = moods[rng_below(&f->rng, ARRAY_LEN(moods))];
	struct cache_write *w;

	list_for_each (w, &f->cache.writes, link) {
		bool whole = rng_chance(&f->rng, 0.75), kept = rng_chance(&f->rng, keep);

		for (uint32_t i = 0; i < w->count && !w->doomed; i++) {
			if (!whole)
				kept = rng_chance(&f->rng, keep);
			w->versions[i].chosen = w->versions[i].live && kept;
		}
	}
}

static void cut_apply(struct fault *f)
{
	cache_cancel_job(&f->cache);
	cut_choose(f);
	job_write(f, NULL, 0, cut_written);
}

void fault_cut(struct bdev *b)
{
	struct fault *f = container_of(b, struct fault, bdev);

	loop_assert(b->loop);
	if (f->cut)
		return;
	f->cut = true;
	while (!list_empty(&f->delayed)) {
		struct fault_req *q = list_first(&f->delayed, struct fault_req, link);

		loop_timer_disarm(b->loop, &q->timer);
		list_del(&q->link);
		list_push(&f->ready, &q->link);
	}
	list_splice(&f->ready, &f->jobs);
	if (!f->job.active)
		cut_apply(f);
	else if (!f->job.status)
		f->job.status = -EREMOTEIO; /* what it has not yet sent below stays undecided */
}

/* --- jobs --- */

/* The active job is over. */
static void job_end(struct fault *f, int status)
{
	struct fault_req *q = f->job.req;

	f->job.active = false;
	if (f->cut)
		cut_apply(f);
	else if (status)
		cache_cancel_job(&f->cache);
	else
		cache_drop_job(&f->cache);
	if (q)
		req_end(q, status);
	job_next(f);
}

static void flush_below_done(struct bdev_io *io)
{
	struct fault_req *q = container_of(io, struct fault_req, child);

	job_end(q->fault, io->status);
}

static void flush_written(struct fault *f, int status)
{
	struct fault_req *q = f->job.req;

	if (status || f->cut) {
		job_end(f, status);
		return;
	}
	q->child = (struct bdev_io){.op = BDEV_FLUSH, .done = flush_below_done};
	bdev_submit(f->below, &q->child);
}

static void flush_start(struct fault *f, struct fault_req *q)
{
	struct cache_write *w;

	list_for_each (w, &f->cache.writes, link) {
		if (w->done_seq && w->done_seq <= q->flush_seq && !w->doomed)
			choose_write(w);
	}
	job_write(f, q, 0, flush_written);
}

static void job_next(struct fault *f)
{
	struct list *n;
	struct fault_req *q;

	if (f->job.active)
		return;
	n = list_pop(&f->jobs);
	if (!n)
		return;
	q = list_entry(n, struct fault_req, link);
	if (q->io->op == BDEV_FLUSH) {
		flush_start(f, q);
	} else {
		choose_write(q->write);
		job_write(f, q, q->io->flags & BDEV_FUA, job_end);
	}
}

void job_queue(struct fault_req *q)
{
	list_push(&q->fault->jobs, &q->link);
	job_next(q->fault);
}

void job_drain(struct fault *f)
{
	struct cache_write *w;

	list_for_each (w, &f->cache.writes, link) {
		if (!w->doomed)
			choose_write(w);
	}
	job_write(f, NULL, 0, job_end);
}

/*
 * A device that fails a flush may have dropped what it held, and a second flush that succeeds says
 * nothing about it: half of the covered writes, by the seed, will never be stored.
 */
void flush_failed(struct fault *f, uint64_t flush_seq)
{
	struct cache_write *w;

	list_for_each (w, &f->cache.writes, link) {
		if (w->done_seq && w->done_seq <= flush_seq && !w->in_job)
			w->doomed |= rng_chance(&f->rng, 0.5);
	}
}
