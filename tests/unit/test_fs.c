/* SPDX-License-Identifier: BSD-3-Clause */
/* The names layer, op by op: what each does, and each errno that it knows. */
#include "fs_case.h"

/* --- formats --- */

static void test_label_bytes(void **state)
{
	static const uint8_t golden[FS_LABEL_BYTES] = {
	        1,    0, 0xed, 0x41, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 3, 0, 0, 0,
	        0x10, 0, 0,    0,    0,    0,    0,    0,    0x20, 0,    0,    0,    0, 0, 0, 0,
	        0x30, 0, 0,    0,    0,    0,    0,    0,    0x45, 0,    0,    0,    0, 0, 0, 0x80,
	};
	struct fs_label l = {.mode = S_IFDIR | 0755, .uid = 0x04030201, .gid = 0x08070605};
	struct fs_label back;
	uint8_t bytes[FS_LABEL_BYTES];

	l.nlink = 3;
	l.atime_ns = 0x10;
	l.ctime_ns = 0x20;
	l.btime_ns = 0x30;
	l.parent = 0x8000000000000045;
	assert_int_equal(fs_label_pack(&l, bytes), 48);
	assert_memory_equal(bytes, golden, sizeof(golden));
	ok(fs_label_unpack(&back, 5, bytes, 48));
	assert_memory_equal(&back, &l, sizeof(l));
	err(fs_label_unpack(&back, 4, bytes, 48), EBADMSG); /* a directory's label in a file */
	err(fs_label_unpack(&back, 5, bytes, 40), EBADMSG);
	err(fs_label_unpack(&back, 5, bytes, 0), EBADMSG);
	bytes[40] = 0x44; /* its parent a file */
	err(fs_label_unpack(&back, 5, bytes, 48), EBADMSG);
	bytes[40] = 0x45;
	bytes[0] = 2;
	err(fs_label_unpack(&back, 5, bytes, 48), EBADMSG);
	bytes[0] = 1;
	bytes[3] = 0xf1; /* no such type */
	err(fs_label_unpack(&back, 5, bytes, 48), EBADMSG);
	l.mode = S_IFREG | 0644;
	assert_int_equal(fs_label_pack(&l, bytes), 40);
	ok(fs_label_unpack(&back, 8, bytes, 40));
	assert_int_equal(back.parent, 0);
}

static void test_dirent_bytes(void **state)
{
	static const uint8_t golden[FS_DIRENT_BYTES] = {0x88, 0x77, 0x66, 0x55,  0x44,
	                                                0x33, 0x22, 0x11, DT_REG};
	uint8_t bytes[FS_DIRENT_BYTES], type;
	uint64_t ino;

	fs_dirent_pack(0x1122334455667788, DT_REG, bytes);
	assert_memory_equal(bytes, golden, sizeof(golden));
	ok(fs_dirent_unpack(&ino, &type, bytes, 9));
	assert_int_equal(ino, 0x1122334455667788);
	assert_int_equal(type, DT_REG);
	err(fs_dirent_unpack(&ino, &type, bytes, 8), EBADMSG);
	bytes[8] = DT_DIR;
	err(fs_dirent_unpack(&ino, &type, bytes, 9), EBADMSG);
	fs_dirent_pack(PST_INO_ROOT, DT_DIR, bytes);
	err(fs_dirent_unpack(&ino, &type, bytes, 9), EBADMSG);
	assert_int_equal(fs_oid(5).hi, 0x7073742e66732e31);
}

/* --- create, lookup, attributes --- */

static void test_root(void **state)
{
	ok(fsx_lookup(x, "/", 0));
	assert_int_equal(x->ino, PST_INO_ROOT);
	assert_int_equal(x->attr.mode, S_IFDIR | 0755);
	assert_int_equal(x->attr.nlink, 2);
	ok(fsx_lookup(x, ".", 0));
	ok(fsx_lookup(x, "../..//.", 0));
	assert_int_equal(x->ino, PST_INO_ROOT);
	ok(fsx_lookup(x, NULL, 0)); /* the directory itself */
	assert_int_equal(x->ino, PST_INO_ROOT);
	ok(fsx_getattr(x, PST_INO_ROOT));
	err(fsx_rmdir(x, "/"), EBUSY);
	err(fsx_unlink(x, "/"), EISDIR);
	err(fsx_mkdir(x, "/"), EEXIST);
	err(fsx_create(x, "/", 0), EISDIR);
	err(fsx_create(x, "/", PST_F_EXCL), EEXIST);
	err(fsx_symlink(x, "/", "t"), EEXIST);
	err(fsx_rename(x, "/", "a", 0), EBUSY);
	assert_list("/", "");
}

