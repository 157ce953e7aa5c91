/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bt_internal - what the files of the index share: the page, and the node's life.
 *
 * A page, in DRAM and on media (little-endian):
 *
 *   OFFSET SIZE MEANING
 *        0    4 magic "PSbt"
 *        4    4 CRC32C of bytes 8 to 4095               (media only, as all up to offset 40)
 *        8    8 the page's own block address
 *       16    8 generation: the checkpoint that wrote it
 *       24    8 first 8 bytes of the store's id
 *       32    4 shard
 *       36    4 container
 *       40    2 format version, 1
 *       42    2 level, 0: leaf
 *       44    2 count of slots
 *       46    2 heap start: the heap's lowest byte in use
 *       48    2 heap end: where the fences begin
 *       50    2 dead bytes inside the heap
 *       52    2 prefix length
 *       54    2 length of the lower fence, 0: none
 *       56    2 length of the upper fence, 0: none
 *       58    2 flags: bit 0, the prefix is soft; bit 1, there is no slot
 *       60    4 zero
 *       64  8*n slots in the order of their keys:
 *                 0 4 head: the first 4 bytes of the key's suffix as a big-endian number, padded
 *                     with zero bytes
 *                 4 4 bits 0-11 offset of the record, 12-20 length of its suffix, 21-30 of its
 *                     value, 31 zero. A record without any bytes has offset 0.
 *           free space
 *  heap start   records: value, then suffix. An inner page's value is its child: 8 bytes, in DRAM a
 *               node pointer, on media a block address.
 *    heap end   the lower fence whole, or the prefix if there is none; then the upper fence without
 *               the prefix; up to byte 4096
 *
 * A key is prefix + suffix. The prefix begins each fence that there is.
 *
 * Page rules, beyond those of btree.h:
 *  P1. Slots are in strictly ascending order of key; so heads never descend.
 *  P2. With both fences, the prefix begins every key between them: a search that came down from the
 *      root need not look at it.
 *  P3. Without one of them (the edges of the tree, and its root) the prefix is *soft* (if it is
 *      not empty): every key in the page begins with it, and one that does not is less or greater
 *      than all of them, as it is less or greater than the prefix. That lets the page that a
 *      sequential load fills be as dense as it will be once it has both fences, and heads tell keys
 *      apart near the root.
 *  P4. Slot 0 of an inner page has an empty suffix and stands for the lower fence; slot i's key is
 *      the lower fence of child i and the upper fence of child i-1. So inner pages have a slot.
 *  P5. Heap bytes are in at most one record; those in none are counted as dead.
 *
 * Room: the largest leaf item takes 8 + 352 + 512 = 872 bytes, and a page with the longest fences
 * has 4096 - 64 - 704 = 3328 bytes: three of the largest always fit (four on a page without
 * fences). So a full page and one more item, at most 4032 + 872 bytes, always split in two of which
 * the larger has at most (4904 + 872) / 2 = 2888.
 */
#ifndef STORE_LOCAL_BT_INTERNAL_H
#define STORE_LOCAL_BT_INTERNAL_H

#include <assert.h>

#include "store/local/btree.h"

#define BT_MAGIC      0x74625350u /* "PSbt" */
#define BT_VERSION    1
#define BT_HDR_BYTES  64
#define BT_SLOT_BYTES 8
#define BT_CHILD_LEN  8
#define BT_SLOTS_MAX  ((BT_PAGE_BYTES - BT_HDR_BYTES) / BT_SLOT_BYTES)
#define BT_BODY_BYTES (BT_PAGE_BYTES - BT_HDR_BYTES)
/* Below this a page looks for a neighbour to merge with; a merged page has at most BT_MERGE_FULL,
 * so that the next insert does not split it again. */
#define BT_MERGE_BELOW (BT_BODY_BYTES / 4)
#define BT_MERGE_FULL  (BT_BODY_BYTES * 7 / 8)
/* Inserts that follow each other in key order before they are taken for a load that goes on. */
#define BT_RUN_MIN 3

/* Packed: an image to check may lie at any address. */
struct __attribute__((packed)) bt_page_hdr {
	le32 magic;
	le32 crc;
	le64 addr;
	union __attribute__((packed)) {
		le64 gen;
		/* In DRAM: where the next insert goes if it continues a run in key order, and how
		 * many the run had. A full page is split where a run goes on. */
		struct __attribute__((packed)) {
			uint16_t slot, length;
		} run;
	};
	uint8_t store_id[8];
	le32 shard;
	le32 cont;
	le16 version;
	le16 level;
	le16 count;
	le16 heap_start;
	le16 heap_end;
	le16 dead;
	le16 prefix_len;
	le16 lower_len;
	le16 upper_len;
	le16 flags;
	uint8_t zero[4];
};
static_assert(sizeof(struct bt_page_hdr) == BT_HDR_BYTES, "the page header has 64 bytes");
static_assert(offsetof(struct bt_page_hdr, addr) == 8, "the CRC covers all from the address on");
static_assert(offsetof(struct bt_page_hdr, version) == 40, "identity ends at 40");
static_assert(offsetof(struct bt_page_hdr, flags) == 58, "the last field is at 58");

