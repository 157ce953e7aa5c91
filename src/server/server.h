/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * server - what `penstock serve` runs: a store, its sessions, and the listeners in front of them,
 * on one loop. It knows nothing of the command line.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "fabric/fabric.h"
#include "loop/loop.h"
#include "session/session.h"
#include "store/store.h"
#include "wire/wire.h"

#define SERVER_LISTEN_MAX 8
#define SERVER_DOORS_MAX  16

struct server_opts {
	const char *store; /* "local:DEV..." */
	/* HOST:PORT; none: 127.0.0.1:7440. Port 0: any that is free. */
	const char *listen[SERVER_LISTEN_MAX];
	unsigned listen_count;
	const char *channels; /* "pipe,tcp": which; NULL: all that this build has, but ofi */
	const char *socket;   /* of the pipe; NULL: beside the first port */
	bool insecure;        /* whoever comes may do everything */
	struct session_opts session;
	struct wire_listener_opts listener;
	struct fabric_opts fabric;
};

struct server_door {
	const char *provider;
	const char *addr; /* as it was given out: with the port that was chosen */
};

struct server {
	struct loop *loop;
	struct store *store;
	struct session_table *table;
	struct wire_listener *listener;
	struct server_door door[SERVER_DOORS_MAX];
	unsigned door_count;
	char socket[256];
};

/*
 * Opens the store and its doors. Turns the loop. -EPERM: an address that others can reach, without
 * @insecure; the errors of stack_open(), session_table_open() and fabric_listen(), with a sentence.
 * On failure nothing stays open.
 */
int server_open(struct server *s, struct loop *loop, const struct server_opts *opts,
                struct pst_err *err);
/* Ends what is under way (for up to @wait_ns) and closes everything. Turns the loop. 0, or what
 * store_close() says. */
int server_close(struct server *s, uint64_t wait_ns);

#endif
