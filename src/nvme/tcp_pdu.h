/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tcp_pdu - NVMe/TCP PDUs as both sides read and write them (spec_fabrics.h has their bytes): the
 * checks that need no knowledge of what is under way, and digests.
 *
 * What arrives is hostile. A header is copied, then checked; data goes where the header says only
 * when whoever reads it has found that there is a place for exactly that much.
 */
#ifndef NVME_TCP_PDU_H
#define NVME_TCP_PDU_H

#include "base/iov.h"
#include "nvme/spec_fabrics.h"

#define TCP_HEAD_MAX  256u /* header, digest and padding, of any PDU */
#define TCP_PDU_MAX   (8 * 1024 * 1024u)
#define TCP_ICD_ADMIN 8192u          /* in-capsule data of the admin queue, by the specification */
#define TCP_MAXH2C    (1024 * 1024u) /* what our target takes in one PDU */
#define TCP_PDA_MAX   31u

/* What was agreed at the beginning, as the receiver of PDUs sees it. */
struct tcp_rules {
	bool hdgst, ddgst;
	bool target;    /* we are: PDUs come from a host */
	uint8_t rx_pda; /* the alignment of data that we asked for, in dwords less one */
	uint8_t tx_pda; /* that the other side asked for */
};

/* What is wrong with a PDU, for the PDU that ends the connection. */
struct tcp_fault {
	uint16_t fes; /* enum nvme_tcp_fes */
	uint32_t fei;
};

/* A header that was checked. */
struct tcp_pdu {
	union {
		struct nvme_tcp_hdr hdr;
		struct nvme_tcp_icreq icreq;
		struct nvme_tcp_icresp icresp;
		struct nvme_tcp_cmd cmd;
		struct nvme_tcp_resp resp;
		struct nvme_tcp_data data;
		struct nvme_tcp_r2t r2t;
		struct nvme_tcp_term term;
		uint8_t bytes[NVME_TCP_TERM_MAX];
	};
	uint32_t head_bytes; /* up to the data: header, digest, padding */
	uint32_t data_bytes;
	bool ddgst; /* a digest follows the data */
};

/*
 * The PDU that begins with the @len bytes at @bytes. 1 and *ret_pdu; 0: more bytes are needed (less
 * than TCP_HEAD_MAX in all); -EPROTO and *ret_fault. Header digests are checked here.
 */
int tcp_pdu_read(const struct tcp_rules *r, const void *bytes, size_t len, struct tcp_pdu *ret_pdu,
                 struct tcp_fault *ret_fault);

/*
 * Completes a header for sending: the common fields of a PDU of @type with @data_bytes behind it,
 * and the header's digest, right behind the @hlen bytes at @hdr (there is room for it and for
 * TCP_PDA_MAX dwords of padding). @flags: beside those of digests. Returns the bytes to send before
 * the data.
 */
uint32_t tcp_pdu_make(const struct tcp_rules *r, struct nvme_tcp_hdr *hdr, uint8_t type,
                      uint8_t hlen, uint8_t flags, uint32_t data_bytes);

/* A PDU with room for what follows its header. */
#define TCP_HEADER_ROOM (NVME_TCP_DIGEST_BYTES + 4 * TCP_PDA_MAX)

/* The digest of data in pieces. */
uint32_t tcp_digest(const struct iovec *iov, unsigned count);

/* C2HTermReq or H2CTermReq about the header at @bytes, of @len bytes; into @buf, which has
 * NVME_TCP_TERM_MAX bytes. Returns its length. */
uint32_t tcp_term_make(uint8_t *buf, bool target, const struct tcp_fault *f, const void *bytes,
                       size_t len);

#endif
