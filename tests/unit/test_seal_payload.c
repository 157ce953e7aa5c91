/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Payloads of sealed channels: what lies in windows is changed, exchanged and cut on its way, and what
 * sealing costs of memory.
 */
#include <openssl/crypto.h>

#include "seal_world.h"

/* --- payloads --- */

#define PAYLOAD 40000u

struct shown {
	struct chan_window w;
	struct iovec iov[2];
	uint8_t *data;
	unsigned closed;
};

static void shown_closed(struct chan_window *w)
{
	container_of(w, struct shown, w)->closed++;
}

static void show(struct world *w, struct shown *s, uint32_t rights, uint64_t cut)
{
	memset(s, 0, sizeof(*s));
	s->data = malloc(PAYLOAD);
	for (unsigned i = 0; i < PAYLOAD; i++)
		s->data[i] = rights == FABRIC_PEER_READS ? (uint8_t)(i * 13) : 0xee;
	s->iov[0] = (struct iovec){s->data, 12345};
	s->iov[1] = (struct iovec){s->data + 12345, PAYLOAD - 12345};
	s->w.iov = s->iov;
	s->w.iov_count = 2;
	s->w.rights = rights;
	s->w.cut = cut;
	s->w.closed = shown_closed;
	assert_int_equal(chan_window_open(w->client.c, &s->w), 0);
}

struct moved {
	struct chan_xfer x;
	struct iovec iov;
	uint8_t data[PAYLOAD];
	int status; /* 1: not done */
};

static void moved_done(struct chan_xfer *x, int status)
{
	container_of(x, struct moved, x)->status = status;
}

static void move_init(struct moved *m, const struct shown *s, uint64_t off, uint64_t len)
{
	m->status = 1;
	m->iov = (struct iovec){m->data, len};
	m->x = (struct chan_xfer){.done = moved_done,
	                          .iov = &m->iov,
	                          .iov_count = 1,
	                          .desc = s->w.desc,
	                          .off = off,
	                          .len = len,
	                          .scratch = true};
}

/* What a window of the client's shows, as the channel below has it. */
static uint8_t *below(struct world *w, const struct shown *s)
{
	struct chan_window *win;

	list_for_each (win, &w->client.h.windows, link)
		if (win->desc.key == s->w.desc.key)
			return win->iov[0].iov_base;
	abort();
}

/* Reads both parts of a window, whose memory was changed at @at (-1: not). The worse status. */
static int read_both(struct world *w, struct shown *s, long at)
{
	struct moved *m = malloc(sizeof(*m));
	int worse = 0;

	if (at >= 0)
		below(w, s)[at] ^= 4;
	for (unsigned k = 0; k < 2; k++) {
		uint64_t off = k ? s->w.cut : 0, len = k ? PAYLOAD - s->w.cut : s->w.cut;

		if (!len)
			continue;
		move_init(m, s, off, len);
		m->x.mark = s->w.mark[k];
		assert_int_equal(chan_read(w->server.c, &m->x), 0);
		hand_run(&w->server.h);
		assert_int_not_equal(m->status, 1);
		worse = m->status ? m->status : worse;
		if (!m->status)
			assert_memory_equal(m->data, s->data + off, len);
		else
			for (uint64_t i = 0; i < len; i++)
				assert_int_equal(m->data[i], 0); /* nothing of it is left */
	}
	free(m);
	return worse;
}

static void close_shown(struct world *w, struct shown *s)
{
	chan_window_close(w->client.c, &s->w);
	assert_int_equal(s->closed, 1);
	free(s->data);
}

static void payload_read(void **state)
{
	static const long places[] = {0, 1, 99, 100, 101, 16383, 16384, PAYLOAD - 1};
	struct world *w = *state;
	struct shown s, other;

	world_connect(w);
	show(w, &s, FABRIC_PEER_READS, 100);
	assert_memory_not_equal(below(w, &s), s.data, 64);
	assert_int_equal(read_both(w, &s, -1), 0);
	close_shown(w, &s);
	for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
		show(w, &s, FABRIC_PEER_READS, i % 2 ? 100 : 0);
		assert_int_equal(read_both(w, &s, places[i]), -EBADMSG);
		close_shown(w, &s);
	}
	/* The bytes of another window, and what was shown before under the same key. */
	show(w, &s, FABRIC_PEER_READS, 0);
	show(w, &other, FABRIC_PEER_READS, 0);
	memcpy(below(w, &s), below(w, &other), PAYLOAD);
	assert_int_equal(read_both(w, &s, -1), -EBADMSG);
	assert_int_equal(read_both(w, &other, -1), 0);
	/* Of a part only: a mark is of all of it. */
	other.w.cut = 50;
	other.w.mark[0] = other.w.mark[1];
	assert_int_equal(read_both(w, &other, -1), -EBADMSG);
	close_shown(w, &s);
	close_shown(w, &other);
}

