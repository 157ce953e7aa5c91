/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * serve - a request from its message to the store. listener_int.h has the way and the rules.
 */
#include "wire/listener_int.h"

#define SHORT_MAX (16u * 1024) /* bytes of a read that takes the short way */

static void admit(struct sreq *r);
static void go_on(struct sreq *r);
static void go_on_short(struct sreq *r);
static void admit_no(struct sreq *r, int why);
static void go(struct session_req *s, int status);
static void stop(struct session_req *s);

/* Of a connection that was closed, or soon will be: nothing of it is executed any more. */
static bool dropped(struct sreq *r)
{
	if (likely(r->conn->state == CONN_UP))
		return false;
	r->s.op.status = -ECONNABORTED;
	sreq_free(r);
	return true;
}

/* --- from the message --- */

static void end_with(struct sreq *r, int status)
{
	r->s.op.status = status;
	answer_op(r);
}

/* Not known to the compiler, which would make a string instruction of it that costs several times the
 * libc's loop. */
static const volatile size_t op_clear_bytes = offsetof(struct pst_op, link);

static void op_fill(struct sreq *r, const struct wire_req *m, const struct wire_op *w)
{
	struct pst_op *op = &r->s.op;
	uint64_t session = session_number(r->conn->sc.session);

	memset(op, 0, op_clear_bytes);
	op->opcode = m->opcode;
	op->flags = m->flags;
	op->tenant = m->tenant;
	op->cont = m->cont;
	op->view = m->view;
	op->off = m->off;
	op->want_values = m->what & WIRE_VALUES;
	if (w->is & WIRE_OP_OBJECT)
		op->oid = (struct pst_oid){.hi = m->oid_hi, .lo = m->oid_lo};
	else
		op->ino = m->oid_lo;
	if (w->is & (WIRE_OP_DATA_IN | WIRE_OP_DATA_OUT))
		op->len = m->len;
	if (m->what & WIRE_TOKEN)
		op->token = (struct pst_token){.session = session, .slot = m->slot, .seq = m->seq};
	if (m->wait_us)
		op->deadline_ns = loop_now(r->conn->l->loop) + m->wait_us * NSEC_PER_USEC;
}

void sreq_init(struct sreq *r, struct conn *c)
{
	r->conn = c;
	list_init(&r->wait);
	r->s.go = go;
	r->s.stop = stop;
}

static struct sreq *sreq_get(struct conn *c, const struct wire_req *m)
{
	struct sreq *r = conn_req_get(c);

	if (unlikely(!r))
		return NULL;
	pst_assert_slow(!r->buf && !r->cold);
	r->id = m->id;
	r->what = m->what;
	r->len = m->len;
	r->admitted = r->cancelled = r->more = r->pushing = r->answered = false;
	r->state = SREQ_ADMIT;
	r->mark.born = r->mark.admitted = r->mark.run = loop_now(c->l->loop);
	return r;
}

static bool cold_get(struct sreq *r)
{
	struct list *n = list_pop(&r->conn->l->colds);

	if (!n)
		return false;
	r->cold = list_entry(n, struct cold, link);
	r->cold->owner = r;
	r->cold->bad_count = 0;
	return true;
}

/* How many bytes a page of its list has. */
static uint32_t list_bytes(const struct sreq *r)
{
	return MIN(r->len, 128u * 1024);
}

/* How many bytes of payload memory it needs. */
static uint32_t mem_needed(const struct sreq *r, const struct wire_op *w)
{
	const uint32_t payload = WIRE_OP_DATA_IN | WIRE_OP_DATA_OUT | WIRE_OP_VAL_IN |
	                         WIRE_OP_VAL_OUT | WIRE_OP_BATCH;

	if (w->is & WIRE_OP_LIST)
		return list_bytes(r);
	return w->is & payload ? r->len : 0;
}

/* What the header says against what the op is: 0, or what to answer. */
static int check(const struct wire_req *m, const struct wire_op *w, const struct wire_listener *l)
{
	if (m->what & WIRE_TOKEN && !(w->is & WIRE_OP_TOKEN))
		return -EPROTO;
	if (m->what & WIRE_PULL && !(w->is & (WIRE_OP_TOKEN | WIRE_OP_DATA_IN | WIRE_OP_VAL_IN)))
		return -EPROTO;
	if (m->body_len > WIRE_BODY_MAX || (m->body_len && !w->takes))
		return -EPROTO;
	if (m->len > (w->is & WIRE_OP_BATCH ? WIRE_PAYLOAD_MAX : PST_IO_MAX) ||
	    m->len > wire_bufs_max(&l->bufs))
		return -E2BIG;
	return 0;
}

