/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine - how the local engine's parts work together; private to store/local.
 *
 * Parts, each a file: super (superblocks, headers), devs (devices as one address space), space
 * (allocation), csum (checksum pages), jrnl (journaled blocks), log (frames and group commit),
 * record (building and reading records), tree (what keys mean: heads, extents, values), apply (a
 * record changes the trees: the same code when it happens and when it is replayed), read, write,
 * cont (containers and snapshots), ckpt (checkpoints), recover, scrub, fsck, stall (ops that wait),
 * local (the store interface).
 *
 * The life of a mutation:
 *   prepare  what needs I/O first is done: old blocks read, large data written to new space; the
 * blocks that it touches are locked against other mutators meanwhile; commit   in one go, without
 * waiting: conditions, space, memory and log room are checked, the record is built in the open
 * frame and applied to the trees. Nothing can fail after the checks. durable  the frame is written
 * and flushed; the op completes (a volatile one has done so at commit).
 *
 * Rules that keep the media consistent:
 *  R1. A frame counts as durable when its write and the flushes of all data written before its records
 *      were committed have completed, and all frames before it are durable.
 *  R2. The journaled blocks of a frame reach their home place only after a later frame that records
 *      this one as durable is itself durable: else recovery, which verifies the data of frames not
 *      known to be durable, would find there what a later frame brought.
 *  R3. A checksum page reaches the device only when all frames that changed it are durable.
 *  R4. Space freed by a frame is allocated again only when (a) as in R2, and (b) all reads that were
 *      running when it was freed have ended.
 *  R5. An index page on media is overwritten only after the next checkpoint's header is durable.
 *  R6. The log before a checkpoint is overwritten only after that checkpoint's header is durable.
 *  R7. A failed flush stops the store, and so does a failed write, but for one of data that no record
 *      speaks of yet, which fails its op: nothing is written any more.
 *
 * With several reactors (crew.h) there is a struct local for each, with its shards, its loop and its
 * devices' queues; what stands here is true of each of them, and nothing of one is touched by another.
 */
#ifndef STORE_LOCAL_ENGINE_H
#define STORE_LOCAL_ENGINE_H

#include "store/local/btree.h"
#include "store/local/csum.h"
#include "store/local/devs.h"
#include "store/local/local.h"
#include "store/local/media.h"
#include "store/local/part.h"
#include "store/local/tree.h"

#define SHARDS_MAX           64
#define JOURNAL_WRITE_BLOCKS 16 /* larger writes go to new space directly */
#define COW_GRAIN_BLOCKS     16 /* what a snapshot shares is copied in units of this */
#define FRAMES_MAX           8
#define READ_EPOCHS          64

struct local;
struct shard;
struct cont;
struct crew;

#ifdef PST_TEST_FAULTS
#define PLANTED(l, bug) (unlikely((l)->opts.plant == (bug)))
#else
#define PLANTED(l, bug) false
#endif

/* --- super --- */

uint64_t super_place(unsigned copy, uint64_t dev_blocks); /* block of a superblock copy */
void super_seal(struct media_super *s);
int super_check(const void *block, struct pst_err *err, const char *where);
int geometry_from_super(struct geometry *g, const struct media_super *s, uint64_t dev_size_bytes,
                        struct pst_err *err);
void header_seal(struct media_header *h);
bool header_ok(const struct media_header *h, const struct media_super *s, unsigned shard);

/* --- space: regions, runs of blocks, quarantine --- */

enum space_class {
	SPACE_NONE,
	SPACE_DATA,
	SPACE_META,
};

struct region {
	uint8_t class; /* enum space_class */
	uint16_t owner;
	uint32_t free;  /* blocks */
	uint64_t *used; /* bitmap, one bit per block; NULL until owned */
};

struct freed { /* a run that waits in quarantine */
	uint64_t addr;
	uint64_t frame;
	uint32_t blocks;
	uint32_t read_epoch;
};

struct freed_queue {
	struct freed *ent;
	size_t head, count, cap; /* a ring; cap a power of two */
	uint64_t blocks;
};

struct space {
	struct {
		uint64_t region; /* where to look first */
		uint64_t next;   /* block within it */
		uint64_t free;   /* free blocks in owned regions of this class */
		uint64_t used;
	} class[3];
	struct freed_queue data;      /* R4 */
	struct freed_queue meta_next; /* R5: released since the last freeze */
	struct freed_queue meta_now;  /* released before it: free when that checkpoint commits */
	uint64_t lost_blocks;         /* quarantine had no memory: free again at the next open */
	bool disown_later;            /* an empty region had checksum pages under way */
};

