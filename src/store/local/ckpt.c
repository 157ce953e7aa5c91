/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ckpt - checkpoints: the trees of one moment reach the device, and the log before it may go.
 *
 *   IDLE    -- freeze: the open frame takes no more records, every tree is cloned (which freezes
 * its nodes), dirty nodes get new addresses, the system tree learns the roots --> DURABLE -- all
 * frames whose changes are in those trees are durable --> HOME    -- journaled blocks of these
 * frames and dirty checksum pages are in their places --> NODES   -- the dirty nodes are written
 * --> FLUSH   -- everything so far is durable --> HEADER  -- the header's other slot is written and
 * durable --> IDLE
 *
 * Ops go on all the while: what they change they copy first. A crash before the header is durable
 * leaves the checkpoint before and the whole log after it (R5, R6).
 */
#include "store/local/engine.h"

int ckpt_init(struct shard *s)
{
	s->ckpt.header = mem_alloc_aligned(BLOCK_BYTES, BLOCK_BYTES);
	return s->ckpt.header ? 0 : -ENOMEM;
}

static void views_drop(struct ckpt *k)
{
	for (size_t i = 0; i < k->views; i++)
		bt_drop(&k->view[i].tree);
	k->views = 0;
	k->nodes = k->nodes_next = 0;
}

static void ios_free(struct ckpt *k)
{
	for (unsigned i = 0; k->ios && i < CKPT_IOS; i++)
		mem_free(k->ios[i].buf);
	mem_free(k->ios);
	k->ios = k->free_io = NULL;
}

void ckpt_done(struct shard *s)
{
	struct ckpt *k = &s->ckpt;

	views_drop(k);
	ios_free(k);
	mem_free(k->view);
	mem_free(k->node);
	mem_free(k->header);
}

void ckpt_want(struct shard *s)
{
	s->ckpt.wanted = true;
}

bool ckpt_due(const struct shard *s)
{
	return s->ckpt.state == CKPT_IDLE &&
	       (log_used(s) > s->log.blocks / 2 || csum_dirty_many(s));
}

bool ckpt_needed(const struct shard *s)
{
	return s->ckpt.state != CKPT_IDLE || s->ckpt.wanted || s->log.last_record > s->ckpt.done ||
	       s->jrnl.count || s->csum.dirty || s->log.head != s->log.tail;
}

/* --- freezing --- */

static uint64_t node_assign(void *arg)
{
	struct shard *s = arg;
	uint64_t addr;

	if (space_alloc(s, SPACE_META, 1, &addr) == 1)
		return addr;
	s->ckpt.failed = true;
	return 1; /* never written: freeze() stops the store */
}

static void node_emit(void *arg, struct bt_node *node, uint64_t addr)
{
	struct shard *s = arg;
	struct ckpt *k = &s->ckpt;

	pst_assert(k->nodes < k->nodes_cap);
	k->node[k->nodes].node = node;
	k->node[k->nodes].cont = k->view[k->views - 1].cont;
	k->nodes++;
}

static int room_for(struct shard *s, uint64_t nodes, size_t views)
{
	struct ckpt *k = &s->ckpt;

	if (k->nodes_cap < nodes) {
		void *p = mem_realloc(k->node, nodes * sizeof(*k->node));

		if (!p)
			return -ENOMEM;
		k->node = p;
		k->nodes_cap = nodes;
	}
	if (k->views_cap < views) {
		void *p = mem_realloc(k->view, views * sizeof(*k->view));

		if (!p)
			return -ENOMEM;
		k->view = p;
		k->views_cap = views;
	}
	return 0;
}

static void freeze_tree(struct shard *s, const struct btree *t, uint32_t cont)
{
	struct ckpt *k = &s->ckpt;
	struct ckpt_view *v;

	if (!t->root || t->root->addr)
		return;
	v = &k->view[k->views++];
	v->cont = cont;
	s->page_version++; /* its pages are shared from now on */
	bt_clone(&v->tree, t);
	bt_dirty_assign(&v->tree, k->gen + 1, cont, node_assign, node_emit, s);
}

