/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim_cut - power off, power on, and what the store must be then.
 *
 * Of each lane's pending ops a prefix happened. Which one is asked from the replay records where
 * the lane uses tokens, and found by comparing the objects that they touch with each candidate
 * where it does not; an op that leaves no trace may leave two candidates: then "lost" and
 * "survived" are said only of what is certain.
 */
#include <stdio.h>

#include "names_model.h"

/* --- one lane's objects against one candidate --- */

/* Devices that fail some reads fail ours too: then it is asked again. */
static int diff_object(struct sim *sim, const struct model *m, uint32_t cont, uint64_t view,
                       struct pst_oid oid, struct pst_err *err)
{
	int r, tries = 0;

	do
		r = model_diff_object(m, sim->store, cont, view, oid, err);
	while (r == -EIO && sim->profile.read_faults && ++tries < 100);
	return r;
}

/* Do the objects that @lane's ops from @first on touch look on the store, in @view, as in @m? */
static int diff_touched(struct sim *sim, struct sim_op *const *ops, unsigned count,
                        const struct model *m, uint64_t view, struct pst_err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < count; i++) {
		const struct pst_op *op = &ops[i]->gen->op;

		if (op->opcode == PST_OP_WRITE)
			r = diff_object(sim, m, op->cont, view, op->oid, err);
		for (uint32_t j = 0; !r && j < op->mut_count; j++)
			r = diff_object(sim, m, op->cont, view, op->muts[j].oid, err);
	}
	if (r && r != -EUCLEAN && !(sim->store && sim->subject->power_lost(sim)))
		sim_fail(sim, "comparison: %s (%d)", err->text, r);
	return r;
}

void sim_look_after(struct sim *sim, struct sim_op *o)
{
	struct pst_err err;

	if (diff_touched(sim, &o, 1, sim->cur.model, 0, &err))
		sim_fail(sim, "lane %u after %s: %s", o->lane->index,
		         sim_op_text(o, (char[300]){0}), err.text);
}

/* Which prefixes of @ops, executed on @m, give what the store has? *ret_min > *ret_max: none.
 * @m ends with all of them executed. */
static void find_prefix(struct sim *sim, struct sim_op *const *ops, unsigned count, struct model *m,
                        uint64_t view, unsigned *ret_min, unsigned *ret_max,
                        char why[2][PST_ERR_TEXT_BYTES])
{
	struct state st = {.model = m};
	struct pst_err err = {0};

	*ret_min = UINT32_MAX;
	*ret_max = 0;
	why[0][0] = why[1][0] = 0;
	for (unsigned k = 0; k <= count; k++) {
		if (k)
			sim_op_apply(ops[k - 1], &st);
		if (diff_touched(sim, ops, count, m, view, &err)) {
			snprintf(why[k > 0], PST_ERR_TEXT_BYTES, "%s", err.text);
			continue;
		}
		*ret_min = MIN(*ret_min, k);
		*ret_max = k;
	}
}

/* --- what happened --- */

struct verdict {
	unsigned count, min, max; /* of the pending ops at least min and at most max happened */
	struct sim_op *ops[256];
};

static void collect(struct lane *lane, struct verdict *v)
{
	struct sim_op *o;

	v->count = 0;
	list_for_each (o, &lane->pending, pending_link) {
		pst_assert(v->count < ARRAY_LEN(v->ops));
		v->ops[v->count++] = o;
	}
}

/* 0 or 1: did the one change that is not of objects happen? */
static unsigned admin_happened(struct sim *sim, struct sim_op *o)
{
	struct pst_cont_info info;
	uint64_t view;
	int r;

	switch (o->kind) {
	case SIM_CONT_CREATE:
	case SIM_CONT_DESTROY:
		r = ops_cont_open(sim->store, o->cont_name, &o->cont_info.id);
		break;
	case SIM_CONT_SET:
		r = ops_cont_get(sim->store, o->cont, &info);
		if (!r)
			return info.quota_bytes == o->cont_info.quota_bytes;
		break;
	default:
		r = ops_snap_open(sim->store, o->cont_name, o->snap_name, &view);
		if (!r)
			o->snap_info.view = view;
		snprintf(o->snap_info.name, sizeof(o->snap_info.name), "%s", o->snap_name);
		break;
	}
	if (r && r != -ENOENT)
		sim_fail(sim, "after the cut: %s: error %d", sim_op_text(o, (char[300]){0}), r);
	if (o->kind == SIM_CONT_DESTROY || o->kind == SIM_SNAP_DESTROY)
		return r == -ENOENT;
	return !r;
}

