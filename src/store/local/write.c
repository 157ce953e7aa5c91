/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * write - WRITE and BATCH: checking, committing, and what happens in between.
 *
 *   write_submit -> [overwrite_try] -> write_try -> [prep_start] -> commit -> op_committed
 *                      ^              |             |
 *                      |  write_prepared (I/O done) |
 *                      +---- stalled: log room, memory, space, a lock ----+
 *
 * commit() is atomic: everything that can fail is checked first (admit.c), then the record is built
 * and applied (build.c).
 */
#include "store/local/engine.h"

#define WMUTS_INLINE     1
#define SMALL_PAIR_BYTES 64

/* --- requests --- */

static void wreq_free(struct wreq *q)
{
	struct local *l = q->shard->l;

	rlocks_drop(q);
	prep_undo(q);
	if (q->w != &q->one_w)
		mem_free(q->w);
	if (q->lock != &q->one_lock)
		mem_free(q->lock);
	op_state(q->op)->req = NULL;
	req_put(l, q);
}

/*
 * Does it make the index smaller, so that it may use what is kept for that? Beside what it deletes
 * it may change the heads of objects (what has lost a name notes it, and so does its directory),
 * and put as many small pairs as it deletes: a name that moves, an orphan's place.
 */
static bool deletes_only(const struct pst_mut *mut, uint32_t count)
{
	uint32_t dels = 0, puts = 0, objects = 0;

	for (uint32_t i = 0; i < count; i++) {
		switch (mut[i].kind) {
		case PST_KV_DEL:
			dels++;
			break;
		case PST_OBJ_DELETE:
		case PST_ARRAY_PUNCH:
			objects++;
			break;
		case PST_KV_PUT:
			if (mut[i].val_len > SMALL_PAIR_BYTES)
				return false;
			puts++;
			break;
		case PST_SET_LABEL:
		case PST_SET_MTIME:
			break;
		default:
			if (mut[i].kind >= PST_KV_PUT)
				return false;
		}
	}
	return dels + objects > 0 && puts <= dels;
}

static struct wreq *wreq_new(struct shard *s, struct pst_op *op)
{
	struct wreq *q = req_get(s->l);

	if (!q)
		return NULL;
	memset(q, 0, offsetof(struct wreq, one_j));
	q->op = op;
	q->shard = s;
	q->w = &q->one_w;
	q->lock = &q->one_lock;
	if (op->opcode == PST_OP_WRITE) {
		q->mut = &q->one_mut;
		q->count = 1;
		q->array = true;
		q->one_mut = (struct pst_mut){
		        .kind = op->flags & PST_F_APPEND ? PST_ARRAY_APPEND : PST_ARRAY_WRITE,
		        .oid = op->oid,
		        .off = op->off,
		        .len = op->len,
		        .iov = op->iov,
		        .iov_count = op->iov_count,
		};
	} else {
		q->mut = op->muts;
		q->count = op->mut_count;
	}
	if (q->count > WMUTS_INLINE) {
		q->w = mem_calloc(q->count, sizeof(*q->w));
		q->lock = mem_calloc(q->count, sizeof(*q->lock));
		if (!q->w || !q->lock) {
			mem_free(q->w);
			mem_free(q->lock);
			req_put(s->l, q);
			return NULL;
		}
	} else {
		q->one_w.j = q->one_j;
		q->one_w.j_cap = JBLOCKS_INLINE;
	}
	for (uint32_t i = 0; i < q->count; i++)
		list_init(&q->lock[i].link);
	q->deletes_only = deletes_only(q->mut, q->count);
	op_state(op)->req = q;
	return q;
}

/* The answer's numbers, which the record holds too. */
static void outputs(struct wreq *q)
{
	struct pst_op *op = q->op;

	op->ret_len = op->ret_off = 0;
	for (uint32_t i = 0; i < q->count; i++) {
		if (!is_write(&q->mut[i]))
			continue;
		op->ret_len += q->w[i].len;
		if (q->mut[i].kind == PST_ARRAY_APPEND)
			q->mut[i].off = op->ret_off = q->w[i].off;
	}
}

static enum pst_outcome finish(struct wreq *q, int status)
{
	struct pst_op *op = q->op;

	wreq_free(q);
	return op_fail(op, status);
}

static enum pst_outcome commit(struct wreq *q)
{
	struct shard *s = q->shard;
	struct pst_op *op = q->op;
	struct demand d;
	struct cont *c;
	uint64_t frame, bytes;
	int err;

