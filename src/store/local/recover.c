/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * recover - from what is on the devices to a running store.
 *
 * For each shard: the newer valid header; the system tree and the containers' trees; the log after
 * the header, frame by frame; then the space that all trees refer to is marked as used, and a
 * checkpoint makes it all a fresh start. Until that checkpoint's header is durable nothing that the
 * old header or its log needs is overwritten, so that recovery may be interrupted anywhere.
 *
 * Where the log ends. A frame belongs to it when it is whole, has the next sequence number and the
 * header's epoch. Each frame says up to where the log was known to be durable when it was written
 * (its mark), so that the end is one of these:
 *   - a torn tail: no later frame was written after the missing one was durable;
 *   - damage: some later whole frame says that the missing one was durable. That is reported, and
 * the store does not open: going on would silently forget what had been acknowledged. A frame that
 * no mark covers may have outrun the data that it speaks of (one flush serves both): its data is
 * verified by the checksums in its records, and if they don't match the log ends before it.
 */
#include "store/local/engine.h"

/* --- index pages --- */

struct node_map { /* nodes by address, so that what trees share is shared again */
	struct node_place {
		uint64_t
		        addr; /* the node has none if it stands in for a lost page, or is above one */
		struct bt_node *node;
	} * slot;
	size_t mask, count;
};

/* The pages below one of level 1, read with all requests in flight at once. */
#define AHEAD_PAGES 512
struct ahead {
	struct {
		struct dio dio;
		uint64_t addr;
	} child[AHEAD_PAGES];
	uint32_t count, next, pending;
	uint8_t *buf;
};

struct loader {
	struct shard *s;
	struct node_map map;
	struct pst_err *err;
	uint64_t gen;        /* of the header: no page can be newer */
	uint32_t cont;       /* whose trees are being loaded; 0: the system tree */
	bool lossy;          /* something of them was lost */
	struct ahead *ahead; /* the children of the page that is being loaded */
	uint8_t *page[BT_DEPTH_MAX];
};

static struct node_place *map_slot(const struct node_map *m, uint64_t addr)
{
	size_t i = hash_u64(addr) & m->mask;

	while (m->slot[i].node && m->slot[i].addr != addr)
		i = (i + 1) & m->mask;
	return &m->slot[i];
}

static int map_add(struct node_map *m, uint64_t addr, struct bt_node *n)
{
	if (2 * m->count >= m->mask) {
		struct node_map big = {.mask = m->mask ? 2 * m->mask + 1 : 255};

		big.slot = mem_calloc(big.mask + 1, sizeof(*big.slot));
		if (!big.slot)
			return -ENOMEM;
		for (size_t i = 0; m->slot && i <= m->mask; i++)
			if (m->slot[i].node)
				*map_slot(&big, m->slot[i].addr) = m->slot[i];
		big.count = m->count;
		mem_free(m->slot);
		*m = big;
	}
	*map_slot(m, addr) = (struct node_place){addr, n};
	m->count++;
	return 0;
}

static struct bt_node *map_find(const struct node_map *m, uint64_t addr)
{
	return m->slot ? map_slot(m, addr)->node : NULL;
}

static struct bt_node *map_child(void *arg, uint64_t addr)
{
	struct loader *ld = arg;
	struct bt_node *n = map_find(&ld->map, addr);

	if (n)
		n->refs++;
	return n;
}

static bool page_place_ok(const struct local *l, uint64_t addr)
{
	return addr && addr / l->geo.region_span < l->geo.regions &&
	       addr % l->geo.region_span < l->geo.region_blocks;
}

static void child_read(struct dio *d)
{
	struct ahead *a = d->user;

	a->pending--;
}

/* Made when first needed: most trees are a leaf or two. NULL: no memory, then there is no reading ahead. */
static struct ahead *ahead_get(struct loader *ld)
{
	struct ahead *a = ld->ahead;

	if (a)
		return a;
	a = mem_calloc(1, sizeof(*a));
	if (a)
		a->buf = mem_alloc_pages((size_t)AHEAD_PAGES * BLOCK_BYTES);
	if (a && !a->buf) {
		mem_free(a);
		a = NULL;
	}
	ld->ahead = a;
	return a;
}

