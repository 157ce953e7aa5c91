/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The index: random changes, views and round trips to media against a sorted array; reservation,
 * limits, and memory. The page format and damaged pages are in test_btree_page.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "store/local/bt_internal.h"

#include "bt_ref.h"

/* --- a device for pages: addresses are indexes, each assigned once --- */

#define ADDRS_MAX 400000

enum addr_state {
	ADDR_NONE,
	ADDR_LIVE,
	ADDR_RELEASED,
};

static struct media {
	uint8_t state[ADDRS_MAX];
	uint8_t *image[ADDRS_MAX];
	uint64_t next, live;
} media;

static void media_release(struct bt_env *env, uint64_t addr)
{
	assert_true(addr < media.next);
	assert_int_equal(media.state[addr], ADDR_LIVE); /* once, and only what was assigned */
	media.state[addr] = ADDR_RELEASED;
	media.live--;
	free(media.image[addr]);
	media.image[addr] = NULL;
}

static uint64_t media_assign(void *arg)
{
	assert_true(media.next < ADDRS_MAX);
	media.state[media.next] = ADDR_LIVE;
	media.live++;
	return media.next++;
}

static void media_emit(void *arg, struct bt_node *node, uint64_t addr)
{
	struct bt_env *env = arg;

	assert_int_equal(node->addr, addr);
	media.image[addr] = malloc(BT_PAGE_BYTES);
	assert_non_null(media.image[addr]);
	bt_page_seal(env, node, 7, 3, media.image[addr]);
	assert_int_equal(bt_page_check(env, media.image[addr], addr, NULL), 0);
}

static void media_reset(void)
{
	for (uint64_t i = 0; i < media.next; i++)
		free(media.image[i]);
	memset(&media, 0, sizeof(media));
	media.next = 1;
}

static void env_make(struct bt_env *env)
{
	*env = (struct bt_env){.release = media_release, .store_id = "storeid", .shard = 5};
	assert_int_equal(bt_env_init(env), 0);
}

/* --- random keys and values --- */

enum shape {
	SHAPE_BINARY,  /* short, of few byte values: zeros, 0xff, prefixes of one another */
	SHAPE_RUN,     /* one byte repeated: each a prefix of the longer */
	SHAPE_SHARED,  /* a long common prefix */
	SHAPE_LONGEST, /* as long as can be, differing near the end or the beginning */
	SHAPE_OBJECTS, /* as the engine's: object id, kind, more */
	SHAPE_MIXED,
	SHAPES,
};

static size_t key_objects(struct rng *r, uint8_t *key)
{
	uint64_t id = rng_below(r, 300) * (rng_chance(r, 0.02) ? 0x10001 : 1);
	size_t len = 17;

	memset(key, 0, 16);
	for (int i = 0; i < 8; i++)
		key[8 + i] = id >> (56 - 8 * i);
	key[16] = rng_below(r, 3);
	for (uint64_t n = rng_below(r, 6); n > 0; n--)
		key[len++] = rng_below(r, 4);
	return len;
}

static size_t key_random(struct rng *r, enum shape shape, uint8_t key[BT_KEY_MAX])
{
	static const uint8_t few[] = {0, 0, 1, 'a', 0xfe, 0xff, 0xff};
	size_t len;

	switch (shape) {
	case SHAPE_BINARY:
		len = 1 + rng_below(r, 9);
		for (size_t i = 0; i < len; i++)
			key[i] = few[rng_below(r, sizeof(few))];
		return len;
	case SHAPE_RUN:
		len = 1 + rng_below(r, BT_KEY_MAX);
		memset(key, few[rng_below(r, sizeof(few))], len);
		return len;
	case SHAPE_SHARED:
		memset(key, 'p', 60);
		len = 40 + rng_below(r, 24);
		for (size_t i = 40; i < len; i++)
			key[i] = rng_chance(r, 0.7) ? 'p' : rng_below(r, 256);
		return len;
	case SHAPE_LONGEST:
		len = BT_KEY_MAX - (rng_chance(r, 0.2) ? rng_below(r, 3) : 0);
		memset(key, few[rng_below(r, sizeof(few))], len);
		key[rng_below(r, 3)] = rng_below(r, 8);
		key[len - 1 - rng_below(r, 3)] = rng_below(r, 256);
		return len;
	case SHAPE_OBJECTS:
		return key_objects(r, key);
	default:
		return key_random(r, rng_below(r, SHAPE_MIXED), key);
	}
}

