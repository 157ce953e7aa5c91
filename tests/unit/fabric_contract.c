/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What every provider of channels must do: connecting, messages, credits, ends; see
 * fabric_contract.h. Windows and transfers are in fabric_contract_xfer.c, lent memory in fabric_contract_lent.c,
 * listeners that are full in fabric_contract_full.c.
 */
#include "fabric_contract.h"

#include <stdio.h>
#include <unistd.h>

/* --- one end --- */

/* A message is its number and then bytes that follow from it; shorter ones are the number's head. */
static void msg_fill(uint8_t *buf, uint32_t len, uint64_t number)
{
	uint8_t head[8];

	fill(buf, len, number);
	memcpy(head, &number, 8);
	memcpy(buf, head, MIN(len, 8));
}

static void on_up(struct chan *c, int status)
{
	struct side *s = c->user;

	assert_ptr_equal(s->c, c);
	s->ups++;
	s->up_status = status;
	if (s->close_on_up)
		side_close(s);
}

static void on_msg(struct chan *c, const void *data, uint32_t len)
{
	struct side *s = c->user;
	uint8_t *want;

	assert_ptr_equal(s->c, c);
	assert_int_equal(s->downs, 0);
	assert_true(len <= c->msg_max);
	assert_true(IS_ALIGNED((uintptr_t)data, 8));
	if (s->on_msg) {
		s->on_msg(s, data, len);
		return;
	}
	want = malloc(len + 1);
	msg_fill(want, len, s->got);
	if (memcmp(want, data, len))
		fail_msg("message %llu of %u bytes is not what was sent",
		         (unsigned long long)s->got, len);
	free(want);
	s->got++;
	s->got_bytes += len;
	if (s->echo)
		(void)chan_send(c, &(struct iovec){(void *)(uintptr_t)data, len}, 1);
	if (s->close_on_msg)
		side_close(s);
}

static void on_ready(struct chan *c)
{
	struct side *s = c->user;

	assert_ptr_equal(s->c, c);
	assert_int_equal(s->downs, 0);
	s->readies++;
}

static void on_down(struct chan *c, int status)
{
	struct side *s = c->user;

	assert_ptr_equal(s->c, c);
	assert_int_equal(s->downs, 0);
	assert_true(status < 0);
	s->downs++;
	s->down_status = status;
	if (s->close_on_down)
		side_close(s);
}

static const struct chan_handlers handlers = {
        .up = on_up, .msg = on_msg, .ready = on_ready, .down = on_down};

void side_close(struct side *s)
{
	struct chan *c = s->c;

	s->c = NULL;
	chan_close(c);
}

int side_send(struct side *s, uint32_t len)
{
	uint8_t *buf = malloc(len + 1);
	uint32_t cut = len / 3;
	struct iovec iov[3];
	int rc;

	msg_fill(buf, len, s->sent);
	iov[0] = (struct iovec){buf, cut};
	iov[1] = (struct iovec){buf + cut, 0};
	iov[2] = (struct iovec){buf + cut, len - cut};
	if (s->sent & 1) /* a provider may have another way for each */
		rc = chan_send(s->c, &(struct iovec){buf, len}, 1);
	else
		rc = chan_send(s->c, iov, 3);
	memset(buf, 0xee, len); /* the caller's again */
	free(buf);
	s->sent += rc == 0;
	return rc;
}

/* --- the fixture --- */

static bool on_accept(struct fabric_listener *l, struct chan *c)
{
	struct fix *f = l->user;
	struct side *s = f->accepted ? &f->more[f->accepted - 1] : &f->b;

	if (f->refuse)
		return false;
	assert_true(f->accepted < SIDES);
	f->accepted++;
	s->f = f;
	s->c = c;
	c->handlers = &handlers;
	c->user = s;
	if (f->close_in_accept)
		side_close(s);
	return true;
}

void fix_listen(struct fix *f)
{
	struct pst_err err = {0};

	if (fabric_listen(&f->l, f->loop, f->c->provider, f->c->addr, &f->opts, &err))
		fail_msg("%s: %s", f->c->addr, err.text);
	f->l->accept = on_accept;
	f->l->user = f;
	assert_ptr_equal(f->l->loop, f->loop);
}