/* A failure here only means that the page is read by itself later. */
static void read_ahead(struct loader *ld, const uint8_t *page)
{
	struct local *l = ld->s->l;
	struct ahead *a = ahead_get(ld);

	if (!a)
		return;
	a->count = a->next = 0;
	for (unsigned i = 0; i < bt_page_count(page) && a->count < AHEAD_PAGES; i++) {
		uint64_t addr = bt_page_child(page, i);
		struct dio *d = &a->child[a->count].dio;

		if (!page_place_ok(l, addr) || map_find(&ld->map, addr))
			continue;
		memset(d, 0, offsetof(struct dio, first));
		d->done = child_read;
		d->user = a;
		a->child[a->count].addr = addr;
		a->pending++;
		dio_meta_read(l, d, 0, geo_meta_block(&l->geo, addr),
		              a->buf + (size_t)a->count * BLOCK_BYTES, 1);
		a->count++;
	}
	while (a->pending)
		if (loop_turn(l->store.loop, NSEC_PER_SEC) < 0)
			break;
	pst_assert(!a->pending); /* the requests are ours: there is no way back */
}

static int page_from(struct loader *ld, unsigned dev, uint64_t addr, uint8_t *page)
{
	struct local *l = ld->s->l;
	struct ahead *a = ld->ahead;

	while (dev == 0 && a && a->next < a->count) {
		uint32_t i = a->next++;

		if (a->child[i].addr != addr)
			continue;
		if (a->child[i].dio.status)
			break;
		memcpy(page, a->buf + (size_t)i * BLOCK_BYTES, BLOCK_BYTES);
		return 0;
	}
	return meta_read_sync(l, dev, geo_meta_block(&l->geo, addr), page, 1);
}

/* Is @page what the header's checkpoint left at @addr? Space is used again, so that a page that is
 * whole may still be another container's, or one of a checkpoint that never counted. */
static int page_check(const struct loader *ld, uint64_t addr, const uint8_t *page)
{
	int err = bt_page_check(&ld->s->env, page, addr, ld->err);

	if (!err && (bt_page_cont(page) != ld->cont || bt_page_gen(page) > ld->gen))
		err = err_set(ld->err, -EBADMSG, "index page: it is newer, or another container's");
	return err;
}

/* The page at @addr from the first device that has it whole; the others are mended. */
static int page_read(struct loader *ld, uint64_t addr, uint8_t *page)
{
	struct local *l = ld->s->l;
	int err = -EBADMSG;

	if (!page_place_ok(l, addr))
		return err_set(ld->err, -EBADMSG, "shard %u: index page address %llu is outside",
		               ld->s->id, (unsigned long long)addr);
	for (unsigned d = 0; d < l->geo.devs; d++) {
		err = page_from(ld, d, addr, page);
		if (!err)
			err = page_check(ld, addr, page);
		else
			err_set(ld->err, err, "index page %llu can't be read: %s",
			        (unsigned long long)addr, strerror(-err));
		if (err)
			continue;
		for (unsigned bad = 0; bad < d && !l->opts.read_only; bad++)
			if (!bdev_write_sync(l->dev[bad],
			                     geo_meta_block(&l->geo, addr) << BLOCK_SHIFT, page,
			                     BLOCK_BYTES, 0))
				l->stat.mirror_repairs++;
		return 0;
	}
	return err_prefix(ld->err, err, "shard %u, block %llu", ld->s->id,
	                  (unsigned long long)addr);
}

static int no_memory(struct loader *ld)
{
	return err_set(ld->err, -ENOMEM, "no memory to load the index");
}

static int node_load(struct loader *ld, uint64_t addr, int level, unsigned depth);

/* Is damage told and gone on from? Only fsck does; else what can't be loaded can't be opened. */
static bool lenient(const struct loader *ld, int err)
{
	return ld->s->l->watch && err != -ENOMEM && err != -EREMOTEIO;
}

