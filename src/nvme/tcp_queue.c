/* SPDX-License-Identifier: BSD-3-Clause */
/* One connection to a target: its set-up, commands out, answers and data in. See tcp_host.h. */
#include "nvme/tcp_host.h"

#include <stdio.h>

/* --- slots --- */

struct tcp_slot *tcp_slot_get(struct tcp_queue *q)
{
	struct list *n = list_pop(&q->free);
	struct tcp_slot *s = n ? list_entry(n, struct tcp_slot, link) : NULL;

	if (!s)
		return NULL;
	s->busy = true;
	s->answered = s->bad_digest = s->h2c_busy = false;
	s->internal = NULL;
	s->len = s->moved = s->r2t_left = 0;
	s->pieces = s->sends = 0;
	q->used++;
	return s;
}

/* The answer came, and the kernel has all that was sent: to who asked. */
static void slot_end(struct tcp_slot *s, bool lost)
{
	struct tcp_queue *q = s->q;
	void (*internal)(struct tcp_host *, struct tcp_slot *, const struct nvme_cqe *) =
	        s->internal;
	uint16_t cid = s->cid;

	s->busy = false;
	q->used--;
	if (!lost && !internal)
		tcp_learn(q->h, s);
	if (internal)
		internal(q->h, s, lost ? NULL : &s->cqe);
	else if (!lost)
		tcp_post(q, cid, &s->cqe);
	list_push(&q->free, &s->link);
}

static void slot_answered(struct tcp_slot *s, const struct nvme_cqe *cqe)
{
	s->cqe = *cqe;
	/* Success, but not all of the data: then it is none. */
	if (!(le16_get(cqe->status) >> 1) && s->dir == NVME_DIR_TO_HOST && s->moved != s->len)
		s->cqe.status = le16_make(NVME_SC_DATA_TRANSFER << 1);
	if (s->bad_digest)
		s->cqe.status = le16_make(NVME_SC_TRANSPORT_TRANSIENT << 1);
	s->answered = true;
	if (!s->sends)
		slot_end(s, false);
}

static void sent(struct tcp_slot *s)
{
	s->sends--;
	if (s->q->state != TQ_CLOSED && s->answered && !s->sends)
		slot_end(s, false);
}

/* --- commands out --- */

static void cmd_sent(struct net_send *m, int status)
{
	sent(container_of(m, struct tcp_slot, send));
}

static void queue_send(struct tcp_slot *s, struct net_send *m, unsigned iovs,
                       void (*done)(struct net_send *, int))
{
	*m = (struct net_send){.done = done, .iov = s->tx, .iov_count = iovs};
	if (s->q->sock && net_sock_send(s->q->sock, m) == 0)
		s->sends++;
	else
		tcp_queue_lost(s->q);
}

/* Data behind the header in tx[0]: pieces from @off on, and their digest. */
static unsigned tx_data(struct tcp_slot *s, uint32_t off, uint32_t len)
{
	uint64_t got;
	unsigned n = iov_slice(s->data, s->pieces, off, len, &s->tx[1], TCP_PIECES_MAX, &got);

	pst_assert(got == len);
	if (s->q->rules.ddgst) {
		s->ddgst = le32_make(tcp_digest(&s->tx[1], n));
		s->tx[1 + n++] = (struct iovec){.iov_base = &s->ddgst, .iov_len = sizeof(s->ddgst)};
	}
	return 1 + n;
}

void tcp_slot_send(struct tcp_slot *s)
{
	struct tcp_queue *q = s->q;
	struct nvme_cmd *c = &s->cmd.cmd;
	bool out = s->dir == NVME_DIR_TO_CTRLR, inside = out && s->len <= q->icd_max;
	unsigned n = 1;

	c->cid = le16_make(s->index);
	c->flags = (uint8_t)((c->flags & ~NVME_CMD_PSDT_MASK) | NVME_CMD_PSDT_SGL);
	c->sgl = (struct nvme_sgl_desc){
	        .len = le32_make(s->len),
	        .type = inside ? NVME_SGL_TYPE(NVME_SGL_DATA, NVME_SGL_OFFSET)
	                       : NVME_SGL_TYPE(NVME_SGL_TRANSPORT, NVME_SGL_TRANSPORT_A)};
	s->tx[0].iov_base = s->cmd_room;
	s->tx[0].iov_len = tcp_pdu_make(&q->rules, &s->cmd.hdr, NVME_TCP_CMD, sizeof(s->cmd), 0,
	                                inside ? s->len : 0);
	if (inside) {
		n = tx_data(s, 0, s->len);
		s->moved = s->len;
	}
	queue_send(s, &s->send, n, cmd_sent);
}

