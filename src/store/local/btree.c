/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * btree - the trees of the index: lookups, changes with copy-on-write, and views.
 *
 * A change goes down once, taking hold of each node on its way (hold): copying it if it is shared,
 * forgetting its address if it has one (btree.h, invariants 2 and 3). Splits then go up the path
 * taken, and so do merges. Whether a key is there is found out before: a change that changes
 * nothing must not copy.
 */
#include "store/local/bt_search.h"

struct path {
	struct bt_node *node[BT_DEPTH_MAX]; /* from the root */
	unsigned slot[BT_DEPTH_MAX];
	unsigned depth;
};

/* --- lookups --- */

/*
 * A look-up is pg_search() once a level. It is the hottest code of the index, so what is common is
 * written out here without a call.
 */

/*
 * In a large index the leaf is in memory, not in a cache. Its header and the heads of its slots, of
 * which it has about fifty, come in the time of one miss when they are asked for at once; a search
 * would meet three of them one after the other.
 */
static inline __attribute__((always_inline)) void leaf_fetch(const uint8_t *page)
{
#pragma GCC unroll 7
	for (unsigned at = 0; at < 7 * 64; at += 64)
		__builtin_prefetch(page + at);
}

/* From the root to @key's leaf. */
static inline __attribute__((always_inline)) const uint8_t *
descend(const struct bt_node *root, const uint8_t *key, const uint8_t *key_end)
{
	const uint8_t *page = root->page, *rest;
	const struct bt_slot *s;
	uint32_t head;
	bool eq;

	for (unsigned level = root->level; level > 0; level--) {
		if (likely(pg_chdr(page)->flags == 0) || !pg_is_beside(page, key, key_end, &s)) {
			rest = key + pg_prefix_len(page);
			head = key_head(key, rest, key_end);
			s = heads_le(pg_cslots(page), pg_count(page), head);
			if (unlikely(le32_get(s->head) == head)) /* never greater: rule P4 */
				s = pg_search_equal(page, s, rest, key_end, &eq);
		} else {
			pst_assert(s); /* only a leaf can be empty */
		}
		page = slot_child(page, s)->page;
		if (level == 1)
			leaf_fetch(page);
	}
	return page;
}

int bt_get(const struct btree *t, const void *key, size_t key_len, const void **ret_val,
           size_t *ret_val_len)
{
	const uint8_t *page, *rest, *end = (const uint8_t *)key + key_len;
	const struct bt_slot *s;
	struct bt_rec rec;
	uint32_t head;
	bool eq;
	int c = 1;

	if (unlikely(!t->root)) /* no key is less than one of no bytes: nothing is found */
		return -ENOENT;
	page = descend(t->root, key, end);
	if (likely(pg_chdr(page)->flags == 0)) {
		rest = (const uint8_t *)key + pg_prefix_len(page);
		head = key_head(key, rest, end);
		s = heads_le(pg_cslots(page), pg_count(page), head);
		if (le32_get(s->head) != head)
			return -ENOENT;
		c = slot_cmp(page, s, rest, end);
		if (c < 0)
			return -ENOENT;
	}
	if (unlikely(c != 0)) {
		s = pg_search(page, key, end, &eq);
		if (!eq)
			return -ENOENT;
	}
	rec = slot_rec(page, s);
	*ret_val = rec.val;
	*ret_val_len = rec.val_len;
	return 0;
}

static inline void hit_set(struct bt_hit *hit, const uint8_t *page, const struct bt_slot *slot)
{
	struct bt_rec rec = slot_rec(page, slot);

	*hit = (struct bt_hit){
	        .prefix = pg_lower(page),
	        .suffix = rec.suffix,
	        .val = rec.val,
	        .prefix_len = pg_prefix_len(page),
	        .suffix_len = rec.suffix_len,
	        .val_len = rec.val_len,
	};
}

/* The same on a page at the tree's edge, among equal heads, or when the leaf has nothing so small. */
static __attribute__((noinline)) int find_le_rare(const struct btree *t, const uint8_t *page,
                                                  const void *key, size_t key_len,
                                                  struct bt_hit *ret_hit)
{
	const struct bt_slot *s;
	struct bt_iter it;
	bool eq;

