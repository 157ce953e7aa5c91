/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sockets without TLS: addresses, streams that must arrive byte for byte, connecting and listening
 * and what can go wrong there, memory that is not there. test_net_more.c has the rest.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "net_util.h"

static char dir[] = "/tmp/pst-net-XXXXXX";

static const char *path_in_dir(char *buf, size_t len, const char *prefix, const char *name)
{
	snprintf(buf, len, "%s%s/%s", prefix, dir, name);
	return buf;
}

/* --- addresses --- */

static void test_addr_parse(void **state)
{
	static const struct {
		const char *text, *printed;
		uint16_t default_port;
		bool loopback;
	} good[] = {
	        {"127.0.0.1:80", "127.0.0.1:80", 0, true},
	        {"127.9.8.7:80", "127.9.8.7:80", 0, true},
	        {"10.0.0.1", "10.0.0.1:7440", 7440, false},
	        {"10.0.0.1:0", "10.0.0.1:0", 7440, false},
	        {"*:65535", "0.0.0.0:65535", 0, false},
	        {"[::1]:9", "[::1]:9", 0, true},
	        {"[::]", "[::]:5", 5, false},
	        {"[::ffff:127.0.0.1]:9", "[::ffff:127.0.0.1]:9", 0, true},
	        {"[2001:db8::2]:9", "[2001:db8::2]:9", 0, false},
	        {"unix:/a/b", "unix:/a/b", 0, true},
	        {"unix:x:y", "unix:x:y", 0, true},
	        {"unix-abstract:name", "unix-abstract:name", 0, true},
	};
	static const struct {
		const char *text;
		uint16_t default_port;
		int code;
		const char *says;
	} bad[] = {
	        {"", 1, -EINVAL, "no host"},
	        {":80", 0, -EINVAL, "no host"},
	        {"1.2.3.4", 0, -EINVAL, "no port"},
	        {"1.2.3.4:", 1, -EINVAL, "no port"},
	        {"1.2.3.4:65536", 0, -EINVAL, "no port (0 to"},
	        {"1.2.3.4:99999999", 0, -EINVAL, "is no port"},
	        {"1.2.3.4:-1", 0, -EINVAL, "is no port"},
	        {"1.2.3.4: 1", 0, -EINVAL, "is no port"},
	        {"1.2.3.4:1x", 0, -EINVAL, "is no port"},
	        {"::1", 1, -EINVAL, "brackets"},
	        {"[::1", 1, -EINVAL, "without"},
	        {"[::1]x", 1, -EINVAL, "without"},
	        {"[]:1", 1, -EINVAL, "no host"},
	        {"[1.2.3.4]:1", 1, -EINVAL, "no IPv6"},
	        {"[::1%nosuch0]:1", 1, -EINVAL, "no IPv6"},
	        {"unix:", 0, -EINVAL, "without a path"},
	        {"unix-abstract:", 0, -EINVAL, "without a name"},
	        {"localhost:1", 0, -EDESTADDRREQ, "is a name"},
	        {"1.2.3.256:1", 0, -EDESTADDRREQ, "is a name"},
	};
	char buf[NET_ADDR_TEXT_MAX];
	struct net_addr a;

	for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
		struct pst_err err = {0};

		if (net_addr_parse(&a, good[i].text, good[i].default_port, &err))
			fail_msg("%s: %s", good[i].text, err.text);
		assert_string_equal(net_addr_print(&a, buf, sizeof(buf)), good[i].printed);
		assert_int_equal(net_addr_is_loopback(&a), good[i].loopback);
	}
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct pst_err err = {0};

		assert_int_equal(net_addr_parse(&a, bad[i].text, bad[i].default_port, &err),
		                 bad[i].code);
		if (!strstr(err.text, bad[i].says))
			fail_msg("'%s' says '%s', not '%s'", bad[i].text, err.text, bad[i].says);
	}
}

