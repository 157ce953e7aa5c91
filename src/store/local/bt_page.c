/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bt_page - one page: search, insert, remove, compaction. Its layout and rules are in
 * bt_internal.h.
 */
#include "store/local/bt_search.h"

/* --- search --- */

const struct bt_slot *pg_search_equal(const uint8_t *page, const struct bt_slot *slot,
                                      const uint8_t *key, const uint8_t *key_end, bool *ret_eq)
{
	const struct bt_slot *first = pg_cslots(page), *lo = first, *hi = slot;
	le32 head = slot->head;
	int c = slot_cmp(page, slot, key, key_end);

	*ret_eq = c == 0;
	if (c <= 0)
		return slot;
	while (lo < hi) { /* what comes after the answer is in [lo, hi] */
		const struct bt_slot *mid = lo + (hi - lo) / 2;

		c = mid->head == head ? slot_cmp(page, mid, key, key_end) : -1;
		if (c > 0) {
			hi = mid;
			continue;
		}
		lo = mid + 1;
		if (c == 0) {
			*ret_eq = true;
			break;
		}
	}
	return lo > first ? lo - 1 : NULL;
}

int pg_find_le(const uint8_t *page, const uint8_t *key, unsigned len)
{
	const struct bt_slot *s;
	bool eq;

	s = pg_search(page, key, key + len, &eq);
	return s ? (int)(s - pg_cslots(page)) : -1;
}

unsigned pg_find(const uint8_t *page, const uint8_t *key, unsigned len, bool *ret_eq)
{
	const struct bt_slot *s = pg_search(page, key, key + len, ret_eq);

	return s ? s - pg_cslots(page) + !*ret_eq : 0;
}

/* --- a fresh page, and filling it in order --- */

unsigned pg_fence_bytes(unsigned lower_len, unsigned upper_len, unsigned prefix_len)
{
	return (lower_len ? lower_len : prefix_len) + (upper_len ? upper_len - prefix_len : 0);
}

void pg_init(uint8_t *page, unsigned level, const struct bt_fence *lower,
             const struct bt_fence *upper, const uint8_t *prefix, unsigned prefix_len)
{
	struct bt_page_hdr *h = pg_hdr(page);
	unsigned end = BT_PAGE_BYTES - pg_fence_bytes(lower->len, upper->len, prefix_len);
	bool soft = prefix_len > 0 && (lower->len == 0 || upper->len == 0);

	memset(h, 0, sizeof(*h));
	h->level = le16_make(level);
	h->heap_start = h->heap_end = le16_make(end);
	h->prefix_len = le16_make(prefix_len);
	h->lower_len = le16_make(lower->len);
	h->upper_len = le16_make(upper->len);
	h->flags = le16_make(BT_PAGE_EMPTY | (soft ? BT_PAGE_SOFT : 0));
	if (lower->len > 0) {
		memcpy(page + end, lower->bytes, lower->len);
		end += lower->len;
	} else if (prefix_len > 0) {
		memcpy(page + end, prefix, prefix_len);
		end += prefix_len;
	}
	if (upper->len > 0)
		memcpy(page + end, upper->bytes + prefix_len, upper->len - prefix_len);
}

void pg_get_lower(const uint8_t *page, struct bt_fence *ret_fence)
{
	ret_fence->len = pg_lower_len(page);
	memcpy(ret_fence->bytes, pg_lower(page), ret_fence->len);
}

void pg_get_upper(const uint8_t *page, struct bt_fence *ret_fence)
{
	unsigned prefix_len = pg_prefix_len(page), lower_len = pg_lower_len(page);

	ret_fence->len = pg_upper_len(page);
	if (ret_fence->len == 0)
		return;
	memcpy(ret_fence->bytes, pg_lower(page), prefix_len);
	memcpy(ret_fence->bytes + prefix_len, pg_lower(page) + (lower_len ? lower_len : prefix_len),
	       ret_fence->len - prefix_len);
}

struct bt_key2 pg_key(const uint8_t *page, unsigned slot)
{
	struct bt_rec rec = pg_rec(page, slot);

	if (slot == 0 && pg_level(page) > 0)
		return (struct bt_key2){.a = pg_lower(page), .a_len = pg_lower_len(page)};
	return (struct bt_key2){pg_lower(page), rec.suffix, pg_prefix_len(page), rec.suffix_len};
}

static void count_set(struct bt_page_hdr *h, unsigned n)
{
	unsigned flags = le16_get(h->flags) & ~BT_PAGE_EMPTY;

	h->count = le16_make(n);
	h->flags = le16_make(flags | (n == 0 ? BT_PAGE_EMPTY : 0));
}

/* Takes @len bytes from the heap; there is room without a compaction. */
static unsigned heap_take(struct bt_page_hdr *h, unsigned len)
{
	unsigned off = le16_get(h->heap_start) - len;

	if (len == 0)
		return 0;
	h->heap_start = le16_make(off);
	return off;
}

