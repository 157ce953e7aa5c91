/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * xattr - extended attributes: keys of the inode's object. op->key is the name, op->val the value.
 * All name spaces are alike here, and symbolic links may have them too.
 */
#include "fs_int.h"

/* The key of op->key, in walk[1].key (those ops have one path only). */
static int make_key(struct fs_req *r)
{
	const struct pst_op *op = r->op;
	struct fs_walk *w = &r->walk[1];

	if (!op->key_len || op->key_len > PST_NAME_MAX || memchr(op->key, 0, op->key_len))
		return -ERANGE; /* as setxattr(2) has it */
	w->key[0] = FS_KEY_XATTR;
	memcpy(w->key + 1, op->key, op->key_len);
	w->key_len = 1 + op->key_len;
	return 0;
}

static enum fs_act start(struct fs_req *r, fs_step *then)
{
	int ret = make_key(r);

	return ret ? fs_end(r, ret) : fs_target(r, !(r->op->flags & PST_F_NOFOLLOW), then);
}

/* --- GETXATTR --- */

static enum fs_act get_checked(struct fs_req *r)
{
	return r->node[FS_N_MAIN].exists ? fs_end(r, -ENODATA) : fs_gone(r);
}

static enum fs_act got(struct fs_req *r)
{
	int ret = r->sub.status;

	if (ret == -ENOENT)
		return fs_stat(r, FS_N_MAIN, r->node[FS_N_MAIN].ino, get_checked);
	if (ret == -ERANGE && !r->op->val_cap)
		ret = 0; /* how long is it? */
	if (!ret)
		r->op->ret_len = r->sub.ret_len;
	return fs_end(r, ret);
}

static enum fs_act get_target(struct fs_req *r)
{
	struct pst_op *sub = fs_sub(r, PST_OP_KV_GET, r->node[FS_N_MAIN].ino);

	sub->key = r->walk[1].key;
	sub->key_len = r->walk[1].key_len;
	sub->val = r->op->val;
	sub->val_cap = r->op->val_cap;
	r->next = got;
	return FS_SUB;
}

enum fs_act fs_op_getxattr(struct fs_req *r)
{
	return start(r, get_target);
}

/* --- SETXATTR, REMOVEXATTR --- */

static enum fs_act changed(struct fs_req *r)
{
	return fs_end(r, 0);
}

static enum fs_act change_found(struct fs_req *r)
{
	struct fs_node *n = &r->node[FS_N_MAIN];
	const struct fs_walk *w = &r->walk[1];
	const struct pst_op *op = r->op;
	bool set = op->opcode == PST_OP_SETXATTR;

	if (!n->exists)
		return fs_gone(r);
	fs_batch(r);
	if (set && op->flags & PST_F_EXCL)
		fs_if_key(r, PST_IF_KEY_ABSENT, n->ino, w->key, w->key_len, -EEXIST);
	if (!set || op->flags & PST_F_REPLACE)
		fs_if_key(r, PST_IF_KEY_PRESENT, n->ino, w->key, w->key_len, -ENODATA);
	fs_if_label(r, n);
	n->label.ctime_ns = r->now_ns;
	fs_set_label(r, n);
	if (set)
		fs_put(r, n->ino, w->key, w->key_len, op->val, op->val_cap);
	else
		fs_del(r, n->ino, w->key, w->key_len);
	return fs_commit(r, n->ino, changed);
}

static enum fs_act change_target(struct fs_req *r)
{
	return fs_stat(r, FS_N_MAIN, r->node[FS_N_MAIN].ino, change_found);
}

enum fs_act fs_op_setxattr(struct fs_req *r)
{
	if (r->op->val_cap > PST_VALUE_MAX)
		return fs_end(r, -E2BIG);
	return start(r, change_target);
}

enum fs_act fs_op_removexattr(struct fs_req *r)
{
	return start(r, change_target);
}

/* --- LISTXATTR: the place in the list is the last name, as in READDIR --- */

static bool tell_name(struct pst_op *sub, const struct pst_entry *e)
{
	struct fs_req *r = container_of(sub, struct fs_req, sub);
	struct pst_entry x = {.name = (const char *)e->name + 1, .name_len = e->name_len - 1};

	return r->op->entry(r->op, &x);
}

static enum fs_act listed(struct fs_req *r)
{
	return fs_end(r, r->sub.status);
}

static enum fs_act list_found(struct fs_req *r)
{
	static const char prefix = FS_KEY_XATTR;
	struct fs_node *n = &r->node[FS_N_MAIN];
	struct fs_walk *w = &r->walk[1];
	struct pst_op *sub;

	if (!n->exists)
		return fs_gone(r);
	sub = fs_sub(r, PST_OP_KV_LIST, n->ino);
	sub->key = &prefix;
	sub->key_len = 1;
	sub->entry = tell_name;
	if (r->op->start_len) {
		w->key[0] = FS_KEY_XATTR;
		memcpy(w->key + 1, r->op->start, r->op->start_len);
		sub->start = w->key;
		sub->start_len = 1 + r->op->start_len;
	}
	r->next = listed;
	return FS_SUB;
}

static enum fs_act list_target(struct fs_req *r)
{
	return fs_stat(r, FS_N_MAIN, r->node[FS_N_MAIN].ino, list_found);
}

enum fs_act fs_op_listxattr(struct fs_req *r)
{
	const struct pst_op *op = r->op;

	if (!op->entry || op->start_len > PST_NAME_MAX || (op->start_len && !op->start))
		return fs_end(r, -EINVAL);
	return fs_target(r, !(op->flags & PST_F_NOFOLLOW), list_target);
}
