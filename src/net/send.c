/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bytes out. What is queued in one turn leaves at its end in one call, or as few as the kernel's
 * buffer makes them. A net_send goes from s->queue to s->ended when the kernel has all of it, or
 * never will; done() runs from there, so that no done() ever runs in the middle of the queue's work.
 */
#include <poll.h>

#include "net/net_int.h"

#define SEND_ROUNDS 8 /* then it is another socket's turn */
#define GATHER_MAX  128

struct gather {
	struct iovec iov[GATHER_MAX];
	unsigned count;
	size_t bytes;
	struct net_send *with_fds; /* the first one, if descriptors go with it */
};

static void gather_one(struct gather *g, const struct net_send *m)
{
	size_t skip = m->iov_off;

	for (unsigned i = m->iov_at; i < m->iov_count && g->count < GATHER_MAX; i++) {
		const struct iovec *v = &m->iov[i];

		if (v->iov_len > skip) {
			g->iov[g->count++] =
			        (struct iovec){(uint8_t *)v->iov_base + skip, v->iov_len - skip};
			g->bytes += v->iov_len - skip;
		}
		skip = 0;
	}
}

static void gather(struct net_sock *s, struct gather *g)
{
	struct net_send *m;

	g->count = 0;
	g->bytes = 0;
	g->with_fds = NULL;
	list_for_each (m, &s->queue, link) {
		/* Descriptors go with the first byte of a call. */
		if (m->fd_count && !m->fds_sent) {
			if (g->count)
				break;
			g->with_fds = m;
		}
		if (g->count && sock_zc_wants(s, m))
			break;
		gather_one(g, m);
		if (g->count == GATHER_MAX)
			break;
	}
}

static void end_one(struct net_sock *s, struct net_send *m, int status)
{
	s->queued -= m->bytes - m->off;
	m->status = status;
	m->over = true;
	list_del(&m->link);
	list_push(m->notes ? &s->noted : &s->ended, &m->link);
}

/* The kernel has @n more bytes. */
void send_advance(struct net_sock *s, size_t n)
{
	s->count.bytes_out += n;
	while (n) {
		struct net_send *m = list_first(&s->queue, struct net_send, link);
		const struct iovec *v = &m->iov[m->iov_at];
		const size_t part = MIN(n, v->iov_len - m->iov_off);

		n -= part;
		m->off += part;
		m->iov_off += part;
		s->queued -= part;
		if (m->iov_off == v->iov_len) {
			m->iov_at++;
			m->iov_off = 0;
		}
		if (m->off == m->bytes)
			end_one(s, m, 0);
	}
}

