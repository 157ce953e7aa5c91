/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The check of the names layer: nothing is found on whole trees; each kind of damage is made with
 * object ops behind the layer's back, found, and mended so that the other check (fsx_check) and a
 * second one of this are content.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "fs/check.h"
#include "fs_util.h"

struct rig {
	struct fsx x;
	struct fs_check_report rep;
	unsigned texts;
	char text[32][700];
	uint64_t a, b, f; /* /a, /a/b, /a/f */
};

static void finding(void *arg, const char *text, bool repaired)
{
	struct rig *r = arg;

	if (r->texts < ARRAY_LEN(r->text))
		(void)snprintf(r->text[r->texts++], sizeof(r->text[0]), "%s", text);
}

static void check(struct rig *r, bool repair)
{
	struct fs_check_opts o = {.repair = repair, .finding = finding, .arg = r};
	struct pst_err err = {0};

	r->texts = 0;
	assert_int_equal(fs_check(r->x.shim.below, r->x.cont, 0, &o, &r->rep, &err), 0);
}

static void expect(struct rig *r, const char *part)
{
	for (unsigned i = 0; i < r->texts; i++)
		if (strstr(r->text[i], part))
			return;
	for (unsigned i = 0; i < r->texts; i++)
		print_message("found: %s\n", r->text[i]);
	fail_msg("no finding says '%s'", part);
}

static void rig_open(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	fsx_open(&r->x, NULL, NULL, 0);
	assert_int_equal(fsx_mkdir(&r->x, "/a"), 0);
	r->a = r->x.ino;
	assert_int_equal(fsx_mkdir(&r->x, "/a/b"), 0);
	r->b = r->x.ino;
	assert_int_equal(fsx_create_data(&r->x, "/a/f", "hello", 0), 0);
	r->f = r->x.ino;
	assert_int_equal(fsx_link(&r->x, "/a/f", "/a/b/g", 0), 0);
	assert_int_equal(fsx_symlink(&r->x, "/l", "a/f"), 0);
	check(r, false);
	assert_int_equal(r->rep.findings, 0);
	assert_int_equal(r->rep.inodes, 5);
	assert_int_equal(r->rep.entries, 5);
}

/* Found as @part; mended; then whole. */
static void mended(struct rig *r, const char *part)
{
	check(r, false);
	expect(r, part);
	assert_int_equal(r->rep.repaired, 0);
	check(r, true);
	expect(r, part);
	assert_true(r->rep.findings > 0);
	assert_int_equal(r->rep.repaired, r->rep.findings);
	check(r, false);
	if (r->rep.findings)
		expect(r, "nothing more");
	fsx_check(&r->x);
	fsx_close(&r->x);
}

static void put(struct rig *r, uint64_t dir, const char *key, uint64_t ino, uint8_t type)
{
	uint8_t val[FS_DIRENT_BYTES];

	fs_dirent_pack(ino, type, val);
	assert_int_equal(ops_kv_put(r->x.shim.below, r->x.cont, fs_oid(dir), key, val, sizeof(val)),
	                 0);
}

static void del(struct rig *r, uint64_t dir, const char *key)
{
	struct pst_mut m = MUT_KEY(PST_KV_DEL, fs_oid(dir), key, 0);

	assert_int_equal(ops_batch(r->x.shim.below, r->x.cont, &m, 1), 0);
}

static void relabel(struct rig *r, uint64_t ino, int links, uint64_t parent)
{
	uint8_t packed[FS_LABEL_BYTES];
	struct pst_mut m = {.kind = PST_SET_LABEL, .oid = fs_oid(ino), .val = packed};
	struct pst_obj_stat st;
	struct fs_label l;

	assert_int_equal(ops_stat(r->x.shim.below, r->x.cont, 0, fs_oid(ino), &st), 0);
	assert_int_equal(fs_label_unpack(&l, ino, st.label, st.label_len), 0);
	l.nlink += (uint32_t)links;
	if (parent)
		l.parent = parent;
	m.val_len = fs_label_pack(&l, packed);
	assert_int_equal(ops_batch(r->x.shim.below, r->x.cont, &m, 1), 0);
}

static void dangling(void **state)
{
	static struct rig r;

	rig_open(&r);
	put(&r, r.a, "dghost", 4000 << 2, DT_REG);
	mended(&r, "entry 'ghost' leads to inode 16000, which is not there");
}

