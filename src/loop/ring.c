/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ring - the loop's io_uring: set up, submission, waiting and completions.
 *
 * The ring is made for one thread: completions are worked off inside our own io_uring_enter
 * (DEFER_TASKRUN) and not by interrupting the thread, which saves the kernel its locks. Such a ring
 * binds itself to the thread that enables it, so it is created disabled and enabled by the first
 * turn. Kernels before 6.1 get the nearest thing they have.
 *
 * Since deferred completions appear only inside io_uring_enter, a turn that doesn't wait must look
 * at the TASKRUN flag in the shared ring and enter when it is set; the completion queue alone would
 * stay empty for ever.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop/loop_int.h"

/* Completion entries per submission entry: bounds what may be in flight. */
#define CQ_FACTOR 4
/*
 * What callbacks submit goes out in groups of this many, while they go on: completions' callbacks and
 * those of pollers, to which a peer's requests come by the dozen. A device delivers dozens at a time;
 * if all that follows from them waited for the last one's callback, the device would have nothing to
 * do meanwhile: that cost a third of the random reads at depth 32 that four at a time allow.
 */
#define SUBMIT_EARLY 4
/*
 * Completions that one turn works off. Who drives the loop by turns, and submits between them, is in the
 * same place: with all of a batch in one turn `penstock bench` had three quarters of the random reads that
 * it has with eight. Each further turn costs some hundred instructions.
 */
#define REAP_MAX 8

/* Best first. Each is tried when the kernel knows nothing of the one before (-EINVAL). */
static const unsigned setup_flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                IORING_SETUP_SUBMIT_ALL, /* Linux 6.1 */
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL, /* 5.19 */
        0,                                                                               /* 5.11 */
};

static void wake_done(struct loop_io *io, int res, uint32_t cqe_flags)
{
	struct loop *loop = container_of(io, struct loop, wake_io);

	if (!(cqe_flags & IORING_CQE_F_MORE)) {
		loop->wake_armed = false;
		loop->inflight_own--;
	}
}

int ring_open(struct loop *loop, struct pst_err *err)
{
	int r = -EINVAL;

	loop->wake_io.done = wake_done;
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0)
		return err_set(err, -errno, "cannot create an eventfd: %s", strerror(errno));
	for (unsigned i = 0; r == -EINVAL && i < ARRAY_LEN(setup_flags); i++) {
		struct io_uring_params p = {
		        .flags = setup_flags[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP |
		                 IORING_SETUP_CQSIZE,
		        .cq_entries = CQ_FACTOR * loop->opts.ring_entries,
		};

		r = io_uring_queue_init_params(loop->opts.ring_entries, &loop->ring, &p);
		if (!r && !(p.features & IORING_FEAT_EXT_ARG)) {
			io_uring_queue_exit(&loop->ring);
			r = -ENOSYS;
		}
		if (!r)
			loop->inflight_max = p.cq_entries;
	}
	if (r == -ENOSYS)
		return err_set(err, r, "this kernel has no io_uring, or one older than Linux 5.11");
	if (r == -EPERM || r == -EACCES)
		return err_set(err, r,
		               "io_uring is not permitted here (see kernel.io_uring_disabled)");
	if (r < 0)
		return err_set(err, r, "cannot set up an io_uring of %u entries: %s",
		               loop->opts.ring_entries, strerror(-r));
	loop->ring_up = true;
	ring_slots_init(&loop->slots, &loop->ring);
	return 0;
}

void ring_close(struct loop *loop)
{
	if (loop->ring_up)
		ring_slots_done(&loop->slots);
	if (loop->ring_up)
		io_uring_queue_exit(&loop->ring);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	loop->ring_up = false;
	loop->wake_fd = -1;
}

