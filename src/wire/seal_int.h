/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seal_int - what the files of the sealed channel share: seal_keys.c agrees on keys and uses them,
 * seal.c is the channel, seal_xfer.c its payloads.
 *
 *   BEGIN                                   ANSWER
 *   OFFSET SIZE MEANING                     OFFSET SIZE MEANING
 *        0    1 kind: 11                         0    1 kind: 12
 *        1    1 version: 1                       1    1 version: 1
 *        2    2 zero                             2    2 length of the text; 0 with status 0
 *        4    4 "PSL1"                           4    4 status: 0, or why not
 *        8   24 the token's first 24 bytes       8   32 the server's share (X25519)
 *       32   32 the client's share              40   32 proof: of all before, and of BEGIN
 *       64   32 proof: of all before            72      text
 *
 *   SEALED                                  PAYLOAD: what its tag covers besides its bytes
 *   OFFSET SIZE MEANING                     OFFSET SIZE MEANING
 *        0    1 kind: 13                         0    1 kind: 14
 *        1    1 version: 1                       1    7 zero
 *        2    6 zero                             8    8 number
 *        8    8 number                          16    8 length
 *       16      the message, encrypted
 *             16 tag, also of the first 16 bytes, and of how many messages came before (8)
 *
 * A *number* is 16 bits of an epoch and 48 bits of a count: with the direction's key of that epoch it
 * makes the nonce, and no two encryptions ever have the same.
 */
#ifndef WIRE_SEAL_INT_H
#define WIRE_SEAL_INT_H

#include <openssl/evp.h>

#include "fabric/fabric.h"
#include "wire/msg.h"
#include "wire/seal.h"

#define SEAL_VERSION     1
#define SEAL_BEGIN_LEN   96u
#define SEAL_ANSWER_LEN  72u
#define SEAL_HEAD_LEN    16u
#define SEAL_TAG_LEN     16u
#define SEAL_OVER        (SEAL_HEAD_LEN + SEAL_TAG_LEN) /* what sealing adds to a message */
#define SEAL_EPOCH_MAX   (1ull << 24) /* encryptions before the keys are changed; and bytes: */
#define SEAL_EPOCH_BYTES (1ull << 36)
#define SEAL_COUNT_MAX   (1ull << 32) /* whatever happens, no key is used more often */

/* --- seal_keys.c --- */

/* What comes out of the handshake: the first epoch's secrets. */
struct seal_secrets {
	uint8_t client[32], server[32]; /* of what they send */
};

/* An ephemeral key. */
struct seal_share {
	uint8_t secret[32], public[32];
};

int seal_share_make(struct seal_share *ret_s, const uint8_t secret[32]);
int seal_begin_make(uint8_t begin[SEAL_BEGIN_LEN],
                    const uint8_t token[TOKEN_HEAD_BYTES + TOKEN_SECRET_BYTES],
                    const struct seal_share *mine);
/* 0; -EPROTO, -EPROTONOSUPPORT. */
int seal_begin_check(const void *msg, uint32_t len);
/* -EBADF: whoever made @begin does not know @secret. Costs next to nothing, as what anybody may ask for. */
int seal_begin_proved(const uint8_t begin[SEAL_BEGIN_LEN],
                      const uint8_t secret[TOKEN_SECRET_BYTES]);
/* To a @begin that was proved. -EBADF: its share is none. */
int seal_answer_make(uint8_t answer[SEAL_ANSWER_LEN], struct seal_secrets *ret_s,
                     const uint8_t begin[SEAL_BEGIN_LEN], const uint8_t secret[TOKEN_SECRET_BYTES],
                     const struct seal_share *mine);
/* -EBADF: whoever made @answer does not know @secret. */
int seal_answer_take(struct seal_secrets *ret_s, const uint8_t begin[SEAL_BEGIN_LEN],
                     const uint8_t answer[SEAL_ANSWER_LEN],
                     const uint8_t secret[TOKEN_SECRET_BYTES], const struct seal_share *mine);
/* RFC 5869, for at most 32 bytes. */
void seal_hkdf_extract(uint8_t ret_key[32], const void *salt, size_t salt_len, const void *in,
                       size_t in_len);
void seal_hkdf_expand(uint8_t *ret_out, size_t len, const uint8_t key[32], const void *info,
                      size_t info_len);

