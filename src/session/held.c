/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * held - the inodes that a session holds open. The store counts opens and doesn't know whose they are;
 * here they have an owner, so that nobody closes what another one holds, and so that nothing stays
 * held when a client is gone.
 *
 * A session holds an inode or it doesn't: FILE_OPEN of one that it holds already is given back to
 * the store, so that a repeat after a lost answer costs nothing. A client that opens a file more than
 * once counts by itself.
 *
 * A hash set with open addressing, at most half full.
 */
#include "session/session_int.h"

static uint32_t place_of(const struct session *s, uint32_t cont, uint64_t ino)
{
	return (uint32_t)hash_u64(ino * 31 + cont) & (s->held_room - 1);
}

/* Where it is, or the free place where it would be. */
static struct held_ino *held_at(const struct session *s, uint32_t cont, uint64_t ino)
{
	uint32_t i = place_of(s, cont, ino);

	while (s->held[i].ino && (s->held[i].ino != ino || s->held[i].cont != cont))
		i = (i + 1) & (s->held_room - 1);
	return &s->held[i];
}

bool held_find(const struct session *s, uint32_t cont, uint64_t ino)
{
	return s->held_count && ino && held_at(s, cont, ino)->ino;
}

static void put(struct session *s, uint32_t cont, uint64_t ino)
{
	*held_at(s, cont, ino) = (struct held_ino){.ino = ino, .cont = cont};
}

int held_reserve(struct session *s)
{
	uint32_t want = s->held_count + s->opens_coming + 1, old_room = s->held_room;
	struct held_ino *old = s->held, *bigger;

	if (want > s->table->opts.opens_max)
		return -ENFILE;
	if (want * 2 <= s->held_room)
		return 0;
	bigger = mem_calloc(old_room ? old_room * 2 : 16, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	s->held = bigger;
	s->held_room = old_room ? old_room * 2 : 16;
	for (uint32_t i = 0; i < old_room; i++)
		if (old[i].ino)
			put(s, old[i].cont, old[i].ino);
	mem_free(old);
	return 0;
}

void held_add(struct session *s, uint32_t cont, uint64_t ino)
{
	put(s, cont, ino);
	s->held_count++;
}

/* Those behind it in the chain move up, so that searches still end at a free place. */
void held_del(struct session *s, uint32_t cont, uint64_t ino)
{
	struct held_ino *e = held_at(s, cont, ino);
	uint32_t i = (uint32_t)(e - s->held);

	if (!e->ino)
		return;
	e->ino = 0;
	s->held_count--;
	for (;;) {
		struct held_ino moved;

		i = (i + 1) & (s->held_room - 1);
		if (!s->held[i].ino)
			return;
		moved = s->held[i];
		s->held[i].ino = 0;
		put(s, moved.cont, moved.ino);
	}
}

static void let_go_done(struct sys_op *o, int status)
{
	/* -ESTALE, -EBADF, -ENOENT: gone with its container, or by a hand that knows better. */
	if (status && status != -ESTALE && status != -EBADF && status != -ENOENT)
		log_warn("inode %llu of container %u stays held open: %s",
		         (unsigned long long)o->op.ino, o->op.cont, strerror(-status));
}

void held_let_go(struct session_table *t, uint32_t cont, uint64_t ino)
{
	struct sys_op *o = sys_new(t, PST_OP_FILE_CLOSE, let_go_done, NULL);

	if (!o) {
		log_warn("inode %llu of container %u stays held open: no memory",
		         (unsigned long long)ino, cont);
		return;
	}
	o->op.cont = cont;
	o->op.ino = ino;
	sys_go(o);
}

void held_release_all(struct session *s)
{
	for (uint32_t i = 0; i < s->held_room && s->held_count; i++)
		if (s->held[i].ino) {
			held_let_go(s->table, s->held[i].cont, s->held[i].ino);
			s->held[i].ino = 0;
			s->held_count--;
		}
}
