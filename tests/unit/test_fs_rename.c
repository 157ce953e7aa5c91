/* SPDX-License-Identifier: BSD-3-Clause */
/* The names layer: RENAME, alone and against others. */
#include "fs_case.h"

/* --- rename --- */

static void test_rename_files(void **state)
{
	uint64_t f, g, objects;

	ok(fsx_mkdir(x, "d"));
	ok(fsx_create(x, "f", 0));
	f = x->ino;
	objects = fsx_objects(x);
	ok(fsx_rename(x, "f", "d/f2", 0));
	assert_int_equal(ino_of("d/f2"), f);
	err(fsx_lookup(x, "f", 0), ENOENT);
	ok(fsx_create(x, "g", 0));
	g = x->ino;
	ok(fsx_rename(x, "g", "d/f2", 0)); /* replaces */
	assert_int_equal(ino_of("d/f2"), g);
	err(fsx_getattr(x, f), ESTALE);
	assert_int_equal(fsx_objects(x), objects);
	err(fsx_rename(x, "none", "x", 0), ENOENT);
	err(fsx_rename(x, "d/f2", "none/x", 0), ENOENT);
	err(fsx_rename(x, "d/f2", "d", 0), EISDIR);
	err(fsx_rename(x, "d/f2", "h/", 0), ENOTDIR);
	err(fsx_rename(x, "d/f2/", "h", 0), ENOTDIR);
	err(fsx_rename(x, "d/f2", "d/.", 0), EBUSY);
	err(fsx_rename(x, "d/..", "h", 0), EBUSY);
	/* Two names of one file: nothing happens. */
	ok(fsx_link(x, "d/f2", "h", 0));
	ok(fsx_rename(x, "h", "d/f2", 0));
	ok(fsx_rename(x, "h", "h", 0));
	assert_int_equal(nlink_of("h"), 2);
	/* A file with two links that is replaced keeps one. */
	ok(fsx_create(x, "i", 0));
	ok(fsx_rename(x, "i", "h", 0));
	assert_int_equal(nlink_of("d/f2"), 1);
	/* No replacing. */
	err(fsx_rename(x, "h", "d/f2", PST_F_EXCL), EEXIST);
	err(fsx_rename(x, "h", "h", PST_F_EXCL), EEXIST);
	ok(fsx_rename(x, "h", "j", PST_F_EXCL));
	err(fsx_rename(x, "j", "h", PST_F_EXCL | PST_F_EXCHANGE), EINVAL);
}

static void test_rename_dirs(void **state)
{
	uint64_t a;

	ok(fsx_mkdir(x, "a"));
	a = x->ino;
	ok(fsx_mkdir(x, "a/sub"));
	ok(fsx_mkdir(x, "b"));
	ok(fsx_create(x, "f", 0));
	ok(fsx_rename(x, "a", "b/c", 0));
	assert_int_equal(ino_of("b/c"), a);
	assert_int_equal(ino_of("b/c/sub/../.."), ino_of("b"));
	assert_int_equal(nlink_of("b"), 3);
	assert_int_equal(nlink_of("/"), 3);
	ok(fsx_rename(x, "b/c/", "b/c2/", 0)); /* in one directory */
	assert_int_equal(nlink_of("b"), 3);
	err(fsx_rename(x, "b", "b/c2/b", 0), EINVAL);
	err(fsx_rename(x, "b", "b/b", 0), EINVAL);
	err(fsx_rename(x, "b/c2", "b/c2/sub/x", 0), EINVAL);
	err(fsx_rename(x, "b/c2", "f", 0), ENOTDIR);
	err(fsx_rename(x, "b/c2/sub", "b", 0), ENOTEMPTY);
	ok(fsx_mkdir(x, "full"));
	ok(fsx_create(x, "full/x", 0));
	err(fsx_rename(x, "b/c2", "full", 0), ENOTEMPTY);
	ok(fsx_mkdir(x, "empty"));
	ok(fsx_rename(x, "b/c2", "empty", 0));
	assert_int_equal(ino_of("empty"), a);
	assert_int_equal(nlink_of("/"), 5);
	assert_int_equal(nlink_of("b"), 2);
	ok(fsx_rename(x, "b", "full/b", 0));
	ok(fsx_rename(x, "empty", "full/b", 0)); /* an empty one in another directory */
	assert_int_equal(nlink_of("full"), 3);
	assert_int_equal(nlink_of("/"), 3);
	ok(fsx_mkdir(x, "full/y"));
	ok(fsx_rename(x, "full/b", "full/y", 0)); /* and in the same */
	assert_int_equal(nlink_of("full"), 3);
	assert_list("full", "x y");
}