struct chan *fix_connect(struct fix *f, struct side *s)
{
	struct pst_err err = {0};

	*s = (struct side){.f = f,
	                   .close_on_up = s->close_on_up,
	                   .close_on_down = s->close_on_down,
	                   .close_on_msg = s->close_on_msg};
	if (fabric_connect(&s->c, f->loop, f->c->provider, f->l ? f->l->addr : f->c->addr, &f->opts,
	                   &handlers, s, &err))
		fail_msg("%s: %s", f->c->addr, err.text);
	assert_int_equal(s->ups, 0);
	return s->c;
}

void fix_pair(struct fix *f)
{
	f->opts.seed = rng_next(&f->rng);
	if (!f->l)
		fix_listen(f);
	fix_connect(f, &f->a);
	WAIT(f, f->a.ups && (f->accepted || f->a.up_status));
	assert_int_equal(f->a.up_status, 0);
}

void settle(struct fix *f)
{
	uint64_t ns = f->c->sim ? NSEC_PER_SEC : 30 * NSEC_PER_MSEC;
	uint64_t end = loop_now(f->loop) + ns;

	while (loop_now(f->loop) < end)
		assert_true(loop_turn(f->loop, NSEC_PER_MSEC) >= 0);
}

void fix_drain(struct fix *f)
{
	side_close(&f->a);
	side_close(&f->b);
	for (unsigned i = 0; i < SIDES; i++)
		side_close(&f->more[i]);
	fabric_listener_close(f->l);
	f->l = NULL;
	WAIT(f, fabric_quiet(f->loop));
}

