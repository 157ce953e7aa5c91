/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * msg - the fixed parts of every message, and their way in and out of memory. docs/wire-format.md
 * has the same tables with what surrounds them. Needs no libc and compiles as C, C++ and CUDA: it is
 * all that a reader or writer of hot messages has to know.
 *
 * All numbers are little-endian. Bytes that are called zero are sent as 0 and refused when they are
 * not: that is how they can mean something one day.
 *
 * Every message begins with the same 16 bytes:
 *
 *   OFFSET SIZE MEANING
 *        0    1 kind: enum wire_kind
 *        1    1 version: what WELCOME agreed on (HELLO: the newest that the sender speaks)
 *        2    1 opcode: enum pst_opcode; 0 where there is none
 *        3    1 what: WIRE_*, by kind
 *        4    4 by kind
 *        8    8 id: the sender's number of a request; its answer, cancel and events repeat it
 */
#ifndef WIRE_MSG_H
#define WIRE_MSG_H

#include <stdint.h>

/*
 * 1  the first
 * 2  STATUS says what was refused for lack of space; a bad block's event which view it is of;
 *    handles
 */
#define WIRE_VERSION     2u /* what this code speaks */
#define WIRE_VERSION_MIN 1u /* and what it understands: one back */

/*
 * In a WELCOME's capability bits the upper half is the server's, not the store's: what else it offers.
 * An end that knows none of them sends 0 there, and passes over what it gets.
 */
#define WIRE_STORE_CAPS 0xffffffffull
#define WIRE_OFFERS_RDMA \
	(1ull << 32) /* the channel ofi over verbs, WIRE_PLACE_OFI ports above tcp's */

#define WIRE_HANDLE_BYTES 64u

enum wire_kind {
	WIRE_HELLO = 1,   /* client: the first message of a channel */
	WIRE_WELCOME = 2, /* server: its answer */
	WIRE_REQ = 3,     /* client: an op */
	WIRE_RESP = 4,    /* server: its end */
	WIRE_CANCEL = 5,  /* client: an early end, please */
	WIRE_PING = 6,    /* either: are you there? */
	WIRE_PONG = 7,    /* I am */
	WIRE_EVENT = 8,   /* server: something about an op that goes on */
	WIRE_CREDIT = 9,  /* client: so many more events of an op */
	WIRE_BYE = 10,    /* either: nothing more will come, and why */
	/* of channels that are sealed: seal_int.h */
	WIRE_SEAL_BEGIN = 11,
	WIRE_SEAL_ANSWER = 12,
	WIRE_SEALED = 13,
	WIRE_SEAL_PAYLOAD = 14, /* never sent */
};

/* what, of a REQ */
#define WIRE_TOKEN  (1u << 0) /* slot and seq count: it changes something */
#define WIRE_WINDOW (1u << 1) /* a buffer descriptor follows the header */
#define WIRE_PULL   (1u << 2) /* body and payload lie in the window, not in the message */
#define WIRE_CRC    (1u << 3) /* crc counts */
#define WIRE_VALUES (1u << 4) /* the op's want_values */
#define WIRE_RESENT (1u << 5) /* it was sent before, on this channel or an older one */
#define WIRE_MARKED (1u << 6) /* with PULL, on sealed channels: the marks of body and payload */
#define WIRE_HANDLE (1u << 7) /* a handle comes next; from version 2 on */
/* what, of a RESP */
#define WIRE_PUSHED (1u << 1) /* the payload was written into the request's window */
                              /* 1u << 3: WIRE_CRC */
#define WIRE_MORE  (1u << 4)  /* a list's page is full, not its end */
#define WIRE_AGAIN (1u << 5)  /* not taken: send it again, soon; status says why */
                              /* 1u << 6: WIRE_MARKED, with PUSHED: the payload's mark */
#define WIRE_MARK_BYTES 24u   /* number (8), tag (16) */

/*
 * REQ. Then: the descriptor (WIRE_WINDOW), two marks (WIRE_MARKED), the handle (WIRE_HANDLE), body_len
 * bytes of fields (codec.h), len bytes of payload (ops that carry data to the server). With WIRE_PULL
 * the last two are what the window shows.
 * Else a window is where the answer's payload goes.
 *
 *   OFFSET SIZE MEANING
 *        0   16 common; at 4: the op's flags (PST_F_*)
 *       16    4 slot, of the replay token; its session is the channel's
 *       20    4 microseconds that the client will wait; 0: for ever
 *       24    8 seq, of the replay token
 *       32    4 tenant; 0: the session's
 *       36    2 server id, 0
 *       38    2 replica, 0
 *       40    4 map epoch, 0
 *       44    4 zero
 *       48    4 container
 *       52    4 len: bytes of payload that come, or the most that may go back
 *       56    8 view
 *       64   16 object: hi, lo. Names ops: 0, inode
 *       80    8 offset
 *       88    4 crc32c of the payload
 *       92    4 body_len
 */
