/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mem - memory that devices and fabrics may touch: regions, their registrations, and pools of
 * buffers cut from them. It knows nothing of what is stored in it.
 *
 * A region is a range of memory of one kind. A domain (a ring, a fabric, a device) that wants to
 * transfer to it registers it once, by callback, and finds its registration again by index; all
 * registrations end before the region does. Regions and pools belong to one loop's thread.
 */
#ifndef MEM_MEM_H
#define MEM_MEM_H

#include "base/base.h"

enum mem_kind {
	MEM_HOST = 0,   /* private anonymous */
	MEM_HUGE = 1,   /* 2 MiB pages, or an error: never a silent fallback */
	MEM_SHARED = 2, /* sealed memfd */
	                /* 3 dma-buf, 4 CUDA: later */
};

#define MEM_DOMAINS_MAX 8

struct mem_region {
	void *addr;
	size_t len_bytes;
	enum mem_kind kind;
	int fd;        /* MEM_SHARED: the memfd, else -1 */
	bool borrowed; /* the caller's memory: never unmapped here */
	struct {
		struct mem_domain *domain;
		uint64_t key;
	} reg[MEM_DOMAINS_MAX];
};

/* Something that wants memory registered. Embedded in a ring, a fabric endpoint, a device. */
struct mem_domain {
	const char *name;
	/* Returns 0 and a key, or a negative errno value. */
	int (*reg)(struct mem_domain *d, struct mem_region *r, uint64_t *ret_key);
	void (*unreg)(struct mem_domain *d, struct mem_region *r, uint64_t key);
};

/* Rounded up to whole pages, zeroed. -ENOMEM, -EINVAL (length 0), or mmap's and memfd's errors. */
int mem_region_new(struct mem_region **ret_region, enum mem_kind kind, size_t len_bytes);
/* A region over memory of the caller's, which outlives it. */
int mem_region_wrap(struct mem_region **ret_region, void *addr, size_t len_bytes);
/* Other memory for a MEM_SHARED @r, at the same address and with the same contents: who has mapped the
 * old one keeps it, and nothing that is written there shows here any more. Registrations go on to name
 * the old memory: for a domain that makes its own anew. On failure (-ENOMEM, memfd's) all is as it
 * was. */
int mem_region_renew(struct mem_region *r);
void mem_region_free(struct mem_region *r); /* ends its registrations; accepts NULL */

/* Registers @r with @d (once; again is 0 at once). -ENOSPC when MEM_DOMAINS_MAX is reached. */
int mem_region_register(struct mem_region *r, struct mem_domain *d);
void mem_region_unregister(struct mem_region *r, struct mem_domain *d);
/* True and the key when registered. */
bool mem_region_key(const struct mem_region *r, const struct mem_domain *d, uint64_t *ret_key);

/* --- pools: fixed-size buffers of one region, 4096-byte aligned where the size allows --- */

struct mem_pool;
int mem_pool_new(struct mem_pool **ret_pool, enum mem_kind kind, size_t buf_bytes, unsigned count);
void mem_pool_free(struct mem_pool *p); /* all buffers must be back (asserted); accepts NULL */
void *mem_pool_get(struct mem_pool *p); /* NULL when all are out */
void mem_pool_put(struct mem_pool *p, void *buf);
unsigned mem_pool_available(const struct mem_pool *p);
struct mem_region *mem_pool_region(struct mem_pool *p);

#endif
