/* SPDX-License-Identifier: BSD-3-Clause */
/* One connection of a host: PDUs in and out, and the life of a command. See tcp_target.h. */
#include "nvme/tcp_target.h"

static uint32_t mdts_bytes(const struct tcp_conn *conn)
{
	return 4096u << conn->port->port.target->opts.ctrlr.mdts;
}

/* --- commands: places, memory --- */

static struct tcp_cmd *cmd_get(struct tcp_conn *conn)
{
	struct list *n = list_pop(&conn->free);
	struct tcp_cmd *c = n ? list_entry(n, struct tcp_cmd, link) : NULL;

	if (!c && conn->cmds < conn->depth) {
		c = mem_calloc(1, sizeof(*c));
		if (!c)
			return NULL;
		c->conn = conn;
		c->index = (uint16_t)conn->cmds;
		list_init(&c->link);
		conn->cmd[conn->cmds++] = c;
	}
	if (c)
		conn->used++;
	return c;
}

static void starved_again(struct tcp_conn *conn)
{
	if (!conn->starved || !conn->sock)
		return;
	conn->starved = false;
	net_sock_resume(conn->sock);
}

/* @c, of which nothing is under way any more. */
static void cmd_release(struct tcp_cmd *c)
{
	struct tcp_conn *conn = c->conn;

	pst_assert(!c->sends && c->state != CMD_FREE);
	list_del(&c->link);
	if (c->k.data)
		tcp_buf_put(conn->port, c->k.data, c->cls);
	c->k.data = NULL;
	c->state = CMD_FREE;
	list_push_front(&conn->free, &c->link);
	conn->used--;
	starved_again(conn);
}

/* --- sending --- */

static void data_sent(struct net_send *m, int status)
{
	struct tcp_cmd *c = container_of(m, struct tcp_cmd, data_send);

	c->sends--;
	if (!c->sends)
		cmd_release(c);
}

static void r2t_sent(struct net_send *m, int status)
{
	struct tcp_cmd *c = container_of(m, struct tcp_cmd, r2t_send);

	c->sends--;
	/* The connection ended meanwhile, or the answer has gone already. */
	if (!c->sends && (c->conn->state == CONN_CLOSING || c->state == CMD_SENDING) &&
	    c->state != CMD_WORKING)
		cmd_release(c);
}

static void queue(struct tcp_cmd *c, struct net_send *m, const struct iovec *iov, unsigned count,
                  void (*done)(struct net_send *m, int status))
{
	*m = (struct net_send){.done = done, .iov = iov, .iov_count = count};
	if (c->conn->sock && net_sock_send(c->conn->sock, m) == 0)
		c->sends++;
}

/* Data for the host, and what says that they were all: a flag in their header, or an answer. */
static unsigned answer_data(struct tcp_cmd *c, bool with_flag)
{
	const struct tcp_rules *r = &c->conn->rules;
	unsigned n = 2;

	memset(&c->data, 0, sizeof(c->data));
	c->data.cccid = c->k.cqe.cid; /* the command's, or what the fault plan makes of it */
	c->data.datal = le32_make(c->k.len);
	c->iov[0].iov_base = c->data_room;
	c->iov[0].iov_len =
	        tcp_pdu_make(r, &c->data.hdr, NVME_TCP_C2H_DATA, sizeof(c->data),
	                     NVME_TCP_LAST | (with_flag ? NVME_TCP_SUCCESS : 0), c->k.len);
	c->iov[1] = (struct iovec){.iov_base = c->k.data, .iov_len = c->k.len};
	if (r->ddgst) {
		c->ddgst = le32_make(tcp_digest(&c->iov[1], 1));
		c->iov[n++] = (struct iovec){.iov_base = &c->ddgst, .iov_len = sizeof(c->ddgst)};
	}
	return n;
}

