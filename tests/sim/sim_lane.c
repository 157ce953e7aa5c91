/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim_lane - the virtual clients: what they send, and what becomes of the answers.
 *
 * The life of an op: made (lane->flying), submitted (perhaps after PST_BUSY; a change joins
 * lane->pending), ended (done() or PST_DONE puts it on sim->ended, and nothing else), settled
 * (lanes_settle: checked against `cur`, taken into it; a durable one into `base` too, with all that
 * ended in its container before it was submitted). done() does nothing else because the comparison
 * code turns the loop while lanes are at work.
 */
#include <stdio.h>

#include "names_model.h"

/* --- state --- */

void state_clone(struct state *ret, const struct state *st)
{
	ret->model = model_clone(st->model);
	ret->names = st->names ? names_clone(st->names) : NULL;
}

void state_free(struct state *st)
{
	model_free(st->model);
	names_free(st->names);
	*st = (struct state){0};
}

/* --- ops --- */

struct sim_op *sim_op_new(struct lane *lane, enum sim_kind kind)
{
	struct sim_op *o = calloc(1, sizeof(*o));

	pst_assert(o);
	o->refs = 1;
	o->kind = kind;
	o->lane = lane;
	o->submitted = &o->op;
	o->mutates = kind != SIM_FLUSH;
	list_init(&o->pending_link);
	list_init(&o->ended_link);
	return o;
}

void sim_op_unref(struct sim_op *o)
{
	if (!o || --o->refs)
		return;
	pst_assert(list_empty(&o->pending_link) && list_empty(&o->ended_link));
	gen_op_free(o->gen);
	name_op_free(o->name_op);
	model_free(o->snap_base);
	free(o);
}

void pending_drop(struct sim_op *o)
{
	if (list_empty(&o->pending_link))
		return;
	list_del(&o->pending_link);
	o->lane->pending_count--;
	sim_op_unref(o);
}

const char *sim_op_text(const struct sim_op *o, char buf[300])
{
	static const char *const names[] = {
	        "?",        "FLUSH",       "CONT_CREATE", "CONT_DESTROY",
	        "CONT_SET", "SNAP_CREATE", "SNAP_DESTROY"};

	if (o->kind == SIM_OBJ)
		gen_op_text(o->gen, buf, 300);
	else if (o->kind == SIM_NAME)
		name_op_text(o->name_op, buf, 300);
	else
		snprintf(buf, 300, "%s %s %s", names[o->kind], o->cont_name, o->snap_name);
	return buf;
}

/* Executes an op that is not a gen_op or name_op on @m; the model takes ids from the answer. */
static int apply_plain(struct sim_op *o, struct model *m)
{
	struct pst_op op = o->op;
	struct pst_cont_info ci = o->cont_info;
	struct pst_snap_info si = o->snap_info;

	if (o->snap_base) {
		model_snap_insert(m, o->cont, &o->snap_info, o->snap_base);
		return 0;
	}
	op.cont_info = &ci;
	op.snap_info = &si;
	op.entry = NULL;
	model_apply(m, &op, 0);
	return op.status;
}

void sim_op_apply(struct sim_op *o, struct state *st)
{
	struct pst_err err;

	if (o->kind == SIM_OBJ)
		gen_op_check(o->gen, st->model, 0, &err); /* the answer was looked at before */
	else if (o->kind == SIM_NAME)
		name_op_check(o->name_op, st->names, &err);
	else
		apply_plain(o, st->model);
}

/* --- durability --- */

void sim_op_durable(struct sim *sim, struct sim_op *o)
{
	sim_op_apply(o, &sim->base);
	pending_drop(o);
}

void pending_durable(struct sim *sim, uint32_t cont, uint64_t before)
{
	for (unsigned i = 0; i < sim->lanes; i++) {
		struct sim_op *o, *tmp;

		list_for_each_safe (o, tmp, &sim->lane[i].pending, pending_link) {
			/* A snapshot with a base left waits for the power to say what it holds. */
			if (o->ended && o->end_seq < before && (!cont || o->cont == cont) &&
			    !o->snap_base)
				sim_op_durable(sim, o);
		}
	}
}

