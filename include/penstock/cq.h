/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * penstock/cq.h - completion queues: how asynchronous calls end.
 *
 * Every call named pst_..._async() takes a queue and a user_data pointer, and promises:
 *
 *   - it returns 0, and then exactly one event with that user_data comes out of the queue; or
 *   - it returns a negative errno value, and no event will come: -EAGAIN when as many calls as the
 *     queue is deep are under way or not yet polled (poll, then call again); -EINVAL and others
 *     that each call names, for arguments that can be refused at once; -EOWNERDEAD in a forked
 *     child.
 *   - It never blocks and allocates nothing.
 *   - Every pointer that it is given (paths, keys, buffers, iovec arrays, places for results)
 *     belongs to the library until the event was polled, unless the call says that it is copied.
 *
 * A queue belongs to one thread at a time: the calls that submit to it and pst_cq_poll() must not
 * run at once (its eventfd may be watched anywhere). Use one queue per thread; they are cheap and
 * share nothing.
 */
#ifndef PENSTOCK_CQ_H
#define PENSTOCK_CQ_H

#include "penstock/types.h"

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

struct pst_client;
struct pst_cq;

/* How one asynchronous call ended. */
struct pst_event {
	void *user_data; /* as given to the call */
	int status;      /* 0 or a negative errno value */
	uint32_t index;  /* batch: which condition did not hold, with a failed status */
	uint64_t len;    /* bytes read, written, or of the value */
	uint64_t off;    /* append: where the data went. File creation and look-up: the inode */
};

#define PST_CQ_DEPTH_MAX 65536

/*
 * pst_cq_new - make a queue for at most @depth calls at a time.
 *
 * Allocates all that those calls will need. -EINVAL: depth 0 or above PST_CQ_DEPTH_MAX. -ENOMEM.
 */
int pst_cq_new(struct pst_cq **ret_cq, struct pst_client *client, uint32_t depth);

/*
 * pst_cq_free - end a queue. Accepts NULL. 0, or -EBUSY when events are still to come (nothing is
 * done then); events that came but were not polled are dropped. Blocks shortly.
 */
int pst_cq_free(struct pst_cq *cq);

/*
 * pst_cq_poll - take events out.
 *
 * @events: room for @max events, filled from the front in the order of completion.
 * @timeout_ns: how long to wait, in nanoseconds, while there is none: 0: don't; UINT64_MAX: until
 *       one comes. A driven client makes progress here, also when events are waiting already
 *       (submission is what makes it cheap to call often).
 *
 * Returns how many events were taken (0: none came in time, or pst_client_wake() was called), or
 * -EINVAL (@max is 0).
 */
int pst_cq_poll(struct pst_cq *cq, struct pst_event *events, uint32_t max, uint64_t timeout_ns);

/*
 * pst_cq_pending - how many calls were taken whose events were not polled yet.
 */
uint32_t pst_cq_pending(const struct pst_cq *cq);

/*
 * pst_cq_eventfd - a descriptor that becomes readable when events come, for the caller's own loop.
 *
 * Made at the first call; closed by pst_cq_free(). When it is readable, read it (8 bytes), and then
 * poll the queue until it is empty. Threaded clients only: a driven one has to be turned anyway
 * (-ENOTSUP). Others: those of eventfd(2).
 */
int pst_cq_eventfd(struct pst_cq *cq, int *ret_fd);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
