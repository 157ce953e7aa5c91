/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * store - the one kind of request, the op, and the one interface that takes it. An engine is a
 * store that ends the way; a layer is a store on a store. The op table with every argument and
 * error is in docs/architecture.md; this header is its C form.
 *
 * Threads. A store belongs to one loop; submit and cancel are called on it, done() runs on it.
 *
 * Outcomes of store_submit():
 *   PST_DONE    the op ended at once: op->status and the outputs are set, done() will not run;
 *   PST_QUEUED  done() will run once, from a later turn of the loop;
 *   PST_BUSY    not taken (a limit was reached): submit again after something completes.
 * From submission to completion the op and the memory that it names belong to the store.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <sys/uio.h>

#include "base/base.h"
#include "loop/loop.h"
#include "mem/mem.h"

/* --- limits of this version, refused with the errors named --- */

#define PST_NAME_MAX     255 /* bytes of a container, snapshot or file name: -ENAMETOOLONG */
#define PST_KEY_MAX      320 /* bytes of a key: -ENAMETOOLONG */
#define PST_VALUE_MAX    (64 * 1024)  /* bytes of a value: -E2BIG */
#define PST_LABEL_MAX    96           /* bytes of an object's label: -E2BIG */
#define PST_IO_MAX       (4u << 20)   /* bytes of one array read or write: -E2BIG */
#define PST_BATCH_MAX    64           /* entries of one BATCH: -E2BIG */
#define PST_PATH_MAX     4096         /* bytes of a path: -ENAMETOOLONG */
#define PST_SYMLINKS_MAX 40           /* links followed in one path: -ELOOP */
#define PST_OBJECT_MAX   (1ull << 56) /* largest array size: -EFBIG */

struct pst_oid {
	uint64_t hi, lo;
};

enum pst_outcome {
	PST_DONE,
	PST_QUEUED,
	PST_BUSY,
};

/* The order is the wire's and the log's: never renumber. */
enum pst_opcode {
	PST_OP_NONE = 0,
	/* containers and snapshots */
	PST_OP_CONT_CREATE = 1,
	PST_OP_CONT_OPEN = 2, /* name -> id */
	PST_OP_CONT_LIST = 3,
	PST_OP_CONT_GET = 4, /* properties and usage */
	PST_OP_CONT_SET = 5,
	PST_OP_CONT_DESTROY = 6,
	PST_OP_SNAP_CREATE = 7,
	PST_OP_SNAP_OPEN = 8, /* name -> view id */
	PST_OP_SNAP_LIST = 9,
	PST_OP_SNAP_DESTROY = 10,
	/* objects */
	PST_OP_READ = 16,
	PST_OP_WRITE = 17, /* a BATCH of one array write */
	PST_OP_BATCH = 18,
	PST_OP_STAT = 19, /* array size, mtime, label */
	PST_OP_OBJ_LIST = 20,
	PST_OP_KV_GET = 21,
	PST_OP_KV_LIST = 22,
	PST_OP_FLUSH = 23, /* everything volatile in this container (0: in the store) is durable */
	PST_OP_EXTENTS = 24, /* where an array is mapped: data/hole map */
	/* names: taken by the fs layer */
	PST_OP_LOOKUP = 32,
	PST_OP_CREATE = 33,
	PST_OP_MKDIR = 34,
	PST_OP_SYMLINK = 35,
	PST_OP_LINK = 36,
	PST_OP_UNLINK = 37,
	PST_OP_RMDIR = 38,
	PST_OP_RENAME = 39,
	PST_OP_READDIR = 40,
	PST_OP_READLINK = 41,
	PST_OP_GETATTR = 42,
	PST_OP_SETATTR = 43,
	PST_OP_GETXATTR = 44,
	PST_OP_SETXATTR = 45,
	PST_OP_LISTXATTR = 46,
	PST_OP_REMOVEXATTR = 47,
	PST_OP_FILE_OPEN = 48, /* holds an inode open: unlinked files live until the last close */
	PST_OP_FILE_CLOSE = 49,
	PST_OP_FILE_READ = 50,
	PST_OP_FILE_WRITE = 51, /* PST_F_APPEND: at the end, atomically */
	PST_OP_FSYNC = 52,
	PST_OP_STATFS = 53,
	/* the store itself */
	PST_OP_STATUS = 64,
	PST_OP_SCRUB = 65,
	PST_OP_WATCH = 66, /* later: -ENOTSUP where the capability bit is missing */
	PST_OP_SESSION_OPEN = 67,
	PST_OP_SESSION_CLOSE = 68,
};

