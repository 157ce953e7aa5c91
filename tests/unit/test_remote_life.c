/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a remote store makes of a server that comes back as something else: another store behind the
 * same address, the same one from an older copy, one that has forgotten the session; and that a
 * client that leaves, or is gone, leaves nothing behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "raw_client.h"
#include "served.h"

#define DEV_BYTES (16 * MIB)

struct rig {
	struct served s;
	uint32_t cont;
	char log[4096]; /* what was said, line by line */
};

static void hear(void *arg, enum pst_log_level level, const char *line)
{
	struct rig *g = arg;
	size_t len = strlen(g->log);

	(void)snprintf(g->log + len, sizeof(g->log) - len, "%s\n", line);
}

static int setup(void **state)
{
	struct rig *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	*state = g;
	pst_log_set(hear, g, PST_LOG_WARN);
	g->s.so.open_access = true;
	served_start(&g->s, NSEC_PER_SEC);
	assert_int_equal(ops_cont_create(g->s.store, "c", &g->cont), 0);
	assert_int_equal(served_client(&g->s, NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	struct rig *g = *state;

	served_end(&g->s);
	pst_log_set(NULL, NULL, PST_LOG_WARN);
	free(g);
	return 0;
}

static uint64_t requests(const struct rig *g)
{
	struct wire_figures f;

	wire_listener_figures(g->s.listener, &f);
	return f.requests;
}

static int write_one(struct rig *g)
{
	return ops_write(g->s.remote, g->cont, oid_of(1), 0, "hello", 5);
}

/* Its ops end, it says why, and the other store has seen none of them. */
static void another_store(void **state)
{
	struct rig *g = *state;
	uint64_t before;

	assert_int_equal(write_one(g), 0);
	served_down(&g->s);
	g->s.device = "two";
	served_format(&g->s);
	served_up(&g->s);
	before = requests(g);
	assert_int_equal(write_one(g), -ESTALE);
	assert_int_equal(requests(g), before);
	assert_non_null(strstr(g->log, "another store is served here than before"));
}

/* --- the same store as it was before the client's last changes: they must not seem to be there --- */

/* Of the device of a server that is down; to be freed. */
static uint8_t *copy_of(struct rig *g)
{
	uint8_t *copy = aligned_alloc(4096, DEV_BYTES);
	struct bdev *dev = served_device(&g->s);

	assert_non_null(copy);
	assert_int_equal(bdev_read_sync(dev, 0, copy, DEV_BYTES), 0);
	bdev_close(dev);
	return copy;
}

static void put_back(struct rig *g, uint8_t *copy)
{
	struct bdev *dev = served_device(&g->s);

	assert_int_equal(bdev_write_sync(dev, 0, copy, DEV_BYTES, 0), 0);
	bdev_close(dev);
	free(copy);
}

/* The server is started @times from what lies there now, and the client hears of the last start alone. */
static void up_again(struct rig *g, int times)
{
	while (--times > 0) {
		served_up(&g->s);
		served_down(&g->s);
	}
	served_up(&g->s);
}

static void found_out(struct rig *g)
{
	uint64_t before = requests(g);

	assert_int_equal(write_one(g), -ESTALE);
	assert_int_equal(requests(g), before);
	assert_non_null(strstr(g->log, "the store went back in time"));
	assert_non_null(strstr(g->log, "it was restored from an older copy"));
	assert_null(strstr(g->log, "has an unknown outcome"));
}

static void an_older_copy(void **state)
{
	struct rig *g = *state;
	uint8_t *copy;

	served_down(&g->s);
	copy = copy_of(g);
	/* Twice, so that the copy is of before what the client saw when it connected again. */
	for (int i = 0; i < 2; i++) {
		served_up(&g->s);
		assert_int_equal(write_one(g), 0);
		served_down(&g->s);
	}
	put_back(g, copy);
	served_up(&g->s);
	found_out(g);
	assert_non_null(strstr(g->log, "when it was last seen"));
}

/* The same number of times opened as when the client saw it, and once and twice more. */
static void a_copy_as_often_opened(void **state)
{
	for (int times = 1; times <= 3; times++) {
		struct rig *g = *state;
		uint8_t *copy;

		served_down(&g->s);
		copy = copy_of(g);
		served_up(&g->s);
		assert_int_equal(write_one(g), 0);
		served_down(&g->s);
		put_back(g, copy);
		up_again(g, times);
		found_out(g);
		assert_non_null(strstr(g->log, "is not the one that was seen"));
		(void)teardown(state);
		(void)setup(state);
	}
}

/* The copy is of before the session, so that its server refuses the client: not as one that has expired. */
static void a_copy_without_the_session(void **state)
{
	for (int times = 1; times <= 2; times++) {
		struct rig *g = *state;
		uint8_t *copy;

		served_hang_up(&g->s);
		served_down(&g->s);
		copy = copy_of(g);
		served_up(&g->s);
		assert_int_equal(served_client(&g->s, NULL), 0);
		assert_int_equal(write_one(g), 0);
		served_down(&g->s);
		put_back(g, copy);
		up_again(g, times);
		found_out(g);
		(void)teardown(state);
		(void)setup(state);
	}
}

/* Nor as one whose capability was never granted. */
static void a_copy_without_the_capability(void **state)
{
	struct cap_info info = {.cont_name = "c", .rights = RIGHTS_ALL};
	struct rig *g = *state;
	uint8_t *copy;

	served_hang_up(&g->s);
	served_down(&g->s);
	copy = copy_of(g);
	served_up(&g->s);
	served_grant(&g->s, &info);
	assert_int_equal(served_client(&g->s, g->s.op.token), 0);
	assert_int_equal(write_one(g), 0);
	served_down(&g->s);
	put_back(g, copy);
	served_up(&g->s);
	found_out(g);
}

static void open_by_a_tool(struct rig *g)
{
	struct bdev *dev = served_device(&g->s);
	struct store *engine;

	assert_int_equal(local_open(&engine, g->s.loop, &dev, 1, NULL, NULL), 0);
	assert_int_equal(store_close(engine), 0);
}

/* What the server was in between does not matter, as long as nothing is missing: stopped, killed, opened by tools. */
static void no_copy_at_all(void **state)
{
	struct rig *g = *state;

	for (int i = 0; i < 6; i++) {
		if (i % 2)
			served_crash(&g->s);
		else
			served_down(&g->s);
		if (i % 3 == 0)
			open_by_a_tool(g);
		up_again(g, 1 + i % 3);
		assert_int_equal(write_one(g), 0);
	}
	assert_null(strstr(g->log, "went back in time"));
}

/* A hello by hand: of a session that there is not, of the store @uuid, last seen in @epoch. */
static const struct wire_welcome *told(struct rig *g, const uint8_t uuid[16], uint64_t epoch)
{
	static struct raw_client raw;
	struct wire_welcome was = {.session = 4711, .epoch = epoch};

	memcpy(was.store, uuid, sizeof(was.store));
	raw_connect(&raw, g->s.loop);
	assert_int_equal(raw_hello(&raw, NULL, &was), -ESTALE);
	raw_hang_up(&raw);
	return &raw.welcome;
}

/* Who knows the store is told where it is now, and what it was in the epoch that he saw; who doesn't, nothing. */
static void who_is_told_what(void **state)
{
	static const uint8_t nobody[16];
	struct rig *g = *state;
	const struct wire_welcome *w;
	uint8_t uuid[16];
	uint32_t was;
	uint64_t epoch;

	session_table_identity(g->s.table, uuid, &epoch);
	was = session_table_opening(g->s.table, epoch);
	served_hang_up(&g->s);
	served_restart(&g->s);
	w = told(g, uuid, epoch);
	assert_memory_equal(w->store, uuid, sizeof(uuid));
	assert_int_equal(w->epoch, epoch + 1);
	assert_int_equal(w->opening, session_table_opening(g->s.table, epoch + 1));
	assert_int_equal(w->opening_seen, was);
	assert_int_not_equal(w->opening, was);
	w = told(g, uuid, epoch + 1);
	assert_int_equal(w->opening_seen, w->opening);
	w = told(g, uuid, epoch + 2);
	assert_int_equal(w->opening_seen, OPENING_NONE);
	w = told(g, nobody, epoch);
	assert_memory_equal(w->store, nobody, sizeof(nobody));
	assert_int_equal(w->epoch | w->opening | w->opening_seen, 0);
	assert_int_equal(served_client(&g->s, NULL), 0);
}

static void ended(struct pst_op *op)
{
	op->user = op;
}

/* A change was sent, the server was away for longer than a session lives: nobody knows. */
static void a_session_expired(void **state)
{
	struct rig *g = *state;
	struct iovec iov = {(char[]){"hello"}, 5};
	struct remote_figures f;
	struct pst_op op = {.opcode = PST_OP_WRITE, .oid = oid_of(1), .iov = &iov, .len = 5};
	struct pst_op never = {.opcode = PST_OP_WRITE, .oid = oid_of(2), .iov = &iov, .len = 5};

	op.cont = never.cont = g->cont;
	op.iov_count = never.iov_count = 1;
	op.done = never.done = ended;
	assert_int_equal(store_submit(g->s.remote, &op), PST_QUEUED);
	served_crash(&g->s);
	do {
		(void)loop_turn(g->s.loop, NSEC_PER_MSEC);
		remote_figures(g->s.remote, &f);
	} while (f.provider);
	assert_int_equal(store_submit(g->s.remote, &never), PST_QUEUED);
	g->s.so.expiry_ns = NSEC_PER_MSEC;
	served_up(&g->s);
	for (int i = 0; i < 5; i++) /* the session ends before the client is there again */
		(void)loop_turn(g->s.loop, NSEC_PER_MSEC);
	for (int i = 0; i < 100000 && !(op.user && never.user); i++)
		(void)loop_turn(g->s.loop, NSEC_PER_MSEC);
	assert_ptr_equal(op.user, &op);
	assert_int_equal(op.status, -ESTALE);
	assert_ptr_equal(never.user, &never); /* that one was never sent: it goes on */
	assert_int_equal(never.status, 0);
	assert_non_null(strstr(g->log, "has an unknown outcome"));
}

/* Whoever says goodbye leaves no session behind; whoever is gone leaves one until it expires. */
static void leaving(void **state)
{
	struct rig *g = *state;
	struct table_figures f;

	session_table_figures(g->s.table, &f);
	assert_int_equal(f.sessions, 1);
	served_hang_up(&g->s);
	served_sleep(&g->s, 100 * NSEC_PER_MSEC);
	session_table_figures(g->s.table, &f);
	assert_int_equal(f.sessions, 0);
	assert_int_equal(f.closed, 1);
	assert_int_equal(served_client(&g->s, NULL), 0);
}

/* A refused change uses its number: those that follow in its slot are taken. */
static void refused_and_on(void **state)
{
	struct rig *g = *state;
	struct table_figures f;

	for (int i = 0; i < 5; i++) {
		assert_int_equal(write_one(g), 0);
		assert_int_equal(ops_write(g->s.remote, 1, oid_of(1), 0, "x", 1), -ENOENT);
	}
	session_table_figures(g->s.table, &f);
	assert_int_equal(f.cut_off, 0);
	assert_true(f.refused >= 5);
}

/* reconnect=0: a connection that is lost is the end of it, at once, and stays so. */
static void not_again(void **state)
{
	struct rig *g = *state;
	struct iovec iov = {(char[]){"hello"}, 5};
	struct pst_op op = {.opcode = PST_OP_WRITE, .oid = oid_of(1), .iov = &iov, .len = 5};
	uint64_t begun;

	served_hang_up(&g->s);
	g->s.ro.no_reconnect = true;
	assert_int_equal(served_client(&g->s, NULL), 0);
	assert_int_equal(write_one(g), 0);
	op.cont = g->cont;
	op.iov_count = 1;
	op.done = ended;
	assert_int_equal(store_submit(g->s.remote, &op), PST_QUEUED);
	begun = loop_now(g->s.loop);
	served_crash(&g->s);
	while (!op.user && loop_now(g->s.loop) - begun < 600 * NSEC_PER_SEC)
		(void)loop_turn(g->s.loop, NSEC_PER_MSEC);
	assert_true(op.status < 0);
	assert_true(loop_now(g->s.loop) - begun < 60 * NSEC_PER_SEC);
	served_up(&g->s);
	assert_true(write_one(g) < 0);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(another_store, setup, teardown),
	        cmocka_unit_test_setup_teardown(an_older_copy, setup, teardown),
	        cmocka_unit_test_setup_teardown(a_copy_as_often_opened, setup, teardown),
	        cmocka_unit_test_setup_teardown(a_copy_without_the_session, setup, teardown),
	        cmocka_unit_test_setup_teardown(a_copy_without_the_capability, setup, teardown),
	        cmocka_unit_test_setup_teardown(no_copy_at_all, setup, teardown),
	        cmocka_unit_test_setup_teardown(who_is_told_what, setup, teardown),
	        cmocka_unit_test_setup_teardown(a_session_expired, setup, teardown),
	        cmocka_unit_test_setup_teardown(not_again, setup, teardown),
	        cmocka_unit_test_setup_teardown(leaving, setup, teardown),
	        cmocka_unit_test_setup_teardown(refused_and_on, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
