/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Loops with threads of their own: lists of cores, messages there and back, signals that stay away, and
 * a device that two of them use.
 */
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

#include "bdev/bdev.h"
#include "loop/thread.h"

static void core_lists(void **state)
{
	static const char *const bad[] = {"",
	                                  ",",
	                                  "1,",
	                                  ",1",
	                                  "a",
	                                  "1-",
	                                  "-1",
	                                  "3-1",
	                                  "1 ,2",
	                                  "1,,2",
	                                  "0-1-2",
	                                  "1,0,1",
	                                  "0-3,2",
	                                  "0x1",
	                                  "0-64",
	                                  "9000",
	                                  "99999999999999999999",
	                                  "1;2"};
	int cores[CORES_MAX];
	struct pst_err err;
	unsigned n = 0;

	assert_int_equal(cores_parse(cores, &n, "3,0,5-7", false, &err), 0);
	assert_int_equal(n, 5);
	assert_int_equal(cores[0], 3);
	assert_int_equal(cores[1], 0);
	assert_int_equal(cores[4], 7);
	assert_int_equal(cores_parse(cores, &n, "0-63", false, &err), 0);
	assert_int_equal(n, 64);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		n = 77;
		err.text[0] = 0;
		assert_int_equal(cores_parse(cores, &n, bad[i], false, &err), -EINVAL);
		assert_int_equal(n, 77);
		assert_non_null(strstr(err.text, "cores \""));
	}
}

static int allowed_core(void)
{
	cpu_set_t set;

	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	for (int c = 0; c < CPU_SETSIZE; c++)
		if (CPU_ISSET(c, &set))
			return c;
	fail();
	return -1;
}

static void cores_that_may_be_used(void **state)
{
	int cores[CORES_MAX];
	struct pst_err err;
	char text[16];
	unsigned n;

	(void)snprintf(text, sizeof(text), "%d", allowed_core());
	assert_int_equal(cores_parse(cores, &n, text, true, &err), 0);
	assert_int_equal(cores[0], allowed_core());
	assert_int_equal(cores_parse(cores, &n, "8190", true, &err), -EINVAL);
	assert_non_null(strstr(err.text, "core 8190"));
}

/* --- messages --- */

struct ball {
	struct loop_msg msg;
	struct loop *here, *there;
	unsigned left, in_order;
	int core;
	bool signals_off, back;
};

static void ball_here(struct loop_msg *m);

static void ball_there(struct loop_msg *m)
{
	struct ball *b = container_of(m, struct ball, msg);
	sigset_t set;

	assert_true(loop_is_mine(b->there));
	(void)pthread_sigmask(SIG_BLOCK, NULL, &set);
	b->signals_off = sigismember(&set, SIGTERM) == 1 && sigismember(&set, SIGINT) == 1;
	b->core = sched_getcpu();
	b->left--;
	b->msg.run = ball_here;
	loop_post(b->here, m);
}

static void ball_here(struct loop_msg *m)
{
	struct ball *b = container_of(m, struct ball, msg);

	assert_true(loop_is_mine(b->here));
	if (!b->left) {
		b->back = true;
		return;
	}
	b->msg.run = ball_there;
	loop_post(b->there, m);
}

static void there_and_back(void **state)
{
	struct loop_thread *t;
	struct loop_opts lo;
	struct ball ball[3] = {0};
	struct pst_err err;
	struct loop *loop;

	loop_opts_default(&lo);
	assert_int_equal(loop_new(&loop, &lo, NULL), 0);
	if (loop_thread_start(&t, &lo, allowed_core(), &err))
		fail_msg("%s", err.text);
	assert_int_equal(loop_thread_core(t), allowed_core());
	for (unsigned i = 0; i < 3; i++) {
		ball[i] = (struct ball){.here = loop, .there = loop_thread_loop(t), .left = 2000};
		ball[i].msg.run = ball_there;
		loop_post(ball[i].there, &ball[i].msg);
	}
	while (!ball[0].back || !ball[1].back || !ball[2].back)
		assert_true(loop_turn(loop, NSEC_PER_SEC) >= 0);
	assert_true(ball[0].signals_off);
	assert_int_equal(ball[0].core, allowed_core());
	assert_true(loop_thread_cpu_ns(t) > 0);
	loop_thread_stop(t);
	loop_thread_stop(NULL);
	loop_free(loop);
}

static void no_such_core(void **state)
{
	struct loop_thread *t = NULL;
	struct loop_opts lo;
	struct pst_err err = {0};

	loop_opts_default(&lo);
	assert_int_equal(loop_thread_start(&t, &lo, 8190, &err), -EINVAL);
	assert_non_null(strstr(err.text, "core 8190"));
	assert_null(t);
}

