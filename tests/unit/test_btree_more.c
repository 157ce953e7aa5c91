/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The index's memory: how dense its pages are, what it costs a file, its limit, its reservation,
 * and what views share.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "store/local/bt_internal.h"

#include "bt_ref.h"

static void env_make(struct bt_env *env, uint64_t limit_bytes)
{
	*env = (struct bt_env){.limit_bytes = limit_bytes};
	assert_int_equal(bt_env_init(env), 0);
}

static size_t put_be(uint8_t *p, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		p[i] = v >> (8 * (bytes - 1 - i));
	return bytes;
}

/* Object id (two words), then @tail_len bytes of @tail. */
static size_t key_make(uint8_t *key, uint64_t lo, uint64_t tail, unsigned tail_len)
{
	size_t n = put_be(key, 1, 8);

	n += put_be(key + n, lo, 8);
	return n + put_be(key + n, tail, tail_len);
}

static void put(struct btree *t, const uint8_t *key, size_t key_len, size_t val_len)
{
	static const uint8_t val[BT_VALUE_MAX];

	assert_int_equal(bt_reserve(t->env, 1, false), 0);
	bt_put(t, key, key_len, val, val_len);
}

static void leaves_used(const struct bt_node *node, uint64_t *bytes, uint64_t *pages)
{
	if (node->level == 0) {
		*bytes += pg_used(node->page) + BT_HDR_BYTES;
		++*pages;
		return;
	}
	for (unsigned i = 0; i < pg_count(node->page); i++)
		leaves_used(pg_child(node->page, i), bytes, pages);
}

static double leaf_fill(const struct btree *t)
{
	uint64_t bytes = 0, pages = 0;

	leaves_used(t->root, &bytes, &pages);
	return (double)bytes / (pages * BT_PAGE_BYTES);
}

/* --- density --- */

static void test_sequential_fill(void **state)
{
	for (int other = 0; other < 2; other++) {
		struct bt_env env;
		struct btree t = {.env = &env};
		uint8_t key[64];

		env_make(&env, 0);
		if (other) { /* a neighbour above: the load is not at the tree's edge */
			for (unsigned i = 0; i < 50; i++)
				put(&t, key, key_make(key, 1000000 + i, 7, 3), 70);
		}
		for (unsigned i = 0; i < 50000; i++)
			put(&t, key, key_make(key, 5000 + i, 0x010203, 3), 70);
		assert_int_equal(bt_check(&t, NULL), 0);
		assert_true(leaf_fill(&t) >= 0.90);
		bt_drop(&t);
		bt_env_done(&env);
	}
}

static void test_budget_files(void **state)
{
	struct bt_env env;
	struct btree t = {.env = &env};
	const unsigned files = 200000;
	struct rng r;
	uint8_t key[64];

	env_make(&env, 0);
	rng_seed(&r, 3);
	for (unsigned i = 0; i < files; i++) {
		size_t n;

		put(&t, key, key_make(key, 5000 + i, 0x010203, 3), 70);
		n = key_make(key, 7, 2, 2);
		for (unsigned j = 0; j < 32; j++)
			key[n++] = 'a' + rng_below(&r, 26);
		put(&t, key, n, 9);
	}
	print_message("# %.1f bytes of DRAM per file\n", (double)env.bytes / files);
	assert_true(env.bytes <= 256ull * files);
	bt_drop(&t);
	bt_env_done(&env);
}

static void test_budget_extents(void **state)
{
	struct bt_env env;
	struct btree t = {.env = &env};
	const unsigned extents = 200000;
	uint8_t key[64];

	env_make(&env, 0);
	for (unsigned i = 0; i < extents; i++)
		put(&t, key, key_make(key, 7, (4ull << 48) + 16 * i, 7), 13);
	print_message("# %.1f bytes of DRAM per extent\n", (double)env.bytes / extents);
	assert_true(env.bytes <= 48ull * extents);
	bt_drop(&t);
	bt_env_done(&env);
}

/* Thousands of simulated stores a minute each have one. */
static void test_small_is_cheap(void **state)
{
	struct bt_env env;
	struct btree t = {.env = &env};
	uint8_t key[64];

	mem_alloc_fail_at(0, false);
	env_make(&env, 0);
	assert_int_equal(mem_alloc_fail_at(0, false), 0); /* nothing before it is needed */
	for (unsigned i = 0; i < 100; i++)
		put(&t, key, key_make(key, i, 0, 3), 40);
	assert_true(env.bytes <= 64 * KIB);
	bt_drop(&t);
	bt_env_done(&env);
}

/* --- deletes --- */