	if (s->l->stopped)
		return finish(q, s->l->stop_status);
	if (shard_of_cont(s->l, op->cont) != s)
		return finish(q, -ENOENT);
	c = cont_get(s, op->cont);
	if (!c)
		return finish(q, -ENOMEM);
	if (op->token.session) {
		err = token_answer(s, op);
		if (err != -ENOENT) {
			wreq_free(q);
			return err ? op_fail(op, err) : op_committed(s, op, s->log.last_record);
		}
	}
	for (uint32_t i = 0; i < q->count; i++) {
		if (!batch_holds(&c->tree, &q->mut[i])) {
			op->ret_index = i;
			return finish(q, q->mut[i].err);
		}
	}
	if (op->flags & PST_F_EXISTING && !head_peek(s, &c->tree, op->oid)->exists)
		return finish(q, -ESTALE);
	batch_demand(q, c, &d);
	err = batch_admit(q, c, &d);
	if (err == -EAGAIN) {
		rlocks_take(q); /* what was prepared must stay true */
		return PST_BUSY;
	}
	if (err)
		return finish(q, err);
	outputs(q);
	frame = batch_build(q, c);
	bytes = op->ret_len;
	s->l->stat.user_write_bytes += bytes;
	wreq_free(q);
	return s->l->stopped ? op_fail(op, s->l->stop_status) : op_committed(s, op, frame);
}

static enum pst_outcome write_try(struct shard *s, struct pst_op *op)
{
	struct wreq *q = op_state(op)->req;
	enum pst_outcome out;
	int err;

	if (!q && op->opcode == PST_OP_WRITE && overwrite_try(s, op, &out))
		return out;
	if (!q)
		q = wreq_new(s, op);
	if (!q)
		return req_error(s->l) == -EAGAIN ? PST_BUSY : op_fail(op, -ENOMEM);
	if (!q->prepared) {
		if (rlocks_conflict(q))
			return PST_BUSY;
		err = prep_start(q);
		if (err == -EINPROGRESS)
			return PST_QUEUED;
		if (err == -EAGAIN) {
			prep_reset(q);
			return PST_BUSY;
		}
		if (err)
			return finish(q, err);
		prep_fill(q);
		q->prepared = true;
	}
	return commit(q);
}

/* The I/O of a preparation has ended. */
void write_prepared(struct wreq *q)
{
	struct pst_op *op = q->op;
	struct shard *s = q->shard;

	if (q->status == -EAGAIN) { /* it was only half begun: again from the start */
		rlocks_drop(q);
		prep_reset(q);
		q->status = 0;
		op_again(s, op, write_try);
		return;
	}
	if (q->status) {
		int status = q->status;

		wreq_free(q);
		op_done(s->l, op, status);
		return;
	}
	prep_fill(q);
	q->prepared = true;
	op_again(s, op, write_try);
}

/* "Was this done?": a batch of nothing. */
static enum pst_outcome ask_try(struct shard *s, struct pst_op *op)
{
	int err = token_answer(s, op);

	return err ? op_fail(op, err) : op_committed(s, op, s->log.last_record);
}

void write_abandon(struct wreq *q)
{
	wreq_free(q);
}

static int write_check(const struct pst_op *op)
{
	if (unlikely(oid_none(op->oid)))
		return -EINVAL;
	if (op->len > PST_IO_MAX)
		return -E2BIG;
	if (op->len && (!op->iov || op_iov_bytes(op) != op->len))
		return -EINVAL;
	return !(op->flags & PST_F_APPEND) && op->off > PST_OBJECT_MAX - op->len ? -EFBIG : 0;
}

enum pst_outcome write_submit(struct local *l, struct pst_op *op)
{
	struct shard *s = shard_of_cont(l, op->cont);
	uint64_t bytes = 0;
	int err = 0;

	if (!s)
		return op_fail(op, -ENOENT);
	if (op->view)
		return op_fail(op, -EROFS);
	if (op->opcode == PST_OP_WRITE) {
		err = write_check(op);
		return err ? op_fail(op, err) : op_run(s, op, write_try);
	}
	if (op->mut_count > PST_BATCH_MAX)
		return op_fail(op, -E2BIG);
	if (!op->mut_count && !op->token.session)
		return op_fail(op, -EINVAL);
	if (!op->mut_count)
		return op_run(s, op, ask_try);
	for (uint32_t i = 0; i < op->mut_count && !err; i++)
		err = batch_mut_check(&op->muts[i], &bytes);
	return err ? op_fail(op, err) : op_run(s, op, write_try);
}
