/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fabric - channels that carry messages and one-sided transfers between two processes. It knows
 * nothing of what the messages mean. Providers register themselves by name: "pipe" (shared memory,
 * same host), "tcp", "ofi" (libfabric), "sim" (adversarial, for tests).
 *
 * A channel is a connected pair of endpoints. Each end may
 *   - send messages of at most chan->msg_max bytes: each arrives whole, once, in the order sent,
 *     or the channel goes down;
 *   - open windows: memory of its own that the peer may read or write one-sidedly, by the window's
 *     descriptor, until it is closed;
 *   - transfer to and from the windows of the peer.
 *
 * Flow control. A sender has as many credits as the receiver has room for messages: chan_send()
 * answers -EAGAIN without one, and the handler's ready() is called when there is one again. Transfers
 * have a limit of their own (chan->xfers_max) and answer -EAGAIN, too. A message's room is the
 * sender's again when the receiver's handler has returned.
 *
 * What a provider guarantees beyond this is declared in chan->traits; who needs more has to wait for
 * it: without FABRIC_WRITE_THEN_MSG a message may overtake a write that was started before it, and
 * the sender waits for the write's completion before it sends, unless chan_xfer.ahead says otherwise.
 *
 * The completion of a write means: it lies in the peer's memory, or the channel is down. Of a read:
 * it lies in the memory given here. A transfer that failed may have moved any part.
 *
 * The peer is hostile. What a handler sees of a message is private memory: the peer can't change it
 * any more. A descriptor that the peer made up, or kept after its window was closed, reaches nothing:
 * its transfer fails (and may bring the channel down).
 *
 * A dead peer is noticed: by the endpoint's end, or by silence for opts.dead_ns (providers whose
 * transport doesn't tell send probes of their own while nothing else is under way).
 *
 * Threads. Everything belongs to one loop and its thread. No handler is called from inside the
 * function that caused it, but for chan_window_close() (see there).
 */
#ifndef FABRIC_FABRIC_H
#define FABRIC_FABRIC_H

#include <sys/uio.h>

#include "base/base.h"
#include "loop/loop.h"
#include "mem/mem.h"

/* traits */
#define FABRIC_WRITE_THEN_MSG (1u << 0) /* a message arrives after the writes started before it */
#define FABRIC_ANY_MEMORY     (1u << 1) /* windows and transfers take memory of no region */
#define FABRIC_PRIVATE        (1u << 2) /* nobody on the way can read or change it: one host, or TLS */
#define FABRIC_SAME_HOST      (1u << 3)
#define FABRIC_SEALED         (1u << 4) /* what passes is sealed by a channel on this one: see below */
#define FABRIC_LENT           (1u << 5) /* writes take lent memory: chan_xfer.keep */
#define FABRIC_ROOM           (1u << 6) /* and don't copy it while there is room: chan_room() */

struct chan;
struct fabric_listener;
struct net_tls;   /* a TLS context of net/net.h */
struct sim_knobs; /* fabric/sim.h */

/* Who is at the other end, as far as the provider vouches for it. */
struct fabric_peer {
	char addr[128]; /* to print */
	bool has_cred;  /* the kernel says who it is (unix sockets) */
	uint32_t uid, gid;
	int32_t pid;
	bool has_cert;       /* its certificate was verified */
	char cert_name[256]; /* subject's common name; "" if none */
};

struct fabric_opts {
	uint32_t msg_max;     /* bytes; 0: 16 KiB. The smaller of both ends' counts */
	uint32_t msg_credits; /* messages that the peer may have under way to us; 0: 64 */
	uint32_t windows_max; /* open at once; 0: 1024 */
	uint32_t xfers_max;   /* transfers under way at once; 0: 128 */
	/* listener: open channels; for one more a stranger makes room, or it is refused. 0: 1024 */
	uint32_t conns_max;
	uint64_t connect_ns; /* deadline of a connect, handshake included; 0: 10 s */
	uint64_t dead_ns;    /* silence that counts as death; 0: 15 s */
	/* NULL: none. Outlives the channels. -ENOTSUP where there can't be any. */
	struct net_tls *tls;
	const char
	        *tls_name; /* client: the name that the peer's certificate must have; NULL: HOST */
	const char *provider;        /* "ofi": libfabric's ("tcp;ofi_rxm"); else NULL */
	uint64_t seed;               /* "sim": of its adversity; the connecting end's counts */
	const struct sim_knobs *sim; /* "sim": instead of knobs drawn from the seed */
};

