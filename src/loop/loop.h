/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop - the reactor: one thread, and everything that runs on it. A loop owns its pollers, timers,
 * inbox, watched file descriptors and one io_uring; it knows nothing of what they do.
 *
 * Threads. All functions but loop_post() and loop_stop() belong to the thread that runs the loop
 * (the first one that runs it, or the creator until then) and assert it. No callback is ever called
 * from inside the function that armed it.
 *
 * One turn (loop_turn) runs: the inbox, expired timers, the pollers, submission of what was queued
 * on the ring, and its completions. A turn that found nothing to do may sleep in one system call
 * that also submits: io_uring_enter with a timeout. A reactor with nothing in flight spins for up
 * to spin_ns, in case a message comes, and then sleeps; one that waits for the kernel sleeps at
 * once.
 *
 * Simulation: a loop made with opts.sim has no ring and no file descriptors; its clock is virtual,
 * moved forward to the next timer by a turn that found nothing else to do (by at most 1 us while a
 * poller is busy).
 */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include "base/base.h"

struct io_uring;
struct io_uring_sqe;
struct loop;
struct ring_slots;

struct loop_opts {
	unsigned ring_entries; /* submission queue entries; 0: 256 */
	uint64_t spin_ns; /* spin at most this long for messages before sleeping; adapts down */
	bool poll;        /* never sleep */
	bool sim;         /* virtual clock, no kernel */
	uint64_t sim_start_ns; /* the virtual clock's first reading (also its real-time clock's) */
};

void loop_opts_default(struct loop_opts *opts);

/*
 * Returns 0, -ENOMEM, or the kernel's error from setting the ring up (with a sentence in @err).
 * The ring is bound to the thread of the first turn, and so are registrations with it from then on.
 */
int loop_new(struct loop **ret_loop, const struct loop_opts *opts, struct pst_err *err);
/* Accepts NULL. All pollers, timers and ring users must be gone (asserted), calls from other
 * threads must have returned. On the loop's thread, or on any once that thread has ended. */
void loop_free(struct loop *loop);

/* Monotonic and real time in ns, as of this turn (cached: no system call). */
uint64_t loop_now(const struct loop *loop);
uint64_t loop_real_now(const struct loop *loop);
/* Both anew, in the middle of a turn: what took long doesn't count against deadlines that are set after it.
 * On the loop's thread. */
void loop_clock_read(struct loop *loop);

/*
 * Runs one turn; sleeps at most @timeout_ns if there was nothing to do (0: don't; UINT64_MAX: until
 * something happens). Returns how many things happened (0: timed out, stopped, or a signal handler
 * ran), or a negative errno value when the kernel refused to wait. Never from inside a callback.
 * In simulation -EDEADLK when @timeout_ns is UINT64_MAX and nothing can ever happen.
 */
int loop_turn(struct loop *loop, uint64_t timeout_ns);
/* Turns until loop_stop() (at once if it was called before). 0, or loop_turn's error. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop); /* any thread */
/* True when called on the loop's thread. */
bool loop_is_mine(const struct loop *loop);
bool loop_is_sim(const struct loop *loop);
#define loop_assert(loop) pst_assert_slow(loop_is_mine(loop))

/* Of this thread's time since the first turn, in ns: all of it, and the turns that found something to
 * do. Not in simulation (0). On the loop's thread. */
uint64_t loop_up_ns(const struct loop *loop);
uint64_t loop_busy_ns(const struct loop *loop);
/* The core that it is bound to, as loop_core_set() said; -1: none. Only for people. */
int loop_core(const struct loop *loop);
void loop_core_set(struct loop *loop, int core);

/*
 * --- failure ---
 *
 * A loop whose kernel refuses to wait (loop_turn() and loop_run() have returned an error) can be told to
 * go on without: loop_fail(). From then on its inbox, timers and pollers run as before. What was queued
 * for the kernel and not yet taken by it ends with -EIO, and so does everything that is queued later.
 * What the kernel has ends if the kernel says so: its memory can't be given back sooner. failed() of all
 * who asked runs at once, on the loop's thread.
 */
struct loop_failure {
	void (*failed)(struct loop_failure *f, int status, const char *who);
	struct list link;
};
void loop_failure_add(struct loop *loop, struct loop_failure *f);
void loop_failure_del(struct loop *loop, struct loop_failure *f); /* harmless when not added */
/* @who: what people call this loop. */
void loop_fail(struct loop *loop, int status, const char *who);
/* Test-only: the kernel refuses with @status from now on, as far as the loop can tell. */
void loop_break(struct loop *loop, int status);

/* --- pollers: called every turn; a loop with a busy poller does not sleep --- */

