/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * top - a served store's figures, out of the text that pst_client_figures() brings, and what of them
 * changed between two samples.
 */
#ifndef CLI_TOP_H
#define CLI_TOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json_t;

#define TOP_OPS_MAX      16
#define TOP_TENANTS_MAX  256
#define TOP_EDGES_MAX    64
#define TOP_PHASES       4
#define TOP_TEXT_MAX     (1u << 20)
#define TOP_NAME_MAX     64
#define TOP_REACTORS_MAX 64

struct top_op {
	char name[16];
	double count, errors, in, out, phase[TOP_PHASES]; /* phases in seconds */
	double below[TOP_EDGES_MAX];                      /* cumulative */
};

struct top_tenant {
	char id[12], name[TOP_NAME_MAX];
	double count, read, written, throttled, queue_s; /* counters */
	double sessions, running, queued;                /* now */
};

/* One sample: totals as the server has them. */
struct top_sample {
	uint64_t time_ns;
	struct top_op op[TOP_OPS_MAX];
	unsigned ops;
	double edge[TOP_EDGES_MAX]; /* upper edges of the histograms' buckets, in seconds */
	unsigned edges;
	struct top_tenant tenant[TOP_TENANTS_MAX];
	unsigned tenants;
	double reactor_cpu[TOP_REACTORS_MAX];  /* seconds */
	double reactor_busy[TOP_REACTORS_MAX]; /* seconds */
	double reactor_ops[TOP_REACTORS_MAX];
	char reactor_core[TOP_REACTORS_MAX][8]; /* "": on any */
	unsigned reactors;
	char channels[96]; /* "pipe 3, tcp 1" */
	double uptime_s, inflight, queued, mem_waiting, sessions;
	double store_up, used, size, index, index_limit, journal_used, journal, csum_errors;
	double again, damaged, replayed, slow, refused, cut, second_choice, mem_waits;
	double scrubs, scrub_done, scrub_total;
};

/* Reads @text (changed meanwhile). False: that is no text of a server's figures. */
bool top_parse(struct top_sample *ret_s, char *text);

/* What happened from @a to @b, a second. A counter that went back (a new server) counts from 0. */
double top_rate(double a, double b, double seconds);
/* What a part @p of the requests between @a and @b did not exceed, about (the first edge: at most
 * that); 0: there was none. */
double top_quantile(const struct top_sample *a, const struct top_sample *b, unsigned op, double p);

/* A screen of @columns and @rows (0: as long as it gets) to @out; @eol ends each line. */
void top_show(FILE *out, const char *store, const struct top_sample *a, const struct top_sample *b,
              unsigned columns, unsigned rows, const char *eol);
struct json_t *top_json(const struct top_sample *a, const struct top_sample *b);

#endif
