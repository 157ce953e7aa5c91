/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the local engine is given that is bad: devices that are none of its own, media on which bits
 * have flipped, ops beyond the limits. Each is refused with a clear error, and nothing is lost.
 */
#include "eng_util.h"

/* --- devices --- */

static void expect_open(struct eng *e, int want, const char *part)
{
	int r = eng_try_open(e);

	if (r != want || !strstr(e->err.text, part))
		fail_msg("%d, \"%s\"; not %d and \"%s\"", r, e->err.text, want, part);
}

static void patch_supers(struct eng *e, void (*patch)(struct media_super *s))
{
	uint64_t at[] = {0, 8, e->dev_bytes / BB - 1};
	static struct media_super s;

	for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
		eng_peek(e, 0, at[i], &s, 1);
		patch(&s);
		super_seal(&s);
		eng_poke(e, 0, at[i], &s, 1);
	}
}

static void newer_version(struct media_super *s)
{
	s->version = le32_make(MEDIA_VERSION + 1);
}

static void same_version(struct media_super *s)
{
	s->version = le32_make(MEDIA_VERSION);
}

static void unknown_incompat(struct media_super *s)
{
	s->feat_incompat = le64_make(1ull << 40);
}

static void unknown_ro(struct media_super *s)
{
	s->feat_incompat = 0;
	s->feat_ro = le64_make(1ull << 40);
}

static void no_features(struct media_super *s)
{
	s->feat_ro = 0;
}

static void not_a_store(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB};
	static uint8_t zero[64 * BB];

	eng_start(&e);
	assert_int_equal(eng_close(&e), 0);
	patch_supers(&e, newer_version);
	expect_open(&e, -EPROTONOSUPPORT, "version 2");
	patch_supers(&e, same_version);
	patch_supers(&e, unknown_incompat);
	expect_open(&e, -EPROTONOSUPPORT, "features");
	patch_supers(&e, unknown_ro);
	expect_open(&e, -EPROTONOSUPPORT, "read");
	e.opts.read_only = true;
	eng_open(&e);
	eng_drop(&e);
	e.opts.read_only = false;
	patch_supers(&e, no_features);
	eng_reopen((eng_open(&e), &e));
	assert_int_equal(eng_close(&e), 0);
	/* One copy after another is damaged: the last one will do. */
	eng_flip(&e, 0, 0, 800);
	eng_open(&e);
	assert_int_equal(eng_close(&e), 0);
	eng_flip(&e, 0, 8, 900);
	eng_open(&e);
	assert_int_equal(eng_close(&e), 0);
	eng_flip(&e, 0, e.dev_bytes / BB - 1, 1000);
	expect_open(&e, -EBADMSG, "superblock");
	for (uint64_t b = 0; b < e.dev_bytes / BB; b += 64)
		eng_poke(&e, 0, b, zero, 64);
	expect_open(&e, -ENODATA, "no Penstock store");
	eng_end(&e);
}

static void devices_missing_or_mixed(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB, .devs = 2};
	static uint8_t copy[8 * MIB];
	struct bdev *swap[2], *other = NULL;
	struct store *s = NULL;
	struct pst_err err;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", NULL), 0);
	assert_int_equal(eng_close(&e), 0);
	e.devs = 1;
	expect_open(&e, -ENXIO, "2 devices");
	e.devs = 2;
	eng_open_devs(&e);
	/* In any order. */
	swap[0] = e.dev[1];
	swap[1] = e.dev[0];
	assert_int_equal(local_open(&s, e.loop, swap, 2, NULL, &err), 0);
	local_crash(s);
	/* A device of another store. */
	assert_int_equal(bdev_open(&other, "mem:8m", e.loop, NULL, &err), 0);
	assert_int_equal(local_format(&other, 1, NULL, &err), 0);
	swap[1] = other;
	assert_int_equal(local_open(&s, e.loop, swap, 2, NULL, &err), -ENXIO);
	assert_non_null(strstr(err.text, "another store"));
	/* A copy of the one that is there. */
	assert_int_equal(bdev_read_sync(swap[0], 0, copy, sizeof(copy)), 0);
	assert_int_equal(bdev_write_sync(other, 0, copy, sizeof(copy), 0), 0);
	assert_int_equal(local_open(&s, e.loop, swap, 2, NULL, &err), -ENXIO);
	assert_non_null(strstr(err.text, "same device"));
	bdev_close(other);
	eng_close_devs(&e);
	eng_open(&e);
	assert_int_equal(ops_cont_open(e.store, "a", NULL), 0);
	eng_end(&e);
}