/* The server writes @len bytes into a window that was changed at @at afterwards. */
static int write_one(struct world *w, struct shown *s, struct moved *m, uint64_t len, long at)
{
	move_init(m, s, 0, len);
	for (uint64_t i = 0; i < len; i++)
		m->data[i] = (uint8_t)(i * 31);
	assert_int_equal(chan_write(w->server.c, &m->x), 0);
	hand_run(&w->server.h);
	assert_int_equal(m->status, 0);
	if (at >= 0)
		below(w, s)[at] ^= 1;
	s->w.mark[1] = m->x.mark;
	s->w.mark_len = len;
	return 0;
}

static void all_are(const uint8_t *data, uint8_t value)
{
	for (unsigned i = 0; i < PAYLOAD; i++)
		assert_int_equal(data[i], value);
}

static void payload_written(void **state)
{
	static const long places[] = {0, 12344, 12345, 16384, PAYLOAD - 1};
	struct world *w = *state;
	struct moved *m = malloc(sizeof(*m));
	struct shown s;

	world_connect(w);
	show(w, &s, FABRIC_PEER_WRITES, 0);
	(void)write_one(w, &s, m, PAYLOAD, -1);
	all_are(s.data, 0xee); /* before it is closed nothing is there */
	chan_window_close(w->client.c, &s.w);
	assert_int_equal(s.w.status, 0);
	for (unsigned i = 0; i < PAYLOAD; i++)
		assert_int_equal(s.data[i], (uint8_t)(i * 31));
	free(s.data);
	/* Less than there is room for. */
	show(w, &s, FABRIC_PEER_WRITES, 0);
	(void)write_one(w, &s, m, 20000, -1);
	chan_window_close(w->client.c, &s.w);
	assert_int_equal(s.w.status, 0);
	for (unsigned i = 0; i < PAYLOAD; i++)
		assert_int_equal(s.data[i], i < 20000 ? (uint8_t)(i * 31) : 0xee);
	free(s.data);
	for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
		show(w, &s, FABRIC_PEER_WRITES, 0);
		(void)write_one(w, &s, m, PAYLOAD, places[i]);
		chan_window_close(w->client.c, &s.w);
		assert_int_equal(s.w.status, -EBADMSG);
		all_are(s.data, 0);
		free(s.data);
	}
	/* Another length, and another one's mark. */
	for (unsigned i = 0; i < 2; i++) {
		show(w, &s, FABRIC_PEER_WRITES, 0);
		(void)write_one(w, &s, m, 20000, -1);
		s.w.mark_len -= i == 0;
		s.w.mark[1].number += i == 1;
		chan_window_close(w->client.c, &s.w);
		assert_int_equal(s.w.status, -EBADMSG);
		free(s.data);
	}
	/* Nothing came: nothing is opened. */
	show(w, &s, FABRIC_PEER_WRITES, 0);
	chan_window_close(w->client.c, &s.w);
	assert_int_equal(s.w.status, 0);
	all_are(s.data, 0xee);
	free(s.data);
	free(m);
}

/* Sealed under keys that have changed since. */
static void payload_of_before(void **state)
{
	struct world *w = *state;
	struct shown s;

	w->epoch_max = 4;
	world_connect(w);
	for (unsigned turns = 0; turns < 3; turns++) {
		uint16_t was;

		show(w, &s, FABRIC_PEER_READS, 0);
		was = (uint16_t)(s.w.mark[1].number >> 48);
		for (uint16_t now = was; now < was + turns;) {
			assert_int_equal(end_say(&w->client, "more"), 0);
			now = (uint16_t)(number_of(list_first(&w->client.h.sent, struct hand_msg,
			                                      link)) >>
			                 48);
			world_pass(&w->client);
		}
		/* One epoch back is known, two are not. */
		assert_int_equal(read_both(w, &s, -1), turns < 2 ? 0 : -EBADMSG);
		close_shown(w, &s);
	}
}