/* Child @slot of @page can't be loaded: what stands in for it takes its place. */
static int child_lost(struct loader *ld, const uint8_t *page, unsigned slot)
{
	struct load_watch *w = ld->s->l->watch;
	uint64_t addr = bt_page_child(page, slot);
	struct bt_node *n;
	struct bt_gap gap;

	if (bt_stand_in(&ld->s->env, &n, page, slot, &gap))
		return no_memory(ld);
	if (map_add(&ld->map, addr, n)) {
		bt_node_unref(&ld->s->env, n);
		return no_memory(ld);
	}
	ld->lossy = ld->s->l->lossy = true;
	w->lost(w, ld->s, ld->cont, addr, &gap, ld->err->text);
	return 0;
}

static int children_load(struct loader *ld, const uint8_t *page, unsigned depth)
{
	unsigned level = bt_page_level(page);
	int err = 0;

	if (level && depth + 1 >= BT_DEPTH_MAX)
		return err_set(ld->err, -EBADMSG, "shard %u: the index is too deep", ld->s->id);
	if (level == 1)
		read_ahead(ld, page);
	for (unsigned i = 0; level && i < bt_page_count(page) && !err; i++) {
		err = node_load(ld, bt_page_child(page, i), (int)level - 1, depth + 1);
		if (err && lenient(ld, err))
			err = child_lost(ld, page, i);
	}
	return err;
}

static int node_load(struct loader *ld, uint64_t addr, int level, unsigned depth)
{
	uint8_t *page = ld->page[depth];
	struct shard *s = ld->s;
	struct bt_node *n;
	int err;

	if (map_find(&ld->map, addr))
		return 0;
	err = page_read(ld, addr, page);
	if (err)
		return err;
	if (level >= 0 && bt_page_level(page) != (unsigned)level)
		return err_set(ld->err, -EBADMSG, "shard %u: index page %llu has level %u, not %d",
		               s->id, (unsigned long long)addr, bt_page_level(page), level);
	err = children_load(ld, page, depth);
	if (!err)
		err = bt_node_load(&s->env, &n, page, addr, map_child, ld, ld->err);
	if (err)
		return err;
	err = space_claim(s, SPACE_META, addr, 1);
	if (!err)
		err = map_add(&ld->map, addr, n) ? -ENOMEM : 0;
	if (!err) {
		if (s->l->watch)
			s->l->watch->page(s->l->watch, s, addr, page);
		if (!n->addr) /* it will be written anew: this place is free after that */
			space_free_meta(s, addr);
		return 0;
	}
	n->addr = 0; /* it has no claim on its place */
	bt_node_unref(&s->env, n);
	return err == -ENOMEM
	               ? no_memory(ld)
	               : err_set(ld->err, -EBADMSG, "shard %u: index page %llu overlaps another",
	                         s->id, (unsigned long long)addr);
}

/* A tree of which pages were lost: how many items are left, and none are no tree. */
static void tree_recount(struct btree *t, uint64_t *items)
{
	struct bt_iter it;

	*items = 0;
	for (bt_seek(&it, t, "", 0); it.valid; bt_next(&it))
		++*items;
}

static int root_load(struct loader *ld, struct btree *t, uint64_t root, uint64_t items)
{
	struct btree whole = {.env = t->env};
	int err = node_load(ld, root, -1, 0);

	if (!err && ld->lossy) {
		whole.root = map_find(&ld->map, root);
		tree_recount(&whole, &items);
		if (!items) /* all of it was lost, and told */
			return 0;
	}
	if (err)
		return err;
	whole.root = map_child(ld, root);
	err = bt_adopt(t, whole.root, items, ld->err);
	if (err)
		bt_node_unref(t->env, whole.root);
	return err;
}

static int tree_load(struct loader *ld, struct btree *t, uint64_t root, uint64_t items)
{
	struct load_watch *w = ld->s->l->watch;
	static const struct bt_gap all;
	int err;

	t->env = &ld->s->env;
	if (!root)
		return items ? err_set(ld->err, -EBADMSG, "an empty tree has items") : 0;
	err = root_load(ld, t, root, items);
	/* Without the names nothing of any shard means anything. */
	if (!err || !lenient(ld, err) || (!ld->cont && !ld->s->id))
		return err;
	ld->lossy = ld->s->l->lossy = true;
	w->lost(w, ld->s, ld->cont, root, &all, ld->err->text);
	return 0;
}