static void sys_put(struct shard *s, const uint8_t *key, size_t key_len, const void *val,
                    size_t len)
{
	const void *now;
	size_t now_len;

	if (bt_get(&s->sys, key, key_len, &now, &now_len) || now_len != len ||
	    memcmp(now, val, len))
		bt_put(&s->sys, key, key_len, val, len);
}

static void sys_put_cont(struct shard *s, const struct cont *c)
{
	struct media_cont m = {
	        .root = le64_make(c->tree.root ? c->tree.root->addr : 0),
	        .items = le64_make(c->tree.items),
	        .epoch = le32_make(c->epoch),
	        .props = le32_make(c->props),
	        .used_blocks = le64_make(c->used_blocks),
	        .objects = le64_make(c->objects),
	        .logical_bytes = le64_make(c->logical_bytes),
	        .quota_bytes = le64_make(c->quota_bytes),
	        .quota_objects = le64_make(c->quota_objects),
	};
	uint8_t key[5] = {'C'};

	put_be32(key + 1, c->id);
	sys_put(s, key, sizeof(key), &m, sizeof(m));
}

static void sys_put_snap(struct shard *s, const struct cont *c, const struct snap *n)
{
	uint8_t key[13] = {'S'}, val[sizeof(struct media_cont) + PST_NAME_MAX];
	struct media_cont m = {
	        .root = le64_make(n->tree.root ? n->tree.root->addr : 0),
	        .items = le64_make(n->tree.items),
	        .epoch = le32_make((uint32_t)n->id),
	        .used_blocks = le64_make(n->used_blocks),
	        .objects = le64_make(n->objects),
	        .logical_bytes = le64_make(n->logical_bytes),
	        .time_ns = le64_make(n->ctime_ns),
	};
	size_t len = strlen(n->name);

	put_be32(key + 1, c->id);
	put_be64(key + 5, n->id);
	memcpy(val, &m, sizeof(m));
	memcpy(val + sizeof(m), n->name, len);
	sys_put(s, key, sizeof(key), val, sizeof(m) + len);
}

static bool sys_item_stale(struct shard *s, const uint8_t *key, size_t len)
{
	struct cont *c = len >= 5 ? cont_find(s, get_be32(key + 1)) : NULL;
	struct snap *n;

	if (!c)
		return true;
	if (key[0] == 'C')
		return false;
	list_for_each (n, &c->snaps, link)
		if (len == 13 && n->id == get_be64(key + 5))
			return false;
	return true;
}

/* 'C' and 'S' items of what is gone. */
static void sys_drop_stale(struct shard *s)
{
	uint8_t key[BT_KEY_MAX] = {'C'};
	size_t len = 1;
	struct bt_iter it;

	for (;;) {
		bt_seek(&it, &s->sys, key, len);
		if (it.valid && it.key[0] == 'N') { /* names stand between 'C' and 'S' */
			key[0] = 'S';
			len = 1;
			continue;
		}
		if (!it.valid || it.key[0] > 'S')
			return;
		len = it.key_len;
		memcpy(key, it.key, len);
		if (sys_item_stale(s, key, len))
			bt_del(&s->sys, key, len);
		key[len++] = 0;
	}
}

static uint64_t dirty_all(struct shard *s, size_t *ret_trees)
{
	uint64_t nodes = 0;
	struct cont *c;
	struct snap *n;

	*ret_trees = 1;
	list_for_each (c, &s->conts, link) {
		nodes += bt_dirty_count(&c->tree);
		++*ret_trees;
		list_for_each (n, &c->snaps, link) {
			nodes += bt_dirty_count(&n->tree); /* shared ones count twice: no harm */
			++*ret_trees;
		}
	}
	return nodes;
}

