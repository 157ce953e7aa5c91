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
	struct wire_buf_class {
		uint8_t *begin, *end;
		size_t bytes; /* of each */
		unsigned count, left;
		void **free; /* a stack: those that are left */
	} cls[WIRE_BUF_CLASSES];
};

/* @counts: how many of 16 KiB, 128 KiB, 1 MiB, one op's data, and the largest batch with its
 * fields. -ENOMEM. */
int wire_bufs_init(struct wire_bufs *b, enum mem_kind kind,
                   const unsigned counts[WIRE_BUF_CLASSES]);
void wire_bufs_done(struct wire_bufs *b); /* all are back (asserted); good on a half-built one */
/* What is not of the first class, or can't be. */
void *wire_bufs_get_other(struct wire_bufs *b, size_t len);
struct wire_buf_class *wire_bufs_class(struct wire_bufs *b, const void *buf);
/* At least @len bytes, aligned to 4096; NULL: none is free now (or ever: see wire_bufs_max). */
static inline void *wire_bufs_get(struct wire_bufs *b, size_t len)
{
	struct wire_buf_class *c = &b->cls[0];

	if (likely(len <= c->bytes && c->left))
		return c->free[--c->left];
	return wire_bufs_get_other(b, len);
}
static inline void wire_bufs_put(struct wire_bufs *b, void *buf)
{
	struct wire_buf_class *c = &b->cls[0];

	if (unlikely((uint8_t *)buf >= c->end))
		c = wire_bufs_class(b, buf);
	pst_assert_slow(c->left < c->count);
	c->free[c->left++] = buf;
}
static inline size_t wire_bufs_max(const struct wire_bufs *b) /* the longest there is */
{
	return b->max;
}
/* Room for the checksums of what lies in @buf, a buffer of @b: the buffer owner's, too. */
static inline uint32_t *wire_bufs_csum(const struct wire_bufs *b, const void *buf)
{
	return b->csum + (size_t)((const uint8_t *)buf - (const uint8_t *)b->region->addr) / 4096;
}

#endif
