/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rw_args - what uring_bare and bdev_rw share, so that they do and report the same: arguments, the
 * next offset, and the figures at the end.
 */
#ifndef BENCH_RW_ARGS_H
#define BENCH_RW_ARGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define DEPTH_MAX 1024

struct rw_args {
	const char *target;
	unsigned block_bytes, depth, spin_us; /* spin_us: ~0: the loop's default; bdev_rw only */
	double runtime_s;
	bool write, json, sync;
};

struct rw_run {
	uint64_t blocks, seed, ops;
	double wall_s, cpu_s;
};

static inline void rw_usage(const char *name)
{
	fprintf(stderr,
	        "usage: %s TARGET [--bs BYTES] [--iodepth N] [--runtime SECONDS] [--rw "
	        "randread|randwrite]\n"
	        "       [--dsync] [--spin-us N] [--json]\n"
	        "Random I/O on TARGET (which must be laid out); prints I/Os and CPU time for "
	        "each.\n"
	        "randwrite overwrites it.\n",
	        name);
	exit(2);
}

static inline void rw_parse(struct rw_args *a, int argc, char **argv)
{
	*a = (struct rw_args){.block_bytes = 4096, .depth = 32, .runtime_s = 5, .spin_us = ~0u};
	for (int i = 1; i < argc; i++) {
		const char *next = i + 1 < argc ? argv[i + 1] : "";

		if (!strcmp(argv[i], "--json"))
			a->json = true;
		else if (!strcmp(argv[i], "--dsync"))
			a->sync = true;
		else if (!strcmp(argv[i], "--bs") && ++i)
			a->block_bytes = (unsigned)strtoul(next, NULL, 10);
		else if (!strcmp(argv[i], "--iodepth") && ++i)
			a->depth = (unsigned)strtoul(next, NULL, 10);
		else if (!strcmp(argv[i], "--runtime") && ++i)
			a->runtime_s = strtod(next, NULL);
		else if (!strcmp(argv[i], "--spin-us") && ++i)
			a->spin_us = (unsigned)strtoul(next, NULL, 10);
		else if (!strcmp(argv[i], "--rw") && !strcmp(next, "randwrite") && ++i)
			a->write = true;
		else if (!strcmp(argv[i], "--rw") && !strcmp(next, "randread") && ++i)
			a->write = false;
		else if (*argv[i] != '-' && !a->target)
			a->target = argv[i];
		else
			rw_usage(argv[0]);
	}
	if (!a->target || a->block_bytes < 512 || a->block_bytes % 512 || !a->depth ||
	    a->depth > DEPTH_MAX || a->runtime_s <= 0)
		rw_usage(argv[0]);
}

static inline double rw_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline double rw_cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)u.ru_utime.tv_sec + (double)u.ru_utime.tv_usec / 1e6 +
	       (double)u.ru_stime.tv_sec + (double)u.ru_stime.tv_usec / 1e6;
}

/* Random block, in bytes: xorshift64, and a multiplication instead of a division. */
static inline uint64_t rw_next(struct rw_run *r, unsigned block_bytes)
{
	r->seed ^= r->seed << 13;
	r->seed ^= r->seed >> 7;
	r->seed ^= r->seed << 17;
	return (uint64_t)(((unsigned __int128)r->seed * r->blocks) >> 64) * block_bytes;
}

static inline void rw_report(const struct rw_args *a, const struct rw_run *r)
{
	double iops = (double)r->ops / r->wall_s, cpu_us = r->cpu_s / (double)r->ops * 1e6;

	if (a->json)
		printf("{\"rw\": \"%s\", \"bs\": %u, \"iodepth\": %u, \"ops\": %llu, "
		       "\"runtime_s\": %.3f, \"iops\": %.0f, \"cpu_s\": %.6f, \"cpu_s_per_op\": "
		       "%.9f}\n",
		       a->write ? "randwrite" : "randread", a->block_bytes, a->depth,
		       (unsigned long long)r->ops, r->wall_s, iops, r->cpu_s, cpu_us / 1e6);
	else
		printf("%.0f IOPS, %.2f us CPU per op\n", iops, cpu_us);
}

#endif
