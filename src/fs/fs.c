/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs - the layer as a store: what it takes itself, what goes down as it is, and how an op comes in.
 */
#include "fs_int.h"

enum {
	MUTATES = 1,
	ASKS = 2,  /* a repeat has to ask whether it was done: the op looks before its batch */
	ATTRS = 4, /* answers with op->ino and op->attr */
};

struct op_desc {
	fs_step *start;
	unsigned is;
};

static const struct op_desc descs[] = {
        [PST_OP_LOOKUP] = {fs_op_lookup, 0},
        [PST_OP_CREATE] = {fs_op_create, MUTATES | ASKS | ATTRS},
        [PST_OP_MKDIR] = {fs_op_mkdir, MUTATES | ASKS | ATTRS},
        [PST_OP_SYMLINK] = {fs_op_symlink, MUTATES | ASKS | ATTRS},
        [PST_OP_LINK] = {fs_op_link, MUTATES | ASKS | ATTRS},
        [PST_OP_UNLINK] = {fs_op_unlink, MUTATES | ASKS},
        [PST_OP_RMDIR] = {fs_op_rmdir, MUTATES | ASKS},
        [PST_OP_RENAME] = {fs_op_rename, MUTATES | ASKS},
        [PST_OP_READDIR] = {fs_op_readdir, 0},
        [PST_OP_READLINK] = {fs_op_readlink, 0},
        [PST_OP_GETATTR] = {fs_op_lookup, 0},
        [PST_OP_SETATTR] = {fs_op_setattr, MUTATES | ASKS | ATTRS},
        [PST_OP_GETXATTR] = {fs_op_getxattr, 0},
        [PST_OP_SETXATTR] = {fs_op_setxattr, MUTATES | ASKS},
        [PST_OP_LISTXATTR] = {fs_op_listxattr, 0},
        [PST_OP_REMOVEXATTR] = {fs_op_removexattr, MUTATES | ASKS},
        [PST_OP_FILE_OPEN] = {fs_op_open, 0},
        [PST_OP_FILE_CLOSE] = {fs_op_close, ASKS},
        [PST_OP_FILE_READ] = {fs_op_read, 0},
        [PST_OP_FILE_WRITE] = {fs_op_write, MUTATES | ASKS},
        [PST_OP_STATFS] = {fs_op_statfs, 0},
        [PST_OP_EXTENTS] = {fs_op_extents, 0},
};

static const struct op_desc *desc_of(const struct fs_req *r)
{
	return &descs[r->op->opcode];
}

/* --- the first steps of every request --- */

static fs_step step_gate, step_answered;

/* What is done may be looked at again. */
static enum fs_act answer(struct fs_req *r)
{
	struct pst_op *op = r->op;

	if (op->opcode == PST_OP_CREATE && !op->name_len) {
		/* What it made is there as long as it is held, and that is in memory only. */
		const struct fs_open *o = fs_open_find(r->fs, op->cont, r->sub.ino);

		if (!o && fs_in_grace(r->fs))
			return fs_open_made(r, r->sub.ino);
		if (!o || o->dying)
			return fs_end(r, -ESTALE);
	}
	op->ret_len = r->sub.ret_len;
	op->ret_off = r->sub.ret_off;
	r->committed = true;
	if (desc_of(r)->is & ATTRS)
		return fs_end_stat(r, r->sub.ino);
	return fs_end(r, 0);
}

static enum fs_act step_answered(struct fs_req *r)
{
	if (!r->sub.status)
		return answer(r);
	if (r->sub.status != -ENOENT)
		return fs_end(r, r->sub.status);
	return fs_goto(r, r->start);
}

static enum fs_act step_gate(struct fs_req *r)
{
	const struct pst_op *op = r->op;
	bool asks =
	        desc_of(r)->is & ASKS && op->token.session && r->fs->below->caps & PST_CAP_REPLAY;

	/* Of one that names its inode nothing is looked at before the batch. */
	if (op->opcode == PST_OP_FILE_WRITE && r->ino_in)
		asks = false;
	if (!asks)
		return fs_goto(r, r->start);
	fs_batch(r);
	fs_commit(r, r->ino_in, NULL);
	r->next = step_answered;
	return FS_SUB;
}

static enum fs_act step_entered(struct fs_req *r)
{
	struct fs_cont *c = r->cont;

	if (r->mutates && c->gate)
		return fs_wait_in(r, &c->turn_waiters, step_gate);
	return step_gate(r);
}

static enum fs_act step_enter(struct fs_req *r)
{
	return fs_cont_enter(r, step_entered);
}

/* --- the store --- */

