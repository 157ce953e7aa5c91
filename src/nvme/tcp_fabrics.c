/* SPDX-License-Identifier: BSD-3-Clause */
/* Fabrics commands (Base 6): Connect, properties, Disconnect. What they say is checked here. */
#include "nvme/tcp_target.h"

#define ERR(sc) ((uint16_t)((sc) | NVME_STATUS_DNR))

/* --- Connect --- */

/* Invalid parameter: where, in the command (or in the data). */
static void connect_bad(struct tcp_cmd *c, size_t off, bool in_data)
{
	tcp_cmd_fail(c, ERR(NVME_SC_CONNECT_PARAM),
	             (uint32_t)off | (in_data ? NVME_CONNECT_IPO_DATA : 0));
}

static bool ended(const char *name)
{
	return memchr(name, '\0', NVME_NQN_BYTES) && name[0];
}

static void connected(struct tcp_cmd *c, struct tcp_assoc *a, uint32_t sqsize, bool no_sq_flow)
{
	struct tcp_conn *conn = c->conn;

	loop_timer_disarm(conn->port->port.target->loop, &conn->greeting);
	conn->depth = MIN(sqsize + 1, TCP_CMDS_MAX);
	conn->no_sq_flow = no_sq_flow;
	conn->state = CONN_LIVE;
	tcp_cmd_fail(c, 0, nvme_ctrlr_cntlid(a->host.ctrlr));
}

static void connect_admin(struct tcp_cmd *c, const struct nvme_connect_cmd *cmd,
                          const struct nvme_connect_data *d)
{
	struct tcp_assoc *a;
	uint16_t st;

	if (le16_get(d->cntlid) != NVME_CNTLID_DYNAMIC) {
		connect_bad(c, offsetof(struct nvme_connect_data, cntlid), true);
		return;
	}
	if (le16_get(cmd->sqsize) < TCP_ADMIN_SQ_MIN) {
		connect_bad(c, offsetof(struct nvme_connect_cmd, sqsize), false);
		return;
	}
	if (strcmp(d->subnqn, c->conn->port->port.target->nqn) != 0 &&
	    strcmp(d->subnqn, NVME_DISCOVERY_NQN) != 0) {
		connect_bad(c, offsetof(struct nvme_connect_data, subnqn), true);
		return;
	}
	st = tcp_assoc_new(c->conn, d, le32_get(cmd->kato), &a);
	if (st) {
		tcp_cmd_fail(c, st, 0);
		return;
	}
	tcp_assoc_join(a, c->conn, 0);
	connected(c, a, le16_get(cmd->sqsize), cmd->cattr & NVME_CATTR_NO_SQ_FLOW);
}

static struct tcp_assoc *find(const struct tcp_port *p, uint16_t cntlid)
{
	struct target_host *h;

	list_for_each (h, &p->port.hosts, link) {
		if (h->ctrlr && nvme_ctrlr_cntlid(h->ctrlr) == cntlid &&
		    !container_of(h, struct tcp_assoc, host)->discovery)
			return container_of(h, struct tcp_assoc, host);
	}
	return NULL;
}

static bool has_queue(const struct tcp_assoc *a, uint16_t qid)
{
	const struct tcp_conn *conn;

	list_for_each (conn, &a->conns, assoc_link) {
		if (conn->qid == qid)
			return true;
	}
	return false;
}

static void connect_io(struct tcp_cmd *c, const struct nvme_connect_cmd *cmd,
                       const struct nvme_connect_data *d)
{
	struct tcp_assoc *a = find(c->conn->port, le16_get(d->cntlid));
	uint16_t qid = le16_get(cmd->qid), st;
	uint32_t sqsize = le16_get(cmd->sqsize);

	if (!a || a->ending) {
		connect_bad(c, offsetof(struct nvme_connect_data, cntlid), true);
		return;
	}
	if (memcmp(a->hostid, d->hostid, sizeof(a->hostid)) != 0 ||
	    strcmp(a->host.nqn, d->hostnqn) != 0) {
		tcp_cmd_fail(c, ERR(NVME_SC_CONNECT_HOST), 0);
		return;
	}
	/* Its queue before has not quite ended: soon. */
	if (has_queue(a, qid)) {
		tcp_cmd_fail(c, NVME_SC_CONNECT_BUSY, 0);
		return;
	}
	st = nvme_ctrlr_connect(a->host.ctrlr, qid, sqsize + 1);
	if (st) {
		size_t at = qid && sqsize ? offsetof(struct nvme_connect_cmd, qid)
		                          : offsetof(struct nvme_connect_cmd, sqsize);

		tcp_cmd_fail(c, st, (st & 0x7ff) == NVME_SC_CONNECT_PARAM ? (uint32_t)at : 0);
		return;
	}
	tcp_assoc_join(a, c->conn, qid);
	connected(c, a, sqsize, cmd->cattr & NVME_CATTR_NO_SQ_FLOW);
}

