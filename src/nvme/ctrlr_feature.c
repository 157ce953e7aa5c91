/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Get and Set Features (Base 5.15, 5.27), and the keep alive timer that one of them sets. Nothing
 * is saveable: SEL 2 gives the default, as Base says for such features. The defaults are what
 * features_reset() makes, also at every reset of the controller.
 */
#include "nvme/ctrlr_int.h"

void features_reset(struct nvme_ctrlr *c)
{
	memset(&c->feat, 0, sizeof(c->feat));
	c->feat.arbitration = 7; /* no limit of the burst */
	c->feat.write_cache = true;
	c->feat.temp_over = 343;
	c->feat.keep_alive_ms = c->opts.kato_ms;
	if (c->opts.fabrics) {
		memcpy(c->feat.host_id, c->opts.host_id, sizeof(c->feat.host_id));
		c->feat.host_id_bytes = sizeof(c->feat.host_id);
	}
	c->queues = c->opts.queues_max;
	keep_alive_restart(c);
}

/* Armed for KATO; the host says Keep Alive more often than that. */
void keep_alive_restart(struct nvme_ctrlr *c)
{
	struct loop *loop = c->subsys->loop;

	c->traffic = false;
	loop_timer_disarm(loop, &c->keep_alive);
	if (c->feat.keep_alive_ms &&
	    loop_timer_arm(loop, &c->keep_alive,
	                   loop_now(loop) + c->feat.keep_alive_ms * NSEC_PER_MSEC))
		nvme_ctrlr_fail(c); /* without its timer nobody would notice that the host died */
}

static bool has_volatile(const struct nvme_subsys *s)
{
	for (unsigned i = 0; i < NVME_SUBSYS_NS_MAX; i++) {
		if (s->ns[i] && s->ns[i]->bdev->info.volatile_cache)
			return true;
	}
	return false;
}

static bool queues_exist(const struct nvme_ctrlr *c)
{
	for (unsigned i = 1; i <= c->queues; i++) {
		if (c->cqs[i] || c->sqs[i])
			return true;
	}
	return false;
}

static bool is_known(const struct nvme_ctrlr *c, uint32_t fid)
{
	switch (fid) {
	case NVME_FEAT_ARBITRATION:
	case NVME_FEAT_POWER:
	case NVME_FEAT_TEMPERATURE:
	case NVME_FEAT_ERROR_RECOVERY:
	case NVME_FEAT_QUEUES:
	case NVME_FEAT_COALESCING:
	case NVME_FEAT_VECTOR:
	case NVME_FEAT_ATOMICITY:
	case NVME_FEAT_ASYNC:
	case NVME_FEAT_KEEP_ALIVE:
	case NVME_FEAT_HOST_BEHAVIOR:
	case NVME_FEAT_HOST_ID:
		return true;
	case NVME_FEAT_WRITE_CACHE:
		return has_volatile(c->subsys);
	default:
		return false;
	}
}

/* --- Set --- */

static uint16_t queues_set(struct nvme_req *r, uint32_t v)
{
	struct nvme_ctrlr *c = r->c;
	uint32_t sq = NVME_QUEUES_NSQ(v), cq = NVME_QUEUES_NCQ(v), n;

	if (sq == 0xffff || cq == 0xffff)
		return ERR(NVME_SC_INVALID_FIELD);
	if (queues_exist(c))
		return ERR(NVME_SC_SEQUENCE);
	/* Pairs: one number serves both. */
	n = MIN(c->opts.queues_max, MAX(sq, cq) + 1);
	c->queues = n;
	r->dw0 = (n - 1) << 16 | (n - 1);
	return 0;
}

/* Which threshold: of the composite temperature, since there are no sensors. @all: "all sensors" is
 * that one, too. */
static uint16_t temperature_check(uint32_t v, bool all)
{
	uint32_t sensor = v >> 16 & 0xf, under = v >> 20 & 3;

	return under > 1 || (sensor && !(all && sensor == 0xf)) ? ERR(NVME_SC_INVALID_FIELD) : 0;
}

static uint16_t temperature_set(struct nvme_ctrlr *c, uint32_t v)
{
	uint16_t st = temperature_check(v, true);

	if (!st)
		*(v >> 20 & 1 ? &c->feat.temp_under : &c->feat.temp_over) = v & 0xffff;
	return st;
}

