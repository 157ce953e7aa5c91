/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crew_settle - when a flush of one reactor counts, though another's may fail.
 *
 * A flush or a forced write that fails says nothing of any write before it, on whichever queue of the
 * device it came: what another reactor has written may be gone too, and that reactor's next flush, for
 * which nothing is left to do, may succeed. With one reactor the failure is seen first and stops the
 * store (R7). With several, it may lie in a queue that nobody has looked at yet. So:
 *
 *  S1. The end of a forced request counts only when every forced request that another part had begun
 *      before that end was seen has been seen to end too, and none has failed.
 *
 * Each part publishes `oldest`, a moment on the crew's clock before which it has begun no forced
 * request that has not ended; UINT64_MAX: none is under way. The clock goes on by one with each request.
 * It is enough to know that moment from below, so requests are counted in two generations: new ones
 * join the newer, and once the older has drained they change places. So what others wait for always
 * ends, however many new ones come.
 *
 *     begins a request (A)               has seen one end (B)
 *     1. oldest = clock, if it was none  a. T = clock
 *     2. clock++                         b. A's oldest < T ?  -> wait
 *
 * All four are sequentially consistent. If 2 came before a, so did 1, and b sees it; if not, A's
 * request began after B's had ended. A failure is noted (`failed`) before `oldest` moves on from it.
 *
 * Who waits says so (`waits`) and looks once more; who moves `oldest` on looks at that flag after it.
 */
#include "store/local/crew.h"

static uint64_t oldest(const struct mate *m)
{
	unsigned older = !m->forced_now;

	if (m->forced[older].count)
		return m->forced[older].since;
	return m->forced[!older].count ? m->forced[!older].since : UINT64_MAX;
}

void crew_force_begin(struct local *l, struct sub_io *s)
{
	struct mate *m = mate_of(l);
	struct crew *c = l->crew;

	if (!m->forced[!m->forced_now].count && m->forced[m->forced_now].count)
		m->forced_now = !m->forced_now;
	if (!m->forced[m->forced_now].count) {
		m->forced[m->forced_now].since = atomic_load(&c->clock);
		if (!m->forced[!m->forced_now].count)
			atomic_store(&m->pub.oldest, m->forced[m->forced_now].since);
	}
	m->forced[m->forced_now].count++;
	s->forced_in = m->forced_now;
	atomic_fetch_add(&c->clock, 1);
}

void crew_force_end(struct local *l, struct sub_io *s, int status)
{
	struct mate *m = mate_of(l);
	struct crew *c = l->crew;
	uint64_t before = oldest(m);

	if (status) {
		if (!m->failure)
			m->failure = status;
		atomic_store(&c->failed, true);
	}
	m->forced[s->forced_in].count--;
	if (oldest(m) == before)
		return;
	atomic_store(&m->pub.oldest, oldest(m));
	for (unsigned i = 0; i < c->count; i++) {
		struct mate *other = &c->mate[i];

		if (other != m && atomic_load(&other->pub.waits) &&
		    atomic_exchange(&other->pub.waits, false))
			loop_post(other->l->store.loop, &other->nudge);
	}
}

/* --- what waits --- */

static void settle(struct dio *d)
{
	struct mate *m = mate_of(d->l);

	if (d->status) { /* the store stops: nobody need be asked */
		d->done = d->todo.settled;
		d->done(d);
		return;
	}
	d->todo.at = atomic_load(&d->l->crew->clock);
	d->todo.next_settling = NULL;
	*m->settling_end = d;
	m->settling_end = &d->todo.next_settling;
	(void)settle_step(m);
}

void crew_settle_after(struct dio *d)
{
	d->todo.settled = d->done;
	d->done = settle;
}

/* Has all that others began before @t ended? */
static bool settled(const struct mate *m, uint64_t t)
{
	const struct crew *c = m->crew;

	for (unsigned i = 0; i < c->count; i++)
		if (&c->mate[i] != m && atomic_load(&c->mate[i].pub.oldest) < t)
			return false;
	return true;
}

static bool settled_or_asked(struct mate *m, uint64_t t)
{
	if (settled(m, t))
		return true;
	if (m->nudge_asked)
		return false;
	m->nudge_asked = true;
	atomic_store(&m->pub.waits, true);
	return settled(m, t); /* else a nudge comes, from who makes it so */
}

static void nudged(struct loop_msg *msg)
{
	struct mate *m = container_of(msg, struct mate, nudge);

	m->nudge_asked = false;
	(void)settle_step(m);
}

int settle_step(struct mate *m)
{
	struct crew *c = m->crew;
	int did = 0;

	while (m->settling) {
		struct dio *d = m->settling;

		if (!settled_or_asked(m, d->todo.at))
			break;
		if (atomic_load(&c->failed)) {
			/* The part that it is stops the store, once all has ended that this
			 * belongs to, and says why. */
			if (!m->failure && !atomic_load(&c->stopped))
				break;
			d->status = m->failure ? m->failure : -EIO;
		}
		m->settling = d->todo.next_settling;
		if (!m->settling)
			m->settling_end = &m->settling;
		d->done = d->todo.settled;
		d->done(d);
		did++;
	}
	return did;
}

void settle_init(struct mate *m)
{
	m->settling_end = &m->settling;
	m->nudge.run = nudged;
	atomic_init(&m->pub.oldest, UINT64_MAX);
}
