/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client that breaks every rule it can, over a channel of its own, with handles on the wire: what others
 * were given, what was good once, what it saw go by. Each is refused with the right error or costs the
 * connection, is in the audit, and leaves no trace in the store.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "raw_client.h"
#include "served.h"

#define LONG   (128 * KIB)
#define NOW_NS (1700000000 * NSEC_PER_SEC) /* handles count from 2020 on */

struct rig {
	struct served s;
	uint32_t cont;
	uint64_t f, secret;                              /* inodes: in/f and secret */
	char token[CAP_TOKEN_MAX], other[CAP_TOKEN_MAX]; /* of in/, of two tenants */
	uint64_t cap;
	struct raw_client raw, two;
	uint8_t handle[WIRE_HANDLE_BYTES]; /* raw's, of f */
};

/* --- the rig --- */

static uint64_t make(struct rig *g, uint8_t opcode, const char *name, const char *text)
{
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
	struct pst_op op = names_op(opcode, g->cont, name);

	op.iov = &iov;
	op.iov_count = iov.iov_len != 0;
	op.len = iov.iov_len;
	if (opcode == PST_OP_CREATE) { /* more than goes with an answer */
		op.attr.size_bytes = LONG;
		op.attr_mask = PST_ATTR_SIZE;
	}
	assert_int_equal(ops_run(g->s.store, &op), 0);
	return op.ino;
}

static void grant(struct rig *g, uint32_t rights, uint32_t tenant, uint64_t expiry_ns, char *token)
{
	struct cap_info i = {.cont = g->cont,
	                     .rights = rights,
	                     .tenant = tenant,
	                     .expiry_ns = expiry_ns,
	                     .prefix = "in"};

	served_grant(&g->s, &i);
	memcpy(token, g->s.op.token, CAP_TOKEN_MAX);
	g->cap = g->s.op.info.id;
}

static int setup_with(void **state, const unsigned *bufs)
{
	struct rig *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	*state = g;
	if (bufs)
		memcpy(g->s.lo.bufs, bufs, sizeof(g->s.lo.bufs));
	served_start(&g->s, NOW_NS);
	assert_int_equal(ops_cont_create(g->s.store, "c", &g->cont), 0);
	(void)make(g, PST_OP_MKDIR, "in", "");
	g->f = make(g, PST_OP_CREATE, "in/f", "inside");
	g->secret = make(g, PST_OP_CREATE, "secret", "outside");
	grant(g, RIGHTS_ALL, 2, 0, g->other);
	grant(g, RIGHTS_ALL, 1, 0, g->token);
	return 0;
}

static int setup(void **state)
{
	return setup_with(state, NULL);
}

static int teardown(void **state)
{
	struct rig *g = *state;

	if (g->two.loop)
		raw_hang_up(&g->two);
	if (g->raw.loop)
		raw_hang_up(&g->raw);
	served_end(&g->s);
	free(g);
	return 0;
}

static void look_up(struct rig *g, struct raw_client *r, uint8_t ret_handle[WIRE_HANDLE_BYTES])
{
	const struct raw_req q = {.opcode = PST_OP_LOOKUP, .cont = g->cont, .name = "f"};

	assert_int_equal(raw_run(r, &q), 0);
	assert_int_equal(r->resp.word, g->f);
	assert_non_null(r->handle);
	memcpy(ret_handle, r->handle, WIRE_HANDLE_BYTES);
}

/* A client of that token, and a handle of its for in/f. */
static void come(struct rig *g, const char *token)
{
	assert_int_equal(raw_open(&g->raw, g->s.loop, token), 0);
	look_up(g, &g->raw, g->handle);
}

static struct raw_req with_handle(const struct rig *g, uint8_t opcode, const uint8_t *handle)
{
	return (struct raw_req){
	        .opcode = opcode,
	        .cont = g->cont,
	        .ino = g->f,
	        .handle = handle,
	        .len = opcode == PST_OP_FILE_READ || opcode == PST_OP_FILE_WRITE ? 4 : 0,
	        .data = opcode == PST_OP_FILE_WRITE ? "evil" : NULL};
}

