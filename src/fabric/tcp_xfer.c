/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp, windows and transfers; see tcp_int.h, whose rules T1 to T4 are cited here. */
#include "fabric/tcp_int.h"

/* --- jobs --- */

static void job_done(struct net_send *m, int status);

struct tcp_job *tcp_job_get(struct tcp *t, enum job_kind kind)
{
	struct list *n = list_pop(&t->spare);
	struct tcp_job *j = n ? list_entry(n, struct tcp_job, link) : mem_alloc(sizeof(*j));

	if (!j)
		return NULL;
	memset(&j->send, 0, sizeof(j->send));
	j->t = t;
	j->kind = kind;
	j->sending = false;
	j->x = NULL;
	j->win = NULL;
	j->at = j->len = 0;
	j->head = (struct tcp_head){0};
	j->iov[0] = (struct iovec){&j->head, sizeof(j->head)};
	j->send.done = job_done;
	j->send.iov = j->iov;
	list_init(&j->turn);
	list_push(&t->jobs, &j->link);
	return j;
}

void tcp_job_put(struct tcp_job *j)
{
	struct tcp *t = j->t;

	pst_assert(!j->sending);
	list_del(&j->turn);
	list_del(&j->link);
	list_push_front(&t->spare, &j->link);
	if (list_empty(&t->jobs) && (t->state == TCP_DOWN || t->state == TCP_CLOSING))
		tcp_soon(t);
}

int tcp_job_send(struct tcp_job *j, unsigned iov_count)
{
	int rc;

	j->send.iov_count = iov_count;
	rc = net_sock_send(j->t->sock, &j->send);
	j->sending = rc == 0;
	if (rc < 0 && j->kind == JOB_FRAME)
		tcp_job_put(j);
	return rc;
}

/* As many bytes of the list from @off as @len and @max entries allow; how many, and how many entries. */
static uint64_t slice(struct iovec *to, unsigned max, unsigned *ret_count, const struct iovec *iov,
                      uint32_t count, uint64_t off, uint64_t len)
{
	uint64_t bytes = 0;
	unsigned n = 0;

	for (uint32_t i = 0; i < count && bytes < len && n < max; i++) {
		uint64_t part;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - off, len - bytes);
		to[n++] = (struct iovec){(char *)iov[i].iov_base + off, part};
		bytes += part;
		off = 0;
	}
	*ret_count = n;
	return bytes;
}

/* Ends a transfer of ours. */
static void xfer_end(struct tcp_job *j, int status)
{
	struct tcp *t = j->t;
	struct chan_xfer *x = j->x;

	t->xfers[j->id & 0xffff] = NULL;
	t->xfers_count--;
	tcp_job_put(j);
	tcp_place_came(t);
	x->done(x, status);
}

/* --- windows --- */

static struct tcp_window *window_find(const struct tcp *t, uint64_t key, uint32_t right,
                                      uint64_t off, uint64_t len)
{
	uint32_t slot = key & 0xffff;
	struct tcp_window *win;

	if (!t->windows || slot >= t->opts.windows_max)
		return NULL;
	win = &t->windows[slot];
	if (!key || win->key != key || !(win->w->rights & right))
		return NULL;
	if (off > win->w->desc.len || len > win->w->desc.len - off)
		return NULL;
	return win;
}

static void window_gone(struct tcp *t, struct tcp_window *win)
{
	struct chan_window *w = win->w;

	win->w = NULL;
	win->next_free = t->windows_free;
	t->windows_free = (uint32_t)(win - t->windows);
	t->windows_count--;
	tcp_place_came(t);
	if (t->state == TCP_CLOSING)
		tcp_soon(t);
	w->closed(w);
}

/* T1. */
static void window_unuse(struct tcp *t, struct tcp_window *win)
{
	pst_assert(win->users > 0);
	if (--win->users == 0 && !win->key)
		window_gone(t, win);
}

static int windows_make(struct tcp *t)
{
	t->windows = mem_calloc(t->opts.windows_max, sizeof(*t->windows));
	if (!t->windows)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->opts.windows_max; i++)
		t->windows[i].next_free = i + 1;
	t->windows_free = 0;
	return 0;
}

