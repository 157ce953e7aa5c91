/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_int - what the files of this room share. Private to it.
 *
 *   addr.c      addresses as text
 *   own.c       which addresses are this host's
 *   resolve.c   host names, by blocking and by thread
 *   part.c      a loop's share: the list of sockets that have something to do, lent buffers
 *   sock.c      life and death of a socket, options, states
 *   connect.c   from an address to a connected socket
 *   recv.c      bytes in
 *   send.c      bytes out
 *   zc.c        sends without a copy, by the ring
 *   listen.c    listeners; unix_path.c: their sockets in the file system
 *   tls.c       bytes in and out through OpenSSL; tls_ctx.c: keys and certificates from files;
 *               tls_err.c: what went wrong, in words
 *
 * States of a socket, and the functions that change them:
 *
 *   START -> CONNECTING -> HANDSHAKE -> UP -> DOWN
 *     |          |             |        |       |
 *     +----------+-------------+--------+-------+--> DEAD     net_sock_abort, sock_kill
 *                                       |
 *                                       +--> CLOSING --> DEAD  net_sock_close
 *
 *   START       resolving, or between two addresses
 *   CLOSING     the owner is gone; the queue is sent, then the peer's end awaited (else the kernel
 *               answers what is still under way with a reset, which may destroy what we sent)
 *   DEAD        waits for the watch to end and for the kernel to let go of zero-copy memory
 *
 * Rules:
 *   N1  All callbacks run from sock_service() or listener_ready(), that is from the loop's turn.
 *   N2  A socket is freed only at the end of its own sock_service(). So every other function may
 *       call callbacks and look at the socket after; it must look at ->state before it goes on.
 *   N3  A socket that has something to do is on part->todo, and the loop doesn't sleep.
 *   N4  The watch is edge-triggered: who stops reading before the kernel has said "empty" keeps
 *       rx_ready, who stops sending before it has said "full" keeps the socket on the list.
 */
#ifndef NET_NET_INT_H
#define NET_NET_INT_H

#include <stdatomic.h>

#include "net/net.h"

/* What is read at once beyond a destination, and room for what data() left of it before. */
#define NET_AHEAD_BYTES   (64 * KIB)
#define NET_SCRATCH_BYTES (NET_AHEAD_BYTES + NET_AHEAD_LIMIT)
/* A destination of this size on is not followed by much in the same call: what comes behind its end
 * is a header and then, likely, more of the same kind, that should go to its own destination. */
#define NET_BIG_BYTES   (32 * KIB)
#define NET_AHEAD_SMALL 2048
#define NET_CHUNK_BYTES (16 * KIB)

enum net_state {
	NET_START,
	NET_CONNECTING,
	NET_HANDSHAKE,
	NET_UP,
	NET_DOWN,
	NET_CLOSING,
	NET_DEAD,
};

/* A copy of what net_sock_write() was given. */
struct net_chunk {
	struct net_send m;
	struct iovec iov;
	size_t room;
	uint8_t data[];
};

/* Records on their way to the kernel, in a buffer that is lent. */
#define TLS_OUT_BYTES (192 * KIB)
struct tls_out {
	struct list link;
	size_t len, off;
	uint8_t data[TLS_OUT_BYTES];
};

struct net_part {
	struct loop_part part;
	struct loop *loop;
	struct loop_poller poller;
	struct list todo;  /* net_sock.link */
	struct list socks; /* net_sock.part_link: all of them */
	struct list spare; /* net_chunk.m.link, of NET_CHUNK_BYTES each */
	unsigned spare_count;
	struct list
	        outs; /* tls_out.link: what TLS sockets borrow while they have something to send */
	unsigned outs_count;
	unsigned alive;   /* sockets and listeners */
	unsigned owned;   /* of these, not closed by their owners */
	uint8_t *scratch; /* what is read ahead lies here while data() looks at it */
};

struct net_resolve;
struct sock_tls;
struct sock_zc;

struct net_sock {
	struct net_part *part;
	struct loop *loop;
	const struct net_handlers *handlers;
	void *user;
	enum net_state state;
	int fd;
	struct list link; /* part->todo */
	struct list part_link;
	bool unix_sock, server;
	bool accepting; /* its listener's, which will give it out */
	bool forgotten; /* by its owner */

	/* the watch */
	struct loop_fd watch;
	bool watching; /* until gone */
	bool watch_ending;
	bool rx_ready;   /* there may be bytes, or an end, to read */
	bool tx_blocked; /* the kernel said that it is full */
	bool hup;        /* the poll said that one direction has ended, */
	bool error_seen; /* or that something is wrong */

