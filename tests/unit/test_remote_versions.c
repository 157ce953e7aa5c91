/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Client and server of versions that have nothing in common: both ends say so in a sentence, at once.
 * What lies between is tried by the store contract (old-client, old-server).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include <unistd.h>

#include "fabric/pipe_int.h"
#include "fabric/tcp_int.h"
#include "model_store.h"
#include "wire/codec.h"
#include "wire/wire.h"

#define LATER 9u /* a version that is far from ours */

_Static_assert(LATER > WIRE_VERSION + 1, "it is not ours");

struct end {
	struct loop *loop;
	struct chan *c;
	bool up, down;
	int status;      /* of the welcome that came */
	char text[300];  /* of the same */
	unsigned hellos; /* that came */
};

static void new_loop(struct end *e)
{
	struct loop_opts lo;

	loop_opts_default(&lo);
	assert_int_equal(loop_new(&e->loop, &lo, NULL), 0);
}

/* --- a server of a later version --- */

static void later_msg(struct chan *c, const void *data, uint32_t len)
{
	static const char text[] = "this server speaks version 8 to 9";
	const struct wire_welcome w = {.version = LATER,
	                               .status = -EPROTONOSUPPORT,
	                               .text = text,
	                               .text_len = sizeof(text) - 1};
	struct end *e = c->user;
	uint8_t buf[512];
	struct iovec iov = {buf, 0};

	e->hellos++;
	iov.iov_len = wire_welcome_put(buf, sizeof(buf), &w);
	assert_true(iov.iov_len > 0);
	assert_int_equal(chan_send(c, &iov, 1), 0);
}

static void any_ready(struct chan *c)
{
}

static void later_down(struct chan *c, int status)
{
	struct end *e = c->user;

	e->c = NULL;
	chan_close(c);
}

static const struct chan_handlers later_handlers = {
        .msg = later_msg, .ready = any_ready, .down = later_down};

static bool later_accept(struct fabric_listener *l, struct chan *c)
{
	struct end *e = l->user;

	c->handlers = &later_handlers;
	c->user = e;
	e->c = c;
	return true;
}

static void later_server(void **state)
{
	struct remote_opts ro = {.at = {{.provider = "tcp"}}, .at_count = 1, .connect_wait = true};
	struct fabric_listener *l;
	struct end e = {0};
	struct pst_err err = {0};
	struct store *s;
	uint64_t begun;

	new_loop(&e);
	assert_int_equal(fabric_listen(&l, e.loop, "tcp", "127.0.0.1:0", NULL, NULL), 0);
	l->accept = later_accept;
	l->user = &e;
	ro.at[0].addr = l->addr;
	ro.connect_ns = 600 * NSEC_PER_SEC; /* it doesn't wait for what will not change */
	begun = clock_mono_ns();
	assert_int_equal(remote_open(&s, e.loop, &ro, &err), -EPROTONOSUPPORT);
	assert_true(clock_mono_ns() - begun < 300 * NSEC_PER_SEC);
	assert_non_null(strstr(err.text, "refused: this server speaks version 8 to 9"));
	assert_int_equal(e.hellos, 1);
	if (e.c)
		chan_close(e.c);
	fabric_listener_close(l);
	fabric_finish(e.loop);
	loop_free(e.loop);
}

/* --- a server whose channel is of a later version, or whose welcome is --- */

struct tcp_first {
	struct tcp_head head;
	struct tcp_hello hello;
};

static struct tcp_first tcp_first(uint16_t version)
{
	return (struct tcp_first){{.type = TCP_HELLO, .len = le32_make(sizeof(struct tcp_hello))},
	                          {.magic = le64_make(TCP_MAGIC),
	                           .version = le16_make(version),
	                           .msg_max = le32_make(16 * KIB),
	                           .msg_credits = le32_make(64),
	                           .xfers_max = le32_make(64)}};
}

struct later_door {
	struct net_sock *s[8];
	struct iovec says;
	unsigned came;
};

static size_t door_data(struct net_sock *s, const void *bytes, size_t len)
{
	return len;
}

static void door_down(struct net_sock *s, int status)
{
}

static const struct net_handlers door_handlers = {.data = door_data, .down = door_down};

static bool door_accept(struct net_listener *l, struct net_sock *s, void *user)
{
	struct later_door *d = user;

	if (d->came == ARRAY_LEN(d->s))
		return false;
	d->s[d->came++] = s;
	net_sock_set_handlers(s, &door_handlers, d);
	return net_sock_write(s, &d->says, 1) == 0;
}

static const struct net_accept door = {.accept = door_accept};

/* Nothing was known before, so that nothing is tried again: long before the deadline there is a sentence that
 * names both. */
