/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_watch - the wire's clients watch: each the container and one of its objects, again and again,
 * with the number that it was told last.
 *
 *  J9.  Nothing is missed: who is told a number, and gives it back, is told of every change that is made
 *       after that, if only the network and the server come to rest; over reconnects, crashes and
 *       restarts too.
 *  J10. A number never lags behind what others have been told before: who arms a watch after somebody
 *       was told n of the same thing is told n at least.
 *
 * A lost wake is hidden by the next change, so the run comes to rest now and then (watches_rest()).
 */
#include "wire_sim.h"

#define REST_NS (60 * NSEC_PER_SEC)

/* Is @t a change that watchers of @thing must be told of? */
static bool is_change_of(const struct tried *t, unsigned thing)
{
	bool object = t->what == WRITE || t->what == APPEND || t->what == REPLACE;

	if (!t->ended || t->status)
		return false;
	if (thing < THING_ALL)
		return t->what == WRITE && t->target == thing;
	return object || t->what == N_WRITE || (t->what >= N_CREATE && t->what <= N_LINK);
}

/* The op that began after the watcher was told last, was done, and has not been told of; -1: none. */
static int missed(const struct world *w, const struct watcher *a)
{
	for (uint32_t i = w->count; i-- > 0;)
		if (w->tried[i].from_ns > a->told_ns && is_change_of(&w->tried[i], a->thing))
			return (int)i;
	return -1;
}

static void told(struct pst_op *op)
{
	struct watcher *a = container_of(op, struct watcher, op);
	struct world *w = a->client->w;

	a->armed = false;
	if (op->status)
		return;
	w->told++;
	if (op->ret_off < a->floor)
		WRONG(w, "a watch was told %llx of thing %u, after %llx was told: J10",
		      (unsigned long long)op->ret_off, a->thing, (unsigned long long)a->floor);
	a->seen = op->ret_off;
	a->told_ns = loop_now(w->loop);
	w->told_last[a->thing] = MAX(w->told_last[a->thing], a->seen);
}

static void arm(struct world *w, struct watcher *a, bool for_ever)
{
	struct client *c = a->client;

	a->floor = w->told_last[a->thing];
	a->op = (struct pst_op){
	        .opcode = PST_OP_WATCH, .cont = w->cont, .off = a->seen, .done = told};
	if (a->thing < THING_ALL)
		a->op.oid = oid_target(a->thing);
	if (!for_ever && rng_chance(&w->rng, 0.1))
		a->op.deadline_ns = loop_now(w->loop) + rng_below(&w->rng, 20 * NSEC_PER_MSEC);
	a->armed = true;
	switch (store_submit(c->store, &a->op)) {
	case PST_DONE:
		told(&a->op);
		break;
	case PST_BUSY:
		a->armed = false;
		break;
	case PST_QUEUED:
		break;
	}
}

static bool may_watch(const struct client *c)
{
	return !c->prefixed && c->revoking == GRANTED;
}

void watchers_go(struct world *w)
{
	struct client *c = &w->client[rng_below(&w->rng, CLIENTS)];
	struct watcher *a = &c->watcher[rng_below(&w->rng, WATCHERS)];

	if (may_watch(c) && !a->armed)
		arm(w, a, false);
}

void watchers_up(struct world *w, struct client *c)
{
	for (unsigned i = 0; i < WATCHERS; i++)
		c->watcher[i] = (struct watcher){
		        .client = c,
		        .thing = (uint8_t)(i ? rng_below(&w->rng, REGISTERS) : THING_ALL)};
}

void watchers_down(struct client *c)
{
	for (unsigned i = 0; i < WATCHERS; i++) {
		struct watcher *a = &c->watcher[i];

		if (a->armed)
			store_cancel(c->store, &a->op);
		for (unsigned n = 0; a->armed && n < 200000; n++)
			(void)loop_turn(c->w->loop, NSEC_PER_MSEC);
		if (a->armed)
			WRONG(c->w, "a watch that was cancelled does not end");
	}
}

/* Arms what is not, and looks whether anybody has still to be told of something; -1: nobody has. */
static int overdue(struct world *w, const struct watcher **ret_who)
{
	for (unsigned i = 0; i < CLIENTS * WATCHERS; i++) {
		struct watcher *a = &w->client[i / WATCHERS].watcher[i % WATCHERS];
		int at = may_watch(a->client) ? missed(w, a) : -1;

		if (at < 0)
			continue;
		if (!a->armed)
			arm(w, a, true);
		*ret_who = a;
		return at;
	}
	return -1;
}

void watches_rest(struct world *w)
{
	uint64_t until = loop_now(w->loop) + REST_NS;
	const struct watcher *a;
	int at;

	while ((at = overdue(w, &a)) >= 0 && loop_now(w->loop) < until && !w->wrong[0])
		(void)loop_turn(w->loop, 10 * NSEC_PER_MSEC);
	if (at >= 0)
		WRONG(w, "a watch of thing %u was never told of op %d: J9", a->thing, at);
}
