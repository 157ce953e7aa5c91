/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Listeners. The watch is level-triggered and a few connections are taken at a time, so that a flood
 * of them leaves the loop time for those that it has. Above the limit somebody makes room, of those
 * that nobody knows. If there is none, the connection is taken and closed: left waiting, its client could
 * not tell a full server from a slow one.
 */
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "net/net_int.h"

#define ACCEPTS_PER_TURN 16
/* No descriptors or memory: nothing tells when there are some again. */
#define RETRY_NS         (100 * NSEC_PER_MSEC)
#define FAILED_LINGER_NS NSEC_PER_SEC
#define IN_USE_MAX_MS    2000
#define IN_USE_STEP_MS   20

static void listener_ready(struct loop_fd *f, uint32_t revents);

void listener_put(struct net_listener *l)
{
	struct net_part *part = l->part;

	if (--l->refs)
		return;
	mem_free(l);
	part_put(part);
}

static void unlist(struct net_sock *s)
{
	if (list_empty(&s->listed))
		return;
	list_del(&s->listed);
	if (s->state == NET_CLOSING)
		s->listener->leaving_count--;
	else
		s->listener->early_count--;
}

void listener_left(struct net_sock *s)
{
	if (!s->listener)
		return;
	unlist(s);
	s->listener->conns -= s->counted;
	s->counted = false;
}

void listener_leaving(struct net_sock *s)
{
	if (!s->listener)
		return;
	s->listener->conns -= s->counted;
	s->counted = false;
	s->listener->leaving_count++;
	list_push(&s->listener->leaving, &s->listed);
}

/* --- taking connections --- */

