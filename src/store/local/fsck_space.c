/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck_space - who refers to which blocks, and whether that can be.
 *
 *  1. Two references to one block mean the same place of the same object (or the same value), born
 *     in the same epoch: then two views of a container share it.
 *  2. What a view has that was born no later than the snapshot before it, that snapshot has too.
 *     Giving space back relies on it: a block's views are neighbours (cont.c).
 *  3. A region holds index pages or data, of one shard.
 *  4. The allocator, rebuilt as recovery does it, takes for used what is referred to.
 */
#include "store/local/fsck_int.h"

bool fsck_enter_once(void *arg, struct bt_node *node)
{
	if (node->flags & BT_NODE_SEEN)
		return false;
	node->flags |= BT_NODE_SEEN;
	return true;
}

bool fsck_leave_once(void *arg, struct bt_node *node)
{
	if (!(node->flags & BT_NODE_SEEN))
		return false;
	node->flags &= (uint16_t)~BT_NODE_SEEN;
	return true;
}

/* --- collecting --- */

struct collect {
	struct fsck *f;
	struct shard *s;
	struct cont *c;
	struct snap *snap;         /* the view; NULL: live */
	const struct snap *before; /* the snapshot before it, or NULL */
};

static void ref_add(struct collect *k, const struct fsck_ref *r)
{
	struct fsck *f = k->f;

	if (f->refs == f->refs_cap) {
		size_t cap = f->refs_cap ? f->refs_cap + f->refs_cap / 2 : 1024;
		void *p = mem_realloc(f->ref, cap * sizeof(*f->ref));

		if (!p) {
			f->status = -ENOMEM;
			return;
		}
		f->ref = p;
		f->refs_cap = cap;
	}
	f->ref[f->refs++] = *r;
}

static bool range_ok(const struct shard *s, uint64_t addr, uint32_t blocks)
{
	const struct geometry *g = &s->l->geo;

	return addr && blocks && addr / g->region_span < g->regions &&
	       blocks <= g->region_span - addr % g->region_span;
}

/* Is the run at the same place in the snapshot before? */
static bool held_before(const struct collect *k, struct pst_oid oid, uint64_t lblk, uint64_t addr,
                        uint32_t blocks)
{
	struct head h;

	head_get(&k->before->tree, oid, &h);
	while (blocks) {
		struct extent e;
		uint32_t n;

		if (!h.exists || !extent_find(&k->before->tree, oid, &h, lblk, &e) ||
		    e.lblk > lblk || e.addr + (lblk - e.lblk) != addr)
			return false;
		n = (uint32_t)MIN(blocks, e.lblk + e.blocks - lblk);
		lblk += n;
		addr += n;
		blocks -= n;
	}
	return true;
}

static void not_held(struct collect *k, struct pst_oid oid, uint32_t birth)
{
	char where[FSCK_WHERE_MAX];

	fsck_found(k->f, false, NULL,
	           "%s: space born in epoch %u is missing in snapshot %s, which came after it",
	           fsck_where(k->f, where, k->c->id, k->snap, oid), birth, k->before->name);
}

static void collect_run(void *arg, struct pst_oid oid, uint64_t lblk, uint64_t addr,
                        uint32_t blocks, uint32_t birth, bool nocsum)
{
	struct collect *k = arg;
	struct fsck_ref r = {addr, lblk, oid, blocks, birth, k->c->id, nocsum};
	char where[FSCK_WHERE_MAX];

	if (!range_ok(k->s, addr, blocks)) {
		fsck_found(k->f, false, NULL,
		           "%s: it refers to blocks %llu+%u, which is outside the data area",
		           fsck_where(k->f, where, k->c->id, k->snap, oid),
		           (unsigned long long)addr, blocks);
		return;
	}
	ref_add(k, &r);
	if (k->before && birth <= k->before->id && !(lblk & FSCK_VALUE) &&
	    !held_before(k, oid, lblk, addr, blocks))
		not_held(k, oid, birth);
}

static void collect_value(struct collect *k, const uint8_t *key, size_t key_len, const uint8_t *val,
                          size_t val_len)
{
	struct media_outval out;
	uint64_t at = FSCK_VALUE | (uint64_t)crc32c(0, key, key_len) << 8;
	const void *old;
	size_t old_len;

	if (outval_decode(val + 1, val_len - 1, &out))
		return;
	for (unsigned i = 0; i < le16_get(out.extents); i++) {
		collect_run(k, oid_of_key(key), at, get48(out.extent[i].addr),
		            le16_get(out.extent[i].blocks), le32_get(out.birth), true);
		at += le16_get(out.extent[i].blocks);
	}
	if (k->before && le32_get(out.birth) <= k->before->id &&
	    (bt_get(&k->before->tree, key, key_len, &old, &old_len) || old_len != val_len ||
	     memcmp(old, val, val_len)))
		not_held(k, oid_of_key(key), le32_get(out.birth));
}

static void collect_item(void *arg, const uint8_t *key, size_t key_len, const uint8_t *val,
                         size_t val_len)
{
	if (key_len > KEY_OBJ_BYTES && key[16] == KEY_KV) {
		if (val_len > 1 && val[0] == VAL_OUT)
			collect_value(arg, key, key_len, val, val_len);
		return;
	}
	item_runs(key, key_len, val, val_len, collect_run, arg);
}

