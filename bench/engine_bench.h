/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine_bench - the local engine under load, below the public API: what its files share.
 *
 *   engine_bench.c   arguments, opening, and the order of things
 *   engine_load.c    laying out, verifying, warming up
 *   engine_run.c     measured windows: the closed loop, latencies, figures
 *   engine_files.c   files by the million, a crash, and what recovery costs
 */
#ifndef BENCH_ENGINE_BENCH_H
#define BENCH_ENGINE_BENCH_H

#include "bdev/bdev.h"
#include "store/local/local.h"

#define EB_DEPTH_MAX   1024
#define EB_BLOCK_BYTES 4096u

struct eb_args {
	const char *dev;
	uint64_t format_bytes; /* 0: the store is there */
	uint64_t journal_bytes, csum_cache_bytes, journal_cache_bytes, index_limit_bytes;
	unsigned shards;
	uint64_t objects, object_bytes;
	bool layout, settle, check, warm, check_after;
	bool write, sequential, volatile_writes;
	uint64_t bs;
	unsigned depth;
	double runtime_s;
	uint64_t ops;     /* of a window; 0: by time */
	unsigned windows; /* 0: measure nothing */
	bool pause;       /* SIGSTOP after each window, for whoever interleaves others */
	uint64_t files;   /* recovery: make so many files, crash, reopen */
	uint64_t crash_files;
};

struct eb_slot {
	struct pst_op op;
	struct iovec iov;
	uint64_t start_ns;
	uint64_t block; /* first block of the transfer, over all objects */
	struct eb *eb;
};

struct eb {
	struct eb_args args;
	struct loop *loop;
	struct store *store;
	uint32_t cont;
	struct mem_region *region;
	struct eb_slot *slots;
	uint64_t per_object, total; /* transfers of the current size: in an object, in all */
	uint64_t bs;                /* the current transfer size */
};

/* A store on args->dev, formatted first if asked for, with the container "bench" in it. */
void eb_open(struct eb *eb);
/* Seconds that making everything durable and letting go took. */
double eb_close(struct eb *eb);
double eb_cpu_s(void);

/* Transfers of @bs bytes from now on; allocates the slots. */
void eb_slots(struct eb *eb, uint64_t bs, unsigned depth);
void eb_slots_free(struct eb *eb);
/* Points @s at transfer number @n (of eb->total). */
void eb_aim(struct eb_slot *s, uint64_t n);
/* Stamps each block of the transfer with where it belongs; checks it, and exits if it is wrong. */
void eb_stamp(struct eb_slot *s);
void eb_verify(const struct eb_slot *s);
/* Submits @s and, where it ends at once or is not taken, sees to it that done() runs anyway. */
void eb_submit(struct eb_slot *s);

/* Every transfer once, in order, by @opcode; returns seconds. */
double eb_pass(struct eb *eb, unsigned opcode, const char *what);
/* args->windows measured windows, a line of JSON each. */
void eb_measure(struct eb *eb);
/* Files, a crash, and the recovery after it; a line of JSON. */
void eb_recovery(struct eb *eb);

#endif
