/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop_int - what the files of the loop share. Private to this room.
 */
#ifndef LOOP_LOOP_INT_H
#define LOOP_LOOP_INT_H

#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>

#include "loop/loop.h"
#include "loop/slots.h"

struct loop {
	/* Other threads touch only what stands before @opts, and read only @wake_fd behind it. */
	_Atomic(struct loop_msg *) inbox; /* newest first */
	atomic_bool asleep;               /* see loop_wake() */
	atomic_bool stop;

	struct loop_opts opts __attribute__((aligned(64)));
	int wake_fd;
	bool bound; /* the first turn was run: @owner is final, the ring is enabled */
	bool in_turn;
	bool wake_armed;
	pthread_t owner;

	uint64_t now_ns;
	uint64_t real_offset_ns; /* real time less monotonic time, modulo 2^64 */
	uint64_t real_read_ns;   /* when that was last looked up */
	uint64_t began_ns;       /* the first turn */
	uint64_t busy_ns;
	bool worked; /* the last turn found something to do */
	int core;
	int failed, broken; /* loop_fail(), loop_break() */
	struct list failures;
	uint64_t spin_budget_ns; /* how much of spin_ns has been paying off lately */
	bool spin_applies;       /* the last idle pass waited for what spinning may catch */
	bool heard;              /* it came, in this turn: loop_heard() */

	struct list parts;
	struct list pollers;
	struct list *poller_next; /* cursor of the running pass; loop_poller_del() moves it on */

	struct loop_timer **heap; /* [1..heap_count], smallest (deadline, order) first */
	unsigned heap_count, heap_room;
	uint64_t timer_order;

	struct io_uring ring;
	bool ring_up;
	unsigned inflight, inflight_max;
	unsigned inflight_own; /* of these, the loop's own: nobody waits for them */
	unsigned inflight_fds; /* and polls of watched descriptors, which may take for ever */
	struct loop_io wake_io;
	struct ring_slots slots;
	struct list fds_unarmed; /* loop_fd: waiting for a poll request, or for gone() */
};

/* timer.c */
int timers_run(struct loop *loop);
uint64_t timers_next(const struct loop *loop); /* UINT64_MAX: none */

/* ring.c */
int ring_open(struct loop *loop, struct pst_err *err);
void ring_close(struct loop *loop);
/* The first turn's thread becomes the ring's only submitter. */
int ring_bind(struct loop *loop);
bool ring_ready(const struct loop *loop); /* completions are there */
/* Submits what is queued, waits at most @wait_ns (0: not at all) if nothing has completed yet, runs
 * completions, a few of them if there are many. *@ret_interrupted is set when a signal handler ran instead. */
int ring_turn(struct loop *loop, uint64_t wait_ns, bool *ret_interrupted);
/* ring_turn() of a loop that failed. */
int ring_turn_failed(struct loop *loop, uint64_t wait_ns);
/* As loop_sqe, but goes over the limit of requests in flight; NULL only if the kernel takes none.
 * @io may be NULL: nobody wants to know the result.
 */
struct io_uring_sqe *ring_sqe(struct loop *loop, struct loop_io *io);

/* fd.c */
int fds_run(struct loop *loop);

/* loop.c: true when other threads left something to look at, so that sleeping would be wrong. */
bool loop_called(struct loop *loop);

#endif
