/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_play - a remote store on a tape, and this program as its server: it compares each message
 * with its golden bytes, decodes it, and answers with what the case gives.
 */
#ifndef TESTS_UNIT_WIRE_PLAY_H
#define TESTS_UNIT_WIRE_PLAY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "tape.h"
#include "wire/codec.h"
#include "wire/wire.h"

struct play_env {
	struct loop *loop;
	struct store *store;
	struct tape *tape;
	const struct pst_op *expect; /* what the request should decode to */
	const char *name;
	void (*fill)(struct pst_op *op, void *payload, uint32_t *ret_len); /* outputs */
	struct wire_scratch scratch;
	unsigned requests;
	bool ended;
};
extern struct play_env env;
extern const char *golden_path; /* lines "NAME hex" */
extern bool golden_print;       /* print them instead */

/* Are these the bytes of the golden line @name? */
void golden(const char *name, const void *bytes, size_t len);
int play_setup(void **state);
int play_teardown(void **state);
void play_done(struct pst_op *op);
/* Sends @op, whose messages are REQ-@name and RESP-@name; the answer has what @fill gives. Its
 * status. */
int play(const char *name, struct pst_op *op,
         void (*fill)(struct pst_op *op, void *payload, uint32_t *ret_len));

#endif
