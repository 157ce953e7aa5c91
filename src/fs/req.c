/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * req - how requests run, wait, start again and end. fs_int.h says what a request is.
 *
 *                     fs_req_get
 *   free ----------------------------------> running <-----------------------.
 *    ^                                        |  |  |                        |
 *    |   FS_END (finish)                      |  |  | FS_SUB, queued     sub_done
 *    '----------------------------------------'  |  '-------> sub-op below --'
 *                                                |                           |
 *                            FS_WAIT, sub busy   '---> in a queue -----------'
 *                                                      fs_wake_*, then fs_drain
 *
 * An op's done() is called from a completion of the store below or from the poller, never from
 * inside a submit: those who are woken there wait in fs->ready for one of the two.
 */
#include "fs_int.h"

enum fs_act fs_end(struct fs_req *r, int status)
{
	pst_assert(status != -FS_CHANGED);
	r->status = status;
	return FS_END;
}

enum fs_act fs_goto(struct fs_req *r, fs_step *next)
{
	r->next = next;
	return FS_NEXT;
}

/* --- queues --- */

enum fs_act fs_wait_in(struct fs_req *r, struct list *queue, fs_step *next)
{
	r->next = next;
	list_push(queue, &r->wait);
	return FS_WAIT;
}

void fs_wake_all(struct fs *fs, struct list *queue)
{
	list_splice(&fs->ready, queue);
}

void fs_wake_one(struct fs *fs, struct list *queue)
{
	struct list *n = list_pop(queue);

	if (n)
		list_push(&fs->ready, n);
}

/* --- starting again --- */

/*
 * Fairness. Everybody's first attempt runs at once. Who lost a race queues up for the container's
 * turn, so that losers don't race each other: only newcomers can make the one whose turn it is lose
 * again. When they have done so GATE_AFTER times it closes the gate, and newcomers queue up behind
 * it: those already under way end, and then nobody is left to lose to.
 */
#define GATE_AFTER 8

static void turn_give_up(struct fs_req *r)
{
	struct fs_cont *c = r->cont;

	if (!c || c->turn != r)
		return;
	c->gate = false;
	c->turn = NULL;
	if (!list_empty(&c->turn_waiters)) {
		c->turn = list_first(&c->turn_waiters, struct fs_req, wait);
		fs_wake_one(r->fs, &c->turn_waiters);
	}
}

static void mover_give_up(struct fs_req *r)
{
	struct fs_cont *c = r->cont;

	if (!c || c->mover != r)
		return;
	c->mover = NULL;
	if (!list_empty(&c->move_waiters)) {
		c->mover = list_first(&c->move_waiters, struct fs_req, wait);
		fs_wake_one(r->fs, &c->move_waiters);
	}
}

void fs_release(struct fs_req *r)
{
	fs_unclaim(r);
	mover_give_up(r);
}

enum fs_act fs_again(struct fs_req *r)
{
	struct fs_cont *c = r->cont;

	fs_release(r);
	if (++r->attempts >= r->fs->opts.attempts_max)
		return fs_end(r, -EAGAIN);
	r->next = r->start;
	r->now_ns = loop_real_now(r->fs->store.loop);
	if (c->turn == r) {
		c->gate = c->gate || r->attempts >= GATE_AFTER;
		return FS_NEXT;
	}
	if (!c->turn) {
		c->turn = r;
		return FS_NEXT;
	}
	return fs_wait_in(r, &c->turn_waiters, r->start);
}

enum fs_act fs_gone(struct fs_req *r)
{
	if (!r->by_path)
		return fs_end(r, -ESTALE);
	/* Nobody removes anything from a snapshot: an entry that leads nowhere is damage. */
	return r->op->view ? fs_end(r, -EBADMSG) : fs_again(r);
}

/* --- running --- */

static void finish(struct fs_req *r)
{
	struct fs *fs = r->fs;

	fs_release(r);
	turn_give_up(r);
	if (r->cont)
		fs_cont_leave(r);
	if (r->status)
		r->op->ret_len = 0;
	r->op->status = r->status;
	list_del(&r->link);
	list_push_front(&fs->free, &r->link);
}

