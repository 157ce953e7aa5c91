/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sched - see sched.h. A flow is *busy* when it has something queued below it and no rate holds it;
 * exactly the busy flows are in their parent's heap, and a flow whose heap is not empty is busy
 * itself, unless it is held. A heap has room for every child, so pushing never fails.
 */
#include "session/sched.h"

#define TAG_SCALE 256u /* of virtual time per unit of cost: weights divide it finely */

/* --- rates --- */

void bucket_set(struct bucket *b, uint64_t bytes_per_s, uint64_t ops_per_s)
{
	b->bytes_per_s = bytes_per_s;
	b->ops_per_s = ops_per_s;
	b->bytes_ns = b->ops_ns = 0;
}

/* What @n units at @rate a second take. */
static uint64_t time_of(uint64_t n, uint64_t rate)
{
	return (uint64_t)((unsigned __int128)n * NSEC_PER_SEC / rate);
}

void bucket_charge(struct bucket *b, uint64_t now_ns, uint64_t bytes)
{
	if (b->bytes_per_s)
		b->bytes_ns = MAX(b->bytes_ns, now_ns) + time_of(bytes, b->bytes_per_s);
	if (b->ops_per_s)
		b->ops_ns = MAX(b->ops_ns, now_ns) + time_of(1, b->ops_per_s);
}

/* --- heaps --- */

static bool before(const struct sched_flow *a, const struct sched_flow *b)
{
	/* Tags wrap; those that are compared are never far apart. */
	int64_t d = (int64_t)(a->tag - b->tag);

	return d < 0 || (d == 0 && a->order < b->order);
}

static void heap_put(struct sched_flow *p, uint32_t i, struct sched_flow *f)
{
	p->heap[i] = f;
	f->at = i + 1;
}

static void heap_up(struct sched_flow *p, uint32_t i)
{
	struct sched_flow *f = p->heap[i];

	while (i > 0 && before(f, p->heap[(i - 1) / 2])) {
		heap_put(p, i, p->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_put(p, i, f);
}

static void heap_down(struct sched_flow *p, uint32_t i)
{
	struct sched_flow *f = p->heap[i];

	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= p->heap_len)
			break;
		if (child + 1 < p->heap_len && before(p->heap[child + 1], p->heap[child]))
			child++;
		if (!before(p->heap[child], f))
			break;
		heap_put(p, i, p->heap[child]);
		i = child;
	}
	heap_put(p, i, f);
}

static void heap_insert(struct sched_flow *f)
{
	struct sched_flow *p = f->parent;

	pst_assert(p->heap_len < p->heap_cap && !f->at);
	if ((int64_t)(p->clock - f->tag) > 0) {
		f->tag = p->clock;
		f->rest = 0;
	}
	f->order = p->orders++;
	heap_put(p, p->heap_len, f);
	heap_up(p, p->heap_len++);
}

static void heap_remove(struct sched_flow *f)
{
	struct sched_flow *p = f->parent, *last;
	uint32_t i = f->at - 1;

	f->at = 0;
	last = p->heap[--p->heap_len];
	if (last == f)
		return;
	heap_put(p, i, last);
	heap_up(p, i);
	heap_down(p, last->at - 1);
}

/* --- busy, held, idle --- */

static bool has_work(const struct sched_flow *f)
{
	return f->heap_len || !list_empty(&f->queue);
}

static void make_busy(struct sched_flow *f)
{
	for (; f->parent && !f->at && !f->held_until; f = f->parent)
		heap_insert(f);
}

static void make_idle(struct sched_flow *f)
{
	for (; f->parent && !has_work(f); f = f->parent) {
		if (!f->at)
			return;
		heap_remove(f);
	}
}

/* Out of its parent's heap, although it has work. */
static void hold(struct sched *s, struct sched_flow *f, uint64_t until)
{
	f->held_until = until;
	list_push(&s->held, &f->held);
	if (!f->at)
		return;
	heap_remove(f);
	make_idle(f->parent);
}

static void unhold(struct sched_flow *f)
{
	f->held_until = 0;
	list_del(&f->held);
	if (has_work(f))
		make_busy(f);
}

/* --- flows --- */

static void flow_init(struct sched_flow *f, struct sched_flow *parent, uint32_t weight)
{
	memset(f, 0, sizeof(*f));
	f->parent = parent;
	f->weight = weight ? weight : 1;
	list_init(&f->queue);
	list_init(&f->held);
}

void sched_init(struct sched *s)
{
	flow_init(&s->root, NULL, 1);
	list_init(&s->held);
	s->queued = 0;
}

void sched_done(struct sched *s)
{
	pst_assert(!s->root.children && !s->queued);
	mem_free(s->root.heap);
	s->root.heap = NULL;
}

