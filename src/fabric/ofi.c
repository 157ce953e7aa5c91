/* SPDX-License-Identifier: BSD-3-Clause */
/* ofi, messages: frames out and in, credits, probes, sleep, and how a channel ends. See ofi_int.h. */
#include <stdio.h>

#include "fabric/ofi_int.h"

#define SILENT_TIMES 3   /* of dead_ns / SILENT_TIMES each, are death */
#define POLL_MAX     256 /* completions of one turn */
#define POLL_BATCH   16
#define LINGER_NS    NSEC_PER_SEC /* that a peer has to say that it has seen our end */

/* --- the timer: armed for as long as the channel lives, so that arming it again can't fail --- */

static void timer_arm(struct ofi *o, uint64_t deadline_ns)
{
	int rc = loop_timer_arm(o->c.loop, &o->timer, deadline_ns);

	pst_assert(rc == 0);
}

void ofi_soon(struct ofi *o)
{
	timer_arm(o, loop_now(o->c.loop));
}

void ofi_broken(struct ofi *o, int status)
{
	if (o->status)
		return;
	o->status = status;
	ofi_soon(o);
}

/* --- out --- */

static void head_fill(struct ofi *o, struct ofi_head *h, unsigned type, uint32_t len,
                      uint32_t window)
{
	*h = (struct ofi_head){.token = le64_make(o->token_out),
	                       .seq = le32_make(o->seq_out),
	                       .credits = le16_make((uint16_t)MIN(o->owed, UINT16_MAX)),
	                       .type = (uint8_t)type,
	                       .len = le32_make(len),
	                       .window = le32_make(window)};
}

/* What was posted is on its way: O3. */
static void posted(struct ofi *o, const struct ofi_head *h)
{
	o->seq_out++;
	o->owed -= le16_get(h->credits);
}

/* 0; -EAGAIN: later (O5); else the channel ends. */
static int frame(struct ofi *o, unsigned type, uint32_t window)
{
	struct ofi_head h;
	ssize_t rc;

	head_fill(o, &h, type, 0, window);
	rc = fi_inject(o->ep.ep, &h, sizeof(h), o->ep.peer);
	if (rc == 0)
		posted(o, &h);
	else if (rc != -FI_EAGAIN)
		ofi_broken(o, -ECONNRESET);
	return ofi_errno(rc);
}

static bool nudge(struct ofi *o, bool *due, unsigned type)
{
	if (*due && frame(o, type, 0) == 0)
		*due = false;
	return !*due;
}

static int tx_post(struct ofi *o, struct ofi_tx *tx)
{
	size_t len = sizeof(struct ofi_head) + tx->len;
	struct ofi_head *h = (struct ofi_head *)(void *)tx->buf;
	struct iovec iov = {tx->buf, len};
	void *desc = o->tx_mr ? fi_mr_desc(o->tx_mr) : NULL;
	struct fi_msg msg = {.msg_iov = &iov,
	                     .desc = &desc,
	                     .iov_count = 1,
	                     .addr = o->ep.peer,
	                     .context = &tx->ctx};
	ssize_t rc;

	head_fill(o, h, OFI_MSG, tx->len, 0);
	rc = fi_sendmsg(o->ep.ep, &msg, FI_COMPLETION);
	if (rc == 0)
		posted(o, h);
	return rc == -FI_EAGAIN ? -EAGAIN : rc < 0 ? -ECONNRESET : 0;
}

static bool txq_flush(struct ofi *o)
{
	while (!list_empty(&o->txq)) {
		struct ofi_tx *tx = list_first(&o->txq, struct ofi_tx, link);
		int rc = tx_post(o, tx);

		if (rc < 0 && rc != -EAGAIN)
			ofi_broken(o, rc);
		if (rc < 0)
			return false;
		list_del(&tx->link);
	}
	return true;
}

