/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * record_test - what the real program writes and flushes to real files is recorded; then, for many
 * moments of that record, states that the devices could be in after a power cut at that moment are
 * made, opened and checked against what had been acknowledged by then, and by fsck.
 *
 * A state at a moment: all writes that had completed before a completed flush was submitted, and of
 * the others that had been submitted any subset of their blocks. (SIGKILL can't show that: the
 * kernel's cache survives it.)
 *
 * usage: record_test DIRECTORY [SAMPLES [SEED]]
 */
#include <stdio.h>
#include <unistd.h>

#include "load.h"
#include "record_bdev.h"
#include "stack.h"

#define DEVS      2
#define DEV_BYTES (48 * MIB)
#define IO_MAX    100000u
#define OPS       900u
#define BLOCK     4096u

static uint64_t seed;
static size_t moment;

static _Noreturn void give_up(const char *what, const char *text)
{
	fprintf(stderr, "event %zu, seed %llu: %s: %s\n", moment, (unsigned long long)seed, what,
	        text);
	exit(1);
}

/* --- the program --- */

struct recording {
	struct rec_journal journal;
	unsigned acked;
	uint8_t *image[DEVS]; /* when the recording began */
};

static void ack(void *arg, unsigned lane, uint64_t n, bool durable)
{
	struct recording *r = arg;

	r->acked++;
	rec_mark(&r->journal, (uint64_t)lane << 1 | durable, n);
}

static bool enough(void *arg)
{
	return ((struct recording *)arg)->acked >= OPS;
}

static void open_files(struct stack *s, char *const *specs, uint64_t create, struct rec_journal *j)
{
	struct pst_err err = {0};

	if (stack_devs(s, specs, DEVS, false, create, j, &err))
		give_up("open of the files", err.text);
}

static void make_store(char *const *specs)
{
	struct pst_err err = {0};
	struct stack s;

	open_files(&s, specs, DEV_BYTES, NULL);
	if (stack_format(&s, &err) || stack_mount(&s, &err))
		give_up("format", err.text);
	load_setup(s.store);
	if (stack_close(&s))
		give_up("close", "failed");
}

static void take_images(char *const *specs, struct recording *r)
{
	struct stack s;

	open_files(&s, specs, 0, NULL);
	for (unsigned i = 0; i < DEVS; i++) {
		r->image[i] = aligned_alloc(BLOCK, DEV_BYTES);
		pst_assert(r->image[i]);
		if (bdev_read_sync(s.dev[i], 0, r->image[i], DEV_BYTES))
			give_up("read of the image", "failed");
	}
	stack_close(&s);
}

static void record(char *const *specs, struct recording *r)
{
	struct load_opts opts = {.acked = ack, .stop = enough, .arg = r, .io_max_bytes = IO_MAX};
	struct pst_err err = {0};
	struct stack s;

	for (unsigned i = 0; i < LOAD_LANES; i++)
		opts.next[i] = 1;
	open_files(&s, specs, 0, &r->journal);
	if (stack_mount(&s, &err))
		give_up("open", err.text);
	load_run(s.store, &opts);
	if (stack_close(&s))
		give_up("close", "failed");
}

/* --- the moments --- */

struct pending {
	struct list link;
	const struct rec_event *ev;
	uint64_t ended_at; /* 0: not yet; else the event's number + 1 */
};

struct replayer {
	struct recording *rec;
	struct list pending[DEVS]; /* writes that need not survive, in order of submission */
	struct load_known known[LOAD_LANES];
	struct load_oracle oracle;
	uint64_t *flush_at; /* by id: where the flush was submitted */
	struct rng rng;
	uint64_t states;
};

static void store_block(uint8_t *image, const struct rec_event *e, uint64_t at)
{
	if (e->data)
		memcpy(image + e->off + at, e->data + at, BLOCK);
	else
		memset(image + e->off + at, 0, BLOCK);
}

static void make_durable(struct replayer *p, struct pending *w)
{
	for (uint64_t at = 0; at < w->ev->len; at += BLOCK)
		store_block(p->rec->image[w->ev->dev], w->ev, at);
	list_del(&w->link);
	free(w);
}

static void on_submit(struct replayer *p, const struct rec_event *e)
{
	struct pending *w = calloc(1, sizeof(*w));

	pst_assert(w && e->off % BLOCK == 0 && e->len % BLOCK == 0);
	w->ev = e;
	list_push(&p->pending[e->dev], &w->link);
}

static void on_ended(struct replayer *p, const struct rec_event *e, uint64_t number)
{
	struct pending *w, *tmp;

	list_for_each_safe (w, tmp, &p->pending[e->dev], link) {
		if (w->ev->id != e->id)
			continue;
		w->ended_at = number + 1;
		if (w->ev->flags & BDEV_FUA)
			make_durable(p, w);
		return;
	}
}

static void on_flushed(struct replayer *p, const struct rec_event *e)
{
	struct pending *w, *tmp;

	list_for_each_safe (w, tmp, &p->pending[e->dev], link) {
		if (w->ended_at && w->ended_at <= p->flush_at[e->id])
			make_durable(p, w);
	}
}

static void on_mark(struct replayer *p, const struct rec_event *e)
{
	struct load_known *k = &p->known[e->id >> 1];

	if (e->id & 1)
		k->floor = e->mark;
	k->top = e->mark + 1;
}

static void step(struct replayer *p, size_t i)
{
	const struct rec_event *e = &p->rec->journal.ev[i];

	switch (e->kind) {
	case REC_SUBMIT:
		on_submit(p, e);
		break;
	case REC_ENDED:
		on_ended(p, e, i);
		break;
	case REC_FLUSH_SUBMIT:
		p->flush_at[e->id] = i;
		break;
	case REC_FLUSH_ENDED:
		on_flushed(p, e);
		break;
	case REC_MARK:
		on_mark(p, e);
		break;
	}
}

/* --- one state --- */

/* What became of the writes that were not flushed: none, all, or by chance. */
static void survivors(struct replayer *p, unsigned dev, unsigned how, uint8_t *image)
{
	struct pending *w;

	list_for_each (w, &p->pending[dev], link) {
		bool whole = rng_below(&p->rng, 2);

		for (uint64_t at = 0; at < w->ev->len; at += BLOCK) {
			if (how == 1 || (how == 2 && whole) || (how == 3 && rng_below(&p->rng, 2)))
				store_block(image, w->ev, at);
		}
	}
}

static void check_state(struct replayer *p, unsigned how)
{
	static uint8_t *image;
	char specs_buf[DEVS][64], *specs[DEVS];
	struct pst_err err = {0};
	uint64_t at[LOAD_LANES];
	struct stack s;

	if (!image)
		image = aligned_alloc(BLOCK, DEV_BYTES);
	for (unsigned i = 0; i < DEVS; i++) {
		snprintf(specs_buf[i], 64, "mem:%llu?name=rec%u", DEV_BYTES, i);
		specs[i] = specs_buf[i];
	}
	if (stack_devs(&s, specs, DEVS, true, 0, NULL, &err))
		give_up("memory", err.text);
	for (unsigned i = 0; i < DEVS; i++) {
		memcpy(image, p->rec->image[i], DEV_BYTES);
		survivors(p, i, how, image);
		pst_assert(!bdev_write_sync(s.dev[i], 0, image, DEV_BYTES, 0));
	}
	if (stack_fsck(&s, &err))
		give_up("before recovery", err.text);
	if (stack_mount(&s, &err))
		give_up("open", err.text);
	if (load_verify(s.store, &p->oracle, p->known, at, &err))
		give_up("the store", err.text);
	if (stack_close(&s))
		give_up("close", "failed");
	if (stack_devs(&s, specs, DEVS, true, 0, NULL, &err) || stack_fsck(&s, &err))
		give_up("after recovery", err.text);
	stack_close(&s);
	p->states++;
}

/* Moments are dense where much is in flight: each event may be one. */
static void replay(struct recording *rec, uint64_t samples)
{
	struct replayer p = {.rec = rec};
	size_t count = rec->journal.count;

	rng_seed(&p.rng, seed);
	p.flush_at = calloc(rec->journal.next_id + 1, sizeof(*p.flush_at));
	pst_assert(p.flush_at);
	load_oracle_init(&p.oracle, IO_MAX, false);
	for (unsigned i = 0; i < DEVS; i++)
		list_init(&p.pending[i]);
	for (unsigned i = 0; i < LOAD_LANES; i++)
		p.known[i].top = 1;
	for (moment = 0; moment < count; moment++) {
		step(&p, moment);
		if (rng_below(&p.rng, count) < samples)
			check_state(&p, (unsigned)rng_below(&p.rng, 4));
	}
	check_state(&p, 0); /* it was closed: nothing may be missing */
	printf("%u ops, %zu events, %llu states recovered and checked, seed %llu\n", rec->acked,
	       count, (unsigned long long)p.states, (unsigned long long)seed);
	load_oracle_done(&p.oracle);
	free(p.flush_at);
	for (unsigned i = 0; i < DEVS; i++) {
		while (!list_empty(&p.pending[i]))
			make_durable(&p, list_first(&p.pending[i], struct pending, link));
	}
}

int main(int argc, char **argv)
{
	uint64_t samples = argc > 2 ? strtoull(argv[2], NULL, 0) : 100;
	char path[DEVS][4096], *specs[DEVS];
	struct recording rec = {0};

	if (argc < 2) {
		fprintf(stderr, "usage: record_test DIRECTORY [SAMPLES [SEED]]\n");
		return 2;
	}
	seed = argc > 3 ? strtoull(argv[3], NULL, 0) : clock_real_ns();
	for (unsigned i = 0; i < DEVS; i++) {
		snprintf(path[i], sizeof(path[i]), "%s/record%u.%d", argv[1], i, (int)getpid());
		specs[i] = path[i];
	}
	make_store(specs);
	take_images(specs, &rec);
	record(specs, &rec);
	for (unsigned i = 0; i < DEVS; i++)
		unlink(path[i]);
	replay(&rec, samples);
	rec_journal_done(&rec.journal);
	for (unsigned i = 0; i < DEVS; i++)
		free(rec.image[i]);
	return 0;
}
