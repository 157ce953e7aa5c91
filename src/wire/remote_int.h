/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote_int - what the files of the remote store share.
 *
 * A *request* is an op on its way. Where it is:
 *
 *               room, a slot, connected
 *   RREQ_WAIT ---------------------------> RREQ_SENT ---answer---> (RREQ_CLOSING) ---> done()
 *       ^                                      |                        |
 *       |           connection lost, or "send it again"                 |
 *       '--------------------------------------'------------------------'
 *
 * Rules:
 *  1. An op completes, and its memory may be used for something else, only when its window is
 *     closed: closed() has run. RREQ_CLOSING waits for that; r->then says what comes after.
 *  2. A change has a slot and a sequence number from its first sending to its answer, whatever
 *     happens to connections in between. It is sent again under the same ones, and under none else.
 *  3. A slot whose last request ended without an answer (the op timed out and the connection is
 *     gone) is not used again before the server was asked what it has seen of it (remote_probe):
 *     the answer is "done" or "not done, and never will be", and in either case the next number is
 *     good.
 *  4. What the server sends is looked at after it can't change it any more: messages when they
 *     arrive, windows after they are closed. Outputs of an op are written when all of that is good.
 *  5. done() runs from handlers and timers, never from inside submit or cancel.
 */
#ifndef WIRE_REMOTE_INT_H
#define WIRE_REMOTE_INT_H

#include "wire/bufs.h"
#include "wire/codec.h"
#include "wire/seal.h"
#include "wire/wire.h"

enum rreq_state {
	RREQ_FREE,
	RREQ_WAIT,    /* to be sent: in rm->wait */
	RREQ_SENT,    /* the server has it */
	RREQ_CLOSING, /* its window is being closed */
};

enum rreq_then {
	THEN_FINISH, /* look at the answer in r->resp */
	THEN_FAIL,   /* end with r->status */
	THEN_AGAIN,  /* send it again */
	THEN_LEAVE,  /* end the op with r->status, and stay for the answer */
};

struct rhandle;

struct rreq {
	struct pst_op *op; /* NULL: it has ended; only the answer is waited for */
	struct remote *rm;
	uint64_t id;
	uint8_t state, then;
	bool has_slot;
	bool counted; /* in rm->inflight: the server owes an answer */
	bool win_open;
	bool reserved; /* for a task */
	/* Anew of each op: rreq_take(). */
	bool sent;     /* once at least: the server may have executed it */
	bool answered; /* it came */
	bool crc_made;
	bool cancelled, cancel_told;
	bool shown;  /* it went with a handle */
	bool got;    /* its answer has one: handle */
	bool closes; /* the last FILE_CLOSE of an inode */
	bool placed; /* a list goes on behind place */
	uint8_t reopens;
	uint8_t bad_crcs;
	int status;
	uint32_t slot;
	uint64_t seq;
	uint32_t crc;
	uint32_t body_len, payload; /* to the server */
	struct rreq *next;          /* in rm->free, unless it is reserved */
	struct list wait;           /* rm->wait */
	struct chan_window win;
	struct iovec wiov;
	void *buf; /* a bounce buffer that the window shows */
	struct wire_resp resp;
	uint32_t place_len;
	uint8_t place[WIRE_KEY_MAX + 1];
	/* remote_handle.c */
	uint64_t confirm, open_mark;
	struct rhandle *fresh; /* for what a FILE_OPEN finds */
	uint8_t handle[WIRE_HANDLE_BYTES];
};

#define REMOTE_TASKS  8
#define REMOTE_CLOSES 256

struct rtask {
	struct pst_op op;
	struct rreq *r;
	struct rhandle *h; /* NULL: free */
};

enum remote_state {
	REMOTE_DOWN,       /* waits for its next attempt */
	REMOTE_CONNECTING, /* the channel is being made */
	REMOTE_HELLO,      /* our hello is sent */
	REMOTE_UP,
	REMOTE_DEAD, /* it will not be tried again: rm->error says why */
};

#define REMOTE_CONTS_MAX 32