static int loader_init(struct loader *ld, struct shard *s, struct pst_err *err)
{
	*ld = (struct loader){.s = s, .err = err};
	for (unsigned i = 0; i < BT_DEPTH_MAX; i++) {
		ld->page[i] = mem_alloc_aligned(BLOCK_BYTES, BLOCK_BYTES);
		if (!ld->page[i])
			return err_set(err, -ENOMEM, "no memory to load the index");
	}
	return 0;
}

/* Only trees of one container share nodes; and before they change the map's references go. */
static void loader_forget(struct loader *ld)
{
	for (size_t i = 0; ld->map.slot && i <= ld->map.mask; i++)
		if (ld->map.slot[i].node)
			bt_node_unref(&ld->s->env, ld->map.slot[i].node);
	mem_free(ld->map.slot);
	ld->map = (struct node_map){0};
}

static void loader_done(struct loader *ld)
{
	loader_forget(ld);
	if (ld->ahead)
		mem_free(ld->ahead->buf);
	mem_free(ld->ahead);
	for (unsigned i = 0; i < BT_DEPTH_MAX; i++)
		mem_free(ld->page[i]);
}

/* --- what the system tree says --- */

static int bad_item(struct loader *ld, const char *what)
{
	return err_set(ld->err, -EBADMSG, "shard %u: a %s item of the system tree is damaged",
	               ld->s->id, what);
}

static int load_names(struct loader *ld)
{
	struct shard *s = ld->s;
	struct bt_iter it;
	int err = 0;

	for (bt_seek(&it, &s->sys, "N", 1); it.valid && it.key[0] == 'N' && !err; bt_next(&it)) {
		struct media_cont_name m;

		if (it.val_len != sizeof(m) || it.key_len < 2)
			return bad_item(ld, "name");
		memcpy(&m, it.val, sizeof(m));
		err = cont_name_load(s->l, &m, (const char *)it.key + 1, it.key_len - 1);
		if (err == -ENOMEM)
			return err_set(ld->err, err, "no memory for a container");
		if (err)
			return bad_item(ld, "name");
	}
	return 0;
}

static int load_snap(struct loader *ld, struct cont *c, const struct bt_iter *it)
{
	struct media_cont m;
	struct snap *n;
	size_t len = it->val_len - sizeof(m);
	uint64_t id;
	int err;

	if (it->key_len != 13 || it->val_len <= sizeof(m) || len > PST_NAME_MAX ||
	    memchr((const uint8_t *)it->val + sizeof(m), 0, len))
		return bad_item(ld, "snapshot");
	memcpy(&m, it->val, sizeof(m));
	id = get_be64(it->key + 5);
	if (!id || id >= c->epoch || le32_get(m.epoch) != id)
		return bad_item(ld, "snapshot");
	n = mem_calloc(1, sizeof(*n));
	if (!n)
		return err_set(ld->err, -ENOMEM, "no memory for a snapshot");
	n->id = id;
	n->ctime_ns = le64_get(m.time_ns);
	n->used_blocks = le64_get(m.used_blocks);
	n->objects = le64_get(m.objects);
	n->logical_bytes = le64_get(m.logical_bytes);
	memcpy(n->name, (const uint8_t *)it->val + sizeof(m), len);
	n->tree.env = &ld->s->env;
	list_push(&c->snaps, &n->link);
	c->snap_count++;
	c->newest_snap = n->id;
	err = tree_load(ld, &n->tree, le64_get(m.root), le64_get(m.items));
	return err;
}

static int load_snaps(struct loader *ld, struct cont *c)
{
	uint8_t key[5] = {'S'};
	struct bt_iter it;
	int err = 0;

	put_be32(key + 1, c->id);
	for (bt_seek(&it, &ld->s->sys, key, sizeof(key));
	     it.valid && it.key_len >= sizeof(key) && !memcmp(it.key, key, sizeof(key)) && !err;
	     bt_next(&it))
		err = load_snap(ld, c, &it);
	return err;
}

