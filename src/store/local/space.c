/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * space - which blocks are in use. Nothing of this is written to media: recovery derives it from
 * the trees, so it can't disagree with them.
 *
 * The data area is cut into regions. A region belongs to nobody, or to one shard for one class
 * (data: striped; meta: mirrored), and goes back to nobody when its last block is free. Freed runs
 * wait in quarantine until rule R4 (data) or R5 (index pages) lets them go.
 */
#include "store/local/engine.h"

#define WORD_BITS 64u

static uint32_t class_blocks(const struct local *l, enum space_class class)
{
	return (uint32_t)(class == SPACE_META ? l->geo.region_blocks : l->geo.region_span);
}

static bool bit_get(const uint64_t *map, uint32_t i)
{
	return map[i / WORD_BITS] >> (i % WORD_BITS) & 1;
}

static void bits_flip(uint64_t *map, uint32_t from, uint32_t count)
{
	while (count) {
		uint32_t in = from % WORD_BITS, n = MIN(count, WORD_BITS - in);
		uint64_t mask = (n == WORD_BITS ? ~0ull : (1ull << n) - 1) << in;

		map[from / WORD_BITS] ^= mask;
		from += n;
		count -= n;
	}
}

/* The first bit of @value in [from, size), or size. */
static uint32_t next_bit(const uint64_t *map, uint32_t size, uint32_t from, bool value)
{
	while (from < size) {
		uint64_t word = (value ? map[from / WORD_BITS] : ~map[from / WORD_BITS]) >>
		                (from % WORD_BITS);

		if (word)
			return MIN(size, from + (uint32_t)__builtin_ctzll(word));
		from = (from / WORD_BITS + 1) * WORD_BITS;
	}
	return size;
}

/* The first run of @want zero bits in [from, size), or the longest one: its length. */
static uint32_t run_find(const uint64_t *map, uint32_t size, uint32_t from, uint32_t want,
                         uint32_t *ret_at)
{
	uint32_t best = 0, at = from;

	while (best < want && (at = next_bit(map, size, at, false)) < size) {
		uint32_t end = next_bit(map, (uint32_t)MIN(size, (uint64_t)at + want), at, true);

		if (end - at > best) {
			best = end - at;
			*ret_at = at;
		}
		at = end;
	}
	return best;
}

static int region_own(struct shard *s, uint64_t r, enum space_class class)
{
	struct local *l = s->l;
	struct region *reg = &l->region[r];
	uint32_t size = class_blocks(l, class);

	reg->used = mem_calloc(DIV_ROUND_UP(size, WORD_BITS), sizeof(uint64_t));
	if (!reg->used)
		return -ENOMEM;
	reg->class = (uint8_t) class;
	reg->owner = (uint16_t)s->id;
	reg->free = size;
	if (likely(!l->crew))
		l->regions_free--;
	s->space.class[class].free += size;
	if (r == 0) { /* address 0 means "none" everywhere: its block is never used */
		bits_flip(reg->used, 0, 1);
		reg->free--;
		s->space.class[class].free--;
	}
	return 0;
}

static void region_disown(struct shard *s, uint64_t r)
{
	struct region *reg = &s->l->region[r];

	if (reg->class == SPACE_DATA && !csum_drop_region(s, r)) {
		s->space.disown_later = true;
		return;
	}
	s->space.class[reg->class].free -= reg->free;
	mem_free(reg->used);
	*reg = (struct region){0};
	if (unlikely(s->l->crew))
		crew_region_give(s->l, r);
	else
		s->l->regions_free++;
}

uint64_t space_index_regions(const struct shard *s)
{
	uint64_t need = s->env.pages + 16, have = s->space.class[SPACE_META].free;

	return need > have ? DIV_ROUND_UP(need - have, s->l->geo.region_blocks) : 0;
}

/* Regions that the indexes may still need: everything that they hold might have to be written anew. A
 * region is of one shard, so what one has too much of is of no use to another. */
