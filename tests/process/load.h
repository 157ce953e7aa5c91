/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * load - mixed work on a store of which anybody can say afterwards what must be there: each lane's
 * n-th op follows from the lane and n alone, so that a lane's state is a number.
 *
 * Object lanes send random batches and writes to objects of their own, each under the replay token
 * (lane, n). File lanes write a file beside its place and rename it there, over what was there.
 * One op of a lane is in flight at a time.
 */
#ifndef TESTS_PROCESS_LOAD_H
#define TESTS_PROCESS_LOAD_H

#include "gen.h"
#include "ops.h"

#define LOAD_OBJECT_LANES 6
#define LOAD_FILE_LANES   2
#define LOAD_LANES        (LOAD_OBJECT_LANES + LOAD_FILE_LANES)
#define LOAD_FILES        8 /* names in a file lane's directory */

/* What is known of a lane: ops up to `floor` must have survived, those above `top` were not sent.
 */
struct load_known {
	uint64_t floor, top;
};

struct load;

/* Containers and directories that are not there yet are made. Asserts success. */
void load_setup(struct store *s);

struct load_opts {
	uint32_t lanes;            /* a bit for each that works; 0: all */
	bool remote;               /* tokens are the store's business; every change is durable */
	uint64_t next[LOAD_LANES]; /* the first op of each lane */
	/* Op @n of @lane has ended; @durable: it and those before it must survive. */
	void (*acked)(void *arg, unsigned lane, uint64_t n, bool durable);
	bool (*stop)(void *arg); /* asked before each op; then what is in flight ends */
	void *arg;
	unsigned io_max_bytes;
};
/* Turns the loop until stop. Asserts that no op fails but by its own conditions. */
void load_run(struct store *s, const struct load_opts *opts);

/* The oracle: what the lanes' objects are after so many ops. */
struct load_oracle {
	struct model *model[LOAD_OBJECT_LANES];
	uint64_t n[LOAD_LANES];
	unsigned io_max_bytes;
	bool remote; /* as of the load */
};
void load_oracle_init(struct load_oracle *o, unsigned io_max_bytes, bool remote);
void load_oracle_done(struct load_oracle *o);
/*
 * Compares the store with what is known: 0 and how far each lane is, or -EUCLEAN with a sentence.
 * The oracle moves forward to the floors. How far a lane is that was cut off is said by the replay
 * records; of a remote load by what is there: at most one op more than the floor.
 */
int load_verify(struct store *s, struct load_oracle *o, const struct load_known known[LOAD_LANES],
                uint64_t ret_n[LOAD_LANES], struct pst_err *err);

#endif