/* Capability bits: what a store takes. */
#define PST_CAP_OBJECTS   (1ull << 0) /* opcodes 16-24 */
#define PST_CAP_BATCH     (1ull << 1) /* BATCH across objects */
#define PST_CAP_NAMES     (1ull << 2) /* opcodes 32-53 */
#define PST_CAP_SNAPSHOTS (1ull << 3)
#define PST_CAP_REPLAY    (1ull << 4) /* replay tokens are honoured */
#define PST_CAP_WATCH     (1ull << 5)
#define PST_CAP_SCRUB     (1ull << 6)
#define PST_CAP_VOLATILE  (1ull << 7) /* PST_F_VOLATILE is honoured (else everything is durable) */

/* Op flags */
#define PST_F_VOLATILE (1u << 0) /* complete before it is durable; a later FLUSH makes it so */
#define PST_F_APPEND   (1u << 1)
#define PST_F_EXCL     (1u << 2) /* CREATE: -EEXIST; RENAME: no replace */
#define PST_F_NOFOLLOW (1u << 3) /* the last symlink is not followed */
#define PST_F_EXCHANGE (1u << 4) /* RENAME: swap the two */
#define PST_F_NOVERIFY (1u << 5) /* READ: don't verify checksums (whoever asked will) */
#define PST_F_REPLACE  (1u << 6) /* SETXATTR: -ENODATA if absent; with EXCL: -EEXIST if present */
#define PST_F_TRUNCATE (1u << 7) /* CREATE: size 0 if it exists */

/*
 * Exactly once: every mutating op may carry one. session 0: none. The answer is recorded with the
 * change; the same token again is answered from the record, an older seq of the slot is -ESTALE.
 */
struct pst_token {
	uint64_t session;
	uint32_t slot;
	uint32_t reserved;
	uint64_t seq;
};

/* --- BATCH: conditions, then changes; all or nothing, one log record --- */

enum pst_mut_kind {
	/* conditions: when one does not hold the batch ends with mut->err and op->ret_index says
	   which */
	PST_IF_KEY_ABSENT = 1,
	PST_IF_KEY_PRESENT = 2,
	PST_IF_KEY_EQ = 3,   /* value equals val */
	PST_IF_NO_KEYS = 4,  /* no key begins with key */
	PST_IF_LABEL_EQ = 5, /* label equals val; an absent object has an empty label */
	PST_IF_OBJ_ABSENT = 6,
	PST_IF_OBJ_PRESENT = 7,
	PST_IF_SIZE_EQ = 8, /* array size equals off */
	/* changes: objects come into being when first changed */
	PST_KV_PUT = 32,
	PST_KV_DEL = 33,       /* absent: no error */
	PST_ARRAY_WRITE = 34,  /* off, iov or val */
	PST_ARRAY_APPEND = 35, /* at the size; the offset comes back in mut->off */
	PST_ARRAY_PUNCH = 36,  /* off, len: reads zero; the size stays */
	PST_ARRAY_RESIZE = 37, /* size becomes off; growth reads zero */
	PST_SET_LABEL = 38,    /* label becomes val */
	PST_SET_MTIME = 39,    /* mtime becomes off (ns since the epoch) */
	PST_OBJ_DELETE = 40,   /* array, keys and label: all of it */
};

struct pst_mut {
	uint8_t kind; /* enum pst_mut_kind */
	int err;      /* conditions: the negative errno value of the batch when it does not hold */
	struct pst_oid oid;
	const void *key;
	uint32_t key_len;
	const void *val; /* value, label, or the data of an array write when iov is NULL */
	uint32_t val_len;
	uint64_t off, len; /* len: of an array write too */
	const struct iovec *iov;
	uint32_t iov_count;
};

/* --- results --- */

struct pst_obj_stat {
	bool exists;
	uint8_t label_len;
	uint64_t size_bytes;
	uint64_t alloc_bytes; /* device space that its array takes in this view */
	uint64_t mtime_ns;    /* last change of the array, or what PST_SET_MTIME said */
	uint8_t label[PST_LABEL_MAX];
};

