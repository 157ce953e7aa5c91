/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hist - a histogram of latencies: log-linear buckets, so that every value is known to 1.6 % (a
 * 64th) whatever its size, in constant space, and adding is a few instructions. One thread at a
 * time.
 */
#ifndef BASE_HIST_H
#define BASE_HIST_H

#include "base/base.h"

#define HIST_SUB_BITS 6 /* 64 buckets for each power of two */
#define HIST_SUB      (1u << HIST_SUB_BITS)
#define HIST_BUCKETS  ((64 - HIST_SUB_BITS + 1) * HIST_SUB)

struct hist {
	uint64_t count, sum, min, max;
	uint64_t bucket[HIST_BUCKETS];
};

static inline void hist_init(struct hist *h)
{
	memset(h, 0, sizeof(*h));
	h->min = UINT64_MAX;
}

/* Values below HIST_SUB have a bucket each; above, the highest HIST_SUB_BITS + 1 bits decide. */
static inline unsigned hist_bucket(uint64_t v)
{
	unsigned shift;

	if (v < HIST_SUB)
		return (unsigned)v;
	shift = 63u - (unsigned)__builtin_clzll(v) - HIST_SUB_BITS;
	return (shift + 1) * HIST_SUB + (unsigned)(v >> shift) - HIST_SUB;
}

static inline void hist_add(struct hist *h, uint64_t v)
{
	h->bucket[hist_bucket(v)]++;
	h->count++;
	h->sum += v;
	if (v < h->min)
		h->min = v;
	if (v > h->max)
		h->max = v;
}

/* The largest value that falls into a bucket. */
uint64_t hist_bucket_top(unsigned bucket);
/* The value that a part @p (0..1) of all values does not exceed; at most the maximum. 0 if empty.
 */
uint64_t hist_percentile(const struct hist *h, double p);
double hist_mean(const struct hist *h); /* 0 if empty */
void hist_merge(struct hist *to, const struct hist *from);

#endif
