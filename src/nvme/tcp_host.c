/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The controller that the driver sees: registers, rings, and the association behind them. See
 * tcp_host.h for its states.
 */
#include "nvme/tcp_host.h"

#include <stdio.h>

#define ADMIN_SIZE 64u                 /* entries of our admin queue; the driver's has as many */
#define STEP_NS    (2 * NSEC_PER_MSEC) /* between looks at CSTS */
#define SHST_DONE  (NVME_SHST_DONE << 2)

static struct tcp_host *self(struct nvme_transport *t)
{
	return container_of(t, struct tcp_host, t);
}

/* --- completions --- */

void tcp_post(struct tcp_queue *q, uint16_t cid, const struct nvme_cqe *cqe)
{
	le64 *e = (le64 *)(void *)&q->cq[q->cq_tail];
	uint64_t status = (le16_get(cqe->status) & ~1u) | q->phase;
	uint64_t high = q->head | (uint64_t)q->qid << 16 | (uint64_t)cid << 32 | status << 48;

	if (!q->cq)
		return;
	__atomic_store_n(&e[0], le64_make(le32_get(cqe->dw0)), __ATOMIC_RELAXED);
	/* The phase last: who sees it sees the data, too. */
	__atomic_store_n(&e[1], le64_make(high), __ATOMIC_RELEASE);
	if (++q->cq_tail == q->size) {
		q->cq_tail = 0;
		q->phase ^= 1;
	}
}

static void post_admin(struct tcp_host *h, uint16_t cid, uint16_t status)
{
	struct nvme_cqe cqe = {.status = le16_make((uint16_t)(status << 1))};

	if (h->queue[0] && h->queue[0]->state == TQ_LIVE)
		tcp_post(h->queue[0], cid, &cqe);
}

/* --- the association's end --- */

static void assoc_begin(struct tcp_host *h);

static void assoc_down(struct tcp_host *h)
{
	uint64_t now = loop_now(h->t.loop);

	h->state = TA_DOWN;
	if (!(h->cc & NVME_CC_EN)) {
		h->csts = 0;
		return;
	}
	if ((h->csts & NVME_CSTS_RDY) || h->is_cut)
		return; /* the driver resets it first */
	h->retry_ns = MIN(MAX(2 * h->retry_ns, TCP_RETRY_MIN_NS), TCP_RETRY_MAX_NS);
	if (loop_timer_arm(h->t.loop, &h->retry, now + h->retry_ns))
		log_warn("nvme: no memory for a timer: no further try");
}

static bool any_queue(const struct tcp_host *h)
{
	for (unsigned i = 0; i <= TCP_QUEUES_MAX; i++) {
		if (h->queue[i])
			return true;
	}
	return false;
}

static void assoc_close(struct tcp_host *h)
{
	if (h->state == TA_DOWN || h->state == TA_CLOSING)
		return;
	h->state = TA_CLOSING;
	loop_timer_disarm(h->t.loop, &h->step);
	loop_timer_disarm(h->t.loop, &h->keep_alive);
	for (unsigned i = 0; i <= TCP_QUEUES_MAX; i++) {
		if (h->queue[i])
			tcp_queue_close(h->queue[i]);
	}
	if (!any_queue(h))
		assoc_down(h);
}

void tcp_host_fail(struct tcp_host *h, const char *why)
{
	if (h->state == TA_DOWN || h->state == TA_CLOSING)
		return;
	if (!h->first && h->retry_ns < TCP_RETRY_MAX_NS) /* said often enough */
		log_warn("nvme: %s: %s", h->addr, why && why[0] ? why : "the connection is lost");
	h->error = -EIO;
	h->t.failed = true;
	assoc_close(h);
}

void tcp_queue_lost(struct tcp_queue *q)
{
	struct tcp_host *h = q->h;

	if (q->state == TQ_CLOSED)
		return;
	tcp_queue_close(q);
	/* A queue that the driver wanted and can't have is told as that; it may try again. */
	if (q->has_waiter && !q->deleting) {
		q->has_waiter = false;
		post_admin(h, q->waiter, q->error ? q->error : NVME_SC_TRANSPORT_TRANSIENT);
		return;
	}
	tcp_host_fail(h, h->sentence);
}

