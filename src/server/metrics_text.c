/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * metrics_text - a snapshot as Prometheus' text, version 0.0.4. Names never change their meaning:
 * dashboards stand on them; docs/operating.md lists them.
 */
#include <inttypes.h>
#include <stdio.h>

#include "penstock/version.h"
#include "server/metrics.h"

struct text {
	char *at;
	size_t len, cap;
	bool failed;
};

static void put(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(struct text *t, const char *fmt, ...)
{
	for (;;) {
		size_t room = t->cap - t->len;
		va_list ap;
		char *more;
		int n;

		va_start(ap, fmt);
		n = vsnprintf(t->at + t->len, room, fmt, ap);
		va_end(ap);
		if (n >= 0 && (size_t)n < room) {
			t->len += (size_t)n;
			return;
		}
		more = n < 0 || t->failed ? NULL : mem_realloc(t->at, 2 * t->cap + (size_t)n);
		if (!more) {
			t->failed = true;
			return;
		}
		t->at = more;
		t->cap = 2 * t->cap + (size_t)n;
	}
}

static void head(struct text *t, const char *name, const char *type, const char *help)
{
	put(t, "# HELP penstock_%s %s\n# TYPE penstock_%s %s\n", name, help, name, type);
}

/* One figure without labels. */
static void counter(struct text *t, const char *name, uint64_t value, const char *help)
{
	head(t, name, "counter", help);
	put(t, "penstock_%s %" PRIu64 "\n", name, value);
}

static void gauge(struct text *t, const char *name, uint64_t value, const char *help)
{
	head(t, name, "gauge", help);
	put(t, "penstock_%s %" PRIu64 "\n", name, value);
}

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

/* --- requests --- */

#define each_class(c) for (unsigned c = 0; c < WIRE_CLASSES; c++)

static void class_counters(struct text *t, const struct metrics_snapshot *s)
{
	head(t, "requests_total", "counter",
	     "Requests that were answered, by what they asked for.");
	each_class(c) put(t, "penstock_requests_total{op=\"%s\"} %" PRIu64 "\n", wire_class_name(c),
	                  s->class[c].count);
	head(t, "request_errors_total", "counter",
	     "Of these, those that were answered with an error.");
	each_class(c) put(t, "penstock_request_errors_total{op=\"%s\"} %" PRIu64 "\n",
	                  wire_class_name(c), s->class[c].errors);
	head(t, "request_bytes_total", "counter", "Payload of requests (in) and answers (out).");
	each_class(c)
	{
		put(t, "penstock_request_bytes_total{op=\"%s\",direction=\"in\"} %" PRIu64 "\n",
		    wire_class_name(c), s->class[c].bytes_in);
		put(t, "penstock_request_bytes_total{op=\"%s\",direction=\"out\"} %" PRIu64 "\n",
		    wire_class_name(c), s->class[c].bytes_out);
	}
	head(t, "request_phase_seconds_total", "counter",
	     "Where requests spent their time: waiting for their turn (queue), for memory and "
	     "payload "
	     "(in), in the store, and until the answer had left (out).");
	each_class(c) for (unsigned i = 0; i < WIRE_PHASES; i++)
	        put(t, "penstock_request_phase_seconds_total{op=\"%s\",phase=\"%s\"} %.9f\n",
	            wire_class_name(c), wire_phase_name(i), seconds(s->class[c].phase_ns[i]));
}

static void class_histograms(struct text *t, const struct metrics_snapshot *s)
{
	head(t, "request_seconds", "histogram",
	     "From a request's arrival to its answer, by the server's clock.");
	each_class(c)
	{
		const struct metrics_class *k = &s->class[c];
		const char *name = wire_class_name(c);

		for (unsigned i = 0; i < METRICS_EDGES; i++)
			put(t,
			    "penstock_request_seconds_bucket{op=\"%s\",le=\"%.9f\"} %" PRIu64 "\n",
			    name, seconds(1ull << (METRICS_EDGE_FIRST + i)), k->below[i]);
		put(t, "penstock_request_seconds_bucket{op=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name,
		    k->count);
		put(t, "penstock_request_seconds_sum{op=\"%s\"} %.9f\n", name, seconds(k->sum_ns));
		put(t, "penstock_request_seconds_count{op=\"%s\"} %" PRIu64 "\n", name, k->count);
	}
}

static void requests(struct text *t, const struct metrics_snapshot *s)
{
	const struct wire_figures *w = &s->wire;

	class_counters(t, s);
	class_histograms(t, s);
	gauge(t, "requests_inflight", w->inflight, "Requests that came and were not answered yet.");
	gauge(t, "requests_queued", s->table.queued, "Of these, those that wait for their turn.");
	gauge(t, "requests_running", s->table.running,
	      "Of these, those between admission and end.");
	gauge(t, "requests_running_bytes", s->table.running_bytes, "Payload that these may hold.");
	gauge(t, "requests_memory_waiting", w->mem_waiting,
	      "Of these, those that wait for payload memory.");
	counter(t, "memory_waits_total", w->mem_waits, "Requests that waited for payload memory.");
	gauge(t, "payload_memory_bytes", w->mem_bytes, "Payload memory of the listener.");
	counter(t, "again_total", w->again,
	        "Requests answered \"send it again\": no memory, or damaged on the way.");
	counter(t, "payload_crc_errors_total", w->bad_crc, "Payloads that arrived damaged.");
	counter(t, "replayed_total", s->table.replayed,
	        "Changes that came again and were not executed twice.");
	counter(t, "slow_requests_total", w->slow, "Requests that took --slow-op or longer.");
}

/* --- channels --- */

static void channels(struct text *t, const struct metrics_snapshot *s)
{
	static const struct {
		const char *name, *direction, *help; /* help: of a new name */
		size_t at;
	} fields[] = {
	        {"connections_total", NULL, "Connections that were accepted.",
	         offsetof(struct wire_channel_figures, accepted)},
	        {"channel_messages_total", "in", "Messages.",
	         offsetof(struct wire_channel_figures, msgs_in)},
	        {"channel_messages_total", "out", NULL,
	         offsetof(struct wire_channel_figures, msgs_out)},
	        {"channel_bytes_total", "in", "Bytes that messages and transfers moved.",
	         offsetof(struct wire_channel_figures, bytes_in)},
	        {"channel_bytes_total", "out", NULL,
	         offsetof(struct wire_channel_figures, bytes_out)},
	        {"channel_doorbells_total", NULL, "Times that the other side was woken.",
	         offsetof(struct wire_channel_figures, doorbells)},
	        {"channel_sleeps_total", NULL, "Times that this side asked to be woken.",
	         offsetof(struct wire_channel_figures, sleeps)},
	        {"channel_no_credit_total", NULL, "Messages that waited for the receiver.",
	         offsetof(struct wire_channel_figures, no_credit)},
	};

	head(t, "connections", "gauge", "Connections that are open.");
	for (unsigned c = 0; c < s->channels; c++)
		put(t, "penstock_connections{channel=\"%s\"} %u\n", s->channel[c].provider,
		    s->channel[c].conns);
	for (unsigned i = 0; i < ARRAY_LEN(fields); i++) {
		if (fields[i].help)
			head(t, fields[i].name, "counter", fields[i].help);
		for (unsigned c = 0; c < s->channels; c++) {
			const struct wire_channel_figures *f = &s->channel[c];
			const char *d = fields[i].direction;

			put(t, "penstock_%s{channel=\"%s\"%s%s%s} %" PRIu64 "\n", fields[i].name,
			    f->provider, d ? ",direction=\"" : "", d ? d : "", d ? "\"" : "",
			    *(const uint64_t *)(const void *)((const char *)f + fields[i].at));
		}
	}
	counter(t, "connections_refused_total", s->wire.refused,
	        "Connections refused for who they were, or what they asked.");
	counter(t, "connections_cut_total", s->wire.cut, "Connections cut for what they sent.");
	counter(t, "connections_second_choice_total", s->wire.second_choice,
	        "Connections over tcp from this host, where pipe was offered.");
}

/* --- sessions, tenants --- */

static void sessions(struct text *t, const struct metrics_snapshot *s)
{
	const struct table_figures *f = &s->table;

	gauge(t, "sessions", f->sessions, "Sessions that are open, connected or not.");
	gauge(t, "sessions_connected", f->conns, "Connections that have a session, or will.");
	gauge(t, "capabilities", f->caps, "Capabilities that were granted.");
	counter(t, "sessions_opened_total", f->opened, "Sessions that were opened.");
	counter(t, "sessions_closed_total", f->closed, "Sessions that ended.");
	counter(t, "sessions_resumed_total", f->resumed,
	        "Sessions that came back on a new connection.");
	counter(t, "sessions_expired_total", f->expired,
	        "Sessions that were silent for too long, or whose capabilities were revoked.");
	counter(t, "sessions_displaced_total", f->displaced,
	        "Silent sessions that made room for others.");
	counter(t, "sessions_fenced_total", f->fenced,
	        "Old connections that were cut when their session came back.");
	counter(t, "sessions_cut_off_total", f->cut_off,
	        "Sessions ended for forged handles, bad tokens or broken rules.");
	counter(t, "refused_total", f->refused, "Requests and clients refused.");
	counter(t, "audit_lost_total", s->audit_lost,
	        "Lines of the audit log that could not be written.");
	counter(t, "handle_cache_hits_total", f->handle_hits, "Handles found verified already.");
	counter(t, "handle_cache_misses_total", f->handle_misses, "Handles that were verified.");
}

/* A label's value: what the format reserves is escaped, what is no text becomes '?'. */
static void put_label(struct text *t, const char *value)
{
	size_t left = strlen(value);

	while (left) {
		unsigned n = utf8_char(value, left), step = n ? n : 1;

		if (*value == '\n')
			put(t, "\\n");
		else if (*value == '"' || *value == '\\')
			put(t, "\\%c", *value);
		else if (!text_plain(value, step))
			put(t, "?");
		else
			put(t, "%.*s", (int)n, value);
		value += step;
		left -= step;
	}
}

static void tenant_labels(struct text *t, const char *name, const struct tenant_figures *f)
{
	put(t, "penstock_%s{tenant=\"%u\",name=\"", name, f->id);
	put_label(t, f->name);
	put(t, "\"");
}

static void tenants(struct text *t, const struct metrics_snapshot *s)
{
	static const struct {
		const char *name, *type, *help;
		size_t at;
		enum { U32, U64, NS } is;
	} fields[] = {
#define F(name, type, field, is, help) \
	{name, type, help, offsetof(struct tenant_figures, field), is}
	        F("tenant_requests_total", "counter", ops, U64, "Requests that ended."),
	        F("tenant_request_errors_total", "counter", errors, U64,
	          "Of these, with an error."),
	        F("tenant_refused_total", "counter", refused, U64, "Requests refused."),
	        F("tenant_write_bytes_total", "counter", bytes_in, U64, "Bytes written."),
	        F("tenant_read_bytes_total", "counter", bytes_out, U64, "Bytes read."),
	        F("tenant_sessions", "gauge", sessions, U32, "Sessions that are open."),
	        F("tenant_requests_running", "gauge", running, U32, "Requests that run."),
	        F("tenant_requests_queued", "gauge", queued, U32,
	          "Requests that wait for their turn."),
	        F("tenant_running_bytes", "gauge", running_bytes, U64,
	          "Payload that running and waiting requests may hold."),
	        F("tenant_queue_seconds_total", "counter", queue_ns, NS,
	          "Time that requests waited for their turn."),
	        F("tenant_queue_seconds_max", "gauge", queue_max_ns, NS,
	          "The longest that one waited since the start."),
	        F("tenant_throttled_total", "counter", throttled, U64,
	          "Requests that a rate made wait."),
#undef F
	};

	for (unsigned i = 0; i < ARRAY_LEN(fields); i++) {
		head(t, fields[i].name, fields[i].type, fields[i].help);
		for (unsigned k = 0; k < s->tenants; k++) {
			const char *at = (const char *)&s->tenant[k] + fields[i].at;

			tenant_labels(t, fields[i].name, &s->tenant[k]);
			if (fields[i].is == U32)
				put(t, "} %u\n", *(const uint32_t *)(const void *)at);
			else if (fields[i].is == U64)
				put(t, "} %" PRIu64 "\n", *(const uint64_t *)(const void *)at);
			else
				put(t, "} %.9f\n", seconds(*(const uint64_t *)(const void *)at));
		}
	}
	gauge(t, "tenants_not_shown", s->tenants_more, "Tenants beyond those that are shown.");
}

/* --- the store --- */

static void store(struct text *t, const struct metrics_snapshot *s)
{
	const struct pst_store_status *st = &s->store;

	gauge(t, "store_up", s->store_status == 0 && !st->stopped,
	      "1: it takes changes; 0: it has stopped, or can't be asked.");
	if (s->store_status < 0)
		return;
	gauge(t, "store_epoch", st->epoch, "How often it was opened.");
	gauge(t, "store_size_bytes", st->size_bytes, "Data space.");
	gauge(t, "store_used_bytes", st->used_bytes, "Of it, in use.");
	gauge(t, "store_free_bytes", st->free_bytes, "Of it, free.");
	gauge(t, "store_reserved_bytes", st->reserved_bytes, "Of it, kept back.");
	gauge(t, "store_objects", st->objects, "Objects.");
	gauge(t, "store_containers", st->containers, "Containers.");
	gauge(t, "store_index_bytes", st->index_bytes, "Memory that the index takes.");
	gauge(t, "store_index_limit_bytes", st->index_limit_bytes, "And may take.");
	gauge(t, "store_journal_used_bytes", st->journal_used_bytes, "Of the journal, in use.");
	gauge(t, "store_journal_bytes", st->journal_bytes, "The journal.");
	counter(t, "store_csum_cache_hits_total", st->csum_hits, "Checksum pages found in memory.");
	counter(t, "store_csum_cache_misses_total", st->csum_misses,
	        "Checksum pages that were read.");
	counter(t, "store_commits_total", st->commits, "Log flushes that committed changes.");
	counter(t, "store_commit_records_total", st->commit_records,
	        "Changes that these committed.");
	counter(t, "store_checkpoints_total", st->checkpoints, "Checkpoints.");
	counter(t, "store_device_read_bytes_total", st->dev_read_bytes, "Read from devices.");
	counter(t, "store_device_write_bytes_total", st->dev_write_bytes, "Written to devices.");
	counter(t, "store_device_flushes_total", st->dev_flushes, "Flushes of devices.");
	counter(t, "store_user_read_bytes_total", st->user_read_bytes, "Read for callers.");
	counter(t, "store_user_write_bytes_total", st->user_write_bytes, "Written for callers.");
	counter(t, "store_csum_errors_total", st->csum_errors, "Blocks that did not match.");
	counter(t, "store_mirror_repairs_total", st->mirror_repairs,
	        "Metadata blocks rewritten from a good copy.");
	head(t, "store_refused_total", "counter",
	     "Changes that ended with ENOSPC, by what lacked.");
	put(t, "penstock_store_refused_total{lacked=\"data\"} %" PRIu64 "\n",
	    st->refused[PST_SCARCE_DATA]);
	put(t, "penstock_store_refused_total{lacked=\"index\"} %" PRIu64 "\n",
	    st->refused[PST_SCARCE_INDEX]);
	head(t, "store_recovery_seconds", "gauge", "What the recovery of this open took.");
	put(t, "penstock_store_recovery_seconds %.9f\n", seconds(st->recovery_ns));
}

static void scrubs(struct text *t, const struct metrics_snapshot *s)
{
	const struct wire_figures *w = &s->wire;

	gauge(t, "scrubs", w->scrubs, "Scrubs that run for clients.");
	gauge(t, "scrub_done_bytes", w->scrub_done_bytes, "What these have read.");
	gauge(t, "scrub_total_bytes", w->scrub_total_bytes, "What these will have read.");
	counter(t, "scrubs_ended_total", w->scrubs_ended, "Scrubs that ended.");
	counter(t, "scrub_errors_total", w->scrub_errors, "Bad blocks that scrubs found.");
	counter(t, "scrub_repaired_total", w->scrub_repaired, "Blocks that scrubs repaired.");
}

static void reactors(struct text *t, const struct metrics_snapshot *s)
{
	head(t, "reactor_cpu_seconds_total", "counter",
	     "CPU time of each reactor's thread; the first serves the connections.");
	for (unsigned i = 0; i < s->reactors; i++) {
		const struct metrics_reactor *r = &s->reactor[i];

		put(t, "penstock_reactor_cpu_seconds_total{reactor=\"%u\",core=\"", i);
		if (r->core != CORE_ANY)
			put(t, "%d", r->core);
		put(t, "\"} %.6f\n", seconds(r->cpu_ns));
	}
	if (s->store_status)
		return;
	head(t, "reactor_busy_seconds_total", "counter",
	     "Time in turns of each reactor's loop that found something to do.");
	for (unsigned i = 0; i < s->store.reactors; i++)
		put(t, "penstock_reactor_busy_seconds_total{reactor=\"%u\"} %.6f\n", i,
		    seconds(s->store.reactor[i].busy_ns));
	head(t, "reactor_ops_total", "counter",
	     "Ops that each reactor's part of the engine was given.");
	for (unsigned i = 0; i < s->store.reactors; i++)
		put(t, "penstock_reactor_ops_total{reactor=\"%u\"} %llu\n", i,
		    (unsigned long long)s->store.reactor[i].ops);
}

int64_t metrics_text(const struct metrics_snapshot *s, char **ret_text)
{
	struct text t = {.at = mem_alloc(KIB), .cap = KIB};

	if (!t.at)
		return -ENOMEM;
	head(&t, "build_info", "gauge", "The program's version; always 1.");
	put(&t, "penstock_build_info{version=\"%s\"} 1\n", pst_version_text());
	head(&t, "uptime_seconds", "gauge", "Since the server opened the store.");
	put(&t, "penstock_uptime_seconds %.3f\n", s->uptime_s);
	reactors(&t, s);
	requests(&t, s);
	channels(&t, s);
	sessions(&t, s);
	tenants(&t, s);
	store(&t, s);
	scrubs(&t, s);
	if (t.failed) {
		mem_free(t.at);
		return -ENOMEM;
	}
	*ret_text = t.at;
	return (int64_t)t.len;
}