static int body_decode(struct sreq *r)
{
	struct wire_in in = {.at = r->cold->body,
	                     .end = r->cold->body + r->body_len,
	                     .version = r->conn->version};
	struct pst_op *op = &r->s.op;
	const struct wire_op *w = wire_op_of(op->opcode);
	int rc = wire_body_get(&in, op, &r->cold->scratch, w->is & WIRE_OP_BATCH ? r->len : 0);

	if (rc < 0)
		return rc;
	if (w->is & WIRE_OP_LIST)
		op->entry = answer_entry;
	if (op->scrub) {
		op->scrub->bad = answer_bad_block;
		listener_tick_arm(r->conn->l);
	}
	return 0;
}

/* Takes what came with the message: body and payload. @at: behind header and descriptor. */
static int inline_take(struct sreq *r, const struct wire_op *w, const uint8_t *at, uint32_t left)
{
	struct wire_listener *l = r->conn->l;
	bool carries = w->is & (WIRE_OP_DATA_IN | WIRE_OP_VAL_IN | WIRE_OP_BATCH);
	uint32_t payload = carries ? r->len : 0;

	if ((uint64_t)r->body_len + payload != left)
		return -EPROTO;
	if (r->body_len)
		memcpy(r->cold->body, at, r->body_len);
	if (!payload)
		return 0;
	r->buf = wire_bufs_get(&l->bufs, payload);
	if (unlikely(!r->buf)) {
		r->conn->again_ns = loop_now(l->loop);
		return -EAGAIN;
	}
	r->conn->again_ns = 0;
	memcpy(r->buf, at + r->body_len, payload);
	l->fig.bytes_in += payload;
	return 0;
}

/* A pull failed: the window is none, or the channel is going down anyway. */
static void pull_failed(struct sreq *r, int status)
{
	if (status == -EACCES || status == -ERANGE)
		conn_bad(r->conn, "a request's window can't be read");
	else if (status == -EBADMSG)
		conn_bad(r->conn, "a request's payload was changed on its way");
	else
		conn_doom(r->conn, status);
}

/* Reads @len bytes at @off of the request's window into @to. */
static void pull(struct sreq *r, void *to, uint64_t off, uint64_t len,
                 void (*done)(struct chan_xfer *x, int status))
{
	int rc;

	r->xiov = (struct iovec){.iov_base = to, .iov_len = len};
	r->x = (struct chan_xfer){.done = done,
	                          .iov = &r->xiov,
	                          .iov_count = 1,
	                          .region = r->conn->l->bufs.region,
	                          .desc = r->desc,
	                          .off = off,
	                          .len = len,
	                          .mark = r->mark_of[r->state == SREQ_PULL]};
	r->mark.run = loop_now(r->conn->l->loop);
	listener_tick_arm(r->conn->l);
	rc = chan_read(sreq_chan(r), &r->x);
	r->pushing = rc == 0;
	if (rc == -EAGAIN)
		list_push(&r->conn->out, &r->wait);
	else if (rc < 0)
		pull_failed(r, rc);
}

static void body_pulled(struct chan_xfer *x, int status)
{
	struct sreq *r = container_of(x, struct sreq, x);

	r->pushing = false;
	if (dropped(r))
		return;
	if (status < 0) {
		pull_failed(r, status);
		return;
	}
	memcpy(r->cold->body, r->buf, r->body_len);
	wire_bufs_put(&r->conn->l->bufs, r->buf);
	r->buf = NULL;
	serve_drain(r->conn->l);
	r->mark.admitted = r->mark.run = loop_now(r->conn->l->loop);
	if (body_decode(r) < 0)
		conn_bad(r->conn, "a request's fields are malformed");
	else
		admit(r);
}

