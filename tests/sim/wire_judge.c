/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_judge - was what the clients saw possible?
 *
 *  J1. Registers and cells are linearizable. Every value is written once, so the test is exact and
 *      cheap (Gibbons and Korach, 1997): a value's *zone* lies between the earliest end and the
 *      latest beginning of the ops that wrote or saw it. Where an end is before a beginning the
 *      value must have been there for all of that time, and no two values can be; where all ops of
 *      a value overlap it must have been there some time, which needs a place outside of the
 *      former.
 *      A read may see a change that is not acknowledged yet, and a crash may undo it: the engine
 *      does not wait for the log before it shows what it did. Such reads are not counted.
 *  J2. Of replacements that expected the same value one at most was made.
 *  J3. Appended records are in their log once, in an order that time allows; those whose outcome is
 *      unknown once at most; those that failed not at all.
 *  J4. What a client gave up does not come back after a later change of its own to the same thing
 *      was done. (The old connection is fenced before anything new is taken.)
 *  J5. Nothing is served, and nothing is changed, that was asked for after the capability was
 *      revoked. Nobody ever reaches a container that was not granted.
 *  J6. An op ends soon after its deadline.
 *
 * J7 and J8 are in wire_names.c, J9 and J10 in wire_watch.c.
 */
#include "wire_sim.h"

#define LATE_NS (2 * NSEC_PER_MSEC) /* for a window to be closed */

bool outcome_unknown(const struct world *w, const struct tried *t)
{
	uint64_t revoked_ns = w->revoked_ns[t->life];

	if (!t->ended || t->status == -ESTALE || t->status == -ETIMEDOUT)
		return true;
	return t->status == -EKEYREVOKED && (!revoked_ns || t->from_ns <= revoked_ns);
}

static bool writes(const struct tried *t)
{
	return t->what == WRITE || t->what == REPLACE || t->what == APPEND || t->what == N_WRITE;
}

/* @t saw what @write had changed and nobody had acknowledged when the server crashed next. */
static bool dirty(const struct world *w, const struct tried *t, const struct tried *write)
{
	for (unsigned i = 0; i < w->crashes; i++)
		if (w->crash_ns[i] >= t->from_ns)
			return !write->ended || write->status || write->to_ns > w->crash_ns[i];
	return false;
}

static bool reads(const struct tried *t)
{
	return (t->what == READ || t->what == GET || t->what == N_READ) && t->ended &&
	       t->status == 0;
}

/* --- J1, J2, J4: registers and cells --- */

struct zone {
	uint64_t first_end, last_begin;
	bool seen;
};

static void zone_add(struct zone *z, uint64_t from_ns, uint64_t to_ns)
{
	z->first_end = MIN(z->first_end, to_ns);
	z->last_begin = MAX(z->last_begin, from_ns);
}

/* Value @saw was there when @at looked. */
static void judge_seen(struct world *w, uint32_t at, uint32_t saw)
{
	const struct tried *t = &w->tried[at], *write;

	if (!saw)
		return;
	write = &w->tried[saw - 1];
	if (saw > w->count || !writes(write) || write->target != t->target) {
		WRONG(w, "op %u: saw %u, which nobody wrote there", at, saw - 1);
	} else if (write->from_ns > t->to_ns) {
		WRONG(w, "op %u: saw write %u before it began", at, saw - 1);
	} else if (write->status && !outcome_unknown(w, write) && !dirty(w, t, write)) {
		WRONG(w, "op %u: saw write %u, which had failed (%d)", at, saw - 1, write->status);
	}
	for (uint32_t i = saw; i < w->count && write->status; i++) {
		const struct tried *later = &w->tried[i];

		if (writes(later) && later->target == t->target && later->life == write->life &&
		    later->status == 0 && later->ended && later->from_ns > write->to_ns &&
		    later->to_ns < t->from_ns)
			WRONG(w, "op %u: saw write %u, given up before write %u was made: J4", at,
			      saw - 1, i);
	}
}