static void test_addr_long(void **state)
{
	char text[400], buf[NET_ADDR_TEXT_MAX];
	struct pst_err err;
	struct net_addr a;

	for (size_t len = 1; len < 200; len++) {
		memset(text, 'p', sizeof(text));
		memcpy(text, "unix:", 5);
		text[5 + len] = '\0';
		assert_int_equal(net_addr_parse(&a, text, 0, &err), len < 108 ? 0 : -EINVAL);
		if (len < 108)
			assert_string_equal(net_addr_print(&a, buf, sizeof(buf)), text);
		memcpy(text, "[1]:5", 5);
		assert_true(net_addr_parse(&a, text, 0, &err) < 0);
	}
	memset(text, 'h', sizeof(text));
	for (size_t len = 200; len < 399; len++) {
		memcpy(text + len - 1, ":1", 3);
		assert_int_equal(net_addr_parse(&a, text, 0, &err),
		                 len - 1 < NET_HOST_BYTES_MAX ? -EDESTADDRREQ : -EINVAL);
		text[len - 1] = text[len] = text[len + 1 < 400 ? len + 1 : len] = 'h';
	}
}

static void test_resolve(void **state)
{
	struct net_addr addrs[NET_ADDRS_MAX];
	unsigned count = 0;
	struct pst_err err;

	assert_int_equal(net_resolve(addrs, &count, "localhost:7", 0, &err), 0);
	assert_true(count > 0);
	for (unsigned i = 0; i < count; i++) {
		assert_true(net_addr_is_loopback(&addrs[i]));
		assert_int_equal(net_addr_port(&addrs[i]), 7);
	}
	count = 77;
	assert_int_equal(net_resolve(addrs, &count, "localhost:", 0, &err), -EINVAL);
	assert_int_equal(count, 77);
	assert_int_equal(net_resolve(addrs, &count, "127.0.0.1:4", 0, &err), 0);
	assert_int_equal(count, 1);
}

static void own(const struct sockaddr *sa, socklen_t len, bool want)
{
	struct net_addr a = {.len = len};
	char buf[NET_ADDR_TEXT_MAX];

	memcpy(&a.sa, sa, len);
	if (net_addr_is_own(&a) != want)
		fail_msg("%s: own %d", net_addr_print(&a, buf, sizeof(buf)), !want);
}

/* All that the interfaces have, and nothing else: those of a network for documentation are nobody's. */
static void test_addr_own(void **state)
{
	const struct {
		const char *text;
		bool own;
	} of[] = {{"127.0.0.9:1", true},
	          {"[::1]:1", true},
	          {"unix:/x", true},
	          {"203.0.113.77:1", false},
	          {"[2001:db8::77]:1", false},
	          {"*:1", false},
	          {"[::ffff:203.0.113.77]:1", false}};
	struct ifaddrs *all;

	for (unsigned i = 0; i < ARRAY_LEN(of); i++) {
		struct net_addr a;

		assert_int_equal(net_addr_parse(&a, of[i].text, 0, NULL), 0);
		own((const struct sockaddr *)&a.sa, a.len, of[i].own);
	}
	assert_int_equal(getifaddrs(&all), 0);
	for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
		if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET)
			own(i->ifa_addr, sizeof(struct sockaddr_in), true);
		if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET6)
			own(i->ifa_addr, sizeof(struct sockaddr_in6), true);
	}
	freeifaddrs(all);
}

/* --- streams --- */

static void stream(const char *addr, const struct net_opts *a, const struct net_opts *b,
                   uint64_t seed, uint64_t bytes, bool pauses)
{
	struct pair p;

	pair_open(&p, addr, a, b, seed);
	p.a->total_out = p.b->total_in = 1 + rng_below(&p.a->rng, bytes);
	p.b->total_out = p.a->total_in = 1 + rng_below(&p.a->rng, bytes);
	p.a->shut_after = p.b->shut_after = true;
	p.a->pauses = p.b->pauses = pauses;
	end_pump(p.a);
	end_pump(p.b);
	turn_until(p.loop, p.a->eofs && p.b->eofs, 60);
	assert_int_equal(p.a->in, p.a->total_in);
	assert_int_equal(p.b->in, p.b->total_in);
	assert_int_equal(p.a->bad + p.b->bad, 0);
	assert_int_equal(p.a->downs + p.b->downs, 0);
	assert_int_equal(net_sock_queued(p.a->s), 0);
	pair_close(&p);
}

