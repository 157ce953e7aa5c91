/* SPDX-License-Identifier: BSD-3-Clause */
#include <arpa/inet.h>
#include <unistd.h>

#include "net_util.h"

uint8_t stream_byte(uint64_t key, uint64_t pos)
{
	return (uint8_t)((pos * 167 + (pos >> 8) * 13 + (pos >> 16) * 7 + key) ^ (key >> 3));
}

static void fill(uint64_t key, uint64_t pos, uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = stream_byte(key, pos + i);
}

static void check(struct end *e, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		e->bad += p[i] != stream_byte(e->rx_key, e->in + i);
	e->in += len;
}

/* --- sending --- */

static void send_done(struct net_send *m, int status)
{
	struct end_send *x = container_of(m, struct end_send, m);

	assert_true(x->busy);
	x->busy = false;
	x->end->dones++;
	x->end->last_done = status;
	/* The memory is ours again: whoever still reads it reads rubbish. */
	memset(x->data, 0xee, sizeof(x->data));
	if (!status)
		end_pump(x->end);
}

static unsigned split(struct rng *rng, struct iovec *iov, unsigned max, uint8_t *p, size_t len)
{
	unsigned n = 0;

	while (len && n < max - 1 && rng_chance(rng, 0.6)) {
		size_t part = rng_below(rng, len + 1);

		iov[n++] = (struct iovec){p, part};
		p += part;
		len -= part;
	}
	iov[n++] = (struct iovec){p, len};
	return n;
}

static size_t random_len(struct rng *rng, size_t max, uint64_t left)
{
	static const size_t scales[] = {1, 16, 300, 5000, 40000, END_BYTES};
	size_t scale = scales[rng_below(rng, ARRAY_LEN(scales))];

	return 1 + rng_below(rng, MIN(MIN(scale, max), left));
}

static int send_one(struct end *e, struct end_send *x, size_t len)
{
	const bool copy = len < 3000 && rng_chance(&e->rng, 0.5);
	int r;

	fill(e->tx_key, e->out, x->data, len);
	x->m.iov_count = split(&e->rng, x->iov, END_IOVS, x->data, len);
	if (copy) {
		r = net_sock_write(e->s, x->iov, x->m.iov_count);
		memset(x->data, 0xdd, len);
	} else {
		x->end = e;
		x->m.iov = x->iov;
		x->m.done = send_done;
		r = net_sock_send(e->s, &x->m);
		x->busy = !r;
	}
	return r;
}

void end_pump(struct end *e)
{
	e->waits = false;
	while (e->s && e->out < e->total_out && !e->waits) {
		struct end_send *x = NULL;
		size_t len = random_len(&e->rng, e->send_max ? e->send_max : END_BYTES,
		                        e->total_out - e->out);
		int r;

		for (unsigned i = 0; i < END_SENDS && !x; i++)
			x = e->sends[i].busy ? NULL : &e->sends[i];
		if (!x)
			return;
		r = send_one(e, x, len);
		if (r == -EAGAIN)
			e->waits = true;
		else if (r)
			return;
		else
			e->out += len;
	}
	if (e->s && e->shut_after && e->out == e->total_out)
		net_sock_shutdown(e->s);
}

/* --- receiving --- */

static void ask(struct end *e)
{
	size_t len = random_len(&e->rng, END_BYTES, e->total_in - e->in);

	memset(e->dest_mem, 0xcc, len);
	e->dest_count = split(&e->rng, e->dest, ARRAY_LEN(e->dest), e->dest_mem, len);
	assert_int_equal(net_sock_recv_into(e->s, e->dest, e->dest_count), 0);
	assert_int_equal(net_sock_recv_into(e->s, e->dest, e->dest_count), -EBUSY);
}

static void resume(struct loop_timer *t)
{
	struct end *e = container_of(t, struct end, timer);

	if (!e->s)
		return;
	if (!e->dest_count && e->in < e->total_in && rng_chance(&e->rng, 0.3) && !e->downs)
		ask(e);
	net_sock_resume(e->s);
}

static void maybe_pause(struct end *e)
{
	if (!e->pauses || !rng_chance(&e->rng, 0.05))
		return;
	net_sock_pause(e->s);
	e->timer.fired = resume;
	assert_int_equal(loop_timer_arm(e->loop, &e->timer, loop_now(e->loop) + 1000), 0);
}