/* Is it as it was, and has it been told of? */
static void no_trace(struct rig *g, uint64_t records, unsigned told, enum audit_what what,
                     int status)
{
	struct iovec iov = {(char[8]){0}, 7};
	struct pst_op op = {.opcode = PST_OP_FILE_READ,
	                    .cont = g->cont,
	                    .ino = g->f,
	                    .iov = &iov,
	                    .iov_count = 1,
	                    .len = 7};

	assert_int_equal(g->s.refused[what], told + 1);
	assert_int_equal(g->s.refused_last, status);
	assert_int_equal(served_records(&g->s), records);
	assert_int_equal(ops_run(g->s.store, &op), 0);
	assert_string_equal(iov.iov_base, "inside");
}

static void refused(struct rig *g, struct raw_req q, int status)
{
	uint64_t records = served_records(&g->s);
	unsigned told = g->s.refused[AUDIT_REQUEST];

	assert_int_equal(raw_run(&g->raw, &q), status);
	no_trace(g, records, told, AUDIT_REQUEST, status);
}

static void refused_all(struct rig *g, const uint8_t *handle, int status)
{
	refused(g, with_handle(g, PST_OP_FILE_READ, handle), status);
	refused(g, with_handle(g, PST_OP_FILE_WRITE, handle), status);
	refused(g, with_handle(g, PST_OP_GETATTR, handle), status);
}

static struct raw_req write_again(const struct rig *g, uint64_t seq)
{
	struct raw_req q = with_handle(g, PST_OP_FILE_WRITE, g->handle);

	q.seq = seq;
	q.data = "INSI";
	return q;
}

/* --- handles --- */

static void no_handle(void **state)
{
	struct rig *g = *state;

	come(g, g->token);
	refused_all(g, NULL, -EACCES);
}

static void forged_handle(void **state)
{
	struct rig *g = *state;
	uint8_t h[WIRE_HANDLE_BYTES];
	struct raw_req q;

	come(g, g->token);
	/* Another object: lo of the oid is at 32. Then its rights, its capability, its end, its MAC. */
	static const unsigned places[] = {32, 1, 20, 44, 48, 63};

	for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
		memcpy(h, g->handle, sizeof(h));
		h[places[i]] ^= 4;
		refused_all(g, h, -EBADF);
	}
	memcpy(h, g->handle, sizeof(h));
	h[4] ^= 1; /* another store's */
	refused_all(g, h, -ESTALE);
	/* And whoever goes on with it is cut off: 64, of which there were three for each place. */
	q = with_handle(g, PST_OP_GETATTR, h);
	h[4] ^= 1;
	h[50] ^= 1;
	for (unsigned i = 3 * ARRAY_LEN(places); i < 63; i++)
		refused(g, q, -EBADF);
	assert_int_equal(raw_run(&g->raw, &q), -ECONNRESET);
	assert_int_equal(g->s.refused[AUDIT_SESSION_CUT], 1);
}

/* Handles of the same file, which this client could have had by itself. */
static void another_ones_handle(void **state)
{
	struct rig *g = *state;
	uint8_t h[WIRE_HANDLE_BYTES];

	for (unsigned i = 0; i < 2; i++) { /* another session's; another tenant's */
		assert_int_equal(raw_open(&g->two, g->s.loop, i ? g->other : g->token), 0);
		look_up(g, &g->two, h);
		come(g, g->token);
		refused_all(g, h, -EBADF);
		raw_hang_up(&g->two);
		refused_all(g, h, -EBADF);
		raw_hang_up(&g->raw);
	}
	come(g, g->token);
}

static void wrong_object(void **state)
{
	struct rig *g = *state;
	struct raw_req q;

	come(g, g->token);
	q = with_handle(g, PST_OP_FILE_READ, g->handle);
	q.ino = g->secret;
	refused(g, q, -EACCES);
	q = with_handle(g, PST_OP_FILE_WRITE, g->handle);
	q.ino = g->secret;
	refused(g, q, -EACCES);
	/* It is a file: nothing lies below it, and nothing beside it. */
	q = with_handle(g, PST_OP_LOOKUP, g->handle);
	q.ino = 0;
	q.name = "../secret";
	refused(g, q, -ENOTDIR);
}