void tcp_queue_gone(struct tcp_queue *q)
{
	struct tcp_host *h = q->h;

	if (h->queue[q->qid] == q)
		h->queue[q->qid] = NULL;
	if (q->has_waiter)
		post_admin(h, q->waiter, 0);
	tcp_queue_free(q);
	if (h->state == TA_CLOSING && !any_queue(h))
		assoc_down(h);
}

/* --- commands of ours --- */

bool tcp_internal(struct tcp_host *h, const struct nvme_cmd *cmd, void *buf, uint32_t len,
                  void (*done)(struct tcp_host *, struct tcp_slot *, const struct nvme_cqe *))
{
	struct tcp_queue *q = h->queue[0];
	struct tcp_slot *s = q && q->state == TQ_LIVE ? tcp_slot_get(q) : NULL;

	if (!s)
		return false;
	s->cmd.cmd = *cmd;
	s->internal = done;
	s->dir = len ? NVME_OPC_DIR(cmd->opc) : NVME_DIR_NONE;
	s->len = len;
	s->pieces = len ? 1 : 0;
	s->data[0] = (struct iovec){.iov_base = buf, .iov_len = len};
	tcp_slot_send(s);
	return true;
}

static void property(struct tcp_host *h, bool set, uint32_t off, uint32_t value,
                     void (*done)(struct tcp_host *, struct tcp_slot *, const struct nvme_cqe *))
{
	struct nvme_property_cmd c = {.opc = NVME_ADMIN_FABRICS,
	                              .fctype = set ? NVME_FC_PROPERTY_SET : NVME_FC_PROPERTY_GET,
	                              .attrib = off == NVME_REG_CAP,
	                              .offset = le32_make(off),
	                              .value = le64_make(value)};
	struct nvme_cmd cmd;

	memcpy(&cmd, &c, sizeof(cmd));
	if (!tcp_internal(h, &cmd, NULL, 0, done))
		tcp_host_fail(h, "no room for a command of our own");
}

/* --- the association's beginning: one step after the other --- */

/* @fabrics: of a Fabrics command; Identify, which is none, has its own meaning of the same values. */
static bool step_ok(struct tcp_host *h, const struct nvme_cqe *cqe, const char *what, bool fabrics)
{
	uint16_t status;

	if (!cqe)
		return false; /* the loss was told already */
	status = (uint16_t)(le16_get(cqe->status) >> 1);
	if (!status)
		return true;
	snprintf(h->sentence, sizeof(h->sentence), "%s: %s (status %#x)", what,
	         nvme_status_text(status, fabrics), NVME_STATUS_CODE(status));
	tcp_host_fail(h, h->sentence);
	return false;
}

static void got_csts(struct tcp_host *h, struct tcp_slot *s, const struct nvme_cqe *cqe);

static void step_fired(struct loop_timer *t)
{
	struct tcp_host *h = container_of(t, struct tcp_host, step);

	property(h, false, NVME_REG_CSTS, 0, got_csts);
}

static void look_later(struct tcp_host *h)
{
	if (loop_timer_arm(h->t.loop, &h->step, loop_now(h->t.loop) + STEP_NS))
		tcp_host_fail(h, "no memory for a timer");
}

static void identified(struct tcp_host *h, struct tcp_slot *s, const struct nvme_cqe *cqe)
{
	const struct nvme_id_ctrlr *id = h->page;

	if (!step_ok(h, cqe, "Identify", false))
		return;
	h->ioccsz = le32_get(id->ioccsz) > 4 ? le32_get(id->ioccsz) : 4;
	h->ioccsz = (uint32_t)MIN(h->ioccsz * 16ull, 64u + TCP_ICD_ADMIN);
	if (le16_get(id->icdoff))
		h->ioccsz = sizeof(struct nvme_cmd); /* data elsewhere: then none in capsules */
	h->state = TA_LIVE;
	h->retry_ns = 0;
	h->csts = NVME_CSTS_RDY;
}

