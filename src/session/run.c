/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run - admitted requests: when they start, how they get to the store, and how they are stopped.
 *
 *   NONE -> RUNNING             at once: nobody waits and there is room            run_enter()
 *   NONE -> QUEUED -> RUNNING   in the order that the scheduler says               run_poll()
 *   NONE -> PARKED -> QUEUED    when the first one of that token has ended         run_unpark()
 *   QUEUED, PARKED -> NONE      the connection or session is gone, or the capability   drop()
 *   RUNNING -> NONE             session_end(), and nothing else
 */
#include "session/session_int.h"

#define COST_FIXED 4096 /* of any request, in bytes: what a share is counted in */

static struct session_req *req_of(struct list *link)
{
	return list_entry(link, struct session_req, item.link);
}

static void queue(struct session *s, struct session_req *r)
{
	r->state = REQ_QUEUED;
	sched_push(&s->table->sched, &s->flow, &r->item);
	table_wake(s->table);
}

/* A rate stands against it: its capability's, its session's, its tenant's. */
static bool throttled(const struct session *s, const struct session_req *r, uint64_t now)
{
	return (r->item.bucket && bucket_ready(r->item.bucket) > now) ||
	       bucket_ready(&s->flow.bucket) > now || bucket_ready(&s->tenant->flow.bucket) > now;
}

int run_enter_limited(struct session *s, struct session_req *r, bool parked)
{
	struct session_table *t = s->table;

	r->item.bytes = r->bytes;
	r->item.cost = r->bytes + COST_FIXED;
	r->item.bucket = bucket_limits(&r->cap->bucket) ? &r->cap->bucket : NULL;
	list_init(&r->item.link);
	if (!parked && run_room(t) &&
	    sched_pass(&t->sched, &s->flow, &r->item, loop_now(t->loop))) {
		run_start(s, r);
		return 0;
	}
	s->queued++;
	s->tenant->queued++;
	r->queued_ns = loop_now(t->loop);
	s->tenant->throttled += throttled(s, r, r->queued_ns);
	if (!parked)
		queue(s, r);
	return -EINPROGRESS;
}

static void unqueue(struct session_req *r)
{
	r->session->queued--;
	r->session->tenant->queued--;
}

void run_unpark(struct session_req *r)
{
	queue(r->session, r);
}

/* --- stopping --- */

/* It waits and won't run: its owner hears of it. */
static void drop(struct session_req *r, int status)
{
	struct session *s = r->session;

	if (!list_empty(&r->item.link))
		sched_remove(&s->table->sched, &s->flow, &r->item);
	unqueue(r);
	if (r->slotted)
		slot_forget(s, r);
	req_held(r, status);
	req_leave(r);
	r->go(r, status);
	if (unlikely(s->ending))
		session_maybe_gone(s);
}

void req_stop(struct session_req *r, int status)
{
	if (r->state == REQ_QUEUED || r->state == REQ_PARKED) {
		drop(r, status);
		return;
	}
	if (r->stopped)
		return;
	r->stopped = true;
	r->stop_status = status;
	if (r->stop)
		r->stop(r);
	else if (r->submitted)
		session_cancel(r);
}

/*
 * Many at once. What one request's end gives back may let others begin and end, from inside, and their
 * sessions go: nothing is known about those lists afterwards. So they are walked first, with nobody
 * called, and who is to be stopped is put on a list of the caller's. Who leaves takes itself off it
 * (req_leave()). None is missed: what is stopped here is not admitted any more, its connection,
 * session or capability being gone. A walk from inside takes over those that it wants.
 */
static void doom(struct list *doomed, struct session_req *r)
{
	if (r->doomed.next)
		list_del(&r->doomed);
	list_push(doomed, &r->doomed);
}

static struct session_req *doomed_next(struct list *doomed)
{
	struct list *n = list_pop(doomed);
	struct session_req *r;

	if (!n)
		return NULL;
	r = list_entry(n, struct session_req, doomed);
	r->doomed.next = NULL;
	return r;
}

void reqs_drop_waiting(struct session *s, const struct session_conn *only, int status)
{
	struct session_req *r;
	struct list doomed;

	list_init(&doomed);
	list_for_each (r, &s->reqs, link)
		if (r->state != REQ_RUNNING && (!only || r->conn == only))
			doom(&doomed, r);
	while ((r = doomed_next(&doomed)) != NULL)
		if (r->state != REQ_RUNNING)
			drop(r, status);
}

