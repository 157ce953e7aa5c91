/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * data - FILE_READ, FILE_WRITE, FSYNC and EXTENTS of inodes.
 *
 * The hot path: the same op becomes READ, WRITE or FLUSH of the inode's object and goes down; its
 * opcode is put back when it ends. Nothing is looked up: that the inode is a regular file is in its
 * number, and that it is there still is asked by PST_F_EXISTING. A store below that does not
 * know that flag gets writes as batches, with the question as a condition; there, reading an inode
 * that is gone gives an empty file.
 *
 * What has a path, appends, or comes before the container is ready goes through a request.
 */
#include "fs_int.h"

static int check_kind(uint64_t ino)
{
	switch (fs_ino_kind(ino)) {
	case FS_KIND_FILE:
		return 0;
	case FS_KIND_DIR:
		return -EISDIR;
	default:
		return -EINVAL;
	}
}

/* --- the hot path --- */

static void restore(struct pst_op *op)
{
	uint64_t word = op_pop(op);

	op->opcode = (uint8_t)word;
	op->flags = (uint32_t)(word >> 32);
}

static void fast_done(struct pst_op *op)
{
	restore(op);
	op->done(op);
}

static enum pst_outcome pass_as(struct fs *fs, struct pst_op *op, uint8_t opcode, uint32_t flags)
{
	uint64_t word = op->opcode | (uint64_t)op->flags << 32;
	enum pst_outcome out;

	op_push(op, fast_done, word);
	op->opcode = opcode;
	op->flags = flags;
	out = store_submit(fs->below, op);
	if (out != PST_QUEUED)
		restore(op);
	return out;
}

static bool cont_ready(const struct fs *fs, const struct pst_op *op)
{
	const struct fs_cont *c = fs->last_cont;

	return op->view || (c && c->id == op->cont && c->ready);
}

bool fs_data_fast(struct fs *fs, struct pst_op *op, enum pst_outcome *ret_outcome)
{
	bool existing = fs->below->caps & PST_CAP_EXISTING;
	uint8_t opcode = PST_OP_READ;
	int ret;

	if (op->opcode == PST_OP_FSYNC) {
		if (op->view) {
			op->status = 0;
			*ret_outcome = PST_DONE;
			return true;
		}
		*ret_outcome = pass_as(fs, op, PST_OP_FLUSH, 0);
		return true;
	}
	if (!op->ino || !cont_ready(fs, op))
		return false;
	if (op->opcode == PST_OP_FILE_WRITE) {
		if (op->flags & PST_F_APPEND || !existing || op->view)
			return false;
		opcode = PST_OP_WRITE;
	}
	ret = check_kind(op->ino);
	if (unlikely(ret)) {
		op->status = ret;
		*ret_outcome = PST_DONE;
		return true;
	}
	op->oid = fs_oid(op->ino);
	*ret_outcome = pass_as(fs, op, opcode,
	                       (op->flags & (PST_F_VOLATILE | PST_F_NOVERIFY)) |
	                               (existing && op->ino != PST_INO_ROOT ? PST_F_EXISTING : 0));
	return true;
}

/* --- through a request --- */

static void copy_data(struct pst_op *to, const struct pst_op *from)
{
	to->off = from->off;
	to->len = from->len;
	to->iov = from->iov;
	to->iov_count = from->iov_count;
	to->region = from->region;
}

static enum fs_act read_done(struct fs_req *r)
{
	if (r->sub.status == -ESTALE)
		return fs_gone(r);
	if (!r->sub.status)
		r->op->ret_len = r->sub.ret_len;
	return fs_end(r, r->sub.status);
}

static enum fs_act read_target(struct fs_req *r)
{
	uint64_t ino = r->node[FS_N_MAIN].ino;
	int ret = check_kind(ino);

	if (ret)
		return fs_end(r, ret);
	copy_data(fs_sub(r, PST_OP_READ, ino), r->op);
	if (r->fs->below->caps & PST_CAP_EXISTING)
		r->sub.flags |= PST_F_EXISTING;
	r->next = read_done;
	return FS_SUB;
}

enum fs_act fs_op_read(struct fs_req *r)
{
	return fs_target(r, !(r->op->flags & PST_F_NOFOLLOW), read_target);
}

static enum fs_act write_done(struct fs_req *r)
{
	struct pst_op *op = r->op;
	const struct pst_mut *m = &r->muts[1];

	op->ret_len = op->len;
	op->ret_off = op->off;
	if (op->flags & PST_F_APPEND) /* m->off is not set when it was answered from the record */
		op->ret_off = m->off == UINT64_MAX ? r->sub.ret_off : m->off;
	return fs_end(r, 0);
}

static enum fs_act write_target(struct fs_req *r)
{
	uint64_t ino = r->node[FS_N_MAIN].ino;
	const struct pst_op *op = r->op;
	struct pst_mut *m;
	int ret = check_kind(ino);

	if (ret)
		return fs_end(r, ret);
	if (op->len > PST_IO_MAX)
		return fs_end(r, -E2BIG);
	fs_batch(r);
	fs_if_present(r, ino, r->by_path ? -FS_CHANGED : -ESTALE);
	fs_content(r, ino);
	m = &r->muts[1];
	m->off = op->off;
	if (op->flags & PST_F_APPEND) {
		m->kind = PST_ARRAY_APPEND;
		m->off = UINT64_MAX;
	}
	return fs_commit(r, ino, write_done);
}

enum fs_act fs_op_write(struct fs_req *r)
{
	return fs_target(r, !(r->op->flags & PST_F_NOFOLLOW), write_target);
}

/* --- EXTENTS, where it names an inode or a path --- */

static enum fs_act extents_done(struct fs_req *r)
{
	if (!r->sub.status) {
		r->op->ret_off = r->sub.ret_off;
		r->op->ret_len = r->sub.ret_len;
	}
	return fs_end(r, r->sub.status);
}

static enum fs_act extents_found(struct fs_req *r)
{
	struct fs_node *n = &r->node[FS_N_MAIN];
	struct pst_op *sub;

	if (!n->exists)
		return fs_gone(r);
	sub = fs_sub(r, PST_OP_EXTENTS, n->ino);
	sub->off = r->op->off;
	sub->len = r->op->len;
	r->next = extents_done;
	return FS_SUB;
}

static enum fs_act extents_target(struct fs_req *r)
{
	uint64_t ino = r->node[FS_N_MAIN].ino;
	int ret = check_kind(ino);

	return ret ? fs_end(r, ret) : fs_stat(r, FS_N_MAIN, ino, extents_found);
}

enum fs_act fs_op_extents(struct fs_req *r)
{
	return fs_target(r, !(r->op->flags & PST_F_NOFOLLOW), extents_target);
}