	s = pg_search(page, key, (const uint8_t *)key + key_len, &eq);
	if (!s) { /* the last of a leaf before */
		bt_seek_le(&it, t, key, key_len);
		if (!it.valid)
			return -ENOENT;
		page = it.path[it.depth - 1].node->page;
		s = pg_cslots(page) + it.path[it.depth - 1].slot;
	}
	hit_set(ret_hit, page, s);
	return 0;
}

int bt_find_le(const struct btree *t, const void *key, size_t key_len, struct bt_hit *ret_hit)
{
	const uint8_t *page, *rest, *end = (const uint8_t *)key + key_len;
	const struct bt_slot *s;
	uint32_t head;

	if (unlikely(!t->root)) /* no key is less than one of no bytes: nothing is found */
		return -ENOENT;
	page = descend(t->root, key, end);
	if (unlikely(pg_chdr(page)->flags != 0))
		return find_le_rare(t, page, key, key_len, ret_hit);
	rest = (const uint8_t *)key + pg_prefix_len(page);
	head = key_head(key, rest, end);
	s = heads_le(pg_cslots(page), pg_count(page), head);
	if (le32_get(s->head) >= head &&
	    (le32_get(s->head) > head || slot_cmp(page, s, rest, end) > 0))
		return find_le_rare(t, page, key, key_len, ret_hit);
	hit_set(ret_hit, page, s);
	return 0;
}

/* --- taking hold of a path --- */

static void children_ref(const uint8_t *page)
{
	for (unsigned i = 0; i < pg_count(page); i++)
		pg_child(page, i)->refs++;
}

/* @node, or a copy of it if it is shared, ready to be changed; takes the reference to @node. */
static struct bt_node *hold(struct bt_env *env, struct bt_node *node)
{
	struct bt_node *copy;

	if (node->refs == 1) {
		if (node->addr != 0)
			bt_node_dirty(env, node);
		return node;
	}
	copy = bt_node_new(env, node->level);
	memcpy(copy->page, node->page, BT_PAGE_BYTES);
	if (node->level > 0)
		children_ref(copy->page);
	node->refs--;
	env->copies++;
	return copy;
}

/* Goes down to @key's leaf, holding all on the way; the leaf's slot is left to the caller. */
static void path_hold(struct btree *t, const uint8_t *key, unsigned len, struct path *p)
{
	struct bt_node *node = t->root = hold(t->env, t->root), *child;
	unsigned i = 0;

	for (; node->level > 0; i++) {
		unsigned slot = pg_find_le(node->page, key, len);
		struct bt_node *below = pg_child(node->page, slot);

		p->node[i] = node;
		p->slot[i] = slot;
		child = hold(t->env, below);
		if (child != below)
			pg_set_child(node->page, slot, child);
		node = child;
	}
	p->node[i] = node;
	p->depth = i + 1;
}

/* --- put --- */

static void root_grow(struct btree *t, struct bt_node *right, const struct bt_fence *sep)
{
	struct bt_node *root = bt_node_new(t->env, t->root->level + 1);
	struct bt_key2 key = {.a = sep->bytes, .a_len = sep->len}, first = key;
	const uint8_t *left = t->root->page;
	static const struct bt_fence none;

	/* What the first key and the separator have in common, later keys may well have too. */
	if (pg_count(left) > pg_slot_first(left))
		first = pg_key(left, pg_slot_first(left));
	pg_init(root->page, root->level, &none, &none, sep->bytes,
	        key2_lcp(&first, sep->bytes, sep->len));
	pg_append(root->page, &(struct bt_key2){0}, &t->root, sizeof(t->root));
	pg_append(root->page, &key, &right, sizeof(right));
	t->root = root;
}

