/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp, messages: frames in and out, credits, probes, and how a channel ends. See tcp_int.h. */
#include <stdio.h>

#include "fabric/tcp_int.h"

#define SILENT_TIMES 3 /* of dead_ns / SILENT_TIMES each, are death */

/* --- out --- */

void tcp_head_fill(struct tcp *t, struct tcp_head *h, unsigned type)
{
	uint32_t credits = MIN(t->owed, UINT16_MAX);

	h->type = (uint8_t)type;
	h->credits = le16_make((uint16_t)credits);
	t->owed -= credits;
}

int tcp_frame(struct tcp *t, const struct tcp_head *h)
{
	struct tcp_job *j;

	if (!t->sock)
		return -ENOTCONN;
	j = tcp_job_get(t, JOB_FRAME);
	if (!j)
		return -ENOMEM;
	j->head = *h;
	j->type = h->type;
	return tcp_job_send(j, 1);
}

/* Frames of which one at a time is enough. */
static void nudge(struct tcp *t, unsigned type, bool *queued)
{
	struct tcp_head h = {0};
	int rc;

	if (*queued)
		return;
	tcp_head_fill(t, &h, type);
	rc = tcp_frame(t, &h);
	if (rc < 0)
		tcp_broken(t, rc);
	else
		*queued = true;
}

static int tcp_send(struct chan *c, const struct iovec *iov, unsigned count)
{
	static const uint8_t zeroes[8];
	struct tcp *t = container_of(c, struct tcp, c);
	struct tcp_head h = {0};
	struct iovec out[2 + TCP_CHUNK_IOV];
	uint64_t len = iov_sum(iov, count);
	int rc;

	loop_assert(c->loop);
	if (unlikely(t->state != TCP_UP || t->status))
		return t->state == TCP_CONNECTING ? -ENOTCONN : t->status;
	if (unlikely(len > c->msg_max))
		return -EMSGSIZE;
	if (unlikely(!t->credits)) {
		t->want_ready = true;
		c->count.no_credit++;
		return -EAGAIN;
	}
	if (unlikely(count > TCP_CHUNK_IOV)) {
		iov_gather(t->copy, iov, count, 0, len);
		out[1] = (struct iovec){t->copy, len};
		count = 1;
	} else {
		memcpy(&out[1], iov, count * sizeof(*iov));
	}
	tcp_head_fill(t, &h, TCP_MSG);
	h.len = le32_make((uint32_t)len);
	out[0] = (struct iovec){&h, sizeof(h)};
	out[1 + count] = (struct iovec){(void *)(uintptr_t)zeroes, -len & 7};
	rc = net_sock_write(t->sock, out, 2 + count);
	if (unlikely(rc < 0)) {
		t->owed += le16_get(h.credits);
		return rc;
	}
	t->credits--;
	c->count.msgs_out++;
	c->count.bytes_out += len;
	return 0;
}

/* --- in --- */

static int credits_came(struct tcp *t, uint32_t n)
{
	if (n > t->credits_max - t->credits)
		return -EPROTO;
	t->credits += n;
	if (unlikely(t->want_ready) && n)
		tcp_soon(t);
	return 0;
}

static void on_msg(struct tcp *t, const uint8_t *at, uint32_t len)
{
	if (unlikely((uintptr_t)at & 7)) {
		memcpy(t->copy, at, len);
		at = t->copy;
	}
	t->c.count.msgs_in++;
	t->c.count.bytes_in += len;
	t->c.handlers->msg(&t->c, at, len);
	t->owed++;
}

static int on_frame(struct tcp *t, const struct tcp_head *h)
{
	int rc = credits_came(t, le16_get(h->credits));

	if (rc < 0)
		return rc;
	switch (h->type) {
	case TCP_CREDIT:
	case TCP_PONG:
		break;
	case TCP_PING:
		nudge(t, TCP_PONG, &t->pong_queued);
		break;
	case TCP_BYE:
		t->bye = true;
		break;
	default:
		return tcp_xfer_frame(t, h);
	}
	return h->len ? -EPROTO : 0;
}

