/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bt_media - pages to and from media, and the checks that nothing is trusted without.
 *
 * What lookups and changes rely on is in bt_internal.h (rules P1-P5); pg_check() verifies all of it
 * for one page whatever its bytes are, bt_node_load() how a page and its children fit together, and
 * bt_adopt() that the root has no fences.
 */
#include "store/local/bt_internal.h"

/* --- to media --- */

static uint64_t dirty_count(const struct bt_node *node)
{
	uint64_t n = 1;

	if (node->addr != 0)
		return 0; /* invariant 3: nor are those below it */
	if (node->level > 0) {
		for (unsigned i = 0; i < pg_count(node->page); i++)
			n += dirty_count(pg_child(node->page, i));
	}
	return n;
}

uint64_t bt_dirty_count(const struct btree *t)
{
	return t->root ? dirty_count(t->root) : 0;
}

struct assign {
	uint64_t (*assign)(void *arg);
	void (*emit)(void *arg, struct bt_node *node, uint64_t addr);
	void *arg;
};

static void dirty_assign(struct bt_node *node, const struct assign *a)
{
	if (node->addr != 0)
		return;
	if (node->level > 0) {
		for (unsigned i = 0; i < pg_count(node->page); i++)
			dirty_assign(pg_child(node->page, i), a);
	}
	node->addr = a->assign(a->arg);
	pst_assert(node->addr != 0);
	a->emit(a->arg, node, node->addr);
}

void bt_dirty_assign(const struct btree *t, uint64_t gen, uint32_t cont,
                     uint64_t (*assign)(void *arg),
                     void (*emit)(void *arg, struct bt_node *node, uint64_t addr), void *arg)
{
	if (t->root)
		dirty_assign(t->root, &(struct assign){assign, emit, arg});
}

void bt_page_seal(const struct bt_env *env, const struct bt_node *node, uint64_t gen, uint32_t cont,
                  uint8_t image[BT_PAGE_BYTES])
{
	struct bt_page_hdr *h = pg_hdr(image);

	pst_assert(node->addr != 0);
	pg_copy_compact(image, node->page);
	if (node->level > 0) {
		for (unsigned i = 0; i < pg_count(image); i++) {
			le64 addr = le64_make(pg_child(image, i)->addr);

			pst_assert(addr != 0);
			memcpy(image + (pg_rec(image, i).val - image), &addr, sizeof(addr));
		}
	}
	h->magic = le32_make(BT_MAGIC);
	h->version = le16_make(BT_VERSION);
	h->addr = le64_make(node->addr);
	h->gen = le64_make(gen);
	memcpy(h->store_id, env->store_id, sizeof(h->store_id));
	h->shard = le32_make(env->shard);
	h->cont = le32_make(cont);
	h->crc = le32_make(crc32c(0, image + offsetof(struct bt_page_hdr, addr),
	                          BT_PAGE_BYTES - offsetof(struct bt_page_hdr, addr)));
}

/* --- checking one page --- */

static int bad(struct pst_err *err, const char *what)
{
	return err_set(err, -EBADMSG, "index page: %s", what);
}

/* The header's numbers, before anything is reached through them. */
static int check_bounds(const struct bt_page_hdr *h, struct pst_err *err)
{
	unsigned count = le16_get(h->count), start = le16_get(h->heap_start);
	unsigned end = le16_get(h->heap_end), prefix = le16_get(h->prefix_len);
	unsigned lower = le16_get(h->lower_len), upper = le16_get(h->upper_len);
	unsigned flags = count == 0 ? BT_PAGE_EMPTY : 0;

	if (le16_get(h->level) >= BT_DEPTH_MAX)
		return bad(err, "its level is too high");
	if (lower > BT_KEY_MAX || upper > BT_KEY_MAX || prefix > BT_KEY_MAX ||
	    (lower > 0 && prefix > lower) || (upper > 0 && prefix > upper))
		return bad(err, "a fence or the prefix has a length that can't be");
	if (end != BT_PAGE_BYTES - pg_fence_bytes(lower, upper, prefix))
		return bad(err, "the heap does not end where the fences begin");
	if (prefix > 0 && (lower == 0 || upper == 0))
		flags |= BT_PAGE_SOFT;
	if (le16_get(h->flags) != flags)
		return bad(err, "its flags are wrong");
	if (count > BT_SLOTS_MAX || start > end || start < BT_HDR_BYTES + count * BT_SLOT_BYTES)
		return bad(err, "slots and heap overlap");
	if (le16_get(h->dead) > end - start)
		return bad(err, "more dead bytes than its heap has");
	if (le16_get(h->level) > 0 && count == 0)
		return bad(err, "an inner page without children");
	return 0;
}

