/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The host's states: the enable and disable handshakes, resets, death. See host.h for the rules.
 * Everything is done from the poller and from timers, one step at a time, so that a reset in the
 * middle of anything is just another state.
 */
#include "nvme/host.h"

#define ADMIN_ENTRIES   64u
#define WAIT_POLL_NS    NSEC_PER_MSEC /* between looks at CSTS */
#define QUIESCE_MIN_NS  NSEC_PER_SEC
#define SHUTDOWN_MAX_NS (10 * NSEC_PER_SEC)

/* --- what is under way --- */

static void host_stop_io_queues(struct nvme_host *h)
{
	struct nvme_hq *hq;

	list_for_each (hq, &h->queues, link) {
		hq_stop(hq);
		if (hq->state == HQ_LIVE || hq->state == HQ_CREATING)
			hq->state = HQ_WAITING;
	}
}

static void host_stop_queues(struct nvme_host *h)
{
	hq_stop(&h->admin_q);
	host_stop_io_queues(h);
}

/* The controller reaches no memory any more: everybody gets an answer. */
static void host_answer_all(struct nvme_host *h, uint16_t status)
{
	struct nvme_hq *hq;

	list_for_each (hq, &h->queues, link)
		hq_answer(hq, status);
	hq_answer(&h->admin_q, status);
	admin_poll(h); /* reaps: bad ids are gone from the ring, so that once is enough */
	pst_assert(!pst_nvme_queue_inflight(&h->admin_q.q));
}

/* Memory that a transfer still goes to is not given back (H2). */
static int host_dying_step(struct nvme_host *h)
{
	if (h->t->ops->quiet && !h->t->ops->quiet(h->t))
		return 0;
	h->state = NVME_HOST_DEAD;
	host_answer_all(h, PST_NVME_STATUS_GONE);
	return 1;
}

void host_dead(struct nvme_host *h, int error)
{
	if (h->state == NVME_HOST_DYING || h->state == NVME_HOST_DEAD)
		return;
	log_error("nvme: the controller is lost: %s", strerror(-error));
	h->state = NVME_HOST_DYING;
	h->error = error;
	h->t->ops->cut(h->t);
	host_stop_queues(h);
	loop_timer_disarm(h->loop, &h->tick);
	loop_timer_disarm(h->loop, &h->wait);
	host_dying_step(h);
}

/* --- the handshakes --- */

static void host_wait(struct nvme_host *h)
{
	h->wait_until_ns = loop_now(h->loop) + MAX(NVME_CAP_TO(h->cap), 1u) * (NSEC_PER_SEC / 2);
}

static void host_disable(struct nvme_host *h)
{
	uint32_t cc;

	h->reset_wanted = h->reset_hard = false;
	host_stop_queues(h);
	h->state = NVME_HOST_DISABLING;
	h->was_reset = false;
	host_wait(h);
	cc = h->t->ops->read32(h->t, NVME_REG_CC);
	if (cc != NVME_REG_GONE && (cc & NVME_CC_EN))
		h->t->ops->write32(h->t, NVME_REG_CC, cc & ~(NVME_CC_EN | NVME_CC_SHN_MASK));
	if (h->ever_live)
		h->resets++;
	h->tries++;
}

/* H5: nothing more is sent; what the controller has ends with the queues. */
static void host_quiesce(struct nvme_host *h)
{
	struct nvme_hq *hq;

	h->reset_wanted = false;
	h->state = NVME_HOST_QUIESCING;
	h->wait_until_ns = loop_now(h->loop) + MAX(QUIESCE_MIN_NS, h->o.timeout_ms * NSEC_PER_MSEC);
	h->deleting = 0;
	list_for_each (hq, &h->queues, link)
		h->deleting += hq_delete_sq(hq);
	host_stop_io_queues(h);
}

static int host_quiesce_step(struct nvme_host *h)
{
	if (h->t->ops->read32(h->t, NVME_REG_CSTS) == NVME_REG_GONE) {
		host_dead(h, -ENODEV);
	} else if (!h->deleting || h->reset_hard || loop_now(h->loop) >= h->wait_until_ns) {
		if (h->deleting)
			log_warn("nvme: the controller does not delete its queues");
		host_disable(h);
	} else {
		return loop_timer_arm(h->loop, &h->wait, loop_now(h->loop) + WAIT_POLL_NS) != 0;
	}
	return 1;
}

