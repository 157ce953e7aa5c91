/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_open: what pst_client_open() says of real files, each error that its header names; and what
 * is gone under a handle.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "client/stack.h"
#include "penstock/penstock.h"
#include "store/local/local.h"

static const struct pst_oid OID = {.hi = 1, .lo = 2};

#define FILE_BYTES (8 * MIB)

static char folder[] = "/tmp/test_client.XXXXXX";

static char *uri_of(const char *names)
{
	static char uri[256];
	char *out = uri + sprintf(uri, "local:");

	for (const char *n = names; *n; n++)
		out += sprintf(out, "%s%s/%c?direct=0", n == names ? "" : ",", folder, *n);
	return uri;
}

static void store_make(const char *names)
{
	const char *specs[PST_DEVICES_MAX];
	char text[PST_DEVICES_MAX][64];
	struct bdev_open_opts opts = {.create = true};
	struct loop_opts loop_opts;
	struct stack_devs devs;
	struct pst_err err;
	struct loop *loop;
	unsigned n = 0;

	for (; names[n]; n++) {
		(void)snprintf(text[n], sizeof(text[n]), "%s/%c?direct=0", folder, names[n]);
		specs[n] = text[n];
	}
	opts.size_bytes = n * FILE_BYTES;
	loop_opts_default(&loop_opts);
	assert_int_equal(loop_new(&loop, &loop_opts, &err), 0);
	if (stack_devs_open(&devs, specs, n, loop, &opts, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(local_format(devs.dev, n, NULL, &err), 0);
	stack_devs_close(&devs);
	loop_free(loop);
}

/* Writes @word at byte @at of each superblock of @name. */
static void super_spoil(char name, unsigned at, uint32_t word)
{
	static const off_t places[] = {0, 8 * 4096, FILE_BYTES - 4096};
	char path[64];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%c", folder, name);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	for (unsigned i = 0; i < ARRAY_LEN(places); i++)
		assert_int_equal(pwrite(fd, &word, sizeof(word), places[i] + at), sizeof(word));
	close(fd);
}

static int open_status(const char *uri)
{
	struct pst_client *c;
	struct pst_err err = {0};
	int rc = pst_client_open(&c, uri, NULL, &err);

	if (rc == 0) {
		assert_int_equal(pst_client_close(c), 0);
		return 0;
	}
	assert_int_equal(err.code, rc);
	assert_true(strlen(err.text) > 10);
	return rc;
}

static void test_open_files(void **state)
{
	char path[64], uri[256];
	struct pst_client *c;

	assert_non_null(mkdtemp(folder));
	store_make("ab");
	store_make("c");
	assert_int_equal(open_status(uri_of("ba")), 0);
	assert_int_equal(open_status(uri_of("x")), -ENOENT);
	assert_int_equal(open_status(uri_of("a")), -ENXIO);
	assert_int_equal(open_status(uri_of("ac")), -ENXIO);
	assert_int_equal(open_status(uri_of("abc")), -ENXIO);
	assert_int_equal(open_status(uri_of("cc")), -EBUSY);
	(void)snprintf(uri, sizeof(uri), "%s&nonsense=1", uri_of("c"));
	assert_int_equal(open_status(uri), -EINVAL);
	(void)snprintf(uri, sizeof(uri), "%s&iopoll=1", uri_of("c"));
	assert_int_equal(open_status(uri), -EINVAL); /* asks for what direct=0 rules out */

	assert_int_equal(pst_client_open(&c, uri_of("c"), NULL, NULL), 0);
	assert_int_equal(open_status(uri_of("c")), -EBUSY);
	assert_int_equal(pst_client_close(c), 0);

	super_spoil('c', 12, htole32(99)); /* the version */
	assert_int_equal(open_status(uri_of("c")), -EPROTONOSUPPORT);
	super_spoil('c', 12, htole32(1));
	assert_int_equal(open_status(uri_of("c")), 0);
	super_spoil('c', 200, 1); /* the label: what the checksum covers */
	assert_int_equal(open_status(uri_of("c")), -EBADMSG);
	super_spoil('c', 0, 0); /* the magic */
	assert_int_equal(open_status(uri_of("c")), -ENODATA);

	for (const char *n = "abc"; *n; n++) {
		(void)snprintf(path, sizeof(path), "%s/%c", folder, *n);
		assert_int_equal(unlink(path), 0);
	}
	assert_int_equal(rmdir(folder), 0);
}

/* What is gone under a handle is ENOENT, as its headers say. */
static void test_gone(void **state)
{
	struct pst_client_opts opts;
	struct pst_client *c;
	struct pst_cont *cont, *snap;
	char buf[8];

	pst_client_opts_default(&opts, sizeof(opts));
	opts.drive = true;
	assert_int_equal(pst_client_open(&c, "local:mem:16m", &opts, NULL), 0);
	assert_int_equal(pst_cont_create(c, "x", NULL), 0);
	assert_int_equal(pst_cont_open(c, "x", &cont), 0);
	assert_int_equal(pst_obj_write(cont, OID, "data", 4, 0, 0), 0);
	assert_int_equal(pst_snap_create(c, "x", "s", NULL), 0);
	assert_int_equal(pst_cont_open(c, "x@s", &snap), 0);
	assert_int_equal(pst_obj_read(snap, OID, buf, 4, 0, 0, NULL), 0);
	assert_int_equal(pst_snap_destroy(c, "x", "s"), 0);
	assert_int_equal(pst_obj_read(snap, OID, buf, 4, 0, 0, NULL), -ENOENT);
	assert_int_equal(pst_cont_destroy(c, "x"), 0);
	assert_int_equal(pst_obj_read(cont, OID, buf, 4, 0, 0, NULL), -ENOENT);
	assert_int_equal(pst_obj_write(cont, OID, "data", 4, 0, 0), -ENOENT);
	assert_int_equal(pst_kv_put(cont, OID, "k", 1, "v", 1, 0), -ENOENT);
	assert_int_equal(pst_cont_close(cont), 0);
	assert_int_equal(pst_cont_close(snap), 0);
	assert_int_equal(pst_client_close(c), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_open_files),
	        cmocka_unit_test(test_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