/* --- superblocks that somebody made by hand --- */

/* Gives device @dev of the closed store another number of devices and index. */
static void forge(struct eng *e, unsigned dev, uint32_t count, uint32_t index)
{
	struct media_super *s = malloc(BB);
	uint64_t blocks = e->dev_bytes / BB;

	assert_non_null(s);
	eng_peek(e, dev, super_place(0, blocks), s, 1);
	s->dev_count = le32_make(count);
	s->dev_index = le32_make(index);
	super_seal(s);
	for (unsigned i = 0; i < SUPER_COPIES; i++)
		eng_poke(e, dev, super_place(i, blocks), s, 1);
	free(s);
}

/* Their checksums match, and what they say of the devices does not: refused, and no harm done. */
static void forged_device_numbers(void **state)
{
	static const struct {
		uint32_t count[2], index[2];
	} t[] = {
	        {{0, 0}, {0, 1}},  {{17, 17}, {0, 1}},      {{UINT32_MAX, UINT32_MAX}, {0, 1}},
	        {{1, 1}, {0, 0}},  {{1, 2}, {0, 1}},        {{2, 1}, {0, 0}},
	        {{3, 3}, {0, 1}},  {{3, 3}, {0, 2}},        {{16, 16}, {15, 14}},
	        {{2, 2}, {0, 0}},  {{2, 2}, {1, 1}},        {{2, 2}, {0, 2}},
	        {{2, 2}, {16, 1}}, {{2, 2}, {0, 1u << 31}}, {{2, 2}, {UINT32_MAX, 0}},
	};
	struct eng e = {.dev_bytes = 8 * MIB, .devs = 2};
	struct local_fsck_opts fo = {0};
	struct local_fsck_report rep;
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(eng_close(&e), 0);
	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		int r;

		for (unsigned d = 0; d < 2; d++)
			forge(&e, d, t[i].count[d], t[i].index[d]);
		r = eng_try_open(&e);
		if (r != -EBADMSG && r != -ENXIO)
			fail_msg("case %u: %d", i, r);
		assert_true(e.err.text[0]);
		eng_open_devs(&e);
		r = local_fsck(e.loop, e.dev, 2, &fo, &rep, &e.err);
		assert_true(r == -EBADMSG || r == -ENXIO);
		eng_close_devs(&e);
	}
	for (unsigned d = 0; d < 2; d++) /* in whatever order they are given */
		forge(&e, d, 2, d);
	eng_open(&e);
	assert_int_equal(ops_cont_open(e.store, "a", &c), 0);
	eng_end(&e);
}

/* --- bits that flip --- */

#define LEN (40 * BB)

struct found {
	struct pst_scrub_report rep;
	unsigned count;
	uint64_t off[16];
	int status;
};

static void found_bad(struct pst_scrub_report *rep, uint32_t cont, struct pst_oid oid, uint64_t off,
                      int status)
{
	struct found *f = container_of(rep, struct found, rep);

	assert_true(f->count < 16);
	f->status = status;
	f->off[f->count++] = off;
}

