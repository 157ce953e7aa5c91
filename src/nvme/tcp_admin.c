/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Admin commands that a fabric does otherwise: the driver makes queues by command, we make
 * connections; it aborts by its own ids, the wire has others. And what answers teach us.
 */
#include "nvme/tcp_host.h"

static void done(struct tcp_queue *q, const struct nvme_cmd *cmd, uint16_t status)
{
	struct nvme_cqe cqe = {.status = le16_make((uint16_t)(status << 1))};

	tcp_post(q, le16_get(cmd->cid), &cqe);
}

static void cq_create(struct tcp_queue *q, const struct nvme_cmd *cmd)
{
	uint32_t cdw10 = le32_get(cmd->cdw10), qid = NVME_CREATE_QID(cdw10);
	struct tcp_host *h = q->h;

	if (!qid || qid > TCP_QUEUES_MAX) {
		done(q, cmd, NVME_SC_QID_INVALID | NVME_STATUS_DNR);
		return;
	}
	h->cq_dma[qid] = le64_get(cmd->prp1);
	h->cq_size[qid] = NVME_CREATE_QSIZE(cdw10) + 1;
	done(q, cmd, 0);
}

static void sq_create(struct tcp_queue *q, const struct nvme_cmd *cmd)
{
	uint32_t cdw10 = le32_get(cmd->cdw10), qid = NVME_CREATE_QID(cdw10);
	uint32_t size = NVME_CREATE_QSIZE(cdw10) + 1;
	struct tcp_host *h = q->h;
	struct tcp_queue *n;

	if (!qid || qid > TCP_QUEUES_MAX || h->queue[qid] || size != h->cq_size[qid]) {
		done(q, cmd, NVME_SC_QID_INVALID | NVME_STATUS_DNR);
		return;
	}
	h->db[2 * qid] = h->db[2 * qid + 1] = 0;
	if (tcp_queue_new(h, (uint16_t)qid, size, le64_get(cmd->prp1), h->cq_dma[qid], &n)) {
		done(q, cmd, NVME_SC_INTERNAL);
		return;
	}
	n->waiter = le16_get(cmd->cid);
	n->has_waiter = true;
	h->top = MAX(h->top, qid);
}

static void sq_delete(struct tcp_queue *q, const struct nvme_cmd *cmd)
{
	uint32_t qid = NVME_CREATE_QID(le32_get(cmd->cdw10));
	struct tcp_queue *n = qid && qid <= TCP_QUEUES_MAX ? q->h->queue[qid] : NULL;

	if (!n) {
		done(q, cmd, 0);
		return;
	}
	n->waiter = le16_get(cmd->cid);
	n->has_waiter = n->deleting = true;
	tcp_queue_close(n);
}

/* The wire's id of the driver's command; an abort of what is not there has nothing to do. */
static bool abort_take(struct tcp_queue *q, const struct nvme_cmd *cmd)
{
	uint32_t cdw10 = le32_get(cmd->cdw10), sqid = cdw10 & 0xffff;
	struct tcp_queue *n = sqid <= TCP_QUEUES_MAX ? q->h->queue[sqid] : NULL;
	struct nvme_cqe no = {.dw0 = le32_make(NVME_ABORT_NOT_DONE)};

	for (uint32_t i = 0; n && i < n->slots; i++) {
		struct tcp_slot *t = &n->slot[i], *s;

		if (!t->busy || t->internal || t->cid != cdw10 >> 16)
			continue;
		s = tcp_slot_get(q);
		if (!s)
			break; /* then it can't be asked for */
		s->cmd.cmd = *cmd;
		s->cmd.cmd.cdw10 = le32_make((uint32_t)t->index << 16 | sqid);
		s->cid = le16_get(cmd->cid);
		s->dir = NVME_DIR_NONE;
		tcp_slot_send(s);
		return true;
	}
	tcp_post(q, le16_get(cmd->cid), &no);
	return true;
}

bool tcp_admin_take(struct tcp_queue *q, const struct nvme_cmd *cmd)
{
	switch (cmd->opc) {
	case NVME_ADMIN_CREATE_CQ:
		cq_create(q, cmd);
		return true;
	case NVME_ADMIN_CREATE_SQ:
		sq_create(q, cmd);
		return true;
	case NVME_ADMIN_DELETE_SQ:
		sq_delete(q, cmd);
		return true;
	case NVME_ADMIN_DELETE_CQ:
		done(q, cmd, 0);
		return true;
	case NVME_ADMIN_DBBUF:
		done(q, cmd, NVME_SC_INVALID_OPCODE | NVME_STATUS_DNR);
		return true;
	case NVME_ADMIN_ABORT:
		return abort_take(q, cmd);
	default:
		return false;
	}
}

void tcp_learn(struct tcp_host *h, const struct tcp_slot *s)
{
	const struct nvme_cmd *c = &s->cmd.cmd;
	uint32_t nsid = le32_get(c->nsid);
	struct nvme_id_ns id;
	unsigned lbads;

	if (s->q->qid || le16_get(s->cqe.status) >> 1)
		return;
	if (c->opc == NVME_ADMIN_FORMAT) {
		memset(h->ns_shift, 0, sizeof(h->ns_shift)); /* to be looked at again */
		return;
	}
	if (c->opc != NVME_ADMIN_IDENTIFY || NVME_IDENTIFY_CNS(le32_get(c->cdw10)) != NVME_CNS_NS ||
	    nsid >= TCP_NS_KNOWN || s->len != sizeof(id))
		return;
	iov_gather(&id, s->data, s->pieces, 0, sizeof(id));
	lbads = id.lbaf[NVME_FLBAS_INDEX(id.flbas)].lbads;
	h->ns_shift[nsid] = id.nsze && lbads >= 9 && lbads <= 16 ? (uint8_t)lbads : 0;
}
