/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>

#include "image.h"

#define BOX_OIDS 6

static void pst_must(int err)
{
	pst_assert(!err);
}

/* --- making it --- */

static void fill(struct store *s, uint32_t cont, unsigned round)
{
	static uint8_t buf[90000];

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 7 + round);
	for (unsigned i = 1; i <= BOX_OIDS; i++) {
		char key[16];

		pst_must(ops_write(s, cont, oid_of(i), (uint64_t)(i * round % 5) * 6000, buf,
		                   i % 3 ? 3000 * i : sizeof(buf)));
		(void)snprintf(key, sizeof(key), "key%u", round);
		pst_must(ops_kv_put(s, cont, oid_of(i), key, buf, i % 2 ? 40 : 9000));
	}
}

static void log_find(struct image *im)
{
	for (unsigned shard = 0; shard < im->geo.shards; shard++)
		for (uint64_t i = 0; i < im->geo.log_blocks; i++) {
			uint64_t at = im->geo.log_start + shard * im->geo.log_blocks + i;
			const struct media_frame *f = (void *)(im->bytes + at * BLOCK_BYTES);

			if (le32_get(f->magic) == FRAME_MAGIC && im->frames < ARRAY_LEN(im->frame))
				im->frame[im->frames++] = at;
		}
}

static void pages_find(struct image *im)
{
	for (uint64_t i = im->geo.data_start; i < im->geo.dev_blocks; i++) {
		const uint8_t *p = im->bytes + i * BLOCK_BYTES;

		if (!memcmp(p, "PSbt", 4) && im->pages < ARRAY_LEN(im->page))
			im->page[im->pages++] = i;
	}
}

static void make(struct image *im)
{
	struct local_format_opts fo = {
	        .shards = 2, .journal_bytes = MIB, .region_bytes = 256 * KIB};
	struct pst_err err = {0};
	struct store *s;
	struct rng rng;
	uint32_t other;

	rng_seed(&rng, 3);
	fo.rng = &rng;
	pst_must(local_format(&im->dev, 1, &fo, &err));
	pst_must(local_open(&s, im->loop, &im->dev, 1, NULL, &err));
	pst_must(ops_cont_create(s, "box", &im->cont));
	pst_must(ops_cont_create(s, "other", &other));
	fill(s, im->cont, 1);
	pst_must(ops_snap_create(s, "box", "a", NULL));
	fill(s, im->cont, 2);
	fill(s, other, 2);
	local_crash(s);
	pst_must(local_open(&s, im->loop, &im->dev, 1, NULL, &err)); /* checkpoints */
	pst_must(ops_snap_create(s, "box", "b", NULL));
	fill(s, im->cont, 3);
	fill(s, other, 3);
	pst_must(ops_snap_destroy(s, "box", "a"));
	local_crash(s);
}

static struct image *image_new(void)
{
	struct image *im = calloc(1, sizeof(*im));
	struct loop_opts lo;
	struct pst_err err = {0};
	char spec[32];

	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = NSEC_PER_SEC;
	(void)snprintf(spec, sizeof(spec), "mem:%u", (unsigned)IMAGE_BYTES);
	im->bytes = aligned_alloc(BLOCK_BYTES, IMAGE_BYTES);
	im->work = aligned_alloc(BLOCK_BYTES, IMAGE_BYTES);
	pst_assert(im->bytes && im->work);
	pst_must(loop_new(&im->loop, &lo, &err));
	pst_must(bdev_open(&im->dev, spec, im->loop, NULL, &err));
	make(im);
	pst_must(bdev_read_sync(im->dev, 0, im->bytes, IMAGE_BYTES));
	memcpy(im->work, im->bytes, IMAGE_BYTES);
	memcpy(&im->super, im->bytes, sizeof(im->super));
	pst_must(geometry_from_super(&im->geo, &im->super, IMAGE_BYTES, &err));
	log_find(im);
	pages_find(im);
	return im;
}

struct image *image_get(void)
{
	static struct image *im;

	if (!im)
		im = image_new();
	return im;
}

