/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From a name to a connected socket: look it up, then each address in turn, all before one deadline.
 * An attempt that fails ends its watch first; the next begins when the ring has let go of it.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "net/net_int.h"

/* A unix socket whose backlog is full says so at once, and nothing tells when it is not any more. */
#define UNIX_RETRY_NS (2 * NSEC_PER_MSEC)

static void retry_fired(struct loop_timer *t)
{
	sock_wake(container_of(t, struct net_sock, retry));
}

/* "TARGET", or "TARGET (ADDRESS)" where that says more. */
static const char *name_of(const struct net_sock *s, char *buf, size_t buf_len)
{
	char addr[NET_ADDR_TEXT_MAX];

	net_addr_print(&s->addrs[s->addr_at], addr, sizeof(addr));
	if (strcmp(addr, s->target))
		snprintf(buf, buf_len, "%s (%s)", s->target, addr);
	else
		snprintf(buf, buf_len, "%s", addr);
	return buf;
}

/* Remembers why this address didn't do; the last one's reason is what the caller hears. */
static void attempt_failed(struct net_sock *s, int error)
{
	char name[NET_HOST_BYTES_MAX + NET_ADDR_TEXT_MAX + 16];

	name_of(s, name, sizeof(name));
	if (error == ECONNREFUSED)
		err_set(&s->err, -error, "nobody listens at %s", name);
	else if (error == ENOENT && s->unix_sock)
		err_set(&s->err, -error, "there is no socket %s", name);
	else
		err_set(&s->err, -error, "cannot connect to %s: %s", name, strerror(error));
	s->addr_at++;
}

static void attempt_gone(struct loop_fd *f)
{
	struct net_sock *s = container_of(f, struct net_sock, watch);

	s->watching = s->watch_ending = false;
	close(s->fd);
	s->fd = -1;
	sock_wake(s);
}

/* A port of our own picked by the kernel may be the very one that we connect to: then we talk to
 * ourselves, and nobody listens there. */
static bool talks_to_itself(int fd)
{
	struct sockaddr_storage a = {0}, b = {0};
	socklen_t a_len = sizeof(a), b_len = sizeof(b);

	if (getsockname(fd, (struct sockaddr *)&a, &a_len) ||
	    getpeername(fd, (struct sockaddr *)&b, &b_len))
		return false;
	return a.ss_family != AF_UNIX && a_len == b_len && !memcmp(&a, &b, a_len);
}

void connect_ready(struct net_sock *s, uint32_t revents)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (!(revents & (POLLOUT | POLLERR | POLLHUP | POLLNVAL)))
		return;
	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len))
		error = errno;
	if (!error && talks_to_itself(s->fd))
		error = ECONNREFUSED;
	if (!error) {
		s->peer.addr = s->addrs[s->addr_at];
		sock_connected(s);
		return;
	}
	attempt_failed(s, error);
	s->state = NET_START;
	s->watch_ending = true;
	loop_fd_del(s->loop, &s->watch, attempt_gone);
}

/* 0: connected or under way. Else errno. */
static int attempt(struct net_sock *s)
{
	const struct net_addr *a = &s->addrs[s->addr_at];

	s->unix_sock = net_addr_is_unix(a);
	s->fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		return errno;
	sock_tune(s->fd, &s->opts, s->unix_sock);
	if (connect(s->fd, (const struct sockaddr *)&a->sa, a->len) && errno != EINPROGRESS)
		return errno;
	s->state = NET_CONNECTING;
	/* What is connected already is seen by the watch too. */
	return -sock_watch(s);
}

void connect_next(struct net_sock *s)
{
	int error;

	if (s->resolve || s->watching || s->retry.heap_index)
		return;
	while (s->addr_at < s->addr_count) {
		error = attempt(s);
		if (!error)
			return;
		s->state = NET_START;
		if (s->fd >= 0)
			close(s->fd);
		s->fd = -1;
		if (error == EAGAIN && s->unix_sock &&
		    !loop_timer_arm(s->loop, &s->retry, loop_now(s->loop) + UNIX_RETRY_NS))
			return;
		attempt_failed(s, error);
	}
	sock_fail(s, s->err.code, "%s", s->err.text);
}

