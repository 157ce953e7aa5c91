/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs_int - what the files of the fs room share.
 *
 * A names op under way is a *request*, from a pool made at start. A request runs in *steps*: small
 * functions that end by saying what comes next (enum fs_act). There is one sub-op at a time, inside
 * the request. fs_run() calls the steps in a loop, so that nothing recurses when the store below
 * completes inline.
 *
 * Rules that every op keeps:
 *  1. It changes the store by exactly one batch that carries the op's token, sent by fs_commit().
 *     Book-keeping batches (root, counter, reaping of orphans) carry none and are idempotent.
 *  2. What it read and relies on is a condition of that batch. A condition that can only fail
 * because somebody else was faster has the error -FS_CHANGED: the op starts again, in turn
 * (fs_again).
 *  3. It writes outputs to the caller's op only when it ends with success.
 *  4. Before it waits in a queue it holds nothing that those in the queue need.
 */
#ifndef FS_FS_INT_H
#define FS_FS_INT_H

#include <dirent.h>
#include <sys/stat.h>

#include "fs/fs.h"

#define FS_CHANGED  3999 /* private: above every errno value */
#define FS_INO_BOOK 0ull /* the book-keeping object */
#define FS_MUTS     24   /* entries of the largest batch */
#define FS_REAP_MAX (FS_MUTS / 2)

struct fs;
struct fs_req;

enum fs_act {
	FS_NEXT, /* r->next is the next step */
	FS_SUB,  /* submit r->sub; r->next runs when it has ended */
	FS_WAIT, /* the request is in a queue; r->next runs when it is taken out */
	FS_END,  /* r->status is the op's */
};
typedef enum fs_act fs_step(struct fs_req *r);

/* An inode that is held open, or that is being deleted (dying). */
struct fs_open {
	struct list link; /* in a bucket */
	uint32_t cont;
	uint64_t ino;
	uint32_t count; /* FILE_OPENs; 0: only pinned, in the time of grace */
	uint32_t pins;  /* a batch is under way that makes it an orphan, or none any more: 0, 1 */
	bool orphan;    /* on the persistent list */
	bool dying;     /* a batch that deletes the object is under way: wait and look again */
	struct list waiters;
};

/* What the layer knows of a container. Ids of containers are not used again while a store is open.
 */
struct fs_cont {
	struct list link;
	uint32_t id;
	unsigned users;       /* requests */
	bool missing;         /* the store below knows of no such container: forgotten after use */
	bool ready;           /* the root exists, orphans of the run before are deleted */
	bool objects;         /* of layout object, and has no root: no names are made there */
	bool preparing;       /* somebody sees to that */
	uint64_t retry_at_ns; /* it failed: those that only read don't try again until then */
	bool reap_due; /* orphans were left where they are: deleted when no grace is (any more) */
	struct fs_open reaped[FS_REAP_MAX]; /* that are being deleted */
	unsigned reaped_count;
	struct list prepare_waiters;

	uint64_t ino_next, ino_end; /* counters reserved for us */
	uint64_t ino_first;         /* the first of all that were; 0: none yet */
	bool reserving;
	struct list ino_waiters;

	struct fs_req *mover; /* the directory move under way: one at a time, see rename.c */
	struct list move_waiters;

	struct fs_req *turn; /* of the ops that lost a race: they go one by one */
	bool gate; /* the one whose turn it is lost too often: newcomers queue up behind */
	struct list turn_waiters;
};

enum fs_walk_mode {
	FS_WALK_PARENT,  /* stop before the last component */
	FS_WALK_LAST,    /* look it up: -ENOENT if it is not there */
	FS_WALK_MISSING, /* look it up: ino 0 if it is not there */
};
enum fs_last {
	FS_LAST_NAME,
	FS_LAST_DOT,
	FS_LAST_DOTDOT,
	FS_LAST_ROOT,
};