	/* receiving */
	bool paused, rx_eof;
	bool delivering; /* data() or filled() is on the stack */
	bool look_again; /* the stash may be of use now */
	bool big;        /* payloads of late have been NET_BIG_BYTES or more */
	uint8_t *stash;  /* what data() left */
	size_t stash_len, stash_room;
	size_t dest_left;
	unsigned dest_at, dest_count; /* entries; dest[dest_at] is what is left of its entry */
	struct iovec dest[NET_IOV_MAX];
	int *fds;
	unsigned fd_count;

	/* sending */
	struct list queue;  /* net_send.link */
	struct list ended;  /* net_send.link: with @status, done() not yet run */
	struct list noted;  /* net_send.link: with @status, but the kernel still reads them */
	struct sock_zc *zc; /* NULL: no zero-copy */
	int zc_error;
	size_t queued;
	bool want_drained, want_room, tx_shutdown, tx_ended;

	/* connecting, closing */
	struct net_addr addrs[NET_ADDRS_MAX];
	unsigned addr_count, addr_at;
	struct net_resolve *resolve;
	char *target; /* as the caller wrote it */
	bool told_up, tell_down, linger_reset;
	struct loop_timer deadline, retry;

	struct sock_tls *tls; /* NULL: none */
	struct net_opts opts; /* with the defaults filled in; its pointers are not kept */
	struct net_peer peer;
	struct net_addr local;
	struct net_listener *listener; /* counted there; NULL */
	struct list listed;            /* there: in early, or in leaving */
	bool counted;                  /* in its conns */
	int status;                    /* why it is down */
	struct pst_err err;
	struct net_count count;
};

struct net_listener {
	struct net_part *part;
	struct loop *loop;
	const struct net_accept *accept;
	void *user;
	struct net_opts opts;
	struct net_addr addr;
	int fd;
	unsigned refs;                       /* the owner's, the watch's, one of each socket */
	unsigned conns;                      /* without those that leave */
	unsigned early_count, leaving_count; /* of: */
	struct list early;   /* sockets that are not given out yet, the oldest first */
	struct list leaving; /* and those that are CLOSING */
	uint64_t refused;
	bool closed, watching, watch_ending;
	struct loop_fd watch;
	struct loop_timer retry; /* after the system ran out of descriptors or memory */
	struct unix_path *path;
};

/* --- part.c --- */

/* Finds or makes @loop's share, and counts one more user of it. NULL: no memory. */
struct net_part *part_get(struct loop *loop);
void part_put(struct net_part *p);
/* A buffer for a small write; NULL: no memory. */
struct net_chunk *part_chunk_get(struct net_part *p, size_t bytes);
void part_chunk_put(struct net_part *p, struct net_chunk *c);
/* A buffer for records; NULL: no memory. */
struct tls_out *part_out_get(struct net_part *p);
void part_out_put(struct net_part *p, struct tls_out *out);

/* --- sock.c --- */

void opts_fill(struct net_opts *ret, const struct net_opts *opts);
int opts_check(const struct net_opts *opts, struct pst_err *err);
int sock_new(struct net_sock **ret_sock, struct loop *loop, const struct net_opts *opts,
             const struct net_handlers *handlers, void *user);