static void host_enable(struct nvme_host *h)
{
	const struct nvme_transport_ops *ops = h->t->ops;

	host_answer_all(h, PST_NVME_STATUS_ABORTED);
	/* Also what was not sent yet: to the next controller it would say something else (it has no
	 * queues, to begin with). */
	admin_fail_waiting(h, PST_NVME_STATUS_ABORTED);
	if (h->detaching)
		return;
	pst_nvme_queue_rewind(&h->admin_q.q);
	ops->write32(h->t, NVME_REG_AQA, NVME_AQA_MAKE(ADMIN_ENTRIES - 1, ADMIN_ENTRIES - 1));
	ops->write64(h->t, NVME_REG_ASQ, h->admin_q.sq_dma);
	ops->write64(h->t, NVME_REG_ACQ, h->admin_q.cq_dma);
	ops->write32(h->t, NVME_REG_CC,
	             NVME_CC_MAKE(NVME_CC_CSS_NVM, h->page_shift - 12, 0, 0, 6, 4) | NVME_CC_EN);
	h->state = NVME_HOST_ENABLING;
	host_wait(h);
}

static void host_ready(struct nvme_host *h)
{
	h->state = NVME_HOST_SETUP;
	hq_doorbells(&h->admin_q);
	host_setup_begin(h);
}

void host_live(struct nvme_host *h)
{
	if (h->ever_live)
		log_info("nvme: the controller is back after reset %u", h->resets);
	h->state = NVME_HOST_LIVE;
	h->ever_live = true;
	h->tries = 0;
	host_events_arm(h);
}

/* It was asked to get disabled and doesn't. */
static void host_stuck(struct nvme_host *h)
{
	if (!h->was_reset && h->t->ops->reset && !h->t->ops->reset(h->t)) {
		log_warn("nvme: the controller did not get disabled: its function was reset");
		h->was_reset = true;
		host_wait(h);
		return;
	}
	host_dead(h, -ETIMEDOUT);
}

/* One step of a handshake, when it is time. */
static int host_step(struct nvme_host *h)
{
	bool late = loop_now(h->loop) >= h->wait_until_ns;
	uint32_t csts = h->t->ops->read32(h->t, NVME_REG_CSTS);

	if (csts == NVME_REG_GONE) {
		host_dead(h, -ENODEV);
	} else if (h->state == NVME_HOST_DISABLING && !(csts & NVME_CSTS_RDY)) {
		host_enable(h);
	} else if (h->state == NVME_HOST_DISABLING && late) {
		host_stuck(h);
	} else if (h->state == NVME_HOST_ENABLING && (csts & NVME_CSTS_CFS)) {
		log_warn("nvme: controller fatal status while enabling");
		h->reset_wanted = true;
	} else if (h->state == NVME_HOST_ENABLING && (csts & NVME_CSTS_RDY)) {
		host_ready(h);
	} else if (h->state == NVME_HOST_ENABLING && late) {
		if (h->tries <= h->o.resets_max) /* a patient host says it no more often */
			log_warn("nvme: not ready after %u ms", NVME_CAP_TO(h->cap) * 500);
		h->reset_wanted = true;
	} else {
		/* Looked at again soon; nothing else may happen until then. */
		return loop_timer_arm(h->loop, &h->wait, loop_now(h->loop) + WAIT_POLL_NS) != 0;
	}
	return 1;
}

static void wait_fired(struct loop_timer *t)
{
	/* The poller looks at CSTS each turn; this makes the turn happen. */
}

void nvme_host_reset(struct nvme_host *h)
{
	/* In any other state it is being reset, or beyond that: asking often is no failure of the
	 * controller's, so it must not count as one. */
	if (h->state == NVME_HOST_LIVE)
		h->reset_wanted = true;
}

/* --- time --- */

static bool host_busy(const struct nvme_host *h)
{
	const struct nvme_hq *hq;

	if (pst_nvme_queue_inflight(&h->admin_q.q) > (h->event.busy ? 1u : 0u))
		return true;
	list_for_each (hq, &h->queues, link) {
		if (pst_nvme_queue_inflight(&hq->q))
			return true;
	}
	return false;
}

static void tick_arm(struct nvme_host *h)
{
	uint64_t period = h->o.timeout_ms * NSEC_PER_MSEC / NVME_HOST_TICKS;

	if (h->tick.heap_index || !h->o.timeout_ms || !host_busy(h))
		return;
	if (loop_timer_arm(h->loop, &h->tick, loop_now(h->loop) + period))
		log_debug("nvme: no memory for a timer, trying again");
}

static void tick_fired(struct loop_timer *t)
{
	struct nvme_host *h = container_of(t, struct nvme_host, tick);
	uint32_t csts = h->t->ops->read32(h->t, NVME_REG_CSTS);
	struct nvme_hq *hq;
	bool lost, admin_lost;

	if (h->state != NVME_HOST_LIVE && h->state != NVME_HOST_SETUP)
		return;
	if (csts == NVME_REG_GONE) {
		host_dead(h, -ENODEV);
		return;
	}
	lost = admin_lost = hq_tick(&h->admin_q);
	list_for_each (hq, &h->queues, link)
		lost |= hq_tick(hq);
	if (csts & NVME_CSTS_CFS)
		log_warn("nvme: controller fatal status");
	if (lost || (csts & NVME_CSTS_CFS))
		h->reset_wanted = true;
	if (admin_lost || (csts & NVME_CSTS_CFS))
		h->reset_hard = true;
}

