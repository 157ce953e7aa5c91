/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_log - hostile records in whole frames. The input is a program that writes them: a byte of
 * flags (1: open for writing too), then frames, each of a few records, each of a few changes; what
 * the lengths must be is made right (mostly), what stands in them is the input's. The frames replace
 * the log of a store, which is then recovered.
 */
#include "image.h"

#include "fuzz.h"

#define FRAME_BLOCKS 4u

/* A number: mostly small, or one of the extremes. */
static uint64_t number(struct input *in)
{
	uint64_t v = byte(in);

	if (v < 200)
		return v;
	if (v < 240) {
		v = 0;
		for (unsigned i = 0; i < 3; i++)
			v = v << 8 | byte(in);
		return v;
	}
	if (v < 248)
		return 1ull << (byte(in) % 64);
	return UINT64_MAX - byte(in);
}

struct out {
	uint8_t *start, *p, *end;
};

static void put(struct out *o, const void *bytes, size_t n)
{
	n = MIN(n, (size_t)(o->end - o->p));
	memcpy(o->p, bytes, n);
	o->p += n;
}

static void put64(struct out *o, uint64_t v)
{
	le64 le = le64_make(v);

	put(o, &le, sizeof(le));
}

static void put32(struct out *o, uint64_t v)
{
	le32 le = le32_make((uint32_t)v);

	put(o, &le, sizeof(le));
}

static void raw(struct out *o, struct input *in, unsigned n)
{
	while (n--) {
		uint8_t b = byte(in);

		put(o, &b, 1);
	}
}

static void body_write(struct out *o, struct input *in)
{
	uint32_t pieces = byte(in) % 5, csums = 0;

	put64(o, number(in));
	put32(o, pieces);
	put32(o, number(in) % 8);
	for (uint32_t i = 0; i < pieces; i++) {
		uint32_t blocks = byte(in) % 20;

		put64(o, number(in));
		put64(o, number(in));
		put32(o, blocks);
		put32(o, byte(in));
		csums += blocks;
	}
	if (byte(in) == 255)
		csums++;
	while (csums--)
		put32(o, 0);
}

static void body_outval(struct out *o, struct input *in)
{
	uint32_t n = byte(in) % 4;

	put32(o, number(in) % 70000);
	put32(o, n | (uint32_t)byte(in) % 2 << 16);
	put32(o, number(in));
	put32(o, number(in));
	while (n--)
		put64(o, number(in) | (uint64_t)(byte(in) % 8) << 48);
}

static void change(struct out *o, struct input *in)
{
	uint8_t kind = byte(in) % 10, flags = byte(in) % 4;
	uint8_t *head = o->p, *body;
	struct media_change ch = {.kind = kind,
	                          .flags = flags,
	                          .oid_lo = le64_make(byte(in) % 8),
	                          .key_len = le16_make(kind <= CH_KV_DEL ? byte(in) % 12 : 0)};

	put(o, &ch, sizeof(ch));
	body = o->p;
	raw(o, in, le16_get(ch.key_len));
	if (kind == CH_WRITE)
		body_write(o, in);
	else if (kind == CH_KV_PUT && flags & CH_F_OUT)
		body_outval(o, in);
	else if (kind == CH_PUNCH)
		put64(o, number(in)), put64(o, number(in));
	else if (kind == CH_RESIZE || kind == CH_MTIME)
		put64(o, number(in));
	else if (kind != CH_DELETE && kind != CH_KV_DEL)
		raw(o, in, byte(in) % 64);
	ch.body_len = le32_make((uint32_t)(o->p - body));
	if (byte(in) == 255)
		ch.body_len = le32_make((uint32_t)number(in));
	if (o->p - head >= (ptrdiff_t)sizeof(ch))
		memcpy(head, &ch, sizeof(ch));
	while ((o->p - head) % 8 && o->p < o->end)
		*o->p++ = 0;
}

