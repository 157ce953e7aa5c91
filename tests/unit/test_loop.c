/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The loop: timers, inbox, wake-ups, watched descriptors, ring requests, pollers, virtual clock.
 * Run it under the thread sanitizer too: the inbox is the only code here that two threads share.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "loop/loop.h"

static struct loop *make(struct loop_opts opts)
{
	struct loop *loop;
	struct pst_err err;
	int r = loop_new(&loop, &opts, &err);

	if (r)
		fail_msg("%s", err.text);
	return loop;
}

static struct loop *make_real(void)
{
	return make((struct loop_opts){0});
}

static struct loop *make_sim(void)
{
	return make((struct loop_opts){.sim = true, .sim_start_ns = 1000});
}

/* --- timers --- */

struct note {
	struct loop_timer t;
	struct loop *loop;
	unsigned id;
	unsigned *log, *log_len;
	uint64_t again_ns; /* re-arms for this deadline, @again times */
	unsigned again;
	struct loop_timer *kills;
};

static void note_fired(struct loop_timer *t)
{
	struct note *n = container_of(t, struct note, t);

	assert_int_equal(t->heap_index, 0);
	assert_true(loop_now(n->loop) >= t->deadline_ns);
	n->log[(*n->log_len)++] = n->id;
	if (n->kills)
		loop_timer_disarm(n->loop, n->kills);
	if (n->again && n->again--)
		assert_int_equal(loop_timer_arm(n->loop, t, n->again_ns), 0);
}

static void test_timer_order(void **state)
{
	enum { N = 500 };
	static struct note n[N];
	unsigned log[N], len = 0, expect = 0;
	struct loop *loop = make_sim();
	uint64_t x = 12345;

	for (unsigned i = 0; i < N; i++) {
		x = hash_u64(x + i);
		n[i] = (struct note){
		        .t.fired = note_fired, .loop = loop, .id = i, .log = log, .log_len = &len};
		/* Twice: arming an armed timer moves it. */
		assert_int_equal(loop_timer_arm(loop, &n[i].t, 5000), 0);
		assert_int_equal(loop_timer_arm(loop, &n[i].t, 2000 + x % 100), 0);
	}
	for (unsigned i = 0; i < N; i += 3)
		loop_timer_disarm(loop, &n[i].t);
	loop_timer_disarm(loop, &n[0].t);
	while (len < N - DIV_ROUND_UP(N, 3))
		assert_true(loop_turn(loop, UINT64_MAX) > 0);
	for (unsigned i = 0; i < N; i++)
		expect += i % 3 != 0;
	assert_int_equal(len, expect);
	for (unsigned i = 1; i < len; i++) {
		const struct loop_timer *a = &n[log[i - 1]].t, *b = &n[log[i]].t;

		assert_true(log[i] % 3 != 0);
		/* Equal deadlines: in the order of arming. */
		assert_true(a->deadline_ns < b->deadline_ns ||
		            (a->deadline_ns == b->deadline_ns && log[i - 1] < log[i]));
	}
	assert_int_equal(loop_turn(loop, UINT64_MAX), -EDEADLK);
	loop_free(loop);
}

/* A timer that re-arms itself for the past fires once a turn and holds no other up. */
static void test_timer_rearm_past(void **state)
{
	unsigned log[16], len = 0;
	struct loop *loop = make_sim();
	struct note a = {.t.fired = note_fired,
	                 .loop = loop,
	                 .id = 1,
	                 .log = log,
	                 .log_len = &len,
	                 .again = 2};
	struct note b = {.t.fired = note_fired, .loop = loop, .id = 2, .log = log, .log_len = &len};
	struct note c = {.t.fired = note_fired, .loop = loop, .id = 3, .log = log, .log_len = &len};

	b.kills = &c.t;
	assert_int_equal(loop_timer_arm(loop, &a.t, 0), 0);
	assert_int_equal(loop_timer_arm(loop, &b.t, 0), 0);
	assert_int_equal(loop_timer_arm(loop, &c.t, 0), 0);
	assert_int_equal(loop_turn(loop, 0), 2);
	assert_int_equal(loop_turn(loop, 0), 1);
	assert_int_equal(loop_turn(loop, 0), 1);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(len, 4);
	assert_int_equal(log[0], 1);
	assert_int_equal(log[1], 2); /* c was disarmed by b */
	assert_int_equal(log[2], 1);
	assert_int_equal(log[3], 1);
	loop_free(loop);
}

