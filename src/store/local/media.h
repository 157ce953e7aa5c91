/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * media - what the local engine writes to its devices. docs/on-media-format.md tells the story;
 * this header is its C form, and tests/unit/test_media.c holds golden bytes of each structure.
 *
 * Everything is little-endian and in units of 4096-byte blocks. Nothing that is read from a device
 * is believed before its checksum was verified, and nothing that no checksum covers is used at all.
 */
#ifndef STORE_LOCAL_MEDIA_H
#define STORE_LOCAL_MEDIA_H

#include "base/base.h"

#define BLOCK_BYTES 4096u
#define BLOCK_SHIFT 12

#define MEDIA_VERSION 1u

/* Feature flags. A store with an unknown incompat bit is refused; with an unknown ro bit, for
 * writing. */
#define MEDIA_INCOMPAT_KNOWN 0ull
#define MEDIA_RO_KNOWN       0ull

/* Device roles (bit mask): version 1 writes ALL and refuses anything else. */
#define ROLE_WAL  (1u << 0)
#define ROLE_META (1u << 1)
#define ROLE_DATA (1u << 2)
#define ROLE_ALL  (ROLE_WAL | ROLE_META | ROLE_DATA)

/*
 * Superblock: one block, at device blocks 0 and 8 and at the last one. Written by format only.
 *
 * OFFSET SIZE MEANING
 *      0    8 magic "PENSTOCK"
 *      8    4 CRC32C of bytes 12..4095
 *     12    4 format version
 *     16    8 feature flags: compatible
 *     24    8 feature flags: read-only compatible
 *     32    8 feature flags: incompatible
 *     40   16 store UUID
 *     56   16 device UUID
 *     72    4 index of this device, from 0
 *     76    4 number of devices
 *     80    4 block size in bytes (4096)
 *     84    4 roles of this device (ROLE_*)
 *     88    8 blocks of a device that are used (the same on every device)
 *     96    8 time of format, ns since the epoch
 *    104    4 shards
 *    108    4 stripe unit in blocks
 *    112    8 first block of the shard headers (2 per shard)
 *    120    8 first block of the logs
 *    128    8 blocks of one shard's log
 *    136    8 first block of the checksum pages
 *    144    8 number of checksum pages (each two blocks)
 *    152    8 first block of the data area
 *    160    8 blocks of a region on one device
 *    168    8 number of regions
 *    176    8 log identity: a random number, in every frame of this store
 *    184   64 label, NUL padded
 *    248  ... zero
 */
#define SUPER_MAGIC  "PENSTOCK"
#define SUPER_COPIES 3
struct media_super {
	uint8_t magic[8];
	le32 crc;
	le32 version;
	le64 feat_compat;
	le64 feat_ro;
	le64 feat_incompat;
	uint8_t store_uuid[16];
	uint8_t dev_uuid[16];
	le32 dev_index;
	le32 dev_count;
	le32 block_bytes;
	le32 roles;
	le64 dev_blocks;
	le64 ctime_ns;
	le32 shards;
	le32 stripe_blocks;
	le64 header_start;
	le64 log_start;
	le64 log_blocks;
	le64 csum_start;
	le64 csum_pages;
	le64 data_start;
	le64 region_blocks;
	le64 regions;
	le64 log_id;
	uint8_t label[64];
	uint8_t zero[BLOCK_BYTES - 248];
};
_Static_assert(sizeof(struct media_super) == BLOCK_BYTES,
               "a superblock is one block of 4096 bytes");
_Static_assert(offsetof(struct media_super, label) == 184, "superblock label at byte 184");

