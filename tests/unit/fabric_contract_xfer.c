/* SPDX-License-Identifier: BSD-3-Clause */
/* The contract suite's second part: windows and one-sided transfers. */
#include "fabric_contract.h"

void fill(void *buf, size_t len, uint64_t tag)
{
	uint8_t *p = buf;
	size_t i = 0;

	for (; i + 8 <= len; i += 8) {
		uint64_t v = hash_u64(tag * 0x10001 + i / 8 + 1);

		memcpy(p + i, &v, 8);
	}
	for (; i < len; i++)
		p[i] = (uint8_t)hash_u64(tag + i);
}

bool filled(const void *buf, size_t len, uint64_t tag)
{
	uint8_t *want = malloc(len + 1);
	bool same;

	fill(want, len, tag);
	same = memcmp(want, buf, len) == 0;
	free(want);
	return same;
}

/* --- transfers and windows that note their ends --- */

static void txfer_done(struct chan_xfer *x, int status)
{
	struct txfer *t = container_of(x, struct txfer, x);

	t->done++;
	t->status = status;
}

void txfer_make(struct txfer *t, struct mem_region *r, uint64_t at, uint64_t len,
                const struct fabric_desc *d, uint64_t off)
{
	*t = (struct txfer){.status = 1};
	t->iov[0] = (struct iovec){mem_at(r, at), len};
	t->x = (struct chan_xfer){.done = txfer_done,
	                          .iov = t->iov,
	                          .iov_count = 1,
	                          .region = r,
	                          .desc = *d,
	                          .off = off,
	                          .len = len};
}

static int txfer_start(struct chan *c, struct txfer *t, bool write)
{
	int rc = write ? chan_write(c, &t->x) : chan_read(c, &t->x);

	assert_int_equal(t->done, 0);
	return rc;
}

void txfer_must(struct fix *f, struct txfer *t, bool write)
{
	int rc = 1;

	while ((rc = txfer_start(f->a.c, t, write)) == -EAGAIN) {
		unsigned readies = f->a.readies;

		WAIT(f, f->a.readies > readies);
	}
	assert_int_equal(rc, 0);
}

int txfer_wait(struct fix *f, struct txfer *t)
{
	WAIT(f, t->done);
	assert_int_equal(t->done, 1);
	return t->status;
}

static void twindow_closed(struct chan_window *w)
{
	container_of(w, struct twindow, w)->closed++;
}

void twindow_make(struct twindow *w, struct mem_region *r, uint64_t at, uint64_t len,
                  uint32_t rights)
{
	*w = (struct twindow){.closed = 0};
	w->iov[0] = (struct iovec){mem_at(r, at), len};
	w->w = (struct chan_window){.iov = w->iov,
	                            .iov_count = 1,
	                            .rights = rights,
	                            .region = r,
	                            .closed = twindow_closed};
}

void twindow_end(struct fix *f, struct chan *c, struct twindow *w)
{
	assert_int_equal(w->closed, 0);
	chan_window_close(c, &w->w);
	WAIT(f, w->closed);
	assert_int_equal(w->closed, 1);
}

/* Opens a window at f->b (or where @s is), -EAGAIN waited out: a region may have to be shown first. */
static int open_wait(struct fix *f, struct side *s, struct twindow *w)
{
	int rc;

	while ((rc = chan_window_open(s->c, &w->w)) == -EAGAIN) {
		unsigned readies = s->readies;

		WAIT(f, s->readies > readies);
	}
	return rc;
}

void open_one(struct fix *f, struct twindow *w, uint64_t len, uint32_t rights)
{
	twindow_make(w, f->mem[1], 64 * KIB, len, rights);
	assert_int_equal(open_wait(f, &f->b, w), 0);
	assert_int_equal(w->w.desc.len, len);
}

/* --- the tests --- */

