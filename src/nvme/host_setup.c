/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * host_setup - what is said and asked after each enable, one command after the other, until the
 * controller is LIVE. After a reset what answers may be something else (a target that was started
 * anew, another one at its address), so it is asked again who it is, and whether the namespaces that
 * the host was told of are the ones they were (identity.c); only then do queues come, and commands.
 */
#include "nvme/host.h"

/* --- set-up: one command after the other --- */

enum {
	SETUP_IDENTIFY,
	SETUP_QUEUES,
	SETUP_SHADOW,
	SETUP_EVENTS,
	SETUP_ANA,
	/* For each namespace that the host was told of; also alone, when some have changed. */
	SETUP_NS,
	SETUP_NS_IDS,
	SETUP_DONE,
};

static bool setup_command(struct nvme_host *h, struct nvme_cmd *c)
{
	uint32_t queues = h->o.queues_max - 1, page = 1u << h->page_shift, events;

	*c = (struct nvme_cmd){.opc = NVME_ADMIN_SET_FEATURES};
	switch (h->setup_step) {
	case SETUP_IDENTIFY:
		c->opc = NVME_ADMIN_IDENTIFY;
		c->prp1 = le64_make(host_buf_dma(h, NVME_HOST_BUF_SETUP));
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
		memset(host_buf(h, NVME_HOST_BUF_SHADOW), 0, page);
		memset(host_buf(h, NVME_HOST_BUF_INDEX), 0, page);
		c->opc = NVME_ADMIN_DBBUF;
		c->prp1 = le64_make(host_buf_dma(h, NVME_HOST_BUF_SHADOW));
		c->prp2 = le64_make(host_buf_dma(h, NVME_HOST_BUF_INDEX));
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
		c->prp1 = le64_make(host_buf_dma(h, NVME_HOST_BUF_SETUP));
		c->cdw10 = le32_make(NVME_LOG_ANA | NVME_ANA_RGO << 8 | (4096u / 4 - 1) << 16);
		return true;
	case SETUP_NS:
	case SETUP_NS_IDS:
		if (!h->checked)
			return false;
		c->opc = NVME_ADMIN_IDENTIFY;
		c->nsid = le32_make(h->checked->nsid);
		c->prp1 = le64_make(host_buf_dma(h, NVME_HOST_BUF_SETUP));
		c->cdw10 = le32_make(h->setup_step == SETUP_NS ? NVME_CNS_NS : NVME_CNS_NS_DESC);
		memset(host_buf(h, NVME_HOST_BUF_SETUP), 0, page);
		return true;
	}
	return false;
}

/* After a reset: -ENODEV, and why, when it is not the controller that it was. */
static int setup_same(struct nvme_host *h, const struct nvme_id_ctrlr *id, uint64_t limit)
{
	if (!nvme_ctrlr_same(h->id, id)) {
		char was[NVME_IDENTITY_TEXT], is[NVME_IDENTITY_TEXT];

		nvme_ctrlr_text(was, sizeof(was), h->id);
		nvme_ctrlr_text(is, sizeof(is), id);
		log_error("nvme: another controller has come back: expected %s, there is %s", was,
		          is);
		return -ENODEV;
	}
	if (limit < h->io_max_bytes) {
		log_error("nvme: the controller that came back takes %u bytes in one command, "
		          "before it took %u",
		          (unsigned)limit, h->io_max_bytes);
		return -ENODEV;
	}
	return 0;
}

/* What Identify Controller says, checked: the same device as before, limits that can be kept. */
static int setup_identified(struct nvme_host *h)
{
	const struct nvme_id_ctrlr *id = host_buf(h, NVME_HOST_BUF_SETUP);
	uint64_t limit = h->o.io_max_bytes;
	int rc;

	if (id->mdts && id->mdts < 32)
		limit = MIN(limit, 1ull << (h->page_shift + id->mdts));
	limit = ALIGN_DOWN(limit, 1u << h->page_shift);
	rc = h->ever_live ? setup_same(h, id, limit) : 0;
	if (rc)
		return rc;
	if ((id->sqes & 0xf) > 6 || id->sqes >> 4 < 6 || (id->cqes & 0xf) > 4 || id->cqes >> 4 < 4)
		return -EIO;
	memcpy(h->id, id, sizeof(*id));
	if (!h->ever_live)
		h->io_max_bytes = (uint32_t)limit;
	h->vwc = id->vwc & NVME_VWC_PRESENT;
	h->sgl = h->o.sgl && (le32_get(id->sgls) & 3);
	return 0;
}

