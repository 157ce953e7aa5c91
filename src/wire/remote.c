/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote - a store at the other end of a channel: the store interface, the life of its requests,
 * and their time. remote_int.h has the states and the rules.
 */
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "net/net.h"
#include "wire/remote_int.h"

#define TICK_NS (100 * NSEC_PER_MSEC)

/* --- the end of a request --- */

static void slot_give(struct rreq *r)
{
	struct remote *rm = r->rm;

	r->has_slot = false;
	if (!r->sent) /* its number was not used: the next one takes it */
		rm->slot[r->slot].seq--;
	if (r->answered || !r->sent) {
		rm->slot_stack[rm->slots_free++] = r->slot;
	} else {
		rm->slot[r->slot].lost = true; /* 3. */
		rm->slots_lost++;
	}
}

/* Is there a free one? The next of those that were never used comes when the others are under way. */
static bool rreq_left(struct remote *rm)
{
	if (unlikely(!rm->free) && rm->req_used < rm->opts.ops_max)
		rm->free = &rm->reqs[rm->req_used++];
	return rm->free;
}

void rreq_free(struct rreq *r)
{
	struct remote *rm = r->rm;

	pst_assert_slow(r->state != RREQ_FREE && !r->win_open);
	if (unlikely(r->fresh || r->closes || r->confirm))
		handles_left(r);
	rreq_uncount(r);
	if (r->has_slot)
		slot_give(r);
	if (r->buf) {
		wire_bufs_put(&rm->bufs, r->buf);
		r->buf = NULL;
	}
	r->state = RREQ_FREE;
	r->op = NULL;
	if (unlikely(!list_empty(&r->wait)))
		list_del(&r->wait);
	if (likely(!r->reserved)) {
		r->next = rm->free;
		rm->free = r;
	}
}

void rreq_end(struct rreq *r, int status)
{
	struct pst_op *op = r->op;

	rreq_free(r);
	if (likely(op)) {
		op->status = status;
		op->done(op);
	}
}

void rreq_again(struct rreq *r)
{
	struct remote *rm = r->rm;

	rreq_uncount(r);
	r->state = RREQ_WAIT;
	r->cancel_told = false; /* it was told of an id that is not used again */
	list_del(&r->wait);
	list_push_front(&rm->wait, &r->wait);
	/* Its time may have passed while its window was being closed. */
	if (r->op->deadline_ns && r->op->deadline_ns < rm->tick.deadline_ns)
		(void)loop_timer_arm(rm->loop, &rm->tick, r->op->deadline_ns + 1); /* can't fail */
}

void rreq_anew(struct rreq *r)
{
	if (r->has_slot)
		slot_give(r);
	r->sent = r->answered = r->got = r->shown = false;
	r->bad_crcs = 0;
	rreq_again(r);
}

/* The op ends; the request stays to hear the answer, which tells what became of the slot. */
static void leave(struct rreq *r, int status)
{
	struct pst_op *op = r->op;

	if (!r->counted) {
		rreq_end(r, status);
		return;
	}
	if (unlikely(r->fresh || r->closes || r->confirm))
		handles_left(r);
	r->op = NULL;
	r->state = RREQ_SENT;
	if (op) {
		op->status = status;
		op->done(op);
	}
}

/* --- windows --- */

static void after_window(struct rreq *r)
{
	struct remote *rm = r->rm;

	switch ((enum rreq_then)r->then) {
	case THEN_FINISH:
		rreq_finish(r);
		break;
	case THEN_AGAIN:
		if (r->op)
			rreq_again(r);
		else
			rreq_free(r);
		break;
	case THEN_FAIL:
		rreq_end(r, r->status);
		break;
	case THEN_LEAVE:
		leave(r, r->status);
		break;
	}
	remote_pump(rm);
}

static void closed(struct chan_window *w)
{
	struct rreq *r = container_of(w, struct rreq, win);

	r->win_open = false;
	if (r->state == RREQ_CLOSING)
		after_window(r);
}

