/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire - ops as messages, and `remote`, a store at the other end of a channel. It does not know which
 * fabric carries it. docs/wire-format.md says what the messages look like.
 *
 * Everything here belongs to one loop and its thread.
 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include "base/base.h"
#include "fabric/fabric.h"
#include "loop/loop.h"
#include "session/session.h"
#include "store/store.h"

#define WIRE_PORT "7440"

/* --- the remote store --- */

struct remote_opts {
	/* Where: tried in order on each connect, until one answers. */
	struct {
		const char *provider, *addr;
	} at[4];
	unsigned at_count;
	struct fabric_opts fabric;
	uint32_t ops_max;      /* ops under way; more: PST_BUSY. 0: 256 */
	uint32_t slots;        /* changes under way; 0: 128 */
	uint64_t connect_ns;   /* remote_open() gives up after so long; 0: 10 s */
	uint64_t reconnect_ns; /* ops of a connection that was lost fail after so long; 0: 120 s */
	uint64_t ping_ns;      /* silence after which the server is asked; 0: 5 s */
	const char *cred;      /* a capability token, or NULL */
	const char *name;      /* of the client, for the server's log; NULL: the process's number */
	unsigned bufs[5];      /* bounce buffers as of the listener; all 0: 64, 16, 8, 8, 1 */
	uint64_t seed;         /* simulation: what is random follows from it; 0: random */
	unsigned plant;        /* test-only: enum remote_plant */
};

/* Bugs that tests plant to show that they would catch them; only with -Dtest_faults=true. */
enum remote_plant {
	REMOTE_PLANT_NONE,
	REMOTE_PLANT_NEW_TOKEN,      /* a resent change gets a token of its own */
	REMOTE_PLANT_COMPLETE_EARLY, /* an op completes before its window is closed */
	REMOTE_PLANT_NO_EPOCH,       /* an older store is taken for the same */
};

struct remote_figures {
	const char *provider, *addr; /* connected to; NULL: not now */
	uint64_t session, epoch;
	uint64_t connects, fallbacks, resent, again, bad_crc, bounced, windows, timeouts, lost;
	uint32_t inflight, waiting;
	uint32_t traits; /* of the channel */
};

/*
 * Connects, and makes the store. Turns the loop until it is connected: never from a callback.
 * -ECONNREFUSED, -ETIMEDOUT, ...: nobody there; -EACCES: refused; -EPROTONOSUPPORT: another version;
 * -ENOTSUP: no such provider; -ENOMEM, with a sentence. @opts is read during the call; the strings
 * in it are copied.
 *
 * The store: ops that carry a replay token of their own are -EINVAL, since every change gets one
 * here. A change whose outcome can't be known, because the session was lost before the answer
 * came, ends with -ESTALE. A FLUSH or FSYNC after the server was restarted ends with -EIO, once, if
 * volatile writes of its container had not been flushed before: they may be gone.
 */
int remote_open(struct store **ret_store, struct loop *loop, const struct remote_opts *opts,
                struct pst_err *err);
void remote_figures(struct store *s, struct remote_figures *ret_f);
/* Is @s such a store? */
bool store_is_remote(const struct store *s);
/* Test-only: cuts the connection, as if the network had. */
void remote_cut(struct store *s);

#endif
