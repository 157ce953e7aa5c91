/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * subject_model - a store for the simulation to be tested on: a model that forgets. It keeps the
 * state after each change since the last commit; a power cut leaves one of them, chosen by the
 * seed. So it promises what an engine promises, and each of its planted bugs breaks one promise.
 */
#include <stdio.h>

#include "fs/fs.h"
#include "model_impl.h"
#include "sim_int.h"

#define HISTORY_MAX 64

enum bug {
	BUG_NONE,
	BUG_ACK_EARLY,     /* durable ops complete before the commit */
	BUG_DROP_REPLAY,   /* the replay records don't survive */
	BUG_HALF_BATCH,    /* a batch is two changes */
	BUG_HURT_SNAPSHOT, /* a cut changes a byte that a snapshot holds */
	BUG_REORDER,       /* of what was not committed, anything may survive */
	BUG_FORGET_FLUSH,  /* flush does nothing */
};
static const char *const bug_names[] = {"none",          "ack-early", "drop-replay", "half-batch",
                                        "hurt-snapshot", "reorder",   "forget-flush"};

struct forgetful {
	struct store store;
	struct loop_poller poller;
	struct rng rng;
	enum bug bug;
	struct list waiting; /* ops to execute */
	unsigned waiting_count;
	struct list committing; /* ops to complete at the next commit */
	unsigned committing_count;
	struct model *history[HISTORY_MAX]; /* [0]: durable; the last: now */
	unsigned count;
	bool dead; /* the power is cut */
};

static struct forgetful *of(struct store *s)
{
	return container_of(s, struct forgetful, store);
}

static struct model *now(struct forgetful *f)
{
	return f->history[f->count - 1];
}

/* What the loop has to do before the next change: a state of its own for it. */
static void remember(struct forgetful *f)
{
	f->history[f->count] = model_clone(now(f));
	f->count++;
}

static void commit(struct forgetful *f)
{
	struct list done, *n;

	for (unsigned i = 0; i + 1 < f->count; i++)
		model_free(f->history[i]);
	f->history[0] = now(f);
	f->count = 1;
	list_init(&done);
	list_splice(&done, &f->committing);
	f->committing_count = 0;
	while ((n = list_pop(&done))) {
		struct pst_op *op = list_entry(n, struct pst_op, link);

		op->done(op);
	}
}

static bool is_change(const struct pst_op *op)
{
	switch (op->opcode) {
	case PST_OP_WRITE:
	case PST_OP_BATCH:
	case PST_OP_CONT_CREATE:
	case PST_OP_CONT_SET:
	case PST_OP_CONT_DESTROY:
	case PST_OP_SNAP_CREATE:
	case PST_OP_SNAP_DESTROY:
		return true;
	default:
		return false;
	}
}

static void execute(struct forgetful *f, struct pst_op *op)
{
	uint32_t count = op->mut_count;

	if (!is_change(op)) {
		model_apply(now(f), op, 0);
		return;
	}
	remember(f);
	if (f->bug == BUG_HALF_BATCH && op->opcode == PST_OP_BATCH && count > 1 &&
	    op->muts[count - 2].kind >= PST_KV_PUT && !op->token.session) {
		op->mut_count = count - 1;
		model_apply(now(f), op, 0);
		if (!op->status) {
			uint64_t off = op->ret_off;

			op->mut_count = 1;
			op->muts += count - 1;
			remember(f);
			model_apply(now(f), op, 0);
			op->muts -= count - 1;
			if (op->muts[count - 1].kind != PST_ARRAY_APPEND)
				op->ret_off = off;
		}
		op->mut_count = count;
		return;
	}
	model_apply(now(f), op, 0);
}

static void step(struct forgetful *f)
{
	struct list *n = f->waiting.next;
	struct pst_op *op;
	bool wait;

	for (uint64_t skip = rng_below(&f->rng, f->waiting_count); skip; skip--)
		n = n->next;
	op = list_entry(n, struct pst_op, link);
	list_del(n);
	f->waiting_count--;
	execute(f, op);
	wait = is_change(op) ? !(op->flags & PST_F_VOLATILE) && f->bug != BUG_ACK_EARLY
	                     : op->opcode == PST_OP_FLUSH && f->bug != BUG_FORGET_FLUSH;
	if (wait && !op->status) {
		list_push(&f->committing, &op->link);
		f->committing_count++;
	} else {
		op->done(op);
	}
}

static int poll(struct loop_poller *p)
{
	struct forgetful *f = container_of(p, struct forgetful, poller);

	if (f->count + 4 >= HISTORY_MAX || (f->committing_count && !rng_below(&f->rng, 8))) {
		commit(f);
		return 1;
	}
	if (!f->waiting_count)
		return f->committing_count;
	if (rng_below(&f->rng, 3))
		step(f);
	return 1;
}

static enum pst_outcome submit(struct store *s, struct pst_op *op)
{
	struct forgetful *f = of(s);

