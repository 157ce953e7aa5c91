/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queues come and go: the admin queues when the controller is enabled, I/O queues by command (Base
 * 5.4 to 5.7), and shadow doorbells for them (Base 5.8).
 */
#include "nvme/ctrlr_int.h"

static le32 *bar_db(const struct nvme_ctrlr *c, uint32_t off)
{
	return (le32 *)(void *)(c->bar + NVME_REG_DOORBELL + off);
}

/* The shadow of the doorbell at @off, or the doorbell itself; both begin at 0. */
static void db_attach(struct nvme_ctrlr *c, uint16_t qid, uint32_t off, uint32_t now, le32 **ret_db,
                      le32 **ret_event_idx)
{
	if (c->shadow && qid) {
		*ret_db = (le32 *)(void *)(c->shadow + off);
		*ret_event_idx = (le32 *)(void *)(c->event_idx + off);
	} else {
		*ret_db = bar_db(c, off);
		*ret_event_idx = NULL;
	}
	__atomic_store_n(*ret_db, le32_make(now), __ATOMIC_RELAXED);
}

static void sq_attach(struct nvme_ctrlr *c, struct ctrlr_sq *sq)
{
	db_attach(c, sq->qid, NVME_DB_SQ(sq->qid, c->opts.dstrd), sq->tail, &sq->db,
	          &sq->event_idx);
	sq->db_seen = sq->tail;
}

static void cq_attach(struct nvme_ctrlr *c, struct ctrlr_cq *cq)
{
	db_attach(c, cq->qid, NVME_DB_CQ(cq->qid, c->opts.dstrd), cq->head, &cq->db,
	          &cq->event_idx);
	cq->db_seen = cq->head;
}

struct ctrlr_cq *cq_new(struct nvme_ctrlr *c, uint16_t qid, void *mem, uint32_t size)
{
	struct ctrlr_cq *cq = mem_calloc(1, sizeof(*cq));

	if (!cq)
		return NULL;
	cq->entries = mem;
	cq->size = size;
	cq->qid = qid;
	cq->room = size - 1;
	cq->phase = 1u << 16;
	list_init(&cq->waiting);
	if (mem)
		cq_attach(c, cq);
	c->cqs[qid] = cq;
	return cq;
}

struct ctrlr_sq *sq_new(struct nvme_ctrlr *c, uint16_t qid, const void *mem, uint32_t size,
                        struct ctrlr_cq *cq)
{
	struct ctrlr_sq *sq = mem_calloc(1, sizeof(*sq));

	if (!sq)
		return NULL;
	sq->entries = mem;
	sq->size = size;
	sq->qid = qid;
	sq->qid_high = (uint32_t)qid << 16;
	sq->cq = cq;
	sq->pool = qid ? &c->free : &c->admin_free;
	cq->sqs++;
	c->sqs[qid] = sq;
	if (!mem)
		return sq; /* nothing to poll: capsules are brought */
	sq_attach(c, sq);
	c->active[c->active_count++] = sq;
	return sq;
}

void cq_free(struct nvme_ctrlr *c, struct ctrlr_cq *cq)
{
	c->cqs[cq->qid] = NULL;
	mem_free(cq);
}

/* Takes no more commands from it. */
static void sq_stop(struct nvme_ctrlr *c, const struct ctrlr_sq *sq)
{
	unsigned i = 0;

	while (i < c->active_count && c->active[i] != sq)
		i++;
	if (i == c->active_count)
		return;
	c->active_count--;
	for (; i < c->active_count; i++)
		c->active[i] = c->active[i + 1];
}

void sq_free(struct nvme_ctrlr *c, struct ctrlr_sq *sq)
{
	sq_stop(c, sq);
	sq->cq->sqs--;
	c->sqs[sq->qid] = NULL;
	mem_free(sq);
}

