/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck of the local engine: nothing is found on whole stores, closed or crashed; each structure is
 * damaged in turn, and fsck finds that, mends what can be mended, and is content afterwards.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "fsck_util.h"

static const struct local_format_opts many = {
        .shards = 3, .journal_bytes = 4 * MIB, .region_bytes = 256 * KIB};

/* --- nothing to find --- */

static void clean_empty(void **state)
{
	struct fx x;

	for (unsigned devs = 1; devs <= 3; devs++) {
		fx_format(&x, devs, 32, NULL);
		fx_expect_clean(&x);
		fx_open(&x);
		fx_crash(&x);
		fx_expect_clean(&x);
		fx_done(&x);
	}
}

static void clean_random(void **state)
{
	for (unsigned round = 0; round < 6; round++) {
		struct fx x;

		fx_format(&x, 1 + round % 3, 48, round % 2 ? &many : NULL);
		rng_seed(&x.rng, round);
		for (unsigned i = 0; i < 5; i++) {
			char snap[16];

			fx_open(&x);
			fx_fill(&x, 60, 6);
			(void)snprintf(snap, sizeof(snap), "s%u", i);
			assert_int_equal(ops_snap_create(x.store, "box", snap, NULL), 0);
			fx_fill(&x, 60, 6);
			if (i == 3)
				assert_int_equal(ops_snap_destroy(x.store, "box", "s1"), 0);
			if (i % 2)
				fx_close(&x);
			else
				fx_crash(&x);
			fx_expect_clean(&x);
			assert_true(x.rep.containers == 1 && x.rep.objects && x.rep.blocks);
		}
		fx_done(&x);
	}
}

/* --- damage on the devices --- */

/* A filled store, closed, and what fsck needs to know of it. */
struct hurt {
	struct fx x;
	struct geometry g;
	struct media_super s;
};

static void hurt_make(struct hurt *h, unsigned devs)
{
	fx_format(&h->x, devs, 32, NULL);
	fx_open(&h->x);
	fx_fill(&h->x, 80, 6);
	fx_close(&h->x);
	fx_geometry(&h->x, &h->g, &h->s);
	fx_expect_clean(&h->x);
}

/* fsck finds @part, @n times in all; repair mends it (@mends) and the next fsck is content. */
static void found_and_mended(struct fx *x, unsigned n, const char *part)
{
	assert_int_equal(fx_fsck(x, false), 0);
	fx_expect(x, part);
	assert_int_equal(x->rep.findings, n);
	assert_int_equal(x->rep.repaired, 0);
	assert_int_equal(fx_fsck(x, false), 0); /* nothing was changed */
	assert_int_equal(x->rep.findings, n);
	assert_int_equal(fx_fsck(x, true), 0);
	assert_int_equal(x->rep.findings, n);
	assert_int_equal(x->rep.repaired, n);
	fx_expect_clean(x);
}

/* fsck finds @part and repair leaves it alone. */
static void found_and_left(struct fx *x, const char *part)
{
	uint64_t n;

	assert_int_equal(fx_fsck(x, false), 0);
	fx_expect(x, part);
	n = x->rep.findings;
	assert_int_equal(fx_fsck(x, true), 0);
	fx_expect(x, part);
	assert_int_equal(x->rep.findings, n);
	assert_int_equal(x->rep.repaired, 0);
	assert_int_equal(fx_fsck(x, false), 0);
	assert_int_equal(x->rep.findings, n);
}

static void superblock_copies(void **state)
{
	struct hurt h;
	char text[64];

	hurt_make(&h, 2);
	for (unsigned d = 0; d < 2; d++)
		for (unsigned copy = 0; copy < SUPER_COPIES; copy++) {
			fx_flip(&h.x, d, super_place(copy, h.g.dev_blocks), 100 + 900 * copy);
			(void)snprintf(text, sizeof(text), "superblock copy %u", copy);
			found_and_mended(&h.x, 1, text);
		}
	for (unsigned copy = 0; copy < SUPER_COPIES; copy++)
		fx_flip(&h.x, 1, super_place(copy, h.g.dev_blocks), 200);
	assert_int_equal(fx_fsck(&h.x, true), -EBADMSG);
	fx_done(&h.x);
}

