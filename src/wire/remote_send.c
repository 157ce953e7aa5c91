/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote_send - a request's way into the channel: what goes into the message, what is shown in a
 * window, and what has to be copied first because the channel can't show it.
 */
#include "wire/remote_int.h"

/* --- may it travel? --- */

static int check_iov(const struct pst_op *op)
{
	uint64_t len = 0;

	for (uint32_t i = 0; i < op->iov_count; i++)
		len += op->iov[i].iov_len;
	return len == op->len ? 0 : -EINVAL;
}

static int check_cold(const struct pst_op *op, const struct wire_op *w)
{
	if (w->takes & WIRE_BIT(WIRE_F_KEY) && op->key_len > PST_KEY_MAX)
		return -ENAMETOOLONG;
	if (w->takes & WIRE_BIT(WIRE_F_START) && op->start_len > PST_KEY_MAX)
		return -ENAMETOOLONG;
	if (w->takes & WIRE_BIT(WIRE_F_NAME) && op->name_len > WIRE_PATH_MAX)
		return -ENAMETOOLONG;
	if (w->takes & WIRE_BIT(WIRE_F_NAME2) && op->name2_len > WIRE_PATH_MAX)
		return -ENAMETOOLONG;
	if (w->is & WIRE_OP_VAL_IN && op->val_cap > PST_VALUE_MAX)
		return -E2BIG;
	if (w->is & WIRE_OP_LIST && !op->entry)
		return -EINVAL;
	if (w->is & WIRE_OP_BATCH) {
		int64_t n = op->mut_count ? wire_batch_payload(op) : -EINVAL;

		return n < 0 ? (int)n : 0; /* without changes it would ask about its token */
	}
	if ((op->opcode == PST_OP_STAT && !op->stat) ||
	    (op->opcode == PST_OP_STATUS && !op->status_out) ||
	    (op->opcode == PST_OP_SCRUB && !op->scrub) ||
	    (op->opcode == PST_OP_CONT_SET && !op->cont_info))
		return -EINVAL;
	return 0;
}

int rreq_check(const struct pst_op *op)
{
	const struct wire_op *w = wire_op_of(op->opcode);

	if (unlikely(!w))
		return -ENOTSUP;
	if (unlikely(op->token.session))
		return -EINVAL;
	if (w->is & (WIRE_OP_DATA_IN | WIRE_OP_DATA_OUT)) {
		if (unlikely(op->len > PST_IO_MAX))
			return -E2BIG;
		if (unlikely(op->iov_count != 1 || op->iov[0].iov_len != op->len) &&
		    check_iov(op) < 0)
			return -EINVAL;
	}
	return likely(w->is & WIRE_OP_HOT && !op->name_len) ? 0 : check_cold(op, w);
}

/* --- what it carries --- */

static bool to_server(const struct wire_op *w)
{
	return w->is & (WIRE_OP_DATA_IN | WIRE_OP_VAL_IN | WIRE_OP_BATCH);
}

/* Bytes that go to the server behind the fields. */
static uint32_t payload_of(const struct pst_op *op, const struct wire_op *w)
{
	if (w->is & WIRE_OP_DATA_IN)
		return (uint32_t)op->len;
	if (w->is & WIRE_OP_VAL_IN)
		return op->val_cap;
	if (w->is & WIRE_OP_BATCH)
		return (uint32_t)wire_batch_payload(op);
	return 0;
}

/* The pieces of memory that they are; at most @max, else -E2BIG. */
static int payload_iov(const struct pst_op *op, const struct wire_op *w, struct iovec *iov,
                       unsigned max)
{
	if (w->is & WIRE_OP_DATA_IN) {
		if (op->iov_count > max)
			return -E2BIG;
		memcpy(iov, op->iov, op->iov_count * sizeof(*iov));
		return (int)op->iov_count;
	}
	if (w->is & WIRE_OP_BATCH)
		return wire_batch_iov(op, iov, max);
	iov[0] = (struct iovec){.iov_base = op->val, .iov_len = op->val_cap};
	return op->val_cap ? 1 : 0;
}