/* True: frozen. False: not now (no memory), or the store was stopped. */
static bool freeze(struct shard *s)
{
	struct ckpt *k = &s->ckpt;
	size_t trees;
	uint64_t nodes = dirty_all(s, &trees);
	struct cont *c;
	struct snap *n;

	/* The system tree changes below: at most all of its pages get dirty. */
	nodes += bt_dirty_count(&s->sys) + s->sys.items / 4 + 4 * trees + 16;
	if (room_for(s, nodes, trees) || bt_reserve_beyond(&s->env, (unsigned)(4 * trees + 16)))
		return false;
	k->frame = log_close_frame(s);
	k->pos = s->log.head; /* unless the frame is still open: frame_place() says then */
	k->failed = false;
	list_for_each (c, &s->conts, link) {
		list_for_each (n, &c->snaps, link) {
			freeze_tree(s, &n->tree, c->id);
			sys_put_snap(s, c, n);
		}
		freeze_tree(s, &c->tree, c->id);
		sys_put_cont(s, c);
	}
	sys_drop_stale(s);
	freeze_tree(s, &s->sys, 0);
	k->sys_root = s->sys.root ? s->sys.root->addr : 0;
	k->sys_items = s->sys.items;
	space_meta_frozen(s);
	jrnl_home_begin(s, k->frame);
	if (k->failed) {
		local_stop(s->l, -ENOSPC, "no space for the index pages of a checkpoint");
		return false;
	}
	return true;
}

/* --- writing --- */

static int ios_alloc(struct ckpt *k, struct shard *s)
{
	if (k->ios)
		return 0;
	k->ios = mem_calloc(CKPT_IOS, sizeof(*k->ios));
	if (!k->ios)
		return -ENOMEM;
	for (unsigned i = 0; i < CKPT_IOS; i++) {
		struct ckpt_io *io = &k->ios[i];

		io->buf = mem_alloc_aligned(BLOCK_BYTES, (size_t)CKPT_IO_PAGES * BLOCK_BYTES);
		if (!io->buf) {
			ios_free(k);
			return -ENOMEM;
		}
		io->shard = s;
		io->next = k->free_io;
		k->free_io = io;
	}
	return 0;
}

static void nodes_written(struct dio *d)
{
	struct ckpt_io *io = container_of(d, struct ckpt_io, dio);
	struct ckpt *k = &io->shard->ckpt;

	k->pending--;
	io->next = k->free_io;
	k->free_io = io;
	if (d->status)
		local_stop(io->shard->l, d->status, "an index page can't be written");
}

/* True when all nodes are on the device. */
static bool nodes_step(struct shard *s)
{
	struct ckpt *k = &s->ckpt;

	if (k->nodes_next < k->nodes && ios_alloc(k, s)) {
		local_tick(s->l);
		return false;
	}
	while (k->nodes_next < k->nodes && k->free_io) {
		struct ckpt_io *io = k->free_io;
		uint64_t first = k->node[k->nodes_next].node->addr;
		uint32_t n = 0;

		do {
			bt_page_seal(&s->env, k->node[k->nodes_next].node, k->gen + 1,
			             k->node[k->nodes_next].cont,
			             io->buf + (size_t)n * BLOCK_BYTES);
			n++;
			k->nodes_next++;
		} while (n < CKPT_IO_PAGES && k->nodes_next < k->nodes &&
		         k->node[k->nodes_next].node->addr == first + n &&
		         (first + n) % s->l->geo.region_span != 0);
		k->free_io = io->next;
		k->pending++;
		io->dio.done = nodes_written;
		io->iov = (struct iovec){io->buf, (size_t)n * BLOCK_BYTES};
		dio_meta_write(s->l, &io->dio, geo_meta_block(&s->l->geo, first), &io->iov, 1,
		               io->iov.iov_len, false);
	}
	return k->nodes_next == k->nodes && !k->pending;
}

static void header_written(struct dio *d);

static void header_write(struct shard *s)
{
	struct ckpt *k = &s->ckpt;
	struct media_header *h = k->header;

	memset(h, 0, sizeof(*h));
	memcpy(h->store_uuid, s->l->super.store_uuid, sizeof(h->store_uuid));
	h->shard = le32_make(s->id);
	h->gen = le64_make(k->gen + 1);
	h->epoch = le64_make(s->l->epoch);
	h->frame_seq = le64_make(k->frame);
	h->log_pos = le64_make(k->pos);
	h->sys_root = le64_make(k->sys_root);
	h->sys_items = le64_make(k->sys_items);
	h->time_ns = le64_make(loop_real_now(s->l->store.loop));
	h->next_cont = le64_make(s->l->next_cont);
	h->clean = le32_make(s->l->closing && s->log.last_record <= k->frame);
	header_seal(h);
	k->iov = (struct iovec){h, BLOCK_BYTES};
	k->state = CKPT_HEADER;
	k->dio.done = header_written;
	dio_meta_write(s->l, &k->dio, s->l->geo.header_start + 2ull * s->id + (k->gen + 1) % 2,
	               &k->iov, 1, BLOCK_BYTES, true);
}

