/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client - libpenstock: the public API (include/penstock) over a stack of stores. It owns the loop,
 * the stack, and the requests that calls travel in.
 *
 * Threads. The store and its loop belong to one thread: the reactor's (threaded clients) or the
 * caller's (driven). A call fills a struct request where it is called, and hands it over: by the
 * loop's inbox (threaded) or directly (driven). request_start() and request_end() run on the loop's
 * thread, everything else on the caller's.
 *
 * Requests of asynchronous calls come from their queue's pool, those of blocking calls live on the
 * caller's stack until they ended. Nothing is allocated on the way.
 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "base/base.h"
#include "loop/loop.h"
#include "mem/mem.h"
#include "store/store.h"
#include "penstock/penstock.h"

struct client_mem {
	struct mem_region *region;
	uintptr_t begin;
	size_t len;
};

struct pst_client {
	/* The first byte of a page that a fork wipes in the child: 1 here, 0 there. */
	const _Atomic uint8_t *alive;
	struct loop *loop;
	struct store *store;
	bool threaded, read_only;
	bool slow; /* loop's thread: calls need more than to be submitted, see request_start() */
	uint64_t op_timeout_ns;

	/* The loop's thread only: */
	struct list busy; /* requests that the store would not take yet, in order */
	uint64_t inflight;
	struct loop_poller poller; /* offers them again */
	struct client_mem *mem;    /* sorted by address */
	unsigned mem_count, mem_max, mem_last;

	bool woken; /* by pst_client_wake(), and nobody was told yet */

	/* Any thread: */
	struct loop_msg wake;
	_Atomic bool wake_posted;
	_Atomic uint32_t conts, queues;

	pthread_t thread; /* threaded: the reactor */
	sem_t stop_returned;
	int close_status; /* its last word */
};

struct pst_cont {
	struct pst_client *client;
	uint32_t id;
	uint64_t view;
	_Atomic uint32_t files;
};

struct pst_file {
	struct pst_cont *cont;
	uint64_t ino;
	int flags; /* O_* */
};

struct request {
	struct pst_op op;
	struct pst_client *client;
	struct pst_cq *cq; /* NULL: a blocking call waits on ended */
	void *user_data;
	/* Runs on the loop's thread when the op has ended, before the caller hears of it: copies
	 * results out. Usually NULL. */
	void (*finish)(struct request *r);
	void *out;        /* finish's */
	struct iovec iov; /* for calls that take one buffer */
	struct pst_mut mut[2];
	struct loop_msg msg;
	struct list link;          /* in client->busy */
	struct request *next_free; /* in cq's pool */
	_Atomic uint32_t ended;
};

/*
 * A completion queue: a pool of requests, and a ring of those that ended. What each thread does with
 * it stands at the head of cq.c; it is here for the sake of the hot path.
 */
struct pst_cq {
	struct pst_client *client;
	struct request *free; /* those in the caller's hands, last used first: its cache is warm */
	struct request **ring;
	uint32_t depth, ring_mask;
	uint32_t out; /* taken from the pool */
	uint32_t head;
	struct request *pool; /* all of them */
	_Atomic int eventfd;  /* -1: none */
	_Alignas(64) _Atomic uint32_t tail;
	_Atomic uint32_t waiting;
	_Atomic uint32_t signalled; /* the eventfd was written since the ring was last empty */
};

/* --- request.c --- */

/* 0, or -EOWNERDEAD in a forked child. First thing in every public call. */
static inline int client_check(const struct pst_client *c)
{
	return likely(atomic_load_explicit(c->alive, memory_order_relaxed)) ? 0 : -EOWNERDEAD;
}

/* A request for a blocking call, on the caller's stack: an op that is all zero but for @opcode. */
void request_init(struct request *r, struct pst_client *c, enum pst_opcode opcode);
/* The same for an asynchronous call, from the pool of @cq. 0, -EAGAIN, -EOWNERDEAD, and -EINVAL
 * when @cq is another client's. */
int request_get(struct request **ret_r, struct pst_client *c, struct pst_cq *cq, void *user_data,
                enum pst_opcode opcode);
/* Gives a request back that was not submitted. */
void request_put(struct request *r);
/* Submits if @rc is 0, else gives the request back: the end of every asynchronous call. */
int request_go(struct request *r, int rc);
/* On the loop's thread. */
void request_start(struct request *r);
void request_end(struct request *r);
/* To the loop's thread. */
void request_post(struct request *r);
/* Hands over and waits; returns the op's status. */
int request_wait(struct request *r);
void client_poller_start(struct pst_client *c); /* on the loop's thread */

/* Hands over. Then the request belongs to the library until its event was polled. */
static inline void request_submit(struct request *r)
{
	if (r->client->threaded)
		request_post(r);
	else
		request_start(r);
}