/* A write that finds no place waits, sealed once, and messages wait behind it. */
static void write_waits(void **state)
{
	struct world *w = *state;
	struct moved *m = malloc(sizeof(*m)), *n = malloc(sizeof(*n));
	struct shown s;

	world_connect(w);
	show(w, &s, FABRIC_PEER_WRITES, 0);
	move_init(m, &s, 0, 100);
	move_init(n, &s, 0, 100);
	memset(m->data, 'x', 100);
	m->x.scratch = false;
	assert_int_equal(chan_write(w->server.c, &m->x), -ENOTSUP);
	m->x.scratch = true;
	w->server.h.busy = 1;
	assert_int_equal(chan_write(w->server.c, &m->x), 0);
	assert_int_equal(chan_write(w->server.c, &n->x), -EAGAIN);
	assert_int_equal(end_say(&w->server, "behind it"), -EAGAIN);
	w->server.h.c.handlers->ready(&w->server.h.c);
	assert_int_equal(w->server.readies, 1);
	assert_int_equal(end_say(&w->server, "behind it"), 0);
	hand_run(&w->server.h);
	assert_int_equal(m->status, 0);
	s.w.mark[1] = m->x.mark;
	s.w.mark_len = 100;
	chan_window_close(w->client.c, &s.w);
	assert_int_equal(s.w.status, 0);
	assert_int_equal(s.data[99], 'x');
	free(s.data);
	/* And one that waits when all ends, ends. */
	show(w, &s, FABRIC_PEER_WRITES, 0);
	move_init(m, &s, 0, 100);
	w->server.h.busy = 1;
	assert_int_equal(chan_write(w->server.c, &m->x), 0);
	chan_close(w->server.c);
	w->server.c = NULL;
	assert_int_equal(m->status, -ECANCELED);
	chan_close(w->client.c);
	w->client.c = NULL;
	assert_int_equal(s.closed, 1);
	free(s.data);
	free(m);
	free(n);
}

/* No memory for more windows: -EAGAIN, and ready() when there is again. */
static void windows_out(void **state)
{
	struct world *w = *state;
	struct shown s[2], more;

	world_connect(w);
	show(w, &s[0], FABRIC_PEER_READS, 0);
	show(w, &s[1], FABRIC_PEER_READS, 0);
	more = s[0];
	assert_int_equal(chan_window_open(w->client.c, &more.w), -EAGAIN);
	close_shown(w, &s[0]);
	(void)loop_turn(w->loop, NSEC_PER_MSEC);
	assert_int_equal(w->client.readies, 1);
	close_shown(w, &s[1]);
}

/* --- what it costs --- */

static unsigned long allocations;

static void *count_malloc(size_t n, const char *file, int line)
{
	allocations++;
	return malloc(n);
}
static void *count_realloc(void *p, size_t n, const char *file, int line)
{
	allocations++;
	return realloc(p, n);
}
static void count_free(void *p, const char *file, int line)
{
	free(p);
}

/* OpenSSL allocates nothing for a message or a payload. */
static void no_allocation(void **state)
{
	struct world *w = *state;
	struct shown s;
	unsigned long before;

	world_connect(w);
	assert_int_equal(end_say(&w->client, "the first"), 0);
	world_pass(&w->client);
	assert_true(allocations > 0);
	before = allocations;
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(end_say(&w->client, "another"), 0);
		world_pass(&w->client);
		show(w, &s, FABRIC_PEER_READS, 0);
		assert_int_equal(read_both(w, &s, -1), 0);
		close_shown(w, &s);
	}
	assert_int_equal(allocations, before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        WORLD(payload_read), WORLD(payload_written), WORLD(payload_of_before),
	        WORLD(write_waits),  WORLD(windows_out),     WORLD(no_allocation),
	};

	if (CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free) != 1)
		return 1;
	return cmocka_run_group_tests_name("seal_payload", tests, NULL, NULL);
}
