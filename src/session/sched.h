/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sched - whose request runs next: weighted fair queueing over a tree of flows (server, tenants,
 * sessions), and rates. It knows nothing of requests but their cost; whoever serves them asks for
 * the next one when there is room.
 *
 * Start-time fair queueing. Each inner flow has a virtual clock: the start tag of the child that it
 * served last. A child that becomes busy starts at that clock, or where it ended itself if that is
 * later; each service of cost c moves its tag on by c / weight; the child with the smallest tag is
 * served. So flows that are busy all the time get service in the exact proportion of their weights,
 * apart by at most the cost of one request each, and one that comes back waits for what is being
 * served, never for the backlog of others. Idle time earns nothing.
 *
 * Rates hold a flow back until its debt is paid; others run meanwhile.
 */
#ifndef SESSION_SCHED_H
#define SESSION_SCHED_H

#include "base/base.h"

/* What was used lies ahead of the clock by at most a burst. All zero: no limit. */
struct bucket {
	uint64_t bytes_per_s, ops_per_s; /* 0: no limit */
	uint64_t bytes_ns, ops_ns;       /* until when what was used is paid for */
};

#define BUCKET_BURST_NS (NSEC_PER_SEC / 10)

static inline bool bucket_limits(const struct bucket *b)
{
	return b->bytes_per_s || b->ops_per_s;
}
/* When the next request may go: at or before @now_ns means now. */
static inline uint64_t bucket_ready(const struct bucket *b)
{
	uint64_t t = MAX(b->bytes_ns, b->ops_ns);

	return t > BUCKET_BURST_NS ? t - BUCKET_BURST_NS : 0;
}
void bucket_charge(struct bucket *b, uint64_t now_ns, uint64_t bytes);
void bucket_set(struct bucket *b, uint64_t bytes_per_s, uint64_t ops_per_s);

struct sched_item {
	struct list link;
	uint64_t cost;         /* > 0 */
	uint64_t bytes;        /* for rates */
	struct bucket *bucket; /* a rate of its own, or NULL */
};

struct sched_flow {
	struct sched_flow *parent; /* NULL: the root */
	uint32_t weight;           /* > 0 */
	struct bucket bucket;
	/* private */
	uint64_t tag;             /* where its next service starts, in the parent's virtual time */
	uint64_t rest;            /* of the last division: shares stay exact */
	uint64_t clock;           /* virtual time of its children */
	struct sched_flow **heap; /* busy children by tag */
	uint32_t heap_len, heap_cap;
	uint32_t at;    /* in the parent's heap, from 1; 0: not there */
	uint64_t order; /* equal tags: who was busy first */
	uint64_t orders;
	uint32_t children;
	uint64_t held_until; /* by a rate; 0: not held */
	struct list held;    /* in sched->held */
	struct list queue;   /* a leaf's items */
};

struct sched {
	struct sched_flow root;
	struct list held;
	uint64_t queued;
};

void sched_init(struct sched *s);
void sched_done(struct sched *s); /* all flows are done (asserted) */
/* Adds a flow below @parent (&s->root, or one below it). -ENOMEM. */
int sched_flow_init(struct sched_flow *f, struct sched_flow *parent, uint32_t weight);
void sched_flow_done(struct sched *s, struct sched_flow *f); /* nothing queued (asserted) */
void sched_flow_weight(struct sched_flow *f, uint32_t weight);

/* @f must be a leaf (no flows below it). */
void sched_push(struct sched *s, struct sched_flow *f, struct sched_item *it);
/* Takes back an item that was pushed to @f and not popped. */
void sched_remove(struct sched *s, struct sched_flow *f, struct sched_item *it);
/*
 * The next item, its cost and rates charged; NULL: nothing may run now, and *ret_when says when that
 * changes by itself (UINT64_MAX: never).
 */
struct sched_item *sched_pop(struct sched *s, uint64_t now_ns, uint64_t *ret_when);
/* Nothing waits, and no rate stands against an item of @f: it may run without being queued. Then its
 * rates are charged. */
bool sched_pass(struct sched *s, struct sched_flow *f, struct sched_item *it, uint64_t now_ns);

#endif
