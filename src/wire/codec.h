/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * codec - what of an op does not fit into the header of its message: names, keys, attributes,
 * batches, pages of lists, figures; and the messages that open a channel. msg.h has the headers.
 *
 * Bytes from a peer are hostile. Everything that is read here is checked against its end, each
 * length against its limit, and whatever is left over, out of order, or not zero where it must be,
 * makes the whole message bad (-EPROTO). Decoded pointers point into the bytes that were given.
 */
#ifndef WIRE_CODEC_H
#define WIRE_CODEC_H

#include "store/store.h"
#include "wire/msg.h"

/* The longest that travels; what is longer than the store takes is the store's to refuse, but what
 * does not fit here is refused by the sender with the same error. */
#define WIRE_KEY_MAX     511u
#define WIRE_PATH_MAX    PST_PATH_MAX
#define WIRE_BODY_MAX    (40u * 1024)                                 /* of a request's fields */
#define WIRE_PAYLOAD_MAX (PST_IO_MAX + PST_BATCH_MAX * PST_VALUE_MAX) /* of the largest batch */
#define WIRE_PAGE_MIN    (PST_VALUE_MAX + 1024u) /* holds any entry of a list with its value */
#define WIRE_MSG_MIN     8192u                   /* a channel's messages must be that long */
#define WIRE_TEXT_MAX    255u

/* --- cursors over bytes --- */

struct wire_out {
	uint8_t *at, *end;
	bool full;       /* something did not fit; nothing is written any more */
	uint8_t version; /* that the reader speaks; 0: the newest */
};
struct wire_in {
	const uint8_t *at, *end;
	bool bad;        /* something was not there; zeroes are read from then on */
	uint8_t version; /* that the writer speaks; 0: the newest */
};

static inline uint32_t wire_in_left(const struct wire_in *in)
{
	return (uint32_t)(in->end - in->at);
}

/* --- the table of ops, as the wire sees them --- */

enum {
	WIRE_OP_TOKEN = 1 << 0,    /* carries a replay token */
	WIRE_OP_DATA_IN = 1 << 1,  /* payload to the server: op->iov */
	WIRE_OP_VAL_IN = 1 << 2,   /* payload to the server: op->val */
	WIRE_OP_DATA_OUT = 1 << 3, /* payload to the client: op->iov */
	WIRE_OP_VAL_OUT = 1 << 4,  /* payload to the client: op->val */
	WIRE_OP_LIST = 1 << 5,     /* payload to the client: pages of entries */
	WIRE_OP_BATCH = 1 << 6,    /* payload to the server: what its changes write */
	WIRE_OP_OBJECT = 1 << 7,   /* the header names an object; else an inode */
	WIRE_OP_CONT = 1 << 8,     /* the answer's word is the container; else op->ino */
	WIRE_OP_HOT = 1 << 9,      /* no fields in either direction if the inode is named */
	WIRE_OP_STEADY = 1 << 10,  /* goes on for long: how long says nothing */
	WIRE_OP_KNOWN = 1 << 11,   /* all that travel */
	WIRE_OP_INODE = 1 << 12,   /* may name an inode by its number: a handle may go with it */
};

struct wire_op {
	uint16_t is;
	uint32_t takes, gives; /* bits of enum wire_field */
};

extern const struct wire_op wire_ops[256]; /* by opcode */

/* NULL: not an op that travels. */
static inline const struct wire_op *wire_op_of(uint8_t opcode)
{
	const struct wire_op *w = &wire_ops[opcode];

	return likely(w->is) ? w : NULL;
}

/* --- fields: a tag (2), zero (2), a length (4), the bytes, zeroes up to a multiple of 8. Tags
 * ascend, each at most once. --- */

enum wire_field {
	WIRE_F_KEY = 1,
	WIRE_F_START = 2,
	WIRE_F_NAME = 3,
	WIRE_F_NAME2 = 4,
	WIRE_F_DIRS = 5,  /* 8 dir, 8 dir2 */
	WIRE_F_ATTR = 6,  /* 80 */
	WIRE_F_MASKS = 7, /* 4 attr_mask, 4 what is wanted: WIRE_WANT_* */
	WIRE_F_CONT = 8,
	WIRE_F_SNAP = 9,
	WIRE_F_STAT = 10,
	WIRE_F_STATUS = 11,
	WIRE_F_SCRUB = 12,
	WIRE_F_MUTS = 13,
	WIRE_F_RANGE = 14,  /* EXTENTS: 8 length, 8 inode */
	WIRE_F_OFFS = 15,   /* of a batch's appends, in order, 8 bytes each; all ones: not known */
	WIRE_F_HANDLE = 16, /* 64, of the inode that the answer is about; from version 2 on */
	WIRE_FIELDS,
};
#define WIRE_BIT(f) (1u << (f))

