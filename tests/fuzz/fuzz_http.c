/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_http - whatever comes to the HTTP door of the metrics: a server on a thread of its own, with the door that
 * `penstock serve --metrics` has, and up to four connections at once. The input is what is sent, but for the byte
 * 0xff, which makes one of these of the byte behind it:
 *
 *   0xff          the byte 0xff itself
 *   bits 0 and 1  the connection that goes on
 *   bit 2         first the door gets to see what was sent so far
 *   bit 3         that connection's reader goes away, with a reset
 *   bit 4         that connection says that it sends no more
 *
 * At the end the others go, too. What came back has to be an answer and nothing else: a status line, a status that
 * the door has, as many bytes as were said; and figures only for who asked for them. There is one on a connection,
 * which ends with it: the door answers before it reads what may follow a request's head. (It is not waited for an end
 * without an answer: libmicrohttpd sees one that came together with half a request when the request's time is over.)
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/server.h"

#include "fuzz.h"

#define CONNS     4
#define INPUT_MAX (64 * KIB)
#define GOT_MAX   (1 * MIB)
#define WAIT_S    20

struct conn {
	int fd;      /* -1: not used yet, or gone */
	bool half;   /* it sends no more */
	bool cut;    /* what came may end anywhere */
	char *asked; /* what is sent, and a NUL; NULL: not used yet */
	size_t asked_len, sent;
	char *got;
	size_t got_len, got_cap;
};

static struct conn conns[CONNS] = {{.fd = -1}, {.fd = -1}, {.fd = -1}, {.fd = -1}};
static struct sockaddr_in door;

static struct {
	bool figures, no_such, not_allowed, head;
} reached;

/* --- the server --- */

static pthread_barrier_t up;

