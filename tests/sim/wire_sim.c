/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_sim - clients, a server, its engine and the network between them in one thread, from a seed:
 * connections that are cut, servers that crash and come back, slow and late answers, deadlines,
 * pushback for lack of memory, and resends that race with what others write meanwhile.
 *
 * What must hold, whatever happens:
 *  - Exactly once: each record that a client appended, and was told so, is in its log once; one
 *    whose outcome is unknown at most once; one that failed not at all.
 *  - Linearizable registers: a read gives the bytes of one write, whole, which had begun before the
 *    read ended, and no other write lies wholly between the two.
 *  - Memory: nothing changes in a buffer after its op has ended.
 *  - Every op ends.
 *
 *   wire_sim [--seed S] [--seeds N] [--plant BUG] [-v]
 *
 * With --plant a bug is planted, and the run succeeds when one of the seeds catches it.
 */
#include <getopt.h>
#include <stdio.h>

#include "bdev/bdev.h"
#include "fabric/sim.h"
#include "ops.h"
#include "store/local/local.h"
#include "wire/wire.h"

#define CLIENTS   3u
#define LANES     4u
#define REGISTERS 4u
#define LOGS      2u
#define OPS_MAX   4096u
#define BUF_MAX   (40u * 1024)
#define UNUSED    0xee

enum what { WRITE, READ, APPEND };

/* An op that was tried, for the judgement at the end. */
struct tried {
	enum what what;
	uint8_t target;
	bool ended;
	int status;
	uint32_t saw; /* READ: which write; 0: none */
	uint64_t from_ns, to_ns;
};

struct lane {
	struct pst_op op;
	struct client *client;
	struct iovec iov;
	struct pst_mut mut;
	uint32_t at; /* in world->tried */
	uint32_t used;
	bool busy;
	uint8_t *buf;
};

struct client {
	struct world *w;
	struct store *store;
	struct lane lane[LANES];
};

struct world {
	struct loop *loop;
	struct rng rng;
	uint64_t seed;
	struct store *engine;
	struct bdev *dev;
	struct session_table *table;
	struct wire_listener *listener;
	struct sim_knobs knobs;
	struct client client[CLIENTS];
	uint32_t cont, busy;
	struct tried tried[OPS_MAX];
	uint32_t count;
	unsigned crashes, cuts;
	uint64_t timeouts; /* with the server at work */
	unsigned remote_plant, session_plant;
	char wrong[256];
};

static bool verbose;

#define WRONG(w, ...)                                                                \
	do {                                                                         \
		if (!(w)->wrong[0])                                                  \
			(void)snprintf((w)->wrong, sizeof((w)->wrong), __VA_ARGS__); \
	} while (0)

/* --- the server --- */

static void must(int rc, const struct pst_err *err)
{
	if (rc < 0) {
		(void)fprintf(stderr, "%s (%d)\n", err->text, rc);
		abort();
	}
}

static void server_up(struct world *w, bool format)
{
	struct session_opts so = {
	        .open_access = true, .sim_seed = w->seed, .plant = w->session_plant};
	struct wire_listener_opts lo = {.bufs = {8, 4, 1, 1, 1}, .colds_max = 6, .depth_max = 16};
	struct local_format_opts fo = {.rng = &w->rng};
	struct pst_err err = {0};

	must(bdev_open(&w->dev, "mem:64m?name=wiresim", w->loop, NULL, &err), &err);
	if (format)
		must(local_format(&w->dev, 1, &fo, &err), &err);
	must(local_open(&w->engine, w->loop, &w->dev, 1, NULL, &err), &err);
	must(session_table_open(&w->table, w->engine, &so, &err), &err);
	must(wire_listener_new(&w->listener, w->table, &lo, &err), &err);
	must(wire_listener_add(w->listener, "sim", "server", NULL, NULL, &err), &err);
}

static void server_crash(struct world *w)
{
	w->crashes++;
	wire_listener_crash(w->listener);
	local_crash(w->engine);
	wire_listener_close(w->listener, 0);
	session_table_close(w->table);
	bdev_close(w->dev);
}

/* --- the clients --- */

