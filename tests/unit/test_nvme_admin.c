/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the controller model tells of itself: Identify, log pages, events; several controllers of
 * one subsystem; and the fault plan, each action of it.
 */
#include "nvme_util.h"

static uint16_t admin(struct rig *r, struct nvme_cmd cmd)
{
	return rig_exec(r, &r->admin, &cmd, NULL);
}

static uint16_t identify(struct rig *r, uint32_t cns, uint32_t nsid, uint32_t csi, void *buf)
{
	struct nvme_cmd cmd = rig_cmd(NVME_ADMIN_IDENTIFY, nsid);

	memset(buf, 0xff, 4096);
	cmd.prp1 = le64_make(rig_addr(r, buf));
	cmd.cdw10 = le32_make(cns);
	cmd.cdw11 = le32_make(csi << 24);
	return admin(r, cmd);
}

static struct rig *rig_two(void)
{
	static const char *const specs[] = {"mem:1m?block=512", "mem:2m?block=4096", NULL};
	struct rig *r = rig_new(specs, NULL);

	rig_enable(r, 0);
	rig_io_queue(r, &r->io, 1, RIG_ENTRIES);
	return r;
}

static void test_identify_ctrlr(void **state)
{
	struct rig *r = rig_two();
	struct nvme_id_ctrlr *id = rig_mem(r, 4096, 4096);

	assert_int_equal(identify(r, NVME_CNS_CTRLR, 0, 0, id), 0);
	assert_memory_equal(id->sn, "S1                  ", 20);
	assert_memory_equal(id->mn, "Penstock        ", 16);
	assert_string_equal(id->subnqn, "nqn.2026-01.test:rig");
	assert_int_equal(id->mdts, 5);
	assert_int_equal(le16_get(id->cntlid), 1);
	assert_int_equal(le32_get(id->ver), 0x20000);
	assert_int_equal(id->sqes, 0x66);
	assert_int_equal(id->cqes, 0x44);
	assert_int_equal(le32_get(id->nn), NVME_SUBSYS_NS_MAX);
	assert_int_equal(id->cntrltype, NVME_CNTRLTYPE_IO);
	assert_int_equal(id->vwc & NVME_VWC_PRESENT, 0);
	assert_int_equal(le16_get(id->fuses), NVME_FUSES_CAW);
	rig_free(r);
}

