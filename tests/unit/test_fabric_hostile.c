/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Channels whose peer breaks the rules: the channel goes down (or the transfer fails), the listener
 * goes on, nothing else happens. And the formats: golden bytes of frames and of the shared memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fabric_raw.h"

static char addr[64];

#define SILENCE_NS (1 * NSEC_PER_SEC)
#define LONG_NS    (60 * NSEC_PER_SEC)
#define CONNS_MAX  150 /* of a pipe each takes several descriptors at both ends */

static struct raw_server *server_for(const char *provider, bool offer, uint64_t connect_ns)
{
	static unsigned n;
	struct raw_server *s = calloc(1, sizeof(*s));

	snprintf(addr, sizeof(addr), "unix-abstract:penstock-hostile-%d-%u", (int)getpid(), ++n);
	raw_server_open(s, provider, addr, offer, connect_ns, CONNS_MAX);
	return s;
}

static struct raw_server *server(const char *provider, bool offer)
{
	return server_for(provider, offer, SILENCE_NS);
}

static void server_end(struct raw_server *s)
{
	raw_server_close(s);
	free(s);
}

/* --- tcp --- */

static int tcp_up(struct raw_server *s)
{
	struct {
		struct tcp_head head;
		struct tcp_hello hello;
	} first;
	unsigned accepted = s->accepted;
	int fd = raw_unix(addr);

	assert_true(fd >= 0);
	raw_tcp_hello(&first.head, &first.hello);
	assert_true(raw_send(fd, &first, sizeof(first)));
	for (unsigned i = 0; i < 1000 && s->accepted == accepted; i++)
		raw_turns(s, 1);
	assert_int_equal(s->accepted, accepted + 1);
	return fd;
}

static void test_tcp_first_words(void **state)
{
	struct raw_server *s = server("tcp", false);

	for (unsigned i = 0; i < 12; i++) {
		struct {
			struct tcp_head head;
			struct tcp_hello hello;
		} first;
		size_t len = sizeof(first);
		int fd = raw_unix(addr);

		raw_tcp_hello(&first.head, &first.hello);
		switch (i) {
		case 0:
			first.hello.magic ^= 1;
			break;
		case 1:
			first.hello.version = le16_make(2);
			break;
		case 2:
			first.hello.msg_max = 0;
			break;
		case 3:
			first.hello.msg_credits = 0;
			break;
		case 4:
			first.hello.xfers_max = 0;
			break;
		case 5:
			first.head.type = TCP_MSG;
			break;
		case 6:
			first.head.len = le32_make(UINT32_MAX);
			break;
		case 7:
			first.head.len = 0;
			break;
		case 8:
			len = 40; /* and then silence */
			break;
		case 9:
			len = 0;
			break;
		case 10:
			memset(&first, 0xff, sizeof(first));
			break;
		case 11:
			memcpy(&first,
			       "GET / HTTP/1.1\r\nHost: example.org\r\nAccept: text/html\r\n\r\n",
			       56);
			break;
		}
		if (len)
			assert_true(raw_send(fd, &first, len));
		raw_must_hang_up(s, fd);
		assert_int_equal(s->accepted, 0);
		close(fd);
	}
	close(tcp_up(s)); /* it still takes good ones */
	server_end(s);
}

/* --- another version --- */

static char heard[512]; /* the last line of the log */

static void hear(void *arg, enum pst_log_level level, const char *line)
{
	(void)snprintf(heard, sizeof(heard), "%s", line);
}

static void takes_all(struct raw_server *s, int fd, void *buf, size_t len)
{
	size_t got = 0;

	for (unsigned i = 0; i < 30000 && got < len; i++) {
		ssize_t n;

		raw_turns(s, 1);
		n = recv(fd, (char *)buf + got, len - got, MSG_DONTWAIT);
		got += n > 0 ? (size_t)n : 0;
	}
	assert_int_equal(got, len);
}

/* The listener says which version it speaks, and tells its log of both. */
static void test_tcp_later_client(void **state)
{
	struct raw_server *s = server("tcp", false);
	struct {
		struct tcp_head head;
		struct tcp_hello hello;
	} first, answer;
	int fd = raw_unix(addr);

	raw_tcp_hello(&first.head, &first.hello);
	first.hello.version = le16_make(9);
	pst_log_set(hear, NULL, PST_LOG_WARN);
	assert_true(raw_send(fd, &first, sizeof(first)));
	takes_all(s, fd, &answer, sizeof(answer));
	assert_int_equal(le64_get(answer.hello.magic), TCP_MAGIC);
	assert_int_equal(le16_get(answer.hello.version), TCP_VERSION);
	raw_must_hang_up(s, fd);
	assert_non_null(strstr(heard, "speaks version 9 of the channel's protocol, and this end "
	                              "version 1"));
	pst_log_set(NULL, NULL, PST_LOG_ERROR);
	close(fd);
	server_end(s);
}

