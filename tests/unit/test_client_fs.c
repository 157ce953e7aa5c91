/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client, files: the file tree through the public API, over the fs layer and the model store,
 * driven and threaded.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "client/client.h"
#include "fs/fs.h"
#include "model_store.h"

static int make_fs(struct store **ret_store, struct loop *loop, void *arg, struct pst_err *err)
{
	struct store *below;
	int rc = model_store_new(&below, loop, arg);

	if (rc < 0)
		return rc;
	rc = fs_new(ret_store, below, NULL, err);
	if (rc < 0)
		store_close(below);
	return rc;
}

static struct model_store_opts moods[] = {
        {.later = false},
        {.later = true, .busy = 0.2, .seed = 11},
};

static void each_mood(void (*fn)(struct pst_cont *c))
{
	for (unsigned i = 0; i < 2 * ARRAY_LEN(moods); i++) {
		struct pst_client_opts opts;
		struct pst_client *client;
		struct pst_cont *cont;
		struct pst_err err;

		pst_client_opts_default(&opts, sizeof(opts));
		opts.drive = i % 2;
		assert_int_equal(client_open_over(&client, make_fs, &moods[i / 2], &opts, &err), 0);
		assert_int_equal(pst_cont_create(client, "c", NULL), 0);
		assert_int_equal(pst_cont_open(client, "c", &cont), 0);
		fn(cont);
		assert_int_equal(pst_cont_close(cont), 0);
		assert_int_equal(pst_client_close(client), 0);
	}
}

/* --- open files --- */

static void open_files(struct pst_cont *c)
{
	struct pst_attr attr;
	struct pst_file *f, *g;
	char buf[32] = "";
	uint64_t off;
	size_t len;

	assert_int_equal(pst_file_open(c, 0, "a", O_RDWR, 0, &f), -ENOENT);
	assert_int_equal(pst_file_open(c, 0, "a", O_RDWR | O_DIRECTORY, 0, &f), -EINVAL);
	assert_int_equal(pst_file_open(c, 0, "a", O_RDONLY | O_TRUNC, 0, &f), -EINVAL);
	assert_int_equal(pst_file_open(c, 0, "", O_RDONLY, 0, &f), -EISDIR);
	assert_int_equal(pst_file_open(c, 0, "a", O_RDWR | O_CREAT | O_EXCL, 0640, &f), 0);
	assert_int_equal(pst_file_open(c, 0, "a", O_RDWR | O_CREAT | O_EXCL, 0640, &g), -EEXIST);
	assert_int_equal(pst_file_pwrite(f, "hello", 5, 0, PST_F_VOLATILE), 0);
	assert_int_equal(pst_file_append(f, " world", 6, 0, &off), 0);
	assert_int_equal(off, 5);
	assert_int_equal(pst_file_sync(f), 0);
	assert_int_equal(pst_file_stat(f, &attr), 0);
	assert_int_equal(attr.size_bytes, 11);
	assert_int_equal(attr.mode, S_IFREG | 0640);
	assert_int_equal(attr.ino, pst_file_ino(f));
	assert_int_equal(pst_file_open(c, 0, "a", O_RDONLY | O_CREAT, 0777, &g), 0);
	assert_int_equal(pst_file_pread(g, buf, sizeof(buf), 6, &len), 0);
	assert_int_equal(len, 5);
	assert_memory_equal(buf, "world", 5);
	assert_int_equal(pst_file_pwrite(g, "x", 1, 0, 0), -EBADF);
	assert_int_equal(pst_file_truncate(g, 0), -EBADF);
	/* Without a name it lives on until it is closed. */
	assert_int_equal(pst_fs_unlink(c, 0, "a", 0), 0);
	assert_int_equal(pst_file_pread(g, buf, 5, 0, &len), 0);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(pst_cont_close(c), -EBUSY);
	assert_int_equal(pst_file_close(g), 0);
	assert_int_equal(pst_file_truncate(f, 2), 0);
	assert_int_equal(pst_file_close(f), 0);
	assert_int_equal(pst_file_close(NULL), 0);
	assert_int_equal(pst_fs_stat(c, 0, "a", 0, &attr), -ENOENT);
}

