/* SPDX-License-Identifier: BSD-3-Clause */
/* Checksum pages: what is known without the device, the bounded cache, the two slots. */
#include "eng_util.h"

static void known_at_once(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB};
	struct shard *s;
	uint32_t v = 0;

	eng_start(&e);
	s = eng_local(&e)->shard[0];
	assert_false(csum_get(s, 900, &v));
	assert_int_equal(csum_reserve(s, 1), 0);
	csum_set(s, 900, 0x1234, log_open_frame(s));
	assert_true(csum_get(s, 900, &v));
	assert_int_equal(v, 0x1234);
	assert_false(csum_get(s, 901, &v)); /* the rest of the page is not here */
	eng_end(&e);
}

/* A cache of few pages for many: all is verified, nothing is lost. */
static void small_cache(void **state)
{
	struct eng e = {.dev_bytes = 96 * MIB,
	                .opts = {.csum_cache_bytes = 1},
	                .format = {.region_bytes = 256 * KIB, .journal_bytes = 8 * MIB}};
	struct shard *s;
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	for (uint64_t i = 0; i < 60; i++)
		assert_int_equal(eng_put(&e, c, oid_of(1 + i), 0, MIB, i), 0);
	for (uint64_t i = 0; i < 60; i += 3)
		assert_int_equal(eng_put(&e, c, oid_of(1 + i), 7 * BB, BB, 1000 + i), 0);
	eng_reopen(&e);
	s = eng_local(&e)->shard[0];
	for (uint64_t i = 0; i < 60; i++) {
		assert_int_equal(eng_expect(&e, c, 0, oid_of(1 + i), 0, 7 * BB, i), 0);
		if (i % 3 == 0)
			assert_int_equal(eng_expect(&e, c, 0, oid_of(1 + i), 7 * BB, BB, 1000 + i),
			                 0);
	}
	assert_true(s->csum.limit < 60);
	assert_true(s->csum.pages <= s->csum.limit + 4);
	assert_true(s->csum.misses > 60);
	eng_end(&e);
}

/* Each checkpoint writes the slot that does not count; the one before stays whole. */
static void slots_in_turn(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB};
	static struct media_csums slot[2];
	uint64_t last[2] = {0, 0};
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	for (uint64_t i = 1; i < 6; i++) {
		uint64_t at = eng_local(&e)->geo.csum_start;
		struct local *l;
		unsigned changed = 0;

		assert_int_equal(eng_put(&e, c, oid_of(1), 0, BB, i), 0);
		eng_checkpoint(&e);
		eng_drop(&e);
		eng_peek(&e, 0, at, slot, 2);
		eng_open(&e);
		l = eng_local(&e);
		for (unsigned k = 0; k < 2; k++) {
			uint64_t v = le64_get(slot[k].version);

			assert_true(!v || csum_slot_ok(l, &slot[k], 0));
			changed += v != last[k];
			last[k] = v;
		}
		assert_int_equal(changed, 1);
		assert_int_equal(last[0] > last[1] ? last[0] : last[1], i);
	}
	eng_end(&e);
}

/* Objects of one block have their checksums in their heads: no page is needed, however they came to be. */
static void small_objects(void **state)
{
	struct eng e = {.dev_bytes = 96 * MIB,
	                .opts = {.csum_cache_bytes = 1},
	                .format = {.region_bytes = 256 * KIB, .journal_bytes = 8 * MIB}};
	struct shard *s;
	uint64_t view;
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	for (uint64_t i = 0; i < 3000; i++)
		assert_int_equal(eng_put(&e, c, oid_of(1 + i), 0, BB, i), 0);
	assert_int_equal(ops_snap_create(e.store, "a", "s", &view), 0);
	for (uint64_t i = 0; i < 3000; i += 2) /* copied: the snapshot has the old ones */
		assert_int_equal(eng_put(&e, c, oid_of(1 + i), 0, BB, 10000 + i), 0);
	for (uint64_t i = 0; i < 3000; i += 4) /* in place */
		assert_int_equal(eng_put(&e, c, oid_of(1 + i), 0, BB, 20000 + i), 0);
	eng_reopen(&e);
	s = eng_local(&e)->shard[0];
	for (uint64_t i = 0; i < 3000; i++) {
		uint64_t tag = i % 4 == 0 ? 20000 + i : i % 2 == 0 ? 10000 + i : i;

		assert_int_equal(eng_expect(&e, c, 0, oid_of(1 + i), 0, BB, tag), 0);
		assert_int_equal(eng_expect(&e, c, view, oid_of(1 + i), 0, BB, i), 0);
	}
	assert_int_equal(s->csum.misses, 0);
	eng_end(&e);
}

