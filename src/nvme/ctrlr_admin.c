/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Admin commands (Base 5): which there are, what all have in common, and the short ones.
 */
#include "nvme/ctrlr_int.h"

/* --- Abort: finds what waits; what a bdev works on can't be called back --- */

static bool is_target(const struct nvme_req *r, uint16_t sqid, uint16_t cid)
{
	return r->sq->qid == sqid && le16_get(r->cmd.cid) == cid;
}

/* Lists of namespaces have commands of other controllers, too, with the same numbers. */
static struct nvme_req *find(struct list *l, const struct nvme_ctrlr *c, uint16_t sqid,
                             uint16_t cid)
{
	struct nvme_req *r;

	list_for_each (r, l, link) {
		if (r->c == c && is_target(r, sqid, cid))
			return r;
	}
	return NULL;
}

struct nvme_req *find_waiting(struct nvme_ctrlr *c, uint16_t sqid, uint16_t cid)
{
	struct nvme_req *r = find(&c->events_wanted, c, sqid, cid);

	if (!r)
		r = find(&c->delayed, c, sqid, cid);
	for (unsigned i = 0; i < NVME_SUBSYS_NS_MAX && !r; i++) {
		struct nvme_ns *ns = c->subsys->ns[i];

		r = ns ? find(&ns->gate, c, sqid, cid) : NULL;
	}
	return r;
}

static uint16_t abort_command(struct nvme_req *r)
{
	struct nvme_ctrlr *c = r->c;
	uint16_t sqid = (uint16_t)cdw(r->cmd.cdw10), cid = (uint16_t)(cdw(r->cmd.cdw10) >> 16);
	struct nvme_req *target = find_waiting(c, sqid, cid);

	r->dw0 = NVME_ABORT_NOT_DONE;
	if (!target)
		return 0;
	/* A holder that waits speaks for two commands, or for a format that closed namespaces. */
	if (target->place == REQ_AT_GATE && target->holds)
		return 0;
	if (target->place == REQ_EVENT)
		c->aer_count--;
	list_del(&target->link);
	loop_timer_disarm(c->subsys->loop, &target->timer);
	req_move(target, REQ_WORKING);
	target->fault = FAULT_NONE;
	r->dw0 = 0;
	req_complete(target, NVME_SC_ABORTED);
	return 0;
}

static uint16_t keep_alive(struct nvme_req *r)
{
	keep_alive_restart(r->c);
	return 0;
}

static uint16_t run(struct nvme_req *r)
{
	switch (r->cmd.opc) {
	case NVME_ADMIN_DELETE_SQ:
		return sq_delete(r);
	case NVME_ADMIN_CREATE_SQ:
		return sq_create(r);
	case NVME_ADMIN_GET_LOG:
		return log_get(r);
	case NVME_ADMIN_DELETE_CQ:
		return cq_delete(r);
	case NVME_ADMIN_CREATE_CQ:
		return cq_create(r);
	case NVME_ADMIN_IDENTIFY:
		return identify(r);
	case NVME_ADMIN_ABORT:
		return abort_command(r);
	case NVME_ADMIN_SET_FEATURES:
		return features_set(r);
	case NVME_ADMIN_GET_FEATURES:
		return features_get(r);
	case NVME_ADMIN_ASYNC_EVENT:
		return event_wait(r);
	case NVME_ADMIN_KEEP_ALIVE:
		return keep_alive(r);
	case NVME_ADMIN_DBBUF:
		return dbbuf_config(r);
	case NVME_ADMIN_FORMAT:
		return format_start(r);
	default:
		return ERR(NVME_SC_INVALID_OPCODE);
	}
}

/* Which commands there are in capsules: no queues are made by command (Base 3.3.2.2). */
static uint16_t capsule_check(const struct nvme_req *r)
{
	switch (r->cmd.opc) {
	case NVME_ADMIN_GET_LOG:
	case NVME_ADMIN_IDENTIFY:
	case NVME_ADMIN_SET_FEATURES:
	case NVME_ADMIN_GET_FEATURES:
	case NVME_ADMIN_ASYNC_EVENT:
	case NVME_ADMIN_KEEP_ALIVE:
		return 0;
	case NVME_ADMIN_ABORT:
	case NVME_ADMIN_FORMAT:
		return r->c->opts.discovery ? ERR(NVME_SC_INVALID_OPCODE) : 0;
	default:
		return ERR(NVME_SC_INVALID_OPCODE);
	}
}

void admin_start(struct nvme_req *r)
{
	uint16_t st = 0;

	/* Neither fused nor, in host memory, with SGLs (Base 3.3.3.1, PSDT). */
	if (r->cmd.flags & (NVME_CMD_FUSE_MASK | (r->capsule ? 0 : NVME_CMD_PSDT_MASK)))
		st = ERR(NVME_SC_INVALID_FIELD);
	else if (r->capsule)
		st = capsule_check(r);
	if (!st)
		st = run(r);
	if (st != PENDING)
		req_complete(r, st);
}
