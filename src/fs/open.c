/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * open - who is held open: FILE_OPEN, FILE_CLOSE, and what unlink does about it.
 *
 * The table has an entry for each inode that is held open and for each whose object a batch under
 * way deletes (dying; then the entry is part of that request). Rules:
 *  1. An inode in the table with count > 0 is not deleted: its last unlink makes it an orphan.
 *  2. FILE_OPEN counts first and looks for the object then, so that an unlink that comes in between
 *     sees the count.
 *  3. Who meets a dying entry waits until the batch has ended, and looks again.
 *  4. The last FILE_CLOSE waits while a batch is under way that may make the inode an orphan
 * (pins).
 *  5. In the time of grace everything counts as open that is not in the table: see fs.h.
 *  6. That an entry is an orphan's is what was read or done last, and a LINK may have come between: the
 *     batch that deletes it asks the list on the medium.
 */
#include "fs_int.h"

int fs_opens_alloc(struct fs *fs)
{
	uint64_t count = 16;

	while (count < fs->opts.open_max / 4 && count < 65536)
		count *= 2;
	fs->buckets = mem_calloc(count, sizeof(*fs->buckets));
	if (!fs->buckets)
		return -ENOMEM;
	for (uint64_t i = 0; i < count; i++)
		list_init(&fs->buckets[i]);
	fs->bucket_mask = count - 1;
	return 0;
}

/* Those still open are closed with the layer: their orphans go at the next start, or are opened again. */
void fs_opens_free(struct fs *fs)
{
	struct list *l;

	for (uint64_t i = 0; fs->buckets && i <= fs->bucket_mask; i++) {
		while ((l = list_pop(&fs->buckets[i])))
			mem_free(list_entry(l, struct fs_open, link));
	}
	mem_free(fs->buckets);
}

static struct list *bucket_of(struct fs *fs, uint32_t cont, uint64_t ino)
{
	return &fs->buckets[hash_u64(ino ^ ((uint64_t)cont << 40)) & fs->bucket_mask];
}

struct fs_open *fs_open_find(struct fs *fs, uint32_t cont, uint64_t ino)
{
	struct list *bucket = bucket_of(fs, cont, ino);
	struct fs_open *o;

	list_for_each (o, bucket, link) {
		if (o->ino == ino && o->cont == cont)
			return o;
	}
	return NULL;
}

static void enter(struct fs *fs, struct fs_open *o, uint32_t cont, uint64_t ino)
{
	*o = (struct fs_open){.cont = cont, .ino = ino};
	list_init(&o->waiters);
	list_push_front(bucket_of(fs, cont, ino), &o->link);
}

static void leave(struct fs *fs, struct fs_open *o)
{
	list_del(&o->link);
	fs_wake_all(fs, &o->waiters);
}

void fs_mark(struct fs *fs, struct fs_open *o, uint32_t cont, uint64_t ino)
{
	enter(fs, o, cont, ino);
	o->dying = true;
}

void fs_unmark(struct fs *fs, struct fs_open *o)
{
	leave(fs, o);
}

/* An entry that nobody has opened yet. */
static int entry_new(struct fs *fs, uint32_t cont, uint64_t ino, struct fs_open **ret_o)
{
	struct fs_open *o;

	if (fs->open_count == fs->opts.open_max)
		return -ENFILE;
	o = mem_alloc(sizeof(*o));
	if (!o)
		return -ENOMEM;
	enter(fs, o, cont, ino);
	fs->open_count++;
	*ret_o = o;
	return 0;
}

int fs_hold(struct fs_req *r, uint64_t ino)
{
	struct fs *fs = r->fs;
	struct fs_open *o = fs_open_find(fs, r->op->cont, ino);
	int ret = o ? 0 : entry_new(fs, r->op->cont, ino, &o);

	if (ret)
		return ret;
	pst_assert(!o->dying);
	o->count++;
	r->held_ino = ino;
	r->holding = true;
	return 0;
}

