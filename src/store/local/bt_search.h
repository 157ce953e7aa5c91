/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bt_search - the search inside a page, inline: every descent runs it once a level.
 *
 * The heads of the slots are searched as integers without a branch that depends on them; keys are
 * looked at only where heads are equal.
 */
#ifndef STORE_LOCAL_BT_SEARCH_H
#define STORE_LOCAL_BT_SEARCH_H

#include "store/local/bt_internal.h"

/*
 * The last slot whose head is <= @h, or slot 0 if there is none. @n > 0.
 *
 * With k the greatest power of two <= n, the first step leaves k candidates: the last k slots or
 * the first k. Each further step halves them.
 */
static inline __attribute__((always_inline)) const struct bt_slot *
heads_le(const struct bt_slot *s, unsigned long n, uint32_t h)
{
	unsigned long log2 = (8 * sizeof(n) - 1) ^ __builtin_clzl(n);

	if (log2 > 8)
		__builtin_unreachable();
#define STEP(k) s = le32_get(s[k].head) <= h ? s + (k) : s
	STEP(n ^ (1ul << log2));
	switch (log2) {
	case 8: /* BT_SLOTS_MAX < 512 */
		STEP(128);
		/* fall through */
	case 7:
		STEP(64);
		/* fall through */
	case 6:
		STEP(32);
		/* fall through */
	case 5:
		STEP(16);
		/* fall through */
	case 4:
		STEP(8);
		/* fall through */
	case 3:
		STEP(4);
		/* fall through */
	case 2:
		STEP(2);
		/* fall through */
	case 1:
		STEP(1);
		break;
	default: /* 0 */
		break;
	}
#undef STEP
	return s;
}
static_assert(BT_SLOTS_MAX < 512, "heads_le() has steps for 511 slots");

static inline uint64_t bytes_64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return v;
}

/* memcmp() for the few dozen bytes at most that keys as a rule have. */
static inline int bytes_cmp(const uint8_t *a, const uint8_t *b, long n)
{
	const uint8_t *end = a + n;
	uint64_t x, y;

	for (; a <= end - 8; a += 8, b += 8) {
		x = bytes_64(a);
		y = bytes_64(b);
		if (unlikely(x != y))
			goto differ;
	}
	if (n >= 8) { /* the last word overlaps the one before it */
		b -= a - (end - 8);
		x = bytes_64(end - 8);
		y = bytes_64(b);
		if (likely(x == y))
			return 0;
		goto differ;
	}
	for (; a < end; a++, b++) {
		if (*a != *b)
			return *a - *b;
	}
	return 0;
differ:
	return be64toh(x) < be64toh(y) ? -1 : 1;
}

/* How the suffix of @slot compares with @key, what is left of a key. Their heads are equal. */
static inline int slot_cmp(const uint8_t *page, const struct bt_slot *slot, const uint8_t *key,
                           const uint8_t *key_end)
{
	uint32_t loc = le32_get(slot->loc), x, y;
	const uint8_t *suffix = page + loc_off(loc) + loc_val_len(loc);
	long suffix_len = loc_suffix_len(loc), len = key_end - key, n = MIN(len, suffix_len);
	int c;

	if (n <= 4) /* the heads have said it but for the lengths */
		return suffix_len - len;
	if (n <= 8) { /* overlaps the heads */
		x = bytes_be32(suffix + n - 4);
		y = bytes_be32(key + n - 4);
		return x != y ? (x < y ? -1 : 1) : (int)(suffix_len - len);
	}
	c = bytes_cmp(suffix + 4, key + 4, n - 4);
	return c ? c : (int)(suffix_len - len);
}

/* bt_page.c: the rest of a search that came to @slot, the last with the head of @key, what is left
 * of the key: the slot of the greatest <= @key or NULL; *ret_eq: it is @key. */
const struct bt_slot *pg_search_equal(const uint8_t *page, const struct bt_slot *slot,
                                      const uint8_t *key, const uint8_t *key_end, bool *ret_eq);

/*
 * Is @key less or greater than all keys of the page, which has a flag set? Then *ret_slot is what
 * the search ends with.
 */
static inline bool pg_is_beside(const uint8_t *page, const uint8_t *key, const uint8_t *key_end,
                                const struct bt_slot **ret_slot)
{
	long n = pg_prefix_len(page), len = key_end - key;
	int c;

	if (unlikely(le16_get(pg_chdr(page)->flags) & BT_PAGE_EMPTY)) {
		*ret_slot = NULL;
		return true;
	}
	c = bytes_cmp(pg_lower(page), key, MIN(n, len));
	if (c == 0 && len >= n)
		return false;
	if (c < 0)
		*ret_slot = pg_cslots(page) + pg_count(page) - 1;
	else
		*ret_slot = pg_level(page) > 0 ? pg_cslots(page) : NULL; /* rule P4 */
	return true;
}

/*
 * The slot of the page's greatest key <= @key or NULL; in an inner page, of the child that @key
 * leads to. *ret_eq: it is @key.
 */
static inline const struct bt_slot *pg_search(const uint8_t *page, const uint8_t *key,
                                              const uint8_t *key_end, bool *ret_eq)
{
	const uint8_t *start = key;
	const struct bt_slot *s;
	uint32_t head;

	*ret_eq = false;
	if (unlikely(pg_chdr(page)->flags != 0) && pg_is_beside(page, key, key_end, &s))
		return s;
	key += pg_prefix_len(page);
	head = key_head(start, key, key_end);
	s = heads_le(pg_cslots(page), pg_count(page), head);
	if (le32_get(s->head) != head)
		return le32_get(s->head) < head ? s : NULL;
	return pg_search_equal(page, s, key, key_end, ret_eq);
}

#endif
