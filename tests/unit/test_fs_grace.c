/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The names layer: its time of grace ends while something is under way, or what an op read of a file is
 * older than what another did to it.
 */
#include "fs_case.h"

#define GRACE_NS (60 * NSEC_PER_SEC)

static void sleep_ns(uint64_t ns)
{
	uint64_t until = loop_now(x->loop) + ns;

	while (loop_now(x->loop) < until)
		(void)loop_turn(x->loop, until - loop_now(x->loop));
}

/* The layer has been started anew, and has a time of grace; how many objects there are. */
static uint64_t graced(const char *name, uint64_t *ret_ino)
{
	const struct fs_opts opts = {.grace_ns = GRACE_NS};
	uint64_t before;

	fsx_close(x);
	fsx_open(x, &opts, NULL, 0);
	ok(fsx_create(x, "first", 0));
	before = fsx_objects(x);
	ok(fsx_create(x, name, 0));
	*ret_ino = x->ino;
	fsx_restart(x);
	err(fsx_lookup(x, "nothing", 0), ENOENT);
	return before;
}

static void open_late(uint64_t ino, struct pst_op *op, int *status)
{
	*op = fsx_op(x, PST_OP_FILE_OPEN, NULL);
	op->ino = ino;
	x->shim.late = is_stat;
	assert_int_equal(fsx_start(x, op, status), PST_QUEUED);
	x->shim.late = NULL;
}

/* What FILE_OPEN read is older than the name that the file has got. */
static void test_grace_open_and_link(void **state)
{
	struct pst_op op, link;
	uint64_t ino;
	int status;

	(void)graced("", &ino);
	open_late(ino, &op, &status);
	link = fsx_op(x, PST_OP_LINK, NULL);
	link.ino = ino;
	link.name2 = "f";
	link.name2_len = 1;
	ok(fsx_run(x, &link));
	shim_release(x);
	assert_int_equal(status, 0);
	ok(fsx_drop(x, ino));
	ok(fsx_lookup(x, "f", 0));
	assert_int_equal(x->ino, ino);
	assert_int_equal(x->attr.nlink, 1);
}

/* It came in time, and others have cleared up meanwhile. */
static void test_grace_ends_while_opening(void **state)
{
	struct pst_op op;
	uint64_t ino, before;
	int status;

	before = graced("", &ino);
	open_late(ino, &op, &status);
	sleep_ns(2 * GRACE_NS);
	err(fsx_lookup(x, "nothing", 0), ENOENT);
	shim_release(x);
	assert_int_equal(status, 0);
	ok(fsx_getattr(x, ino));
	ok(fsx_drop(x, ino));
	assert_int_equal(fsx_objects(x), before);
}

static void test_grace_ends_while_unlinking(void **state)
{
	uint64_t ino, before = graced("f", &ino);
	struct pst_op op = fsx_op(x, PST_OP_UNLINK, "f");
	int status;

	x->shim.hold = is_batch;
	assert_int_equal(fsx_start(x, &op, &status), PST_QUEUED);
	x->shim.hold = NULL;
	sleep_ns(2 * GRACE_NS);
	err(fsx_lookup(x, "nothing", 0), ENOENT);
	shim_release(x);
	assert_int_equal(status, 0);
	err(fsx_lookup(x, "nothing", 0),
	    ENOENT); /* nobody holds it: not left until the next start */
	assert_int_equal(fsx_objects(x), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        H(test_grace_open_and_link),
	        H(test_grace_ends_while_opening),
	        H(test_grace_ends_while_unlinking),
	};

	if (fsx_on_engine()) /* for the others a change must be seen before it is told of: the engine tells at once */
		cmocka_set_test_filter("test_grace_ends_while_unlinking");
	return cmocka_run_group_tests_name("fs_grace", tests, NULL, NULL);
}
