/* SPDX-License-Identifier: BSD-3-Clause */
/* The fault device's volatile write cache; its terms and invariants are in fault_cache.h. */
#include "bdev/fault_cache.h"

#define TABLE_BITS_MIN 5
#define TABLE_BITS_MAX 24

void cache_init(struct cache *c, uint32_t block_bytes, uint32_t mem_align)
{
	memset(c, 0, sizeof(*c));
	list_init(&c->writes);
	c->block_bytes = block_bytes;
	c->mem_align = mem_align;
}

static void write_free(struct cache_write *w)
{
	list_del(&w->link);
	mem_free(w->data);
	mem_free(w);
}

void cache_done(struct cache *c)
{
	while (!list_empty(&c->writes))
		write_free(list_first(&c->writes, struct cache_write, link));
	mem_free(c->table);
	c->table = NULL;
}

/* --- the table of chains --- */

static struct cache_version **bucket(const struct cache *c, uint64_t block)
{
	return &c->table[hash_u64(block) >> (64 - c->table_bits)];
}

/* Makes room for more chains. Only the first time can fail: later a full table is merely slower. */
static int table_grow(struct cache *c)
{
	struct cache old = *c;
	unsigned bits = c->table ? c->table_bits + 1 : TABLE_BITS_MIN;
	struct cache_version **table;

	if (c->table && (c->heads >> c->table_bits == 0 || bits > TABLE_BITS_MAX))
		return 0;
	table = mem_calloc((size_t)1 << bits, sizeof(*table));
	if (!table)
		return c->table ? 0 : -ENOMEM;
	c->table = table;
	c->table_bits = bits;
	for (size_t i = 0; old.table && i < (size_t)1 << old.table_bits; i++) {
		while (old.table[i]) {
			struct cache_version *v = old.table[i];
			struct cache_version **b = bucket(c, cache_block(v));

			old.table[i] = v->next;
			v->next = *b;
			*b = v;
		}
	}
	mem_free(old.table);
	return 0;
}

/* Where the pointer to @block's newest version is, or the end of its bucket. */
static struct cache_version **head_slot(const struct cache *c, uint64_t block)
{
	struct cache_version **p = bucket(c, block);

	while (*p && cache_block(*p) != block)
		p = &(*p)->next;
	return p;
}

struct cache_version *cache_find(const struct cache *c, uint64_t block)
{
	return c->heads ? *head_slot(c, block) : NULL;
}

static void chain_push(struct cache *c, struct cache_version *v)
{
	struct cache_version **p = head_slot(c, cache_block(v));

	v->older = *p;
	v->next = *p ? (*p)->next : NULL;
	*p = v;
	v->live = true;
	v->write->live++;
	c->heads += !v->older;
}

/* Takes @v and what is older out of its chain. May free their writes. */
static void chain_cut(struct cache *c, struct cache_version *v)
{
	struct cache_version **p = head_slot(c, cache_block(v));

	if (*p == v) {
		*p = v->next;
		c->heads--;
	} else {
		struct cache_version *newer = *p;

		while (newer && newer->older != v)
			newer = newer->older;
		pst_assert(newer); /* invariant 2 */
		newer->older = NULL;
	}
	while (v) {
		struct cache_version *older = v->older;
		struct cache_write *w = v->write;

		v->live = v->chosen = false;
		if (--w->live == 0 && !w->held)
			write_free(w);
		v = older;
	}
}

/* --- writes --- */

static int write_copy(struct cache *c, struct cache_write *w, const struct iovec *iov,
                      uint32_t iov_count)
{
	size_t len = (size_t)w->count * c->block_bytes;
	uint8_t *at;

	w->data = c->mem_align <= _Alignof(max_align_t) ? mem_alloc(len)
	                                                : mem_alloc_aligned(c->mem_align, len);
	if (!w->data)
		return -ENOMEM;
	at = w->data;
	for (uint32_t i = 0; i < iov_count; i++) {
		memcpy(at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	return 0;
}

int cache_write_new(struct cache *c, struct cache_write **ret_write, uint64_t block, uint32_t count,
                    const struct iovec *iov, uint32_t iov_count)
{
	struct cache_write *w;

	if (table_grow(c))
		return -ENOMEM;
	w = mem_calloc(1, sizeof(*w) + count * sizeof(w->versions[0]));
	if (!w)
		return -ENOMEM;
	w->block = block;
	w->count = count;
	w->held = true;
	if (iov && write_copy(c, w, iov, iov_count)) {
		mem_free(w);
		return -ENOMEM;
	}
	list_push(&c->writes, &w->link);
	*ret_write = w;
	return 0;
}

void cache_insert(struct cache *c, struct cache_write *w, const bool *holes)
{
	for (uint32_t i = 0; i < w->count; i++) {
		w->versions[i].write = w;
		if (!holes || !holes[i])
			chain_push(c, &w->versions[i]);
	}
}

void cache_release(struct cache *c, struct cache_write *w, uint64_t done_seq)
{
	w->held = false;
	w->done_seq = done_seq;
	if (!w->live)
		write_free(w);
}

const uint8_t *cache_data(const struct cache *c, const struct cache_version *v)
{
	const struct cache_write *w = v->write;

	return w->data ? w->data + (size_t)(v - w->versions) * c->block_bytes : NULL;
}

/* --- writing below --- */

void cache_settle(struct cache *c)
{
	struct cache_write *w;

	list_for_each (w, &c->writes, link) {
		for (uint32_t i = 0; i < w->count; i++) {
			struct cache_version *v = &w->versions[i];

			for (v = v->chosen ? v->older : NULL; v; v = v->older)
				v->chosen = false;
		}
	}
}

void cache_drop_job(struct cache *c)
{
	struct cache_write *w, *tmp;

	/* Cutting a chain frees this write or older ones, which are before it: tmp is safe. */
	list_for_each_safe (w, tmp, &c->writes, link) {
		bool held = w->held;

		if (!w->in_job)
			continue;
		w->in_job = false;
		w->held = true;
		for (uint32_t i = 0; i < w->count; i++) {
			if (w->versions[i].live)
				chain_cut(c, &w->versions[i]);
		}
		w->held = held;
		if (!held)
			write_free(w);
	}
}

void cache_cancel_job(struct cache *c)
{
	struct cache_write *w;

	list_for_each (w, &c->writes, link) {
		w->in_job = false;
		for (uint32_t i = 0; i < w->count; i++)
			w->versions[i].chosen = false;
	}
}
