/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * top_parse - Prometheus' text into a sample. What is not known is passed over: a server may tell more
 * than this command knows; what is malformed ends it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cli/top.h"

#define LABELS_MAX 4

struct line {
	const char *name;
	struct {
		const char *key;
		char *value;
	} label[LABELS_MAX];
	unsigned labels;
	double value;
};

/* What is escaped, as it was; returns the closing quote, or NULL. */
static char *unescape(char *from)
{
	char *to = from;

	for (; *from && *from != '"'; from++) {
		if (*from == '\\' && from[1]) {
			from++;
			*to++ = *from == 'n' ? '\n' : *from;
		} else {
			*to++ = *from;
		}
	}
	if (!*from)
		return NULL;
	*to = 0;
	return from;
}

/* "{key="value",...} "; returns what stands behind, or NULL. */
static char *read_labels(struct line *l, char *at)
{
	while (*at != '}') {
		char *eq = strchr(at, '='), *end;

		if (!eq || eq[1] != '"' || l->labels == LABELS_MAX)
			return NULL;
		*eq = 0;
		end = unescape(eq + 2);
		if (!end)
			return NULL;
		l->label[l->labels].key = at;
		l->label[l->labels++].value = eq + 2;
		at = end + 1;
		if (*at == ',')
			at++;
		else if (*at != '}')
			return NULL;
	}
	return at + 1;
}

static bool read_line(struct line *l, char *text)
{
	char *at = text + strcspn(text, "{ "), *end;

	*l = (struct line){.name = text};
	if (!*at)
		return false;
	if (*at == '{') {
		*at = 0;
		at = read_labels(l, at + 1);
		if (!at || *at != ' ')
			return false;
	}
	*at++ = 0;
	l->value = strtod(at, &end);
	return end != at && !*end && isfinite(l->value);
}

static const char *label(const struct line *l, const char *key)
{
	for (unsigned i = 0; i < l->labels; i++)
		if (!strcmp(l->label[i].key, key))
			return l->label[i].value;
	return "";
}

/* --- where it goes --- */

static struct top_op *op_of(struct top_sample *s, const char *name)
{
	for (unsigned i = 0; i < s->ops; i++)
		if (!strcmp(s->op[i].name, name))
			return &s->op[i];
	if (s->ops == TOP_OPS_MAX || strlen(name) >= sizeof(s->op[0].name))
		return NULL;
	strcpy(s->op[s->ops].name, name);
	return &s->op[s->ops++];
}

/* The first op tells the edges; the others have the same. */
static void take_bucket(struct top_sample *s, struct top_op *op, const struct line *l)
{
	double edge = strtod(label(l, "le"), NULL);

	for (unsigned i = 0; i < s->edges; i++) {
		if (s->edge[i] == edge) {
			op->below[i] = l->value;
			return;
		}
	}
	if (s->edges == TOP_EDGES_MAX || !isfinite(edge))
		return;
	s->edge[s->edges] = edge;
	op->below[s->edges++] = l->value;
}

static void take_op(struct top_sample *s, const struct line *l, const char *name)
{
	static const char *const phases[TOP_PHASES] = {"queue", "in", "store", "out"};
	struct top_op *op = op_of(s, label(l, "op"));
	bool in = !strcmp(label(l, "direction"), "in");

	if (!op)
		return;
	if (!strcmp(name, "requests_total"))
		op->count = l->value;
	else if (!strcmp(name, "request_errors_total"))
		op->errors = l->value;
	else if (!strcmp(name, "request_bytes_total"))
		*(in ? &op->in : &op->out) = l->value;
	else if (!strcmp(name, "request_seconds_bucket"))
		take_bucket(s, op, l);
	for (unsigned i = 0; i < TOP_PHASES; i++)
		if (!strcmp(name, "request_phase_seconds_total") &&
		    !strcmp(label(l, "phase"), phases[i]))
			op->phase[i] = l->value;
}

static void take_tenant(struct top_sample *s, const struct line *l, const char *name)
{
	static const struct {
		const char *name;
		size_t at;
	} fields[] = {
	        {"tenant_requests_total", offsetof(struct top_tenant, count)},
	        {"tenant_read_bytes_total", offsetof(struct top_tenant, read)},
	        {"tenant_write_bytes_total", offsetof(struct top_tenant, written)},
	        {"tenant_throttled_total", offsetof(struct top_tenant, throttled)},
	        {"tenant_queue_seconds_total", offsetof(struct top_tenant, queue_s)},
	        {"tenant_sessions", offsetof(struct top_tenant, sessions)},
	        {"tenant_requests_running", offsetof(struct top_tenant, running)},
	        {"tenant_requests_queued", offsetof(struct top_tenant, queued)},
	};
	const char *id = label(l, "tenant");
	struct top_tenant *t = NULL;

	for (unsigned i = 0; i < s->tenants && !t; i++)
		if (!strcmp(s->tenant[i].id, id))
			t = &s->tenant[i];
	if (!t) {
		if (s->tenants == TOP_TENANTS_MAX || strlen(id) >= sizeof(t->id))
			return;
		t = &s->tenant[s->tenants++];
		strcpy(t->id, id);
		(void)snprintf(t->name, sizeof(t->name), "%s", label(l, "name"));
	}
	for (unsigned i = 0; i < ARRAY_LEN(fields); i++)
		if (!strcmp(name, fields[i].name))
			*(double *)(void *)((char *)t + fields[i].at) = l->value;
}

