/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The uring device, beyond what every device must do: opening and its refusals, locks between
 * processes, splitting, registered memory, holes, rings of its own, real block devices (by losetup,
 * skipped where that isn't permitted).
 *
 * Files are made in $TMPDIR or /var/tmp, which must be on a file system with direct I/O.
 */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bdev_util.h"

#include "bdev/uring.h"

static char dir[PATH_MAX];
static char path[PATH_MAX + 16];

static struct loop *real_loop_of(unsigned entries)
{
	struct loop *loop;
	struct pst_err err;
	struct loop_opts opts;

	loop_opts_default(&opts);
	opts.ring_entries = entries;
	opts.spin_ns = 0;
	if (loop_new(&loop, &opts, &err))
		fail_msg("%s", err.text);
	return loop;
}

static struct loop *real_loop(void)
{
	return real_loop_of(64);
}

/* The device of @size bytes in a new file, with @options ("?a=b" or ""). */
static struct bdev *make(struct loop *loop, const char *options, uint64_t size)
{
	const struct bdev_open_opts opts = {.create = true, .size_bytes = size};
	struct pst_err err = {0};
	char spec[2 * PATH_MAX];
	struct bdev *b;

	snprintf(spec, sizeof(spec), "uring:%s%s", path, options);
	if (bdev_open(&b, spec, loop, &opts, &err))
		fail_msg("%s: %s", spec, err.text);
	return b;
}

static void expect_refusal(struct loop *loop, const char *spec, const struct bdev_open_opts *opts,
                           int code, const char *part)
{
	struct pst_err err = {0};
	struct bdev *b = NULL;
	int rc = bdev_open(&b, spec, loop, opts, &err);

	if (rc != code || err.code != code || !strstr(err.text, part) || b)
		fail_msg("%s: got %d '%s', not %d '...%s...'", spec, rc, err.text, code, part);
}

static void file_of(uint64_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static uint64_t allocated(void)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static int remove_file(void **state)
{
	unlink(path);
	return 0;
}

static char *aligned(size_t len)
{
	void *p = mem_alloc_aligned(4096, len);

	assert_non_null(p);
	return p;
}

/* --- opening --- */

static void test_create(void **state)
{
	struct loop *loop = real_loop();
	struct bdev *b = make(loop, "", 8 * MIB);
	char *w = aligned(64 * KIB), *r = aligned(64 * KIB);

	assert_int_equal(b->info.size_bytes, 8 * MIB);
	assert_int_equal(b->info.block_bytes, 4096);
	assert_true(b->info.volatile_cache);
	assert_false(b->info.discard);
	assert_true(allocated() >= 8 * MIB);
	pattern(w, 64 * KIB, 1);
	assert_int_equal(do_io(b, BDEV_WRITE, 1 * MIB, w, 64 * KIB, 0), 0);
	assert_int_equal(do_io(b, BDEV_WRITE, 8 * MIB - 4096, w, 4096, BDEV_FUA), 0);
	assert_int_equal(do_io(b, BDEV_FLUSH, 0, NULL, 0, 0), 0);
	bdev_close(b);
	/* It is there: not created again, nor cut. */
	b = make(loop, "", 4 * MIB);
	assert_int_equal(b->info.size_bytes, 8 * MIB);
	assert_int_equal(do_io(b, BDEV_READ, 1 * MIB, r, 64 * KIB, 0), 0);
	assert_memory_equal(w, r, 64 * KIB);
	assert_int_equal(do_io(b, BDEV_READ, 8 * MIB - 4096, r, 4096, 0), 0);
	assert_memory_equal(w, r, 4096);
	bdev_close(b);
	loop_free(loop);
	mem_free(w);
	mem_free(r);
}

static void note_progress(void *arg, uint64_t done, uint64_t total)
{
	uint64_t *last = arg;

	assert_true(done > *last && done <= total);
	*last = done;
}

static void test_prewrite(void **state)
{
	struct loop *loop = real_loop();
	uint64_t last = 0;
	const struct bdev_open_opts opts = {.create = true,
	                                    .size_bytes = 9 * MIB,
	                                    .prewrite = true,
	                                    .progress = note_progress,
	                                    .progress_arg = &last};
	struct pst_err err;
	struct bdev *b;

	assert_int_equal(bdev_open(&b, path, loop, &opts, &err), 0);
	assert_int_equal(last, 9 * MIB);
	assert_int_equal(b->info.size_bytes, 9 * MIB);
	bdev_close(b);
	loop_free(loop);
}

static void test_refusals(void **state)
{
	struct loop *loop = real_loop(), *sim = sim_loop();
	const struct bdev_open_opts create = {.create = true, .size_bytes = 1 * MIB};
	const struct bdev_open_opts odd = {.create = true, .size_bytes = 1 * MIB + 1};
	const struct bdev_open_opts huge = {.create = true, .size_bytes = 1ull << 60};
	char spec[2 * PATH_MAX];
	struct bdev *b = NULL;

	expect_refusal(loop, path, NULL, -ENOENT, path);
	expect_refusal(loop, dir, NULL, -EISDIR, "is a directory");
	expect_refusal(loop, "/dev/null", NULL, -EINVAL, "neither a file nor a block device");
	snprintf(spec, sizeof(spec), "%s/no/such", dir);
	expect_refusal(loop, spec, &create, -ENOENT, "its directory does not exist");
	expect_refusal(loop, path, &odd, -EINVAL, "multiple of 4096");
	assert_int_equal(access(path, F_OK), -1); /* what was made for nothing is gone */
	/* ENOSPC or EFBIG, by the file system. */
	assert_true(bdev_open(&b, path, loop, &huge, NULL) < 0);
	assert_null(b);
	assert_int_equal(access(path, F_OK), -1);
	file_of(0);
	expect_refusal(loop, path, NULL, -EINVAL, "too small");
	file_of(2048);
	expect_refusal(loop, path, NULL, -EINVAL, "too small");
	file_of(1 * MIB + 100);
	expect_refusal(loop, path, NULL, -EINVAL, "no multiple of 512");
	file_of(1 * MIB);
	snprintf(spec, sizeof(spec), "%s?dirct=0", path);
	expect_refusal(loop, spec, NULL, -EINVAL, "dirct");
	snprintf(spec, sizeof(spec), "%s?block=1024", path);
	expect_refusal(loop, spec, NULL, -EINVAL, "512 or 4096");
	snprintf(spec, sizeof(spec), "%s?io_max=1000", path);
	expect_refusal(loop, spec, NULL, -EINVAL, "io_max");
	snprintf(spec, sizeof(spec), "%s?iopoll=1&direct=0", path);
	expect_refusal(loop, spec, NULL, -EINVAL, "direct");
	expect_refusal(sim, path, NULL, -EINVAL, "simulation");
	loop_free(loop);
	loop_free(sim);
}

/* In a child, since the tests may run as root, whom nothing is forbidden. */
static void test_no_permission(void **state)
{
	int status;
	pid_t pid;

	file_of(1 * MIB);
	assert_int_equal(chmod(path, 0), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct loop *loop = real_loop();
		struct pst_err err = {0};
		struct bdev *b = NULL;
		int rc;

		if (!getuid() && (setgid(65534) || setuid(65534)))
			_exit(2);
		rc = bdev_open(&b, path, loop, NULL, &err);
		_exit(rc == -EACCES && strstr(err.text, "no permission") ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* A file system without direct I/O is an error; and asked for, the page cache does it. */
static void test_no_direct_io(void **state)
{
	const struct bdev_open_opts create = {.create = true, .size_bytes = 1 * MIB};
	char spec[64];
	char *buf = aligned(4096);
	struct loop *loop = real_loop();
	struct bdev *b;

	if (access("/dev/shm", W_OK)) {
		print_message("no /dev/shm here: skipped\n");
		skip();
	}
	snprintf(spec, sizeof(spec), "/dev/shm/test_uring.%d", getpid());
	expect_refusal(loop, spec, &create, -ENOTSUP, "no direct I/O");
	assert_int_equal(access(spec, F_OK), -1);
	strcat(spec, "?direct=0");
	assert_int_equal(bdev_open(&b, spec, loop, &create, NULL), 0);
	assert_int_equal(b->info.mem_align, 1);
	pattern(buf, 4096, 7);
	assert_int_equal(do_io(b, BDEV_WRITE, 4096, buf, 4096, BDEV_FUA), 0);
	memset(buf, 0, 4096);
	assert_int_equal(do_io(b, BDEV_READ, 4096, buf, 4096, 0), 0);
	assert_int_not_equal(buf[0] | buf[1] | buf[2] | buf[3], 0);
	bdev_close(b);
	*strchr(spec, '?') = '\0';
	unlink(spec);
	mem_free(buf);
	loop_free(loop);
}

static void test_block_sizes(void **state)
{
	struct loop *loop = real_loop();
	char spec[2 * PATH_MAX];
	struct bdev *b;

	file_of(1 * MIB + 512);
	b = must_open(path, loop);
	assert_int_equal(b->info.block_bytes, 512);
	bdev_close(b);
	file_of(1 * MIB);
	snprintf(spec, sizeof(spec), "%s?block=512", path);
	b = must_open(spec, loop);
	assert_int_equal(b->info.block_bytes, 512);
	assert_true(b->info.mem_align <= 4096);
	bdev_close(b);
	loop_free(loop);
}

/* --- locks --- */

/* A child that holds the device; it says so through *@ret_ready and ends when @ret_hold is closed.
 */
static pid_t hold(bool read_only, int *ret_hold)
{
	int ready[2], end[2];
	char c = 0;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(end), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		const struct bdev_open_opts opts = {.read_only = read_only};
		struct loop *loop = real_loop();
		struct bdev *b;

		close(end[1]);
		c = bdev_open(&b, path, loop, &opts, NULL) ? 'n' : 'y';
		if (write(ready[1], &c, 1) != 1 || read(end[0], &c, 1) != 0)
			_exit(1);
		_exit(0);
	}
	close(ready[1]);
	close(end[0]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	assert_int_equal(c, 'y');
	close(ready[0]);
	*ret_hold = end[1];
	return pid;
}

static void let_go(pid_t pid, int hold_fd)
{
	int status;

	close(hold_fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_lock(void **state)
{
	const struct bdev_open_opts reader = {.read_only = true};
	struct loop *loop = real_loop();
	char who[64];
	struct bdev *b;
	int fd;
	pid_t pid;

	file_of(1 * MIB);
	pid = hold(false, &fd);
	snprintf(who, sizeof(who), "process %d", (int)pid);
	expect_refusal(loop, path, NULL, -EBUSY, who);
	expect_refusal(loop, path, NULL, -EBUSY, path);
	expect_refusal(loop, path, &reader, -EBUSY, who);
	let_go(pid, fd);

	pid = hold(true, &fd);
	expect_refusal(loop, path, NULL, -EBUSY, "in use");
	assert_int_equal(bdev_open(&b, path, loop, &reader, NULL), 0);
	assert_int_equal(do_io(b, BDEV_DISCARD, 0, NULL, 4096, 0), -EROFS);
	bdev_close(b);
	let_go(pid, fd);

	/* Twice in one process is once too often as well. */
	b = must_open(path, loop);
	expect_refusal(loop, path, NULL, -EBUSY, "in use");
	bdev_close(b);
	b = must_open(path, loop);
	bdev_close(b);
	loop_free(loop);
}

static void resubmit(struct bdev_io *io)
{
	struct tio *t = container_of(io, struct tio, io);

	io->off_bytes = (io->off_bytes + 4096 * 37) % (8 * MIB);
	io->done = resubmit;
	bdev_submit((struct bdev *)(void *)t->orders, io);
}

/* Writes as fast as it can, for ever. */
static _Noreturn void writer_main(void)
{
	enum { DEPTH = 32 };
	struct loop *loop = real_loop();
	static struct tio t[DEPTH];
	char *buf = aligned(4096);
	struct bdev *b = must_open(path, loop);

	for (unsigned i = 0; i < DEPTH; i++) {
		tio_submit(b, &t[i], BDEV_WRITE, i * 4096, buf, 4096, BDEV_FUA);
		t[i].io.done = resubmit;
		t[i].orders = (unsigned *)(void *)b;
	}
	for (;;)
		loop_turn(loop, UINT64_MAX);
}

/* A killed process's lock is waited for, and nothing it wrote lands after the lock is ours. */
static void test_lock_after_kill(void **state)
{
	struct loop *loop = real_loop();
	char *zero = aligned(8 * MIB), *now = aligned(8 * MIB);
	struct bdev *b;

	bdev_close(make(loop, "", 8 * MIB));
	memset(zero, 0xa5, 8 * MIB);
	for (unsigned i = 0; i < 20; i++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (!pid)
			writer_main();
		usleep(5000 + i * 1000);
		kill(pid, SIGKILL);
		/* Every other time not even reaped: a zombie holds nothing either. */
		if (i % 2)
			waitpid(pid, NULL, 0);
		b = must_open(path, loop);
		assert_int_equal(do_io(b, BDEV_WRITE, 0, zero, 8 * MIB, 0), 0);
		usleep(1000);
		assert_int_equal(do_io(b, BDEV_READ, 0, now, 8 * MIB, 0), 0);
		assert_memory_equal(zero, now, 8 * MIB);
		bdev_close(b);
		if (i % 2 == 0)
			waitpid(pid, NULL, 0);
	}
	mem_free(zero);
	mem_free(now);
	loop_free(loop);
}

/* --- requests --- */

/* One request over @count pieces of @piece bytes (the last ones shorter, to make @len). */
static void pieces_io(struct bdev *b, enum bdev_op op, char *buf, uint64_t len, uint64_t piece)
{
	unsigned count = (unsigned)DIV_ROUND_UP(len, piece);
	struct iovec *iov = calloc(count, sizeof(*iov));
	struct tio t = {.loop = b->loop};

	for (unsigned i = 0; i < count; i++)
		iov[i] = (struct iovec){buf + i * piece, MIN(piece, len - i * piece)};
	t.io = (struct bdev_io){.op = op,
	                        .off_bytes = 8192,
	                        .len_bytes = len,
	                        .iov = iov,
	                        .iov_count = count,
	                        .done = tio_done};
	bdev_submit(b, &t.io);
	assert_int_equal(tio_wait(&t), 0);
	free(iov);
}

static void pieces(const char *options, uint64_t piece)
{
	const uint64_t len = 3 * MIB + 4096;
	struct loop *loop = real_loop();
	struct bdev *b = make(loop, options, 8 * MIB);
	char *w = aligned(len), *r = aligned(len), *around = aligned(4096);

	pattern(w, len, piece);
	pieces_io(b, BDEV_WRITE, w, len, piece);
	assert_int_equal(do_io(b, BDEV_READ, 8192, r, len, 0), 0);
	assert_memory_equal(w, r, len);
	memset(r, 0, len);
	pieces_io(b, BDEV_READ, r, len, piece);
	assert_memory_equal(w, r, len);
	/* Nothing beside it was touched. */
	memset(w, 0, 4096);
	assert_int_equal(do_io(b, BDEV_READ, 4096, around, 4096, 0), 0);
	assert_memory_equal(w, around, 4096);
	assert_int_equal(do_io(b, BDEV_READ, 8192 + len, around, 4096, 0), 0);
	assert_memory_equal(w, around, 4096);
	mem_free(w);
	mem_free(r);
	mem_free(around);
	bdev_close(b);
	unlink(path);
	loop_free(loop);
}

static void test_split(void **state)
{
	pieces("", 4 * MIB);             /* one piece */
	pieces("?io_max=64k", 4 * MIB);  /* one piece, many parts */
	pieces("?io_max=64k", 20 * KIB); /* parts end inside pieces */
	pieces("?io_max=4k", 1536);      /* and blocks too */
	pieces("", 512);                 /* more pieces than the kernel takes: 6152 */
	pieces("?direct=0", 1000);       /* no alignment at all */
	pieces("?direct=0&io_max=12k", 4 * MIB);
	pieces("?registered=0", 512 * KIB);
}

/* Far more requests than the ring has room for, from one submission. */
static void test_more_than_the_ring(void **state)
{
	enum { N = 1000 };
	struct loop *loop = real_loop_of(8);
	struct bdev *b = make(loop, "", 8 * MIB);
	static struct tio t[N];
	char *buf = aligned((size_t)N * 4096), *r = aligned((size_t)N * 4096);

	pattern(buf, (size_t)N * 4096, 3);
	for (unsigned i = 0; i < N; i++)
		tio_submit(b, &t[i], BDEV_WRITE, i * 4096ull, buf + i * 4096ull, 4096, 0);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(tio_wait(&t[i]), 0);
	for (unsigned i = 0; i < N; i++)
		tio_submit(b, &t[i], BDEV_READ, i * 4096ull, r + i * 4096ull, 4096, 0);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(tio_wait(&t[i]), 0);
	assert_memory_equal(buf, r, (size_t)N * 4096);
	mem_free(buf);
	mem_free(r);
	bdev_close(b);
	loop_free(loop);
}

/* A file that somebody cuts while it is in use: an error, never short or made-up data. */
static void test_truncated(void **state)
{
	struct loop *loop = real_loop();
	struct bdev *b = make(loop, "", 1 * MIB);
	char *r = aligned(128 * KIB);

	assert_int_equal(truncate(path, 64 * KIB), 0);
	assert_int_equal(do_io(b, BDEV_READ, 64 * KIB, r, 4096, 0), -EIO);
	assert_int_equal(do_io(b, BDEV_READ, 0, r, 128 * KIB, 0), -EIO);
	assert_int_equal(do_io(b, BDEV_READ, 0, r, 64 * KIB, 0), 0);
	mem_free(r);
	bdev_close(b);
	loop_free(loop);
}

static void test_holes(void **state)
{
	struct loop *loop = real_loop();
	struct bdev *b = make(loop, "", 8 * MIB);
	char *w = aligned(3 * MIB), *r = aligned(3 * MIB), *zero = aligned(3 * MIB);

	pattern(w, 3 * MIB, 9);
	assert_int_equal(do_io(b, BDEV_WRITE, 1 * MIB, w, 3 * MIB, 0), 0);
	/* A file keeps the space that was allocated for it. */
	assert_int_equal(do_io(b, BDEV_DISCARD, 1 * MIB, NULL, 3 * MIB, 0), 0);
	assert_true(allocated() >= 8 * MIB);
	assert_int_equal(do_io(b, BDEV_WRITE_ZEROES, 1 * MIB + 4096, NULL, 2 * MIB + 8192, 0), 0);
	assert_true(allocated() >= 8 * MIB);
	assert_int_equal(do_io(b, BDEV_READ, 1 * MIB, r, 3 * MIB, 0), 0);
	assert_memory_equal(r, w, 4096);
	assert_memory_equal(r + 4096, zero, 2 * MIB + 8192);
	assert_memory_equal(r + 2 * MIB + 12288, w + 2 * MIB + 12288, MIB - 12288);
	bdev_close(b);
	/* Unless it is told not to. */
	b = make(loop, "?discard=1", 8 * MIB);
	assert_true(b->info.discard);
	assert_int_equal(do_io(b, BDEV_DISCARD, 1 * MIB, NULL, 3 * MIB, 0), 0);
	assert_true(allocated() < 6 * MIB);
	assert_int_equal(do_io(b, BDEV_READ, 1 * MIB, r, 3 * MIB, 0), 0);
	assert_memory_equal(r, zero, 3 * MIB);
	bdev_close(b);
	mem_free(w);
	mem_free(r);
	mem_free(zero);
	loop_free(loop);
}

/* --- registered memory --- */

static int region_io(struct bdev *b, enum bdev_op op, struct mem_region *r, void *buf, uint64_t len)
{
	struct tio t = {.loop = b->loop, .iov[0] = {buf, len}};

	t.io = (struct bdev_io){.op = op,
	                        .off_bytes = 4096,
	                        .len_bytes = len,
	                        .iov = t.iov,
	                        .iov_count = 1,
	                        .region = r,
	                        .done = tio_done};
	bdev_submit(b, &t.io);
	return tio_wait(&t);
}

static void region_on(const char *options)
{
	struct loop *loop = real_loop();
	struct bdev *b = make(loop, options, 8 * MIB);
	struct mem_region *r, *r2;
	uint64_t fixed = uring_fixed_count;
	char *buf, *outside = aligned(4096);

	assert_int_equal(mem_region_new(&r, MEM_HOST, 1 * MIB), 0);
	assert_int_equal(mem_region_new(&r2, MEM_SHARED, 64 * KIB), 0);
	buf = r->addr;
	pattern(buf, 1 * MIB, 4);
	assert_int_equal(region_io(b, BDEV_WRITE, r, buf + 8192, 64 * KIB), 0);
	assert_int_equal(region_io(b, BDEV_READ, r2, r2->addr, 64 * KIB), 0);
	assert_memory_equal(r2->addr, buf + 8192, 64 * KIB);
	assert_int_equal(region_io(b, BDEV_READ, r, buf, 64 * KIB), 0);
	assert_memory_equal(r2->addr, buf, 64 * KIB);
	assert_int_equal(uring_fixed_count, fixed + 3);
	/* Memory outside the region that is named works too, at the usual price. */
	assert_int_equal(region_io(b, BDEV_READ, r, outside, 4096), 0);
	assert_memory_equal(r2->addr, outside, 4096);
	assert_int_equal(uring_fixed_count, fixed + 3);
	/* One region ends before the device, the other after. */
	mem_region_free(r);
	bdev_close(b);
	mem_region_free(r2);
	mem_free(outside);
	unlink(path);
	loop_free(loop);
}

static void test_region(void **state)
{
	region_on("");
	region_on("?sqpoll=1");
}

/* Two devices on one loop share registrations; each in turn is the last to go. */
static void test_region_shared(void **state)
{
	struct loop *loop = real_loop();
	struct bdev *a = make(loop, "", 1 * MIB), *b;
	char path_b[2 * PATH_MAX];
	const struct bdev_open_opts opts = {.create = true, .size_bytes = 1 * MIB};
	struct mem_region *r;
	uint64_t fixed = uring_fixed_count;

	snprintf(path_b, sizeof(path_b), "%s.b", path);
	assert_int_equal(bdev_open(&b, path_b, loop, &opts, NULL), 0);
	assert_int_equal(mem_region_new(&r, MEM_HOST, 64 * KIB), 0);
	assert_int_equal(region_io(a, BDEV_WRITE, r, r->addr, 64 * KIB), 0);
	assert_int_equal(region_io(b, BDEV_WRITE, r, r->addr, 64 * KIB), 0);
	bdev_close(a);
	assert_int_equal(region_io(b, BDEV_READ, r, r->addr, 64 * KIB), 0);
	assert_int_equal(uring_fixed_count, fixed + 3);
	bdev_close(b);
	/* All anew. */
	b = make(loop, "", 1 * MIB);
	assert_int_equal(region_io(b, BDEV_READ, r, r->addr, 64 * KIB), 0);
	assert_int_equal(uring_fixed_count, fixed + 4);
	bdev_close(b);
	mem_region_free(r);
	unlink(path_b);
	loop_free(loop);
}

/* --- rings of its own --- */

static void exercise(struct bdev *b, uint64_t tag)
{
	enum { N = 600 };
	static struct tio t[N];
	const uint32_t bb = b->info.block_bytes;
	char *buf = aligned((size_t)N * bb), *r = aligned((size_t)N * bb);

	pattern(buf, (size_t)N * bb, tag);
	for (unsigned i = 0; i < N; i++)
		tio_submit(b, &t[i], BDEV_WRITE, (uint64_t)i * bb, buf + (size_t)i * bb, bb,
		           i % 50 ? 0 : BDEV_FUA);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(tio_wait(&t[i]), 0);
	assert_int_equal(do_io(b, BDEV_FLUSH, 0, NULL, 0, 0), 0);
	assert_int_equal(do_io(b, BDEV_READ, 0, r, (uint64_t)N * bb, 0), 0);
	assert_memory_equal(buf, r, (size_t)N * bb);
	memset(buf + 4 * bb, 0, (size_t)8 * bb);
	assert_int_equal(do_io(b, BDEV_WRITE_ZEROES, 4 * bb, NULL, 8 * bb, 0), 0);
	assert_int_equal(do_io(b, BDEV_READ, 0, r, (uint64_t)N * bb, 0), 0);
	assert_memory_equal(buf, r, (size_t)N * bb);
	assert_int_equal(do_io(b, BDEV_DISCARD, 4 * bb, NULL, 8 * bb, 0), 0);
	mem_free(buf);
	mem_free(r);
}

static void test_sqpoll(void **state)
{
	struct loop *loop = real_loop();
	struct bdev *b = make(loop, "?sqpoll=1", 8 * MIB);

	assert_non_null(((struct uring_dev *)(void *)b)->own);
	exercise(b, 1);
	/* Idle: the loop may sleep although the device polls. */
	assert_int_equal(loop_turn(loop, 5 * NSEC_PER_MSEC), 0);
	bdev_close(b);
	loop_free(loop);
}

/* It works or is refused with the reason, as the device below has polled queues or not. */
static void test_iopoll(void **state)
{
	struct loop *loop = real_loop();
	char spec[2 * PATH_MAX];
	struct pst_err err = {0};
	struct bdev *b;
	int rc;

	bdev_close(make(loop, "", 8 * MIB));
	snprintf(spec, sizeof(spec), "%s?iopoll=1", path);
	rc = bdev_open(&b, spec, loop, NULL, &err);
	if (!rc) {
		exercise(b, 1);
		bdev_close(b);
	} else {
		assert_int_equal(rc, -ENOTSUP);
		assert_non_null(strstr(err.text, "no polled queues"));
	}
	loop_free(loop);
}

/* --- block devices --- */

/* The first line of what @command prints, in @out; false if it failed. */
static bool run(const char *command, char *out, size_t out_len)
{
	FILE *f = popen(command, "re"); /* NOLINT(cert-env33-c): the command is ours */
	bool ok;

	assert_non_null(f);
	ok = fgets(out, (int)out_len, f);
	ok = !pclose(f) && ok;
	out[strcspn(out, "\n")] = '\0';
	return ok;
}

static void block_device(unsigned sector)
{
	struct loop *loop = real_loop();
	char command[2 * PATH_MAX], dev[128] = "", spec[160];
	const struct bdev_open_opts reader = {.read_only = true};
	struct bdev *b, *b2;

	bdev_close(make(loop, "", 16 * MIB));
	snprintf(command, sizeof(command),
	         "losetup --find --show --direct-io=on --sector-size %u %s 2>/dev/null", sector,
	         path);
	if (!run(command, dev, sizeof(dev)) || !*dev) {
		print_message("losetup is not permitted here: block devices of %u not tested\n",
		              sector);
		loop_free(loop);
		skip();
	}
	b = must_open(dev, loop);
	assert_true(((struct uring_dev *)(void *)b)->is_block);
	assert_int_equal(b->info.size_bytes, 16 * MIB);
	assert_int_equal(b->info.block_bytes, sector);
	assert_true(b->info.mem_align <= 4096);
	exercise(b, sector);
	expect_refusal(loop, dev, NULL, -EBUSY, dev);
	bdev_close(b);
	assert_int_equal(bdev_open(&b, dev, loop, &reader, NULL), 0);
	assert_int_equal(bdev_open(&b2, dev, loop, &reader, NULL), 0);
	bdev_close(b);
	bdev_close(b2);
	/* Claimed by somebody else, as a mount would. */
	{
		int fd = open(dev, O_RDWR | O_EXCL | O_CLOEXEC);

		assert_true(fd >= 0);
		expect_refusal(loop, dev, NULL, -EBUSY, "in use by the kernel");
		close(fd);
	}
	snprintf(spec, sizeof(spec), "%s?block=512", dev);
	if (sector == 4096)
		expect_refusal(loop, spec, NULL, -EINVAL, "sectors of 4096");
	snprintf(spec, sizeof(spec), "%s?sqpoll=1", dev);
	b = must_open(spec, loop);
	exercise(b, sector + 1);
	bdev_close(b);
	snprintf(command, sizeof(command), "losetup -d %s; echo done", dev);
	assert_true(run(command, dev, sizeof(dev)));
	loop_free(loop);
}

static void test_block_512(void **state)
{
	block_device(512);
}

static void test_block_4096(void **state)
{
	block_device(4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_teardown(test_create, remove_file),
	        cmocka_unit_test_teardown(test_prewrite, remove_file),
	        cmocka_unit_test_teardown(test_refusals, remove_file),
	        cmocka_unit_test_teardown(test_no_permission, remove_file),
	        cmocka_unit_test_teardown(test_no_direct_io, remove_file),
	        cmocka_unit_test_teardown(test_block_sizes, remove_file),
	        cmocka_unit_test_teardown(test_lock, remove_file),
	        cmocka_unit_test_teardown(test_lock_after_kill, remove_file),
	        cmocka_unit_test_teardown(test_split, remove_file),
	        cmocka_unit_test_teardown(test_more_than_the_ring, remove_file),
	        cmocka_unit_test_teardown(test_truncated, remove_file),
	        cmocka_unit_test_teardown(test_holes, remove_file),
	        cmocka_unit_test_teardown(test_region, remove_file),
	        cmocka_unit_test_teardown(test_region_shared, remove_file),
	        cmocka_unit_test_teardown(test_sqpoll, remove_file),
	        cmocka_unit_test_teardown(test_iopoll, remove_file),
	        cmocka_unit_test_teardown(test_block_512, remove_file),
	        cmocka_unit_test_teardown(test_block_4096, remove_file),
	};
	const char *tmp = getenv("TMPDIR");
	int failed;

	snprintf(dir, sizeof(dir), "%s/test_uring.XXXXXX", tmp && *tmp ? tmp : "/var/tmp");
	if (!mkdtemp(dir)) {
		perror(dir);
		return 1;
	}
	snprintf(path, sizeof(path), "%s/device", dir);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return failed;
}
