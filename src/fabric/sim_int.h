/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim_int - what the files of the adversarial channel share. Private to this room.
 *
 * A link is a channel with both its ends and everything under way between them, which is a list of
 * events in order of time. One timer per link runs them; it is armed from the link's making to its
 * end (for ever, when there is nothing to wait for), so that arming it can't fail. Events that must
 * not fail either are part of what they are about: an end, a transfer, a window.
 *
 * Life of an end:
 *
 *   NEW --(arrival, up_fire)--> UP --(down_fire)--> DOWN --.
 *    |                           |                          |
 *    '------ sim_close ----------'------- sim_close --------'--> CLOSING --(closed_fire)--> GONE
 *
 * The link is freed when both ends are GONE. An end that is never told anything (NEW on the
 * listener's side) goes straight to GONE.
 */
#ifndef FABRIC_SIM_INT_H
#define FABRIC_SIM_INT_H

#include "fabric/fabric_int.h"
#include "fabric/sim.h"

#define NEVER UINT64_MAX

struct sim_link;
struct sim_xfer;

struct sim_ev {
	struct list link; /* in sim_link.events while armed */
	uint64_t due_ns, order;
	bool local; /* of one end's own: happens although nothing passes */
	void (*fire)(struct sim_link *l, struct sim_ev *ev);
};

enum end_state { END_NEW, END_UP, END_DOWN, END_CLOSING, END_GONE };

struct sim_end {
	struct chan c;
	struct sim_link *link;
	struct sim_end *peer;
	enum end_state state;
	int status; /* why it is, or will be, down */
	uint64_t dead_ns;
	uint32_t credits;       /* messages that may be sent */
	uint32_t credits_given; /* to the peer, at first */
	uint32_t windows_count, windows_max;
	uint32_t xfers_count;
	uint64_t lane_ns;   /* when the last message on its way to this end arrives */
	uint64_t landed_ns; /* when the last piece of a write to this end has landed */
	bool want_ready;
	struct list windows, xfers;
	struct sim_ev up_ev, ready_ev, fin_ev, down_ev, closed_ev;
};

struct sim_listener {
	struct fabric_listener l;
	struct fabric_opts opts;
	enum sim_door door;
	unsigned conns;
	struct list link;  /* in sim_net.listeners */
	struct list links; /* sim_link.listed: whose channels it gave out */
};

/* What a loop knows: names that can be connected to. There while there are any. */
struct sim_net {
	struct loop_part part;
	struct list listeners;
};

struct sim_link {
	struct loop *loop;
	struct loop_timer timer;
	struct list events;
	uint64_t order;
	struct rng rng;
	struct sim_knobs k;
	struct sim_end end[2]; /* [0] connected, [1] was accepted */
	struct sim_listener *listener;
	struct list listed;
	char addr[sizeof(((struct fabric_listener *)0)->addr)];
	struct sim_ev arrive_ev;
	bool running, cut;
	uint64_t stalled_until_ns;
	uint64_t events_seen;
};

struct sim_msg {
	struct sim_ev ev;
	struct sim_end *to;
	uint32_t len;
	uint8_t data[] __attribute__((aligned(8)));
};

struct sim_piece {
	struct sim_ev ev;
	struct sim_xfer *xfer;
	uint64_t off, len; /* in the transfer */
};

struct sim_xfer {
	struct sim_end *from;
	struct chan_xfer *x;
	bool is_write;
	int status;
	unsigned pieces, left;
	struct sim_ev done_ev;
	struct sim_piece piece[];
};

struct sim_window {
	struct sim_end *end;
	struct chan_window *w;
	struct list link; /* in sim_end.windows, until closed() */
	bool closing;
	struct sim_ev closed_ev;
	uint32_t iov_count;
	struct iovec iov[]; /* a device holds addresses, and does not ask again where memory lies */
};

/* sim_events.c: all that happens to a link, in order of time */
uint64_t add_sat(uint64_t a, uint64_t b);
uint64_t now_of(const struct sim_link *l);
uint64_t between(struct sim_link *l, uint64_t min, uint64_t max);
uint64_t delay(struct sim_link *l);
uint64_t soon(struct sim_link *l); /* a message's time from now */
void ev_init(struct sim_ev *ev, bool local, void (*fire)(struct sim_link *l, struct sim_ev *ev));
void ev_arm(struct sim_link *l, struct sim_ev *ev, uint64_t due_ns);
/* Changes a bit of @iov, if the knobs have it so. */
void maybe_flip(struct sim_link *l, const struct iovec *iov, uint32_t count, uint64_t off,
                uint64_t len);
void link_rearm(struct sim_link *l); /* something else than an event moved */
void link_run(struct loop_timer *t);

/* sim.c: the ends and their messages */
extern const struct chan_ops sim_ops;
void end_init(struct sim_link *l, struct sim_end *e, struct sim_end *peer);
void end_gone(struct sim_end *e);
void listener_forget(struct sim_link *l);
void down_at(struct sim_end *e, int status, uint64_t due_ns);
void wake(struct sim_end *e); /* ready(), if it is waited for */
/* -EAGAIN with a reason (ready() comes with what is waited for), or without one. */
bool refuse(struct sim_end *e, bool reason);
void link_cut(struct sim_link *l, int status, uint64_t ns0, uint64_t ns1);
void link_free(struct sim_link *l);

/* sim_xfer.c: windows and transfers */
int sim_window_open(struct chan *c, struct chan_window *w);
void sim_window_close(struct chan *c, struct chan_window *w);
int sim_write(struct chan *c, struct chan_xfer *x);
int sim_read(struct chan *c, struct chan_xfer *x);
void writes_land(struct sim_end *e); /* what is left of them, now */
void xfers_end(struct sim_end *e, int status);
void windows_end(struct sim_end *e);
void piece_fire(struct sim_link *l, struct sim_ev *ev);

/* sim_connect.c */
extern struct fabric_provider sim_provider;

#endif
