/* SPDX-License-Identifier: BSD-3-Clause */
/* The bare host of nvme_util.h. */
#include "nvme_util.h"

static bool no_window;

static int setup_long_way(void **state)
{
	no_window = true;
	return 0;
}

int rig_run_group(const struct CMUnitTest *tests, size_t count)
{
	struct CMUnitTest all[2 * RIG_TESTS_MAX];

	pst_assert(count <= RIG_TESTS_MAX);
	for (size_t i = 0; i < count; i++) {
		all[i] = all[count + i] = tests[i];
		all[count + i].setup_func = setup_long_way;
	}
	return _cmocka_run_group_tests("window, then none", all, 2 * count, NULL, NULL);
}

static void count_irq(void *arg, unsigned vector)
{
	struct rig *r = container_of((struct nvme_dma_map *)arg, struct rig, map);

	assert_true(vector < ARRAY_LEN(r->irqs));
	r->irqs[vector]++;
}

static void small_opts(struct nvme_ctrlr_opts *o)
{
	nvme_ctrlr_opts_default(o);
	o->queues_max = 4;
	o->entries_max = 64;
	o->vectors = 5;
	o->depth_max = 32;
}

struct rig *rig_new(const char *const *specs, const struct nvme_ctrlr_opts *opts)
{
	struct rig *r = mem_calloc(1, sizeof(*r));
	struct nvme_subsys_opts so = {.nqn = "nqn.2026-01.test:rig", .serial = "S1"};
	struct loop_opts lo;
	struct pst_err err = {0};

	assert_non_null(r);
	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = NSEC_PER_SEC;
	assert_int_equal(loop_new(&r->loop, &lo, &err), 0);
	assert_int_equal(nvme_subsys_new(&r->subsys, r->loop, &so, &err), 0);
	for (; *specs; specs++) {
		struct nvme_ns_opts no = {0};

		assert_int_equal(bdev_open(&r->bdev[r->bdevs], *specs, r->loop, NULL, &err), 0);
		assert_int_equal(nvme_subsys_ns_add(r->subsys, r->bdev[r->bdevs], &no, NULL, &err),
		                 0);
		r->bdevs++;
	}
	nvme_dma_map_init(&r->map);
	r->mem = mem_alloc_aligned(65536, RIG_BYTES);
	assert_non_null(r->mem);
	r->alloc_at = r->mem;
	assert_int_equal(nvme_dma_map_add(&r->map, RIG_BASE, r->mem, RIG_BYTES), 0);
	if (opts)
		r->opts = *opts;
	else
		small_opts(&r->opts);
	r->opts.dma = nvme_dma_map_translate;
	if (!no_window)
		nvme_dma_window_open(&r->window, RIG_BASE, r->mem, RIG_BYTES);
	r->opts.window = &r->window;
	r->opts.irq = count_irq;
	r->opts.arg = &r->map;
	assert_int_equal(nvme_ctrlr_new(&r->ctrlr, r->subsys, &r->opts, &err), 0);
	r->bar = nvme_ctrlr_bar(r->ctrlr);
	return r;
}

void rig_free(struct rig *r)
{
	nvme_ctrlr_free(r->ctrlr);
	nvme_subsys_free(r->subsys);
	for (unsigned i = 0; i < r->bdevs; i++)
		bdev_close(r->bdev[i]);
	loop_free(r->loop);
	mem_free(r->mem);
	mem_free(r);
}

struct rig *rig_ready(void)
{
	static const char *const specs[] = {"mem:1m?block=512", NULL};
	struct rig *r = rig_new(specs, NULL);

	rig_enable(r, 0);
	rig_io_queue(r, &r->io, 1, RIG_ENTRIES);
	return r;
}

/* One poll and one turn, in which time may pass. */
static void step(struct rig *r, uint64_t ns)
{
	nvme_ctrlr_poll(r->ctrlr);
	loop_turn(r->loop, ns);
}

/* --- memory and registers --- */

void *rig_mem(struct rig *r, size_t len, size_t align)
{
	uintptr_t at = ALIGN_UP((uintptr_t)r->alloc_at, align);

	assert_true(at + len <= (uintptr_t)r->mem + RIG_BYTES);
	r->alloc_at = (uint8_t *)at + len;
	memset((void *)at, 0, len);
	return (void *)at;
}

uint64_t rig_addr(const struct rig *r, const void *p)
{
	return RIG_BASE + (uint64_t)((const uint8_t *)p - r->mem);
}

uint32_t rig_reg(struct rig *r, uint32_t off)
{
	return le32_get(*(volatile le32 *)(void *)(r->bar + off));
}

static void reg_set(struct rig *r, uint32_t off, uint32_t v)
{
	*(volatile le32 *)(void *)(r->bar + off) = le32_make(v);
}

static void reg_set64(struct rig *r, uint32_t off, uint64_t v)
{
	reg_set(r, off, (uint32_t)v);
	reg_set(r, off + 4, (uint32_t)(v >> 32));
}

static void queue_init(struct rig *r, struct rig_queue *q, uint16_t qid, uint32_t entries)
{
	uint8_t *db = r->bar + NVME_REG_DOORBELL;

	*q = (struct rig_queue){.qid = qid, .cqid = qid, .entries = entries, .phase = 1};
	q->sq = rig_mem(r, entries * sizeof(*q->sq), 65536);
	q->cq = rig_mem(r, entries * sizeof(*q->cq), 65536);
	q->sq_db = (le32 *)(void *)(db + NVME_DB_SQ(qid, r->opts.dstrd));
	q->cq_db = (le32 *)(void *)(db + NVME_DB_CQ(qid, r->opts.dstrd));
}

