/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The local engine where things overlap: commits and flushes, checkpoints and snapshots, reads and
 * checksum pages, writers and the locks of others. Each case builds one interleaving on purpose.
 */
#include "eng_util.h"

/* --- R1: data that a frame speaks of is flushed before the frame counts as durable --- */

/*
 * Two containers on different shards. While a large write goes to both devices, the other shard
 * commits small ones all the time: some flush of theirs is the only one that covers part of the
 * large write's data, and it takes longer than the rest. The power goes as soon as the large write
 * is acknowledged.
 */
#define SMALL_MAX 64

struct storm {
	struct eng_op op[SMALL_MAX];
	uint8_t buf[BB];
	uint64_t next;
};

/* A small write a turn, until @big has ended. */
static void storm_until(struct eng *e, struct storm *st, uint32_t cont, struct eng_op *big)
{
	for (uint64_t turns = 0; !big->ended; turns++) {
		struct eng_op *o = &st->op[st->next % SMALL_MAX];

		assert_true(turns < ops_turns_max);
		if (!st->next || st->next < SMALL_MAX || o->ended) {
			eng_write_op(o, cont, oid_of(2), st->next % 256 * BB, st->buf, BB, 0);
			eng_submit(e, o);
			st->next++;
		}
		(void)loop_turn(e->loop, NSEC_PER_MSEC);
	}
}

static void slow_devices(struct eng *e)
{
	for (unsigned i = 0; i < e->devs; i++) {
		assert_int_equal(fault_set(e->dev[i], "delay_us", "5", NULL), 0);
		assert_int_equal(fault_set(e->dev[i], "delay_jitter_us", "200", NULL), 0);
	}
}

/* A container on each of them. */
static void start_two_shards(struct eng *e, uint32_t c[2])
{
	e->opts.commits_max = 6;
	eng_start(e);
	assert_int_equal(ops_cont_create(e->store, "a", &c[0]), 0);
	assert_int_equal(ops_cont_create(e->store, "b", &c[1]), 0);
	assert_ptr_not_equal(shard_of_cont(eng_local(e), c[0]), shard_of_cont(eng_local(e), c[1]));
	slow_devices(e);
}

/* What was acknowledged of @count objects is there after the power went. */
static void cut_and_expect(struct eng *e, uint32_t cont, uint64_t count, size_t len)
{
	eng_cut(e);
	e->seed += 1000;
	eng_open(e);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(eng_expect(e, cont, 0, oid_of(1 + i), 0, len, i), 0);
}

static void flush_of_another_shard(void **state)
{
	for (uint64_t seed = 1; seed <= 150; seed++) {
		struct eng e = {.format = {.shards = 2},
		                .devs = 2,
		                .dev_bytes = 16 * MIB,
		                .seed = 10 * seed};
		static uint8_t big[256 * KIB];
		static struct storm st;
		struct eng_op b = {0};
		uint32_t c[2];

		memset(&st, 0, sizeof(st));
		start_two_shards(&e, c);
		eng_fill(big, sizeof(big), 0);
		eng_write_op(&b, c[seed % 2], oid_of(1), 0, big, sizeof(big), 0);
		eng_submit(&e, &b);
		storm_until(&e, &st, c[!(seed % 2)], &b);
		assert_int_equal(b.op.status, 0);
		cut_and_expect(&e, c[seed % 2], 1, sizeof(big));
		eng_end(&e);
	}
}

/*
 * The flush that another shard began for the data fails, while the frame that it belongs to is still
 * being written: the device is not dirty any more, and nobody's data may count as forced out by it.
 */
static void failed_flush_of_another_shard(void **state)
{
	unsigned acknowledged = 0, failed = 0;

	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct eng e = {.format = {.shards = 2}, .dev_bytes = 16 * MIB, .seed = 10 * seed};
		static uint8_t big[256 * KIB];
		static struct storm st;
		struct eng_op b = {0};
		uint32_t c[2];

		memset(&st, 0, sizeof(st));
		start_two_shards(&e, c);
		eng_fill(big, sizeof(big), 0);
		eng_fail_at(&e, 1 << BDEV_FLUSH, 1 + seed % 3, -EIO);
		eng_write_op(&b, c[seed % 2], oid_of(1), 0, big, sizeof(big), 0);
		eng_submit(&e, &b);
		storm_until(&e, &st, c[!(seed % 2)], &b);
		assert_true(b.op.status == 0 || b.op.status == -EIO);
		acknowledged += !b.op.status;
		failed += b.op.status == -EIO;
		if (!b.op.status)
			cut_and_expect(&e, c[seed % 2], 1, sizeof(big));
		eng_end(&e);
	}
	assert_true(acknowledged && failed); /* both were met */
}

