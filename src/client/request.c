/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * request - the way of a call: filled by the caller, started on the loop's thread, ended there, and
 * back. This is the hot path: every 4 KiB read of an application comes through here twice.
 *
 * 1. A request is in one place at a time: the caller's hands, the loop's inbox, client->busy, the
 *    store, its queue's ring.
 * 2. The store sees requests in the order in which one thread submitted them: while client->busy
 *    holds any, new ones go to its end.
 */
#include "client/client.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Up to where an op is zeroed for the next call; what follows is the store's. */
#define OP_CLEAR_BYTES offsetof(struct pst_op, link)

/* Ops that change something, for clients opened read-only. */
static bool op_mutates(uint8_t opcode)
{
	switch (opcode) {
	case PST_OP_CONT_CREATE:
	case PST_OP_CONT_SET:
	case PST_OP_CONT_DESTROY:
	case PST_OP_SNAP_CREATE:
	case PST_OP_SNAP_DESTROY:
	case PST_OP_WRITE:
	case PST_OP_BATCH:
	case PST_OP_CREATE:
	case PST_OP_MKDIR:
	case PST_OP_SYMLINK:
	case PST_OP_LINK:
	case PST_OP_UNLINK:
	case PST_OP_RMDIR:
	case PST_OP_RENAME:
	case PST_OP_SETATTR:
	case PST_OP_SETXATTR:
	case PST_OP_REMOVEXATTR:
	case PST_OP_FILE_WRITE:
		return true;
	default:
		return false;
	}
}

static void op_done(struct pst_op *op);

/* --- the caller's side --- */

void request_init(struct request *r, struct pst_client *c, enum pst_opcode opcode)
{
	memset(&r->op, 0, OP_CLEAR_BYTES);
	r->op.opcode = (uint8_t)opcode;
	r->op.done = op_done;
	r->client = c;
	r->cq = NULL;
	r->finish = NULL;
	atomic_init(&r->ended, 0);
}

int request_get(struct request **ret_r, struct pst_client *c, struct pst_cq *cq, void *user_data,
                enum pst_opcode opcode)
{
	int rc = request_get_io(ret_r, c, cq, user_data, opcode);

	if (rc < 0)
		return rc;
	memset(&(*ret_r)->op, 0, OP_CLEAR_BYTES);
	(*ret_r)->op.opcode = (uint8_t)opcode;
	(*ret_r)->op.done = op_done;
	return 0;
}

void request_put(struct request *r)
{
	if (r->cq)
		cq_give(r->cq, r);
}

int request_go(struct request *r, int rc)
{
	if (likely(rc == 0))
		request_submit(r);
	else
		request_put(r);
	return rc;
}

int request_vector(struct request *r, const struct iovec *iov, unsigned count, uint64_t off)
{
	uint64_t len = 0;

	if (count == 0 || count > IOV_MAX)
		return -EINVAL;
	for (unsigned i = 0; i < count; i++) {
		if (iov[i].iov_len > PST_IO_MAX)
			return -E2BIG;
		len += iov[i].iov_len;
	}
	if (len > PST_IO_MAX)
		return -E2BIG;
	r->op.iov = iov;
	r->op.iov_count = count;
	r->op.off = off;
	r->op.len = len;
	return 0;
}

static void start_msg(struct loop_msg *m)
{
	request_start(container_of(m, struct request, msg));
}

void request_post(struct request *r)
{
	r->msg.run = start_msg;
	loop_post(r->client->loop, &r->msg);
}