static void h2c_next(struct tcp_slot *s);

static void h2c_sent(struct net_send *m, int status)
{
	struct tcp_slot *s = container_of(m, struct tcp_slot, h2c);

	s->h2c_busy = false;
	if (!status && s->r2t_left && s->q->sock) {
		h2c_next(s);
		s->sends--;
		return;
	}
	sent(s);
}

/* The next part of what an R2T asked for. The one before is with the kernel: tx is free. */
static void h2c_next(struct tcp_slot *s)
{
	struct tcp_queue *q = s->q;
	uint32_t len = MIN(s->r2t_left, q->maxh2c), off = s->r2t_off;

	memset(&s->h2c_pdu, 0, sizeof(s->h2c_pdu));
	s->h2c_pdu.cccid = le16_make(s->index);
	s->h2c_pdu.ttag = le16_make(s->ttag);
	s->h2c_pdu.datao = le32_make(off);
	s->h2c_pdu.datal = le32_make(len);
	s->tx[0].iov_base = s->h2c_room;
	s->tx[0].iov_len =
	        tcp_pdu_make(&q->rules, &s->h2c_pdu.hdr, NVME_TCP_H2C_DATA, sizeof(s->h2c_pdu),
	                     len == s->r2t_left ? NVME_TCP_LAST : 0, len);
	s->r2t_off += len;
	s->r2t_left -= len;
	s->moved += len;
	s->h2c_busy = true;
	queue_send(s, &s->h2c, tx_data(s, off, len), h2c_sent);
}

/* An entry of the submission ring, read once: it is the driver's own, in this process. */
static bool take(struct tcp_queue *q)
{
	const struct nvme_cmd *e = &q->sq[q->head];
	struct tcp_slot *s;
	uint16_t st;

	if (!q->qid && tcp_admin_take(q, e))
		return true;
	s = tcp_slot_get(q);
	if (!s)
		return false;
	s->cmd.cmd = *e;
	s->cid = le16_get(e->cid);
	st = tcp_data_map(s);
	if (st) {
		struct nvme_cqe cqe = {.status = le16_make((uint16_t)(st << 1))};

		s->dir = NVME_DIR_NONE;
		slot_answered(s, &cqe);
		return true;
	}
	tcp_slot_send(s);
	return true;
}

int tcp_queue_poll(struct tcp_queue *q)
{
	uint32_t tail = __atomic_load_n(&q->h->db[2 * q->qid], __ATOMIC_ACQUIRE);
	int did = 0;

	while (q->state == TQ_LIVE && q->sq && q->head != tail && take(q)) {
		q->head = q->head + 1 == q->size ? 0 : q->head + 1;
		did++;
	}
	return did;
}

/* --- answers and data in --- */

static size_t broken(struct tcp_queue *q, uint16_t fes, uint32_t fei, const void *bytes, size_t len)
{
	struct tcp_fault f = {fes, fei};
	uint8_t buf[NVME_TCP_TERM_MAX];
	struct iovec v = {.iov_base = buf};
	struct net_sock *s = q->sock;

	log_warn("nvme: %s: queue %u: the target broke the rules (error %u at %u)", q->h->addr,
	         q->qid, fes, fei);
	v.iov_len = tcp_term_make(buf, false, &f, bytes, len);
	if (net_sock_write(s, &v, 1) == 0) {
		q->sock = NULL;
		net_sock_close(s);
	}
	tcp_queue_lost(q);
	return 0;
}

static struct tcp_slot *slot_of(struct tcp_queue *q, le16 id)
{
	uint16_t i = le16_get(id);

	return i < q->slots && q->slot[i].busy && !q->slot[i].answered ? &q->slot[i] : NULL;
}

static size_t on_response(struct tcp_queue *q, const struct tcp_pdu *p)
{
	struct tcp_slot *s = slot_of(q, p->resp.cqe.cid);

	if (!s)
		return broken(q, NVME_TCP_FES_HEADER, 20, p->bytes, p->hdr.hlen);
	slot_answered(s, &p->resp.cqe);
	return p->head_bytes;
}