static void test_write_and_read(void **state)
{
	struct fix *f = *state;
	const uint64_t lens[] = {1, 7, 8, 511, 4096, 4097, 65536, 1000003};
	struct twindow w;
	struct txfer t;

	fix_pair(f);
	open_one(f, &w, 2 * MIB, RW);
	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		uint64_t off = i * 31;

		memset(mem_at(f->mem[1], 64 * KIB), 0x11, 2 * MIB);
		fill(mem_at(f->mem[0], 5), lens[i], i);
		txfer_make(&t, f->mem[0], 5, lens[i], &w.w.desc, off);
		txfer_must(f, &t, true);
		assert_int_equal(txfer_wait(f, &t), 0);
		assert_true(filled(mem_at(f->mem[1], 64 * KIB + off), lens[i], i));
		assert_int_equal(*mem_at(f->mem[1], 64 * KIB + off + lens[i]), 0x11);
		if (off)
			assert_int_equal(*mem_at(f->mem[1], 64 * KIB + off - 1), 0x11);

		memset(mem_at(f->mem[0], 0), 0x22, 2 * MIB);
		txfer_make(&t, f->mem[0], 9, lens[i], &w.w.desc, off);
		txfer_must(f, &t, false);
		assert_int_equal(txfer_wait(f, &t), 0);
		assert_true(filled(mem_at(f->mem[0], 9), lens[i], i));
		assert_int_equal(*mem_at(f->mem[0], 8), 0x22);
		assert_int_equal(*mem_at(f->mem[0], 9 + lens[i]), 0x22);
	}
	twindow_end(f, f->b.c, &w);
}

/* Lists on both sides whose entries end nowhere near each other. */
static void test_many_pieces(void **state)
{
	struct fix *f = *state;
	struct twindow w;
	struct txfer t;
	uint8_t *flat = malloc(64 * 1000);
	uint64_t at = 0;

	fix_pair(f);
	twindow_make(&w, f->mem[1], 0, 0, RW);
	w.w.iov_count = 60;
	for (unsigned i = 0; i < 60; i++)
		w.iov[i] = (struct iovec){mem_at(f->mem[1], i * 2000), i == 7 ? 0 : 900 + i};
	assert_int_equal(open_wait(f, &f->b, &w), 0);
	txfer_make(&t, f->mem[0], 0, 0, &w.w.desc, 17);
	t.x.iov_count = 64;
	for (unsigned i = 0; i < 64; i++) {
		t.iov[i] =
		        (struct iovec){mem_at(f->mem[0], 100 + i * 3000), i % 9 ? 500 + 7 * i : 0};
		t.x.len += t.iov[i].iov_len;
	}
	for (unsigned i = 0; i < 64; i++)
		fill(t.iov[i].iov_base, t.iov[i].iov_len, i);
	txfer_must(f, &t, true);
	assert_int_equal(txfer_wait(f, &t), 0);
	for (unsigned i = 0; i < 60; i++) {
		memcpy(flat + at, w.iov[i].iov_base, w.iov[i].iov_len);
		at += w.iov[i].iov_len;
	}
	for (unsigned i = 0, off = 17; i < 64; off += t.iov[i].iov_len, i++)
		assert_true(filled(flat + off, t.iov[i].iov_len, i));
	/* And back. */
	memset(mem_at(f->mem[0], 0), 0, FIX_MEM_BYTES);
	t.done = 0;
	txfer_must(f, &t, false);
	assert_int_equal(txfer_wait(f, &t), 0);
	for (unsigned i = 0; i < 64; i++)
		assert_true(filled(t.iov[i].iov_base, t.iov[i].iov_len, i));
	free(flat);
	twindow_end(f, f->b.c, &w);
}

static void test_big(void **state)
{
	struct fix *f = *state;
	const uint64_t len = FIX_MEM_BYTES - 64 * KIB;
	struct twindow w;
	struct txfer t;

	fix_pair(f);
	open_one(f, &w, len, RW);
	fill(mem_at(f->mem[0], 0), len, 3);
	txfer_make(&t, f->mem[0], 0, len, &w.w.desc, 0);
	txfer_must(f, &t, true);
	assert_int_equal(txfer_wait(f, &t), 0);
	assert_true(filled(mem_at(f->mem[1], 64 * KIB), len, 3));
	memset(mem_at(f->mem[0], 0), 0, len);
	txfer_make(&t, f->mem[0], 0, len, &w.w.desc, 0);
	txfer_must(f, &t, false);
	assert_int_equal(txfer_wait(f, &t), 0);
	assert_true(filled(mem_at(f->mem[0], 0), len, 3));
	twindow_end(f, f->b.c, &w);
}