/* The same with the flush of a checkpoint. */
static void flush_of_a_checkpoint(void **state)
{
	for (uint64_t seed = 1; seed <= 30; seed++) {
		struct eng e = {.seed = 10 * seed, .devs = 2};
		static uint8_t big[256 * KIB];
		struct eng_op b = {0};
		uint32_t c;

		eng_start(&e);
		assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
		slow_devices(&e);
		for (uint64_t i = 0; i < 20; i++) {
			eng_fill(big, sizeof(big), i);
			eng_write_op(&b, c, oid_of(1 + i), 0, big, sizeof(big), 0);
			ckpt_want(eng_local(&e)->shard[0]);
			eng_submit(&e, &b);
			assert_int_equal(eng_wait(&e, &b), 0);
		}
		cut_and_expect(&e, c, 20, sizeof(big));
		eng_end(&e);
	}
}

/* --- a checkpoint and what is freed while it is under way --- */

enum { SCATTERED = 150 };

/* An object whose blocks are no neighbours, each overwritten in the log only. */
static uint32_t scattered(struct eng *e)
{
	uint32_t c;

	assert_int_equal(ops_cont_create(e->store, "a", &c), 0);
	for (uint64_t i = 0; i < SCATTERED; i++)
		for (uint64_t o = 1; o <= 2; o++)
			assert_int_equal(eng_put(e, c, oid_of(o), i * BB, BB, 1), 0);
	eng_reopen(e);
	for (uint64_t i = 0; i < SCATTERED; i++)
		assert_int_equal(eng_put(e, c, oid_of(1), i * BB, BB, 100 + i), 0);
	eng_settle(e);
	return c;
}

/*
 * Small writes are durable in the log only, and a checkpoint waits for them to get home. Meanwhile
 * their object is deleted, by a record that nobody waits for. The power goes as soon as the header is
 * durable: if that record is not, the object is there as it was.
 */
static void freed_during_a_checkpoint(void **state)
{
	unsigned kept = 0, gone = 0;

	for (unsigned turns = 5; turns < 400; turns += 10) {
		struct eng e = {.seed = turns, .format = {.journal_bytes = 4 * MIB}};
		struct pst_mut del[] = {MUT_OFF(PST_OBJ_DELETE, oid_of(1), 0, 0)};
		struct pst_op op = {.opcode = PST_OP_BATCH,
		                    .flags = PST_F_VOLATILE,
		                    .muts = del,
		                    .mut_count = 1};
		struct pst_obj_stat st;
		struct shard *s;
		uint64_t gen;

		eng_start(&e);
		op.cont = scattered(&e);
		s = eng_local(&e)->shard[0];
		gen = s->ckpt.gen;
		assert_int_equal(fault_set(e.dev[0], "delay_us", "10", NULL), 0);
		ckpt_want(s);
		for (unsigned i = 0; i < turns; i++)
			(void)loop_turn(e.loop, NSEC_PER_USEC);
		assert_int_equal(ops_run(e.store, &op), 0);
		for (unsigned i = 0; s->ckpt.gen == gen; i++) {
			assert_true(i < 100000);
			(void)loop_turn(e.loop, NSEC_PER_USEC);
		}
		eng_cut(&e);
		e.seed += 1000;
		eng_open(&e);
		assert_int_equal(ops_stat(e.store, op.cont, 0, oid_of(1), &st), 0);
		for (uint64_t i = 0; st.exists && i < SCATTERED; i++)
			assert_int_equal(eng_expect(&e, op.cont, 0, oid_of(1), i * BB, BB, 100 + i),
			                 0);
		kept += st.exists;
		gone += !st.exists;
		eng_end(&e);
	}
	assert_true(kept && gone); /* deleted before and after all were home */
}

/* --- reads --- */

/* A read whose blocks' checksums lie in two checksum pages, neither in the cache. */
static void cold_read_over_two_checksum_pages(void **state)
{
	struct eng e = {.dev_bytes = 192 * MIB, .format = {.region_bytes = 16 * MIB}};
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	for (uint64_t i = 0; i < 24; i++)
		assert_int_equal(eng_put(&e, c, oid_of(1), i * MIB, MIB, i), 0);
	for (uint64_t i = 0; i < 24; i++) {
		eng_reopen(&e);
		assert_int_equal(eng_expect(&e, c, 0, oid_of(1), i * MIB, MIB, i), 0);
	}
	eng_end(&e);
}

/*
 * A read in many parts runs out of requests in the middle, and when its first parts have ended
 * others hold more requests than there should be: it goes on all the same, and never ends as if it
 * had read everything.
 */