void tcp_cmd_answer(struct tcp_cmd *c)
{
	struct tcp_conn *conn = c->conn;
	bool fabrics = c->k.cmd.opc == NVME_ADMIN_FABRICS, with_flag;
	uint8_t dir = fabrics ? NVME_DIR_NONE : NVME_OPC_DIR(c->k.cmd.opc);
	unsigned n = 0;

	c->state = CMD_SENDING;
	if (conn->state == CONN_CLOSING || c->k.dropped) {
		if (!c->sends)
			cmd_release(c);
		return;
	}
	if (c->digest_bad)
		c->k.cqe.status = le16_make(NVME_SC_TRANSPORT_TRANSIENT << 1);
	with_flag = conn->no_sq_flow && !c->k.cqe.dw0;
	if (dir == NVME_DIR_TO_HOST && c->k.len && !c->k.cqe.status)
		n = answer_data(c, with_flag);
	if (!n || !with_flag) {
		memset(&c->resp, 0, sizeof(c->resp));
		c->resp.cqe = c->k.cqe;
		c->iov[n].iov_base = c->resp_room;
		c->iov[n++].iov_len = tcp_pdu_make(&conn->rules, &c->resp.hdr, NVME_TCP_RESP,
		                                   sizeof(c->resp), 0, 0);
	}
	queue(c, &c->data_send, c->iov, n, data_sent);
	if (!c->sends)
		cmd_release(c);
}

void tcp_cmd_fail(struct tcp_cmd *c, uint16_t status, uint32_t dw0)
{
	c->k.dropped = false;
	c->k.cqe = (struct nvme_cqe){.dw0 = le32_make(dw0),
	                             .sqid = le16_make(c->conn->qid),
	                             .cid = c->k.cmd.cid,
	                             .status = le16_make((uint16_t)(status << 1))};
	tcp_cmd_answer(c);
}

/* The PDU that says what was wrong, and the end. */
static void conn_fault(struct tcp_conn *conn, const struct tcp_fault *f, const void *bytes,
                       size_t len)
{
	uint8_t buf[NVME_TCP_TERM_MAX];
	struct iovec v = {.iov_base = buf};
	struct net_sock *s = conn->sock;

	log_stranger(PST_LOG_INFO, "nvme: %s: a host broke the rules (error %u at %u)",
	             conn->port->port.address, f->fes, f->fei);
	v.iov_len = tcp_term_make(buf, true, f, bytes, len);
	if (net_sock_write(s, &v, 1) == 0) {
		conn->sock = NULL; /* closes after what is queued */
		net_sock_close(s);
	}
	tcp_conn_close(conn);
}

static size_t broken(struct tcp_conn *conn, uint16_t fes, uint32_t fei, const struct tcp_pdu *p)
{
	struct tcp_fault f = {fes, fei};

	conn_fault(conn, &f, p->bytes, p->hdr.hlen);
	return 0;
}

/* --- commands: their way --- */

void tcp_cmd_run(struct tcp_cmd *c)
{
	struct tcp_conn *conn = c->conn;

	c->state = CMD_WORKING;
	if (c->digest_bad) {
		tcp_cmd_fail(c, NVME_SC_TRANSPORT_TRANSIENT, 0);
	} else if (c->k.cmd.opc == NVME_ADMIN_FABRICS) {
		tcp_fabrics(c);
	} else if (conn->state != CONN_LIVE || !conn->assoc->host.ctrlr) {
		tcp_cmd_fail(c, NVME_SC_SEQUENCE | NVME_STATUS_DNR, 0);
	} else if (!nvme_ctrlr_capsule(conn->assoc->host.ctrlr, &c->k)) {
		c->state = CMD_READY;
		list_push(&conn->assoc->waiting, &c->link);
	}
}

static void capsule_done(struct nvme_capsule *k)
{
	tcp_cmd_answer(container_of(k, struct tcp_cmd, k));
}

static void r2t_send(struct tcp_cmd *c)
{
	struct tcp_conn *conn = c->conn;

	c->state = CMD_DATA;
	memset(&c->r2t, 0, sizeof(c->r2t));
	c->r2t.cccid = c->k.cmd.cid;
	c->r2t.ttag = le16_make(c->index);
	c->r2t.r2tl = le32_make(c->k.len);
	c->r2t_iov.iov_base = c->r2t_room;
	c->r2t_iov.iov_len =
	        tcp_pdu_make(&conn->rules, &c->r2t.hdr, NVME_TCP_R2T, sizeof(c->r2t), 0, 0);
	queue(c, &c->r2t_send, &c->r2t_iov, 1, r2t_sent);
}

/* @c has its memory, if it needs any. */
static void cmd_go(struct tcp_cmd *c)
{
	uint8_t op = c->k.cmd.opc == NVME_ADMIN_FABRICS
	                     ? ((struct nvme_fabrics_cmd *)&c->k.cmd)->fctype
	                     : c->k.cmd.opc;

	if (c->k.len && NVME_OPC_DIR(op) == NVME_DIR_TO_CTRLR)
		r2t_send(c);
	else
		tcp_cmd_run(c);
}