/*
 * Shard header: one block, two slots per shard, written in turn at each checkpoint: the valid one
 * with the greater generation counts.
 *
 * OFFSET SIZE MEANING
 *      0    4 magic "PSTH"
 *      4    4 CRC32C of bytes 8..4095
 *      8   16 store UUID
 *     24    4 shard
 *     28    4 zero
 *     32    8 generation: grows by one at each checkpoint
 *     40    8 epoch: grows by one at each open for writing (shard 0's is the store's)
 *     48    8 frame sequence up to which everything is in this checkpoint
 *     56    8 log position (in blocks, ever growing) of the next frame
 *     64    8 block address of the root page of the system tree, 0: empty
 *     72    8 items of the system tree
 *     80    8 time of the checkpoint, ns since the epoch
 *     88    8 next container id (shard 0)
 *     96    4 clean: 1 when the log after this checkpoint is empty (clean close)
 *    100  ... zero
 */
#define HEADER_MAGIC 0x48545350u /* "PSTH" */
struct media_header {
	le32 magic;
	le32 crc;
	uint8_t store_uuid[16];
	le32 shard;
	le32 zero0;
	le64 gen;
	le64 epoch;
	le64 frame_seq;
	le64 log_pos;
	le64 sys_root;
	le64 sys_items;
	le64 time_ns;
	le64 next_cont;
	le32 clean;
	uint8_t zero[BLOCK_BYTES - 100];
} __attribute__((packed));
_Static_assert(sizeof(struct media_header) == BLOCK_BYTES, "a shard header is one block");

/*
 * Log frame: the unit of a group commit. Blocks: the header and its records (meta_bytes, padded to
 * a block), then data_blocks blocks of journaled data. Frames follow one another; one that does not
 * fit before the end of the log begins at the log's first block, after a one-block frame with
 * FRAME_SKIP that has the same sequence number.
 *
 * OFFSET SIZE MEANING
 *      0    4 magic "PSTF"
 *      4    4 CRC32C of bytes 8..meta_bytes-1
 *      8    8 frame sequence number, consecutive
 *     16    8 log position (block number, ever growing; the place is pos mod log_blocks)
 *     24    8 durable-up-to: all frames up to this sequence were durable when this was written
 *     32    8 log identity of the store
 *     40    4 meta_bytes: header and records
 *     44    4 data_blocks
 *     48    2 shard
 *     50    2 flags (FRAME_*)
 *     52    4 number of records
 *     56    8 epoch of the store when it was written
 */
#define FRAME_MAGIC           0x46545350u /* "PSTF" */
#define FRAME_SKIP            (1u << 0) /* no records: the next frame is at the log's first block */
#define FRAME_END             (1u << 1) /* a recovery ended the log here: what follows is void */
#define FRAME_META_MAX        (1u << 20)
#define FRAME_DATA_BLOCKS_MAX 1000u
struct media_frame {
	le32 magic;
	le32 crc;
	le64 seq;
	le64 pos;
	le64 durable;
	le64 log_id;
	le32 meta_bytes;
	le32 data_blocks;
	le16 shard;
	le16 flags;
	le32 records;
	le64 epoch;
};
_Static_assert(sizeof(struct media_frame) == 64, "a frame header is 64 bytes");

/*
 * Log record: one mutation, all or nothing.
 *
 * OFFSET SIZE MEANING
 *      0    4 length in bytes, a multiple of 8, this header included
 *      4    2 type (REC_*)
 *      6    2 flags (REC_F_*)
 *      8    4 container id
 *     12    4 tenant id
 *     16    8 time, ns since the epoch
 *     24    4 number of changes
 *     28    4 zero
 *     32   56 with REC_F_TOKEN: struct media_reply
 *     ..      changes (REC_BATCH), or the type's own body
 */
enum {
	REC_BATCH = 1,
	REC_CONT_CREATE = 2,   /* root shard: struct media_cont_name, name */
	REC_CONT_DESTROY = 3,  /* root shard */
	REC_CONT_SET = 4,      /* home shard: struct media_cont_set */
	REC_SNAP_CREATE = 5,   /* home shard: u64 id, name */
	REC_SNAP_DESTROY = 6,  /* home shard: u64 id */
	REC_SESSION_CLOSE = 7, /* u64 session: its replay slots go */
};
#define REC_F_TOKEN (1u << 0)
struct media_record {
	le32 len;
	le16 type;
	le16 flags;
	le32 cont;
	le32 tenant;
	le64 time_ns;
	le32 changes;
	le32 zero;
};
_Static_assert(sizeof(struct media_record) == 32, "a record header is 32 bytes");