static unsigned scrub(struct eng *e, struct found *f, uint64_t rate)
{
	struct pst_op op = {.opcode = PST_OP_SCRUB, .scrub = &f->rep};

	memset(f, 0, sizeof(*f));
	f->rep.bad = found_bad;
	f->rep.rate_bytes_per_s = rate;
	assert_int_equal(ops_run(e->store, &op), 0);
	assert_int_equal(f->rep.errors, f->count);
	return f->count;
}

/* Flips a bit of block @lblk of object 1 as @view sees it, by its address. */
static uint64_t addr_of_block(struct eng *e, uint32_t c, uint64_t view, uint64_t lblk)
{
	struct pst_op op = {.cont = c, .view = view};
	const struct btree *t;
	struct shard *home;
	struct extent x;
	struct head h;

	assert_int_equal(cont_view(eng_local(e), &op, &home, &t), 0);
	head_get(t, oid_of(1), &h);
	assert_true(extent_find(t, oid_of(1), &h, lblk, &x));
	return x.addr + (lblk - x.lblk);
}

static void flip_in_data(void **state)
{
	struct eng e = {.dev_bytes = 16 * MIB};
	uint64_t live, snap, view, data_start, n;
	static uint8_t buf[LEN], val[20000];
	struct pst_op rd = {.opcode = PST_OP_READ, .oid = oid_of(1), .len = LEN};
	struct iovec iov = {buf, LEN};
	struct found f;
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, LEN, 1), 0);
	eng_fill(val, sizeof(val), 2);
	assert_int_equal(ops_kv_put(e.store, c, oid_of(2), "k", val, sizeof(val)), 0);
	assert_int_equal(ops_snap_create(e.store, "a", "s", &view), 0);
	assert_int_equal(eng_put(&e, c, oid_of(1), 20 * BB, BB, 3), 0);
	eng_checkpoint(&e);
	live = addr_of_block(&e, c, 0, 20);
	snap = addr_of_block(&e, c, view, 20);
	assert_int_not_equal(live, snap);
	data_start = eng_local(&e)->geo.data_start;
	assert_int_equal(scrub(&e, &f, 0), 0);
	n = f.rep.done_bytes;
	assert_true(n >= 2 * LEN + sizeof(val));
	/* The rate holds. */
	uint64_t before = loop_now(e.loop);

	assert_int_equal(scrub(&e, &f, MIB), 0);
	assert_in_range(loop_now(e.loop) - before, n * NSEC_PER_SEC / MIB / 2,
	                n * NSEC_PER_SEC / MIB * 2 + NSEC_PER_SEC / 10);
	assert_int_equal(eng_close(&e), 0);

	eng_flip(&e, 0, data_start + live, 12345);
	eng_open(&e);
	rd.cont = c;
	rd.iov = &iov;
	rd.iov_count = 1;
	assert_int_equal(ops_run(e.store, &rd), -EIO);
	assert_int_equal(rd.ret_off, 20 * BB);
	assert_true(eng_logged("container a object 00000000000000000000000000000001 byte 81920"));
	rd.off = rd.ret_off = 0;
	rd.view = view; /* the snapshot's block is another one */
	assert_int_equal(ops_run(e.store, &rd), 0);
	/* Part of the block can't be changed, all of it can. */
	assert_int_equal(eng_put(&e, c, oid_of(1), 20 * BB + 5, 10, 4), -EIO);
	assert_int_equal(scrub(&e, &f, 0), 1);
	assert_int_equal(f.off[0], 20 * BB);
	assert_int_equal(eng_put(&e, c, oid_of(1), 20 * BB, BB, 5), 0);
	assert_int_equal(eng_expect(&e, c, 0, oid_of(1), 20 * BB, BB, 5), 0);
	assert_int_equal(scrub(&e, &f, 0), 0);
	assert_int_equal(eng_close(&e), 0);

	eng_flip(&e, 0, data_start + snap, 4);
	eng_open(&e);
	assert_int_equal(eng_expect(&e, c, view, oid_of(1), 0, LEN, 1), -EIO);
	assert_int_equal(eng_expect(&e, c, 0, oid_of(1), 20 * BB, BB, 5), 0);
	assert_int_equal(scrub(&e, &f, 0), 1);
	eng_end(&e);
}

