/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From a request to NVMe commands. A command carries at most the controller's limit, and of memory
 * in pieces as much as one PRP list or SGL can say:
 *
 *   one piece             PRPs (or one SGL descriptor, which is shorter to write than a list)
 *   several, SGLs there   a list of descriptors, in the list memory of the command's slot
 *   several, PRPs         pieces that meet at page boundaries; the rest goes into the next command
 *   anything else         a bounce buffer: memory that the controller does not reach, and pieces
 *                         that no whole number of blocks can be cut from
 */
#include "nvme/bdev_nvme.h"

#define WRITE_ZEROES_BLOCKS_MAX 65536u
#define DSM_BYTES_MAX           (1ull << 31) /* whole blocks, fewer than a range can count */

/* --- memory as the controller sees it --- */

/* Walks the pieces of a command's memory; neighbours count as one. */
struct pieces {
	const struct bdev_io *io;
	uint32_t iov, skip;
	uint64_t left;   /* bytes of the request from here on */
	uint64_t to_dma; /* to add to a pointer */
};

static bool piece_next(struct pieces *p, uint64_t *ret_dma, uint64_t *ret_len)
{
	uint64_t dma = 0, len = 0;

	while (p->left) {
		const struct iovec *v = &p->io->iov[p->iov];
		uint64_t here = MIN(v->iov_len - p->skip, p->left);
		uint64_t at = (uint64_t)(uintptr_t)v->iov_base + p->skip + p->to_dma;

		if (here) {
			if (len && at != dma + len)
				break;
			dma = len ? dma : at;
			len += here;
			p->left -= here;
		}
		p->iov++;
		p->skip = 0;
	}
	*ret_dma = dma;
	*ret_len = len;
	return len != 0;
}

/* Where the iov's memory lies for the controller: *ret_delta to add to pointers. False: nowhere. */
static bool reachable(struct nvme_bdev *nb, const struct bdev_io *io, uint64_t *ret_delta)
{
	struct mem_domain *d = &nb->domain;
	struct mem_region *r = io->region;
	uint64_t key;

	if (nb->host->t->identity) {
		*ret_delta = 0;
		return true;
	}
	if (!r || (!mem_region_key(r, d, &key) &&
	           (mem_region_register(r, d) || !mem_region_key(r, d, &key))))
		return false;
	*ret_delta = key - (uint64_t)(uintptr_t)r->addr;
	return true;
}

/* --- PRPs and SGLs over several pieces --- */

/* As many whole blocks as PRPs can say, into @e and @list. Returns bytes, 0: not even one. */
static uint32_t prp_pieces(const struct nvme_bdev *nb, struct pieces *p, uint64_t limit,
                           struct pst_nvme_sqe *e, uint64_t *list, uint64_t list_dma)
{
	uint64_t mask = (1ull << nb->host->page_shift) - 1, total = 0, dma, len;
	uint32_t entries = nb->hq->q.prp_stride / 8, n = 0, pages;
	bool more = true;

	while (more && total < limit && piece_next(p, &dma, &len)) {
		uint64_t at = dma;

		/* All but the first begin a page; all but the last end one. */
		if (total ? dma & mask : dma & 3)
			break;
		if (!total) {
			e->prp1 = dma;
			at = (dma | mask) + 1;
		}
		len = MIN(len, limit - total);
		more = !((dma + len) & mask);
		for (; at < dma + len; at += mask + 1) {
			if (n == entries) {
				len = at - dma;
				more = false;
				break;
			}
			list[n++] = at;
		}
		total += len;
	}
	total = ALIGN_DOWN(total, nb->ns.block_bytes);
	if (!total)
		return 0;
	pages = (uint32_t)(((e->prp1 & mask) + total + mask) >> nb->host->page_shift);
	if (pages > 1)
		e->prp2 = pages == 2 ? list[0] : list_dma;
	return (uint32_t)total;
}

static uint32_t sgl_pieces(const struct nvme_bdev *nb, struct pieces *p, uint64_t limit,
                           struct pst_nvme_sqe *e, uint64_t *list, uint64_t list_dma)
{
	struct nvme_sgl_desc *sgl = (struct nvme_sgl_desc *)(void *)list, last;
	uint32_t max = nb->hq->q.prp_stride / (uint32_t)sizeof(*sgl), n = 0, over;
	uint64_t total = 0, dma, len;

