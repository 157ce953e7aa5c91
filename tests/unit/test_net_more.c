/* SPDX-License-Identifier: BSD-3-Clause */
/* Sockets without TLS: ends of every kind, destinations, limits, dead peers, descriptors. */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "net_util.h"

/* --- ends --- */

/* The peer goes after each number of bytes, in good order and not, while we send. */
static void test_cut_everywhere(void **state)
{
	for (unsigned variant = 0; variant < 16; variant++) {
		const bool tcp = variant & 1, reset = variant & 2, sends = variant & 4;
		const struct net_opts zc = {.zerocopy_min = tcp && variant & 8 ? 2000 : 0};

		for (size_t cut = 0; cut < 60; cut++) {
			struct bare b;

			bare_open(&b, tcp, &zc, &end_handlers_no_eof);
			rng_seed(&b.e->rng, cut);
			b.e->total_in = cut + 1; /* one more than will come */
			b.e->total_out = sends ? 100000000 : 0;
			b.e->send_max = sends ? 50 * KIB : 0;
			end_pump(b.e);
			assert_true(loop_turn(b.loop, 0) >= 0);
			bare_send(&b, 0, cut);
			if (cut % 3 == 0)
				assert_true(loop_turn(b.loop, 0) >= 0);
			if (reset)
				reset_and_close(b.fd);
			else
				close(b.fd);
			b.fd = -1;
			turn_until(b.loop, b.e->downs, 5);
			assert_int_equal(b.e->downs, 1);
			assert_int_equal(b.e->bad, 0);
			if (!tcp || (!reset && !sends))
				assert_true(b.e->down_status == -EPIPE ||
				            b.e->down_status == -ECONNRESET);
			if (!reset && !sends)
				assert_int_equal(b.e->down_status, -EPIPE);
			assert_true(loop_turn(b.loop, 0) >= 0);
			assert_int_equal(b.e->downs, 1);
			assert_true(net_sock_write(b.e->s, &(struct iovec){"x", 1}, 1) ==
			            b.e->down_status);
			bare_close(&b);
		}
	}
}

/* Each side may end its direction and go on with the other. */
static void test_half_close(void **state)
{
	for (unsigned tcp = 0; tcp < 2; tcp++) {
		struct bare b;
		char buf[16];

		bare_open(&b, tcp, NULL, &end_handlers);
		b.e->total_in = 20;
		bare_send(&b, 0, 10);
		assert_int_equal(shutdown(b.fd, SHUT_WR), 0);
		turn_until(b.loop, b.e->eofs, 5);
		assert_int_equal(b.e->in, 10);
		assert_int_equal(net_sock_write(b.e->s, &(struct iovec){"late", 4}, 1), 0);
		net_sock_shutdown(b.e->s);
		assert_int_equal(net_sock_write(b.e->s, &(struct iovec){"x", 1}, 1), -EPIPE);
		turn_until(b.loop, !net_sock_queued(b.e->s), 5);
		assert_int_equal(recv(b.fd, buf, sizeof(buf), MSG_WAITALL), 4);
		assert_int_equal(recv(b.fd, buf, sizeof(buf), 0), 0);
		assert_int_equal(b.e->eofs, 1);
		assert_int_equal(b.e->downs, 0);
		bare_close(&b);
	}
}

/* close() delivers what is queued, although the peer has sent what nobody will read. */
static void test_close_delivers(void **state)
{
	for (unsigned tcp = 0; tcp < 2; tcp++) {
		struct bare b;
		uint64_t got = 0;
		ssize_t n;
		uint8_t buf[65536];

		bare_open(&b, tcp, NULL, &end_handlers);
		b.e->total_out = 8 * MIB;
		b.e->total_in = 4096;
		end_pump(b.e);
		bare_send(&b, 0, 4096);
		net_sock_close(b.e->s);
		b.e->s = NULL;
		for (;;) {
			assert_true(loop_turn(b.loop, 0) >= 0);
			n = recv(b.fd, buf, sizeof(buf), MSG_DONTWAIT);
			if (n < 0 && errno == EAGAIN)
				continue;
			assert_true(n >= 0);
			if (!n)
				break;
			for (ssize_t i = 0; i < n; i++)
				assert_int_equal(buf[i], stream_byte(1, got + (uint64_t)i));
			got += (uint64_t)n;
		}
		/* All that had been taken by then. */
		assert_int_equal(got, b.e->out);
		assert_int_equal(b.e->last_done, 0);
		assert_int_equal(b.e->gones, 0); /* it waits for the peer's end */
		close(b.fd);
		b.fd = -1;
		turn_until(b.loop, b.e->gones, 1);
		bare_close(&b);
	}
}