static void zones_make(struct world *w, unsigned target, struct zone *z)
{
	for (uint32_t i = 0; i <= w->count; i++)
		z[i] = (struct zone){.first_end = UINT64_MAX};
	z[0] = (struct zone){.seen = true}; /* nothing, since ever */
	for (uint32_t i = 0; i < w->count; i++) {
		const struct tried *t = &w->tried[i];

		if (t->target != target || t->what == TRESPASS)
			continue;
		if (reads(t) || (t->what == REPLACE && t->ended && t->status == 0)) {
			judge_seen(w, i, t->saw);
			if (w->wrong[0])
				return;
			if (t->saw && reads(t) && dirty(w, t, &w->tried[t->saw - 1]))
				continue;
			zone_add(&z[t->saw], t->from_ns, t->to_ns);
			z[t->saw].seen = true;
		}
		if (!writes(t) || (t->status && !outcome_unknown(w, t)))
			continue;
		zone_add(&z[i + 1], t->from_ns, t->status ? UINT64_MAX : t->to_ns);
		z[i + 1].seen |= t->ended && t->status == 0;
	}
}

static void zones_judge(struct world *w, unsigned target, const struct zone *z)
{
	for (uint32_t i = 0; i <= w->count; i++) {
		if (!z[i].seen || z[i].first_end >= z[i].last_begin)
			continue;
		for (uint32_t j = 0; j <= w->count; j++) {
			uint64_t lo = MIN(z[j].first_end, z[j].last_begin);
			uint64_t hi = MAX(z[j].first_end, z[j].last_begin);
			bool forward = z[j].first_end < z[j].last_begin;

			if (j == i || !z[j].seen)
				continue;
			if (forward ? lo < z[i].last_begin && z[i].first_end < hi
			            : z[i].first_end < lo && hi < z[i].last_begin)
				WRONG(w,
				      "target %u: writes %d and %d can't both have been there: J1",
				      target, (int)i - 1, (int)j - 1);
		}
	}
}

static void judge_replaced(struct world *w, unsigned target, const struct zone *z)
{
	static uint32_t by[OPS_MAX + 1];

	memset(by, 0, sizeof(by));
	for (uint32_t i = 0; i < w->count; i++) {
		const struct tried *t = &w->tried[i];

		if (t->what != REPLACE || t->target != target || !z[i + 1].seen)
			continue;
		if (by[t->saw])
			WRONG(w, "ops %u and %u: both replaced %d: J2", by[t->saw] - 1, i,
			      (int)t->saw - 1);
		by[t->saw] = i + 1;
	}
}

static void judge_values(struct world *w, unsigned target)
{
	static struct zone z[OPS_MAX + 1];

	zones_make(w, target, z);
	if (!w->wrong[0])
		zones_judge(w, target, z);
	judge_replaced(w, target, z);
}

/* What is there in the end was there when somebody looked for the last time: we. */
static void last_look(struct world *w, unsigned target)
{
	static uint8_t buf[BUF_MAX];
	struct tried *t = &w->tried[w->count];
	bool cell = target >= REGISTERS + LOGS;
	uint64_t len = 0;
	int rc;

	pst_assert(w->count < OPS_MAX);
	memset(t, 0, sizeof(*t));
	t->what = cell ? GET : READ;
	t->target = (uint8_t)target;
	t->from_ns = t->to_ns = loop_now(w->loop);
	t->ended = true;
	rc = cell ? ops_kv_get(w->engine, w->cont, 0, oid_target(target), "k", buf, 8, &len)
	          : ops_read(w->engine, w->cont, 0, oid_target(target), 0, buf, reg_len(target),
	                     &len);
	if (rc < 0 && rc != -ENOENT)
		WRONG(w, "target %u can't be read: %d", target, rc);
	else if (rc == 0 && len)
		t->saw = bytes_saw(w, w->count, buf, (uint32_t)len);
	w->count++;
}

/* --- J3: logs --- */