static bool windows_flush(struct ofi *o)
{
	while (o->answers_count) {
		if (frame(o, OFI_CLOSED, o->answers[o->answers_at]) < 0)
			return false;
		o->answers_at = (o->answers_at + 1) % o->answers_max;
		o->answers_count--;
	}
	while (!list_empty(&o->closes)) {
		struct ofi_window *win = list_first(&o->closes, struct ofi_window, link);

		if (frame(o, OFI_CLOSE, win->id) < 0)
			return false;
		win->told_ns = loop_now(o->c.loop);
		list_del(&win->link);
		list_push(&o->told, &win->link);
	}
	return true;
}

/* Posts what is due, in order (O5). */
static void flush(struct ofi *o)
{
	if (o->status || !o->ep.ep || o->ep.peer == FI_ADDR_UNSPEC)
		return;
	if (!nudge(o, &o->ready_due, OFI_READY) || !txq_flush(o) || !windows_flush(o))
		return;
	if (!list_empty(&o->blocked))
		ofi_jobs_flush(o);
	o->credit_due |= o->owed && o->owed >= o->opts.msg_credits / 2;
	if (o->credit_due && !o->owed)
		o->credit_due = false; /* went with another frame */
	(void)(nudge(o, &o->credit_due, OFI_CREDIT) && nudge(o, &o->pong_due, OFI_PONG) &&
	       nudge(o, &o->ping_due, OFI_PING) && nudge(o, &o->bye_due, OFI_BYE));
}

static bool anything_due(const struct ofi *o)
{
	return o->ready_due || !list_empty(&o->txq) || o->answers_count ||
	       !list_empty(&o->closes) || !list_empty(&o->blocked) || o->credit_due ||
	       o->pong_due || o->ping_due || o->bye_due;
}

/* Copied by libfabric, no completion: small messages, while nothing is before them. By fi_inject(), and not by
 * fi_sendmsg() with FI_INJECT: over tcp, ofi_rxm 1.17 then sends from our memory, whenever the socket takes it. */
static int send_now(struct ofi *o, const struct iovec *iov, unsigned count, uint32_t len)
{
	uint8_t buf[OFI_NOW_MAX];
	struct ofi_head h;
	ssize_t rc;

	head_fill(o, &h, OFI_MSG, len, 0);
	memcpy(buf, &h, sizeof(h));
	iov_gather(buf + sizeof(h), iov, count, 0, len);
	rc = fi_inject(o->ep.ep, buf, sizeof(h) + len, o->ep.peer);
	if (rc == 0)
		posted(o, &h);
	return rc == -FI_EAGAIN ? -EAGAIN : rc < 0 ? -ECONNRESET : 0;
}

static int send_later(struct ofi *o, const struct iovec *iov, unsigned count, uint32_t len)
{
	struct list *n = list_pop(&o->tx_spare);
	struct ofi_tx *tx;

	if (!n)
		return -EAGAIN;
	tx = list_entry(n, struct ofi_tx, link);
	tx->len = len;
	iov_gather(tx->buf + sizeof(struct ofi_head), iov, count, 0, len);
	list_push(&o->txq, &tx->link);
	if (!o->ready_due)
		(void)txq_flush(o);
	return 0;
}

static int ofi_send(struct chan *c, const struct iovec *iov, unsigned count)
{
	struct ofi *o = container_of(c, struct ofi, c);
	uint64_t len = iov_sum(iov, count);
	int rc = -EAGAIN;

	loop_assert(c->loop);
	if (unlikely(!ofi_live(o)))
		return o->state == OFI_CONNECTING ? -ENOTCONN : o->status;
	if (unlikely(len > c->msg_max))
		return -EMSGSIZE;
	if (unlikely(!o->credits)) {
		o->want_ready = true;
		c->count.no_credit++;
		return -EAGAIN;
	}
	if (len + sizeof(struct ofi_head) <= MIN(o->ep.inject_max, OFI_NOW_MAX) &&
	    list_empty(&o->txq) && !o->ready_due)
		rc = send_now(o, iov, count, (uint32_t)len);
	if (rc == -EAGAIN)
		rc = send_later(o, iov, count, (uint32_t)len);
	if (rc < 0) {
		o->want_ready |= rc == -EAGAIN;
		if (rc != -EAGAIN)
			ofi_broken(o, rc);
		return rc;
	}
	o->credits--;
	c->count.msgs_out++;
	c->count.bytes_out += len;
	return 0;
}

