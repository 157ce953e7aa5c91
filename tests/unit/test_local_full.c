/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The local engine when something runs out: space, quota, memory for the index, the log. What is
 * there stays readable and deletable, and space comes back when its users go, without reopening.
 */
#include "eng_util.h"

static uint8_t buf[MIB], got[MIB];

static void expect_all(struct eng *e, uint32_t c, uint64_t view, uint64_t count, size_t len)
{
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(eng_expect(e, c, view, oid_of(1 + i), 0, len, 1 + i), 0);
}

/* Objects of @len until there is no space; how many. */
static uint64_t fill_up(struct eng *e, uint32_t c, size_t len)
{
	uint64_t n = 0;
	int r;

	while ((r = eng_put(e, c, oid_of(1 + n), 0, len, 1 + n)) == 0)
		assert_true(++n < 100000);
	assert_int_equal(r, -ENOSPC);
	return n;
}

static void delete_one(struct eng *e, uint32_t c, uint64_t oid)
{
	struct pst_mut del[] = {MUT_OFF(PST_OBJ_DELETE, oid_of(oid), 0, 0)};

	assert_int_equal(ops_batch(e->store, c, del, 1), 0);
}

/* --- space --- */

static void fill_delete_fill(const struct eng *like, size_t len)
{
	struct eng e = *like;
	uint64_t first = 0, n, before;
	uint32_t c[3];

	eng_start(&e);
	for (unsigned i = 0; i < 3; i++) {
		char name[8];

		(void)snprintf(name, sizeof(name), "c%u", i);
		assert_int_equal(ops_cont_create(e.store, name, &c[i]), 0);
	}
	eng_settle(&e);
	before = eng_free_bytes(&e);
	for (unsigned round = 0; round < 6; round++) {
		uint32_t me = c[round % 3];

		n = fill_up(&e, me, len);
		if (!first)
			first = n;
		/* About as much every time: some of it becomes room for the index. */
		assert_in_range(n, first * 3 / 4, first * 5 / 4);
		expect_all(&e, me, 0, n, len);
		/* Keys and small changes may be refused too, but nothing else happens. */
		(void)ops_kv_put(e.store, me, oid_of(1), "key", buf, 40);
		if (round == 2) {
			eng_drop(&e);
			eng_open(&e);
			expect_all(&e, me, 0, n, len);
		}
		/* Cutting off needs no space to speak of. */
		struct pst_mut cut[] = {MUT_OFF(PST_ARRAY_RESIZE, oid_of(1), len / 2 + 1, 0)};

		assert_int_equal(ops_batch(e.store, me, cut, 1), 0);
		assert_int_equal(eng_expect(&e, me, 0, oid_of(1), 0, len / 2 + 1, 1), 0);
		for (uint64_t i = 0; i < n; i++)
			delete_one(&e, me, 1 + i);
		assert_false(eng_stopped(&e, NULL, 0));
	}
	eng_settle(&e);
	eng_checkpoint(&e);
	eng_settle(&e);
	assert_in_range(eng_free_bytes(&e), before * 9 / 10, before);
	assert_int_equal(eng_close(&e), 0);
	e.dev[0] = NULL;
	eng_open(&e);
	eng_end(&e);
}

static void full_of_large(void **state)
{
	fill_delete_fill(&(struct eng){.dev_bytes = 16 * MIB}, 256 * KIB);
}

static void full_of_small(void **state)
{
	fill_delete_fill(&(struct eng){.dev_bytes = 8 * MIB}, 3000);
}

static void full_with_shards(void **state)
{
	fill_delete_fill(&(struct eng){.dev_bytes = 24 * MIB, .format = {.shards = 3}}, 9000);
}

static void full_on_two_devices(void **state)
{
	fill_delete_fill(&(struct eng){.dev_bytes = 16 * MIB, .devs = 2, .format = {.shards = 2}},
	                 100 * KIB);
}

/* One shard has free blocks in regions of its own; they are none of the other's. */
static void space_of_another_shard(void **state)
{
	struct eng e = {.dev_bytes = 24 * MIB, .format = {.shards = 2}};
	uint32_t c[2];
	uint64_t n[2];

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c[0]), 0);
	assert_int_equal(ops_cont_create(e.store, "b", &c[1]), 0);
	n[0] = fill_up(&e, c[0], 2 * BB);
	n[1] = fill_up(&e, c[1], BB);
	for (uint64_t i = 0; i < n[0]; i += 2)
		delete_one(&e, c[0], 1 + i);
	eng_settle(&e);
	/* Small writes of the second shard: refused, or taken where a region came free. */
	for (uint64_t i = 0; i < 300; i++) {
		int r = eng_put(&e, c[1], oid_of(100000 + i), 0, BB, i);

		assert_true(r == 0 || r == -ENOSPC);
	}
	for (uint64_t i = 1; i < n[0]; i += 2)
		assert_int_equal(eng_expect(&e, c[0], 0, oid_of(1 + i), 0, 2 * BB, 1 + i), 0);
	expect_all(&e, c[1], 0, n[1], BB);
	eng_end(&e);
}

