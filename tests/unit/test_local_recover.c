/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Recovery of the local engine: interrupted anywhere, with requests that fail, and from media on
 * which something is damaged. What was acknowledged is there, or the store says why it does not
 * open; nothing in between.
 */
#include "eng_util.h"

#define BIG (128 * KIB)

/* --- a tail that no mark covers --- */

/*
 * A large write, an overwrite of part of it, and one that is deleted again, all in the frames of
 * one flush: no later frame says that they are durable.
 */
static uint32_t unmarked_tail(struct eng *e)
{
	static uint8_t big[BIG], small[BB];
	struct pst_mut del[] = {MUT_OFF(PST_OBJ_DELETE, oid_of(2), 0, 0)};
	struct pst_op op = {.opcode = PST_OP_BATCH, .flags = PST_F_VOLATILE, .muts = del};
	struct eng_op w;
	uint32_t c;

	assert_int_equal(ops_cont_create(e->store, "a", &c), 0);
	assert_int_equal(eng_put(e, c, oid_of(9), 0, 3 * BB, 9), 0);
	eng_fill(big, sizeof(big), 1);
	eng_fill(small, sizeof(small), 2);
	for (uint64_t o = 1; o <= 2; o++) {
		eng_write_op(&w, c, oid_of(o), 0, big, sizeof(big), PST_F_VOLATILE);
		eng_submit(e, &w);
		assert_int_equal(eng_wait(e, &w), 0);
	}
	eng_write_op(&w, c, oid_of(1), 7 * BB, small, sizeof(small), PST_F_VOLATILE);
	eng_submit(e, &w);
	assert_int_equal(eng_wait(e, &w), 0);
	op.cont = c;
	op.mut_count = 1;
	assert_int_equal(ops_run(e->store, &op), 0);
	assert_int_equal(ops_flush(e->store, c), 0);
	return c;
}

static void expect_tail(struct eng *e, uint32_t c)
{
	static uint8_t want[BIG], got[BIG];
	struct pst_obj_stat st;
	uint64_t n;

	eng_fill(want, sizeof(want), 1);
	eng_fill(want + 7 * BB, BB, 2);
	assert_int_equal(ops_read(e->store, c, 0, oid_of(1), 0, got, BIG, &n), 0);
	assert_int_equal(n, BIG);
	assert_memory_equal(got, want, BIG);
	assert_int_equal(ops_stat(e->store, c, 0, oid_of(2), &st), 0);
	assert_false(st.exists);
	assert_int_equal(eng_expect(e, c, 0, oid_of(9), 0, 3 * BB, 9), 0);
}

static void cut_at(struct eng *e, uint64_t n)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "%llu",
	               (unsigned long long)(fault_mutations(e->dev[0]) + n));
	assert_int_equal(fault_set(e->dev[0], "cut_after", text, NULL), 0);
}

/* The power goes at each write of a checkpoint, when the overwrite is on its way home. */
static void tail_and_checkpoint(void **state)
{
	bool cut = true;

	for (uint64_t n = 1; cut; n++) {
		struct eng e = {.dev_bytes = 8 * MIB, .seed = n};
		uint32_t c;

		assert_true(n < 100);
		eng_start(&e);
		c = unmarked_tail(&e);
		cut_at(&e, n);
		eng_checkpoint(&e);
		cut = fault_is_cut(e.dev[0]);
		eng_drop(&e);
		eng_open(&e);
		expect_tail(&e, c);
		eng_end(&e);
	}
}

/* The power goes at each write of recovery, several times over. */
static void tail_and_recovery(void **state)
{
	bool cut = true;

	for (uint64_t n = 1; cut; n++) {
		struct eng e = {.dev_bytes = 8 * MIB, .seed = n};
		uint32_t c;

		assert_true(n < 100);
		eng_start(&e);
		c = unmarked_tail(&e);
		eng_cut(&e);
		for (uint64_t again = 0; again < 3; again++) {
			e.seed += 100;
			eng_open_devs(&e);
			cut_at(&e, MAX(n - MIN(n - 1, again), 1));
			if (local_open(&e.store, e.loop, e.dev, e.devs, &e.opts, &e.err))
				e.store = NULL;
			cut = fault_is_cut(e.dev[0]);
			eng_drop(&e);
		}
		eng_open(&e);
		expect_tail(&e, c);
		eng_end(&e);
	}
}