static void test_open_files(void **state)
{
	each_mood(open_files);
}

static void open_flags(struct pst_cont *c)
{
	struct pst_attr attr;
	struct pst_file *f;
	uint64_t off;

	assert_int_equal(pst_fs_create(c, 0, "f", NULL, 0, "0123456789", 10, 0, NULL), 0);
	assert_int_equal(pst_fs_symlink(c, 0, "l", "f", NULL, 0, 0, NULL), 0);
	assert_int_equal(pst_file_open(c, 0, "l", O_RDONLY | O_NOFOLLOW, 0, &f), -ELOOP);
	assert_int_equal(pst_file_open(c, 0, "l", O_WRONLY | O_APPEND, 0, &f), 0);
	assert_int_equal(pst_file_pwrite(f, "ab", 2, 0, 0), 0); /* at the end nevertheless */
	assert_int_equal(pst_file_append(f, "c", 1, 0, &off), 0);
	assert_int_equal(off, 12);
	assert_int_equal(pst_file_close(f), 0);
	assert_int_equal(pst_file_open(c, 0, "f", O_RDWR | O_TRUNC, 0, &f), 0);
	assert_int_equal(pst_file_stat(f, &attr), 0);
	assert_int_equal(attr.size_bytes, 0);
	assert_int_equal(pst_file_close(f), 0);
	assert_int_equal(pst_fs_mkdir(c, 0, "d", NULL, 0, 0, NULL), 0);
	assert_int_equal(pst_file_open(c, 0, "d", O_RDONLY, 0, &f), -EISDIR);
	attr = (struct pst_attr){.mode = S_IFIFO | 0600};
	assert_int_equal(pst_fs_create(c, 0, "p", &attr, PST_ATTR_MODE, NULL, 0, 0, NULL), 0);
	assert_int_equal(pst_file_open(c, 0, "p", O_RDONLY, 0, &f), -EINVAL);
}

static void test_open_flags(void **state)
{
	each_mood(open_flags);
}

/* --- the tree --- */

static bool collect(void *arg, const struct pst_dirent *e)
{
	char *names = arg;

	assert_int_equal(strlen(e->name), e->name_len);
	assert_non_null(e->attr);
	assert_int_equal(e->type, IFTODT(e->attr->mode));
	strcat(strcat(names, e->name), " ");
	return true;
}

static bool count_names(void *arg, const struct pst_dirent *e)
{
	unsigned *n = arg;
	char want[16];

	snprintf(want, sizeof(want), "f%05u", *n);
	assert_string_equal(e->name, want);
	assert_null(e->attr);
	return ++*n % 777 != 0;
}