static void test_stream_tcp(void **state)
{
	for (uint64_t seed = 1; seed <= 6; seed++)
		stream("127.0.0.1:0", NULL, NULL, seed, 3 * MIB, seed % 2);
}

static void test_stream_tcp6(void **state)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int r = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&in6, sizeof(in6));

	if (fd >= 0)
		close(fd);
	if (r) {
		print_message("# no IPv6 here\n");
		skip();
	}
	stream("[::1]:0", NULL, NULL, 77, 1 * MIB, false);
}

static void test_stream_tiny_buffers(void **state)
{
	const struct net_opts tiny = {.send_buf = 1, .recv_buf = 1, .queue_max = 3000};
	const struct net_opts tiny2 = {.send_buf = 5000, .recv_buf = 4000, .queue_max = 1};
	/* A window below one segment makes the kernel wait for timers: not on TCP. */
	const struct net_opts small = {.send_buf = 1, .recv_buf = 100000, .queue_max = 1};

	for (uint64_t seed = 10; seed < 14; seed++) {
		stream("127.0.0.1:0", &small, &small, seed, 1 * MIB, seed % 2);
		stream("unix-abstract:pst-net-tiny", &tiny2, &tiny, seed, 400 * KIB, seed % 2);
	}
}

static void test_stream_unix(void **state)
{
	char addr[128];

	for (uint64_t seed = 20; seed < 24; seed++)
		stream(path_in_dir(addr, sizeof(addr), "unix:", "stream"), NULL, NULL, seed,
		       3 * MIB, seed % 2);
}

static void test_stream_name(void **state)
{
	struct loop *loop = net_loop();
	struct end *a = end_new(loop, 1, 1, 2), *b = end_new(loop, 2, 2, 1);
	struct host h;
	char addr[64];

	host_open(&h, loop, "127.0.0.1:0", NULL);
	host_expect(&h, b);
	snprintf(addr, sizeof(addr), "localhost:%u", net_addr_port(net_listener_addr(h.l)));
	a->total_out = b->total_in = 1000;
	end_connect(a, addr, NULL);
	assert_int_equal(a->up_status, 0);
	turn_until(loop, b->in == 1000, 5);
	/* And one that is given up while the name is looked up. */
	net_sock_abort(a->s);
	a->ups = 0;
	assert_int_equal(net_sock_connect(&a->s, loop, addr, NULL, &end_handlers, a, NULL), 0);
	net_sock_abort(a->s);
	net_sock_close(b->s);
	net_listener_close(h.l);
	net_finish(loop);
	assert_int_equal(a->ups, 0);
	assert_int_equal(a->gones, 2);
	end_free(a);
	end_free(b);
	loop_free(loop);
}

enum { MANY = 120 };

static void test_many(void **state)
{
	struct loop *loop = net_loop();
	struct end *ends[2 * MANY];
	struct host h;

	host_open(&h, loop, "127.0.0.1:0", NULL);
	for (unsigned i = 0; i < 2 * MANY; i++) {
		ends[i] = end_new(loop, i, i, i ^ 1);
		ends[i]->total_out = 1000 + i / 2;
		ends[i]->total_in = 1000 + i / 2;
	}
	/* One by one, so that we know who meets whom. */
	for (unsigned i = 0; i < 2 * MANY; i += 2) {
		host_expect(&h, ends[i]);
		end_connect(ends[i + 1], h.addr, NULL);
		turn_until(loop, ends[i]->s, 5);
	}
	assert_int_equal(net_listener_conns(h.l), MANY);
	for (unsigned i = 0; i < 2 * MANY; i++) {
		turn_until(loop, ends[i]->in == ends[i]->total_in, 20);
		assert_int_equal(ends[i]->bad, 0);
	}
	for (unsigned i = 0; i < 2 * MANY; i++)
		net_sock_close(ends[i]->s);
	turn_until(loop, !net_listener_conns(h.l), 10);
	net_listener_close(h.l);
	net_finish(loop);
	for (unsigned i = 0; i < 2 * MANY; i++) {
		assert_int_equal(ends[i]->gones, 1);
		end_free(ends[i]);
	}
	loop_free(loop);
}

/* --- connecting --- */