/* Takes one frame from the stream: how many bytes it has used, or 0 if there are not enough. */
static size_t take(struct tcp *t, const uint8_t *at, size_t len)
{
	struct tcp_head h;
	uint64_t more;
	int rc;

	if (unlikely(t->state == TCP_CONNECTING) && at[0] != TCP_HELLO)
		goto bad;
	if (len < sizeof(h))
		return 0;
	memcpy(&h, at, sizeof(h));
	if (likely(h.type == TCP_MSG || h.type == TCP_HELLO)) {
		more = ALIGN_UP((uint64_t)le32_get(h.len), 8);
		if (t->state == TCP_CONNECTING) {
			if (h.type != TCP_HELLO || more != sizeof(struct tcp_hello))
				goto bad;
		} else if (h.type != TCP_MSG || le32_get(h.len) > t->c.msg_max) {
			goto bad;
		}
		if (len - sizeof(h) < more)
			return 0;
		rc = h.type == TCP_MSG ? credits_came(t, le16_get(h.credits)) : 0;
		if (h.type == TCP_HELLO) {
			struct tcp_hello hello;

			memcpy(&hello, at + sizeof(h), sizeof(hello));
			rc = tcp_hello_came(t, &hello, le32_get(h.status));
		}
		if (rc < 0)
			tcp_broken(t, rc);
		else if (h.type == TCP_MSG)
			on_msg(t, at + sizeof(h), le32_get(h.len));
		return sizeof(h) + more;
	}
	rc = on_frame(t, &h);
	if (rc < 0)
		tcp_broken(t, rc);
	return sizeof(h);
bad:
	if (t->state == TCP_CONNECTING)
		tcp_stranger(t, at, len);
	tcp_broken(t, -EPROTO);
	return len;
}

/* A payload that nobody wants. */
static size_t drop(struct tcp *t, size_t len)
{
	size_t n = MIN(len, t->rx_left);

	t->rx_left -= n;
	if (!t->rx_left) {
		int rc = tcp_payload_next(t);

		if (rc < 0)
			tcp_broken(t, rc);
	}
	return n;
}

static size_t sock_data(struct net_sock *s, const void *bytes, size_t len)
{
	struct tcp *t = net_sock_user(s);
	size_t used = 0;

	t->heard = true;
	while (used < len && t->sock == s && !t->status && t->rx != TCP_RX_DEST) {
		const uint8_t *at = (const uint8_t *)bytes + used;
		size_t n = t->rx == TCP_RX_DROP ? drop(t, len - used) : take(t, at, len - used);

		if (!n)
			break;
		used += n;
	}
	if (t->sock != s || t->status)
		return len;
	if (t->owed && t->owed >= t->opts.msg_credits / 2)
		nudge(t, TCP_CREDIT, &t->credit_queued);
	return used;
}

static void sock_filled(struct net_sock *s)
{
	struct tcp *t = net_sock_user(s);
	int rc;

	t->heard = true;
	rc = tcp_payload_next(t);
	if (rc < 0)
		tcp_broken(t, rc);
}

/* --- the end --- */

/* The timer is armed for as long as the channel lives, so that arming it again can't fail. */
static void timer_arm(struct tcp *t, uint64_t deadline_ns)
{
	int rc = loop_timer_arm(t->c.loop, &t->timer, deadline_ns);

	pst_assert(rc == 0);
}

void tcp_soon(struct tcp *t)
{
	timer_arm(t, loop_now(t->c.loop));
}

void tcp_broken(struct tcp *t, int status)
{
	if (t->status)
		return;
	t->status = status;
	tcp_soon(t);
}

void tcp_place_came(struct tcp *t)
{
	t->place_came = true;
	if (t->want_ready && t->state == TCP_UP)
		tcp_soon(t);
}

/* The channel is over: everybody is told. Nothing refers to the socket's memory any more. */
static void go_down(struct tcp *t)
{
	struct net_sock *s = t->sock;
	enum tcp_state was = t->state;

	t->sock = NULL;
	t->state = TCP_DOWN;
	if (t->status == -EPROTONOSUPPORT)
		net_sock_close(s); /* our version goes out first */
	else
		net_sock_abort(s);
	if (was == TCP_CONNECTING) {
		t->ended = true;
		if (t->listener || !t->c.handlers) { /* nobody has seen it */
			tcp_never_up(t);
			chan_close(&t->c);
		} else {
			t->c.handlers->up(&t->c, t->status);
		}
		return;
	}
	tcp_rx_end(t);
	tcp_xfers_end(t, t->status);
	/* What the socket was sending has ended with abort's word, in a later turn. */
	if (t->state == TCP_DOWN && list_empty(&t->jobs)) {
		t->ended = true;
		t->c.handlers->down(&t->c, t->status);
	} else {
		tcp_soon(t);
	}
}

/* Whether the peer is alive: a time is silent if nothing came since the last, and this loop turned
 * meanwhile (a loop that stood still has heard nothing for no fault of the peer's). */
