/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck when index pages are lost: a leaf, an inner page, a root, of the live tree or of snapshots, on
 * one mirror or on all. It tells what is lost and goes on; repair drops what hung below and nothing
 * else; then the store opens, everything else is there, and fsck finds nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "fsck_util.h"

#define OBJECTS 400u
#define KEYS    9000u
#define KV_OID  (OBJECTS + 50)

static const uint8_t some[200] = {1, 2, 3};

/* --- pages, from the trees of a store that is open --- */

struct page {
	uint64_t addr;
	unsigned level;
	bool root, sys, lossless; /* lossless: the root of shard 0's system tree can't be mended */
};

struct pages {
	struct page *page;
	size_t count, cap;
	const struct btree *tree;
	bool sys, first_shard;
};

static bool page_add(void *arg, struct bt_node *node)
{
	struct pages *p = arg;

	for (size_t i = 0; i < p->count; i++)
		if (p->page[i].addr == node->addr)
			return true;
	if (p->count == p->cap) {
		p->cap = p->cap ? 2 * p->cap : 256;
		p->page = realloc(p->page, p->cap * sizeof(*p->page));
		pst_assert(p->page);
	}
	p->page[p->count++] =
	        (struct page){.addr = node->addr,
	                      .level = node->level,
	                      .root = node == p->tree->root,
	                      .sys = p->sys,
	                      .lossless = p->sys && p->first_shard && node == p->tree->root};
	return true;
}

static void tree_collect(struct pages *p, const struct btree *t)
{
	p->tree = t;
	bt_walk(t, page_add, NULL, p);
}

/* The index pages of the last checkpoint, which the opening has just made. */
static void pages_collect(struct fx *x, struct pages *p)
{
	struct local *l = local_of(x->store);
	struct cont *c;
	struct snap *n;

	*p = (struct pages){0};
	for (unsigned i = 0; i < l->geo.shards; i++) {
		p->first_shard = i == 0;
		p->sys = true;
		tree_collect(p, &l->shard[i]->sys);
		p->sys = false;
		list_for_each (c, &l->shard[i]->conts, link) {
			tree_collect(p, &c->tree);
			list_for_each (n, &c->snaps, link)
				tree_collect(p, &n->tree);
		}
	}
}

static void page_ruin(struct fx *x, uint64_t addr, unsigned devs)
{
	struct media_super super;
	struct geometry g;

	fx_geometry(x, &g, &super);
	for (unsigned d = 0; d < devs; d++)
		fx_flip(x, d, geo_meta_block(&g, addr), 300 + 64 * d);
}

/* --- one store whose content is known --- */

static uint64_t hash(uint64_t i)
{
	return i * 0x9e3779b97f4a7c15ull >> 20;
}

static void content(uint64_t i, uint8_t buf[2 * BLOCK_BYTES])
{
	for (unsigned k = 0; k < 2 * BLOCK_BYTES; k++)
		buf[k] = (uint8_t)(hash(i) >> (k % 5) ^ k);
}

static void key_of(unsigned i, char key[40])
{
	(void)snprintf(key, 40, "key-%05u-of-the-object", i);
}

static void known_make(struct fx *x, unsigned devs)
{
	static uint8_t buf[2 * BLOCK_BYTES];

	fx_format(x, devs, 64 / devs, NULL);
	fx_open(x);
	assert_int_equal(ops_cont_create(x->store, "box", &x->cont), 0);
	for (unsigned i = 0; i < OBJECTS; i++) {
		content(i, buf);
		assert_int_equal(ops_write(x->store, x->cont, oid_of(i + 1), 0, buf, sizeof(buf)),
		                 0);
	}
	for (unsigned i = 0; i < KEYS; i++) {
		struct pst_mut m[30] = {0};
		char key[30][40];
		unsigned n = 0;

		for (; n < 30 && i < KEYS; n++, i++) {
			key_of(i, key[n]);
			m[n] = (struct pst_mut){.kind = PST_KV_PUT,
			                        .oid = oid_of(KV_OID),
			                        .key = key[n],
			                        .key_len = (uint32_t)strlen(key[n]),
			                        .val = some,
			                        .val_len = 200};
		}
		i--;
		assert_int_equal(ops_batch(x->store, x->cont, m, n), 0);
	}
	fx_close(x);
}