static void test_pipe_later_client(void **state)
{
	struct raw_server *s = server("pipe", false);
	const struct pipe_frame f = {.magic = le64_make(PIPE_MAGIC),
	                             .version = le16_make(2),
	                             .type = le16_make(PIPE_HELLO)};
	struct pipe_frame answer;
	int fd = raw_unix(addr);

	pst_log_set(hear, NULL, PST_LOG_WARN);
	assert_true(raw_send(fd, &f, sizeof(f)));
	takes_all(s, fd, &answer, sizeof(answer));
	assert_int_equal(le64_get(answer.magic), PIPE_MAGIC);
	assert_int_equal(le16_get(answer.version), PIPE_VERSION);
	raw_must_hang_up(s, fd);
	assert_non_null(strstr(heard, "speaks version 2 of the channel's protocol, and this end "
	                              "version 1"));
	pst_log_set(NULL, NULL, PST_LOG_ERROR);
	close(fd);
	server_end(s);
}

static void test_log_is_limited(void **state)
{
	const char *provider[] = {"tcp", "pipe"};

	for (unsigned i = 0; i < ARRAY_LEN(provider); i++) {
		struct raw_server *s = server_for(provider[i], false, LONG_NS);

		raw_must_tell_few(s, raw_unix, addr, sizeof(struct pipe_frame));
		server_end(s);
	}
}

static void test_lets_go_at_once(void **state)
{
	snprintf(addr, sizeof(addr), "unix-abstract:penstock-still-%d", (int)getpid());
	raw_must_let_go("tcp", addr);
	raw_must_let_go("pipe", addr);
}

