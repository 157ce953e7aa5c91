/* SPDX-License-Identifier: BSD-3-Clause */
/* The fault device's outside: its options, how it opens and closes, and what tests ask of it. How a
 * request fares is in fault_io.c, what reaches the device below in fault_job.c. */
#include <stdio.h>

#include "bdev/fault_int.h"

#define SPEC_MAX 4096

/* --- options --- */

enum knob_kind {
	KNOB_PROBABILITY,
	KNOB_U64,
	KNOB_BOOL,
};

static const struct knob {
	const char *name;
	enum knob_kind kind;
	size_t offset;
} knobs[] = {
#define KNOB(name, kind)                                        \
	{                                                       \
#name, kind, offsetof(struct fault_knobs, name) \
	}
        KNOB(seed, KNOB_U64),
        KNOB(read_error, KNOB_PROBABILITY),
        KNOB(write_error, KNOB_PROBABILITY),
        KNOB(flush_error, KNOB_PROBABILITY),
        KNOB(bit_flip, KNOB_PROBABILITY),
        KNOB(bit_rot, KNOB_PROBABILITY),
        KNOB(lost_write, KNOB_PROBABILITY),
        KNOB(torn_write, KNOB_PROBABILITY),
        KNOB(misdirect, KNOB_PROBABILITY),
        KNOB(delay_us, KNOB_U64),
        KNOB(delay_jitter_us, KNOB_U64),
        KNOB(cut_after, KNOB_U64),
        KNOB(cache, KNOB_BOOL),
#undef KNOB
};

static const struct knob *knob_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(knobs); i++) {
		if (!strcmp(knobs[i].name, name))
			return &knobs[i];
	}
	return NULL;
}

static int knob_set(struct fault_knobs *into, const struct knob *k, struct options *o,
                    struct pst_err *err)
{
	void *field = (char *)into + k->offset;
	double p = 0;
	int rc;

	switch (k->kind) {
	case KNOB_U64:
		return options_u64(o, k->name, field, err);
	case KNOB_BOOL:
		return options_bool(o, k->name, field, err);
	case KNOB_PROBABILITY:
		rc = options_double(o, k->name, &p, err);
		if (rc)
			return rc;
		if (!(p >= 0 && p <= 1))
			return err_set(err, -EINVAL, "option %s: a probability is 0 to 1", k->name);
		*(double *)field = p;
		return 0;
	}
	return -EINVAL;
}

static struct fault *fault_of(struct bdev *b)
{
	return container_of(b, struct fault, bdev);
}

int fault_set(struct bdev *b, const char *name, const char *value, struct pst_err *err)
{
	struct fault *f = fault_of(b);
	const struct knob *k = knob_find(name);
	/* The strings are only read. */
	struct options o = {
	        .count = 1,
	        .kv = {{.key = (char *)(uintptr_t)name, .value = (char *)(uintptr_t)value}}};
	int rc;

	if (!k)
		return err_set(err, -EINVAL, "fault: has no option '%s'", name);
	rc = knob_set(&f->knobs, k, &o, err);
	if (rc)
		return rc;
	if (k->offset == offsetof(struct fault_knobs, seed))
		rng_seed(&f->rng, f->knobs.seed);
	b->info.volatile_cache = f->knobs.cache || f->below->info.volatile_cache;
	return 0;
}

/* --- what tests ask --- */

bool fault_is_cut(const struct bdev *b)
{
	return container_of(b, const struct fault, bdev)->cut;
}

uint64_t fault_mutations(const struct bdev *b)
{
	return container_of(b, const struct fault, bdev)->mutations;
}

void fault_fail_at(struct bdev *b, uint32_t ops_mask, uint64_t n, int status)
{
	struct fault *f = fault_of(b);

	pst_assert(status < 0);
	f->fail.ops_mask = ops_mask;
	f->fail.n = n;
	f->fail.status = status;
}

/* --- open and close --- */

