/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tree - what the keys of a container's tree mean: object heads, extents and values. Nothing else
 * knows how they are packed.
 *
 * The extent that begins at block 0 lives in the head, so that an ordinary small file is one item. When
 * it is one block, the head has a copy of its checksum, too, so that a read of a small file needs no
 * checksum page: there are a million of them, at random places, and few pages in the cache.
 */
#include "store/local/engine.h"

#define KEY_EXTENT_BYTES (KEY_OBJ_BYTES + 6)
#define HEAD_CSUM_AT     (sizeof(struct media_head) + sizeof(struct media_extent))
#define HEAD_BYTES_MAX \
	(sizeof(struct media_head) + sizeof(struct media_extent) + sizeof(le32) + PST_LABEL_MAX)

void key_obj(uint8_t key[KEY_OBJ_BYTES], struct pst_oid oid, uint8_t kind)
{
	put_be64(key, oid.hi);
	put_be64(key + 8, oid.lo);
	key[16] = kind;
}

struct pst_oid oid_of_key(const uint8_t *key)
{
	return (struct pst_oid){get_be64(key), get_be64(key + 8)};
}

static void key_extent(uint8_t key[KEY_EXTENT_BYTES], struct pst_oid oid, uint64_t lblk)
{
	uint8_t be[8];

	key_obj(key, oid, KEY_EXTENT);
	put_be64(be, lblk);
	memcpy(key + KEY_OBJ_BYTES, be + 2, 6);
}

static uint64_t lblk_of_suffix(const uint8_t *p)
{
	return (uint64_t)p[0] << 40 | (uint64_t)p[1] << 32 | get_be32(p + 2);
}

/* --- packing --- */

static void extent_encode(struct media_extent *m, uint64_t addr, uint32_t blocks, uint32_t birth,
                          bool nocsum)
{
	put48(m->addr, addr);
	m->blocks = le32_make(blocks | (nocsum ? EXTENT_NOCSUM : 0));
	m->birth = le32_make(birth);
}

bool extent_decode(const uint8_t *val, size_t len, struct extent *e)
{
	const struct media_extent *m = (const void *)val;

	if (len != sizeof(*m))
		return false;
	e->addr = get48(m->addr);
	e->blocks = le32_get(m->blocks) & ~EXTENT_NOCSUM;
	e->nocsum = le32_get(m->blocks) & EXTENT_NOCSUM;
	e->birth = le32_get(m->birth);
	return e->blocks > 0 && e->blocks <= EXTENT_BLOCKS_MAX;
}

static inline __attribute__((always_inline)) int decode(const uint8_t *val, size_t len,
                                                        struct head *h)
{
	const struct media_head *m = (const void *)val;
	size_t at = sizeof(*m);
	le32 csum;

	if (len < at)
		return -EBADMSG;
	h->exists = true;
	h->has_extent = m->flags & HEAD_EXTENT;
	h->label_len = m->label_len;
	h->blocks = get48(m->blocks);
	h->size = le64_get(m->size);
	h->mtime = le64_get(m->mtime);
	h->has_csum = false;
	if (h->has_extent) {
		struct extent e;

		if (len < at + sizeof(struct media_extent) ||
		    !extent_decode(val + at, sizeof(struct media_extent), &e))
			return -EBADMSG;
		h->addr = e.addr;
		h->ext_blocks = e.blocks;
		h->birth = e.birth;
		h->nocsum = e.nocsum;
		at += sizeof(struct media_extent);
	}
	if (m->flags & HEAD_CSUM) {
		if (len < at + sizeof(le32) || !h->has_extent || h->ext_blocks != 1 || h->nocsum)
			return -EBADMSG;
		h->has_csum = true;
		memcpy(&csum, val + at, sizeof(csum)); /* not aligned */
		h->csum = le32_get(csum);
		at += sizeof(le32);
	}
	h->label = val + at;
	return len == at + h->label_len && h->label_len <= PST_LABEL_MAX ? 0 : -EBADMSG;
}

int head_decode(const uint8_t *val, size_t len, struct head *h)
{
	return decode(val, len, h);
}

void head_get(const struct btree *t, struct pst_oid oid, struct head *ret_head)
{
	uint8_t key[KEY_OBJ_BYTES];
	const void *val;
	size_t len;

	ret_head->exists = false;
	key_obj(key, oid, KEY_HEAD);
	if (bt_get(t, key, sizeof(key), &val, &len) == 0 && decode(val, len, ret_head) == 0)
		return;
	memset(ret_head, 0, sizeof(*ret_head));
}

/* Out of line, as other ways that are rarely taken: what they need would be saved and restored by
 * every hit. */