/* --- in --- */

static int rx_post(struct ofi *o, struct ofi_rx *rx)
{
	struct iovec iov = {rx->buf, o->buf_bytes};
	void *desc = o->rx_mr ? fi_mr_desc(o->rx_mr) : NULL;
	struct fi_msg msg = {.msg_iov = &iov,
	                     .desc = &desc,
	                     .iov_count = 1,
	                     .addr = FI_ADDR_UNSPEC,
	                     .context = &rx->ctx};
	ssize_t rc = fi_recvmsg(o->ep.ep, &msg, FI_COMPLETION);

	return rc < 0 ? -ECONNRESET : 0;
}

static int on_msg(struct ofi *o, const struct ofi_head *h, const uint8_t *at)
{
	uint32_t len = le32_get(h->len);

	if (o->state == OFI_CLOSING)
		return 0;
	/* More under way than it has credits for. */
	if (o->state != OFI_UP || len > o->c.msg_max || o->owed == o->opts.msg_credits)
		return -EPROTO;
	o->c.count.msgs_in++;
	o->c.count.bytes_in += len;
	o->owed++;
	o->c.handlers->msg(&o->c, at, len);
	return 0;
}

static int on_frame(struct ofi *o, const struct ofi_head *h, const uint8_t *at)
{
	uint32_t credits = le16_get(h->credits), window = le32_get(h->window);

	if (credits > o->credits_max - o->credits)
		return -EPROTO;
	o->credits += credits;
	if (likely(h->type == OFI_MSG))
		return on_msg(o, h, at);
	if (le32_get(h->len))
		return -EPROTO;
	switch (h->type) {
	case OFI_READY:
		return o->state == OFI_CONNECTING ? ofi_up(o) : -EPROTO;
	case OFI_CREDIT:
	case OFI_PONG:
		return 0;
	case OFI_PING:
		o->pong_due = true;
		return 0;
	case OFI_BYE:
		o->bye = true;
		return -EPIPE;
	case OFI_CLOSE:
		return ofi_close_came(o, window);
	case OFI_CLOSED:
		return ofi_closed_came(o, window);
	}
	return -EPROTO;
}

/* O3, O4: a frame is believed when it is this channel's next one. */
static int frame_check(const struct ofi *o, const struct ofi_head *h, size_t len)
{
	if (len < sizeof(*h) || le64_get(h->token) != o->token_in)
		return 1; /* a stranger's */
	if (le32_get(h->seq) - o->seq_in >= o->rx_count)
		return -ECONNRESET; /* more than there are receives for: something is missing */
	return le32_get(h->len) == len - sizeof(*h) ? 0 : -EPROTO;
}

static void rx_done(struct ofi *o, struct ofi_rx *rx, int rc)
{
	if (rc < 0)
		ofi_broken(o, rc);
	if (!o->status && o->ep.ep && rx_post(o, rx) < 0)
		ofi_broken(o, -ECONNRESET);
}

static void rx_take(struct ofi *o, struct ofi_rx *rx)
{
	struct ofi_head h;

	memcpy(&h, rx->buf, sizeof(h));
	o->seq_in++;
	rx_done(o, rx, on_frame(o, &h, rx->buf + sizeof(h)));
}

