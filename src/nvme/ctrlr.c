/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A controller's registers and its states (Base 3.1.3, 3.5, 3.6):
 *
 *               EN 0->1                    SHN                  all quiet and flushed
 *   DISABLED ------------> RUNNING ------------------> SHUT ---> (SHST done)
 *      ^    cc_enable         |      shutdown_start     |   shutdown_poll
 *      |                      | EN 1->0: cc_disable     |
 *      |   disabled()         v                         |
 *      +------------------ DRAINING <-------------------+
 *            nothing taken    ^
 *                             | EN 1->0
 *   any state -- nvme_ctrlr_fail --> FAILED;   any -- nvme_ctrlr_remove --> REMOVED, for good
 *   any state -- nvme_ctrlr_unlink --> REMOVED -- its time is over, all quiet --> DISABLED
 *
 * The BAR is memory that the host may write at any time. CC is compared with what was last acted
 * on; AQA, ASQ and ACQ are read once, when the controller is enabled; nothing else of it is read.
 */
#include "nvme/ctrlr_int.h"

#define TIMEOUT_500MS 60u /* CAP.TO: 30 s for what is on its way to end */
#define MDTS_MAX      10u

/* --- registers --- */

static le32 *bar32(const struct nvme_ctrlr *c, uint32_t off)
{
	return (le32 *)(void *)(c->bar + off);
}

static uint32_t bar_get(const struct nvme_ctrlr *c, uint32_t off)
{
	/* Pairs with the host's release of CC: AQA, ASQ and ACQ were written before it. */
	return le32_get(__atomic_load_n(bar32(c, off), __ATOMIC_ACQUIRE));
}

static void bar_put(struct nvme_ctrlr *c, uint32_t off, uint32_t v)
{
	__atomic_store_n(bar32(c, off), le32_make(v), __ATOMIC_RELEASE);
}

static void bar_put64(struct nvme_ctrlr *c, uint32_t off, uint64_t v)
{
	bar_put(c, off, (uint32_t)v);
	bar_put(c, off + 4, (uint32_t)(v >> 32));
}

static uint64_t bar_get64(const struct nvme_ctrlr *c, uint32_t off)
{
	uint64_t low = bar_get(c, off);

	return low | (uint64_t)bar_get(c, off + 4) << 32;
}

static void csts_set(struct nvme_ctrlr *c, uint32_t csts)
{
	c->csts = csts;
	bar_put(c, NVME_REG_CSTS, csts);
}

static uint64_t cap_make(const struct nvme_ctrlr_opts *o)
{
	return (o->entries_max - 1) | 1ull << 16 | (uint64_t)TIMEOUT_500MS << 24 |
	       (uint64_t)o->dstrd << 32 | (uint64_t)(NVME_CAP_CSS_NVM | NVME_CAP_CSS_IOCS) << 37 |
	       (uint64_t)o->mps_max << 52 | (uint64_t)NVME_CAP_CRMS_WITH_MEDIA << 59;
}

/* --- states --- */

static bool enable(struct nvme_ctrlr *c, uint32_t cc)
{
	uint32_t css = NVME_CC_CSS(cc);

	if ((css != NVME_CC_CSS_NVM && css != NVME_CC_CSS_ALL) ||
	    NVME_CC_MPS(cc) > c->opts.mps_max || NVME_CC_AMS(cc))
		return false;
	c->page_bytes = 4096u << NVME_CC_MPS(cc);
	if (c->opts.fabrics)
		return !capsule_admin_new(c);
	return !admin_queues_new(c, bar_get(c, NVME_REG_AQA), bar_get64(c, NVME_REG_ASQ),
	                         bar_get64(c, NVME_REG_ACQ));
}

static void cc_enable(struct nvme_ctrlr *c, uint32_t cc)
{
	features_reset(c);
	if (!enable(c, cc)) {
		nvme_ctrlr_fail(c); /* a configuration that can't be had */
		return;
	}
	c->state = CTRLR_RUNNING;
	csts_set(c, NVME_CSTS_RDY);
}

/* Nothing is taken any more, but requests that wait for the host, or for each other, are: those
 * end here, without completions. */
