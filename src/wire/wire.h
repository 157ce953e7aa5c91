/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire - ops as messages: the listener, a front that takes ops from channels and hands them to a
 * store through the session room, and `remote`, a store at the other end of a channel. It does not
 * know which fabric carries it. docs/wire-format.md says what the messages look like.
 *
 * Everything here belongs to one loop and its thread.
 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include "base/base.h"
#include "base/hist.h"
#include "fabric/fabric.h"
#include "loop/loop.h"
#include "session/session.h"
#include "store/store.h"
#include "wire/seal.h"

#define WIRE_PORT "7440"

/* --- the listener --- */

struct wire_listener;

struct wire_listener_opts {
	uint32_t depth_max; /* requests of one channel; 0: 256 */
	uint32_t colds_max; /* requests with names, keys or batches at a time; 0: 64 */
	unsigned bufs[5];   /* payload buffers of 16 KiB, 128 KiB, 1 MiB, 4 MiB, and the largest
	                          batch; all 0: 512, 64, 32, 16, 2 */
	enum mem_kind mem;  /* what they are made of; MEM_HOST unless said otherwise */
	uint64_t hello_ns;  /* how long a channel may take to say who it is; 0: 10 s */
	const char *name;   /* told to clients; NULL: "penstock" */
	uint64_t slow_ns;   /* requests that take as long are logged; 0: none */
	/* Answers a PST_OP_FIGURES: op->val, ret_len, status, done(), maybe from inside. NULL: -ENOTSUP */
	void (*figures)(void *arg, struct pst_op *op);
	void *figures_arg;
	enum seal_policy seal; /* which channels have to be sealed: seal.h */
	unsigned version;      /* of the protocol, at most; 0: the newest */
	unsigned plant;        /* test-only: enum listener_plant */
};

/* Bugs that tests plant to show that they would catch them; only with -Dtest_faults=true. */
enum listener_plant {
	LISTENER_PLANT_NONE,
	LISTENER_PLANT_ANSWER_EARLY, /* an answer does not wait for the write that it tells of */
};

struct wire_figures {
	uint32_t conns;
	uint64_t accepted, refused;
	uint64_t requests, answers, bytes_in, bytes_out;
	uint64_t again;     /* answered "send it again": no memory, or a checksum did not match */
	uint64_t bad_crc;   /* payloads that arrived damaged */
	uint64_t mem_waits; /* requests that waited for payload memory */
	uint64_t cut;       /* channels that were cut for what they sent */
	uint64_t sealed;    /* channels that were sealed */
	uint64_t mem_bytes; /* of payload memory */
	uint64_t second_choice; /* channels over tcp from this host, where pipe was offered */
	uint64_t slow;          /* requests that took slow_ns or longer */
	uint64_t scrubs_ended, scrub_errors, scrub_repaired; /* the last two: running ones too */
	/* now */
	uint32_t inflight, mem_waiting; /* requests */
	uint32_t scrubs;
	uint64_t scrub_done_bytes, scrub_total_bytes; /* of the running ones */
};

/* What requests ask for, in classes. */
enum wire_class {
	WIRE_CLASS_READ,
	WIRE_CLASS_WRITE,
	WIRE_CLASS_BATCH,
	WIRE_CLASS_GET,  /* a key-value */
	WIRE_CLASS_STAT, /* of names, attributes, objects */
	WIRE_CLASS_LIST,
	WIRE_CLASS_CHANGE, /* of names and attributes */
	WIRE_CLASS_OPEN,   /* and close */
	WIRE_CLASS_FLUSH,
	WIRE_CLASS_OTHER, /* containers, snapshots, status */
	WIRE_CLASSES,
};
/* Where a request's time goes: see figures.c. */
enum wire_phase {
	WIRE_PHASE_QUEUE,
	WIRE_PHASE_IN,
	WIRE_PHASE_STORE,
	WIRE_PHASE_OUT,
	WIRE_PHASES,
};
struct wire_class_figures {
	uint64_t errors, bytes_in, bytes_out;
	uint64_t phase_ns[WIRE_PHASES]; /* sums */
	struct hist latency;            /* ns; its count is the number of requests */
};

#define WIRE_CHANNELS_MAX 8
struct wire_channel_figures {
	const char *provider;
	uint32_t conns; /* now */
	uint64_t accepted, msgs_in, msgs_out, bytes_in, bytes_out, doorbells, sleeps, no_credit;
};

/* A listener on @table's store; wire_listener_add() opens its doors. -ENOMEM. @opts may be NULL. */
int wire_listener_new(struct wire_listener **ret_l, struct session_table *table,
                      const struct wire_listener_opts *opts, struct pst_err *err);
/*
 * Listens at @addr of @provider too. What it was given, if port 0 was asked for, comes back in
 * *ret_addr (may be NULL; lives as long as the listener). @opts as fabric_listen(), and so are the
 * errors.
 */
