/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * metrics - the server's figures: taken on its loop, told as Prometheus' text, to whoever comes by
 * HTTP (`--metrics`) and to clients that ask over the wire (PST_OP_FIGURES).
 *
 * The hot paths count in plain integers of the loop's thread. HTTP runs on a thread of libmicrohttpd's
 * own: parsing, slow readers and floods of strangers never touch the loop, which copies its figures
 * for that thread at most every METRICS_FRESH_NS.
 */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "server/server.h"

#define METRICS_FRESH_NS   (100 * NSEC_PER_MSEC)
#define METRICS_TENANTS    256 /* told one by one; the others are counted */
#define METRICS_EDGE_FIRST 12  /* latency histograms: 2^12 ns (4 us) ... 2^34 ns (17 s) */
#define METRICS_EDGES      23

struct metrics_class {
	uint64_t count, sum_ns, errors, bytes_in, bytes_out;
	uint64_t phase_ns[WIRE_PHASES];
	uint64_t below[METRICS_EDGES]; /* requests that took less than 2^(12 + i) ns */
};

struct metrics_reactor {
	int core; /* CORE_ANY: on any */
	uint64_t cpu_ns;
};

struct metrics_snapshot {
	double uptime_s;
	struct metrics_reactor reactor[CORES_MAX];
	unsigned reactors;
	struct wire_figures wire;
	struct metrics_class class[WIRE_CLASSES];
	struct wire_channel_figures channel[WIRE_CHANNELS_MAX];
	unsigned channels;
	struct table_figures table;
	uint64_t audit_lost;
	struct tenant_figures tenant[METRICS_TENANTS];
	unsigned tenants, tenants_more;
	struct pst_store_status store;
	int store_status; /* 0: store is filled in */
};

/* Bytes of text, its NUL not counted; or -ENOMEM. mem_free(). */
int64_t metrics_text(const struct metrics_snapshot *s, char **ret_text);

struct metrics;

/*
 * Takes figures of @s. With @addr (HOST:PORT) it listens there; else only metrics_figures() asks.
 * -EINVAL, -EADDRINUSE, ..., -ENOMEM, with a sentence.
 */
int metrics_start(struct metrics **ret_m, struct server *s, const char *addr, struct pst_err *err);
const char *metrics_addr(const struct metrics *m); /* "HOST:PORT", NULL: none */
/*
 * Going down: first no HTTP any more, while there still is a listener (turns the loop); when the
 * listener is gone nobody asks over the wire either, and it is freed. Both accept NULL.
 */
void metrics_quiet(struct metrics *m);
void metrics_free(struct metrics *m);
/* For wire_listener_opts: answers a PST_OP_FIGURES op, maybe from inside. @arg is the server. */
void metrics_figures(void *arg, struct pst_op *op);

#endif
