/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crew - a store on several reactors; private to store/local. docs/shard-map.md, section 4.
 *
 * Each reactor has a struct local of its own, its *part*, with the shards i for which i mod n is its
 * number, its own requests, timers and queues of the devices, and caches that are its shards'. All code
 * of the engine runs inside one part and knows of no other; what it does with one reactor it does here.
 * The parts meet in these places and nowhere else:
 *
 *   ops        come in at the first part's loop. Those of its own shards go straight into the engine;
 *              others are carried by an *errand*, a message to the part and back (crew_door.c). Those
 *              that concern several parts visit one after the other (crew_multi.c).
 *   names      the first part has the root shard and the table of containers. A part has a copy of the
 *              lines of those at home with it; a *note* brings each change, in order and before any op
 *              that needs it, since ops come from the same loop (crew.c).
 *   regions    which of them nobody has is known under a lock, taken when one is claimed or given back.
 *   flushes    a forced request that failed on one part is known to all before any of them takes for
 *              durable what it may have taken away (crew_settle.c).
 *   stopping   a part that stops (R7) tells the others.
 *   limits     on all parts together count what each one last said of itself.
 *
 * Opening and closing are done by one reactor, the first: the whole store is opened there as if there
 * were no others, and its shards are handed out while nothing is under way; to close they are brought
 * back. So recovery and the last checkpoint are the same code as ever.
 *
 * The parts may share one loop: then all this runs in one thread, in an order that repeats itself,
 * which is how the simulation looks at it.
 */
#ifndef STORE_LOCAL_CREW_H
#define STORE_LOCAL_CREW_H

#include <pthread.h>

#include "store/local/engine.h"

struct crew;
struct errand;

struct mate { /* a part: its reactor's, but for what stands under `pub` */
	struct crew *crew;
	struct local *l;
	bool shares_loop; /* the first part's, and so its devices */
	bool leaving;     /* begins nothing any more, and says when nothing is under way */
	bool quiet;
	struct loop_msg quiet_msg, halt_msg, nudge;
	struct loop_failure failure_of_loop;
	struct list waiting; /* struct errand: the engine took no more ops */

	/* crew_settle.c: forced requests under way, by generation; the older one drains. */
	struct {
		unsigned count;
		uint64_t since;
	} forced[2];
	unsigned forced_now;
	struct dio *settling, **settling_end;
	bool nudge_asked;
	int failure; /* of the first of this part's that failed */

	/* Written by this part, read by all. */
	struct {
		_Alignas(64) _Atomic uint64_t oldest; /* crew_settle.c */
		atomic_bool waits;
		_Atomic uint64_t index_bytes, index_regions, data_free;
	} pub;
};

struct crew {
	struct store store; /* what callers see, on the first part's loop */
	unsigned count;
	struct mate *mate;
	_Atomic uint64_t clock; /* of forced requests */
	atomic_bool failed;     /* one of them has: its part stops */
	atomic_bool stopped;
	_Atomic uint64_t free_now; /* regions_free, as it was a moment ago */

	pthread_mutex_t lock; /* guards the next block */
	uint64_t *taken;      /* a bit for each region that a part has */
	uint64_t regions, regions_free;
	int stop_status;
	char stop_why[160];

	/* The first part's: */
	struct errand *errands; /* a pool */
	struct errand *idle;
	struct list out;     /* errands and journeys under way */
	struct list gone;    /* notes: a container's space waits for its end to be durable */
	unsigned gone_count; /* these, and those on their way */
	unsigned quiet_count;
};

static inline struct mate *mate_of(struct local *l)
{
	return &l->crew->mate[l->part];
}
static inline struct local *crew_root(struct crew *c)
{
	return c->mate[0].l;
}
static inline unsigned crew_part_of_shard(const struct crew *c, unsigned shard)
{
	return shard % c->count;
}

/* --- crew_door.c: ops and other work on another reactor, and back --- */

struct gather;

struct errand {
	struct loop_msg go, stop;
	struct list link; /* crew->out */
	struct list wait; /* there: mate->waiting */
	struct errand *next;
	struct crew *crew;
	struct mate *to;
	struct pst_op *asked; /* the caller's op, by which it is cancelled; or NULL */
	struct pst_op *op;    /* what is submitted there; NULL: there() runs instead, in one go */
	void (*there)(struct errand *e);
	void (*back)(struct errand *e); /* on the first part's loop: it has ended */
	struct mem_region *region;      /* of op: registered with the first part's rings only */
	struct gather *gather;          /* of a list */
	bool over;                      /* there: it has ended */
	bool home, stopping, cancelled; /* here */
};

void errand_init(struct errand *e, struct crew *c, struct pst_op *asked);
/* To part @part: back() runs once, from a later turn. */
void errand_send(struct errand *e, unsigned part);
/* Is no longer under way: out of crew->out. */
void errand_end(struct errand *e);
int door_init(struct crew *c); /* 0 or -ENOMEM */
void door_done(struct crew *c);
enum pst_outcome door_send(struct crew *c, struct pst_op *op, unsigned part);
void door_cancel(struct crew *c, struct pst_op *op);
int door_step(struct mate *m); /* there: what waited is tried again */

/* --- crew_multi.c: ops that concern more than one part --- */

enum pst_outcome multi_flush(struct crew *c, struct pst_op *op);
enum pst_outcome multi_status(struct crew *c, struct pst_op *op);
enum pst_outcome multi_list(struct crew *c, struct pst_op *op);
enum pst_outcome multi_create(struct crew *c, struct pst_op *op);
enum pst_outcome multi_destroy(struct crew *c, struct pst_op *op);
enum pst_outcome multi_scrub(struct crew *c, struct pst_op *op);

/* --- crew_settle.c --- */

void settle_init(struct mate *m);
int settle_step(struct mate *m); /* from the poller: runs done() of what is settled */

#endif