/* A scrub says of each block that it is bad, also of neighbours, and of any failure. */
static void scrub_finds_each_block(void **state)
{
	static const uint64_t bad[] = {3, 4, 17, 39};
	struct eng e = {.dev_bytes = 16 * MIB};
	uint64_t data_start, addr;
	struct found f;
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, LEN, 1), 0);
	assert_int_equal(eng_put(&e, c, oid_of(2), 0, 100, 2), 0);
	data_start = eng_local(&e)->geo.data_start;
	addr = addr_of_block(&e, c, 0, 0);
	assert_int_equal(eng_close(&e), 0);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		eng_flip(&e, 0, data_start + addr + bad[i], 99);
	eng_open(&e);
	assert_int_equal(scrub(&e, &f, 0), ARRAY_LEN(bad));
	assert_int_equal(f.status, -EIO);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(f.off[i], bad[i] * BB);
		assert_int_equal(eng_put(&e, c, oid_of(1), bad[i] * BB, BB, 1), 0);
	}
	assert_int_equal(scrub(&e, &f, 0), 0);
	eng_reopen(&e);
	/* One that passes does no harm; one of another kind is told too. */
	eng_fail_at(&e, 1 << BDEV_READ, 1, -EIO);
	assert_int_equal(scrub(&e, &f, 0), 0);
	assert_true(f.rep.done_bytes >= LEN + 100);
	for (uint64_t n = 3; n < 12; n++) { /* of its own it has two */
		eng_reopen(&e);
		(void)mem_alloc_fail_at(n, false);
		assert_int_equal(scrub(&e, &f, 0), 0);
		(void)mem_alloc_fail_at(0, false);
		assert_true(f.rep.done_bytes >= LEN + 100);
	}
	eng_reopen(&e);
	assert_int_equal(ops_batch(e.store, c,
	                           (struct pst_mut[]){MUT_OFF(PST_OBJ_DELETE, oid_of(1), 0, 0)}, 1),
	                 0);
	eng_fail_at(&e, 1 << BDEV_READ, 2, -ETIMEDOUT); /* after its checksums */
	assert_int_equal(scrub(&e, &f, 0), 1);
	assert_int_equal(f.status, -ETIMEDOUT);
	eng_end(&e);
}

static void flip_in_a_large_value(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB};
	static uint8_t val[20000];
	uint64_t data_start, n;
	struct found f;
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(ops_kv_put(e.store, c, oid_of(2), "k", val, sizeof(val)), 0);
	data_start = eng_local(&e)->geo.data_start;
	assert_int_equal(eng_close(&e), 0);
	eng_flip(&e, 0, data_start + 1, 77); /* the first data block there is */
	eng_open(&e);
	assert_int_equal(ops_kv_get(e.store, c, 0, oid_of(2), "k", val, sizeof(val), &n), -EIO);
	assert_int_equal(scrub(&e, &f, 0), 1);
	eng_end(&e);
}

/* A scrub that finds the store as busy as it may be comes back to what it wanted to read. */
static void scrub_of_a_busy_store(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB, .opts = {.ops_max = 2}};
	static uint8_t val[20000], buf[BB];
	struct found f = {.rep = {.bad = found_bad}};
	struct pst_op op = {.opcode = PST_OP_SCRUB, .scrub = &f.rep};
	struct eng_op rd, sc = {.op = op};
	uint64_t data_start;
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(ops_kv_put(e.store, c, oid_of(2), "k", val, sizeof(val)), 0);
	assert_int_equal(eng_put(&e, c, oid_of(3), 0, BB, 1), 0);
	data_start = eng_local(&e)->geo.data_start;
	assert_int_equal(eng_close(&e), 0);
	eng_flip(&e, 0, data_start + 1, 77);
	eng_open(&e);
	assert_int_equal(fault_set(e.dev[0], "delay_us", "3000", NULL), 0);
	eng_read_op(&rd, c, 0, oid_of(3), 0, buf, BB);
	eng_submit(&e, &rd);
	assert_int_equal(rd.out, PST_QUEUED);
	eng_submit(&e, &sc);
	assert_int_equal(eng_wait(&e, &sc), 0);
	assert_int_equal(eng_wait(&e, &rd), 0);
	assert_int_equal(f.count, 1);
	eng_end(&e);
}