static uint16_t vector_check(const struct nvme_ctrlr *c, uint32_t v)
{
	return (v & 0xffff) >= c->opts.vectors ? ERR(NVME_SC_INVALID_FIELD) : 0;
}

static uint16_t vector_set(struct nvme_ctrlr *c, uint32_t v)
{
	uint16_t st = vector_check(c, v);
	uint8_t *byte = &c->feat.vector_cd[(v & 0xffff) / 8 % sizeof(c->feat.vector_cd)];
	uint8_t bit = (uint8_t)(1u << (v & 7));

	if (!st)
		*byte = (uint8_t)(v & NVME_VECTOR_CD ? *byte | bit : *byte & ~bit);
	return st;
}

static uint16_t keep_alive_set(struct nvme_ctrlr *c, uint32_t ms)
{
	/* Rounded up to the granularity (Base 3.9); no more than can be counted in ms. */
	c->feat.keep_alive_ms =
	        (uint32_t)MIN(DIV_ROUND_UP((uint64_t)ms, KEEP_ALIVE_MS) * KEEP_ALIVE_MS,
	                      UINT32_MAX / KEEP_ALIVE_MS * KEEP_ALIVE_MS);
	keep_alive_restart(c);
	return 0;
}

static uint16_t behavior_set(struct nvme_req *r)
{
	uint16_t st = data_map(r, sizeof(r->c->feat.host_behavior));

	if (!st)
		data_get(r, r->c->feat.host_behavior);
	return st;
}

static uint32_t host_id_bytes(const struct nvme_req *r)
{
	return cdw(r->cmd.cdw11) & NVME_HOST_ID_EXHID ? 16 : 8;
}

/* All controllers of a subsystem are told of hosts in one of the two forms (Base 5.27.1.19). */
static bool host_id_mixed(const struct nvme_ctrlr *c, uint32_t bytes)
{
	for (unsigned i = 0; i < NVME_SUBSYS_CTRLRS_MAX; i++) {
		const struct nvme_ctrlr *o = c->subsys->ctrlrs[i];

		if (o && o != c && o->feat.host_id_bytes && o->feat.host_id_bytes != bytes)
			return true;
	}
	return false;
}

static uint16_t host_id_set(struct nvme_req *r)
{
	struct ctrlr_features *f = &r->c->feat;
	uint32_t bytes = host_id_bytes(r);
	uint16_t st;

	if (r->c->opts.fabrics) /* Connect said it */
		return ERR(NVME_SC_SEQUENCE);
	if (host_id_mixed(r->c, bytes))
		return ERR(NVME_SC_HOSTID_FORMAT);
	st = data_map(r, bytes);
	if (st)
		return st;
	memset(f->host_id, 0, sizeof(f->host_id));
	data_get(r, f->host_id);
	f->host_id_bytes = bytes;
	return 0;
}

static uint16_t value_set(struct nvme_req *r, uint32_t fid, uint32_t v)
{
	struct nvme_ctrlr *c = r->c;
	struct ctrlr_features *f = &c->feat;

	switch (fid) {
	case NVME_FEAT_ARBITRATION:
		f->arbitration = v;
		return 0;
	case NVME_FEAT_POWER:
		return v & 0x1f ? ERR(NVME_SC_INVALID_FIELD) : 0; /* one state */
	case NVME_FEAT_TEMPERATURE:
		return temperature_set(c, v);
	case NVME_FEAT_ERROR_RECOVERY:
		if (v >> 16 & 1)
			return ERR(NVME_SC_INVALID_FIELD); /* DULBE: not supported */
		f->error_recovery = v & 0xffff;
		return 0;
	case NVME_FEAT_WRITE_CACHE:
		f->write_cache = v & 1;
		return 0;
	case NVME_FEAT_QUEUES:
		return queues_set(r, v);
	case NVME_FEAT_COALESCING:
		f->coalescing = v & 0xffff;
		return 0;
	case NVME_FEAT_VECTOR:
		return vector_set(c, v);
	case NVME_FEAT_ATOMICITY:
		f->atomicity = v & 1;
		return 0;
	case NVME_FEAT_ASYNC:
		f->async = v;
		return 0;
	case NVME_FEAT_KEEP_ALIVE:
		return keep_alive_set(c, v);
	case NVME_FEAT_HOST_BEHAVIOR:
		return behavior_set(r);
	default:
		return host_id_set(r);
	}
}

