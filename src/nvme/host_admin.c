/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * host_admin - the admin queue: commands that wait for room and for a controller that is ready, the
 * set-up after each enable, aborts, asynchronous events.
 */
#include "nvme/host.h"

static uint64_t buf_dma(const struct nvme_host *h, unsigned page)
{
	return h->buf_dma + ((uint64_t)page << h->page_shift);
}

static void *buf_addr(const struct nvme_host *h, unsigned page)
{
	return (char *)h->buf->addr + ((size_t)page << h->page_shift);
}

/* --- sending --- */

void nvme_host_admin_send(struct nvme_host *h, struct nvme_admin *a)
{
	pst_assert(!a->busy);
	a->busy = true;
	list_push(&h->admin_waiting, &a->link);
}

static void admin_done(struct nvme_admin *a, uint16_t status, uint32_t dw0)
{
	a->status = status;
	a->dw0 = dw0;
	a->busy = false;
	a->done(a); /* may send it again */
}

static int admin_reap(struct nvme_host *h)
{
	struct pst_nvme_queue *q = &h->admin_q.q;
	struct list batch;
	struct list *n;
	struct pst_nvme_reap r;
	struct pst_nvme_done d;
	int count = 0;

	list_init(&batch);
	pst_nvme_reap_begin(q, &r);
	while (pst_nvme_reap_next(&r, &d)) {
		struct nvme_admin *a = d.arg;

		a->status = d.status;
		a->dw0 = d.dw0;
		list_push(&batch, &a->link);
	}
	pst_nvme_reap_end(&r);
	while ((n = list_pop(&batch))) {
		struct nvme_admin *a = list_entry(n, struct nvme_admin, link);

		admin_done(a, a->status, a->dw0);
		count++;
	}
	return count;
}

static int admin_submit(struct nvme_host *h)
{
	struct pst_nvme_batch b;
	int count = 0;

	pst_nvme_batch_begin(&h->admin_q.q, &b);
	while (!list_empty(&h->admin_waiting) && !pst_nvme_batch_full(&b)) {
		struct nvme_admin *a =
		        list_entry(list_pop(&h->admin_waiting), struct nvme_admin, link);
		struct pst_nvme_sqe e;

		memcpy(&e, &a->cmd, sizeof(e));
		pst_nvme_batch_cmd(&b, a, &e, NULL);
		count++;
	}
	pst_nvme_batch_end(&b);
	if (count && h->t->ops->rung)
		h->t->ops->rung(h->t);
	return count;
}

int admin_poll(struct nvme_host *h)
{
	int count = admin_reap(h);

	if (h->state == NVME_HOST_SETUP || h->state == NVME_HOST_LIVE ||
	    h->state == NVME_HOST_QUIESCING)
		count += admin_submit(h);
	else if (h->state == NVME_HOST_DEAD)
		admin_fail_waiting(h, PST_NVME_STATUS_GONE);
	return count;
}

void admin_fail_waiting(struct nvme_host *h, uint16_t status)
{
	struct list batch;
	struct list *n;

	list_init(&batch);
	list_splice(&batch, &h->admin_waiting);
	while ((n = list_pop(&batch)))
		admin_done(list_entry(n, struct nvme_admin, link), status, 0);
}

/* --- blocking --- */

struct sync_admin {
	struct nvme_admin a;
	bool done;
};

static void sync_done(struct nvme_admin *a)
{
	container_of(a, struct sync_admin, a)->done = true;
}

int nvme_host_admin(struct nvme_host *h, const struct nvme_cmd *cmd, void *data, size_t len_bytes,
                    uint32_t *ret_dw0, uint16_t *ret_status)
{
	struct sync_admin s = {.a = {.cmd = *cmd, .done = sync_done}};
	void *page = buf_addr(h, NVME_HOST_BUF_CALLER);
	unsigned dir = NVME_OPC_DIR(cmd->opc);

	if (h->state == NVME_HOST_DEAD)
		return h->error;
	if (len_bytes > 1u << h->page_shift || (len_bytes && !data))
		return -EINVAL;
	if (h->buf_busy)
		return -EBUSY;
	h->buf_busy = true;
	if (len_bytes) {
		memset(page, 0, (size_t)1 << h->page_shift);
		if (dir & NVME_DIR_TO_CTRLR)
			memcpy(page, data, len_bytes);
		s.a.cmd.prp1 = le64_make(buf_dma(h, NVME_HOST_BUF_CALLER));
		s.a.cmd.prp2 = 0;
	}
	nvme_host_admin_send(h, &s.a);
	while (!s.done) /* the queue's timeout sees to it that this ends */
		loop_turn(h->loop, NSEC_PER_SEC);
	h->buf_busy = false;
	if (ret_dw0)
		*ret_dw0 = s.a.dw0;
	if (ret_status)
		*ret_status = s.a.status;
	if (s.a.status)
		return h->state == NVME_HOST_DEAD ? h->error : nvme_status_errno(s.a.status);
	if (len_bytes && (dir & NVME_DIR_TO_HOST))
		memcpy(data, page, len_bytes);
	return 0;
}

