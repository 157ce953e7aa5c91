/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Format NVM (Base 5.14): all of a namespace reads as zeroes afterwards, and its blocks may have
 * another size. The namespace refuses I/O meanwhile (Format In Progress), and what was under way
 * ends first (the gate). With NSID FFFFFFFFh all namespaces, one after the other.
 */
#include "nvme/ctrlr_int.h"

/* Formats of a namespace: of 512 bytes where the bdev has such blocks, then of 4096. */
static uint8_t lba_shift_of(const struct nvme_ns *ns, unsigned index)
{
	uint8_t first = ns->bdev->info.block_bytes == 512 ? 9 : 12;

	if (index == 0)
		return first;
	return index == 1 && first == 9 ? 12 : 0;
}

static uint32_t format_index(const struct nvme_req *r)
{
	uint32_t cdw10 = cdw(r->cmd.cdw10);

	return NVME_FORMAT_LBAFL(cdw10) | NVME_FORMAT_LBAFU(cdw10) << 4;
}

static void format_next(struct nvme_req *r);

/* This namespace is through, with @st; or was left as it is, partly erased, by a reset. */
static void format_end(struct nvme_req *r, uint16_t st)
{
	struct nvme_ns *ns = r->ns;
	bool whole = !st && ctrlr_lives(r->c);

	if (whole) {
		ns->lba_shift = lba_shift_of(ns, format_index(r));
		ns->blocks = ns->bdev->info.size_bytes >> ns->lba_shift;
		ns_changed(ns, r->c);
	}
	ns->closed = ns->leaving;
	ns_update(ns);
	if (!whole || !r->step_count) {
		req_complete(r, st);
		return;
	}
	gate_leave(r);
	format_next(r);
}

static void format_step(struct nvme_req *r);

static void format_done(struct bdev_io *io)
{
	struct nvme_req *r = container_of(io, struct nvme_req, io);

	r->off += io->len_bytes;
	if (io->status || !ctrlr_lives(r->c))
		format_end(r, bdev_status(r, io->status));
	else
		format_step(r);
}

static void format_flushed(struct bdev_io *io)
{
	struct nvme_req *r = container_of(io, struct nvme_req, io);

	format_end(r, bdev_status(r, io->status));
}

static void format_step(struct nvme_req *r)
{
	r->io.flags = 0;
	r->io.iov_count = 0;
	if (r->off == r->end) {
		r->io.op = BDEV_FLUSH;
		io_submit(r, format_flushed);
		return;
	}
	r->io.op = BDEV_WRITE_ZEROES;
	r->io.off_bytes = r->off;
	r->io.len_bytes = MIN(r->end - r->off, FORMAT_CHUNK);
	io_submit(r, format_done);
}

static void format_run(struct nvme_req *r)
{
	if (!ctrlr_lives(r->c)) {
		format_end(r, 0);
		return;
	}
	r->off = 0;
	r->end = ALIGN_DOWN(r->ns->bdev->info.size_bytes, r->ns->bdev->info.block_bytes);
	format_step(r);
}

static uint16_t format_check(const struct nvme_req *r, const struct nvme_ns *ns)
{
	if (!lba_shift_of(ns, format_index(r)) ||
	    !(ns->bdev->info.size_bytes >> lba_shift_of(ns, format_index(r))))
		return ERR(NVME_SC_FORMAT_INVALID);
	if (ns->read_only)
		return ERR(NVME_SC_NS_PROTECTED);
	if (ns->closed)
		return ns->leaving ? ERR(NVME_SC_INVALID_NS) : NVME_SC_FORMATTING;
	return 0;
}

/* The next namespace from r->step on; all were checked, but one may have left since. */
static void format_next(struct nvme_req *r)
{
	while (r->step < NVME_SUBSYS_NS_MAX) {
		struct nvme_ns *ns = r->c->subsys->ns[r->step++];

		if (!ns || ns->closed)
			continue;
		ns->closed = true;
		ns_update(ns);
		gate_hold(r, ns, true, format_run);
		return;
	}
	req_complete(r, 0);
}

uint16_t format_start(struct nvme_req *r)
{
	uint32_t nsid = cdw(r->cmd.nsid), cdw10 = cdw(r->cmd.cdw10);
	bool all = nsid == NVME_NSID_ALL;
	uint16_t st = 0;

	if (NVME_FORMAT_SES(cdw10) > 1)
		return ERR(NVME_SC_INVALID_FIELD);
	if (NVME_FORMAT_PI(cdw10) || NVME_FORMAT_MSET(cdw10))
		return ERR(NVME_SC_FORMAT_INVALID);
	if (!all && !subsys_ns(r->c->subsys, nsid))
		return ERR(NVME_SC_INVALID_NS);
	for (uint32_t i = all ? 1 : nsid; i <= (all ? NVME_SUBSYS_NS_MAX : nsid) && !st; i++) {
		if (subsys_ns(r->c->subsys, i))
			st = format_check(r, subsys_ns(r->c->subsys, i));
	}
	if (st)
		return st;
	r->step = all ? 0 : nsid - 1;
	r->step_count = all;
	format_next(r);
	return PENDING;
}
