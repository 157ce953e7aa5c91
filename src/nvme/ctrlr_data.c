/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a command's data lies in host memory: PRP entries and lists (Base 4.1.1), SGLs (Base
 * 4.1.2). Both become an iovec of memory that dma() allows. Each entry and descriptor is read once
 * (I1 of ctrlr_int.h); each walk ends, since every step takes data off the length or counts towards
 * SGL_DESCS_MAX.
 */
#include "nvme/ctrlr_int.h"

/* Shared memory: one load, at whatever alignment translation gave. */
typedef le64 __attribute__((aligned(1))) le64_unaligned;

static uint64_t entry_load(const uint8_t *p)
{
	return le64_get(*(const volatile le64_unaligned *)p);
}

/* Adds @n bytes of memory of this process; neighbours become one piece. */
static inline uint16_t piece_add(struct nvme_req *r, uint8_t *mem, uint32_t n)
{
	struct iovec *v = &r->iov[r->iov_count];

	if (r->iov_count && (uint8_t *)v[-1].iov_base + v[-1].iov_len == mem) {
		v[-1].iov_len += n;
		return 0;
	}
	if (unlikely(r->iov_count == r->c->opts.pieces_max))
		return ERR(NVME_SC_SGL_COUNT);
	v->iov_base = mem;
	v->iov_len = n;
	r->iov_count++;
	return 0;
}

static inline uint16_t piece_map(struct nvme_req *r, uint64_t addr, uint32_t n)
{
	uint8_t *mem = dma_get(r->c, addr, n);

	if (unlikely(!mem))
		return ERR(NVME_SC_DATA_TRANSFER);
	return piece_add(r, mem, n);
}

/* --- PRP --- */

/*
 * Walks the list at @list for the @len bytes that are left. A list runs to the end of its page; if
 * more entries are needed than fit, the page's last one points to the next list.
 */
static uint16_t prp_list(struct nvme_req *r, uint64_t list, uint32_t len)
{
	struct nvme_ctrlr *c = r->c;
	uint32_t page = c->page_bytes;

	if (list & 7)
		return ERR(NVME_SC_PRP_OFFSET);
	for (;;) {
		uint32_t room = (page - (uint32_t)(list & (page - 1))) / 8;
		uint32_t want = DIV_ROUND_UP(len, page), n = want > room ? room - 1 : want;
		const uint8_t *mem = dma_get(c, list, 8 * (want > room ? room : want));

		if (!mem)
			return ERR(NVME_SC_DATA_TRANSFER);
		for (uint32_t i = 0; i < n; i++) {
			uint64_t addr = entry_load(mem + 8ull * i);
			uint32_t part = MIN(len, page);
			uint16_t st;

			if (addr & (page - 1))
				return ERR(NVME_SC_PRP_OFFSET);
			st = piece_map(r, addr, part);
			if (st)
				return st;
			len -= part;
		}
		if (!len)
			return 0;
		list = entry_load(mem + 8ull * n);
		if (list & (page - 1))
			return ERR(NVME_SC_PRP_OFFSET);
	}
}

static uint16_t prp_more(struct nvme_req *r, uint32_t len)
{
	uint64_t prp2 = le64_get(r->cmd.prp2);

	if (len > r->c->page_bytes)
		return prp_list(r, prp2, len);
	if (prp2 & (r->c->page_bytes - 1))
		return ERR(NVME_SC_PRP_OFFSET);
	return piece_map(r, prp2, len);
}

static inline uint16_t prp_map(struct nvme_req *r, uint32_t len)
{
	uint64_t prp1 = le64_get(r->cmd.prp1);
	uint32_t page = r->c->page_bytes, first = page - (uint32_t)(prp1 & (page - 1));
	uint16_t st;

	if (unlikely(prp1 & 3))
		return ERR(NVME_SC_PRP_OFFSET);
	first = MIN(first, len);
	st = piece_map(r, prp1, first);
	if (unlikely(st) || first == len)
		return st;
	return prp_more(r, len - first);
}

/* --- SGL --- */

struct sgl_walk {
	uint64_t addr; /* of the next descriptor */
	uint32_t left; /* descriptors of this segment from there on */
	bool last;     /* no segment follows this one */
	uint32_t seen; /* descriptors so far */
	uint32_t need; /* bytes of data that are not mapped yet */
};

static void desc_copy(struct nvme_sgl_desc *ret, const void *mem)
{
	memcpy(ret, mem, sizeof(*ret));
	__asm__ __volatile__("" ::: "memory"); /* the copy is not looked up again */
}

