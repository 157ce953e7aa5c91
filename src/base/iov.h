/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iov - lists of pieces of memory (struct iovec) taken as one run of bytes: how long it is, copying
 * out of it and into it, a part of it as a list of its own.
 */
#ifndef BASE_IOV_H
#define BASE_IOV_H

#include <sys/uio.h>

#include "base/base.h"

/* Bytes in all; UINT64_MAX if that overflows. */
uint64_t iov_sum(const struct iovec *iov, uint32_t count);
/* Copies @len bytes that begin @off bytes into @iov. The list holds them (asserted). */
void iov_gather(void *dst, const struct iovec *iov, uint32_t count, uint64_t off, uint64_t len);
void iov_scatter(const struct iovec *iov, uint32_t count, uint64_t off, const void *src,
                 uint64_t len);
/* From one list into another; the lists may not overlap. */
void iov_move(const struct iovec *to, uint32_t to_count, uint64_t to_off, const struct iovec *from,
              uint32_t from_count, uint64_t from_off, uint64_t len);
/*
 * The part of @iov from @off on, @len bytes or as many as it holds, in at most @max pieces into
 * @ret. Returns how many pieces; *ret_len: how many bytes they are.
 */
uint32_t iov_slice(const struct iovec *iov, uint32_t count, uint64_t off, uint64_t len,
                   struct iovec *ret, uint32_t max, uint64_t *ret_len);

#endif