static void labels_put(struct eng *e, uint32_t c, uint64_t *ret_pos)
{
	struct log *g = &eng_local(e)->shard[0]->log;
	struct eng_op o[3] = {0};
	struct pst_mut m[3];
	uint64_t seq = g->next_seq;

	*ret_pos = g->head;
	for (unsigned i = 0; i < 3; i++) {
		m[i] = (struct pst_mut){
		        .kind = PST_SET_LABEL, .oid = oid_of(1 + i), .val = "x", .val_len = 1};
		o[i].op = (struct pst_op){
		        .opcode = PST_OP_BATCH, .cont = c, .muts = &m[i], .mut_count = 1};
		eng_submit(e, &o[i]);
		for (unsigned k = 0; g->next_seq == seq + i && k < 1000; k++)
			(void)loop_turn(e->loop, 0);
		assert_int_equal(g->next_seq, seq + i + 1);
	}
	assert_false(o[0].ended); /* or a later frame would say that the first is durable */
	assert_int_equal(g->head, *ret_pos + 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(eng_wait(e, &o[i]), 0);
}

/*
 * Three frames of one flush: the second is torn, the third is whole, and recovery is cut after it
 * has ended the log between them. The recovery after that must not take the third for the successor
 * of what the first one wrote in the torn frame's place.
 */
static void hole_in_the_tail(void **state)
{
	bool cut = true;

	for (uint64_t n = 1; cut; n++) {
		struct eng e = {.dev_bytes = 8 * MIB, .seed = n, .opts.commits_max = 3};
		struct pst_obj_stat st;
		struct local *l;
		uint64_t pos;
		uint32_t c;

		assert_true(n < 100);
		eng_start(&e);
		assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
		eng_settle(&e);
		assert_int_equal(fault_set(e.dev[0], "delay_us", "100", NULL), 0);
		labels_put(&e, c, &pos);
		l = eng_local(&e);
		pos = l->geo.log_start + (pos + 1) % l->geo.log_blocks;
		eng_drop(&e);
		eng_flip(&e, 0, pos, 99);
		eng_open_devs(&e);
		cut_at(&e, n);
		if (local_open(&e.store, e.loop, e.dev, e.devs, &e.opts, &e.err))
			e.store = NULL;
		cut = fault_is_cut(e.dev[0]);
		eng_drop(&e);
		eng_open(&e);
		for (uint64_t i = 0; i < 3; i++) {
			assert_int_equal(ops_stat(e.store, c, 0, oid_of(1 + i), &st), 0);
			assert_int_equal(st.exists, i == 0);
		}
		eng_end(&e);
	}
}

static void by_opening(struct eng *e)
{
	if (local_open(&e->store, e->loop, e->dev, e->devs, &e->opts, &e->err))
		e->store = NULL;
}

static void by_repair(struct eng *e)
{
	struct local_fsck_opts o = {.repair = true};
	struct local_fsck_report rep = {0};

	if (!local_fsck(e->loop, e->dev, e->devs, &o, &rep, &e->err))
		assert_true(rep.findings > 0);
	e->store = NULL;
}

/*
 * The last frame is whole on one device only. Recovery takes it, and is cut somewhere; then that copy
 * goes too. As long as recovery has not relied on it the change may be lost (nobody was told of it);
 * after that it is there. In no case is it damage that keeps the store from opening.
 */
static void tail_on_one(void (*recovered)(struct eng *e), bool hurt)
{
	unsigned lost = 0, there = 0;
	bool cut = true;

	for (uint64_t n = 1; cut; n++) {
		struct eng e = {.dev_bytes = 8 * MIB, .devs = 2, .seed = n};
		struct pst_mut m = {
		        .kind = PST_SET_LABEL, .oid = oid_of(1), .val = "x", .val_len = 1};
		struct pst_obj_stat st;
		struct local *l;
		uint64_t block, header;
		uint32_t c;

		assert_true(n < 100);
		eng_start(&e);
		assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
		eng_settle(&e);
		l = eng_local(&e);
		block = l->geo.log_start + l->shard[0]->log.head % l->geo.log_blocks;
		assert_int_equal(ops_batch(e.store, c, &m, 1), 0);
		header = l->geo.header_start + (l->shard[0]->ckpt.gen + 1) % 2;
		eng_drop(&e);
		for (unsigned d = 0; d < 2 && hurt;
		     d++) /* something to repair, with a checkpoint */
			eng_flip(&e, d, header, 99);
		eng_flip(&e, n % 2, block, 99);
		eng_open_devs(&e);
		for (unsigned d = 0; d < 2; d++) {
			char text[32];

			(void)snprintf(
			        text, sizeof(text), "%llu",
			        (unsigned long long)(fault_mutations(e.dev[d]) + (n + d) / 2));
			assert_int_equal(fault_set(e.dev[d], "cut_after", text, NULL), 0);
		}
		recovered(&e);
		cut = fault_is_cut(e.dev[0]) || fault_is_cut(e.dev[1]);
		eng_drop(&e);
		eng_flip(&e, !(n % 2), block, 99);
		eng_open(&e);
		assert_int_equal(ops_stat(e.store, c, 0, oid_of(1), &st), 0);
		lost += !st.exists;
		there += st.exists;
		eng_end(&e);
	}
	assert_true(lost && there);
}

static void tail_on_one_device(void **state)
{
	tail_on_one(by_opening, false);
}

/* The same where a repair ends the log. */
static void tail_on_one_device_repaired(void **state)
{
	tail_on_one(by_repair, true);
}

/* --- requests that fail --- */

static void some_state(struct eng *e, uint32_t *ret_c)
{
	static uint8_t val[9000];

	*ret_c = unmarked_tail(e);
	eng_checkpoint(e);
	eng_fill(val, sizeof(val), 3);
	assert_int_equal(ops_kv_put(e->store, *ret_c, oid_of(3), "large", val, sizeof(val)), 0);
	assert_int_equal(ops_snap_create(e->store, "a", "s", NULL), 0);
	assert_int_equal(eng_put(e, *ret_c, oid_of(9), BB, BB, 10), 0);
	assert_int_equal(eng_put(e, *ret_c, oid_of(4), 0, 5000, 4), 0);
}

static void expect_state(struct eng *e, uint32_t c)
{
	static uint8_t val[9000], want[9000];
	uint64_t view, n;

	eng_fill(want, sizeof(want), 3);
	assert_int_equal(ops_kv_get(e->store, c, 0, oid_of(3), "large", val, sizeof(val), &n), 0);
	assert_int_equal(n, sizeof(val));
	assert_memory_equal(val, want, n);
	assert_int_equal(ops_snap_open(e->store, "a", "s", &view), 0);
	assert_int_equal(eng_expect(e, c, view, oid_of(9), 0, 3 * BB, 9), 0);
	assert_int_equal(eng_expect(e, c, 0, oid_of(9), BB, BB, 10), 0);
	assert_int_equal(eng_expect(e, c, 0, oid_of(4), 0, 5000, 4), 0);
}

/* Each request of recovery fails in turn, on the same media: the store does not open, or has
 * everything, also later. */
static void each_request_fails(void **state)
{
	static const uint32_t kinds[] = {1 << BDEV_READ, 1 << BDEV_WRITE, 1 << BDEV_FLUSH};
	struct eng e = {.dev_bytes = 8 * MIB};
	uint8_t *image = malloc(e.dev_bytes);
	uint32_t c;

	assert_non_null(image);
	eng_start(&e);
	some_state(&e, &c);
	eng_drop(&e);
	eng_peek(&e, 0, 0, image, (uint32_t)(e.dev_bytes / BB));
	for (unsigned k = 0; k < ARRAY_LEN(kinds); k++) {
		unsigned refused = 0;

		for (uint64_t n = 1; n < 80; n++) {
			int r;

			eng_poke(&e, 0, 0, image, (uint32_t)(e.dev_bytes / BB));
			eng_open_devs(&e);
			fault_fail_at(e.dev[0], kinds[k], n, -EIO);
			r = local_open(&e.store, e.loop, e.dev, e.devs, &e.opts, &e.err);
			if (r) {
				e.store = NULL;
				refused++;
				assert_int_equal(r, -EIO);
				assert_true(e.err.text[0]);
			}
			eng_drop(&e);
			eng_open(&e);
			expect_state(&e, c);
			eng_drop(&e);
		}
		assert_true(refused > 0);
	}
	eng_end(&e);
	free(image);
}

/* Each allocation of recovery fails in turn. */
static void each_allocation_fails(void **state)
{
	for (unsigned devs = 1; devs <= 2; devs++) {
		struct eng e = {.dev_bytes = 8 * MIB, .devs = devs};
		unsigned refused = 0;
		uint64_t asked;
		uint32_t c;

		eng_start(&e);
		some_state(&e, &c);
		eng_drop(&e);
		for (uint64_t n = 1;; n++) {
			int r;

			assert_true(n < 5000);
			eng_open_devs(&e);
			(void)mem_alloc_fail_at(n, false);
			r = local_open(&e.store, e.loop, e.dev, e.devs, &e.opts, &e.err);
			asked = mem_alloc_fail_at(0, false);
			if (r) {
				e.store = NULL;
				refused++;
				if (r != -ENOMEM && r != -EIO)
					fail_msg("allocation %llu: %d, %s", (unsigned long long)n,
					         r, e.err.text);
				assert_true(e.err.text[0]);
				eng_drop(&e);
				continue;
			}
			expect_state(&e, c);
			eng_drop(&e);
			if (asked < n)
				break;
		}
		assert_true(refused > 0);
		eng_end(&e);
	}
}

/* --- opened to be read only --- */

static unsigned entries;

static bool count_entry(struct pst_op *op, const struct pst_entry *entry)
{
	entries++;
	return true;
}

static void scrub_all(struct eng *e)
{
	struct pst_scrub_report rep = {0};
	struct pst_op op = {.opcode = PST_OP_SCRUB, .scrub = &rep};

	assert_int_equal(ops_run(e->store, &op), 0);
	assert_int_equal(rep.errors, 0);
	assert_true(rep.objects > 0);
}

/*
 * A log that is more than half full, and a cache for journaled blocks that is too: reason enough for
 * a store that may write to make a checkpoint and to take blocks home. This one serves everything
 * from what recovery brought back, for as long as it likes, and writes nothing.
 */
static void read_only_after_a_kill(void **state)
{
	struct eng e = {.dev_bytes = 16 * MIB, .devs = 2, .format = {.journal_bytes = MIB}};
	struct pst_op flush = {.opcode = PST_OP_FLUSH};
	struct pst_op list = {.opcode = PST_OP_OBJ_LIST, .entry = count_entry};
	struct pst_obj_stat st;
	uint64_t written, n = 0;
	uint32_t c, other;
	struct shard *s;

	eng_start(&e);
	some_state(&e, &c);
	eng_checkpoint(&e);
	assert_int_equal(fault_set(e.dev[0], "delay_us", "1", NULL), 0);
	s = eng_local(&e)->shard[0];
	for (; log_used(s) <= s->log.blocks / 2; n++)
		assert_int_equal(eng_put(&e, c, oid_of(100 + n % 50), n / 50 * BB, BB, n), 0);
	eng_drop(&e);
	e.opts.read_only = true;
	e.opts.journal_cache_bytes = 64 * BB;
	eng_open(&e);
	written = fault_mutations(e.dev[0]) + fault_mutations(e.dev[1]);
	for (unsigned round = 0; round < 2; round++) {
		eng_settle(&e);
		expect_state(&e, c);
		for (uint64_t i = 0; i < n; i++)
			assert_int_equal(
			        eng_expect(&e, c, 0, oid_of(100 + i % 50), i / 50 * BB, BB, i), 0);
		assert_int_equal(ops_stat(e.store, c, 0, oid_of(9), &st), 0);
		assert_true(st.exists);
		scrub_all(&e);
		assert_int_equal(ops_run(e.store, &flush), 0); /* nothing is volatile */
		assert_int_equal(ops_cont_create(e.store, "x", &other), -EROFS);
	}
	list.cont = c;
	entries = 0;
	assert_int_equal(ops_run(e.store, &list), 0);
	assert_int_equal(entries, 54);
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, BB, 1), -EROFS);
	assert_false(eng_stopped(&e, NULL, 0));
	assert_int_equal(fault_mutations(e.dev[0]) + fault_mutations(e.dev[1]), written);
	assert_int_equal(eng_close(&e), 0);
	eng_end(&e);
}