/* The power is on: what the cache still holds reaches the device below sooner or later. */
static void write_back(struct fault *f)
{
	if (!f->cut)
		job_drain(f);
	while (job_busy(f)) {
		int rc = loop_turn(f->bdev.loop, UINT64_MAX);

		pst_assert(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
	}
	if (!f->cut && f->job.status)
		log_error("%s: what was not flushed could not be written back: error %d",
		          f->bdev.info.name, f->job.status);
}

static void fault_close(struct bdev *b)
{
	struct fault *f = fault_of(b);
	struct list *n;

	write_back(f);
	loop_poller_del(b->loop, &f->poller);
	cache_done(&f->cache);
	while ((n = list_pop(&f->spare)))
		mem_free(list_entry(n, struct fault_req, link));
	bdev_close(f->below);
	mem_free(f);
}

static const struct bdev_ops fault_ops = {
        .submit = fault_submit,
        .close = fault_close,
};

int fault_wrap(struct bdev **ret_bdev, struct bdev *below, uint64_t seed, struct pst_err *err)
{
	struct fault *f = mem_calloc(1, sizeof(*f));

	if (!f)
		return err_set(err, -ENOMEM, "out of memory");
	f->below = below;
	f->knobs.seed = seed;
	f->knobs.cache = true;
	rng_seed(&f->rng, seed);
	cache_init(&f->cache, below->info.block_bytes, below->info.mem_align);
	list_init(&f->ready);
	list_init(&f->delayed);
	list_init(&f->jobs);
	list_init(&f->spare);
	list_init(&f->starved);
	f->bdev.ops = &fault_ops;
	f->bdev.loop = below->loop;
	f->bdev.info = below->info;
	f->bdev.info.volatile_cache = true;
	f->bdev.info.discard = true;
	f->bdev.info.io_max_bytes = 0;
	f->bdev.read_only = below->read_only;
	f->poller.poll = fault_poll;
	f->poller.may_sleep = fault_may_sleep;
	loop_poller_add(below->loop, &f->poller);
	*ret_bdev = &f->bdev;
	return 0;
}

/* "SPEC?options that are not ours". The '?' is always there, so that one in a path stays there. */
static int spec_below(const struct options *o, char *spec, struct pst_err *err)
{
	size_t len = (size_t)snprintf(spec, SPEC_MAX, "%s?", o->base);
	char sep[2] = "";

	for (unsigned i = 0; i < o->count && len < SPEC_MAX; i++) {
		if (knob_find(o->kv[i].key))
			continue;
		len += (size_t)snprintf(spec + len, SPEC_MAX - len, "%s%s=%s", sep, o->kv[i].key,
		                        o->kv[i].value);
		sep[0] = '&';
	}
	if (len >= SPEC_MAX)
		return err_set(err, -EINVAL, "fault: longer than %d bytes", SPEC_MAX);
	return 0;
}

static int apply_options(struct bdev *b, struct options *o, struct pst_err *err)
{
	for (unsigned i = 0; i < o->count; i++) {
		int rc = knob_find(o->kv[i].key) ? fault_set(b, o->kv[i].key, o->kv[i].value, err)
		                                 : 0;

		if (rc)
			return rc;
	}
	return 0;
}

static int open_parsed(struct bdev **ret_bdev, struct options *o, struct loop *loop,
                       const struct bdev_open_opts *opts, struct pst_err *err)
{
	char spec[SPEC_MAX];
	struct bdev *below = NULL, *b = NULL;
	int rc;

	rc = spec_below(o, spec, err);
	if (rc)
		return rc;
	rc = bdev_open(&below, spec, loop, opts, err);
	if (rc)
		return rc;
	rc = fault_wrap(&b, below, 0, err);
	if (rc) {
		bdev_close(below);
		return rc;
	}
	rc = apply_options(b, o, err);
	if (rc) {
		bdev_close(b);
		return rc;
	}
	*ret_bdev = b;
	return 0;
}

static int fault_open(struct bdev **ret_bdev, const char *rest, struct loop *loop,
                      const struct bdev_open_opts *opts, struct pst_err *err)
{
	struct options o;
	int rc;

	rc = options_parse(&o, rest, err);
	if (rc)
		return rc;
	rc = open_parsed(ret_bdev, &o, loop, opts, err);
	options_done(&o);
	return rc;
}

static int check_parsed(struct options *o, struct pst_err *err)
{
	struct fault_knobs set = {0};
	char spec[SPEC_MAX];
	int rc = spec_below(o, spec, err);

	if (!rc)
		rc = bdev_check(spec, err);
	for (unsigned i = 0; !rc && i < o->count; i++) {
		const struct knob *k = knob_find(o->kv[i].key);

		rc = k ? knob_set(&set, k, o, err) : 0;
	}
	return rc;
}

static int fault_check(const char *rest, struct pst_err *err)
{
	struct options o;
	int rc = options_parse(&o, rest, err);

	if (rc)
		return rc;
	rc = check_parsed(&o, err);
	options_done(&o);
	return rc;
}

static int fault_files(const char *rest, int (*each)(void *arg, const char *path), void *arg,
                       struct pst_err *err)
{
	char spec[SPEC_MAX];
	struct options o;
	int rc = options_parse(&o, rest, err);

	if (rc)
		return rc;
	rc = spec_below(&o, spec, err);
	if (!rc)
		rc = bdev_files(spec, each, arg, err);
	options_done(&o);
	return rc;
}

struct bdev_driver bdev_driver_fault = {
        .scheme = "fault",
        .help = "fault:DEVICE           another device, with faults; other options are DEVICE's\n"
                "  seed=N               the same seed and requests give the same faults (0)\n"
                "  read_error=P         probability (0..1) that a read fails with EIO\n"
                "  write_error=P        that a write fails, part of it perhaps stored\n"
                "  flush_error=P        that a flush fails, part of the cache lost for good\n"
                "  bit_flip=P           that a read returns one bit flipped\n"
                "  bit_rot=P            that a write is stored with one bit flipped\n"
                "  lost_write=P         that a write is acknowledged and never stored\n"
                "  torn_write=P         that only some blocks of a write are stored\n"
                "  misdirect=P          that a write is stored somewhere else\n"
                "  delay_us=N           every request takes this much longer\n"
                "  delay_jitter_us=N    and up to this much, at random, on top\n"
                "  cut_after=N          power is cut at the N-th write or flush\n"
                "  cache=BOOL           a volatile write cache (1)\n",
        .open = fault_open,
        .check = fault_check,
        .files = fault_files,
};

__attribute__((constructor)) static void fault_register(void)
{
	bdev_driver_register(&bdev_driver_fault);
}
