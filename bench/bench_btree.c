/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_btree - what the index costs: bytes of DRAM per file and per extent, and a look-up.
 *
 *   bench_btree [FILES [LOOKUPS]]
 *
 * A file is an object item with the key object id + kind (19 bytes; ids mostly ascend) and 70 bytes
 * of value, and a directory entry with a random name in one large directory (18 + 32 bytes) and 9
 * bytes of value. Extents are those of one large object: id, kind and offset (23 bytes), 13 bytes
 * of value, in order. For instructions per look-up, run it under callgrind with
 * --toggle-collect='look_*' and divide what it says of each by the look-ups.
 */
#include <stdio.h>

#include "store/local/bt_internal.h"

#define KEY_MAX 64

static size_t put_be(uint8_t *p, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		p[i] = v >> (8 * (bytes - 1 - i));
	return bytes;
}

static size_t object_key(uint64_t i, uint8_t key[KEY_MAX])
{
	size_t n = put_be(key, 1, 8);

	n += put_be(key + n, 1000 + i, 8);
	n += put_be(key + n, 0x010203, 3);
	return n;
}

/* The name is a function of @i, in hexadecimal. */
static size_t entry_key(uint64_t i, uint8_t key[KEY_MAX])
{
	size_t n = put_be(key, 1, 8);

	n += put_be(key + n, 7, 8);
	n += put_be(key + n, 0x0203, 2);
	snprintf((char *)key + n, KEY_MAX - n, "%016llx%016llx",
	         (unsigned long long)hash_u64(i * 2 + 1), (unsigned long long)hash_u64(i * 2 + 2));
	return n + 32;
}

static size_t extent_key(uint64_t i, uint8_t key[KEY_MAX])
{
	size_t n = put_be(key, 1, 8);

	n += put_be(key + n, 5, 8);
	n += put_be(key + n, 4, 1);
	n += put_be(key + n, i << 4, 6);
	return n;
}

static void put(struct btree *t, const uint8_t *key, size_t key_len, size_t val_len)
{
	static const uint8_t val[BT_VALUE_MAX];

	if (bt_reserve(t->env, 1, false) < 0)
		abort();
	bt_put(t, key, key_len, val, val_len);
}

struct sums {
	uint64_t pages[BT_DEPTH_MAX], used[BT_DEPTH_MAX], count[BT_DEPTH_MAX];
};

static void sum(const struct bt_node *node, struct sums *s)
{
	pst_assert(node);
	s->pages[node->level]++;
	s->used[node->level] += pg_used(node->page) + BT_HDR_BYTES;
	s->count[node->level] += pg_count(node->page);
	for (unsigned i = 0; node->level > 0 && i < pg_count(node->page); i++)
		sum(pg_child(node->page, i), s);
}

static void print_levels(const struct btree *t)
{
	struct sums s = {0};

	sum(t->root, &s);
	for (int l = t->root->level; l >= 0; l--)
		printf("  level %d: %8llu pages, %5.1f%% full, %.1f items a page\n", l,
		       (unsigned long long)s.pages[l],
		       100.0 * s.used[l] / (s.pages[l] * BT_PAGE_BYTES),
		       (double)s.count[l] / s.pages[l]);
}

/* One function for each kind, so that a profiler tells them apart. */
#define LOOK(kind)                                                                            \
	__attribute__((noinline)) static int look_get_##kind(                                 \
	        const struct btree *t, const uint8_t *key, size_t len, struct bt_hit *unused) \
	{                                                                                     \
		const void *val;                                                              \
		size_t val_len;                                                               \
                                                                                              \
		return bt_get(t, key, len, &val, &val_len);                                   \
	}                                                                                     \
	__attribute__((noinline)) static int look_le_##kind(                                  \
	        const struct btree *t, const uint8_t *key, size_t len, struct bt_hit *hit)    \
	{                                                                                     \
		return bt_find_le(t, key, len, hit);                                          \
	}
LOOK(objects)
LOOK(names)
LOOK(extents)

typedef int look_fn(const struct btree *t, const uint8_t *key, size_t len, struct bt_hit *hit);

static void lookups(const struct btree *t, uint64_t files, uint64_t n, const char *what,
                    size_t (*make)(uint64_t i, uint8_t key[KEY_MAX]), look_fn *le, look_fn *get)
{
	struct rng r;
	uint64_t from, ns_le = 0, ns_get = 0;
	uint8_t key[KEY_MAX];

	rng_seed(&r, 1);
	for (uint64_t i = 0; i < n; i++) {
		size_t len = make(rng_below(&r, files), key);
		struct bt_hit hit;

		from = clock_mono_ns();
		if (le(t, key, len, &hit) < 0 || hit.prefix_len + hit.suffix_len != len)
			abort();
		ns_le += clock_mono_ns() - from;
		from = clock_mono_ns();
		if (get(t, key, len, &hit) < 0)
			abort();
		ns_get += clock_mono_ns() - from;
	}
	printf("%s: %llu look-ups of each kind: find_le %.0f ns, cold; get %.0f ns, just after\n",
	       what, (unsigned long long)n, (double)ns_le / n, (double)ns_get / n);
}

int main(int argc, char **argv)
{
	uint64_t files = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000000;
	uint64_t n = argc > 2 ? strtoull(argv[2], NULL, 0) : 100000, from = clock_mono_ns();
	struct bt_env env = {0}, env2 = {0};
	struct btree t = {.env = &env}, extents = {.env = &env2};
	uint8_t key[KEY_MAX];

	if (bt_env_init(&env) < 0 || bt_env_init(&env2) < 0)
		return 1;
	for (uint64_t i = 0; i < files; i++) {
		/* Replies come back out of order: ids ascend but for that. */
		put(&t, key, object_key(i ^ (i / 2 % 7 == 0), key), 70);
		put(&t, key, entry_key(i, key), 9);
	}
	printf("%llu files (%llu items): %.1f bytes of DRAM each, %.0f ns to put both items\n",
	       (unsigned long long)files, (unsigned long long)t.items, (double)env.bytes / files,
	       (double)(clock_mono_ns() - from) / files);
	print_levels(&t);
	for (uint64_t i = 0; i < files; i++)
		put(&extents, key, extent_key(i, key), 13);
	printf("%llu extents: %.1f bytes of DRAM each\n", (unsigned long long)files,
	       (double)env2.bytes / files);
	print_levels(&extents);
	lookups(&t, files, n, "objects", object_key, look_le_objects, look_get_objects);
	lookups(&t, files, n, "names", entry_key, look_le_names, look_get_names);
	lookups(&extents, files, n, "extents", extent_key, look_le_extents, look_get_extents);
	bt_drop(&t);
	bt_drop(&extents);
	bt_env_done(&env);
	bt_env_done(&env2);
	return 0;
}