static void read_only(void **state)
{
	struct rig *g = *state;
	struct raw_req q;

	grant(g, RIGHT_READ | RIGHT_LIST, 1, 0, g->token);
	come(g, g->token);
	refused(g, with_handle(g, PST_OP_FILE_WRITE, g->handle), -EACCES);
	q = with_handle(g, PST_OP_FILE_READ, g->handle);
	assert_int_equal(raw_run(&g->raw, &q), 0);
	g->handle[1] = 0xff; /* so it gives itself more */
	refused(g, with_handle(g, PST_OP_FILE_WRITE, g->handle), -EBADF);
}

static void expired(void **state)
{
	struct rig *g = *state;
	struct raw_req q;

	g->s.so.handle_ns = NSEC_PER_SEC;
	served_restart(&g->s);
	grant(g, RIGHTS_ALL, 1, NOW_NS + 20 * NSEC_PER_SEC, g->token);
	come(g, g->token);
	served_sleep(&g->s, 5 * NSEC_PER_SEC);
	refused(g, with_handle(g, PST_OP_FILE_READ, g->handle), -EKEYEXPIRED);
	refused(g, with_handle(g, PST_OP_FILE_WRITE, g->handle), -EKEYEXPIRED);
	q = with_handle(g, PST_OP_GETATTR, g->handle); /* which is there to renew it */
	assert_int_equal(raw_run(&g->raw, &q), 0);
	assert_non_null(g->raw.handle);
	served_sleep(&g->s, 20 * NSEC_PER_SEC); /* not so when its capability has expired */
	refused_all(g, g->handle, -EKEYEXPIRED);
}

static void revoked(void **state)
{
	struct rig *g = *state;

	come(g, g->token);
	assert_int_equal(served_revoke(&g->s, g->cap), 0);
	refused_all(g, g->handle, -EKEYREVOKED);
}

/* Armed while it may, and not told of anything when it may not any more. */
static void watch_expires(void **state)
{
	struct cap_info i = {.rights = RIGHTS_ALL, .expiry_ns = NOW_NS + 20 * NSEC_PER_SEC};
	struct rig *g = *state;
	struct raw_req q = {.opcode = PST_OP_WATCH, .cont = g->cont};

	i.cont = g->cont;
	served_grant(&g->s, &i);
	assert_int_equal(raw_open(&g->raw, g->s.loop, g->s.op.token), 0);
	assert_int_equal(raw_run(&g->raw, &q), 0);
	q.off = g->raw.resp.ret_off;
	assert_int_equal(raw_run(&g->raw, &q), -EKEYEXPIRED);
	assert_true(loop_real_now(g->s.loop) >= i.expiry_ns);
	assert_true(loop_real_now(g->s.loop) < i.expiry_ns + NSEC_PER_SEC);
}

/* --- what went by --- */

/* A request that is sent again is answered; one that is older is not, and nothing is written twice. */
static void replayed_request(void **state)
{
	struct rig *g = *state;
	struct raw_req q;
	uint64_t records;

	come(g, g->token);
	q = write_again(g, 1);
	assert_int_equal(raw_run(&g->raw, &q), 0);
	q = write_again(g, 2);
	q.data = "insi"; /* as it was */
	assert_int_equal(raw_run(&g->raw, &q), 0);
	records = served_records(&g->s);
	q.data = "evil";
	assert_int_equal(raw_run(&g->raw, &q), 0); /* the answer of then */
	assert_int_equal(served_records(&g->s), records);
	q = write_again(g, 1);
	q.data = "evil";
	refused(g, q, -ESTALE);
	/* A number of its own choice costs the session. */
	q.seq = 7;
	assert_int_equal(raw_run(&g->raw, &q), -ECONNRESET);
	assert_int_equal(g->s.refused[AUDIT_SESSION_CUT], 1);
	served_sleep(&g->s, NSEC_PER_SEC); /* what held the session's answers is gone with it */
	no_trace(g, served_records(&g->s), 0, AUDIT_SESSION_CUT, -EPROTO);
}

