/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bt_env - the memory of the index: slabs of nodes and pages, the reservation, the accounts.
 *
 * A slab is one allocation: its header and its nodes, rounded up to whole pages, then one page per
 * node, for good. Slabs begin small, so that a small store stays small, and grow with the index.
 * A slab with free nodes is on env->slabs: those with nothing else at the tail, so that nodes are
 * taken from slabs in use and bt_reserve() can give empty ones back. It is the only place that
 * does: what it granted is never taken away behind the caller's back.
 *
 * How much c changes may take (pages_needed). The nodes of level l number N(l) before, D levels.
 *  - Copies: one tree copies a node at most once while no clone is taken, and each change at most
 *    one a level: min(c, N(l)) for each level below D.
 *  - New leaves: at most one a change, by a split or as the first leaf of a tree: c.
 *  - Splits of inner pages, S(l) of level l (S(0) = c): each takes in one new separator, so there
 *    are at most S(l-1). A page that was split in the middle takes three more of the longest
 *    separators before it splits again; one that was split at its end stays full, but gets another
 *    split only once; so S(l) <= 2 N(l) + S(l-1)/2 + 1, and, on levels that did not exist before,
 *    S(l) <= S(l-1)/3.
 *  - New roots: at most one a change, and each needs a full root: one of all that there are, or one
 *    made since, of four leaf items or more: min(c, sum N + c/4 + 1).
 * Deletes take no more than the copies: merges reuse the page of one of the two.
 */
#include "store/local/bt_internal.h"

#define SLAB_MIN_BYTES (64 * KIB)
#define SLAB_MAX_BYTES (2 * MIB)
/* Free pages that stay beside the reservation when slabs are given back. */
#define KEEP_FREE_PAGES 512
/* Slabs given back in one bt_reserve(), so that it takes a bounded time. */
#define TRIM_MAX 4

struct slab {
	struct list link;
	uint32_t pages, free;
	uint32_t first_free; /* index + 1, 0: none; a free node's addr holds the next one's */
	uint32_t bytes;
	struct bt_node node[];
};

static size_t slab_head_bytes(unsigned pages)
{
	return ALIGN_UP(sizeof(struct slab) + pages * sizeof(struct bt_node), BT_PAGE_BYTES);
}

static size_t slab_bytes(unsigned pages)
{
	return slab_head_bytes(pages) + (size_t)pages * BT_PAGE_BYTES;
}

/* The most pages of a slab of @bytes. */
static unsigned slab_pages(size_t bytes)
{
	unsigned n = bytes / BT_PAGE_BYTES;

	while (n > 0 && slab_bytes(n) > bytes)
		n--;
	return n;
}

/* In node->flags: its index in the slab; the highest bit is the walkers' (BT_NODE_SEEN). */
static unsigned node_index(const struct bt_node *node)
{
	return node->flags & (BT_NODE_SEEN - 1);
}

static struct slab *node_slab(struct bt_node *node)
{
	return container_of(node - node_index(node), struct slab, node);
}

static int slab_new(struct bt_env *env, unsigned pages)
{
	size_t bytes = slab_bytes(pages);
	struct slab *s = mem_alloc_slab(bytes);

	if (!s)
		return -ENOMEM;
	s->pages = s->free = pages;
	s->bytes = bytes;
	s->first_free = 1;
	for (unsigned i = 0; i < pages; i++) {
		s->node[i].flags = i;
		s->node[i].page = (uint8_t *)s + slab_head_bytes(pages) + i * BT_PAGE_BYTES;
		s->node[i].addr = i + 1 < pages ? i + 2 : 0;
	}
	list_push(&env->slabs, &s->link);
	env->free_count += pages;
	env->bytes += bytes;
	return 0;
}

static void slab_free(struct bt_env *env, struct slab *s)
{
	pst_assert(s->free == s->pages);
	list_del(&s->link);
	env->free_count -= s->pages;
	env->bytes -= s->bytes;
	mem_free(s);
}

int bt_env_init(struct bt_env *env)
{
	env->bytes = env->pages = env->copies = env->overdrafts = 0;
	env->free_count = env->reserved = 0;
	memset(env->level_pages, 0, sizeof(env->level_pages));
	list_init(&env->slabs);
	list_init(&env->full);
	return 0;
}

void bt_env_done(struct bt_env *env)
{
	pst_assert(env->pages == 0 && list_empty(&env->full));
	while (!list_empty(&env->slabs))
		slab_free(env, list_first(&env->slabs, struct slab, link));
	pst_assert(env->bytes == 0 && env->free_count == 0);
}

/* --- reservation --- */

/* See the head of this file. */
static uint64_t pages_needed(const struct bt_env *env, uint64_t changes)
{
	uint64_t copies = 0, splits = changes, need = changes, roots, total = 0;
	unsigned depth = 0;

	for (unsigned l = 0; l < BT_DEPTH_MAX && env->level_pages[l] > 0; l++) {
		copies += MIN(changes, env->level_pages[l]);
		total += env->level_pages[l];
		depth = l + 1;
	}
	for (unsigned l = 1; l < BT_DEPTH_MAX && splits > 0; l++) {
		if (l < depth)
			splits = MIN(splits, 2 * env->level_pages[l] + splits / 2 + 1);
		else
			splits /= 3;
		need += splits;
	}
	roots = MIN(changes, total + changes / 4 + 1);
	return copies + need + roots;
}