/* None of them is a namespace's. */
static uint16_t ns_check(const struct nvme_req *r, bool set)
{
	uint32_t nsid = cdw(r->cmd.nsid);

	if (!nsid || nsid == NVME_NSID_ALL)
		return 0;
	if (!subsys_ns(r->c->subsys, nsid))
		return ERR(NVME_SC_INVALID_NS);
	return set ? ERR(NVME_SC_FEATURE_NOT_NS) : 0;
}

uint16_t features_set(struct nvme_req *r)
{
	uint32_t cdw10 = cdw(r->cmd.cdw10), fid = NVME_FEATURE_FID(cdw10);
	uint16_t st;

	if (!is_known(r->c, fid))
		return ERR(NVME_SC_INVALID_FIELD);
	if (cdw10 & NVME_FEATURE_SAVE)
		return ERR(NVME_SC_FEATURE_NOT_SAVEABLE);
	st = ns_check(r, true);
	return st ? st : value_set(r, fid, cdw(r->cmd.cdw11));
}

/* --- Get --- */

static uint16_t put(struct nvme_req *r, const void *buf, uint32_t len)
{
	uint16_t st = data_map(r, len);

	if (!st)
		data_put(r, buf, len);
	return st;
}

static uint16_t host_id_get(struct nvme_req *r, const struct ctrlr_features *f)
{
	if (f->host_id_bytes && f->host_id_bytes != host_id_bytes(r))
		return ERR(NVME_SC_HOSTID_FORMAT);
	return put(r, f->host_id, host_id_bytes(r));
}

static uint16_t vector_get(struct nvme_req *r, uint32_t v, const struct ctrlr_features *f)
{
	uint32_t vector = v & 0xffff;
	uint16_t st = vector_check(r->c, v);

	if (!st)
		r->dw0 = vector | (f->vector_cd[vector / 8] >> vector % 8 & 1 ? NVME_VECTOR_CD : 0);
	return st;
}

/* Of @f, which is the current set or the default. */
static uint16_t value_get(struct nvme_req *r, uint32_t fid, const struct ctrlr_features *f)
{
	uint32_t v = cdw(r->cmd.cdw11), n = r->c->queues - 1;

	switch (fid) {
	case NVME_FEAT_ARBITRATION:
		r->dw0 = f->arbitration;
		break;
	case NVME_FEAT_TEMPERATURE:
		r->dw0 = v >> 20 & 1 ? f->temp_under : f->temp_over;
		return temperature_check(v, false);
	case NVME_FEAT_ERROR_RECOVERY:
		r->dw0 = f->error_recovery;
		break;
	case NVME_FEAT_WRITE_CACHE:
		r->dw0 = f->write_cache;
		break;
	case NVME_FEAT_QUEUES:
		r->dw0 = n << 16 | n;
		break;
	case NVME_FEAT_COALESCING:
		r->dw0 = f->coalescing;
		break;
	case NVME_FEAT_VECTOR:
		return vector_get(r, v, f);
	case NVME_FEAT_ATOMICITY:
		r->dw0 = f->atomicity;
		break;
	case NVME_FEAT_ASYNC:
		r->dw0 = f->async;
		break;
	case NVME_FEAT_KEEP_ALIVE:
		r->dw0 = f->keep_alive_ms;
		break;
	case NVME_FEAT_HOST_BEHAVIOR:
		return put(r, f->host_behavior, sizeof(f->host_behavior));
	case NVME_FEAT_HOST_ID:
		return host_id_get(r, f);
	default: /* power: state 0 */
		break;
	}
	return 0;
}

uint16_t features_get(struct nvme_req *r)
{
	static const struct ctrlr_features defaults = {
	        .arbitration = 7, .write_cache = true, .temp_over = 343};
	uint32_t cdw10 = cdw(r->cmd.cdw10), fid = NVME_FEATURE_FID(cdw10);
	uint16_t st;

	if (!is_known(r->c, fid))
		return ERR(NVME_SC_INVALID_FIELD);
	st = ns_check(r, false);
	if (st)
		return st;
	switch (NVME_FEATURE_SEL(cdw10)) {
	case NVME_SEL_CURRENT:
		return value_get(r, fid, &r->c->feat);
	case NVME_SEL_DEFAULT:
	case NVME_SEL_SAVED:
		return value_get(r, fid, &defaults);
	case NVME_SEL_CAPABILITIES:
		r->dw0 = NVME_FEATCAP_CHANGEABLE;
		return 0;
	default:
		return ERR(NVME_SC_INVALID_FIELD);
	}
}
