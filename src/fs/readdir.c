/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * readdir - READDIR and READLINK. Entries are listed below into the request's buffer, then handed
 * to the caller one by one, with a STAT each when attributes are wanted, then the list goes on
 * after the last name. So a name is all that a place in a directory is, and it stays good whatever
 * changes: what is there all the time comes exactly once. "." and ".." are not reported.
 *
 * The buffer holds records: length of the name (1 byte), value (FS_DIRENT_BYTES), name.
 */
#include "fs_int.h"

#define RECORD(name_len) (1u + FS_DIRENT_BYTES + (name_len))

static fs_step list_more, hand_out;

static uint8_t *records(struct fs_req *r)
{
	return (uint8_t *)r->buf;
}

static bool collect(struct pst_op *sub, const struct pst_entry *e)
{
	struct fs_req *r = container_of(sub, struct fs_req, sub);
	uint32_t len = e->name_len - 1;
	uint8_t *rec = records(r) + r->buf_len;

	if (!len || len > PST_NAME_MAX || e->val_len != FS_DIRENT_BYTES) {
		r->status = -EBADMSG;
		return false;
	}
	pst_assert(r->buf_len + RECORD(len) <= sizeof(r->buf)); /* a false return ended the list */
	rec[0] = (uint8_t)len;
	memcpy(rec + 1, e->val, FS_DIRENT_BYTES);
	memcpy(rec + 1 + FS_DIRENT_BYTES, (const char *)e->name + 1, len);
	r->buf_len += RECORD(len);
	r->list_full = r->buf_len + RECORD(PST_NAME_MAX) > sizeof(r->buf);
	return !r->list_full;
}

/* Lists on after the name in walk[0].key. */
static enum fs_act list_more(struct fs_req *r)
{
	static const char prefix = FS_KEY_DIRENT;
	struct fs_walk *w = &r->walk[0];
	struct pst_op *sub = fs_sub(r, PST_OP_KV_LIST, r->node[FS_N_DIR].ino);

	sub->key = &prefix;
	sub->key_len = 1;
	sub->start = w->key_len > 1 ? w->key : NULL;
	sub->start_len = w->key_len > 1 ? w->key_len : 0;
	sub->want_values = true;
	sub->entry = collect;
	r->buf_len = r->buf_at = 0;
	r->list_full = false;
	r->next = hand_out;
	return FS_SUB;
}

/* Tells the caller of the record at buf_at; @attr may be NULL. False: enough. */
static int tell(struct fs_req *r, const struct pst_attr *attr, bool *ret_more)
{
	const uint8_t *rec = records(r) + r->buf_at;
	struct pst_entry e = {.name = rec + 1 + FS_DIRENT_BYTES, .name_len = rec[0], .attr = attr};
	int ret = fs_dirent_unpack(&e.id, &e.type, rec + 1, FS_DIRENT_BYTES);

	if (!ret)
		*ret_more = r->op->entry(r->op, &e);
	return ret;
}

static void step_over(struct fs_req *r)
{
	const uint8_t *rec = records(r) + r->buf_at;
	struct fs_walk *w = &r->walk[0];

	memcpy(w->key + 1, rec + 1 + FS_DIRENT_BYTES, rec[0]);
	w->key_len = 1u + rec[0];
	r->buf_at += RECORD(rec[0]);
}

static enum fs_act hand_out_attr(struct fs_req *r)
{
	const struct fs_node *n = &r->node[FS_N_MAIN];
	struct pst_attr attr;
	bool more = true;
	int ret = 0;

	if (n->exists) { /* else it was removed since it was listed */
		fs_attr_fill(n, &attr);
		ret = tell(r, &attr, &more);
	}
	if (ret || !more)
		return fs_end(r, ret);
	step_over(r);
	return fs_goto(r, hand_out);
}

static enum fs_act hand_out(struct fs_req *r)
{
	uint64_t ino;
	uint8_t type;
	int ret = r->status ? r->status : r->sub.status;

	while (!ret && r->buf_at < r->buf_len) {
		bool more = true;

		if (r->op->want_values) {
			ret = fs_dirent_unpack(&ino, &type, records(r) + r->buf_at + 1,
			                       FS_DIRENT_BYTES);
			if (!ret)
				return fs_stat(r, FS_N_MAIN, ino, hand_out_attr);
			break;
		}
		ret = tell(r, NULL, &more);
		if (!more)
			return fs_end(r, 0);
		step_over(r);
	}
	if (ret || !r->list_full)
		return fs_end(r, ret);
	return list_more(r);
}

static enum fs_act readdir_found(struct fs_req *r)
{
	struct fs_node *n = &r->node[FS_N_DIR];
	struct fs_walk *w = &r->walk[0];

	if (!n->exists) {
		r->by_path = r->by_path && n->ino != fs_alias(r, r->op->dir);
		return fs_gone(r);
	}
	w->key[0] = FS_KEY_DIRENT;
	w->key_len = 1 + r->op->start_len;
	if (r->op->start_len)
		memcpy(w->key + 1, r->op->start, r->op->start_len);
	return list_more(r);
}

static enum fs_act readdir_target(struct fs_req *r)
{
	uint64_t ino = r->node[FS_N_MAIN].ino;

	if (fs_ino_kind(ino) != FS_KIND_DIR)
		return fs_end(r, -ENOTDIR);
	return fs_stat(r, FS_N_DIR, ino, readdir_found);
}

enum fs_act fs_op_readdir(struct fs_req *r)
{
	if (!r->op->entry || r->op->start_len > PST_NAME_MAX || (r->op->start_len && !r->op->start))
		return fs_end(r, -EINVAL);
	return fs_target(r, true, readdir_target);
}

/* --- READLINK --- */

static enum fs_act readlink_checked(struct fs_req *r)
{
	return r->node[FS_N_MAIN].exists ? fs_end(r, -EINVAL) : fs_gone(r);
}

static enum fs_act readlink_got(struct fs_req *r)
{
	if (r->sub.status == -ENOENT)
		return fs_stat(r, FS_N_MAIN, r->node[FS_N_MAIN].ino, readlink_checked);
	if (!r->sub.status)
		r->op->ret_len = r->sub.ret_len;
	return fs_end(r, r->sub.status);
}

static enum fs_act readlink_target(struct fs_req *r)
{
	static const char key = FS_KEY_SYMLINK;
	struct pst_op *sub = fs_sub(r, PST_OP_KV_GET, r->node[FS_N_MAIN].ino);

	sub->key = &key;
	sub->key_len = 1;
	sub->val = r->op->val;
	sub->val_cap = r->op->val_cap;
	r->next = readlink_got;
	return FS_SUB;
}

enum fs_act fs_op_readlink(struct fs_req *r)
{
	return fs_target(r, false, readlink_target);
}