static void test_timer_real(void **state)
{
	unsigned log[4], len = 0;
	struct loop *loop = make_real();
	struct note a = {.t.fired = note_fired, .loop = loop, .id = 1, .log = log, .log_len = &len};
	uint64_t start = clock_mono_ns(), took;

	assert_int_equal(loop_timer_arm(loop, &a.t, start + NSEC_PER_SEC), 0);
	/* A shorter time-out ends the turn first. */
	assert_int_equal(loop_turn(loop, NSEC_PER_MSEC), 0);
	took = clock_mono_ns() - start;
	assert_true(took >= NSEC_PER_MSEC && took < NSEC_PER_SEC);
	assert_int_equal(loop_turn(loop, UINT64_MAX), 1);
	assert_true(clock_mono_ns() >= start + NSEC_PER_SEC);
	assert_int_equal(len, 1);
	loop_free(loop);
}

static void test_timer_enomem(void **state)
{
	unsigned log[1], len = 0;
	struct loop *loop = make_sim();
	struct note a = {.t.fired = note_fired, .loop = loop, .log = log, .log_len = &len};

	mem_alloc_fail_at(1, false);
	assert_int_equal(loop_timer_arm(loop, &a.t, 5000), -ENOMEM);
	mem_alloc_fail_at(0, false);
	assert_int_equal(a.t.heap_index, 0);
	assert_int_equal(loop_timer_arm(loop, &a.t, 5000), 0);
	loop_timer_disarm(loop, &a.t);
	loop_free(loop);
}

/* --- inbox --- */

enum { SENDERS = 4, PER_SENDER = 20000 };

struct letter {
	struct loop_msg m;
	struct post *post;
	unsigned sender, seq;
};

struct post {
	struct loop *loop;
	unsigned next[SENDERS];
	unsigned total;
	struct letter *letters;
};

static void letter_run(struct loop_msg *m)
{
	struct letter *l = container_of(m, struct letter, m);
	struct post *p = l->post;

	assert_true(loop_is_mine(p->loop));
	assert_int_equal(l->seq, p->next[l->sender]);
	p->next[l->sender]++;
	if (++p->total == SENDERS * PER_SENDER)
		loop_stop(p->loop);
}

static void *sender_main(void *arg)
{
	struct letter *l = arg;

	for (unsigned i = 0; i < PER_SENDER; i++) {
		loop_post(l[i].post->loop, &l[i].m);
		/* Now and then long enough for the loop to fall asleep. */
		if (i % 1000 == 0)
			usleep(300);
		else if (i % 16 == 0)
			sched_yield();
	}
	return NULL;
}

static void *runner_main(void *arg)
{
	assert_int_equal(loop_run(arg), 0);
	return NULL;
}

static void inbox_from_threads(struct loop_opts opts)
{
	struct post p = {.loop = make(opts)};
	pthread_t senders[SENDERS], runner;

	p.letters = calloc(SENDERS * PER_SENDER, sizeof(*p.letters));
	assert_non_null(p.letters);
	for (unsigned i = 0; i < SENDERS * PER_SENDER; i++)
		p.letters[i] = (struct letter){.m.run = letter_run,
		                               .post = &p,
		                               .sender = i / PER_SENDER,
		                               .seq = i % PER_SENDER};
	/* Created here, run there. */
	assert_int_equal(pthread_create(&runner, NULL, runner_main, p.loop), 0);
	for (unsigned i = 0; i < SENDERS; i++)
		assert_int_equal(
		        pthread_create(&senders[i], NULL, sender_main, p.letters + i * PER_SENDER),
		        0);
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_join(senders[i], NULL);
	pthread_join(runner, NULL);
	assert_int_equal(p.total, SENDERS * PER_SENDER);
	loop_free(p.loop);
	free(p.letters);
}