/* --- damage --- */

struct places {
	uint64_t header, log, log_blocks;
	uint64_t gen, first, end; /* of the log: positions */
};

static void places_get(struct eng *e, struct places *p)
{
	struct local *l = eng_local(e);

	p->header = l->geo.header_start;
	p->log = l->geo.log_start;
	p->log_blocks = l->geo.log_blocks;
	p->gen = l->shard[0]->ckpt.gen;
	p->first = l->shard[0]->log.tail;
	p->end = l->shard[0]->log.head;
}

/*
 * The newest header is damaged. The one before it leads to a refusal, unless nothing was lost with
 * the newest: never to a store without what was acknowledged since.
 */
static void newest_header_damaged(void **state)
{
	for (unsigned rounds = 0; rounds < 4; rounds++) {
		for (unsigned wrap = 0; wrap < 2; wrap++) {
			struct eng e = {.dev_bytes = 16 * MIB};
			struct places p;
			uint32_t c;
			int r;

			eng_start(&e);
			some_state(&e, &c);
			eng_reopen(&e);
			for (unsigned i = 0; i < rounds; i++) {
				if (i)
					eng_checkpoint(&e);
				for (uint64_t k = 0; k < (wrap ? 400 : 3); k++)
					assert_int_equal(
					        eng_put(&e, c, oid_of(100 + i), k % 5 * BB, BB, k),
					        0);
				assert_int_equal(eng_put(&e, c, oid_of(200 + i), 0, 100, i), 0);
			}
			eng_settle(&e);
			places_get(&e, &p);
			eng_drop(&e);
			eng_flip(&e, 0, p.header + p.gen % 2, 333);
			r = eng_try_open(&e);
			if (r) {
				assert_int_equal(r, -EBADMSG);
				assert_true(e.err.text[0]);
			} else {
				expect_state(&e, c);
				for (unsigned i = 0; i < rounds; i++)
					assert_int_equal(
					        eng_expect(&e, c, 0, oid_of(200 + i), 0, 100, i),
					        0);
			}
			eng_end(&e);
		}
	}
}

