/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * I/O commands on bdevs: Read, Write, Write Zeroes, Flush (NVM 3.2). Compare, fused commands and
 * Dataset Management are in ctrlr_rmw.c. Data moves between the host's memory and
 * the bdev directly, unless the bdev wants an alignment that the host did not keep.
 */
#include "nvme/ctrlr_int.h"

/* --- statuses --- */

uint16_t bdev_status(const struct nvme_req *r, int rc)
{
	switch (rc) {
	case 0:
		return NVME_SC_SUCCESS;
	case -EIO:
		r->c->media_errors++;
		return r->io.op == BDEV_READ ? NVME_SC_READ_ERROR : NVME_SC_WRITE_FAULT;
	case -ENOSPC:
		return NVME_SC_CAPACITY;
	case -EROFS:
		return ERR(NVME_SC_NS_PROTECTED);
	default: /* -ENODEV, -EREMOTEIO, -ENOMEM and what a checked request should not get */
		return NVME_SC_INTERNAL;
	}
}

/* Of a state that no I/O passes. */
static __attribute__((noinline, cold)) uint16_t ana_status(enum nvme_ana_state state)
{
	switch (state) {
	case NVME_ANA_INACCESSIBLE:
		return NVME_SC_ANA_INACCESSIBLE;
	case NVME_ANA_PERSISTENT_LOSS:
		return ERR(NVME_SC_ANA_PERSISTENT_LOSS);
	default:
		return NVME_SC_ANA_CHANGE;
	}
}

static __attribute__((noinline, cold)) uint16_t ns_status(const struct nvme_ns *ns)
{
	return ns->leaving ? ERR(NVME_SC_INVALID_NS) : NVME_SC_FORMATTING;
}

static inline __attribute__((always_inline)) uint16_t ns_find(struct nvme_req *r,
                                                              struct nvme_ns **ret_ns)
{
	uint32_t nsid = cdw(r->cmd.nsid);
	struct nvme_ns *ns = NULL;

	if (unlikely((r->cmd.flags & NVME_CMD_PSDT_MASK) == NVME_CMD_PSDT_MASK))
		return ERR(NVME_SC_INVALID_FIELD);
	if (unlikely(nsid - 1 >= NVME_SUBSYS_NS_MAX || !r->c->subsys->ns[nsid - 1]))
		return ERR(NVME_SC_INVALID_NS);
	ns = r->c->subsys->ns[nsid - 1];
	if (unlikely(ns->closed))
		return ns_status(ns);
	if (unlikely(r->c->ana[ns->ana_group] > NVME_ANA_NON_OPTIMIZED))
		return ana_status(r->c->ana[ns->ana_group]);
	*ret_ns = ns;
	return 0;
}

uint16_t io_ns(struct nvme_req *r, struct nvme_ns **ret_ns)
{
	return ns_find(r, ret_ns);
}

static inline __attribute__((always_inline)) uint16_t
range_find(const struct nvme_req *r, const struct nvme_ns *ns, uint64_t *ret_off, uint64_t *ret_len)
{
	uint64_t slba = cdw(r->cmd.cdw10) | (uint64_t)cdw(r->cmd.cdw11) << 32;
	uint32_t nlb = NVME_RW_NLB(cdw(r->cmd.cdw12)) + 1;

	if (unlikely(slba > ns->blocks || nlb > ns->blocks - slba))
		return ERR(NVME_SC_LBA_RANGE);
	*ret_off = slba << ns->lba_shift;
	*ret_len = (uint64_t)nlb << ns->lba_shift;
	return 0;
}

uint16_t io_range(const struct nvme_req *r, const struct nvme_ns *ns, uint64_t *ret_off,
                  uint64_t *ret_len)
{
	return range_find(r, ns, ret_off, ret_len);
}

static inline uint16_t data_find(struct nvme_req *r, uint64_t len)
{
	return unlikely(len > r->c->data_max) ? ERR(NVME_SC_INVALID_FIELD)
	                                      : data_map(r, (uint32_t)len);
}

