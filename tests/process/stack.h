/* SPDX-License-Identifier: BSD-3-Clause */
/* stack - the real stack for the process tests: loop, devices, local engine, names layer. */
#ifndef TESTS_PROCESS_STACK_H
#define TESTS_PROCESS_STACK_H

#include "bdev/bdev.h"
#include "loop/thread.h"
#include "store/store.h"

#define STACK_DEVS_MAX     2
#define STACK_REACTORS_MAX 2 /* as many as stack_format() makes shards */

struct rec_journal;

struct stack {
	struct loop *loop;
	struct bdev *dev[STACK_DEVS_MAX];
	unsigned devs;
	unsigned reactors; /* to be set before stack_mount(); 0: one */
	struct loop_thread *more[STACK_REACTORS_MAX];
	struct store *store; /* the names layer on the engine */
};

/* Opens the devices of @specs (with @create_bytes: makes the files). @journal: record them; or
 * NULL. */
int stack_devs(struct stack *s, char *const *specs, unsigned count, bool sim_loop,
               uint64_t create_bytes, struct rec_journal *journal, struct pst_err *err);
int stack_format(struct stack *s, struct pst_err *err);
int stack_mount(struct stack *s, struct pst_err *err);
/* fsck of the closed store: 0, or -EUCLEAN with the first finding. */
int stack_fsck(struct stack *s, struct pst_err *err);
/* Closes what is open: the store in peace (its error is returned), or the devices alone. */
int stack_close(struct stack *s);

#endif
