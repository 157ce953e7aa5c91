/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_names - the wire's clients use names: a few of one directory, which all of them make, link,
 * rename, remove, look up and list; and what they opened they write, read and close. A capability is
 * for all of the container, or for that directory alone; then a file is reached by its handle.
 *
 *  J7. What a client holds open is there until it closes it, whatever becomes of its names.
 *  J8. Names are linearizable: there is an order of all changes that were made, and of some of those
 *      whose outcome is unknown, which is one of time, in which each could do what it did, fail as it
 *      failed and see what it saw. So nothing is done twice, and nothing that failed was done. As in J1,
 *      what may have been seen of a change that a crash undid is not counted.
 *
 * A file is known by who made it: the owner that its CREATE gave it is that op's number. The order is
 * looked for as Wing and Gong (1993) do it, with what was tried in vain remembered (Lowe, 2017).
 */
#include <errno.h>
#include <stdlib.h>

#include "fs/fs.h"
#include "wire_sim.h"

#define NOPS_MAX  512u
#define STEPS_MAX 100000u
#define TRIED_MAX (1u << 16) /* states; a power of two */

/* --- what is tried --- */

static const char *path(const struct lane *l, unsigned name, char buf[PATH_BYTES])
{
	const char *dir = l->client->prefixed ? "" : NAMES_DIR;

	(void)snprintf(buf, PATH_BYTES, "%s/n%u", dir, name);
	return buf;
}

void names_choose(struct world *w, struct lane *l, struct tried *t)
{
	static const uint8_t of[] = {N_CREATE, N_CREATE, N_CREATE, N_UNLINK, N_UNLINK,
	                             N_RENAME, N_RENAME, N_RENAME, N_LINK,   N_LOOKUP,
	                             N_LOOKUP, N_LIST,   N_LIST,   N_OPEN,   N_OPEN};
	static const uint8_t with_file[] = {N_WRITE, N_WRITE, N_READ, N_READ, N_CLOSE};

	t->target = TARGETS; /* none of the objects */
	t->what = of[rng_below(&w->rng, ARRAY_LEN(of))];
	if (l->held && (t->what == N_OPEN || rng_chance(&w->rng, 0.6)))
		t->what = with_file[rng_below(&w->rng, ARRAY_LEN(with_file))];
	t->name = (uint8_t)rng_below(&w->rng, NAMES);
	t->name2 = (uint8_t)((t->name + 1 + rng_below(&w->rng, NAMES - 1)) % NAMES);
	t->excl = t->what == N_RENAME && rng_chance(&w->rng, 0.4);
}

static bool listed(struct pst_op *op, const struct pst_entry *e)
{
	struct lane *l = container_of(op, struct lane, op);
	struct tried *t = &l->client->w->tried[l->at];
	unsigned n = e->name_len == 2 ? ((const uint8_t *)e->name)[1] - (unsigned)'0' : NAMES;

	if (n >= NAMES || t->list[n])
		WRONG(l->client->w, "op %u: a name in its list that is nobody's, or twice", l->at);
	else
		t->list[n] = e->id;
	return true;
}

static void fill_file(struct lane *l, struct tried *t)
{
	struct pst_op *op = &l->op;

	op->ino = t->ino = l->held;
	if (t->what == N_CLOSE) {
		op->opcode = PST_OP_FILE_CLOSE;
		return;
	}
	op->opcode = t->what == N_WRITE ? PST_OP_FILE_WRITE : PST_OP_FILE_READ;
	l->used = 8;
	l->iov = (struct iovec){l->buf, 8};
	op->iov = &l->iov;
	op->iov_count = 1;
	op->len = 8;
	if (t->what == N_WRITE)
		bytes_fill(l->buf, 8, l->at + 1);
}