void rreq_close(struct rreq *r, enum rreq_then then, int status)
{
	r->then = (uint8_t)then;
	r->status = status;
	if (r->state == RREQ_CLOSING)
		return; /* it is on its way: what comes after is what was said last */
	list_del(&r->wait);
	if (!r->win_open) {
		r->state = RREQ_CLOSING;
		after_window(r);
		return;
	}
	r->state = RREQ_CLOSING;
#ifdef PST_TEST_FAULTS
	if (r->rm->opts.plant == REMOTE_PLANT_COMPLETE_EARLY && r->op && then == THEN_LEAVE) {
		struct pst_op *op = r->op; /* the planted bug: 1. is forgotten */

		r->op = NULL;
		op->status = status;
		op->done(op);
	}
#endif
	chan_window_close(r->rm->chan, &r->win);
}

/* --- slots whose state is not known --- */

static void probed(struct pst_op *op)
{
	struct remote *rm = container_of(op, struct remote, probe);

	rm->probing = false; /* whatever was said: the slot is good, or lost again */
	remote_probe(rm);
}

void remote_probe(struct remote *rm)
{
	uint32_t slot = 0;
	struct rreq *r;

	if (likely(!rm->slots_lost) || rm->probing || rm->closing || rm->state != REMOTE_UP ||
	    !rreq_left(rm))
		return;
	while (!rm->slot[slot].lost)
		slot++;
	rm->probing = true;
	rm->slots_lost--;
	rm->slot[slot].lost = false;
	rm->probe = (struct pst_op){
	        .opcode = PST_OP_BATCH, .cont = rm->slot[slot].cont, .done = probed};
	r = rreq_get(rm, &rm->probe);
	r->has_slot = r->sent = true; /* the slot comes back when it is answered */
	r->slot = slot;
	r->seq = rm->slot[slot].seq;
	list_push_front(&rm->wait, &r->wait);
	remote_pump(rm);
}

/* --- sending what waits --- */

/* All slots carry changes: others need not wait for that. */
static bool waits_for_slot(const struct rreq *r)
{
	return !r->rm->slots_free && !r->has_slot && wire_op_of(r->op->opcode)->is & WIRE_OP_TOKEN;
}

static struct rreq *next_to_send(struct remote *rm)
{
	struct rreq *r;

	list_for_each (r, &rm->wait, wait)
		if (likely(!waits_for_slot(r)) && !(rreq_has_inode(r) && handles_must_wait(r)))
			return r;
	return NULL;
}

void remote_pump(struct remote *rm)
{
	while (rm->state == REMOTE_UP && !list_empty(&rm->wait) && rm->inflight < rm->depth &&
	       rm->again_ns <= loop_now(rm->loop)) {
		struct rreq *r = next_to_send(rm);
		int rc;

		if (!r)
			return;
		list_del(&r->wait);
		rc = rreq_send(r);
		if (rc == -EAGAIN) {
			list_push_front(&rm->wait, &r->wait);
			return;
		}
		if (rc < 0)
			rreq_close(r, THEN_FAIL, rc);
	}
}

static void soon(struct loop_timer *t)
{
	remote_pump(container_of(t, struct remote, soon));
}

/* --- the store --- */

static enum pst_outcome refuse(struct pst_op *op, int status)
{
	op->status = status;
	return PST_DONE;
}

