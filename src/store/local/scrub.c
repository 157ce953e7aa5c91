/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scrub - reads everything in the background and verifies it, at a rate that the operator sets.
 *
 * It walks the containers' live trees and snapshots object by object with ordinary reads through
 * the engine, so that it sees what a reader would see, and goes on from the last position by key:
 * the trees may change under it. Blocks that snapshots share with the live tree are read once for
 * each view.
 */
#include "store/local/engine.h"

#define SCRUB_READ_BYTES MIB

struct scrub {
	struct list link;
	struct local *l;
	struct pst_op *op;
	struct pst_scrub_report *rep;
	struct pst_op read;
	struct iovec iov;
	uint8_t *buf;
	/* Where it is: */
	uint32_t cont;
	uint64_t view;
	uint8_t key[BT_KEY_MAX]; /* last one looked at */
	size_t key_len;
	uint64_t obj_off;  /* within the object of key */
	uint64_t fine_end; /* up to there block by block: something could not be read */
	bool in_object, reading, value, again;
	uint64_t next_ns;
};

static void scrub_end(struct scrub *s, int status)
{
	struct pst_op *op = s->op;
	struct local *l = s->l;

	list_del(&s->link);
	mem_free(s->buf);
	mem_free(s);
	op_done(l, op, status);
}

static void report(struct scrub *s, uint64_t off, int status)
{
	s->rep->errors++;
	s->rep->bad_view = s->view;
	if (s->rep->bad)
		s->rep->bad(s->rep, s->cont, s->read.oid, off, status);
}

static bool out_of_memory(const struct scrub *s)
{
	return s->read.status == -ENOMEM;
}

/* The next read begins where this one ended; or, if it was of more than a block and could not be
 * read, begins there again, in blocks, so that each bad one is known. */
static void read_ended(struct scrub *s)
{
	uint64_t n = s->value ? s->read.ret_len : s->iov.iov_len;
	int status = s->read.status;
	bool gone = status == -ENOENT || status == -ESTALE; /* meanwhile */

	s->reading = false;
	if (out_of_memory(s)) {
		s->again = true;
		local_tick(s->l);
		return;
	}
	if (!s->value && status && !gone && n > BLOCK_BYTES) {
		s->fine_end = s->obj_off + n;
		return;
	}
	if (status && !gone)
		report(s, s->value ? 0 : s->obj_off, status);
	if (!s->value)
		s->obj_off += n;
	s->rep->done_bytes += n;
	if (s->rep->rate_bytes_per_s) {
		uint64_t now = loop_now(s->l->store.loop);

		s->next_ns = MAX(s->next_ns, now) + n * NSEC_PER_SEC / s->rep->rate_bytes_per_s;
	}
}

static void read_done(struct pst_op *op)
{
	read_ended(op->user);
}

static void read_start(struct scrub *s, unsigned opcode)
{
	enum pst_outcome out;

	s->read.opcode = (uint8_t)opcode;
	s->read.flags = PST_F_CSUM_PAGE;
	s->read.cont = s->cont;
	s->read.view = s->view;
	s->read.done = read_done;
	s->read.user = s;
	s->read.status = 0;
	out = store_submit(&s->l->store, &s->read);
	s->reading = out == PST_QUEUED;
	s->again = out == PST_BUSY; /* as many ops as there may be are in flight */
	if (out == PST_DONE)
		read_ended(s);
}

/* Reads the next piece of data of the object; false: there is no more. */
static bool object_step(struct scrub *s)
{
	struct pst_op map = {.opcode = PST_OP_EXTENTS,
	                     .cont = s->cont,
	                     .view = s->view,
	                     .oid = s->read.oid,
	                     .off = s->obj_off,
	                     .len = PST_OBJECT_MAX};

	if (store_submit(&s->l->store, &map) != PST_DONE || map.status)
		return false;
	s->obj_off = ALIGN_DOWN(map.ret_off, BLOCK_BYTES);
	s->iov.iov_base = s->buf;
	s->iov.iov_len = MIN(s->obj_off < s->fine_end ? BLOCK_BYTES : SCRUB_READ_BYTES,
	                     map.ret_off + map.ret_len - s->obj_off);
	s->read.off = s->obj_off;
	s->read.len = s->iov.iov_len;
	s->read.iov = &s->iov;
	s->read.iov_count = 1;
	s->value = false;
	read_start(s, PST_OP_READ);
	return true;
}

static const struct btree *tree_now(struct scrub *s)
{
	struct pst_op op = {.cont = s->cont, .view = s->view};
	const struct btree *t;
	struct shard *home;

	return cont_view(s->l, &op, &home, &t) ? NULL : t;
}

