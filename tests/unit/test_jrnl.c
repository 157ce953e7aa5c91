/* SPDX-License-Identifier: BSD-3-Clause */
/* Journaled blocks: the newest counts, goes home in its time, and is forgotten with its space. */
#include "eng_util.h"

static void newest_counts(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB};
	struct jblock *a, *b;
	struct shard *s;

	eng_start(&e);
	s = eng_local(&e)->shard[0];
	a = jblock_new(s);
	b = jblock_new(s);
	jrnl_insert(s, a, 1000, 7);
	assert_ptr_equal(jrnl_find(s, 1000), a);
	assert_null(jrnl_find(s, 1001));
	jrnl_insert(s, b, 1000, 9);
	assert_ptr_equal(jrnl_find(s, 1000), b);
	assert_false(a->newest);
	assert_int_equal(s->jrnl.count, 1);
	jblock_unref(s, a);
	jblock_unref(s, b);
	jrnl_forget(s, 999, 3);
	assert_null(jrnl_find(s, 1000));
	assert_int_equal(s->jrnl.count, 0);
	assert_int_equal(s->jrnl.allocated, 0);
	eng_end(&e);
}

/* Overwrites of few blocks, faster than they get home, with checkpoints all the while. */
static void overwritten_on_the_way(void **state)
{
	struct eng e = {.dev_bytes = 16 * MIB, .format = {.journal_bytes = MIB}};
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, 40 * BB, 1), 0);
	assert_int_equal(fault_set(e.dev[0], "delay_us", "10", NULL), 0);
	assert_int_equal(fault_set(e.dev[0], "delay_jitter_us", "300", NULL), 0);
	for (uint64_t i = 0; i < 1500; i++) {
		if (i % 20 == 0)
			ckpt_want(eng_local(&e)->shard[0]);
		assert_int_equal(eng_put(&e, c, oid_of(1), i % 5 * BB, BB, 100 + i), 0);
		if (i % 400 == 399) {
			eng_cut(&e);
			e.seed++;
			eng_open(&e);
		}
		if (i % 97 == 0)
			assert_int_equal(eng_expect(&e, c, 0, oid_of(1), i % 5 * BB, BB, 100 + i),
			                 0);
	}
	assert_int_equal(eng_close(&e), 0);
	eng_open(&e);
	assert_int_equal(eng_local(&e)->shard[0]->jrnl.count, 0);
	for (uint64_t i = 1495; i < 1500; i++)
		assert_int_equal(eng_expect(&e, c, 0, oid_of(1), i % 5 * BB, BB, 100 + i), 0);
	eng_end(&e);
}

/* A block that is overwritten while it is on its way home: the checkpoint has what it wants when that
 * arrives, and does not wait for the new content too. */
static void hot_block_and_checkpoint(void **state)
{
	struct eng e = {.format = {.journal_bytes = 4 * MIB}};
	struct shard *s;
	uint64_t gen;
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, BB, 1), 0);
	eng_settle(&e);
	s = eng_local(&e)->shard[0];
	gen = s->ckpt.gen;
	assert_int_equal(fault_set(e.dev[0], "delay_us", "20", NULL), 0);
	ckpt_want(s);
	while (!s->jrnl.applying)
		(void)loop_turn(e.loop, NSEC_PER_USEC);
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, BB, 2), 0);
	while (s->ckpt.gen == gen)
		(void)loop_turn(e.loop, NSEC_PER_USEC);
	assert_int_equal(s->jrnl.count, 1);
	assert_int_equal(s->jrnl.left, 0);
	eng_cut(&e);
	e.seed++;
	eng_open(&e);
	assert_int_equal(eng_expect(&e, c, 0, oid_of(1), 0, BB, 2), 0);
	eng_end(&e);
}

/*
 * A block that is overwritten without a pause on a device that takes its time: no frame that has it is
 * known to be durable before the next one has it too, and so it never gets home. A checkpoint needs
 * only that the log after it has the block, and ends long before the log is full.
 */
