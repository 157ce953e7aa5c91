/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * I/O commands of the controller model, each with its errors: ranges, namespaces, Compare and the
 * fused pair, Write Zeroes, Dataset Management, Flush and FUA on a device that loses power, Format,
 * ANA states, alignment, media errors.
 */
#include "nvme_util.h"

static uint16_t io(struct rig *r, struct nvme_cmd cmd)
{
	return rig_exec(r, &r->io, &cmd, NULL);
}

static struct rig *rig_specs(const char *a, const char *b)
{
	const char *specs[] = {a, b, NULL};
	struct rig *r = rig_new(specs, NULL);

	rig_enable(r, 0);
	rig_io_queue(r, &r->io, 1, RIG_ENTRIES);
	return r;
}

static struct nvme_cmd rw(struct rig *r, uint8_t opc, uint64_t lba, uint32_t blocks, void *buf)
{
	return rig_rw(opc, 1, lba, blocks, rig_addr(r, buf), 0);
}

static void test_read_write(void **state)
{
	struct rig *r = rig_specs("mem:1m?block=512", "mem:2m?block=4096");
	uint8_t *a = rig_mem(r, 4096, 4096), *b = rig_mem(r, 4096, 4096);
	struct nvme_cmd cmd;

	memset(a, 0x5a, 4096);
	assert_int_equal(io(r, rw(r, NVME_IO_WRITE, 7, 3, a)), 0);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 7, 3, b)), 0);
	assert_memory_equal(a, b, 1536);
	assert_int_equal(b[1536], 0);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 6, 1, b)), 0);
	assert_int_equal(b[0], 0);
	/* The second namespace has blocks of 4096. */
	cmd = rw(r, NVME_IO_WRITE, 511, 1, a);
	cmd.nsid = le32_make(2);
	assert_int_equal(io(r, cmd), 0);
	cmd = rw(r, NVME_IO_READ, 511, 1, b);
	cmd.nsid = le32_make(2);
	assert_int_equal(io(r, cmd), 0);
	assert_memory_equal(a, b, 4096);
	rig_free(r);
}

static void test_errors(void **state)
{
	struct rig *r = rig_specs("mem:1m?block=512", NULL);
	uint8_t *a = rig_mem(r, 4096, 4096);
	uint16_t range = DNR(NVME_SC_LBA_RANGE);
	struct nvme_cmd cmd;

	assert_int_equal(io(r, rw(r, NVME_IO_READ, 2048, 1, a)), range);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 2047, 1, a)), 0);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 2047, 2, a)), range);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, UINT64_MAX, 1, a)), range);
	assert_int_equal(io(r, rw(r, NVME_IO_WRITE, 2041, 8, a)), range);
	assert_int_equal(io(r, rw(r, NVME_IO_WRITE_ZEROES, 2041, 8, a)), range);
	assert_int_equal(io(r, rw(r, NVME_IO_COMPARE, 2041, 8, a)), range);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 0, 257, a)),
	                 DNR(NVME_SC_INVALID_FIELD)); /* MDTS */
	assert_int_equal(io(r, rw(r, NVME_IO_WRITE, 0, 257, a)), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(io(r, rw(r, NVME_IO_COMPARE, 0, 257, a)), DNR(NVME_SC_INVALID_FIELD));
	for (unsigned opc = 0; opc < 256; opc++) {
		if (opc <= NVME_IO_READ || opc == NVME_IO_COMPARE || opc == NVME_IO_WRITE_ZEROES ||
		    opc == NVME_IO_DSM)
			continue;
		assert_int_equal(io(r, rw(r, (uint8_t)opc, 0, 1, a)), DNR(NVME_SC_INVALID_OPCODE));
	}
	for (uint32_t nsid = 0; nsid < 300; nsid += nsid == 0 ? 2 : 7) {
		cmd = rw(r, NVME_IO_READ, 0, 1, a);
		cmd.nsid = le32_make(nsid);
		assert_int_equal(io(r, cmd), DNR(NVME_SC_INVALID_NS));
		cmd.opc = NVME_IO_DSM;
		assert_int_equal(io(r, cmd), DNR(NVME_SC_INVALID_NS));
		cmd.opc = NVME_IO_FLUSH;
		assert_int_equal(io(r, cmd), DNR(NVME_SC_INVALID_NS));
	}
	cmd.nsid = le32_make(NVME_NSID_ALL);
	assert_int_equal(io(r, cmd), 0); /* Flush takes it */
	cmd.opc = NVME_IO_WRITE;
	assert_int_equal(io(r, cmd), DNR(NVME_SC_INVALID_NS));
	rig_free(r);
}

