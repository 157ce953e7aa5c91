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
/* The public headers define what callers and stores share: limits, ids, flags (PST_F_*), batch
 * entries, attributes, container and snapshot information, status. */
#include "penstock/client.h"
#include "penstock/container.h"
#include "penstock/file.h"
#include "penstock/object.h"
#include "penstock/types.h"

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
	PST_OP_EXTENTS =
	        24, /* the first run of data that ends after off: ret_off, ret_len; -ENXIO */
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
	/* Ends when the container (0: the store), or its object oid, has a change with a greater number
	 * than op->off; ret_off: the last number. -ENOTSUP where the capability bit is missing. */
	PST_OP_WATCH = 66,
	PST_OP_SESSION_OPEN = 67,
	/* The answers given to session op->ino are forgotten on home shard op->off. -ENXIO: there are
	 * not so many shards: who wants all of them counts until then. */
	PST_OP_SESSION_CLOSE = 68,
	PST_OP_FIGURES = 69, /* a server's, as text into val; answered before the store */
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
#define PST_CAP_EXISTING  (1ull << 8) /* PST_F_EXISTING is honoured */

/* Flags between stores, above those of the public API. */
#define PST_F_EXISTING  (1u << 16) /* READ, WRITE: -ESTALE if the object does not exist */
#define PST_F_CSUM_PAGE (1u << 17) /* READ: by the checksum pages, not by copies of what they say */

/*
 * Exactly once: every mutating op may carry one. session 0: none. The answer is recorded with the
 * change; the same token again is answered from the record, an older seq of the slot is -ESTALE.
 *
 * The record holds ret_off, ret_len and op->ino (for WRITE and BATCH an opaque word of the
 * submitter's: what it was at submission comes back in the answer); mut[].off and ret_index are not
 * kept. Only success is recorded: a failed op changed nothing and may be executed when it comes
 * again. The token is looked at before the conditions of a batch.
 *
 * Who gives tokens may say in `about` what the request is (a word, 0: not said). It is recorded, and a
 * repeat that says another one is no repeat: -ESTALE, and what became of either is not told.
 *
 * "Was this done?": a BATCH with mut_count 0 and a token changes nothing. It ends with 0 and the
 * recorded answer when the token was used, with -ENOENT when it was not (the token stays unused),
 * with -ESTALE for an older seq. A layer asks this first where the state that it reads before its
 * batch would otherwise answer a repeat wrongly (-EEXIST for a create that happened).
 */
struct pst_token {
	uint64_t session;
	uint32_t slot;
	uint32_t about; /* what the request is, in a word; 0: not said */
	uint64_t seq;
};

/* --- results --- */

/* KV_LIST, OBJ_LIST, CONT_LIST, SNAP_LIST, READDIR, LISTXATTR call back per entry, inside
 * submit or a later turn; a false return ends the list (the entry counts as taken). */
struct pst_entry {
	const void *name; /* key, container or file name; valid during the call */
	uint32_t name_len;
	const void *val; /* KV_LIST with want_values; else NULL */
	uint32_t val_len;
	struct pst_oid oid;               /* OBJ_LIST */
	uint64_t id;                      /* container id, snapshot id, inode */
	uint8_t type;                     /* READDIR: DT_DIR, DT_REG, ... of <dirent.h> */
	const struct pst_attr *attr;      /* READDIR with want_values */
	const struct pst_cont_info *cont; /* CONT_LIST */
	const struct pst_snap_info *snap; /* SNAP_LIST */
};

/* --- the op --- */

#define PST_OP_PRIV_WORDS 24
#define PST_OP_FRAMES     4

struct pst_op;

/* What a layer keeps of an op that it passed down as it is: see op_push(). */
struct pst_frame {
	void (*done)(struct pst_op *op);
	uint64_t word;
};

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
	/*
	 * READ, WRITE: checksums (CRC32C) of the data, one for each 4096 bytes of it from its
	 * beginning, or NULL. WRITE: the submitter has made them of these very bytes, which nobody
	 * changes; len is a multiple of 4096. A store may keep them instead of making its own (our
	 * engine does for what does not go through its journal), and so what is damaged on the way
	 * to the device is found by who reads it. READ: room for len / 4096
	 * of them. csum_made: they are what the data was verified by, all of them; else the store
	 * can't tell.
	 */
	uint32_t *csum;
	bool csum_made;
	/*
	 * READ: the submitter can do with a look at the data. A store that has all of it in memory may
	 * set lent (NULL at submission) to where it lies, and leave the iov alone; it stays as it is until
	 * done() returns. Never with PST_DONE.
	 */
	bool lend;
	const void *lent;

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
	/* Names: a directory that paths don't lead out of, however they are written; it stands for
	 * the root of the tree. 0: none. See fs/fs.h. */
	uint64_t root;
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
	uint64_t ret_off; /* where the append went (of a BATCH: its last) */
	uint32_t ret_index;        /* BATCH: the condition that did not hold */
	struct pst_obj_stat *stat; /* STAT: filled */
	struct pst_cont_info
	        *cont_info; /* CONT_CREATE in/out, CONT_GET, CONT_OPEN out, CONT_SET in */
	struct pst_snap_info *snap_info; /* SNAP_CREATE, SNAP_OPEN: out */
	/* STATUS: filled. Of a store elsewhere the reactors come with want_values alone. */
	struct pst_store_status *status_out;
	struct pst_scrub_report *scrub; /* SCRUB: updated while it runs */

	void (*done)(struct pst_op *op);
	void *user; /* the caller's */

	/* The layers', from submission to completion; 0 at submission by the op's owner. */
	uint8_t frame_count;
	struct pst_frame frame[PST_OP_FRAMES];

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

/*
 * No object has the number 0,0: handles, watches and FLUSH say "none" and "all" with it. What would
 * bring it into being is -EINVAL. What reads, tells or takes away is not: it finds nothing, but in a
 * store that took such an object before that was refused.
 */
static inline bool oid_none(struct pst_oid oid)
{
	return !(oid.hi | oid.lo);
}

/*
 * A layer that passes the same op down and wants to see its end pushes its own done() before
 * store_submit(), and pops in it, first of all. It pops too when the outcome is PST_DONE or
 * PST_BUSY. @word comes back from op_pop(): what the layer has to remember.
 */
static inline void op_push(struct pst_op *op, void (*done)(struct pst_op *op), uint64_t word)
{
	pst_assert_slow(op->frame_count < PST_OP_FRAMES);
	op->frame[op->frame_count++] = (struct pst_frame){.done = op->done, .word = word};
	op->done = done;
}
static inline uint64_t op_pop(struct pst_op *op)
{
	const struct pst_frame *f = &op->frame[--op->frame_count];

	op->done = f->done;
	return f->word;
}

/* Submits and turns the loop until @op has ended; returns op->status. For tools and open-time code.
 */
int store_run(struct store *s, struct pst_op *op);

#endif
