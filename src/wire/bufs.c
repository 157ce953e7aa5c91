/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bufs - buffers of a few sizes from one region. A request takes the smallest that holds it, or a
 * larger one when these are out: but never one more than a size larger, so that small requests
 * can't take all memory of the large.
 */
#include "wire/bufs.h"

#include "wire/codec.h"

static const size_t class_bytes[WIRE_BUF_CLASSES] = {
        16 * KIB, 128 * KIB, MIB, PST_IO_MAX, ALIGN_UP(WIRE_PAYLOAD_MAX + WIRE_BODY_MAX, 4096),
};

int wire_bufs_init(struct wire_bufs *b, enum mem_kind kind, const unsigned counts[WIRE_BUF_CLASSES])
{
	size_t total = 0;
	uint8_t *at;
	int rc;

	memset(b, 0, sizeof(*b));
	for (unsigned i = 0; i < WIRE_BUF_CLASSES; i++)
		total += counts[i] * class_bytes[i];
	rc = mem_region_new(&b->region, kind, total);
	if (rc < 0)
		return rc;
	b->csum = mem_alloc(total / 4096 * sizeof(*b->csum));
	if (!b->csum) {
		wire_bufs_done(b);
		return -ENOMEM;
	}
	at = b->region->addr;
	for (unsigned i = 0; i < WIRE_BUF_CLASSES; i++) {
		b->cls[i].begin = at;
		at += counts[i] * class_bytes[i];
		b->cls[i].end = at;
		b->cls[i].bytes = class_bytes[i];
		b->cls[i].count = b->cls[i].left = counts[i];
		b->max = counts[i] ? class_bytes[i] : b->max;
		b->cls[i].free = mem_alloc((counts[i] + 1) * sizeof(void *));
		if (!b->cls[i].free) {
			wire_bufs_done(b);
			return -ENOMEM;
		}
		for (unsigned j = 0; j < counts[i]; j++) /* the first is on top */
			b->cls[i].free[j] = at - (j + 1) * class_bytes[i];
	}
	return 0;
}

void wire_bufs_done(struct wire_bufs *b)
{
	for (unsigned i = 0; i < WIRE_BUF_CLASSES; i++) {
		pst_assert(b->cls[i].left == b->cls[i].count);
		mem_free(b->cls[i].free);
		b->cls[i].free = NULL;
	}
	mem_free(b->csum);
	b->csum = NULL;
	mem_region_free(b->region);
	b->region = NULL;
}

void *wire_bufs_get_other(struct wire_bufs *b, size_t len)
{
	unsigned i = 0, tries = 0;

	while (i < WIRE_BUF_CLASSES && (b->cls[i].bytes < len || !b->cls[i].count))
		i++;
	for (; i < WIRE_BUF_CLASSES && tries < 2; i++) {
		struct wire_buf_class *c = &b->cls[i];

		if (!c->count)
			continue;
		tries++;
		if (c->left)
			return c->free[--c->left];
	}
	return NULL;
}

struct wire_buf_class *wire_bufs_class(struct wire_bufs *b, const void *buf)
{
	unsigned i = 0;

	while ((const uint8_t *)buf >= b->cls[i].end)
		i++;
	pst_assert_slow(i < WIRE_BUF_CLASSES && (const uint8_t *)buf >= b->cls[i].begin);
	return &b->cls[i];
}