static void connect_fails(const char *addr, const struct net_opts *opts, int code, const char *says)
{
	struct loop *loop = net_loop();
	struct end *e = end_new(loop, 1, 1, 2);

	end_connect(e, addr, opts);
	assert_int_equal(e->up_status, code);
	if (!strstr(e->error, says))
		fail_msg("'%s' lacks '%s'", e->error, says);
	assert_int_equal(e->downs, 0);
	assert_true(net_sock_write(e->s, &(struct iovec){"x", 1}, 1) < 0);
	net_sock_close(e->s);
	net_finish(loop);
	assert_int_equal(e->ups, 1);
	assert_int_equal(e->gones, 1);
	end_free(e);
	loop_free(loop);
}

static void test_connect_refused(void **state)
{
	struct sockaddr_in in;
	int fd = raw_listen(&in, -1); /* bound: nobody else gets the port */
	char addr[128];

	snprintf(addr, sizeof(addr), "127.0.0.1:%u", ntohs(in.sin_port));
	connect_fails(addr, NULL, -ECONNREFUSED, "nobody listens at 127.0.0.1:");
	snprintf(addr, sizeof(addr), "localhost:%u", ntohs(in.sin_port));
	connect_fails(addr, NULL, -ECONNREFUSED, "nobody listens at localhost:");
	connect_fails("unix:/nonexistent/socket", NULL, -ENOENT, "there is no socket");
	connect_fails("unix-abstract:pst-nobody-here", NULL, -ECONNREFUSED, "nobody listens");
	close(fd);
}

static void test_connect_bad(void **state)
{
	struct loop *loop = net_loop();
	struct end *e = end_new(loop, 1, 1, 2);
	struct pst_err err;

	assert_int_equal(net_sock_connect(&e->s, loop, "1.2.3.4", NULL, &end_handlers, e, &err),
	                 -EINVAL);
	assert_non_null(strstr(err.text, "no port"));
	assert_null(e->s);
	net_finish(loop);
	assert_int_equal(e->gones, 0);
	end_free(e);
	loop_free(loop);
}

/* A listener whose backlog is full answers nobody: the deadline must come. */
static void test_connect_deadline(void **state)
{
	const struct net_opts opts = {.connect_ns = 300 * NSEC_PER_MSEC};
	struct sockaddr_in in;
	int l = raw_listen(&in, 0), fill[4];
	uint64_t start, took;
	char addr[64];

	for (unsigned i = 0; i < ARRAY_LEN(fill); i++) {
		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(fill[i], (struct sockaddr *)&in, sizeof(in));
	}
	usleep(50000);
	snprintf(addr, sizeof(addr), "127.0.0.1:%u", ntohs(in.sin_port));
	start = clock_mono_ns();
	connect_fails(addr, &opts, -ETIMEDOUT, "no answer within 0.3 s");
	took = clock_mono_ns() - start;
	assert_in_range(took, opts.connect_ns - NSEC_PER_MSEC, 5 * NSEC_PER_SEC);
	for (unsigned i = 0; i < ARRAY_LEN(fill); i++)
		close(fill[i]);
	close(l);
}

/* The same on a unix socket, where the kernel says it at once; and room in time is good enough. */
static void test_connect_unix_full(void **state)
{
	const struct net_opts opts = {.connect_ns = 200 * NSEC_PER_MSEC};
	struct loop *loop = net_loop();
	struct end *e = end_new(loop, 1, 1, 2);
	struct net_addr a;
	int l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), c, fd;

	assert_int_equal(net_addr_parse(&a, "unix-abstract:pst-net-full", 0, NULL), 0);
	assert_int_equal(bind(l, (struct sockaddr *)&a.sa, a.len), 0);
	assert_int_equal(listen(l, 0), 0);
	c = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(c, (struct sockaddr *)&a.sa, a.len), 0);
	connect_fails("unix-abstract:pst-net-full", &opts, -ETIMEDOUT, "no answer");
	assert_int_equal(net_sock_connect(&e->s, loop, "unix-abstract:pst-net-full", NULL,
	                                  &end_handlers, e, NULL),
	                 0);
	assert_true(loop_turn(loop, 0) >= 0);
	fd = accept(l, NULL, NULL);
	assert_true(fd >= 0);
	close(fd);
	turn_until(loop, e->ups, 5);
	assert_int_equal(e->up_status, 0);
	net_sock_close(e->s);
	net_finish(loop);
	end_free(e);
	loop_free(loop);
	close(c);
	close(l);
}

