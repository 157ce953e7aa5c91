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

/* What a branch predictor can't know; asks for a conditional move. */
#define either_way(expr) __builtin_expect_with_probability(!!(expr), 1, 0.5)

/*
 * The last slot whose head is <= @h, or slot 0 if there is none. @n > 0.
 *
 * With k the greatest power of two <= n, the first step leaves k candidates: the last k slots or
 * the first k. Each further step halves them.
 */
static inline const struct bt_slot *heads_le(const struct bt_slot *s, unsigned n, uint32_t h)
{
	unsigned log2 = 31 - __builtin_clz(n);

#define STEP(k) s = either_way(le32_get(s[k].head) <= h) ? s + (k) : s
	STEP(n - (1u << log2));
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

/* memcmp() for the few bytes that keys differ in. */
static inline int bytes_cmp(const uint8_t *a, const uint8_t *b, long n)
{
	uint64_t x, y;

	for (; n >= 8; a += 8, b += 8, n -= 8) {
		memcpy(&x, a, 8);
		memcpy(&y, b, 8);
		if (x != y)
			return be64toh(x) < be64toh(y) ? -1 : 1;
	}
	for (; n > 0; a++, b++, n--) {
		if (*a != *b)
			return *a - *b;
	}
	return 0;
}

/* How the suffix of @slot compares with suffix @s. Their heads are equal. */
static inline int slot_cmp(const uint8_t *page, struct bt_slot slot, const uint8_t *s, long len)
{
	uint32_t loc = le32_get(slot.loc);
	long suffix_len = loc_suffix_len(loc), n = MIN(len, suffix_len) - 4;
	int c = 0;

	if (n > 0)
		c = bytes_cmp(page + loc_off(loc) + 4, s + 4, n);
	return c ? c : (int)(suffix_len - len);
}

/* How the page's prefix compares with @key: 0 when @key begins with it. */
static inline int pg_prefix_cmp(const uint8_t *page, const uint8_t *key, long len)
{
	long n = pg_prefix_len(page);
	int c = bytes_cmp(pg_lower(page), key, MIN(n, len));

	return c ? c : n > len;
}

/* bt_page.c: the rest of the search, when the last slot with an equal head has a greater key. */
const struct bt_slot *pg_search_ties(const uint8_t *page, const struct bt_slot *slot,
                                     const uint8_t *s, long len, bool *ret_eq);

/* The slot of the greatest key <= @key or NULL; *ret_eq: it is @key. */
static inline __attribute__((always_inline)) const struct bt_slot *
pg_search(const uint8_t *page, const uint8_t *key, unsigned len, bool *ret_eq)
{
	const struct bt_slot *slots = pg_cslots(page), *s;
	unsigned n = pg_count(page);
	long suffix_len = (long)len - pg_prefix_len(page);
	uint32_t head;
	int c;

	*ret_eq = false;
	if (unlikely(n == 0))
		return NULL;
	if (unlikely(pg_is_soft(page))) {
		c = pg_prefix_cmp(page, key, len);
		if (c < 0)
			return slots + n - 1;
		if (c > 0)
			return pg_level(page) > 0 ? slots : NULL;
	}
	key += pg_prefix_len(page);
	head = key_head(key, suffix_len);
	s = heads_le(slots, n, head);
	if (le32_get(s->head) < head)
		return s;
	if (unlikely(le32_get(s->head) > head))
		return NULL;
	c = slot_cmp(page, *s, key, suffix_len);
	*ret_eq = c == 0;
	return likely(c <= 0) ? s : pg_search_ties(page, s, key, suffix_len, ret_eq);
}

#endif
