/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seal_world - a sealed channel with the test's hand between its ends, and a session table that knows
 * its token.
 */
#ifndef TESTS_UNIT_SEAL_WORLD_H
#define TESTS_UNIT_SEAL_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "hand.h"
#include "session/audit.h"
#include "wire/seal_int.h"

struct end {
	struct hand h;
	struct chan *c; /* sealed; NULL: not yet, or closed */
	int up, down;   /* 1: not called */
	unsigned got, readies;
	uint8_t data[16 * KIB];
	uint32_t len;
};

struct world {
	struct loop *loop;
	struct store *store;
	struct session_table *table;
	struct wire_bufs bufs;
	char token[CAP_TOKEN_MAX], other[CAP_TOKEN_MAX];
	struct end client, server;
	int accepted; /* what seal_accept() said */
	unsigned audited;
	int audited_last;
	bool granted;
	uint64_t epoch_max;
};

extern struct world *world;

int world_setup(void **state);
int world_teardown(void **state);
int world_begin(struct world *w, const char *token); /* the client's part of a new channel */
void world_connect(struct world *w);                 /* a channel that is up */
void world_over(struct world *w);                    /* both ends close */
void world_pass(struct end *e);                      /* one message of @e */
int end_say(struct end *e, const char *text);
void end_heard(const struct end *e, const char *text); /* the last message was that */
uint64_t number_of(const struct hand_msg *m);

#define WORLD(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

#endif