/* What is deleted comes back: pages that hold little merge, whatever the order. */
static void test_delete_gives_back(void **state)
{
	struct bt_env env;
	struct btree t = {.env = &env};
	const unsigned n = 40000;
	uint64_t full;
	uint8_t key[64];

	env_make(&env, 0);
	for (unsigned i = 0; i < n; i++)
		put(&t, key, key_make(key, i, 0, 3), 70);
	full = env.pages;
	for (unsigned i = 0; i < n; i++) { /* all but each 20th, in a scattered order */
		unsigned j = i * 7919ull % n;

		if (j % 20 == 0)
			continue;
		assert_int_equal(bt_reserve(&env, 1, false), 0);
		assert_true(bt_del(&t, key, key_make(key, j, 0, 3)));
	}
	assert_int_equal(bt_check(&t, NULL), 0);
	assert_int_equal(t.items, n / 20);
	assert_true(env.pages <= full / 4);
	for (unsigned i = 0; i < 100; i++) /* and memory with them, a few slabs each time */
		assert_int_equal(bt_reserve(&env, 1, false), 0);
	assert_true(env.bytes <= full / 4 * BT_PAGE_BYTES + 5 * MIB);
	bt_drop(&t);
	bt_env_done(&env);
}

static unsigned empty_leaves(const struct bt_node *node)
{
	unsigned n = 0;

	if (node->level == 0)
		return pg_count(node->page) == 0;
	for (unsigned i = 0; i < pg_count(node->page); i++)
		n += empty_leaves(pg_child(node->page, i));
	return n;
}

static size_t group_key(uint8_t *key, unsigned group, unsigned i)
{
	memset(key, 'k', 200);
	key[3] = group;
	put_be(key + 198, i, 2);
	return 200;
}

/*
 * Full neighbours that strip a long prefix can't take over the range of an emptied page that lay
 * across two such prefixes: it stays, empty, until they can. Everything passes over it.
 */
static void test_emptied_between_full(void **state)
{
	const unsigned groups = 12, each = 1500, edge = 25;
	struct bt_env env;
	struct btree t = {.env = &env};
	struct bt_ref ref = {0};
	uint8_t key[BT_KEY_MAX];

	env_make(&env, 0);
	for (unsigned i = 0; i < groups * each; i++) {
		size_t n = group_key(key, i / each, i % each);

		put(&t, key, n, 0);
		bt_ref_put(&ref, key, n, NULL, 0);
	}
	for (unsigned i = 0; i < groups * each; i++) {
		size_t n = group_key(key, i / each, i % each);

		if (i % each >= edge && i % each < each - edge)
			continue;
		assert_int_equal(bt_reserve(&env, 1, false), 0);
		assert_true(bt_del(&t, key, n));
		bt_ref_del(&ref, key, n);
	}
	assert_true(empty_leaves(t.root) > 0);
	bt_ref_compare(&t, &ref);
	for (unsigned i = 0; i < groups * each; i++)
		bt_ref_probe(&t, &ref, key, group_key(key, i / each, i % each));
	while (ref.count > 0) {
		struct bt_ref_item *it = ref.item[hash_u64(ref.count) % ref.count];

		assert_int_equal(bt_reserve(&env, 1, false), 0);
		assert_true(bt_del(&t, it->bytes, it->key_len));
		bt_ref_del(&ref, it->bytes, it->key_len);
		if (ref.count == 60) /* a few a group: any neighbour has room */
			assert_int_equal(empty_leaves(t.root), 0);
	}
	assert_null(t.root);
	bt_ref_drop(&ref);
	bt_env_done(&env);
}

/* --- limit and reservation --- */

static void test_limit(void **state)
{
	const uint64_t limits[] = {64 * KIB, 100 * KIB, 1 * MIB, 5 * MIB + 4096};

	for (unsigned l = 0; l < ARRAY_LEN(limits); l++) {
		struct bt_env env;
		struct btree t = {.env = &env};
		uint64_t i = 0;
		uint8_t key[64];
		int r;

		env_make(&env, limits[l]);
		while ((r = bt_reserve(&env, 4, false)) == 0) {
			for (unsigned j = 0; j < 4; j++, i++)
				bt_put(&t, key, key_make(key, hash_u64(i), 0, 3), key, 60);
			assert_true(env.bytes <= limits[l]);
		}
		assert_int_equal(r, -ENOSPC);
		assert_true(env.bytes >= limits[l] / 2); /* the limit was there to be used */
		assert_int_equal(t.items, i);
		assert_int_equal(bt_check(&t, NULL), 0);
		/* Deletes go on, on the reserve where it holds a page, and make room again. */
		while (t.items > 0 && bt_reserve(&env, 4, false) < 0) {
			r = bt_reserve(&env, 1, true);
			if (limits[l] / 64 >= 64 * KIB)
				assert_int_equal(r, 0);
			else if (r < 0)
				break;
			assert_true(bt_del(&t, key, key_make(key, hash_u64(--i), 0, 3)));
			assert_true(env.bytes <= limits[l] + limits[l] / 64);
		}
		bt_drop(&t);
		assert_int_equal(bt_reserve(&env, 1, false), 0);
		assert_int_equal(env.overdrafts, 0);
		bt_env_done(&env);
	}
}

/* Out of memory at each allocation: the error comes from bt_reserve() alone, and nothing is lost.
 */
