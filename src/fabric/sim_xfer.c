/* SPDX-License-Identifier: BSD-3-Clause */
/* sim, windows and one-sided transfers. See sim.h and sim_int.h. */
#include "fabric/sim_int.h"

/* --- regions: only their number counts --- */

static void region_note(const struct mem_region **seen, unsigned *n, const struct mem_region *r)
{
	for (unsigned i = 0; i < *n; i++) {
		if (seen[i] == r)
			return;
	}
	if (*n < 64)
		seen[(*n)++] = r;
}

/* True if @r could be used beside what is in use. */
static bool region_fits(struct sim_end *e, const struct mem_region *r)
{
	const struct mem_region *seen[64];
	const struct sim_window *sw;
	const struct chan_xfer *x;
	unsigned n = 0;

	if (!e->link->k.regions_max || e->link->k.regions_max >= ARRAY_LEN(seen))
		return true;
	region_note(seen, &n, r);
	list_for_each (sw, &e->windows, link)
		region_note(seen, &n, sw->w->region);
	list_for_each (x, &e->xfers, link)
		region_note(seen, &n, x->region);
	return n <= e->link->k.regions_max;
}

/* --- windows --- */

static void window_gone(struct sim_window *sw)
{
	struct chan_window *w = sw->w;
	struct sim_end *e = sw->end;

	list_del(&sw->link);
	list_del(&sw->closed_ev.link);
	mem_free(sw);
	e->windows_count--;
	wake(e);
	w->closed(w);
}

static void window_closed_fire(struct sim_link *l, struct sim_ev *ev)
{
	window_gone(container_of(ev, struct sim_window, closed_ev));
}

int sim_window_open(struct chan *c, struct chan_window *w)
{
	struct sim_end *e = container_of(c, struct sim_end, c);
	struct sim_window *sw;
	uint64_t len = iov_sum(w->iov, w->iov_count);

	loop_assert(c->loop);
	if (e->state != END_UP)
		return e->state == END_NEW ? -ENOTCONN : e->status;
	if (!w->region && !(e->link->k.traits & FABRIC_ANY_MEMORY))
		return -ENOTSUP;
	if (!len || len == UINT64_MAX ||
	    (w->region && !iov_inside(w->iov, w->iov_count, w->region)))
		return -EINVAL;
	if (e->windows_count == e->windows_max) {
		e->want_ready = true;
		return -EAGAIN;
	}
	if (!region_fits(e, w->region))
		return -ENOSPC;
	sw = mem_calloc(1, sizeof(*sw) + w->iov_count * sizeof(sw->iov[0]));
	if (!sw)
		return -ENOMEM;
	sw->iov_count = w->iov_count;
	memcpy(sw->iov, w->iov, w->iov_count * sizeof(sw->iov[0]));
	sw->end = e;
	sw->w = w;
	ev_init(&sw->closed_ev, true, window_closed_fire);
	list_push(&e->windows, &sw->link);
	e->windows_count++;
	w->desc = (struct fabric_desc){.key = rng_next(&e->link->rng), .len = len};
	w->priv[0] = (uintptr_t)sw;
	return 0;
}

void sim_window_close(struct chan *c, struct chan_window *w)
{
	struct sim_window *sw = (struct sim_window *)(uintptr_t)w->priv[0];
	struct sim_link *l = sw->end->link;

	loop_assert(c->loop);
	pst_assert(!sw->closing && sw->w == w);
	sw->closing = true;
	if (rng_chance(&l->rng, l->k.late_close))
		ev_arm(l, &sw->closed_ev, soon(l));
	else
		window_gone(sw);
}

void windows_end(struct sim_end *e)
{
	while (!list_empty(&e->windows))
		window_gone(list_first(&e->windows, struct sim_window, link));
}

/* --- transfers --- */

static void xfer_end(struct sim_xfer *sx, int status)
{
	struct sim_end *e = sx->from;
	struct chan_xfer *x = sx->x;

	for (unsigned i = 0; i < sx->pieces; i++)
		list_del(&sx->piece[i].ev.link);
	list_del(&sx->done_ev.link);
	list_del(&x->link);
	mem_free(sx);
	e->xfers_count--;
	wake(e);
	x->done(x, status);
}

void xfers_end(struct sim_end *e, int status)
{
	while (!list_empty(&e->xfers)) {
		struct chan_xfer *x = list_first(&e->xfers, struct chan_xfer, link);

		xfer_end((struct sim_xfer *)(uintptr_t)x->priv[0], status);
	}
}

static struct sim_window *window_for(struct sim_end *e, const struct chan_xfer *x, uint32_t right)
{
	struct sim_window *sw;

	list_for_each (sw, &e->windows, link) {
		uint64_t len = sw->w->desc.len;

		if (sw->w->desc.key == x->desc.key && (sw->w->rights & right) && x->off <= len &&
		    x->len <= len - x->off)
			return sw;
	}
	return NULL;
}