/* An index page on one of two mirrors: mended and counted; on both: a refusal. */
static void flip_in_an_index_page(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB, .devs = 2};
	struct pst_store_status st;
	struct pst_op op = {.opcode = PST_OP_STATUS, .status_out = &st};
	uint64_t at;
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, LEN, 1), 0);
	eng_reopen(&e);
	at = geo_meta_block(&eng_local(&e)->geo, eng_local(&e)->shard[0]->sys.root->addr);
	eng_drop(&e);
	eng_flip(&e, 0, at, 999);
	eng_open(&e);
	assert_int_equal(ops_run(e.store, &op), 0);
	assert_true(st.mirror_repairs > 0);
	assert_int_equal(eng_expect(&e, c, 0, oid_of(1), 0, LEN, 1), 0);
	at = geo_meta_block(&eng_local(&e)->geo, eng_local(&e)->shard[0]->sys.root->addr);
	assert_int_equal(eng_close(&e), 0);
	eng_flip(&e, 0, at, 999);
	eng_flip(&e, 1, at, 999);
	expect_open(&e, -EBADMSG, "index page");
	eng_flip(&e, 1, at, 999);
	eng_open(&e);
	assert_int_equal(eng_expect(&e, c, 0, oid_of(1), 0, LEN, 1), 0);
	eng_end(&e);
}

/* A checksum page: never wrong data; on one of two mirrors, all is well. */
static void flip_in_a_checksum_page(void **state)
{
	for (unsigned devs = 1; devs <= 2; devs++) {
		struct eng e = {.dev_bytes = 8 * MIB, .devs = devs};
		uint64_t start;
		uint32_t c;
		int r;

		eng_start(&e);
		assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
		for (uint64_t i = 0; i < 3; i++) {
			assert_int_equal(eng_put(&e, c, oid_of(1), 0, LEN, i), 0);
			eng_checkpoint(&e);
		}
		start = eng_local(&e)->geo.csum_start;
		assert_int_equal(eng_close(&e), 0);
		for (uint64_t b = 0; b < 64; b++) /* both slots of the first pages */
			eng_flip(&e, 0, start + b, 7000);
		eng_open(&e);
		r = eng_expect(&e, c, 0, oid_of(1), 0, LEN, 2);
		assert_int_equal(r, devs == 1 ? -EIO : 0);
		assert_int_equal(eng_put(&e, c, oid_of(1), 0, LEN, 9), 0);
		eng_reopen(&e);
		assert_int_equal(eng_expect(&e, c, 0, oid_of(1), 0, LEN, 9), 0);
		eng_end(&e);
	}
}

/* --- limits --- */