static void probe(struct tcp *t)
{
	t->probe_ns = loop_now(t->c.loop) + MAX(t->opts.dead_ns / SILENT_TIMES, NSEC_PER_MSEC);
	t->silent = t->heard ? 0 : t->silent + 1;
	t->heard = false;
	if (t->silent >= SILENT_TIMES)
		tcp_broken(t, -ETIMEDOUT);
	else if (t->silent)
		nudge(t, TCP_PING, &t->ping_queued);
}

static void timer_up(struct tcp *t)
{
	if (t->status) {
		timer_arm(t, UINT64_MAX);
		go_down(t);
		return;
	}
	if (loop_now(t->c.loop) >= t->probe_ns)
		probe(t);
	timer_arm(t, t->status ? loop_now(t->c.loop) : t->probe_ns);
	if (!t->status && t->want_ready && (t->credits || t->place_came)) {
		t->want_ready = t->place_came = false;
		t->c.handlers->ready(&t->c);
	}
}

static void timer_down(struct tcp *t)
{
	timer_arm(t, UINT64_MAX);
	if (t->ended || !list_empty(&t->jobs))
		return; /* the last job comes back here */
	t->ended = true;
	t->c.handlers->down(&t->c, t->status);
}

static void timer_closing(struct tcp *t)
{
	timer_arm(t, UINT64_MAX);
	tcp_rx_end(t);
	tcp_xfers_end(t, -ECANCELED);
	tcp_windows_end(t);
	(void)tcp_end(t);
}

void tcp_timer_fired(struct loop_timer *timer)
{
	struct tcp *t = container_of(timer, struct tcp, timer);

	switch (t->state) {
	case TCP_CONNECTING:
		timer_arm(t, UINT64_MAX);
		if (!t->status) {
			t->status = -ETIMEDOUT;
			snprintf(t->c.why, sizeof(t->c.why),
			         "%s: connected, but nothing was said in time", t->c.peer.addr);
		}
		go_down(t);
		break;
	case TCP_UP:
		timer_up(t);
		break;
	case TCP_DOWN:
		timer_down(t);
		break;
	case TCP_CLOSING:
		timer_closing(t);
		break;
	}
}

static void sock_down(struct net_sock *s, int status)
{
	struct tcp *t = net_sock_user(s);

	if (t->status)
		return; /* it said before why */
	if (t->state == TCP_CONNECTING)
		status = tcp_explain(t, s, status);
	else if (status == -EPIPE && !t->bye)
		status = -ECONNRESET;
	tcp_broken(t, status);
}

static void sock_gone(void *user)
{
	struct tcp *t = user;

	t->sock_gone = true;
	tcp_soon(t);
}

static void tcp_close(struct chan *c)
{
	struct tcp *t = container_of(c, struct tcp, c);
	struct net_sock *s = t->sock;
	struct tcp_head h = {.type = TCP_BYE};
	bool never_up = t->state == TCP_CONNECTING;

	loop_assert(c->loop);
	pst_assert(t->state != TCP_CLOSING);
	if (t->state == TCP_UP && !t->status)
		(void)tcp_frame(t, &h); /* else the peer takes it for a crash */
	t->state = TCP_CLOSING;
	t->want_ready = false;
	t->listener = NULL;
	chan_known(c);
	t->sock = NULL;
	if (t->status || never_up) /* there is nothing to deliver */
		net_sock_abort(s);
	else
		net_sock_close(s);
	tcp_soon(t);
}

static void tcp_flush(struct chan *c)
{
	struct tcp *t = container_of(c, struct tcp, c);

	loop_assert(c->loop);
	if (t->state == TCP_UP && !t->status)
		net_sock_flush(t->sock);
}

static bool tcp_room(struct chan *c)
{
	struct tcp *t = container_of(c, struct tcp, c);

	loop_assert(c->loop);
	return t->state != TCP_UP || t->status || net_sock_room(t->sock);
}

static void sock_room(struct net_sock *s)
{
	struct tcp *t = net_sock_user(s);

	if (t->state == TCP_UP && !t->status)
		t->c.handlers->ready(&t->c);
}

const struct chan_ops tcp_ops = {
        .send = tcp_send,
        .write = tcp_write,
        .read = tcp_read,
        .window_open = tcp_window_open,
        .window_close = tcp_window_close,
        .close = tcp_close,
        .flush = tcp_flush,
        .room = tcp_room,
};

const struct net_handlers tcp_handlers = {
        .up = tcp_sock_up,
        .data = sock_data,
        .filled = sock_filled,
        .room = sock_room,
        .down = sock_down,
        .gone = sock_gone,
};
