/* SPDX-License-Identifier: BSD-3-Clause */
/* The names layer: data, attributes, lists, snapshots, replay, and what passes through. */
#include "fs_case.h"

/* --- data --- */

static void test_data(void **state)
{
	char buf[64];
	uint64_t ino;

	ok(fsx_create(x, "f", 0));
	ino = x->ino;
	ok(fsx_mkdir(x, "d"));
	err(fsx_read(x, x->ino, 0, buf, 1), EISDIR);
	err(fsx_write(x, x->ino, 0, "a", 0), EISDIR);
	err(fsx_write(x, x->ino, 0, "a", PST_F_APPEND), EISDIR);
	ok(fsx_write(x, ino, 3, "abc", 0));
	assert_int_equal(x->ret_len, 3);
	ok(fsx_write(x, ino, 0, "def", PST_F_APPEND));
	assert_int_equal(x->ret_off, 6);
	assert_int_equal(x->ret_len, 3);
	ok(fsx_read(x, ino, 0, buf, sizeof(buf)));
	assert_int_equal(x->ret_len, 9);
	assert_memory_equal(buf, "\0\0\0abcdef", 9);
	ok(fsx_read(x, ino, 100, buf, sizeof(buf)));
	assert_int_equal(x->ret_len, 0);
	ok(fsx_write(x, ino, 0, "x", PST_F_VOLATILE));
}

static void test_data_by_path(void **state)
{
	struct iovec iov[2] = {{.iov_base = "ab", .iov_len = 2}, {.iov_base = "cd", .iov_len = 2}};
	struct pst_op op;
	char buf[8];

	ok(fsx_create(x, "f", 0));
	ok(fsx_symlink(x, "l", "f"));
	op = fsx_op(x, PST_OP_FILE_WRITE, "l");
	op.len = 4;
	op.iov = iov;
	op.iov_count = 2;
	ok(fsx_run(x, &op));
	op = fsx_op(x, PST_OP_FILE_READ, "f");
	iov[0] = (struct iovec){.iov_base = buf, .iov_len = 3};
	op.off = 1;
	op.len = 3;
	op.iov = iov;
	op.iov_count = 1;
	ok(fsx_run(x, &op));
	assert_memory_equal(buf, "bcd", 3);
	op.name = "none";
	op.name_len = 4;
	err(fsx_run(x, &op), ENOENT);
	op.name = "/";
	op.name_len = 1;
	err(fsx_run(x, &op), EISDIR);
	op = fsx_op(x, PST_OP_FILE_WRITE, "f");
	op.len = PST_IO_MAX + 1;
	err(fsx_run(x, &op), E2BIG);
	op = fsx_op(x, PST_OP_EXTENTS, "none");
	err(fsx_run(x, &op), ENOENT);
	op = fsx_op(x, PST_OP_EXTENTS, "/");
	err(fsx_run(x, &op), EISDIR);
}

static void assert_extent(uint64_t ino, const char *path, uint64_t off, uint64_t len)
{
	struct pst_op op = fsx_op(x, PST_OP_EXTENTS, path);

	op.ino = ino;
	op.len = PST_OBJECT_MAX;
	ok(fsx_run(x, &op));
	assert_int_equal(op.ret_off, off);
	assert_int_equal(op.ret_len, len);
	op.off = off + len;
	err(fsx_run(x, &op), ENXIO);
}

static void test_extents(void **state)
{
	uint64_t ino;

	ok(fsx_mkdir(x, "d"));
	ok(fsx_create(x, "d/f", 0));
	ino = x->ino;
	ok(fsx_write(x, ino, 5 * MODEL_BLOCK, "abc", 0));
	assert_extent(0, "d/f", 5 * MODEL_BLOCK, 3);
	assert_extent(ino, NULL, 5 * MODEL_BLOCK, 3);
}

/* What a test that holds a READ or WRITE below sees of it. */
static const struct pst_op *seen;

static bool hold_data(const struct pst_op *op)
{
	seen = op;
	return op->opcode == PST_OP_READ || op->opcode == PST_OP_WRITE;
}

