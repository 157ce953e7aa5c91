/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cores_bench - the engine parted among reactors, each on a core of its own and each with the work of its
 * own containers: 4 KiB random reads or durable overwrites on memory, in a closed loop. What submits is
 * the reactor itself, so no core is shared with a client, and no message passes between reactors but those
 * of the engine: what is measured is the engine alone.
 *
 *   cores_bench --reactors N --rw randread|randwrite [--cores LIST] [--runtime S] [--depth D]
 *
 * There are 8 containers, whatever N is. Prints a line of JSON. Reads are checked by what each block says
 * of where it belongs.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "bdev/bdev.h"
#include "loop/thread.h"
#include "store/local/crew.h"

#define CONTS      8u
#define BLOCKS     4096u /* of the one object in each container */
#define BLOCK      4096u
#define WARM_NS    (300 * NSEC_PER_MSEC)
#define DEPTH_MAX  256u
#define DEVICE     "mem:768m"
#define JOURNAL    (64 * MIB)
#define LAYOUT_LEN (64 * BLOCK)

static const struct pst_oid the_oid = {1, 1};

struct slot {
	struct pst_op op;
	struct iovec iov;
	struct list link;
	struct worker *worker;
	uint32_t block;
	uint8_t *buf;
};

struct worker {
	struct store *part;
	struct loop_poller poller;
	struct loop_msg begin, end;
	struct list idle;
	struct rng rng;
	uint32_t cont[CONTS];
	unsigned conts, depth, busy;
	bool write, running;
	struct slot *slot;
	_Atomic uint64_t ended;
	atomic_bool quiet;
};

static _Noreturn void die(const char *what, int rc)
{
	(void)fprintf(stderr, "cores_bench: %s: %s\n", what, strerror(-rc));
	exit(1);
}

/* --- a reactor's own work --- */

static void stamp(uint8_t *buf, uint32_t cont, uint32_t block)
{
	uint64_t v = (uint64_t)cont << 32 | block;

	memcpy(buf, &v, sizeof(v));
}

static void ended(struct slot *s)
{
	struct worker *w = s->worker;
	uint64_t v;

	if (s->op.status)
		die("an op failed", s->op.status);
	memcpy(&v, s->buf, sizeof(v));
	if (v != ((uint64_t)s->op.cont << 32 | s->block))
		die("a block is another one's", -EBADMSG);
	atomic_store_explicit(&w->ended, atomic_load_explicit(&w->ended, memory_order_relaxed) + 1,
	                      memory_order_relaxed);
	list_push(&w->idle, &s->link);
	w->busy--;
}

static void done(struct pst_op *op)
{
	ended(container_of(op, struct slot, op));
}

/* False: the engine takes no more now. */
static bool go(struct worker *w, struct slot *s)
{
	struct pst_op *op = &s->op;

	s->block = (uint32_t)rng_below(&w->rng, BLOCKS);
	s->iov = (struct iovec){s->buf, BLOCK};
	*op = (struct pst_op){.opcode = w->write ? PST_OP_WRITE : PST_OP_READ,
	                      .cont = w->cont[rng_below(&w->rng, w->conts)],
	                      .oid = the_oid,
	                      .off = (uint64_t)s->block * BLOCK,
	                      .len = BLOCK,
	                      .iov = &s->iov,
	                      .iov_count = 1,
	                      .done = done};
	if (w->write)
		stamp(s->buf, op->cont, s->block);
	w->busy++;
	switch (store_submit(w->part, op)) {
	case PST_DONE:
		ended(s);
		return true;
	case PST_QUEUED:
		return true;
	default:
		w->busy--;
		list_push_front(&w->idle, &s->link);
		return false;
	}
}

static int work(struct loop_poller *p)
{
	struct worker *w = container_of(p, struct worker, poller);
	int did = 0;

	for (unsigned n = w->depth; w->running && n > 0 && !list_empty(&w->idle); n--, did++) {
		struct slot *s = list_first(&w->idle, struct slot, link);

		list_del(&s->link);
		if (!go(w, s))
			break;
	}
	if (!w->running && !w->busy)
		atomic_store(&w->quiet, true);
	return did;
}

static void begin(struct loop_msg *m)
{
	struct worker *w = container_of(m, struct worker, begin);

	w->running = true;
	loop_poller_add(w->part->loop, &w->poller);
}

