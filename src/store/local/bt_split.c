/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bt_split - two pages out of one, one out of two, and making room so as to need neither.
 */
#include "store/local/bt_internal.h"

/* --- making room at the tree's right edge, where the prefix is soft (rule P3) --- */

/* Bytes that the page would use with another prefix length; it has no upper fence. */
static unsigned used_with_prefix(const uint8_t *page, unsigned prefix_len)
{
	int stripped = pg_count(page) - (pg_level(page) > 0); /* rule P4 */

	return pg_used(page) + ((int)pg_prefix_len(page) - (int)prefix_len) * stripped;
}

/* A key that does not begin with the prefix: can the page live with a shorter one? */
static bool shorten_prefix(uint8_t *page, unsigned prefix_len, unsigned len, unsigned val_len)
{
	if (used_with_prefix(page, prefix_len) + BT_SLOT_BYTES + (len - prefix_len) + val_len >
	    BT_BODY_BYTES)
		return false;
	pg_reprefix(page, prefix_len);
	return true;
}

/* A full page: do its keys and the new one have more in common than is stripped? */
static bool lengthen_prefix(uint8_t *page, const uint8_t *key, unsigned len, unsigned val_len)
{
	unsigned n = pg_count(page), lower_len = pg_lower_len(page);
	const uint8_t *lower = pg_lower(page);
	unsigned prefix_len = key_lcp(lower, lower_len, key, len);
	struct bt_key2 last;

	if (n == 0)
		return false;
	/* All keys lie between the lower fence and the greater of the last and the new one. */
	last = pg_key(page, n - 1);
	if (last.a_len < prefix_len)
		prefix_len = last.a_len + key_lcp(lower + last.a_len, prefix_len - last.a_len,
		                                  last.b, last.b_len);
	if (prefix_len <= pg_prefix_len(page) ||
	    used_with_prefix(page, prefix_len) + BT_SLOT_BYTES + (len - prefix_len) + val_len >
	            BT_BODY_BYTES)
		return false;
	pg_reprefix(page, prefix_len);
	return true;
}