static void *serve(void *arg)
{
	struct server_opts o = {.store = "local:mem:16m",
	                        .listen = {"127.0.0.1:0"},
	                        .listen_count = 1,
	                        .channels = "tcp",
	                        .control = "none",
	                        .metrics = "127.0.0.1:0"};
	static struct server s;
	struct loop_opts lo;
	struct loop *loop;
	struct pst_err err;
	const char *port;

	loop_opts_default(&lo);
	pst_assert(!loop_new(&loop, &lo, &err));
	pst_assert(!server_open(&s, loop, &o, &err));
	port = strrchr(server_metrics_addr(&s), ':') + 1;
	door = (struct sockaddr_in){.sin_family = AF_INET,
	                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	                            .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
	(void)pthread_barrier_wait(&up);
	pst_assert(!loop_run(loop));
	return arg;
}

static void setup(void)
{
	static bool ready;
	pthread_t thread;

	if (ready)
		return;
	ready = true;
	pst_assert(!pthread_barrier_init(&up, NULL, 2));
	pst_assert(!pthread_create(&thread, NULL, serve, NULL));
	(void)pthread_detach(thread);
	(void)pthread_barrier_wait(&up);
}

/* --- connections --- */

/* From an address of its own, in turn: thousands of connections a second leave their ports in use behind them, and
 * the door takes only some of one address. -EINTR: the fuzzer's alarm came in between. */
static int dial_once(void)
{
	static uint32_t turn;
	struct sockaddr_in from = {.sin_family = AF_INET,
	                           .sin_addr.s_addr = htonl(0x7f010001 + turn++ % 65000)};
	struct timeval wait = {.tv_sec = WAIT_S};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	pst_assert(fd >= 0);
	(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	pst_assert(!bind(fd, (const struct sockaddr *)&from, sizeof(from)));
	if (!connect(fd, (const struct sockaddr *)&door, sizeof(door)))
		return fd;
	pst_assert(errno == EINTR);
	close(fd);
	return -EINTR;
}

static int dial(void)
{
	int fd;

	do {
		fd = dial_once();
	} while (fd < 0);
	return fd;
}

/* As send() and recv(), through the fuzzer's alarms. */
static ssize_t say(int fd, const char *data, size_t len)
{
	ssize_t n;

	do {
		n = send(fd, data, len, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n;
}

static ssize_t hear(int fd, char *buf, size_t len, int flags)
{
	ssize_t n;

	do {
		n = recv(fd, buf, len, flags);
	} while (n < 0 && errno == EINTR);
	return n;
}

static void reset(int fd)
{
	struct linger at_once = {.l_onoff = 1};

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(fd);
}

/*
 * The door has one thread, which looks for what has come on all connections, and then at each of them. So what was
 * sent before the first of these went out has been looked at when the second is answered.
 */
static void seen(void)
{
	static const char ask[] = "GET /ping HTTP/1.1\r\nHost: h\r\n\r\n";
	char got[1024];

	for (unsigned n = 0; n < 2; n++) {
		int fd = dial();

		pst_assert(say(fd, ask, sizeof(ask) - 1) == sizeof(ask) - 1);
		pst_assert(hear(fd, got, sizeof(got), 0) > 12 && !memcmp(got + 9, "404", 3));
		reset(fd);
	}
}

/* Kept, and sent by flush(). */
static void send_to(struct conn *c, uint8_t b)
{
	if (!c->asked) {
		c->fd = dial();
		c->asked = malloc(INPUT_MAX + 1);
		pst_assert(c->asked);
	}
	if (c->fd < 0 || c->half)
		return;
	c->asked[c->asked_len++] = (char)b;
	c->asked[c->asked_len] = 0;
}

/* One that the door has ended takes no more. */
static void flush(struct conn *c)
{
	if (c->fd >= 0 && c->asked_len > c->sent &&
	    say(c->fd, c->asked + c->sent, c->asked_len - c->sent) < 0)
		c->cut = true;
	c->sent = c->asked_len;
}

/* --- what came back --- */

/* How many of @len bytes stand before the first @c, or all. */
static size_t bytes_before(const char *at, size_t len, char c)
{
	const char *found = memchr(at, c, len);

	return found ? (size_t)(found - at) : len;
}

/* Does @method stand there with the path of the figures behind it, maybe escaped? */
static bool asks(const struct conn *c, const char *method)
{
	const char *at = c->asked, *end = c->asked + c->asked_len, *path;
	size_t len = strlen(method);

	for (; (at = memmem(at, (size_t)(end - at), method, len)); at += len) {
		static const char want[] = "/metrics";
		unsigned i = 0;

		path = at + len;
		/* For libmicrohttpd a word ends with its first NUL, too. */
		if (path < end && !*path)
			path += bytes_before(path, (size_t)(end - path), ' ');
		while (*path == ' ' || *path == '\t')
			path++;
		while (want[i] && path < end) {
			bool escaped = *path == '%' && end - path > 2;
			const char hex[] = {escaped ? path[1] : 0, escaped ? path[2] : 0, 0};
			char is = escaped ? (char)strtoul(hex, NULL, 16) : *path;

			if (is != want[i])
				break;
			path += escaped ? 3 : 1;
			i++;
		}
		if (!want[i] && (path == end || !isalnum((unsigned char)*path)))
			return true;
	}
	return false;
}

static bool is_error(unsigned code)
{
	return code == 400 || code == 413 || code == 414 || code == 431 || code == 500 ||
	       code == 501 || code == 503 || code == 505;
}

/* The value of a field in @head, which ends with an empty line. */
static long length_said(const char *head, size_t len)
{
	static const char name[] = "\r\nContent-Length: ";
	const char *at = memmem(head, len, name, sizeof(name) - 1);

	pst_assert(at && isdigit((unsigned char)at[sizeof(name) - 1]));
	return strtol(at + sizeof(name) - 1, NULL, 10);
}

static void check_body(unsigned code, const char *body, size_t len)
{
	static const char none[] = "there is only /metrics\n", get[] = "only GET\n";

	if (code == 200)
		pst_assert(len > 7 && !memcmp(body, "# HELP ", 7) && body[len - 1] == '\n');
	else if (code == 404)
		pst_assert(len == sizeof(none) - 1 && !memcmp(body, none, len));
	else if (code == 405)
		pst_assert(len == sizeof(get) - 1 && !memcmp(body, get, len));
	else
		pst_assert(is_error(code));
	reached.figures |= code == 200;
	reached.no_such |= code == 404;
	reached.not_allowed |= code == 405;
}

/* An answer's bytes; 0: it is cut off. */
static size_t check_answer(const struct conn *c, const char *at, size_t len, unsigned *ret_code)
{
	const char *end = memmem(at, len, "\r\n\r\n", 4);
	bool asked_head = memmem(c->asked, c->asked_len, "HEAD", 4);
	size_t head, body;

	if (!end) {
		pst_assert(c->cut);
		return 0;
	}
	head = (size_t)(end + 4 - at);
	pst_assert(!memcmp(at, "HTTP/1.", 7) && (at[7] == '0' || at[7] == '1') && at[8] == ' ');
	*ret_code = (unsigned)strtoul(at + 9, NULL, 10);
	pst_assert(at[12] == ' ');
	if (*ret_code == 100) /* "go on" */
		return head;
	body = (size_t)length_said(at, head);
	at += head;
	len -= head;
	/* A HEAD's: no body begins like the next answer. (Of two errors in one request libmicrohttpd 0.9 begins to tell
	 * both.) */
	if ((!len && (!c->cut || asked_head)) || (len >= 7 && !memcmp(at, "HTTP/1.", 7))) {
		pst_assert(is_error(*ret_code) || asked_head);
		reached.head |= *ret_code == 200;
		return head;
	}
	if (len < body) {
		pst_assert(c->cut);
		return 0;
	}
	check_body(*ret_code, at, body);
	return head + body;
}

static void check(const struct conn *c)
{
	unsigned code = 0, answers = 0;
	size_t at = 0, len = 1;

	for (; at < c->got_len && len; at += len) {
		len = check_answer(c, c->got + at, c->got_len - at, &code);
		pst_assert(code == 100 || !answers++ || is_error(code));
		pst_assert(code != 200 || asks(c, "GET") || asks(c, "HEAD"));
	}
}

/* --- taking it --- */

/* Is it known that more of the answer has to come? */
static bool misses(const struct conn *c)
{
	const char *end = c->got_len ? memmem(c->got, c->got_len, "\r\n\r\n", 4) : NULL;
	size_t head;

	if (!end)
		return c->got_len > 0;
	head = (size_t)(end + 4 - c->got);
	return memcmp(c->got + 9, "100", 3) != 0 && !memmem(c->asked, c->asked_len, "HEAD", 4) &&
	       c->got_len < head + (size_t)length_said(c->got, head);
}

/* What has come. The door may have ended the connection, or wait for more. */
static void collect(struct conn *c)
{
	ssize_t n;

	do {
		if (c->got_cap - c->got_len < 64 * KIB) {
			c->got_cap = c->got_cap * 2 + 128 * KIB;
			c->got = realloc(c->got, c->got_cap);
			pst_assert(c->got && c->got_cap < GOT_MAX);
		}
		n = hear(c->fd, c->got + c->got_len, c->got_cap - c->got_len,
		         misses(c) ? 0 : MSG_DONTWAIT);
		c->got_len += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	pst_assert(n == 0 || errno == ECONNRESET || (errno == EAGAIN && !misses(c)));
	c->cut |= n < 0;
}

/* What the byte behind a 0xff says. */
static struct conn *act(struct conn *c, uint8_t what)
{
	flush(c);
	if (what & 4)
		seen();
	c = &conns[what & 3];
	if (c->fd < 0)
		return c;
	if (what & 8) {
		reset(c->fd);
		c->fd = -1;
	} else if (what & 16) {
		flush(c);
		c->half = true;
		(void)shutdown(c->fd, SHUT_WR);
	}
	return c;
}

static void end(struct conn *c)
{
	if (c->fd >= 0) {
		collect(c);
		check(c);
		reset(c->fd);
	}
	free(c->asked);
	free(c->got);
	*c = (struct conn){.fd = -1};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conn *c = conns;

	if (size > INPUT_MAX)
		return 0;
	setup();
	for (size_t i = 0; i < size; i++) {
		uint8_t what = i + 1 < size ? data[i + 1] : 0;

		if (data[i] != 0xff) {
			send_to(c, data[i]);
			continue;
		}
		if (what == 0xff)
			send_to(c, what);
		else
			c = act(c, what);
		i++;
	}
	for (c = conns; c < conns + CONNS; c++)
		flush(c);
	seen();
	for (c = conns; c < conns + CONNS; c++)
		end(c);
	return 0;
}

const char *fuzz_missing(void)
{
	return !reached.figures       ? "figures"
	       : !reached.head        ? "figures' length alone (HEAD)"
	       : !reached.no_such     ? "404"
	       : !reached.not_allowed ? "405"
	                              : NULL;
}