void space_init(struct shard *s);
void space_done(struct shard *s);
/* A run of up to @want blocks: its length and *ret_addr, 0 when there is none. Ordinary data leaves
 * the reserve alone. */
uint32_t space_alloc(struct shard *s, enum space_class class, uint32_t want, uint64_t *ret_addr);
/* Data blocks that ordinary writes can still get. */
uint64_t space_available(struct local *l);
/* Makes sure that the next space_alloc()s of data find @blocks: in regions of this shard. 0, -ENOSPC,
 * -ENOMEM. */
int space_reserve(struct shard *s, uint32_t blocks);
void space_give_back(struct shard *s, enum space_class class, uint64_t addr, uint32_t blocks);
void space_free_data(struct shard *s, uint64_t addr, uint32_t blocks); /* through quarantine */
void space_free_meta(struct shard *s, uint64_t addr);
void space_reap(struct shard *s); /* frees what R4 lets go */
bool space_waits_for_mark(const struct shard *s);
void space_meta_frozen(struct shard *s);
void space_meta_committed(struct shard *s);
/* Recovery: marks a run as used. -EEXIST: taken already; -EINVAL: outside, or in the wrong class.
 */
int space_claim(struct shard *s, enum space_class class, uint64_t addr, uint32_t blocks);

/* --- jrnl: journaled blocks that have not reached their home place --- */

struct jblock {
	struct jblock *hash_next;
	struct list dirty; /* shard's list while it is the newest for its address */
	uint64_t addr;     /* 0: not placed yet */
	uint64_t frame;    /* that carries it */
	uint32_t csum;
	uint32_t read_epoch; /* reads of this epoch and before may expect the old content at home */
	uint16_t refs;       /* hash, frame, batch, apply in flight */
	bool newest, applying, wait_apply;
	/* While its write is prepared: which block of the array, and what lies under the new bytes.
	 */
	bool partial, full; /* partial: only [from, to) is new; full: all of it */
	uint16_t from, to;
	uint64_t lblk;
	struct jblock *base; /* an earlier change of the same batch, or NULL: read or zero */
	uint8_t *data;       /* BLOCK_BYTES, aligned */
};

struct apply_io;
struct jrnl {
	struct jblock **hash;
	unsigned hash_mask;
	struct list dirty; /* newest of each address, oldest first */
	uint64_t count, applying;
	uint64_t allocated, limit; /* of the shard: jblocks in DRAM */
	/* A checkpoint wants everything home whose frame <= until: `left` blocks. */
	uint64_t until, left;
	/* Before its header: */
	uint64_t forgot;       /* newest frame that freed one of them instead: durable */
	uint64_t renewed;      /* newest frame that has a newer one of them instead: marked */
	struct jblock **batch; /* sorted by address, each with a reference */
	uint32_t batch_count, batch_at;
	bool look; /* something has changed since the last batch was gathered */
	struct apply_io *idle_io;
	struct jblock *spare; /* free ones */
	struct jrnl_slab *slab;
	uint64_t slab_blocks; /* in slabs, free or not */
};

int jrnl_init(struct shard *s, uint64_t limit_blocks, bool ahead);
void jrnl_done(struct shard *s);
struct jblock *jblock_new(struct shard *s); /* one reference; NULL: limit or memory */
void jblock_unref(struct shard *s, struct jblock *j);
struct jblock *jrnl_find(struct shard *s, uint64_t addr);
void jrnl_insert(struct shard *s, struct jblock *j, uint64_t addr, uint64_t frame);
void jrnl_forget(struct shard *s, uint64_t addr, uint32_t blocks); /* the space was freed */
bool jrnl_wants_apply(const struct shard *s);
void jrnl_apply_step(struct shard *s);
void jrnl_home_begin(struct shard *s, uint64_t frame); /* a checkpoint wants these home */

/* --- log --- */

enum frame_state {
	FRAME_IDLE,
	FRAME_OPEN,
	FRAME_WRITING,
	FRAME_WRITTEN, /* by_flush: that is due */
	FRAME_DONE,
};

