/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands that look before they answer: Compare, the fused Compare and Write (NVM 3.2.1, Base
 * 3.4.2), and Dataset Management, whose ranges are data.
 *
 * A compare-and-write holds the gate of its namespace (ctrlr_gate.c) from its read to the end of
 * its write, so that no other write falls between them. It may have one block (ACWU 0).
 */
#include "nvme/ctrlr_int.h"

static struct nvme_req *io_req(struct bdev_io *io)
{
	return container_of(io, struct nvme_req, io);
}

/* What was read into the bounce buffer, against the host's data. */
static bool same(const struct nvme_req *r)
{
	const uint8_t *have = r->bounce;

	for (uint32_t i = 0; i < r->iov_count; i++) {
		if (memcmp(have, r->iov[i].iov_base, r->iov[i].iov_len))
			return false;
		have += r->iov[i].iov_len;
	}
	return true;
}

/* Checks, and fills r->io but for op and memory. */
static uint16_t prepare(struct nvme_req *r, struct nvme_ns **ret_ns)
{
	uint64_t off = 0, len = 0;
	uint16_t st = io_ns(r, ret_ns);

	if (!st)
		st = io_range(r, *ret_ns, &off, &len);
	if (!st)
		st = len > r->c->data_max ? ERR(NVME_SC_INVALID_FIELD) : data_map(r, (uint32_t)len);
	if (st)
		return st;
	r->io.flags = 0;
	r->io.off_bytes = off;
	r->io.len_bytes = len;
	return 0;
}

/* --- Compare --- */

static void compare_done(struct bdev_io *io)
{
	struct nvme_req *r = io_req(io);
	uint16_t st = bdev_status(r, io->status);

	if (!st && ctrlr_lives(r->c) && !same(r))
		st = ERR(NVME_SC_COMPARE);
	req_complete(r, st);
}

void compare_start(struct nvme_req *r)
{
	struct nvme_ns *ns = NULL;
	uint16_t st = prepare(r, &ns);

	if (st) {
		req_complete(r, st);
		return;
	}
	ns->users++;
	r->ns = ns;
	r->io.op = BDEV_READ;
	if (io_bounce(r))
		io_submit(r, compare_done);
}

/* --- Compare and Write: @first holds the gate for both --- */

static void fused_end(struct nvme_req *first, uint16_t st, uint16_t second_st)
{
	struct nvme_req *second = first->other;

	first->other = second->other = NULL;
	req_complete(first, st);
	req_complete(second, second_st);
}

static void fused_written(struct bdev_io *io)
{
	struct nvme_req *second = io_req(io);

	fused_end(second->other, 0, bdev_status(second, io->status));
}

static void fused_write(struct nvme_req *first, struct nvme_req *second)
{
	struct bdev *b = first->ns->bdev;

	second->bounce = mem_alloc_pages(second->len);
	if (!second->bounce) {
		fused_end(first, NVME_SC_ABORTED_FUSED, NVME_SC_INTERNAL);
		return;
	}
	/* By way of a copy, since the bdev may want it aligned; it is one block. */
	data_get(second, second->bounce);
	second->bounce_iov = (struct iovec){.iov_base = second->bounce, .iov_len = second->len};
	second->io.op = BDEV_WRITE;
	second->io.flags = (cdw(second->cmd.cdw12) & NVME_RW_FUA) || !second->c->feat.write_cache
	                           ? BDEV_FUA
	                           : 0;
	second->io.iov = &second->bounce_iov;
	second->io.iov_count = 1;
	second->io.done = fused_written;
	bdev_submit(b, &second->io);
}

static void fused_read(struct bdev_io *io)
{
	struct nvme_req *first = io_req(io);
	uint16_t st = bdev_status(first, io->status);

	if (!ctrlr_lives(first->c))
		fused_end(first, 0, 0); /* nobody will hear of it */
	else if (st)
		fused_end(first, st, NVME_SC_ABORTED_FUSED);
	else if (!same(first))
		fused_end(first, ERR(NVME_SC_COMPARE), NVME_SC_ABORTED_FUSED);
	else
		fused_write(first, first->other);
}

static void fused_run(struct nvme_req *first)
{
	first->bounce = mem_alloc_pages(first->len);
	if (!first->bounce) {
		fused_end(first, NVME_SC_INTERNAL, NVME_SC_ABORTED_FUSED);
		return;
	}
	first->bounce_iov = (struct iovec){.iov_base = first->bounce, .iov_len = first->len};
	first->io.op = BDEV_READ;
	first->io.iov = &first->bounce_iov;
	first->io.iov_count = 1;
	io_submit(first, fused_read);
}