void all_durable(struct sim *sim)
{
	pending_durable(sim, 0, UINT64_MAX);
}

/* --- submission --- */

static void on_done(struct pst_op *op)
{
	struct sim_op *o = op->user;
	struct sim *sim = o->lane->sim;

	if (o->ended)
		sim_fail(sim, "lane %u: an op ended twice", o->lane->index);
	o->ended = true;
	sim->flying_unheard--;
	o->end_seq = ++sim->clock;
	list_push(&sim->ended, &o->ended_link);
}

static bool cont_quiet(struct sim *sim, uint32_t cont)
{
	for (unsigned i = 0; i < sim->lanes; i++) {
		struct sim_op *o = sim->lane[i].flying;

		if (o && o->submitted_yet && o->cont == cont)
			return false;
	}
	return true;
}

static struct shared_cont *shared_of(struct sim *sim, uint32_t cont)
{
	for (unsigned i = 0; i < sim->profile.conts; i++) {
		if (sim->cont[i].id == cont)
			return &sim->cont[i];
	}
	return NULL;
}

/* False: it has to wait for others. */
static bool may_submit(struct lane *lane, struct sim_op *o)
{
	struct sim *sim = lane->sim;
	struct shared_cont *sc = shared_of(sim, o->cont);

	if (!sc)
		return true;
	if (o->kind != SIM_SNAP_CREATE)
		return !sc->frozen;
	if (sc->frozen)
		return cont_quiet(sim, o->cont);
	o->snap_base = model_clone(sim->cur.model); /* taken in the midst of changes */
	return true;
}

static void submit(struct lane *lane)
{
	struct sim_op *o = lane->flying;
	struct sim *sim = lane->sim;
	struct shared_cont *sc = shared_of(sim, o->cont);
	enum pst_outcome out;
	char text[300];

	if (o->submitted_yet || !may_submit(lane, o))
		return;
	o->submitted->user = o;
	o->submitted->done = on_done;
	o->submit_seq = ++sim->clock;
	out = store_submit(sim->store, o->submitted);
	if (out == PST_BUSY) {
		model_free(o->snap_base);
		o->snap_base = NULL;
		return;
	}
	sim_say(sim, "lane %u: %s (token %llu)", lane->index, sim_op_text(o, text),
	        (unsigned long long)o->submitted->token.seq);
	o->submitted_yet = true;
	sim->flying++;
	sim->flying_unheard++;
	if (o->kind == SIM_SNAP_CREATE && sc)
		sc->taking = o;
	if (o->mutates) {
		o->refs++;
		list_push(&lane->pending, &o->pending_link);
		lane->pending_count++;
	}
	if (out == PST_DONE)
		on_done(o->submitted);
}

/* --- work for object lanes --- */

static struct sim_op *object_op(struct lane *lane, uint32_t cont, bool volatile_ok)
{
	struct sim *sim = lane->sim;
	struct shared_cont *sc = shared_of(sim, cont);
	struct sim_op *o = sim_op_new(lane, SIM_OBJ);
	uint64_t views[SIM_VIEWS_MAX];
	struct gen_scope scope = {.cont = cont,
	                          .oids = lane->oids,
	                          .oid_count = SIM_OIDS,
	                          .span_bytes = sim->profile.span_bytes,
	                          .io_max_bytes = sim->profile.io_max_bytes,
	                          .value_max = 9000,
	                          .volatile_ok = volatile_ok,
	                          .views = views,
	                          .read_percent = 25,
	                          .delete_weight = 1};

	for (unsigned i = 0; sc && i < SIM_VIEWS_MAX; i++) {
		if (sc->snap[i].view && !sc->snap[i].dying)
			views[scope.view_count++] = sc->snap[i].view;
	}
	o->gen = gen_op_new(&lane->rng, &scope);
	o->submitted = &o->gen->op;
	o->cont = cont;
	o->mutates = gen_op_mutates(o->gen);
	o->is_volatile = o->gen->op.flags & PST_F_VOLATILE;
	if (o->mutates && lane->tokens)
		o->gen->op.token =
		        (struct pst_token){.session = lane->index + 1, .seq = ++lane->seq};
	return o;
}

