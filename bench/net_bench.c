/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_bench - the sockets of src/net beside bare blocking ones, in one run, two processes on
 * loopback: requests of 64 bytes answered by 64 + 4096, at depth 1 and 32, and a stream of 1 MiB
 * frames. Rounds are interleaved; printed are medians and the ratio of each to its blocking pair.
 *
 *     net_bench [--rounds N] [--ms N] [--tls CERT KEY CA]      (CERT must be for 127.0.0.1)
 *
 * The blocking pair is what one writes first: a read and a write for each message, the depth kept by
 * sending that many requests ahead.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/net.h"

#define REQUEST    64
#define HEADER     64
#define PAYLOAD    4096
#define FRAME      (1 * MIB)
#define DEPTH_MAX  32
#define ROUNDS_MAX 99

enum kind { BLOCKING, NET, NET_TLS, KINDS };
static const char *const kind_names[] = {"blocking", "net", "net+tls"};

struct load {
	const char *name;
	unsigned depth; /* 0: stream */
};
static const struct load loads[] = {
        {"64 -> 4096 B, depth 1", 1}, {"64 -> 4096 B, depth 32", 32}, {"1 MiB frames", 0}};

static struct net_tls *tls;
static uint64_t round_ns = 300 * NSEC_PER_MSEC;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "net_bench: %s: %s\n", what, strerror(errno));
	_exit(1);
}

/* --- blocking --- */