/* Out of line: what it needs would be saved and restored by every short read. */
static __attribute__((noinline)) enum pst_outcome submit_any(struct remote *rm, struct pst_op *op)
{
	struct rreq *r;
	int rc = rreq_check(op);

	if (unlikely(rc < 0))
		return refuse(op, rc);
	if (unlikely(rm->state == REMOTE_DEAD || rm->given_up))
		return refuse(op, rm->error);
	if (unlikely(op->deadline_ns && op->deadline_ns < loop_now(rm->loop)))
		return refuse(op, -ETIMEDOUT);
	if (unlikely(op->opcode == PST_OP_FILE_CLOSE) && handles_close_here(rm, op))
		return refuse(op, 0);
	if (unlikely(!rreq_left(rm)))
		return PST_BUSY;
	r = rreq_get(rm, op);
	rc = rreq_has_inode(r) ? handles_submit(r) : 0;
	if (unlikely(rc < 0)) {
		r->op = NULL;
		rreq_free(r);
		return refuse(op, rc);
	}
	if (unlikely(op->deadline_ns && op->deadline_ns < rm->tick.deadline_ns))
		(void)loop_timer_arm(rm->loop, &rm->tick, op->deadline_ns + 1); /* can't fail */
	if (likely(rm->state == REMOTE_UP && list_empty(&rm->wait) && rm->inflight < rm->depth)) {
		rc = rreq_send(r);
		if (likely(rc == 0))
			return PST_QUEUED;
		if (rc != -EAGAIN) {
			pst_assert(!r->win_open);
			handles_left(r);
			r->op = NULL;
			rreq_free(r);
			return refuse(op, rc);
		}
	}
	list_push(&rm->wait, &r->wait);
	return PST_QUEUED;
}

static enum pst_outcome remote_submit(struct store *s, struct pst_op *op)
{
	struct remote *rm = remote_of(s);

	loop_assert(rm->loop);
	return likely(remote_submit_short(rm, op)) ? PST_QUEUED : submit_any(rm, op);
}

static void tell_cancel(struct rreq *r)
{
	if (!r->cancel_told && r->rm->state == REMOTE_UP)
		r->cancel_told = remote_note(r->rm, WIRE_CANCEL, r->id);
}

static void remote_cancel(struct store *s, struct pst_op *op)
{
	struct remote *rm = remote_of(s);

	for (uint32_t i = 0; i < rm->req_count; i++) {
		struct rreq *r = &rm->reqs[i];

		if (r->op != op)
			continue;
		r->cancelled = true;
		if (r->state == RREQ_SENT)
			tell_cancel(r);
		else if (r->state == RREQ_WAIT) /* ends from a timer: 5. */
			(void)loop_timer_arm(rm->loop, &rm->tick, 0);
		return;
	}
}

/* --- time --- */

/* The op's time is over, or it was cancelled while nobody could be asked. */
static void expire(struct rreq *r, int status)
{
	struct remote *rm = r->rm;

	if (r->state == RREQ_WAIT) {
		rreq_close(r, THEN_FAIL, status);
		return;
	}
	if (r->state != RREQ_SENT)
		return;
	rm->fig.timeouts++;
	rreq_close(r, THEN_LEAVE, status); /* 1. */
}

static void rreq_tick(struct rreq *r, uint64_t now)
{
	struct pst_op *op = r->op;

	if (r->state == RREQ_WAIT && r->cancelled && !(r->sent && r->has_slot)) {
		expire(r, -ECANCELED);
		return;
	}
	if (r->state == RREQ_SENT && r->cancelled)
		tell_cancel(r);
	if (!op->deadline_ns || now <= op->deadline_ns)
		return;
	if (r->state == RREQ_WAIT || now > op->deadline_ns + r->rm->opts.grace_ns) {
		expire(r, -ETIMEDOUT);
	} else if (r->state == RREQ_SENT) {
		tell_cancel(r);
	}
}

static void listen_for_life(struct remote *rm, uint64_t now)
{
	remote_patience(rm, now);
	if (rm->state == REMOTE_HELLO && remote_hello_late(rm, now))
		remote_bad(rm, "the server does not say welcome");
	if (rm->state != REMOTE_UP || now - rm->heard_ns < rm->opts.ping_ns)
		return;
	if (now - rm->heard_ns >= rm->opts.ping_ns + rm->opts.fabric.dead_ns) {
		remote_bad(rm, "the server does not answer");
	} else if (!rm->pinged) {
		rm->pinged = remote_note(rm, WIRE_PING, 0);
	}
}