/* How many objects and keys are whole; none may have anything but what was written. */
static void known_count(struct fx *x, uint64_t view, unsigned *ret_objects, unsigned *ret_keys)
{
	static uint8_t buf[2 * BLOCK_BYTES], want[2 * BLOCK_BYTES];
	char key[40];

	*ret_objects = *ret_keys = 0;
	for (unsigned i = 0; i < OBJECTS; i++) {
		struct pst_obj_stat st;

		assert_int_equal(ops_stat(x->store, x->cont, view, oid_of(i + 1), &st), 0);
		if (!st.exists)
			continue;
		assert_true(st.size_bytes == sizeof(buf));
		assert_int_equal(
		        ops_read(x->store, x->cont, view, oid_of(i + 1), 0, buf, sizeof(buf), NULL),
		        0);
		content(i, want);
		assert_memory_equal(buf, want, sizeof(buf));
		++*ret_objects;
	}
	for (unsigned i = 0; i < KEYS; i++) {
		key_of(i, key);
		*ret_keys += ops_kv_get(x->store, x->cont, view, oid_of(KV_OID), key, buf, 512,
		                        NULL) == 0;
	}
}

static unsigned told(const struct fx *x, const char *part)
{
	unsigned n = 0;

	for (unsigned i = 0; i < x->texts; i++)
		n += strstr(x->text[i], part) != NULL;
	return n;
}

/* fsck tells @pages lost ones, twice alike; repair mends all that it tells; then nothing is left. */
static void lost_and_repaired(struct fx *x, unsigned pages)
{
	uint64_t n;

	assert_int_equal(fx_fsck(x, false), 0);
	assert_int_equal(told(x, "an index page"), pages);
	assert_int_equal(x->rep.repaired, 0);
	n = x->rep.findings;
	assert_int_equal(fx_fsck(x, false), 0); /* nothing was changed */
	assert_int_equal(x->rep.findings, n);
	assert_int_equal(fx_fsck(x, true), 0);
	assert_int_equal(x->rep.findings, n);
	if (x->rep.repaired != n)
		for (unsigned i = 0; i < x->texts; i++)
			print_message("# %d %s\n", x->repaired[i], x->text[i]);
	assert_int_equal(x->rep.repaired, n);
	fx_expect_clean(x);
}

static void known_page(unsigned devs, unsigned level, bool root, unsigned ruined)
{
	unsigned objects, keys, objects_now, keys_now;
	struct pages p;
	struct fx x;
	size_t i;

	known_make(&x, devs);
	fx_open(&x);
	known_count(&x, 0, &objects, &keys);
	assert_true(objects == OBJECTS && keys == KEYS);
	pages_collect(&x, &p);
	fx_crash(&x);
	/* One in the middle: of its level some come before it and some after. */
	for (i = p.count / 2; i < p.count; i++)
		if (!p.page[i].sys && p.page[i].level == level && p.page[i].root == root)
			break;
	for (; i == p.count || p.page[i].level != level || p.page[i].root != root || p.page[i].sys;)
		i = i == p.count ? 0 : i + 1;
	page_ruin(&x, p.page[i].addr, ruined);
	if (ruined < devs) { /* nothing is lost, with or without repair */
		assert_int_equal(fx_fsck(&x, false), 0);
		assert_int_equal(x.rep.findings, 1);
		fx_expect(&x, "differs from its mirror");
		assert_int_equal(fx_fsck(&x, true), 0);
		assert_int_equal(x.rep.repaired, 1);
		fx_expect_clean(&x);
	} else {
		struct store *store;

		assert_int_equal(local_open(&store, x.loop, x.dev, devs, NULL, &x.err), -EBADMSG);
		lost_and_repaired(&x, 1);
	}
	fx_open(&x);
	known_count(&x, 0, &objects_now, &keys_now);
	if (ruined < devs)
		assert_true(objects_now == objects && keys_now == keys);
	else if (root)
		assert_true(objects_now == 0 && keys_now == 0);
	else /* all but what one page of that level holds */
		assert_true(objects_now + keys_now < objects + keys &&
		            objects_now + keys_now + (level ? 6000u : 80u) > objects + keys);
	/* And it goes on. */
	for (unsigned k = 0; k < OBJECTS; k++)
		assert_int_equal(ops_write(x.store, x.cont, oid_of(k + 1), 0, "new", 3), 0);
	for (unsigned k = 0; k < 500; k++) {
		char key[40];

		key_of(17 * k, key);
		assert_int_equal(ops_kv_put(x.store, x.cont, oid_of(KV_OID), key, "new", 3), 0);
	}
	fx_close(&x);
	fx_expect_clean(&x);
	fx_done(&x);
	free(p.page);
}

