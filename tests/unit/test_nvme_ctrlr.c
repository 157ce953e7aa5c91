/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The controller model: registers and states, queues, doorbells, admin commands and their errors.
 */
#include "nvme_util.h"

static uint16_t admin(struct rig *r, struct nvme_cmd cmd)
{
	return rig_exec(r, &r->admin, &cmd, NULL);
}

/* --- registers and states --- */

static void test_registers(void **state)
{
	static const char *const specs[] = {"mem:1m", NULL};
	struct rig *r = rig_new(specs, NULL);
	uint64_t cap = nvme_ctrlr_reg_read(r->ctrlr, NVME_REG_CAP, 8);

	assert_int_equal(NVME_CAP_MQES(cap), 63);
	assert_int_equal(NVME_CAP_CQR(cap), 1);
	assert_int_equal(NVME_CAP_DSTRD(cap), 0);
	assert_int_equal(NVME_CAP_CSS(cap), NVME_CAP_CSS_NVM | NVME_CAP_CSS_IOCS);
	assert_int_equal(NVME_CAP_MPSMIN(cap), 0);
	assert_int_equal(NVME_CAP_MPSMAX(cap), 4);
	assert_true(NVME_CAP_TO(cap) > 0);
	assert_int_equal(NVME_CAP_CRMS(cap), NVME_CAP_CRMS_WITH_MEDIA);
	assert_int_equal(rig_reg(r, NVME_REG_CRTO), NVME_CAP_TO(cap));
	assert_int_equal(cap, rig_reg(r, 0) | (uint64_t)rig_reg(r, 4) << 32);
	assert_int_equal(rig_reg(r, NVME_REG_VS), 0x20000);
	assert_int_equal(rig_reg(r, NVME_REG_CSTS), 0);
	/* Read-only and absent registers; bad sizes and alignments. */
	nvme_ctrlr_reg_write(r->ctrlr, NVME_REG_CAP, 8, 0);
	nvme_ctrlr_reg_write(r->ctrlr, NVME_REG_CSTS, 4, 0xff);
	assert_int_equal(nvme_ctrlr_reg_read(r->ctrlr, NVME_REG_CAP, 8), cap);
	assert_int_equal(nvme_ctrlr_reg_read(r->ctrlr, NVME_REG_CSTS, 4), 0);
	assert_int_equal(nvme_ctrlr_reg_read(r->ctrlr, NVME_REG_CMBSZ, 4), 0);
	assert_true(nvme_ctrlr_reg_read(r->ctrlr, NVME_REG_VS + 2, 4) == UINT64_MAX);
	assert_true(nvme_ctrlr_reg_read(r->ctrlr, NVME_REG_VS, 2) == UINT64_MAX);
	assert_true(nvme_ctrlr_reg_read(r->ctrlr, 0xfffffffc, 4) == UINT64_MAX);
	nvme_ctrlr_reg_write(r->ctrlr, 0xfffffffc, 4, 1);
	nvme_ctrlr_reg_write(r->ctrlr, NVME_REG_INTMS, 4, 5);
	assert_int_equal(nvme_ctrlr_reg_read(r->ctrlr, NVME_REG_INTMC, 4), 5);
	nvme_ctrlr_reg_write(r->ctrlr, NVME_REG_INTMC, 4, 1);
	assert_int_equal(nvme_ctrlr_reg_read(r->ctrlr, NVME_REG_INTMS, 4), 4);
	rig_free(r);
}

static void test_enable_disable(void **state)
{
	static const char *const specs[] = {"mem:1m", NULL};
	struct rig *r = rig_new(specs, NULL);

	for (unsigned i = 0; i < 3; i++) {
		rig_enable(r, 0);
		assert_int_equal(rig_reg(r, NVME_REG_CSTS), NVME_CSTS_RDY);
		assert_int_equal(admin(r, rig_cmd(NVME_ADMIN_KEEP_ALIVE, 0)), 0);
		rig_disable(r);
	}
	rig_free(r);
}

