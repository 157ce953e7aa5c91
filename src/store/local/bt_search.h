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
static inline const struct bt_slot *heads_le(const struct bt_slot *s, unsigned n, uint32_t h)
{
	unsigned log2 = 31 - __builtin_clz(n);

#define STEP(k) s = le32_get(s[k].head) <= h ? s + (k) : s
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
		/* fall through */
	default:
		break;
	}
#undef STEP
	return s;
}
static_assert(BT_SLOTS_MAX < 512, "heads_le() has steps for 511 slots");

/* Is the key of @slot <= the key of suffix @s? Their heads are equal. */
static inline bool slot_le(const uint8_t *page, struct bt_slot slot, const uint8_t *s, long len)
{
	uint32_t loc = le32_get(slot.loc);
	long suffix_len = loc_suffix_len(loc), n = MIN(len, suffix_len);
	int c;

	if (n <= 4) /* the heads have said it but for the lengths */
		return suffix_len <= len;
	c = memcmp(page + loc_off(loc) + 4, s + 4, n - 4);
	return c ? c < 0 : suffix_len <= len;
}

/* bt_page.c: the rest of the search, when the last slot with an equal head has a greater key. */
int pg_find_le_ties(const uint8_t *page, unsigned slot, const uint8_t *s, long len);

/* See pg_find_le(). */
static inline int pg_search_le(const uint8_t *page, const uint8_t *key, unsigned len)
{
	const struct bt_slot *slots = pg_cslots(page), *s;
	unsigned prefix_len = pg_prefix_len(page), n = pg_count(page);
	uint32_t head, found;

	if (unlikely(n == 0))
		return -1;
	if (unlikely(pg_upper_len(page) == 0) && prefix_len > 0 &&
	    (len < prefix_len || memcmp(key, pg_lower(page), prefix_len) != 0))
		return n - 1; /* rule P3 */
	head = key_head(key + prefix_len, (long)len - prefix_len);
	s = heads_le(slots, n, head);
	found = le32_get(s->head);
	if (likely(found < head))
		return s - slots;
	if (found > head)
		return -1;
	if (slot_le(page, *s, key + prefix_len, (long)len - prefix_len))
		return s - slots;
	return pg_find_le_ties(page, s - slots, key + prefix_len, (long)len - prefix_len);
}

#endif