static uint64_t meta_reserve_regions(struct local *l)
{
	uint64_t need = 1;

	for (unsigned i = 0; i < l->owned; i++)
		need += space_index_regions(l->own[i]);
	return need;
}

bool space_index_fits(struct local *l, uint64_t more)
{
	if (unlikely(l->crew))
		return crew_index_fits(l, more);
	return l->regions_free >= meta_reserve_regions(l) + more;
}

uint64_t space_growth_regions(uint64_t regions)
{
	return MAX(regions / 64, 2);
}

static bool may_claim(struct local *l, enum space_class class)
{
	return class == SPACE_META ? l->regions_free > 0
	                           : space_index_fits(l, 1 + space_growth_regions(l->geo.regions));
}

/* A region of nobody's, from @first on round; UINT64_MAX: there is none that this class may have. */
static uint64_t region_find(struct local *l, enum space_class class, uint64_t first)
{
	if (unlikely(l->crew))
		return crew_region_take(l, class == SPACE_DATA, first);
	if (!may_claim(l, class))
		return UINT64_MAX;
	for (uint64_t k = 0; k < l->geo.regions; k++) {
		uint64_t r = (first + k) % l->geo.regions;

		if (l->region[r].class == SPACE_NONE)
			return r;
	}
	return UINT64_MAX;
}

/* The same, as @s's from now on; *@ret_region. -ENOSPC, -ENOMEM. */
static int region_claim(struct shard *s, enum space_class class, uint64_t first,
                        uint64_t *ret_region)
{
	uint64_t r = region_find(s->l, class, first);

	if (r == UINT64_MAX)
		return -ENOSPC;
	if (region_own(s, r, class)) {
		if (s->l->crew)
			crew_region_give(s->l, r);
		return -ENOMEM;
	}
	*ret_region = r;
	return 0;
}

int space_reserve(struct shard *s, uint32_t blocks)
{
	uint64_t r = 0;
	int err = 0;

	while (s->space.class[SPACE_DATA].free < blocks && !err)
		err = region_claim(s, SPACE_DATA, r, &r);
	return err;
}

uint64_t space_available(struct local *l)
{
	uint64_t n = 0, reserve = meta_reserve_regions(l) + space_growth_regions(l->geo.regions);

	for (unsigned i = 0; i < l->owned; i++)
		n += l->own[i]->space.class[SPACE_DATA].free;
	if (l->crew)
		return n + crew_space_available(l);
	if (l->regions_free > reserve)
		n += (l->regions_free - reserve) * l->geo.region_span;
	return n;
}

static uint32_t take(struct shard *s, uint64_t r, uint32_t at, uint32_t n, uint64_t *ret_addr)
{
	struct region *reg = &s->l->region[r];
	struct space *sp = &s->space;

	bits_flip(reg->used, at, n);
	reg->free -= n;
	sp->class[reg->class].free -= n;
	sp->class[reg->class].used += n;
	sp->class[reg->class].region = r;
	sp->class[reg->class].next = at + n;
	*ret_addr = r * s->l->geo.region_span + at;
	return n;
}

/* Looks through the regions that the shard owns, from the cursor round; the best run that it found.
 */
static uint32_t search_owned(struct shard *s, enum space_class class, uint32_t want, bool partial,
                             uint64_t *ret_addr)
{
	struct local *l = s->l;
	uint32_t size = class_blocks(l, class), best = 0, best_at = 0;
	uint64_t best_region = 0, first = s->space.class[class].region;

	for (uint64_t k = 0; k <= l->geo.regions; k++) {
		uint64_t r = (first + k) % l->geo.regions;
		struct region *reg = &l->region[r];
		uint32_t at = 0, n, from = k == 0 ? (uint32_t)s->space.class[class].next : 0;

		if (reg->class != class || reg->owner != s->id || reg->free <= best ||
		    (!partial && reg->free < want))
			continue;
		n = run_find(reg->used, size, from, want, &at);
		if (n > best) {
			best = n;
			best_at = at;
			best_region = r;
		}
		if (best == want)
			break;
	}
	if (!best || (best < want && !partial))
		return 0;
	return take(s, best_region, best_at, best, ret_addr);
}

