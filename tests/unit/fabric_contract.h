/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The contract of fabric/fabric.h as tests: one suite, run on every provider. A provider joins with
 * a struct fabric_case and nothing else. What the files of the suite share is here, too.
 */
#ifndef TESTS_FABRIC_CONTRACT_H
#define TESTS_FABRIC_CONTRACT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fabric/fabric.h"

#define FABRIC_CONTRACT_TESTS 45

struct fabric_case {
	const char *label; /* before the test's name */
	const char *provider;
	bool sim; /* runs on a simulated loop */
	/* Before each test: an address where nobody listens; may set opts. */
	void (*fresh)(struct fabric_case *c);
	char addr[200];
	char bad_addr[200];    /* where nobody can listen */
	char nobody_addr[200]; /* where nobody listens; "": @addr */
	struct fabric_opts opts;
	/* The peer's endpoint dies without a word of its program's. NULL: can't be done here. */
	void (*die)(struct fabric_case *c, struct chan *peer);
	void *priv;
};

/* Appends the suite for @c, FABRIC_CONTRACT_TESTS at most; returns how many. */
size_t fabric_contract_add(struct CMUnitTest *tests, struct fabric_case *c);

/* --- for the suite's files --- */

/* One end, and all that happened to it. */
struct side {
	struct fix *f;
	struct chan *c; /* NULL: not there, or closed */
	int up_status, down_status;
	unsigned ups, downs, readies;
	uint64_t sent, got; /* messages: each carries its number */
	uint64_t got_bytes;
	bool echo; /* send each message back (dropped without a credit) */
	bool close_on_msg, close_on_up, close_on_down;
	void (*on_msg)(struct side *s, const void *data, uint32_t len);
};

#define SIDES 300

struct fix {
	struct fabric_case *c;
	struct loop *loop;
	struct fabric_opts opts; /* of the next listen and connect */
	struct fabric_listener *l;
	struct mem_region *mem[2]; /* one for each end */
	struct side a, b;          /* connected, accepted first */
	struct side more[SIDES];   /* accepted later */
	unsigned accepted;
	bool refuse, close_in_accept;
	unsigned cuts; /* strangers that had to make room */
	struct rng rng;
};

#define FIX_MEM_BYTES (8 * MIB)

void fix_listen(struct fix *f);
struct chan *fix_connect(struct fix *f, struct side *s); /* begins */
void fix_pair(struct fix *f);                            /* f->a and f->b are up */
void side_close(struct side *s);
int side_send(struct side *s, uint32_t len); /* the next numbered message */
/* Turns until both are closed and nothing is left; also ends the listener. */
void fix_drain(struct fix *f);

/* Turns until @cond; fails after a minute of the loop's time. */
#define WAIT(f, cond)                                                               \
	do {                                                                        \
		uint64_t wait_end_ = loop_now((f)->loop) + 60 * NSEC_PER_SEC;       \
		while (!(cond)) {                                                   \
			assert_true(loop_turn((f)->loop, 10 * NSEC_PER_MSEC) >= 0); \
			if (loop_now((f)->loop) > wait_end_)                        \
				fail_msg("waited in vain for: %s", #cond);          \
		}                                                                   \
	} while (0)

/* As long as it takes for what is under way to happen. */
void settle(struct fix *f);

/* A transfer that notes its end. */
struct txfer {
	struct chan_xfer x;
	struct iovec iov[64];
	unsigned done;
	int status;
};
/* A window that notes its end. */
struct twindow {
	struct chan_window w;
	struct iovec iov[64];
	unsigned closed;
};

void txfer_make(struct txfer *t, struct mem_region *r, uint64_t at, uint64_t len,
                const struct fabric_desc *d, uint64_t off);
void txfer_must(struct fix *f, struct txfer *t, bool write); /* starts, -EAGAIN waited out */
int txfer_wait(struct fix *f, struct txfer *t);              /* its status */
void twindow_make(struct twindow *w, struct mem_region *r, uint64_t at, uint64_t len,
                  uint32_t rights);
void twindow_end(struct fix *f, struct chan *c, struct twindow *w); /* closes, and waits */
#define RW (FABRIC_PEER_READS | FABRIC_PEER_WRITES)
/* f->b's window of @len bytes at 64 KiB of its memory. */
void open_one(struct fix *f, struct twindow *w, uint64_t len, uint32_t rights);
static inline uint8_t *mem_at(struct mem_region *r, uint64_t at)
{
	return (uint8_t *)r->addr + at;
}
void fill(void *buf, size_t len, uint64_t tag);
bool filled(const void *buf, size_t len, uint64_t tag);

extern const struct fabric_contract_test {
	const char *name;
	CMUnitTestFunction fn;
} fabric_contract_full[], fabric_contract_xfer[], fabric_contract_lent[];
extern const size_t fabric_contract_full_count, fabric_contract_xfer_count,
        fabric_contract_lent_count;

#endif
