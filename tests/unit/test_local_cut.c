/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A fixed script of ops, and the power cut at each write and flush of it in turn, with several
 * seeds; in part of the runs also while it recovers. What was acknowledged is there, and what was
 * not is there whole or not at all: the store is in the state of the model after some prefix of the
 * script that holds all that was acknowledged as durable.
 */
#include "eng_util.h"

#define A oid_of(1)
#define B oid_of(2)

struct step {
	uint8_t opcode;
	const char *cont, *name2;
	struct pst_oid oid;
	uint64_t off;
	uint32_t len;
	uint32_t flags;
	struct pst_mut muts[4];
	uint32_t mut_count;
	bool checkpoint; /* begins with this step, and goes on beside the next */
};

static uint8_t data[300 * 1024];

#define W(c, o, off_, len_, fl)                                                                   \
	{                                                                                         \
		.opcode = PST_OP_WRITE, .cont = (c), .oid = {0, o}, .off = (off_), .len = (len_), \
		.flags = (fl)                                                                     \
	}
#define ADMIN(op_, c, s)                                 \
	{                                                \
		.opcode = (op_), .cont = (c), .name2 = s \
	}
#define ARRAY(kind_, o, off_, len_)                                         \
	{                                                                   \
		.kind = kind_, .oid = {0, o}, .off = (off_), .len = (len_), \
	}
#define PUT(o, key_, off_, len_)                                                             \
	{                                                                                    \
		.kind = PST_KV_PUT, .oid = {0, o}, .key = key_, .key_len = sizeof(key_) - 1, \
		.val = data + (off_), .val_len = (len_)                                      \
	}

static const struct step script[] = {
        ADMIN(PST_OP_CONT_CREATE, "a", NULL),
        W("a", 1, 0, 5000, 0),
        W("a", 1, 100, 200, 0),
        W("a", 2, 0, 256 * KIB, 0),
        W("a", 2, 5 * BB, BB, 0),
        W("a", 2, 70 * BB, 2 * BB, PST_F_VOLATILE),
        W("a", 2, 6 * BB + 5, 100, PST_F_VOLATILE),
        {.opcode = PST_OP_FLUSH, .cont = "a"},
        {.opcode = PST_OP_BATCH,
         .cont = "a",
         .muts = {PUT(3, "small", 3, 40), PUT(3, "large", 9, 20000),
                  ARRAY(PST_ARRAY_RESIZE, 1, 3000, 0)},
         .mut_count = 3},
        ADMIN(PST_OP_SNAP_CREATE, "a", "s1"),
        W("a", 2, 3 * BB + 7, 9 * BB, 0),
        {.opcode = PST_OP_WRITE,
         .cont = "a",
         .oid = {0, 2},
         .off = 0,
         .len = 100 * KIB,
         .checkpoint = true},
        W("a", 1, 10, 20, 0),
        {.opcode = PST_OP_BATCH,
         .cont = "a",
         .muts = {PUT(3, "small", 50, 60),
                  {.kind = PST_KV_DEL, .oid = {0, 3}, .key = "large", .key_len = 5},
                  ARRAY(PST_ARRAY_PUNCH, 2, 5000, 50000),
                  ARRAY(PST_OBJ_DELETE, 1, 0, 0)},
         .mut_count = 4},
        W("a", 4, 7, 30000, PST_F_VOLATILE),
        W("a", 4, 8 * BB, BB, PST_F_APPEND),
        ADMIN(PST_OP_SNAP_CREATE, "a", "s2"),
        ADMIN(PST_OP_CONT_CREATE, "b", NULL),
        W("b", 1, 0, 200 * KIB, 0),
        W("b", 1, 11 * BB, 3 * BB, 0),
        {.opcode = PST_OP_SNAP_DESTROY, .cont = "a", .name2 = "s1", .checkpoint = true},
        W("a", 4, 0, 5, 0),
        W("a", 2, 0, 256 * KIB, 0),
        W("b", 1, 11 * BB, 3 * BB, 0),
        ADMIN(PST_OP_CONT_DESTROY, "b", NULL),
        W("a", 5, 0, 256 * KIB, 0),
        ADMIN(PST_OP_SNAP_DESTROY, "a", "s2"),
        {.opcode = PST_OP_WRITE, .cont = "a", .oid = {0, 6}, .len = 256 * KIB, .checkpoint = true},
        {.opcode = PST_OP_BATCH,
         .cont = "a",
         .muts = {ARRAY(PST_OBJ_DELETE, 5, 0, 0), ARRAY(PST_OBJ_DELETE, 6, 0, 0),
                  PUT(9, "k", 1000, 5000)},
         .mut_count = 3},
        W("a", 7, 1, 290 * 1024, 0),
        W("a", 7, 8 * BB, BB, 0),
        W("a", 7, 8 * BB, BB, 0),
        {.opcode = PST_OP_WRITE, .cont = "a", .oid = {0, 8}, .len = 999, .checkpoint = true},
        W("a", 8, 10, 10, PST_F_VOLATILE),
        W("a", 8, 20, 10, PST_F_VOLATILE),
        W("a", 8, 30, 10, 0),
};
#define STEPS ARRAY_LEN(script)

/* The op of step @i; its memory is static, for one at a time. */
static struct pst_op *op_of(unsigned i, uint32_t cont)
{
	static struct pst_op op;
	static struct pst_mut muts[4];
	static struct pst_cont_info cinfo;
	static struct pst_snap_info sinfo;
	static struct iovec iov;
	const struct step *s = &script[i];

