/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * config: every option of the annotated example is known and says its default; what is wrong is
 * refused with its line; the command line goes first; no allocation that fails leaves anything behind.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "server/config.h"

static const char *example; /* packaging/serve.yaml */

static int parse(struct config *c, const char *text, struct pst_err *err)
{
	*err = (struct pst_err){0};
	return config_parse(c, "f", text, strlen(text), err);
}

/* The example with its options uncommented: "#key:" and "#  more" are options, "# text" is prose. */
static char *uncommented(void)
{
	FILE *in = fopen(example, "r");
	char *all = mem_calloc(1, CONFIG_BYTES_MAX), line[512];

	assert_non_null(in);
	assert_non_null(all);
	while (fgets(line, sizeof(line), in)) {
		bool option = line[0] == '#' && ((line[1] >= 'a' && line[1] <= 'z') ||
		                                 (line[1] == ' ' && line[2] == ' '));

		strcat(all, option ? line + 1 : line);
	}
	(void)fclose(in);
	return all;
}

static void test_example(void **state)
{
	char *text = uncommented();
	struct pst_err err;
	struct config c;

	assert_int_equal(config_load(&c, example, &err), 0);
	assert_int_equal(c.device_count, 1);
	config_done(&c);
	assert_int_equal(parse(&c, text, &err), 0);
	assert_int_equal(c.device_count, 2);
	assert_string_equal(c.opts.listen[0], "127.0.0.1:7440");
	assert_string_equal(c.opts.channels, "pipe,tcp");
	assert_string_equal(c.opts.socket, "/run/penstock/7440.sock");
	assert_false(c.opts.insecure);
	assert_false(c.poll);
	assert_string_equal(c.opts.tls_ca, "/etc/penstock/ca.pem");
	assert_string_equal(c.opts.control, "127.0.0.1:7441");
	assert_string_equal(c.opts.metrics, "127.0.0.1:9744");
	assert_string_equal(c.opts.log_level, "warning");
	assert_int_equal(c.opts.listener.slow_ns, 0);
	assert_int_equal(c.opts.listener.depth_max, 256);
	assert_int_equal(c.opts.listener.hello_ns, 10 * NSEC_PER_SEC);
	assert_int_equal(c.opts.fabric.conns_max, 1024);
	assert_int_equal(c.opts.fabric.dead_ns, 15 * NSEC_PER_SEC);
	assert_int_equal(c.opts.session.sessions_max, 4096);
	assert_int_equal(c.opts.session.caps_max, 65536);
	assert_int_equal(c.opts.session.slots_default, 64);
	assert_int_equal(c.opts.session.lease_ns, 60 * NSEC_PER_SEC);
	assert_int_equal(c.opts.session.expiry_ns, 3600 * NSEC_PER_SEC);
	assert_int_equal(c.opts.session.handle_ns, 3600 * NSEC_PER_SEC);
	assert_int_equal(c.opts.session.refusals_max, 64);
	assert_int_equal(c.opts.session.opens_max, 16384);
	assert_int_equal(c.opts.session.running_max, 512);
	assert_int_equal(c.opts.session.running_bytes, 256 * MIB);
	assert_int_equal(c.opts.session.session.bytes_max, 256 * MIB);
	assert_int_equal(c.opts.session.tenant.weight, 1);
	assert_int_equal(c.opts.session.tenant.bytes_per_s, 500 * MIB);
	assert_int_equal(c.opts.session.tenant.ops_per_s, 20000);
	assert_int_equal(c.opts.session.tenant.sessions_max, 100);
	assert_int_equal(c.opts.tenant_count, 2);
	assert_int_equal(c.opts.tenant[0].id, 7);
	assert_int_equal(c.opts.tenant[0].qos.weight, 4);
	assert_string_equal(c.opts.tenant[0].name, "training");
	assert_int_equal(c.opts.tenant[1].qos.bytes_per_s, 100 * MIB);
	config_done(&c);
	mem_free(text);
}

