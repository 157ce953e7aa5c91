/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A server that offers a better channel than the one that a client came by: the client moves there, with its
 * session, before anything is sent; and where that can't be, it stays and says so. Here that is the listener
 * "there", offered by the one "here".
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "served.h"
#include "wire/codec.h"

struct rig {
	struct served s;
	uint32_t cont;
	struct fabric_listener *deaf; /* "there", by somebody else */
	unsigned came;                /* to that */
	char log[4096];
};

static void hear(void *arg, enum pst_log_level level, const char *line)
{
	struct rig *g = arg;
	size_t len = strlen(g->log);

	(void)snprintf(g->log + len, sizeof(g->log) - len, "%s\n", line);
}

static void add_there(struct rig *g)
{
	assert_int_equal(wire_listener_add(g->s.listener, "sim", "there", NULL, NULL, NULL), 0);
}

static int setup(void **state)
{
	struct rig *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	*state = g;
	pst_log_set(hear, g, PST_LOG_WARN);
	g->s.so.open_access = true;
	served_start(&g->s, NSEC_PER_SEC);
	g->s.ro.at[1].provider = "sim";
	g->s.ro.at[1].addr = "there";
	g->s.ro.at[1].offered = true;
	g->s.ro.at_count = 2;
	wire_listener_offer(g->s.listener, WIRE_OFFERS_RDMA);
	assert_int_equal(ops_cont_create(g->s.store, "c", &g->cont), 0);
	return 0;
}

static int teardown(void **state)
{
	struct rig *g = *state;

	fabric_listener_close(g->deaf);
	served_end(&g->s);
	pst_log_set(NULL, NULL, PST_LOG_WARN);
	free(g);
	return 0;
}

static int write_one(struct rig *g)
{
	return ops_write(g->s.remote, g->cont, oid_of(1), 0, "hello", 5);
}

static void is_at(struct rig *g, const char *addr, unsigned connects, unsigned fallbacks)
{
	struct remote_figures f;

	remote_figures(g->s.remote, &f);
	assert_string_equal(f.addr, addr);
	assert_int_equal(f.connects, connects);
	assert_int_equal(f.fallbacks, fallbacks);
}

static struct wire_figures listened(const struct rig *g)
{
	struct wire_figures f;

	wire_listener_figures(g->s.listener, &f);
	return f;
}

/* What the status says of a better channel that is not used. */
static void why(struct rig *g, char text[200])
{
	struct pst_store_status st;
	struct pst_op op = {.opcode = PST_OP_STATUS, .status_out = &st};

	assert_int_equal(ops_run(g->s.remote, &op), 0);
	(void)snprintf(text, 200, "%s", st.fallback_why);
}

static void moves(void **state)
{
	struct rig *g = *state;
	char text[200];

	add_there(g);
	assert_int_equal(served_client(&g->s, NULL), 0);
	is_at(g, "there", 1, 0);
	assert_int_equal(write_one(g), 0);
	served_sleep(&g->s, NSEC_PER_SEC);
	assert_int_equal(listened(g).accepted, 2);
	assert_int_equal(listened(g).conns, 1); /* the first is gone */
	why(g, text);
	assert_string_equal(text, "");
	assert_string_equal(g->log, "");
}

/* A session that has moved is one: what was under way when the server crashed is done once. */
static void comes_back(void **state)
{
	struct rig *g = *state;
	struct remote_figures before, after;

	add_there(g);
	assert_int_equal(served_client(&g->s, NULL), 0);
	remote_figures(g->s.remote, &before);
	assert_int_equal(write_one(g), 0);
	served_restart(&g->s);
	wire_listener_offer(g->s.listener, WIRE_OFFERS_RDMA);
	add_there(g);
	assert_int_equal(write_one(g), 0);
	is_at(g, "there", 2, 0);
	remote_figures(g->s.remote, &after);
	assert_int_equal(after.session, before.session);
	/* It comes back without: that is what there is now, and no loss. */
	served_restart(&g->s);
	assert_int_equal(write_one(g), 0);
	is_at(g, "here", 3, 0);
	assert_null(strstr(g->log, "which is better"));
}