/* Many who say nothing are in nobody's way. */
static void crowd(struct raw_server *s)
{
	enum { MORE = 40 };
	int fd[CONNS_MAX + MORE];
	char byte;

	for (unsigned i = 0; i < ARRAY_LEN(fd); i++) {
		fd[i] = raw_unix(addr);
		assert_true(fd[i] >= 0);
		raw_turns(s, 1);
	}
	for (unsigned i = 0; i < MORE; i++)
		raw_must_hang_up(s, fd[i]); /* the oldest, long before its deadline */
	assert_int_equal(recv(fd[MORE + 1], &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	for (unsigned i = 0; i < ARRAY_LEN(fd); i++)
		close(fd[i]);
}

static void test_tcp_crowd(void **state)
{
	struct raw_server *s = server_for("tcp", false, LONG_NS);

	crowd(s);
	close(tcp_up(s));
	server_end(s);
}

static void test_pipe_crowd(void **state)
{
	struct raw_server *s = server_for("pipe", false, LONG_NS);
	struct raw_pipe p;

	crowd(s);
	assert_true(raw_pipe_open(&p, s, addr));
	raw_pipe_close(&p);
	server_end(s);
}

static void test_tcp_frames(void **state)
{
	const struct tcp_head bad[] = {
	        {.type = 0},
	        {.type = 99},
	        {.type = TCP_HELLO, .len = 32},
	        {.type = TCP_MSG, .len = 4097},
	        {.type = TCP_MSG, .len = UINT32_MAX},
	        {.type = TCP_MSG, .credits = 1},
	        {.type = TCP_CREDIT, .credits = UINT16_MAX},
	        {.type = TCP_CREDIT, .len = 8},
	        {.type = TCP_PING, .len = 1},
	        {.type = TCP_WRITE, .len = TCP_CHUNK_BYTES + 1},
	        {.type = TCP_WRITE_END, .id = 1},
	        {.type = TCP_WRITE_END, .id = UINT32_MAX},
	        {.type = TCP_READ_DATA, .id = 0, .len = 100},
	        {.type = TCP_READ_DATA, .id = 65535, .len = 100},
	        {.type = TCP_READ_END, .status = 5},
	};
	struct raw_server *s = server("tcp", true);

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		int fd = tcp_up(s);

		assert_true(raw_send(fd, &bad[i], sizeof(bad[i])));
		raw_must_hang_up(s, fd);
		assert_int_equal(s->downs, i + 1);
		assert_int_equal(s->status, -EPROTO);
		close(fd);
		for (unsigned turns = 0; turns < 1000 && s->win_open; turns++)
			raw_turns(s, 1);
	}
	server_end(s);
}

static void take(struct raw_server *s, int fd, void *buf, size_t len)
{
	size_t got = 0;

	for (unsigned i = 0; i < 2000 && got < len; i++) {
		ssize_t n;

		raw_turns(s, 1);
		n = recv(fd, (char *)buf + got, len - got, MSG_DONTWAIT);
		got += n > 0 ? (size_t)n : 0;
	}
	assert_int_equal(got, len);
}

/* Windows that aren't there: the payload is dropped, the transfer fails, the channel lives. */
static void test_tcp_no_such_window(void **state)
{
	struct raw_server *s = server("tcp", false);
	int fd = tcp_up(s);
	struct tcp_head h = {.type = TCP_WRITE, .flags = TCP_LAST, .len = 5000, .key = 77, .id = 3};
	uint8_t junk[5000];
	struct tcp_hello hello;

	take(s, fd, &h, sizeof(h));
	assert_int_equal(h.type, TCP_HELLO);
	take(s, fd, &hello, sizeof(hello));
	memset(junk, 0x5a, sizeof(junk));
	h = (struct tcp_head){
	        .type = TCP_WRITE, .flags = TCP_LAST, .len = 5000, .key = 77, .id = 3};
	assert_true(raw_send(fd, &h, sizeof(h)));
	assert_true(raw_send(fd, junk, sizeof(junk)));
	take(s, fd, &h, sizeof(h));
	assert_int_equal(h.type, TCP_WRITE_END);
	assert_int_equal(le32_get(h.id), 3);
	assert_int_equal(le32_get(h.status), EACCES);
	h = (struct tcp_head){.type = TCP_READ, .len = 10, .key = UINT64_MAX, .id = 9};
	assert_true(raw_send(fd, &h, sizeof(h)));
	take(s, fd, &h, sizeof(h));
	assert_int_equal(h.type, TCP_READ_END);
	assert_int_equal(le32_get(h.id), 9);
	assert_int_equal(le32_get(h.status), EACCES);
	assert_int_equal(s->downs, 0);
	close(fd);
	server_end(s);
}

/* A peer that asks and never takes its answers is cut off, and the queue to it is bounded. */
static void test_tcp_never_reads(void **state)
{
	struct raw_server *s = server("tcp", true);
	struct tcp_head h = {.type = TCP_WRITE, .flags = TCP_LAST};
	int fd = tcp_up(s);

	for (unsigned i = 0; i < 200000 && !s->downs; i++) {
		(void)raw_send(fd, &h, sizeof(h));
		if (i % 64 == 0)
			raw_turns(s, 1);
	}
	assert_int_equal(s->downs, 1);
	assert_int_equal(s->status, -EPROTO);
	close(fd);
	while (s->win_open)
		raw_turns(s, 1);
	/* The same by reading, more than xfers_max at once. */
	fd = tcp_up(s);
	h = (struct tcp_head){
	        .type = TCP_READ, .len = le32_make(65536), .key = le64_make(s->win.desc.key)};
	for (unsigned i = 0; i < 200000 && s->downs == 1; i++) {
		(void)raw_send(fd, &h, sizeof(h));
		if (i % 64 == 0)
			raw_turns(s, 1);
	}
	assert_int_equal(s->downs, 2);
	assert_int_equal(s->status, -EPROTO);
	close(fd);
	server_end(s);
}

/* What answers a read must be that read's, piece by piece. */
static void test_tcp_wrong_data(void **state)
{
	struct raw_server *s = server("tcp", false);
	const struct tcp_head wrong[] = {
	        {.off = 50, .len = 100, .flags = TCP_LAST}, /* not where it is */
	        {.len = 101, .flags = TCP_LAST},            /* more than was asked for */
	        {.len = 50, .flags = TCP_LAST},             /* the end too soon */
	        {.len = 100},                               /* no end */
	        {.len = 0},                                 /* nothing */
	        {.id = 1 << 20, .len = 100, .flags = TCP_LAST},
	};

	for (unsigned i = 0; i < ARRAY_LEN(wrong); i++) {
		struct {
			struct tcp_head head;
			struct fabric_desc desc;
		} ask = {{.type = TCP_MSG, .len = le32_make(sizeof(ask.desc))},
		         {.key = 5, .len = 100}};
		struct tcp_head h;
		uint8_t data[101] = {0};
		int fd = tcp_up(s);

		take(s, fd, &h, sizeof(h));
		take(s, fd, data, sizeof(struct tcp_hello));
		assert_true(raw_send(fd, &ask, sizeof(ask)));
		do
			take(s, fd, &h, sizeof(h));
		while (h.type != TCP_READ);
		assert_int_equal(le32_get(h.len), 100);
		ask.head = wrong[i];
		ask.head.type = TCP_READ_DATA;
		ask.head.id = le32_make(le32_get(h.id) + wrong[i].id);
		assert_true(raw_send(fd, &ask.head, sizeof(ask.head)));
		(void)raw_send(fd, data, wrong[i].len);
		raw_must_hang_up(s, fd);
		assert_int_equal(s->downs, i + 1);
		assert_int_equal(s->status, -EPROTO);
		close(fd);
	}
	server_end(s);
}

/* --- pipe --- */

static void refused_hello(struct raw_server *s, unsigned how)
{
	struct raw_pipe p = {.fd = raw_unix(addr), .mine_fd = -1, .bell = -1, .its_bell = -1};
	struct pipe_frame f;
	unsigned n = 2;
	int fds[4], other;

	assert_true(p.fd >= 0);
	raw_pipe_hello(&p, &f);
	fds[0] = other = p.mine_fd;
	fds[1] = fds[2] = p.bell;
	switch (how) {
	case 0:
		f.magic ^= 1;
		break;
	case 1:
		f.version = le16_make(9);
		break;
	case 2:
		n = 0;
		break;
	case 3:
		n = 1;
		break;
	case 4:
		f.hello.ring_bytes = le32_make(65536 * 3);
		break;
	case 5:
		f.hello.ring_bytes = le32_make(p.mine.ring_bytes * 2); /* more than there is */
		break;
	case 6:
		f.hello.ring_off = le32_make(4096);
		break;
	case 7:
		f.hello.windows = le32_make(UINT32_MAX);
		break;
	case 8:
		f.hello.lists = le32_make(33);
		break;
	case 9:
		f.hello.msg_max = 0;
		break;
	case 10:
		f.hello.msg_credits = 0;
		break;
	case 11: /* could be shrunk under our feet */
		other = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		assert_int_equal(ftruncate(other, 16 << 20), 0);
		fds[0] = other;
		break;
	case 12: /* a file */
		other = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
		fds[0] = other;
		break;
	case 13:
		fds[0] = p.bell;
		break;
	case 14:
		f.type = le16_make(PIPE_REGION);
		break;
	}
	(void)raw_pipe_frame(&p, &f, fds, n);
	raw_must_hang_up(s, p.fd);
	if (other != p.mine_fd)
		close(other);
	raw_pipe_close(&p);
}

static void test_pipe_first_words(void **state)
{
	struct raw_server *s = server("pipe", false);
	struct raw_pipe p;

	for (unsigned how = 0; how < 15; how++)
		refused_hello(s, how);
	assert_int_equal(s->accepted, 0);
	assert_true(raw_pipe_open(&p, s, addr));
	raw_pipe_close(&p);
	server_end(s);
}

static void test_pipe_ring(void **state)
{
	struct raw_server *s = server("pipe", false);

	for (unsigned how = 0; how < 8; how++) {
		struct raw_pipe p;
		uint64_t *ring;

		assert_true(raw_pipe_open(&p, s, addr));
		ring = (uint64_t *)(void *)p.its.ring;
		raw_pipe_send(&p, "good", 4);
		raw_turns(s, 5);
		assert_int_equal(s->msgs, how + 1);
		switch (how) {
		case 0: /* longer than may be */
			ring[2] = 4097;
			atomic_store(&p.its.box->tail, 16 + 8 + 4104);
			break;
		case 1: /* longer than there is */
			ring[2] = 100;
			atomic_store(&p.its.box->tail, 16 + 8 + 96);
			break;
		case 2:
			ring[2] = UINT64_MAX;
			atomic_store(&p.its.box->tail, 32);
			break;
		case 3: /* more than the ring */
			atomic_store(&p.its.box->tail, 16 + p.its.ring_bytes + 8);
			break;
		case 4: /* back */
			atomic_store(&p.its.box->tail, 8);
			break;
		case 5:
			atomic_store(&p.its.box->tail, 17);
			break;
		case 6: /* has taken what was never sent: seen when room is looked for */
			atomic_store(&p.its.box->done, UINT64_MAX);
			for (unsigned i = 0; i < 20 && s->downs == how; i++) {
				raw_pipe_send(&p, "again", 5);
				raw_turns(s, 2);
				s->msgs = how + 1;
			}
			break;
		case 7: /* a head whose sum overflows */
			ring[2] = UINT64_MAX - 7;
			atomic_store(&p.its.box->tail, 24);
			break;
		}
		raw_pipe_ring(&p);
		for (unsigned i = 0; i < 1000 && s->downs == how; i++)
			raw_turns(s, 1);
		assert_int_equal(s->downs, how + 1);
		assert_int_equal(s->status, -EPROTO);
		raw_pipe_close(&p);
	}
	server_end(s);
}

static void region_show(struct raw_pipe *p, uint32_t id, int fd, uint64_t len)
{
	struct pipe_frame f = {.magic = le64_make(PIPE_MAGIC),
	                       .version = le16_make(PIPE_VERSION),
	                       .type = le16_make(PIPE_REGION),
	                       .id = le32_make(id),
	                       .value = le64_make(len)};

	assert_true(raw_pipe_frame(p, &f, &fd, 1));
}

static int region_answer(struct raw_server *s, struct raw_pipe *p)
{
	struct pipe_frame f;

	take(s, p->fd, &f, sizeof(f));
	return le16_get(f.type);
}

/* A table of windows that says all it should not. */
static void test_pipe_windows(void **state)
{
	struct raw_server *s = server("pipe", false);
	struct mem_region *r;
	struct raw_pipe p;
	const struct {
		uint64_t addr, len;
		uint32_t region, list;
	} bad[] = {
	        {0, 65536, 2, PIPE_LIST_NONE},              /* no such region */
	        {1, 65536, 1, PIPE_LIST_NONE},              /* over its end */
	        {UINT64_MAX, 65536, 1, PIPE_LIST_NONE},     /* round the corner */
	        {UINT64_MAX - 100, 200, 1, PIPE_LIST_NONE}, /* likewise */
	        {0, 100, 1, PIPE_LIST_NONE},                /* shorter than the descriptor said */
	        {0, 65536, 1, 32},                          /* no such list */
	        {0, 65536, 1, UINT32_MAX - 1},
	        {0, 65536, 1, 0}, /* an empty one */
	        {0, 65536, 1, 1}, /* one that leaves the region */
	        {0, 65536, 1, 2}, /* one whose sum is another */
	};
	struct fabric_desc d = {.len = 65536};
	int fd;

	assert_int_equal(mem_region_new(&r, MEM_SHARED, 65536), 0);
	assert_true(raw_pipe_open(&p, s, addr));
	region_show(&p, 1, r->fd, 65536);
	assert_int_equal(region_answer(s, &p), PIPE_REGION_OK);
	region_show(&p, 1, r->fd, 65536); /* twice the same */
	assert_int_equal(region_answer(s, &p), PIPE_REGION_BAD);
	region_show(&p, 3, r->fd, 65537);
	assert_int_equal(region_answer(s, &p), PIPE_REGION_BAD);
	region_show(&p, 3, r->fd, 0);
	assert_int_equal(region_answer(s, &p), PIPE_REGION_BAD);
	region_show(&p, 3, r->fd, UINT64_MAX);
	assert_int_equal(region_answer(s, &p), PIPE_REGION_BAD);
	fd = memfd_create("x", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, 65536), 0);
	region_show(&p, 3, fd, 65536);
	assert_int_equal(region_answer(s, &p), PIPE_REGION_BAD);
	close(fd);
	pipe_list(&p.its, 1)[0].addr = 65530;
	pipe_list(&p.its, 1)[0].len = 65536;
	pipe_list(&p.its, 2)[0].len = 5;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct pipe_slot *slot = &p.its.box->slot[i % 16];
		uint64_t key = (uint64_t)(i + 1) << PIPE_KEY_COUNT_SHIFT |
		               3 << PIPE_KEY_RIGHTS_SHIFT | i % 16;

		slot->addr = bad[i].addr;
		slot->len = bad[i].len;
		slot->region = bad[i].region;
		slot->list = bad[i].list;
		atomic_store(&slot->key, key);
		d.key = key;
		d.addr = i & 1;
		raw_pipe_send(&p, &d, sizeof(d));
		for (unsigned turns = 0; turns < 1000 && s->xfers == i; turns++)
			raw_turns(s, 1);
		assert_int_equal(s->xfers, i + 1);
		assert_int_equal(s->downs, 0);
		assert_int_equal(atomic_load(&p.mine.box->busy), 0);
	}
	/* A slot that is not there. */
	d.key = 3u << PIPE_KEY_RIGHTS_SHIFT | 0xffff;
	raw_pipe_send(&p, &d, sizeof(d));
	for (unsigned turns = 0; turns < 1000 && s->xfers == ARRAY_LEN(bad); turns++)
		raw_turns(s, 1);
	assert_int_equal(s->xfers, ARRAY_LEN(bad) + 1);
	raw_pipe_close(&p);
	mem_region_free(r);
	server_end(s);
}

