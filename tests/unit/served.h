/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * served - a store that is served in simulated time: the names layer on the engine, on a device in memory that
 * outlives a restart; its session table, whose audit is counted; and a listener at "here" of provider sim.
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
	/* read when it is opened */
	struct session_opts so;
	struct wire_listener_opts lo;
	uint64_t grace_ns;
	/* the last grant */
	struct cap_op op;
	bool done;
	int status;
	/* as the audit has it */
	unsigned refused[AUDIT_SUPPRESSED + 1];
	int refused_last;
};

void served_start(struct served *g, uint64_t now_ns); /* formats; @g is zeroed, or has options */
void served_end(struct served *g);
void served_up(struct served *g);
void served_down(struct served *g); /* as a crash: connections are cut */
void served_restart(struct served *g);
void served_sleep(struct served *g, uint64_t ns);
/* A capability: its id and token are in g->op then. */
void served_grant(struct served *g, const struct cap_info *info);
int served_revoke(struct served *g, uint64_t id);
uint64_t served_records(struct served *g); /* of the engine's log: what was changed */

#endif