static void read_goes_on_when_others_hold_the_requests(void **state)
{
	enum { BLOCKS = 40 };
	struct eng e = {.opts = {.ops_max = 3}, .format = {.journal_bytes = 4 * MIB}};
	static uint8_t buf[BLOCKS * BB], want[BLOCKS * BB];
	struct pst_mut m[BLOCKS];
	struct eng_op r, lock, w = {0};
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	for (uint64_t i = 0; i < BLOCKS; i++) /* no two of an object's blocks are neighbours */
		for (uint64_t o = 1; o <= 2; o++)
			assert_int_equal(eng_put(&e, c, oid_of(o), i * BB, BB, 10 * i + o), 0);
	for (uint64_t i = 0; i < BLOCKS; i++)
		eng_fill(want + i * BB, BB, 10 * i + 1);
	eng_reopen(&e);
	assert_int_equal(fault_set(e.dev[0], "delay_us", "50", NULL), 0);
	for (unsigned i = 0; i < BLOCKS; i++)
		m[i] = (struct pst_mut){.kind = PST_ARRAY_WRITE,
		                        .oid = oid_of(2),
		                        .off = i * BB + 1,
		                        .len = 1,
		                        .val = "x",
		                        .val_len = 1};
	w.op = (struct pst_op){
	        .opcode = PST_OP_BATCH, .cont = c, .muts = m, .mut_count = ARRAY_LEN(m)};
	/* The batch has its first request, and waits for the block that another changes. */
	eng_write_op(&lock, c, oid_of(2), 1, "y", 1, 0);
	eng_submit(&e, &lock);
	eng_submit(&e, &w);
	(void)loop_turn(e.loop, 20 * NSEC_PER_USEC);
	eng_read_op(&r, c, 0, oid_of(1), 0, buf, sizeof(buf));
	eng_submit(&e, &r);
	for (unsigned i = 0; eng_local(&e)->reqs < BLOCKS && !r.ended; i++) {
		assert_true(i < 1000);
		(void)loop_turn(e.loop, NSEC_PER_USEC);
	}
	assert_false(r.ended);
	assert_int_equal(eng_wait(&e, &r), 0);
	assert_int_equal(r.op.ret_len, sizeof(buf));
	assert_memory_equal(buf, want, sizeof(buf));
	assert_int_equal(eng_wait(&e, &w), 0);
	assert_int_equal(eng_wait(&e, &lock), 0);
	eng_end(&e);
}

/* --- replay tokens --- */

/* "Was this done?" about a change that is committed and not yet durable. */
static void asked_before_it_is_durable(void **state)
{
	struct eng e = {0};
	struct pst_mut put = MUT_PUT(oid_of(1), "k", "v", 1);
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	for (uint64_t seq = 1; seq <= 3; seq++) {
		struct pst_op w = {.opcode = PST_OP_BATCH,
		                   .flags = PST_F_VOLATILE,
		                   .cont = c,
		                   .token = {.session = 9, .seq = seq},
		                   .ino = 4711 + seq,
		                   .muts = &put,
		                   .mut_count = 1};
		struct pst_op ask = {.opcode = PST_OP_BATCH, .cont = c, .token = w.token};

		assert_int_equal(ops_run(e.store, &w), 0);
		assert_int_equal(ops_run(e.store, &ask), 0);
		assert_int_equal(ask.ino, 4711 + seq);
		assert_int_equal(eng_local(&e)->ops, 0);
	}
	eng_end(&e);
}

/* A container's creation that is asked for again answers with the container. */
static void created_again(void **state)
{
	struct eng e = {0};
	uint32_t id = 0;

	eng_start(&e);
	for (unsigned i = 0; i < 3; i++) {
		struct pst_cont_info info = {0};
		struct pst_op op = {.opcode = PST_OP_CONT_CREATE,
		                    .name = "a",
		                    .name_len = 1,
		                    .token = {.session = 9, .seq = 4},
		                    .cont_info = &info};

		assert_int_equal(ops_run(e.store, &op), 0);
		assert_int_equal(op.cont, info.id);
		assert_int_not_equal(op.cont, 0);
		if (i)
			assert_int_equal(op.cont, id);
		id = op.cont;
		if (i)
			eng_reopen(&e);
	}
	eng_end(&e);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(flush_of_another_shard),
	        cmocka_unit_test(failed_flush_of_another_shard),
	        cmocka_unit_test(flush_of_a_checkpoint),
	        cmocka_unit_test(freed_during_a_checkpoint),
	        cmocka_unit_test(cold_read_over_two_checksum_pages),
	        cmocka_unit_test(read_goes_on_when_others_hold_the_requests),
	        cmocka_unit_test(asked_before_it_is_durable),
	        cmocka_unit_test(created_again),
	};

	if (argc > 1) /* one case alone */
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("local engine: order", tests, NULL, NULL);
}