static int large_status;

static void large_done(struct net_send *m, int status)
{
	large_status = status;
}

static void test_close_lingers_not_for_ever(void **state)
{
	const struct net_opts opts = {.linger_ns = 100 * NSEC_PER_MSEC, .send_buf = 10000};
	struct iovec iov = {calloc(1, 8 * MIB), 8 * MIB};
	struct net_send m = {.iov = &iov, .iov_count = 1, .done = large_done};
	struct bare b;

	large_status = 1;
	bare_open(&b, true, &opts, &end_handlers);
	assert_int_equal(net_sock_send(b.e->s, &m), 0);
	net_sock_close(b.e->s);
	b.e->s = NULL;
	turn_until(b.loop, b.e->gones, 5);
	assert_int_equal(large_status, -ECANCELED);
	free(iov.iov_base);
	bare_close(&b);
}

static void test_abort_resets(void **state)
{
	struct bare b;
	char c;

	bare_open(&b, true, NULL, &end_handlers);
	b.e->total_out = 64 * MIB;
	b.e->total_in = 100;
	end_pump(b.e);
	assert_true(loop_turn(b.loop, 0) >= 0);
	net_sock_abort(b.e->s);
	b.e->s = NULL;
	turn_until(b.loop, b.e->gones, 5);
	assert_int_equal(b.e->last_done, -ECANCELED);
	while (recv(b.fd, &c, 1, 0) == 1)
		;
	assert_int_equal(errno, ECONNRESET);
	bare_close(&b);
}

static struct end *closer;

static void close_in_down(struct net_sock *s, int status)
{
	closer->downs++;
	net_sock_close(s);
}

static size_t close_in_data(struct net_sock *s, const void *bytes, size_t len)
{
	net_sock_close(s);
	return 1;
}

static void never_filled(struct net_sock *s)
{
	fail_msg("nothing was asked for");
}

static void count_gone(void *user)
{
	((struct end *)user)->gones++;
}

static void test_close_in_handlers(void **state)
{
	static const struct net_handlers in_down = {.data = close_in_data,
	                                            .filled = never_filled,
	                                            .down = close_in_down,
	                                            .gone = count_gone};

	for (unsigned i = 0; i < 4; i++) {
		struct bare b;

		bare_open(&b, i & 1, NULL, &in_down);
		closer = b.e;
		if (i & 2)
			bare_send(&b, 0, 100);
		close(b.fd);
		b.fd = -1;
		turn_until(b.loop, b.e->gones, 5);
		assert_int_equal(b.e->downs, !(i & 2));
		b.e->s = NULL;
		bare_close(&b);
	}
}

/* --- receiving --- */

static size_t take_none(struct net_sock *s, const void *bytes, size_t len)
{
	struct end *e = net_sock_user(s);

	e->in = len;
	return 0;
}

static void test_frame_too_large(void **state)
{
	struct net_handlers h = end_handlers;
	const struct net_opts opts = {.ahead_max = 1000};

	h.data = take_none;
	for (size_t len = 999; len <= 1000; len++) {
		struct bare b;

		bare_open(&b, true, &opts, &h);
		for (size_t i = 0; i < len; i++) {
			bare_send(&b, 0, 1);
			turn_until(b.loop, b.e->in == i + 1, 5);
		}
		assert_int_equal(b.e->downs, len == 1000);
		if (b.e->downs)
			assert_int_equal(b.e->down_status, -EMSGSIZE);
		bare_close(&b);
	}
}

