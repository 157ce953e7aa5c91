/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bytes in. One call to the kernel fills, in this order, what is left of the owner's destination and
 * the loop's scratch buffer: payloads go straight where they belong, small frames come by the dozen,
 * and a socket that waits holds no buffer. What data() leaves is kept in the socket's stash, and put
 * in front of the next bytes.
 *
 * "Empty" is what a read shorter than asked for says on TCP. A unix socket also stops short where
 * descriptors came, and one whose peer has ended has that end to say; those are read until they have
 * nothing more.
 */
#include <unistd.h>

#include "net/net_int.h"

#define RECV_ROUNDS 8 /* then it is another socket's turn */
#define IOV_ENTRIES (NET_IOV_MAX + 1)

/* --- the destination --- */

static void dest_advance(struct net_sock *s, size_t n)
{
	s->dest_left -= n;
	while (n) {
		struct iovec *v = &s->dest[s->dest_at];
		const size_t part = MIN(n, v->iov_len);

		v->iov_base = (uint8_t *)v->iov_base + part;
		v->iov_len -= part;
		n -= part;
		if (!v->iov_len)
			s->dest_at++;
	}
}

static size_t dest_copy(struct net_sock *s, const uint8_t *from, size_t len)
{
	const size_t n = MIN(len, s->dest_left);

	for (size_t done = 0; done < n;) {
		const struct iovec *v = &s->dest[s->dest_at];
		const size_t part = MIN(n - done, v->iov_len);

		memcpy(v->iov_base, from + done, part);
		dest_advance(s, part);
		done += part;
	}
	return n;
}

int net_sock_recv_into(struct net_sock *s, const struct iovec *iov, unsigned iov_count)
{
	size_t bytes = 0;
	unsigned n = 0;

	loop_assert(s->loop);
	if (s->dest_left)
		return -EBUSY;
	if (iov_count > NET_IOV_MAX)
		return -EINVAL;
	for (unsigned i = 0; i < iov_count; i++) {
		if (iov[i].iov_len)
			s->dest[n++] = iov[i];
		bytes += iov[i].iov_len;
	}
	if (!bytes)
		return -EINVAL;
	if (s->state != NET_UP)
		return s->status ? s->status : -ENOTCONN;
	s->dest_at = 0;
	s->dest_count = n;
	s->dest_left = bytes;
	s->big = bytes >= NET_BIG_BYTES;
	if (s->stash_len && !s->delivering) {
		s->look_again = true;
		sock_wake(s);
	}
	return 0;
}

/* --- giving out --- */

static void stash_put(struct net_sock *s, const uint8_t *p, size_t len)
{
	if (len > s->stash_room) {
		const size_t room = ALIGN_UP(len, 1024);
		uint8_t *stash = mem_alloc(room);

		if (!stash) {
			sock_fail(s, -ENOMEM, "no memory for %zu bytes that came", len);
			return;
		}
		mem_free(s->stash);
		s->stash = stash;
		s->stash_room = room;
	}
	if (len)
		memcpy(s->stash, p, len);
	s->stash_len = len;
}

/* Shows @len bytes at @p (not in the stash) to the owner; what is left goes to the stash. */
static void deliver(struct net_sock *s, const uint8_t *p, size_t len)
{
	bool wants_more = false;

	s->delivering = true;
	s->stash_len = 0;
	while (len && s->state == NET_UP && !s->paused && !wants_more) {
		size_t n;

		if (s->dest_left) {
			n = dest_copy(s, p, len);
			if (!s->dest_left)
				s->handlers->filled(s);
		} else {
			n = s->handlers->data(s, p, len);
			pst_assert(n <= len);
			wants_more = !n && !s->dest_left;
		}
		p += n;
		len -= n;
	}
	s->delivering = false;
	if (s->state != NET_UP)
		return;
	if (wants_more && !s->paused && len >= s->opts.ahead_max)
		sock_fail(s, -EMSGSIZE, "the peer sent more than %zu bytes that make no whole",
		          s->opts.ahead_max);
	else
		stash_put(s, p, len);
}

static void deliver_stash(struct net_sock *s)
{
	uint8_t *scratch = s->part->scratch;
	const size_t len = s->stash_len;

	s->look_again = false;
	if (!len)
		return;
	pst_assert_slow(len <= NET_SCRATCH_BYTES);
	memcpy(scratch, s->stash, len);
	deliver(s, scratch, len);
}

static void end_of_stream(struct net_sock *s)
{
	s->rx_eof = true;
	s->rx_ready = false;
	if (s->state != NET_UP)
		return;
	if (s->dest_left)
		sock_fail(s, -EPIPE, "the peer closed the connection in the middle of a payload");
	else if (s->handlers->eof)
		s->handlers->eof(s);
	else
		sock_fail(s, -EPIPE, "the peer closed the connection");
}

/* --- taking in --- */

static bool fds_take(struct net_sock *s, const int *fds, unsigned count)
{
	if (!s->fds)
		s->fds = mem_alloc(s->opts.fds_max * sizeof(int));
	if (s->fds && s->fd_count + count <= s->opts.fds_max) {
		memcpy(s->fds + s->fd_count, fds, count * sizeof(int));
		s->fd_count += count;
		return true;
	}
	for (unsigned i = 0; i < count; i++)
		close(fds[i]);
	return false;
}