void pg_append(uint8_t *page, const struct bt_key2 *key, const void *val, unsigned val_len)
{
	struct bt_page_hdr *h = pg_hdr(page);
	unsigned n = le16_get(h->count), skip = pg_prefix_len(page), a_len, b_len, off;
	const uint8_t *a = key->a, *b = key->b;

	if (n == 0 && pg_level(page) > 0) { /* rule P4 */
		a_len = b_len = 0;
	} else if (skip < key->a_len) {
		a += skip;
		a_len = key->a_len - skip;
		b_len = key->b_len;
	} else {
		a_len = 0;
		b_len = key->b_len - (skip - key->a_len);
		if (b_len) /* else b may be NULL */
			b += skip - key->a_len;
	}
	off = heap_take(h, a_len + b_len + val_len);
	if (val_len)
		memcpy(page + off, val, val_len);
	if (a_len)
		memcpy(page + off + val_len, a, a_len);
	if (b_len)
		memcpy(page + off + val_len + a_len, b, b_len);
	a = page + off + val_len;
	pg_slots(page)[n] = (struct bt_slot){
	        .head = le32_make(key_head(page, a, a + a_len + b_len)),
	        .loc = le32_make(loc_make(off, a_len + b_len, val_len)),
	};
	count_set(h, n + 1);
}

void pg_append_range(uint8_t *page, const uint8_t *src, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		struct bt_rec rec = pg_rec(src, i);
		struct bt_key2 key = pg_key(src, i);

		pg_append(page, &key, rec.val, rec.val_len);
	}
}

void pg_copy_compact(uint8_t *dst, const uint8_t *src)
{
	struct bt_page_hdr *h = pg_hdr(dst);
	unsigned end = le16_get(pg_chdr(src)->heap_end), n = pg_count(src);

	memcpy(dst, src, BT_HDR_BYTES);
	memcpy(dst + end, src + end, BT_PAGE_BYTES - end);
	h->heap_start = h->heap_end;
	h->dead = 0;
	for (unsigned i = 0; i < n; i++) {
		struct bt_rec rec = pg_rec(src, i);
		unsigned len = rec.suffix_len + rec.val_len, off = heap_take(h, len);

		if (len)
			memcpy(dst + off, rec.val, len);
		pg_slots(dst)[i] = (struct bt_slot){
		        .head = pg_cslots(src)[i].head,
		        .loc = le32_make(loc_make(off, rec.suffix_len, rec.val_len)),
		};
	}
	end = BT_HDR_BYTES + n * BT_SLOT_BYTES;
	memset(dst + end, 0, le16_get(h->heap_start) - end);
}

void pg_reprefix(uint8_t *page, unsigned prefix_len)
{
	uint8_t old[BT_PAGE_BYTES], prefix[BT_KEY_MAX];
	unsigned had = MIN(pg_prefix_len(page), prefix_len), n = pg_count(page);
	struct bt_fence lower, upper;

	memcpy(old, page, sizeof(old));
	pg_get_lower(old, &lower);
	pg_get_upper(old, &upper);
	memcpy(prefix, pg_lower(old), had);
	if (prefix_len > had) /* every key has the bytes that are new */
		memcpy(prefix + had, pg_rec(old, n - 1).suffix, prefix_len - had);
	pg_init(page, pg_level(old), &lower, &upper, prefix, prefix_len);
	pg_append_range(page, old, 0, n);
}

/* --- change --- */

void pg_insert(uint8_t *page, unsigned slot, const uint8_t *suffix, unsigned suffix_len,
               const void *val, unsigned val_len)
{
	struct bt_page_hdr *h = pg_hdr(page);
	struct bt_slot *s = pg_slots(page);
	unsigned n = le16_get(h->count), len = suffix_len + val_len, off;

	pst_assert(pg_room(page) >= len + BT_SLOT_BYTES);
	if (le16_get(h->heap_start) - (BT_HDR_BYTES + n * BT_SLOT_BYTES) < len + BT_SLOT_BYTES) {
		uint8_t tidy[BT_PAGE_BYTES];

		pg_copy_compact(tidy, page);
		memcpy(page, tidy, sizeof(tidy));
	}
	off = heap_take(h, len);
	if (val_len)
		memcpy(page + off, val, val_len);
	if (suffix_len)
		memcpy(page + off + val_len, suffix, suffix_len);
	memmove(s + slot + 1, s + slot, (n - slot) * sizeof(*s));
	s[slot] = (struct bt_slot){
	        .head = le32_make(key_head(suffix, suffix, suffix + suffix_len)),
	        .loc = le32_make(loc_make(off, suffix_len, val_len)),
	};
	count_set(h, n + 1);
	h->run.length = slot == h->run.slot && h->run.length < UINT16_MAX ? h->run.length + 1 : 0;
	h->run.slot = slot + 1;
}

void pg_remove(uint8_t *page, unsigned slot)
{
	struct bt_page_hdr *h = pg_hdr(page);
	struct bt_slot *s = pg_slots(page);
	unsigned n = le16_get(h->count);
	uint32_t loc = le32_get(s[slot].loc);
	unsigned len = loc_suffix_len(loc) + loc_val_len(loc);

	if (len > 0 && loc_off(loc) == le16_get(h->heap_start))
		h->heap_start = le16_make(loc_off(loc) + len);
	else
		h->dead = le16_make(le16_get(h->dead) + len);
	memmove(s + slot, s + slot + 1, (n - slot - 1) * sizeof(*s));
	count_set(h, n - 1);
	if (n == 1) {
		h->heap_start = h->heap_end;
		h->dead = 0;
	}
}

void pg_set_child(uint8_t *page, unsigned slot, struct bt_node *child)
{
	struct bt_rec rec = pg_rec(page, slot);

	memcpy(page + (rec.val - page), &child, sizeof(child));
}
