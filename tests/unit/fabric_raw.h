/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Peers of channels that speak the protocols by hand, and so can break their rules; and a server
 * that does with messages what a server would: it transfers to and from the windows that they name.
 * For tests and fuzzers.
 */
#ifndef TESTS_FABRIC_RAW_H
#define TESTS_FABRIC_RAW_H

#include "fabric/fabric.h"
#include "fabric/pipe_int.h"
#include "fabric/tcp_int.h"

/* The server's end. A message of a struct fabric_desc begins a transfer; others are sent back. */
struct raw_server {
	struct loop *loop;
	struct fabric_listener *l;
	struct chan *c; /* the last that was accepted, until it is down */
	struct mem_region *mem;
	struct chan_window win; /* open on @c, if @win_open */
	struct iovec win_iov;
	bool offer, win_open;
	unsigned accepted, msgs, downs, xfers, busy;
	int status; /* of the last down */
	bool hurry; /* turns don't wait */
	struct raw_xfer *xfer;
};

/* @connect_ns: who has not said all of its first words by then is hung up on. Those who do say them have to be
 * faster, also on a machine that does other things. @conns_max: 0 is fabric.h's own. */
void raw_server_open(struct raw_server *s, const char *provider, const char *addr, bool offer,
                     uint64_t connect_ns, uint32_t conns_max);
void raw_server_close(struct raw_server *s);
/* Turns the loop @n times, or until the channel has gone down. */
void raw_turns(struct raw_server *s, unsigned n);

/* 200 strangers, whose first words are @len bytes and none of the protocol's, fill nobody's log. */
void raw_must_tell_few(struct raw_server *s, int (*connect_to)(const char *addr), const char *addr,
                       size_t len);

/* The server hangs up (at once, or at the handshake's deadline), and accepts nobody for it. */
void raw_must_hang_up(struct raw_server *s, int fd);

/* Who connects to a server that stands still, and gives up, before its deadline or at it: nothing of him is left at once. */
void raw_must_let_go(const char *provider, const char *addr);

/* A blocking socket that is connected to a unix socket (a path, or "unix-abstract:NAME"). -1: not. */
int raw_unix(const char *addr);
int raw_tcp(const char *addr); /* to a listener of this host; it must be there */
bool raw_send(int fd, const void *bytes, size_t len);
/* With the head and payload that begin a tcp channel. */
void raw_tcp_hello(struct tcp_head *ret_head, struct tcp_hello *ret_hello);

/* The peer of a pipe. */
struct raw_pipe {
	int fd;
	struct pipe_map mine, its; /* the server reads what is written to @its */
	int mine_fd, bell, its_bell;
};
bool raw_pipe_frame(struct raw_pipe *p, const struct pipe_frame *f, const int *fds, unsigned n);
void raw_pipe_hello(struct raw_pipe *p, struct pipe_frame *ret_frame); /* makes the inbox */
/* Connects and says hello; with @s, which is turned, as the other end. False if it was refused. */
bool raw_pipe_open(struct raw_pipe *p, struct raw_server *s, const char *addr);
void raw_pipe_close(struct raw_pipe *p);
void raw_pipe_ring(struct raw_pipe *p); /* the bell */
/* Writes a message to the ring as it should be. */
void raw_pipe_send(struct raw_pipe *p, const void *data, uint64_t len);

#endif