static void test_zeroes_and_dsm(void **state)
{
	struct rig *r = rig_specs("mem:1m?block=512", NULL);
	uint8_t *a = rig_mem(r, 4096, 4096);
	struct nvme_dsm_range *ranges = rig_mem(r, 4096, 4096);
	struct nvme_cmd cmd;

	memset(a, 1, 4096);
	assert_int_equal(io(r, rw(r, NVME_IO_WRITE, 0, 8, a)), 0);
	assert_int_equal(io(r, rw(r, NVME_IO_WRITE_ZEROES, 2, 1, a)), 0);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 0, 8, a)), 0);
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(a[i], i / 512 != 2);
	/* All of it at once: no limit by MDTS. */
	assert_int_equal(io(r, rw(r, NVME_IO_WRITE_ZEROES, 0, 2048, a)), 0);
	memset(a, 1, 4096);
	assert_int_equal(io(r, rw(r, NVME_IO_WRITE, 0, 8, a)), 0);
	ranges[0] = (struct nvme_dsm_range){.nlb = le32_make(1), .slba = le64_make(3)};
	ranges[1] = (struct nvme_dsm_range){.nlb = 0, .slba = le64_make(2048)};
	ranges[2] = (struct nvme_dsm_range){.nlb = le32_make(2), .slba = le64_make(6)};
	cmd = rig_rw(NVME_IO_DSM, 1, 2, 1, rig_addr(r, ranges), 0); /* cdw10: three ranges */
	cmd.cdw11 = 0;                                              /* hints only */
	assert_int_equal(io(r, cmd), 0);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 0, 8, a)), 0);
	assert_int_equal(a[3 * 512], 1);
	cmd.cdw11 = le32_make(NVME_DSM_AD);
	assert_int_equal(io(r, cmd), 0);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 0, 8, a)), 0);
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(a[i], i / 512 != 3 && i / 512 < 6);
	ranges[2].slba = le64_make(2047);
	assert_int_equal(io(r, cmd), DNR(NVME_SC_LBA_RANGE));
	ranges[2].slba = le64_make(UINT64_MAX);
	assert_int_equal(io(r, cmd), DNR(NVME_SC_LBA_RANGE));
	cmd.prp1 = 0;
	assert_int_equal(io(r, cmd), DNR(NVME_SC_DATA_TRANSFER));
	rig_free(r);
}

/* --- Compare, and the fused pair --- */

static void test_compare(void **state)
{
	struct rig *r = rig_specs("mem:1m?block=512", NULL);
	uint8_t *a = rig_mem(r, 8192, 4096);

	memset(a, 9, 8192);
	assert_int_equal(
	        io(r, rig_rw(NVME_IO_WRITE, 1, 0, 16, rig_addr(r, a), rig_addr(r, a) + 4096)), 0);
	assert_int_equal(
	        io(r, rig_rw(NVME_IO_COMPARE, 1, 0, 16, rig_addr(r, a), rig_addr(r, a) + 4096)), 0);
	a[8191] ^= 1;
	assert_int_equal(
	        io(r, rig_rw(NVME_IO_COMPARE, 1, 0, 16, rig_addr(r, a), rig_addr(r, a) + 4096)),
	        DNR(NVME_SC_COMPARE));
	assert_int_equal(io(r, rw(r, NVME_IO_COMPARE, 0, 8, a)), 0);
	rig_free(r);
}

