/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop - the reactor's turn, its clock, pollers and inbox. timer.c, ring.c and fd.c hold the rest.
 *
 * The inbox is a stack that any thread pushes on with one compare-and-swap and that the loop takes
 * whole with one exchange and then reverses. A sender makes a system call only if the loop is
 * asleep or about to be; how neither can miss the other stands at loop_wake().
 */
#include <unistd.h>

#include "loop/loop_int.h"

/* How stale the offset between the two clocks may get: bounds how late a step of the real-time
 * clock is noticed. */
#define REAL_REFRESH_NS (10 * NSEC_PER_MSEC)

/* What a busy poller's turn costs on the virtual clock. */
#define SIM_BUSY_NS NSEC_PER_USEC

void loop_opts_default(struct loop_opts *opts)
{
	*opts = (struct loop_opts){.ring_entries = 256, .spin_ns = 20 * NSEC_PER_USEC};
}

int loop_new(struct loop **ret_loop, const struct loop_opts *opts, struct pst_err *err)
{
	struct loop *loop = mem_alloc_aligned(_Alignof(struct loop), sizeof(*loop));
	int r;

	if (!loop)
		return err_set(err, -ENOMEM, "no memory for a loop");
	loop->opts = *opts;
	if (!loop->opts.ring_entries)
		loop->opts.ring_entries = 256;
	loop->wake_fd = -1;
	loop->owner = pthread_self();
	loop->spin_budget_ns = opts->spin_ns;
	loop->core = -1;
	list_init(&loop->failures);
	list_init(&loop->parts);
	list_init(&loop->pollers);
	list_init(&loop->fds_unarmed);
	if (opts->sim) {
		loop->now_ns = opts->sim_start_ns;
	} else {
		loop_clock_read(loop);
		r = ring_open(loop, err);
		if (r < 0) {
			ring_close(loop);
			mem_free(loop);
			return r;
		}
	}
	*ret_loop = loop;
	return 0;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	pst_assert(!loop->in_turn);
	pst_assert(list_empty(&loop->pollers));
	pst_assert(list_empty(&loop->parts));
	pst_assert(list_empty(&loop->fds_unarmed));
	pst_assert(!loop->heap_count);
	pst_assert(list_empty(&loop->failures));
	pst_assert(loop->failed || !loop_ring_inflight(loop));
	pst_assert(!atomic_load_explicit(&loop->inbox, memory_order_acquire));
	ring_close(loop);
	mem_free(loop->heap);
	mem_free(loop);
}

bool loop_is_mine(const struct loop *loop)
{
	return !loop->bound || pthread_equal(loop->owner, pthread_self());
}

bool loop_is_sim(const struct loop *loop)
{
	return loop->opts.sim;
}

/* --- the clock --- */

void loop_clock_read(struct loop *loop)
{
	if (loop->opts.sim)
		return;
	loop->now_ns = clock_mono_ns();
	if (loop->now_ns - loop->real_read_ns >= REAL_REFRESH_NS) {
		loop->real_read_ns = loop->now_ns;
		loop->real_offset_ns = clock_real_ns() - loop->now_ns;
	}
}

void loop_heard(struct loop *loop)
{
	loop->heard = true;
}

uint64_t loop_now(const struct loop *loop)
{
	return loop->now_ns;
}

uint64_t loop_real_now(const struct loop *loop)
{
	return loop->now_ns + loop->real_offset_ns;
}

uint64_t loop_up_ns(const struct loop *loop)
{
	return loop->bound && !loop->opts.sim ? loop->now_ns - loop->began_ns : 0;
}

uint64_t loop_busy_ns(const struct loop *loop)
{
	return loop->busy_ns;
}

int loop_core(const struct loop *loop)
{
	return loop->core;
}

void loop_core_set(struct loop *loop, int core)
{
	loop->core = core;
}

/* --- failure --- */

void loop_failure_add(struct loop *loop, struct loop_failure *f)
{
	loop_assert(loop);
	list_push(&loop->failures, &f->link);
}

void loop_failure_del(struct loop *loop, struct loop_failure *f)
{
	loop_assert(loop);
	list_del(&f->link);
}

void loop_fail(struct loop *loop, int status, const char *who)
{
	struct loop_failure *f, *next;

	loop_assert(loop);
	pst_assert(!loop->opts.sim && !loop->in_turn && status < 0);
	if (loop->failed)
		return;
	loop->failed = status;
	list_for_each_safe (f, next, &loop->failures, link)
		f->failed(f, status, who);
}

