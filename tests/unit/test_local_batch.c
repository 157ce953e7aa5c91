/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Batches whose entries touch the same blocks one after another, compared with the model; and the
 * shapes of single writes that the engine takes apart in different ways.
 */
#include "eng_util.h"

#define SPAN (96 * KIB)

struct pair { /* the engine and its model */
	struct eng e;
	struct model *m;
	uint32_t cont;
};

static void pair_run(struct pair *p, struct pst_op *op)
{
	struct pst_op twin = *op;
	struct pst_mut muts[PST_BATCH_MAX];
	int r;

	if (op->mut_count)
		memcpy(muts, op->muts, op->mut_count * sizeof(*muts));
	twin.muts = muts;
	r = ops_run(p->e.store, op);
	model_apply(p->m, &twin, loop_now(p->e.loop));
	assert_int_equal(r, twin.status);
	if (!r && op->opcode == PST_OP_BATCH) {
		assert_int_equal(op->ret_off, twin.ret_off);
		assert_int_equal(op->ret_len, twin.ret_len);
	}
}

static void pair_diff(struct pair *p)
{
	struct pst_err err = {0};

	if (model_diff(p->m, p->e.store, &err))
		fail_msg("%s", err.text);
}

static void pair_snap(struct pair *p, const char *name)
{
	struct pst_snap_info info = {0};
	struct pst_op op = {.opcode = PST_OP_SNAP_CREATE,
	                    .name = "a",
	                    .name_len = 1,
	                    .name2 = name,
	                    .name2_len = (uint32_t)strlen(name),
	                    .snap_info = &info};

	pair_run(p, &op);
}

static void pair_start(struct pair *p)
{
	struct pst_cont_info info = {0};
	struct pst_op op = {
	        .opcode = PST_OP_CONT_CREATE, .name = "a", .name_len = 1, .cont_info = &info};

	eng_start(&p->e);
	p->m = model_new(0);
	model_adopt_ids(p->m);
	pair_run(p, &op);
	p->cont = info.id;
	assert_int_not_equal(p->cont, 0);
}

static void pair_end(struct pair *p)
{
	model_free(p->m);
	eng_end(&p->e);
}

static int pair_batch(struct pair *p, struct pst_mut *muts, uint32_t count, uint32_t flags)
{
	struct pst_op op = {.opcode = PST_OP_BATCH,
	                    .flags = flags,
	                    .cont = p->cont,
	                    .muts = muts,
	                    .mut_count = count};

	pair_run(p, &op);
	return op.status;
}

/* --- one after another --- */

/* A resize that grows the array within its last block leaves what is there. */
static void grow_within_a_block(void **state)
{
	struct pair p = {0};
	static uint8_t w[3 * BB];

	eng_fill(w, sizeof(w), 1);
	pair_start(&p);
	for (uint64_t size = 100; size < 2 * BB + 100; size += BB - 50) {
		struct pst_oid o = oid_of(size);
		struct pst_mut first[] = {MUT_WRITE(o, 0, w, size)};
		struct pst_mut grow[] = {MUT_OFF(PST_ARRAY_RESIZE, o, size + 100, 0),
		                         MUT_WRITE(o, size + 200, w, 10)};
		struct pst_mut shrink[] = {MUT_OFF(PST_ARRAY_RESIZE, o, size - 50, 0),
		                           MUT_OFF(PST_ARRAY_RESIZE, o, size, 0),
		                           MUT_WRITE(o, size + 7, w, 10)};
		struct pst_mut punch[] = {
		        MUT_OFF(PST_ARRAY_PUNCH, o, 10, 20), MUT_WRITE(o, 40, w, 10),
		        MUT_OFF(PST_ARRAY_PUNCH, o, 45, BB), MUT_WRITE(o, 47, w, 1)};

		assert_int_equal(pair_batch(&p, first, 1, 0), 0);
		assert_int_equal(pair_batch(&p, grow, 2, 0), 0);
		pair_diff(&p);
		assert_int_equal(pair_batch(&p, shrink, 3, 0), 0);
		pair_diff(&p);
		assert_int_equal(pair_batch(&p, punch, 4, 0), 0);
		pair_diff(&p);
	}
	pair_end(&p);
}

static void write_punch_resize_delete_write(void **state)
{
	struct pair p = {0};
	static uint8_t a[5 * BB], b[700];

	eng_fill(a, sizeof(a), 1);
	eng_fill(b, sizeof(b), 2);
	pair_start(&p);
	for (unsigned i = 0; i < 2; i++) { /* on nothing, and on what the first left */
		struct pst_oid o = oid_of(1), other = oid_of(2);
		struct pst_mut m[] = {
		        MUT_WRITE(o, 100, a, sizeof(a)),
		        MUT_OFF(PST_ARRAY_PUNCH, o, 4000, 5000),
		        MUT_WRITE(other, 4090, b, sizeof(b)),
		        MUT_OFF(PST_ARRAY_RESIZE, o, 9999, 0),
		        MUT_WRITE(o, 9990, b, sizeof(b)),
		        MUT_OFF(PST_OBJ_DELETE, other, 0, 0),
		        MUT_WRITE(other, 10, b, 20),
		        MUT_OFF(PST_OBJ_DELETE, o, 0, 0),
		        MUT_WRITE(o, 5000, b, sizeof(b)),
		        MUT_PUT(o, "k", "v", 1),
		        {.kind = PST_ARRAY_APPEND, .oid = o, .val = b, .val_len = 700, .len = 700},
		};

		assert_int_equal(pair_batch(&p, m, ARRAY_LEN(m), 0), 0);
		pair_diff(&p);
	}
	pair_end(&p);
}