/* How many of the lane's pending ops the replay records know of. */
static unsigned ask_replay(struct sim *sim, struct verdict *v)
{
	for (unsigned k = v->count; k; k--) {
		struct sim_op *o = v->ops[k - 1];
		struct pst_op ask = {.opcode = PST_OP_BATCH, .cont = o->cont};
		int r;

		ask.token = o->submitted->token;
		r = ops_run(sim->store, &ask);
		/* A later op of the token's slot is known: this one and all before it happened. */
		if (!r || r == -ESTALE)
			return k;
		if (r != -ENOENT)
			sim_fail(sim, "lane %u: replay record of token %llu: error %d",
			         o->lane->index, (unsigned long long)ask.token.seq, r);
	}
	return 0;
}

static void judge_objects(struct sim *sim, struct lane *lane, struct verdict *v)
{
	struct model *scratch = model_clone(sim->base.model);
	char why[2][PST_ERR_TEXT_BYTES];
	unsigned asked;

	find_prefix(sim, v->ops, v->count, scratch, 0, &v->min, &v->max, why);
	model_free(scratch);
	if (v->min > v->max)
		sim_fail(sim,
		         "lane %u: %u ops were pending and no prefix of them gives what is there. "
		         "With none: %s. With some: %s. The last: %s",
		         lane->index, v->count, why[0], why[1],
		         sim_op_text(v->ops[v->count - 1], (char[300]){0}));
	if (!lane->tokens)
		return;
	asked = ask_replay(sim, v);
	if (asked < v->min || asked > v->max) {
		/* A change that fails its conditions leaves no record and no trace. */
		if (asked > v->max || asked + 1 < v->min)
			sim_fail(sim,
			         "lane %u: the replay records say that %u of %u pending ops "
			         "happened, the objects say %u to %u",
			         lane->index, asked, v->count, v->min, v->max);
		sim_fail(sim, "lane %u: op %u of %u happened without its replay record: %s",
		         lane->index, v->min, v->count,
		         sim_op_text(v->ops[v->min - 1], (char[300]){0}));
	}
	v->min = v->max = asked;
}

static void judge_names(struct sim *sim, struct lane *lane, struct verdict *v)
{
	unsigned asked;

	names_judge(sim, lane, v->ops, v->count, &v->min, &v->max);
	if (!lane->tokens)
		return;
	asked = ask_replay(sim, v);
	if (asked < v->min || asked > v->max)
		sim_fail(
		        sim,
		        "lane %u: the replay records say that %u of %u pending names ops happened, "
		        "the names say %u to %u. The last: %s",
		        lane->index, asked, v->count, v->min, v->max,
		        sim_op_text(v->ops[v->count - 1], (char[300]){0}));
	v->min = v->max = asked;
}

static void judge(struct sim *sim, struct lane *lane, struct verdict *v)
{
	collect(lane, v);
	v->min = v->max = 0;
	if (!v->count)
		return;
	if (lane->role == LANE_NAMES)
		judge_names(sim, lane, v);
	else if (v->ops[0]->kind != SIM_OBJ)
		v->min = v->max = admin_happened(sim, v->ops[0]);
	else
		judge_objects(sim, lane, v);
	for (unsigned i = 0; i < v->count; i++) {
		v->ops[i]->survived = i < v->max;
		if (v->ops[i]->must && i >= v->max)
			sim_fail(sim, "lane %u: a durable snapshot has this op, and it is gone: %s",
			         lane->index, sim_op_text(v->ops[i], (char[300]){0}));
	}
	sim_say(sim, "lane %u: %u to %u of %u pending ops happened", lane->index, v->min, v->max,
	        v->count);
}

/* The client knows that it happened. */
static bool acked(const struct sim_op *o)
{
	return o->ended && !o->submitted->status;
}

