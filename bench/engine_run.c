/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine_run - measured windows. A window keeps args.depth transfers under way until its time or
 * its number of ops is over and then waits for the last; its figures cover all of them. Between two
 * windows the process may stop itself, so that another program has the disk and the processors for
 * its own window of the same kind, and nothing goes on behind the engine's back meanwhile.
 */
#include <err.h>
#include <signal.h>
#include <stdio.h>

#include "base/hist.h"
#include "engine_bench.h"

static struct {
	uint64_t seed, next;
	uint64_t ops, left;
	unsigned inflight;
	bool ending;
	struct hist hist; /* ns */
} run = {.seed = 88172645463325252ull};

static double percentile_us(double p)
{
	return (double)hist_percentile(&run.hist, p) / 1e3;
}

static uint64_t pick(const struct eb *eb)
{
	if (eb->args.sequential) {
		if (run.next >= eb->total)
			run.next = 0;
		return run.next++;
	}
	run.seed ^= run.seed << 13;
	run.seed ^= run.seed >> 7;
	run.seed ^= run.seed << 17;
	return (uint64_t)(((unsigned __int128)run.seed * eb->total) >> 64);
}

static void window_next(struct eb_slot *s, uint64_t now_ns)
{
	eb_aim(s, pick(s->eb));
	if (s->eb->args.write)
		eb_stamp(s);
	s->start_ns = now_ns;
	run.inflight++;
	eb_submit(s);
}

static void window_done(struct pst_op *op)
{
	struct eb_slot *s = container_of(op, struct eb_slot, op);
	uint64_t now = clock_mono_ns();

	if (op->status)
		errx(1, "object %llu, byte %llu: %s", (unsigned long long)op->oid.lo,
		     (unsigned long long)op->off, strerror(-op->status));
	if (!s->eb->args.write)
		eb_verify(s);
	hist_add(&run.hist, now - s->start_ns);
	run.ops++;
	run.inflight--;
	if (run.left && !--run.left)
		run.ending = true;
	if (!run.ending)
		window_next(s, now);
	else if (!run.inflight)
		loop_stop(s->eb->loop);
}

static void expire(struct loop_timer *t)
{
	run.ending = true;
}

/* Its own function, and never inlined: callgrind collects from its entry to its exit. */
void eb_window(struct eb *eb);
__attribute__((noinline)) void eb_window(struct eb *eb)
{
	uint64_t now = clock_mono_ns();

	for (unsigned i = 0; i < eb->args.depth; i++)
		window_next(&eb->slots[i], now);
	if (loop_run(eb->loop) < 0)
		errx(1, "the loop stopped");
}

static void status_get(struct eb *eb, struct pst_store_status *st)
{
	struct pst_op op = {.opcode = PST_OP_STATUS, .status_out = st};

	if (store_run(eb->store, &op))
		errx(1, "no status");
}

static void report(const struct eb *eb, double wall_s, double cpu_s,
                   const struct pst_store_status *was, const struct pst_store_status *is)
{
	static const double points[] = {0.5, 0.9, 0.99, 0.999, 0.9999};
	static const char *const names[] = {"p50", "p90", "p99", "p999", "p9999"};

	(void)printf("{\"stage\": \"window\", \"ops\": %llu, \"wall_s\": %.6f, \"iops\": %.1f, "
	             "\"bytes_per_s\": %.0f, \"cpu_s\": %.6f, \"cpu_us_per_op\": %.4f",
	             (unsigned long long)run.ops, wall_s, (double)run.ops / wall_s,
	             (double)run.ops * (double)eb->bs / wall_s, cpu_s,
	             cpu_s / (double)run.ops * 1e6);
	(void)printf(", \"latency_us\": {");
	for (size_t i = 0; i < ARRAY_LEN(points); i++)
		(void)printf("\"%s\": %.2f, ", names[i], percentile_us(points[i]));
	(void)printf("\"max\": %.2f}, \"curve_us\": [", (double)run.hist.max / 1e3);
	for (unsigned i = 1; i < 100; i++)
		(void)printf("%.2f%s", percentile_us(i / 100.0), i < 99 ? "," : "");
	(void)printf("], \"csum_hits\": %llu, \"csum_misses\": %llu, \"dev_write_bytes\": %llu, "
	             "\"user_write_bytes\": %llu, \"dev_read_bytes\": %llu, \"dev_flushes\": %llu, "
	             "\"commits\": %llu, \"checkpoints\": %llu, \"index_bytes\": %llu, "
	             "\"journal_used_bytes\": %llu, \"verified\": %s}\n",
	             (unsigned long long)(is->csum_hits - was->csum_hits),
	             (unsigned long long)(is->csum_misses - was->csum_misses),
	             (unsigned long long)(is->dev_write_bytes - was->dev_write_bytes),
	             (unsigned long long)(is->user_write_bytes - was->user_write_bytes),
	             (unsigned long long)(is->dev_read_bytes - was->dev_read_bytes),
	             (unsigned long long)(is->dev_flushes - was->dev_flushes),
	             (unsigned long long)(is->commits - was->commits),
	             (unsigned long long)(is->checkpoints - was->checkpoints),
	             (unsigned long long)is->index_bytes,
	             (unsigned long long)is->journal_used_bytes, eb->args.write ? "false" : "true");
}

static void window(struct eb *eb)
{
	struct loop_timer timer = {.fired = expire};
	struct pst_store_status was, is;
	double cpu;
	uint64_t start;

	run.ops = 0;
	run.ending = false;
	run.left = eb->args.ops;
	hist_init(&run.hist);
	status_get(eb, &was);
	(void)loop_turn(eb->loop, 0); /* its clock, after a stop */
	if (!run.left && loop_timer_arm(eb->loop, &timer,
	                                clock_mono_ns() + (uint64_t)(eb->args.runtime_s * 1e9)))
		errx(1, "out of memory");
	cpu = eb_cpu_s();
	start = clock_mono_ns();
	eb_window(eb);
	start = clock_mono_ns() - start;
	cpu = eb_cpu_s() - cpu;
	loop_timer_disarm(eb->loop, &timer);
	status_get(eb, &is);
	report(eb, (double)start / 1e9, cpu, &was, &is);
}

void eb_measure(struct eb *eb)
{
	for (unsigned i = 0; i < eb->args.depth; i++) {
		struct pst_op *op = &eb->slots[i].op;

		op->opcode = eb->args.write ? PST_OP_WRITE : PST_OP_READ;
		op->flags = eb->args.volatile_writes ? PST_F_VOLATILE : 0;
		op->done = window_done;
	}
	for (unsigned i = 0; i < eb->args.windows; i++) {
		if (eb->args.pause)
			(void)raise(SIGSTOP);
		window(eb);
	}
	if (eb->args.pause)
		(void)raise(SIGSTOP);
}
