/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bt_iter - walking a tree in key order. An iterator holds its path from the root, and a copy of
 * the key it is at.
 */
#include "store/local/bt_internal.h"

/* Takes the item at the path's end; false when the slot is past the leaf's last. */
static bool iter_take(struct bt_iter *it)
{
	const uint8_t *page = it->path[it->depth - 1].node->page;
	unsigned slot = it->path[it->depth - 1].slot, prefix_len = pg_prefix_len(page);
	struct bt_rec rec;

	if (slot >= pg_count(page))
		return false;
	rec = pg_rec(page, slot);
	memcpy(it->key, pg_lower(page), prefix_len);
	memcpy(it->key + prefix_len, rec.suffix, rec.suffix_len);
	it->key_len = prefix_len + rec.suffix_len;
	it->val = rec.val;
	it->val_len = rec.val_len;
	it->valid = true;
	return true;
}

/* From the node at path[i] down along its first or last children; the leaf's slot is its first or
 * one past its last. */
static void iter_down(struct bt_iter *it, unsigned i, bool last)
{
	struct bt_node *node = it->path[i].node;

	for (;; i++) {
		unsigned n = pg_count(node->page);

		it->path[i].node = node;
		if (node->level == 0) {
			it->path[i].slot = last ? n : 0;
			return;
		}
		it->path[i].slot = last ? n - 1 : 0;
		node = pg_child(node->page, it->path[i].slot);
	}
}

/* To the next or the previous leaf; false at the end. */
static bool iter_leaf(struct bt_iter *it, bool back)
{
	for (unsigned i = it->depth - 1; i > 0; i--) {
		struct bt_node *parent = it->path[i - 1].node;
		unsigned *slot = &it->path[i - 1].slot;

		if (back ? *slot == 0 : *slot + 1 == pg_count(parent->page))
			continue;
		*slot += back ? -1 : 1;
		it->path[i].node = pg_child(parent->page, *slot);
		iter_down(it, i, back);
		return true;
	}
	return false;
}

/* At the slot the path is at, or the first of the leaves after it (some may be empty). */
static void iter_settle(struct bt_iter *it)
{
	it->valid = false;
	while (!iter_take(it)) {
		if (!iter_leaf(it, false))
			return;
	}
}

/* At the item before the slot that the path is at. */
static void iter_settle_back(struct bt_iter *it)
{
	it->valid = false;
	while (it->path[it->depth - 1].slot == 0) {
		if (!iter_leaf(it, true))
			return;
	}
	it->path[it->depth - 1].slot--;
	iter_take(it);
}

/* The path to the leaf whose fences hold @key; its slot is left to the caller. */
static struct bt_node *iter_descend(struct bt_iter *it, const struct btree *t, const void *key,
                                    size_t key_len)
{
	struct bt_node *node = t->root;
	unsigned i = 0;

	for (; node->level > 0; i++) {
		it->path[i].node = node;
		it->path[i].slot = pg_find_le(node->page, key, key_len);
		node = pg_child(node->page, it->path[i].slot);
	}
	it->path[i].node = node;
	it->depth = i + 1;
	return node;
}

static bool iter_init(struct bt_iter *it, const struct btree *t)
{
	it->tree = t;
	it->valid = false;
	it->depth = 0;
	return t->root != NULL;
}

void bt_seek(struct bt_iter *it, const struct btree *t, const void *key, size_t key_len)
{
	struct bt_node *leaf;
	bool eq;

	if (!iter_init(it, t))
		return;
	if (key_len == 0) {
		it->depth = t->root->level + 1;
		it->path[0].node = t->root;
		iter_down(it, 0, false);
	} else {
		leaf = iter_descend(it, t, key, key_len);
		it->path[it->depth - 1].slot = pg_find(leaf->page, key, key_len, &eq);
	}
	iter_settle(it);
}

void bt_seek_le(struct bt_iter *it, const struct btree *t, const void *key, size_t key_len)
{
	struct bt_node *leaf;

	if (!iter_init(it, t) || key_len == 0)
		return;
	leaf = iter_descend(it, t, key, key_len);
	it->path[it->depth - 1].slot = pg_find_le(leaf->page, key, key_len) + 1;
	iter_settle_back(it);
}

void bt_next(struct bt_iter *it)
{
	if (!it->valid)
		return;
	it->path[it->depth - 1].slot++;
	iter_settle(it);
}

void bt_prev(struct bt_iter *it)
{
	if (it->valid)
		iter_settle_back(it);
}
