/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rings of a device's own. SQPOLL (a kernel thread takes submissions, so that submitting costs no
 * system call) and IOPOLL (completions are looked for, not announced) are properties of a whole
 * ring, and the loop's ring can have neither: it must sleep, and carry more than reads and writes.
 *
 * The loop drives such a ring with a poller, which keeps the loop awake while requests are in
 * flight. That is what the one who asks for polling asks for; without requests the loop sleeps.
 */
#include "bdev/uring.h"

struct uring_ring {
	struct io_uring ring;
	struct ring_slots slots;
	struct loop_poller poller;
	struct loop *loop;
	unsigned inflight, inflight_max;
	bool iopoll;
};

static int ring_reap(struct uring_ring *r)
{
	struct io_uring_cq *cq = &r->ring.cq;
	unsigned head = *cq->khead; /* only we write it */
	const unsigned tail = io_uring_smp_load_acquire(cq->ktail);
	int count = 0;

	for (; head != tail; count++) {
		const struct io_uring_cqe *cqe = &cq->cqes[head & *cq->kring_mask];
		struct loop_io *io = io_uring_cqe_get_data(cqe);
		const int res = cqe->res;
		const uint32_t flags = cqe->flags;

		/* Pairs with the kernel's acquire before it fills the slot again. */
		io_uring_smp_store_release(cq->khead, ++head);
		r->inflight--;
		io->done(io, res, flags);
	}
	return count;
}

static int ring_poll(struct loop_poller *p)
{
	struct uring_ring *r = container_of(p, struct uring_ring, poller);

	if (!r->inflight)
		return 0;
	/* Errors of the call itself (EINTR, EAGAIN, EBUSY) leave the entries queued: tried again in
	 * the next turn. With IOPOLL the system call is what looks at the device. */
	if (io_uring_sq_ready(&r->ring))
		io_uring_submit(&r->ring);
	else if (r->iopoll && !io_uring_cq_ready(&r->ring))
		io_uring_get_events(&r->ring);
	return ring_reap(r);
}

static bool ring_may_sleep(struct loop_poller *p)
{
	return !container_of(p, struct uring_ring, poller)->inflight;
}

struct io_uring_sqe *uring_ring_sqe(struct uring_ring *r, struct loop_io *io)
{
	struct io_uring_sqe *sqe;

	if (r->inflight >= r->inflight_max)
		return NULL;
	sqe = io_uring_get_sqe(&r->ring);
	if (!sqe)
		return NULL; /* the next poll submits */
	io_uring_sqe_set_data(sqe, io);
	r->inflight++;
	return sqe;
}

struct ring_slots *uring_ring_slots(struct uring_ring *r)
{
	return &r->slots;
}

int uring_ring_new(struct uring_ring **ret_ring, struct loop *loop,
                   const struct uring_ring_opts *opts, struct pst_err *err)
{
	struct io_uring_params p = {.flags = IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL};
	struct uring_ring *r = mem_calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return err_set(err, -ENOMEM, "no memory for a ring");
	p.flags |= opts->iopoll ? IORING_SETUP_IOPOLL : 0;
	p.flags |= opts->sqpoll ? IORING_SETUP_SQPOLL : 0;
	p.sq_thread_idle = opts->sqpoll_idle_ms;
	rc = io_uring_queue_init_params(opts->entries, &r->ring, &p);
	if (rc < 0) {
		mem_free(r);
		return err_set(err, rc, "cannot set up an io_uring with%s%s: %s",
		               opts->sqpoll ? " SQPOLL" : "", opts->iopoll ? " IOPOLL" : "",
		               strerror(-rc));
	}
	ring_slots_init(&r->slots, &r->ring);
	r->loop = loop;
	r->iopoll = opts->iopoll;
	r->inflight_max = p.cq_entries;
	r->poller.poll = ring_poll;
	r->poller.may_sleep = ring_may_sleep;
	loop_poller_add(loop, &r->poller);
	*ret_ring = r;
	return 0;
}

void uring_ring_free(struct uring_ring *r)
{
	if (!r)
		return;
	pst_assert(!r->inflight);
	loop_poller_del(r->loop, &r->poller);
	ring_slots_done(&r->slots);
	io_uring_queue_exit(&r->ring);
	mem_free(r);
}
