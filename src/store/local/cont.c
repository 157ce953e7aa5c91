/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cont - containers and snapshots in DRAM, and what their records do.
 *
 * The root shard (0) has the table of names; a container's state (tree, snapshots, counters) lives
 * on its home shard and is made when it is first changed there. Recovery drops state whose name is
 * gone.
 *
 * A snapshot is a second tree that shares the live one's nodes. Blocks carry the epoch in which
 * they were born; a snapshot's id is the epoch that it ended. So a block that the live tree drops
 * is held by a snapshot exactly when it was born at or before the newest one (drop_blocks), and a
 * block that only snapshot S holds was born after the one before S and is not in the tree after S
 * (snap_drop). No list of dead blocks is kept, so none can be lost.
 */
#include "store/local/engine.h"

/* --- memory that a record may need when it is applied, when it can't be refused any more --- */

#define SPARE_BYTES                                    \
	MAX(MAX(sizeof(struct cont), CREW_NOTE_BYTES), \
	    MAX(sizeof(struct cont_name), sizeof(struct snap)))

int spares_fill(struct local *l)
{
	for (unsigned i = 0; i < ARRAY_LEN(l->spare); i++) {
		if (!l->spare[i])
			l->spare[i] = mem_calloc(1, SPARE_BYTES);
		if (!l->spare[i])
			return -ENOMEM;
	}
	return 0;
}

void spares_free(struct local *l)
{
	for (unsigned i = 0; i < ARRAY_LEN(l->spare); i++)
		mem_free(l->spare[i]);
}

static void *spare_calloc(struct local *l, size_t len)
{
	void *p = mem_calloc(1, len);

	for (unsigned i = 0; i < ARRAY_LEN(l->spare) && !p; i++) {
		p = l->spare[i];
		l->spare[i] = NULL;
	}
	return p;
}

/* --- finding --- */

struct cont *cont_find(struct shard *s, uint32_t id)
{
	struct cont *c = s->cont_hash[id % CONT_HASH];

	while (c && c->id != id)
		c = c->hash_next;
	return c;
}

struct cont_name *cont_name_by_id(struct local *l, uint32_t id)
{
	struct cont_name *n = l->name_hash[id % CONT_HASH];

	while (n && n->id != id)
		n = n->hash_next;
	return n;
}

const char *cont_text(struct local *l, uint32_t id)
{
	const struct cont_name *n = cont_name_by_id(l, id);

	return n ? n->name : "(destroyed)";
}

struct shard *shard_of_cont(struct local *l, uint32_t cont)
{
	struct cont_name *n = cont_name_by_id(l, cont);

	return n ? l->shard[n->home] : NULL;
}

uint64_t quota_in_blocks(uint64_t bytes)
{
	return bytes ? MAX(bytes / BLOCK_BYTES, 1) : 0;
}

struct cont *cont_get(struct shard *s, uint32_t id)
{
	struct cont *c = cont_find(s, id);
	struct cont_name *n;

	if (c)
		return c;
	c = spare_calloc(s->l, sizeof(*c));
	if (!c)
		return NULL;
	c->id = id;
	c->epoch = 1;
	c->tree.env = &s->env;
	list_init(&c->dying);
	list_init(&c->snaps);
	n = cont_name_by_id(s->l, id);
	if (n) {
		c->props = n->props;
		c->quota_bytes = n->quota_bytes;
		c->quota_objects = n->quota_objects;
		c->quota_blocks = quota_in_blocks(n->quota_bytes);
	}
	c->hash_next = s->cont_hash[id % CONT_HASH];
	s->cont_hash[id % CONT_HASH] = c;
	list_push(&s->conts, &c->link);
	return c;
}

void cont_free(struct shard *s, struct cont *c)
{
	struct cont **at = &s->cont_hash[c->id % CONT_HASH];
	struct list *n;

	while (*at != c)
		at = &(*at)->hash_next;
	*at = c->hash_next;
	list_del(&c->link);
	list_del(&c->dying);
	while ((n = list_pop(&c->snaps)) != NULL) {
		struct snap *sn = list_entry(n, struct snap, link);

		bt_drop(&sn->tree);
		mem_free(sn);
	}
	s->map_version++;
	bt_drop(&c->tree);
	mem_free(c);
}