struct wire_req {
	uint8_t kind, version, opcode, what;
	uint32_t flags;
	uint64_t id;
	uint32_t slot;
	uint32_t wait_us;
	uint64_t seq;
	uint32_t tenant;
	uint16_t server, replica;
	uint32_t map_epoch;
	uint32_t zero;
	uint32_t cont;
	uint32_t len;
	uint64_t view;
	uint64_t oid_hi, oid_lo;
	uint64_t off;
	uint32_t crc;
	uint32_t body_len;
};

/*
 * RESP. Then: a mark (WIRE_MARKED), body_len bytes of fields, and len bytes of payload unless WIRE_PUSHED.
 *
 *   OFFSET SIZE MEANING
 *        0   16 common; at 4: status, 0 or a negative errno value as Linux numbers them
 *       16    8 ret_len
 *       24    8 ret_off
 *       32    8 word: inode or container, as the opcode has it
 *       40    4 index of the condition that did not hold
 *       44    4 len: bytes of payload
 *       48    4 crc32c of the payload
 *       52    4 body_len
 *       56    4 map epoch, 0
 *       60    4 zero
 */
struct wire_resp {
	uint8_t kind, version, opcode, what;
	int32_t status;
	uint64_t id;
	uint64_t ret_len, ret_off, word;
	uint32_t index;
	uint32_t len;
	uint32_t crc;
	uint32_t body_len;
	uint32_t map_epoch;
	uint32_t zero;
};

/*
 * A buffer descriptor: what one end may touch of the other's memory.
 *
 *   OFFSET SIZE MEANING
 *        0    8 key
 *        8    8 address
 *       16    8 bytes
 *       24    2 kind of memory (enum mem_kind): 0 to 2 a host's; a GPU's to come
 *       26    2 device of that kind
 *       28    4 region
 */
struct wire_desc {
	uint64_t key, addr, len;
	uint16_t kind, device;
	uint32_t region;
};

/*
 * CANCEL, PING, PONG and CREDIT are these 16 bytes; CREDIT has the count at 4, the others 0. An
 * EVENT has the length of its body at 4, a BYE a status, and then body or text.
 */
struct wire_note {
	uint8_t kind, version, opcode, what;
	uint32_t arg;
	uint64_t id;
};

#ifdef __cplusplus
#define WIRE_ASSERT(x, text) static_assert(x, text)
#else
#define WIRE_ASSERT(x, text) _Static_assert(x, text)
#endif
WIRE_ASSERT(sizeof(struct wire_req) == 96, "a request's header is 96 bytes");
WIRE_ASSERT(sizeof(struct wire_resp) == 64, "an answer's header is 64 bytes");
WIRE_ASSERT(sizeof(struct wire_desc) == 32, "a descriptor is 32 bytes");
WIRE_ASSERT(sizeof(struct wire_note) == 16, "a note is 16 bytes");
WIRE_ASSERT(__builtin_offsetof(struct wire_req, seq) == 24, "seq is at 24");
WIRE_ASSERT(__builtin_offsetof(struct wire_req, len) == 52, "len is at 52");
WIRE_ASSERT(__builtin_offsetof(struct wire_req, off) == 80, "off is at 80");
WIRE_ASSERT(__builtin_offsetof(struct wire_resp, word) == 32, "word is at 32");
WIRE_ASSERT(__builtin_offsetof(struct wire_resp, body_len) == 52, "body_len is at 52");
WIRE_ASSERT(__builtin_offsetof(struct wire_desc, region) == 28, "region is at 28");

/* --- in and out: a copy where the machine is little-endian, swaps elsewhere --- */

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define WIRE_SWAP16(x)            ((void)0)
#define WIRE_SWAP32(x)            ((void)0)
#define WIRE_SWAP64(x)            ((void)0)
#define WIRE_SWAP_AT(type, to, m) ((void)0)
#else
#define WIRE_SWAP16(x) ((x) = __builtin_bswap16(x))
#define WIRE_SWAP32(x) ((x) = __builtin_bswap32(x))
#define WIRE_SWAP64(x) ((x) = __builtin_bswap64(x))
#define WIRE_SWAP_AT(type, to, m)                          \
	do {                                               \
		struct type copy = *(m);                   \
		type##_swap(&copy);                        \
		__builtin_memcpy(to, &copy, sizeof(copy)); \
	} while (0)
#endif