struct frame {
	enum frame_state state;
	uint64_t seq, pos, durable_field;
	uint8_t *meta; /* meta_max bytes */
	uint32_t meta_len, records, data_count;
	uint32_t blocks; /* as sealed */
	uint16_t flags;
	bool wanted;   /* somebody waits for it */
	bool closed;   /* a checkpoint froze what it holds: it takes no more */
	bool by_flush; /* its write is not forced out: a flush after it does that */
	uint64_t opened_ns;
	struct jblock **data;
	struct iovec *iov;
	struct list waiters; /* struct log_wait */
	struct dio write, flush, skip;
	uint8_t *skip_buf;
	struct iovec skip_iov;
	unsigned pending;
	int status;
	struct shard *shard;
};

struct log_wait {
	struct list link;
	void (*durable)(struct log_wait *w, int status);
};

struct log {
	uint64_t blocks;      /* of the ring */
	uint64_t head, tail;  /* positions: next to write, oldest needed */
	uint64_t next_seq;    /* of the open frame */
	uint64_t durable;     /* all frames up to here are (R1) */
	uint64_t mark;        /* greatest durable_field of a durable frame (R4) */
	uint64_t last_record; /* newest frame that has records */
	uint32_t meta_max, data_max;
	unsigned inflight, inflight_max, written; /* frames; those in FRAME_WRITTEN */
	struct frame frame[FRAMES_MAX];           /* by seq % FRAMES_MAX */
	struct loop_timer timer;                  /* commits volatile records and marks when idle */
	bool mark_wanted;
	bool marked; /* recovery: a mark covers all frames that have records */
	uint64_t commits, records;
};

int log_init(struct shard *s);
void log_done(struct shard *s);
/* Recovery: an empty frame, written at once, that records all before it as durable. */
int log_mark_sync(struct shard *s, uint64_t epoch);
void log_start_at(struct shard *s, uint64_t seq, uint64_t pos, uint64_t tail, uint64_t durable);
/* Room for a record of @bytes with @blocks journaled blocks? 0, -EAGAIN (later), -E2BIG (never). */
int log_room(struct shard *s, uint32_t bytes, uint32_t blocks, bool urgent);
/* After log_room(): where the record goes (it may be built there), and after that its length. The
 * frame's journaled blocks so far, to which log_append_data() adds. */
void *log_at(struct shard *s);
void log_append(struct shard *s, uint32_t bytes);
struct jblock *const *log_data(struct shard *s, uint32_t *ret_count);
void log_append_data(struct shard *s, struct jblock *j); /* takes a reference */
uint64_t log_open_frame(const struct shard *s);          /* sequence that the next record gets */
/* Runs w->durable when all frames before and including @frame are durable: -EAGAIN, or 1 (not
 * queued) if they are already. */
int log_wait(struct shard *s, uint64_t frame, struct log_wait *w);
void log_want(struct shard *s); /* commit the open frame soon, even if nobody waits */
/* No more records for the open frame; returns the newest frame that has any, or the last one. */
uint64_t log_close_frame(struct shard *s);
void log_want_mark(struct shard *s); /* write a frame that records what is durable */
int log_step(struct shard *s);       /* from the poller: seals and submits */
bool log_busy(const struct shard *s);
uint64_t log_used(const struct shard *s);
void log_fail_waiters(struct shard *s, int status);
bool frame_check(const struct local *l, unsigned shard, const struct media_frame *f, uint64_t pos);

/* --- containers --- */

struct snap {
	struct list link; /* cont's, oldest first */
	uint64_t id;
	struct btree tree;
	char name[PST_NAME_MAX + 1];
	uint64_t ctime_ns;
	uint64_t used_blocks, objects, logical_bytes;
	uint64_t root_addr; /* recovery */
};

struct cont {              /* a container at home on a shard */
	struct list link;  /* shard's */
	struct list dying; /* l->dying: destroyed by shard 0's frame dying_frame */
	uint64_t dying_frame;
	struct cont *hash_next;
	uint32_t id;
	uint32_t epoch; /* birth of what is written now */
	uint32_t props;
	struct btree tree;
	struct list snaps;
	uint64_t snap_count;
	uint64_t newest_snap; /* id, 0: none */
	uint64_t used_blocks, objects, logical_bytes;
	uint64_t extents;                     /* of the live tree; counted again at each open */
	uint64_t quota_blocks, quota_objects; /* 0: none; blocks: rounded up from bytes */
	uint64_t quota_bytes;
	uint64_t root_addr; /* recovery */
};

