/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * local - the engine: a store on block devices. Metadata in DRAM, logged to the devices,
 * checkpointed. docs/on-media-format.md says what lies where; engine.h how the parts work together.
 */
#ifndef STORE_LOCAL_LOCAL_H
#define STORE_LOCAL_LOCAL_H

#include "bdev/bdev.h"
#include "store/store.h"

/* Bugs that the simulation plants to show that it would catch them. Only with -Dtest_faults=true.
 */
enum local_plant {
	PLANT_NONE,
	PLANT_ACK_BEFORE_FLUSH,      /* complete durable ops when the log write is submitted */
	PLANT_REUSE_BEFORE_DURABLE,  /* freed space is allocated again at once */
	PLANT_DROP_REPLAY_RECORD,    /* the token is not logged with the change */
	PLANT_JOURNAL_OUT_OF_ORDER,  /* recovery applies an older journaled write after a newer one
	                              */
	PLANT_SKIP_CHECKSUM,         /* reads don't verify */
	PLANT_FORGET_SNAPSHOT_SPACE, /* recovery does not count what only snapshots hold */
	PLANT_ACCEPT_TORN_RECORD,    /* recovery does not verify a frame's checksum */
	PLANT_FLUSH_ONE_DEVICE,      /* a commit flushes the first device only */
	PLANT_TRIM_EARLY,            /* a checkpoint trims the log before its pages are flushed */
	PLANT_COUNT,
};
const char *local_plant_name(enum local_plant p);
/* By name; PLANT_NONE when there is no such bug or they are not compiled in. */
enum local_plant local_plant_by_name(const char *name);

struct local_opts {
	uint64_t index_limit_bytes;   /* DRAM for the index; 0: a quarter of the machine's */
	uint64_t csum_cache_bytes;    /* DRAM for checksum pages; 0: 64 MiB */
	uint64_t journal_cache_bytes; /* DRAM for journaled blocks; 0: 256 MiB, at most the log */
	bool journal_ahead;           /* all of that is taken, and touched, when the store opens */
	unsigned ops_max;             /* ops in flight; 0: 1024 */
	unsigned commits_max;         /* log frames in flight; 0: 2 */
	bool read_only;               /* nothing is written, recovery stays in memory */
	enum local_plant plant;
};

struct local_format_opts {
	bool force;             /* format devices that hold something */
	unsigned shards;        /* 0: chosen from the size */
	uint64_t journal_bytes; /* all shards' logs together; 0: chosen from the size */
	uint64_t region_bytes;  /* 0: chosen from the size */
	const char *label;      /* NULL: none */
	struct rng *rng;        /* simulation: identities come from it; NULL: random */
};

/* Whether a device holds something, by its signatures and by what is at its ends: 0: zeroes;
 * -EEXIST with a sentence. Memory has no path for libblkid to look at.
 */
int local_probe(struct bdev *dev, struct pst_err *err);

/*
 * Makes an empty store on @count devices (striped; metadata mirrored on each). Blocks.
 * -EEXIST: a device holds something and !force. -EINVAL: too small (LOCAL_DEVICE_MIN_BYTES), bad
 * option. -EFBIG: larger than LOCAL_DEVICE_MAX_BYTES. I/O errors as of bdev.
 */
#define LOCAL_DEVICE_MIN_BYTES (4 * MIB)
#define LOCAL_DEVICE_MAX_BYTES (1ull << 56)
int local_format(struct bdev *const *devs, unsigned count, const struct local_format_opts *opts,
                 struct pst_err *err);

/*
 * Opens the store on @count devices (any order) and recovers it. Blocks. On success the store owns
 * the devices; on failure the caller still does. -ENODATA: a device is no store. -EPROTONOSUPPORT:
 * newer version or unknown feature. -ENXIO: a device of the store is missing, or one is not of it.
 * -EBADMSG: metadata is damaged; the sentence says where. -ENOSPC: the index does not fit in
 * index_limit_bytes. -ENOMEM; I/O errors.
 */
int local_open(struct store **ret_store, struct loop *loop, struct bdev *const *devs,
               unsigned count, const struct local_opts *opts, struct pst_err *err);
/*
 * The same on several reactors: @loops[0] is the caller's, whose store it is; the others are turned by
 * threads of their own, or by the same one, or are the same loop (a simulation). Shard i belongs to
 * reactor i mod @count; nothing on media depends on it. -EINVAL: more reactors than the store has shards;
 * -ENOTSUP: a device that has one queue only (bdev_also()).
 */
#define LOCAL_REACTORS_MAX 64
int local_open_on(struct store **ret_store, struct loop *const *loops, unsigned count,
                  struct bdev *const *devs, unsigned dev_count, const struct local_opts *opts,
                  struct pst_err *err);
/*
 * Drops the store as a crash would: nothing more is written. Requests in flight on the devices are
 * waited for; queued ops complete with -ESHUTDOWN. Does not close the devices.
 */
void local_crash(struct store *store);

/* --- fsck --- */

struct local_fsck_opts {
	bool repair;
	bool data; /* read and verify every data block */
	/* Called for each finding, and with progress (total 0: not known). */
	void (*finding)(void *arg, const char *text, bool repaired);
	void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
	void *arg;
};
struct local_fsck_report {
	uint64_t findings, repaired;
	uint64_t containers, snapshots, objects, keys, extents, blocks, csum_errors;
	uint64_t frames, records;
};
/*
 * Checks a store that is not open: superblocks, headers, log, every index page, allocation against
 * references both ways, counters, and (opts->data) every data block's checksum. 0 when it could be
 * examined (findings or not), else as local_open().
 */
int local_fsck(struct loop *loop, struct bdev *const *devs, unsigned count,
               const struct local_fsck_opts *opts, struct local_fsck_report *ret_report,
               struct pst_err *err);

/*
 * For the repair of names in a snapshot: labels, small values and keys of @view change as @m says,
 * one after the other, durable when the store was closed in order. 0; -ENOENT: no such snapshot;
 * -ENOTSUP: it would change what holds blocks, or another kind of change; -EINVAL; -EROFS; -ENOMEM.
 */
int local_mend_view(struct store *store, uint32_t cont, uint64_t view, const struct pst_mut *m,
                    uint32_t count);

#endif