static struct sim_op *objects_next(struct lane *lane)
{
	uint32_t cont = lane->sim->cont[lane->cont_index].id;
	struct sim_op *o;

	if (rng_below(&lane->rng, 14))
		return object_op(lane, cont, !sim_without(lane->sim, "volatile"));
	o = sim_op_new(lane, SIM_FLUSH);
	o->op.opcode = PST_OP_FLUSH;
	o->flushes = true;
	o->cont = o->op.cont = rng_below(&lane->rng, 3) ? cont : 0;
	return o;
}

/* --- work for admin lanes: containers of their own, snapshots of the shared ones --- */

static struct sim_op *cont_op(struct lane *lane, enum sim_kind kind, uint8_t opcode)
{
	struct sim_op *o = sim_op_new(lane, kind);

	o->op.opcode = opcode;
	snprintf(o->cont_name, sizeof(o->cont_name), "%s", lane->own_name);
	o->op.name = o->cont_name;
	o->op.name_len = (uint32_t)strlen(o->cont_name);
	o->op.cont_info = &o->cont_info;
	o->op.snap_info = &o->snap_info;
	o->cont = lane->own;
	return o;
}

static struct sim_op *own_create(struct lane *lane)
{
	snprintf(lane->own_name, sizeof(lane->own_name), "own%u.%u", lane->index,
	         lane->own_serial++ % 3);
	return cont_op(lane, SIM_CONT_CREATE, PST_OP_CONT_CREATE);
}

static void name_snap(struct sim_op *o, const char *cont, const char *snap)
{
	snprintf(o->cont_name, sizeof(o->cont_name), "%s", cont);
	snprintf(o->snap_name, sizeof(o->snap_name), "%s", snap);
	o->op.name = o->cont_name;
	o->op.name_len = (uint32_t)strlen(o->cont_name);
	o->op.name2 = o->snap_name;
	o->op.name2_len = (uint32_t)strlen(o->snap_name);
	o->op.snap_info = &o->snap_info;
}

static struct sim_op *shared_snap(struct lane *lane)
{
	struct sim *sim = lane->sim;
	struct shared_cont *sc = &sim->cont[rng_below(&lane->rng, sim->profile.conts)];
	unsigned slot = (unsigned)rng_below(&lane->rng, SIM_VIEWS_MAX);
	struct sim_op *o;
	char name[16];

	if (sc->frozen || sc->taking || sc->snap[slot].dying)
		return NULL;
	if (sc->snap[slot].view) {
		o = sim_op_new(lane, SIM_SNAP_DESTROY);
		o->op.opcode = PST_OP_SNAP_DESTROY;
		name_snap(o, sc->name, sc->snap[slot].name);
		sc->snap[slot].dying = true;
	} else {
		o = sim_op_new(lane, SIM_SNAP_CREATE);
		o->op.opcode = PST_OP_SNAP_CREATE;
		snprintf(name, sizeof(name), "s%u", sc->snap_serial++);
		name_snap(o, sc->name, name);
		sc->frozen = rng_below(&lane->rng, 2) || sim_without(lane->sim, "midst");
		if (!sc->frozen)
			sc->taking = o; /* one at a time */
	}
	o->cont = sc->id;
	return o;
}

static struct sim_op *admin_next(struct lane *lane)
{
	struct sim_op *o;

	if (!lane->own)
		return own_create(lane);
	switch (rng_below(&lane->rng, 8)) {
	case 0:
		return cont_op(lane, SIM_CONT_DESTROY, PST_OP_CONT_DESTROY);
	case 1:
		o = cont_op(lane, SIM_CONT_SET, PST_OP_CONT_SET);
		o->op.attr_mask = PST_SET_QUOTA_BYTES;
		o->cont_info.quota_bytes = (64 + rng_below(&lane->rng, 100)) * MIB;
		return o;
	case 2:
	case 3:
		return sim_without(lane->sim, "snapshots") ? NULL : shared_snap(lane);
	default:
		return object_op(lane, lane->own, false);
	}
}