/* --- the poller --- */

static int host_poll(struct loop_poller *p)
{
	struct nvme_host *h = container_of(p, struct nvme_host, poller);
	struct nvme_hq *hq;
	int count = h->t->ops->poll ? h->t->ops->poll(h->t) : 0;

	if (h->state == NVME_HOST_DYING)
		return count + host_dying_step(h);
	if (h->state == NVME_HOST_DEAD)
		return count + admin_poll(h);
	if (unlikely(h->t->gone) && !h->detaching) {
		host_dead(h, -ENODEV);
		return count + 1;
	}
	if (unlikely(h->t->failed)) {
		h->t->failed = false;
		h->reset_hard = true; /* there is nobody to ask for the end of queues */
		h->reset_wanted |= h->state == NVME_HOST_LIVE || h->state == NVME_HOST_SETUP;
	}
	if (h->reset_wanted) {
		if (h->tries > h->o.resets_max && !(h->patient && h->t->comes_back))
			host_dead(h, -EIO);
		else if (h->state == NVME_HOST_LIVE && !h->reset_hard)
			host_quiesce(h);
		else
			host_disable(h);
		return count + 1;
	}
	if (h->state == NVME_HOST_DISABLING || h->state == NVME_HOST_ENABLING)
		return count + (h->detaching ? 0 : host_step(h));
	count += admin_poll(h);
	if (h->state == NVME_HOST_QUIESCING)
		return count + host_quiesce_step(h);
	if (h->state == NVME_HOST_LIVE) {
		list_for_each (hq, &h->queues, link)
			count += hq_poll(hq);
	}
	tick_arm(h);
	return count;
}

/* Completions that nobody has reaped yet. */
static bool host_has_news(const struct nvme_host *h)
{
	const struct nvme_hq *hq;

	list_for_each (hq, &h->queues, link) {
		if (pst_nvme_reap_waits(&hq->q))
			return true;
	}
	return pst_nvme_reap_waits(&h->admin_q.q);
}

static bool host_may_sleep(struct loop_poller *p)
{
	struct nvme_host *h = container_of(p, struct nvme_host, poller);

	if (h->t->polled && h->state != NVME_HOST_DEAD && host_busy(h))
		return false;
	if (h->reset_wanted || h->t->gone || h->t->failed)
		return h->state == NVME_HOST_DEAD;
	if (!list_empty(&h->admin_waiting) && h->state != NVME_HOST_DISABLING &&
	    h->state != NVME_HOST_ENABLING)
		return false;
	return (!h->t->ops->may_sleep || h->t->ops->may_sleep(h->t)) && !host_has_news(h);
}

/* Once the transport has asked to be woken, a look at the queues can't be too early. */
static bool host_sleeps(struct loop_poller *p)
{
	struct nvme_host *h = container_of(p, struct nvme_host, poller);

	if (!h->t->ops->sleeps)
		return true;
	h->t->ops->sleeps(h->t);
	return !host_has_news(h);
}

/* --- making and ending --- */

static int host_capabilities(struct nvme_host *h, struct pst_err *err)
{
	h->cap = h->t->ops->read64(h->t, NVME_REG_CAP);
	if (h->cap == UINT64_MAX)
		return err_set(err, -ENODEV, "nvme: the controller does not answer");
	if (!(NVME_CAP_CSS(h->cap) & NVME_CAP_CSS_NVM))
		return err_set(err, -ENOTSUP, "nvme: the controller has no NVM command set");
	h->page_shift = 12 + NVME_CAP_MPSMIN(h->cap);
	h->dstrd = NVME_CAP_DSTRD(h->cap);
	h->entries_max = MIN(NVME_CAP_MQES(h->cap) + 1, PST_NVME_ENTRIES_MAX);
	if (h->entries_max < PST_NVME_ENTRIES_MIN)
		return err_set(err, -EIO, "nvme: CAP.MQES is 0");
	if (!h->t->ops->doorbell(h->t, NVME_DB_CQ(0, h->dstrd)))
		return err_set(err, -EIO, "nvme: the doorbells are not mapped");
	return 0;
}

static int host_memory(struct nvme_host *h)
{
	int rc;

	h->id = mem_calloc(1, sizeof(*h->id));
	if (!h->id)
		return -ENOMEM;
	rc = mem_region_new(&h->buf, h->t->mem_kind, (size_t)NVME_HOST_BUF_PAGES << h->page_shift);
	if (rc)
		return rc;
	rc = h->t->ops->map(h->t, h->buf, &h->buf_dma);
	if (rc) {
		mem_region_free(h->buf);
		h->buf = NULL;
		return rc;
	}
	h->io_max_bytes = 0; /* the admin queue needs no lists */
	return hq_layout(&h->admin_q, h, 0, ADMIN_ENTRIES, NULL);
}