#define WIRE_WANT_CONT   (1u << 0)
#define WIRE_WANT_STATUS (1u << 1)

/* Where the server puts what an op points at. */
struct wire_scratch {
	struct pst_mut muts[PST_BATCH_MAX];
	struct iovec iov[PST_BATCH_MAX]; /* of the batch's array writes */
	uint32_t at[PST_BATCH_MAX];      /* where in the payload each change's part is */
	union {
		struct pst_cont_info cont;
		struct pst_snap_info snap;
		struct pst_obj_stat stat;
		struct pst_scrub_report scrub;
	};
	struct pst_store_status status;
	struct pst_oid start; /* OBJ_LIST */
};

/* Client: the fields of @op's request. False: they don't fit. */
bool wire_body_put(struct wire_out *out, const struct pst_op *op);
/*
 * Server: the other way, into an op whose header fields are set. Pointers into @in and @scratch. A
 * batch's changes get places in its payload of @payload_len bytes, which is not there yet:
 * wire_batch_place() says where it is. 0 or -EPROTO.
 */
int wire_body_get(struct wire_in *in, struct pst_op *op, struct wire_scratch *scratch,
                  uint32_t payload_len);
void wire_batch_place(struct pst_op *op, struct wire_scratch *scratch, uint8_t *payload);
/* Server: the fields of the answer of an op that succeeded. */
bool wire_answer_put(struct wire_out *out, const struct pst_op *op);
/* and behind them, where there is one, the inode's handle. */
bool wire_handle_put(struct wire_out *out, const uint8_t handle[WIRE_HANDLE_BYTES]);
/* Client: the other way; writes outputs of @op only if all is well. *ret_handle (may be NULL): the
 * handle in @in, or NULL. 0 or -EPROTO. */
int wire_answer_get(struct wire_in *in, struct pst_op *op, const uint8_t **ret_handle);

/* --- batches --- */

/* What @op's batch sends as payload: bytes, or a negative errno value if it can't travel. */
int64_t wire_batch_payload(const struct pst_op *op);
/* The pieces of memory that are its payload, at most @max: how many, or -E2BIG. */
int wire_batch_iov(const struct pst_op *op, struct iovec *ret_iov, unsigned max);

/* --- pages of lists --- */

/* One more entry of @op's list, with its inode's handle if @handle isn't NULL. False: it does not fit
 * (and @out is as before). */
bool wire_entry_put(struct wire_out *out, const struct pst_op *op, const struct pst_entry *e,
                    const uint8_t *handle);
struct wire_entry {
	struct pst_entry e;
	struct pst_attr attr;
	union {
		struct pst_cont_info cont;
		struct pst_snap_info snap;
	};
	struct pst_oid oid;    /* OBJ_LIST: the name, as this machine writes it */
	const uint8_t *handle; /* READDIR: or NULL */
};
int wire_entry_get(struct wire_in *in, const struct pst_op *op, struct wire_entry *ret_entry);
/* How the place behind the last entry is told: bytes at @ret, at most WIRE_KEY_MAX; its length. */
uint32_t wire_entry_place(const struct pst_op *op, const struct pst_entry *e, uint8_t *ret);

/* --- opening a channel --- */

#define WIRE_MAGIC 0x31545350u /* "PST1" */

struct wire_hello {
	uint8_t version, version_min;
	uint8_t client[16];    /* which process: random */
	uint64_t session;      /* 0: a new one */
	uint8_t secret[16];    /* of that session */
	uint8_t store[16];     /* its store as the client knows it; zero: not yet */
	uint64_t epoch;        /* the highest that it has seen of that store */
	uint32_t slots, depth; /* wanted */
	const void *cred;      /* a capability's token, or nothing */
	uint32_t cred_len;
	const char *name; /* of the client, to print */
	uint32_t name_len;
};
struct wire_welcome {
	uint8_t version;
	bool resumed; /* the session was known */
	int32_t status; /* not 0: refused, text says why; what follows is zero, but that a client which
	                   knows the store is told store, epoch and openings */
	const char *text;
	uint32_t text_len;
	uint64_t session;
	uint8_t secret[16];
	uint8_t store[16];
	uint64_t epoch, caps;
	uint32_t opening;      /* number of this opening of the store; 0: not known */
	uint32_t opening_seen; /* of the one that the hello's epoch is of; 0: not known */
	uint32_t slots, depth;
	uint32_t lease_ms, expiry_s;
};
#define WIRE_HELLO_MAX 8192u