/* A run of bytes may cross ranges that dma() only knows one by one: then page by page. */
static uint16_t sgl_data(struct nvme_req *r, uint64_t addr, uint32_t n)
{
	uint8_t *mem = n ? dma_get(r->c, addr, n) : NULL;

	if (mem)
		return piece_add(r, mem, n);
	while (n) {
		uint32_t part = MIN(n, 4096 - (uint32_t)(addr & 4095));
		uint16_t st = piece_map(r, addr, part);

		if (st)
			return st;
		addr += part;
		n -= part;
	}
	return 0;
}

static uint16_t sgl_bit_bucket(struct nvme_req *r, struct sgl_walk *w, uint32_t len)
{
	if (NVME_OPC_DIR(r->cmd.opc) != NVME_DIR_TO_HOST)
		return 0; /* counts as empty (Base 4.1.2) */
	if (len > w->need)
		return ERR(NVME_SC_SGL_DATA_LENGTH);
	w->need -= len;
	return len ? piece_add(r, r->c->trash, len) : 0;
}

/* Goes on to the segment that @d describes. */
static uint16_t sgl_segment(struct sgl_walk *w, const struct nvme_sgl_desc *d)
{
	uint32_t len = le32_get(d->len);

	if (w->last || !len || len % sizeof(*d))
		return ERR(NVME_SC_SGL_SEGMENT);
	if (w->left)
		return ERR(NVME_SC_SGL_COUNT);
	w->last = d->type >> 4 == NVME_SGL_LAST_SEGMENT;
	w->addr = le64_get(d->addr);
	w->left = len / sizeof(*d);
	return 0;
}

/* One descriptor; what it means depends on what w->left says is behind it in its segment. */
static uint16_t sgl_step(struct nvme_req *r, struct sgl_walk *w, const struct nvme_sgl_desc *d)
{
	uint32_t len = le32_get(d->len);

	if (++w->seen > SGL_DESCS_MAX)
		return ERR(NVME_SC_SGL_COUNT);
	if ((d->type & 0xf) != NVME_SGL_ADDRESS)
		return ERR(NVME_SC_SGL_TYPE);
	switch (d->type >> 4) {
	case NVME_SGL_SEGMENT:
	case NVME_SGL_LAST_SEGMENT:
		return sgl_segment(w, d);
	case NVME_SGL_DATA:
		if (len > w->need)
			return ERR(NVME_SC_SGL_DATA_LENGTH);
		w->need -= len;
		return sgl_data(r, le64_get(d->addr), len);
	case NVME_SGL_BIT_BUCKET:
		return sgl_bit_bucket(r, w, len);
	default:
		return ERR(NVME_SC_SGL_TYPE);
	}
}

static uint16_t sgl_map(struct nvme_req *r, uint32_t len)
{
	struct nvme_ctrlr *c = r->c;
	struct sgl_walk w = {.need = len};
	struct nvme_sgl_desc d = r->cmd.sgl;
	bool alone = d.type >> 4 <= NVME_SGL_BIT_BUCKET; /* the command's own is the only one */
	uint16_t st = sgl_step(r, &w, &d);

	while (!st && w.left) {
		const void *mem = dma_get(c, w.addr, sizeof(d));
		bool ends = w.left == 1 && !w.last; /* must go on to another segment */

		if (!mem)
			return ERR(NVME_SC_DATA_TRANSFER);
		desc_copy(&d, mem);
		w.addr += sizeof(d);
		w.left--;
		if (ends && d.type >> 4 <= NVME_SGL_BIT_BUCKET)
			return ERR(NVME_SC_SGL_SEGMENT);
		st = sgl_step(r, &w, &d);
	}
	if (st)
		return st;
	pst_assert_slow(alone || w.last);
	(void)alone;
	return w.need ? ERR(NVME_SC_SGL_DATA_LENGTH) : 0;
}

/* --- for commands --- */

uint16_t data_map(struct nvme_req *r, uint32_t len)
{
	r->iov_count = 0;
	r->len = len;
	if (unlikely(r->capsule))
		return capsule_map(r, len);
	if (likely((r->cmd.flags & NVME_CMD_PSDT_MASK) == NVME_CMD_PSDT_PRP))
		return prp_map(r, len);
	return sgl_map(r, len);
}

void data_put(struct nvme_req *r, const void *buf, uint32_t len)
{
	const uint8_t *from = buf;

	for (uint32_t i = 0; i < r->iov_count; i++) {
		uint32_t want = (uint32_t)r->iov[i].iov_len, n = MIN(want, len);

		memcpy(r->iov[i].iov_base, from, n);
		memset((uint8_t *)r->iov[i].iov_base + n, 0, want - n);
		from += n;
		len -= n;
	}
}

void data_get(struct nvme_req *r, void *buf)
{
	uint8_t *to = buf;

	for (uint32_t i = 0; i < r->iov_count; i++) {
		memcpy(to, r->iov[i].iov_base, r->iov[i].iov_len);
		to += r->iov[i].iov_len;
	}
}
