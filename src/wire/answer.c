/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * answer - how a request ends: its payload goes into the client's window or into the message, and
 * the answer after it. Where a message may overtake a write (no FABRIC_WRITE_THEN_MSG) the answer
 * waits until the write has ended.
 */
#include "fs/fs.h"
#include "wire/listener_int.h"

static bool tell(struct sreq *r, const struct wire_bad_block *bad);

/* --- the end --- */

/* What a read that was answered has not. Out of line: what it needs would be saved and restored by all. */
static __attribute__((noinline)) void more_free(struct sreq *r)
{
	if (r->admitted) {
		r->admitted = false;
		(void)session_end(&r->s);
	}
	if (r->cold) {
		r->cold->owner = NULL; /* figures.c looks at those that have one */
		list_push_front(&r->conn->l->colds, &r->cold->link);
		r->cold = NULL;
	}
}

void sreq_free(struct sreq *r)
{
	struct conn *c;

	pst_assert_slow(r->state != SREQ_FREE && r->conn->count);
	if (unlikely(r->admitted || r->cold))
		more_free(r);
	pst_assert_slow(r->s.state == REQ_NONE); /* it is on no list any more */
	if (r->buf) {
		wire_bufs_put(&r->conn->l->bufs, r->buf);
		r->buf = NULL;
	}
	c = r->conn;
	r->state = SREQ_FREE;
	if (unlikely(r->answered)) { /* rule 1 */
		r->next_free = c->spare;
		c->spare = r;
	} else {
		r->next_free = c->free;
		c->free = r;
	}
	c->count--;
	serve_drain(c->l);
	if (unlikely(c->state == CONN_GONE))
		conn_req_gone(c);
}

/* --- what goes back --- */

static uint32_t payload_len(const struct sreq *r)
{
	const struct pst_op *op = &r->s.op;
	const struct wire_op *w = wire_op_of(op->opcode);

	if (!w || op->status < 0)
		return 0;
	if (w->is & (WIRE_OP_DATA_OUT | WIRE_OP_VAL_OUT))
		return (uint32_t)MIN(op->ret_len, r->len);
	if (w->is & WIRE_OP_LIST)
		return (uint32_t)(r->page.at - (uint8_t *)r->buf);
	return 0;
}

/* Where numbers are not enough for a client, it gets the handle with the number. */
static void handle_make(struct sreq *r, struct wire_out *out)
{
	uint8_t handle[WIRE_HANDLE_BYTES];

	if (out->version >= 2 && r->admitted && session_wants_handles(&r->s) &&
	    fs_ino_kind(r->s.op.ino) != FS_KIND_DIR && session_handle(&r->s, handle) == 0)
		pst_assert(wire_handle_put(out, handle));
}

/* Into the decoder's memory, which is not needed any more. */
static uint32_t body_make(struct sreq *r)
{
	const struct wire_op *w = wire_op_of(r->s.op.opcode);
	struct wire_out out;

	if (!w || !w->gives || !r->cold || r->s.op.status < 0)
		return 0;
	out = (struct wire_out){.at = r->cold->body,
	                        .end = r->cold->body + WIRE_BODY_MAX,
	                        .version = r->conn->version};
	pst_assert(wire_answer_put(&out, &r->s.op));
	if (w->gives & WIRE_BIT(WIRE_F_HANDLE))
		handle_make(r, &out);
	return (uint32_t)(out.at - r->cold->body);
}

static uint32_t inline_room(const struct sreq *r)
{
	uint32_t used = (uint32_t)sizeof(struct wire_resp) + r->resp.body_len;
	uint32_t max = sreq_chan(r)->msg_max;

	return max > used ? max - used : 0;
}

static const void *data_of(const struct sreq *r)
{
	return unlikely(r->s.op.lent) ? r->s.op.lent : r->buf;
}

/* What was lent is needed for longer than that. */
static void data_keep(struct sreq *r)
{
	if (likely(!r->s.op.lent))
		return;
	memcpy(r->buf, r->s.op.lent, r->resp.len);
	r->s.op.lent = NULL;
}