static uint32_t reg_len(unsigned i)
{
	static const uint32_t len[REGISTERS] = {16, 4096, 20000, 36864};

	return len[i];
}

static struct pst_oid oid_reg(unsigned i)
{
	return oid_of(100 + i);
}

static struct pst_oid oid_log(unsigned i)
{
	return oid_of(200 + i);
}

/* Every 8 bytes of a register say which write they are of. */
static void fill(uint8_t *buf, uint32_t len, uint32_t id)
{
	for (uint32_t i = 0; i + 8 <= len; i += 8) {
		le64 v = le64_make((uint64_t)id << 32 | 0x57000000u | i);

		memcpy(buf + i, &v, 8);
	}
}

static uint32_t saw(struct world *w, const struct lane *l, uint32_t len)
{
	uint32_t id = 0;

	for (uint32_t i = 0; i + 8 <= len; i += 8) {
		le64 le;
		uint64_t v;

		memcpy(&le, l->buf + i, 8);
		v = le64_get(le);
		if (i == 0)
			id = (uint32_t)(v >> 32);
		if ((uint32_t)(v >> 32) != id || (uint32_t)v != (0x57000000u | i))
			WRONG(w, "op %u: a read of bytes that nobody wrote as one", l->at);
	}
	return id;
}

static void buf_check(struct world *w, struct lane *l)
{
	for (uint32_t i = 0; i < l->used; i++)
		if (l->buf[i] != UNUSED) {
			WRONG(w, "op %u: byte %u of its buffer changed after it had ended", l->at,
			      i);
			break;
		}
}

static void done(struct pst_op *op)
{
	struct lane *l = container_of(op, struct lane, op);
	struct world *w = l->client->w;
	struct tried *t = &w->tried[l->at];

	t->ended = true;
	t->status = op->status;
	t->to_ns = loop_now(w->loop);
	if (t->what == READ && op->status == 0 && op->ret_len) {
		if (op->ret_len != reg_len(t->target))
			WRONG(w, "op %u: a read of %llu bytes", l->at,
			      (unsigned long long)op->ret_len);
		else
			t->saw = saw(w, l, reg_len(t->target));
	}
	memset(l->buf, UNUSED, l->used); /* the next holder's */
	l->busy = false;
	w->busy--;
}

static void lane_fill(struct world *w, struct lane *l, struct tried *t)
{
	uint64_t dice = rng_below(&w->rng, 10);
	struct pst_op *op = &l->op;

	memset(op, 0, sizeof(*op));
	op->cont = w->cont;
	op->done = done;
	t->what = dice < 4 ? WRITE : dice < 7 ? READ : APPEND;
	t->target = (uint8_t)rng_below(&w->rng, t->what == APPEND ? LOGS : REGISTERS);
	l->used = t->what == APPEND ? 16 : reg_len(t->target);
	l->iov = (struct iovec){l->buf, l->used};
	op->iov = &l->iov;
	op->iov_count = 1;
	op->len = l->used;
	op->oid = t->what == APPEND ? oid_log(t->target) : oid_reg(t->target);
	op->opcode = t->what == READ ? PST_OP_READ : PST_OP_WRITE;
	if (t->what != READ)
		fill(l->buf, l->used, l->at + 1);
	if (t->what == APPEND) {
		l->mut = (struct pst_mut){.kind = PST_ARRAY_APPEND,
		                          .oid = op->oid,
		                          .iov = &l->iov,
		                          .iov_count = 1,
		                          .len = 16};
		op->opcode = PST_OP_BATCH;
		op->muts = &l->mut;
		op->mut_count = 1;
	}
	if (t->what == READ && rng_chance(&w->rng, 0.3))
		op->deadline_ns = loop_now(w->loop) + rng_below(&w->rng, 3 * NSEC_PER_MSEC);
}

static void lane_go(struct world *w, struct lane *l)
{
	struct tried *t = &w->tried[w->count];

	buf_check(w, l);
	memset(t, 0, sizeof(*t));
	l->at = w->count;
	lane_fill(w, l, t);
	t->from_ns = loop_now(w->loop);
	l->busy = true;
	w->busy++;
	w->count++;
	switch (store_submit(l->client->store, &l->op)) {
	case PST_DONE:
		done(&l->op);
		break;
	case PST_BUSY: /* never tried */
		w->busy--;
		w->count--;
		l->busy = false;
		memset(l->buf, UNUSED, l->used);
		break;
	case PST_QUEUED:
		break;
	}
}

