/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bdev - where bytes rest: the block-device interface and its plain backends uring, mem, null and
 * fault. It knows nothing of objects.
 *
 * A bdev belongs to the loop that it was opened on. A request (struct bdev_io) belongs to its
 * caller, who keeps it and its memory untouched from bdev_submit() until done() runs. done() runs
 * once, from the loop's turn, never from inside bdev_submit(). A bdev queues without limit
 * (requests are linked through themselves) and passes at most what its kernel or device takes.
 *
 * Ordering and durability. Requests that overlap in time are unordered. A write that completed is
 * in the device's volatile cache; it is durable when a BDEV_FLUSH that was submitted after its
 * completion completes with 0, or when it was written with BDEV_FUA. A failed flush says nothing of
 * any write before it: never retry it, stop (see the store).
 */
#ifndef BDEV_BDEV_H
#define BDEV_BDEV_H

#include <sys/uio.h>

#include "base/base.h"
#include "loop/loop.h"
#include "mem/mem.h"

enum bdev_op {
	BDEV_READ,
	BDEV_WRITE,
	BDEV_FLUSH,        /* off, len and iov unused */
	BDEV_DISCARD,      /* contents undefined afterwards */
	BDEV_WRITE_ZEROES, /* contents zero afterwards */
};

#define BDEV_FUA 1u /* BDEV_WRITE: durable when it completes */

/* Private room for a backend inside each request. */
#define BDEV_IO_PRIV_WORDS 8

struct bdev_io {
	/* The caller's: */
	uint8_t op; /* enum bdev_op */
	bool lend;  /* BDEV_READ: a look at the data where the device has it will do: see lent */
	uint32_t flags; /* BDEV_FUA */
	uint32_t iov_count;
	uint64_t off_bytes;      /* both multiples of block_bytes */
	uint64_t len_bytes;      /* sum of the iov */
	const struct iovec *iov; /* stays valid until done; each base and length mem_align'ed */
	/* Memory region that holds all of the iov, or NULL: lets a backend use its registration. */
	struct mem_region *region;
	void (*done)(struct bdev_io *io);
	/* NULL at submission. Out, with lend: a device that has the data in memory may show it there, all of
	 * it, instead of filling the iov. It stays as it is until done() returns. */
	const void *lent;
	/* Out: 0, or a negative errno value: -EIO medium error, -ENOSPC, -ENODEV gone, -EINVAL bad
	 * request, -EROFS opened read-only, -EREMOTEIO the fault device's power is cut. Never a
	 * short transfer. */
	int status;
	/* The backend's: */
	struct list link;
	struct loop_io loop_io;
	uint64_t priv[BDEV_IO_PRIV_WORDS];
};

struct bdev_info {
	uint64_t size_bytes;
	uint32_t block_bytes;  /* 512 or 4096: granularity of off and len, and of a torn write */
	uint32_t mem_align;    /* what iov bases and lengths must be multiples of */
	uint32_t io_max_bytes; /* larger requests are split inside; 0: no limit */
	bool volatile_cache;   /* completed writes need a flush */
	bool discard;          /* BDEV_DISCARD does something */
	/* BDEV_FUA costs as much as a flush: who would force out several requests had better flush once
	 * after them. */
	bool fua_flushes;
	char name[256]; /* as the user wrote it, for messages */
};

struct bdev;

struct bdev_ops {
	void (*submit)(struct bdev *b, struct bdev_io *io);
	/* All requests are done (bdev_close asserts it). Frees @b. */
	void (*close)(struct bdev *b);
	/* For bdev_also(). NULL: one queue is all that there is. */
	int (*also)(struct bdev **ret_bdev, struct bdev *b, struct loop *loop, struct pst_err *err);
};

/* Embedded at the head of each backend's own structure, zeroed, then ops, loop and info filled. */
struct bdev {
	const struct bdev_ops *ops;
	struct loop *loop;
	struct bdev_info info;
	uint64_t inflight; /* kept by bdev_submit and bdev_done */
	bool read_only;    /* set by bdev_open: bdev_submit refuses what would change it */
	/* Requests that bdev_submit refused and that still have to be told so, from the loop. */
	struct list rejected;
	struct loop_poller reject_poller;
};

struct bdev_open_opts {
	bool read_only;      /* refuses writes; still takes the lock, shared */
	bool create;         /* uring: create the file of size_bytes if it is not there */
	bool allocate;       /* uring: holes of a file that is there get space too */
	uint64_t size_bytes; /* with create: allocated (fallocate), not sparse */
	/*
	 * With create: also writes zeroes all over the new file. A file system notes for allocated
	 * space whether it was ever written, in its journal, at the first durable write to each
	 * block: until then those take about twice as long. @progress (may be NULL) is called now
	 * and then.
	 */
	bool prewrite;
	void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
	void *progress_arg;
};