/* Both directions, as many as can be, with messages between them. */
static void test_many_at_once(void **state)
{
	struct fix *f = *state;
	enum { MANY = 200, EACH = 10000 };
	struct txfer *t = calloc(MANY, sizeof(*t));
	struct twindow w;

	f->opts.xfers_max = 16;
	fix_pair(f);
	assert_true(f->a.c->xfers_max <= 16);
	open_one(f, &w, MANY * EACH, RW);
	fill(mem_at(f->mem[0], 0), MANY * EACH, 1);
	for (unsigned i = 0; i < MANY; i++) {
		txfer_make(&t[i], f->mem[0], i * EACH, EACH, &w.w.desc, i * EACH);
		txfer_must(f, &t[i], true);
		if (i % 5 == 0)
			(void)side_send(&f->a, 99);
	}
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(txfer_wait(f, &t[i]), 0);
	assert_true(filled(mem_at(f->mem[1], 64 * KIB), MANY * EACH, 1));
	memset(mem_at(f->mem[0], 0), 0, MANY * EACH);
	for (unsigned i = 0; i < MANY; i++) {
		txfer_make(&t[i], f->mem[0], i * EACH, EACH, &w.w.desc, i * EACH);
		txfer_must(f, &t[i], false);
	}
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(txfer_wait(f, &t[i]), 0);
	assert_true(filled(mem_at(f->mem[0], 0), MANY * EACH, 1));
	WAIT(f, f->b.got == f->a.sent);
	twindow_end(f, f->b.c, &w);
	free(t);
}

static void look(struct side *s, const void *data, uint32_t len)
{
	uint64_t tag;

	assert_int_equal(len, 8);
	memcpy(&tag, data, 8);
	assert_true(filled(mem_at(s->f->mem[1], 64 * KIB), 30000, tag));
	s->got++;
}

/* What is declared is kept; what isn't is got by waiting. */
static void test_write_then_message(void **state)
{
	struct fix *f = *state;
	struct twindow w;
	struct txfer t;

	fix_pair(f);
	open_one(f, &w, 30000, RW);
	f->b.on_msg = look;
	for (uint64_t tag = 1; tag < 60; tag++) {
		struct iovec iov = {&tag, 8};

		fill(mem_at(f->mem[0], 0), 30000, tag);
		txfer_make(&t, f->mem[0], 0, 30000, &w.w.desc, 0);
		txfer_must(f, &t, true);
		if (!(f->a.c->traits & FABRIC_WRITE_THEN_MSG))
			assert_int_equal(txfer_wait(f, &t), 0);
		WAIT(f, chan_send(f->a.c, &iov, 1) == 0);
		WAIT(f, f->b.got == tag && t.done);
	}
	twindow_end(f, f->b.c, &w);
}

#define TURN_BYTES (2 * MIB)

struct turned {
	struct txfer first, second;
	unsigned ended;
};

static void first_done(struct chan_xfer *x, int status)
{
	struct turned *t = container_of(x, struct turned, first.x);
	const uint8_t *second = t->second.iov[0].iov_base;

	assert_int_equal(status, 0);
	assert_int_equal(t->ended++, 0);
	assert_int_equal(second[TURN_BYTES / 2], 0x33);
}

static void second_done(struct chan_xfer *x, int status)
{
	assert_int_equal(status, 0);
	container_of(x, struct turned, second.x)->ended++;
}