static void header_slots(void **state)
{
	for (unsigned devs = 1; devs <= 2; devs++) {
		struct hurt h;

		hurt_make(&h, devs);
		for (unsigned d = 0; d < devs; d++)
			for (unsigned slot = 0; slot < 2; slot++) {
				fx_flip(&h.x, d, h.g.header_start + slot, 40);
				found_and_mended(&h.x, 1, "of the header of shard 0");
			}
		fx_open(&h.x);
		fx_fill(&h.x, 20, 6);
		fx_close(&h.x);
		fx_expect_clean(&h.x);
		fx_done(&h.x);
	}
}

/*
 * The newest header is gone, and after it changes were acknowledged: the header before it must not
 * be taken for the end.
 */
static void newest_header_lost(void **state)
{
	struct media_header newest;
	struct store *store;
	struct hurt h;

	hurt_make(&h, 1);
	fx_open(&h.x);
	assert_int_equal(ops_kv_put(h.x.store, h.x.cont, oid_of(99), "k", "v", 1), 0);
	fx_crash(&h.x);
	fx_header(&h.x, 0, &newest);
	fx_flip(&h.x, 0, h.g.header_start + le64_get(newest.gen) % 2, 60);
	found_and_left(&h.x, "a header of shard 0 is damaged");
	assert_int_equal(local_open(&store, h.x.loop, h.x.dev, 1, NULL, &h.x.err), -EBADMSG);
	fx_done(&h.x);
}

static void index_pages(void **state)
{
	struct media_header head;
	struct hurt h;
	uint64_t at;

	hurt_make(&h, 2);
	fx_header(&h.x, 0, &head);
	at = geo_meta_block(&h.g, le64_get(head.sys_root));
	for (unsigned d = 0; d < 2; d++) {
		fx_flip(&h.x, d, at, 77);
		found_and_mended(&h.x, 1, "index page of shard 0");
	}
	fx_flip(&h.x, 0, at, 77);
	fx_flip(&h.x, 1, at, 99);
	assert_int_equal(fx_fsck(&h.x, true), 0);
	assert_true(h.x.rep.findings >= 1 && h.x.rep.repaired == 0);
	fx_expect(&h.x, "wrong checksum");
	fx_done(&h.x);
}

/* The address of a block of "box" that has a checksum, and whose it is. */
static uint64_t some_block(struct fx *x, struct pst_oid *ret_oid)
{
	uint64_t addr = 0;
	struct bt_iter it;
	struct cont *c;

	fx_open(x);
	c = cont_find(local_of(x->store)->shard[0], x->cont);
	for (bt_seek(&it, &c->tree, "", 0); it.valid && !addr; bt_next(&it)) {
		struct head h;

		if (it.key[16] == KEY_HEAD && !head_decode(it.val, it.val_len, &h) &&
		    h.has_extent) {
			addr = h.addr;
			*ret_oid = oid_of_key(it.key);
		}
	}
	fx_close(x);
	pst_assert(addr);
	return addr;
}

static void data_block(void **state)
{
	struct pst_oid oid;
	struct hurt h;
	uint64_t addr;
	char text[64];

	hurt_make(&h, 1);
	addr = some_block(&h.x, &oid);
	fx_flip(&h.x, 0, h.g.data_start + addr, 5);
	(void)snprintf(text, sizeof(text), "container box object %016llx%016llx byte 0 ",
	               (unsigned long long)oid.hi, (unsigned long long)oid.lo);
	found_and_left(&h.x, text);
	assert_int_equal(h.x.rep.findings, 1);
	assert_int_equal(h.x.rep.csum_errors, 1);
	fx_done(&h.x);
}

