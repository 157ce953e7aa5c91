/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_session_more - the audit's lines and file; memory that runs out at each place; a store that
 * fails; records on media to the byte; planted bugs, which must show.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "session_util.h"

#define OWNER 1000

/* --- the audit --- */

static void test_audit_line(void **state)
{
	const struct audit_event e = {
	        .what = AUDIT_REQUEST,
	        .status = -EACCES,
	        .time_ns = 1750000000 * NSEC_PER_SEC + 5,
	        .session = 0xabc,
	        .who = "cert:\"x\"\n",
	        .tenant = 3,
	        .cap = 9,
	        .cont = 2,
	        .opcode = 16,
	        .name = "a\0\x7f\\",
	        .name_len = 4,
	        .peer = "tcp:[::1]:9",
	};
	char line[512], huge[4096];
	struct audit_event big = e;

	assert_true(audit_format(&e, line, sizeof(line)) < sizeof(line));
	assert_string_equal(
	        line,
	        "{\"time\":1750000000.000000005,\"event\":\"request\","
	        "\"result\":\"refused\",\"error\":\"EACCES\","
	        "\"who\":\"cert:\\u0022x\\u0022\\u000a\",\"peer\":\"tcp:[::1]:9\",\"tenant\":3,"
	        "\"session\":\"0000000000000abc\",\"capability\":9,"
	        "\"container\":2,\"op\":16,\"op_name\":\"read\",\"name\":"
	        "\"a\\u0000\\u007f\\u005c\"}");
	memset(huge, 1, sizeof(huge));
	big.name = huge;
	big.name_len = sizeof(huge);
	assert_true(audit_format(&big, line, sizeof(line)) > sizeof(line));
	assert_int_equal(strlen(line), sizeof(line) - 1);
}