static void got_csts(struct tcp_host *h, struct tcp_slot *s, const struct nvme_cqe *cqe)
{
	struct nvme_cmd id = {.opc = NVME_ADMIN_IDENTIFY, .cdw10 = le32_make(NVME_CNS_CTRLR)};
	uint32_t csts;

	if (!step_ok(h, cqe, "CSTS", true))
		return;
	csts = le32_get(cqe->dw0);
	if (csts & NVME_CSTS_CFS) {
		tcp_host_fail(h, "controller fatal status");
	} else if (h->state == TA_LIVE) { /* shutting down */
		h->csts = csts & (NVME_CSTS_RDY | NVME_CSTS_SHST_MASK);
		if (NVME_CSTS_SHST(csts) != NVME_SHST_DONE)
			look_later(h);
	} else if (!(csts & NVME_CSTS_RDY)) {
		look_later(h);
	} else if (!tcp_internal(h, &id, h->page, NVME_IDENTIFY_BYTES, identified)) {
		tcp_host_fail(h, "no room for a command of our own");
	}
}

static void cc_set(struct tcp_host *h, struct tcp_slot *s, const struct nvme_cqe *cqe)
{
	if (step_ok(h, cqe, "CC", true))
		property(h, false, NVME_REG_CSTS, 0, got_csts);
}

/* The driver's rings are known now. */
static void assoc_enable(struct tcp_host *h)
{
	struct tcp_queue *q = h->queue[0];

	q->sq = (const struct nvme_cmd *)(uintptr_t)h->asq;
	q->cq = (struct nvme_cqe *)(uintptr_t)h->acq;
	q->size = NVME_AQA_ASQS(h->aqa) + 1;
	q->head = q->cq_tail = 0;
	q->phase = 1;
	memset(h->db, 0, sizeof(h->db));
	h->state = TA_ENABLING;
	property(h, true, NVME_REG_CC, h->cc, cc_set);
}

static void got_vs(struct tcp_host *h, struct tcp_slot *s, const struct nvme_cqe *cqe)
{
	if (!step_ok(h, cqe, "VS", true))
		return;
	h->vs = le32_get(cqe->dw0);
	h->state = TA_READY;
	if (h->cc & NVME_CC_EN)
		assoc_enable(h);
}

static void got_cap(struct tcp_host *h, struct tcp_slot *s, const struct nvme_cqe *cqe)
{
	if (!step_ok(h, cqe, "CAP", true))
		return;
	/* How long to wait is ours to say; our doorbells are dense, our pages have 4096 bytes. */
	h->cap = le32_get(cqe->dw0) | (uint64_t)le32_get(cqe->dw1) << 32;
	if (NVME_CAP_MPSMIN(h->cap)) {
		tcp_host_fail(h, "the controller's pages are too large");
		return;
	}
	h->cap = (h->cap & ~(0xffull << 24 | 0xfull << 32)) | (uint64_t)h->cap_to << 24;
	property(h, false, NVME_REG_VS, 0, got_vs);
}

static void keep_alive_arm(struct tcp_host *h)
{
	if (h->kato_ms && loop_timer_arm(h->t.loop, &h->keep_alive,
	                                 loop_now(h->t.loop) + h->kato_ms * NSEC_PER_MSEC / 2))
		tcp_host_fail(h, "no memory for a timer");
}

static void kept_alive(struct tcp_host *h, struct tcp_slot *s, const struct nvme_cqe *cqe)
{
	h->alive_pending = false;
}

static void keep_alive_fired(struct loop_timer *t)
{
	struct tcp_host *h = container_of(t, struct tcp_host, keep_alive);
	struct nvme_cmd cmd = {.opc = NVME_ADMIN_KEEP_ALIVE};

	if (h->alive_pending) {
		tcp_host_fail(h, "the target does not answer Keep Alive");
		return;
	}
	h->alive_pending = true;
	if (!tcp_internal(h, &cmd, NULL, 0, kept_alive))
		h->alive_pending = false; /* all places in use: then it is alive, or times out */
	keep_alive_arm(h);
}

