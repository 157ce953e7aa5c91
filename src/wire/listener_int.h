/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listener_int - what the files of the listener share.
 *
 * A *connection* is a channel and what it carries; a *request* one op of it. The life of a request,
 * with the file that has the step; what ends it early goes to the answer:
 *
 *   message -> body pulled, if it is in the window -> decoded        serve.c
 *           -> admitted by the session                                (session room)
 *           -> a read that would be lent waits in c->room             serve.c
 *           -> has payload memory, or waits in l->mem_wait            serve.c
 *           -> payload pulled and checked -> submitted to the store   serve.c
 *           -> payload pushed -> session_end() -> answer sent         answer.c
 *           -> counted                                                figures.c
 *
 * Rules:
 *  1. A connection has depth requests, made as they are needed: who sends more than was agreed is cut
 *     off. One that is answered and only kept by its transfer is none of them any more: its client may
 *     have seen the answer, and sent another one (there are at most xfers_max of these). Payload memory
 *     and decoders of cold ops are the listener's, and limited: a request whose payload came inline and
 *     finds none is answered WIRE_AGAIN; the others wait, in order.
 *  2. What came with a message is copied before the handler returns.
 *  3. A request that the session admitted ends with session_end(), once.
 *  4. A connection that goes away leaves those of its requests behind that the store or the fabric
 *     still have (r->conn stays, conn->chan is NULL): they end without an answer, and the
 *     connection with the last of them.
 *  5. Connections are closed from the listener's kick, never from inside a handler.
 *  6. What a store lends is lent until the op's done() returns, and what the channel has no room for by then
 *     is copied. So a read that will likely be lent (its container's last one was) goes to the store when there
 *     is room, and no other of its connection that waited for the same room is there. Until then it has
 *     nothing that others wait for but its place among those that run.
 */
#ifndef WIRE_LISTENER_INT_H
#define WIRE_LISTENER_INT_H

#include "wire/bufs.h"
#include "wire/codec.h"
#include "wire/seal.h"
#include "wire/wire.h"

struct conn;

/* A decoder of an op with fields, and the places of its results. */
#define BAD_BLOCKS_MAX 32

struct cold {
	struct list link;
	struct sreq *owner;
	struct wire_bad_block bad[BAD_BLOCKS_MAX]; /* of a scrub, not told yet; more are not told */
	unsigned bad_count;
	struct wire_scratch scratch;
	uint8_t body[WIRE_BODY_MAX];
};

enum sreq_state {
	SREQ_FREE,
	SREQ_BODY,  /* its body is on its way */
	SREQ_ADMIT, /* the session has it */
	SREQ_ROOM,  /* waits for room in the channel */
	SREQ_MEM,   /* waits for payload memory */
	SREQ_PULL,  /* its payload is on its way */
	SREQ_RUN,   /* the store has it */
	SREQ_PUSH,  /* its result is on its way, or waits for a transfer's place */
	SREQ_SEND,  /* its answer waits for a credit */
};

struct sreq {
	struct session_req s; /* with the op */
	struct conn *conn;
	struct sreq *next_free, *next_made; /* conn->free or conn->spare, conn->all */
	struct list wait;                   /* conn->room, l->mem_wait or conn->out */
	uint64_t id;
	uint8_t what, state;
	bool admitted;  /* session_end() is due */
	bool cancelled; /* asked for: by the client, or by the session */
	bool more;      /* a list's page was full */
	bool pushing;   /* the transfer has the buffer */
	bool answered;  /* the answer was sent: only the transfer keeps it */
	uint32_t len;   /* of the header */
	uint32_t body_len;
	uint32_t crc;
	struct fabric_desc desc;
	struct chan_mark mark_of[2]; /* of body and payload in the window, on a sealed channel */
	uint8_t handle[WIRE_HANDLE_BYTES]; /* with WIRE_HANDLE */
	void *buf;
	struct iovec iov;  /* the payload, for the op */
	struct cold *cold; /* NULL: a hot one */
	struct wire_out page;
	struct wire_resp resp;
	struct chan_xfer x;
	struct iovec xiov;
	struct { /* by the loop's clock: figures.c */
		uint64_t born, admitted;
		uint64_t run; /* or, until then, when it began to wait for its client */
		uint64_t done;
		uint64_t sent; /* or tried to be: its answer */
	} mark;
};

enum conn_state {
	CONN_HELLO,   /* it has not said who it is */
	CONN_OPENING, /* its session is being made */
	CONN_UP,
	CONN_DOOMED, /* to be closed by the kick */
	CONN_GONE,   /* closed; requests are left */
};

struct conn {
	struct wire_listener *l;
	struct list link;  /* l->conns */
	struct chan *chan; /* NULL: gone */
	struct session_conn sc;
	struct session_open so;
	enum conn_state state;
	bool private; /* sealing can't be demanded: TLS, or the pipe */
	bool opening; /* session_open() has c->so */
	bool pong_due;
	bool refused;
	uint8_t version;
	uint32_t welcome_len; /* to be sent when there is a credit */
	uint8_t welcome[512];
	uint32_t depth;
	bool knows_store;    /* its hello named this one */
	uint64_t epoch_seen; /* and the highest epoch that it had seen */
	uint64_t since_ns, pong_id;
	struct list chunks; /* of requests: as many as were ever needed at once */
	unsigned made; /* free ones, and those under way that are not answered: at most depth */
	struct sreq *
	        spare; /* that were answered before their transfers had ended: for conn_reqs_grow() */
	struct sreq *all; /* that were made: those that are not SREQ_FREE are under way */
	struct sreq *free;
	struct list out;
	struct list room;  /* reads that wait for it, in order: rule 6 */
	struct sreq *lent; /* the one that waits no longer: from its submission to its done() */
	uint32_t lends;    /* the container of the last long read, if that was lent; else 0 */
	bool giving;       /* serve_room() is on the stack */
	unsigned count;    /* under way */
	/* for hold.c */
	bool lacks;       /* when it was looked at last: something of it waits for memory */
	uint64_t held_ns; /* and since when its client lets something wait; UINT64_MAX: nothing */
	uint64_t
	        again_ns; /* when a payload that came along last found no memory; 0: since then one did */
};

struct door {
	struct list link;
	struct fabric_listener *fl;
	struct wire_listener *l;
	bool tls;
};

struct wire_listener {
	struct loop *loop;
	struct session_table *table;
	struct store *store;
	struct wire_listener_opts opts;
	char name[64];
	struct list conns, doors, doomed;
	struct list colds;
	struct cold *cold_all;
	struct wire_bufs bufs;
	struct list mem_wait;
	bool draining; /* serve_drain() is on the stack */
	bool closing;  /* takes nothing new */
	bool crashing;
	struct loop_msg kick;
	bool kicked;
	struct loop_timer tick;
	uint8_t uuid[16];
	uint64_t epoch;
	struct wire_figures fig;
	struct wire_class_figures class[WIRE_CLASSES];
	struct wire_class_figures *class_of[256];               /* by opcode; NULL: not counted */
	struct wire_channel_figures channel[WIRE_CHANNELS_MAX]; /* of those that are closed */
	unsigned channel_count;
	bool has_pipe;
	uint64_t offers; /* WIRE_OFFERS_ */
	struct log_limit slow;
};

/* --- listener.c --- */

void conn_doom(struct conn *c, int why);
void conn_bad(struct conn *c, const char *what); /* it broke the rules: log, count, doom */
/* No fault of the protocol's: its session may come again. */
void conn_cut(struct conn *c, const char *why);
void conn_req_gone(struct conn *c); /* one request less: maybe the last */
/* Tells the log what was done to it; not more often than somebody can read. */
void conn_complain(struct conn *c, const char *did, const char *why);

/* greet.c */
/* A channel's first message; on one that is sealed, the first that was. */
void greet_first(struct conn *c, const void *data, uint32_t len);
void greet_send(struct conn *c); /* the welcome that had no credit */
/* It has not said who it is, and there are as many connections as may be: it makes room for another. */
void greet_no_room(struct conn *c);

void listener_tick_arm(struct wire_listener *l);
void listener_drain_soon(struct wire_listener *l); /* serve_drain() from a turn */
bool conn_reqs_grow(struct conn *c);
/* One more request, from the pool or new; NULL: as many as were agreed are under way, or no memory
 * for another. */
static inline struct sreq *conn_req_get(struct conn *c)
{
	struct sreq *r = c->free;

	if (unlikely(!r)) {
		if (!conn_reqs_grow(c))
			return NULL;
		r = c->free;
	}
	c->free = r->next_free;
	c->count++;
	return r;
}

/* --- hold.c --- */

/* Cuts off who holds what others wait for; true: something waits for its client, look again. */
bool hold_check(struct wire_listener *l, uint64_t now);

/* --- serve.c --- */

void serve_req(struct conn *c, const void *msg, uint32_t len);
void serve_cancel(struct conn *c, uint64_t id);
bool ends_with_conn(const struct pst_op *op);
/* Of a connection that was closed: what nobody else has ends. */
void serve_abandon(struct conn *c);
void sreq_init(struct sreq *r, struct conn *c); /* a new one, zeroed */
/* There is room in the channel: who waits for it goes on. And those that were stopped meanwhile end. */
void serve_room(struct conn *c);
/* Payload memory has come back: gives it to those that wait. */
void serve_drain_now(struct wire_listener *l);
static inline void serve_drain(struct wire_listener *l)
{
	if (unlikely(!list_empty(&l->mem_wait)))
		serve_drain_now(l);
}

/* --- answer.c --- */

/* The op has ended, or never began, with s.op.status: answers it and ends the request. */
void answer_op(struct sreq *r);
/* Not taken: the client shall send it again. */
void answer_again(struct sreq *r, int why);
void answer_out(struct conn *c); /* there is a credit, or a transfer's place */
void sreq_free(struct sreq *r);
bool answer_entry(struct pst_op *op, const struct pst_entry *e);
void answer_bad_block(struct pst_scrub_report *rep, uint32_t cont, struct pst_oid oid, uint64_t off,
                      int status);
/* The figures of steady ops, told once in a while. False: there is none. */
bool answer_progress(struct conn *c);

/* --- figures.c --- */

void figures_init(struct wire_listener *l);
void figures_answered(struct sreq *r);
void figures_scrub_ended(struct sreq *r);
void figures_chan_up(struct wire_listener *l, const struct chan *ch);
void figures_chan_gone(struct wire_listener *l, const struct chan *ch);

static inline struct chan *sreq_chan(const struct sreq *r)
{
	return r->conn->chan;
}

#endif
