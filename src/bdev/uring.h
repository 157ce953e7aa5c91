/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * uring - a file or block device through io_uring: what the files of this backend share. Private to
 * them.
 *
 *   uring.c        requests: from bdev_submit to done, splitting, resubmission, queueing
 *   uring_open.c   the device string, opening, geometry, creation, refusals in words
 *   uring_lock.c   one process at a time
 *   uring_ring.c   rings of a device's own, for SQPOLL and IOPOLL
 *   uring_mem.c    memory regions as registered buffers
 */
#ifndef BDEV_URING_H
#define BDEV_URING_H

#include <liburing.h>
#include <stdio.h>
#include <sys/stat.h>

#include "bdev/bdev.h"
#include "loop/slots.h"

/* --- uring_mem.c: one domain for each ring, shared by all devices on it --- */

struct uring_domain;
/* Finds or makes the domain of @slots, which the loop's ring (own == false) or a ring that @loop
 * merely drives has. Counted; uring_domain_put() ends its registrations with the last. */
int uring_domain_get(struct uring_domain **ret_domain, struct loop *loop, struct ring_slots *slots);
void uring_domain_put(struct uring_domain *d);
/* The registered buffer that holds all of [@addr, @addr + @len), registering @region if it is new;
 * or -1: use an ordinary request. */
int uring_domain_buffer(struct uring_domain *d, struct mem_region *region, const void *addr,
                        size_t len);

/* --- uring_ring.c --- */

struct uring_ring;
struct uring_ring_opts {
	bool sqpoll, iopoll;
	unsigned sqpoll_idle_ms;
	unsigned entries;
};
int uring_ring_new(struct uring_ring **ret_ring, struct loop *loop,
                   const struct uring_ring_opts *opts, struct pst_err *err);
void uring_ring_free(struct uring_ring *r); /* nothing in flight (asserted); accepts NULL */
struct ring_slots *uring_ring_slots(struct uring_ring *r);
/* As loop_sqe. */
struct io_uring_sqe *uring_ring_sqe(struct uring_ring *r, struct loop_io *io);

/* --- uring_lock.c --- */

/*
 * Takes flock() on @fd, shared if @shared. If the holder is a process that was killed and whose
 * last requests the kernel has not finished, waits for it; else -EBUSY with a sentence that names
 * @path and, where it can be found out, the holder.
 */
int uring_lock(int fd, const char *path, bool shared, struct pst_err *err);
/* A part of that, for its test: a process from number *at on that has the open file which holds the flock on
 * @st, and will go on; 0: none that can be seen. Looks for @budget_ns, and at URING_KEEPER_LOOKS descriptors
 * at least; *at is where to go on, 0 when all were seen. */
#define URING_KEEPER_LOOKS 256
int uring_keeper(int *at, const struct stat *st, uint64_t budget_ns);
/* Does a descriptor with this fdinfo stand for that open file? */
bool uring_fdinfo_locked(FILE *f, const struct stat *st);

/* --- the device --- */

struct uring_dev {
	struct bdev b; /* first */
	int fd;        /* does the I/O and holds the flock */
	int claim_fd;  /* block devices: holds the O_EXCL claim; -1 */
	unsigned file_slot;
	bool file_registered;
	bool own_file_registered; /* slot 0 of the ring of its own */
	unsigned lock_slot[2];    /* of a second reactor: the first one's file; see uring_also() */
	bool lock_held[2];        /* by the loop's ring, by its own */
	bool is_block;
	bool direct;
	bool cmd_discard;  /* try the block layer's discard command before hole punching */
	uint32_t io_align; /* what a part's length and place in the file must be multiples of */
	uint32_t io_max_bytes;
	struct uring_ring *own; /* reads and writes go there; NULL: the loop's */
	struct uring_ring_opts own_opts;
	bool registered_asked;
	struct uring_domain *domain;
	struct list backlog; /* bdev_io.link: waiting for a place in the ring */
	struct loop_poller backlog_poller;
	bool backlog_polled;
	uint32_t inflight; /* requests that the kernel has */
	void *zeroes;      /* ZEROES_BYTES of them, for BDEV_WRITE_ZEROES on files */
};

#define ZEROES_BYTES (1 * MIB)
/* The requests of @d that were counted for tests: how many went out with a registered buffer. */
extern _Thread_local uint64_t uring_fixed_count;

void uring_dev_init(struct uring_dev *d); /* sets ->b.ops and the backlog */
void uring_dev_free(struct uring_dev *d); /* a half-opened one too */
/* bdev_ops.also (uring_open.c). */
int uring_also(struct bdev **ret_bdev, struct bdev *b, struct loop *loop, struct pst_err *err);

#endif