/* The first from @i on that ever was used, or is reserved: those are behind all others. */
static uint32_t used_from(const struct remote *rm, uint32_t i)
{
	return i < rm->req_used ? i : MAX(i, rm->opts.ops_max);
}

static uint64_t next_tick(const struct remote *rm, uint64_t now)
{
	uint64_t at = now + TICK_NS;

	for (uint32_t i = 0; (i = used_from(rm, i)) < rm->req_count; i++) {
		const struct pst_op *op = rm->reqs[i].op;
		uint64_t end = op ? op->deadline_ns : 0;

		if (!end)
			continue;
		if (end <= now)
			end += rm->opts.grace_ns;
		if (end > now)
			at = MIN(at, end + 1);
	}
	return at;
}

static void tick(struct loop_timer *t)
{
	struct remote *rm = container_of(t, struct remote, tick);
	uint64_t now = loop_now(rm->loop);

	/* Whatever their ends do to others: more may come into use, too. */
	for (uint32_t i = 0; (i = used_from(rm, i)) < rm->req_count; i++)
		if (rm->reqs[i].op)
			rreq_tick(&rm->reqs[i], now);
	(void)loop_timer_arm(rm->loop, t, next_tick(rm, now));
	listen_for_life(rm, now);
	remote_probe(rm);
	handles_pump(rm);
	remote_pump(rm);
}

/* --- open and close --- */

static void opts_fill(struct remote_opts *o)
{
	static const unsigned bufs[WIRE_BUF_CLASSES] = {64, 16, 8, 8, 1};
	unsigned any = 0;

	o->ops_max = o->ops_max ? o->ops_max : 256;
	o->slots = o->slots ? o->slots : 128;
	o->connect_ns = o->connect_ns ? o->connect_ns : 10 * NSEC_PER_SEC;
	o->reconnect_ns = o->reconnect_ns ? o->reconnect_ns : 120 * NSEC_PER_SEC;
	o->version = o->version ? o->version : WIRE_VERSION;
	o->grace_ns = o->grace_ns ? o->grace_ns : 2 * NSEC_PER_SEC;
	o->ping_ns = o->ping_ns ? o->ping_ns : 5 * NSEC_PER_SEC;
	o->fabric.dead_ns = o->fabric.dead_ns ? o->fabric.dead_ns : 15 * NSEC_PER_SEC;
	for (unsigned i = 0; i < WIRE_BUF_CLASSES; i++)
		any += o->bufs[i];
	if (!any)
		memcpy(o->bufs, bufs, sizeof(bufs));
}

/* All strings of the options in one piece of memory. */
static int opts_copy(struct remote *rm, const struct remote_opts *from)
{
	size_t len = 1;
	char *at;

	rm->opts = *from;
	for (unsigned i = 0; i < from->at_count; i++)
		len += strlen(from->at[i].provider) + strlen(from->at[i].addr) + 2;
	len += (from->cred ? strlen(from->cred) : 0) + (from->name ? strlen(from->name) : 32) + 2;
	len += from->fabric.tls_name ? strlen(from->fabric.tls_name) + 1 : 0;
	len += from->fabric.provider ? strlen(from->fabric.provider) + 1 : 0;
	at = rm->strings = mem_alloc(len);
	if (!at)
		return -ENOMEM;
	rm->strings_len = len;
	for (unsigned i = 0; i < from->at_count; i++) {
		rm->opts.at[i].provider = at;
		at = stpcpy(at, from->at[i].provider) + 1;
		rm->opts.at[i].addr = at;
		at = stpcpy(at, from->at[i].addr) + 1;
	}
	if (from->cred) {
		rm->opts.cred = at;
		at = stpcpy(at, from->cred) + 1;
	}
	if (from->fabric.tls_name) {
		rm->opts.fabric.tls_name = at;
		at = stpcpy(at, from->fabric.tls_name) + 1;
	}
	if (from->fabric.provider) {
		rm->opts.fabric.provider = at;
		at = stpcpy(at, from->fabric.provider) + 1;
	}
	rm->opts.name = at;
	if (from->name)
		(void)stpcpy(at, from->name);
	else
		(void)sprintf(at, "process %d", (int)getpid());
	opts_fill(&rm->opts);
	rm->flags_ok = rm->opts.volatile_ok ? UINT32_MAX : ~PST_F_VOLATILE;
	return 0;
}