/* After a buffer of @cls came back. */
static void buffer_next(struct tcp_port *p, uint8_t cls)
{
	struct list *n = list_pop(&p->waiting[cls]);
	struct tcp_conn *conn;

	if (n) {
		struct tcp_cmd *c = list_entry(n, struct tcp_cmd, link);

		c->k.data = tcp_buf_get(p, c->k.len, &c->cls);
		pst_assert(c->k.data);
		cmd_go(c);
		return;
	}
	list_for_each (conn, &p->conns, link)
		starved_again(conn);
}

void tcp_buf_put(struct tcp_port *p, void *buf, uint8_t cls)
{
	mem_pool_put(p->pool[cls], buf);
	buffer_next(p, cls);
}

/* What the command's SGL says of its data: NVME_SC_*. */
static uint16_t describe(const struct tcp_conn *conn, const struct nvme_cmd *cmd, uint8_t dir,
                         uint32_t in_capsule, uint32_t *ret_len)
{
	uint32_t len = le32_get(cmd->sgl.len);
	uint8_t type = cmd->sgl.type;

	*ret_len = 0;
	if ((cmd->flags & NVME_CMD_PSDT_MASK) != NVME_CMD_PSDT_SGL)
		return NVME_SC_INVALID_FIELD | NVME_STATUS_DNR;
	if (type == NVME_SGL_TYPE(NVME_SGL_DATA, NVME_SGL_OFFSET)) {
		if (cmd->sgl.addr || len != in_capsule)
			return NVME_SC_SGL_OFFSET | NVME_STATUS_DNR;
		if (len && dir != NVME_DIR_TO_CTRLR)
			return NVME_SC_SGL_TYPE | NVME_STATUS_DNR;
	} else if (in_capsule || type != NVME_SGL_TYPE(NVME_SGL_TRANSPORT, NVME_SGL_TRANSPORT_A)) {
		return NVME_SC_SGL_TYPE | NVME_STATUS_DNR;
	}
	if (len > mdts_bytes(conn) || (len && dir != NVME_DIR_TO_CTRLR && dir != NVME_DIR_TO_HOST))
		return NVME_SC_INVALID_FIELD | NVME_STATUS_DNR;
	*ret_len = len;
	return 0;
}

static void receive_into(struct tcp_conn *conn, struct tcp_cmd *c, uint32_t off, uint32_t len,
                         bool ddgst)
{
	struct iovec v[2] = {{.iov_base = (uint8_t *)c->k.data + off, .iov_len = len},
	                     {.iov_base = &conn->rx_digest, .iov_len = sizeof(conn->rx_digest)}};
	int rc = net_sock_recv_into(conn->sock, v, ddgst ? 2 : 1);

	pst_assert(!rc); /* one at a time, and not empty */
	conn->rx = c;
	conn->rx_len = len;
	conn->rx_ddgst = ddgst;
}

static size_t starve(struct tcp_conn *conn, struct tcp_cmd *c)
{
	if (c) {
		c->state = CMD_SENDING; /* on its way back */
		cmd_release(c);
	}
	conn->starved = true;
	net_sock_pause(conn->sock);
	return 0;
}

/* A command capsule; bytes used, 0 when it can't be taken now, or the connection is over. */
static size_t conn_command(struct tcp_conn *conn, const struct tcp_pdu *p)
{
	const struct nvme_cmd *cmd = &p->cmd.cmd;
	bool fabrics = cmd->opc == NVME_ADMIN_FABRICS;
	uint8_t dir =
	        NVME_OPC_DIR(fabrics ? ((const struct nvme_fabrics_cmd *)cmd)->fctype : cmd->opc);
	struct tcp_cmd *c;
	uint32_t len;
	uint16_t st;

	if (p->data_bytes > TCP_ICD_ADMIN)
		return broken(conn, NVME_TCP_FES_LIMIT, 4, p);
	c = cmd_get(conn);
	if (!c)
		return starve(conn, NULL);
	st = describe(conn, cmd, dir, p->data_bytes, &len);
	c->k = (struct nvme_capsule){
	        .cmd = *cmd, .qid = conn->qid, .len = len, .done = capsule_done};
	c->state = CMD_READY;
	c->digest_bad = false;
	c->received = 0;
	if (p->data_bytes && st) {
		/* Data that belong nowhere: there is no telling what the host means. */
		tcp_cmd_fail(c, st, 0);
		return broken(conn, NVME_TCP_FES_PARAM, 32, p);
	}
	if (st) {
		tcp_cmd_fail(c, st, 0);
		return p->head_bytes;
	}
	if (len) {
		c->k.data = tcp_buf_get(conn->port, len, &c->cls);
		if (!c->k.data && p->data_bytes)
			return starve(conn, c);
	}
	if (p->data_bytes) {
		c->state = CMD_ICD;
		receive_into(conn, c, 0, len, p->ddgst);
	} else if (len && !c->k.data) {
		c->state = CMD_BUFFER;
		list_push(&conn->port->waiting[tcp_buf_class(conn->port, len)], &c->link);
	} else {
		cmd_go(c);
	}
	return p->head_bytes;
}

