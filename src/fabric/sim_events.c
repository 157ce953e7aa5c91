/* SPDX-License-Identifier: BSD-3-Clause */
/* sim, events: all that happens to a link, in order of time. See sim_int.h. */
#include "fabric/sim_int.h"

/* --- events --- */

uint64_t add_sat(uint64_t a, uint64_t b)
{
	return a + b < a ? NEVER : a + b;
}

uint64_t now_of(const struct sim_link *l)
{
	return loop_now(l->loop);
}

uint64_t between(struct sim_link *l, uint64_t min, uint64_t max)
{
	return max <= min ? min : min + rng_below(&l->rng, max - min + 1);
}

uint64_t delay(struct sim_link *l)
{
	return between(l, l->k.delay_min_ns, l->k.delay_max_ns);
}

/* A message's time from now. */
uint64_t soon(struct sim_link *l)
{
	return add_sat(now_of(l), delay(l));
}

/* When the timer must run. */
static uint64_t next_due(const struct sim_link *l)
{
	const struct sim_ev *ev;
	uint64_t due = NEVER;

	list_for_each (ev, &l->events, link) {
		due = MIN(due, ev->local ? ev->due_ns : MAX(ev->due_ns, l->stalled_until_ns));
		if (due <= ev->due_ns)
			break;
	}
	return due;
}

void link_rearm(struct sim_link *l)
{
	int rc;

	if (l->running)
		return;
	rc = loop_timer_arm(l->loop, &l->timer, next_due(l));
	pst_assert(rc == 0); /* it was armed, or has just fired */
}

void ev_arm(struct sim_link *l, struct sim_ev *ev, uint64_t due_ns)
{
	struct list *at = l->events.prev;

	list_del(&ev->link);
	ev->due_ns = due_ns;
	ev->order = ++l->order;
	for (at = l->events.prev; at != &l->events; at = at->prev) {
		if (list_entry(at, struct sim_ev, link)->due_ns <= due_ns)
			break;
	}
	list_insert_(&ev->link, at, at->next);
	link_rearm(l);
}

void ev_init(struct sim_ev *ev, bool local, void (*fire)(struct sim_link *l, struct sim_ev *ev))
{
	*ev = (struct sim_ev){.fire = fire, .local = local};
	list_init(&ev->link);
}

static struct sim_ev *ev_next(struct sim_link *l, uint64_t order_end)
{
	struct sim_ev *ev;

	list_for_each (ev, &l->events, link) {
		if (ev->due_ns > now_of(l))
			return NULL;
		/* What this run causes waits for the next: no handler is called from inside the
		 * function that caused it, and nobody is starved. */
		if (ev->order <= order_end && (ev->local || now_of(l) >= l->stalled_until_ns))
			return ev;
	}
	return NULL;
}

static bool maybe_cut(struct sim_link *l)
{
	l->events_seen++;
	if (l->events_seen != l->k.cut_after && !rng_chance(&l->rng, l->k.cut))
		return false;
	link_cut(l, -ECONNRESET, between(l, 0, 10 * l->k.delay_max_ns),
	         between(l, 0, 10 * l->k.delay_max_ns));
	return true;
}

void link_run(struct loop_timer *t)
{
	struct sim_link *l = container_of(t, struct sim_link, timer);
	const uint64_t order_end = l->order;
	struct sim_ev *ev;
	int rc = loop_timer_arm(l->loop, &l->timer, NEVER);

	pst_assert(rc == 0); /* the place that it just left */
	l->running = true;
	while ((ev = ev_next(l, order_end))) {
		if (!ev->local && !l->cut && maybe_cut(l))
			continue; /* which may have taken it */
		list_del(&ev->link);
		ev->fire(l, ev);
	}
	l->running = false;
	if (l->end[0].state == END_GONE && l->end[1].state == END_GONE)
		link_free(l);
	else
		link_rearm(l);
}

void maybe_flip(struct sim_link *l, const struct iovec *iov, uint32_t count, uint64_t off,
                uint64_t len)
{
	uint8_t byte;

	if (!(l->k.flip > 0) || !len || !rng_chance(&l->rng, l->k.flip))
		return;
	off += rng_below(&l->rng, len);
	iov_gather(&byte, iov, count, off, 1);
	byte ^= (uint8_t)(1u << rng_below(&l->rng, 8));
	iov_scatter(iov, count, off, &byte, 1);
}