static struct sim_op *next_op(struct lane *lane)
{
	switch (lane->role) {
	case LANE_OBJECTS:
		return objects_next(lane);
	case LANE_ADMIN:
		return admin_next(lane);
	default:
		return names_next(lane);
	}
}

void lanes_push(struct sim *sim)
{
	for (unsigned i = 0; i < sim->lanes; i++) {
		if (sim->lane[i].flying)
			submit(&sim->lane[i]);
	}
}

void lanes_issue(struct sim *sim)
{
	unsigned first = (unsigned)rng_below(&sim->rng, sim->lanes);

	for (unsigned i = 0; i < sim->lanes; i++) {
		struct lane *lane = &sim->lane[(first + i) % sim->lanes];

		if (!lane->flying && rng_below(&sim->rng, 2)) {
			lane->flying = lane->resend ? lane->resend : next_op(lane);
			lane->resend = NULL;
		}
		if (lane->flying)
			submit(lane);
	}
}

void sim_op_resend(struct lane *lane, struct sim_op *o)
{
	o->refs++;
	o->ended = o->submitted_yet = false;
	o->repeat = o->repeat || o->survived;
	o->must = o->survived = false;
	o->resent = true;
	if (o->gen)
		gen_op_rewind(o->gen);
	if (o->name_op)
		name_op_rewind(o->name_op);
	lane->resend = o;
}

unsigned sim_stuck_lane(struct sim *sim)
{
	for (unsigned i = 0; i < sim->lanes; i++) {
		if (sim->lane[i].flying && sim->lane[i].flying->submitted_yet)
			return i;
	}
	return 0;
}

const char *sim_stuck_text(struct sim *sim)
{
	static char text[300];
	struct sim_op *o = sim->lane[sim_stuck_lane(sim)].flying;

	return o ? sim_op_text(o, text) : "nothing";
}

/* --- answers --- */

/* Could this op, with all that is in flight, have passed the quota? */
static bool quota_near(struct sim *sim, const struct shared_cont *sc, const struct sim_op *o)
{
	uint64_t bytes = sc->used_high + (o->gen ? gen_op_bytes_max(o->gen) : 0);
	uint64_t objects = sc->objects_high + SIM_OIDS;

	for (unsigned i = 0; i < sim->lanes; i++) {
		const struct sim_op *f = sim->lane[i].flying;

		if (f && f->cont == sc->id && f->kind == SIM_OBJ) {
			bytes += gen_op_bytes_max(f->gen);
			objects += SIM_OIDS;
		}
	}
	return (sc->quota_bytes && bytes > sc->quota_bytes) ||
	       (sc->quota_objects && objects > sc->quota_objects);
}

/* May the store be full? Snapshots count as if they shared nothing: an upper bound. */
static bool space_tight(const struct sim *sim)
{
	return model_used_bytes(sim->cur.model) > sim->profile.devs * sim->profile.dev_bytes / 5;
}

/* The store may say so when ops of others or the device stand in the way. */
static bool excused(struct sim *sim, struct sim_op *o, int status)
{
	const struct shared_cont *sc = shared_of(sim, o->cont);

	switch (status) {
	case -ENOSPC:
		return space_tight(sim) && !(o->kind == SIM_OBJ && gen_op_frees_only(o->gen));
	case -EDQUOT:
		return sc && (sc->quota_bytes || sc->quota_objects) && quota_near(sim, sc, o);
	case -E2BIG: /* more journaled blocks than a frame of so small a log takes */
		return !sim->profile.journal_bytes;
	case -EIO:
		return sim->profile.read_faults;
	default:
		return false;
	}
}

static bool unknown_outcome(int status)
{
	return status == -EREMOTEIO || status == -ESHUTDOWN || status == -EIO ||
	       status == -ECANCELED || status == -ENODEV;
}