static void test_data_passes_down(void **state)
{
	struct iovec iov = {.iov_base = "a", .iov_len = 1};
	struct pst_op op = fsx_op(x, PST_OP_FILE_WRITE, NULL);
	int status;

	ok(fsx_create(x, "f", 0));
	op.ino = x->ino;
	op.len = 1;
	op.iov = &iov;
	op.iov_count = 1;
	x->shim.hold = hold_data;
	assert_int_equal(fsx_start(x, &op, &status), PST_QUEUED);
	assert_ptr_equal(seen, &op); /* the op itself, no copy */
	assert_int_equal(op.opcode, PST_OP_WRITE);
	assert_int_equal(op.oid.lo, op.ino);
	shim_release(x);
	assert_int_equal(status, 0);
	assert_int_equal(op.opcode, PST_OP_FILE_WRITE);
	assert_int_equal(op.frame_count, 0);
	/* Cancelled on the way. */
	assert_int_equal(fsx_start(x, &op, &status), PST_QUEUED);
	store_cancel(x->fs, &op);
	shim_release(x);
	assert_int_equal(status, -ECANCELED);
	assert_int_equal(op.opcode, PST_OP_FILE_WRITE);
	x->shim.hold = NULL;
}

/* --- attributes --- */

static int setattr(const char *path, const struct pst_attr *attr, uint32_t mask)
{
	struct pst_op op = fsx_op(x, PST_OP_SETATTR, path);

	op.attr = *attr;
	op.attr_mask = mask;
	return fsx_run(x, &op);
}

static void test_setattr(void **state)
{
	struct pst_attr a = {.mode = 07000 | S_IFDIR, .uid = 1, .gid = 2, .size_bytes = 2};
	uint64_t now;
	char buf[8];

	a.atime_ns = 11;
	a.mtime_ns = 12;
	ok(fsx_create_data(x, "f", "abc", 0));
	ok(fsx_mkdir(x, "d"));
	ok(fsx_symlink(x, "l", "f"));
	ok(setattr("l", &a, PST_ATTR_MODE)); /* follows; the type stays */
	assert_int_equal(x->attr.mode, S_IFREG | 07000);
	ok(setattr("f", &a, PST_ATTR_UID));
	assert_int_equal(x->attr.uid, 1);
	assert_int_equal(x->attr.gid, 20);
	now = loop_real_now(x->loop);
	ok(setattr("f", &a, PST_ATTR_GID | PST_ATTR_ATIME | PST_ATTR_MTIME));
	assert_int_equal(x->attr.gid, 2);
	assert_int_equal(x->attr.atime_ns, 11);
	assert_int_equal(x->attr.mtime_ns, 12);
	assert_int_equal(x->attr.ctime_ns, now);
	now = loop_real_now(x->loop);
	ok(setattr("f", &a, PST_ATTR_SIZE));
	assert_int_equal(x->attr.size_bytes, 2);
	assert_int_equal(x->attr.mtime_ns, now);
	a.size_bytes = 5;
	ok(setattr("f", &a, PST_ATTR_SIZE | PST_ATTR_MTIME));
	assert_int_equal(x->attr.mtime_ns, 12);
	ok(fsx_read(x, x->ino, 0, buf, 8));
	assert_int_equal(x->ret_len, 5);
	assert_memory_equal(buf, "ab\0\0\0", 5);
	ok(setattr("f", &a, 0)); /* ctime only */
	err(setattr("d", &a, PST_ATTR_SIZE), EISDIR);
	ok(setattr("d", &a, PST_ATTR_MODE));
	assert_int_equal(x->attr.mode, S_IFDIR | 07000);
	a.size_bytes = PST_OBJECT_MAX + 1;
	err(setattr("f", &a, PST_ATTR_SIZE), EFBIG);
	err(setattr("f", &a, 1u << 20), EINVAL);
	err(setattr("none", &a, PST_ATTR_UID), ENOENT);
	ok(setattr("/", &a, PST_ATTR_UID));
	assert_int_equal(x->attr.uid, 1);
}

