/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The names layer on the engine, when the power goes: what it has said is there, though it only found it.
 */
#include "session_util.h"

static int create(struct sx *x, uint32_t cont, const char *name, uint32_t flags, uint64_t *ret_ino)
{
	struct pst_op op = names_op(PST_OP_CREATE, cont, name);
	int rc;

	op.flags = flags;
	rc = ops_run(x->fs, &op);
	*ret_ino = op.ino;
	return rc;
}

/* The name was made by what is not durable: who is told that it is there is told so for good. */
static void create_of_what_is_there(void **state)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct sx x = {.eng = {.seed = seed}};
		uint64_t made, found;
		struct pst_op op;
		uint32_t cont;

		sx_start(&x);
		cont = sx_cont(&x, "a", PST_LAYOUT_POSIX);
		op = names_op(PST_OP_CREATE, cont, "first"); /* the root, numbers */
		assert_int_equal(ops_run(x.fs, &op), 0);
		assert_int_equal(create(&x, cont, "f", PST_F_EXCL | PST_F_VOLATILE, &made), 0);
		assert_int_equal(create(&x, cont, "f", 0, &found), 0);
		assert_true(made == found);
		sx_cut(&x);
		op = names_op(PST_OP_LOOKUP, cont, "f");
		assert_int_equal(ops_run(x.fs, &op), 0);
		assert_true(op.ino == made);
		sx_end(&x);
	}
}

/* Of a name that is durable it costs no record, and who does not ask for durability does not wait for it. */
static void create_costs_nothing(void **state)
{
	struct sx x = {0};
	uint64_t made, found, records;
	struct pst_op op;
	uint32_t cont;

	sx_start(&x);
	cont = sx_cont(&x, "a", PST_LAYOUT_POSIX);
	assert_int_equal(create(&x, cont, "f", PST_F_EXCL, &made), 0);
	records = sx_records(&x);
	op = names_op(PST_OP_CREATE, cont, "f");
	assert_int_equal(ops_run(x.fs, &op), 0);
	assert_int_equal(create(&x, cont, "g", PST_F_EXCL | PST_F_VOLATILE, &made), 0);
	assert_int_equal(create(&x, cont, "g", PST_F_VOLATILE, &found), 0);
	assert_true(made == found);
	assert_int_equal(sx_records(&x), records + 1); /* the one that made g */
	sx_end(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(create_of_what_is_there),
	        cmocka_unit_test(create_costs_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