static size_t on_data(struct net_sock *s, const void *bytes, size_t len)
{
	struct end *e = net_sock_user(s);
	size_t n = rng_chance(&e->rng, 0.2) ? rng_below(&e->rng, len + 1) : len;

	/* Leaving too much is an error, which has its own test; and nothing more may come. */
	if (len - n >= 8000 || (!n && e->in + len == e->total_in))
		n = len;
	if (e->in + n > e->total_in)
		fail_msg("more came than was sent");
	check(e, bytes, n);
	if (e->in < e->total_in && rng_chance(&e->rng, 0.5))
		ask(e);
	maybe_pause(e);
	return n;
}

static void on_filled(struct net_sock *s)
{
	struct end *e = net_sock_user(s);
	unsigned n = e->dest_count;

	assert_true(n > 0);
	e->dest_count = 0;
	for (unsigned i = 0; i < n; i++)
		check(e, e->dest[i].iov_base, e->dest[i].iov_len);
	if (e->in < e->total_in && rng_chance(&e->rng, 0.5))
		ask(e);
	maybe_pause(e);
}

/* --- the rest --- */

static void on_up(struct net_sock *s, int status)
{
	struct end *e = net_sock_user(s);

	e->ups++;
	e->up_status = status;
	if (status)
		memcpy(e->error, net_sock_error(s), sizeof(e->error));
	else
		end_pump(e);
}

static void on_drained(struct net_sock *s)
{
	struct end *e = net_sock_user(s);

	e->drains++;
	end_pump(e);
}

static void on_eof(struct net_sock *s)
{
	struct end *e = net_sock_user(s);

	e->eofs++;
}

static void on_down(struct net_sock *s, int status)
{
	struct end *e = net_sock_user(s);

	e->downs++;
	e->down_status = status;
	e->dest_count = 0;
	memcpy(e->error, net_sock_error(s), sizeof(e->error));
	assert_true(*e->error);
	for (unsigned i = 0; i < END_SENDS; i++)
		assert_false(e->sends[i].busy);
}

static void on_gone(void *user)
{
	struct end *e = user;

	e->gones++;
}

const struct net_handlers end_handlers = {
        .up = on_up,
        .data = on_data,
        .filled = on_filled,
        .drained = on_drained,
        .eof = on_eof,
        .down = on_down,
        .gone = on_gone,
};
const struct net_handlers end_handlers_no_eof = {
        .up = on_up,
        .data = on_data,
        .filled = on_filled,
        .down = on_down,
        .gone = on_gone,
};

struct loop *net_loop(void)
{
	struct loop_opts opts;
	struct loop *loop;
	struct pst_err err;

	loop_opts_default(&opts);
	if (loop_new(&loop, &opts, &err))
		fail_msg("%s", err.text);
	return loop;
}

struct end *end_new(struct loop *loop, uint64_t seed, uint64_t tx_key, uint64_t rx_key)
{
	struct end *e = calloc(1, sizeof(*e));

	assert_non_null(e);
	e->dest_mem = malloc(END_BYTES);
	assert_non_null(e->dest_mem);
	e->loop = loop;
	e->tx_key = tx_key;
	e->rx_key = rx_key;
	rng_seed(&e->rng, seed);
	return e;
}

void end_free(struct end *e)
{
	loop_timer_disarm(e->loop, &e->timer);
	free(e->dest_mem);
	free(e);
}

static bool host_accept(struct net_listener *l, struct net_sock *s, void *user)
{
	struct host *h = user;
	struct end *e;

	if (h->taken == h->waiting)
		return false;
	e = h->ends[h->taken++];
	e->s = s;
	e->ups++;
	net_sock_set_handlers(s, &end_handlers, e);
	end_pump(e);
	return true;
}

static void host_failed(struct net_listener *l, const struct net_addr *peer, int status,
                        const char *sentence, void *user)
{
	struct host *h = user;

	h->failed++;
	h->failed_status = status;
	strncpy(h->failed_text, sentence, sizeof(h->failed_text) - 1);
}

