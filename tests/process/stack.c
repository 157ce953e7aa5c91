/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>

#include "fs/fs.h"
#include "record_bdev.h"
#include "stack.h"
#include "store/local/local.h"

int stack_devs(struct stack *s, char *const *specs, unsigned count, bool sim_loop,
               uint64_t create_bytes, struct rec_journal *journal, struct pst_err *err)
{
	struct bdev_open_opts opts = {.create = create_bytes, .size_bytes = create_bytes};
	struct loop_opts lo;
	int r;

	loop_opts_default(&lo);
	lo.sim = sim_loop;
	lo.sim_start_ns = NSEC_PER_SEC;
	*s = (struct stack){0};
	r = loop_new(&s->loop, &lo, err);
	for (unsigned i = 0; !r && i < count; i++) {
		r = bdev_open(&s->dev[i], specs[i], s->loop, &opts, err);
		s->devs += !r;
		if (!r && journal)
			s->dev[i] = record_wrap(s->dev[i], journal, i);
	}
	if (r)
		stack_close(s);
	return r;
}

int stack_format(struct stack *s, struct pst_err *err)
{
	struct local_format_opts opts = {.force = true, .shards = 2, .journal_bytes = 8 * MIB};

	return local_format(s->dev, s->devs, &opts, err);
}

int stack_mount(struct stack *s, struct pst_err *err)
{
	struct local_opts opts = {.csum_cache_bytes = MIB, .index_limit_bytes = 256 * MIB};
	struct loop *loops[STACK_REACTORS_MAX] = {s->loop};
	struct store *local;
	struct loop_opts lo;
	int r = 0;

	loop_opts_default(&lo);
	for (unsigned i = 1; i < s->reactors && !r; i++) {
		r = loop_thread_start(&s->more[i], &lo, CORE_ANY, err);
		loops[i] = r ? NULL : loop_thread_loop(s->more[i]);
	}
	if (!r)
		r = local_open_on(&local, loops, MAX(s->reactors, 1), s->dev, s->devs, &opts, err);
	if (r)
		return r;
	s->devs = 0; /* the store's */
	r = fs_new(&s->store, local, NULL, err);
	if (r)
		store_close(local);
	return r;
}

struct findings {
	unsigned count;
	char first[300];
};

static void finding(void *arg, const char *text, bool repaired)
{
	struct findings *f = arg;

	if (!f->count++)
		snprintf(f->first, sizeof(f->first), "%s", text);
}

int stack_fsck(struct stack *s, struct pst_err *err)
{
	struct findings f = {0};
	struct local_fsck_opts opts = {.data = true, .finding = finding, .arg = &f};
	struct local_fsck_report report = {0};
	int r = local_fsck(s->loop, s->dev, s->devs, &opts, &report, err);

	if (!r && report.findings)
		r = err_set(err, -EUCLEAN, "fsck: %llu findings, the first: %s",
		            (unsigned long long)report.findings, f.first);
	return r;
}

int stack_close(struct stack *s)
{
	int r = store_close(s->store);

	for (unsigned i = 0; i < s->devs; i++)
		bdev_close(s->dev[i]);
	for (unsigned i = 0; i < STACK_REACTORS_MAX; i++)
		loop_thread_stop(s->more[i]);
	loop_free(s->loop);
	*s = (struct stack){0};
	return r;
}
