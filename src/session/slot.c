/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slot - the judgement of replay tokens: docs/sessions-and-handles.md, 1.1. The store answers a
 * repeat of what it executed and refuses what is older; here stands what only the session knows: gaps,
 * requests that still run, and numbers that were asked about and given up.
 *
 * Invariants of a slot: running was admitted with sequence number seq and has not ended; parked is
 * the same request again (or a question about it), from the connection that came after.
 */
#include "session/session_int.h"

static int park(struct slot *sl, struct session_req *r)
{
	if (sl->parked)
		return -EPROTO; /* twice on one connection: an older one's were dropped */
	sl->parked = r;
	r->state = REQ_PARKED;
	return -EINPROGRESS;
}

/*
 * What the request is, in a word that is recorded with its answer. After a restart the slot knows nothing,
 * and the answer may have come from another op, container or directory, whose inodes are not for
 * this one's holder to see: the store compares. Not which capability: of several that allow a request,
 * a repeat may come by another one.
 */
static uint32_t about(const struct session_req *r)
{
	uint64_t h = hash_u64(hash_u64(r->cap->info.root_ino) ^ r->op.cont) ^ r->op.opcode;

	return (uint32_t)(hash_u64(h) >> 32) | 1;
}

int slot_judge(struct session *s, struct session_req *r)
{
	const struct pst_token *tk = &r->op.token;
	struct slot *sl;

	if (tk->session != s->number || tk->slot >= s->slots || !tk->seq)
		return -EPROTO;
	r->op.token.about = r->probe ? 0 : about(r);
	sl = &s->slot[tk->slot];
	if (sl->known && tk->seq < sl->seq)
		return -ESTALE;
	if (sl->known && tk->seq > sl->seq + 1)
		return -EPROTO;
	/* Its answer is found by the number alone: it may not be taken for another op's. */
	if (sl->known && tk->seq == sl->seq && sl->opcode && !r->probe &&
	    (sl->opcode != r->op.opcode || sl->cont != r->op.cont))
		return -EPROTO;
	if (sl->running)
		return tk->seq == sl->seq ? park(sl, r) : -EPROTO;
	if (sl->known && tk->seq == sl->seq && sl->given_up && !r->probe)
		return -ESTALE;
	if (!sl->known || tk->seq != sl->seq)
		sl->given_up = false;
	s->table->fig.replayed += sl->known && tk->seq == sl->seq;
	if (!r->probe) {
		sl->opcode = r->op.opcode;
		sl->cont = r->op.cont;
	} else if (!sl->known || tk->seq != sl->seq) {
		sl->opcode = 0; /* not known */
	}
	sl->known = true;
	sl->seq = tk->seq;
	sl->running = r;
	return 0;
}

void slot_end(struct session *s, struct session_req *r, int status)
{
	struct slot *sl = &s->slot[r->op.token.slot];
	struct session_req *next = sl->parked;

	pst_assert(sl->running == r);
	sl->running = NULL;
	/* "Not done": now it never will be. */
	if (r->probe && status == -ENOENT && !SESSION_PLANTED(s->table, SESSION_PLANT_NO_FENCE))
		sl->given_up = true;
	if (!next)
		return;
	sl->parked = NULL;
	if (sl->given_up && !next->probe) {
		next->stopped = true; /* refused when its turn comes: not from inside of this */
		next->stop_status = -ESTALE;
		next->slotted = false;
	} else {
		sl->running = next;
	}
	run_unpark(next);
}

/* It was refused or dropped before it reached the store: as if it had not come. Its number stays the
 * slot's last; when it comes again that is a repeat of something that never ended. */
void slot_forget(struct session *s, struct session_req *r)
{
	struct slot *sl = &s->slot[r->op.token.slot];

	if (r->state == REQ_PARKED) {
		if (sl->parked == r)
			sl->parked = NULL;
		return;
	}
	slot_end(s, r, -ECANCELED);
}

/* It was refused before its token was looked at. That is an answer like any other: the client goes
 * on with the next number. */
void slot_skip(struct session *s, const struct pst_token *tk)
{
	struct slot *sl;

	if (tk->session != s->number || tk->slot >= s->slots || !tk->seq)
		return;
	sl = &s->slot[tk->slot];
	if (sl->running || (sl->known && tk->seq != sl->seq + 1))
		return;
	sl->known = true;
	sl->seq = tk->seq;
	sl->opcode = 0;
	sl->given_up = false;
}
