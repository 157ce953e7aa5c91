/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads that are lent, over a channel that has room for one at a time: each goes to the store when there is
 * room, and none is kept for ever, whatever ends it or its connection, or has others wait meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "served.h"
#include "tape.h"
#include "wire/codec.h"

#define LONG  (128 * KIB)
#define NONE  1 /* no status */
#define READS 16
#define KEY   1

/* A client on a tape. */
struct end {
	struct tape *tape;
	bool welcome, gone;
	int status[READS]; /* of the answers, by the requests' numbers */
	unsigned order[READS], answers;
	uint8_t mem[LONG];
};

static struct rig {
	struct served s;
	uint32_t cont;
	uint64_t cap;
	char token[CAP_TOKEN_MAX], other[CAP_TOKEN_MAX];
	uint8_t data[LONG];
	struct end a, b;
} g;

/* --- the client's end --- */

static void on_sent(struct tape *t, const void *msg, uint32_t len)
{
	struct end *e = t->user;
	struct wire_welcome w;
	struct wire_resp r;

	if (!e->welcome) {
		assert_int_equal(wire_welcome_get(&w, msg, len), 0);
		assert_int_equal(w.status, 0);
		e->welcome = true;
		return;
	}
	if (*(const uint8_t *)msg != WIRE_RESP)
		return; /* the end's word */
	assert_true(len >= sizeof(r));
	wire_resp_get(&r, msg);
	assert_true(r.id < READS && e->answers < READS);
	assert_int_equal(e->status[r.id], NONE);
	e->status[r.id] = r.status;
	e->order[e->answers++] = (unsigned)r.id;
	if (!r.status) {
		assert_int_equal(r.len, LONG);
		assert_memory_equal(e->mem, g.data, LONG);
	}
	memset(e->mem, 0, LONG);
}

static void on_gone(struct tape *t)
{
	((struct end *)t->user)->gone = true;
}

static void made(struct tape *t)
{
	t->sent = on_sent;
	t->gone = on_gone;
	t->chan.traits |= FABRIC_LENT | FABRIC_ROOM;
}

static void turns(void)
{
	for (unsigned i = 0; i < 100; i++)
		(void)loop_turn(g.s.loop, 10 * NSEC_PER_USEC);
}

static void come(struct end *e, const char *token)
{
	const struct wire_hello h = {.version = WIRE_VERSION,
	                             .version_min = WIRE_VERSION,
	                             .slots = 4,
	                             .depth = READS,
	                             .cred = token,
	                             .cred_len = (uint32_t)strlen(token),
	                             .name = "room",
	                             .name_len = 4};
	uint8_t msg[512];

	*e = (struct end){.tape = tape_accept(g.s.loop, made)};
	assert_non_null(e->tape);
	for (unsigned i = 0; i < READS; i++)
		e->status[i] = NONE;
	e->tape->user = e;
	e->tape->mem = e->mem;
	e->tape->mem_len = LONG;
	tape_say(e->tape, msg, wire_hello_put(msg, sizeof(msg), &h));
	for (unsigned i = 0; !e->welcome; i++) {
		assert_true(i < 1000);
		turns();
	}
}

static void ask(struct end *e, unsigned id)
{
	const struct wire_req m = {.kind = WIRE_REQ,
	                           .version = WIRE_VERSION,
	                           .opcode = PST_OP_READ,
	                           .what = WIRE_WINDOW,
	                           .id = id,
	                           .cont = g.cont,
	                           .len = LONG,
	                           .oid_lo = 1};
	const struct wire_desc desc = {.key = KEY, .len = LONG};
	uint8_t msg[sizeof(m) + sizeof(desc)];

	wire_req_put(msg, &m);
	wire_desc_put(msg + sizeof(m), &desc);
	tape_say(e->tape, msg, sizeof(msg));
}

static void cancel(struct end *e, uint64_t id)
{
	uint8_t msg[sizeof(struct wire_note)];

	wire_note_make(msg, WIRE_VERSION, WIRE_CANCEL, 0, id);
	tape_say(e->tape, msg, sizeof(msg));
}

