/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * devs - several devices as one address space: single-buffer data I/O, mirrored metadata I/O; private
 * to store/local.
 */
#ifndef STORE_LOCAL_DEVS_H
#define STORE_LOCAL_DEVS_H

#include "bdev/bdev.h"
#include "store/local/media.h"

struct local;

struct geometry {
	unsigned devs;
	uint32_t stripe; /* blocks */
	uint64_t dev_blocks;
	uint64_t header_start, log_start, log_blocks, csum_start, csum_pages, data_start;
	uint64_t region_blocks; /* on one device */
	uint64_t region_span;   /* block addresses in a region: devs * region_blocks */
	uint64_t regions;
	uint32_t csum_region_pages; /* checksum pages per region */
	unsigned shards;
};

struct sub_io {
	struct bdev_io io;
	unsigned dev;
	unsigned forced_in; /* crew.c: among which of its part's forced requests it is */
	struct iovec iov;
	struct dio *parent;
	struct sub_io *next;
	struct sub_io *joined; /* of a flush: others that wait for its end */
};

/* One transfer as the engine sees it. Owned by the caller until done() runs. */
struct dio {
	void (*done)(struct dio *d);
	int status;
	unsigned pending;
	bool commits; /* a record will say that this data is there: the next frame must flush it */
	struct local *l;
	void *user;
	/* What is left to be submitted. Where there is no memory for a request it waits for one that
	 * ends: with one always in `first`, a transfer needs memory only to be quicker. */
	struct {
		enum bdev_op op;
		bool mirrored, dirty_only;
		unsigned dev;    /* mirrored, flush: the next one */
		uint32_t flags;  /* mirrored */
		uint32_t blocks; /* else: that are left */
		/* mirrored: block of each device; else an address; afterwards crew.c's */
		uint64_t at;
		union {
			uint8_t *buf;                   /* not mirrored */
			void (*settled)(struct dio *d); /* crew.c: the caller's done() */
		};
		unsigned iov_count; /* mirrored */
		uint64_t len;
		union {
			const struct iovec *iov;
			struct dio *next_settling; /* crew.c */
		};
		struct mem_region *region;
	} todo;
	struct sub_io first;
};

/* Read or write @blocks blocks at block address @addr; the range lies in one region. */
void dio_data(struct local *l, struct dio *d, enum bdev_op op, uint64_t addr, uint32_t blocks,
              void *buf, struct mem_region *region);
/* A read that may be answered with d->first.io.lent (bdev.h); else with NULL there, and @buf filled. */
void dio_look(struct local *l, struct dio *d, uint64_t addr, uint32_t blocks, void *buf,
              struct mem_region *region);
/* Write to the same device blocks of every device. */
void dio_meta_write(struct local *l, struct dio *d, uint64_t dev_block, const struct iovec *iov,
                    unsigned iov_count, uint64_t len_bytes,
                    bool fua); /* @iov as long as it is under way */
void dio_meta_read(struct local *l, struct dio *d, unsigned dev, uint64_t dev_block, void *buf,
                   uint32_t blocks);
/* @dirty_only: only devices that need it, flushes of others that cover it waited for; false:
 * there is nothing to wait for, and done() will not run. */
bool dio_flush(struct local *l, struct dio *d, bool dirty_only);
uint64_t geo_meta_block(const struct geometry *g,
                        uint64_t addr); /* of an address in a meta region */
static inline uint64_t geo_csum_page(const struct geometry *g, uint64_t addr, unsigned *ret_slot)
{
	uint64_t region = addr / g->region_span;
	uint32_t w = (uint32_t)(addr % g->region_span);

	*ret_slot = w % CSUMS_PER_PAGE;
	return region * g->csum_region_pages + w / CSUMS_PER_PAGE;
}
/* Blocking forms, for opening and fsck. */
int meta_write_sync(struct local *l, uint64_t dev_block, const void *buf, uint32_t blocks);
int meta_read_sync(struct local *l, unsigned dev, uint64_t dev_block, void *buf, uint32_t blocks);
int data_read_sync(struct local *l, uint64_t addr, void *buf, uint32_t blocks);
int flush_all_sync(struct local *l);

#endif
