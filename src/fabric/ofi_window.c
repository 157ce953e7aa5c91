/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ofi, windows: registering what the peer may reach, and taking it back; see rule O2 of ofi_int.h.
 *
 *   free -> open -> closing: in o->closes -> (CLOSE is posted) in o->told -> (CLOSED came) free
 *
 * A window has registrations of its own, with the rights it gives and no more, whatever its memory is
 * registered as already: a key that covered more could be used for more.
 */
#include "fabric/ofi_int.h"

static uint64_t access_of(const struct chan_window *w)
{
	return (w->rights & FABRIC_PEER_READS ? FI_REMOTE_READ : 0) |
	       (w->rights & FABRIC_PEER_WRITES ? FI_REMOTE_WRITE : 0);
}

static uint64_t base_of(const struct ofi *o, const void *at)
{
	return o->ep.virt_addr ? (uint64_t)(uintptr_t)at : 0;
}

static void window_unregister(struct ofi_window *win)
{
	for (uint32_t i = 0; win->piece_mr && i < OFI_PIECES_MAX; i++)
		ofi_mr_close(win->piece_mr[i]);
	ofi_mr_close(win->mr);
	mem_free(win->piece_mr);
	mem_free(win->table);
	win->piece_mr = NULL;
	win->mr = NULL;
	win->table = NULL;
}

static int table_fill(struct ofi *o, struct ofi_window *win, const struct chan_window *w)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < w->iov_count; i++) {
		const struct iovec *v = &w->iov[i];
		int rc;

		if (!v->iov_len)
			continue;
		if (n == OFI_PIECES_MAX)
			return -E2BIG;
		rc = ofi_mr_open(&win->piece_mr[n], &o->ep, v->iov_base, v->iov_len, access_of(w));
		if (rc < 0)
			return rc;
		win->table->at[n] =
		        (struct ofi_piece){.key = le64_make(fi_mr_key(win->piece_mr[n])),
		                           .addr = le64_make(base_of(o, v->iov_base)),
		                           .len = le64_make(v->iov_len)};
		n++;
	}
	return 0;
}

static int window_table(struct ofi *o, struct ofi_window *win, struct chan_window *w)
{
	int rc;

	win->table = mem_calloc(1, sizeof(*win->table));
	win->piece_mr = mem_calloc(OFI_PIECES_MAX, sizeof(struct fid_mr *));
	if (!win->table || !win->piece_mr)
		return -ENOMEM;
	rc = table_fill(o, win, w);
	if (rc == 0)
		rc = ofi_mr_open(&win->mr, &o->ep, win->table, sizeof(*win->table), FI_REMOTE_READ);
	if (rc < 0)
		return rc;
	win->id |= OFI_WINDOW_LIST;
	w->desc.addr = base_of(o, win->table);
	return 0;
}

/* The only entry that is not empty; NULL: there are several. */
static const struct iovec *only(const struct chan_window *w)
{
	const struct iovec *found = NULL;

	for (uint32_t i = 0; i < w->iov_count; i++) {
		if (!w->iov[i].iov_len)
			continue;
		if (found)
			return NULL;
		found = &w->iov[i];
	}
	return found;
}

static int window_register(struct ofi *o, struct ofi_window *win, struct chan_window *w)
{
	const struct iovec *v = only(w);
	int rc;

	if (!v)
		return window_table(o, win, w);
	rc = ofi_mr_open(&win->mr, &o->ep, v->iov_base, v->iov_len, access_of(w));
	if (rc == 0)
		w->desc.addr = base_of(o, v->iov_base);
	return rc;
}

static int windows_make(struct ofi *o)
{
	o->windows = mem_calloc(o->opts.windows_max, sizeof(*o->windows));
	if (!o->windows)
		return -ENOMEM;
	for (uint32_t i = 0; i < o->opts.windows_max; i++) {
		o->windows[i].next_free = i + 1;
		list_init(&o->windows[i].link);
	}
	o->windows_free = 0;
	return 0;
}

