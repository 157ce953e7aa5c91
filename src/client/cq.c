/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cq - completion queues: a pool of requests, and a ring of those that ended.
 *
 * The pool and the ring's head belong to the queue's thread, the ring's tail to the loop's. A
 * request leaves the pool by a call and returns by a poll, so at most `depth` are out and the ring,
 * which has room for them all, never overflows.
 *
 * Sleeping: a waiter sets `waiting`, looks at the tail again, and sleeps on it; the loop moves the
 * tail, looks at `waiting`, and wakes. Either the waiter sees the new tail or the loop sees the
 * waiter: all four are sequentially consistent. `signalled` and the eventfd work in the same way.
 */
#include "client/client.h"

#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int pst_cq_new(struct pst_cq **ret_cq, struct pst_client *client, uint32_t depth)
{
	struct pst_cq *cq;
	uint32_t ring_len = 1;
	int rc = client_check(client);

	if (rc < 0)
		return rc;
	if (depth == 0 || depth > PST_CQ_DEPTH_MAX)
		return -EINVAL;
	while (ring_len < depth)
		ring_len *= 2;
	cq = mem_alloc_aligned(64, ALIGN_UP(sizeof(*cq), 64));
	if (!cq)
		return -ENOMEM;
	cq->client = client;
	cq->depth = depth;
	cq->ring_mask = ring_len - 1;
	atomic_init(&cq->eventfd, -1);
	cq->ring = mem_calloc(ring_len, sizeof(*cq->ring));
	cq->pool = mem_alloc_aligned(64, ALIGN_UP(depth * sizeof(*cq->pool), 64));
	if (!cq->ring || !cq->pool) {
		mem_free(cq->ring);
		mem_free(cq->pool);
		mem_free(cq);
		return -ENOMEM;
	}
	for (uint32_t i = depth; i-- > 0;) {
		struct request *r = &cq->pool[i];

		request_init(r, client, PST_OP_NONE);
		r->cq = cq;
		r->next_free = cq->free;
		cq->free = r;
	}
	atomic_fetch_add(&client->queues, 1);
	*ret_cq = cq;
	return 0;
}

static int nothing(struct pst_client *c, void *arg)
{
	return 0;
}

int pst_cq_free(struct pst_cq *cq)
{
	int rc;

	if (!cq)
		return 0;
	rc = client_check(cq->client);
	if (rc < 0)
		return rc;
	if (cq->out != atomic_load_explicit(&cq->tail, memory_order_acquire) - cq->head)
		return -EBUSY;
	/* The loop may still be inside cq_push(), between moving the tail and waking: wait until it
	 * has come back to its inbox. */
	rc = client_call(cq->client, nothing, NULL);
	pst_assert(rc == 0);
	if (cq->eventfd >= 0)
		close(cq->eventfd);
	atomic_fetch_sub(&cq->client->queues, 1);
	mem_free(cq->ring);
	mem_free(cq->pool);
	mem_free(cq);
	return 0;
}