static int setup(void **state)
{
	struct fabric_case *c = *state;
	struct fix *f = calloc(1, sizeof(*f));
	struct loop_opts opts;

	loop_opts_default(&opts);
	opts.sim = c->sim;
	opts.sim_start_ns = NSEC_PER_SEC;
	if (c->fresh)
		c->fresh(c);
	f->c = c;
	f->opts = c->opts;
	rng_seed(&f->rng, 42);
	if (loop_new(&f->loop, &opts, NULL))
		return -1;
	for (unsigned i = 0; i < 2; i++) {
		if (mem_region_new(&f->mem[i], MEM_SHARED, FIX_MEM_BYTES))
			return -1;
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	fix_drain(f);
	mem_region_free(f->mem[0]);
	mem_region_free(f->mem[1]);
	fabric_finish(f->loop);
	loop_free(f->loop);
	free(f);
	return 0;
}

/* --- connecting --- */

static void test_connect(void **state)
{
	struct fix *f = *state;

	fix_pair(f);
	assert_int_equal(f->a.ups, 1);
	assert_int_equal(f->b.ups, 0); /* accepted channels are up */
	assert_string_equal(f->a.c->provider->name, f->c->provider);
	assert_ptr_equal(f->b.c->provider, f->a.c->provider);
	assert_int_equal(f->a.c->traits, f->b.c->traits);
	assert_int_equal(f->a.c->msg_max, f->b.c->msg_max);
	assert_true(f->a.c->msg_max >= 1024 && f->a.c->xfers_max > 0);
	assert_true(f->a.c->inline_max <= f->a.c->msg_max);
	assert_true(strlen(f->a.c->peer.addr) > 0 && strlen(f->b.c->peer.addr) > 0);
	if (f->b.c->peer.has_cred) {
		assert_int_equal(f->b.c->peer.uid, getuid());
		assert_int_equal(f->b.c->peer.pid, getpid());
	}
	side_close(&f->a);
	WAIT(f, f->b.downs);
	assert_int_equal(f->b.down_status, -EPIPE);
	assert_int_equal(side_send(&f->b, 1), -EPIPE);
}

static void test_msg_max_is_the_smaller(void **state)
{
	struct fix *f = *state;

	f->opts.msg_max = 4000;
	fix_listen(f);
	f->opts.msg_max = 9000;
	fix_pair(f);
	assert_int_equal(f->a.c->msg_max, 4000);
	assert_int_equal(f->b.c->msg_max, 4000);
	assert_int_equal(side_send(&f->a, 4001), -EMSGSIZE);
	assert_int_equal(side_send(&f->b, 4001), -EMSGSIZE);
	WAIT(f, side_send(&f->a, 4000) == 0);
	WAIT(f, side_send(&f->b, 4000) == 0);
	WAIT(f, f->a.got == 1 && f->b.got == 1);
}

static void test_nobody_there(void **state)
{
	struct fix *f = *state;
	struct side s = {0};

	if (f->c->nobody_addr[0])
		snprintf(f->c->addr, sizeof(f->c->addr), "%s", f->c->nobody_addr);
	fix_connect(f, &s);
	WAIT(f, s.ups);
	assert_true(s.up_status < 0);
	assert_true(chan_send(s.c, NULL, 0) < 0);
	settle(f);
	assert_int_equal(s.ups, 1);
	assert_int_equal(s.downs, 0);
	side_close(&s);
}

static void test_bad_addresses(void **state)
{
	struct fix *f = *state;
	struct pst_err err = {0};
	struct fabric_listener *l = NULL;
	int rc;

	fix_listen(f);
	rc = fabric_listen(&l, f->loop, f->c->provider, f->l->addr, &f->opts, &err);
	assert_int_equal(rc, -EADDRINUSE);
	assert_null(l);
	assert_true(strlen(err.text) > 0);
	if (f->c->bad_addr[0]) {
		err.text[0] = 0;
		rc = fabric_listen(&l, f->loop, f->c->provider, f->c->bad_addr, &f->opts, &err);
		assert_true(rc < 0);
		assert_true(strlen(err.text) > 0);
	}
	rc = fabric_listen(&l, f->loop, "carrier-pigeon", f->c->addr, &f->opts, &err);
	assert_int_equal(rc, -ENOTSUP);
	assert_non_null(strstr(err.text, "carrier-pigeon"));
	/* The first listener is as it was, and its address is free when it is closed. */
	fix_pair(f);
	fix_drain(f);
	f->accepted = 0;
	fix_pair(f);
}

static void test_refused_by_accept(void **state)
{
	struct fix *f = *state;

	f->refuse = true;
	fix_listen(f);
	fix_connect(f, &f->a);
	WAIT(f, f->a.ups);
	/* Either it was told, or it saw the channel end at once. */
	if (f->a.up_status == 0)
		WAIT(f, f->a.downs);
	side_close(&f->a);
	f->refuse = false;
	fix_pair(f);
}

static void test_listener_ends_first(void **state)
{
	struct fix *f = *state;

	fix_pair(f);
	fabric_listener_close(f->l);
	f->l = NULL;
	settle(f);
	WAIT(f, side_send(&f->a, 1000) == 0);
	WAIT(f, side_send(&f->b, 1000) == 0);
	WAIT(f, f->b.got == 1 && f->a.got == 1);
}

/* --- messages --- */

static void exchange(struct fix *f, uint64_t count)
{
	struct side *side[2] = {&f->a, &f->b};

	while (f->a.got < count || f->b.got < count) {
		for (unsigned i = 0; i < 2; i++) {
			unsigned burst = (unsigned)rng_below(&f->rng, 20);

			while (burst-- && side[i]->sent < count) {
				uint64_t max = rng_chance(&f->rng, 0.1) ? side[i]->c->msg_max : 300;
				unsigned readies = side[i]->readies;
				int rc = side_send(side[i], (uint32_t)rng_below(&f->rng, max + 1));

				if (rc == 0)
					continue;
				assert_int_equal(rc, -EAGAIN);
				WAIT(f, side[i]->readies > readies);
			}
		}
		assert_true(loop_turn(f->loop, NSEC_PER_MSEC) >= 0);
	}
	assert_int_equal(f->a.got, count);
	assert_int_equal(f->b.got, count);
}

static void test_messages_in_order(void **state)
{
	struct fix *f = *state;

	fix_pair(f);
	exchange(f, 3000);
	assert_int_equal(f->a.c->count.msgs_out, 3000);
	assert_int_equal(f->b.c->count.msgs_in, 3000);
	assert_int_equal(f->b.c->count.bytes_in, f->a.c->count.bytes_out);
}

static void test_messages_with_few_credits(void **state)
{
	struct fix *f = *state;

	f->opts.msg_credits = 1;
	f->opts.msg_max = 2048;
	fix_pair(f);
	exchange(f, 300);
	fix_drain(f);
	f->accepted = 0;
	memset(&f->b, 0, sizeof(f->b));
	f->opts.msg_credits = 3;
	f->opts.msg_max = 64 * KIB;
	fix_pair(f);
	exchange(f, 300);
}

static void test_credits(void **state)
{
	struct fix *f = *state;
	unsigned sent = 0;
	int rc;

	f->opts.msg_credits = 8;
	fix_pair(f);
	settle(f);
	/* The peer does not run: there is room for no more than it gave. */
	while ((rc = side_send(&f->a, 512)) == 0)
		assert_true(++sent <= 8);
	assert_int_equal(rc, -EAGAIN);
	assert_int_equal(f->a.readies, 0);
	WAIT(f, f->a.readies);
	WAIT(f, f->b.got == sent);
	assert_true(f->a.c->count.no_credit > 0);
}

static void test_empty_and_largest(void **state)
{
	struct fix *f = *state;

	fix_pair(f);
	WAIT(f, side_send(&f->a, 0) == 0);
	WAIT(f, side_send(&f->a, f->a.c->msg_max) == 0);
	WAIT(f, side_send(&f->a, 0) == 0);
	WAIT(f, side_send(&f->a, f->a.c->msg_max - 1) == 0);
	assert_int_equal(side_send(&f->a, f->a.c->msg_max + 1), -EMSGSIZE);
	WAIT(f, f->b.got == 4);
	assert_int_equal(f->b.got_bytes, 2 * f->a.c->msg_max - 1);
}

/* Small messages behind more than a socket takes at once: each arrives as it was when it was sent. */
static void test_messages_behind_writes(void **state)
{
	struct fix *f = *state;
	struct twindow w;
	struct txfer t[7];

	fix_pair(f);
	twindow_make(&w, f->mem[1], 0, MIB, FABRIC_PEER_WRITES);
	WAIT(f, chan_window_open(f->b.c, &w.w) == 0);
	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		txfer_make(&t[i], f->mem[0], i * MIB, MIB, &w.w.desc, 0);
		txfer_must(f, &t[i], true);
	}
	for (unsigned i = 0; i < 32 && side_send(&f->a, 64) == 0; i++)
		;
	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		WAIT(f, t[i].done);
		assert_int_equal(t[i].status, 0);
	}
	WAIT(f, f->b.got == f->a.sent);
	twindow_end(f, f->b.c, &w);
}

