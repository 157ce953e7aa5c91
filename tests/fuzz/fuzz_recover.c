/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_recover - a store whose metadata somebody wrote over, with checksums that are right. The
 * input: a byte of flags (1: open it for writing too), then changes: what kind of block, which one,
 * offset (2 bytes), length, bytes. The result is opened, read, examined and repaired.
 */
#include "image.h"

#include "fuzz.h"

enum kind {
	KIND_SUPER,
	KIND_HEADER,
	KIND_PAGE,
	KIND_CSUM,
	KIND_FRAME,
	KIND_FRAME_WHOLE, /* its length too */
	KIND_DATA,
	KINDS,
};

static uint64_t choose(const struct image *im, enum kind kind, unsigned which)
{
	switch (kind) {
	case KIND_SUPER:
		return super_place(which % SUPER_COPIES, im->geo.dev_blocks);
	case KIND_HEADER:
		return im->geo.header_start + which % (2 * im->geo.shards);
	case KIND_PAGE:
		return im->page[which % im->pages];
	case KIND_CSUM:
		return im->geo.csum_start + which % (2 * im->geo.csum_pages);
	case KIND_FRAME:
	case KIND_FRAME_WHOLE:
		return im->frame[which % im->frames];
	default:
		return im->geo.data_start + which % 64;
	}
}

static void seal(struct image *im, enum kind kind, uint64_t block)
{
	uint8_t *p = image_blocks(im, block, 1);
	struct media_frame *f = (void *)p;
	size_t len = BLOCK_BYTES;
	le32 crc;

	if (kind == KIND_SUPER) {
		super_seal((struct media_super *)(void *)p);
		return;
	}
	if (kind == KIND_DATA)
		return;
	if (kind == KIND_FRAME || kind == KIND_FRAME_WHOLE)
		len = MIN(le32_get(f->meta_bytes), IMAGE_BYTES - block * BLOCK_BYTES);
	if (len < 8)
		return;
	crc = le32_make(crc32c(0, p + 8, len - 8));
	memcpy(p + 4, &crc, sizeof(crc));
}

static void patch(struct image *im, struct input *in)
{
	enum kind kind = byte(in) % KINDS;
	uint64_t block = choose(im, kind, byte(in));
	unsigned at = (unsigned)byte(in) | (unsigned)byte(in) << 8;
	unsigned n = byte(in);
	uint8_t *p = image_blocks(im, block, 1);

	/* Frames: magic, identity and place are right, or nobody would look at the rest. */
	if (kind == KIND_FRAME)
		at = 40 + at % (BLOCK_BYTES - 40);
	for (unsigned i = 0; i < n && in->len; i++)
		p[(at + i) % BLOCK_BYTES] = byte(in);
	seal(im, kind, block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image *im = image_get();
	struct input in = {data, size};
	uint8_t flags = byte(&in);

	for (unsigned i = 0; i < 16 && in.len; i++)
		patch(im, &in);
	image_try(im, flags & 1);
	return 0;
}