/* The next pieces of what is being received; a destination has a limited number. */
static void receive_more(struct tcp_queue *q)
{
	struct tcp_slot *s = q->rx;
	struct iovec v[NET_IOV_MAX];
	uint64_t got;
	unsigned n = iov_slice(s->data, s->pieces, q->rx_off + q->rx_done, q->rx_len - q->rx_done,
	                       v, NET_IOV_MAX - 1, &got);

	q->rx_done += (uint32_t)got;
	if (q->rx_done == q->rx_len && q->rx_ddgst)
		v[n++] = (struct iovec){.iov_base = &q->rx_digest, .iov_len = sizeof(q->rx_digest)};
	pst_assert(n);
	if (net_sock_recv_into(q->sock, v, n))
		tcp_queue_lost(q);
}

static size_t on_c2h(struct tcp_queue *q, const struct tcp_pdu *p)
{
	struct tcp_slot *s = slot_of(q, p->data.cccid);
	uint32_t off = le32_get(p->data.datao), len = le32_get(p->data.datal);
	bool last = p->hdr.flags & NVME_TCP_LAST, success = p->hdr.flags & NVME_TCP_SUCCESS;

	if (!s || s->dir != NVME_DIR_TO_HOST)
		return broken(q, NVME_TCP_FES_HEADER, 8, p->bytes, p->hdr.hlen);
	if (off != s->moved || !len || len != p->data_bytes || len > s->len - off)
		return broken(q, NVME_TCP_FES_RANGE, 12, p->bytes, p->hdr.hlen);
	if (success && (!last || off + len != s->len))
		return broken(q, NVME_TCP_FES_HEADER, 1, p->bytes, p->hdr.hlen);
	q->rx = s;
	q->rx_off = off;
	q->rx_len = len;
	q->rx_done = 0;
	q->rx_ddgst = p->ddgst;
	q->rx_success = success;
	receive_more(q);
	return p->head_bytes;
}

static size_t on_r2t(struct tcp_queue *q, const struct tcp_pdu *p)
{
	struct tcp_slot *s = slot_of(q, p->r2t.cccid);
	uint32_t off = le32_get(p->r2t.r2to), len = le32_get(p->r2t.r2tl);

	if (!s || s->dir != NVME_DIR_TO_CTRLR)
		return broken(q, NVME_TCP_FES_HEADER, 8, p->bytes, p->hdr.hlen);
	if (s->r2t_left) /* MAXR2T is 0: one at a time */
		return broken(q, NVME_TCP_FES_LIMIT, 0, p->bytes, p->hdr.hlen);
	if (off != s->moved || !len || len > s->len - off)
		return broken(q, NVME_TCP_FES_RANGE, 12, p->bytes, p->hdr.hlen);
	s->ttag = le16_get(p->r2t.ttag);
	s->r2t_off = off;
	s->r2t_left = len;
	if (!s->h2c_busy)
		h2c_next(s); /* else when the kernel has what is before it */
	return p->head_bytes;
}

static void on_filled(struct net_sock *sock)
{
	struct tcp_queue *q = net_sock_user(sock);
	struct tcp_slot *s = q->rx;
	struct nvme_cqe ok = {0};

	if (q->rx_done < q->rx_len) {
		receive_more(q);
		return;
	}
	q->rx = NULL;
	if (q->rx_ddgst) {
		struct iovec v[TCP_PIECES_MAX];
		uint64_t got;
		unsigned n = iov_slice(s->data, s->pieces, q->rx_off, q->rx_len, v, TCP_PIECES_MAX,
		                       &got);

		if (tcp_digest(v, n) != le32_get(q->rx_digest)) {
			log_warn("nvme: %s: queue %u: data with a wrong digest", q->h->addr,
			         q->qid);
			s->bad_digest = true;
		}
	}
	s->moved += q->rx_len;
	if (q->rx_success)
		slot_answered(s, &ok);
}

/* --- the beginning --- */

static void connect_done(struct tcp_host *h, struct tcp_slot *s, const struct nvme_cqe *cqe)
{
	struct tcp_queue *q = s->q;

	if (!cqe)
		return; /* told as the loss of the queue */
	q->error = (uint16_t)(le16_get(cqe->status) >> 1);
	if (q->error) {
		snprintf(h->sentence, sizeof(h->sentence),
		         "the target refuses queue %u: %s (status %#x, %#x)", q->qid,
		         nvme_status_text(q->error, true), NVME_STATUS_CODE(q->error),
		         le32_get(cqe->dw0));
		tcp_queue_lost(q);
		return;
	}
	loop_timer_disarm(h->t.loop, &q->setup);
	if (!q->qid)
		h->cntlid = (uint16_t)le32_get(cqe->dw0);
	q->state = TQ_LIVE;
	tcp_queue_up(q);
}

