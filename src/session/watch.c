/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch - who waits for changes. What a change that ends well touched (its container, and the objects that
 * it names) is hashed to places, which count what touches them; a watch ends when its place's number is
 * not the one that its client saw last.
 *
 * So nothing is kept per object, a change can't be missed, and one that is not there may be reported:
 * two objects may share a place, and after a restart of the server (the upper bits of numbers are the
 * store's epoch) nobody knows what was changed, so that everything counts as changed. A number says
 * how much was changed in its own place, and nothing of others': how busy another tenant's container is
 * is not for everybody. The place is in it, so that a number of another one is no good here.
 *
 * An armed watch has no part in what runs: it holds no share, depth or payload, and has a limit of its
 * own. It ends from the table's poller, never from inside of the change.
 *
 *   asking   does the container exist?   ask()      r->asking; stopped: when the answer comes
 *   armed    in its place's list         enter()
 *   fired    in w->fired                 fire()     ended by watch_poll()
 */
#include "session/session_int.h"

/* A number: epoch (18 bits), place (10), changes (36). */
#define EPOCH_SHIFT 46
#define PLACE_SHIFT 36
_Static_assert(WATCH_PLACES == 1u << (EPOCH_SHIFT - PLACE_SHIFT), "a place fits in a number");

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
	if (r->asking)
		r->op.status = -ECANCELED;
	else
		fire(r->session->table, r, -ECANCELED);
}

/* When it is over by itself: at its deadline, or with its capability. */
static uint64_t due_ns(const struct session_table *t, const struct session_req *r)
{
	uint64_t at = r->op.deadline_ns ? r->op.deadline_ns : UINT64_MAX;
	uint64_t end = r->cap->info.expiry_ns, real = loop_real_now(t->loop);

	return end ? MIN(at, loop_now(t->loop) + (end > real ? end - real : 0)) : at;
}

static void timer_set(struct session_table *t, uint64_t at)
{
	t->watches.next_ns = at;
	if (at != UINT64_MAX)
		(void)loop_timer_arm(t->loop, &t->watches.timer, at);
}

static void deadlines(struct session_table *t)
{
	uint64_t now = loop_now(t->loop), real = loop_real_now(t->loop), next = UINT64_MAX;
	struct session_req *r, *tmp;

	for (unsigned i = 0; i < WATCH_PLACES; i++)
		list_for_each_safe (r, tmp, &t->watches.place[i].armed, item.link) {
			int status = cap_good(r->cap, real);

			if (r->op.deadline_ns && r->op.deadline_ns <= now)
				status = -ETIMEDOUT;
			if (status)
				fire(t, r, status);
			else
				next = MIN(next, due_ns(t, r));
		}
	timer_set(t, next);
}

void watch_recheck(struct session_table *t)
{
	timer_set(t, loop_now(t->loop));
}

static void timer_fired(struct loop_timer *timer)
{
	deadlines(container_of(timer, struct session_table, watches.timer));
}

/* --- beginnings --- */

/* The planted bug: what came before the watch is not told, if it came in this life of the server. */
static bool forgets(const struct session_table *t, uint64_t seen, uint64_t last)
{
	return SESSION_PLANTED(t, SESSION_PLANT_WATCH_LATE) &&
	       seen >> PLACE_SHIFT == last >> PLACE_SHIFT;
}

static void enter(struct session_table *t, struct session_req *r)
{
	struct watch_place *p = place_of(&t->watches, &r->op);
	uint64_t due = due_ns(t, r);

	list_push(&p->armed, &r->item.link);
	if (r->op.off != p->last && !forgets(t, r->op.off, p->last))
		fire(t, r, 0);
	else if (due < t->watches.next_ns)
		timer_set(t, due);
}

static void answered(struct sys_op *o, int status)
{
	struct session_req *r = o->arg;

	r->asking = false;
	if (r->op.status) /* stopped meanwhile */
		status = r->op.status;
	if (status)
		fire(o->t, r, status);
	else
		enter(o->t, r);
}

static void ask(struct session_table *t, struct session_req *r)
{
	struct sys_op *o = sys_new(t, PST_OP_CONT_GET, answered, r);

	if (!o) {
		fire(t, r, -ENOMEM);
		return;
	}
	o->op.cont = r->op.cont;
	r->asking = true;
	sys_go(o);
}

void watch_arm(struct session_req *r)
{
	struct session *s = r->session;
	struct session_table *t = s->table;

	r->watching = true;
	r->op.status = 0;
	list_init(&r->item.link);
	run_leave(s, r);
	t->watches.count++;
	s->watches++;
	if (s->watches > WATCH_SESSION_MAX)
		fire(t, r, -EMFILE);
	else if (r->op.cont)
		ask(t, r);
	else
		enter(t, r);
}

/* --- changes --- */

static uint64_t next_number(uint64_t n)
{
	const uint64_t changes = (1ull << PLACE_SHIFT) - 1;

	return (n & ~changes) | ((n + 1) & changes);
}

static void touch(struct session_table *t, struct watch_place *p)
{
	struct session_req *r, *tmp;

	p->last = next_number(p->last);
	if (likely(list_empty(&p->armed)))
		return;
	list_for_each_safe (r, tmp, &p->armed, item.link)
		fire(t, r, 0);
}

/* Rare: of a container that was named, so that nobody here knows which it is, or whose objects are gone. */
static bool whole(const struct pst_op *op)
{
	return op->opcode == PST_OP_CONT_DESTROY ||
	       (op->opcode <= PST_OP_SNAP_DESTROY && op->opcode != PST_OP_CONT_CREATE &&
	        (op->name_len || !op->cont));
}

void watch_changed(struct session_table *t, const struct pst_op *op)
{
	const struct pst_oid none = {0};
	struct watches *w = &t->watches;

	if (op->opcode == PST_OP_FILE_OPEN || op->opcode == PST_OP_FILE_CLOSE)
		return; /* nothing that a reader would see */
	if (whole(op)) {
		for (unsigned i = 0; i < WATCH_PLACES; i++)
			touch(t, &w->place[i]);
		return;
	}
	touch(t, place(w, 0, none));
	if (op->opcode == PST_OP_CONT_CREATE)
		return; /* nobody waited for it */
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

	for (uint64_t i = 0; i < WATCH_PLACES; i++)
		w->place[i].last = t->epoch << EPOCH_SHIFT | i << PLACE_SHIFT | 1;
}