static inline void wire_req_swap(struct wire_req *m)
{
	WIRE_SWAP32(m->flags);
	WIRE_SWAP64(m->id);
	WIRE_SWAP32(m->slot);
	WIRE_SWAP32(m->wait_us);
	WIRE_SWAP64(m->seq);
	WIRE_SWAP32(m->tenant);
	WIRE_SWAP16(m->server);
	WIRE_SWAP16(m->replica);
	WIRE_SWAP32(m->map_epoch);
	WIRE_SWAP32(m->zero);
	WIRE_SWAP32(m->cont);
	WIRE_SWAP32(m->len);
	WIRE_SWAP64(m->view);
	WIRE_SWAP64(m->oid_hi);
	WIRE_SWAP64(m->oid_lo);
	WIRE_SWAP64(m->off);
	WIRE_SWAP32(m->crc);
	WIRE_SWAP32(m->body_len);
	(void)m;
}
static inline void wire_resp_swap(struct wire_resp *m)
{
	WIRE_SWAP32(m->status);
	WIRE_SWAP64(m->id);
	WIRE_SWAP64(m->ret_len);
	WIRE_SWAP64(m->ret_off);
	WIRE_SWAP64(m->word);
	WIRE_SWAP32(m->index);
	WIRE_SWAP32(m->len);
	WIRE_SWAP32(m->crc);
	WIRE_SWAP32(m->body_len);
	WIRE_SWAP32(m->map_epoch);
	WIRE_SWAP32(m->zero);
	(void)m;
}
static inline void wire_desc_swap(struct wire_desc *m)
{
	WIRE_SWAP64(m->key);
	WIRE_SWAP64(m->addr);
	WIRE_SWAP64(m->len);
	WIRE_SWAP16(m->kind);
	WIRE_SWAP16(m->device);
	WIRE_SWAP32(m->region);
	(void)m;
}
static inline void wire_note_swap(struct wire_note *m)
{
	WIRE_SWAP32(m->arg);
	WIRE_SWAP64(m->id);
	(void)m;
}

/*
 * _get and _put read from, and write to, unaligned bytes of a message; the caller knows that there are
 * enough of them. _look is for a header in memory that is aligned to 8, and that nobody changes as long
 * as it is looked at: it lies there as it is, or, where bytes are the other way round, as a copy in
 * *room. _show is the way back.
 */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define WIRE_IN_PLACE(type, room, at) ((void)(room), (at))
#else
#define WIRE_IN_PLACE(type, room, at) \
	(__builtin_memcpy(room, at, sizeof(*(room))), type##_swap(room), (room))
#endif
#define WIRE_INOUT(type)                                                                \
	static inline void type##_get(struct type *ret_m, const void *from)             \
	{                                                                               \
		__builtin_memcpy(ret_m, from, sizeof(*ret_m));                          \
		type##_swap(ret_m);                                                     \
	}                                                                               \
	static inline void type##_put(void *to, const struct type *m)                   \
	{                                                                               \
		__builtin_memcpy(to, m, sizeof(*m));                                    \
		WIRE_SWAP_AT(type, to, m);                                              \
	}                                                                               \
	static inline const struct type *type##_look(struct type *room, const void *at) \
	{                                                                               \
		return WIRE_IN_PLACE(type, room, (const struct type *)at);              \
	}                                                                               \
	static inline const void *type##_show(struct type *room, const struct type *m)  \
	{                                                                               \
		return WIRE_IN_PLACE(type, room, m);                                    \
	}
WIRE_INOUT(wire_req)
WIRE_INOUT(wire_resp)
WIRE_INOUT(wire_desc)
WIRE_INOUT(wire_note)

/* The form of a request's header: nothing in it contradicts itself. What it asks for is judged by
 * those who know the op. @len: of the whole message. */
static inline int wire_req_sane(const struct wire_req *m, uint32_t len)
{
	uint32_t more = (m->what & WIRE_WINDOW ? (uint32_t)sizeof(struct wire_desc) : 0) +
	                (m->what & WIRE_HANDLE ? WIRE_HANDLE_BYTES : 0);

	more += m->what & WIRE_MARKED ? 2 * WIRE_MARK_BYTES : 0;
	if ((m->what & ~(WIRE_TOKEN | WIRE_WINDOW | WIRE_PULL | WIRE_CRC | WIRE_VALUES |
	                 WIRE_RESENT | WIRE_MARKED | WIRE_HANDLE)) ||
	    (m->server | m->replica) || m->map_epoch || m->zero)
		return 0;
	if (m->what & WIRE_HANDLE && m->version < 2)
		return 0;
	if ((m->what & (WIRE_WINDOW | WIRE_PULL)) == WIRE_PULL)
		return 0;
	if ((m->what & (WIRE_MARKED | WIRE_PULL)) == WIRE_MARKED)
		return 0;
	if (!(m->what & WIRE_TOKEN) && (m->slot || m->seq))
		return 0;
	return len >= sizeof(*m) + more;
}

static inline int wire_resp_sane(const struct wire_resp *m, uint32_t len)
{
	uint64_t need =
	        sizeof(*m) + (uint64_t)m->body_len + (m->what & WIRE_MARKED ? WIRE_MARK_BYTES : 0);

	if ((m->what & ~(WIRE_PUSHED | WIRE_CRC | WIRE_MORE | WIRE_AGAIN | WIRE_MARKED)) ||
	    (m->what & (WIRE_MARKED | WIRE_PUSHED)) == WIRE_MARKED || m->map_epoch || m->zero ||
	    m->status > 0 || m->status < -4095)
		return 0;
	return len == (m->what & WIRE_PUSHED ? need : need + m->len);
}

#endif