/* A path on its way, and what came out. */
struct fs_walk {
	enum fs_walk_mode mode;
	bool follow; /* the last component too */
	/* results */
	enum fs_last last;
	bool slash;   /* it ended with one: has to be a directory */
	uint64_t dir; /* where the last component is looked for */
	uint64_t ino; /* what it is; 0: not there (or not looked up) */
	uint8_t type;
	uint8_t val[FS_DIRENT_BYTES];
	uint32_t key_len;
	uint8_t key[1 + PST_NAME_MAX]; /* of the entry in dir */
	/* private */
	const char *rest;
	uint32_t rest_len;
	unsigned links, half;
	bool at_last;
};

/* An inode that a request looks at, or makes. */
struct fs_node {
	uint64_t ino;
	bool exists;
	struct pst_obj_stat st;
	struct fs_label label;
	uint8_t packed[FS_LABEL_BYTES]; /* for SET_LABEL */
};

enum {
	FS_N_MAIN,   /* the inode that the op is about */
	FS_N_DIR,    /* directory of the first path */
	FS_N_DIR2,   /* of the second */
	FS_N_VICTIM, /* what a rename or link replaces; the other one of an exchange */
	FS_NODES,
};

struct fs_req {
	struct list link; /* fs->free or fs->active */
	struct list wait; /* the queue it waits in */
	struct fs *fs;
	struct pst_op *op;
	struct fs_cont *cont;
	fs_step *start; /* of the op: where fs_again() goes */
	fs_step *next;  /* the next step */
	fs_step *
	        then; /* what a helper of several steps (stat, dirent, commit, counter) ends with */
	fs_step *walk_then;   /* the same for a walk, which uses helpers */
	fs_step *target_then; /* for fs_target() */
	fs_step *cont_then;   /* the same for getting the container ready */
	int status;
	bool mutates;
	bool sub_inflight;
	bool sub_retry; /* the store below was busy: submit it again */
	bool cancelled;
	bool committed; /* the op's batch succeeded: no way back */
	bool by_path; /* FS_N_MAIN was found by name, so that a missing object means "look again" */
	unsigned attempts;
	unsigned tries;           /* of a helper's own loop */
	uint64_t ino_in;          /* op->ino as it came */
	uint64_t ino_new;         /* allocated */
	uint64_t now_ns;          /* real time of this attempt */
	struct fs_open *pinned;   /* loses its last link by our batch */
	struct fs_open *relinked; /* gets a link again by our batch */
	uint64_t held_ino;        /* FILE_OPEN, FILE_CLOSE: counted, or to be given back */
	bool holding;             /* counted for us: to be given back when the op fails */
	bool graced;              /* it was counted in the time of grace */
	struct fs_open mark;      /* of an inode that our batch deletes */
	bool marked;

	struct pst_op sub;
	struct pst_mut muts[FS_MUTS];
	uint32_t mut_count;
	struct fs_walk walk[2], *cur;
	struct fs_node node[FS_NODES];
	struct fs_node *stat_node;
	uint8_t dirent[2][FS_DIRENT_BYTES]; /* values to put */
	uint8_t orphan_key[2][9];           /* to put, to delete */
	uint64_t climb_not;                 /* rename: what the ancestors must not be */
	fs_step *climb_then;
	fs_step *under_then; /* see fs_under() */
	unsigned stat_mask;  /* rename: nodes yet to look up */
	unsigned stat_all;   /* and all that are looked up */
	int nlink_delta[2];  /* rename: of the two directories */
	uint32_t buf_len, buf_at;
	bool list_full;
	_Alignas(8) char buf[2][PST_PATH_MAX +
	                        8]; /* symbolic links being followed; lists being collected */
};

struct fs {
	struct store store;
	struct store *below;
	struct fs_opts opts;
	struct fs_req *reqs;
	struct list free, active;
	struct list busy;  /* to be submitted again */
	struct list ready; /* taken out of a queue: to be run */
	struct loop_poller poller;
	bool draining;
	struct list conts;
	struct fs_cont *last_cont;
	uint64_t grace_until_ns;
	struct list *buckets; /* of struct fs_open */
	uint64_t bucket_mask;
	unsigned open_count;
};

static inline bool fs_in_grace(const struct fs *fs)
{
	return unlikely(fs->grace_until_ns) && loop_now(fs->store.loop) < fs->grace_until_ns;
}

