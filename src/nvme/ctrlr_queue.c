/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The queues at work: doorbells, commands in, completions out. The hot path of the controller runs
 * through sq_poll() and req_complete().
 */
#include "nvme/ctrlr_int.h"

static inline uint32_t db_load(const le32 *db)
{
	/* Pairs with the host's release: entries below the new tail are written. */
	return le32_get(__atomic_load_n(db, __ATOMIC_ACQUIRE));
}

/* --- completions out --- */

/* What few commands leave behind. */
static void req_clean(struct nvme_req *r)
{
	mem_free(r->bounce);
	r->bounce = NULL;
	r->capsule = NULL;
	r->other = NULL;
	r->dw0 = 0;
	r->fault = FAULT_NONE;
	req_move(r, REQ_WORKING);
}

void req_drop(struct nvme_req *r)
{
	if (r->ns)
		gate_leave(r);
	if (r->capsule)
		capsule_end(r, true);
	req_clean(r);
	req_free(r);
}

void req_post(struct nvme_req *r, bool free_it)
{
	struct ctrlr_cq *cq = r->sq->cq;
	uint16_t cid = le16_get(r->cmd.cid);

	if (unlikely(r->capsule)) {
		if (!free_it)
			return; /* a capsule can't be answered twice */
		capsule_end(r, false);
		req_clean(r);
		req_free(r);
		return;
	}
	if (cq_is_full(cq)) {
		if (free_it)
			list_push(&cq->waiting, &r->link);
		return;
	}
	if (r->fault == FAULT_CID)
		cid ^= 0x8000;
	cqe_write(r->c, r->sq, cq, cid, r->dw0, r->status);
	if (!free_it)
		return;
	req_clean(r);
	req_free(r);
}

static __attribute__((noinline)) void req_complete_slow(struct nvme_req *r, uint16_t status)
{
	struct nvme_ctrlr *c = r->c;

	if (!ctrlr_lives(c)) {
		req_drop(r);
		return;
	}
	r->status = status;
	if (status) {
		c->errors++;
		error_note(r, status);
	}
	if (r->fault && fault_after(r))
		return;
	if (r->fault == FAULT_DUP)
		req_post(r, false);
	req_post(r, true);
}

void req_complete(struct nvme_req *r, uint16_t status)
{
	struct nvme_ctrlr *c = r->c;
	struct ctrlr_cq *cq = r->sq->cq;

	if (r->ns)
		gate_leave(r);
	if (unlikely(status || r->bounce || r->fault || !ctrlr_lives(c) || cq_is_full(cq))) {
		req_complete_slow(r, status);
		return;
	}
	cqe_write(c, r->sq, cq, le16_get(r->cmd.cid), r->dw0, 0);
	r->dw0 = 0;
	req_free(r);
}

void irqs_send(struct nvme_ctrlr *c)
{
	c->irqs_due = false;
	for (unsigned i = 0; i <= c->queues; i++) {
		struct ctrlr_cq *cq = c->cqs[i];
		unsigned vector;

		if (!cq || !cq->notify)
			continue;
		vector = cq->vector;
		if (vector < 32 && (c->intm >> vector & 1))
			continue; /* sent when the mask goes */
		for (unsigned j = i; j <= c->queues; j++) {
			if (c->cqs[j] && c->cqs[j]->vector == vector)
				c->cqs[j]->notify = false;
		}
		if (c->opts.irq)
			c->opts.irq(c->opts.arg, vector);
	}
}

/* --- doorbells --- */

static __attribute__((noinline, cold)) void db_bad(struct nvme_ctrlr *c)
{
	c->bad_doorbells++;
	event_raise(c, NVME_EVENT_ERROR, NVME_ERROR_DB_VALUE, NVME_LOG_ERROR);
}

