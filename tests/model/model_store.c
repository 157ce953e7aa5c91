/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * model_store - a struct store around a model. Ops end inline, or, with opts.later, wait in a list
 * from which a poller takes them one by one in an order that the seed chooses. An op is executed
 * when it is taken, so that it happens at one moment between submission and completion.
 */
#include "model_store.h"

struct model_store {
	struct store store;
	struct model *model;
	struct model_store_opts opts;
	struct rng rng;
	struct loop_poller poller;
	struct list waiting;
	unsigned waiting_count;
};

static struct model_store *of(struct store *s)
{
	return container_of(s, struct model_store, store);
}

static bool expired(const struct model_store *ms, const struct pst_op *op)
{
	return op->deadline_ns && loop_now(ms->store.loop) >= op->deadline_ns;
}

static void execute(struct model_store *ms, struct pst_op *op)
{
	if (op->priv[0])
		op->status = -ECANCELED;
	else if (expired(ms, op))
		op->status = -ETIMEDOUT;
	else
		model_apply(ms->model, op, loop_real_now(ms->store.loop));
}

static enum pst_outcome submit(struct store *s, struct pst_op *op)
{
	struct model_store *ms = of(s);

	op->priv[0] = 0;
	if (ms->opts.busy > 0 && ms->waiting_count && rng_chance(&ms->rng, ms->opts.busy))
		return PST_BUSY; /* only while something will complete: the contract of BUSY */
	if (ms->opts.later) {
		list_push(&ms->waiting, &op->link);
		ms->waiting_count++;
		return PST_QUEUED;
	}
	execute(ms, op);
	return PST_DONE;
}

static int poll_waiting(struct loop_poller *p)
{
	struct model_store *ms = container_of(p, struct model_store, poller);
	struct list *n = ms->waiting.next;
	struct pst_op *op;

	if (!ms->waiting_count)
		return 0;
	for (uint64_t skip = rng_below(&ms->rng, ms->waiting_count); skip; skip--)
		n = n->next;
	op = list_entry(n, struct pst_op, link);
	list_del(n);
	ms->waiting_count--;
	execute(ms, op);
	op->done(op);
	return 1;
}

static bool may_sleep(struct loop_poller *p)
{
	return !container_of(p, struct model_store, poller)->waiting_count;
}

static void cancel(struct store *s, struct pst_op *op)
{
	struct model_store *ms = of(s);
	struct pst_op *it;

	list_for_each (it, &ms->waiting, link) {
		if (it == op) {
			op->priv[0] = 1; /* ends when the poller comes to it, not from in here */
			return;
		}
	}
}

static int close_store(struct store *s)
{
	struct model_store *ms = of(s);

	pst_assert(!ms->waiting_count);
	if (ms->opts.later)
		loop_poller_del(s->loop, &ms->poller);
	model_free(ms->model);
	free(ms);
	return 0;
}

static const struct store_ops model_ops = {
        .name = "model",
        .submit = submit,
        .cancel = cancel,
        .close = close_store,
};

int model_store_new(struct store **ret_store, struct loop *loop,
                    const struct model_store_opts *opts)
{
	struct model_store *ms = calloc(1, sizeof(*ms));

	if (!ms)
		return -ENOMEM;
	if (opts)
		ms->opts = *opts;
	ms->model = model_new(ms->opts.size_bytes);
	rng_seed(&ms->rng, ms->opts.seed);
	list_init(&ms->waiting);
	ms->store.ops = &model_ops;
	ms->store.loop = loop;
	ms->store.caps = PST_CAP_OBJECTS | PST_CAP_BATCH | PST_CAP_SNAPSHOTS | PST_CAP_REPLAY |
	                 PST_CAP_VOLATILE | PST_CAP_EXISTING;
	ms->poller.poll = poll_waiting;
	ms->poller.may_sleep = may_sleep;
	if (ms->opts.later)
		loop_poller_add(loop, &ms->poller);
	*ret_store = &ms->store;
	return 0;
}

struct model *model_store_model(struct store *s)
{
	return of(s)->model;
}
