/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nvme_ctrlr - a bare host in front of the controller model on a null device, for counting
 * instructions (bench/nvme-ctrlr-instr) and for the rate that the model alone would reach:
 *
 *     nvme_ctrlr [--ops N] [--depth N] [--bytes N] [--write]
 *
 * Host, controller and device share one thread. The window that is measured is nc_window().
 */
#include <getopt.h>
#include <stdio.h>

#include "nvme/ctrlr.h"
#include "nvme/dma.h"

#define MEM_BYTES (64 * MIB)
#define MEM_ADDR  0x100000000ull
#define ENTRIES   1024u

struct queue {
	struct nvme_cmd *sq;
	struct nvme_cqe *cq;
	le32 *sq_db, *cq_db;
	uint32_t tail, head;
	uint16_t phase;
};

static struct {
	struct loop *loop;
	struct bdev *bdev;
	struct nvme_subsys *subsys;
	struct nvme_ctrlr *ctrlr;
	struct nvme_dma_map map;
	struct nvme_dma_window window;
	uint8_t *mem, *bar;
	struct queue admin, io;
	unsigned long ops, depth, bytes;
	uint8_t opc;
} b = {.ops = 1000000, .depth = 32, .bytes = 512, .opc = NVME_IO_READ};

static void queue_init(struct queue *q, unsigned qid, unsigned page)
{
	le32 *db = (le32 *)(void *)(b.bar + NVME_REG_DOORBELL);

	*q = (struct queue){.phase = 1, .sq_db = db + 2 * qid, .cq_db = db + 2 * qid + 1};
	q->sq = (void *)(b.mem + page * 65536ull);
	q->cq = (void *)(b.mem + (page + 1) * 65536ull);
}

static void put(struct queue *q, const struct nvme_cmd *cmd)
{
	q->sq[q->tail] = *cmd;
	q->tail = (q->tail + 1) % ENTRIES;
}

static void ring(le32 *db, uint32_t v)
{
	__atomic_store_n(db, le32_make(v), __ATOMIC_RELEASE);
}

/* Consumes what is there; returns how many. */
static unsigned reap(struct queue *q)
{
	unsigned n = 0;

	for (;;) {
		uint16_t st = le16_get(__atomic_load_n(&q->cq[q->head].status, __ATOMIC_ACQUIRE));

		if ((st & 1) != q->phase)
			break;
		if (st >> 1) {
			fprintf(stderr, "nvme_ctrlr: status %#x\n", st >> 1);
			exit(1);
		}
		n++;
		if (++q->head == ENTRIES) {
			q->head = 0;
			q->phase ^= 1;
		}
	}
	if (n)
		ring(q->cq_db, q->head);
	return n;
}

static void admin(struct nvme_cmd cmd)
{
	put(&b.admin, &cmd);
	ring(b.admin.sq_db, b.admin.tail);
	while (!reap(&b.admin)) {
		nvme_ctrlr_poll(b.ctrlr);
		loop_turn(b.loop, 0);
	}
}

/* Contiguous memory, as one PRP, two, or a list. */
static struct nvme_cmd command(uint64_t slot)
{
	uint64_t data = MEM_ADDR + 16 * MIB + slot * ALIGN_UP(b.bytes, 4096ul);
	uint8_t *list = b.mem + MIB + slot * 4096;
	struct nvme_cmd cmd = {.opc = b.opc,
	                       .nsid = le32_make(1),
	                       .cid = le16_make((uint16_t)slot),
	                       .prp1 = le64_make(data),
	                       .cdw10 = le32_make((uint32_t)slot),
	                       .cdw12 = le32_make((uint32_t)(b.bytes / 512 - 1))};

	if (b.bytes > 8192) {
		for (uint64_t i = 1; i < b.bytes / 4096; i++)
			((le64 *)(void *)list)[i - 1] = le64_make(data + i * 4096);
		cmd.prp2 = le64_make(MEM_ADDR + MIB + slot * 4096);
	} else if (b.bytes > 4096) {
		cmd.prp2 = le64_make(data + 4096);
	}
	return cmd;
}

/* @ops commands in batches of @depth, all of them completed. */
__attribute__((noinline)) void nc_window(unsigned long ops);
void nc_window(unsigned long ops)
{
	unsigned long sent = 0, done = 0;

	while (done < ops) {
		for (; sent < ops && sent - done < b.depth; sent++) {
			struct nvme_cmd cmd = command(sent % b.depth);

			put(&b.io, &cmd);
		}
		ring(b.io.sq_db, b.io.tail);
		while (sent > done) {
			nvme_ctrlr_poll(b.ctrlr);
			loop_turn(b.loop, 0);
			done += reap(&b.io);
		}
	}
}

