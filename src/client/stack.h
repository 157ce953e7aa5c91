/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stack - from a store's name to a store: "local:DEV[,DEV...][?option=value&...]" becomes block
 * devices, the local engine on them, and the fs layer on that; "pst://HOST[:PORT]" a connection to a
 * server that has all of this (stack_remote.c has its options).
 *
 * Options belong to the device that they follow, but for those of the store itself, which may stand
 * after any of them: index_limit=SIZE (DRAM for the index), csum_cache=SIZE, journal_cache=SIZE,
 * ops=N (ops in flight), and for mem: devices shards=N and journal=SIZE of their formatting.
 */
#ifndef CLIENT_STACK_H
#define CLIENT_STACK_H

#include "bdev/bdev.h"
#include "store/store.h"

struct stack_opts {
	bool read_only;
	/* Of local: the loops of other reactors, among which the engine is parted with the caller's. */
	struct loop *const *more_loops;
	unsigned more_loop_count;
	uint64_t grace_ns; /* of the names, for clients that come back: fs.h */
	/* Of local: for who stays and has others wait: memory is taken now, not in the middle of their writes. */
	bool memory_ahead;
};

/*
 * Opens the stack that @uri names. Blocks (turns the loop, so never from one of its callbacks).
 * store_close() closes all of it. -EINVAL: bad syntax or options; -ENOTSUP: an unknown scheme; else
 * the errors of the devices and the engine, with a sentence in @err.
 */
int stack_open(struct store **ret_store, const char *uri, struct loop *loop,
               const struct stack_opts *opts, struct pst_err *err);

/* The scheme local: @text is what follows the colon. */
int stack_local_open(struct store **ret_store, const char *text, struct loop *loop,
                     const struct stack_opts *opts, struct pst_err *err);

/* What can be said of @text without opening a device: its syntax, the store's options, and bdev_check() of each. 0, or
 * what stack_local_open() would say. Any thread. */
int stack_local_check(const char *text, struct pst_err *err);
/* bdev_files() of each device that @text names; @device counts them from 0. */
int stack_local_files(const char *text, int (*each)(void *arg, unsigned device, const char *path),
                      void *arg, struct pst_err *err);

/* The scheme pst: a server's store. */
int stack_remote_open(struct store **ret_store, const char *text, struct loop *loop,
                      const struct stack_opts *opts, struct pst_err *err);

/* --- the devices of a local stack; for commands that work below a store: format, fsck --- */

struct stack_devs {
	struct bdev *dev[PST_DEVICES_MAX];
	unsigned count;
	bool all_mem; /* each is memory, also under a fault device */
};

/* What each of @count devices has of @bytes: the same, in whole blocks. */
uint64_t stack_dev_bytes(uint64_t bytes, unsigned count);
/*
 * Opens each of @count device strings. With opts->create every file is made as large as
 * stack_dev_bytes() says of opts->size_bytes. On failure none stays open; @err names the device.
 */
int stack_devs_open(struct stack_devs *ret_devs, const char *const *specs, unsigned count,
                    struct loop *loop, const struct bdev_open_opts *opts, struct pst_err *err);
void stack_devs_close(struct stack_devs *devs);

#endif
