/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_session_handles - handles and capability tokens: sealed, bound to their session, good after a
 * restart, no more after two rotations or a revocation; and what happens to who forges them.
 */
#include "session_world.h"

/* The attributes are asked for with an old one: the answer has the new one. */
static int renew(struct client *c, uint64_t ino, uint8_t ret_h[SESSION_HANDLE_BYTES])
{
	struct pst_op op = {.opcode = PST_OP_GETATTR, .ino = ino};
	int rc = client_run(c, &op);

	if (rc == 0) {
		assert_true(c->has_got);
		memcpy(ret_h, c->got, SESSION_HANDLE_BYTES);
	}
	return rc;
}

static void test_handles(void **state)
{
	struct world w = {0};
	struct client c = {0}, d = {0};
	uint8_t cont_h[SESSION_HANDLE_BYTES], file_h[SESSION_HANDLE_BYTES], h[SESSION_HANDLE_BYTES];
	struct cap_op o;
	struct pst_op op;
	uint64_t ino, other;
	char buf[16];

	world_start(&w);
	o = grant(&w, "a", RIGHTS_ALL & ~RIGHT_ADMIN);
	assert_int_equal(client_open_token(&c, &w.x, o.token), 0);
	op = names_op(PST_OP_CONT_OPEN, 0, "a");
	assert_int_equal(client_run(&c, &op), 0);
	assert_int_equal(op.cont, w.a);
	assert_true(c.has_got);
	memcpy(cont_h, c.got, sizeof(cont_h));
	c.handle = cont_h;
	assert_int_equal(client_create(&c, 0, "f", "text", &ino), 0);
	assert_true(c.has_got);
	memcpy(file_h, c.got, sizeof(file_h));
	assert_int_equal(client_create(&c, 0, "g", "other", &other), 0);
	c.handle = file_h;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(client_read(&c, 0, ino, buf, sizeof(buf)), 0);
		assert_string_equal(buf, "text");
	}
	assert_true(w.x.t->fig.handle_hits >= 2);
	/* It names one file. What the message says of the container doesn't matter. */
	refused(&w, &c, OP(.opcode = PST_OP_FILE_READ, .ino = other, .len = 0), -EACCES);
	refused(&w, &c, names_op(PST_OP_GETATTR, w.a, "g"), -ENOTDIR);
	op = (struct pst_op){.opcode = PST_OP_READ, .cont = w.a, .oid = fs_oid(other)};
	refused(&w, &c, op, -EACCES);
	assert_int_equal(client_read(&c, w.b, ino, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "text");
	/* Of the file as it is, not as it was in a snapshot. */
	refused(&w, &c, OP(.opcode = PST_OP_FILE_READ, .ino = ino, .view = 7), -EBADF);
	/* Each bit of it. */
	for (unsigned bit = 0; bit < 8 * SESSION_HANDLE_BYTES; bit++) {
		memcpy(h, file_h, sizeof(h));
		h[bit / 8] ^= (uint8_t)(1u << bit % 8);
		c.handle = h;
		w.x.t->opts.refusals_max = UINT32_MAX;
		op = (struct pst_op){.opcode = PST_OP_FILE_READ, .ino = ino};
		sx_forget(&w.x);
		int rc = client_run(&c, &op);
		assert_true(rc == -EBADF || rc == -ESTALE);
		assert_true(sx_audited(&w.x, AUDIT_REQUEST, rc));
	}
	/* In another session it is worth nothing, the same capability or not. */
	assert_int_equal(client_open_token(&d, &w.x, o.token), 0);
	d.handle = file_h;
	refused(&w, &d, OP(.opcode = PST_OP_FILE_READ, .ino = ino), -EBADF);
	d.handle = NULL;
	/* A restart: it is still good. Its time: not for ever, but it can be renewed. */
	client_unlink(&c);
	client_unlink(&d);
	client_unlink(&w.owner);
	sx_cut(&w.x);
	client_link(&c, &w.x);
	assert_int_equal(client_resume(&c), 0);
	c.handle = file_h;
	assert_int_equal(client_read(&c, 0, ino, buf, sizeof(buf)), 0);
	sx_sleep(&w.x, 3700 * NSEC_PER_SEC);
	refused(&w, &c, OP(.opcode = PST_OP_FILE_READ, .ino = ino), -EKEYEXPIRED);
	assert_int_equal(renew(&c, ino, h), 0);
	c.handle = h;
	assert_int_equal(client_read(&c, 0, ino, buf, sizeof(buf)), 0);
	/* Two keys on it is no more. */
	assert_int_equal(sx_rotate(&w.x), 0);
	assert_int_equal(client_read(&c, 0, ino, buf, sizeof(buf)), 0);
	client_unlink(&c);
	sx_cut(&w.x);
	client_link(&c, &w.x);
	assert_int_equal(client_resume(&c), 0);
	assert_int_equal(client_read(&c, 0, ino, buf, sizeof(buf)), 0);
	assert_int_equal(sx_rotate(&w.x), 0);
	refused(&w, &c, OP(.opcode = PST_OP_FILE_READ, .ino = ino), -EBADF);
	assert_int_equal(renew(&c, ino, h), -EBADF);
	/* Revoked, cached or not. */
	c.handle = NULL;
	op = names_op(PST_OP_LOOKUP, w.a, "f");
	assert_int_equal(client_run(&c, &op), 0);
	memcpy(file_h, c.got, sizeof(file_h));
	c.handle = file_h;
	assert_int_equal(client_read(&c, 0, ino, buf, sizeof(buf)), 0);
	assert_int_equal(sx_revoke(&w.x, o.info.id), 0);
	refused(&w, &c, OP(.opcode = PST_OP_FILE_READ, .ino = ino), -EKEYREVOKED);
	assert_int_equal(renew(&c, ino, h), -EKEYREVOKED);
	assert_int_equal(client_bye(&c), 0);
	world_end(&w);
}