/* What completed before a surviving op of the same container was submitted must survive. */
static void check_order(struct sim *sim, const struct verdict *v)
{
	for (unsigned a = 0; a < sim->lanes; a++) {
		for (unsigned i = v[a].max; i < v[a].count; i++) {
			const struct sim_op *lost = v[a].ops[i];

			for (unsigned b = 0; b < sim->lanes; b++) {
				for (unsigned j = 0; j < v[b].min; j++) {
					const struct sim_op *kept = v[b].ops[j];

					if (kept->cont == lost->cont && !kept->repeat &&
					    acked(lost) && lost->end_seq < kept->submit_seq)
						sim_fail(sim,
						         "lane %u's op is lost: %s; lane %u's, "
						         "submitted after it had completed, is "
						         "not: %s",
						         a, sim_op_text(lost, (char[300]){0}), b,
						         sim_op_text(kept, (char[300]){0}));
				}
			}
		}
	}
}

/* --- snapshots in the midst of changes --- */

/* The lane's change of which it has not heard; NULL: none. */
static struct sim_op *last_unheard(struct lane *lane)
{
	struct sim_op *o;

	if (!lane->sim->lights_out)
		return lane->flying && lane->flying->submitted_yet && lane->flying->mutates
		               ? lane->flying
		               : NULL;
	if (list_empty(&lane->pending))
		return NULL;
	o = list_entry(lane->pending.prev, struct sim_op, pending_link);
	return acked(o) ? NULL : o;
}

/* The lane's changes that a snapshot may contain beyond its base. */
static unsigned overlapping(struct sim *sim, struct lane *lane, const struct sim_op *snap,
                            struct sim_op **ops, unsigned max)
{
	unsigned count = 0;
	struct sim_op *o;

	list_for_each (o, &sim->recent, ended_link) {
		if (o->lane == lane && o->cont == snap->cont && o->kind == SIM_OBJ) {
			pst_assert(count < max);
			ops[count++] = o;
		}
	}
	o = last_unheard(lane);
	if (o && o->kind == SIM_OBJ && o->cont == snap->cont)
		ops[count++] = o;
	return count;
}

static void snap_contains(struct sim *sim, struct sim_op *o)
{
	if (sim->lights_out) {
		if (!list_empty(&o->pending_link) && !o->survived)
			sim_fail(sim, "a snapshot has an op that is lost: %s",
			         sim_op_text(o, (char[300]){0}));
	} else if (list_empty(&o->pending_link)) {
		return; /* durable already */
	} else if (o->lane->flying == o) {
		o->must = true;
	} else {
		sim_op_durable(sim, o);
	}
}

struct contents { /* of one lane's ops meanwhile, how many the snapshot has */
	unsigned count, min, max;
	struct sim_op *ops[256];
};

static void find_contents(struct sim *sim, unsigned lane, struct sim_op *snap, struct contents *c)
{
	char why[2][PST_ERR_TEXT_BYTES];
	struct model *scratch;

	c->min = c->max = 0;
	c->count = overlapping(sim, &sim->lane[lane], snap, c->ops, ARRAY_LEN(c->ops) - 1);
	if (!c->count)
		return;
	scratch = model_clone(snap->snap_base);
	find_prefix(sim, c->ops, c->count, scratch, snap->snap_info.view, &c->min, &c->max, why);
	model_free(scratch);
	if (c->min > c->max && !sim->subject->power_lost(sim))
		sim_fail(sim,
		         "snapshot %s: of lane %u's %u ops meanwhile it has no prefix. With none: "
		         "%s. With some: %s",
		         snap->snap_name, lane, c->count, why[0], why[1]);
}

bool snap_resolve(struct sim_op *snap)
{
	static struct contents c[SIM_LANES_MAX];
	struct sim *sim = snap->lane->sim;
	struct state st = {.model = snap->snap_base};

	for (unsigned i = 0; i < sim->lanes; i++)
		find_contents(sim, i, snap, &c[i]);
	if (sim->subject->power_lost(sim))
		return false;
	for (unsigned i = 0; i < sim->lanes; i++) {
		for (unsigned j = 0; j < c[i].min; j++) {
			sim_op_apply(c[i].ops[j], &st);
			snap_contains(sim, c[i].ops[j]);
		}
	}
	return true;
}

/* --- the cut --- */

