/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crew_door - ops that are carried out on another reactor.
 *
 * The caller's own op travels: from submission to completion it and its memory belong to the store, and
 * a message hands all of that over. What stays at home is what calls the caller: done() and, of a list,
 * entry() run here, on the first part's loop. So a list gathers its entries there and hands them out
 * here; what doesn't fit in one load is fetched by another, from the last entry on.
 *
 *     here                                     there
 *     errand_send ------- go ----------------> arrive: submit; busy: `waiting`, and again
 *     errand_home: back() <--- go ------------ over, when the op has ended
 *     door_cancel ------- stop --------------> cancels the op, unless it is over
 *     stop_home  <------- stop ---------------'
 *
 * back() waits for both messages to be home, so that neither ever speaks of an op that has ended.
 */
#include "store/local/crew.h"

#define GATHER_BYTES (96u * 1024) /* an entry with the largest key and value fits */

struct gather {
	bool (*entry)(struct pst_op *op, const struct pst_entry *e); /* the caller's */
	const void *start;
	uint32_t start_len;
	uint32_t last_len;
	bool full; /* there may be more */
	size_t len;
	uint8_t last[PST_KEY_MAX];
	_Alignas(8) uint8_t buf[GATHER_BYTES];
};

struct gathered { /* then name and value, and all of it rounded up to 8 */
	uint32_t name_len, val_len;
	bool has_val, has_snap;
	uint8_t type;
	uint64_t id;
	struct pst_oid oid;
	struct pst_snap_info snap;
};

static struct loop *home_loop(const struct errand *e)
{
	return e->crew->store.loop;
}

/* --- there --- */

static void errand_home(struct loop_msg *msg);

static void over(struct errand *e)
{
	e->over = true;
	e->go.run = errand_home;
	loop_post(home_loop(e), &e->go);
}

static void op_over(struct pst_op *op)
{
	over((struct errand *)(uintptr_t)op_pop(op));
}

/* False: the engine takes no more ops now. */
static bool submit(struct errand *e)
{
	enum pst_outcome out = store_submit(&e->to->l->store, e->op);

	if (out == PST_BUSY)
		return false;
	if (out == PST_DONE)
		op_over(e->op);
	return true;
}

static void arrive(struct loop_msg *msg)
{
	struct errand *e = container_of(msg, struct errand, go);

	if (!e->op) {
		e->there(e);
		over(e);
		return;
	}
	op_push(e->op, op_over, (uint64_t)(uintptr_t)e);
	if (!list_empty(&e->to->waiting) || !submit(e)) {
		list_push(&e->to->waiting, &e->wait);
		local_tick(e->to->l);
	}
}

int door_step(struct mate *m)
{
	int did = 0;

	while (!list_empty(&m->waiting)) {
		struct errand *e = list_first(&m->waiting, struct errand, wait);

		list_del(&e->wait);
		if (!submit(e)) {
			list_push_front(&m->waiting, &e->wait);
			local_tick(m->l); /* for its deadline */
			break;
		}
		did++;
	}
	return did;
}

static void stop_home(struct loop_msg *msg);

static void stop_there(struct loop_msg *msg)
{
	struct errand *e = container_of(msg, struct errand, stop);

	if (!e->over && !list_empty(&e->wait)) {
		list_del(&e->wait);
		e->op->status = -ECANCELED;
		op_over(e->op);
	} else if (!e->over) {
		store_cancel(&e->to->l->store, e->op);
	}
	e->stop.run = stop_home;
	loop_post(home_loop(e), &e->stop);
}

/* --- here --- */

void errand_init(struct errand *e, struct crew *c, struct pst_op *asked)
{
	*e = (struct errand){.crew = c, .asked = asked};
	list_init(&e->wait);
	list_push(&c->out, &e->link);
}

void errand_end(struct errand *e)
{
	list_del(&e->link);
}

void errand_send(struct errand *e, unsigned part)
{
	e->to = &e->crew->mate[part];
	e->over = e->home = false;
	if (e->op && part) {
		e->region = e->op->region;
		e->op->region = NULL;
		e->op->lend = false; /* until done() returns, but that runs here */
	}
	e->go.run = arrive;
	loop_post(e->to->l->store.loop, &e->go);
}

static void came_home(struct errand *e)
{
	if (e->op && e->region) {
		e->op->region = e->region;
		e->region = NULL;
	}
	e->back(e);
}

static void errand_home(struct loop_msg *msg)
{
	struct errand *e = container_of(msg, struct errand, go);

	e->home = true;
	if (!e->stopping)
		came_home(e);
}

static void stop_home(struct loop_msg *msg)
{
	struct errand *e = container_of(msg, struct errand, stop);

	e->stopping = false;
	if (e->home)
		came_home(e);
}