static void connect_send(struct tcp_queue *q)
{
	struct tcp_host *h = q->h;
	struct tcp_slot *s = tcp_slot_get(q);
	struct nvme_connect_cmd c = {.opc = NVME_ADMIN_FABRICS,
	                             .fctype = NVME_FC_CONNECT,
	                             .qid = le16_make(q->qid),
	                             .sqsize = le16_make((uint16_t)(q->size - 1)),
	                             .cattr = NVME_CATTR_NO_SQ_FLOW,
	                             .kato = le32_make(q->qid ? 0 : h->kato_ms)};

	memset(&q->connect, 0, sizeof(q->connect));
	memcpy(q->connect.hostid, nvme_host_id(), sizeof(q->connect.hostid));
	q->connect.cntlid = le16_make(q->qid ? h->cntlid : NVME_CNTLID_DYNAMIC);
	snprintf(q->connect.subnqn, sizeof(q->connect.subnqn), "%s", h->subnqn);
	snprintf(q->connect.hostnqn, sizeof(q->connect.hostnqn), "%s", h->hostnqn);
	memcpy(&s->cmd.cmd, &c, sizeof(c));
	s->dir = NVME_DIR_TO_CTRLR;
	s->len = sizeof(q->connect);
	s->data[0] = (struct iovec){.iov_base = &q->connect, .iov_len = sizeof(q->connect)};
	s->pieces = 1;
	s->internal = connect_done;
	q->state = TQ_CONNECT;
	tcp_slot_send(s);
}

static void icreq_send(struct tcp_queue *q)
{
	struct tcp_host *h = q->h;
	struct nvme_tcp_icreq r = {.dgst = (uint8_t)((h->hdgst ? NVME_TCP_HDGST_ENABLE : 0) |
	                                             (h->ddgst ? NVME_TCP_DDGST_ENABLE : 0))};
	struct iovec v = {.iov_base = &r, .iov_len = sizeof(r)};

	tcp_pdu_make(&q->rules, &r.hdr, NVME_TCP_ICREQ, sizeof(r), 0, 0);
	q->state = TQ_ICREQ;
	if (net_sock_write(q->sock, &v, 1))
		tcp_queue_lost(q);
}

static size_t on_icresp(struct tcp_queue *q, const struct tcp_pdu *p)
{
	const struct nvme_tcp_icresp *r = &p->icresp;
	struct tcp_host *h = q->h;

	if (le16_get(r->pfv) || r->cpda > TCP_PDA_MAX ||
	    le32_get(r->maxh2cdata) < NVME_TCP_MAXH2C_MIN || le32_get(r->maxh2cdata) % 4)
		return broken(q, NVME_TCP_FES_PARAM, 8, p->bytes, p->hdr.hlen);
	/* What was asked for, or nothing: never less in silence. */
	if (!(r->dgst & NVME_TCP_HDGST_ENABLE) != !h->hdgst ||
	    !(r->dgst & NVME_TCP_DDGST_ENABLE) != !h->ddgst) {
		snprintf(h->sentence, sizeof(h->sentence), "the target does not take the digests");
		return broken(q, NVME_TCP_FES_PARAM, 11, p->bytes, p->hdr.hlen);
	}
	q->rules.hdgst = h->hdgst;
	q->rules.ddgst = h->ddgst;
	q->rules.tx_pda = r->cpda;
	q->maxh2c = MIN(le32_get(r->maxh2cdata), TCP_MAXH2C);
	connect_send(q);
	return p->head_bytes;
}

static void on_up(struct net_sock *s, int status)
{
	struct tcp_queue *q = net_sock_user(s);

	if (!status) {
		icreq_send(q);
		return;
	}
	snprintf(q->h->sentence, sizeof(q->h->sentence), "%.200s", net_sock_error(s));
	tcp_queue_lost(q);
}

static size_t on_pdu(struct tcp_queue *q, const struct tcp_pdu *p)
{
	if ((p->hdr.type == NVME_TCP_ICRESP) != (q->state == TQ_ICREQ) &&
	    p->hdr.type != NVME_TCP_C2H_TERM)
		return broken(q, NVME_TCP_FES_SEQUENCE, 0, p->bytes, p->hdr.hlen);
	switch (p->hdr.type) {
	case NVME_TCP_ICRESP:
		return on_icresp(q, p);
	case NVME_TCP_RESP:
		return on_response(q, p);
	case NVME_TCP_C2H_DATA:
		return on_c2h(q, p);
	case NVME_TCP_R2T:
		return on_r2t(q, p);
	default:
		log_warn("nvme: %s: queue %u: the target ends the connection: error %u", q->h->addr,
		         q->qid, le16_get(p->term.fes));
		snprintf(q->h->sentence, sizeof(q->h->sentence),
		         "the target ends the connection: error %u", le16_get(p->term.fes));
		tcp_queue_lost(q);
		return 0;
	}
}