#define BT_PAGE_SOFT  1u /* rule P3 */
#define BT_PAGE_EMPTY 2u /* so that a search has one rare case to look for, not two */

struct __attribute__((packed)) bt_slot {
	le32 head;
	le32 loc;
};
static_assert(sizeof(struct bt_slot) == BT_SLOT_BYTES, "a slot has 8 bytes");
static_assert(BT_KEY_MAX < 512 && BT_VALUE_MAX < 1024, "lengths fit the slot's bits");
static_assert(BT_BODY_BYTES - 2 * BT_KEY_MAX >= 3 * (BT_SLOT_BYTES + BT_KEY_MAX + BT_VALUE_MAX),
              "three of the largest items fit beside the longest fences");

/* An item of a page, taken apart. */
struct bt_rec {
	const uint8_t *suffix, *val;
	unsigned suffix_len, val_len;
};

/* A key in two pieces: it is their concatenation. */
struct bt_key2 {
	const uint8_t *a, *b;
	unsigned a_len, b_len;
};

struct bt_fence {
	unsigned len;
	uint8_t bytes[BT_KEY_MAX];
};

/* --- fields --- */

static inline struct bt_page_hdr *pg_hdr(uint8_t *page)
{
	return (struct bt_page_hdr *)page;
}
static inline const struct bt_page_hdr *pg_chdr(const uint8_t *page)
{
	return (const struct bt_page_hdr *)page;
}
static inline struct bt_slot *pg_slots(uint8_t *page)
{
	return (struct bt_slot *)(page + BT_HDR_BYTES);
}
static inline const struct bt_slot *pg_cslots(const uint8_t *page)
{
	return (const struct bt_slot *)(page + BT_HDR_BYTES);
}
static inline unsigned pg_count(const uint8_t *page)
{
	return le16_get(pg_chdr(page)->count);
}
static inline unsigned pg_level(const uint8_t *page)
{
	return le16_get(pg_chdr(page)->level);
}
static inline unsigned pg_prefix_len(const uint8_t *page)
{
	return le16_get(pg_chdr(page)->prefix_len);
}
static inline unsigned pg_lower_len(const uint8_t *page)
{
	return le16_get(pg_chdr(page)->lower_len);
}
static inline unsigned pg_upper_len(const uint8_t *page)
{
	return le16_get(pg_chdr(page)->upper_len);
}
/* The prefix, and after it the rest of the lower fence if there is one. */
static inline const uint8_t *pg_lower(const uint8_t *page)
{
	return page + le16_get(pg_chdr(page)->heap_end);
}
/* The first slot that has a key of its own (rule P4). */
static inline unsigned pg_slot_first(const uint8_t *page)
{
	return pg_level(page) > 0 ? 1 : 0;
}
static inline bool pg_is_soft(const uint8_t *page)
{
	return le16_get(pg_chdr(page)->flags) & BT_PAGE_SOFT;
}

static inline unsigned loc_off(uint32_t loc)
{
	return loc & 0xfff;
}
static inline unsigned loc_suffix_len(uint32_t loc)
{
	return (loc >> 12) & 0x1ff;
}
static inline unsigned loc_val_len(uint32_t loc)
{
	return loc >> 21;
}
static inline uint32_t loc_make(unsigned off, unsigned suffix_len, unsigned val_len)
{
	return off | suffix_len << 12 | val_len << 21;
}

static inline struct bt_rec slot_rec(const uint8_t *page, const struct bt_slot *slot)
{
	uint32_t loc = le32_get(slot->loc);
	const uint8_t *val = page + loc_off(loc);

	return (struct bt_rec){val + loc_val_len(loc), val, loc_suffix_len(loc), loc_val_len(loc)};
}
static inline struct bt_rec pg_rec(const uint8_t *page, unsigned slot)
{
	return slot_rec(page, pg_cslots(page) + slot);
}

/* Bytes that the records take, bytes that an insert may take (after a compaction), and bytes in use
 * without the header. */
static inline unsigned pg_live(const uint8_t *page)
{
	const struct bt_page_hdr *h = pg_chdr(page);

	return le16_get(h->heap_end) - le16_get(h->heap_start) - le16_get(h->dead);
}
static inline unsigned pg_room(const uint8_t *page)
{
	const struct bt_page_hdr *h = pg_chdr(page);

	return le16_get(h->heap_start) + le16_get(h->dead) -
	       (BT_HDR_BYTES + BT_SLOT_BYTES * le16_get(h->count));
}
static inline unsigned pg_used(const uint8_t *page)
{
	return BT_BODY_BYTES - pg_room(page);
}

/* The child of an inner page in DRAM. */
static inline struct bt_node *slot_child(const uint8_t *page, const struct bt_slot *slot)
{
	struct bt_node *n;

	memcpy(&n, page + loc_off(le32_get(slot->loc)), sizeof(n));
	return n;
}
static inline struct bt_node *pg_child(const uint8_t *page, unsigned slot)
{
	return slot_child(page, pg_cslots(page) + slot);
}
static_assert(sizeof(struct bt_node *) <= BT_CHILD_LEN, "a child reference holds a pointer");