int admin_queues_new(struct nvme_ctrlr *c, uint32_t aqa, uint64_t asq, uint64_t acq)
{
	uint32_t sq_size = NVME_AQA_ASQS(aqa) + 1, cq_size = NVME_AQA_ACQS(aqa) + 1;
	struct ctrlr_cq *cq;
	void *sq_mem, *cq_mem;

	if (sq_size < 2 || cq_size < 2 || ((asq | acq) & (c->page_bytes - 1)))
		return -EINVAL;
	sq_mem = c->dma(c->dma_arg, asq, sq_size * sizeof(struct nvme_cmd));
	cq_mem = c->dma(c->dma_arg, acq, cq_size * sizeof(struct nvme_cqe));
	if (!sq_mem || !cq_mem || (uintptr_t)cq_mem % sizeof(uint64_t))
		return -EINVAL;
	cq = cq_new(c, 0, cq_mem, cq_size);
	if (!cq)
		return -ENOMEM;
	cq->irq_enabled = true;
	if (!sq_new(c, 0, sq_mem, sq_size, cq)) {
		cq_free(c, cq);
		return -ENOMEM;
	}
	return 0;
}

void queues_free(struct nvme_ctrlr *c)
{
	for (unsigned i = 0; i < ARRAY_LEN(c->sqs); i++) {
		if (c->sqs[i])
			sq_free(c, c->sqs[i]);
	}
	for (unsigned i = 0; i < ARRAY_LEN(c->cqs); i++) {
		if (c->cqs[i])
			cq_free(c, c->cqs[i]);
	}
	c->active_count = 0;
	c->deleters = 0;
	c->shadow = c->event_idx = NULL;
}

/* --- commands --- */

/* Memory of a queue of @size entries of @bytes at PRP1, or why not. */
static uint16_t queue_memory(const struct nvme_req *r, uint32_t size, uint32_t bytes,
                             void **ret_mem)
{
	struct nvme_ctrlr *c = r->c;
	uint64_t addr = le64_get(r->cmd.prp1);
	void *mem;

	if (!(cdw(r->cmd.cdw11) & NVME_CREATE_PC)) /* CAP.CQR */
		return ERR(NVME_SC_INVALID_FIELD);
	if (addr & (c->page_bytes - 1))
		return ERR(NVME_SC_PRP_OFFSET);
	mem = c->dma(c->dma_arg, addr, (size_t)size * bytes);
	if (!mem || (uintptr_t)mem % sizeof(uint64_t))
		return ERR(NVME_SC_INVALID_FIELD);
	*ret_mem = mem;
	return 0;
}

static uint16_t size_check(const struct nvme_ctrlr *c, uint32_t qsize, bool entry_ok)
{
	return !qsize || qsize >= c->opts.entries_max || !entry_ok ? ERR(NVME_SC_QUEUE_SIZE) : 0;
}

uint16_t cq_create(struct nvme_req *r)
{
	struct nvme_ctrlr *c = r->c;
	uint32_t cdw10 = cdw(r->cmd.cdw10), cdw11 = cdw(r->cmd.cdw11);
	uint32_t qid = NVME_CREATE_QID(cdw10), qsize = NVME_CREATE_QSIZE(cdw10);
	struct ctrlr_cq *cq;
	void *mem;
	uint16_t st;

	if (!qid || qid > c->queues || c->cqs[qid])
		return ERR(NVME_SC_QID_INVALID);
	st = size_check(c, qsize, NVME_CC_IOCQES(c->cc) == 4);
	if (st)
		return st;
	if (NVME_CREATE_CQ_IV(cdw11) >= c->opts.vectors)
		return ERR(NVME_SC_VECTOR_INVALID);
	st = queue_memory(r, qsize + 1, sizeof(struct nvme_cqe), &mem);
	if (st)
		return st;
	cq = cq_new(c, (uint16_t)qid, mem, qsize + 1);
	if (!cq)
		return NVME_SC_INTERNAL;
	cq->vector = (uint16_t)NVME_CREATE_CQ_IV(cdw11);
	cq->irq_enabled = cdw11 & NVME_CREATE_CQ_IEN;
	return 0;
}