static int load_cont(struct loader *ld, const struct bt_iter *it)
{
	struct media_cont m;
	struct cont_name *name;
	struct cont *c;
	int err;

	if (it->key_len != 5 || it->val_len != sizeof(m))
		return bad_item(ld, "container");
	name = cont_name_by_id(ld->s->l, get_be32(it->key + 1));
	if (!name || name->home != ld->s->id)
		return 0; /* destroyed: its space is simply not claimed */
	memcpy(&m, it->val, sizeof(m));
	if (!le32_get(m.epoch) || le32_get(m.epoch) == UINT32_MAX)
		return bad_item(ld, "container");
	c = cont_get(ld->s, get_be32(it->key + 1));
	if (!c)
		return err_set(ld->err, -ENOMEM, "no memory for a container");
	c->epoch = le32_get(m.epoch);
	c->props = le32_get(m.props);
	c->used_blocks = le64_get(m.used_blocks);
	c->objects = le64_get(m.objects);
	c->logical_bytes = le64_get(m.logical_bytes);
	c->quota_bytes = le64_get(m.quota_bytes);
	c->quota_objects = le64_get(m.quota_objects);
	c->quota_blocks = quota_in_blocks(c->quota_bytes);
	loader_forget(ld);
	ld->cont = c->id;
	ld->lossy = false;
	err = tree_load(ld, &c->tree, le64_get(m.root), le64_get(m.items));
	if (!err)
		err = load_snaps(ld, c);
	return err;
}

static int load_items(struct loader *ld)
{
	struct bt_iter it;
	int err = 0;

	for (bt_seek(&it, &ld->s->sys, "C", 1); it.valid && it.key[0] == 'C' && !err; bt_next(&it))
		err = load_cont(ld, &it);
	return err;
}

static int load_trees(struct shard *s, const struct media_header *h, struct pst_err *err)
{
	struct loader ld;
	int r = loader_init(&ld, s, err);

	ld.gen = le64_get(h->gen);
	if (!r)
		r = tree_load(&ld, &s->sys, le64_get(h->sys_root), le64_get(h->sys_items));
	if (!r && s->id == 0)
		r = load_names(&ld);
	if (!r)
		r = load_items(&ld);
	loader_done(&ld);
	if (!r && s->l->lossy)
		s->l->watch->loaded(s->l->watch, s);
	return r;
}

/* --- headers --- */

/* Was no newer header lost? The other slot holds the one before, or there has been only one. */
static bool header_sure(const struct media_header slots[2], const struct media_header *h)
{
	const struct media_header *other = &slots[(le64_get(h->gen) + 1) % 2];

	if (le64_get(h->gen) == 1)
		return le32_get(other->magic) == 0;
	return le32_get(other->magic) == HEADER_MAGIC &&
	       le64_get(other->gen) == le64_get(h->gen) - 1;
}

static int header_read(struct local *l, unsigned shard, struct media_header *ret_h, bool *ret_sure,
                       struct pst_err *err)
{
	struct media_header *h = mem_alloc_aligned(BLOCK_BYTES, 2 * BLOCK_BYTES);
	bool found = false;
	int unread = 0;

	if (!h)
		return err_set(err, -ENOMEM, "no memory to open the store");
	*ret_sure = true;
	for (unsigned d = 0; d < l->geo.devs; d++) {
		int r = meta_read_sync(l, d, l->geo.header_start + 2ull * shard, h, 2);
		bool ok[2];

		if (r) {
			unread = r;
			*ret_sure = false;
			continue;
		}
		for (unsigned i = 0; i < 2; i++) {
			ok[i] = header_ok(&h[i], &l->super, shard);
			if (ok[i] && (!found || le64_get(h[i].gen) > le64_get(ret_h->gen))) {
				*ret_h = h[i];
				found = true;
			}
		}
		if (!found || !ok[le64_get(ret_h->gen) % 2] ||
		    (le64_get(ret_h->gen) > 1 && !(ok[0] && ok[1])) || !header_sure(h, ret_h))
			*ret_sure = false;
	}
	mem_free(h);
	if (!found && unread)
		return err_set(err, unread, "the header of shard %u can't be read: %s", shard,
		               strerror(-unread));
	return found ? 0 : err_set(err, -EBADMSG, "both headers of shard %u are damaged", shard);
}