int ofi_window_open(struct chan *c, struct chan_window *w)
{
	struct ofi *o = container_of(c, struct ofi, c);
	uint64_t len = iov_sum(w->iov, w->iov_count);
	struct ofi_window *win;
	int rc;

	loop_assert(c->loop);
	if (unlikely(!ofi_live(o)))
		return o->state == OFI_CONNECTING ? -ENOTCONN : o->status;
	if (!len || len == UINT64_MAX ||
	    (w->region && !iov_inside(w->iov, w->iov_count, w->region)))
		return -EINVAL;
	if (o->windows_count == o->opts.windows_max) {
		o->want_ready = true;
		return -EAGAIN;
	}
	if (!o->windows && windows_make(o) < 0)
		return -ENOMEM;
	win = &o->windows[o->windows_free];
	w->desc = (struct fabric_desc){.len = len};
	win->id = (++o->window_number & 0x7fff) << 16 | o->windows_free;
	rc = window_register(o, win, w);
	if (rc < 0) {
		window_unregister(win);
		return rc;
	}
	w->desc.key = fi_mr_key(win->mr);
	w->desc.region = win->id;
	o->windows_free = win->next_free;
	o->windows_count++;
	win->w = w;
	win->closing = false;
	win->told_ns = 0;
	w->priv[0] = (uint64_t)(uintptr_t)win;
	return 0;
}

/* Nothing can land in it any more. */
static void window_gone(struct ofi *o, struct ofi_window *win)
{
	struct chan_window *w = win->w;

	window_unregister(win);
	list_del(&win->link);
	win->w = NULL;
	win->next_free = o->windows_free;
	o->windows_free = (uint32_t)(win - o->windows);
	o->windows_count--;
	o->place_came = true;
	w->closed(w);
}

void ofi_window_close(struct chan *c, struct chan_window *w)
{
	struct ofi *o = container_of(c, struct ofi, c);
	struct ofi_window *win = (struct ofi_window *)(uintptr_t)w->priv[0];

	loop_assert(c->loop);
	pst_assert(win->w == w && !win->closing);
	win->closing = true;
	if (!o->ep.ep)
		window_gone(o, win);
	else
		list_push(&o->closes, &win->link);
}

void ofi_windows_end(struct ofi *o, bool all)
{
	pst_assert(!o->ep.ep);
	for (uint32_t i = 0; o->windows_count && i < o->opts.windows_max; i++) {
		if (o->windows[i].w && (all || o->windows[i].closing))
			window_gone(o, &o->windows[i]);
	}
}

/* --- what the peer says of windows --- */

int ofi_closed_came(struct ofi *o, uint32_t id)
{
	uint32_t slot = id & 0xffff;
	struct ofi_window *win;

	if (!o->windows || slot >= o->opts.windows_max)
		return -EPROTO;
	win = &o->windows[slot];
	/* Not one that it was not asked about. */
	if (!win->w || win->id != id || !win->closing || list_empty(&win->link) || !win->told_ns)
		return -EPROTO;
	win->told_ns = 0;
	window_gone(o, win);
	return 0;
}

int ofi_answer(struct ofi *o, uint32_t id)
{
	if (o->answers_count == o->answers_max)
		return -EPROTO;
	o->answers[(o->answers_at + o->answers_count++) % o->answers_max] = id;
	return 0;
}

bool ofi_revoked(const struct ofi *o, uint32_t id)
{
	for (unsigned i = 0; i < OFI_REVOKED; i++)
		if (o->revoked[i] == id)
			return true;
	return false;
}

int ofi_close_came(struct ofi *o, uint32_t id)
{
	bool busy = false;
	struct ofi_job *j;

	o->revoked[o->revoked_at++ % OFI_REVOKED] = id;
	list_for_each (j, &o->jobs, link) {
		if (j->x->desc.region == id)
			busy = j->revoked = true;
	}
	return busy ? 0 : ofi_answer(o, id);
}
