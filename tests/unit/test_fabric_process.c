/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Channels between two threads with a loop each, which sleep and wake each other (ThreadSanitizer
 * watches), and between processes, one of which is killed. The argument-free program runs each on
 * pipe and tcp.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fabric/fabric.h"
#include "loop/loop.h"

static const char *provider;

/* --- a server that answers, and copies into the window that a message names --- */

struct server {
	struct loop *loop;
	struct fabric_listener *l;
	struct mem_region *mem;
	char addr[64];
	_Atomic(bool) listening;
	unsigned open, busy, owed;
	bool begun;
};

struct job {
	struct chan_xfer x;
	struct iovec iov;
	struct server *s;
	struct chan *c;
};

/* Without a credit it waits for one: see server_ready(). */
static void answer(struct chan *c)
{
	struct server *s = c->user;
	uint64_t yes = 1;
	int rc = chan_send(c, &(struct iovec){&yes, 8}, 1);

	s->owed += rc == -EAGAIN;
	pst_assert(rc == 0 || rc == -EAGAIN || rc == -ECONNRESET || rc == -EPIPE);
}

static void job_done(struct chan_xfer *x, int status)
{
	struct job *j = container_of(x, struct job, x);

	if (status == 0)
		answer(j->c);
	j->s->busy--;
	free(j);
}

static void server_msg(struct chan *c, const void *data, uint32_t len)
{
	struct server *s = c->user;
	struct job *j;

	if (len != sizeof(struct fabric_desc)) {
		answer(c);
		return;
	}
	j = calloc(1, sizeof(*j));
	j->s = s;
	j->c = c;
	memcpy(&j->x.desc, data, len);
	j->iov = (struct iovec){s->mem->addr, j->x.desc.len};
	j->x.done = job_done;
	j->x.iov = &j->iov;
	j->x.iov_count = 1;
	j->x.region = s->mem;
	j->x.len = j->x.desc.len;
	if (chan_write(c, &j->x) == 0)
		s->busy++;
	else
		free(j);
}

static void server_ready(struct chan *c)
{
	struct server *s = c->user;
	unsigned owed = s->owed;

	s->owed = 0;
	while (owed--)
		answer(c);
}

static void server_down(struct chan *c, int status)
{
	struct server *s = c->user;

	s->open--;
	s->owed = 0;
	chan_close(c);
}

static const struct chan_handlers server_handlers = {
        .msg = server_msg, .ready = server_ready, .down = server_down};

static bool server_accept(struct fabric_listener *l, struct chan *c)
{
	struct server *s = l->user;

	s->begun = true;
	s->open++;
	c->handlers = &server_handlers;
	c->user = s;
	return true;
}

static struct loop *loop_make(void)
{
	struct loop_opts opts;
	struct loop *loop;
	int rc;

	loop_opts_default(&opts);
	rc = loop_new(&loop, &opts, NULL);
	pst_assert(rc == 0);
	return loop;
}

static void server_listen(struct server *s)
{
	static unsigned n;
	int rc;

	s->loop = loop_make();
	rc = mem_region_new(&s->mem, MEM_SHARED, 1 * MIB);
	pst_assert(rc == 0);
	memset(s->mem->addr, 0x77, s->mem->len_bytes);
	snprintf(s->addr, sizeof(s->addr), "unix-abstract:penstock-process-%d-%u", (int)getpid(),
	         ++n);
	rc = fabric_listen(&s->l, s->loop, provider, s->addr, NULL, NULL);
	pst_assert(rc == 0);
	s->l->accept = server_accept;
	s->l->user = s;
	atomic_store(&s->listening, true);
}

/* Until the last channel has gone. */
static void *server_run(void *arg)
{
	struct server *s = arg;

	server_listen(s);
	while (!s->begun || s->open || s->busy) {
		int rc = loop_turn(s->loop, NSEC_PER_SEC);

		pst_assert(rc >= 0);
	}
	fabric_listener_close(s->l);
	fabric_finish(s->loop);
	mem_region_free(s->mem);
	loop_free(s->loop);
	return NULL;
}

/* --- a client --- */