static void tree(struct pst_cont *c)
{
	struct pst_attr dir, attr, want = {.mode = 0700, .uid = 5, .gid = 6, .mtime_ns = 77};
	char names[256] = "", target[PST_PATH_MAX];
	uint32_t len;

	assert_int_equal(pst_fs_mkdir(c, 0, "d", &want, PST_ATTR_MODE | PST_ATTR_UID | PST_ATTR_GID,
	                              0, &dir),
	                 0);
	assert_int_equal(dir.mode, S_IFDIR | 0700);
	assert_int_equal(dir.uid, 5);
	assert_int_equal(pst_fs_mkdir(c, 0, "d", NULL, 0, 0, NULL), -EEXIST);
	assert_int_equal(pst_fs_mkdir(c, 0, "", NULL, 0, 0, NULL), -ENOENT);
	assert_int_equal(pst_fs_create(c, dir.ino, "f", NULL, 0, "xyz", 3, 0, &attr), 0);
	assert_int_equal(attr.size_bytes, 3);
	assert_int_equal(pst_fs_create(c, 0, "d/f", NULL, 0, NULL, 0, PST_F_EXCL, NULL), -EEXIST);
	assert_int_equal(pst_fs_create(c, 0, "d/f", NULL, 0, "longer", 6, PST_F_TRUNCATE, &attr),
	                 0);
	assert_int_equal(attr.size_bytes, 6);
	assert_int_equal(pst_fs_link(c, 0, "d/f", dir.ino, "g", 0), 0);
	assert_int_equal(pst_fs_symlink(c, dir.ino, "s", "f", NULL, 0, 0, NULL), 0);
	assert_int_equal(pst_fs_readlink(c, 0, "d/s", target, sizeof(target), &len), 0);
	assert_int_equal(len, 1);
	assert_int_equal(pst_fs_readlink(c, 0, "d/f", target, sizeof(target), &len), -EINVAL);
	assert_int_equal(pst_fs_stat(c, 0, "d/s", 0, &attr), 0);
	assert_int_equal(attr.nlink, 2);
	assert_int_equal(pst_fs_stat(c, 0, "d/s", PST_F_NOFOLLOW, &attr), 0);
	assert_true(S_ISLNK(attr.mode));
	assert_int_equal(pst_fs_list(c, dir.ino, NULL, NULL, true, collect, names), 0);
	assert_string_equal(names, "f g s ");
	names[0] = 0;
	assert_int_equal(pst_fs_list(c, 0, "d", "f", true, collect, names), 0);
	assert_string_equal(names, "g s ");
	assert_int_equal(pst_fs_rename(c, 0, "d/g", 0, "top", 0), 0);
	assert_int_equal(pst_fs_rename(c, 0, "d/f", 0, "top", PST_F_EXCL), -EEXIST);
	assert_int_equal(pst_fs_rename(c, 0, "d/s", 0, "top", PST_F_EXCHANGE), 0);
	assert_int_equal(pst_fs_rename(c, 0, "d", 0, "d/in", 0), -EINVAL);
	assert_int_equal(pst_fs_rmdir(c, 0, "d", 0), -ENOTEMPTY);
	assert_int_equal(pst_fs_unlink(c, 0, "d", 0), -EISDIR);
	want = (struct pst_attr){.mtime_ns = 123, .mode = 04711, .size_bytes = 2};
	assert_int_equal(pst_fs_setattr(c, 0, "d/f", &want,
	                                PST_ATTR_MTIME | PST_ATTR_MODE | PST_ATTR_SIZE, 0),
	                 0);
	assert_int_equal(pst_fs_setattr(c, 0, "d/f", &want, 1u << 12, 0), -EINVAL);
	assert_int_equal(pst_fs_stat(c, 0, "/d/../d/./f", 0, &attr), 0);
	assert_int_equal(attr.mtime_ns, 123);
	assert_int_equal(attr.mode, S_IFREG | 04711);
	assert_int_equal(attr.size_bytes, 2);
	assert_int_equal(pst_fs_unlink(c, 0, "d/f", 0), 0);
	assert_int_equal(pst_fs_unlink(c, 0, "d/s", 0), 0);
	assert_int_equal(pst_fs_rmdir(c, 0, "d", 0), 0);
}

static void test_tree(void **state)
{
	each_mood(tree);
}

/* A directory that takes many pages, and a caller that stops and goes on. */
static void large_directory(struct pst_cont *c)
{
	struct pst_attr dir;
	char name[16];
	unsigned n = 0;

	assert_int_equal(pst_fs_mkdir(c, 0, "d", NULL, 0, 0, &dir), 0);
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "f%05u", i);
		assert_int_equal(
		        pst_fs_create(c, dir.ino, name, NULL, 0, NULL, 0, PST_F_VOLATILE, NULL), 0);
	}
	while (n < 2000) {
		snprintf(name, sizeof(name), "f%05u", n - 1);
		assert_int_equal(
		        pst_fs_list(c, dir.ino, "", n ? name : NULL, false, count_names, &n), 0);
	}
	assert_int_equal(n, 2000);
}

static void test_large_directory(void **state)
{
	each_mood(large_directory);
}

/* --- files without a name --- */

