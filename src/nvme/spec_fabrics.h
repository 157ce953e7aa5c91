/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * spec_fabrics - NVMe over Fabrics commands and data, discovery, and NVMe/TCP PDUs, bit-exact; see
 * spec.h for the rules. Sources: Base (which holds the fabrics chapter since 2.0), and the NVMe/TCP
 * Transport Specification 1.0 ("TCP").
 */
#ifndef NVME_SPEC_FABRICS_H
#define NVME_SPEC_FABRICS_H

#include "nvme/spec.h"

/* --- Fabrics commands (Base 6): opcode 7Fh, with a type --- */

enum nvme_fctype {
	NVME_FC_PROPERTY_SET = 0x00,
	NVME_FC_CONNECT = 0x01,
	NVME_FC_PROPERTY_GET = 0x04,
	NVME_FC_AUTH_SEND = 0x05,
	NVME_FC_AUTH_RECEIVE = 0x06,
	NVME_FC_DISCONNECT = 0x08,
};

struct nvme_fabrics_cmd { /* Base figure 388: what all have in common */
	uint8_t opc, flags;
	le16 cid;
	uint8_t fctype, rsvd5[19];
	struct nvme_sgl_desc sgl;
	uint8_t rsvd40[24];
};
NVME_SIZE(struct nvme_fabrics_cmd, 64, "Base 6");

struct nvme_connect_cmd { /* Base figure 391 */
	uint8_t opc, flags;
	le16 cid;
	uint8_t fctype, rsvd5[19];
	struct nvme_sgl_desc sgl;
	le16 recfmt;
	le16 qid;
	le16 sqsize; /* 0's based */
	uint8_t cattr, rsvd47;
	le32 kato; /* ms */
	uint8_t rsvd52[12];
};
NVME_SIZE(struct nvme_connect_cmd, 64, "Base figure 391");
NVME_AT(struct nvme_connect_cmd, recfmt, 40, "Base figure 391");
NVME_AT(struct nvme_connect_cmd, kato, 48, "Base figure 391");
#define NVME_CATTR_NO_SQ_FLOW (1u << 2) /* disable SQ flow control */

struct nvme_connect_data { /* Base figure 392 */
	uint8_t hostid[16];
	le16 cntlid; /* FFFFh: dynamic controller, any */
	uint8_t rsvd18[238];
	char subnqn[NVME_NQN_BYTES];
	char hostnqn[NVME_NQN_BYTES];
	uint8_t rsvd768[256];
};
NVME_SIZE(struct nvme_connect_data, 1024, "Base figure 392");
NVME_AT(struct nvme_connect_data, subnqn, 256, "Base figure 392");
NVME_AT(struct nvme_connect_data, hostnqn, 512, "Base figure 392");
#define NVME_CNTLID_DYNAMIC 0xffffu
#define NVME_CNTLID_STATIC  0xfffeu /* static controller model, any */
#define NVME_CNTLID_MAX     0xffefu

/* Connect's completion (Base figure 393). Success: CNTLID in 15:0, AUTHREQ in 31:16 of dword 0.
 * Invalid parameters: offset in 15:0, 1 << 16 if the offset is in the data. */
#define NVME_CONNECT_IPO_DATA (1u << 16)

struct nvme_property_cmd { /* Base figures 394 and 397 */
	uint8_t opc, flags;
	le16 cid;
	uint8_t fctype, rsvd5[35];
	uint8_t attrib; /* 2:0: 0 is 4 bytes, 1 is 8 */
	uint8_t rsvd41[3];
	le32 offset;
	le64 value; /* Set only */
	uint8_t rsvd56[8];
};
NVME_SIZE(struct nvme_property_cmd, 64, "Base figure 397");
NVME_AT(struct nvme_property_cmd, attrib, 40, "Base figure 397");
NVME_AT(struct nvme_property_cmd, value, 48, "Base figure 397");