static inline struct fs *fs_of(struct store *s)
{
	return container_of(s, struct fs, store);
}

/* --- req.c: how requests run --- */

bool fs_run(struct fs_req *r); /* true: the op has ended (and r is back in the pool) */
void fs_cancel(struct store *s, struct pst_op *op);
enum fs_act fs_end(struct fs_req *r, int status);
enum fs_act fs_goto(struct fs_req *r, fs_step *next);
/* Somebody else was faster: start again, in turn; -EAGAIN after opts.attempts_max. */
enum fs_act fs_again(struct fs_req *r);
/* Gives up what others may wait for. */
void fs_release(struct fs_req *r);
/* The object of FS_N_MAIN is not there. */
enum fs_act fs_gone(struct fs_req *r);
enum fs_act fs_wait_in(struct fs_req *r, struct list *queue, fs_step *next);
/* Those in @queue run soon (never from inside). */
void fs_wake_all(struct fs *fs, struct list *queue);
void fs_wake_one(struct fs *fs, struct list *queue);
int fs_drain(struct fs *fs);
void fs_req_init(struct fs *fs, struct fs_req *r);
struct fs_req *fs_req_get(struct fs *fs, struct pst_op *op, fs_step *start, bool mutates);

/* --- sub.c: sub-ops and batches --- */

struct pst_op *fs_sub(struct fs_req *r, uint8_t opcode, uint64_t ino);
/* Each is a step's end. r->node[n], by its ino: exists is false when there is no such object. */
enum fs_act fs_stat(struct fs_req *r, unsigned n, uint64_t ino, fs_step *then);
/* The entry that w->dir and w->key name; w->ino 0 when there is none. */
enum fs_act fs_dirent_get(struct fs_req *r, struct fs_walk *w, fs_step *then);
void fs_batch(struct fs_req *r); /* begins one */
void fs_if_present(struct fs_req *r, uint64_t ino, int err);
void fs_if_label(struct fs_req *r, const struct fs_node *n);
void fs_if_dirent(struct fs_req *r, const struct fs_walk *w); /* as w found it, or its absence */
void fs_if_key(struct fs_req *r, uint8_t kind, uint64_t ino, const void *key, uint32_t key_len,
               int err);
void fs_put(struct fs_req *r, uint64_t ino, const void *key, uint32_t key_len, const void *val,
            uint32_t val_len);
void fs_put_dirent(struct fs_req *r, unsigned i, const struct fs_walk *w, uint64_t ino,
                   uint8_t type);
void fs_del(struct fs_req *r, uint64_t ino, const void *key, uint32_t key_len);
void fs_set_label(struct fs_req *r, struct fs_node *n);
void fs_set_mtime(struct fs_req *r, uint64_t ino, uint64_t mtime_ns);
void fs_resize(struct fs_req *r, uint64_t ino, uint64_t size_bytes);
void fs_delete(struct fs_req *r, uint64_t ino);
void fs_content(struct fs_req *r, uint64_t ino);   /* op->iov as an array write at 0 */
void fs_if_orphan(struct fs_req *r, uint64_t ino); /* it is on the list */
void fs_orphan_put(struct fs_req *r, uint64_t ino);
void fs_orphan_del(struct fs_req *r, uint64_t ino);
/* The op's one batch; @word is its reply word. @then runs after success only. */
enum fs_act fs_commit(struct fs_req *r, uint64_t word, fs_step *then);
/* A book-keeping batch, without a token; @then looks at r->sub.status. */
enum fs_act fs_commit_own(struct fs_req *r, fs_step *then);

/* --- label.c, attr.c --- */

uint8_t fs_type_of_mode(uint32_t mode);
void fs_attr_fill(const struct fs_node *n, struct pst_attr *ret_attr);
/* Ends the op with 0 and the attributes of FS_N_MAIN. */
enum fs_act fs_end_attr(struct fs_req *r);
/* The same, looked up first: after the batch. */
enum fs_act fs_end_stat(struct fs_req *r, uint64_t ino);
/* r->node[FS_N_MAIN].ino = what op->ino or op->dir, op->name mean. */
enum fs_act fs_target(struct fs_req *r, bool follow, fs_step *then);
/* Puts what op->attr_mask names into @l: mode bits, owner, atime. */
void fs_label_apply(struct fs_label *l, const struct pst_op *op);

