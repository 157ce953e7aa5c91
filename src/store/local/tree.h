/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tree - the meaning of a container's keys: object heads, extents, values. See tree.c.
 */
#ifndef STORE_LOCAL_TREE_H
#define STORE_LOCAL_TREE_H

#include "store/local/btree.h"
#include "store/local/media.h"
#include "store/store.h"

struct shard;
struct cont;

#define KEY_OBJ_BYTES 17
struct head {
	bool exists, has_extent;
	uint8_t label_len;
	uint64_t blocks, size, mtime;
	uint64_t addr;
	uint32_t ext_blocks, birth;
	bool nocsum;
	bool has_csum; /* of block 0: then the extent is that block alone */
	uint32_t csum;
	const uint8_t *label; /* into the page, or the caller's */
};
struct extent {
	uint64_t lblk, addr;
	uint32_t blocks, birth;
	bool nocsum;
};
#define HEAD_EXTENTS 32
/*
 * All extents of an object, with a way to where a block is among them: the array in HEAD_EXTENTS equal
 * parts of 1 << shift blocks, and for each those extents that a block of it may be in: from the last one
 * that begins at or before it to the last one that begins in it.
 */
struct extent_index {
	uint8_t shift;
	struct {
		uint8_t first, count;
	} part[HEAD_EXTENTS];
	struct extent ext[HEAD_EXTENTS];
};
struct head_entry {
	const struct btree *tree;
	uint64_t version;
	struct pst_oid oid;
	struct head h;
	int extents; /* in the index; -1: not looked at, -2: too many to keep */
	/* Where its head lies, in a page that is the live tree's alone, while page_version holds. */
	struct media_head *in_page;
	uint64_t page_version;
	struct extent_index *index;
};
void key_obj(uint8_t key[KEY_OBJ_BYTES], struct pst_oid oid, uint8_t kind);
struct pst_oid oid_of_key(const uint8_t *key);
/* The head of @oid; absent: 0 with exists false. The label points into the tree. */
void head_get(const struct btree *t, struct pst_oid oid, struct head *ret_head);
/* For overwrites in place: sets the mtime of a head whose size is at least @size_min, and the checksum
 * of block 0, if it is one of them (else @csum0 is NULL) and the head has it; false: look closer. */
bool head_touch(struct shard *s, struct btree *t, struct pst_oid oid, uint64_t size_min,
                uint64_t mtime, const le32 *csum0);
/* The same from the shard's cache: no label, an mtime that may be old. Valid until something
 * changes. */
const struct head *head_peek(struct shard *s, const struct btree *t, struct pst_oid oid);
/* Can head_touch() do without memory that was reserved? Of a head that head_peek() gave. */
bool head_in_hand(const struct shard *s, const struct head *peeked);
void head_put(struct btree *t, struct pst_oid oid, const struct head *h);
/* The extent that maps @lblk, or the first one after it (then ext->lblk > lblk); false: none. */
bool extent_find(const struct btree *t, struct pst_oid oid, const struct head *h, uint64_t lblk,
                 struct extent *ret_ext);
/* extent_find() by the cached extents of an object whose head came from head_peek(), valid as long as
 * that one; @scratch holds what is in no cache. NULL: none. */
const struct extent *extent_peek(const struct btree *t, const struct head *peeked, uint64_t lblk,
                                 struct extent *scratch);
bool extent_decode(const uint8_t *val, size_t len, struct extent *e);
int head_decode(const uint8_t *val, size_t len, struct head *h);
int outval_decode(const uint8_t *val, size_t len, struct media_outval *ret);
/* Maps [e->lblk, +blocks) to e; what was mapped there is dropped first. Changes h (to be head_put).
 */
void extent_map(struct shard *s, struct cont *c, struct pst_oid oid, struct head *h,
                const struct extent *e);
/* Puts one where nothing is mapped; the one at block 0 goes into @h only. */
void extent_put(struct btree *t, struct pst_oid oid, struct head *h, const struct extent *e);
/* The extent that an item is; false: it is none. */
bool extent_of_item(const uint8_t *key, size_t key_len, const uint8_t *val, size_t val_len,
                    struct extent *ret_ext);
void extent_unmap(struct shard *s, struct cont *c, struct pst_oid oid, struct head *h,
                  uint64_t lblk, uint64_t blocks);
/* Space that the live tree of @c no longer uses: freed unless a snapshot holds it. */
void drop_blocks(struct shard *s, struct cont *c, uint64_t addr, uint32_t blocks, uint32_t birth);
/* Every run of blocks that an item refers to. */
void item_runs(const uint8_t *key, size_t key_len, const uint8_t *val, size_t val_len,
               void (*fn)(void *arg, struct pst_oid oid, uint64_t lblk, uint64_t addr,
                          uint32_t blocks, uint32_t birth, bool nocsum),
               void *arg);

#endif
