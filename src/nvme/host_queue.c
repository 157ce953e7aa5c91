/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * host_queue - the host's side of a queue's life: memory, creation and deletion on the controller,
 * and answers for what a controller that was reset will never answer (rules H1 to H4 of host.h).
 */
#include "nvme/host.h"

#include <sys/mman.h>
#include <unistd.h>

/* --- memory --- */

/* Bytes of PRP list for transfers of @io_max_bytes: see struct pst_nvme_queue_mem. */
static uint32_t prp_bytes(uint32_t io_max_bytes, uint32_t page)
{
	uint32_t entries = DIV_ROUND_UP(io_max_bytes, page), bytes = 64;

	while (bytes < page && bytes / 8 < entries)
		bytes *= 2;
	if (bytes / 8 >= entries)
		return bytes;
	return DIV_ROUND_UP(entries, page / 8 - 1) * page;
}

static int hq_memory(struct nvme_hq *hq, struct nvme_host *h, uint32_t entries,
                     struct pst_nvme_queue_mem *m)
{
	uint32_t page = 1u << h->page_shift;
	uint64_t sq = ALIGN_UP((uint64_t)entries * sizeof(struct pst_nvme_sqe), page);
	uint64_t cq = ALIGN_UP((uint64_t)entries * sizeof(struct pst_nvme_cqe), page);
	uint64_t prp;
	uint8_t *p;
	int rc;

	m->prp_bytes = prp_bytes(h->io_max_bytes, page);
	prp = ALIGN_UP((uint64_t)entries * m->prp_bytes, page);
	/* A region of its own: payload never shares its pages. Nor a huge one that the kernel might make
	 * of neighbours (where it makes none, there is nothing to refuse). */
	rc = mem_region_new(&hq->region, h->t->mem_kind, sq + cq + prp);
	if (rc)
		return rc;
	if (madvise(hq->region->addr, hq->region->len_bytes, MADV_NOHUGEPAGE))
		log_debug("nvme: no huge pages to be kept out of: %s", strerror(errno));
	rc = h->t->ops->map(h->t, hq->region, &hq->dma);
	if (rc) {
		mem_region_free(hq->region);
		hq->region = NULL;
		return rc;
	}
	p = hq->region->addr;
	m->sq = (struct pst_nvme_sqe *)(void *)p;
	m->cq = (struct pst_nvme_cqe *)(void *)(p + sq);
	m->prp = (uint64_t *)(void *)(p + sq + cq);
	m->prp_dma = hq->dma + sq + cq;
	hq->sq_dma = hq->dma;
	hq->cq_dma = hq->dma + sq;
	return 0;
}

int hq_layout(struct nvme_hq *hq, struct nvme_host *h, uint16_t qid, uint32_t entries,
              const struct pst_nvme_queue_opts *opts)
{
	struct pst_nvme_queue_mem m = {0};
	int rc = 0;

	hq->host = h;
	list_init(&hq->link);
	hq->aborted = mem_calloc(entries, sizeof(*hq->aborted));
	hq->slot = mem_calloc(entries, sizeof(*hq->slot));
	if (!hq->aborted || !hq->slot)
		rc = -ENOMEM;
	else if (opts && opts->mem) {
		m = *opts->mem;
		hq->sq_dma = opts->sq_dma;
		hq->cq_dma = opts->cq_dma;
	} else {
		rc = hq_memory(hq, h, entries, &m);
	}
	if (!rc) {
		if (!m.slot)
			m.slot = hq->slot;
		rc = m.sq && m.cq ? pst_nvme_queue_init(&hq->q, qid, entries, h->page_shift, &m)
		                  : -EINVAL;
		rc = rc ? -EINVAL : 0;
	}
	if (rc) {
		hq_release(hq);
		return rc;
	}
	hq->q.priv = hq;
	hq_stop(hq);
	return 0;
}

void hq_release(struct nvme_hq *hq)
{
	if (hq->region) {
		hq->host->t->ops->unmap(hq->host->t, hq->region, hq->dma);
		mem_region_free(hq->region);
		hq->region = NULL;
	}
	mem_free(hq->aborted);
	mem_free(hq->slot);
	hq->aborted = NULL;
	hq->slot = NULL;
}