/* --- to the bdev and back --- */

/* The pieces of host memory as they are, if the bdev can take them so. */
static bool pieces_fit(const struct nvme_req *r, uint32_t mask)
{
	for (uint32_t i = 0; i < r->iov_count; i++) {
		if (((uintptr_t)r->iov[i].iov_base | r->iov[i].iov_len) & mask)
			return false;
	}
	return true;
}

bool io_bounce(struct nvme_req *r)
{
	r->bounce = mem_alloc_pages(r->len);
	if (!r->bounce) {
		req_complete(r, NVME_SC_INTERNAL);
		return false;
	}
	r->bounce_iov = (struct iovec){.iov_base = r->bounce, .iov_len = r->len};
	r->io.iov = &r->bounce_iov;
	r->io.iov_count = 1;
	return true;
}

void io_submit(struct nvme_req *r, void (*done)(struct bdev_io *io))
{
	r->io.done = done;
	bdev_submit(r->ns->bdev, &r->io);
}

static inline bool data_attach(struct nvme_req *r, const struct nvme_ns *ns)
{
	r->io.iov = r->iov;
	r->io.iov_count = r->iov_count;
	if (likely(!ns->mem_mask) || pieces_fit(r, ns->mem_mask))
		return true;
	if (!io_bounce(r))
		return false;
	if (r->io.op == BDEV_WRITE)
		data_get(r, r->bounce);
	return true;
}

static inline struct nvme_req *io_req(struct bdev_io *io)
{
	return container_of(io, struct nvme_req, io);
}

static void last_done(struct bdev_io *io)
{
	struct nvme_req *r = io_req(io);

	req_complete(r, bdev_status(r, io->status));
}

static void read_done(struct bdev_io *io)
{
	struct nvme_req *r = io_req(io);

	if (!io->status && r->bounce && ctrlr_lives(r->c))
		data_put(r, r->bounce, r->len);
	req_complete(r, bdev_status(r, io->status));
}

/* --- Read, Write --- */

static void read_after_flush(struct bdev_io *io)
{
	struct nvme_req *r = io_req(io);

	if (io->status || !ctrlr_lives(r->c)) {
		req_complete(r, bdev_status(r, io->status));
		return;
	}
	io->op = BDEV_READ;
	io_submit(r, read_done);
}

/* Forced Unit Access: what is read must be on the medium (NVM 3.2.4), so the cache is emptied
 * first. */
static __attribute__((noinline)) void read_fua(struct nvme_req *r)
{
	r->io.op = BDEV_FLUSH;
	io_submit(r, read_after_flush);
}

static void read_start(struct nvme_req *r)
{
	struct nvme_ctrlr *c = r->c;
	struct nvme_ns *ns = NULL;
	uint64_t off = 0, len = 0;
	uint16_t st = ns_find(r, &ns);

	if (likely(!st))
		st = range_find(r, ns, &off, &len);
	if (likely(!st))
		st = data_find(r, len);
	if (unlikely(st)) {
		req_complete(r, st);
		return;
	}
	c->reads++;
	c->bytes_read += len;
	r->io.op = BDEV_READ;
	r->io.flags = 0;
	r->io.off_bytes = off;
	r->io.len_bytes = len;
	ns->users++;
	r->ns = ns;
	if (unlikely(!data_attach(r, ns)))
		return;
	if (unlikely(cdw(r->cmd.cdw12) & NVME_RW_FUA) && ns->bdev->info.volatile_cache)
		read_fua(r);
	else
		io_submit(r, read_done);
}

static void write_run(struct nvme_req *r)
{
	if (unlikely(!data_attach(r, r->ns)))
		return;
	io_submit(r, last_done);
}

static inline bool must_be_durable(const struct nvme_req *r)
{
	return (cdw(r->cmd.cdw12) & NVME_RW_FUA) || !r->c->feat.write_cache;
}