struct cont_name { /* the root shard's table, in order of names */
	struct list link;
	struct cont_name *hash_next;
	uint32_t id, home;
	uint32_t props;
	uint16_t layout;
	uint8_t uuid[16];
	uint64_t ctime_ns;
	uint64_t quota_bytes, quota_objects; /* as created */
	unsigned holds; /* a destruction under way on the root's reactor: no snapshot now */
	char name[PST_NAME_MAX + 1];
};

#define CONT_HASH 256

/* --- shard --- */

enum ckpt_state {
	CKPT_IDLE,
	CKPT_DURABLE, /* the frozen frames become durable */
	CKPT_HOME,    /* journaled blocks and checksum pages reach their places */
	CKPT_NODES,   /* index pages are written */
	CKPT_FLUSH,
	CKPT_HEADER,
};

#define CKPT_IOS      16
#define CKPT_IO_PAGES 16
struct ckpt_io {
	struct dio dio;
	struct shard *shard;
	struct ckpt_io *next;
	struct iovec iov;
	uint8_t *buf;
};

struct ckpt_view {
	struct btree tree;
	uint32_t cont;
};

struct ckpt {
	enum ckpt_state state;
	bool wanted;
	uint64_t gen;           /* of the header on media */
	uint64_t epoch;         /* of the header that was found at open */
	uint64_t frame;         /* everything up to it is in this checkpoint */
	uint64_t pos;           /* of the log after it; known once the frame has its place */
	struct ckpt_view *view; /* what keeps the frozen nodes */
	size_t views, views_cap;
	struct {
		struct bt_node *node;
		uint32_t cont;
	} * node; /* to be written */
	size_t nodes, nodes_cap, nodes_next;
	struct ckpt_io *free_io, *ios;
	unsigned pending;
	struct dio dio;
	struct iovec iov;
	struct media_header *header;
	uint64_t sys_root, sys_items;
	bool failed;
	struct list waiters; /* struct log_wait: run when it is done */
	uint64_t done;       /* frame of the last one */
};

struct rlock { /* blocks of an object that a mutator is preparing */
	struct list link;
	uint32_t cont;
	struct pst_oid oid;
	uint64_t first, end; /* blocks */
	bool on;
};

/*
 * Heads by object, for reads and overwrites that come back to the same objects. An entry holds
 * while map_version is what it was: it grows whenever a head or an extent of the shard changes
 * other than by its mtime, which the cache does not vouch for.
 */
#define HEAD_CACHE 256
struct head_entry;

struct shard {
	struct local *l;
	unsigned id;
	struct bt_env env;
	struct btree sys;
	struct cont *cont_hash[CONT_HASH];
	struct list conts;
	struct space space;
	struct csum_cache csum;
	struct jrnl jrnl;
	struct log log;
	struct ckpt ckpt;
	struct head_entry *head_cache;
	uint64_t map_version;
	uint64_t
	        page_version; /* grows when pages of a container's tree may have moved or been shared */
	struct list rlocks;
	struct list stalled;       /* ops that wait for log room, memory, or a lock */
	struct list held;          /* as stall.h has it */
	bool retry_stalled, sweep; /* some may go on; some may have to end */
	bool in_pass;              /* they are being tried: each once in a pass */
	uint32_t pass;
	/* R4 (b): reads in flight by the epoch in which they began */
	uint32_t read_epoch, read_oldest;
	uint32_t readers[READ_EPOCHS];
};