static void test_create(void **state)
{
	uint64_t ino, now = loop_real_now(x->loop);

	ok(fsx_create(x, "f", PST_F_EXCL));
	ino = x->ino;
	assert_int_equal(fs_ino_kind(ino), FS_KIND_FILE);
	assert_int_equal(x->attr.mode, S_IFREG | 0640);
	assert_int_equal(x->attr.uid, 10);
	assert_int_equal(x->attr.gid, 20);
	assert_int_equal(x->attr.nlink, 1);
	assert_int_equal(x->attr.size_bytes, 0);
	assert_int_equal(x->attr.mtime_ns, now);
	assert_int_equal(x->attr.ctime_ns, now);
	assert_int_equal(x->attr.btime_ns, now);
	err(fsx_create(x, "f", PST_F_EXCL), EEXIST);
	ok(fsx_create(x, "f", 0));
	assert_int_equal(x->ino, ino);
	err(fsx_create(x, "nowhere/f", 0), ENOENT);
	err(fsx_create(x, "f/g", 0), ENOTDIR);
	err(fsx_create(x, "f/", 0), ENOTDIR);
	err(fsx_create(x, "g/", 0), EISDIR);
	err(fsx_create(x, "g/", PST_F_EXCL), EISDIR);
	ok(fsx_mkdir(x, "d"));
	err(fsx_create(x, "d", 0), EISDIR);
	err(fsx_create(x, "d", PST_F_EXCL), EEXIST);
	ok(fsx_create(x, "d/g", PST_F_EXCL));
	err(fsx_create(x, "d/g", PST_F_EXCL), EEXIST);
	err(fsx_create(x, "d/.", 0), EISDIR);
	err(fsx_create(x, "d/..", 0), EISDIR);
	assert_list("/", "d f");
}

static void test_create_attrs(void **state)
{
	uint64_t now = loop_real_now(x->loop);
	struct pst_op op = fsx_op(x, PST_OP_CREATE, "dev");

	op.attr = (struct pst_attr){.mode = S_IFBLK | 0600, .rdev = 0x801, .mtime_ns = 5};
	op.attr.atime_ns = 6;
	op.attr_mask = PST_ATTR_MODE | PST_ATTR_MTIME | PST_ATTR_ATIME;
	ok(fsx_run(x, &op));
	ino_of("dev");
	assert_int_equal(x->attr.mode, S_IFBLK | 0600);
	assert_int_equal(x->attr.rdev, 0x801);
	assert_int_equal(x->attr.mtime_ns, 5);
	assert_int_equal(x->attr.atime_ns, 6);
	assert_int_equal(x->attr.ctime_ns, now);
	err(fsx_read(x, x->ino, 0, NULL, 0), EINVAL);
	err(fsx_write(x, x->ino, 0, "a", 0), EINVAL);
	op = fsx_op(x, PST_OP_CREATE, "fifo");
	op.attr.mode = S_IFIFO | 0600;
	op.attr_mask = PST_ATTR_MODE;
	ok(fsx_run(x, &op));
	op = fsx_op(x, PST_OP_CREATE, "sock");
	op.attr.mode = S_IFSOCK | 0600;
	op.attr_mask = PST_ATTR_MODE;
	ok(fsx_run(x, &op));
	for (unsigned i = 0; i < 3; i++) {
		static const uint32_t bad[] = {S_IFDIR, S_IFLNK, 0xb000};

		op = fsx_op(x, PST_OP_CREATE, "bad");
		op.attr.mode = bad[i];
		op.attr_mask = PST_ATTR_MODE;
		err(fsx_run(x, &op), EINVAL);
	}
	op = fsx_op(x, PST_OP_CREATE, "plain"); /* nothing said */
	op.attr.mode = S_IFIFO;
	ok(fsx_run(x, &op));
	assert_int_equal(x->attr.mode, S_IFREG | 0644);
	ok(fsx_unlink(x, "dev"));
}

