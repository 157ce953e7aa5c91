/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The numbers of a store's openings: drawn anew each time, kept before anybody is told, known for as
 * long as is said, and never in the way of a store that is full.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "session_util.h"

static uint32_t now(const struct sx *x)
{
	return session_table_opening(x->t, x->t->epoch);
}

/* The record of the opening with @epoch, as it lies in the store: its length, or -ENOENT. */
static int64_t record(struct sx *x, uint64_t epoch, uint8_t buf[16])
{
	uint8_t key[9] = {'O'};
	struct pst_op op = {.opcode = PST_OP_KV_GET,
	                    .cont = x->t->sys_cont,
	                    .oid = {SYS_OID_HI, 1},
	                    .key = key,
	                    .key_len = sizeof(key),
	                    .val = buf,
	                    .val_cap = 16};

	for (unsigned i = 0; i < 8; i++)
		key[1 + i] = (uint8_t)(epoch >> (56 - 8 * i));
	return ops_run(x->fs, &op) ? op.status : (int64_t)op.ret_len;
}

/* After restarts and power cuts each opening still has its number, and the next another one. */
static void test_kept(void **state)
{
	struct sx x = {0};
	uint32_t number[6];
	uint64_t first;

	sx_start(&x);
	first = x.t->epoch;
	number[0] = now(&x);
	for (unsigned i = 1; i < ARRAY_LEN(number); i++) {
		if (i % 2)
			sx_cut(&x); /* right after it was opened */
		else
			sx_restart(&x);
		assert_int_equal(x.t->epoch, first + i);
		number[i] = now(&x);
		assert_true(number[i] > OPENING_NONE);
		for (unsigned k = 0; k < i; k++) {
			assert_int_equal(session_table_opening(x.t, first + k), number[k]);
			assert_int_not_equal(number[k], number[i]);
		}
	}
	sx_end(&x);
}

/* What was opened without a table has none, as what was never opened. */
static void test_none(void **state)
{
	struct sx x = {0};
	uint64_t epoch;
	uint32_t was;

	sx_start(&x);
	epoch = x.t->epoch;
	was = now(&x);
	sx_stop(&x);
	eng_reopen(&x.eng);
	eng_reopen(&x.eng);
	x.bottom.caps = x.eng.store->caps;
	assert_int_equal(sx_try_open(&x), 0);
	assert_int_equal(x.t->epoch, epoch + 2);
	assert_int_equal(session_table_opening(x.t, epoch), was);
	assert_int_equal(session_table_opening(x.t, epoch + 1), OPENING_NONE);
	assert_true(now(&x) > OPENING_NONE);
	assert_int_equal(session_table_opening(x.t, epoch + 3), OPENING_NONE);
	assert_int_equal(session_table_opening(x.t, epoch - 1), OPENING_NONE);
	sx_end(&x);
}

/* A table that is closed and opened while the store stays open. */
static void test_same_opening(void **state)
{
	struct sx x = {0};
	uint32_t was;

	sx_start(&x);
	was = now(&x);
	sx_stop(&x);
	assert_int_equal(sx_try_open(&x), 0);
	assert_int_equal(now(&x), was);
	sx_end(&x);
}

/* So many are kept, and no more. */
static void test_oldest_go(void **state)
{
	struct sx x = {0};
	uint64_t first;
	uint32_t second;
	uint8_t buf[16];

	sx_start(&x);
	first = x.t->epoch;
	sx_restart(&x);
	second = now(&x);
	for (unsigned i = 2; i < OPENINGS_MAX; i++)
		sx_restart(&x);
	assert_true(session_table_opening(x.t, first) > OPENING_NONE);
	assert_int_equal(record(&x, first, buf), 4);
	sx_restart(&x);
	assert_int_equal(x.t->epoch, first + OPENINGS_MAX);
	assert_int_equal(session_table_opening(x.t, first), OPENING_UNKNOWN);
	assert_int_equal(session_table_opening(x.t, first + 1), second);
	assert_int_equal(record(&x, first, buf), -ENOENT);
	assert_int_equal(record(&x, first + 1, buf), 4);
	sx_restart(&x);
	assert_int_equal(session_table_opening(x.t, first + 1), OPENING_UNKNOWN);
	assert_int_equal(record(&x, first + 1, buf), -ENOENT);
	sx_end(&x);
}

/* The record is the number, little-endian. */
static void test_golden(void **state)
{
	struct sx x = {0};
	uint8_t buf[16];
	uint32_t n;

	sx_start(&x);
	n = now(&x);
	assert_int_equal(record(&x, x.t->epoch, buf), 4);
	assert_memory_equal(buf,
	                    ((uint8_t[]){(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16),
	                                 (uint8_t)(n >> 24)}),
	                    4);
	sx_end(&x);
}

