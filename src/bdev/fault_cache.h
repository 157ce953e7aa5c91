/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fault_cache - the volatile write cache that the fault device models. Private to the fault device.
 *
 * Terms. A *write* is one request's data, copied when it was submitted. A *version* is one block of
 * a write. The versions of one block form a *chain*, newest first; reads see the newest.
 *
 * Invariants.
 *  1. cache->writes is in the order of submission, and so is every chain (reversed).
 *  2. A version is in its block's chain exactly while it is live.
 *  3. A write is freed when none of its versions is live and nobody holds it.
 *  4. When a version leaves because the device below has its data, all older versions of its block
 *     leave with it: they must never be written over it.
 *  5. Of the chosen versions (those about to be written below) no block has more than one, so that
 *     the requests below never overlap and need no order.
 */
#ifndef BDEV_FAULT_CACHE_H
#define BDEV_FAULT_CACHE_H

#include <sys/uio.h>

#include "base/base.h"

struct cache_write;

struct cache_version {
	struct cache_version *next; /* another block's newest version, same hash */
	struct cache_version *older;
	struct cache_write *write;
	bool live, chosen;
};

struct cache_write {
	struct list link;
	uint64_t block;    /* the first */
	uint32_t count;    /* of blocks */
	uint32_t live;     /* versions in chains */
	uint64_t done_seq; /* when it completed; 0: in flight */
	bool held;         /* its request still refers to it */
	bool in_job;       /* being written below */
	bool doomed;       /* readable, but will never be stored: a flush failed on it */
	uint8_t *data;     /* NULL: zeroes */
	struct cache_version versions[];
};

struct cache {
	struct list writes;
	struct cache_version **table; /* NULL until the first write */
	unsigned table_bits;
	uint64_t heads; /* blocks that have a chain */
	uint32_t block_bytes, mem_align;
};

void cache_init(struct cache *c, uint32_t block_bytes, uint32_t mem_align);
void cache_done(struct cache *c); /* frees every write, held or not */
static inline bool cache_is_empty(const struct cache *c)
{
	return list_empty(&c->writes);
}

/* A held write of @count blocks from @block, with a copy of @iov (NULL: zeroes); in no chain yet.
 * -ENOMEM. */
int cache_write_new(struct cache *c, struct cache_write **ret_write, uint64_t block, uint32_t count,
                    const struct iovec *iov, uint32_t iov_count);
/* Puts those versions into their chains whose bit is not set in @holes (NULL: all). */
void cache_insert(struct cache *c, struct cache_write *w, const bool *holes);
/* The request that held it is over. May free it. */
void cache_release(struct cache *c, struct cache_write *w, uint64_t done_seq);

/* The newest version of @block, or NULL. */
struct cache_version *cache_find(const struct cache *c, uint64_t block);
/* The data of @v, NULL for zeroes. */
const uint8_t *cache_data(const struct cache *c, const struct cache_version *v);
static inline uint64_t cache_block(const struct cache_version *v)
{
	return v->write->block + (uint64_t)(v - v->write->versions);
}

/* Makes invariant 5 true: of several chosen versions of a block the newest stays chosen. */
void cache_settle(struct cache *c);
/* The device below has the data of all writes in_job: they leave (invariant 4). */
void cache_drop_job(struct cache *c);
/* The job failed: its writes stay as they were. */
void cache_cancel_job(struct cache *c);

#endif