static uint16_t fused_second(struct nvme_req *second, const struct nvme_req *first)
{
	struct nvme_ns *ns = NULL;
	uint16_t st = prepare(second, &ns);

	if (!st && ns->read_only)
		st = ERR(NVME_SC_NS_PROTECTED);
	if (!st && (second->cmd.nsid != first->cmd.nsid ||
	            second->io.off_bytes != first->io.off_bytes || second->len != first->len))
		st = ERR(NVME_SC_INVALID_FIELD);
	return st;
}

void fused_start(struct nvme_req *first, struct nvme_req *second)
{
	struct nvme_ns *ns = NULL;
	uint16_t st;

	if (first->cmd.opc != NVME_IO_COMPARE || second->cmd.opc != NVME_IO_WRITE) {
		req_complete(first, ERR(NVME_SC_INVALID_FIELD));
		req_complete(second, ERR(NVME_SC_INVALID_FIELD));
		return;
	}
	st = prepare(first, &ns);
	if (!st && first->len > 1u << ns->lba_shift)
		st = ERR(NVME_SC_ATOMIC_EXCEEDED);
	if (st) {
		req_complete(first, st);
		req_complete(second, NVME_SC_ABORTED_FUSED);
		return;
	}
	st = fused_second(second, first);
	if (st) {
		req_complete(first, NVME_SC_ABORTED_FUSED);
		req_complete(second, st);
		return;
	}
	first->other = second;
	second->other = first;
	gate_hold(first, ns, false, fused_run);
}

/* --- Dataset Management: only Deallocate does something; the other attributes are hints --- */

static void dsm_next(struct nvme_req *r);

static void dsm_done(struct bdev_io *io)
{
	struct nvme_req *r = io_req(io);
	uint16_t st = bdev_status(r, io->status);

	if (st || !ctrlr_lives(r->c))
		req_complete(r, st);
	else
		dsm_next(r);
}

/* The next range that is not empty; all were checked. */
static void dsm_next(struct nvme_req *r)
{
	const struct nvme_dsm_range *ranges = (const void *)r->bounce;

	while (r->step < r->step_count) {
		const struct nvme_dsm_range *g = &ranges[r->step++];

		if (!g->nlb)
			continue;
		r->io.op = BDEV_DISCARD;
		r->io.off_bytes = le64_get(g->slba) << r->ns->lba_shift;
		r->io.len_bytes = (uint64_t)le32_get(g->nlb) << r->ns->lba_shift;
		io_submit(r, dsm_done);
		return;
	}
	req_complete(r, 0);
}

static uint16_t dsm_check(const struct nvme_req *r, const struct nvme_ns *ns)
{
	const struct nvme_dsm_range *ranges = (const void *)r->bounce;

	for (uint32_t i = 0; i < r->step_count; i++) {
		uint64_t slba = le64_get(ranges[i].slba);

		if (slba > ns->blocks || le32_get(ranges[i].nlb) > ns->blocks - slba)
			return ERR(NVME_SC_LBA_RANGE);
	}
	return 0;
}

void dsm_start(struct nvme_req *r)
{
	struct nvme_ns *ns = NULL;
	uint16_t st = io_ns(r, &ns);
	bool deallocate = cdw(r->cmd.cdw11) & NVME_DSM_AD;

	r->step = 0;
	r->step_count = NVME_DSM_NR(cdw(r->cmd.cdw10)) + 1;
	if (!st)
		st = data_map(r, r->step_count * sizeof(struct nvme_dsm_range));
	if (!st && deallocate && ns->read_only)
		st = ERR(NVME_SC_NS_PROTECTED);
	if (!st) {
		r->bounce = mem_alloc(r->len); /* a copy: the host may change what it gave */
		st = r->bounce ? 0 : NVME_SC_INTERNAL;
	}
	if (!st) {
		data_get(r, r->bounce);
		st = dsm_check(r, ns);
	}
	if (st || !deallocate || !ns->bdev->info.discard) {
		req_complete(r, st);
		return;
	}
	r->io.flags = 0;
	r->io.iov_count = 0;
	gate_enter(r, ns, dsm_next);
}
