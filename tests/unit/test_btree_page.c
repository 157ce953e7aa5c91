/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The index's pages on media: their bytes, damage of any kind, and pages that don't fit together.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "store/local/bt_internal.h"

#include "bt_ref.h"

#define ADDR_FIRST 1000

/* A tree of two levels with its sealed pages: leaves first, then their parent. */
struct fixture {
	struct bt_env env;
	struct btree tree;
	unsigned count;
	uint8_t image[16][BT_PAGE_BYTES];
};

static uint64_t assign(void *arg)
{
	struct fixture *f = arg;

	return ADDR_FIRST + f->count++;
}

static void emit(void *arg, struct bt_node *node, uint64_t addr)
{
	struct fixture *f = arg;

	bt_page_seal(&f->env, node, 42, 9, f->image[addr - ADDR_FIRST]);
}

static void env_make(struct bt_env *env)
{
	*env = (struct bt_env){.store_id = {1, 2, 3, 4, 5, 6, 7, 8}, .shard = 5};
	assert_int_equal(bt_env_init(env), 0);
}

static struct fixture *make(unsigned items)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	env_make(&f->env);
	f->tree.env = &f->env;
	for (unsigned i = 0; i < items; i++) {
		char key[32], val[64];
		int key_len = snprintf(key, sizeof(key), "object-%05u", i * 7 % items);
		int val_len = snprintf(val, sizeof(val), "%*u", i % 40, i);

		assert_int_equal(bt_reserve(&f->env, 1, false), 0);
		bt_put(&f->tree, key, key_len, val, val_len);
	}
	bt_dirty_assign(&f->tree, 42, 9, assign, emit, f);
	return f;
}

static void fixture_free(struct fixture *f)
{
	bt_drop(&f->tree);
	bt_env_done(&f->env);
	free(f);
}

static void reseal(uint8_t *image)
{
	pg_hdr(image)->crc = le32_make(crc32c(0, image + 8, BT_PAGE_BYTES - 8));
}

static void test_golden(void **state)
{
	struct bt_env env;
	struct btree t = {.env = &env};
	uint8_t image[BT_PAGE_BYTES];
	static const uint8_t header[] = {
	        'P',  'S',  'b',  't',  0xe1, 0xde, 0x7b, 0x0f,       /* magic, CRC */
	        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,       /* address */
	        0x07, 0,    0,    0,    0,    0,    0,    0,          /* generation */
	        1,    2,    3,    4,    5,    6,    7,    8,          /* store */
	        5,    0,    0,    0,    9,    0,    0,    0,          /* shard, container */
	        1,    0,    0,    0,    2,    0,                      /* version, level, count */
	        0xf4, 0x0f, 0,    0x10, 0,    0,    0,    0,          /* heap, dead, prefix */
	        0,    0,    0,    0,    0,    0,    0,    0,    0, 0, /* fences, flags */
	};
	static const uint8_t slots[] = {
	        0,   0,   'b', 'a', 0xfa, 0x2f, 0x80, 0, /* "ab" = "1234" */
	        'd', 'c', 'b', 'a', 0xf4, 0x5f, 0x20, 0, /* "abcde" = "X" */
	};
	static const char heap[] = "Xabcde1234ab";

	env_make(&env);
	assert_int_equal(bt_reserve(&env, 2, false), 0);
	bt_put(&t, "ab", 2, "1234", 4);
	bt_put(&t, "abcde", 5, "X", 1);
	t.root->addr = 0x1122334455667788;
	bt_page_seal(&env, t.root, 7, 9, image);
	assert_memory_equal(image, header, sizeof(header));
	assert_memory_equal(image + 64, slots, sizeof(slots));
	assert_memory_equal(image + 4096 - 12, heap, 12);
	for (unsigned i = 80; i < 4096 - 12; i++)
		assert_int_equal(image[i], 0);
	assert_int_equal(bt_page_check(&env, image, 0x1122334455667788, NULL), 0);
	bt_drop(&t);
	bt_env_done(&env);
}

