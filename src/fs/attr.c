/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * attr - LOOKUP, GETATTR, SETATTR, STATFS, and what all ops use to answer with attributes and to
 * find the inode they are about.
 */
#include "fs_int.h"

void fs_attr_fill(const struct fs_node *n, struct pst_attr *ret_attr)
{
	*ret_attr = (struct pst_attr){
	        .ino = n->ino,
	        .mode = n->label.mode,
	        .uid = n->label.uid,
	        .gid = n->label.gid,
	        .nlink = n->label.nlink,
	        .size_bytes = n->st.size_bytes,
	        .alloc_bytes = n->st.alloc_bytes,
	        .rdev = n->label.rdev,
	        .atime_ns = (int64_t)n->label.atime_ns,
	        .mtime_ns = (int64_t)n->st.mtime_ns,
	        .ctime_ns = MAX((int64_t)n->label.ctime_ns, (int64_t)n->st.mtime_ns),
	        .btime_ns = (int64_t)n->label.btime_ns,
	};
}

enum fs_act fs_end_attr(struct fs_req *r)
{
	const struct fs_node *n = &r->node[FS_N_MAIN];

	r->op->ino = n->ino;
	fs_attr_fill(n, &r->op->attr);
	return fs_end(r, 0);
}

static enum fs_act end_stat_done(struct fs_req *r)
{
	struct fs_node *n = &r->node[FS_N_MAIN];

	if (!r->sub.status && n->st.exists &&
	    !fs_label_unpack(&n->label, n->ino, n->st.label, n->st.label_len))
		return fs_end_attr(r);
	/* The op happened, so it can't fail any more: gone again since, or unreadable. */
	r->op->ino = n->ino;
	r->op->attr = (struct pst_attr){.ino = n->ino};
	return fs_end(r, 0);
}

enum fs_act fs_end_stat(struct fs_req *r, uint64_t ino)
{
	struct fs_node *n = &r->node[FS_N_MAIN];

	n->ino = ino;
	n->st.exists = false;
	fs_sub(r, PST_OP_STAT, ino)->stat = &n->st;
	r->next = end_stat_done;
	return FS_SUB;
}

static enum fs_act target_walked(struct fs_req *r)
{
	r->node[FS_N_MAIN].ino = r->walk[0].ino;
	/* Not so "." of a directory that is gone: it stays gone. */
	r->by_path = r->walk[0].ino != fs_alias(r, r->op->dir);
	return fs_goto(r, r->target_then);
}

enum fs_act fs_target(struct fs_req *r, bool follow, fs_step *then)
{
	const struct pst_op *op = r->op;
	uint64_t ino;

	r->by_path = false;
	if (!r->ino_in && op->name_len) {
		r->target_then = then;
		return fs_walk(r, 0, op->dir, op->name, op->name_len, FS_WALK_LAST, follow,
		               target_walked);
	}
	ino = fs_alias(r, r->ino_in ? r->ino_in : op->dir);
	r->node[FS_N_MAIN].ino = ino;
	return fs_ino_kind(ino) == FS_KIND_DIR ? fs_under(r, ino, then) : fs_goto(r, then);
}

/* --- LOOKUP, GETATTR --- */

static enum fs_act lookup_done(struct fs_req *r)
{
	return r->node[FS_N_MAIN].exists ? fs_end_attr(r) : fs_gone(r);
}

static enum fs_act lookup_stat(struct fs_req *r)
{
	return fs_stat(r, FS_N_MAIN, r->node[FS_N_MAIN].ino, lookup_done);
}

enum fs_act fs_op_lookup(struct fs_req *r)
{
	return fs_target(r, !(r->op->flags & PST_F_NOFOLLOW), lookup_stat);
}

/* --- SETATTR --- */

#define PERM_BITS 07777u

void fs_label_apply(struct fs_label *l, const struct pst_op *op)
{
	if (op->attr_mask & PST_ATTR_MODE)
		l->mode = (l->mode & S_IFMT) | (op->attr.mode & PERM_BITS);
	if (op->attr_mask & PST_ATTR_UID)
		l->uid = op->attr.uid;
	if (op->attr_mask & PST_ATTR_GID)
		l->gid = op->attr.gid;
	if (op->attr_mask & PST_ATTR_ATIME)
		l->atime_ns = (uint64_t)op->attr.atime_ns;
}

static enum fs_act setattr_done(struct fs_req *r)
{
	return fs_end_stat(r, r->sub.ino);
}

static int check_resize(const struct fs_req *r, const struct fs_node *n)
{
	if (!(r->op->attr_mask & PST_ATTR_SIZE))
		return 0;
	if (!S_ISREG(n->label.mode))
		return S_ISDIR(n->label.mode) ? -EISDIR : -EINVAL;
	return r->op->attr.size_bytes > PST_OBJECT_MAX ? -EFBIG : 0;
}

static enum fs_act setattr_found(struct fs_req *r)
{
	struct fs_node *n = &r->node[FS_N_MAIN];
	const struct pst_op *op = r->op;
	int ret;

	if (!n->exists)
		return fs_gone(r);
	ret = check_resize(r, n);
	if (ret)
		return fs_end(r, ret);
	fs_batch(r);
	fs_if_label(r, n);
	fs_label_apply(&n->label, op);
	n->label.ctime_ns = r->now_ns;
	fs_set_label(r, n);
	if (op->attr_mask & PST_ATTR_SIZE)
		fs_resize(r, n->ino, op->attr.size_bytes);
	if (op->attr_mask & PST_ATTR_MTIME)
		fs_set_mtime(r, n->ino, (uint64_t)op->attr.mtime_ns);
	else if (op->attr_mask & PST_ATTR_SIZE)
		fs_set_mtime(r, n->ino, r->now_ns);
	return fs_commit(r, n->ino, setattr_done);
}

static enum fs_act setattr_stat(struct fs_req *r)
{
	return fs_stat(r, FS_N_MAIN, r->node[FS_N_MAIN].ino, setattr_found);
}

enum fs_act fs_op_setattr(struct fs_req *r)
{
	const uint32_t all = PST_ATTR_MODE | PST_ATTR_UID | PST_ATTR_GID | PST_ATTR_SIZE |
	                     PST_ATTR_ATIME | PST_ATTR_MTIME;

	if (r->op->attr_mask & ~all)
		return fs_end(r, -EINVAL);
	return fs_target(r, !(r->op->flags & PST_F_NOFOLLOW), setattr_stat);
}

/* --- STATFS: of the container into cont_info, of the store into status_out, where asked for --- */

static enum fs_act statfs_done(struct fs_req *r)
{
	return fs_end(r, r->sub.status);
}

static enum fs_act statfs_status(struct fs_req *r)
{
	if (r->sub.status)
		return fs_end(r, r->sub.status);
	if (!r->op->status_out)
		return fs_end(r, 0);
	fs_sub(r, PST_OP_STATUS, 0)->status_out = r->op->status_out;
	r->next = statfs_done;
	return FS_SUB;
}

enum fs_act fs_op_statfs(struct fs_req *r)
{
	struct pst_op *op = r->op;

	if (!op->cont_info && !op->status_out)
		return fs_end(r, -EINVAL);
	r->sub.status = 0;
	if (!op->cont_info)
		return statfs_status(r);
	fs_sub(r, PST_OP_CONT_GET, 0)->cont_info = op->cont_info;
	r->sub.oid = (struct pst_oid){0};
	r->next = statfs_status;
	return FS_SUB;
}
