/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stall - running an op in its turn, and the ops that wait for theirs.
 *
 * Those that wait for room, memory or a lock stand in their shard's line (`stalled`), and what comes
 * after them waits behind them. Those that wait for something that may take long and concerns nobody
 * else are put aside (`held`): nobody waits for them.
 */
#include "store/local/stall.h"

#define STALL_TRIES   2                   /* in one pass, before the others have to wait */
#define STALL_TICK_NS (2 * NSEC_PER_MSEC) /* stalled ops are looked at at least this often */

enum pst_outcome op_fail(struct pst_op *op, int status)
{
	op->status = status;
	return PST_DONE;
}

static void op_durable(struct log_wait *w, int status)
{
	struct op_state *st = container_of(w, struct op_state, wait);
	struct pst_op *op = container_of((uint64_t *)st, struct pst_op, priv[0]);

	op_done(st->shard->l, op, status);
}

enum pst_outcome op_committed(struct shard *s, struct pst_op *op, uint64_t frame)
{
	struct op_state *st = op_state(op);

	/* Only content may be volatile: other logs rely on containers and snapshots being there. */
	if (op->flags & PST_F_VOLATILE &&
	    (op->opcode == PST_OP_WRITE || op->opcode == PST_OP_BATCH))
		return op_fail(op, 0);
	if (s->l->stopped)
		return op_fail(op, s->l->stop_status);
	st->wait.durable = op_durable;
	st->shard = s;
	if (log_wait(s, frame, &st->wait) == 1)
		return op_fail(op, 0);
	return PST_QUEUED;
}

static bool mutates(const struct pst_op *op)
{
	switch (op->opcode) {
	case PST_OP_READ:
	case PST_OP_KV_GET:
	case PST_OP_KV_LIST:
	case PST_OP_OBJ_LIST:
		return false;
	}
	return true;
}

void stall_tick(struct loop_timer *t)
{
	struct local *l = container_of(t, struct local, stall_timer);

	for (unsigned i = 0; i < l->owned; i++) {
		l->own[i]->sweep = true; /* deadlines */
		shard_kick(l->own[i]);
	}
}

void local_tick(struct local *l)
{
	struct loop *loop = l->store.loop;
	uint64_t at = loop_now(loop) + STALL_TICK_NS;

	/* A scrub that takes its time may have it armed for much later. */
	if (!l->stall_timer.heap_index || l->stall_timer.deadline_ns > at)
		(void)loop_timer_arm(loop, &l->stall_timer, at);
}

/* Has it prepared what others may wait for: locks, space, blocks of the journal? */
static bool holds(struct pst_op *op)
{
	const struct wreq *q = op_state(op)->req;

	return q && q->prepared;
}

/*
 * Those that wait stand in this order: who holds something (it waits for nobody else in the list),
 * then the others; oldest first. Only the first few are tried again and again: if one that waits for
 * another stood before it, neither's turn might ever come. @again: it has been under way, and comes
 * before those that have not; during a pass it goes back to its place.
 */
static void stall(struct shard *s, struct pst_op *op, bool again)
{
	struct list *at = &s->stalled;
	bool holder = holds(op);

	if (again || holder)
		for (at = at->next; at != &s->stalled; at = at->next) {
			struct pst_op *o = list_entry(at, struct pst_op, link);

			if (holds(o) != holder ? holder
			    : s->in_pass       ? op_state(o)->pass != s->pass
			                       : !holder)
				break;
		}
	list_push(at, &op->link);
	local_tick(s->l);
}

enum pst_outcome op_stall(struct shard *s, struct pst_op *op)
{
	stall(s, op, false);
	if (s->in_pass) { /* or a pass might never end */
		op_state(op)->pass = s->pass;
		shard_kick(s);
	}
	return PST_QUEUED;
}

enum pst_outcome op_hold(struct shard *s, struct pst_op *op)
{
	list_push(&s->held, &op->link);
	local_tick(s->l); /* for its deadline */
	return PST_QUEUED;
}

void shard_release(struct shard *s)
{
	struct list *n;

	while ((n = list_pop(&s->held)) != NULL)
		stall(s, list_entry(n, struct pst_op, link), false);
	shard_kick(s);
}