/* Rule P5. Marks the heap bytes that records take. */
static int check_record(const uint8_t *page, unsigned slot, uint8_t used[BT_PAGE_BYTES],
                        struct pst_err *err)
{
	const struct bt_page_hdr *h = pg_chdr(page);
	struct bt_slot s = pg_cslots(page)[slot];
	uint32_t loc = le32_get(s.loc);
	unsigned off = loc_off(loc), suffix_len = loc_suffix_len(loc), val_len = loc_val_len(loc);
	unsigned len = suffix_len + val_len, prefix_len = pg_prefix_len(page);

	if (val_len > BT_VALUE_MAX || suffix_len + prefix_len > BT_KEY_MAX) /* bit 31 too */
		return bad(err, "an item is too long");
	if (pg_level(page) > 0 && val_len != BT_CHILD_LEN)
		return bad(err, "a child reference has the wrong length");
	if ((pg_level(page) == 0 || slot > 0) && suffix_len + prefix_len == 0)
		return bad(err, "an empty key");
	if (len == 0 ? off != 0
	             : off < le16_get(h->heap_start) || off + len > le16_get(h->heap_end))
		return bad(err, "a record lies outside the heap");
	for (unsigned i = off; i < off + len; i++) {
		if (used[i])
			return bad(err, "two records overlap");
		used[i] = 1;
	}
	if (le32_get(s.head) != key_head(page, page + off + val_len, page + off + len))
		return bad(err, "a slot's head is not that of its key");
	return 0;
}

/* Rule P1, and btree.h's invariant 4. Suffixes are compared: the prefix is the same. */
static int check_order(const uint8_t *page, struct pst_err *err)
{
	unsigned n = pg_count(page), prefix = pg_prefix_len(page), lower = pg_lower_len(page);
	unsigned upper = pg_upper_len(page), i = 0;
	const uint8_t *upper_suffix = pg_lower(page) + (lower ? lower : prefix);
	struct bt_rec prev = {.suffix = pg_lower(page) + prefix, .suffix_len = lower - prefix}, rec;
	bool first = true; /* prev is the lower fence, which a leaf's first key may equal */
	int c;

	if (pg_level(page) > 0) {
		if (pg_rec(page, i++).suffix_len != 0) /* rule P4 */
			return bad(err, "its first child has a key");
		first = false;
	}
	if (lower == 0 && i < n) {
		prev = pg_rec(page, i++); /* nothing is before it */
		first = false;
	} else if (lower == 0) {
		prev.suffix_len = 0;
	}
	for (; i < n; i++, prev = rec, first = false) {
		rec = pg_rec(page, i);
		c = key_cmp(prev.suffix, prev.suffix_len, rec.suffix, rec.suffix_len);
		if (c > 0 || (c == 0 && !first))
			return bad(err, "its keys are out of order");
	}
	if (upper == 0)
		return 0;
	c = key_cmp(prev.suffix, prev.suffix_len, upper_suffix, upper - prefix);
	/* The upper fence may be the prefix itself where nothing is below it. */
	if (c > 0 || (c == 0 && (lower > 0 || n > pg_slot_first(page))))
		return bad(err, "its upper fence is not above its keys and lower fence");
	return 0;
}

int pg_check(const uint8_t *page, struct pst_err *err)
{
	const struct bt_page_hdr *h = pg_chdr(page);
	uint8_t used[BT_PAGE_BYTES] = {0};
	unsigned bytes = 0;
	int r = check_bounds(h, err);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < pg_count(page); i++) {
		struct bt_rec rec;

		r = check_record(page, i, used, err);
		if (r < 0)
			return r;
		rec = pg_rec(page, i);
		bytes += rec.suffix_len + rec.val_len;
	}
	if (bytes != pg_live(page))
		return bad(err, "dead bytes and records don't add up to its heap");
	return check_order(page, err);
}

int bt_page_check(const struct bt_env *env, const uint8_t image[BT_PAGE_BYTES], uint64_t addr,
                  struct pst_err *err)
{
	const struct bt_page_hdr *h = pg_chdr(image);
	static const uint8_t zero[sizeof(h->zero)];
	int r;

