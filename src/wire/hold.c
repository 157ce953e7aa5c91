/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hold - clients that hold what others wait for. A request whose payload is on its way to or from its client
 * has payload memory, and maybe a place among those that run; how long is up to the client. One that takes no
 * answers, or never gives what it announced, would keep them for ever, and be alive all the same. While nobody
 * else needs them it may. When others have waited for LACK_NS, it is cut off if it has kept something for
 * HOLD_NS: its session stays, so one that was only slow connects again and goes on.
 */
#include "wire/listener_int.h"

#define LACK_NS (1 * NSEC_PER_SEC)
#define HOLD_NS (4 * NSEC_PER_SEC)

/* Since when it waits for its client, and has what others may wait for (@full: a place among those that run
 * is); UINT64_MAX: it doesn't. */
static uint64_t waits_since(const struct sreq *r, bool full)
{
	switch (r->state) {
	case SREQ_ROOM:
		return full ? r->mark.run : UINT64_MAX;
	case SREQ_BODY:
	case SREQ_PULL:
		return r->mark.run;
	case SREQ_PUSH:
	case SREQ_SEND:
		return r->mark.done;
	default:
		return UINT64_MAX;
	}
}

/* It waits for memory, or (@full) for a place among those that run. */
static bool is_short(const struct sreq *r, uint64_t now, bool full)
{
	return (r->state == SREQ_MEM && now - r->mark.run >= LACK_NS) ||
	       (full && r->state == SREQ_ADMIT && now - r->mark.born >= LACK_NS);
}

static void look(struct conn *c, uint64_t now, bool full)
{
	c->lacks = c->again_ns && now - c->again_ns < LACK_NS;
	c->held_ns = UINT64_MAX;
	for (const struct sreq *r = c->count ? c->all : NULL; r; r = r->next_made) {
		c->held_ns = MIN(c->held_ns, waits_since(r, full));
		c->lacks |= is_short(r, now, full);
	}
}

bool hold_check(struct wire_listener *l, uint64_t now)
{
	bool full = session_run_full(l->table), again = false;
	unsigned lack = 0;
	struct conn *c;

	list_for_each (c, &l->conns, link) {
		if (c->state != CONN_UP)
			continue;
		look(c, now, full);
		lack += c->lacks;
		again |= c->held_ns != UINT64_MAX || !list_empty(&c->room);
	}
	list_for_each (c, &l->conns, link)
		if (c->state == CONN_UP && c->held_ns < now && now - c->held_ns >= HOLD_NS &&
		    lack > c->lacks)
			conn_cut(c, "it does not take its answers, or give its payload, and others "
			            "wait for the memory");
	return again;
}