static void csum_pages(void **state)
{
	for (unsigned devs = 1; devs <= 2; devs++) {
		struct media_csums m[2];
		struct pst_oid oid;
		struct hurt h;
		unsigned slot, newest;
		uint64_t page;

		hurt_make(&h, devs);
		page = geo_csum_page(&h.g, some_block(&h.x, &oid), &slot);
		for (unsigned k = 0; k < 2; k++)
			fx_read(&h.x, 0, h.g.csum_start + 2 * page + k, &m[k]);
		newest = le64_get(m[1].version) > le64_get(m[0].version);
		/* The older slot: nobody needs it. */
		if (le32_get(m[!newest].magic) == CSUM_MAGIC) {
			fx_flip(&h.x, 0, h.g.csum_start + 2 * page + !newest, 500);
			found_and_mended(&h.x, 1, "of checksum page");
		}
		for (unsigned k = 0; k < 2; k++)
			fx_read(&h.x, 0, h.g.csum_start + 2 * page + k, &m[k]);
		newest = le64_get(m[1].version) > le64_get(m[0].version);
		/* Both slots of one mirror: the other one has them. Of all: lost. */
		for (unsigned k = 0; k < 2; k++)
			fx_flip(&h.x, 0, h.g.csum_start + 2 * page + k, 600);
		if (devs == 2) {
			assert_int_equal(fx_fsck(&h.x, true), 0);
			assert_true(h.x.rep.findings && h.x.rep.findings == h.x.rep.repaired);
			fx_expect_clean(&h.x);
		} else {
			found_and_left(&h.x, "damaged in both slots");
			assert_true(h.x.rep.csum_errors > 0);
		}
		fx_done(&h.x);
	}
}

static void large_value(void **state)
{
	static uint8_t val[9000];
	struct media_outval out;
	struct bt_iter it;
	struct hurt h;
	uint64_t addr = 0;

	hurt_make(&h, 1);
	fx_open(&h.x);
	memset(val, 0x5a, sizeof(val));
	assert_int_equal(ops_kv_put(h.x.store, h.x.cont, oid_of(70), "big", val, sizeof(val)), 0);
	struct cont *c = cont_find(local_of(h.x.store)->shard[0], h.x.cont);

	for (bt_seek(&it, &c->tree, "", 0); it.valid; bt_next(&it))
		if (it.key[16] == KEY_KV && oid_of_key(it.key).lo == 70 &&
		    !outval_decode((const uint8_t *)it.val + 1, it.val_len - 1, &out))
			addr = get48(out.extent[0].addr);
	fx_close(&h.x);
	fx_flip(&h.x, 0, h.g.data_start + addr, 1000);
	found_and_left(&h.x, "the value of key 626967: the checksum does not match");
	fx_done(&h.x);
}

/* In the middle of the log: refused, by fsck's repair too. At its end: a torn tail. */
static void log_frames(void **state)
{
	struct media_header head;
	struct hurt h;
	uint64_t at;

	hurt_make(&h, 1);
	fx_open(&h.x);
	fx_header(&h.x, 0, &head);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(ops_kv_put(h.x.store, h.x.cont, oid_of(80 + i), "k", "v", 1), 0);
	fx_crash(&h.x);
	fx_expect_clean(&h.x);
	assert_true(h.x.rep.frames >= 6);
	at = h.g.log_start + le64_get(head.log_pos) % h.g.log_blocks;
	fx_flip(&h.x, 0, at, 90);
	found_and_left(&h.x, "the log of shard 0 is damaged");
	fx_flip(&h.x, 0, at, 90);
	fx_expect_clean(&h.x);
	fx_done(&h.x);
}

static void log_mirror(void **state)
{
	struct media_header head;
	struct hurt h;

	hurt_make(&h, 2);
	fx_open(&h.x);
	fx_header(&h.x, 0, &head);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(ops_kv_put(h.x.store, h.x.cont, oid_of(80 + i), "k", "v", 1), 0);
	fx_crash(&h.x);
	fx_flip(&h.x, 1, h.g.log_start + le64_get(head.log_pos) % h.g.log_blocks, 90);
	found_and_mended(&h.x, 1, "of the log of shard 0 differs from its mirror");
	fx_done(&h.x);
}