/* By what the store has verified the data with, where it says so: the client looks at the very
 * checksums that were stored, and nobody at the data once more. */
static __attribute__((noinline)) uint32_t crc_of_pieces(const struct sreq *r, uint32_t len)
{
	const struct pst_op *op = &r->s.op;
	uint32_t crc;

	if (!op->csum_made || len % CRC_PIECE)
		return crc32c(0, data_of(r), len);
	crc = op->csum[0];
	for (uint32_t i = 1; i < len / CRC_PIECE; i++)
		crc = crc32c_join(crc, op->csum[i]);
	return crc;
}

static inline uint32_t crc_of(const struct sreq *r, uint32_t len)
{
	return likely(r->s.op.csum_made && len == CRC_PIECE) ? r->s.op.csum[0]
	                                                     : crc_of_pieces(r, len);
}

static void resp_make(struct sreq *r)
{
	const struct pst_op *op = &r->s.op;
	const struct wire_op *w = wire_op_of(op->opcode);
	uint32_t len = payload_len(r);

	r->resp = (struct wire_resp){
	        .kind = WIRE_RESP,
	        .version = r->conn->version,
	        .opcode = op->opcode,
	        .status = op->status,
	        .id = r->id,
	        .ret_len = op->ret_len,
	        .ret_off = op->ret_off,
	        .word = w && w->is & WIRE_OP_CONT ? op->cont : op->ino,
	        .index = op->ret_index,
	        .len = len,
	};
	if (r->more)
		r->resp.what |= WIRE_MORE;
	if (len && r->what & WIRE_CRC) {
		r->resp.what |= WIRE_CRC;
		r->resp.crc = crc_of(r, len);
	}
	r->resp.body_len = body_make(r);
}

/* resp_make() for data that was read. */
static void resp_make_read(struct sreq *r)
{
	const struct pst_op *op = &r->s.op;
	uint32_t len = (uint32_t)MIN(op->ret_len, r->len);

	r->resp = (struct wire_resp){
	        .kind = WIRE_RESP,
	        .version = r->conn->version,
	        .opcode = PST_OP_READ,
	        .id = r->id,
	        .ret_len = op->ret_len,
	        .ret_off = op->ret_off,
	        .word = op->ino,
	        .index = op->ret_index,
	        .len = len,
	};
	if (len && r->what & WIRE_CRC) {
		r->resp.what = WIRE_CRC;
		r->resp.crc = crc_of(r, len);
	}
}

/* --- sending --- */

static void finish(struct sreq *r)
{
	r->conn->l->fig.answers++;
	figures_answered(r);
	if (likely(!r->pushing)) {
		sreq_free(r);
		return;
	}
	r->answered = true;
	r->conn->made--; /* rule 1 */
}

static void wait_for_room(struct sreq *r)
{
	data_keep(r);
	list_push(&r->conn->out, &r->wait);
	listener_tick_arm(r->conn->l);
}

static void send_answer(struct sreq *r)
{
	uint32_t payload = r->resp.what & WIRE_PUSHED ? 0 : r->resp.len;
	struct wire_resp room;
	struct iovec iov[4];
	uint8_t mark[SEAL_MARK_BYTES];
	unsigned n = 1;
	int rc;

	r->state = SREQ_SEND;
	if (likely(r->admitted)) {
		/* Who was revoked meanwhile hears that, and sees no data. */
		int status = session_end(&r->s);

		r->admitted = false;
		if (unlikely(status != r->resp.status)) {
			r->resp.status = status;
			r->resp.what = 0;
			r->resp.len = r->resp.body_len = r->resp.crc = 0;
			payload = 0;
		}
	}
	iov[0] = (struct iovec){(void *)(uintptr_t)wire_resp_show(&room, &r->resp), sizeof(room)};
	if (unlikely(r->resp.what & WIRE_MARKED)) {
		seal_mark_put(mark, &r->x.mark);
		iov[n++] = (struct iovec){mark, sizeof(mark)};
	}
	if (r->resp.body_len)
		iov[n++] = (struct iovec){.iov_base = r->cold->body, .iov_len = r->resp.body_len};
	if (payload)
		iov[n++] = (struct iovec){(void *)(uintptr_t)data_of(r), payload};
	rc = chan_send(sreq_chan(r), iov, n);
	if (likely(rc == 0)) {
		r->conn->l->fig.bytes_out += payload;
		finish(r);
	} else if (rc == -EAGAIN) {
		wait_for_room(r);
	} else {
		/* It is going down, or the client's window and message are both too small. */
		if (rc == -EMSGSIZE)
			conn_bad(r->conn, "an answer does not fit");
		finish(r);
	}
}