/* A window that the peer is busy with is not closed before it says that it is done. */
static void test_pipe_busy(void **state)
{
	struct raw_server *s = server("pipe", true);
	struct pipe_frame f;
	struct raw_pipe p;

	assert_true(raw_pipe_open(&p, s, addr));
	assert_false(s->win_open); /* the region has to be shown first */
	assert_int_equal(region_answer(s, &p), PIPE_REGION);
	f = (struct pipe_frame){.magic = le64_make(PIPE_MAGIC),
	                        .version = le16_make(PIPE_VERSION),
	                        .type = le16_make(PIPE_REGION_OK),
	                        .id = le32_make(1)};
	assert_true(raw_pipe_frame(&p, &f, NULL, 0));
	for (unsigned i = 0; i < 1000 && !s->win_open; i++) {
		raw_turns(s, 1);
		s->win_open = chan_window_open(s->c, &s->win) == 0;
	}
	assert_true(s->win_open);
	assert_int_equal(atomic_load(&p.mine.box->slot[0].key), s->win.desc.key);
	atomic_store(&p.its.box->busy, s->win.desc.key);
	chan_window_close(s->c, &s->win);
	assert_int_equal(atomic_load(&p.mine.box->slot[0].key), 0);
	raw_turns(s, 50);
	assert_true(s->win_open);
	atomic_store(&p.its.box->busy, 0);
	for (unsigned i = 0; i < 1000 && s->win_open; i++)
		raw_turns(s, 1);
	assert_false(s->win_open);
	raw_pipe_close(&p);
	server_end(s);
}