static struct nvme_identity *identity_next(struct nvme_host *h, const struct list *at)
{
	return at->next == &h->identities ? NULL : list_entry(at->next, struct nvme_identity, link);
}

/* Something else, or nothing, is where a namespace was. */
static int setup_other(struct nvme_host *h, bool there)
{
	char was[NVME_IDENTITY_TEXT], is[NVME_IDENTITY_TEXT] = "none";
	char ctrlr[NVME_IDENTITY_TEXT];

	nvme_identity_text(was, sizeof(was), h->checked);
	if (there)
		nvme_identity_text(is, sizeof(is), &h->seen);
	nvme_ctrlr_text(ctrlr, sizeof(ctrlr), h->id);
	log_error("nvme: another namespace is there now: expected %s; there is %s (%s)", was, is,
	          ctrlr);
	return -ENODEV;
}

/* Whether its ANA state lets the controller say nothing of its size (Base 8.1.3). */
static bool may_be_hidden(const struct nvme_host *h)
{
	return nvme_host_ana(h, h->checked->ana_group) > NVME_ANA_NON_OPTIMIZED;
}

static int setup_ns(struct nvme_host *h, const struct nvme_admin *a)
{
	int rc = a->status ? nvme_status_errno(a->status) : 0;

	if (rc && rc != -ENOENT)
		return rc;
	nvme_identity_take(&h->seen, h->checked->nsid, host_buf(h, NVME_HOST_BUF_SETUP));
	if (h->seen.blocks || may_be_hidden(h))
		return 0;
	if (!h->checking)
		return setup_other(h, false);
	log_warn("nvme: namespace %u is not there any more", h->checked->nsid);
	return 0;
}

static int setup_ns_ids(struct nvme_host *h, const struct nvme_admin *a)
{
	/* One that has no such list has nothing more to say; others are asked again. */
	if (a->status && nvme_status_retry(a->status))
		return nvme_status_errno(a->status);
	if (!a->status)
		nvme_identity_take_ids(&h->seen, host_buf(h, NVME_HOST_BUF_SETUP));
	if (h->seen.blocks && !nvme_identity_same(h->checked, &h->seen))
		return setup_other(h, true);
	h->checked = identity_next(h, &h->checked->link);
	if (h->checked)
		h->setup_step = SETUP_NS - 1;
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
			host_ana_learn(h, host_buf(h, NVME_HOST_BUF_SETUP));
		return 0;
	case SETUP_SHADOW:
		h->shadow = !a->status; /* an offer, not a promise */
		return 0;
	case SETUP_NS:
		return setup_ns(h, a);
	case SETUP_NS_IDS:
		return setup_ns_ids(h, a);
	default:
		return 0;
	}
}

static void setup_next(struct nvme_host *h);

static void setup_done(struct nvme_admin *a)
{
	struct nvme_host *h = container_of(a, struct nvme_host, setup);
	int rc;

	if (h->state != NVME_HOST_SETUP && !(h->state == NVME_HOST_LIVE && h->checking))
		return;
	rc = setup_result(h, a);
	if (rc == -ENODEV) {
		host_dead(h, rc);
		return;
	}
	if (rc) {
		log_warn("nvme: set-up step %u failed: %s (status %#x)", h->setup_step,
		         nvme_status_text(a->status, false), NVME_STATUS_CODE(a->status));
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
	if (!h->checking)
		host_live(h);
	h->checking = false;
	if (h->check_again)
		host_namespaces_check(h);
}

void host_setup_begin(struct nvme_host *h)
{
	h->setup_step = SETUP_IDENTIFY;
	h->checking = h->check_again = false;
	h->checked = identity_next(h, &h->identities);
	setup_next(h);
}

void host_namespaces_check(struct nvme_host *h)
{
	h->check_again = h->checking;
	if (h->checking)
		return;
	h->checking = true;
	h->checked = identity_next(h, &h->identities);
	h->setup_step = SETUP_NS;
	setup_next(h);
}