/* Completions don't have to come in the order of the frames; frames are taken in theirs. */
static void on_recv(struct ofi *o, struct ofi_rx *rx, size_t len)
{
	struct ofi_rx **slot;
	struct ofi_head h;
	int rc;

	memcpy(&h, rx->buf, sizeof(h));
	rc = frame_check(o, &h, len);
	if (rc != 0) {
		rx_done(o, rx, rc);
		return;
	}
	o->heard = true;
	if (likely(le32_get(h.seq) == o->seq_in)) {
		rx_take(o, rx);
		while (o->early_count && (rx = o->early[o->seq_in % o->rx_count])) {
			o->early[o->seq_in % o->rx_count] = NULL;
			o->early_count--;
			o->early_ns = loop_now(o->c.loop);
			rx_take(o, rx);
		}
		return;
	}
	slot = &o->early[le32_get(h.seq) % o->rx_count];
	if (*slot) {
		rx_done(o, rx, -EPROTO);
		return;
	}
	if (!o->early_count++)
		o->early_ns = loop_now(o->c.loop);
	*slot = rx;
}

static void on_done(struct ofi *o, struct ofi_ctx *ctx, size_t len)
{
	struct ofi_tx *tx;

	switch (ctx->kind) {
	case OFI_RX:
		on_recv(o, container_of(ctx, struct ofi_rx, ctx), len);
		break;
	case OFI_TX:
		tx = container_of(ctx, struct ofi_tx, ctx);
		list_push_front(&o->tx_spare, &tx->link);
		o->place_came = true;
		break;
	case OFI_JOB:
		o->heard = true;
		ofi_job_done(container_of(ctx, struct ofi_job, ctx), 0);
		break;
	}
}

/* An operation failed: what was lost with it can't be known, so the channel ends (O3). */
static void on_failed(struct ofi *o)
{
	struct fi_cq_err_entry e = {0};
	struct ofi_ctx *ctx;

	if (fi_cq_readerr(o->ep.cq, &e, 0) <= 0)
		return;
	ctx = e.op_context;
	log_debug("%s: an operation failed: %s", o->c.peer.addr, ofi_lib.strerror(e.err));
	if (ctx && ctx->kind == OFI_RX && e.err == FI_ETRUNC) {
		/* Longer than any frame: a stranger's; if not, its number will be missed. */
		if (rx_post(o, container_of(ctx, struct ofi_rx, ctx)) == 0)
			return;
	}
	if (ctx && ctx->kind == OFI_JOB)
		ofi_job_done(container_of(ctx, struct ofi_job, ctx),
		             e.err == FI_EACCES ? -EACCES : -ECONNRESET);
	ofi_broken(o, -ECONNRESET);
}

static int take(struct ofi *o)
{
	struct fi_cq_msg_entry e[POLL_BATCH];
	int did = 0;

	while (did < POLL_MAX && o->ep.ep && !(o->status && o->state != OFI_CONNECTING)) {
		ssize_t n = fi_cq_read(o->ep.cq, e, POLL_BATCH);

		if (n == -FI_EAGAIN || n == 0)
			break;
		if (n == -FI_EAVAIL) {
			on_failed(o);
			did++;
			continue;
		}
		if (n < 0) {
			ofi_broken(o, -ECONNRESET);
			break;
		}
		/* All of them, whatever the first ones did: they are not told again. */
		for (ssize_t i = 0; i < n; i++)
			on_done(o, e[i].op_context, e[i].len);
		did += (int)n;
	}
	return did;
}

int ofi_poll(struct loop_poller *p)
{
	struct ofi *o = container_of(p, struct ofi, poller);
	int did = take(o);

	flush(o);
	if (unlikely(o->want_ready) && ofi_live(o) && (o->credits || o->place_came)) {
		o->want_ready = o->place_came = false;
		o->c.handlers->ready(&o->c);
		did++;
	}
	return did;
}

/* What the provider would not take is tried again until it does: it tells nobody when that is. */
bool ofi_may_sleep(struct loop_poller *p)
{
	struct ofi *o = container_of(p, struct ofi, poller);

	return !o->ep.ep || (o->ep.fd >= 0 && (o->status || !anything_due(o)));
}