uint8_t *image_blocks(struct image *im, uint64_t first, uint64_t count)
{
	pst_assert(first + count <= ARRAY_LEN(im->touched));
	for (uint64_t i = first; i < first + count; i++)
		im->touched[i] = true;
	return im->work + first * BLOCK_BYTES;
}

static void touched_write(struct image *im, const uint8_t *from, bool all)
{
	for (uint64_t i = 0; i < ARRAY_LEN(im->touched); i++)
		if (im->touched[i] || all)
			pst_must(bdev_write_sync(im->dev, i * BLOCK_BYTES, from + i * BLOCK_BYTES,
			                         BLOCK_BYTES, 0));
}

static void put_back(struct image *im, bool all)
{
	touched_write(im, im->bytes, all);
	for (uint64_t i = 0; i < ARRAY_LEN(im->touched); i++) {
		if (im->touched[i])
			memcpy(im->work + i * BLOCK_BYTES, im->bytes + i * BLOCK_BYTES,
			       BLOCK_BYTES);
		im->touched[i] = false;
	}
}

/* --- trying it --- */

static uint64_t listed;

static bool count_entry(struct pst_op *op, const struct pst_entry *e)
{
	return ++listed < 100000;
}

static void list_all(struct store *s, uint32_t cont, uint64_t view, uint8_t opcode)
{
	struct pst_op op = {.opcode = opcode,
	                    .cont = cont,
	                    .view = view,
	                    .oid = oid_of(2),
	                    .want_values = true,
	                    .entry = count_entry};

	listed = 0;
	(void)ops_run(s, &op);
}

static void read_all(struct store *s, uint32_t cont, uint64_t view)
{
	static uint8_t buf[200000];
	struct pst_obj_stat st;

	list_all(s, cont, view, PST_OP_OBJ_LIST);
	list_all(s, cont, view, PST_OP_KV_LIST);
	for (unsigned i = 1; i <= BOX_OIDS; i++) {
		uint64_t len;

		(void)ops_stat(s, cont, view, oid_of(i), &st);
		(void)ops_read(s, cont, view, oid_of(i), 0, buf, sizeof(buf), &len);
		(void)ops_kv_get(s, cont, view, oid_of(i), "key3", buf, sizeof(buf), &len);
	}
}

static void look(struct image *im)
{
	struct local_opts lo = {.read_only = true, .index_limit_bytes = 64 * MIB};
	struct store *s;
	uint64_t view;

	if (local_open(&s, im->loop, &im->dev, 1, &lo, NULL))
		return;
	list_all(s, 0, 0, PST_OP_CONT_LIST);
	read_all(s, im->cont, 0);
	if (!ops_snap_open(s, "box", "b", &view))
		read_all(s, im->cont, view);
	local_crash(s);
}

static void change(struct image *im)
{
	struct local_opts lo = {.index_limit_bytes = 64 * MIB};
	struct store *s;

	if (local_open(&s, im->loop, &im->dev, 1, &lo, NULL))
		return;
	for (unsigned i = 1; i <= BOX_OIDS; i++) {
		struct pst_mut m = {.kind = PST_OBJ_DELETE, .oid = oid_of(i)};

		(void)ops_write(s, im->cont, oid_of(i), 5000, "hello", 5);
		(void)ops_kv_put(s, im->cont, oid_of(i), "new", "v", 1);
		if (i % 2)
			(void)ops_batch(s, im->cont, &m, 1);
	}
	(void)ops_snap_destroy(s, "box", "b");
	(void)ops_flush(s, 0);
	local_crash(s);
}

static void finding(void *arg, const char *text, bool repaired)
{
	pst_assert(text[0]);
}

void image_try(struct image *im, bool write)
{
	struct local_fsck_opts fo = {.data = true, .finding = finding};
	struct local_fsck_report rep;

	touched_write(im, im->work, false);
	look(im);
	(void)local_fsck(im->loop, &im->dev, 1, &fo, &rep, NULL);
	if (write) {
		fo.repair = true;
		(void)local_fsck(im->loop, &im->dev, 1, &fo, &rep, NULL);
		change(im);
		look(im);
	}
	put_back(im, write);
}
