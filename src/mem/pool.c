/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pools: a region cut into buffers of one size. Free buffers are a stack, so that the one used
 * last, whose cache lines and TLB entry are warm, is handed out first.
 */
#include "mem/mem.h"

#define BUF_ALIGN   4096 /* what direct I/O wants at most */
#define SMALL_ALIGN 64   /* a cache line, for buffers below BUF_ALIGN */

struct mem_pool {
	struct mem_region *region;
	size_t stride_bytes;
	unsigned count, available;
	void *free[]; /* [0, available) */
};

int mem_pool_new(struct mem_pool **ret_pool, enum mem_kind kind, size_t buf_bytes, unsigned count)
{
	size_t align = buf_bytes < BUF_ALIGN ? SMALL_ALIGN : BUF_ALIGN, stride, total;
	struct mem_pool *p;
	int rc;

	if (!buf_bytes || !count || buf_bytes > PTRDIFF_MAX - align)
		return -EINVAL;
	stride = ALIGN_UP(buf_bytes, align);
	if (__builtin_mul_overflow(stride, (size_t)count, &total))
		return -EINVAL;
	p = mem_alloc(sizeof(*p) + count * sizeof(p->free[0]));
	if (!p)
		return -ENOMEM;
	rc = mem_region_new(&p->region, kind, total);
	if (rc) {
		mem_free(p);
		return rc;
	}
	p->stride_bytes = stride;
	p->count = p->available = count;
	for (unsigned i = 0; i < count; i++)
		p->free[i] = (char *)p->region->addr + (count - 1 - i) * stride;
	*ret_pool = p;
	return 0;
}

void mem_pool_free(struct mem_pool *p)
{
	if (!p)
		return;
	pst_assert(p->available == p->count);
	mem_region_free(p->region);
	mem_free(p);
}

void *mem_pool_get(struct mem_pool *p)
{
	return p->available ? p->free[--p->available] : NULL;
}

void mem_pool_put(struct mem_pool *p, void *buf)
{
	size_t at = (size_t)((char *)buf - (char *)p->region->addr);

	pst_assert(p->available < p->count);
	pst_assert_slow(at % p->stride_bytes == 0 && at / p->stride_bytes < p->count);
	p->free[p->available++] = buf;
}

unsigned mem_pool_available(const struct mem_pool *p)
{
	return p->available;
}

struct mem_region *mem_pool_region(struct mem_pool *p)
{
	return p->region;
}
