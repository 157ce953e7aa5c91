/* SPDX-License-Identifier: BSD-3-Clause */
/* Block devices: the contract suite over each of them, and what is special to opening and to mem:.
 */
#include "bdev_contract.h"

#include <stdio.h>
#include <unistd.h>

#include "bdev/fault.h"

/* --- opening --- */

static int open_rc(const char *spec, const char *word)
{
	struct loop *loop = sim_loop();
	struct pst_err err = {0};
	struct bdev *b = NULL;
	int rc = bdev_open(&b, spec, loop, NULL, &err);

	if (rc && word && !strstr(err.text, word))
		fail_msg("%s: '%s' lacks '%s'", spec, err.text, word);
	if (rc)
		assert_int_equal(rc, err.code);
	if (!rc)
		bdev_close(b);
	else
		assert_null(b);
	loop_free(loop);
	return rc;
}

static void test_device_strings(void **state)
{
	assert_int_equal(open_rc("mem:1m", NULL), 0);
	assert_int_equal(open_rc("mem:512?block=512", NULL), 0);
	assert_int_equal(open_rc("mem:", "scheme"), -EINVAL);
	assert_int_equal(open_rc("mem:0", "blocks"), -EINVAL);
	assert_int_equal(open_rc("mem:4097", "blocks"), -EINVAL);
	assert_int_equal(open_rc("mem:1x", "size"), -EINVAL);
	assert_int_equal(open_rc("mem:-1", "size"), -EINVAL);
	assert_int_equal(open_rc("mem:99999999999999999999", "size"), -EINVAL);
	assert_int_equal(open_rc("mem:15e", "is more than 64 TiB"), -EINVAL);
	assert_int_equal(open_rc("mem:1m?block=1024", "1024"), -EINVAL);
	assert_int_equal(open_rc("mem:1m?blok=512", "blok"), -EINVAL);
	assert_int_equal(open_rc("mem:1m?name=", "name"), -EINVAL);
	assert_int_equal(open_rc("null:1t", NULL), 0);
	assert_int_equal(open_rc("null:4k?block=4096", NULL), 0);
	assert_int_equal(open_rc("null:x", "size"), -EINVAL);
	assert_int_equal(open_rc("null:513", "blocks"), -EINVAL);
	assert_int_equal(open_rc("null:1m?block=1", "512"), -EINVAL);
	assert_int_equal(open_rc("null:1m?name=x", "name"), -EINVAL);
	assert_int_equal(open_rc("tape:/dev/st0", "tape"), -EINVAL);
	assert_int_equal(open_rc(":", NULL) < 0, 1);
	assert_int_equal(open_rc("", NULL) < 0, 1);
}

static int add_file(void *arg, const char *path)
{
	char *all = arg;

	assert_true(strlen(all) + strlen(path) < 64);
	strcat(all, path);
	strcat(all, ";");
	return !strcmp(path, "/stop") ? -EBUSY : 0;
}

/* The files of a device are known under all that is around it. */
static void test_files(void **state)
{
	static const struct {
		const char *spec, *files;
		int rc;
	} cases[] = {
	        {"mem:1m", "", 0},
	        {"null:1m", "", 0},
	        {"/a", "/a;", 0},
	        {"uring:/a?direct=0", "/a;", 0},
	        {"fault:fault:/a?seed=1&direct=0", "/a;", 0},
	        {"fault:mem:1m", "", 0},
	        {"nvme+loop:/a?lba=4096&direct=0", "/a;", 0},
	        {"nvme+loop:fault:/a?seed=1", "/a;", 0},
	        {"nvme+loop:target", "", 0},
	        {"multipath:round-robin:nvme+loop:/a|nvme+loop:/b", "/a;/b;", 0},
	        {"multipath:round-robin:nvme+loop:/stop|nvme+loop:/b", "/stop;", -EBUSY},
	        {"multipath:/a", "", -EINVAL},
	        {"tape:/a", "", -EINVAL},
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		char files[64] = "";

		assert_int_equal(bdev_files(cases[i].spec, add_file, files, NULL), cases[i].rc);
		assert_string_equal(files, cases[i].files);
	}
}

static void test_drivers_explain_themselves(void **state)
{
	unsigned n = 0;

	for (const struct bdev_driver *d = bdev_driver_first(); d; d = d->next) {
		assert_true(strlen(d->scheme) > 0);
		assert_non_null(d->help);
		assert_memory_equal(d->help, d->scheme, strlen(d->scheme));
		n++;
	}
	assert_true(n >= 2);
}

static void test_close_null(void **state)
{
	bdev_close(NULL);
}

/* --- mem: --- */

static void test_named_memory(void **state)
{
	struct loop *loop = sim_loop();
	struct bdev *b = must_open("mem:1m?name=nm", loop);
	struct pst_err err = {0};
	uint8_t buf[4096], got[4096];

	pattern(buf, sizeof(buf), 1);
	assert_int_equal(do_io(b, BDEV_WRITE, 4096, buf, sizeof(buf), 0), 0);
	assert_int_equal(bdev_mem_forget("nm"), -EBUSY);
	bdev_close(b);
	assert_int_equal(bdev_open(&b, "mem:2m?name=nm", loop, NULL, &err), -EINVAL);
	assert_int_equal(bdev_open(&b, "mem:1m?name=nm&block=512", loop, NULL, &err), -EINVAL);
	b = must_open("mem:1m?name=nm", loop);
	assert_int_equal(do_io(b, BDEV_READ, 4096, got, sizeof(got), 0), 0);
	assert_memory_equal(got, buf, sizeof(buf));
	bdev_close(b);
	assert_int_equal(bdev_mem_forget("nm"), 0);
	assert_int_equal(bdev_mem_forget("nm"), -ENOENT);
	b = must_open("mem:1m?name=nm", loop);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(do_io(b, BDEV_READ, 4096, got, sizeof(got), 0), 0);
	assert_memory_equal(got, buf, sizeof(buf));
	bdev_close(b);
	assert_int_equal(bdev_mem_forget("nm"), 0);
	loop_free(loop);
}