/* What the owner of a channel gives. All run on the loop, from its turns. */
struct chan_handlers {
	/* Connecting ended: 0, or why not; then nothing else is called. NULL for accepted channels,
	 * which are up when they are given out. */
	void (*up)(struct chan *c, int status);
	/* A message. @data is valid, and unchanging, until the handler returns; aligned to 8. */
	void (*msg)(struct chan *c, const void *data, uint32_t len);
	/* There is a credit, a transfer's or a window's place again after -EAGAIN; or room, maybe, after
	 * chan_room() said no. */
	void (*ready)(struct chan *c);
	/* The peer is gone, or broke the rules: -ECONNRESET, -EPIPE (it closed), -ETIMEDOUT (silence),
	 * -EPROTO, ... Once. All transfers have ended (with this status) before; nothing comes after
	 * but closed() of windows. The owner closes the channel, then or later. */
	void (*down)(struct chan *c, int status);
};

/*
 * A wire's buffer descriptor: what one end tells the other of a window. 32 bytes, little-endian
 * on the wire; the message's codec carries it as it is.
 */
struct fabric_desc {
	uint64_t key;    /* the provider's; unguessable, or checked against the channel */
	uint64_t addr;   /* the provider's base: an address, or 0 */
	uint64_t len;    /* bytes */
	uint16_t kind;   /* enum mem_kind: 0 host; GPU memory comes */
	uint16_t device; /* of that kind */
	uint32_t region; /* the provider's: which of the regions shown to the peer */
};

/*
 * A channel with FABRIC_SEALED (wire/seal.h; no provider has it) encrypts what transfers move. The mark
 * of each payload has to reach the other end in a message: which number it was sealed under, and
 * its tag. A window that the peer reads has a mark for what lies before its cut and one for what lies
 * behind it, and is read in just these parts. A window that the peer writes is written once, from
 * its beginning; its owner sets mark[1] and mark_len before it closes it.
 */
struct chan_mark {
	uint64_t number;
	uint8_t tag[16];
};

#define FABRIC_PEER_READS  1u
#define FABRIC_PEER_WRITES 2u

/* Embedded in the owner's structure; the fabric's from open to close. */
struct chan_window {
	struct fabric_desc desc; /* what to tell the peer */
	const struct iovec *iov; /* the caller's, kept until it is closed */
	uint32_t iov_count;
	uint32_t rights;
	struct mem_region *region;
	void (*closed)(struct chan_window *w);
	/* FABRIC_SEALED: */
	uint64_t cut;             /* in, of one that the peer reads */
	struct chan_mark mark[2]; /* out; of one that the peer writes: in, the second */
	uint64_t mark_len;        /* in, there: bytes that it was written; 0: none came */
	int status; /* out, there, when closed() runs: -EBADMSG: not what was sealed */
	struct list link;
	uint64_t priv[6];
};

/* A one-sided transfer; embedded, the fabric's from start to done(). */
struct chan_xfer {
	void (*done)(struct chan_xfer *x, int status);
	const struct iovec *iov; /* local memory, kept until done() */
	uint32_t iov_count;
	struct mem_region *region; /* that holds all of iov, or NULL (FABRIC_ANY_MEMORY) */
	struct fabric_desc desc;   /* the peer's window */
	uint64_t off;              /* in it */
	uint64_t len;              /* the sum of iov */
	/* FABRIC_SEALED: a write's memory may be written over (it must: else -ENOTSUP); the mark is
	 * given to a read, whose done() has -EBADMSG where it does not fit, and got from a write. */
	bool scratch;
	struct chan_mark mark;
	/* A write, FABRIC_LENT: iov is one piece of memory that is lent for the call only. What has not
	 * left when chan_write() returns was copied to here, and leaves from here; len bytes, kept until
	 * done(). NULL: iov is. */
	void *keep;
	/* Out, of a write that was started: a message that is sent from now on arrives after it, also
	 * without FABRIC_WRITE_THEN_MSG. */
	bool ahead;
	struct list link;
	uint64_t priv[8];
};