static size_t conn_h2c(struct tcp_conn *conn, const struct tcp_pdu *p)
{
	uint32_t off = le32_get(p->data.datao), len = le32_get(p->data.datal);
	uint16_t tag = le16_get(p->data.ttag);
	struct tcp_cmd *c = tag < conn->cmds ? conn->cmd[tag] : NULL;
	bool last = p->hdr.flags & NVME_TCP_LAST;

	if (!c || c->state != CMD_DATA)
		return broken(conn, NVME_TCP_FES_HEADER, 10, p);
	if (c->k.cmd.cid != p->data.cccid)
		return broken(conn, NVME_TCP_FES_HEADER, 8, p);
	if (off != c->received || !len || len != p->data_bytes || len > c->k.len - off)
		return broken(conn, NVME_TCP_FES_RANGE, 12, p);
	if (len > TCP_MAXH2C)
		return broken(conn, NVME_TCP_FES_LIMIT, 16, p);
	if (last != (off + len == c->k.len))
		return broken(conn, NVME_TCP_FES_HEADER, 1, p);
	receive_into(conn, c, off, len, p->ddgst);
	return p->head_bytes;
}

static void on_filled(struct net_sock *s)
{
	struct tcp_conn *conn = net_sock_user(s);
	struct tcp_cmd *c = conn->rx;
	struct iovec v = {.iov_base = (uint8_t *)c->k.data + c->received, .iov_len = conn->rx_len};

	conn->rx = NULL;
	if (conn->rx_ddgst && le32_get(conn->rx_digest) != tcp_digest(&v, 1))
		c->digest_bad = true; /* the rest still comes; then it is to be sent again */
	c->received += conn->rx_len;
	if (c->received == c->k.len)
		tcp_cmd_run(c);
}

/* --- the beginning --- */

static size_t conn_icreq(struct tcp_conn *conn, const struct tcp_pdu *p)
{
	const struct nvme_tcp_icreq *q = &p->icreq;
	struct nvme_tcp_icresp a = {.maxh2cdata = le32_make(TCP_MAXH2C)};
	struct iovec v = {.iov_base = &a, .iov_len = sizeof(a)};

	if (le16_get(q->pfv))
		return broken(conn, NVME_TCP_FES_PARAM, 8, p);
	if (q->hpda > TCP_PDA_MAX)
		return broken(conn, NVME_TCP_FES_PARAM, 10, p);
	conn->rules.hdgst = q->dgst & NVME_TCP_HDGST_ENABLE;
	conn->rules.ddgst = q->dgst & NVME_TCP_DDGST_ENABLE;
	conn->rules.tx_pda = q->hpda;
	a.dgst = q->dgst & (NVME_TCP_HDGST_ENABLE | NVME_TCP_DDGST_ENABLE);
	tcp_pdu_make(&conn->rules, &a.hdr, NVME_TCP_ICRESP, sizeof(a), 0, 0);
	if (net_sock_write(conn->sock, &v, 1)) {
		tcp_conn_close(conn);
		return 0;
	}
	conn->state = CONN_ICED;
	return p->head_bytes;
}

static size_t conn_pdu(struct tcp_conn *conn, const struct tcp_pdu *p)
{
	switch (p->hdr.type) {
	case NVME_TCP_ICREQ:
		if (conn->state != CONN_GREETING)
			return broken(conn, NVME_TCP_FES_SEQUENCE, 0, p);
		return conn_icreq(conn, p);
	case NVME_TCP_H2C_TERM:
		log_stranger(PST_LOG_INFO, "nvme: %s: a host ends its connection: error %u",
		             conn->port->port.address, le16_get(p->term.fes));
		tcp_conn_close(conn);
		return 0;
	case NVME_TCP_CMD:
		if (conn->state == CONN_GREETING)
			return broken(conn, NVME_TCP_FES_SEQUENCE, 0, p);
		return conn_command(conn, p);
	default:
		if (conn->state == CONN_GREETING)
			return broken(conn, NVME_TCP_FES_SEQUENCE, 0, p);
		return conn_h2c(conn, p);
	}
}