static void remote_free(struct remote *rm)
{
	if (rm->bufs.region)
		wire_bufs_done(&rm->bufs);
	if (rm->seal_bufs.region)
		wire_bufs_done(&rm->seal_bufs);
	handles_free(rm);
	mem_free(rm->reqs);
	mem_free(rm->slot_stack);
	mem_free(rm->slot);
	mem_free_secret(rm->strings, rm->strings_len); /* the token is among them */
	net_tls_free(rm->opts.tls);
	mem_free_secret(rm, sizeof(*rm));
}

static int remote_alloc(struct remote *rm)
{
	int rc = wire_bufs_init(&rm->bufs, MEM_SHARED, rm->opts.bufs);

	if (rc < 0)
		return rc;
	rc = handles_alloc(rm);
	if (rc < 0)
		return rc;
	rm->req_count = rm->opts.ops_max + REMOTE_TASKS;
	rm->reqs = mem_calloc(rm->req_count, sizeof(*rm->reqs));
	rm->slot_stack = mem_calloc(rm->opts.slots, sizeof(*rm->slot_stack));
	rm->slot = mem_calloc(rm->opts.slots, sizeof(*rm->slot));
	if (!rm->reqs || !rm->slot_stack || !rm->slot)
		return -ENOMEM;
	for (uint32_t i = 0; i < rm->req_count; i++) {
		struct rreq *r = &rm->reqs[i];

		r->rm = rm;
		r->id = i;
		r->win.closed = closed;
		list_init(&r->wait);
		r->reserved = i >= rm->opts.ops_max;
		if (r->reserved)
			rm->h.task[i - rm->opts.ops_max].r = r;
	}
	return 0;
}

static const struct store_ops remote_ops;

static struct remote *remote_new(struct loop *loop, const struct remote_opts *opts)
{
	struct remote *rm = mem_calloc(1, sizeof(*rm));

	if (!rm)
		return NULL;
	rm->loop = rm->store.loop = loop;
	rm->store.ops = &remote_ops;
	rm->tick.fired = tick;
	rm->soon.fired = soon;
	list_init(&rm->wait);
	if (opts_copy(rm, opts) < 0 || remote_alloc(rm) < 0) {
		rm->opts.tls = NULL;
		remote_free(rm);
		return NULL;
	}
	if (opts->seed) {
		rng_seed(&rm->rng, opts->seed);
		for (unsigned i = 0; i < 16; i++)
			rm->client[i] = (uint8_t)rng_next(&rm->rng);
	} else {
		uint64_t seed;

		pst_assert(getrandom(&seed, sizeof(seed), 0) == sizeof(seed));
		pst_assert(getrandom(rm->client, sizeof(rm->client), 0) == sizeof(rm->client));
		rng_seed(&rm->rng, seed);
	}
	return rm;
}

static bool any_active(const struct remote *rm)
{
	for (uint32_t i = 0; i < rm->req_count; i++)
		if (rm->reqs[i].state != RREQ_FREE)
			return true;
	return false;
}