/* --- listening --- */

static bool refuse_all(struct net_listener *l, struct net_sock *s, void *user)
{
	return false;
}

static void listen_fails(struct loop *loop, const char *addr, int code, const char *says)
{
	static const struct net_accept cb = {.accept = refuse_all};
	struct net_listener *l = NULL;
	struct pst_err err = {0};

	assert_int_equal(net_listen(&l, loop, addr, 0, NULL, &cb, NULL, &err), code);
	assert_null(l);
	if (!strstr(err.text, says))
		fail_msg("'%s' lacks '%s'", err.text, says);
}

static void test_listen_bad(void **state)
{
	struct loop *loop = net_loop();
	struct host h;

	host_open(&h, loop, "127.0.0.1:0", NULL);
	assert_true(net_addr_port(net_listener_addr(h.l)) > 0);
	listen_fails(loop, h.addr, -EADDRINUSE, "is in use by another program");
	listen_fails(loop, "127.0.0.1", -EINVAL, "no port");
	listen_fails(loop, "192.0.2.1:0", -EADDRNOTAVAIL, "192.0.2.1:0");
	listen_fails(loop, "unix:/nonexistent/x", -ENOENT, "/nonexistent/x");
	net_listener_close(h.l);
	net_finish(loop);
	loop_free(loop);
}

/* What is held listens to nobody, is free for who lets go of it, and finds out who listens there. */
static void test_hold(void **state)
{
	struct loop *loop = net_loop();
	struct pst_err err = {0};
	struct net_hold *hold;
	struct net_addr a;
	char addr[NET_ADDR_TEXT_MAX];
	struct host h;
	int fd;

	host_open(&h, loop, "127.0.0.1:0", NULL);
	assert_int_equal(net_hold(&hold, h.addr, 0, 0, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, "is in use by another program"));
	snprintf(addr, sizeof(addr), "%s", h.addr);
	net_listener_close(h.l);
	net_finish(loop);
	assert_int_equal(net_hold(&hold, addr, 0, 0, &err), 0);
	assert_int_equal(net_addr_parse(&a, addr, 0, NULL), 0);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a.sa, a.len), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
	net_hold_free(hold);
	host_open(&h, loop, addr, NULL);
	net_listener_close(h.l);
	path_in_dir(addr, sizeof(addr), "unix:", "hold");
	assert_int_equal(net_hold(&hold, addr, 0, 0, &err), 0);
	listen_fails(loop, addr, -EADDRINUSE, "in use");
	net_hold_free(hold);
	host_open(&h, loop, addr, NULL);
	assert_int_equal(net_hold(&hold, addr, 0, 0, &err), -EADDRINUSE);
	net_listener_close(h.l);
	net_hold_free(NULL);
	net_finish(loop);
	loop_free(loop);
}

/* One that listens itself: with the mode it was given, and it removes its own file only. */
static void test_hold_listens(void **state)
{
	struct pst_err err = {0};
	struct net_hold *hold;
	struct net_addr a;
	char addr[NET_ADDR_TEXT_MAX];
	const char *path = addr + strlen("unix:");
	struct stat st;
	int fd, came;

	for (unsigned other = 0; other < 2; other++) {
		path_in_dir(addr, sizeof(addr), "unix:", "listens");
		assert_int_equal(net_hold(&hold, addr, 0, 0666, &err), 0);
		assert_int_equal(lstat(path, &st), 0);
		assert_int_equal(st.st_mode & 0777, 0666);
		came = net_hold_listen(hold, 4, &err);
		assert_true(came >= 0);
		assert_int_equal(net_addr_parse(&a, addr, 0, NULL), 0);
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		assert_int_equal(connect(fd, (struct sockaddr *)&a.sa, a.len), 0);
		came = accept(came, NULL, NULL);
		assert_true(came >= 0);
		close(came);
		close(fd);
		if (other) {
			assert_int_equal(unlink(path), 0);
			fd = socket(AF_UNIX, SOCK_STREAM, 0);
			assert_int_equal(bind(fd, (struct sockaddr *)&a.sa, a.len), 0);
			close(fd);
		}
		net_hold_free(hold);
		assert_int_equal(lstat(path, &st), other ? 0 : -1);
	}
	assert_int_equal(unlink(path), 0);
}