static uint32_t claim_new(struct shard *s, enum space_class class, uint32_t want,
                          uint64_t *ret_addr)
{
	uint64_t r;
	uint32_t at;

	if (region_claim(s, class, s->space.class[class].region, &r))
		return 0;
	at = r == 0;
	return take(s, r, at, MIN(want, class_blocks(s->l, class) - at), ret_addr);
}

uint32_t space_alloc(struct shard *s, enum space_class class, uint32_t want, uint64_t *ret_addr)
{
	uint32_t n = 0;

	want = MIN(want, class_blocks(s->l, class) / 2);
	if (s->space.class[class].free >= want)
		n = search_owned(s, class, want, false, ret_addr);
	if (!n)
		n = claim_new(s, class, want, ret_addr);
	if (!n && s->space.class[class].free)
		n = search_owned(s, class, want, true, ret_addr);
	return n;
}

static bool region_empty(const struct local *l, uint64_t r)
{
	return l->region[r].free == class_blocks(l, l->region[r].class) - (r == 0);
}

static void disown_empty(struct shard *s)
{
	struct local *l = s->l;

	s->space.disown_later = false;
	for (uint64_t r = 0; r < l->geo.regions; r++)
		if (l->region[r].class == SPACE_DATA && l->region[r].owner == s->id &&
		    region_empty(l, r))
			region_disown(s, r);
}

void space_give_back(struct shard *s, enum space_class class, uint64_t addr, uint32_t blocks)
{
	uint64_t r = addr / s->l->geo.region_span;
	uint32_t at = (uint32_t)(addr % s->l->geo.region_span);
	struct region *reg = &s->l->region[r];

	pst_assert(reg->used && reg->class == class && reg->owner == s->id);
	for (uint32_t i = 0; i < blocks; i++)
		pst_assert_slow(bit_get(reg->used, at + i));
	bits_flip(reg->used, at, blocks);
	reg->free += blocks;
	s->space.class[class].free += blocks;
	s->space.class[class].used -= blocks;
	if (region_empty(s->l, r))
		region_disown(s, r);
}

/* --- quarantine --- */

static int queue_push(struct freed_queue *q, const struct freed *f)
{
	if (q->count == q->cap) {
		size_t cap = q->cap ? q->cap * 2 : 64;
		struct freed *ent = mem_alloc(cap * sizeof(*ent));

		if (!ent)
			return -ENOMEM;
		for (size_t i = 0; i < q->count; i++)
			ent[i] = q->ent[(q->head + i) & (q->cap - 1)];
		mem_free(q->ent);
		q->ent = ent;
		q->cap = cap;
		q->head = 0;
	}
	q->ent[(q->head + q->count++) & (q->cap - 1)] = *f;
	q->blocks += f->blocks;
	return 0;
}

static bool queue_extend(struct freed_queue *q, const struct freed *f)
{
	struct freed *last;

	if (!q->count)
		return false;
	last = &q->ent[(q->head + q->count - 1) & (q->cap - 1)];
	if (last->addr + last->blocks != f->addr || last->frame != f->frame ||
	    last->read_epoch != f->read_epoch || last->blocks > UINT32_MAX - f->blocks)
		return false;
	last->blocks += f->blocks;
	q->blocks += f->blocks;
	return true;
}

static void queue_drain(struct shard *s, struct freed_queue *q, enum space_class class)
{
	while (q->count) {
		struct freed *f = &q->ent[q->head];

		space_give_back(s, class, f->addr, f->blocks);
		q->blocks -= f->blocks;
		q->head = (q->head + 1) & (q->cap - 1);
		q->count--;
	}
}