struct local {
	struct store store;
	struct local_opts opts;
	struct geometry geo;
	struct media_super super;
	struct bdev *dev[PST_DEVICES_MAX];
	bool dev_dirty[PST_DEVICES_MAX]; /* `commits` data was written since the last flush began */
	struct sub_io *flushing[PST_DEVICES_MAX]; /* the last flush that began, while under way */
	struct sub_io *sub_free;
	struct region *region;
	uint64_t regions_free;
	struct shard *shard[SHARDS_MAX]; /* by number; NULL: another reactor's */
	struct shard *own[SHARDS_MAX];   /* those that are there, and how many */
	unsigned owned;
	struct crew *crew;           /* NULL: this is all of the store */
	unsigned part;               /* of the crew; 0 has the root shard and all names */
	uint64_t index_others_bytes; /* what the other parts' indexes took a moment ago */
	struct list names;           /* struct cont_name, shard 0's table */
	struct cont_name *name_hash[CONT_HASH]; /* by id */
	uint32_t next_cont;
	uint64_t epoch;
	uint32_t mem_align; /* what every device asks of memory */
	struct loop_poller poller;
	unsigned
	        sync_failed; /* which device the last call failed at that writes and waits (devs.c) */
	bool stopped, stop_told, closing, recovering, index_full, index_near;
	bool opening; /* no frames yet: the headers of this epoch are not durable */
	int stop_status;
	char stop_why[160];
	uint64_t ops; /* in flight */
	void *req_free;
	struct loop_timer stall_timer;
	void *spare[2];    /* for the structures that a record may need when it is applied */
	struct list dying; /* struct cont: their space goes once their end is durable */
	struct list scrubs;
	uint64_t reqs;            /* handed out by req_get() */
	struct load_watch *watch; /* fsck's, while it loads; or NULL */
	bool mended;              /* snapshots were, for which no record stands in the log */
	bool lossy; /* it lost index pages: records of the log may speak of what is gone */
	struct {
		uint64_t ops, dev_read_bytes, dev_write_bytes, dev_flushes, user_read_bytes,
		        user_write_bytes;
		uint64_t mirror_repairs, csum_errors, checkpoints, recovery_ns, recovery_records,
		        recovery_index_bytes;
		uint64_t refused[PST_SCARCE_KINDS];
		enum pst_scarce refused_last;
	} stat;
};
/* An op can't be done for want of this. */
static inline int refuse(struct local *l, enum pst_scarce what)
{
	l->stat.refused[what]++;
	l->stat.refused_last = what;
	return -ENOSPC;
}

