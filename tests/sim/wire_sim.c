/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_sim - clients, a server, its engine and the network between them in one thread, from a seed:
 * connections that are cut while what was sent is still on its way, servers that crash, lose power
 * or are stopped, and come back; slow and late answers, deadlines, pushback for lack of memory,
 * sessions that expire and that move to a better channel, capabilities that are revoked, and resends that race with what others write
 * meanwhile. wire_judge.c says what must hold.
 *
 *   wire_sim [--seed S] [--seeds N] [--plant BUG] [-v]
 *
 * With --plant a bug is planted, and the run succeeds when one of the seeds catches it.
 */
#include <getopt.h>
#include <stdlib.h>

#include "bdev/bdev.h"
#include "bdev/fault.h"
#include "fs/fs.h"
#include "loop/loop_int.h"
#include "store/local/local.h"
#include "wire/msg.h"
#include "wire_sim.h"

#define RESTS_AFTER 70 /* ops */

static bool verbose;

/* --- the server --- */

static enum pst_outcome ground_submit(struct store *s, struct pst_op *op)
{
	struct ground *g = container_of(s, struct ground, store);

	if (g->engine)
		return store_submit(g->engine, op);
	op->status = -ESHUTDOWN;
	return PST_DONE;
}

static void ground_cancel(struct store *s, struct pst_op *op)
{
	struct ground *g = container_of(s, struct ground, store);

	if (g->engine)
		store_cancel(g->engine, op);
}

static int ground_close(struct store *s)
{
	struct ground *g = container_of(s, struct ground, store);

	return g->engine ? store_close(g->engine) : 0;
}

static const struct store_ops ground_ops = {
        .name = "ground",
        .submit = ground_submit,
        .cancel = ground_cancel,
        .close = ground_close,
};

static void device_up(struct world *w)
{
	struct pst_err err = {0};
	struct bdev *raw;

	must(bdev_open(&raw, "mem:24m?name=wiresim", w->loop, NULL, &err), &err);
	must(fault_wrap(&w->dev, raw, rng_next(&w->rng), &err), &err);
	if (w->slow_disk) {
		must(fault_set(w->dev, "delay_us", "20", &err), &err);
		must(fault_set(w->dev, "delay_jitter_us", "150", &err), &err);
	}
}

static void server_up(struct world *w, bool format)
{
	struct session_opts so = {.sim_seed = rng_next(&w->rng) | 1, .plant = w->session_plant};
	struct wire_listener_opts lo = {.bufs = {8, 4, 0, 0, 0},
	                                .colds_max = 6,
	                                .depth_max = 16,
	                                .plant = w->listener_plant};
	struct local_opts eo = {.index_limit_bytes = 8 * MIB,
	                        .csum_cache_bytes = MIB,
	                        .journal_cache_bytes = 4 * MIB,
	                        .ops_max = 64};
	struct local_format_opts fo = {.rng = &w->rng};
	struct fs_opts no = {.requests_max = 64};
	struct pst_err err = {0};

	if (w->short_lease) {
		so.lease_ns = 10 * NSEC_PER_MSEC;
		so.expiry_ns = 30 * NSEC_PER_MSEC;
	}
	device_up(w);
	if (format)
		must(local_format(&w->dev, 1, &fo, &err), &err);
	must(local_open(&w->engine, w->loop, &w->dev, 1, &eo, &err), &err);
	w->ground = (struct ground){.store = *w->engine, .engine = w->engine};
	w->ground.store.ops = &ground_ops;
	no.grace_ns = so.lease_ns ? so.lease_ns : SESSION_LEASE_NS;
	must(fs_new(&w->names, &w->ground.store, &no, &err), &err);
	must(session_table_open(&w->table, w->names, &so, &err), &err);
	must(wire_listener_new(&w->listener, w->table, &lo, &err), &err);
	must(wire_listener_add(w->listener, "sim", "server", NULL, NULL, &err), &err);
	if (w->offers) {
		wire_listener_offer(w->listener, WIRE_OFFERS_RDMA);
		if (rng_chance(&w->rng, 0.75))
			must(wire_listener_add(w->listener, "sim", "better", NULL, NULL, &err),
			     &err);
	}
}