static void forget(struct fs *fs, struct fs_open *o)
{
	pst_assert(!o->count && !o->pins);
	leave(fs, o);
	fs->open_count--;
	mem_free(o);
}

/* --- for those who remove names --- */

enum fs_act fs_claim(struct fs_req *r, uint64_t ino)
{
	struct fs_open *o = fs_open_find(r->fs, r->op->cont, ino);

	pst_assert(!r->pinned && !r->marked);
	if (!o && fs_in_grace(r->fs)) { /* 5. */
		int ret = entry_new(r->fs, r->op->cont, ino, &o);

		if (ret)
			return fs_end(r, ret);
	}
	if (!o) {
		fs_mark(r->fs, &r->mark, r->op->cont, ino);
		r->marked = true;
		return FS_NEXT;
	}
	if (o->dying || o->pins) {
		fs_release(r);
		return fs_wait_in(r, &o->waiters, r->start);
	}
	o->pins = 1;
	r->pinned = o;
	return FS_NEXT;
}

enum fs_act fs_claim_orphan(struct fs_req *r, uint64_t ino)
{
	struct fs_open *o = fs_open_find(r->fs, r->op->cont, ino);
	int ret = -ENOENT;

	if (!o && fs_in_grace(r->fs)) /* 5. */
		ret = entry_new(r->fs, r->op->cont, ino, &o);
	if (!o)
		return fs_end(r, ret);
	if (o->dying || o->pins) {
		fs_release(r);
		return fs_wait_in(r, &o->waiters, r->start);
	}
	o->pins = 1;
	r->relinked = o;
	return FS_NEXT;
}

void fs_claim_done(struct fs_req *r)
{
	if (r->pinned)
		r->pinned->orphan = true;
	if (r->relinked)
		r->relinked->orphan = false;
}

/* It may have become an orphan that nobody holds, after the time of grace and its reaping. */
static void unpin(struct fs_req *r, struct fs_open *o)
{
	if (!o)
		return;
	o->pins = 0;
	if (o->count) {
		fs_wake_all(r->fs, &o->waiters);
		return;
	}
	r->cont->reap_due |= o->orphan;
	forget(r->fs, o);
}

void fs_unclaim(struct fs_req *r)
{
	if (r->marked) {
		r->marked = false;
		fs_unmark(r->fs, &r->mark);
	}
	unpin(r, r->pinned);
	unpin(r, r->relinked);
	r->pinned = r->relinked = NULL;
}

/* --- giving back: FILE_CLOSE, and an op that failed after it counted --- */

static fs_step drop;

static enum fs_act drop_done(struct fs_req *r)
{
	struct fs_open *o = fs_open_find(r->fs, r->op->cont, r->held_ino);

	bool named = r->sub.status == -FS_CHANGED; /* 6. */

	o->dying = false;
	if (r->sub.status && !named && !r->status) {
		fs_wake_all(r->fs, &o->waiters); /* it stays open: the caller may close it again */
		return fs_end(r, r->sub.status);
	}
	/* Failing here, the orphan stays on the list. */
	r->cont->reap_due |= r->sub.status && !named;
	r->holding = false;
	o->count = 0;
	forget(r->fs, o);
	return FS_END;
}

/* 5: others may have had it open before the restart, who are not back yet: then it stays an orphan,
 * which is deleted after the time of grace. What was made since then nobody else had. */
static bool others_may_come(const struct fs_req *r, uint64_t ino)
{
	return fs_in_grace(r->fs) && (!r->cont->ino_first || ino >> 2 < r->cont->ino_first);
}

static enum fs_act drop(struct fs_req *r)
{
	struct fs_open *o = fs_open_find(r->fs, r->op->cont, r->held_ino);