void ctrlr_waiting_drop(struct nvme_ctrlr *c)
{
	event_reset(c);
	fault_reset(c);
	for (unsigned i = 0; i < ARRAY_LEN(c->sqs); i++) {
		struct ctrlr_sq *sq = c->sqs[i];

		if (sq && sq->fused)
			req_drop(sq->fused);
		if (sq && sq->deleter)
			req_drop(sq->deleter);
		if (sq)
			sq->fused = sq->deleter = NULL;
	}
	for (unsigned i = 0; i < ARRAY_LEN(c->cqs); i++) {
		struct list *n;

		while (c->cqs[i] && (n = list_pop(&c->cqs[i]->waiting)))
			req_drop(list_entry(n, struct nvme_req, link));
	}
}

static void cc_disable(struct nvme_ctrlr *c)
{
	c->state = CTRLR_DRAINING;
	c->resets++;
	ctrlr_waiting_drop(c);
	loop_timer_disarm(c->subsys->loop, &c->keep_alive);
}

static bool is_drained(const struct nvme_ctrlr *c)
{
	return !c->taken && !c->shut_ns;
}

static void disabled(struct nvme_ctrlr *c)
{
	queues_free(c);
	features_reset(c);
	c->irqs_due = false;
	c->intm = 0;
	c->state = CTRLR_DISABLED;
	csts_set(c, 0);
}

/* --- shutdown: what was taken ends, then all namespaces are flushed --- */

static void shutdown_flushed(struct bdev_io *io)
{
	struct nvme_ctrlr *c = container_of(io, struct nvme_ctrlr, shut_io);

	/* An error: there is nobody to tell; the data were never said to be durable. */
	if (io->status)
		log_warn("nvme: %s: flush at shutdown failed (%d)", c->shut_ns->bdev->info.name,
		         io->status);
	c->shut_ns->users--;
	c->shut_ns = NULL;
}

static bool is_quiet(const struct nvme_ctrlr *c)
{
	uint32_t waiting = c->aer_count;
	const struct list *n;

	for (unsigned i = 0; i < ARRAY_LEN(c->cqs); i++) {
		for (n = c->cqs[i] ? c->cqs[i]->waiting.next : NULL; n && n != &c->cqs[i]->waiting;
		     n = n->next)
			waiting++;
	}
	for (unsigned i = 0; i < ARRAY_LEN(c->sqs); i++)
		waiting += c->sqs[i] && c->sqs[i]->fused;
	return c->taken == waiting;
}

static int shutdown_poll(struct nvme_ctrlr *c)
{
	struct nvme_ns *ns = NULL;

	if (NVME_CSTS_SHST(c->csts) != NVME_SHST_BUSY || c->shut_ns || !is_quiet(c))
		return 0;
	while (!ns && c->shut_step < NVME_SUBSYS_NS_MAX)
		ns = c->subsys->ns[c->shut_step++];
	if (!ns) {
		csts_set(c, (c->csts & ~NVME_CSTS_SHST_MASK) | NVME_SHST_DONE << 2);
		return 1;
	}
	ns->users++;
	c->shut_ns = ns;
	c->shut_io.op = BDEV_FLUSH;
	c->shut_io.done = shutdown_flushed;
	bdev_submit(ns->bdev, &c->shut_io);
	return 1;
}

static void shutdown_start(struct nvme_ctrlr *c)
{
	if (c->state == CTRLR_RUNNING)
		c->state = CTRLR_SHUT;
	c->shut_step = 0;
	csts_set(c, (c->csts & ~NVME_CSTS_SHST_MASK) | NVME_SHST_BUSY << 2);
}

/* --- what the host wrote into CC --- */

static int cc_write(struct nvme_ctrlr *c, uint32_t cc)
{
	uint32_t old = c->cc;

	c->cc = cc;
	if ((old & NVME_CC_EN) && !(cc & NVME_CC_EN)) {
		cc_disable(c);
		return 1;
	}
	if (!(old & NVME_CC_EN) && (cc & NVME_CC_EN))
		cc_enable(c, cc);
	if (NVME_CC_SHN(cc) && !NVME_CC_SHN(old) && c->state <= CTRLR_DISABLED)
		shutdown_start(c);
	return 1;
}