void connect_expired(struct net_sock *s)
{
	char name[NET_HOST_BYTES_MAX + NET_ADDR_TEXT_MAX + 16];
	const double seconds = (double)s->opts.connect_ns / (double)NSEC_PER_SEC;

	if (s->resolve)
		sock_fail(s, -ETIMEDOUT, "looking up %s took more than %.3g s", s->target, seconds);
	else if (s->state == NET_HANDSHAKE)
		sock_fail(s, -ETIMEDOUT, "no TLS handshake within %.3g s", seconds);
	else
		sock_fail(s, -ETIMEDOUT, "cannot connect to %s: no answer within %.3g s",
		          s->addr_at < s->addr_count ? name_of(s, name, sizeof(name)) : s->target,
		          seconds);
}

static void resolved(struct net_resolve *r, void *user)
{
	struct net_sock *s = user;
	int rc = net_resolve_take(r, s->addrs, &s->addr_count, &s->err);

	s->resolve = NULL;
	if (rc)
		sock_fail(s, rc, "%s", s->err.text);
	else
		sock_wake(s);
}

/* The name that the certificate must have is the one that the caller gave, not what it led to. */
static int client_tls(struct net_sock *s, const char *addr, struct pst_err *err)
{
	char host[NET_HOST_BYTES_MAX];
	uint16_t port;

	if (s->opts.tls_name)
		return sock_tls_new(s, s->opts.tls_name, err);
	if (s->addr_count && net_addr_is_unix(&s->addrs[0]))
		return err_set(err, -EINVAL,
		               "%s: TLS on a unix socket needs the name that the server has", addr);
	return addr_split(addr, 0, host, &port, err) ? -EINVAL : sock_tls_new(s, host, err);
}

static int begin(struct net_sock *s, const char *addr, struct pst_err *err)
{
	const size_t len = strlen(addr) + 1;
	int r = net_addr_parse(&s->addrs[0], addr, 0, err);

	if (r && r != -EDESTADDRREQ)
		return r;
	s->target = mem_alloc(len);
	if (!s->target)
		return err_set(err, -ENOMEM, "no memory for a socket");
	memcpy(s->target, addr, len);
	s->retry.fired = retry_fired;
	s->addr_count = !r;
	if (s->opts.zerocopy_min && !r && net_addr_is_unix(&s->addrs[0]))
		return err_set(err, -EINVAL, "%s: a unix socket copies: no zero-copy", addr);
	if (sock_zc_new(s, err))
		return -ENOMEM;
	if (s->opts.tls) {
		int rc = client_tls(s, addr, err);

		if (rc)
			return rc;
	}
	if (r) {
		r = net_resolve_start(&s->resolve, s->loop, addr, 0, resolved, s);
		if (r)
			return err_set(err, r, "cannot start a thread to look up %s: %s", addr,
			               strerror(-r));
	}
	r = loop_timer_arm(s->loop, &s->deadline, loop_now(s->loop) + s->opts.connect_ns);
	if (r)
		return err_set(err, r, "no memory for a timer");
	sock_wake(s);
	return 0;
}

int net_sock_connect(struct net_sock **ret_sock, struct loop *loop, const char *addr,
                     const struct net_opts *opts, const struct net_handlers *handlers, void *user,
                     struct pst_err *err)
{
	struct net_sock *s;
	int r;

	loop_assert(loop);
	r = opts_check(opts, err);
	if (r)
		return r;
	r = sock_new(&s, loop, opts, handlers, user);
	if (r)
		return err_set(err, r, "no memory for a socket");
	r = begin(s, addr, err);
	if (r) {
		s->handlers = NULL;
		net_sock_abort(s);
		return r;
	}
	*ret_sock = s;
	return 0;
}