void names_fill(struct lane *l, struct tried *t)
{
	static const uint8_t opcode[] = {
	        [N_CREATE] = PST_OP_CREATE, [N_UNLINK] = PST_OP_UNLINK, [N_RENAME] = PST_OP_RENAME,
	        [N_LINK] = PST_OP_LINK,     [N_LOOKUP] = PST_OP_LOOKUP, [N_LIST] = PST_OP_READDIR,
	        [N_OPEN] = PST_OP_FILE_OPEN};
	struct pst_op *op = &l->op;

	l->used = 0;
	if (t->what >= N_WRITE) {
		fill_file(l, t);
		return;
	}
	op->opcode = opcode[t->what];
	op->name = t->what == N_LIST ? l->client->prefixed ? "/" : NAMES_DIR
	                             : path(l, t->name, l->path);
	op->name_len = (uint32_t)strlen(op->name);
	if (t->what == N_RENAME || t->what == N_LINK) {
		op->name2 = path(l, t->name2, l->path2);
		op->name2_len = (uint32_t)strlen(op->name2);
	}
	if (t->what == N_CREATE || t->excl)
		op->flags |= PST_F_EXCL;
	if (t->what == N_CREATE) {
		op->attr_mask = PST_ATTR_MODE | PST_ATTR_UID;
		op->attr.mode = 0600;
		op->attr.uid = l->at + 1;
	}
	if (t->what == N_LIST)
		op->entry = listed;
}

void names_ended(struct world *w, struct lane *l, struct tried *t)
{
	if (t->what == N_CLOSE)
		l->held = 0; /* whatever the answer is */
	if (t->status)
		return;
	if (t->what == N_CREATE || t->what == N_LOOKUP || t->what == N_OPEN) {
		t->ino = l->op.attr.ino;
		t->saw = t->what == N_CREATE ? l->at + 1 : l->op.attr.uid;
		/* Its answer is blank but for the number when others have removed it since. */
		if (t->what == N_CREATE && l->op.attr.mode && l->op.attr.uid != t->saw)
			WRONG(w, "op %u: made a file that is op %u's", l->at, l->op.attr.uid - 1);
		if (t->what == N_OPEN)
			l->held = t->ino;
	}
	if (t->what == N_READ && l->op.ret_len)
		t->saw = bytes_saw(w, l->at, l->buf, 8);
}

/* --- the judgement --- */

static bool is_name_op(const struct tried *t)
{
	return t->what >= N_CREATE && t->what <= N_OPEN;
}

static bool changes(const struct tried *t)
{
	return t->what >= N_CREATE && t->what <= N_LINK;
}

static bool made(const struct tried *t)
{
	return changes(t) && t->ended && t->status == 0;
}

/*
 * What it saw, or failed for, may be of a change that was under way when the server crashed: of one that
 * a crash may have undone.
 */
static bool doubtful(const struct world *w, const struct tried *t)
{
	for (unsigned i = 0; i < w->crashes; i++) {
		uint64_t crash_ns = w->crash_ns[i];

		if (crash_ns < t->from_ns)
			continue;
		for (uint32_t k = 0; k < w->count; k++) {
			const struct tried *c = &w->tried[k];

			if (changes(c) && c != t && c->from_ns <= MIN(t->to_ns, crash_ns) &&
			    (!made(c) || c->to_ns > crash_ns) &&
			    (!c->ended || c->to_ns >= t->from_ns))
				return true;
		}
		if (crash_ns > t->to_ns)
			break;
	}
	return false;
}

/* Who made the file of that number: its op + 1; 0: nobody who knows. */
static uint32_t maker(const struct world *w, uint64_t ino)
{
	for (uint32_t i = 0; i < w->count && ino; i++) {
		const struct tried *t = &w->tried[i];

		if ((t->what == N_CREATE || t->what == N_LOOKUP || t->what == N_OPEN) && t->ended &&
		    t->status == 0 && t->ino == ino)
			return t->saw;
	}
	return 0;
}

struct nstate {
	uint16_t at[NAMES]; /* who made what is there; 0: nothing */
};

struct nop {
	const struct tried *t;
	uint32_t at;
	bool must; /* else its outcome is unknown */
	uint64_t to_ns;
	uint16_t list[NAMES];
};