static void echo_count(struct side *s, const void *data, uint32_t len)
{
	s->got++;
}

static void test_answers_from_the_handler(void **state)
{
	struct fix *f = *state;

	fix_pair(f);
	f->b.echo = true;
	f->a.on_msg = echo_count;
	for (unsigned i = 0; i < 500; i++) {
		WAIT(f, side_send(&f->a, 200) == 0);
		/* An echo may be dropped for lack of a credit only where that is made up. */
		WAIT(f, f->b.got == i + 1);
	}
	settle(f);
	assert_true(f->a.got > 300);
}

/* --- ends --- */

static void test_what_was_sent_is_delivered(void **state)
{
	struct fix *f = *state;
	unsigned sent = 0;

	fix_pair(f);
	while (sent < 40)
		sent += side_send(&f->a, 1000) == 0 ? 1 : 0 * (unsigned)loop_turn(f->loop, 1000);
	side_close(&f->a);
	WAIT(f, f->b.downs);
	assert_int_equal(f->b.got, 40);
	assert_int_equal(f->b.down_status, -EPIPE);
}

static void test_close_in_each_handler(void **state)
{
	struct fix *f = *state;

	/* in up() */
	f->a.close_on_up = true;
	fix_listen(f);
	fix_connect(f, &f->a);
	WAIT(f, f->a.ups);
	assert_null(f->a.c);
	f->a.close_on_up = false;
	settle(f);
	if (f->accepted)
		assert_int_equal(f->b.downs, 1);
	/* in msg(), with more on its way */
	side_close(&f->b);
	f->accepted = 0;
	memset(&f->b, 0, sizeof(f->b));
	fix_pair(f);
	f->b.close_on_msg = true;
	for (unsigned i = 0; i < 5; i++)
		(void)side_send(&f->a, 100);
	WAIT(f, !f->b.c);
	WAIT(f, f->a.downs);
	assert_int_equal(f->b.got, 1);
	/* in down() */
	side_close(&f->a);
	f->accepted = 0;
	memset(&f->b, 0, sizeof(f->b));
	fix_pair(f);
	f->b.close_on_down = true;
	side_close(&f->a);
	WAIT(f, f->b.downs);
	assert_null(f->b.c);
	settle(f);
	assert_int_equal(f->b.downs, 1);
}