static void stop(struct loop_msg *m)
{
	container_of(m, struct worker, end)->running = false;
}

static void leave(struct loop_msg *m)
{
	struct worker *w = container_of(m, struct worker, end);

	loop_poller_del(w->part->loop, &w->poller);
	atomic_store(&w->quiet, false);
}

static void worker_init(struct worker *w, unsigned depth, bool write, unsigned i)
{
	uint8_t *mem = mem_alloc_aligned(BLOCK, (size_t)depth * BLOCK);

	w->slot = mem_calloc(depth, sizeof(*w->slot));
	if (!w->slot || !mem)
		die("memory", -ENOMEM);
	memset(mem, 0, (size_t)depth * BLOCK);
	list_init(&w->idle);
	rng_seed(&w->rng, i + 1);
	w->depth = depth;
	w->write = write;
	w->poller.poll = work;
	w->begin.run = begin;
	for (unsigned k = 0; k < depth; k++) {
		w->slot[k].worker = w;
		w->slot[k].buf = mem + (size_t)k * BLOCK;
		list_push(&w->idle, &w->slot[k].link);
	}
}

static void worker_free(struct worker *w)
{
	mem_free(w->slot[0].buf);
	mem_free(w->slot);
}

/* --- the store --- */

static void lay_out(struct store *store, uint32_t cont)
{
	uint8_t *buf = mem_alloc_aligned(BLOCK, LAYOUT_LEN);

	if (!buf)
		die("memory", -ENOMEM);
	memset(buf, 0, LAYOUT_LEN);
	for (uint32_t b = 0; b < BLOCKS; b += LAYOUT_LEN / BLOCK) {
		struct iovec iov = {buf, LAYOUT_LEN};
		struct pst_op op = {.opcode = PST_OP_WRITE,
		                    .cont = cont,
		                    .oid = the_oid,
		                    .off = (uint64_t)b * BLOCK,
		                    .len = LAYOUT_LEN,
		                    .iov = &iov,
		                    .iov_count = 1};
		int rc;

		for (uint32_t i = 0; i < LAYOUT_LEN / BLOCK; i++)
			stamp(buf + (size_t)i * BLOCK, cont, b + i);
		rc = store_run(store, &op);
		if (rc)
			die("laying out", rc);
	}
	mem_free(buf);
}

static struct store *open_store(struct loop *const *loops, unsigned reactors)
{
	const struct local_format_opts fo = {.shards = CONTS, .journal_bytes = JOURNAL};
	struct pst_err err = {0};
	struct store *store;
	struct bdev *dev;

	if (bdev_open(&dev, DEVICE, loops[0], NULL, &err) || local_format(&dev, 1, &fo, &err) ||
	    local_open_on(&store, loops, reactors, &dev, 1, NULL, &err)) {
		(void)fprintf(stderr, "cores_bench: %s\n", err.text);
		exit(1);
	}
	return store;
}

static struct local *part_of(struct store *store, unsigned i)
{
	return local_is_crew(store) ? container_of(store, struct crew, store)->mate[i].l
	                            : local_of(store);
}

static void fill(struct store *store, struct worker *w, unsigned reactors)
{
	for (unsigned i = 0; i < CONTS; i++) {
		char name[8];
		struct pst_op op = {.opcode = PST_OP_CONT_CREATE, .name = name};
		struct worker *mine;
		int rc;

		op.name_len = (uint32_t)snprintf(name, sizeof(name), "c%u", i);
		rc = store_run(store, &op);
		if (rc)
			die("a container", rc);
		lay_out(store, op.cont);
		mine = &w[op.cont % CONTS % reactors];
		mine->cont[mine->conts++] = op.cont;
	}
}

/* --- measuring --- */

static uint64_t sum(struct worker *w, unsigned reactors)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < reactors; i++)
		n += atomic_load_explicit(&w[i].ended, memory_order_relaxed);
	return n;
}

static void turn_for(struct loop *loop, uint64_t ns)
{
	uint64_t until = clock_mono_ns() + ns;

	while (clock_mono_ns() < until)
		(void)loop_turn(loop, NSEC_PER_MSEC);
}

static void all_post(struct worker *w, unsigned reactors, void (*run)(struct loop_msg *m),
                     bool until_quiet)
{
	for (unsigned i = 0; i < reactors; i++) {
		w[i].end.run = run;
		loop_post(w[i].part->loop, &w[i].end);
	}
	for (unsigned i = 0; i < reactors; i++)
		while (atomic_load(&w[i].quiet) != until_quiet)
			(void)loop_turn(w[0].part->loop, NSEC_PER_MSEC);
}