static void leaf(void **state)
{
	known_page(1, 0, false, 1);
	known_page(2, 0, false, 2);
	known_page(2, 0, false, 1);
}

static void inner(void **state)
{
	known_page(1, 1, false, 1);
	known_page(2, 1, false, 2);
	known_page(2, 1, false, 1);
}

static void root(void **state)
{
	known_page(1, 2, true, 1);
	known_page(2, 2, true, 2);
	known_page(2, 2, true, 1);
}

/* Every page of the system tree that has several, in turn: containers' states and names. */
static void system_tree(void **state)
{
	struct pages p;
	struct fx x;

	for (unsigned round = 0, mended = 0; round == 0 || mended < round; round++) {
		struct store *store;
		unsigned at = 0;
		uint32_t id;

		fx_format(&x, 1, 48, NULL);
		fx_open(&x);
		for (unsigned i = 0; i < 150; i++) {
			char name[64];

			(void)snprintf(name, sizeof(name), "container-with-a-longer-name-%03u", i);
			assert_int_equal(ops_cont_create(x.store, name, &id), 0);
			assert_int_equal(ops_write(x.store, id, oid_of(1), 0, "data", 4), 0);
			if (i % 3 == 0)
				assert_int_equal(ops_snap_create(x.store, name, "s", NULL), 0);
		}
		fx_close(&x);
		fx_open(&x);
		pages_collect(&x, &p);
		fx_crash(&x);
		for (size_t i = 0; i < p.count; i++) {
			if (!p.page[i].sys || p.page[i].lossless || at++ != round)
				continue;
			page_ruin(&x, p.page[i].addr, 1);
			assert_int_equal(local_open(&store, x.loop, x.dev, 1, NULL, &x.err),
			                 -EBADMSG);
			assert_int_equal(fx_fsck(&x, true), 0);
			fx_expect(&x, "the system tree: an index page");
			assert_true(x.rep.findings > 10);
			assert_int_equal(x.rep.findings, x.rep.repaired);
			fx_expect_clean(&x);
			assert_true(x.rep.containers > 20);
			fx_open(&x);
			assert_int_equal(ops_cont_create(x.store, "another", &id), 0);
			fx_close(&x);
			fx_expect_clean(&x);
			mended++;
		}
		if (round == 0)
			assert_true(at > 3);
		fx_done(&x);
		free(p.page);
	}
}

/*
 * Three snapshots and the live tree share most pages. Any of those that only some of them have is
 * lost: what another view needs of it to be safe comes back.
 */
static void snapshots_keep_their_blocks(void **state)
{
	static uint8_t buf[2 * BLOCK_BYTES];
	uint64_t view[3];

	for (unsigned pick = 0; pick < 12; pick++) {
		unsigned objects, keys;
		struct pages p;
		struct fx x;
		size_t left = 0;

		known_make(&x, 1);
		fx_open(&x);
		for (unsigned i = 0; i < 3; i++) {
			char name[8];

			(void)snprintf(name, sizeof(name), "s%u", i);
			assert_int_equal(ops_snap_create(x.store, "box", name, &view[i]), 0);
			/* Dirties leaves without changing what the heads map. */
			for (unsigned k = i * 100; k < i * 100 + 200; k += 5) {
				struct pst_mut m = {.kind = PST_SET_LABEL,
				                    .oid = oid_of(k + 1),
				                    .val = name,
				                    .val_len = 2};

				assert_int_equal(ops_batch(x.store, x.cont, &m, 1), 0);
			}
		}
		fx_close(&x);
		fx_open(&x);
		pages_collect(&x, &p);
		fx_crash(&x);
		for (size_t i = 0; i < p.count; i++)
			if (!p.page[i].sys && !p.page[i].root && !p.page[i].level)
				p.page[left++] = p.page[i];
		rng_seed(&x.rng, pick);
		page_ruin(&x, p.page[rng_below(&x.rng, left / 16)].addr, 1);
		page_ruin(&x, p.page[left - 1 - rng_below(&x.rng, 20)].addr, 1);
		lost_and_repaired(&x, 2);
		/* Whatever goes first, nothing that another view has goes with it. */
		for (unsigned i = 0; i < 3; i++) {
			char name[8];

			fx_open(&x);
			for (unsigned v = i; v <= 3; v++)
				known_count(&x, v < 3 ? view[v] : 0, &objects, &keys);
			(void)snprintf(name, sizeof(name), "s%u", i);
			assert_int_equal(ops_snap_destroy(x.store, "box", name), 0);
			for (unsigned k = 0; k < 50; k++)
				assert_int_equal(ops_write(x.store, x.cont, oid_of(5000 + k), 0,
				                           buf, sizeof(buf)),
				                 0);
			fx_close(&x);
			fx_expect_clean(&x);
		}
		fx_done(&x);
		free(p.page);
	}
}

