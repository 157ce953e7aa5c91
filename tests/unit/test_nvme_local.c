/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nvme/local: names in the run directory, messages with descriptors, and that neither a connection
 * nor a message is given up because the application takes signals meanwhile.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "nvme/local.h"

static _Atomic unsigned alarms;

static void on_alarm(int sig)
{
	alarms++;
}

/* From now on a signal every millisecond, whose handler does not ask for calls to be restarted. */
static void storm(bool on)
{
	const struct sigaction a = {.sa_handler = on_alarm};
	const struct itimerval every = {{0, on ? 1000 : 0}, {0, on ? 1000 : 0}};

	assert_int_equal(sigaction(SIGALRM, &a, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &every, NULL), 0);
}

static void pair_make(int sv[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
}

static void pair_close(int sv[2])
{
	close(sv[0]);
	close(sv[1]);
}

/* The thread that does its part once the other has been interrupted for a while; it takes no alarms. */
struct helper {
	pthread_t thread;
	int fd, got;
};

static void interrupted_for_a_while(void)
{
	unsigned since = alarms;

	while (alarms - since < 20)
		usleep(1000);
}

static void helper_start(struct helper *h, void *(*run)(void *), int fd)
{
	sigset_t all, before;

	*h = (struct helper){.fd = fd, .got = -1};
	sigfillset(&all);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &all, &before), 0);
	assert_int_equal(pthread_create(&h->thread, NULL, run, h), 0);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
}

static void *say_late(void *arg)
{
	struct helper *h = arg;

	interrupted_for_a_while();
	h->got = local_send(h->fd, "here", 4, &h->fd, 1);
	return NULL;
}

static void test_message_in_a_storm(void **state)
{
	struct helper h;
	unsigned n = LOCAL_FDS_MAX;
	int sv[2], fds[LOCAL_FDS_MAX];
	char buf[16];

	pair_make(sv);
	storm(true);
	helper_start(&h, say_late, sv[1]);
	assert_int_equal(local_recv(sv[0], buf, sizeof(buf), fds, &n, 60000), 4);
	storm(false);
	assert_int_equal(pthread_join(h.thread, NULL), 0);
	assert_int_equal(h.got, 0);
	assert_memory_equal(buf, "here", 4);
	assert_int_equal(n, 1);
	assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
	close(fds[0]);
	pair_close(sv);
}

static void test_silence_in_a_storm(void **state)
{
	uint64_t begun_ns = clock_mono_ns();
	unsigned n = 0;
	int sv[2];
	char buf[16];

	pair_make(sv);
	storm(true);
	assert_int_equal(local_recv(sv[0], buf, sizeof(buf), NULL, &n, 100), -ETIMEDOUT);
	storm(false);
	assert_true(clock_mono_ns() - begun_ns >= 100 * NSEC_PER_MSEC);
	n = 0;
	assert_int_equal(local_recv(sv[0], buf, sizeof(buf), NULL, &n, 0), -EAGAIN);
	close(sv[1]);
	n = 0;
	assert_int_equal(local_recv(sv[0], buf, sizeof(buf), NULL, &n, 60000), 0);
	close(sv[0]);
}

static void *accept_late(void *arg)
{
	struct helper *h = arg;

	interrupted_for_a_while();
	h->got = accept(h->fd, NULL, NULL);
	return NULL;
}

/* A target with all the callers that may wait: the next one waits for its place, signals or not. */
static void test_connect_in_a_storm(void **state)
{
	int fd, lock, late, waiting[256];
	struct pst_err err;
	struct helper h;
	unsigned n = 0;

	assert_int_equal(local_listen("crowded", &fd, &lock, &err), 0);
	while (n < ARRAY_LEN(waiting) && !local_connect_now("crowded", &waiting[n], &err))
		n++;
	assert_in_range(n, 1, ARRAY_LEN(waiting) - 1);
	assert_int_equal(local_connect_now("crowded", &late, &err), -EAGAIN);
	storm(true);
	helper_start(&h, accept_late, fd);
	assert_int_equal(local_connect("crowded", &late, &err), 0);
	storm(false);
	assert_int_equal(pthread_join(h.thread, NULL), 0);
	assert_true(h.got >= 0);
	close(h.got);
	close(late);
	while (n)
		close(waiting[--n]);
	local_unlisten("crowded", fd, lock);
	assert_int_equal(local_connect("crowded", &late, &err), -ENOENT);
}

static void test_names(void **state)
{
	int fd, lock, other, other_lock;
	struct pst_err err;

	assert_true(local_name_ok("a-target_1.x"));
	assert_false(local_name_ok(""));
	assert_false(local_name_ok(".hidden"));
	assert_false(local_name_ok("a/b"));
	assert_int_equal(local_listen("a/b", &fd, &lock, &err), -EINVAL);
	assert_int_equal(local_listen("one", &fd, &lock, &err), 0);
	assert_int_equal(local_listen("one", &other, &other_lock, &err), -EADDRINUSE);
	local_unlisten("one", fd, lock);
	assert_int_equal(local_listen("one", &fd, &lock, &err), 0);
	local_unlisten("one", fd, lock);
}

/* What does not fit is not taken in part, and its descriptors are closed. */
static void test_messages(void **state)
{
	int sv[2], pipe_fds[2], fds[LOCAL_FDS_MAX];
	unsigned n = LOCAL_FDS_MAX;
	char buf[8];

	pair_make(sv);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(local_send(sv[1], "longer than eight", 17, &pipe_fds[1], 1), 0);
	assert_int_equal(local_recv(sv[0], buf, sizeof(buf), fds, &n, 0), -EMSGSIZE);
	assert_int_equal(local_send(sv[1], "none", 4, &pipe_fds[1], 1), 0);
	n = 0;
	assert_int_equal(local_recv(sv[0], buf, sizeof(buf), fds, &n, 0), 4);
	assert_int_equal(n, 0);
	close(pipe_fds[1]);
	assert_int_equal(read(pipe_fds[0], buf, 1), 0); /* nobody can write any more */
	close(pipe_fds[0]);
	pair_close(sv);
}

static int setup(void **state)
{
	static char dir[] = "/tmp/penstock-local-XXXXXX";

	*state = dir;
	return mkdtemp(dir) ? setenv("PENSTOCK_RUN_DIR", dir, 1) : -1;
}

static int teardown(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r '%s'", (char *)*state);
	return system(command) ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_names),
	        cmocka_unit_test(test_messages),
	        cmocka_unit_test(test_message_in_a_storm),
	        cmocka_unit_test(test_silence_in_a_storm),
	        cmocka_unit_test(test_connect_in_a_storm),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