static void test_wrong(void **state)
{
	static const struct {
		const char *text, *said;
	} cases[] = {
	        {"", "f: there is nothing in it"},
	        {"# nothing\n", "f: there is nothing in it"},
	        {"- a\n", "f:1: the configuration: a group of"},
	        {"a\n", "f:1: the configuration: a group of"},
	        {"devices: [a]\nlisen: b\n", "f:2: there is no option \"lisen\""},
	        {"limits:\n  depth: 1\n  dept: 2\n", "f:3: there is no option \"dept\" in limits"},
	        {"socket: a\nsocket: b\n", "f:2: socket is given twice"},
	        {"devices: a\n", "f:1: devices: a list is wanted"},
	        {"devices:\n  - a\n  - [b]\n", "f:3: devices[1]: one value is wanted"},
	        {"socket: {a: b}\n", "f:1: socket: one value is wanted"},
	        {"limits: 4\n", "f:1: limits: a group of"},
	        {"socket:\nmetrics: a\n", "f:1: socket has no value"},
	        {"socket: \"a\\0b\"\n", "f:1: socket: a NUL"},
	        {"socket: &a b\n", "f:1: anchors"},
	        {"metrics: *a\n", "f:1: anchors"},
	        {"socket: a\n---\nsocket: b\n", "f:2: a second document"},
	        {"metrics: a\nsocket: \"b\n", "f:3: not YAML: "},
	        {"? [a]\n: b\n", "f:1: a name is wanted here"},
	        {"insecure: maybe\n", "f:1: insecure: \"maybe\" is not yes or no"},
	        {"\nlog-level: loud\n", "f:2: log-level: \"loud\" is not error, warning, info"},
	        {"slow-op: 5\n", "f:1: slow-op: \"5\" is not a time"},
	        {"slow-op: 99999999999999999999s\n", "f:1: slow-op: "},
	        {"slow-op: 18446744073709551615d\n", "f:1: slow-op: "},
	        {"slow-op: 5w\n", "f:1: slow-op: \"5w\" is not a time"},
	        {"limits: {depth: 0}\n", "f:1: limits.depth: 0 is not from 1 to 65536"},
	        {"limits: {depth: -1}\n", "f:1: limits.depth: \"-1\" is not a whole number"},
	        {"limits:\n  lease: 1ms\n", "f:2: limits.lease: 1ms is not from 1000 ms to"},
	        {"limits: {running-bytes: lots}\n",
	         "f:1: limits.running-bytes: \"lots\" is not a size"},
	        {"session:\n  weight: 1001\n", "f:2: session.weight: 1001 is not from 1 to 1000"},
	        {"tenants:\n  - name: a\n", "f:2: tenants[0] has no id"},
	        {"tenants:\n  - id: 1\n  - id: 2\n    weight: 0\n",
	         "f:4: tenants[1].weight: 0 is not"},
	        {"tenants:\n  - id: 1\n  - id: 1\n", "f:3: tenants[1].id: \"1\" is not free"},
	        {"tenants:\n  - id: 4294967295\n", "f:2: tenants[0].id: 4294967295 is not from"},
	        {"tenants:\n  - {id: 1, name: \"a\\x07\"}\n", "f:2: tenants[0].name: "},
	        {"channels: [\"pipe,tcp\"]\n", "f:1: channels[0]: \"pipe,tcp\" is not one channel"},
	        {"listen: [a,b,c,d,e,f,g,h,i]\n", "f:1: listen: more than 8"},
	};
	struct config c;
	struct pst_err err;

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		if (parse(&c, cases[i].text, &err) == 0)
			fail_msg("taken: %s", cases[i].text);
		if (strncmp(err.text, cases[i].said, strlen(cases[i].said)) != 0)
			fail_msg("said \"%s\", wanted \"%s\"", err.text, cases[i].said);
	}
}

static void test_files(void **state)
{
	struct pst_err err = {0};
	struct config c;
	char *big = mem_alloc(CONFIG_BYTES_MAX + 1);

	assert_int_equal(config_load(&c, "/nonexistent/f", &err), -ENOENT);
	assert_string_equal(err.text, "/nonexistent/f: No such file or directory");
	assert_int_equal(config_load(&c, "/", &err), -EISDIR);
	memset(big, '#', CONFIG_BYTES_MAX + 1);
	assert_int_equal(config_parse(&c, "f", big, CONFIG_BYTES_MAX + 1, &err), -E2BIG);
	mem_free(big);
}

