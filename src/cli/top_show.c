/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * top_show - two samples as a screen, and as JSON.
 */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "cli/cli.h"
#include "cli/top.h"

#define LINE_MAX_BYTES 512

struct screen {
	FILE *out;
	unsigned columns, rows, row; /* rows 0: no end */
	const char *eol;
};

static void line(struct screen *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Cut to the screen's width, between characters. */
static void line(struct screen *s, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES];
	va_list ap;
	size_t end = 0;
	unsigned column = 0;

	if (s->rows && s->row + 1 >= s->rows)
		return;
	s->row++;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (; text[end]; end++) {
		column += ((unsigned char)text[end] & 0xc0) != 0x80;
		if (s->columns && column > s->columns)
			break;
	}
	(void)fprintf(s->out, "%.*s%s", (int)end, text, s->eol);
}

static bool room(const struct screen *s, unsigned lines)
{
	return !s->rows || s->row + lines < s->rows;
}

/* Up to @floor nothing is known but that. */
static const char *duration(double seconds, double floor, char buf[16])
{
	if (seconds <= 0)
		(void)snprintf(buf, 16, "-");
	else if (seconds <= floor)
		(void)snprintf(buf, 16, "<%.0f us", floor * 1e6);
	else if (seconds < 1e-3)
		(void)snprintf(buf, 16, "%.0f us", seconds * 1e6);
	else if (seconds < 1)
		(void)snprintf(buf, 16, "%.2f ms", seconds * 1e3);
	else
		(void)snprintf(buf, 16, "%.2f s", seconds);
	return buf;
}

static const char *size(double bytes, char buf[32])
{
	return format_size(bytes > 0 ? (uint64_t)bytes : 0, buf, 32);
}

static const struct top_op *op_before(const struct top_sample *a, unsigned i)
{
	static const struct top_op none;

	return i < a->ops ? &a->op[i] : &none;
}

static const struct top_tenant *tenant_before(const struct top_sample *a, const char *id)
{
	static const struct top_tenant none;

	for (unsigned i = 0; i < a->tenants; i++)
		if (!strcmp(a->tenant[i].id, id))
			return &a->tenant[i];
	return &none;
}

/* By which a figure of reactor @i grew in a second. */
static double reactor_rate(const struct top_sample *a, unsigned i, const double *was,
                           const double *is, double seconds)
{
	return top_rate(i < a->reactors ? was[i] : 0, is[i], seconds);
}

static double reactor_load(const struct top_sample *a, const struct top_sample *b, unsigned i,
                           double seconds)
{
	return reactor_rate(a, i, a->reactor_cpu, b->reactor_cpu, seconds);
}

static double reactor_busy(const struct top_sample *a, const struct top_sample *b, unsigned i,
                           double seconds)
{
	return reactor_rate(a, i, a->reactor_busy, b->reactor_busy, seconds);
}

static double reactor_ops(const struct top_sample *a, const struct top_sample *b, unsigned i,
                          double seconds)
{
	return reactor_rate(a, i, a->reactor_ops, b->reactor_ops, seconds);
}

static void show_head(struct screen *s, const char *store, const struct top_sample *a,
                      const struct top_sample *b, double seconds)
{
	double count = 0, in = 0, out = 0, errors = 0;
	unsigned up = (unsigned)b->uptime_s;
	char t[4][32], name[128];

	for (unsigned i = 0; i < b->ops; i++) {
		const struct top_op *was = op_before(a, i);

		count += top_rate(was->count, b->op[i].count, seconds);
		errors += top_rate(was->errors, b->op[i].errors, seconds);
		in += top_rate(was->in, b->op[i].in, seconds);
		out += top_rate(was->out, b->op[i].out, seconds);
	}
	line(s, "%s   up %ud %02u:%02u:%02u   %.0f sessions   connections: %s",
	     cli_name(store, name, sizeof(name)), up / 86400, up / 3600 % 24, up / 60 % 60, up % 60,
	     b->sessions, b->channels[0] ? b->channels : "none");
	line(s,
	     "requests  %.0f/s, %.0f errors/s; %.0f in flight, %.0f queued, %.0f wait for memory",
	     count, errors, b->inflight, b->queued, b->mem_waiting);
	line(s, "payload   %s/s in, %s/s out", size(in, t[0]), size(out, t[1]));
	line(s, "store     %s%s of %s used, index %s of %s, journal %.0f %%%s",
	     b->store_up > 0 ? "" : "STOPPED, ", size(b->used, t[0]), size(b->size, t[1]),
	     size(b->index, t[2]), size(b->index_limit, t[3]),
	     b->journal > 0 ? 100 * b->journal_used / b->journal : 0,
	     b->csum_errors > 0 ? ", CHECKSUM ERRORS" : "");
	line(s,
	     "noticed   %.0f slow, %.0f sent again, %.0f damaged, %.0f replayed, %.0f refused, "
	     "%.0f cut, %.0f second choice",
	     b->slow, b->again, b->damaged, b->replayed, b->refused, b->cut, b->second_choice);
	if (b->scrubs > 0)
		line(s, "scrub     %s of %s", size(b->scrub_done, t[0]),
		     size(b->scrub_total, t[1]));
}

