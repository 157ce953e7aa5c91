/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate of a namespace: what must be alone there (a compare-and-write, a format) waits until all
 * that changes the namespace has ended, and holds up what comes after it. First come, first let in;
 * what only reads passes, and a format, which even readers must not meet, has the namespace refuse
 * new commands before it comes here.
 */
#include "nvme/ctrlr_int.h"

static bool may_pass(const struct nvme_ns *ns, const struct nvme_req *r)
{
	if (ns->holder)
		return false;
	return !r->holds || !(r->holds_all ? ns->users : ns->mutators);
}

static void pass(struct nvme_ns *ns, struct nvme_req *r)
{
	req_move(r, REQ_WORKING);
	r->ns = ns;
	if (r->holds) {
		ns->holder = r;
	} else {
		ns->users++;
		ns->mutators++;
		r->mutates = true;
	}
	r->gate_run(r);
}

/* gate_run() may end its command at once and come back here: only the outermost call goes on, so
 * that the stack does not grow with the number of those who wait. */
static void gate_open(struct nvme_ns *ns)
{
	if (ns->opening)
		return;
	ns->opening = true;
	while (!list_empty(&ns->gate)) {
		struct nvme_req *r = list_first(&ns->gate, struct nvme_req, link);

		if (!may_pass(ns, r))
			break;
		list_del(&r->link);
		pass(ns, r);
	}
	ns->opening = false;
}

static void come(struct nvme_req *r, struct nvme_ns *ns, void (*run)(struct nvme_req *r))
{
	r->gate_run = run;
	if (likely(list_empty(&ns->gate) && may_pass(ns, r))) {
		pass(ns, r);
		return;
	}
	req_move(r, REQ_AT_GATE);
	list_push(&ns->gate, &r->link);
}

void gate_enter(struct nvme_req *r, struct nvme_ns *ns, void (*run)(struct nvme_req *r))
{
	come(r, ns, run);
}

void gate_hold(struct nvme_req *r, struct nvme_ns *ns, bool all, void (*run)(struct nvme_req *r))
{
	r->holds = true;
	r->holds_all = all;
	come(r, ns, run);
}

void gate_leave(struct nvme_req *r)
{
	struct nvme_ns *ns = r->ns;

	r->ns = NULL;
	if (ns->holder == r) {
		ns->holder = NULL;
		r->holds = r->holds_all = false;
	} else {
		ns->users--;
		ns->mutators -= r->mutates;
		r->mutates = false;
	}
	if (unlikely(!list_empty(&ns->gate)))
		gate_open(ns);
}