int tcp_window_open(struct chan *c, struct chan_window *w)
{
	struct tcp *t = container_of(c, struct tcp, c);
	uint64_t len = iov_sum(w->iov, w->iov_count);
	struct tcp_window *win;

	loop_assert(c->loop);
	if (unlikely(t->state != TCP_UP || t->status))
		return t->state == TCP_CONNECTING ? -ENOTCONN : t->status;
	if (!len || len == UINT64_MAX ||
	    (w->region && !iov_inside(w->iov, w->iov_count, w->region)))
		return -EINVAL;
	if (t->windows_count == t->opts.windows_max) {
		t->want_ready = true;
		return -EAGAIN;
	}
	if (!t->windows && windows_make(t) < 0)
		return -ENOMEM;
	win = &t->windows[t->windows_free];
	w->desc =
	        (struct fabric_desc){.key = ++t->window_number << 16 | t->windows_free, .len = len};
	t->windows_free = win->next_free;
	t->windows_count++;
	win->w = w;
	win->users = 0;
	win->key = w->desc.key;
	w->priv[0] = (uint64_t)(uintptr_t)win;
	return 0;
}

static void window_close(struct tcp *t, struct tcp_window *win)
{
	win->key = 0;
	if (!win->users)
		window_gone(t, win);
}

void tcp_window_close(struct chan *c, struct chan_window *w)
{
	struct tcp *t = container_of(c, struct tcp, c);
	struct tcp_window *win = (struct tcp_window *)(uintptr_t)w->priv[0];

	loop_assert(c->loop);
	pst_assert(win->w == w && win->key);
	window_close(t, win);
}

/* The channel is closed, and the socket's destination with it. */
void tcp_windows_end(struct tcp *t)
{
	for (uint32_t i = 0; t->windows_count && i < t->opts.windows_max; i++) {
		if (t->windows[i].w && t->windows[i].key)
			window_close(t, &t->windows[i]);
	}
}

/* --- chunks out --- */

/* Of the job's next @len bytes. */
static void chunk_head(const struct tcp_job *j, struct tcp_head *h, uint64_t len, uint64_t wire_off)
{
	h->flags = j->at + len == j->len ? TCP_LAST : 0;
	h->len = le32_make((uint32_t)len);
	h->key = le64_make(j->key);
	h->off = le64_make(wire_off);
	h->id = le32_make(j->id);
}

static int chunk_send(struct tcp_job *j, unsigned type, const struct iovec *iov, uint32_t count,
                      uint64_t off, uint64_t wire_off)
{
	unsigned n;
	uint64_t len = slice(&j->iov[1], TCP_CHUNK_IOV, &n, iov, count, off,
	                     MIN(j->len - j->at, TCP_CHUNK_BYTES));

	tcp_head_fill(j->t, &j->head, type);
	chunk_head(j, &j->head, len, wire_off);
	/* The head of one that was cut had left in part. */
	j->iov[0] = (struct iovec){&j->head, sizeof(j->head)};
	j->at += len;
	return tcp_job_send(j, 1 + n);
}

static int write_next(struct tcp_job *j)
{
	const struct chan_xfer *x = j->x;

	return chunk_send(j, TCP_WRITE, x->iov, x->iov_count, j->at, x->off + j->at);
}

static int serve_refuse(struct tcp_job *j)
{
	j->head = (struct tcp_head){.id = le32_make(j->id), .status = le32_make(EACCES)};
	tcp_head_fill(j->t, &j->head, TCP_READ_END);
	j->at = j->len; /* nothing more */
	return tcp_job_send(j, 1);
}

static int serve_next(struct tcp_job *j)
{
	struct tcp *t = j->t;
	struct tcp_window *win =
	        window_find(t, j->key, FABRIC_PEER_READS, j->base + j->at, j->len - j->at);
	int rc;

	if (!win)
		return serve_refuse(j);
	rc = chunk_send(j, TCP_READ_DATA, win->w->iov, win->w->iov_count, j->base + j->at, j->at);
	if (rc == 0) {
		j->win = win;
		win->users++;
	}
	return rc;
}

static void serve_end(struct tcp_job *j)
{
	j->t->serving--;
	tcp_job_put(j);
}

/* T4. Whose last chunk is queued makes room for the next, so that the socket always has something. */
static void turns_run(struct tcp *t)
{
	while (t->sock && !list_empty(&t->turns)) {
		struct tcp_job *j = list_first(&t->turns, struct tcp_job, turn);
		int rc;

		if (j->sending)
			return;
		rc = j->kind == JOB_WRITE ? write_next(j) : serve_next(j);
		if (rc < 0) { /* it ends with the channel */
			tcp_broken(t, rc);
			return;
		}
		if (j->at < j->len)
			return;
		list_del(&j->turn);
	}
}