static unsigned sessions(struct rig *g)
{
	struct table_figures f;

	session_table_figures(g->s.table, &f);
	return f.sessions;
}

/* The bytes that began a sealed channel, all of them, said again by who heard them. */
static void replayed_beginning(void **state)
{
	struct rig *g = *state;
	uint64_t records;
	unsigned before;

	raw_connect(&g->raw, g->s.loop);
	raw_seal(&g->raw, g->token);
	assert_int_equal(raw_hello(&g->raw, g->token, NULL), 0);
	before = sessions(g);
	records = served_records(&g->s);
	raw_connect(&g->two, g->s.loop);
	raw_send(&g->two, g->raw.begin, SEAL_BEGIN_LEN);
	assert_true(raw_wait(&g->two));
	assert_int_equal(g->two.msg[0], WIRE_SEAL_ANSWER); /* with another share, */
	g->two.got = false;
	raw_send(&g->two, g->raw.first, g->raw.first_len);
	assert_false(raw_wait(&g->two)); /* under which that does not open */
	assert_int_equal(sessions(g), before);
	assert_int_equal(served_records(&g->s), records);
	assert_int_equal(g->s.refused[AUDIT_AUTH], 1);
	look_up(g, &g->raw, g->handle); /* nobody was fenced off */
}

/* What a session is resumed with, in the hands of who has a token of his own. */
static void anothers_session(void **state)
{
	struct rig *g = *state;
	uint64_t records;

	raw_connect(&g->raw, g->s.loop);
	raw_seal(&g->raw, g->token);
	assert_int_equal(raw_hello(&g->raw, g->token, NULL), 0);
	records = served_records(&g->s);
	raw_connect(&g->two, g->s.loop);
	raw_seal(&g->two, g->other);
	assert_int_equal(raw_hello(&g->two, g->other, &g->raw.welcome), -EACCES);
	assert_int_equal(g->s.refused[AUDIT_SESSION_RESUME], 1);
	assert_int_equal(served_records(&g->s), records);
	raw_hang_up(&g->two);
	raw_connect(&g->two, g->s.loop);
	raw_seal(&g->two, g->other); /* nor does he get one that is not his seal's */
	assert_int_equal(raw_hello(&g->two, g->token, NULL), -EACCES);
	assert_int_equal(served_records(&g->s), records);
	look_up(g, &g->raw, g->handle);
}

/* --- memory --- */

static void closed(struct chan_window *w)
{
}

static bool waiting(const struct rig *g)
{
	struct wire_figures f;

	wire_listener_figures(g->s.listener, &f);
	return f.mem_waiting != 0;
}

/* By the client that has done nothing. */
static void read_all(struct rig *g)
{
	static char data[LONG];
	struct iovec iov = {data, sizeof(data)};
	struct pst_op op = names_op(PST_OP_LOOKUP, g->cont, "f");

	assert_int_equal(ops_run(g->s.remote, &op), 0);
	op = (struct pst_op){.opcode = PST_OP_FILE_READ,
	                     .cont = g->cont,
	                     .ino = op.ino,
	                     .iov = &iov,
	                     .iov_count = 1,
	                     .len = sizeof(data)};
	assert_int_equal(ops_run(g->s.remote, &op), 0);
	assert_int_equal(op.ret_len, sizeof(data));
}