/* What part of its core each reactor took, of its time it had something to do, and its ops, if there
 * are several. */
static void show_reactors(struct screen *s, const struct top_sample *a, const struct top_sample *b,
                          double seconds)
{
	char text[LINE_MAX_BYTES] = "";
	size_t len = 0;

	for (unsigned i = 0; i < b->reactors && b->reactors > 1 && len < sizeof(text); i++)
		len += (size_t)snprintf(
		        text + len, sizeof(text) - len, "%score %s %.0f %% busy %.0f %% %.0f/s",
		        i ? ", " : "", b->reactor_core[i], 100 * reactor_load(a, b, i, seconds),
		        100 * reactor_busy(a, b, i, seconds), reactor_ops(a, b, i, seconds));
	if (len)
		line(s, "reactors  %s", text);
}

static void show_ops(struct screen *s, const struct top_sample *a, const struct top_sample *b,
                     double seconds)
{
	line(s, "%s", "");
	line(s, "%-7s %9s %8s %12s %12s %9s %9s  %s", "OP", "/S", "ERR/S", "IN/S", "OUT/S", "P50",
	     "P99", "QUEUE   IN STORE  OUT");
	for (unsigned i = 0; i < b->ops; i++) {
		const struct top_op *was = op_before(a, i), *is = &b->op[i];
		double phase[TOP_PHASES], all = 0;
		char in[32], out[32], p50[16], p99[16];

		if (is->count <= 0 || !room(s, 1))
			continue;
		for (unsigned k = 0; k < TOP_PHASES; k++) {
			phase[k] = top_rate(was->phase[k], is->phase[k], 1);
			all += phase[k];
		}
		all = all > 0 ? all / 100 : 1;
		line(s, "%-7s %9.0f %8.0f %12s %12s %9s %9s  %4.0f%% %3.0f%% %4.0f%% %3.0f%%",
		     is->name, top_rate(was->count, is->count, seconds),
		     top_rate(was->errors, is->errors, seconds),
		     size(top_rate(was->in, is->in, seconds), in),
		     size(top_rate(was->out, is->out, seconds), out),
		     duration(top_quantile(a, b, i, 0.5), b->edge[0], p50),
		     duration(top_quantile(a, b, i, 0.99), b->edge[0], p99), phase[0] / all,
		     phase[1] / all, phase[2] / all, phase[3] / all);
	}
}

/* The next most busy one that was not shown; TOP_TENANTS_MAX: none. */
static unsigned busiest(const struct top_sample *a, const struct top_sample *b, const bool *shown)
{
	unsigned best = TOP_TENANTS_MAX;
	double most = -1;

	for (unsigned i = 0; i < b->tenants; i++) {
		double rate =
		        top_rate(tenant_before(a, b->tenant[i].id)->count, b->tenant[i].count, 1);

		if (!shown[i] && rate > most) {
			most = rate;
			best = i;
		}
	}
	return best;
}

static void show_tenants(struct screen *s, const struct top_sample *a, const struct top_sample *b,
                         double seconds)
{
	bool shown[TOP_TENANTS_MAX] = {false};
	unsigned i;

	if (!room(s, 3))
		return;
	line(s, "%s", "");
	line(s, "%-10s %-16s %9s %12s %12s %7s %6s %9s %9s", "TENANT", "NAME", "/S", "READ/S",
	     "WRITE/S", "RUNNING", "QUEUED", "WAIT/OP", "THROTTLED");
	while (room(s, 1) && (i = busiest(a, b, shown)) < TOP_TENANTS_MAX) {
		const struct top_tenant *is = &b->tenant[i], *was = tenant_before(a, is->id);
		double count = top_rate(was->count, is->count, 1);
		char read[32], written[32], wait[16], name[TOP_NAME_MAX];

		shown[i] = true;
		line(s, "%-10s %-16.16s %9.0f %12s %12s %7.0f %6.0f %9s %7.0f/s", is->id,
		     cli_name(is->name, name, sizeof(name)), count / seconds,
		     size(top_rate(was->read, is->read, seconds), read),
		     size(top_rate(was->written, is->written, seconds), written), is->running,
		     is->queued,
		     duration(count > 0 ? top_rate(was->queue_s, is->queue_s, 1) / count : 0, 0,
		              wait),
		     top_rate(was->throttled, is->throttled, seconds));
	}
}

