/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What those ask who run a controller for a host that shares memory with them: may this thread
 * sleep, does the controller still touch that memory, has everything ended.
 */
#include "nvme/ctrlr_int.h"

static bool db_moved(le32 *db, uint32_t seen)
{
	return le32_get(__atomic_load_n(db, __ATOMIC_ACQUIRE)) != seen;
}

bool nvme_ctrlr_may_sleep(const struct nvme_ctrlr *c)
{
	uint32_t cc =
	        le32_get(__atomic_load_n((le32 *)(void *)(c->bar + NVME_REG_CC), __ATOMIC_ACQUIRE));

	if (c->state == CTRLR_REMOVED)
		return true;
	if (cc != c->cc || c->irqs_due || (c->state == CTRLR_DRAINING && !c->taken && !c->shut_ns))
		return false;
	if (NVME_CSTS_SHST(c->csts) == NVME_SHST_BUSY && !c->shut_ns)
		return false;
	for (unsigned i = 0; ctrlr_lives(c) && i < c->active_count; i++) {
		const struct ctrlr_sq *sq = c->active[i];

		if (db_moved(sq->db, sq->db_seen) || db_moved(sq->cq->db, sq->cq->db_seen))
			return false;
		/* Out of requests: the end of one wakes the loop. */
		if (c->state == CTRLR_RUNNING && sq->head != sq->tail && *sq->pool)
			return false;
	}
	return true;
}

bool nvme_ctrlr_quiet(struct nvme_ctrlr *c)
{
	loop_assert(c->subsys->loop);
	nvme_ctrlr_remove(c);
	ctrlr_waiting_drop(c);
	return !c->taken && !c->shut_ns;
}

static bool overlaps(const void *a, size_t a_len, const void *b, size_t b_len)
{
	return (uintptr_t)a < (uintptr_t)b + b_len && (uintptr_t)b < (uintptr_t)a + a_len;
}

static bool queues_use(const struct nvme_ctrlr *c, const void *mem, size_t len)
{
	if ((c->shadow && overlaps(c->shadow, c->page_bytes, mem, len)) ||
	    (c->event_idx && overlaps(c->event_idx, c->page_bytes, mem, len)))
		return true;
	for (unsigned i = 0; i < ARRAY_LEN(c->sqs); i++) {
		const struct ctrlr_sq *sq = c->sqs[i];
		const struct ctrlr_cq *cq = c->cqs[i];

		if (sq && sq->entries &&
		    overlaps(sq->entries, sq->size * sizeof(*sq->entries), mem, len))
			return true;
		if (cq && cq->entries &&
		    overlaps(cq->entries, cq->size * sizeof(*cq->entries), mem, len))
			return true;
	}
	return false;
}

static bool req_uses(const struct nvme_req *r, const void *mem, size_t len)
{
	for (uint32_t i = 0; i < r->iov_count; i++) {
		if (overlaps(r->iov[i].iov_base, r->iov[i].iov_len, mem, len))
			return true;
	}
	return false;
}

bool nvme_ctrlr_uses(struct nvme_ctrlr *c, const void *mem, size_t len)
{
	bool uses = queues_use(c, mem, len);

	loop_assert(c->subsys->loop);
	/* Free requests still say what they had: those are found by their lists. */
	for (struct nvme_req *r = c->free; r; r = r->next)
		r->iov_count = 0;
	for (struct nvme_req *r = c->admin_free; r; r = r->next)
		r->iov_count = 0;
	for (unsigned i = 0; i < c->req_count && !uses; i++)
		uses = req_uses(&c->reqs[i], mem, len);
	return uses;
}

uint64_t nvme_ctrlr_completions(const struct nvme_ctrlr *c)
{
	return c->completions;
}
