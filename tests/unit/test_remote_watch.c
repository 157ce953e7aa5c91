/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Watches of a served store: one client hears of what others change, sooner or later but always; and
 * all the ways in which a watch ends without a change.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "served.h"

#define MANY 70 /* more than a session may have */

struct rig {
	struct served s;
	struct store *one, *two; /* clients */
	uint32_t cont, other;
};

struct watch {
	struct pst_op op;
	bool ended;
};

/* --- the rig --- */

static struct store *client(struct rig *g)
{
	struct store *s;

	assert_int_equal(served_client(&g->s, NULL), 0);
	s = g->s.remote;
	g->s.remote = NULL;
	assert_true(s->caps & PST_CAP_WATCH);
	return s;
}

static int setup(void **state)
{
	struct rig *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	*state = g;
	g->s.so.open_access = true;
	served_start(&g->s, NSEC_PER_SEC);
	g->one = client(g);
	g->two = client(g);
	assert_int_equal(ops_cont_create(g->one, "c", &g->cont), 0);
	assert_int_equal(ops_cont_create(g->one, "d", &g->other), 0);
	return 0;
}

static int teardown(void **state)
{
	struct rig *g = *state;

	assert_int_equal(store_close(g->one), 0);
	assert_int_equal(store_close(g->two), 0);
	served_end(&g->s);
	free(g);
	return 0;
}

/* --- ops --- */

static void put(struct rig *g, struct store *s, uint32_t cont, uint64_t object)
{
	struct pst_mut m = {.kind = PST_KV_PUT,
	                    .oid = {.hi = 9, .lo = object},
	                    .key = "k",
	                    .key_len = 1,
	                    .val = "v",
	                    .val_len = 1};
	struct pst_op op = {.opcode = PST_OP_BATCH, .cont = cont, .muts = &m, .mut_count = 1};

	assert_int_equal(ops_run(s, &op), 0);
}

static void ended(struct pst_op *op)
{
	container_of(op, struct watch, op)->ended = true;
}

static void arm(struct watch *w, struct store *s, uint32_t cont, uint64_t object, uint64_t seen)
{
	*w = (struct watch){
	        .op = {.opcode = PST_OP_WATCH, .cont = cont, .off = seen, .done = ended}};
	if (object)
		w->op.oid = (struct pst_oid){.hi = 9, .lo = object};
	assert_int_equal(store_submit(s, &w->op), PST_QUEUED);
}

/* Everything that is under way arrives. */
static void settle(struct rig *g)
{
	for (unsigned i = 0; i < 2000; i++)
		(void)loop_turn(g->s.loop, NSEC_PER_MSEC);
}

static uint64_t wait_for(struct rig *g, struct watch *w, int status)
{
	while (!w->ended)
		(void)loop_turn(g->s.loop, NSEC_PER_SEC);
	assert_int_equal(w->op.status, status);
	return w->op.ret_off;
}

static uint64_t now(struct rig *g, uint32_t cont, uint64_t object)
{
	struct watch w;

	arm(&w, g->two, cont, object, 0);
	return wait_for(g, &w, 0);
}

/* --- tests --- */

static void hears_of_changes(void **state)
{
	struct rig *g = *state;
	uint64_t seen[] = {now(g, g->cont, 0), now(g, g->cont, 3), now(g, 0, 0)};
	struct watch c, o, all;

	assert_true(seen[0] > 0);
	assert_int_equal(now(g, g->cont, 0), seen[0]); /* it is no change to ask */
	arm(&c, g->two, g->cont, 0, seen[0]);
	arm(&o, g->two, g->cont, 3, seen[1]);
	arm(&all, g->two, 0, 0, seen[2]);
	settle(g);
	assert_false(c.ended || o.ended || all.ended);
	put(g, g->one, g->other, 3); /* another container: only the store's watch */
	assert_int_equal(wait_for(g, &all, 0), seen[2] + 1);
	settle(g);
	assert_false(c.ended || o.ended);
	put(g, g->one, g->cont, 4); /* another object: only the container's */
	assert_int_equal(wait_for(g, &c, 0), seen[0] + 1);
	settle(g);
	assert_false(o.ended);
	put(g, g->one, g->cont, 3);
	assert_int_equal(wait_for(g, &o, 0), seen[1] + 1);
	/* What is changed elsewhere can't be told from a number of what was not. */
	for (unsigned i = 0; i < 5; i++)
		put(g, g->one, g->other, 3);
	assert_int_equal(now(g, g->cont, 0), seen[0] + 2);
	assert_int_equal(now(g, g->cont, 3), seen[1] + 1);
	/* And another one's number is none. */
	arm(&o, g->two, g->cont, 3, now(g, g->cont, 4));
	assert_int_equal(wait_for(g, &o, 0), seen[1] + 1);
}