static void test_rename_exchange(void **state)
{
	uint64_t d, f;

	ok(fsx_mkdir(x, "a"));
	ok(fsx_mkdir(x, "b"));
	ok(fsx_mkdir(x, "a/d"));
	d = x->ino;
	ok(fsx_mkdir(x, "a/d/e"));
	ok(fsx_create(x, "b/f", 0));
	f = x->ino;
	err(fsx_rename(x, "a/d", "none", PST_F_EXCHANGE), ENOENT);
	err(fsx_rename(x, "a/d", "none/", PST_F_EXCHANGE), ENOENT);
	err(fsx_rename(x, "none", "a/d", PST_F_EXCHANGE), ENOENT);
	ok(fsx_rename(x, "a/d", "b/f", PST_F_EXCHANGE));
	assert_int_equal(ino_of("a/d"), f);
	assert_int_equal(ino_of("b/f"), d);
	assert_int_equal(nlink_of("a"), 2);
	assert_int_equal(nlink_of("b"), 3);
	assert_int_equal(ino_of("b/f/e/../.."), ino_of("b"));
	ok(fsx_rename(x, "a/d", "b/f", PST_F_EXCHANGE)); /* back */
	err(fsx_rename(x, "a", "a/d", PST_F_EXCHANGE), EINVAL);
	err(fsx_rename(x, "a/d/e", "a", PST_F_EXCHANGE), EINVAL);
	ok(fsx_rename(x, "a", "b", PST_F_EXCHANGE));
	ok(fsx_lookup(x, "b/d/e", 0));
	ok(fsx_mkdir(x, "a/g"));
	ok(fsx_rename(x, "a/g", "b/d", PST_F_EXCHANGE)); /* both directories */
	assert_int_equal(ino_of("a/g"), d);
	assert_int_equal(ino_of("b/d/.."), ino_of("b"));
	ok(fsx_rename(x, "a/f", "a/f", PST_F_EXCHANGE));
	err(fsx_rename(x, "a/g", "a/f/", PST_F_EXCHANGE), ENOTDIR);
	err(fsx_rename(x, "a/f/", "a/g", PST_F_EXCHANGE), ENOTDIR);
	ok(fsx_rename(x, "a/f", "a/g/", PST_F_EXCHANGE));
}

/* --- against others --- */

static struct pst_op rename_op(const char *path, const char *path2, uint32_t flags)
{
	struct pst_op op = fsx_op(x, PST_OP_RENAME, path);

	op.name2 = path2;
	op.name2_len = (uint32_t)strlen(path2);
	op.flags = flags;
	return op;
}

