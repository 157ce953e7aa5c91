/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The map of dma.h. Readers are ordered against the one writer by a sequence count: the writer makes
 * it odd, changes a range, and makes it even again; a reader that saw it odd, or changed, looks
 * again. Instead of fences (which ThreadSanitizer doesn't know) each field is stored with release, so
 * after the odd count, and loaded with acquire, so before the second look at the count.
 */
#include "nvme/dma.h"

#define LOAD(x)     __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define STORE(x, v) __atomic_store_n(&(x), v, __ATOMIC_RELEASE)

void nvme_dma_map_init(struct nvme_dma_map *m)
{
	memset(m, 0, sizeof(*m));
}

static void range_set(struct nvme_dma_map *m, struct nvme_dma_range *r, uint64_t addr, void *mem,
                      uint64_t len)
{
	STORE(m->seq, m->seq + 1); /* who loads a new field below finds the count changed */
	STORE(r->addr, addr);
	STORE(r->len, len);
	STORE(r->mem, (uint8_t *)mem);
	STORE(m->seq, m->seq + 1); /* who loads the even count finds the fields */
}

int nvme_dma_map_add(struct nvme_dma_map *m, uint64_t addr, void *mem, uint64_t len_bytes)
{
	struct nvme_dma_range *hole = NULL;

	if (!len_bytes || len_bytes - 1 > UINT64_MAX - addr)
		return -EINVAL;
	for (uint32_t i = 0; i < m->count; i++) {
		struct nvme_dma_range *r = &m->range[i];

		if (!r->len) {
			hole = hole ? hole : r;
			continue;
		}
		if (addr <= r->addr + (r->len - 1) && r->addr <= addr + (len_bytes - 1))
			return -EEXIST;
	}
	if (!hole) {
		if (m->count == NVME_DMA_RANGES_MAX)
			return -ENOSPC;
		hole = &m->range[m->count];
		range_set(m, hole, addr, mem, len_bytes);
		STORE(m->count, m->count + 1);
		return 0;
	}
	range_set(m, hole, addr, mem, len_bytes);
	return 0;
}

int nvme_dma_map_add_self(struct nvme_dma_map *m, void *mem, uint64_t len_bytes)
{
	return nvme_dma_map_add(m, (uintptr_t)mem, mem, len_bytes);
}

int nvme_dma_map_del(struct nvme_dma_map *m, uint64_t addr)
{
	for (uint32_t i = 0; i < m->count; i++) {
		struct nvme_dma_range *r = &m->range[i];

		if (r->len && r->addr == addr) {
			range_set(m, r, 0, NULL, 0);
			return 0;
		}
	}
	return -ENOENT;
}

void *nvme_dma_map_translate(void *arg, uint64_t addr, size_t len)
{
	const struct nvme_dma_map *m = arg;
	uint32_t seq, count;
	uint8_t *found;

	do {
		seq = LOAD(m->seq);
		count = LOAD(m->count);
		found = NULL;
		for (uint32_t i = 0; i < count; i++) {
			uint64_t off = addr - LOAD(m->range[i].addr), end = LOAD(m->range[i].len);

			if (off < end && len <= end - off) {
				found = LOAD(m->range[i].mem) + off;
				break;
			}
		}
	} while (unlikely((seq & 1) || LOAD(m->seq) != seq));
	return found;
}