/* tcp: what is asked for first comes first, not half of all that was asked for. */
static void test_big_ones_in_turn(void **state)
{
	struct fix *f = *state;
	struct turned t = {.ended = 0};
	struct twindow w;

	fix_pair(f);
	if (strcmp(f->a.c->provider->name, "tcp") != 0)
		return;
	open_one(f, &w, TURN_BYTES, RW);
	fill(mem_at(f->mem[1], 64 * KIB), TURN_BYTES, 1);
	memset(mem_at(f->mem[0], 0), 0x33, 2 * TURN_BYTES);
	txfer_make(&t.first, f->mem[0], 0, TURN_BYTES, &w.w.desc, 0);
	txfer_make(&t.second, f->mem[0], TURN_BYTES, TURN_BYTES, &w.w.desc, 0);
	t.first.x.done = first_done;
	t.second.x.done = second_done;
	txfer_must(f, &t.first, false);
	txfer_must(f, &t.second, false);
	WAIT(f, t.ended == 2);
	assert_true(filled(mem_at(f->mem[0], 0), TURN_BYTES, 1));
	assert_true(filled(mem_at(f->mem[0], TURN_BYTES), TURN_BYTES, 1));
	twindow_end(f, f->b.c, &w);
}

static void test_bad_arguments(void **state)
{
	struct fix *f = *state;
	struct twindow w, w2;
	struct txfer t;
	char outside[100];

	fix_pair(f);
	open_one(f, &w, 1000, RW);
	txfer_make(&t, f->mem[0], 0, 1001, &w.w.desc, 0);
	assert_int_equal(txfer_start(f->a.c, &t, true), -ERANGE);
	txfer_make(&t, f->mem[0], 0, 10, &w.w.desc, 991);
	assert_int_equal(txfer_start(f->a.c, &t, false), -ERANGE);
	txfer_make(&t, f->mem[0], 0, 10, &w.w.desc, UINT64_MAX - 5);
	assert_int_equal(txfer_start(f->a.c, &t, false), -ERANGE);
	txfer_make(&t, f->mem[0], 0, 10, &w.w.desc, 0);
	t.x.len = 11;
	assert_int_equal(txfer_start(f->a.c, &t, true), -EINVAL);
	t.x.len = 10;
	t.iov[0].iov_base = (char *)f->mem[0]->addr + FIX_MEM_BYTES - 9;
	assert_int_equal(txfer_start(f->a.c, &t, true), -EINVAL);
	twindow_make(&w2, f->mem[1], FIX_MEM_BYTES - 10, 11, RW);
	assert_int_equal(chan_window_open(f->b.c, &w2.w), -EINVAL);
	twindow_make(&w2, f->mem[1], 0, 0, RW);
	assert_int_equal(chan_window_open(f->b.c, &w2.w), -EINVAL);
	/* Memory of no region */
	twindow_make(&w2, f->mem[1], 0, 100, RW);
	w2.iov[0].iov_base = outside;
	w2.w.region = NULL;
	if (f->a.c->traits & FABRIC_ANY_MEMORY) {
		fill(mem_at(f->mem[0], 0), 100, 8);
		assert_int_equal(open_wait(f, &f->b, &w2), 0);
		txfer_make(&t, f->mem[0], 0, 100, &w2.w.desc, 0);
		txfer_must(f, &t, true);
		assert_int_equal(txfer_wait(f, &t), 0);
		assert_true(filled(outside, 100, 8));
		twindow_end(f, f->b.c, &w2);
	} else {
		assert_int_equal(chan_window_open(f->b.c, &w2.w), -ENOTSUP);
	}
	settle(f);
	assert_int_equal(f->a.downs + f->b.downs, 0);
	twindow_end(f, f->b.c, &w);
}

