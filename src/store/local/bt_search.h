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

#define STEP(k) s = le32_get(s[k].head) <= h ? s + (k) : s
	STEP(n & ~(1ul << log2));
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
	case 0:
		break;
	default:
		__builtin_unreachable();
	}
#undef STEP
	return s;
}
static_assert(BT_SLOTS_MAX < 512, "heads_le() has steps for 511 slots");

/* memcmp() for the few bytes that keys differ in. The last step overlaps the one before it. */
static inline int bytes_cmp(const uint8_t *a, const uint8_t *b, long n)
{
	uint64_t x, y;

	if (n < 8) {
		for (; n > 0; a++, b++, n--) {
			if (*a != *b)
				return *a - *b;
		}
		return 0;
	}
	for (const uint8_t *last = a + n - 8;; a += 8, b += 8) {
		if (a >= last) {
			b -= a - last;
			a = last;
		}
		memcpy(&x, a, 8);
		memcpy(&y, b, 8);
		if (x != y)
			return be64toh(x) < be64toh(y) ? -1 : 1;
		if (a == last)
			return 0;
	}
}

/* Are they the same? For prefixes: of a few dozen bytes. */
static inline bool bytes_same(const uint8_t *a, const uint8_t *b, long n)
{
	uint64_t x, y;
	long i = 0;

	for (; i < n - 8; i += 8) {
		memcpy(&x, a + i, 8);
		memcpy(&y, b + i, 8);
		if (x != y)
			return false;
	}
	if (unlikely(n < 8))
		return bytes_cmp(a, b, n) == 0;
	memcpy(&x, a + n - 8, 8);
	memcpy(&y, b + n - 8, 8);
	return x == y;
}

/* How the suffix of @slot compares with @key, what is left of a key. Their heads are equal. */
static inline int slot_cmp(const uint8_t *page, const struct bt_slot *slot, const uint8_t *key,
                           const uint8_t *key_end)
{
	uint32_t loc = le32_get(slot->loc);
	long suffix_len = loc_suffix_len(loc), len = key_end - key;
	int c = bytes_cmp(page + loc_off(loc) + loc_val_len(loc) + 4, key + 4,
	                  MIN(len, suffix_len) - 4);

	return c ? c : (int)(suffix_len - len);
}

/* bt_page.c: the rest of a search that came to @slot, the last with the head of @key, what is left
 * of the key: the slot of the greatest <= @key or NULL; *ret_eq: it is @key. */
const struct bt_slot *pg_search_equal(const uint8_t *page, const struct bt_slot *slot,
                                      const uint8_t *key, const uint8_t *key_end, bool *ret_eq);

/* Does the page with a flag set hold only keys less than @key, or greater? Then *ret_slot is what
 * the search ends with. */
static inline bool pg_is_beside(const uint8_t *page, const uint8_t *key, const uint8_t *key_end,
                                const struct bt_slot **ret_slot)
{
	long n = pg_prefix_len(page), len = key_end - key;
	const struct bt_slot *s = pg_cslots(page);

	if (unlikely(pg_count(page) == 0)) {
		*ret_slot = NULL;
		return true;
	}
	if (likely(len >= n && bytes_same(pg_lower(page), key, n)))
		return false;
	if (bytes_cmp(pg_lower(page), key, MIN(n, len)) < 0)
		*ret_slot = s + pg_count(page) - 1;
	else
		*ret_slot = pg_level(page) > 0 ? s : NULL; /* rule P4 */
	return true;
}

/*
 * The slot of the page's greatest key <= @key or NULL; in an inner page, of the child that @key
 * leads to. *ret_eq: it is @key.
 */
static inline const struct bt_slot *pg_search(const uint8_t *page, const uint8_t *key,
                                              const uint8_t *key_end, bool *ret_eq)
{
	const struct bt_slot *s;
	uint32_t head;

	*ret_eq = false;
	if (unlikely(pg_chdr(page)->flags != 0) && pg_is_beside(page, key, key_end, &s))
		return s;
	key += pg_prefix_len(page);
	head = key_head(key, key_end);
	s = heads_le(pg_cslots(page), pg_count(page), head);
	if (le32_get(s->head) != head)
		return le32_get(s->head) < head ? s : NULL;
	return pg_search_equal(page, s, key, key_end, ret_eq);
}

#endif
