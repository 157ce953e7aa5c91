/* SPDX-License-Identifier: BSD-3-Clause */
/* Life and death of a socket: see the states and rules in net_int.h. */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "net/net_int.h"

#define CONNECT_NS     (10 * NSEC_PER_SEC)
#define DEAD_NS        (15 * NSEC_PER_SEC)
#define LINGER_NS      (5 * NSEC_PER_SEC)
#define QUEUE_MAX      (16 * MIB)
#define AHEAD_MAX      (16 * KIB)
#define CONNS_MAX      1024
#define BACKLOG        512
#define UNIX_MODE      0600
#define DEAD_PROBES    3
#define WATCHED_EVENTS (POLLIN | POLLOUT | POLLRDHUP)

static void deadline_fired(struct loop_timer *t);

/* --- options --- */

void opts_fill(struct net_opts *ret, const struct net_opts *opts)
{
	*ret = opts ? *opts : (struct net_opts){0};
	ret->connect_ns = ret->connect_ns ? ret->connect_ns : CONNECT_NS;
	ret->dead_ns = ret->dead_ns ? ret->dead_ns : DEAD_NS;
	ret->linger_ns = ret->linger_ns ? ret->linger_ns : LINGER_NS;
	ret->queue_max = ret->queue_max ? ret->queue_max : QUEUE_MAX;
	ret->ahead_max = ret->ahead_max ? MIN(ret->ahead_max, NET_AHEAD_LIMIT) : AHEAD_MAX;
	ret->conns_max = ret->conns_max ? ret->conns_max : CONNS_MAX;
	ret->backlog = ret->backlog ? ret->backlog : BACKLOG;
	ret->unix_mode = ret->unix_mode ? ret->unix_mode : UNIX_MODE;
}

int opts_check(const struct net_opts *opts, struct pst_err *err)
{
	if (opts && opts->tls && opts->zerocopy_min)
		return err_set(err, -EINVAL, "TLS writes what it sends itself: no zero-copy");
	return 0;
}

static void set(int fd, int level, int name, int value)
{
	/* A wish: a kernel that lacks one of these still carries the bytes. */
	(void)setsockopt(fd, level, name, &value, sizeof(value));
}

static void tune_dead(int fd, uint64_t dead_ns)
{
	const int dead_s = (int)MIN(DIV_ROUND_UP(dead_ns, NSEC_PER_SEC), 24 * 3600);
	const int probe_s = MAX(dead_s / (2 * DEAD_PROBES), 1);

	set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(fd, IPPROTO_TCP, TCP_KEEPIDLE, MAX(dead_s / 2, 1));
	set(fd, IPPROTO_TCP, TCP_KEEPINTVL, probe_s);
	set(fd, IPPROTO_TCP, TCP_KEEPCNT, DEAD_PROBES);
	set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)MIN(dead_ns / NSEC_PER_MSEC, 24 * 3600 * 1000));
}

void sock_tune(int fd, const struct net_opts *opts, bool is_unix)
{
	if (opts->send_buf)
		set(fd, SOL_SOCKET, SO_SNDBUF, opts->send_buf);
	if (opts->recv_buf)
		set(fd, SOL_SOCKET, SO_RCVBUF, opts->recv_buf);
	if (is_unix)
		return;
	set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (opts->dead_ns != UINT64_MAX)
		tune_dead(fd, opts->dead_ns);
}

void sock_peer_cred(struct net_sock *s)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (!s->unix_sock || getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) ||
	    cred.uid == (uid_t)-1)
		return;
	s->peer.has_cred = true;
	s->peer.uid = cred.uid;
	s->peer.gid = cred.gid;
	s->peer.pid = cred.pid;
}

/* --- birth --- */