static void not_offered(void **state)
{
	struct rig *g = *state;

	served_restart(&g->s);
	add_there(g);
	assert_int_equal(served_client(&g->s, NULL), 0);
	is_at(g, "here", 1, 0);
	assert_int_equal(write_one(g), 0);
	assert_int_equal(listened(g).accepted, 1);
}

/* A server does not know what clients know. */
static void not_wanted(void **state)
{
	struct rig *g = *state;

	g->s.ro.at_count = 1;
	add_there(g);
	assert_int_equal(served_client(&g->s, NULL), 0);
	is_at(g, "here", 1, 0);
	assert_int_equal(write_one(g), 0);
}

/* It is used without, and that is said; when the connection was lost it is tried again. */
static void stays(struct rig *g, const char *because)
{
	uint64_t begun = loop_now(g->s.loop);
	char text[200];

	assert_int_equal(served_client(&g->s, NULL), 0);
	assert_true(loop_now(g->s.loop) - begun < 11 * NSEC_PER_SEC);
	is_at(g, "here", 1, 1);
	assert_int_equal(write_one(g), 0);
	why(g, text);
	assert_non_null(strstr(text, because));
	assert_non_null(
	        strstr(g->log, "here: connected over sim and not over sim, which is better"));
	assert_non_null(strstr(g->log, because));
	fabric_listener_close(g->deaf);
	g->deaf = NULL;
	add_there(g);
	remote_cut(g->s.remote);
	assert_int_equal(write_one(g), 0);
	is_at(g, "there", 2, 1);
	why(g, text);
	assert_string_equal(text, "");
}

static void nobody_there(void **state)
{
	stays(*state, "there: can't connect over sim");
}

static bool take(struct fabric_listener *l, struct chan *c)
{
	struct rig *g = l->user;

	g->came++;
	return false;
}

static void closed_there(void **state)
{
	struct rig *g = *state;

	assert_int_equal(fabric_listen(&g->deaf, g->s.loop, "sim", "there", NULL, NULL), 0);
	g->deaf->accept = take;
	g->deaf->user = g;
	stays(g, "there: ");
	assert_int_equal(g->came, 1);
}

static void silence_there(void **state)
{
	struct rig *g = *state;

	assert_int_equal(fabric_listen(&g->deaf, g->s.loop, "sim", "there", NULL, NULL), 0);
	sim_listener_door(g->deaf, SIM_SILENT);
	stays(g, "there: can't connect over sim");
}

/* Somebody is there, and says nothing. */
static void deaf_msg(struct chan *c, const void *data, uint32_t len)
{
}

static void deaf_ready(struct chan *c)
{
}

static void deaf_down(struct chan *c, int status)
{
	chan_close(c);
}

static const struct chan_handlers deaf_handlers = {
        .msg = deaf_msg, .ready = deaf_ready, .down = deaf_down};

static bool take_deaf(struct fabric_listener *l, struct chan *c)
{
	struct rig *g = l->user;

	c->handlers = &deaf_handlers;
	c->user = g;
	g->came++;
	return true;
}

static void no_welcome_there(void **state)
{
	struct rig *g = *state;

	assert_int_equal(fabric_listen(&g->deaf, g->s.loop, "sim", "there", NULL, NULL), 0);
	g->deaf->accept = take_deaf;
	g->deaf->user = g;
	stays(g, "there: the connection is closed: the server does not say welcome");
	assert_int_equal(g->came, 1);
}

/* Who waits long for a server does not wait as long for a better way to it. */
static void silence_and_patience(void **state)
{
	struct rig *g = *state;

	g->s.ro.connect_ns = 300 * NSEC_PER_SEC;
	g->s.ro.connect_wait = true;
	silence_there(state);
}

/* Ops that wait three seconds for a server do not fail because something else is silent. */
static void silence_and_haste(void **state)
{
	struct rig *g = *state;

	g->s.ro.reconnect_ns = 3 * NSEC_PER_SEC;
	assert_int_equal(fabric_listen(&g->deaf, g->s.loop, "sim", "there", NULL, NULL), 0);
	sim_listener_door(g->deaf, SIM_SILENT);
	assert_int_equal(served_client(&g->s, NULL), 0);
	for (unsigned i = 1; i < 4; i++) {
		is_at(g, "here", i, i);
		remote_cut(g->s.remote);
		assert_int_equal(write_one(g), 0);
	}
}

