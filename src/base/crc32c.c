/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CRC32C by ISA-L, which picks the fastest kernel that the processor has. Its crc32_iscsi() is the
 * bare polynomial division; the complement before and after, which RFC 3720 asks for and which
 * makes calls compose, is done here.
 */
#include <isa-l/crc.h>

#include "base/base.h"

#define CRC_CALL_MAX (1u << 30) /* its length is an int */

uint32_t crc32c(uint32_t crc, const void *buf, size_t len)
{
	/* ISA-L only reads, though its prototype lacks the const. */
	unsigned char *p = (unsigned char *)(uintptr_t)buf;

	if (likely(len <= CRC_CALL_MAX))
		return ~crc32_iscsi(p, (int)len, ~crc);
	crc = ~crc;
	while (unlikely(len > CRC_CALL_MAX)) {
		crc = crc32_iscsi(p, (int)CRC_CALL_MAX, crc);
		p += CRC_CALL_MAX;
		len -= CRC_CALL_MAX;
	}
	return ~crc32_iscsi(p, (int)len, crc);
}