static void both_headers_damaged(void **state)
{
	struct eng e = {0};
	struct places p;
	uint32_t c;

	eng_start(&e);
	some_state(&e, &c);
	places_get(&e, &p);
	assert_int_equal(eng_close(&e), 0);
	eng_flip(&e, 0, p.header, 99);
	eng_flip(&e, 0, p.header + 1, 99);
	assert_int_equal(eng_try_open(&e), -EBADMSG);
	assert_non_null(strstr(e.err.text, "header"));
	eng_flip(&e, 0, p.header, 99);
	eng_flip(&e, 0, p.header + 1, 99);
	eng_open(&e);
	expect_state(&e, c);
	eng_end(&e);
}

/*
 * A bit flips in one block of the log after another. In what later frames call durable: a refusal
 * that says so. In the last frame: a torn tail, which nobody can tell from it.
 */
static void bit_flips_in_the_log(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB};
	unsigned refused = 0, tails = 0;
	struct places p;
	uint32_t c;

	eng_start(&e);
	some_state(&e, &c);
	eng_settle(&e);
	places_get(&e, &p);
	eng_drop(&e);
	assert_true(p.end > p.first + 5);
	for (uint64_t pos = p.first; pos < p.end; pos++) {
		uint64_t block = p.log + pos % p.log_blocks;
		int r;

		eng_flip(&e, 0, block, 401);
		e.opts.read_only = true;
		r = eng_try_open(&e);
		if (r) {
			assert_int_equal(r, -EBADMSG);
			assert_non_null(strstr(e.err.text, "log"));
			assert_non_null(strstr(e.err.text, "durable"));
			refused++;
		} else { /* beyond the bytes that a frame uses of its last block, or the mark */
			expect_state(&e, c);
			tails++;
			eng_drop(&e);
		}
		e.opts.read_only = false;
		eng_flip(&e, 0, block, 401);
	}
	assert_true(refused >= 4);
	assert_true(tails <= 2);
	eng_open(&e);
	expect_state(&e, c);
	eng_end(&e);
}