static void desc_take(struct sreq *r, const uint8_t *at)
{
	struct wire_desc d;

	wire_desc_get(&d, at);
	r->desc = (struct fabric_desc){.key = d.key,
	                               .addr = d.addr,
	                               .len = d.len,
	                               .kind = d.kind,
	                               .device = d.device,
	                               .region = d.region};
}

/* Out of line: what it needs would be saved and restored by the short way. */
static __attribute__((noinline)) void start(struct sreq *r, const struct wire_req *m,
                                            const uint8_t *msg, uint32_t len)
{
	const struct wire_op *w = wire_op_of(m->opcode);
	const uint8_t *at = msg + sizeof(*m);
	int rc;

	if (unlikely(!w)) {
		memset(&r->s.op, 0, offsetof(struct pst_op, link));
		r->s.op.opcode = PST_OP_NONE;
		end_with(r, -ENOTSUP);
		return;
	}
	rc = check(m, w, r->conn->l);
	r->body_len = m->body_len;
	r->crc = m->crc;
	op_fill(r, m, w);
	if (rc == -EPROTO) {
		conn_bad(r->conn, "a request contradicts its op");
		return;
	}
	if (rc < 0) {
		session_skip(&r->conn->sc, &r->s.op.token);
		end_with(r, rc);
		return;
	}
	if (m->what & WIRE_WINDOW) {
		desc_take(r, at);
		at += sizeof(struct wire_desc);
	}
	if (m->what & WIRE_PULL &&
	    !(m->what & WIRE_MARKED) != !(sreq_chan(r)->traits & FABRIC_SEALED)) {
		conn_bad(r->conn, "a request's payload is not sealed as the channel is");
		return;
	}
	for (unsigned k = 0; m->what & WIRE_MARKED && k < 2; k++, at += WIRE_MARK_BYTES)
		seal_mark_get(&r->mark_of[k], at);
	if (m->what & WIRE_HANDLE) {
		memcpy(r->handle, at, sizeof(r->handle));
		at += sizeof(r->handle);
	}
	if ((!(w->is & WIRE_OP_HOT) || m->body_len) && !cold_get(r)) {
		answer_again(r, -EAGAIN);
		return;
	}
	if (m->what & WIRE_PULL && at != msg + len) {
		conn_bad(r->conn, "a request is longer than it says");
		return;
	}
	if (m->what & WIRE_PULL && m->body_len) {
		/* Decoders are no memory of a region: through a buffer that is. */
		r->state = SREQ_BODY;
		r->buf = wire_bufs_get(&r->conn->l->bufs, m->body_len);
		if (!r->buf)
			answer_again(r, -EAGAIN);
		else
			pull(r, r->buf, 0, m->body_len, body_pulled);
		return;
	}
	rc = m->what & WIRE_PULL ? 0 : inline_take(r, w, at, (uint32_t)(msg + len - at));
	if (rc == -EAGAIN)
		answer_again(r, rc);
	else if (rc < 0 || (r->cold && body_decode(r) < 0))
		conn_bad(r->conn, "a request's fields are malformed");
	else
		admit(r);
}

/* A read of an object whose data comes with the answer: all of it is in the header, whose form is looked
 * at here as wire_req_sane() and check() would. */
static bool is_short(const struct conn *c, const struct wire_req *m, uint32_t len)
{
	return m->opcode == PST_OP_READ && !(m->what & ~WIRE_CRC) && len == sizeof(*m) &&
	       m->version == c->version && m->len && m->len <= SHORT_MAX &&
	       m->len <= wire_bufs_max(&c->l->bufs) &&
	       !(m->body_len | m->slot | m->seq | m->zero | m->map_epoch | m->server | m->replica);
}

static void start_short(struct sreq *r, const struct wire_req *m)
{
	struct pst_op *op = &r->s.op;
	int rc;

	memset(op, 0, op_clear_bytes);
	op->opcode = PST_OP_READ;
	op->flags = m->flags;
	op->tenant = m->tenant;
	op->cont = m->cont;
	op->view = m->view;
	op->oid = (struct pst_oid){.hi = m->oid_hi, .lo = m->oid_lo};
	op->off = m->off;
	op->len = m->len;
	if (m->wait_us)
		op->deadline_ns = r->mark.born + m->wait_us * NSEC_PER_USEC;
	r->s.handle = NULL;
	rc = session_admit(&r->conn->sc, &r->s);
	if (likely(rc == 0))
		go_on_short(r);
	else
		admit_no(r, rc);
}