/* Inserts at the path's leaf, and what splits bring into the nodes above it. */
static void path_insert(struct btree *t, struct path *p, const uint8_t *key, unsigned len,
                        const void *val, unsigned val_len)
{
	struct bt_fence sep[2];
	struct bt_node *right[2];

	for (unsigned i = p->depth - 1, turn = 0;; i--, turn ^= 1) {
		struct bt_node *node = p->node[i];

		if (pg_try_insert(node->page, p->slot[i], key, len, val, val_len))
			return;
		right[turn] = bt_node_new(t->env, node->level);
		pg_split(node->page, right[turn]->page, p->slot[i], key, len, val, val_len,
		         &sep[turn]);
		if (i == 0) {
			root_grow(t, right[turn], &sep[turn]);
			return;
		}
		p->slot[i - 1]++;
		key = sep[turn].bytes;
		len = sep[turn].len;
		val = &right[turn];
		val_len = sizeof(right[turn]);
	}
}

void bt_put(struct btree *t, const void *key, size_t key_len, const void *val, size_t val_len)
{
	struct path p;
	unsigned slot;
	bool eq;

	pst_assert(key_len > 0 && key_len <= BT_KEY_MAX && val_len <= BT_VALUE_MAX);
	if (!t->root) {
		static const struct bt_fence none;

		t->root = bt_node_new(t->env, 0);
		pg_init(t->root->page, 0, &none, &none, NULL, 0);
	}
	path_hold(t, key, key_len, &p);
	slot = p.slot[p.depth - 1] = pg_find(p.node[p.depth - 1]->page, key, key_len, &eq);
	if (eq) {
		uint8_t *page = p.node[p.depth - 1]->page;
		struct bt_rec rec = pg_rec(page, slot);

		if (rec.val_len == val_len) {
			if (val_len)
				memcpy(page + (rec.val - page), val, val_len);
			return;
		}
		pg_remove(page, slot);
		t->items--;
	}
	path_insert(t, &p, key, key_len, val, val_len);
	t->items++;
}

int bt_get_mut(struct btree *t, const void *key, size_t key_len, void **ret_val,
               size_t *ret_val_len)
{
	struct path p;
	uint8_t *page;
	struct bt_rec rec;
	unsigned slot;
	bool eq;

	if (!t->root)
		return -ENOENT;
	path_hold(t, key, key_len, &p);
	page = p.node[p.depth - 1]->page;
	slot = pg_find(page, key, key_len, &eq);
	if (!eq)
		return -ENOENT;
	rec = pg_rec(page, slot);
	*ret_val = page + (rec.val - page);
	*ret_val_len = rec.val_len;
	return 0;
}

/* --- delete --- */

/* Merges the children at @slot and @slot + 1 of @parent into the one of them that is @keep. */
static bool merge_children(struct bt_env *env, struct bt_node *parent, unsigned slot,
                           struct bt_node *keep, unsigned used_max)
{
	struct bt_node *left = pg_child(parent->page, slot);
	struct bt_node *right = pg_child(parent->page, slot + 1);
	struct bt_node *gone = left == keep ? right : left;
	uint8_t merged[BT_PAGE_BYTES];

	if (!pg_merge(merged, left->page, right->page, used_max))
		return false;
	if (gone->level > 0)
		children_ref(gone->page); /* dropped again with it, if it goes */
	bt_node_unref(env, gone);
	memcpy(keep->page, merged, BT_PAGE_BYTES);
	pg_remove(parent->page, slot + 1);
	pg_set_child(parent->page, slot, keep);
	return true;
}

/* Merges the path's node at @i with a neighbour if it holds little; true when its parent changed.
 */
static bool path_merge(struct btree *t, struct path *p, unsigned i)
{
	struct bt_node *node = p->node[i], *parent = p->node[i - 1];
	unsigned slot = p->slot[i - 1], count = pg_count(node->page);
	unsigned used = pg_live(node->page) + count * BT_SLOT_BYTES;
	unsigned used_max = count == 0 ? BT_BODY_BYTES : BT_MERGE_FULL;

	if (used >= BT_MERGE_BELOW)
		return false;
	if (slot > 0 && merge_children(t->env, parent, slot - 1, node, used_max))
		return true;
	return slot + 1 < pg_count(parent->page) &&
	       merge_children(t->env, parent, slot, node, used_max);
}