struct nvme_disconnect_cmd { /* Base figure 396 */
	uint8_t opc, flags;
	le16 cid;
	uint8_t fctype, rsvd5[19];
	struct nvme_sgl_desc sgl;
	le16 recfmt;
	uint8_t rsvd42[22];
};
NVME_SIZE(struct nvme_disconnect_cmd, 64, "Base figure 396");

/* --- discovery (Base 5.16.1.23, log 70h) --- */

#define NVME_DISCOVERY_NQN "nqn.2014-08.org.nvmexpress.discovery"

struct nvme_discovery_entry { /* Base figure 264 */
	uint8_t trtype, adrfam, subtype, treq;
	le16 portid, cntlid, asqsz, eflags;
	uint8_t rsvd12[20];
	char trsvcid[32]; /* text, padded with spaces or NULs */
	uint8_t rsvd64[192];
	char subnqn[NVME_NQN_BYTES];
	char traddr[256];
	uint8_t tsas[256];
};
NVME_SIZE(struct nvme_discovery_entry, 1024, "Base figure 264");
NVME_AT(struct nvme_discovery_entry, trsvcid, 32, "Base figure 264");
NVME_AT(struct nvme_discovery_entry, subnqn, 256, "Base figure 264");
NVME_AT(struct nvme_discovery_entry, traddr, 512, "Base figure 264");
NVME_AT(struct nvme_discovery_entry, tsas, 768, "Base figure 264");

struct nvme_discovery_log { /* Base figure 263; then the entries */
	le64 genctr;
	le64 numrec;
	le16 recfmt;
	uint8_t rsvd18[1006];
};
NVME_SIZE(struct nvme_discovery_log, 1024, "Base figure 263");

enum nvme_trtype {
	NVME_TRTYPE_RDMA = 1,
	NVME_TRTYPE_FC = 2,
	NVME_TRTYPE_TCP = 3,
	NVME_TRTYPE_LOOP = 254, /* in one host */
};
enum nvme_adrfam {
	NVME_ADRFAM_IPV4 = 1,
	NVME_ADRFAM_IPV6 = 2,
};
enum nvme_subtype {
	NVME_SUBTYPE_REFERRAL = 1,
	NVME_SUBTYPE_NVM = 2,
	NVME_SUBTYPE_CURRENT = 3, /* this discovery subsystem */
};
#define NVME_TREQ_NOT_REQUIRED 2u        /* 1:0: secure channel */
#define NVME_TREQ_NO_SQ_FLOW   (1u << 2) /* SQ flow control can be disabled */
#define NVME_TSAS_TCP_NONE     0u        /* first byte of TSAS for TCP: security type */
#define NVME_EFLAGS_DUPRETINFO (1u << 0)
#define NVME_EFLAGS_EPCSD      (1u << 1) /* persistent discovery connections */
#define NVME_TCP_PORT          4420u
#define NVME_TCP_PORT_DISC     8009u

/* --- NVMe/TCP PDUs (TCP 3.6.2) --- */

enum nvme_tcp_type {
	NVME_TCP_ICREQ = 0x00,
	NVME_TCP_ICRESP = 0x01,
	NVME_TCP_H2C_TERM = 0x02,
	NVME_TCP_C2H_TERM = 0x03,
	NVME_TCP_CMD = 0x04,
	NVME_TCP_RESP = 0x05,
	NVME_TCP_H2C_DATA = 0x06,
	NVME_TCP_C2H_DATA = 0x07,
	NVME_TCP_R2T = 0x09,
};

struct nvme_tcp_hdr { /* TCP figure 18: the common header */
	uint8_t type, flags;
	uint8_t hlen; /* header without digest */
	uint8_t pdo;  /* offset of the data from the PDU's start */
	le32 plen;    /* all of it, digests too */
};
NVME_SIZE(struct nvme_tcp_hdr, 8, "TCP 3.6.1");

#define NVME_TCP_HDGSTF       (1u << 0) /* the header's digest follows it */
#define NVME_TCP_DDGSTF       (1u << 1) /* the data's digest follows them */
#define NVME_TCP_LAST         (1u << 2) /* H2CData, C2HData: last of this transfer */
#define NVME_TCP_SUCCESS      (1u << 3) /* C2HData: and no response will come */
#define NVME_TCP_DIGEST_BYTES 4u