static enum pst_outcome refuse(struct pst_op *op, int status)
{
	op->status = status;
	return PST_DONE;
}

static enum pst_outcome submit_names(struct fs *fs, struct pst_op *op)
{
	const struct op_desc *d = &descs[op->opcode];
	enum pst_outcome out;
	struct fs_req *r;

	if (d->is & MUTATES && op->view)
		return refuse(op, -EROFS);
	if ((op->opcode >= PST_OP_FILE_READ && op->opcode <= PST_OP_FSYNC) &&
	    fs_data_fast(fs, op, &out))
		return out;
	pst_assert(d->start);
	r = fs_req_get(fs, op, d->start, d->is & MUTATES);
	if (!r)
		return PST_BUSY;
	r->next = step_enter;
	return fs_run(r) ? PST_DONE : PST_QUEUED;
}

static enum pst_outcome fs_submit(struct store *s, struct pst_op *op)
{
	struct fs *fs = fs_of(s);

	if (op->opcode >= PST_OP_LOOKUP && op->opcode <= PST_OP_STATFS)
		return submit_names(fs, op);
	if (unlikely(op->opcode == PST_OP_EXTENTS && (op->ino || op->name_len)))
		return submit_names(fs, op);
	return store_submit(fs->below, op);
}

static int fs_poll(struct loop_poller *p)
{
	return fs_drain(container_of(p, struct fs, poller));
}

static bool fs_may_sleep(struct loop_poller *p)
{
	const struct fs *fs = container_of(p, struct fs, poller);

	/* Nothing tells when a store that was busy no longer is. */
	return list_empty(&fs->ready) && list_empty(&fs->busy);
}

static void fs_free(struct fs *fs)
{
	if (!fs)
		return;
	fs_conts_free(fs);
	fs_opens_free(fs);
	mem_free(fs->reqs);
	mem_free(fs);
}

static int fs_close(struct store *s)
{
	struct fs *fs = fs_of(s);
	struct store *below = fs->below;

	pst_assert(list_empty(&fs->active));
	loop_poller_del(s->loop, &fs->poller);
	fs_free(fs);
	return store_close(below);
}

static const struct store_ops fs_store_ops = {
        .name = "fs",
        .submit = fs_submit,
        .cancel = fs_cancel,
        .close = fs_close,
};

static void opts_fill(struct fs_opts *to, const struct fs_opts *from)
{
	*to = from ? *from : (struct fs_opts){0};
	to->requests_max = to->requests_max ? to->requests_max : 256;
	to->open_max = to->open_max ? to->open_max : 65536;
	to->ino_range = to->ino_range ? to->ino_range : 1024;
	to->link_max = to->link_max ? to->link_max : 65000;
	to->attempts_max = to->attempts_max ? to->attempts_max : 64;
}

static int fs_alloc(struct fs *fs)
{
	list_init(&fs->free);
	list_init(&fs->active);
	list_init(&fs->busy);
	list_init(&fs->ready);
	list_init(&fs->conts);
	fs->reqs = mem_calloc(fs->opts.requests_max, sizeof(*fs->reqs));
	if (!fs->reqs)
		return -ENOMEM;
	for (unsigned i = 0; i < fs->opts.requests_max; i++)
		fs_req_init(fs, &fs->reqs[i]);
	return fs_opens_alloc(fs);
}

int fs_new(struct store **ret_store, struct store *below, const struct fs_opts *opts,
           struct pst_err *err)
{
	const uint64_t needed = PST_CAP_OBJECTS | PST_CAP_BATCH;
	struct fs *fs;

	if ((below->caps & needed) != needed)
		return err_set(err, -EINVAL,
		               "the names layer needs a store with objects and batches; "
		               "%s has none",
		               below->ops->name);
	fs = mem_calloc(1, sizeof(*fs));
	if (!fs)
		return err_set(err, -ENOMEM, "no memory for the names layer");
	opts_fill(&fs->opts, opts);
	if (fs_alloc(fs)) {
		fs_free(fs);
		return err_set(err, -ENOMEM, "no memory for the requests of the names layer");
	}
	fs->below = below;
	fs->store.ops = &fs_store_ops;
	fs->store.loop = below->loop;
	fs->store.caps = below->caps | PST_CAP_NAMES;
	if (fs->opts.grace_ns)
		fs->grace_until_ns = loop_now(below->loop) + fs->opts.grace_ns;
	fs->poller.poll = fs_poll;
	fs->poller.may_sleep = fs_may_sleep;
	loop_poller_add(below->loop, &fs->poller);
	*ret_store = &fs->store;
	return 0;
}