/* The descriptors that came with a message. False when it is over. */
static bool fds_scan(struct net_sock *s, struct msghdr *mh)
{
	bool ok = !(mh->msg_flags & MSG_CTRUNC);

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		int fds[NET_SEND_FDS_MAX + 1];
		unsigned count = 0;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		while (count < ARRAY_LEN(fds) && CMSG_LEN((count + 1) * sizeof(int)) <= c->cmsg_len)
			count++;
		memcpy(fds, CMSG_DATA(c), count * sizeof(int));
		ok &= fds_take(s, fds, count);
	}
	if (!ok)
		sock_fail(s, -EMSGSIZE,
		          "the peer sent more than %u descriptors at once or %u in all",
		          NET_SEND_FDS_MAX, s->opts.fds_max);
	return ok;
}

static ssize_t recv_msg(struct net_sock *s, struct iovec *iov, unsigned count)
{
	char control[CMSG_SPACE(NET_SEND_FDS_MAX * sizeof(int))]
	        __attribute__((aligned(__alignof__(struct cmsghdr))));
	struct msghdr mh = {.msg_iov = iov, .msg_iovlen = count};
	ssize_t r;

	if (s->tls && s->state != NET_CLOSING)
		return sock_tls_recv(s, iov, count);
	s->count.recvs++;
	if (!s->opts.fds_max || !s->unix_sock)
		return recvmsg(s->fd, &mh, MSG_DONTWAIT);
	mh.msg_control = control;
	mh.msg_controllen = sizeof(control);
	r = recvmsg(s->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (r >= 0 && !fds_scan(s, &mh)) {
		errno = EMSGSIZE;
		return -1;
	}
	return r;
}

/* Fills the destination and then the scratch buffer; gives out what came. */
static ssize_t recv_up(struct net_sock *s, size_t *ret_asked)
{
	uint8_t *scratch = s->part->scratch;
	const size_t kept = s->dest_left ? 0 : s->stash_len, dest_left = s->dest_left;
	struct iovec iov[IOV_ENTRIES];
	unsigned n = 0;
	size_t room;
	ssize_t r;

	if (dest_left) {
		n = s->dest_count - s->dest_at;
		memcpy(iov, s->dest + s->dest_at, n * sizeof(*iov));
	} else if (kept) {
		memcpy(scratch, s->stash, kept);
	}
	room = s->big ? NET_AHEAD_SMALL : NET_AHEAD_BYTES;
	iov[n++] = (struct iovec){scratch + kept, room};
	*ret_asked = dest_left + room;
	r = recv_msg(s, iov, n);
	if (r <= 0)
		return r;
	s->count.bytes_in += (size_t)r;
	if (dest_left) {
		const size_t direct = MIN((size_t)r, dest_left);

		s->count.bytes_direct += s->tls ? 0 : direct;
		dest_advance(s, direct);
		if (s->dest_left)
			return r;
		s->handlers->filled(s);
		if ((size_t)r > direct)
			deliver(s, scratch, (size_t)r - direct);
	} else {
		/* Headers and small things fill all that was offered: no big payloads any more. */
		if ((size_t)r == room)
			s->big = false;
		deliver(s, scratch, kept + (size_t)r);
	}
	return r;
}

/* The owner has closed: what comes is dropped. */
static ssize_t recv_closing(struct net_sock *s, size_t *ret_asked)
{
	struct iovec iov = {s->part->scratch, NET_AHEAD_BYTES};

	*ret_asked = iov.iov_len;
	return recv_msg(s, &iov, 1);
}

void recv_run(struct net_sock *s)
{
	if (s->look_again)
		deliver_stash(s);
	for (unsigned round = 0; s->rx_ready && sock_open(s) && !s->paused; round++) {
		const bool closing = s->state == NET_CLOSING;
		size_t asked = 0;
		ssize_t r;

		if (round == RECV_ROUNDS) {
			sock_wake(s);
			return;
		}
		/* The flag goes first: an edge that comes from now on sets it again. */
		s->rx_ready = false;
		if (s->rx_eof)
			return;
		r = closing ? recv_closing(s, &asked) : recv_up(s, &asked);
		if (r > 0)
			s->rx_ready |= (size_t)r == asked || s->hup || s->unix_sock;
		else if (!r)
			end_of_stream(s);
		else if (errno == EINTR)
			s->rx_ready = true;
		else if (errno != EAGAIN && sock_open(s))
			sock_fail_errno(s, -errno);
	}
}

void net_sock_pause(struct net_sock *s)
{
	loop_assert(s->loop);
	s->paused = true;
}

void net_sock_resume(struct net_sock *s)
{
	loop_assert(s->loop);
	if (!s->paused)
		return;
	s->paused = false;
	s->look_again = s->stash_len > 0;
	sock_wake(s);
}

unsigned net_sock_take_fds(struct net_sock *s, int *ret_fds, unsigned max)
{
	const unsigned n = MIN(max, s->fd_count);

	if (!n)
		return 0;
	memcpy(ret_fds, s->fds, n * sizeof(int));
	s->fd_count -= n;
	memmove(s->fds, s->fds + n, s->fd_count * sizeof(int));
	return n;
}

void recv_done(struct net_sock *s)
{
	for (unsigned i = 0; i < s->fd_count; i++)
		close(s->fds[i]);
	s->fd_count = 0;
	mem_free(s->fds);
	mem_free(s->stash);
	s->fds = NULL;
	s->stash = NULL;
}
