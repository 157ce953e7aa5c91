/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck - examines a store that is not open: the order of the phases, findings, and the end.
 *
 *   identify   the devices, by any good superblock copy; without one there is nothing to examine
 *   load       recovery in memory, shard by shard (fsck_pages.c watches it). An index page that no
 *              mirror has whole is a finding, and the rest goes on without it (fsck_lost.c); a shard
 *              that can't be loaded is one too, and nothing more is said about it
 *   supers, headers                           (fsck_super.c)
 *   trees      keys, objects, counters        (fsck_tree.c)
 *   space      references against each other, against index pages, against the allocator
 *                                             (fsck_space.c)
 *   data       checksum pages; with opts->data every block and large value   (fsck_data.c)
 *   repair     a checkpoint writes what was corrected in memory
 *
 * What is never repaired: a log that is damaged in its middle (going on behind the damage would
 * silently forget acknowledged changes), the root of the system tree of shard 0 (all names hang below
 * it), data whose checksum does not match, and two objects that claim one block. Each would be a
 * guess, and a guess looks like good data for ever after. What can still be read stays readable.
 */
#include <stdio.h>

#include "store/local/fsck_int.h"

/* --- findings --- */

void fsck_found(struct fsck *f, bool done, const char *remedy, const char *fmt, ...)
{
	char what[768], text[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	(void)snprintf(text, sizeof(text), "%s; %s%s", what, remedy ? "repair: " : "",
	               remedy ? remedy : "it can't be repaired");
	f->rep->findings++;
	f->rep->repaired += done;
	if (f->o->finding)
		f->o->finding(f->o->arg, text, done);
}

void fsck_progress(struct fsck *f, uint64_t bytes)
{
	f->done_bytes += bytes;
	if (f->o->progress)
		f->o->progress(f->o->arg, f->done_bytes, f->total_bytes);
}

const char *fsck_where(const struct fsck *f, char buf[FSCK_WHERE_MAX], uint32_t cont,
                       const struct snap *snap, struct pst_oid oid)
{
	const struct cont_name *n = cont_name_by_id(f->l, cont);

	(void)snprintf(buf, FSCK_WHERE_MAX, "container %s%s%s object %016llx%016llx",
	               n ? n->name : "?", snap ? "@" : "", snap ? snap->name : "",
	               (unsigned long long)oid.hi, (unsigned long long)oid.lo);
	return buf;
}

/* --- phases --- */

/* Loads every shard that can be. Fails only for want of memory, or when the devices are gone. */
static int load_all(struct fsck *f, struct pst_err *err)
{
	struct local *l = f->l;
	bool names = true;

	for (unsigned i = 0; i < l->geo.shards && names; i++) {
		struct pst_err e = {0};
		int r = shard_load(l, i, &e);

		if (!r)
			r = f->status;
		if (r == -ENOMEM || r == -EREMOTEIO)
			return err_set(err, r, "%s", e.text[0] ? e.text : strerror(-r));
		if (!r)
			continue;
		f->bad_shard[i] = true;
		fsck_found(f, false, NULL, "%s", e.text);
		names = i > 0;
	}
	/* Shard 0 has the names: without it nothing of the others means anything. */
	for (unsigned i = 0; i < l->geo.shards && !names; i++)
		f->bad_shard[i] = true;
	return 0;
}

static bool all_loaded(const struct fsck *f)
{
	for (unsigned i = 0; i < f->l->geo.shards; i++)
		if (f->bad_shard[i])
			return false;
	return true;
}

static void check_shard(struct fsck *f, struct shard *s)
{
	struct cont *c;

	fsck_sys_tree(f, s);
	list_for_each (c, &s->conts, link)
		fsck_cont(f, s, c);
	fsck_refs(f, s);
	fsck_space(f, s);
	fsck_csums(f, s);
	/* A shard at a time: the total grows with what each turns out to hold. */
	f->total_bytes += s->space.class[SPACE_DATA].used << BLOCK_SHIFT;
	if (f->o->data)
		fsck_data(f, s);
}

/* What needs a checkpoint gets it: recovery goes on to its end. */
static int repair_end(struct fsck *f, struct pst_err *err)
{
	if (!fsck_repair(f))
		return 0;
	if (f->checkpoint && all_loaded(f)) {
		f->l->opts.read_only = false;
		return recover_end(f->l, err);
	}
	return flush_all_sync(f->l);
}

static int examine(struct fsck *f, struct pst_err *err)
{
	struct local *l = f->l;
	int r = recover_begin(l, err);

	if (!r)
		r = load_all(f, err);
	if (r)
		return r;
	l->watch = NULL;
	fsck_supers(f);
	fsck_headers(f);
	for (unsigned i = 0; i < l->geo.shards && !f->status; i++)
		if (!f->bad_shard[i])
			check_shard(f, l->shard[i]);
	if (f->status)
		return err_set(err, f->status, "no memory to examine the store");
	return repair_end(f, err);
}

int local_fsck(struct loop *loop, struct bdev *const *devs, unsigned count,
               const struct local_fsck_opts *opts, struct local_fsck_report *ret_report,
               struct pst_err *err)
{
	/* Recovery must never write here, whatever it meets; repair does so deliberately. */
	struct local_opts lo = {.read_only = !opts->repair};
	struct local_fsck_report rep = {0};
	struct fsck f = {.o = opts, .rep = &rep};
	int r;

	f.l = local_new(loop, &lo);
	f.buf = mem_alloc_aligned(BLOCK_BYTES, (size_t)FSCK_BUF_BLOCKS * BLOCK_BYTES);
	r = f.l && f.buf ? devices_identify(f.l, devs, count, err)
	                 : err_set(err, -ENOMEM, "no memory to examine the store");
	if (!r) {
		f.l->opts.read_only = true;
		/* The repair's checkpoint comes after a frame that ends the log (recover.c). Nothing
		 * but the log's tail is written before the whole store was examined. */
		f.watch.mend = opts->repair;
		f.watch.page = fsck_watch_page;
		f.watch.frame = fsck_watch_frame;
		f.watch.lost = fsck_watch_lost;
		f.watch.loaded = fsck_watch_loaded;
		f.l->watch = &f.watch;
		r = examine(&f, err);
	}
	if (f.l)
		local_free(f.l);
	mem_free(f.buf);
	mem_free(f.ref);
	mem_free(f.page);
	mem_free(f.lost);
	if (!r)
		*ret_report = rep;
	return r;
}
