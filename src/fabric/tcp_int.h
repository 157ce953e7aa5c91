/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tcp_int - the channel over a stream socket: its frames (docs/fabric.md has the tables), and what
 * its files share. Private to this room.
 *
 * Frames follow one another on the stream, each a head of 32 bytes and a payload. A message is copied
 * into the socket's queue, so that all of one turn leaves in one call. A transfer is cut into chunks,
 * sent from the memory where it lies, one chunk at a time, so that messages don't wait for long; it is
 * received straight into the window or the reader's memory. Transfers of several chunks take turns, in the
 * order in which they were asked for (T4); shorter ones don't wait for them. What is queued to a peer that
 * does not read is bounded: messages by its credits, transfers by their number, answers by
 * the number of its own transfers (more of them break the rules).
 *
 *   T1. A window is used by a chunk (users) while its memory is the socket's: as the destination of
 *       what comes, or to be sent. A window that was closed has no key any more, and ends with its
 *       last user.
 *   T2. A transfer of ours has a job, found by its id, until done(). A peer's read has one while it
 *       is served.
 *   T3. Nothing that the stream says is believed before it is checked: ids, keys, extents, lengths.
 *   T4. Of t->turns only the first has a chunk with the socket, or none has. If all sent a chunk in turn,
 *       all would arrive whole at the same time, and late: who waits for the first would do nothing
 *       meanwhile, and then have all of them at once.
 */
#ifndef FABRIC_TCP_INT_H
#define FABRIC_TCP_INT_H

#include "fabric/fabric_int.h"
#include "net/net.h"

#define TCP_MAGIC       0x312d504354532d50ull /* "P-STCP-1" */
#define TCP_VERSION     1
#define TCP_MSG_LIMIT   (60u * 1024) /* the socket shows no more at once */
#define TCP_CHUNK_BYTES (256u * 1024)
#define TCP_CHUNK_IOV   16
#define TCP_TRAIN       8 /* chunks of lent memory that are offered to the kernel in one call */
#define TCP_INLINE_MAX  (16u * 1024)
#define TCP_WINDOWS_MAX 65536u
#define TCP_XFERS_LIMIT 4096u

enum tcp_type {
	TCP_HELLO = 1,     /* payload: struct tcp_hello */
	TCP_MSG = 2,       /* payload: the message, and zeroes to a multiple of 8 */
	TCP_CREDIT = 3,    /* only for its credits */
	TCP_WRITE = 4,     /* payload: for the window @key at @off */
	TCP_WRITE_END = 5, /* transfer @id has landed, or not (@status) */
	TCP_READ = 6,      /* wants @len... of the window @key at @off: @more says how much */
	TCP_READ_DATA = 7, /* payload: of transfer @id, at @off in it */
	TCP_READ_END = 8,  /* transfer @id has failed (@status) */
	TCP_PING = 9,
	TCP_PONG = 10,
	TCP_BYE = 11, /* the end, on purpose */
};

#define TCP_LAST 1u /* flags: the transfer's last chunk */

struct tcp_head {
	uint8_t type;
	uint8_t flags;
	le16 credits; /* messages that the sender has taken since its last frame */
	le32 len;     /* of the payload (a READ has none: of what is wanted, low half) */
	le64 key;
	le64 off;
	le32 id;
	le32 status; /* 0, or an errno value; READ: the high half of the length */
};
_Static_assert(sizeof(struct tcp_head) == 32, "OFFSET table in docs/fabric.md");

struct tcp_hello {
	le64 magic;
	le16 version;
	le16 zero;
	le32 msg_max, msg_credits, xfers_max;
	uint8_t zero2[8];
};
_Static_assert(sizeof(struct tcp_hello) == 32, "OFFSET table in docs/fabric.md");

struct tcp;

struct tcp_window {
	struct chan_window *w; /* NULL: free */
	uint64_t key;          /* 0: free, or closed and waiting for its users */
	uint32_t users;        /* T1 */
	uint32_t next_free;
};

enum job_kind { JOB_FRAME, JOB_WRITE, JOB_READ, JOB_SERVE };

/* Something queued or under way. */
struct tcp_job {
	struct net_send send;
	struct tcp *t;
	struct list link; /* in t->jobs, or t->spare */
	struct list turn; /* T4: in t->turns, until its last chunk is queued */
	enum job_kind kind;
	bool sending;           /* the socket has it */
	struct chan_xfer *x;    /* WRITE, READ */
	struct tcp_window *win; /* SERVE: while sending */
	uint64_t key, base;     /* SERVE: the window, where in it the transfer begins */
	uint64_t at, len;       /* how far it is */
	uint32_t id;
	uint8_t type; /* FRAME */
	struct tcp_head head;
	struct iovec kept; /* WRITE of lent memory: where the rest of it was copied to */
	struct iovec iov[1 + TCP_CHUNK_IOV];
};