static void test_inbox_sleeping(void **state)
{
	inbox_from_threads((struct loop_opts){0});
}

static void test_inbox_spinning(void **state)
{
	inbox_from_threads((struct loop_opts){.spin_ns = 50 * NSEC_PER_USEC});
}

static void test_inbox_polling(void **state)
{
	inbox_from_threads((struct loop_opts){.poll = true});
}

/* One message at a time, each only when the one before has run: every one must wake the loop. A
 * lost wake-up hangs here (and the test runner's time-out ends it). */
struct ping {
	struct loop_msg m;
	atomic_uint seen;
};

static void ping_run(struct loop_msg *m)
{
	struct ping *p = container_of(m, struct ping, m);

	atomic_fetch_add(&p->seen, 1);
}

static void test_inbox_ping(void **state)
{
	struct loop *loop = make_real();
	struct ping p = {.m.run = ping_run};
	pthread_t runner;

	assert_int_equal(pthread_create(&runner, NULL, runner_main, loop), 0);
	for (unsigned i = 0; i < 20000; i++) {
		loop_post(loop, &p.m);
		while (atomic_load(&p.seen) <= i)
			sched_yield();
	}
	loop_stop(loop);
	pthread_join(runner, NULL);
	loop_free(loop);
}

/* A message that posts itself runs once a turn, so it can't shut the rest out. */
struct echo {
	struct loop_msg m;
	struct loop *loop;
	unsigned count;
};

static void echo_run(struct loop_msg *m)
{
	struct echo *e = container_of(m, struct echo, m);

	if (++e->count < 5)
		loop_post(e->loop, m);
}

static void test_inbox_self(void **state)
{
	struct loop *loop = make_real();
	struct echo e = {.m.run = echo_run, .loop = loop};

	loop_post(loop, &e.m);
	for (unsigned i = 1; i <= 5; i++) {
		assert_int_equal(loop_turn(loop, UINT64_MAX), 1);
		assert_int_equal(e.count, i);
	}
	assert_int_equal(loop_turn(loop, 0), 0);
	loop_free(loop);
}

static void test_stop_first(void **state)
{
	struct loop *loop = make_real();

	loop_stop(loop);
	assert_int_equal(loop_run(loop), 0);
	/* The stop was used up: this one waits for its time. */
	assert_int_equal(loop_turn(loop, NSEC_PER_MSEC), 0);
	loop_free(loop);
}

/* An idle loop sleeps: next to no CPU in 200 ms, also with spinning allowed. */
static void test_idle_cpu(void **state)
{
	struct loop *loop = make((struct loop_opts){.spin_ns = 20 * NSEC_PER_USEC});
	struct rusage a, b;
	uint64_t cpu_us;

	getrusage(RUSAGE_THREAD, &a);
	assert_int_equal(loop_turn(loop, 200 * NSEC_PER_MSEC), 0);
	getrusage(RUSAGE_THREAD, &b);
	cpu_us = (uint64_t)((b.ru_utime.tv_sec - a.ru_utime.tv_sec + b.ru_stime.tv_sec -
	                     a.ru_stime.tv_sec) *
	                            1000000 +
	                    b.ru_utime.tv_usec - a.ru_utime.tv_usec + b.ru_stime.tv_usec -
	                    a.ru_stime.tv_usec);
	assert_true(cpu_us < 20000);
	loop_free(loop);
}

/* --- the ring --- */

struct nop {
	struct loop_io io;
	struct loop *loop;
	unsigned *done;
	unsigned again;
};

static void nop_done(struct loop_io *io, int res, uint32_t flags)
{
	struct nop *n = container_of(io, struct nop, io);
	struct io_uring_sqe *sqe;

	assert_int_equal(res, 0);
	++*n->done;
	if (n->again && n->again--) {
		sqe = loop_sqe(n->loop, io);
		assert_non_null(sqe);
		io_uring_prep_nop(sqe);
	}
}