static inline struct local *local_of(struct store *s)
{
	return container_of(s, struct local, store);
}
void local_stop(struct local *l, int status, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/*
 * Running an op. A `try` function does it, or says that it can't yet:
 *   PST_DONE    it has ended, op->status is set;
 *   PST_QUEUED  op_done() will be called for it;
 *   PST_BUSY    it waits for log room, memory or a lock: it is tried again when something has
 * changed.
 */
typedef enum pst_outcome (*op_try)(struct shard *s, struct pst_op *op);
enum pst_outcome op_run(struct shard *s, struct pst_op *op, op_try try);
enum pst_outcome op_stall(struct shard *s, struct pst_op *op); /* it said PST_BUSY: PST_QUEUED */
void op_again(struct shard *s, struct pst_op *op, op_try try); /* goes on with a queued op */
enum pst_outcome op_fail(struct pst_op *op, int status);       /* sets the status; PST_DONE */
/* @op's change is in @frame: done now (volatile, or durable already), or when the frame is durable.
 */
enum pst_outcome op_committed(struct shard *s, struct pst_op *op, uint64_t frame);
/* What op_run() and op_committed() keep in op->priv; the rest is for the try functions. */
struct op_state {
	struct log_wait wait;
	struct shard *shard;
	op_try try;
	void *req;     /* struct wreq */
	uint32_t pass; /* the last in which it was tried */
	bool cancelled;
};
static inline struct op_state *op_state(struct pst_op *op)
{
	return (struct op_state *)op->priv;
}
/* op_run() for an op that changes nothing: neither a stopped store nor those that wait stop it. */
static inline enum pst_outcome op_run_read(struct shard *s, struct pst_op *op, op_try try)
{
	struct local *l = s->l;
	enum pst_outcome out;

	if (unlikely(l->ops >= l->opts.ops_max))
		return PST_BUSY;
	l->ops++;
	out = try(s, op);
	if (unlikely(out == PST_BUSY)) { /* what only those have that wait */
		*op_state(op) = (struct op_state){.shard = s, .try = try};
		return op_stall(s, op);
	}
	if (out == PST_DONE)
		l->ops--;
	return out;
}
static inline uint64_t op_iov_bytes(const struct pst_op *op)
{
	uint64_t n = 0;

	if (likely(op->iov_count == 1))
		return op->iov[0].iov_len;
	for (uint32_t i = 0; i < op->iov_count; i++)
		n += op->iov[i].iov_len;
	return n;
}
/* Completes a queued op. */
static inline void op_done(struct local *l, struct pst_op *op, int status)
{
	op->status = status;
	l->ops--;
	op->done(op);
}
struct shard *shard_of_cont(struct local *l, uint32_t cont); /* NULL: no such container here */
struct cont *cont_find(struct shard *s, uint32_t id);
struct cont *cont_get(struct shard *s, uint32_t id); /* made when missing; NULL: no memory */
uint64_t quota_in_blocks(uint64_t bytes);
struct cont_name *cont_name_by_id(struct local *l, uint32_t id);
const char *cont_text(struct local *l, uint32_t id); /* its name, for messages */
/* The tree that @op reads: live or a snapshot's. NULL: an empty container's; -ENOENT when none. */
int cont_view(struct local *l, const struct pst_op *op, struct shard **ret_shard,
              const struct btree **ret_tree);
void cont_free(struct shard *s, struct cont *c);
enum pst_outcome cont_submit(struct local *l, struct pst_op *op);
enum pst_outcome session_close_submit(struct local *l, struct pst_op *op);
void local_tick(struct local *l); /* there will be a turn soon: something is to be tried again */
void shard_kick(struct shard *s); /* something changed: look at stalled ops again */

static inline uint32_t reader_enter(struct shard *s)
{
	s->readers[s->read_epoch % READ_EPOCHS]++;
	return s->read_epoch;
}
static inline void reader_exit(struct shard *s, uint32_t epoch)
{
	s->readers[epoch % READ_EPOCHS]--;
}
/* Reads that begin from now on are told apart from those before; returns the epoch that must drain.
 */
uint32_t reader_turn(struct shard *s);
bool reader_drained(struct shard *s, uint32_t epoch);

/* --- apply --- */

struct rec_reader { /* checks as it goes; bytes come from a verified frame but are bounded anyway */
	const uint8_t *p, *end;
};
/* Applies one record. @data: the frame's journaled blocks (NULL entries allowed when committing,
 * where jrnl_insert was given them already). 0, or -EBADMSG for a record that makes no sense. */
int apply_record(struct shard *s, const struct media_record *r, uint64_t frame,
                 struct jblock *const *data, uint32_t data_count);
/* Applies one change of a record that is being built. */
struct change;
int apply_one(struct shard *s, struct cont *c, uint64_t frame, uint64_t time_ns,
              struct jblock *const *data, uint32_t data_count, const struct change *ch);
/* The same for a CH_WRITE of one piece in place, of journaled blocks @j with checksums @csum (NULL:
 * without), of an object that is there and no smaller than @size_min; false: it is not so. */
bool apply_overwrite(struct shard *s, struct cont *c, uint64_t frame, uint64_t time_ns,
                     struct pst_oid oid, uint64_t size_min, const struct media_piece *piece,
                     struct jblock *const *j, const le32 *csum);
int record_check(const struct media_record *r, size_t room); /* lengths and counts add up */
void cont_drop_tree(struct shard *s,
                    struct cont *c); /* a destroyed container gives its space back */
void snap_drop(struct shard *s, struct cont *c, struct snap *n);
/* Calls @fn with each change of a REC_BATCH; stops at the first nonzero return, which it returns.
 */
struct change {
	uint8_t kind, flags;
	uint16_t key_len;
	struct pst_oid oid;
	const uint8_t *body;
	uint32_t body_len;
};
bool change_next(struct rec_reader *r, struct change *ret_change);

/* --- read, write --- */

enum pst_outcome read_submit(struct local *l, struct pst_op *op);
enum pst_outcome write_submit(struct local *l, struct pst_op *op); /* WRITE, BATCH */
enum pst_outcome kv_get_submit(struct local *l, struct pst_op *op);
enum pst_outcome list_submit(struct local *l, struct pst_op *op);
enum pst_outcome stat_submit(struct local *l, struct pst_op *op);
enum pst_outcome flush_submit(struct local *l, struct pst_op *op);
/* The bodies of container records: containers at home here, and the root shard's table. */
int cont_apply(struct shard *s, struct cont *c, const struct media_record *r, const uint8_t *body,
               size_t len);
int cont_table_apply(struct shard *s, const struct media_record *r, uint64_t frame,
                     const uint8_t *body, size_t len);
int cont_name_load(struct local *l, const struct media_cont_name *m, const char *name,
                   size_t name_len);
void cont_names_done(struct local *l);
int spares_fill(struct local *l); /* before a record is built: 0 or -ENOMEM */
void spares_free(struct local *l);
void cont_reap_dying(struct local *l);
/* The answer that the op's token was given before into @op: its status; -ENOENT: none; -ESTALE. */
int token_answer(struct shard *s, struct pst_op *op);
void token_record(struct shard *s, const struct media_reply *r);
void reply_fill(struct media_reply *m, const struct pst_op *op, uint64_t time_ns);
void local_uuid(struct local *l, uint8_t uuid[16]);
bool session_known(struct shard *s, uint64_t session); /* it has answers here */
int token_lookup(struct shard *s, const struct pst_token *t, struct media_reply *ret_reply);

/* --- preparing writes (prep.c) --- */

struct run {
	uint64_t addr;
	uint32_t blocks;
};
#define RUNS_INLINE 4

/* What one entry of a batch needs besides itself. */
struct wmut {
	uint64_t off, len; /* array entries: as resolved (append) */
	struct jblock **j; /* blocks that go through the journal, ascending */
	uint32_t j_count, j_cap;
	/* Blocks that were written to new space: */
	uint64_t direct_first;
	uint32_t direct_blocks, run_count;
	struct run *run;
	uint32_t *csum; /* one per direct block */
	uint8_t *bounce;
	struct media_outval out; /* KV_PUT of a large value; extents in run[] too */
	bool has_out;
	struct run run_inline[RUNS_INLINE];
};

#define JBLOCKS_INLINE 18
struct wreq {
	struct pst_op *op;
	struct shard *shard;
	struct pst_mut *mut;
	struct wmut *w;
	uint32_t count;
	bool prepared, array, deletes_only;
	uint32_t pending;
	int status;
	struct rlock *lock;   /* one per entry */
	uint64_t birth_limit; /* newest snapshot when it was prepared */
	/* Enough for a plain write: */
	struct pst_mut one_mut;
	struct wmut one_w;
	struct rlock one_lock;
	struct jblock *one_j[JBLOCKS_INLINE];
};
_Static_assert(sizeof(struct wreq) <= 1536, "a write request fits in a request");

/* 0: ready to commit; -EINPROGRESS: I/O is under way, write_prepared() will be called; -EAGAIN:
 * later; or an error. */
int prep_start(struct wreq *q);
void prep_undo(struct wreq *q);  /* gives back what was not committed */
void prep_fill(struct wreq *q);  /* the new bytes, and checksums */
void prep_reset(struct wreq *q); /* undo, and ready to begin again */
void write_prepared(struct wreq *q);
void write_abandon(struct wreq *q); /* the store stops: its op is answered by the caller */
bool rlocks_conflict(struct wreq *q);
void rlocks_take(struct wreq *q); /* none conflicts; those held already stay */
void rlocks_drop(struct wreq *q);

/* --- the steps of a commit (admit.c, build.c) --- */

static inline bool is_write(const struct pst_mut *m)
{
	return m->kind == PST_ARRAY_WRITE || m->kind == PST_ARRAY_APPEND;
}
struct demand { /* what committing takes, at most */
	uint32_t record_bytes, journal_blocks, new_blocks, tree_changes, csum_pages;
	int64_t growth_blocks, new_objects;
};
/* The form of an entry; *bytes sums the data of all. Errors as in the op table. */
int batch_mut_check(const struct pst_mut *m, uint64_t *bytes);
bool batch_holds(const struct btree *t, const struct pst_mut *m); /* true for changes */
/* Blocks that array entry @i gives or takes, as it was resolved; first == end: none. */
void array_range(const struct wreq *q, uint32_t i, uint64_t *ret_first, uint64_t *ret_end);
/* Blocks of [first, end) that the array has mapped; counts the extents in *ret_extents too. */
uint64_t mapped_blocks(const struct btree *t, struct pst_oid oid, uint64_t first, uint64_t end,
                       uint32_t *ret_extents);
/* Blocks by which the container's used space changes. */
int64_t batch_growth(const struct wreq *q, const struct cont *c);
void batch_demand(const struct wreq *q, const struct cont *c, struct demand *ret_demand);
/* Everything that can stand in the way: 0, -EAGAIN (later), -EDQUOT, -ENOSPC, -ENOMEM, -E2BIG. */
int batch_admit(struct wreq *q, struct cont *c, const struct demand *d);
/* Builds and applies; returns the frame. */
uint64_t batch_build(struct wreq *q, struct cont *c);
/* Fills the head of @op's record at @r, and its token (which it takes for used); returns where its
 * changes go. */
void *batch_record_begin(struct shard *s, struct media_record *r, const struct pst_op *op,
                         uint64_t time_ns);
/* The straight way of a write, if it can go it now; false: nothing was done. */
bool overwrite_try(struct shard *s, struct pst_op *op, enum pst_outcome *ret_out);
uint32_t blocks_to_place(struct shard *s, struct cont *c, struct pst_oid oid, const struct wmut *w);

/* --- requests: a pool of fixed-size scratch for reads and writes --- */

#define REQ_BYTES 1536
int req_error(const struct local *l); /* why not: -EAGAIN: the limit, -ENOMEM */
void *req_new(struct local *l);       /* when none is free; NULL: no memory */
static inline uint64_t reqs_max(const struct local *l)
{
	return 4ull * l->opts.ops_max;
}
/* For what an op that has begun needs to go on. Not limited: two ops that each had a part of what
 * they need would start over for ever. The blocks of an op bound it. */
static inline void *req_get_part(struct local *l)
{
	void **r = l->req_free;

	if (unlikely(!r))
		return req_new(l);
	l->req_free = *r;
	l->reqs++;
	return r;
}
/* Zeroed head is the caller's business. NULL: the limit is reached, or no memory. */
static inline void *req_get(struct local *l)
{
	return unlikely(l->reqs > reqs_max(l)) ? NULL : req_get_part(l);
}
static inline void req_put(struct local *l, void *req)
{
	*(void **)req = l->req_free;
	l->req_free = req;
	l->reqs--;
}

/* --- ckpt, recover, scrub, status --- */

void ckpt_want(struct shard *s);
bool ckpt_due(const struct shard *s);    /* the log or a cache is filling up */
bool ckpt_needed(const struct shard *s); /* something is not in the last one */
void ckpt_step(struct shard *s);
/* Turns the loop until nobody waits for a checkpoint. The stop's status; one that makes no progress
 * for want of memory stops the store. */
int ckpt_wait_all(struct local *l);
bool io_inflight(const struct local *l);
int ckpt_init(struct shard *s);
void ckpt_done(struct shard *s);
int devices_identify(struct local *l, struct bdev *const *devs, unsigned count,
                     struct pst_err *err);
/*
 * Recovery: begin, then shard_load() and space_rebuild() of every shard, then end, which (unless
 * read-only) makes a fresh start: a checkpoint of every shard. recover() is all of it. fsck goes
 * step by step, and watches.
 */
int recover(struct local *l, struct pst_err *err);
int recover_begin(struct local *l, struct pst_err *err);
int shard_load(struct local *l, unsigned id, struct pst_err *err);
int space_rebuild(struct shard *s, struct pst_err *err);
int recover_end(struct local *l, struct pst_err *err);
/*
 * With a watch, a page that can't be loaded is told, and what is left is loaded without it: the
 * other pages of its tree, or, if it is a root, no tree. (But for the system tree of shard 0: without
 * its root there is nothing left.)
 */
struct load_watch {
	bool mend; /* a repair: what no mark covers goes to every mirror, as before an open for writing */
	/* An index page was loaded: this is how it should be on every device. */
	void (*page)(struct load_watch *w, struct shard *s, uint64_t addr, const uint8_t *image);
	/* A page of a container's trees (0: of the system tree) is lost, with all keys in @gap. */
	void (*lost)(struct load_watch *w, struct shard *s, uint32_t cont, uint64_t addr,
	             const struct bt_gap *gap, const char *why);
	/* The trees of a shard are loaded, and something was lost: the log is applied next. */
	void (*loaded)(struct load_watch *w, struct shard *s);
	/* A frame is about to be applied; @durable: a later one says that it was. */
	void (*frame)(struct load_watch *w, struct shard *s, const struct media_frame *f,
	              struct jblock *const *data, bool durable);
};
struct local *local_new(struct loop *loop, const struct local_opts *opts);
void local_free(struct local *l); /* nothing may be in flight; devices stay open */
/* Applies what the log holds after the header @h, and readies the log for what comes. @sure: there
 * was no newer header. */
int replay_log(struct shard *s, const struct media_header *h, bool sure, struct pst_err *err);
enum pst_outcome scrub_submit(struct local *l, struct pst_op *op);
void scrub_step(struct local *l);
bool scrub_cancel(struct local *l, struct pst_op *op);
void scrub_end_all(struct local *l, int status);
void status_fill(struct local *l, struct pst_store_status *st);
struct shard *shard_new(struct local *l, unsigned id);
void shard_free(struct shard *s);

#endif