static int start(void)
{
	struct nvme_subsys_opts so = {.nqn = "nqn.2026-01.bench:ctrlr"};
	struct nvme_ns_opts no = {0};
	struct nvme_ctrlr_opts co;
	struct loop_opts lo;
	struct pst_err err = {0};

	loop_opts_default(&lo);
	lo.poll = true;
	nvme_ctrlr_opts_default(&co);
	co.dma = nvme_dma_map_translate;
	co.arg = &b.map;
	co.window = &b.window;
	nvme_dma_map_init(&b.map);
	b.mem = mem_alloc_aligned(65536, MEM_BYTES);
	if (!b.mem || nvme_dma_map_add(&b.map, MEM_ADDR, b.mem, MEM_BYTES) ||
	    loop_new(&b.loop, &lo, &err) || bdev_open(&b.bdev, "null:1t", b.loop, NULL, &err) ||
	    nvme_subsys_new(&b.subsys, b.loop, &so, &err) ||
	    nvme_subsys_ns_add(b.subsys, b.bdev, &no, NULL, &err) ||
	    nvme_ctrlr_new(&b.ctrlr, b.subsys, &co, &err)) {
		fprintf(stderr, "nvme_ctrlr: %s\n", err.text);
		return 1;
	}
	nvme_dma_window_open(&b.window, MEM_ADDR, b.mem, MEM_BYTES);
	b.bar = nvme_ctrlr_bar(b.ctrlr);
	queue_init(&b.admin, 0, 0);
	queue_init(&b.io, 1, 2);
	nvme_ctrlr_reg_write(b.ctrlr, NVME_REG_AQA, 4, NVME_AQA_MAKE(ENTRIES - 1, ENTRIES - 1));
	nvme_ctrlr_reg_write(b.ctrlr, NVME_REG_ASQ, 8, MEM_ADDR);
	nvme_ctrlr_reg_write(b.ctrlr, NVME_REG_ACQ, 8, MEM_ADDR + 65536);
	nvme_ctrlr_reg_write(b.ctrlr, NVME_REG_CC, 4, NVME_CC_MAKE(0, 0, 0, 0, 6, 4) | NVME_CC_EN);
	admin((struct nvme_cmd){.opc = NVME_ADMIN_CREATE_CQ,
	                        .prp1 = le64_make(MEM_ADDR + 3 * 65536),
	                        .cdw10 = le32_make((ENTRIES - 1) << 16 | 1),
	                        .cdw11 = le32_make(NVME_CREATE_PC)});
	admin((struct nvme_cmd){.opc = NVME_ADMIN_CREATE_SQ,
	                        .prp1 = le64_make(MEM_ADDR + 2 * 65536),
	                        .cdw10 = le32_make((ENTRIES - 1) << 16 | 1),
	                        .cdw11 = le32_make(1 << 16 | NVME_CREATE_PC)});
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"ops", 1, NULL, 'o'},
	                                        {"depth", 1, NULL, 'd'},
	                                        {"bytes", 1, NULL, 'b'},
	                                        {"write", 0, NULL, 'w'},
	                                        {NULL, 0, NULL, 0}};
	uint64_t begin, ns;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		unsigned long v = optarg ? strtoul(optarg, NULL, 0) : 0;

		if (c == 'o')
			b.ops = v;
		else if (c == 'd')
			b.depth = v;
		else if (c == 'b')
			b.bytes = v;
		else if (c == 'w')
			b.opc = NVME_IO_WRITE;
		else
			return 2;
	}
	if (!b.ops || !b.depth || b.depth > 256 || !b.bytes || b.bytes % 512 || b.bytes > 131072) {
		fprintf(stderr, "nvme_ctrlr: depth 1 to 256, bytes 512 to 131072, in blocks\n");
		return 2;
	}
	if (start())
		return 1;
	begin = clock_mono_ns();
	nc_window(b.ops);
	ns = clock_mono_ns() - begin;
	printf("{\"ops\": %lu, \"depth\": %lu, \"bytes\": %lu, \"ns_per_op\": %.1f}\n", b.ops,
	       b.depth, b.bytes, (double)ns / (double)b.ops);
	nvme_ctrlr_free(b.ctrlr);
	nvme_subsys_free(b.subsys);
	bdev_close(b.bdev);
	loop_free(b.loop);
	mem_free(b.mem);
	return 0;
}