/* --- stopping, and answers in the controller's place --- */

void hq_stop(struct nvme_hq *hq)
{
	pst_nvme_queue_stop(&hq->q, true);
	hq->q.sq_doorbell = hq->q.cq_doorbell = &hq->host->nowhere;
	hq->q.sq_shadow = hq->q.cq_shadow = NULL;
	hq->q.sq_eventidx = hq->q.cq_eventidx = NULL;
}

/* The ring of completions from the next one on: position @i, and the phase that is new there. */
static struct pst_nvme_cqe *cqe_at(const struct pst_nvme_queue *q, uint32_t i, uint16_t *ret_new)
{
	uint32_t at = (uint32_t)(q->cq_next - q->cq) + i;
	bool odd = (q->phase != 0) != (at > q->mask);

	*ret_new = odd ? 0 : 1;
	return &q->cq[at & q->mask];
}

/* The slot that a completion belongs to, or NULL. */
static struct pst_nvme_slot *slot_of(const struct pst_nvme_queue *q, uint16_t cid)
{
	struct pst_nvme_slot *s = &q->slot[cid & q->mask];

	return s->live == (uint32_t)cid << 16 ? s : NULL;
}

#define ANSWERED UINT32_MAX /* age of a slot whose completion is in the ring */

/*
 * Rewrites the ring: what the controller answered and nobody reaped, without what belongs to no
 * command or comes twice; then an answer for each of the rest; then nothing new. At most N - 1
 * entries, and none is moved forward, so one pass in place does.
 */
void hq_answer(struct nvme_hq *hq, uint16_t status)
{
	struct pst_nvme_queue *q = &hq->q;
	uint32_t count = 0;
	uint16_t fresh;

	for (uint32_t i = 0; i <= q->mask; i++) {
		struct pst_nvme_cqe e = *cqe_at(q, i, &fresh), *to;
		struct pst_nvme_slot *s = slot_of(q, e.cid);

		if ((e.status & 1) != fresh)
			break;
		if (!s || s->age == ANSWERED)
			continue;
		s->age = ANSWERED;
		to = cqe_at(q, count++, &fresh);
		*to = e;
		to->status = (uint16_t)((e.status & ~1u) | fresh);
	}
	for (uint32_t i = 0; i < q->mask; i++) {
		struct pst_nvme_slot *s = &q->slot[i];

		if (s->live & PST_NVME_SLOT_FREE)
			continue;
		if (s->age != ANSWERED)
			*cqe_at(q, count++, &fresh) =
			        (struct pst_nvme_cqe){.sqid = q->qid,
			                              .cid = (uint16_t)(s->live >> 16),
			                              .status = (uint16_t)(status << 1)};
		s->age = 0;
	}
	for (uint32_t i = 0; i <= q->mask; i++) {
		struct pst_nvme_cqe *e = cqe_at(q, i, &fresh);

		e->status = (uint16_t)((e->status & ~1u) | (i < count ? fresh : !fresh));
	}
	memset(hq->aborted, 0, (q->mask + 1) * sizeof(*hq->aborted));
}

/* --- on the controller --- */

void hq_doorbells(struct nvme_hq *hq)
{
	struct nvme_host *h = hq->host;
	struct pst_nvme_queue *q = &hq->q;
	uint32_t sq = NVME_DB_SQ(q->qid, h->dstrd), cq = NVME_DB_CQ(q->qid, h->dstrd);
	uint32_t page = 1u << h->page_shift;
	char *shadow = (char *)h->buf->addr + (size_t)NVME_HOST_BUF_SHADOW * page;
	char *index = (char *)h->buf->addr + (size_t)NVME_HOST_BUF_INDEX * page;

	q->sq_doorbell = h->t->ops->doorbell(h->t, sq);
	q->cq_doorbell = h->t->ops->doorbell(h->t, cq);
	pst_assert(q->sq_doorbell && q->cq_doorbell); /* hq_fits() */
	if (h->shadow && q->qid && cq + 4 <= page) {
		q->sq_shadow = (volatile uint32_t *)(void *)(shadow + sq);
		q->cq_shadow = (volatile uint32_t *)(void *)(shadow + cq);
		q->sq_eventidx = (volatile uint32_t *)(void *)(index + sq);
		q->cq_eventidx = (volatile uint32_t *)(void *)(index + cq);
		*q->sq_shadow = *q->cq_shadow = *q->sq_eventidx = *q->cq_eventidx = 0;
	}
	q->timeout_ticks = h->o.timeout_ms ? NVME_HOST_TICKS : 0;
	pst_nvme_queue_stop(q, false);
}

