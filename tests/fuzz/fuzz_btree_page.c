/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_btree_page - an index page with any bytes and a valid checksum: what bt_page_check() lets
 * through must load, and be looked up, walked and changed like any other.
 *
 * The input is two bytes, the length of the page's beginning; the beginning; and the page's end.
 * What is between them is zero. The page is hung into a tree of empty neighbours that fit its
 * fences, and an inner page gets empty children.
 */
#include "store/local/bt_internal.h"

#include "bt_ref.h"
#include "fuzz.h"

#define ADDR        77
#define LEVEL_MAX   2 /* of pages that a tree is made of: higher ones would make the fuzzer slow */
#define CHANGES_MAX 300

static const struct bt_fence none;

/* A subtree of one page a level, without items. */
static struct bt_node *make_empty(struct bt_env *env, unsigned level, const struct bt_fence *lower,
                                  const struct bt_fence *upper)
{
	struct bt_node *node = bt_node_try_new(env, level), *child;

	pst_assert(node);
	pg_init(node->page, level, lower, upper, NULL, 0);
	if (level > 0) {
		child = make_empty(env, level - 1, lower, upper);
		pg_append(node->page, &(struct bt_key2){0}, &child, sizeof(child));
	}
	return node;
}

static void fence_from(struct bt_fence *f, const struct bt_key2 *key)
{
	f->len = key->a_len + key->b_len;
	memcpy(f->bytes, key->a, key->a_len);
	if (key->b_len)
		memcpy(f->bytes + key->a_len, key->b, key->b_len);
}

struct children {
	struct bt_env *env;
	const uint8_t *image;
	unsigned next;
};

/* Called for each slot in turn. */
static struct bt_node *child_of(void *arg, uint64_t addr)
{
	struct children *c = arg;
	struct bt_key2 key = pg_key(c->image, c->next);
	struct bt_fence lower, upper;

	pst_assert(addr == bt_page_child(c->image, c->next) && addr != 0);
	fence_from(&lower, &key);
	c->next++;
	if (c->next < pg_count(c->image)) {
		key = pg_key(c->image, c->next);
		fence_from(&upper, &key);
	} else {
		pg_get_upper(c->image, &upper);
	}
	return make_empty(c->env, pg_level(c->image) - 1, &lower, &upper);
}

/* The loaded page as a root, or below one that gives it the neighbours its fences ask for. */
static struct bt_node *hang_up(struct bt_env *env, struct bt_node *node)
{
	struct bt_fence lower, upper;
	struct bt_node *root, *left, *right;
	struct bt_key2 key = {0};

	pg_get_lower(node->page, &lower);
	pg_get_upper(node->page, &upper);
	if (lower.len == 0 && upper.len == 0)
		return node;
	root = bt_node_try_new(env, node->level + 1);
	pst_assert(root);
	pg_init(root->page, root->level, &none, &none, NULL, 0);
	if (lower.len > 0) {
		left = make_empty(env, node->level, &none, &lower);
		pg_append(root->page, &key, &left, sizeof(left));
		key = (struct bt_key2){.a = lower.bytes, .a_len = lower.len};
	}
	pg_append(root->page, &key, &node, sizeof(node));
	if (upper.len > 0) {
		right = make_empty(env, node->level, &upper, &none);
		key = (struct bt_key2){.a = upper.bytes, .a_len = upper.len};
		pg_append(root->page, &key, &right, sizeof(right));
	}
	return root;
}

/* A key near those of the tree: one of them, changed a little. */
static size_t near_key(struct rng *r, const struct bt_ref *ref, uint8_t key[BT_KEY_MAX])
{
	size_t len = 0;

	if (ref->count > 0 && rng_chance(r, 0.9)) {
		const struct bt_ref_item *it = ref->item[rng_below(r, ref->count)];

		len = it->key_len;
		memcpy(key, it->bytes, len);
	}
	if (len > 1 && rng_chance(r, 0.2))
		len--;
	if (len < BT_KEY_MAX && (len == 0 || rng_chance(r, 0.3)))
		key[len++] = rng_next(r);
	if (rng_chance(r, 0.3))
		key[rng_below(r, len)] = rng_next(r);
	return len;
}

static void exercise(struct btree *t, struct bt_ref *ref, struct rng *r)
{
	uint8_t key[BT_KEY_MAX], val[BT_VALUE_MAX] = {0};

	for (unsigned i = 0; i < CHANGES_MAX; i++) {
		size_t len = near_key(r, ref, key), val_len = rng_below(r, 30);

		if (rng_chance(r, 0.1))
			val_len = rng_below(r, BT_VALUE_MAX + 1);
		bt_ref_probe(t, ref, key, len);
		pst_assert(bt_reserve(t->env, 1, false) == 0);
		if (i > CHANGES_MAX / 2 || rng_chance(r, 0.3)) {
			pst_assert(bt_del(t, key, len) == bt_ref_del(ref, key, len));
			continue;
		}
		bt_put(t, key, len, val, val_len);
		bt_ref_put(ref, key, len, val, val_len);
	}
	bt_ref_compare(t, ref);
}

static void run_page(struct bt_env *env, const uint8_t *image)
{
	struct children c = {.env = env, .image = image};
	struct btree t = {.env = env}, view;
	struct bt_ref ref = {0};
	struct bt_node *node;
	struct bt_iter it;
	struct rng r;

	pst_assert(bt_node_load(env, &node, image, ADDR, child_of, &c, NULL) == 0);
	t.root = hang_up(env, node);
	t.items = pg_level(image) == 0 ? pg_count(image) : 0;
	for (bt_seek(&it, &t, NULL, 0); it.valid; bt_next(&it))
		bt_ref_put(&ref, it.key, it.key_len, it.val, it.val_len);
	pst_assert(ref.count == t.items);
	if (t.items == 0) { /* what no tree is */
		pst_assert(bt_reserve(env, 1, false) == 0);
		bt_put(&t, "k", 1, "v", 1);
		bt_ref_put(&ref, "k", 1, "v", 1);
	}
	bt_ref_compare(&t, &ref);
	bt_clone(&view, &t);
	rng_seed(&r, crc32c(0, image, BT_PAGE_BYTES));
	exercise(&t, &ref, &r);
	bt_drop(&view);
	bt_drop(&t);
	bt_ref_drop(&ref);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bt_env env = {.store_id = "fuzzing", .shard = 1};
	uint8_t image[BT_PAGE_BYTES] = {0};
	struct bt_page_hdr *h = pg_hdr(image);
	size_t begin;

	if (size < 2 || size - 2 > BT_PAGE_BYTES)
		return 0;
	begin = data[0] | data[1] << 8;
	size -= 2;
	begin = MIN(begin, size);
	memcpy(image, data + 2, begin);
	memcpy(image + BT_PAGE_BYTES - (size - begin), data + 2 + begin, size - begin);
	h->magic = le32_make(BT_MAGIC);
	h->version = le16_make(BT_VERSION);
	h->addr = le64_make(ADDR);
	memcpy(h->store_id, env.store_id, sizeof(h->store_id));
	h->shard = le32_make(env.shard);
	h->crc = le32_make(crc32c(0, image + 8, BT_PAGE_BYTES - 8));

	pst_assert(bt_env_init(&env) == 0);
	if (bt_page_check(&env, image, ADDR, NULL) == 0 && pg_level(image) <= LEVEL_MAX)
		run_page(&env, image);
	pst_assert(env.pages == 0 && env.overdrafts == 0);
	bt_env_done(&env);
	return 0;
}
