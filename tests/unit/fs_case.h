/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs_case - what a program of tests of the names layer begins with: one stack, `x`, that is opened before
 * each test, and checked and closed after it; and how they look at its tree.
 */
#ifndef TESTS_UNIT_FS_CASE_H
#define TESTS_UNIT_FS_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "fs_util.h"

#define ok(expr)       assert_int_equal(expr, 0)
#define err(expr, err) assert_int_equal(expr, -(err))

static struct fsx X;
static struct fsx *const x = &X;

/* --- before and after --- */

static inline int setup(void **state)
{
	fsx_open(x, NULL, NULL, 0);
	return 0;
}

static inline int setup_plain(void **state)
{
	fsx_open(x, NULL, NULL, PST_CAP_EXISTING | PST_CAP_REPLAY);
	return 0;
}

static inline int setup_later(void **state)
{
	const struct model_store_opts slow = {.later = true, .busy = 0.3, .seed = 5};

	fsx_open(x, NULL, &slow, 0);
	return 0;
}

static inline int teardown(void **state)
{
	fsx_check(x);
	fsx_close(x);
	return 0;
}

/* Of tests that hold ops back. */
static inline int teardown_held(void **state)
{
	x->shim.hold = NULL;
	shim_release(x);
	return teardown(state);
}

/* T: as it is; P: on a store that knows neither tokens nor PST_F_EXISTING; L: on one that is late and busy;
 * H: with ops that are held back. */
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define H(name) cmocka_unit_test_setup_teardown(name, setup, teardown_held)
#define P(name)                                                           \
	{                                                                 \
#name " (plain store)", name, setup_plain, teardown, NULL \
	}
#define L(name)                                                          \
	{                                                                \
#name " (slow store)", name, setup_later, teardown, NULL \
	}

/* --- for shim.hold --- */

static inline bool is_batch(const struct pst_op *op)
{
	return op->opcode == PST_OP_BATCH;
}

static inline bool is_stat(const struct pst_op *op)
{
	return op->opcode == PST_OP_STAT;
}

/* --- the tree --- */

/* With and without attributes, in one piece and in several. */
static inline void assert_list(const char *path, const char *expected)
{
	char buf[8192];

	for (unsigned max = 0; max < 4; max++) {
		ok(fsx_list(x, path, max, max & 1, buf, sizeof(buf)));
		assert_string_equal(buf, expected);
	}
}

static inline uint64_t ino_of(const char *path)
{
	ok(fsx_lookup(x, path, PST_F_NOFOLLOW));
	assert_int_equal(x->ino, x->attr.ino);
	return x->ino;
}

static inline uint32_t nlink_of(const char *path)
{
	ino_of(path);
	return x->attr.nlink;
}

#endif
