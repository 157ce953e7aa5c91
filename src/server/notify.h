/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * notify - what systemd hears of the server, if it started it: that it is ready, that it is alive (from
 * the loop itself, so that one that stands still is noticed), what it does, and that it ends.
 */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

#include "server/server.h"

struct notify {
	struct server *s;
	struct loop_timer timer; /* when it says that it is alive, and looks whether the store is */
	uint64_t every_ns;       /* 0: nobody wants to know whether it is alive */
	struct pst_op
	        op; /* asks the store how it is; it comes back before server_close() is through */
	bool asking, ending;
	bool untold; /* there was no room for what it had to say */
	int fd;      /* where it says it, to ask for room; -1: that can't be known */
	struct pst_store_status store, seen; /* as it was last, and what op brings */
};

/* The doors are open. All on the server's loop. */
void notify_ready(struct notify *n, struct server *s);
/* Before server_close(). @n stays until that has returned. */
void notify_stopping(struct notify *n);

#endif