static void test_create_content(void **state)
{
	struct pst_op op = fsx_op(x, PST_OP_CREATE, "f");
	struct iovec iov = {.iov_base = "abcdef", .iov_len = 6};
	uint64_t ino;
	char buf[16];

	ok(fsx_create_data(x, "f", "some content", 0));
	ino = x->ino;
	assert_int_equal(x->attr.size_bytes, 12);
	ok(fsx_read(x, ino, 5, buf, 16));
	assert_int_equal(x->ret_len, 7);
	assert_memory_equal(buf, "content", 7);
	/* It is there: left alone, or its content replaced as a whole, and nothing else of it. */
	ok(fsx_create_data(x, "f", "other", 0));
	assert_int_equal(x->attr.size_bytes, 12);
	op.flags = PST_F_TRUNCATE;
	op.iov = &iov;
	op.iov_count = 1;
	op.len = 6;
	op.attr.size_bytes = 10;
	op.attr.mode = S_IFREG | 0400;
	op.attr.uid = 4711;
	op.attr.gid = 4712;
	op.attr.atime_ns = op.attr.mtime_ns = 5;
	op.attr_mask = PST_ATTR_SIZE | PST_ATTR_MODE | PST_ATTR_UID | PST_ATTR_GID |
	               PST_ATTR_ATIME | PST_ATTR_MTIME;
	ok(fsx_run(x, &op));
	assert_int_equal(x->ino, ino);
	assert_int_equal(x->attr.size_bytes, 10);
	assert_int_equal(x->attr.mode, S_IFREG | 0640);
	assert_int_equal(x->attr.uid, 10);
	assert_int_equal(x->attr.gid, 20);
	assert_int_not_equal(x->attr.atime_ns, 5);
	assert_int_not_equal(x->attr.mtime_ns, 5);
	ok(fsx_read(x, ino, 0, buf, 16));
	assert_int_equal(x->ret_len, 10);
	assert_memory_equal(buf, "abcdef\0\0\0\0", 10);
	ok(fsx_create(x, "f", PST_F_TRUNCATE));
	assert_int_equal(x->attr.size_bytes, 0);
	op.len = PST_IO_MAX + 1;
	err(fsx_run(x, &op), E2BIG);
	op.len = 6;
	op.attr.size_bytes = PST_OBJECT_MAX + 1;
	err(fsx_run(x, &op), EFBIG);
	op.attr.mode = S_IFIFO;
	err(fsx_run(x, &op), EINVAL); /* a FIFO with content */
}

static void test_nameless(void **state)
{
	uint64_t before, ino;
	struct pst_op op;
	char buf[16];

	ok(fsx_create(x, "old", 0));
	before = fsx_objects(x);
	ok(fsx_create_data(x, "", "abc", 0));
	ino = x->ino;
	assert_int_equal(x->attr.nlink, 0);
	ok(fsx_read(x, ino, 0, buf, 3));
	ok(fsx_drop(x, ino));
	err(fsx_getattr(x, ino), ESTALE);
	assert_int_equal(fsx_objects(x), before);

	/* One that gets a name, and takes the place of what has it. */
	ok(fsx_create_data(x, "", "abc", 0));
	ino = x->ino;
	op = fsx_op(x, PST_OP_LINK, NULL);
	op.ino = ino;
	op.name2 = "old";
	op.name2_len = 3;
	err(fsx_run(x, &op), EEXIST);
	op.flags = PST_F_REPLACE;
	ok(fsx_run(x, &op));
	assert_int_equal(x->attr.nlink, 1);
	ok(fsx_run(x, &op)); /* by itself */
	assert_int_equal(x->attr.nlink, 1);
	ok(fsx_drop(x, ino));
	assert_int_equal(ino_of("old"), ino);
	assert_int_equal(x->attr.size_bytes, 3);
	assert_int_equal(fsx_objects(x), before);
	fsx_check(x);

	/* One that nobody holds any more. */
	ok(fsx_create(x, "", 0));
	ino = x->ino;
	fsx_restart(x);
	op = fsx_op(x, PST_OP_LINK, NULL);
	op.ino = ino;
	op.name2 = "new";
	op.name2_len = 3;
	err(fsx_run(x, &op), ESTALE);
	op = fsx_op(x, PST_OP_CREATE, "");
	op.attr.mode = S_IFIFO;
	op.attr_mask = PST_ATTR_MODE;
	err(fsx_run(x, &op), EINVAL);
	assert_int_equal(fsx_objects(x), before);
}