static void room(struct end *e)
{
	e->tape->full = false;
	e->tape->chan.handlers->ready(&e->tape->chan);
}

/* --- the rig --- */

static void grant(uint32_t tenant, char *token)
{
	const struct cap_info i = {.rights = RIGHTS_ALL, .tenant = tenant}; /* of all containers */

	served_grant(&g.s, &i);
	memcpy(token, g.s.op.token, CAP_TOKEN_MAX);
	g.cap = g.s.op.info.id;
}

static int start(uint32_t running_max, const unsigned *bufs)
{
	struct pst_err err = {0};

	memset(&g, 0, sizeof(g));
	g.s.so.running_max = running_max;
	if (bufs)
		memcpy(g.s.lo.bufs, bufs, sizeof(g.s.lo.bufs));
	served_start(&g.s, NSEC_PER_SEC);
	assert_int_equal(wire_listener_add(g.s.listener, "tape", "tape", NULL, NULL, &err), 0);
	assert_int_equal(ops_cont_create(g.s.store, "c", &g.cont), 0);
	for (unsigned i = 0; i < LONG; i++)
		g.data[i] = (uint8_t)hash_u64(i);
	assert_int_equal(ops_write(g.s.store, g.cont, oid_of(1), 0, g.data, LONG), 0);
	grant(2, g.other);
	grant(1, g.token);
	come(&g.a, g.token);
	/* That the store lends is learned by one that waits for nothing. */
	ask(&g.a, READS - 1);
	turns();
	assert_int_equal(g.a.status[READS - 1], 0);
	assert_int_equal(g.a.tape->lent, 1);
	g.a.answers = 0;
	return 0;
}

static int setup(void **state)
{
	return start(0, NULL);
}

/* One place to run in. */
static int setup_narrow(void **state)
{
	return start(1, NULL);
}

/* One buffer of that size. */
static int setup_small(void **state)
{
	static const unsigned bufs[] = {64, 2, 1, 1, 1};

	return start(0, bufs);
}

static int teardown(void **state)
{
	struct wire_figures f;

	if (!g.a.gone)
		tape_down(g.a.tape, -ECONNRESET);
	if (g.b.tape && !g.b.gone)
		tape_down(g.b.tape, -ECONNRESET);
	turns();
	wire_listener_figures(g.s.listener, &f);
	assert_int_equal(f.conns, 0); /* nothing of them is left */
	assert_int_equal(f.inflight, 0);
	served_end(&g.s);
	assert_int_equal(tape_alive(), 0);
	return 0;
}

/* --- tests --- */

/* Each fills the channel, and none comes when it is full. */
static void one_by_one(void **state)
{
	g.a.tape->fills = true;
	for (unsigned i = 0; i < 6; i++)
		ask(&g.a, i);
	for (unsigned i = 0; i < 6; i++) {
		turns();
		assert_int_equal(g.a.answers, i + 1);
		assert_int_equal(g.a.order[i], i);
		room(&g.a);
	}
	assert_int_equal(g.a.tape->lent, 7);
	assert_int_equal(g.a.tape->crammed, 0);
}

/* Without memory of its own, whoever else wants some. */
static void no_memory_meanwhile(void **state)
{
	g.a.tape->full = true;
	ask(&g.a, 0);
	ask(&g.a, 1);
	come(&g.b, g.other);
	ask(&g.b, 0);
	turns();
	assert_int_equal(g.a.answers, 0);
	assert_int_equal(g.b.answers, 1); /* another connection goes on as if there were no first */
	room(&g.a);
	turns();
	assert_int_equal(g.a.answers, 2);
}

static void cancelled(void **state)
{
	g.a.tape->full = true;
	for (unsigned i = 0; i < 3; i++)
		ask(&g.a, i);
	cancel(&g.a, 1);
	turns();
	assert_int_equal(g.a.status[1], -ECANCELED);
	assert_int_equal(g.a.answers, 1);
	room(&g.a);
	turns();
	assert_int_equal(g.a.status[0], 0);
	assert_int_equal(g.a.status[2], 0);
}

