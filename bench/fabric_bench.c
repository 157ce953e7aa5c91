/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fabric_bench - what a channel costs by itself: a client asks with 64 bytes, a server in another
 * process (or, with --one-process, on the same loop: for counting instructions) answers with a
 * message of --size bytes, or writes them into the client's window first (--write).
 *
 *   fabric_bench PROVIDER [--addr A] [--size N] [--depth N] [--runtime S | --count N] [--write]
 *                [--ofi LIBFABRIC-PROVIDER] [--poll] [--one-process] [--json]
 */
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hist.h"
#include "fabric/fabric.h"

#define REQUEST_BYTES 64
#define DEPTH_MAX     256

struct args {
	const char *provider, *addr;
	const char *ofi; /* libfabric's provider */
	uint64_t size, depth, count;
	double runtime_s;
	bool write, poll, one_process, json;
};

struct request {
	uint64_t slot;
	struct fabric_desc desc; /* the client's window */
	uint8_t pad[REQUEST_BYTES - 8 - sizeof(struct fabric_desc)];
};

/* --- the server --- */

struct job {
	struct chan_xfer x;
	struct iovec iov;
	struct chan *c;
	uint64_t slot;
	bool answer_due;
};

struct server {
	const struct args *a;
	struct loop *loop;
	struct fabric_listener *l;
	struct mem_region *mem;
	struct job job[DEPTH_MAX];
	bool gone;
};

static void die(const char *what, int rc)
{
	fprintf(stderr, "fabric_bench: %s: %s\n", what, strerror(-rc));
	exit(1);
}

static void answer(struct server *s, struct job *j)
{
	struct iovec iov[2] = {{&j->slot, 8}, {s->mem->addr, s->a->write ? 0 : s->a->size}};
	int rc = chan_send(j->c, iov, 2);

	j->answer_due = rc == -EAGAIN;
	if (rc < 0 && rc != -EAGAIN)
		die("server: send", rc);
}

static void written(struct chan_xfer *x, int status)
{
	struct job *j = container_of(x, struct job, x);

	if (status < 0 && status != -EPIPE && status != -ECONNRESET)
		die("server: write", status);
	if (status == 0 && !(j->c->traits & FABRIC_WRITE_THEN_MSG))
		answer(j->c->user, j);
}

static void server_msg(struct chan *c, const void *data, uint32_t len)
{
	const struct request *q = data;
	struct server *s = c->user;
	struct job *j = &s->job[q->slot % DEPTH_MAX];
	int rc;

	j->c = c;
	j->slot = q->slot;
	if (s->a->write) {
		j->iov = (struct iovec){s->mem->addr, s->a->size};
		j->x = (struct chan_xfer){.done = written,
		                          .iov = &j->iov,
		                          .iov_count = 1,
		                          .region = s->mem,
		                          .desc = q->desc,
		                          .len = s->a->size};
		rc = chan_write(c, &j->x);
		if (rc < 0)
			die("server: write", rc);
		if (!(c->traits & FABRIC_WRITE_THEN_MSG))
			return;
	}
	answer(s, j);
}

static void server_ready(struct chan *c)
{
	struct server *s = c->user;

	for (unsigned i = 0; i < DEPTH_MAX; i++) {
		if (s->job[i].answer_due)
			answer(s, &s->job[i]);
	}
}

static void server_down(struct chan *c, int status)
{
	((struct server *)c->user)->gone = true;
	chan_close(c);
}

static const struct chan_handlers server_handlers = {
        .msg = server_msg, .ready = server_ready, .down = server_down};

static bool server_accept(struct fabric_listener *l, struct chan *c)
{
	c->handlers = &server_handlers;
	c->user = l->user;
	return true;
}

static struct loop *loop_make(const struct args *a)
{
	struct loop_opts opts;
	struct loop *loop;
	int rc;

	loop_opts_default(&opts);
	opts.poll = a->poll;
	rc = loop_new(&loop, &opts, NULL);
	if (rc < 0)
		die("loop", rc);
	return loop;
}

static void opts_make(struct fabric_opts *o, const struct args *a)
{
	*o = (struct fabric_opts){
	        .msg_credits = DEPTH_MAX, .xfers_max = DEPTH_MAX, .msg_max = 32 * KIB};
	o->provider = a->ofi;
}

static void server_open(struct server *s, const struct args *a, struct loop *loop)
{
	struct pst_err err = {0};
	struct fabric_opts o;

	*s = (struct server){.a = a, .loop = loop};
	opts_make(&o, a);
	if (mem_region_new(&s->mem, MEM_SHARED, MAX(a->size, 4096)))
		die("memory", -ENOMEM);
	memset(s->mem->addr, 0x5a, s->mem->len_bytes);
	if (fabric_listen(&s->l, loop, a->provider, a->addr, &o, &err) < 0) {
		fprintf(stderr, "fabric_bench: %s\n", err.text);
		exit(1);
	}
	s->l->accept = server_accept;
	s->l->user = s;
}

