/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * perf_run - keeps the devices busy for as long as asked, and judges what comes back.
 *
 * Each thread drives its own queues. The clock is read once per batch that is sent and once per turn that
 * reaps, not per command: a latency is off by at most what one such step takes.
 *
 * With verify a block has at most one command under way, each write has a generation of its own, and
 * a read must bring the last acknowledged one. A block that this run has not written proves nothing
 * and is not counted as verified.
 */
#include "cli/bench.h"
#include "cli/perf.h"

#include <sys/resource.h>
#include <unistd.h>

#define STALL_NS (60 * NSEC_PER_SEC) /* nothing completes for so long: given up */
#define LINE_NS  (NSEC_PER_SEC / 2)

struct run {
	struct perf *perf;
	uint64_t now, start, end, progress_ns, line_ns, reset_ns;
	uint64_t done, line_done; /* line_done: of all threads */
	uint32_t generation;
	/* A pass over all blocks, in order: prepare (writes) and the last verification (reads). */
	bool pass, pass_writes;
	bool measuring, line;
	int rc;
};

static uint64_t cpu_ns(const struct timeval *t)
{
	return (uint64_t)t->tv_sec * NSEC_PER_SEC + (uint64_t)t->tv_usec * NSEC_PER_USEC;
}

/* --- what comes next --- */

static bool next_block(struct run *run, struct perf_queue *q, uint64_t *ret_block)
{
	struct perf_dev *d = q->dev;
	uint64_t part = d->blocks / run->perf->p.queues, first = part * q->index;
	uint64_t last = q->index + 1 == run->perf->p.queues ? d->blocks : first + part;

	if (run->pass) {
		while (q->next_block < last && !run->pass_writes && !d->generation[q->next_block])
			q->next_block++; /* not written by us */
		if (q->next_block >= last)
			return false;
		*ret_block = q->next_block++;
		return true;
	}
	if (run->perf->p.random) {
		*ret_block = rng_below(&run->perf->rng, d->blocks);
	} else {
		*ret_block = q->next_block;
		q->next_block = q->next_block + 1 == last ? first : q->next_block + 1;
	}
	return true;
}

static bool is_write(struct run *run)
{
	const struct perf_params *p = &run->perf->p;

	if (run->pass)
		return run->pass_writes;
	if (p->reads && p->writes)
		return rng_below(&run->perf->rng, 100) >= p->mix;
	return p->writes;
}

static uint64_t off_of(const struct perf_req *r)
{
	const struct perf_dev *d = r->q->dev;

	return (d->first + r->block) * d->perf->p.iosize;
}

/* Fills in the request; false when there is nothing more to do now. */
static bool prepare(struct run *run, struct perf_queue *q, struct perf_req *r)
{
	const struct perf_params *p = &run->perf->p;
	struct perf_dev *d = q->dev;

	do {
		if (!next_block(run, q, &r->block))
			return false;
	} while (d->busy && d->busy[r->block]); /* twice as many blocks as commands: it ends */
	r->write = is_write(run);
	if (d->busy)
		d->busy[r->block] = 1;
	if (r->write) {
		r->generation = ++run->generation ? run->generation : ++run->generation;
		bench_fill(r->buf, p->iosize, d->index, off_of(r), r->generation);
	}
	return true;
}

/* Commands that the rate allows now: each queue has its share. */
static unsigned allowance(const struct run *run, const struct perf_queue *q)
{
	const struct perf *perf = run->perf;
	double share = (double)perf->p.rate / (double)(perf->dev_count * perf->p.queues);
	uint64_t due;

	if (!perf->p.rate || !run->measuring)
		return UINT32_MAX;
	due = (uint64_t)((double)(run->now - run->start) / 1e9 * share) + 1;
	return due > q->issued ? (unsigned)MIN(due - q->issued, UINT32_MAX) : 0;
}