struct remote {
	struct store store;
	struct loop *loop;
	struct remote_opts opts;
	char *strings; /* copies of those in opts */
	size_t strings_len;
	enum remote_state state;
	bool closing;
	bool was_up; /* until it was closed for what the server sent */
	bool hello_due;
	bool given_up; /* not connected for too long: ops fail at once until it is again */
	struct chan *chan;
	unsigned at;           /* which of opts.at */
	bool moving;           /* from there to the next, which is offered */
	bool offer_failed;     /* what is offered was no good: not again before the next loss */
	unsigned brief;        /* how often in a row it was soon lost again */
	uint64_t up_ns;        /* since when it is up */
	uint64_t offer_end_ns; /* when what is offered has had its time to begin */
	uint64_t blocked_ns;   /* that starting what is offered took: nothing else ran */
	/* of the welcomes since it was up: the session is another one; handles were let go */
	bool anew, let_go;
	uint8_t version;
	uint32_t depth, inflight;
	uint32_t inline_max; /* data of an answer that needs no window */
	uint32_t flags_ok;   /* those of an op that are passed on */
	struct rreq *reqs;
	uint32_t req_count;
	uint32_t
	        req_used; /* the first of them; the rest never was, but for reserved ones at the end */
	struct rreq *free; /* but for those that are reserved */
	struct list wait;
	struct wire_bufs bufs;
	struct wire_bufs seal_bufs; /* of channels that are sealed: made with the first */

	/* the session */
	uint64_t session;
	uint8_t secret[16], client[16], uuid[16];
	bool secret_seen; /* it came where others could read it */
	bool known;       /* uuid, epoch and opening are the store's */
	bool used;        /* it was up once: what is lost now is waited for */
	uint64_t epoch;
	uint32_t opening; /* the number that goes with the epoch; 0: it was not told */
	uint32_t slot_count, slots_free, slots_lost;
	uint32_t *slot_stack;
	struct remote_slot {
		uint64_t seq;
		uint32_t cont; /* of its last change, for the question */
		bool lost;     /* 3. */
	} * slot;
	struct pst_op probe;
	bool probing;
	uint32_t lease_ms;

	struct { /* remote_handle.c */
		struct list *buckets, held, idle, due;
		uint32_t idle_count, known, stale; /* known: those with a handle */
		bool any_lost;
		struct rtask task[REMOTE_TASKS];
		uint64_t closes, closed_at[REMOTE_CLOSES];
	} h;
	uint8_t handle[WIRE_HANDLE_BYTES]; /* of the request that is being sent */

	/* volatile writes of containers, completed and not flushed since */
	struct {
		uint32_t cont;
		bool lost; /* and then the server was restarted */
	} vol[REMOTE_CONTS_MAX];
	unsigned vol_count;
	bool vol_many; /* more containers than are remembered: all count */
	bool vol_many_lost;

	/* trouble */
	int error;
	char text[512];
	char passed_over
	        [200];     /* why a better place than opts.at[at] is not used; "": there is none */
	bool passed_there; /* and that place is there */
	int passed_status;
	uint64_t lost_ns, backoff_ns, heard_ns, again_ns;
	uint64_t
	        away_ns; /* what was heard last before it was lost: from then on the lease may run */
	bool pinged;
	struct loop_timer retry, tick, soon;
	struct loop_msg kick; /* closes the channel outside of its handlers */
	bool kicked;
	struct rng rng;
	struct remote_figures fig;
	struct { /* of the message that is being made */
		struct wire_req req;
		uint8_t desc[sizeof(struct wire_desc)];
		uint8_t marks[2][WIRE_MARK_BYTES];
		uint8_t handle[WIRE_HANDLE_BYTES]; /* as far forward as there is room */
	} head;
	uint8_t body[WIRE_BODY_MAX];
};

static inline struct remote *remote_of(struct store *s)
{
	return container_of(s, struct remote, store);
}

/* --- remote.c: requests and their ends --- */

static inline void rreq_uncount(struct rreq *r)
{
	if (r->counted) {
		r->counted = false;
		r->rm->inflight--;
	}
}

void rreq_end(struct rreq *r, int status); /* completes the op, if there is one, and frees @r */
void rreq_free(struct rreq *r);
/* Closes its window if it has one, then does @then. */
void rreq_close(struct rreq *r, enum rreq_then then, int status);
/* Into the queue of those to be sent, at its front. */
void rreq_again(struct rreq *r);
/* The same, after it was answered: it is another question, and a change another one. */
void rreq_anew(struct rreq *r);
/* A free one, that is reserved, for @op. */
static inline void rreq_take(struct rreq *r, struct pst_op *op)
{
	r->op = op;
	r->state = RREQ_WAIT;
	r->sent = r->answered = r->crc_made = r->cancelled = r->cancel_told = false;
	r->shown = r->got = r->closes = r->placed = false;
	r->reopens = r->bad_crcs = 0;
	r->confirm = 0;
}
/* Another one, of which there is one. */
static inline struct rreq *rreq_get(struct remote *rm, struct pst_op *op)
{
	struct rreq *r = rm->free;

	rm->free = r->next;
	rreq_take(r, op);
	return r;
}
/* Asks about the next slot of 3., if there is one and nobody asks already. */
void remote_probe(struct remote *rm);
/* Sends what waits, as far as there is room. */
void remote_pump(struct remote *rm);