/* The snapshot that it reads goes or is gone: any answer will do. */
static bool reads_dying(struct sim *sim, const struct sim_op *o)
{
	const struct shared_cont *sc = shared_of(sim, o->cont);

	for (unsigned i = 0; sc && i < SIM_VIEWS_MAX; i++) {
		if (sc->snap[i].view == o->gen->op.view)
			return sc->snap[i].dying;
	}
	return true;
}

static void check_answer(struct sim *sim, struct sim_op *o)
{
	struct pst_err err;
	int r = 0, want;

	switch (o->kind) {
	case SIM_OBJ:
		if (!o->gen->op.view || !reads_dying(sim, o))
			r = gen_op_check(o->gen, sim->cur.model, 0, &err);
		break;
	case SIM_NAME:
		/* Answered from the record, though the file that it changed is gone: it had been unlinked
		 * while it was open, and the crash closed it. */
		if (o->resent && !o->name_op->op.status &&
		    (o->name_op->op.opcode == PST_OP_FILE_WRITE ||
		     o->name_op->op.opcode == PST_OP_SETATTR) &&
		    o->name_op->op.ino && !names_by_ino(sim->cur.names, o->name_op->op.ino))
			break;
		o->name_op->blind = sim->lights_out || sim->profile.read_faults;
		r = name_op_check(o->name_op, sim->cur.names, &err);
		break;
	case SIM_FLUSH:
		want = 0;
		goto status;
	default:
		want = o->op.status && o->snap_base ? 0 : apply_plain(o, sim->cur.model);
	status:
		if (want != o->op.status)
			r = err_set(&err, -EUCLEAN, "%s: %d, should be %d",
			            sim_op_text(o, (char[300]){0}), o->op.status, want);
		break;
	}
	if (r)
		sim_fail(sim, "lane %u, answer: %s", o->lane->index, err.text);
}

void sim_op_took_effect(struct sim_op *o)
{
	struct lane *lane = o->lane;
	struct shared_cont *sc = shared_of(lane->sim, o->cont);

	switch (o->kind) {
	case SIM_CONT_CREATE:
		lane->own = o->cont_info.id;
		break;
	case SIM_CONT_DESTROY:
		lane->own = 0;
		break;
	case SIM_SNAP_CREATE:
		for (unsigned i = 0; i < SIM_VIEWS_MAX; i++) {
			if (sc->snap[i].view)
				continue;
			sc->snap[i].view = o->snap_info.view;
			snprintf(sc->snap[i].name, sizeof(sc->snap[i].name), "%s", o->snap_name);
			break;
		}
		break;
	case SIM_SNAP_DESTROY:
		for (unsigned i = 0; i < SIM_VIEWS_MAX; i++) {
			if (!strcmp(sc->snap[i].name, o->snap_name))
				memset(&sc->snap[i], 0, sizeof(sc->snap[i]));
		}
		break;
	default:
		break;
	}
}

void sim_op_release(struct sim_op *o)
{
	struct sim *sim = o->lane->sim;
	struct shared_cont *sc = shared_of(sim, o->cont);

	if (sc && o->kind == SIM_SNAP_CREATE) {
		struct sim_op *r, *tmp;

		sc->frozen = false;
		sc->taking = NULL;
		list_for_each_safe (r, tmp, &sim->recent, ended_link) {
			if (r->cont != o->cont)
				continue;
			list_del(&r->ended_link);
			sim_op_unref(r);
		}
	}
	for (unsigned i = 0; sc && o->kind == SIM_SNAP_DESTROY && i < SIM_VIEWS_MAX; i++) {
		if (!strcmp(sc->snap[i].name, o->snap_name))
			sc->snap[i].dying = false;
	}
}

/* Remembers the most that each container was seen to use. */
void conts_watch(struct sim *sim)
{
	for (unsigned i = 0; i < sim->profile.conts; i++) {
		struct shared_cont *sc = &sim->cont[i];
		uint64_t bytes, objects;

		model_cont_used(sim->cur.model, sc->id, &bytes, &objects);
		sc->used_high = MAX(sc->used_high, bytes);
		sc->objects_high = MAX(sc->objects_high, objects);
	}
}