/* Calls for each piece: what is longer than a table of a fixed size. */
static void payload_copy(const struct pst_op *op, const struct wire_op *w, uint8_t *to)
{
	for (uint32_t i = 0; w->is & WIRE_OP_DATA_IN && i < op->iov_count; i++) {
		if (op->iov[i].iov_len)
			memcpy(to, op->iov[i].iov_base, op->iov[i].iov_len);
		to += op->iov[i].iov_len;
	}
	if (w->is & WIRE_OP_VAL_IN && op->val_cap)
		memcpy(to, op->val, op->val_cap);
	for (uint32_t i = 0; w->is & WIRE_OP_BATCH && i < op->mut_count; i++) {
		struct pst_op one = {.muts = &op->muts[i], .mut_count = 1};
		const struct pst_mut *m = &op->muts[i];
		uint64_t len = (uint64_t)wire_batch_payload(&one);

		if (len && m->iov && m->kind >= PST_ARRAY_WRITE && m->kind <= PST_ARRAY_APPEND) {
			for (uint32_t j = 0; j < m->iov_count; j++) {
				if (m->iov[j].iov_len)
					memcpy(to, m->iov[j].iov_base, m->iov[j].iov_len);
				to += m->iov[j].iov_len;
			}
		} else if (len) {
			memcpy(to, m->val, len);
			to += len;
		}
	}
}

/* --- windows --- */

static int window(struct rreq *r, uint32_t rights, const struct iovec *iov, unsigned count,
                  struct mem_region *region)
{
	int rc;

	r->win.iov = iov;
	r->win.iov_count = count;
	r->win.rights = rights;
	r->win.region = region;
	rc = chan_window_open(r->rm->chan, &r->win);
	r->win_open = rc == 0;
	r->rm->fig.windows += rc == 0;
	return rc;
}

/* A window over a buffer of our own, @len long. */
static int bounce(struct rreq *r, uint32_t rights, size_t len)
{
	struct remote *rm = r->rm;

	if (!r->buf)
		r->buf = wire_bufs_get(&rm->bufs, len);
	if (!r->buf)
		return len > wire_bufs_max(&rm->bufs) ? -E2BIG : -EAGAIN;
	rm->fig.bounced++;
	r->wiov = (struct iovec){.iov_base = r->buf, .iov_len = len};
	return 0;
}

static int bounce_window(struct rreq *r, uint32_t rights, size_t len)
{
	int rc = bounce(r, rights, len);

	return rc < 0 ? rc : window(r, rights, &r->wiov, 1, r->rm->bufs.region);
}

/* Shows the memory of the op itself, where the channel can. -ENOTSUP: it can't. */
static int direct_window(struct rreq *r, uint32_t rights)
{
	const struct pst_op *op = r->op;
	int rc = -ENOTSUP;

	if (op->region || r->rm->chan->traits & FABRIC_ANY_MEMORY)
		rc = window(r, rights, op->iov, op->iov_count, op->region);
	if (rc == -ENOTSUP || rc == -ENOSPC) {
		if (op->region && r->rm->chan->traits & FABRIC_ANY_MEMORY)
			rc = window(r, rights, op->iov, op->iov_count, NULL);
	}
	return rc == -ENOSPC ? -ENOTSUP : rc;
}

/* What the server pulls: body and payload, in one window. */
static int window_out(struct rreq *r, const struct wire_op *w)
{
	int rc;

	r->win.cut = 0;
	if (!r->body_len && w->is & WIRE_OP_DATA_IN) {
		rc = direct_window(r, FABRIC_PEER_READS);
		if (rc != -ENOTSUP)
			return rc;
	}
	rc = bounce(r, FABRIC_PEER_READS, (size_t)r->body_len + r->payload);
	if (rc < 0)
		return rc;
	memcpy(r->buf, r->rm->body, r->body_len);
	r->win.cut = r->body_len; /* which is read first, alone */
	payload_copy(r->op, w, (uint8_t *)r->buf + r->body_len);
	return window(r, FABRIC_PEER_READS, &r->wiov, 1, r->rm->bufs.region);
}

/* Where the server puts what it answers. */
static int window_in(struct rreq *r, const struct wire_op *w, uint32_t len)
{
	int rc = -ENOTSUP;

	if (w->is & WIRE_OP_DATA_OUT)
		rc = direct_window(r, FABRIC_PEER_WRITES);
	return rc == -ENOTSUP ? bounce_window(r, FABRIC_PEER_WRITES, len) : rc;
}

/* --- the message --- */

static uint32_t crc_of(struct rreq *r, const struct wire_op *w)
{
	const struct pst_op *op = r->op;
	uint32_t crc = 0;

	if (r->crc_made)
		return r->crc;
	r->crc_made = true;
	if (w->is & WIRE_OP_DATA_IN)
		for (uint32_t i = 0; i < op->iov_count; i++)
			crc = crc32c(crc, op->iov[i].iov_base, op->iov[i].iov_len);
	else if (w->is & WIRE_OP_VAL_IN)
		crc = crc32c(0, op->val, op->val_cap);
	for (uint32_t i = 0; w->is & WIRE_OP_BATCH && i < op->mut_count; i++) {
		struct pst_op one = {.muts = &op->muts[i], .mut_count = 1};
		const struct pst_mut *m = &op->muts[i];
		uint64_t len = (uint64_t)wire_batch_payload(&one);

		if (len && m->iov && m->kind >= PST_ARRAY_WRITE && m->kind <= PST_ARRAY_APPEND)
			for (uint32_t j = 0; j < m->iov_count; j++)
				crc = crc32c(crc, m->iov[j].iov_base, m->iov[j].iov_len);
		else if (len)
			crc = crc32c(crc, m->val, len);
	}
	return r->crc = crc;
}

