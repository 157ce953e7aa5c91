/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of block devices share: opening on a loop, requests that are waited for, patterns.
 */
#ifndef TESTS_BDEV_UTIL_H
#define TESTS_BDEV_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "bdev/bdev.h"

/* A request that notes when it ended. */
struct tio {
	struct bdev_io io;
	struct iovec iov[4];
	unsigned done;  /* times */
	unsigned order; /* of completion, counted from 1 by *orders */
	unsigned *orders;
	uint64_t done_ns;
	struct loop *loop;
};

static inline void tio_done(struct bdev_io *io)
{
	struct tio *t = container_of(io, struct tio, io);

	t->done++;
	t->done_ns = loop_now(t->loop);
	if (t->orders)
		t->order = ++*t->orders;
}

static inline void tio_submit(struct bdev *b, struct tio *t, enum bdev_op op, uint64_t off,
                              void *buf, uint64_t len, uint32_t flags)
{
	*t = (struct tio){.loop = b->loop, .orders = t->orders};
	t->iov[0] = (struct iovec){buf, len};
	t->io = (struct bdev_io){.op = op,
	                         .flags = flags,
	                         .off_bytes = off,
	                         .len_bytes = len,
	                         .iov = t->iov,
	                         .iov_count = op <= BDEV_WRITE,
	                         .done = tio_done};
	bdev_submit(b, &t->io);
	assert_int_equal(t->done, 0); /* never from inside submit */
}

static inline int tio_wait(struct tio *t)
{
	while (!t->done)
		assert_true(loop_turn(t->loop, NSEC_PER_SEC) >= 0);
	assert_int_equal(t->done, 1);
	return t->io.status;
}

static inline int do_io(struct bdev *b, enum bdev_op op, uint64_t off, void *buf, uint64_t len,
                        uint32_t flags)
{
	struct tio t = {.done = 0};

	tio_submit(b, &t, op, off, buf, len, flags);
	return tio_wait(&t);
}

/* Fills @buf with bytes that depend on @tag and the position, so that no two blocks are alike. */
static inline void pattern(void *buf, size_t len, uint64_t tag)
{
	uint64_t *p = buf;

	for (size_t i = 0; i < len / 8; i++)
		p[i] = hash_u64(tag * 0x10001 + i + 1);
}

static inline struct bdev *must_open(const char *spec, struct loop *loop)
{
	struct pst_err err = {0};
	struct bdev *b = NULL;

	if (bdev_open(&b, spec, loop, NULL, &err))
		fail_msg("%s: %s", spec, err.text);
	return b;
}

static inline struct loop *sim_loop(void)
{
	struct loop *loop = NULL;
	struct loop_opts opts;

	loop_opts_default(&opts);
	opts.sim = true;
	opts.sim_start_ns = NSEC_PER_SEC;
	assert_int_equal(loop_new(&loop, &opts, NULL), 0);
	return loop;
}

#endif