/* The process goes; with @power what was not flushed may go as well. */
static void server_crash(struct world *w, bool power)
{
	w->crash_ns[w->crashes++] = loop_now(w->loop);
	wire_listener_crash(w->listener);
	if (power)
		fault_cut(w->dev);
	w->ground.engine = NULL;
	local_crash(w->engine);
	wire_listener_close(w->listener, 0);
	session_table_close(w->table);
	(void)store_close(w->names);
	bdev_close(w->dev);
}

static void server_stop(struct world *w)
{
	w->stops++;
	wire_listener_close(w->listener, rng_below(&w->rng, NSEC_PER_MSEC));
	session_table_close(w->table);
	pst_assert(!store_close(w->names));
}

/* --- trouble --- */

static void server_again(struct world *w)
{
	uint64_t dice = rng_below(&w->rng, 4);

	if (dice)
		server_crash(w, dice > 1);
	else
		server_stop(w);
	for (uint64_t n = rng_below(&w->rng, 40); n > 0; n--)
		(void)loop_turn(w->loop, NSEC_PER_MSEC);
	server_up(w, false);
}

/* Nothing passes on a client's channel; the client may notice before the server does, and make
 * another one: then the server has both, and what was on its way on the first comes late. */
static void stall(struct world *w, struct client *c)
{
	struct chan *ch = remote_chan(c->store);

	if (!ch)
		return;
	w->stalls++;
	sim_stall(ch, rng_below(&w->rng, 80 * NSEC_PER_MSEC));
	client_hurry(w, c);
	if (rng_chance(&w->rng, 0.7))
		remote_cut(c->store);
}

static void trouble(struct world *w)
{
	uint64_t dice = rng_below(&w->rng, 1000);
	struct client *c = &w->client[rng_below(&w->rng, CLIENTS)];

	if (dice < 8) {
		w->cuts++;
		remote_cut(c->store);
	} else if (dice < 18) {
		stall(w, c);
	} else if (dice < 21 && w->crashes < CRASHES_MAX) {
		server_again(w);
	} else if (dice < 25) {
		clients_revoke(w);
	}
}

/* --- a run --- */

static void drain(struct world *w)
{
	for (uint64_t n = 0; w->busy && n < 2000000; n++)
		(void)loop_turn(w->loop, NSEC_PER_MSEC);
	if (w->busy)
		WRONG(w, "%u ops did not end", w->busy);
	else
		watches_rest(w);
}

static void run(struct world *w)
{
	uint32_t rest = RESTS_AFTER;

	for (unsigned i = 0; w->count < OPS_WANTED && i < 100000 && !w->wrong[0]; i++) {
		watchers_go(w);
		for (unsigned k = (unsigned)rng_below(&w->rng, 4) + 1; k > 0; k--)
			clients_go(w);
		trouble(w);
		(void)loop_turn(w->loop, rng_below(&w->rng, 300 * NSEC_PER_USEC));
		clients_renew(w);
		if (w->count >= rest) {
			drain(w);
			rest = w->count + RESTS_AFTER;
		}
	}
	drain(w);
}

static void world_up(struct world *w)
{
	struct pst_op mkdir = {
	        .opcode = PST_OP_MKDIR, .name = NAMES_DIR, .name_len = (uint32_t)strlen(NAMES_DIR)};
	struct loop_opts lo;

	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = NSEC_PER_SEC;
	rng_seed(&w->rng, w->seed);
	(void)bdev_mem_forget("wiresim");
	pst_assert(!loop_new(&w->loop, &lo, NULL));
	sim_knobs_draw(&w->knobs, w->seed);
	w->knobs.has_peer = true; /* nobody: a token is all that a client has */
	w->knobs.cut = rng_chance(&w->rng, 0.5) ? 0.0005 : 0;
	if (rng_chance(&w->rng, 0.8))
		w->knobs.traits |= FABRIC_ANY_MEMORY;
	if (rng_chance(&w->rng, 0.2))
		w->knobs.traits |= FABRIC_WRITE_THEN_MSG;
	w->slow_disk = rng_chance(&w->rng, 0.5);
	w->short_lease = rng_chance(&w->rng, 0.2);
	w->offers = w->seed % 3 == 0;
	server_up(w, true);
	pst_assert(!ops_cont_create(w->engine, "c", &w->cont));
	pst_assert(!ops_cont_create(w->engine, "d", &w->forbidden));
	mkdir.cont = w->cont;
	pst_assert(!ops_run(w->names, &mkdir));
	clients_up(w);
}