/* 0; -EAGAIN: all slots carry a change. */
static int slot_take(struct rreq *r)
{
	struct remote *rm = r->rm;

#ifdef PST_TEST_FAULTS
	if (rm->opts.plant == REMOTE_PLANT_NEW_TOKEN && r->has_slot && r->sent)
		r->seq = ++rm->slot[r->slot].seq;
#endif
	if (r->has_slot)
		return 0;
	if (!rm->slots_free)
		return -EAGAIN;
	r->slot = rm->slot_stack[--rm->slots_free];
	r->seq = ++rm->slot[r->slot].seq;
	rm->slot[r->slot].cont = r->op->cont;
	r->has_slot = true;
	return 0;
}

static __attribute__((noinline)) uint32_t wait_us(const struct rreq *r)
{
	uint64_t now = loop_now(r->rm->loop), left;

	if (!r->op->deadline_ns)
		return 0;
	left = r->op->deadline_ns > now ? (r->op->deadline_ns - now) / NSEC_PER_USEC : 0;
	/* One that is too far away for the header is kept here alone. */
	return left > UINT32_MAX ? 0 : (uint32_t)MAX(1ull, left);
}

static void head_fill(struct wire_req *m, struct rreq *r, const struct wire_op *w)
{
	const struct pst_op *op = r->op;

	*m = (struct wire_req){
	        .kind = WIRE_REQ,
	        .version = r->rm->version,
	        .opcode = op->opcode,
	        .flags = op->flags & r->rm->flags_ok,
	        .id = r->id,
	        .tenant = op->tenant,
	        .cont = op->cont,
	        .view = op->view,
	        .off = op->off,
	        .body_len = r->body_len,
	};
	if (w->is & WIRE_OP_TOKEN) {
		m->what |= WIRE_TOKEN;
		m->slot = r->slot;
		m->seq = r->seq;
	}
	if (w->is & WIRE_OP_OBJECT) {
		m->oid_hi = op->oid.hi;
		m->oid_lo = op->oid.lo;
	} else {
		m->oid_lo = op->ino;
	}
	if (op->want_values)
		m->what |= WIRE_VALUES;
	if (unlikely(r->shown))
		m->what |= WIRE_HANDLE;
	if (r->sent)
		m->what |= WIRE_RESENT;
	m->wait_us = wait_us(r);
}

/* The fields, into rm->body; a list goes on where it was. */
static int body_fill(struct rreq *r, const struct wire_op *w)
{
	struct remote *rm = r->rm;
	struct wire_out out = {
	        .at = rm->body, .end = rm->body + sizeof(rm->body), .version = rm->version};
	struct pst_op *op = r->op;
	const void *start = op->start;
	uint32_t start_len = op->start_len;
	bool ok;

	if (r->placed) {
		op->start = r->place;
		op->start_len = r->place_len;
	}
	ok = wire_body_put(&out, op);
	op->start = start;
	op->start_len = start_len;
	r->body_len = (uint32_t)(out.at - rm->body);
	return ok ? 0 : -E2BIG;
}

/* How long an answer's payload may be, and whether it needs a window. */
static uint32_t answer_len(const struct rreq *r, const struct wire_op *w, bool *ret_window)
{
	const struct chan *ch = r->rm->chan;
	uint32_t room = ch->msg_max - (uint32_t)sizeof(struct wire_resp);
	uint32_t len = 0;

	if (w->is & WIRE_OP_LIST) {
		*ret_window = r->op->want_values && r->op->opcode == PST_OP_KV_LIST;
		return *ret_window ? 128 * 1024 : MIN(room, 128u * 1024);
	}
	if (w->is & WIRE_OP_DATA_OUT)
		len = (uint32_t)r->op->len;
	else if (w->is & WIRE_OP_VAL_OUT)
		len = MIN(r->op->val_cap, PST_VALUE_MAX);
	*ret_window = len > MIN(room, ch->inline_max);
	return len;
}

