/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * opening - the openings of the store, told apart by more than their epoch.
 *
 * An epoch counts: the store that was restored from an older copy counts on from there, and comes to
 * epochs that its clients know, and past them. So each opening draws a number, which is kept in the
 * store before a client hears of it, and OPENINGS_MAX of them are kept. A client says the epoch that
 * it saw last and is told the number that belongs to it here: one that it was not told then is of
 * another history, in which what it was acknowledged is missing.
 *
 * What this can't tell: a copy that was made while the store was open has the number of that opening.
 */
#include "session/session_int.h"

int opening_load(struct session_table *t, uint64_t epoch, const struct opening_rec *r)
{
	uint32_t number = le32_get(r->number);

	/* They come in order. */
	if (epoch > t->epoch || number <= OPENING_NONE)
		return -EBADMSG;
	if (t->opening_count == OPENINGS_MAX) {
		memmove(&t->opening[0], &t->opening[1], (OPENINGS_MAX - 1) * sizeof(t->opening[0]));
		t->opening_count--;
	}
	t->opening[t->opening_count].epoch = epoch;
	t->opening[t->opening_count++].number = number;
	return 0;
}

struct keeping {
	bool ended;
	int status;
};

static void kept(struct sys_op *o, int status)
{
	struct keeping *k = o->arg;

	k->ended = true;
	k->status = status;
}

/* Durable when it returns 0: nobody may be told a number that a crash could take back. */
static int keep(struct session_table *t, const struct opening_rec *r)
{
	struct keeping k = {0};
	struct sys_op *o = sys_new(t, PST_OP_BATCH, kept, &k);

	if (!o)
		return -ENOMEM;
	sys_put(o, 'O', t->epoch, 8, r, sizeof(*r));
	if (t->opening_count == OPENINGS_MAX)
		sys_del(o, 'O', t->opening[0].epoch, 8);
	sys_go(o);
	for (;;) { /* the table's poller does not run yet */
		(void)sys_poll(t);
		if (k.ended)
			return k.status;
		(void)loop_turn(t->loop, NSEC_PER_MSEC);
	}
}

int opening_begin(struct session_table *t, struct pst_err *err)
{
	uint32_t number;
	struct opening_rec r;
	int rc;

	/* A table that is opened again on a store that was not: it is the same opening. */
	if (session_table_opening(t, t->epoch) != OPENING_UNKNOWN)
		return 0;
	do {
		rc = session_random(t, &number, sizeof(number));
	} while (!rc && number <= OPENING_NONE);
	r.number = le32_make(number);
	rc = rc ? rc : keep(t, &r);
	if (rc == -ENOSPC || rc == -EDQUOT) {
		/* A full store is served: those who come can free space. */
		log_warn("sessions: the number of this opening can't be kept: %s: clients can't "
		         "tell the store from an older copy that is opened as often",
		         strerror(-rc));
		return 0;
	}
	if (rc)
		return err_set(err, rc, "sessions: the number of this opening can't be kept: %s",
		               strerror(-rc));
	return opening_load(t, t->epoch, &r);
}

uint32_t session_table_opening(const struct session_table *t, uint64_t epoch)
{
	for (unsigned i = t->opening_count; i-- > 0;)
		if (t->opening[i].epoch == epoch)
			return t->opening[i].number;
	if (epoch == t->epoch || (t->opening_count == OPENINGS_MAX && epoch < t->opening[0].epoch))
		return OPENING_UNKNOWN;
	return OPENING_NONE;
}