/* All that can be in an event, as long as it can be, and of bytes that take the most room. */
static void test_audit_longest(void **state)
{
	const uint32_t caps[SESSION_CAPS_MAX] = {[0 ... SESSION_CAPS_MAX - 1] = UINT32_MAX};
	struct qos q = {UINT32_MAX, UINT32_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT32_MAX, 0};
	struct cap_info i = {.cont = UINT32_MAX,
	                     .rights = UINT32_MAX,
	                     .map = CAP_MAP_RANGES,
	                     .range_count = UINT8_MAX,
	                     .expiry_ns = UINT64_MAX,
	                     .bytes_per_s = UINT64_MAX,
	                     .ops_per_s = UINT64_MAX};
	char line[AUDIT_LINE_MAX], text[1000];
	struct audit_event e = {.what = AUDIT_SESSION_EXPIRE,
	                        .status = -EKEYREVOKED,
	                        .time_ns = UINT64_MAX,
	                        .session = UINT64_MAX,
	                        .cap = UINT64_MAX,
	                        .claims = UINT32_MAX,
	                        .caps = caps,
	                        .cap_count = SESSION_CAPS_MAX,
	                        .count = UINT64_MAX,
	                        .ino = UINT64_MAX,
	                        .dir = UINT64_MAX,
	                        .tenant = UINT32_MAX,
	                        .cont = UINT32_MAX,
	                        .opcode = PST_OP_CONT_DESTROY,
	                        .who = text,
	                        .peer = text,
	                        .name = text,
	                        .name_len = sizeof(text),
	                        .name2 = text,
	                        .name2_len = sizeof(text),
	                        .why = text,
	                        .grant = &i,
	                        .limits = &q,
	                        .lost = UINT64_MAX};

	memset(text, 0xff, sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	for (unsigned k = 0; k < CAP_RANGES_MAX; k++)
		i.range[k] = (struct cap_range){UINT32_MAX, UINT32_MAX};
	memset(i.cont_name, 0x1b, sizeof(i.cont_name)); /* and no end */
	memset(i.prefix, '"', sizeof(i.prefix));
	memset(i.subject, '\\', sizeof(i.subject));
	assert_true(audit_format(&e, line, sizeof(line)) < sizeof(line) - 1);
	assert_non_null(strstr(line, ",\"bit 31\"]"));
	assert_string_equal(line + strlen(line) - 28, "\"lost\":18446744073709551615}");
}

/* Every op that a client can ask for has a name. */
static void test_audit_ops(void **state)
{
	unsigned named = 0;

	for (unsigned op = 0; op < 256; op++)
		named += strcmp(audit_op_name((uint8_t)op), "?") != 0;
	assert_int_equal(named, 45);
	assert_string_equal(audit_op_name(PST_OP_CREATE), "create");
	assert_string_equal(audit_op_name(PST_OP_SESSION_CLOSE), "?");
}

/* What was granted, in whole; and what was asked for, where it was refused. */
static void test_audit_grants(void **state)
{
	struct sx x = {.opts = {.owner_uid = OWNER}};
	struct cap_info i = {.rights = RIGHT_READ | RIGHT_LIST,
	                     .cont_name = "train",
	                     .prefix = "/pub",
	                     .subject = "cert:bob",
	                     .ops_per_s = 5,
	                     .bytes_per_s = 6,
	                     .map = CAP_MAP_RANGES,
	                     .range_count = 2,
	                     .range = {{1, 2}, {7, 7}},
	                     .tenant = 9};
	const struct qos q = {.weight = 3, .ops_per_s = 70};
	struct pst_op op;
	struct client c = {0};
	struct cap_op o;
	char want[512];

	sx_start(&x);
	i.expiry_ns = loop_real_now(x.eng.loop) + NSEC_PER_SEC;
	assert_int_equal(sx_grant(&x, &i, NULL), -ENOENT);
	assert_non_null(strstr(x.line, "\"refused\",\"error\":\"ENOENT\""));
	assert_non_null(strstr(x.line, "\"container_name\":\"train\",\"prefix\":\"/pub\""));
	assert_null(strstr(x.line, "all_containers"));
	i.cont = sx_cont(&x, "train", PST_LAYOUT_POSIX);
	assert_int_equal(client_open_owner(&c, &x), 0);
	op = names_op(PST_OP_MKDIR, i.cont, "pub");
	assert_int_equal(client_run(&c, &op), 0);
	assert_int_equal(sx_grant(&x, &i, &o), 0);
	(void)snprintf(
	        want, sizeof(want),
	        "\"tenant\":9,\"capability\":%llu,\"container\":%u,\"rights\":[\"read\",\"list\"],"
	        "\"container_name\":\"train\",\"prefix\":\"/pub\",\"subject\":\"cert:bob\","
	        "\"ids\":\"1-2,7-7\",\"bytes_per_s\":6,\"ops_per_s\":5,\"expires\":%llu.%09u}",
	        (unsigned long long)o.info.id, i.cont,
	        (unsigned long long)(i.expiry_ns / NSEC_PER_SEC),
	        (unsigned)(i.expiry_ns % NSEC_PER_SEC));
	assert_string_equal(strstr(x.line, "\"tenant\":9"), want);
	/* Renewed: all of it again, with its new end; refused: with the end that it did not get. */
	assert_int_equal(sx_renew(&x, o.info.id, 0), 0);
	assert_non_null(strstr(x.line, "\"granted\""));
	assert_non_null(strstr(x.line, "\"prefix\":\"/pub\""));
	assert_non_null(strstr(x.line, "\"expires\":0.000000000}"));
	assert_int_equal(sx_renew(&x, 99, 7 * NSEC_PER_SEC), -ENOENT);
	assert_non_null(strstr(x.line, "\"capability\":99,\"expires\":7.000000000}"));
	assert_int_equal(sx_revoke(&x, o.info.id), 0);
	assert_non_null(strstr(x.line, "\"event\":\"capability-revoke\",\"result\":\"granted\""));
	assert_non_null(strstr(x.line, "\"subject\":\"cert:bob\""));
	i = (struct cap_info){.rights = RIGHTS_ALL, .map = CAP_MAP_SQUASH, .uid = 3, .gid = 4};
	assert_int_equal(sx_grant(&x, &i, NULL), 0);
	assert_non_null(strstr(x.line, "\"all_containers\":true,\"ids\":\"3:4\",\"expires\":0."));
	/* Tenants. */
	assert_int_equal(sx_tenant(&x, 9, "acme", &q), 0);
	assert_non_null(
	        strstr(x.line, "\"tenant\":9,\"name\":\"acme\",\"weight\":3,\"ops_per_s\":70}"));
	assert_int_equal(sx_tenant(&x, 9, "acme", &(struct qos){.weight = 5000}), -EINVAL);
	assert_int_equal(sx_last(&x)->what, AUDIT_TENANT);
	assert_int_equal(sx_last(&x)->status, -EINVAL);
	assert_non_null(strstr(x.line, "\"weight\":5000}"));
	assert_int_equal(client_bye(&c), 0);
	sx_end(&x);
}

static void test_audit_file(void **state)
{
	char dir[] = "/tmp/penstock-audit-XXXXXX", path[64], old[64], text[4096];
	struct audit_event e = {.what = AUDIT_GRANT, .who = "x"};
	struct audit_file *f;
	struct pst_err err;
	struct stat st;
	ssize_t n;
	int fd;

	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/log", dir);
	(void)snprintf(old, sizeof(old), "%s/log.1", dir);
	assert_int_equal(audit_file_open(&f, path, &err), 0);
	for (unsigned i = 0; i < 3; i++)
		audit_file_write(f, &e);
	assert_int_equal(rename(path, old), 0);
	audit_file_write(f, &e);
	assert_int_equal(audit_file_reopen(f, &err), 0);
	audit_file_write(f, &e);
	assert_int_equal(audit_file_lost(f), 0);
	audit_file_close(f);
	fd = open(old, O_RDONLY);
	n = read(fd, text, sizeof(text));
	close(fd);
	unsigned lines = 0;
	for (ssize_t i = 0; i < n; i++)
		lines += text[i] == '\n';
	assert_int_equal(lines, 4);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(st.st_size, n / 4);
	/* A link in its place is not followed. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink(old, path), 0);
	assert_int_equal(audit_file_open(&f, path, &err), -ELOOP);
	assert_non_null(strstr(err.text, path));
	(void)unlink(path);
	(void)unlink(old);
	(void)rmdir(dir);
}

/* A disk that is full in the middle of a line: the next one that fits is whole, and says what is missing. */
static void test_audit_full(void **state)
{
	char path[] = "/tmp/penstock-audit-XXXXXX", text[4096] = "", line[256];
	struct audit_event e = {.what = AUDIT_GRANT, .who = "x", .time_ns = NSEC_PER_SEC};
	size_t len = audit_format(&e, line, sizeof(line)) + 1;
	struct rlimit was, full = {.rlim_cur = 2 * len + 10};
	struct audit_file *f;
	struct pst_err err;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	full.rlim_max = was.rlim_max;
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(audit_file_open(&f, path, &err), 0);
	audit_file_write(f, &e);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
	audit_file_write(f, &e);
	audit_file_write(f, &e); /* ten bytes of it */
	audit_file_write(f, &e);
	assert_int_equal(audit_file_lost(f), 2);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	audit_file_write(f, &e);
	audit_file_write(f, &e);
	assert_int_equal(audit_file_lost(f), 2);
	audit_file_close(f);
	assert_int_equal(read(fd, text, sizeof(text)),
	                 5 * len + 10 + strlen("\n,\"lost\":2") - len);
	/* line line torn line,"lost":2 line */
	char *at = text + 2 * len + 10;
	assert_memory_equal(at - 10, line, 10);
	assert_memory_equal(at, "\n{", 2);
	assert_memory_equal(at + len - 1, ",\"lost\":2}\n{", strlen(",\"lost\":2}\n{"));
	/* Who comes after one that ended so begins with a new line, too. */
	assert_int_equal(ftruncate(fd, (off_t)len + 10), 0);
	assert_int_equal(audit_file_open(&f, path, &err), 0);
	audit_file_write(f, &e);
	audit_file_close(f);
	assert_int_equal(pread(fd, text, sizeof(text), 0), 2 * len + 11);
	assert_memory_equal(text + len + 10, "\n{", 2);
	assert_int_equal(audit_file_lost(NULL), 0);
	close(fd);
	(void)unlink(path);
}

/* So many refusals a second are told, then their number. */
static void test_audit_flood(void **state)
{
	struct sx x = {.opts = {.owner_uid = OWNER}};
	struct client c = {0};
	struct pst_op op;

	sx_start(&x);
	assert_int_equal(client_open_owner(&c, &x), 0);
	sx_forget(&x);
	for (unsigned i = 0; i < 3 * AUDIT_PER_S; i++) {
		op = names_op(PST_OP_CONT_OPEN, 0, SYS_CONT_NAME);
		assert_int_equal(client_run(&c, &op), -ENOENT);
	}
	assert_int_equal(x.events, AUDIT_PER_S);
	sx_sleep(&x, 20 * NSEC_PER_SEC);
	assert_int_equal(sx_last(&x)->what, AUDIT_SUPPRESSED);
	assert_int_equal(sx_last(&x)->count, 2 * AUDIT_PER_S);
	/* Nor may who does not even get in. */
	sx_forget(&x);
	for (unsigned i = 0; i < 3 * AUDIT_PER_S; i++) {
		struct ident id = {0};

		assert_int_equal(session_auth_token(x.t, &id, "pst1", 4), -EBADF);
	}
	assert_int_equal(x.events, AUDIT_PER_S);
	sx_sleep(&x, 20 * NSEC_PER_SEC);
	assert_int_equal(sx_last(&x)->what, AUDIT_SUPPRESSED);
	assert_int_equal(sx_last(&x)->count, 2 * AUDIT_PER_S);
	assert_int_equal(client_bye(&c), 0);
	sx_end(&x);
}

/* --- memory that runs out --- */

/* The engine says -ENOSPC when its index can't grow. */
static bool no_memory(int rc)
{
	return rc == -ENOMEM || rc == -ENOSPC;
}

/* Everything that a client does, with the n-th allocation failing: an error or success, and whatever
 * was begun can be ended. True: nothing was asked for that failed. */
static bool all_with_failure(uint64_t n)
{
	struct sx x = {.opts = {.owner_uid = OWNER}, .eng.plain = true};
	struct cap_info i = {.cont_name = "a", .prefix = "d", .rights = RIGHTS_ALL};
	struct qos q = {.weight = 3};
	struct client c = {0}, o = {0};
	struct cap_op cap = {0};
	uint64_t asked = 0;
	uint32_t cont;
	struct pst_op op;
	int rc;

	sx_start(&x);
	cont = sx_cont(&x, "a", PST_LAYOUT_POSIX);
	assert_int_equal(client_open_owner(&o, &x), 0);
	op = names_op(PST_OP_MKDIR, cont, "d");
	assert_int_equal(client_run(&o, &op), 0);
	(void)mem_alloc_fail_at(n, false);
	rc = sx_grant(&x, &i, &cap);
	assert_true(rc == 0 || no_memory(rc));
	if (!rc) {
		(void)sx_tenant(&x, 9, "nine", &q);
		rc = client_open_token(&c, &x, cap.token);
		assert_true(rc == 0 || no_memory(rc));
	}
	if (!rc) {
		rc = client_create(&c, cont, "f", "text", NULL);
		assert_true(rc == 0 || no_memory(rc));
		op = names_op(PST_OP_FILE_OPEN, cont, "f");
		if (!rc && !client_run(&c, &op) && c.has_got) {
			uint8_t h[SESSION_HANDLE_BYTES];
			char buf[8];

			memcpy(h, c.got, sizeof(h));
			c.handle = h;
			rc = client_read(&c, cont, op.ino, buf, sizeof(buf));
			assert_true(rc == 0 || no_memory(rc));
			c.handle = NULL;
		}
		(void)sx_rotate(&x);
		(void)sx_renew(&x, cap.info.id, 0);
		(void)sx_revoke(&x, cap.info.id);
		(void)client_bye(&c);
	}
	asked = mem_alloc_fail_at(0, false);
	client_unlink(&c);
	client_unlink(&o);
	sx_end(&x);
	return asked < n;
}

static void test_no_memory(void **state)
{
	uint64_t n = 1;

	while (!all_with_failure(n))
		n++;
	assert_true(n > 20);
}

/* Opening the table, on a store that has something of each kind. */
static void test_no_memory_open(void **state)
{
	struct sx x = {.opts = {.owner_uid = OWNER}};
	struct cap_info i = {.cont_name = "a", .rights = RIGHTS_ALL};
	struct qos q = {.weight = 3};
	struct client o = {0};
	uint64_t n = 0;
	int rc;

	sx_start(&x);
	(void)sx_cont(&x, "a", PST_LAYOUT_POSIX);
	assert_int_equal(sx_grant(&x, &i, NULL), 0);
	assert_int_equal(sx_tenant(&x, 9, "nine", &q), 0);
	assert_int_equal(client_open_owner(&o, &x), 0);
	client_unlink(&o);
	do {
		session_table_close(x.t);
		x.t = NULL;
		(void)mem_alloc_fail_at(++n, false);
		rc = session_table_open(&x.t, &x.door, &x.opts, &x.err);
		(void)mem_alloc_fail_at(0, false);
		assert_true(rc == 0 || rc == -ENOMEM);
	} while (rc);
	assert_true(n > 10);
	client_link(&o, &x);
	assert_int_equal(client_resume(&o), 0);
	client_unlink(&o);
	sx_end(&x);
}

/* --- a store that fails --- */

static void test_device_fails(void **state)
{
	struct sx x = {.opts = {.owner_uid = OWNER}};
	struct cap_info i = {.cont_name = "a", .rights = RIGHT_READ};
	struct client o = {0}, c = {0};
	struct cap_op cap;
	struct ident id = {0};

	sx_start(&x);
	(void)sx_cont(&x, "a", PST_LAYOUT_POSIX);
	assert_int_equal(client_open_owner(&o, &x), 0);
	assert_int_equal(sx_grant(&x, &i, &cap), 0);
	local_stop(eng_local(&x.eng), -EIO, "the test says so");
	assert_int_equal(client_open_owner(&c, &x), -EIO);
	assert_int_equal(sx_grant(&x, &i, NULL), -EIO);
	assert_int_equal(sx_rotate(&x), -EIO);
	/* A revocation counts at once, whatever the store does. */
	assert_int_equal(sx_revoke(&x, cap.info.id), -EIO);
	assert_int_equal(session_auth_token(x.t, &id, cap.token, strlen(cap.token)), -EKEYREVOKED);
	client_unlink(&o);
	session_table_close(x.t);
	x.t = NULL;
	(void)store_close(x.fs);
	eng_end(&x.eng);
}

/* What lies in the container and is no record of ours is noticed. */
static void test_damaged(void **state)
{
	static const struct {
		const char *key;
		unsigned key_len, len;
	} bad[] = {{"K\0\2", 3, 39},
	           {"C\0\0\0\0\0\0\0\2", 9, 816},
	           {"S\0\0\0\0\0\0\0\2", 9, 256},
	           {"T\0\0\0\2", 5, 111},
	           {"n", 1, 8}};
	static uint8_t zero[1024];

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct sx x = {.opts = {.owner_uid = OWNER}};
		struct pst_mut m = {.kind = PST_KV_PUT,
		                    .oid = {SYS_OID_HI, 1},
		                    .key = bad[i].key,
		                    .key_len = bad[i].key_len,
		                    .val = zero,
		                    .val_len = bad[i].len};
		uint32_t cont;

		sx_start(&x);
		cont = x.t->sys_cont;
		session_table_close(x.t);
		assert_int_equal(ops_batch(x.fs, cont, &m, 1), 0);
		assert_int_equal(session_table_open(&x.t, &x.door, &x.opts, &x.err), -EBADMSG);
		assert_non_null(strstr(x.err.text, "record"));
		x.t = NULL;
		assert_int_equal(store_close(x.fs), 0);
		eng_end(&x.eng);
	}
}

/* --- formats --- */

static void test_golden(void **state)
{
	struct sx x = {.opts = {.owner_uid = OWNER}};
	struct cap_info i = {.cont_name = "a",
	                     .rights = 0x1f,
	                     .tenant = 7,
	                     .map = CAP_MAP_RANGES,
	                     .range_count = 1,
	                     .range = {{5, 6}},
	                     .subject = "uid:5",
	                     .bytes_per_s = 9,
	                     .ops_per_s = 10};
	struct cap_op cap;
	struct cap_rec r;
	uint64_t len;
	const char key[9] = {'C', 0, 0, 0, 0, 0, 0, 0, 2};
	const uint8_t head[36] = {1, 2, 1, 0, 1, 0, 0,    0, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0,
	                          0, 0, 2, 0, 0, 0, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	struct pst_op op = {.opcode = PST_OP_KV_GET,
	                    .oid = {SYS_OID_HI, 1},
	                    .key = key,
	                    .key_len = 9,
	                    .val = &r,
	                    .val_cap = sizeof(r)};

	sx_start(&x);
	assert_int_equal(sx_cont(&x, "a", PST_LAYOUT_POSIX), 2);
	assert_int_equal(sx_grant(&x, &i, &cap), 0);
	op.cont = x.t->sys_cont;
	assert_int_equal(ops_run(x.fs, &op), 0);
	len = op.ret_len;
	assert_int_equal(len, 816);
	assert_memory_equal(&r, head, sizeof(head));
	assert_memory_equal((uint8_t *)&r + 112, "uid:5", 6);
	assert_memory_equal((uint8_t *)&r + 432, "a", 2);
	assert_memory_equal((uint8_t *)&r + 688, "\5\0\0\0\6\0\0\0", 9);
	assert_memory_equal((uint8_t *)&r + 64, "\11\0\0\0\0\0\0\0\12", 9);
	sx_end(&x);
}

/* --- many are stopped at once --- */

#define MANY 16000

static bool every_read(const struct pst_op *op)
{
	return op->opcode == PST_OP_READ;
}

static unsigned stops;
static void stop_counted(struct session_req *r)
{
	stops++;
}

static void revoke_over(struct cap_op *o, int status)
{
	assert_int_equal(status, 0);
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts), 0);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* A client by a capability for container "a"; how to revoke it is made ready in @rev. */
static uint32_t guest_start(struct sx *x, struct client *c, struct cap_op *rev)
{
	struct cap_info i = {.cont_name = "a", .rights = RIGHT_READ};
	struct cap_op cap;
	uint32_t cont;

	sx_start(x);
	cont = sx_cont(x, "a", PST_LAYOUT_OBJECT);
	assert_int_equal(sx_grant(x, &i, &cap), 0);
	assert_int_equal(client_open_token(c, x, cap.token), 0);
	*rev = (struct cap_op){.by = "operator", .done = revoke_over};
	rev->info.id = cap.info.id;
	return cont;
}

/*
 * To stop them takes less than it took to begin them, by far: a hundredth. When each one's end had
 * the search for the next begin anew, it was a hundred times as long.
 */
static void test_revoke_of_many(void **state)
{
	struct sx x = {.opts = {.owner_uid = OWNER, .running_max = MANY}};
	struct creq *q = calloc(MANY, sizeof(*q));
	struct client c = {0};
	uint64_t start, begun, stopped;
	struct cap_op rev;
	uint32_t cont;

	x.opts.session.depth_max = x.opts.tenant.depth_max = MANY;
	cont = guest_start(&x, &c, &rev);
	x.hold = every_read;
	start = cpu_ns();
	for (unsigned i = 0; i < MANY; i++) {
		q[i].r.op = (struct pst_op){.opcode = PST_OP_READ, .cont = cont, .oid = oid_of(1)};
		q[i].r.stop = stop_counted;
		creq_start(&q[i], &c);
		assert_int_equal(q[i].admit, 0);
	}
	begun = cpu_ns();
	stops = 0;
	assert_int_equal(cap_revoke(x.t, &rev), 0);
	stopped = cpu_ns();
	assert_int_equal(stops, MANY);
	assert_in_range(stopped - begun, 0, begun - start);
	sx_release(&x);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(creq_wait(&q[i]), -EKEYREVOKED);
	assert_int_equal(client_bye(&c), 0);
	sx_end(&x);
	free(q);
}

/* Requests of which the end of one ends another, too, and gives its memory back. */
static struct creq *chain[8];
static int chain_status[8]; /* 1: not ended */

static void chain_end(unsigned i, int status)
{
	assert_int_equal(chain_status[i], 1);
	chain_status[i] = status;
	free(chain[i]);
	chain[i] = NULL;
}

static unsigned chain_at(const struct session_req *r)
{
	for (unsigned i = 0; i < ARRAY_LEN(chain); i++)
		if (chain[i] && &chain[i]->r == r)
			return i;
	fail_msg("none of them");
	return 0;
}

static void chain_stop(struct session_req *r)
{
	unsigned i = chain_at(r);

	if (i + 1 < 4 && chain[i + 1])
		chain_end(i + 1, session_end(&chain[i + 1]->r));
}

static void chain_go(struct session_req *r, int status)
{
	unsigned i = chain_at(r);

	assert_int_not_equal(status, 0);
	chain_end(i, status);
	if (i == 5 && chain[2])
		chain_end(2, session_end(&chain[2]->r));
}

static void test_stop_from_inside(void **state)
{
	/* Who is left to end by himself: after a revocation, the session's end, the connection's. */
	static const unsigned left[] = {1 << 0, 1 << 0 | 1 << 3, 1 << 0 | 1 << 1 | 1 << 3};

	for (unsigned how = 0; how < ARRAY_LEN(left); how++) {
		struct sx x = {.opts = {.owner_uid = OWNER, .running_max = 4}};
		struct client c = {0};
		struct cap_op rev;
		uint32_t cont = guest_start(&x, &c, &rev);

		for (unsigned i = 0; i < ARRAY_LEN(chain); i++) {
			struct creq *q = chain[i] = calloc(1, sizeof(*q));

			q->r.op = (struct pst_op){
			        .opcode = PST_OP_READ, .cont = cont, .oid = oid_of(1)};
			q->r.go = chain_go;
			q->r.stop = chain_stop;
			chain_status[i] = 1;
			assert_int_equal(session_admit(&c.conn, &q->r), i < 4 ? 0 : -EINPROGRESS);
		}
		if (how == 0)
			assert_int_equal(cap_revoke(x.t, &rev), 0);
		else if (how == 1)
			assert_int_equal(session_close(&c.conn), 0);
		else
			client_unlink(&c);
		for (unsigned i = 0; i < ARRAY_LEN(chain); i++) {
			bool goes_on = left[how] >> i & 1;

			assert_true((chain_status[i] == 1) == goes_on);
			if (goes_on)
				chain_end(i, session_end(&chain[i]->r));
		}
		sx_turn(&x);
		if (c.linked)
			client_unlink(&c);
		sx_end(&x);
	}
}

/* --- planted bugs: each must show in what the other tests look at --- */

#ifdef PST_TEST_FAULTS
#define NEEDS_FAULTS ((void)0)
#else
#define NEEDS_FAULTS skip()
#endif

static void test_planted_revoked(void **state)
{
	struct sx x = {.opts = {.owner_uid = OWNER, .plant = SESSION_PLANT_SERVE_REVOKED}};
	struct cap_info i = {.cont_name = "a", .rights = RIGHT_READ};
	struct client c = {0};
	struct cap_op cap;
	struct pst_op op = {.opcode = PST_OP_READ};

	NEEDS_FAULTS;
	sx_start(&x);
	op.cont = sx_cont(&x, "a", PST_LAYOUT_OBJECT);
	op.oid = oid_of(1);
	assert_int_equal(sx_grant(&x, &i, &cap), 0);
	assert_int_equal(client_open_token(&c, &x, cap.token), 0);
	assert_int_equal(sx_revoke(&x, cap.info.id), 0);
	assert_int_equal(client_run(&c, &op), 0);
	assert_int_equal(client_bye(&c), 0);
	sx_end(&x);
}

static void test_planted_reexecute(void **state)
{
	struct sx x = {.opts = {.owner_uid = OWNER, .plant = SESSION_PLANT_REEXECUTE}};
	struct pst_mut m = {
	        .kind = PST_ARRAY_APPEND, .oid = {0, 1}, .val = "x", .val_len = 1, .len = 1};
	struct client c = {0};
	struct pst_obj_stat st;
	uint32_t cont;

	NEEDS_FAULTS;
	sx_start(&x);
	cont = sx_cont(&x, "a", PST_LAYOUT_OBJECT);
	assert_int_equal(client_open_owner(&c, &x), 0);
	for (unsigned n = 0; n < 2; n++) {
		struct pst_op op = {
		        .opcode = PST_OP_BATCH, .cont = cont, .muts = &m, .mut_count = 1};

		op.token = (struct pst_token){.session = c.number, .seq = 1};
		assert_int_equal(client_run(&c, &op), 0);
	}
	assert_int_equal(ops_stat(x.fs, cont, 0, oid_of(1), &st), 0);
	assert_int_equal(st.size_bytes, 2);
	assert_int_equal(client_bye(&c), 0);
	sx_end(&x);
}

static void test_planted_fence(void **state)
{
	struct sx x = {.opts = {.owner_uid = OWNER, .plant = SESSION_PLANT_NO_FENCE}};
	struct client c = {0}, again = {0};
	struct pst_op op = {.opcode = PST_OP_STATUS};
	struct pst_store_status st;

	NEEDS_FAULTS;
	sx_start(&x);
	assert_int_equal(client_open_owner(&c, &x), 0);
	again = (struct client){.number = c.number};
	memcpy(again.secret, c.secret, sizeof(c.secret));
	client_link(&again, &x);
	assert_int_equal(client_resume(&again), 0);
	op.status_out = &st;
	assert_int_equal(client_run(&c, &op), 0);
	assert_int_equal(c.cut, 0);
	client_unlink(&c);
	assert_int_equal(client_bye(&again), 0);
	sx_end(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_audit_line),        cmocka_unit_test(test_audit_file),
	        cmocka_unit_test(test_audit_longest),     cmocka_unit_test(test_audit_ops),
	        cmocka_unit_test(test_audit_grants),      cmocka_unit_test(test_audit_full),
	        cmocka_unit_test(test_audit_flood),       cmocka_unit_test(test_no_memory),
	        cmocka_unit_test(test_no_memory_open),    cmocka_unit_test(test_device_fails),
	        cmocka_unit_test(test_damaged),           cmocka_unit_test(test_golden),
	        cmocka_unit_test(test_revoke_of_many),    cmocka_unit_test(test_stop_from_inside),
	        cmocka_unit_test(test_planted_fence),     cmocka_unit_test(test_planted_revoked),
	        cmocka_unit_test(test_planted_reexecute),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
