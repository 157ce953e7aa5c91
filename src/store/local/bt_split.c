/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bt_split - two pages out of one, one out of two, and making room so as to need neither.
 */
#include "store/local/bt_internal.h"

/* --- making room at the tree's edges, where the prefix is soft (rule P3) --- */

/* Bytes that a page would use with another prefix length. */
static unsigned used_with_prefix(const uint8_t *page, unsigned prefix_len)
{
	unsigned lower_len = pg_lower_len(page), upper_len = pg_upper_len(page);
	int had = pg_prefix_len(page);
	int stripped = pg_count(page) - pg_slot_first(page);

	return (int)pg_used(page) + (had - (int)prefix_len) * stripped -
	       (int)pg_fence_bytes(lower_len, upper_len, had) +
	       (int)pg_fence_bytes(lower_len, upper_len, prefix_len);
}

/* Gives the page another prefix length if the new item then fits. */
static bool try_prefix(uint8_t *page, unsigned prefix_len, unsigned len, unsigned val_len)
{
	if (used_with_prefix(page, prefix_len) + BT_SLOT_BYTES + (len - prefix_len) + val_len >
	    BT_BODY_BYTES)
		return false;
	pg_reprefix(page, prefix_len);
	return true;
}

/*
 * The longest prefix that an edge page may have once it holds @key. All its keys lie between its
 * lower fence, or its first key, and its upper fence, or its last.
 */
static unsigned longest_prefix(const uint8_t *page, const uint8_t *key, unsigned len)
{
	unsigned n = pg_count(page), first = pg_slot_first(page), common;
	struct bt_key2 from = {.a = pg_lower(page), .a_len = pg_lower_len(page)}, to;
	struct bt_fence upper;

	if (n <= first)
		return pg_prefix_len(page);
	if (from.a_len == 0)
		from = pg_key(page, first);
	pg_get_upper(page, &upper);
	to = (struct bt_key2){.a = upper.bytes, .a_len = upper.len};
	if (to.a_len == 0)
		to = pg_key(page, n - 1);
	common = key2_lcp(&from, key, len);
	return key2_lcp(&to, key, common);
}

bool pg_try_insert(uint8_t *page, unsigned slot, const uint8_t *key, unsigned len, const void *val,
                   unsigned val_len)
{
	bool edge = pg_lower_len(page) == 0 || pg_upper_len(page) == 0;
	unsigned prefix_len = pg_prefix_len(page);

	if (pg_is_soft(page)) {
		unsigned common = key_lcp(pg_lower(page), prefix_len, key, len);

		if (common < prefix_len) {
			if (!try_prefix(page, common, len, val_len))
				return false;
			prefix_len = common;
		}
	}
	pst_assert(len >= prefix_len);
	if (pg_room(page) < BT_SLOT_BYTES + (len - prefix_len) + val_len) {
		unsigned longest = edge ? longest_prefix(page, key, len) : 0;

		if (longest <= prefix_len || !try_prefix(page, longest, len, val_len))
			return false;
		prefix_len = longest;
	}
	pg_insert(page, slot, key + prefix_len, len - prefix_len, val, val_len);
	return true;
}

/* --- splitting --- */

/*
 * A split in the making: the old page's items and the new one as one row, suffixes relative to the
 * old prefix. sum[i] is what the first i items take, slots included.
 */
struct row {
	const uint8_t *page;
	unsigned slot, count;
	bool inner;
	struct bt_rec item; /* the new one */
	struct bt_fence lower, upper;
	unsigned prefix_len;
	uint16_t sum[BT_SLOTS_MAX + 2];
};

static struct bt_rec row_rec(const struct row *r, unsigned i)
{
	if (i == r->slot)
		return r->item;
	return pg_rec(r->page, i < r->slot ? i : i - 1);
}

/* The suffix of what separates items m-1 and m: the shortest for leaves, m's key for inner pages
 * (rule P4). It begins item m's suffix. */
