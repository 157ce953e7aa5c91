/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_ends - the two halves of fuzz_wire: what is said to a client (wire_to_client.c) and what is said to a
 * server (wire_to_server.c).
 *
 * In inputs of version 2 a message whose first byte is one of enum ask is none: it asks something of the
 * half itself, so that the input can lead where messages alone don't.
 */
#ifndef TESTS_FUZZ_WIRE_ENDS_H
#define TESTS_FUZZ_WIRE_ENDS_H

#include "fuzz.h"

#include "tape.h"

#define MESSAGES_MAX 64
#define MESSAGE_MAX  (16 * KIB)

enum ask {
	ASK_FIRST = 0xf0,
	ASK_LATER = ASK_FIRST, /* time passes: byte 1 (mod 12) + 1 times ten minutes */
	ASK_RETURN, /* the channel is cut, and the client comes back on another one. To a client:
	                          byte 1: 1 its session is known, 2 the server was started anew,
	                          4 from an older copy of its store */
	ASK_REVOKE, /* server: the capability is revoked */
	ASK_ROTATE, /* server: the key of handles is another one */
	ASK_OP,     /* client: an op with the opcode in byte 1, of the inode in bytes 4 to 11 */
	ASK_CANCEL, /* client: op byte 1 (mod how many there are) is cancelled */
};

struct ends {
	struct loop *loop;
	struct tape *tape; /* NULL: the channel is closed */
	uint8_t version;   /* of the protocol, as the good end speaks it */
};
extern struct ends ends;

void ends_turns(unsigned n);
/* Turns until that much time has passed. */
void ends_sleep(uint64_t ns);
/* The next message of the input, whose length comes first; 0: there is none. */
uint32_t ends_next(struct input *in, uint8_t msg[MESSAGE_MAX]);

void to_client(struct input *in);
enum { SERVER_HELLO = 1, SERVER_TOKEN = 2 };
/* SERVER_HELLO: behind a good hello; SERVER_TOKEN: which shows a token for a directory. */
void to_server(struct input *in, unsigned how);

/* What inputs of version 2 have not reached yet, in words; NULL: all of it was. */
const char *client_missing(void);
const char *server_missing(void);

#endif
