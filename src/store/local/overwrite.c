/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * overwrite - the straight way for the commonest write: whole blocks that lie in one extent, are
 * overwritten in place, and wait for nothing. What is not that simple takes the way of all batches
 * (write.c), which would do the same: the same record, applied by the same code.
 *
 * Why it may leave out what the others do: nothing is preparing (no locks are held), so that nothing
 * is between what was looked at and the commit; nothing is allocated, and no object grows, so that
 * neither space nor quota is asked for; no old content is needed.
 */
#include "base/iov.h"
#include "store/local/engine.h"

struct target {
	struct cont *c;
	const struct head *head;
	uint64_t lblk, addr;
	uint32_t blocks;
	bool nocsum;
};

static bool find_target(struct shard *s, const struct pst_op *op, struct target *t)
{
	struct extent scratch;
	const struct extent *e;
	const struct head *h;

	if (!op->len || (op->off | op->len) % BLOCK_BYTES || op->flags & PST_F_APPEND ||
	    op->len > JOURNAL_WRITE_BLOCKS * BLOCK_BYTES)
		return false;
	t->c = cont_find(s, op->cont);
	if (!t->c)
		return false;
	h = t->head = head_peek(s, &t->c->tree, op->oid);
	if (!h->exists || op->len > h->size || op->off > h->size - op->len)
		return false;
	t->lblk = op->off / BLOCK_BYTES;
	t->blocks = (uint32_t)(op->len / BLOCK_BYTES);
	t->nocsum = t->c->props & PST_PROP_CHECKSUM_OFF;
	e = extent_peek(&t->c->tree, h, t->lblk, &scratch);
	if (!e || e->lblk > t->lblk || t->blocks > e->blocks - (t->lblk - e->lblk) ||
	    e->birth <= t->c->newest_snap || e->nocsum != t->nocsum)
		return false;
	t->addr = e->addr + (t->lblk - e->lblk);
	return true;
}

static uint32_t record_bytes(const struct pst_op *op, uint32_t blocks)
{
	return (uint32_t)(sizeof(struct media_record) +
	                  (op->token.session ? sizeof(struct media_reply) : 0) +
	                  sizeof(struct media_change) + sizeof(struct media_write) +
	                  sizeof(struct media_piece) + ALIGN_UP(blocks * sizeof(le32), 8));
}

/* All that can stand in the way; the way of all batches finds out what it is. */
static bool admitted(struct shard *s, const struct pst_op *op, const struct target *t)
{
	unsigned changes = op->token.session ? 2 : 0;

	if (!head_in_hand(s, t->head))
		changes++;
	if (changes && bt_reserve(&s->env, changes, false))
		return false;
	return !s->l->index_full && !(!t->nocsum && csum_reserve(s, 2)) &&
	       !log_room(s, record_bytes(op, t->blocks), t->blocks, false);
}

static void copy_in(const struct pst_op *op, struct jblock **j, uint32_t blocks)
{
	for (uint32_t i = 0; i < blocks; i++) {
		iov_gather(j[i]->data, op->iov, op->iov_count, (uint64_t)i * BLOCK_BYTES,
		           BLOCK_BYTES);
		j[i]->csum = crc32c(0, j[i]->data, BLOCK_BYTES);
	}
}

static bool blocks_new(struct shard *s, struct jblock **j, uint32_t blocks)
{
	for (uint32_t i = 0; i < blocks; i++) {
		j[i] = jblock_new(s);
		if (!j[i]) {
			while (i)
				jblock_unref(s, j[--i]);
			return false;
		}
	}
	return true;
}

static void commit(struct shard *s, struct pst_op *op, const struct target *t, struct jblock **j)
{
	struct media_record *r = log_at(s);
	uint64_t time_ns = loop_real_now(s->l->store.loop), frame = log_open_frame(s);
	struct media_change *ch = batch_record_begin(s, r, op, time_ns);
	struct media_write *w = (void *)(ch + 1);
	struct media_piece *p = (void *)(w + 1);
	le32 *csum = (void *)(p + 1);
	uint32_t body = (uint32_t)(sizeof(*w) + sizeof(*p) + t->blocks * sizeof(*csum)), at;

	log_data(s, &at);
	*ch = (struct media_change){.kind = CH_WRITE,
	                            .flags = t->nocsum ? CH_F_NOCSUM : 0,
	                            .oid_hi = le64_make(op->oid.hi),
	                            .oid_lo = le64_make(op->oid.lo),
	                            .body_len = le32_make(body)};
	*w = (struct media_write){.size_min = le64_make(op->off + op->len),
	                          .pieces = le32_make(1),
	                          .data_index = le32_make(at)};
	*p = (struct media_piece){le64_make(t->lblk), le64_make(t->addr), le32_make(t->blocks),
	                          le32_make(PIECE_JOURNALED | PIECE_IN_PLACE)};
	if (t->blocks % 2)
		csum[t->blocks] = le32_make(0); /* fills up the last 8 bytes */
	for (uint32_t i = 0; i < t->blocks; i++) {
		csum[i] = le32_make(j[i]->csum);
		log_append_data(s, j[i]);
	}
	r->changes = le32_make(1);
	r->len = le32_make(record_bytes(op, t->blocks));
	if (!apply_overwrite(s, t->c, frame, time_ns, op->oid, op->off + op->len, p, j,
	                     t->nocsum ? NULL : csum))
		local_stop(s->l, -EIO, "an overwrite could not be applied");
	log_append(s, le32_get(r->len));
	for (uint32_t i = 0; i < t->blocks; i++)
		jblock_unref(s, j[i]);
	s->l->stat.user_write_bytes += op->len;
}

bool overwrite_try(struct shard *s, struct pst_op *op, enum pst_outcome *ret_out)
{
	struct jblock *j[JOURNAL_WRITE_BLOCKS];
	struct target t;

	if (!list_empty(&s->rlocks) || !find_target(s, op, &t))
		return false;
	if (op->token.session && token_answer(s, op) != -ENOENT)
		return false; /* it was done */
	if (!admitted(s, op, &t) || !blocks_new(s, j, t.blocks))
		return false;
	copy_in(op, j, t.blocks);
	op->ret_len = op->len; /* the record has the answer */
	op->ret_off = 0;
	commit(s, op, &t, j);
	*ret_out = s->l->stopped ? op_fail(op, s->l->stop_status)
	                         : op_committed(s, op, s->log.last_record);
	return true;
}