static void submit(struct run *run, struct perf_queue *q)
{
	const struct perf_params *p = &run->perf->p;
	unsigned left = MIN(q->ready_count, allowance(run, q));

	/* Whole batches, unless there is nothing else to wait for. */
	if (left < p->batch && q->inflight && !p->rate)
		return;
	while (left) {
		unsigned n = 0, count = MIN(left, (unsigned)p->batch), sent;

		/* The last ones of q->ready are sent, last first. */
		while (n < count && prepare(run, q, q->ready[q->ready_count - 1 - n]))
			n++;
		run->now = clock_mono_ns();
		for (unsigned i = 0; i < n; i++)
			q->ready[q->ready_count - 1 - i]->start_ns = run->now;
		sent = n ? perf_send(q, n) : 0;
		run->perf->issued += sent;
		q->issued += run->measuring ? sent : 0;
		/* What did not go (a controller that is being reset) is made anew later. */
		for (unsigned i = 0; i < n - sent; i++)
			if (q->dev->busy)
				q->dev->busy[q->ready[q->ready_count - 1 - i]->block] = 0;
		if (sent < count)
			return;
		left -= sent;
	}
}

/* --- what came back --- */

static void judge(struct run *run, struct perf_req *r)
{
	struct perf_dev *d = r->q->dev;
	uint64_t off = off_of(r);
	uint32_t want = d->generation ? d->generation[r->block] : 0, got = 0;

	if (!want)
		return;
	run->perf->verified++;
	if (bench_check(r->buf, run->perf->p.iosize, d->index, off, &got) && got == want)
		return;
	if (run->perf->verify_errors++ < 10)
		cli_fail(run->perf->cli, 0, "%s: wrong data at byte %llu", d->name,
		         (unsigned long long)off);
}

static void complete(struct run *run, struct perf_req *r)
{
	struct perf_queue *q = r->q;
	struct perf_dev *d = q->dev;

	q->inflight--;
	if (r->status == -EAGAIN || r->status == -ETIMEDOUT) {
		/* As any host would: once more. The block stays its own, a read reads anew. */
		q->retries++;
		q->ready[q->ready_count++] = r;
		run->perf->issued += perf_send(q, 1);
		if (q->ready_count && q->ready[q->ready_count - 1] == r && d->busy)
			d->busy[r->block] = 0; /* its queue is stopped: another block later */
		if (q->ready_count && q->ready[q->ready_count - 1] == r && r->write &&
		    d->generation)
			d->generation[r->block] = 0; /* written or not: nobody knows */
		return;
	}
	if (r->status && run->perf->errors++ < 10)
		cli_fail(run->perf->cli, r->status, "%s: byte %llu", d->name,
		         (unsigned long long)off_of(r));
	if (d->generation && r->write)
		d->generation[r->block] = r->status ? 0 : r->generation;
	else if (!r->status)
		judge(run, r);
	if (d->busy)
		d->busy[r->block] = 0;
	if (run->measuring && !r->status)
		hist_add(r->write ? &q->write_lat : &q->read_lat, run->now - r->start_ns);
	run->done++;
	q->ready[q->ready_count++] = r;
}

static void receive(struct run *run, struct perf_dev *d)
{
	for (unsigned i = 0; i < run->perf->p.queues; i++) {
		struct perf_queue *q = &d->queues[i];
		unsigned n = q->came_count;

		q->came_count = 0; /* nothing arrives while these are looked at */
		if (n)
			run->progress_ns = run->now;
		for (unsigned k = 0; k < n; k++)
			complete(run, q->came[k]);
	}
}

/* --- the turns --- */

static void live_line(struct run *run)
{
	const struct perf_all *all = run->perf->all;
	double s = (double)(run->now - run->line_ns) / 1e9, iops;
	uint64_t done = 0;
	char rate[32];

	atomic_store_explicit(&run->perf->done, run->done, memory_order_relaxed);
	if (!run->line || run->now - run->line_ns < LINE_NS)
		return;
	for (unsigned i = 0; i < all->threads; i++)
		done += atomic_load_explicit(&all->perf[i].done, memory_order_relaxed);
	iops = (double)(done - run->line_done) / s;
	format_size((uint64_t)(iops * (double)run->perf->p.iosize), rate, sizeof(rate));
	fprintf(stderr, "%s%.0f s of %.0f  %.0f IOPS  %s/s%s",
	        isatty(STDERR_FILENO) ? "\r\033[K" : "", (double)(run->now - run->start) / 1e9,
	        run->perf->p.runtime_s, iops, rate, isatty(STDERR_FILENO) ? "" : "\n");
	run->line_ns = run->now;
	run->line_done = done;
}