/*
 * Replay token and the answer that was given, in the record of the change itself, and as the value
 * of the system tree's 'T' items.
 *
 * OFFSET SIZE MEANING
 *      0    8 session
 *      8    4 slot
 *     12    4 what the request was, in a word of the submitter's; 0: not said
 *     16    8 sequence in the slot
 *     24    8 ret_len
 *     32    8 ret_off
 *     40    8 reply word (op->ino)
 *     48    8 time, ns since the epoch
 */
struct media_reply {
	le64 session;
	le32 slot;
	le32 about;
	le64 seq;
	le64 ret_len;
	le64 ret_off;
	le64 word;
	le64 time_ns;
};
_Static_assert(sizeof(struct media_reply) == 56, "a reply is 56 bytes");

/*
 * A change within a record. After the header come `body` bytes, padded to 8.
 *
 * OFFSET SIZE MEANING
 *      0    1 kind (CH_*)
 *      1    1 flags (CH_F_*)
 *      2    2 key length
 *      4    4 body length in bytes, without padding
 *      8    8 object id, high
 *     16    8 object id, low
 *
 * Bodies: CH_KV_PUT: key, value (with CH_F_OUT: struct media_outval). CH_KV_DEL: key.
 * CH_WRITE: struct media_write, its pieces, their checksums. CH_PUNCH: first block, blocks (u64
 * each). CH_RESIZE: new size (u64). CH_LABEL: label. CH_MTIME: u64. CH_DELETE: nothing.
 */
enum {
	CH_KV_PUT = 1,
	CH_KV_DEL = 2,
	CH_WRITE = 3,
	CH_PUNCH = 4,
	CH_RESIZE = 5,
	CH_LABEL = 6,
	CH_MTIME = 7,
	CH_DELETE = 8,
};
#define CH_F_OUT    (1u << 0) /* KV_PUT: the value lies outside the index */
#define CH_F_NOCSUM (1u << 1) /* WRITE: the checksums are not kept with the blocks */
struct media_change {
	uint8_t kind;
	uint8_t flags;
	le16 key_len;
	le32 body_len;
	le64 oid_hi;
	le64 oid_lo;
};
_Static_assert(sizeof(struct media_change) == 24, "a change header is 24 bytes");

/*
 * Body of CH_WRITE, then `pieces` times struct media_piece, then one CRC32C (le32) per block of all
 * pieces in order (with CH_F_NOCSUM too: recovery verifies by them).
 *
 * OFFSET SIZE MEANING
 *      0    8 the array's size is at least this afterwards (bytes)
 *      8    4 number of pieces
 *     12    4 first journaled block of this change within the frame's data blocks
 */
struct media_write {
	le64 size_min;
	le32 pieces;
	le32 data_index;
};
_Static_assert(sizeof(struct media_write) == 16, "a write body begins with 16 bytes");

/*
 * OFFSET SIZE MEANING
 *      0    8 first block of the array
 *      8    8 block address
 *     16    4 blocks
 *     20    4 flags (PIECE_*)
 */
#define PIECE_JOURNALED \
	(1u << 0) /* its content is in the frame; else it was written in place before */
#define PIECE_IN_PLACE (1u << 1) /* overwrites blocks that are mapped there already */
struct media_piece {
	le64 lblk;
	le64 addr;
	le32 blocks;
	le32 flags;
};
_Static_assert(sizeof(struct media_piece) == 24, "a piece is 24 bytes");

