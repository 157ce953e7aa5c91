/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck_super - superblock copies and shard headers, each copy of each on its own.
 *
 * Only format writes superblocks, all copies alike, so a copy that differs is damaged.
 *
 * A header's bytes that are not zero all lie in one 512-byte unit, so that a power cut never leaves
 * a torn one: a slot that is neither whole nor still empty is damaged. Mirrors may be one
 * checkpoint apart when the power was cut between them.
 */
#include <stdio.h>

#include "store/local/fsck_int.h"

/* --- superblocks --- */

static bool super_whole(struct fsck *f, unsigned dev, unsigned copy, uint8_t *block, char *why,
                        size_t why_len)
{
	struct local *l = f->l;
	struct media_super *s = (void *)block;
	struct pst_err err = {0};
	int r = meta_read_sync(l, dev, super_place(copy, l->geo.dev_blocks), block, 1);

	if (r)
		(void)err_set(&err, r, "it can't be read: %s", strerror(-r));
	else
		r = super_check(block, &err, "this place");
	if (!r && (memcmp(s->store_uuid, l->super.store_uuid, sizeof(s->store_uuid)) ||
	           le32_get(s->dev_index) != dev))
		r = err_set(&err, -EBADMSG, "it is of another store or device");
	if (r)
		(void)snprintf(why, why_len, "%s", err.text);
	return r == 0;
}

static void super_device(struct fsck *f, unsigned dev)
{
	struct local *l = f->l;
	uint8_t *good = f->buf, *block = f->buf + BLOCK_BYTES;
	char why[PST_ERR_TEXT_BYTES];
	unsigned ref = 0;

	while (ref < SUPER_COPIES && !super_whole(f, dev, ref, good, why, sizeof(why)))
		ref++;
	pst_assert(ref < SUPER_COPIES || l->geo.devs > 0);
	if (ref == SUPER_COPIES)
		return; /* devices_identify() found one: it went bad since, and the rest will tell
		         */
	for (unsigned i = 0; i < SUPER_COPIES; i++) {
		uint64_t at = super_place(i, l->geo.dev_blocks);
		bool whole = super_whole(f, dev, i, block, why, sizeof(why)), done = false;

		if (whole && !memcmp(block, good, BLOCK_BYTES))
			continue;
		if (fsck_repair(f))
			done = !bdev_write_sync(l->dev[dev], at << BLOCK_SHIFT, good, BLOCK_BYTES,
			                        0);
		fsck_found(f, done, "rewrite it from another copy",
		           "%s: superblock copy %u (block %llu) is damaged: %s",
		           l->dev[dev]->info.name, i, (unsigned long long)at,
		           whole ? "it differs from the first" : why);
	}
}

void fsck_supers(struct fsck *f)
{
	for (unsigned d = 0; d < f->l->geo.devs; d++)
		super_device(f, d);
}

/* --- headers --- */

enum slot_state {
	SLOT_WHOLE,
	SLOT_EMPTY,
	SLOT_DAMAGED,
};

struct slots { /* of one shard */
	struct media_header h[PST_DEVICES_MAX][2];
	enum slot_state state[PST_DEVICES_MAX][2];
	uint64_t newest;
};

static bool is_zero(const void *p, size_t n)
{
	const uint8_t *b = p;

	return !b[0] && !memcmp(b, b + 1, n - 1);
}

static void slots_read(struct fsck *f, unsigned shard, struct slots *t)
{
	struct local *l = f->l;

	t->newest = 0;
	for (unsigned d = 0; d < l->geo.devs; d++) {
		int err = meta_read_sync(l, d, l->geo.header_start + 2ull * shard, f->buf, 2);

		if (!err)
			memcpy(t->h[d], f->buf, sizeof(t->h[d]));
		for (unsigned k = 0; k < 2; k++) {
			const struct media_header *h = &t->h[d][k];

			t->state[d][k] = SLOT_DAMAGED;
			if (!err && header_ok(h, &l->super, shard) && le64_get(h->gen) % 2 == k)
				t->state[d][k] = SLOT_WHOLE;
			else if (!err && is_zero(h, sizeof(*h)))
				t->state[d][k] = SLOT_EMPTY;
			if (t->state[d][k] == SLOT_WHOLE)
				t->newest = MAX(t->newest, le64_get(h->gen));
		}
	}
}

