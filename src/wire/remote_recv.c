/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote_recv - answers: to whom they belong, whether they are what can be believed, and what they
 * bring. Rule 4 of remote_int.h is kept here.
 */
#include <stdio.h>

#include "wire/remote_int.h"

#define BAD_CRCS_MAX 3 /* tries, before the op ends with an error */
#define AGAIN_NS     NSEC_PER_MSEC

/* --- memory --- */

static void scatter(const struct pst_op *op, const uint8_t *from, uint64_t len)
{
	for (uint32_t i = 0; len && i < op->iov_count; i++) {
		uint64_t n = MIN(len, op->iov[i].iov_len);

		if (n)
			memcpy(op->iov[i].iov_base, from, n);
		from += n;
		len -= n;
	}
}

static uint32_t crc_scattered(const struct pst_op *op, uint64_t len)
{
	uint32_t crc = 0;

	for (uint32_t i = 0; len && i < op->iov_count; i++) {
		uint64_t n = MIN(len, op->iov[i].iov_len);

		crc = crc32c(crc, op->iov[i].iov_base, n);
		len -= n;
	}
	return crc;
}

/* --- volatile writes --- */

static bool is_volatile(const struct pst_op *op)
{
	return op->flags & PST_F_VOLATILE && wire_op_of(op->opcode)->is & WIRE_OP_TOKEN;
}

static void vol_note(struct remote *rm, uint32_t cont)
{
	for (unsigned i = 0; i < rm->vol_count; i++)
		if (rm->vol[i].cont == cont)
			return;
	if (rm->vol_count == REMOTE_CONTS_MAX) {
		rm->vol_many = true;
		return;
	}
	rm->vol[rm->vol_count].cont = cont;
	rm->vol[rm->vol_count++].lost = false;
}

void remote_volatile_lost(struct remote *rm)
{
	for (unsigned i = 0; i < rm->vol_count; i++)
		rm->vol[i].lost = true;
	rm->vol_many_lost |= rm->vol_many;
	if (rm->vol_count || rm->vol_many)
		log_warn("the server was restarted: volatile writes since the last flush may be "
		         "lost");
}

/* A flush has ended well: is that true for all that its container wrote? */
int remote_flush_check(struct remote *rm, const struct pst_op *op)
{
	bool all = op->opcode == PST_OP_FLUSH && !op->cont, lost = rm->vol_many_lost;

	for (unsigned i = 0; i < rm->vol_count;) {
		if (!all && rm->vol[i].cont != op->cont) {
			i++;
			continue;
		}
		lost |= rm->vol[i].lost;
		if (op->opcode == PST_OP_FLUSH || rm->vol[i].lost)
			rm->vol[i] = rm->vol[--rm->vol_count];
		else
			i++; /* FSYNC: other files of the container may have more */
	}
	if (all)
		rm->vol_many = false;
	rm->vol_many_lost = false;
	return lost ? -EIO : 0;
}

static int judge(struct rreq *r, int status)
{
	const struct pst_op *op = r->op;

	if (status == 0 && r->rm->opts.volatile_ok && is_volatile(op))
		vol_note(r->rm, op->cont);
	if (status == 0 && (op->opcode == PST_OP_FLUSH || op->opcode == PST_OP_FSYNC) &&
	    (r->rm->vol_count || r->rm->vol_many_lost))
		return remote_flush_check(r->rm, op);
	/* Cancelled by the clock of this end. */
	if (status == -ECANCELED && r->cancel_told && !r->cancelled)
		return -ETIMEDOUT;
	return status;
}

/* --- the end of an op --- */

static void outputs(struct rreq *r)
{
	const struct wire_resp *m = &r->resp;
	struct pst_op *op = r->op;
	const struct wire_op *w = wire_op_of(op->opcode);

	op->ret_len = m->ret_len;
	if (m->status < 0) {
		if (m->index != UINT32_MAX)
			op->ret_index = m->index;
		return;
	}
	op->ret_off = m->ret_off;
	if (w->is & WIRE_OP_CONT)
		op->cont = (uint32_t)m->word;
	else if (w->gives & WIRE_BIT(WIRE_F_ATTR))
		op->ino = m->word;
}