/* There is nothing to wait for: it would be for ever. */
static void no_such_container(void **state)
{
	struct rig *g = *state;
	struct pst_op end = {.opcode = PST_OP_CONT_DESTROY, .name = "d", .name_len = 1};
	uint64_t seen = now(g, g->other, 0);
	struct watch w;

	arm(&w, g->two, 4711, 0, 0);
	(void)wait_for(g, &w, -ENOENT);
	arm(&w, g->two, 4711, 5, seen);
	(void)wait_for(g, &w, -ENOENT);
	assert_int_equal(ops_run(g->one, &end), 0);
	arm(&w, g->two, g->other, 0, seen);
	(void)wait_for(g, &w, -ENOENT);
}

/* It is cancelled while it is looked whether there is such a container. */
static void cancelled_early(void **state)
{
	struct rig *g = *state;

	for (unsigned turns = 0; turns < 400; turns += 7) {
		struct watch w;

		arm(&w, g->two, g->cont, 0, now(g, g->cont, 0));
		for (unsigned i = 0; i < turns; i++)
			(void)loop_turn(g->s.loop, 10 * NSEC_PER_USEC);
		store_cancel(g->two, &w.op);
		(void)wait_for(g, &w, -ECANCELED);
	}
}

/* The cancel is lost with its connection, and the next one comes before anybody looks at the clock: nothing else
 * would ever end it. */
static void cancelled_and_cut(void **state)
{
	struct rig *g = *state;

	for (unsigned i = 0; i < 20; i++) {
		struct watch w;

		arm(&w, g->two, g->cont, 0, now(g, g->cont, 0));
		settle(g);
		store_cancel(g->two, &w.op);
		remote_cut(g->two);
		for (unsigned n = 0; !w.ended && n < 10000; n++)
			(void)loop_turn(g->s.loop, NSEC_PER_SEC);
		assert_true(w.ended);
		assert_int_equal(w.op.status, -ECANCELED);
	}
}

/* What was changed between two watches is heard of by the second one. */
static void misses_nothing(void **state)
{
	struct rig *g = *state;
	uint64_t seen = now(g, g->cont, 3);
	struct watch w;

	put(g, g->one, g->cont, 3);
	arm(&w, g->two, g->cont, 3, seen);
	seen = wait_for(g, &w, 0);
	put(g, g->one, g->cont, 4);
	arm(&w, g->two, g->cont, 3, seen);
	settle(g);
	assert_false(w.ended);
	remote_cut(g->two); /* and again on the next connection, with a change before it */
	put(g, g->one, g->cont, 3);
	(void)wait_for(g, &w, 0);
}

static void files(void **state)
{
	struct rig *g = *state;
	struct pst_op mk = {.opcode = PST_OP_MKDIR, .cont = g->cont, .name = "/dir", .name_len = 4};
	uint64_t seen = now(g, g->cont, 0);
	struct watch w;

	arm(&w, g->two, g->cont, 0, seen);
	assert_int_equal(ops_run(g->one, &mk), 0);
	assert_true(wait_for(g, &w, 0) > seen);
	seen = w.op.ret_off;
	arm(&w, g->two, g->cont, 0, seen);
	mk.token = (struct pst_token){0};
	assert_int_equal(ops_run(g->one, &mk), -EEXIST); /* which changes nothing */
	settle(g);
	assert_false(w.ended);
	store_cancel(g->two, &w.op);
	(void)wait_for(g, &w, -ECANCELED);
}