static void record_body(struct out *o, struct input *in, unsigned type)
{
	unsigned n;

	switch (type) {
	case REC_CONT_CREATE:
		n = byte(in) % 12;
		put32(o, byte(in) % 8);
		put32(o, byte(in) % 3);
		put32(o, byte(in));
		put32(o, (uint32_t)n << 16);
		raw(o, in, 16);
		for (unsigned i = 0; i < 3; i++)
			put64(o, number(in));
		raw(o, in, n);
		break;
	case REC_CONT_SET:
		put64(o, number(in));
		put64(o, number(in));
		put64(o, number(in));
		break;
	case REC_SNAP_CREATE:
		n = byte(in) % 12;
		put64(o, byte(in) % 8);
		put64(o, n);
		raw(o, in, n);
		break;
	default:
		put64(o, number(in));
	}
}

static void record(struct out *o, struct input *in)
{
	unsigned type = byte(in) % 9, changes = type == REC_BATCH ? byte(in) % 6 : 0;
	struct media_record r = {.type = le16_make((uint16_t)type),
	                         .flags = le16_make(byte(in) % 2),
	                         .cont = le32_make(byte(in) % 6),
	                         .changes = le32_make(changes)};
	uint8_t *head = o->p;

	put(o, &r, sizeof(r));
	if (le16_get(r.flags) & REC_F_TOKEN)
		for (unsigned i = 0; i < sizeof(struct media_reply) / 8; i++)
			put64(o, number(in));
	for (unsigned i = 0; i < changes; i++)
		change(o, in);
	if (type != REC_BATCH)
		record_body(o, in, type);
	while ((o->p - head) % 8 && o->p < o->end)
		*o->p++ = 0;
	r.len = le32_make((uint32_t)(o->p - head));
	if (o->p - head >= (ptrdiff_t)sizeof(r))
		memcpy(head, &r, sizeof(r));
}

/* One frame at position @pos of shard 0's log; returns the position after it. */
static uint64_t frame(struct image *im, struct input *in, const struct media_header *h,
                      uint64_t pos, uint64_t seq, unsigned records)
{
	uint64_t at = im->geo.log_start + pos % im->geo.log_blocks;
	struct out o = {.start = image_blocks(im, at, FRAME_BLOCKS)};
	struct media_frame f = {.magic = le32_make(FRAME_MAGIC),
	                        .seq = le64_make(seq),
	                        .pos = le64_make(pos),
	                        .durable = le64_make(seq - 1),
	                        .log_id = im->super.log_id,
	                        .records = le32_make(records),
	                        .epoch = h->epoch};
	uint32_t data = records ? byte(in) % 6 : 0;

	o.p = o.start + sizeof(f);
	o.end = o.start + (size_t)FRAME_BLOCKS * BLOCK_BYTES;
	for (unsigned i = 0; i < records; i++)
		record(&o, in);
	f.meta_bytes = le32_make((uint32_t)(o.p - o.start));
	f.data_blocks = le32_make(data);
	memcpy(o.start, &f, sizeof(f));
	f.crc = le32_make(crc32c(0, o.start + 8, (size_t)(o.p - o.start) - 8));
	memcpy(o.start, &f, sizeof(f));
	return pos + DIV_ROUND_UP((uint64_t)(o.p - o.start), BLOCK_BYTES) + data;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image *im = image_get();
	struct input in = {data, size};
	const struct media_header *h = (void *)(im->work + im->geo.header_start * BLOCK_BYTES);
	uint8_t flags = byte(&in);
	uint64_t pos, seq;

	if (le64_get(h[1].gen) > le64_get(h[0].gen))
		h++;
	pos = le64_get(h->log_pos);
	seq = le64_get(h->frame_seq) + 1;
	memset(image_blocks(im, im->geo.log_start, im->geo.log_blocks), 0,
	       im->geo.log_blocks * BLOCK_BYTES);
	pst_assert(pos % im->geo.log_blocks < im->geo.log_blocks / 2); /* the image is made so */
	for (unsigned i = 0; i < 8 && in.len; i++)
		pos = frame(im, &in, h, pos, seq++, 1 + byte(&in) % 3);
	(void)frame(im, &in, h, pos, seq, 0); /* says that those before it were durable */
	image_try(im, flags & 1);
	return 0;
}
