/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine_load - the data set: objects 1 to N of one size, each block stamped with where it belongs,
 * so that a read that returns another block's bytes, or none, is found out whatever the checksums
 * say.
 */
#include <err.h>
#include <stdio.h>

#include "engine_bench.h"

#define STAMP_MAGIC 0x70656e73746f636bull

struct stamp {
	uint64_t magic, object, block;
};

static void again(struct loop_poller *p);

/* Slots that were not taken or that ended at once: their turn comes from the loop. */
static struct {
	struct list list; /* op.link */
	struct loop_poller poller;
	struct loop *loop;
} later = {.list = {&later.list, &later.list}};

static int later_poll(struct loop_poller *p)
{
	struct list todo, *n;
	int did = 0;

	list_init(&todo);
	list_splice(&todo, &later.list);
	for (; (n = list_pop(&todo)) != NULL; did++) {
		struct pst_op *op = list_entry(n, struct pst_op, link);

		if (op->status == -EINPROGRESS)
			eb_submit(container_of(op, struct eb_slot, op));
		else
			op->done(op);
	}
	again(p);
	return did;
}

static bool later_may_sleep(struct loop_poller *p)
{
	return list_empty(&later.list);
}

/* The poller is there only while there is something for it to do. */
static void again(struct loop_poller *p)
{
	if (list_empty(&later.list) && later.loop) {
		loop_poller_del(later.loop, p);
		later.loop = NULL;
	}
}

static void put_off(struct eb_slot *s)
{
	list_push(&later.list, &s->op.link);
	if (later.loop)
		return;
	later.loop = s->eb->loop;
	later.poller = (struct loop_poller){.poll = later_poll, .may_sleep = later_may_sleep};
	loop_poller_add(later.loop, &later.poller);
}

void eb_submit(struct eb_slot *s)
{
	enum pst_outcome out = store_submit(s->eb->store, &s->op);

	if (likely(out == PST_QUEUED))
		return;
	if (out == PST_BUSY)
		s->op.status = -EINPROGRESS;
	put_off(s);
}

void eb_slots(struct eb *eb, uint64_t bs, unsigned depth)
{
	eb->bs = bs;
	eb->per_object = eb->args.object_bytes / bs;
	eb->total = eb->per_object * eb->args.objects;
	eb->slots = calloc(depth, sizeof(*eb->slots));
	if (!eb->slots || mem_region_new(&eb->region, MEM_HOST, depth * bs))
		errx(1, "out of memory");
	for (unsigned i = 0; i < depth; i++) {
		struct eb_slot *s = &eb->slots[i];
		uint64_t *word = (void *)((uint8_t *)eb->region->addr + i * bs);

		for (uint64_t k = 0; k < bs / sizeof(*word); k++)
			word[k] = hash_u64(i * bs + k + 1);
		s->eb = eb;
		s->iov = (struct iovec){word, bs};
		s->op = (struct pst_op){.cont = eb->cont,
		                        .iov = &s->iov,
		                        .iov_count = 1,
		                        .len = bs,
		                        .region = eb->region};
	}
}

void eb_slots_free(struct eb *eb)
{
	mem_region_free(eb->region);
	free(eb->slots);
	eb->region = NULL;
	eb->slots = NULL;
}

void eb_aim(struct eb_slot *s, uint64_t n)
{
	const struct eb *eb = s->eb;

	s->op.oid.lo = 1 + n / eb->per_object;
	s->op.off = n % eb->per_object * eb->bs;
}

void eb_stamp(struct eb_slot *s)
{
	for (uint64_t at = 0; at < s->eb->bs; at += EB_BLOCK_BYTES) {
		struct stamp *st = (void *)((uint8_t *)s->iov.iov_base + at);

		*st = (struct stamp){STAMP_MAGIC, s->op.oid.lo, (s->op.off + at) / EB_BLOCK_BYTES};
	}
}

void eb_verify(const struct eb_slot *s)
{
	if (s->op.ret_len != s->eb->bs)
		errx(1, "object %llu: %llu bytes at %llu instead of %llu",
		     (unsigned long long)s->op.oid.lo, (unsigned long long)s->op.ret_len,
		     (unsigned long long)s->op.off, (unsigned long long)s->eb->bs);
	for (uint64_t at = 0; at < s->eb->bs; at += EB_BLOCK_BYTES) {
		const struct stamp *st = (void *)((const uint8_t *)s->iov.iov_base + at);

		if (unlikely(st->magic != STAMP_MAGIC || st->object != s->op.oid.lo ||
		             st->block != (s->op.off + at) / EB_BLOCK_BYTES))
			errx(1, "object %llu, byte %llu: wrong data",
			     (unsigned long long)s->op.oid.lo,
			     (unsigned long long)(s->op.off + at));
	}
}

/* --- once over everything --- */

static struct {
	uint64_t next;
	unsigned inflight;
	bool write;
} pass;

static void pass_next(struct eb_slot *s)
{
	eb_aim(s, pass.next++);
	if (pass.write)
		eb_stamp(s);
	pass.inflight++;
	eb_submit(s);
}

static void pass_done(struct pst_op *op)
{
	struct eb_slot *s = container_of(op, struct eb_slot, op);

	if (op->status)
		errx(1, "object %llu, byte %llu: %s", (unsigned long long)op->oid.lo,
		     (unsigned long long)op->off, strerror(-op->status));
	pass.inflight--;
	if (!pass.write)
		eb_verify(s);
	if (pass.next < s->eb->total)
		pass_next(s);
	else if (!pass.inflight)
		loop_stop(s->eb->loop);
}

double eb_pass(struct eb *eb, unsigned opcode, const char *what)
{
	struct pst_op flush = {.opcode = PST_OP_FLUSH};
	uint64_t start = clock_mono_ns();
	unsigned depth = 64;
	double seconds;

	eb_slots(eb, MIN(eb->args.object_bytes, MIB), depth);
	pass.next = 0;
	pass.write = opcode == PST_OP_WRITE;
	for (unsigned i = 0; i < depth && pass.next < eb->total; i++) {
		struct eb_slot *s = &eb->slots[i];

		s->op.opcode = (uint8_t)opcode;
		s->op.flags = pass.write ? PST_F_VOLATILE : 0;
		s->op.done = pass_done;
		pass_next(s);
	}
	if (loop_run(eb->loop) < 0 || store_run(eb->store, &flush))
		errx(1, "%s failed", what);
	seconds = (double)(clock_mono_ns() - start) / 1e9;
	(void)printf("{\"stage\": \"%s\", \"seconds\": %.3f, \"bytes\": %llu}\n", what, seconds,
	             (unsigned long long)(eb->total * eb->bs));
	eb_slots_free(eb);
	return seconds;
}
