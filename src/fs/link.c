/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * link - LINK: a further name for an inode, or the first one for an inode that was made without
 * (CREATE without a name). With PST_F_REPLACE it takes the place of what has the name, atomically:
 * so a large file is written nameless and then appears whole.
 *
 * The last symbolic link of the source is not followed.
 */
#include "fs_int.h"

static enum fs_act link_done(struct fs_req *r)
{
	fs_claim_done(r);
	return fs_end_stat(r, r->sub.ino);
}

static enum fs_act link_commit(struct fs_req *r)
{
	struct fs_node *n = &r->node[FS_N_MAIN], *victim = &r->node[FS_N_VICTIM];
	const struct fs_walk *w = &r->walk[1];

	fs_batch(r);
	fs_if_present(r, w->dir, -ENOENT);
	if (r->op->flags & PST_F_REPLACE)
		fs_if_dirent(r, w);
	else
		fs_if_key(r, PST_IF_KEY_ABSENT, w->dir, w->key, w->key_len, -EEXIST);
	fs_if_label(r, n);
	if (w->ino)
		fs_unlink_if(r, victim);
	fs_put_dirent(r, 0, w, n->ino, fs_type_of_mode(n->label.mode));
	if (r->relinked)
		fs_orphan_del(r, n->ino);
	n->label.nlink++;
	n->label.ctime_ns = r->now_ns;
	fs_set_label(r, n);
	if (w->ino)
		fs_unlink_do(r, victim);
	fs_set_mtime(r, w->dir, r->now_ns);
	return fs_commit(r, n->ino, link_done);
}

static enum fs_act link_victim(struct fs_req *r)
{
	const struct fs_node *victim = &r->node[FS_N_VICTIM];
	enum fs_act act = FS_NEXT;

	if (!victim->exists)
		return fs_again(r);
	if (!victim->label.nlink)
		return fs_again(r); /* not any more: the entry was read before */
	if (victim->label.nlink == 1)
		act = fs_claim(r, victim->ino);
	return act == FS_NEXT ? link_commit(r) : act;
}

/* PST_F_REPLACE by itself: a record all the same, as in a rename that changes nothing (rename.c). */
static enum fs_act link_same(struct fs_req *r)
{
	fs_batch(r);
	fs_if_dirent(r, &r->walk[1]);
	fs_if_label(r, &r->node[FS_N_MAIN]);
	return fs_commit(r, r->node[FS_N_MAIN].ino, link_done);
}

static enum fs_act link_found(struct fs_req *r)
{
	const struct fs_node *n = &r->node[FS_N_MAIN];
	const struct fs_walk *w = &r->walk[1];
	enum fs_act act;

	if (!n->exists)
		return fs_gone(r);
	if (n->label.nlink >= r->fs->opts.link_max)
		return fs_end(r, -EMLINK);
	if (w->ino == n->ino)
		return link_same(r);
	if (!n->label.nlink) {
		act = fs_claim_orphan(r, n->ino);
		if (act != FS_NEXT)
			return act;
	}
	if (w->ino)
		return fs_stat(r, FS_N_VICTIM, w->ino, link_victim);
	return link_commit(r);
}

static enum fs_act link_entry(struct fs_req *r)
{
	if (r->walk[1].ino && r->walk[1].type == DT_DIR)
		return fs_end(r, -EISDIR);
	return fs_stat(r, FS_N_MAIN, r->node[FS_N_MAIN].ino, link_found);
}

static enum fs_act link_walked(struct fs_req *r)
{
	const struct fs_walk *w = &r->walk[1];

	if (w->last != FS_LAST_NAME)
		return fs_end(r, -EEXIST);
	if (w->slash)
		return fs_end(r, -ENOENT);
	if (r->op->flags & PST_F_REPLACE)
		return fs_dirent_get(r, &r->walk[1], link_entry);
	return link_entry(r);
}

static enum fs_act link_target(struct fs_req *r)
{
	const struct pst_op *op = r->op;

	if (fs_ino_kind(r->node[FS_N_MAIN].ino) == FS_KIND_DIR)
		return fs_end(r, -EPERM);
	return fs_walk(r, 1, op->dir2, op->name2, op->name2_len, FS_WALK_PARENT, false,
	               link_walked);
}

enum fs_act fs_op_link(struct fs_req *r)
{
	return fs_target(r, false, link_target);
}