/* The copy goes when the object grows, and a damaged block is found by it. */
static void copy_in_the_head(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB};
	static uint8_t block[BB];
	struct extent x;
	struct shard *s;
	struct head h;
	uint64_t at;
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, BB, 1), 0);
	s = eng_local(&e)->shard[0];
	head_get(&cont_find(s, c)->tree, oid_of(1), &h);
	assert_true(h.has_csum);
	assert_int_equal(eng_put(&e, c, oid_of(1), BB, BB, 1), 0);
	head_get(&cont_find(s, c)->tree, oid_of(1), &h);
	assert_int_equal(h.has_csum, h.ext_blocks == 1);
	assert_int_equal(eng_put(&e, c, oid_of(2), 100, 200, 2), 0); /* part of a block */
	assert_int_equal(eng_put(&e, c, oid_of(2), 300, 200, 2), 0);
	eng_reopen(&e);
	assert_int_equal(eng_expect(&e, c, 0, oid_of(1), 0, BB, 1), 0);
	assert_int_equal(eng_expect(&e, c, 0, oid_of(1), BB, BB, 1), 0);
	s = eng_local(&e)->shard[0];
	head_get(&cont_find(s, c)->tree, oid_of(2), &h);
	assert_true(h.has_csum);
	assert_true(extent_find(&cont_find(s, c)->tree, oid_of(2), &h, 0, &x));
	at = eng_local(&e)->geo.data_start + x.addr;
	eng_close(&e);
	eng_peek(&e, 0, at, block, 1);
	assert_int_equal(crc32c(0, block, BB), h.csum);
	eng_flip(&e, 0, at, 8 * 250);
	eng_open(&e);
	assert_int_equal(ops_read(e.store, c, 0, oid_of(2), 0, block, 500, NULL), -EIO);
	eng_end(&e);
}

/* Whole blocks in place, from memory in pieces, with and without a token: what is read back is what was
 * written, at once and after recovery. */
static void overwritten_in_place(void **state)
{
	static uint8_t from[16 * BB], back[16 * BB];
	struct eng e = {.dev_bytes = 16 * MIB};
	struct iovec iov[5] = {{from, 0}, {from, 100}, {from + 100, 0}, {from + 100, BB}};
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, 64 * BB, 1), 0);
	for (uint32_t blocks = 2; blocks <= 16; blocks++) {
		struct pst_op op = {.opcode = PST_OP_WRITE,
		                    .cont = c,
		                    .oid = oid_of(1),
		                    .off = 8 * BB,
		                    .len = blocks * BB,
		                    .iov = iov,
		                    .iov_count = 5};

		if (blocks % 2)
			op.token = (struct pst_token){.session = 7, .slot = 1, .seq = blocks};
		iov[4] = (struct iovec){from + 100 + BB, (blocks - 1) * BB - 100};
		eng_fill(from, blocks * BB, 100 + blocks);
		assert_int_equal(ops_run(e.store, &op), 0);
		assert_int_equal(op.ret_len, blocks * BB);
		if (blocks % 2) { /* the same again is answered, not done */
			op.len = BB;
			op.iov = &(struct iovec){back, BB};
			op.iov_count = 1;
			assert_int_equal(ops_run(e.store, &op), 0);
			assert_int_equal(op.ret_len, blocks * BB);
		}
		if (blocks % 3 == 0)
			eng_cut(&e), eng_open(&e);
		assert_int_equal(
		        ops_read(e.store, c, 0, oid_of(1), 8 * BB, back, blocks * BB, NULL), 0);
		assert_memory_equal(back, from, blocks * BB);
	}
	assert_int_equal(eng_expect(&e, c, 0, oid_of(1), 0, 8 * BB, 1), 0);
	eng_end(&e);
}

