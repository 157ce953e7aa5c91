/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads and writes as nearly all of them are: PRP 1 alone, within 4096 bytes, in the controller's
 * window of host memory; a namespace that may be used; nothing at its gate; memory as the bdev
 * wants it. All of that is looked at once and in a straight line, then the bdev has the request,
 * and its end is a completion entry. Whatever is not so goes to io_start(), and at the end to
 * req_complete(), which know everything: nothing here decides on an error, and nothing has been
 * changed before the last look.
 */
#include "nvme/ctrlr_int.h"

#define PLAIN_BYTES 4096u /* the smallest page of a host: what lies in one needs no PRP 2 */

_Static_assert(offsetof(struct nvme_cmd, cdw11) == offsetof(struct nvme_cmd, cdw10) + 4,
               "SLBA is cdw10 and cdw11");

static __attribute__((noinline, cold)) void odd_end(struct nvme_req *r)
{
	req_complete(r, bdev_status(r, r->io.status));
}

static inline __attribute__((always_inline)) void plain_end(struct bdev_io *io, bool mutates)
{
	struct nvme_req *r = container_of(io, struct nvme_req, io);
	struct ctrlr_sq *sq = r->sq;
	struct ctrlr_cq *cq = sq->cq;
	struct nvme_ctrlr *c = r->c;
	struct nvme_ns *ns = r->ns;

	if (unlikely(io->status || !ctrlr_lives(c) || cq_is_full(cq) || !list_empty(&ns->gate))) {
		odd_end(r);
		return;
	}
	ns->users--;
	if (mutates) {
		ns->mutators--;
		r->mutates = false;
	}
	r->ns = NULL;
	cqe_write(c, sq, cq, le16_get(r->cmd.cid), 0, 0);
	req_return(c, sq, r);
}

static void plain_read_done(struct bdev_io *io)
{
	plain_end(io, false);
}

static void plain_write_done(struct bdev_io *io)
{
	plain_end(io, true);
}

static inline __attribute__((always_inline)) bool
plain_prepare(struct nvme_ctrlr *c, struct nvme_req *r, struct nvme_ns **ret_ns, uint64_t *ret_len)
{
	uint32_t index = cdw(r->cmd.nsid) - 1, cdw12 = cdw(r->cmd.cdw12), nlb = cdw12 + 1;
	uint64_t slba = cdw(r->cmd.cdw10) | (uint64_t)cdw(r->cmd.cdw11) << 32, after, len;
	uint64_t prp1 = le64_get(r->cmd.prp1), at = prp1 - c->window->addr;
	struct nvme_ns *ns;
	uint8_t *mem;

	if (unlikely(index >= NVME_SUBSYS_NS_MAX || cdw12 > 0xffff)) /* flags, FUA among them */
		return false;
	ns = c->usable[index];
	if (unlikely(!ns || __builtin_sub_overflow(ns->blocks, slba, &after) || nlb > after))
		return false;
	len = (uint64_t)nlb << ns->lba_shift;
	/* Pages of the window are whole: the first byte's being in it is enough. */
	if (unlikely((prp1 & 3) || (prp1 & (PLAIN_BYTES - 1)) + len > PLAIN_BYTES ||
	             at >= c->window->len))
		return false;
	mem = (uint8_t *)((uintptr_t)c->window->mem + at);
	if (unlikely(((uintptr_t)mem | len) & ns->mem_mask))
		return false;
	r->iov[0].iov_base = mem;
	r->iov[0].iov_len = len;
	r->iov_count = 1;
	r->io.iov = r->iov;
	r->io.iov_count = 1;
	r->io.off_bytes = slba << ns->lba_shift;
	r->io.len_bytes = len;
	*ret_ns = ns;
	*ret_len = len;
	return true;
}

void plain_read(struct nvme_ctrlr *c, struct nvme_req *r)
{
	struct nvme_ns *ns;
	uint64_t len;

	if (unlikely(!plain_prepare(c, r, &ns, &len))) {
		io_start(r);
		return;
	}
	c->reads++;
	c->bytes_read += len;
	ns->users++;
	r->ns = ns;
	r->io.op = BDEV_READ;
	r->io.flags = 0;
	r->io.done = plain_read_done;
	bdev_submit(ns->bdev, &r->io);
}

bool plain_write(struct nvme_ctrlr *c, struct nvme_req *r)
{
	struct nvme_ns *ns;
	uint64_t len;

	if (unlikely(!plain_prepare(c, r, &ns, &len) || ns->read_only || ns->holder ||
	             !list_empty(&ns->gate))) {
		io_start(r);
		return false;
	}
	c->writes++;
	c->bytes_written += len;
	ns->users++;
	ns->mutators++;
	r->mutates = true;
	r->ns = ns;
	r->io.op = BDEV_WRITE;
	r->io.flags = likely(c->feat.write_cache) ? 0 : BDEV_FUA;
	r->io.done = plain_write_done;
	bdev_submit(ns->bdev, &r->io);
	return true;
}