int sched_flow_init(struct sched_flow *f, struct sched_flow *parent, uint32_t weight)
{
	if (parent->children == parent->heap_cap) {
		uint32_t cap = parent->heap_cap ? 2 * parent->heap_cap : 8;
		struct sched_flow **heap =
		        mem_realloc(parent->heap, cap * sizeof(struct sched_flow *));

		if (!heap)
			return -ENOMEM;
		parent->heap = heap;
		parent->heap_cap = cap;
	}
	flow_init(f, parent, weight);
	f->tag = parent->clock;
	parent->children++;
	return 0;
}

void sched_flow_done(struct sched *s, struct sched_flow *f)
{
	if (!f->parent)
		return; /* never begun */
	pst_assert(!f->children && list_empty(&f->queue) && !f->at);
	list_del(&f->held);
	f->parent->children--;
	f->parent = NULL;
	mem_free(f->heap);
	f->heap = NULL;
	(void)s;
}

void sched_flow_weight(struct sched_flow *f, uint32_t weight)
{
	f->weight = weight ? weight : 1;
	f->rest = 0;
}

/* --- items --- */

void sched_push(struct sched *s, struct sched_flow *f, struct sched_item *it)
{
	pst_assert_slow(!f->children);
	list_push(&f->queue, &it->link);
	s->queued++;
	make_busy(f);
}

void sched_remove(struct sched *s, struct sched_flow *f, struct sched_item *it)
{
	list_del(&it->link);
	s->queued--;
	make_idle(f);
}

/* The tag moves by cost / weight; what the division leaves is carried on. */
static void advance(struct sched_flow *f, uint64_t cost)
{
	uint64_t n = cost * TAG_SCALE + f->rest;

	f->parent->clock = f->tag;
	f->tag += n / f->weight;
	f->rest = n % f->weight;
	if (has_work(f))
		heap_down(f->parent, f->at - 1);
	else
		heap_remove(f);
}

static void serve(struct sched *s, struct sched_flow *leaf, struct sched_item *it, uint64_t now_ns)
{
	list_del(&it->link);
	s->queued--;
	if (it->bucket)
		bucket_charge(it->bucket, now_ns, it->bytes);
	for (struct sched_flow *f = leaf; f->parent; f = f->parent) {
		bucket_charge(&f->bucket, now_ns, it->bytes);
		advance(f, it->cost);
	}
}

static uint64_t release_held(struct sched *s, uint64_t now_ns)
{
	struct sched_flow *f, *tmp;
	uint64_t when = UINT64_MAX;

	list_for_each_safe (f, tmp, &s->held, held) {
		if (f->held_until <= now_ns)
			unhold(f);
		else
			when = MIN(when, f->held_until);
	}
	return when;
}

/* Which flow on the way to the next item has to wait, and until when; NULL: none. */
static struct sched_flow *held_by(struct sched *s, uint64_t now_ns, struct sched_flow **ret_leaf,
                                  uint64_t *ret_until)
{
	struct sched_flow *f = &s->root;
	struct sched_item *it;

	while (f->heap_len) {
		f = f->heap[0];
		*ret_until = bucket_ready(&f->bucket);
		if (*ret_until > now_ns)
			return f;
	}
	it = list_first(&f->queue, struct sched_item, link);
	*ret_until = it->bucket ? bucket_ready(it->bucket) : 0;
	*ret_leaf = f;
	return *ret_until > now_ns ? f : NULL;
}

struct sched_item *sched_pop(struct sched *s, uint64_t now_ns, uint64_t *ret_when)
{
	uint64_t when = release_held(s, now_ns), until;
	struct sched_flow *leaf = NULL, *f;
	struct sched_item *it;

	while (s->root.heap_len) {
		f = held_by(s, now_ns, &leaf, &until);
		if (f) {
			hold(s, f, until);
			when = MIN(when, until);
			continue;
		}
		it = list_first(&leaf->queue, struct sched_item, link);
		serve(s, leaf, it, now_ns);
		return it;
	}
	*ret_when = when;
	return NULL;
}

bool sched_pass(struct sched *s, struct sched_flow *f, struct sched_item *it, uint64_t now_ns)
{
	if (unlikely(s->queued))
		return false;
	if (unlikely(it->bucket && bucket_ready(it->bucket) > now_ns))
		return false;
	for (struct sched_flow *p = f; p->parent; p = p->parent)
		if (unlikely(bucket_limits(&p->bucket) && bucket_ready(&p->bucket) > now_ns))
			return false;
	for (struct sched_flow *p = f; p->parent; p = p->parent)
		if (unlikely(bucket_limits(&p->bucket)))
			bucket_charge(&p->bucket, now_ns, it->bytes);
	if (unlikely(it->bucket))
		bucket_charge(it->bucket, now_ns, it->bytes);
	return true;
}