static void fused(struct rig *r, struct nvme_cmd first, struct nvme_cmd second, uint16_t st1,
                  uint16_t st2)
{
	struct nvme_cqe cqe;
	uint16_t cid1, cid2, got1 = 0xffff, got2 = 0xffff;

	first.flags |= NVME_CMD_FUSE_FIRST;
	second.flags |= NVME_CMD_FUSE_SECOND;
	cid1 = rig_submit(&r->io, &first);
	rig_run(r, 2); /* the first half is seen alone for a while */
	cid2 = rig_submit(&r->io, &second);
	for (unsigned i = 0; i < 2; i++) {
		cqe = rig_wait(r, &r->io);
		if (le16_get(cqe.cid) == cid1)
			got1 = rig_status(cqe);
		else if (le16_get(cqe.cid) == cid2)
			got2 = rig_status(cqe);
	}
	assert_int_equal(got1, st1);
	assert_int_equal(got2, st2);
}

static void test_fused(void **state)
{
	struct rig *r = rig_specs("mem:1m?block=512", NULL);
	uint8_t *old = rig_mem(r, 4096, 4096), *new = rig_mem(r, 4096, 4096);
	uint16_t half = DNR(NVME_SC_ABORTED_NOT_FUSED), failed = NVME_SC_ABORTED_FUSED;
	uint16_t field = DNR(NVME_SC_INVALID_FIELD);
	struct nvme_cmd cmp, wr, bad;

	memset(new, 3, 4096);
	cmp = rw(r, NVME_IO_COMPARE, 5, 1, old);
	wr = rw(r, NVME_IO_WRITE, 5, 1, new);
	fused(r, cmp, wr, 0, 0);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 5, 1, old)), 0);
	assert_memory_equal(old, new, 512);
	old[0] ^= 1;
	memset(new, 4, 512);
	fused(r, cmp, wr, DNR(NVME_SC_COMPARE), failed);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 5, 1, old)), 0);
	assert_int_equal(old[0], 3);
	/* Errors of the one abort the other. */
	bad = cmp;
	bad.prp1 = le64_make(4096);
	fused(r, bad, wr, DNR(NVME_SC_DATA_TRANSFER), failed);
	bad = wr;
	bad.prp1 = le64_make(4096);
	fused(r, cmp, bad, failed, DNR(NVME_SC_DATA_TRANSFER));
	bad = rw(r, NVME_IO_WRITE, 6, 1, new);
	fused(r, cmp, bad, failed, field);
	fused(r, rw(r, NVME_IO_COMPARE, 5, 2, old), rw(r, NVME_IO_WRITE, 5, 2, new),
	      DNR(NVME_SC_ATOMIC_EXCEEDED), failed);
	fused(r, wr, cmp, field, field);
	fused(r, rw(r, NVME_IO_READ, 5, 1, old), wr, field, field);
	/* Halves alone. */
	bad = wr;
	bad.flags = NVME_CMD_FUSE_SECOND;
	assert_int_equal(io(r, bad), half);
	bad.flags = NVME_CMD_FUSE_MASK;
	assert_int_equal(io(r, bad), field);
	bad = cmp;
	bad.flags = NVME_CMD_FUSE_FIRST;
	rig_submit(&r->io, &bad);
	rig_submit(&r->io, &cmp);
	assert_int_equal(rig_status(rig_wait(r, &r->io)), half);
	assert_int_equal(rig_status(rig_wait(r, &r->io)), 0);
	/* Halves that are never completed must not stop a reset. */
	rig_submit(&r->io, &bad);
	rig_run(r, 2);
	rig_disable(r);
	rig_free(r);
}

/* Two queues race to move one counter on by compare-and-write, on a device that is slow and reorders,
 * with other writes between: in each round exactly one of them succeeds. */
