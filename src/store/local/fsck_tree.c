/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck_tree - the trees: their shape, what their keys and values say, and whether the items of one
 * object agree with each other and with the container's counters.
 *
 * A container's views are looked at from the oldest snapshot to the live tree, each as a whole,
 * since an object's items may lie in pages of which only some are shared.
 */
#include <stdio.h>

#include "store/local/fsck_int.h"

#define ARRAY_BLOCKS_MAX (PST_OBJECT_MAX / BLOCK_BYTES)

/* --- the system tree --- */

static bool sys_item_ok(const struct bt_iter *it)
{
	switch (it->key[0]) {
	case 'C':
		return it->key_len == 5 && it->val_len == sizeof(struct media_cont);
	case 'N':
		return it->key_len >= 2 && it->val_len == sizeof(struct media_cont_name);
	case 'S':
		return it->key_len == 13 && it->val_len > sizeof(struct media_cont);
	case 'T':
		return it->key_len == 13 && it->val_len == sizeof(struct media_reply);
	}
	return false;
}

static bool names_were_lost(const struct fsck *f)
{
	for (size_t i = 0; i < f->losses; i++) {
		const struct bt_gap *g = &f->lost[i].gap;

		if (!f->lost[i].cont && !f->lost[i].shard &&
		    (!g->lower_len || g->lower[0] <= 'N') && (!g->upper_len || g->upper[0] >= 'N'))
			return true;
	}
	return false;
}

/*
 * 'C' and 'S' items of a container that is not listed are what a crash leaves when the container's
 * end was durable before the home shard's next checkpoint: they hold no space and go with it. One
 * whose id was never given out is something else.
 */
static void sys_item(struct fsck *f, struct shard *s, const struct bt_iter *it)
{
	const struct cont_name *n;
	uint8_t state[5] = {'C'};
	bool lost;

	if (!sys_item_ok(it)) {
		fsck_found(f, false, NULL,
		           "shard %u: an item of the system tree (key %02x..., %zu bytes, value of "
		           "%zu) has the wrong shape",
		           s->id, it->key[0], it->key_len, it->val_len);
		return;
	}
	if ((it->key[0] == 'C' || it->key[0] == 'S') && get_be32(it->key + 1) >= f->l->next_cont) {
		f->checkpoint = true;
		fsck_found(f, fsck_repair(f), "drop it",
		           "shard %u: the system tree speaks of container %u, which never existed",
		           s->id, get_be32(it->key + 1));
		return;
	}
	if (it->key[0] != 'C' && it->key[0] != 'S')
		return;
	n = cont_name_by_id(f->l, get_be32(it->key + 1));
	if (it->key[0] == 'C' && !n && names_were_lost(f))
		fsck_found(
		        f, fsck_repair(f), "drop it",
		        "shard %u: container %u has no name, which may have been on a lost page: "
		        "all that it holds is lost",
		        s->id, get_be32(it->key + 1));
	if (it->key[0] != 'S' || !n || n->home != s->id || cont_find(s, n->id))
		return;
	put_be32(state + 1, n->id);
	lost = fsck_was_lost(f, s, 0, state, sizeof(state));
	fsck_found(f, lost && fsck_repair(f), lost ? "drop them" : NULL,
	           "shard %u: container %s has snapshots but no state", s->id, n->name);
}

void fsck_sys_tree(struct fsck *f, struct shard *s)
{
	struct pst_err err = {0};
	struct bt_iter it;

	if (bt_check(&s->sys, &err))
		fsck_found(f, false, NULL, "shard %u: the system tree: %s", s->id, err.text);
	for (bt_seek(&it, &s->sys, "", 0); it.valid; bt_next(&it))
		sys_item(f, s, &it);
}

/* --- one view of a container --- */

struct fix { /* a head whose block count or size is to be corrected */
	struct pst_oid oid;
	uint64_t blocks, size;
};

struct view {
	struct fsck *f;
	struct shard *s;
	struct cont *c;
	struct snap *snap; /* NULL: live */
	struct btree *tree;
	uint64_t epoch; /* nothing in it was born later */
	/* The object at hand */
	bool any, orphans_told;
	bool partly; /* the log has brought it back, but for what was on a lost page */
	struct pst_oid oid;
	struct head h;
	uint64_t mapped, end; /* blocks; end of the last extent */
	/* Sums */
	uint64_t used_blocks, objects, logical_bytes, keys, extents;
	struct fix *fix;
	size_t fixes, fixes_cap;
};