static uint64_t rung(const struct raw_pipe *p)
{
	uint64_t n = 0;

	return read(p->bell, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

/* Who sleeps is rung for what it waits for, and once. */
static void test_pipe_bells(void **state)
{
	struct raw_server *s = server("pipe", false);
	const struct fabric_desc silent = {.key = 1}; /* a message that is not answered */
	struct raw_pipe p;

	assert_true(raw_pipe_open(&p, s, addr));
	raw_turns(s, 20);
	(void)rung(&p);
	raw_pipe_send(&p, &silent, sizeof(silent));
	raw_turns(s, 20);
	assert_int_equal(rung(&p), 0); /* awake */
	atomic_store(&p.its.box->asleep, PIPE_ASLEEP | PIPE_ASLEEP_ONE);
	raw_pipe_send(&p, &silent, sizeof(silent));
	raw_turns(s, 20);
	assert_int_equal(rung(&p), 0); /* does not wait for room */
	atomic_store(&p.its.box->asleep, PIPE_ASLEEP | PIPE_WANTS_ROOM | 2 * PIPE_ASLEEP_ONE);
	raw_pipe_send(&p, &silent, sizeof(silent));
	raw_turns(s, 20);
	assert_int_equal(rung(&p), 1);
	raw_pipe_send(&p, "answer", 6);
	raw_turns(s, 20);
	assert_int_equal(rung(&p), 0); /* it was rung for this sleep */
	atomic_store(&p.its.box->asleep, PIPE_ASLEEP | 3 * PIPE_ASLEEP_ONE);
	raw_pipe_send(&p, "answer", 6);
	raw_turns(s, 20);
	assert_int_equal(rung(&p), 1);
	assert_int_equal(s->downs, 0);
	raw_pipe_close(&p);
	server_end(s);
}

/* --- formats --- */

static void test_golden_tcp(void **state)
{
	static const uint8_t want[64] = {
	        1,    0,    0,    0,    32,   0,    0,    0,    0, 0, 0, 0, 0, 0,  0, 0,
	        0,    0,    0,    0,    0,    0,    0,    0,    0, 0, 0, 0, 0, 0,  0, 0,
	        0x50, 0x2d, 0x53, 0x54, 0x43, 0x50, 0x2d, 0x31, 1, 0, 0, 0, 0, 16, 0, 0,
	        8,    0,    0,    0,    4,    0,    0,    0,    0, 0, 0, 0, 0, 0,  0, 0,
	};
	static const uint8_t want_write[32] = {
	        4, 1, 2, 0, 0x78, 0x56, 0x34, 0x12, 8, 7, 6, 5, 4, 3, 2, 1,
	        9, 0, 0, 0, 0,    0,    0,    0,    5, 0, 1, 0, 0, 0, 0, 0,
	};
	struct {
		struct tcp_head head;
		struct tcp_hello hello;
	} first;
	struct tcp_head write = {.type = TCP_WRITE,
	                         .flags = TCP_LAST,
	                         .credits = le16_make(2),
	                         .len = le32_make(0x12345678),
	                         .key = le64_make(0x0102030405060708),
	                         .off = le64_make(9),
	                         .id = le32_make(0x10005)};

	raw_tcp_hello(&first.head, &first.hello);
	assert_memory_equal(&first, want, sizeof(want));
	assert_memory_equal(&write, want_write, sizeof(want_write));
}

static void test_golden_pipe(void **state)
{
	static const uint8_t want[64] = {
	        0x50, 0x53, 0x2d, 0x50, 0x49, 0x50, 0x45, 0x31, 1, 0,  1, 0, 0, 0, 0, 0,
	        0,    0,    0,    0,    0,    0,    0,    0,    0, 16, 0, 0, 8, 0, 0, 0,
	        16,   0,    0,    0,    32,   0,    0,    0,    0, 0,  2, 0, 0, 0, 1, 0,
	};
	struct raw_server *s = server("pipe", false);
	struct raw_pipe p = {.fd = -1, .its_bell = -1};
	struct pipe_frame f;

	raw_pipe_hello(&p, &f);
	assert_memory_equal(&f, want, sizeof(want));
	raw_pipe_close(&p);
	assert_true(raw_pipe_open(&p, s, addr));
	raw_pipe_send(&p, "hello, world", 12);
	assert_memory_equal(p.its.ring, "\x0c\0\0\0\0\0\0\0hello, world", 20);
	raw_turns(s, 20);
	/* Its echo, the room, and what it says of its sleep. */
	assert_memory_equal(p.mine.ring, "\x0c\0\0\0\0\0\0\0hello, world", 20);
	assert_int_equal(atomic_load(&p.mine.box->tail), 24);
	assert_int_equal(atomic_load(&p.mine.box->done), 1ull << 32 | 24);
	assert_true(atomic_load(&p.mine.box->asleep) & PIPE_ASLEEP);
	assert_int_equal(offsetof(struct pipe_inbox, tail), 0);
	assert_int_equal(offsetof(struct pipe_inbox, done), 64);
	assert_int_equal(offsetof(struct pipe_inbox, asleep), 128);
	assert_int_equal(offsetof(struct pipe_inbox, busy), 192);
	assert_int_equal(offsetof(struct pipe_inbox, slot), 256);
	raw_pipe_close(&p);
	server_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_tcp_later_client), cmocka_unit_test(test_pipe_later_client),
	        cmocka_unit_test(test_tcp_first_words),  cmocka_unit_test(test_tcp_crowd),
	        cmocka_unit_test(test_tcp_frames),       cmocka_unit_test(test_tcp_no_such_window),
	        cmocka_unit_test(test_tcp_never_reads),  cmocka_unit_test(test_tcp_wrong_data),
	        cmocka_unit_test(test_pipe_first_words), cmocka_unit_test(test_pipe_ring),
	        cmocka_unit_test(test_pipe_windows),     cmocka_unit_test(test_pipe_busy),
	        cmocka_unit_test(test_pipe_bells),       cmocka_unit_test(test_golden_tcp),
	        cmocka_unit_test(test_golden_pipe),      cmocka_unit_test(test_log_is_limited),
	        cmocka_unit_test(test_pipe_crowd),       cmocka_unit_test(test_lets_go_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
