/* SPDX-License-Identifier: BSD-3-Clause */
/* The log: what fits, what is waited for, and going round the ring. */
#include "eng_util.h"

static unsigned told;

static void durable(struct log_wait *w, int status)
{
	assert_int_equal(status, 0);
	told++;
}

static void room(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB};
	struct shard *s;

	eng_start(&e);
	s = eng_local(&e)->shard[0];
	assert_int_equal(log_room(s, 64, 1, false), 0);
	assert_int_equal(log_room(s, s->log.meta_max, 0, false), -E2BIG);
	assert_int_equal(log_room(s, 64, s->log.data_max + 1, false), -E2BIG);
	assert_true(s->log.data_max >= 32);
	eng_end(&e);
}

static void waiting(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB};
	struct log_wait w = {.durable = durable};
	static uint8_t buf[BB];
	struct shard *s;
	struct eng_op o;
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	s = eng_local(&e)->shard[0];
	told = 0;
	assert_int_equal(log_wait(s, s->log.last_record, &w), 1);
	eng_write_op(&o, c, oid_of(1), 0, buf, BB, PST_F_VOLATILE);
	eng_submit(&e, &o);
	assert_true(s->log.last_record > s->log.durable);
	assert_int_equal(log_wait(s, s->log.last_record, &w), -EAGAIN);
	assert_int_equal(told, 0);
	eng_settle(&e);
	assert_int_equal(told, 1);
	assert_true(s->log.durable >= s->log.last_record);
	assert_true(s->log.mark >= s->log.last_record); /* an idle log writes a mark */
	eng_end(&e);
}

/* Several times round, with frames of all sizes: skips are written, and recovery follows them. */
static void round_the_ring(void **state)
{
	struct eng e = {.dev_bytes = 16 * MIB, .format = {.journal_bytes = MIB}};
	uint64_t start, blocks, skips = 0, n = 0;
	uint8_t frame[BB];
	struct rng r;
	uint32_t c;

	rng_seed(&r, 3);
	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	start = eng_local(&e)->geo.log_start;
	blocks = eng_local(&e)->geo.log_blocks;
	for (unsigned round = 0; round < 40; round++) {
		for (unsigned i = 0; i < 30; i++, n++)
			assert_int_equal(eng_put(&e, c, oid_of(1 + n % 50), 0,
			                         (1 + rng_below(&r, 15)) * BB, n),
			                 0);
		eng_drop(&e);
		for (uint64_t b = 0; b < blocks; b++) {
			const struct media_frame *f = (const void *)frame;

			eng_peek(&e, 0, start + b, frame, 1);
			skips += le32_get(f->magic) == FRAME_MAGIC &&
			         le16_get(f->flags) & FRAME_SKIP;
		}
		eng_open(&e);
		for (uint64_t k = n - 30; k < n; k++)
			assert_int_equal(eng_expect(&e, c, 0, oid_of(1 + k % 50), 0, BB, k), 0);
	}
	assert_true(skips > 0);
	eng_end(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(room),
	        cmocka_unit_test(waiting),
	        cmocka_unit_test(round_the_ring),
	};

	return cmocka_run_group_tests_name("local engine: log", tests, NULL, NULL);
}