void door_cancel(struct crew *c, struct pst_op *op)
{
	struct errand *e;

	list_for_each (e, &c->out, link) {
		if (e->asked != op)
			continue;
		e->cancelled = true;
		if (e->op && !e->home && !e->stopping) {
			e->stopping = true;
			e->stop.run = stop_there;
			loop_post(e->to->l->store.loop, &e->stop);
		}
		return;
	}
	store_cancel(&crew_root(c)->store, op);
}

/* --- lists --- */

static bool gather_entry(struct pst_op *op, const struct pst_entry *e)
{
	struct errand *er = (struct errand *)(uintptr_t)op->frame[op->frame_count - 1].word;
	struct gather *g = er->gather;
	size_t need = ALIGN_UP(sizeof(struct gathered) + e->name_len + e->val_len, 8);
	struct gathered *to = (void *)(g->buf + g->len);
	uint8_t *bytes = (uint8_t *)(to + 1);

	if (need > sizeof(g->buf) - g->len || e->name_len > sizeof(g->last)) {
		g->full = true;
		return false;
	}
	*to = (struct gathered){.name_len = e->name_len,
	                        .val_len = e->val_len,
	                        .has_val = e->val != NULL,
	                        .has_snap = e->snap != NULL,
	                        .type = e->type,
	                        .id = e->id,
	                        .oid = e->oid};
	if (e->snap)
		to->snap = *e->snap;
	if (e->name_len)
		memcpy(bytes, e->name, e->name_len);
	if (e->val_len)
		memcpy(bytes + e->name_len, e->val, e->val_len);
	g->last_len = e->name_len;
	if (e->name_len)
		memcpy(g->last, e->name, e->name_len);
	g->len += need;
	return true;
}

/* Hands out what was gathered; false: the caller wants no more. */
static bool hand_out(struct pst_op *op, struct gather *g)
{
	for (size_t at = 0; at < g->len;) {
		const struct gathered *from = (const void *)(g->buf + at);
		const uint8_t *bytes = (const uint8_t *)(from + 1);
		struct pst_entry e = {.name = bytes,
		                      .name_len = from->name_len,
		                      .val = from->has_val ? bytes + from->name_len : NULL,
		                      .val_len = from->val_len,
		                      .oid = from->oid,
		                      .id = from->id,
		                      .type = from->type,
		                      .snap = from->has_snap ? &from->snap : NULL};

		if (!g->entry(op, &e))
			return false;
		at += ALIGN_UP(sizeof(*from) + from->name_len + from->val_len, 8);
	}
	return true;
}

static bool is_list(const struct pst_op *op)
{
	return op->opcode == PST_OP_KV_LIST || op->opcode == PST_OP_OBJ_LIST ||
	       op->opcode == PST_OP_SNAP_LIST;
}

static bool gather_begin(struct errand *e)
{
	struct pst_op *op = e->op;
	struct gather *g = mem_alloc(sizeof(*g));

	if (!g)
		return false;
	g->entry = op->entry;
	g->start = op->start;
	g->start_len = op->start_len;
	g->full = false;
	g->len = 0;
	g->last_len = 0;
	op->entry = gather_entry;
	e->gather = g;
	return true;
}

/* False: there is more, and it has gone for that. */
static bool gather_end(struct errand *e)
{
	struct pst_op *op = e->op;
	struct gather *g = e->gather;
	bool more, full = g->full;

	op->entry = g->entry;
	more = hand_out(op, g);
	if (full && more && !op->status && g->len && !e->cancelled) {
		op->entry = gather_entry;
		op->start = g->last;
		op->start_len = g->last_len;
		g->full = false;
		g->len = 0;
		errand_send(e, (unsigned)(e->to - e->crew->mate));
		return false;
	}
	if (full && more && !op->status)
		op->status = e->cancelled ? -ECANCELED : -E2BIG;
	op->start = g->start;
	op->start_len = g->start_len;
	e->gather = NULL;
	mem_free(g);
	return true;
}

/* --- ops as they are --- */

static void op_back(struct errand *e)
{
	struct crew *c = e->crew;
	struct pst_op *op = e->op;

	if (e->gather && !gather_end(e))
		return;
	errand_end(e);
	e->next = c->idle;
	c->idle = e;
	op->done(op);
}

enum pst_outcome door_send(struct crew *c, struct pst_op *op, unsigned part)
{
	struct errand *e = c->idle;

	if (!e)
		return PST_BUSY;
	c->idle = e->next;
	errand_init(e, c, op);
	e->op = op;
	e->back = op_back;
	if (is_list(op) && !gather_begin(e)) {
		errand_end(e);
		e->next = c->idle;
		c->idle = e;
		return op_fail(op, -ENOMEM);
	}
	errand_send(e, part);
	return PST_QUEUED;
}

int door_init(struct crew *c)
{
	unsigned n = crew_root(c)->opts.ops_max;

	c->errands = mem_calloc(n, sizeof(*c->errands));
	if (!c->errands)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		c->errands[i].next = c->idle;
		c->idle = &c->errands[i];
	}
	return 0;
}

void door_done(struct crew *c)
{
	mem_free(c->errands);
}
