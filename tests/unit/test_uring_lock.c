/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The lock of a uring device that several reactors of a process use, when that process dies.
 */
#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bdev/uring.h"
#include "bdev_util.h"

static char path[128];

static struct loop *real_loop(void)
{
	struct loop_opts opts;
	struct pst_err err = {0};
	struct loop *loop;

	loop_opts_default(&opts);
	if (loop_new(&loop, &opts, &err))
		fail_msg("%s", err.text);
	return loop;
}

static struct bdev *open_file(struct loop *loop)
{
	const struct bdev_open_opts opts = {.create = true, .size_bytes = 8 * MIB};
	struct pst_err err = {0};
	char spec[160];
	struct bdev *b;

	(void)snprintf(spec, sizeof(spec), "uring:%s?direct=0", path);
	if (bdev_open(&b, spec, loop, &opts, &err))
		fail_msg("%s", err.text);
	return b;
}

/* All that is left of the process is the ring of its second reactor, as while its last requests end. */
static _Noreturn void last_ring_main(int tell)
{
	struct loop *loop = real_loop(), *second = real_loop();
	struct bdev *b = open_file(loop), *also;
	int kept;

	(void)loop_turn(second, 0);
	pst_assert(bdev_also(&also, b, second, NULL) == 0);
	kept = loop_ring(second)->ring_fd;
	for (int fd = 3; fd < 1024; fd++)
		if (fd != kept && fd != tell)
			close(fd);
	pst_assert(write(tell, "", 1) == 1);
	for (;;)
		pause();
}

/*
 * A second reactor's requests may outlive the first one's, and its ring the process's descriptors: the
 * lock is held as long as that ring is there. (To kill one that writes shows nothing: a device works off
 * what it was given in order, so that the next owner's writes come last in any case.)
 */
static void test_lock_kept_by_second_ring(void **state)
{
	int pipe_fd[2], fd;
	char byte;
	pid_t pid;

	assert_int_equal(pipe(pipe_fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		last_ring_main(pipe_fd[1]);
	assert_int_equal(read(pipe_fd[0], &byte, 1), 1);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	for (unsigned i = 0; i < 100; i++) { /* the first ring's end takes a while */
		assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
		assert_int_equal(errno, EWOULDBLOCK);
		usleep(2000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	close(fd);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

/* A process that has the open file which another one locked that is gone. Ends by being killed. */
static _Noreturn void heir_main(int tell)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	pid_t pid;

	pst_assert(fd >= 0);
	pid = fork();
	pst_assert(pid >= 0);
	if (!pid)
		_exit(flock(fd, LOCK_EX | LOCK_NB) ? 1 : 0);
	pst_assert(waitpid(pid, NULL, 0) == pid);
	pst_assert(write(tell, "", 1) == 1);
	for (;;)
		pause();
}

/*
 * Who locked it is gone, but another process has the lock, and lives: as when a shell calls flock(1) on a
 * descriptor. It is named, and not waited for like the last requests of the dead.
 */
static void test_lock_inherited(void **state)
{
	const struct bdev_open_opts opts = {0};
	struct loop *loop = real_loop();
	char spec[160], want[64], byte;
	struct pst_err err = {0};
	struct bdev *b = open_file(loop);
	int pipe_fd[2];
	pid_t pid;

	bdev_close(b);
	assert_int_equal(pipe(pipe_fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		heir_main(pipe_fd[1]);
	assert_int_equal(read(pipe_fd[0], &byte, 1), 1);
	(void)snprintf(spec, sizeof(spec), "uring:%s?direct=0", path);
	assert_int_equal(bdev_open(&b, spec, loop, &opts, &err), -EBUSY);
	(void)snprintf(want, sizeof(want), "is in use by process %d ", (int)pid);
	if (!strstr(err.text, want))
		fail_msg("\"%s\" does not say \"%s\"", err.text, want);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(bdev_open(&b, spec, loop, &opts, &err), 0);
	bdev_close(b);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	loop_free(loop);
}

/*
 * However many processes there are, a look takes its time and no more, and the next one goes on: with no
 * time at all one still gets through them, some descriptors at a time.
 */
static void test_search_in_slices(void **state)
{
	unsigned full = 0, looks;
	int pipe_fd[2], at = 0, fd;
	struct stat st;
	char byte;
	pid_t pid;

	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && !fstat(fd, &st));
	assert_int_equal(pipe(pipe_fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		for (unsigned i = 0; i < 2 * URING_KEEPER_LOOKS; i++) /* too much for one slice */
			(void)dup(fd);
		heir_main(pipe_fd[1]);
	}
	assert_int_equal(read(pipe_fd[0], &byte, 1), 1);
	do { /* the one between is passed over, and so the end is reached */
		int before = at;

		assert_int_equal(uring_keeper(&at, &st, 0), 0);
		assert_true(!at || at > before);
		full += at != 0;
	} while (at);
	assert_true(full > 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		close(fd);
		heir_main(pipe_fd[1]);
	}
	assert_int_equal(read(pipe_fd[0], &byte, 1), 1);
	for (looks = 0; looks < 100000 && uring_keeper(&at, &st, 0) != pid; looks++)
		assert_true(looks == 0 || at);
	assert_in_range(looks, 0, 99999);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fd);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

/* What a descriptor tells of itself: a lock's line counts where the kernel writes it, and not in text of others. */
static void test_forged_lock(void **state)
{
	static const char *const forms[] = {
	        "pos:\t0\nflags:\t02100002\nmnt_id:\t26\nino:\t77\n%s",
	        "pos:\t0\nflags:\t02100002\nmnt_id:\t26\n%s", /* as before Linux 5.14 */
	        "pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t1061\nSqMask:\t0x7\nUserFiles:\t1\n    0: "
	        "x\n%s",
	        "pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t1061\neventfd-count: 0\n%s",
	};
	struct stat st = {.st_dev = makedev(0xfd, 3), .st_ino = 77};

	for (unsigned i = 0; i < ARRAY_LEN(forms); i++) {
		char text[512], lock[128];
		FILE *f;

		for (unsigned wrong = 0; wrong < 2; wrong++) {
			(void)snprintf(lock, sizeof(lock),
			               "lock:\t1: FLOCK  ADVISORY  WRITE 12 fd:03:%u 0 EOF\n",
			               wrong ? 78 : 77);
			(void)snprintf(text, sizeof(text), forms[i], lock);
			f = fmemopen(text, strlen(text), "r");
			assert_non_null(f);
			assert_true(uring_fdinfo_locked(f, &st) == (i < 2 && !wrong));
			fclose(f);
		}
	}
}

static int setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)snprintf(path, sizeof(path), "%s/uring_lock.%d", tmp && *tmp ? tmp : "/var/tmp",
	               (int)getpid());
	return 0;
}

static int teardown(void **state)
{
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_lock_kept_by_second_ring, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_lock_inherited, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_search_in_slices, setup, teardown),
	        cmocka_unit_test(test_forged_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