void space_free_data(struct shard *s, uint64_t addr, uint32_t blocks)
{
	struct freed f = {addr, log_open_frame(s), blocks, s->read_epoch};

	jrnl_forget(s, addr, blocks);
	if (s->l->recovering)
		return; /* what is in use is found out from the trees afterwards */
	if (PLANTED(s->l, PLANT_REUSE_BEFORE_DURABLE)) {
		space_give_back(s, SPACE_DATA, addr, blocks);
		return;
	}
	if (queue_extend(&s->space.data, &f))
		return;
	if (queue_push(&s->space.data, &f)) {
		s->space.lost_blocks += blocks;
		log_warn("shard %u: no memory to remember %u freed blocks; free again after "
		         "reopening",
		         s->id, blocks);
	}
}

void space_reap(struct shard *s)
{
	struct freed_queue *q = &s->space.data;

	if (s->space.disown_later)
		disown_empty(s);
	while (q->count) {
		struct freed *f = &q->ent[q->head];
		uint32_t at;
		uint64_t r;

		if (f->frame > s->log.mark || !reader_drained(s, f->read_epoch))
			break;
		/* A run may cross regions when two neighbours were freed together. */
		r = f->addr / s->l->geo.region_span;
		at = (uint32_t)(f->addr % s->l->geo.region_span);
		if (at + f->blocks > s->l->geo.region_span) {
			uint32_t n = (uint32_t)(s->l->geo.region_span - at);

			space_give_back(s, SPACE_DATA, f->addr, n);
			f->addr = (r + 1) * s->l->geo.region_span;
			f->blocks -= n;
			q->blocks -= n;
			continue;
		}
		space_give_back(s, SPACE_DATA, f->addr, f->blocks);
		q->blocks -= f->blocks;
		q->head = (q->head + 1) & (q->cap - 1);
		q->count--;
	}
}

bool space_waits_for_mark(const struct shard *s)
{
	const struct freed_queue *q = &s->space.data;

	return q->count && q->ent[q->head].frame > s->log.mark;
}

void space_free_meta(struct shard *s, uint64_t addr)
{
	struct freed f = {addr, 0, 1, 0};

	if (queue_push(&s->space.meta_next, &f)) {
		s->space.lost_blocks++;
		log_warn("shard %u: no memory to remember a freed index page; free after reopening",
		         s->id);
	}
}

void space_meta_frozen(struct shard *s)
{
	struct freed_queue t = s->space.meta_now;

	pst_assert(t.count == 0);
	s->space.meta_now = s->space.meta_next;
	s->space.meta_next = t;
}

void space_meta_committed(struct shard *s)
{
	queue_drain(s, &s->space.meta_now, SPACE_META);
}

/* --- recovery --- */

int space_claim(struct shard *s, enum space_class class, uint64_t addr, uint32_t blocks)
{
	struct local *l = s->l;
	uint64_t r = addr / l->geo.region_span;
	uint32_t at = (uint32_t)(addr % l->geo.region_span);
	struct region *reg;

	if (!addr || !blocks || r >= l->geo.regions || blocks > class_blocks(l, class) ||
	    at > class_blocks(l, class) - blocks)
		return -EINVAL;
	reg = &l->region[r];
	if (reg->class == SPACE_NONE) {
		int err = region_own(s, r, class);

		if (err)
			return err;
	}
	if (reg->class != class || reg->owner != s->id)
		return -EINVAL;
	for (uint32_t i = 0; i < blocks; i++)
		if (bit_get(reg->used, at + i))
			return -EEXIST;
	bits_flip(reg->used, at, blocks);
	reg->free -= blocks;
	s->space.class[class].free -= blocks;
	s->space.class[class].used += blocks;
	return 0;
}

void space_init(struct shard *s)
{
	memset(&s->space, 0, sizeof(s->space));
}

void space_done(struct shard *s)
{
	struct local *l = s->l;

	for (uint64_t r = 0; l->region && r < l->geo.regions; r++)
		if (l->region[r].class != SPACE_NONE && l->region[r].owner == s->id) {
			mem_free(l->region[r].used);
			l->region[r] = (struct region){0};
		}
	mem_free(s->space.data.ent);
	mem_free(s->space.meta_next.ent);
	mem_free(s->space.meta_now.ent);
}