	if (le32_get(h->magic) != BT_MAGIC)
		return bad(err, "not an index page");
	if (le32_get(h->crc) != crc32c(0, image + offsetof(struct bt_page_hdr, addr),
	                               BT_PAGE_BYTES - offsetof(struct bt_page_hdr, addr)))
		return bad(err, "wrong checksum");
	if (le16_get(h->version) != BT_VERSION || memcmp(h->zero, zero, sizeof(zero)) != 0)
		return bad(err, "written in a version of the format that is not known here");
	if (le64_get(h->addr) != addr)
		return bad(err, "it belongs to another address");
	if (memcmp(h->store_id, env->store_id, sizeof(h->store_id)) != 0 ||
	    le32_get(h->shard) != env->shard)
		return bad(err, "it belongs to another store or shard");
	r = pg_check(image, err);
	if (r < 0)
		return r;
	for (unsigned i = 0; le16_get(h->level) > 0 && i < pg_count(image); i++) {
		if (bt_page_child(image, i) == 0)
			return bad(err, "a child has no address");
	}
	return 0;
}

unsigned bt_page_level(const uint8_t image[BT_PAGE_BYTES])
{
	return pg_level(image);
}

unsigned bt_page_count(const uint8_t image[BT_PAGE_BYTES])
{
	return pg_count(image);
}

uint64_t bt_page_gen(const uint8_t image[BT_PAGE_BYTES])
{
	return le64_get(pg_chdr(image)->gen);
}

uint32_t bt_page_cont(const uint8_t image[BT_PAGE_BYTES])
{
	return le32_get(pg_chdr(image)->cont);
}

uint64_t bt_page_child(const uint8_t image[BT_PAGE_BYTES], unsigned slot)
{
	le64 addr;

	pst_assert(slot < pg_count(image));
	memcpy(&addr, pg_rec(image, slot).val, sizeof(addr));
	return le64_get(addr);
}

/* --- from media --- */

static bool key2_is(const struct bt_key2 *key, const struct bt_fence *fence)
{
	return key->a_len + key->b_len == fence->len &&
	       memcmp(key->a, fence->bytes, key->a_len) == 0 &&
	       (key->b_len == 0 || memcmp(key->b, fence->bytes + key->a_len, key->b_len) == 0);
}

/* Do the level and fences of child @slot fit @page (rule P4)? */
static int check_child(const uint8_t *page, unsigned slot, const struct bt_node *child,
                       struct pst_err *err)
{
	struct bt_fence lower, upper, own;
	struct bt_key2 from = pg_key(page, slot), to;

	if (child->level + 1u != pg_level(page))
		return bad(err, "a child is not one level below it");
	pg_get_lower(child->page, &lower);
	pg_get_upper(child->page, &upper);
	if (slot + 1 < pg_count(page)) {
		to = pg_key(page, slot + 1);
	} else {
		pg_get_upper(page, &own);
		to = (struct bt_key2){.a = own.bytes, .a_len = own.len};
	}
	if (!key2_is(&from, &lower) || !key2_is(&to, &upper))
		return bad(err, "a child's fences are not the keys around it");
	return 0;
}

/* Puts a node in the place of each child's address. On failure those taken are given back. */
static int load_children(struct bt_env *env, uint8_t *page,
                         struct bt_node *(*child)(void *arg, uint64_t addr), void *arg,
                         struct pst_err *err)
{
	unsigned n = pg_count(page), i;
	int r = 0;

	for (i = 0; i < n && r == 0; i++) {
		struct bt_node *node = child(arg, bt_page_child(page, i));

		if (!node) {
			r = bad(err, "a child is missing");
			break;
		}
		pg_set_child(page, i, node);
		r = check_child(page, i, node, err);
	}
	if (r < 0) {
		while (i-- > 0)
			bt_node_unref(env, pg_child(page, i));
	}
	return r;
}

/* btree.h, invariant 3: one that stands in for a lost page has no address, nor has what is above. */
static bool clean_below(const struct bt_node *node)
{
	for (unsigned i = 0; node->level > 0 && i < pg_count(node->page); i++)
		if (pg_child(node->page, i)->addr == 0)
			return false;
	return true;
}

int bt_node_load(struct bt_env *env, struct bt_node **ret_node, const uint8_t image[BT_PAGE_BYTES],
                 uint64_t addr, struct bt_node *(*child)(void *arg, uint64_t addr), void *arg,
                 struct pst_err *err)
{
	struct bt_node *node = bt_node_try_new(env, pg_level(image));
	int r;