/* The next chunk, now or when it is its turn. */
static int chunk_next(struct tcp_job *j)
{
	struct tcp *t = j->t;

	if (j->len - j->at > TCP_CHUNK_BYTES && list_empty(&j->turn))
		list_push(&t->turns, &j->turn);
	if (list_empty(&j->turn))
		return j->kind == JOB_WRITE ? write_next(j) : serve_next(j);
	turns_run(t);
	return 0;
}

static void frame_done(struct tcp_job *j)
{
	struct tcp *t = j->t;

	switch (j->type) {
	case TCP_CREDIT:
		t->credit_queued = false;
		break;
	case TCP_PING:
		t->ping_queued = false;
		break;
	case TCP_PONG:
		t->pong_queued = false;
		break;
	case TCP_WRITE_END:
		t->answers--;
		break;
	}
	tcp_job_put(j);
}

static void serve_done(struct tcp_job *j, int status)
{
	struct tcp *t = j->t;
	struct tcp_window *win = j->win;
	int rc = 0;

	j->win = NULL;
	if (status || j->at == j->len || !t->sock)
		serve_end(j);
	else
		rc = chunk_next(j);
	if (rc < 0) {
		serve_end(j);
		tcp_broken(t, rc);
	}
	if (win)
		window_unuse(t, win); /* last: closed() may do anything */
}

static void write_done(struct tcp_job *j, int status)
{
	struct tcp *t = j->t;

	if (t->state == TCP_CLOSING)
		xfer_end(j, -ECANCELED);
	else if (status || t->state == TCP_DOWN)
		xfer_end(j, t->status ? t->status : status);
	else if (j->at < j->len) {
		int rc = chunk_next(j);

		if (rc < 0)
			tcp_broken(t, rc);
	} else if (j->type == TCP_WRITE_END) {
		xfer_end(j, -(int)le32_get(j->head.status)); /* the answer was faster */
	}
}

static void job_done(struct net_send *m, int status)
{
	struct tcp_job *j = container_of(m, struct tcp_job, send);

	j->sending = false;
	switch (j->kind) {
	case JOB_FRAME:
		frame_done(j);
		break;
	case JOB_SERVE:
		serve_done(j, status);
		break;
	case JOB_WRITE:
		write_done(j, status);
		break;
	case JOB_READ: /* only its question was sent */
		if (tcp_over(j->t))
			xfer_end(j, j->t->state == TCP_CLOSING ? -ECANCELED : j->t->status);
		break;
	}
}

/* --- writes of lent memory --- */

/* From @at on it is copied. */
static void lent_keep(struct tcp_job *j, uint64_t at)
{
	struct chan_xfer *x = j->x;

	memcpy((uint8_t *)x->keep + at, (const uint8_t *)x->iov->iov_base + at, j->len - at);
	j->kept = (struct iovec){x->keep, x->len};
	x->iov = &j->kept;
}

/* The kernel has taken all chunks before @j->at, and @cut bytes of the one there and its head @h: the rest
 * of that one is queued. */
static int lent_rest(struct tcp_job *j, const struct tcp_head *h, uint64_t cut)
{
	uint64_t head = MIN(cut, sizeof(*h)), data = cut - head, len = le32_get(h->len);

	lent_keep(j, j->at + data);
	j->head = *h;
	j->iov[0] = (struct iovec){(uint8_t *)&j->head + head, sizeof(*h) - head};
	j->iov[1] = (struct iovec){(uint8_t *)j->x->keep + j->at + data, len - data};
	j->at += len;
	if (j->at < j->len)
		list_push(&j->t->turns, &j->turn); /* T4: nobody was there */
	return tcp_job_send(j, 2);
}

/* The kernel gets as much as it takes at once, which is all for a peer that keeps up. */
static int write_lent(struct tcp_job *j)
{
	struct tcp_head head[TCP_TRAIN] = {0};
	struct iovec iov[2 * TCP_TRAIN];
	struct chan_xfer *x = j->x;
	uint64_t sent = 0;
	unsigned n, i;

	for (n = 0; n < TCP_TRAIN && j->at < j->len; n++) {
		uint64_t len = MIN(j->len - j->at, TCP_CHUNK_BYTES);

		head[n].type = TCP_WRITE;
		chunk_head(j, &head[n], len, x->off + j->at);
		iov[2 * n] = (struct iovec){&head[n], sizeof(head[n])};
		iov[2 * n + 1] = (struct iovec){(uint8_t *)x->iov->iov_base + j->at, len};
		j->at += len;
	}
	if (list_empty(&j->t->turns)) {     /* T4 */
		net_sock_flush(j->t->sock); /* what waits for the turn's end would be in the way */
		sent = net_sock_try(j->t->sock, iov, 2 * n);
	}
	j->at = 0;
	for (i = 0; i < n && sent >= sizeof(head[i]) + iov[2 * i + 1].iov_len; i++) {
		sent -= sizeof(head[i]) + iov[2 * i + 1].iov_len;
		j->at += iov[2 * i + 1].iov_len;
	}
	if (sent)
		return lent_rest(j, &head[i], sent);
	if (j->at == j->len)
		return 0;
	lent_keep(j, j->at);
	return chunk_next(j);
}