static unsigned row_sep_len(const struct row *r, unsigned m)
{
	struct bt_rec b = row_rec(r, m), a;

	if (r->inner)
		return b.suffix_len;
	a = row_rec(r, m - 1);
	return key_lcp(a.suffix, a.suffix_len, b.suffix, b.suffix_len) + 1;
}

/*
 * The prefix lengths of both halves when item @m begins the right one. Where a fence is missing
 * leaves keep what they have: it grows when they fill up. Inner pages take all that they can.
 */
static void row_prefixes(const struct row *r, unsigned m, unsigned sep_len, unsigned *ret_left,
                         unsigned *ret_right)
{
	struct bt_rec sep = row_rec(r, m), from = {.suffix_len = 0}, to = {.suffix_len = 0};
	unsigned p = r->prefix_len;

	if (r->lower.len > 0)
		from = (struct bt_rec){.suffix = r->lower.bytes + p,
		                       .suffix_len = r->lower.len - p};
	else if (r->inner && m > 1)
		from = row_rec(r, 1);
	if (r->upper.len > 0)
		to = (struct bt_rec){.suffix = r->upper.bytes + p, .suffix_len = r->upper.len - p};
	else if (r->inner && m + 1 < r->count)
		to = row_rec(r, r->count - 1);
	*ret_left = p + key_lcp(from.suffix, from.suffix_len, sep.suffix, sep_len);
	*ret_right = p + key_lcp(to.suffix, to.suffix_len, sep.suffix, sep_len);
}

/* Bytes that the larger half uses when item @m begins the right one. */
static unsigned row_cost(const struct row *r, unsigned m)
{
	unsigned n = r->count, sep_len = row_sep_len(r, m), sep_full = r->prefix_len + sep_len;
	unsigned left_prefix, right_prefix, left, right;

	row_prefixes(r, m, sep_len, &left_prefix, &right_prefix);
	left = r->sum[m] - (left_prefix - r->prefix_len) * (m - r->inner) +
	       pg_fence_bytes(r->lower.len, sep_full, left_prefix);
	right = r->sum[n] - r->sum[m] - (right_prefix - r->prefix_len) * (n - m - r->inner) +
	        pg_fence_bytes(sep_full, r->upper.len, right_prefix);
	if (r->inner)
		right -= row_rec(r, m).suffix_len;
	return MAX(left, right);
}

static void row_init(struct row *r, const uint8_t *page, unsigned slot, const uint8_t *key,
                     unsigned len, const void *val, unsigned val_len)
{
	unsigned p = pg_prefix_len(page);

	r->page = page;
	r->slot = slot;
	r->count = pg_count(page) + 1;
	r->inner = pg_level(page) > 0;
	r->item = (struct bt_rec){key + p, val, len - p, val_len};
	r->prefix_len = p;
	pg_get_lower(page, &r->lower);
	pg_get_upper(page, &r->upper);
	r->sum[0] = 0;
	for (unsigned i = 0; i < r->count; i++) {
		struct bt_rec rec = row_rec(r, i);

		r->sum[i + 1] = r->sum[i] + BT_SLOT_BYTES + rec.suffix_len + rec.val_len;
	}
}

/* Near the middle, where the separator is shortest. 0 when nothing there fits. */
static unsigned row_choose_middle(const struct row *r)
{
	unsigned n = r->count, mid = 1, around = n / 16 + 1, best = 0, best_len = UINT32_MAX;
	unsigned from, to;

	while (mid < n - 1 && r->sum[mid] < r->sum[n] / 2)
		mid++;
	from = mid > around ? mid - around : 1;
	to = MIN(mid + around, n - 1);
	for (unsigned m = from; m <= to; m++) {
		unsigned len = row_sep_len(r, m);

		if (len < best_len && row_cost(r, m) <= BT_BODY_BYTES) {
			best = m;
			best_len = len;
		}
	}
	return best;
}

static unsigned row_choose_any(const struct row *r)
{
	unsigned best = 0, best_cost = UINT32_MAX;

	for (unsigned m = 1; m < r->count; m++) {
		unsigned cost = row_cost(r, m);

		if (cost < best_cost) {
			best = m;
			best_cost = cost;
		}
	}
	pst_assert(best_cost <= BT_BODY_BYTES); /* see "Room" in bt_internal.h */
	return best;
}

