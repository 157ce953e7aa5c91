/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * narrow - answers without what is not their client's to know: who has a directory needs its container's name
 * and layout to work in it, and hears nothing of what else is there; who does not manage the server does
 * not hear of its devices.
 */
#include "session/session_int.h"

bool session_sees_whole(const struct session *s, uint32_t cont)
{
	for (uint32_t i = 0; i < s->ident.cap_count; i++) {
		const struct cap *c = s->cap[i].cap;

		if (c && !c->info.root_ino && (!c->info.cont || c->info.cont == cont) &&
		    !cap_good(c, loop_real_now(s->table->loop)))
			return true;
	}
	return false;
}

static void narrow_cont(struct pst_cont_info *i)
{
	i->quota_bytes = i->quota_objects = i->used_bytes = i->used_objects = i->logical_bytes =
	        i->snapshots = 0;
}

static void narrow_store(struct pst_store_status *st)
{
	st->devices = 0;
	memset(st->device, 0, sizeof(st->device));
}

void narrow_entry(const struct session *s, struct pst_cont_info *i)
{
	if (!session_sees_whole(s, i->id))
		narrow_cont(i);
}

bool narrow_wants(const struct session *s, const struct session_req *r)
{
	switch (r->op.opcode) {
	case PST_OP_CONT_OPEN:
	case PST_OP_CONT_GET:
	case PST_OP_SNAP_OPEN:
		return r->cap->info.root_ino;
	case PST_OP_STATFS:
		return r->cap->info.root_ino || !session_is_admin(s);
	case PST_OP_STATUS:
		return !session_is_admin(s);
	}
	return false;
}

/* Before its owner sees the answer. */
static void narrowed(struct pst_op *op)
{
	struct session_req *r = container_of(op, struct session_req, op);
	const struct session *s = r->session;
	bool whole = !r->cap->info.root_ino || session_sees_whole(s, op->cont);

	if (!whole && op->cont_info)
		narrow_cont(op->cont_info);
	if (!whole && op->snap_info)
		op->snap_info->used_bytes = op->snap_info->used_objects = 0;
	if (op->status_out && !session_is_admin(s))
		narrow_store(op->status_out);
	op->done = r->done;
	op->done(op);
}

void narrow_begin(struct session_req *r)
{
	r->done = r->op.done;
	r->op.done = narrowed;
}