/* --- remote_send.c --- */

/* 0: sent. -EAGAIN: not now. Else: the op ends with it. */
int rreq_send(struct rreq *r);
/* Takes and sends the commonest op at once: a short read, which has no fields, no window, no slot and no
 * handle. False: not that, or not now, and nothing was done. */
bool remote_submit_short(struct remote *rm, struct pst_op *op);
/* May this op travel? 0, or what it ends with. */
int rreq_check(const struct pst_op *op);
bool remote_note(struct remote *rm, uint8_t kind, uint64_t id); /* false: no room now */

/* --- remote_recv.c --- */

void remote_resp(struct remote *rm, const void *msg, uint32_t len);
void remote_event(struct remote *rm, const void *msg, uint32_t len);
/* The window is closed: what did it bring? */
void rreq_finish(struct rreq *r);
/* Volatile writes: what a flush has to answer for. */
int remote_flush_check(struct remote *rm, const struct pst_op *op);
void remote_volatile_lost(struct remote *rm);

/* --- remote_handle.c --- */

int handles_alloc(struct remote *rm);
void handles_free(struct remote *rm);
/* Before it is sent, or queued. 0 or -ENOMEM. */
int handles_submit(struct rreq *r);
/* A FILE_CLOSE of what stays open: nothing to send. */
bool handles_close_here(struct remote *rm, const struct pst_op *op);
/* Something has to be known before it can be sent. */
bool handles_must_wait(const struct rreq *r);
int handles_show(struct rreq *r);
void handles_sent(struct rreq *r);
/* It was answered (r->resp). True: that was not the end of it. */
bool handles_answered(struct rreq *r);
void handles_entry(struct rreq *r, const struct wire_entry *e); /* of a list, with a handle */
void handles_left(struct rreq *r);                              /* it ends */
/* Connected again. @let_go: the server may hold nothing open any more. */
void handles_resumed(struct remote *rm, bool same_session, bool let_go);
void handles_pump(struct remote *rm); /* begins what is to be done */
bool handles_is_task(const struct remote *rm, const struct pst_op *op);

/* Does that have to do with handles and opens at all? */
static inline bool rreq_has_inode(const struct rreq *r)
{
	return r->op->opcode >= PST_OP_LOOKUP || r->op->opcode == PST_OP_EXTENTS;
}

/* --- remote_conn.c --- */

static inline const char *remote_where(const struct remote *rm)
{
	return rm->opts.at[rm->at].addr;
}

/* Is the place that is tried one that another has offered? */
static inline bool remote_offered(const struct remote *rm)
{
	return rm->opts.at[rm->at].offered;
}

void remote_start(struct remote *rm);
/* The peer broke the rules: the channel is closed, and made anew. */
void remote_bad(struct remote *rm, const char *what);
void remote_stop(struct remote *rm); /* for good */
/* Not connected for longer than opts.reconnect_ns: ops end. */
void remote_patience(struct remote *rm, uint64_t now);
/* Has the welcome at the place that is tried been waited for long enough? */
bool remote_hello_late(const struct remote *rm, uint64_t now);
/* It will not be tried again: ops end with @status. Outside of handlers, or remote_kick() closes the channel. */
void remote_dead(struct remote *rm, int status, const char *text);
/* Here for good, as rm->text says; where it was offered there is another place. */
void remote_no_good(struct remote *rm, int status);
void remote_not_so(struct remote *rm, int status, const char *why); /* the same: WHERE: @why */
/* Closes the channel from outside of its handlers; what comes then follows from the state. */
void remote_kick(struct remote *rm);
/* Ends every op that is not under way already. @only_sent_changes: those whose outcome is unknown now. */
void remote_fail_all(struct remote *rm, int status, bool only_sent_changes);

/* --- remote_greet.c --- */

/* The channel is up: seals it, or says hello. A sealed one gets the handlers @sealed. */
void remote_begin(struct remote *rm, const struct chan_handlers *sealed);
void remote_hello(struct remote *rm);
void remote_welcome(struct remote *rm, const void *msg, uint32_t len);

#endif