/* The transfer fails, and the memory is as it was; the channel may have gone down. */
static void must_fail(struct fix *f, const struct fabric_desc *d, uint64_t off, uint64_t len,
                      bool write)
{
	struct txfer t;
	int rc;

	fill(mem_at(f->mem[1], 0), FIX_MEM_BYTES, 77);
	memset(mem_at(f->mem[0], 0), 0x55, len);
	txfer_make(&t, f->mem[0], 0, len, d, off);
	do {
		unsigned readies = f->a.readies;

		rc = txfer_start(f->a.c, &t, write);
		if (rc == -EAGAIN)
			WAIT(f, f->a.readies > readies);
	} while (rc == -EAGAIN);
	if (rc == 0)
		rc = txfer_wait(f, &t);
	assert_true(rc < 0);
	settle(f);
	assert_true(filled(mem_at(f->mem[1], 0), FIX_MEM_BYTES, 77));
	if (!write) {
		for (uint64_t i = 0; i < len; i++)
			assert_int_equal(*mem_at(f->mem[0], i), 0x55);
	}
	/* If it took the channel down, both ends say so, and there is another. */
	if (f->a.downs || f->b.downs) {
		WAIT(f, f->a.downs && f->b.downs);
		fix_drain(f);
		f->accepted = 0;
		memset(&f->b, 0, sizeof(f->b));
		fix_pair(f);
	}
}

static void test_rights(void **state)
{
	struct fix *f = *state;
	struct twindow w;

	fix_pair(f);
	open_one(f, &w, 5000, FABRIC_PEER_READS);
	must_fail(f, &w.w.desc, 0, 5000, true);
	if (!w.closed)
		twindow_end(f, f->b.c, &w);
	open_one(f, &w, 5000, FABRIC_PEER_WRITES);
	must_fail(f, &w.w.desc, 0, 5000, false);
	if (!w.closed)
		twindow_end(f, f->b.c, &w);
}

static void test_stale_descriptor(void **state)
{
	struct fix *f = *state;
	struct twindow w, other;
	struct fabric_desc old;

	for (unsigned i = 0; i < 4; i++) {
		if (!f->a.c)
			fix_pair(f);
		open_one(f, &w, 5000, RW);
		old = w.w.desc;
		twindow_end(f, f->b.c, &w);
		if (i & 1) /* the place is another's now */
			open_one(f, &other, 5000, RW);
		must_fail(f, &old, 0, 5000, i & 2);
		if ((i & 1) && !other.closed)
			twindow_end(f, f->b.c, &other);
	}
}

static void test_forged_descriptor(void **state)
{
	struct fix *f = *state;
	struct twindow w, dead;
	struct fabric_desc d;

	fix_pair(f);
	open_one(f, &w, 5000, RW);
	/* longer than it is */
	d = w.w.desc;
	d.len = 1 * MIB;
	must_fail(f, &d, 0, 5001, true);
	if (!w.closed)
		twindow_end(f, f->b.c, &w);
	for (unsigned i = 0; i < 12; i++) {
		open_one(f, &w, 5000, RW);
		/* A window of a region that the peer has seen, but closed. */
		twindow_make(&dead, f->mem[1], 1 * MIB, 4096, RW);
		if (open_wait(f, &f->b, &dead) == 0)
			twindow_end(f, f->b.c, &dead);
		d = w.w.desc;
		switch (i % 6) {
		case 0:
			d.key ^= 1ull << (5 * i);
			break;
		case 1:
			d.key = rng_next(&f->rng);
			break;
		case 2:
			d.key = i;
			break;
		case 3:
			d = (struct fabric_desc){.len = 5000};
			break;
		case 4:
			memset(&d, 0xff, sizeof(d));
			break;
		case 5:
			d = dead.w.desc;
			d.len = 5000;
			break;
		}
		must_fail(f, &d, 0, MIN(d.len, 5000), i & 1);
		if (!w.closed)
			twindow_end(f, f->b.c, &w);
	}
}

/* Another channel's window is no one else's. */
static void test_other_channels_window(void **state)
{
	struct fix *f = *state;
	struct side *s = &f->more[SIDES - 1]; /* so that fix_drain() knows it */
	struct twindow w;

	fix_pair(f);
	fix_connect(f, s);
	WAIT(f, s->ups && f->accepted == 2);
	twindow_make(&w, f->mem[1], 64 * KIB, 5000, RW);
	assert_int_equal(open_wait(f, &f->more[0], &w), 0);
	must_fail(f, &w.w.desc, 0, 5000, true);
	if (!w.closed)
		twindow_end(f, f->more[0].c, &w);
	side_close(s);
}

