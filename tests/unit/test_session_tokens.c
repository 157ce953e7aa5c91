/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_session_tokens - capabilities' tokens: how they are made, what they say, the channels that they seal, and the
 * memory of their keys.
 */
#include "session_world.h"

/* --- what they say --- */

static uint8_t token_made[TOKEN_HEAD_BYTES + TOKEN_SECRET_BYTES];

/* The token of capability @id as who knows its key makes it, with @last in its last field. */
static void token_forge(struct world *w, uint64_t id, uint32_t last, char text[CAP_TOKEN_MAX])
{
	static const char digits[] =
	        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	const struct cap *c = cap_find(w->x.t, id);
	struct token_bytes b = {.version = 1,
	                        .rights = le16_make((uint16_t)c->info.rights),
	                        .cap = le32_make((uint32_t)id),
	                        .cap_epoch = le32_make(c->info.epoch)};
	le32 field = le32_make(last);
	uint32_t acc = 0;
	unsigned bits = 0;

	memcpy(b.store, w->x.t->uuid, sizeof(b.store));
	memcpy(b.zero2, &field, sizeof(field));
	assert_int_equal(mac_16(w->x.t, c->key, &b, offsetof(struct token_bytes, mac), b.mac), 0);
	memcpy(token_made, &b, sizeof(b));
	text += sprintf(text, "pst1");
	for (size_t i = 0; i < sizeof(b); i++) {
		acc = acc << 8 | token_made[i];
		for (bits += 8; bits >= 6; bits -= 6)
			*text++ = digits[(acc >> (bits - 6)) & 63];
	}
	*text++ = digits[(acc << (6 - bits)) & 63];
	*text = 0;
}

/*
 * A token has no end of its own: one that says so, with the right MAC, would outlive it in the sessions
 * that it opened. No server makes one, and none takes it.
 */
static void test_token_with_an_end(void **state)
{
	struct world w = {0};
	struct ident id = {0};
	uint8_t head[TOKEN_HEAD_BYTES] = {0}, secret[TOKEN_SECRET_BYTES];
	struct cap_op o;
	char text[CAP_TOKEN_MAX];

	world_start(&w);
	o = grant(&w, "b", RIGHT_READ);
	token_forge(&w, o.info.id, 0, text);
	assert_string_equal(text, o.token); /* this is how they are made */
	assert_int_equal(session_auth_token(w.x.t, &id, text, strlen(text)), 0);
	token_forge(&w, o.info.id, 0x7fffffff, text);
	id = (struct ident){0};
	sx_forget(&w.x);
	assert_int_equal(session_auth_token(w.x.t, &id, text, strlen(text)), -EBADF);
	assert_true(sx_audited(&w.x, AUDIT_AUTH, -EBADF));
	assert_int_equal(id.cap_count, 0);
	/* Nor does it seal a channel. */
	memcpy(head, token_made, sizeof(head));
	assert_int_equal(session_token_secret(w.x.t, NULL, head, secret), -EBADF);
	world_end(&w);
}

/* --- what is given back --- */

/* Memory that held a key goes back wiped. (What the store has of it is the store's.) */
static void test_wiped(void **state)
{
	struct world w = {0};
	struct client c = {0};
	uint8_t key[32];
	struct cap_op o, stays;
	static const char text[] = "a needle";
	char *block = mem_alloc(100);

	(void)mem_freed_with(text, sizeof(text));
	memcpy(block + 50, text, sizeof(text));
	mem_free(block);
	assert_int_equal(mem_freed_with(NULL, 0), 1); /* this is how it is seen */
	world_start(&w);
	o = grant(&w, "b", RIGHT_READ);
	stays = grant(&w, "b", RIGHT_READ);
	memcpy(key, cap_find(w.x.t, o.info.id)->key, sizeof(key));
	(void)mem_freed_with(key, sizeof(key));
	assert_int_equal(sx_revoke(&w.x, o.info.id), 0);
	assert_int_equal(mem_freed_with(NULL, 0), 0);
	assert_int_equal(client_open_token(&c, &w.x, stays.token), 0);
	client_unlink(&c);
	client_unlink(&w.owner);
	memcpy(key, cap_find(w.x.t, stays.info.id)->key, sizeof(key));
	(void)mem_freed_with(key, sizeof(key));
	sx_stop(&w.x);
	assert_int_equal(mem_freed_with(NULL, 0), 0);
	world_end(&w);
}

/* --- sealed channels --- */

/* Resumes @c's session on a channel that was sealed by @token. */
static int resume_sealed(struct world *w, const struct client *c, struct client *on,
                         const char *token)
{
	uint8_t head[TOKEN_HEAD_BYTES];

	*on = *c;
	client_link(on, &w->x);
	head_of(token, head);
	session_conn_sealed(&on->conn, head);
	return client_resume(on);
}

/* A session's number and secret are worth nothing under another capability's seal. */
static void test_sealed_channel(void **state)
{
	struct world w = {0};
	struct client c = {0}, on;
	struct cap_op one, two;
	struct ident id = {0};
	char less[CAP_TOKEN_MAX];

	world_start(&w);
	one = grant(&w, "b", RIGHT_READ | RIGHT_WRITE);
	two = grant(&w, "b", RIGHT_READ | RIGHT_WRITE);
	assert_int_equal(cap_token(w.x.t, one.info.id, RIGHT_READ, less), 0);
	assert_int_equal(client_open_token(&c, &w.x, one.token), 0);
	sx_forget(&w.x);
	assert_int_equal(resume_sealed(&w, &c, &on, two.token), -EACCES);
	client_unlink(&on);
	assert_true(sx_audited(&w.x, AUDIT_SESSION_RESUME, -EACCES));
	assert_int_equal(resume_sealed(&w, &c, &on, less), -EACCES);
	client_unlink(&on);
	assert_int_equal(c.cut, 0); /* it goes on where it was */
	assert_ptr_equal(c.conn.session, session_find(w.x.t, c.number));
	assert_int_equal(resume_sealed(&w, &c, &on, one.token), 0);
	assert_int_equal(c.cut, -ESTALE);
	client_unlink(&c);
	assert_int_equal(client_bye(&on), 0);
	/* Nor is one opened. */
	client_link(&on, &w.x);
	head_of(two.token, on.conn.token);
	on.conn.sealed = true;
	assert_int_equal(session_auth_token(w.x.t, &id, one.token, strlen(one.token)), 0);
	assert_int_equal(session_open(&(struct session_open){.conn = &on.conn, .ident = id}),
	                 -EACCES);
	client_unlink(&on);
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_token_with_an_end),
	        cmocka_unit_test(test_wiped),
	        cmocka_unit_test(test_sealed_channel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
