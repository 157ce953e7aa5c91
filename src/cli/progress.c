/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * progress - see progress.h.
 */
#include "cli/progress.h"

#include <inttypes.h>
#include <unistd.h>

#include "base/base.h"

#define TICK_TTY_NS  (200 * NSEC_PER_MSEC)
#define TICK_PIPE_NS (2 * NSEC_PER_SEC)
#define BAR_CELLS    20

void progress_start(struct progress *p, struct cli *cli, const char *verb)
{
	p->verb = verb;
	p->tty = isatty(STDERR_FILENO);
	p->on = !cli->quiet && (p->tty || cli->progress);
	p->start_ns = p->last_ns = clock_mono_ns();
}

static void format_time(uint64_t s, char *buf, size_t len)
{
	if (s < 3600)
		snprintf(buf, len, "%" PRIu64 ":%02" PRIu64, s / 60, s % 60);
	else
		snprintf(buf, len, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, s / 3600, s / 60 % 60,
		         s % 60);
}

static void bar(double part, char buf[BAR_CELLS + 1])
{
	for (int i = 0; i < BAR_CELLS; i++)
		buf[i] = i < (int)(part * BAR_CELLS) ? '#' : '.';
	buf[BAR_CELLS] = 0;
}

static void show(struct progress *p, uint64_t now)
{
	uint64_t total = p->total_bytes, items = p->total_items;
	double seconds = (double)(now - p->start_ns) / 1e9, part = 0;
	char done[32], all[32], rate[32], eta[32], cells[BAR_CELLS + 1];

	if (seconds <= 0)
		return;
	format_size(p->done_bytes, done, sizeof(done));
	format_size((uint64_t)((double)p->done_bytes / seconds), rate, sizeof(rate));
	fprintf(stderr, "%s%s ", p->tty ? "\r\033[K" : "", p->verb);
	if (total || items) {
		part = total ? (double)p->done_bytes / (double)total
		             : (double)p->done_items / (double)items;
		part = MIN(part, 1.0);
		bar(part, cells);
		format_time(part > 0 ? (uint64_t)(seconds / part - seconds) : 0, eta, sizeof(eta));
		fprintf(stderr, "[%s] %3.0f %%  ", cells, 100 * part);
	}
	if (total)
		fprintf(stderr, "%s of %s  ", done, format_size(total, all, sizeof(all)));
	else if (p->done_bytes)
		fprintf(stderr, "%s  ", done);
	if (p->done_items)
		fprintf(stderr, "%" PRIu64 " files  ", p->done_items);
	if (p->done_bytes)
		fprintf(stderr, "%s/s  ", rate);
	if (p->done_items)
		fprintf(stderr, "%.0f files/s  ", (double)p->done_items / seconds);
	if (part > 0)
		fprintf(stderr, "%s left", eta);
	if (!p->tty)
		fputc('\n', stderr);
	p->shown = true;
}

void progress_tick(struct progress *p)
{
	uint64_t now;

	if (!p->on)
		return;
	now = clock_mono_ns();
	if (now - p->last_ns < (p->tty ? TICK_TTY_NS : TICK_PIPE_NS))
		return;
	p->last_ns = now;
	show(p, now);
}

void progress_clear(struct progress *p)
{
	if (p->on && p->tty && p->shown)
		fputs("\r\033[K", stderr);
	p->shown = false;
}

void progress_end(struct progress *p)
{
	if (p->on && !p->tty)
		show(p, clock_mono_ns());
	progress_clear(p);
	p->on = false;
}
