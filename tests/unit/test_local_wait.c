/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ops of the local engine that wait for their turn: nothing waits for ever, and what is no longer
 * wanted does not wait at all.
 */
#include "eng_util.h"

static void turn(struct eng *e)
{
	(void)loop_turn(e->loop, 10 * NSEC_PER_USEC);
}

/* --- a store that has stopped --- */

enum { BLOCKS = 40 };

/* An object in pieces of one block, so that a read of it takes as many requests. */
static uint32_t scattered(struct eng *e)
{
	uint32_t c;

	assert_int_equal(ops_cont_create(e->store, "a", &c), 0);
	for (uint64_t i = 0; i < BLOCKS; i++)
		for (uint64_t o = 1; o <= 2; o++)
			assert_int_equal(eng_put(e, c, oid_of(o), i * BB, BB, 100 * o + i), 0);
	eng_reopen(e);
	return c;
}

/* Reads that wait for requests when the store stops, and those that come after it, are served; what
 * would change something ends, also when it comes back from the device later. */
static void stopped_store_serves_what_waits(void **state)
{
	struct eng e = {.opts = {.ops_max = 6}};
	static uint8_t big[BLOCKS * BB], small[2][BB], want[BB];
	struct eng_op r[3], w[2];
	uint32_t c;

	eng_start(&e);
	c = scattered(&e);
	assert_int_equal(fault_set(e.dev[0], "delay_us", "100", NULL), 0);
	eng_write_op(&w[0], c, oid_of(2), 1, small[0], 1, 0); /* reads the block first */
	eng_submit(&e, &w[0]);
	eng_write_op(&w[1], c, oid_of(2), 2, small[0], 1, 0); /* waits for the other's lock */
	eng_submit(&e, &w[1]);
	eng_read_op(&r[0], c, 0, oid_of(1), 0, big, sizeof(big));
	eng_submit(&e, &r[0]);
	eng_read_op(&r[1], c, 0, oid_of(1), 7 * BB, small[0], BB);
	eng_submit(&e, &r[1]);
	assert_false(list_empty(&eng_local(&e)->shard[0]->stalled));
	local_stop(eng_local(&e), -EIO, "the test says so");
	turn(&e);
	assert_true(eng_local(&e)->stop_told);
	assert_false(r[0].ended);
	eng_read_op(&r[2], c, 0, oid_of(1), 9 * BB, small[1], BB);
	eng_submit(&e, &r[2]);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(eng_wait(&e, &r[i]), 0);
	for (uint64_t i = 0; i < BLOCKS; i++) {
		eng_fill(want, BB, 100 + i);
		assert_memory_equal(big + i * BB, want, BB);
	}
	eng_fill(want, BB, 107);
	assert_memory_equal(small[0], want, BB);
	eng_fill(want, BB, 109);
	assert_memory_equal(small[1], want, BB);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(eng_wait(&e, &w[i]), -EIO);
	assert_int_equal(eng_local(&e)->ops, 0);
	eng_end(&e);
}

/* --- ops that are no longer wanted --- */

/* Many wait for a block that another changes; one far behind is cancelled, another's time is up. */
static void unwanted_far_behind(void **state)
{
	struct eng e = {0};
	static uint8_t buf[BB];
	struct eng_op w[8];
	uint64_t start;
	uint32_t c;

	eng_start(&e);
	c = scattered(&e);
	assert_int_equal(fault_set(e.dev[0], "delay_us", "50000", NULL), 0);
	for (unsigned i = 0; i < ARRAY_LEN(w); i++) {
		eng_write_op(&w[i], c, oid_of(1), i, buf, 1, 0);
		if (i == 6)
			w[i].op.deadline_ns = loop_now(e.loop) + 3 * NSEC_PER_MSEC;
		eng_submit(&e, &w[i]);
	}
	store_cancel(e.store, &w[5].op);
	start = loop_now(e.loop);
	while (!w[5].ended || !w[6].ended) {
		assert_true(loop_now(e.loop) < start + 10 * NSEC_PER_MSEC);
		turn(&e);
	}
	assert_int_equal(w[5].op.status, -ECANCELED);
	assert_int_equal(w[6].op.status, -ETIMEDOUT);
	for (unsigned i = 0; i < ARRAY_LEN(w); i++)
		if (i != 5 && i != 6)
			assert_int_equal(eng_wait(&e, &w[i]), 0);
	eng_end(&e);
}

/* --- FLUSH --- */

/* A flush of everything covers what came before it, and ends, while each shard is written all the
 * time. */