static void world_down(struct world *w)
{
	clients_down(w);
	if (w->wrong[0])
		return; /* with clients that are not down */
	wire_listener_close(w->listener, NSEC_PER_SEC);
	session_table_close(w->table);
	pst_assert(!store_close(w->names));
	fabric_finish(w->loop);
	/* A planted bug of the client's may leave a timer of what it forgot. It is the judge who has to catch it. */
	if (!w->remote_plant || !w->loop->heap_count)
		loop_free(w->loop);
}

/* True: all is as it must be. */
static bool seed_run(struct world *w)
{
	bool good;

	world_up(w);
	run(w);
	if (!w->wrong[0])
		judge(w);
	good = !w->wrong[0];
	if (good) {
		world_down(w);
		good = !w->wrong[0];
	}
	if (!good || verbose)
		(void)printf("seed %llu: %s (%u ops, %llu timed out, %u crashes, %u stops, %u "
		             "cuts, %u stalls, %u revoked, %llu told, %llu fallbacks%s)\n",
		             (unsigned long long)w->seed, good ? "good" : w->wrong, w->count,
		             (unsigned long long)w->timeouts, w->crashes, w->stops, w->cuts,
		             w->stalls, w->revokes, (unsigned long long)w->told,
		             (unsigned long long)w->fallbacks,
		             w->undecided ? "; names undecided" : "");
	return good;
}

static const struct {
	const char *name;
	unsigned remote, session, listener;
} plants[] = {
        {"none", 0, 0, 0},
        {"new-token", REMOTE_PLANT_NEW_TOKEN, 0, 0},
        {"complete-early", REMOTE_PLANT_COMPLETE_EARLY, 0, 0},
        {"answer-early", 0, 0, LISTENER_PLANT_ANSWER_EARLY},
        {"reexecute", 0, SESSION_PLANT_REEXECUTE, 0},
        {"no-fence", 0, SESSION_PLANT_NO_FENCE, 0},
        {"rename-twice", 0, SESSION_PLANT_RENAME_TWICE, 0},
        {"watch-late", 0, SESSION_PLANT_WATCH_LATE, 0},
        {"lose-watch", REMOTE_PLANT_LOSE_WATCH, 0, 0},
        {"serve-revoked", 0, SESSION_PLANT_SERVE_REVOKED, 0},
};

static void log_to_stdout(void *arg, enum pst_log_level level, const char *line)
{
	(void)printf("# %s\n", line);
}

static int usage(void)
{
	(void)fprintf(stderr, "usage: wire_sim [--seed S] [--seeds N] [--plant BUG] [-v]\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"seed", 1, NULL, 's'},
	                                      {"seeds", 1, NULL, 'n'},
	                                      {"plant", 1, NULL, 'p'},
	                                      {NULL, 0, NULL, 0}};
	static struct world world;
	uint64_t seed = 1, seeds = 1;
	size_t plant = 0;
	int opt;

	while ((opt = getopt_long(argc, argv, "v", longs, NULL)) >= 0) {
		switch (opt) {
		case 's':
			seed = strtoull(optarg, NULL, 10);
			break;
		case 'n':
			seeds = strtoull(optarg, NULL, 10);
			break;
		case 'p':
			for (size_t i = 1; i < ARRAY_LEN(plants); i++)
				if (!strcmp(optarg, plants[i].name))
					plant = i;
			if (!plant)
				return usage();
			break;
		case 'v':
			verbose = true;
			break;
		default:
			return usage();
		}
	}
	pst_log_set(log_to_stdout, NULL, verbose ? PST_LOG_DEBUG : PST_LOG_ERROR);
	for (uint64_t i = 0; i < seeds; i++) {
		memset(&world, 0, sizeof(world));
		world.seed = seed + i;
		world.remote_plant = plants[plant].remote;
		world.session_plant = plants[plant].session;
		world.listener_plant = plants[plant].listener;
		if (!seed_run(&world))
			return plant ? 0 : 1;
	}
	if (plant)
		(void)printf("%llu seeds did not catch it\n", (unsigned long long)seeds);
	return plant ? 1 : 0;
}