static void *closes_later(void *fd)
{
	const struct timespec t = {.tv_nsec = 100 * 1000000L};

	nanosleep(&t, NULL);
	close(*(int *)fd);
	return NULL;
}

/* What a killed program's ring still holds for a moment is no other program. */
static void test_listen_again(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct loop *loop = net_loop();
	socklen_t len = sizeof(a);
	pthread_t thread;
	struct host h;
	char addr[32];

	assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	snprintf(addr, sizeof(addr), "127.0.0.1:%u", ntohs(a.sin_port));
	assert_int_equal(pthread_create(&thread, NULL, closes_later, &fd), 0);
	host_open(&h, loop, addr, NULL);
	pthread_join(thread, NULL);
	assert_string_equal(h.addr, addr);
	net_listener_close(h.l);
	net_finish(loop);
	loop_free(loop);
}

static void test_accept_refused(void **state)
{
	static const struct net_accept cb = {.accept = refuse_all};
	struct loop *loop = net_loop();
	struct net_listener *l;
	struct end *e = end_new(loop, 1, 1, 2);
	char addr[NET_ADDR_TEXT_MAX];

	assert_int_equal(net_listen(&l, loop, "127.0.0.1:0", 0, NULL, &cb, NULL, NULL), 0);
	end_connect(e, net_addr_print(net_listener_addr(l), addr, sizeof(addr)), NULL);
	turn_until(loop, e->eofs, 5);
	net_sock_close(e->s);
	turn_until(loop, !net_listener_conns(l), 5);
	net_listener_close(l);
	net_finish(loop);
	end_free(e);
	loop_free(loop);
}

static void test_unix_file(void **state)
{
	char path[128], addr[128], file[128], lock[160];
	struct loop *loop = net_loop();
	struct net_opts opts = {.unix_mode = 0660};
	struct net_addr a;
	struct stat st;
	struct host h;
	mode_t mask = umask(0077);
	uint64_t now;
	int fd;

	path_in_dir(path, sizeof(path), "", "listen");
	path_in_dir(addr, sizeof(addr), "unix:", "listen");
	snprintf(lock, sizeof(lock), "%s.lock", path);
	/* What a killed server leaves behind: a socket that nobody listens on. */
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(net_addr_parse(&a, addr, 0, NULL), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a.sa, a.len), 0);
	close(fd);
	host_open(&h, loop, addr, &opts);
	assert_string_equal(h.addr, addr);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	listen_fails(loop, addr, -EADDRINUSE, "in use");
	/* The lock counts, even if the file is gone. */
	assert_int_equal(unlink(path), 0);
	listen_fails(loop, addr, -EADDRINUSE, "in use");
	net_listener_close(h.l);
	assert_int_equal(stat(lock, &st), -1);
	/* Somebody else's, who knows nothing of our lock. */
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a.sa, a.len), 0);
	assert_int_equal(listen(fd, 1), 0);
	listen_fails(loop, addr, -EADDRINUSE, "in use");
	close(fd);
	/* Again, and it is gone after close. */
	host_open(&h, loop, addr, NULL);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	net_listener_close(h.l);
	assert_int_equal(stat(path, &st), -1);
	/* What is no socket stays. */
	path_in_dir(file, sizeof(file), "", "file");
	fd = open(file, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	path_in_dir(addr, sizeof(addr), "unix:", "file");
	now = clock_mono_ns();
	listen_fails(loop, addr, -EEXIST, "it is there, and no socket");
	assert_in_range(clock_mono_ns() - now, 0, 1900 * NSEC_PER_MSEC); /* it is not waited for */
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(unlink(file), 0);
	umask(mask);
	net_finish(loop);
	loop_free(loop);
}

