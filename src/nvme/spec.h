/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * spec - NVM Express as memory and registers hold it: what host and controller both speak. Fabrics
 * commands and NVMe/TCP PDUs are in spec_fabrics.h.
 *
 * Sources: NVM Express Base Specification 2.0 ("Base"), NVM Command Set Specification 1.0 ("NVM"),
 * NVMe over PCIe Transport Specification 1.0 ("PCIe"). A clause or figure name stands beside each
 * structure. All fields are little-endian (le16, le32, le64) and naturally aligned; fields of bits
 * are integers with shifts and masks here, never C bit-fields. Reserved fields are zero.
 */
#ifndef NVME_SPEC_H
#define NVME_SPEC_H

#include "base/base.h"

/* The structure has the size that @clause gives it; the field begins where it says. */
#define NVME_SIZE(type, bytes, clause) _Static_assert(sizeof(type) == (bytes), clause)
#define NVME_AT(type, field, off, clause) \
	_Static_assert(offsetof(type, field) == (off), clause ": " #field)

/* --- controller registers (Base 3.1.3; PCIe 3.1 for the doorbells): offset in bytes --- */

enum nvme_reg {
	NVME_REG_CAP = 0x00,        /* 8 bytes: capabilities */
	NVME_REG_VS = 0x08,         /* 4: version */
	NVME_REG_INTMS = 0x0c,      /* 4: interrupt mask set */
	NVME_REG_INTMC = 0x10,      /* 4: interrupt mask clear */
	NVME_REG_CC = 0x14,         /* 4: configuration */
	NVME_REG_CSTS = 0x1c,       /* 4: status */
	NVME_REG_NSSR = 0x20,       /* 4: subsystem reset */
	NVME_REG_AQA = 0x24,        /* 4: admin queue attributes */
	NVME_REG_ASQ = 0x28,        /* 8: admin submission queue address */
	NVME_REG_ACQ = 0x30,        /* 8: admin completion queue address */
	NVME_REG_CMBLOC = 0x38,     /* 4: controller memory buffer location */
	NVME_REG_CMBSZ = 0x3c,      /* 4: and size */
	NVME_REG_CRTO = 0x68,       /* 4: controller ready timeouts */
	NVME_REG_DOORBELL = 0x1000, /* SQ y tail at +(2y << (2 + DSTRD)), CQ y head one stride on */
};
#define NVME_REGS_BYTES 0x1000u /* registers before the doorbells */

/* Byte offset in the doorbell area (from NVME_REG_DOORBELL) of queue @qid's doorbells. */
#define NVME_DB_SQ(qid, dstrd) ((2u * (qid)) << (2 + (dstrd)))
#define NVME_DB_CQ(qid, dstrd) ((2u * (qid) + 1) << (2 + (dstrd)))

/* CAP (Base figure 36) */
#define NVME_CAP_MQES(cap)       ((unsigned)((cap)&0xffff)) /* 0's based */
#define NVME_CAP_CQR(cap)        ((unsigned)((cap) >> 16) & 1)
#define NVME_CAP_AMS(cap)        ((unsigned)((cap) >> 17) & 3)
#define NVME_CAP_TO(cap)         ((unsigned)((cap) >> 24) & 0xff) /* units of 500 ms */
#define NVME_CAP_DSTRD(cap)      ((unsigned)((cap) >> 32) & 0xf)  /* stride is 4 << DSTRD bytes */
#define NVME_CAP_NSSRS(cap)      ((unsigned)((cap) >> 36) & 1)
#define NVME_CAP_CSS(cap)        ((unsigned)((cap) >> 37) & 0xff)
#define NVME_CAP_MPSMIN(cap)     ((unsigned)((cap) >> 48) & 0xf) /* page is 4096 << MPS bytes */
#define NVME_CAP_MPSMAX(cap)     ((unsigned)((cap) >> 52) & 0xf)
#define NVME_CAP_CRMS(cap)       ((unsigned)((cap) >> 59) & 3)
#define NVME_CAP_CRMS_WITH_MEDIA 1u /* CRTO says how long it takes; all of 2.0 and later have it */
#define NVME_CAP_CSS_NVM         0x01u /* NVM command set */
#define NVME_CAP_CSS_IOCS        0x40u /* one or more I/O command sets (Identify CNS 1Ch tells) */
#define NVME_CAP_CSS_NONE        0x80u /* no I/O command set */

/* VS (Base figure 38): 2.0 */
#define NVME_VERSION(major, minor, tertiary) \
	((uint32_t)(major) << 16 | (uint32_t)(minor) << 8 | (tertiary))

/* CC (Base figure 46) */
#define NVME_CC_EN         1u
#define NVME_CC_CSS(cc)    ((cc) >> 4 & 7)
#define NVME_CC_MPS(cc)    ((cc) >> 7 & 0xf)
#define NVME_CC_AMS(cc)    ((cc) >> 11 & 7)
#define NVME_CC_SHN(cc)    ((cc) >> 14 & 3)
#define NVME_CC_IOSQES(cc) ((cc) >> 16 & 0xf) /* log2 of the entry size: 6 */
#define NVME_CC_IOCQES(cc) ((cc) >> 20 & 0xf) /* 4 */
#define NVME_CC_CRIME(cc)  ((cc) >> 24 & 1)
#define NVME_CC_MAKE(css, mps, ams, shn, iosqes, iocqes)                       \
	((uint32_t)(css) << 4 | (uint32_t)(mps) << 7 | (uint32_t)(ams) << 11 | \
	 (uint32_t)(shn) << 14 | (uint32_t)(iosqes) << 16 | (uint32_t)(iocqes) << 20)
enum nvme_cc_css {
	NVME_CC_CSS_NVM = 0,
	NVME_CC_CSS_ALL = 6,
	NVME_CC_CSS_ADMIN = 7,
};
enum nvme_cc_shn {
	NVME_CC_SHN_NONE = 0,
	NVME_CC_SHN_NORMAL = 1,
	NVME_CC_SHN_ABRUPT = 2,
};
#define NVME_CC_SHN_MASK (3u << 14)

/* CSTS (Base figure 47) */
#define NVME_CSTS_RDY        (1u << 0)
#define NVME_CSTS_CFS        (1u << 1) /* controller fatal status */
#define NVME_CSTS_SHST(csts) ((csts) >> 2 & 3)
#define NVME_CSTS_SHST_MASK  (3u << 2)
#define NVME_CSTS_NSSRO      (1u << 4)
#define NVME_CSTS_PP         (1u << 5)
enum nvme_shst {
	NVME_SHST_NONE = 0,
	NVME_SHST_BUSY = 1,
	NVME_SHST_DONE = 2,
};

/* AQA (Base figure 49): both 0's based, at most 4096 entries */
#define NVME_AQA_ASQS(aqa)        ((aqa)&0xfff)
#define NVME_AQA_ACQS(aqa)        ((aqa) >> 16 & 0xfff)
#define NVME_AQA_MAKE(asqs, acqs) ((uint32_t)(acqs) << 16 | (uint32_t)(asqs))
#define NVME_ADMIN_ENTRIES_MAX    4096u

/* What a register read gives once the device is gone (PCIe: all ones). */
#define NVME_REG_GONE 0xffffffffu

/* --- submission queue entry (Base 3.3.3.1, figure 87) --- */

/* SGL descriptor (Base 4.1.2, figure 110 on) */
struct nvme_sgl_desc {
	le64 addr; /* bit bucket: reserved; offset subtype: an offset */
	le32 len;
	uint8_t rsvd[3];
	uint8_t type; /* type << 4 | subtype */
};
NVME_SIZE(struct nvme_sgl_desc, 16, "Base 4.1.2");
NVME_AT(struct nvme_sgl_desc, type, 15, "Base 4.1.2");

/* Keyed SGL data block descriptor (Base figure 117) */
struct nvme_sgl_keyed {
	le64 addr;
	uint8_t len[3];
	uint8_t key[4];
	uint8_t type;
};
NVME_SIZE(struct nvme_sgl_keyed, 16, "Base 4.1.2, keyed");

enum nvme_sgl_type {
	NVME_SGL_DATA = 0,
	NVME_SGL_BIT_BUCKET = 1,
	NVME_SGL_SEGMENT = 2,
	NVME_SGL_LAST_SEGMENT = 3,
	NVME_SGL_KEYED = 4,
	NVME_SGL_TRANSPORT = 5,
	NVME_SGL_VENDOR = 15,
};
enum nvme_sgl_subtype {
	NVME_SGL_ADDRESS = 0,
	NVME_SGL_OFFSET = 1,
	NVME_SGL_TRANSPORT_A = 10,
};
#define NVME_SGL_TYPE(type, sub) ((uint8_t)((type) << 4 | (sub)))

struct nvme_cmd {
	uint8_t opc;
	uint8_t flags; /* NVME_CMD_FUSE_*, NVME_CMD_PSDT_* */
	le16 cid;
	le32 nsid;
	le32 cdw2;
	le32 cdw3;
	le64 mptr;
	union {
		struct {
			le64 prp1, prp2;
		};
		struct nvme_sgl_desc sgl;
		struct nvme_sgl_keyed keyed;
	};
	le32 cdw10;
	le32 cdw11;
	le32 cdw12;
	le32 cdw13;
	le32 cdw14;
	le32 cdw15;
};
NVME_SIZE(struct nvme_cmd, 64, "Base figure 87");
NVME_AT(struct nvme_cmd, nsid, 4, "Base figure 87");
NVME_AT(struct nvme_cmd, mptr, 16, "Base figure 87");
NVME_AT(struct nvme_cmd, prp1, 24, "Base figure 87");
NVME_AT(struct nvme_cmd, sgl, 24, "Base figure 87");
NVME_AT(struct nvme_cmd, cdw10, 40, "Base figure 87");
NVME_AT(struct nvme_cmd, cdw15, 60, "Base figure 87");

#define NVME_CMD_FUSE_MASK   0x03u
#define NVME_CMD_FUSE_FIRST  0x01u
#define NVME_CMD_FUSE_SECOND 0x02u
#define NVME_CMD_PSDT_MASK   0xc0u
#define NVME_CMD_PSDT_PRP    0x00u
#define NVME_CMD_PSDT_SGL    0x40u /* metadata, if any, contiguous */
#define NVME_CMD_PSDT_SGL_MD 0x80u /* metadata by an SGL segment */
#define NVME_NSID_ALL        0xffffffffu

/* Direction of the data by the opcode's low bits (Base figure 88). */
#define NVME_OPC_DIR(opc) ((opc)&3u)
#define NVME_DIR_NONE     0u
#define NVME_DIR_TO_CTRLR 1u
#define NVME_DIR_TO_HOST  2u

/* --- completion queue entry (Base 3.3.3.2, figure 90) --- */

struct nvme_cqe {
	le32 dw0;
	le32 dw1;
	le16 sqhd;
	le16 sqid;
	le16 cid;
	le16 status; /* bit 0: phase; the rest: NVME_STATUS() << 1 */
};
NVME_SIZE(struct nvme_cqe, 16, "Base figure 90");
NVME_AT(struct nvme_cqe, sqhd, 8, "Base figure 90");
NVME_AT(struct nvme_cqe, cid, 12, "Base figure 92");
NVME_AT(struct nvme_cqe, status, 14, "Base figure 93");

/*
 * Status (Base figure 93), here without the phase bit: code in 7:0, type in 10:8, retry delay in
 * 12:11, More in 13, Do Not Retry in 14. The enumerators of each type carry their type.
 */
#define NVME_STATUS(sct, sc) ((uint16_t)((sct) << 8 | (sc)))
#define NVME_STATUS_SC(st)   ((st)&0xffu)
#define NVME_STATUS_SCT(st)  ((st) >> 8 & 7u)
#define NVME_STATUS_CODE(st) ((st)&0x7ffu) /* what to compare with the enumerators below */
#define NVME_STATUS_CRD(st)  ((st) >> 11 & 3u)
#define NVME_STATUS_MORE     0x2000u
#define NVME_STATUS_DNR      0x4000u

enum nvme_sct {
	NVME_SCT_GENERIC = 0,
	NVME_SCT_SPECIFIC = 1,
	NVME_SCT_MEDIA = 2,
	NVME_SCT_PATH = 3,
	NVME_SCT_VENDOR = 7,
};

enum nvme_sc {
	/* Generic (Base figure 95) */
	NVME_SC_SUCCESS = 0x000,
	NVME_SC_INVALID_OPCODE = 0x001,
	NVME_SC_INVALID_FIELD = 0x002,
	NVME_SC_CID_CONFLICT = 0x003,
	NVME_SC_DATA_TRANSFER = 0x004,
	NVME_SC_POWER_LOSS = 0x005,
	NVME_SC_INTERNAL = 0x006,
	NVME_SC_ABORTED = 0x007,
	NVME_SC_ABORTED_SQ_DELETED = 0x008,
	NVME_SC_ABORTED_FUSED = 0x009,
	NVME_SC_ABORTED_NOT_FUSED = 0x00a, /* the other half is missing */
	NVME_SC_INVALID_NS = 0x00b,        /* or format */
	NVME_SC_SEQUENCE = 0x00c,
	NVME_SC_SGL_SEGMENT = 0x00d,
	NVME_SC_SGL_COUNT = 0x00e,
	NVME_SC_SGL_DATA_LENGTH = 0x00f,
	NVME_SC_SGL_MD_LENGTH = 0x010,
	NVME_SC_SGL_TYPE = 0x011,
	NVME_SC_CMB_USE = 0x012,
	NVME_SC_PRP_OFFSET = 0x013,
	NVME_SC_ATOMIC_EXCEEDED = 0x014,
	NVME_SC_DENIED = 0x015,
	NVME_SC_SGL_OFFSET = 0x016,
	NVME_SC_HOSTID_FORMAT = 0x018,
	NVME_SC_KEEP_ALIVE_EXPIRED = 0x019,
	NVME_SC_KEEP_ALIVE_INVALID = 0x01a,
	NVME_SC_PREEMPTED = 0x01b,
	NVME_SC_SANITIZE_FAILED = 0x01c,
	NVME_SC_SANITIZING = 0x01d,
	NVME_SC_SGL_GRANULARITY = 0x01e,
	NVME_SC_CMB_QUEUE = 0x01f,
	NVME_SC_NS_PROTECTED = 0x020,
	NVME_SC_INTERRUPTED = 0x021,
	NVME_SC_TRANSPORT_TRANSIENT = 0x022,
	NVME_SC_LOCKDOWN = 0x023,
	NVME_SC_MEDIA_NOT_READY = 0x024,
	NVME_SC_LBA_RANGE = 0x080,
	NVME_SC_CAPACITY = 0x081,
	NVME_SC_NS_NOT_READY = 0x082,
	NVME_SC_RESERVATION = 0x083,
	NVME_SC_FORMATTING = 0x084,
	/* Command specific (Base figure 96, NVM figure 21, Fabrics: Base figure 97) */
	NVME_SC_CQ_INVALID = 0x100,
	NVME_SC_QID_INVALID = 0x101,
	NVME_SC_QUEUE_SIZE = 0x102,
	NVME_SC_ABORT_LIMIT = 0x103,
	NVME_SC_ASYNC_LIMIT = 0x105,
	NVME_SC_FW_SLOT = 0x106,
	NVME_SC_FW_IMAGE = 0x107,
	NVME_SC_VECTOR_INVALID = 0x108,
	NVME_SC_LOG_INVALID = 0x109,
	NVME_SC_FORMAT_INVALID = 0x10a,
	NVME_SC_QUEUE_DELETION = 0x10c,
	NVME_SC_FEATURE_NOT_SAVEABLE = 0x10d,
	NVME_SC_FEATURE_NOT_CHANGEABLE = 0x10e,
	NVME_SC_FEATURE_NOT_NS = 0x10f,
	NVME_SC_NS_CAPACITY = 0x115,
	NVME_SC_NS_ATTACHED = 0x118,
	NVME_SC_NS_PRIVATE = 0x119,
	NVME_SC_NS_NOT_ATTACHED = 0x11a,
	NVME_SC_CTRLR_LIST = 0x11c,
	NVME_SC_ANA_GROUP = 0x124,
	NVME_SC_ANA_ATTACH = 0x125,
	NVME_SC_IOCS_NOT_SUPPORTED = 0x129,
	NVME_SC_IOCS_NOT_ENABLED = 0x12a,
	NVME_SC_IOCS_COMBINATION = 0x12b,
	NVME_SC_IOCS_INVALID = 0x12c,
	NVME_SC_CONFLICTING_ATTRIBUTES = 0x180, /* I/O commands */
	NVME_SC_PROTECTION_INVALID = 0x181,
	NVME_SC_READ_ONLY_RANGE = 0x182,
	NVME_SC_CONNECT_FORMAT = 0x180, /* Fabrics commands */
	NVME_SC_CONNECT_BUSY = 0x181,
	NVME_SC_CONNECT_PARAM = 0x182,
	NVME_SC_CONNECT_RESTART = 0x183,
	NVME_SC_CONNECT_HOST = 0x184,
	NVME_SC_QUEUE_TYPE = 0x185,
	NVME_SC_DISCOVER_RESTART = 0x190,
	NVME_SC_AUTH_REQUIRED = 0x191,
	/* Media and data integrity (Base figure 98, NVM figure 22) */
	NVME_SC_WRITE_FAULT = 0x280,
	NVME_SC_READ_ERROR = 0x281,
	NVME_SC_GUARD = 0x282,
	NVME_SC_APP_TAG = 0x283,
	NVME_SC_REF_TAG = 0x284,
	NVME_SC_COMPARE = 0x285,
	NVME_SC_ACCESS_DENIED = 0x286,
	NVME_SC_UNWRITTEN = 0x287,
	/* Path related (Base figure 99) */
	NVME_SC_PATH_INTERNAL = 0x300,
	NVME_SC_ANA_PERSISTENT_LOSS = 0x301,
	NVME_SC_ANA_INACCESSIBLE = 0x302,
	NVME_SC_ANA_CHANGE = 0x303,
	NVME_SC_PATH_CTRLR = 0x360,
	NVME_SC_PATH_HOST = 0x370,
	NVME_SC_PATH_ABORTED = 0x371,
};

/* --- opcodes --- */

enum nvme_admin_opc { /* Base figure 138 */
	              NVME_ADMIN_DELETE_SQ = 0x00,
	              NVME_ADMIN_CREATE_SQ = 0x01,
	              NVME_ADMIN_GET_LOG = 0x02,
	              NVME_ADMIN_DELETE_CQ = 0x04,
	              NVME_ADMIN_CREATE_CQ = 0x05,
	              NVME_ADMIN_IDENTIFY = 0x06,
	              NVME_ADMIN_ABORT = 0x08,
	              NVME_ADMIN_SET_FEATURES = 0x09,
	              NVME_ADMIN_GET_FEATURES = 0x0a,
	              NVME_ADMIN_ASYNC_EVENT = 0x0c,
	              NVME_ADMIN_KEEP_ALIVE = 0x18,
	              NVME_ADMIN_DBBUF = 0x7c,
	              NVME_ADMIN_FABRICS = 0x7f,
	              NVME_ADMIN_FORMAT = 0x80,
};

enum nvme_io_opc { /* NVM figure 24 */
	           NVME_IO_FLUSH = 0x00,
	           NVME_IO_WRITE = 0x01,
	           NVME_IO_READ = 0x02,
	           NVME_IO_WRITE_UNCORRECTABLE = 0x04,
	           NVME_IO_COMPARE = 0x05,
	           NVME_IO_WRITE_ZEROES = 0x08,
	           NVME_IO_DSM = 0x09,
	           NVME_IO_VERIFY = 0x0c,
	           NVME_IO_FABRICS = 0x7f,
};

/* --- I/O commands (NVM 3.2): dword 12 and others --- */

#define NVME_RW_NLB(cdw12)    ((cdw12)&0xffff) /* 0's based */
#define NVME_RW_DEAC          (1u << 25)       /* Write Zeroes: may deallocate */
#define NVME_RW_PRINFO(cdw12) ((cdw12) >> 26 & 0xf)
#define NVME_RW_STC           (1u << 24)
#define NVME_RW_FUA           (1u << 30)
#define NVME_RW_LR            (1u << 31)     /* limited retry */
#define NVME_DSM_NR(cdw10)    ((cdw10)&0xff) /* 0's based */
#define NVME_DSM_IDR          (1u << 0)
#define NVME_DSM_IDW          (1u << 1)
#define NVME_DSM_AD           (1u << 2) /* deallocate */
#define NVME_DSM_RANGES_MAX   256u

struct nvme_dsm_range { /* NVM figure 43 */
	le32 attributes;
	le32 nlb; /* not 0's based */
	le64 slba;
};
NVME_SIZE(struct nvme_dsm_range, 16, "NVM figure 43");

/* --- admin commands --- */

/* Create I/O queues (Base 5.4, 5.5) */
#define NVME_CREATE_QID(cdw10)      ((cdw10)&0xffff)
#define NVME_CREATE_QSIZE(cdw10)    ((cdw10) >> 16) /* 0's based */
#define NVME_CREATE_PC              (1u << 0)       /* physically contiguous */
#define NVME_CREATE_CQ_IEN          (1u << 1)
#define NVME_CREATE_CQ_IV(cdw11)    ((cdw11) >> 16)
#define NVME_CREATE_SQ_QPRIO(cdw11) ((cdw11) >> 1 & 3)
#define NVME_CREATE_SQ_CQID(cdw11)  ((cdw11) >> 16)

/* Abort (Base 5.1): dword 10 is cid << 16 | sqid; dword 0 of the answer: 0 aborted, 1 not */
#define NVME_ABORT_NOT_DONE 1u

/* Format NVM (Base 5.14) */
#define NVME_FORMAT_LBAFL(cdw10) ((cdw10)&0xf)
#define NVME_FORMAT_MSET(cdw10)  ((cdw10) >> 4 & 1)
#define NVME_FORMAT_PI(cdw10)    ((cdw10) >> 5 & 7)
#define NVME_FORMAT_PIL(cdw10)   ((cdw10) >> 8 & 1)
#define NVME_FORMAT_SES(cdw10)   ((cdw10) >> 9 & 7) /* 0 none, 1 erase, 2 cryptographic */
#define NVME_FORMAT_LBAFU(cdw10) ((cdw10) >> 12 & 3)

/* Identify (Base 5.17) */
enum nvme_cns {
	NVME_CNS_NS = 0x00,
	NVME_CNS_CTRLR = 0x01,
	NVME_CNS_NS_LIST = 0x02, /* active namespaces above CDW1.NSID */
	NVME_CNS_NS_DESC = 0x03,
	NVME_CNS_IOCS_NS = 0x05,
	NVME_CNS_IOCS_CTRLR = 0x06,
	NVME_CNS_IOCS_NS_LIST = 0x07,
	NVME_CNS_NS_INDEP = 0x08,
	NVME_CNS_ALLOCATED_LIST = 0x10,
	NVME_CNS_ALLOCATED_NS = 0x11,
	NVME_CNS_NS_CTRLRS = 0x12,
	NVME_CNS_CTRLRS = 0x13,
	NVME_CNS_IOCS_SETS = 0x1c,
};
#define NVME_IDENTIFY_BYTES        4096u
#define NVME_IDENTIFY_CNS(cdw10)   ((cdw10)&0xff)
#define NVME_IDENTIFY_CNTID(cdw10) ((cdw10) >> 16)
#define NVME_IDENTIFY_CSI(cdw11)   ((cdw11) >> 24)
#define NVME_CSI_NVM               0u
#define NVME_NS_LIST_MAX           1024u

struct nvme_power_state { /* Base figure 276 */
	le16 mp;
	uint8_t rsvd2, flags;
	le32 enlat, exlat;
	uint8_t rrt, rrl, rwt, rwl;
	le16 idlp;
	uint8_t ips, rsvd19;
	le16 actp;
	uint8_t apws, rsvd23[9];
};
NVME_SIZE(struct nvme_power_state, 32, "Base figure 276");

#define NVME_NQN_BYTES 256u /* with its NUL; at most 223 bytes of name */
#define NVME_NQN_MAX   223u

struct nvme_id_ctrlr { /* Base figure 275, with NVM figure 97's fields */
	le16 vid, ssvid;
	char sn[20], mn[40], fr[8]; /* padded with spaces, no NUL */
	uint8_t rab, ieee[3];
	uint8_t cmic, mdts;
	le16 cntlid;
	le32 ver, rtd3r, rtd3e;
	le32 oaes, ctratt;
	le16 rrls;
	uint8_t rsvd102[9];
	uint8_t cntrltype;
	uint8_t fguid[16];
	le16 crdt[3];
	uint8_t rsvd134[119];
	uint8_t nvmsr, vwci, mec;
	le16 oacs;
	uint8_t acl, aerl; /* both 0's based */
	uint8_t frmw, lpa, elpe, npss, avscc, apsta;
	le16 wctemp, cctemp, mtfa;
	le32 hmpre, hmmin;
	uint8_t tnvmcap[16], unvmcap[16];
	le32 rpmbs;
	le16 edstt;
	uint8_t dsto, fwug;
	le16 kas; /* units of 100 ms */
	le16 hctma, mntmt, mxtmt;
	le32 sanicap, hmminds;
	le16 hmmaxd, nsetidmax, endgidmax;
	uint8_t anatt, anacap;
	le32 anagrpmax, nanagrpid;
	le32 pels;
	le16 domainid;
	uint8_t rsvd358[10], megcap[16], rsvd384[128];
	uint8_t sqes, cqes; /* maximum << 4 | required */
	le16 maxcmd;
	le32 nn;
	le16 oncs, fuses;
	uint8_t fna, vwc;
	le16 awun, awupf;
	uint8_t icsvscc, nwpc;
	le16 acwu, ocfs;
	le32 sgls, mnan;
	uint8_t maxdna[16];
	le32 maxcna;
	uint8_t rsvd564[204];
	char subnqn[NVME_NQN_BYTES];
	uint8_t rsvd1024[768];
	le32 ioccsz, iorcsz; /* Fabrics: capsule sizes in units of 16 bytes */
	le16 icdoff;
	uint8_t fcatt, msdbd;
	le16 ofcs;
	uint8_t dctype, rsvd1807[241];
	struct nvme_power_state psd[32];
	uint8_t vs[1024];
};
NVME_SIZE(struct nvme_id_ctrlr, 4096, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, cmic, 76, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, mdts, 77, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, ver, 80, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, oaes, 92, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, cntrltype, 111, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, oacs, 256, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, lpa, 261, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, tnvmcap, 280, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, kas, 320, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, anatt, 342, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, anagrpmax, 344, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, sqes, 512, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, nn, 516, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, oncs, 520, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, vwc, 525, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, acwu, 532, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, sgls, 536, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, mnan, 540, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, subnqn, 768, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, ioccsz, 1792, "Base figure 275");
NVME_AT(struct nvme_id_ctrlr, psd, 2048, "Base figure 275");

#define NVME_CMIC_MULTI_CTRLR  (1u << 1)
#define NVME_CMIC_ANA          (1u << 3)
#define NVME_OAES_NS           (1u << 8) /* namespace attribute notices */
#define NVME_OAES_ANA          (1u << 11)
#define NVME_CTRATT_HOSTID_128 (1u << 0)
#define NVME_CTRATT_TBKAS      (1u << 6) /* any traffic keeps alive */
#define NVME_CNTRLTYPE_IO      1u
#define NVME_CNTRLTYPE_DISC    2u
#define NVME_OACS_FORMAT       (1u << 1)
#define NVME_OACS_DBBUF        (1u << 8)
#define NVME_LPA_SMART_NS      (1u << 0)
#define NVME_LPA_EFFECTS       (1u << 1)
#define NVME_LPA_EXTENDED      (1u << 2)
#define NVME_ANACAP_OPTIMIZED  (1u << 0)
#define NVME_ANACAP_NONOPT     (1u << 1)
#define NVME_ANACAP_INACCESS   (1u << 2)
#define NVME_ANACAP_LOSS       (1u << 3)
#define NVME_ANACAP_CHANGE     (1u << 4)
#define NVME_ANACAP_FIXED      (1u << 6) /* ANAGRPID doesn't change while attached */
#define NVME_ANACAP_GRPID      (1u << 7) /* non-zero ANAGRPID supported */
#define NVME_ONCS_COMPARE      (1u << 0)
#define NVME_ONCS_DSM          (1u << 2)
#define NVME_ONCS_WRITE_ZEROES (1u << 3)
#define NVME_FUSES_CAW         (1u << 0)
#define NVME_FNA_FORMAT_ALL    (1u << 0)
#define NVME_FNA_ERASE_ALL     (1u << 1)
#define NVME_VWC_PRESENT       (1u << 0)
#define NVME_VWC_FLUSH_ALL     (3u << 1) /* Flush takes NSID FFFFFFFFh */
#define NVME_SGLS_BYTE         1u        /* supported, byte aligned; 2: dword aligned */
#define NVME_SGLS_DWORD        2u
#define NVME_SGLS_KEYED        (1u << 2)
#define NVME_SGLS_BIT_BUCKET   (1u << 16)
#define NVME_SGLS_LARGER       (1u << 18) /* an SGL longer than the data is taken */
#define NVME_SGLS_OFFSET       (1u << 20)
#define NVME_SGLS_TRANSPORT    (1u << 21)

struct nvme_lbaf { /* NVM figure 98 */
	le16 ms;
	uint8_t lbads; /* log2 of the block's bytes; 0: format not there */
	uint8_t rp;
};
NVME_SIZE(struct nvme_lbaf, 4, "NVM figure 98");

struct nvme_id_ns { /* NVM figure 97 */
	le64 nsze, ncap, nuse;
	uint8_t nsfeat, nlbaf, flbas, mc, dpc, dps, nmic, rescap, fpi, dlfeat;
	le16 nawun, nawupf, nacwu, nabsn, nabo, nabspf, noiob;
	uint8_t nvmcap[16];
	le16 npwg, npwa, npdg, npda, nows; /* 0's based */
	le16 mssrl;
	le32 mcl;
	uint8_t msrc, rsvd81, nulbaf, rsvd83[9];
	le32 anagrpid;
	uint8_t rsvd96[3], nsattr;
	le16 nvmsetid, endgid;
	uint8_t nguid[16], eui64[8];
	struct nvme_lbaf lbaf[64];
	uint8_t vs[3712];
};
NVME_SIZE(struct nvme_id_ns, 4096, "NVM figure 97");
NVME_AT(struct nvme_id_ns, nsfeat, 24, "NVM figure 97");
NVME_AT(struct nvme_id_ns, dlfeat, 33, "NVM figure 97");
NVME_AT(struct nvme_id_ns, nvmcap, 48, "NVM figure 97");
NVME_AT(struct nvme_id_ns, mssrl, 74, "NVM figure 97");
NVME_AT(struct nvme_id_ns, anagrpid, 92, "NVM figure 97");
NVME_AT(struct nvme_id_ns, nguid, 104, "NVM figure 97");
NVME_AT(struct nvme_id_ns, lbaf, 128, "NVM figure 97");
NVME_AT(struct nvme_id_ns, vs, 384, "NVM figure 97");

#define NVME_NSFEAT_IO_OPT    (1u << 4) /* NPWG and friends are valid */
#define NVME_FLBAS_INDEX(f)   (((f)&0xf) | ((f) >> 1 & 0x30))
#define NVME_NMIC_SHARED      (1u << 0)
#define NVME_DLFEAT_ZEROES    1u        /* deallocated blocks read as zeroes */
#define NVME_DLFEAT_WZ        (1u << 3) /* Write Zeroes may deallocate */
#define NVME_NSATTR_PROTECTED (1u << 0)

struct nvme_ns_desc { /* Base figure 277: descriptors follow each other; an NIDL of 0 ends */
	uint8_t nidt, nidl;
	uint8_t rsvd[2];
	uint8_t nid[]; /* nidl bytes */
};
NVME_SIZE(struct nvme_ns_desc, 4, "Base figure 277");
enum nvme_nidt {
	NVME_NIDT_EUI64 = 1,
	NVME_NIDT_NGUID = 2,
	NVME_NIDT_UUID = 3,
	NVME_NIDT_CSI = 4,
};

struct nvme_id_ns_indep { /* Base figure 280 (CNS 08h) */
	uint8_t nsfeat, nmic, rescap, fpi;
	le32 anagrpid;
	uint8_t nsattr, rsvd9;
	le16 nvmsetid, endgid;
	uint8_t nstat; /* bit 0: ready */
	uint8_t rsvd15[4081];
};
NVME_SIZE(struct nvme_id_ns_indep, 4096, "Base figure 280");
NVME_AT(struct nvme_id_ns_indep, nstat, 14, "Base figure 280");

struct nvme_id_nvm_ctrlr { /* NVM figure 102 (CNS 06h, CSI 0); sizes in log2 of min. pages */
	uint8_t vsl, wzsl, wusl, dmrl;
	le32 dmrsl;
	le64 dmsl;
	uint8_t rsvd16[4080];
};
NVME_SIZE(struct nvme_id_nvm_ctrlr, 4096, "NVM figure 102");

struct nvme_ctrlr_list { /* Base figure 137 */
	le16 count, id[2047];
};
NVME_SIZE(struct nvme_ctrlr_list, 4096, "Base figure 137");

/* --- features (Base 5.27) --- */

enum nvme_feature {
	NVME_FEAT_ARBITRATION = 0x01,
	NVME_FEAT_POWER = 0x02,
	NVME_FEAT_TEMPERATURE = 0x04,
	NVME_FEAT_ERROR_RECOVERY = 0x05,
	NVME_FEAT_WRITE_CACHE = 0x06,
	NVME_FEAT_QUEUES = 0x07,
	NVME_FEAT_COALESCING = 0x08,
	NVME_FEAT_VECTOR = 0x09,
	NVME_FEAT_ATOMICITY = 0x0a,
	NVME_FEAT_ASYNC = 0x0b,
	NVME_FEAT_KEEP_ALIVE = 0x0f, /* ms */
	NVME_FEAT_HOST_BEHAVIOR = 0x16,
	NVME_FEAT_HOST_ID = 0x81,
};
#define NVME_FEATURE_FID(cdw10) ((cdw10)&0xff)
#define NVME_FEATURE_SEL(cdw10) ((cdw10) >> 8 & 7)
#define NVME_FEATURE_SAVE       (1u << 31) /* Set Features */
enum nvme_feature_sel {
	NVME_SEL_CURRENT = 0,
	NVME_SEL_DEFAULT = 1,
	NVME_SEL_SAVED = 2,
	NVME_SEL_CAPABILITIES = 3,
};
#define NVME_FEATCAP_SAVEABLE   (1u << 0)
#define NVME_FEATCAP_NS         (1u << 1)
#define NVME_FEATCAP_CHANGEABLE (1u << 2)
#define NVME_QUEUES_NSQ(dw)     ((dw)&0xffff) /* 0's based */
#define NVME_QUEUES_NCQ(dw)     ((dw) >> 16)
#define NVME_VECTOR_CD          (1u << 16) /* Interrupt Vector Configuration: no coalescing */
#define NVME_HOST_ID_EXHID      1u

/* --- asynchronous events (Base 5.2): dword 0 of the completion --- */

#define NVME_EVENT_MAKE(type, info, page) \
	((uint32_t)(type) | (uint32_t)(info) << 8 | (uint32_t)(page) << 16)
#define NVME_EVENT_TYPE(dw) ((dw)&7)
#define NVME_EVENT_INFO(dw) ((dw) >> 8 & 0xff)
#define NVME_EVENT_PAGE(dw) ((dw) >> 16 & 0xff)
enum nvme_event_type {
	NVME_EVENT_ERROR = 0,
	NVME_EVENT_HEALTH = 1,
	NVME_EVENT_NOTICE = 2,
	NVME_EVENT_IO = 6,
};
enum nvme_event_error {
	NVME_ERROR_DB_REGISTER = 0, /* write to the doorbell of no queue */
	NVME_ERROR_DB_VALUE = 1,    /* a value that the queue can't take */
	NVME_ERROR_DIAGNOSTIC = 2,
	NVME_ERROR_PERSISTENT = 3,
	NVME_ERROR_TRANSIENT = 4,
};
enum nvme_event_notice {
	NVME_NOTICE_NS = 0,
	NVME_NOTICE_ANA = 3,
	NVME_NOTICE_DISCOVERY = 0xf0,
};
/* Feature 0Bh, dword 11 (Base figure 325) */
#define NVME_ASYNC_HEALTH    0xffu /* one bit per SMART critical warning */
#define NVME_ASYNC_NS        (1u << 8)
#define NVME_ASYNC_ANA       (1u << 11)
#define NVME_ASYNC_DISCOVERY (1u << 31)

/* --- log pages (Base 5.16) --- */

enum nvme_log {
	NVME_LOG_SUPPORTED = 0x00,
	NVME_LOG_ERROR = 0x01,
	NVME_LOG_SMART = 0x02,
	NVME_LOG_FIRMWARE = 0x03,
	NVME_LOG_CHANGED_NS = 0x04,
	NVME_LOG_EFFECTS = 0x05,
	NVME_LOG_ANA = 0x0c,
	NVME_LOG_DISCOVERY = 0x70,
};
#define NVME_LOG_LID(cdw10)   ((cdw10)&0xff)
#define NVME_LOG_LSP(cdw10)   ((cdw10) >> 8 & 0x7f)
#define NVME_LOG_RAE(cdw10)   ((cdw10) >> 15 & 1)
#define NVME_LOG_NUMDL(cdw10) ((cdw10) >> 16) /* dwords, 0's based, low half */
#define NVME_LOG_NUMDU(cdw11) ((cdw11)&0xffff)
#define NVME_LOG_OT(cdw14)    ((cdw14) >> 23 & 1) /* the offset is an index */
#define NVME_LOG_CSI(cdw14)   ((cdw14) >> 24)

struct nvme_error_entry { /* Base figure 206 (log 01h) */
	le64 error_count;
	le16 sqid, cid;
	le16 status;   /* with its phase bit, as in the completion */
	le16 location; /* byte in 7:0, bit in 10:8; FFFFh: no one parameter */
	le64 lba;
	le32 nsid;
	uint8_t vendor_page, trtype, rsvd30[2];
	le64 specific;
	le16 trtype_info;
	uint8_t rsvd42[22];
};
NVME_SIZE(struct nvme_error_entry, 64, "Base figure 206");
NVME_AT(struct nvme_error_entry, lba, 16, "Base figure 206");
NVME_AT(struct nvme_error_entry, specific, 32, "Base figure 206");

struct nvme_smart { /* Base figure 207 (log 02h); 16-byte figures are little-endian integers */
	uint8_t critical_warning;
	uint8_t temperature[2]; /* kelvin; not aligned */
	uint8_t avail_spare, spare_threshold, percent_used, endurance_warning;
	uint8_t rsvd7[25];
	uint8_t units_read[16], units_written[16]; /* 1000 units of 512 bytes, rounded up */
	uint8_t host_reads[16], host_writes[16];
	uint8_t busy_minutes[16], power_cycles[16], power_on_hours[16], unsafe_shutdowns[16];
	uint8_t media_errors[16], error_entries[16];
	le32 warning_minutes, critical_minutes;
	le16 sensor[8];
	le32 throttle_count[2], throttle_seconds[2];
	uint8_t rsvd232[280];
};
NVME_SIZE(struct nvme_smart, 512, "Base figure 207");
NVME_AT(struct nvme_smart, units_read, 32, "Base figure 207");
NVME_AT(struct nvme_smart, media_errors, 160, "Base figure 207");
NVME_AT(struct nvme_smart, warning_minutes, 192, "Base figure 207");
NVME_AT(struct nvme_smart, throttle_count, 216, "Base figure 207");

struct nvme_fw_log { /* Base figure 208 (log 03h) */
	uint8_t afi, rsvd1[7];
	char frs[7][8];
	uint8_t rsvd64[448];
};
NVME_SIZE(struct nvme_fw_log, 512, "Base figure 208");

struct nvme_effects_log { /* Base figure 210 (log 05h) */
	le32 admin[256], io[256];
	uint8_t rsvd2048[2048];
};
NVME_SIZE(struct nvme_effects_log, 4096, "Base figure 210");
#define NVME_EFFECT_SUPPORTED (1u << 0)
#define NVME_EFFECT_CONTENT   (1u << 1)  /* logical block content */
#define NVME_EFFECT_NS        (1u << 2)  /* namespace capability */
#define NVME_EFFECT_EXCLUSIVE (1u << 16) /* submit with no other command to the namespace */

struct nvme_ana_log { /* Base figure 230 (log 0Ch) */
	le64 change_count;
	le16 groups;
	uint8_t rsvd10[6];
};
NVME_SIZE(struct nvme_ana_log, 16, "Base figure 230");
struct nvme_ana_group { /* Base figure 231; then le32 nsid[nsids], ascending */
	le32 group;
	le32 nsids;
	le64 change_count;
	uint8_t state; /* enum nvme_ana_state */
	uint8_t rsvd17[15];
};
NVME_SIZE(struct nvme_ana_group, 32, "Base figure 231");
NVME_AT(struct nvme_ana_group, state, 16, "Base figure 231");
enum nvme_ana_state {
	NVME_ANA_OPTIMIZED = 0x1,
	NVME_ANA_NON_OPTIMIZED = 0x2,
	NVME_ANA_INACCESSIBLE = 0x3,
	NVME_ANA_PERSISTENT_LOSS = 0x4,
	NVME_ANA_CHANGING = 0xf,
};
#define NVME_ANA_RGO 1u /* LSP: groups only, no namespace ids */

#endif
