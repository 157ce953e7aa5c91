/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * csum - checksum pages: what each block of data should be, in a bounded cache (csum.c).
 */
#ifndef STORE_LOCAL_CSUM_H
#define STORE_LOCAL_CSUM_H

#include "store/local/media.h"

struct local;
struct shard;

struct csum_page {
	_Alignas(64) struct csum_page *hash_next;
	uint64_t index;
	uint64_t version;
	uint64_t frame; /* newest frame that changed it (R3) */
	uint8_t slot;   /* slot that holds `version` */
	bool loaded;    /* base is here; else only `valid` ones are known */
	bool loading, dirty;
	bool used; /* since the eviction looked at it last */
	uint16_t pins;
	struct list clock;    /* all pages, in the order in which the eviction looks at them */
	struct list to_write; /* the running checkpoint's list */
	struct list waiters;  /* struct csum_wait */
	uint64_t valid[DIV_ROUND_UP(CSUMS_PER_PAGE, 64)];
	uint32_t csum[CSUMS_PER_PAGE];
};

struct csum_wait {
	struct list link;
	/* @base: what is on the device; the waiter takes what it still misses from it. */
	void (*ready)(struct csum_wait *w, int status, const struct csum_page *page,
	              const struct media_csums *base);
};

struct csum_cache {
	struct csum_page **hash;
	unsigned hash_mask;
	struct list clock;
	struct list to_write;
	uint64_t pages, dirty, limit; /* in pages */
	struct csum_page *spare;      /* free ones, also for csum_set(), which can't fail */
	uint64_t spares;
	struct csum_slab *slab;
	uint64_t slab_pages;  /* in slabs, free or not */
	struct csum_io *idle; /* for the next load */
	unsigned idles;
	uint64_t hits, misses;
};

int csum_init(struct shard *s, uint64_t limit_pages);
void csum_done(struct shard *s);
/* Makes sure that the next csum_set()s on @pages different pages find memory. -EAGAIN: too many are
 * dirty, checkpoint first; -ENOMEM. */
int csum_reserve(struct shard *s, unsigned pages);
void csum_set(struct shard *s, uint64_t addr, uint32_t csum, uint64_t frame);
/* Known now? Then *ret_csum. */
bool csum_get(struct shard *s, uint64_t addr, uint32_t *ret_csum);
/* Loads the page of @addr; w->ready runs once, later. -ENOMEM. */
int csum_load(struct shard *s, uint64_t addr, struct csum_wait *w);
bool csum_dirty_many(const struct shard *s);
bool csum_is_dirty(struct shard *s, uint64_t index); /* a page that a checkpoint would write */
/* Is @m a whole slot of page @index? */
bool csum_slot_ok(const struct local *l, const struct media_csums *m, uint64_t index);
/* Checkpoint: writes dirty pages; true when none is left that was dirty at begin. */
void csum_write_begin(struct shard *s);
bool csum_write_step(struct shard *s);
/* A region that the shard gives up: the next owner's checksums must not meet ours. False: a page of
 * it is on its way to or from the device. */
bool csum_drop_region(struct shard *s, uint64_t region);
/* After recovery: the same for all regions that turned out to be somebody else's, or nobody's. */
void csum_drop_foreign(struct shard *s);
int csum_load_sync(struct shard *s, uint64_t index, struct csum_page **ret_page);

#endif