/* --- one shard --- */

int shard_load(struct local *l, unsigned id, struct pst_err *err)
{
	struct shard *s = l->shard[id];
	struct media_header h;
	bool sure = false;
	int r = header_read(l, id, &h, &sure, err);

	if (r)
		return r;
	/* They only grow, by one or a frame at a time: so that no sum below can overflow. */
	if ((le64_get(h.gen) | le64_get(h.epoch) | le64_get(h.frame_seq) | le64_get(h.log_pos)) >>
	            62 ||
	    le64_get(h.next_cont) > UINT32_MAX)
		return err_set(err, -EBADMSG, "the header of shard %u makes no sense", id);
	s->ckpt.gen = le64_get(h.gen);
	s->ckpt.epoch = le64_get(h.epoch);
	s->ckpt.done = le64_get(h.frame_seq);
	l->epoch = MAX(l->epoch, le64_get(h.epoch));
	if (id == 0)
		l->next_cont = MAX(l->next_cont, (uint32_t)le64_get(h.next_cont));
	r = load_trees(s, &h, err);
	if (!r)
		r = replay_log(s, &h, sure, err);
	return r;
}

/* --- which space is in use --- */

struct claimer {
	struct shard *s;
	uint64_t extents; /* met so far */
	uint64_t bad;
	bool no_memory;
};

static bool enter_once(void *arg, struct bt_node *node)
{
	if (node->flags & BT_NODE_SEEN)
		return false;
	node->flags |= BT_NODE_SEEN;
	return true;
}

static bool leave_once(void *arg, struct bt_node *node)
{
	if (!(node->flags & BT_NODE_SEEN))
		return false;
	node->flags &= (uint16_t)~BT_NODE_SEEN;
	return true;
}

static void claim_run(void *arg, struct pst_oid oid, uint64_t lblk, uint64_t addr, uint32_t blocks,
                      uint32_t birth, bool nocsum)
{
	struct claimer *cl = arg;

	int r = space_claim(cl->s, SPACE_DATA, addr, blocks);

	cl->extents += lblk != UINT64_MAX;
	cl->no_memory |= r == -ENOMEM;
	cl->bad += r == -EINVAL ? blocks : 0;
	if (r != -EEXIST)
		return;
	/* A snapshot's leaf may map what another tree's copy of it maps too: block by block then.
	 */
	for (uint32_t i = 0; i < blocks; i++) {
		int err = space_claim(cl->s, SPACE_DATA, addr + i, 1);

		if (err && err != -EEXIST)
			cl->bad++;
	}
}

/* What nothing refers to is not written home: it might be another's place by now. */
static void journal_prune(struct shard *s)
{
	struct jblock *j, *next;

	list_for_each_safe (j, next, &s->jrnl.dirty, dirty) {
		const struct region *r = &s->l->region[j->addr / s->l->geo.region_span];
		uint64_t at = j->addr % s->l->geo.region_span;

		if (r->class != SPACE_DATA || r->owner != s->id ||
		    !(r->used[at / 64] >> (at % 64) & 1))
			jrnl_forget(s, j->addr, 1);
	}
}

static void claim_item(void *arg, const uint8_t *key, size_t key_len, const uint8_t *val,
                       size_t val_len)
{
	item_runs(key, key_len, val, val_len, claim_run, arg);
}