static void test_mkdir(void **state)
{
	ok(fsx_mkdir(x, "d"));
	assert_int_equal(x->attr.mode, S_IFDIR | 0755);
	assert_int_equal(x->attr.nlink, 2);
	assert_int_equal(fs_ino_kind(x->ino), FS_KIND_DIR);
	assert_int_equal(nlink_of("/"), 3);
	ok(fsx_mkdir(x, "d/e/"));
	ok(fsx_mkdir(x, "d/e//f///"));
	assert_int_equal(nlink_of("d"), 3);
	err(fsx_mkdir(x, "d"), EEXIST);
	err(fsx_mkdir(x, "d/."), EEXIST);
	err(fsx_mkdir(x, "d/.."), EEXIST);
	err(fsx_mkdir(x, "x/y"), ENOENT);
	ok(fsx_create(x, "file", 0));
	err(fsx_mkdir(x, "file"), EEXIST);
	err(fsx_mkdir(x, "file/y"), ENOTDIR);
	err(fsx_rmdir(x, "d"), ENOTEMPTY);
	err(fsx_rmdir(x, "d/e/f/."), EINVAL);
	err(fsx_rmdir(x, "d/e/f/.."), ENOTEMPTY);
	err(fsx_rmdir(x, "file"), ENOTDIR);
	err(fsx_rmdir(x, "none"), ENOENT);
	ok(fsx_rmdir(x, "d/e/f/"));
	assert_int_equal(nlink_of("d/e"), 2);
	ok(fsx_rmdir(x, "d/e"));
	ok(fsx_rmdir(x, "d"));
	assert_int_equal(nlink_of("/"), 2);
}

static void test_gone_directory(void **state)
{
	struct pst_op op;
	uint64_t ino;

	ok(fsx_mkdir(x, "d"));
	ino = x->ino;
	ok(fsx_hold(x, "d", 0));
	ok(fsx_rmdir(x, "d"));
	for (unsigned i = 0; i < 6; i++) {
		static const uint8_t opcodes[] = {PST_OP_CREATE,  PST_OP_MKDIR, PST_OP_LOOKUP,
		                                  PST_OP_READDIR, PST_OP_RMDIR, PST_OP_SETATTR};

		op = fsx_op(x, opcodes[i], i == 3 ? NULL : "name");
		op.dir = ino;
		op.entry = (bool (*)(struct pst_op *, const struct pst_entry *))abort;
		err(fsx_run(x, &op), i == 3 ? ESTALE : ENOENT);
	}
	op = fsx_op(x, PST_OP_LOOKUP, ".");
	op.dir = ino;
	err(fsx_run(x, &op), ESTALE);
	op = fsx_op(x, PST_OP_LOOKUP, "..");
	op.dir = ino;
	err(fsx_run(x, &op), ENOENT);
	ok(fsx_drop(x, ino));
}

/* --- paths --- */

static void test_paths(void **state)
{
	char path[PST_PATH_MAX + 2];
	struct pst_op op;

	ok(fsx_mkdir(x, "a"));
	ok(fsx_mkdir(x, "a/b"));
	ok(fsx_create(x, "a/b/f", 0));
	assert_int_equal(ino_of("a/b/f"), ino_of("//a/./b/../b//f"));
	assert_int_equal(ino_of("a/b/../../a/b/.."), ino_of("a"));
	assert_int_equal(ino_of("a/b/"), ino_of("a/b"));
	err(fsx_lookup(x, "a/b/f/", 0), ENOTDIR);
	err(fsx_lookup(x, "a/b/f/.", 0), ENOTDIR);
	err(fsx_lookup(x, "a/b/f/..", 0), ENOTDIR);
	err(fsx_lookup(x, "a/x/..", 0), ENOENT);
	op = fsx_op(x, PST_OP_LOOKUP, "b/f");
	op.dir = ino_of("a");
	ok(fsx_run(x, &op));
	op.name = "/a"; /* from the root, whatever dir says */
	op.name_len = 2;
	op.ino = 0;
	ok(fsx_run(x, &op));
	op.ino = 0;
	op.dir = ino_of("a/b/f");
	op.name = "g";
	op.name_len = 1;
	err(fsx_run(x, &op), ENOTDIR);
	op.dir = 0;
	op.name = "a\0b";
	op.name_len = 3;
	err(fsx_run(x, &op), EINVAL);
	memset(path, 'n', sizeof(path));
	path[255] = 0;
	ok(fsx_create(x, path, 0));
	ok(fsx_lookup(x, path, 0));
	path[255] = 'n';
	path[256] = 0;
	err(fsx_create(x, path, 0), ENAMETOOLONG);
	err(fsx_lookup(x, path, 0), ENAMETOOLONG);
	memset(path, '/', sizeof(path));
	path[PST_PATH_MAX] = 0;
	ok(fsx_lookup(x, path, 0));
	path[PST_PATH_MAX] = '/';
	path[PST_PATH_MAX + 1] = 0;
	err(fsx_lookup(x, path, 0), ENAMETOOLONG);
	err(fsx_mkdir(x, ""), ENOENT);
}

