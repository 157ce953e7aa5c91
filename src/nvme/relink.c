/* SPDX-License-Identifier: BSD-3-Clause */
/* What a driver reads and writes while its controller is there, and while it is not: see relink.h. */
#include "nvme/relink.h"

#define RETRY_MIN_NS (20 * NSEC_PER_MSEC)
#define RETRY_MAX_NS NSEC_PER_SEC

static bool is_quiet(const struct relink *l)
{
	return !l->ops->quiet || l->ops->quiet(l->t);
}

/* --- looking for it --- */

static void look_in(struct relink *l, uint64_t ns)
{
	struct loop *loop = l->t->loop;

	if (l->stopped || !loop_timer_arm(loop, &l->retry, loop_now(loop) + ns))
		return;
	log_warn("nvme: %s: no memory for a timer: it is not looked for any more", l->name);
	l->t->gone = true;
}

/* Its registers are the ones that the driver has come to terms with. */
static bool same_registers(const struct relink *l)
{
	uint64_t cap = l->ops->cap(l->t);

	return cap != UINT64_MAX && NVME_CAP_MPSMIN(cap) == NVME_CAP_MPSMIN(l->cap) &&
	       NVME_CAP_DSTRD(cap) == NVME_CAP_DSTRD(l->cap) &&
	       NVME_CAP_MQES(cap) >= NVME_CAP_MQES(l->cap);
}

static bool found(struct relink *l)
{
	if (!is_quiet(l) || l->ops->find(l->t))
		return false;
	if (same_registers(l))
		return true;
	if (!l->told)
		log_warn("nvme: %s: what is there now has other registers", l->name);
	l->told = true; /* once: it may be exchanged again */
	l->ops->lost(l->t);
	return false;
}

static void retry_fired(struct loop_timer *t)
{
	struct relink *l = container_of(t, struct relink, retry);

	if (l->state != RELINK_DOWN || !(l->cc & NVME_CC_EN) || l->stopped)
		return;
	if (!found(l)) {
		if (l->window_ns && !l->t->patient &&
		    loop_now(l->t->loop) - l->lost_ns >= l->window_ns) {
			l->t->gone = true;
			return;
		}
		l->retry_ns = MIN(MAX(2 * l->retry_ns, RETRY_MIN_NS), RETRY_MAX_NS);
		look_in(l, l->retry_ns);
		return;
	}
	log_warn("nvme: %s is there again", l->name);
	l->state = RELINK_UP;
	l->ops->write32(l->t, NVME_REG_AQA, l->aqa);
	l->ops->write64(l->t, NVME_REG_ASQ, l->asq);
	l->ops->write64(l->t, NVME_REG_ACQ, l->acq);
	l->ops->write32(l->t, NVME_REG_CC, l->cc);
}

void relink_lost(struct relink *l)
{
	if (l->stopped || l->t->gone || l->state != RELINK_UP)
		return;
	if (!l->t->comes_back) {
		l->t->gone = true;
		return;
	}
	log_warn("nvme: %s is gone: it is looked for", l->name);
	l->ops->lost(l->t);
	l->told = false;
	l->retry_ns = 0;
	l->lost_ns = loop_now(l->t->loop);
	l->t->failed = true;
	l->state = (l->cc & NVME_CC_EN) && l->seen_ready ? RELINK_LOST : RELINK_DOWN;
	if (l->state == RELINK_DOWN && (l->cc & NVME_CC_EN))
		look_in(l, RETRY_MIN_NS);
}

/* --- registers --- */

/* Of a controller that is not there. */
static uint32_t down_read32(const struct relink *l, uint32_t off)
{
	bool disabling = l->state == RELINK_LOST || !(l->cc & NVME_CC_EN);

	switch (off) {
	case NVME_REG_VS:
		return l->vs;
	case NVME_REG_CC:
		return l->cc;
	case NVME_REG_CSTS:
		return (NVME_CC_SHN(l->cc) ? NVME_SHST_DONE << 2 : 0) |
		       (disabling && !is_quiet(l) ? NVME_CSTS_RDY : 0);
	case NVME_REG_AQA:
		return l->aqa;
	default:
		return 0;
	}
}

uint32_t relink_read32(struct relink *l, uint32_t off)
{
	uint32_t value;

	if (l->t->gone)
		return NVME_REG_GONE;
	if (l->state != RELINK_UP)
		return down_read32(l, off);
	value = l->ops->read32(l->t, off);
	if (value == NVME_REG_GONE && (off == NVME_REG_CSTS || off == NVME_REG_CC)) {
		relink_lost(l);
		return l->state == RELINK_UP ? NVME_REG_GONE : down_read32(l, off);
	}
	if (off == NVME_REG_CSTS && (value & NVME_CSTS_RDY))
		l->seen_ready = true;
	return value;
}

uint64_t relink_read64(struct relink *l, uint32_t off)
{
	if (l->t->gone)
		return UINT64_MAX;
	return off == NVME_REG_CAP ? l->cap : 0;
}

static void cc_write(struct relink *l, uint32_t cc)
{
	uint32_t old = l->cc;

	l->cc = cc;
	if ((old ^ cc) & NVME_CC_EN)
		l->seen_ready = false;
	if (l->state == RELINK_UP)
		return;
	if (!(cc & NVME_CC_EN)) {
		l->state = RELINK_DOWN;
		loop_timer_disarm(l->t->loop, &l->retry);
	} else if (l->state == RELINK_DOWN && !(old & NVME_CC_EN)) {
		look_in(l, l->retry_ns);
	}
}

void relink_write32(struct relink *l, uint32_t off, uint32_t value)
{
	if (off == NVME_REG_AQA)
		l->aqa = value;
	if (off == NVME_REG_CC)
		cc_write(l, value);
	if (l->state == RELINK_UP && !l->t->gone)
		l->ops->write32(l->t, off, value);
}

void relink_write64(struct relink *l, uint32_t off, uint64_t value)
{
	if (off == NVME_REG_ASQ)
		l->asq = value;
	if (off == NVME_REG_ACQ)
		l->acq = value;
	if (l->state == RELINK_UP && !l->t->gone)
		l->ops->write64(l->t, off, value);
}

/* --- */

void relink_init(struct relink *l, struct nvme_transport *t, const struct relink_ops *ops,
                 const char *name, uint32_t seconds, uint32_t patience_500ms)
{
	uint64_t cap = ops->cap(t), to = MAX((uint64_t)NVME_CAP_TO(cap), patience_500ms);

	*l = (struct relink){.t = t, .ops = ops, .name = name, .retry.fired = retry_fired};
	l->cap = cap == UINT64_MAX ? cap : (cap & ~(0xffull << 24)) | to << 24;
	l->window_ns = seconds * NSEC_PER_SEC;
	l->vs = ops->read32(t, NVME_REG_VS);
	l->cc = ops->read32(t, NVME_REG_CC);
	t->comes_back = patience_500ms != 0;
}

void relink_stop(struct relink *l)
{
	l->stopped = true;
	if (l->t)
		loop_timer_disarm(l->t->loop, &l->retry);
}