static __attribute__((noinline)) const struct head *
head_load(struct shard *s, const struct btree *t, struct pst_oid oid, struct head_entry *e)
{
	head_get(t, oid, &e->h);
	e->h.label = NULL;
	e->h.label_len = 0;
	e->tree = t;
	e->version = s->map_version;
	e->oid = oid;
	e->extents = -1;
	e->in_page = NULL;
	return &e->h;
}

const struct head *head_peek(struct shard *s, const struct btree *t, struct pst_oid oid)
{
	struct head_entry *e = &s->head_cache[(oid.lo ^ oid.lo >> 8 ^ oid.hi) % HEAD_CACHE];

	if (e->tree == t && e->version == s->map_version && e->oid.lo == oid.lo &&
	    e->oid.hi == oid.hi)
		return &e->h;
	return head_load(s, t, oid, e);
}

bool head_in_hand(const struct shard *s, const struct head *peeked)
{
	const struct head_entry *e = container_of((struct head *)peeked, struct head_entry, h);

	return e->in_page && e->page_version == s->page_version;
}

bool head_touch(struct shard *s, struct btree *t, struct pst_oid oid, uint64_t size_min,
                uint64_t mtime, const le32 *csum0)
{
	struct head *h = (struct head *)head_peek(s, t, oid);
	struct head_entry *e = container_of(h, struct head_entry, h);
	uint8_t key[KEY_OBJ_BYTES];
	void *val;
	size_t len;

	if (!h->exists || h->size < size_min)
		return false;
	if (!e->in_page || e->page_version != s->page_version) {
		key_obj(key, oid, KEY_HEAD);
		if (bt_get_mut(t, key, sizeof(key), &val, &len))
			return false;
		e->in_page = val;
		e->page_version = s->page_version;
	}
	e->in_page->mtime = le64_make(mtime);
	if (csum0 && h->has_csum) {
		h->csum = le32_get(*csum0);
		memcpy((uint8_t *)e->in_page + HEAD_CSUM_AT, csum0, sizeof(*csum0));
	}
	return true;
}

void head_put(struct btree *t, struct pst_oid oid, const struct head *h)
{
	uint8_t key[KEY_OBJ_BYTES], val[HEAD_BYTES_MAX];
	struct media_head *m = (void *)val;
	size_t at = sizeof(*m);

	m->flags = (uint8_t)((h->has_extent ? HEAD_EXTENT : 0) | (h->has_csum ? HEAD_CSUM : 0));
	m->label_len = h->label_len;
	put48(m->blocks, h->blocks);
	m->size = le64_make(h->size);
	m->mtime = le64_make(h->mtime);
	if (h->has_extent) {
		extent_encode((void *)(val + at), h->addr, h->ext_blocks, h->birth, h->nocsum);
		at += sizeof(struct media_extent);
	}
	if (h->has_csum) {
		le32 csum = le32_make(h->csum);

		memcpy(val + at, &csum, sizeof(csum));
		at += sizeof(csum);
	}
	if (h->label_len)
		memcpy(val + at, h->label, h->label_len);
	key_obj(key, oid, KEY_HEAD);
	bt_put(t, key, sizeof(key), val, at + h->label_len);
}

int outval_decode(const uint8_t *val, size_t len, struct media_outval *ret)
{
	uint32_t blocks = 0, n;

	if (len < offsetof(struct media_outval, extent) || len > sizeof(*ret))
		return -EBADMSG;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, val, len);
	n = le16_get(ret->extents);
	if (!n || n > OUTVAL_EXTENTS_MAX ||
	    len != offsetof(struct media_outval, extent) + n * sizeof(ret->extent[0]))
		return -EBADMSG;
	for (uint32_t i = 0; i < n; i++) {
		if (!le16_get(ret->extent[i].blocks))
			return -EBADMSG;
		blocks += le16_get(ret->extent[i].blocks);
	}
	return le32_get(ret->len) <= PST_VALUE_MAX &&
	                       blocks == DIV_ROUND_UP(le32_get(ret->len), BLOCK_BYTES)
	               ? 0
	               : -EBADMSG;
}

/* --- extents --- */

bool extent_of_item(const uint8_t *key, size_t key_len, const uint8_t *val, size_t val_len,
                    struct extent *ret_ext)
{
	if (key_len != KEY_EXTENT_BYTES || key[16] != KEY_EXTENT ||
	    !extent_decode(val, val_len, ret_ext))
		return false;
	ret_ext->lblk = lblk_of_suffix(key + KEY_OBJ_BYTES);
	return true;
}

bool extent_find(const struct btree *t, struct pst_oid oid, const struct head *h, uint64_t lblk,
                 struct extent *ret_ext)
{
	uint8_t key[KEY_EXTENT_BYTES];
	struct bt_hit hit;
	struct bt_iter it;