struct loop_poller {
	/* Returns how many things it did. Must not block. May delete itself or others. */
	int (*poll)(struct loop_poller *p);
	/* False while it must be called without sleeping in between (work that no fd announces).
	 * NULL: never prevents sleep. */
	bool (*may_sleep)(struct loop_poller *p);
	/*
	 * The loop is about to sleep: spinning is over and all may_sleep() agreed. The place to ask
	 * others to wake it, at a cost that spinning should not pay. False if something has come
	 * meanwhile. NULL: nothing to ask. The next pass calls poll() as ever.
	 */
	bool (*sleeps)(struct loop_poller *p);
	struct list link;
};
void loop_poller_add(struct loop *loop, struct loop_poller *p);
/* A poller has found what another process wrote into memory that both share, or was woken for it:
 * what a loop spins for before it sleeps, as it does for its inbox. */
void loop_heard(struct loop *loop);
void loop_poller_del(struct loop *loop, struct loop_poller *p);

/* --- timers: one-shot --- */

struct loop_timer {
	void (*fired)(struct loop_timer *t);
	uint64_t deadline_ns;
	uint64_t order;      /* the loop's: equal deadlines fire in the order they were armed */
	unsigned heap_index; /* 0: not armed */
};
/* (Re)arms for the monotonic @deadline_ns, or now if that has passed: it fires in a later turn than
 * the one that is firing timers. -ENOMEM when the heap can't grow (never when re-arming). */
int loop_timer_arm(struct loop *loop, struct loop_timer *t, uint64_t deadline_ns);
void loop_timer_disarm(struct loop *loop, struct loop_timer *t); /* harmless when not armed */

/* --- inbox: the only way in from other threads --- */

struct loop_msg {
	void (*run)(struct loop_msg *m); /* on the loop's thread; owns @m from then on */
	struct loop_msg *next;           /* the inbox's */
};
/* Any thread, never blocks, never fails; @m belongs to the inbox until it runs. Messages of one
 * sender run in order. Wakes the loop if it sleeps. */
void loop_post(struct loop *loop, struct loop_msg *m);

/* --- the ring: requests to the kernel whose completions this loop delivers --- */

struct loop_io {
	void (*done)(struct loop_io *io, int res, uint32_t cqe_flags);
};
/*
 * A submission entry to fill (io_uring_prep_*), already bound to @io (leave user_data alone, and
 * don't set IOSQE_CQE_SKIP_SUCCESS), submitted at the end of the turn or before; NULL when as many
 * are in flight as the completion queue holds (try again from a poller, or after completions). Not
 * in simulation. done() runs once per completion, more often for a multishot request.
 */
struct io_uring_sqe *loop_sqe(struct loop *loop, struct loop_io *io);
/* Hands what is queued on the ring to the kernel now, and not at the turn's end: for what others
 * wait for while this thread goes on with something long. If that fails it stays queued. */
void loop_submit(struct loop *loop);
struct io_uring *loop_ring(struct loop *loop); /* NULL in simulation */
unsigned loop_ring_inflight(const struct loop *loop);
/* Its registered files and buffers: see loop/slots.h. NULL in simulation. */
struct ring_slots *loop_ring_slots(struct loop *loop);

/* --- parts: what another room keeps once per loop, found again by the address of its @kind --- */

struct loop_part {
	const void *kind;
	struct list link;
};
struct loop_part *loop_part_find(struct loop *loop, const void *kind); /* NULL: none */
void loop_part_add(struct loop *loop, struct loop_part *part);
void loop_part_del(struct loop *loop, struct loop_part *part); /* before loop_free() */

/* --- file descriptors, by poll requests on the ring --- */

struct loop_fd {
	void (*ready)(struct loop_fd *f, uint32_t revents);
	int fd;
	struct loop_io io; /* the loop's from here on */
	struct loop *loop;
	void (*gone)(struct loop_fd *f);
	struct list link;
	uint32_t events;
	bool armed, closing, edge;
};
/* Watches f->fd (set ->ready and ->fd) for @events (POLLIN...): ready() is called, turn by turn, as
 * long as there is one. 0 or -EBUSY when the ring is full. */
int loop_fd_add(struct loop *loop, struct loop_fd *f, uint32_t events);
/* The same, edge-triggered: ready() is called when something of @events has come since the watch
 * began or was told of last (maybe once too often), with all that is true then; who doesn't use it
 * up is not told again. */
int loop_fd_add_edge(struct loop *loop, struct loop_fd *f, uint32_t events);
/* Stops watching; ready() is not called again, but @f must live until @gone is called (later). */
void loop_fd_del(struct loop *loop, struct loop_fd *f, void (*gone)(struct loop_fd *f));

#endif
