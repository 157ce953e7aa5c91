/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Zero-copy sends: one request on the ring for each large net_send (or what is left of it). The
 * kernel answers twice: how much it has taken, and, later, that it reads the memory no more. Between
 * the two the next request may go out; m->notes counts what is still to come of each, and done()
 * waits for it.
 *
 *   Z1  While a request has not had its first answer, nothing else is sent on the socket.
 *   Z2  A net_send whose notes aren't 0 is in the queue or on s->noted, and its socket is not freed.
 *   Z3  Who can't be had without a copy is sent with one, and that is counted and said: when the
 *       kernel knows no such requests, or keeps telling that it has copied after all (loopback).
 */
#include <liburing.h>

#include "net/net_int.h"

/* Newer than the headers that we build with. */
#define SEND_ZC_REPORT_USAGE  (1u << 3)
#define NOTIF_USAGE_ZC_COPIED (1u << 31)

#define REQUESTS_MAX 16
#define IOVS_MAX     64
/* So many copies in a row, and it is not worth the second answer. */
#define COPIES_MAX 8

struct zc_request {
	struct loop_io io;
	struct net_sock *s;
	struct net_send *m;
	bool used;
};

struct sock_zc {
	struct zc_request requests[REQUESTS_MAX];
	struct net_send *busy; /* Z1; NULL: none, or its send was cancelled */
	bool waits;            /* for the first answer */
	unsigned copies;
	size_t asked; /* bytes of the request that waits */
	struct msghdr mh;
	struct iovec iov[IOVS_MAX];
};

static void give_up(struct net_sock *s, const char *why)
{
	char addr[NET_ADDR_TEXT_MAX];

	if (s->count.zc_note)
		return;
	s->count.zc_note = why;
	log_info("zero-copy sends to %s are given up: %s",
	         net_addr_print(&s->peer.addr, addr, sizeof(addr)), why);
}

static void note_gone(struct net_sock *s, struct zc_request *r)
{
	struct net_send *m = r->m;

	r->used = false;
	if (!--m->notes && m->over) {
		list_del(&m->link);
		list_push(&s->ended, &m->link);
	}
	sock_wake(s);
}

static void notified(struct zc_request *r, int res)
{
	struct net_sock *s = r->s;

	if ((uint32_t)res & NOTIF_USAGE_ZC_COPIED) {
		s->count.zc_copied++;
		if (++s->zc->copies == COPIES_MAX)
			give_up(s, "the kernel copies on this path (loopback does)");
	} else {
		s->zc->copies = 0;
	}
	note_gone(s, r);
}

static void taken(struct net_sock *s, struct net_send *m, int res)
{
	if (res >= 0) {
		s->tx_blocked = (size_t)res < s->zc->asked;
		if (m)
			send_advance(s, (size_t)res);
	} else if (res == -EAGAIN) {
		s->tx_blocked = true;
	} else if (res == -EINVAL || res == -EOPNOTSUPP) {
		give_up(s, "this kernel, or this socket, has no such requests");
	} else if (res == -ENOBUFS || res == -ENOMEM) {
		give_up(s, "the memory that the kernel may pin is used up (net.core.optmem_max, "
		           "RLIMIT_MEMLOCK)");
	} else if (res != -EINTR && res != -ECANCELED) {
		s->zc_error = res;
	}
}

static void request_done(struct loop_io *io, int res, uint32_t cqe_flags)
{
	struct zc_request *r = container_of(io, struct zc_request, io);
	struct net_sock *s = r->s;
	struct net_send *m = s->zc->busy;

	if (cqe_flags & IORING_CQE_F_NOTIF) {
		notified(r, res);
		return;
	}
	s->zc->waits = false;
	s->zc->busy = NULL;
	taken(s, m, res);
	if (!(cqe_flags & IORING_CQE_F_MORE))
		note_gone(s, r);
	sock_wake(s);
}

int sock_zc_new(struct net_sock *s, struct pst_err *err)
{
	if (!s->opts.zerocopy_min)
		return 0;
	s->zc = mem_calloc(1, sizeof(*s->zc));
	if (!s->zc)
		return err_set(err, -ENOMEM, "no memory for zero-copy sends");
	for (unsigned i = 0; i < REQUESTS_MAX; i++) {
		s->zc->requests[i].io.done = request_done;
		s->zc->requests[i].s = s;
	}
	return 0;
}

void sock_zc_free(struct net_sock *s)
{
	mem_free(s->zc);
	s->zc = NULL;
}

bool sock_zc_waits(const struct net_sock *s)
{
	return s->zc && s->zc->waits;
}

void sock_zc_cancel(struct net_sock *s)
{
	if (s->zc)
		s->zc->busy = NULL;
}

static struct zc_request *free_request(struct sock_zc *zc)
{
	for (unsigned i = 0; i < REQUESTS_MAX; i++)
		if (!zc->requests[i].used)
			return &zc->requests[i];
	return NULL;
}

static size_t fill(struct sock_zc *zc, const struct net_send *m)
{
	size_t skip = m->iov_off, bytes = 0;
	unsigned n = 0;

	for (unsigned i = m->iov_at; i < m->iov_count && n < IOVS_MAX; i++) {
		const struct iovec *v = &m->iov[i];

		if (v->iov_len > skip) {
			zc->iov[n++] =
			        (struct iovec){(uint8_t *)v->iov_base + skip, v->iov_len - skip};
			bytes += v->iov_len - skip;
		}
		skip = 0;
	}
	zc->mh = (struct msghdr){.msg_iov = zc->iov, .msg_iovlen = n};
	return bytes;
}

bool sock_zc_wants(const struct net_sock *s, const struct net_send *m)
{
	return s->zc && !s->count.zc_note && !m->copy && !m->fd_count &&
	       m->bytes - m->off >= s->opts.zerocopy_min;
}

bool sock_zc_send(struct net_sock *s, struct net_send *m)
{
	struct sock_zc *zc = s->zc;
	struct zc_request *r = free_request(zc);
	struct io_uring_sqe *sqe = r ? loop_sqe(s->loop, &r->io) : NULL;

	if (!sqe)
		return false;
	zc->asked = fill(zc, m);
	io_uring_prep_sendmsg_zc(sqe, s->fd, &zc->mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	sqe->ioprio |= SEND_ZC_REPORT_USAGE;
	r->used = true;
	r->m = m;
	m->notes++;
	zc->busy = m;
	zc->waits = true;
	s->count.sends++;
	s->count.zc_sends++;
	return true;
}
