/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * served_kill - servers that are killed with SIGKILL at random moments under mixed load from several
 * clients, which ride through: every op succeeds, nothing that was acknowledged is lost, nothing is
 * applied twice, fsck finds nothing. Then clients are killed: they leave nothing held at the server,
 * and each of their ops has happened whole or not at all.
 *
 * usage: served_kill PENSTOCK FOLDER CHANNEL [EPISODES [KILLS [SEED [REACTORS]]]]: SEED 0: any; REACTORS 2:
 * servers with --cores, or nothing (77) where there is one core
 *
 * An episode: a server, CLIENTS processes that work on lanes of their own and say on a pipe which
 * op has ended; KILLS times the server is killed and started again, each time after every client was
 * heard of; some clients are told to end, the others are killed; the server ends; what is in the
 * store is compared with what the lanes' numbers say.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/stack.h"
#include "load.h"
#include "stack.h"

#define IO_MAX     150000u
#define STORE_SIZE (192 * MIB)
#define CLIENTS    3
#define WAIT_MS    60000 /* for what must come: no test of speed */

static const uint32_t client_lanes[CLIENTS] = {0x43, 0x8c, 0x30};
_Static_assert(LOAD_LANES == 8 && LOAD_OBJECT_LANES == 6, "object lanes 0 to 5, files 6 and 7");

struct word {
	uint32_t lane, durable;
	uint64_t n;
};

struct client {
	pid_t pid;
	int in;
	size_t have; /* bytes of @part: a word may come in two */
	uint8_t part[sizeof(struct word)];
	uint64_t words;
};

static struct {
	const char *penstock, *channel;
	char cores[32]; /* "": no list */
	char *store, sock[200], listen[40], uri[400];
	pid_t server;
	int out; /* the server's stdout */
	uint16_t port, metrics;
	struct client client[CLIENTS];
	struct load_known known[LOAD_LANES];
	uint64_t episode, kills, seed;
	bool dying; /* whatever ends now ends by our hand */
} t;

static _Noreturn void give_up(const char *what, const char *text)
{
	fprintf(stderr, "%s, episode %llu, kill %llu, seed %llu: %s: %s\nthe store is left in %s\n",
	        t.channel, (unsigned long long)t.episode, (unsigned long long)t.kills,
	        (unsigned long long)t.seed, what, text, t.store);
	if (t.server > 0)
		kill(t.server, SIGKILL);
	exit(1);
}

/* --- the server --- */

static _Noreturn void server_exec(int out)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(out, STDOUT_FILENO);
	execl(t.penstock, t.penstock, "serve", "-q", t.store, "--listen", t.listen, "--socket",
	      t.sock, "--insecure", "--control", "none", "--metrics", "127.0.0.1:0", "--channels",
	      strncmp(t.channel, "ofi", 3) == 0 ? t.channel : "pipe,tcp",
	      t.cores[0] ? "--cores" : (char *)NULL, t.cores, (char *)NULL);
	_exit(127);
}

/* The port that stands before @kind in the server's first line. */
static uint16_t port_of(const char *line, const char *kind)
{
	const char *end = strstr(line, kind);
	unsigned long port;

	while (end && end > line && *end != ':')
		end--;
	port = end && *end == ':' ? strtoul(end + 1, NULL, 10) : 0;
	if (!port || port > UINT16_MAX)
		give_up("the server's first line", line);
	return (uint16_t)port;
}

/* False: it ended before it was ready. */
static bool server_try(char *line, size_t line_len)
{
	int fds[2];
	size_t n = 0;

	if (pipe(fds))
		give_up("pipe", "failed");
	fflush(NULL);
	t.server = fork();
	if (!t.server) {
		close(fds[0]);
		server_exec(fds[1]);
	}
	close(fds[1]);
	while (n + 1 < line_len && read(fds[0], &line[n], 1) == 1 && line[n] != '\n')
		n++;
	line[n] = 0;
	t.out = fds[0];
	if (n)
		return true;
	close(fds[0]);
	waitpid(t.server, NULL, 0);
	t.server = 0;
	return false;
}

