/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A remote store on sealed channels: bits change on their way, in messages and in payloads, and the client
 * rides through without a wrong byte; and who is refused what, with a sentence and in the audit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "served.h"
#include "wire/remote_int.h"

/* --- the rig --- */

static int setup(void **state)
{
	struct served *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	*state = g;
	g->model = true;
	g->ro.seal_epoch = 50;
	return 0;
}

/* What each test begins with. */
static void serve(struct served *g, enum seal_policy seal)
{
	g->lo.seal = seal;
	served_start(g, NSEC_PER_SEC);
	served_grant(g, &(struct cap_info){.rights = RIGHTS_ALL});
}

static int teardown(void **state)
{
	served_end(*state);
	free(*state);
	return 0;
}

static int client(struct served *g, const char *cred, enum seal_policy seal)
{
	g->ro.seal = seal;
	return served_client(g, cred);
}

static void fill(uint8_t *buf, size_t len, uint64_t seed)
{
	struct rng r;

	rng_seed(&r, seed);
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)rng_next(&r);
}

/* --- bits that change --- */

#define OBJECTS 60
#define LEN_MAX (300 * KIB)

static void rides_through(void **state)
{
	uint8_t *buf = malloc(LEN_MAX), *want = malloc(LEN_MAX);
	struct served *g = *state;
	struct wire_figures wf;
	struct remote_figures rf;
	uint32_t cont;
	uint64_t len;

	serve(g, SEAL_REQUIRED);
	assert_int_equal(client(g, g->op.token, SEAL_REQUIRED), 0);
	assert_int_equal(ops_cont_create(g->remote, "c", &cont), 0);
	g->knobs.flip = 0.03;
	g->knobs.pieces_max = 2;
	remote_cut(g->remote);
	for (unsigned round = 0; round < 2; round++)
		for (uint64_t i = 1; i <= OBJECTS; i++) {
			size_t size = (size_t)(i * 7919 % LEN_MAX) + (i % 3 ? 1 : 40000);

			size = MIN(size, LEN_MAX);
			fill(want, size, i);
			if (!round) {
				assert_int_equal(
				        ops_write(g->remote, cont, oid_of(i), 0, want, size), 0);
				continue;
			}
			memset(buf, 0xee, size);
			assert_int_equal(
			        ops_read(g->remote, cont, 0, oid_of(i), 0, buf, size, &len), 0);
			assert_int_equal(len, size);
			assert_memory_equal(buf, want, size);
		}
	remote_figures(g->remote, &rf);
	wire_listener_figures(g->listener, &wf);
	assert_true(rf.connects > 5); /* it was noticed, */
	assert_true(rf.bad_seal > 0 && wf.cut > 0);
	assert_int_equal(rf.bad_crc, 0); /* and not by checksums that anybody can make */
	assert_int_equal(wf.bad_crc, 0);
	assert_true(rf.resent > 0);
	free(buf);
	free(want);
}

/* --- refusals --- */

static void wrong_token(void **state)
{
	char forged[CAP_TOKEN_MAX];
	struct served *g = *state;

	serve(g, SEAL_REQUIRED);
	memcpy(forged, g->op.token, sizeof(forged));
	forged[50] = forged[50] == 'A' ? 'B' : 'A';
	assert_int_equal(client(g, forged, SEAL_REQUIRED), -EBADF);
	assert_non_null(strstr(g->err.text, "is not one of this store's"));
	assert_int_equal(g->refused[AUDIT_AUTH], 1);
	assert_int_equal(g->refused_last, -EBADF);
	forged[20] = forged[20] == 'A' ? 'B' : 'A'; /* another capability's, maybe none's */
	assert_true(client(g, forged, SEAL_REQUIRED) < 0);
	assert_int_equal(g->refused[AUDIT_AUTH], 2);
	assert_int_equal(client(g, NULL, SEAL_REQUIRED), -EINVAL);
	assert_non_null(strstr(g->err.text, "takes a capability's token"));
	assert_int_equal(client(g, g->op.token, SEAL_REQUIRED), 0);
}

static unsigned refusals;
static unsigned long long untold;
static void hear(void *arg, enum pst_log_level level, const char *line)
{
	refusals += strstr(line, ": refused: the capability token is not") != NULL;
	if (strstr(line, "more were refused"))
		assert_int_equal(sscanf(line, "%llu more", &untold), 1);
}

