/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pipe, messages: the rings, sleep and bells, and how a channel ends. See pipe_int.h, whose numbered
 * rules are cited here.
 *
 * A channel is polled (on pl->active) while there is traffic, and parked when there is none or the
 * loop goes to sleep: then the peer has to ring, and an idle channel costs nothing.
 */
#include <liburing.h>

#include "fabric/pipe_int.h"

#define PARK_AFTER 512 /* polls that found nothing */
#define DONE_MSGS  16  /* taken, that the peer hears of at once */

static const uint64_t bell_one = 1;

/* --- the two lists --- */

static void list_leave(struct pipe *p)
{
	if (p->pl->next == &p->link)
		p->pl->next = p->link.next;
	list_del(&p->link);
}

void pipe_enlist(struct pipe *p)
{
	p->parked = false;
	list_push(&p->pl->active, &p->link);
}

void pipe_delist(struct pipe *p)
{
	list_leave(p);
}

void pipe_activate(struct pipe *p)
{
	p->idle = 0;
	if (!p->parked)
		return;
	p->parked = false;
	list_leave(p);
	list_push(&p->pl->active, &p->link);
	if (p->out.box)
		atomic_store_explicit(&p->out.box->asleep, 0, memory_order_relaxed);
}

/* --- the bell --- */

static void bell_ring(struct pipe *p);

void pipe_bell_rung(struct loop_io *io, int res, uint32_t cqe_flags)
{
	struct pipe *p = container_of(io, struct pipe, ring_io);

	p->ringing = false;
	if (p->ring_again)
		bell_ring(p);
	if (p->state == PIPE_CLOSING)
		pipe_activate(p);
}

/*
 * By the ring, not by write(2): the peer shares the descriptor and could make it block. Then only
 * this request does.
 */
static void bell_ring(struct pipe *p)
{
	struct io_uring_sqe *sqe = NULL;

	p->ring_again = true;
	if (!p->ringing)
		sqe = loop_sqe(p->c.loop, &p->ring_io);
	if (!sqe) {
		pipe_activate(p); /* polled until it is rung */
		return;
	}
	io_uring_prep_write(sqe, p->out_bell, &bell_one, sizeof(bell_one), 0);
	p->ringing = true;
	p->ring_again = false;
	p->c.count.doorbells++;
	/* Who sleeps takes a while to wake, and this turn may take a while to end. */
	loop_submit(p->c.loop);
}

/* After a word was written to the peer's inbox: rule 3's second half on this side. */
static inline void bell_check(struct pipe *p, uint32_t wants)
{
	uint32_t asleep;

	/* Pairs with the fence in park(). */
	fence_full();
	asleep = atomic_load_explicit(&p->in.box->asleep, memory_order_relaxed);
	if (likely(!asleep) || (wants && !(asleep & wants)) || asleep == p->rung)
		return;
	p->rung = asleep;
	bell_ring(p);
}

/* --- sending --- */

/* Looks how far the peer is. False if it has told nonsense. */
static bool room_look(struct pipe *p)
{
	uint64_t done = atomic_load_explicit(&p->in.box->done, memory_order_acquire);
	uint32_t bytes = (uint32_t)p->tail - (uint32_t)done;
	uint32_t messages = p->sent - (uint32_t)(done >> 32);

	if (bytes > p->out.ring_bytes || messages > p->credits_max)
		return false;
	p->room = p->out.ring_bytes - bytes;
	p->credits = p->credits_max - messages;
	return true;
}

static int room_wait(struct pipe *p, uint32_t need)
{
	if (!room_look(p)) {
		pipe_broken(p, -EPROTO);
		return -EPROTO;
	}
	if (p->room >= need && p->credits)
		return 0;
	p->want_room = true;
	p->need = need;
	p->c.count.no_credit++;
	pipe_activate(p);
	return -EAGAIN;
}

/* Not just so: why, or that the peer has made room meanwhile. */
static __attribute__((noinline)) int send_check(struct pipe *p, uint64_t len)
{
	uint32_t need;

	if (p->state != PIPE_UP)
		return p->state == PIPE_CONNECTING ? -ENOTCONN : p->status;
	if (len > p->c.msg_max)
		return -EMSGSIZE;
	need = PIPE_HEAD + (uint32_t)ALIGN_UP(len, 8);
	return p->room < need || !p->credits ? room_wait(p, need) : 0;
}

static int pipe_send(struct chan *c, const struct iovec *iov, unsigned count)
{
	struct pipe *p = container_of(c, struct pipe, c);
	const struct iovec *end = iov + count, *i;
	uint64_t len = 0, need;
	uint8_t *at;

	loop_assert(c->loop);
	for (i = iov; i != end; i++)
		len += i->iov_len;
	need = PIPE_HEAD + ALIGN_UP(len, 8);
	if (unlikely(p->room < need || !p->credits || len > c->msg_max || p->state != PIPE_UP)) {
		int rc = send_check(p, len);

		if (rc < 0)
			return rc;
	}
	at = p->out.ring + (p->tail & (p->out.ring_bytes - 1));
	*(uint64_t *)(void *)at = len;
	at += PIPE_HEAD;
	for (i = iov; i != end; i++) {
		memcpy(at, i->iov_base, i->iov_len);
		at += i->iov_len;
	}
	p->tail += need;
	p->room -= (uint32_t)need;
	p->credits--;
	p->sent++;
	c->count.msgs_out++;
	c->count.bytes_out += len;
	/* Rule 1: the message lies there for who sees this. */
	atomic_store_explicit(&p->out.box->tail, p->tail, memory_order_release);
	bell_check(p, 0);
	if (unlikely(p->parked))
		pipe_activate(p); /* an answer will come */
	return 0;
}