/* --- resolve.c --- */

/* Where paths begin and end for this op, whatever they say. */
static inline uint64_t fs_root(const struct fs_req *r)
{
	return r->op->root ? r->op->root : PST_INO_ROOT;
}
/* The inode that the caller means by @ino: the root of the tree has two numbers if op->root is set. */
static inline uint64_t fs_alias(const struct fs_req *r, uint64_t ino)
{
	return !ino || ino == PST_INO_ROOT ? fs_root(r) : ino;
}
/* Ends the op with -EACCES unless the directory @dir is op->root or lies below it. */
enum fs_act fs_under(struct fs_req *r, uint64_t dir, fs_step *then);
enum fs_act fs_walk(struct fs_req *r, unsigned i, uint64_t dir, const char *path, uint32_t path_len,
                    enum fs_walk_mode mode, bool follow, fs_step *then);

/* --- cont.c: containers, counters --- */

enum fs_act fs_cont_enter(struct fs_req *r, fs_step *then);
enum fs_act fs_ino_alloc(struct fs_req *r, enum fs_kind kind, fs_step *then); /* r->ino_new */
void fs_cont_leave(struct fs_req *r);
void fs_conts_free(struct fs *fs);

/* --- open.c: who is held open --- */

int fs_opens_alloc(struct fs *fs);
void fs_opens_free(struct fs *fs);
struct fs_open *fs_open_find(struct fs *fs, uint32_t cont, uint64_t ino);
/* Somebody deletes it: @o, who is not in the table, says so until fs_unmark(). */
void fs_mark(struct fs *fs, struct fs_open *o, uint32_t cont, uint64_t ino);
void fs_unmark(struct fs *fs, struct fs_open *o);
/* In the time of grace: opens what a CREATE without a name made before the restart. */
enum fs_act fs_open_made(struct fs_req *r, uint64_t ino);
/* Counts the inode for r (r->holding). -ENFILE, -ENOMEM. Not of one that is dying. */
int fs_hold(struct fs_req *r, uint64_t ino);
/* Gives the count of r->held_ino back and ends the op with @status. */
enum fs_act fs_drop(struct fs_req *r, int status);
/*
 * Before a batch that takes the last link of @ino. FS_NEXT: go on; r->pinned tells whether it
 * becomes an orphan or is deleted (then r->marked). FS_WAIT: somebody deletes it; the op starts
 * again. FS_END: no memory.
 */
enum fs_act fs_claim(struct fs_req *r, uint64_t ino);
/* Before a batch that gives an orphan a name. FS_NEXT, FS_WAIT as above; FS_END: nobody holds it.
 */
enum fs_act fs_claim_orphan(struct fs_req *r, uint64_t ino);
void fs_claim_done(struct fs_req *r); /* the batch succeeded */
void fs_unclaim(struct fs_req *r);

/* --- the ops --- */

fs_step fs_op_lookup, fs_op_setattr, fs_op_statfs;
fs_step fs_op_create, fs_op_mkdir, fs_op_symlink, fs_op_link;
fs_step fs_op_unlink, fs_op_rmdir, fs_op_rename;
fs_step fs_op_readdir, fs_op_readlink;
fs_step fs_op_getxattr, fs_op_setxattr, fs_op_listxattr, fs_op_removexattr;
fs_step fs_op_open, fs_op_close;
fs_step fs_op_read, fs_op_write, fs_op_extents;
/* The same op, passed down; false when it needs a request. */
bool fs_data_fast(struct fs *fs, struct pst_op *op, enum pst_outcome *ret_outcome);

/* Removing one link of an inode, whose node @n was looked up: shared by unlink, rename and link.
 * fs_unlink_if() adds conditions, fs_unlink_do() changes. fs_claim() first when it is the last. */
void fs_unlink_if(struct fs_req *r, const struct fs_node *n);
void fs_unlink_do(struct fs_req *r, struct fs_node *n);

#endif