/* Who has no token may try all day, and the log does not grow with it. */
static void refusals_are_told_in_measure(void **state)
{
	const uint64_t start_ns = clock_mono_ns(); /* the log's clock is no simulated one */
	char forged[CAP_TOKEN_MAX];
	struct served *g = *state;
	unsigned tried = 0;

	serve(g, SEAL_REQUIRED);
	g->knobs.delay_min_ns = g->knobs.delay_max_ns = NSEC_PER_USEC;
	memcpy(forged, g->op.token, sizeof(forged));
	forged[50] = forged[50] == 'A' ? 'B' : 'A';
	pst_log_set(hear, NULL, PST_LOG_WARN);
	refusals = 0;
	/* A machine so slow that less than these come in a second tells of all. */
	for (untold = 0; !untold && clock_mono_ns() - start_ns < 20 * NSEC_PER_SEC; tried++)
		assert_int_equal(client(g, forged, SEAL_REQUIRED), -EBADF);
	assert_int_equal(refusals + untold, tried);
	assert_true(refusals <=
	            LOG_STRANGERS_PER_S * (2 + (clock_mono_ns() - start_ns) / NSEC_PER_SEC));
	pst_log_set(NULL, NULL, PST_LOG_ERROR);
}

/* What is said before a capability is revoked, and after. */
static void revoked(void **state)
{
	struct served *g = *state;
	uint64_t start;

	serve(g, SEAL_REQUIRED);
	assert_int_equal(client(g, g->op.token, SEAL_REQUIRED), 0);
	served_hang_up(g);
	assert_int_equal(served_revoke(g, g->op.info.id), 0);
	assert_int_equal(client(g, g->op.token, SEAL_REQUIRED), -EKEYREVOKED);
	assert_non_null(strstr(g->err.text, "was revoked"));
	assert_int_equal(g->refused_last, -EKEYREVOKED);
	/* Who waits for a server that is not there doesn't wait for one that refuses. */
	g->ro.connect_wait = true;
	g->ro.connect_ns = 60 * NSEC_PER_SEC;
	start = loop_now(g->loop);
	assert_int_equal(client(g, g->op.token, SEAL_REQUIRED), -EKEYREVOKED);
	assert_true(loop_now(g->loop) - start < 10 * NSEC_PER_SEC);
}

static void plain_to_sealing(void **state)
{
	struct served *g = *state;

	serve(g, SEAL_REQUIRED);
	assert_int_equal(client(g, g->op.token, SEAL_OFF), -EPERM);
	assert_non_null(
	        strstr(g->err.text, "takes sealed channels only: name it with seal=required"));
	assert_int_equal(client(g, NULL, SEAL_AUTO), -EPERM);
}

static void sealing_to_plain(void **state)
{
	struct served *g = *state;

	serve(g, SEAL_OFF);
	assert_int_equal(client(g, g->op.token, SEAL_REQUIRED), -ENOTSUP);
	assert_non_null(strstr(g->err.text, "does not seal"));
	assert_int_equal(client(g, g->op.token, SEAL_AUTO), 0); /* sim says that nobody listens */
	served_hang_up(g);
}

/* The client's token, and what its session is resumed with, at both ends. */
static void wiped(void **state)
{
	struct served *g = *state;
	uint8_t secret[SESSION_SECRET_BYTES];

	/* Others were shown in clear, and may lie anywhere: this is none of them. */
	g->so.sim_seed = 4711;
	serve(g, SEAL_REQUIRED);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(client(g, g->op.token, SEAL_REQUIRED), 0);
		memcpy(secret, container_of(g->remote, struct remote, store)->secret,
		       sizeof(secret));
		if (i)
			(void)mem_freed_with(secret, sizeof(secret));
		else
			(void)mem_freed_with(g->op.token, strlen(g->op.token));
		served_hang_up(g);
		for (unsigned k = 0; k < 200; k++)
			(void)loop_turn(g->loop, NSEC_PER_MSEC);
		assert_int_equal(mem_freed_with(NULL, 0), 0);
	}
}

/* Who need not seal may. */
static void as_the_client_likes(void **state)
{
	struct wire_figures f;
	struct served *g = *state;

	serve(g, SEAL_AUTO);
	for (unsigned i = 0; i < 2; i++) {
		struct pst_store_status st;
		struct pst_op op = {.opcode = PST_OP_STATUS, .status_out = &st};

		memset(&st, 0x11, sizeof(st));
		assert_int_equal(client(g, g->op.token, i ? SEAL_REQUIRED : SEAL_AUTO), 0);
		assert_int_equal(ops_run(g->remote, &op), 0);
		assert_string_equal(st.sealed, i ? "aes-256-gcm" : "");
		served_hang_up(g);
		wire_listener_figures(g->listener, &f);
		assert_int_equal(f.sealed, i);
	}
}

#define RIG(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        RIG(rides_through),
	        RIG(wrong_token),
	        RIG(revoked),
	        RIG(plain_to_sealing),
	        RIG(sealing_to_plain),
	        RIG(as_the_client_likes),
	        RIG(wiped),
	        RIG(refusals_are_told_in_measure),
	};

	return cmocka_run_group_tests_name("remote_seal", tests, NULL, NULL);
}
