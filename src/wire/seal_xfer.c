/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seal_xfer - payloads of the sealed channel.
 *
 * The client's windows lie in memory of the channel's own, so that what the peer (or who stands between)
 * can touch is never what an op reads or brings: a window to be read shows what was sealed when it was
 * opened; of one to be written what came is opened into the op's memory after the window below is closed,
 * in pieces that are copied to where nobody else can change them first, and wiped again if its tag does
 * not fit.
 *
 * The server shows no memory. What it writes is sealed where it lies (chan_xfer.scratch), what it reads
 * opened where it was put.
 *
 * The tag and the number of each payload travel in a message (struct chan_mark), so that it is known
 * which bytes belong to which op.
 */
#include "base/iov.h"
#include "wire/codec.h"
#include "wire/seal_int.h"

#define AAD_LEN 24u

static void aad_put(uint8_t aad[AAD_LEN], uint64_t number, uint64_t len)
{
	struct wire_out out = {.at = aad, .end = aad + AAD_LEN};

	wire_put_8(&out, WIRE_SEAL_PAYLOAD);
	wire_put_bytes(&out, (uint8_t[7]){0}, 7);
	wire_put_64(&out, number);
	wire_put_64(&out, len);
}

/* Seals @len bytes of @iov to @to, or in place; their mark. */
static int payload_seal(struct seal_chan *s, struct chan_mark *ret_m, const struct iovec *iov,
                        unsigned count, uint64_t len, uint8_t *to)
{
	uint8_t aad[AAD_LEN];
	struct chan_mark m;
	int rc = seal_way_next(&s->tx, &m.number);

	if (rc == 0) {
		aad_put(aad, m.number, len);
		rc = seal_encrypt(&s->tx, m.number, aad, sizeof(aad), iov, count, to, m.tag);
	}
	if (rc == 0)
		*ret_m = m;
	else
		seal_broke(s, rc);
	return rc;
}

/* --- windows --- */

static void wipe(const struct iovec *iov, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (iov[i].iov_len)
			memset(iov[i].iov_base, 0, iov[i].iov_len);
}

/* What lies in @from, @len bytes of it, into the window's memory. */
static int window_take(struct seal_chan *s, const struct chan_window *w, const uint8_t *from,
                       uint64_t len)
{
	const struct chan_mark *m = &w->mark[1];
	EVP_CIPHER_CTX *ctx;
	uint8_t aad[AAD_LEN];
	int rc;

	if (len > iov_sum(w->iov, w->iov_count))
		return -EBADMSG;
	aad_put(aad, m->number, len);
	rc = seal_open_begin(&s->rx, m->number, aad, sizeof(aad), &ctx);
	for (uint64_t at = 0; rc == 0 && at < len;) {
		uint64_t n = MIN(len - at, SEAL_PIECE);
		struct iovec part[8];
		const uint8_t *piece = s->piece;
		uint32_t parts = iov_slice(w->iov, w->iov_count, at, n, part, 8, &n);

		memcpy(s->piece, from + at, n);
		for (uint32_t i = 0; rc == 0 && i < parts; i++) {
			rc = seal_open_piece(ctx, part[i].iov_base, piece, part[i].iov_len);
			piece += part[i].iov_len;
		}
		at += n;
	}
	if (rc == 0)
		rc = seal_open_end(ctx, m->tag);
	if (rc < 0)
		wipe(w->iov, w->iov_count);
	return rc;
}

static void window_free(struct seal_window *sw)
{
	struct seal_chan *s = sw->s;

	wire_bufs_put(s->bufs, sw->buf);
	list_push(&s->windows, &sw->link);
	seal_wake(s);
}

static void closed(struct chan_window *in)
{
	struct seal_window *sw = container_of(in, struct seal_window, in);
	struct chan_window *out = sw->out;
	struct seal_chan *s = sw->s;

	if (out->rights & FABRIC_PEER_WRITES && out->mark_len)
		out->status = window_take(s, out, sw->buf, out->mark_len);
	window_free(sw);
	out->closed(out);
	seal_put(s);
}