static void server_close(struct server *s)
{
	fabric_listener_close(s->l);
	fabric_finish(s->loop);
	mem_region_free(s->mem);
}

/* --- the client --- */

struct client {
	const struct args *a;
	struct loop *loop;
	struct chan *c;
	struct mem_region *mem;
	struct chan_window win[DEPTH_MAX];
	struct iovec win_iov[DEPTH_MAX];
	uint64_t begun_ns[DEPTH_MAX];
	uint64_t asked, done;
	struct hist hist;
	int status;
	bool up, stop, ready;
};

static void client_up(struct chan *c, int status)
{
	struct client *cl = c->user;

	cl->up = true;
	cl->status = status;
}

static void ask(struct client *cl, uint64_t slot)
{
	struct request q = {.slot = slot, .desc = cl->win[slot].desc};
	int rc = chan_send(cl->c, &(struct iovec){&q, sizeof(q)}, 1);

	if (rc < 0)
		die("client: send", rc);
	cl->begun_ns[slot] = clock_mono_ns();
	cl->asked++;
}

static void client_msg(struct chan *c, const void *data, uint32_t len)
{
	struct client *cl = c->user;
	uint64_t slot;

	memcpy(&slot, data, 8);
	hist_add(&cl->hist, clock_mono_ns() - cl->begun_ns[slot]);
	cl->done++;
	if (!cl->stop && (!cl->a->count || cl->asked < cl->a->count))
		ask(cl, slot);
}

static void client_ready(struct chan *c)
{
	((struct client *)c->user)->ready = true;
}

static void client_down(struct chan *c, int status)
{
	die("client: the channel is down", status);
}

static const struct chan_handlers client_handlers = {
        .up = client_up, .msg = client_msg, .ready = client_ready, .down = client_down};

static void win_closed(struct chan_window *w)
{
}

static void client_open(struct client *cl, const struct args *a, struct loop *loop,
                        const char *addr)
{
	struct pst_err err = {0};
	struct fabric_opts o;

	*cl = (struct client){.a = a, .loop = loop};
	hist_init(&cl->hist);
	opts_make(&o, a);
	if (mem_region_new(&cl->mem, MEM_SHARED, a->depth * MAX(a->size, 4096)))
		die("memory", -ENOMEM);
	memset(cl->mem->addr, 0, cl->mem->len_bytes);
	if (fabric_connect(&cl->c, loop, a->provider, addr, &o, &client_handlers, cl, &err) < 0) {
		fprintf(stderr, "fabric_bench: %s\n", err.text);
		exit(1);
	}
	while (!cl->up)
		(void)loop_turn(loop, NSEC_PER_SEC);
	if (cl->status < 0)
		die("client: connect", cl->status);
	for (uint64_t i = 0; a->write && i < a->depth; i++) {
		int rc;

		cl->win_iov[i] = (struct iovec){(char *)cl->mem->addr + i * a->size, a->size};
		cl->win[i] = (struct chan_window){.iov = &cl->win_iov[i],
		                                  .iov_count = 1,
		                                  .rights = FABRIC_PEER_WRITES,
		                                  .region = cl->mem,
		                                  .closed = win_closed};
		while ((rc = chan_window_open(cl->c, &cl->win[i])) == -EAGAIN)
			(void)loop_turn(loop, NSEC_PER_SEC);
		if (rc < 0)
			die("client: window", rc);
	}
}

static double cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
	       1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void client_run(struct client *cl)
{
	const struct args *a = cl->a;
	uint64_t begin = clock_mono_ns(), end = begin + (uint64_t)(a->runtime_s * 1e9), ns;
	double cpu = cpu_s();

	for (uint64_t i = 0; i < a->depth; i++)
		ask(cl, i);
	while (a->count ? cl->done < a->count : loop_now(cl->loop) < end)
		(void)loop_turn(cl->loop, NSEC_PER_SEC);
	ns = clock_mono_ns() - begin;
	cl->stop = true;
	printf(a->json ? "{\"provider\": \"%s\", \"size\": %llu, \"depth\": %llu, \"write\": %s, "
	                 "\"ops_s\": %.0f, \"mib_s\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f, "
	                 "\"client_cpu_us\": %.2f, \"doorbells\": %llu, \"sleeps\": %llu}\n"
	               : "%-5s %8llu B depth %-3llu write %-5s %10.0f/s %8.1f MiB/s  p50 %.2f us  "
	                 "p99 "
	                 "%.2f us  client %.2f us CPU each, %llu bells, %llu sleeps\n",
	       a->provider, (unsigned long long)a->size, (unsigned long long)a->depth,
	       a->write ? "true" : "false", (double)cl->done * 1e9 / (double)ns,
	       (double)cl->done * (double)a->size * 1e9 / (double)ns / (double)MIB,
	       (double)hist_percentile(&cl->hist, 0.5) / 1e3,
	       (double)hist_percentile(&cl->hist, 0.99) / 1e3,
	       (cpu_s() - cpu) * 1e6 / (double)MAX(cl->done, 1),
	       (unsigned long long)cl->c->count.doorbells, (unsigned long long)cl->c->count.sleeps);
	while (cl->done < cl->asked)
		(void)loop_turn(cl->loop, NSEC_PER_SEC);
}