static void piece_land(struct sim_link *l, struct sim_xfer *sx, struct sim_piece *p)
{
	const struct chan_xfer *x = sx->x;
	const struct sim_window *sw = window_for(
	        sx->from->peer, x, sx->is_write ? FABRIC_PEER_WRITES : FABRIC_PEER_READS);

	if (!sw) {
		sx->status = -EACCES;
		if (l->k.bad_desc_cuts)
			link_cut(l, -EPROTO, delay(l), delay(l));
	} else if (sx->is_write) {
		iov_move(sw->iov, sw->iov_count, x->off + p->off, x->iov, x->iov_count, p->off,
		         p->len);
		maybe_flip(l, sw->iov, sw->iov_count, x->off + p->off, p->len);
	} else {
		iov_move(x->iov, x->iov_count, p->off, sw->iov, sw->iov_count, x->off + p->off,
		         p->len);
		maybe_flip(l, x->iov, x->iov_count, p->off, p->len);
	}
}

void writes_land(struct sim_end *e)
{
	struct sim_link *l = e->link;
	struct chan_xfer *x;

	if (e->peer->state == END_CLOSING || e->peer->state == END_GONE)
		return;
	list_for_each (x, &e->xfers, link) {
		struct sim_xfer *sx = (struct sim_xfer *)(uintptr_t)x->priv[0];

		for (unsigned i = 0; sx->is_write && i < sx->pieces; i++)
			if (!list_empty(&sx->piece[i].ev.link)) {
				list_del(&sx->piece[i].ev.link);
				piece_land(l, sx, &sx->piece[i]);
			}
	}
}

void piece_fire(struct sim_link *l, struct sim_ev *ev)
{
	struct sim_piece *p = container_of(ev, struct sim_piece, ev);
	struct sim_xfer *sx = p->xfer;
	enum end_state there = sx->from->peer->state;

	if (l->cut && rng_chance(&l->rng, 0.5))
		return; /* lost; the transfer ends with the channel */
	if (there == END_CLOSING || there == END_GONE)
		return;
	piece_land(l, sx, p);
	if (!--sx->left && !l->cut)
		ev_arm(l, &sx->done_ev, soon(l));
}

static void xfer_done_fire(struct sim_link *l, struct sim_ev *ev)
{
	struct sim_xfer *sx = container_of(ev, struct sim_xfer, done_ev);

	xfer_end(sx, sx->status);
}

/* Cuts the transfer anywhere, and sends the pieces off. */
static void pieces_send(struct sim_link *l, struct sim_xfer *sx)
{
	uint64_t off = 0;

	for (unsigned i = 0; i < sx->pieces; i++) {
		struct sim_piece *p = &sx->piece[i];
		uint64_t due = add_sat(now_of(l), between(l, 0, l->k.xfer_max_ns));

		ev_init(&p->ev, false, piece_fire);
		p->xfer = sx;
		p->off = off;
		p->len = i + 1 == sx->pieces ? sx->x->len - off
		                             : rng_below(&l->rng, sx->x->len - off + 1);
		off += p->len;
		ev_arm(l, &p->ev, due);
		if (sx->is_write)
			sx->from->peer->landed_ns = MAX(sx->from->peer->landed_ns, due);
	}
}

static int xfer_start(struct chan *c, struct chan_xfer *x, bool is_write)
{
	struct sim_end *e = container_of(c, struct sim_end, c);
	struct sim_link *l = e->link;
	unsigned pieces;
	struct sim_xfer *sx;
	int rc;

	loop_assert(c->loop);
	if (e->state != END_UP)
		return e->state == END_NEW ? -ENOTCONN : e->status;
	if (!x->region && !(l->k.traits & FABRIC_ANY_MEMORY))
		return -ENOTSUP;
	rc = fabric_xfer_check(x);
	if (rc < 0)
		return rc;
	if (refuse(e, e->xfers_count == c->xfers_max))
		return -EAGAIN;
	if (!region_fits(e, x->region))
		return -ENOSPC;
	pieces = (unsigned)between(l, 1, MIN(l->k.pieces_max, SIM_PIECES_MAX));
	sx = mem_calloc(1, sizeof(*sx) + pieces * sizeof(sx->piece[0]));
	if (!sx)
		return -ENOMEM;
	sx->from = e;
	sx->x = x;
	sx->is_write = is_write;
	sx->pieces = sx->left = pieces;
	ev_init(&sx->done_ev, false, xfer_done_fire);
	x->priv[0] = (uintptr_t)sx;
	list_push(&e->xfers, &x->link);
	e->xfers_count++;
	pieces_send(l, sx);
	return 0;
}

int sim_write(struct chan *c, struct chan_xfer *x)
{
	return xfer_start(c, x, true);
}

int sim_read(struct chan *c, struct chan_xfer *x)
{
	return xfer_start(c, x, false);
}