static void beyond_the_limits(void **state)
{
	struct eng e = {.dev_bytes = 16 * MIB};
	static uint8_t buf[PST_IO_MAX + BB];
	char name[PST_NAME_MAX + 2], key[PST_KEY_MAX + 2];
	struct pst_mut m[PST_BATCH_MAX + 1];
	uint32_t c;

	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = 0;
	memset(key, 'k', sizeof(key));
	key[sizeof(key) - 1] = 0;
	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, name, NULL), -ENAMETOOLONG);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(ops_snap_create(e.store, "a", name, NULL), -ENAMETOOLONG);
	assert_int_equal(ops_kv_put(e.store, c, oid_of(1), key, buf, 1), -ENAMETOOLONG);
	key[PST_KEY_MAX] = 0;
	assert_int_equal(ops_kv_put(e.store, c, oid_of(1), key, buf, PST_VALUE_MAX + 1), -E2BIG);
	assert_int_equal(ops_kv_put(e.store, c, oid_of(1), key, buf, PST_VALUE_MAX), 0);
	assert_int_equal(ops_write(e.store, c, oid_of(1), 0, buf, PST_IO_MAX + 1), -E2BIG);
	assert_int_equal(ops_write(e.store, c, oid_of(1), PST_OBJECT_MAX - 5, buf, 6), -EFBIG);
	assert_int_equal(ops_write(e.store, c, oid_of(1), PST_OBJECT_MAX - 5, buf, 5), 0);
	assert_int_equal(ops_write(e.store, c, oid_of(1), UINT64_MAX, buf, 6), -EFBIG);
	m[0] = (struct pst_mut){
	        .kind = PST_ARRAY_APPEND, .oid = oid_of(1), .val = buf, .val_len = 1, .len = 1};
	assert_int_equal(ops_batch(e.store, c, m, 1), -EFBIG);
	m[0] = (struct pst_mut)MUT_OFF(PST_ARRAY_RESIZE, oid_of(1), PST_OBJECT_MAX + 1, 0);
	assert_int_equal(ops_batch(e.store, c, m, 1), -EFBIG);
	m[0] = (struct pst_mut)MUT_OFF(PST_ARRAY_PUNCH, oid_of(1), PST_OBJECT_MAX, 1);
	assert_int_equal(ops_batch(e.store, c, m, 1), -EFBIG);
	for (unsigned i = 0; i <= PST_BATCH_MAX; i++)
		m[i] = (struct pst_mut)MUT_PUT(oid_of(i + 10), "k", "v", 1);
	assert_int_equal(ops_batch(e.store, c, m, PST_BATCH_MAX + 1), -E2BIG);
	assert_int_equal(ops_batch(e.store, c, m, PST_BATCH_MAX), 0);
	eng_reopen(&e);
	assert_int_equal(ops_kv_get(e.store, c, 0, oid_of(1), key, buf, sizeof(buf), NULL), 0);
	eng_end(&e);
}

/* --- waiting, and not --- */

/* An op that waits behind another's lock ends when its deadline passes, or when it is cancelled. */
static void deadline_and_cancel(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB};
	static uint8_t b[3][16];
	struct eng_op op[3];
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, 8 * BB, 1), 0);
	eng_reopen(&e);
	assert_int_equal(fault_set(e.dev[0], "delay_us", "20000", NULL), 0);
	for (unsigned i = 0; i < 3; i++) {
		eng_write_op(&op[i], c, oid_of(1), 10 * i, b[i], sizeof(b[i]), 0);
		if (i == 1)
			op[i].op.deadline_ns = loop_now(e.loop) + 5 * NSEC_PER_MSEC;
		eng_submit(&e, &op[i]);
		assert_int_equal(op[i].out, PST_QUEUED);
	}
	store_cancel(e.store, &op[2].op);
	assert_int_equal(eng_wait(&e, &op[2]), -ECANCELED);
	assert_int_equal(eng_wait(&e, &op[1]), -ETIMEDOUT);
	assert_false(op[0].ended);
	assert_int_equal(eng_wait(&e, &op[0]), 0);
	op[1].op.deadline_ns = 1;
	assert_int_equal(ops_run(e.store, &op[1].op), -ETIMEDOUT);
	eng_end(&e);
}

/* Many wait for a block whose writer, when it has read it, has to wait for the next frame of the log:
 * its turn comes all the same. */