/* --- times --- */

static bool fired;

static void timer_fired(struct loop_timer *t)
{
	fired = true;
}

/* A second passes; returns what time it is then. */
static uint64_t pass_time(void)
{
	struct loop_timer t = {.fired = timer_fired};

	fired = false;
	ok(loop_timer_arm(x->loop, &t, loop_now(x->loop) + NSEC_PER_SEC));
	while (!fired)
		loop_turn(x->loop, UINT64_MAX);
	return loop_real_now(x->loop);
}

static void assert_times(const char *path, uint64_t mtime, uint64_t ctime)
{
	ok(fsx_lookup(x, path, PST_F_NOFOLLOW));
	assert_int_equal(x->attr.mtime_ns, mtime);
	assert_int_equal(x->attr.ctime_ns, ctime);
}

static void test_times(void **state)
{
	char buf[8];
	uint64_t made, t, ino;

	ok(fsx_mkdir(x, "d"));
	ok(fsx_mkdir(x, "e"));
	made = pass_time();
	ok(fsx_create(x, "d/f", 0));
	ino = x->ino;
	assert_times("d", made, made);
	assert_times("d/f", made, made);
	t = pass_time();
	ok(fsx_write(x, ino, 0, "a", 0));
	assert_times("d/f", t, t);
	assert_times("d", made, made);
	pass_time();
	ok(fsx_read(x, ino, 0, buf, 1));
	assert_times("d/f", t, t);
	made = t;
	t = pass_time();
	ok(setattr("d/f", &(struct pst_attr){.mode = 0600}, PST_ATTR_MODE));
	assert_times("d/f", made, t);
	t = pass_time();
	ok(fsx_setx(x, "d/f", "a", "v", 0));
	assert_times("d/f", made, t);
	t = pass_time();
	ok(fsx_link(x, "d/f", "e/g", 0));
	assert_times("d/f", made, t);
	assert_times("e", t, t);
	t = pass_time();
	ok(fsx_rename(x, "d/f", "e/h", 0));
	assert_times("d", t, t);
	assert_times("e", t, t);
	t = pass_time();
	ok(fsx_unlink(x, "e/h"));
	assert_times("e", t, t);
	assert_times("e/g", made, t);
	t = pass_time();
	ok(fsx_mkdir(x, "d/sub"));
	assert_times("d", t, t);
	t = pass_time();
	ok(fsx_rmdir(x, "d/sub"));
	assert_times("d", t, t);
	t = pass_time();
	ok(fsx_symlink(x, "d/l", "t"));
	assert_times("d", t, t);
	t = pass_time();
	ok(fsx_create(x, "e/g", PST_F_TRUNCATE));
	assert_times("e/g", t, t);
	ok(fsx_getattr(x, ino));
	assert_true((uint64_t)x->attr.btime_ns < made);
}

static void test_statfs(void **state)
{
	struct pst_op op = fsx_op(x, PST_OP_STATFS, NULL);
	struct pst_store_status st = {0};
	struct pst_cont_info info = {0};

	err(fsx_run(x, &op), EINVAL);
	ok(fsx_create_data(x, "f", "abc", 0));
	op.cont_info = &info;
	op.status_out = &st;
	ok(fsx_run(x, &op));
	assert_int_equal(info.used_objects, fsx_objects(x));
	assert_true(st.free_bytes > 0);
	op.cont_info = NULL;
	ok(fsx_run(x, &op));
	op.cont = 999;
	err(fsx_run(x, &op), ENOENT);
}

static void test_fsync(void **state)
{
	struct pst_op op = fsx_op(x, PST_OP_FSYNC, NULL);

	ok(fsx_run(x, &op));
	assert_int_equal(op.opcode, PST_OP_FSYNC);
	op.view = 5;
	ok(fsx_run(x, &op));
	op.view = 0;
	op.cont = 999;
	err(fsx_run(x, &op), ENOENT);
}

/* --- extended attributes --- */

static bool one_name(struct pst_op *op, const struct pst_entry *e)
{
	char *to = (char *)op->cont_info;

	snprintf(to + strlen(to), 64, "%.*s ", (int)e->name_len, (const char *)e->name);
	return true;
}