/* The ring refuses at its limit, not before, and takes more after completions. */
static void test_ring_full(void **state)
{
	enum { N = 200 };
	static struct nop n[N];
	struct loop *loop = make((struct loop_opts){.ring_entries = 8});
	unsigned done = 0, queued = 0, refused_at = 0;

	assert_int_equal(loop_turn(loop, 0), 0);
	while (queued < N) {
		struct io_uring_sqe *sqe;

		n[queued] =
		        (struct nop){.io.done = nop_done, .loop = loop, .done = &done, .again = 3};
		sqe = loop_sqe(loop, &n[queued].io);
		if (sqe) {
			io_uring_prep_nop(sqe);
			queued++;
		} else {
			refused_at = refused_at ? refused_at : queued;
			assert_true(loop_ring_inflight(loop) > 0);
			assert_true(loop_turn(loop, UINT64_MAX) > 0);
		}
	}
	assert_int_equal(refused_at, 32);
	while (loop_ring_inflight(loop))
		assert_true(loop_turn(loop, UINT64_MAX) > 0);
	assert_int_equal(done, 4 * N);
	loop_free(loop);
}

/* A turn works off a part of what has come, so that its driver can submit; the next turns do not sleep
 * while there is more, nor tell the pollers that they will. */
struct sleeper {
	struct loop_poller p;
	unsigned sleeps;
};

static bool counts_sleep(struct loop_poller *p)
{
	container_of(p, struct sleeper, p)->sleeps++;
	return true;
}

static int no_work(struct loop_poller *p)
{
	return 0;
}

static void test_ring_parts(void **state)
{
	enum { N = 64 };
	static struct nop n[N];
	struct loop *loop = make((struct loop_opts){.ring_entries = 2 * N});
	struct sleeper sleeper = {.p = {.poll = no_work, .sleeps = counts_sleep}};
	unsigned done = 0, turns = 0;

	loop_poller_add(loop, &sleeper.p);
	for (unsigned i = 0; i < N; i++) {
		struct io_uring_sqe *sqe;

		n[i] = (struct nop){.io.done = nop_done, .loop = loop, .done = &done};
		sqe = loop_sqe(loop, &n[i].io);
		assert_non_null(sqe);
		io_uring_prep_nop(sqe);
	}
	for (unsigned was = 0; done < N; was = done, turns++) {
		assert_true(loop_turn(loop, UINT64_MAX) > 0);
		assert_in_range(done - was, 1, N / 4);
	}
	assert_true(turns >= 4);
	assert_true(sleeper.sleeps <= 1); /* in the first turn, at most */
	loop_poller_del(loop, &sleeper.p);
	loop_free(loop);
}

/* --- pollers --- */

struct busy {
	struct loop_poller p;
	struct loop *loop;
	unsigned calls, until;
	struct loop_poller *victim;
};

static int busy_poll(struct loop_poller *p)
{
	struct busy *b = container_of(p, struct busy, p);

	b->calls++;
	if (b->victim)
		loop_poller_del(b->loop, b->victim);
	return b->calls == b->until;
}

static bool busy_may_sleep(struct loop_poller *p)
{
	struct busy *b = container_of(p, struct busy, p);

	return b->calls >= b->until;
}

static void test_poller(void **state)
{
	struct loop *loop = make_real();
	struct busy a = {.p.poll = busy_poll, .p.may_sleep = busy_may_sleep, .until = 1000};

	loop_poller_add(loop, &a.p);
	/* No sleep until the poller has done something. */
	assert_int_equal(loop_turn(loop, UINT64_MAX), 1);
	assert_int_equal(a.calls, 1000);
	assert_int_equal(loop_turn(loop, NSEC_PER_MSEC), 0);
	assert_true(a.calls < 1010);
	loop_poller_del(loop, &a.p);
	loop_free(loop);
}