/* A destination is the kernel's target, and nobody's after abort. */
static void test_recv_direct(void **state)
{
	enum { LEN = 200000 };
	uint8_t *mem = malloc(LEN);
	struct iovec iov = {mem, LEN};
	struct pair p;

	pair_open(&p, "127.0.0.1:0", NULL, NULL, 3);
	net_sock_pause(p.b->s);
	p.b->dest[0] = iov;
	p.b->dest_count = 1;
	p.b->total_in = LEN;
	assert_int_equal(net_sock_recv_into(p.b->s, &iov, 1), 0);
	assert_int_equal(net_sock_recv_into(p.b->s, &iov, 1), -EBUSY);
	p.a->total_out = LEN;
	end_pump(p.a);
	turn_until(p.loop, p.a->out == LEN && !net_sock_queued(p.a->s), 5);
	assert_int_equal(p.b->in, 0); /* paused */
	net_sock_resume(p.b->s);
	turn_until(p.loop, p.b->in == LEN, 5);
	assert_int_equal(p.b->bad, 0);
	assert_int_equal(net_sock_count(p.b->s)->bytes_direct, LEN);
	assert_int_equal(net_sock_recv_into(p.b->s, &iov, 0), -EINVAL);
	assert_int_equal(net_sock_recv_into(p.b->s, &iov, NET_IOV_MAX + 1), -EINVAL);
	assert_int_equal(net_sock_recv_into(p.b->s, &iov, 1), 0);
	net_sock_abort(p.b->s);
	p.b->s = NULL;
	free(mem); /* the sanitizer would see who still writes there */
	turn_until(p.loop, p.a->downs, 5);
	assert_int_equal(p.a->down_status, -ECONNRESET);
	pair_close(&p);
}

/* --- sends without a copy --- */

/* Loopback copies after all: that is counted, noticed and said, and the stream is whole. */
static void test_zero_copy(void **state)
{
	const struct net_opts opts = {.zerocopy_min = 3000, .send_buf = 200000};
	const struct net_count *c;
	struct pair p;

	for (uint64_t seed = 1; seed <= 5; seed++) {
		pair_open(&p, "127.0.0.1:0", &opts, seed % 2 ? &opts : NULL, seed);
		p.a->total_out = p.b->total_in = 4 * MIB;
		p.b->total_out = p.a->total_in = 3 * MIB;
		p.a->shut_after = p.b->shut_after = true;
		end_pump(p.a);
		end_pump(p.b);
		turn_until(p.loop, p.a->eofs && p.b->eofs, 30);
		assert_int_equal(p.a->in, p.a->total_in);
		assert_int_equal(p.b->in, p.b->total_in);
		assert_int_equal(p.a->bad + p.b->bad, 0);
		c = net_sock_count(p.a->s);
		assert_true(c->zc_sends > 0);
		if (c->zc_copied >= 8)
			assert_non_null(strstr(c->zc_note, "copies"));
		else
			assert_null(c->zc_note);
		assert_int_equal(net_sock_count(p.b->s)->zc_sends > 0, seed % 2);
		pair_close(&p);
	}
}

/* done() means that nobody reads the memory any more, after an abort in the middle too. */
static void test_zero_copy_abort(void **state)
{
	const struct net_opts opts = {.zerocopy_min = 1000};

	for (unsigned turns = 0; turns < 6; turns++) {
		struct bare b;

		bare_open(&b, true, &opts, &end_handlers);
		b.e->total_out = 64 * MIB;
		end_pump(b.e);
		for (unsigned i = 0; i < turns; i++)
			assert_true(loop_turn(b.loop, 0) >= 0);
		net_sock_abort(b.e->s);
		b.e->s = NULL;
		turn_until(b.loop, b.e->gones, 5);
		bare_close(&b);
	}
}

static void test_zero_copy_bad(void **state)
{
	const struct net_opts opts = {.zerocopy_min = 1000};
	struct loop *loop = net_loop();
	struct net_sock *s = NULL;
	struct pst_err err;

	assert_int_equal(net_sock_connect(&s, loop, "unix:/x", &opts, &end_handlers, NULL, &err),
	                 -EINVAL);
	assert_non_null(strstr(err.text, "no zero-copy"));
	assert_null(s);
	net_finish(loop);
	loop_free(loop);
}

/* --- limits --- */