static void test_symlinks(void **state)
{
	char buf[PST_PATH_MAX + 1], target[PST_PATH_MAX + 1];

	ok(fsx_mkdir(x, "d"));
	ok(fsx_mkdir(x, "d/e"));
	ok(fsx_create_data(x, "d/f", "abc", 0));
	ok(fsx_symlink(x, "l", "d/f"));
	assert_int_equal(x->attr.mode, S_IFLNK | 0777);
	assert_int_equal(x->attr.size_bytes, 3);
	ok(fsx_readlink(x, "l", buf, sizeof(buf)));
	assert_string_equal(buf, "d/f");
	err(fsx_readlink(x, "l", buf, 2), ERANGE);
	err(fsx_readlink(x, "d/f", buf, 10), EINVAL);
	err(fsx_readlink(x, "d", buf, 10), EINVAL);
	err(fsx_readlink(x, "none", buf, 10), ENOENT);
	ok(fsx_lookup(x, "l", 0));
	assert_int_equal(x->ino, ino_of("d/f"));
	ok(fsx_lookup(x, "l", PST_F_NOFOLLOW));
	assert_int_equal(x->attr.mode & S_IFMT, S_IFLNK);
	err(fsx_lookup(x, "l/", PST_F_NOFOLLOW), ENOTDIR);
	err(fsx_read(x, ino_of("l"), 0, buf, 3), EINVAL);
	/* In the middle, absolute, relative, with "..", one after the other. */
	ok(fsx_symlink(x, "d/up", "../d/e/.."));
	ok(fsx_symlink(x, "abs", "/d/up/up/"));
	assert_int_equal(ino_of("abs/up/e"), ino_of("d/e"));
	assert_int_equal(ino_of("abs/"), ino_of("d"));
	/* Creating through one; not with EXCL, not with NOFOLLOW. */
	ok(fsx_symlink(x, "new", "d/new"));
	err(fsx_lookup(x, "new", 0), ENOENT);
	err(fsx_create(x, "new", PST_F_EXCL), EEXIST);
	err(fsx_create(x, "new", PST_F_NOFOLLOW), ELOOP);
	ok(fsx_create(x, "new", 0));
	assert_list("d", "e f new up");
	err(fsx_mkdir(x, "l"), EEXIST);
	/* Loops. */
	ok(fsx_symlink(x, "loop", "loop"));
	err(fsx_lookup(x, "loop", 0), ELOOP);
	ok(fsx_lookup(x, "loop", PST_F_NOFOLLOW));
	err(fsx_create(x, "loop/x", 0), ELOOP);
	for (unsigned i = 0; i <= PST_SYMLINKS_MAX; i++) {
		snprintf(buf, sizeof(buf), "c%u", i);
		snprintf(target, sizeof(target), i ? "c%u" : "d", i - 1);
		ok(fsx_symlink(x, buf, target));
	}
	ok(fsx_lookup(x, "c39", 0));
	err(fsx_lookup(x, "c40", 0), ELOOP);
	/* Lengths. */
	err(fsx_symlink(x, "t", ""), EINVAL);
	memset(target, '/', sizeof(target));
	target[PST_PATH_MAX] = 0;
	err(fsx_symlink(x, "t", target), ENAMETOOLONG);
	target[PST_PATH_MAX - 1] = 0;
	ok(fsx_symlink(x, "t", target));
	assert_int_equal(x->attr.size_bytes, PST_PATH_MAX - 1);
	assert_int_equal(ino_of("t/"), PST_INO_ROOT);
	err(fsx_lookup(x, "t/d", 0), ENAMETOOLONG);
	err(fsx_symlink(x, "l", "x"), EEXIST);
	err(fsx_symlink(x, "nowhere/", "x"), ENOENT);
	ok(fsx_unlink(x, "l"));
	ok(fsx_lookup(x, "d/f", 0));
	err(fsx_rmdir(x, "abs"), ENOTDIR);
	err(fsx_unlink(x, "t/"), ENOTDIR);
}