static int send_inline(struct rreq *r, const struct wire_op *w, unsigned head_len)
{
	struct remote *rm = r->rm;
	struct iovec iov[16];
	unsigned n = 0;
	int rc;

	iov[n++] = (struct iovec){.iov_base = &rm->head, .iov_len = head_len};
	if (r->body_len)
		iov[n++] = (struct iovec){.iov_base = rm->body, .iov_len = r->body_len};
	if (r->payload) {
		rc = payload_iov(r->op, w, iov + n, ARRAY_LEN(iov) - n);
		if (rc == -E2BIG) { /* many small pieces: through a buffer */
			rc = bounce(r, 0, r->payload);
			if (rc < 0)
				return rc;
			payload_copy(r->op, w, r->buf);
			iov[n] = (struct iovec){.iov_base = r->buf, .iov_len = r->payload};
			rc = 1;
		}
		n += (unsigned)rc;
	}
	rc = chan_send(rm->chan, iov, n);
	if (!r->win_open && r->buf) {
		wire_bufs_put(&rm->bufs, r->buf);
		r->buf = NULL;
	}
	return rc;
}

static void desc_put(uint8_t *to, const struct fabric_desc *d)
{
	struct wire_desc w = {.key = d->key,
	                      .addr = d->addr,
	                      .len = d->len,
	                      .kind = d->kind,
	                      .device = d->device,
	                      .region = d->region};

	wire_desc_put(to, &w);
}

static bool fits(const struct rreq *r)
{
	const struct chan *ch = r->rm->chan;

	return sizeof(struct wire_req) + sizeof(struct wire_desc) +
	                       (r->shown ? WIRE_HANDLE_BYTES : 0) + r->body_len + r->payload <=
	               ch->msg_max &&
	       (r->payload <= ch->inline_max || r->payload <= 512);
}

/* The message is made where it is sent from, by this machine's bytes until it is whole. */
static int message(struct rreq *r, const struct wire_op *w)
{
	struct remote *rm = r->rm;
	struct wire_req *m = &rm->head.req;
	unsigned head_len = sizeof(struct wire_req);
	bool in_window = false;
	uint8_t what;
	int rc = 0;

	head_fill(m, r, w);
	m->len = r->payload;
	if (to_server(w)) {
		if (r->payload) {
			m->what |= WIRE_CRC;
			m->crc = crc_of(r, w);
		}
		if (!fits(r)) {
			m->what |= WIRE_WINDOW | WIRE_PULL;
			rc = r->win_open ? 0 : window_out(r, w);
		}
	} else if (w->is & WIRE_OP_TOKEN && !fits(r)) { /* two long paths */
		m->what |= WIRE_WINDOW | WIRE_PULL;
		rc = r->win_open ? 0 : window_out(r, w);
	} else {
		m->len = answer_len(r, w, &in_window);
		if (m->len && !(r->op->flags & PST_F_NOVERIFY))
			m->what |= WIRE_CRC;
		if (in_window) {
			m->what |= WIRE_WINDOW;
			rc = r->win_open ? 0 : window_in(r, w, m->len);
		}
	}
	if (unlikely(rc < 0))
		return rc;
	if (m->what & WIRE_PULL && unlikely(rm->chan->traits & FABRIC_SEALED))
		m->what |= WIRE_MARKED;
	what = m->what;
	wire_req_swap(m);
	if (what & WIRE_WINDOW) {
		desc_put(rm->head.desc, &r->win.desc);
		head_len += sizeof(struct wire_desc);
	}
	for (unsigned k = 0; what & WIRE_MARKED && k < 2; k++, head_len += WIRE_MARK_BYTES)
		seal_mark_put(rm->head.marks[k], &r->win.mark[k]);
	if (unlikely(what & WIRE_HANDLE)) {
		memcpy((uint8_t *)&rm->head + head_len, rm->handle, sizeof(rm->handle));
		head_len += sizeof(rm->handle);
	}
	if (what & WIRE_PULL) {
		struct iovec iov = {&rm->head, head_len};

		rc = chan_send(rm->chan, &iov, 1);
		/* Whoever has more of these to send is busy with their data for a while. */
		if (rc == 0)
			chan_flush(rm->chan);
		return rc;
	}
	return send_inline(r, w, head_len);
}

/* All that it carries. */
static int send_all(struct rreq *r, const struct wire_op *w)
{
	int rc;

	r->body_len = 0;
	r->payload = to_server(w) ? payload_of(r->op, w) : 0;
	if (w->takes && (!(w->is & WIRE_OP_HOT) || r->op->name_len)) {
		rc = body_fill(r, w);
		if (rc < 0)
			return rc;
	}
	return message(r, w);
}