/* Each part for itself: they are read by themselves. */
static int parts_seal(struct seal_chan *s, struct chan_window *w, uint64_t len, uint8_t *to)
{
	uint64_t at[3] = {0, w->cut, len};
	int rc = 0;

	for (unsigned k = 0; rc == 0 && k < 2; k++) {
		struct iovec part[64];
		uint64_t n = at[k + 1] - at[k], got = 0;
		uint32_t parts;

		w->mark[k] = (struct chan_mark){0};
		if (!n)
			continue;
		parts = iov_slice(w->iov, w->iov_count, at[k], n, part, ARRAY_LEN(part), &got);
		if (got == n) {
			rc = payload_seal(s, &w->mark[k], part, parts, n, to + at[k]);
			continue;
		}
		/* Of more pieces than that: together first. */
		iov_gather(to + at[k], w->iov, w->iov_count, at[k], n);
		part[0] = (struct iovec){to + at[k], n};
		rc = payload_seal(s, &w->mark[k], part, 1, n, NULL);
	}
	return rc;
}

static int window_fill(struct seal_window *sw, struct chan_window *w, uint64_t len)
{
	struct seal_chan *s = sw->s;
	int rc = 0;

	sw->out = w;
	sw->iov = (struct iovec){sw->buf, len};
	sw->in = (struct chan_window){.iov = &sw->iov,
	                              .iov_count = 1,
	                              .rights = w->rights,
	                              .region = s->bufs->region,
	                              .closed = closed};
	w->status = 0;
	w->mark_len = 0;
	if (w->rights & FABRIC_PEER_READS)
		rc = parts_seal(s, w, len, sw->buf);
	if (rc == 0)
		rc = chan_window_open(s->inner, &sw->in);
	return rc;
}

int seal_window_open(struct chan *c, struct chan_window *w)
{
	struct seal_chan *s = seal_of(c);
	uint64_t len = iov_sum(w->iov, w->iov_count);
	struct seal_window *sw;
	struct list *n;
	void *buf;
	int rc;

	if (s->state != SEAL_UP)
		return s->state == SEAL_DOWN ? s->error : -ENOTCONN;
	if (!s->client || w->rights == (FABRIC_PEER_READS | FABRIC_PEER_WRITES))
		return -ENOTSUP;
	if (!len || w->cut > len)
		return -EINVAL;
	if (len > wire_bufs_max(s->bufs))
		return -E2BIG;
	buf = wire_bufs_get(s->bufs, len);
	n = buf ? list_pop(&s->windows) : NULL;
	if (!n) {
		if (buf)
			wire_bufs_put(s->bufs, buf);
		s->want_ready = true;
		return -EAGAIN;
	}
	sw = list_entry(n, struct seal_window, link);
	sw->buf = buf;
	rc = window_fill(sw, w, len);
	if (rc < 0) {
		s->want_ready |= rc == -EAGAIN;
		wire_bufs_put(s->bufs, buf);
		list_push(&s->windows, &sw->link);
		return rc == -ENOTSUP ? -EIO : rc; /* copying through another buffer is no help */
	}
	s->refs++;
	w->desc = sw->in.desc;
	w->priv[0] = (uintptr_t)sw;
	return 0;
}

void seal_window_close(struct chan *c, struct chan_window *w)
{
	struct seal_window *sw = (struct seal_window *)(uintptr_t)w->priv[0];

	chan_window_close(seal_of(c)->inner, &sw->in);
}

/* --- transfers --- */

/* What was read, where it was put. */
static int read_take(struct seal_chan *s, const struct chan_xfer *x)
{
	EVP_CIPHER_CTX *ctx;
	uint8_t aad[AAD_LEN];
	int rc;

	aad_put(aad, x->mark.number, x->len);
	rc = seal_open_begin(&s->rx, x->mark.number, aad, sizeof(aad), &ctx);
	for (uint32_t i = 0; rc == 0 && i < x->iov_count; i++)
		rc = seal_open_piece(ctx, x->iov[i].iov_base, x->iov[i].iov_base,
		                     x->iov[i].iov_len);
	if (rc == 0)
		rc = seal_open_end(ctx, x->mark.tag);
	if (rc < 0)
		wipe(x->iov, x->iov_count);
	return rc;
}