struct nvme_tcp_icreq { /* TCP figure 21 */
	struct nvme_tcp_hdr hdr;
	le16 pfv;
	uint8_t hpda; /* dwords, 0's based */
	uint8_t dgst; /* NVME_TCP_HDGST_ENABLE, NVME_TCP_DDGST_ENABLE */
	le32 maxr2t;  /* 0's based */
	uint8_t rsvd16[112];
};
NVME_SIZE(struct nvme_tcp_icreq, 128, "TCP 3.6.2.2");
NVME_AT(struct nvme_tcp_icreq, maxr2t, 12, "TCP 3.6.2.2");

struct nvme_tcp_icresp { /* TCP figure 22 */
	struct nvme_tcp_hdr hdr;
	le16 pfv;
	uint8_t cpda; /* dwords, 0's based */
	uint8_t dgst;
	le32 maxh2cdata; /* bytes, a multiple of 4, at least 4096 */
	uint8_t rsvd16[112];
};
NVME_SIZE(struct nvme_tcp_icresp, 128, "TCP 3.6.2.3");
#define NVME_TCP_HDGST_ENABLE (1u << 0)
#define NVME_TCP_DDGST_ENABLE (1u << 1)
#define NVME_TCP_MAXH2C_MIN   4096u

struct nvme_tcp_term { /* TCP figures 23 and 25; then the header in error, up to 128 bytes */
	struct nvme_tcp_hdr hdr;
	le16 fes;       /* enum nvme_tcp_fes */
	uint8_t fei[4]; /* not aligned */
	uint8_t rsvd14[10];
};
NVME_SIZE(struct nvme_tcp_term, 24, "TCP 3.6.2.4");
NVME_AT(struct nvme_tcp_term, fei, 10, "TCP 3.6.2.4");
#define NVME_TCP_TERM_MAX 152u
enum nvme_tcp_fes {
	NVME_TCP_FES_HEADER = 1,   /* invalid PDU header field; FEI: its offset */
	NVME_TCP_FES_SEQUENCE = 2, /* PDU sequence error */
	NVME_TCP_FES_DIGEST = 3,   /* header digest; FEI: the digest received */
	NVME_TCP_FES_RANGE = 4,    /* data transfer out of range; FEI: offset of the field */
	NVME_TCP_FES_LIMIT = 5,    /* data or R2T limit exceeded */
	NVME_TCP_FES_PARAM = 6,    /* unsupported parameter; FEI: its offset */
};

struct nvme_tcp_cmd { /* TCP figure 27: command capsule; in-capsule data may follow */
	struct nvme_tcp_hdr hdr;
	struct nvme_cmd cmd;
};
NVME_SIZE(struct nvme_tcp_cmd, 72, "TCP 3.6.2.6");

struct nvme_tcp_resp { /* TCP figure 28: response capsule */
	struct nvme_tcp_hdr hdr;
	struct nvme_cqe cqe;
};
NVME_SIZE(struct nvme_tcp_resp, 24, "TCP 3.6.2.7");

struct nvme_tcp_data { /* TCP figures 29 and 30: H2CData and C2HData */
	struct nvme_tcp_hdr hdr;
	le16 cccid; /* the command's cid */
	le16 ttag;  /* H2CData: of the R2T; C2HData: reserved */
	le32 datao;
	le32 datal;
	uint8_t rsvd20[4];
};
NVME_SIZE(struct nvme_tcp_data, 24, "TCP 3.6.2.8");
NVME_AT(struct nvme_tcp_data, datao, 12, "TCP 3.6.2.8");

struct nvme_tcp_r2t { /* TCP figure 31: ready to transfer */
	struct nvme_tcp_hdr hdr;
	le16 cccid;
	le16 ttag;
	le32 r2to;
	le32 r2tl;
	uint8_t rsvd20[4];
};
NVME_SIZE(struct nvme_tcp_r2t, 24, "TCP 3.6.2.10");

#endif
