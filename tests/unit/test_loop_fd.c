/* SPDX-License-Identifier: BSD-3-Clause */
/* The loop: watched descriptors, by level and by edge. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "loop/loop.h"

static struct loop *make(struct loop_opts opts)
{
	struct loop *loop;
	struct pst_err err;
	int r = loop_new(&loop, &opts, &err);

	if (r)
		fail_msg("%s", err.text);
	return loop;
}

static struct loop *make_real(void)
{
	return make((struct loop_opts){0});
}

struct watch {
	struct loop_fd f;
	struct loop *loop;
	unsigned ready, gone;
	bool delete_in_ready;
};

static void watch_gone(struct loop_fd *f)
{
	container_of(f, struct watch, f)->gone++;
}

static void watch_ready(struct loop_fd *f, uint32_t revents)
{
	struct watch *w = container_of(f, struct watch, f);

	assert_true(revents & POLLIN);
	assert_int_equal(w->gone, 0);
	w->ready++;
	if (w->delete_in_ready)
		loop_fd_del(w->loop, f, watch_gone);
}

static void test_fd_level(void **state)
{
	struct loop *loop = make_real();
	int p[2];
	struct watch w = {.f.ready = watch_ready, .loop = loop};
	char byte;

	assert_int_equal(pipe(p), 0);
	w.f.fd = p[0];
	assert_int_equal(loop_fd_add(loop, &w.f, POLLIN), 0);
	assert_int_equal(loop_turn(loop, NSEC_PER_MSEC), 0);
	assert_int_equal(write(p[1], "ab", 2), 2);
	/* Not read: it stays ready. */
	for (unsigned i = 1; i <= 3; i++) {
		while (w.ready < i)
			assert_true(loop_turn(loop, UINT64_MAX) >= 0);
	}
	assert_int_equal(read(p[0], &byte, 1), 1);
	assert_int_equal(read(p[0], &byte, 1), 1);
	/* One event may have been noticed before the reads; then it is quiet. */
	loop_turn(loop, 0);
	loop_turn(loop, 0);
	w.ready = 0;
	assert_int_equal(loop_turn(loop, NSEC_PER_MSEC), 0);
	assert_int_equal(w.ready, 0);
	loop_fd_del(loop, &w.f, watch_gone);
	assert_int_equal(w.gone, 0); /* never from inside */
	while (!w.gone)
		assert_true(loop_turn(loop, UINT64_MAX) >= 0);
	assert_int_equal(write(p[1], "c", 1), 1);
	assert_int_equal(loop_turn(loop, NSEC_PER_MSEC), 0);
	assert_int_equal(w.ready, 0);
	close(p[0]);
	close(p[1]);
	loop_free(loop);
}

static void test_fd_delete_inside(void **state)
{
	struct loop *loop = make_real();
	int p[2];
	struct watch w = {.f.ready = watch_ready, .loop = loop, .delete_in_ready = true};

	assert_int_equal(pipe(p), 0);
	w.f.fd = p[0];
	assert_int_equal(loop_fd_add(loop, &w.f, POLLIN), 0);
	assert_int_equal(write(p[1], "a", 1), 1);
	while (!w.gone)
		assert_true(loop_turn(loop, UINT64_MAX) >= 0);
	assert_int_equal(w.ready, 1);
	assert_int_equal(w.gone, 1);
	close(p[0]);
	close(p[1]);
	loop_free(loop);
}

static void io_ignore(struct loop_io *io, int res, uint32_t cqe_flags)
{
}

/* An edge is told of once, a new one again, one that is taken up too late not twice. */
static void test_fd_edge(void **state)
{
	struct loop *loop = make_real();
	int p[2];
	struct watch w = {.f.ready = watch_ready, .loop = loop};

	assert_int_equal(pipe(p), 0);
	w.f.fd = p[0];
	assert_int_equal(write(p[1], "x", 1), 1); /* before it is watched */
	assert_int_equal(loop_fd_add_edge(loop, &w.f, POLLIN), 0);
	for (unsigned i = 1; i <= 3; i++) {
		while (w.ready < i)
			assert_true(loop_turn(loop, UINT64_MAX) >= 0);
		assert_int_equal(loop_turn(loop, NSEC_PER_MSEC), 0);
		assert_int_equal(w.ready, i);
		assert_int_equal(write(p[1], "a", 1), 1);
	}
	/* An event is under way as the watch ends. */
	loop_fd_del(loop, &w.f, watch_gone);
	assert_int_equal(write(p[1], "b", 1), 1);
	while (!w.gone)
		assert_true(loop_turn(loop, UINT64_MAX) >= 0);
	assert_int_equal(w.ready, 3);
	close(p[0]);
	close(p[1]);
	loop_free(loop);
}