/* All but the usual: returns with the state as CC wants it, or on its way there. */
static __attribute__((noinline)) int state_poll(struct nvme_ctrlr *c, uint32_t cc)
{
	int did = 0;

	if (c->state == CTRLR_REMOVED)
		return 0;
	if (c->state == CTRLR_DRAINING) {
		if (!is_drained(c))
			return 0;
		disabled(c);
		did++;
	}
	if (cc != c->cc)
		did += cc_write(c, cc);
	return did + shutdown_poll(c);
}

int nvme_ctrlr_poll(struct nvme_ctrlr *c)
{
	uint32_t cc = bar_get(c, NVME_REG_CC);
	int did = 0;

	loop_assert(c->subsys->loop);
	if (unlikely(cc != c->cc || c->state != CTRLR_RUNNING))
		did = state_poll(c, cc);
	if (likely(ctrlr_lives(c)))
		did += queues_poll(c);
	if (unlikely(c->irqs_due))
		irqs_send(c);
	return did;
}

bool nvme_ctrlr_idle(const struct nvme_ctrlr *c)
{
	if (c->state == CTRLR_REMOVED)
		return true;
	if (bar_get(c, NVME_REG_CC) != c->cc || c->state == CTRLR_DRAINING || c->irqs_due ||
	    NVME_CSTS_SHST(c->csts) == NVME_SHST_BUSY)
		return false;
	if (!ctrlr_lives(c))
		return true;
	for (unsigned i = 0; i < c->active_count; i++) {
		const struct ctrlr_sq *sq = c->active[i];

		if (sq->head != sq->tail || le32_get(*(volatile le32 *)sq->db) != sq->db_seen)
			return false;
	}
	return c->taken == c->aer_count;
}

/* --- trapped accesses --- */

static bool access_ok(const struct nvme_ctrlr *c, uint32_t off, unsigned len)
{
	return (len == 4 || len == 8) && off % len == 0 &&
	       off + (uint64_t)len <= nvme_ctrlr_bar_bytes(&c->opts);
}

static uint32_t reg_read32(const struct nvme_ctrlr *c, uint32_t off)
{
	if (c->state == CTRLR_REMOVED)
		return NVME_REG_GONE;
	if (off == NVME_REG_INTMS || off == NVME_REG_INTMC)
		return c->intm;
	return off < NVME_REG_DOORBELL ? bar_get(c, off) : 0;
}

uint64_t nvme_ctrlr_reg_read(struct nvme_ctrlr *c, uint32_t off_bytes, unsigned len_bytes)
{
	uint64_t low;

	loop_assert(c->subsys->loop);
	if (!access_ok(c, off_bytes, len_bytes))
		return UINT64_MAX;
	low = reg_read32(c, off_bytes);
	return len_bytes == 4 ? low : low | (uint64_t)reg_read32(c, off_bytes + 4) << 32;
}

/* Which doorbell @off is: its queue must exist (Base 5.2, Invalid Doorbell Register). */
static void doorbell_write(struct nvme_ctrlr *c, uint32_t off, uint32_t v)
{
	uint32_t stride = 4u << c->opts.dstrd, n = (off - NVME_REG_DOORBELL) / stride;
	uint32_t qid = n / 2;

	if (!ctrlr_lives(c))
		return;
	if ((off - NVME_REG_DOORBELL) % stride || qid > c->queues ||
	    !(n & 1 ? (void *)c->cqs[qid] : (void *)c->sqs[qid])) {
		c->bad_doorbells++;
		event_raise(c, NVME_EVENT_ERROR, NVME_ERROR_DB_REGISTER, NVME_LOG_ERROR);
		return;
	}
	bar_put(c, off, v);
}

static void reg_write32(struct nvme_ctrlr *c, uint32_t off, uint32_t v)
{
	if (off >= NVME_REG_DOORBELL) {
		doorbell_write(c, off, v);
		return;
	}
	switch (off) {
	case NVME_REG_INTMS:
		c->intm |= v;
		break;
	case NVME_REG_INTMC:
		c->intm &= ~v;
		c->irqs_due = true; /* what was held back */
		break;
	case NVME_REG_CC:
	case NVME_REG_AQA:
	case NVME_REG_ASQ:
	case NVME_REG_ASQ + 4:
	case NVME_REG_ACQ:
	case NVME_REG_ACQ + 4:
		bar_put(c, off, v);
		break;
	default: /* read-only, or none */
		break;
	}
}