void loop_break(struct loop *loop, int status)
{
	loop_assert(loop);
	loop->broken = status;
}

/* --- the inbox --- */

/*
 * The handshake between a sender and a loop that goes to sleep. All four steps are sequentially
 * consistent, so one of the two sees what the other did:
 *
 *     sender                          loop (sleep_turn)
 *     1. push the message             a. asleep = true
 *     2. asleep?  -> wake it          b. message there?  -> don't sleep
 *
 * If 2 came before a in the total order, then so did 1, and b sees it. Of several senders only the
 * one that takes the flag down pays for the system call.
 */
static void loop_wake(struct loop *loop)
{
	const uint64_t one = 1;

	if (!atomic_load(&loop->asleep) || !atomic_exchange(&loop->asleep, false))
		return;
	/* Can't fail: the counter would have to reach 2^64 - 1. */
	if (write(loop->wake_fd, &one, sizeof(one)) != sizeof(one))
		pst_assert(errno == EAGAIN);
}

void loop_post(struct loop *loop, struct loop_msg *m)
{
	struct loop_msg *head = atomic_load_explicit(&loop->inbox, memory_order_relaxed);

	do
		m->next = head;
	while (!atomic_compare_exchange_weak(&loop->inbox, &head, m));
	loop_wake(loop);
}

void loop_stop(struct loop *loop)
{
	atomic_store(&loop->stop, true);
	loop_wake(loop);
}

bool loop_called(struct loop *loop)
{
	return atomic_load(&loop->inbox) || atomic_load(&loop->stop);
}

static int inbox_run(struct loop *loop)
{
	struct loop_msg *m, *next, *fifo = NULL;
	int count = 0;

	if (!atomic_load_explicit(&loop->inbox, memory_order_relaxed))
		return 0;
	/* Pairs with the senders' push: the message's contents are ours. */
	for (m = atomic_exchange_explicit(&loop->inbox, NULL, memory_order_acquire); m; m = next) {
		next = m->next;
		m->next = fifo;
		fifo = m;
	}
	for (m = fifo; m; m = next, count++) {
		next = m->next;
		m->run(m);
	}
	return count;
}

/* --- pollers --- */

void loop_poller_add(struct loop *loop, struct loop_poller *p)
{
	loop_assert(loop);
	list_push(&loop->pollers, &p->link);
}

void loop_poller_del(struct loop *loop, struct loop_poller *p)
{
	loop_assert(loop);
	if (loop->poller_next == &p->link)
		loop->poller_next = p->link.next;
	list_del(&p->link);
}

static int pollers_run(struct loop *loop)
{
	struct list *n;
	int count = 0;

	for (n = loop->pollers.next; n != &loop->pollers; n = loop->poller_next) {
		struct loop_poller *p = list_entry(n, struct loop_poller, link);

		loop->poller_next = n->next;
		count += p->poll(p);
	}
	loop->poller_next = NULL;
	return count;
}

static bool pollers_may_sleep(struct loop *loop)
{
	struct loop_poller *p;

	list_for_each (p, &loop->pollers, link)
		if (p->may_sleep && !p->may_sleep(p))
			return false;
	return true;
}

static bool pollers_sleep(struct loop *loop)
{
	struct loop_poller *p;

	list_for_each (p, &loop->pollers, link)
		if (p->sleeps && !p->sleeps(p))
			return false;
	return true;
}

/* --- parts --- */

struct loop_part *loop_part_find(struct loop *loop, const void *kind)
{
	struct loop_part *part;

	list_for_each (part, &loop->parts, link)
		if (part->kind == kind)
			return part;
	return NULL;
}

void loop_part_add(struct loop *loop, struct loop_part *part)
{
	loop_assert(loop);
	list_push(&loop->parts, &part->link);
}

void loop_part_del(struct loop *loop, struct loop_part *part)
{
	loop_assert(loop);
	list_del(&part->link);
}

/* --- the turn --- */

static int take_ownership(struct loop *loop)
{
	loop->owner = pthread_self();
	loop->bound = true;
	loop_clock_read(loop);
	loop->began_ns = loop->now_ns;
	return loop->opts.sim ? 0 : ring_bind(loop);
}