/* --- at random --- */

static void random_mut(struct rng *r, struct pst_mut *m, uint8_t *data)
{
	static const uint8_t kinds[] = {PST_ARRAY_WRITE, PST_ARRAY_WRITE,  PST_ARRAY_WRITE,
	                                PST_ARRAY_PUNCH, PST_ARRAY_RESIZE, PST_ARRAY_APPEND,
	                                PST_OBJ_DELETE,  PST_KV_PUT};
	bool whole = rng_below(r, 3) == 0;

	*m = (struct pst_mut){.kind = kinds[rng_below(r, ARRAY_LEN(kinds))],
	                      .oid = oid_of(1 + rng_below(r, 2)),
	                      .off = rng_below(r, SPAN)};
	m->len = 1 + rng_below(r, rng_below(r, 2) ? 200 : 30000);
	if (whole) {
		m->off = ALIGN_DOWN(m->off, BB);
		m->len = ALIGN_UP(m->len, BB);
	}
	if (m->kind == PST_ARRAY_WRITE || m->kind == PST_ARRAY_APPEND) {
		m->val = data + rng_below(r, 4096);
		m->val_len = (uint32_t)m->len;
	} else if (m->kind == PST_KV_PUT) {
		m->key = "key";
		m->key_len = 1 + (uint32_t)rng_below(r, 3);
		m->val = data;
		m->val_len = (uint32_t)rng_below(r, rng_below(r, 2) ? 100 : 20000);
		m->len = m->off = 0;
	}
}

static void random_batches(void **state)
{
	static uint8_t data[64 * KIB];

	eng_fill(data, sizeof(data), 77);
	for (uint64_t seed = 1; seed <= 12; seed++) {
		struct pair p = {.e = {.dev_bytes = 64 * MIB,
		                       .format = {.shards = seed % 3 + 1,
		                                  .region_bytes = 256 * KIB,
		                                  .journal_bytes = (seed % 3 + 1) * 4 * MIB}}};
		struct rng r;

		rng_seed(&r, seed);
		pair_start(&p);
		for (unsigned i = 0; i < 150; i++) {
			struct pst_mut m[6];
			uint32_t n = 1 + (uint32_t)rng_below(&r, 6);

			for (uint32_t k = 0; k < n; k++)
				random_mut(&r, &m[k], data);
			pair_batch(&p, m, n, rng_below(&r, 2) ? PST_F_VOLATILE : 0);
			if (i % 50 == 49) {
				char name[16];

				(void)snprintf(name, sizeof(name), "s%u", i);
				pair_snap(&p, name);
			}
			if (rng_below(&r, 12) == 0)
				pair_diff(&p);
			if (rng_below(&r, 30) == 0)
				eng_reopen(&p.e);
		}
		pair_diff(&p);
		assert_int_equal(ops_flush(p.e.store, 0), 0);
		eng_drop(&p.e);
		eng_open(&p.e);
		pair_diff(&p);
		assert_int_equal(eng_local(&p.e)->shard[0]->env.overdrafts, 0);
		pair_end(&p);
	}
}

/* --- shapes of writes --- */

/* On the smallest log, over what a snapshot holds, no write of up to 4 MiB is too big. */
static void any_write_over_a_snapshot(void **state)
{
	static const uint32_t len[] = {1, BB, 15 * BB, 16 * BB, 17 * BB, 18 * BB, 33 * BB, MIB};
	static uint8_t data[2 * MIB];
	struct pair p = {.e = {.format = {.journal_bytes = 1}}};
	unsigned snaps = 0;

	eng_fill(data, sizeof(data), 5);
	pair_start(&p);
	for (unsigned i = 0; i < ARRAY_LEN(len); i++) {
		for (uint64_t off = 0; off < 40 * BB; off += 5 * BB + 1) {
			struct pst_mut base[] = {MUT_WRITE(oid_of(1), 0, data, sizeof(data))};
			struct pst_mut over[] = {MUT_WRITE(oid_of(1), off, data + 77, len[i])};
			char name[16];

			assert_int_equal(pair_batch(&p, base, 1, 0), 0);
			(void)snprintf(name, sizeof(name), "s%u", snaps);
			pair_snap(&p, name);
			assert_int_equal(pair_batch(&p, over, 1, 0), 0);
			pair_diff(&p);
			struct pst_op op = {.opcode = PST_OP_SNAP_DESTROY,
			                    .name = "a",
			                    .name_len = 1,
			                    .name2 = name,
			                    .name2_len = (uint32_t)strlen(name)};
			pair_run(&p, &op);
			snaps++;
		}
	}
	pair_end(&p);
}