	while (n < max && total < limit && piece_next(p, &dma, &len)) {
		len = MIN(len, limit - total);
		sgl[n++] = (struct nvme_sgl_desc){.addr = le64_make(dma),
		                                  .len = le32_make((uint32_t)len)};
		total += len;
	}
	/* Whole blocks: what is over is taken from the end. */
	over = (uint32_t)(total % nb->ns.block_bytes);
	total -= over;
	while (over && n) {
		uint32_t here = le32_get(sgl[n - 1].len), cut = MIN(over, here);

		sgl[n - 1].len = le32_make(here - cut);
		over -= cut;
		n -= here == cut;
	}
	if (!total)
		return 0;
	last = (struct nvme_sgl_desc){.addr = le64_make(list_dma),
	                              .len = le32_make(n * (uint32_t)sizeof(*sgl)),
	                              .type = NVME_SGL_TYPE(NVME_SGL_LAST_SEGMENT, 0)};
	memcpy(&e->prp1, &last, sizeof(last));
	e->flags = PST_NVME_PSDT_SGL;
	return (uint32_t)total;
}

/* --- bounce buffers --- */

static int bounces_make(struct nvme_bdev *nb)
{
	struct nvme_transport *t = nb->host->t;
	int rc = mem_pool_new(&nb->bounces, t->mem_kind, nb->host->io_max_bytes, NB_BOUNCES);

	if (rc)
		return rc;
	rc = t->ops->map(t, mem_pool_region(nb->bounces), &nb->bounce_dma);
	if (rc) {
		mem_pool_free(nb->bounces);
		nb->bounces = NULL;
	}
	return rc;
}

/* Copies between the request's memory and the bounce buffer. */
static void bounce_copy(const struct nb_cmd *c, bool out)
{
	uint32_t iov = c->iov, skip = c->skip;
	uint8_t *at = c->bounce;

	for (uint32_t left = c->len_bytes; left; iov++, skip = 0) {
		const struct iovec *v = &c->io->iov[iov];
		uint32_t here = (uint32_t)MIN(v->iov_len - skip, left);

		if (out)
			memcpy(at, (char *)v->iov_base + skip, here);
		else
			memcpy((char *)v->iov_base + skip, at, here);
		at += here;
		left -= here;
	}
}

static int bounce_take(struct nvme_bdev *nb, struct nb_cmd *c, uint64_t *ret_dma)
{
	int rc = nb->bounces || c->bounce ? 0 : bounces_make(nb);

	if (rc)
		return rc;
	if (!c->bounce)
		c->bounce = mem_pool_get(nb->bounces);
	if (!c->bounce)
		return -EAGAIN;
	*ret_dma = nb->bounce_dma +
	           (uint64_t)(c->bounce - (uint8_t *)mem_pool_region(nb->bounces)->addr);
	return 0;
}

void nb_cmd_finish(struct nvme_bdev *nb, struct nb_cmd *c)
{
	if (c->bounce && c->io->op == BDEV_READ)
		bounce_copy(c, false);
}

void nb_cmd_release(struct nvme_bdev *nb, struct nb_cmd *c)
{
	if (c->bounce)
		mem_pool_put(nb->bounces, c->bounce);
	c->bounce = NULL;
	list_push_front(&nb->free, &c->link);
}

/* --- one command --- */

static void put_contiguous(struct nvme_bdev *nb, struct pst_nvme_batch *b, struct nb_cmd *c,
                           uint64_t dma)
{
	uint32_t opc = c->io->op == BDEV_READ ? PST_NVME_OPC_READ : PST_NVME_OPC_WRITE;
	uint32_t flags = c->io->flags & BDEV_FUA ? PST_NVME_FUA : 0;
	uint64_t lba = c->off_bytes >> nb->block_shift;
	uint32_t blocks = c->len_bytes >> nb->block_shift;

	/* A list of pages costs more than a descriptor; up to two pages neither is needed. */
	if (nb->host->sgl && c->len_bytes > 2u << nb->host->page_shift)
		pst_nvme_batch_rw_sgl(b, opc, c, nb->ns.nsid, lba, blocks, dma, c->len_bytes,
		                      flags);
	else
		pst_nvme_batch_rw(b, opc, c, nb->ns.nsid, lba, blocks, dma, c->len_bytes, flags);
}

static int put_bounced(struct nvme_bdev *nb, struct pst_nvme_batch *b, struct nb_cmd *c,
                       uint64_t limit)
{
	uint64_t dma;
	int rc = bounce_take(nb, c, &dma);

	if (rc)
		return rc;
	c->len_bytes = (uint32_t)limit;
	if (c->io->op == BDEV_WRITE)
		bounce_copy(c, true);
	else if (c->io->op == BDEV_WRITE_ZEROES)
		memset(c->bounce, 0, c->len_bytes);
	put_contiguous(nb, b, c, dma);
	return 0;
}