static uint64_t add_sat(uint64_t a, uint64_t b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

/* How long a turn that found nothing to do may sleep. */
static uint64_t sleep_ns(struct loop *loop, uint64_t deadline_ns, uint64_t idle_since_ns)
{
	uint64_t until = MIN(deadline_ns, timers_next(loop));

	if (loop->opts.poll || until <= loop->now_ns || !list_empty(&loop->fds_unarmed) ||
	    ring_ready(loop) || !pollers_may_sleep(loop))
		return 0;
	loop->spin_applies = loop_ring_inflight(loop) == loop->inflight_fds;
	if (loop->spin_applies && loop->now_ns - idle_since_ns < loop->spin_budget_ns)
		return 0;
	if (!pollers_sleep(loop))
		return 0;
	return until == UINT64_MAX ? UINT64_MAX : until - loop->now_ns;
}

/*
 * Spinning is for the inbox, and for what comes by memory shared with another process (loop_heard()):
 * it spares a sender the wake-up and the loop the way back. It is worth it as long as messages tend
 * to come within spin_ns. For what the kernel tells (requests, sockets)
 * it would only burn the time that they take; and the kernel likes to run the peer that a packet
 * woke on the very processor where its sender ran and, it thinks, is about to sleep.
 */
static void spin_learn(struct loop *loop, uint64_t idle_ns, bool by_message)
{
	if (!(by_message || loop->heard) || idle_ns > loop->opts.spin_ns)
		loop->spin_budget_ns /= 2;
	else
		loop->spin_budget_ns =
		        MIN(loop->opts.spin_ns, 2 * loop->spin_budget_ns + loop->opts.spin_ns / 16);
}

static int pass(struct loop *loop, bool *ret_message)
{
	int count = inbox_run(loop);

	*ret_message = count > 0;
	count += timers_run(loop);
	if (!list_empty(&loop->fds_unarmed))
		count += fds_run(loop);
	if (!list_empty(&loop->pollers))
		count += pollers_run(loop);
	return count;
}

static int turn_sim(struct loop *loop, uint64_t timeout_ns)
{
	const uint64_t deadline = add_sat(loop->now_ns, timeout_ns);
	bool message;
	int count = pass(loop, &message);

	while (!count && loop->now_ns < deadline && !atomic_load(&loop->stop)) {
		uint64_t next = MIN(deadline, timers_next(loop));

		if (!pollers_may_sleep(loop))
			next = MIN(next, loop->now_ns + SIM_BUSY_NS);
		if (next == UINT64_MAX)
			return -EDEADLK;
		loop->now_ns = MAX(next, loop->now_ns);
		count = pass(loop, &message);
	}
	return count;
}

static int turn_real(struct loop *loop, uint64_t timeout_ns)
{
	uint64_t deadline, idle_since, before = loop->now_ns;
	bool interrupted = false, message;
	int count, r;

	loop_clock_read(loop);
	/* Since it slept last, or its last turn began: without a look at the clock of its own. */
	if (loop->worked)
		loop->busy_ns += loop->now_ns - before;
	loop->worked = false;
	deadline = add_sat(loop->now_ns, timeout_ns);
	idle_since = loop->now_ns;
	loop->spin_applies = loop->heard = false;
	for (;;) {
		count = pass(loop, &message);
		r = ring_turn(loop, count ? 0 : sleep_ns(loop, deadline, idle_since), &interrupted);
		if (r < 0)
			return r;
		count += r;
		if (count || interrupted || loop->now_ns >= deadline ||
		    atomic_load_explicit(&loop->stop, memory_order_relaxed))
			break;
		loop_clock_read(loop);
	}
	loop->worked = count > 0;
	if (loop->opts.spin_ns && loop->spin_applies)
		spin_learn(loop, loop->now_ns - idle_since, message);
	return count;
}

int loop_turn(struct loop *loop, uint64_t timeout_ns)
{
	int r;

	pst_assert(loop_is_mine(loop) && !loop->in_turn);
	if (unlikely(!loop->bound)) {
		r = take_ownership(loop);
		if (r < 0)
			return r;
	}
	loop->in_turn = true;
	r = loop->opts.sim ? turn_sim(loop, timeout_ns) : turn_real(loop, timeout_ns);
	loop->in_turn = false;
	return r;
}

int loop_run(struct loop *loop)
{
	/* Saves the kernel a look-up per system call; it is a property of the thread, so it must
	 * not outlive this call. Without it everything works the same. */
	bool registered = !loop->opts.sim && io_uring_register_ring_fd(&loop->ring) == 1;
	int r = 0;

	while (r >= 0 && !atomic_load_explicit(&loop->stop, memory_order_acquire))
		r = loop_turn(loop, UINT64_MAX);
	if (registered)
		io_uring_unregister_ring_fd(&loop->ring);
	if (r >= 0)
		atomic_store(&loop->stop, false); /* one that was told to end stays told */
	return MIN(r, 0);
}
