/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * penstock/mem.h - memory that devices can reach directly.
 *
 * Every call takes ordinary memory. Buffers from here are aligned and registered with the devices
 * once, so that large reads and writes need no copy and no pinning per call; others may go through
 * a bounce buffer.
 */
#ifndef PENSTOCK_MEM_H
#define PENSTOCK_MEM_H

#include "penstock/types.h"

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

struct pst_client;

/*
 * pst_mem_alloc - @len_bytes of zeroed memory, aligned to 4096 bytes or more.
 *
 * Cut buffers from one large allocation rather than making many: opts.mem_regions_max limits how
 * many there are. *ret_addr belongs to the caller until pst_mem_free(). Blocks shortly.
 *
 * -EINVAL: length 0. -ENOSPC: too many. -ENOMEM; others of mmap(2).
 */
int pst_mem_alloc(struct pst_client *client, size_t len_bytes, void **ret_addr);

/*
 * pst_mem_free - give it back. NULL is accepted. No call may be using it.
 *
 * -EINVAL: @addr was not returned by pst_mem_alloc() of this client.
 */
int pst_mem_free(struct pst_client *client, void *addr);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