static void bad_enable(uint32_t cc_more, uint32_t aqa, uint64_t asq_xor)
{
	static const char *const specs[] = {"mem:1m", NULL};
	struct rig *r = rig_new(specs, NULL);
	uint64_t asq = RIG_BASE ^ asq_xor;
	struct nvme_ctrlr *c = r->ctrlr;

	nvme_ctrlr_reg_write(c, NVME_REG_AQA, 4, aqa);
	nvme_ctrlr_reg_write(c, NVME_REG_ASQ, 8, asq);
	nvme_ctrlr_reg_write(c, NVME_REG_ACQ, 8, RIG_BASE + 65536);
	nvme_ctrlr_reg_write(c, NVME_REG_CC, 4, NVME_CC_EN | 6 << 16 | 4 << 20 | cc_more);
	assert_int_equal(rig_reg(r, NVME_REG_CSTS), NVME_CSTS_CFS);
	assert_int_equal(nvme_ctrlr_poll(c), 0);
	/* A reset heals it. */
	nvme_ctrlr_reg_write(c, NVME_REG_CC, 4, 0);
	rig_run(r, 1);
	assert_int_equal(rig_reg(r, NVME_REG_CSTS), 0);
	rig_enable(r, 0);
	assert_int_equal(rig_reg(r, NVME_REG_CSTS), NVME_CSTS_RDY);
	rig_free(r);
}

static void test_bad_enable(void **state)
{
	uint32_t aqa = NVME_AQA_MAKE(15, 15);

	bad_enable(1 << 4, aqa, 0);             /* CSS: reserved */
	bad_enable(5 << 7, aqa, 0);             /* MPS beyond MPSMAX */
	bad_enable(1 << 11, aqa, 0);            /* AMS: weighted round robin */
	bad_enable(0, NVME_AQA_MAKE(0, 15), 0); /* a queue of one entry */
	bad_enable(0, NVME_AQA_MAKE(15, 0), 0);
	bad_enable(0, aqa, 0x800);       /* not aligned to a page */
	bad_enable(0, aqa, 1ull << 40);  /* memory that was not given */
	bad_enable(1 << 7, aqa, 0x1000); /* aligned to 4 KiB, with pages of 8 */
}

static void test_shutdown(void **state)
{
	struct rig *r = rig_ready();
	struct nvme_cmd aer = rig_cmd(NVME_ADMIN_ASYNC_EVENT, 0);
	uint32_t cc = rig_reg(r, NVME_REG_CC);

	rig_submit(&r->admin, &aer); /* must not hold it up */
	rig_run(r, 1);
	nvme_ctrlr_reg_write(r->ctrlr, NVME_REG_CC, 4, cc | NVME_CC_SHN_NORMAL << 14);
	rig_run(r, 10);
	assert_int_equal(NVME_CSTS_SHST(rig_reg(r, NVME_REG_CSTS)), NVME_SHST_DONE);
	/* Takes nothing more. */
	rig_submit(&r->admin, &aer);
	rig_run(r, 5);
	assert_int_equal(r->admin.cq[r->admin.head].status, 0);
	rig_disable(r);
	rig_enable(r, 0);
	assert_int_equal(rig_reg(r, NVME_REG_CSTS), NVME_CSTS_RDY);
	rig_free(r);
}

/* --- queues --- */

static struct nvme_cmd create(struct rig *r, uint8_t opc, uint32_t cdw10, uint32_t cdw11)
{
	struct nvme_cmd cmd = rig_cmd(opc, 0);

	cmd.prp1 = le64_make(RIG_BASE + RIG_BYTES - 65536);
	cmd.cdw10 = le32_make(cdw10);
	cmd.cdw11 = le32_make(cdw11);
	return cmd;
}