int space_rebuild(struct shard *s, struct pst_err *err)
{
	struct claimer cl = {.s = s};
	struct cont *c;
	struct snap *n;

	list_for_each (c, &s->conts, link) {
		cl.extents = 0;
		bt_walk(&c->tree, enter_once, claim_item, &cl);
		c->extents = cl.extents;
		if (!PLANTED(s->l, PLANT_FORGET_SNAPSHOT_SPACE))
			list_for_each (n, &c->snaps, link)
				bt_walk(&n->tree, enter_once, claim_item, &cl);
	}
	list_for_each (c, &s->conts, link) {
		bt_walk(&c->tree, leave_once, NULL, NULL);
		list_for_each (n, &c->snaps, link)
			bt_walk(&n->tree, leave_once, NULL, NULL);
	}
	if (!PLANTED(s->l, PLANT_FORGET_SNAPSHOT_SPACE))
		journal_prune(s);
	if (cl.no_memory)
		return err_set(err, -ENOMEM, "no memory for the map of used space");
	if (cl.bad)
		return err_set(
		        err, -EBADMSG,
		        "shard %u: %llu blocks are mapped outside the data area or where index "
		        "pages lie",
		        s->id, (unsigned long long)cl.bad);
	return 0;
}

/* --- all of it --- */

static void ckpt_ended(struct log_wait *w, int status)
{
}

/* Each shard gets a header of the new epoch before anything is acknowledged. */
static int fresh_start(struct local *l, struct pst_err *err)
{
	struct log_wait w[SHARDS_MAX] = {0};
	int r = 0;

	/* What was read from the log may so far be in the devices' caches only. */
	r = flush_all_sync(l);
	/* Where the log ends was found out by looking at data that the checkpoint below may overwrite. A
	 * recovery after this one must not have to find it out again. */
	for (unsigned i = 0; i < l->geo.shards && !r; i++)
		if (!l->shard[i]->log.marked)
			r = log_mark_sync(l->shard[i], l->shard[i]->ckpt.epoch);
	if (!r)
		r = flush_all_sync(l);
	if (r)
		return err_set(err, r, "device %s can't be written: %s",
		               l->dev[l->sync_failed]->info.name, strerror(-r));
	l->opening = true;
	loop_poller_add(l->store.loop, &l->poller);
	for (unsigned i = 0; i < l->geo.shards; i++) {
		w[i].durable = ckpt_ended;
		list_push(&l->shard[i]->ckpt.waiters, &w[i].link);
		ckpt_want(l->shard[i]);
	}
	r = ckpt_wait_all(l);
	if (r)
		r = err_set(err, l->stop_status, "recovery failed: %s", l->stop_why);
	l->opening = false;
	l->stop_told = l->stopped;
	/* Of all at once: what ends on one device may have another one asked. */
	while (io_inflight(l))
		(void)loop_turn(l->store.loop, NSEC_PER_SEC);
	loop_poller_del(l->store.loop, &l->poller);
	for (unsigned i = 0; i < l->geo.shards; i++)
		loop_timer_disarm(l->store.loop, &l->shard[i]->log.timer);
	loop_timer_disarm(l->store.loop, &l->stall_timer);
	return r;
}

int recover_begin(struct local *l, struct pst_err *err)
{
	l->region = mem_calloc(l->geo.regions, sizeof(*l->region));
	if (!l->region)
		return err_set(err, -ENOMEM, "no memory to open the store");
	l->regions_free = l->geo.regions;
	l->recovering = true;
	for (unsigned i = 0; i < l->geo.shards; i++) {
		l->shard[i] = shard_new(l, i);
		if (!l->shard[i])
			return err_set(err, -ENOMEM, "no memory to open the store");
		local_shards_note(l);
	}
	return 0;
}

int recover_end(struct local *l, struct pst_err *err)
{
	for (unsigned i = 0; i < l->geo.shards; i++)
		csum_drop_foreign(l->shard[i]);
	for (unsigned i = 0; i < l->geo.shards; i++)
		l->stat.recovery_index_bytes += l->shard[i]->env.bytes;
	l->recovering = false;
	if (l->opts.read_only)
		return 0;
	l->epoch++;
	return fresh_start(l, err);
}

int recover(struct local *l, struct pst_err *err)
{
	int r = recover_begin(l, err);

	for (unsigned i = 0; i < l->geo.shards && !r; i++)
		r = shard_load(l, i, err);
	for (unsigned i = 0; i < l->geo.shards && !r; i++)
		r = space_rebuild(l->shard[i], err);
	return r ? r : recover_end(l, err);
}