void tcp_queue_up(struct tcp_queue *q)
{
	struct tcp_host *h = q->h;

	if (q->qid) {
		q->has_waiter = false;
		post_admin(h, q->waiter, 0);
		return;
	}
	h->alive_pending = false;
	keep_alive_arm(h);
	property(h, false, NVME_REG_CAP, 0, got_cap);
}

static void assoc_begin(struct tcp_host *h)
{
	struct tcp_queue *q;
	int rc;

	h->state = TA_CONNECTING;
	h->sentence[0] = '\0';
	rc = tcp_queue_new(h, 0, ADMIN_SIZE, 0, 0, &q);
	if (rc) {
		h->error = rc;
		assoc_close(h);
	}
}

static void retry_fired(struct loop_timer *t)
{
	struct tcp_host *h = container_of(t, struct tcp_host, retry);

	if (h->state == TA_DOWN && (h->cc & NVME_CC_EN) && !h->is_cut)
		assoc_begin(h);
}

/* --- registers --- */

static uint32_t tcp_read32(struct nvme_transport *t, uint32_t off)
{
	struct tcp_host *h = self(t);

	if (t->gone)
		return NVME_REG_GONE;
	switch (off) {
	case NVME_REG_VS:
		return h->vs;
	case NVME_REG_CC:
		return h->cc;
	case NVME_REG_CSTS:
		return h->csts;
	case NVME_REG_AQA:
		return h->aqa;
	default:
		return 0;
	}
}

static uint64_t tcp_read64(struct nvme_transport *t, uint32_t off)
{
	if (t->gone)
		return UINT64_MAX;
	return off == NVME_REG_CAP ? self(t)->cap : 0;
}

static void cc_write(struct tcp_host *h, uint32_t cc)
{
	uint32_t old = h->cc;

	h->cc = cc;
	if ((old & NVME_CC_EN) && !(cc & NVME_CC_EN)) {
		loop_timer_disarm(h->t.loop, &h->retry);
		if (h->state == TA_DOWN)
			h->csts = 0;
		else
			assoc_close(h);
		return;
	}
	if (!(old & NVME_CC_EN) && (cc & NVME_CC_EN)) {
		h->csts = 0;
		if (h->state == TA_READY)
			assoc_enable(h);
		else if (h->state == TA_DOWN)
			assoc_begin(h);
		return;
	}
	if (NVME_CC_SHN(cc) && !NVME_CC_SHN(old)) {
		if (h->state == TA_LIVE)
			property(h, true, NVME_REG_CC, cc, cc_set);
		else
			h->csts = (h->csts & ~NVME_CSTS_SHST_MASK) | SHST_DONE;
	}
}

static void tcp_write32(struct nvme_transport *t, uint32_t off, uint32_t value)
{
	struct tcp_host *h = self(t);

	if (off == NVME_REG_CC)
		cc_write(h, value);
	else if (off == NVME_REG_AQA)
		h->aqa = value;
}

static void tcp_write64(struct nvme_transport *t, uint32_t off, uint64_t value)
{
	struct tcp_host *h = self(t);

	if (off == NVME_REG_ASQ)
		h->asq = value;
	else if (off == NVME_REG_ACQ)
		h->acq = value;
}

static volatile uint32_t *tcp_doorbell(struct nvme_transport *t, uint32_t off)
{
	struct tcp_host *h = self(t);

	return off / 4 < ARRAY_LEN(h->db) ? &h->db[off / 4] : NULL;
}

/* --- the rest of a transport --- */

static int tcp_map(struct nvme_transport *t, struct mem_region *r, uint64_t *ret_dma)
{
	*ret_dma = (uintptr_t)r->addr;
	return 0;
}

static void tcp_unmap(struct nvme_transport *t, struct mem_region *r, uint64_t dma)
{
}

static void tcp_cut(struct nvme_transport *t)
{
	struct tcp_host *h = self(t);

	h->is_cut = true;
	loop_timer_disarm(t->loop, &h->retry);
	assoc_close(h); /* aborts sockets: the kernel holds on to no memory after that */
}