static void bad_names(void **state)
{
	static const char *const names[] = {"d", "d.", "d..", "dx/y"};

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		static struct rig r;

		rig_open(&r);
		put(&r, r.a, names[i], r.f, DT_REG);
		mended(&r, "makes no sense");
	}
}

static void wrong_type(void **state)
{
	static struct rig r;

	rig_open(&r);
	assert_int_equal(fsx_lookup(&r.x, "/l", PST_F_NOFOLLOW), 0);
	put(&r, PST_INO_ROOT, "dl", r.x.ino, DT_FIFO);
	mended(&r, "says type");
}

static void wrong_counts(void **state)
{
	static struct rig r;

	rig_open(&r);
	relabel(&r, r.f, 3, 0);
	mended(&r, "counts 5 links, and has 2");
	rig_open(&r);
	relabel(&r, r.a, -1, 0);
	mended(&r, "counts 2 links, and has 3");
}

static void wrong_parent(void **state)
{
	static struct rig r;

	rig_open(&r);
	relabel(&r, r.b, 0, PST_INO_ROOT);
	mended(&r, "says that its parent is 1");
}

static void lost_file(void **state)
{
	static struct rig r;
	char path[64];

	rig_open(&r);
	del(&r, r.a, "df");
	del(&r, r.b, "dg");
	check(&r, true);
	(void)snprintf(path, sizeof(path), "/lost+found/#%llu", (unsigned long long)r.f);
	fsx_restart(&r.x);
	assert_int_equal(fsx_lookup(&r.x, path, 0), 0);
	assert_int_equal(r.x.ino, r.f);
	/* New inodes stay clear of the ones that repair made. */
	assert_int_equal(fsx_create(&r.x, "/new", PST_F_EXCL), 0);
	fsx_check(&r.x);
	fsx_close(&r.x);
	rig_open(&r);
	del(&r, r.a, "df");
	del(&r, r.b, "dg");
	mended(&r, "no entry leads to inode");
}

static void lost_directory(void **state)
{
	static struct rig r;

	rig_open(&r);
	del(&r, PST_INO_ROOT, "da");
	mended(&r, "no entry leads to inode");
	/* With a /lost+found that is there already. */
	rig_open(&r);
	assert_int_equal(fsx_mkdir(&r.x, "/lost+found"), 0);
	del(&r, PST_INO_ROOT, "da");
	mended(&r, "no entry leads to inode");
}

static void second_name(void **state)
{
	static struct rig r;

	rig_open(&r);
	put(&r, PST_INO_ROOT, "dz", r.b, DT_DIR);
	mended(&r, "is a second name of directory");
}

static void circle(void **state)
{
	static struct rig r;

	rig_open(&r);
	del(&r, PST_INO_ROOT, "da");
	put(&r, r.b, "dup", r.a, DT_DIR);
	mended(&r, "is inside itself");
}

static void orphans(void **state)
{
	uint64_t be = htobe64(4000 << 2);
	struct rig *r = calloc(1, sizeof(*r));
	struct pst_mut m = {.kind = PST_KV_PUT, .oid = fs_oid(0), .key_len = 9};
	uint8_t key[9] = {FS_KEY_ORPHAN};

	memcpy(key + 1, &be, sizeof(be));
	m.key = key;
	rig_open(r);
	assert_int_equal(ops_batch(r->x.shim.below, r->x.cont, &m, 1), 0);
	mended(r, "is not there");
	rig_open(r);
	be = htobe64(r->f);
	memcpy(key + 1, &be, sizeof(be));
	assert_int_equal(ops_batch(r->x.shim.below, r->x.cont, &m, 1), 0);
	mended(r, "has a name and is on the orphan list");
	/* A held file without a name is as it should be. */
	rig_open(r);
	assert_int_equal(fsx_hold(&r->x, "/l", 0), 0);
	assert_int_equal(fsx_hold(&r->x, "/a/f", 0), 0);
	assert_int_equal(fsx_unlink(&r->x, "/a/f"), 0);
	assert_int_equal(fsx_unlink(&r->x, "/a/b/g"), 0);
	check(r, false);
	assert_int_equal(r->rep.findings, 0);
	assert_int_equal(r->rep.orphans, 1);
	fsx_close(&r->x);
	free(r);
}