static bool all(int fd, void *p, size_t len, bool in)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = in ? read(fd, (char *)p + done, len - done)
		               : send(fd, (char *)p + done, len - done, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static void blocking_server(int fd, const struct load *l)
{
	static char buf[FRAME];

	if (l->depth)
		while (all(fd, buf, REQUEST, true) && all(fd, buf, HEADER + PAYLOAD, false))
			;
	else
		while (all(fd, buf, FRAME, false))
			;
}

static uint64_t blocking_client(int fd, const struct load *l, uint64_t until_ns)
{
	static char buf[FRAME];
	uint64_t count = 0;

	for (unsigned i = 0; i < l->depth; i++)
		if (!all(fd, buf, REQUEST, false))
			die("write");
	while (clock_mono_ns() < until_ns) {
		if (!all(fd, buf, l->depth ? HEADER + PAYLOAD : FRAME, true))
			die("read");
		if (l->depth && !all(fd, buf, REQUEST, false))
			die("write");
		count++;
	}
	return count;
}

/* --- net: server --- */

struct answer {
	struct net_send m;
	struct iovec iov[2];
	bool busy;
};

struct server {
	struct net_sock *s;
	const struct load *load;
	struct answer answers[2 * DEPTH_MAX];
	unsigned next;
	bool over;
};

static struct server server;
static char header[HEADER], memory[FRAME];

static void answer_done(struct net_send *m, int status);

static void answer(void)
{
	struct answer *a = &server.answers[server.next++ % ARRAY_LEN(server.answers)];

	if (a->busy)
		die("more requests than the depth");
	a->iov[0] = (struct iovec){header, HEADER};
	a->iov[1] = (struct iovec){memory, server.load->depth ? PAYLOAD : FRAME - HEADER};
	a->m.iov = a->iov;
	a->m.iov_count = 2;
	a->m.done = answer_done;
	a->busy = !net_sock_send(server.s, &a->m);
}

static void answer_done(struct net_send *m, int status)
{
	container_of(m, struct answer, m)->busy = false;
	if (!server.load->depth && !status)
		answer();
}

static size_t server_data(struct net_sock *s, const void *bytes, size_t len)
{
	for (size_t i = 0; i + REQUEST <= len; i += REQUEST)
		answer();
	return len - len % REQUEST;
}

static void server_down(struct net_sock *s, int status)
{
	server.over = true;
}

static void server_up(struct net_sock *s, int status)
{
	if (status) {
		fprintf(stderr, "net_bench: %s\n", net_sock_error(s));
		_exit(1);
	}
	for (unsigned i = 0; !server.load->depth && i < 4; i++)
		answer();
}

/* --- net: client --- */

struct client {
	const struct load *load;
	uint64_t count;
	bool over;
};

static struct client client;

static void request(struct net_sock *s)
{
	if (client.load->depth && net_sock_write(s, &(struct iovec){header, REQUEST}, 1))
		die("net_sock_write");
}

static size_t client_data(struct net_sock *s, const void *bytes, size_t len)
{
	const struct iovec dest = {memory, client.load->depth ? PAYLOAD : FRAME - HEADER};

	if (len < HEADER)
		return 0;
	if (net_sock_recv_into(s, &dest, 1))
		die("net_sock_recv_into");
	return HEADER;
}

static void client_filled(struct net_sock *s)
{
	client.count++;
	request(s);
}

static void client_down(struct net_sock *s, int status)
{
	fprintf(stderr, "net_bench: %s\n", net_sock_error(s));
	_exit(1);
}

static void client_up(struct net_sock *s, int status)
{
	if (status)
		client_down(s, status);
	for (unsigned i = 0; i < client.load->depth; i++)
		request(s);
}

static const struct net_handlers server_handlers = {
        .up = server_up, .data = server_data, .filled = client_filled, .down = server_down};
static const struct net_handlers client_handlers = {
        .up = client_up, .data = client_data, .filled = client_filled, .down = client_down};

static struct net_sock *adopt(struct loop *loop, int fd, bool is_server, bool with_tls)
{
	const struct net_opts opts = {.tls = with_tls ? tls : NULL, .tls_name = "127.0.0.1"};
	struct pst_err err;
	struct net_sock *s;

	if (net_sock_adopt(&s, loop, fd, is_server, &opts,
	                   is_server ? &server_handlers : &client_handlers, NULL, &err)) {
		/* On a busy machine the other side's time may be over before ours begins. */
		if (err.code == -ENOTCONN)
			_exit(0);
		fprintf(stderr, "net_bench: %s\n", err.text);
		_exit(1);
	}
	return s;
}

static struct loop *make_loop(void)
{
	struct loop_opts opts;
	struct pst_err err;
	struct loop *loop;

	loop_opts_default(&opts);
	if (loop_new(&loop, &opts, &err)) {
		fprintf(stderr, "net_bench: %s\n", err.text);
		_exit(1);
	}
	return loop;
}

static void net_server(int fd, const struct load *l, bool with_tls)
{
	struct loop *loop = make_loop();

	server.load = l;
	server.s = adopt(loop, fd, true, with_tls);
	if (!with_tls)
		server_up(server.s, 0);
	while (!server.over)
		(void)loop_turn(loop, UINT64_MAX);
	net_sock_abort(server.s);
	net_finish(loop);
	loop_free(loop);
}

static uint64_t net_client(int fd, const struct load *l, uint64_t until_ns, bool with_tls)
{
	struct loop *loop = make_loop();
	struct net_sock *s;

	client.load = l;
	s = adopt(loop, fd, false, with_tls);
	if (!with_tls)
		client_up(s, 0);
	while (clock_mono_ns() < until_ns)
		(void)loop_turn(loop, 10 * NSEC_PER_MSEC);
	net_sock_abort(s);
	net_finish(loop);
	loop_free(loop);
	return client.count;
}

/* --- rounds --- */

static void connected(int fds[2])
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(in);
	const int one = 1;
	int l = socket(AF_INET, SOCK_STREAM, 0);

	if (l < 0 || bind(l, (struct sockaddr *)&in, len) || listen(l, 1) ||
	    getsockname(l, (struct sockaddr *)&in, &len))
		die("listen");
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (fds[0] < 0 || connect(fds[0], (struct sockaddr *)&in, len))
		die("connect");
	fds[1] = accept(l, NULL, NULL);
	if (fds[1] < 0)
		die("accept");
	close(l);
	for (unsigned i = 0; i < 2; i++)
		(void)setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* One round in two processes of its own: what its client counted, per second. */
static double one_round(enum kind kind, const struct load *l)
{
	int fds[2], out[2], status;
	uint64_t count = 0;
	pid_t pids[2];

	connected(fds);
	if (pipe(out))
		die("pipe");
	for (unsigned i = 0; i < 2; i++) {
		const uint64_t until = clock_mono_ns() + round_ns;

		pids[i] = fork();
		if (pids[i] < 0)
			die("fork");
		if (pids[i])
			continue;
		close(fds[!i]);
		if (i == 1 && kind == BLOCKING)
			blocking_server(fds[1], l);
		else if (i == 1)
			net_server(fds[1], l, kind == NET_TLS);
		else
			count = kind == BLOCKING ? blocking_client(fds[0], l, until)
			                         : net_client(fds[0], l, until, kind == NET_TLS);
		if (!i && write(out[1], &count, sizeof(count)) != sizeof(count))
			die("write");
		_exit(0);
	}
	close(fds[0]);
	close(fds[1]);
	close(out[1]);
	if (read(out[0], &count, sizeof(count)) != sizeof(count))
		count = 0;
	close(out[0]);
	for (unsigned i = 0; i < 2; i++)
		(void)waitpid(pids[i], &status, 0);
	return (double)count * 1e9 / (double)round_ns;
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), compare);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void measure(const struct load *l, unsigned rounds)
{
	const unsigned kinds = tls ? KINDS : NET_TLS;
	double rate[KINDS][ROUNDS_MAX], ratio[KINDS][ROUNDS_MAX];

	for (unsigned r = 0; r < rounds; r++) {
		for (unsigned k = 0; k < kinds; k++) {
			rate[k][r] = one_round((enum kind)k, l);
			ratio[k][r] = rate[BLOCKING][r] > 0 ? rate[k][r] / rate[BLOCKING][r] : 0;
		}
	}
	for (unsigned k = 0; k < kinds; k++) {
		const double m = median(rate[k], rounds), q = median(ratio[k], rounds);

		printf("%-24s %-9s %10.0f/s", l->name, kind_names[k], m);
		if (l->depth)
			printf("  %7.2f us each", m > 0 ? 1e6 / m : 0);
		else
			printf("  %7.2f GiB/s  ", m * FRAME / (double)GIB);
		printf("  %5.2f of blocking (%.2f to %.2f)\n", q, ratio[k][0],
		       ratio[k][rounds - 1]);
	}
	fflush(stdout);
}