static void fabrics_connect(struct tcp_cmd *c)
{
	struct nvme_connect_cmd cmd;
	struct nvme_connect_data d;

	memcpy(&cmd, &c->k.cmd, sizeof(cmd));
	if (c->conn->state != CONN_ICED) {
		tcp_cmd_fail(c, ERR(NVME_SC_SEQUENCE), 0);
		return;
	}
	if (le16_get(cmd.recfmt)) {
		tcp_cmd_fail(c, ERR(NVME_SC_CONNECT_FORMAT), 0);
		return;
	}
	if (c->k.len != sizeof(d)) {
		tcp_cmd_fail(c, ERR(NVME_SC_SGL_DATA_LENGTH), 0);
		return;
	}
	memcpy(&d, c->k.data, sizeof(d));
	if (!ended(d.subnqn) || !ended(d.hostnqn)) {
		connect_bad(c,
		            ended(d.subnqn) ? offsetof(struct nvme_connect_data, hostnqn)
		                            : offsetof(struct nvme_connect_data, subnqn),
		            true);
		return;
	}
	if (le16_get(cmd.qid))
		connect_io(c, &cmd, &d);
	else
		connect_admin(c, &cmd, &d);
}

/* --- properties (Base 3.1.3): the ones that a fabric has --- */

static unsigned property_bytes(uint32_t off)
{
	switch (off) {
	case NVME_REG_CAP:
		return 8;
	case NVME_REG_VS:
	case NVME_REG_CC:
	case NVME_REG_CSTS:
	case NVME_REG_NSSR:
	case NVME_REG_CRTO:
		return 4;
	default:
		return 0;
	}
}

static void property(struct tcp_cmd *c, bool set)
{
	struct nvme_property_cmd cmd;
	struct tcp_conn *conn = c->conn;
	unsigned bytes;
	uint32_t off;
	uint64_t v;

	memcpy(&cmd, &c->k.cmd, sizeof(cmd));
	off = le32_get(cmd.offset);
	bytes = property_bytes(off);
	if (conn->state != CONN_LIVE || conn->qid) {
		tcp_cmd_fail(c, ERR(conn->qid ? NVME_SC_INVALID_FIELD : NVME_SC_SEQUENCE), 0);
		return;
	}
	if (!bytes || bytes != ((cmd.attrib & 7) == 1 ? 8u : 4u) || (cmd.attrib & 7) > 1 ||
	    (set && off != NVME_REG_CC)) {
		tcp_cmd_fail(c, ERR(NVME_SC_INVALID_FIELD), 0);
		return;
	}
	if (set) {
		nvme_ctrlr_reg_write(conn->assoc->host.ctrlr, off, bytes, le64_get(cmd.value));
		tcp_cmd_fail(c, 0, 0);
		return;
	}
	v = nvme_ctrlr_reg_read(conn->assoc->host.ctrlr, off, bytes);
	c->k.dropped = false;
	c->k.cqe = (struct nvme_cqe){.dw0 = le32_make((uint32_t)v),
	                             .dw1 = le32_make((uint32_t)(v >> 32)),
	                             .cid = c->k.cmd.cid};
	tcp_cmd_answer(c);
}

void tcp_fabrics(struct tcp_cmd *c)
{
	const struct nvme_fabrics_cmd *cmd = (const void *)&c->k.cmd;

	switch (cmd->fctype) {
	case NVME_FC_CONNECT:
		fabrics_connect(c);
		break;
	case NVME_FC_PROPERTY_SET:
		property(c, true);
		break;
	case NVME_FC_PROPERTY_GET:
		property(c, false);
		break;
	default: /* authentication, Disconnect (OFCS says that there is none) */
		tcp_cmd_fail(c, ERR(NVME_SC_INVALID_OPCODE), 0);
	}
}