static void wait_ended(struct request *r)
{
	while (atomic_load_explicit(&r->ended, memory_order_acquire) == 0) /* with wake_ended */
		syscall(SYS_futex, &r->ended, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

int request_wait(struct request *r)
{
	struct pst_client *c = r->client;
	int rc = client_check(c);

	if (rc < 0)
		return rc;
	request_submit(r);
	if (c->threaded) {
		pst_assert(!pthread_equal(c->thread, pthread_self())); /* for itself */
		wait_ended(r);
	} else {
		while (!atomic_load_explicit(&r->ended, memory_order_relaxed)) {
			rc = loop_turn(c->loop, UINT64_MAX);
			pst_assert(rc >= 0); /* the op is the store's: there is no way back */
		}
	}
	return r->op.status;
}

/* --- the loop's side --- */

static void wake_ended(struct request *r)
{
	struct pst_client *c = r->client;
	/* The waiter may return, and its stack frame go, as soon as it sees 1: only the address is
	 * used after that, and a wake-up at an address that nobody waits at is harmless. */
	_Atomic uint32_t *ended = &r->ended;

	atomic_store_explicit(ended, 1, memory_order_release); /* with wait_ended */
	if (c->threaded)
		syscall(SYS_futex, ended, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static inline void end(struct request *r)
{
	if (unlikely(r->finish))
		r->finish(r);
	if (likely(r->cq))
		cq_push(r->cq, r);
	else
		wake_ended(r);
}

void request_end(struct request *r)
{
	end(r);
}

static void op_done(struct pst_op *op)
{
	struct request *r = container_of(op, struct request, op);

	r->client->inflight--;
	end(r);
}

/* False when the store is busy. */
static inline bool try(struct pst_client *c, struct request *r)
{
	enum pst_outcome out = store_submit(c->store, &r->op);

	if (likely(out == PST_QUEUED))
		c->inflight++;
	else if (out == PST_DONE)
		end(r);
	else
		return false;
	return true;
}

/* What makes the way of a call longer than that of nearly all. */
static void slow_update(struct pst_client *c)
{
	c->slow = c->read_only || c->op_timeout_ns || !list_empty(&c->busy);
}

static void start_slow(struct pst_client *c, struct request *r)
{
	struct pst_op *op = &r->op;

	if (c->read_only && op_mutates(op->opcode)) {
		op->status = -EROFS;
		end(r);
		return;
	}
	/* But for those that wait for others, and blocking calls with a deadline of their own. */
	if (c->op_timeout_ns && op->opcode != PST_OP_WATCH && (r->cq || !op->deadline_ns))
		op->deadline_ns = loop_now(c->loop) + c->op_timeout_ns;
	if (list_empty(&c->busy) && try(c, r))
		return;
	list_push(&c->busy, &r->link); /* 2. */
	slow_update(c);
}

void request_start(struct request *r)
{
	struct pst_client *c = r->client;
	struct pst_op *op = &r->op;

	op->region = NULL;
	if (c->mem_count && op->iov_count == 1)
		op->region = client_mem_find(c, op->iov->iov_base, op->iov->iov_len);
	if (unlikely(c->slow)) {
		start_slow(c, r);
	} else if (unlikely(!try(c, r))) {
		list_push(&c->busy, &r->link);
		slow_update(c);
	}
}

/* Offers the store again what it would not take. */
static int busy_poll(struct loop_poller *p)
{
	struct pst_client *c = container_of(p, struct pst_client, poller);
	int taken = 0;

	while (!list_empty(&c->busy)) {
		struct request *r = list_first(&c->busy, struct request, link);

		list_del(&r->link);
		if (!try(c, r)) {
			list_push_front(&c->busy, &r->link);
			break;
		}
		taken++;
	}
	slow_update(c);
	return taken;
}

/* With nothing of ours in the store, no completion will wake the loop to try again. */
static bool busy_may_sleep(struct loop_poller *p)
{
	struct pst_client *c = container_of(p, struct pst_client, poller);

	return list_empty(&c->busy) || c->inflight > 0;
}

void client_poller_start(struct pst_client *c)
{
	list_init(&c->busy);
	slow_update(c);
	c->poller.poll = busy_poll;
	c->poller.may_sleep = busy_may_sleep;
	loop_poller_add(c->loop, &c->poller);
}