/*
 * A value outside the index: its bytes fill the extents in order, the last block padded with zeros.
 * In the record and, with the births, in the index.
 *
 * OFFSET SIZE MEANING
 *      0    4 value length in bytes
 *      4    2 number of extents (1..OUTVAL_EXTENTS_MAX)
 *      6    2 flags: bit 0: no checksums
 *      8    4 birth epoch
 *     12    4 CRC32C of the value
 *     16   .. extents: block address (6 bytes), blocks (2 bytes)
 */
#define OUTVAL_EXTENTS_MAX 16
struct media_outval {
	le32 len;
	le16 extents;
	le16 flags;
	le32 birth;
	le32 crc;
	struct {
		uint8_t addr[6];
		le16 blocks;
	} extent[OUTVAL_EXTENTS_MAX];
};
_Static_assert(sizeof(struct media_outval) == 16 + 8 * OUTVAL_EXTENTS_MAX,
               "an outside value's shape");

/*
 * Bodies of the other records. Names follow their structure, unterminated, to the record's length.
 *
 * CONT_CREATE, and the value of the system tree's 'N' items:
 * OFFSET SIZE MEANING
 *      0    4 container id
 *      4    4 home shard
 *      8    4 properties (PST_PROP_*)
 *     12    2 layout
 *     14    2 name length
 *     16   16 container UUID
 *     32    8 time of creation, ns since the epoch
 *     40    8 quota of bytes as created, 0: none (today's is in the home shard's state)
 *     48    8 quota of objects as created, 0: none
 */
struct media_cont_name {
	le32 id;
	le32 home_shard;
	le32 props;
	le16 layout;
	le16 name_len;
	uint8_t uuid[16];
	le64 ctime_ns;
	le64 quota_bytes;
	le64 quota_objects;
};
_Static_assert(sizeof(struct media_cont_name) == 56, "a container name entry is 56 bytes");
/*
 * CONT_SET:
 * OFFSET SIZE MEANING
 *      0    4 which of them are set (PST_SET_*)
 *      4    4 properties (PST_PROP_*)
 *      8    8 quota of bytes, 0: none
 *     16    8 quota of objects, 0: none
 */
struct media_cont_set {
	le32 mask;
	le32 props;
	le64 quota_bytes;
	le64 quota_objects;
};
_Static_assert(sizeof(struct media_cont_set) == 24, "a container setting is 24 bytes");
/*
 * SNAP_CREATE; of SNAP_DESTROY's body there is only the id:
 * OFFSET SIZE MEANING
 *      0    8 snapshot id: the container's epoch when it was made
 *      8    4 name length
 *     12    4 zero
 */
struct media_snap {
	le64 id;
	le32 name_len;
	le32 zero;
};
_Static_assert(sizeof(struct media_snap) == 16, "a snapshot record body begins with 16 bytes");

/*
 * Checksum page: two blocks per page, slots written in turn; the valid slot with the greater
 * version counts. Covers CSUMS_PER_PAGE consecutive block addresses.
 *
 * OFFSET SIZE MEANING
 *      0    4 magic "PSTC"
 *      4    4 CRC32C of bytes 8..4095
 *      8    8 page index
 *     16    8 version
 *     24    8 log identity of the store
 *     32   32 zero
 *     64 4032 CRC32C of each block
 */
#define CSUM_MAGIC     0x43545350u /* "PSTC" */
#define CSUMS_PER_PAGE 1008u
struct media_csums {
	le32 magic;
	le32 crc;
	le64 index;
	le64 version;
	le64 log_id;
	uint8_t zero[32];
	le32 csum[CSUMS_PER_PAGE];
};
_Static_assert(sizeof(struct media_csums) == BLOCK_BYTES, "a checksum page slot is one block");