void serve_req(struct conn *c, const void *msg, uint32_t len)
{
	const struct wire_req *m;
	struct wire_req room;
	struct sreq *r;
	bool easy;

	if (unlikely(len < sizeof(*m))) {
		conn_bad(c, "a request is too short");
		return;
	}
	m = wire_req_look(&room, msg);
	easy = is_short(c, m, len);
	if (unlikely(!easy && (!wire_req_sane(m, len) || m->version != c->version))) {
		conn_bad(c, "a request is malformed");
		return;
	}
	r = sreq_get(c, m);
	if (unlikely(!r)) {
		conn_bad(c, "more requests than were agreed");
		return;
	}
	c->l->fig.requests++;
	if (likely(easy))
		start_short(r, m);
	else
		start(r, m, msg, len);
}

/* --- admission --- */

static void go(struct session_req *s, int status)
{
	struct sreq *r = container_of(s, struct sreq, s);

	r->admitted = status == 0;
	r->mark.admitted = r->mark.run = loop_now(r->conn->l->loop);
	if (status == -ECONNABORTED) {
		s->op.status = status;
		sreq_free(r);
		return;
	}
	if (dropped(r))
		return;
	if (status < 0)
		end_with(r, status);
	else
		go_on(r);
}

static void stop(struct session_req *s)
{
	struct sreq *r = container_of(s, struct sreq, s);

	r->cancelled = true;
	if (r->state == SREQ_RUN)
		session_cancel(s);
	else if (r->state == SREQ_MEM || r->state == SREQ_ROOM)
		listener_drain_soon(r->conn->l); /* not from inside: session.h */
}

static void admit(struct sreq *r)
{
	int rc;

	r->state = SREQ_ADMIT;
	r->s.handle = r->what & WIRE_HANDLE ? r->handle : NULL;
	rc = session_admit(&r->conn->sc, &r->s);
	if (likely(rc == 0)) {
		r->admitted = true;
		go_on(r);
	} else {
		admit_no(r, rc);
	}
}

/* Not now, or not at all. Out of line: what it needs would be saved and restored by all others. */
static __attribute__((noinline)) void admit_no(struct sreq *r, int why)
{
	if (why == -ECONNABORTED)
		conn_doom(r->conn, why);
	else if (why != -EINPROGRESS)
		end_with(r, why);
}

/* --- memory, payload, store --- */

static void op_done(struct pst_op *op)
{
	struct sreq *r = container_of(op, struct sreq, s.op);

	answer_op(r);
}

/* The server's own, not the store's. */
static void figures_ask(struct sreq *r)
{
	const struct wire_listener_opts *o = &r->conn->l->opts;

	if (o->figures) {
		o->figures(o->figures_arg, &r->s.op);
	} else {
		r->s.op.status = -ENOTSUP;
		answer_op(r);
	}
}

/* Rule 6: of the one that is lent. The next has what room this one has left. */
static void lent_done(struct pst_op *op)
{
	struct sreq *r = container_of(op, struct sreq, s.op);
	struct conn *c = r->conn;
	bool up = c->state == CONN_UP; /* else it may go with its last request */

	c->lent = NULL;
	answer_op(r);
	if (up)
		serve_room(c);
}

/* @is: of the op, to which go_on_short() knows the answer. */
static inline __attribute__((always_inline)) void submit(struct sreq *r, uint16_t is,
                                                         void (*done)(struct pst_op *op))
{
	struct pst_op *op = &r->s.op;

	if (is & (WIRE_OP_DATA_IN | WIRE_OP_DATA_OUT)) {
		r->iov = (struct iovec){.iov_base = r->buf, .iov_len = r->len};
		op->iov = &r->iov;
		op->iov_count = 1;
		op->region = r->buf ? r->conn->l->bufs.region : NULL;
		if (is & WIRE_OP_DATA_OUT && r->what & WIRE_CRC && r->buf)
			op->csum = wire_bufs_csum(&r->conn->l->bufs, r->buf);
		op->lend = is & WIRE_OP_DATA_OUT;
	} else if (is & (WIRE_OP_VAL_IN | WIRE_OP_VAL_OUT)) {
		op->val = r->buf;
		op->val_cap = r->len;
	} else if (is & WIRE_OP_BATCH) {
		wire_batch_place(op, &r->cold->scratch, r->buf);
	} else if (is & WIRE_OP_LIST) {
		r->page.at = r->page.end = r->buf;
		if (r->buf) /* none: no entry was asked for */
			r->page.end += list_bytes(r);
		r->page.full = false;
		r->page.version = r->conn->version;
	}
	op->done = done;
	r->state = SREQ_RUN;
	if (!(is & WIRE_OP_HOT) && op->opcode == PST_OP_FIGURES)
		figures_ask(r);
	else
		session_submit(&r->s);
}

