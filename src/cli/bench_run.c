/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_run - the measured part: p.jobs streams of p.depth calls each, all driven from this thread.
 *
 * Times are read once after each poll: completions of one poll end at that time, and the calls that
 * follow begin at it. No two writes are under way to the same block, so that afterwards every block
 * must hold the last write that was acknowledged; a read next to a write must see one of the two,
 * whole.
 */
#include <errno.h>
#include <inttypes.h>
#include <sys/resource.h>

#include "base/base.h"
#include "cli/bench.h"

#define EVENTS_MAX 128

struct stream {
	struct rng rng;
	uint64_t first, count, next; /* its blocks */
};

struct slot {
	struct stream *stream;
	char *buf;
	uint64_t block, start_ns;
	uint32_t generation;
	bool write;
};

struct run {
	struct bench *b;
	struct stream *streams;
	struct slot *slots;
	unsigned slot_count;
	uint64_t now_ns, end_ns, left; /* left: calls that may still be made */
	uint32_t *issued; /* generation of the last write that was begun, for each block */
	int rc;
	uint64_t bad_block;
	const char *wrong; /* what is, of data that is not what it should be */
};

static uint64_t pick_block(struct run *run, struct stream *s, bool write)
{
	uint64_t at = run->b->p.random ? rng_below(&s->rng, s->count) : s->next++ % s->count;

	/* The next that no write is under way to; there are more blocks than slots. */
	for (uint64_t i = 0; write && run->b->busy[s->first + at] && i < s->count; i++)
		at = (at + 1) % s->count;
	return s->first + at;
}

static int issue(struct run *run, struct slot *slot)
{
	struct bench *b = run->b;
	struct stream *s = slot->stream;
	uint64_t object, off;
	int rc;

	slot->write = b->p.writes && (!b->p.reads || rng_below(&s->rng, 100) >= b->p.read_percent);
	slot->block = pick_block(run, s, slot->write);
	object = slot->block / b->blocks_per_object;
	off = slot->block % b->blocks_per_object * b->p.bs;
	slot->start_ns = run->now_ns;
	run->left--;
	if (slot->write) {
		slot->generation = ++run->issued[slot->block];
		b->busy[slot->block] = 1;
		bench_fill(slot->buf, b->p.bs, object, off, slot->generation);
		rc = pst_obj_write_async(b->cont, bench_oid(object), slot->buf, b->p.bs, off,
		                         b->p.is_volatile ? PST_F_VOLATILE : 0, b->cq, slot);
	} else {
		slot->generation = b->generation[slot->block];
		rc = pst_obj_read_async(b->cont, bench_oid(object), slot->buf, b->p.bs, off,
		                        b->p.no_checksum ? PST_F_NOVERIFY : 0, b->cq, slot);
	}
	if (rc < 0 && run->rc == 0) {
		run->rc = rc;
		run->bad_block = slot->block;
	}
	return rc;
}

/* A read sees the last write acknowledged before it began, or a later one. */
static int check_read(struct run *run, const struct slot *slot, const struct pst_event *e)
{
	struct bench *b = run->b;
	uint64_t object = slot->block / b->blocks_per_object;
	uint64_t off = slot->block % b->blocks_per_object * b->p.bs;
	uint32_t generation;

	if (e->len != b->p.bs) {
		run->wrong = "too little of it";
		return -EILSEQ;
	}
	if (!b->p.verify)
		return 0;
	b->r->verified_ops++;
	if (!bench_check(slot->buf, b->p.bs, object, off, &generation) ||
	    generation < slot->generation || generation > run->issued[slot->block]) {
		run->wrong = run->wrong ? run->wrong : bench_wrong(slot->buf, b->p.bs, object, off);
		return -EILSEQ;
	}
	return 0;
}

static void completed(struct run *run, struct slot *slot, const struct pst_event *e)
{
	struct bench *b = run->b;
	uint64_t lat = run->now_ns - slot->start_ns;
	int rc = e->status;

	if (slot->write) {
		b->busy[slot->block] = 0;
		if (rc == 0)
			b->generation[slot->block] = slot->generation;
		hist_add(&b->r->write_lat, lat);
		b->r->writes++;
	} else {
		if (rc == 0)
			rc = check_read(run, slot, e);
		hist_add(&b->r->read_lat, lat);
		b->r->reads++;
	}
	if (rc < 0) {
		b->r->errors++;
		if (run->rc == 0) {
			run->rc = rc;
			run->bad_block = slot->block;
		}
	}
}

