/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck_int - what the files of fsck share.
 *
 * fsck recovers the store in memory as an open for reading would, watching what recovery reads, and
 * then examines what came out against the devices and against itself. Repairs are of two kinds:
 * copies on media are rewritten from a good one at once; what is wrong in the trees or counters is
 * corrected in memory, and the checkpoint that ends every recovery writes it.
 */
#ifndef STORE_LOCAL_FSCK_INT_H
#define STORE_LOCAL_FSCK_INT_H

#include "store/local/engine.h"

#define FSCK_BUF_BLOCKS 256

/* One run of blocks that an item of some tree refers to. */
struct fsck_ref {
	uint64_t addr;
	uint64_t
	        lblk; /* place in the array; of a value: FSCK_VALUE, a hash of its key, its place */
	struct pst_oid oid;
	uint32_t blocks, birth;
	uint32_t cont;
	bool nocsum;
};
#define FSCK_VALUE (1ull << 63)

struct fsck_page {
	uint64_t addr;
	uint32_t shard;
};

struct fsck_lost { /* keys that an index page held which is lost */
	uint32_t shard, cont;
	struct bt_gap gap;
};

struct fsck {
	struct load_watch watch;
	struct local *l;
	const struct local_fsck_opts *o;
	struct local_fsck_report *rep;
	bool bad_shard[SHARDS_MAX]; /* it could not be loaded: nothing more is said about it */
	bool checkpoint;            /* a repair waits for the checkpoint */
	struct fsck_ref *ref;       /* of the shard at hand, sorted by address */
	size_t refs, refs_cap;
	struct fsck_page *page; /* index pages of the checkpoints */
	size_t pages, pages_cap;
	struct fsck_lost *lost;
	size_t losses, losses_cap;
	int status; /* it can't go on: no memory */
	uint64_t done_bytes, total_bytes;
	uint8_t *buf; /* FSCK_BUF_BLOCKS, aligned */
};

/*
 * Reports a finding. @remedy: what repair does about it (an imperative), NULL: nothing. @done: it
 * was done.
 */
void fsck_found(struct fsck *f, bool done, const char *remedy, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
static inline bool fsck_repair(const struct fsck *f)
{
	return f->o->repair;
}
void fsck_progress(struct fsck *f, uint64_t bytes);
/* "container NAME[@SNAP] object HI-LO", for messages. */
#define FSCK_WHERE_MAX (2 * PST_NAME_MAX + 96)
const char *fsck_where(const struct fsck *f, char buf[FSCK_WHERE_MAX], uint32_t cont,
                       const struct snap *snap, struct pst_oid oid);

/* --- phases; each reports what it finds --- */

void fsck_supers(struct fsck *f);
void fsck_headers(struct fsck *f);
void fsck_watch_page(struct load_watch *w, struct shard *s, uint64_t addr, const uint8_t *image);
void fsck_watch_frame(struct load_watch *w, struct shard *s, const struct media_frame *m,
                      struct jblock *const *data, bool durable);
void fsck_watch_lost(struct load_watch *w, struct shard *s, uint32_t cont, uint64_t addr,
                     const struct bt_gap *gap, const char *why);
void fsck_watch_loaded(struct load_watch *w, struct shard *s);
/* Was @key of container @cont (0: of the system tree) on a page that is lost? */
bool fsck_was_lost(const struct fsck *f, const struct shard *s, uint32_t cont, const void *key,
                   size_t key_len);
void fsck_sys_tree(struct fsck *f, struct shard *s);
void fsck_cont(struct fsck *f, struct shard *s, struct cont *c);
/* Collects the references of shard @s, sorts them, and compares them with each other, with the
 * index pages, and with the allocator. */
void fsck_refs(struct fsck *f, struct shard *s);
void fsck_space(struct fsck *f, struct shard *s);
void fsck_csums(struct fsck *f, struct shard *s); /* after fsck_refs() */
void fsck_data(struct fsck *f, struct shard *s);  /* after fsck_refs() */

bool fsck_enter_once(void *arg, struct bt_node *node);
bool fsck_leave_once(void *arg, struct bt_node *node);

/* Does data of region @r belong to shard @s? */
static inline bool fsck_owns(const struct shard *s, uint64_t r)
{
	return s->l->region[r].class == SPACE_DATA && s->l->region[r].owner == s->id;
}

#endif