void rig_enable(struct rig *r, uint32_t cc_more)
{
	queue_init(r, &r->admin, 0, RIG_ENTRIES);
	reg_set(r, NVME_REG_AQA, NVME_AQA_MAKE(RIG_ENTRIES - 1, RIG_ENTRIES - 1));
	reg_set64(r, NVME_REG_ASQ, rig_addr(r, r->admin.sq));
	reg_set64(r, NVME_REG_ACQ, rig_addr(r, r->admin.cq));
	reg_set(r, NVME_REG_CC, NVME_CC_MAKE(0, 0, 0, 0, 6, 4) | NVME_CC_EN | cc_more);
	nvme_ctrlr_poll(r->ctrlr);
}

void rig_disable(struct rig *r)
{
	reg_set(r, NVME_REG_CC, rig_reg(r, NVME_REG_CC) & ~NVME_CC_EN);
	for (unsigned i = 0; i < 100 && (rig_reg(r, NVME_REG_CSTS) & NVME_CSTS_RDY); i++)
		step(r, NSEC_PER_MSEC);
	assert_int_equal(rig_reg(r, NVME_REG_CSTS), 0);
}

void rig_run(struct rig *r, unsigned turns)
{
	while (turns--)
		step(r, 0);
}

void rig_io_queue(struct rig *r, struct rig_queue *q, uint16_t qid, uint32_t entries)
{
	struct nvme_cmd cmd;

	queue_init(r, q, qid, entries);
	cmd = rig_cmd(NVME_ADMIN_CREATE_CQ, 0);
	cmd.prp1 = le64_make(rig_addr(r, q->cq));
	cmd.cdw10 = le32_make((entries - 1) << 16 | qid);
	cmd.cdw11 = le32_make((uint32_t)qid << 16 | NVME_CREATE_CQ_IEN | NVME_CREATE_PC);
	assert_int_equal(rig_exec(r, &r->admin, &cmd, NULL), 0);
	cmd = rig_cmd(NVME_ADMIN_CREATE_SQ, 0);
	cmd.prp1 = le64_make(rig_addr(r, q->sq));
	cmd.cdw10 = le32_make((entries - 1) << 16 | qid);
	cmd.cdw11 = le32_make((uint32_t)qid << 16 | NVME_CREATE_PC);
	assert_int_equal(rig_exec(r, &r->admin, &cmd, NULL), 0);
}

/* --- commands --- */

uint16_t rig_put(struct rig_queue *q, const struct nvme_cmd *cmd)
{
	uint16_t cid = q->next_cid++;

	q->sq[q->tail] = *cmd;
	q->sq[q->tail].cid = le16_make(cid);
	q->tail = (q->tail + 1) % q->entries;
	return cid;
}

void rig_ring(struct rig_queue *q)
{
	__atomic_store_n(q->sq_db, le32_make(q->tail), __ATOMIC_RELEASE);
}

uint16_t rig_submit(struct rig_queue *q, const struct nvme_cmd *cmd)
{
	uint16_t cid = rig_put(q, cmd);

	rig_ring(q);
	return cid;
}

bool rig_reap(struct rig_queue *q, struct nvme_cqe *ret_cqe)
{
	struct nvme_cqe *e = &q->cq[q->head];

	if ((le16_get(__atomic_load_n(&e->status, __ATOMIC_ACQUIRE)) & 1) != q->phase)
		return false;
	*ret_cqe = *e;
	if (++q->head == q->entries) {
		q->head = 0;
		q->phase ^= 1;
	}
	__atomic_store_n(q->cq_db, le32_make(q->head), __ATOMIC_RELEASE);
	return true;
}

struct nvme_cqe rig_wait(struct rig *r, struct rig_queue *q)
{
	struct nvme_cqe cqe = {0};

	for (unsigned i = 0; i < 1000; i++) {
		if (rig_reap(q, &cqe))
			return cqe;
		step(r, NSEC_PER_MSEC);
	}
	fail_msg("queue %u: no completion", q->qid);
	return cqe;
}

uint16_t rig_exec(struct rig *r, struct rig_queue *q, const struct nvme_cmd *cmd, uint32_t *ret_dw0)
{
	uint16_t cid = rig_submit(q, cmd);
	struct nvme_cqe cqe = rig_wait(r, q);

	assert_int_equal(le16_get(cqe.cid), cid);
	assert_int_equal(le16_get(cqe.sqid), q->qid);
	assert_int_equal(le16_get(cqe.sqhd), q->tail);
	if (ret_dw0)
		*ret_dw0 = le32_get(cqe.dw0);
	return rig_status(cqe);
}

struct nvme_cmd rig_cmd(uint8_t opc, uint32_t nsid)
{
	return (struct nvme_cmd){.opc = opc, .nsid = le32_make(nsid)};
}

struct nvme_cmd rig_rw(uint8_t opc, uint32_t nsid, uint64_t lba, uint32_t blocks, uint64_t prp1,
                       uint64_t prp2)
{
	struct nvme_cmd cmd = rig_cmd(opc, nsid);

	cmd.prp1 = le64_make(prp1);
	cmd.prp2 = le64_make(prp2);
	cmd.cdw10 = le32_make((uint32_t)lba);
	cmd.cdw11 = le32_make((uint32_t)(lba >> 32));
	cmd.cdw12 = le32_make(blocks - 1);
	return cmd;
}