/* Its port may be somebody else's for a moment: what this host hands out to who asks for any. */
static void server_start(void)
{
	char line[500];
	int tries = 0;

	while (!server_try(line, sizeof(line))) {
		if (++tries == 50)
			give_up("the server", "does not start");
		poll(NULL, 0, 100);
	}
	if (!t.port)
		t.port = strncmp(t.channel, "ofi", 3) == 0 ? port_of(line, " (ofi)") - 2
		                                           : port_of(line, " (tcp)");
	t.metrics = port_of(line, " (metrics)");
	snprintf(t.listen, sizeof(t.listen), "127.0.0.1:%u", t.port);
}

static int server_wait(void)
{
	int status;

	if (waitpid(t.server, &status, 0) != t.server)
		give_up("the server", "is gone");
	t.server = 0;
	close(t.out);
	return status;
}

/* The figure of that name; -1: there is none. */
static double metric(const char *name)
{
	static const char get[] = "GET /metrics HTTP/1.0\r\n\r\n";
	struct sockaddr_in to = {.sin_family = AF_INET,
	                         .sin_port = htons(t.metrics),
	                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	static char text[1 << 20];
	char want[80];
	size_t n = 0;
	ssize_t got;
	char *at;

	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) ||
	    write(fd, get, sizeof(get) - 1) != sizeof(get) - 1)
		give_up("metrics", "the server does not answer");
	while ((got = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)got;
	close(fd);
	text[n] = 0;
	snprintf(want, sizeof(want), "\npenstock_%s ", name);
	at = strstr(text, want);
	return at ? strtod(at + strlen(want), NULL) : -1;
}

/* --- clients --- */

static volatile sig_atomic_t told;

static void on_term(int sig)
{
	told = 1;
}

static bool stop_now(void *arg)
{
	return told;
}

static void say(void *arg, unsigned lane, uint64_t n, bool durable)
{
	struct word w = {.lane = lane, .durable = durable, .n = n};

	if (write(*(int *)arg, &w, sizeof(w)) != (ssize_t)sizeof(w))
		_exit(3);
}

static _Noreturn void client_run(int out, uint32_t lanes, const uint64_t next[LOAD_LANES])
{
	struct load_opts opts = {.lanes = lanes,
	                         .remote = true,
	                         .acked = say,
	                         .stop = stop_now,
	                         .arg = &out,
	                         .io_max_bytes = IO_MAX};
	struct loop_opts lo;
	struct pst_err err = {0};
	struct loop *loop;
	struct store *s;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memcpy(opts.next, next, sizeof(opts.next));
	loop_opts_default(&lo);
	if (loop_new(&loop, &lo, &err) || stack_open(&s, t.uri, loop, NULL, &err)) {
		fprintf(stderr, "client: %s\n", err.text);
		_exit(3);
	}
	load_run(s, &opts);
	if (store_close(s)) {
		fprintf(stderr, "client: the store does not close well\n");
		_exit(3);
	}
	_exit(0);
}

static void client_start(struct client *c, uint32_t lanes, const uint64_t next[LOAD_LANES])
{
	int fds[2];

	if (pipe(fds))
		give_up("pipe", "failed");
	fflush(NULL);
	*c = (struct client){.in = fds[0], .pid = fork()};
	if (!c->pid) {
		close(fds[0]);
		client_run(fds[1], lanes, next);
	}
	close(fds[1]);
}

static void hear(const struct word *w)
{
	struct load_known *k = &t.known[w->lane];

	if (w->lane >= LOAD_LANES || w->n != k->top)
		give_up("a client", "says nonsense");
	k->floor = w->n;
	k->top = w->n + 1;
	if (!w->durable)
		give_up("a client", "has a change that is not durable");
}

/* What @c has to say now. False: its pipe has ended. */
static bool listen_to(struct client *c)
{
	struct pollfd p = {.fd = c->in, .events = POLLIN};
	ssize_t got;

	while (poll(&p, 1, 0) > 0) {
		got = read(c->in, c->part + c->have, sizeof(c->part) - c->have);
		if (got <= 0)
			return false;
		c->have += (size_t)got;
		if (c->have < sizeof(c->part))
			continue;
		hear((const struct word *)(const void *)c->part);
		c->words++;
		c->have = 0;
	}
	return true;
}

