/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * uring_bare - random I/O by io_uring with as little code as it takes: the baseline for the CPU
 * that an I/O costs. One thread, O_DIRECT, registered file, buffers and ring, one system call per
 * turn.
 */
#include <err.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rw_args.h"

static struct rw_args args;
static struct rw_run run = {.seed = 88172645463325252ull};
static struct io_uring ring;
static char *buffers;

static void queue(unsigned slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	char *buf = buffers + (size_t)slot * args.block_bytes;

	if (!sqe)
		errx(1, "the ring is full");
	if (args.write)
		io_uring_prep_write_fixed(sqe, 0, buf, args.block_bytes,
		                          rw_next(&run, args.block_bytes), 0);
	else
		io_uring_prep_read_fixed(sqe, 0, buf, args.block_bytes,
		                         rw_next(&run, args.block_bytes), 0);
	if (args.sync)
		sqe->rw_flags = RWF_DSYNC;
	sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = slot;
}

static uint64_t size_of(int fd)
{
	struct stat st;
	uint64_t size;

	if (fstat(fd, &st))
		err(1, "%s", args.target);
	if (S_ISREG(st.st_mode))
		return (uint64_t)st.st_size;
	if (ioctl(fd, BLKGETSIZE64, &size))
		err(1, "%s", args.target);
	return size;
}

static void set_up(void)
{
	int fd = open(args.target, (args.write ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
	size_t len = (size_t)args.depth * args.block_bytes;
	struct iovec iov;
	int rc;

	if (fd < 0)
		err(1, "%s", args.target);
	run.blocks = size_of(fd) / args.block_bytes;
	if (!run.blocks)
		errx(1, "%s is too small", args.target);
	buffers = aligned_alloc(4096, (len + 4095) / 4096 * 4096);
	if (!buffers)
		errx(1, "out of memory");
	memset(buffers, 0, len);
	iov = (struct iovec){buffers, len};
	rc = io_uring_queue_init(args.depth, &ring,
	                         IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	if (rc == -EINVAL)
		rc = io_uring_queue_init(args.depth, &ring, 0);
	if (rc < 0 || (rc = io_uring_register_files(&ring, &fd, 1)) < 0 ||
	    (rc = io_uring_register_buffers(&ring, &iov, 1)) < 0)
		errx(1, "io_uring: %s", strerror(-rc));
	io_uring_register_ring_fd(&ring);
}

/* Completes what is there; with @again each slot goes out anew. */
static unsigned reap(bool again)
{
	struct io_uring_cqe *cqe;
	unsigned head, count = 0;

	io_uring_for_each_cqe(&ring, head, cqe)
	{
		if (cqe->res != (int)args.block_bytes)
			errx(1, "I/O returned %d", cqe->res);
		if (again)
			queue((unsigned)cqe->user_data);
		count++;
	}
	io_uring_cq_advance(&ring, count);
	return count;
}

int main(int argc, char **argv)
{
	double start, cpu;
	unsigned left;

	rw_parse(&args, argc, argv);
	set_up();
	for (unsigned i = 0; i < args.depth; i++)
		queue(i);
	start = rw_now();
	cpu = rw_cpu();
	while (rw_now() < start + args.runtime_s) {
		io_uring_submit_and_wait(&ring, 1);
		run.ops += reap(true);
	}
	for (left = args.depth; left; left -= reap(false))
		io_uring_submit_and_wait(&ring, 1);
	run.ops += args.depth;
	run.wall_s = rw_now() - start;
	run.cpu_s = rw_cpu() - cpu;
	rw_report(&args, &run);
	io_uring_queue_exit(&ring);
	free(buffers);
	return 0;
}