static void overwritten_without_end(void **state)
{
	for (unsigned blocks = 1; blocks <= 40; blocks += 13) {
		struct eng e = {.dev_bytes = 32 * MIB, .format = {.journal_bytes = 16 * MIB}};
		unsigned puts = 0, next = 0;
		struct shard *s;
		uint64_t gen;
		uint32_t c;

		eng_start(&e);
		assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
		assert_int_equal(eng_put(&e, c, oid_of(1), 0, 40 * BB, 1), 0);
		eng_checkpoint(&e);
		assert_int_equal(fault_set(e.dev[0], "delay_us", "2000", NULL), 0);
		s = eng_local(&e)->shard[0];
		for (unsigned i = 0; i < 2 * blocks; i++, next++)
			assert_int_equal(
			        eng_put(&e, c, oid_of(1), next % blocks * BB, BB, 1000 + next), 0);
		gen = s->ckpt.gen;
		ckpt_want(s);
		for (; s->ckpt.gen == gen; puts++, next++) {
			assert_true(puts < 200);
			assert_true(log_used(s) < s->log.blocks / 4);
			assert_int_equal(
			        eng_put(&e, c, oid_of(1), next % blocks * BB, BB, 1000 + next), 0);
		}
		/* The log that is left has all that the checkpoint has not. */
		eng_cut(&e);
		e.seed++;
		eng_open(&e);
		for (unsigned i = next - blocks; i < next; i++)
			assert_int_equal(
			        eng_expect(&e, c, 0, oid_of(1), i % blocks * BB, BB, 1000 + i), 0);
		eng_end(&e);
	}
}

/* More than the cache holds: writers wait for blocks to get home, and go on. */
static void more_than_the_cache(void **state)
{
	struct eng e = {.dev_bytes = 32 * MIB,
	                .opts = {.journal_cache_bytes = 64 * BB},
	                .format = {.journal_bytes = 8 * MIB}};
	static uint8_t buf[BB];
	static struct eng_op op[400];
	struct shard *s;
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	s = eng_local(&e)->shard[0];
	for (unsigned i = 0; i < ARRAY_LEN(op); i++) {
		eng_write_op(&op[i], c, oid_of(1), (uint64_t)i * BB, buf, BB, 0);
		eng_submit(&e, &op[i]);
		assert_true(s->jrnl.allocated <= s->jrnl.limit + JOURNAL_WRITE_BLOCKS);
	}
	for (unsigned i = 0; i < ARRAY_LEN(op); i++)
		assert_int_equal(eng_wait(&e, &op[i]), 0);
	eng_end(&e);
}

/* Memory that is taken ahead: a write finds its block without an allocation, as far as the limit goes. */
static void ahead_of_use(void **state)
{
	struct eng e = {.dev_bytes = 32 * MIB,
	                .opts = {.journal_cache_bytes = 700 * BB, .journal_ahead = true},
	                .format = {.journal_bytes = 8 * MIB}};
	static struct jblock *j[1000];
	struct shard *s;
	unsigned count = 0;

	eng_start(&e);
	s = eng_local(&e)->shard[0];
	assert_true(s->jrnl.limit > 512); /* more than one slab */
	(void)mem_alloc_fail_at(1, true);
	while (count < ARRAY_LEN(j) && (j[count] = jblock_new(s)))
		count++;
	(void)mem_alloc_fail_at(0, false);
	assert_int_equal(count, s->jrnl.limit + JOURNAL_WRITE_BLOCKS);
	while (count)
		jblock_unref(s, j[--count]);
	eng_end(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(newest_counts),
	        cmocka_unit_test(overwritten_on_the_way),
	        cmocka_unit_test(hot_block_and_checkpoint),
	        cmocka_unit_test(overwritten_without_end),
	        cmocka_unit_test(more_than_the_cache),
	        cmocka_unit_test(ahead_of_use),
	};

	return cmocka_run_group_tests_name("local engine: journaled blocks", tests, NULL, NULL);
}