/* --- link, unlink --- */

static void test_link(void **state)
{
	uint64_t ino;

	ok(fsx_create(x, "f", 0));
	ino = x->ino;
	ok(fsx_mkdir(x, "d"));
	ok(fsx_link(x, "f", "d/g", 0));
	assert_int_equal(x->ino, ino);
	assert_int_equal(x->attr.nlink, 2);
	err(fsx_link(x, "f", "d/g", 0), EEXIST);
	err(fsx_link(x, "f", "d", 0), EEXIST);
	err(fsx_link(x, "f", "d/.", 0), EEXIST);
	err(fsx_link(x, "f", "h/", 0), ENOENT);
	err(fsx_link(x, "f", "nowhere/h", 0), ENOENT);
	err(fsx_link(x, "f/", "h", 0), ENOTDIR);
	err(fsx_link(x, "none", "h", 0), ENOENT);
	err(fsx_link(x, "d", "h", 0), EPERM);
	err(fsx_link(x, "f", "d", PST_F_REPLACE), EISDIR);
	ok(fsx_symlink(x, "s", "f"));
	ok(fsx_link(x, "s", "s2", 0)); /* the link itself */
	assert_int_equal(x->attr.mode & S_IFMT, S_IFLNK);
	ok(fsx_create(x, "victim", 0));
	ok(fsx_link(x, "f", "victim", PST_F_REPLACE));
	assert_int_equal(x->attr.nlink, 3);
	ok(fsx_link(x, "f", "new", PST_F_REPLACE));
	ok(fsx_unlink(x, "new"));
	assert_int_equal(x->attr.nlink, 3);
	ok(fsx_unlink(x, "victim"));
	ok(fsx_unlink(x, "f"));
	assert_int_equal(x->attr.nlink, 1);
	assert_int_equal(ino_of("d/g"), ino);
	ok(fsx_unlink(x, "d/g"));
	assert_int_equal(x->attr.nlink, 0);
	err(fsx_getattr(x, ino), ESTALE);
}

static void test_link_max(void **state)
{
	const struct fs_opts opts = {.link_max = 3};

	fsx_close(x);
	fsx_open(x, &opts, NULL, 0);
	ok(fsx_create(x, "f", 0));
	ok(fsx_link(x, "f", "g", 0));
	ok(fsx_link(x, "f", "h", 0));
	err(fsx_link(x, "f", "i", 0), EMLINK);
	ok(fsx_unlink(x, "f"));
	ok(fsx_link(x, "g", "i", 0));
}

static void test_unlink(void **state)
{
	uint64_t objects, ino;

	ok(fsx_mkdir(x, "d"));
	objects = fsx_objects(x);
	err(fsx_unlink(x, "f"), ENOENT);
	err(fsx_unlink(x, "d"), EISDIR);
	err(fsx_unlink(x, "d/."), EISDIR);
	err(fsx_unlink(x, "d/.."), EISDIR);
	ok(fsx_create(x, "f", 0));
	ino = x->ino;
	err(fsx_unlink(x, "f/"), ENOTDIR);
	err(fsx_unlink(x, "f/g"), ENOTDIR);
	ok(fsx_unlink(x, "f"));
	err(fsx_getattr(x, ino), ESTALE);
	err(fsx_write(x, ino, 0, "a", 0), ESTALE);
	err(fsx_write(x, ino, 0, "a", PST_F_APPEND), ESTALE);
	assert_int_equal(fsx_objects(x), objects);
}