/* An object without its label, as fsck makes it of what is left; or with one that is damaged. */
static void set_label(struct rig *r, uint64_t ino, const char *label)
{
	struct pst_mut m = {.kind = PST_SET_LABEL,
	                    .oid = fs_oid(ino),
	                    .val = label,
	                    .val_len = (uint32_t)strlen(label)};

	assert_int_equal(ops_batch(r->x.shim.below, r->x.cont, &m, 1), 0);
}

/* What rig_open() wrote is there. */
static void hello_is(struct fsx *x, const char *path)
{
	char buf[16];

	assert_int_equal(fsx_lookup(x, path, 0), 0);
	assert_int_equal(fsx_read(x, x->ino, 0, buf, 5), 0);
	assert_memory_equal(buf, "hello", 5);
}

static void labels(void **state)
{
	static const char *const label[] = {"junk", ""};
	static const char *const path[] = {"/a", "/a/b", "/a/f", "/l", "/"};
	static struct rig r;

	for (unsigned i = 0; i < ARRAY_LEN(label) * ARRAY_LEN(path); i++) {
		const char *p = path[i / ARRAY_LEN(label)];

		rig_open(&r);
		assert_int_equal(fsx_lookup(&r.x, p, PST_F_NOFOLLOW), 0);
		set_label(&r, r.x.ino, label[i % ARRAY_LEN(label)]);
		fsx_restart(&r.x);
		mended(&r, "its label makes no sense");
	}
	/* Names and content are as they were. */
	rig_open(&r);
	set_label(&r, r.a, "");
	set_label(&r, r.f, "");
	check(&r, true);
	fsx_restart(&r.x);
	hello_is(&r.x, "/a/b/g");
	fsx_close(&r.x);
}

static void obj_delete(struct rig *r, uint64_t ino)
{
	struct pst_mut m = {.kind = PST_OBJ_DELETE, .oid = fs_oid(ino)};

	assert_int_equal(ops_batch(r->x.shim.below, r->x.cont, &m, 1), 0);
}

static void no_root(void **state)
{
	static struct rig r;
	char path[64];

	rig_open(&r);
	obj_delete(&r, PST_INO_ROOT);
	check(&r, false);
	expect(&r, "the root directory is not there");
	check(&r, true);
	assert_int_equal(r.rep.repaired, r.rep.findings);
	fsx_restart(&r.x);
	(void)snprintf(path, sizeof(path), "/lost+found/#%llu/f", (unsigned long long)r.a);
	hello_is(&r.x, path);
	check(&r, false);
	assert_int_equal(r.rep.findings, 0);
	fsx_check(&r.x);
	fsx_close(&r.x);
}

/* Else numbers that are in use would be given out again. */
static void no_book(void **state)
{
	static struct rig r;

	rig_open(&r);
	obj_delete(&r, 0);
	fsx_restart(&r.x);
	mended(&r, "the counter of inode numbers says 0");
}

/* Objects that somebody keeps beside the tree are no damage; an inode's number that can't be is. */
static void not_mended(void **state)
{
	static struct rig r;
	struct pst_mut m = {.kind = PST_SET_LABEL, .val = "junk", .val_len = 4};
	struct fs_check_opts o = {0};
	struct pst_err err;

	rig_open(&r);
	m.oid = oid_of(77);
	assert_int_equal(ops_batch(r.x.shim.below, r.x.cont, &m, 1), 0);
	check(&r, true);
	assert_int_equal(r.rep.findings, 0);
	assert_int_equal(r.rep.others, 1);
	m.oid = fs_oid(2 << 2 | 3);
	assert_int_equal(ops_batch(r.x.shim.below, r.x.cont, &m, 1), 0);
	check(&r, true);
	expect(&r, "there are no such numbers");
	assert_int_equal(r.rep.repaired, 0);
	assert_int_equal(fs_check(r.x.shim.below, 999, 0, &o, &r.rep, &err), -ENOENT);
	fsx_close(&r.x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(dangling),       cmocka_unit_test(bad_names),
	        cmocka_unit_test(wrong_type),     cmocka_unit_test(wrong_counts),
	        cmocka_unit_test(wrong_parent),   cmocka_unit_test(lost_file),
	        cmocka_unit_test(lost_directory), cmocka_unit_test(second_name),
	        cmocka_unit_test(circle),         cmocka_unit_test(orphans),
	        cmocka_unit_test(labels),         cmocka_unit_test(no_root),
	        cmocka_unit_test(no_book),        cmocka_unit_test(not_mended),
	};

	return cmocka_run_group_tests_name("fs check", tests, NULL, NULL);
}