/* A batch that needs more journaled blocks than there may ever be is refused, not put off for
 * good. */
static void batch_beyond_the_journal(void **state)
{
	struct pair p = {.e = {.dev_bytes = 96 * MIB,
	                       .opts = {.journal_cache_bytes = 64 * BB},
	                       .format = {.journal_bytes = 32 * MIB}}};
	static uint8_t data[MIB];
	struct pst_mut two[] = {MUT_WRITE(oid_of(1), 0, data, MIB / 2),
	                        MUT_WRITE(oid_of(1), MIB / 4, data, MIB / 2)};
	struct pst_op op = {.opcode = PST_OP_BATCH, .muts = two, .mut_count = 2};

	pair_start(&p);
	op.cont = p.cont;
	assert_int_equal(ops_run(p.e.store, &op), -E2BIG);
	pair_diff(&p);
	pair_end(&p);
}

/* --- what a batch takes of the index's memory --- */

/* The last batch did with what was reserved for it. */
static void expect_reserved(struct eng *e)
{
	const struct bt_env *env = &eng_local(e)->shard[0]->env;

	assert_int_equal(env->overdrafts, 0);
	assert_true(env->reserved > 0);
}

/* The large objects lie far apart in the index, among the small ones. */
static struct pst_oid large(uint64_t o)
{
	return oid_of(1000 + 100 * o);
}

/* Objects of one block, until there is no space; then every second goes: what is free lies in single
 * blocks. */
static void shatter_free_space(struct eng *e, uint32_t c)
{
	uint64_t n = 0;

	while (!eng_put(e, c, oid_of(1001 + 2 * n), 0, BB, n))
		n++;
	assert_true(n > 500);
	for (uint64_t i = 0; i < n; i += 2) {
		struct pst_mut del = MUT_OFF(PST_OBJ_DELETE, oid_of(1001 + 2 * i), 0, 0);

		assert_int_equal(ops_batch(e->store, c, &del, 1), 0);
	}
	eng_settle(e);
}

/*
 * Small writes into the middle of large extents that a snapshot shares, block by block, since there is
 * nothing but single free blocks; each time right after a checkpoint, so that every page is shared
 * too. With them keys of the greatest length, which split leaves.
 */
static void tree_changes_at_worst(void **state)
{
	struct eng e = {.dev_bytes = 20 * MIB, .format = {.journal_bytes = 8 * MIB}};
	static uint8_t buf[20 * BB];
	char key[PST_KEY_MAX + 1];
	uint32_t c;

	eng_start(&e);
	memset(key, 'k', PST_KEY_MAX);
	key[PST_KEY_MAX] = 0;
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	for (uint64_t o = 1; o <= 8; o++)
		assert_int_equal(eng_put(&e, c, large(o), 0, 48 * BB, o), 0);
	shatter_free_space(&e, c);
	assert_int_equal(ops_snap_create(e.store, "a", "s", NULL), 0);
	for (unsigned round = 0; round < 12; round++) {
		struct pst_mut m[12];
		uint32_t n = 0;

		eng_checkpoint(&e);
		for (uint64_t o = 1; o <= (round % 2 ? 1 : 4); o++) {
			uint64_t at = (3 + 5 * (round / 2)) * BB + 100;

			m[n++] = (struct pst_mut)MUT_WRITE(large(o + round % 8 / 4 * 4), at, buf,
			                                   (round % 3 * 6 + 1) * BB);
			key[0] = (char)('a' + round);
			key[1] = (char)('a' + o);
			m[n++] = (struct pst_mut)MUT_PUT(large(o), key, buf, 400);
			m[n++] = (struct pst_mut){.kind = PST_SET_LABEL,
			                          .oid = large(o),
			                          .val = buf,
			                          .val_len = 1 + round};
		}
		assert_int_equal(ops_batch(e.store, c, m, n), 0);
		expect_reserved(&e);
	}
	for (uint64_t o = 1; o <= 8; o++) { /* with all their pieces and keys */
		struct pst_mut cut = MUT_OFF(PST_ARRAY_PUNCH, large(o), 2 * BB + 1, 40 * BB);
		struct pst_mut del = MUT_OFF(PST_OBJ_DELETE, large(o), 0, 0);

		eng_checkpoint(&e);
		assert_int_equal(ops_batch(e.store, c, &cut, 1), 0);
		expect_reserved(&e);
		eng_checkpoint(&e);
		assert_int_equal(ops_batch(e.store, c, &del, 1), 0);
		expect_reserved(&e);
	}
	eng_end(&e);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(grow_within_a_block),
	        cmocka_unit_test(write_punch_resize_delete_write),
	        cmocka_unit_test(random_batches),
	        cmocka_unit_test(any_write_over_a_snapshot),
	        cmocka_unit_test(batch_beyond_the_journal),
	        cmocka_unit_test(tree_changes_at_worst),
	};

	if (argc > 1) /* one case alone */
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("local engine: batches", tests, NULL, NULL);
}