int ring_bind(struct loop *loop)
{
	/* liburing 2.3 declares io_uring_enable_rings() but doesn't export it. */
	return io_uring_register(loop->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

/* Hands what is queued to the kernel; lets it deliver what it holds back. */
static int submit(struct loop *loop)
{
	int r = loop->broken ? loop->broken : io_uring_submit_and_get_events(&loop->ring);

	/* Busy: the completion queue is full, or memory is short. Entries stay queued meanwhile. */
	if (r == -EINTR || r == -EBUSY || (r == -EAGAIN && loop->inflight))
		return 0;
	return MIN(r, 0);
}

struct io_uring_sqe *ring_sqe(struct loop *loop, struct loop_io *io)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);

	if (unlikely(!sqe)) {
		/* Not enabled yet, or broken: there is no one to submit to. */
		if (!loop->bound || loop->failed || submit(loop) < 0)
			return NULL;
		sqe = io_uring_get_sqe(&loop->ring);
		if (!sqe)
			return NULL;
	}
	io_uring_sqe_set_data(sqe, io);
	loop->inflight++;
	loop->inflight_own += !io;
	return sqe;
}

/* A failure leaves them queued, and the next turn meets it again. */
static void submit_early(struct loop *loop)
{
	if (likely(!loop->failed && !loop->broken))
		(void)io_uring_submit(&loop->ring);
}

struct io_uring_sqe *loop_sqe(struct loop *loop, struct loop_io *io)
{
	loop_assert(loop);
	pst_assert_slow(loop->ring_up);
	/* Watched descriptors don't count: most of thousands are silent, and the kernel keeps what
	 * the queue has no room for. */
	if (unlikely(loop->inflight - loop->inflight_fds >= loop->inflight_max))
		return NULL;
	/* All entries before this one are filled in. */
	if (loop->in_turn && io_uring_sq_ready(&loop->ring) >= SUBMIT_EARLY)
		loop_submit(loop);
	return ring_sqe(loop, io);
}

void loop_submit(struct loop *loop)
{
	loop_assert(loop);
	/* Before the first turn there is no one to submit to. */
	if (loop->ring_up && loop->bound && io_uring_sq_ready(&loop->ring))
		submit_early(loop);
}

struct io_uring *loop_ring(struct loop *loop)
{
	return loop->ring_up ? &loop->ring : NULL;
}

struct ring_slots *loop_ring_slots(struct loop *loop)
{
	return loop->ring_up ? &loop->slots : NULL;
}

unsigned loop_ring_inflight(const struct loop *loop)
{
	return loop->inflight - loop->inflight_own;
}

bool ring_ready(const struct loop *loop)
{
	return loop->ring_up && io_uring_cq_ready(&loop->ring);
}

/* Runs the completions that are there now, at most REAP_MAX; the others, and those that their callbacks
 * cause, wait for the next turn. */
static int reap(struct loop *loop)
{
	struct io_uring_cq *cq = &loop->ring.cq;
	unsigned head = *cq->khead; /* only we write it */
	const unsigned tail = io_uring_smp_load_acquire(cq->ktail);
	int count = 0;

	while (head != tail && count < REAP_MAX) {
		const struct io_uring_cqe *cqe = &cq->cqes[head & *cq->kring_mask];
		struct loop_io *io = io_uring_cqe_get_data(cqe);
		const int res = cqe->res;
		const uint32_t flags = cqe->flags;

		/* The slot goes back first: a callback that submits may need it. Pairs with the
		 * kernel's acquire of the head before it reuses the slot. */
		io_uring_smp_store_release(cq->khead, ++head);
		if (!(flags & IORING_CQE_F_MORE))
			loop->inflight--;
		if (!io) {
			loop->inflight_own--;
			continue;
		}
		count += io != &loop->wake_io;
		io->done(io, res, flags);
		if (head != tail && io_uring_sq_ready(&loop->ring) >= SUBMIT_EARLY)
			submit_early(loop);
	}
	return count;
}