static void who_holds_a_lock_goes_first(void **state)
{
	struct eng e = {.dev_bytes = 16 * MIB, .format = {.journal_bytes = MIB}};
	static uint8_t buf[BB];
	static struct eng_op op[40], fill;
	uint32_t c, room;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, 8 * BB, 1), 0);
	eng_reopen(&e);
	assert_int_equal(fault_set(e.dev[0], "delay_us", "1000", NULL), 0);
	eng_write_op(&op[0], c, oid_of(1), 0, buf, 16, 0);
	eng_submit(&e, &op[0]);
	assert_int_equal(op[0].out, PST_QUEUED);
	/* The open frame is full, and nobody waits for it. */
	room = eng_local(&e)->shard[0]->log.data_max;
	for (uint32_t k = 0; k < room; k++) {
		eng_write_op(&fill, c, oid_of(100), (uint64_t)k * BB, buf, BB, PST_F_VOLATILE);
		eng_submit(&e, &fill);
		assert_int_equal(fill.out, PST_DONE);
	}
	for (unsigned i = 1; i < ARRAY_LEN(op); i++) {
		eng_write_op(&op[i], c, oid_of(1), 16 * i, buf, 16, 0);
		eng_submit(&e, &op[i]);
		assert_int_equal(op[i].out, PST_QUEUED);
	}
	for (unsigned i = 0; i < ARRAY_LEN(op); i++)
		assert_int_equal(eng_wait(&e, &op[i]), 0);
	eng_end(&e);
}

/*
 * A writer has read a block to change part of it; a snapshot is taken; another writer copies the
 * blocks around its own for the snapshot's sake, the first one's among them. Both changes stay.
 */
static void snapshot_between_two_writers(void **state)
{
	struct eng e = {.dev_bytes = 8 * MIB};
	static uint8_t one[BB], two[BB];
	struct eng_op a, b;
	uint32_t c;

	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "a", &c), 0);
	assert_int_equal(eng_put(&e, c, oid_of(1), 0, 16 * BB, 1), 0);
	eng_reopen(&e);
	eng_fill(one, sizeof(one), 11);
	eng_fill(two, sizeof(two), 12);
	assert_int_equal(fault_set(e.dev[0], "delay_us", "3000", NULL), 0);
	eng_write_op(&a, c, oid_of(1), 5 * BB + 100, one, 100, 0);
	eng_submit(&e, &a);
	assert_int_equal(a.out, PST_QUEUED);
	assert_int_equal(fault_set(e.dev[0], "delay_us", "0", NULL), 0);
	assert_int_equal(ops_snap_create(e.store, "a", "s", NULL), 0);
	assert_false(a.ended);
	assert_int_equal(fault_set(e.dev[0], "delay_us", "30000", NULL), 0);
	eng_write_op(&b, c, oid_of(1), 2 * BB, two, 100, 0);
	eng_submit(&e, &b); /* what it reads comes after the first one's commit */
	assert_int_equal(eng_wait(&e, &a), 0);
	assert_int_equal(eng_wait(&e, &b), 0);
	assert_int_equal(eng_expect(&e, c, 0, oid_of(1), 5 * BB + 100, 100, 11), 0);
	assert_int_equal(eng_expect(&e, c, 0, oid_of(1), 2 * BB, 100, 12), 0);
	eng_end(&e);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(not_a_store),
	        cmocka_unit_test(devices_missing_or_mixed),
	        cmocka_unit_test(flip_in_data),
	        cmocka_unit_test(scrub_finds_each_block),
	        cmocka_unit_test(forged_device_numbers),
	        cmocka_unit_test(flip_in_a_large_value),
	        cmocka_unit_test(scrub_of_a_busy_store),
	        cmocka_unit_test(flip_in_an_index_page),
	        cmocka_unit_test(flip_in_a_checksum_page),
	        cmocka_unit_test(beyond_the_limits),
	        cmocka_unit_test(deadline_and_cancel),
	        cmocka_unit_test(who_holds_a_lock_goes_first),
	        cmocka_unit_test(snapshot_between_two_writers),
	};

	if (argc > 1) /* one case alone */
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("local engine: bad input", tests, NULL, NULL);
}
