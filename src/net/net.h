/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net - stream sockets on a loop: TCP and unix, with or without TLS 1.3. It knows nothing of
 * messages: bytes in, bytes out. What stands above a socket is the same with TLS and without.
 *
 * Threads. A socket and a listener belong to one loop and its thread; their functions assert it and
 * never block (net_listen() with a host's name and net_resolve() do, and say so). A TLS context may
 * be used by several loops.
 *
 * Callbacks run from the loop's turns, never from inside a function of this header. Each may call
 * any function on any socket, net_sock_close() of its own included.
 *
 * Life of a socket: net_sock_connect(), or a listener's accept; then up() (connecting ones); then
 * bytes; then down(), once, unless the owner ends it first. The owner ends it in any case, with
 * net_sock_close() or net_sock_abort(), and forgets it: from then on only done() of what is still
 * queued runs, and last of all gone().
 *
 * Memory.
 *   - A destination given to net_sock_recv_into() is the socket's until filled(), down(), or the
 *     return of close or abort: the kernel never holds on to it.
 *   - A struct net_send and all that it points to is the socket's until its done().
 *   - The bytes shown to data() are valid until it returns, and aligned to nothing.
 *   - A connection that is silent has no buffers: they belong to the loop and are lent.
 *
 * Errors. 0 or -errno; net_sock_error() has a sentence for what up() and down() report.
 *
 * How: sends and receives are plain system calls that don't wait, tried at once, and one edge-
 * triggered poll request on the loop's ring says when to try again. Requests on the ring for each
 * send and receive were measured too: no faster (a batch is one call either way), slower at depth
 * one, and the kernel would hold the memory of what is cancelled. Only zero-copy sends go there.
 * All that is queued in one turn leaves in one call.
 */
#ifndef NET_NET_H
#define NET_NET_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "base/base.h"
#include "loop/loop.h"

struct net_sock;
struct net_listener;
struct net_tls;

/* --- addresses --- */

struct net_addr {
	socklen_t len;
	struct sockaddr_storage sa;
};

#define NET_ADDR_TEXT_MAX  160 /* bytes of a printed address, NUL included */
#define NET_ADDRS_MAX      8   /* of one host's name */
#define NET_HOST_BYTES_MAX 256

/*
 * "HOST:PORT", "[V6]:PORT", "unix:PATH", "unix-abstract:NAME"; also without ":PORT" if
 * @default_port is not 0. "*" as the host is every address. Any thread; doesn't look names up.
 * 0; -EINVAL (a sentence says what is wrong); -EDESTADDRREQ: well-formed, but HOST is a name, which
 * net_resolve() and net_sock_connect() look up.
 */
int net_addr_parse(struct net_addr *ret_addr, const char *text, uint16_t default_port,
                   struct pst_err *err);
/*
 * The same, with names: fills at most NET_ADDRS_MAX of @ret_addrs and *@ret_count. Any thread.
 * BLOCKS in getaddrinfo(), for as long as the resolver pleases, if HOST is a name.
 * 0, -EINVAL, -EHOSTUNREACH (no such host), -EAGAIN (the resolver can't tell now), -ENOMEM.
 */
int net_resolve(struct net_addr ret_addrs[NET_ADDRS_MAX], unsigned *ret_count, const char *text,
                uint16_t default_port, struct pst_err *err);
/*
 * The same on @loop, which is turned until the answer is there or @deadline_ns is over (-ETIMEDOUT): never from a
 * callback. The resolver blocks a thread that may outlive this.
 */
int net_resolve_by(struct loop *loop, uint64_t deadline_ns,
                   struct net_addr ret_addrs[NET_ADDRS_MAX], unsigned *ret_count, const char *text,
                   uint16_t default_port, struct pst_err *err);
/* Prints into @buf in the form that net_addr_parse() takes; returns @buf. */
char *net_addr_print(const struct net_addr *addr, char *buf, size_t buf_len);
/* True for 127.0.0.0/8 (mapped into v6 too), ::1, and unix sockets: who sends from there is on this
 * host. Not for "every address". */
bool net_addr_is_loopback(const struct net_addr *addr);
/* True for those, and for the addresses of this host's interfaces, as they were within the last seconds. Any
 * thread. Asks the kernel, and doesn't look names up. */
bool net_addr_is_own(const struct net_addr *addr);
bool net_addr_is_unix(const struct net_addr *addr);
uint16_t net_addr_port(const struct net_addr *addr); /* 0 for unix */

/* --- who is at the other end --- */

#define NET_CERT_SANS_MAX   8
#define NET_CERT_NAME_BYTES 256

/* What a verified certificate says. Names that don't fit, or hold a NUL, are left out. */
struct net_cert {
	char name[NET_CERT_NAME_BYTES]; /* the subject's common name; "" if none */
	unsigned san_count;             /* subject alternative names: the first few of them, */
	char sans[NET_CERT_SANS_MAX][NET_CERT_NAME_BYTES]; /* as "DNS:...", "IP:...", "URI:..." */
};

struct net_peer {
	struct net_addr addr;
	bool has_cred; /* unix: who it was as it connected or began to listen, says the kernel */
	uint32_t uid, gid;
	int32_t pid;
	const struct net_cert *cert; /* TLS: it has shown one, and it was verified; else NULL */
};

/* --- sockets --- */

/* All 0 is a good choice. */
struct net_opts {
	uint64_t connect_ns; /* deadline of a connection, its TLS handshake included; 0: 10 s */
	/* A peer is given up when what was sent isn't acknowledged for so long, or when it is silent
	 * and doesn't answer the kernel's probes. TCP only. 0: 15 s; UINT64_MAX: never. */
	uint64_t dead_ns;
	uint64_t linger_ns;  /* close: how long to try to deliver what is queued; 0: 5 s */
	size_t queue_max;    /* bytes queued to send; 0: 16 MiB. Above: -EAGAIN */
	size_t ahead_max;    /* the most that data() may leave and ask more for; 0: 16 KiB; at most
	                       * NET_AHEAD_LIMIT */
	size_t zerocopy_min; /* sends from this size on are not copied, where the kernel can; 0: all
	                       * are copied. Not with TLS, not on unix sockets (-EINVAL) */
	unsigned fds_max; /* unix: descriptors taken from the peer and not yet fetched; 0: none */
	int send_buf, recv_buf; /* SO_SNDBUF, SO_RCVBUF; 0: the system's */
	struct net_tls *tls;    /* NULL: none. Referenced, so the caller may free its own at once */
	/* TLS, client: the name that the peer's certificate must have; NULL: HOST of the address */
	const char *tls_name;
	unsigned conns_max; /* listener: connections at once; above, net_accept.full. 0: 1024 */
	unsigned backlog;   /* listener; 0: 512 (the system may have a lower limit) */
	unsigned unix_mode; /* listener on unix:PATH: permissions of the socket; 0: 0600 */
};

#define NET_AHEAD_LIMIT (64 * KIB)

struct net_handlers {
	/* Connecting ended: 0, or why not (then nothing but gone() comes any more). NULL for accepted
	 * sockets, which are up when they are given out. */
	void (*up)(struct net_sock *s, int status);
	/*
	 * @len > 0 bytes have come. Returns how many of them it has used. What it leaves is shown
	 * again: at once if it used some or asked for a destination (which is filled first), else
	 * with more behind it. Leaving opts.ahead_max bytes is an error (-EMSGSIZE).
	 */
	size_t (*data)(struct net_sock *s, const void *bytes, size_t len);
	/* The destination of net_sock_recv_into() is full. */
	void (*filled)(struct net_sock *s);
	/* After a send was refused with -EAGAIN: at most half of opts.queue_max is queued. May be NULL. */
	void (*drained)(struct net_sock *s);
	/* After net_sock_room() said no: there may be room now. May be NULL. */
	void (*room)(struct net_sock *s);
	/* The peer has ended its direction in good order, ours is still open. NULL: that is down with
	 * -EPIPE. */
	void (*eof)(struct net_sock *s);
	/*
	 * It is over: -EPIPE (the peer closed), -ECONNRESET, -ETIMEDOUT, -EMSGSIZE, -ENOMEM, the
	 * codes of TLS (below), ... Once; what was queued has ended with the same code before.
	 */
	void (*down)(struct net_sock *s, int status);
	/* The socket is freed, nothing refers to its owner any more. May be NULL. */
	void (*gone)(void *user);
};

/*
 * Begins to connect to @addr (as net_resolve() takes it; names are looked up by a thread), each
 * address in turn; up() tells how it ended, within opts->connect_ns. If 0 is returned *@ret_sock is
 * the caller's to close. @opts may be NULL; @handlers must stay. -EINVAL, -ENOMEM, with a sentence.
 */
int net_sock_connect(struct net_sock **ret_sock, struct loop *loop, const char *addr,
                     const struct net_opts *opts, const struct net_handlers *handlers, void *user,
                     struct pst_err *err);
/* Makes a socket of @fd, a connected stream socket, which is its own from now on (also if this
 * fails). It is up at once, but for a TLS handshake (@server: as which side), which up() reports. */
int net_sock_adopt(struct net_sock **ret_sock, struct loop *loop, int fd, bool server,
                   const struct net_opts *opts, const struct net_handlers *handlers, void *user,
                   struct pst_err *err);

/* What is queued is still delivered if the peer is well and takes it within opts.linger_ns, and then
 * the peer sees an end in good order. Handlers other than gone() don't run any more, done() of what
 * is queued does. Accepts NULL. */
void net_sock_close(struct net_sock *s);
/* At once: what is queued is dropped, done() says -ECANCELED (not from inside), and the peer sees a
 * reset (TCP). Accepts NULL. */
void net_sock_abort(struct net_sock *s);
/* Our direction ends after what is queued; nothing can be sent any more (-EPIPE). */
void net_sock_shutdown(struct net_sock *s);

struct loop *net_sock_loop(const struct net_sock *s);
void *net_sock_user(const struct net_sock *s);
/* Changes who hears of it: an accepted socket's new owner, say. */
void net_sock_set_handlers(struct net_sock *s, const struct net_handlers *handlers, void *user);
const struct net_peer *net_sock_peer(const struct net_sock *s); /* valid while it is up */
const struct net_addr *net_sock_local(const struct net_sock *s);
bool net_sock_is_tls(const struct net_sock *s);
/* A sentence about why it is down; "" while it is not. Valid until close. */
const char *net_sock_error(const struct net_sock *s);

/* --- receiving --- */

/*
 * The next bytes of the stream, as many as @iov has (at least one), go straight to the memory of
 * @iov, which is copied; then filled(). What had come already is copied there. One at a time.
 * Returns 0; -EBUSY while there is one; -EINVAL (more than NET_IOV_MAX entries, or no bytes).
 */
int net_sock_recv_into(struct net_sock *s, const struct iovec *iov, unsigned iov_count);
#define NET_IOV_MAX 64
/* No data(), filled() and eof() from now on, so that the peer meets the limits of the kernel's
 * buffers; a reset is still noticed. Inside data() it holds as soon as that returns. */
void net_sock_pause(struct net_sock *s);
void net_sock_resume(struct net_sock *s);
/* Takes up to @max descriptors that have come (opts.fds_max), oldest first, close-on-exec; returns
 * how many. They come no later than the bytes they were sent with. They are the caller's to close;
 * those not taken are closed with the socket. */
unsigned net_sock_take_fds(struct net_sock *s, int *ret_fds, unsigned max);

/* --- sending --- */

#define NET_SEND_FDS_MAX 8

/* Embedded in the owner's structure. Set what stands above "private". */
struct net_send {
	/* The kernel (or TLS) has taken it all, or @status says why it never will. May queue it
	 * again. NULL: nobody wants to know; then all must stay until gone(). */
	void (*done)(struct net_send *m, int status);
	const struct iovec *iov;
	unsigned iov_count;
	unsigned fd_count; /* unix sockets: descriptors that go with the first byte */
	const int *fds;    /* they may be closed after done() */
	/* private */
	struct list link;
	size_t bytes, off; /* all of it; what the kernel has */
	unsigned iov_at;   /* the first entry that is not sent whole, */
	size_t iov_off;    /* and how much of it is */
	unsigned notes;    /* answers that zero-copy requests still owe */
	int status;
	bool over;           /* but for those */
	bool fds_sent, copy; /* copy: of net_sock_write() */
};

/*
 * Queues @m; all that is queued in one turn leaves together at the turn's end. 0; -EAGAIN (the queue
 * is full: drained() will run); -EINVAL (no bytes); -ENOTSUP (descriptors, but no plain unix socket);
 * -EPIPE after net_sock_shutdown(); -ENOTCONN before it is up; the status of a socket that is down.
 * If it returns an error done() does not run. One that is longer than the whole queue may be is taken
 * when the queue is empty.
 */
int net_sock_send(struct net_sock *s, struct net_send *m);
/* The same with a copy: the memory is the caller's again on return. For small things: each byte is
 * copied. -ENOMEM too. All or nothing. */
int net_sock_write(struct net_sock *s, const struct iovec *iov, unsigned iov_count);
/* Offers the kernel what is queued now, and not at the turn's end. Not with TLS. */
void net_sock_flush(struct net_sock *s);
/* Offers the kernel @iov now, if nothing is queued: how many of its bytes it took, none or all or any
 * number between; the memory is the caller's again. Not with TLS or zero-copy (0). An error is met again
 * by the next send. */
size_t net_sock_try(struct net_sock *s, const struct iovec *iov, unsigned iov_count);
/* Whether the kernel would take more now, after all that is queued. False: room() will run. What is down, or
 * never sends at once (TLS, zero-copy), has nothing to wait for: true. */
bool net_sock_room(struct net_sock *s);
size_t net_sock_queued(const struct net_sock *s); /* bytes that the kernel has not yet */

struct net_count {
	uint64_t bytes_in, bytes_out; /* of the stream, without TLS's own */
	uint64_t recvs, sends;        /* system calls */
	uint64_t bytes_direct;        /* received without a copy by us */
	uint64_t zc_sends,
	        zc_copied;   /* zero-copy requests; of these, copied by the kernel after all */
	const char *zc_note; /* why zero-copy was given up, or NULL */
};
const struct net_count *net_sock_count(const struct net_sock *s);

/* --- TLS 1.3, nothing older; by OpenSSL, in user space (the kernel's TLS is not used) --- */

/* The files are PEM, and read once, by net_tls_new(). */
struct net_tls_opts {
	const char *cert_file; /* ours, then what leads to its authority. A client may have none */
	const char *key_file;  /* of cert_file; not encrypted */
	/* The authorities whose certificates we take. NULL: a client takes the system's; a server
	 * asks for none. */
	const char *ca_file;
	bool need_cert;         /* server: who shows no certificate is refused (needs ca_file) */
	uint64_t rekey_records; /* a new key after so many records of ours; 0: 2^23 */
};

/*
 * What both a server's and a client's sockets need. Any thread; BLOCKS for the files. With a sentence:
 * -ENOENT, -EACCES, ... (a file can't be read); -EINVAL (it has no PEM of that kind; an encrypted key;
 * what doesn't go together); -EKEYREJECTED (the key is another certificate's); -EKEYEXPIRED (our own
 * certificate is not valid now); -ENOMEM.
 *
 * Codes that up(), down() and failed() have only with TLS:
 *   -EKEYREJECTED  the peer's certificate is of no authority that we know, or not for its name; or the
 *                  peer says so of ours
 *   -EKEYEXPIRED   the peer's certificate is not valid now
 *   -ENOKEY        the peer has shown no certificate, and must; or says so of us
 *   -EPROTO        the peer speaks something else than TLS 1.3, or breaks its rules
 * A stream that ends without TLS's own end is -ECONNRESET: somebody may have cut it.
 */
int net_tls_new(struct net_tls **ret_tls, const struct net_tls_opts *opts, struct pst_err *err);
void net_tls_free(struct net_tls *tls); /* sockets that use it keep it; any thread; accepts NULL */

/* --- listeners --- */

struct net_accept {
	/* A connection that is up (TLS: after its handshake). Returns true after setting handlers
	 * with net_sock_set_handlers(), or false to refuse it: it is closed. */
	bool (*accept)(struct net_listener *l, struct net_sock *s, void *user);
	/* A connection failed before it was one (its TLS handshake, say), or accept() itself did; for
	 * the log. May be NULL. */
	void (*failed)(struct net_listener *l, const struct net_addr *peer, int status,
	               const char *sentence, void *user);
	/*
	 * One more has come than conns_max. True: one of those that were given out goes, in this turn or
	 * the next, and this one is taken. @early: so many are not given out yet (they shake hands), and
	 * the oldest of them would have to go instead. May be NULL.
	 */
	bool (*full)(struct net_listener *l, unsigned early, void *user);
	/* Fills @buf with what to say to who is refused for that; how many bytes. Not with TLS. May be NULL. */
	size_t (*refusal)(void *buf, void *user);
};
#define NET_REFUSAL_MAX 256

/*
 * Listens at @addr. SO_REUSEADDR is set and SO_REUSEPORT never: two servers can't share a port. A
 * unix socket that is there already is replaced if nobody listens on it, and removed on close. A
 * host's name is looked up here, and an address that is in use is tried again for two seconds (it may be
 * that of a program that was just killed): BLOCKS. 0; -EADDRINUSE; -EEXIST: the unix path is there, and no
 * socket; -EADDRNOTAVAIL; -EACCES; -EINVAL; ... with a sentence.
 */
int net_listen(struct net_listener **ret_listener, struct loop *loop, const char *addr,
               uint16_t default_port, const struct net_opts *opts, const struct net_accept *accept,
               void *user, struct pst_err *err);
/* Its sockets live on. Accepts NULL. No callback runs after it. */
void net_listener_close(struct net_listener *l);
/* With the port that the kernel chose, if 0 was asked for. */
const struct net_addr *net_listener_addr(const struct net_listener *l);
unsigned net_listener_conns(const struct net_listener *l);   /* open now */
uint64_t net_listener_refused(const struct net_listener *l); /* above conns_max, since it began */

/*
 * Takes @addr as net_listen() does, and does not listen: whoever connects is refused, the kernel gives
 * the port to nobody who has no wish of his own, and where somebody listens already this fails as
 * net_listen() would. For who has something long to do before he can listen. Free it, then listen: until then it
 * is in the way of one's own unix socket, too. @unix_mode as in net_opts. Any thread. BLOCKS, and fails, as
 * net_listen() does.
 */
struct net_hold;
int net_hold(struct net_hold **ret_h, const char *addr, uint16_t default_port, unsigned unix_mode,
             struct pst_err *err);
/* Or: @h listens itself, for one who has another to drive his connections. Its socket, which doesn't block and
 * stays @h's, or -errno. */
int net_hold_listen(struct net_hold *h, int backlog, struct pst_err *err);
void net_hold_free(struct net_hold *h); /* accepts NULL */

/* --- the loop's share --- */

/* Sockets and listeners that this loop has, those that are on their way out included. */
unsigned net_alive(struct loop *loop);
/* For the end: aborts what lingers (everything must have been closed: asserted), and turns the loop
 * until the kernel has let go of all. Not from inside a callback. Before loop_free(). */
void net_finish(struct loop *loop);

#endif
