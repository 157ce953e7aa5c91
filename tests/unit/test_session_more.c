/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_session_more - memory that runs out at each place; a store that fails; records on media to the byte; planted
 * bugs, which must show.
 */
#include "session_util.h"

#define OWNER 1000

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
	        cmocka_unit_test(test_no_memory),        cmocka_unit_test(test_no_memory_open),
	        cmocka_unit_test(test_device_fails),     cmocka_unit_test(test_damaged),
	        cmocka_unit_test(test_golden),           cmocka_unit_test(test_revoke_of_many),
	        cmocka_unit_test(test_stop_from_inside), cmocka_unit_test(test_planted_fence),
	        cmocka_unit_test(test_planted_revoked),  cmocka_unit_test(test_planted_reexecute),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
