/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * notify - sd_notify(3). Without a service manager every call does nothing. One that does not read what it is sent
 * would hold the server up, once its queue is full: what can be said later is said when there is room.
 */
#include "server/notify.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define LOOK_NS (5 * NSEC_PER_SEC) /* without a watchdog: how often it looks at the store */

static void tell(const char *state)
{
	int rc = sd_notify(0, state);

	if (rc < 0)
		log_warn("the service manager can't be told: %s", strerror(-rc));
}

/* A socket of ours at the same place, to ask whether there is room. -1: that can't be known. */
static int door_of(const char *at)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	size_t len = strlen(at);
	int fd;

	if ((at[0] != '/' && at[0] != '@') || len >= sizeof(sa.sun_path))
		return -1;
	memcpy(sa.sun_path, at, len);
	if (at[0] == '@')
		sa.sun_path[0] = 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&sa,
	                       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static bool has_room(const struct notify *n)
{
	struct pollfd p = {.fd = n->fd, .events = POLLOUT};

	return n->fd < 0 || (poll(&p, 1, 0) == 1 && p.revents & POLLOUT);
}

static void tell_status(struct notify *n, const char *also)
{
	struct wire_figures f;
	int rc;

	n->untold = !has_room(n);
	if (n->untold)
		return;
	wire_listener_figures(n->s->listener, &f);
	if (n->store.stopped)
		rc = sd_notifyf(0, "%sSTATUS=STOPPED: the store at %s takes no changes: %s", also,
		                n->s->door[0].addr, n->store.stopped_why);
	else
		rc = sd_notifyf(0, "%sSTATUS=serving at %s: %u connections, %u requests under way",
		                also, n->s->door[0].addr, f.conns, f.inflight);
	if (rc < 0)
		log_warn("the service manager can't be told: %s", strerror(-rc));
}

static void arm(struct notify *n)
{
	uint64_t wait = n->every_ns ? n->every_ns : LOOK_NS;

	if (loop_timer_arm(n->s->loop, &n->timer, loop_now(n->s->loop) + wait) < 0)
		log_error("no memory for the watchdog's timer");
}

/* It is told of at once: nobody else asks a store that has stopped. */
static void looked(struct pst_op *op)
{
	struct notify *n = container_of(op, struct notify, op);
	bool stopped = n->store.stopped;

	n->asking = false;
	if (op->status == 0)
		n->store = n->seen;
	if (!n->ending && n->store.stopped && !stopped)
		tell_status(n, "");
}

/* Busy: the next time. */
static void look(struct notify *n)
{
	if (n->asking)
		return;
	n->asking = true;
	n->op = (struct pst_op){.opcode = PST_OP_STATUS, .status_out = &n->seen, .done = looked};
	switch (store_submit(n->s->store, &n->op)) {
	case PST_DONE:
		looked(&n->op);
		break;
	case PST_QUEUED:
		break;
	case PST_BUSY:
		n->asking = false;
		break;
	}
}

static void fired(struct loop_timer *t)
{
	struct notify *n = container_of(t, struct notify, timer);

	if (n->every_ns || n->untold)
		tell_status(n, n->every_ns ? "WATCHDOG=1\n" : "");
	look(n);
	arm(n);
}

void notify_ready(struct notify *n, struct server *s)
{
	uint64_t usec = 0;

	*n = (struct notify){.s = s, .timer = {.fired = fired}, .fd = -1};
	if (!getenv("NOTIFY_SOCKET"))
		return;
	tell_status(n, "READY=1\n"); /* waits for room */
	n->fd = door_of(getenv("NOTIFY_SOCKET"));
	if (sd_watchdog_enabled(0, &usec) > 0 && usec)
		n->every_ns = MAX(usec * NSEC_PER_USEC / 2, NSEC_PER_MSEC);
	arm(n);
}

void notify_stopping(struct notify *n)
{
	n->ending = true;
	loop_timer_disarm(n->s->loop, &n->timer);
	if (n->fd >= 0)
		close(n->fd);
	n->fd = -1;
	tell("STOPPING=1\nSTATUS=ending: requests under way have ten seconds");
}
