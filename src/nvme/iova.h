/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iova - addresses that a device uses, behind an IOMMU: which ranges the hardware allows, and which
 * parts of them are taken. Addresses come from here instead of being our own pointers, because an
 * IOMMU may have fewer address bits than a process.
 */
#ifndef NVME_IOVA_H
#define NVME_IOVA_H

#include "base/base.h"

#define IOVA_ALLOWED_MAX 32u
/* Below this nothing is given out: 0 stands for "none" in NVMe, and old things live there. */
#define IOVA_FIRST 0x100000ull

struct iova_range {
	uint64_t first, last; /* inclusive, so that the end of all addresses can be said */
};

struct iova_space {
	struct iova_range allowed[IOVA_ALLOWED_MAX]; /* ascending, apart */
	unsigned allowed_count;
	struct iova_range *used; /* ascending, apart */
	size_t used_count, used_max;
};

/* In ascending order (-EINVAL otherwise). What is below IOVA_FIRST is left out; -ENOSPC: too many
 * ranges. */
int iova_allow(struct iova_space *s, uint64_t first, uint64_t last);
/* Whether @s allows all that is taken in @other. */
bool iova_allows(const struct iova_space *s, const struct iova_space *other);
/* The lowest free address that is a multiple of @align (a power of two). -ENOSPC, -ENOMEM. */
int iova_take(struct iova_space *s, uint64_t len_bytes, uint64_t align, uint64_t *ret_addr);
/* The length of what was taken at @addr, which is free again; 0: nothing was. */
uint64_t iova_give(struct iova_space *s, uint64_t addr);
void iova_done(struct iova_space *s);

#endif