/* In place, an overwrite needs no new space. */
static void overwrite_when_full(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB};
	uint64_t n;
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	n = fill_up(&e, c, 3 * BB);
	while (eng_put(&e, c, oid_of(1 + n), 0, BB, 1) == 0)
		n++;
	for (uint64_t i = 0; i < n / 2; i++)
		assert_int_equal(eng_put(&e, c, oid_of(1 + i), 0, BB, 1 + i), 0);
	eng_end(&e);
}

/* --- snapshots --- */

static void write_all(struct eng *e, uint32_t c, uint64_t count, size_t len, uint64_t tag)
{
	for (uint64_t i = 0; i < count; i++) {
		char key[24];

		assert_int_equal(eng_put(e, c, oid_of(1 + i), 0, len, tag + i), 0);
		(void)snprintf(key, sizeof(key), "k%llu", (unsigned long long)i);
		eng_fill(buf, 9000, tag + i);
		assert_int_equal(ops_kv_put(e->store, c, oid_of(7), key, buf, 9000), 0);
	}
}

static void expect_view(struct eng *e, uint32_t c, uint64_t view, uint64_t count, size_t len,
                        uint64_t tag)
{
	for (uint64_t i = 0; i < count; i++) {
		char key[24];
		uint64_t n;

		assert_int_equal(eng_expect(e, c, view, oid_of(1 + i), 0, len, tag + i), 0);
		(void)snprintf(key, sizeof(key), "k%llu", (unsigned long long)i);
		eng_fill(buf, 9000, tag + i);
		assert_int_equal(
		        ops_kv_get(e->store, c, view, oid_of(7), key, got, sizeof(got), &n), 0);
		assert_int_equal(n, 9000);
		assert_memory_equal(got, buf, 9000);
	}
}

#define GENS 6

/* Snapshots of changing content go in different orders, with checkpoints at odd times; the others
 * keep what they hold, and in the end all their space is back. */
static void snapshots_come_and_go(void **state)
{
	static const uint8_t order[][GENS] = {
	        {0, 1, 2, 3, 4, 5}, {5, 4, 3, 2, 1, 0}, {2, 4, 0, 5, 1, 3}, {3, 2, 5, 0, 4, 1}};

	for (unsigned o = 0; o < ARRAY_LEN(order); o++) {
		struct eng e = {.dev_bytes = 32 * MIB};
		uint64_t view[GENS], before;
		char name[8];
		uint32_t c;

		eng_start(&e);
		assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
		write_all(&e, c, 10, 70000, 1000 * GENS);
		eng_checkpoint(&e);
		eng_settle(&e);
		before = eng_free_bytes(&e);
		for (uint64_t g = 0; g < GENS; g++) {
			write_all(&e, c, 10, 70000, 1000 * g);
			(void)snprintf(name, sizeof(name), "s%u", (unsigned)g);
			assert_int_equal(ops_snap_create(e.store, "a", name, &view[g]), 0);
			if (g == o)
				eng_checkpoint(&e);
		}
		write_all(&e, c, 10, 70000, 1000 * GENS);
		for (unsigned k = 0; k < GENS; k++) {
			(void)snprintf(name, sizeof(name), "s%u", order[o][k]);
			if (k % 2) /* while a checkpoint is on its way */
				ckpt_want(eng_local(&e)->shard[0]);
			for (unsigned t = 0; t < o; t++)
				(void)loop_turn(e.loop, NSEC_PER_USEC);
			assert_int_equal(ops_snap_destroy(e.store, "a", name), 0);
			for (unsigned left = k + 1; left < GENS; left++)
				expect_view(&e, c, view[order[o][left]], 10, 70000,
				            1000 * order[o][left]);
			expect_view(&e, c, 0, 10, 70000, 1000 * GENS);
			if (k == 3 && o % 2) {
				eng_drop(&e);
				eng_open(&e);
			}
		}
		eng_checkpoint(&e);
		eng_settle(&e);
		assert_in_range(eng_free_bytes(&e), before - 64 * BB, before + 64 * BB);
		eng_end(&e);
	}
}