static void refuse(struct net_listener *l, int fd, const struct net_addr *peer)
{
	uint8_t words[NET_REFUSAL_MAX];
	char text[80];

	l->refused++;
	if (l->accept->refusal && !l->opts.tls)
		(void)send(fd, words, l->accept->refusal(words, l->user),
		           MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
	snprintf(text, sizeof(text), "refused: %u connections are open, the limit", l->conns);
	if (l->accept->failed)
		l->accept->failed(l, peer, -EUSERS, text, l->user);
}

static int sock_of(struct net_listener *l, int fd, const struct net_addr *peer,
                   struct net_sock **ret_sock)
{
	struct net_sock *s;
	int r = sock_new(&s, l->loop, &l->opts, NULL, NULL);

	if (r) {
		close(fd);
		return r;
	}
	s->fd = fd;
	s->server = true;
	s->unix_sock = net_addr_is_unix(&l->addr);
	s->peer.addr = *peer;
	s->told_up = s->accepting = true;
	s->listener = l;
	l->refs++;
	l->conns++;
	s->counted = true;
	l->early_count++;
	list_push(&l->early, &s->listed);
	r = sock_watch(s);
	if (!r)
		r = sock_zc_new(s, NULL);
	if (!r && l->opts.tls)
		r = sock_tls_new(s, NULL, NULL);
	if (!r && l->opts.tls)
		r = loop_timer_arm(l->loop, &s->deadline, loop_now(l->loop) + l->opts.connect_ns);
	if (r) {
		net_sock_abort(s);
		return r;
	}
	*ret_sock = s;
	return 0;
}

void listener_give(struct net_sock *s)
{
	struct net_listener *l = s->listener;

	s->accepting = false;
	unlist(s);
	if (!l->accept->accept(l, s, l->user)) {
		s->handlers = NULL;
		net_sock_close(s);
		return;
	}
	pst_assert(s->handlers);
}

/* The peer may still want to read why: it is shut out, and heard to its end. */
static void linger(struct net_sock *s)
{
	if (s->fd < 0 ||
	    loop_timer_arm(s->loop, &s->deadline, loop_now(s->loop) + FAILED_LINGER_NS)) {
		sock_kill(s);
		return;
	}
	unlist(s);
	s->state = NET_CLOSING;
	listener_leaving(s);
	s->tx_shutdown = s->tx_ended = s->rx_ready = true;
	(void)shutdown(s->fd, SHUT_WR);
	sock_wake(s);
}

void listener_failed(struct net_sock *s)
{
	struct net_listener *l = s->listener;

	s->accepting = false;
	sock_forget_owner(s);
	linger(s);
	if (l->accept->failed)
		l->accept->failed(l, &s->peer.addr, s->status, s->err.text, l->user);
}

/* Somebody makes room for one more, which is taken at once: the ring lets go of the other's descriptor later. */
static bool make_room(struct net_listener *l)
{
	struct net_sock *s;

	if (l->accept->full && l->accept->full(l, l->early_count, l->user))
		return true;
	if (list_empty(&l->early))
		return false;
	s = list_first(&l->early, struct net_sock, listed);
	net_sock_abort(s);
	s->accepting = false;
	return true;
}

static void take(struct net_listener *l, int fd, const struct net_addr *peer)
{
	struct net_sock *s;
	int r;

	/* Who is on his way out, and would wait for his peer's end, has no place of his own. */
	if (l->leaving_count && l->conns + l->leaving_count >= l->opts.conns_max)
		sock_kill(list_first(&l->leaving, struct net_sock, listed));
	if (l->conns >= l->opts.conns_max && !make_room(l)) {
		refuse(l, fd, peer);
		return;
	}
	r = sock_of(l, fd, peer, &s);
	if (r) {
		if (l->accept->failed)
			l->accept->failed(l, peer, r, "no memory for a connection", l->user);
		return;
	}
	sock_connected(s);
}

/* --- the watch --- */

static void watch_gone(struct loop_fd *f)
{
	struct net_listener *l = container_of(f, struct net_listener, watch);

	l->watching = l->watch_ending = false;
	if (l->closed) {
		close(l->fd);
		l->fd = -1;
	}
	listener_put(l);
}

static int watch(struct net_listener *l)
{
	int r;

	l->watch.ready = listener_ready;
	l->watch.fd = l->fd;
	r = loop_fd_add(l->loop, &l->watch, POLLIN);
	if (!r) {
		l->watching = true;
		l->refs++;
	}
	return r;
}

static void unwatch(struct net_listener *l)
{
	if (!l->watching || l->watch_ending)
		return;
	l->watch_ending = true;
	loop_fd_del(l->loop, &l->watch, watch_gone);
}

static void rest(struct net_listener *l)
{
	/* Without the timer the watch stays, and asks again in every turn. */
	if (!loop_timer_arm(l->loop, &l->retry, loop_now(l->loop) + RETRY_NS))
		unwatch(l);
}

static void retry_fired(struct loop_timer *t)
{
	struct net_listener *l = container_of(t, struct net_listener, retry);

	if (l->watching || watch(l))
		(void)loop_timer_arm(l->loop, t, loop_now(l->loop) + RETRY_NS);
}

static void accept_failed(struct net_listener *l, int error)
{
	const struct net_addr nobody = {0};

	switch (error) {
	case EAGAIN:
	case EINTR:
	case ECONNABORTED: /* it went away while it waited */
	case EPERM:        /* a firewall's rule */
	case ENETDOWN:
	case EPROTO:
	case ENOPROTOOPT:
	case EHOSTDOWN:
	case ENONET:
	case EHOSTUNREACH:
	case EOPNOTSUPP:
	case ENETUNREACH:
		return;
	default:
		rest(l);
		if (l->accept->failed)
			l->accept->failed(l, &nobody, -error, strerror(error), l->user);
	}
}

static void listener_ready(struct loop_fd *f, uint32_t revents)
{
	struct net_listener *l = container_of(f, struct net_listener, watch);

	l->refs++; /* a callback may close it */
	for (unsigned i = 0; i < ACCEPTS_PER_TURN && !l->closed; i++) {
		struct net_addr peer = {.len = sizeof(peer.sa)};
		int fd = accept4(l->fd, (struct sockaddr *)&peer.sa, &peer.len,
		                 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			accept_failed(l, errno);
			break;
		}
		take(l, fd, &peer);
	}
	listener_put(l);
}

/* --- life --- */

/*
 * Of a program that was killed the kernel's io_uring lets go of the sockets a moment after it has gone,
 * and nothing tells when: who starts it again at once shall not be refused for that.
 */
static bool in_use_wait(int r, unsigned *waited_ms)
{
	const struct timespec step = {.tv_nsec = IN_USE_STEP_MS * 1000000L};

	if (r != -EADDRINUSE || *waited_ms >= IN_USE_MAX_MS)
		return false;
	*waited_ms += IN_USE_STEP_MS;
	(void)nanosleep(&step, NULL);
	return true;
}

static int bind_at(int fd, const struct net_addr *a, unsigned *waited_ms)
{
	int r;

	do
		r = bind(fd, (const struct sockaddr *)&a->sa, a->len) ? -errno : 0;
	while (in_use_wait(r, waited_ms));
	return r;
}

static void refused(int r, const char *name, struct pst_err *err)
{
	if (r == -EADDRINUSE)
		err_set(err, r, "%s is in use by another program", name);
	else
		err_set(err, r, "cannot listen at %s: %s", name, strerror(-r));
}

static int listen_at(int fd, const struct net_addr *a, int backlog, unsigned *waited_ms,
                     struct pst_err *err)
{
	char name[NET_ADDR_TEXT_MAX];
	int r;

	do
		r = listen(fd, backlog) ? -errno : 0;
	while (in_use_wait(r, waited_ms));
	if (r)
		refused(r, net_addr_print(a, name, sizeof(name)), err);
	return r;
}

/* A socket that has @a, and does not listen yet. *@ret_path: of a unix socket with a file. */
static int take_addr(int *ret_fd, struct unix_path **ret_path, const struct net_addr *a,
                     const struct net_opts *o, unsigned *waited, struct pst_err *err)
{
	const bool is_unix = net_addr_is_unix(a);
	const int one = 1;
	char name[NET_ADDR_TEXT_MAX];
	int fd, r;

	net_addr_print(a, name, sizeof(name));
	fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(err, -errno, "cannot make a socket for %s: %s", name,
		               strerror(errno));
	sock_tune(fd, o, is_unix);
	if (is_unix && ((const struct sockaddr *)&a->sa)->sa_data[0]) {
		do
			r = unix_path_bind(ret_path, fd, a, o->unix_mode, err);
		while (in_use_wait(r, waited));
	} else {
		if (!is_unix)
			(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		r = bind_at(fd, a, waited);
		if (r)
			refused(r, name, err);
	}
	if (r)
		close(fd);
	else
		*ret_fd = fd;
	return r;
}

static int open_at(struct net_listener *l, const struct net_addr *a, struct pst_err *err)
{
	char name[NET_ADDR_TEXT_MAX];
	unsigned waited = 0;
	int fd = -1, r;

	net_addr_print(a, name, sizeof(name));
	if (net_addr_is_unix(a) && l->opts.zerocopy_min)
		return err_set(err, -EINVAL, "%s: a unix socket copies: no zero-copy", name);
	r = take_addr(&fd, &l->path, a, &l->opts, &waited, err);
	if (r)
		return r;
	r = listen_at(fd, a, (int)MIN(l->opts.backlog, INT32_MAX), &waited, err);
	if (r) {
		close(fd);
		return r;
	}
	l->fd = fd;
	l->addr.len = sizeof(l->addr.sa);
	(void)getsockname(fd, (struct sockaddr *)&l->addr.sa, &l->addr.len);
	return 0;
}

/* --- held addresses --- */

struct net_hold {
	int fd;
	struct net_addr addr;
	struct unix_path *path;
};

int net_hold(struct net_hold **ret_h, const char *addr, uint16_t default_port, unsigned unix_mode,
             struct pst_err *err)
{
	struct net_addr addrs[NET_ADDRS_MAX];
	struct net_opts opts;
	struct net_hold *h;
	unsigned count, waited = 0;
	int r = net_resolve(addrs, &count, addr, default_port, err);

	if (r)
		return r;
	h = mem_calloc(1, sizeof(*h));
	if (!h)
		return err_set(err, -ENOMEM, "no memory to hold an address");
	opts_fill(&opts, &(struct net_opts){.unix_mode = unix_mode});
	h->addr = addrs[0];
	r = take_addr(&h->fd, &h->path, &addrs[0], &opts, &waited, err);
	if (r)
		mem_free(h);
	else
		*ret_h = h;
	return r;
}

int net_hold_listen(struct net_hold *h, int backlog, struct pst_err *err)
{
	unsigned waited = 0;
	int r = listen_at(h->fd, &h->addr, backlog, &waited, err);

	return r ? r : h->fd;
}

void net_hold_free(struct net_hold *h)
{
	if (!h)
		return;
	unix_path_remove(h->path);
	close(h->fd);
	mem_free(h);
}

/* --- opening and closing --- */

/* Connections that are not given out yet go with their listener. */
static void abort_accepting(struct net_listener *l)
{
	struct net_sock *s;

	list_for_each (s, &l->part->socks, part_link) {
		if (s->listener == l && s->accepting) {
			s->accepting = false;
			net_sock_abort(s);
		}
	}
}

static struct net_listener *listener_new(struct loop *loop, const struct net_opts *opts)
{
	struct net_part *part = part_get(loop);
	struct net_listener *l;

	if (!part)
		return NULL;
	l = mem_calloc(1, sizeof(*l));
	if (!l) {
		part_put(part);
		return NULL;
	}
	l->part = part;
	l->loop = loop;
	l->fd = -1;
	l->refs = 1;
	l->retry.fired = retry_fired;
	list_init(&l->early);
	list_init(&l->leaving);
	opts_fill(&l->opts, opts);
	part->owned++;
	return l;
}

int net_listen(struct net_listener **ret_listener, struct loop *loop, const char *addr,
               uint16_t default_port, const struct net_opts *opts, const struct net_accept *accept,
               void *user, struct pst_err *err)
{
	struct net_addr addrs[NET_ADDRS_MAX];
	struct net_listener *l;
	unsigned count;
	int r;

	loop_assert(loop);
	r = opts_check(opts, err);
	if (!r)
		r = net_resolve(addrs, &count, addr, default_port, err);
	if (r)
		return r;
	l = listener_new(loop, opts);
	if (!l)
		return err_set(err, -ENOMEM, "no memory for a listener");
	l->accept = accept;
	l->user = user;
	r = 0;
	if (l->opts.tls && !tls_ref(l->opts.tls)->has_cert)
		r = err_set(err, -EINVAL, "a TLS server needs a certificate and its key");
	if (!r)
		r = open_at(l, &addrs[0], err);
	if (!r) {
		r = watch(l);
		if (r)
			err_set(err, r, "the ring has no room to watch %s", addr);
	}
	if (r) {
		net_listener_close(l);
		return r;
	}
	*ret_listener = l;
	return 0;
}

void net_listener_close(struct net_listener *l)
{
	if (!l)
		return;
	loop_assert(l->loop);
	pst_assert(!l->closed);
	l->closed = true;
	l->part->owned--;
	loop_timer_disarm(l->loop, &l->retry);
	abort_accepting(l);
	net_tls_free(l->opts.tls);
	l->opts.tls = NULL;
	unix_path_remove(l->path);
	l->path = NULL;
	/* No more connections, although the ring may hold on to the socket for a moment. */
	if (l->fd >= 0)
		(void)shutdown(l->fd, SHUT_RD);
	if (l->watching) {
		unwatch(l);
	} else if (l->fd >= 0) {
		close(l->fd);
		l->fd = -1;
	}
	listener_put(l);
}

const struct net_addr *net_listener_addr(const struct net_listener *l)
{
	return &l->addr;
}

unsigned net_listener_conns(const struct net_listener *l)
{
	return l->conns;
}

uint64_t net_listener_refused(const struct net_listener *l)
{
	return l->refused;
}