/* What only this end knows. */
static void status_add(const struct remote *rm, struct pst_store_status *s)
{
	bool sealed = rm->chan && rm->chan->traits & FABRIC_SEALED;

	const char *how = rm->opts.at[rm->at].provider;
	bool ofi = !strcmp(how, "ofi") && rm->opts.fabric.provider;

	(void)snprintf(s->channel, sizeof(s->channel), "%s%s%s%s %s", how, ofi ? ":" : "",
	               ofi ? rm->opts.fabric.provider : "", rm->opts.at[rm->at].tls ? "+tls" : "",
	               rm->opts.at[rm->at].addr);
	(void)snprintf(s->sealed, sizeof(s->sealed), "%s", sealed ? SEAL_NAME : "");
	s->connects = rm->fig.connects;
	s->fallbacks = rm->fig.fallbacks;
	(void)snprintf(s->fallback_why, sizeof(s->fallback_why), "%s", rm->passed_over);
	s->resent = rm->fig.resent;
	s->bounce_copies = rm->fig.bounced;
}

static void complete(struct rreq *r)
{
	if (unlikely(r->got || r->shown || r->fresh || r->closes || r->confirm) &&
	    handles_answered(r))
		return;
	outputs(r);
	if (r->op->status_out && r->resp.status == 0)
		status_add(r->rm, r->op->status_out);
	rreq_end(r, judge(r, r->resp.status));
}

/* The bytes that came are not those that were sent. */
static void bad_crc(struct rreq *r)
{
	struct remote *rm = r->rm;

	rm->fig.bad_crc++;
	if (++r->bad_crcs >= BAD_CRCS_MAX) {
		log_error("answers of the server arrive damaged, %d times in a row", BAD_CRCS_MAX);
		rreq_end(r, -EIO);
		return;
	}
	log_warn("an answer of the server arrived damaged: it is asked again");
	rreq_again(r);
}

/* --- pages of lists --- */

/* Gives the page's entries to the op. 1: it wants no more; 0: all were taken; or -EPROTO. */
static int page_take(struct rreq *r, const uint8_t *at, uint32_t len)
{
	struct wire_in in = {.at = at, .end = at + len};
	struct wire_entry e;

	while (in.at != in.end) {
		if (wire_entry_get(&in, r->op, &e) < 0)
			return -EPROTO;
		if (e.handle)
			handles_entry(r, &e);
		r->place_len = wire_entry_place(r->op, &e.e, r->place);
		r->placed = true;
		if (!r->op->entry(r->op, &e.e))
			return 1;
	}
	return 0;
}

static void list_finish(struct rreq *r, const uint8_t *page)
{
	int rc = page_take(r, page, r->resp.len);

	if (rc < 0 || (!rc && !r->resp.len && r->resp.what & WIRE_MORE)) {
		remote_bad(r->rm, "a list's page is malformed");
		rreq_end(r, -EPROTO);
	} else if (rc == 0 && r->resp.what & WIRE_MORE) {
		r->sent = false; /* the next page is a new question */
		r->bad_crcs = 0;
		rreq_again(r);
		remote_pump(r->rm);
	} else {
		complete(r);
	}
}

/* --- payloads --- */

static bool crc_good(const struct rreq *r, uint32_t crc)
{
	return !(r->resp.what & WIRE_CRC) || crc == r->resp.crc;
}

/* Data into the op's memory, unless it is there already. Is it what was sent? */
static bool data_take(const struct rreq *r, const uint8_t *from)
{
	const struct pst_op *op = r->op;
	const struct iovec *iov = op->iov;
	uint32_t len = r->resp.len;

	if (likely(op->iov_count == 1)) {
		if (from)
			memcpy(iov->iov_base, from, len);
		return !(r->resp.what & WIRE_CRC) || crc32c(0, iov->iov_base, len) == r->resp.crc;
	}
	if (from)
		scatter(op, from, len);
	return !(r->resp.what & WIRE_CRC) || crc_scattered(op, len) == r->resp.crc;
}