/* A snapshot goes at each step of a checkpoint: its space comes back all the same. */
static void snapshot_goes_during_a_checkpoint(void **state)
{
	for (unsigned turns = 0; turns < 16; turns++) {
		struct eng e = {.dev_bytes = 16 * MIB};
		uint64_t before;
		uint32_t c;

		eng_start(&e);
		assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
		write_all(&e, c, 4, 70000, 1);
		eng_settle(&e);
		before = eng_free_bytes(&e);
		assert_int_equal(ops_snap_create(e.store, "a", "s", NULL), 0);
		write_all(&e, c, 4, 70000, 500);
		ckpt_want(eng_local(&e)->shard[0]);
		for (unsigned t = 0; t < turns; t++)
			(void)loop_turn(e.loop, NSEC_PER_USEC);
		assert_int_equal(ops_snap_destroy(e.store, "a", "s"), 0);
		eng_settle(&e);
		assert_in_range(eng_free_bytes(&e), before - 32 * BB, before + 32 * BB);
		eng_end(&e);
	}
}

/* --- containers --- */

static void container_gives_its_space_back(void **state)
{
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct eng e = {.dev_bytes = 24 * MIB, .format = {.shards = shards}};
		uint64_t before;
		uint32_t c;

		eng_start(&e);
		for (unsigned i = 0; i < 4; i++) { /* on each shard in turn */
			eng_settle(&e);
			before = eng_free_bytes(&e);
			assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
			write_all(&e, c, 20, 70000, i);
			assert_true(eng_free_bytes(&e) < before - 20 * 70000);
			assert_int_equal(ops_cont_destroy(e.store, "a"), 0);
			eng_settle(&e);
			assert_in_range(eng_free_bytes(&e), before - 64 * BB, before + 64 * BB);
		}
		eng_end(&e);
	}
}

/* --- quota --- */

static void quota(void **state)
{
	struct eng e = {.dev_bytes = 16 * MIB};
	struct pst_cont_info info;
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(ops_cont_quota(e.store, c, 10 * BB, 3), 0);
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, 10 * BB, 1), 0);
	assert_int_equal(eng_put(&e, c, oid_of(1), 10 * BB, 1, 1), -EDQUOT);
	assert_int_equal(eng_put(&e, c, oid_of(2), 0, 1, 1), -EDQUOT);
	assert_int_equal(eng_put(&e, c, oid_of(1), BB, 2 * BB, 5), 0);
	assert_int_equal(ops_kv_put(e.store, c, oid_of(2), "k", buf, 5000), -EDQUOT);
	assert_int_equal(ops_kv_put(e.store, c, oid_of(2), "k", buf, 50), 0);
	assert_int_equal(ops_kv_put(e.store, c, oid_of(3), "k", buf, 50), 0);
	assert_int_equal(ops_kv_put(e.store, c, oid_of(4), "k", buf, 50), -EDQUOT);
	eng_reopen(&e);
	assert_int_equal(ops_kv_put(e.store, c, oid_of(4), "k", buf, 50), -EDQUOT);
	assert_int_equal(eng_put(&e, c, oid_of(1), 10 * BB, 1, 1), -EDQUOT);
	assert_int_equal(eng_expect(&e, c, 0, oid_of(1), BB, 2 * BB, 5), 0);
	delete_one(&e, c, 1);
	assert_int_equal(ops_kv_put(e.store, c, oid_of(4), "k", buf, 5000), 0);
	assert_int_equal(eng_put(&e, c, oid_of(2), 0, 8 * BB, 1), 0);
	assert_int_equal(eng_put(&e, c, oid_of(2), 0, 9 * BB, 1), -EDQUOT);
	assert_int_equal(ops_cont_get(e.store, c, &info), 0);
	assert_int_equal(info.used_bytes, 10 * BB);
	assert_int_equal(info.used_objects, 3);
	eng_end(&e);
}

/* What a batch adds is what is there after it, whatever its entries do to each other; and never more
 * than the quota allows. */
