/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fd - watched file descriptors: one one-shot poll request each, renewed after every ready(). The
 * kernel looks at the descriptor when a request is armed, which makes the watch level-triggered.
 * An edge-triggered watch has one multishot request, which costs nothing to renew: for sockets, that
 * are read until they are empty anyway. The kernel may end it (when the completion queue overflows);
 * then it is armed again, and looks again, so that no edge is lost.
 *
 * Life of a loop_fd:
 *
 *   loop_fd_add -> armed -> (completion) -> ready() -> armed ...
 *                    |                         |
 *              loop_fd_del: cancel       loop_fd_del, or no room in the ring
 *                    |                         |
 *                    v                         v
 *            (completion) gone()      on fds_unarmed: fds_run() calls gone(), or arms again
 */
#include <poll.h>

#include "loop/loop_int.h"

static void fd_done(struct loop_io *io, int res, uint32_t cqe_flags);

static bool fd_arm(struct loop_fd *f)
{
	struct io_uring_sqe *sqe = ring_sqe(f->loop, &f->io);

	if (!sqe)
		return false;
	if (f->edge)
		io_uring_prep_poll_multishot(sqe, f->fd, f->events);
	else
		io_uring_prep_poll_add(sqe, f->fd, f->events);
	f->armed = true;
	f->loop->inflight_fds++;
	return true;
}

static void fd_done(struct loop_io *io, int res, uint32_t cqe_flags)
{
	struct loop_fd *f = container_of(io, struct loop_fd, io);

	if (cqe_flags & IORING_CQE_F_MORE) {
		if (!f->closing)
			f->ready(f, (uint32_t)res);
		return;
	}
	f->armed = false;
	f->loop->inflight_fds--;
	if (f->closing) {
		f->gone(f);
		return;
	}
	/* Queued first, so that ready() may delete the watch and even free @f in gone(). */
	list_push(&f->loop->fds_unarmed, &f->link);
	f->ready(f, res < 0 ? POLLNVAL : (uint32_t)res);
}

int fds_run(struct loop *loop)
{
	struct list todo;
	int count = 0;
	struct list *n;

	list_init(&todo);
	list_splice(&todo, &loop->fds_unarmed);
	while ((n = list_pop(&todo))) {
		struct loop_fd *f = list_entry(n, struct loop_fd, link);

		if (f->closing) {
			f->gone(f);
			count++;
		} else if (!fd_arm(f)) {
			list_push(&loop->fds_unarmed, &f->link);
		}
	}
	return count;
}

static int fd_add(struct loop *loop, struct loop_fd *f, uint32_t events, bool edge)
{
	loop_assert(loop);
	pst_assert(!loop->opts.sim);
	f->io.done = fd_done;
	f->loop = loop;
	f->gone = NULL;
	f->events = events;
	f->closing = false;
	f->edge = edge;
	list_init(&f->link);
	return fd_arm(f) ? 0 : -EBUSY;
}

int loop_fd_add(struct loop *loop, struct loop_fd *f, uint32_t events)
{
	return fd_add(loop, f, events, false);
}

int loop_fd_add_edge(struct loop *loop, struct loop_fd *f, uint32_t events)
{
	return fd_add(loop, f, events, true);
}

void loop_fd_del(struct loop *loop, struct loop_fd *f, void (*gone)(struct loop_fd *f))
{
	struct io_uring_sqe *sqe;

	loop_assert(loop);
	pst_assert(!f->closing);
	f->closing = true;
	f->gone = gone;
	if (!f->armed)
		return; /* it is on fds_unarmed */
	sqe = ring_sqe(loop, NULL);
	pst_assert(sqe);
	/* Not poll_remove: that leaves a request alone whose event is just being told, and a
	 * multishot one then lives on. */
	io_uring_prep_cancel(sqe, &f->io, 0);
}
