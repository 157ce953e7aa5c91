/* SPDX-License-Identifier: BSD-3-Clause */
/* The contract suite's third part: writes of memory that is lent for the call only, and room for them. */
#include "fabric_contract.h"

static const uint64_t lent_lens[] = {1, 4096, 262144, 262145, 1 << 20, 3000001, 5, 700000};

static void lent_look(struct side *s, const void *data, uint32_t len)
{
	uint64_t i, at = 0;

	assert_int_equal(len, 8);
	memcpy(&i, data, 8);
	for (uint64_t k = 0; k < i; k++)
		at += lent_lens[k];
	assert_true(filled(mem_at(s->f->mem[1], 64 * KIB + at), lent_lens[i], i));
	s->got++;
}

/* Memory that is lent for the call only is somebody else's right after it; of a write that is ahead a
 * message brings the news. */
static void test_lent_memory(void **state)
{
	struct fix *f = *state;
	uint8_t *lent = malloc(4 * MIB);
	struct txfer t[ARRAY_LEN(lent_lens)];
	struct twindow w;
	uint64_t at = 0, said = 0;

	fix_pair(f);
	if (!(f->a.c->traits & FABRIC_LENT)) {
		free(lent);
		return;
	}
	open_one(f, &w, 6 * MIB, RW);
	f->b.on_msg = lent_look;
	for (uint64_t i = 0; i < ARRAY_LEN(lent_lens); i++) { /* faster than they leave */
		struct iovec iov = {&i, 8};

		txfer_make(&t[i], f->mem[0], at, lent_lens[i], &w.w.desc, at);
		t[i].x.keep = t[i].iov[0].iov_base;
		t[i].x.region = NULL;
		t[i].iov[0].iov_base = lent;
		fill(lent, lent_lens[i], i);
		txfer_must(f, &t[i], true);
		memset(lent, 0xdd, lent_lens[i]);
		at += lent_lens[i];
		if (!t[i].x.ahead && !(f->a.c->traits & FABRIC_WRITE_THEN_MSG))
			continue;
		assert_int_equal(chan_send(f->a.c, &iov, 1), 0);
		said++;
	}
	at = 0;
	for (uint64_t i = 0; i < ARRAY_LEN(lent_lens); i++) {
		assert_int_equal(txfer_wait(f, &t[i]), 0);
		assert_true(filled(mem_at(f->mem[1], 64 * KIB + at), lent_lens[i], i));
		at += lent_lens[i];
	}
	WAIT(f, f->b.got == said);
	assert_true(said > 0);
	twindow_end(f, f->b.c, &w);
	free(lent);
}

#define CUT_BYTES (1 * MIB)
#define CUT_XFERS 64

/* The kernel takes some of it, and not to the end of a chunk: the rest follows, whole chunks too. */
static void test_lent_cut(void **state)
{
	struct fix *f = *state;
	struct txfer *t = calloc(CUT_XFERS, sizeof(*t));
	uint8_t *lent = malloc(CUT_BYTES), *keep;
	struct twindow w;

	fix_pair(f);
	open_one(f, &w, CUT_BYTES, RW);
	keep = mem_at(f->mem[0], 0);
	for (unsigned round = 0; f->a.c->traits & FABRIC_LENT && round < 8; round++) {
		uint64_t len = 1 + round * 37777;
		unsigned n = 0;

		fill(lent, CUT_BYTES, round);
		memset(keep, 0xcc, CUT_BYTES);
		do { /* until it is cut */
			txfer_make(&t[n], f->mem[0], 0, len, &w.w.desc, 0);
			t[n].x.keep = keep;
			t[n].x.region = NULL;
			t[n].iov[0].iov_base = lent;
			txfer_must(f, &t[n++], true);
			len = CUT_BYTES;
		} while (keep[CUT_BYTES - 1] == 0xcc && n < CUT_XFERS);
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(txfer_wait(f, &t[i]), 0);
		assert_true(filled(mem_at(f->mem[1], 64 * KIB), CUT_BYTES, round));
	}
	twindow_end(f, f->b.c, &w);
	free(lent);
	free(t);
}

#define ROOM_BYTES (64 * KIB)
#define ROOM_XFERS 1000

/* One that should leave at once, not copied to @keep. */
static void room_write(struct fix *f, struct txfer *t, const struct twindow *w, void *lent)
{
	txfer_make(t, f->mem[0], 0, ROOM_BYTES, &w->w.desc, 0);
	t->x.keep = t->iov[0].iov_base;
	t->x.region = NULL;
	t->iov[0].iov_base = lent;
	txfer_must(f, t, true);
}

static bool untouched(const struct fix *f)
{
	const uint8_t *keep = mem_at(f->mem[0], 0);

	for (unsigned i = 0; i < ROOM_BYTES; i++)
		if (keep[i] != 0xcc)
			return false;
	return true;
}

/* While there is room lent memory leaves as it is, also behind messages of the same turn; when there is none that is
 * told, and when there is again, too. */
static void test_room(void **state)
{
	struct fix *f = *state;
	struct txfer *t = calloc(ROOM_XFERS, sizeof(*t));
	uint8_t *lent = malloc(ROOM_BYTES);
	unsigned n = 0, readies;
	struct twindow w;

	f->opts.xfers_max = ROOM_XFERS;
	fix_pair(f);
	open_one(f, &w, ROOM_BYTES, RW);
	fill(lent, ROOM_BYTES, 1);
	memset(mem_at(f->mem[0], 0), 0xcc, ROOM_BYTES);
	assert_true(chan_room(f->a.c));
	if (f->a.c->traits & FABRIC_ROOM) {
		readies = f->a.readies;
		assert_int_equal(side_send(&f->a, 99), 0);
		do { /* nobody reads meanwhile */
			assert_true(n < ROOM_XFERS);
			room_write(f, &t[n++], &w, lent);
			assert_true(untouched(f));
		} while (chan_room(f->a.c));
		assert_int_equal(f->a.readies, readies);
		WAIT(f, f->a.readies > readies);
		assert_true(chan_room(f->a.c));
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(txfer_wait(f, &t[i]), 0);
		assert_true(filled(mem_at(f->mem[1], 64 * KIB), ROOM_BYTES, 1));
		WAIT(f, f->b.got == f->a.sent);
	}
	twindow_end(f, f->b.c, &w);
	free(lent);
	free(t);
}

/* One that is down has nothing to wait for. */
static void test_room_down(void **state)
{
	struct fix *f = *state;

	fix_pair(f);
	side_close(&f->b);
	WAIT(f, f->a.downs);
	assert_true(chan_room(f->a.c));
}

const struct fabric_contract_test fabric_contract_lent[] = {
        {"lent_memory", test_lent_memory},
        {"lent_cut", test_lent_cut},
        {"room", test_room},
        {"room_down", test_room_down},
};
const size_t fabric_contract_lent_count = ARRAY_LEN(fabric_contract_lent);
