/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim - one seed, from format to the last comparison: phases of ops, each ended by a power cut.
 */
#include <stdarg.h>
#include <stdio.h>

#include "sim_int.h"

#define TURNS_WITHOUT_AN_END 400000

_Noreturn void sim_fail(struct sim *sim, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "seed %llu, op %u, cut %u: ", (unsigned long long)sim->seed, sim->ops_done,
	        sim->cuts_done);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	sim_print_replay(sim);
	exit(1);
}

void sim_say(struct sim *sim, const char *fmt, ...)
{
	va_list ap;

	if (!sim->verbose)
		return;
	printf("[%u %llu] ", sim->cuts_done, (unsigned long long)sim->clock);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

void sim_trace(struct sim *sim, uint64_t x)
{
	sim->trace = hash_u64(sim->trace ^ x) + 1;
}

static bool chance(struct sim *sim, unsigned percent)
{
	return rng_below(&sim->rng, 100) < percent;
}

bool sim_without(const struct sim *sim, const char *feature)
{
	return sim->without && strstr(sim->without, feature);
}

/* What this seed is about. Rare things are common here. */
static void profile_choose(struct sim *sim)
{
	struct sim_profile *p = &sim->profile;

	p->devs = 1 + (unsigned)rng_below(&sim->rng, SIM_DEVS_MAX);
	p->dev_bytes = (16 + 8 * rng_below(&sim->rng, 5)) * MIB;
	p->shards = 1u << rng_below(&sim->rng, 3);
	p->journal_bytes = chance(sim, 50) ? 0 : p->shards * (4 + rng_below(&sim->rng, 3)) * MIB;
	p->lanes = 4 + (unsigned)rng_below(&sim->rng, SIM_LANES_MAX - 4);
	p->conts = 1 + (unsigned)rng_below(&sim->rng, 3);
	p->io_max_bytes = chance(sim, 30) ? 300000 : 70000;
	p->span_bytes = chance(sim, 30) ? MIB : 200000;
	p->names = sim->subject->names && chance(sim, 50);
	p->full = chance(sim, 12);
	p->quota = chance(sim, 15);
	p->read_faults = chance(sim, 15);
	p->mirror_damage = p->devs > 1 && chance(sim, 25);
	p->delays = chance(sim, 50);
	p->torn = chance(sim, 50);
	if (p->full) {
		p->io_max_bytes = 400000;
		p->span_bytes = 4 * MIB;
		p->devs = 1;
		p->dev_bytes = 12 * MIB;
		p->mirror_damage = false;
	}
	p->dev_bytes += p->journal_bytes;
	if (!strcmp(sim->subject->name, "model"))
		p->read_faults = p->mirror_damage = false;
	p->names = p->names && !sim_without(sim, "names");
	p->full = p->full && !sim_without(sim, "full");
	p->quota = p->quota && !sim_without(sim, "quota");
	p->read_faults = p->read_faults && !sim_without(sim, "faults");
	p->mirror_damage = p->mirror_damage && !sim_without(sim, "damage");
	p->delays = p->delays && !sim_without(sim, "delays");
	p->torn = p->torn && !sim_without(sim, "torn");
	p->devs = sim_without(sim, "devices") ? 1 : p->devs;
	sim_say(sim,
	        "%u devices of %llu, %u shards, journal %llu, %u lanes, %u "
	        "containers%s%s%s%s%s%s%s",
	        p->devs, (unsigned long long)p->dev_bytes, p->shards,
	        (unsigned long long)p->journal_bytes, p->lanes, p->conts, p->names ? ", names" : "",
	        p->full ? ", full" : "", p->quota ? ", quota" : "",
	        p->read_faults ? ", read faults" : "", p->mirror_damage ? ", mirror damage" : "",
	        p->delays ? ", delays" : "", p->torn ? ", torn" : "");
}

static void loop_make(struct sim *sim)
{
	struct loop_opts lo;

	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = 1000000 * NSEC_PER_SEC;
	if (loop_new(&sim->loop, &lo, NULL))
		sim_fail(sim, "no loop");
}

/* The containers that object lanes share, known to the oracle from the start. */
static void conts_make(struct sim *sim)
{
	for (unsigned i = 0; i < sim->profile.conts; i++) {
		struct shared_cont *sc = &sim->cont[i];
		struct pst_cont_info info = {0};
		struct pst_op op = {.opcode = PST_OP_CONT_CREATE, .name = sc->name};
		int r;

		snprintf(sc->name, sizeof(sc->name), "c%u", i);
		if (sim->profile.quota) {
			sc->quota_bytes = (64 + rng_below(&sim->rng, 100)) * MODEL_BLOCK;
			sc->quota_objects = chance(sim, 50) ? 4 + rng_below(&sim->rng, 4) : 0;
		}
		op.name_len = (uint32_t)strlen(sc->name);
		op.cont_info = &info;
		r = ops_run(sim->store, &op);
		if (!r)
			r = ops_cont_quota(sim->store, info.id, sc->quota_bytes, sc->quota_objects);
		if (r)
			sim_fail(sim, "container %s: error %d", sc->name, r);
		sc->id = info.id;
		info.quota_bytes = sc->quota_bytes;
		info.quota_objects = sc->quota_objects;
		model_apply(sim->base.model, &op, 0);
		pst_assert(!op.status);
	}
}

void sim_turn(struct sim *sim)
{
	loop_turn(sim->loop, NSEC_PER_SEC);
	if (++sim->turns_idle > TURNS_WITHOUT_AN_END)
		sim_fail(sim, "%u ops in flight and nothing ends: lane %u's %s", sim->flying,
		         sim_stuck_lane(sim), sim_stuck_text(sim));
}

static void phase(struct sim *sim, unsigned target)
{
	while (sim->ops_done < target && !sim->subject->power_lost(sim)) {
		lanes_issue(sim);
		sim_turn(sim);
		lanes_settle(sim);
	}
	/* The moment of the cut: anywhere among the next turns. */
	for (uint64_t n = rng_below(&sim->rng, 30); n && !sim->subject->power_lost(sim); n--) {
		if (rng_below(&sim->rng, 2))
			lanes_issue(sim);
		sim_turn(sim);
		if (rng_below(&sim->rng, 4))
			lanes_settle(sim);
	}
}

/* Lets everything end. A device may still lose its power meanwhile: then false. */
static bool drain(struct sim *sim)
{
	while (sim->flying) {
		if (sim->subject->power_lost(sim))
			return false;
		lanes_push(sim);
		sim_turn(sim);
		lanes_settle(sim);
	}
	return !sim->subject->power_lost(sim);
}

static void reopen(struct sim *sim)
{
	struct pst_err err = {0};
	int r;

	sim_say(sim, "close and open");
	r = sim->subject->close(sim, &err);

	if (r)
		sim_fail(sim, "close: %s (%d)", err.text, r);
	r = sim->subject->fsck(sim, &err);
	if (r)
		sim_fail(sim, "fsck after a clean close: %s", err.text);
	r = sim->subject->open(sim, &err);
	if (r)
		sim_fail(sim, "open after a clean close: %s (%d)", err.text, r);
}

static void finish(struct sim *sim)
{
	struct pst_err err = {0};

	while (!drain(sim))
		sim_power_cut(sim);
	sim->subject->calm(sim);
	if (ops_flush(sim->store, 0))
		sim_fail(sim, "the last flush failed");
	all_durable(sim);
	sim_compare(sim);
	reopen(sim);
	if (sim->profile.names)
		names_close_all(sim);
	sim_compare(sim);
	if (sim->subject->close(sim, &err))
		sim_fail(sim, "last close: %s", err.text);
}

static void world_make(struct sim *sim)
{
	struct pst_err err = {0};
	int r;

	list_init(&sim->ended);
	list_init(&sim->recent);
	rng_seed(&sim->rng, sim->seed * 0x9e3779b97f4a7c15ull + 1);
	profile_choose(sim);
	loop_make(sim);
	sim->base.model = model_new(0);
	model_adopt_ids(sim->base.model);
	model_ignore_limits(sim->base.model);
	sim->subject->format(sim);
	r = sim->subject->open(sim, &err);
	if (r)
		sim_fail(sim, "first open: %s (%d)", err.text, r);
	sim->subject->calm(sim);
	conts_make(sim);
	lanes_init(sim);
	state_clone(&sim->cur, &sim->base);
}

uint64_t sim_run(struct sim *sim)
{
	uint64_t trace;

	world_make(sim);
	for (unsigned i = 0; i < sim->cuts; i++) {
		sim->subject->stir(sim);
		phase(sim, sim->ops_target * (i + 1) / (sim->cuts + 1));
		sim_power_cut(sim);
	}
	sim->subject->stir(sim);
	phase(sim, sim->ops_target);
	finish(sim);
	sim_trace(sim, loop_now(sim->loop));
	trace = sim->trace;
	lanes_done(sim);
	state_free(&sim->base);
	state_free(&sim->cur);
	sim->subject->forget(sim);
	loop_free(sim->loop);
	return trace;
}