static void test_poller_delete(void **state)
{
	struct loop *loop = make_real();
	struct busy c = {.p.poll = busy_poll}, b = {.p.poll = busy_poll},
	            a = {.p.poll = busy_poll, .loop = loop, .victim = &b.p};

	loop_poller_add(loop, &a.p);
	loop_poller_add(loop, &b.p);
	loop_poller_add(loop, &c.p);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 0);
	assert_int_equal(c.calls, 1);
	a.victim = &a.p;
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(c.calls, 2);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(a.calls, 2);
	loop_poller_del(loop, &c.p);
	loop_free(loop);
}

/* --- the virtual clock --- */

static void test_sim_clock(void **state)
{
	unsigned log[4], len = 0;
	struct loop *loop = make_sim();
	struct note a = {.t.fired = note_fired, .loop = loop, .id = 1, .log = log, .log_len = &len};
	struct busy b = {.p.poll = busy_poll, .p.may_sleep = busy_may_sleep, .until = 3};

	assert_true(loop_is_sim(loop));
	assert_null(loop_ring(loop));
	assert_int_equal(loop_now(loop), 1000);
	assert_int_equal(loop_real_now(loop), 1000);
	/* An hour passes in no time; a shorter time-out moves the clock only so far. */
	assert_int_equal(loop_timer_arm(loop, &a.t, 3600 * NSEC_PER_SEC), 0);
	assert_int_equal(loop_turn(loop, 500), 0);
	assert_int_equal(loop_now(loop), 1500);
	assert_int_equal(loop_turn(loop, UINT64_MAX), 1);
	assert_int_equal(loop_now(loop), 3600 * NSEC_PER_SEC);
	assert_int_equal(loop_turn(loop, UINT64_MAX), -EDEADLK);
	/* A busy poller lets little time pass. */
	loop_poller_add(loop, &b.p);
	assert_int_equal(loop_turn(loop, UINT64_MAX), 1);
	assert_int_equal(loop_now(loop), 3600 * NSEC_PER_SEC + 2 * NSEC_PER_USEC);
	loop_poller_del(loop, &b.p);
	loop_free(loop);
}

/* The same program gives the same history. */
static uint64_t sim_history(uint64_t seed)
{
	enum { N = 50 };
	struct note n[N];
	unsigned log[N * 4], len = 0;
	struct loop *loop = make_sim();
	uint64_t h = seed;

	for (unsigned i = 0; i < N; i++) {
		n[i] = (struct note){.t.fired = note_fired,
		                     .loop = loop,
		                     .id = i,
		                     .log = log,
		                     .log_len = &len,
		                     .again = 3,
		                     .again_ns = hash_u64(seed + i) % 9000};
		assert_int_equal(loop_timer_arm(loop, &n[i].t, hash_u64(seed ^ i) % 7000), 0);
	}
	while (loop_turn(loop, UINT64_MAX) > 0)
		h = hash_u64(h ^ loop_now(loop));
	assert_int_equal(len, N * 4);
	for (unsigned i = 0; i < len; i++)
		h = hash_u64(h + log[i]);
	loop_free(loop);
	return h;
}

static void test_sim_deterministic(void **state)
{
	for (uint64_t seed = 1; seed < 50; seed++)
		assert_int_equal(sim_history(seed), sim_history(seed));
	assert_int_not_equal(sim_history(1), sim_history(2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_timer_order),       cmocka_unit_test(test_timer_rearm_past),
	        cmocka_unit_test(test_timer_real),        cmocka_unit_test(test_timer_enomem),
	        cmocka_unit_test(test_inbox_sleeping),    cmocka_unit_test(test_inbox_spinning),
	        cmocka_unit_test(test_inbox_polling),     cmocka_unit_test(test_inbox_ping),
	        cmocka_unit_test(test_inbox_self),        cmocka_unit_test(test_stop_first),
	        cmocka_unit_test(test_idle_cpu),          cmocka_unit_test(test_ring_full),
	        cmocka_unit_test(test_ring_parts),        cmocka_unit_test(test_poller),
	        cmocka_unit_test(test_poller_delete),     cmocka_unit_test(test_sim_clock),
	        cmocka_unit_test(test_sim_deterministic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