enum tcp_state { TCP_CONNECTING, TCP_UP, TCP_DOWN, TCP_CLOSING };

/* What the bytes behind the head are for. */
enum tcp_rx { TCP_RX_HEAD, TCP_RX_DEST, TCP_RX_DROP };

struct tcp {
	struct chan c;
	enum tcp_state state;
	int status;
	struct fabric_opts opts;
	struct net_sock *sock; /* NULL: closed */
	bool sock_gone, bye, ended;
	struct tcp_listener *listener; /* before it is up */
	struct loop_timer timer;       /* always armed: handshake, probes, the end */

	uint32_t credits;     /* messages that may be sent */
	uint32_t credits_max; /* as the peer gave */
	uint32_t owed;        /* messages taken and not yet told */
	bool want_ready, place_came;
	uint64_t probe_ns; /* when to look next whether something came */
	unsigned silent;   /* such times in a row that nothing had */
	bool heard;
	bool credit_queued, pong_queued, ping_queued;
	uint8_t *copy; /* for a message that lies crooked */

	enum tcp_rx rx;
	struct tcp_head rx_head;
	uint64_t rx_left; /* bytes of the payload that no destination has been given for */
	uint64_t rx_off;  /* where in the list they go */
	const struct iovec *rx_iov;
	uint32_t rx_iov_count;
	struct tcp_window *rx_win; /* T1 */
	struct tcp_job *rx_job;
	int rx_status;

	struct tcp_window *windows; /* windows_max of them, from the first use */
	uint32_t windows_count, windows_free;
	uint64_t window_number;
	struct tcp_job **xfers; /* by the low half of the id */
	uint32_t xfers_count, xfer_number;
	uint32_t serving, answers; /* of the peer's transfers: at most c.xfers_max each */
	struct list jobs, spare, turns;
};

static inline bool tcp_over(const struct tcp *t)
{
	return t->state == TCP_DOWN || t->state == TCP_CLOSING;
}

/* tcp.c */
extern const struct chan_ops tcp_ops;
extern const struct net_handlers tcp_handlers;
/* Sends a frame without payload; -ENOMEM. */
int tcp_frame(struct tcp *t, const struct tcp_head *h);
void tcp_head_fill(struct tcp *t, struct tcp_head *h, unsigned type); /* and the credits owed */
void tcp_broken(struct tcp *t, int status);                           /* down, later */
void tcp_place_came(struct tcp *t); /* ready(), if it is waited for, from a later turn */
void tcp_soon(struct tcp *t);       /* the timer runs in a later turn */

void tcp_timer_fired(struct loop_timer *timer);

/* tcp_xfer.c */
int tcp_window_open(struct chan *c, struct chan_window *w);
void tcp_window_close(struct chan *c, struct chan_window *w);
int tcp_write(struct chan *c, struct chan_xfer *x);
int tcp_read(struct chan *c, struct chan_xfer *x);
struct tcp_job *tcp_job_get(struct tcp *t, enum job_kind kind); /* NULL: no memory */
void tcp_job_put(struct tcp_job *j);
int tcp_job_send(struct tcp_job *j, unsigned iov_count);
void tcp_xfers_end(struct tcp *t, int status); /* those whose memory the socket has not */
void tcp_windows_end(struct tcp *t);
void tcp_rx_end(struct tcp *t); /* the socket has given its destination back */
/* Begins what a frame says of a transfer; then t->rx says where its payload goes. 0, -EPROTO ... */
int tcp_xfer_frame(struct tcp *t, const struct tcp_head *h);
int tcp_payload_next(struct tcp *t); /* the next destination, or the payload's end */

/* tcp_connect.c */
extern struct fabric_provider tcp_provider;
/* @status: of the frame's head. */
int tcp_hello_came(struct tcp *t, const struct tcp_hello *h, uint32_t status);
/* What the peer sends before it is up is none of our frames: says what it seems to be. */
void tcp_stranger(struct tcp *t, const uint8_t *at, size_t len);
/* Says why the socket failed. @status as the socket gave it; returns ours. */
int tcp_explain(struct tcp *t, struct net_sock *s, int status);
void tcp_never_up(const struct tcp *t); /* for the log: a connection that was accepted */
void tcp_sock_up(struct net_sock *s, int status);
bool tcp_end(struct tcp *t); /* frees it if nothing refers to it any more */

#endif
