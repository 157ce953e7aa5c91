/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_util - two ends of a connection, for tests of sockets: each sends a stream whose bytes follow
 * from their place in it, in sends of random sizes and kinds, and checks what comes, which it takes
 * in random bites. Both ends live on one loop.
 */
#ifndef TESTS_NET_UTIL_H
#define TESTS_NET_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/in.h>

#include "net/net.h"

#define END_SENDS 8
#define END_IOVS  5
#define END_BYTES (96 * KIB) /* of one send, of one destination */

struct end_send {
	struct net_send m;
	struct iovec iov[END_IOVS];
	struct end *end;
	bool busy;
	uint8_t data[END_BYTES];
};

struct end {
	struct loop *loop;
	struct net_sock *s;
	struct rng rng;
	/* limits of the stream: set before it begins */
	uint64_t total_out, total_in;
	size_t send_max; /* bytes of one send; 0: END_BYTES */
	bool shut_after; /* shutdown when all is sent */
	bool pauses;
	/* what happened */
	int up_status, down_status;
	unsigned ups, downs, eofs, gones, drains, dones, bad;
	uint64_t out, in; /* queued, checked */
	int last_done;    /* its status */
	bool waits;       /* a send was refused with -EAGAIN */
	uint64_t tx_key, rx_key;
	struct iovec dest[4];
	unsigned dest_count;
	uint8_t *dest_mem;
	struct end_send sends[END_SENDS];
	struct loop_timer timer;
	char error[PST_ERR_TEXT_BYTES];
};

/* The handlers that do all of the above; the socket's user is the end. */
extern const struct net_handlers end_handlers;
extern const struct net_handlers end_handlers_no_eof;

struct loop *net_loop(void);
struct end *end_new(struct loop *loop, uint64_t seed, uint64_t tx_key, uint64_t rx_key);
void end_free(struct end *e);
/* Queues as much as the limits allow. */
void end_pump(struct end *e);
uint8_t stream_byte(uint64_t key, uint64_t pos);

/* A listener whose sockets go to the ends that wait, in order. */
struct host {
	struct net_listener *l;
	struct end *ends[256];
	unsigned waiting, taken, failed;
	int failed_status;
	char failed_text[PST_ERR_TEXT_BYTES];
	char addr[NET_ADDR_TEXT_MAX];
};
void host_open(struct host *h, struct loop *loop, const char *addr, const struct net_opts *opts);
void host_expect(struct host *h, struct end *e);

/* Connects @e to @addr and turns the loop until it is up. */
void end_connect(struct end *e, const char *addr, const struct net_opts *opts);
/* Turns the loop until the condition holds; fails the test after @seconds. */
#define turn_until(loop, cond, seconds)                                                    \
	do {                                                                               \
		const uint64_t until_ = clock_mono_ns() + (uint64_t)((seconds)*1e9);       \
		while (!(cond)) {                                                          \
			assert_true(loop_turn(loop, 10 * NSEC_PER_MSEC) >= 0);             \
			if (clock_mono_ns() > until_)                                      \
				fail_msg("%s:%d: not within %g s: %s", __FILE__, __LINE__, \
				         (double)(seconds), #cond);                        \
		}                                                                          \
	} while (0)

/* A connected pair, @a the client and @b the server, over @addr. */
struct pair {
	struct loop *loop;
	struct host host;
	struct end *a, *b;
};
void pair_open(struct pair *p, const char *addr, const struct net_opts *client,
               const struct net_opts *server, uint64_t seed);
void pair_close(struct pair *p);

/* A socket of ours and a bare one of the test's. */
struct bare {
	struct loop *loop;
	struct end *e;
	int fd;
};

/* @tcp or a unix socket pair; fd is the bare end. */
void bare_open(struct bare *b, bool tcp, const struct net_opts *opts,
               const struct net_handlers *handlers);
void bare_close(struct bare *b);
/* Sends the stream's bytes that the end expects at @from. */
void bare_send(struct bare *b, uint64_t from, size_t len);
void reset_and_close(int fd);
/* @backlog < 0: bound only. */
int raw_listen(struct sockaddr_in *ret_in, int backlog);

#endif