static void create_step(struct nvme_hq *hq);

static void created(struct nvme_admin *a)
{
	struct nvme_hq *hq = container_of(a, struct nvme_hq, admin);

	if (hq->state != HQ_CREATING)
		return; /* stopped meanwhile: it begins anew */
	if (a->status == PST_NVME_STATUS_ABORTED) {
		hq->state = HQ_WAITING;
	} else if (a->status) {
		hq->state = HQ_FAILED;
		log_warn("nvme: queue %u can't be created: %s (status %#x)", hq->q.qid,
		         nvme_status_text(a->status, false), NVME_STATUS_CODE(a->status));
	} else if (!hq->creating_sq) {
		hq->creating_sq = true;
		create_step(hq);
	} else {
		hq->state = HQ_LIVE;
		hq_doorbells(hq);
	}
}

/* Vector 0 is the admin queue's; where there is only that one, all share it. */
static unsigned hq_vector(const struct nvme_hq *hq)
{
	unsigned io = hq->host->t->vectors - 1;

	return io ? 1 + (hq->q.qid - 1u) % io : 0;
}

/* The completion queue first: the submission queue names it. */
static void create_step(struct nvme_hq *hq)
{
	struct nvme_cmd *c = &hq->admin.cmd;
	uint16_t qid = hq->q.qid;
	bool sq = hq->creating_sq;
	uint32_t flags = NVME_CREATE_PC;

	if (sq)
		flags |= (uint32_t)qid << 16;
	else if (!hq->host->t->polled && hq->host->t->vectors)
		flags |= NVME_CREATE_CQ_IEN | (uint32_t)hq_vector(hq) << 16;
	*c = (struct nvme_cmd){.opc = sq ? NVME_ADMIN_CREATE_SQ : NVME_ADMIN_CREATE_CQ,
	                       .prp1 = le64_make(sq ? hq->sq_dma : hq->cq_dma),
	                       .cdw10 = le32_make(hq->q.mask << 16 | qid),
	                       .cdw11 = le32_make(flags)};
	hq->admin.done = created;
	nvme_host_admin_send(hq->host, &hq->admin);
}

static void sq_deleted(struct nvme_admin *a)
{
	struct nvme_host *h = container_of(a, struct nvme_hq, admin)->host;

	if (h->state == NVME_HOST_QUIESCING)
		h->deleting--;
}

bool hq_delete_sq(struct nvme_hq *hq)
{
	if (hq->state != HQ_LIVE || hq->admin.busy)
		return false;
	hq->admin.cmd =
	        (struct nvme_cmd){.opc = NVME_ADMIN_DELETE_SQ, .cdw10 = le32_make(hq->q.qid)};
	hq->admin.done = sq_deleted;
	nvme_host_admin_send(hq->host, &hq->admin);
	return true;
}

int hq_poll(struct nvme_hq *hq)
{
	if (hq->state != HQ_WAITING || pst_nvme_queue_inflight(&hq->q) || hq->admin.busy)
		return 0;
	pst_nvme_queue_rewind(&hq->q);
	hq->creating_sq = false;
	hq->state = HQ_CREATING;
	create_step(hq);
	return 1;
}

/* --- time --- */

bool hq_tick(struct nvme_hq *hq)
{
	struct pst_nvme_queue *q = &hq->q;
	struct nvme_host *h = hq->host;
	uint32_t at = 0;
	uint16_t cid;
	bool lost = false;

	while (pst_nvme_queue_tick(q, &at, &cid)) {
		struct pst_nvme_slot *s = &q->slot[cid & q->mask];

		if (s->arg == &h->event)
			continue; /* waits for ever */
		if (!q->qid || hq->aborted[cid & q->mask] == (uint16_t)(cid + 1)) {
			log_warn("nvme: queue %u: command %#x is lost", q->qid, cid);
			lost = true;
			continue;
		}
		log_warn("nvme: queue %u: command %#x takes too long: aborting it", q->qid, cid);
		hq->aborted[cid & q->mask] = (uint16_t)(cid + 1);
		s->age = q->timeout_ticks > 2 ? q->timeout_ticks - 2 : 0;
		host_abort(h, q->qid, cid);
	}
	return lost;
}

