/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch - who waits for changes. Every change that ends well gets the next number. What it touched (its
 * container, and the objects that it names) is hashed to places that keep the number of their last
 * change; a watch ends when its place has a greater number than the one that its client saw last.
 *
 * So nothing is kept per object, a change can't be missed, and one that is not there may be reported:
 * two objects may share a place, and after a restart of the server (the upper bits of numbers are the
 * store's epoch) nobody knows what was changed, so that everything counts as changed.
 *
 * An armed watch has no part in what runs: it holds no share, depth or payload, and has a limit of its
 * own. It ends from the table's poller, never from inside of the change.
 */
#include "session/session_int.h"

#define EPOCH_SHIFT 40

static struct session_req *req_of(struct list *link)
{
	return list_entry(link, struct session_req, item.link);
}

static struct watch_place *place(struct watches *w, uint32_t cont, struct pst_oid oid)
{
	return &w->place[hash_u64(hash_u64(oid.hi ^ cont) ^ oid.lo) % WATCH_PLACES];
}

/* A file's object changes with its file, which most ops name by a path: its container stands for it. */
static struct watch_place *place_of(struct watches *w, const struct pst_op *op)
{
	struct pst_oid whole = {0};

	return place(w, op->cont, !op->cont || op->oid.hi == FS_OID_HI ? whole : op->oid);
}

/* --- ends --- */

static void fire(struct session_table *t, struct session_req *r, int status)
{
	struct watches *w = &t->watches;

	r->op.status = status;
	r->op.ret_off = place_of(w, &r->op)->last;
	list_del(&r->item.link);
	list_push(&w->fired, &r->item.link);
	table_wake(t);
}

int watch_poll(struct session_table *t)
{
	struct list *n;
	int did = 0;

	while ((n = list_pop(&t->watches.fired)) != NULL) {
		struct session_req *r = req_of(n);

		t->watches.count--;
		r->session->watches--;
		r->op.done(&r->op);
		did++;
	}
	return did;
}

void watch_stop(struct session_req *r)
{
	fire(r->session->table, r, -ECANCELED);
}

static void deadlines(struct session_table *t)
{
	uint64_t now = loop_now(t->loop), next = UINT64_MAX;
	struct session_req *r, *tmp;

	for (unsigned i = 0; i < WATCH_PLACES; i++)
		list_for_each_safe (r, tmp, &t->watches.place[i].armed, item.link) {
			if (!r->op.deadline_ns)
				continue;
			if (r->op.deadline_ns <= now)
				fire(t, r, -ETIMEDOUT);
			else
				next = MIN(next, r->op.deadline_ns);
		}
	t->watches.next_ns = next;
	if (next != UINT64_MAX)
		(void)loop_timer_arm(t->loop, &t->watches.timer, next);
}

static void timer_fired(struct loop_timer *timer)
{
	deadlines(container_of(timer, struct session_table, watches.timer));
}

/* --- beginnings --- */

void watch_arm(struct session_req *r)
{
	struct session *s = r->session;
	struct session_table *t = s->table;
	struct watches *w = &t->watches;
	struct watch_place *p = place_of(w, &r->op);
	uint64_t seen = r->op.off;

	r->watching = true;
	run_leave(s, r);
	w->count++;
	s->watches++;
	list_push(&p->armed, &r->item.link);
	if (s->watches > WATCH_SESSION_MAX) {
		fire(t, r, -EMFILE);
	} else if (seen >> EPOCH_SHIFT != t->epoch || seen > w->last || p->last > seen) {
		fire(t, r, 0);
	} else if (r->op.deadline_ns && r->op.deadline_ns < w->next_ns) {
		w->next_ns = r->op.deadline_ns;
		(void)loop_timer_arm(t->loop, &w->timer, w->next_ns);
	}
}

/* --- changes --- */

static void touch(struct session_table *t, struct watch_place *p)
{
	struct session_req *r, *tmp;

	p->last = t->watches.last;
	if (likely(list_empty(&p->armed)))
		return;
	list_for_each_safe (r, tmp, &p->armed, item.link)
		fire(t, r, 0);
}

void watch_changed(struct session_table *t, const struct pst_op *op)
{
	const struct pst_oid none = {0};
	struct watches *w = &t->watches;

	if (op->opcode == PST_OP_FILE_OPEN || op->opcode == PST_OP_FILE_CLOSE)
		return; /* nothing that a reader would see */
	w->last++;
	if (op->opcode <= PST_OP_SNAP_DESTROY) {
		/* Rare; of a container that may have been named, and whose objects may be gone. */
		for (unsigned i = 0; i < WATCH_PLACES; i++)
			touch(t, &w->place[i]);
		return;
	}
	touch(t, place(w, 0, none));
	touch(t, place(w, op->cont, none));
	if (op->opcode == PST_OP_WRITE)
		touch(t, place(w, op->cont, op->oid));
	else if (op->opcode == PST_OP_BATCH)
		for (uint32_t i = 0; i < op->mut_count; i++)
			touch(t, place(w, op->cont, op->muts[i].oid));
}

/* --- the whole --- */

int watch_init(struct session_table *t)
{
	struct watches *w = &t->watches;

	list_init(&w->fired);
	w->timer.fired = timer_fired;
	w->next_ns = UINT64_MAX;
	w->place = mem_calloc(WATCH_PLACES, sizeof(*w->place));
	if (!w->place)
		return -ENOMEM;
	for (unsigned i = 0; i < WATCH_PLACES; i++)
		list_init(&w->place[i].armed);
	return 0;
}

void watch_done(struct session_table *t)
{
	pst_assert(!t->watches.count);
	loop_timer_disarm(t->loop, &t->watches.timer);
	mem_free(t->watches.place);
}

void watch_begin(struct session_table *t)
{
	struct watches *w = &t->watches;

	w->last = t->epoch << EPOCH_SHIFT | 1;
	for (unsigned i = 0; i < WATCH_PLACES; i++)
		w->place[i].last = w->last;
}