static int listx(const char *path, const char *start, char *buf)
{
	struct pst_op op = fsx_op(x, PST_OP_LISTXATTR, path);

	buf[0] = 0;
	op.cont_info = (void *)buf;
	op.entry = one_name;
	op.start = start;
	op.start_len = start ? (uint32_t)strlen(start) : 0;
	return fsx_run(x, &op);
}

static void test_xattr(void **state)
{
	static char big[PST_VALUE_MAX + 2];
	char buf[512], name[300];

	ok(fsx_create(x, "f", 0));
	ok(fsx_mkdir(x, "d"));
	err(fsx_getx(x, "f", "user.a", buf, 10), ENODATA);
	err(fsx_getx(x, "none", "user.a", buf, 10), ENOENT);
	err(fsx_delx(x, "f", "user.a"), ENODATA);
	err(fsx_setx(x, "f", "user.a", "v", PST_F_REPLACE), ENODATA);
	ok(fsx_setx(x, "f", "user.a", "value", PST_F_EXCL));
	err(fsx_setx(x, "f", "user.a", "v", PST_F_EXCL), EEXIST);
	ok(fsx_getx(x, "f", "user.a", buf, sizeof(buf)));
	assert_string_equal(buf, "value");
	ok(fsx_getx(x, "f", "user.a", NULL, 0)); /* how long? */
	assert_int_equal(x->ret_len, 5);
	err(fsx_getx(x, "f", "user.a", buf, 4), ERANGE);
	ok(fsx_setx(x, "f", "user.a", "", PST_F_REPLACE));
	ok(fsx_getx(x, "f", "user.a", buf, 4));
	assert_int_equal(x->ret_len, 0);
	ok(fsx_setx(x, "f", "user.c", "", 0));
	ok(fsx_setx(x, "f", "user.b", "", 0));
	ok(listx("f", NULL, buf));
	assert_string_equal(buf, "user.a user.b user.c ");
	ok(listx("f", "user.a", buf));
	assert_string_equal(buf, "user.b user.c ");
	ok(listx("d", NULL, buf));
	assert_string_equal(buf, "");
	err(listx("none", NULL, buf), ENOENT);
	ok(fsx_delx(x, "f", "user.b"));
	ok(listx("f", NULL, buf));
	assert_string_equal(buf, "user.a user.c ");
	memset(name, 'n', sizeof(name));
	name[256] = 0;
	err(fsx_setx(x, "f", name, "v", 0), ERANGE);
	err(fsx_setx(x, "f", "", "v", 0), ERANGE);
	name[255] = 0;
	ok(fsx_setx(x, "f", name, "v", 0));
	memset(big, 'b', sizeof(big));
	big[PST_VALUE_MAX + 1] = 0;
	err(fsx_setx(x, "f", "big", big, 0), E2BIG);
	big[PST_VALUE_MAX] = 0;
	ok(fsx_setx(x, "f", "big", big, 0));
	/* On a directory, where it must not be in the way of rmdir. */
	ok(fsx_setx(x, "d", "user.d", "1", 0));
	ok(fsx_rmdir(x, "d"));
}

/* --- lists --- */

static void test_readdir(void **state)
{
	static char buf[65536], expected[65536];
	char name[PST_NAME_MAX + 1];
	struct pst_op op;
	size_t at = 0;

	ok(fsx_mkdir(x, "d"));
	ok(fsx_list(x, "d", 0, true, buf, sizeof(buf)));
	assert_string_equal(buf, "");
	/* More than one buffer full, with the longest names. */
	for (unsigned i = 0; i < 100; i++) {
		char path[300];

		memset(name, 'a' + (int)(i % 26), sizeof(name));
		name[PST_NAME_MAX] = 0;
		name[0] = (char)('0' + i / 10);
		name[1] = (char)('0' + i % 10);
		snprintf(path, sizeof(path), "d/%s", name);
		ok(fsx_create(x, path, 0));
		at += (size_t)sprintf(expected + at, "%s%s", i ? " " : "", name);
	}
	for (unsigned max = 0; max < 40; max += 13) {
		ok(fsx_list(x, "d", max, max & 1, buf, sizeof(buf)));
		assert_string_equal(buf, expected);
	}
	ok(fsx_create(x, "f", 0));
	err(fsx_list(x, "f", 0, false, buf, sizeof(buf)), ENOTDIR);
	err(fsx_list(x, "none", 0, false, buf, sizeof(buf)), ENOENT);
	op = fsx_op(x, PST_OP_READDIR, "d");
	err(fsx_run(x, &op), EINVAL); /* nobody to tell */
}