static struct snap *snap_by_id(struct cont *c, uint64_t id)
{
	struct snap *n;

	list_for_each (n, &c->snaps, link)
		if (n->id == id)
			return n;
	return NULL;
}

int cont_view(struct local *l, const struct pst_op *op, struct shard **ret_shard,
              const struct btree **ret_tree)
{
	struct shard *s = shard_of_cont(l, op->cont);
	struct cont *c = s ? cont_find(s, op->cont) : NULL;

	if (!s)
		return -ENOENT;
	*ret_shard = s;
	if (!op->view) {
		*ret_tree = c ? &c->tree : NULL;
		return 0;
	}
	struct snap *n = c ? snap_by_id(c, op->view) : NULL;

	if (!n)
		return -ENOENT;
	*ret_tree = &n->tree;
	return 0;
}

/* --- giving space back --- */

struct dropping {
	struct shard *s;
	const struct btree *next; /* the tree after the snapshot's */
	uint64_t prev_id;
};

/* Frees the part of a run that the next tree does not map at the same place. */
static void drop_run(void *arg, struct pst_oid oid, uint64_t lblk, uint64_t addr, uint32_t blocks,
                     uint32_t birth, bool nocsum)
{
	struct dropping *d = arg;
	struct head h;

	if (birth <= d->prev_id)
		return;
	head_get(d->next, oid, &h);
	while (blocks) {
		struct extent e;
		uint32_t n = blocks;
		bool shared = false;

		if (h.exists && extent_find(d->next, oid, &h, lblk, &e)) {
			if (e.lblk > lblk) {
				n = (uint32_t)MIN(n, e.lblk - lblk);
			} else {
				n = (uint32_t)MIN(n, e.lblk + e.blocks - lblk);
				shared = e.addr + (lblk - e.lblk) == addr;
			}
		}
		if (!shared)
			space_free_data(d->s, addr, n);
		lblk += n;
		addr += n;
		blocks -= n;
	}
}

static void drop_outval(struct dropping *d, const uint8_t *key, size_t key_len, const uint8_t *val,
                        size_t val_len)
{
	struct media_outval out;
	const void *now;
	size_t now_len;

	if (outval_decode(val + 1, val_len - 1, &out) || le32_get(out.birth) <= d->prev_id)
		return;
	if (bt_get(d->next, key, key_len, &now, &now_len) == 0 && now_len == val_len &&
	    !memcmp(now, val, val_len))
		return; /* the same value still stands there */
	for (unsigned i = 0; i < le16_get(out.extents); i++)
		space_free_data(d->s, get48(out.extent[i].addr), le16_get(out.extent[i].blocks));
}

static void drop_item(void *arg, const uint8_t *key, size_t key_len, const uint8_t *val,
                      size_t val_len)
{
	if (key_len > KEY_OBJ_BYTES && key[16] == KEY_KV) {
		if (val_len > 1 && val[0] == VAL_OUT)
			drop_outval(arg, key, key_len, val, val_len);
		return;
	}
	item_runs(key, key_len, val, val_len, drop_run, arg);
}

void snap_drop(struct shard *s, struct cont *c, struct snap *n)
{
	struct dropping d = {s, &c->tree, 0};

	if (n->link.next != &c->snaps)
		d.next = &list_entry(n->link.next, struct snap, link)->tree;
	if (n->link.prev != &c->snaps)
		d.prev_id = list_entry(n->link.prev, struct snap, link)->id;
	bt_for_each_exclusive(&n->tree, drop_item, &d);
	s->map_version++; /* trees are cached by their place in memory */
	list_del(&n->link);
	bt_drop(&n->tree);
	mem_free(n);
	c->snap_count--;
	c->newest_snap =
	        list_empty(&c->snaps) ? 0 : list_entry(c->snaps.prev, struct snap, link)->id;
}

static void free_run(void *arg, struct pst_oid oid, uint64_t lblk, uint64_t addr, uint32_t blocks,
                     uint32_t birth, bool nocsum)
{
	space_free_data(arg, addr, blocks);
}

