/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bufs - payload memory: one region that channels may register, cut into buffers of a few sizes.
 * Belongs to one loop's thread. Memory that was never used is never touched.
 */
#ifndef WIRE_BUFS_H
#define WIRE_BUFS_H

#include "base/base.h"
#include "mem/mem.h"

#define WIRE_BUF_CLASSES 5

struct wire_bufs {
	struct mem_region *region;
	size_t max;     /* bytes of the longest buffer */
	uint32_t *csum; /* of its pages of 4096 bytes: op->csum of what lies in a buffer */
	struct {
		uint8_t *begin, *end;
		size_t bytes; /* of each */
		unsigned count, out;
		unsigned *free; /* a stack of numbers */
	} cls[WIRE_BUF_CLASSES];
};

/* @counts: how many of 16 KiB, 128 KiB, 1 MiB, one op's data, and the largest batch with its
 * fields. -ENOMEM. */
int wire_bufs_init(struct wire_bufs *b, enum mem_kind kind,
                   const unsigned counts[WIRE_BUF_CLASSES]);
void wire_bufs_done(struct wire_bufs *b); /* all are back (asserted); good on a half-built one */
/* At least @len bytes, aligned to 4096; NULL: none is free now (or ever: see wire_bufs_max). */
void *wire_bufs_get(struct wire_bufs *b, size_t len);
void wire_bufs_put(struct wire_bufs *b, void *buf);
static inline size_t wire_bufs_max(const struct wire_bufs *b) /* the longest there is */
{
	return b->max;
}
size_t wire_bufs_size(const struct wire_bufs *b, const void *buf);
/* Room for the checksums of what lies in @buf, a buffer of @b: the buffer owner's, too. */
static inline uint32_t *wire_bufs_csum(const struct wire_bufs *b, const void *buf)
{
	return b->csum + (size_t)((const uint8_t *)buf - (const uint8_t *)b->region->addr) / 4096;
}

#endif