/* --- a device that two reactors use --- */

struct also {
	struct loop_msg msg;
	struct loop *here, *there;
	struct bdev *first, *second;
	struct bdev_io io;
	struct iovec iov;
	struct pst_err err;
	int rc;
	bool back;
};

static void also_back(struct loop_msg *m)
{
	container_of(m, struct also, msg)->back = true;
}

static void also_home(struct also *a)
{
	a->msg.run = also_back;
	loop_post(a->here, &a->msg);
}

static void also_open(struct loop_msg *m)
{
	struct also *a = container_of(m, struct also, msg);

	a->rc = bdev_also(&a->second, a->first, a->there, &a->err);
	also_home(a);
}

static void also_read_done(struct bdev_io *io)
{
	also_home(container_of(io, struct also, io));
}

static void also_read(struct loop_msg *m)
{
	struct also *a = container_of(m, struct also, msg);

	a->io = (struct bdev_io){.op = BDEV_READ,
	                         .off_bytes = 8192,
	                         .len_bytes = a->iov.iov_len,
	                         .iov = &a->iov,
	                         .iov_count = 1,
	                         .done = also_read_done};
	bdev_submit(a->second, &a->io);
}

static void also_close(struct loop_msg *m)
{
	struct also *a = container_of(m, struct also, msg);

	bdev_close(a->second);
	also_home(a);
}

static void go(struct also *a, void (*run)(struct loop_msg *m))
{
	a->back = false;
	a->msg.run = run;
	loop_post(a->there, &a->msg);
	while (!a->back)
		assert_true(loop_turn(a->here, NSEC_PER_SEC) >= 0);
}

static void second_queue(const char *spec, bool create)
{
	struct bdev_open_opts opts = {.create = create, .size_bytes = create ? MIB : 0};
	struct also a = {0};
	struct loop_thread *t;
	struct loop_opts lo;
	uint8_t *w = aligned_alloc(4096, 4096), *r = aligned_alloc(4096, 4096);

	assert_non_null(w);
	assert_non_null(r);
	memset(w, 0x5a, 4096);
	memset(r, 0, 4096);
	loop_opts_default(&lo);
	assert_int_equal(loop_new(&a.here, &lo, NULL), 0);
	assert_int_equal(loop_thread_start(&t, &lo, CORE_ANY, NULL), 0);
	a.there = loop_thread_loop(t);
	if (bdev_open(&a.first, spec, a.here, &opts, &a.err))
		fail_msg("%s", a.err.text);
	go(&a, also_open);
	if (a.rc)
		fail_msg("%s", a.err.text);
	assert_int_equal(a.second->info.size_bytes, a.first->info.size_bytes);
	assert_string_equal(a.second->info.name, a.first->info.name);
	assert_int_equal(bdev_write_sync(a.first, 8192, w, 4096, BDEV_FUA), 0);
	a.iov = (struct iovec){r, 4096};
	go(&a, also_read);
	assert_int_equal(a.io.status, 0);
	assert_memory_equal(r, w, 4096);
	go(&a, also_close);
	/* The lock is still the first one's. */
	assert_int_equal(bdev_write_sync(a.first, 0, w, 4096, 0), 0);
	bdev_close(a.first);
	loop_thread_stop(t);
	loop_free(a.here);
	free(w);
	free(r);
}

static void second_queue_of_memory(void **state)
{
	second_queue("mem:1m", false);
}

static void second_queue_of_a_file(void **state)
{
	char path[] = "/tmp/pst-thread-XXXXXX", spec[64];
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	unlink(path);
	(void)snprintf(spec, sizeof(spec), "uring:%s?direct=0", path);
	second_queue(spec, true);
	unlink(path);
}

static void one_queue_only(void **state)
{
	struct bdev *b, *also = NULL;
	struct pst_err err = {0};
	struct loop_opts lo;
	struct loop *loop;

	loop_opts_default(&lo);
	assert_int_equal(loop_new(&loop, &lo, NULL), 0);
	assert_int_equal(bdev_open(&b, "fault:mem:1m", loop, NULL, &err), 0);
	assert_int_equal(bdev_also(&also, b, loop, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "fault:mem:1m"));
	assert_null(also);
	bdev_close(b);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(core_lists),
	        cmocka_unit_test(cores_that_may_be_used),
	        cmocka_unit_test(there_and_back),
	        cmocka_unit_test(no_such_core),
	        cmocka_unit_test(second_queue_of_memory),
	        cmocka_unit_test(second_queue_of_a_file),
	        cmocka_unit_test(one_queue_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