/*
 * The payload's checksum. Whole blocks of an array are looked at one by one, and the store gets
 * their checksums with them: one pass over the data for both, and nothing that happens to it between
 * the two goes unnoticed. It lies in memory of ours, that no client can change.
 */
static uint32_t crc_of(struct sreq *r, const struct wire_op *w)
{
	const uint8_t *at = r->buf;
	uint32_t crc = 0, n = r->len / CRC_PIECE;
	uint32_t *csum;

	if (!(w->is & WIRE_OP_DATA_IN) || r->len % CRC_PIECE)
		return crc32c(0, r->buf, r->len);
	csum = r->s.op.csum = wire_bufs_csum(&r->conn->l->bufs, r->buf);
	for (uint32_t i = 0; i < n; i++, at += CRC_PIECE) {
		csum[i] = crc32c_piece(at, i == 0, i + 1 < n);
		crc = crc32c_join(crc, csum[i]);
	}
	return crc;
}

/* The payload is here: is it what was sent? */
static void arrived(struct sreq *r, const struct wire_op *w)
{
	if (r->what & WIRE_CRC && crc_of(r, w) != r->crc) {
		r->conn->l->fig.bad_crc++;
		answer_again(r, -EBADMSG);
	} else {
		submit(r, w->is, op_done);
	}
}

static void payload_pulled(struct chan_xfer *x, int status)
{
	struct sreq *r = container_of(x, struct sreq, x);

	r->pushing = false;
	if (dropped(r))
		return;
	if (status < 0 && !(r->cancelled && status == -EACCES)) {
		pull_failed(r, status);
	} else if (r->cancelled) { /* who cancels may close the window as well */
		end_with(r, -ECANCELED);
	} else {
		r->conn->l->fig.bytes_in += r->len;
		r->mark.run = loop_now(r->conn->l->loop);
		arrived(r, wire_op_of(r->s.op.opcode));
	}
}

static bool data_comes(const struct wire_op *w)
{
	return w->is & (WIRE_OP_DATA_IN | WIRE_OP_VAL_IN | WIRE_OP_BATCH);
}

/* Will it be lent, as far as can be told, to a channel that takes it as it is while there is room? */
static bool wants_room(const struct sreq *r, const struct wire_op *w)
{
	return w->is & WIRE_OP_DATA_OUT && r->what & WIRE_WINDOW && r->conn->lends &&
	       r->conn->lends == r->s.op.cont && sreq_chan(r)->traits & FABRIC_ROOM;
}

/* Has memory, if it needs any. */
static void with_memory(struct sreq *r, const struct wire_op *w)
{
	if (!r->conn->lent && wants_room(r, w)) {
		r->conn->lent = r;
		submit(r, w->is, lent_done);
	} else if (!data_comes(w) || !r->len) {
		submit(r, w->is, op_done);
	} else if (!(r->what & WIRE_PULL)) {
		arrived(r, w);
	} else {
		r->state = SREQ_PULL;
		pull(r, r->buf, r->body_len, r->len, payload_pulled);
	}
}

/* Nothing of the channel's is in its way any more. */
static void with_room(struct sreq *r, const struct wire_op *w)
{
	struct wire_listener *l = r->conn->l;
	uint32_t need = mem_needed(r, w);

	if (!r->buf && need) {
		r->buf = list_empty(&l->mem_wait) ? wire_bufs_get(&l->bufs, need) : NULL;
		if (!r->buf) {
			l->fig.mem_waits++;
			r->state = SREQ_MEM;
			list_push(&l->mem_wait, &r->wait);
			return;
		}
	}
	with_memory(r, w);
}