/* --- both --- */

static void run_one_process(const struct args *a)
{
	struct loop *loop = loop_make(a);
	struct server *s = malloc(sizeof(*s));
	struct client *cl = malloc(sizeof(*cl));

	server_open(s, a, loop);
	client_open(cl, a, loop, s->l->addr);
	client_run(cl);
	chan_close(cl->c);
	while (!s->gone)
		(void)loop_turn(loop, NSEC_PER_SEC);
	server_close(s);
	mem_region_free(cl->mem);
	loop_free(loop);
	free(cl);
	free(s);
}

static void serve(const struct args *a, int tell)
{
	struct loop *loop = loop_make(a);
	struct server *s = malloc(sizeof(*s));

	server_open(s, a, loop);
	if (write(tell, s->l->addr, sizeof(s->l->addr)) != sizeof(s->l->addr))
		exit(1);
	while (!s->gone)
		(void)loop_turn(loop, NSEC_PER_SEC);
	server_close(s);
	loop_free(loop);
	free(s);
}

static void run_two(const struct args *a)
{
	struct client *cl = malloc(sizeof(*cl));
	char addr[256];
	int told[2];
	struct loop *loop;
	pid_t pid;

	if (pipe(told))
		die("pipe", -errno);
	pid = fork();
	if (pid == 0) {
		serve(a, told[1]);
		exit(0);
	}
	if (read(told[0], addr, sizeof(addr)) != sizeof(addr))
		die("the server did not start", -ECHILD);
	loop = loop_make(a);
	client_open(cl, a, loop, addr);
	client_run(cl);
	chan_close(cl->c);
	fabric_finish(loop);
	mem_region_free(cl->mem);
	loop_free(loop);
	free(cl);
	waitpid(pid, NULL, 0);
}

static void usage(void)
{
	fprintf(stderr,
	        "usage: fabric_bench PROVIDER [--addr A] [--size N] [--depth N] [--runtime S | "
	        "--count N] [--write] [--poll] [--one-process] [--json]\n");
	exit(2);
}

int main(int argc, char **argv)
{
	struct args a = {.ofi = "tcp", .size = 4096, .depth = 1, .runtime_s = 2};
	static char path[64];

	if (argc < 2)
		usage();
	a.provider = argv[1];
	snprintf(path, sizeof(path), "unix-abstract:penstock-bench-%d", (int)getpid());
	a.addr = strcmp(a.provider, "pipe") == 0 ? path : "127.0.0.1:0";
	for (int i = 2; i < argc; i++) {
		const char *next = i + 1 < argc ? argv[i + 1] : "";

		if (!strcmp(argv[i], "--write"))
			a.write = true;
		else if (!strcmp(argv[i], "--poll"))
			a.poll = true;
		else if (!strcmp(argv[i], "--one-process"))
			a.one_process = true;
		else if (!strcmp(argv[i], "--json"))
			a.json = true;
		else if (!strcmp(argv[i], "--addr") && ++i)
			a.addr = next;
		else if (!strcmp(argv[i], "--ofi") && ++i)
			a.ofi = next;
		else if (!strcmp(argv[i], "--size") && ++i)
			a.size = strtoull(next, NULL, 10);
		else if (!strcmp(argv[i], "--depth") && ++i)
			a.depth = strtoull(next, NULL, 10);
		else if (!strcmp(argv[i], "--count") && ++i)
			a.count = strtoull(next, NULL, 10);
		else if (!strcmp(argv[i], "--runtime") && ++i)
			a.runtime_s = strtod(next, NULL);
		else
			usage();
	}
	if (!a.depth || a.depth > DEPTH_MAX || !a.size || (!a.write && a.size > 24 * KIB))
		usage();
	if (a.one_process)
		run_one_process(&a);
	else
		run_two(&a);
	return 0;
}