/* --- transfers of ours --- */

static int xfer_begin(struct tcp_job *j)
{
	struct tcp_head *h = &j->head;

	if (j->kind == JOB_WRITE)
		return j->x->keep ? write_lent(j) : chunk_next(j);
	tcp_head_fill(j->t, h, TCP_READ);
	h->len = le32_make((uint32_t)j->len);
	h->status = le32_make((uint32_t)(j->len >> 32));
	h->key = le64_make(j->key);
	h->off = le64_make(j->x->off);
	h->id = le32_make(j->id);
	return tcp_job_send(j, 1);
}

static uint32_t xfer_slot(const struct tcp *t)
{
	uint32_t i = t->xfer_number % t->c.xfers_max;

	while (t->xfers[i])
		i = (i + 1) % t->c.xfers_max;
	return i;
}

static int xfer_start(struct chan *c, struct chan_xfer *x, enum job_kind kind)
{
	struct tcp *t = container_of(c, struct tcp, c);
	struct tcp_job *j;
	uint32_t slot;
	int rc;

	loop_assert(c->loop);
	if (unlikely(t->state != TCP_UP || t->status))
		return t->state == TCP_CONNECTING ? -ENOTCONN : t->status;
	rc = fabric_xfer_check(x);
	if (unlikely(rc < 0))
		return rc;
	if (unlikely(t->xfers_count == c->xfers_max)) {
		t->want_ready = true;
		return -EAGAIN;
	}
	j = tcp_job_get(t, kind);
	if (!j)
		return -ENOMEM;
	slot = xfer_slot(t);
	t->xfer_number++;
	j->id = t->xfer_number << 16 | slot;
	j->x = x;
	j->key = x->desc.key;
	j->len = x->len;
	j->type = 0;
	rc = xfer_begin(j);
	if (rc < 0) {
		tcp_job_put(j);
		return rc;
	}
	t->xfers[slot] = j;
	t->xfers_count++;
	x->ahead = kind == JOB_WRITE && j->at == j->len;
	return 0;
}

int tcp_write(struct chan *c, struct chan_xfer *x)
{
	return xfer_start(c, x, JOB_WRITE);
}

int tcp_read(struct chan *c, struct chan_xfer *x)
{
	return xfer_start(c, x, JOB_READ);
}

void tcp_xfers_end(struct tcp *t, int status)
{
	struct tcp_job *j, *next;

	list_for_each_safe (j, next, &t->turns, turn)
		if (j->kind == JOB_SERVE && !j->sending)
			serve_end(j); /* which waited for its turn */
	for (uint32_t i = 0; t->xfers && i < t->c.xfers_max; i++) {
		if (t->xfers[i] && !t->xfers[i]->sending)
			xfer_end(t->xfers[i], status);
	}
}

/* T2, T3. */
static struct tcp_job *job_find(const struct tcp *t, const struct tcp_head *h, enum job_kind kind)
{
	uint32_t id = le32_get(h->id), slot = id & 0xffff;
	struct tcp_job *j = slot < t->c.xfers_max ? t->xfers[slot] : NULL;

	return j && j->id == id && j->kind == kind ? j : NULL;
}

static int answered(struct tcp *t, const struct tcp_head *h, enum job_kind kind)
{
	struct tcp_job *j = job_find(t, h, kind);
	bool bad = le32_get(h->status) != 0;

	if (!j || h->len || (kind == JOB_READ && !bad) || (kind == JOB_WRITE && j->at < j->len))
		return -EPROTO;
	if (j->sending && kind == JOB_WRITE) {
		j->type = TCP_WRITE_END;
		j->head.status = le32_make(bad ? EACCES : 0);
		return 0;
	}
	if (j->sending)
		return -EPROTO; /* it can't know the question yet */
	xfer_end(j, bad ? -EACCES : 0);
	return 0;
}

/* --- chunks in --- */