/* A change has ended well and is in `cur`. */
static void took(struct sim *sim, struct sim_op *o)
{
	struct shared_cont *sc = shared_of(sim, o->cont);

	sim_op_took_effect(o);
	if (!sc)
		return;
	conts_watch(sim);
	if (sc->taking && sc->taking != o && sc->taking->submitted_yet) {
		o->refs++;
		list_push(&sim->recent, &o->ended_link);
	}
}

/* False: nobody knows yet what became of it. */
static bool settle_one(struct sim *sim, struct sim_op *o)
{
	int status = o->submitted->status;

	if (sim->lights_out && status && unknown_outcome(status))
		return !o->mutates;
	sim->ops_done++;
	sim_trace(sim, (uint64_t)o->kind << 32 | o->lane->index << 16 | (uint16_t)status);
	sim_trace(sim, o->gen ? gen_op_hash(o->gen) : 0);
	if (status && excused(sim, o, status)) {
		pending_drop(o);
		return true;
	}
	if (!status && o->flushes)
		pending_durable(sim, o->submitted->cont, o->submit_seq);
	/* A rename onto another name of the same file does nothing, and so proves nothing. */
	if (!status && o->mutates && !o->is_volatile && o->cont &&
	    o->submitted->opcode != PST_OP_RENAME)
		pending_durable(sim, o->cont, o->submit_seq);
	if (!status && o->snap_base && (sim->lights_out || !snap_resolve(o))) {
		o->must = true; /* it is there; what it holds is asked when the power is back */
		return false;
	}
	check_answer(sim, o);
	if (sim->paranoid && o->kind == SIM_OBJ && o->mutates && !sim->lights_out)
		sim_look_after(sim, o);
	if (!status && o->mutates)
		took(sim, o);
	if (!status && o->mutates && !o->is_volatile)
		sim_op_durable(sim, o);
	if (status)
		pending_drop(o);
	return true;
}

void lanes_settle(struct sim *sim)
{
	struct list *n;

	while ((n = list_pop(&sim->ended))) {
		struct sim_op *o = list_entry(n, struct sim_op, ended_link);

		sim_say(sim, "lane %u: ended %d: %s", o->lane->index, o->submitted->status,
		        sim_op_text(o, (char[300]){0}));
		sim->lights_out = sim->lights_out || sim->subject->power_lost(sim);
		o->lane->flying = NULL;
		sim->flying--;
		sim->turns_idle = 0;
		if (settle_one(sim, o))
			sim_op_release(o);
		sim_op_unref(o);
	}
}

/* --- all --- */

void lanes_init(struct sim *sim)
{
	sim->lanes = sim->profile.lanes;
	for (unsigned i = 0; i < sim->lanes; i++) {
		struct lane *lane = &sim->lane[i];

		lane->sim = sim;
		lane->index = i;
		list_init(&lane->pending);
		rng_seed(&lane->rng, rng_next(&sim->rng));
		lane->tokens = rng_below(&sim->rng, 2);
		lane->cont_index = (unsigned)rng_below(&sim->rng, sim->profile.conts);
		if (i == 0)
			lane->role = LANE_ADMIN;
		else if (sim->profile.names && i % 3 == 0)
			lane->role = LANE_NAMES;
		if (lane->role == LANE_ADMIN)
			lane->tokens = false; /* its containers live on several shards */
		for (unsigned j = 0; j < SIM_OIDS; j++)
			lane->oids[j] = (struct pst_oid){.hi = j, .lo = i + 1};
	}
	if (sim->profile.names)
		names_init(sim);
}

void lanes_done(struct sim *sim)
{
	struct list *n;

	while ((n = list_pop(&sim->recent)))
		sim_op_unref(list_entry(n, struct sim_op, ended_link));
	for (unsigned i = 0; i < sim->lanes; i++) {
		struct lane *lane = &sim->lane[i];
		struct sim_op *o, *tmp;

		list_for_each_safe (o, tmp, &lane->pending, pending_link)
			pending_drop(o);
		sim_op_unref(lane->flying);
		sim_op_unref(lane->resend);
	}
	if (sim->profile.names)
		names_done(sim);
}
