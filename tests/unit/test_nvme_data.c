/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The controller's walks over PRPs and SGLs: for any offset, length and page size the right bytes
 * move, and no others; and what each malformed list is answered with.
 */
#include "nvme_util.h"

#define DEV_BYTES  (1 * MIB)
#define DATA_MAX   (128 * KIB)
#define DATA_AT    (4 * MIB) /* of the arena: pages for data, from here to its end */
#define LISTS_AT   (2 * MIB) /* lists and segments */
#define LISTS_SIZE (2 * MIB)

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)hash_u64(at / 8 + 1) + (uint8_t)at;
}

static struct rig *rig_pages(unsigned mps)
{
	static const char *const specs[] = {"mem:1m?block=512", NULL};
	struct rig *r = rig_new(specs, NULL);
	uint8_t *buf = mem_alloc(DEV_BYTES);

	assert_non_null(buf);
	for (uint64_t i = 0; i < DEV_BYTES; i++)
		buf[i] = pattern(i);
	assert_int_equal(bdev_write_sync(r->bdev[0], 0, buf, DEV_BYTES, 0), 0);
	mem_free(buf);
	rig_enable(r, mps << 7);
	rig_io_queue(r, &r->io, 1, RIG_ENTRIES);
	return r;
}

/* Where in the arena each byte of the data is: what a walk should find. */
struct layout {
	uint32_t count;
	struct {
		uint8_t *mem; /* NULL: a bit bucket */
		uint32_t len;
	} piece[1024];
};

static void layout_add(struct layout *l, uint8_t *mem, uint32_t len)
{
	assert_true(l->count < ARRAY_LEN(l->piece));
	l->piece[l->count].mem = mem;
	l->piece[l->count++].len = len;
}

