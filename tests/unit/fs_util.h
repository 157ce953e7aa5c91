/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs_util - what the tests of the names layer share: a stack of fs on a shim on the model, and ops
 * on paths in one line each.
 *
 * The shim passes ops to the model, and can count them, fail one of them, hold back those that a
 * test wants to see in between, or be busy and late at random (by the model store). It outlives the
 * layer, so that a test can start it again on the same objects.
 */
#ifndef TESTS_UNIT_FS_UTIL_H
#define TESTS_UNIT_FS_UTIL_H

#include <dirent.h>
#include <sys/stat.h>

#include "fs/fs.h"
#include "model_store.h"
#include "ops.h"

struct shim {
	struct store store;
	struct store *below;
	uint64_t ops, batches; /* seen */
	uint64_t fail_at;      /* the n-th op from now ends with fail_status; 0: none */
	int fail_status;
	bool fail_batches_only;
	bool (*hold)(const struct pst_op *op); /* kept until shim_release(); NULL: none */
	bool (*late)(const struct pst_op *op); /* done at once, and told by shim_release() */
	struct list held, done;
	unsigned held_count;
};

struct fsx {
	struct loop *loop;
	struct shim shim;
	struct store *fs;
	struct fs_opts opts;
	uint32_t cont;
	uint64_t seq; /* replay tokens: 0: ops carry none */
	uint64_t view;
	/* of the last op */
	struct pst_attr attr;
	uint64_t ino, ret_len, ret_off;
};

/* With PST_FS_BELOW=local in the environment the engine stands in for the model: it completes
 * changes later. */
bool fsx_on_engine(void);

/* Any of the options may be NULL. Asserts that it works. */
void fsx_open(struct fsx *x, const struct fs_opts *opts, const struct model_store_opts *model,
              uint64_t caps_without);
void fsx_close(struct fsx *x);
void fsx_restart(struct fsx *x); /* the layer only */
/* Submits what is held (in order), then turns the loop until nothing more happens. */
void shim_release(struct fsx *x);
/* Ends the first held op of this kind with @status. */
void shim_fail_held(struct fsx *x, uint8_t opcode, int status);
void fsx_turn(struct fsx *x);

struct pst_op fsx_op(struct fsx *x, uint8_t opcode, const char *path);
int fsx_run(struct fsx *x, struct pst_op *op); /* fills the outputs of x too */
/* For ops whose end the test waits for by itself. */
enum pst_outcome fsx_start(struct fsx *x, struct pst_op *op, int *status); /* 1: not ended */

int fsx_create(struct fsx *x, const char *path, uint32_t flags);
int fsx_create_data(struct fsx *x, const char *path, const char *data, uint32_t flags);
int fsx_mkdir(struct fsx *x, const char *path);
int fsx_symlink(struct fsx *x, const char *path, const char *target);
int fsx_link(struct fsx *x, const char *path, const char *path2, uint32_t flags);
int fsx_unlink(struct fsx *x, const char *path);
int fsx_rmdir(struct fsx *x, const char *path);
int fsx_rename(struct fsx *x, const char *path, const char *path2, uint32_t flags);
int fsx_lookup(struct fsx *x, const char *path, uint32_t flags);
int fsx_getattr(struct fsx *x, uint64_t ino);
int fsx_hold(struct fsx *x, const char *path, uint64_t ino);
int fsx_drop(struct fsx *x, uint64_t ino);
int fsx_read(struct fsx *x, uint64_t ino, uint64_t off, char *buf, size_t len);
int fsx_write(struct fsx *x, uint64_t ino, uint64_t off, const char *data, uint32_t flags);
int fsx_readlink(struct fsx *x, const char *path, char *buf, uint32_t cap); /* adds a NUL */
int fsx_setx(struct fsx *x, const char *path, const char *name, const char *val, uint32_t flags);
int fsx_getx(struct fsx *x, const char *path, const char *name, char *val, uint32_t cap);
int fsx_delx(struct fsx *x, const char *path, const char *name);
/* "a b c" into @buf, or the error. @max: entries per call, going on after the last name; 0: all. */
int fsx_list(struct fsx *x, const char *path, unsigned max, bool attrs, char *buf, size_t len);
/* How many objects the container has below, the layer's book-keeping included. */
uint64_t fsx_objects(struct fsx *x);
/*
 * Every link count and parent is right, every inode has an entry (or is on the orphan list), every
 * object is an inode. Asserts; returns the number of inodes.
 */
unsigned fsx_check(struct fsx *x);
extern uint64_t fsx_seed; /* of a random test: named when the check fails */

#endif
