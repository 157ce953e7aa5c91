/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * perf - measuring devices: what to do, and what came out. perf_dev.c submits to block devices and to
 * NVMe queues, perf_run.c keeps them busy and judges the data, perf_report.c shows the results,
 * cmd_perf.c takes the options and starts the threads.
 *
 * A thread (struct perf) shares nothing with others but their meetings: it opens the devices for
 * itself, with its own loop, controllers and queues, and works on its own part of their blocks.
 *
 * Data is bench_pattern.c's: it names its device, place and write.
 */
#ifndef CLI_PERF_H
#define CLI_PERF_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "base/hist.h"
#include "bdev/bdev.h"
#include "cli/cli.h"
#include "penstock/nvme.h"

struct perf_params {
	const char *rw;
	bool reads, writes, random;
	uint64_t iosize, qdepth, queues, batch, size, rate, seed, mix, reset_ms;
	double runtime_s;
	bool verify, prepare, force, mixed, histogram;
	cpu_set_t cpus; /* a thread on each; none: one thread anywhere */
};

struct perf;
struct perf_dev;
struct perf_queue;

struct perf_req {
	struct perf_queue *q;
	uint64_t block; /* of p.iosize bytes */
	uint64_t start_ns;
	uint32_t generation;
	bool write;
	int status;
	uint8_t *buf; /* its own */
	uint64_t dma; /* NVMe */
	struct iovec iov;
	struct bdev_io io;
};

struct perf_queue {
	struct perf_dev *dev;
	unsigned index;
	struct perf_req *reqs;
	struct perf_req **ready; /* not under way */
	struct perf_req **came;  /* completed, not judged */
	unsigned ready_count, came_count, inflight;
	uint64_t next_block; /* sequential: each queue has its part */
	struct pst_nvme_queue *nvme;
	struct hist read_lat, write_lat; /* ns */
	uint64_t retries, issued;        /* issued: while it is measured */
};

struct perf_dev {
	struct perf *perf;
	const char *name;
	unsigned index;
	uint64_t first, blocks; /* this thread's part */
	uint64_t size_bytes;
	uint32_t align;
	bool is_nvme;
	/* One of these: */
	struct bdev *bdev;
	struct pst_nvme *nvme;
	struct pst_nvme_namespace ns;
	struct mem_region *region;
	void *memory;
	uint64_t memory_dma;
	struct perf_queue *queues;
	uint32_t *
	        generation; /* verify: of each block's last acknowledged write in this run; 0: none */
	uint8_t *busy;      /* verify: blocks with a command under way */
};

#define PERF_THREADS_MAX 256u

/* What the threads have in common. */
struct perf_all {
	struct cli *cli;
	char **names; /* of the devices */
	unsigned threads, dev_count;
	struct perf *perf; /* one for each thread; the first one is the main thread's */
	pthread_barrier_t meeting;
	atomic_bool failed; /* before the measurement: nobody goes on */
	double cpu_user_s, cpu_sys_s;
};

struct perf {
	struct perf_all *all;
	unsigned thread;
	int cpu; /* the processor that it stays on; -1: any */
	pthread_t pthread;
	int status;                /* its end */
	atomic_uint_fast64_t done; /* for the line of progress */
	struct cli *cli;
	struct perf_params p;
	struct loop *loop; /* of block devices */
	struct perf_dev *devs;
	unsigned dev_count;
	struct rng rng;
	/* results */
	double seconds;
	uint64_t errors, verify_errors, verified, issued;
	uint64_t prepared_bytes, checked_bytes, resets;
};

/* --- perf_dev.c --- */

/* On the thread that works on it. CLI_OK, or a status with the message printed. */
int perf_dev_open(struct perf_dev *d, const char *name);
/* On the same thread: all but what there is to tell of its queues. Accepts one that was not opened;
 * nothing is under way. */
void perf_dev_close(struct perf_dev *d);
void perf_dev_free(struct perf_dev *d);
/* Sends the last @count of q->ready. Returns how many went. */
unsigned perf_send(struct perf_queue *q, unsigned count);
/* Lets devices work, and moves what completed to q->came. -ENODEV when a device is gone. */
int perf_poll(struct perf *perf, struct perf_dev *d);

/* Resets the device's controller, in one of its next polls. False: it is none of NVMe's. */
bool perf_dev_reset(struct perf_dev *d);
/* How often that was done. */
uint64_t perf_dev_resets(const struct perf_dev *d);

/* --- perf_run.c --- */

/* All of it: prepare, measure, verify again. CLI_OK or CLI_FAILED, with the message printed. All
 * threads come to the same meetings in it. */
int perf_run(struct perf *perf);
/* Waits for the other threads. False: one of them (@ok is false) can't go on, so nobody does. */
bool perf_meet(struct perf *perf, bool ok);

/* --- perf_report.c --- */

/* The results of all threads. CLI_OK or CLI_FAILED. */
int perf_report(const struct perf_all *all);

#endif