/* A root with one child gives way to it. */
static void root_shrink(struct btree *t)
{
	while (t->root->level > 0 && pg_count(t->root->page) == 1) {
		struct bt_node *child = pg_child(t->root->page, 0);

		child->refs++;
		bt_node_unref(t->env, t->root);
		t->root = child;
	}
}

bool bt_del(struct btree *t, const void *key, size_t key_len)
{
	const void *val;
	size_t val_len;
	struct path p;
	uint8_t *page;
	bool eq;

	if (bt_get(t, key, key_len, &val, &val_len) < 0)
		return false;
	if (t->items == 1) {
		bt_drop(t);
		return true;
	}
	path_hold(t, key, key_len, &p);
	page = p.node[p.depth - 1]->page;
	pg_remove(page, pg_find(page, key, key_len, &eq));
	t->items--;
	for (unsigned i = p.depth - 1; i > 0 && path_merge(t, &p, i); i--)
		;
	root_shrink(t);
	return true;
}

/* --- views --- */

void bt_clone(struct btree *view, const struct btree *t)
{
	*view = *t;
	if (view->root)
		view->root->refs++;
}

void bt_drop(struct btree *t)
{
	struct bt_node *root = t->root;

	t->root = NULL;
	t->items = 0;
	if (root)
		bt_node_unref(t->env, root);
}

struct visit {
	void (*fn)(void *arg, const uint8_t *key, size_t key_len, const uint8_t *val,
	           size_t val_len);
	void *arg;
};

/* Recurses once a level. */
static void visit_exclusive(const struct bt_node *node, const struct visit *v)
{
	const uint8_t *page = node->page;

	if (node->refs > 1)
		return;
	for (unsigned i = 0; i < pg_count(page); i++) {
		uint8_t key[BT_KEY_MAX];
		struct bt_rec rec;

		if (node->level > 0) {
			visit_exclusive(pg_child(page, i), v);
			continue;
		}
		rec = pg_rec(page, i);
		memcpy(key, pg_lower(page), pg_prefix_len(page));
		memcpy(key + pg_prefix_len(page), rec.suffix, rec.suffix_len);
		v->fn(v->arg, key, pg_prefix_len(page) + rec.suffix_len, rec.val, rec.val_len);
	}
}

void bt_for_each_exclusive(const struct btree *t,
                           void (*fn)(void *arg, const uint8_t *key, size_t key_len,
                                      const uint8_t *val, size_t val_len),
                           void *arg)
{
	if (t->root)
		visit_exclusive(t->root, &(struct visit){fn, arg});
}

/* --- walking --- */

struct walk {
	bool (*enter)(void *arg, struct bt_node *node);
	void (*item)(void *arg, const uint8_t *key, size_t key_len, const uint8_t *val,
	             size_t val_len);
	void *arg;
};

static void walk_items(const uint8_t *page, const struct walk *w)
{
	uint8_t key[BT_KEY_MAX];

	memcpy(key, pg_lower(page), pg_prefix_len(page));
	for (unsigned i = 0; i < pg_count(page); i++) {
		struct bt_rec rec = pg_rec(page, i);

		memcpy(key + pg_prefix_len(page), rec.suffix, rec.suffix_len);
		w->item(w->arg, key, pg_prefix_len(page) + rec.suffix_len, rec.val, rec.val_len);
	}
}

/* Recurses once a level. */
static void walk_node(struct bt_node *node, const struct walk *w)
{
	if (!w->enter(w->arg, node))
		return;
	if (node->level == 0) {
		if (w->item)
			walk_items(node->page, w);
		return;
	}
	for (unsigned i = 0; i < pg_count(node->page); i++)
		walk_node(pg_child(node->page, i), w);
}

void bt_walk(const struct btree *t, bool (*enter)(void *arg, struct bt_node *node),
             void (*item)(void *arg, const uint8_t *key, size_t key_len, const uint8_t *val,
                          size_t val_len),
             void *arg)
{
	if (t->root)
		walk_node(t->root, &(struct walk){enter, item, arg});
}