/* The payload lies in our memory, which nobody else changes any more. */
static void payload_finish(struct rreq *r, const uint8_t *from)
{
	struct pst_op *op = r->op;
	const struct wire_op *w = wire_op_of(op->opcode);
	uint32_t len = r->resp.len;

	if (w->is & WIRE_OP_DATA_OUT) {
		if (likely(data_take(r, from)))
			complete(r);
		else
			bad_crc(r);
		return;
	}
	if (!crc_good(r, crc32c(0, from, len))) {
		bad_crc(r);
	} else if (w->is & WIRE_OP_LIST) {
		list_finish(r, from);
	} else {
		if (len)
			memcpy(op->val, from, len);
		complete(r);
	}
}

/* What lay in its window when that was closed is not what the server sealed. */
static void bad_seal(struct rreq *r)
{
	struct remote *rm = r->rm;

	rm->fig.bad_seal++;
	remote_bad(rm, "an answer's payload was changed on its way");
	if (++r->bad_crcs >= BAD_CRCS_MAX)
		rreq_end(r, -EIO);
	else
		rreq_again(r);
}

void rreq_finish(struct rreq *r)
{
	if (!r->op) {
		rreq_free(r);
		return;
	}
	if (unlikely(r->resp.what & WIRE_MARKED && r->win.status < 0)) {
		bad_seal(r);
		return;
	}
	if (r->resp.what & WIRE_PUSHED)
		payload_finish(r, r->buf);
	else
		complete(r);
}

/* --- the message --- */

/* As long as it may be? Whoever answers more than was asked is not believed. */
static bool lengths_good(const struct rreq *r, const struct wire_resp *m)
{
	const struct pst_op *op = r->op;
	const struct wire_op *w = wire_op_of(op->opcode);

	if (m->status < 0)
		return !m->len && !m->body_len;
	if (w->is & WIRE_OP_DATA_OUT)
		return m->len == m->ret_len && m->len <= op->len;
	if (w->is & WIRE_OP_VAL_OUT)
		return m->len == MIN(m->ret_len, op->val_cap);
	if (w->is & WIRE_OP_LIST)
		return m->len <= 128 * 1024;
	return !m->len;
}

static void again(struct rreq *r, int why)
{
	struct remote *rm = r->rm;

	rm->fig.again++;
	if (why == -EBADMSG && ++r->bad_crcs >= BAD_CRCS_MAX) {
		log_error("what is sent to the server arrives damaged, %d times in a row",
		          BAD_CRCS_MAX);
		rreq_close(r, THEN_FAIL, -EIO);
		return;
	}
	rm->again_ns = loop_now(rm->loop) + AGAIN_NS;
	(void)loop_timer_arm(rm->loop, &rm->soon, rm->again_ns);
	rreq_close(r, THEN_AGAIN, 0);
}

static void take(struct rreq *r, const uint8_t *msg)
{
	const struct wire_resp *m = &r->resp;
	bool marked = m->what & WIRE_MARKED;
	const uint8_t *body = msg + sizeof(*m) + (marked ? WIRE_MARK_BYTES : 0);
	const uint8_t *payload = body + m->body_len;
	const struct wire_op *w = wire_op_of(r->op->opcode);
	struct wire_in in = {.at = body, .end = payload, .version = r->rm->version};
	const uint8_t *handle = NULL;

	if (!lengths_good(r, m) || (m->what & WIRE_PUSHED && !r->win_open) ||
	    marked != (m->what & WIRE_PUSHED && r->rm->chan->traits & FABRIC_SEALED) ||
	    (m->status == 0 && w->gives && wire_answer_get(&in, r->op, &handle) < 0) ||
	    (!w->gives && m->body_len)) {
		remote_bad(r->rm, "an answer is malformed");
		return;
	}
	r->got = handle;
	if (handle)
		memcpy(r->handle, handle, sizeof(r->handle));
	if (m->status == 0 && !(m->what & WIRE_PUSHED) &&
	    w->is & (WIRE_OP_DATA_OUT | WIRE_OP_VAL_OUT | WIRE_OP_LIST)) {
		if (!r->win_open) {
			payload_finish(r, payload);
			return;
		}
		/* There is a window, but it was not needed: as if it had been. */
		if (r->buf && m->len)
			memcpy(r->buf, payload, m->len);
		else if (m->len)
			scatter(r->op, payload, m->len);
		r->resp.what |= WIRE_PUSHED;
	}
	if (marked) { /* it is opened when the window is closed */
		seal_mark_get(&r->win.mark[1], msg + sizeof(*m));
		r->win.mark_len = m->len;
	}
	rreq_close(r, THEN_FINISH, 0);
}