static void free_item(void *arg, const uint8_t *key, size_t key_len, const uint8_t *val,
                      size_t val_len)
{
	item_runs(key, key_len, val, val_len, free_run, arg);
}

/* A destroyed container, which has no snapshots, gives all its blocks back. */
void cont_drop_tree(struct shard *s, struct cont *c)
{
	struct bt_iter it;

	while (!list_empty(&c->snaps)) /* recovery drops what its name no longer protects */
		snap_drop(s, c, list_first(&c->snaps, struct snap, link));
	for (bt_seek(&it, &c->tree, "", 0); it.valid; bt_next(&it))
		free_item(s, it.key, it.key_len, it.val, it.val_len);
	cont_free(s, c);
	if (!s->l->recovering)
		log_want_mark(s); /* nothing else may ever be written here */
}

/* --- records --- */

static int snap_create_apply(struct shard *s, struct cont *c, const struct media_record *r,
                             const uint8_t *body, size_t len)
{
	const struct media_snap *m = (const void *)body;
	struct snap *n;
	uint32_t name_len;

	if (len < sizeof(*m))
		return -EBADMSG;
	name_len = le32_get(m->name_len);
	if (s->l->lossy && le64_get(m->id) < UINT32_MAX) /* the state that said so may be gone */
		c->epoch = MAX(c->epoch, (uint32_t)le64_get(m->id));
	if (!name_len || name_len > PST_NAME_MAX || name_len > len - sizeof(*m) ||
	    memchr(m + 1, 0, name_len) || le64_get(m->id) != c->epoch || c->epoch == UINT32_MAX)
		return -EBADMSG;
	n = spare_calloc(s->l, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->id = c->epoch++;
	n->ctime_ns = le64_get(r->time_ns);
	n->used_blocks = c->used_blocks;
	n->objects = c->objects;
	n->logical_bytes = c->logical_bytes;
	memcpy(n->name, m + 1, name_len);
	container_of(c->tree.env, struct shard, env)->page_version++;
	bt_clone(&n->tree, &c->tree);
	list_push(&c->snaps, &n->link);
	c->snap_count++;
	c->newest_snap = n->id;
	return 0;
}

int cont_apply(struct shard *s, struct cont *c, const struct media_record *r, const uint8_t *body,
               size_t len)
{
	const struct media_cont_set *m = (const void *)body;
	struct snap *n;

	switch (le16_get(r->type)) {
	case REC_SNAP_CREATE:
		return snap_create_apply(s, c, r, body, len);
	case REC_SNAP_DESTROY:
		n = len >= 8 ? snap_by_id(c, le64_get(*(const le64 *)(const void *)body)) : NULL;
		if (!n)
			return s->l->lossy ? 0 : -EBADMSG;
		snap_drop(s, c, n);
		return 0;
	}
	if (len < sizeof(*m))
		return -EBADMSG;
	if (le32_get(m->mask) & PST_SET_PROPS)
		c->props = le32_get(m->props);
	if (le32_get(m->mask) & PST_SET_QUOTA_BYTES) {
		c->quota_bytes = le64_get(m->quota_bytes);
		c->quota_blocks = quota_in_blocks(c->quota_bytes);
	}
	if (le32_get(m->mask) & PST_SET_QUOTA_OBJECTS)
		c->quota_objects = le64_get(m->quota_objects);
	return 0;
}

/* --- the root shard's table: in DRAM, and as 'N' items of its system tree --- */

static size_t name_key(uint8_t key[PST_NAME_MAX + 1], const char *name, size_t len)
{
	key[0] = 'N';
	memcpy(key + 1, name, len);
	return len + 1;
}

int cont_name_load(struct local *l, const struct media_cont_name *m, const char *name,
                   size_t name_len)
{
	struct cont_name *n;

	if (!name_len || name_len > PST_NAME_MAX || memchr(name, 0, name_len) || !le32_get(m->id) ||
	    le32_get(m->id) == UINT32_MAX || le32_get(m->home_shard) >= l->geo.shards ||
	    cont_name_by_id(l, le32_get(m->id)))
		return -EBADMSG;
	n = spare_calloc(l, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->id = le32_get(m->id);
	n->home = le32_get(m->home_shard);
	n->props = le32_get(m->props);
	n->layout = le16_get(m->layout);
	n->ctime_ns = le64_get(m->ctime_ns);
	n->quota_bytes = le64_get(m->quota_bytes);
	n->quota_objects = le64_get(m->quota_objects);
	memcpy(n->uuid, m->uuid, sizeof(n->uuid));
	memcpy(n->name, name, name_len);
	if (cont_name_add(l, n)) {
		mem_free(n);
		return -EBADMSG;
	}
	return 0;
}

struct cont_name *cont_name_add(struct local *l, struct cont_name *n)
{
	struct cont_name *at;

	list_for_each (at, &l->names, link)
		if (strcmp(at->name, n->name) >= 0)
			break;
	if (&at->link != &l->names && !strcmp(at->name, n->name))
		return at;
	n->hash_next = l->name_hash[n->id % CONT_HASH];
	l->name_hash[n->id % CONT_HASH] = n;
	list_push(&at->link, &n->link);
	l->next_cont = MAX(l->next_cont, n->id + 1);
	return NULL;
}

void cont_name_free(struct local *l, struct cont_name *n)
{
	struct cont_name **at = &l->name_hash[n->id % CONT_HASH];

	while (*at != n)
		at = &(*at)->hash_next;
	*at = n->hash_next;
	list_del(&n->link);
	mem_free(n);
}

void cont_names_done(struct local *l)
{
	while (!list_empty(&l->names))
		cont_name_free(l, list_first(&l->names, struct cont_name, link));
}

/* The reactor of the home shard learns of it, if it is another one. @frame: in which it ended; 0: it was
 * made. */
static int abroad(struct local *l, const struct cont_name *n, uint64_t frame)
{
	void *mem;

	if (likely(!l->crew) || l->shard[n->home])
		return 0;
	mem = spare_calloc(l, CREW_NOTE_BYTES);
	if (!mem)
		return -ENOMEM;
	if (frame)
		crew_cont_gone(l, n, frame, mem);
	else
		crew_cont_made(l, n, mem);
	return 0;
}

int cont_table_apply(struct shard *s, const struct media_record *r, uint64_t frame,
                     const uint8_t *body, size_t len)
{
	const struct media_cont_name *m = (const void *)body;
	struct local *l = s->l;
	uint8_t key[PST_NAME_MAX + 1];
	struct cont_name *n;
	struct shard *home;
	struct cont *c;
	size_t name_len;
	int err;

	if (s->id != 0)
		return -EBADMSG;
	if (le16_get(r->type) == REC_CONT_CREATE) {
		if (len < sizeof(*m) || le16_get(m->name_len) > len - sizeof(*m))
			return -EBADMSG;
		name_len = le16_get(m->name_len);
		err = cont_name_load(l, m, (const char *)(m + 1), name_len);
		if (err)
			return err;
		bt_put(&s->sys, key, name_key(key, (const char *)(m + 1), name_len), m, sizeof(*m));
		return abroad(l, cont_name_by_id(l, le32_get(m->id)), 0);
	}
	n = cont_name_by_id(l, le32_get(r->cont));
	if (!n)
		return l->lossy ? 0 : -EBADMSG;
	home = l->shard[n->home];
	bt_del(&s->sys, key, name_key(key, n->name, strlen(n->name)));
	err = abroad(l, n, frame);
	cont_name_free(l, n);
	if (err)
		return err;
	c = home ? cont_find(home, le32_get(r->cont)) : NULL;
	if (!c)
		return 0;
	if (!l->recovering) {
		/* Not before this record is durable: until then a crash brings the container back.
		 */
		c->dying_frame = frame;
		list_push(&l->dying, &c->dying);
	} else if (home == s) {
		cont_drop_tree(s, c);
	} /* other shards are recovered later, and skip what has no name */
	return 0;
}

void cont_reap_dying(struct local *l)
{
	struct cont *c, *next;

	list_for_each_safe (c, next, &l->dying, dying) {
		if (c->dying_frame <= l->shard[0]->log.durable)
			cont_drop_tree(container_of(c->tree.env, struct shard, env), c);
	}
}