static void test_slow_reader(void **state)
{
	const struct net_opts opts = {.queue_max = 1 * MIB};
	struct bare b;
	uint64_t got = 0;
	uint8_t buf[65536];

	bare_open(&b, true, &opts, &end_handlers);
	b.e->total_out = 64 * MIB;
	b.e->send_max = 90 * KIB;
	/* Sends of its own, so that the limit of our test's slots is not the one that is met. */
	for (unsigned i = 0; i < 1000 && b.e->out < b.e->total_out; i++) {
		uint8_t block[4096];

		for (unsigned j = 0; j < sizeof(block); j++)
			block[j] = stream_byte(1, b.e->out + j);
		if (net_sock_write(b.e->s, &(struct iovec){block, sizeof(block)}, 1) == -EAGAIN)
			break;
		b.e->out += sizeof(block);
	}
	assert_int_equal(net_sock_queued(b.e->s), 1 * MIB);
	b.e->total_out = b.e->out;
	for (unsigned i = 0; i < 50; i++)
		assert_true(loop_turn(b.loop, NSEC_PER_MSEC) >= 0);
	assert_int_equal(b.e->downs, 0);
	while (got < b.e->out) {
		ssize_t n = recv(b.fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n > 0) {
			for (ssize_t i = 0; i < n; i++)
				assert_int_equal(buf[i], stream_byte(1, got + (uint64_t)i));
			got += (uint64_t)n;
		}
		assert_true(loop_turn(b.loop, 0) >= 0);
	}
	assert_int_equal(b.e->drains, 1);
	assert_int_equal(net_sock_queued(b.e->s), 0);
	bare_close(&b);
}

static void test_conns_max(void **state)
{
	const struct net_opts opts = {.conns_max = 3};
	struct loop *loop = net_loop();
	struct end *ends[4], *others[4];
	struct host h;

	host_open(&h, loop, "127.0.0.1:0", &opts);
	for (unsigned i = 0; i < 4; i++) {
		ends[i] = end_new(loop, 1, 1, 2);
		others[i] = end_new(loop, 1, 2, 1);
		host_expect(&h, others[i]);
		end_connect(ends[i], h.addr, NULL);
	}
	net_sock_set_handlers(ends[3]->s, &end_handlers_no_eof, ends[3]);
	turn_until(loop, ends[3]->downs, 5);
	assert_int_equal(net_listener_conns(h.l), 3);
	assert_int_equal(net_listener_refused(h.l), 1);
	assert_int_equal(h.failed_status, -EUSERS);
	assert_non_null(strstr(h.failed_text, "3 connections"));
	/* One goes, another may come. */
	net_sock_close(ends[0]->s);
	net_sock_close(others[0]->s);
	turn_until(loop, net_listener_conns(h.l) == 2, 5);
	net_sock_close(ends[3]->s);
	ends[3]->ups = 0;
	end_connect(ends[3], h.addr, NULL);
	turn_until(loop, others[3]->s, 5);
	for (unsigned i = 1; i < 4; i++) {
		net_sock_abort(ends[i]->s);
		net_sock_abort(others[i]->s);
	}
	net_listener_close(h.l);
	net_finish(loop);
	for (unsigned i = 0; i < 4; i++) {
		end_free(ends[i]);
		end_free(others[i]);
	}
	loop_free(loop);
}

/* A listener that can't accept for lack of descriptors rests, and goes on when there are some. */
static void test_no_descriptors(void **state)
{
	struct loop *loop = net_loop();
	struct end *a = end_new(loop, 1, 1, 2), *b = end_new(loop, 1, 2, 1);
	struct rlimit old, low;
	struct timespec cpu0, cpu1;
	struct host h;
	int top;

	host_open(&h, loop, "127.0.0.1:0", NULL);
	host_expect(&h, b);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	top = dup(0);
	low = old;
	low.rlim_cur = (rlim_t)top + 1; /* one more: the client's */
	close(top);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(net_sock_connect(&a->s, loop, h.addr, NULL, &end_handlers, a, NULL), 0);
	turn_until(loop, h.failed, 5);
	assert_int_equal(h.failed_status, -EMFILE);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu0);
	for (uint64_t until = clock_mono_ns() + 250 * NSEC_PER_MSEC; clock_mono_ns() < until;)
		assert_true(loop_turn(loop, 50 * NSEC_PER_MSEC) >= 0);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu1);
	assert_true((cpu1.tv_sec - cpu0.tv_sec) * 1000000000l + cpu1.tv_nsec - cpu0.tv_nsec <
	            100000000l);
	assert_true(h.failed <= 5);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	turn_until(loop, b->s, 5);
	net_sock_abort(a->s);
	net_sock_abort(b->s);
	net_listener_close(h.l);
	net_finish(loop);
	end_free(a);
	end_free(b);
	loop_free(loop);
}