/* Oldest view first, each page once: a page's items belong to the oldest view that has it. */
static void collect_cont(struct fsck *f, struct shard *s, struct cont *c)
{
	struct collect k = {f, s, c, NULL, NULL};
	struct snap *n;

	list_for_each (n, &c->snaps, link) {
		k.snap = n;
		bt_walk(&n->tree, fsck_enter_once, collect_item, &k);
		k.before = n;
	}
	k.snap = NULL;
	bt_walk(&c->tree, fsck_enter_once, collect_item, &k);
	list_for_each (n, &c->snaps, link)
		bt_walk(&n->tree, fsck_leave_once, NULL, NULL);
	bt_walk(&c->tree, fsck_leave_once, NULL, NULL);
}

/* --- comparing --- */

static int ref_cmp(const void *a, const void *b)
{
	const struct fsck_ref *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* Overlapping references: rule 1. */
static bool may_share(const struct fsck_ref *a, const struct fsck_ref *b)
{
	return a->cont == b->cont && a->oid.hi == b->oid.hi && a->oid.lo == b->oid.lo &&
	       a->birth == b->birth && a->nocsum == b->nocsum &&
	       b->lblk - a->lblk == b->addr - a->addr;
}

static void refs_compare(struct fsck *f)
{
	const struct fsck_ref *last = NULL; /* of those so far, the one that ends last */

	for (size_t i = 0; i < f->refs; i++) {
		const struct fsck_ref *r = &f->ref[i];
		char a[FSCK_WHERE_MAX], b[FSCK_WHERE_MAX];

		if (last && r->addr < last->addr + last->blocks && !may_share(last, r))
			fsck_found(f, false, NULL, "block %llu is claimed twice: by %s and by %s",
			           (unsigned long long)r->addr,
			           fsck_where(f, a, last->cont, NULL, last->oid),
			           fsck_where(f, b, r->cont, NULL, r->oid));
		if (!last || r->addr + r->blocks > last->addr + last->blocks)
			last = r;
	}
}

void fsck_refs(struct fsck *f, struct shard *s)
{
	struct cont *c;

	f->refs = 0;
	list_for_each (c, &s->conts, link)
		collect_cont(f, s, c);
	if (f->status || !f->refs)
		return;
	qsort(f->ref, f->refs, sizeof(*f->ref), ref_cmp);
	refs_compare(f);
}

/* --- against the allocator --- */

static bool bit_used(const struct region *reg, uint64_t at)
{
	return reg->used && reg->used[at / 64] >> (at % 64) & 1;
}

/* Rules 3 and 4, one run. */
static void run_check(struct fsck *f, struct shard *s, const struct fsck_ref *r, uint64_t from)
{
	const struct local *l = s->l;
	uint64_t region = r->addr / l->geo.region_span;
	const struct region *reg = &l->region[region];
	char where[FSCK_WHERE_MAX];

	if (!fsck_owns(s, region)) {
		fsck_found(f, false, NULL,
		           "%s: it refers to block %llu, which is in a region of %s of shard %u",
		           fsck_where(f, where, r->cont, NULL, r->oid), (unsigned long long)r->addr,
		           reg->class == SPACE_META ? "index pages" : "data", reg->owner);
		return;
	}
	for (uint64_t a = from; a < r->addr + r->blocks; a++)
		if (!bit_used(reg, a % l->geo.region_span))
			fsck_found(f, false, NULL,
			           "%s: block %llu is in use, and the allocator has it as free",
			           fsck_where(f, where, r->cont, NULL, r->oid),
			           (unsigned long long)a);
}

static void pages_check(struct fsck *f, struct shard *s)
{
	const struct local *l = s->l;
	uint64_t n = 0;

	for (size_t i = 0; i < f->pages; i++) {
		uint64_t addr = f->page[i].addr;
		const struct region *reg = &l->region[addr / l->geo.region_span];

		if (f->page[i].shard != s->id)
			continue;
		n++;
		if (reg->class != SPACE_META || reg->owner != s->id ||
		    !bit_used(reg, addr % l->geo.region_span))
			fsck_found(f, false, NULL,
			           "shard %u: index page %llu is in use, and the allocator has it "
			           "as free",
			           s->id, (unsigned long long)addr);
	}
	if (n != s->space.class[SPACE_META].used)
		fsck_found(f, false, NULL,
		           "shard %u: the allocator counts %llu index pages, and there are %llu",
		           s->id, (unsigned long long)s->space.class[SPACE_META].used,
		           (unsigned long long)n);
}

void fsck_space(struct fsck *f, struct shard *s)
{
	uint64_t before = f->rep->findings, next = 0, blocks = 0;
	struct pst_err err = {0};
	int r = space_rebuild(s, &err);

	if (r == -ENOMEM)
		f->status = r;
	if (f->status)
		return;
	csum_drop_foreign(s);
	for (size_t i = 0; i < f->refs; i++) {
		const struct fsck_ref *ref = &f->ref[i];
		uint64_t from = MAX(next, ref->addr), end = ref->addr + ref->blocks;

		if (from >= end)
			continue;
		run_check(f, s, ref, from);
		blocks += end - from;
		next = end;
	}
	f->rep->blocks += blocks;
	if (blocks != s->space.class[SPACE_DATA].used && f->rep->findings == before)
		fsck_found(f, false, NULL,
		           "shard %u: the allocator counts %llu blocks, and %llu are referred to",
		           s->id, (unsigned long long)s->space.class[SPACE_DATA].used,
		           (unsigned long long)blocks);
	pages_check(f, s);
	if (r) { /* its sentence counts what was told one by one */
		f->bad_shard[s->id] = true;
		if (f->rep->findings == before)
			fsck_found(f, false, NULL, "%s", err.text);
	}
}
