/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck_lost - index pages that no mirror has whole: what hung below them is gone, and the rest has to
 * hang together without it.
 *
 * The loader puts a page without items in the place of a lost one, so that the trees are whole as
 * trees. What their items say to each other is mended here, in memory, before the log is applied to
 * them (and written by the checkpoint that ends a repair):
 *
 *   M1. What a view has that was born no later than the snapshot before it, that snapshot had too (see
 *       cont.c, which frees blocks by that rule): what it lost of this is put back from the later
 *       view. That is no guess: these are the blocks that it had. Where the object's head is lost as
 *       well, the later view's head is taken, and told. Newest view first, so that what is put back
 *       into one serves the next.
 *   M2. An object that has lost its head, and of which extents or keys are left, gets a new one. Its
 *       label is gone, and its size is that of what is left.
 *   M3. A head counts the blocks that are left. The others read as zeroes, and are told.
 *
 * Keys cut off by the log's own changes come back with them: check_head() in fsck_tree.c tells them.
 */
#include <stdio.h>

#include "store/local/fsck_int.h"

/* --- telling what is lost --- */

static void key_text(char *buf, size_t len, uint32_t cont, const uint8_t *key, size_t key_len)
{
	uint8_t full[16] = {0};

	memcpy(full, key, MIN(key_len, sizeof(full)));
	if (cont)
		(void)snprintf(buf, len, "object %016llx%016llx",
		               (unsigned long long)get_be64(full),
		               (unsigned long long)get_be64(full + 8));
	else if (key[0] == 'N')
		(void)snprintf(buf, len, "container name '%.*s'", (int)key_len - 1,
		               (const char *)key + 1);
	else if (key[0] == 'T')
		(void)snprintf(buf, len, "the answers of session %llu",
		               (unsigned long long)get_be64(full + 1));
	else
		(void)snprintf(buf, len, "the %s of container %u",
		               key[0] == 'S' ? "snapshots" : "state", get_be32(full + 1));
}

static void gap_text(char *buf, size_t len, uint32_t cont, const struct bt_gap *gap)
{
	char from[PST_NAME_MAX + 32] = "the first", to[PST_NAME_MAX + 32] = "the last";

	if (gap->lower_len)
		key_text(from, sizeof(from), cont, gap->lower, gap->lower_len);
	if (gap->upper_len)
		key_text(to, sizeof(to), cont, gap->upper, gap->upper_len);
	if (!gap->lower_len && !gap->upper_len)
		(void)snprintf(buf, len, "all that it held is lost");
	else
		(void)snprintf(buf, len, "what it held from %s to %s is lost", from, to);
}

static void gap_note(struct fsck *f, const struct shard *s, uint32_t cont, const struct bt_gap *gap)
{
	if (f->losses == f->losses_cap) {
		size_t cap = f->losses_cap ? 2 * f->losses_cap : 8;
		void *p = mem_realloc(f->lost, cap * sizeof(*f->lost));

		if (!p) {
			f->status = -ENOMEM;
			return;
		}
		f->lost = p;
		f->losses_cap = cap;
	}
	f->lost[f->losses++] = (struct fsck_lost){s->id, cont, *gap};
}

void fsck_watch_lost(struct load_watch *w, struct shard *s, uint32_t cont, uint64_t addr,
                     const struct bt_gap *gap, const char *why)
{
	struct fsck *f = container_of(w, struct fsck, watch);
	const struct cont_name *n = cont_name_by_id(f->l, cont);
	char what[2 * PST_NAME_MAX + 128];

	gap_note(f, s, cont, gap);
	f->checkpoint = true;
	gap_text(what, sizeof(what), cont, gap);
	fsck_found(f, fsck_repair(f), "drop what hung below the page",
	           "%s%s: an index page (address %llu, block %llu) is lost%s: %s; %s",
	           n ? "container " : "the system tree", n ? n->name : "", (unsigned long long)addr,
	           (unsigned long long)geo_meta_block(&f->l->geo, addr),
	           f->l->geo.devs > 1 ? " on every mirror" : "", why, what);
}

static bool in_gap(const struct bt_gap *g, const void *key, size_t key_len)
{
	int from = memcmp(key, g->lower, MIN(key_len, g->lower_len));
	int to = memcmp(key, g->upper, MIN(key_len, g->upper_len));

	return (from > 0 || (!from && key_len >= g->lower_len)) &&
	       (!g->upper_len || to < 0 || (!to && key_len < g->upper_len));
}