/* Records that no program of ours made. */
static void test_damaged(void **state)
{
	static const struct {
		uint8_t epoch, len, number;
	} bad[] = {{1, 3, 7}, {1, 5, 7}, {1, 4, OPENING_UNKNOWN}, {1, 4, OPENING_NONE}, {99, 4, 7}};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct sx x = {0};
		uint8_t key[9] = {'O', 0, 0, 0, 0, 0, 0, 0, bad[i].epoch}, val[5] = {bad[i].number};
		struct pst_mut m = {.kind = PST_KV_PUT,
		                    .oid = {SYS_OID_HI, 1},
		                    .key = key,
		                    .key_len = sizeof(key),
		                    .val = val,
		                    .val_len = bad[i].len};
		uint32_t cont;

		sx_start(&x);
		cont = x.t->sys_cont;
		session_table_close(x.t);
		assert_int_equal(ops_batch(x.fs, cont, &m, 1), 0);
		assert_int_equal(session_table_open(&x.t, &x.door, &x.opts, &x.err), -EBADMSG);
		assert_non_null(strstr(x.err.text, "kind 'O'"));
		x.t = NULL;
		assert_int_equal(store_close(x.fs), 0);
		eng_end(&x.eng);
	}
}

/* --- a store that takes no record --- */

struct refuser {
	struct store store, *below;
	int status; /* of batches; 0: it takes them */
};

static enum pst_outcome refuser_submit(struct store *s, struct pst_op *op)
{
	struct refuser *r = container_of(s, struct refuser, store);

	if (op->opcode != PST_OP_BATCH || !r->status)
		return store_submit(r->below, op);
	op->status = r->status;
	return PST_DONE;
}

static void refuser_cancel(struct store *s, struct pst_op *op)
{
}

static int refuser_close(struct store *s)
{
	return 0;
}

static const struct store_ops refuser_ops = {"refuser", refuser_submit, refuser_cancel,
                                             refuser_close};

/* Opens the store again, and a table on it that can keep nothing: what that gives. */
static int open_refused(struct sx *x, struct refuser *r, int status)
{
	sx_stop(x);
	eng_reopen(&x->eng);
	x->bottom.caps = x->eng.store->caps;
	assert_int_equal(fs_new(&x->fs, &x->bottom, NULL, &x->err), 0);
	*r = (struct refuser){.store = *x->fs, .below = x->fs, .status = status};
	r->store.ops = &refuser_ops;
	return session_table_open(&x->t, &r->store, &x->opts, &x->err);
}

static unsigned warnings;

static void hear(void *arg, enum pst_log_level level, const char *line)
{
	warnings += level == PST_LOG_WARN && strstr(line, "can't be kept") != NULL;
}

/* It is served, it is said, and what was not kept is not told. */
static void test_full(void **state)
{
	static const int full[] = {-ENOSPC, -EDQUOT};

	for (unsigned i = 0; i < ARRAY_LEN(full); i++) {
		struct refuser r;
		struct sx x = {0};
		uint64_t epoch;
		uint32_t was;

		sx_start(&x);
		was = now(&x);
		epoch = x.t->epoch;
		warnings = 0;
		pst_log_set(hear, NULL, PST_LOG_WARN);
		assert_int_equal(open_refused(&x, &r, full[i]), 0);
		pst_log_set(NULL, NULL, PST_LOG_WARN);
		assert_int_equal(warnings, 1);
		assert_int_equal(x.t->epoch, epoch + 1);
		assert_int_equal(now(&x), OPENING_UNKNOWN);
		assert_int_equal(session_table_opening(x.t, epoch), was);
		sx_end(&x);
	}
}

static void test_fails(void **state)
{
	static const int bad[] = {-EIO, -EROFS, -ENOMEM};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct refuser r;
		struct sx x = {0};

		sx_start(&x);
		assert_int_equal(open_refused(&x, &r, bad[i]), bad[i]);
		assert_non_null(strstr(x.err.text, "the number of this opening can't be kept"));
		assert_null(x.t);
		assert_int_equal(store_close(x.fs), 0);
		eng_end(&x.eng);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_kept),         cmocka_unit_test(test_none),
	        cmocka_unit_test(test_same_opening), cmocka_unit_test(test_oldest_go),
	        cmocka_unit_test(test_golden),       cmocka_unit_test(test_damaged),
	        cmocka_unit_test(test_full),         cmocka_unit_test(test_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