	if (h->has_extent && lblk < h->ext_blocks) {
		*ret_ext = (struct extent){0, h->addr, h->ext_blocks, h->birth, h->nocsum};
		return true;
	}
	if (h->blocks == (h->has_extent ? h->ext_blocks : 0))
		return false; /* nothing else is mapped */
	key_extent(key, oid, lblk);
	if (bt_find_le(t, key, sizeof(key), &hit) == 0 &&
	    hit.prefix_len + hit.suffix_len == KEY_EXTENT_BYTES) {
		uint8_t found[KEY_EXTENT_BYTES];

		memcpy(found, hit.prefix, hit.prefix_len);
		memcpy(found + hit.prefix_len, hit.suffix, hit.suffix_len);
		if (!memcmp(found, key, KEY_OBJ_BYTES) &&
		    extent_decode(hit.val, hit.val_len, ret_ext)) {
			ret_ext->lblk = lblk_of_suffix(found + KEY_OBJ_BYTES);
			if (lblk < ret_ext->lblk + ret_ext->blocks)
				return true;
		}
	}
	bt_seek(&it, t, key, sizeof(key));
	if (!it.valid || it.key_len != KEY_EXTENT_BYTES || memcmp(it.key, key, KEY_OBJ_BYTES) ||
	    !extent_decode(it.val, it.val_len, ret_ext))
		return false;
	ret_ext->lblk = lblk_of_suffix(it.key + KEY_OBJ_BYTES);
	return true;
}

/* Of @n extents, at least one. */
static void index_make(struct extent_index *x, unsigned n)
{
	const struct extent *e = x->ext, *last = e + n - 1;
	unsigned i = 0;

	x->shift = 0;
	while ((last->lblk + last->blocks - 1) >> x->shift >= HEAD_EXTENTS)
		x->shift++;
	for (uint64_t p = 0; p < HEAD_EXTENTS; p++) {
		while (i + 1 < n && e[i + 1].lblk <= p << x->shift)
			i++;
		x->part[p].first = (uint8_t)i;
		while (i + 1 < n && e[i + 1].lblk < (p + 1) << x->shift)
			i++;
		x->part[p].count = (uint8_t)(i + 1 - x->part[p].first);
	}
}

/* All extents of the object, when they are few. */
static void extents_keep(const struct btree *t, struct head_entry *he)
{
	struct extent_index *x = he->index;
	uint64_t lblk = 0;
	int n = 0;

	he->extents = -2;
	if (!x)
		x = he->index = mem_alloc(sizeof(*x));
	if (!x)
		return;
	while (n < HEAD_EXTENTS && extent_find(t, he->oid, &he->h, lblk, &x->ext[n])) {
		lblk = x->ext[n].lblk + x->ext[n].blocks;
		n++;
	}
	if (n == HEAD_EXTENTS)
		return;
	he->extents = n;
	if (n)
		index_make(x, (unsigned)n);
}

/* Among those that are kept, of which there is one. */
static inline const struct extent *extent_among(const struct head_entry *he, uint64_t lblk)
{
	const struct extent_index *x = he->index;
	uint64_t part = MIN(lblk >> x->shift, HEAD_EXTENTS - 1);
	const struct extent *e = x->ext + x->part[part].first, *end = x->ext + he->extents;

	for (size_t n = x->part[part].count; n > 1; n -= n / 2) { /* the last at or before lblk */
		const struct extent *mid = e + n / 2;

		e = mid->lblk <= lblk ? mid : e;
	}
	if (lblk >= e->lblk + e->blocks)
		e++;
	return e < end ? e : NULL;
}

static __attribute__((noinline)) const struct extent *extent_peek_rare(const struct btree *t,
                                                                       struct head_entry *he,
                                                                       uint64_t lblk,
                                                                       struct extent *scratch)
{
	if (he->extents == -1)
		extents_keep(t, he);
	if (he->extents > 0)
		return extent_among(he, lblk);
	return he->extents && extent_find(t, he->oid, &he->h, lblk, scratch) ? scratch : NULL;
}

const struct extent *extent_peek(const struct btree *t, const struct head *peeked, uint64_t lblk,
                                 struct extent *scratch)
{
	struct head_entry *he = container_of((struct head *)peeked, struct head_entry, h);

	if (peeked->has_extent && lblk < peeked->ext_blocks) {
		*scratch = (struct extent){0, peeked->addr, peeked->ext_blocks, peeked->birth,
		                           peeked->nocsum};
		return scratch;
	}
	if (unlikely(he->extents <= 0))
		return extent_peek_rare(t, he, lblk, scratch);
	return extent_among(he, lblk);
}