/* They come in their order. */
static void take_reactor(struct top_sample *s, const struct line *l)
{
	if (s->reactors == TOP_REACTORS_MAX)
		return;
	(void)snprintf(s->reactor_core[s->reactors], sizeof(s->reactor_core[0]), "%s",
	               label(l, "core"));
	s->reactor_cpu[s->reactors++] = l->value;
}

/* Of a reactor that is known already, by its number. */
static void take_reactor_figure(struct top_sample *s, const struct line *l, double *of)
{
	unsigned long i = strtoul(label(l, "reactor"), NULL, 10);

	if (i < s->reactors)
		of[i] = l->value;
}

static void take_single(struct top_sample *s, const struct line *l, const char *name)
{
	const struct {
		const char *name;
		double *to;
	} fields[] = {
	        {"uptime_seconds", &s->uptime_s},
	        {"requests_inflight", &s->inflight},
	        {"requests_queued", &s->queued},
	        {"requests_memory_waiting", &s->mem_waiting},
	        {"sessions", &s->sessions},
	        {"store_up", &s->store_up},
	        {"store_used_bytes", &s->used},
	        {"store_size_bytes", &s->size},
	        {"store_index_bytes", &s->index},
	        {"store_index_limit_bytes", &s->index_limit},
	        {"store_journal_used_bytes", &s->journal_used},
	        {"store_journal_bytes", &s->journal},
	        {"store_csum_errors_total", &s->csum_errors},
	        {"again_total", &s->again},
	        {"payload_crc_errors_total", &s->damaged},
	        {"replayed_total", &s->replayed},
	        {"slow_requests_total", &s->slow},
	        {"refused_total", &s->refused},
	        {"connections_cut_total", &s->cut},
	        {"connections_second_choice_total", &s->second_choice},
	        {"memory_waits_total", &s->mem_waits},
	        {"scrubs", &s->scrubs},
	        {"scrub_done_bytes", &s->scrub_done},
	        {"scrub_total_bytes", &s->scrub_total},
	};

	for (unsigned i = 0; i < ARRAY_LEN(fields); i++)
		if (!strcmp(name, fields[i].name))
			*fields[i].to = l->value;
}

static void take_channel(struct top_sample *s, const struct line *l)
{
	size_t len = strlen(s->channels);

	(void)snprintf(s->channels + len, sizeof(s->channels) - len, "%s%s %.0f", len ? ", " : "",
	               label(l, "channel"), l->value);
}

bool top_parse(struct top_sample *ret_s, char *text)
{
	static const char prefix[] = "penstock_";
	char *next;

	memset(ret_s, 0, sizeof(*ret_s));
	for (char *at = text; at && *at; at = next) {
		const char *name;
		struct line l;

		next = strchr(at, '\n');
		if (next)
			*next++ = 0;
		if (*at == '#' || !*at)
			continue;
		if (!read_line(&l, at))
			return false;
		if (strncmp(l.name, prefix, sizeof(prefix) - 1) != 0)
			continue;
		name = l.name + sizeof(prefix) - 1;
		if (*label(&l, "op"))
			take_op(ret_s, &l, name);
		else if (*label(&l, "tenant"))
			take_tenant(ret_s, &l, name);
		else if (!strcmp(name, "connections"))
			take_channel(ret_s, &l);
		else if (!strcmp(name, "reactor_cpu_seconds_total"))
			take_reactor(ret_s, &l);
		else if (!strcmp(name, "reactor_busy_seconds_total"))
			take_reactor_figure(ret_s, &l, ret_s->reactor_busy);
		else if (!strcmp(name, "reactor_ops_total"))
			take_reactor_figure(ret_s, &l, ret_s->reactor_ops);
		else
			take_single(ret_s, &l, name);
	}
	return ret_s->ops > 0 && ret_s->edges > 0;
}

/* --- between two samples --- */

static double grown(double a, double b)
{
	return b >= a ? b - a : b;
}

double top_rate(double a, double b, double seconds)
{
	return seconds > 0 ? grown(a, b) / seconds : 0;
}

double top_quantile(const struct top_sample *a, const struct top_sample *b, unsigned op, double p)
{
	bool anew = op >= a->ops || b->op[op].count < a->op[op].count;
	double all = b->op[op].count - (anew ? 0 : a->op[op].count), before = 0;

	for (unsigned i = 0; i < b->edges && all > 0; i++) {
		double below = b->op[op].below[i] - (anew ? 0 : a->op[op].below[i]);

		if (below >= p * all) {
			double low = i ? b->edge[i - 1] : b->edge[0];
			double part = below > before ? (p * all - before) / (below - before) : 1;

			return low + part * (b->edge[i] - low);
		}
		before = below;
	}
	return all > 0 && b->edges ? b->edge[b->edges - 1] : 0;
}