bool ofi_sleeps(struct loop_poller *p)
{
	struct ofi *o = container_of(p, struct ofi, poller);
	struct fid *fid = o->ep.cq ? &o->ep.cq->fid : NULL;

	if (!o->ep.ep || o->ep.fd < 0)
		return true;
	o->c.count.sleeps++;
	return fi_trywait(o->ep.fab->fabric, &fid, 1) == 0;
}

int ofi_buffers(struct ofi *o)
{
	int rc = 0;

	o->buf_bytes = ALIGN_UP(sizeof(struct ofi_head) + o->c.msg_max, 64);
	o->rx_count = o->opts.msg_credits + OFI_RX_MORE;
	o->tx_count = o->credits_max;
	o->rx_slab = mem_alloc_aligned(4096, ALIGN_UP(o->rx_count * o->buf_bytes, 4096));
	o->tx_slab = mem_alloc_aligned(4096, ALIGN_UP(o->tx_count * o->buf_bytes, 4096));
	o->rx = mem_calloc(o->rx_count, sizeof(*o->rx));
	o->early = mem_calloc(o->rx_count, sizeof(struct ofi_rx *));
	o->tx = mem_calloc(o->tx_count, sizeof(*o->tx));
	if (!o->rx_slab || !o->tx_slab || !o->rx || !o->tx || !o->early)
		return -ENOMEM;
	if (o->ep.local_keys) {
		rc = ofi_mr_open(&o->rx_mr, &o->ep, o->rx_slab, o->rx_count * o->buf_bytes,
		                 FI_RECV);
		if (rc == 0)
			rc = ofi_mr_open(&o->tx_mr, &o->ep, o->tx_slab, o->tx_count * o->buf_bytes,
			                 FI_SEND);
	}
	for (uint32_t i = 0; i < o->tx_count; i++) {
		o->tx[i].ctx.kind = OFI_TX;
		o->tx[i].buf = o->tx_slab + i * o->buf_bytes;
		list_push(&o->tx_spare, &o->tx[i].link);
	}
	for (uint32_t i = 0; rc == 0 && i < o->rx_count; i++) {
		o->rx[i].ctx.kind = OFI_RX;
		o->rx[i].buf = o->rx_slab + i * o->buf_bytes;
		rc = rx_post(o, &o->rx[i]);
	}
	return rc;
}

/* --- the end --- */

static void fd_gone(struct loop_fd *f)
{
	struct ofi *o = container_of(f, struct ofi, wake);

	o->fd_gone = true;
	ofi_soon(o);
}

/* Nothing of libfabric's touches our memory any more when this returns (O1). */
static void stop(struct ofi *o)
{
	if (o->polling)
		loop_poller_del(o->c.loop, &o->poller);
	o->polling = false;
	ofi_ep_stop(&o->ep);
	if (o->fd_watched)
		loop_fd_del(o->c.loop, &o->wake, fd_gone);
	o->fd_watched = false;
}

static void side_end(struct ofi *o)
{
	struct net_sock *s = o->sock;

	o->sock = NULL;
	if (o->never_up)
		net_sock_abort(s);
	else
		net_sock_close(s);
}

static void go_down(struct ofi *o)
{
	enum ofi_state was = o->state;

	o->never_up = was == OFI_CONNECTING && !o->listener;
	o->state = OFI_DOWN;
	stop(o);
	side_end(o);
	o->ended = true;
	if (was == OFI_CONNECTING) {
		if (o->listener || !o->c.handlers) /* nobody has seen it */
			chan_close(&o->c);
		else
			o->c.handlers->up(&o->c, o->status);
		return;
	}
	ofi_jobs_end(o, o->status);
	ofi_windows_end(o, false);
	if (o->state == OFI_DOWN)
		o->c.handlers->down(&o->c, o->status);
}