static unsigned inflight(const struct perf *perf)
{
	unsigned n = 0;

	for (unsigned d = 0; d < perf->dev_count; d++)
		for (unsigned i = 0; i < perf->p.queues; i++)
			n += perf->devs[d].queues[i].inflight;
	return n;
}

/* One turn over all devices. @more: submit, too. */
static void turn(struct run *run, bool more)
{
	struct perf *perf = run->perf;

	for (unsigned n = 0; n < perf->dev_count && !run->rc; n++) {
		struct perf_dev *d = &perf->devs[n];

		for (unsigned i = 0; more && i < perf->p.queues; i++)
			submit(run, &d->queues[i]);
		run->rc = perf_poll(perf, d);
		run->now = clock_mono_ns();
		receive(run, d);
	}
	live_line(run);
	if (run->now - run->progress_ns > STALL_NS && inflight(perf))
		run->rc = -ETIMEDOUT;
	if (perf->errors > 1000 || perf->verify_errors > 1000)
		run->rc = -EIO;
}

static void drain(struct run *run)
{
	run->progress_ns = run->now = clock_mono_ns();
	while (inflight(run->perf) && !run->rc)
		turn(run, false);
}

/* When it is time, with whatever is under way. */
static void reset_now_and_then(struct run *run)
{
	struct perf *perf = run->perf;

	if (!perf->p.reset_ms || run->now < run->reset_ns)
		return;
	run->reset_ns = run->now + perf->p.reset_ms * NSEC_PER_MSEC;
	for (unsigned n = 0; n < perf->dev_count; n++)
		perf_dev_reset(&perf->devs[n]);
}