/* --- keys --- */

static inline unsigned key_lcp(const uint8_t *a, unsigned a_len, const uint8_t *b, unsigned b_len)
{
	unsigned n = MIN(a_len, b_len), i = 0;

	while (i < n && a[i] == b[i])
		i++;
	return i;
}
static inline int key_cmp(const uint8_t *a, unsigned a_len, const uint8_t *b, unsigned b_len)
{
	int c = memcmp(a, b, MIN(a_len, b_len));

	return c ? c : (a_len > b_len) - (a_len < b_len);
}
static inline uint32_t bytes_be32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return be32toh(v);
}
static inline unsigned key2_lcp(const struct bt_key2 *a, const uint8_t *key, unsigned len)
{
	unsigned n = key_lcp(a->a, a->a_len, key, len);

	return n < a->a_len ? n : n + key_lcp(a->b, a->b_len, key + n, len - n);
}

/* The head of the suffix at @s, which ends at @end; bytes from @start (<= @s) on may be read. */
static inline uint32_t key_head(const uint8_t *start, const uint8_t *s, const uint8_t *end)
{
	long len = end - s;
	uint32_t v = 0;

	if (likely(len >= 4))
		return bytes_be32(s);
	if (len <= 0)
		return 0;
	if (likely(end - start >= 4))
		return bytes_be32(end - 4) << (32 - 8 * len);
	for (unsigned shift = 32; s < end; s++) {
		shift -= 8;
		v |= (uint32_t)*s << shift;
	}
	return v;
}

/* --- bt_page.c: one page --- */

/* The slot of the greatest key <= @key, or -1. @key lies between the page's fences. */
int pg_find_le(const uint8_t *page, const uint8_t *key, unsigned len);
/* The slot of a leaf's first key >= @key, maybe the count; *ret_eq: it is @key. */
unsigned pg_find(const uint8_t *page, const uint8_t *key, unsigned len, bool *ret_eq);

/* Bytes that the fences take in a page. */
unsigned pg_fence_bytes(unsigned lower_len, unsigned upper_len, unsigned prefix_len);
/* An empty page. The prefix is the first bytes of @prefix; it and the fences lie outside the page.
 */
void pg_init(uint8_t *page, unsigned level, const struct bt_fence *lower,
             const struct bt_fence *upper, const uint8_t *prefix, unsigned prefix_len);
void pg_get_upper(const uint8_t *page, struct bt_fence *ret_fence);
void pg_get_lower(const uint8_t *page, struct bt_fence *ret_fence);
/* The full key of @slot in two pieces (rule P4 for inner pages). */
struct bt_key2 pg_key(const uint8_t *page, unsigned slot);

/* Adds an item after all others; it has room. */
void pg_append(uint8_t *page, const struct bt_key2 *key, const void *val, unsigned val_len);
/* Appends items [from, to) of @src, whose prefix may differ. */
void pg_append_range(uint8_t *page, const uint8_t *src, unsigned from, unsigned to);
/* Inserts before @slot; there is room (pg_room). */
void pg_insert(uint8_t *page, unsigned slot, const uint8_t *suffix, unsigned suffix_len,
               const void *val, unsigned val_len);
void pg_remove(uint8_t *page, unsigned slot);
void pg_set_child(uint8_t *page, unsigned slot, struct bt_node *child);
/* Rebuilds the page with another prefix length, which it has room for. */
void pg_reprefix(uint8_t *page, unsigned prefix_len);
/* A copy without dead bytes, free space zero. */
void pg_copy_compact(uint8_t *dst, const uint8_t *src);

/* --- bt_split.c: two pages --- */

/* Inserts before @slot, making room inside the page if need be; false when the page must split. */
bool pg_try_insert(uint8_t *page, unsigned slot, const uint8_t *key, unsigned len, const void *val,
                   unsigned val_len);
/* Splits @page and the item that did not fit over itself and @right; @ret_sep: right's fence. */
void pg_split(uint8_t *page, uint8_t *right, unsigned slot, const uint8_t *key, unsigned len,
              const void *val, unsigned val_len, struct bt_fence *ret_sep);
/* Puts both neighbours into @out when they take at most @used_max bytes there. */
bool pg_merge(uint8_t *out, const uint8_t *left, const uint8_t *right, unsigned used_max);

/* --- bt_env.c: nodes --- */

/* One reference, no address, page not initialised. Reserved for. */
struct bt_node *bt_node_new(struct bt_env *env, unsigned level);
/* The same outside a reservation: NULL when memory is out. */
struct bt_node *bt_node_try_new(struct bt_env *env, unsigned level);
/* Gives the node back without a look at its page. */
void bt_node_free(struct bt_env *env, struct bt_node *node);
/* Forgets the address: the page is about to change. */
void bt_node_dirty(struct bt_env *env, struct bt_node *node);

/* --- bt_media.c --- */

/* Page rules P1-P5 but for the identity and CRC; children are not looked at. */
int pg_check(const uint8_t *page, struct pst_err *err);

#endif
