/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_nvme_ctrlr - a hostile host before the controller model: admin and I/O commands, PRP lists,
 * SGLs, doorbells and registers. The host's memory is one allocation, so that AddressSanitizer sees
 * a byte read or written beyond it.
 *
 * The input is a list of steps, a byte each (modulo 8) and what it takes:
 *   0, 1  64 bytes: a command into the admin queue (0) or I/O queue 1, and ring
 *   2     offset / 8 (2 bytes), length / 8 (1), bytes: into the host's memory
 *   3     doorbell (1 byte), value (2)
 *   4     register / 4 (1 byte), value (4)
 *   5     n (1 byte): n % 16 polls, time passes
 *   6     ANA group, state
 *   7     queue: completions there are consumed
 */
#include "nvme/ctrlr.h"
#include "nvme/dma.h"

#include "fuzz.h"

#define MEM_BYTES (128 * KIB)
#define MEM_ADDR  0x100000ull
#define ENTRIES   16u
#define PAGE      4096u

struct host {
	struct loop *loop;
	struct bdev *bdev[2];
	struct nvme_subsys *subsys;
	struct nvme_ctrlr *ctrlr;
	struct nvme_dma_map map;
	struct nvme_dma_window window;
	uint8_t *mem, *bar;
	uint16_t tail[2], head[2];
};

static void turns(struct host *h, unsigned n)
{
	while (n--) {
		nvme_ctrlr_poll(h->ctrlr);
		loop_turn(h->loop, NSEC_PER_MSEC);
	}
}

static void doorbell(struct host *h, unsigned index, uint32_t v)
{
	le32 *db = (le32 *)(void *)(h->bar + NVME_REG_DOORBELL);

	db[index] = le32_make(v);
}

static void command(struct host *h, unsigned q, const uint8_t *bytes)
{
	memcpy(h->mem + (q ? 2 : 0) * PAGE + h->tail[q] * 64u, bytes, 64);
	h->tail[q] = (h->tail[q] + 1) % ENTRIES;
	doorbell(h, q * 2, h->tail[q]);
	turns(h, 2);
}

static void queue_create(struct host *h, uint8_t opc, unsigned page)
{
	struct nvme_cmd c = {.opc = opc,
	                     .prp1 = le64_make(MEM_ADDR + page * PAGE),
	                     .cdw10 = le32_make((ENTRIES - 1) << 16 | 1),
	                     .cdw11 = le32_make(1 << 16 | NVME_CREATE_PC)};

	command(h, 0, (const uint8_t *)&c);
	h->head[0]++;
	doorbell(h, 1, h->head[0]);
}

static void enable(struct host *h)
{
	h->tail[0] = h->tail[1] = h->head[0] = h->head[1] = 0;
	nvme_ctrlr_reg_write(h->ctrlr, NVME_REG_CC, 4, 0);
	turns(h, 20);
	nvme_ctrlr_reg_write(h->ctrlr, NVME_REG_AQA, 4, NVME_AQA_MAKE(ENTRIES - 1, ENTRIES - 1));
	nvme_ctrlr_reg_write(h->ctrlr, NVME_REG_ASQ, 8, MEM_ADDR);
	nvme_ctrlr_reg_write(h->ctrlr, NVME_REG_ACQ, 8, MEM_ADDR + PAGE);
	nvme_ctrlr_reg_write(h->ctrlr, NVME_REG_CC, 4, NVME_CC_EN | 6 << 16 | 4 << 20);
	queue_create(h, NVME_ADMIN_CREATE_CQ, 3);
	queue_create(h, NVME_ADMIN_CREATE_SQ, 2);
}