/* Which item begins the right half. */
static unsigned row_choose(const struct row *r)
{
	const struct bt_page_hdr *h = pg_chdr(r->page);
	unsigned n = r->count, m;

	if (r->slot == n - 1 && n > 2u + r->inner) {
		/* A load in key order: leave the left page full. An inner page is left with two
		 * children, so that both have a neighbour. */
		m = n - 1 - r->inner;
		if (row_cost(r, m) <= BT_BODY_BYTES)
			return m;
	} else if (h->run.slot == r->slot && h->run.length >= BT_RUN_MIN) {
		/* The same, with the items of others after it: they leave. */
		m = r->slot + 1;
		if (row_cost(r, m) <= BT_BODY_BYTES)
			return m;
		if (row_cost(r, m - 1) <= BT_BODY_BYTES)
			return m - 1;
	}
	m = row_choose_middle(r);
	return m ? m : row_choose_any(r);
}

/* Appends items [from, to) of the row. */
static void row_emit(const struct row *r, uint8_t *page, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		struct bt_rec rec = row_rec(r, i);
		struct bt_key2 key = {pg_lower(r->page), rec.suffix, r->prefix_len, rec.suffix_len};

		pg_append(page, &key, rec.val, rec.val_len);
	}
}

/*
 * A split in which no item keeps company but by choice: the new key does not begin with a soft
 * prefix that the page can't do without. It is less or greater than all others; it leaves with the
 * one next to it. What separates that one from the rest begins with the prefix, so that nothing
 * grows on the side of the rest, and the two fit anywhere.
 */
struct parting {
	unsigned first_right; /* old item that begins the right half */
	bool stranger_left;
	struct bt_fence lower, upper;
};

static void part_left(uint8_t *page, const uint8_t *old, const struct parting *s,
                      const struct bt_key2 *key, const void *val, unsigned val_len,
                      const struct bt_fence *sep)
{
	unsigned level = pg_level(old), p = pg_prefix_len(old), at = s->stranger_left && level > 0;

	if (s->stranger_left)
		p = key_lcp(pg_lower(old), p, key->a, key->a_len);
	else if (s->lower.len > 0)
		p = key_lcp(s->lower.bytes, s->lower.len, sep->bytes, sep->len);
	pg_init(page, level, &s->lower, sep, pg_lower(old), p);
	pg_append_range(page, old, 0, at);
	if (s->stranger_left)
		pg_append(page, key, val, val_len);
	pg_append_range(page, old, at, s->first_right);
}

static void part_right(uint8_t *page, const uint8_t *old, const struct parting *s,
                       const struct bt_key2 *key, const void *val, unsigned val_len,
                       const struct bt_fence *sep)
{
	unsigned p = pg_prefix_len(old);

	if (!s->stranger_left)
		p = key_lcp(pg_lower(old), p, key->a, key->a_len);
	else if (s->upper.len > 0)
		p = key_lcp(sep->bytes, sep->len, s->upper.bytes, s->upper.len);
	pg_init(page, pg_level(old), sep, &s->upper, NULL, p);
	pg_append_range(page, old, s->first_right, pg_count(old));
	if (!s->stranger_left)
		pg_append(page, key, val, val_len);
}

static void split_off_stranger(uint8_t *page, uint8_t *right, const uint8_t *old, unsigned slot,
                               const struct bt_key2 *key, const void *val, unsigned val_len,
                               struct bt_fence *ret_sep)
{
	unsigned n = pg_count(old), p = pg_prefix_len(old), sep_len;
	struct parting s = {.stranger_left = slot < n};
	struct bt_rec a, b;