static void all_listen(void)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		if (!listen_to(&t.client[i]) && !t.dying)
			give_up("a client", "ended by itself");
}

/* Until each client was heard of since its count was @since. */
static void hear_of_all(const uint64_t since[CLIENTS])
{
	uint64_t end_ns = clock_mono_ns() + (uint64_t)WAIT_MS * NSEC_PER_MSEC;

	for (;;) {
		unsigned silent = 0;

		all_listen();
		for (unsigned i = 0; i < CLIENTS; i++)
			silent += t.client[i].words == since[i];
		if (!silent)
			return;
		if (clock_mono_ns() > end_ns)
			give_up("a client", "has not been heard of for a minute");
		poll(NULL, 0, 1);
	}
}

static void listen_for(uint64_t ms)
{
	uint64_t end_ns = clock_mono_ns() + ms * NSEC_PER_MSEC;

	while (clock_mono_ns() < end_ns) {
		all_listen();
		poll(NULL, 0, 1);
	}
}

/* @sig to each whose bit is in @who; what they had to say is heard, and how they ended is checked. */
static void clients_end(uint32_t who, int sig)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *c = &t.client[i];
		int status = 0;

		if (!(who >> i & 1))
			continue;
		kill(c->pid, sig);
		while (listen_to(c))
			poll(&(struct pollfd){.fd = c->in, .events = POLLIN}, 1, WAIT_MS);
		if (waitpid(c->pid, &status, 0) != c->pid)
			give_up("a client", "is gone");
		close(c->in);
		if (sig == SIGKILL ? !WIFSIGNALED(status) : status)
			give_up("a client", "ended badly");
		/* One that ended well has nothing under way. */
		for (unsigned k = 0; sig != SIGKILL && k < LOAD_LANES; k++)
			if (client_lanes[i] >> k & 1)
				t.known[k].top = t.known[k].floor;
	}
}

/* --- episodes --- */

static void nothing_held(void)
{
	static const char *const names[] = {"sessions_connected", "requests_inflight",
	                                    "requests_running_bytes", "requests_queued"};
	uint64_t end_ns = clock_mono_ns() + (uint64_t)WAIT_MS * NSEC_PER_MSEC;

	for (unsigned i = 0; i < ARRAY_LEN(names);) {
		double v = metric(names[i]);

		if (v < 0)
			give_up("metrics: there is no", names[i]);
		if (v == 0) {
			i++;
			continue;
		}
		if (clock_mono_ns() > end_ns)
			give_up("killed clients still hold", names[i]);
		poll(NULL, 0, 10);
	}
}

static void check(struct load_oracle *oracle, uint64_t next[LOAD_LANES])
{
	struct pst_err err = {0};
	uint64_t at[LOAD_LANES];
	struct stack s;

	if (stack_devs(&s, &t.store, 1, false, 0, NULL, &err) || stack_fsck(&s, &err))
		give_up("before recovery", err.text);
	if (stack_mount(&s, &err))
		give_up("open", err.text);
	if (load_verify(s.store, oracle, t.known, at, &err))
		give_up("the store", err.text);
	if (stack_close(&s))
		give_up("close", "failed");
	if (stack_devs(&s, &t.store, 1, false, 0, NULL, &err) || stack_fsck(&s, &err))
		give_up("after recovery and close", err.text);
	stack_close(&s);
	for (unsigned i = 0; i < LOAD_LANES; i++) {
		t.known[i] = (struct load_known){.floor = at[i], .top = at[i] + 1};
		next[i] = at[i] + 1;
	}
}

static void kill_servers(struct rng *rng, unsigned kills)
{
	uint64_t since[CLIENTS] = {0};

	hear_of_all(since);
	for (unsigned i = 0; i < kills; i++, t.kills++) {
		listen_for(rng_below(rng, 150));
		kill(t.server, SIGKILL);
		if (!WIFSIGNALED(server_wait()))
			give_up("the server", "ended by itself");
		listen_for(rng_below(rng, 100));
		/* From here on: an answer that was on its way counts for nothing. */
		for (unsigned k = 0; k < CLIENTS; k++)
			since[k] = t.client[k].words;
		server_start();
		hear_of_all(since);
	}
}