static void test_peer(void **state)
{
	struct pair p;
	char buf[NET_ADDR_TEXT_MAX];

	pair_open(&p, "127.0.0.1:0", NULL, NULL, 1);
	assert_false(net_sock_peer(p.b->s)->has_cred);
	assert_string_equal(net_addr_print(&net_sock_peer(p.a->s)->addr, buf, sizeof(buf)),
	                    p.host.addr);
	net_addr_print(net_sock_local(p.a->s), buf, sizeof(buf));
	assert_true(net_addr_port(net_sock_local(p.a->s)) ==
	            net_addr_port(&net_sock_peer(p.b->s)->addr));
	pair_close(&p);
	pair_open(&p, "unix-abstract:pst-net-peer", NULL, NULL, 1);
	for (unsigned i = 0; i < 2; i++) {
		const struct net_peer *peer = net_sock_peer(i ? p.a->s : p.b->s);

		assert_true(peer->has_cred);
		assert_int_equal(peer->uid, getuid());
		assert_int_equal(peer->gid, getgid());
		assert_int_equal(peer->pid, getpid());
	}
	pair_close(&p);
}

/* --- memory that is not there --- */

static void test_no_memory(void **state)
{
	for (uint64_t n = 1;; n++) {
		struct loop *loop = net_loop();
		struct end *a = end_new(loop, 1, 1, 2), *b = end_new(loop, 1, 2, 1);
		struct net_opts opts = {.connect_ns = 300 * NSEC_PER_MSEC};
		struct host h = {0};
		static const struct net_accept none = {.accept = refuse_all};
		struct net_listener *probe = NULL;
		struct pst_err err;
		bool through = false;

		a->total_out = b->total_in = 200000;
		b->total_out = a->total_in = 30;
		host_open(&h, loop, "127.0.0.1:0", NULL);
		host_expect(&h, b);
		(void)mem_alloc_fail_at(n, false);
		if (!net_listen(&probe, loop, "unix-abstract:pst-net-probe", 0, NULL, &none, NULL,
		                &err))
			net_listener_close(probe);
		if (!net_sock_connect(&a->s, loop, h.addr, &opts, &end_handlers, a, &err)) {
			const uint64_t until = clock_mono_ns() + 2 * NSEC_PER_SEC;

			while (clock_mono_ns() < until && !h.failed && !a->downs && !b->downs &&
			       !(a->ups && a->up_status) &&
			       !(b->in == b->total_in && a->in == a->total_in)) {
				assert_true(loop_turn(loop, NSEC_PER_MSEC) >= 0);
				/* A write that was refused for lack of memory is tried again. */
				if (a->s && a->ups && !a->up_status && !a->downs)
					end_pump(a);
				if (b->s && !b->downs)
					end_pump(b);
			}
			assert_true(clock_mono_ns() < until);
			assert_int_equal(a->bad + b->bad, 0);
			through = b->in == b->total_in && a->in == a->total_in;
			net_sock_close(a->s);
		}
		net_sock_close(b->s);
		net_listener_close(h.l);
		net_finish(loop);
		through &= mem_alloc_fail_at(0, false) < n;
		end_free(a);
		end_free(b);
		loop_free(loop);
		if (through) {
			assert_true(n > 5);
			return;
		}
	}
}

static int make_dir(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_addr_parse),
	        cmocka_unit_test(test_addr_own),
	        cmocka_unit_test(test_addr_long),
	        cmocka_unit_test(test_resolve),
	        cmocka_unit_test(test_stream_tcp),
	        cmocka_unit_test(test_stream_tcp6),
	        cmocka_unit_test(test_stream_tiny_buffers),
	        cmocka_unit_test(test_stream_unix),
	        cmocka_unit_test(test_stream_name),
	        cmocka_unit_test(test_many),
	        cmocka_unit_test(test_connect_refused),
	        cmocka_unit_test(test_connect_bad),
	        cmocka_unit_test(test_connect_deadline),
	        cmocka_unit_test(test_connect_unix_full),
	        cmocka_unit_test(test_listen_bad),
	        cmocka_unit_test(test_hold),
	        cmocka_unit_test(test_hold_listens),
	        cmocka_unit_test(test_listen_again),
	        cmocka_unit_test(test_accept_refused),
	        cmocka_unit_test(test_unix_file),
	        cmocka_unit_test(test_peer),
	        cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
