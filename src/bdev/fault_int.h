/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fault_int - what the files of the fault device share. Private to it.
 *
 * The life of a request (struct fault_req, "q"):
 *
 *   submit   fault_submit() draws from the seed everything that will befall it, copies a write into
 *            the cache, and puts q on `delayed` (a timer) or `ready` (the poller);
 *   run      req_run(): it ends there, or reads below, passes below, or becomes a job;
 *   job      one at a time, in order: writes of the cache go below (fault_job.c);
 *   end      req_end() gives q back and runs the caller's done().
 *
 * Power cut: `cut` is set at once and whatever still waits becomes ready, to end with -EREMOTEIO.
 * When no job is being written any more, the seed decides what survives of the cache, and that is
 * written below; nothing else ever is.
 */
#ifndef BDEV_FAULT_INT_H
#define BDEV_FAULT_INT_H

#include "bdev/fault.h"
#include "bdev/fault_cache.h"

#define JOB_DEPTH 16 /* requests below at a time */

struct fault_knobs {
	uint64_t seed;
	double read_error, write_error, flush_error;
	double bit_flip, bit_rot, lost_write, torn_write, misdirect;
	uint64_t delay_us, delay_jitter_us, cut_after;
	bool cache;
};

enum req_step {
	REQ_END,  /* nothing to do below */
	REQ_READ, /* below, and what the cache has on top */
	REQ_PASS, /* as it is to the device below */
	REQ_JOB,  /* a flush, or a write that must be below before it completes */
};

struct fault_req {
	struct list link; /* ready, delayed, jobs or spare */
	struct fault *fault;
	struct bdev_io *io;
	struct bdev_io child;
	struct loop_timer timer;
	enum req_step step;
	int status;
	struct cache_write *write; /* held, or NULL */
	uint64_t flush_seq;        /* a flush covers writes completed up to here */
	bool flip;
	uint64_t flip_bit;
	/* What the cache had of a read when it began: blocks, and their numbers within the read. */
	uint8_t *overlay;
	uint32_t *overlay_index;
	uint32_t overlay_count;
};

struct job_child {
	struct bdev_io io;
	struct iovec iov;
	struct fault *fault;
};

/* Writing chosen versions below, a run of adjacent ones per request. */
struct fault_job {
	bool active;
	struct fault_req *req;                        /* NULL: no request waits for it */
	void (*written)(struct fault *f, int status); /* when all is below, or it failed */
	struct cache_write *at;                       /* the cursor; NULL: past the end */
	uint32_t at_index;
	uint32_t flags; /* of the requests below */
	unsigned inflight;
	int status;
	struct job_child child[JOB_DEPTH];
	struct job_child *spare[JOB_DEPTH];
	unsigned spare_count;
};

struct fault {
	struct bdev bdev;
	struct bdev *below;
	struct fault_knobs knobs;
	struct rng rng;
	struct cache cache;
	uint64_t done_seq;
	uint64_t mutations;
	bool cut, cut_applied;
	struct list ready, delayed, jobs, spare;
	struct list starved; /* struct bdev_io for which there was no fault_req */
	struct loop_poller poller;
	struct fault_job job;
	struct {
		uint32_t ops_mask;
		uint64_t n; /* 0: off */
		int status;
	} fail;
};

/* fault_io.c */
void fault_submit(struct bdev *b, struct bdev_io *io);
int fault_poll(struct loop_poller *p);
bool fault_may_sleep(struct loop_poller *p);
void req_end(struct fault_req *q, int status);

/* fault_job.c */
void job_queue(struct fault_req *q);
void job_drain(struct fault *f); /* everything but doomed writes goes below */
void flush_failed(struct fault *f, uint64_t flush_seq);
bool job_busy(const struct fault *f);

#endif