void extent_put(struct btree *t, struct pst_oid oid, struct head *h, const struct extent *e)
{
	uint8_t key[KEY_EXTENT_BYTES];
	struct media_extent m;

	if (e->lblk == 0) {
		h->has_extent = true;
		h->has_csum = false; /* who knows it sets it afterwards */
		h->addr = e->addr;
		h->ext_blocks = e->blocks;
		h->birth = e->birth;
		h->nocsum = e->nocsum;
		return;
	}
	key_extent(key, oid, e->lblk);
	extent_encode(&m, e->addr, e->blocks, e->birth, e->nocsum);
	bt_put(t, key, sizeof(key), &m, sizeof(m));
}

static void extent_del(struct btree *t, struct pst_oid oid, struct head *h, uint64_t lblk)
{
	uint8_t key[KEY_EXTENT_BYTES];

	if (lblk == 0) {
		h->has_extent = h->has_csum = false;
		return;
	}
	key_extent(key, oid, lblk);
	bt_del(t, key, sizeof(key));
}

void drop_blocks(struct shard *s, struct cont *c, uint64_t addr, uint32_t blocks, uint32_t birth)
{
	c->used_blocks -= MIN(blocks, c->used_blocks);
	if (birth > c->newest_snap)
		space_free_data(s, addr, blocks);
}

void extent_unmap(struct shard *s, struct cont *c, struct pst_oid oid, struct head *h,
                  uint64_t lblk, uint64_t blocks)
{
	uint64_t end = blocks > UINT64_MAX - lblk ? UINT64_MAX : lblk + blocks;
	struct extent e, part;

	while (lblk < end && extent_find(&c->tree, oid, h, lblk, &e) && e.lblk < end) {
		uint64_t from = MAX(lblk, e.lblk), to = MIN(end, e.lblk + e.blocks);

		extent_del(&c->tree, oid, h, e.lblk);
		c->extents--;
		if (e.lblk < from) {
			part = e;
			part.blocks = (uint32_t)(from - e.lblk);
			extent_put(&c->tree, oid, h, &part);
			c->extents++;
		}
		if (to < e.lblk + e.blocks) {
			part = e;
			part.lblk = to;
			part.addr = e.addr + (to - e.lblk);
			part.blocks = (uint32_t)(e.lblk + e.blocks - to);
			extent_put(&c->tree, oid, h, &part);
			c->extents++;
		}
		h->blocks -= to - from;
		drop_blocks(s, c, e.addr + (from - e.lblk), (uint32_t)(to - from), e.birth);
		lblk = to;
	}
}

/* Does @e continue @left, on the device as in the array? */
static bool continues(const struct shard *s, const struct extent *left, const struct extent *e)
{
	return left->lblk + left->blocks == e->lblk && left->addr + left->blocks == e->addr &&
	       left->birth == e->birth && left->nocsum == e->nocsum &&
	       e->addr % s->l->geo.region_span != 0 &&
	       (uint64_t)left->blocks + e->blocks <= EXTENT_BLOCKS_MAX;
}

void extent_map(struct shard *s, struct cont *c, struct pst_oid oid, struct head *h,
                const struct extent *e)
{
	struct extent left;

	extent_unmap(s, c, oid, h, e->lblk, e->blocks);
	h->blocks += e->blocks;
	c->used_blocks += e->blocks;
	if (e->lblk) {
		/* h->blocks counts e already: a lone first extent must still be looked at. */
		h->blocks -= e->blocks;
		if (extent_find(&c->tree, oid, h, e->lblk - 1, &left) && left.lblk < e->lblk &&
		    continues(s, &left, e)) {
			left.blocks += e->blocks;
			extent_put(&c->tree, oid, h, &left);
			h->blocks += e->blocks;
			return;
		}
		h->blocks += e->blocks;
	}
	extent_put(&c->tree, oid, h, e);
	c->extents++;
}

void item_runs(const uint8_t *key, size_t key_len, const uint8_t *val, size_t val_len,
               void (*fn)(void *arg, struct pst_oid oid, uint64_t lblk, uint64_t addr,
                          uint32_t blocks, uint32_t birth, bool nocsum),
               void *arg)
{
	struct media_outval out;
	struct extent e;
	struct head h;

	if (key_len < KEY_OBJ_BYTES)
		return;
	if (key[16] == KEY_HEAD && head_decode(val, val_len, &h) == 0 && h.has_extent)
		fn(arg, oid_of_key(key), 0, h.addr, h.ext_blocks, h.birth, h.nocsum);
	else if (extent_of_item(key, key_len, val, val_len, &e))
		fn(arg, oid_of_key(key), e.lblk, e.addr, e.blocks, e.birth, e.nocsum);
	else if (key[16] == KEY_KV && val_len > 1 && val[0] == VAL_OUT &&
	         outval_decode(val + 1, val_len - 1, &out) == 0)
		for (unsigned i = 0; i < le16_get(out.extents); i++)
			fn(arg, oid_of_key(key), UINT64_MAX, get48(out.extent[i].addr),
			   le16_get(out.extent[i].blocks), le32_get(out.birth), true);
}
