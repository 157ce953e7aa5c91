/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session_world - a store with a container of files, one of objects, and its owner's session: what the
 * tests of capabilities and handles begin with.
 */
#ifndef TESTS_UNIT_SESSION_WORLD_H
#define TESTS_UNIT_SESSION_WORLD_H

#include "session_util.h"

#define OWNER 1000

struct world {
	struct sx x;
	uint32_t a, b; /* containers */
	struct client owner;
};

static inline void world_start(struct world *w)
{
	w->x.opts.owner_uid = OWNER;
	sx_start(&w->x);
	w->a = sx_cont(&w->x, "a", PST_LAYOUT_POSIX);
	w->b = sx_cont(&w->x, "b", PST_LAYOUT_OBJECT);
	assert_int_equal(client_open_owner(&w->owner, &w->x), 0);
	/* The first use of a container writes: its root. */
	assert_int_equal(client_lookup(&w->owner, w->a, "nothing", NULL), -ENOENT);
}

static inline void world_end(struct world *w)
{
	if (w->owner.linked)
		(void)client_bye(&w->owner);
	sx_end(&w->x);
}

static inline struct cap_op grant(struct world *w, const char *cont, uint32_t rights)
{
	struct cap_info i = {.rights = rights};
	struct cap_op o;

	(void)snprintf(i.cont_name, sizeof(i.cont_name), "%s", cont);
	assert_int_equal(sx_grant(&w->x, &i, &o), 0);
	return o;
}

/* What a token shows, without its secret. */
static inline void head_of(const char *token, uint8_t head[TOKEN_HEAD_BYTES])
{
	uint8_t bytes[TOKEN_HEAD_BYTES + TOKEN_SECRET_BYTES];

	assert_int_equal(cap_token_bytes(token, strlen(token), bytes), 0);
	memcpy(head, bytes, TOKEN_HEAD_BYTES);
}

/* Runs @op as @c: refused with @want, audited, nothing written. */
static inline void refused_(struct world *w, struct client *c, struct pst_op op, int want, int line)
{
	uint64_t records = sx_records(&w->x);

	sx_forget(&w->x);
	_assert_int_equal((uint64_t)(int64_t)client_run(c, &op), (uint64_t)(int64_t)want, __FILE__,
	                  line);
	_assert_true(sx_audited(&w->x, AUDIT_REQUEST, want), "audited", __FILE__, line);
	_assert_int_equal(sx_records(&w->x), records, __FILE__, line);
}
#define OP(...)                 ((struct pst_op){__VA_ARGS__})
#define refused(w, c, op, want) refused_(w, c, op, want, __LINE__)

#endif