/* Each finds the tree in order by itself; both together would make a loop. */
static void test_no_loop(void **state)
{
	struct pst_op op[2];
	int status[2];

	for (unsigned round = 0; round < 2; round++) {
		bool cancel = round == 1;

		ok(fsx_mkdir(x, "a"));
		ok(fsx_mkdir(x, "b"));
		x->shim.hold = is_batch;
		op[0] = rename_op("a", "b/x", 0);
		op[1] = rename_op("b", "a/y", 0);
		assert_int_equal(fsx_start(x, &op[0], &status[0]), PST_QUEUED);
		assert_int_equal(fsx_start(x, &op[1], &status[1]), PST_QUEUED);
		assert_int_equal(x->shim.held_count, 1); /* the other waits for its turn */
		if (cancel)
			store_cancel(x->fs, &op[0]);
		shim_release(x);
		if (cancel)
			shim_release(x); /* the second one's batch */
		x->shim.hold = NULL;
		assert_int_equal(status[0], cancel ? -ECANCELED : 0);
		/* "a" is "b/x" by then: there is no such directory any more. */
		assert_int_equal(status[1], cancel ? 0 : -ENOENT);
		fsx_check(x);
		ok(fsx_rmdir(x, cancel ? "a/y" : "b/x"));
		ok(fsx_rmdir(x, cancel ? "a" : "b"));
	}
}

static void test_waiting_mover_is_cancelled(void **state)
{
	struct pst_op op[3];
	int status[3];

	ok(fsx_mkdir(x, "a"));
	ok(fsx_mkdir(x, "b"));
	ok(fsx_mkdir(x, "c"));
	x->shim.hold = is_batch;
	op[0] = rename_op("a", "b/x", 0);
	op[1] = rename_op("b", "c/y", 0);
	op[2] = rename_op("c", "b/z", 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(fsx_start(x, &op[i], &status[i]), PST_QUEUED);
	store_cancel(x->fs, &op[1]);
	assert_int_equal(status[1], 1); /* not from inside */
	x->shim.hold = NULL;
	shim_release(x);
	assert_int_equal(status[0], 0);
	assert_int_equal(status[1], -ECANCELED);
	assert_int_equal(status[2], 0);
	assert_list("b", "x z");
}

static void test_target_directory_goes(void **state)
{
	struct pst_op op = rename_op("f", "d/f", 0);
	int status;

	ok(fsx_mkdir(x, "d"));
	ok(fsx_create(x, "f", 0));
	x->shim.hold = is_batch;
	assert_int_equal(fsx_start(x, &op, &status), PST_QUEUED);
	x->shim.hold = NULL;
	ok(fsx_rmdir(x, "d"));
	shim_release(x);
	assert_int_equal(status, -ENOENT);
	assert_list("/", "f");
}

static void test_source_changes(void **state)
{
	struct pst_op op = rename_op("f", "g", 0);
	uint64_t ino;
	int status;

	ok(fsx_create(x, "f", 0));
	x->shim.hold = is_batch;
	assert_int_equal(fsx_start(x, &op, &status), PST_QUEUED);
	x->shim.hold = NULL;
	ok(fsx_unlink(x, "f"));
	ok(fsx_create(x, "f", 0));
	ino = x->ino;
	ok(fsx_create(x, "g", 0));
	shim_release(x); /* it looks again */
	assert_int_equal(status, 0);
	assert_int_equal(ino_of("g"), ino);
	assert_list("/", "g");
}

static void test_victim_fills_up(void **state)
{
	struct pst_op op = rename_op("a", "b", 0);
	int status;

	ok(fsx_mkdir(x, "a"));
	ok(fsx_mkdir(x, "b"));
	x->shim.hold = is_batch;
	assert_int_equal(fsx_start(x, &op, &status), PST_QUEUED);
	x->shim.hold = NULL;
	ok(fsx_create(x, "b/f", 0));
	shim_release(x);
	assert_int_equal(status, -ENOTEMPTY);
	assert_list("/", "a b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        T(test_rename_files),
	        T(test_rename_dirs),
	        T(test_rename_exchange),
	        T(test_no_loop),
	        T(test_waiting_mover_is_cancelled),
	        T(test_target_directory_goes),
	        T(test_source_changes),
	        T(test_victim_fills_up),
	};

	return cmocka_run_group_tests_name("fs_rename", tests, NULL, NULL);
}