static ssize_t send_msg(struct net_sock *s, struct gather *g)
{
	char control[CMSG_SPACE(NET_SEND_FDS_MAX * sizeof(int))]
	        __attribute__((aligned(__alignof__(struct cmsghdr)))) = {0};
	struct msghdr mh = {.msg_iov = g->iov, .msg_iovlen = g->count};
	ssize_t r;

	if (g->with_fds) {
		const size_t len = g->with_fds->fd_count * sizeof(int);
		struct cmsghdr *c = (struct cmsghdr *)control;

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(len);
		memcpy(CMSG_DATA(c), g->with_fds->fds, len);
		mh.msg_control = control;
		mh.msg_controllen = CMSG_SPACE(len);
	}
	s->count.sends++;
	r = sendmsg(s->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (r > 0 && g->with_fds)
		g->with_fds->fds_sent = true;
	return r;
}

/* The peer takes no more. What it sent before may still wait to be read, and may say why. */
void send_failed(struct net_sock *s, int status)
{
	s->hup = s->rx_ready = true;
	while (s->state == NET_UP && s->rx_ready && !s->paused && !s->rx_eof)
		recv_run(s);
	if (sock_open(s))
		sock_fail_errno(s, status);
}

static void send_once(struct net_sock *s)
{
	struct net_send *first = list_first(&s->queue, struct net_send, link);
	struct gather g;
	ssize_t r;

	if (sock_zc_wants(s, first) && sock_zc_send(s, first))
		return;
	gather(s, &g);
	r = send_msg(s, &g);
	if (r >= 0) {
		s->tx_blocked = (size_t)r < g.bytes;
		send_advance(s, (size_t)r);
	} else if (errno == EAGAIN) {
		s->tx_blocked = true;
	} else if (errno != EINTR) {
		send_failed(s, -errno);
	}
}

const void *send_peek(struct net_sock *s, void *stage, size_t max, size_t *ret_len)
{
	size_t len = 0;
	struct gather g;

	gather(s, &g);
	if (!g.count)
		return NULL;
	if (g.count == 1 || g.iov[0].iov_len >= max) {
		*ret_len = MIN(g.iov[0].iov_len, max);
		return g.iov[0].iov_base;
	}
	for (unsigned i = 0; i < g.count && len < max; i++) {
		const size_t part = MIN(g.iov[i].iov_len, max - len);

		memcpy((uint8_t *)stage + len, g.iov[i].iov_base, part);
		len += part;
	}
	*ret_len = len;
	return stage;
}

static void end_direction(struct net_sock *s)
{
	s->tx_ended = true;
	(void)shutdown(s->fd, SHUT_WR);
}

void send_run(struct net_sock *s)
{
	if (s->tls) {
		if (sock_tls_send(s) && s->tx_shutdown && !s->tx_ended)
			end_direction(s);
		return;
	}
	if (s->zc_error) {
		send_failed(s, s->zc_error);
		return;
	}
	for (unsigned round = 0;
	     !list_empty(&s->queue) && !s->tx_blocked && sock_open(s) && !sock_zc_waits(s);
	     round++) {
		if (round == SEND_ROUNDS) {
			sock_wake(s);
			return;
		}
		send_once(s);
	}
	if (s->tx_shutdown && !s->tx_ended && list_empty(&s->queue) && sock_open(s))
		end_direction(s);
}

void send_cancel(struct net_sock *s, int status)
{
	sock_zc_cancel(s);
	while (!list_empty(&s->queue))
		end_one(s, list_first(&s->queue, struct net_send, link), status);
}

void send_tell(struct net_sock *s)
{
	struct list *n;

	while ((n = list_pop(&s->ended))) {
		struct net_send *m = list_entry(n, struct net_send, link);

		if (m->copy)
			part_chunk_put(s->part, container_of(m, struct net_chunk, m));
		else if (m->done)
			m->done(m, m->status);
	}
	if (s->want_drained && s->state == NET_UP && s->queued <= s->opts.queue_max / 2) {
		s->want_drained = false;
		if (s->handlers->drained)
			s->handlers->drained(s);
	}
	if (s->want_room && s->state == NET_UP && !s->tx_blocked && list_empty(&s->queue)) {
		s->want_room = false;
		if (s->handlers->room)
			s->handlers->room(s);
	}
}

/* --- queueing --- */

static int may_queue(struct net_sock *s, size_t bytes)
{
	loop_assert(s->loop);
	if (unlikely(s->state != NET_UP))
		return s->status ? s->status : -ENOTCONN;
	if (unlikely(s->tx_shutdown))
		return -EPIPE;
	if (unlikely(!bytes))
		return -EINVAL;
	if (unlikely(s->queued && s->queued + bytes > s->opts.queue_max)) {
		s->want_drained = true;
		return -EAGAIN;
	}
	return 0;
}

static size_t iov_bytes(const struct iovec *iov, unsigned count)
{
	size_t bytes = 0;

	for (unsigned i = 0; i < count; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

static void queue(struct net_sock *s, struct net_send *m, size_t bytes, bool copy)
{
	m->bytes = bytes;
	m->off = 0;
	m->iov_at = 0;
	m->iov_off = 0;
	m->fds_sent = false;
	m->notes = 0;
	m->over = false;
	m->copy = copy;
	s->queued += bytes;
	list_push(&s->queue, &m->link);
	sock_wake(s);
}

int net_sock_send(struct net_sock *s, struct net_send *m)
{
	const size_t bytes = iov_bytes(m->iov, m->iov_count);
	int r = may_queue(s, bytes);

	if (unlikely(r))
		return r;
	if (unlikely(m->fd_count)) {
		if (!s->unix_sock || net_sock_is_tls(s))
			return -ENOTSUP;
		if (m->fd_count > NET_SEND_FDS_MAX)
			return -EINVAL;
	}
	queue(s, m, bytes, false);
	return 0;
}

static void copy_in(struct net_chunk *c, const struct iovec *iov, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		memcpy(c->data + c->iov.iov_len, iov[i].iov_base, iov[i].iov_len);
		c->iov.iov_len += iov[i].iov_len;
	}
}

/* The chunk at the queue's end, if it has room for @bytes. */
static struct net_chunk *last_chunk(struct net_sock *s, size_t bytes)
{
	struct net_send *last = list_entry(s->queue.prev, struct net_send, link);
	struct net_chunk *c;

	if (list_empty(&s->queue) || !last->copy)
		return NULL;
	c = container_of(last, struct net_chunk, m);
	return c->room - c->iov.iov_len >= bytes ? c : NULL;
}

int net_sock_write(struct net_sock *s, const struct iovec *iov, unsigned iov_count)
{
	const size_t bytes = iov_bytes(iov, iov_count);
	int r = may_queue(s, bytes);
	struct net_chunk *c;

	if (unlikely(r))
		return r;
	c = last_chunk(s, bytes);
	if (c) {
		copy_in(c, iov, iov_count);
		c->m.bytes += bytes;
		s->queued += bytes;
		return 0;
	}
	c = part_chunk_get(s->part, bytes);
	if (!c)
		return -ENOMEM;
	c->iov = (struct iovec){c->data, 0};
	c->m.iov = &c->iov;
	c->m.iov_count = 1;
	c->m.fd_count = 0;
	copy_in(c, iov, iov_count);
	queue(s, &c->m, bytes, true);
	return 0;
}

/* N1: what follows from it, an error's end too, is seen to by the turn, which was asked for when it was
 * queued. */
void net_sock_flush(struct net_sock *s)
{
	struct gather g;
	ssize_t r;

	loop_assert(s->loop);
	if (s->state != NET_UP || s->tls || s->zc || s->tx_blocked || list_empty(&s->queue))
		return;
	gather(s, &g);
	r = send_msg(s, &g);
	if (r < 0)
		return;
	s->tx_blocked = (size_t)r < g.bytes;
	send_advance(s, (size_t)r);
}

size_t net_sock_try(struct net_sock *s, const struct iovec *iov, unsigned iov_count)
{
	const struct msghdr mh = {.msg_iov = (struct iovec *)(uintptr_t)iov,
	                          .msg_iovlen = iov_count};
	ssize_t r;

	loop_assert(s->loop);
	if (s->state != NET_UP || s->tls || s->zc || s->tx_shutdown || s->tx_blocked ||
	    !list_empty(&s->queue))
		return 0;
	s->count.sends++;
	r = sendmsg(s->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (r < 0)
		return 0;
	s->tx_blocked = (size_t)r < iov_bytes(iov, iov_count);
	s->count.bytes_out += (size_t)r;
	return (size_t)r;
}

/* That it is full, the poll says to the kernel as well: from then on it tells the watch when it is not (N4). */
static bool kernel_full(struct net_sock *s)
{
	struct pollfd p = {.fd = s->fd, .events = POLLOUT};

	s->tx_blocked = s->tx_blocked || poll(&p, 1, 0) == 0;
	return s->tx_blocked;
}

bool net_sock_room(struct net_sock *s)
{
	loop_assert(s->loop);
	net_sock_flush(s);
	if (s->state != NET_UP || s->tls || s->zc || s->tx_shutdown)
		return true;
	if (list_empty(&s->queue) && !kernel_full(s))
		return true;
	s->want_room = true;
	return false;
}

size_t net_sock_queued(const struct net_sock *s)
{
	return s->queued;
}
