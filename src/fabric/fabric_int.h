/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fabric_int - what the providers share. Private to this room.
 */
#ifndef FABRIC_FABRIC_INT_H
#define FABRIC_FABRIC_INT_H

#include "base/iov.h"
#include "fabric/fabric.h"

/*
 * Counts what a provider keeps on a loop: each listener and channel holds the loop from its making
 * until the last of it is gone, so that fabric_quiet() can tell. -ENOMEM.
 */
int fabric_hold(struct loop *loop);
void fabric_drop(struct loop *loop);

/* How long what was sent before the end may take to be delivered. */
#define FABRIC_LINGER_NS NSEC_PER_SEC

/* --- strangers: who has connected to a listener, and is nobody that it knows yet --- */

/*
 * Each of them has a place of the listener's, and descriptors. When there are no more places the oldest of them
 * goes: it has had more time than the others, and those that have something to say do it at once. It is one
 * of the group that has the most, by user or host, so that a flood pushes its own ones out first.
 */
#define FABRIC_GROUPS 64
struct net_peer;
struct fabric_crowd {
	unsigned count;
	struct {
		struct list waiting; /* chan.stranger.link, the oldest first */
		unsigned count;
	} group[FABRIC_GROUPS];
};
void crowd_init(struct fabric_crowd *w);
void crowd_join(struct fabric_crowd *w, struct chan *c, const struct net_peer *peer);
/* If there are more of them than @others one makes room: by l->cut(), or by @refuse if it was not given out yet. */
bool crowd_make_room(struct fabric_crowd *w, unsigned others, struct fabric_listener *l,
                     void (*refuse)(struct chan *c));
/* The listener ends, and with it those that were not given out. */
void crowd_end(struct fabric_crowd *w);
/* A channel is up: its owner has it from now on, or it is closed. */
void fabric_give(struct fabric_listener *l, struct chan *c);

/* The other end refuses, with this status, before there is a channel: says so in c->why. What up() has to tell. */
int fabric_refused(struct chan *c, uint32_t status);

/* --- the first words --- */

/* The peer (@who: "it", where what c->why goes into names it) speaks version @its of the channel's
 * protocol, and we @ours: says so in c->why. -EPROTONOSUPPORT. */
int fabric_other_version(struct chan *c, const char *who, unsigned its, unsigned ours);

/* --- lists of memory --- */

/* All of it lies in @r. */
bool iov_inside(const struct iovec *iov, uint32_t count, const struct mem_region *r);

/*
 * What every provider checks before it starts a transfer: 0; -ERANGE (outside of the descriptor's
 * length); -EINVAL (x->len is not what the list holds, or the list leaves its region).
 */
int fabric_xfer_check(const struct chan_xfer *x);

/* An unguessable number from the kernel. 0, or -errno. */
int fabric_random(void *buf, size_t len);

#endif
