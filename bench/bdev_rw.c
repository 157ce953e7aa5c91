/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bdev_rw - what uring_bare does, through a loop and a block device of any scheme: what those two
 * rooms add to the cost of an I/O.
 */
#include <err.h>

#include "bdev/bdev.h"
#include "rw_args.h"

struct slot {
	struct bdev_io io;
	struct iovec iov;
};

static struct rw_args args;
static struct rw_run run = {.seed = 88172645463325252ull};
static struct bdev *dev;
static struct slot slots[DEPTH_MAX];
static unsigned inflight;
static bool ending;

static void slot_submit(struct slot *s)
{
	s->io.off_bytes = rw_next(&run, args.block_bytes);
	inflight++;
	bdev_submit(dev, &s->io);
}

static void slot_done(struct bdev_io *io)
{
	struct slot *s = container_of(io, struct slot, io);

	if (io->status)
		errx(1, "I/O at %llu: %s", (unsigned long long)io->off_bytes,
		     strerror(-io->status));
	inflight--;
	run.ops++;
	if (!ending)
		slot_submit(s);
	else if (!inflight)
		loop_stop(dev->loop);
}

static void slot_init(struct slot *s, struct mem_region *region, unsigned i)
{
	s->iov.iov_base = (char *)region->addr + (size_t)i * args.block_bytes;
	s->iov.iov_len = args.block_bytes;
	s->io = (struct bdev_io){.op = args.write ? BDEV_WRITE : BDEV_READ,
	                         .flags = args.sync ? BDEV_FUA : 0,
	                         .iov = &s->iov,
	                         .iov_count = 1,
	                         .len_bytes = args.block_bytes,
	                         .region = region,
	                         .done = slot_done};
}

static void expire(struct loop_timer *t)
{
	ending = true;
}

static void measure(struct loop *loop)
{
	struct loop_timer timer = {.fired = expire};
	double start = rw_now(), cpu = rw_cpu();

	if (loop_timer_arm(loop, &timer, clock_mono_ns() + (uint64_t)(args.runtime_s * 1e9)))
		errx(1, "out of memory");
	for (unsigned i = 0; i < args.depth; i++)
		slot_submit(&slots[i]);
	if (loop_run(loop) < 0)
		errx(1, "the loop stopped");
	run.wall_s = rw_now() - start;
	run.cpu_s = rw_cpu() - cpu;
}

int main(int argc, char **argv)
{
	struct loop_opts opts;
	struct bdev_open_opts open_opts = {0};
	struct mem_region *region;
	struct pst_err e;
	struct loop *loop;

	rw_parse(&args, argc, argv);
	loop_opts_default(&opts);
	if (args.spin_us != ~0u)
		opts.spin_ns = args.spin_us * NSEC_PER_USEC;
	open_opts.read_only = !args.write;
	if (loop_new(&loop, &opts, &e) || bdev_open(&dev, args.target, loop, &open_opts, &e))
		errx(1, "%s", e.text);
	if (args.block_bytes % dev->info.block_bytes ||
	    mem_region_new(&region, MEM_HOST, (size_t)args.depth * args.block_bytes))
		errx(1, "block size or memory");
	run.blocks = dev->info.size_bytes / args.block_bytes;
	for (unsigned i = 0; i < args.depth; i++)
		slot_init(&slots[i], region, i);
	measure(loop);
	rw_report(&args, &run);
	bdev_close(dev);
	mem_region_free(region);
	loop_free(loop);
	return 0;
}