	memset(&op, 0, sizeof(op));
	memset(&cinfo, 0, sizeof(cinfo));
	memset(&sinfo, 0, sizeof(sinfo));
	op.opcode = s->opcode;
	op.flags = s->flags;
	if (s->opcode < PST_OP_READ) {
		op.name = s->cont;
		op.name_len = (uint32_t)strlen(s->cont);
		op.name2 = s->name2;
		op.name2_len = s->name2 ? (uint32_t)strlen(s->name2) : 0;
		op.cont_info = &cinfo;
		op.snap_info = &sinfo;
		return &op;
	}
	op.cont = cont;
	op.oid = s->oid;
	op.off = s->off;
	op.len = s->len;
	iov = (struct iovec){data + i * 100, s->len};
	op.iov = &iov;
	op.iov_count = 1;
	memcpy(muts, s->muts, sizeof(muts));
	op.muts = muts;
	op.mut_count = s->mut_count;
	return &op;
}

static struct pst_op *op_at(struct eng *e, unsigned i)
{
	uint32_t id = 0;

	if (script[i].opcode >= PST_OP_READ)
		(void)ops_cont_open(e->store, script[i].cont, &id);
	return op_of(i, id);
}

/* The states after each step, and how many writes and flushes the whole takes. */
struct states {
	struct model *after[STEPS + 1];
	uint64_t mutations;
};

static void states_make(struct states *st, struct eng e)
{
	eng_start(&e);
	st->after[0] = model_new(0);
	model_adopt_ids(st->after[0]);
	for (unsigned i = 0; i < STEPS; i++) {
		struct pst_op *op = op_at(&e, i);

		if (script[i].checkpoint)
			for (unsigned k = 0; k < eng_local(&e)->geo.shards; k++)
				ckpt_want(eng_local(&e)->shard[k]);
		assert_int_equal(ops_run(e.store, op), 0);
		st->after[i + 1] = model_clone(st->after[i]);
		op->done = NULL;
		model_apply(st->after[i + 1], op, loop_now(e.loop));
		assert_int_equal(op->status, 0);
	}
	st->mutations = fault_mutations(e.dev[0]);
	eng_end(&e);
}

/* Runs the script until the power goes; how many steps were acknowledged, and how many of these
 * must be durable. */
static unsigned run_script(struct eng *e, unsigned *ret_durable)
{
	unsigned i;

	*ret_durable = 0;
	for (i = 0; i < STEPS; i++) {
		if (script[i].checkpoint)
			for (unsigned k = 0; k < eng_local(e)->geo.shards; k++)
				ckpt_want(eng_local(e)->shard[k]);
		if (ops_run(e->store, op_at(e, i)))
			break;
		if (!(script[i].flags & PST_F_VOLATILE))
			*ret_durable = i + 1;
	}
	return i;
}

static void judge(struct eng *e, const struct states *st, unsigned durable, unsigned acked)
{
	struct pst_err err = {0}, first = {0};

	for (unsigned i = MIN(acked + 1, (unsigned)STEPS) + 1; i-- > durable;) {
		if (!model_diff(st->after[i], e->store, &err))
			return;
		if (!first.code)
			first = err;
	}
	fail_msg("after %u steps acknowledged and %u durable: %s; %s", acked, durable, first.text,
	         err.text);
}

static void set_u64(struct eng *e, const char *name, uint64_t v)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
	assert_int_equal(fault_set(e->dev[0], name, text, NULL), 0);
}

static void power_off(struct eng *e)
{
	for (unsigned i = 0; i < e->devs; i++)
		fault_cut(e->dev[i]);
	eng_drop(e);
}

static void one_cut(const struct eng *like, const struct states *st, uint64_t at, uint64_t seed)
{
	struct eng e = *like;
	unsigned acked, durable;

	e.seed = seed * 100;
	eng_start(&e);
	if (seed % 2) {
		set_u64(&e, "delay_us", 3);
		set_u64(&e, "delay_jitter_us", 40);
	}
	set_u64(&e, "cut_after", fault_mutations(e.dev[0]) + at);
	acked = run_script(&e, &durable);
	power_off(&e);
	for (unsigned k = 0; k < seed % 3; k++) { /* recovery is cut as well */
		e.seed++;
		eng_open_devs(&e);
		set_u64(&e, "cut_after", 1 + (at + k * 5) % 11);
		if (local_open(&e.store, e.loop, e.dev, e.devs, &e.opts, &e.err))
			e.store = NULL;
		power_off(&e);
	}
	eng_open(&e);
	judge(&e, st, durable, acked);
	/* It can be used. */
	eng_settle(&e);
	assert_int_equal(ops_cont_create(e.store, "z", NULL), 0);
	eng_end(&e);
}

static void sweep(const struct eng *like, uint64_t seeds, uint64_t step)
{
	struct states st;

	eng_fill(data, sizeof(data), 42);
	states_make(&st, *like);
	assert_true(st.mutations > 60);
	for (uint64_t seed = 1; seed <= seeds; seed++)
		for (uint64_t at = 1 + seed % step; at <= st.mutations; at += step)
			one_cut(like, &st, at, seed);
	for (unsigned i = 0; i <= STEPS; i++)
		model_free(st.after[i]);
}

static void one_device(void **state)
{
	sweep(&(struct eng){.dev_bytes = 8 * MIB}, 5, 2);
}

static void two_devices(void **state)
{
	sweep(&(struct eng){.dev_bytes = 8 * MIB, .devs = 2}, 3, 3);
}

/* Only what is durable orders what different shards have: no step is volatile then. */
static void three_shards(void **state)
{
	sweep(&(struct eng){.dev_bytes = 12 * MIB, .format = {.shards = 3}}, 3, 4);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(one_device),
	        cmocka_unit_test(two_devices),
	        cmocka_unit_test(three_shards),
	};

	if (argc > 1) /* one case alone */
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("local engine: power cuts", tests, NULL, NULL);
}
