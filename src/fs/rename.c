/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rename - RENAME: one entry goes, another comes, and what it replaces loses a link; or, with
 * PST_F_EXCHANGE, two entries swap what they name. One batch.
 *
 * Moving a directory into its own descendant would cut both off from the root. So the ancestors of
 * the new place are climbed, and the directory must not be among them. Two moves at the same time
 * could each find the tree in order and together make a loop (a to b/x, b to a/y), and no condition
 * on the few inodes that a batch names would notice, since the parents change further up. So moves
 * of directories from one directory to another go one by one in a container (cont->mover), from
 * before the climb until the batch has ended. Nothing else changes who is whose ancestor: rmdir
 * takes empty directories only, mkdir makes new ones. Renames within a directory and of other files
 * need no turn.
 */
#include "fs_int.h"

#define CLIMB_MAX (1u << 20) /* directories deep: above it the parents go in circles */

static bool exchange(const struct fs_req *r)
{
	return r->op->flags & PST_F_EXCHANGE;
}

static bool across(const struct fs_req *r)
{
	return r->walk[0].dir != r->walk[1].dir;
}

static bool is_dir(const struct fs_walk *w)
{
	return w->ino && w->type == DT_DIR;
}

/* --- the batch --- */

static enum fs_act rename_done(struct fs_req *r)
{
	fs_claim_done(r);
	return fs_end(r, 0);
}

static bool looked_up(const struct fs_req *r, unsigned n)
{
	return r->stat_all & (1u << n);
}

static void add_conditions(struct fs_req *r)
{
	static const char prefix = FS_KEY_DIRENT;
	const struct fs_walk *to = &r->walk[1];

	fs_if_dirent(r, &r->walk[0]);
	fs_if_dirent(r, to);
	fs_if_present(r, to->dir, -ENOENT);
	if (is_dir(to) && !exchange(r))
		fs_if_key(r, PST_IF_NO_KEYS, to->ino, &prefix, 1, -ENOTEMPTY);
	for (unsigned n = 0; n < FS_NODES; n++) {
		if (looked_up(r, n))
			fs_if_label(r, &r->node[n]);
	}
}

static void put_labels(struct fs_req *r)
{
	struct fs_node *moved = &r->node[FS_N_MAIN], *other = &r->node[FS_N_VICTIM];

	for (unsigned i = 0; i < 2; i++) {
		struct fs_node *dir = &r->node[FS_N_DIR + i];

		if (r->nlink_delta[i]) {
			dir->label.nlink += (uint32_t)r->nlink_delta[i];
			fs_set_label(r, dir);
		}
	}
	if (looked_up(r, FS_N_MAIN)) {
		moved->label.parent = r->walk[1].dir;
		moved->label.ctime_ns = r->now_ns;
		fs_set_label(r, moved);
	}
	if (looked_up(r, FS_N_VICTIM) && exchange(r)) {
		other->label.parent = r->walk[0].dir;
		other->label.ctime_ns = r->now_ns;
		fs_set_label(r, other);
	}
}

static enum fs_act rename_commit(struct fs_req *r)
{
	const struct fs_walk *from = &r->walk[0], *to = &r->walk[1];

	fs_batch(r);
	add_conditions(r);
	if (exchange(r))
		fs_put_dirent(r, 1, from, to->ino, to->type);
	else
		fs_del(r, from->dir, from->key, from->key_len);
	fs_put_dirent(r, 0, to, from->ino, from->type);
	if (to->ino && !exchange(r)) {
		if (is_dir(to))
			fs_delete(r, to->ino);
		else
			fs_unlink_do(r, &r->node[FS_N_VICTIM]);
	}
	put_labels(r);
	fs_set_mtime(r, from->dir, r->now_ns);
	if (across(r))
		fs_set_mtime(r, to->dir, r->now_ns);
	return fs_commit(r, from->ino, rename_done);
}

/* --- what the batch has to know: labels --- */

static fs_step look_up_next;

static enum fs_act all_looked_up(struct fs_req *r)
{
	const struct fs_node *victim = &r->node[FS_N_VICTIM];
	enum fs_act act = FS_NEXT;

	for (unsigned n = 0; n < FS_NODES; n++) {
		if (looked_up(r, n) && !r->node[n].exists)
			return fs_again(r);
	}
	for (unsigned i = 0; i < 2; i++) {
		uint32_t nlink = r->node[FS_N_DIR + i].label.nlink;

		if (r->nlink_delta[i] < 0 && nlink <= 2)
			return fs_again(r); /* not any more: the entry was read before */
		if (r->nlink_delta[i] > 0 && nlink == UINT32_MAX)
			return fs_end(r, -EMLINK);
	}
	if (looked_up(r, FS_N_VICTIM) && !exchange(r)) {
		if (!victim->label.nlink)
			return fs_again(r); /* not any more: the entry was read before */
		if (victim->label.nlink == 1)
			act = fs_claim(r, victim->ino);
		if (act != FS_NEXT)
			return act;
	}
	return rename_commit(r);
}

static enum fs_act look_up_next(struct fs_req *r)
{
	const uint64_t ino[FS_NODES] = {
	        [FS_N_MAIN] = r->walk[0].ino,
	        [FS_N_DIR] = r->walk[0].dir,
	        [FS_N_DIR2] = r->walk[1].dir,
	        [FS_N_VICTIM] = r->walk[1].ino,
	};

	for (unsigned n = 0; n < FS_NODES; n++) {
		if (r->stat_mask & (1u << n)) {
			r->stat_mask &= ~(1u << n);
			return fs_stat(r, n, ino[n], look_up_next);
		}
	}
	return all_looked_up(r);
}