static size_t on_data(struct net_sock *sock, const void *bytes, size_t len)
{
	struct tcp_queue *q = net_sock_user(sock);
	size_t used = 0;

	while (used < len && q->sock && !q->rx) {
		const uint8_t *at = (const uint8_t *)bytes + used;
		struct tcp_fault f;
		struct tcp_pdu p;
		int rc = tcp_pdu_read(&q->rules, at, len - used, &p, &f);

		if (!rc)
			break;
		if (rc < 0) {
			broken(q, f.fes, f.fei, at, MIN(len - used, sizeof(p.bytes)));
			break;
		}
		used += on_pdu(q, &p);
	}
	return used;
}

static void on_down(struct net_sock *s, int status)
{
	struct tcp_queue *q = net_sock_user(s);

	snprintf(q->h->sentence, sizeof(q->h->sentence), "%.200s", net_sock_error(s));
	tcp_queue_lost(q);
}

static void on_gone(void *user)
{
	struct tcp_queue *q = user;

	q->gone = true;
	tcp_queue_gone(q);
}

static const struct net_handlers handlers = {
        .up = on_up, .data = on_data, .filled = on_filled, .down = on_down, .gone = on_gone};

static void setup_over(struct loop_timer *t)
{
	struct tcp_queue *q = container_of(t, struct tcp_queue, setup);

	snprintf(q->h->sentence, sizeof(q->h->sentence), "the target does not answer");
	tcp_queue_lost(q);
}

/* --- making and ending --- */

int tcp_queue_new(struct tcp_host *h, uint16_t qid, uint32_t size, uint64_t sq, uint64_t cq,
                  struct tcp_queue **ret_q)
{
	struct tcp_queue *q = mem_calloc(1, sizeof(*q));
	struct net_opts no = {.connect_ns = TCP_SETUP_NS, .queue_max = 256 * MIB};
	struct pst_err err = {0};
	int rc = -ENOMEM;

	if (!q)
		return rc;
	q->h = h;
	q->qid = qid;
	q->size = size;
	q->sq = (const struct nvme_cmd *)(uintptr_t)sq;
	q->cq = (struct nvme_cqe *)(uintptr_t)cq;
	q->phase = 1;
	q->icd_max = qid ? h->ioccsz - (uint32_t)sizeof(struct nvme_cmd) : TCP_ICD_ADMIN;
	q->slots = size + (qid ? 0 : TCP_INTERNAL);
	q->slot = mem_calloc(q->slots, sizeof(*q->slot));
	list_init(&q->free);
	q->setup.fired = setup_over;
	for (uint32_t i = 0; q->slot && i < q->slots; i++) {
		q->slot[i].q = q;
		q->slot[i].index = (uint16_t)i;
		list_push(&q->free, &q->slot[i].link);
	}
	if (q->slot)
		rc = loop_timer_arm(h->t.loop, &q->setup, loop_now(h->t.loop) + TCP_SETUP_NS);
	if (!rc)
		rc = net_sock_connect(&q->sock, h->t.loop, h->addr, &no, &handlers, q, &err);
	if (rc) {
		snprintf(h->sentence, sizeof(h->sentence), "%.200s", err.text);
		tcp_queue_free(q);
		return rc;
	}
	h->queue[qid] = q;
	*ret_q = q;
	return 0;
}

void tcp_queue_close(struct tcp_queue *q)
{
	struct net_sock *s = q->sock;

	if (q->state == TQ_CLOSED)
		return;
	q->state = TQ_CLOSED;
	q->sock = NULL;
	q->rx = NULL;
	loop_timer_disarm(q->h->t.loop, &q->setup);
	net_sock_abort(s);
	/* The driver answers for what was under way; what was ours hears of it here. */
	for (uint32_t i = 0; i < q->slots; i++) {
		if (q->slot[i].busy && q->slot[i].internal)
			slot_end(&q->slot[i], true);
	}
}

void tcp_queue_free(struct tcp_queue *q)
{
	loop_timer_disarm(q->h->t.loop, &q->setup);
	mem_free(q->slot);
	mem_free(q);
}