/* What a reader would not see is no change; what ends a container is. */
static void what_counts(void **state)
{
	struct pst_op mk = {.cont = ((struct rig *)*state)->cont,
	                    .opcode = PST_OP_CREATE,
	                    .name = "f",
	                    .name_len = 1};
	struct rig *g = *state;
	struct pst_op op = {.cont = g->cont, .opcode = PST_OP_FILE_OPEN};
	struct pst_op end = {.opcode = PST_OP_CONT_DESTROY, .name = "d", .name_len = 1};
	struct watch w, object;
	uint64_t seen;

	assert_int_equal(ops_run(g->one, &mk), 0);
	op.ino = mk.ino ? mk.ino : mk.attr.ino;
	seen = now(g, g->cont, 0);
	arm(&w, g->two, g->cont, 0, seen);
	assert_int_equal(ops_run(g->one, &op), 0);
	op.opcode = PST_OP_FILE_CLOSE;
	assert_int_equal(ops_run(g->one, &op), 0);
	settle(g);
	assert_false(w.ended);
	arm(&object, g->two, g->other, 5, now(g, g->other, 5));
	assert_int_equal(ops_run(g->one, &end), 0);
	(void)wait_for(g, &object, 0);
	(void)wait_for(g, &w, 0); /* it is told, though of no concern to it */
}

/* Longer than a request's header can say. */
static void far_deadline(void **state)
{
	struct rig *g = *state;
	struct watch w = {.op = {.opcode = PST_OP_WATCH,
	                         .cont = g->cont,
	                         .off = now(g, g->cont, 0),
	                         .done = ended}};

	w.op.deadline_ns = loop_now(g->s.loop) + 3 * 3600 * NSEC_PER_SEC;
	assert_int_equal(store_submit(g->two, &w.op), PST_QUEUED);
	(void)wait_for(g, &w, -ETIMEDOUT);
	assert_true(loop_now(g->s.loop) >= w.op.deadline_ns);
}

static void deadline(void **state)
{
	struct rig *g = *state;
	struct watch w = {.op = {.opcode = PST_OP_WATCH,
	                         .cont = g->cont,
	                         .off = now(g, g->cont, 0),
	                         .done = ended}};

	w.op.deadline_ns = loop_now(g->s.loop) + 5 * NSEC_PER_SEC;
	assert_int_equal(store_submit(g->two, &w.op), PST_QUEUED);
	(void)wait_for(g, &w, -ETIMEDOUT);
	assert_true(loop_now(g->s.loop) >= w.op.deadline_ns);
}

/* A server that was started again does not know what changed: so something did. */
static void restart(void **state)
{
	struct rig *g = *state;
	uint64_t seen = now(g, g->cont, 0);
	struct watch w;

	arm(&w, g->two, g->cont, 0, seen);
	settle(g);
	assert_false(w.ended);
	served_restart(&g->s);
	assert_true(wait_for(g, &w, 0) > seen);
}

static void limits(void **state)
{
	static struct watch w[MANY];
	struct rig *g = *state;
	uint64_t seen = now(g, g->cont, 0);
	unsigned refused = 0;

	for (unsigned i = 0; i < MANY; i++)
		arm(&w[i], g->two, g->cont, 0, seen);
	settle(g);
	for (unsigned i = 0; i < MANY; i++)
		if (w[i].ended) {
			assert_int_equal(w[i].op.status, -EMFILE);
			refused++;
		}
	assert_int_equal(refused, MANY - 64);
	put(g, g->two, g->other, 1); /* they are in nobody's way */
	for (unsigned i = 0; i < MANY; i++)
		if (!w[i].ended)
			store_cancel(g->two, &w[i].op);
	for (unsigned i = 0; i < MANY; i++)
		while (!w[i].ended)
			(void)loop_turn(g->s.loop, NSEC_PER_SEC);
}

/* Of a client that goes, nothing stays armed: closing the table would not end. */
static void client_goes(void **state)
{
	struct rig *g = *state;
	struct watch w;

	arm(&w, g->two, g->cont, 0, now(g, g->cont, 0));
	settle(g);
	store_cancel(g->two, &w.op);
	(void)wait_for(g, &w, -ECANCELED);
	arm(&w, g->two, g->cont, 0, now(g, g->cont, 0));
	settle(g);
	remote_cut(g->two);
	settle(g);
	assert_false(w.ended);
	put(g, g->one, g->cont, 1);
	(void)wait_for(g, &w, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        T(hears_of_changes), T(misses_nothing), T(files),        T(no_such_container),
	        T(cancelled_early),  T(what_counts),    T(far_deadline), T(deadline),
	        T(restart),          T(limits),         T(client_goes),  T(cancelled_and_cut)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