struct chan_ops {
	int (*send)(struct chan *c, const struct iovec *iov, unsigned count);
	int (*write)(struct chan *c, struct chan_xfer *x);
	int (*read)(struct chan *c, struct chan_xfer *x);
	int (*window_open)(struct chan *c, struct chan_window *w);
	void (*window_close)(struct chan *c, struct chan_window *w);
	void (*close)(struct chan *c);
	void (*flush)(struct chan *c); /* fabric_flush_none: it does not hold anything back */
	bool (*room)(struct chan *c);  /* fabric_room_always: without FABRIC_ROOM */
};

/* The head of every provider's channel. */
struct chan {
	const struct chan_ops *ops;
	const struct fabric_provider *provider;
	struct loop *loop;
	const struct chan_handlers *handlers;
	void *user;          /* the owner's */
	uint32_t traits;     /* FABRIC_*; valid once it is up, as are the limits */
	uint32_t msg_max;    /* bytes */
	uint32_t inline_max; /* a payload up to this is cheaper in a message than by a transfer */
	uint32_t xfers_max;
	struct fabric_peer peer;
	/* A sentence about the status of up() or down(), where the provider knows more than that
	 * says; else "". Printable whatever the peer did. */
	char why[256];
	struct { /* the fabric's: of an accepted one, until chan_known() */
		struct list link;
		struct fabric_crowd *in; /* NULL: it is known */
		unsigned group;
	} stranger;
	struct { /* since it came up */
		uint64_t msgs_in, msgs_out, bytes_in, bytes_out, doorbells, sleeps, no_credit;
	} count;
};

/*
 * Sends one message: the bytes of @iov, gathered and copied or on their way when it returns (the
 * memory is the caller's again). 0; -EAGAIN (no credit: ready() will be called); -EMSGSIZE; or the
 * status that the channel went down with. Messages of one turn travel together.
 */
static inline int chan_send(struct chan *c, const struct iovec *iov, unsigned count)
{
	return c->ops->send(c, iov, count);
}
/* What was sent leaves now, and not with the rest of the turn: before something that takes long. No
 * callback runs from inside. */
static inline void chan_flush(struct chan *c)
{
	c->ops->flush(c);
}
void fabric_flush_none(
        struct chan *c); /* for providers whose messages are gone when they are sent */
/*
 * Whether a write of lent memory would leave now, not copied but for what is too much for the room there is:
 * who may wait before he asks somebody to lend it does. False: ready() will be called when it may be so.
 * With FABRIC_ROOM; else true. A channel that is down has room: what is started on it says why not.
 */
static inline bool chan_room(struct chan *c)
{
	return c->ops->room(c);
}
bool fabric_room_always(struct chan *c);
/*
 * Starts a transfer of x->iov into, or from, the peer's window x->desc at x->off; done() will run
 * once: 0; -EACCES (the peer has no such window, or not with this right: where that does not take
 * the channel down); the channel's status; -ECANCELED (chan_close). Here: 0; -EAGAIN (ready() will
 * be called); -ERANGE (outside of the window); -EINVAL (len is not the sum of iov, or iov leaves
 * its region); -ENOTSUP (memory that needs a region); -ENOSPC (registrations are used up); -ENOMEM;
 * or the status that the channel went down with.
 */
static inline int chan_write(struct chan *c, struct chan_xfer *x)
{
	return c->ops->write(c, x);
}
static inline int chan_read(struct chan *c, struct chan_xfer *x)
{
	return c->ops->read(c, x);
}
/*
 * Shows w->iov (all of it in w->region, if that is not NULL) to the peer; fills w->desc. 0; -EAGAIN
 * (as many as can be; ready() will be called); -ENOTSUP (this channel needs memory of a region: copy
 * through one that has it); -ENOSPC (its registrations are used up); -EINVAL (nothing in it, or not
 * all in the region); -E2BIG (of more pieces than can be told); -ENOMEM; the status of a channel that is down.
 */
static inline int chan_window_open(struct chan *c, struct chan_window *w)
{
	return c->ops->window_open(c, w);
}
/*
 * Ends the window. closed() runs when nothing of the peer's can land in it or be read from it any
 * more: from inside this call where the provider is sure of that at once, from a later turn where
 * it is not. Until then memory and window must stay. Also good on a channel that is down.
 */