static void test_fused_is_atomic(void **state)
{
	struct rig *r = rig_specs("fault:mem:1m?block=512&delay_us=50&delay_jitter_us=100", NULL);
	struct rig_queue q2;
	struct rig_queue *q[2] = {&r->io, &q2};
	uint32_t *old = rig_mem(r, 4096, 4096), *new = rig_mem(r, 4096, 4096);

	rig_io_queue(r, &q2, 2, RIG_ENTRIES);
	for (uint32_t round = 0; round < 100; round++) {
		struct nvme_cmd cmp = rw(r, NVME_IO_COMPARE, 0, 1, old);
		struct nvme_cmd wr = rw(r, NVME_IO_WRITE, 0, 1, new);
		unsigned wins = 0;

		*old = round;
		*new = round + 1;
		cmp.flags = NVME_CMD_FUSE_FIRST;
		wr.flags = NVME_CMD_FUSE_SECOND;
		for (unsigned k = 0; k < 2; k++) {
			struct nvme_cmd other = rw(r, NVME_IO_WRITE, 8 + k, 1, new);

			rig_put(q[k], &other);
			rig_put(q[k], &cmp);
			rig_put(q[k], &wr);
			rig_submit(q[k], &other);
		}
		for (unsigned i = 0; i < 8; i++) {
			struct nvme_cqe cqe = rig_wait(r, q[i % 2]);

			if (le16_get(cqe.cid) % 4 == 2)
				wins += !rig_status(cqe);
		}
		assert_int_equal(wins, 1);
	}
	rig_free(r);
}

/* --- durability --- */

static void test_volatile_cache(void **state)
{
	struct rig *r = rig_specs("fault:mem:1m?block=512&cache=1", NULL);
	uint8_t *a = rig_mem(r, 4096, 4096);
	struct nvme_cmd cmd;
	uint32_t v;

	memset(a, 7, 4096);
	assert_int_equal(io(r, rw(r, NVME_IO_WRITE, 0, 8, a)), 0);
	cmd = rw(r, NVME_IO_READ, 0, 8, a);
	cmd.cdw12 = le32_make(7 | NVME_RW_FUA);
	assert_int_equal(io(r, cmd), 0);
	assert_int_equal(io(r, rig_cmd(NVME_IO_FLUSH, 1)), 0);
	assert_int_equal(io(r, rig_cmd(NVME_IO_FLUSH, NVME_NSID_ALL)), 0);
	cmd = rig_cmd(NVME_ADMIN_GET_FEATURES, 0);
	cmd.cdw10 = le32_make(NVME_FEAT_WRITE_CACHE);
	assert_int_equal(rig_exec(r, &r->admin, &cmd, &v), 0);
	assert_int_equal(v, 1);
	cmd.opc = NVME_ADMIN_SET_FEATURES;
	cmd.cdw11 = 0;
	assert_int_equal(rig_exec(r, &r->admin, &cmd, &v), 0);
	assert_int_equal(io(r, rw(r, NVME_IO_WRITE, 0, 8, a)), 0);
	assert_int_equal(io(r, rw(r, NVME_IO_WRITE_ZEROES, 0, 8, a)), 0);
	rig_free(r);
}

/* --- Format --- */

static uint16_t format(struct rig *r, uint32_t nsid, uint32_t cdw10)
{
	struct nvme_cmd cmd = rig_cmd(NVME_ADMIN_FORMAT, nsid);

	cmd.cdw10 = le32_make(cdw10);
	return rig_exec(r, &r->admin, &cmd, NULL);
}

