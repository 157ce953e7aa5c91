/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * btree - the index: an ordered map from byte strings to byte strings, in DRAM, in pages that are
 * written to the device as they are. Copy-on-write, so that a view of it is taken in constant time:
 * that is how a snapshot and a checkpoint see one moment while the live tree moves on.
 *
 * Terms. A *page* is 4096 bytes, the same in DRAM and on media but for child references (DRAM: node
 * pointers; media: block addresses). A *node* is a page and its bookkeeping. A *tree* is a root.
 *
 * Invariants.
 *  1. A node has one reference from each parent node or tree that points at it.
 *  2. A page is changed only while its node, and every node above it, has exactly one reference; a
 *     descent that means to change copies what is shared (the copy's children gain a reference).
 *  3. node->addr is where the page lies on media, 0 if its present content was never written. A
 * node with an addr has only such children. Changing a page makes its addr 0 and releases the old
 * one.
 *  4. Keys of a page lie in [lower fence, upper fence); their common prefix is stored once.
 *  5. No function below fails for want of memory after bt_reserve() granted it.
 *
 * Keys compare as memcmp, a prefix before what it begins. A key has 1 to BT_KEY_MAX bytes, a value
 * up to BT_VALUE_MAX; a page always has room for at least three of the largest.
 *
 * Thread: one. Nothing here does I/O.
 */
#ifndef STORE_LOCAL_BTREE_H
#define STORE_LOCAL_BTREE_H

#include "base/base.h"

#define BT_PAGE_BYTES 4096
#define BT_KEY_MAX    352
#define BT_VALUE_MAX  512
#define BT_DEPTH_MAX  12

#define BT_GRACE_MIN_BYTES (4u << 20)

struct bt_node {
	uint32_t refs;
	uint16_t level; /* 0: leaf */
	uint16_t flags; /* private */
	uint64_t addr;  /* block address on media, 0: dirty */
	uint8_t *page;  /* BT_PAGE_BYTES, BT_PAGE_BYTES-aligned */
};

/* The memory that trees of one shard draw on, and what they tell the engine. */
struct bt_env {
	/* An on-media page is no longer used by any node in DRAM (its node went or was changed). */
	void (*release)(struct bt_env *env, uint64_t addr);
	uint64_t limit_bytes; /* of DRAM for nodes and pages; 0: none */
	/* Read-only for others: */
	uint64_t bytes;  /* DRAM taken: pages in use plus bookkeeping, free pages included */
	uint64_t pages;  /* nodes in use */
	uint64_t copies; /* pages copied on write, ever */
	/* Identity, put in and checked against each page header: */
	uint8_t store_id[8];
	uint32_t shard;
	/* Pages taken beyond the reservation because a caller changed trees without one: 0. */
	uint64_t overdrafts;
	/* private */
	struct list slabs;                  /* with free pages; those with nothing but free last */
	struct list full;                   /* without */
	uint64_t free_count;                /* pages */
	uint64_t reserved;                  /* of them, by bt_reserve() */
	uint64_t level_pages[BT_DEPTH_MAX]; /* nodes in use, by level */
};

int bt_env_init(struct bt_env *env);  /* identity, limit and release already set; 0 or -ENOMEM */
void bt_env_done(struct bt_env *env); /* all trees dropped (asserted) */
uint64_t bt_env_used(const struct bt_env *env); /* bytes, without the free pages */

struct btree {
	struct bt_env *env;
	struct bt_node *root; /* NULL: empty */
	uint64_t items;
};

/*
 * bt_reserve - makes sure that @changes puts or deletes on trees of @env can't fail, for a tree
 * of up to BT_DEPTH_MAX levels as they are now. 0, -ENOMEM, or -ENOSPC when limit_bytes would be
 * passed
 * (@over_limit lets deletes use a reserve above it: 1/64 of the limit, BT_GRACE_MIN_BYTES at least). The reservation holds
 * until the next bt_reserve(), and for one tree among those that share nodes. A clone before the
 * first change is covered; one taken between the changes is not: reserve again after it. Memory
 * that was freed goes back here, a few slabs a call. How much c changes take is derived at the head
 * of bt_env.c.
 */
int bt_reserve(struct bt_env *env, unsigned changes, bool over_limit);

/* The same heedless of limit_bytes: for changes that must go on, as those of a checkpoint. 0 or
 * -ENOMEM. */
int bt_reserve_beyond(struct bt_env *env, unsigned changes);

/* *ret_val points into a page and is valid until the tree changes. -ENOENT when absent. */
int bt_get(const struct btree *t, const void *key, size_t key_len, const void **ret_val,
           size_t *ret_val_len);
/* The same for writing in place (length kept): copies what is shared, marks it dirty. Reserved for.
 */
int bt_get_mut(struct btree *t, const void *key, size_t key_len, void **ret_val,
               size_t *ret_val_len);
/* Inserts, or replaces the value. */
void bt_put(struct btree *t, const void *key, size_t key_len, const void *val, size_t val_len);
bool bt_del(struct btree *t, const void *key, size_t key_len); /* false when absent */

/* --- iteration: valid until the tree changes --- */

struct bt_iter {
	const struct btree *tree;
	struct {
		struct bt_node *node;
		unsigned slot;
	} path[BT_DEPTH_MAX];
	unsigned depth;
	bool valid;
	size_t key_len, val_len;
	const void *val; /* into the page */
	uint8_t key[BT_KEY_MAX];
};
/* At the first key >= @key (key_len 0: the first of all); it->valid false when there is none. */
void bt_seek(struct bt_iter *it, const struct btree *t, const void *key, size_t key_len);
/* At the last key <= @key. */
void bt_seek_le(struct bt_iter *it, const struct btree *t, const void *key, size_t key_len);
void bt_next(struct bt_iter *it);
void bt_prev(struct bt_iter *it);
/*
 * The fast form of bt_seek_le for lookups: the greatest key <= @key, without building an iterator.
 * *ret_key_suffix/len: the part of the found key after the page's prefix; the full key is prefix +
 * suffix; *ret_prefix/len points into the page. -ENOENT when there is none.
 */
struct bt_hit {
	const uint8_t *prefix, *suffix, *val;
	uint16_t prefix_len, suffix_len, val_len;
};
int bt_find_le(const struct btree *t, const void *key, size_t key_len, struct bt_hit *ret_hit);

/* --- views --- */

/* @view becomes a second tree with the same content, in constant time. */
void bt_clone(struct btree *view, const struct btree *t);
/* Gives up the tree's reference: nodes that nobody else holds are freed, their addrs released. */
void bt_drop(struct btree *t);
/*
 * Visits the leaves that only @t holds: those reached over nodes with one reference each. What
 * bt_drop() would free. @fn gets the tree's own items one by one (full key).
 */
void bt_for_each_exclusive(const struct btree *t,
                           void (*fn)(void *arg, const uint8_t *key, size_t key_len,
                                      const uint8_t *val, size_t val_len),
                           void *arg);

/*
 * Walks all nodes of @t, parents first. @enter says whether to look into a node (false: it and all
 * below it are passed over: it was seen in another tree); @item gets the items of the leaves that
 * were entered (NULL: none wanted). Depth is bounded by BT_DEPTH_MAX.
 */
void bt_walk(const struct btree *t, bool (*enter)(void *arg, struct bt_node *node),
             void (*item)(void *arg, const uint8_t *key, size_t key_len, const uint8_t *val,
                          size_t val_len),
             void *arg);
/* In bt_node.flags, for the walkers' use: always clear between walks. */
#define BT_NODE_SEEN 0x8000u

/* --- to and from media --- */

/*
 * bt_dirty_count: how many nodes of @t have no address. bt_dirty_assign: for each of them, children
 * first, calls @assign, stores what it returns (never 0) in node->addr, and hands the node to
 * @emit, which seals it (bt_page_seal) into a buffer to write. @t must be a view that nobody
 * changes.
 */
uint64_t bt_dirty_count(const struct btree *t);
void bt_dirty_assign(const struct btree *t, uint64_t gen, uint32_t cont,
                     uint64_t (*assign)(void *arg),
                     void (*emit)(void *arg, struct bt_node *node, uint64_t addr), void *arg);
/* The on-media image of @node (its addr and its children's are set) into @image. */
void bt_page_seal(const struct bt_env *env, const struct bt_node *node, uint64_t gen, uint32_t cont,
                  uint8_t image[BT_PAGE_BYTES]);

/*
 * bt_page_check - is @image a well-formed page that was written at @addr by the store and shard of
 * @env? Never reads outside the page whatever its bytes are. 0, or -EBADMSG with a sentence.
 */
int bt_page_check(const struct bt_env *env, const uint8_t image[BT_PAGE_BYTES], uint64_t addr,
                  struct pst_err *err);
unsigned bt_page_level(const uint8_t image[BT_PAGE_BYTES]);
unsigned bt_page_count(const uint8_t image[BT_PAGE_BYTES]);
uint64_t bt_page_gen(const uint8_t image[BT_PAGE_BYTES]);
uint32_t bt_page_cont(const uint8_t image[BT_PAGE_BYTES]);
uint64_t bt_page_child(const uint8_t image[BT_PAGE_BYTES], unsigned slot); /* of an inner page */

/*
 * Makes a node of a checked page. @child maps a child's address to its (already made) node and
 * takes a reference; NULL for leaves. The node has one reference, the caller's. -ENOMEM; -EBADMSG
 * when a child's level or fences don't fit or @child has none (returns NULL). Takes no reserved
 * memory and heeds no limit: what is on media has been let in before.
 */
int bt_node_load(struct bt_env *env, struct bt_node **ret_node, const uint8_t image[BT_PAGE_BYTES],
                 uint64_t addr, struct bt_node *(*child)(void *arg, uint64_t addr), void *arg,
                 struct pst_err *err);
void bt_node_unref(struct bt_env *env, struct bt_node *node);
/*
 * Makes what can stand where child @slot of the checked page @parent should be, if that is lost: no
 * items, the same level and fences, no address. *ret_gap: the keys that it answers for. One
 * reference, the caller's. -ENOMEM. A page above it that is loaded has no address either.
 */
struct bt_gap { /* keys in [lower, upper); of no bytes: no bound */
	uint16_t lower_len, upper_len;
	uint8_t lower[BT_KEY_MAX], upper[BT_KEY_MAX];
};
int bt_stand_in(struct bt_env *env, struct bt_node **ret_node, const uint8_t parent[BT_PAGE_BYTES],
                unsigned slot, struct bt_gap *ret_gap);
/*
 * Makes a loaded node the root of the empty tree @t of @items items, which takes the caller's
 * reference. -EBADMSG when the node has fences, as no root has (look-ups rely on it), or a single
 * child, or is a leaf with another number of items.
 */
int bt_adopt(struct btree *t, struct bt_node *root, uint64_t items, struct pst_err *err);

/* Checks invariants 2-4 and the item count of a whole tree: for tests and fsck. */
int bt_check(const struct btree *t, struct pst_err *err);

#endif
