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

/* --- who has connected to a listener and said nothing yet --- */

/*
 * Each of them keeps a descriptor. Of too many the oldest goes: it has had more time than the others,
 * and those that have something to say do it at once.
 */
#define FABRIC_CROWD_MAX 256
struct fabric_crowd {
	struct list waiting; /* the oldest first */
	unsigned count;
};
/* The link of whoever has to make room for one more, for the caller to close; NULL: nobody. */
struct list *crowd_excess(const struct fabric_crowd *c);
void crowd_join(struct fabric_crowd *c, struct list *link);
void crowd_leave(struct fabric_crowd *c, struct list *link);

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