/* The host has consumed up to @db, if that can be. */
static void cq_doorbell(struct nvme_ctrlr *c, struct ctrlr_cq *cq, uint32_t db)
{
	uint32_t moved, filled = (cq->tail + cq->size - cq->head) % cq->size;
	struct list *n;

	cq->db_seen = db;
	moved = (db + cq->size - cq->head) % cq->size;
	if (db >= cq->size || moved > filled) {
		db_bad(c);
		return;
	}
	cq->head = db;
	cq->room += moved;
	if (cq->event_idx)
		__atomic_store_n(cq->event_idx, le32_make((db - 1) & 0xffff), __ATOMIC_RELAXED);
	while (!cq_is_full(cq) && (n = list_pop(&cq->waiting)))
		req_post(list_entry(n, struct nvme_req, link), true);
}

/*
 * Tells the host, with shadow doorbells, at which value it must ring the real one: never while this
 * side polls (a value that has just passed); at the next change if it may go to sleep, and then the
 * shadow is looked at once more, for the host may have changed it before it saw that.
 */
static uint32_t sq_event_idx(struct nvme_ctrlr *c, struct ctrlr_sq *sq, uint32_t db)
{
	uint32_t idx = c->opts.sleepy ? db : (db - 1) & 0xffff;

	if (!c->opts.sleepy) {
		__atomic_store_n(sq->event_idx, le32_make(idx), __ATOMIC_RELAXED);
		return db;
	}
	/* The load after the store: pairs with the host's barrier between its shadow store and its
	 * look at EventIdx. */
	(void)__atomic_exchange_n(sq->event_idx, le32_make(idx), __ATOMIC_SEQ_CST);
	return le32_get(__atomic_load_n(sq->db, __ATOMIC_SEQ_CST));
}

static void sq_doorbell(struct nvme_ctrlr *c, struct ctrlr_sq *sq, uint32_t db)
{
	if (sq->event_idx)
		db = sq_event_idx(c, sq, db);
	sq->db_seen = db;
	if (db >= sq->size)
		db_bad(c);
	else
		sq->tail = db;
}

/* --- commands in --- */

static inline void sqe_copy(struct nvme_cmd *to, const struct nvme_cmd *from)
{
	memcpy(to, from, sizeof(*to));
	/* The compiler must not look at the original again for what it just copied (I1). */
	__asm__ __volatile__("" ::: "memory");
}

/*
 * Fused commands (Base 3.4.2) lie next to each other. The first half waits in sq->fused until the
 * second one is taken; a half without the other fails alone.
 */
static __attribute__((noinline)) void fuse(struct nvme_req *r)
{
	struct ctrlr_sq *sq = r->sq;
	struct nvme_req *first = sq->fused;
	unsigned fused = r->cmd.flags & NVME_CMD_FUSE_MASK;

	sq->fused = NULL;
	if (first && fused == NVME_CMD_FUSE_SECOND) {
		fused_start(first, r);
		return;
	}
	if (first)
		req_complete(first, ERR(NVME_SC_ABORTED_NOT_FUSED));
	if (fused == NVME_CMD_FUSE_FIRST)
		sq->fused = r;
	else if (fused == NVME_CMD_FUSE_SECOND)
		req_complete(r, ERR(NVME_SC_ABORTED_NOT_FUSED));
	else if (fused)
		req_complete(r, ERR(NVME_SC_INVALID_FIELD));
	else
		io_start(r);
}

/*
 * Another command with the id of @r that is held: it waits for an event, for its other half, at a
 * gate, for the deletion of a queue, formats, or is delayed on purpose. That is all that can be under
 * way on the admin queue. On I/O queues commands that are with their device are not looked for: their
 * ids would have to be kept, at a cost to each, and a host that repeats one mixes up its own answers.
 */
static __attribute__((noinline, cold)) bool cid_is_held(const struct nvme_req *r)
{
	const struct ctrlr_sq *sq = r->sq;
	const struct nvme_req *held[3 + NVME_SUBSYS_NS_MAX + NVME_CTRLR_QUEUES_MAX];
	struct nvme_ctrlr *c = r->c;
	unsigned n = 0;

	held[n++] = find_waiting(c, sq->qid, le16_get(r->cmd.cid));
	held[n++] = sq->fused;
	for (unsigned i = 0; i < NVME_SUBSYS_NS_MAX; i++)
		held[n++] = c->subsys->ns[i] ? c->subsys->ns[i]->holder : NULL;
	for (unsigned i = 0; i <= NVME_CTRLR_QUEUES_MAX; i++)
		held[n++] = c->sqs[i] ? c->sqs[i]->deleter : NULL;
	while (n--) {
		if (held[n] && held[n]->sq == sq && held[n]->cmd.cid == r->cmd.cid)
			return true;
	}
	return false;
}