	if (!o || o->dying || !o->count)
		return fs_end(r, r->status ? r->status : -EBADF);
	if (o->count == 1 && o->pins)
		return fs_wait_in(r, &o->waiters, drop);
	if (o->count == 1 && o->orphan && !others_may_come(r, o->ino)) {
		o->dying = true;
		fs_batch(r);
		fs_if_orphan(r, o->ino);
		fs_delete(r, o->ino);
		fs_orphan_del(r, o->ino);
		if (r->status) /* not the op's own change */
			return fs_commit_own(r, drop_done);
		fs_commit(r, o->ino, drop_done);
		r->next = drop_done; /* whatever the outcome */
		return FS_SUB;
	}
	r->holding = false;
	if (!--o->count)
		forget(r->fs, o);
	return FS_END;
}

enum fs_act fs_drop(struct fs_req *r, int status)
{
	r->status = status;
	return drop(r);
}

/* --- FILE_OPEN --- */

static fs_step open_hold;

static enum fs_act open_done(struct fs_req *r)
{
	struct fs_open *o = fs_open_find(r->fs, r->op->cont, r->held_ino);
	const struct fs_node *n = &r->node[FS_N_MAIN];

	if (r->sub.status)
		return fs_drop(r, r->sub.status);
	/* Somebody may have closed more often than opened, and taken our count. */
	if (!o || o->dying)
		return fs_end(r, -ESTALE);
	if (n->exists && !n->label.nlink && !r->by_path && r->graced)
		o->orphan = true; /* 5. */
	if (n->exists && (n->label.nlink || o->orphan || o->pins))
		return fs_end_attr(r);
	r->cont->reap_due |= n->exists; /* whoever reaped meanwhile left it to us */
	if (!r->by_path || o->count > 1 || o->orphan || o->pins)
		return fs_drop(r, -ESTALE);
	r->holding = false;
	o->count = 0;
	forget(r->fs, o);
	return fs_gone(r); /* the name means something else by now, or nothing */
}

static enum fs_act open_unpack(struct fs_req *r)
{
	struct fs_node *n = &r->node[FS_N_MAIN];
	int ret;

	n->exists = n->st.exists;
	if (!r->sub.status && n->exists) {
		ret = fs_label_unpack(&n->label, n->ino, n->st.label, n->st.label_len);
		if (ret)
			return fs_drop(r, ret);
	}
	return open_done(r);
}

static enum fs_act open_hold(struct fs_req *r)
{
	struct fs_node *n = &r->node[FS_N_MAIN];
	struct fs_open *o = fs_open_find(r->fs, r->op->cont, n->ino);
	int ret;

	if (o && o->dying)
		return fs_wait_in(r, &o->waiters, r->start);
	ret = fs_hold(r, n->ino);
	if (ret)
		return fs_end(r, ret);
	r->graced = fs_in_grace(r->fs);
	n->exists = false;
	fs_sub(r, PST_OP_STAT, n->ino)->stat = &n->st;
	r->next = open_unpack; /* not fs_stat(): a failure has to give it back */
	return FS_SUB;
}

static enum fs_act open_view(struct fs_req *r)
{
	return r->node[FS_N_MAIN].exists ? fs_end_attr(r) : fs_gone(r);
}

static enum fs_act open_target(struct fs_req *r)
{
	/* Nothing goes away in a snapshot: there is nothing to hold. */
	if (r->op->view)
		return fs_stat(r, FS_N_MAIN, r->node[FS_N_MAIN].ino, open_view);
	return open_hold(r);
}

enum fs_act fs_open_made(struct fs_req *r, uint64_t ino)
{
	r->node[FS_N_MAIN].ino = ino;
	r->by_path = false;
	return open_hold(r);
}

enum fs_act fs_op_open(struct fs_req *r)
{
	return fs_target(r, !(r->op->flags & PST_F_NOFOLLOW), open_target);
}

/* --- FILE_CLOSE --- */

enum fs_act fs_op_close(struct fs_req *r)
{
	struct fs_open *o = fs_open_find(r->fs, r->op->cont, r->ino_in);

	if (r->op->view)
		return fs_end(r, 0);
	if (!o || o->dying || !o->count)
		return fs_end(r, -EBADF);
	r->held_ino = r->ino_in;
	return fs_drop(r, 0);
}