static void test_format(void **state)
{
	struct rig *r = rig_specs("mem:1m?block=512", "mem:2m?block=4096");
	uint8_t *a = rig_mem(r, 4096, 4096);

	memset(a, 7, 4096);
	assert_int_equal(io(r, rw(r, NVME_IO_WRITE, 2040, 8, a)), 0);
	assert_int_equal(format(r, 3, 0), DNR(NVME_SC_INVALID_NS));
	assert_int_equal(format(r, 1, 2), DNR(NVME_SC_FORMAT_INVALID));
	assert_int_equal(format(r, 2, 1), DNR(NVME_SC_FORMAT_INVALID)); /* 512 only on such bdevs */
	assert_int_equal(format(r, 1, 1 << 5), DNR(NVME_SC_FORMAT_INVALID));
	assert_int_equal(format(r, 1, 1 << 4), DNR(NVME_SC_FORMAT_INVALID));
	assert_int_equal(format(r, 1, 2 << 9), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(format(r, NVME_NSID_ALL, 1), DNR(NVME_SC_FORMAT_INVALID));
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 2040, 8, a)), 0);
	assert_int_equal(a[0], 7);
	assert_int_equal(format(r, 1, 1), 0); /* blocks of 4096 */
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 256, 1, a)), DNR(NVME_SC_LBA_RANGE));
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 255, 1, a)), 0);
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(a[i], 0);
	assert_int_equal(format(r, NVME_NSID_ALL, 0), 0);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 2047, 1, a)), 0);
	rig_free(r);
}

/* I/O that comes while a format runs is refused; a reset ends the format. */
static void test_format_alone(void **state)
{
	struct rig *r = rig_specs("fault:mem:66m?block=4096&delay_us=1000", NULL);
	uint8_t *a = rig_mem(r, 4096, 4096);
	struct nvme_cmd cmd = rig_cmd(NVME_ADMIN_FORMAT, 1), write;

	write = rw(r, NVME_IO_WRITE, 0, 1, a);
	rig_submit(&r->io, &write);
	rig_run(r, 1);
	rig_submit(&r->admin, &cmd);
	nvme_ctrlr_poll(r->ctrlr);
	rig_submit(&r->io, &write);
	nvme_ctrlr_poll(r->ctrlr);
	assert_int_equal(rig_status(rig_wait(r, &r->io)), NVME_SC_FORMATTING);
	assert_int_equal(rig_status(rig_wait(r, &r->io)), 0);
	assert_int_equal(format(r, 1, 0), NVME_SC_FORMATTING);
	rig_disable(r);
	rig_enable(r, 0);
	rig_io_queue(r, &r->io, 1, RIG_ENTRIES);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 0, 1, a)), 0);
	rig_free(r);
}

/* --- ANA, namespaces that come and go, trouble --- */

static void test_ana(void **state)
{
	struct rig *r = rig_specs("mem:1m?block=512", NULL);
	uint8_t *a = rig_mem(r, 4096, 4096);

	assert_int_equal(nvme_ctrlr_ana_set(r->ctrlr, 0, NVME_ANA_OPTIMIZED), -EINVAL);
	assert_int_equal(nvme_ctrlr_ana_set(r->ctrlr, 1, 9), -EINVAL);
	assert_int_equal(nvme_ctrlr_ana_set(r->ctrlr, 1, NVME_ANA_NON_OPTIMIZED), 0);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 0, 1, a)), 0);
	assert_int_equal(nvme_ctrlr_ana_set(r->ctrlr, 1, NVME_ANA_INACCESSIBLE), 0);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 0, 1, a)), NVME_SC_ANA_INACCESSIBLE);
	assert_int_equal(io(r, rw(r, NVME_IO_WRITE, 0, 1, a)), NVME_SC_ANA_INACCESSIBLE);
	assert_int_equal(nvme_ctrlr_ana_set(r->ctrlr, 1, NVME_ANA_CHANGING), 0);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 0, 1, a)), NVME_SC_ANA_CHANGE);
	assert_int_equal(nvme_ctrlr_ana_set(r->ctrlr, 1, NVME_ANA_PERSISTENT_LOSS), 0);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 0, 1, a)), DNR(NVME_SC_ANA_PERSISTENT_LOSS));
	assert_int_equal(nvme_ctrlr_ana_set(r->ctrlr, 1, NVME_ANA_OPTIMIZED), 0);
	assert_int_equal(io(r, rw(r, NVME_IO_READ, 0, 1, a)), 0);
	rig_free(r);
}