static void pushed(struct chan_xfer *x, int status)
{
	struct sreq *r = container_of(x, struct sreq, x);

	r->pushing = false;
	if (r->answered || !r->conn->chan) {
		sreq_free(r);
		return;
	}
	r->mark.sent = loop_now(r->conn->l->loop);
	if (status < 0 && !(sreq_chan(r)->traits & FABRIC_WRITE_THEN_MSG)) {
		r->resp.status = r->s.op.status = -EFAULT;
		r->resp.what = 0;
		r->resp.len = r->resp.body_len = r->resp.crc = 0;
	}
	if (r->state == SREQ_PUSH)
		send_answer(r);
}

static void push(struct sreq *r)
{
	struct chan *ch = sreq_chan(r);
	bool lent;
	int rc;

	r->state = SREQ_PUSH;
	if (!(ch->traits & FABRIC_LENT))
		data_keep(r);
	lent = r->s.op.lent;
	r->xiov = (struct iovec){(void *)(uintptr_t)data_of(r), r->resp.len};
	r->x = (struct chan_xfer){.done = pushed,
	                          .iov = &r->xiov,
	                          .iov_count = 1,
	                          .region = lent ? NULL : r->conn->l->bufs.region,
	                          .keep = lent ? r->buf : NULL,
	                          .desc = r->desc,
	                          .len = r->resp.len,
	                          .scratch = true};
	rc = chan_write(ch, &r->x);
	if (rc == -EAGAIN) {
		wait_for_room(r);
		return;
	}
	if (rc < 0) {
		if (rc == -ERANGE)
			conn_bad(r->conn, "a request's window is too short");
		else
			conn_doom(r->conn, rc);
		return;
	}
	r->s.op.lent = NULL; /* what has not left lies in r->buf */
	r->pushing = true;
	listener_tick_arm(r->conn->l);
	r->resp.what |= ch->traits & FABRIC_SEALED ? WIRE_PUSHED | WIRE_MARKED : WIRE_PUSHED;
	r->conn->l->fig.bytes_out += r->resp.len;
	if (ch->traits & FABRIC_WRITE_THEN_MSG || r->x.ahead)
		send_answer(r);
#ifdef PST_TEST_FAULTS
	else if (r->conn->l->opts.plant == LISTENER_PLANT_ANSWER_EARLY)
		send_answer(r); /* the planted bug */
#endif
}

void answer_op(struct sreq *r)
{
	if (unlikely(!sreq_chan(r) || r->conn->state != CONN_UP)) {
		if (sreq_chan(r)) { /* doomed: it ends with the connection */
			r->state = SREQ_SEND;
			return;
		}
		sreq_free(r);
		return;
	}
	r->mark.done = r->mark.sent = loop_now(r->conn->l->loop);
	if (likely(r->s.op.opcode == PST_OP_READ && !r->s.op.status && !r->cold &&
	           !(r->what & WIRE_WINDOW))) {
		resp_make_read(r);
		send_answer(r);
		return;
	}
	if (r->cold && r->s.op.opcode == PST_OP_SCRUB)
		figures_scrub_ended(r);
	if (r->cold && r->s.op.scrub)
		for (unsigned i = 0; i < r->cold->bad_count; i++)
			(void)tell(r, &r->cold->bad[i]);
	resp_make(r);
	if (r->resp.len > inline_room(r) && r->what & WIRE_WINDOW && !(r->what & WIRE_PULL)) {
		r->conn->lends = r->s.op.lent ? r->s.op.cont : 0; /* rule 6 */
		push(r);
	} else {
		send_answer(r);
	}
}

