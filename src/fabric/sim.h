/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim - the adversarial channel: both ends in one process and on one loop, simulated or real. All
 * that happens comes from a seed; it keeps the contract of fabric.h and nothing beyond it. For
 * tests.
 *
 * Addresses are names, known on their loop. A transfer lands in pieces, each when it likes, and
 * takes its source's bytes only then; a message overtakes writes; a window that was closed stays
 * open until its closed() runs; what was under way when a channel is cut may land all the same, as
 * long as its window is open.
 */
#ifndef FABRIC_SIM_H
#define FABRIC_SIM_H

#include "fabric/fabric.h"

struct sim_knobs {
	uint64_t delay_min_ns, delay_max_ns; /* of a message, one way; also of most other things */
	uint64_t xfer_max_ns;                /* by when a piece of a transfer has landed */
	unsigned pieces_max;                 /* of a transfer; 1 to SIM_PIECES_MAX */
	uint32_t traits; /* what is declared and kept: FABRIC_WRITE_THEN_MSG, _ANY_MEMORY */
	uint32_t inline_max;
	unsigned regions_max; /* that a channel's end can have in use at once, then -ENOSPC */
	double again;         /* chance of an -EAGAIN without need */
	double late_close;    /* chance that closed() comes later than from inside the call */
	double cut;           /* chance, at each event, that the channel is cut */
	uint64_t cut_after;   /* cut at this event of the channel, counted from 1; 0: not */
	double flip; /* chance that a bit of a message, or of a piece of a transfer, is changed */
	bool bad_desc_cuts; /* a transfer to a window that isn't there takes the channel down */
	bool open;          /* others can read it: not FABRIC_PRIVATE */
	bool has_peer;      /* show @client to the listener instead of this process's identity */
	struct fabric_peer client;
};

#define SIM_PIECES_MAX 16

/* What a channel is like when fabric_opts.sim is NULL: drawn from the seed. Cuts are not among it. */
void sim_knobs_draw(struct sim_knobs *k, uint64_t seed);

/* Nothing passes any more; the ends notice after so long. */
void sim_cut(struct chan *c, uint64_t here_ns, uint64_t there_ns);
/* Nothing passes for so long. An end whose dead_ns is less goes down with -ETIMEDOUT. */
void sim_stall(struct chan *c, uint64_t ns);
/* How many events the channel has seen: what cut_after counts. */
uint64_t sim_events(const struct chan *c);
/* The other end, as the process has it. */
struct chan *sim_peer(struct chan *c);

enum sim_door {
	SIM_OPEN,
	SIM_REFUSE, /* connecting is refused */
	SIM_SILENT, /* connecting gets no answer */
};
void sim_listener_door(struct fabric_listener *l, enum sim_door door);

#endif