enum pst_outcome op_run(struct shard *s, struct pst_op *op, op_try try)
{
	struct local *l = s->l;
	enum pst_outcome out = PST_BUSY;

	if (!mutates(op))
		return op_run_read(s, op, try);
	if (l->opts.read_only)
		return op_fail(op, -EROFS);
	if (l->stopped)
		return op_fail(op, l->stop_status);
	if (l->ops >= l->opts.ops_max)
		return PST_BUSY;
	*op_state(op) = (struct op_state){.shard = s, .try = try};
	l->ops++;
	/* Who came first and waits goes first; FLUSH wants nothing that they wait for. */
	if (list_empty(&s->stalled) || op->opcode == PST_OP_FLUSH)
		out = try(s, op);
	if (out == PST_BUSY)
		return op_stall(s, op);
	if (out == PST_DONE)
		l->ops--;
	return out;
}

void op_again(struct shard *s, struct pst_op *op, op_try try)
{
	enum pst_outcome out = try(s, op);

	if (out == PST_BUSY)
		stall(s, op, true);
	else if (out == PST_DONE)
		op_done(s->l, op, op->status);
}

void shard_kick(struct shard *s)
{
	s->retry_stalled = true;
}

static void stalled_end(struct shard *s, struct pst_op *op, int status)
{
	if (op_state(op)->req)
		write_abandon(op_state(op)->req);
	op_done(s->l, op, status);
}

/* Moves to @gone those of @waiting that are not to be tried any more. */
static void sweep_list(const struct local *l, struct list *waiting, struct list *gone)
{
	uint64_t now = loop_now(l->store.loop);
	struct list *n, *next;

	for (n = waiting->next; n != waiting; n = next) {
		struct pst_op *op = list_entry(n, struct pst_op, link);

		next = n->next;
		if (op_state(op)->cancelled || (op->deadline_ns && now > op->deadline_ns) ||
		    (l->stopped && (mutates(op) || l->closing))) {
			list_del(n);
			list_push(gone, n);
		}
	}
}

int stalled_sweep(struct shard *s)
{
	struct local *l = s->l;
	struct list gone, *n;
	int did = 0;

	s->sweep = false;
	list_init(&gone);
	sweep_list(l, &s->stalled, &gone);
	sweep_list(l, &s->held, &gone);
	while ((n = list_pop(&gone)) != NULL) {
		struct pst_op *op = list_entry(n, struct pst_op, link);
		int status = -ETIMEDOUT;

		if (op_state(op)->cancelled)
			status = -ECANCELED;
		else if (l->stopped && (mutates(op) || l->closing))
			status = l->stop_status;
		stalled_end(s, op, status);
		did++;
	}
	return did;
}

static struct pst_op *next_untried(struct shard *s)
{
	struct pst_op *op;

	list_for_each (op, &s->stalled, link)
		if (op_state(op)->pass != s->pass)
			return op;
	return NULL;
}

int stalled_retry(struct shard *s)
{
	struct pst_op *op;
	unsigned busy = 0;
	int did = 0;

	if (s->sweep) {
		did = stalled_sweep(s);
		if (!list_empty(&s->held))
			local_tick(s->l);
	}
	if (!s->retry_stalled || list_empty(&s->stalled))
		return did;
	s->retry_stalled = false;
	s->pass++;
	s->in_pass = true;
	while (busy < STALL_TRIES && (op = next_untried(s)) != NULL) {
		enum pst_outcome out;

		list_del(&op->link);
		op_state(op)->pass = s->pass;
		out = op_state(op)->try(s, op);
		if (out == PST_BUSY) { /* where it was */
			stall(s, op, true);
			busy++;
			continue;
		}
		did++;
		if (out == PST_DONE)
			op_done(s->l, op, op->status);
	}
	s->in_pass = false;
	if (!list_empty(&s->stalled))
		local_tick(s->l);
	return did;
}

static bool waits_in(const struct list *waiting, const struct pst_op *op)
{
	const struct pst_op *o;

	list_for_each (o, waiting, link)
		if (o == op)
			return true;
	return false;
}

bool stalled_cancel(struct shard *s, struct pst_op *op)
{
	if (!waits_in(&s->stalled, op) && !waits_in(&s->held, op))
		return false;
	op_state(op)->cancelled = true;
	s->sweep = true;
	return true;
}