static int tcp_poll(struct nvme_transport *t)
{
	struct tcp_host *h = self(t);
	int did = 0;

	for (unsigned i = 0; i <= h->top && h->state == TA_LIVE; i++) {
		if (h->queue[i])
			did += tcp_queue_poll(h->queue[i]);
	}
	return did;
}

static bool tcp_may_sleep(struct nvme_transport *t)
{
	const struct tcp_host *h = self(t);

	for (unsigned i = 0; i <= h->top && h->state == TA_LIVE; i++) {
		const struct tcp_queue *q = h->queue[i];

		if (q && q->state == TQ_LIVE && q->sq && !list_empty(&q->free) &&
		    q->head != __atomic_load_n(&h->db[2 * i], __ATOMIC_ACQUIRE))
			return false;
	}
	return true;
}

static void tcp_close(struct nvme_transport *t)
{
	struct tcp_host *h = self(t);

	tcp_cut(t);
	while (h->state != TA_DOWN) {
		int rc = loop_turn(t->loop, NSEC_PER_SEC);

		pst_assert(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
	}
	loop_timer_disarm(t->loop, &h->step);
	loop_timer_disarm(t->loop, &h->keep_alive);
	loop_timer_disarm(t->loop, &h->retry);
	mem_free(h->page);
	mem_free(h);
}

static const struct nvme_transport_ops tcp_ops = {
        .name = "tcp",
        .read32 = tcp_read32,
        .read64 = tcp_read64,
        .write32 = tcp_write32,
        .write64 = tcp_write64,
        .doorbell = tcp_doorbell,
        .map = tcp_map,
        .unmap = tcp_unmap,
        .cut = tcp_cut,
        .poll = tcp_poll,
        .may_sleep = tcp_may_sleep,
        .close = tcp_close,
};

static struct tcp_host *host_new(const char *addr, const char *subnqn, const char *hostnqn,
                                 struct loop *loop)
{
	struct tcp_host *h = mem_calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->page = mem_calloc(1, NVME_IDENTIFY_BYTES);
	h->t = (struct nvme_transport){.ops = &tcp_ops,
	                               .loop = loop,
	                               .mem_kind = MEM_HOST,
	                               .identity = true,
	                               .comes_back = true};
	snprintf(h->addr, sizeof(h->addr), "%s", addr);
	snprintf(h->subnqn, sizeof(h->subnqn), "%s", subnqn);
	snprintf(h->hostnqn, sizeof(h->hostnqn), "%s", hostnqn);
	h->ioccsz = sizeof(struct nvme_cmd);
	h->cap_to = 30;
	h->step.fired = step_fired;
	h->keep_alive.fired = keep_alive_fired;
	h->retry.fired = retry_fired;
	return h;
}

/* The first association, up to CAP and VS. */
static int first_connect(struct tcp_host *h, struct pst_err *err)
{
	h->first = true;
	assoc_begin(h);
	while (h->state != TA_READY && h->state != TA_DOWN) {
		int rc = loop_turn(h->t.loop, NSEC_PER_SEC);

		if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY)
			return err_set(err, rc, "nvme: %s: the loop", h->addr);
	}
	h->first = false;
	h->t.failed = false;
	if (h->state == TA_READY)
		return 0;
	return err_set(err, h->error ? h->error : -EIO, "nvme: %s: %s", h->addr,
	               h->sentence[0] ? h->sentence : "no connection");
}

int nvme_tcp_connect(struct nvme_transport **ret_t, const struct nvme_device *d, struct loop *loop,
                     struct pst_err *err)
{
	struct tcp_host *h;
	int rc;

	if (loop_is_sim(loop))
		return err_set(err, -ENOTSUP, "nvme: no network in a simulation");
	h = host_new(d->spec, d->subnqn, d->hostnqn, loop);
	if (!h || !h->page) {
		mem_free(h);
		return err_set(err, -ENOMEM, "out of memory");
	}
	h->hdgst = d->hdgst;
	h->ddgst = d->ddgst;
	h->kato_ms = d->kato_ms;
	/* The driver waits CAP.TO for each of its tries. */
	h->cap_to = nvme_device_patience(d);
	rc = first_connect(h, err);
	if (rc) {
		tcp_close(&h->t);
		return rc;
	}
	*ret_t = &h->t;
	return 0;
}

