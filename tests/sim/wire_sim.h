/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_sim - what the files of the wire's simulation share: wire_sim.c has the server, the trouble
 * and the run, wire_client.c the clients and what they do, wire_judge.c what must have held;
 * wire_names.c and wire_watch.c are both for names and watches.
 *
 * All that was tried is kept (struct tried) with when it began and ended, and judged at the end.
 */
#ifndef TESTS_SIM_WIRE_SIM_H
#define TESTS_SIM_WIRE_SIM_H

#include <stdio.h>

#include "fabric/sim.h"
#include "ops.h"
#include "session/session.h"
#include "wire/wire.h"

#define CLIENTS     3u
#define LANES       4u
#define REGISTERS   4u /* arrays, overwritten whole */
#define LOGS        2u /* arrays, appended to */
#define CELLS       2u /* keys, replaced if they are as expected */
#define TARGETS     (REGISTERS + LOGS + CELLS)
#define OPS_WANTED  400u
#define OPS_MAX     2048u
#define LIVES_MAX   64u
#define CRASHES_MAX 128u
#define BUF_MAX     (40u * 1024)
#define UNUSED      0xee
#define NAMES       4u /* in one directory, at most 10 */
#define NAMES_DIR   "/p"
#define PATH_BYTES  16u
#define WATCHERS    2u
#define THING_ALL   REGISTERS /* what is watched: a register, or the container */
#define NOT_EQUAL   (-ECHILD) /* what a replacement ends with whose expectation was wrong */

enum what {
	WRITE,
	READ,
	APPEND,
	REPLACE,
	GET,
	TRESPASS,
	/* names: those that change something first; then those with a file that is held open */
	N_CREATE,
	N_UNLINK,
	N_RENAME,
	N_LINK,
	N_LOOKUP,
	N_LIST,
	N_OPEN,
	N_WRITE,
	N_READ,
	N_CLOSE,
};

/* An op that was tried. Its number + 1 is what it wrote. */
struct tried {
	uint8_t what;
	uint8_t life; /* of the client: one capability and session, until it was revoked */
	bool ended;
	uint16_t target;
	int status;
	/* READ, GET, N_READ: which write; 0: none. REPLACE: which was expected. N_CREATE, N_LOOKUP, N_OPEN:
	 * who made the file */
	uint32_t saw;
	uint8_t name, name2;
	bool excl;
	uint64_t ino, list[NAMES];
	uint64_t from_ns, to_ns;
	uint64_t deadline_ns;
};

struct lane {
	bool hurry; /* client_hurry() */
	struct pst_op op;
	struct client *client;
	struct iovec iov;
	struct pst_mut mut[2];
	le64 expected, value;
	char key[2];
	char path[PATH_BYTES], path2[PATH_BYTES];
	uint64_t held; /* a file that it opened; 0: none */
	uint32_t at;   /* in world->tried */
	uint32_t used;
	bool busy;
	uint8_t *buf;
};

struct watcher {
	struct pst_op op;
	struct client *client;
	uint8_t thing;
	bool armed;
	uint64_t seen, told_ns; /* the last number, and when it came */
	uint64_t floor;         /* told to somebody when it was armed */
};

enum revoking {
	GRANTED,
	REVOKE_ASKED, /* under way */
	REVOKE_LOST,  /* the server crashed meanwhile: to be asked again */
	REVOKED,
};

struct client {
	struct world *w;
	struct store *store;
	struct lane lane[LANES];
	struct cap_op cap;
	uint64_t cap_id;
	char token[CAP_TOKEN_MAX];
	enum revoking revoking;
	struct watcher watcher[WATCHERS];
	bool prefixed; /* its capability is for the directory of names alone */
	unsigned more; /* ops that it tries although it is revoked, before it gets a new one */
	uint8_t life;
};

/* What the names layer stands on: the engine, until it crashes. */
struct ground {
	struct store store;
	struct store *engine; /* NULL: crashed */
};

struct world {
	struct loop *loop;
	struct rng rng;
	uint64_t seed;
	struct store *engine;
	struct ground ground;
	struct store *names; /* on the ground: what the server serves */
	struct bdev *dev;
	struct session_table *table;
	struct wire_listener *listener;
	struct sim_knobs knobs;
	struct client client[CLIENTS];
	uint32_t cont, forbidden, busy;
	struct tried tried[OPS_MAX];
	uint32_t count;
	uint32_t cell[CELLS]; /* what somebody read there last */
	unsigned lives;
	uint64_t revoked_ns[LIVES_MAX]; /* 0: it was not */
	uint64_t crash_ns[CRASHES_MAX];
	unsigned crashes, cuts, stalls, stops, revokes;
	uint64_t told_last[THING_ALL + 1];
	uint64_t told;      /* watches */
	bool undecided;     /* J8: the search was given up */
	uint64_t timeouts;  /* with the server at work */
	uint64_t fallbacks; /* a better channel was offered and not to be had */
	unsigned remote_plant, session_plant, listener_plant;
	bool slow_disk, short_lease, offers;
	char wrong[256];
};

#define WRONG(w, ...)                                                                \
	do {                                                                         \
		if (!(w)->wrong[0])                                                  \
			(void)snprintf((w)->wrong, sizeof((w)->wrong), __VA_ARGS__); \
	} while (0)

static inline void must(int rc, const struct pst_err *err)
{
	if (rc < 0) {
		(void)fprintf(stderr, "%s (%d)\n", err->text, rc);
		abort();
	}
}

static inline uint32_t reg_len(unsigned i)
{
	static const uint32_t len[REGISTERS] = {16, 4096, 20000, 36864};

	return len[i];
}

/* Targets in a row: registers, logs, cells. */
static inline struct pst_oid oid_target(unsigned i)
{
	return oid_of(100 + i);
}

/* wire_client.c */
void clients_up(struct world *w);
void clients_down(struct world *w);
/* One of them tries something. */
void clients_go(struct world *w);
/* It writes something small that will be given up soon. */
void client_hurry(struct world *w, struct client *c);
/* Asks for a revocation, goes on with those that are under way, and gives those that were revoked
 * a new capability. Turns the loop. */
void clients_revoke(struct world *w);
void clients_renew(struct world *w);
/* What the bytes say that they are: the number of a write + 1, 0: nothing was written. */
uint32_t bytes_saw(struct world *w, uint32_t at, const uint8_t *buf, uint32_t len);

void bytes_fill(uint8_t *buf, uint32_t len, uint32_t id);

/* wire_names.c */
void names_choose(struct world *w, struct lane *l, struct tried *t);
void names_fill(struct lane *l, struct tried *t);
void names_ended(struct world *w, struct lane *l, struct tried *t);
void names_last_look(struct world *w);
void judge_names(struct world *w); /* before the registers: files get their targets */

/* wire_watch.c */
void watchers_up(struct world *w, struct client *c);
void watchers_down(struct client *c); /* turns the loop */
void watchers_go(struct world *w);
/* Nothing is under way but watches: are those told who must be? Turns the loop. */
void watches_rest(struct world *w);

/* wire_judge.c */
void judge(struct world *w);
/* A change that ended without anybody knowing whether it was made. */
bool outcome_unknown(const struct world *w, const struct tried *t);

#endif