static int write_came(struct tcp *t, const struct tcp_head *h)
{
	uint32_t len = le32_get(h->len);
	struct tcp_window *win =
	        window_find(t, le64_get(h->key), FABRIC_PEER_WRITES, le64_get(h->off), len);

	if (len > TCP_CHUNK_BYTES)
		return -EPROTO;
	t->rx_head = *h;
	t->rx_left = len;
	t->rx_off = le64_get(h->off);
	t->rx = win ? TCP_RX_DEST : TCP_RX_DROP;
	t->rx_win = win;
	if (win) {
		win->users++;
		t->rx_iov = win->w->iov;
		t->rx_iov_count = win->w->iov_count;
	}
	return tcp_payload_next(t);
}

static int data_came(struct tcp *t, const struct tcp_head *h)
{
	struct tcp_job *j = job_find(t, h, JOB_READ);
	uint32_t len = le32_get(h->len);
	bool last = h->flags & TCP_LAST;

	if (!j || j->sending || len > TCP_CHUNK_BYTES || le64_get(h->off) != j->at ||
	    len > j->len - j->at || last != (j->at + len == j->len))
		return -EPROTO;
	if (!len && !last)
		return -EPROTO;
	t->rx_head = *h;
	t->rx_left = len;
	t->rx_off = j->at;
	t->rx = TCP_RX_DEST;
	t->rx_job = j;
	t->rx_iov = j->x->iov;
	t->rx_iov_count = j->x->iov_count;
	return tcp_payload_next(t);
}

static int read_came(struct tcp *t, const struct tcp_head *h)
{
	struct tcp_job *j;
	int rc;

	if (t->serving == t->c.xfers_max)
		return -EPROTO;
	j = tcp_job_get(t, JOB_SERVE);
	if (!j)
		return -ENOMEM;
	j->id = le32_get(h->id);
	j->key = le64_get(h->key);
	j->base = le64_get(h->off);
	j->len = le32_get(h->len) | (uint64_t)le32_get(h->status) << 32;
	t->serving++;
	rc = chunk_next(j);
	if (rc < 0)
		serve_end(j);
	return rc;
}

int tcp_xfer_frame(struct tcp *t, const struct tcp_head *h)
{
	switch (h->type) {
	case TCP_WRITE:
		return write_came(t, h);
	case TCP_WRITE_END:
		return answered(t, h, JOB_WRITE);
	case TCP_READ:
		return read_came(t, h);
	case TCP_READ_DATA:
		return data_came(t, h);
	case TCP_READ_END:
		return answered(t, h, JOB_READ);
	}
	return -EPROTO;
}

static int write_landed(struct tcp *t, bool good)
{
	struct tcp_head h = {.id = t->rx_head.id, .status = le32_make(good ? 0 : EACCES)};

	if (!(t->rx_head.flags & TCP_LAST))
		return 0;
	/* A peer that does not take our answers may not have more transfers. */
	if (t->answers == t->c.xfers_max)
		return -EPROTO;
	t->answers++;
	tcp_head_fill(t, &h, TCP_WRITE_END);
	return tcp_frame(t, &h);
}

static int payload_end(struct tcp *t)
{
	struct tcp_window *win = t->rx_win;
	struct tcp_job *j = t->rx_job;
	int rc = 0;

	t->rx = TCP_RX_HEAD;
	t->rx_win = NULL;
	t->rx_job = NULL;
	if (j) {
		j->at += le32_get(t->rx_head.len);
		if (t->rx_head.flags & TCP_LAST)
			xfer_end(j, 0);
		return 0;
	}
	/* One that was closed meanwhile has landed all the same: its closed() comes now. */
	rc = write_landed(t, win != NULL);
	if (win)
		window_unuse(t, win);
	return rc;
}

void tcp_rx_end(struct tcp *t)
{
	struct tcp_window *win = t->rx_win;

	t->rx = TCP_RX_HEAD;
	t->rx_win = NULL;
	t->rx_job = NULL;
	if (win)
		window_unuse(t, win);
}

int tcp_payload_next(struct tcp *t)
{
	struct iovec iov[NET_IOV_MAX];
	uint64_t len;
	unsigned n;

	if (!t->rx_left)
		return payload_end(t);
	if (t->rx == TCP_RX_DROP)
		return 0;
	len = slice(iov, NET_IOV_MAX, &n, t->rx_iov, t->rx_iov_count, t->rx_off, t->rx_left);
	t->rx_left -= len;
	t->rx_off += len;
	return net_sock_recv_into(t->sock, iov, n);
}