/*
 * bdev_open - opens "SCHEME:REST?options", or a bare path (uring:).
 *
 *   uring:PATH?direct=1&sqpoll=0&iopoll=0&registered=1&discard=...   file or block device by
 *                io_uring. O_DIRECT
 *                unless direct=0; a file system that can't is an error, not a fallback. Locked:
 *                exclusive for writers (flock; O_EXCL too on block devices). A lock that a dying
 *                process still holds is waited for. discard=1 is the default on block devices that
 *                can; on files it must be asked for, since it gives allocated space away. A file
 *                has blocks of 4096 bytes (512 if its size asks for it), but the disk below may
 *                tear a write at 512.
 *   mem:SIZE?block=4096&name=X   memory; with a name, its contents live as long as the process, so
 *                that a test can close and open it again.
 *   null:SIZE?block=512   nothing: writes are forgotten, reads leave the memory as it was.
 *   fault:SPEC?options   wraps another; takes the options of bdev/fault.h, passes others to SPEC.
 *
 * Blocks (open-time system calls). Errors: -EINVAL bad syntax or size, -ENOENT, -EACCES, -EBUSY (in
 * use by another process), -ENOTSUP (what was asked for can't be had), -ENOMEM, others of open(2);
 * @err says which in a sentence. On success *@ret_bdev is the caller's; bdev_close() ends it.
 */
int bdev_open(struct bdev **ret_bdev, const char *spec, struct loop *loop,
              const struct bdev_open_opts *opts, struct pst_err *err);
/*
 * What can be said of @spec without opening it: its scheme, its options and their values, and of a path what stands
 * there (a file, or a block device, to read and to write). 0, or what bdev_open() would say. Any thread; BLOCKS
 * in stat(2).
 */
int bdev_check(const char *spec, struct pst_err *err);
/*
 * bdev_files - the files and block devices that bdev_open() of @spec would open, each by the path that is in it; none
 * of memory, or of what is far away. Nothing is looked at. Ends with the first each() that does not return 0, and
 * returns that; or -EINVAL, -ENOMEM with a sentence. Any thread.
 */
int bdev_files(const char *spec, int (*each)(void *arg, const char *path), void *arg,
               struct pst_err *err);
/*
 * bdev_also - another way to the open device @b, on @loop, so that a second thread has requests of its
 * own under way there. Runs on @loop's thread while nobody closes @b; what it opens is closed before
 * @b is. Requests of the two are as unordered as those of one; a flush of either covers what had
 * completed on either. -ENOTSUP: this device has one queue only; else as bdev_open().
 */
int bdev_also(struct bdev **ret_bdev, struct bdev *b, struct loop *loop, struct pst_err *err);
/* Accepts NULL. All requests must be done (asserted). Not from inside a done(): the backend is
 * still on the stack there. May turn the loop (a fault device writes back what it holds). */
void bdev_close(struct bdev *b);
/*
 * mem: ends the named memory that "mem:SIZE?name=NAME" left behind and gives its pages back.
 * -ENOENT, or -EBUSY while it is open. For tests that make many.
 */
int bdev_mem_forget(const char *name);

/* Checks @io (alignment, range, overflow, a length of 0: -EINVAL in done()) and hands it to the
 * backend. */
void bdev_submit(struct bdev *b, struct bdev_io *io);
/* For backends: @io ends with @status. Called from the loop's turn. */
void bdev_done(struct bdev *b, struct bdev_io *io, int status);

/* Blocking helpers for open-time code: turn the loop until done, so never from inside one of its
 * callbacks. Errors as io->status. */
int bdev_read_sync(struct bdev *b, uint64_t off_bytes, void *buf, size_t len_bytes);
int bdev_write_sync(struct bdev *b, uint64_t off_bytes, const void *buf, size_t len_bytes,
                    uint32_t flags);
int bdev_flush_sync(struct bdev *b);

/* --- for backends: one per scheme, registered by a constructor --- */

struct bdev_driver {
	const char *scheme;
	const char *help; /* one line per option, for `penstock help devices` */
	int (*open)(struct bdev **ret_bdev, const char *rest, struct loop *loop,
	            const struct bdev_open_opts *opts, struct pst_err *err);
	/* What open() would say of @rest before it opens anything. */
	int (*check)(const char *rest, struct pst_err *err);
	/* For bdev_files(). NULL: it opens none. */
	int (*files)(const char *rest, int (*each)(void *arg, const char *path), void *arg,
	             struct pst_err *err);
	struct bdev_driver *next;
};
void bdev_driver_register(struct bdev_driver *d);
const struct bdev_driver *bdev_driver_first(void);

#endif