static void client_up(struct world *w, unsigned i)
{
	struct client *c = &w->client[i];
	struct remote_opts o = {.at = {{.provider = "sim", .addr = "server"}},
	                        .at_count = 1,
	                        .seed = w->seed * 10 + i + 1,
	                        .ops_max = 8,
	                        .slots = 4,
	                        .name = "sim",
	                        .plant = w->remote_plant};
	struct pst_err err = {0};
	unsigned tries = 0;
	int rc;

	o.fabric.seed = o.seed;
	o.fabric.sim = &w->knobs;
	o.reconnect_ns = 1000 * NSEC_PER_SEC;
	o.grace_ns = 20 * NSEC_PER_USEC; /* so that ops end while their windows are in use */
	/* The first connection may be cut like any other. */
	for (rc = -1; rc < 0 && tries < 20; tries++) {
		o.seed += 1000003;
		rc = remote_open(&c->store, w->loop, &o, &err);
	}
	must(rc, &err);
	c->w = w;
	for (unsigned j = 0; j < LANES; j++) {
		c->lane[j].client = c;
		c->lane[j].buf = malloc(BUF_MAX);
		memset(c->lane[j].buf, UNUSED, BUF_MAX);
	}
}

static void client_down(struct client *c)
{
	struct remote_figures f;

	remote_figures(c->store, &f);
	c->w->timeouts += f.timeouts;
	for (unsigned j = 0; j < LANES; j++) {
		buf_check(c->w, &c->lane[j]);
		free(c->lane[j].buf);
	}
	(void)store_close(c->store);
}

/* --- the judgement --- */

static void judge_register(struct world *w, uint32_t r)
{
	const struct tried *read = &w->tried[r], *write;

	if (read->what != READ || read->status || !read->ended)
		return;
	if (read->saw > w->count) {
		WRONG(w, "op %u: read a write that was never tried", r);
		return;
	}
	write = read->saw ? &w->tried[read->saw - 1] : NULL;
	if (write &&
	    (write->what != WRITE || write->target != read->target || write->from_ns > read->to_ns))
		WRONG(w, "op %u: read write %u, of another place or a later time", r,
		      read->saw - 1);
	for (uint32_t i = 0; i < w->count; i++) {
		const struct tried *t = &w->tried[i];

		if (t->what != WRITE || t->target != read->target || t == write || t->status)
			continue;
		/* t is done before the read began, and began after its write was done. */
		if (t->to_ns < read->from_ns &&
		    (!write || (write->status == 0 && write->to_ns < t->from_ns)))
			WRONG(w, "op %u: read write %d, which write %u had replaced", r,
			      (int)read->saw - 1, i);
	}
}

static void judge_log(struct world *w, unsigned log)
{
	static uint8_t times[OPS_MAX], buf[PST_IO_MAX];
	uint64_t len = 0;

	memset(times, 0, sizeof(times));
	if (ops_read(w->engine, w->cont, 0, oid_log(log), 0, buf, sizeof(buf), &len) < 0)
		WRONG(w, "the log can't be read");
	for (uint64_t at = 0; at + 16 <= len; at += 16) {
		le64 v;
		uint64_t id;

		memcpy(&v, buf + at, 8);
		id = le64_get(v) >> 32;
		if (!id || id > w->count || times[id - 1]++)
			WRONG(w, "log %u: record %llu is there %u times", log,
			      (unsigned long long)id, id && id <= w->count ? times[id - 1] : 0u);
	}
	for (uint32_t i = 0; i < w->count; i++) {
		const struct tried *t = &w->tried[i];

		if (t->what != APPEND || t->target != log)
			continue;
		if (t->status == 0 && times[i] != 1)
			WRONG(w, "op %u: appended, and is not there", i);
		if (t->status < 0 && t->status != -ESTALE && t->status != -ETIMEDOUT && times[i])
			WRONG(w, "op %u: failed (%d), and is there", i, t->status);
	}
}