static void flush_of_a_busy_store(void **state)
{
	struct eng e = {.dev_bytes = 64 * MIB, .format = {.shards = 3, .journal_bytes = 24 * MIB}};
	struct pst_op op = {.opcode = PST_OP_FLUSH};
	struct eng_op w[3][4], flush = {.op = op};
	static uint8_t buf[BB];
	uint32_t c[3];

	eng_start(&e);
	memset(w, 0, sizeof(w));
	for (unsigned k = 0; k < 3; k++) {
		char name[2] = {(char)('a' + k), 0};

		assert_int_equal(ops_cont_create(e.store, name, &c[k]), 0);
	}
	assert_int_equal(fault_set(e.dev[0], "delay_us", "30", NULL), 0);
	for (unsigned t = 0; t < 400 && !flush.ended; t++) {
		for (unsigned k = 0; k < 3; k++) {
			struct eng_op *o = &w[k][t % 4];

			if (t >= 4 && !o->ended)
				continue;
			eng_write_op(o, c[k], oid_of(1), t % 16 * BB, buf, BB, 0);
			eng_submit(&e, o);
		}
		if (t == 10)
			eng_submit(&e, &flush);
		turn(&e);
	}
	assert_true(flush.ended);
	assert_int_equal(flush.op.status, 0);
	for (unsigned k = 0; k < 12; k++)
		assert_int_equal(eng_wait(&e, &w[k / 4][k % 4]), 0);
	eng_end(&e);
}

/*
 * Writes stand in line for a block that another one changes. A flush has nothing to do with them: it ends
 * at once if what was done is durable, else with that.
 */
static void flush_past_the_line(void **state)
{
	struct eng e = {0};
	static uint8_t buf[BB];
	struct eng_op a, w[3], flush;
	uint32_t c;

	eng_start(&e);
	c = scattered(&e);
	for (unsigned round = 0; round < 4; round++) {
		bool pending = round % 2;

		assert_int_equal(fault_set(e.dev[0], "delay_us", "50000", NULL), 0);
		if (pending) {
			eng_write_op(&a, c, oid_of(2), round * BB, buf, BB, 0);
			eng_submit(&e, &a);
			assert_false(a.ended);
		}
		for (unsigned i = 0; i < ARRAY_LEN(w); i++) {
			eng_write_op(&w[i], c, oid_of(1), round * BB + i, buf, 1, 0);
			eng_submit(&e, &w[i]);
		}
		assert_false(list_empty(&eng_local(&e)->shard[0]->stalled));
		flush = (struct eng_op){.op = {.opcode = PST_OP_FLUSH, .cont = round / 2 ? c : 0}};
		eng_submit(&e, &flush);
		assert_true(flush.ended == !pending);
		assert_int_equal(eng_wait(&e, &flush), 0);
		assert_true(!pending || a.ended);
		for (unsigned i = 0; i < ARRAY_LEN(w); i++)
			assert_false(w[i].ended);
		for (unsigned i = 0; i < ARRAY_LEN(w); i++)
			assert_int_equal(eng_wait(&e, &w[i]), 0);
		assert_int_equal(fault_set(e.dev[0], "delay_us", "0", NULL), 0);
		eng_checkpoint(&e); /* the block is to be read again */
	}
	eng_end(&e);
}

/* As many ops as there may be: that one more finds nothing to do needs no room. */
static void flush_of_nothing_in_a_full_house(void **state)
{
	struct eng e = {.opts = {.ops_max = 2}};
	struct eng_op w[2], flush = {.op = {.opcode = PST_OP_FLUSH}};
	static uint8_t buf[BB];
	uint32_t c;

	eng_start(&e);
	c = scattered(&e);
	assert_int_equal(fault_set(e.dev[0], "delay_us", "50000", NULL), 0);
	for (unsigned i = 0; i < 2; i++) {
		eng_write_op(&w[i], c, oid_of(1), i, buf, 1, 0);
		eng_submit(&e, &w[i]);
	}
	assert_int_equal(eng_local(&e)->ops, 2);
	flush.op.cont = c;
	assert_int_equal(store_submit(e.store, &flush.op), PST_DONE);
	assert_int_equal(flush.op.status, 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(eng_wait(&e, &w[i]), 0);
	eng_end(&e);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(stopped_store_serves_what_waits),
	        cmocka_unit_test(unwanted_far_behind),
	        cmocka_unit_test(flush_of_a_busy_store),
	        cmocka_unit_test(flush_past_the_line),
	        cmocka_unit_test(flush_of_nothing_in_a_full_house),
	};

	if (argc > 1) /* one case alone */
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("local engine: waiting", tests, NULL, NULL);
}