static void xfer_end(struct seal_xfer *sx, int status)
{
	struct chan_xfer *out = sx->out;
	struct seal_chan *s = sx->s;

	list_push(&s->xfers, &sx->link);
	seal_wake(s);
	out->done(out, status);
	seal_put(s);
}

static void done(struct chan_xfer *in, int status)
{
	struct seal_xfer *sx = container_of(in, struct seal_xfer, in);

	if (status == 0 && !sx->write)
		status = read_take(sx->s, sx->out);
	xfer_end(sx, status);
}

static int xfer_get(struct seal_xfer **ret_sx, struct seal_chan *s, struct chan_xfer *x)
{
	struct seal_xfer *sx;
	struct list *n;

	if (s->state != SEAL_UP)
		return s->state == SEAL_DOWN ? s->error : -ENOTCONN;
	if (s->client)
		return -ENOTSUP;
	if (x->off > x->desc.len || x->len > x->desc.len - x->off)
		return -ERANGE;
	if (iov_sum(x->iov, x->iov_count) != x->len)
		return -EINVAL;
	n = list_empty(&s->queued) ? list_pop(&s->xfers) : NULL;
	if (!n) {
		s->want_ready = true;
		return -EAGAIN;
	}
	sx = list_entry(n, struct seal_xfer, link);
	sx->out = x;
	sx->in = (struct chan_xfer){.done = done,
	                            .iov = x->iov,
	                            .iov_count = x->iov_count,
	                            .region = x->region,
	                            .desc = x->desc,
	                            .off = x->off,
	                            .len = x->len};
	*ret_sx = sx;
	return 0;
}

int seal_read(struct chan *c, struct chan_xfer *x)
{
	struct seal_chan *s = seal_of(c);
	struct seal_xfer *sx = NULL;
	int rc = xfer_get(&sx, s, x);

	if (!sx)
		return rc;
	sx->write = false;
	rc = chan_read(s->inner, &sx->in);
	s->refs += rc == 0;
	if (rc < 0) {
		s->want_ready |= rc == -EAGAIN;
		list_push(&s->xfers, &sx->link);
	}
	return rc;
}

/*
 * Once it is sealed it can't be refused any more: the caller would seal it again. So what finds no place
 * below waits here, and with it all that is sent after it.
 */
int seal_write(struct chan *c, struct chan_xfer *x)
{
	struct seal_chan *s = seal_of(c);
	struct seal_xfer *sx = NULL;
	int rc = x->scratch ? xfer_get(&sx, s, x) : -ENOTSUP;

	if (!sx)
		return rc;
	sx->write = true;
	rc = payload_seal(s, &x->mark, x->iov, x->iov_count, x->len, NULL);
	if (rc == 0)
		rc = chan_write(s->inner, &sx->in);
	if (rc == -EAGAIN) {
		list_push(&s->queued, &sx->link);
		rc = 0;
	} else if (rc < 0) {
		list_push(&s->xfers, &sx->link);
	}
	s->refs += rc == 0;
	return rc;
}

bool seal_queued_go(struct seal_chan *s)
{
	while (!list_empty(&s->queued)) {
		struct seal_xfer *sx = list_first(&s->queued, struct seal_xfer, link);
		int rc = chan_write(s->inner, &sx->in);

		if (rc == -EAGAIN)
			return false;
		list_del(&sx->link);
		if (rc < 0)
			xfer_end(sx, rc);
	}
	return true;
}

void seal_queued_end(struct seal_chan *s, int status)
{
	struct list *n;

	while ((n = list_pop(&s->queued)))
		xfer_end(list_entry(n, struct seal_xfer, link), status);
}