/* --- discovery: without the driver, whose set-up such a controller does not know --- */

struct tcp_wait {
	bool done;
	uint16_t status;
};
static void waited(struct tcp_host *h, struct tcp_slot *s, const struct nvme_cqe *cqe)
{
	h->waiting->done = true;
	h->waiting->status = cqe ? (uint16_t)(le16_get(cqe->status) >> 1) : NVME_SC_PATH_HOST;
}

static int log_read(struct tcp_host *h, void *buf, uint64_t off, uint32_t len)
{
	uint32_t dwords = len / 4 - 1;
	struct nvme_cmd cmd = {.opc = NVME_ADMIN_GET_LOG,
	                       .cdw10 = le32_make(NVME_LOG_DISCOVERY | dwords << 16),
	                       .cdw11 = le32_make(dwords >> 16),
	                       .cdw12 = le32_make((uint32_t)off),
	                       .cdw13 = le32_make((uint32_t)(off >> 32))};
	struct tcp_wait w = {false, 0};

	h->waiting = &w;
	if (!tcp_internal(h, &cmd, buf, len, waited))
		return -EIO;
	while (!w.done)
		loop_turn(h->t.loop, NSEC_PER_SEC); /* keep alive sees to it that this ends */
	return w.status ? -EIO : 0;
}

#define DISCOVERY_MAX 1024u /* entries */

static int log_fetch(struct tcp_host *h, struct nvme_discovery_log **ret_log, uint64_t *ret_count,
                     struct pst_err *err)
{
	size_t each = sizeof(struct nvme_discovery_entry), at = sizeof(struct nvme_discovery_log);
	struct nvme_discovery_log head, *log;
	uint64_t n;
	int rc = log_read(h, &head, 0, sizeof(head));

	if (rc)
		return err_set(err, rc, "nvme: %s: the discovery log can't be read", h->addr);
	n = le64_get(head.numrec);
	if (le16_get(head.recfmt) || n > DISCOVERY_MAX)
		return err_set(err, -EIO, "nvme: %s: a discovery log that makes no sense", h->addr);
	log = mem_calloc(1, at + n * each);
	if (!log)
		return err_set(err, -ENOMEM, "out of memory");
	*log = head;
	for (uint64_t i = 0; i < n && !rc; i += 4)
		rc = log_read(h, (char *)log + at + i * each, at + i * each,
		              (uint32_t)(MIN(n - i, 4u) * each));
	if (rc) {
		mem_free(log);
		return err_set(err, rc, "nvme: %s: the discovery log can't be read", h->addr);
	}
	*ret_log = log;
	*ret_count = n;
	return 0;
}

int nvme_tcp_discover(const char *addr, const char *hostnqn, struct loop *loop,
                      struct nvme_discovery_log **ret_log, uint64_t *ret_count, struct pst_err *err)
{
	struct tcp_host *h = host_new(addr, NVME_DISCOVERY_NQN, hostnqn, loop);
	uint64_t until;
	int rc;

	if (!h || !h->page) {
		mem_free(h);
		return err_set(err, -ENOMEM, "out of memory");
	}
	h->kato_ms = 5000;
	rc = first_connect(h, err);
	if (!rc) {
		h->aqa = NVME_AQA_MAKE(ADMIN_SIZE - 1, ADMIN_SIZE - 1);
		cc_write(h, NVME_CC_MAKE(NVME_CC_CSS_NVM, 0, 0, 0, 6, 4) | NVME_CC_EN);
		until = loop_now(loop) + TCP_SETUP_NS;
		while (h->state == TA_ENABLING && loop_now(loop) < until)
			loop_turn(loop, 100 * NSEC_PER_MSEC);
		rc = h->state == TA_LIVE
		             ? 0
		             : err_set(err, -EIO, "nvme: %s: %s", addr,
		                       h->sentence[0] ? h->sentence : "it does not get ready");
	}
	if (!rc)
		rc = log_fetch(h, ret_log, ret_count, err);
	h->cc = 0;
	tcp_close(&h->t);
	return rc;
}
