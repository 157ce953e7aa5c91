/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remove - UNLINK, RMDIR, and how one link of an inode goes, for all ops that take one:
 *
 *   links left   held open   its object             the orphan list
 *   some         -           label: one link less   -
 *   none         no          deleted                -
 *   none         yes         label: no links        entered; FILE_CLOSE deletes both
 */
#include "fs_int.h"

void fs_unlink_if(struct fs_req *r, const struct fs_node *n)
{
	fs_if_label(r, n);
}

void fs_unlink_do(struct fs_req *r, struct fs_node *n)
{
	if (r->marked) {
		fs_delete(r, n->ino);
		n->label.nlink = 0;
		return;
	}
	n->label.nlink--;
	n->label.ctime_ns = r->now_ns;
	fs_set_label(r, n);
	if (!n->label.nlink)
		fs_orphan_put(r, n->ino);
}

/* --- UNLINK: the attributes of what lost the name are the answer, as they are after it --- */

static enum fs_act unlink_done(struct fs_req *r)
{
	fs_claim_done(r);
	fs_attr_fill(&r->node[FS_N_MAIN], &r->op->attr);
	return fs_end(r, 0);
}

static enum fs_act unlink_found(struct fs_req *r)
{
	const struct fs_walk *w = &r->walk[0];
	struct fs_node *n = &r->node[FS_N_MAIN];
	enum fs_act act = FS_NEXT;

	if (!n->exists)
		return fs_gone(r);
	if (!n->label.nlink)
		return fs_again(r); /* not any more: the entry was read before */
	if (n->label.nlink == 1)
		act = fs_claim(r, n->ino);
	if (act != FS_NEXT)
		return act;
	fs_batch(r);
	fs_if_dirent(r, w);
	fs_unlink_if(r, n);
	fs_del(r, w->dir, w->key, w->key_len);
	fs_unlink_do(r, n);
	fs_set_mtime(r, w->dir, r->now_ns);
	return fs_commit(r, 0, unlink_done);
}

static enum fs_act unlink_entry(struct fs_req *r)
{
	const struct fs_walk *w = &r->walk[0];

	if (!w->ino)
		return fs_end(r, -ENOENT);
	if (w->type == DT_DIR)
		return fs_end(r, -EISDIR);
	if (w->slash)
		return fs_end(r, -ENOTDIR);
	r->by_path = true;
	return fs_stat(r, FS_N_MAIN, w->ino, unlink_found);
}

static enum fs_act unlink_walked(struct fs_req *r)
{
	if (r->walk[0].last != FS_LAST_NAME)
		return fs_end(r, -EISDIR);
	return fs_dirent_get(r, &r->walk[0], unlink_entry);
}

enum fs_act fs_op_unlink(struct fs_req *r)
{
	const struct pst_op *op = r->op;

	return fs_walk(r, 0, op->dir, op->name, op->name_len, FS_WALK_PARENT, false, unlink_walked);
}

/* --- RMDIR --- */

static enum fs_act rmdir_done(struct fs_req *r)
{
	return fs_end(r, 0);
}

static enum fs_act rmdir_found(struct fs_req *r)
{
	static const char prefix = FS_KEY_DIRENT;
	const struct fs_walk *w = &r->walk[0];
	struct fs_node *dir = &r->node[FS_N_DIR];

	if (!dir->exists)
		return fs_end(r, -ENOENT);
	if (dir->label.nlink <= 2)
		return fs_again(r); /* not any more: the entry was read before */
	fs_batch(r);
	fs_if_dirent(r, w);
	fs_if_key(r, PST_IF_NO_KEYS, w->ino, &prefix, 1, -ENOTEMPTY);
	fs_if_label(r, dir);
	fs_del(r, w->dir, w->key, w->key_len);
	fs_delete(r, w->ino);
	dir->label.nlink--;
	fs_set_label(r, dir);
	fs_set_mtime(r, w->dir, r->now_ns);
	return fs_commit(r, 0, rmdir_done);
}

static enum fs_act rmdir_entry(struct fs_req *r)
{
	const struct fs_walk *w = &r->walk[0];

	if (!w->ino)
		return fs_end(r, -ENOENT);
	if (w->type != DT_DIR)
		return fs_end(r, -ENOTDIR);
	return fs_stat(r, FS_N_DIR, w->dir, rmdir_found);
}

static enum fs_act rmdir_walked(struct fs_req *r)
{
	switch (r->walk[0].last) {
	case FS_LAST_ROOT:
		return fs_end(r, -EBUSY);
	case FS_LAST_DOT:
		return fs_end(r, -EINVAL);
	case FS_LAST_DOTDOT:
		return fs_end(r, -ENOTEMPTY);
	case FS_LAST_NAME:
		break;
	}
	return fs_dirent_get(r, &r->walk[0], rmdir_entry);
}

enum fs_act fs_op_rmdir(struct fs_req *r)
{
	const struct pst_op *op = r->op;

	return fs_walk(r, 0, op->dir, op->name, op->name_len, FS_WALK_PARENT, false, rmdir_walked);
}