struct client {
	struct loop *loop;
	struct chan *c;
	struct mem_region *mem;
	struct chan_window win;
	struct iovec iov;
	unsigned answers, downs;
	int status;
	bool up, closed;
};

static void client_up(struct chan *c, int status)
{
	struct client *cl = c->user;

	cl->up = true;
	cl->status = status;
}

static void client_msg(struct chan *c, const void *data, uint32_t len)
{
	((struct client *)c->user)->answers++;
}

static void client_ready(struct chan *c)
{
}

static void client_down(struct chan *c, int status)
{
	((struct client *)c->user)->downs++;
	((struct client *)c->user)->status = status;
}

static const struct chan_handlers client_handlers = {
        .up = client_up, .msg = client_msg, .ready = client_ready, .down = client_down};

static void win_closed(struct chan_window *w)
{
	container_of(w, struct client, win)->closed = true;
}

static void client_open(struct client *cl, const char *addr)
{
	*cl = (struct client){.loop = loop_make()};
	assert_int_equal(mem_region_new(&cl->mem, MEM_SHARED, 1 * MIB), 0);
	assert_int_equal(
	        fabric_connect(&cl->c, cl->loop, provider, addr, NULL, &client_handlers, cl, NULL),
	        0);
	while (!cl->up)
		assert_true(loop_turn(cl->loop, NSEC_PER_SEC) >= 0);
	assert_int_equal(cl->status, 0);
}

static void client_close(struct client *cl)
{
	chan_close(cl->c);
	fabric_finish(cl->loop);
	mem_region_free(cl->mem);
	loop_free(cl->loop);
}

static void window(struct client *cl, uint64_t len)
{
	int rc;

	cl->iov = (struct iovec){cl->mem->addr, len};
	cl->win = (struct chan_window){.iov = &cl->iov,
	                               .iov_count = 1,
	                               .rights = FABRIC_PEER_WRITES,
	                               .region = cl->mem,
	                               .closed = win_closed};
	cl->closed = false;
	while ((rc = chan_window_open(cl->c, &cl->win)) == -EAGAIN)
		assert_true(loop_turn(cl->loop, NSEC_PER_SEC) >= 0);
	assert_int_equal(rc, 0);
}

static bool wait_answers(struct client *cl, unsigned n)
{
	uint64_t end = loop_now(cl->loop) + 30 * NSEC_PER_SEC;

	while (cl->answers < n && !cl->downs) {
		assert_true(loop_turn(cl->loop, NSEC_PER_SEC) >= 0);
		assert_true(loop_now(cl->loop) < end);
	}
	return !cl->downs;
}

/* Bursts with pauses of all lengths between them, so that both sides fall asleep at every point. */
static void test_threads(void **state)
{
	static struct server s;
	struct client cl;
	struct rng rng;
	pthread_t thread;
	unsigned asked = 0;

	s = (struct server){.loop = NULL};
	rng_seed(&rng, 7);
	assert_int_equal(pthread_create(&thread, NULL, server_run, &s), 0);
	while (!atomic_load(&s.listening))
		sched_yield();
	client_open(&cl, s.addr);
	for (unsigned round = 0; round < 400; round++) {
		unsigned burst = 1 + (unsigned)rng_below(&rng, 20);

		for (unsigned i = 0; i < burst; i++)
			asked += chan_send(cl.c, &(struct iovec){"0123456789", 10}, 1) == 0;
		if (round % 3 == 0)
			assert_true(wait_answers(&cl, asked));
		else
			(void)loop_turn(cl.loop, rng_below(&rng, 200) * NSEC_PER_USEC);
		if (round % 10 == 0) {
			uint64_t len = 1 + rng_below(&rng, 1 * MIB);
			struct fabric_desc d;

			assert_true(wait_answers(&cl, asked));
			window(&cl, len);
			d = cl.win.desc;
			assert_int_equal(chan_send(cl.c, &(struct iovec){&d, sizeof(d)}, 1), 0);
			/* Half of them end while the other thread may be copying. */
			if (round % 20 == 0)
				assert_true(wait_answers(&cl, asked + 1));
			chan_window_close(cl.c, &cl.win);
			while (!cl.closed)
				assert_true(loop_turn(cl.loop, NSEC_PER_SEC) >= 0);
			if (round % 20 == 0) {
				assert_int_equal(((uint8_t *)cl.mem->addr)[len - 1], 0x77);
				asked++;
			} else {
				memset(cl.mem->addr, 0, len);
				/* It was answered, or it failed, and is not. */
				(void)loop_turn(cl.loop, 10 * NSEC_PER_MSEC);
				asked = cl.answers;
				(void)loop_turn(cl.loop, 10 * NSEC_PER_MSEC);
				asked = cl.answers;
				assert_int_equal(((uint8_t *)cl.mem->addr)[len - 1], 0);
			}
		}
	}
	assert_true(wait_answers(&cl, asked));
	client_close(&cl);
	pthread_join(thread, NULL);
}

