/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * xoshiro256** (Blackman and Vigna), its state filled by splitmix64 so that every seed, 0 included,
 * gives a good one. The sequences are fixed for ever: a failing simulation is replayed by its seed.
 */
#include "base/base.h"

static uint64_t splitmix64(uint64_t *x)
{
	uint64_t z = (*x += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, unsigned k)
{
	return (x << k) | (x >> (64 - k));
}

void rng_seed(struct rng *r, uint64_t seed)
{
	for (unsigned i = 0; i < ARRAY_LEN(r->s); i++)
		r->s[i] = splitmix64(&seed);
}

uint64_t rng_next(struct rng *r)
{
	uint64_t *s = r->s;
	uint64_t result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

/* Multiply and shift; the few low products that would favour some results are drawn again. */
uint64_t rng_below(struct rng *r, uint64_t n)
{
	unsigned __int128 m;
	uint64_t bias;

	pst_assert(n > 0);
	m = (unsigned __int128)rng_next(r) * n;
	if ((uint64_t)m < n) {
		bias = -n % n;
		while ((uint64_t)m < bias)
			m = (unsigned __int128)rng_next(r) * n;
	}
	return (uint64_t)(m >> 64);
}

bool rng_chance(struct rng *r, double p)
{
	if (p <= 0)
		return false;
	return (double)(rng_next(r) >> 11) * 0x1p-53 < p;
}