/*
 * Keys of the system tree (numbers big-endian, so that they sort):
 *   'C' cont(4)            -> struct media_cont   containers at home on this shard
 *   'S' cont(4) id(8)      -> struct media_cont, name: a snapshot's frozen state
 *   'N' name               -> struct media_cont_name   (shard 0) the container table
 *   'T' session(8) slot(4) -> struct media_reply
 *
 * A container's state, or a snapshot's:
 * OFFSET SIZE MEANING
 *      0    8 block address of the root page of its tree, 0: empty
 *      8    8 items of its tree
 *     16    4 birth epoch now; of a snapshot: its id
 *     20    4 properties (PST_PROP_*)
 *     24    8 blocks that are allocated
 *     32    8 objects
 *     40    8 sum of the sizes of arrays in bytes
 *     48    8 quota of bytes, 0: none
 *     56    8 quota of objects, 0: none
 *     64    8 of a snapshot: time of its creation, ns since the epoch
 */
struct media_cont {
	le64 root;
	le64 items;
	le32 epoch;
	le32 props;
	le64 used_blocks;
	le64 objects;
	le64 logical_bytes;
	le64 quota_bytes;
	le64 quota_objects;
	le64 time_ns;
};
_Static_assert(sizeof(struct media_cont) == 72, "a container's state is 72 bytes");

/*
 * Keys of a container's tree begin with the object id (16 bytes, big-endian) and a kind:
 *   0                      -> object head
 *   1 first block (6)      -> struct media_extent
 *   2 key                  -> a value: one byte VAL_INLINE, then its bytes; or VAL_OUT,
 * media_outval
 *
 * Object head:
 * OFFSET SIZE MEANING
 *      0    1 flags: HEAD_EXTENT, HEAD_CSUM
 *      1    1 label length
 *      2    6 blocks that the array has allocated
 *      8    8 array size in bytes
 *     16    8 mtime, ns since the epoch
 *     24   14 with HEAD_EXTENT: the extent that begins at block 0 (struct media_extent)
 *     38    4 with HEAD_CSUM: CRC32C of block 0, a copy of what its checksum page says. Only where
 *             that extent is one block and has checksums
 *     ..      label
 */
#define HEAD_EXTENT (1u << 0)
#define HEAD_CSUM   (1u << 1)
struct media_head {
	uint8_t flags;
	uint8_t label_len;
	uint8_t blocks[6];
	le64 size;
	le64 mtime;
} __attribute__((packed));
_Static_assert(sizeof(struct media_head) == 24, "an object head begins with 24 bytes");
/*
 * An extent:
 * OFFSET SIZE MEANING
 *      0    6 block address
 *      6    4 blocks; top bit (EXTENT_NOCSUM): without checksums
 *     10    4 birth epoch
 */
#define EXTENT_NOCSUM     (1u << 31) /* in media_extent.blocks */
#define EXTENT_BLOCKS_MAX ((1u << 30) - 1)
struct media_extent {
	uint8_t addr[6];
	le32 blocks;
	le32 birth;
} __attribute__((packed));
_Static_assert(sizeof(struct media_extent) == 14, "an extent is 14 bytes");
#define VAL_INLINE 0
#define VAL_OUT    1
#define KEY_HEAD   0
#define KEY_EXTENT 1
#define KEY_KV     2

static inline uint64_t get48(const uint8_t p[6])
{
	uint32_t low;
	uint16_t high;

	/* Not by way of a word in memory: a load of more than was stored last has to wait for it. */
	memcpy(&low, p, 4);
	memcpy(&high, p + 4, 2);
	return (uint64_t)le16toh(high) << 32 | le32toh(low);
}
static inline void put48(uint8_t p[6], uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, 6);
}
static inline void put_be16(uint8_t *p, uint16_t v)
{
	v = htobe16(v);
	memcpy(p, &v, 2);
}
static inline void put_be32(uint8_t *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, 4);
}
static inline void put_be64(uint8_t *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, 8);
}
static inline uint32_t get_be32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return be32toh(v);
}
static inline uint64_t get_be64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return be64toh(v);
}

#endif