/* A socket filter that drops every segment: the peer's kernel has vanished, as far as we see. */
static void vanish(int fd)
{
	struct {
		uint16_t code;
		uint8_t jt, jf;
		uint32_t k;
	} drop = {0x06 /* return */, 0, 0, 0};
	struct {
		unsigned short len;
		void *filter;
	} program = {1, &drop};

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)),
	                 0);
}

static void test_peer_vanishes(void **state)
{
	const struct net_opts opts = {.dead_ns = 1 * NSEC_PER_SEC};

	for (unsigned sends = 0; sends < 2; sends++) {
		struct bare b;
		uint64_t start;

		bare_open(&b, true, &opts, &end_handlers);
		vanish(b.fd);
		start = clock_mono_ns();
		b.e->total_out = sends ? 1000 : 0;
		end_pump(b.e);
		turn_until(b.loop, b.e->downs, 10);
		assert_int_equal(b.e->down_status, -ETIMEDOUT);
		assert_non_null(strstr(b.e->error, "doesn't answer"));
		assert_true(clock_mono_ns() - start > 500 * NSEC_PER_MSEC);
		bare_close(&b);
	}
}

/* Silent connections cost nothing: no turns, no time. */
static void test_idle(void **state)
{
	struct loop *loop = net_loop();
	struct end *ends[64];
	struct timespec cpu0, cpu1;
	unsigned turns = 0;
	struct host h;

	host_open(&h, loop, "127.0.0.1:0", NULL);
	for (unsigned i = 0; i < ARRAY_LEN(ends); i += 2) {
		ends[i] = end_new(loop, 1, 1, 2);
		ends[i + 1] = end_new(loop, 1, 2, 1);
		ends[i]->total_out = ends[i + 1]->total_in = 5000;
		host_expect(&h, ends[i + 1]);
		end_connect(ends[i], h.addr, NULL);
		turn_until(loop, ends[i + 1]->in == 5000, 5);
	}
	while (loop_turn(loop, 20 * NSEC_PER_MSEC) > 0)
		;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu0);
	for (uint64_t until = clock_mono_ns() + 200 * NSEC_PER_MSEC; clock_mono_ns() < until;
	     turns++)
		assert_int_equal(loop_turn(loop, 100 * NSEC_PER_MSEC), 0);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu1);
	assert_in_range(turns, 1, 3);
	assert_true((cpu1.tv_sec - cpu0.tv_sec) * 1000000000l + cpu1.tv_nsec - cpu0.tv_nsec <
	            20000000l);
	for (unsigned i = 0; i < ARRAY_LEN(ends); i++)
		net_sock_abort(ends[i]->s);
	net_listener_close(h.l);
	net_finish(loop);
	for (unsigned i = 0; i < ARRAY_LEN(ends); i++)
		end_free(ends[i]);
	loop_free(loop);
}

/* --- descriptors --- */