/* --- from outside --- */

static int qid_take(struct nvme_host *h, uint16_t *ret_qid)
{
	for (uint32_t qid = 1; qid <= h->queues_max; qid++) {
		if (h->qids[qid / 64] >> (qid % 64) & 1)
			continue;
		if (!h->t->ops->doorbell(h->t, NVME_DB_CQ(qid, h->dstrd)))
			break;
		h->qids[qid / 64] |= 1ull << (qid % 64);
		*ret_qid = (uint16_t)qid;
		return 0;
	}
	return -ENOSPC;
}

static void qid_give(struct nvme_host *h, uint16_t qid)
{
	h->qids[qid / 64] &= ~(1ull << (qid % 64));
}

static int hq_wait_live(struct nvme_hq *hq)
{
	struct nvme_host *h = hq->host;

	while (hq->state != HQ_LIVE) {
		if (h->state == NVME_HOST_DEAD)
			return h->error;
		if (hq->state == HQ_FAILED)
			return nvme_status_errno(hq->admin.status);
		loop_turn(h->loop, NSEC_PER_SEC);
	}
	return 0;
}

int nvme_host_queue_new(struct nvme_host *h, const struct pst_nvme_queue_opts *opts,
                        struct nvme_hq **ret_q)
{
	uint32_t entries = opts && opts->entries ? opts->entries : 1024, n = PST_NVME_ENTRIES_MIN;
	uint16_t qid = 0;
	struct nvme_hq *hq;
	int rc;

	if (entries < PST_NVME_ENTRIES_MIN)
		return -EINVAL;
	while (n * 2 <= MIN(entries, h->entries_max))
		n *= 2;
	if (opts && opts->mem && n != entries)
		return -EINVAL; /* its layout depends on it */
	rc = qid_take(h, &qid);
	if (rc)
		return rc;
	hq = mem_calloc(1, sizeof(*hq));
	rc = hq ? hq_layout(hq, h, qid, n, opts) : -ENOMEM;
	if (rc) {
		qid_give(h, qid);
		mem_free(hq);
		return rc;
	}
	hq->state = HQ_WAITING;
	list_push(&h->queues, &hq->link);
	rc = hq_wait_live(hq);
	if (rc) {
		nvme_host_queue_free(hq);
		return rc;
	}
	*ret_q = hq;
	return 0;
}

static void deleted(struct nvme_admin *a)
{
	struct nvme_hq *hq = container_of(a, struct nvme_hq, admin);

	/* After a reset there is nothing left to delete. */
	if (a->status || a->cmd.opc == NVME_ADMIN_DELETE_CQ) {
		hq->state = HQ_GONE;
		return;
	}
	a->cmd.opc = NVME_ADMIN_DELETE_CQ;
	nvme_host_admin_send(hq->host, a);
}

void nvme_host_queue_free(struct nvme_hq *hq)
{
	struct nvme_host *h;
	bool live;

	if (!hq)
		return;
	h = hq->host;
	pst_assert(!pst_nvme_queue_inflight(&hq->q));
	live = hq->state == HQ_LIVE;
	hq_stop(hq);
	hq->state = HQ_DELETING;
	while (hq->admin.busy && h->state != NVME_HOST_DEAD)
		loop_turn(h->loop, NSEC_PER_SEC);
	if (live && h->state == NVME_HOST_LIVE) {
		hq->admin.cmd = (struct nvme_cmd){.opc = NVME_ADMIN_DELETE_SQ,
		                                  .cdw10 = le32_make(hq->q.qid)};
		hq->admin.done = deleted;
		nvme_host_admin_send(h, &hq->admin);
		while (hq->state != HQ_GONE)
			loop_turn(h->loop, NSEC_PER_SEC);
	}
	list_del(&hq->link);
	qid_give(h, hq->q.qid);
	hq_release(hq);
	mem_free(hq);
}