static void test_close_at_once(void **state)
{
	struct fix *f = *state;

	fix_listen(f);
	/* after 0, 1, 2 ... turns */
	for (unsigned turns = 0; turns < 12; turns++) {
		f->opts.seed = turns;
		fix_connect(f, &f->a);
		for (unsigned i = 0; i < turns; i++)
			assert_true(loop_turn(f->loop, 100 * NSEC_PER_USEC) >= 0);
		side_close(&f->a);
		side_close(&f->b);
		settle(f);
		side_close(&f->b); /* it may have been accepted meanwhile */
		f->accepted = 0;
		memset(&f->b, 0, sizeof(f->b));
	}
	/* in accept() */
	f->close_in_accept = true;
	fix_connect(f, &f->a);
	WAIT(f, f->a.ups);
	if (!f->a.up_status)
		WAIT(f, f->a.downs);
	f->close_in_accept = false;
	/* The listener is well. */
	f->accepted = 0;
	side_close(&f->a);
	memset(&f->b, 0, sizeof(f->b));
	fix_pair(f);
}

static void test_both_close(void **state)
{
	struct fix *f = *state;

	fix_pair(f);
	(void)side_send(&f->a, 100);
	(void)side_send(&f->b, 100);
	side_close(&f->a);
	side_close(&f->b);
	settle(f);
	assert_int_equal(f->b.got + f->a.got, 0);
}

/* What has come and was not looked at yet, and what comes still, is nobody's. */
static void test_close_while_the_peer_sends(void **state)
{
	struct fix *f = *state;

	for (unsigned turns = 0; turns < 10; turns++) {
		f->accepted = 0;
		memset(&f->b, 0, sizeof(f->b));
		fix_pair(f);
		for (unsigned i = 0; i <= turns; i++) {
			for (unsigned n = 0; n < 8; n++) {
				(void)side_send(&f->a, 900);
				(void)side_send(&f->b, 900);
			}
			if (i < turns)
				assert_true(loop_turn(f->loop, 0) >= 0);
		}
		side_close(&f->b);
		WAIT(f, ((void)side_send(&f->a, 900), f->a.downs));
		assert_int_equal(side_send(&f->a, 900), f->a.down_status);
		side_close(&f->a);
	}
}

static void test_many_channels(void **state)
{
	struct fix *f = *state;
	enum { MANY = 60 };
	struct side *s = calloc(MANY, sizeof(*s));

	fix_listen(f);
	for (unsigned i = 0; i < MANY; i++) {
		f->opts.seed = i;
		fix_connect(f, &s[i]);
	}
	for (unsigned i = 0; i < MANY; i++) {
		WAIT(f, s[i].ups);
		assert_int_equal(s[i].up_status, 0);
	}
	WAIT(f, f->accepted == MANY);
	for (unsigned round = 0; round < 10; round++) {
		for (unsigned i = 0; i < MANY; i++)
			WAIT(f, side_send(&s[i], 10 * i) == 0);
	}
	WAIT(f, f->b.got == 10);
	for (unsigned i = 0; i + 1 < MANY; i++)
		WAIT(f, f->more[i].got == 10);
	/* Every other one ends; the rest go on. */
	for (unsigned i = 0; i < MANY; i += 2)
		side_close(&s[i]);
	settle(f);
	for (unsigned i = 1; i < MANY; i += 2) {
		WAIT(f, side_send(&s[i], 10) == 0);
		side_close(&s[i]);
	}
	WAIT(f, f->b.downs);
	for (unsigned i = 0; i + 1 < MANY; i++)
		WAIT(f, f->more[i].downs);
	free(s);
}