static void lights_off(struct sim *sim)
{
	sim_say(sim, "power cut");
	sim->lights_out = true;
	names_lights_out(sim);
	sim->subject->crash(sim);
	lanes_settle(sim);
	for (unsigned i = 0; i < sim->lanes; i++) {
		struct sim_op *o = sim->lane[i].flying;

		if (!o)
			continue;
		if (o->submitted_yet)
			sim_fail(sim, "lane %u: the store is closed and an op has not ended: %s", i,
			         sim_op_text(o, (char[300]){0}));
		sim->lane[i].flying = NULL;
		sim_op_release(o);
		sim_op_unref(o);
	}
	pst_assert(!sim->flying);
}

/* Power on: recovery may be cut as well. */
static void lights_on(struct sim *sim)
{
	struct pst_err err = {0};
	int r;

	if (rng_below(&sim->rng, 2)) {
		r = sim->subject->fsck(sim, &err);
		if (r)
			sim_fail(sim, "fsck after a cut: %s", err.text);
	}
	for (unsigned tries = 0;; tries++) {
		r = sim->subject->open(sim, &err);
		if (!r && !sim->subject->power_lost(sim))
			break;
		if (!sim->subject->power_lost(sim) || tries > 20)
			sim_fail(sim, "open after a cut: %s (%d)", err.text, r);
		sim_say(sim, "power cut while it recovered: %s", r ? err.text : "opened");
		sim->recovery_cut = true;
		sim->subject->crash(sim);
	}
	sim->recovery_cut = false;
	sim->subject->calm(sim);
}

static void take_verdict(struct sim *sim, struct lane *lane, struct verdict *v)
{
	for (unsigned i = 0; i < v->count; i++) {
		struct sim_op *o = v->ops[i];

		if (o->kind == SIM_SNAP_CREATE && o->survived && o->snap_base)
			snap_resolve(o);
		if (o->survived) {
			sim_op_apply(o, &sim->base);
			sim_op_took_effect(o);
		}
		sim_op_release(o);
	}
}

/* For a person who looks for the cause: every object that differs. */
static void say_differences(struct sim *sim)
{
	struct pst_err err;

	for (unsigned i = 0; sim->verbose && i < sim->lanes; i++) {
		struct lane *lane = &sim->lane[i];

		for (unsigned j = 0; lane->role == LANE_OBJECTS && j < SIM_OIDS; j++) {
			if (model_diff_object(sim->cur.model, sim->store,
			                      sim->cont[lane->cont_index].id, 0, lane->oids[j],
			                      &err))
				sim_say(sim, "lane %u: %s", i, err.text);
		}
	}
}

void sim_compare(struct sim *sim)
{
	struct pst_err err = {0};
	int r;

	model_diff_ignore = "fs";
	r = model_diff(sim->cur.model, sim->store, &err);
	if (!r && sim->profile.names)
		r = names_diff(sim, sim->cur.names, &err);
	if (r)
		say_differences(sim);
	if (r)
		sim_fail(sim, "the store is not what it should be: %s (%d)", err.text, r);
}

/* Nothing is pending any more. What a client did not hear of it sends again, under its token. */
static void pending_end(struct lane *lane, struct verdict *v)
{
	if (v->count && lane->tokens && !acked(v->ops[v->count - 1]))
		sim_op_resend(lane, v->ops[v->count - 1]);
	while (v->count)
		pending_drop(v->ops[--v->count]);
}

void sim_power_cut(struct sim *sim)
{
	static struct verdict v[SIM_LANES_MAX];

	lights_off(sim);
	lights_on(sim);
	for (unsigned i = 0; i < sim->lanes; i++)
		judge(sim, &sim->lane[i], &v[i]);
	check_order(sim, v);
	/* Snapshots last: one that was taken in quiet holds what is there then. */
	for (unsigned i = 0; i < sim->lanes; i++) {
		if (sim->lane[i].role != LANE_ADMIN)
			take_verdict(sim, &sim->lane[i], &v[i]);
	}
	for (unsigned i = 0; i < sim->lanes; i++) {
		if (sim->lane[i].role == LANE_ADMIN)
			take_verdict(sim, &sim->lane[i], &v[i]);
	}
	for (unsigned i = 0; i < sim->lanes; i++)
		pending_end(&sim->lane[i], &v[i]);
	if (sim->profile.names)
		names_crash(sim->base.names);
	state_free(&sim->cur);
	state_clone(&sim->cur, &sim->base);
	conts_watch(sim);
	sim_compare(sim);
	sim->lights_out = false;
	sim->cuts_done++;
	sim_trace(sim, 0xc07);
}