static void bad(struct view *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void bad(struct view *v, const char *fmt, ...)
{
	char where[FSCK_WHERE_MAX], what[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	fsck_found(v->f, false, NULL, "%s: %s", fsck_where(v->f, where, v->c->id, v->snap, v->oid),
	           what);
}

static void fix_note(struct view *v, uint64_t blocks, uint64_t size)
{
	if (v->fixes == v->fixes_cap) {
		size_t cap = v->fixes_cap ? 2 * v->fixes_cap : 16;
		void *p = mem_realloc(v->fix, cap * sizeof(*v->fix));

		if (!p) {
			v->f->status = -ENOMEM;
			return;
		}
		v->fix = p;
		v->fixes_cap = cap;
	}
	v->fix[v->fixes++] = (struct fix){v->oid, blocks, size};
}

static void object_end(struct view *v)
{
	char where[FSCK_WHERE_MAX];
	uint64_t size = v->h.size;

	if (!v->any || !v->h.exists)
		return;
	/* The write of the log that has made it anew may have copied blocks behind its end. */
	if (v->partly && v->end > DIV_ROUND_UP(size, BLOCK_BYTES))
		v->h.size = v->end * BLOCK_BYTES;
	if (v->h.blocks != v->mapped) {
		fsck_found(v->f, fsck_repair(v->f), "correct the count",
		           "%s: its head counts %llu blocks, and %llu are mapped",
		           fsck_where(v->f, where, v->c->id, v->snap, v->oid),
		           (unsigned long long)v->h.blocks, (unsigned long long)v->mapped);
	}
	if (v->h.blocks != v->mapped || v->h.size != size)
		fix_note(v, v->mapped, v->h.size);
	if (v->end > DIV_ROUND_UP(v->h.size, BLOCK_BYTES))
		bad(v, "blocks are mapped up to byte %llu, and its size is %llu",
		    (unsigned long long)v->end * BLOCK_BYTES, (unsigned long long)v->h.size);
}

static void object_begin(struct view *v, struct pst_oid oid)
{
	object_end(v);
	v->any = true;
	v->oid = oid;
	v->orphans_told = v->partly = false;
	v->h = (struct head){0};
	v->mapped = v->end = 0;
}

static void check_extent(struct view *v, uint64_t lblk, uint64_t addr, uint32_t blocks,
                         uint32_t birth)
{
	v->extents++;
	v->used_blocks += blocks;
	v->mapped += blocks;
	if (lblk < v->end)
		bad(v, "two of its extents map byte %llu", (unsigned long long)lblk * BLOCK_BYTES);
	v->end = MAX(v->end, lblk + blocks);
	if (lblk >= ARRAY_BLOCKS_MAX || blocks > ARRAY_BLOCKS_MAX - lblk)
		bad(v, "an extent lies beyond the largest size");
	if (!birth || birth > v->epoch)
		bad(v, "the extent at byte %llu was born in epoch %u, after the view's %llu",
		    (unsigned long long)lblk * BLOCK_BYTES, birth, (unsigned long long)v->epoch);
}

static void check_head(struct view *v, const struct bt_iter *it)
{
	char where[FSCK_WHERE_MAX];

	v->objects++;
	v->partly = fsck_was_lost(v->f, v->s, v->c->id, it->key, it->key_len);
	if (v->partly && !v->snap)
		fsck_found(v->f, fsck_repair(v->f), "keep that",
		           "%s: it may have been on a lost page: the log has brought back what was "
		           "changed since the last checkpoint, and no more",
		           fsck_where(v->f, where, v->c->id, NULL, v->oid));
	if (it->key_len != KEY_OBJ_BYTES || head_decode(it->val, it->val_len, &v->h)) {
		bad(v, "its head makes no sense");
		v->h = (struct head){0};
		v->orphans_told = true;
		return;
	}
	if (v->h.size > PST_OBJECT_MAX)
		bad(v, "its size of %llu bytes is above the limit", (unsigned long long)v->h.size);
	v->logical_bytes += v->h.size;
	if (v->h.has_extent)
		check_extent(v, 0, v->h.addr, v->h.ext_blocks, v->h.birth);
}

static void check_extent_item(struct view *v, const struct bt_iter *it)
{
	struct extent e;

	if (it->key_len != KEY_OBJ_BYTES + 6 || !extent_decode(it->val, it->val_len, &e)) {
		bad(v, "an extent makes no sense");
		return;
	}
	e.lblk = (uint64_t)it->key[17] << 40 | (uint64_t)it->key[18] << 32 | get_be32(it->key + 19);
	if (!e.lblk)
		bad(v, "the extent at byte 0 is not in its head");
	check_extent(v, e.lblk, e.addr, e.blocks, e.birth);
}

static void check_value(struct view *v, const struct bt_iter *it)
{
	const uint8_t *val = it->val;
	struct media_outval out;

	v->keys++;
	if (it->key_len == KEY_OBJ_BYTES || it->key_len > KEY_OBJ_BYTES + PST_KEY_MAX)
		bad(v, "a key of %zu bytes", it->key_len - KEY_OBJ_BYTES);
	if (!it->val_len || val[0] > VAL_OUT) {
		bad(v, "a value makes no sense");
		return;
	}
	if (val[0] == VAL_INLINE)
		return;
	if (outval_decode(val + 1, it->val_len - 1, &out)) {
		bad(v, "a large value's reference makes no sense");
		return;
	}
	v->used_blocks += DIV_ROUND_UP(le32_get(out.len), BLOCK_BYTES);
	if (!le32_get(out.birth) || le32_get(out.birth) > v->epoch)
		bad(v, "a value was born in epoch %u, after the view's %llu", le32_get(out.birth),
		    (unsigned long long)v->epoch);
}

static void check_item(struct view *v, const struct bt_iter *it)
{
	struct pst_oid oid;

	if (it->key_len < KEY_OBJ_BYTES || it->key[16] > KEY_KV) {
		v->oid = (struct pst_oid){0, 0};
		bad(v, "the index has a key that means nothing (%zu bytes)", it->key_len);
		v->any = false;
		return;
	}
	oid = oid_of_key(it->key);
	if (!v->any || oid.hi != v->oid.hi || oid.lo != v->oid.lo)
		object_begin(v, oid);
	if (it->key[16] == KEY_HEAD) {
		check_head(v, it);
		return;
	}
	if (!v->h.exists && !v->orphans_told) {
		bad(v, "it has items but no head");
		v->orphans_told = true;
	}
	if (it->key[16] == KEY_EXTENT)
		check_extent_item(v, it);
	else
		check_value(v, it);
}

/* --- corrections --- */

static void fixes_apply(struct view *v)
{
	for (size_t i = 0; i < v->fixes && fsck_repair(v->f) && !v->f->status; i++) {
		uint8_t label[PST_LABEL_MAX];
		struct head h;

		if (bt_reserve(&v->s->env, 1, true)) {
			v->f->status = -ENOMEM;
			return;
		}
		head_get(v->tree, v->fix[i].oid, &h);
		if (h.label_len)
			memcpy(label, h.label, h.label_len);
		h.label = label;
		v->logical_bytes += v->fix[i].size - h.size;
		h.blocks = v->fix[i].blocks;
		h.size = v->fix[i].size;
		head_put(v->tree, v->fix[i].oid, &h);
		v->f->checkpoint = true;
	}
	mem_free(v->fix);
}

static void counter(struct view *v, uint64_t *count, uint64_t right, const char *what)
{
	const struct cont_name *n = cont_name_by_id(v->f->l, v->c->id);

	if (*count == right)
		return;
	fsck_found(v->f, fsck_repair(v->f), "correct the counter",
	           "container %s%s%s: its counter says %llu %s, and there are %llu",
	           n ? n->name : "?", v->snap ? "@" : "", v->snap ? v->snap->name : "",
	           (unsigned long long)*count, what, (unsigned long long)right);
	if (fsck_repair(v->f)) {
		*count = right;
		v->f->checkpoint = true;
	}
}

static void view_report(struct view *v)
{
	struct local_fsck_report *r = v->f->rep;

	r->objects += v->objects;
	r->keys += v->keys;
	r->extents += v->extents;
}

static void check_view(struct fsck *f, struct shard *s, struct cont *c, struct snap *snap)
{
	struct view v = {.f = f, .s = s, .c = c, .snap = snap};
	const struct cont_name *n = cont_name_by_id(f->l, c->id);
	struct pst_err err = {0};
	struct bt_iter it;

	v.tree = snap ? &snap->tree : &c->tree;
	v.epoch = snap ? snap->id : c->epoch;
	if (bt_check(v.tree, &err))
		fsck_found(f, false, NULL, "container %s%s%s: %s", n ? n->name : "?",
		           snap ? "@" : "", snap ? snap->name : "", err.text);
	for (bt_seek(&it, v.tree, "", 0); it.valid && !f->status; bt_next(&it))
		check_item(&v, &it);
	object_end(&v);
	fixes_apply(&v);
	counter(&v, snap ? &snap->used_blocks : &c->used_blocks, v.used_blocks, "blocks");
	counter(&v, snap ? &snap->objects : &c->objects, v.objects, "objects");
	counter(&v, snap ? &snap->logical_bytes : &c->logical_bytes, v.logical_bytes, "bytes");
	if (snap)
		f->rep->snapshots++;
	else
		view_report(&v);
}

static void check_names(struct fsck *f, struct cont *c)
{
	const struct cont_name *n = cont_name_by_id(f->l, c->id);
	struct snap *a, *b;

	list_for_each (a, &c->snaps, link)
		list_for_each (b, &c->snaps, link)
			if (a->id < b->id && !strcmp(a->name, b->name))
				fsck_found(f, false, NULL,
				           "container %s has two snapshots named %s", n->name,
				           a->name);
}

void fsck_cont(struct fsck *f, struct shard *s, struct cont *c)
{
	struct snap *n;

	f->rep->containers++;
	check_names(f, c);
	list_for_each (n, &c->snaps, link)
		check_view(f, s, c, n);
	check_view(f, s, c, NULL);
}