#define ANYTHING UINT16_MAX

struct search {
	struct nop op[NOPS_MAX]; /* in the order of their ends */
	unsigned count, left, best_left;
	uint32_t stuck_at;
	uint64_t done[NOPS_MAX / 64];
	uint64_t tried[TRIED_MAX];
	unsigned tried_count;
	unsigned steps;
	bool gave_up;
};

static bool failed_rightly(const struct tried *t, const struct nstate *st)
{
	bool there = st->at[t->name] != 0;

	if (t->status == -ENOENT)
		return !there;
	return t->what == N_CREATE ? there : st->at[t->name2] != 0; /* EEXIST */
}

/* Could it have done what it did now? Does it. */
static bool apply(const struct nop *o, struct nstate *st)
{
	const struct tried *t = o->t;
	uint16_t *at = &st->at[t->name], *at2 = &st->at[t->name2];

	if (o->must && t->status)
		return failed_rightly(t, st);
	switch (t->what) {
	case N_CREATE:
		if (*at)
			return false;
		*at = (uint16_t)(o->at + 1);
		return true;
	case N_UNLINK:
		if (!*at)
			return false;
		*at = 0;
		return true;
	case N_RENAME:
		if (!*at || (t->excl && *at2))
			return false;
		if (*at == *at2)
			return true; /* two names of one file: nothing happens */
		*at2 = *at;
		*at = 0;
		return true;
	case N_LINK:
		if (!*at || *at2)
			return false;
		*at2 = *at;
		return true;
	case N_LIST:
		for (unsigned i = 0; i < NAMES; i++)
			if (o->list[i] == ANYTHING ? !st->at[i] : o->list[i] != st->at[i])
				return false;
		return true;
	default:
		return *at == t->saw;
	}
}

static uint64_t key_of(const struct search *s, const struct nstate *st)
{
	uint64_t h = 1;

	for (unsigned i = 0; i < ARRAY_LEN(s->done); i++)
		h = hash_u64(h ^ s->done[i]);
	for (unsigned i = 0; i < NAMES; i++)
		h = hash_u64(h ^ st->at[i] ^ (uint64_t)i << 32);
	return h | 1;
}

/* True: it was in vain before. */
static bool in_vain(struct search *s, uint64_t key, bool remember)
{
	unsigned i = (unsigned)(key % TRIED_MAX);

	for (; s->tried[i]; i = (i + 1) % TRIED_MAX)
		if (s->tried[i] == key)
			return true;
	if (remember && s->tried_count < TRIED_MAX / 2) {
		s->tried[i] = key;
		s->tried_count++;
	}
	return false;
}

static bool is_done(const struct search *s, unsigned i)
{
	return s->done[i / 64] >> (i % 64) & 1;
}

static bool order_from(struct search *s, struct nstate st)
{
	uint64_t key = key_of(s, &st), first_end = UINT64_MAX;

	if (!s->left)
		return true;
	if (++s->steps > STEPS_MAX) {
		s->gave_up = true;
		return true;
	}
	if (in_vain(s, key, false))
		return false;
	for (unsigned i = 0; i < s->count; i++)
		if (s->op[i].must && !is_done(s, i)) {
			first_end = s->op[i].to_ns;
			if (s->left < s->best_left) {
				s->best_left = s->left;
				s->stuck_at = s->op[i].at;
			}
			break;
		}
	for (unsigned i = 0; i < s->count; i++) {
		struct nop *o = &s->op[i];
		struct nstate next = st;

		if (is_done(s, i) || o->t->from_ns > first_end || !apply(o, &next))
			continue;
		s->done[i / 64] |= 1ull << (i % 64);
		s->left -= o->must;
		if (order_from(s, next))
			return true;
		s->done[i / 64] &= ~(1ull << (i % 64));
		s->left += o->must;
	}
	(void)in_vain(s, key, true);
	return false;
}