/* --- aborts --- */

static void aborted(struct nvme_admin *a)
{
	/* Whether it worked shows in the command's own completion, or in its absence (H4). */
}

void host_abort(struct nvme_host *h, uint16_t qid, uint16_t cid)
{
	for (unsigned i = 0; i < NVME_HOST_ABORTS; i++) {
		struct nvme_admin *a = &h->abort[i];

		if (a->busy)
			continue;
		a->cmd = (struct nvme_cmd){.opc = NVME_ADMIN_ABORT,
		                           .cdw10 = le32_make((uint32_t)cid << 16 | qid)};
		a->done = aborted;
		nvme_host_admin_send(h, a);
		return;
	}
}

/* --- ANA --- */

enum nvme_ana_state nvme_host_ana(const struct nvme_host *h, uint32_t group)
{
	if (!group || group > NVME_HOST_ANA_MAX || !h->ana[group])
		return NVME_ANA_OPTIMIZED;
	return (enum nvme_ana_state)h->ana[group];
}

/* The log at @page, 4096 bytes of it, with groups only; copied before it is looked at. */
static void ana_learn(struct nvme_host *h, const void *page)
{
	const uint8_t *p = page;
	struct nvme_ana_log log;
	uint32_t at = sizeof(log);

	memcpy(&log, p, sizeof(log));
	for (unsigned i = 0; i < le16_get(log.groups) && at + sizeof(struct nvme_ana_group) <= 4096;
	     i++) {
		struct nvme_ana_group g;

		memcpy(&g, p + at, sizeof(g));
		at += sizeof(g);
		if (le32_get(g.group) - 1 < NVME_HOST_ANA_MAX && (g.state & 0xf))
			h->ana[le32_get(g.group)] = g.state & 0xf;
		if (le32_get(g.nsids) > (4096 - at) / 4)
			break;
		at += le32_get(g.nsids) * 4;
	}
}

/* --- events --- */

static void event_arm(struct nvme_host *h);

static void event_read(struct nvme_admin *a)
{
	struct nvme_host *h = container_of(a, struct nvme_host, event_log);

	if (!a->status && NVME_EVENT_PAGE(h->event.dw0) == NVME_LOG_ANA)
		ana_learn(h, buf_addr(h, NVME_HOST_BUF_EVENT));
	if (h->event_fn)
		h->event_fn(h->event_arg, h->event.dw0);
	if (h->state == NVME_HOST_LIVE)
		event_arm(h);
}

/* Reading the page (without Retain Asynchronous Event) lets the controller tell of the next. */
static void event_came(struct nvme_admin *a)
{
	struct nvme_host *h = container_of(a, struct nvme_host, event);
	uint32_t dwords = (1u << h->page_shift) / 4 - 1;

	if (a->status)
		return; /* reset, or the controller takes no more: armed again when LIVE */
	if (NVME_EVENT_PAGE(a->dw0) == NVME_LOG_SMART)
		dwords = sizeof(struct nvme_smart) / 4 - 1;
	if (NVME_EVENT_PAGE(a->dw0) == NVME_LOG_ANA)
		dwords = 4096 / 4 - 1;
	h->event_log.cmd = (struct nvme_cmd){
	        .opc = NVME_ADMIN_GET_LOG,
	        .nsid = le32_make(NVME_NSID_ALL),
	        .prp1 = le64_make(buf_dma(h, NVME_HOST_BUF_EVENT)),
	        .cdw10 = le32_make(NVME_EVENT_PAGE(a->dw0) | dwords << 16),
	};
	if (NVME_EVENT_PAGE(a->dw0) == NVME_LOG_ANA) /* groups only: they fit */
		h->event_log.cmd.cdw10 |= le32_make(NVME_ANA_RGO << 8);
	h->event_log.done = event_read;
	nvme_host_admin_send(h, &h->event_log);
}

static void event_arm(struct nvme_host *h)
{
	if (h->event.busy || h->event_log.busy)
		return;
	h->event.cmd = (struct nvme_cmd){.opc = NVME_ADMIN_ASYNC_EVENT};
	h->event.done = event_came;
	nvme_host_admin_send(h, &h->event);
}

void host_events_arm(struct nvme_host *h)
{
	event_arm(h);
}

/* --- set-up: one command after the other --- */

enum { SETUP_IDENTIFY, SETUP_QUEUES, SETUP_SHADOW, SETUP_EVENTS, SETUP_ANA, SETUP_DONE };