/* It begins well each time, and ends soon: the other one is taken before ops wait for ever. */
static void does_not_last(void **state)
{
	struct rig *g = *state;
	char text[200];

	add_there(g);
	assert_int_equal(served_client(&g->s, NULL), 0);
	for (unsigned i = 1; i < 4; i++) {
		is_at(g, "there", i, 0);
		remote_cut(g->s.remote);
		assert_int_equal(write_one(g), 0);
	}
	is_at(g, "here", 4, 1);
	why(g, text);
	assert_non_null(
	        strstr(text, "it was lost 3 times in a row, soon after it was made: there: "));
	served_sleep(&g->s, 60 * NSEC_PER_SEC);
	remote_cut(g->s.remote);
	assert_int_equal(write_one(g), 0);
	is_at(g, "there", 5, 1);
	/* What lasts is another matter, however often. */
	for (unsigned i = 6; i < 12; i++) {
		served_sleep(&g->s, 11 * NSEC_PER_SEC);
		remote_cut(g->s.remote);
		assert_int_equal(write_one(g), 0);
		is_at(g, "there", i, 1);
	}
}

/* Somebody else is there, who says that the session is not known. */
static void stale_msg(struct chan *c, const void *data, uint32_t len)
{
	const struct wire_welcome w = {
	        .version = WIRE_VERSION, .status = -ESTALE, .text = "who?", .text_len = 4};
	uint8_t buf[256];
	struct iovec iov = {buf, wire_welcome_put(buf, sizeof(buf), &w)};

	assert_int_equal(chan_send(c, &iov, 1), 0);
}

static const struct chan_handlers stale_handlers = {
        .msg = stale_msg, .ready = deaf_ready, .down = deaf_down};

static bool take_stale(struct fabric_listener *l, struct chan *c)
{
	(void)take_deaf(l, c);
	c->handlers = &stale_handlers;
	return true;
}

static void stale_there(void **state)
{
	struct rig *g = *state;

	g->s.knobs.again = 0;
	assert_int_equal(fabric_listen(&g->deaf, g->s.loop, "sim", "there", NULL, NULL), 0);
	g->deaf->accept = take_stale;
	g->deaf->user = g;
	stays(g, "there: refused: who?");
	assert_int_equal(g->came, 1);
}

/* --- the session's secret, where others can read --- */

/* What they have read already is said again: a client without a token rides through. */
static void open_from_the_beginning(void **state)
{
	struct rig *g = *state;

	g->s.lo.seal = SEAL_OFF;
	served_restart(&g->s);
	g->s.knobs.open = true;
	g->s.ro.at_count = 1;
	assert_int_equal(served_client(&g->s, NULL), 0);
	assert_int_equal(write_one(g), 0);
	remote_cut(g->s.remote);
	assert_int_equal(write_one(g), 0);
	is_at(g, "here", 2, 0);
	served_restart(&g->s);
	assert_int_equal(write_one(g), 0);
	is_at(g, "here", 3, 0);
}

/* What they have not is not: it would be theirs. */
static void open_later(void **state)
{
	struct rig *g = *state;

	g->s.lo.seal = SEAL_OFF;
	served_restart(&g->s);
	g->s.ro.at_count = 1;
	assert_int_equal(served_client(&g->s, NULL), 0);
	g->s.knobs.open = true;
	remote_cut(g->s.remote);
	assert_int_equal(write_one(g), -EPERM);
	assert_non_null(strstr(g->log, "others can read this channel"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        T(moves),
	        T(comes_back),
	        T(not_offered),
	        T(not_wanted),
	        T(nobody_there),
	        T(closed_there),
	        T(silence_there),
	        T(no_welcome_there),
	        T(silence_and_patience),
	        T(silence_and_haste),
	        T(does_not_last),
	        T(stale_there),
	        T(open_from_the_beginning),
	        T(open_later),
	};

	return cmocka_run_group_tests_name("remote_move", tests, NULL, NULL);
}
