/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tape - a channel with one end only: what is sent goes to the test, and what arrives the test has
 * made up. Windows and transfers are real, so far as there is memory: the other end's is one piece
 * that all descriptors mean.
 */
#ifndef TESTS_UNIT_TAPE_H
#define TESTS_UNIT_TAPE_H

#include "fabric/fabric.h"

struct tape {
	struct chan chan;
	struct loop_poller poller; /* what has ended is told from here */
	struct list xfers, said;
	bool tell_up, is_down;
	unsigned windows;
	/* the other end's */
	/* What our end sent; from a turn. NULL: nobody listens. */
	void (*sent)(struct tape *t, const void *msg, uint32_t len);
	void (*gone)(struct tape *t); /* it is closed, and freed after this; or NULL */
	void *user;
	uint8_t *mem; /* what transfers of ours reach */
	size_t mem_len;
	bool hold_close;            /* the peer may still be in a window that is being closed: */
	struct chan_window *held;   /* this one */
	bool full;                  /* chan_room(): no, until the test calls ready() */
	bool fills;                 /* each write of lent memory makes it so, */
	unsigned lent, crammed;     /* of which there were so many, and so many into a full one */
	struct chan_window *window; /* the last that was opened and is open still */
};

/* The next channel that is connected goes to @made, before its owner sees it. */
extern void (*tape_made)(struct tape *t);
/* A client comes to the listener at "tape": NULL if it was refused. */
struct tape *tape_accept(struct loop *loop, void (*made)(struct tape *t));
void tape_say(struct tape *t, const void *msg, uint32_t len); /* a message arrives */
void tape_down(struct tape *t, int status);
unsigned tape_alive(void); /* channels that are not closed */

#endif
