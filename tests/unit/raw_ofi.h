/* SPDX-License-Identifier: BSD-3-Clause */
/* The first words of a peer of the channel ofi that speaks by hand. For tests and fuzzers. */
#ifndef TESTS_RAW_OFI_H
#define TESTS_RAW_OFI_H

#include "fabric/ofi_int.h"

/* Nothing is wrong with it; its endpoint is @name. */
static inline struct ofi_hello raw_ofi_hello(const void *name, size_t len)
{
	struct ofi_hello h = {.magic = le64_make(OFI_MAGIC),
	                      .version = le16_make(OFI_VERSION),
	                      .name_len = le16_make((uint16_t)len),
	                      .msg_max = le32_make(4096),
	                      .msg_credits = le32_make(8),
	                      .xfers_max = le32_make(4),
	                      .windows_max = le32_make(16),
	                      .token = le64_make(1),
	                      .provider = "tcp;ofi_rxm",
	                      .protocol = le32_make(FI_PROTO_RXM)};

	memcpy(h.name, name, len);
	return h;
}

#endif