static void test_create_errors(void **state)
{
	struct rig *r = rig_ready();
	uint8_t cq = NVME_ADMIN_CREATE_CQ, sq = NVME_ADMIN_CREATE_SQ;
	struct nvme_cmd cmd;

	assert_int_equal(admin(r, create(r, cq, 7 << 16 | 0, 1)), DNR(NVME_SC_QID_INVALID));
	assert_int_equal(admin(r, create(r, cq, 7 << 16 | 5, 1)), DNR(NVME_SC_QID_INVALID));
	assert_int_equal(admin(r, create(r, cq, 7 << 16 | 1, 1)), DNR(NVME_SC_QID_INVALID));
	assert_int_equal(admin(r, create(r, cq, 0 << 16 | 2, 1)), DNR(NVME_SC_QUEUE_SIZE));
	assert_int_equal(admin(r, create(r, cq, 64 << 16 | 2, 1)), DNR(NVME_SC_QUEUE_SIZE));
	assert_int_equal(admin(r, create(r, cq, 7 << 16 | 2, 5 << 16 | 1)),
	                 DNR(NVME_SC_VECTOR_INVALID));
	assert_int_equal(admin(r, create(r, cq, 7 << 16 | 2, 0)), DNR(NVME_SC_INVALID_FIELD));
	cmd = create(r, cq, 7 << 16 | 2, 1);
	cmd.prp1 = le64_make(RIG_BASE + 64);
	assert_int_equal(admin(r, cmd), DNR(NVME_SC_PRP_OFFSET));
	cmd.prp1 = le64_make(RIG_BASE + RIG_BYTES);
	assert_int_equal(admin(r, cmd), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(admin(r, create(r, sq, 7 << 16 | 2, 2 << 16 | 1)),
	                 DNR(NVME_SC_CQ_INVALID));
	assert_int_equal(admin(r, create(r, sq, 7 << 16 | 2, 0 << 16 | 1)),
	                 DNR(NVME_SC_QID_INVALID));
	assert_int_equal(admin(r, create(r, sq, 7 << 16 | 2, 99 << 16 | 1)),
	                 DNR(NVME_SC_QID_INVALID));
	assert_int_equal(admin(r, create(r, sq, 7 << 16 | 1, 1 << 16 | 1)),
	                 DNR(NVME_SC_QID_INVALID));
	assert_int_equal(admin(r, create(r, sq, 7 << 16 | 5, 1 << 16 | 1)),
	                 DNR(NVME_SC_QID_INVALID));
	assert_int_equal(admin(r, create(r, sq, 64 << 16 | 2, 1 << 16 | 1)),
	                 DNR(NVME_SC_QUEUE_SIZE));
	assert_int_equal(admin(r, create(r, sq, 7 << 16 | 2, 1 << 16)), DNR(NVME_SC_INVALID_FIELD));
	/* Deletion: in order only. */
	assert_int_equal(admin(r, create(r, NVME_ADMIN_DELETE_CQ, 0, 0)), DNR(NVME_SC_QID_INVALID));
	assert_int_equal(admin(r, create(r, NVME_ADMIN_DELETE_CQ, 2, 0)), DNR(NVME_SC_QID_INVALID));
	assert_int_equal(admin(r, create(r, NVME_ADMIN_DELETE_CQ, 1, 0)),
	                 DNR(NVME_SC_QUEUE_DELETION));
	assert_int_equal(admin(r, create(r, NVME_ADMIN_DELETE_SQ, 0, 0)), DNR(NVME_SC_QID_INVALID));
	assert_int_equal(admin(r, create(r, NVME_ADMIN_DELETE_SQ, 2, 0)), DNR(NVME_SC_QID_INVALID));
	assert_int_equal(admin(r, create(r, NVME_ADMIN_DELETE_SQ, 1, 0)), 0);
	assert_int_equal(admin(r, create(r, NVME_ADMIN_DELETE_CQ, 1, 0)), 0);
	rig_io_queue(r, &r->io, 1, 8);
	rig_free(r);
}

static void test_entry_sizes(void **state)
{
	static const char *const specs[] = {"mem:1m", NULL};
	struct rig *r = rig_new(specs, NULL);

	rig_enable(r, 1 << 16); /* IOSQES 7 */
	assert_int_equal(admin(r, create(r, NVME_ADMIN_CREATE_CQ, 7 << 16 | 1, 1)), 0);
	assert_int_equal(admin(r, create(r, NVME_ADMIN_CREATE_SQ, 7 << 16 | 1, 1 << 16 | 1)),
	                 DNR(NVME_SC_QUEUE_SIZE));
	rig_free(r);
}

/* More commands than the queue and the request pool hold, over many wraps, completions late. */
static void test_wrap_and_full(void **state)
{
	struct rig *r = rig_ready();
	uint8_t *buf = rig_mem(r, 4096, 4096);
	struct nvme_cmd read = rig_rw(NVME_IO_READ, 1, 0, 1, rig_addr(r, buf), 0);
	struct nvme_cqe cqe;
	unsigned sent = 0, seen = 0;

	while (seen < 1000) {
		for (; sent - seen < RIG_ENTRIES - 1; sent++)
			rig_submit(&r->io, &read);
		rig_run(r, 2);
		assert_true(rig_reap(&r->io, &cqe));
		assert_int_equal(rig_status(cqe), 0);
		assert_int_equal(le16_get(cqe.cid), seen);
		seen++;
	}
	rig_free(r);
}

/* A completion queue smaller than what is submitted: entries wait for room and none is lost. */
static void test_small_cq(void **state)
{
	struct rig *r = rig_ready();
	struct rig_queue q2 = {0};
	uint8_t *buf = rig_mem(r, 4096, 4096);
	struct nvme_cmd read = rig_rw(NVME_IO_READ, 1, 0, 1, rig_addr(r, buf), 0);
	struct nvme_cmd cmd = create(r, NVME_ADMIN_CREATE_CQ, 1 << 16 | 2, NVME_CREATE_PC);
	struct nvme_cqe cqe;

	q2.sq = rig_mem(r, 64 * 64, 4096);
	q2.cq = rig_mem(r, 4096, 4096);
	cmd.prp1 = le64_make(rig_addr(r, q2.cq));
	assert_int_equal(admin(r, cmd), 0);
	cmd = create(r, NVME_ADMIN_CREATE_SQ, 31 << 16 | 2, 2 << 16 | NVME_CREATE_PC);
	cmd.prp1 = le64_make(rig_addr(r, q2.sq));
	assert_int_equal(admin(r, cmd), 0);
	q2.entries = 32;
	q2.phase = 1;
	q2.sq_db = (le32 *)(void *)(r->bar + NVME_REG_DOORBELL + 16);
	q2.cq_db = q2.sq_db + 1;
	for (unsigned i = 0; i < 20; i++)
		rig_submit(&q2, &read);
	rig_run(r, 5);
	q2.entries = 2; /* for the completion queue */
	for (unsigned i = 0; i < 20; i++) {
		assert_true(rig_reap(&q2, &cqe));
		assert_int_equal(le16_get(cqe.cid), i);
		rig_run(r, 1);
	}
	assert_false(rig_reap(&q2, &cqe));
	/* And deletion does not wait for a host that does not look. */
	q2.entries = 32;
	for (unsigned i = 0; i < 5; i++)
		rig_submit(&q2, &read);
	rig_run(r, 5);
	assert_int_equal(admin(r, create(r, NVME_ADMIN_DELETE_SQ, 2, 0)), 0);
	assert_int_equal(admin(r, create(r, NVME_ADMIN_DELETE_CQ, 2, 0)), 0);
	rig_free(r);
}

static uint32_t event_get(struct rig *r)
{
	return le32_get(rig_wait(r, &r->admin).dw0);
}

static void log_read(struct rig *r, uint8_t lid, void *buf, uint32_t len, bool keep)
{
	struct nvme_cmd cmd = rig_cmd(NVME_ADMIN_GET_LOG, 0);

	cmd.prp1 = le64_make(rig_addr(r, buf));
	cmd.cdw10 = le32_make(lid | (keep ? 1u << 15 : 0) | (len / 4 - 1) << 16);
	assert_int_equal(admin(r, cmd), 0);
}

static void test_bad_doorbells(void **state)
{
	struct rig *r = rig_ready();
	struct nvme_cmd aer = rig_cmd(NVME_ADMIN_ASYNC_EVENT, 0);
	uint8_t *buf = rig_mem(r, 4096, 4096);
	struct nvme_ctrlr_stats st;

	rig_submit(&r->admin, &aer);
	rig_run(r, 1);
	*r->io.sq_db = le32_make(RIG_ENTRIES); /* beyond the queue */
	assert_int_equal(event_get(r),
	                 NVME_EVENT_MAKE(NVME_EVENT_ERROR, NVME_ERROR_DB_VALUE, NVME_LOG_ERROR));
	/* Masked until the log is read. */
	rig_submit(&r->admin, &aer);
	*r->io.cq_db = le32_make(3); /* consumed what never was */
	rig_run(r, 3);
	assert_int_equal(r->admin.cq[r->admin.head].status & 1, !r->admin.phase);
	nvme_ctrlr_stats(r->ctrlr, &st);
	assert_int_equal(st.bad_doorbells, 2);
	{
		struct nvme_cmd cmd = rig_cmd(NVME_ADMIN_GET_LOG, 0);

		cmd.prp1 = le64_make(rig_addr(r, buf));
		cmd.cdw10 = le32_make(NVME_LOG_ERROR | 15 << 16);
		rig_submit(&r->admin, &cmd);
	}
	/* The log's completion, and the event that waited; in either order. */
	rig_wait(r, &r->admin);
	rig_wait(r, &r->admin);
	/* A doorbell of no queue, which only a trapped write can show. */
	rig_submit(&r->admin, &aer);
	rig_run(r, 1);
	log_read(r, NVME_LOG_ERROR, buf, 64, false);
	nvme_ctrlr_reg_write(r->ctrlr, NVME_REG_DOORBELL + 8 * 4, 4, 1);
	assert_int_equal(event_get(r),
	                 NVME_EVENT_MAKE(NVME_EVENT_ERROR, NVME_ERROR_DB_REGISTER, NVME_LOG_ERROR));
	/* The queue goes on. */
	*r->io.sq_db = 0;
	*r->io.cq_db = 0;
	{
		struct nvme_cmd read = rig_rw(NVME_IO_READ, 1, 0, 1, rig_addr(r, buf), 0);

		assert_int_equal(rig_exec(r, &r->io, &read, NULL), 0);
	}
	rig_free(r);
}

static void test_interrupts(void **state)
{
	struct rig *r = rig_ready();
	uint8_t *buf = rig_mem(r, 4096, 4096);
	struct nvme_cmd read = rig_rw(NVME_IO_READ, 1, 0, 1, rig_addr(r, buf), 0);
	struct nvme_cqe cqe;
	unsigned before = r->irqs[1];

	for (unsigned i = 0; i < 8; i++)
		rig_submit(&r->io, &read);
	rig_run(r, 3);
	assert_int_equal(r->irqs[1], before + 1); /* one for all */
	while (rig_reap(&r->io, &cqe))
		;
	nvme_ctrlr_reg_write(r->ctrlr, NVME_REG_INTMS, 4, 1 << 1);
	rig_submit(&r->io, &read);
	rig_run(r, 3);
	assert_int_equal(r->irqs[1], before + 1);
	nvme_ctrlr_reg_write(r->ctrlr, NVME_REG_INTMC, 4, 1 << 1);
	rig_run(r, 1);
	assert_int_equal(r->irqs[1], before + 2);
	rig_free(r);
}

static void test_shadow_doorbells(void **state)
{
	struct rig *r = rig_ready();
	uint8_t *shadow = rig_mem(r, 4096, 4096), *idx = rig_mem(r, 4096, 4096);
	uint8_t *buf = rig_mem(r, 4096, 4096);
	struct nvme_cmd cmd = rig_cmd(NVME_ADMIN_DBBUF, 0);
	struct nvme_cmd read = rig_rw(NVME_IO_READ, 1, 0, 1, rig_addr(r, buf), 0);

	cmd.prp1 = le64_make(rig_addr(r, shadow) + 8);
	cmd.prp2 = le64_make(rig_addr(r, idx));
	assert_int_equal(admin(r, cmd), DNR(NVME_SC_INVALID_FIELD));
	cmd.prp1 = le64_make(1ull << 50);
	assert_int_equal(admin(r, cmd), DNR(NVME_SC_INVALID_FIELD));
	cmd.prp1 = le64_make(rig_addr(r, shadow));
	assert_int_equal(admin(r, cmd), 0);
	r->io.sq_db = (le32 *)(void *)(shadow + NVME_DB_SQ(1, 0));
	r->io.cq_db = (le32 *)(void *)(shadow + NVME_DB_CQ(1, 0));
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(rig_exec(r, &r->io, &read, NULL), 0);
		/* It polls: no value that comes next asks for a ring. */
		assert_int_equal(le32_get(*(le32 *)(void *)(idx + NVME_DB_SQ(1, 0))),
		                 (r->io.tail - 1) & 0xffff);
	}
	rig_free(r);
}