void cq_wake(struct pst_cq *cq)
{
	int fd;

	if (atomic_load(&cq->waiting)) /* with cq_sleep */
		syscall(SYS_futex, &cq->tail, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	fd = atomic_load_explicit(&cq->eventfd, memory_order_acquire);
	if (fd >= 0 && !atomic_exchange(&cq->signalled, 1)) {
		uint64_t one = 1;
		ssize_t n = write(fd, &one, sizeof(one));

		pst_assert(n == sizeof(one)); /* only a counter of 2^64 - 1 could refuse */
	}
}

/* Takes what is there. */
static uint32_t cq_drain(struct pst_cq *cq, struct pst_event *events, uint32_t max)
{
	uint32_t tail = atomic_load(&cq->tail); /* with cq_push */
	uint32_t n = MIN(tail - cq->head, max);

	for (uint32_t i = 0; i < n; i++) {
		struct request *r = cq->ring[cq->head++ & cq->ring_mask];

		events[i].user_data = r->user_data;
		events[i].status = r->op.status;
		events[i].index = r->op.ret_index;
		events[i].len = r->op.status ? 0 : r->op.ret_len;
		events[i].off = r->op.status ? 0 : r->op.ret_off;
		cq_give(cq, r);
	}
	return n;
}

/* The next push writes the eventfd again; look at the ring once more after this. */
static void cq_rearm(struct pst_cq *cq)
{
	if (cq->eventfd < 0 || !atomic_load_explicit(&cq->signalled, memory_order_relaxed))
		return;
	atomic_store(&cq->signalled, 0); /* with cq_wake */
}

static void cq_sleep(struct pst_cq *cq, uint64_t timeout_ns)
{
	struct timespec ts = {.tv_sec = (time_t)(timeout_ns / NSEC_PER_SEC),
	                      .tv_nsec = (long)(timeout_ns % NSEC_PER_SEC)};
	uint32_t seen;

	atomic_store(&cq->waiting, 1); /* with cq_wake */
	seen = atomic_load(&cq->tail);
	if (seen == cq->head)
		syscall(SYS_futex, &cq->tail, FUTEX_WAIT_PRIVATE, seen,
		        timeout_ns == UINT64_MAX ? NULL : &ts, NULL, 0);
	atomic_store_explicit(&cq->waiting, 0, memory_order_relaxed);
}

static int poll_threaded(struct pst_cq *cq, struct pst_event *events, uint32_t max,
                         uint64_t timeout_ns)
{
	uint64_t until = 0;
	uint32_t n;

	for (;;) {
		uint64_t left = timeout_ns;

		n = cq_drain(cq, events, max);
		if (n == 0) {
			cq_rearm(cq);
			n = cq_drain(cq, events, max); /* what came before the rearm */
		}
		if (n > 0 || timeout_ns == 0)
			return (int)n;
		if (timeout_ns != UINT64_MAX) {
			uint64_t now = clock_mono_ns();

			if (until == 0)
				until = now + timeout_ns;
			if (now >= until)
				return 0;
			left = until - now;
		}
		cq_sleep(cq, left);
	}
}

static int poll_driven(struct pst_cq *cq, struct pst_event *events, uint32_t max,
                       uint64_t timeout_ns)
{
	struct loop *loop = cq->client->loop;
	uint64_t until = 0;
	uint32_t n;

	for (;;) {
		/* Events that are there already don't wait for the next turn, but their buffers'
		 * owner wants others to go on meanwhile: a turn without sleep. */
		bool some = atomic_load_explicit(&cq->tail, memory_order_relaxed) != cq->head;
		uint64_t left = some ? 0 : timeout_ns;
		int rc;

		if (left != 0 && left != UINT64_MAX) {
			uint64_t now = clock_mono_ns();

			if (until == 0)
				until = now + timeout_ns;
			left = now >= until ? 0 : until - now;
		}
		rc = loop_turn(loop, left);
		if (rc < 0)
			return rc;
		n = cq_drain(cq, events, max);
		if (n > 0 || left == 0 || cq->client->woken) {
			cq->client->woken = false;
			return (int)n;
		}
	}
}

int pst_cq_poll(struct pst_cq *cq, struct pst_event *events, uint32_t max, uint64_t timeout_ns)
{
	int rc = client_check(cq->client);

	if (unlikely(rc < 0))
		return rc;
	if (unlikely(max == 0))
		return -EINVAL;
	if (max > INT32_MAX)
		max = INT32_MAX;
	if (cq->client->threaded)
		return poll_threaded(cq, events, max, timeout_ns);
	return poll_driven(cq, events, max, timeout_ns);
}

uint32_t pst_cq_pending(const struct pst_cq *cq)
{
	return cq->out;
}

int pst_cq_eventfd(struct pst_cq *cq, int *ret_fd)
{
	int fd = cq->eventfd, rc = client_check(cq->client);

	if (rc < 0)
		return rc;
	if (!cq->client->threaded)
		return -ENOTSUP;
	if (fd < 0) {
		/* Readable from the start: events may have come before there was a descriptor. */
		fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
		if (fd < 0)
			return -errno;
		atomic_store(&cq->signalled, 1);
		atomic_store_explicit(&cq->eventfd, fd, memory_order_release);
	}
	*ret_fd = fd;
	return 0;
}