uint16_t sq_create(struct nvme_req *r)
{
	struct nvme_ctrlr *c = r->c;
	uint32_t cdw10 = cdw(r->cmd.cdw10), cdw11 = cdw(r->cmd.cdw11);
	uint32_t qid = NVME_CREATE_QID(cdw10), qsize = NVME_CREATE_QSIZE(cdw10);
	uint32_t cqid = NVME_CREATE_SQ_CQID(cdw11);
	void *mem;
	uint16_t st;

	if (!cqid || cqid > c->queues || !qid || qid > c->queues || c->sqs[qid])
		return ERR(NVME_SC_QID_INVALID);
	if (!c->cqs[cqid]) /* it might be there, but is not (Base 5.5) */
		return ERR(NVME_SC_CQ_INVALID);
	st = size_check(c, qsize, NVME_CC_IOSQES(c->cc) == 6);
	if (st)
		return st;
	st = queue_memory(r, qsize + 1, sizeof(struct nvme_cmd), &mem);
	if (st)
		return st;
	if (!sq_new(c, (uint16_t)qid, mem, qsize + 1, c->cqs[cqid]))
		return NVME_SC_INTERNAL;
	return 0;
}

/* Commands of @sq that wait for room in their completion queue end with it (Base 5.7). */
static void waiting_drop(struct ctrlr_sq *sq)
{
	struct nvme_req *r, *tmp;

	list_for_each_safe (r, tmp, &sq->cq->waiting, link) {
		if (r->sq != sq)
			continue;
		list_del(&r->link);
		req_drop(r);
	}
}

uint16_t sq_delete(struct nvme_req *r)
{
	struct nvme_ctrlr *c = r->c;
	uint32_t qid = NVME_CREATE_QID(cdw(r->cmd.cdw10));
	struct ctrlr_sq *sq;

	if (!qid || qid > c->queues || !c->sqs[qid] || c->sqs[qid]->deleter)
		return ERR(NVME_SC_QID_INVALID);
	sq = c->sqs[qid];
	sq_stop(c, sq);
	if (sq->fused) {
		req_drop(sq->fused);
		sq->fused = NULL;
	}
	sq->deleter = r;
	c->deleters++;
	return PENDING;
}

/* Deletions end when the last command of their queue has. */
int deletions_poll(struct nvme_ctrlr *c)
{
	int did = 0;

	for (unsigned i = 1; i <= c->queues && c->deleters; i++) {
		struct ctrlr_sq *sq = c->sqs[i];
		struct nvme_req *r = sq ? sq->deleter : NULL;

		if (!r)
			continue;
		waiting_drop(sq);
		if (sq->taken)
			continue;
		sq_free(c, sq);
		c->deleters--;
		req_complete(r, 0);
		did++;
	}
	return did;
}

uint16_t cq_delete(struct nvme_req *r)
{
	struct nvme_ctrlr *c = r->c;
	uint32_t qid = NVME_CREATE_QID(cdw(r->cmd.cdw10));

	if (!qid || qid > c->queues || !c->cqs[qid])
		return ERR(NVME_SC_QID_INVALID);
	if (c->cqs[qid]->sqs)
		return ERR(NVME_SC_QUEUE_DELETION);
	cq_free(c, c->cqs[qid]);
	return 0;
}

/* PRP1: the shadow doorbells, PRP2: the EventIdx values; a page each, with the doorbells' layout.
 * The admin queue keeps its own doorbells. */
uint16_t dbbuf_config(struct nvme_req *r)
{
	struct nvme_ctrlr *c = r->c;
	uint64_t shadow = le64_get(r->cmd.prp1), idx = le64_get(r->cmd.prp2);
	uint32_t page = c->page_bytes;
	uint8_t *shadow_mem, *idx_mem;

	if ((shadow | idx) & (page - 1))
		return ERR(NVME_SC_INVALID_FIELD);
	/* Queues whose doorbells don't fit can't be told of them. */
	if (NVME_DB_CQ(c->opts.queues_max, c->opts.dstrd) + sizeof(le32) > page)
		return ERR(NVME_SC_INVALID_OPCODE);
	shadow_mem = c->dma(c->dma_arg, shadow, page);
	idx_mem = c->dma(c->dma_arg, idx, page);
	if (!shadow_mem || !idx_mem || (((uintptr_t)shadow_mem | (uintptr_t)idx_mem) & 3))
		return ERR(NVME_SC_INVALID_FIELD);
	c->shadow = shadow_mem;
	c->event_idx = idx_mem;
	for (unsigned i = 1; i <= c->queues; i++) {
		if (c->sqs[i])
			sq_attach(c, c->sqs[i]);
		if (c->cqs[i])
			cq_attach(c, c->cqs[i]);
	}
	return 0;
}