static void episode(struct rng *rng, unsigned kills, struct load_oracle *oracle,
                    uint64_t next[LOAD_LANES])
{
	uint32_t killed = (uint32_t)rng_below(rng, 1u << CLIENTS);
	int status;

	server_start();
	snprintf(t.uri, sizeof(t.uri), "pst://127.0.0.1:%u?channel=%s&connect=60&reconnect=60%s%s",
	         t.port, t.channel, strcmp(t.channel, "pipe") == 0 ? "&socket=" : "",
	         strcmp(t.channel, "pipe") == 0 ? t.sock : "");
	for (unsigned i = 0; i < CLIENTS; i++)
		client_start(&t.client[i], client_lanes[i], next);
	kill_servers(rng, kills);
	t.dying = true;
	clients_end(killed, SIGKILL);
	clients_end(~killed, SIGTERM);
	t.dying = false;
	nothing_held();
	kill(t.server, SIGTERM);
	status = server_wait();
	if (status)
		give_up("the server", "did not end well when it was told to");
	check(oracle, next);
}

static void make_store(void)
{
	struct pst_err err = {0};
	struct stack s;

	if (stack_devs(&s, &t.store, 1, false, STORE_SIZE, NULL, &err) || stack_format(&s, &err) ||
	    stack_mount(&s, &err))
		give_up("format", err.text);
	load_setup(s.store);
	if (stack_close(&s))
		give_up("close", "failed");
}

static uint64_t number(int argc, char **argv, int i, uint64_t otherwise)
{
	return argc > i ? strtoull(argv[i], NULL, 0) : otherwise;
}

/* The first two cores that this process may use. */
static bool two_cores(void)
{
	int found[2] = {-1, -1}, count = 0;
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return false;
	for (int c = 0; c < CPU_SETSIZE && count < 2; c++)
		if (CPU_ISSET(c, &set))
			found[count++] = c;
	snprintf(t.cores, sizeof(t.cores), "%d,%d", found[0], found[1]);
	return count == 2;
}

int main(int argc, char **argv)
{
	uint64_t episodes = number(argc, argv, 4, 2), kills = number(argc, argv, 5, 5), ops = 0;
	struct load_oracle oracle;
	uint64_t next[LOAD_LANES];
	char store[200];
	struct rng rng;

	if (argc < 4) {
		fprintf(stderr, "usage: served_kill PENSTOCK FOLDER CHANNEL [EPISODES [KILLS [SEED "
		                "[REACTORS]]]]\n");
		return 2;
	}
	t.penstock = argv[1];
	t.channel = argv[3];
	t.store = store;
	snprintf(store, sizeof(store), "%s/served-%.4s-%d.store", argv[2], t.channel,
	         (int)getpid());
	snprintf(t.sock, sizeof(t.sock), "/tmp/pst-served-kill-%d.sock", (int)getpid());
	snprintf(t.listen, sizeof(t.listen), "127.0.0.1:0");
	t.seed = number(argc, argv, 6, 0);
	t.seed = t.seed ? t.seed : clock_real_ns();
	if (number(argc, argv, 7, 1) == 2 && !two_cores()) {
		printf("skip: there is one core\n");
		return 77;
	}
	rng_seed(&rng, t.seed);
	signal(SIGTERM, on_term);
	signal(SIGPIPE, SIG_IGN);
	load_oracle_init(&oracle, IO_MAX, true);
	make_store();
	for (unsigned i = 0; i < LOAD_LANES; i++) {
		t.known[i] = (struct load_known){.floor = 0, .top = 1};
		next[i] = 1;
	}
	for (t.episode = 1; t.episode <= episodes; t.episode++)
		episode(&rng, (unsigned)kills, &oracle, next);
	for (unsigned i = 0; i < LOAD_LANES; i++)
		ops += next[i] - 1;
	printf("%s: %llu kills, %llu ops acknowledged, seed %llu: nothing lost, nothing twice\n",
	       t.channel, (unsigned long long)t.kills, (unsigned long long)ops,
	       (unsigned long long)t.seed);
	load_oracle_done(&oracle);
	unlink(t.store);
	unlink(t.sock);
	return 0;
}