/* A place in the list is a name: it may go, others may come. */
static void test_readdir_cookie(void **state)
{
	struct pst_op op;
	char buf[64] = "";

	ok(fsx_create(x, "a", 0));
	ok(fsx_create(x, "c", 0));
	ok(fsx_create(x, "e", 0));
	ok(fsx_unlink(x, "c"));
	ok(fsx_create(x, "b", 0));
	ok(fsx_create(x, "d", 0));
	op = fsx_op(x, PST_OP_READDIR, NULL);
	op.start = "c";
	op.start_len = 1;
	op.cont_info = (void *)buf;
	op.entry = one_name;
	ok(fsx_run(x, &op));
	assert_string_equal(buf, "d e ");
}

/* --- snapshots --- */

static void test_snapshot(void **state)
{
	static const uint8_t mutators[] = {PST_OP_CREATE,      PST_OP_MKDIR,     PST_OP_SYMLINK,
	                                   PST_OP_LINK,        PST_OP_UNLINK,    PST_OP_RMDIR,
	                                   PST_OP_RENAME,      PST_OP_SETATTR,   PST_OP_SETXATTR,
	                                   PST_OP_REMOVEXATTR, PST_OP_FILE_WRITE};
	uint64_t ino, empty;
	char buf[64];

	ok(ops_snap_create(x->fs, "c", "empty", &empty));
	ok(fsx_mkdir(x, "d"));
	ok(fsx_create_data(x, "d/f", "abc", 0));
	ino = x->ino;
	ok(fsx_symlink(x, "l", "d/f"));
	ok(fsx_setx(x, "d/f", "user.a", "v", 0));
	ok(ops_snap_create(x->fs, "c", "s", &x->view));
	for (unsigned i = 0; i < ARRAY_LEN(mutators); i++) {
		struct pst_op op = fsx_op(x, mutators[i], "d/f");

		op.name2 = op.key = "x";
		op.name2_len = op.key_len = 1;
		err(fsx_run(x, &op), EROFS);
		op.ino = ino;
		err(fsx_run(x, &op), EROFS);
	}
	x->view = 0;
	ok(fsx_write(x, ino, 0, "xyz", 0));
	ok(fsx_unlink(x, "d/f"));
	ok(fsx_rmdir(x, "d"));
	ok(ops_snap_open(x->fs, "c", "s", &x->view));
	ok(fsx_lookup(x, "l", 0));
	assert_int_equal(x->ino, ino);
	assert_int_equal(x->attr.size_bytes, 3);
	ok(fsx_read(x, ino, 0, buf, 3));
	assert_memory_equal(buf, "abc", 3);
	ok(fsx_list(x, "d", 0, true, buf, sizeof(buf)));
	assert_string_equal(buf, "f");
	ok(fsx_getx(x, "d/f", "user.a", buf, 8));
	ok(fsx_hold(x, "d/f", 0));
	ok(fsx_drop(x, ino));
	x->view = empty; /* from before the first use */
	ok(fsx_getattr(x, PST_INO_ROOT));
	ok(fsx_list(x, "/", 0, true, buf, sizeof(buf)));
	assert_string_equal(buf, "");
	err(fsx_lookup(x, "d", 0), ENOENT);
	err(fsx_getattr(x, ino), ESTALE);
	err(fsx_hold(x, NULL, ino), ESTALE);
	x->view = 0;
}

/* --- what is not names --- */