/* From the pool and back. cq_take: NULL: all are out. */
static inline struct request *cq_take(struct pst_cq *cq)
{
	struct request *r = cq->free;

	if (likely(r)) {
		cq->free = r->next_free;
		cq->out++;
	}
	return r;
}
static inline void cq_give(struct pst_cq *cq, struct request *r)
{
	r->next_free = cq->free;
	cq->free = r;
	cq->out--;
}

/* As request_get(), for reads and writes: the op is as the last call left it, but for what every op
 * needs; the caller sets every field that its opcode takes. */
static inline int request_get_io(struct request **ret_r, struct pst_client *c, struct pst_cq *cq,
                                 void *user_data, enum pst_opcode opcode)
{
	struct request *r;
	int rc = client_check(c);

	if (unlikely(rc < 0))
		return rc;
	if (unlikely(!cq || cq->client != c))
		return -EINVAL;
	r = cq_take(cq);
	if (unlikely(!r))
		return -EAGAIN;
	r->op.opcode = (uint8_t)opcode;
	r->user_data = user_data;
	r->finish = NULL;
	*ret_r = r;
	return 0;
}

/* Sends the op into @cont. */
static inline void request_into(struct request *r, const struct pst_cont *cont)
{
	r->op.cont = cont->id;
	r->op.view = cont->view;
}

/* One buffer as the op's iov. */
static inline void request_buffer(struct request *r, const void *buf, size_t len, uint64_t off)
{
	r->iov.iov_base = (void *)(uintptr_t)buf;
	r->iov.iov_len = len;
	r->op.iov = &r->iov;
	r->op.iov_count = 1;
	r->op.off = off;
	r->op.len = len;
}

/* Checks a vector (count, sum) and makes it the op's iov: 0, -EINVAL, -E2BIG. */
int request_vector(struct request *r, const struct iovec *iov, unsigned count, uint64_t off);

/* --- cq.c --- */

void cq_wake(struct pst_cq *cq); /* its waiter or its eventfd, after the tail was moved */

/* @r has ended: to the queue's thread. On the loop's. */
static inline void cq_push(struct pst_cq *cq, struct request *r)
{
	uint32_t tail = atomic_load_explicit(&cq->tail, memory_order_relaxed);

	cq->ring[tail & cq->ring_mask] = r;
	if (cq->client->threaded) {
		atomic_store(&cq->tail, tail + 1); /* with cq_drain, cq_sleep, poll_threaded */
		cq_wake(cq);
	} else {
		atomic_store_explicit(&cq->tail, tail + 1, memory_order_relaxed); /* one thread */
	}
}

/* --- mem.c: on the loop's thread --- */

static inline bool client_mem_holds(const struct client_mem *m, uintptr_t addr, size_t len)
{
	return addr - m->begin < m->len && len <= m->len - (addr - m->begin);
}
struct mem_region *client_mem_search(struct pst_client *c, uintptr_t addr, size_t len);
/* The region that holds all of [addr, addr + len), or NULL; c->mem_count is not 0. */
static inline struct mem_region *client_mem_find(struct pst_client *c, const void *addr, size_t len)
{
	const struct client_mem *m = &c->mem[c->mem_last];

	if (likely(client_mem_holds(m, (uintptr_t)addr, len)))
		return m->region;
	return client_mem_search(c, (uintptr_t)addr, len);
}
void client_mem_free_all(struct pst_client *c);

/* --- list.c: lists by pages, called back on the caller's thread --- */

/* One entry, as collected on the loop's thread. What does not apply is zero. */
struct list_entry_out {
	const char *name; /* followed by a NUL */
	uint32_t name_len;
	const void *val;
	uint32_t val_len;
	uint64_t id;
	uint8_t type; /* DT_* */
	struct pst_oid oid;
	const struct pst_attr *attr;
	const struct pst_cont_info *cont;
	const struct pst_snap_info *snap;
};
/*
 * Runs the list op of @r again and again, each time after the last name it gave, and calls @fn for
 * each entry in between. @start: where to begin, or NULL. 0 or the op's error, -ENOMEM.
 */
int list_run(struct request *r, const void *start, uint32_t start_len,
             bool (*fn)(void *arg, const struct list_entry_out *e), void *arg);

/* --- client.c --- */

/* Makes the store on a loop; runs on the loop's thread, before its first turn. */
typedef int client_make_store(struct store **ret_store, struct loop *loop, void *arg,
                              struct pst_err *err);
/* As pst_client_open(), over any store; for tests and tools. */
int client_open_over(struct pst_client **ret_client, client_make_store *make, void *arg,
                     const struct pst_client_opts *opts, struct pst_err *err);
/* Runs @fn on the loop's thread and returns what it returned. Blocks. */
int client_call(struct pst_client *c, int (*fn)(struct pst_client *c, void *arg), void *arg);

#endif
