/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostfile, names: a link that takes another file's place leaves nothing beside it, and touches nothing that is
 * not its own.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

#include "cli/hostfile.h"

static char dir[128];
static bool stranger; /* somebody makes a file of a name as soon as it is free */
static int fail_with; /* errno of the next rename */
static char renamed[256];

/* In the place of the C library's. */
int rename(const char *from, const char *to)
{
	int fd, rc;

	(void)snprintf(renamed, sizeof(renamed), "%s", from);
	if (fail_with) {
		errno = fail_with;
		return -1;
	}
	rc = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
	if (rc == 0 && stranger) {
		fd = open(from, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		close(fd);
	}
	return rc;
}

static const char *path_of(char buf[256], const char *name)
{
	(void)snprintf(buf, 256, "%s/%s", dir, name);
	return buf;
}

static void make(const char *name, const char *text)
{
	char path[256];
	int fd = open(path_of(path, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static ino_t inode(const char *name)
{
	char path[256];
	struct stat st;

	return stat(path_of(path, name), &st) == 0 ? st.st_ino : 0;
}

static int link_over(const char *from, const char *to)
{
	char a[256], b[256];

	renamed[0] = 0;
	return host_link_over(path_of(a, from), path_of(b, to));
}

static void takes_the_place(void **state)
{
	make("a", "a");
	assert_int_equal(link_over("a", "new"), 0);
	assert_true(inode("new") == inode("a"));
	make("b", "b");
	assert_int_equal(link_over("a", "b"), 0);
	assert_true(inode("b") == inode("a"));
	assert_int_equal(access(renamed, F_OK), -1);
}

/* Two names of one file: a rename changes nothing, and takes nothing away. */
static void is_there_already(void **state)
{
	make("a", "a");
	assert_int_equal(link_over("a", "c"), 0);
	assert_int_equal(link_over("a", "c"), 0);
	assert_true(inode("c") == inode("a"));
	assert_true(renamed[0]);
	assert_int_equal(access(renamed, F_OK), -1);
}

static void fails(void **state)
{
	make("a", "a");
	make("d", "d");
	fail_with = EACCES;
	assert_int_equal(link_over("a", "d"), -EACCES);
	fail_with = 0;
	assert_true(inode("d") != inode("a"));
	assert_int_equal(access(renamed, F_OK), -1);
}

static void not_its_own(void **state)
{
	make("a", "a");
	make("e", "e");
	stranger = true;
	assert_int_equal(link_over("a", "e"), 0);
	stranger = false;
	assert_true(inode("e") == inode("a"));
	assert_int_equal(access(renamed, F_OK), 0);
	assert_int_equal(unlink(renamed), 0);
}

static int setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)snprintf(dir, sizeof(dir), "%s/pst-hostfile-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	static const char *const names[] = {"a", "b", "c", "d", "e", "new"};
	char path[256];

	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		(void)unlink(path_of(path, names[i]));
	return rmdir(dir); /* nothing else may be in it */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(takes_the_place),
	        cmocka_unit_test(is_there_already),
	        cmocka_unit_test(fails),
	        cmocka_unit_test(not_its_own),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