bool pg_try_insert(uint8_t *page, unsigned slot, const uint8_t *key, unsigned len, const void *val,
                   unsigned val_len)
{
	unsigned prefix_len = pg_prefix_len(page);

	if (pg_is_soft(page)) {
		unsigned common = key_lcp(pg_lower(page), prefix_len, key, len);

		if (common < prefix_len) {
			if (!shorten_prefix(page, common, len, val_len))
				return false;
			prefix_len = common;
		}
	}
	pst_assert(len >= prefix_len);
	if (pg_room(page) < BT_SLOT_BYTES + (len - prefix_len) + val_len) {
		if (pg_upper_len(page) > 0 || !lengthen_prefix(page, key, len, val_len))
			return false;
		prefix_len = pg_prefix_len(page);
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

/* The prefix lengths of both halves when item @m begins the right one. */
static void row_prefixes(const struct row *r, unsigned m, unsigned sep_len, unsigned *ret_left,
                         unsigned *ret_right)
{
	const uint8_t *sep = row_rec(r, m).suffix;
	unsigned p = r->prefix_len;

	*ret_left = p;
	*ret_right = p;
	if (r->lower.len > p)
		*ret_left += key_lcp(r->lower.bytes + p, r->lower.len - p, sep, sep_len);
	if (r->upper.len > p)
		*ret_right += key_lcp(r->upper.bytes + p, r->upper.len - p, sep, sep_len);
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
	unsigned n = r->count, m;

	if (r->slot == n - 1 && n > 2u + r->inner) {
		/* A load in key order: leave the left page full. An inner page is left with two
		 * children, so that both have a neighbour. */
		m = n - 1 - r->inner;
		if (row_cost(r, m) <= BT_BODY_BYTES)
			return m;
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
 * The new key does not begin with a soft prefix that the page can't do without: the last item and
 * the new one leave. What separates the last two old items begins with the prefix, so that nothing
 * on the left grows.
 */
static void split_off_stranger(uint8_t *page, uint8_t *right, const uint8_t *old,
                               const uint8_t *key, unsigned len, const void *val, unsigned val_len,
                               struct bt_fence *ret_sep)
{
	unsigned n = pg_count(old), p = pg_prefix_len(old), level = pg_level(old), sep_len;
	struct bt_key2 stranger = {.a = key, .a_len = len};
	struct bt_rec a, b;

	pst_assert(n >= 2);
	a = pg_rec(old, n - 2);
	b = pg_rec(old, n - 1);
	sep_len = level > 0 ? b.suffix_len
	                    : key_lcp(a.suffix, a.suffix_len, b.suffix, b.suffix_len) + 1;
	memcpy(ret_sep->bytes, pg_lower(old), p);
	memcpy(ret_sep->bytes + p, b.suffix, sep_len);
	ret_sep->len = p + sep_len;

	pg_init(page, level, pg_lower(old), pg_lower_len(old), ret_sep->bytes, ret_sep->len,
	        key_lcp(pg_lower(old), pg_lower_len(old), ret_sep->bytes, ret_sep->len));
	pg_append_range(page, old, 0, n - 1);
	pg_init(right, level, ret_sep->bytes, ret_sep->len, NULL, 0,
	        key_lcp(pg_lower(old), p, key, len));
	pg_append_range(right, old, n - 1, n);
	pg_append(right, &stranger, val, val_len);
}

void pg_split(uint8_t *page, uint8_t *right, unsigned slot, const uint8_t *key, unsigned len,
              const void *val, unsigned val_len, struct bt_fence *ret_sep)
{
	uint8_t old[BT_PAGE_BYTES];
	unsigned level = pg_level(page), m, sep_len, left_prefix, right_prefix;
	struct row r;

	memcpy(old, page, sizeof(old));
	if (pg_is_soft(old) &&
	    (len < pg_prefix_len(old) || memcmp(pg_lower(old), key, pg_prefix_len(old)) != 0)) {
		split_off_stranger(page, right, old, key, len, val, val_len, ret_sep);
		return;
	}
	row_init(&r, old, slot, key, len, val, val_len);
	m = row_choose(&r);
	sep_len = row_sep_len(&r, m);
	row_prefixes(&r, m, sep_len, &left_prefix, &right_prefix);
	memcpy(ret_sep->bytes, pg_lower(old), r.prefix_len);
	memcpy(ret_sep->bytes + r.prefix_len, row_rec(&r, m).suffix, sep_len);
	ret_sep->len = r.prefix_len + sep_len;

	pg_init(page, level, r.lower.bytes, r.lower.len, ret_sep->bytes, ret_sep->len, left_prefix);
	row_emit(&r, page, 0, m);
	pg_init(right, level, ret_sep->bytes, ret_sep->len, r.upper.bytes, r.upper.len,
	        right_prefix);
	row_emit(&r, right, m, r.count);
}

/* --- merging --- */

/* The prefix that all keys of both pages and of the merged page's range have in common. */
static unsigned merged_prefix(const uint8_t *left, const uint8_t *right,
                              const struct bt_fence *upper)
{
	const uint8_t *lower = pg_lower(left), *last;
	unsigned lower_len = pg_lower_len(left), n;

	if (upper->len > 0)
		return key_lcp(lower, lower_len, upper->bytes, upper->len);
	/* Soft (rule P3), and cheap rather than as long as possible: what the right page strips. */
	last = pg_lower(right);
	n = pg_prefix_len(right);
	return key_lcp(lower, lower_len, last, n);
}

/* What the items of @page take with another prefix, without their slots. */
static int records_with_prefix(const uint8_t *page, int prefix_len)
{
	int stripped = pg_count(page) - (pg_level(page) > 0);

	return (int)pg_live(page) + ((int)pg_prefix_len(page) - prefix_len) * stripped;
}

bool pg_merge(uint8_t *out, const uint8_t *left, const uint8_t *right, unsigned used_max)
{
	unsigned level = pg_level(left), lower_len = pg_lower_len(left), prefix_len;
	struct bt_fence upper;
	int used;

	pg_get_upper(right, &upper);
	prefix_len = merged_prefix(left, right, &upper);
	used = records_with_prefix(left, prefix_len) + records_with_prefix(right, prefix_len) +
	       BT_SLOT_BYTES * (pg_count(left) + pg_count(right)) +
	       pg_fence_bytes(lower_len, upper.len, prefix_len);
	if (level > 0) /* the right page's slot 0 gets its key back */
		used += (int)pg_lower_len(right) - (int)prefix_len;
	if (used > (int)used_max)
		return false;
	pg_init(out, level, pg_lower(left), lower_len, upper.bytes, upper.len, prefix_len);
	pg_append_range(out, left, 0, pg_count(left));
	pg_append_range(out, right, 0, pg_count(right));
	return true;
}
