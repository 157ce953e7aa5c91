/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whoever connects to a listener of the channel ofi and doesn't speak as agreed: it is told so or
 * not, it goes, and others find the listener as it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fabric_raw.h"
#include "raw_ofi.h"

/* An endpoint takes some 50 ms to make, and seconds on a host that gives this machine no processor. */
#define SILENCE_NS (10 * NSEC_PER_SEC)
#define LONG_NS    (60 * NSEC_PER_SEC)

/* More than strangers may have. Both ends are in one process, which may have 1024 descriptors. */
#define CONNS_MAX (OFI_CROWD_MAX + 100)

static struct raw_server *server(uint64_t connect_ns)
{
	struct raw_server *s = calloc(1, sizeof(*s));

	raw_server_open(s, "ofi", "127.0.0.1:0", false, connect_ns, CONNS_MAX);
	return s;
}

static void server_end(struct raw_server *s)
{
	raw_server_close(s);
	free(s);
}

/* As a peer says it whose endpoint is at the port 9 of this host. */
static struct ofi_hello good_hello(void)
{
	const struct sockaddr_in name = {.sin_family = AF_INET,
	                                 .sin_port = htons(9),
	                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	return raw_ofi_hello(&name, sizeof(name));
}

/* --- one who keeps to it --- */

struct client {
	struct chan *c;
	bool up;
};

static void client_up(struct chan *c, int status)
{
	struct client *k = c->user;

	assert_int_equal(status, 0);
	k->up = true;
}

static void client_down(struct chan *c, int status)
{
	fail();
}

static const struct chan_handlers client_handlers = {.up = client_up, .down = client_down};

static void takes_good_ones(struct raw_server *s)
{
	const struct fabric_opts opts = {.provider = "tcp"};
	uint64_t end_ns = clock_mono_ns() + 30 * NSEC_PER_SEC;
	unsigned accepted = s->accepted;
	struct client k = {0};

	assert_int_equal(
	        fabric_connect(&k.c, s->loop, "ofi", s->l->addr, &opts, &client_handlers, &k, NULL),
	        0);
	while ((!k.up || s->accepted == accepted) && clock_mono_ns() < end_ns)
		raw_turns(s, 1);
	assert_true(k.up);
	assert_int_equal(s->accepted, accepted + 1);
	chan_close(k.c);
	while (s->c && clock_mono_ns() < end_ns)
		raw_turns(s, 1);
	assert_null(s->c);
}

/* --- tests --- */

/* Wrong ones are hung up on when they are read. */
static void first_words(void **state)
{
	struct raw_server *s = server(LONG_NS);

	for (unsigned i = 0; i < 11; i++) {
		struct ofi_hello h[2] = {good_hello(), good_hello()};
		size_t len = sizeof(h[0]);
		int fd = raw_tcp(s->l->addr);

		switch (i) {
		case 0:
			h->magic = le64_make(1);
			break;
		case 1:
			h->version = le16_make(OFI_VERSION + 1);
			break;
		case 2:
			h->status = le32_make(UINT32_MAX);
			break;
		case 3:
			h->status = le32_make(EACCES);
			break;
		case 4:
			h->name_len = le16_make(0);
			break;
		case 5:
			h->name_len = le16_make(OFI_NAME_MAX + 1);
			break;
		case 6:
			memset(h->provider, 'x', sizeof(h->provider)); /* and no end */
			break;
		case 7:
			h->protocol = le32_make(FI_PROTO_RXD);
			break;
		case 8:
			h->msg_max = le32_make(0);
			break;
		case 9:
			memset(h->name, 0xff, sizeof(h->name));
			break;
		case 10:
			len = 2 * sizeof(h[0]);
			break;
		}
		assert_true(raw_send(fd, h, len));
		raw_must_hang_up(s, fd);
		close(fd);
	}
	takes_good_ones(s);
	server_end(s);
}

/* So are those from whom no more comes, at the deadline: all at the same one. */
static void silence(void **state)
{
	const struct ofi_hello h = good_hello();
	/* Nothing at all; a part; nothing wrong, but for the endpoint, from which nothing comes. */
	const size_t len[] = {0, sizeof(h) - 1, sizeof(h)};
	struct raw_server *s = server(SILENCE_NS);
	int fd[ARRAY_LEN(len)];

	for (unsigned i = 0; i < ARRAY_LEN(len); i++) {
		fd[i] = raw_tcp(s->l->addr);
		if (len[i])
			assert_true(raw_send(fd[i], &h, len[i]));
	}
	for (unsigned i = 0; i < ARRAY_LEN(len); i++) {
		raw_must_hang_up(s, fd[i]);
		close(fd[i]);
	}
	takes_good_ones(s);
	server_end(s);
}

static void lets_go_at_once(void **state)
{
	raw_must_let_go("ofi", "127.0.0.1:0");
}

static void not_up(struct chan *c, int status)
{
	*(int *)c->user = status;
}

/* Who is led to the door of another channel is told that it is none for this one. */
static void another_door(void **state)
{
	static const struct chan_handlers waiting = {.up = not_up};
	const struct fabric_opts opts = {.provider = "tcp"};
	struct raw_server *s = calloc(1, sizeof(*s));
	uint64_t end_ns = clock_mono_ns() + 30 * NSEC_PER_SEC;
	struct chan *c;
	int status = 0;

	raw_server_open(s, "tcp", "127.0.0.1:0", false, LONG_NS, 0);
	assert_int_equal(
	        fabric_connect(&c, s->loop, "ofi", s->l->addr, &opts, &waiting, &status, NULL), 0);
	while (!status && clock_mono_ns() < end_ns)
		raw_turns(s, 1);
	assert_int_equal(status, -ECONNREFUSED);
	assert_non_null(strstr(c->why, "is it a door for ofi?"));
	chan_close(c);
	server_end(s);
}

static void log_is_limited(void **state)
{
	struct raw_server *s = server(LONG_NS);

	raw_must_tell_few(s, raw_tcp, s->l->addr, sizeof(struct ofi_hello));
	server_end(s);
}

/* Many who say nothing are in nobody's way. */
static void crowd(void **state)
{
	enum { MORE = 40 };
	struct raw_server *s = server(LONG_NS);
	int fd[OFI_CROWD_MAX + MORE];
	char byte;

	for (unsigned i = 0; i < ARRAY_LEN(fd); i++) {
		fd[i] = raw_tcp(s->l->addr);
		raw_turns(s, 1);
	}
	for (unsigned i = 0; i < MORE; i++)
		raw_must_hang_up(s, fd[i]); /* the oldest, long before its deadline */
	assert_int_equal(recv(fd[MORE + 1], &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	takes_good_ones(s);
	for (unsigned i = 0; i < ARRAY_LEN(fd); i++)
		close(fd[i]);
	server_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(first_words),     cmocka_unit_test(silence),
	        cmocka_unit_test(crowd),           cmocka_unit_test(log_is_limited),
	        cmocka_unit_test(lets_go_at_once), cmocka_unit_test(another_door)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