/* Two devices: every block of the log and the headers may be damaged on one of them. */
static void one_mirror_of_the_log(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB, .devs = 2};
	struct places p;
	uint32_t c;

	eng_start(&e);
	some_state(&e, &c);
	eng_settle(&e);
	places_get(&e, &p);
	eng_drop(&e);
	for (unsigned d = 0; d < 2; d++) {
		for (uint64_t pos = p.first; pos < p.end; pos++)
			eng_flip(&e, d, p.log + pos % p.log_blocks, 77);
		eng_flip(&e, d, p.header, 99);
		eng_flip(&e, !d, p.header + 1, 99);
		e.opts.read_only = true;
		eng_open(&e);
		expect_state(&e, c);
		eng_drop(&e);
		for (uint64_t pos = p.first; pos < p.end; pos++)
			eng_flip(&e, d, p.log + pos % p.log_blocks, 77);
		eng_flip(&e, d, p.header, 99);
		eng_flip(&e, !d, p.header + 1, 99);
	}
	eng_end(&e);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(tail_and_checkpoint),
	        cmocka_unit_test(tail_and_recovery),
	        cmocka_unit_test(hole_in_the_tail),
	        cmocka_unit_test(each_request_fails),
	        cmocka_unit_test(each_allocation_fails),
	        cmocka_unit_test(newest_header_damaged),
	        cmocka_unit_test(both_headers_damaged),
	        cmocka_unit_test(bit_flips_in_the_log),
	        cmocka_unit_test(tail_on_one_device),
	        cmocka_unit_test(one_mirror_of_the_log),
	        cmocka_unit_test(read_only_after_a_kill),
	        cmocka_unit_test(tail_on_one_device_repaired),
	};

	if (argc > 1) /* one case alone */
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("local engine: recovery", tests, NULL, NULL);
}