void nvme_ctrlr_reg_write(struct nvme_ctrlr *c, uint32_t off_bytes, unsigned len_bytes,
                          uint64_t value)
{
	uint32_t cc;

	loop_assert(c->subsys->loop);
	if (!access_ok(c, off_bytes, len_bytes) || c->state == CTRLR_REMOVED)
		return;
	reg_write32(c, off_bytes, (uint32_t)value);
	if (len_bytes == 8)
		reg_write32(c, off_bytes + 4, (uint32_t)(value >> 32));
	cc = bar_get(c, NVME_REG_CC);
	if (cc != c->cc || c->state != CTRLR_RUNNING)
		state_poll(c, cc);
}

/* --- trouble, ANA, figures --- */

void nvme_ctrlr_fail(struct nvme_ctrlr *c)
{
	if (c->state == CTRLR_REMOVED || c->state == CTRLR_FAILED)
		return;
	c->state = CTRLR_FAILED;
	loop_timer_disarm(c->subsys->loop, &c->keep_alive);
	csts_set(c, c->csts | NVME_CSTS_CFS);
}

void nvme_ctrlr_remove(struct nvme_ctrlr *c)
{
	if (c->state == CTRLR_REMOVED)
		return;
	c->state = CTRLR_REMOVED;
	loop_timer_disarm(c->subsys->loop, &c->keep_alive);
	c->irqs_due = false;
	for (uint32_t off = 0; off < NVME_REG_DOORBELL; off += 4)
		bar_put(c, off, NVME_REG_GONE);
}

/* What a host finds of a controller that nobody has touched yet. */
static void registers_new(struct nvme_ctrlr *c)
{
	memset(c->bar, 0, NVME_REG_DOORBELL);
	bar_put64(c, NVME_REG_CAP, c->cap);
	bar_put(c, NVME_REG_VS, NVME_VERSION(2, 0, 0));
	bar_put(c, NVME_REG_CRTO, TIMEOUT_500MS); /* with media: as CAP.TO */
	c->cc = 0;
	csts_set(c, 0);
}

/* The link is up again, and nothing of what went before it is left. */
static void link_over(struct loop_timer *t)
{
	struct nvme_ctrlr *c = container_of(t, struct nvme_ctrlr, link);
	struct loop *loop = c->subsys->loop;

	if (!nvme_ctrlr_quiet(c)) {
		if (loop_timer_arm(loop, &c->link, loop_now(loop) + NSEC_PER_MSEC))
			log_warn("nvme: no memory for a timer: the link stays down");
		return;
	}
	queues_free(c);
	features_reset(c);
	c->irqs_due = false;
	c->intm = 0;
	registers_new(c);
	c->state = CTRLR_DISABLED;
}

void nvme_ctrlr_unlink(struct nvme_ctrlr *c, uint32_t ms)
{
	struct loop *loop = c->subsys->loop;

	if (c->state == CTRLR_REMOVED)
		return;
	nvme_ctrlr_remove(c);
	if (loop_timer_arm(loop, &c->link, loop_now(loop) + ms * NSEC_PER_MSEC))
		log_warn("nvme: no memory for a timer: the link stays down");
}

bool nvme_ctrlr_unlinked(const struct nvme_ctrlr *c)
{
	return c->state == CTRLR_REMOVED && c->link.heap_index;
}

static void keep_alive_over(struct loop_timer *t)
{
	struct nvme_ctrlr *c = container_of(t, struct nvme_ctrlr, keep_alive);

	if (c->traffic) { /* CTRATT.TBKAS: any command is a sign of life */
		keep_alive_restart(c);
		return;
	}
	log_warn("nvme: controller %u: no keep alive for %u ms", c->cntlid, c->feat.keep_alive_ms);
	nvme_ctrlr_fail(c); /* Base 3.9: stops, fatal status */
}