/* --- admin commands --- */

static void test_bad_admin(void **state)
{
	struct rig *r = rig_ready();
	struct nvme_cmd cmd = rig_cmd(0x55, 0);

	assert_int_equal(admin(r, cmd), DNR(NVME_SC_INVALID_OPCODE));
	cmd = rig_cmd(NVME_ADMIN_KEEP_ALIVE, 0);
	cmd.flags = NVME_CMD_PSDT_SGL;
	assert_int_equal(admin(r, cmd), DNR(NVME_SC_INVALID_FIELD));
	cmd.flags = NVME_CMD_FUSE_FIRST;
	assert_int_equal(admin(r, cmd), DNR(NVME_SC_INVALID_FIELD));
	rig_free(r);
}

static uint16_t feature(struct rig *r, uint8_t opc, uint32_t cdw10, uint32_t cdw11, uint32_t *dw0)
{
	struct nvme_cmd cmd = rig_cmd(opc, 0);

	cmd.cdw10 = le32_make(cdw10);
	cmd.cdw11 = le32_make(cdw11);
	cmd.prp1 = le64_make(RIG_BASE + RIG_BYTES - 4096);
	return rig_exec(r, &r->admin, &cmd, dw0);
}

#define SET(fid, v)      feature(r, NVME_ADMIN_SET_FEATURES, fid, v, NULL)
#define GET(fid, v, dw0) feature(r, NVME_ADMIN_GET_FEATURES, fid, v, dw0)