/* The one that is lent is cancelled at the store: those behind it go on. */
static void cancelled_at_the_store(void **state)
{
	for (unsigned i = 0; i < 3; i++)
		ask(&g.a, i);
	cancel(&g.a, 0);
	turns();
	assert_int_equal(g.a.answers, 3);
	assert_int_equal(g.a.status[1], 0);
	assert_int_equal(g.a.status[2], 0);
}

/* The connection goes with those that wait, and with the one that the store has. */
static void gone_with_it(void **state)
{
	come(&g.b, g.other);
	for (unsigned i = 0; i < 3; i++)
		ask(&g.a, i);
	ask(&g.b, 0);
	tape_down(g.a.tape, -ECONNRESET);
	turns();
	assert_true(g.a.gone);
	assert_int_equal(g.a.answers, 0);
	assert_int_equal(g.b.status[0], 0);
}

/* Who waits is revoked, and hears that at once. */
static void revoked(void **state)
{
	g.a.tape->full = true;
	ask(&g.a, 0);
	ask(&g.a, 1);
	turns();
	assert_int_equal(served_revoke(&g.s, g.cap), 0);
	turns();
	assert_true(g.a.gone || g.a.answers == 2);
	assert_true(g.a.status[0] != 0 && g.a.status[1] != 0);
}

/* While it waits it has a place among those that run. When that is all there is, it is cut off. */
static void place_wanted(void **state)
{
	uint64_t begun;

	g.a.tape->full = true;
	ask(&g.a, 0);
	served_sleep(&g.s, 30 * NSEC_PER_SEC); /* nobody needs it */
	assert_false(g.a.gone);
	come(&g.b, g.other);
	begun = loop_now(g.s.loop);
	ask(&g.b, 0);
	while (g.b.status[0] == NONE && loop_now(g.s.loop) - begun < 10 * NSEC_PER_SEC)
		(void)loop_turn(g.s.loop, NSEC_PER_MSEC);
	assert_int_equal(g.b.status[0], 0);
	assert_true(g.a.gone);
}

/* It has just begun to wait: not yet to blame for what others wait for. */
static void place_just_taken(void **state)
{
	served_sleep(&g.s, 30 * NSEC_PER_SEC);
	g.a.tape->full = true;
	ask(&g.a, 0);
	come(&g.b, g.other);
	ask(&g.b, 0);
	served_sleep(&g.s, 2 * NSEC_PER_SEC);
	assert_false(g.a.gone);
	assert_int_equal(g.b.status[0], NONE);
	room(&g.a);
	turns();
	assert_int_equal(g.a.status[0], 0);
	assert_int_equal(g.b.status[0], 0);
}

/* What is not known to be lent, because it is of another container, waits for nothing. */
static void not_lent(void **state)
{
	uint32_t cont = g.cont;

	assert_int_equal(ops_cont_create(g.s.store, "d", &g.cont), 0);
	assert_int_equal(ops_write(g.s.store, g.cont, oid_of(1), 0, g.data, LONG), 0);
	g.a.tape->full = true;
	ask(&g.a, 0);
	turns();
	assert_int_equal(g.a.status[0], 0);
	g.cont = cont;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(one_by_one, setup, teardown),
	        cmocka_unit_test_setup_teardown(no_memory_meanwhile, setup_small, teardown),
	        cmocka_unit_test_setup_teardown(cancelled, setup, teardown),
	        cmocka_unit_test_setup_teardown(cancelled_at_the_store, setup, teardown),
	        cmocka_unit_test_setup_teardown(gone_with_it, setup, teardown),
	        cmocka_unit_test_setup_teardown(revoked, setup, teardown),
	        cmocka_unit_test_setup_teardown(place_wanted, setup_narrow, teardown),
	        cmocka_unit_test_setup_teardown(place_just_taken, setup_narrow, teardown),
	        cmocka_unit_test_setup_teardown(not_lent, setup, teardown),
	};

	return cmocka_run_group_tests_name("reads that wait for room", tests, NULL, NULL);
}