static void log_order(struct world *w, const uint32_t *ids, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		for (uint32_t j = i + 1; j < count; j++) {
			const struct tried *a = &w->tried[ids[i]], *b = &w->tried[ids[j]];

			if (b->status == 0 && b->ended && b->to_ns < a->from_ns)
				WRONG(w, "op %u: appended before op %u, which had ended: J3",
				      ids[i], ids[j]);
		}
}

static void judge_log(struct world *w, unsigned target)
{
	static uint8_t times[OPS_MAX], buf[16 * OPS_MAX];
	static uint32_t ids[OPS_MAX];
	uint32_t count = 0;
	uint64_t len = 0;

	memset(times, 0, sizeof(times));
	if (ops_read(w->engine, w->cont, 0, oid_target(target), 0, buf, sizeof(buf), &len) < 0)
		WRONG(w, "the log can't be read");
	for (uint64_t at = 0; at + 16 <= len; at += 16) {
		uint32_t id = bytes_saw(w, 0, buf + at, 16);

		if (!id || id > w->count || w->tried[id - 1].what != APPEND || times[id - 1]++) {
			WRONG(w, "log %u: record %u is there twice, or is nobody's: J3", target,
			      id);
			return;
		}
		ids[count++] = id - 1;
	}
	for (uint32_t i = 0; i < w->count; i++) {
		const struct tried *t = &w->tried[i];

		if (t->what != APPEND || t->target != target)
			continue;
		if (t->ended && t->status == 0 && times[i] != 1)
			WRONG(w, "op %u: appended, and is not there: J3", i);
		if (t->status && !outcome_unknown(w, t) && times[i])
			WRONG(w, "op %u: failed (%d), and is there: J3", i, t->status);
	}
	log_order(w, ids, count);
}

/* --- J5, J6: one by one --- */

static void judge_op(struct world *w, uint32_t i)
{
	const struct tried *t = &w->tried[i];
	uint64_t revoked_ns = w->revoked_ns[t->life];

	/* A close may be between a client and itself. */
	if (revoked_ns && t->from_ns > revoked_ns && t->status == 0 && t->what != N_CLOSE)
		WRONG(w, "op %u: served, %llu ns after its capability was revoked: J5", i,
		      (unsigned long long)(t->from_ns - revoked_ns));
	if (t->what == TRESPASS && t->status == 0)
		WRONG(w, "op %u: wrote where it must not: J5", i);
	if (t->deadline_ns && t->to_ns > MAX(t->deadline_ns, t->from_ns) + LATE_NS)
		WRONG(w, "op %u: ended %llu us after its deadline: J6", i,
		      (unsigned long long)(t->to_ns - t->deadline_ns) / 1000);
}

static void judge_forbidden(struct world *w)
{
	for (unsigned i = 0; i < REGISTERS; i++) {
		uint64_t len = 0;
		uint8_t buf[16];

		if (ops_read(w->engine, w->forbidden, 0, oid_target(i), 0, buf, sizeof(buf),
		             &len) ||
		    len)
			WRONG(w, "the forbidden container was written: J5");
	}
}

/* What files hold: each is a register, which is empty at first. */
static void judge_files(struct world *w)
{
	static bool is_read[OPS_MAX + TARGETS];

	memset(is_read, 0, sizeof(is_read));
	for (uint32_t i = 0; i < w->count; i++)
		if (w->tried[i].what == N_READ && w->tried[i].target > TARGETS)
			is_read[w->tried[i].target] = true;
	for (unsigned i = TARGETS + 1; i < ARRAY_LEN(is_read); i++)
		if (is_read[i])
			judge_values(w, i);
}

void judge(struct world *w)
{
	for (uint32_t i = 0; i < w->count; i++)
		judge_op(w, i);
	judge_forbidden(w);
	names_last_look(w);
	judge_names(w);
	judge_files(w);
	for (unsigned i = 0; i < TARGETS; i++) {
		if (i >= REGISTERS && i < REGISTERS + LOGS) {
			judge_log(w, i);
			continue;
		}
		last_look(w, i);
		judge_values(w, i);
	}
}