static void test_override(void **state)
{
	struct server_opts over = {.socket = "cl", .listen = {"x"}, .listen_count = 1};
	struct pst_err err;
	struct config c;

	assert_int_equal(
	        parse(&c, "socket: file\nmetrics: m\nlisten: [a, b]\ninsecure: yes\n", &err), 0);
	config_override(&c.opts, &over);
	assert_string_equal(c.opts.socket, "cl");
	assert_string_equal(c.opts.metrics, "m");
	assert_int_equal(c.opts.listen_count, 1);
	assert_string_equal(c.opts.listen[0], "x");
	assert_true(c.opts.insecure);
	config_done(&c);
}

/* The first, second, third ... allocation fails until it passes: -ENOMEM and nothing else. */
static void test_no_memory(void **state)
{
	char *text = uncommented();
	struct pst_err err;
	struct config c;
	int rc = -1;

	for (uint64_t n = 1; rc != 0; n++) {
		mem_alloc_fail_at(n, true);
		rc = parse(&c, text, &err);
		mem_alloc_fail_at(0, false);
		assert_true(rc == 0 || rc == -ENOMEM);
		assert_true(n < 100000);
	}
	config_done(&c);
	mem_free(text);
}

/* What lies beside the pipe's socket is not the server's to take over, or to remove. */
static void test_beside(void **state)
{
	char dir[] = "/tmp/pst-config-XXXXXX", socket[64], beside[80];
	struct server_opts o = {.socket = socket};
	const char *device = "mem:1m", *at;
	static const char *const names[] = {".lock", ".control", ".control.lock"};
	struct pst_err err = {0};

	assert_non_null(mkdtemp(dir));
	(void)snprintf(socket, sizeof(socket), "%s/s", dir);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		int rc;

		(void)snprintf(beside, sizeof(beside), "%s%s", socket, names[i]);
		assert_int_equal(mkdir(beside, 0700), 0);
		rc = server_check(&o, &device, 1, &at, &err);
		assert_int_equal(rc, i == 0 || server_control_built ? -EEXIST : 0);
		assert_true(rc == 0 || strstr(err.text, beside));
		assert_ptr_equal(at, rc ? socket : device);
		o.control = "none";
		assert_int_equal(server_check(&o, &device, 1, &at, &err), i == 0 ? -EEXIST : 0);
		o.control = NULL;
		assert_int_equal(rmdir(beside), 0);
	}
	assert_int_equal(rmdir(dir), 0);
}