static void test_windows_max(void **state)
{
	struct fix *f = *state;
	struct twindow w[9];

	f->opts.windows_max = 8;
	fix_pair(f);
	for (unsigned i = 0; i < 8; i++)
		open_one(f, &w[i], 100, RW);
	twindow_make(&w[8], f->mem[1], 0, 100, RW);
	assert_int_equal(chan_window_open(f->b.c, &w[8].w), -EAGAIN);
	twindow_end(f, f->b.c, &w[3]);
	WAIT(f, f->b.readies);
	open_one(f, &w[3], 100, RW);
	for (unsigned i = 0; i < 8; i++)
		twindow_end(f, f->b.c, &w[i]);
}

/* A great number of windows, so that whatever names them goes round. */
static void test_windows_come_and_go(void **state)
{
	struct fix *f = *state;
	struct twindow w;
	struct txfer t;

	f->opts.windows_max = 4;
	fix_pair(f);
	for (unsigned i = 0; i < 3000; i++) {
		open_one(f, &w, 100, RW);
		if (i % 100 == 0) {
			fill(mem_at(f->mem[0], 0), 100, i);
			txfer_make(&t, f->mem[0], 0, 100, &w.w.desc, 0);
			txfer_must(f, &t, true);
			assert_int_equal(txfer_wait(f, &t), 0);
			assert_true(filled(mem_at(f->mem[1], 64 * KIB), 100, i));
		}
		twindow_end(f, f->b.c, &w);
	}
}

/* In rounds that connect anew each later turns are tried; with PST_ROUND_STEP=3 every third of them, where a
 * connection takes seconds. */
static unsigned round_step(void)
{
	const char *step = getenv("PST_ROUND_STEP");

	return step ? (unsigned)MAX(atoi(step), 1) : 1;
}

/* Nothing lands after closed(), whatever was under way. */
static void test_close_window_under_transfers(void **state)
{
	struct fix *f = *state;
	enum { MANY = 12, EACH = 100000 };

	for (unsigned round = 0; round < 24; round += round_step()) {
		struct txfer t[MANY];
		struct twindow w;
		bool write = round & 1;

		if (!f->a.c)
			fix_pair(f);
		open_one(f, &w, MANY * EACH, RW);
		for (unsigned i = 0; i < MANY; i++) {
			txfer_make(&t[i], f->mem[0], i * EACH, EACH, &w.w.desc, i * EACH);
			txfer_must(f, &t[i], write);
		}
		for (unsigned i = 0; i < round / 2; i++)
			assert_true(loop_turn(f->loop, 10 * NSEC_PER_USEC) >= 0);
		twindow_end(f, f->b.c, &w);
		/* The memory is someone else's now. */
		fill(mem_at(f->mem[1], 0), 2 * MIB, round);
		for (unsigned i = 0; i < MANY; i++)
			(void)txfer_wait(f, &t[i]);
		settle(f);
		assert_true(filled(mem_at(f->mem[1], 0), 2 * MIB, round));
		fix_drain(f);
		f->accepted = 0;
		memset(&f->b, 0, sizeof(f->b));
	}
}