static bool close_too_slow(const struct ofi *o)
{
	uint64_t told;

	if (list_empty(&o->told))
		return false;
	told = list_first(&o->told, struct ofi_window, link)->told_ns;
	return loop_now(o->c.loop) > told + o->opts.dead_ns;
}

/* Lost with a connection, that is: O3. */
static bool frame_missing(const struct ofi *o)
{
	return o->early_count && loop_now(o->c.loop) > o->early_ns + o->opts.dead_ns;
}

/* As tcp does: silence counts only in turns of our own. */
static void probe(struct ofi *o)
{
	o->probe_ns = loop_now(o->c.loop) + MAX(o->opts.dead_ns / SILENT_TIMES, NSEC_PER_MSEC);
	o->silent = o->heard ? 0 : o->silent + 1;
	o->heard = false;
	if (o->silent >= SILENT_TIMES || close_too_slow(o) || frame_missing(o))
		ofi_broken(o, -ETIMEDOUT);
	else if (o->silent)
		o->ping_due = true;
}

static void timer_up(struct ofi *o)
{
	if (o->status) {
		timer_arm(o, UINT64_MAX);
		go_down(o);
		return;
	}
	if (loop_now(o->c.loop) >= o->probe_ns)
		probe(o);
	timer_arm(o, o->status ? loop_now(o->c.loop) : o->probe_ns);
}

/* The peer has seen our end, or never will. */
static void timer_closing(struct ofi *o)
{
	timer_arm(o, UINT64_MAX);
	stop(o);
	side_end(o);
	ofi_jobs_end(o, -ECANCELED);
	ofi_windows_end(o, true);
	(void)ofi_end(o);
}

void ofi_timer_fired(struct loop_timer *timer)
{
	struct ofi *o = container_of(timer, struct ofi, timer);

	switch (o->state) {
	case OFI_CONNECTING:
		timer_arm(o, UINT64_MAX);
		if (!o->status)
			o->status = -ETIMEDOUT;
		go_down(o);
		break;
	case OFI_UP:
		timer_up(o);
		break;
	case OFI_DOWN:
		timer_arm(o, UINT64_MAX);
		break;
	case OFI_CLOSING:
		timer_closing(o);
		break;
	}
}

/* The side ended: before that the peer has sent what it had to say. */
void ofi_side_down(struct ofi *o, int status)
{
	if (o->state == OFI_UP)
		(void)take(o);
	if (o->state == OFI_CLOSING) {
		ofi_soon(o);
		return;
	}
	if (o->state == OFI_CONNECTING && (status == -EPIPE || status == -ECONNRESET)) {
		status = -ECONNREFUSED;
		if (!o->status && !o->polling)
			(void)snprintf(o->c.why, sizeof(o->c.why),
			               "%.120s closed the connection before it said a word: is it "
			               "a door for ofi?",
			               o->c.peer.addr);
	} else if (status == -EPIPE && !o->bye) {
		status = -ECONNRESET;
	}
	ofi_broken(o, status);
}

static void ofi_close(struct chan *c)
{
	struct ofi *o = container_of(c, struct ofi, c);
	bool live = ofi_live(o);

	loop_assert(c->loop);
	pst_assert(o->state != OFI_CLOSING);
	o->never_up |= o->state == OFI_CONNECTING && !o->listener;
	o->state = OFI_CLOSING;
	o->want_ready = false;
	o->listener = NULL;
	chan_known(c);
	if (!live) {
		ofi_soon(o);
		return;
	}
	/* What was sent, and then the end; the peer answers by ending the side. */
	o->bye_due = true;
	flush(o);
	timer_arm(o, loop_now(c->loop) + LINGER_NS);
}

const struct chan_ops ofi_ops = {
        .send = ofi_send,
        .write = ofi_write,
        .read = ofi_read,
        .window_open = ofi_window_open,
        .window_close = ofi_window_close,
        .close = ofi_close,
        .flush = fabric_flush_none,
        .room = fabric_room_always,
};