/* --- trees that disagree with themselves --- */

struct inside {
	struct hurt h;
	struct shard *s;
	struct cont *c;
};

static void inside_open(struct inside *in)
{
	static const uint8_t three[3 * BLOCK_BYTES] = {7};

	hurt_make(&in->h, 1);
	fx_open(&in->h.x);
	assert_int_equal(
	        ops_write(in->h.x.store, in->h.x.cont, oid_of(300), 0, three, sizeof(three)), 0);
	in->s = local_of(in->h.x.store)->shard[0];
	in->c = cont_find(in->s, in->h.x.cont);
	assert_int_equal(bt_reserve(&in->s->env, 32, false), 0);
}

static struct pst_oid with_extent(struct inside *in, struct head *ret_head)
{
	struct bt_iter it;

	for (bt_seek(&it, &in->c->tree, "", 0); it.valid; bt_next(&it))
		if (it.key[16] == KEY_HEAD && !head_decode(it.val, it.val_len, ret_head) &&
		    ret_head->has_extent && ret_head->ext_blocks > 1 && !ret_head->label_len)
			return oid_of_key(it.key);
	fail_msg("no object with an extent");
	return oid_of(0);
}

static void counters(void **state)
{
	struct inside in;

	inside_open(&in);
	in.c->used_blocks += 3;
	in.c->objects--;
	in.c->logical_bytes += 4096;
	fx_close(&in.h.x);
	found_and_mended(&in.h.x, 3, "its counter says");
	fx_done(&in.h.x);
}

static void head_count(void **state)
{
	struct inside in;
	struct pst_oid oid;
	struct head h;

	inside_open(&in);
	oid = with_extent(&in, &h);
	h.blocks += 2;
	head_put(&in.c->tree, oid, &h);
	fx_close(&in.h.x);
	found_and_mended(&in.h.x, 1, "its head counts");
	fx_done(&in.h.x);
}

static void claimed_twice(void **state)
{
	struct inside in;
	struct head h;

	inside_open(&in);
	(void)with_extent(&in, &h);
	h.blocks = h.ext_blocks;
	h.size = (uint64_t)h.blocks * BLOCK_BYTES;
	head_put(&in.c->tree, oid_of(4711), &h);
	in.c->objects++;
	in.c->used_blocks += h.blocks;
	in.c->logical_bytes += h.size;
	fx_close(&in.h.x);
	found_and_left(&in.h.x, "is claimed twice");
	assert_int_equal(in.h.x.rep.findings, 1);
	fx_done(&in.h.x);
}

/* As a store may have it that was written when 0,0 was not refused yet: sound, readable, and to be removed. */
static void object_zero(void **state)
{
	struct pst_mut more = MUT_PUT(oid_of(0), "k", "v", 1);
	struct pst_mut del = MUT_OFF(PST_OBJ_DELETE, oid_of(0), 0, 0);
	struct head h = {.exists = true, .size = 5000, .label = (void *)"old", .label_len = 3};
	struct pst_obj_stat st;
	struct inside in;
	uint8_t buf[8];
	uint64_t len;
	struct fx *x = &in.h.x;

	inside_open(&in);
	head_put(&in.c->tree, oid_of(0), &h);
	in.c->objects++;
	in.c->logical_bytes += h.size;
	fx_close(x);
	fx_expect_clean(x);
	fx_open(x);
	assert_int_equal(ops_stat(x->store, x->cont, 0, oid_of(0), &st), 0);
	assert_true(st.exists);
	assert_int_equal(st.label_len, 3);
	assert_int_equal(ops_read(x->store, x->cont, 0, oid_of(0), 4998, buf, 8, &len), 0);
	assert_int_equal(len, 2);
	assert_int_equal(ops_batch(x->store, x->cont, &more, 1), -EINVAL);
	assert_int_equal(ops_batch(x->store, x->cont, &del, 1), 0);
	assert_int_equal(ops_stat(x->store, x->cont, 0, oid_of(0), &st), 0);
	assert_false(st.exists);
	fx_close(x);
	fx_expect_clean(x);
	fx_done(x);
}

