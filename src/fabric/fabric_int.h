/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fabric_int - what the providers share. Private to this room.
 */
#ifndef FABRIC_FABRIC_INT_H
#define FABRIC_FABRIC_INT_H

#include "fabric/fabric.h"

/*
 * Counts what a provider keeps on a loop: each listener and channel holds the loop from its making
 * until the last of it is gone, so that fabric_quiet() can tell. -ENOMEM.
 */
int fabric_hold(struct loop *loop);
void fabric_drop(struct loop *loop);

/* --- lists of memory --- */

/* Bytes in all; UINT64_MAX if that overflows. */
uint64_t iov_sum(const struct iovec *iov, uint32_t count);
/* Copies @len bytes that begin @off bytes into @iov. The list holds them (asserted). */
void iov_gather(void *dst, const struct iovec *iov, uint32_t count, uint64_t off, uint64_t len);
void iov_scatter(const struct iovec *iov, uint32_t count, uint64_t off, const void *src,
                 uint64_t len);
/* From one list into another; the lists may not overlap. */
void iov_move(const struct iovec *to, uint32_t to_count, uint64_t to_off, const struct iovec *from,
              uint32_t from_count, uint64_t from_off, uint64_t len);
/* All of it lies in @r. */
bool iov_inside(const struct iovec *iov, uint32_t count, const struct mem_region *r);

/*
 * What every provider checks before it starts a transfer: 0; -ERANGE (outside of the descriptor's
 * length); -EINVAL (x->len is not what the list holds, or the list leaves its region).
 */
int fabric_xfer_check(const struct chan_xfer *x);

/* An unguessable number from the kernel. 0, or -errno. */
int fabric_random(void *buf, size_t len);

#endif