/* True when the sub-op has ended. */
static bool sub_submit(struct fs_req *r)
{
	struct fs *fs = r->fs;

	if (r->cancelled && !r->committed) {
		r->sub.status = -ECANCELED;
		return true;
	}
	switch (store_submit(fs->below, &r->sub)) {
	case PST_DONE:
		return true;
	case PST_QUEUED:
		r->sub_inflight = true;
		return false;
	case PST_BUSY:
		break;
	}
	r->sub_retry = true;
	list_push(&fs->busy, &r->wait);
	return false;
}

bool fs_run(struct fs_req *r)
{
	for (;;) {
		switch (r->next(r)) {
		case FS_NEXT:
			break;
		case FS_SUB:
			if (!sub_submit(r))
				return false;
			break;
		case FS_WAIT:
			return false;
		case FS_END:
			finish(r);
			return true;
		}
	}
}

static void run_and_tell(struct fs_req *r)
{
	struct pst_op *op = r->op;

	if (fs_run(r))
		op->done(op);
}

static void sub_done(struct pst_op *sub)
{
	struct fs_req *r = container_of(sub, struct fs_req, sub);
	struct fs *fs = r->fs;

	pst_assert(r->sub_inflight);
	r->sub_inflight = false;
	run_and_tell(r);
	fs_drain(fs);
}

/* Submits again what the store below was too busy for; false when it still is. */
static bool retry_busy(struct fs *fs)
{
	struct fs_req *r = list_entry(list_pop(&fs->busy), struct fs_req, wait);

	r->sub_retry = false;
	if (sub_submit(r)) {
		run_and_tell(r);
		return true;
	}
	if (!r->sub_retry)
		return true;
	list_del(&r->wait);
	list_push_front(&fs->busy, &r->wait); /* it keeps its place */
	return false;
}

int fs_drain(struct fs *fs)
{
	int n = 0;

	if (fs->draining)
		return 0;
	fs->draining = true;
	for (;;) {
		struct list *l = list_pop(&fs->ready);

		if (l)
			run_and_tell(list_entry(l, struct fs_req, wait));
		else if (list_empty(&fs->busy) || !retry_busy(fs))
			break;
		n++;
	}
	fs->draining = false;
	return n;
}

/* --- the pool --- */

void fs_req_init(struct fs *fs, struct fs_req *r)
{
	r->fs = fs;
	list_init(&r->wait);
	list_init(&r->mark.waiters);
	list_push(&fs->free, &r->link);
}

struct fs_req *fs_req_get(struct fs *fs, struct pst_op *op, fs_step *start, bool mutates)
{
	struct list *l = list_pop(&fs->free);
	struct fs_req *r;

	if (!l)
		return NULL;
	r = list_entry(l, struct fs_req, link);
	list_push(&fs->active, &r->link);
	r->op = op;
	r->cont = NULL;
	r->start = start;
	r->status = 0;
	r->mutates = mutates;
	r->sub_retry = r->cancelled = r->committed = r->by_path = false;
	r->attempts = r->tries = 0;
	r->ino_in = op->ino;
	r->ino_new = 0;
	r->pinned = r->relinked = NULL;
	r->marked = false;
	r->holding = false;
	r->now_ns = loop_real_now(fs->store.loop);
	r->sub.done = sub_done;
	return r;
}

static enum fs_act step_cancelled(struct fs_req *r)
{
	return fs_end(r, -ECANCELED);
}

/*
 * Each queue is one that its owner's end wakes, so a request may leave it at any time, but for one
 * that has been made the owner of what it waits for and only has to be run.
 */
static void cancel_waiting(struct fs_req *r)
{
	struct fs *fs = r->fs;

	if (list_empty(&r->wait))
		return;
	list_del(&r->wait);
	if (r->sub_retry) {
		/* The step after the sub-op sees -ECANCELED and cleans up. */
		list_push_front(&fs->busy, &r->wait);
		return;
	}
	r->next = step_cancelled;
	list_push(&fs->ready, &r->wait);
}

void fs_cancel(struct store *s, struct pst_op *op)
{
	struct fs *fs = fs_of(s);
	struct fs_req *r;

	list_for_each (r, &fs->active, link) {
		if (r->op != op)
			continue;
		/* Who holds a count has to run its steps to give it back. */
		if (r->committed || r->holding)
			return;
		r->cancelled = true;
		if (r->sub_inflight)
			store_cancel(fs->below, &r->sub);
		else
			cancel_waiting(r);
		return;
	}
	store_cancel(fs->below, op);
}
