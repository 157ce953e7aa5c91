/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a remote store makes of what a server says about the openings of its store, word by word: the
 * server is played.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "model_store.h"
#include "tape.h"
#include "wire/codec.h"
#include "wire/msg.h"
#include "wire/wire.h"

#define UUID     0x51
#define EPOCH    9
#define NUMBER   0x11223344u
#define WELCOMES 3

static struct {
	const struct wire_welcome *welcome; /* WELCOMES of them; the last for all that come later */
	unsigned hellos, requests;
	struct wire_hello hello; /* the last */
	char log[4096];
	bool ended;
} env;

static void hear(void *arg, enum pst_log_level level, const char *line)
{
	size_t len = strlen(env.log);

	(void)snprintf(env.log + len, sizeof(env.log) - len, "%s\n", line);
}

static void sent(struct tape *t, const void *msg, uint32_t len)
{
	struct wire_welcome w;
	uint8_t buf[512];

	if (*(const uint8_t *)msg == WIRE_REQ)
		env.requests++;
	if (*(const uint8_t *)msg != WIRE_HELLO)
		return;
	assert_int_equal(wire_hello_get(&env.hello, msg, len), 0);
	w = env.welcome[MIN(env.hellos, WELCOMES - 1u)];
	env.hellos++;
	w.version = 2;
	if (!w.status) {
		memset(w.store, UUID, sizeof(w.store));
		w.session = 5;
		w.resumed = env.hello.session == 5;
		w.slots = w.depth = 4;
	}
	w.text = "played";
	w.text_len = 6;
	tape_say(t, buf, wire_welcome_put(buf, sizeof(buf), &w));
}

static void made(struct tape *t)
{
	t->sent = sent;
}

static void ended(struct pst_op *op)
{
	env.ended = true;
}

/* A client that was welcomed by the first, and comes back: what becomes of its op. -ETIMEDOUT: it was sent. */
static int come_back(const struct wire_welcome welcome[WELCOMES])
{
	struct remote_opts o = {.at = {{.provider = "tape", .addr = "played"}},
	                        .at_count = 1,
	                        .seed = 1,
	                        .name = "played"};
	struct pst_op op = {.opcode = PST_OP_FLUSH, .cont = 5, .done = ended};
	struct store *store;
	struct loop_opts lo;
	struct loop *loop;

	memset(&env, 0, sizeof(env));
	env.welcome = welcome;
	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = NSEC_PER_SEC;
	pst_log_set(hear, NULL, PST_LOG_WARN);
	assert_int_equal(loop_new(&loop, &lo, NULL), 0);
	tape_made = made;
	assert_int_equal(remote_open(&store, loop, &o, NULL), 0);
	remote_cut(store);
	op.deadline_ns = loop_now(loop) + NSEC_PER_SEC;
	assert_int_equal(store_submit(store, &op), PST_QUEUED);
	while (!env.ended)
		(void)loop_turn(loop, NSEC_PER_SEC);
	assert_int_equal(op.status == -ETIMEDOUT, env.requests > 0);
	assert_int_equal(store_close(store), 0);
	loop_free(loop);
	pst_log_set(NULL, NULL, PST_LOG_WARN);
	return op.status;
}

static void welcomes(void **state)
{
	static const struct {
		uint32_t known;  /* what was said when the client connected first */
		uint64_t epoch;  /* and then */
		uint32_t number; /* of that epoch */
		int status;
		const char *why;
	} cases[] = {
	        {NUMBER, EPOCH, NUMBER, -ETIMEDOUT, NULL},
	        {NUMBER, EPOCH + 1, NUMBER, -ETIMEDOUT, NULL},
	        {NUMBER, EPOCH, 0, -ETIMEDOUT, NULL}, /* not known: an older server */
	        {NUMBER, EPOCH + 300, 0, -ETIMEDOUT, NULL},
	        {0, EPOCH, NUMBER, -ETIMEDOUT, NULL}, /* it was one before */
	        {0, EPOCH + 1, 1, -ETIMEDOUT, NULL},
	        {0, EPOCH, 0, -ETIMEDOUT, NULL},
	        {NUMBER, EPOCH, NUMBER + 1, -ESTALE, "of the 9 times that it was opened, number 9"},
	        {NUMBER, EPOCH + 2, NUMBER ^ 1u << 31, -ESTALE,
	         "of the 11 times that it was opened, number 9 is not the one that was seen"},
	        {NUMBER, EPOCH + 2, 1, -ESTALE, "number 9"}, /* there was none */
	        {NUMBER, EPOCH - 1, NUMBER, -ESTALE, "opened 8 times, and 9 when it was last seen"},
	        {0, EPOCH - 1, 0, -ESTALE, "opened 8 times"},
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct wire_welcome w[WELCOMES] = {{.epoch = EPOCH, .opening = cases[i].known}};

		w[1].epoch = cases[i].epoch;
		w[1].opening = 77;
		w[1].opening_seen = cases[i].number;
		w[2] = w[1];
		assert_int_equal(come_back(w), cases[i].status);
		assert_int_equal(env.hellos, 2);
		assert_int_equal(env.hello.epoch, EPOCH);
		if (cases[i].why) {
			assert_non_null(strstr(env.log, cases[i].why));
			assert_non_null(strstr(env.log, "it was restored from an older copy"));
		}
	}
}

/* What counts later is the number of the opening that was seen last, and not the first one's. */
static void the_last_counts(void **state)
{
	struct wire_welcome w[WELCOMES] = {
	        {.epoch = EPOCH, .opening = NUMBER},
	        {.status = -EAGAIN}, /* a refusal tells of no other opening */
	        {.epoch = EPOCH + 1, .opening = NUMBER + 1, .opening_seen = NUMBER},
	};

	assert_int_equal(come_back(w), -ETIMEDOUT);
	assert_int_equal(env.hellos, 3);
	assert_int_equal(env.hello.epoch, EPOCH);
}

/* A server that knows no such session: a client looks first whether it is the store that it knew. */
static void refusals(void **state)
{
	struct wire_welcome w[WELCOMES] = {
	        {.epoch = EPOCH, .opening = NUMBER},
	        {.status = -ESTALE, .epoch = EPOCH + 1, .opening = 77, .opening_seen = NUMBER},
	        {.epoch = EPOCH + 1, .opening = 77, .opening_seen = NUMBER},
	};

	memset(w[1].store, UUID, sizeof(w[1].store));
	assert_int_equal(come_back(w), -ETIMEDOUT); /* it is: it has expired */
	assert_int_equal(env.hellos, 3);
	assert_non_null(strstr(env.log, "the session has expired"));

	w[1].opening_seen = NUMBER + 1;
	assert_int_equal(come_back(w), -ESTALE);
	assert_int_equal(env.hellos, 2);
	assert_null(strstr(env.log, "the session has expired"));
	assert_non_null(strstr(env.log, "it was restored from an older copy"));

	memset(w[1].store, 0, sizeof(w[1].store)); /* an older server, which says nothing of it */
	w[1].epoch = w[1].opening = w[1].opening_seen = 0;
	assert_int_equal(come_back(w), -ETIMEDOUT);
	assert_int_equal(env.hellos, 3);
	assert_non_null(strstr(env.log, "the session has expired"));

	w[1].status = -EACCES;
	assert_int_equal(come_back(w), -EACCES);
	assert_non_null(strstr(env.log, "refused: played"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	        cmocka_unit_test(welcomes),
	        cmocka_unit_test(the_last_counts),
	        cmocka_unit_test(refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