	if (f->dead) {
		op->status = -ESHUTDOWN;
		return PST_DONE;
	}
	if (f->waiting_count && !rng_below(&f->rng, 6))
		return PST_BUSY;
	list_push(&f->waiting, &op->link);
	f->waiting_count++;
	return PST_QUEUED;
}

static void cancel(struct store *s, struct pst_op *op)
{
}

static int close_store(struct store *s)
{
	return 0;
}

static const struct store_ops forgetful_ops = {
        .name = "forgetful",
        .submit = submit,
        .cancel = cancel,
        .close = close_store,
};

/* --- the subject --- */

static void m_format(struct sim *sim)
{
	struct forgetful *f = calloc(1, sizeof(*f));

	pst_assert(f);
	rng_seed(&f->rng, rng_next(&sim->rng));
	list_init(&f->waiting);
	list_init(&f->committing);
	f->store.ops = &forgetful_ops;
	f->store.loop = sim->loop;
	f->store.caps = PST_CAP_OBJECTS | PST_CAP_BATCH | PST_CAP_SNAPSHOTS | PST_CAP_REPLAY |
	                PST_CAP_VOLATILE | PST_CAP_EXISTING;
	f->poller.poll = poll;
	f->history[0] = model_new(0);
	f->count = 1;
	for (unsigned i = 0; sim->plant && i < ARRAY_LEN(bug_names); i++) {
		if (!strcmp(bug_names[i], sim->plant))
			f->bug = (enum bug)i;
	}
	sim->subject_priv = f;
}

static int m_open(struct sim *sim, struct pst_err *err)
{
	struct forgetful *f = sim->subject_priv;

	loop_poller_add(sim->loop, &f->poller);
	f->dead = false;
	sim->store = &f->store;
	return sim->profile.names ? fs_new(&sim->store, &f->store, NULL, err) : 0;
}

static void end_all(struct list *ops)
{
	struct list *n;

	while ((n = list_pop(ops))) {
		struct pst_op *op = list_entry(n, struct pst_op, link);

		op->status = -ESHUTDOWN;
		op->done(op);
	}
}

static void hurt_snapshot(struct model *m)
{
	for (size_t i = 0; i < m->cont_count; i++) {
		for (size_t j = 0; j < m->conts[i].snap_count; j++) {
			struct m_view *v = &m->conts[i].snaps[j].view;

			for (size_t k = 0; k < v->obj_count; k++) {
				if (v->objs[k]->size) {
					m_array_write(v->objs[k], 0, (const uint8_t *)"!", 1);
					return;
				}
			}
		}
	}
}

static void m_crash(struct sim *sim)
{
	struct forgetful *f = sim->subject_priv;
	unsigned keep = (unsigned)rng_below(&f->rng, f->count);
	struct model *left = f->history[keep];

	if (f->bug == BUG_REORDER && keep && f->count > keep + 1 && left->cont_count &&
	    now(f)->cont_count == left->cont_count) {
		/* The first container is of the newest state, the others are not. */
		struct m_cont tmp = left->conts[0];

		left->conts[0] = now(f)->conts[0];
		now(f)->conts[0] = tmp;
	}
	if (f->bug == BUG_DROP_REPLAY)
		left->replay_count = 0;
	if (f->bug == BUG_HURT_SNAPSHOT)
		hurt_snapshot(left);
	for (unsigned i = 0; i < f->count; i++) {
		if (i != keep)
			model_free(f->history[i]);
	}
	f->history[0] = left;
	f->count = 1;
	loop_poller_del(sim->loop, &f->poller);
	f->dead = true;
	end_all(&f->waiting);
	end_all(&f->committing);
	f->waiting_count = f->committing_count = 0;
	if (sim->profile.names)
		loop_turn(sim->loop, 0);
	store_close(sim->store);
	sim->store = NULL;
}

static int m_close(struct sim *sim, struct pst_err *err)
{
	struct forgetful *f = sim->subject_priv;

	pst_assert(!f->waiting_count && !f->committing_count);
	store_close(sim->store);
	commit(f);
	loop_poller_del(sim->loop, &f->poller);
	sim->store = NULL;
	return 0;
}

static bool m_power_lost(struct sim *sim)
{
	return false;
}

static int m_fsck(struct sim *sim, struct pst_err *err)
{
	return 0;
}

static void m_forget(struct sim *sim)
{
	struct forgetful *f = sim->subject_priv;

	model_free(f->history[0]);
	free(f);
}

static void m_nothing(struct sim *sim)
{
}

static bool m_plant(const char *name)
{
	for (unsigned i = 1; i < ARRAY_LEN(bug_names); i++) {
		if (!strcmp(bug_names[i], name))
			return true;
	}
	return false;
}

const struct subject subject_model = {
        .name = "model",
        .names = true,
        .format = m_format,
        .open = m_open,
        .crash = m_crash,
        .close = m_close,
        .power_lost = m_power_lost,
        .fsck = m_fsck,
        .forget = m_forget,
        .stir = m_nothing,
        .calm = m_nothing,
        .plant = m_plant,
};