static double measure(struct worker *w, unsigned reactors, double seconds)
{
	uint64_t from_ns, from;
	double rate;

	for (unsigned i = 0; i < reactors; i++)
		loop_post(w[i].part->loop, &w[i].begin);
	turn_for(w[0].part->loop, WARM_NS);
	from_ns = clock_mono_ns();
	from = sum(w, reactors);
	turn_for(w[0].part->loop, (uint64_t)(seconds * 1e9));
	rate = (double)(sum(w, reactors) - from) / ((double)(clock_mono_ns() - from_ns) / 1e9);
	all_post(w, reactors, stop, true);
	all_post(w, reactors, leave, false);
	return rate;
}

static void usage(void)
{
	(void)fprintf(stderr,
	              "usage: cores_bench --reactors N --rw randread|randwrite [--cores LIST] "
	              "[--runtime S] [--depth D]\n");
	exit(2);
}

struct args {
	unsigned reactors, depth;
	int cores[CORES_MAX];
	bool write;
	double seconds;
};

static void parse(struct args *a, int argc, char **argv)
{
	static const struct option longs[] = {{"reactors", 1, NULL, 'n'}, {"rw", 1, NULL, 'w'},
	                                      {"cores", 1, NULL, 'c'},    {"runtime", 1, NULL, 't'},
	                                      {"depth", 1, NULL, 'd'},    {NULL, 0, NULL, 0}};
	const char *list = NULL;
	struct pst_err err = {0};
	unsigned count = 0;
	int opt;

	*a = (struct args){.reactors = 1, .depth = 32, .seconds = 3};
	while ((opt = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
		if (opt == 'n')
			a->reactors = (unsigned)strtoul(optarg, NULL, 10);
		else if (opt == 'w')
			a->write = !strcmp(optarg, "randwrite");
		else if (opt == 'c')
			list = optarg;
		else if (opt == 't')
			a->seconds = strtod(optarg, NULL);
		else if (opt == 'd')
			a->depth = (unsigned)strtoul(optarg, NULL, 10);
		else
			usage();
	}
	if (!a->reactors || a->reactors > CONTS || !a->depth || a->depth > DEPTH_MAX)
		usage();
	for (unsigned i = 0; i < a->reactors; i++)
		a->cores[i] = (int)i;
	if (list && (cores_parse(a->cores, &count, list, true, &err) || count < a->reactors)) {
		(void)fprintf(stderr, "cores_bench: %s\n",
		              err.text[0] ? err.text : "too few cores");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	static struct worker w[CONTS];
	struct loop_thread *thread[CONTS] = {NULL};
	struct loop *loops[CONTS];
	struct pst_err err = {0};
	struct loop_opts lo;
	struct store *store;
	struct args a;
	double rate;

	parse(&a, argc, argv);
	loop_opts_default(&lo);
	if (loop_new(&loops[0], &lo, &err) || core_pin(a.cores[0], &err))
		die(err.text, -EINVAL);
	for (unsigned i = 1; i < a.reactors; i++) {
		if (loop_thread_start(&thread[i], &lo, a.cores[i], &err))
			die(err.text, -EINVAL);
		loops[i] = loop_thread_loop(thread[i]);
	}
	store = open_store(loops, a.reactors);
	for (unsigned i = 0; i < a.reactors; i++) {
		/* The same number under way in all, however many share them. */
		worker_init(&w[i], MAX(a.depth * CONTS / 4 / a.reactors, 1), a.write, i);
		w[i].part = &part_of(store, i)->store;
	}
	fill(store, w, a.reactors);
	rate = measure(w, a.reactors, a.seconds);
	(void)printf("{\"reactors\": %u, \"rw\": \"%s\", \"iops\": %.0f, \"bytes_per_s\": %.0f}\n",
	             a.reactors, a.write ? "randwrite" : "randread", rate, rate * BLOCK);
	for (unsigned i = 0; i < a.reactors; i++)
		worker_free(&w[i]);
	if (store_close(store))
		die("closing", -EIO);
	for (unsigned i = 1; i < a.reactors; i++)
		loop_thread_stop(thread[i]);
	loop_free(loops[0]);
	return 0;
}