/* --- receiving --- */

static void done_tell(struct pipe *p)
{
	uint64_t done = (uint64_t)p->got << 32 | (uint32_t)p->head;

	p->told = p->head;
	p->told_got = p->got;
	atomic_store_explicit(&p->out.box->done, done, memory_order_release);
	bell_check(p, PIPE_WANTS_ROOM);
}

int pipe_receive(struct pipe *p)
{
	const uint64_t tail = atomic_load_explicit(&p->in.box->tail, memory_order_acquire);
	struct chan *c = &p->c;
	int count = 0;

	if (likely(tail == p->head)) {
		if (unlikely(p->told != p->head))
			done_tell(p);
		return 0;
	}
	if (tail - p->head > p->in.ring_bytes || (tail & 7)) {
		pipe_broken(p, -EPROTO);
		return 1;
	}
	while (p->head != tail) {
		const uint8_t *at = p->in.ring + (p->head & (p->in.ring_bytes - 1));
		uint64_t len = *(const volatile uint64_t *)(const void *)at; /* rule 5: once */
		uint64_t need = PIPE_HEAD + ALIGN_UP(len, 8);

		if (unlikely(len > c->msg_max || need > tail - p->head)) {
			pipe_broken(p, -EPROTO);
			return count + 1;
		}
		memcpy(p->copy, at + PIPE_HEAD, len);
		p->head += need;
		p->got++;
		c->count.msgs_in++;
		c->count.bytes_in += len;
		count++;
		c->handlers->msg(c, p->copy, (uint32_t)len);
		/* The transfer that it asked for goes on before the next message's is copied. */
		if (unlikely(!list_empty(&p->finished)))
			count += pipe_xfers_finish(p);
		if (unlikely(p->state != PIPE_UP))
			return count;
	}
	/* Telling takes a fence, and whoever waits for an answer would wait for that, too: it is done
	 * when there is nothing else, or when the peer may soon need the room. */
	if (p->got - p->told_got >= DONE_MSGS || p->head - p->told >= p->in.ring_bytes / 4)
		done_tell(p);
	loop_heard(c->loop);
	return count;
}

static int ready_check(struct pipe *p)
{
	if (p->want_room && !room_look(p)) {
		pipe_broken(p, -EPROTO);
		return 1;
	}
	if (!(p->want_room && p->room >= p->need && p->credits) &&
	    !(p->want_place && p->place_came))
		return 0;
	p->want_room = p->want_place = p->place_came = false;
	p->c.handlers->ready(&p->c);
	return 1;
}

void pipe_place_came(struct pipe *p)
{
	p->place_came = true;
	if (unlikely(p->want_place))
		pipe_activate(p);
}

/* --- the end --- */

void pipe_broken(struct pipe *p, int status)
{
	if (p->status)
		return;
	p->status = status;
	pipe_activate(p);
}

/* What broke is told from a poll, after what had come before. */
static int down_check(struct pipe *p)
{
	if (p->state == PIPE_UP && !p->status && p->hung_up &&
	    atomic_load_explicit(&p->in.box->tail, memory_order_acquire) == p->head)
		p->status = p->bye ? -EPIPE : -ECONNRESET;
	if (!p->status || (p->state != PIPE_UP && p->state != PIPE_CONNECTING))
		return 0;
	loop_timer_disarm(p->c.loop, &p->timer);
	if (p->state == PIPE_CONNECTING) {
		p->state = PIPE_DOWN;
		if (p->listener || !p->c.handlers) { /* nobody has seen it */
			pipe_never_up(p);
			chan_close(&p->c);
		} else {
			p->c.handlers->up(&p->c, p->status);
		}
		return 1;
	}
	p->state = PIPE_DOWN;
	pipe_xfers_finish(p);
	if (p->state != PIPE_DOWN)
		return 1;
	pipe_sock_end(p);
	p->c.handlers->down(&p->c, p->status);
	return 1;
}

static void bell_gone(struct loop_fd *f)
{
	struct pipe *p = container_of(f, struct pipe, bell);

	p->bell_watched = false;
	pipe_activate(p);
}

static void pipe_close(struct chan *c)
{
	struct pipe *p = container_of(c, struct pipe, c);

	loop_assert(c->loop);
	pst_assert(p->state != PIPE_CLOSING);
	loop_timer_disarm(c->loop, &p->timer);
	chan_known(c);
	p->state = PIPE_CLOSING;
	p->want_room = p->want_place = false;
	pipe_sock_end(p);
	p->listener = NULL;
	pipe_activate(p);
}

