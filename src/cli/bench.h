/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench - measuring a store: what to do, what came out. The data is a pattern that names itself
 * (bench_pattern.c), so that every byte that is read can be verified.
 */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "base/hist.h"
#include "cli/cli.h"
#include "cli/progress.h"

#define BENCH_SECTOR 512u
#define BENCH_OID_HI 0x70737462656e6368ull /* "pstbench" */

struct bench_params {
	const char *cont;
	const char *rw;
	bool reads, writes, random;
	uint64_t bs, size, objects, depth, jobs, seed;
	double runtime_s;
	unsigned read_percent; /* randrw */
	uint64_t ops_max;      /* 0: no limit */
	bool verify, is_volatile, keep, create, no_checksum, poll;
};

struct bench_results {
	double seconds, cpu_user_s, cpu_sys_s;
	uint64_t ops, bytes, reads, writes;
	uint64_t layout_bytes, verified_before_bytes, verified_ops, verified_after_bytes, errors;
	struct hist read_lat, write_lat, lat; /* ns */
};

/* A run: shared by bench_layout.c and bench_run.c. */
struct bench {
	struct cli *cli;
	struct bench_params p;
	struct bench_results *r;
	struct pst_cont *cont;
	struct pst_cq *cq;
	struct progress progress;
	uint64_t blocks, blocks_per_object; /* of p.bs bytes */
	uint32_t *generation;               /* of each block: of the last acknowledged write */
	uint8_t *busy;                      /* blocks that a write is under way to */
	char *memory;                       /* registered */
	size_t memory_bytes;
};

static inline struct pst_oid bench_oid(uint64_t object)
{
	return (struct pst_oid){.hi = BENCH_OID_HI, .lo = object + 1};
}

/* --- bench_pattern.c --- */

void bench_pattern_init(uint64_t seed);
/* Fills @len bytes (whole sectors) that belong at @off of @object. */
void bench_fill(void *buf, size_t len, uint64_t object, uint64_t off, uint32_t generation);
/* True when it is what bench_fill() made, all of one generation: *ret_generation. */
bool bench_check(const void *buf, size_t len, uint64_t object, uint64_t off,
                 uint32_t *ret_generation);
/* Why not, in words; "old" is what it says of data that is whole. */
const char *bench_wrong(const void *buf, size_t len, uint64_t object, uint64_t off);

/* --- bench_layout.c --- */

/* Writes what is missing, and makes it durable. 0 or CLI_FAILED. */
int bench_layout(struct bench *b);
/* Reads and verifies everything against b->generation; bytes into *ret_bytes. */
int bench_verify_all(struct bench *b, const char *verb, uint64_t *ret_bytes);
int bench_remove(struct bench *b);

/* --- bench_run.c --- */

int bench_measure(struct bench *b);

#endif