static void nameless(struct pst_cont *c)
{
	struct pst_attr attr, found;
	char buf[8];
	size_t len;

	assert_int_equal(pst_fs_create(c, 0, NULL, NULL, 0, "abc", 3, PST_F_VOLATILE, &attr), 0);
	assert_int_equal(attr.nlink, 0);
	assert_int_equal(pst_fs_create(c, 0, "old", NULL, 0, "old", 3, 0, NULL), 0);
	assert_int_equal(pst_fs_link(c, attr.ino, NULL, 0, "old", 0), -EEXIST);
	assert_int_equal(pst_fs_link(c, attr.ino, NULL, 0, "old", PST_F_REPLACE), 0);
	assert_int_equal(pst_fs_release(c, attr.ino), 0);
	assert_int_equal(pst_fs_read(c, 0, "old", buf, sizeof(buf), 0, 0, &len), 0);
	assert_int_equal(len, 3);
	assert_memory_equal(buf, "abc", 3);
	assert_int_equal(pst_fs_stat(c, 0, "old", 0, &found), 0);
	assert_int_equal(found.ino, attr.ino);
	assert_int_equal(found.nlink, 1);
	/* Released without a name it is gone. */
	assert_int_equal(pst_fs_create(c, 0, "", NULL, 0, "abc", 3, 0, &attr), 0);
	assert_int_equal(pst_fs_release(c, attr.ino), 0);
	assert_true(pst_fs_stat(c, attr.ino, NULL, 0, &found) < 0);
}

static void test_nameless(void **state)
{
	each_mood(nameless);
}

/* --- extended attributes, holes --- */

static bool collect_xattr(void *arg, const char *name)
{
	strcat(strcat(arg, name), " ");
	return true;
}

static void xattrs(struct pst_cont *c)
{
	static char big[PST_VALUE_MAX + 1];
	char names[64] = "", val[8];
	uint32_t len;

	assert_int_equal(pst_fs_create(c, 0, "f", NULL, 0, NULL, 0, 0, NULL), 0);
	assert_int_equal(pst_fs_getxattr(c, 0, "f", "user.a", val, 8, 0, &len), -ENODATA);
	assert_int_equal(pst_fs_setxattr(c, 0, "f", "user.a", "12345", 5, PST_F_REPLACE), -ENODATA);
	assert_int_equal(pst_fs_setxattr(c, 0, "f", "user.a", "12345", 5, PST_F_EXCL), 0);
	assert_int_equal(pst_fs_setxattr(c, 0, "f", "user.a", "1", 1, PST_F_EXCL), -EEXIST);
	assert_int_equal(pst_fs_setxattr(c, 0, "f", "user.b", "", 0, 0), 0);
	assert_int_equal(pst_fs_setxattr(c, 0, "f", "", "", 0, 0), -EINVAL);
	assert_int_equal(pst_fs_setxattr(c, 0, "f", "user.c", big, sizeof(big), 0), -E2BIG);
	assert_int_equal(pst_fs_getxattr(c, 0, "f", "user.a", val, 8, 0, &len), 0);
	assert_int_equal(len, 5);
	assert_memory_equal(val, "12345", 5);
	assert_int_equal(pst_fs_getxattr(c, 0, "f", "user.a", val, 4, 0, &len), -ERANGE);
	assert_int_equal(pst_fs_listxattr(c, 0, "f", 0, collect_xattr, names), 0);
	assert_string_equal(names, "user.a user.b ");
	assert_int_equal(pst_fs_removexattr(c, 0, "f", "user.a", 0), 0);
	assert_int_equal(pst_fs_removexattr(c, 0, "f", "user.a", 0), -ENODATA);
}

static void test_xattrs(void **state)
{
	each_mood(xattrs);
}