/* chan_close() ends transfers and windows, and after that nothing touches their memory. */
static void test_close_under_transfers(void **state)
{
	struct fix *f = *state;
	enum { MANY = 8, EACH = 100000 };

	for (unsigned round = 0; round < 32; round += round_step()) {
		struct txfer t[MANY];
		struct twindow w, mine;
		bool write = round & 1, near = round & 2;

		fix_pair(f);
		open_one(f, &w, MANY * EACH, RW);
		twindow_make(&mine, f->mem[0], 4 * MIB, 1000, RW);
		assert_int_equal(open_wait(f, &f->a, &mine), 0);
		for (unsigned i = 0; i < MANY; i++) {
			txfer_make(&t[i], f->mem[0], i * EACH, EACH, &w.w.desc, i * EACH);
			txfer_must(f, &t[i], write);
		}
		for (unsigned i = 0; i < round / 4; i++)
			assert_true(loop_turn(f->loop, 10 * NSEC_PER_USEC) >= 0);
		side_close(near ? &f->a : &f->b);
		for (unsigned i = 0; i < MANY; i++)
			(void)txfer_wait(f, &t[i]);
		if (near)
			WAIT(f, mine.closed);
		else
			WAIT(f, w.closed);
		/* What ended is the owner's again. */
		if (near)
			fill(mem_at(f->mem[0], 0), 5 * MIB, round);
		else
			fill(mem_at(f->mem[1], 0), 2 * MIB, round);
		WAIT(f, near ? f->b.downs : f->a.downs);
		settle(f);
		assert_true(near ? filled(mem_at(f->mem[0], 0), 5 * MIB, round)
		                 : filled(mem_at(f->mem[1], 0), 2 * MIB, round));
		/* A channel that is down still closes windows. */
		if (near)
			twindow_end(f, f->b.c, &w);
		else
			twindow_end(f, f->a.c, &mine);
		fix_drain(f);
		assert_int_equal(mine.closed + w.closed, 2);
		f->accepted = 0;
		memset(&f->b, 0, sizeof(f->b));
	}
}

static void test_dies_under_transfers(void **state)
{
	struct fix *f = *state;
	enum { MANY = 8, EACH = 100000 };
	struct txfer t[MANY];
	struct twindow w;

	if (!f->c->die)
		skip();
	f->opts.dead_ns = 200 * NSEC_PER_MSEC;
	fix_pair(f);
	open_one(f, &w, MANY * EACH, RW);
	for (unsigned i = 0; i < MANY; i++) {
		txfer_make(&t[i], f->mem[0], i * EACH, EACH, &w.w.desc, i * EACH);
		txfer_must(f, &t[i], i & 1);
	}
	f->c->die(f->c, f->b.c);
	for (unsigned i = 0; i < MANY; i++)
		(void)txfer_wait(f, &t[i]);
	WAIT(f, f->a.downs);
	assert_true(txfer_start(f->a.c, memset(&t[0].done, 0, sizeof(t[0].done)) ? &t[0] : NULL,
	                        true) < 0);
}

/* Regions come and go: what a peer remembers of one must not be taken for another. */
static void test_regions_come_and_go(void **state)
{
	struct fix *f = *state;
	struct mem_region *r;
	struct twindow w;
	struct txfer t;

	fix_pair(f);
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(mem_region_new(&r, MEM_SHARED, 64 * KIB), 0);
		twindow_make(&w, r, 100, 5000, RW);
		assert_int_equal(open_wait(f, &f->b, &w), 0);
		fill(mem_at(f->mem[0], 0), 5000, i);
		txfer_make(&t, f->mem[0], 0, 5000, &w.w.desc, 0);
		txfer_must(f, &t, true);
		assert_int_equal(txfer_wait(f, &t), 0);
		assert_true(filled(mem_at(r, 100), 5000, i));
		twindow_end(f, f->b.c, &w);
		mem_region_free(r);
	}
	assert_int_equal(f->a.downs, 0);
}

const struct fabric_contract_test fabric_contract_xfer[] = {
#define T(name)                    \
	{                          \
#name, test_##name \
	}
        T(write_and_read),
        T(many_pieces),
        T(big),
        T(many_at_once),
        T(write_then_message),
        T(big_ones_in_turn),
        T(bad_arguments),
        T(rights),
        T(stale_descriptor),
        T(forged_descriptor),
        T(other_channels_window),
        T(windows_max),
        T(windows_come_and_go),
        T(close_window_under_transfers),
        T(close_under_transfers),
        T(dies_under_transfers),
        T(regions_come_and_go),
#undef T
};
const size_t fabric_contract_xfer_count = ARRAY_LEN(fabric_contract_xfer);