/* Another tenant's window, by its key: neither read from nor written to. */
static void anothers_window(void **state)
{
	struct rig *g = *state;

	for (unsigned write = 0; write < 2; write++) {
		static char memory[LONG];
		struct iovec iov = {memory, sizeof(memory)};
		struct chan_window w = {.iov = &iov,
		                        .iov_count = 1,
		                        .rights = write ? FABRIC_PEER_WRITES : FABRIC_PEER_READS,
		                        .closed = closed};
		unsigned told = g->s.refused[AUDIT_SESSION_CUT];
		struct raw_req q;
		uint64_t records;

		strcpy(memory, "mine, and nobody else's");
		assert_int_equal(raw_open(&g->two, g->s.loop, g->other), 0);
		assert_int_equal(chan_window_open(g->two.c, &w), 0);
		come(g, g->token);
		records = served_records(&g->s);
		q = with_handle(g, write ? PST_OP_FILE_READ : PST_OP_FILE_WRITE, g->handle);
		q.window = &w.desc;
		q.pull = !write;
		q.len = sizeof(memory);
		q.data = NULL;
		if (write) {
			/* Who closes a window of his own before the answer looks the same. */
			(void)raw_run(&g->raw, &q);
			served_sleep(&g->s, NSEC_PER_SEC);
			assert_int_equal(served_records(&g->s), records);
		} else {
			assert_int_equal(raw_run(&g->raw, &q), -ECONNRESET);
			no_trace(g, records, told, AUDIT_SESSION_CUT, -EPROTO);
		}
		assert_string_equal(memory, "mine, and nobody else's");
		assert_false(g->two.down); /* who has done nothing goes on */
		chan_window_close(g->two.c, &w);
		served_sleep(&g->s, NSEC_PER_SEC);
		raw_hang_up(&g->two);
		raw_hang_up(&g->raw);
	}
	g->two.loop = g->raw.loop = NULL;
}

/*
 * A client that lets the server wait for its payloads has all payload memory of that size; another one's reads
 * and writes go on within seconds nevertheless. As long as nobody else needs it, it may be as slow as it likes.
 */
static void held_memory(void **state)
{
	struct rig *g = *state;

	for (unsigned i = 0; i < 4; i++) {
		bool pull = i & 1, needed = i & 2;
		static char memory[LONG];
		struct iovec iov = {memory, sizeof(memory)};
		struct chan_window w = {.iov = &iov,
		                        .iov_count = 1,
		                        .rights = pull ? FABRIC_PEER_READS : FABRIC_PEER_WRITES,
		                        .closed = closed};
		struct raw_req q;
		uint64_t begun;

		g->raw.xfer_ns = 300 * NSEC_PER_SEC;
		come(g, g->token);
		assert_int_equal(served_client(&g->s, g->other), 0);
		assert_int_equal(chan_window_open(g->raw.c, &w), 0);
		q = with_handle(g, pull ? PST_OP_FILE_WRITE : PST_OP_FILE_READ, g->handle);
		q.window = &w.desc;
		q.pull = pull;
		q.len = sizeof(memory);
		for (unsigned j = 0; j < 4; j++) {
			q.slot = pull ? j : 0;
			q.seq = pull;
			raw_ask(&g->raw, &q);
		}
		served_sleep(&g->s, NSEC_PER_SEC / 2);
		assert_true(waiting(g));
		begun = loop_now(g->s.loop);
		if (needed)
			read_all(g);
		assert_true(loop_now(g->s.loop) - begun < 7 * NSEC_PER_SEC);
		served_sleep(&g->s, 30 * NSEC_PER_SEC);
		assert_int_equal(g->raw.down, needed);
		if (!needed)
			chan_window_close(g->raw.c, &w);
		served_sleep(&g->s, NSEC_PER_SEC);
		raw_hang_up(&g->raw);
		served_hang_up(&g->s);
	}
	g->raw.loop = NULL;
}

static int setup_small(void **state)
{
	static const unsigned bufs[] = {64, 2, 1, 1, 1};

	return setup_with(state, bufs);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	static const struct CMUnitTest tests[] = {
	        T(no_handle),
	        T(forged_handle),
	        T(another_ones_handle),
	        T(wrong_object),
	        T(read_only),
	        T(expired),
	        T(revoked),
	        T(watch_expires),
	        T(replayed_request),
	        T(replayed_beginning),
	        T(anothers_session),
	        T(anothers_window),
	        cmocka_unit_test_setup_teardown(held_memory, setup_small, teardown),
	};

	pst_log_set(NULL, NULL, PST_LOG_ERROR);
	return cmocka_run_group_tests_name("wire_hostile", tests, NULL, NULL);
}
