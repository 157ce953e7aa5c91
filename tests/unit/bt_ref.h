/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bt_ref - what a tree ought to hold: a sorted array, too simple to be wrong, and the comparisons
 * with it. Used by the unit test and the fuzzers of the index; a difference ends the process.
 */
#ifndef TESTS_UNIT_BT_REF_H
#define TESTS_UNIT_BT_REF_H

#include "store/local/btree.h"

struct bt_ref_item {
	unsigned refs, key_len, val_len;
	uint8_t bytes[]; /* key, then value */
};

struct bt_ref {
	struct bt_ref_item **item;
	size_t count, cap;
};

void bt_ref_put(struct bt_ref *ref, const void *key, size_t key_len, const void *val,
                size_t val_len);
bool bt_ref_del(struct bt_ref *ref, const void *key, size_t key_len);
/* The index of the first key >= @key; *ret_eq: it is @key. */
size_t bt_ref_find(const struct bt_ref *ref, const void *key, size_t key_len, bool *ret_eq);
void bt_ref_clone(struct bt_ref *copy, const struct bt_ref *ref); /* shares the items */
void bt_ref_drop(struct bt_ref *ref);

/* Everything that can be asked about @key. */
void bt_ref_probe(const struct btree *t, const struct bt_ref *ref, const void *key, size_t key_len);
/* The whole tree, in both directions, and bt_check(). */
void bt_ref_compare(const struct btree *t, const struct bt_ref *ref);

#endif