/* What it names, by its number, not by the name that was asked for. */
static int send_confirm(struct rreq *r, const struct wire_op *w)
{
	struct pst_op *op = r->op;
	uint64_t ino = op->ino;
	uint32_t name_len = op->name_len;
	int rc;

	op->ino = r->confirm;
	op->name_len = 0;
	rc = send_all(r, w);
	op->ino = ino;
	op->name_len = name_len;
	return rc;
}

static void sent(struct rreq *r)
{
	r->sent = true;
	r->answered = false;
	r->state = RREQ_SENT;
	r->counted = true;
	r->rm->inflight++;
}

static bool is_short(const struct remote *rm, const struct pst_op *op)
{
	return op->opcode == PST_OP_READ && op->iov_count == 1 && op->len &&
	       op->iov->iov_len == op->len && op->len <= rm->inline_max && !op->token.session &&
	       !op->want_values;
}

/* message() for it. */
static int send_short(struct remote *rm, const struct rreq *r, const struct pst_op *op)
{
	/* All of it, field by field: most compilers clear what has gaps by a loop. */
	struct wire_req room;
	const struct wire_req m = {
	        .kind = WIRE_REQ,
	        .version = rm->version,
	        .opcode = PST_OP_READ,
	        .what = op->flags & PST_F_NOVERIFY ? 0 : WIRE_CRC,
	        .flags = op->flags & rm->flags_ok,
	        .id = r->id,
	        .slot = 0,
	        .wait_us = unlikely(op->deadline_ns) ? wait_us(r) : 0,
	        .seq = 0,
	        .tenant = op->tenant,
	        .server = 0,
	        .replica = 0,
	        .map_epoch = 0,
	        .zero = 0,
	        .cont = op->cont,
	        .len = (uint32_t)op->len,
	        .view = op->view,
	        .oid_hi = op->oid.hi,
	        .oid_lo = op->oid.lo,
	        .off = op->off,
	        .crc = 0,
	        .body_len = 0,
	};
	struct iovec iov = {(void *)(uintptr_t)wire_req_show(&room, &m), sizeof(m)};

	return chan_send(rm->chan, &iov, 1);
}

bool remote_submit_short(struct remote *rm, struct pst_op *op)
{
	struct rreq *r;

	/* A deadline before the next tick has to be armed. */
	if (unlikely(!is_short(rm, op) || rm->state != REMOTE_UP || !list_empty(&rm->wait) ||
	             rm->inflight >= rm->depth || !rm->free ||
	             (op->deadline_ns && op->deadline_ns < rm->tick.deadline_ns)))
		return false;
	r = rreq_get(rm, op);
	if (likely(send_short(rm, r, op) == 0))
		sent(r);
	else
		list_push(&rm->wait, &r->wait);
	return true;
}

static bool watch_lost(const struct rreq *r)
{
#ifdef PST_TEST_FAULTS
	return r->rm->opts.plant == REMOTE_PLANT_LOSE_WATCH && r->sent &&
	       r->op->opcode == PST_OP_WATCH;
#else
	return false;
#endif
}

int rreq_send(struct rreq *r)
{
	struct remote *rm = r->rm;
	const struct wire_op *w = wire_op_of(r->op->opcode);
	int rc;

	if (unlikely(r->closes) && handles_must_wait(r))
		return -EAGAIN;
	r->shown = false;
	if (w->is & WIRE_OP_INODE && (r->op->ino | r->confirm) &&
	    unlikely(rm->h.known || rm->h.any_lost)) {
		rc = handles_show(r);
		if (rc < 0)
			return rc;
	}
	if (w->is & WIRE_OP_TOKEN) {
		rc = slot_take(r);
		if (unlikely(rc < 0))
			return rc;
	}
	if (unlikely(r->fresh || r->closes) && !r->sent)
		handles_sent(r);
	if (unlikely(watch_lost(r)))
		rc = 0;
	else
		rc = unlikely(r->confirm) ? send_confirm(r, w) : send_all(r, w);
	if (unlikely(rc < 0)) {
		/* A channel that is down: its down() comes, and sends it again. */
		return rc == -E2BIG || rc == -EINVAL ? rc : -EAGAIN;
	}
	rm->fig.resent += r->sent;
	sent(r);
	return 0;
}

bool remote_note(struct remote *rm, uint8_t kind, uint64_t id)
{
	uint8_t msg[sizeof(struct wire_note)];
	struct iovec iov = {msg, sizeof(msg)};

	wire_note_make(msg, rm->version, kind, 0, id);
	return chan_send(rm->chan, &iov, 1) == 0;
}
