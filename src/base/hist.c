/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hist - see hist.h.
 */
#include "base/hist.h"

uint64_t hist_bucket_top(unsigned bucket)
{
	unsigned shift;
	uint64_t base;

	if (bucket < 2 * HIST_SUB)
		return bucket; /* the first octave above the exact ones is exact, too */
	shift = bucket / HIST_SUB - 1;
	base = (uint64_t)(HIST_SUB + bucket % HIST_SUB) << shift;
	return base + ((1ull << shift) - 1);
}

uint64_t hist_percentile(const struct hist *h, double p)
{
	uint64_t want, seen = 0;

	if (h->count == 0)
		return 0;
	want = (uint64_t)(p * (double)h->count);
	if (p * (double)h->count - (double)want > 1e-6) /* 0.007 * 1000 is 7, not a little more */
		want++;
	want = MAX(1, MIN(want, h->count));
	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen >= want)
			return MAX(h->min, MIN(hist_bucket_top(i), h->max));
	}
	return h->max;
}

double hist_mean(const struct hist *h)
{
	return h->count ? (double)h->sum / (double)h->count : 0;
}

void hist_merge(struct hist *to, const struct hist *from)
{
	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		to->bucket[i] += from->bucket[i];
	to->count += from->count;
	to->sum += from->sum;
	to->min = MIN(to->min, from->min);
	to->max = MAX(to->max, from->max);
}