static void *write_slowly(void *arg)
{
	const int fd = *(const int *)arg;

	for (unsigned i = 0; i < 100; i++) {
		usleep(1000);
		assert_int_equal(write(fd, "x", 1), 1);
	}
	return NULL;
}

/* Two writes may be one edge: all that is there is taken. */
static void read_ready(struct loop_fd *f, uint32_t revents)
{
	struct watch *w = container_of(f, struct watch, f);
	char bytes[128];
	ssize_t n = read(f->fd, bytes, sizeof(bytes));

	assert_true(n > 0 || errno == EAGAIN);
	w->ready += n > 0 ? (unsigned)n : 0;
}

/* What the kernel tells of is no reason to spin, however often it comes: only messages are. */
static void test_fd_no_spin(void **state)
{
	struct loop *loop = make((struct loop_opts){.spin_ns = 5 * NSEC_PER_MSEC});
	struct watch w = {.f.ready = read_ready, .loop = loop};
	struct timespec cpu0, cpu1;
	uint64_t start, cpu;
	pthread_t thread;
	int p[2];

	assert_int_equal(pipe2(p, O_NONBLOCK), 0);
	w.f.fd = p[0];
	assert_int_equal(loop_fd_add_edge(loop, &w.f, POLLIN), 0);
	assert_int_equal(pthread_create(&thread, NULL, write_slowly, &p[1]), 0);
	while (w.ready < 10) /* it learns */
		assert_true(loop_turn(loop, UINT64_MAX) >= 0);
	start = clock_mono_ns();
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu0);
	while (w.ready < 100)
		assert_true(loop_turn(loop, UINT64_MAX) >= 0);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu1);
	cpu = (uint64_t)(cpu1.tv_sec - cpu0.tv_sec) * NSEC_PER_SEC + (uint64_t)cpu1.tv_nsec -
	      (uint64_t)cpu0.tv_nsec;
	assert_true(cpu < (clock_mono_ns() - start) / 3);
	pthread_join(thread, NULL);
	loop_fd_del(loop, &w.f, watch_gone);
	while (!w.gone)
		assert_true(loop_turn(loop, UINT64_MAX) >= 0);
	close(p[0]);
	close(p[1]);
	loop_free(loop);
}

static void drain_ready(struct loop_fd *f, uint32_t revents)
{
	struct watch *w = container_of(f, struct watch, f);
	char byte;

	w->ready += read(f->fd, &byte, 1) == 1;
}

/* More edges at once than the completion queue holds: each is told of all the same. */
static void test_fd_edge_overflow(void **state)
{
	enum { N = 150 };
	static struct watch w[N];
	struct loop *loop = make((struct loop_opts){.ring_entries = 8});
	unsigned gone = 0, told = 0;
	int p[N][2];

	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(pipe2(p[i], O_NONBLOCK), 0);
		w[i] = (struct watch){.f.ready = drain_ready, .f.fd = p[i][0], .loop = loop};
		assert_int_equal(loop_turn(loop, 0), 0);
		assert_int_equal(loop_fd_add_edge(loop, &w[i].f, POLLIN), 0);
	}
	for (unsigned round = 1; round <= 5; round++) {
		for (unsigned i = 0; i < N; i++)
			assert_int_equal(write(p[i][1], "a", 1), 1);
		for (told = 0; told < N * round;) {
			assert_true(loop_turn(loop, UINT64_MAX) > 0);
			told = 0;
			for (unsigned i = 0; i < N; i++)
				told += w[i].ready;
		}
	}
	while (loop_turn(loop, NSEC_PER_MSEC) > 0)
		;
	for (unsigned i = 0; i < N; i++)
		loop_fd_del(loop, &w[i].f, watch_gone);
	while (gone < N) {
		assert_true(loop_turn(loop, UINT64_MAX) > 0);
		gone = 0;
		for (unsigned i = 0; i < N; i++)
			gone += w[i].gone;
	}
	for (unsigned i = 0; i < N; i++) {
		close(p[i][0]);
		close(p[i][1]);
	}
	loop_free(loop);
}

