/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * timer - the loop's timers: a binary heap of pointers, ordered by (deadline, order of arming),
 * each timer knowing its place so that it can leave from the middle.
 *
 * Invariants:
 *  T1  heap[t->heap_index] == t for each armed timer; heap_index is 0 for all others.
 *  T2  No armed deadline lies before the clock at its arming. So a timer that re-arms itself for
 * the past sorts after all that were due before it, and timers_run(), which stops at the first
 *      timer armed after it began, starves nobody.
 */
#include "loop/loop_int.h"

static bool before(const struct loop_timer *a, const struct loop_timer *b)
{
	if (a->deadline_ns != b->deadline_ns)
		return a->deadline_ns < b->deadline_ns;
	return a->order < b->order;
}

static void place(struct loop *loop, struct loop_timer *t, unsigned i)
{
	loop->heap[i] = t;
	t->heap_index = i;
}

static void sift_up(struct loop *loop, struct loop_timer *t, unsigned i)
{
	for (; i > 1 && before(t, loop->heap[i / 2]); i /= 2)
		place(loop, loop->heap[i / 2], i);
	place(loop, t, i);
}

static void sift_down(struct loop *loop, struct loop_timer *t, unsigned i)
{
	for (;;) {
		unsigned child = 2 * i;

		if (child > loop->heap_count)
			break;
		if (child < loop->heap_count && before(loop->heap[child + 1], loop->heap[child]))
			child++;
		if (!before(loop->heap[child], t))
			break;
		place(loop, loop->heap[child], i);
		i = child;
	}
	place(loop, t, i);
}

/* Puts @t at hole @i, whichever way it must move from there. */
static void sift(struct loop *loop, struct loop_timer *t, unsigned i)
{
	if (i > 1 && before(t, loop->heap[i / 2]))
		sift_up(loop, t, i);
	else
		sift_down(loop, t, i);
}

static int grow(struct loop *loop)
{
	unsigned room = loop->heap_room ? 2 * loop->heap_room : 64;
	struct loop_timer **heap = mem_realloc(loop->heap, room * sizeof(*heap));

	if (!heap)
		return -ENOMEM;
	loop->heap = heap;
	loop->heap_room = room;
	return 0;
}

int loop_timer_arm(struct loop *loop, struct loop_timer *t, uint64_t deadline_ns)
{
	loop_assert(loop);
	if (!t->heap_index && loop->heap_count + 2 > loop->heap_room && grow(loop))
		return -ENOMEM;
	t->deadline_ns = MAX(deadline_ns, loop->now_ns);
	t->order = ++loop->timer_order;
	if (t->heap_index)
		sift(loop, t, t->heap_index);
	else
		sift_up(loop, t, ++loop->heap_count);
	return 0;
}

void loop_timer_disarm(struct loop *loop, struct loop_timer *t)
{
	unsigned i = t->heap_index;
	struct loop_timer *last;

	loop_assert(loop);
	if (!i)
		return;
	pst_assert(i <= loop->heap_count && loop->heap[i] == t);
	last = loop->heap[loop->heap_count--];
	if (last != t)
		sift(loop, last, i);
	t->heap_index = 0;
}

uint64_t timers_next(const struct loop *loop)
{
	return loop->heap_count ? loop->heap[1]->deadline_ns : UINT64_MAX;
}

int timers_run(struct loop *loop)
{
	const uint64_t order_end = loop->timer_order;
	int count = 0;

	while (loop->heap_count) {
		struct loop_timer *t = loop->heap[1];

		if (t->deadline_ns > loop->now_ns || t->order > order_end)
			break;
		loop_timer_disarm(loop, t);
		t->fired(t);
		count++;
	}
	return count;
}