static void test_reserve_no_memory(void **state)
{
	for (uint64_t fail = 1; fail < 20; fail++) {
		struct bt_env env;
		struct btree t = {.env = &env};
		unsigned refused = 0, i = 0;
		uint8_t key[64];

		env_make(&env, 0);
		mem_alloc_fail_at(fail, false);
		while (i < 30000) {
			int r = bt_reserve(&env, 100, false);

			if (r < 0) {
				assert_int_equal(r, -ENOMEM);
				refused++;
				continue;
			}
			for (unsigned j = 0; j < 100; j++, i++)
				bt_put(&t, key, key_make(key, hash_u64(i), 0, 3), key, 60);
		}
		mem_alloc_fail_at(0, false);
		assert_true(refused <= 1);
		assert_int_equal(t.items, i);
		assert_int_equal(bt_check(&t, NULL), 0);
		assert_int_equal(env.overdrafts, 0);
		bt_drop(&t);
		bt_env_done(&env);
	}
}

/* The most that changes may take: the largest keys and values, everything shared beforehand. */
static void test_reserve_is_enough(void **state)
{
	static uint8_t key[BT_KEY_MAX], val[BT_VALUE_MAX];

	for (uint64_t seed = 0; seed < 40; seed++) {
		struct bt_env env;
		struct btree t = {.env = &env};
		struct rng r;

		env_make(&env, 0);
		rng_seed(&r, seed);
		for (unsigned b = 0; b < 25; b++) {
			unsigned c = 1 + rng_below(&r, b % 5 == 0 ? 800 : 8);
			struct btree view;

			assert_int_equal(bt_reserve(&env, c, false), 0);
			bt_clone(&view, &t);
			for (unsigned i = 0; i < c; i++) {
				memset(key, 'x', sizeof(key));
				if (seed % 4 <
				    2) /* differ early: long suffixes; late: long fences */
					put_be(key, rng_next(&r), 4);
				put_be(key + (seed % 2 ? 340 : 20), rng_next(&r), 8);
				if (seed % 4 == 3)
					put_be(key, seed * 1000000 + b * 10000 + i, 8);
				bt_put(&t, key, sizeof(key), val, sizeof(val));
			}
			assert_int_equal(env.overdrafts, 0);
			assert_int_equal(bt_check(&t, NULL), 0);
			bt_drop(&view);
		}
		bt_drop(&t);
		bt_env_done(&env);
	}
}

/* Not absurdly large either. */
static void test_reserve_is_modest(void **state)
{
	struct bt_env env;
	struct btree t = {.env = &env};
	uint8_t key[64];

	env_make(&env, 0);
	for (unsigned i = 0; i < 200000; i++)
		put(&t, key, key_make(key, i, 0, 3), 70);
	assert_int_equal(bt_reserve(&env, 1, false), 0);
	assert_true(env.reserved <= 2 * (t.root->level + 1u) + 1);
	assert_int_equal(bt_reserve(&env, 64, false), 0);
	assert_true(env.reserved <= 64 * 6);
	bt_drop(&t);
	bt_env_done(&env);
}

/* --- views --- */

struct seen {
	const struct bt_ref *ref;
	unsigned count;
	bool wanted;
	uint8_t key[64];
	size_t key_len;
};

static void see(void *arg, const uint8_t *key, size_t key_len, const uint8_t *val, size_t val_len)
{
	struct seen *s = arg;

	s->count++;
	s->wanted |= key_len == s->key_len && memcmp(key, s->key, key_len) == 0;
}

static void test_exclusive(void **state)
{
	struct bt_env env;
	struct btree t = {.env = &env}, view;
	struct seen s = {0};
	uint8_t key[64];

	env_make(&env, 0);
	bt_for_each_exclusive(&t, see, &s); /* empty */
	for (unsigned i = 0; i < 20000; i++)
		put(&t, key, key_make(key, i, 0, 3), 70);
	bt_for_each_exclusive(&t, see, &s);
	assert_int_equal(s.count, 20000);
	bt_clone(&view, &t);
	s.count = 0;
	bt_for_each_exclusive(&view, see, &s);
	assert_int_equal(s.count, 0); /* all is shared */
	s.key_len = key_make(s.key, 777, 0, 3);
	assert_int_equal(bt_reserve(&env, 1, false), 0);
	assert_true(bt_del(&t, s.key, s.key_len));
	bt_for_each_exclusive(&view, see, &s);
	assert_true(s.wanted && s.count > 0 && s.count < 100); /* the one leaf that differs */
	assert_int_equal(bt_check(&view, NULL), 0);
	bt_drop(&t);
	s.count = 0;
	bt_for_each_exclusive(&view, see, &s);
	assert_int_equal(s.count, 20000);
	bt_drop(&view);
	assert_int_equal(env.pages, 0);
	bt_env_done(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_sequential_fill),
	        cmocka_unit_test(test_budget_files),
	        cmocka_unit_test(test_budget_extents),
	        cmocka_unit_test(test_small_is_cheap),
	        cmocka_unit_test(test_delete_gives_back),
	        cmocka_unit_test(test_emptied_between_full),
	        cmocka_unit_test(test_limit),
	        cmocka_unit_test(test_reserve_no_memory),
	        cmocka_unit_test(test_reserve_is_enough),
	        cmocka_unit_test(test_reserve_is_modest),
	        cmocka_unit_test(test_exclusive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