void cmd_start(struct nvme_req *r)
{
	struct ctrlr_sq *sq = r->sq;

	if (unlikely(sq->held || sq->fused || !sq->qid) && cid_is_held(r)) {
		req_complete(r, ERR(NVME_SC_CID_CONFLICT));
		return;
	}
	if (unlikely(r->c->plan) && fault_before(r))
		return;
	if (unlikely(!sq->qid))
		admin_start(r);
	else if (unlikely(sq->fused || (r->cmd.flags & NVME_CMD_FUSE_MASK)))
		fuse(r);
	else
		io_start(r);
}

/* No command of this queue is in need of cmd_start() for what it is not. */
static inline bool sq_is_plain(const struct nvme_ctrlr *c, const struct ctrlr_sq *sq)
{
	return sq->qid && !sq->fused && !sq->held && !c->plan;
}

/* Opcode, and flags of 0: not fused, with PRPs. */
static inline unsigned cmd_kind(const struct nvme_cmd *cmd)
{
	return cmd->opc | (unsigned)cmd->flags << 8;
}

/* @max commands, at least one, that are there. Returns how many. */
static unsigned sq_take(struct nvme_ctrlr *c, struct ctrlr_sq *sq, unsigned max)
{
	bool plain = sq_is_plain(c, sq);
	unsigned left = max;

	do {
		struct nvme_req *r = *sq->pool;
		uint32_t head = sq->head;

		if (unlikely(!r))
			break;
		*sq->pool = r->next;
		sqe_copy(&r->cmd, &sq->entries[head]);
		sq->head = ring_next(head, sq->size);
		r->sq = sq;
		sq->taken++;
		c->taken++;
		left--;
		if (likely(plain && cmd_kind(&r->cmd) == NVME_IO_READ)) {
			plain_read(c, r);
		} else if (likely(plain && cmd_kind(&r->cmd) == NVME_IO_WRITE)) {
			if (unlikely(!plain_write(c, r)))
				plain = sq_is_plain(c, sq); /* it may wait at a gate */
		} else {
			cmd_start(r);
			plain = sq_is_plain(c, sq);
			if (unlikely(c->state != CTRLR_RUNNING))
				break;
		}
	} while (left);
	return max - left;
}

static int sq_poll(struct nvme_ctrlr *c, struct ctrlr_sq *sq)
{
	struct ctrlr_cq *cq = sq->cq;
	uint32_t db = db_load(cq->db);
	unsigned n;

	if (db != cq->db_seen)
		cq_doorbell(c, cq, db);
	db = db_load(sq->db);
	if (db != sq->db_seen)
		sq_doorbell(c, sq, db);
	if (sq->head == sq->tail || unlikely(c->state != CTRLR_RUNNING))
		return 0;
	n = sq->tail > sq->head ? sq->tail - sq->head : sq->tail + sq->size - sq->head;
	n = sq_take(c, sq, MIN(n, c->burst));
	c->commands += n;
	return (int)n;
}

int queues_poll(struct nvme_ctrlr *c)
{
	int did = 0;

	/* Commands may delete queues: then one misses its turn, no more. */
	c->turn = c->turn + 1 < c->active_count ? c->turn + 1 : 0;
	for (unsigned i = c->turn; i < c->active_count; i++)
		did += sq_poll(c, c->active[i]);
	for (unsigned i = 0; i < MIN(c->turn, c->active_count); i++)
		did += sq_poll(c, c->active[i]);
	if (unlikely(c->deleters))
		did += deletions_poll(c);
	return did;
}
