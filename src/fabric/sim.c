/* SPDX-License-Identifier: BSD-3-Clause */
/* sim, the ends of a link and their messages. See sim.h and sim_int.h. */
#include "fabric/sim_int.h"

/* --- an end's callbacks --- */

void listener_forget(struct sim_link *l)
{
	if (!l->listener)
		return;
	l->listener->conns--;
	l->listener = NULL;
	list_del(&l->listed);
}

void end_gone(struct sim_end *e)
{
	e->state = END_GONE;
	if (e == &e->link->end[1])
		listener_forget(e->link);
}

static void ready_fire(struct sim_link *l, struct sim_ev *ev)
{
	struct sim_end *e = container_of(ev, struct sim_end, ready_ev);

	if (e->state != END_UP)
		return;
	e->want_ready = false;
	e->c.handlers->ready(&e->c);
}

void wake(struct sim_end *e)
{
	if (e->want_ready && e->state == END_UP && list_empty(&e->ready_ev.link))
		ev_arm(e->link, &e->ready_ev, now_of(e->link));
}

/* -EAGAIN with a reason (ready() comes with what is waited for), or without one. */
bool refuse(struct sim_end *e, bool reason)
{
	struct sim_link *l = e->link;

	if (!reason && !rng_chance(&l->rng, l->k.again))
		return false;
	e->want_ready = true;
	e->c.count.no_credit++;
	if (!reason)
		ev_arm(l, &e->ready_ev, soon(l));
	return true;
}

static void end_down(struct sim_end *e, int status)
{
	list_del(&e->ready_ev.link);
	list_del(&e->fin_ev.link);
	list_del(&e->down_ev.link);
	list_del(&e->up_ev.link);
	e->status = status;
	if (e->state == END_NEW) {
		if (e->peer->state == END_NEW) {
			list_del(&e->link->arrive_ev.link);
			end_gone(e->peer); /* nobody has seen it */
		}
		e->state = END_DOWN;
		e->c.handlers->up(&e->c, status);
		return;
	}
	e->state = END_DOWN;
	xfers_end(e, status);
	if (e->state == END_DOWN)
		e->c.handlers->down(&e->c, status);
}

static void down_fire(struct sim_link *l, struct sim_ev *ev)
{
	struct sim_end *e = container_of(ev, struct sim_end, down_ev);

	end_down(e, e->status);
}

static void fin_fire(struct sim_link *l, struct sim_ev *ev)
{
	end_down(container_of(ev, struct sim_end, fin_ev), -EPIPE);
}

void down_at(struct sim_end *e, int status, uint64_t due_ns)
{
	if (e->state != END_UP && !(e->state == END_NEW && e == &e->link->end[0]))
		return;
	if (!list_empty(&e->down_ev.link) && e->down_ev.due_ns <= due_ns)
		return;
	e->status = status;
	ev_arm(e->link, &e->down_ev, due_ns);
}

static void up_fire(struct sim_link *l, struct sim_ev *ev)
{
	struct sim_end *e = container_of(ev, struct sim_end, up_ev);

	list_del(&e->down_ev.link);
	e->state = END_UP;
	e->c.handlers->up(&e->c, 0);
}

/* --- messages --- */

static void credit_fire(struct sim_link *l, struct sim_ev *ev)
{
	struct sim_msg *m = container_of(ev, struct sim_msg, ev);
	struct sim_end *sender = m->to->peer;

	mem_free(m);
	if (sender->state != END_UP)
		return;
	sender->credits++;
	wake(sender);
}

static void msg_fire(struct sim_link *l, struct sim_ev *ev)
{
	struct sim_msg *m = container_of(ev, struct sim_msg, ev);
	struct sim_end *e = m->to;

	if (e->state != END_UP) {
		mem_free(m);
		return;
	}
	e->c.count.msgs_in++;
	e->c.count.bytes_in += m->len;
	e->c.handlers->msg(&e->c, m->data, m->len);
	if (l->cut) {
		mem_free(m);
		return;
	}
	m->ev.fire = credit_fire;
	ev_arm(l, &m->ev, soon(l));
}