int nvme_ctrlr_ana_set(struct nvme_ctrlr *c, uint32_t group, enum nvme_ana_state state)
{
	loop_assert(c->subsys->loop);
	if (!group || group > NVME_ANA_GROUPS_MAX ||
	    ((state < NVME_ANA_OPTIMIZED || state > NVME_ANA_PERSISTENT_LOSS) &&
	     state != NVME_ANA_CHANGING))
		return -EINVAL;
	if (c->ana[group] == state)
		return 0;
	c->ana[group] = (uint8_t)state;
	ns_update_all(c);
	c->ana_count[group] = ++c->ana_changes;
	if (c->feat.async & NVME_ASYNC_ANA)
		event_raise(c, NVME_EVENT_NOTICE, NVME_NOTICE_ANA, NVME_LOG_ANA);
	return 0;
}

enum nvme_ana_state nvme_ctrlr_ana(const struct nvme_ctrlr *c, uint32_t group)
{
	return group && group <= NVME_ANA_GROUPS_MAX ? c->ana[group] : NVME_ANA_PERSISTENT_LOSS;
}

void nvme_ctrlr_stats(const struct nvme_ctrlr *c, struct nvme_ctrlr_stats *ret_stats)
{
	*ret_stats = (struct nvme_ctrlr_stats){.commands = c->commands,
	                                       .completions = c->completions,
	                                       .errors = c->errors,
	                                       .resets = c->resets,
	                                       .bad_doorbells = c->bad_doorbells,
	                                       .in_work = c->taken - c->aer_count};
}

void *nvme_ctrlr_bar(struct nvme_ctrlr *c)
{
	return c->bar;
}

uint16_t nvme_ctrlr_cntlid(const struct nvme_ctrlr *c)
{
	return c->cntlid;
}

/* --- making one --- */

void nvme_ctrlr_opts_default(struct nvme_ctrlr_opts *opts)
{
	*opts = (struct nvme_ctrlr_opts){.queues_max = 64,
	                                 .entries_max = 1024,
	                                 .vectors = 65,
	                                 .mdts = 5,
	                                 .mps_max = 4,
	                                 .depth_max = 256,
	                                 .burst = 32};
}

size_t nvme_ctrlr_bar_bytes(const struct nvme_ctrlr_opts *opts)
{
	/* Whole pages, so that they can be mapped. */
	return NVME_REG_DOORBELL +
	       ALIGN_UP(NVME_DB_SQ(opts->queues_max + 1, opts->dstrd), (size_t)4096);
}

static int opts_check(const struct nvme_ctrlr_opts *o, struct pst_err *err)
{
	if (!o->dma && !o->fabrics)
		return err_set(err, -EINVAL, "a controller needs dma()");
	if (!o->queues_max || o->queues_max > NVME_CTRLR_QUEUES_MAX || o->entries_max < 2 ||
	    o->entries_max > 65536 || !o->vectors || o->vectors > VECTORS_MAX || !o->burst)
		return err_set(err, -EINVAL, "queues, entries, vectors or burst out of range");
	if (!o->mdts || o->mdts > MDTS_MAX || o->mps_max > 4 || o->dstrd > 4 || o->depth_max < 8 ||
	    o->depth_max > 65535 || (uintptr_t)o->bar % 4096)
		return err_set(err, -EINVAL, "mdts, mps_max, dstrd, depth_max or bar out of range");
	/* An I/O command with PRPs, whatever its offset; Identify; the ranges of DSM. */
	if (o->pieces_max && o->pieces_max < (1u << o->mdts) + 1)
		return err_set(err, -EINVAL, "pieces_max: at least %u for this mdts",
		               (1u << o->mdts) + 1);
	return 0;
}

static int cntlid_take(struct nvme_ctrlr *c, uint16_t want, struct pst_err *err)
{
	struct nvme_subsys *s = c->subsys;
	unsigned at = 0;

	for (uint32_t id = want ? want : 1; id <= 0xffef; id++) {
		unsigned i = 0;

		while (i < NVME_SUBSYS_CTRLRS_MAX && (!s->ctrlrs[i] || s->ctrlrs[i]->cntlid != id))
			i++;
		if (i < NVME_SUBSYS_CTRLRS_MAX && want)
			return err_set(err, -EEXIST, "controller %u is there already", want);
		if (i == NVME_SUBSYS_CTRLRS_MAX) {
			c->cntlid = (uint16_t)id;
			break;
		}
	}
	while (at < NVME_SUBSYS_CTRLRS_MAX && s->ctrlrs[at])
		at++;
	if (at == NVME_SUBSYS_CTRLRS_MAX)
		return err_set(err, -ENOSPC, "a subsystem has at most %u controllers",
		               NVME_SUBSYS_CTRLRS_MAX);
	if (!c->cntlid)
		return err_set(err, -EINVAL, "controller ids end at %u", 0xffefu);
	s->ctrlrs[at] = c;
	return 0;
}