/* What all sockets of one kind want, before connect() or listen(): accepted ones inherit it. */
void sock_tune(int fd, const struct net_opts *opts, bool is_unix);
void sock_peer_cred(struct net_sock *s);
/* Something to do: it is looked at in this turn or the next. */
void sock_wake(struct net_sock *s);
void sock_service(struct net_sock *s);
/* 0 or -EBUSY. Begins to watch s->fd. */
int sock_watch(struct net_sock *s);
/* s->fd is connected. */
void sock_connected(struct net_sock *s);
/* And all that has to be done before it is up has been. */
void sock_up(struct net_sock *s);
void sock_forget_owner(struct net_sock *s);
/* The end, in words: up() or down(). Runs callbacks. Harmless when it is down already. */
void sock_fail(struct net_sock *s, int status, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* The same, for an error of the kernel's. */
void sock_fail_errno(struct net_sock *s, int status);
int sock_explain(struct pst_err *err, int status); /* the words for it; returns the code */
/* The owner has let go: takes everything down. */
void sock_kill(struct net_sock *s);
/* Bytes may come and go. */
static inline bool sock_open(const struct net_sock *s)
{
	return s->state == NET_UP || s->state == NET_CLOSING;
}

/* --- connect.c --- */

void connect_next(struct net_sock *s);
void connect_ready(struct net_sock *s, uint32_t revents);
void connect_expired(struct net_sock *s);

/* --- listen.c --- */

/* A connection is up: its listener gives it out. Or it never will be. */
void listener_give(struct net_sock *s);
void listener_failed(struct net_sock *s);
/* One of its sockets is CLOSING from now on; is about to be DEAD. Both accept any socket. */
void listener_leaving(struct net_sock *s);
void listener_left(struct net_sock *s);
/* A reference less: one of its sockets is gone, say. */
void listener_put(struct net_listener *l);

/* --- recv.c --- */

void recv_run(struct net_sock *s);
void recv_done(struct net_sock *s); /* frees what it has */

/* --- send.c --- */

void send_run(struct net_sock *s);
/* What is queued ends with @status (done() runs later). */
void send_cancel(struct net_sock *s, int status);
/* The kernel takes no more: hears what the peer still has to say, then it is down. */
void send_failed(struct net_sock *s, int status);
/* Runs done() of what has ended. */
void send_tell(struct net_sock *s);
/* The first bytes of the queue that lie together, or @max of them gathered in @stage. NULL: none. */
const void *send_peek(struct net_sock *s, void *stage, size_t max, size_t *ret_len);
/* The first @n bytes of the queue have been taken. */
void send_advance(struct net_sock *s, size_t n);

/* --- zc.c --- */

int sock_zc_new(struct net_sock *s, struct pst_err *err); /* if opts ask for it */
void sock_zc_free(struct net_sock *s);
/* @m is worth it. */
bool sock_zc_wants(const struct net_sock *s, const struct net_send *m);
/* False: the ring is full, or too much is under way; send it the other way. */
bool sock_zc_send(struct net_sock *s, struct net_send *m);
bool sock_zc_waits(const struct net_sock *s); /* nothing else may be sent now */
void sock_zc_cancel(struct net_sock *s);      /* the queue is being emptied */

/* --- tls.c --- */

/* @name: what the peer's certificate must say, for a client. */
int sock_tls_new(struct net_sock *s, const char *name, struct pst_err *err);
void sock_tls_free(struct net_sock *s);
void sock_tls_handshake(struct net_sock *s);
/* As recvmsg() and its errno; 0 is an end in good order. -1 with errno 0: the socket has failed. */
ssize_t sock_tls_recv(struct net_sock *s, const struct iovec *iov, unsigned count);
/* Encrypts and sends what it can. True when all is sent, a goodbye that was asked for included. */
bool sock_tls_send(struct net_sock *s);
/* A goodbye, an alert: best effort before the end. */
void sock_tls_flush(struct net_sock *s);

/* --- tls_ctx.c --- */

#define TLS_CA_NAME_BYTES 256

struct net_tls {
	void *ctx; /* SSL_CTX */
	atomic_uint refs;
	bool has_cert, has_ca, need_cert;
	uint64_t rekey_records;
	char ca_file[TLS_CA_NAME_BYTES]; /* for sentences */
};

struct net_tls *tls_ref(struct net_tls *tls);

/* --- tls_err.c --- */

/* What OpenSSL's queue and @ssl say, in a sentence about @who; returns its code. */
int tls_explain(struct pst_err *err, void *ssl, const struct net_tls *tls, bool handshake,
                const char *who);
/* "Nov 21 06:11:04 2026 GMT" */
char *tls_time(const void *asn1_time, char *buf, size_t buf_len);

/* --- resolve.c --- */

/* Looks @text up in a thread; done() on the loop, unless net_resolve_cancel() came first. */
int net_resolve_start(struct net_resolve **ret_r, struct loop *loop, const char *text,
                      uint16_t default_port, void (*done)(struct net_resolve *r, void *user),
                      void *user);
/* In done(): the answer. Ends @r. */
int net_resolve_take(struct net_resolve *r, struct net_addr *ret_addrs, unsigned *ret_count,
                     struct pst_err *err);
void net_resolve_cancel(struct net_resolve *r); /* accepts NULL */

/* --- addr.c --- */

/* Splits "HOST:PORT", "[V6]:PORT", "HOST"; @host has NET_HOST_BYTES_MAX. */
int addr_split(const char *text, uint16_t default_port, char *ret_host, uint16_t *ret_port,
               struct pst_err *err);

/* --- unix_path.c: the file of a listening socket --- */

struct unix_path;
/* Binds @fd to @addr (a path), replacing a socket that nobody listens on. */
int unix_path_bind(struct unix_path **ret_path, int fd, const struct net_addr *addr, unsigned mode,
                   struct pst_err *err);
void unix_path_remove(struct unix_path *p); /* accepts NULL */

#endif