static void quota_of_batches(void **state)
{
	struct eng e = {.dev_bytes = 16 * MIB};
	struct pst_cont_info info;
	uint32_t c;
#define W(o, blk, n)                                                                       \
	{                                                                                  \
		.kind = PST_ARRAY_WRITE, .oid = oid_of(o), .off = (blk)*BB, .len = (n)*BB, \
		.val = buf, .val_len = (n)*BB                                              \
	}
#define PUT(o, k, n)                                                                      \
	{                                                                                 \
		.kind = PST_KV_PUT, .oid = oid_of(o), .key = k, .key_len = 1, .val = buf, \
		.val_len = n                                                              \
	}
#define DEL(o) MUT_OFF(PST_OBJ_DELETE, oid_of(o), 0, 0)
	struct {
		struct pst_mut m[4];
		uint32_t count;
		int status;
		uint64_t used; /* after it: blocks */
	} step[] = {
	        {{W(1, 0, 6), W(1, 2, 8)}, 2, 0, 10},   /* overlapping */
	        {{W(1, 0, 10), W(1, 0, 10)}, 2, 0, 10}, /* again */
	        {{W(1, 0, 1), W(2, 0, 1)}, 2, -EDQUOT, 10},
	        {{DEL(1), W(1, 0, 4), W(2, 0, 7)}, 3, -EDQUOT, 10}, /* what goes comes back */
	        {{DEL(1), W(1, 0, 4), W(2, 0, 6)}, 3, 0, 10},
	        {{MUT_OFF(PST_ARRAY_PUNCH, oid_of(1), 0, 4 * BB), W(1, 0, 4), W(3, 0, 1)},
	         3,
	         -EDQUOT,
	         10},
	        {{MUT_OFF(PST_ARRAY_RESIZE, oid_of(1), 2 * BB, 0), W(3, 0, 2)}, 2, 0, 10},
	        {{W(3, 0, 8), MUT_OFF(PST_ARRAY_RESIZE, oid_of(3), 2 * BB, 0)}, 2, 0, 10},
	        {{DEL(2), PUT(4, "a", 9000), PUT(4, "b", 9000)}, 3, 0, 10},
	        {{PUT(4, "a", 9000)}, 1, 0, 10}, /* in its own place */
	        {{PUT(4, "a", 20000)}, 1, -EDQUOT, 10},
	        {{PUT(4, "a", 20000), PUT(4, "a", 5000)}, 2, 0, 9},
	        {{DEL(4), PUT(4, "a", 20000), W(5, 0, 2)}, 3, -EDQUOT, 9},
	        {{DEL(4), PUT(4, "a", 20000), W(5, 0, 1)}, 3, 0, 10},
	        {{MUT_KEY(PST_KV_DEL, oid_of(4), "a", 0), W(5, 1, 5)}, 2, 0, 10},
	};

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(ops_cont_quota(e.store, c, 10 * BB, 0), 0);
	for (unsigned i = 0; i < ARRAY_LEN(step); i++) {
		int r = ops_batch(e.store, c, step[i].m, step[i].count);

		assert_int_equal(ops_cont_get(e.store, c, &info), 0);
		if (r != step[i].status || info.used_bytes != step[i].used * BB)
			fail_msg("step %u: %d, %llu blocks", i, r,
			         (unsigned long long)(info.used_bytes / BB));
	}
	eng_end(&e);
#undef W
#undef PUT
#undef DEL
}

/* --- the index's memory --- */

static void key_put(struct eng *e, uint32_t c, uint64_t i, int *ret)
{
	char key[64];

	(void)snprintf(key, sizeof(key), "a key of some length %llu",
	               (unsigned long long)hash_u64(i + 1));
	*ret = ops_kv_put(e->store, c, oid_of(1 + i % 5), key, buf, 300);
}

static void index_is_full(void **state)
{
	for (unsigned shards = 1; shards <= 2; shards++) {
		struct eng e = {.dev_bytes = 64 * MIB, .format = {.shards = shards}};
		uint64_t n = 0;
		uint32_t c;
		int r = 0;

		e.opts.index_limit_bytes = 2 * MIB;
		eng_start(&e);
		assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
		for (; n < 100000 && !r; n++)
			key_put(&e, c, n, &r);
		assert_int_equal(r, -ENOSPC);
		assert_true(n > 500);
		eng_checkpoint(&e);
		assert_false(eng_stopped(&e, NULL, 0));
		/* Close and open work at the limit, and deleting does. */
		eng_reopen(&e);
		eng_drop(&e);
		eng_open(&e);
		for (uint64_t i = 1; i <= 5; i++)
			delete_one(&e, c, i);
		eng_settle(&e);
		r = 0;
		for (uint64_t i = 0; i < n / 2 && !r; i++)
			key_put(&e, c, 1000000 + i, &r);
		assert_int_equal(r, 0);
		assert_int_equal(eng_close(&e), 0);
		/* Opened with far less: refused with a sentence, or open and full; never a hang. */
		e.opts.index_limit_bytes = 256 * KIB;
		r = eng_try_open(&e);
		if (r) {
			assert_int_equal(r, -ENOSPC);
			assert_true(e.err.text[0]);
		}
		eng_end(&e);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(full_of_large),
	        cmocka_unit_test(full_of_small),
	        cmocka_unit_test(full_with_shards),
	        cmocka_unit_test(full_on_two_devices),
	        cmocka_unit_test(space_of_another_shard),
	        cmocka_unit_test(overwrite_when_full),
	        cmocka_unit_test(snapshots_come_and_go),
	        cmocka_unit_test(snapshot_goes_during_a_checkpoint),
	        cmocka_unit_test(container_gives_its_space_back),
	        cmocka_unit_test(quota),
	        cmocka_unit_test(quota_of_batches),
	        cmocka_unit_test(index_is_full),
	};

	if (argc > 1) /* one case alone */
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("local engine: full", tests, NULL, NULL);
}