static size_t val_random(struct rng *r, uint8_t val[BT_VALUE_MAX])
{
	size_t len = rng_below(r, 10);

	if (len == 9)
		len = BT_VALUE_MAX - rng_below(r, 2) * rng_below(r, BT_VALUE_MAX);
	else
		len = len < 3 ? 0 : rng_below(r, 80);
	for (size_t i = 0; i < len; i++)
		val[i] = rng_next(r);
	return len;
}

/* --- the random test --- */

#define VIEWS_MAX 5

struct world {
	struct bt_env env;
	struct rng rng;
	enum shape shape;
	struct btree live, view[VIEWS_MAX];
	struct bt_ref ref, view_ref[VIEWS_MAX];
	bool has_view[VIEWS_MAX];
};

static void reserve(struct bt_env *env, unsigned changes)
{
	assert_int_equal(bt_reserve(env, changes, false), 0);
}

static void change(struct world *w)
{
	uint8_t key[BT_KEY_MAX], val[BT_VALUE_MAX];
	size_t key_len = key_random(&w->rng, w->shape, key), val_len;
	uint64_t what = rng_below(&w->rng, 10);

	if (what < 3 && w->ref.count > 0) { /* delete what is there */
		const struct bt_ref_item *it = w->ref.item[rng_below(&w->rng, w->ref.count)];

		key_len = it->key_len;
		memcpy(key, it->bytes, key_len);
	}
	if (what < 4) {
		assert_int_equal(bt_del(&w->live, key, key_len), bt_ref_del(&w->ref, key, key_len));
	} else if (what < 5) {
		size_t len;
		void *p;
		bool eq;

		bt_ref_find(&w->ref, key, key_len, &eq);
		assert_int_equal(bt_get_mut(&w->live, key, key_len, &p, &len), eq ? 0 : -ENOENT);
		if (eq) {
			for (size_t i = 0; i < len; i++)
				((uint8_t *)p)[i] = rng_next(&w->rng);
			memcpy(val, p, len);
			bt_ref_put(&w->ref, key, key_len, val, len);
		}
	} else {
		val_len = val_random(&w->rng, val);
		bt_put(&w->live, key, key_len, val, val_len);
		bt_ref_put(&w->ref, key, key_len, val, val_len);
	}
}

static void view_toggle(struct world *w)
{
	unsigned i = rng_below(&w->rng, VIEWS_MAX);

	if (!w->has_view[i]) {
		bt_clone(&w->view[i], &w->live);
		bt_ref_clone(&w->view_ref[i], &w->ref);
	} else {
		bt_ref_compare(&w->view[i], &w->view_ref[i]);
		bt_drop(&w->view[i]);
		bt_ref_drop(&w->view_ref[i]);
	}
	w->has_view[i] = !w->has_view[i];
}

static uint64_t mark(const struct bt_node *node, uint8_t *seen)
{
	uint64_t n = 0;

	if (node->addr != 0 && !seen[node->addr]) {
		seen[node->addr] = 1;
		assert_int_equal(media.state[node->addr], ADDR_LIVE);
		n = 1;
	}
	for (unsigned i = 0; node->level > 0 && i < pg_count(node->page); i++)
		n += mark(pg_child(node->page, i), seen);
	return n;
}

/* Every address is either released, once, or some node's. */
static void check_addrs(const struct world *w)
{
	static uint8_t seen[ADDRS_MAX];
	uint64_t n = 0;

	memset(seen, 0, media.next);
	if (w->live.root)
		n += mark(w->live.root, seen);
	for (unsigned i = 0; i < VIEWS_MAX; i++) {
		if (w->has_view[i] && w->view[i].root)
			n += mark(w->view[i].root, seen);
	}
	assert_int_equal(n, media.live);
}

/* Loads each page once, as an engine would: children before parents. */
struct loader {
	struct bt_env *env;
	struct bt_node *node[ADDRS_MAX];
};

static struct bt_node *loaded_child(void *arg, uint64_t addr)
{
	struct loader *l = arg;

	if (l->node[addr])
		l->node[addr]->refs++;
	return l->node[addr];
}

