/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * host_admin - the admin queue: commands that wait for room and for a controller that is ready,
 * aborts, asynchronous events.
 */
#include <stdio.h>

#include "nvme/host.h"

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
	void *page = host_buf(h, NVME_HOST_BUF_CALLER);
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
		s.a.cmd.prp1 = le64_make(host_buf_dma(h, NVME_HOST_BUF_CALLER));
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

/* One text for what is the same to who waits: so texts can be compared by their addresses. */
static const char *ana_words(unsigned state)
{
	switch (state) {
	case 0: /* not heard of */
	case NVME_ANA_OPTIMIZED:
	case NVME_ANA_NON_OPTIMIZED:
		return "accessible again (ANA)";
	case NVME_ANA_INACCESSIBLE:
		return nvme_status_text(NVME_SC_ANA_INACCESSIBLE, false);
	case NVME_ANA_PERSISTENT_LOSS:
		return nvme_status_text(NVME_SC_ANA_PERSISTENT_LOSS, false);
	case NVME_ANA_CHANGING:
		return nvme_status_text(NVME_SC_ANA_CHANGE, false);
	default:
		return "in a state unknown to us (ANA)";
	}
}

static bool ana_is_news(const struct nvme_host *h, uint32_t group)
{
	return ana_words(h->ana[group]) != ana_words(h->ana_said[group]);
}

/* Of all groups of which there is the same to tell as of @first. */
static void ana_say(struct nvme_host *h, uint32_t first)
{
	const char *words = ana_words(h->ana[first]);
	char groups[NVME_HOST_ANA_MAX * 4] = ""; /* at worst every second one, with a comma */
	size_t len = 0;
	unsigned count = 0;

	for (uint32_t g = first, last; g <= NVME_HOST_ANA_MAX; g = last + 1) {
		for (last = g; last <= NVME_HOST_ANA_MAX && ana_is_news(h, last) &&
		               ana_words(h->ana[last]) == words;
		     last++, count++)
			h->ana_said[last] = h->ana[last];
		if (last == g)
			continue;
		last--; /* of the run */
		len += (size_t)snprintf(groups + len, sizeof(groups) - len, "%s%u", len ? ", " : "",
		                        g);
		if (last > g)
			len += (size_t)snprintf(groups + len, sizeof(groups) - len, "-%u", last);
	}
	log_warn("nvme: controller %u: group%s %s: %s", le16_get(h->id->cntlid),
	         count > 1 ? "s" : "", groups, words);
}

/*
 * Who waits because of it shall know what for. A controller may say so as often as it likes: what there is
 * no time for is told with what comes next, if it is still so.
 */
static void ana_tell(struct nvme_host *h)
{
	bool may = false;

	for (uint32_t g = 1; g <= NVME_HOST_ANA_MAX; g++) {
		if (!ana_is_news(h, g))
			continue;
		may = may || log_may(&h->ana_told, loop_now(h->loop), 2);
		if (!may)
			return;
		ana_say(h, g);
	}
}

/* The log at @page, 4096 bytes of it, with groups only; copied before it is looked at. */
void host_ana_learn(struct nvme_host *h, const void *page)
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
	ana_tell(h);
}

/* --- events --- */

static void event_arm(struct nvme_host *h);

static void event_read(struct nvme_admin *a)
{
	struct nvme_host *h = container_of(a, struct nvme_host, event_log);

	if (!a->status && NVME_EVENT_PAGE(h->event.dw0) == NVME_LOG_ANA)
		host_ana_learn(h, host_buf(h, NVME_HOST_BUF_EVENT));
	if (h->event_fn)
		h->event_fn(h->event_arg, h->event.dw0);
	if (h->state != NVME_HOST_LIVE)
		return;
	if (NVME_EVENT_PAGE(h->event.dw0) == NVME_LOG_CHANGED_NS)
		host_namespaces_check(h);
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
	        .prp1 = le64_make(host_buf_dma(h, NVME_HOST_BUF_EVENT)),
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