/* Distinct pages of the data area in random order. */
static uint32_t pages_shuffle(struct rng *rng, uint32_t page, uint32_t *order)
{
	uint32_t n = (RIG_BYTES - DATA_AT) / page;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t j = (uint32_t)rng_below(rng, i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	return n;
}

static uint8_t *data_page(struct rig *r, uint32_t page, uint32_t index)
{
	return r->mem + DATA_AT + (uint64_t)index * page;
}

/* PRPs for @len bytes at @off of the first page; the list begins anywhere in its page. */
static void prp_build(struct rig *r, struct rng *rng, struct nvme_cmd *cmd, uint32_t page,
                      uint32_t off, uint32_t len, struct layout *l)
{
	static uint32_t order[1024];
	uint8_t *list = r->mem + LISTS_AT;
	le64 *at;
	uint32_t next = 0, part = MIN(len, page - off);

	pages_shuffle(rng, page, order);
	l->count = 0;
	layout_add(l, data_page(r, page, order[next]) + off, part);
	cmd->prp1 = le64_make(rig_addr(r, data_page(r, page, order[next++]) + off));
	cmd->prp2 = le64_make(rng_next(rng)); /* ignored if it is not needed */
	len -= part;
	if (!len)
		return;
	if (len <= page) {
		cmd->prp2 = le64_make(rig_addr(r, data_page(r, page, order[next])));
		layout_add(l, data_page(r, page, order[next]), len);
		return;
	}
	/* Often near the page's end, so that lists are chained. */
	at = (le64 *)(void *)(list + page - 8 * (1 + rng_below(rng, MIN(page / 8, 40))));
	cmd->prp2 = le64_make(rig_addr(r, at));
	while (len) {
		part = MIN(len, page);
		if (((uintptr_t)(at + 1) & (page - 1)) == 0 && len > page) {
			list += 3ull * page;
			*at = le64_make(rig_addr(r, list));
			at = (le64 *)(void *)list;
		}
		*at++ = le64_make(rig_addr(r, data_page(r, page, order[next])));
		layout_add(l, data_page(r, page, order[next++]), part);
		len -= part;
	}
}

/* One SGL descriptor. */
static void desc_set(struct nvme_sgl_desc *d, unsigned type, uint64_t addr, uint32_t len)
{
	*d = (struct nvme_sgl_desc){
	        .addr = le64_make(addr), .len = le32_make(len), .type = NVME_SGL_TYPE(type, 0)};
}

/* An SGL of up to 30 pieces of any length, buckets between them, over up to 5 segments. */
static void sgl_build(struct rig *r, struct rng *rng, struct nvme_cmd *cmd, uint32_t len, bool read,
                      struct layout *l)
{
	struct nvme_sgl_desc flat[64], *seg = (void *)(r->mem + LISTS_AT);
	uint32_t n = 0, done = 0, at = 0;
	uint64_t mem = DATA_AT;
	struct nvme_sgl_desc *link = &cmd->sgl;

	l->count = 0;
	cmd->flags = NVME_CMD_PSDT_SGL;
	while (done < len) {
		uint32_t part = (uint32_t)(n == 29 ? len - done : 1 + rng_below(rng, len - done));

		if (rng_chance(rng, 0.1) && n < 50) {
			desc_set(&flat[n++], NVME_SGL_BIT_BUCKET, rng_next(rng), read ? part : 99);
			if (!read)
				continue; /* counts as nothing */
			layout_add(l, NULL, part);
		} else {
			mem += rng_below(rng, 3) ? rng_below(rng, 5000) : 0;
			desc_set(&flat[n++], NVME_SGL_DATA, RIG_BASE + mem, part);
			layout_add(l, r->mem + mem, part);
			mem += part;
		}
		done += part;
		if (rng_chance(rng, 0.1) && n < 50)
			desc_set(&flat[n++], NVME_SGL_DATA, rng_next(rng), 0);
		if (n >= 29) {
			desc_set(&flat[n], NVME_SGL_DATA, RIG_BASE + mem, len - done);
			layout_add(l, r->mem + mem, len - done);
			n++;
			break;
		}
	}
	if (n == 1 && rng_chance(rng, 0.7)) {
		cmd->sgl = flat[0];
		return;
	}
	while (at < n) {
		uint32_t part = (uint32_t)(1 + rng_below(rng, n - at));
		bool last = at + part == n;

		memcpy(seg, &flat[at], part * sizeof(*seg));
		desc_set(link, last ? NVME_SGL_LAST_SEGMENT : NVME_SGL_SEGMENT, rig_addr(r, seg),
		         (part + !last) * sizeof(*seg));
		link = &seg[part];
		seg += part + 1 + rng_below(rng, 5);
		at += part;
	}
}

/* A read into memory of 0xee: the device's bytes in the layout, nothing anywhere else. */
static void read_check(struct rig *r, struct nvme_cmd *cmd, const struct layout *l, uint64_t off)
{
	uint8_t *area = r->mem + DATA_AT;

	memset(area, 0xee, RIG_BYTES - DATA_AT);
	assert_int_equal(rig_exec(r, &r->io, cmd, NULL), 0);
	for (uint32_t i = 0; i < l->count; i++) {
		for (uint32_t k = 0; l->piece[i].mem && k < l->piece[i].len; k++) {
			if (l->piece[i].mem[k] != pattern(off + k))
				fail_msg("piece %u, byte %u", i, k);
		}
		if (l->piece[i].mem)
			memset(l->piece[i].mem, 0xee, l->piece[i].len);
		off += l->piece[i].len;
	}
	for (uint64_t i = 0; i < RIG_BYTES - DATA_AT; i++) {
		if (area[i] != 0xee)
			fail_msg("byte %llu of the data area was touched", (unsigned long long)i);
	}
}

/* A write of what the layout holds, read back from the device. */
static void write_check(struct rig *r, struct nvme_cmd *cmd, const struct layout *l, uint64_t off,
                        uint32_t len, uint8_t salt)
{
	uint8_t *back = mem_alloc(len);
	uint64_t at = off;

	assert_non_null(back);
	for (uint32_t i = 0; i < l->count; i++) {
		for (uint32_t k = 0; k < l->piece[i].len; k++)
			l->piece[i].mem[k] = (uint8_t)(pattern(at++) ^ salt);
	}
	assert_int_equal(rig_exec(r, &r->io, cmd, NULL), 0);
	assert_int_equal(bdev_read_sync(r->bdev[0], off, back, len), 0);
	for (uint32_t k = 0; k < len; k++) {
		assert_int_equal(back[k], (uint8_t)(pattern(off + k) ^ salt));
		back[k] ^= salt;
	}
	assert_int_equal(bdev_write_sync(r->bdev[0], off, back, len, 0), 0);
	mem_free(back);
}

static void test_prp_any(void **state)
{
	static struct layout l;
	struct rng rng;

	rng_seed(&rng, 11);
	for (unsigned mps = 0; mps <= 4; mps++) {
		struct rig *r = rig_pages(mps);
		uint32_t page = 4096u << mps;

		for (unsigned i = 0; i < 60; i++) {
			uint32_t blocks = (uint32_t)(1 + rng_below(&rng, DATA_MAX / 512));
			uint32_t off = (uint32_t)rng_below(&rng, page / 4) * 4;
			uint64_t lba = rng_below(&rng, DEV_BYTES / 512 - blocks + 1);
			struct nvme_cmd cmd;

			if (i % 4 == 0)
				blocks = (uint32_t)(1 + rng_below(&rng, 16));
			if (i % 7 == 0)
				blocks = DATA_MAX / 512;
			lba = MIN(lba, DEV_BYTES / 512 - blocks);
			if (i % 5 == 0)
				off = i % 10 ? 0 : page - 4;
			cmd = rig_rw(NVME_IO_READ, 1, lba, blocks, 0, 0);
			prp_build(r, &rng, &cmd, page, off, blocks * 512, &l);
			read_check(r, &cmd, &l, lba * 512);
			cmd.opc = NVME_IO_WRITE;
			write_check(r, &cmd, &l, lba * 512, blocks * 512, (uint8_t)i);
		}
		rig_free(r);
	}
}

static void test_sgl_any(void **state)
{
	static struct layout l;
	struct rig *r = rig_pages(0);
	struct rng rng;

	rng_seed(&rng, 12);
	for (unsigned i = 0; i < 400; i++) {
		uint32_t blocks = (uint32_t)(1 + rng_below(&rng, i % 2 ? 8 : DATA_MAX / 512));
		uint64_t lba = rng_below(&rng, DEV_BYTES / 512 - blocks + 1);
		struct nvme_cmd cmd = rig_rw(NVME_IO_READ, 1, lba, blocks, 0, 0);

		sgl_build(r, &rng, &cmd, blocks * 512, true, &l);
		read_check(r, &cmd, &l, lba * 512);
		cmd.opc = NVME_IO_WRITE;
		sgl_build(r, &rng, &cmd, blocks * 512, false, &l);
		write_check(r, &cmd, &l, lba * 512, blocks * 512, (uint8_t)i);
	}
	rig_free(r);
}

/* --- what is malformed --- */

static uint16_t io(struct rig *r, struct nvme_cmd cmd)
{
	return rig_exec(r, &r->io, &cmd, NULL);
}

static void test_prp_errors(void **state)
{
	struct rig *r = rig_pages(0);
	le64 *list = (void *)(r->mem + LISTS_AT);
	uint64_t base = RIG_BASE + DATA_AT, lists = RIG_BASE + LISTS_AT;
	uint16_t offset = DNR(NVME_SC_PRP_OFFSET), transfer = DNR(NVME_SC_DATA_TRANSFER);

	for (unsigned i = 0; i < 1024; i++)
		list[i] = le64_make(base + 4096ull * (i % 512));
	assert_int_equal(io(r, rig_rw(NVME_IO_READ, 1, 0, 1, base + 1, 0)), offset);
	assert_int_equal(io(r, rig_rw(NVME_IO_READ, 1, 0, 1, base + 2, 0)), offset);
	assert_int_equal(io(r, rig_rw(NVME_IO_READ, 1, 0, 1, base + 4, 0)), 0);
	assert_int_equal(io(r, rig_rw(NVME_IO_READ, 1, 0, 16, base, base + 8)), offset);
	assert_int_equal(io(r, rig_rw(NVME_IO_READ, 1, 0, 24, base, lists + 4)), offset);
	assert_int_equal(io(r, rig_rw(NVME_IO_READ, 1, 0, 24, base, lists)), 0);
	/* Memory that was not given: data, list, data named by a list, the next list. */
	assert_int_equal(io(r, rig_rw(NVME_IO_READ, 1, 0, 1, 4096, 0)), transfer);
	assert_int_equal(io(r, rig_rw(NVME_IO_READ, 1, 0, 1, ~0ull & ~3ull, 0)), transfer);
	assert_int_equal(io(r, rig_rw(NVME_IO_READ, 1, 0, 1, RIG_BASE + RIG_BYTES - 4, 0)),
	                 transfer);
	assert_int_equal(io(r, rig_rw(NVME_IO_READ, 1, 0, 16, base, 4096)), transfer);
	assert_int_equal(io(r, rig_rw(NVME_IO_READ, 1, 0, 24, base, 4096)), transfer);
	list[1] = le64_make(4096);
	assert_int_equal(io(r, rig_rw(NVME_IO_READ, 1, 0, 24, base, lists)), transfer);
	list[1] = le64_make(base + 4096 + 512);
	assert_int_equal(io(r, rig_rw(NVME_IO_READ, 1, 0, 24, base, lists)), offset);
	list[511] = le64_make(4096);
	assert_int_equal(io(r, rig_rw(NVME_IO_READ, 1, 0, 24, base, lists + 4088)), transfer);
	list[511] = le64_make(lists + 4096 + 8);
	assert_int_equal(io(r, rig_rw(NVME_IO_READ, 1, 0, 24, base, lists + 4088)), offset);
	list[511] = le64_make(lists + 4096);
	assert_int_equal(io(r, rig_rw(NVME_IO_READ, 1, 0, 24, base, lists + 4088)), 0);
	rig_free(r);
}

static struct nvme_cmd sgl_read(const struct nvme_sgl_desc *d)
{
	struct nvme_cmd cmd = rig_rw(NVME_IO_READ, 1, 0, 2, 0, 0);

	cmd.flags = NVME_CMD_PSDT_SGL;
	cmd.sgl = *d;
	return cmd;
}

static void test_sgl_errors(void **state)
{
	struct rig *r = rig_pages(0);
	struct nvme_sgl_desc *seg = (void *)(r->mem + LISTS_AT), d;
	uint64_t base = RIG_BASE + DATA_AT, lists = RIG_BASE + LISTS_AT;
	uint16_t length = DNR(NVME_SC_SGL_DATA_LENGTH), segment = DNR(NVME_SC_SGL_SEGMENT);
	struct nvme_cmd cmd;

	/* The command's own descriptor. */
	desc_set(&d, NVME_SGL_DATA, base, 1024);
	assert_int_equal(io(r, sgl_read(&d)), 0);
	cmd = sgl_read(&d);
	cmd.flags = NVME_CMD_PSDT_MASK;
	assert_int_equal(io(r, cmd), DNR(NVME_SC_INVALID_FIELD));
	desc_set(&d, NVME_SGL_DATA, base, 1023);
	assert_int_equal(io(r, sgl_read(&d)), length);
	desc_set(&d, NVME_SGL_DATA, base, 1025);
	assert_int_equal(io(r, sgl_read(&d)), length);
	desc_set(&d, NVME_SGL_DATA, 4096, 1024);
	assert_int_equal(io(r, sgl_read(&d)), DNR(NVME_SC_DATA_TRANSFER));
	desc_set(&d, NVME_SGL_BIT_BUCKET, 0, 1024);
	assert_int_equal(io(r, sgl_read(&d)), 0);
	for (unsigned type = NVME_SGL_KEYED; type < 16; type++) {
		desc_set(&d, type, base, 1024);
		assert_int_equal(io(r, sgl_read(&d)), DNR(NVME_SC_SGL_TYPE));
	}
	desc_set(&d, NVME_SGL_DATA, base, 1024);
	d.type |= NVME_SGL_OFFSET;
	assert_int_equal(io(r, sgl_read(&d)), DNR(NVME_SC_SGL_TYPE));
	/* Segments. */
	desc_set(&d, NVME_SGL_LAST_SEGMENT, lists, 0);
	assert_int_equal(io(r, sgl_read(&d)), segment);
	desc_set(&d, NVME_SGL_LAST_SEGMENT, lists, 24);
	assert_int_equal(io(r, sgl_read(&d)), segment);
	desc_set(&d, NVME_SGL_LAST_SEGMENT, 4096, 16);
	assert_int_equal(io(r, sgl_read(&d)), DNR(NVME_SC_DATA_TRANSFER));
	desc_set(&seg[0], NVME_SGL_DATA, base, 512);
	desc_set(&seg[1], NVME_SGL_DATA, base + 512, 512);
	desc_set(&d, NVME_SGL_LAST_SEGMENT, lists, 32);
	assert_int_equal(io(r, sgl_read(&d)), 0);
	desc_set(&d, NVME_SGL_SEGMENT, lists, 32); /* and no other one follows */
	assert_int_equal(io(r, sgl_read(&d)), segment);
	desc_set(&seg[1], NVME_SGL_LAST_SEGMENT, lists + 64, 16);
	desc_set(&seg[4], NVME_SGL_DATA, base + 512, 512);
	assert_int_equal(io(r, sgl_read(&d)), 0);
	desc_set(&d, NVME_SGL_LAST_SEGMENT, lists, 32); /* one follows the last */
	assert_int_equal(io(r, sgl_read(&d)), segment);
	desc_set(&d, NVME_SGL_SEGMENT, lists,
	         48); /* a segment's descriptor that is not at its end */
	assert_int_equal(io(r, sgl_read(&d)), DNR(NVME_SC_SGL_COUNT));
	/* For ever round. */
	desc_set(&seg[0], NVME_SGL_DATA, base, 0);
	desc_set(&seg[1], NVME_SGL_SEGMENT, lists, 32);
	desc_set(&d, NVME_SGL_SEGMENT, lists, 32);
	assert_int_equal(io(r, sgl_read(&d)), DNR(NVME_SC_SGL_COUNT));
	/* More pieces than it has places for. */
	for (unsigned i = 0; i < 64; i++)
		desc_set(&seg[i], NVME_SGL_DATA, base + i * 64ull, 16);
	desc_set(&d, NVME_SGL_LAST_SEGMENT, lists, 64 * 16);
	assert_int_equal(io(r, sgl_read(&d)), DNR(NVME_SC_SGL_COUNT));
	rig_free(r);
}

/* Ranges of the host that touch here only by address: pieces may cross them page by page. */
static void test_sgl_over_ranges(void **state)
{
	struct rig *r = rig_pages(0);
	struct nvme_sgl_desc d;

	assert_int_equal(nvme_dma_map_add(&r->map, 0x10000, r->mem + DATA_AT, 4096), 0);
	assert_int_equal(nvme_dma_map_add(&r->map, 0x11000, r->mem + DATA_AT + 65536, 4096), 0);
	desc_set(&d, NVME_SGL_DATA, 0x11000 - 100, 1024);
	assert_int_equal(io(r, sgl_read(&d)), 0);
	for (unsigned i = 0; i < 1024; i++)
		assert_int_equal(r->mem[DATA_AT + (i < 100 ? 4096 - 100 + i : 65536 + i - 100)],
		                 pattern(i));
	desc_set(&d, NVME_SGL_DATA, 0x12000 - 1023, 1024);
	assert_int_equal(io(r, sgl_read(&d)), DNR(NVME_SC_DATA_TRANSFER));
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_prp_any),         cmocka_unit_test(test_sgl_any),
	        cmocka_unit_test(test_prp_errors),      cmocka_unit_test(test_sgl_errors),
	        cmocka_unit_test(test_sgl_over_ranges),
	};

	return rig_run_group(tests, ARRAY_LEN(tests));
}