bool fsck_was_lost(const struct fsck *f, const struct shard *s, uint32_t cont, const void *key,
                   size_t key_len)
{
	for (size_t i = 0; i < f->losses; i++)
		if (f->lost[i].shard == s->id && f->lost[i].cont == cont &&
		    in_gap(&f->lost[i].gap, key, key_len))
			return true;
	return false;
}

/* --- one view of a container that lost something --- */

struct mend {
	struct fsck *f;
	struct shard *s;
	struct cont *c;
	struct snap *snap; /* NULL: live */
	struct btree *tree;
	const char *later; /* the view from which it is mended */
	/* The object at hand */
	bool any, crooked; /* its head can't be read: nothing is changed about it */
	struct pst_oid oid;
	struct head h;
	uint8_t label[PST_LABEL_MAX];
	uint64_t mapped, end, keys; /* blocks; keys */
};

static void told(struct mend *m, const char *remedy, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
static void told(struct mend *m, const char *remedy, const char *fmt, ...)
{
	char where[FSCK_WHERE_MAX], what[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	fsck_found(m->f, fsck_repair(m->f), remedy, "%s: %s",
	           fsck_where(m->f, where, m->c->id, m->snap, m->oid), what);
}

/* Before each change: false, and the check ends, when there is no memory. */
static bool reserve(struct mend *m)
{
	if (bt_reserve_beyond(&m->s->env, 2))
		m->f->status = -ENOMEM;
	return !m->f->status;
}

static bool same_oid(const struct mend *m, struct pst_oid oid)
{
	return m->any && m->oid.hi == oid.hi && m->oid.lo == oid.lo;
}

static void own_head(struct mend *m, const struct btree *t, struct pst_oid oid)
{
	head_get(t, oid, &m->h);
	if (m->h.label_len)
		memcpy(m->label, m->h.label, m->h.label_len);
	m->h.label = m->label;
}

/* --- M1 --- */

/* The head of @oid here, or one as the later view has it. */
static void head_restore(struct mend *m, const struct btree *later, struct pst_oid oid)
{
	bool again = same_oid(m, oid);

	m->any = true;
	m->oid = oid;
	own_head(m, m->tree, oid);
	if (m->h.exists)
		return;
	own_head(m, later, oid);
	m->h.exists = true;
	m->h.has_extent = m->h.has_csum = false;
	m->h.blocks = 0;
	if (!again)
		told(m, "take the head that is there, and the data that is still shared",
		     "its head is lost; %s has a later one", m->later);
}

static void extent_restore(struct mend *m, const struct btree *later, struct pst_oid oid,
                           const struct extent *e)
{
	struct extent now;

	head_restore(m, later, oid);
	if (extent_find(m->tree, oid, &m->h, e->lblk, &now) && now.lblk < e->lblk + e->blocks)
		return; /* held, or something that does not fit: that is told later */
	if (!reserve(m))
		return;
	m->h.blocks += e->blocks;
	extent_put(m->tree, oid, &m->h, e);
	head_put(m->tree, oid, &m->h);
}

static void value_restore(struct mend *m, const struct btree *later, const struct bt_iter *it)
{
	const void *now;
	size_t len;

	head_restore(m, later, oid_of_key(it->key));
	if (!bt_get(m->tree, it->key, it->key_len, &now, &len) || !reserve(m))
		return;
	bt_put(m->tree, it->key, it->key_len, it->val, it->val_len);
	head_put(m->tree, m->oid, &m->h);
}

static void item_restore(struct mend *m, const struct btree *later, const struct bt_iter *it)
{
	const uint8_t *val = it->val;
	struct media_outval out;
	struct extent e;
	struct head h;

	if (it->key_len < KEY_OBJ_BYTES)
		return;
	if (it->key[16] == KEY_KV) {
		if (it->val_len > 1 && val[0] == VAL_OUT &&
		    !outval_decode(val + 1, it->val_len - 1, &out) &&
		    le32_get(out.birth) <= m->snap->id)
			value_restore(m, later, it);
		return;
	}
	if (it->key[16] == KEY_HEAD) {
		if (head_decode(val, it->val_len, &h) || !h.has_extent)
			return;
		e = (struct extent){0, h.addr, h.ext_blocks, h.birth, h.nocsum};
	} else {
		if (!extent_of_item(it->key, it->key_len, val, it->val_len, &e))
			return;
	}
	if (e.birth <= m->snap->id)
		extent_restore(m, later, oid_of_key(it->key), &e);
}

static void view_restore(struct mend *m, const struct btree *later)
{
	struct bt_iter it;

	m->any = false;
	for (bt_seek(&it, later, "", 0); it.valid && !m->f->status; bt_next(&it))
		item_restore(m, later, &it);
}

/* --- M2, M3 --- */

static bool head_make(struct mend *m)
{
	if (!reserve(m))
		return false;
	told(m, "make a head for what is left of it",
	     "its head is lost; left are %llu blocks up to byte %llu and %llu keys",
	     (unsigned long long)m->mapped, (unsigned long long)m->end * BLOCK_BYTES,
	     (unsigned long long)m->keys);
	m->h = (struct head){.exists = true, .blocks = m->mapped, .size = m->end * BLOCK_BYTES};
	head_put(m->tree, m->oid, &m->h);
	return true;
}

/* True when the tree was changed. */
static bool object_end(struct mend *m)
{
	if (!m->any || m->crooked)
		return false;
	if (!m->h.exists)
		return head_make(m);
	if (m->h.blocks == m->mapped || !reserve(m))
		return false;
	told(m, "let them read as zeroes", "%llu of its %llu blocks are lost",
	     (unsigned long long)(m->h.blocks - MIN(m->h.blocks, m->mapped)),
	     (unsigned long long)m->h.blocks);
	own_head(m, m->tree, m->oid);
	m->h.blocks = m->mapped;
	head_put(m->tree, m->oid, &m->h);
	return true;
}

static void item_count(struct mend *m, const struct bt_iter *it)
{
	struct extent e;

	if (it->key[16] == KEY_HEAD) {
		m->crooked = !m->h.exists;
		m->mapped = m->h.has_extent ? m->h.ext_blocks : 0;
	} else if (extent_of_item(it->key, it->key_len, it->val, it->val_len, &e)) {
		m->mapped += e.blocks;
		m->end = e.lblk + e.blocks;
	} else {
		m->keys++;
	}
}

static void view_mend(struct mend *m)
{
	struct bt_iter it;

	m->any = false;
	for (bt_seek(&it, m->tree, "", 0); it.valid && !m->f->status; bt_next(&it)) {
		uint8_t key[BT_KEY_MAX];
		size_t len = it.key_len;

		if (len < KEY_OBJ_BYTES)
			continue;
		if (!same_oid(m, oid_of_key(it.key))) {
			memcpy(key, it.key, len);
			if (object_end(m)) /* the iterator goes with that */
				bt_seek(&it, m->tree, key, len);
			m->any = true;
			m->crooked = false;
			m->oid = oid_of_key(it.key);
			m->mapped = m->end = m->keys = 0;
			own_head(m, m->tree, m->oid);
		}
		item_count(m, &it);
	}
	(void)object_end(m);
}

/* --- all views of a container --- */

static void cont_mend(struct fsck *f, struct shard *s, struct cont *c)
{
	struct mend m = {.f = f, .s = s, .c = c, .tree = &c->tree};
	const struct cont_name *name = cont_name_by_id(f->l, c->id);
	const struct btree *later = &c->tree;
	struct snap *n;

	view_mend(&m);
	m.later = name ? name->name : "?";
	for (struct list *at = c->snaps.prev; at != &c->snaps && !f->status; at = at->prev) {
		n = list_entry(at, struct snap, link);
		m.snap = n;
		m.tree = &n->tree;
		view_restore(&m, later);
		view_mend(&m);
		m.later = n->name;
		later = &n->tree;
	}
}

/* Containers whose state was lost are empty now. */
static void states_lost(struct fsck *f, struct shard *s)
{
	static const struct bt_gap all;
	struct cont_name *n;
	uint8_t key[5] = {'C'};

	list_for_each (n, &f->l->names, link) {
		put_be32(key + 1, n->id);
		if (n->home != s->id || cont_find(s, n->id) ||
		    !fsck_was_lost(f, s, 0, key, sizeof(key)))
			continue;
		gap_note(f, s, n->id, &all);
		fsck_found(f, fsck_repair(f), "leave it empty",
		           "container %s: its state was on a lost page of the system tree: all its "
		           "objects and snapshots are lost",
		           n->name);
	}
}

void fsck_watch_loaded(struct load_watch *w, struct shard *s)
{
	struct fsck *f = container_of(w, struct fsck, watch);
	struct cont *c;

	states_lost(f, s);
	list_for_each (c, &s->conts, link)
		for (size_t i = 0; i < f->losses && !f->status; i++)
			if (f->lost[i].shard == s->id && f->lost[i].cont == c->id) {
				cont_mend(f, s, c);
				break;
			}
}