/* Frees it when nothing refers to it any more. True if it did. */
static bool closing_check(struct pipe *p)
{
	if (p->bell_watched && !p->bell.closing)
		loop_fd_del(p->c.loop, &p->bell, bell_gone);
	pipe_windows_close_all(p);
	if (!list_empty(&p->finished) || !list_empty(&p->closing) || !p->sock_gone ||
	    p->bell_watched || p->ringing)
		return false;
	pipe_free(p);
	return true;
}

/* --- the loop's poller --- */

static int closing_poll(struct pipe *p)
{
	int count = pipe_xfers_finish(p);

	count += pipe_windows_check(p);
	return count + closing_check(p);
}

static bool park(struct pipe *p);

/* One channel's turn; it may be freed. */
static int pipe_poll(struct pipe *p)
{
	int count = 0;

	if (unlikely(p->ring_again && !p->ringing))
		bell_ring(p);
	if (unlikely(p->state == PIPE_CLOSING))
		return closing_poll(p);
	/* What was begun since the last turn has ended, and comes before what the peer says then. */
	if (!list_empty(&p->finished))
		count += pipe_xfers_finish(p);
	if (likely(p->state == PIPE_UP && !p->status))
		count += pipe_receive(p);
	if (unlikely(p->want_room || p->want_place) && p->state == PIPE_UP && !p->status)
		count += ready_check(p);
	if (unlikely(!list_empty(&p->closing)))
		count += pipe_windows_check(p);
	if (unlikely(p->status || p->hung_up))
		count += down_check(p);
	if (likely(count))
		p->idle = 0;
	else if (++p->idle > PARK_AFTER)
		park(p);
	return count;
}

int pipe_loop_poll(struct loop_poller *lp)
{
	struct pipe_loop *pl = container_of(lp, struct pipe_loop, poller);
	struct list *last = pl->active.prev, *n;
	int count = 0;
	bool end = list_empty(&pl->active);

	pl->users++; /* the last channel may go */
	/* Those that become active meanwhile come next time. */
	for (n = pl->active.next; !end; n = pl->next) {
		struct pipe *p = list_entry(n, struct pipe, link);

		pl->next = n->next;
		end = n == last || pl->next == &pl->active;
		count += pipe_poll(p);
	}
	pl->next = NULL;
	pipe_loop_put(pl);
	return count;
}

/* Something is due that no bell announces. */
static bool restless(const struct pipe *p)
{
	if (!list_empty(&p->finished) || !list_empty(&p->closing) || (p->ring_again && !p->ringing))
		return true;
	if (p->state == PIPE_UP && p->want_place && p->place_came)
		return true;
	return (p->state == PIPE_UP || p->state == PIPE_CONNECTING) && (p->status || p->hung_up);
}

bool pipe_loop_may_sleep(struct loop_poller *lp)
{
	struct pipe_loop *pl = container_of(lp, struct pipe_loop, poller);
	struct pipe *p;

	list_for_each (p, &pl->active, link) {
		if (restless(p))
			return false;
	}
	return true;
}

/* Rule 3. False if there is something to do after all. */
static bool park(struct pipe *p)
{
	if (p->state == PIPE_UP && !p->status) {
		if (p->told != p->head) /* 2. */
			done_tell(p);
		p->number += PIPE_ASLEEP_ONE;
		p->asleep = p->number | PIPE_ASLEEP | (p->want_room ? PIPE_WANTS_ROOM : 0);
		atomic_store_explicit(&p->out.box->asleep, p->asleep, memory_order_release);
		/* Pairs with the fence in the peer's bell_check(). */
		fence_full();
		if (atomic_load_explicit(&p->in.box->tail, memory_order_relaxed) != p->head ||
		    (p->want_room && room_look(p) && p->room >= p->need && p->credits)) {
			atomic_store_explicit(&p->out.box->asleep, 0, memory_order_relaxed);
			p->idle = 0;
			return false;
		}
		p->c.count.sleeps++;
	}
	if (restless(p))
		return false;
	p->parked = true;
	list_leave(p);
	list_push(&p->pl->parked, &p->link);
	return true;
}

bool pipe_loop_sleeps(struct loop_poller *lp)
{
	struct pipe_loop *pl = container_of(lp, struct pipe_loop, poller);

	while (!list_empty(&pl->active)) {
		if (!park(list_first(&pl->active, struct pipe, link)))
			return false;
	}
	return true;
}

void pipe_bell_ready(struct loop_fd *f, uint32_t revents)
{
	struct pipe *p = container_of(f, struct pipe, bell);

	loop_heard(p->c.loop);
	pipe_activate(p);
}

const struct chan_ops pipe_ops = {
        .send = pipe_send,
        .write = pipe_write,
        .read = pipe_read,
        .window_open = pipe_window_open,
        .window_close = pipe_window_close,
        .close = pipe_close,
        .flush = fabric_flush_none,
        .room = fabric_room_always,
};