static void test_peer_dies(void **state)
{
	struct fix *f = *state;

	if (!f->c->die)
		skip();
	f->opts.dead_ns = 200 * NSEC_PER_MSEC;
	fix_pair(f);
	WAIT(f, side_send(&f->a, 10) == 0);
	WAIT(f, f->b.got == 1);
	f->c->die(f->c, f->b.c);
	WAIT(f, f->a.downs);
	assert_int_equal(f->a.downs, 1);
}

/* Each allocation failing in turn, from listening to a message that arrived. */
static void test_without_memory(void **state)
{
	struct fix *f = *state;

	for (uint64_t n = 1;; n++) {
		struct fabric_listener *l = NULL;
		struct pst_err err = {0};
		struct side s = {.f = f};
		uint64_t asked;
		int rc;

		f->accepted = 0;
		memset(&f->b, 0, sizeof(f->b));
		mem_alloc_fail_at(n, false);
		rc = fabric_listen(&l, f->loop, f->c->provider, f->c->addr, &f->opts, &err);
		if (rc == 0) {
			f->l = l;
			l->accept = on_accept;
			l->user = f;
			rc = fabric_connect(&s.c, f->loop, f->c->provider, l->addr, &f->opts,
			                    &handlers, &s, &err);
		}
		if (rc) {
			assert_int_equal(rc, -ENOMEM);
			assert_true(strlen(err.text) > 0);
		} else {
			WAIT(f, s.ups);
			if (s.up_status == 0) {
				WAIT(f, s.downs || f->b.c);
				for (unsigned i = 0; i < 3 && !s.downs; i++)
					(void)side_send(&s, 100);
				settle(f);
			}
		}
		asked = mem_alloc_fail_at(0, false);
		side_close(&s);
		fix_drain(f);
		if (asked < n) {
			assert_int_equal(rc, 0);
			assert_true(n > 3);
			return;
		}
	}
}

static size_t add(struct CMUnitTest *tests, struct fabric_case *c,
                  const struct fabric_contract_test *suite, size_t count)
{
	static char names[16 * FABRIC_CONTRACT_TESTS][64];
	static size_t used;

	pst_assert(used + count <= ARRAY_LEN(names));
	for (size_t i = 0; i < count; i++, used++) {
		snprintf(names[used], sizeof(names[used]), "%s %s", c->label, suite[i].name);
		tests[i] = (struct CMUnitTest){names[used], suite[i].fn, setup, teardown, c};
	}
	return count;
}

size_t fabric_contract_add(struct CMUnitTest *tests, struct fabric_case *c)
{
	static const struct fabric_contract_test suite[] = {
#define T(name) {#name, test_##name}
	        T(connect),
	        T(msg_max_is_the_smaller),
	        T(nobody_there),
	        T(bad_addresses),
	        T(refused_by_accept),
	        T(listener_ends_first),
	        T(messages_in_order),
	        T(messages_with_few_credits),
	        T(credits),
	        T(empty_and_largest),
	        T(messages_behind_writes),
	        T(answers_from_the_handler),
	        T(what_was_sent_is_delivered),
	        T(close_in_each_handler),
	        T(close_at_once),
	        T(both_close),
	        T(close_while_the_peer_sends),
	        T(many_channels),
	        T(peer_dies),
	        T(without_memory),
#undef T
	};
	size_t n = add(tests, c, suite, ARRAY_LEN(suite));

	n += add(tests + n, c, fabric_contract_full, fabric_contract_full_count);
	n += add(tests + n, c, fabric_contract_xfer, fabric_contract_xfer_count);
	n += add(tests + n, c, fabric_contract_lent, fabric_contract_lent_count);
	pst_assert(n <= FABRIC_CONTRACT_TESTS);
	return n;
}