/* One direction, at the end that seals or at the one that opens. */
struct seal_way {
	bool seals;
	uint16_t epoch;
	bool has_before;
	EVP_CIPHER_CTX *ctx[2]; /* of the epoch, and of the one before */
	uint8_t iv[2][12];
	uint8_t secret[32];
	uint64_t count, bytes; /* encryptions of the epoch */
	uint64_t count_max;    /* when the keys are changed */
	uint64_t messages;     /* since the beginning */
};

/* -ENOMEM. seal_way_done() in any case; also good on a zeroed one. */
int seal_way_init(struct seal_way *w, bool seals, const uint8_t secret[32], uint64_t count_max);
void seal_way_done(struct seal_way *w);
/* The next epoch's keys. -EKEYEXPIRED: there are no more. */
int seal_way_turn(struct seal_way *w);
/* Is it time for that? */
static inline bool seal_way_worn(const struct seal_way *w)
{
	return w->count >= w->count_max || w->bytes >= SEAL_EPOCH_BYTES;
}
/* The number of the next encryption; used up. -EKEYEXPIRED. */
int seal_way_next(struct seal_way *w, uint64_t *ret_number);
/*
 * Encrypts @iov (@len bytes) to @to, or to where it lies (NULL), under @number. -EKEYEXPIRED, -EIO.
 */
int seal_encrypt(struct seal_way *w, uint64_t number, const uint8_t *aad, unsigned aad_len,
                 const struct iovec *iov, unsigned count, uint8_t *to, uint8_t tag[SEAL_TAG_LEN]);
/* Decryption in pieces. begin: -EBADMSG: no such key. end: -EBADMSG: it is not what was sealed. */
int seal_open_begin(struct seal_way *w, uint64_t number, const uint8_t *aad, unsigned aad_len,
                    EVP_CIPHER_CTX **ret_ctx);
int seal_open_piece(EVP_CIPHER_CTX *ctx, uint8_t *to, const uint8_t *from, size_t len);
int seal_open_end(EVP_CIPHER_CTX *ctx, const uint8_t tag[SEAL_TAG_LEN]);

/* --- the channel --- */

enum seal_state {
	SEAL_BEGINNING, /* client: waits for the answer */
	SEAL_UP,
	SEAL_DOWN,
};

struct seal_chan;

/* A window of the channel below, over memory of our own. */
struct seal_window {
	struct list link; /* s->windows */
	struct chan_window in;
	struct chan_window *out;
	struct seal_chan *s;
	struct iovec iov;
	void *buf;
};

struct seal_xfer {
	struct list link; /* s->xfers, s->queued */
	struct chan_xfer in;
	struct chan_xfer *out;
	struct seal_chan *s;
	bool write;
};

struct seal_chan {
	struct chan c;
	struct chan *inner; /* NULL: closed */
	enum seal_state state;
	int error;
	bool client;
	unsigned
	        refs; /* the owner's; windows and transfers; a handler that runs; the message posted */
	struct seal_way tx, rx;
	uint8_t *out, *in; /* a message each; out also holds BEGIN or ANSWER until it is sent */
	uint32_t in_len;
	uint8_t *piece;     /* client: SEAL_PIECE bytes of a payload that is being opened */
	uint32_t first_len; /* BEGIN or ANSWER is to be sent yet */
	struct wire_bufs *bufs;
	struct list windows, xfers; /* not in use */
	struct list queued;         /* a write that is sealed, and found no place below */
	struct seal_window *window_all;
	struct seal_xfer *xfer_all;
	bool want_ready;
	struct loop_msg wake;
	bool waking;
	int broken; /* to be told from the loop: what could not be sealed */
	/* the client's beginning */
	uint8_t begin[SEAL_BEGIN_LEN];
	uint8_t token_secret[TOKEN_SECRET_BYTES];
	struct seal_share share;
	uint64_t epoch_max;
};

#define SEAL_PIECE (16 * KIB)

static inline struct seal_chan *seal_of(struct chan *c)
{
	return container_of(c, struct seal_chan, c);
}
void seal_put(struct seal_chan *s); /* one reference less */
void seal_wake(struct seal_chan *s);
/* Something can't be sealed: the keys are used up, or worse. Ends the channel, from a later turn. */
void seal_broke(struct seal_chan *s, int why);

/* --- seal_xfer.c --- */

int seal_window_open(struct chan *c, struct chan_window *w);
void seal_window_close(struct chan *c, struct chan_window *w);
int seal_write(struct chan *c, struct chan_xfer *x);
int seal_read(struct chan *c, struct chan_xfer *x);
/* There is room below, maybe. True: none of ours waits any more. */
bool seal_queued_go(struct seal_chan *s);
void seal_queued_end(struct seal_chan *s, int status);

#endif