static void stop_doomed(struct list *doomed, int status)
{
	struct session_req *r;

	while ((r = doomed_next(doomed)) != NULL)
		req_stop(r, status);
}

void reqs_stop(struct session *s, int status)
{
	struct session_req *r;
	struct list doomed;

	list_init(&doomed);
	list_for_each (r, &s->reqs, link)
		if (!r->stopped)
			doom(&doomed, r);
	stop_doomed(&doomed, status);
}

void reqs_stop_cap(struct session_table *t, const struct cap *c, int status)
{
	struct session_req *r;
	struct session *s;
	struct list doomed;

	list_init(&doomed);
	list_for_each (s, &t->every, every)
		list_for_each (r, &s->reqs, link)
			if (r->cap == c && !r->stopped)
				doom(&doomed, r);
	stop_doomed(&doomed, status);
}

/* --- the store --- */

static bool submit(struct session_req *r)
{
	struct session_table *t = r->session->table;
	struct pst_op *op = &r->op;

	switch (store_submit(t->store, op)) {
	case PST_DONE:
		op->done(op);
		break;
	case PST_QUEUED:
		break;
	case PST_BUSY:
		list_push(&t->busy, &r->item.link);
		return false;
	}
	return true;
}

static void end_with(struct session_req *r, int status)
{
	r->op.status = status;
	r->op.done(&r->op);
}

void session_submit(struct session_req *r)
{
	pst_assert(r->state == REQ_RUNNING && !r->submitted);
	if (SESSION_PLANTED(r->session->table, SESSION_PLANT_REEXECUTE))
		r->op.token.session = 0;
	if (SESSION_PLANTED(r->session->table, SESSION_PLANT_RENAME_TWICE) &&
	    r->op.opcode == PST_OP_RENAME)
		r->op.token.session = 0;
	if (unlikely(r->stopped)) {
		end_with(r, -ECANCELED);
		return;
	}
	r->submitted = true;
	if (unlikely(r->narrow))
		narrow_begin(r);
	if (unlikely(r->answered))
		end_with(r, 0);
	else if (unlikely(r->op.opcode == PST_OP_WATCH))
		watch_arm(r);
	else
		(void)submit(r);
}

void session_cancel(struct session_req *r)
{
	if (r->watching)
		watch_stop(r);
	else
		store_cancel(r->session->table->store, &r->op);
}

static int offer_again(struct session_table *t)
{
	struct list again, *n;
	int did = 0;

	list_init(&again);
	list_splice(&again, &t->busy);
	while ((n = list_pop(&again)) != NULL) {
		struct session_req *r = req_of(n);

		if (r->stopped) {
			end_with(r, -ECANCELED);
			did++;
		} else {
			did += submit(r);
		}
	}
	return did;
}

/* --- whose turn it is --- */

void run_rate_fired(struct loop_timer *timer)
{
	table_wake(container_of(timer, struct session_table, rate));
}

static void begin(struct session_table *t, struct session_req *r)
{
	uint64_t waited = loop_now(t->loop) - r->queued_ns;
	struct tenant *n = r->session->tenant;

	unqueue(r);
	n->queue_ns += waited;
	n->queue_max_ns = MAX(n->queue_max_ns, waited);
	run_start(r->session, r);
	r->go(r, 0);
}

int run_poll(struct session_table *t)
{
	int did = list_empty(&t->busy) ? 0 : offer_again(t);
	uint64_t when = UINT64_MAX;

	while (t->sched.queued && run_room(t)) {
		struct sched_item *it = sched_pop(&t->sched, loop_now(t->loop), &when);
		struct session_req *r;

		if (!it)
			break;
		did++;
		r = container_of(it, struct session_req, item);
		if (r->stopped)
			drop(r, r->stop_status);
		else
			begin(t, r);
	}
	if (when != UINT64_MAX)
		(void)loop_timer_arm(t->loop, &t->rate, when);
	return did;
}

bool session_run_full(const struct session_table *t)
{
	return t->sched.queued && !run_room(t);
}