static void load_tls(char **files)
{
	const struct net_tls_opts opts = {
	        .cert_file = files[0], .key_file = files[1], .ca_file = files[2]};
	struct pst_err err;

	if (net_tls_new(&tls, &opts, &err)) {
		fprintf(stderr, "net_bench: %s\n", err.text);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	unsigned rounds = 5;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--rounds") && i + 1 < argc) {
			rounds = (unsigned)strtoul(argv[++i], NULL, 10);
		} else if (!strcmp(argv[i], "--ms") && i + 1 < argc) {
			round_ns = strtoul(argv[++i], NULL, 10) * NSEC_PER_MSEC;
		} else if (!strcmp(argv[i], "--tls") && i + 3 < argc) {
			load_tls(argv + i + 1);
			i += 3;
		} else {
			fprintf(stderr,
			        "usage: net_bench [--rounds N] [--ms N] [--tls CERT KEY CA]\n");
			return 2;
		}
	}
	if (!rounds || rounds > ROUNDS_MAX || !round_ns) {
		fprintf(stderr, "net_bench: 1 to %d rounds, of at least 1 ms\n", ROUNDS_MAX);
		return 2;
	}
	for (unsigned i = 0; i < ARRAY_LEN(loads); i++)
		measure(&loads[i], rounds);
	net_tls_free(tls);
	return 0;
}
