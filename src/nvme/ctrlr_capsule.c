/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands that come in capsules. They become requests as those of queues in memory do, and run
 * through the same code; what differs is where their data lies (in memory of the transport's, all in
 * one piece) and where their answer goes. A queue of capsules has rings of no entries: a completion
 * queue of size 1 is always full, which keeps such commands off the short way to a completion entry.
 */
#include "nvme/ctrlr_int.h"

#define ADMIN_ENTRIES 64u /* counts SQ heads; the host's own limit stands in its Connect */

static int queue_new(struct nvme_ctrlr *c, uint16_t qid, uint32_t entries)
{
	struct ctrlr_cq *cq = cq_new(c, qid, NULL, 1);

	if (!cq)
		return -ENOMEM;
	if (sq_new(c, qid, NULL, entries, cq))
		return 0;
	cq_free(c, cq);
	return -ENOMEM;
}

int capsule_admin_new(struct nvme_ctrlr *c)
{
	return queue_new(c, 0, ADMIN_ENTRIES);
}

uint16_t nvme_ctrlr_connect(struct nvme_ctrlr *c, uint16_t qid, uint32_t entries)
{
	loop_assert(c->subsys->loop);
	if (c->state != CTRLR_RUNNING || c->opts.discovery)
		return ERR(NVME_SC_SEQUENCE);
	if (!qid || qid > c->queues || c->sqs[qid])
		return ERR(NVME_SC_CONNECT_PARAM);
	if (entries < 2 || entries > c->opts.entries_max)
		return ERR(NVME_SC_CONNECT_PARAM);
	return queue_new(c, qid, entries) ? NVME_SC_INTERNAL : 0;
}

void nvme_ctrlr_disconnect(struct nvme_ctrlr *c, uint16_t qid)
{
	struct ctrlr_sq *sq = qid <= NVME_CTRLR_QUEUES_MAX ? c->sqs[qid] : NULL;
	struct ctrlr_cq *cq;

	loop_assert(c->subsys->loop);
	if (!sq || sq->entries)
		return;
	if (sq->fused) {
		req_drop(sq->fused);
		sq->fused = NULL;
	}
	pst_assert(!sq->taken);
	cq = sq->cq;
	sq_free(c, sq);
	cq_free(c, cq);
}

static void refuse(struct nvme_ctrlr *c, struct nvme_capsule *k, uint16_t status)
{
	k->dropped = c->state == CTRLR_REMOVED || c->state == CTRLR_FAILED;
	k->cqe = (struct nvme_cqe){.sqid = le16_make(k->qid),
	                           .cid = k->cmd.cid,
	                           .status = le16_make((uint16_t)(status << 1))};
	c->errors++;
	k->done(k);
}

bool nvme_ctrlr_capsule(struct nvme_ctrlr *c, struct nvme_capsule *k)
{
	struct ctrlr_sq *sq = k->qid <= NVME_CTRLR_QUEUES_MAX ? c->sqs[k->qid] : NULL;
	struct nvme_req *r;

	loop_assert(c->subsys->loop);
	c->traffic = true;
	if (unlikely(c->state != CTRLR_RUNNING || !sq)) {
		refuse(c, k, ERR(NVME_SC_SEQUENCE));
		return true;
	}
	/* Base 4.1.2: in capsules data is described by SGLs. */
	if (unlikely((k->cmd.flags & NVME_CMD_PSDT_MASK) != NVME_CMD_PSDT_SGL)) {
		refuse(c, k, ERR(NVME_SC_INVALID_FIELD));
		return true;
	}
	r = *sq->pool;
	if (unlikely(!r))
		return false;
	*sq->pool = r->next;
	r->cmd = k->cmd;
	r->capsule = k;
	r->sq = sq;
	sq->head = ring_next(sq->head, sq->size);
	sq->taken++;
	c->taken++;
	c->commands++;
	cmd_start(r);
	return true;
}

uint16_t capsule_map(struct nvme_req *r, uint32_t len)
{
	const struct nvme_capsule *k = r->capsule;

	/* A host may send more than the command needs (the ranges of a discard), not expect more. */
	if (len > k->len || (len != k->len && NVME_OPC_DIR(r->cmd.opc) != NVME_DIR_TO_CTRLR))
		return ERR(NVME_SC_SGL_DATA_LENGTH);
	r->iov[0].iov_base = k->data;
	r->iov[0].iov_len = len;
	r->iov_count = 1;
	r->io.region = k->region;
	return 0;
}

void capsule_end(struct nvme_req *r, bool dropped)
{
	struct nvme_capsule *k = r->capsule;
	uint16_t cid = le16_get(r->cmd.cid);

	if (r->fault == FAULT_CID)
		cid ^= 0x8000;
	k->dropped = dropped;
	k->cqe = (struct nvme_cqe){.dw0 = le32_make(r->dw0),
	                           .sqhd = le16_make((uint16_t)r->sq->head),
	                           .sqid = le16_make(r->sq->qid),
	                           .cid = le16_make(cid),
	                           .status = le16_make((uint16_t)(r->status << 1))};
	r->io.region = NULL;
	r->c->completions += !dropped;
	k->done(k);
}
