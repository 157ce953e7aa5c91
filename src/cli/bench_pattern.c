/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_pattern - data that names itself. Each sector of 512 bytes begins with where it belongs and
 * which write it is of; the rest is a piece of a random table, chosen by the same. So data that is
 * at the wrong place, old, torn or damaged is seen, and making it costs little more than a copy.
 *
 *   OFFSET SIZE MEANING (native byte order: it is read where it was written)
 *        0    8 seed
 *        8    8 object
 *       16    8 byte offset in the object
 *       24    4 generation
 *       28    4 zero
 *       32  480 from the table
 */
#include "base/base.h"
#include "cli/bench.h"

#define HEAD_BYTES  32u
#define BODY_BYTES  (BENCH_SECTOR - HEAD_BYTES)
#define TABLE_BYTES (64u * 1024)

struct head {
	uint64_t seed, object, off;
	uint32_t generation, zero;
};
_Static_assert(sizeof(struct head) == HEAD_BYTES, "the head is 32 bytes");

static uint64_t table[(TABLE_BYTES + BENCH_SECTOR) / 8];
static uint64_t pattern_seed;
/* Not for the compiler to know: for a copy of so constant a length it takes "rep movs", which makes 4 GB/s between
 * places that are aligned differently, where the library's makes 15. */
static const volatile size_t body_bytes = BODY_BYTES;

void bench_pattern_init(uint64_t seed)
{
	struct rng rng;

	pattern_seed = seed;
	rng_seed(&rng, seed);
	for (unsigned i = 0; i < ARRAY_LEN(table); i++)
		table[i] = rng_next(&rng);
}

static const void *body_of(const struct head *h)
{
	uint64_t at = hash_u64(h->off ^ h->object << 32 ^ (uint64_t)h->generation << 52);

	return &table[at % (TABLE_BYTES / 8)];
}

void bench_fill(void *buf, size_t len, uint64_t object, uint64_t off, uint32_t generation)
{
	size_t body = body_bytes;

	for (char *to = buf, *end = to + len; to < end; to += BENCH_SECTOR, off += BENCH_SECTOR) {
		struct head h = {pattern_seed, object, off, generation, 0};

		memcpy(to, &h, sizeof(h));
		memcpy(to + HEAD_BYTES, body_of(&h), body);
	}
}

/* NULL: it is what bench_fill() made, of generation *ret_generation. Else what is wrong with it. */
static inline const char *wrong(const void *buf, size_t len, uint64_t object, uint64_t off,
                                uint32_t *ret_generation)
{
	const char *from = buf, *end = from + len;
	uint32_t generation = 0;

	for (bool first = true; from < end; from += BENCH_SECTOR, off += BENCH_SECTOR) {
		struct head h;

		memcpy(&h, from, sizeof(h));
		if (first)
			generation = h.generation;
		first = false;
		if (h.seed != pattern_seed)
			return "none of this seed's";
		if (h.object != object || h.off != off || h.zero != 0)
			return "it belongs elsewhere";
		if (memcmp(from + HEAD_BYTES, body_of(&h), BODY_BYTES) != 0)
			return "damaged";
		if (h.generation != generation)
			return "parts of several writes: torn, or another run's, with another --bs";
	}
	*ret_generation = generation;
	return NULL;
}

bool bench_check(const void *buf, size_t len, uint64_t object, uint64_t off,
                 uint32_t *ret_generation)
{
	return !wrong(buf, len, object, off, ret_generation);
}

const char *bench_wrong(const void *buf, size_t len, uint64_t object, uint64_t off)
{
	uint32_t generation;
	const char *why = wrong(buf, len, object, off, &generation);

	return why ? why : "old";
}
