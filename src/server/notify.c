/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * notify - sd_notify(3). Without a service manager every call does nothing.
 */
#include "server/notify.h"

#include <systemd/sd-daemon.h>

static void tell(const char *state)
{
	int rc = sd_notify(0, state);

	if (rc < 0)
		log_warn("the service manager can't be told: %s", strerror(-rc));
}

static void tell_status(struct notify *n, const char *also)
{
	struct wire_figures f;
	int rc;

	wire_listener_figures(n->s->listener, &f);
	rc = sd_notifyf(0, "%sSTATUS=serving at %s: %u connections, %u requests under way", also,
	                n->s->door[0].addr, f.conns, f.inflight);
	if (rc < 0)
		log_warn("the service manager can't be told: %s", strerror(-rc));
}

static void arm(struct notify *n)
{
	if (loop_timer_arm(n->s->loop, &n->timer, loop_now(n->s->loop) + n->every_ns) < 0)
		log_error("no memory for the watchdog's timer");
}

static void fired(struct loop_timer *t)
{
	struct notify *n = container_of(t, struct notify, timer);

	tell_status(n, "WATCHDOG=1\n");
	arm(n);
}

void notify_ready(struct notify *n, struct server *s)
{
	uint64_t usec = 0;

	*n = (struct notify){.s = s, .timer = {.fired = fired}};
	tell_status(n, "READY=1\n");
	if (sd_watchdog_enabled(0, &usec) <= 0 || !usec)
		return;
	n->every_ns = MAX(usec * NSEC_PER_USEC / 2, NSEC_PER_MSEC);
	arm(n);
}

void notify_stopping(struct notify *n)
{
	loop_timer_disarm(n->s->loop, &n->timer);
	tell("STOPPING=1\nSTATUS=ending: requests under way have ten seconds");
}
