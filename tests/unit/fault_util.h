/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of the fault device share: one over a device whose contents can be looked at. */
#ifndef TESTS_FAULT_UTIL_H
#define TESTS_FAULT_UTIL_H

#include "bdev_util.h"

#include "bdev/fault.h"

#define BB    4096u
#define COUNT 64u /* blocks of the usual device */

/* A fault device whose underside can be looked at. */
struct env {
	struct loop *loop;
	struct bdev *below, *b;
};

static inline void env_open(struct env *e, uint64_t seed)
{
	e->loop = sim_loop();
	e->below = must_open("mem:256k", e->loop);
	assert_int_equal(fault_wrap(&e->b, e->below, seed, NULL), 0);
}

static inline void env_close(struct env *e)
{
	bdev_close(e->b);
	loop_free(e->loop);
}

static inline void set(struct env *e, const char *name, const char *value)
{
	struct pst_err err = {0};

	if (fault_set(e->b, name, value, &err))
		fail_msg("%s=%s: %s", name, value, err.text);
}

static inline void write_tag(struct env *e, uint64_t block, uint32_t count, uint64_t tag,
                             uint32_t flags)
{
	uint8_t *buf = malloc(count * BB);

	pattern(buf, count * BB, tag);
	assert_int_equal(do_io(e->b, BDEV_WRITE, block * BB, buf, count * BB, flags), 0);
	free(buf);
}

static inline void flush(struct env *e)
{
	assert_int_equal(do_io(e->b, BDEV_FLUSH, 0, NULL, 0, 0), 0);
}

/* Whether block @i of the write @tag lies at @block of @b. */
static inline bool has_tag(struct bdev *b, uint64_t block, uint64_t tag, uint32_t i)
{
	uint8_t buf[BB], want[16 * BB];

	pattern(want, sizeof(want), tag);
	assert_int_equal(do_io(b, BDEV_READ, block * BB, buf, BB, 0), 0);
	return !memcmp(buf, want + i * BB, BB);
}

static inline void wait_quiet(struct env *e)
{
	while (loop_turn(e->loop, 0) > 0)
		;
}

#endif