/* KV_LIST, OBJ_LIST, CONT_LIST, SNAP_LIST, READDIR, LISTXATTR call back per entry, inside submit or
 * a later turn; a false return ends the list (the entry counts as taken). */
struct pst_entry {
	const void *name; /* key, container or file name; valid during the call */
	uint32_t name_len;
	const void *val; /* KV_LIST with want_values; else NULL */
	uint32_t val_len;
	struct pst_oid oid;               /* OBJ_LIST */
	uint64_t id;                      /* container id, snapshot id, inode */
	const struct pst_attr *attr;      /* READDIR with want_values */
	const struct pst_cont_info *cont; /* CONT_LIST */
	const struct pst_snap_info *snap; /* SNAP_LIST */
};

#define PST_PROP_CHECKSUM_OFF (1u << 0) /* data blocks carry no CRC32C */

struct pst_cont_info {
	char name[PST_NAME_MAX + 1];
	uint32_t id;
	uint32_t home_shard;
	uint32_t props; /* PST_PROP_* */
	uint8_t layout; /* 0 posix, 1 object */
	uint8_t uuid[16];
	uint64_t ctime_ns;
	uint64_t quota_bytes, quota_objects; /* 0: none */
	uint64_t used_bytes, used_objects;   /* of the live view: allocated bytes */
	uint64_t logical_bytes;              /* sum of array sizes */
	uint64_t snapshots;
};
#define PST_SET_QUOTA_BYTES   (1u << 0)
#define PST_SET_QUOTA_OBJECTS (1u << 1)
#define PST_SET_PROPS         (1u << 2)

struct pst_snap_info {
	char name[PST_NAME_MAX + 1];
	uint64_t view; /* goes in op->view */
	uint64_t ctime_ns;
	uint64_t used_bytes, used_objects; /* as the live view had them then */
};

/* Inode attributes, POSIX meanings. */
struct pst_attr {
	uint64_t ino;
	uint32_t mode; /* S_IFMT and permission bits */
	uint32_t uid, gid;
	uint32_t nlink;
	uint64_t size_bytes, alloc_bytes;
	uint64_t rdev;
	uint64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
};
#define PST_ATTR_MODE  (1u << 0)
#define PST_ATTR_UID   (1u << 1)
#define PST_ATTR_GID   (1u << 2)
#define PST_ATTR_SIZE  (1u << 3)
#define PST_ATTR_ATIME (1u << 4)
#define PST_ATTR_MTIME (1u << 5)

#define PST_INO_ROOT 1ull

struct pst_store_status;
struct pst_scrub_report;

/* --- the op --- */

#define PST_OP_PRIV_WORDS 24

struct pst_op {
	uint8_t opcode;
	uint32_t flags; /* PST_F_* */
	uint32_t tenant;
	uint32_t cont; /* container id */
	uint64_t view; /* 0: live; else a snapshot's */
	struct pst_oid oid;
	struct pst_token token;
	uint64_t deadline_ns; /* loop_now() clock; 0: none. Passed: -ETIMEDOUT */

	/* READ, WRITE, FILE_READ, FILE_WRITE: exactly len bytes in iov. region as in bdev_io. */
	uint64_t off, len;
	const struct iovec *iov;
	uint32_t iov_count;
	struct mem_region *region;

	/* BATCH */
	struct pst_mut *muts;
	uint32_t mut_count;

	/* KV_GET: key, and val_cap bytes at val. KV_LIST: keys with the prefix key, after start.
	 * Names: CONT_*, SNAP_* take name (and name2 for the snapshot). Paths: dir + name [+ dir2 +
	 * name2]: relative to the inode dir, or absolute. SYMLINK: name2 is the target. XATTRs:
	 * key, val. */
	const void *key;
	uint32_t key_len;
	const void *start; /* list: the last entry of the call before; NULL: from the beginning */
	uint32_t start_len;
	void *val;
	uint32_t val_cap;   /* of an output; length of an input value */
	uint64_t dir, dir2; /* inode numbers; 0 means PST_INO_ROOT */
	const char *name, *name2;
	uint32_t name_len, name2_len;
	bool want_values;
	bool (*entry)(struct pst_op *op, const struct pst_entry *e);