static void test_bit_flips(void **state)
{
	struct fixture *f = make(400);

	assert_true(f->count >= 3);
	for (unsigned p = 0; p < f->count; p += f->count - 1) { /* a leaf, and the root */
		uint8_t *image = f->image[p];

		assert_int_equal(bt_page_check(&f->env, image, ADDR_FIRST + p, NULL), 0);
		for (unsigned bit = 0; bit < 8 * BT_PAGE_BYTES; bit++) {
			image[bit / 8] ^= 1 << bit % 8;
			assert_int_equal(bt_page_check(&f->env, image, ADDR_FIRST + p, NULL),
			                 -EBADMSG);
			image[bit / 8] ^= 1 << bit % 8;
		}
	}
	fixture_free(f);
}

static void expect_bad(const struct bt_env *env, const uint8_t *image, uint64_t addr,
                       const char *why)
{
	struct pst_err err = {0};

	assert_int_equal(bt_page_check(env, image, addr, &err), -EBADMSG);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void test_identity(void **state)
{
	struct fixture *f = make(30);
	struct bt_env other = f->env;

	expect_bad(&f->env, f->image[0], ADDR_FIRST + 1, "another address");
	other.shard++;
	expect_bad(&other, f->image[0], ADDR_FIRST, "another store or shard");
	other = f->env;
	other.store_id[7]++;
	expect_bad(&other, f->image[0], ADDR_FIRST, "another store or shard");
	pg_hdr(f->image[0])->version = le16_make(BT_VERSION + 1);
	reseal(f->image[0]);
	expect_bad(&f->env, f->image[0], ADDR_FIRST, "version");
	fixture_free(f);
}

/* Damage that a valid CRC covers: what a bug or an enemy writes. */
enum damage {
	SWAP_SLOTS,
	OVERLAP,
	OUTSIDE,
	HEAD,
	LEVEL,
	COUNT,
	DEAD,
	PREFIX,
	UPPER_BELOW,
	LONG_VALUE,
	FLAGS,
	CHILD_ZERO,
	FIRST_KEY,
	DAMAGES,
};

static const char *damage(uint8_t *image, enum damage what)
{
	struct bt_page_hdr *h = pg_hdr(image);
	struct bt_slot *s = pg_slots(image), t = s[2];
	unsigned n = pg_count(image);
	uint64_t zero = 0;

	switch (what) {
	case SWAP_SLOTS:
		s[2] = s[3];
		s[3] = t;
		return "out of order";
	case OVERLAP:
		s[2].loc = s[3].loc;
		s[2].head = s[3].head;
		return "overlap";
	case OUTSIDE:
		s[2].loc = le32_make(loc_make(le16_get(h->heap_end), 1, loc_val_len(t.loc)));
		return "outside the heap";
	case HEAD:
		s[2].head ^= le32_make(1);
		return "head";
	case LEVEL:
		h->level = le16_make(BT_DEPTH_MAX);
		return "level";
	case COUNT:
		h->count = le16_make(n + 200);
		return "overlap";
	case DEAD:
		h->dead = le16_make(1);
		return "add up";
	case PREFIX:
		h->prefix_len = le16_make(BT_KEY_MAX + 1);
		return "length that can't be";
	case UPPER_BELOW:
		memset(image + BT_PAGE_BYTES - (pg_upper_len(image) - pg_prefix_len(image)), 0,
		       pg_upper_len(image) - pg_prefix_len(image));
		return "upper fence";
	case LONG_VALUE:
		s[2].loc |= le32_make(1u << 31);
		return "too long";
	case FLAGS:
		h->flags = le16_make(BT_PAGE_EMPTY);
		return "flags";
	case CHILD_ZERO:
		memcpy(image + loc_off(le32_get(s[1].loc)), &zero, 8);
		return "no address";
	default:
		s[0].loc = le32_make(le32_get(s[0].loc) + (1u << 12));
		return "";
	}
}

static void test_damage(void **state)
{
	struct fixture *f = make(400);

	for (unsigned what = 0; what < DAMAGES; what++) {
		/* A leaf with both fences; the root for what only inner pages have. */
		unsigned p = what == CHILD_ZERO || what == FIRST_KEY ? f->count - 1 : 1;
		uint8_t image[BT_PAGE_BYTES];
		const char *why;

		memcpy(image, f->image[p], sizeof(image));
		why = damage(image, what);
		reseal(image);
		expect_bad(&f->env, image, ADDR_FIRST + p, why);
	}
	fixture_free(f);
}

/* --- loading --- */

struct loader {
	struct bt_env env;
	struct bt_node *node[16];
	unsigned count, missing;
};

static struct bt_node *child(void *arg, uint64_t addr)
{
	struct loader *l = arg;

	assert_in_range(addr, ADDR_FIRST, ADDR_FIRST + l->count - 1);
	if (addr - ADDR_FIRST == l->missing)
		return NULL;
	l->node[addr - ADDR_FIRST]->refs++;
	return l->node[addr - ADDR_FIRST];
}

static void load_leaves(struct loader *l, const struct fixture *f)
{
	*l = (struct loader){.count = f->count - 1, .missing = UINT32_MAX};
	env_make(&l->env);
	for (unsigned i = 0; i < l->count; i++)
		assert_int_equal(bt_node_load(&l->env, &l->node[i], f->image[i], ADDR_FIRST + i,
		                              NULL, NULL, NULL),
		                 0);
}

static void loader_done(struct loader *l)
{
	for (unsigned i = 0; i < l->count; i++)
		bt_node_unref(&l->env, l->node[i]);
	assert_int_equal(l->env.pages, 0);
	bt_env_done(&l->env);
}

static void test_load(void **state)
{
	struct fixture *f = make(400);
	const uint8_t *top = f->image[f->count - 1];
	struct bt_node *node = NULL;
	struct pst_err err;
	struct loader l;
	struct btree t;

	load_leaves(&l, f);
	assert_int_equal(bt_node_load(&l.env, &node, top, 7, child, &l, &err), 0);
	t = (struct btree){.env = &l.env};
	assert_int_equal(bt_adopt(&t, l.node[0], 5, &err), -EBADMSG); /* has fences */
	assert_null(t.root);
	assert_int_equal(bt_adopt(&t, node, f->tree.items, &err), 0);
	assert_int_equal(bt_check(&t, &err), 0);
	bt_drop(&t);

	/* A child that is not there, one that is another's, and one of the wrong level. */
	l.missing = 2;
	node = NULL;
	assert_int_equal(bt_node_load(&l.env, &node, top, 7, child, &l, &err), -EBADMSG);
	l.missing = UINT32_MAX;
	for (unsigned i = 0; i + 1 < l.count; i++) {
		struct bt_node *a = l.node[i];

		l.node[i] = l.node[i + 1];
		assert_int_equal(bt_node_load(&l.env, &node, top, 7, child, &l, &err), -EBADMSG);
		l.node[i] = a;
	}
	l.node[1]->level = 1;
	assert_int_equal(bt_node_load(&l.env, &node, top, 7, child, &l, &err), -EBADMSG);
	l.node[1]->level = 0;
	assert_null(node);
	for (unsigned i = 0; i < l.count; i++)
		assert_int_equal(l.node[i]->refs, 1);
	loader_done(&l);
	fixture_free(f);
}

static void test_load_no_memory(void **state)
{
	struct fixture *f = make(20);
	struct bt_env env;
	struct bt_node *node = NULL;

	env_make(&env);
	mem_alloc_fail_at(1, true);
	assert_int_equal(bt_node_load(&env, &node, f->image[0], 1, NULL, NULL, NULL), -ENOMEM);
	assert_null(node);
	mem_alloc_fail_at(0, false);
	assert_int_equal(bt_node_load(&env, &node, f->image[0], 1, NULL, NULL, NULL), 0);
	bt_node_unref(&env, node);
	bt_env_done(&env);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_golden),   cmocka_unit_test(test_bit_flips),
	        cmocka_unit_test(test_identity), cmocka_unit_test(test_damage),
	        cmocka_unit_test(test_load),     cmocka_unit_test(test_load_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