static unsigned open_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_fds(void **state)
{
	const struct net_opts opts = {.fds_max = 4};
	struct net_send m[3] = {0};
	struct iovec iov = {"frame", 5};
	int pipes[3][2], got[8];
	unsigned before = open_fds();
	struct pair p;

	pair_open(&p, "unix-abstract:pst-net-fds", &opts, &opts, 1);
	p.b->rx_key = 0;
	net_sock_pause(p.b->s);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pipe(pipes[i]), 0);
		m[i].iov = &iov;
		m[i].iov_count = 1;
		m[i].fds = pipes[i];
		m[i].fd_count = i == 1 ? 2 : 1;
		assert_int_equal(net_sock_write(p.a->s, &iov, 1), 0);
		assert_int_equal(net_sock_send(p.a->s, &m[i]), 0);
	}
	turn_until(p.loop, !net_sock_queued(p.a->s), 5);
	assert_int_equal(net_sock_take_fds(p.b->s, got, 8), 0);
	p.b->total_in = 30;
	net_sock_resume(p.b->s);
	turn_until(p.loop, p.b->in == 30, 5);
	assert_int_equal(net_sock_take_fds(p.b->s, got, 1), 1);
	assert_int_equal(net_sock_take_fds(p.b->s, got + 1, 2), 2);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(fcntl(got[i], F_GETFD), FD_CLOEXEC);
	/* The second one's second: what is written there comes out of the second pipe. */
	assert_int_equal(write(got[2], "w", 1), 1);
	assert_int_equal(read(pipes[1][0], got + 4, 1), 1);
	for (unsigned i = 0; i < 3; i++)
		close(got[i]);
	for (unsigned i = 0; i < 3; i++) {
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	pair_close(&p); /* with one not taken */
	assert_int_equal(open_fds(), before);
}

static void test_fds_bad(void **state)
{
	const struct net_opts opts = {.fds_max = 4};
	int fds[NET_SEND_FDS_MAX + 1];
	struct iovec iov = {"x", 1};
	struct net_send m = {.iov = &iov, .iov_count = 1, .fds = fds};
	unsigned before = open_fds();
	struct pair p;

	for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = 0;
	/* Too many for the sender, on TCP, too many for the receiver. */
	pair_open(&p, "127.0.0.1:0", NULL, NULL, 1);
	m.fd_count = 1;
	assert_int_equal(net_sock_send(p.a->s, &m), -ENOTSUP);
	pair_close(&p);
	pair_open(&p, "unix-abstract:pst-net-fds", &opts, &opts, 1);
	m.fd_count = NET_SEND_FDS_MAX + 1;
	assert_int_equal(net_sock_send(p.a->s, &m), -EINVAL);
	m.fd_count = 5;
	assert_int_equal(net_sock_send(p.a->s, &m), 0);
	p.b->total_in = 1;
	turn_until(p.loop, p.b->downs, 5);
	assert_int_equal(p.b->down_status, -EMSGSIZE);
	pair_close(&p);
	assert_int_equal(open_fds(), before);
	/* Who didn't ask for any gets none. */
	pair_open(&p, "unix-abstract:pst-net-fds", NULL, NULL, 1);
	assert_int_equal(net_sock_send(p.a->s, &m), 0);
	p.b->rx_key = 0;
	p.b->total_in = 1;
	turn_until(p.loop, p.b->in == 1, 5);
	assert_int_equal(p.b->downs, 0);
	pair_close(&p);
	assert_int_equal(open_fds(), before);
	/* A descriptor that is none. */
	pair_open(&p, "unix-abstract:pst-net-fds", &opts, &opts, 1);
	fds[0] = 1000;
	m.fd_count = 1;
	assert_int_equal(net_sock_send(p.a->s, &m), 0);
	turn_until(p.loop, p.a->downs, 5);
	assert_int_equal(p.a->down_status, -EBADF);
	pair_close(&p);
	assert_int_equal(open_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_cut_everywhere),
	        cmocka_unit_test(test_half_close),
	        cmocka_unit_test(test_close_delivers),
	        cmocka_unit_test(test_close_lingers_not_for_ever),
	        cmocka_unit_test(test_abort_resets),
	        cmocka_unit_test(test_close_in_handlers),
	        cmocka_unit_test(test_frame_too_large),
	        cmocka_unit_test(test_recv_direct),
	        cmocka_unit_test(test_zero_copy),
	        cmocka_unit_test(test_zero_copy_abort),
	        cmocka_unit_test(test_zero_copy_bad),
	        cmocka_unit_test(test_slow_reader),
	        cmocka_unit_test(test_conns_max),
	        cmocka_unit_test(test_no_descriptors),
	        cmocka_unit_test(test_peer_vanishes),
	        cmocka_unit_test(test_idle),
	        cmocka_unit_test(test_fds),
	        cmocka_unit_test(test_fds_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
