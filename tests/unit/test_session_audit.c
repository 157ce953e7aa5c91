/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_session_audit - the audit: its lines, whatever is in them, and its file, on a full disk too; what it says of grants,
 * of who came and from where, of calls that manage the server.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "session_world.h"

/* --- lines, and the file --- */

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
	/* Nor is a pipe waited for, read or not. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(audit_file_open(&f, path, &err), -EINVAL);
	fd = open(path, O_RDONLY | O_NONBLOCK);
	assert_true(fd >= 0);
	assert_int_equal(audit_file_open(&f, path, &err), -EINVAL);
	assert_non_null(strstr(err.text, "it is a pipe"));
	close(fd);
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

/* --- who came --- */

#define says(w, status, who, cap, claims) says_(w, status, who, cap, claims, __LINE__)
static void says_(struct world *w, int status, const char *who, uint64_t cap, uint32_t claims,
                  int line)
{
	const struct audit_event *e = sx_last(&w->x);

	_assert_int_equal((uint64_t)e->what, AUDIT_AUTH, __FILE__, line);
	_assert_int_equal((uint64_t)(int64_t)e->status, (uint64_t)(int64_t)status, __FILE__, line);
	_assert_string_equal(e->who, who, __FILE__, line);
	_assert_int_equal(e->cap, cap, __FILE__, line);
	_assert_int_equal(e->claims, claims, __FILE__, line);
	_assert_true(strstr(w->x.line, "\"peer\":\"there\"") != NULL, "peer", __FILE__, line);
}

static int show(struct world *w, const char *token)
{
	struct ident id = {.peer = "there"};

	return session_auth_token(w->x.t, &id, token, strlen(token));
}

/* A number is its holder's name when the token's MAC was good, and a claim when nobody can know; that of another
 * store's token means nothing here. */
static void test_who_came(void **state)
{
	struct world w = {0};
	struct cap_info i = {.cont_name = "b", .rights = RIGHT_READ};
	uint8_t head[TOKEN_HEAD_BYTES], secret[TOKEN_SECRET_BYTES];
	char name[16], bad[CAP_TOKEN_MAX];
	struct cap_op o;

	world_start(&w);
	i.expiry_ns = loop_real_now(w.x.eng.loop) + NSEC_PER_SEC;
	assert_int_equal(sx_grant(&w.x, &i, &o), 0);
	(void)snprintf(name, sizeof(name), "token:%u", (unsigned)o.info.id);
	assert_int_equal(show(&w, o.token), 0);
	says(&w, 0, name, o.info.id, 0);
	sx_sleep(&w.x, 2 * NSEC_PER_SEC);
	assert_int_equal(show(&w, o.token), -EKEYEXPIRED);
	says(&w, -EKEYEXPIRED, name, o.info.id, 0);
	memcpy(bad, o.token, sizeof(bad));
	bad[50] = bad[50] == 'A' ? 'B' : 'A'; /* in the MAC */
	assert_int_equal(show(&w, bad), -EBADF);
	says(&w, -EBADF, "token:?", 0, (uint32_t)o.info.id);
	cap_find(w.x.t, o.info.id)->revoked = true; /* while requests of it run */
	assert_int_equal(show(&w, o.token), -EKEYREVOKED);
	says(&w, -EKEYREVOKED, name, o.info.id, 0);
	cap_find(w.x.t, o.info.id)->revoked = false;
	/* A head alone is a claim, of this store or of another one. */
	head_of(o.token, head);
	session_token_forged(w.x.t, "there", head);
	says(&w, -EBADF, "token:?", 0, (uint32_t)o.info.id);
	head[5] ^= 1; /* the store */
	session_token_forged(w.x.t, "there", head);
	says(&w, -EBADF, "token:?", 0, 0);
	assert_int_equal(session_token_secret(w.x.t, "there", head, secret), -EBADF);
	says(&w, -EBADF, "token:?", 0, 0);
	/* Its key is gone. */
	assert_int_equal(sx_revoke(&w.x, o.info.id), 0);
	assert_int_equal(show(&w, o.token), -EKEYREVOKED);
	says(&w, -EKEYREVOKED, "token:?", 0, (uint32_t)o.info.id);
	world_end(&w);
}

/* Each call that manages the server is told, whether it may be or not. */
static void test_control_calls(void **state)
{
	struct world w = {0};
	struct ident id = {.peer = "there"};

	world_start(&w);
	assert_int_equal(session_auth_peer(w.x.t, &id, OWNER, 0), 0);
	assert_int_equal(session_auth_admin(w.x.t, &id, "/x/List"), 0);
	assert_int_equal(sx_last(&w.x)->what, AUDIT_CONTROL);
	assert_non_null(strstr(w.x.line,
	                       "\"event\":\"control-call\",\"result\":\"granted\",\"who\":\"uid:"));
	assert_non_null(strstr(w.x.line, "\"peer\":\"there\""));
	assert_non_null(strstr(w.x.line, "\"name\":\"/x/List\""));
	id = (struct ident){.who = "uid:7"};
	assert_int_equal(session_auth_admin(w.x.t, &id, "/x/List"), -EACCES);
	assert_int_equal(sx_last(&w.x)->what, AUDIT_CONTROL);
	assert_int_equal(sx_last(&w.x)->status, -EACCES);
	world_end(&w);
}

/* Sessions and what they are refused: from where. */
static void test_peers(void **state)
{
	struct world w = {0};
	struct client c = {0};
	struct cap_op o;
	struct pst_op op;

	world_start(&w);
	o = grant(&w, "b", RIGHT_READ);
	assert_int_equal(client_open_token(&c, &w.x, o.token), 0);
	c.conn.peer = "tcp:[::1]:9";
	op = names_op(PST_OP_CONT_DESTROY, 0, "b");
	assert_int_equal(client_run(&c, &op), -EACCES);
	assert_non_null(strstr(w.x.line, "\"peer\":\"tcp:[::1]:9\""));
	assert_non_null(strstr(w.x.line, "\"op_name\":\"container-destroy\""));
	session_conn_refused(&c.conn, -EPERM, "it has to be sealed");
	assert_non_null(strstr(w.x.line,
	                       "\"event\":\"channel\",\"result\":\"refused\",\"error\":\"EPERM\","
	                       "\"peer\":\"tcp:[::1]:9\",\"why\":\"it has to be sealed\"}"));
	assert_int_equal(client_bye(&c), 0);
	assert_int_equal(sx_last(&w.x)->what, AUDIT_SESSION_CLOSE);
	assert_non_null(strstr(w.x.line, "\"peer\":\"tcp:[::1]:9\""));
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_audit_line),    cmocka_unit_test(test_audit_file),
	        cmocka_unit_test(test_audit_longest), cmocka_unit_test(test_audit_ops),
	        cmocka_unit_test(test_audit_grants),  cmocka_unit_test(test_audit_full),
	        cmocka_unit_test(test_audit_flood),   cmocka_unit_test(test_who_came),
	        cmocka_unit_test(test_control_calls), cmocka_unit_test(test_peers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