static bool kernel_holds_completions(const struct loop *loop)
{
	return IO_URING_READ_ONCE(*loop->ring.sq.kflags) &
	       (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

/* Without wake-ups a sleeping loop would miss its inbox, so this comes before every sleep. */
static bool arm_wake(struct loop *loop)
{
	struct io_uring_sqe *sqe;

	if (likely(loop->wake_armed))
		return true;
	sqe = ring_sqe(loop, &loop->wake_io);
	if (!sqe)
		return false;
	/* Edge-triggered: the eventfd counts up and is never read. */
	io_uring_prep_poll_multishot(sqe, loop->wake_fd, POLLIN);
	loop->wake_armed = true;
	loop->inflight_own++;
	return true;
}

static int submit_and_wait(struct loop *loop, uint64_t wait_ns)
{
	struct __kernel_timespec ts = {
	        .tv_sec = (int64_t)(wait_ns / NSEC_PER_SEC),
	        .tv_nsec = (int64_t)(wait_ns % NSEC_PER_SEC),
	};
	struct io_uring_cqe *cqe;

	if (unlikely(loop->broken))
		return loop->broken;
	if (wait_ns == UINT64_MAX)
		return io_uring_submit_and_wait(&loop->ring, 1);
	return io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, &ts, NULL);
}

/* The store of @asleep and the look at the inbox are one half of the handshake in loop_wake(). */
static int sleep_turn(struct loop *loop, uint64_t wait_ns, bool *ret_interrupted)
{
	int r = 0;

	atomic_store(&loop->asleep, true);
	if (loop_called(loop)) {
		atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
		return submit(loop);
	}
	r = submit_and_wait(loop, wait_ns);
	atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
	loop_clock_read(loop);
	*ret_interrupted = r == -EINTR;
	if (r == -ETIME || r == -EINTR || r == -EBUSY || (r == -EAGAIN && loop->inflight))
		return 0;
	return MIN(r, 0);
}

int ring_turn(struct loop *loop, uint64_t wait_ns, bool *ret_interrupted)
{
	int r = 0;

	if (unlikely(loop->failed))
		return ring_turn_failed(loop, wait_ns);
	if (wait_ns && !io_uring_cq_ready(&loop->ring) && arm_wake(loop))
		r = sleep_turn(loop, wait_ns, ret_interrupted);
	else if (io_uring_sq_ready(&loop->ring) || kernel_holds_completions(loop))
		r = submit(loop);
	if (r < 0)
		return r;
	return reap(loop);
}

/* --- without the kernel's help --- */

#define FAILED_LOOK_NS (5 * NSEC_PER_MSEC) /* how often what the kernel has is looked for */

/* Takes the last entry back that the kernel has not taken: it moves its end only inside of our calls. */
static struct loop_io *take_back(struct loop *loop)
{
	struct io_uring_sq *sq = &loop->ring.sq;
	const struct io_uring_sqe *sqe = &sq->sqes[--sq->sqe_tail & *sq->kring_mask];

	if (sq->sqe_head == sq->sqe_tail + 1) { /* it was shown to the kernel already */
		sq->sqe_head = sq->sqe_tail;
		io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
	}
	return (struct loop_io *)(uintptr_t)sqe->user_data;
}

/* What is queued; what its ends queue waits for the next turn, or changes places with some of it. */
static int fail_queued(struct loop *loop)
{
	int count = 0;

	for (unsigned n = io_uring_sq_ready(&loop->ring); n > 0; n--) {
		struct loop_io *io = take_back(loop);

		loop->inflight--;
		if (io)
			io->done(io, -EIO, 0);
		else
			loop->inflight_own--;
		count += io && io != &loop->wake_io;
	}
	return count;
}

/* Who posts writes to the descriptor, as ever. */
static void sleep_failed(struct loop *loop, uint64_t wait_ns)
{
	const uint64_t most = loop->inflight ? FAILED_LOOK_NS : NSEC_PER_SEC;
	const struct timespec ts = {.tv_sec = (time_t)(MIN(wait_ns, most) / NSEC_PER_SEC),
	                            .tv_nsec = (long)(MIN(wait_ns, most) % NSEC_PER_SEC)};
	struct pollfd p = {.fd = loop->wake_fd, .events = POLLIN};
	uint64_t posts;

	atomic_store(&loop->asleep, true);
	if (!loop_called(loop) && ppoll(&p, 1, &ts, NULL) > 0 &&
	    read(loop->wake_fd, &posts, sizeof(posts)) < 0)
		pst_assert(errno == EAGAIN || errno == EINTR);
	atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
	loop_clock_read(loop);
}

int ring_turn_failed(struct loop *loop, uint64_t wait_ns)
{
	int count = fail_queued(loop);

	/* It may still tell of what it has, whatever it said. */
	(void)io_uring_get_events(&loop->ring);
	count += reap(loop);
	if (!count && wait_ns)
		sleep_failed(loop, wait_ns);
	return count;
}
