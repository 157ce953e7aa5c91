/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * eng_util - what the tests of the local engine share: a store on memory behind fault devices, in
 * simulated time, that can be closed, cut and opened again, and whose media can be looked at and
 * changed while it is closed.
 */
#ifndef TESTS_ENG_UTIL_H
#define TESTS_ENG_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "bdev/fault.h"
#include "model_store.h"
#include "ops.h"
#include "store/local/engine.h"

#define ENG_DEVS_MAX 4
#define BB           4096u

struct eng {
	struct loop *loop;
	unsigned devs;
	uint64_t dev_bytes;
	struct local_format_opts format;
	struct local_opts opts;
	bool plain; /* memory without a fault device, which would need memory of its own */
	struct bdev *dev[ENG_DEVS_MAX]; /* fault devices; NULL while closed */
	struct store *store;
	struct pst_err err; /* of the last eng_try_open() */
	uint64_t seed;      /* of the fault devices */
	uint64_t start_ns;  /* of the clock; 0: one second */
};

/* A new, empty store, open. @set, @devs and @dev_bytes are the caller's to fill in before. */
void eng_start(struct eng *e);
/* Ends it, open or not; gives the memory of the devices back. */
void eng_end(struct eng *e);

void eng_open_devs(struct eng *e);
void eng_close_devs(struct eng *e);
/* 0, or local_open()'s error with e->err; the devices are closed again then. */
int eng_try_open(struct eng *e);
void eng_open(struct eng *e);
int eng_close(struct eng *e);
/* Drops the store with what was written kept, flushed or not. */
void eng_drop(struct eng *e);
/* Cuts the power of all devices and drops the store. */
void eng_cut(struct eng *e);
void eng_reopen(struct eng *e); /* close and open */

/* The n-th request from now of these kinds fails on all devices (each counts for itself). */
void eng_fail_at(struct eng *e, uint32_t ops_mask, uint64_t n, int status);
/* Lets what the store does on its own come to rest: some virtual time passes. */
void eng_settle(struct eng *e);

struct local *eng_local(struct eng *e);
/* While it is open: waits for a checkpoint of every shard. */
void eng_checkpoint(struct eng *e);

/* The media of device @dev while the store is closed. */
void eng_peek(struct eng *e, unsigned dev, uint64_t block, void *buf, uint32_t blocks);
void eng_poke(struct eng *e, unsigned dev, uint64_t block, const void *buf, uint32_t blocks);
void eng_flip(struct eng *e, unsigned dev, uint64_t block, uint32_t bit);

/* An op that goes on while others are submitted. */
struct eng_op {
	struct pst_op op;
	struct iovec iov;
	bool ended;
	enum pst_outcome out;
};
void eng_submit(struct eng *e, struct eng_op *o); /* op filled; retries while busy */
int eng_wait(struct eng *e, struct eng_op *o);
void eng_write_op(struct eng_op *o, uint32_t cont, struct pst_oid oid, uint64_t off, void *buf,
                  size_t len, uint32_t flags);
void eng_read_op(struct eng_op *o, uint32_t cont, uint64_t view, struct pst_oid oid, uint64_t off,
                 void *buf, size_t len);

/* Bytes that depend on @tag and on their place, so that no two blocks are alike. */
void eng_fill(void *buf, size_t len, uint64_t tag);
/* Is what lies at [off, off + len) of the object eng_fill() of @tag? 0, or the read's error. */
int eng_expect(struct eng *e, uint32_t cont, uint64_t view, struct pst_oid oid, uint64_t off,
               size_t len, uint64_t tag);
int eng_put(struct eng *e, uint32_t cont, struct pst_oid oid, uint64_t off, size_t len,
            uint64_t tag);
uint64_t eng_free_bytes(struct eng *e);
bool eng_stopped(struct eng *e, char *why, size_t len);

/* The last lines of the log, newest last; eng_log_clear() forgets them. */
bool eng_logged(const char *part);
void eng_log_clear(void);

#endif