int sock_new(struct net_sock **ret_sock, struct loop *loop, const struct net_opts *opts,
             const struct net_handlers *handlers, void *user)
{
	struct net_part *part = part_get(loop);
	struct net_sock *s;

	if (!part)
		return -ENOMEM;
	s = mem_calloc(1, sizeof(*s));
	if (!s) {
		part_put(part);
		return -ENOMEM;
	}
	s->part = part;
	s->loop = loop;
	s->handlers = handlers;
	s->user = user;
	s->fd = -1;
	s->deadline.fired = deadline_fired;
	opts_fill(&s->opts, opts);
	list_init(&s->link);
	list_init(&s->listed);
	list_init(&s->queue);
	list_init(&s->ended);
	list_init(&s->noted);
	list_push(&part->socks, &s->part_link);
	part->owned++;
	*ret_sock = s;
	return 0;
}

static void watch_ready(struct loop_fd *f, uint32_t revents)
{
	struct net_sock *s = container_of(f, struct net_sock, watch);

	if (s->state == NET_CONNECTING) {
		connect_ready(s, revents);
		return;
	}
	if (revents & (POLLIN | POLLRDHUP | POLLHUP | POLLERR | POLLNVAL))
		s->rx_ready = true;
	if (revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL))
		s->hup = true;
	if (revents & (POLLERR | POLLNVAL))
		s->error_seen = true;
	if (revents & (POLLOUT | POLLERR | POLLHUP))
		s->tx_blocked = false;
	sock_wake(s);
}

int sock_watch(struct net_sock *s)
{
	int r;

	s->watch.ready = watch_ready;
	s->watch.fd = s->fd;
	r = loop_fd_add_edge(s->loop, &s->watch, WATCHED_EVENTS);
	s->watching = !r;
	return r;
}

void sock_up(struct net_sock *s)
{
	s->state = NET_UP;
	s->rx_ready = true;
	s->err.text[0] = '\0'; /* of addresses that didn't answer */
	loop_timer_disarm(s->loop, &s->deadline);
	sock_wake(s);
	if (s->accepting) {
		listener_give(s);
	} else if (!s->told_up) {
		s->told_up = true;
		s->handlers->up(s, 0);
	}
}

void sock_connected(struct net_sock *s)
{
	s->local.len = sizeof(s->local.sa);
	(void)getsockname(s->fd, (struct sockaddr *)&s->local.sa, &s->local.len);
	sock_peer_cred(s);
	if (s->tls) {
		s->state = NET_HANDSHAKE;
		sock_wake(s);
	} else {
		sock_up(s);
	}
}

static int take_fd(struct net_sock *s, int fd, bool server, struct pst_err *err)
{
	const int flags = fcntl(fd, F_GETFL);

	s->fd = fd;
	s->server = server;
	s->peer.addr.len = sizeof(s->peer.addr.sa);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) ||
	    getpeername(fd, (struct sockaddr *)&s->peer.addr.sa, &s->peer.addr.len))
		return err_set(err, -errno, "descriptor %d is no connected socket: %s", fd,
		               strerror(errno));
	s->unix_sock = net_addr_is_unix(&s->peer.addr);
	sock_tune(fd, &s->opts, s->unix_sock);
	if (s->unix_sock && s->opts.zerocopy_min)
		return err_set(err, -EINVAL, "a unix socket copies: no zero-copy");
	if (sock_zc_new(s, err))
		return -ENOMEM;
	if (sock_watch(s))
		return err_set(err, -EBUSY, "the ring has no room to watch a socket");
	if (s->opts.tls) {
		int r = sock_tls_new(s, server ? NULL : s->opts.tls_name, err);

		if (!r &&
		    loop_timer_arm(s->loop, &s->deadline, loop_now(s->loop) + s->opts.connect_ns))
			r = err_set(err, -ENOMEM, "no memory for a timer");
		if (r)
			return r;
	}
	s->told_up = !s->tls;
	sock_connected(s);
	return 0;
}

int net_sock_adopt(struct net_sock **ret_sock, struct loop *loop, int fd, bool server,
                   const struct net_opts *opts, const struct net_handlers *handlers, void *user,
                   struct pst_err *err)
{
	struct net_sock *s;
	int r;