static void test_check(void **state)
{
	static const struct {
		struct server_opts o;
		const char *device, *said; /* NULL: good */
	} cases[] = {
	        {{0}, "mem:64m", NULL},
	        {{0}, "/nonexistent", "/nonexistent: No such file"},
	        {{0}, "uring:/nonexistent?direct=0", "/nonexistent: No such file"},
	        {{0}, "/", "/: neither a file nor"},
	        {{.listen = {"0.0.0.0:7440"}, .listen_count = 1, .seal = "off"},
	         "mem:1m",
	         "--listen 0.0.0.0:7440: others"},
	        {{.listen = {"0.0.0.0:7440"}, .listen_count = 1}, "mem:1m", NULL},
	        {{.seal = "maybe"}, "mem:1m", "--seal maybe: it is auto, required or off"},
	        {{.seal = "required", .insecure = true}, "mem:1m", "it is one of them"},
	        {{.listen = {"0.0.0.0:7440"}, .listen_count = 1, .insecure = true}, "mem:1m", NULL},
	        {{.listen = {"a:b"}, .listen_count = 1}, "mem:1m", "--listen a:b: write HOST:PORT"},
	        {{.listen = {"127.0.0.1:65536"}, .listen_count = 1},
	         "mem:1m",
	         "--listen 127.0.0.1:65536: there"},
	        {{.control = "1.2.3.4:5"}, "mem:1m", "--control 1.2.3.4:5: others"},
	        {{.control = "127.0.0.1"}, "mem:1m", "--control 127.0.0.1: write HOST:PORT"},
	        {{.control = ""}, "mem:1m", "--control (nothing): write HOST:PORT"},
	        {{.listen = {"127.0.0.1:18440"}, .listen_count = 1, .metrics = "127.0.0.1:18440"},
	         "mem:1m",
	         "--metrics 127.0.0.1:18440: --listen 127.0.0.1:18440 listens there already"},
	        {{.listen = {"127.0.0.1:18440"}, .listen_count = 1, .metrics = "0.0.0.0:18440"},
	         "mem:1m",
	         "--metrics 0.0.0.0:18440: --listen 127.0.0.1:18440 listens there already"},
	        {{.listen = {"127.0.0.1:18440"}, .listen_count = 1, .metrics = "[::]:18440"},
	         "mem:1m",
	         "listens there already"},
	        {{.listen = {"127.0.0.1:18440"}, .listen_count = 1, .metrics = "127.0.0.2:18440"},
	         "mem:1m",
	         NULL},
	        {{.listen = {"127.0.0.1:65534"}, .listen_count = 1}, "mem:1m", NULL},
	        {{.channels = "pipe,pipe"}, "mem:1m", "pipe is named twice"},
	        {{.channels = "tcp,pipe,tcp"}, "mem:1m", "tcp is named twice"},
	        {{.channels = "pipe:x"}, "mem:1m", "is for ofi alone"},
	        {{.channels = ""}, "mem:1m", "no channel \"\""},
	        {{.socket = "/nonexistent/x.sock"}, "mem:1m", "/nonexistent: No such file"},
	        {{.socket = "/etc/passwd"}, "mem:1m", "it is there, and no socket"},
	        {{.socket = ""}, "mem:1m", "--socket: no path"},
	        {{0}, "mem:banana", "mem: 'banana' is not a size"},
	        {{0}, "mem:1m?foo=1", "foo"},
	        {{0}, "null:1m?block=7", "512 or 4096"},
	        {{0}, "nosuchscheme:foo", "there is no device scheme 'nosuchscheme:'"},
	        {{0}, "pst://localhost", "there is no device scheme 'pst:'"},
	        {{0}, "local:mem:1m,mem:banana", "mem: 'banana' is not a size"},
	        {{0}, "local:mem:1m,mem:1m?ops=banana", "ops=banana"},
	        {{0}, "fault:mem:1m?read_error=2", "a probability is 0 to 1"},
	        {{0}, "fault:mem:1m?read_error=0.5&bar=1", "bar"},
	        {{0}, "/etc/hostname?foo=1", "foo"},
	        {{0}, "nvme+tcp:banana", "banana"},
	        {{0}, "multipath:round-robin:nvme+tcp:banana", "banana"},
	        {{0}, "multipath:mem:1m", "round-robin"},
	        {{.channels = "tcp,carrier-pigeon"},
	         "mem:1m",
	         "--channels: there is no channel \"carrier-pigeon\""},
	        {{.log_level = "x"}, "mem:1m", "--log-level x"},
	        {{.tls_cert = "/nonexistent"}, "mem:1m", "TLS takes a certificate"},
	        {{.tls_cert = "/nonexistent", .tls_key = "/nonexistent"}, "mem:1m", "/nonexistent"},
	};

	const char *none;

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct pst_err err = {0};
		const char *at;
		int rc = server_check(&cases[i].o, &cases[i].device, 1, &at, &err);

		assert_int_equal(rc == 0, !cases[i].said);
		if (cases[i].said && !strstr(err.text, cases[i].said))
			fail_msg("said \"%s\", wanted \"%s\"", err.text, cases[i].said);
	}
	/* What follows from an address collides, too, where there is a control plane. */
	if (server_control_built) {
		struct server_opts o = {.listen = {"127.0.0.1:18440"},
		                        .listen_count = 1,
		                        .metrics = "127.0.0.1:18441"};
		struct pst_err err = {0};
		const char *device = "mem:1m", *at;

		assert_int_equal(server_check(&o, &device, 1, &at, &err), -EADDRINUSE);
		assert_non_null(strstr(err.text, "the control plane (the port after --listen "
		                                 "127.0.0.1:18440) listens there already"));
		assert_ptr_equal(at, o.metrics);
		o.metrics = NULL;
		o.listen[0] = "127.0.0.1:65535";
		assert_int_equal(server_check(&o, &device, 1, &at, &err), -EINVAL);
		assert_non_null(strstr(err.text, "no port after it for the control plane"));
		assert_ptr_equal(at, o.listen[0]);
	}
	assert_true(server_check(&cases[0].o, NULL, 0, &none, NULL) == -EINVAL);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_example),   cmocka_unit_test(test_wrong),
	        cmocka_unit_test(test_files),     cmocka_unit_test(test_override),
	        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_check),
	        cmocka_unit_test(test_beside),
	};

	if (argc != 2)
		return 2;
	example = argv[1];
	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