static int put_pieces(struct nvme_bdev *nb, struct pst_nvme_batch *b, struct nb_cmd *c,
                      uint64_t limit, const struct pieces *from)
{
	struct pst_nvme_sqe e = {0};
	struct pieces p = *from;
	uint64_t list_dma, *list = pst_nvme_batch_list(b, &list_dma);
	uint32_t got;

	if (nb->host->sgl)
		got = sgl_pieces(nb, &p, limit, &e, list, list_dma);
	else
		got = prp_pieces(nb, &p, limit, &e, list, list_dma);
	if (!got)
		return put_bounced(nb, b, c, limit);
	c->len_bytes = got;
	e.opc = c->io->op == BDEV_READ ? NVME_IO_READ : NVME_IO_WRITE;
	e.nsid = nb->ns.nsid;
	e.cdw10 = (uint32_t)(c->off_bytes >> nb->block_shift);
	e.cdw11 = (uint32_t)(c->off_bytes >> nb->block_shift >> 32);
	e.cdw12 = ((got >> nb->block_shift) - 1) | (c->io->flags & BDEV_FUA ? PST_NVME_FUA : 0);
	pst_nvme_batch_cmd(b, c, &e, NULL);
	return 0;
}

static int put_data(struct nvme_bdev *nb, struct pst_nvme_batch *b, struct nb_cmd *c,
                    uint64_t limit)
{
	struct pieces p = {.io = c->io, .iov = c->iov, .skip = c->skip, .left = limit}, first;
	uint64_t dma, len;

	if (!reachable(nb, c->io, &p.to_dma))
		return put_bounced(nb, b, c, limit);
	first = p;
	if (!piece_next(&p, &dma, &len))
		return -EINVAL;
	if (len < limit)
		return put_pieces(nb, b, c, limit, &first);
	if (dma & 3)
		return put_bounced(nb, b, c, limit);
	c->len_bytes = (uint32_t)limit;
	put_contiguous(nb, b, c, dma);
	return 0;
}

static int put_discard(struct nvme_bdev *nb, struct pst_nvme_batch *b, struct nb_cmd *c)
{
	struct pst_nvme_sqe e = {.opc = NVME_IO_DSM, .nsid = nb->ns.nsid, .cdw11 = NVME_DSM_AD};
	struct nvme_dsm_range r = {.nlb = le32_make(c->len_bytes >> nb->block_shift),
	                           .slba = le64_make(c->off_bytes >> nb->block_shift)};

	memcpy(pst_nvme_batch_list(b, &e.prp1), &r, sizeof(r));
	pst_nvme_batch_cmd(b, c, &e, NULL);
	return 0;
}

static int put_zeroes(struct nvme_bdev *nb, struct pst_nvme_batch *b, struct nb_cmd *c)
{
	uint64_t lba = c->off_bytes >> nb->block_shift;
	struct pst_nvme_sqe e = {.opc = NVME_IO_WRITE_ZEROES,
	                         .nsid = nb->ns.nsid,
	                         .cdw10 = (uint32_t)lba,
	                         .cdw11 = (uint32_t)(lba >> 32),
	                         .cdw12 = (c->len_bytes >> nb->block_shift) - 1};

	if (nb->ns.dealloc && nb->ns.dealloc_zeroes)
		e.cdw12 |= NVME_RW_DEAC;
	pst_nvme_batch_cmd(b, c, &e, NULL);
	return 0;
}

int nb_cmd_put(struct nvme_bdev *nb, struct pst_nvme_batch *b, struct nb_cmd *c)
{
	struct bdev_io *io = c->io;
	uint64_t left = c->len_bytes ? c->len_bytes : io->off_bytes + io->len_bytes - c->off_bytes;
	struct pst_nvme_sqe flush = {.opc = NVME_IO_FLUSH, .nsid = nb->ns.nsid};

	switch ((enum bdev_op)io->op) {
	case BDEV_READ:
	case BDEV_WRITE:
		return put_data(nb, b, c, MIN(left, nb->host->io_max_bytes));
	case BDEV_FLUSH:
		pst_nvme_batch_cmd(b, c, &flush, NULL);
		return 0;
	case BDEV_DISCARD:
		c->len_bytes = (uint32_t)MIN(left, DSM_BYTES_MAX);
		return put_discard(nb, b, c);
	case BDEV_WRITE_ZEROES:
		if (!nb->ns.write_zeroes)
			return put_bounced(nb, b, c, MIN(left, nb->host->io_max_bytes));
		c->len_bytes =
		        (uint32_t)MIN(left, (uint64_t)WRITE_ZEROES_BLOCKS_MAX << nb->block_shift);
		return put_zeroes(nb, b, c);
	}
	return -EINVAL;
}