	/* SETATTR, CREATE, MKDIR, SYMLINK: in. LOOKUP, CREATE, GETATTR, ...: out. */
	struct pst_attr attr;
	uint32_t attr_mask;
	uint64_t ino; /* in: FILE_*, GETATTR, SETATTR, XATTRs and FSYNC (dir/name unused when not 0)
	               */

	/* Outputs, set when it completes with 0 (ret_index: with a failed condition too) */
	int status;       /* 0 or a negative errno value */
	uint64_t ret_len; /* bytes read (short only at the end of the array), written, of the value
	                   */
	uint64_t ret_off; /* APPEND: where */
	uint32_t ret_index;        /* BATCH: the condition that did not hold */
	struct pst_obj_stat *stat; /* STAT: filled */
	struct pst_cont_info
	        *cont_info; /* CONT_CREATE in/out, CONT_GET, CONT_OPEN out, CONT_SET in */
	struct pst_snap_info *snap_info; /* SNAP_CREATE, SNAP_OPEN: out */
	struct pst_store_status *status_out;
	struct pst_scrub_report *scrub; /* SCRUB: updated while it runs */

	void (*done)(struct pst_op *op);
	void *user; /* the caller's */

	/* The store's, from submission to completion. */
	struct list link;
	uint64_t priv[PST_OP_PRIV_WORDS];
};

/* --- the interface --- */

struct store;

struct store_ops {
	const char *name;
	enum pst_outcome (*submit)(struct store *s, struct pst_op *op);
	/* Asks for an early end. The op still completes exactly once: -ECANCELED if the cancel came
	 * in time and nothing was changed, else as if there had been none. Unknown or done ops:
	 * harmless. */
	void (*cancel)(struct store *s, struct pst_op *op);
	/* All ops are done (asserted). Makes everything durable (0), or says why not. Frees @s
	 * anyway. */
	int (*close)(struct store *s);
};

struct store {
	const struct store_ops *ops;
	struct loop *loop;
	uint64_t caps;
};

static inline enum pst_outcome store_submit(struct store *s, struct pst_op *op)
{
	return s->ops->submit(s, op);
}
static inline void store_cancel(struct store *s, struct pst_op *op)
{
	s->ops->cancel(s, op);
}
/* Accepts NULL. Closes the stores below it as well. */
static inline int store_close(struct store *s)
{
	return s ? s->ops->close(s) : 0;
}
/* Submits and turns the loop until @op has ended; returns op->status. For tools and open-time code.
 */
int store_run(struct store *s, struct pst_op *op);

/* --- status and scrub: filled by engines --- */

#define PST_DEVICES_MAX 16

struct pst_store_status {
	uint8_t uuid[16];
	uint64_t epoch; /* grows at each open */
	uint32_t shards, devices;
	bool stopped; /* a flush or log write failed: only reads work until it is reopened */
	char stopped_why[160];
	uint64_t size_bytes, used_bytes, free_bytes, reserved_bytes; /* of the data space */
	uint64_t objects, containers;
	uint64_t index_bytes, index_limit_bytes; /* DRAM that the index takes */
	uint64_t index_items, index_pages, extents;
	uint64_t csum_cache_bytes, csum_cache_limit_bytes, csum_hits, csum_misses;
	uint64_t journal_bytes, journal_used_bytes, journal_cache_bytes;
	uint64_t commits, commit_records, checkpoints;
	uint64_t dev_read_bytes, dev_write_bytes, dev_flushes; /* since it was opened */
	uint64_t user_read_bytes, user_write_bytes;
	uint64_t mirror_repairs, csum_errors;
	uint64_t recovery_ns, recovery_records, recovery_index_bytes; /* of the open */
	struct {
		char name[256];
		uint64_t size_bytes;
	} device[PST_DEVICES_MAX];
};

struct pst_scrub_report {
	uint64_t rate_bytes_per_s; /* in; 0: no limit */
	uint64_t total_bytes, done_bytes;
	uint64_t objects, errors, repaired;
	/* Called for each bad block: which object, at which byte. */
	void (*bad)(struct pst_scrub_report *r, uint32_t cont, struct pst_oid oid, uint64_t off,
	            int status);
};

#endif
