/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * serve - a request from its message to the store. listener_int.h has the way and the rules.
 */
#include "wire/listener_int.h"

#define SHORT_MAX (16u * 1024) /* bytes of a read that takes the short way */

static void admit(struct sreq *r);
static void go_on(struct sreq *r);

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

static struct sreq *sreq_get(struct conn *c, const struct wire_req *m)
{
	struct sreq *r = conn_req_get(c);

	if (unlikely(!r))
		return NULL;
	r->id = m->id;
	r->what = m->what;
	r->len = m->len;
	r->body_len = m->body_len;
	r->crc = m->crc;
	r->admitted = r->cancelled = r->more = r->pushing = r->answered = false;
	r->buf = NULL;
	r->cold = NULL;
	r->state = SREQ_ADMIT;
	r->mark.born = r->mark.admitted = r->mark.run = loop_now(c->l->loop);
	r->mark.waited = false;
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

/* How many bytes of payload memory it needs. */
static uint32_t mem_needed(const struct sreq *r, const struct wire_op *w)
{
	const uint32_t payload = WIRE_OP_DATA_IN | WIRE_OP_DATA_OUT | WIRE_OP_VAL_IN |
	                         WIRE_OP_VAL_OUT | WIRE_OP_BATCH;

	if (w->is & WIRE_OP_LIST)
		return MIN(r->len, 128u * 1024);
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
	if (!r->buf)
		return -EAGAIN;
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

static void start(struct sreq *r, const struct wire_req *m, const struct wire_op *w,
                  const uint8_t *msg, uint32_t len)
{
	const uint8_t *at = msg + sizeof(*m);
	int rc = check(m, w, r->conn->l);

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
		op->deadline_ns = loop_now(r->conn->l->loop) + m->wait_us * NSEC_PER_USEC;
	admit(r);
}

void serve_req(struct conn *c, const void *msg, uint32_t len)
{
	const struct wire_op *w;
	struct wire_req m;
	struct sreq *r;
	bool easy;

	if (unlikely(len < sizeof(m))) {
		conn_bad(c, "a request is too short");
		return;
	}
	wire_req_get(&m, msg);
	easy = is_short(c, &m, len);
	if (unlikely(!easy && (!wire_req_sane(&m, len) || m.version != c->version))) {
		conn_bad(c, "a request is malformed");
		return;
	}
	r = sreq_get(c, &m);
	if (unlikely(!r)) {
		conn_bad(c, "more requests than were agreed");
		return;
	}
	c->l->fig.requests++;
	if (likely(easy)) {
		start_short(r, &m);
		return;
	}
	w = wire_op_of(m.opcode);
	if (unlikely(!w)) {
		memset(&r->s.op, 0, offsetof(struct pst_op, link));
		r->s.op.opcode = PST_OP_NONE;
		end_with(r, -ENOTSUP);
		return;
	}
	start(r, &m, w, msg, len);
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
	else if (r->state == SREQ_MEM)
		listener_drain_soon(r->conn->l); /* not from inside: session.h */
}

static void admit(struct sreq *r)
{
	int rc;

	r->state = SREQ_ADMIT;
	r->s.go = go;
	r->s.stop = stop;
	r->s.handle = r->what & WIRE_HANDLE ? r->handle : NULL;
	rc = session_admit(&r->conn->sc, &r->s);
	if (likely(rc == 0)) {
		r->admitted = true;
		go_on(r);
	} else if (rc == -ECONNABORTED) {
		conn_doom(r->conn, rc);
	} else if (rc != -EINPROGRESS) {
		end_with(r, rc);
	}
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

static void submit(struct sreq *r)
{
	struct pst_op *op = &r->s.op;
	const struct wire_op *w = wire_op_of(op->opcode);

	if (w->is & (WIRE_OP_DATA_IN | WIRE_OP_DATA_OUT)) {
		r->iov = (struct iovec){.iov_base = r->buf, .iov_len = r->len};
		op->iov = &r->iov;
		op->iov_count = 1;
		op->region = r->buf ? r->conn->l->bufs.region : NULL;
		if (w->is & WIRE_OP_DATA_OUT && r->what & WIRE_CRC && r->buf)
			op->csum = wire_bufs_csum(&r->conn->l->bufs, r->buf);
		op->lend = w->is & WIRE_OP_DATA_OUT;
	} else if (w->is & (WIRE_OP_VAL_IN | WIRE_OP_VAL_OUT)) {
		op->val = r->buf;
		op->val_cap = r->len;
	} else if (w->is & WIRE_OP_BATCH) {
		wire_batch_place(op, &r->cold->scratch, r->buf);
	} else if (w->is & WIRE_OP_LIST) {
		r->page.at = r->buf;
		r->page.end = r->page.at + mem_needed(r, w);
		r->page.full = false;
		r->page.version = r->conn->version;
	}
	op->done = op_done;
	r->state = SREQ_RUN;
	if (unlikely(op->opcode == PST_OP_FIGURES))
		figures_ask(r);
	else
		session_submit(&r->s);
}

/*
 * The payload's checksum. Whole blocks of an array are looked at one by one, and the store gets
 * their checksums with them: one pass over the data for both, and nothing that happens to it between
 * the two goes unnoticed. It lies in memory of ours, that no client can change.
 */
static uint32_t crc_of(struct sreq *r)
{
	const uint8_t *at = r->buf;
	uint32_t crc = 0, n = r->len / CRC_PIECE;
	uint32_t *csum;

	if (!(wire_op_of(r->s.op.opcode)->is & WIRE_OP_DATA_IN) || r->len % CRC_PIECE)
		return crc32c(0, r->buf, r->len);
	csum = r->s.op.csum = wire_bufs_csum(&r->conn->l->bufs, r->buf);
	for (uint32_t i = 0; i < n; i++, at += CRC_PIECE) {
		csum[i] = crc32c(0, at, CRC_PIECE);
		crc = crc32c_join(crc, csum[i]);
	}
	return crc;
}

/* The payload is here: is it what was sent? */
static void arrived(struct sreq *r)
{
	if (r->what & WIRE_CRC && crc_of(r) != r->crc) {
		r->conn->l->fig.bad_crc++;
		answer_again(r, -EBADMSG);
	} else {
		submit(r);
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
		arrived(r);
	}
}

static bool data_comes(const struct wire_op *w)
{
	return w->is & (WIRE_OP_DATA_IN | WIRE_OP_VAL_IN | WIRE_OP_BATCH);
}

/* Has memory, if it needs any. */
static void with_memory(struct sreq *r)
{
	const struct wire_op *w = wire_op_of(r->s.op.opcode);

	if (!data_comes(w) || !r->len) {
		submit(r);
	} else if (!(r->what & WIRE_PULL)) {
		arrived(r);
	} else {
		r->state = SREQ_PULL;
		pull(r, r->buf, r->body_len, r->len, payload_pulled);
	}
}

/* Admitted. */
static void go_on(struct sreq *r)
{
	struct wire_listener *l = r->conn->l;
	const struct wire_op *w = wire_op_of(r->s.op.opcode);
	uint32_t need = mem_needed(r, w);

	if (unlikely(r->cancelled)) {
		end_with(r, -ECANCELED);
		return;
	}
	if (!r->buf && need) {
		r->buf = list_empty(&l->mem_wait) ? wire_bufs_get(&l->bufs, need) : NULL;
		if (!r->buf) {
			l->fig.mem_waits++;
			r->state = SREQ_MEM;
			list_push(&l->mem_wait, &r->wait);
			return;
		}
	}
	with_memory(r);
}

void serve_drain(struct wire_listener *l)
{
	if (likely(list_empty(&l->mem_wait)) || l->draining)
		return;
	l->draining = true;
	while (!list_empty(&l->mem_wait)) {
		struct sreq *r = list_first(&l->mem_wait, struct sreq, wait);

		if (!r->cancelled && r->conn->state == CONN_UP) {
			r->buf = wire_bufs_get(&l->bufs, mem_needed(r, wire_op_of(r->s.op.opcode)));
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
			with_memory(r);
		}
	}
	l->draining = false;
}

/* --- ends that come early --- */

void serve_cancel(struct conn *c, uint64_t id)
{
	struct sreq *r;

	list_for_each (r, &c->active, link) {
		if (r->id != id || r->answered)
			continue;
		r->cancelled = true;
		if (r->state == SREQ_RUN)
			session_cancel(&r->s);
		else if (r->state == SREQ_MEM)
			serve_drain(c->l);
		return;
	}
}

void serve_abandon(struct conn *c)
{
	bool draining = c->l->draining;
	struct sreq *r, *next;

	c->l->draining = true; /* so that nothing but @r leaves the list meanwhile */
	list_for_each_safe (r, next, &c->active, link) {
		if (r->state == SREQ_RUN && r->s.op.opcode == PST_OP_WATCH)
			session_cancel(&r->s); /* nothing else may ever end it */
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