static uint64_t limit_now(const struct bt_env *env, bool over_limit)
{
	if (env->limit_bytes == 0)
		return UINT64_MAX;
	return env->limit_bytes + (over_limit ? MAX(env->limit_bytes / 64, BT_GRACE_MIN_BYTES) : 0);
}

/* Adds a slab that brings the free pages nearer to @need. */
static int slab_grow(struct bt_env *env, uint64_t need, uint64_t limit)
{
	uint64_t missing = need - env->free_count;
	uint64_t left = limit > env->bytes ? limit - env->bytes : 0;
	unsigned pages_max = slab_pages(SLAB_MAX_BYTES), want;

	missing = MIN(missing, pages_max);
	want = slab_pages(MAX(SLAB_MIN_BYTES, MIN(env->bytes, SLAB_MAX_BYTES)));
	want = MAX(want, missing);
	if (slab_bytes(want) > left)
		want = slab_pages(left); /* at the limit: what it still allows */
	return want < missing ? -ENOSPC : slab_new(env, want);
}

/* Gives slabs back that hold nothing and that nobody is about to need. */
static void slabs_trim(struct bt_env *env)
{
	for (unsigned i = 0; i < TRIM_MAX && !list_empty(&env->slabs); i++) {
		struct slab *s = list_entry(env->slabs.prev, struct slab, link);

		if (s->free < s->pages ||
		    env->free_count < env->reserved + KEEP_FREE_PAGES + s->pages)
			break;
		slab_free(env, s);
	}
}

uint64_t bt_env_used(const struct bt_env *env)
{
	return env->bytes - env->free_count * BT_PAGE_BYTES;
}

static int reserve(struct bt_env *env, unsigned changes, uint64_t limit)
{
	uint64_t need = pages_needed(env, changes);
	uint64_t used = bt_env_used(env);
	int r;

	/* There may be free pages beyond the limit: bt_reserve_beyond() brought them. */
	if (limit < used || limit - used < need * BT_PAGE_BYTES)
		return -ENOSPC;
	while (env->free_count < need) {
		r = slab_grow(env, need, limit);
		if (r < 0)
			return r;
	}
	env->reserved = need;
	slabs_trim(env);
	return 0;
}

int bt_reserve(struct bt_env *env, unsigned changes, bool over_limit)
{
	if (env->level_pages[BT_DEPTH_MAX - 1] > 0 && !over_limit)
		return -ENOSPC; /* as high as a tree may be */
	return reserve(env, changes, limit_now(env, over_limit));
}

int bt_reserve_beyond(struct bt_env *env, unsigned changes)
{
	return reserve(env, changes, UINT64_MAX);
}

/* --- nodes --- */

static struct bt_node *node_take(struct bt_env *env, unsigned level)
{
	struct slab *s = list_first(&env->slabs, struct slab, link);
	struct bt_node *node = &s->node[s->first_free - 1];

	pst_assert(level < BT_DEPTH_MAX);
	s->first_free = node->addr;
	if (--s->free == 0) {
		list_del(&s->link);
		list_push(&env->full, &s->link);
	} else if (s->free + 1 == s->pages) {
		list_del(&s->link);
		list_push_front(&env->slabs, &s->link);
	}
	env->free_count--;
	env->pages++;
	env->level_pages[level]++;
	node->refs = 1;
	node->level = level;
	node->addr = 0;
	return node;
}

struct bt_node *bt_node_new(struct bt_env *env, unsigned level)
{
	if (unlikely(env->free_count == 0)) {
		/* A change that nobody reserved for. Go on while memory lasts, but let it show. */
		if (env->overdrafts++ == 0)
			log_error("index: a change was made without a reservation for it");
		pst_assert(slab_new(env, slab_pages(SLAB_MIN_BYTES)) == 0);
	}
	if (env->reserved > 0)
		env->reserved--;
	return node_take(env, level);
}

struct bt_node *bt_node_try_new(struct bt_env *env, unsigned level)
{
	if (env->free_count <= env->reserved && slab_grow(env, env->reserved + 1, UINT64_MAX) < 0)
		return NULL;
	return node_take(env, level);
}

void bt_node_free(struct bt_env *env, struct bt_node *node)
{
	struct slab *s = node_slab(node);

	env->level_pages[node->level]--;
	env->pages--;
	env->free_count++;
	node->refs = 0;
	node->addr = s->first_free;
	s->first_free = node_index(node) + 1;
	s->free++;
	if (s->free == s->pages) { /* also when it has a single page and was full */
		list_del(&s->link);
		list_push(&env->slabs, &s->link);
	} else if (s->free == 1) {
		list_del(&s->link);
		list_push_front(&env->slabs, &s->link);
	}
}

void bt_node_dirty(struct bt_env *env, struct bt_node *node)
{
	uint64_t addr = node->addr;

	node->addr = 0;
	if (addr != 0 && env->release)
		env->release(env, addr);
}

/* Recurses once a level. */
void bt_node_unref(struct bt_env *env, struct bt_node *node)
{
	pst_assert(node->refs > 0);
	if (--node->refs > 0)
		return;
	if (node->level > 0) {
		for (unsigned i = 0; i < pg_count(node->page); i++)
			bt_node_unref(env, pg_child(node->page, i));
	}
	bt_node_dirty(env, node);
	bt_node_free(env, node);
}