/* Of all headers: they grow with each checkpoint. */
static uint64_t generations(struct fx *x, unsigned shards)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < shards; i++) {
		struct media_header h;

		fx_header(x, i, &h);
		sum += le64_get(h.gen);
	}
	return sum;
}

static void random_rounds(void **state)
{
	static const struct local_format_opts many = {
	        .shards = 3, .journal_bytes = 4 * MIB, .region_bytes = 256 * KIB};

	for (unsigned round = 0; round < 60; round++) {
		unsigned devs = 1 + round % 2, ruin;
		uint64_t before;
		struct pages p;
		struct fx x;

		fx_format(&x, devs, 48, round % 3 ? &many : NULL);
		rng_seed(&x.rng, round);
		for (unsigned i = 0; i < 3; i++) {
			char snap[8];

			fx_open(&x);
			fx_fill(&x, 80, 40);
			(void)snprintf(snap, sizeof(snap), "s%u", i);
			assert_int_equal(ops_snap_create(x.store, "box", snap, NULL), 0);
			fx_fill(&x, 40, 40);
			fx_close(&x);
		}
		fx_open(&x);
		pages_collect(&x, &p);
		/* Changes that only the log has: they meet trees that lost what they change. */
		before = generations(&x, round % 3 ? 3 : 1);
		if (round & 1)
			fx_fill(&x, 60, 40);
		fx_crash(&x);
		before -= generations(&x, round % 3 ? 3 : 1);
		ruin = 1 + (unsigned)rng_below(&x.rng, 3);
		for (unsigned n = 0; n < ruin;) {
			size_t i = rng_below(&x.rng, p.count);

			if (p.page[i].lossless)
				continue;
			p.page[i].lossless = true;
			page_ruin(&x, p.page[i].addr, devs);
			n++;
		}
		assert_int_equal(fx_fsck(&x, true), 0);
		if (x.rep.findings != x.rep.repaired || !x.rep.findings)
			for (unsigned i = 0; i < x.texts; i++)
				print_message("# round %u: %d %s\n", round, x.repaired[i],
				              x.text[i]);
		if (!before) /* else the page may be an old one */
			assert_true(x.rep.findings > 0);
		assert_int_equal(x.rep.findings, x.rep.repaired);
		fx_expect_clean(&x);
		fx_open(&x);
		fx_fill(&x, 60, 40);
		for (unsigned i = 0; i < 3; i++) {
			char snap[8];

			(void)snprintf(snap, sizeof(snap), "s%u", (i + round) % 3);
			(void)ops_snap_destroy(x.store, "box", snap);
			fx_fill(&x, 20, 40);
		}
		fx_close(&x);
		fx_expect_clean(&x);
		fx_done(&x);
		free(p.page);
	}
}

/* Without the names there is nothing left to go by. */
static void all_names(void **state)
{
	struct media_header head;
	struct fx x;

	known_make(&x, 1);
	fx_header(&x, 0, &head);
	page_ruin(&x, le64_get(head.sys_root), 1);
	assert_int_equal(fx_fsck(&x, true), 0);
	assert_int_equal(x.rep.repaired, 0);
	fx_expect(&x, "wrong checksum");
	fx_done(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(leaf),
	        cmocka_unit_test(inner),
	        cmocka_unit_test(root),
	        cmocka_unit_test(system_tree),
	        cmocka_unit_test(snapshots_keep_their_blocks),
	        cmocka_unit_test(random_rounds),
	        cmocka_unit_test(all_names),
	};

	return cmocka_run_group_tests_name("fsck_lost", tests, NULL, NULL);
}
