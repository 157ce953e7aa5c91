/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dma - which addresses a controller may reach, and where they lie in this process: what an IOMMU's
 * table is to a real device. The host's side adds and removes ranges; the controller translates,
 * from the same thread or another one. A host in the same process maps memory at its own pointers.
 *
 * One writer at a time, any number of readers; a reader never sees half a change.
 */
#ifndef NVME_DMA_H
#define NVME_DMA_H

#include "base/base.h"

#define NVME_DMA_RANGES_MAX 64u

/*
 * Part of what a controller may reach, looked at before its dma() is asked. Whole pages of 4096
 * bytes, so that what lies in one page lies in the window when its first byte does. Only for owners
 * on the controller's thread: what is in it when a command comes must be the host's.
 */
struct nvme_dma_window {
	uint64_t addr, len; /* len 0: closed */
	uint8_t *mem;
};

static inline void nvme_dma_window_close(struct nvme_dma_window *w)
{
	w->len = 0;
}

/* On the pages that lie within [@addr, @addr + @len), which is at @mem. */
static inline void nvme_dma_window_open(struct nvme_dma_window *w, uint64_t addr, uint8_t *mem,
                                        uint64_t len)
{
	uint64_t skip = -addr & 4095;

	w->addr = addr + skip;
	w->mem = (uint8_t *)((uintptr_t)mem + skip);
	w->len = len > skip ? ALIGN_DOWN(len - skip, (uint64_t)4096) : 0;
}

/* NULL: not in there, ask dma(). */
static inline uint8_t *nvme_dma_window_find(const struct nvme_dma_window *w, uint64_t addr,
                                            uint64_t len)
{
	uint64_t off = addr - w->addr;

	return off < w->len && len <= w->len - off ? (uint8_t *)((uintptr_t)w->mem + off) : NULL;
}

struct nvme_dma_range {
	uint64_t addr; /* what the host writes into commands */
	uint64_t len;  /* bytes; 0: not in use */
	uint8_t *mem;  /* where it is here */
};

struct nvme_dma_map {
	uint32_t seq; /* odd while the writer changes something */
	uint32_t count;
	struct nvme_dma_range range[NVME_DMA_RANGES_MAX];
};

void nvme_dma_map_init(struct nvme_dma_map *m);
/*
 * The @len_bytes at @mem are at @addr for the controller. -EINVAL: length 0, or an end beyond 2^64;
 * -EEXIST: overlaps a range that is there; -ENOSPC: NVME_DMA_RANGES_MAX are in use.
 */
int nvme_dma_map_add(struct nvme_dma_map *m, uint64_t addr, void *mem, uint64_t len_bytes);
/* As add, at its own pointer: address and memory are the same number. */
int nvme_dma_map_add_self(struct nvme_dma_map *m, void *mem, uint64_t len_bytes);
/*
 * Ends the range that begins at @addr; -ENOENT. The caller sees to it that no command and no queue
 * that still uses it is with the controller: what was translated before stays in use there.
 */
int nvme_dma_map_del(struct nvme_dma_map *m, uint64_t addr);
/* The memory behind [@addr, @addr + @len), all of it in one range; else NULL. @arg: the map (it
 * has the shape of nvme_ctrlr_opts.dma). */
void *nvme_dma_map_translate(void *arg, uint64_t addr, size_t len);

#endif