	loop_assert(loop);
	r = opts_check(opts, err);
	if (!r) {
		r = sock_new(&s, loop, opts, handlers, user);
		if (r)
			err_set(err, r, "no memory for a socket");
	}
	if (r) {
		close(fd);
		return r;
	}
	r = take_fd(s, fd, server, err);
	if (r) {
		s->handlers = NULL;
		net_sock_abort(s);
		return r;
	}
	*ret_sock = s;
	return 0;
}

/* --- death --- */

static void watch_gone(struct loop_fd *f)
{
	struct net_sock *s = container_of(f, struct net_sock, watch);

	s->watching = s->watch_ending = false;
	close(s->fd);
	s->fd = -1;
	sock_wake(s);
}

/* The descriptor goes when the ring has let go of it: before, the connection would live on. */
static void release_fd(struct net_sock *s)
{
	if (s->fd < 0)
		return;
	if (!s->watching) {
		close(s->fd);
		s->fd = -1;
	} else if (!s->watch_ending) {
		s->watch_ending = true;
		loop_fd_del(s->loop, &s->watch, watch_gone);
	}
}

static void reset_on_close(struct net_sock *s)
{
	const struct linger reset = {.l_onoff = 1};

	if (s->fd >= 0)
		(void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

/* Once all that was queued has ended. */
static void tell_down(struct net_sock *s)
{
	send_tell(s);
	/* Its owner may have closed it in a done(). */
	if (s->state != NET_DOWN || !s->tell_down || !list_empty(&s->noted))
		return;
	s->tell_down = false;
	if (!s->told_up) {
		s->told_up = true;
		s->handlers->up(s, s->status);
	} else {
		s->handlers->down(s, s->status);
	}
}

void sock_fail(struct net_sock *s, int status, const char *fmt, ...)
{
	char text[PST_ERR_TEXT_BYTES];
	enum net_state was = s->state;
	va_list ap;

	if (was == NET_DOWN || was == NET_DEAD)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err_set(&s->err, status, "%s", text);
	s->status = status;
	send_cancel(s, status);
	if (was == NET_CLOSING) {
		sock_kill(s);
		return;
	}
	if (s->accepting) {
		listener_failed(s);
		return;
	}
	s->state = NET_DOWN;
	s->dest_left = 0;
	net_resolve_cancel(s->resolve);
	s->resolve = NULL;
	loop_timer_disarm(s->loop, &s->deadline);
	loop_timer_disarm(s->loop, &s->retry);
	/* What the kernel still reads without a copy it lets go of when it may drop it. */
	if (!list_empty(&s->noted))
		reset_on_close(s);
	release_fd(s);
	s->tell_down = true;
	tell_down(s);
}

void sock_kill(struct net_sock *s)
{
	if (s->state == NET_DEAD)
		return;
	if (s->linger_reset)
		reset_on_close(s);
	listener_left(s);
	s->state = NET_DEAD;
	s->dest_left = 0;
	net_resolve_cancel(s->resolve);
	s->resolve = NULL;
	loop_timer_disarm(s->loop, &s->deadline);
	loop_timer_disarm(s->loop, &s->retry);
	send_cancel(s, -ECANCELED);
	release_fd(s);
	sock_wake(s);
}

static void sock_free(struct net_sock *s)
{
	struct net_part *part = s->part;
	void (*gone)(void *user) = s->handlers ? s->handlers->gone : NULL;
	void *user = s->user;

	pst_assert(list_empty(&s->queue) && list_empty(&s->ended));
	list_del(&s->link);
	list_del(&s->part_link);
	recv_done(s);
	sock_tls_free(s);
	sock_zc_free(s);
	if (s->listener)
		listener_put(s->listener);
	mem_free(s->target);
	mem_free(s);
	if (gone)
		gone(user);
	part_put(part);
}

void sock_forget_owner(struct net_sock *s)
{
	pst_assert(s->state != NET_CLOSING && !s->forgotten);
	s->forgotten = true;
	s->part->owned--;
}

void net_sock_abort(struct net_sock *s)
{
	if (!s)
		return;
	loop_assert(s->loop);
	sock_forget_owner(s);
	s->linger_reset = true;
	sock_kill(s);
}

void net_sock_close(struct net_sock *s)
{
	if (!s)
		return;
	loop_assert(s->loop);
	sock_forget_owner(s);
	if (s->state != NET_UP ||
	    loop_timer_arm(s->loop, &s->deadline, loop_now(s->loop) + s->opts.linger_ns)) {
		sock_kill(s);
		return;
	}
	s->state = NET_CLOSING;
	listener_leaving(s);
	s->tx_shutdown = true;
	s->paused = false;
	s->dest_left = 0;
	s->stash_len = 0;
	sock_wake(s);
}

void net_sock_shutdown(struct net_sock *s)
{
	loop_assert(s->loop);
	if (s->state != NET_UP || s->tx_shutdown)
		return;
	s->tx_shutdown = true;
	sock_wake(s);
}

static void deadline_fired(struct loop_timer *t)
{
	struct net_sock *s = container_of(t, struct net_sock, deadline);

	if (s->state == NET_CLOSING) {
		/* What it would not take in all that time is not worth keeping the connection. */
		s->linger_reset = !list_empty(&s->queue);
		sock_kill(s);
		return;
	}
	connect_expired(s);
}

/* --- service: once a turn, if there is something to do --- */

void sock_wake(struct net_sock *s)
{
	if (list_empty(&s->link))
		list_push(&s->part->todo, &s->link);
}

/* A descriptor that nobody reads from may still say that the connection is broken. */
static void look_for_error(struct net_sock *s)
{
	int error = 0;
	socklen_t len = sizeof(error);

	s->error_seen = false;
	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) || !error)
		return;
	sock_fail_errno(s, -error);
}

