/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hand - two ends of a channel with the test's hand between them: what is sent waits until the test
 * passes it on, as it was or changed. Transfers are done when hand_run() says so. No loop, no provider.
 */
#ifndef TESTS_UNIT_HAND_H
#define TESTS_UNIT_HAND_H

#include <stdlib.h>

#include "base/iov.h"
#include "fabric/fabric.h"

struct hand_msg {
	struct list link;
	uint32_t len;
	uint8_t data[16 * KIB] __attribute__((aligned(8)));
};

struct hand {
	struct chan c;
	struct hand *peer;
	struct list sent;    /* struct hand_msg, not passed on yet */
	struct list windows; /* struct chan_window */
	struct list xfers;   /* struct chan_xfer, not done yet */
	unsigned busy;       /* so many sends and transfers are answered -EAGAIN */
	bool closed;
	uint64_t keys;
};

static inline struct hand *hand_of(struct chan *c)
{
	return container_of(c, struct hand, c);
}

static inline bool hand_busy(struct hand *h)
{
	if (!h->busy)
		return false;
	h->busy--;
	return true;
}

static int hand_send(struct chan *c, const struct iovec *iov, unsigned count)
{
	struct hand *h = hand_of(c);
	struct hand_msg *m;

	pst_assert(iov_sum(iov, count) <= c->msg_max);
	if (hand_busy(h))
		return -EAGAIN;
	m = malloc(sizeof(*m));
	m->len = (uint32_t)iov_sum(iov, count);
	iov_gather(m->data, iov, count, 0, m->len);
	list_push(&h->sent, &m->link);
	return 0;
}

static int hand_xfer(struct chan *c, struct chan_xfer *x, bool write)
{
	if (hand_busy(hand_of(c)))
		return -EAGAIN;
	x->priv[0] = write;
	list_push(&hand_of(c)->xfers, &x->link);
	return 0;
}
static int hand_write(struct chan *c, struct chan_xfer *x)
{
	return hand_xfer(c, x, true);
}
static int hand_read(struct chan *c, struct chan_xfer *x)
{
	return hand_xfer(c, x, false);
}

static int hand_window_open(struct chan *c, struct chan_window *w)
{
	struct hand *h = hand_of(c);

	if (hand_busy(h))
		return -EAGAIN;
	w->desc = (struct fabric_desc){.key = ++h->keys, .len = iov_sum(w->iov, w->iov_count)};
	list_push(&h->windows, &w->link);
	return 0;
}

static void hand_window_close(struct chan *c, struct chan_window *w)
{
	list_del(&w->link);
	w->closed(w);
}

static void hand_close(struct chan *c)
{
	struct hand *h = hand_of(c);
	struct list *n;

	h->closed = true;
	while ((n = list_pop(&h->xfers))) {
		struct chan_xfer *x = list_entry(n, struct chan_xfer, link);

		x->done(x, -ECANCELED);
	}
	while (!list_empty(&h->windows))
		hand_window_close(c, list_first(&h->windows, struct chan_window, link));
}

static const struct chan_ops hand_ops = {
        .send = hand_send,
        .write = hand_write,
        .read = hand_read,
        .window_open = hand_window_open,
        .window_close = hand_window_close,
        .close = hand_close,
        .flush = fabric_flush_none,
        .room = fabric_room_always,
};

static inline void hand_init(struct hand *h, struct hand *peer, struct loop *loop)
{
	static const struct fabric_provider provider = {.name = "hand"};

	*h = (struct hand){.peer = peer};
	h->c.ops = &hand_ops;
	h->c.provider = &provider;
	h->c.loop = loop;
	h->c.msg_max = h->c.inline_max = 16 * KIB;
	h->c.xfers_max = 16;
	list_init(&h->sent);
	list_init(&h->windows);
	list_init(&h->xfers);
}

/* The next message of @h (there is one), out of the hand's list. free() it. */
static inline struct hand_msg *hand_take(struct hand *h)
{
	struct list *n = list_pop(&h->sent);

	pst_assert(n);
	return list_entry(n, struct hand_msg, link);
}

/* The other end gets it. */
static inline void hand_give(struct hand *h, const struct hand_msg *m)
{
	if (!h->peer->closed)
		h->peer->c.handlers->msg(&h->peer->c, m->data, m->len);
}

/* All transfers of @h are done; what is not there fails. */
static inline void hand_run(struct hand *h)
{
	struct list *n;

	while ((n = list_pop(&h->xfers))) {
		struct chan_xfer *x = list_entry(n, struct chan_xfer, link);
		struct chan_window *w;
		int status = -EACCES;

		list_for_each (w, &h->peer->windows, link) {
			if (w->desc.key != x->desc.key)
				continue;
			if (x->priv[0])
				iov_move(w->iov, w->iov_count, x->off, x->iov, x->iov_count, 0,
				         x->len);
			else
				iov_move(x->iov, x->iov_count, 0, w->iov, w->iov_count, x->off,
				         x->len);
			status = 0;
			break;
		}
		x->done(x, status);
	}
}

static inline void hand_done(struct hand *h)
{
	while (!list_empty(&h->sent))
		free(hand_take(h));
}

#endif
