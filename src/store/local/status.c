/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * status - what the store can say of itself, and the names of the bugs that tests plant.
 */
#include <stdio.h>

#include "store/local/engine.h"

static void status_shard(const struct shard *s, struct pst_store_status *st)
{
	const struct cont *c;

	st->index_bytes += s->env.bytes;
	st->index_pages += s->env.pages;
	st->index_items += s->sys.items;
	list_for_each (c, &s->conts, link) {
		st->index_items += c->tree.items;
		st->objects += c->objects;
		st->extents += c->extents;
	}
	st->used_bytes +=
	        (s->space.class[SPACE_DATA].used + s->space.class[SPACE_META].used) * BLOCK_BYTES;
	st->csum_cache_bytes += s->csum.pages * sizeof(struct csum_page);
	st->csum_cache_limit_bytes += s->csum.limit * sizeof(struct csum_page);
	st->csum_hits += s->csum.hits;
	st->csum_misses += s->csum.misses;
	st->journal_bytes += s->log.blocks * BLOCK_BYTES;
	st->journal_used_bytes += log_used(s) * BLOCK_BYTES;
	st->journal_cache_bytes += s->jrnl.allocated * BLOCK_BYTES;
	st->commits += s->log.commits;
	st->commit_records += s->log.records;
}

void status_fill(struct local *l, struct pst_store_status *st)
{
	const struct cont_name *n;

	memset(st, 0, sizeof(*st));
	st->reactors = 1;
	st->reactor[0] = (struct pst_reactor_status){.core = loop_core(l->store.loop),
	                                             .up_ns = loop_up_ns(l->store.loop),
	                                             .busy_ns = loop_busy_ns(l->store.loop),
	                                             .ops = l->stat.ops};
	memcpy(st->uuid, l->super.store_uuid, sizeof(st->uuid));
	memcpy(st->label, l->super.label, sizeof(st->label));
	st->label[sizeof(st->label) - 1] = 0;
	st->epoch = l->epoch;
	st->shards = l->geo.shards;
	st->devices = l->geo.devs;
	st->stopped = l->stopped;
	(void)snprintf(st->stopped_why, sizeof(st->stopped_why), "%s", l->stop_why);
	st->size_bytes = l->geo.regions * l->geo.region_span * BLOCK_BYTES;
	for (unsigned i = 0; i < l->owned; i++)
		status_shard(l->own[i], st);
	st->free_bytes = space_available(l) * BLOCK_BYTES;
	st->reserved_bytes = st->size_bytes - MIN(st->size_bytes, st->used_bytes + st->free_bytes);
	list_for_each (n, &l->names, link)
		st->containers +=
		        n->name[0] != ':'; /* those that lists have: not the server's own */
	st->index_limit_bytes = l->opts.index_limit_bytes;
	st->checkpoints = l->stat.checkpoints;
	st->dev_read_bytes = l->stat.dev_read_bytes;
	st->dev_write_bytes = l->stat.dev_write_bytes;
	st->dev_flushes = l->stat.dev_flushes;
	st->user_read_bytes = l->stat.user_read_bytes;
	st->user_write_bytes = l->stat.user_write_bytes;
	memcpy(st->refused, l->stat.refused, sizeof(st->refused));
	st->refused_last = l->stat.refused_last;
	st->mirror_repairs = l->stat.mirror_repairs;
	st->csum_errors = l->stat.csum_errors;
	st->recovery_ns = l->stat.recovery_ns;
	st->recovery_records = l->stat.recovery_records;
	st->recovery_index_bytes = l->stat.recovery_index_bytes;
	for (unsigned i = 0; i < l->geo.devs; i++) {
		(void)snprintf(st->device[i].name, sizeof(st->device[i].name), "%s",
		               l->dev[i]->info.name);
		st->device[i].size_bytes = l->dev[i]->info.size_bytes;
	}
}

static const char *const plant_names[PLANT_COUNT] = {
        [PLANT_NONE] = "none",
        [PLANT_ACK_BEFORE_FLUSH] = "ack-before-flush",
        [PLANT_REUSE_BEFORE_DURABLE] = "reuse-before-durable",
        [PLANT_DROP_REPLAY_RECORD] = "drop-replay-record",
        [PLANT_JOURNAL_OUT_OF_ORDER] = "journal-out-of-order",
        [PLANT_SKIP_CHECKSUM] = "skip-checksum",
        [PLANT_FORGET_SNAPSHOT_SPACE] = "forget-snapshot-space",
        [PLANT_ACCEPT_TORN_RECORD] = "accept-torn-record",
        [PLANT_FLUSH_ONE_DEVICE] = "flush-one-device",
        [PLANT_TRIM_EARLY] = "trim-early",
};

const char *local_plant_name(enum local_plant p)
{
	return p < PLANT_COUNT ? plant_names[p] : "?";
}

enum local_plant local_plant_by_name(const char *name)
{
#ifdef PST_TEST_FAULTS
	for (enum local_plant p = PLANT_NONE; p < PLANT_COUNT; p++)
		if (!strcmp(plant_names[p], name))
			return p;
#endif
	return PLANT_NONE;
}