static enum fs_act look_up(struct fs_req *r)
{
	const struct fs_walk *from = &r->walk[0], *to = &r->walk[1];
	int gone = is_dir(from), come = is_dir(to); /* sub-directories of from->dir, of to->dir */

	r->nlink_delta[0] = exchange(r) ? come - gone : -gone;
	r->nlink_delta[1] = gone - come;
	if (!across(r)) {
		r->nlink_delta[0] += r->nlink_delta[1];
		r->nlink_delta[1] = 0;
	}
	r->stat_mask = (r->nlink_delta[0] ? 1u << FS_N_DIR : 0) |
	               (r->nlink_delta[1] ? 1u << FS_N_DIR2 : 0);
	if (across(r) && is_dir(from))
		r->stat_mask |= 1u << FS_N_MAIN; /* its parent changes */
	if (exchange(r) ? across(r) && is_dir(to) : to->ino && !is_dir(to))
		r->stat_mask |= 1u << FS_N_VICTIM;
	r->stat_all = r->stat_mask;
	return look_up_next(r);
}

/* --- not into itself --- */

static enum fs_act climbed(struct fs_req *r)
{
	const struct fs_node *n = &r->node[FS_N_DIR];

	if (!n->exists)
		return fs_again(r);
	if (n->ino == PST_INO_ROOT)
		return fs_goto(r, r->climb_then);
	if (n->label.parent == r->climb_not)
		return fs_end(r, -EINVAL);
	if (++r->tries > CLIMB_MAX)
		return fs_end(r, -EBADMSG);
	return fs_stat(r, FS_N_DIR, n->label.parent, climbed);
}

/* Ends the op if @avoid is @dir or one of its ancestors. */
static enum fs_act climb(struct fs_req *r, uint64_t dir, uint64_t avoid, fs_step *then)
{
	if (dir == avoid)
		return fs_end(r, -EINVAL);
	r->climb_not = avoid;
	r->climb_then = then;
	r->tries = 0;
	return fs_stat(r, FS_N_DIR, dir, climbed);
}

static enum fs_act climb_other(struct fs_req *r)
{
	if (exchange(r) && is_dir(&r->walk[1]))
		return climb(r, r->walk[0].dir, r->walk[1].ino, look_up);
	return look_up(r);
}

static enum fs_act move_directory(struct fs_req *r)
{
	struct fs_cont *c = r->cont;

	if (c->mover != r) {
		/* When it is our turn (mover is set then) all is looked at again. */
		if (c->mover)
			return fs_wait_in(r, &c->move_waiters, r->start);
		c->mover = r;
	}
	if (is_dir(&r->walk[0]))
		return climb(r, r->walk[1].dir, r->walk[0].ino, climb_other);
	return climb_other(r);
}

/* --- what is allowed --- */

static int check(const struct fs_req *r)
{
	const struct fs_walk *from = &r->walk[0], *to = &r->walk[1];

	if (from->slash && !is_dir(from))
		return -ENOTDIR;
	if (to->slash && !(exchange(r) ? is_dir(to) : is_dir(from)))
		return to->ino || !exchange(r) ? -ENOTDIR : -ENOENT;
	if (!to->ino)
		return exchange(r) ? -ENOENT : 0;
	if (r->op->flags & PST_F_EXCL)
		return -EEXIST;
	if (exchange(r) || from->ino == to->ino)
		return 0;
	if (is_dir(from) != is_dir(to))
		return is_dir(from) ? -ENOTDIR : -EISDIR;
	return 0;
}

static enum fs_act same_done(struct fs_req *r)
{
	return fs_end(r, 0);
}

/*
 * Two names of one file: both stay, as POSIX wants it. That is an answer like any other, which holds after
 * a crash: what it was found by may not be durable yet, and is when a record that comes after it is.
 */
static enum fs_act same_file(struct fs_req *r)
{
	fs_batch(r);
	fs_if_dirent(r, &r->walk[0]);
	fs_if_dirent(r, &r->walk[1]);
	return fs_commit(r, 0, same_done);
}

static enum fs_act rename_entries(struct fs_req *r)
{
	const struct fs_walk *from = &r->walk[0], *to = &r->walk[1];
	int ret = check(r);

	if (ret)
		return fs_end(r, ret);
	if (from->ino == to->ino)
		return same_file(r);
	if (across(r) && (is_dir(from) || (exchange(r) && is_dir(to))))
		return move_directory(r);
	return look_up(r);
}

static enum fs_act rename_from(struct fs_req *r)
{
	if (!r->walk[0].ino)
		return fs_end(r, -ENOENT);
	return fs_dirent_get(r, &r->walk[1], rename_entries);
}

static enum fs_act rename_walked2(struct fs_req *r)
{
	if (r->walk[0].last != FS_LAST_NAME || r->walk[1].last != FS_LAST_NAME)
		return fs_end(r, -EBUSY);
	return fs_dirent_get(r, &r->walk[0], rename_from);
}

static enum fs_act rename_walked(struct fs_req *r)
{
	const struct pst_op *op = r->op;

	return fs_walk(r, 1, op->dir2, op->name2, op->name2_len, FS_WALK_PARENT, false,
	               rename_walked2);
}

enum fs_act fs_op_rename(struct fs_req *r)
{
	const struct pst_op *op = r->op;

	if (op->flags & PST_F_EXCL && op->flags & PST_F_EXCHANGE)
		return fs_end(r, -EINVAL);
	return fs_walk(r, 0, op->dir, op->name, op->name_len, FS_WALK_PARENT, false, rename_walked);
}
