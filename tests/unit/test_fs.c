/* SPDX-License-Identifier: BSD-3-Clause */
/* The names layer, op by op: what each does, and each errno that it knows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "fs_util.h"

#define ok(expr)       assert_int_equal(expr, 0)
#define err(expr, err) assert_int_equal(expr, -(err))

static struct fsx X;
static struct fsx *const x = &X;

static int setup(void **state)
{
	fsx_open(x, NULL, NULL, 0);
	return 0;
}

static int teardown(void **state)
{
	fsx_check(x);
	fsx_close(x);
	return 0;
}

static void test_smoke(void **state)
{
	char buf[64];

	ok(fsx_mkdir(x, "d"));
	ok(fsx_create(x, "d/f", 0));
	ok(fsx_write(x, x->ino, 0, "hello", 0));
	ok(fsx_lookup(x, "/d/f", 0));
	assert_int_equal(x->attr.size_bytes, 5);
	ok(fsx_read(x, x->ino, 0, buf, sizeof(buf)));
	assert_int_equal(x->ret_len, 5);
	assert_memory_equal(buf, "hello", 5);
	ok(fsx_list(x, "d", 0, true, buf, sizeof(buf)));
	assert_string_equal(buf, "f");
	ok(fsx_unlink(x, "d/f"));
	err(fsx_lookup(x, "/d/f", 0), ENOENT);
	ok(fsx_rmdir(x, "d"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_smoke, setup, teardown),
	};

	return cmocka_run_group_tests_name("fs", tests, NULL, NULL);
}