static void load(struct loader *l, uint64_t addr)
{
	const uint8_t *image = media.image[addr];

	assert_non_null(image);
	if (l->node[addr])
		return;
	assert_int_equal(bt_page_check(l->env, image, addr, NULL), 0);
	for (unsigned i = 0; bt_page_level(image) > 0 && i < bt_page_count(image); i++)
		load(l, bt_page_child(image, i));
	assert_int_equal(bt_node_load(l->env, &l->node[addr], image, addr, loaded_child, l, NULL),
	                 0);
}

/* Writes a view of the live tree, loads it in another env, and compares. */
static void round_trip(struct world *w)
{
	static struct loader l;
	struct bt_env env;
	struct btree view, again = {.env = &env};
	struct bt_node *root;

	bt_clone(&view, &w->live);
	if (!view.root)
		return;
	bt_dirty_assign(&view, 7, 3, media_assign, media_emit, &w->env);
	assert_int_equal(bt_dirty_count(&view), 0);
	env_make(&env);
	env.release = NULL;
	memset(&l, 0, sizeof(l));
	l.env = &env;
	load(&l, view.root->addr);
	root = l.node[view.root->addr];
	root->refs++;
	assert_int_equal(bt_adopt(&again, root, view.items, NULL), 0);
	for (uint64_t i = 0; i < media.next; i++) {
		if (l.node[i])
			bt_node_unref(&env, l.node[i]);
	}
	bt_ref_compare(&again, &w->ref);
	bt_drop(&again);
	assert_int_equal(env.pages, 0);
	bt_env_done(&env);
	bt_drop(&view);
}

static void run_seed(uint64_t seed, unsigned batches)
{
	static struct world w;

	memset(&w, 0, sizeof(w));
	media_reset();
	env_make(&w.env);
	rng_seed(&w.rng, seed);
	w.shape = seed % SHAPES;
	w.live.env = &w.env;
	for (unsigned b = 0; b < batches; b++) {
		unsigned n = 1 + rng_below(&w.rng, 60);

		if (rng_chance(&w.rng, 0.3))
			view_toggle(&w);
		reserve(&w.env, n);
		while (n-- > 0)
			change(&w);
		assert_int_equal(w.env.overdrafts, 0);
		bt_ref_compare(&w.live, &w.ref);
		for (unsigned i = 0; i < 20; i++) {
			uint8_t key[BT_KEY_MAX];

			bt_ref_probe(&w.live, &w.ref, key, key_random(&w.rng, w.shape, key));
		}
		if (rng_chance(&w.rng, 0.1))
			round_trip(&w);
		check_addrs(&w);
	}
	while (w.ref.count > 0) { /* down to nothing, in random order */
		size_t i = rng_below(&w.rng, w.ref.count);
		struct bt_ref_item *it = w.ref.item[i];

		reserve(&w.env, 1);
		assert_true(bt_del(&w.live, it->bytes, it->key_len));
		bt_ref_del(&w.ref, it->bytes, it->key_len);
		if (w.ref.count % 64 == 0)
			bt_ref_compare(&w.live, &w.ref);
	}
	assert_null(w.live.root);
	for (unsigned i = 0; i < VIEWS_MAX; i++) {
		if (!w.has_view[i])
			continue;
		bt_ref_compare(&w.view[i], &w.view_ref[i]);
		bt_drop(&w.view[i]);
		bt_ref_drop(&w.view_ref[i]);
	}
	bt_ref_drop(&w.ref);
	assert_int_equal(w.env.pages, 0);
	assert_int_equal(media.live, 0);
	assert_int_equal(w.env.overdrafts, 0);
	bt_env_done(&w.env);
}

static void test_random(void **state)
{
	const char *only = getenv("BTREE_SEED"), *seeds = getenv("BTREE_SEEDS");
	uint64_t n = seeds ? strtoull(seeds, NULL, 0) : 60;

	for (uint64_t seed = 0; seed < n; seed++) {
		if (only)
			seed = strtoull(only, NULL, 0);
		print_message("# seed %llu (replay: BTREE_SEED=%llu)\n", (unsigned long long)seed,
		              (unsigned long long)seed);
		run_seed(seed, 30 + seed % 7 * 20);
		if (only)
			break;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_random),
	};

	media.next = 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