static void crooked_objects(void **state)
{
	static const char *const says[] = {
	        "was born in epoch",     "blocks are mapped up to byte", "outside the data area",
	        "has items but no head", "a key that means nothing",     "a value makes no sense",
	        "index pages of shard 0"};

	for (unsigned i = 0; i < ARRAY_LEN(says); i++) {
		struct inside in;
		struct pst_oid oid;
		struct head h;
		uint8_t key[KEY_OBJ_BYTES + 6] = {0};

		inside_open(&in);
		oid = with_extent(&in, &h);
		key_obj(key, oid_of(4712), KEY_KV);
		key[KEY_OBJ_BYTES] = 'k';
		if (i == 0)
			h.birth = in.c->epoch + 5;
		if (i == 1)
			h.size = 1;
		if (i == 2)
			h.addr = in.h.g.regions * in.h.g.region_span + 7;
		if (i == 6)
			h.addr = in.s->sys.root->addr;
		if (i < 3 || i == 6)
			head_put(&in.c->tree, oid, &h);
		if (i == 3)
			bt_put(&in.c->tree, key, KEY_OBJ_BYTES + 1, "\0v", 2);
		if (i == 4)
			bt_put(&in.c->tree, "abc", 3, "x", 1);
		if (i == 5) {
			key_obj(key, oid, KEY_KV);
			bt_put(&in.c->tree, key, KEY_OBJ_BYTES + 1, "\7v", 2);
		}
		fx_close(&in.h.x);
		assert_int_equal(fx_fsck(&in.h.x, false), 0);
		fx_expect(&in.h.x, says[i]);
		fx_done(&in.h.x);
	}
}

/* A block that two snapshots have but the one between them has not would be freed with it. */
static void snapshot_gap(void **state)
{
	struct inside in;
	struct pst_oid oid;
	struct head h;

	inside_open(&in);
	assert_int_equal(ops_snap_create(in.h.x.store, "box", "a", NULL), 0);
	assert_int_equal(bt_reserve(&in.s->env, 32, false), 0);
	oid = with_extent(&in, &h);
	h.addr += in.h.g.region_span;
	head_put(&in.c->tree, oid, &h);
	fx_close(&in.h.x);
	assert_int_equal(fx_fsck(&in.h.x, false), 0);
	fx_expect(&in.h.x, "is missing in snapshot a");
	fx_done(&in.h.x);
}

static void what_is_no_store(void **state)
{
	struct fx x;

	fx_format(&x, 1, 16, NULL);
	for (unsigned copy = 0; copy < SUPER_COPIES; copy++) {
		static _Alignas(4096) uint8_t zero[BLOCK_BYTES];

		fx_write(&x, 0, super_place(copy, 16 * MIB / BLOCK_BYTES), zero);
	}
	assert_int_equal(fx_fsck(&x, true), -ENODATA);
	assert_int_equal(x.texts, 0);
	fx_done(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(clean_empty),        cmocka_unit_test(clean_random),
	        cmocka_unit_test(superblock_copies),  cmocka_unit_test(header_slots),
	        cmocka_unit_test(newest_header_lost), cmocka_unit_test(index_pages),
	        cmocka_unit_test(data_block),         cmocka_unit_test(csum_pages),
	        cmocka_unit_test(large_value),        cmocka_unit_test(log_frames),
	        cmocka_unit_test(log_mirror),         cmocka_unit_test(counters),
	        cmocka_unit_test(head_count),         cmocka_unit_test(claimed_twice),
	        cmocka_unit_test(object_zero),        cmocka_unit_test(crooked_objects),
	        cmocka_unit_test(snapshot_gap),       cmocka_unit_test(what_is_no_store),
	};

	return cmocka_run_group_tests_name("fsck", tests, NULL, NULL);
}