/* Any answer but the commonest. Out of line: what it needs would be saved and restored by that. */
static __attribute__((noinline)) void take_any(struct rreq *r, const struct wire_resp *m,
                                               const uint8_t *msg)
{
	r->resp = *m;
	if (unlikely(!r->op || r->state == RREQ_CLOSING)) {
		if (r->state == RREQ_SENT)
			rreq_free(r);
	} else if (unlikely(m->what & WIRE_AGAIN)) {
		again(r, m->status);
	} else {
		take(r, msg);
	}
}

/* Nothing but data in it? Then all that wire_resp_sane() looks at was looked at. */
static bool is_plain(const struct wire_resp *m, uint32_t len)
{
	return !(m->what & ~WIRE_CRC) &&
	       !((uint32_t)m->status | m->body_len | m->map_epoch | m->zero) &&
	       len == sizeof(*m) + (uint64_t)m->len;
}

/* The plain answer to a short read, as long as it may be? */
static bool is_short(const struct rreq *r, const struct wire_resp *m)
{
	const struct pst_op *op = r->op;

	return op && op->opcode == PST_OP_READ && r->state == RREQ_SENT && !r->win_open &&
	       op->iov_count == 1 && m->len == m->ret_len && m->len <= op->len;
}

/* take() and complete() for that. */
static void take_short(struct rreq *r, const struct wire_resp *m, const uint8_t *data)
{
	struct pst_op *op = r->op;

	memcpy(op->iov->iov_base, data, m->len);
	if (unlikely(m->what & WIRE_CRC && crc32c(0, op->iov->iov_base, m->len) != m->crc)) {
		bad_crc(r);
		return;
	}
	op->ret_len = m->ret_len;
	op->ret_off = m->ret_off;
	rreq_end(r, 0);
}

void remote_resp(struct remote *rm, const void *msg, uint32_t len)
{
	const struct wire_resp *m;
	struct wire_resp room;
	struct rreq *r;
	bool plain;

	if (unlikely(len < sizeof(*m))) {
		remote_bad(rm, "an answer is too short");
		return;
	}
	m = wire_resp_look(&room, msg);
	plain = is_plain(m, len);
	if (unlikely((!plain && !wire_resp_sane(m, len)) || m->version != rm->version ||
	             (uint32_t)m->id >= rm->req_count)) {
		remote_bad(rm, "an answer is malformed");
		return;
	}
	r = &rm->reqs[(uint32_t)m->id];
	if (unlikely(r->id != m->id || !r->counted)) {
		remote_bad(rm, "an answer to nothing that was asked");
		return;
	}
	rreq_uncount(r);
	r->answered = !(m->what & WIRE_AGAIN);
	r->id += 1ull << 32;
	if (likely(plain && is_short(r, m)))
		take_short(r, m, (const uint8_t *)msg + sizeof(*m));
	else
		take_any(r, m, msg);
	if (!list_empty(&rm->wait))
		remote_pump(rm);
}

void remote_event(struct remote *rm, const void *msg, uint32_t len)
{
	struct wire_bad_block bad;
	struct wire_note n;
	struct rreq *r;
	bool is_bad;

	wire_note_get(&n, msg);
	if ((uint32_t)n.id >= rm->req_count)
		return;
	r = &rm->reqs[(uint32_t)n.id];
	if (r->id != n.id || !r->op || r->op->opcode != PST_OP_SCRUB)
		return; /* it ended meanwhile */
	if (wire_scrub_event_get(msg, len, r->op->scrub, &is_bad, &bad) < 0)
		remote_bad(rm, "an event is malformed");
	else if (is_bad && r->op->scrub->bad) {
		r->op->scrub->bad_view = bad.view;
		r->op->scrub->bad(r->op->scrub, bad.cont, bad.oid, bad.off, bad.status);
	}
}