	if (!node)
		return err_set(err, -ENOMEM, "no memory for an index page");
	memcpy(node->page, image, BT_PAGE_BYTES);
	pg_hdr(node->page)->gen = 0; /* the place of the run in DRAM */
	if (node->level > 0) {
		r = load_children(env, node->page, child, arg, err);
		if (r < 0) {
			bt_node_free(env, node);
			return r;
		}
	}
	node->addr = clean_below(node) ? addr : 0;
	*ret_node = node;
	return 0;
}

/* --- in the place of a page that is lost --- */

static struct bt_fence fence_of(const struct bt_key2 *key)
{
	struct bt_fence f = {.len = key->a_len + key->b_len};

	memcpy(f.bytes, key->a, key->a_len);
	if (key->b_len)
		memcpy(f.bytes + key->a_len, key->b, key->b_len);
	return f;
}

/* The fences of child @slot of @page (rule P4). */
static void child_fences(const uint8_t *page, unsigned slot, struct bt_fence *ret_lower,
                         struct bt_fence *ret_upper)
{
	struct bt_key2 key;

	if (slot > 0) {
		key = pg_key(page, slot);
		*ret_lower = fence_of(&key);
	} else {
		pg_get_lower(page, ret_lower);
	}
	if (slot + 1 < pg_count(page)) {
		key = pg_key(page, slot + 1);
		*ret_upper = fence_of(&key);
	} else {
		pg_get_upper(page, ret_upper);
	}
}

int bt_stand_in(struct bt_env *env, struct bt_node **ret_node, const uint8_t parent[BT_PAGE_BYTES],
                unsigned slot, struct bt_gap *ret_gap)
{
	struct bt_fence lower, upper;
	struct bt_node *below = NULL;
	unsigned prefix_len = 0;

	child_fences(parent, slot, &lower, &upper);
	if (lower.len > 0 && upper.len > 0)
		prefix_len = key_lcp(lower.bytes, lower.len, upper.bytes, upper.len);
	for (unsigned level = 0; level < pg_level(parent); level++) {
		struct bt_node *node = bt_node_try_new(env, level);

		if (!node) {
			if (below)
				bt_node_unref(env, below);
			return -ENOMEM;
		}
		pg_init(node->page, level, &lower, &upper, NULL, prefix_len);
		if (below)
			pg_append(node->page, &(struct bt_key2){0}, &below, sizeof(below));
		node->addr = 0;
		below = node;
	}
	ret_gap->lower_len = (uint16_t)lower.len;
	ret_gap->upper_len = (uint16_t)upper.len;
	memcpy(ret_gap->lower, lower.bytes, lower.len);
	memcpy(ret_gap->upper, upper.bytes, upper.len);
	*ret_node = below;
	return 0;
}

int bt_adopt(struct btree *t, struct bt_node *root, uint64_t items, struct pst_err *err)
{
	pst_assert(!t->root);
	if (pg_lower_len(root->page) > 0 || pg_upper_len(root->page) > 0)
		return bad(err, "a root has fences");
	if (root->level > 0 && pg_count(root->page) < 2)
		return bad(err, "a root has one child");
	if (items == 0 || (root->level == 0 && pg_count(root->page) != items))
		return bad(err, "a root does not hold as many items as it should");
	t->root = root;
	t->items = items;
	return 0;
}

/* --- checking a tree --- */

/* Recurses once a level. */
static int check_node(const struct bt_node *node, uint64_t *items, struct pst_err *err)
{
	const uint8_t *page = node->page;
	int r = pg_check(page, err);

	if (r < 0)
		return r;
	if (node->refs == 0 || node->level != pg_level(page))
		return bad(err, "a node's account of it is wrong");
	if (node->level == 0)
		*items += pg_count(page);
	for (unsigned i = 0; node->level > 0 && i < pg_count(page); i++) {
		const struct bt_node *child = pg_child(page, i);

		if (node->addr != 0 && child->addr == 0)
			return bad(err, "it has an address, but its child has none");
		r = check_child(page, i, child, err);
		if (r == 0)
			r = check_node(child, items, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int bt_check(const struct btree *t, struct pst_err *err)
{
	uint64_t items = 0;
	int r;

	if (!t->root)
		return t->items == 0 ? 0 : bad(err, "items in an empty tree");
	if (pg_lower_len(t->root->page) > 0 || pg_upper_len(t->root->page) > 0)
		return bad(err, "a root has fences");
	if (t->root->level > 0 && pg_count(t->root->page) < 2)
		return bad(err, "a root has one child");
	r = check_node(t->root, &items, err);
	if (r < 0)
		return r;
	if (items != t->items || items == 0)
		return bad(err, "the tree's count of items is wrong");
	return 0;
}