/* Admitted. */
static void go_on(struct sreq *r)
{
	const struct wire_op *w = wire_op_of(r->s.op.opcode);
	struct conn *c = r->conn;

	if (unlikely(r->cancelled)) {
		end_with(r, -ECANCELED);
	} else if (wants_room(r, w) && (c->lent || !list_empty(&c->room) || !chan_room(c->chan))) {
		r->state = SREQ_ROOM;
		r->mark.run = loop_now(c->l->loop); /* hold.c */
		list_push(&c->room, &r->wait);
		listener_tick_arm(c->l);
	} else {
		with_room(r, w);
	}
}

void serve_room(struct conn *c)
{
	struct sreq *r;

	if (c->giving)
		return;
	c->giving = true;
again: /* ends of some may be the turn of others */
	list_for_each (r, &c->room, wait)
		if (r->cancelled && c->state == CONN_UP) {
			list_del(&r->wait);
			end_with(r, -ECANCELED);
			goto again;
		}
	while (c->state == CONN_UP && !c->lent && !list_empty(&c->room) && chan_room(c->chan)) {
		r = list_first(&c->room, struct sreq, wait);
		list_del(&r->wait);
		r->mark.run = loop_now(c->l->loop);
		with_room(r, wire_op_of(r->s.op.opcode));
	}
	c->giving = false;
}

/* The same for a short read, which takes a buffer and goes: if there is one. */
static void go_on_short(struct sreq *r)
{
	struct wire_listener *l = r->conn->l;

	r->admitted = true;
	r->buf = likely(list_empty(&l->mem_wait)) ? wire_bufs_get(&l->bufs, r->len) : NULL;
	if (likely(r->buf))
		submit(r, WIRE_OP_HOT | WIRE_OP_DATA_OUT, op_done);
	else
		go_on(r);
}

void serve_drain_now(struct wire_listener *l)
{
	if (l->draining)
		return;
	l->draining = true;
	while (!list_empty(&l->mem_wait)) {
		struct sreq *r = list_first(&l->mem_wait, struct sreq, wait);
		const struct wire_op *w = wire_op_of(r->s.op.opcode);

		if (!r->cancelled && r->conn->state == CONN_UP) {
			r->buf = wire_bufs_get(&l->bufs, mem_needed(r, w));
			if (!r->buf)
				break;
		}
		list_del(&r->wait);
		r->mark.run = loop_now(l->loop);
		if (dropped(r))
			continue;
		if (r->cancelled) {
			end_with(r, -ECANCELED);
		} else {
			with_memory(r, w);
		}
	}
	l->draining = false;
}

/* --- ends that come early --- */

void serve_cancel(struct conn *c, uint64_t id)
{
	struct sreq *r;

	for (r = c->all; r; r = r->next_made) {
		if (r->state == SREQ_FREE || r->id != id || r->answered)
			continue;
		r->cancelled = true;
		if (r->state == SREQ_RUN)
			session_cancel(&r->s);
		else if (r->state == SREQ_MEM)
			serve_drain(c->l);
		else if (r->state == SREQ_ROOM)
			serve_room(c);
		return;
	}
}

/* What nothing else may ever end, or not for days; a client that is back asks for it again. */
bool ends_with_conn(const struct pst_op *op)
{
	return op->opcode == PST_OP_WATCH || op->opcode == PST_OP_SCRUB;
}

void serve_abandon(struct conn *c)
{
	bool draining = c->l->draining;
	struct sreq *r;

	c->l->draining = true; /* until all of them are looked at */
	for (r = c->all; r; r = r->next_made) {
		if (r->state == SREQ_FREE)
			continue;
		if (r->state == SREQ_RUN && ends_with_conn(&r->s.op))
			session_cancel(&r->s);
		if (r->state == SREQ_RUN || r->pushing)
			continue; /* 4. */
		if (r->state == SREQ_ADMIT && !r->admitted && r->s.state != REQ_NONE)
			continue; /* its go() comes */
		list_del(&r->wait);
		if (r->state != SREQ_SEND && r->state != SREQ_PUSH)
			r->s.op.status = -ECONNABORTED;
		sreq_free(r);
	}
	c->l->draining = draining;
	serve_drain(c->l);
}