static int reqs_new(struct nvme_ctrlr *c)
{
	unsigned admin = 16 + AER_MAX, pieces = c->opts.pieces_max;

	c->req_count = c->opts.depth_max + admin;
	c->reqs = mem_calloc(c->req_count, sizeof(*c->reqs));
	c->iovs = mem_calloc((size_t)c->req_count * pieces, sizeof(*c->iovs));
	c->trash = mem_alloc(c->data_max);
	if (!c->reqs || !c->iovs || !c->trash)
		return -ENOMEM;
	for (unsigned i = c->req_count; i--;) {
		struct nvme_req *r = &c->reqs[i], **pool = i < admin ? &c->admin_free : &c->free;

		r->c = c;
		r->iov = &c->iovs[(size_t)i * pieces];
		list_init(&r->link);
		r->next = *pool;
		*pool = r;
	}
	return 0;
}

static void ctrlr_done(struct nvme_ctrlr *c)
{
	mem_free(c->reqs);
	mem_free(c->iovs);
	mem_free(c->trash);
	mem_free(c->plan);
	if (c->bar_own)
		mem_free(c->bar);
	mem_free(c);
}

static const struct nvme_dma_window no_window;

static int ctrlr_init(struct nvme_ctrlr *c, const struct nvme_ctrlr_opts *opts)
{
	c->opts = *opts;
	if (!c->opts.pieces_max)
		c->opts.pieces_max = (1u << opts->mdts) + 1;
	c->data_max = 4096u << opts->mdts;
	c->page_bytes = 4096;
	c->dma = opts->dma;
	c->dma_arg = opts->arg;
	c->window = opts->window ? opts->window : &no_window;
	c->burst = opts->burst;
	c->state = CTRLR_DISABLED;
	c->keep_alive.fired = keep_alive_over;
	c->link.fired = link_over;
	c->started_ns = loop_now(c->subsys->loop);
	list_init(&c->events_wanted);
	list_init(&c->delayed);
	memset(c->ana, NVME_ANA_OPTIMIZED, sizeof(c->ana));
	features_reset(c);
	c->bar = opts->bar;
	if (!c->bar) {
		c->bar_own = true;
		c->bar = mem_alloc_aligned(4096, nvme_ctrlr_bar_bytes(opts));
		if (!c->bar)
			return -ENOMEM;
	}
	c->cap = cap_make(&c->opts);
	registers_new(c);
	return reqs_new(c);
}

int nvme_ctrlr_new(struct nvme_ctrlr **ret_ctrlr, struct nvme_subsys *s,
                   const struct nvme_ctrlr_opts *opts, struct pst_err *err)
{
	struct nvme_ctrlr *c;
	int rc = opts_check(opts, err);

	if (rc)
		return rc;
	c = mem_calloc(1, sizeof(*c));
	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->subsys = s;
	rc = ctrlr_init(c, opts);
	if (rc)
		err_set(err, rc, "out of memory");
	else
		rc = cntlid_take(c, opts->cntlid, err);
	if (rc) {
		ctrlr_done(c);
		return rc;
	}
	ns_update_all(c);
	*ret_ctrlr = c;
	return 0;
}

void nvme_ctrlr_free(struct nvme_ctrlr *c)
{
	if (!c)
		return;
	loop_assert(c->subsys->loop);
	loop_timer_disarm(c->subsys->loop, &c->link);
	nvme_ctrlr_remove(c);
	ctrlr_waiting_drop(c);
	while (!is_drained(c)) {
		int rc = loop_turn(c->subsys->loop, UINT64_MAX);

		/* Requests of ours are on bdevs: without a loop that turns there is no way out. */
		pst_assert(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
	}
	queues_free(c);
	for (unsigned i = 0; i < NVME_SUBSYS_CTRLRS_MAX; i++) {
		if (c->subsys->ctrlrs[i] == c)
			c->subsys->ctrlrs[i] = NULL;
	}
	ctrlr_done(c);
}