static void host_new(struct host *h)
{
	struct nvme_subsys_opts so = {.nqn = "nqn.fuzz"};
	struct nvme_ctrlr_opts co;
	struct nvme_ns_opts no = {0};
	struct loop_opts lo;

	memset(h, 0, sizeof(*h));
	loop_opts_default(&lo);
	lo.sim = true;
	nvme_ctrlr_opts_default(&co);
	co.queues_max = 3;
	co.vectors = 4;
	co.entries_max = 64;
	co.depth_max = 8;
	co.mdts = 3;
	co.dma = nvme_dma_map_translate;
	co.arg = &h->map;
	co.window = &h->window;
	h->mem = mem_alloc_aligned(PAGE, MEM_BYTES);
	nvme_dma_map_init(&h->map);
	pst_assert(h->mem && !nvme_dma_map_add(&h->map, MEM_ADDR, h->mem, MEM_BYTES));
	/* Part of it, so that there are commands within, without and across. */
	nvme_dma_window_open(&h->window, MEM_ADDR, h->mem, MEM_BYTES - 2 * PAGE);
	pst_assert(!loop_new(&h->loop, &lo, NULL));
	pst_assert(!bdev_open(&h->bdev[0], "mem:64k?block=512", h->loop, NULL, NULL));
	pst_assert(!bdev_open(&h->bdev[1], "fault:mem:64k?cache=1&delay_us=500&read_error=0.1",
	                      h->loop, NULL, NULL));
	pst_assert(!nvme_subsys_new(&h->subsys, h->loop, &so, NULL));
	pst_assert(!nvme_subsys_ns_add(h->subsys, h->bdev[0], &no, NULL, NULL));
	pst_assert(!nvme_subsys_ns_add(h->subsys, h->bdev[1], &no, NULL, NULL));
	pst_assert(!nvme_ctrlr_new(&h->ctrlr, h->subsys, &co, NULL));
	h->bar = nvme_ctrlr_bar(h->ctrlr);
	enable(h);
}

static void host_free(struct host *h)
{
	nvme_ctrlr_free(h->ctrlr);
	nvme_subsys_free(h->subsys);
	bdev_close(h->bdev[0]);
	bdev_close(h->bdev[1]);
	loop_free(h->loop);
	mem_free(h->mem);
}

/* Up to what was posted: the entries whose phase is not that of what was there before. */
static void consume(struct host *h, unsigned q)
{
	const struct nvme_cqe *cq = (const void *)(h->mem + (q ? 3 : 1) * PAGE);
	uint16_t phase = !(le16_get(cq[h->head[q]].status) & 1);

	for (unsigned i = 0; i < ENTRIES - 1; i++) {
		if ((le16_get(cq[h->head[q]].status) & 1) == phase)
			break;
		h->head[q] = (h->head[q] + 1) % ENTRIES;
	}
	doorbell(h, q * 2 + 1, h->head[q]);
}

static void memory_write(struct host *h, struct input *in)
{
	uint8_t where[3];
	uint64_t off, len;

	if (!take(in, where, 3))
		return;
	off = (where[0] | (uint64_t)where[1] << 8) * 8 % MEM_BYTES;
	len = MIN(MIN(where[2] * 8ull, MEM_BYTES - off), in->len);
	take(in, h->mem + off, len);
}

static void step(struct host *h, struct input *in)
{
	uint8_t op, b[64];

	take(in, &op, 1);
	switch (op % 8) {
	case 0:
	case 1:
		if (take(in, b, 64))
			command(h, op % 8, b);
		break;
	case 2:
		memory_write(h, in);
		break;
	case 3:
		if (take(in, b, 3))
			doorbell(h, b[0] % 8, b[1] | (uint32_t)b[2] << 8);
		break;
	case 4:
		if (take(in, b, 5))
			nvme_ctrlr_reg_write(h->ctrlr, b[0] * 4u, 4,
			                     b[1] | b[2] << 8 | b[3] << 16 | (uint32_t)b[4] << 24);
		break;
	case 5:
		take(in, b, 1);
		turns(h, b[0] % 16);
		break;
	case 6:
		take(in, b, 2);
		nvme_ctrlr_ana_set(h->ctrlr, b[0], b[1]);
		break;
	default:
		take(in, b, 1);
		consume(h, b[0] % 2);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct nvme_ctrlr_stats st;
	static struct host h;

	host_new(&h);
	while (in.len)
		step(&h, &in);
	turns(&h, 20);
	/* Whatever was done, a reset brings it back. */
	enable(&h);
	nvme_ctrlr_stats(h.ctrlr, &st);
	pst_assert(st.in_work == 0);
	pst_assert(nvme_ctrlr_reg_read(h.ctrlr, NVME_REG_CSTS, 4) == NVME_CSTS_RDY);
	host_free(&h);
	return 0;
}