static void flushed(struct dio *d)
{
	struct shard *s = container_of(d, struct shard, ckpt.dio);

	if (d->status)
		local_stop(s->l, d->status, "a device can't be flushed");
	else if (!s->l->stopped)
		header_write(s);
}

static void header_written(struct dio *d)
{
	struct shard *s = container_of(d, struct shard, ckpt.dio);
	struct ckpt *k = &s->ckpt;
	struct list done, *n;

	if (d->status) {
		local_stop(s->l, d->status, "the header of shard %u can't be written", s->id);
		return;
	}
	k->gen++;
	k->done = k->frame;
	s->log.tail = k->pos;
	s->l->stat.checkpoints++;
	space_meta_committed(s);
	views_drop(k);
	if (!s->l->recovering && s->env.pages < 4096)
		ios_free(k);
	k->state = CKPT_IDLE;
	list_init(&done);
	list_splice(&done, &k->waiters);
	while ((n = list_pop(&done)) != NULL) {
		struct log_wait *w = list_entry(n, struct log_wait, link);

		w->durable(w, 0);
	}
	shard_kick(s);
}

void ckpt_step(struct shard *s)
{
	struct ckpt *k = &s->ckpt;

	if (s->l->stopped)
		return;
	switch (k->state) {
	case CKPT_IDLE:
		if (!k->wanted)
			return;
		if (!freeze(s)) {
			local_tick(s->l);
			return;
		}
		k->wanted = false;
		k->state = CKPT_DURABLE;
		/* fall through */
	case CKPT_DURABLE:
		if (s->log.durable < k->frame) {
			log_want(s);
			return;
		}
		csum_write_begin(s);
		k->state = CKPT_HOME;
		/* fall through */
	case CKPT_HOME:
		if (!csum_write_step(s) || k->pending || s->jrnl.left)
			return;
		/* What left the journal without going home was freed by a record: see jrnl.c. */
		if (s->log.durable < MIN(s->jrnl.forgot, s->log.last_record)) {
			log_want(s);
			return;
		}
		if (s->log.mark < s->jrnl.renewed) {
			log_want(s);
			log_want_mark(s);
			return;
		}
		k->state = CKPT_NODES;
		/* fall through */
	case CKPT_NODES:
		if (!nodes_step(s))
			return;
		k->state = CKPT_FLUSH;
		k->dio.done = flushed;
		if (PLANTED(s->l, PLANT_TRIM_EARLY))
			header_write(s);
		else
			(void)dio_flush(s->l, &k->dio, false);
		return;
	case CKPT_FLUSH:
	case CKPT_HEADER:
		return;
	}
}

/* --- waiting --- */

#define PATIENCE_NS (10 * NSEC_PER_SEC)

static bool anyone_waits(const struct local *l)
{
	for (unsigned i = 0; i < l->geo.shards; i++)
		if (!list_empty(&l->shard[i]->ckpt.waiters))
			return true;
	return false;
}

int ckpt_wait_all(struct local *l)
{
	uint64_t since = loop_now(l->store.loop), before = 0;

	while (!l->stopped && anyone_waits(l)) {
		uint64_t done = l->stat.dev_write_bytes + l->stat.dev_read_bytes +
		                l->stat.dev_flushes + l->stat.checkpoints;

		if (done != before || io_inflight(l)) {
			before = done;
			since = loop_now(l->store.loop);
		} else if (loop_now(l->store.loop) - since > PATIENCE_NS) {
			/* What puts a checkpoint off without any request is want of memory. */
			local_stop(l, -ENOMEM, "a checkpoint has waited too long for memory");
			break;
		}
		if (loop_turn(l->store.loop, NSEC_PER_SEC) < 0)
			local_stop(l, -EIO, "the loop failed");
	}
	return l->stopped ? l->stop_status : 0;
}