static void test_pass_through(void **state)
{
	struct pst_err e = {0};
	struct store *s;
	struct pst_op op = {.opcode = 255};

	assert_int_equal(x->fs->caps, x->shim.store.caps | PST_CAP_NAMES);
	ok(ops_kv_put(x->fs, x->cont, fs_oid(0), "zzz", "v", 1));
	err(ops_run(x->fs, &op), ENOTSUP);
	store_cancel(x->fs, &op); /* nobody knows it: harmless */
	x->shim.store.caps &= ~PST_CAP_BATCH;
	err(fs_new(&s, &x->shim.store, NULL, &e), EINVAL);
	assert_int_equal(e.code, -EINVAL);
}

static void test_no_container(void **state)
{
	uint32_t cont = x->cont;

	for (x->cont = 500; x->cont < 510; x->cont++) {
		err(fsx_lookup(x, "/", 0), ENOENT);
		err(fsx_create(x, "f", 0), ENOENT);
		err(fsx_read(x, 4, 0, NULL, 0), ENOENT);
	}
	/* One that comes later. */
	x->cont = cont + 1;
	err(fsx_lookup(x, "/", 0), ENOENT);
	ok(ops_cont_create(x->fs, "c2", &x->cont));
	assert_int_equal(x->cont, cont + 1);
	ok(fsx_create(x, "f", 0));
	x->cont = cont;
	err(fsx_lookup(x, "f", 0), ENOENT);
}

/* --- damage below is an error, not a crash --- */

static void test_damage(void **state)
{
	uint8_t dirent[FS_DIRENT_BYTES];
	struct pst_mut label = {.kind = PST_SET_LABEL, .val = "bad", .val_len = 3};
	char buf[64];
	uint64_t ino;

	ok(fsx_create(x, "f", 0));
	ino = x->ino;
	ok(ops_kv_put(x->fs, x->cont, fs_oid(PST_INO_ROOT), "dshort", "abc", 3));
	ok(ops_kv_put(x->fs, x->cont, fs_oid(PST_INO_ROOT), "dlong", "0123456789", 10));
	err(fsx_lookup(x, "short", 0), EBADMSG);
	err(fsx_lookup(x, "long", 0), EBADMSG);
	err(fsx_unlink(x, "long"), EBADMSG);
	err(fsx_list(x, "/", 0, false, buf, sizeof(buf)), EBADMSG);
	fs_dirent_pack(4000 << 2, DT_REG, dirent);
	ok(ops_kv_put(x->fs, x->cont, fs_oid(PST_INO_ROOT), "dnowhere", dirent, 9));
	err(fsx_lookup(x, "nowhere", 0), EAGAIN); /* for all it knows somebody keeps removing it */
	label.oid = fs_oid(ino);
	ok(ops_batch(x->fs, x->cont, &label, 1));
	err(fsx_lookup(x, "f", 0), EBADMSG);
	err(fsx_hold(x, "f", 0), EBADMSG);
	err(fsx_hold(x, NULL, ino), EBADMSG);
	ok(ops_kv_put(x->fs, x->cont, fs_oid(0), "n", "abc", 3));
	fsx_restart(x);
	err(fsx_create(x, "g", 0), EBADMSG);
}

static int teardown_damaged(void **state)
{
	fsx_close(x);
	return 0;
}

/* --- replay: a repeat is answered, and nothing happens twice --- */