int wire_listener_add(struct wire_listener *l, const char *provider, const char *addr,
                      const struct fabric_opts *opts, const char **ret_addr, struct pst_err *err);
/* Tells clients from now on that there is a better channel beside: WIRE_OFFERS_ bits (wire/msg.h). */
void wire_listener_offer(struct wire_listener *l, uint64_t what);
/*
 * Takes no more channels or requests, ends those that are under way, for up to @wait_ns, and frees
 * it. Turns the loop: never from a callback. Accepts NULL.
 */
void wire_listener_close(struct wire_listener *l, uint64_t wait_ns);
/* The same, but as a crash would do it: nobody is told, nothing is waited for but what the store
 * still works on. */
void wire_listener_crash(struct wire_listener *l);
void wire_listener_figures(const struct wire_listener *l, struct wire_figures *ret_f);
const char *wire_class_name(enum wire_class class);
const char *wire_phase_name(enum wire_phase phase);
/* Lives as long as the listener, and moves. */
const struct wire_class_figures *wire_listener_class(const struct wire_listener *l,
                                                     enum wire_class class);
/* How many there are. */
unsigned wire_listener_channels(const struct wire_listener *l,
                                struct wire_channel_figures ret_f[WIRE_CHANNELS_MAX]);

/* --- the remote store --- */

struct remote_place {
	const char *provider, *addr;
	bool tls; /* by opts.tls */
	bool own; /* a socket of this user's: only if wire_place_trust() agrees */
	/* The last only: RDMA. It is not tried in turn, but a client that was welcomed at the place before it
	 * moves there, if the server says that it has RDMA. */
	bool offered;
};

struct remote_opts {
	struct remote_place at[4]; /* where: tried in order on each connect, until one answers */
	unsigned at_count;
	struct net_tls *tls; /* the store's own when remote_open() has returned 0 */
	struct fabric_opts fabric;
	uint32_t ops_max;    /* ops under way; more: PST_BUSY. 0: 256 */
	uint32_t slots;      /* changes under way; 0: 128 */
	uint64_t connect_ns; /* remote_open() gives up after so long; 0: 10 s */
	bool connect_wait;   /* and tries again until then, if nobody is there yet */
	/* Pass PST_F_VOLATILE on. Without it every change is durable when it completes, so that a
	 * restart of the server is a pause and nothing else. With it a crash of the server loses
	 * what was not flushed, and the next flush says so. */
	bool volatile_ok;
	uint64_t reconnect_ns; /* ops of a connection that was lost fail after so long; 0: 120 s */
	bool no_reconnect;     /* one that was lost is the end: ops fail at once, and for good */
	uint64_t grace_ns; /* that the server has to answer a cancel past the deadline; 0: 2 s */
	uint64_t ping_ns;  /* silence after which the server is asked; 0: 5 s */
	const char *cred;  /* a capability token, or NULL; never shown on a channel that others
	                      can read, unless @insecure */
	bool insecure;
	/* AUTO: a token's holder seals what others could read, unless @insecure; OFF: never;
	 * REQUIRED: always (takes a token). Nothing of it depends on what the server says. */
	enum seal_policy seal;
	uint64_t seal_epoch; /* of struct seal_opts */
	const char *name;    /* of the client, for the server's log; NULL: the process's number */
	unsigned bufs[5];    /* bounce buffers as of the listener; all 0: 64, 16, 8, 8, 1 */
	unsigned version;    /* of the protocol, at most; 0: the newest */
	uint64_t seed;       /* simulation: what is random follows from it; 0: random */
	unsigned plant;      /* test-only: enum remote_plant */
};

/* The client's bugs, as enum listener_plant. */
enum remote_plant {
	REMOTE_PLANT_NONE,
	REMOTE_PLANT_NEW_TOKEN,      /* a resent change gets a token of its own */
	REMOTE_PLANT_COMPLETE_EARLY, /* an op completes before its window is closed */
	REMOTE_PLANT_LOSE_WATCH, /* a watch that was sent is not sent again on a new connection */
	REMOTE_PLANT_NO_EPOCH,   /* an older store is taken for the same */
};

struct remote_figures {
	const char *provider, *addr; /* connected to; NULL: not now */
	uint64_t session, epoch;
	uint64_t connects, fallbacks, resent, again, bad_crc, bad_seal, bounced, windows, timeouts,
	        lost;
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
 * came, ends with -ESTALE. With opts.volatile_ok a FLUSH or FSYNC after the server was restarted ends
 * with -EIO, once, if volatile writes of its container had not been flushed before: they may be gone.
 */
int remote_open(struct store **ret_store, struct loop *loop, const struct remote_opts *opts,
                struct pst_err *err);
void remote_figures(struct store *s, struct remote_figures *ret_f);
/* Is @s such a store? */
bool store_is_remote(const struct store *s);
/* Test-only: cuts the connection, as if the network had. */
void remote_cut(struct store *s);
/* Test-only: the channel of now, NULL: none. */
struct chan *remote_chan(struct store *s);

#endif
