/* SPDX-License-Identifier: BSD-3-Clause */
/* As many sessions as may be: who makes room, and who does not; sessions that nobody may use any more. */
#include "session_world.h"

static int back(struct world *w, struct client *c)
{
	int rc;

	client_link(c, &w->x);
	rc = client_resume(c);
	client_unlink(c);
	return rc;
}

/* The holder who has most loses the session that was silent for longest. */
static void makes_room(void **state)
{
	struct world w = {.x.opts.sessions_max = 6};
	struct client one[6] = {0}, two = {0}, silent = {0};
	struct cap_op many, few;
	struct table_figures f;

	world_start(&w);
	many = grant(&w, "b", RIGHTS_ALL);
	few = grant(&w, "a", RIGHTS_ALL);
	assert_int_equal(client_open_owner(&silent, &w.x), 0);
	client_unlink(&silent);
	for (unsigned i = 0; i < 4; i++) {
		sx_sleep(&w.x, NSEC_PER_SEC);
		assert_int_equal(client_open_token(&one[i], &w.x, many.token), 0);
		if (i) /* the first one stays connected */
			client_unlink(&one[i]);
	}
	sx_forget(&w.x);
	assert_int_equal(client_open_token(&two, &w.x, few.token), 0);
	assert_true(sx_audited(&w.x, AUDIT_SESSION_EXPIRE, 0));
	assert_int_equal(client_open_token(&one[4], &w.x, many.token), 0);
	assert_int_equal(one[0].cut, 0);
	client_unlink(&one[0]);
	assert_int_equal(back(&w, &one[0]), 0);
	assert_int_equal(back(&w, &one[1]), -ESTALE);
	assert_int_equal(back(&w, &one[2]), -ESTALE);
	assert_int_equal(back(&w, &one[3]), 0);
	assert_int_equal(back(&w, &silent), 0);
	session_table_figures(w.x.t, &f);
	assert_int_equal(f.displaced, 2);
	assert_int_equal(f.sessions, 6);
	client_unlink(&two);
	client_unlink(&one[4]);
	/* What went is gone from the store too. */
	client_unlink(&w.owner);
	sx_cut(&w.x);
	assert_int_equal(back(&w, &one[1]), -ESTALE);
	assert_int_equal(back(&w, &one[3]), 0);
	world_end(&w);
}

/* Where a client is, or a request, nobody is moved away; but between the calls of a control plane. */
static void stays_while_used(void **state)
{
	struct world w = {.x.opts.sessions_max = 3};
	struct client a = {0}, b = {0}, c = {0};
	struct creq q = {0};
	struct cap_op o;
	static char data[8];

	world_start(&w);
	o = grant(&w, "b", RIGHTS_ALL);
	assert_int_equal(client_open_token(&a, &w.x, o.token), 0);
	assert_int_equal(client_open_token(&b, &w.x, o.token), 0);
	assert_int_equal(client_open_token(&c, &w.x, o.token), -EAGAIN);
	q.iov = (struct iovec){data, sizeof(data)};
	q.r.op = (struct pst_op){.opcode = PST_OP_READ,
	                         .cont = w.b,
	                         .oid = {.lo = 1},
	                         .iov = &q.iov,
	                         .iov_count = 1,
	                         .len = sizeof(data)};
	w.x.busy = true;
	creq_start(&q, &b);
	b.conn.between_calls = true;
	assert_int_equal(client_open_token(&c, &w.x, o.token), -EAGAIN);
	w.x.busy = false;
	(void)creq_wait(&q);
	assert_int_equal(client_open_token(&c, &w.x, o.token), 0);
	assert_int_equal(b.cut, -ESTALE);
	assert_null(b.conn.session);
	assert_int_equal(a.cut, 0);
	client_unlink(&b);
	assert_int_equal(back(&w, &b), -ESTALE);
	assert_int_equal(client_bye(&a), 0);
	assert_int_equal(client_bye(&c), 0);
	world_end(&w);
}

/* A tenant that is full ends sessions of its own, and of no other. */
static void tenant_makes_room(void **state)
{
	struct world w = {.x.opts.sessions_max =
	                          4}; /* with the owner's, both limits are reached at once */
	struct cap_info i = {.cont_name = "b", .rights = RIGHT_READ, .tenant = 1};
	struct qos q = {.sessions_max = 2};
	struct client mine[3] = {0}, others = {0};
	struct table_figures f;
	struct cap_op o;

	world_start(&w);
	assert_int_equal(sx_grant(&w.x, &i, &o), 0);
	assert_int_equal(sx_tenant(&w.x, 1, "acme", &q), 0);
	assert_int_equal(client_open_owner(&others, &w.x), 0);
	client_unlink(&others);
	assert_int_equal(client_open_token(&mine[0], &w.x, o.token), 0);
	assert_int_equal(client_open_token(&mine[1], &w.x, o.token), 0);
	assert_int_equal(client_open_token(&mine[2], &w.x, o.token), -EDQUOT);
	client_unlink(&mine[1]);
	assert_int_equal(client_open_token(&mine[2], &w.x, o.token), 0);
	assert_int_equal(back(&w, &mine[1]), -ESTALE);
	assert_int_equal(back(&w, &others), 0);
	session_table_figures(w.x.t, &f);
	assert_int_equal(f.displaced, 1);
	assert_int_equal(tenant_find(w.x.t, 1)->sessions, 2);
	assert_int_equal(client_bye(&mine[0]), 0);
	assert_int_equal(client_bye(&mine[2]), 0);
	assert_int_equal(tenant_find(w.x.t, 1)->sessions, 0);
	world_end(&w);
}

/* What a session came by is revoked: it does not wait for an hour for who can't use it. */
static void revoked_and_silent(void **state)
{
	struct world w = {.x.opts.lease_ns = NSEC_PER_SEC};
	struct client silent = {0}, there = {0}, other = {0};
	struct cap_op o, p;

	world_start(&w);
	o = grant(&w, "b", RIGHTS_ALL);
	p = grant(&w, "b", RIGHTS_ALL);
	assert_int_equal(client_open_token(&silent, &w.x, o.token), 0);
	assert_int_equal(client_open_token(&there, &w.x, o.token), 0);
	assert_int_equal(client_open_token(&other, &w.x, p.token), 0);
	client_unlink(&silent);
	client_unlink(&other);
	assert_int_equal(back(&w, &silent), 0);
	assert_int_equal(sx_revoke(&w.x, o.info.id), 0);
	sx_sleep(&w.x, NSEC_PER_SEC);
	assert_int_equal(back(&w, &silent), -ESTALE);
	assert_int_equal(back(&w, &other), 0);
	assert_non_null(there.conn.session); /* it is told at its next request */
	client_unlink(&there);
	client_unlink(&w.owner);
	sx_cut(&w.x); /* and of what a crash left, nobody knows the capability */
	sx_sleep(&w.x, NSEC_PER_SEC);
	assert_int_equal(back(&w, &there), -ESTALE);
	assert_int_equal(back(&w, &other), 0);
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(makes_room),
	        cmocka_unit_test(stays_while_used),
	        cmocka_unit_test(tenant_makes_room),
	        cmocka_unit_test(revoked_and_silent),
	};

	return cmocka_run_group_tests_name("sessions: a crowd of them", tests, NULL, NULL);
}