static void test_replay(void **state)
{
	uint64_t ino, batches, objects, seq;

	ok(fsx_lookup(x, "/", 0));
	x->seq = 1;
	ok(fsx_create_data(x, "f", "abc", PST_F_EXCL));
	ino = x->ino;
	batches = x->shim.batches;
	ok(fsx_create_data(x, "f", "abc", PST_F_EXCL));
	assert_int_equal(x->ino, ino);
	assert_int_equal(x->attr.size_bytes, 3);
	assert_int_equal(x->shim.batches, batches);
	x->seq++;
	err(fsx_create(x, "f", PST_F_EXCL), EEXIST); /* another one */
	x->seq++;
	ok(fsx_mkdir(x, "d"));
	ok(fsx_mkdir(x, "d"));
	x->seq++;
	ok(fsx_symlink(x, "s", "t"));
	ok(fsx_symlink(x, "s", "t"));
	x->seq++;
	ok(fsx_link(x, "f", "g", 0));
	ok(fsx_link(x, "f", "g", 0));
	assert_int_equal(x->attr.nlink, 2);
	x->seq++;
	ok(fsx_rename(x, "g", "h", 0));
	ok(fsx_rename(x, "g", "h", 0));
	x->seq++;
	ok(fsx_unlink(x, "h"));
	ok(fsx_unlink(x, "h"));
	x->seq++;
	ok(fsx_setx(x, "f", "a", "v", PST_F_EXCL));
	ok(fsx_setx(x, "f", "a", "v", PST_F_EXCL));
	x->seq++;
	ok(fsx_delx(x, "f", "a"));
	ok(fsx_delx(x, "f", "a"));
	x->seq++;
	ok(fsx_rmdir(x, "d"));
	ok(fsx_rmdir(x, "d"));
	x->seq++;
	ok(fsx_write(x, ino, 0, "DEF", PST_F_APPEND));
	assert_int_equal(x->ret_off, 3);
	ok(fsx_write(x, ino, 0, "DEF", PST_F_APPEND));
	assert_int_equal(x->ret_off, 3);
	x->seq++;
	ok(fsx_write(x, ino, 0, "1", 0));
	ok(fsx_write(x, ino, 0, "1", 0));
	x->seq++;
	ok(setattr("f", &(struct pst_attr){.uid = 5}, PST_ATTR_UID));
	ok(setattr("f", &(struct pst_attr){.uid = 5}, PST_ATTR_UID));
	assert_int_equal(x->attr.uid, 5);
	assert_int_equal(x->attr.size_bytes, 6);
	x->seq--;
	err(setattr("f", &(struct pst_attr){.uid = 6}, PST_ATTR_UID), ESTALE);
	/* After a restart too, and when what it made is gone. */
	x->seq += 2;
	ok(fsx_create(x, "n", 0));
	ino = x->ino;
	fsx_restart(x);
	ok(fsx_create(x, "n", PST_F_EXCL));
	assert_int_equal(x->ino, ino);
	seq = x->seq;
	x->seq = 0;
	ok(fsx_unlink(x, "n"));
	x->seq = seq;
	ok(fsx_create(x, "n", PST_F_EXCL));
	assert_int_equal(x->ino, ino);
	err(fsx_lookup(x, "n", 0), ENOENT);
	objects = fsx_objects(x);
	x->seq++;
	ok(fsx_create(x, "", 0)); /* nameless: held once */
	ino = x->ino;
	ok(fsx_create(x, "", 0));
	assert_int_equal(x->ino, ino);
	x->seq++;
	ok(fsx_drop(x, ino));
	ok(fsx_drop(x, ino));
	assert_int_equal(fsx_objects(x), objects);
	x->seq++;
	ok(fsx_create(x, "", 0));
	fsx_restart(x);
	err(fsx_create(x, "", 0), ESTALE); /* what it made is not held any more */
	x->seq = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        T(test_data),
	        P(test_data),
	        L(test_data),
	        T(test_data_by_path),
	        P(test_data_by_path),
	        L(test_data_by_path),
	        T(test_extents),
	        T(test_data_passes_down),
	        T(test_setattr),
	        L(test_setattr),
	        T(test_times),
	        T(test_statfs),
	        T(test_fsync),
	        T(test_xattr),
	        L(test_xattr),
	        T(test_readdir),
	        L(test_readdir),
	        T(test_readdir_cookie),
	        T(test_snapshot),
	        L(test_snapshot),
	        T(test_pass_through),
	        T(test_no_container),
	        L(test_no_container),
	        cmocka_unit_test_setup_teardown(test_damage, setup, teardown_damaged),
	        T(test_replay),
	        L(test_replay),
	};

	return cmocka_run_group_tests_name("fs_more", tests, NULL, NULL);
}