/* The next view: live, snapshots of the container, the next container. False: that was all. */
static bool next_view(struct scrub *s)
{
	struct shard *home = shard_of_cont(s->l, s->cont);
	struct cont *c = home ? cont_find(home, s->cont) : NULL;
	struct cont_name *n, *best = NULL;
	struct snap *sn;

	s->key_len = 0;
	if (c)
		list_for_each (sn, &c->snaps, link)
			if (sn->id > s->view) {
				s->view = sn->id;
				return true;
			}
	s->view = 0;
	list_for_each (n, &s->l->names, link)
		if (n->id > s->cont && (!best || n->id < best->id))
			best = n;
	if (!best)
		return false;
	s->cont = best->id;
	return true;
}

/* Goes to the next item that has data to verify; false: the scrub is over. */
static bool advance(struct scrub *s)
{
	const struct btree *t = s->cont ? tree_now(s) : NULL;
	struct bt_iter it;

	if (!t)
		return next_view(s);
	bt_seek(&it, t, s->key, s->key_len);
	if (it.valid && s->key_len && it.key_len == s->key_len &&
	    !memcmp(it.key, s->key, s->key_len))
		bt_next(&it);
	if (!it.valid)
		return next_view(s);
	s->key_len = it.key_len;
	memcpy(s->key, it.key, it.key_len);
	if (it.key_len < KEY_OBJ_BYTES)
		return true;
	s->read.oid = oid_of_key(it.key);
	if (it.key[16] == KEY_HEAD) {
		s->rep->objects++;
		s->in_object = true;
		s->obj_off = s->fine_end = 0;
	} else if (it.key[16] == KEY_KV && ((const uint8_t *)it.val)[0] == VAL_OUT) {
		s->read.key = s->key + KEY_OBJ_BYTES;
		s->read.key_len = (uint32_t)(it.key_len - KEY_OBJ_BYTES);
		s->read.val = s->buf;
		s->read.val_cap = PST_VALUE_MAX;
		s->value = true;
		read_start(s, PST_OP_KV_GET);
	}
	return true;
}

static void one_step(struct scrub *s)
{
	unsigned budget = 64; /* items without data, in one turn */

	while (!s->reading && budget--) {
		if (s->rep->rate_bytes_per_s && loop_now(s->l->store.loop) < s->next_ns) {
			if (!s->l->stall_timer.heap_index)
				(void)loop_timer_arm(s->l->store.loop, &s->l->stall_timer,
				                     s->next_ns);
			return;
		}
		if (s->again)
			read_start(s, s->read.opcode);
		if (s->again) {
			local_tick(s->l);
			return;
		}
		if (s->reading)
			return;
		if (s->in_object) {
			s->in_object = object_step(s);
			continue;
		}
		if (!advance(s)) {
			scrub_end(s, op_state(s->op)->cancelled ? -ECANCELED : 0);
			return;
		}
	}
	if (!s->reading && !s->l->stall_timer.heap_index)
		(void)loop_timer_arm(s->l->store.loop, &s->l->stall_timer,
		                     loop_now(s->l->store.loop));
}

void scrub_step(struct local *l)
{
	struct scrub *s, *next;

	list_for_each_safe (s, next, &l->scrubs, link) {
		if (op_state(s->op)->cancelled && !s->reading)
			scrub_end(s, -ECANCELED);
		else
			one_step(s);
	}
}

bool scrub_cancel(struct local *l, struct pst_op *op)
{
	struct scrub *s;

	list_for_each (s, &l->scrubs, link)
		if (s->op == op) {
			op_state(op)->cancelled = true;
			local_tick(l); /* its own turn may be days away */
			return true;
		}
	return false;
}

void scrub_end_all(struct local *l, int status)
{
	struct scrub *s, *next;

	list_for_each_safe (s, next, &l->scrubs, link)
		if (!s->reading)
			scrub_end(s, status);
}

enum pst_outcome scrub_submit(struct local *l, struct pst_op *op)
{
	struct scrub *s;

	if (!op->scrub)
		return op_fail(op, -EINVAL);
	if (l->ops >= l->opts.ops_max)
		return PST_BUSY;
	s = mem_calloc(1, sizeof(*s));
	if (s)
		s->buf = mem_alloc_aligned(BLOCK_BYTES, SCRUB_READ_BYTES);
	if (!s || !s->buf) {
		mem_free(s);
		return op_fail(op, -ENOMEM);
	}
	*op_state(op) = (struct op_state){.shard = l->own[0]};
	s->l = l;
	s->op = op;
	s->rep = op->scrub;
	op->scrub->done_bytes = op->scrub->objects = op->scrub->errors = 0;
	op->scrub->total_bytes = 0;
	for (unsigned i = 0; i < l->owned; i++)
		op->scrub->total_bytes +=
		        l->own[i]->space.class[SPACE_DATA].used * (uint64_t)BLOCK_BYTES;
	l->ops++;
	list_push(&l->scrubs, &s->link);
	return PST_QUEUED;
}