/* Format leaves slot 0 empty; a power cut may keep the first write to it from one mirror. */
static bool slot_good(const struct fsck *f, const struct slots *t, unsigned d, unsigned k)
{
	return t->state[d][k] == SLOT_WHOLE ||
	       (t->state[d][k] == SLOT_EMPTY && k == 0 && t->state[d][1] == SLOT_WHOLE &&
	        (t->newest == 1 || f->l->geo.devs > 1));
}

static const struct media_header *best_copy(const struct fsck *f, const struct slots *t, unsigned k)
{
	const struct media_header *best = NULL;

	for (unsigned d = 0; d < f->l->geo.devs; d++)
		if (t->state[d][k] == SLOT_WHOLE &&
		    (!best || le64_get(t->h[d][k].gen) > le64_get(best->gen)))
			best = &t->h[d][k];
	return best;
}

static void slot_bad(struct fsck *f, unsigned shard, struct slots *t, unsigned d, unsigned k)
{
	struct local *l = f->l;
	const struct media_header *from = best_copy(f, t, k);
	uint64_t at = l->geo.header_start + 2ull * shard + k;
	const char *remedy = NULL;
	bool done = false;

	if (from) {
		remedy = "rewrite it from its mirror";
		memcpy(f->buf, from, sizeof(*from));
		if (fsck_repair(f))
			done = !bdev_write_sync(l->dev[d], at << BLOCK_SHIFT, f->buf, BLOCK_BYTES,
			                        0);
	} else if (!f->bad_shard[shard]) {
		/* The store was recovered from the other slot: the next checkpoint writes this one.
		 */
		remedy = "write it anew with a checkpoint";
		f->checkpoint = true;
		done = fsck_repair(f);
	}
	fsck_found(f, done, remedy, "%s: slot %u of the header of shard %u (block %llu) is damaged",
	           l->dev[d]->info.name, k, shard, (unsigned long long)at);
}

static void mirrors_compare(struct fsck *f, unsigned shard, const struct slots *t)
{
	const struct media_header *newest = best_copy(f, t, (unsigned)(t->newest % 2));

	for (unsigned d = 0; d < f->l->geo.devs; d++) {
		uint64_t gen = 0;

		for (unsigned k = 0; k < 2; k++) {
			const struct media_header *h = &t->h[d][k];

			if (t->state[d][k] != SLOT_WHOLE)
				continue;
			gen = MAX(gen, le64_get(h->gen));
			if (newest && h->gen == newest->gen && memcmp(h, newest, sizeof(*h)))
				fsck_found(f, false, NULL,
				           "%s: the header of shard %u differs from its mirror of "
				           "the same generation",
				           f->l->dev[d]->info.name, shard);
		}
		if (gen && gen + 1 < t->newest) {
			if (!f->bad_shard[shard])
				f->checkpoint = true;
			fsck_found(f, fsck_repair(f) && !f->bad_shard[shard],
			           "write it anew with a checkpoint",
			           "%s: the header of shard %u is %llu checkpoints behind its "
			           "mirror",
			           f->l->dev[d]->info.name, shard,
			           (unsigned long long)(t->newest - gen));
		}
	}
}

void fsck_headers(struct fsck *f)
{
	struct slots *t = mem_alloc(sizeof(*t));

	if (!t) {
		f->status = -ENOMEM;
		return;
	}
	for (unsigned i = 0; i < f->l->geo.shards; i++) {
		slots_read(f, i, t);
		for (unsigned d = 0; d < f->l->geo.devs; d++)
			for (unsigned k = 0; k < 2; k++)
				if (!slot_good(f, t, d, k))
					slot_bad(f, i, t, d, k);
		mirrors_compare(f, i, t);
	}
	mem_free(t);
}