static void service_open(struct net_sock *s)
{
	if (s->error_seen && (s->paused || s->rx_eof))
		look_for_error(s);
	if (sock_open(s) && (s->rx_ready || s->look_again) && !s->paused)
		recv_run(s);
	if (sock_open(s) && !s->tx_ended)
		send_run(s);
	if (s->state == NET_CLOSING && s->tx_ended && s->rx_eof)
		sock_kill(s);
}

void sock_service(struct net_sock *s)
{
	if (s->state == NET_START)
		connect_next(s);
	if (s->state == NET_HANDSHAKE)
		sock_tls_handshake(s);
	if (sock_open(s))
		service_open(s);
	tell_down(s);
	if (s->state == NET_DEAD && s->fd < 0 && list_empty(&s->queue) && list_empty(&s->ended) &&
	    list_empty(&s->noted))
		sock_free(s);
}

/* --- what can be asked --- */

int sock_explain(struct pst_err *err, int status)
{
	switch (status) {
	case -ECONNRESET:
	case -EPIPE:
		return err_set(err, -ECONNRESET, "the connection was reset by the peer");
	case -ETIMEDOUT:
		return err_set(err, status, "the peer doesn't answer any more");
	default:
		return err_set(err, status, "the connection broke: %s", strerror(-status));
	}
}

void sock_fail_errno(struct net_sock *s, int status)
{
	struct pst_err err;
	int r = sock_explain(&err, status);

	sock_fail(s, r, "%s", err.text);
}

struct loop *net_sock_loop(const struct net_sock *s)
{
	return s->loop;
}

void *net_sock_user(const struct net_sock *s)
{
	return s->user;
}

void net_sock_set_handlers(struct net_sock *s, const struct net_handlers *handlers, void *user)
{
	loop_assert(s->loop);
	s->handlers = handlers;
	s->user = user;
}

const struct net_peer *net_sock_peer(const struct net_sock *s)
{
	return &s->peer;
}

const struct net_addr *net_sock_local(const struct net_sock *s)
{
	return &s->local;
}

bool net_sock_is_tls(const struct net_sock *s)
{
	return s->tls;
}

const char *net_sock_error(const struct net_sock *s)
{
	return s->err.text;
}

const struct net_count *net_sock_count(const struct net_sock *s)
{
	return &s->count;
}