static void test_remove_ns(void **state)
{
	struct rig *r = rig_specs("fault:mem:1m?block=512&delay_us=1000", NULL);
	struct nvme_ns_opts again = {.nsid = 1, .read_only = true};
	uint8_t *a = rig_mem(r, 4096, 4096);
	struct nvme_cmd read = rw(r, NVME_IO_READ, 0, 1, a);

	rig_submit(&r->io, &read);
	nvme_ctrlr_poll(r->ctrlr);
	assert_int_equal(nvme_subsys_ns_remove(r->subsys, 2), -ENOENT);
	assert_int_equal(nvme_subsys_ns_remove(r->subsys, 1), -EBUSY);
	rig_submit(&r->io, &read);
	assert_int_equal(rig_status(rig_wait(r, &r->io)), DNR(NVME_SC_INVALID_NS));
	assert_int_equal(rig_status(rig_wait(r, &r->io)), 0);
	assert_int_equal(nvme_subsys_ns_remove(r->subsys, 1), 0);
	assert_int_equal(io(r, read), DNR(NVME_SC_INVALID_NS));
	assert_int_equal(nvme_subsys_ns_add(r->subsys, r->bdev[0], &again, NULL, NULL), 0);
	assert_int_equal(nvme_subsys_ns_add(r->subsys, r->bdev[0], &again, NULL, NULL), -EEXIST);
	assert_int_equal(io(r, read), 0);
	assert_int_equal(io(r, rw(r, NVME_IO_WRITE, 0, 1, a)), DNR(NVME_SC_NS_PROTECTED));
	assert_int_equal(io(r, rw(r, NVME_IO_WRITE_ZEROES, 0, 1, a)), DNR(NVME_SC_NS_PROTECTED));
	assert_int_equal(format(r, 1, 0), DNR(NVME_SC_NS_PROTECTED));
	rig_free(r);
}

/* Commands in work at a reset: RDY stays until the bdev has let go of the host's memory. */
static void test_reset_in_flight(void **state)
{
	struct rig *r = rig_specs("fault:mem:1m?block=512&delay_us=5000", NULL);
	uint8_t *a = rig_mem(r, 4096, 4096);
	struct nvme_cmd read = rw(r, NVME_IO_READ, 0, 1, a), write = rw(r, NVME_IO_WRITE, 0, 1, a);
	struct nvme_ctrlr_stats st;

	for (unsigned i = 0; i < 5; i++) {
		rig_submit(&r->io, &read);
		rig_submit(&r->io, &write);
	}
	nvme_ctrlr_poll(r->ctrlr);
	nvme_ctrlr_reg_write(r->ctrlr, NVME_REG_CC, 4, 0);
	nvme_ctrlr_poll(r->ctrlr);
	assert_int_equal(rig_reg(r, NVME_REG_CSTS), NVME_CSTS_RDY);
	nvme_ctrlr_stats(r->ctrlr, &st);
	assert_int_equal(st.in_work, 10);
	rig_disable(r);
	nvme_ctrlr_stats(r->ctrlr, &st);
	assert_int_equal(st.in_work, 0);
	assert_int_equal(r->io.cq[0].status, 0); /* nothing was completed */
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_read_write),     cmocka_unit_test(test_errors),
	        cmocka_unit_test(test_zeroes_and_dsm), cmocka_unit_test(test_compare),
	        cmocka_unit_test(test_fused),          cmocka_unit_test(test_fused_is_atomic),
	        cmocka_unit_test(test_volatile_cache), cmocka_unit_test(test_format),
	        cmocka_unit_test(test_format_alone),   cmocka_unit_test(test_ana),
	        cmocka_unit_test(test_remove_ns),      cmocka_unit_test(test_reset_in_flight),
	};

	return rig_run_group(tests, ARRAY_LEN(tests));
}
