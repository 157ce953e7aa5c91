/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * part - one reactor's part of a store and its crew: what each needs of the other; private to
 * store/local. engine.h includes it; crew.h says what a crew is.
 */
#ifndef STORE_LOCAL_PART_H
#define STORE_LOCAL_PART_H

#include "store/local/devs.h"
#include "store/store.h"

struct cont_name;

struct shard;

/* space.c: regions that its index might need if all of it had to be written anew. */
uint64_t space_index_regions(const struct shard *s);
/* Regions that data leaves to indexes, of @regions in all, so that they can grow on a full store. */
uint64_t space_growth_regions(uint64_t regions);
/* Are there as many left as all indexes might need, and @more? */
bool space_index_fits(struct local *l, uint64_t more);

/* --- local.c: what a crew runs on each of its reactors --- */

int local_poll(struct loop_poller *p); /* of l->poller */
bool local_may_sleep(struct loop_poller *p);
void local_shards_note(struct local *l); /* after l->shard[] changed */
void local_detach(struct local *l);      /* from its loop */
void local_abandon(struct local *l);     /* detaches and frees it; devices stay open */
void local_take_stat(struct local *l, const struct local *from);
/* Tells all who wait that what they wait for will not happen. */
void local_stop_tell(struct local *l, int status);
bool local_is_crew(const struct store *store);
void crew_crash(struct store *store);
/* Told by another part that the store has stopped. */
void local_stop_too(struct local *l, int status, const char *why);
struct cont_name *cont_name_find(struct local *l, const char *name, uint32_t len);
struct cont_name *cont_name_add(struct local *l,
                                struct cont_name *n); /* takes it; the one of that name, if any */
void cont_name_free(struct local *l, struct cont_name *n);
void cont_info_fill(struct local *l, const struct cont_name *n, struct pst_cont_info *info);
/* Up to @max containers whose names come after @start (NULL: from the beginning); how many. */
unsigned cont_names_after(struct local *l, const void *start, uint32_t start_len,
                          struct pst_cont_info *info, unsigned max);

/* --- crew.c, crew_settle.c: where the parts of a store meet; all are of struct locals in a crew --- */

/* For data, or else for index pages. UINT64_MAX: none. */
uint64_t crew_region_take(struct local *l, bool data, uint64_t first);
void crew_region_give(struct local *l, uint64_t region);
bool crew_index_fits(struct local *l, uint64_t more);
uint64_t crew_space_available(struct local *l); /* blocks of data that this part could get */
/* The root shard's record has made or ended the container @n, whose home is on another reactor. @mem:
 * CREW_NOTE_BYTES that are the note's from now on. */
#define CREW_NOTE_BYTES (sizeof(struct cont_name) + 96)
void crew_cont_made(struct local *l, const struct cont_name *n, void *mem);
void crew_cont_gone(struct local *l, const struct cont_name *n, uint64_t frame, void *mem);
void crew_stop(struct local *l); /* this part has stopped */
/* Requests whose end says that something is durable: see crew_settle.c. */
void crew_force_begin(struct local *l, struct sub_io *s);
void crew_force_end(struct local *l, struct sub_io *s, int status);
void crew_settle_after(struct dio *d);

#endif