static void test_orphans(void **state)
{
	uint64_t objects, ino;
	char buf[8];

	ok(fsx_create(x, "keep", 0));
	objects = fsx_objects(x);
	ok(fsx_create_data(x, "f", "abc", 0));
	ino = x->ino;
	ok(fsx_hold(x, "f", 0));
	assert_int_equal(x->ino, ino);
	ok(fsx_hold(x, NULL, ino));
	ok(fsx_unlink(x, "f"));
	assert_int_equal(x->attr.nlink, 0);
	err(fsx_lookup(x, "f", 0), ENOENT);
	ok(fsx_getattr(x, ino));
	assert_int_equal(x->attr.nlink, 0);
	ok(fsx_read(x, ino, 0, buf, 3));
	ok(fsx_write(x, ino, 3, "d", 0));
	fsx_check(x); /* it is on the list */
	ok(fsx_hold(x, NULL, ino));
	ok(fsx_drop(x, ino));
	ok(fsx_drop(x, ino));
	ok(fsx_read(x, ino, 0, buf, 4));
	assert_memory_equal(buf, "abcd", 4);
	ok(fsx_drop(x, ino));
	err(fsx_drop(x, ino), EBADF);
	err(fsx_getattr(x, ino), ESTALE);
	err(fsx_hold(x, NULL, ino), ESTALE);
	assert_int_equal(fsx_objects(x), objects);
	err(fsx_hold(x, "none", 0), ENOENT);
	/* Held, and replaced by rename. */
	ok(fsx_create(x, "f", 0));
	ino = x->ino;
	ok(fsx_hold(x, "f", 0));
	ok(fsx_rename(x, "keep", "f", 0));
	ok(fsx_getattr(x, ino));
	ok(fsx_drop(x, ino));
	err(fsx_getattr(x, ino), ESTALE);
	assert_int_equal(fsx_objects(x), objects);
}

static void test_orphans_after_restart(void **state)
{
	uint64_t ino[30];
	char name[8];

	ok(fsx_create(x, "keep", 0));
	for (unsigned i = 0; i < 30; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		ok(fsx_create(x, name, 0));
		ino[i] = x->ino;
		ok(fsx_hold(x, name, 0));
		ok(fsx_unlink(x, name));
	}
	assert_int_equal(fsx_objects(x), 33);
	fsx_restart(x);
	ok(fsx_lookup(x, "keep", 0)); /* the first use */
	assert_int_equal(fsx_objects(x), 3);
	for (unsigned i = 0; i < 30; i++)
		err(fsx_getattr(x, ino[i]), ESTALE);
	/* Numbers are not given out again. */
	ok(fsx_create(x, "new", 0));
	assert_true(x->ino > ino[29]);
}

/* Where the list can't be worked off, reading goes on, and what changes something fails. */
static void test_orphans_that_stay(void **state)
{
	ok(fsx_create(x, "f", 0));
	ok(fsx_hold(x, "f", 0));
	ok(fsx_unlink(x, "f"));
	fsx_restart(x);
	x->shim.fail_at = 1;
	x->shim.fail_batches_only = true;
	x->shim.fail_status = -EIO;
	ok(fsx_lookup(x, "/", 0));
	assert_int_equal(x->shim.fail_at, 0);
	ok(fsx_lookup(x, "/", 0)); /* doesn't try each time */
	assert_int_equal(fsx_objects(x), 3);
	x->shim.fail_at = 1;
	err(fsx_create(x, "g", 0), EIO);
	ok(fsx_create(x, "g", 0));
	assert_int_equal(fsx_objects(x), 3);
}

static void test_open_max(void **state)
{
	const struct fs_opts opts = {.open_max = 2};
	uint64_t ino[3];

	fsx_close(x);
	fsx_open(x, &opts, NULL, 0);
	for (unsigned i = 0; i < 3; i++) {
		char name[] = {(char)('a' + i), 0};

		ok(fsx_create(x, name, 0));
		ino[i] = x->ino;
	}
	ok(fsx_hold(x, "a", 0));
	ok(fsx_hold(x, "b", 0));
	ok(fsx_hold(x, "b", 0));
	err(fsx_hold(x, "c", 0), ENFILE);
	ok(fsx_drop(x, ino[0]));
	ok(fsx_hold(x, "c", 0));
	err(fsx_create(x, "", 0), ENFILE);
	assert_int_equal(fsx_objects(x), 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_label_bytes),
	        cmocka_unit_test(test_dirent_bytes),
	        T(test_root),
	        T(test_create),
	        T(test_create_attrs),
	        T(test_create_content),
	        T(test_nameless),
	        T(test_mkdir),
	        T(test_gone_directory),
	        T(test_paths),
	        T(test_symlinks),
	        T(test_link),
	        T(test_link_max),
	        T(test_unlink),
	        P(test_unlink),
	        T(test_orphans),
	        P(test_orphans),
	        T(test_orphans_after_restart),
	        T(test_orphans_that_stay),
	        T(test_open_max),
	};

	return cmocka_run_group_tests_name("fs", tests, NULL, NULL);
}