void answer_again(struct sreq *r, int why)
{
	r->conn->l->fig.again++;
	r->mark.done = r->mark.sent = r->mark.born; /* not counted */
	r->s.op.status = why;
	resp_make(r);
	r->resp.status = why;
	r->resp.what = WIRE_AGAIN;
	r->resp.len = r->resp.body_len = 0;
	if (r->admitted) {
		r->admitted = false;
		(void)session_end(&r->s);
	}
	send_answer(r);
}

void answer_out(struct conn *c)
{
	struct list todo;

	if (c->pong_due) {
		uint8_t note[sizeof(struct wire_note)];
		struct iovec iov = {note, sizeof(note)};

		wire_note_make(note, c->version, WIRE_PONG, 0, c->pong_id);
		c->pong_due = chan_send(c->chan, &iov, 1) == -EAGAIN;
	}
	list_init(&todo);
	list_splice(&todo, &c->out);
	while (!list_empty(&todo) && c->chan && c->state == CONN_UP) {
		struct sreq *r = list_first(&todo, struct sreq, wait);

		list_del(&r->wait);
		r->mark.sent = loop_now(c->l->loop);
		if (r->state == SREQ_PUSH) {
			push(r);
		} else if (r->state == SREQ_SEND) {
			send_answer(r);
		} else { /* a pull that found no place */
			int rc = chan_read(c->chan, &r->x);

			if (rc == -EAGAIN)
				wait_for_room(r);
			else if (rc < 0)
				conn_doom(c, rc);
			else
				r->pushing = true;
		}
		if (!list_empty(&c->out)) /* no more room: those behind keep their places */
			break;
	}
	list_splice(&todo, &c->out);
	list_splice(&c->out, &todo);
}

/* --- pages --- */

bool answer_entry(struct pst_op *op, const struct pst_entry *e)
{
	struct sreq *r = container_of(op, struct sreq, s.op);
	uint8_t handle[WIRE_HANDLE_BYTES];
	bool has = op->opcode == PST_OP_READDIR && e->attr && r->page.version >= 2 &&
	           session_wants_handles(&r->s) && fs_ino_kind(e->id) != FS_KIND_DIR &&
	           session_handle_entry(&r->s, e->id, handle) == 0;

	if (wire_entry_put(&r->page, op, e, has ? handle : NULL))
		return true;
	r->more = true;
	return false;
}

/* --- scrubs --- */

static bool tell(struct sreq *r, const struct wire_bad_block *bad)
{
	uint8_t msg[WIRE_EVENT_MAX];
	struct iovec iov = {msg, 0};

	iov.iov_len =
	        wire_scrub_event_put(msg, sizeof(msg), r->conn->version, r->id, r->s.op.scrub, bad);
	return chan_send(r->conn->chan, &iov, 1) == 0;
}

void answer_bad_block(struct pst_scrub_report *rep, uint32_t cont, struct pst_oid oid, uint64_t off,
                      int status)
{
	struct wire_scratch *s = container_of(rep, struct wire_scratch, scrub);
	struct cold *cold = container_of(s, struct cold, scratch);

	if (cold->bad_count < BAD_BLOCKS_MAX)
		cold->bad[cold->bad_count++] = (struct wire_bad_block){.cont = cont,
		                                                       .oid = oid,
		                                                       .off = off,
		                                                       .view = rep->bad_view,
		                                                       .status = status};
}

bool answer_progress(struct conn *c)
{
	bool any = false;
	struct sreq *r;

	for (r = c->all; r; r = r->next_made) {
		unsigned told = 0;

		if (r->s.op.opcode != PST_OP_SCRUB || r->state != SREQ_RUN)
			continue;
		any = true;
		while (told < r->cold->bad_count && tell(r, &r->cold->bad[told]))
			told++;
		r->cold->bad_count -= told;
		memmove(r->cold->bad, r->cold->bad + told,
		        r->cold->bad_count * sizeof(r->cold->bad[0]));
		if (!told)
			(void)tell(r, NULL); /* no credit: the next one tells as much */
	}
	return any;
}