/* A server that is killed at any moment: its client is told. */
static void test_killed_server(void **state)
{
	for (unsigned round = 0; round < 8; round++) {
		struct client cl;
		struct server s;
		int told[2];
		pid_t pid;

		assert_int_equal(pipe(told), 0);
		pid = fork();
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			s = (struct server){.loop = NULL};
			server_listen(&s);
			if (write(told[1], s.addr, sizeof(s.addr)) != sizeof(s.addr))
				_exit(1);
			for (;;)
				(void)loop_turn(s.loop, NSEC_PER_SEC);
		}
		assert_int_equal(read(told[0], s.addr, sizeof(s.addr)), sizeof(s.addr));
		client_open(&cl, s.addr);
		window(&cl, 1 * MIB);
		for (unsigned i = 0; i < 40; i++) {
			(void)chan_send(cl.c, &(struct iovec){&cl.win.desc, sizeof(cl.win.desc)},
			                1);
			if (i == 5 * round)
				kill(pid, SIGKILL);
			(void)loop_turn(cl.loop, 50 * NSEC_PER_USEC);
		}
		while (!cl.downs)
			assert_true(loop_turn(cl.loop, NSEC_PER_SEC) >= 0);
		assert_int_equal(cl.status, -ECONNRESET);
		chan_window_close(cl.c, &cl.win);
		while (!cl.closed)
			assert_true(loop_turn(cl.loop, NSEC_PER_SEC) >= 0);
		client_close(&cl);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		close(told[0]);
		close(told[1]);
	}
}

/* A client that is killed leaves nothing behind at the server. */
static void test_killed_clients(void **state)
{
	struct server s = {.loop = NULL};

	server_listen(&s);
	for (unsigned round = 0; round < 8; round++) {
		uint64_t end;
		pid_t pid = fork();

		if (pid == 0) {
			struct client cl;

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			client_open(&cl, s.addr);
			window(&cl, 1 * MIB);
			for (;;) {
				(void)chan_send(cl.c,
				                &(struct iovec){&cl.win.desc, sizeof(cl.win.desc)},
				                1);
				(void)loop_turn(cl.loop, 50 * NSEC_PER_USEC);
			}
		}
		end = clock_mono_ns() + (round + 1) * 5 * NSEC_PER_MSEC;
		while (!s.open || clock_mono_ns() < end)
			assert_true(loop_turn(s.loop, NSEC_PER_MSEC) >= 0);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		while (s.open || s.busy)
			assert_true(loop_turn(s.loop, NSEC_PER_SEC) >= 0);
	}
	fabric_listener_close(s.l);
	fabric_finish(s.loop);
	mem_region_free(s.mem);
	loop_free(s.loop);
}

static int use(void **state)
{
	provider = *state;
	return 0;
}

int main(void)
{
	static char pipe_name[] = "pipe", tcp_name[] = "tcp";
	const struct CMUnitTest tests[] = {
	        {"pipe threads", test_threads, use, NULL, pipe_name},
	        {"pipe killed server", test_killed_server, use, NULL, pipe_name},
	        {"pipe killed clients", test_killed_clients, use, NULL, pipe_name},
	        {"tcp threads", test_threads, use, NULL, tcp_name},
	        {"tcp killed server", test_killed_server, use, NULL, tcp_name},
	        {"tcp killed clients", test_killed_clients, use, NULL, tcp_name},
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