/* Each request fails once on its way, and its neighbours don't notice. */
static void test_io_failure_sweep(void **state)
{
	enum { N = 12 };

	for (uint64_t n = 1; n <= N; n++) {
		struct loop *loop = sim_loop();
		struct bdev *b = must_open("fault:mem:1m", loop);
		struct tio t[N];
		uint8_t buf[4096] = {0};
		unsigned failed = 0;

		memset(t, 0, sizeof(t));
		fault_fail_at(b, UINT32_MAX, n, -EIO);
		for (unsigned i = 0; i < N; i++)
			tio_submit(b, &t[i], (enum bdev_op)(i % 5), i * sizeof(buf), buf,
			           sizeof(buf), 0);
		for (unsigned i = 0; i < N; i++)
			failed += tio_wait(&t[i]) == -EIO;
		assert_int_equal(failed, 1);
		assert_int_equal(t[n - 1].io.status, -EIO);
		bdev_close(b);
		loop_free(loop);
	}
}

/* --- the devices --- */

static void forget(struct bdev_case *c)
{
	int rc = bdev_mem_forget("contract");

	assert_true(rc == 0 || rc == -ENOENT);
}

/* Files are made in $TMPDIR or /var/tmp, which must be on a file system with direct I/O. */
static char dir[256], path[sizeof(dir) + 8];

static void no_file(struct bdev_case *c)
{
	unlink(path);
}

#define FILE_SPEC "@" /* stands for the path: it is known only when the program runs */

static struct bdev_case cases[] = {
        {"mem:", "mem:2m?name=contract", true, forget},
        {"mem:512", "mem:2m?name=contract&block=512", true, forget},
        {"fault:mem:", "fault:mem:2m?name=contract&seed=7", true, forget},
        {"fault:mem:delay", "fault:mem:2m?name=contract&delay_us=5&delay_jitter_us=90", true,
         forget},
        {"fault:mem:nocache", "fault:mem:2m?name=contract&cache=0", true, forget},
        {"uring:", "uring:" FILE_SPEC, false, no_file},
        {"uring:discard", "uring:" FILE_SPEC "?discard=1", false, no_file},
        {"uring:buffered", "uring:" FILE_SPEC "?direct=0", false, no_file},
        {"bare path", FILE_SPEC, false, no_file},
        {"fault:uring:", "fault:uring:" FILE_SPEC "?delay_jitter_us=20", false, no_file},
        {"nvme+loop:", "nvme+loop:mem:2m?name=contract", true, forget},
        {"nvme+loop:512", "nvme+loop:mem:2m?name=contract&block=512&mdts=8k&entries=4", true,
         forget},
        {"nvme+loop:prp", "nvme+loop:mem:2m?name=contract&sgl=0&mdts=16k", true, forget},
        {"nvme+loop:strict", "nvme+loop:mem:2m?name=contract&strict=1&shadow=1&entries=8", true,
         forget},
        {"nvme+loop:faults",
         "nvme+loop:mem:2m?name=contract&timeout=800&"
         "faults=dup:every=3;cid:every=41,count=3;status:code=6,every=7;drop:every=53,count=3",
         true, forget},
        {"nvme+loop:uring:", "nvme+loop:uring:" FILE_SPEC "?lba=4096", false, no_file},
};

static void put_path(struct bdev_case *c)
{
	char *at = strstr(c->spec, FILE_SPEC);
	char rest[64];

	if (!at)
		return;
	snprintf(rest, sizeof(rest), "%s", at + strlen(FILE_SPEC));
	snprintf(at, sizeof(c->spec) - (size_t)(at - c->spec), "%s%s", path, rest);
}

static bool make_dir(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%s/penstock-bdev-XXXXXX", tmp ? tmp : "/var/tmp");
	if (!mkdtemp(dir)) {
		perror(dir);
		return false;
	}
	snprintf(path, sizeof(path), "%s/dev", dir);
	return true;
}

int main(void)
{
	struct CMUnitTest tests[5 + ARRAY_LEN(cases) * BDEV_CONTRACT_TESTS] = {
	        cmocka_unit_test(test_device_strings),
	        cmocka_unit_test(test_files),
	        cmocka_unit_test(test_drivers_explain_themselves),
	        cmocka_unit_test(test_close_null),
	        cmocka_unit_test(test_named_memory),
	        cmocka_unit_test(test_io_failure_sweep),
	};
	size_t n = 5;
	int rc;

	if (!make_dir())
		return 1;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		put_path(&cases[i]);
		n += bdev_contract_add(tests + n, &cases[i]);
	}
	pst_assert(n == ARRAY_LEN(tests));
	rc = cmocka_run_group_tests_name("bdev", tests, NULL, NULL);
	unlink(path);
	rmdir(dir);
	return rc;
}