static void holes(struct pst_cont *c)
{
	struct pst_attr attr, size = {.size_bytes = 1 << 20};
	uint64_t off, len;
	struct pst_file *f;

	assert_int_equal(pst_fs_create(c, 0, "f", &size, PST_ATTR_SIZE, "x", 1, 0, &attr), 0);
	assert_int_equal(attr.size_bytes, 1 << 20);
	assert_int_equal(pst_file_open(c, 0, "f", O_RDWR, 0, &f), 0);
	assert_int_equal(pst_file_pwrite(f, "y", 1, 500000, 0), 0);
	assert_int_equal(pst_fs_next_data(c, attr.ino, NULL, 4096, &off, &len), 0);
	assert_true(off <= 500000 && off + len > 500000 && off > 4096);
	assert_int_equal(pst_fs_next_data(c, 0, "f", off + len, &off, &len), -ENXIO);
	assert_int_equal(pst_file_close(f), 0);
}

static void test_holes(void **state)
{
	each_mood(holes);
}

/* --- asynchronous: many files at once --- */

static void many_at_once(struct pst_cont *c)
{
	struct pst_attr attr = {.mode = S_IFREG | 0600, .mtime_ns = 42}, found[16];
	char names[100][8];
	struct pst_event e[16];
	struct pst_cq *cq;
	unsigned sent = 0, got = 0;

	assert_int_equal(pst_cq_new(&cq, pst_cont_client(c), 16), 0);
	for (unsigned i = 0; i < 100; i++)
		snprintf(names[i], sizeof(names[i]), "n%u", i);
	while (got < 100) {
		while (sent < 100 &&
		       pst_fs_create_async(c, 0, names[sent], &attr, PST_ATTR_MODE | PST_ATTR_MTIME,
		                           names[sent], strlen(names[sent]), PST_F_EXCL,
		                           &found[sent % 16], cq, names[sent]) == 0)
			sent++;
		int n = pst_cq_poll(cq, e, 16, UINT64_MAX);

		for (int i = 0; i < n; i++) {
			assert_int_equal(e[i].status, 0);
			assert_true(e[i].off > PST_INO_ROOT);
		}
		got += (unsigned)n;
	}
	assert_int_equal(pst_cq_free(cq), 0);
	for (unsigned i = 0; i < 100; i++) {
		char buf[8];
		size_t len;

		assert_int_equal(pst_fs_read(c, 0, names[i], buf, 8, 0, 0, &len), 0);
		assert_int_equal(len, strlen(names[i]));
		assert_memory_equal(buf, names[i], len);
	}
}

static void test_many_at_once(void **state)
{
	each_mood(many_at_once);
}

/* Snapshots refuse every change, at once. */
static void snapshot_is_read_only(struct pst_cont *c)
{
	struct pst_client *client = pst_cont_client(c);
	struct pst_cont *s;
	struct pst_file *f;

	assert_int_equal(pst_fs_create(c, 0, "f", NULL, 0, "1", 1, 0, NULL), 0);
	assert_int_equal(pst_snap_create(client, "c", "s", NULL), 0);
	assert_int_equal(pst_cont_open(client, "c@s", &s), 0);
	assert_int_equal(pst_fs_create(s, 0, "g", NULL, 0, NULL, 0, 0, NULL), -EROFS);
	assert_int_equal(pst_fs_unlink(s, 0, "f", 0), -EROFS);
	assert_int_equal(pst_file_open(s, 0, "f", O_RDWR, 0, &f), -EROFS);
	assert_int_equal(pst_file_open(s, 0, "f", O_RDONLY, 0, &f), 0);
	assert_int_equal(pst_file_close(f), 0);
	assert_int_equal(pst_cont_close(s), 0);
}

static void test_snapshot_is_read_only(void **state)
{
	each_mood(snapshot_is_read_only);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_open_files),
	        cmocka_unit_test(test_open_flags),
	        cmocka_unit_test(test_tree),
	        cmocka_unit_test(test_large_directory),
	        cmocka_unit_test(test_nameless),
	        cmocka_unit_test(test_xattrs),
	        cmocka_unit_test(test_holes),
	        cmocka_unit_test(test_many_at_once),
	        cmocka_unit_test(test_snapshot_is_read_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
