/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crowd - who makes room when as many sessions as may be are open.
 *
 * A session outlives its connection, so that its client can come back: for an hour, if nobody does. Who opens as
 * many as there may be, or whose programs are killed that often, would keep everybody out for that hour. So
 * one goes, of the holder who has most of those that may go, the one that was silent for longest. A holder is who a
 * session was opened for, as the audit names it: a user, a certificate's name, a token. A session that a client is
 * connected to or that has requests under way does not go; one that is attached between the calls of a control
 * plane may.
 */
#include "session/session_int.h"

#define HOLDERS 1024 /* those with the same remainder count as one */

uint32_t crowd_holder(const struct ident *id)
{
	return crc32c(0, id->who, strlen(id->who)) % HOLDERS;
}

static bool may_go(const struct session *s, const struct tenant *n)
{
	return s->recorded && !s->ending && list_empty(&s->reqs) &&
	       (!s->conn || s->conn->between_calls) && (!n || s->tenant == n);
}

/* @n: of this tenant, or NULL: of any. */
static bool make_room(struct session_table *t, const struct tenant *n)
{
	uint32_t has[HOLDERS] = {0}; /* of those that may go */
	struct session *s, *out = NULL;

	list_for_each (s, &t->every, every)
		has[s->holder] += may_go(s, n);
	list_for_each (s, &t->every, every)
		if (may_go(s, n) &&
		    (!out || has[s->holder] > has[out->holder] ||
		     (has[s->holder] == has[out->holder] && s->last_ns < out->last_ns)))
			out = s;
	if (!out)
		return false;
	t->fig.displaced++;
	session_tell_expired(out, "made room for another");
	session_finish(out, -ESTALE);
	return true;
}

int crowd_enter(struct session_table *t, const struct tenant *n)
{
	/* What the tenant ends makes room for all. What is ending needs no place: its record is on its way out. */
	if (n && n->sessions >= n->qos.sessions_max && !make_room(t, n))
		return -EDQUOT;
	return t->session_count - t->ending >= t->opts.sessions_max && !make_room(t, NULL) ? -EAGAIN
	                                                                                   : 0;
}