/* Silent watches don't count against those who want something of the ring. */
static void test_fd_silent(void **state)
{
	enum { N = 100 };
	static struct watch w[N];
	struct loop *loop = make((struct loop_opts){.ring_entries = 8});
	struct loop_io io = {.done = io_ignore};
	struct io_uring_sqe *sqe;
	unsigned gone = 0;
	int p[2];

	assert_int_equal(pipe(p), 0);
	assert_int_equal(loop_turn(loop, 0), 0);
	for (unsigned i = 0; i < N; i++) {
		w[i] = (struct watch){.f.ready = watch_ready, .f.fd = p[0], .loop = loop};
		assert_int_equal(loop_fd_add_edge(loop, &w[i].f, POLLIN), 0);
	}
	sqe = loop_sqe(loop, &io);
	assert_non_null(sqe);
	io_uring_prep_nop(sqe);
	for (unsigned i = 0; i < N; i++)
		loop_fd_del(loop, &w[i].f, watch_gone);
	while (gone < N) {
		assert_true(loop_turn(loop, UINT64_MAX) > 0);
		gone = 0;
		for (unsigned i = 0; i < N; i++)
			gone += w[i].gone;
	}
	while (loop_ring_inflight(loop))
		assert_true(loop_turn(loop, UINT64_MAX) >= 0);
	close(p[0]);
	close(p[1]);
	loop_free(loop);
}

/* More watches than the ring has entries. */
static void test_fd_many(void **state)
{
	enum { N = 300 };
	static struct watch w[N];
	struct loop *loop = make((struct loop_opts){.ring_entries = 8});
	int p[2];
	unsigned gone = 0;

	assert_int_equal(pipe(p), 0);
	assert_int_equal(loop_turn(loop, 0), 0);
	for (unsigned i = 0; i < N; i++) {
		w[i] = (struct watch){.f.ready = watch_ready,
		                      .f.fd = p[0],
		                      .loop = loop,
		                      .delete_in_ready = true};
		assert_int_equal(loop_fd_add(loop, &w[i].f, POLLIN), 0);
	}
	assert_int_equal(write(p[1], "a", 1), 1);
	while (gone < N) {
		assert_true(loop_turn(loop, UINT64_MAX) > 0);
		gone = 0;
		for (unsigned i = 0; i < N; i++)
			gone += w[i].gone;
	}
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(w[i].ready, 1);
	close(p[0]);
	close(p[1]);
	loop_free(loop);
}

/* --- what shall not wait for the end of the turn --- */

struct early {
	struct loop_poller poller;
	struct loop_io io;
	struct loop *loop;
	int p[2];
	bool written;
	unsigned polls, came;
};

static void early_done(struct loop_io *io, int res, uint32_t cqe_flags)
{
	container_of(io, struct early, io)->written = res == 1;
}

static int early_poll(struct loop_poller *poller)
{
	struct early *e = container_of(poller, struct early, poller);
	char byte;

	if (e->polls++)
		return 0;
	io_uring_prep_write(loop_sqe(e->loop, &e->io), e->p[1], "a", 1, 0);
	e->came = read(e->p[0], &byte, 1) == 1; /* not yet */
	assert_int_equal(e->came, 0);
	loop_submit(e->loop);
	e->came = read(e->p[0], &byte, 1) == 1;
	return 1;
}

static void test_submit_early(void **state)
{
	struct early e = {.poller.poll = early_poll, .io.done = early_done, .loop = make_real()};

	loop_submit(e.loop); /* nothing is queued, nothing is bound */
	assert_int_equal(pipe2(e.p, O_NONBLOCK), 0);
	loop_poller_add(e.loop, &e.poller);
	while (!e.written)
		assert_true(loop_turn(e.loop, UINT64_MAX) >= 0);
	assert_int_equal(e.came, 1);
	loop_poller_del(e.loop, &e.poller);
	close(e.p[0]);
	close(e.p[1]);
	loop_free(e.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_fd_level),         cmocka_unit_test(test_fd_delete_inside),
	        cmocka_unit_test(test_fd_edge),          cmocka_unit_test(test_fd_no_spin),
	        cmocka_unit_test(test_fd_edge_overflow), cmocka_unit_test(test_fd_silent),
	        cmocka_unit_test(test_fd_many),          cmocka_unit_test(test_submit_early),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