static double between(const struct top_sample *a, const struct top_sample *b)
{
	double seconds = (double)(b->time_ns - a->time_ns) / 1e9;

	return seconds > 0 ? seconds : 1e-9;
}

void top_show(FILE *out, const char *store, const struct top_sample *a, const struct top_sample *b,
              unsigned columns, unsigned rows, const char *eol)
{
	struct screen s = {.out = out, .columns = columns, .rows = rows, .eol = eol};
	double seconds = between(a, b);

	show_head(&s, store, a, b, seconds);
	show_reactors(&s, a, b, seconds);
	show_ops(&s, a, b, seconds);
	show_tenants(&s, a, b, seconds);
}

/* --- JSON --- */

static json_t *op_json(const struct top_sample *a, const struct top_sample *b, unsigned i)
{
	const struct top_op *was = op_before(a, i), *is = &b->op[i];
	double s = between(a, b);

	return json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:{s:f, s:f, s:f, s:f}}", "op",
	                 is->name, "total", is->count, "per_s", top_rate(was->count, is->count, s),
	                 "errors_per_s", top_rate(was->errors, is->errors, s), "in_bytes_per_s",
	                 top_rate(was->in, is->in, s), "out_bytes_per_s",
	                 top_rate(was->out, is->out, s), "p50_s", top_quantile(a, b, i, 0.5),
	                 "p99_s", top_quantile(a, b, i, 0.99), "phase_s", "queue",
	                 top_rate(was->phase[0], is->phase[0], 1), "in",
	                 top_rate(was->phase[1], is->phase[1], 1), "store",
	                 top_rate(was->phase[2], is->phase[2], 1), "out",
	                 top_rate(was->phase[3], is->phase[3], 1));
}

static json_t *tenant_json(const struct top_sample *a, const struct top_sample *b, unsigned i)
{
	const struct top_tenant *is = &b->tenant[i], *was = tenant_before(a, is->id);
	double s = between(a, b);

	return json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "tenant", is->id, "name",
	                 is->name, "per_s", top_rate(was->count, is->count, s), "read_bytes_per_s",
	                 top_rate(was->read, is->read, s), "write_bytes_per_s",
	                 top_rate(was->written, is->written, s), "throttled_per_s",
	                 top_rate(was->throttled, is->throttled, s), "sessions", is->sessions,
	                 "running", is->running, "queued", is->queued);
}

json_t *top_json(const struct top_sample *a, const struct top_sample *b)
{
	json_t *ops = json_array(), *tenants = json_array(), *reactors = json_array();

	for (unsigned i = 0; i < b->ops; i++)
		json_array_append_new(ops, op_json(a, b, i));
	for (unsigned i = 0; i < b->tenants; i++)
		json_array_append_new(tenants, tenant_json(a, b, i));
	for (unsigned i = 0; i < b->reactors; i++)
		json_array_append_new(reactors,
		                      json_pack("{s:s, s:f, s:f, s:f}", "core", b->reactor_core[i],
		                                "load", reactor_load(a, b, i, between(a, b)),
		                                "busy", reactor_busy(a, b, i, between(a, b)),
		                                "ops_per_s", reactor_ops(a, b, i, between(a, b))));
	return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:b, s:f, s:f, s:f, s:f, s:f, s:f, s:f, "
	                 "s:f, s:f, s:s, s:o, s:o, s:o}",
	                 "seconds", between(a, b), "uptime_s", b->uptime_s, "sessions", b->sessions,
	                 "inflight", b->inflight, "queued", b->queued, "memory_waiting",
	                 b->mem_waiting, "store_up", (int)(b->store_up > 0), "used_bytes", b->used,
	                 "size_bytes", b->size, "slow", b->slow, "again", b->again, "damaged",
	                 b->damaged, "replayed", b->replayed, "refused", b->refused,
	                 "second_choice", b->second_choice, "csum_errors", b->csum_errors,
	                 "connections", b->channels, "ops", ops, "tenants", tenants, "reactors",
	                 reactors);
}