static int by_end(const void *a, const void *b)
{
	const struct nop *x = a, *y = b;

	if (x->to_ns != y->to_ns)
		return x->to_ns < y->to_ns ? -1 : 1;
	return x->at < y->at ? -1 : 1;
}

/* Does it say anything? */
static bool counts(const struct world *w, const struct tried *t, bool *ret_must)
{
	bool says = t->ended && (t->status == 0 || t->status == -ENOENT || t->status == -EEXIST);

	*ret_must = says;
	if (!is_name_op(t))
		return false;
	if (changes(t) && t->status && outcome_unknown(w, t)) {
		*ret_must = false;
		return true;
	}
	return says && (made(t) || !doubtful(w, t));
}

static void search_fill(struct world *w, struct search *s)
{
	for (uint32_t i = 0; i < w->count && s->count < NOPS_MAX; i++) {
		const struct tried *t = &w->tried[i];
		struct nop *o = &s->op[s->count];

		if (!counts(w, t, &o->must))
			continue;
		o->t = t;
		o->at = i;
		o->to_ns = o->must ? t->to_ns : UINT64_MAX;
		for (unsigned n = 0; n < NAMES && t->what == N_LIST; n++) {
			uint32_t who = maker(w, t->list[n]);

			o->list[n] = t->list[n] && !who ? ANYTHING : (uint16_t)who;
		}
		s->count++;
		s->left += o->must;
	}
	qsort(s->op, s->count, sizeof(s->op[0]), by_end);
	s->best_left = s->left + 1;
}

static void judge_order(struct world *w)
{
	static struct search s;

	memset(&s, 0, offsetof(struct search, tried));
	if (s.tried_count)
		memset(s.tried, 0, sizeof(s.tried));
	s.tried_count = s.steps = 0;
	s.gave_up = false;
	search_fill(w, &s);
	if (!order_from(&s, (struct nstate){{0}}))
		WRONG(w, "names: no order explains what was seen up to op %u: J8", s.stuck_at);
	w->undecided = s.gave_up || s.count == NOPS_MAX;
}

/* What lies there in the end: as if somebody had listed it. */
void names_last_look(struct world *w)
{
	struct tried *t = &w->tried[w->count];
	struct lane l = {.client = &w->client[0], .at = w->count};

	pst_assert(w->count < OPS_MAX);
	memset(t, 0, sizeof(*t));
	t->what = N_LIST;
	t->target = TARGETS;
	t->from_ns = t->to_ns = loop_now(w->loop);
	t->ended = true;
	w->count++;
	l.op = (struct pst_op){.opcode = PST_OP_READDIR,
	                       .cont = w->cont,
	                       .name = NAMES_DIR,
	                       .name_len = (uint32_t)strlen(NAMES_DIR),
	                       .entry = listed};
	t->status = ops_run(w->names, &l.op);
	if (t->status)
		WRONG(w, "the directory can't be listed in the end: %d", t->status);
}

/* J7. */
static void judge_held(struct world *w, uint32_t i)
{
	const struct tried *t = &w->tried[i];
	uint32_t who = maker(w, t->ino);

	if ((t->what != N_READ && t->what != N_WRITE) || !t->ended || w->short_lease ||
	    w->revoked_ns[t->life])
		return;
	if (t->status != -ENOENT && t->status != -EBADF && t->status != -ESTALE)
		return;
	for (unsigned k = 0; k < w->crashes && who; k++)
		if (!made(&w->tried[who - 1]) || w->tried[who - 1].to_ns > w->crash_ns[k])
			return; /* a crash may have undone that there ever was such a file */
	WRONG(w, "op %u: %d of what its client holds open: J7", i, t->status);
}

void judge_names(struct world *w)
{
	for (uint32_t i = 0; i < w->count; i++) {
		struct tried *t = &w->tried[i];

		judge_held(w, i);
		/* Each file is a register of its own. */
		if (t->what == N_READ || t->what == N_WRITE)
			t->target = (uint16_t)(TARGETS + maker(w, t->ino));
	}
	judge_order(w);
}