static size_t on_data(struct net_sock *s, const void *bytes, size_t len)
{
	struct tcp_conn *conn = net_sock_user(s);
	size_t used = 0;

	/* Until data of a command are next, or somebody has to wait, or it is over. */
	while (used < len && conn->sock && !conn->rx && !conn->starved) {
		const uint8_t *at = (const uint8_t *)bytes + used;
		struct tcp_fault f;
		struct tcp_pdu p;
		int rc = tcp_pdu_read(&conn->rules, at, len - used, &p, &f);

		if (!rc)
			break;
		if (rc < 0) {
			conn_fault(conn, &f, at, MIN(len - used, sizeof(p.bytes)));
			break;
		}
		used += conn_pdu(conn, &p);
	}
	return used;
}

/* --- the end --- */

/* Frees @conn once nothing refers to it (T2). Its controller is told from the association's poller,
 * never from inside one of its callbacks. */
void tcp_conn_free_maybe(struct tcp_conn *conn)
{
	if (!conn->sock_gone || conn->used || conn->assoc)
		return;
	loop_timer_disarm(conn->port->port.target->loop, &conn->greeting);
	list_del(&conn->link);
	for (uint32_t i = 0; i < conn->cmds; i++)
		mem_free(conn->cmd[i]);
	mem_free(conn);
}

void tcp_conn_close(struct tcp_conn *conn)
{
	struct net_sock *s = conn->sock;

	if (conn->state == CONN_CLOSING)
		return;
	conn->state = CONN_CLOSING;
	conn->sock = NULL;
	conn->rx = NULL;
	net_sock_abort(s);
	/* First off the lists: what is given back below goes to those who wait. */
	for (uint32_t i = 0; i < conn->cmds; i++) {
		if (conn->cmd[i]->state == CMD_BUFFER || conn->cmd[i]->state == CMD_READY)
			list_del(&conn->cmd[i]->link);
	}
	for (uint32_t i = 0; i < conn->cmds; i++) {
		struct tcp_cmd *c = conn->cmd[i];

		/* Those that the controller has, and those that the kernel still sends, come back. */
		if (c->state != CMD_FREE && c->state != CMD_WORKING && !c->sends)
			cmd_release(c);
	}
	if (conn->assoc && !conn->qid)
		tcp_assoc_end(conn->assoc);
}

static void on_down(struct net_sock *s, int status)
{
	struct tcp_conn *conn = net_sock_user(s);

	log_debug("nvme: %s: queue %u: %s", conn->port->port.address, conn->qid, net_sock_error(s));
	tcp_conn_close(conn);
}

static void on_gone(void *user)
{
	struct tcp_conn *conn = user;

	conn->sock_gone = true;
	tcp_conn_free_maybe(conn);
}

static void greeting_over(struct loop_timer *t)
{
	struct tcp_conn *conn = container_of(t, struct tcp_conn, greeting);

	log_stranger(PST_LOG_INFO, "nvme: %s: a host connected and said nothing",
	             conn->port->port.address);
	tcp_conn_close(conn);
}

static const struct net_handlers handlers = {
        .data = on_data, .filled = on_filled, .down = on_down, .gone = on_gone};

bool tcp_conn_accept(struct tcp_port *p, struct net_sock *s)
{
	struct loop *loop = p->port.target->loop;
	struct tcp_conn *conn = mem_calloc(1, sizeof(*conn));

	if (!conn)
		return false;
	conn->port = p;
	conn->sock = s;
	conn->depth = 1; /* until Connect has said more */
	conn->rules.target = true;
	list_init(&conn->free);
	list_init(&conn->assoc_link);
	conn->greeting.fired = greeting_over;
	if (loop_timer_arm(loop, &conn->greeting, loop_now(loop) + TCP_GREETING_NS)) {
		mem_free(conn);
		return false;
	}
	list_push(&p->conns, &conn->link);
	net_sock_set_handlers(s, &handlers, conn);
	return true;
}
