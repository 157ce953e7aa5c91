/* SPDX-License-Identifier: BSD-3-Clause */
/* Allocation: no block is given twice, runs stay in their region, what is freed waits its time. */
#include "eng_util.h"

static void no_block_twice(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB, .format = {.shards = 2}};
	static uint8_t taken[4096];
	struct run run[512];
	unsigned runs = 0;
	struct local *l;
	struct rng r;

	rng_seed(&r, 5);
	memset(taken, 0, sizeof(taken));
	eng_start(&e);
	l = eng_local(&e);
	assert_true(l->geo.regions * l->geo.region_span < sizeof(taken));
	for (unsigned i = 0; i < 4000; i++) {
		struct shard *s = l->shard[rng_below(&r, 2)];
		uint32_t want = 1 + (uint32_t)rng_below(&r, 40);
		uint64_t addr;
		uint32_t n;

		if (runs == ARRAY_LEN(run) || (runs && rng_below(&r, 3) == 0)) {
			struct run *old = &run[rng_below(&r, runs)];
			unsigned owner = l->region[old->addr / l->geo.region_span].owner;

			for (uint32_t k = 0; k < old->blocks; k++)
				taken[old->addr + k] = 0;
			space_give_back(l->shard[owner], SPACE_DATA, old->addr, old->blocks);
			*old = run[--runs];
			continue;
		}
		n = space_alloc(s, SPACE_DATA, want, &addr);
		assert_true(n <= want);
		if (!n)
			continue;
		assert_int_not_equal(addr, 0);
		assert_int_equal(addr / l->geo.region_span, (addr + n - 1) / l->geo.region_span);
		assert_int_equal(l->region[addr / l->geo.region_span].owner, s->id);
		for (uint32_t k = 0; k < n; k++) {
			assert_int_equal(taken[addr + k], 0);
			taken[addr + k] = 1;
		}
		run[runs++] = (struct run){addr, n};
	}
	while (runs--)
		space_give_back(l->shard[l->region[run[runs].addr / l->geo.region_span].owner],
		                SPACE_DATA, run[runs].addr, run[runs].blocks);
	assert_int_equal(l->shard[0]->space.class[SPACE_DATA].used, 0);
	eng_end(&e);
}

static void claims(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB};
	struct local *l;
	struct shard *s;
	uint64_t span, at;

	eng_start(&e);
	l = eng_local(&e);
	s = l->shard[0];
	span = l->geo.region_span;
	at = (l->geo.regions - 1) * span;
	assert_int_equal(space_claim(s, SPACE_DATA, 0, 1), -EINVAL);
	assert_int_equal(space_claim(s, SPACE_DATA, at + span, 1), -EINVAL);
	assert_int_equal(space_claim(s, SPACE_DATA, at + span - 1, 2), -EINVAL);
	assert_int_equal(space_claim(s, SPACE_DATA, at + 3, 0), -EINVAL);
	assert_int_equal(space_claim(s, SPACE_DATA, at + 3, 4), 0);
	assert_int_equal(space_claim(s, SPACE_DATA, at + 6, 2), -EEXIST);
	assert_int_equal(space_claim(s, SPACE_META, at + 10, 1), -EINVAL);
	assert_int_equal(space_reserve(s, UINT32_MAX), -ENOSPC);
	space_give_back(s, SPACE_DATA, at + 3, 4);
	assert_int_equal(l->region[l->geo.regions - 1].class, SPACE_NONE);
	eng_end(&e);
}

/* R4: not before a mark covers the frame, nor before the reads of that time have ended. */
static void quarantine(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB};
	uint32_t c, epoch;
	struct shard *s;
	uint64_t used;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	s = eng_local(&e)->shard[0];
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, 30 * BB, 1), 0);
	used = s->space.class[SPACE_DATA].used;
	epoch = reader_enter(s);
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, 30 * BB, 2), 0);
	eng_settle(&e);
	assert_int_equal(s->space.class[SPACE_DATA].used, used + 30);
	reader_exit(s, epoch);
	eng_settle(&e);
	assert_int_equal(s->space.class[SPACE_DATA].used, used);
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, 30 * BB, 3), 0);
	assert_true(space_waits_for_mark(s)); /* durable, and no frame says so yet */
	eng_end(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(no_block_twice),
	        cmocka_unit_test(claims),
	        cmocka_unit_test(quarantine),
	};

	return cmocka_run_group_tests_name("local engine: space", tests, NULL, NULL);
}