/* Bytes written, 0: does not fit. */
uint32_t wire_hello_put(void *buf, uint32_t cap, const struct wire_hello *h);
uint32_t wire_welcome_put(void *buf, uint32_t cap, const struct wire_welcome *w);
/* 0 or -EPROTO; pointers into @msg. -EPROTONOSUPPORT: no version in common (version fields are
 * set). */
int wire_hello_get(struct wire_hello *ret_hello, const void *msg, uint32_t len);
int wire_welcome_get(struct wire_welcome *ret_welcome, const void *msg, uint32_t len);

/* --- events of a scrub: its figures, or a bad block --- */

struct wire_bad_block {
	uint32_t cont;
	struct pst_oid oid;
	uint64_t off;
	uint64_t view; /* from version 2 on */
	int32_t status;
};
#define WIRE_EVENT_MAX 256u
/* An EVENT message for request @id. @bad NULL: figures only. */
uint32_t wire_scrub_event_put(void *buf, uint32_t cap, uint8_t version, uint64_t id,
                              const struct pst_scrub_report *r, const struct wire_bad_block *bad);
/* Its body. *ret_is_bad tells which; figures are updated in any case. */
int wire_scrub_event_get(const void *msg, uint32_t len, struct pst_scrub_report *r,
                         bool *ret_is_bad, struct wire_bad_block *ret_bad);

/* A note: 16 bytes. */
static inline void wire_note_make(void *buf, uint8_t version, uint8_t kind, uint32_t arg,
                                  uint64_t id)
{
	struct wire_note n = {.kind = kind, .version = version, .arg = arg, .id = id};

	wire_note_put(buf, &n);
}

/* --- for the files of the codec --- */

void wire_put_8(struct wire_out *out, uint8_t v);
void wire_put_16(struct wire_out *out, uint16_t v);
void wire_put_32(struct wire_out *out, uint32_t v);
void wire_put_64(struct wire_out *out, uint64_t v);
void wire_put_bytes(struct wire_out *out, const void *p, size_t len);
void wire_put_pad(struct wire_out *out, size_t len); /* zeroes up to a multiple of 8 */
uint8_t wire_get_8(struct wire_in *in);
uint16_t wire_get_16(struct wire_in *in);
uint32_t wire_get_32(struct wire_in *in);
uint64_t wire_get_64(struct wire_in *in);
const void *wire_get_bytes(struct wire_in *in, size_t len); /* NULL if they are not there */
void wire_copy_bytes(struct wire_in *in, void *to, size_t len);
void wire_get_pad(struct wire_in *in, size_t len);
void wire_get_zero(struct wire_in *in, size_t len);
void wire_attr_put(struct wire_out *out, const struct pst_attr *a);
void wire_attr_get(struct wire_in *in, struct pst_attr *ret_attr);
void wire_cont_put(struct wire_out *out, const struct pst_cont_info *c);
void wire_cont_get(struct wire_in *in, struct pst_cont_info *ret_cont);
void wire_snap_put(struct wire_out *out, const struct pst_snap_info *s);
void wire_snap_get(struct wire_in *in, struct pst_snap_info *ret_snap);
void wire_stat_put(struct wire_out *out, const struct pst_obj_stat *s);
void wire_stat_get(struct wire_in *in, struct pst_obj_stat *ret_stat);
/* @reactors: that was asked for too. */
void wire_status_put(struct wire_out *out, const struct pst_store_status *s, bool reactors);
void wire_status_get(struct wire_in *in, struct pst_store_status *ret_status);
void wire_scrub_put(struct wire_out *out, const struct pst_scrub_report *r);
void wire_scrub_get(struct wire_in *in, struct pst_scrub_report *ret_report);
void wire_muts_put(struct wire_out *out, const struct pst_op *op);
void wire_muts_get(struct wire_in *in, struct pst_op *op, struct wire_scratch *scratch,
                   uint32_t payload_len);

#endif