/* Rights of a handle are those of the op that made it: it can't be used to get more. */
static void test_handle_rights(void **state)
{
	struct world w = {0};
	struct client c = {0};
	struct cap_op r, all;
	struct ident id = {0};
	uint8_t h[SESSION_HANDLE_BYTES];
	struct pst_op op;
	uint64_t ino;

	world_start(&w);
	assert_int_equal(client_create(&w.owner, w.a, "f", "text", &ino), 0);
	r = grant(&w, "a", RIGHT_READ);
	all = grant(&w, "b", RIGHTS_ALL);
	assert_int_equal(session_auth_token(w.x.t, &id, r.token, strlen(r.token)), 0);
	assert_int_equal(session_auth_token(w.x.t, &id, all.token, strlen(all.token)), 0);
	assert_int_equal(client_open_as(&c, &w.x, &id), 0);
	op = names_op(PST_OP_LOOKUP, w.a, "f");
	assert_int_equal(client_run(&c, &op), 0);
	memcpy(h, c.got, sizeof(h));
	c.handle = h;
	refused(&w, &c, OP(.opcode = PST_OP_FILE_WRITE, .ino = ino), -EACCES);
	op = (struct pst_op){.opcode = PST_OP_SETATTR, .ino = ino, .attr_mask = PST_ATTR_SIZE};
	refused(&w, &c, op, -EACCES);
	c.handle = NULL;
	assert_int_equal(client_bye(&c), 0);
	world_end(&w);
}

/* Who forges is cut off. */
static void test_forger(void **state)
{
	struct world w = {0};
	struct client c = {0};
	uint8_t h[SESSION_HANDLE_BYTES] = {1};
	struct cap_op o;
	unsigned tries = 0;

	world_start(&w);
	o = grant(&w, "b", RIGHT_READ);
	assert_int_equal(client_open_token(&c, &w.x, o.token), 0);
	memcpy(h + 4, w.x.t->uuid, 4);
	c.handle = h;
	while (!c.cut) {
		struct pst_op op = {.opcode = PST_OP_READ};

		h[60]++;
		assert_true(client_run(&c, &op) < 0);
		assert_true(++tries <= 64);
	}
	assert_int_equal(tries, 64);
	assert_int_equal(c.cut, -EBADF);
	client_unlink(&c);
	sx_turn(&w.x);
	client_link(&c, &w.x);
	assert_int_equal(client_resume(&c), -ESTALE);
	client_unlink(&c);
	world_end(&w);
}

/* Every character of a token. */
static void test_tokens(void **state)
{
	struct world w = {0};
	struct cap_op o;
	struct ident id = {0};
	char t[CAP_TOKEN_MAX];
	size_t len;

	world_start(&w);
	o = grant(&w, "b", RIGHT_READ);
	len = strlen(o.token);
	assert_int_equal(len, 58);
	assert_int_equal(session_auth_token(w.x.t, &id, o.token, len), 0);
	for (size_t i = 0; i < len; i++)
		for (int c = 0; c < 256; c++) {
			int rc;

			if ((char)c == o.token[i])
				continue;
			memcpy(t, o.token, len);
			t[i] = (char)c;
			id = (struct ident){0};
			rc = session_auth_token(w.x.t, &id, t, len);
			assert_true(rc == -EBADF || rc == -EKEYREVOKED);
			assert_int_equal(id.cap_count, 0);
		}
	for (size_t i = 0; i < len; i++)
		assert_int_equal(session_auth_token(w.x.t, &id, o.token, i), -EBADF);
	memcpy(t, o.token, len);
	t[len] = 'A';
	assert_int_equal(session_auth_token(w.x.t, &id, t, len + 1), -EBADF);
	/* The owner's capability has no token. */
	assert_int_equal(cap_token(w.x.t, OWNER_CAP, RIGHTS_ALL, t), -ENOENT);
	/* Good after a restart. */
	client_unlink(&w.owner);
	sx_cut(&w.x);
	id = (struct ident){0};
	assert_int_equal(session_auth_token(w.x.t, &id, o.token, len), 0);
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_handles),
	        cmocka_unit_test(test_handle_rights),
	        cmocka_unit_test(test_forger),
	        cmocka_unit_test(test_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