static bool setup_command(struct nvme_host *h, struct nvme_cmd *c)
{
	uint32_t queues = h->o.queues_max - 1, page = 1u << h->page_shift, events;

	*c = (struct nvme_cmd){.opc = NVME_ADMIN_SET_FEATURES};
	switch (h->setup_step) {
	case SETUP_IDENTIFY:
		c->opc = NVME_ADMIN_IDENTIFY;
		c->prp1 = le64_make(buf_dma(h, NVME_HOST_BUF_SETUP));
		c->cdw10 = le32_make(NVME_CNS_CTRLR);
		return true;
	case SETUP_QUEUES:
		c->cdw10 = le32_make(NVME_FEAT_QUEUES);
		c->cdw11 = le32_make(queues << 16 | queues);
		return true;
	case SETUP_SHADOW:
		h->shadow = false;
		if (!h->o.shadow || !(le16_get(h->id->oacs) & NVME_OACS_DBBUF))
			return false;
		memset(buf_addr(h, NVME_HOST_BUF_SHADOW), 0, page);
		memset(buf_addr(h, NVME_HOST_BUF_INDEX), 0, page);
		c->opc = NVME_ADMIN_DBBUF;
		c->prp1 = le64_make(buf_dma(h, NVME_HOST_BUF_SHADOW));
		c->prp2 = le64_make(buf_dma(h, NVME_HOST_BUF_INDEX));
		return true;
	case SETUP_EVENTS:
		events = le32_get(h->id->oaes) & (NVME_OAES_NS | NVME_OAES_ANA);
		c->cdw10 = le32_make(NVME_FEAT_ASYNC);
		c->cdw11 = le32_make(NVME_ASYNC_HEALTH | events);
		return true;
	case SETUP_ANA:
		memset(h->ana, 0, sizeof(h->ana));
		if (!(h->id->cmic & NVME_CMIC_ANA))
			return false;
		c->opc = NVME_ADMIN_GET_LOG;
		c->nsid = le32_make(NVME_NSID_ALL);
		c->prp1 = le64_make(buf_dma(h, NVME_HOST_BUF_SETUP));
		c->cdw10 = le32_make(NVME_LOG_ANA | NVME_ANA_RGO << 8 | (4096u / 4 - 1) << 16);
		return true;
	}
	return false;
}

/* What Identify Controller says, checked: the same device as before, limits that can be kept. */
static int setup_identified(struct nvme_host *h)
{
	const struct nvme_id_ctrlr *id = buf_addr(h, NVME_HOST_BUF_SETUP);
	uint64_t limit = h->o.io_max_bytes;

	if (id->mdts && id->mdts < 32)
		limit = MIN(limit, 1ull << (h->page_shift + id->mdts));
	limit = ALIGN_DOWN(limit, 1u << h->page_shift);
	if (h->ever_live && (memcmp(id->sn, h->id->sn, sizeof(id->sn)) || limit < h->io_max_bytes))
		return -ENODEV;
	if ((id->sqes & 0xf) > 6 || id->sqes >> 4 < 6 || (id->cqes & 0xf) > 4 || id->cqes >> 4 < 4)
		return -EIO;
	memcpy(h->id, id, sizeof(*id));
	if (!h->ever_live)
		h->io_max_bytes = (uint32_t)limit;
	h->vwc = id->vwc & NVME_VWC_PRESENT;
	h->sgl = h->o.sgl && (le32_get(id->sgls) & 3);
	return 0;
}

static int setup_result(struct nvme_host *h, const struct nvme_admin *a)
{
	uint32_t queues;

	switch (h->setup_step) {
	case SETUP_IDENTIFY:
		return a->status ? nvme_status_errno(a->status) : setup_identified(h);
	case SETUP_QUEUES:
		if (a->status)
			return nvme_status_errno(a->status);
		queues = MIN(NVME_QUEUES_NSQ(a->dw0), NVME_QUEUES_NCQ(a->dw0)) + 1;
		queues = MIN(queues, h->o.queues_max);
		if (h->ever_live && queues < h->queues_max)
			return -ENODEV; /* fewer than are in use, perhaps */
		h->queues_max = queues;
		return 0;
	case SETUP_ANA:
		if (!a->status) /* without its log nobody knows better: all count as optimized */
			ana_learn(h, buf_addr(h, NVME_HOST_BUF_SETUP));
		return 0;
	case SETUP_SHADOW:
		h->shadow = !a->status; /* an offer, not a promise */
		return 0;
	default:
		return 0;
	}
}

static void setup_next(struct nvme_host *h);

static void setup_done(struct nvme_admin *a)
{
	struct nvme_host *h = container_of(a, struct nvme_host, setup);
	int rc;

	if (h->state != NVME_HOST_SETUP)
		return;
	rc = setup_result(h, a);
	if (rc == -ENODEV) {
		host_dead(h, rc);
		return;
	}
	if (rc) {
		log_warn("nvme: set-up step %u failed: status %#x", h->setup_step, a->status);
		h->reset_wanted = true;
		return;
	}
	h->setup_step++;
	setup_next(h);
}

static void setup_next(struct nvme_host *h)
{
	while (h->setup_step < SETUP_DONE) {
		if (setup_command(h, &h->setup.cmd)) {
			h->setup.done = setup_done;
			nvme_host_admin_send(h, &h->setup);
			return;
		}
		h->setup_step++;
	}
	host_live(h);
}

void host_setup_begin(struct nvme_host *h)
{
	h->setup_step = SETUP_IDENTIFY;
	setup_next(h);
}
