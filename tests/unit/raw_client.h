/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * raw_client - a client that speaks the wire's protocol by hand, over a channel of provider sim to "here", and
 * so can say what no client of ours says: another's handle, an old token, a message of another channel.
 */
#ifndef TESTS_UNIT_RAW_CLIENT_H
#define TESTS_UNIT_RAW_CLIENT_H

#include "fabric/fabric.h"
#include "wire/codec.h"
#include "wire/seal_int.h"

struct raw_client {
	struct loop *loop;
	struct chan *c;
	bool up, down;
	bool got; /* a message: */
	uint32_t len;
	_Alignas(8) uint8_t msg[64 * KIB];
	struct wire_welcome welcome;
	struct wire_resp resp;
	const uint8_t *handle; /* of the last answer, or NULL */
	uint64_t id, seq;
	/* sealed by hand */
	bool sealed;
	struct seal_way tx, rx;
	uint8_t begin[SEAL_BEGIN_LEN];
	uint8_t first[512]; /* what was sent first behind that */
	uint32_t first_len;
	/* read when it connects */
	uint64_t xfer_ns; /* a piece of a transfer takes up to so long; 0: microseconds */
};

/* A request, and what comes with it. */
struct raw_req {
	uint8_t opcode;
	uint32_t cont;
	uint64_t ino;
	const char *name;                 /* or NULL */
	const uint8_t *handle;            /* or NULL */
	const struct fabric_desc *window; /* or NULL */
	bool pull;                        /* the payload is in the window */
	const char *data;                 /* that comes along; or NULL */
	uint32_t len;                     /* or how much may go back */
	uint64_t seq;                     /* of the replay token; 0: none */
	uint32_t slot;
	uint64_t off;
	struct pst_mut *muts; /* BATCH: with off, where appends went, when it is answered */
	uint32_t mut_count;
};

void raw_connect(struct raw_client *r, struct loop *loop);
void raw_hang_up(struct raw_client *r);
/* Says hello with @token (or NULL), or goes on with a session: what the server says to it; -ECONNRESET:
 * it hangs up. */
int raw_hello(struct raw_client *r, const char *token, const struct wire_welcome *resume);
/* Connects and says hello. */
int raw_open(struct raw_client *r, struct loop *loop, const char *token);
/* Seals the channel, which has said nothing yet. */
void raw_seal(struct raw_client *r, const char *token);
/* Sends bytes as they are. */
void raw_send(struct raw_client *r, const void *bytes, uint32_t len);
/* Turns until there is a message (true), or the channel is down. */
bool raw_wait(struct raw_client *r);
/* A request whose answer nobody waits for. */
void raw_ask(struct raw_client *r, const struct raw_req *q);
/* A request, and its answer's status; -ECONNRESET: the server hung up instead. */
int raw_run(struct raw_client *r, const struct raw_req *q);

#endif
