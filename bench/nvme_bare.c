/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nvme_bare - what NVMe between processes is held against: the same bytes with as little code as it
 * takes. Two processes, one on each side.
 *
 *   ring   64 bytes there and 16 back through two single-producer rings in shared memory; nobody
 *          sleeps
 *   tcp    --request bytes there (72) and --reply (24) + SIZE back over a loopback connection,
 *          blocking calls, as many under way as --depth; each is answered with one call, as by a
 *          program that reads a request and writes its answer
 *   batch  the same, but what came in one call is answered in one
 *   bulk   SIZE at a time, one way, over a loopback connection
 *
 * Prints {"iops": N, "bytes_per_s": N}.
 */
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RING      1024u
#define BUF_BYTES (4u << 20)

struct ring {
	uint32_t head __attribute__((aligned(64))); /* the consumer's */
	uint32_t tail __attribute__((aligned(64))); /* the producer's */
	struct {
		uint64_t word[8];
	} there[RING];
	uint32_t back_head __attribute__((aligned(64)));
	uint32_t back_tail __attribute__((aligned(64)));
	struct {
		uint64_t word[2];
	} back[RING];
};

static uint32_t depth = 32, size = 4096, request = 72, reply = 24;
static double seconds = 2;
static bool batch;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void result(uint64_t count, double took, uint64_t bytes)
{
	printf("{\"iops\": %.0f, \"bytes_per_s\": %.0f}\n", (double)count / took,
	       (double)bytes / took);
}

/* --- ring --- */

static void ring_server(struct ring *r)
{
	uint32_t head = 0, back = 0;

	for (;;) {
		uint32_t tail = __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE);

		while (head != tail) {
			uint64_t id = r->there[head % RING].word[0];

			r->back[back % RING].word[0] = id;
			r->back[back % RING].word[1] = r->there[head % RING].word[7];
			head++;
			back++;
		}
		__atomic_store_n(&r->head, head, __ATOMIC_RELEASE);
		__atomic_store_n(&r->back_tail, back, __ATOMIC_RELEASE);
	}
}

static void ring_client(struct ring *r)
{
	uint32_t tail = 0, back = 0;
	uint64_t count = 0, sum = 0;
	double start = now(), end = start + seconds;

	while ((count & 0xfff) || now() < end) {
		uint32_t came = __atomic_load_n(&r->back_tail, __ATOMIC_ACQUIRE);

		while (back != came) {
			sum += r->back[back % RING].word[0];
			back++;
			count++;
			if (!(count & 0xfff))
				break;
		}
		__atomic_store_n(&r->back_head, back, __ATOMIC_RELEASE);
		while (tail - back < depth) {
			for (unsigned i = 0; i < 8; i++)
				r->there[tail % RING].word[i] = tail + i;
			tail++;
		}
		__atomic_store_n(&r->tail, tail, __ATOMIC_RELEASE);
	}
	if (sum == 1)
		errx(1, "impossible"); /* the sum is used */
	result(count, now() - start, count * 80);
}

/* --- sockets --- */

static void pair(int fd[2])
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (l < 0 || fd[0] < 0 || bind(l, (struct sockaddr *)&a, sizeof(a)) || listen(l, 1) ||
	    getsockname(l, (struct sockaddr *)&a, &len) ||
	    connect(fd[0], (struct sockaddr *)&a, sizeof(a)))
		err(1, "loopback");
	fd[1] = accept(l, NULL, NULL);
	if (fd[1] < 0)
		err(1, "accept");
	for (int i = 0; i < 2; i++)
		setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	close(l);
}

static void send_all(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = send(fd, buf, len, MSG_NOSIGNAL);

		if (n <= 0)
			exit(0); /* the other side has ended */
		buf += n;
		len -= (size_t)n;
	}
}

/* Takes messages of @in bytes, answers each with @out. */
static void answer(int fd, char *buf, size_t in, size_t out)
{
	size_t have = 0;

	for (;;) {
		ssize_t n = recv(fd, buf, BUF_BYTES, 0);

		if (n <= 0)
			exit(0);
		have += (size_t)n;
		for (size_t k = batch ? have / in : 1; have >= in; have -= k * in)
			send_all(fd, buf, k * out);
	}
}

static void ask(int fd, char *buf, size_t out, size_t in)
{
	double start = now(), end = start + seconds;
	uint64_t count = 0;
	size_t have = 0, n;

	send_all(fd, buf, out * depth);
	while (now() < end) {
		ssize_t got = recv(fd, buf, BUF_BYTES, 0);

		if (got <= 0)
			errx(1, "the other side has ended");
		have += (size_t)got;
		n = have / in;
		have %= in;
		count += n;
		send_all(fd, buf, n * out);
	}
	result(count, now() - start, count * size);
}

static void bulk_receive(int fd, char *buf)
{
	double start = now(), end = start + seconds;
	uint64_t bytes = 0;

	while (now() < end) {
		ssize_t got = recv(fd, buf, size, 0);

		if (got <= 0)
			errx(1, "the other side has ended");
		bytes += (uint64_t)got;
	}
	result(bytes / size, now() - start, bytes);
}

/* --- */

static pid_t child(void)
{
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void serve(int fd, const char *mode, char *buf)
{
	if (strcmp(mode, "bulk") != 0)
		answer(fd, buf, request, reply + size);
	for (;;)
		send_all(fd, buf, size); /* ends the process when nobody listens any more */
}

static void sockets(const char *mode)
{
	char *buf = calloc(1, BUF_BYTES);
	int fd[2];
	pid_t pid;

	if (!buf)
		err(1, "memory");
	pair(fd);
	pid = child();
	if (!pid)
		serve(fd[1], mode, buf);
	close(fd[1]);
	if (strcmp(mode, "bulk") != 0)
		ask(fd[0], buf, request, reply + size);
	else
		bulk_receive(fd[0], buf);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	free(buf);
}

static void rings(void)
{
	struct ring *r =
	        mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	if (r == MAP_FAILED)
		err(1, "memory");
	pid = child();
	if (!pid)
		ring_server(r);
	ring_client(r);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	for (int i = 2; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--depth"))
			depth = (uint32_t)atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--size"))
			size = (uint32_t)atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--request"))
			request = (uint32_t)atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--reply"))
			reply = (uint32_t)atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--runtime"))
			seconds = atof(argv[i + 1]);
	}
	if (!depth || depth > RING / 2 || !size || size > BUF_BYTES)
		errx(2, "a depth of 1 to %u, a size of 1 to %u", RING / 2, BUF_BYTES);
	if (!request || request > 4096 || reply > 4096)
		errx(2, "--request and --reply: at most 4096");
	batch = !strcmp(mode, "batch");
	if (!strcmp(mode, "ring"))
		rings();
	else if (batch || !strcmp(mode, "tcp") || !strcmp(mode, "bulk"))
		sockets(mode);
	else
		errx(2, "ring, tcp, batch or bulk [--depth N] [--size N] [--request N] [--reply N] "
		        "[--runtime S]");
	return 0;
}
