/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seal - a channel on a channel: what passes through it nobody on the way can read, change, repeat,
 * leave out or put in another order. For channels without TLS of their own. The two ends know each other
 * by a capability's token, of which only the head is ever shown. docs/wire-format.md, 8, has the
 * construction and what it holds against.
 *
 * A sealed channel is a struct chan like others, with the trait FABRIC_SEALED; see there for what its
 * windows and transfers need. It owns the channel below from its making on. Unsealed channels know
 * nothing of all this.
 */
#ifndef WIRE_SEAL_H
#define WIRE_SEAL_H

#include "fabric/fabric.h"
#include "session/session.h"
#include "wire/bufs.h"

enum seal_policy {
	SEAL_AUTO,     /* where others could read: elsewhere as the client likes */
	SEAL_REQUIRED, /* server: on each channel but the pipe and TLS; client: on each */
	SEAL_OFF,
	SEAL_ALLOWED, /* server: as the client likes, everywhere */
};

#define SEAL_NAME "aes-256-gcm"

/* --- what a message carries of a sealed payload --- */

#define SEAL_MARK_BYTES 24
/* number (8), tag (16) */
void seal_mark_put(uint8_t to[SEAL_MARK_BYTES], const struct chan_mark *m);
void seal_mark_get(struct chan_mark *ret_m, const uint8_t from[SEAL_MARK_BYTES]);

/* --- the client --- */

struct seal_opts {
	const char *token;
	struct wire_bufs *bufs; /* for windows; outlives the channel and its windows */
	const uint8_t *random;  /* 32 bytes, in simulation; NULL: the kernel's */
	uint64_t epoch_max;     /* keys change after as many messages; 0: 2^24 (tests take fewer) */
};

/*
 * Seals @inner, which is up and has said nothing yet: handlers->up() tells how that ended, with a
 * sentence in the channel's why. 0: *ret_c has @inner, in any case. -EBADF: @opts->token is none;
 * -EMSGSIZE; -ENOMEM: @inner is as it was.
 */
int seal_connect(struct chan **ret_c, struct chan *inner, const struct seal_opts *opts,
                 const struct chan_handlers *handlers, void *user);

/* --- the server --- */

/* Is this, a channel's first message, the beginning of a sealed one? */
bool seal_begins(const void *msg, uint32_t len);
/*
 * Answers it: from here on *@ret_c, which is up, is to be used instead of @inner, which it owns; it has
 * @inner's handlers and user. -EBADF, -EKEYREVOKED: the token is none of @table's (audited); -EPROTO;
 * -EPROTONOSUPPORT; -EMSGSIZE; -ENOMEM: @inner is as it was.
 */
int seal_accept(struct chan **ret_c, struct chan *inner, struct session_table *table,
                const void *msg, uint32_t len);
/* Of a beginning that was taken: the head of the token that it shows. */
const uint8_t *seal_token_head(const void *begin);
/* The bytes of a refusal, to be sent on @inner: their number, at most 512. */
uint32_t seal_refusal(uint8_t buf[512], int status, const char *text);

#endif
