/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * served - a store that is served in simulated time: the names layer on the engine, on a device in memory that
 * outlives a restart (or a model of a store, which does not); its session table, whose audit is counted; a
 * listener at "here" of provider sim; and a client of it.
 */
#ifndef TESTS_UNIT_SERVED_H
#define TESTS_UNIT_SERVED_H

#include "bdev/bdev.h"
#include "fabric/sim.h"
#include "fs/fs.h"
#include "ops.h"
#include "session/audit.h"
#include "store/local/local.h"
#include "wire/wire.h"

struct served {
	struct loop *loop;
	struct store *store;
	struct session_table *table;
	struct wire_listener *listener;
	struct store *remote; /* the client; NULL: none */
	/* read when the store is opened */
	bool model;
	const char *device; /* its name; NULL: a name is given */
	struct session_opts so;
	struct wire_listener_opts lo;
	uint64_t grace_ns;
	/* read when a client connects; where to, seeds and knobs are given */
	struct remote_opts ro;
	struct sim_knobs knobs;
	struct pst_err err; /* of the last client that could not */
	/* the last grant */
	struct cap_op op;
	bool done;
	int status;
	/* as the audit has it */
	unsigned refused[AUDIT_SUPPRESSED + 1];
	int refused_last;
};

/* @g is zeroed, or has options. Formats the device and begins to serve. */
void served_start(struct served *g, uint64_t now_ns);
void served_end(struct served *g);
struct bdev *served_device(struct served *g);
void served_format(struct served *g);
void served_up(struct served *g);
void served_down(struct served *g);
void served_crash(struct served *g);   /* the same with connections cut before */
void served_restart(struct served *g); /* after a crash */
void served_sleep(struct served *g, uint64_t ns);
/* Opens g->remote, by the token @cred or NULL: 0, or an error with a sentence in g->err. */
int served_client(struct served *g, const char *cred);
void served_hang_up(struct served *g);
/* A capability: its id and token are in g->op then. */
void served_grant(struct served *g, const struct cap_info *info);
int served_revoke(struct served *g, uint64_t id);
uint64_t served_records(struct served *g); /* of the engine's log: what was changed */

#endif