static void later_channel(struct remote_opts *ro, struct later_door *d, const char *at,
                          const char *sentence)
{
	struct net_listener *l;
	struct end e = {0};
	struct pst_err err = {0};
	struct store *s;
	uint64_t begun;

	new_loop(&e);
	assert_int_equal(net_listen(&l, e.loop, at, 0, NULL, &door, d, NULL), 0);
	ro->connect_wait = true;
	ro->connect_ns = 600 * NSEC_PER_SEC;
	begun = clock_mono_ns();
	assert_int_equal(remote_open(&s, e.loop, ro, &err), -EPROTONOSUPPORT);
	assert_true(clock_mono_ns() - begun < 300 * NSEC_PER_SEC);
	assert_non_null(strstr(err.text, sentence));
	assert_int_equal(d->came, 1);
	net_sock_abort(d->s[0]);
	net_listener_close(l);
	fabric_finish(e.loop);
	loop_free(e.loop);
}

static void later_tcp_server(void **state)
{
	char at[64];
	struct remote_opts ro = {.at = {{.provider = "tcp", .addr = at}}, .at_count = 1};
	struct tcp_first first = tcp_first(LATER);
	struct later_door d = {.says = {&first, sizeof(first)}};

	(void)snprintf(at, sizeof(at), "unix-abstract:penstock-later-%d", (int)getpid());
	later_channel(&ro, &d, at,
	              "speaks version 9 of the channel's protocol, and this end version 1");
}

/* The other places, where nobody is, don't hide what this one says. */
static void later_pipe_server(void **state)
{
	char at[64];
	struct remote_opts ro = {.at = {{.provider = "pipe", .addr = at},
	                                {.provider = "pipe", .addr = "/nowhere/at/all.sock"},
	                                {.provider = "tcp", .addr = "unix-abstract:penstock-none"}},
	                         .at_count = 3};
	struct pipe_frame first = {.magic = le64_make(PIPE_MAGIC),
	                           .version = le16_make(2),
	                           .type = le16_make(PIPE_HELLO)};
	struct later_door d = {.says = {&first, sizeof(first)}};

	(void)snprintf(at, sizeof(at), "unix-abstract:penstock-later-%d", (int)getpid());
	later_channel(&ro, &d, at,
	              "speaks version 2 of the channel's protocol, and this end version 1");
}

static void later_welcome(void **state)
{
	struct {
		struct tcp_first first;
		struct tcp_head msg;
		uint8_t welcome[128];
	} all = {tcp_first(TCP_VERSION),
	         {.type = TCP_MSG, .len = le32_make(sizeof(all.welcome))},
	         {WIRE_WELCOME, LATER}};
	char at[64];
	struct remote_opts ro = {.at = {{.provider = "tcp", .addr = at}}, .at_count = 1};
	struct later_door d = {.says = {&all, sizeof(all)}};

	(void)snprintf(at, sizeof(at), "unix-abstract:penstock-later-%d", (int)getpid());
	later_channel(&ro, &d, at, "not a Penstock server, or one of another version");
}

/* --- a client of a later version --- */

static void client_up(struct chan *c, int status)
{
	struct end *e = c->user;

	assert_int_equal(status, 0);
	e->up = true;
}

static void client_msg(struct chan *c, const void *data, uint32_t len)
{
	struct end *e = c->user;
	struct wire_welcome w;

	assert_int_equal(wire_welcome_get(&w, data, len), 0);
	e->status = w.status;
	(void)snprintf(e->text, sizeof(e->text), "%.*s", (int)w.text_len, w.text);
}

static void client_down(struct chan *c, int status)
{
	((struct end *)c->user)->down = true;
}

static const struct chan_handlers client_handlers = {
        .up = client_up, .msg = client_msg, .ready = any_ready, .down = client_down};

static void later_client(void **state)
{
	const struct session_opts so = {.open_access = true};
	const struct wire_hello h = {.version = LATER, .version_min = LATER - 1};
	struct session_table *table;
	struct wire_listener *l;
	struct end e = {0};
	const char *addr;
	struct store *s;
	uint8_t buf[512];
	struct iovec iov = {buf, 0};

	new_loop(&e);
	assert_int_equal(model_store_new(&s, e.loop, NULL), 0);
	assert_int_equal(session_table_open(&table, s, &so, NULL), 0);
	assert_int_equal(wire_listener_new(&l, table, NULL, NULL), 0);
	assert_int_equal(wire_listener_add(l, "tcp", "127.0.0.1:0", NULL, &addr, NULL), 0);
	assert_int_equal(
	        fabric_connect(&e.c, e.loop, "tcp", addr, NULL, &client_handlers, &e, NULL), 0);
	while (!e.up)
		(void)loop_turn(e.loop, NSEC_PER_MSEC);
	iov.iov_len = wire_hello_put(buf, sizeof(buf), &h);
	assert_true(iov.iov_len > 0);
	assert_int_equal(chan_send(e.c, &iov, 1), 0);
	while (!e.down)
		(void)loop_turn(e.loop, NSEC_PER_MSEC);
	assert_int_equal(e.status, -EPROTONOSUPPORT);
	assert_non_null(strstr(e.text, "the client 8 to 9"));
	chan_close(e.c);
	wire_listener_close(l, NSEC_PER_SEC);
	session_table_close(table);
	assert_int_equal(store_close(s), 0);
	fabric_finish(e.loop);
	loop_free(e.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(later_server), cmocka_unit_test(later_tcp_server),
	        cmocka_unit_test(later_pipe_server), cmocka_unit_test(later_welcome),
	        cmocka_unit_test(later_client)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