static void test_identify_ns(void **state)
{
	struct rig *r = rig_two();
	struct nvme_id_ns *id = rig_mem(r, 4096, 4096);
	le32 *list = (void *)id;
	uint8_t *b = (void *)id;

	assert_int_equal(identify(r, NVME_CNS_NS, 1, 0, id), 0);
	assert_int_equal(le64_get(id->nsze), 2048);
	assert_int_equal(id->nlbaf, 1);
	assert_int_equal(id->flbas, 0);
	assert_int_equal(id->lbaf[0].lbads, 9);
	assert_int_equal(id->lbaf[1].lbads, 12);
	assert_int_equal(le32_get(id->anagrpid), 1);
	assert_int_equal(identify(r, NVME_CNS_NS, 2, 0, id), 0);
	assert_int_equal(le64_get(id->nsze), 512);
	assert_int_equal(id->lbaf[0].lbads, 12);
	assert_int_equal(identify(r, NVME_CNS_NS, 3, 0, id), 0); /* inactive: zeroes */
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(b[i], 0);
	assert_int_equal(identify(r, NVME_CNS_NS, 0, 0, id), DNR(NVME_SC_INVALID_NS));
	assert_int_equal(identify(r, NVME_CNS_NS, 500, 0, id), DNR(NVME_SC_INVALID_NS));
	assert_int_equal(identify(r, NVME_CNS_NS, NVME_NSID_ALL, 0, id), 0);
	assert_int_equal(id->nlbaf, 1);
	assert_int_equal(identify(r, NVME_CNS_NS_LIST, 0, 0, id), 0);
	assert_int_equal(le32_get(list[0]), 1);
	assert_int_equal(le32_get(list[1]), 2);
	assert_int_equal(le32_get(list[2]), 0);
	assert_int_equal(identify(r, NVME_CNS_NS_LIST, 1, 0, id), 0);
	assert_int_equal(le32_get(list[0]), 2);
	assert_int_equal(identify(r, NVME_CNS_NS_LIST, 0xfffffffe, 0, id), DNR(NVME_SC_INVALID_NS));
	assert_int_equal(identify(r, NVME_CNS_NS_DESC, 1, 0, id), 0);
	assert_int_equal(b[0], NVME_NIDT_NGUID);
	assert_int_equal(b[1], 16);
	assert_int_equal(b[20], NVME_NIDT_UUID);
	assert_memory_equal(b + 4, b + 24, 16);
	assert_int_equal(b[40], NVME_NIDT_CSI);
	assert_int_equal(b[41], 1);
	assert_int_equal(b[45], 0); /* the end */
	assert_int_equal(identify(r, NVME_CNS_NS_DESC, 3, 0, id), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(identify(r, NVME_CNS_NS_DESC, 0, 0, id), DNR(NVME_SC_INVALID_NS));
	rig_free(r);
}

static void test_identify_more(void **state)
{
	struct rig *r = rig_two();
	uint8_t *b = rig_mem(r, 4096, 4096);
	struct nvme_ctrlr_opts o = r->opts;
	struct nvme_ctrlr *second;
	struct nvme_cmd cmd;

	assert_int_equal(identify(r, 0x77, 0, 0, b), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(identify(r, NVME_CNS_IOCS_NS, 1, 0, b), 0);
	assert_int_equal(identify(r, NVME_CNS_IOCS_NS, 1, 2, b), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(identify(r, NVME_CNS_IOCS_CTRLR, 0, 0, b), 0);
	assert_int_equal(identify(r, NVME_CNS_IOCS_NS_LIST, 0, 0, b), 0);
	assert_int_equal(b[0], 1);
	assert_int_equal(identify(r, NVME_CNS_IOCS_NS_LIST, 0, 2, b),
	                 DNR(NVME_SC_IOCS_NOT_SUPPORTED));
	assert_int_equal(identify(r, NVME_CNS_NS_INDEP, 1, 0, b), 0);
	assert_int_equal(b[14], 1);
	assert_int_equal(identify(r, NVME_CNS_IOCS_SETS | 0xffffu << 16, 0, 0, b), 0);
	assert_int_equal(b[0], 1);
	/* Another controller of the subsystem. */
	o.cntlid = 7;
	assert_int_equal(nvme_ctrlr_new(&second, r->subsys, &o, NULL), 0);
	assert_int_equal(identify(r, NVME_CNS_CTRLRS, 0, 0, b), 0);
	assert_int_equal(b[0], 2);
	assert_int_equal(b[2], 1);
	assert_int_equal(b[4], 7);
	assert_int_equal(identify(r, NVME_CNS_NS_CTRLRS | 2 << 16, 1, 0, b), 0);
	assert_int_equal(b[0], 1);
	assert_int_equal(b[2], 7);
	{
		struct nvme_ctrlr *third;

		assert_int_equal(nvme_ctrlr_new(&third, r->subsys, &o, NULL), -EEXIST);
	}
	nvme_ctrlr_free(second);
	/* Into memory that is not there. */
	cmd = rig_cmd(NVME_ADMIN_IDENTIFY, 0);
	cmd.cdw10 = le32_make(NVME_CNS_CTRLR);
	assert_int_equal(admin(r, cmd), DNR(NVME_SC_DATA_TRANSFER));
	rig_free(r);
}

/* --- log pages and events --- */

static uint16_t log_get(struct rig *r, uint32_t cdw10, uint32_t bytes, uint64_t off, void *buf)
{
	struct nvme_cmd cmd = rig_cmd(NVME_ADMIN_GET_LOG, 0);

	memset(buf, 0xff, 4096);
	cmd.prp1 = le64_make(rig_addr(r, buf));
	cmd.prp2 = le64_make(rig_addr(r, buf) + 4096);
	cmd.cdw10 = le32_make(cdw10 | (bytes / 4 - 1) << 16);
	cmd.cdw11 = le32_make((bytes / 4 - 1) >> 16);
	cmd.cdw12 = le32_make((uint32_t)off);
	cmd.cdw13 = le32_make((uint32_t)(off >> 32));
	return admin(r, cmd);
}

static void test_logs(void **state)
{
	struct rig *r = rig_two();
	uint8_t *b = rig_mem(r, 8192, 4096);
	struct nvme_error_entry *e = (void *)b;
	struct nvme_smart *s = (void *)b;
	struct nvme_effects_log *effects = (void *)b;
	struct nvme_cmd read = rig_rw(NVME_IO_READ, 1, 0, 8, rig_addr(r, b), 0);

	assert_int_equal(log_get(r, 0x60, 512, 0, b), DNR(NVME_SC_LOG_INVALID));
	assert_int_equal(log_get(r, NVME_LOG_SMART, 512, 2, b), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(log_get(r, NVME_LOG_SMART, 512, 516, b), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(log_get(r, NVME_LOG_SMART, 1u << 30, 0, b), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(rig_exec(r, &r->io, &read, NULL), 0);
	read.cdw10 = le32_make(999999);
	assert_int_equal(rig_exec(r, &r->io, &read, NULL), DNR(NVME_SC_LBA_RANGE));
	assert_int_equal(log_get(r, NVME_LOG_ERROR, 128, 0, b), 0);
	assert_int_equal(le64_get(e[0].error_count), 5);
	assert_int_equal(le16_get(e[0].status) >> 1, DNR(NVME_SC_LBA_RANGE));
	assert_int_equal(le64_get(e[0].lba), 999999);
	assert_int_equal(le16_get(e[0].sqid), 1);
	assert_int_equal(le16_get(e[1].sqid), 0);
	assert_int_equal(log_get(r, NVME_LOG_SMART, 512, 0, b), 0);
	assert_int_equal(s->host_reads[0], 1);
	assert_int_equal(s->units_read[0], 1);
	assert_int_equal(s->error_entries[0], 5);
	assert_int_equal(s->temperature[0] | s->temperature[1] << 8, 300);
	/* Cut out of the middle, and beyond the end. */
	assert_int_equal(log_get(r, NVME_LOG_SMART, 16, 64, b), 0);
	assert_int_equal(b[0], 1);
	assert_int_equal(b[16], 0xff);
	assert_int_equal(log_get(r, NVME_LOG_SMART, 1024, 0, b), 0);
	assert_int_equal(b[1023], 0);
	assert_int_equal(b[1024], 0xff);
	assert_int_equal(log_get(r, NVME_LOG_FIRMWARE, 512, 0, b), 0);
	assert_int_equal(b[0], 1);
	assert_memory_equal(b + 8, "0.1     ", 8);
	assert_int_equal(log_get(r, NVME_LOG_EFFECTS, 4096, 0, b), 0);
	assert_int_equal(le32_get(effects->io[NVME_IO_WRITE]), 3);
	assert_int_equal(le32_get(effects->admin[0x55]), 0);
	assert_int_equal(log_get(r, NVME_LOG_SUPPORTED, 1024, 0, b), 0);
	assert_int_equal(b[4 * NVME_LOG_ANA], 1);
	assert_int_equal(b[4 * NVME_LOG_DISCOVERY], 0);
	rig_free(r);
}

static void test_ana_log(void **state)
{
	struct rig *r = rig_two();
	struct nvme_ns_opts o = {.nsid = 9, .ana_group = 5};
	uint8_t *b = rig_mem(r, 8192, 4096);
	static const uint8_t want[] = {
	        2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, /* 2 changes, 2 groups */
	        1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* group 1: 2 namespaces, never */
	        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* optimized */
	        1, 0, 0, 0, 2, 0, 0, 0,                         /* namespaces 1 and 2 */
	        5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, /* group 5, changed by change 2 */
	        3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* inaccessible */
	        9, 0, 0, 0};
	struct bdev *extra;

	assert_int_equal(bdev_open(&extra, "mem:1m", r->loop, NULL, NULL), 0);
	assert_int_equal(nvme_subsys_ns_add(r->subsys, extra, &o, NULL, NULL), 0);
	assert_int_equal(nvme_ctrlr_ana_set(r->ctrlr, 5, NVME_ANA_NON_OPTIMIZED), 0);
	assert_int_equal(nvme_ctrlr_ana_set(r->ctrlr, 5, NVME_ANA_INACCESSIBLE), 0);
	assert_int_equal(nvme_ctrlr_ana_set(r->ctrlr, 5, NVME_ANA_INACCESSIBLE), 0); /* the same */
	assert_int_equal(log_get(r, NVME_LOG_ANA, 4096, 0, b), 0);
	assert_memory_equal(b, want, sizeof(want));
	assert_int_equal(log_get(r, NVME_LOG_ANA | NVME_ANA_RGO << 8, 80, 0, b), 0);
	assert_int_equal(b[16 + 4], 0);
	assert_int_equal(b[16 + 32], 5);
	assert_int_equal(nvme_subsys_ns_remove(r->subsys, 9), 0);
	bdev_close(extra);
	rig_free(r);
}

/* An id is taken while its command is held: on the admin queue that is as long as it is under way. */
static void test_cid_conflict(void **state)
{
	struct rig *r = rig_two();
	struct nvme_cmd aer = rig_cmd(NVME_ADMIN_ASYNC_EVENT, 0),
	                id = rig_cmd(NVME_ADMIN_IDENTIFY, 0);
	struct nvme_cmd read = rig_rw(NVME_IO_READ, 1, 0, 1, 0, 0), first, second;
	struct nvme_cqe cqe;
	uint16_t cid;

	id.cdw10 = le32_make(NVME_CNS_CTRLR);
	id.prp1 = read.prp1 = le64_make(rig_addr(r, rig_mem(r, 4096, 4096)));
	cid = rig_submit(&r->admin, &aer);
	rig_run(r, 2);
	r->admin.next_cid = cid;
	assert_int_equal(admin(r, id), DNR(NVME_SC_CID_CONFLICT));
	assert_int_equal(admin(r, id), 0); /* another id */
	assert_int_equal(admin(r, id), 0);
	r->admin.next_cid = cid;
	rig_submit(&r->admin, &aer);
	cqe = rig_wait(r, &r->admin);
	assert_int_equal(le16_get(cqe.cid), cid);
	assert_int_equal(rig_status(cqe), DNR(NVME_SC_CID_CONFLICT));

	/* I/O: one that is held back on purpose, and the first half of two. */
	assert_int_equal(nvme_ctrlr_faults(r->ctrlr, "delay:ms=50,count=1", NULL), 0);
	cid = rig_submit(&r->io, &read);
	rig_run(r, 3);
	assert_int_equal(nvme_ctrlr_faults(r->ctrlr, NULL, NULL), 0); /* as all are, again */
	r->io.next_cid = cid;
	rig_submit(&r->io, &read);
	rig_submit(&r->io, &read);
	cqe = rig_wait(r, &r->io);
	assert_int_equal(rig_status(cqe), DNR(NVME_SC_CID_CONFLICT));
	assert_int_equal(le16_get(cqe.cid), cid);
	assert_int_equal(rig_status(rig_wait(r, &r->io)), 0);
	cqe = rig_wait(r, &r->io); /* the first one's own end */
	assert_int_equal(rig_status(cqe), 0);
	assert_int_equal(le16_get(cqe.cid), cid);
	r->io.next_cid = cid;
	assert_int_equal(rig_exec(r, &r->io, &read, NULL), 0); /* free again */
	first = rig_rw(NVME_IO_COMPARE, 1, 0, 1, le64_get(read.prp1), 0);
	first.flags = NVME_CMD_FUSE_FIRST;
	second = rig_rw(NVME_IO_WRITE, 1, 0, 1, le64_get(read.prp1), 0);
	second.flags = NVME_CMD_FUSE_SECOND;
	r->io.next_cid = 77;
	rig_put(&r->io, &first);
	r->io.next_cid = 77;
	rig_submit(&r->io, &second);
	assert_int_equal(rig_status(rig_wait(r, &r->io)), DNR(NVME_SC_CID_CONFLICT));
	rig_free(r);
}

static void test_events(void **state)
{
	struct rig *r = rig_two();
	struct nvme_cmd aer = rig_cmd(NVME_ADMIN_ASYNC_EVENT, 0), cmd;
	struct nvme_ns_opts o = {.nsid = 3};
	uint8_t *b = rig_mem(r, 8192, 4096);
	struct nvme_cqe cqe;
	struct bdev *extra;

	assert_int_equal(bdev_open(&extra, "mem:1m", r->loop, NULL, NULL), 0);
	rig_submit(&r->admin, &aer);
	assert_int_equal(nvme_subsys_ns_add(r->subsys, extra, &o, NULL, NULL), 0);
	rig_run(r, 3);
	assert_false(rig_reap(&r->admin, &cqe)); /* not asked for yet */
	cmd = rig_cmd(NVME_ADMIN_SET_FEATURES, 0);
	cmd.cdw10 = le32_make(NVME_FEAT_ASYNC);
	cmd.cdw11 = le32_make(NVME_ASYNC_NS | NVME_ASYNC_ANA);
	assert_int_equal(admin(r, cmd), 0);
	assert_int_equal(nvme_subsys_ns_remove(r->subsys, 3), 0);
	cqe = rig_wait(r, &r->admin);
	assert_int_equal(le32_get(cqe.dw0),
	                 NVME_EVENT_MAKE(NVME_EVENT_NOTICE, NVME_NOTICE_NS, NVME_LOG_CHANGED_NS));
	/* Notices are masked now; one that comes waits, and comes when the log was read. */
	assert_int_equal(nvme_ctrlr_ana_set(r->ctrlr, 1, NVME_ANA_NON_OPTIMIZED), 0);
	rig_submit(&r->admin, &aer);
	rig_run(r, 2);
	assert_false(rig_reap(&r->admin, &cqe));
	assert_int_equal(log_get(r, NVME_LOG_CHANGED_NS | 1 << 15, 4096, 0, b), 0); /* RAE */
	assert_int_equal(b[0], 3);
	assert_int_equal(b[4], 0);
	rig_run(r, 2);
	assert_false(rig_reap(&r->admin, &cqe));
	cmd = rig_cmd(NVME_ADMIN_GET_LOG, 0);
	cmd.prp1 = le64_make(rig_addr(r, b));
	cmd.cdw10 = le32_make(NVME_LOG_CHANGED_NS | 1023u << 16);
	rig_submit(&r->admin, &cmd);
	cqe = rig_wait(r, &r->admin); /* the event goes first, the log's own completion follows */
	assert_int_equal(le32_get(cqe.dw0),
	                 NVME_EVENT_MAKE(NVME_EVENT_NOTICE, NVME_NOTICE_ANA, NVME_LOG_ANA));
	assert_int_equal(rig_status(rig_wait(r, &r->admin)), 0);
	assert_int_equal(b[0], 3);
	assert_int_equal(log_get(r, NVME_LOG_CHANGED_NS, 4096, 0, b), 0);
	assert_int_equal(b[0], 0); /* reading cleared it */
	bdev_close(extra);
	rig_free(r);
}

/* --- the fault plan --- */

static struct rig *rig_plan(const char *plan)
{
	struct rig *r = rig_two();
	struct pst_err err = {0};

	assert_int_equal(nvme_ctrlr_faults(r->ctrlr, plan, &err), 0);
	return r;
}

static void test_plan_syntax(void **state)
{
	static const char *const bad[] = {
	        "explode",       "drop:q",       "drop:q=x",  "drop:q=999",    "drop:every=0",
	        "status:code=0", "drop:foo=1",   "drop:q=-1", "drop:q=1,,op=", "status:code=0x800",
	        "status:dnr=2",  "drop;drop;bad"};
	struct rig *r = rig_two();

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct pst_err err = {0};

		if (nvme_ctrlr_faults(r->ctrlr, bad[i], &err) != -EINVAL || !err.text[0])
			fail_msg("'%s' was taken", bad[i]);
	}
	assert_int_equal(nvme_ctrlr_faults(r->ctrlr,
	                                   "drop:q=1,op=2,after=3,every=4,count=5;"
	                                   "delay:ms=9;dup;cid;status:code=0x281,dnr=1",
	                                   NULL),
	                 0);
	assert_int_equal(nvme_ctrlr_faults(r->ctrlr, NULL, NULL), 0);
	rig_free(r);
}

static void test_faults(void **state)
{
	struct rig *r = rig_plan("status:code=0x281,op=2,after=1,every=2,count=2");
	uint8_t *b = rig_mem(r, 4096, 4096);
	struct nvme_cmd read = rig_rw(NVME_IO_READ, 1, 0, 1, rig_addr(r, b), 0);
	struct nvme_cmd flush = rig_cmd(NVME_IO_FLUSH, 1), cmd = rig_cmd(NVME_ADMIN_ABORT, 0);
	struct nvme_cqe cqe;
	uint64_t before;
	uint16_t cid;
	uint32_t dw0;

	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(rig_exec(r, &r->io, &read, NULL),
		                 i == 2 || i == 4 ? NVME_SC_READ_ERROR : 0);
		assert_int_equal(rig_exec(r, &r->io, &flush, NULL), 0);
	}
	assert_int_equal(nvme_ctrlr_fault_hits(r->ctrlr, 0), 2);
	assert_int_equal(nvme_ctrlr_faults(r->ctrlr, "drop:count=1;dup:count=1;cid:count=1", NULL),
	                 0);
	rig_submit(&r->io, &read); /* no completion */
	rig_run(r, 5);
	assert_false(rig_reap(&r->io, &cqe));
	cid = rig_submit(&r->io, &read); /* two */
	assert_int_equal(le16_get(rig_wait(r, &r->io).cid), cid);
	assert_int_equal(le16_get(rig_wait(r, &r->io).cid), cid);
	cid = rig_submit(&r->io, &read); /* of another command */
	assert_int_equal(le16_get(rig_wait(r, &r->io).cid), cid ^ 0x8000);
	assert_int_equal(rig_exec(r, &r->io, &read, NULL), 0);
	/* Late; and called back while it is late. */
	assert_int_equal(nvme_ctrlr_faults(r->ctrlr, "delay:ms=50", NULL), 0);
	before = loop_now(r->loop);
	assert_int_equal(rig_exec(r, &r->io, &read, NULL), 0);
	assert_true(loop_now(r->loop) - before >= 50 * NSEC_PER_MSEC);
	cid = rig_submit(&r->io, &read);
	rig_run(r, 5);
	cmd.cdw10 = le32_make((uint32_t)cid << 16 | 1);
	assert_int_equal(rig_exec(r, &r->admin, &cmd, &dw0), 0);
	assert_int_equal(dw0, 0);
	assert_int_equal(rig_status(rig_wait(r, &r->io)), NVME_SC_ABORTED);
	rig_submit(&r->io, &read); /* a reset ends delays too */
	rig_run(r, 5);
	rig_disable(r);
	rig_free(r);
}

static void test_fault_fatal(void **state)
{
	struct rig *r = rig_plan("fatal:q=1,after=1");
	uint8_t *b = rig_mem(r, 4096, 4096);
	struct nvme_cmd read = rig_rw(NVME_IO_READ, 1, 0, 1, rig_addr(r, b), 0);
	struct nvme_cqe cqe;

	assert_int_equal(rig_exec(r, &r->io, &read, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		rig_submit(&r->io, &read);
	rig_run(r, 5);
	assert_false(rig_reap(&r->io, &cqe));
	assert_int_equal(rig_reg(r, NVME_REG_CSTS), NVME_CSTS_RDY | NVME_CSTS_CFS);
	rig_disable(r);
	rig_enable(r, 0);
	rig_io_queue(r, &r->io, 1, RIG_ENTRIES);
	assert_int_equal(rig_exec(r, &r->io, &read, NULL), 0);
	rig_free(r);
}

static void test_fault_remove(void **state)
{
	struct rig *r = rig_plan("remove:q=0,op=0x18");
	struct nvme_cmd cmd = rig_cmd(NVME_ADMIN_KEEP_ALIVE, 0);
	struct nvme_cqe cqe;

	rig_submit(&r->admin, &cmd);
	rig_run(r, 5);
	assert_false(rig_reap(&r->admin, &cqe));
	for (uint32_t off = 0; off < 0x40; off += 4)
		assert_int_equal(rig_reg(r, off), NVME_REG_GONE);
	assert_int_equal(nvme_ctrlr_reg_read(r->ctrlr, NVME_REG_CSTS, 4), NVME_REG_GONE);
	nvme_ctrlr_reg_write(r->ctrlr, NVME_REG_CC, 4, 0);
	rig_run(r, 5);
	assert_int_equal(rig_reg(r, NVME_REG_CSTS), NVME_REG_GONE);
	assert_true(nvme_ctrlr_idle(r->ctrlr));
	rig_free(r);
}

/* The link is down for as long as the plan says; then there is a controller as after power on. */
static void test_fault_link(void **state)
{
	struct rig *r = rig_plan("link:q=1,after=1,ms=20");
	uint8_t *b = rig_mem(r, 4096, 4096);
	struct nvme_cmd read = rig_rw(NVME_IO_READ, 1, 0, 1, rig_addr(r, b), 0);
	uint64_t cap = nvme_ctrlr_reg_read(r->ctrlr, NVME_REG_CAP, 8);
	struct nvme_cqe cqe;

	assert_int_equal(rig_exec(r, &r->io, &read, NULL), 0);
	rig_submit(&r->io, &read);
	rig_submit(&r->io, &read);
	rig_run(r, 5);
	assert_true(nvme_ctrlr_unlinked(r->ctrlr));
	for (uint32_t off = 0; off < NVME_REG_DOORBELL; off += 4)
		assert_int_equal(rig_reg(r, off), NVME_REG_GONE);
	for (unsigned i = 0; i < 100 && nvme_ctrlr_unlinked(r->ctrlr); i++)
		loop_turn(r->loop, NSEC_PER_MSEC);
	assert_false(nvme_ctrlr_unlinked(r->ctrlr));
	assert_false(rig_reap(&r->io, &cqe));
	assert_true(nvme_ctrlr_reg_read(r->ctrlr, NVME_REG_CAP, 8) == cap);
	assert_int_equal(rig_reg(r, NVME_REG_CSTS), 0);
	assert_int_equal(rig_reg(r, NVME_REG_CC), 0);
	assert_int_equal(rig_reg(r, NVME_REG_AQA), 0);
	rig_enable(r, 0);
	rig_io_queue(r, &r->io, 1, RIG_ENTRIES);
	assert_int_equal(rig_exec(r, &r->io, &read, NULL), 0);
	/* Taken away for good while it is down. */
	nvme_ctrlr_unlink(r->ctrlr, 10);
	rig_free(r);
}

/* --- each allocation that fails --- */

static void sweep_new(struct rig *r, uint64_t n, bool *ret_done)
{
	struct nvme_ctrlr_opts o = r->opts;
	struct nvme_ctrlr *c = NULL;
	int rc;

	mem_alloc_fail_at(n, false);
	rc = nvme_ctrlr_new(&c, r->subsys, &o, NULL);
	mem_alloc_fail_at(0, false);
	assert_true(rc == 0 || rc == -ENOMEM);
	assert_true(!rc == !!c);
	*ret_done = !rc;
	nvme_ctrlr_free(c);
}

static void test_alloc_failures(void **state)
{
	struct rig *r = rig_two();
	uint8_t *b = rig_mem(r, 4096, 4096);
	struct nvme_cmd cmp = rig_rw(NVME_IO_COMPARE, 1, 0, 1, rig_addr(r, b), 0);
	struct nvme_cmd dsm = rig_rw(NVME_IO_DSM, 1, 0, 1, rig_addr(r, b), 0);
	struct nvme_cmd cq = rig_cmd(NVME_ADMIN_CREATE_CQ, 0);
	bool done = false;

	for (uint64_t n = 1; !done; n++) {
		assert_true(n < 20);
		sweep_new(r, n, &done);
	}
	mem_alloc_fail_at(1, false);
	assert_int_equal(rig_exec(r, &r->io, &cmp, NULL), NVME_SC_INTERNAL);
	mem_alloc_fail_at(1, false);
	assert_int_equal(rig_exec(r, &r->io, &dsm, NULL), NVME_SC_INTERNAL);
	cq.prp1 = le64_make(rig_addr(r, b));
	cq.cdw10 = le32_make(7 << 16 | 2);
	cq.cdw11 = le32_make(NVME_CREATE_PC);
	mem_alloc_fail_at(1, false);
	assert_int_equal(admin(r, cq), NVME_SC_INTERNAL);
	mem_alloc_fail_at(0, false);
	assert_int_equal(admin(r, cq), 0);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_identify_ctrlr), cmocka_unit_test(test_identify_ns),
	        cmocka_unit_test(test_identify_more),  cmocka_unit_test(test_logs),
	        cmocka_unit_test(test_ana_log),        cmocka_unit_test(test_events),
	        cmocka_unit_test(test_cid_conflict),   cmocka_unit_test(test_plan_syntax),
	        cmocka_unit_test(test_faults),         cmocka_unit_test(test_fault_fatal),
	        cmocka_unit_test(test_fault_remove),   cmocka_unit_test(test_alloc_failures),
	        cmocka_unit_test(test_fault_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