static void write_start(struct nvme_req *r)
{
	struct nvme_ctrlr *c = r->c;
	struct nvme_ns *ns = NULL;
	uint64_t off = 0, len = 0;
	uint16_t st = ns_find(r, &ns);

	if (likely(!st))
		st = range_find(r, ns, &off, &len);
	if (likely(!st))
		st = data_find(r, len);
	if (likely(!st) && unlikely(ns->read_only))
		st = ERR(NVME_SC_NS_PROTECTED);
	if (unlikely(st)) {
		req_complete(r, st);
		return;
	}
	c->writes++;
	c->bytes_written += len;
	r->io.op = BDEV_WRITE;
	r->io.flags = must_be_durable(r) ? BDEV_FUA : 0;
	r->io.off_bytes = off;
	r->io.len_bytes = len;
	gate_enter(r, ns, write_run);
}

/* --- Write Zeroes --- */

static void zeroes_done(struct bdev_io *io)
{
	struct nvme_req *r = io_req(io);

	if (io->status || !must_be_durable(r) || !r->ns->bdev->info.volatile_cache ||
	    !ctrlr_lives(r->c)) {
		req_complete(r, bdev_status(r, io->status));
		return;
	}
	io->op = BDEV_FLUSH;
	io_submit(r, last_done);
}

static void zeroes_run(struct nvme_req *r)
{
	io_submit(r, zeroes_done);
}

static void zeroes_start(struct nvme_req *r)
{
	struct nvme_ns *ns = NULL;
	uint64_t off = 0, len = 0;
	uint16_t st = io_ns(r, &ns);

	if (!st)
		st = io_range(r, ns, &off, &len);
	if (!st && ns->read_only)
		st = ERR(NVME_SC_NS_PROTECTED);
	if (st) {
		req_complete(r, st);
		return;
	}
	r->io.op = BDEV_WRITE_ZEROES;
	r->io.flags = 0;
	r->io.off_bytes = off;
	r->io.len_bytes = len;
	r->io.iov_count = 0;
	gate_enter(r, ns, zeroes_run);
}

/* --- Flush --- */

static void flush_next(struct nvme_req *r);

static void flush_all_done(struct bdev_io *io)
{
	struct nvme_req *r = io_req(io);
	uint16_t st = bdev_status(r, io->status);

	if (st || !ctrlr_lives(r->c)) {
		req_complete(r, st);
		return;
	}
	gate_leave(r);
	flush_next(r);
}

/* NSID FFFFFFFFh: all namespaces, one after the other; those that can't be used now are not
 * flushed, as there was no I/O to them that could complete. */
static void flush_next(struct nvme_req *r)
{
	while (r->step < NVME_SUBSYS_NS_MAX) {
		struct nvme_ns *ns = NULL;

		r->cmd.nsid = le32_make(++r->step);
		if (io_ns(r, &ns))
			continue;
		ns->users++;
		r->ns = ns;
		io_submit(r, flush_all_done);
		return;
	}
	req_complete(r, 0);
}

static void flush_start(struct nvme_req *r)
{
	struct nvme_ns *ns = NULL;
	uint16_t st;

	r->io.op = BDEV_FLUSH;
	r->io.flags = 0;
	if (cdw(r->cmd.nsid) == NVME_NSID_ALL) {
		r->step = 0;
		flush_next(r);
		return;
	}
	st = io_ns(r, &ns);
	if (st) {
		req_complete(r, st);
		return;
	}
	ns->users++;
	r->ns = ns;
	io_submit(r, last_done);
}

void io_start(struct nvme_req *r)
{
	if (likely(r->cmd.opc == NVME_IO_READ)) {
		read_start(r);
		return;
	}
	switch (r->cmd.opc) {
	case NVME_IO_WRITE:
		write_start(r);
		break;
	case NVME_IO_FLUSH:
		flush_start(r);
		break;
	case NVME_IO_WRITE_ZEROES:
		zeroes_start(r);
		break;
	case NVME_IO_COMPARE:
		compare_start(r);
		break;
	case NVME_IO_DSM:
		dsm_start(r);
		break;
	default:
		req_complete(r, ERR(NVME_SC_INVALID_OPCODE));
	}
}
