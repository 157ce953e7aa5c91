/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image - a small store for fuzzers: made once, the same in every process, put back after each
 * input.
 */
#ifndef TESTS_FUZZ_IMAGE_H
#define TESTS_FUZZ_IMAGE_H

#include "bdev/bdev.h"
#include "ops.h"
#include "store/local/engine.h"

#define IMAGE_BYTES (5 * MIB)

struct image {
	struct loop *loop;
	struct bdev *dev;
	uint8_t *bytes; /* how it is */
	uint8_t *work;  /* how this input has it; image_load() puts it on the device */
	struct geometry geo;
	struct media_super super;
	uint32_t cont;
	uint64_t page[256]; /* device blocks of index pages */
	unsigned pages;
	uint64_t frame[256]; /* device blocks of log frames */
	unsigned frames;
	bool touched[IMAGE_BYTES / BLOCK_BYTES]; /* work may differ from bytes */
};

/* The image, made at the first call: two shards, a container with arrays, keys, large values, two
 * snapshots, and a log that has not been checkpointed. */
struct image *image_get(void);
/* Blocks of im->work, to be changed. */
uint8_t *image_blocks(struct image *im, uint64_t first, uint64_t count);
/* Puts im->work on the device, opens it read-only and reads all of it; then fsck; with @write it is
 * opened for writing too, and repaired. Nothing may crash, hang or leak. All is put back after. */
void image_try(struct image *im, bool write);

#endif