static inline void chan_window_close(struct chan *c, struct chan_window *w)
{
	c->ops->window_close(c, w);
}
/*
 * Ends the channel and frees it, now or when the kernel has let go of it; down() does not run any
 * more. What was sent before is delivered if the peer is well. Transfers under way end with
 * -ECANCELED and windows are closed (their callbacks run, maybe later). Accepts NULL.
 */
static inline void chan_close(struct chan *c)
{
	if (c)
		c->ops->close(c);
}

/* --- providers --- */

struct fabric_provider {
	const char *name;
	int (*listen)(struct fabric_listener **ret_l, struct loop *loop, const char *addr,
	              const struct fabric_opts *opts, struct pst_err *err);
	int (*connect)(struct chan **ret_c, struct loop *loop, const char *addr,
	               const struct fabric_opts *opts, const struct chan_handlers *handlers,
	               void *user, struct pst_err *err);
	/* Is opts->provider one that can be had? fabric_check_any: it has none. */
	int (*check)(const struct fabric_opts *opts, struct pst_err *err);
	struct list link;
};

struct fabric_listener {
	const struct fabric_provider *provider;
	struct loop *loop;
	char addr[256]; /* what to connect to: with the port that was chosen, if 0 was asked for */
	/* A channel that is up. Set handlers and user before returning, or refuse it: false. */
	bool (*accept)(struct fabric_listener *l, struct chan *c);
	/*
	 * conns_max are open, one more has come, and of those that are strangers (chan_known() was not said of
	 * them) this is the one to go: tell it and close it, in this turn or soon. NULL: whoever was accepted
	 * is no stranger, and stays.
	 */
	void (*cut)(struct fabric_listener *l, struct chan *c);
	void *user;
	void (*close)(struct fabric_listener *l);
};

void fabric_provider_add(struct fabric_provider *p);                  /* from a constructor */
const struct fabric_provider *fabric_provider_find(const char *name); /* NULL: none */
const struct fabric_provider *
fabric_provider_next(const struct fabric_provider *p); /* NULL: first */

/* Has this host a device for RDMA? Looked up in /sys/class/infiniband, nothing is loaded or opened. */
bool fabric_has_rdma(void);
/*
 * What can be said of @provider and opts->provider before there is an address: 0; -ENOTSUP (no such provider here, or
 * libfabric knows none of that name); -EINVAL (none is named, or one where there can't be any); with a sentence.
 * Opens no device. Any thread; BLOCKS while libfabric is loaded.
 */
int fabric_check(const char *provider, const struct fabric_opts *opts, struct pst_err *err);
int fabric_check_any(const struct fabric_opts *opts, struct pst_err *err); /* for providers */
/*
 * Listens at @addr: HOST:PORT (tcp, ofi), a socket's path (pipe), any name (sim). Set ->accept
 * before the loop turns. @opts may be NULL. 0; -ENOTSUP (no such provider here); -EADDRINUSE; ... with
 * a sentence that says what and where.
 */
int fabric_listen(struct fabric_listener **ret_l, struct loop *loop, const char *provider,
                  const char *addr, const struct fabric_opts *opts, struct pst_err *err);
void fabric_listener_close(struct fabric_listener *l); /* its channels live on; accepts NULL */
/* Who is at the other end has shown that he may be here: he makes room for nobody any more. */
void chan_known(struct chan *c);
/*
 * Begins to connect; handlers->up() tells how it ended, within opts->connect_ns. The channel is the
 * caller's to close in any case, if 0 is returned.
 */
int fabric_connect(struct chan **ret_c, struct loop *loop, const char *provider, const char *addr,
                   const struct fabric_opts *opts, const struct chan_handlers *handlers, void *user,
                   struct pst_err *err);

/* True when nothing of a channel or listener that was closed is left on @loop (or of one that was
 * not): loop_free() is possible. Turn the loop until then. */
bool fabric_quiet(struct loop *loop);
/* Turns @loop until that is so, and its sockets (net_finish) have ended, too. Everything must have
 * been closed. Not from inside a callback. */
void fabric_finish(struct loop *loop);

#endif