static int sim_send(struct chan *c, const struct iovec *iov, unsigned count)
{
	struct sim_end *e = container_of(c, struct sim_end, c);
	struct sim_link *l = e->link;
	uint64_t len = iov_sum(iov, count), due;
	struct sim_msg *m;

	loop_assert(c->loop);
	if (e->state != END_UP)
		return e->state == END_NEW ? -ENOTCONN : e->status;
	if (len > c->msg_max)
		return -EMSGSIZE;
	if (refuse(e, !e->credits))
		return -EAGAIN;
	m = mem_alloc(sizeof(*m) + len);
	if (!m)
		return -ENOMEM;
	ev_init(&m->ev, false, msg_fire);
	m->to = e->peer;
	m->len = (uint32_t)len;
	iov_gather(m->data, iov, count, 0, len);
	maybe_flip(l, &(struct iovec){m->data, len}, 1, 0, len);
	e->credits--;
	c->count.msgs_out++;
	c->count.bytes_out += len;
	due = soon(l);
	due = MAX(due, e->peer->lane_ns);
	if (l->k.traits & FABRIC_WRITE_THEN_MSG)
		due = MAX(due, e->peer->landed_ns);
	e->peer->lane_ns = due;
	if (l->cut)
		mem_free(m); /* lost; it will notice */
	else
		ev_arm(l, &m->ev, due);
	return 0;
}

/* --- the end --- */

static void closed_fire(struct sim_link *l, struct sim_ev *ev)
{
	struct sim_end *e = container_of(ev, struct sim_end, closed_ev);

	/* Messages behind them will be delivered: then so are they. */
	if (l->k.traits & FABRIC_WRITE_THEN_MSG && !l->cut)
		writes_land(e);
	xfers_end(e, -ECANCELED);
	windows_end(e);
	end_gone(e);
}

static void sim_close(struct chan *c)
{
	struct sim_end *e = container_of(c, struct sim_end, c), *peer = e->peer;
	struct sim_link *l = e->link;
	uint64_t due = soon(l);

	loop_assert(c->loop);
	pst_assert(e->state != END_CLOSING && e->state != END_GONE);
	list_del(&e->ready_ev.link);
	list_del(&e->fin_ev.link);
	list_del(&e->down_ev.link);
	list_del(&e->up_ev.link);
	if ((peer->state == END_UP || (peer->state == END_NEW && peer == &l->end[0])) && !l->cut)
		ev_arm(l, &peer->fin_ev, MAX(due, peer->lane_ns));
	if (peer->state == END_NEW && peer == &l->end[1]) {
		list_del(&l->arrive_ev.link);
		end_gone(peer); /* nobody has seen it */
	}
	e->state = END_CLOSING;
	e->status = -ECANCELED;
	ev_arm(l, &e->closed_ev, soon(l));
}

void link_free(struct sim_link *l)
{
	struct loop *loop = l->loop;
	struct list *n;

	pst_assert(!l->running && list_empty(&l->listed));
	/* Messages and credits are all that can be left: everything else was an end's. */
	while ((n = list_pop(&l->events))) {
		struct sim_ev *ev = list_entry(n, struct sim_ev, link);

		pst_assert(ev->fire == msg_fire || ev->fire == credit_fire);
		mem_free(container_of(ev, struct sim_msg, ev));
	}
	loop_timer_disarm(loop, &l->timer);
	mem_free(l);
	fabric_drop(loop);
}

void link_cut(struct sim_link *l, int status, uint64_t ns0, uint64_t ns1)
{
	struct sim_ev *ev, *tmp;

	if (l->cut)
		return;
	l->cut = true;
	list_for_each_safe (ev, tmp, &l->events, link) {
		if (ev->local || ev->fire == piece_fire)
			continue;
		list_del(&ev->link);
		if (ev->fire == msg_fire || ev->fire == credit_fire)
			mem_free(container_of(ev, struct sim_msg, ev));
	}
	down_at(&l->end[0], status, add_sat(now_of(l), ns0));
	down_at(&l->end[1], status, add_sat(now_of(l), ns1));
	if (l->end[1].state == END_NEW)
		end_gone(&l->end[1]);
}

void end_init(struct sim_link *l, struct sim_end *e, struct sim_end *peer)
{
	e->c.ops = &sim_ops;
	e->c.provider = &sim_provider;
	e->c.loop = l->loop;
	e->c.traits = l->k.traits | (l->k.open ? 0 : FABRIC_PRIVATE) | FABRIC_SAME_HOST;
	e->c.inline_max = l->k.inline_max;
	e->link = l;
	e->peer = peer;
	list_init(&e->windows);
	list_init(&e->xfers);
	ev_init(&e->up_ev, false, up_fire);
	ev_init(&e->ready_ev, true, ready_fire);
	ev_init(&e->fin_ev, false, fin_fire);
	ev_init(&e->down_ev, true, down_fire);
	ev_init(&e->closed_ev, true, closed_fire);
}

const struct chan_ops sim_ops = {
        .send = sim_send,
        .write = sim_write,
        .read = sim_read,
        .window_open = sim_window_open,
        .window_close = sim_window_close,
        .close = sim_close,
        .flush = fabric_flush_none,
        .room = fabric_room_always,
};
