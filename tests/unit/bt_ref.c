/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bt_ref - see bt_ref.h.
 */
#include <stdio.h>

#include "bt_ref.h"

static int cmp(const struct bt_ref_item *it, const void *key, size_t key_len)
{
	int c = memcmp(it->bytes, key, MIN(it->key_len, key_len));

	return c ? c : (it->key_len > key_len) - (it->key_len < key_len);
}

static void item_unref(struct bt_ref_item *it)
{
	if (--it->refs == 0)
		free(it);
}

size_t bt_ref_find(const struct bt_ref *ref, const void *key, size_t key_len, bool *ret_eq)
{
	size_t lo = 0, hi = ref->count;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (cmp(ref->item[mid], key, key_len) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret_eq = lo < ref->count && cmp(ref->item[lo], key, key_len) == 0;
	return lo;
}

void bt_ref_put(struct bt_ref *ref, const void *key, size_t key_len, const void *val,
                size_t val_len)
{
	struct bt_ref_item *it = malloc(sizeof(*it) + key_len + val_len);
	bool eq;
	size_t i = bt_ref_find(ref, key, key_len, &eq);

	pst_assert(it);
	it->refs = 1;
	it->key_len = key_len;
	it->val_len = val_len;
	memcpy(it->bytes, key, key_len);
	if (val_len)
		memcpy(it->bytes + key_len, val, val_len);
	if (eq) {
		item_unref(ref->item[i]);
		ref->item[i] = it;
		return;
	}
	if (ref->count == ref->cap) {
		ref->cap = ref->cap ? 2 * ref->cap : 64;
		ref->item = realloc(ref->item, ref->cap * sizeof(*ref->item));
		pst_assert(ref->item);
	}
	memmove(ref->item + i + 1, ref->item + i, (ref->count - i) * sizeof(*ref->item));
	ref->item[i] = it;
	ref->count++;
}

bool bt_ref_del(struct bt_ref *ref, const void *key, size_t key_len)
{
	bool eq;
	size_t i = bt_ref_find(ref, key, key_len, &eq);

	if (!eq)
		return false;
	item_unref(ref->item[i]);
	ref->count--;
	memmove(ref->item + i, ref->item + i + 1, (ref->count - i) * sizeof(*ref->item));
	return true;
}

void bt_ref_clone(struct bt_ref *copy, const struct bt_ref *ref)
{
	*copy = (struct bt_ref){.count = ref->count, .cap = ref->count};
	if (ref->count == 0)
		return;
	copy->item = malloc(ref->count * sizeof(*copy->item));
	pst_assert(copy->item);
	memcpy(copy->item, ref->item, ref->count * sizeof(*copy->item));
	for (size_t i = 0; i < ref->count; i++)
		ref->item[i]->refs++;
}

void bt_ref_drop(struct bt_ref *ref)
{
	for (size_t i = 0; i < ref->count; i++)
		item_unref(ref->item[i]);
	free(ref->item);
	*ref = (struct bt_ref){0};
}

static bool at(const struct bt_iter *it, const struct bt_ref *ref, size_t i)
{
	const struct bt_ref_item *item;

	if (i >= ref->count) /* also -1 */
		return !it->valid;
	item = ref->item[i];
	return it->valid && cmp(item, it->key, it->key_len) == 0 && it->val_len == item->val_len &&
	       memcmp(it->val, item->bytes + item->key_len, item->val_len) == 0;
}

static bool hit_is(const struct bt_hit *hit, const struct bt_ref_item *item)
{
	uint8_t key[BT_KEY_MAX];

	pst_assert(hit->prefix_len + hit->suffix_len <= BT_KEY_MAX);
	memcpy(key, hit->prefix, hit->prefix_len);
	memcpy(key + hit->prefix_len, hit->suffix, hit->suffix_len);
	return cmp(item, key, hit->prefix_len + hit->suffix_len) == 0 &&
	       hit->val_len == item->val_len &&
	       memcmp(hit->val, item->bytes + item->key_len, item->val_len) == 0;
}

void bt_ref_probe(const struct btree *t, const struct bt_ref *ref, const void *key, size_t key_len)
{
	bool eq;
	size_t i = bt_ref_find(ref, key, key_len, &eq), le = eq ? i : i - 1;
	struct bt_hit hit;
	struct bt_iter it;
	const void *val;
	size_t val_len;
	int r;

	r = bt_get(t, key, key_len, &val, &val_len);
	pst_assert(r == (eq ? 0 : -ENOENT));
	if (eq) {
		const struct bt_ref_item *item = ref->item[i];

		pst_assert(val_len == item->val_len &&
		           memcmp(val, item->bytes + item->key_len, val_len) == 0);
	}
	r = bt_find_le(t, key, key_len, &hit);
	pst_assert(r == (le < ref->count ? 0 : -ENOENT));
	pst_assert(r < 0 || hit_is(&hit, ref->item[le]));

	bt_seek(&it, t, key, key_len);
	pst_assert(at(&it, ref, i));
	if (it.valid) {
		bt_prev(&it);
		pst_assert(at(&it, ref, i - 1));
	}
	bt_seek_le(&it, t, key, key_len);
	pst_assert(at(&it, ref, le));
	if (it.valid) {
		bt_next(&it);
		pst_assert(at(&it, ref, le + 1));
	}
}

void bt_ref_compare(const struct btree *t, const struct bt_ref *ref)
{
	static const uint8_t last[BT_KEY_MAX + 1] = {[0 ... BT_KEY_MAX] = 0xff};
	struct pst_err err;
	struct bt_iter it;
	size_t i = 0;

	if (bt_check(t, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		pst_assert(!"bt_check");
	}
	pst_assert(t->items == ref->count && (t->root == NULL) == (ref->count == 0));
	for (bt_seek(&it, t, NULL, 0); it.valid; bt_next(&it))
		pst_assert(i < ref->count && at(&it, ref, i++));
	pst_assert(i == ref->count);
	for (bt_seek_le(&it, t, last, sizeof(last)); it.valid; bt_prev(&it))
		pst_assert(i > 0 && at(&it, ref, --i));
	pst_assert(i == 0);
}
