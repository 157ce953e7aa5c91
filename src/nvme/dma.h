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