static int measure(struct run *run)
{
	struct perf *perf = run->perf;
	struct perf_all *all = perf->all;
	struct rusage before, after;

	run->measuring = true;
	getrusage(RUSAGE_SELF, &before);
	run->now = run->start = run->line_ns = run->progress_ns = clock_mono_ns();
	run->end = run->start + (uint64_t)(perf->p.runtime_s * 1e9);
	run->reset_ns = run->start + perf->p.reset_ms * NSEC_PER_MSEC;
	cli_measuring(true);
	while (run->now < run->end && !run->rc && !cli_cut_short()) {
		turn(run, true);
		reset_now_and_then(run);
	}
	cli_measuring(false);
	getrusage(RUSAGE_SELF, &after);
	perf->seconds = (double)(run->now - run->start) / 1e9;
	if (!perf->thread) { /* the process's, while all of them measured */
		all->cpu_user_s =
		        (double)(cpu_ns(&after.ru_utime) - cpu_ns(&before.ru_utime)) / 1e9;
		all->cpu_sys_s = (double)(cpu_ns(&after.ru_stime) - cpu_ns(&before.ru_stime)) / 1e9;
	}
	run->measuring = false; /* what is still under way does not count */
	if (run->line && isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
	run->line = false;
	if (!run->rc)
		drain(run);
	for (unsigned n = 0; n < perf->dev_count; n++)
		perf->resets += perf_dev_resets(&perf->devs[n]);
	return run->rc;
}

/* Lets what is under way end. A device that keeps commands for ever also keeps their memory, so
 * that there is nothing left but to stop at once. */
static void give_up(struct run *run)
{
	uint64_t until = clock_mono_ns() + STALL_NS / 6;

	while (inflight(run->perf) && run->now < until) {
		run->rc = 0;
		turn(run, false);
	}
	if (inflight(run->perf)) {
		cli_fail(run->perf->cli, 0, "commands never came back");
		_exit(CLI_FAILED);
	}
}

/* All blocks in order: each written (prepare), or each that was written read again (verify). */
static int pass(struct run *run, bool writes, uint64_t *ret_bytes)
{
	struct perf *perf = run->perf;
	uint64_t before = run->done, sent;
	unsigned waiting;

	run->pass = true;
	run->pass_writes = writes;
	for (unsigned n = 0; n < perf->dev_count; n++)
		for (unsigned i = 0; i < perf->p.queues; i++)
			perf->devs[n].queues[i].next_block =
			        perf->devs[n].blocks / perf->p.queues * i;
	run->now = run->progress_ns = clock_mono_ns();
	do {
		sent = perf->issued;
		waiting = inflight(perf);
		turn(run, true);
		/* Over when a turn that waited for nothing found nothing to send. */
	} while ((perf->issued != sent || waiting) && !run->rc);
	for (unsigned n = 0; n < perf->dev_count; n++)
		for (unsigned i = 0; i < perf->p.queues; i++)
			perf->devs[n].queues[i].next_block =
			        perf->devs[n].blocks / perf->p.queues * i;
	run->pass = false;
	*ret_bytes = (run->done - before) * perf->p.iosize;
	return run->rc;
}

/* The beginning of a device that is to be written: empty, or --force. */
static int guard(struct perf *perf, struct perf_dev *d)
{
	struct perf_queue *q = &d->queues[0];
	struct perf_req *r = q->ready[q->ready_count - 1];
	uint8_t set = 0;

	r->block = 0;
	r->write = false;
	memset(r->buf, 0, perf->p.iosize);
	if (perf_send(q, 1) != 1)
		return cli_fail(perf->cli, -EBUSY, "%s", d->name);
	while (!q->came_count)
		if (perf_poll(perf, d))
			return cli_fail(perf->cli, -ENODEV, "%s", d->name);
	q->came_count = 0;
	q->inflight--;
	q->ready[q->ready_count++] = r;
	if (r->status)
		return cli_fail(perf->cli, r->status, "%s: reading its beginning", d->name);
	for (size_t i = 0; i < perf->p.iosize; i++)
		set |= r->buf[i];
	if (!set)
		return CLI_OK;
	return cli_fail(perf->cli, 0, "%s holds data, which this would overwrite: --force",
	                d->name);
}

static bool guard_all(struct perf *perf)
{
	const struct perf_params *p = &perf->p;

	for (unsigned n = 0; n < perf->dev_count; n++)
		if ((p->writes || p->prepare) && !p->force && guard(perf, &perf->devs[n]) != CLI_OK)
			return false;
	return true;
}

bool perf_meet(struct perf *perf, bool ok)
{
	struct perf_all *all = perf->all;

	if (!ok)
		atomic_store(&all->failed, true);
	if (all->threads > 1)
		pthread_barrier_wait(&all->meeting);
	ok = !atomic_load(&all->failed);
	/* Once more, so that no failure of later on is taken for one of now. */
	if (all->threads > 1)
		pthread_barrier_wait(&all->meeting);
	return ok;
}

int perf_run(struct perf *perf)
{
	const struct perf_params *p = &perf->p;
	struct run run = {.perf = perf};
	int rc = 0;

	run.line = !perf->thread && !perf->cli->quiet &&
	           (isatty(STDERR_FILENO) || perf->cli->progress);
	rng_seed(&perf->rng, p->seed + perf->thread);
	/* All look before anybody writes. */
	if (!perf_meet(perf, guard_all(perf)))
		return CLI_FAILED;
	if (p->prepare)
		rc = pass(&run, true, &perf->prepared_bytes);
	perf->issued = 0;
	if (!perf_meet(perf, !rc) && !rc)
		return CLI_FAILED;
	run.line_done = 0;
	for (unsigned i = 0; i < perf->all->threads; i++)
		run.line_done += atomic_load(&perf->all->perf[i].done);
	if (!rc)
		rc = measure(&run);
	if (!rc && p->verify)
		rc = pass(&run, false, &perf->checked_bytes);
	if (rc) {
		give_up(&run);
		return cli_fail(perf->cli, rc, "the run was given up");
	}
	return perf->errors || perf->verify_errors ? CLI_FAILED : CLI_OK;
}