static void test_features(void **state)
{
	struct rig *r = rig_ready();
	uint8_t *data = r->mem + RIG_BYTES - 4096;
	uint32_t v;

	assert_int_equal(SET(0x7f, 0), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(GET(0x7f, 0, NULL), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(SET(NVME_FEAT_ARBITRATION | NVME_FEATURE_SAVE, 0),
	                 DNR(NVME_SC_FEATURE_NOT_SAVEABLE));
	assert_int_equal(SET(NVME_FEAT_ARBITRATION, 3), 0);
	assert_int_equal(GET(NVME_FEAT_ARBITRATION, 0, &v), 0);
	assert_int_equal(v, 3);
	assert_int_equal(GET(NVME_FEAT_ARBITRATION | 1 << 8, 0, &v), 0);
	assert_int_equal(v, 7);
	assert_int_equal(GET(NVME_FEAT_ARBITRATION | 3 << 8, 0, &v), 0);
	assert_int_equal(v, NVME_FEATCAP_CHANGEABLE);
	assert_int_equal(GET(NVME_FEAT_ARBITRATION | 4 << 8, 0, &v), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(SET(NVME_FEAT_POWER, 1), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(SET(NVME_FEAT_ERROR_RECOVERY, 1 << 16), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(SET(NVME_FEAT_VECTOR, 5), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(SET(NVME_FEAT_VECTOR, 4), 0);
	assert_int_equal(SET(NVME_FEAT_VECTOR, NVME_VECTOR_CD | 3), 0);
	assert_int_equal(GET(NVME_FEAT_VECTOR, 3, &v), 0);
	assert_int_equal(v, NVME_VECTOR_CD | 3);
	assert_int_equal(GET(NVME_FEAT_VECTOR, 4, &v), 0);
	assert_int_equal(v, 4);
	assert_int_equal(GET(NVME_FEAT_VECTOR | 1 << 8, 3, &v), 0); /* the default */
	assert_int_equal(v, 3);
	assert_int_equal(GET(NVME_FEAT_VECTOR, 5, &v), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(SET(NVME_FEAT_COALESCING, 0x1234), 0);
	assert_int_equal(GET(NVME_FEAT_COALESCING, 0, &v), 0);
	assert_int_equal(v, 0x1234);
	/* mem: has no volatile cache. */
	assert_int_equal(SET(NVME_FEAT_WRITE_CACHE, 1), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(GET(NVME_FEAT_QUEUES, 0, &v), 0);
	assert_int_equal(v, 3 << 16 | 3);
	assert_int_equal(SET(NVME_FEAT_QUEUES, 0), DNR(NVME_SC_SEQUENCE)); /* a queue exists */
	assert_int_equal(SET(NVME_FEAT_QUEUES, 0xffff), DNR(NVME_SC_INVALID_FIELD));
	/* Host ids: one form for all controllers of the subsystem. */
	memset(data, 0xcd, 16);
	assert_int_equal(SET(NVME_FEAT_HOST_ID, 0), 0);
	assert_int_equal(GET(NVME_FEAT_HOST_ID, 1, NULL), DNR(NVME_SC_HOSTID_FORMAT));
	memset(data, 0, 16);
	assert_int_equal(GET(NVME_FEAT_HOST_ID, 0, NULL), 0);
	assert_int_equal(data[7], 0xcd);
	assert_int_equal(data[8], 0);
	memset(data, 0xab, 16);
	assert_int_equal(SET(NVME_FEAT_HOST_ID, 1), 0);
	memset(data, 0, 32);
	assert_int_equal(GET(NVME_FEAT_HOST_ID, 1, NULL), 0);
	assert_int_equal(data[15], 0xab);
	assert_int_equal(data[16], 0);
	assert_int_equal(SET(NVME_FEAT_TEMPERATURE, 3 << 20), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(SET(NVME_FEAT_TEMPERATURE, 1 << 20 | 77), 0);
	assert_int_equal(GET(NVME_FEAT_TEMPERATURE, 1 << 20, &v), 0);
	assert_int_equal(v, 77);
	assert_int_equal(GET(NVME_FEAT_TEMPERATURE, 2 << 20, &v), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(GET(NVME_FEAT_TEMPERATURE, 3 << 16, &v), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(GET(NVME_FEAT_TEMPERATURE, 0, &v), 0);
	assert_int_equal(v, 343);
	{
		struct nvme_cmd cmd = rig_cmd(NVME_ADMIN_SET_FEATURES, 1);

		cmd.cdw10 = le32_make(NVME_FEAT_ARBITRATION);
		assert_int_equal(admin(r, cmd), DNR(NVME_SC_FEATURE_NOT_NS));
		cmd.nsid = le32_make(9);
		assert_int_equal(admin(r, cmd), DNR(NVME_SC_INVALID_NS));
	}
	rig_free(r);
}

/* The two forms of a host's id don't go together; a fabric's controller has it from Connect. */
static void test_host_ids(void **state)
{
	struct rig *r = rig_ready();
	struct nvme_ctrlr_opts o = r->opts;
	struct nvme_ctrlr *second;

	o.fabrics = true;
	o.host_id[15] = 9;
	assert_int_equal(nvme_ctrlr_new(&second, r->subsys, &o, NULL), 0);
	assert_int_equal(SET(NVME_FEAT_HOST_ID, 0), DNR(NVME_SC_HOSTID_FORMAT));
	assert_int_equal(SET(NVME_FEAT_HOST_ID, 1), 0);
	nvme_ctrlr_free(second);
	assert_int_equal(SET(NVME_FEAT_HOST_ID, 0), 0);
	rig_free(r);
}

static void test_queue_count(void **state)
{
	static const char *const specs[] = {"mem:1m", NULL};
	struct rig *r = rig_new(specs, NULL);
	uint32_t v;

	rig_enable(r, 0);
	assert_int_equal(feature(r, NVME_ADMIN_SET_FEATURES, NVME_FEAT_QUEUES, 1, &v), 0);
	assert_int_equal(v, 1 << 16 | 1);
	assert_int_equal(admin(r, create(r, NVME_ADMIN_CREATE_CQ, 7 << 16 | 3, 1)),
	                 DNR(NVME_SC_QID_INVALID));
	assert_int_equal(feature(r, NVME_ADMIN_SET_FEATURES, NVME_FEAT_QUEUES, 99 << 16 | 99, &v),
	                 0);
	assert_int_equal(v, 3 << 16 | 3);
	assert_int_equal(admin(r, create(r, NVME_ADMIN_CREATE_CQ, 7 << 16 | 3, 1)), 0);
	rig_free(r);
}

static void test_keep_alive(void **state)
{
	struct rig *r = rig_ready();
	uint32_t v;

	assert_int_equal(SET(NVME_FEAT_KEEP_ALIVE, 1950), 0);
	assert_int_equal(GET(NVME_FEAT_KEEP_ALIVE, 0, &v), 0);
	assert_int_equal(v, 2000);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t until = loop_now(r->loop) + 1500 * NSEC_PER_MSEC;

		while (loop_now(r->loop) < until)
			loop_turn(r->loop, until - loop_now(r->loop));
		assert_int_equal(admin(r, rig_cmd(NVME_ADMIN_KEEP_ALIVE, 0)), 0);
	}
	for (unsigned i = 0; i < 10; i++)
		loop_turn(r->loop, NSEC_PER_SEC);
	assert_int_equal(rig_reg(r, NVME_REG_CSTS), NVME_CSTS_RDY | NVME_CSTS_CFS);
	rig_free(r);
}

static void test_abort(void **state)
{
	struct rig *r = rig_ready();
	struct nvme_cmd aer = rig_cmd(NVME_ADMIN_ASYNC_EVENT, 0), cmd;
	uint16_t cid = rig_submit(&r->admin, &aer);
	struct nvme_cqe cqe;
	uint32_t dw0;

	cmd = rig_cmd(NVME_ADMIN_ABORT, 0);
	cmd.cdw10 = le32_make((uint32_t)cid << 16);
	rig_submit(&r->admin, &cmd);
	cqe = rig_wait(r, &r->admin);
	assert_int_equal(le16_get(cqe.cid), cid);
	assert_int_equal(rig_status(cqe), NVME_SC_ABORTED);
	cqe = rig_wait(r, &r->admin);
	assert_int_equal(le32_get(cqe.dw0), 0);
	assert_int_equal(rig_exec(r, &r->admin, &cmd, &dw0), 0); /* not there any more */
	assert_int_equal(dw0, NVME_ABORT_NOT_DONE);
	cmd.cdw10 = le32_make(77);
	assert_int_equal(rig_exec(r, &r->admin, &cmd, &dw0), 0);
	assert_int_equal(dw0, NVME_ABORT_NOT_DONE);
	/* One more event request than there may be. */
	for (unsigned i = 0; i < 4; i++)
		rig_submit(&r->admin, &aer);
	assert_int_equal(admin(r, aer), DNR(NVME_SC_ASYNC_LIMIT));
	rig_free(r);
}

/* --- hostile queues --- */

/* Garbage in queues, doorbells and registers, for a while: nothing but statuses comes of it. */
static void test_garbage(void **state)
{
	struct rng rng;

	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct rig *r = rig_ready();
		uint64_t *words = (uint64_t *)(void *)r->mem;

		rng_seed(&rng, seed);
		for (unsigned i = 0; i < 300; i++) {
			for (unsigned k = 0; k < 200; k++) {
				uint64_t v = rng_next(&rng) >> rng_below(&rng, 64);

				if (rng_chance(&rng, 0.3))
					v = RIG_BASE + rng_below(&rng, RIG_BYTES);
				words[rng_below(&rng, 0x60000 / 8)] = v;
			}
			*r->io.sq_db = le32_make((uint32_t)rng_below(&rng, RIG_ENTRIES + 1));
			*r->admin.sq_db = le32_make((uint32_t)rng_below(&rng, RIG_ENTRIES + 1));
			*r->io.cq_db = le32_make((uint32_t)rng_below(&rng, RIG_ENTRIES + 1));
			*r->admin.cq_db = le32_make((uint32_t)rng_below(&rng, RIG_ENTRIES + 1));
			if (rng_chance(&rng, 0.02))
				nvme_ctrlr_reg_write(r->ctrlr, NVME_REG_CC, 4, rng_next(&rng));
			rig_run(r, 2);
			if (!(rig_reg(r, NVME_REG_CSTS) & NVME_CSTS_RDY)) {
				nvme_ctrlr_reg_write(r->ctrlr, NVME_REG_CC, 4, 0);
				rig_run(r, 3);
				r->alloc_at = r->mem;
				rig_enable(r, 0);
			}
		}
		rig_free(r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_registers),        cmocka_unit_test(test_enable_disable),
	        cmocka_unit_test(test_bad_enable),       cmocka_unit_test(test_shutdown),
	        cmocka_unit_test(test_create_errors),    cmocka_unit_test(test_entry_sizes),
	        cmocka_unit_test(test_wrap_and_full),    cmocka_unit_test(test_small_cq),
	        cmocka_unit_test(test_bad_doorbells),    cmocka_unit_test(test_interrupts),
	        cmocka_unit_test(test_shadow_doorbells), cmocka_unit_test(test_bad_admin),
	        cmocka_unit_test(test_features),         cmocka_unit_test(test_queue_count),
	        cmocka_unit_test(test_keep_alive),       cmocka_unit_test(test_abort),
	        cmocka_unit_test(test_garbage),          cmocka_unit_test(test_host_ids),
	};

	return rig_run_group(tests, ARRAY_LEN(tests));
}