static void host_destroy(struct nvme_host *h)
{
	struct nvme_transport *t = h->t;

	loop_timer_disarm(h->loop, &h->tick);
	loop_timer_disarm(h->loop, &h->wait);
	t->ops->cut(t);
	if (h->admin_q.slot)
		hq_release(&h->admin_q);
	if (h->buf) {
		t->ops->unmap(t, h->buf, h->buf_dma);
		mem_region_free(h->buf);
	}
	t->ops->close(t);
	nvme_identities_free(h);
	mem_free(h->id);
	mem_free(h);
}

static int host_begin(struct nvme_host *h, struct pst_err *err)
{
	int rc = host_capabilities(h, err);

	if (rc)
		return rc;
	rc = host_memory(h);
	if (rc)
		return err_set(err, rc, "nvme: memory for the controller");
	loop_poller_add(h->loop, &h->poller);
	host_disable(h);
	while (h->state != NVME_HOST_LIVE && h->state != NVME_HOST_DEAD)
		loop_turn(h->loop, NSEC_PER_SEC);
	if (h->state == NVME_HOST_DEAD) {
		loop_poller_del(h->loop, &h->poller);
		return err_set(err, h->error, "nvme: the controller does not get ready");
	}
	return 0;
}

int nvme_host_new(struct nvme_host **ret_host, struct nvme_transport *t,
                  const struct pst_nvme_opts *opts, struct pst_err *err)
{
	struct nvme_host *h = mem_calloc(1, sizeof(*h));
	int rc;

	if (!h) {
		t->ops->cut(t);
		t->ops->close(t);
		return err_set(err, -ENOMEM, "out of memory");
	}
	h->loop = t->loop;
	h->t = t;
	h->o = *opts;
	h->o.queues_max = MIN(MAX(h->o.queues_max, 1u), NVME_HOST_QUEUES_MAX);
	list_init(&h->queues);
	list_init(&h->admin_waiting);
	list_init(&h->identities);
	h->poller.poll = host_poll;
	h->poller.may_sleep = host_may_sleep;
	h->poller.sleeps = host_sleeps;
	h->tick.fired = tick_fired;
	h->wait.fired = wait_fired;
	rc = host_begin(h, err);
	if (rc) {
		host_destroy(h);
		return rc;
	}
	*ret_host = h;
	return 0;
}

/* Normal shutdown (Base 3.6.1), so that the device writes its caches; then disabled. */
static void host_shutdown(struct nvme_host *h)
{
	const struct nvme_transport_ops *ops = h->t->ops;
	uint64_t end = loop_now(h->loop) + SHUTDOWN_MAX_NS;
	uint32_t cc = ops->read32(h->t, NVME_REG_CC), csts;

	if (cc == NVME_REG_GONE)
		return;
	h->state = NVME_HOST_DISABLING;
	host_stop_queues(h);
	ops->write32(h->t, NVME_REG_CC,
	             (cc & ~NVME_CC_SHN_MASK) | (uint32_t)NVME_CC_SHN_NORMAL << 14);
	do {
		if (loop_timer_arm(h->loop, &h->wait, loop_now(h->loop) + WAIT_POLL_NS))
			break;
		loop_turn(h->loop, NSEC_PER_SEC);
		csts = ops->read32(h->t, NVME_REG_CSTS);
	} while (csts != NVME_REG_GONE && NVME_CSTS_SHST(csts) != NVME_SHST_DONE &&
	         loop_now(h->loop) < end);
	host_disable(h);
	do {
		if (loop_timer_arm(h->loop, &h->wait, loop_now(h->loop) + WAIT_POLL_NS))
			break;
		loop_turn(h->loop, NSEC_PER_SEC);
		csts = ops->read32(h->t, NVME_REG_CSTS);
	} while (csts != NVME_REG_GONE && (csts & NVME_CSTS_RDY) && loop_now(h->loop) < end);
}

void nvme_host_free(struct nvme_host *h)
{
	if (!h)
		return;
	pst_assert(list_empty(&h->queues));
	h->detaching = true;
	while (h->state == NVME_HOST_DYING)
		loop_turn(h->loop, NSEC_PER_SEC);
	if (h->state != NVME_HOST_DEAD)
		host_shutdown(h);
	loop_poller_del(h->loop, &h->poller);
	h->t->ops->cut(h->t);
	host_stop_queues(h);
	/* The event that waits, and whatever else: nobody is told. */
	h->state = NVME_HOST_DEAD;
	host_answer_all(h, PST_NVME_STATUS_GONE);
	host_destroy(h);
}