static const struct net_accept host_cb = {.accept = host_accept, .failed = host_failed};

void host_open(struct host *h, struct loop *loop, const char *addr, const struct net_opts *opts)
{
	struct pst_err err;

	memset(h, 0, sizeof(*h));
	if (net_listen(&h->l, loop, addr, 0, opts, &host_cb, h, &err))
		fail_msg("%s", err.text);
	net_addr_print(net_listener_addr(h->l), h->addr, sizeof(h->addr));
}

void host_expect(struct host *h, struct end *e)
{
	assert_true(h->waiting < ARRAY_LEN(h->ends));
	h->ends[h->waiting++] = e;
}

void end_connect(struct end *e, const char *addr, const struct net_opts *opts)
{
	struct pst_err err;

	if (net_sock_connect(&e->s, e->loop, addr, opts, &end_handlers, e, &err))
		fail_msg("%s", err.text);
	assert_int_equal(e->ups, 0);
	turn_until(e->loop, e->ups, 10);
}

void pair_open(struct pair *p, const char *addr, const struct net_opts *client,
               const struct net_opts *server, uint64_t seed)
{
	memset(p, 0, sizeof(*p));
	p->loop = net_loop();
	p->a = end_new(p->loop, seed, 1000 + seed, 2000 + seed);
	p->b = end_new(p->loop, seed + 1, 2000 + seed, 1000 + seed);
	host_open(&p->host, p->loop, addr, server);
	host_expect(&p->host, p->b);
	end_connect(p->a, p->host.addr, client);
	if (p->a->up_status)
		fail_msg("%s", p->a->error);
	turn_until(p->loop, p->b->s, 10);
}

void pair_close(struct pair *p)
{
	struct end *ends[] = {p->a, p->b};

	for (unsigned i = 0; i < 2; i++) {
		if (ends[i]->s)
			net_sock_abort(ends[i]->s);
		ends[i]->s = NULL;
	}
	net_listener_close(p->host.l);
	net_finish(p->loop);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(ends[i]->gones, 1);
		for (unsigned j = 0; j < END_SENDS; j++)
			assert_false(ends[i]->sends[j].busy);
		end_free(ends[i]);
	}
	loop_free(p->loop);
}

int raw_listen(struct sockaddr_in *ret_in, int backlog)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*ret_in);

	*ret_in = (struct sockaddr_in){.sin_family = AF_INET,
	                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)ret_in, len), 0);
	if (backlog >= 0)
		assert_int_equal(listen(fd, backlog), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)ret_in, &len), 0);
	return fd;
}

void bare_open(struct bare *b, bool tcp, const struct net_opts *opts,
               const struct net_handlers *handlers)
{
	struct pst_err err;
	int sv[2];

	b->loop = net_loop();
	b->e = end_new(b->loop, 5, 1, 2);
	if (tcp) {
		struct sockaddr_in in;
		int l = raw_listen(&in, 1);

		sv[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(sv[0], (struct sockaddr *)&in, sizeof(in)), 0);
		sv[1] = accept(l, NULL, NULL);
		assert_true(sv[1] >= 0);
		close(l);
	} else {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	}
	b->fd = sv[1];
	if (net_sock_adopt(&b->e->s, b->loop, sv[0], false, opts, handlers, b->e, &err))
		fail_msg("%s", err.text);
}

void bare_close(struct bare *b)
{
	net_sock_abort(b->e->s);
	net_finish(b->loop);
	assert_int_equal(b->e->gones, 1);
	for (unsigned i = 0; i < END_SENDS; i++)
		assert_false(b->e->sends[i].busy);
	end_free(b->e);
	loop_free(b->loop);
	if (b->fd >= 0)
		close(b->fd);
}

void reset_and_close(int fd)
{
	const struct linger l = {.l_onoff = 1};

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)), 0);
	close(fd);
}

void bare_send(struct bare *b, uint64_t from, size_t len)
{
	uint8_t buf[4096];

	assert_true(len <= sizeof(buf));
	for (size_t i = 0; i < len; i++)
		buf[i] = stream_byte(b->e->rx_key, from + i);
	if (len)
		assert_int_equal(send(b->fd, buf, len, MSG_NOSIGNAL), len);
}
