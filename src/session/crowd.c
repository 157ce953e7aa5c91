/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crowd - who makes room when as many sessions as may be are open.
 *
 * A session outlives its connection, so that its client can come back: for an hour, if nobody does. Who opens as
 * many as there may be, or whose programs are killed that often, would keep everybody out for that hour. So
 * the holder who has most of them loses the one that was silent for longest. A holder is who a session was opened
 * for, as the audit names it: a user, a certificate's name, a token. A session that a client is connected to or
 * has requests under way is never ended here; one that is attached between the calls of a control plane is.
 */
#include "session/session_int.h"

uint32_t crowd_holder(const struct ident *id)
{
	return crc32c(0, id->who, strlen(id->who)) % CROWD_HOLDERS;
}

/* Of two that may go: is it rather @s? */
static bool rather(const struct session_table *t, const struct session *s,
                   const struct session *than)
{
	uint32_t mine = t->held_by[s->holder], its = t->held_by[than->holder];

	return mine != its ? mine > its : s->last_ns < than->last_ns;
}

static bool may_go(const struct session *s)
{
	return s->recorded && !s->ending && list_empty(&s->reqs) &&
	       (!s->conn || s->conn->between_calls);
}

/* @n: of this tenant, or NULL: of any. */
static bool make_room(struct session_table *t, const struct tenant *n)
{
	struct session *s, *out = NULL;

	list_for_each (s, &t->every, every)
		if ((!n || s->tenant == n) && may_go(s) && (!out || rather(t, s, out)))
			out = s;
	if (!out)
		return false;
	t->fig.displaced++;
	session_tell(out, AUDIT_SESSION_EXPIRE, "made room for another");
	session_finish(out, -ESTALE);
	return true;
}

int crowd_enter(struct session_table *t, const struct tenant *n)
{
	/* What is ending needs no place any more; its record is on its way out. */
	if (t->session_count - t->ending >= t->opts.sessions_max && !make_room(t, NULL))
		return -EAGAIN;
	return n && n->sessions >= n->qos.sessions_max && !make_room(t, n) ? -EDQUOT : 0;
}