/* Nothing is under way: takes the channel and all else down. */
static int remote_end(struct remote *rm)
{
	rm->closing = true;
	for (uint32_t i = 0; i < rm->req_count; i++) {
		struct pst_op *op = rm->reqs[i].op;

		if (op && (op == &rm->probe || handles_is_task(rm, op)))
			rreq_end(&rm->reqs[i], -ECANCELED); /* nobody will use the slot */
	}
	remote_stop(rm);
	while (any_active(rm) || rm->kicked)
		(void)loop_turn(rm->loop, 10 * NSEC_PER_MSEC);
	loop_timer_disarm(rm->loop, &rm->tick);
	loop_timer_disarm(rm->loop, &rm->soon);
	remote_free(rm);
	return 0;
}

static int remote_close(struct store *s)
{
	struct remote *rm = remote_of(s);
	int rc = 0;

	for (uint32_t i = 0; i < rm->req_count; i++) {
		const struct pst_op *op = rm->reqs[i].op;

		pst_assert(!op || op == &rm->probe || handles_is_task(rm, op));
	}
	if (rm->vol_count || rm->vol_many) {
		struct pst_op op = {.opcode = PST_OP_FLUSH};

		rc = store_run(s, &op);
	}
	(void)remote_end(rm);
	return rc;
}

static const struct store_ops remote_ops = {
        .name = "remote",
        .submit = remote_submit,
        .cancel = remote_cancel,
        .close = remote_close,
};

bool store_is_remote(const struct store *s)
{
	return s->ops == &remote_ops;
}

int remote_open(struct store **ret_store, struct loop *loop, const struct remote_opts *opts,
                struct pst_err *err)
{
	struct remote *rm = remote_new(loop, opts);
	uint64_t until;
	int rc;

	pst_assert(opts->at_count && opts->at_count <= ARRAY_LEN(opts->at));
	for (unsigned i = 0; i < opts->at_count; i++)
		pst_assert(!opts->at[i].offered || (i && i + 1 == opts->at_count));
	if (!rm)
		return err_set(err, -ENOMEM, "no memory for a connection");
	(void)loop_timer_arm(loop, &rm->tick, loop_now(loop) + TICK_NS);
	remote_start(rm);
	until = loop_now(loop) + rm->opts.connect_ns; /* starting libfabric doesn't count */
	while (rm->state != REMOTE_UP && rm->state != REMOTE_DEAD &&
	       loop_now(loop) < until + rm->blocked_ns)
		(void)loop_turn(loop,
		                MIN(until + rm->blocked_ns - loop_now(loop), 100 * NSEC_PER_MSEC));
	if (rm->state == REMOTE_UP) {
		*ret_store = &rm->store;
		return 0;
	}
	rc = rm->error ? rm->error : -ETIMEDOUT;
	if (rm->state == REMOTE_HELLO)
		(void)err_set(
		        err, rc,
		        "%s: somebody is there over %s, and says no welcome: a server that is "
		        "stopped or too busy, or no Penstock server",
		        rm->opts.at[rm->at].addr, rm->opts.at[rm->at].provider);
	else if (rm->text[0])
		(void)err_set(err, rc, "%s", rm->text);
	else
		(void)err_set(err, rc, "%s: the server does not answer", rm->opts.at[rm->at].addr);
	rm->opts.tls = NULL; /* still the caller's */
	(void)remote_end(rm);
	return rc;
}

void remote_figures(struct store *s, struct remote_figures *ret_f)
{
	struct remote *rm = remote_of(s);

	*ret_f = rm->fig;
	ret_f->inflight = rm->inflight;
	ret_f->session = rm->session;
	ret_f->epoch = rm->epoch;
	for (uint32_t i = 0; i < rm->req_count; i++)
		ret_f->waiting += rm->reqs[i].state == RREQ_WAIT;
	if (rm->state == REMOTE_UP) {
		ret_f->provider = rm->opts.at[rm->at].provider;
		ret_f->addr = rm->opts.at[rm->at].addr;
		ret_f->traits = rm->chan->traits;
	}
}

void remote_cut(struct store *s)
{
	remote_bad(remote_of(s), "cut by a test");
}

struct chan *remote_chan(struct store *s)
{
	return remote_of(s)->chan;
}