/* --- a run --- */

static void trouble(struct world *w)
{
	uint64_t dice = rng_below(&w->rng, 1000);

	if (dice < 12) {
		w->cuts++;
		remote_cut(w->client[rng_below(&w->rng, CLIENTS)].store);
	} else if (dice < 15) {
		server_crash(w);
		for (uint64_t n = rng_below(&w->rng, 40); n > 0; n--)
			(void)loop_turn(w->loop, NSEC_PER_MSEC);
		server_up(w, false);
	}
}

static void run(struct world *w)
{
	for (unsigned i = 0; w->count < 400 && i < 100000 && !w->wrong[0]; i++) {
		for (unsigned k = rng_below(&w->rng, 4) + 1; k > 0; k--) {
			struct client *c = &w->client[rng_below(&w->rng, CLIENTS)];
			struct lane *l = &c->lane[rng_below(&w->rng, LANES)];

			if (!l->busy && w->count < OPS_MAX)
				lane_go(w, l);
		}
		trouble(w);
		(void)loop_turn(w->loop, rng_below(&w->rng, 300 * NSEC_PER_USEC));
	}
	for (uint64_t n = 0; w->busy && n < 2000000; n++)
		(void)loop_turn(w->loop, NSEC_PER_MSEC);
	if (w->busy)
		WRONG(w, "%u ops did not end", w->busy);
}

static void world_up(struct world *w)
{
	struct loop_opts lo;

	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = NSEC_PER_SEC;
	rng_seed(&w->rng, w->seed);
	bdev_mem_forget("wiresim");
	pst_assert(!loop_new(&w->loop, &lo, NULL));
	sim_knobs_draw(&w->knobs, w->seed);
	w->knobs.cut = rng_chance(&w->rng, 0.5) ? 0.0005 : 0;
	server_up(w, true);
	pst_assert(!ops_cont_create(w->engine, "c", &w->cont));
	for (unsigned i = 0; i < CLIENTS; i++)
		client_up(w, i);
}

static void world_down(struct world *w)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		client_down(&w->client[i]);
	wire_listener_close(w->listener, NSEC_PER_SEC);
	session_table_close(w->table);
	pst_assert(!store_close(w->engine));
	fabric_finish(w->loop);
	loop_free(w->loop);
}

/* True: all is as it must be. */
static bool seed_run(uint64_t seed, unsigned remote_plant, unsigned session_plant)
{
	struct world *w = calloc(1, sizeof(*w));
	bool good;

	w->seed = seed;
	w->remote_plant = remote_plant;
	w->session_plant = session_plant;
	world_up(w);
	run(w);
	if (!w->busy) {
		for (uint32_t i = 0; i < w->count; i++)
			judge_register(w, i);
		for (unsigned i = 0; i < LOGS; i++)
			judge_log(w, i);
		world_down(w);
	}
	good = !w->wrong[0];
	if (!good || verbose)
		(void)printf("seed %llu: %s (%u ops, %llu timed out, %u crashes, %u cuts)\n",
		             (unsigned long long)seed, good ? "good" : w->wrong, w->count,
		             (unsigned long long)w->timeouts, w->crashes, w->cuts);
	free(w);
	return good;
}

static const struct {
	const char *name;
	unsigned remote, session;
} plants[] = {
        {"new-token", REMOTE_PLANT_NEW_TOKEN, 0},
        {"complete-early", REMOTE_PLANT_COMPLETE_EARLY, 0},
        {"reexecute", 0, SESSION_PLANT_REEXECUTE},
        {"no-fence", 0, SESSION_PLANT_NO_FENCE},
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
	uint64_t seed = 1, seeds = 1;
	unsigned remote = 0, session = 0;
	bool planted = false;
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
			for (size_t i = 0; i < ARRAY_LEN(plants); i++)
				if (!strcmp(optarg, plants[i].name)) {
					remote = plants[i].remote;
					session = plants[i].session;
					planted = true;
				}
			if (!planted)
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
		if (seed_run(seed + i, remote, session))
			continue;
		return planted ? 0 : 1;
	}
	if (planted)
		(void)printf("%llu seeds did not catch it\n", (unsigned long long)seeds);
	return planted;
}