	pst_assert(n >= 2);
	s.first_right = s.stranger_left ? 1 : n - 1;
	a = pg_rec(old, s.first_right - 1);
	b = pg_rec(old, s.first_right);
	sep_len = pg_level(old) > 0 ? b.suffix_len
	                            : key_lcp(a.suffix, a.suffix_len, b.suffix, b.suffix_len) + 1;
	memcpy(ret_sep->bytes, pg_lower(old), p);
	memcpy(ret_sep->bytes + p, b.suffix, sep_len);
	ret_sep->len = p + sep_len;
	pg_get_lower(old, &s.lower);
	pg_get_upper(old, &s.upper);
	part_left(page, old, &s, key, val, val_len, ret_sep);
	part_right(right, old, &s, key, val, val_len, ret_sep);
}

void pg_split(uint8_t *page, uint8_t *right, unsigned slot, const uint8_t *key, unsigned len,
              const void *val, unsigned val_len, struct bt_fence *ret_sep)
{
	uint8_t old[BT_PAGE_BYTES];
	unsigned level = pg_level(page), m, sep_len, left_prefix, right_prefix;
	struct row r;

	memcpy(old, page, sizeof(old));
	if (pg_is_soft(old) &&
	    key_lcp(pg_lower(old), pg_prefix_len(old), key, len) < pg_prefix_len(old)) {
		struct bt_key2 stranger = {.a = key, .a_len = len};

		split_off_stranger(page, right, old, slot, &stranger, val, val_len, ret_sep);
		return;
	}
	row_init(&r, old, slot, key, len, val, val_len);
	m = row_choose(&r);
	sep_len = row_sep_len(&r, m);
	row_prefixes(&r, m, sep_len, &left_prefix, &right_prefix);
	memcpy(ret_sep->bytes, pg_lower(old), r.prefix_len);
	memcpy(ret_sep->bytes + r.prefix_len, row_rec(&r, m).suffix, sep_len);
	ret_sep->len = r.prefix_len + sep_len;

	/* Where the left half has no lower fence, its prefix begins the separator. */
	pg_init(page, level, &r.lower, ret_sep, ret_sep->bytes, left_prefix);
	row_emit(&r, page, 0, m);
	pg_init(right, level, ret_sep, &r.upper, NULL, right_prefix);
	row_emit(&r, right, m, r.count);
}

/* --- merging --- */

/*
 * A prefix that all keys of both pages and the merged page's fences begin with. A missing fence is
 * stood in for by the prefix of the page on that side: all its keys begin with it.
 */
static unsigned merged_prefix(const uint8_t *left, const uint8_t *right,
                              const struct bt_fence *upper)
{
	unsigned from_len = pg_lower_len(left), to_len = upper->len;
	const uint8_t *to = upper->bytes;

	if (from_len == 0)
		from_len = pg_prefix_len(left);
	if (to_len == 0) {
		to = pg_lower(right);
		to_len = pg_prefix_len(right);
	}
	return key_lcp(pg_lower(left), from_len, to, to_len);
}

/* What the items of @page take with another prefix, without their slots. */
static int records_with_prefix(const uint8_t *page, int prefix_len)
{
	int stripped = pg_count(page) - pg_slot_first(page);

	return (int)pg_live(page) + ((int)pg_prefix_len(page) - prefix_len) * stripped;
}

bool pg_merge(uint8_t *out, const uint8_t *left, const uint8_t *right, unsigned used_max)
{
	unsigned level = pg_level(left), prefix_len;
	struct bt_fence lower, upper;
	int used;

	pg_get_lower(left, &lower);
	pg_get_upper(right, &upper);
	prefix_len = merged_prefix(left, right, &upper);
	used = records_with_prefix(left, prefix_len) + records_with_prefix(right, prefix_len) +
	       BT_SLOT_BYTES * (pg_count(left) + pg_count(right)) +
	       pg_fence_bytes(lower.len, upper.len, prefix_len);
	if (level > 0) /* the right page's slot 0 gets its key back */
		used += (int)pg_lower_len(right) - (int)prefix_len;
	if (used > (int)used_max)
		return false;
	pg_init(out, level, &lower, &upper, pg_lower(left), prefix_len);
	pg_append_range(out, left, 0, pg_count(left));
	pg_append_range(out, right, 0, pg_count(right));
	return true;
}