/* Not inlined: callgrind counts from here (--toggle-collect=bench_loop). */
__attribute__((noinline)) static void bench_loop(struct run *run)
{
	struct pst_event e[EVENTS_MAX];
	struct bench *b = run->b;

	run->now_ns = clock_mono_ns();
	run->end_ns = run->now_ns + (uint64_t)(b->p.runtime_s * 1e9);
	for (unsigned i = 0; i < run->slot_count && run->rc == 0 && run->left; i++)
		issue(run, &run->slots[i]);
	while (pst_cq_pending(b->cq) > 0) {
		int n = pst_cq_poll(b->cq, e, EVENTS_MAX, b->p.poll ? 0 : UINT64_MAX);

		pst_assert(n >= 0);
		run->now_ns = clock_mono_ns();
		for (int i = 0; i < n; i++) {
			struct slot *slot = e[i].user_data;

			completed(run, slot, &e[i]);
			if (run->now_ns < run->end_ns && run->rc == 0 && run->left)
				issue(run, slot);
		}
		if (unlikely(cli_cut_short()))
			run->end_ns = 0;
		progress_tick(&b->progress);
	}
}

static double seconds_of(struct timeval a, struct timeval b)
{
	return (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_usec - a.tv_usec) / 1e6;
}

/* What was written volatile counts when it is durable: the flush is in the time. */
static int timed(struct run *run)
{
	struct bench *b = run->b;
	struct rusage before, after;
	uint64_t start = clock_mono_ns();
	int rc = 0;

	getrusage(RUSAGE_SELF, &before);
	bench_loop(run);
	if (b->p.writes && b->p.is_volatile)
		rc = pst_cont_flush(b->cont);
	getrusage(RUSAGE_SELF, &after);
	b->r->seconds = (double)(clock_mono_ns() - start) / 1e9;
	b->r->cpu_user_s = seconds_of(before.ru_utime, after.ru_utime);
	b->r->cpu_sys_s = seconds_of(before.ru_stime, after.ru_stime);
	return rc;
}

static int run_alloc(struct run *run)
{
	struct bench *b = run->b;
	uint64_t share = b->blocks / b->p.jobs;

	run->slot_count = (unsigned)(b->p.jobs * b->p.depth);
	run->streams = mem_calloc(b->p.jobs, sizeof(*run->streams));
	run->slots = mem_calloc(run->slot_count, sizeof(*run->slots));
	run->issued = mem_alloc(b->blocks * sizeof(*run->issued));
	if (!run->streams || !run->slots || !run->issued)
		return -ENOMEM;
	memcpy(run->issued, b->generation, b->blocks * sizeof(*run->issued));
	for (unsigned j = 0; j < b->p.jobs; j++) {
		struct stream *s = &run->streams[j];

		rng_seed(&s->rng, b->p.seed + 1000003ull * (j + 1));
		s->first = b->p.random ? 0 : j * share;
		s->count = b->p.random ? b->blocks : share;
	}
	for (unsigned i = 0; i < run->slot_count; i++) {
		run->slots[i].stream = &run->streams[i % b->p.jobs];
		run->slots[i].buf = b->memory + (uint64_t)i * b->p.bs;
	}
	return 0;
}

int bench_measure(struct bench *b)
{
	struct run run = {.b = b, .left = b->p.ops_max ? b->p.ops_max : UINT64_MAX};
	int rc = run_alloc(&run), status = CLI_OK;

	hist_init(&b->r->read_lat);
	hist_init(&b->r->write_lat);
	b->progress = (struct progress){0};
	cli_measuring(true);
	progress_start(&b->progress, b->cli, "measuring");
	if (rc == 0)
		rc = timed(&run);
	progress_end(&b->progress);
	cli_measuring(false);
	if (rc < 0)
		status = cli_fail(b->cli, rc, "measuring");
	else if (run.rc == -EILSEQ && run.wrong)
		status = cli_fail(b->cli, 0,
		                  "object %" PRIu64 ", byte %" PRIu64 ": wrong data was read: %s",
		                  run.bad_block / b->blocks_per_object,
		                  run.bad_block % b->blocks_per_object * b->p.bs, run.wrong);
	else if (run.rc < 0)
		status = cli_fail(b->cli, run.rc, "object %" PRIu64 ", byte %" PRIu64,
		                  run.bad_block / b->blocks_per_object,
		                  run.bad_block % b->blocks_per_object * b->p.bs);
	b->r->ops = b->r->reads + b->r->writes;
	b->r->bytes = b->r->ops * b->p.bs;
	b->r->lat = b->r->read_lat;
	hist_merge(&b->r->lat, &b->r->write_lat);
	mem_free(run.streams);
	mem_free(run.slots);
	mem_free(run.issued);
	return status;
}