/* --- checksums that travel with the data --- */

#define TRAVEL_BLOCKS 24u /* not through the journal */

static int travel_read(struct eng *e, uint32_t c, uint64_t off, size_t len, uint32_t flags,
                       uint32_t *csum, bool *ret_made)
{
	static _Alignas(4096) uint8_t buf[(TRAVEL_BLOCKS + 8) * BB];
	struct eng_op o;
	int err;

	eng_read_op(&o, c, 0, oid_of(1), off, buf, len);
	o.op.flags = flags;
	o.op.csum = csum;
	eng_submit(e, &o);
	err = eng_wait(e, &o);
	*ret_made = o.op.csum_made;
	for (size_t i = 0; !err && *ret_made && i < o.op.ret_len / BB; i++)
		assert_int_equal(csum[i], crc32c(0, buf + i * BB, BB));
	return err;
}

static void given_and_told(void **state)
{
	static _Alignas(4096) uint8_t buf[TRAVEL_BLOCKS * BB];
	struct eng e = {.dev_bytes = 16 * MIB};
	uint32_t c, csum[TRAVEL_BLOCKS + 8];
	struct eng_op o;
	bool made;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	eng_fill(buf, sizeof(buf), 1);
	for (unsigned i = 0; i < TRAVEL_BLOCKS; i++)
		csum[i] = crc32c(0, buf + i * BB, BB);
	csum[3] ^= 1; /* as if block 3 were damaged before it came here */
	eng_write_op(&o, c, oid_of(1), 0, buf, sizeof(buf), 0);
	o.op.csum = csum;
	eng_submit(&e, &o);
	assert_int_equal(eng_wait(&e, &o), 0);
	memset(csum, 0, sizeof(csum));
	assert_int_equal(travel_read(&e, c, 3 * BB, BB, 0, csum, &made), -EIO);
	assert_int_equal(travel_read(&e, c, 4 * BB, 20 * BB, 0, csum, &made), 0);
	assert_true(made);
	assert_int_equal(travel_read(&e, c, 2 * BB, BB, 0, csum, &made), 0);
	assert_true(made);
	/* One block in the journal, one of them at the array's end, where it stops short. */
	assert_int_equal(eng_put(&e, c, oid_of(1), 5 * BB, BB, 2), 0);
	assert_int_equal(travel_read(&e, c, 4 * BB, 28 * BB, 0, csum, &made), 0);
	assert_true(made);
	/* Not verified, or not in whole blocks: there are none. */
	assert_int_equal(travel_read(&e, c, 4 * BB, BB, PST_F_NOVERIFY, csum, &made), 0);
	assert_false(made);
	assert_int_equal(travel_read(&e, c, 4 * BB, 100, 0, csum, &made), 0);
	assert_false(made);
	assert_int_equal(travel_read(&e, c, 4 * BB + 512, BB, 0, csum, &made), 0);
	assert_false(made);
	/* A hole. */
	assert_int_equal(eng_put(&e, c, oid_of(1), 30 * BB, BB, 3), 0);
	assert_int_equal(travel_read(&e, c, 22 * BB, 9 * BB, 0, csum, &made), 0);
	assert_false(made);
	assert_int_equal(travel_read(&e, c, 4 * BB, BB, 0, NULL, &made), 0);
	assert_false(made);
	eng_end(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(known_at_once),        cmocka_unit_test(small_cache),
	        cmocka_unit_test(slots_in_turn),        cmocka_unit_test(small_objects),
	        cmocka_unit_test(overwritten_in_place), cmocka_unit_test(copy_in_the_head),
	        cmocka_unit_test(given_and_told),
	};

	return cmocka_run_group_tests_name("local engine: checksum pages", tests, NULL, NULL);
}
