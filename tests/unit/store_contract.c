/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * store_contract - the cases on single ops; store_contract_more.c holds those on many.
 */
#include <stdio.h>

#include "store_contract_impl.h"

const struct contract_factory *contract_factory;

void fill(void *buf, size_t len, unsigned seed)
{
	uint8_t *p = buf;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(seed + i * 7 + (i >> 8) * 13);
}

struct store *store_of(void **state)
{
	return ((struct contract_env *)*state)->store;
}

uint32_t make_cont(struct store *s)
{
	uint32_t id = 0;

	assert_int_equal(ops_cont_create(s, "c", &id), 0);
	return id;
}

void expect_bytes(struct store *s, uint32_t cont, uint64_t view, struct pst_oid oid, uint64_t off,
                  const void *want, size_t len)
{
	uint8_t *got = malloc(len + 1);
	uint64_t n = 0;

	assert_non_null(got);
	memset(got, 0xa5, len + 1);
	assert_int_equal(ops_read(s, cont, view, oid, off, got, len, &n), 0);
	assert_int_equal(n, len);
	if (want)
		assert_memory_equal(got, want, len);
	for (size_t i = 0; !want && i < len; i++)
		assert_int_equal(got[i], 0);
	assert_int_equal(got[len], 0xa5);
	free(got);
}

uint64_t size_of(struct store *s, uint32_t cont, uint64_t view, struct pst_oid oid)
{
	struct pst_obj_stat st;

	assert_int_equal(ops_stat(s, cont, view, oid, &st), 0);
	return st.exists ? st.size_bytes : UINT64_MAX;
}

/* --- containers --- */

static void cont_life(void **state)
{
	struct store *s = store_of(state);
	struct pst_cont_info info;
	uint32_t a, b, again;

	assert_int_equal(ops_cont_open(s, "a", &a), -ENOENT);
	assert_int_equal(ops_cont_create(s, "a", &a), 0);
	assert_int_equal(ops_cont_create(s, "b", &b), 0);
	assert_int_not_equal(a, b);
	assert_int_not_equal(a, 0);
	assert_int_equal(ops_cont_create(s, "a", NULL), -EEXIST);
	assert_int_equal(ops_cont_open(s, "a", &again), 0);
	assert_int_equal(again, a);
	assert_int_equal(ops_cont_get(s, b, &info), 0);
	assert_string_equal(info.name, "b");
	assert_int_equal(info.used_bytes, 0);
	assert_int_equal(ops_cont_destroy(s, "a"), 0);
	assert_int_equal(ops_cont_destroy(s, "a"), -ENOENT);
	assert_int_equal(ops_cont_open(s, "a", NULL), -ENOENT);
	assert_int_equal(ops_cont_get(s, a, &info), -ENOENT);
	assert_int_equal(ops_cont_create(s, "a", &again), 0);
	assert_int_not_equal(again, b);
}

static void cont_names(void **state)
{
	struct store *s = store_of(state);
	char name[PST_NAME_MAX + 2];

	memset(name, 'n', sizeof(name));
	name[PST_NAME_MAX + 1] = 0;
	assert_int_equal(ops_cont_create(s, name, NULL), -ENAMETOOLONG);
	name[PST_NAME_MAX] = 0;
	assert_int_equal(ops_cont_create(s, name, NULL), 0);
	assert_int_equal(ops_cont_open(s, name, NULL), 0);
	assert_int_equal(ops_cont_create(s, "", NULL), -EINVAL);
}

struct list_op {
	struct pst_op op;
	unsigned count, stop_after;
	char names[64][64];
	uint64_t ids[64];
	char vals[64][16];
	struct pst_oid oids[64];
};

static bool list_entry_cb(struct pst_op *op, const struct pst_entry *e)
{
	struct list_op *l = container_of(op, struct list_op, op);

	assert_true(l->count < 64 && e->name_len < 64);
	memcpy(l->names[l->count], e->name, e->name_len);
	l->names[l->count][e->name_len] = 0;
	l->ids[l->count] = e->id;
	l->oids[l->count] = e->oid;
	snprintf(l->vals[l->count], 16, "%.*s", (int)e->val_len, (const char *)e->val);
	return ++l->count != l->stop_after;
}

static void list_init_op(struct list_op *l, uint8_t opcode, uint32_t cont)
{
	memset(l, 0, sizeof(*l));
	l->op.opcode = opcode;
	l->op.cont = cont;
	l->op.entry = list_entry_cb;
}

static void cont_list(void **state)
{
	struct store *s = store_of(state);
	struct list_op l;
	char name[16], last[64];
	unsigned seen = 0;

	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "cont-%d", i);
		assert_int_equal(ops_cont_create(s, name, NULL), 0);
	}
	list_init_op(&l, PST_OP_CONT_LIST, 0);
	assert_int_equal(ops_run(s, &l.op), 0);
	assert_int_equal(l.count, 20);
	for (unsigned i = 1; i < 20; i++)
		assert_true(strcmp(l.names[i - 1], l.names[i]) < 0);
	for (last[0] = 0;; snprintf(last, sizeof(last), "%s", l.names[l.count - 1])) {
		list_init_op(&l, PST_OP_CONT_LIST, 0);
		l.stop_after = 3;
		l.op.start = last[0] ? last : NULL;
		l.op.start_len = (uint32_t)strlen(last);
		assert_int_equal(ops_run(s, &l.op), 0);
		seen += l.count;
		if (!l.count)
			break;
	}
	assert_int_equal(seen, 20);
}

static void unknown_cont(void **state)
{
	struct store *s = store_of(state);
	struct pst_obj_stat st;
	char b[16] = {0};

	assert_int_equal(ops_write(s, 4711, oid_of(1), 0, b, 16), -ENOENT);
	assert_int_equal(ops_read(s, 4711, 0, oid_of(1), 0, b, 16, NULL), -ENOENT);
	assert_int_equal(ops_stat(s, 4711, 0, oid_of(1), &st), -ENOENT);
	assert_int_equal(ops_kv_put(s, 4711, oid_of(1), "k", b, 1), -ENOENT);
	assert_int_equal(ops_flush(s, 4711), -ENOENT);
	assert_int_equal(ops_flush(s, 0), 0);
}

/* --- arrays --- */

static void absent_object(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct pst_obj_stat st;
	struct pst_mut gone[] = {MUT_OFF(PST_ARRAY_PUNCH, oid_of(9), 0, 100),
	                         MUT_KEY(PST_KV_DEL, oid_of(9), "k", 0),
	                         MUT_OFF(PST_OBJ_DELETE, oid_of(9), 0, 0)};
	uint64_t n = 99;
	char b[16];

	assert_int_equal(ops_read(s, c, 0, oid_of(9), 0, b, 16, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(ops_kv_get(s, c, 0, oid_of(9), "k", b, 16, NULL), -ENOENT);
	assert_int_equal(ops_batch(s, c, gone, 3), 0);
	assert_int_equal(ops_stat(s, c, 0, oid_of(9), &st), 0);
	assert_false(st.exists);
	assert_int_equal(st.size_bytes, 0);
}

static void write_read(void **state)
{
	static const struct {
		uint64_t off;
		uint32_t len;
	} t[] = {{0, 1},          {0, 4096},     {1, 4095},        {4095, 2},     {100, 5000},
	         {65536, 65536},  {4096, 8192},  {65537, 131071},  {0, 1u << 20}, {7, PST_IO_MAX},
	         {1ull << 40, 9}, {12288, 4096}, {1u << 20, 4097}, {4000, 1}};
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	uint8_t *buf = malloc(PST_IO_MAX);
	uint64_t size = 0;

	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		fill(buf, t[i].len, i);
		assert_int_equal(ops_write(s, c, oid_of(1), t[i].off, buf, t[i].len), 0);
		size = MAX(size, t[i].off + t[i].len);
		expect_bytes(s, c, 0, oid_of(1), t[i].off, buf, t[i].len);
		assert_int_equal(size_of(s, c, 0, oid_of(1)), size);
		/* Alone in an object of its own: holes before it read zero. */
		assert_int_equal(ops_write(s, c, oid_of(100 + i), t[i].off, buf, t[i].len), 0);
		expect_bytes(s, c, 0, oid_of(100 + i), t[i].off, buf, t[i].len);
		if (t[i].off)
			expect_bytes(s, c, 0, oid_of(100 + i), 0, NULL, MIN(t[i].off, 100000ull));
	}
	free(buf);
}

static void read_short(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	uint8_t w[5000], r[9000];
	uint64_t n;

	fill(w, sizeof(w), 3);
	assert_int_equal(ops_write(s, c, oid_of(1), 0, w, sizeof(w)), 0);
	assert_int_equal(ops_read(s, c, 0, oid_of(1), 0, r, sizeof(r), &n), 0);
	assert_int_equal(n, 5000);
	assert_memory_equal(w, r, 5000);
	assert_int_equal(ops_read(s, c, 0, oid_of(1), 4999, r, 10, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(r[0], w[4999]);
	assert_int_equal(ops_read(s, c, 0, oid_of(1), 5000, r, 10, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(ops_read(s, c, 0, oid_of(1), 1ull << 50, r, 10, &n), 0);
	assert_int_equal(n, 0);
}

static void iov_pieces(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	static uint8_t w[20000], r[20000];
	struct iovec wv[] = {{w, 1}, {w + 1, 4095}, {w + 4096, 10000}, {w + 14096, 5904}};
	struct iovec rv[] = {{r, 7000}, {r + 7000, 13}, {r + 7013, 12987}};
	struct pst_op op = {.opcode = PST_OP_WRITE, .cont = c, .oid = oid_of(1), .off = 10};

	fill(w, sizeof(w), 9);
	op.len = sizeof(w);
	op.iov = wv;
	op.iov_count = 4;
	assert_int_equal(ops_run(s, &op), 0);
	assert_int_equal(op.ret_len, sizeof(w));
	op.opcode = PST_OP_READ;
	op.iov = rv;
	op.iov_count = 3;
	assert_int_equal(ops_run(s, &op), 0);
	assert_int_equal(op.ret_len, sizeof(r));
	assert_memory_equal(w, r, sizeof(r));
	op.len = sizeof(w) - 1; /* not what the iov holds */
	assert_int_equal(ops_run(s, &op), -EINVAL);
	op.opcode = PST_OP_WRITE;
	assert_int_equal(ops_run(s, &op), -EINVAL);
}

static void io_limits(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	uint8_t *buf = calloc(1, PST_IO_MAX + 1);
	struct pst_mut m = MUT_OFF(PST_ARRAY_RESIZE, oid_of(1), PST_OBJECT_MAX + 1, 0);

	assert_int_equal(ops_write(s, c, oid_of(1), 0, buf, PST_IO_MAX + 1), -E2BIG);
	assert_int_equal(ops_read(s, c, 0, oid_of(1), 0, buf, PST_IO_MAX + 1, NULL), -E2BIG);
	assert_int_equal(ops_write(s, c, oid_of(1), PST_OBJECT_MAX, buf, 1), -EFBIG);
	assert_int_equal(ops_write(s, c, oid_of(1), UINT64_MAX, buf, 1), -EFBIG);
	assert_int_equal(ops_batch(s, c, &m, 1), -EFBIG);
	assert_int_equal(ops_write(s, c, oid_of(1), PST_OBJECT_MAX - 1, buf, 1), 0);
	assert_int_equal(size_of(s, c, 0, oid_of(1)), PST_OBJECT_MAX);
	free(buf);
}

static void existing_flag(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	char b[8] = "existing";
	struct iovec iov = {b, 8};
	struct pst_op op = {.opcode = PST_OP_WRITE, .cont = c, .oid = oid_of(1), .len = 8};

	if (!(s->caps & PST_CAP_EXISTING))
		skip();
	op.flags = PST_F_EXISTING;
	op.iov = &iov;
	op.iov_count = 1;
	assert_int_equal(ops_run(s, &op), -ESTALE);
	op.opcode = PST_OP_READ;
	assert_int_equal(ops_run(s, &op), -ESTALE);
	assert_int_equal(ops_write(s, c, oid_of(1), 0, b, 8), 0);
	assert_int_equal(ops_run(s, &op), 0);
	assert_int_equal(op.ret_len, 8);
}

static void append(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	char a[3000], b[6000];
	struct pst_mut m = {.kind = PST_ARRAY_APPEND, .oid = oid_of(1), .val = a};
	struct pst_op op = {.opcode = PST_OP_BATCH, .cont = c, .muts = &m, .mut_count = 1};

	fill(a, sizeof(a), 1);
	m.len = m.val_len = sizeof(a);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(ops_run(s, &op), 0);
		assert_int_equal(op.ret_off, i * 3000);
		assert_int_equal(m.off, i * 3000);
	}
	memcpy(b, a, 3000);
	memcpy(b + 3000, a, 3000);
	expect_bytes(s, c, 0, oid_of(1), 6000, b, 6000);
	assert_int_equal(size_of(s, c, 0, oid_of(1)), 12000);
}

static void punch(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	static uint8_t w[200000];
	struct pst_mut m = MUT_OFF(PST_ARRAY_PUNCH, oid_of(1), 5000, 100000);
	struct pst_obj_stat st;
	uint64_t before;

	fill(w, sizeof(w), 5);
	assert_int_equal(ops_write(s, c, oid_of(1), 0, w, sizeof(w)), 0);
	assert_int_equal(ops_stat(s, c, 0, oid_of(1), &st), 0);
	before = st.alloc_bytes;
	assert_int_equal(before, ALIGN_UP(sizeof(w), 4096));
	assert_int_equal(ops_batch(s, c, &m, 1), 0);
	memset(w + 5000, 0, 100000);
	expect_bytes(s, c, 0, oid_of(1), 0, w, sizeof(w));
	assert_int_equal(ops_stat(s, c, 0, oid_of(1), &st), 0);
	assert_int_equal(st.size_bytes, sizeof(w));
	assert_int_equal(before - st.alloc_bytes, 102400 - 8192);
	m.off = 190000; /* across the end: the size stays */
	assert_int_equal(ops_batch(s, c, &m, 1), 0);
	memset(w + 190000, 0, 10000);
	expect_bytes(s, c, 0, oid_of(1), 0, w, sizeof(w));
	assert_int_equal(size_of(s, c, 0, oid_of(1)), sizeof(w));
	m.off = 1u << 30; /* beyond it: nothing */
	assert_int_equal(ops_batch(s, c, &m, 1), 0);
	assert_int_equal(size_of(s, c, 0, oid_of(1)), sizeof(w));
}

static void resize(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	static uint8_t w[100000];
	struct pst_mut m = MUT_OFF(PST_ARRAY_RESIZE, oid_of(1), 0, 0);
	static const uint64_t sizes[] = {50000, 100000, 4096, 8192, 4097, 65536, 1, 4096, 0, 300};

	fill(w, sizeof(w), 6);
	assert_int_equal(ops_write(s, c, oid_of(1), 0, w, sizeof(w)), 0);
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		m.off = sizes[i];
		assert_int_equal(ops_batch(s, c, &m, 1), 0);
		assert_int_equal(size_of(s, c, 0, oid_of(1)), sizes[i]);
		memset(w + sizes[i], 0, sizeof(w) - sizes[i]); /* what comes back is zero */
		expect_bytes(s, c, 0, oid_of(1), 0, w, sizes[i]);
	}
}

static void label_mtime(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	char label[PST_LABEL_MAX + 1];
	struct pst_mut m[2] = {{.kind = PST_SET_LABEL, .oid = oid_of(1), .val = label},
	                       MUT_OFF(PST_SET_MTIME, oid_of(1), 123456789012345ull, 0)};
	struct pst_obj_stat st;

	memset(label, 'L', sizeof(label));
	m[0].val_len = PST_LABEL_MAX + 1;
	assert_int_equal(ops_batch(s, c, m, 2), -E2BIG);
	assert_int_equal(size_of(s, c, 0, oid_of(1)), UINT64_MAX);
	m[0].val_len = PST_LABEL_MAX;
	assert_int_equal(ops_batch(s, c, m, 2), 0);
	assert_int_equal(ops_stat(s, c, 0, oid_of(1), &st), 0);
	assert_true(st.exists);
	assert_int_equal(st.label_len, PST_LABEL_MAX);
	assert_memory_equal(st.label, label, PST_LABEL_MAX);
	assert_int_equal(st.mtime_ns, 123456789012345ull);
	m[0].val_len = 0;
	assert_int_equal(ops_batch(s, c, m, 1), 0);
	assert_int_equal(ops_stat(s, c, 0, oid_of(1), &st), 0);
	assert_int_equal(st.label_len, 0);
	assert_int_equal(ops_write(s, c, oid_of(1), 0, label, 10), 0);
	assert_int_equal(ops_stat(s, c, 0, oid_of(1), &st), 0);
	assert_int_not_equal(st.mtime_ns, 123456789012345ull);
}

static void delete_object(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct pst_mut m = MUT_OFF(PST_OBJ_DELETE, oid_of(1), 0, 0);
	static uint8_t w[300000];
	struct pst_cont_info info;
	char v[4];

	assert_int_equal(ops_write(s, c, oid_of(1), 0, w, sizeof(w)), 0);
	assert_int_equal(ops_kv_put(s, c, oid_of(1), "k", "v", 1), 0);
	assert_int_equal(ops_kv_put(s, c, oid_of(2), "k", "v", 1), 0);
	assert_int_equal(ops_batch(s, c, &m, 1), 0);
	assert_int_equal(size_of(s, c, 0, oid_of(1)), UINT64_MAX);
	assert_int_equal(ops_kv_get(s, c, 0, oid_of(1), "k", v, 4, NULL), -ENOENT);
	assert_int_equal(ops_kv_get(s, c, 0, oid_of(2), "k", v, 4, NULL), 0);
	assert_int_equal(ops_cont_get(s, c, &info), 0);
	assert_int_equal(info.used_objects, 1);
	assert_int_equal(info.used_bytes, 0);
	assert_int_equal(ops_write(s, c, oid_of(1), 100, "x", 1), 0);
	expect_bytes(s, c, 0, oid_of(1), 0, NULL, 100);
}

static void object_list(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct pst_oid oid, start = {0};
	struct list_op l;
	unsigned seen = 0;

	for (uint64_t i = 0; i < 40; i++) {
		oid = (struct pst_oid){.hi = (i * 7) % 3, .lo = (1 + (i * 11) % 40) << 32};
		assert_int_equal(ops_kv_put(s, c, oid, "k", "v", 1), 0);
	}
	for (;;) {
		list_init_op(&l, PST_OP_OBJ_LIST, c);
		l.stop_after = 7;
		l.op.start = seen ? &start : NULL;
		l.op.start_len = sizeof(start);
		assert_int_equal(ops_run(s, &l.op), 0);
		for (unsigned i = 0; i < l.count; i++) {
			oid = l.oids[i];
			if (seen++)
				assert_true(oid.hi > start.hi ||
				            (oid.hi == start.hi && oid.lo > start.lo));
			start = oid;
		}
		if (!l.count)
			break;
	}
	assert_int_equal(seen, 40);
}

static void extents(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	static uint8_t w[8192];
	struct pst_op op = {.opcode = PST_OP_EXTENTS, .cont = c, .oid = oid_of(1)};

	op.len = 1ull << 40;
	assert_int_equal(ops_run(s, &op), -ENXIO);
	assert_int_equal(ops_write(s, c, oid_of(1), 1u << 20, w, 8192), 0);
	assert_int_equal(ops_write(s, c, oid_of(1), 4u << 20, w, 100), 0);
	assert_int_equal(ops_run(s, &op), 0);
	assert_int_equal(op.ret_off, 1u << 20);
	assert_int_equal(op.ret_len, 8192);
	op.off = (1u << 20) + 4096;
	assert_int_equal(ops_run(s, &op), 0);
	assert_int_equal(op.ret_off, (1u << 20) + 4096);
	assert_int_equal(op.ret_len, 4096);
	op.off = 2u << 20;
	assert_int_equal(ops_run(s, &op), 0);
	assert_int_equal(op.ret_off, 4u << 20);
	assert_int_equal(op.ret_len, 100);
	op.len = 1u << 20;
	assert_int_equal(ops_run(s, &op), -ENXIO);
}

/* --- key-values --- */

static void kv_basic(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct pst_mut del = MUT_KEY(PST_KV_DEL, oid_of(1), "key", 0);
	uint64_t n;
	char v[16];

	assert_int_equal(ops_kv_put(s, c, oid_of(1), "key", "value", 5), 0);
	assert_int_equal(ops_kv_get(s, c, 0, oid_of(1), "key", v, 16, &n), 0);
	assert_int_equal(n, 5);
	assert_memory_equal(v, "value", 5);
	assert_int_equal(ops_kv_put(s, c, oid_of(1), "key", "", 0), 0);
	assert_int_equal(ops_kv_get(s, c, 0, oid_of(1), "key", v, 16, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(ops_kv_put(s, c, oid_of(1), "key", "longer value", 12), 0);
	assert_int_equal(ops_kv_get(s, c, 0, oid_of(1), "key", v, 11, &n), -ERANGE);
	assert_int_equal(ops_kv_get(s, c, 0, oid_of(1), "ke", v, 16, &n), -ENOENT);
	assert_int_equal(ops_kv_get(s, c, 0, oid_of(1), "key2", v, 16, &n), -ENOENT);
	assert_int_equal(ops_kv_get(s, c, 0, oid_of(2), "key", v, 16, &n), -ENOENT);
	assert_int_equal(ops_batch(s, c, &del, 1), 0);
	assert_int_equal(ops_batch(s, c, &del, 1), 0);
	assert_int_equal(ops_kv_get(s, c, 0, oid_of(1), "key", v, 16, &n), -ENOENT);
	assert_int_equal(size_of(s, c, 0, oid_of(1)), 0); /* it stays, empty */
}

static void kv_limits(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	char key[PST_KEY_MAX + 2], *val = malloc(PST_VALUE_MAX + 1), *got = malloc(PST_VALUE_MAX);
	uint64_t n;

	fill(val, PST_VALUE_MAX + 1, 7);
	memset(key, 'k', sizeof(key));
	key[PST_KEY_MAX + 1] = 0;
	assert_int_equal(ops_kv_put(s, c, oid_of(1), key, "v", 1), -ENAMETOOLONG);
	assert_int_equal(ops_kv_get(s, c, 0, oid_of(1), key, got, 1, &n), -ENAMETOOLONG);
	key[PST_KEY_MAX] = 0;
	assert_int_equal(ops_kv_put(s, c, oid_of(1), key, val, PST_VALUE_MAX + 1), -E2BIG);
	assert_int_equal(ops_kv_put(s, c, oid_of(1), "", "v", 1), -EINVAL);
	for (uint32_t len = 1; len <= PST_VALUE_MAX; len = len * 3 + 1) {
		assert_int_equal(ops_kv_put(s, c, oid_of(1), key, val, len), 0);
		assert_int_equal(ops_kv_get(s, c, 0, oid_of(1), key, got, PST_VALUE_MAX, &n), 0);
		assert_int_equal(n, len);
		assert_memory_equal(got, val, len);
	}
	assert_int_equal(ops_kv_put(s, c, oid_of(1), key, val, PST_VALUE_MAX), 0);
	assert_int_equal(ops_kv_get(s, c, 0, oid_of(1), key, got, PST_VALUE_MAX, &n), 0);
	assert_memory_equal(got, val, PST_VALUE_MAX);
	free(val);
	free(got);
}

static void kv_list(void **state)
{
	static const char *const keys[] = {"b/2", "a", "b/10", "b", "c", "b/1", "ab", "\xff", "b/"};
	static const char *const sorted[] = {"a",    "ab",  "b", "b/",  "b/1",
	                                     "b/10", "b/2", "c", "\xff"};
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct list_op l;

	for (unsigned i = 0; i < ARRAY_LEN(keys); i++)
		assert_int_equal(
		        ops_kv_put(s, c, oid_of(1), keys[i], keys[i], (uint32_t)strlen(keys[i])),
		        0);
	assert_int_equal(ops_kv_put(s, c, oid_of(2), "other", "x", 1), 0);
	list_init_op(&l, PST_OP_KV_LIST, c);
	l.op.oid = oid_of(1);
	assert_int_equal(ops_run(s, &l.op), 0);
	assert_int_equal(l.count, ARRAY_LEN(sorted));
	for (unsigned i = 0; i < l.count; i++)
		assert_string_equal(l.names[i], sorted[i]);
	assert_string_equal(l.vals[0], ""); /* not asked for */
	list_init_op(&l, PST_OP_KV_LIST, c);
	l.op.oid = oid_of(1);
	l.op.key = "b/";
	l.op.key_len = 2;
	l.op.start = "b/1";
	l.op.start_len = 3;
	l.op.want_values = true;
	assert_int_equal(ops_run(s, &l.op), 0);
	assert_int_equal(l.count, 2);
	assert_string_equal(l.names[0], "b/10");
	assert_string_equal(l.vals[1], "b/2");
	list_init_op(&l, PST_OP_KV_LIST, c);
	l.op.oid = oid_of(1);
	l.stop_after = 1;
	l.op.start = "0";
	l.op.start_len = 1;
	assert_int_equal(ops_run(s, &l.op), 0);
	assert_int_equal(l.count, 1);
	assert_string_equal(l.names[0], "a");
}

/* --- batches --- */

static void batch_conditions(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct pst_oid o = oid_of(1), none = oid_of(2);
	struct {
		struct pst_mut cond;
		bool holds;
	} t[] = {
	        {MUT_KEY(PST_IF_KEY_ABSENT, o, "nokey", 0), true},
	        {MUT_KEY(PST_IF_KEY_ABSENT, o, "key", 0), false},
	        {MUT_KEY(PST_IF_KEY_ABSENT, none, "key", 0), true},
	        {MUT_KEY(PST_IF_KEY_PRESENT, o, "key", 0), true},
	        {MUT_KEY(PST_IF_KEY_PRESENT, o, "nokey", 0), false},
	        {MUT_KEY(PST_IF_KEY_PRESENT, none, "key", 0), false},
	        {MUT_KEY(PST_IF_NO_KEYS, o, "ke", 0), false},
	        {MUT_KEY(PST_IF_NO_KEYS, o, "", 0), false},
	        {MUT_KEY(PST_IF_NO_KEYS, o, "kez", 0), true},
	        {MUT_KEY(PST_IF_NO_KEYS, none, "", 0), true},
	        {MUT_OFF(PST_IF_OBJ_ABSENT, o, 0, 0), false},
	        {MUT_OFF(PST_IF_OBJ_ABSENT, none, 0, 0), true},
	        {MUT_OFF(PST_IF_OBJ_PRESENT, o, 0, 0), true},
	        {MUT_OFF(PST_IF_OBJ_PRESENT, none, 0, 0), false},
	        {MUT_OFF(PST_IF_SIZE_EQ, o, 100, 0), true},
	        {MUT_OFF(PST_IF_SIZE_EQ, o, 99, 0), false},
	        {MUT_OFF(PST_IF_SIZE_EQ, none, 0, 0), true},
	        {{.kind = PST_IF_LABEL_EQ, .oid = o, .val = "lab", .val_len = 3}, true},
	        {{.kind = PST_IF_LABEL_EQ, .oid = o, .val = "la", .val_len = 2}, false},
	        {{.kind = PST_IF_LABEL_EQ, .oid = none, .val = "", .val_len = 0}, true},
	        {{.kind = PST_IF_LABEL_EQ, .oid = none, .val = "x", .val_len = 1}, false},
	        {{.kind = PST_IF_KEY_EQ,
	          .oid = o,
	          .key = "key",
	          .key_len = 3,
	          .val = "v",
	          .val_len = 1},
	         true},
	        {{.kind = PST_IF_KEY_EQ,
	          .oid = o,
	          .key = "key",
	          .key_len = 3,
	          .val = "w",
	          .val_len = 1},
	         false},
	        {{.kind = PST_IF_KEY_EQ,
	          .oid = o,
	          .key = "nokey",
	          .key_len = 5,
	          .val = "",
	          .val_len = 0},
	         false},
	};
	struct pst_mut make[] = {MUT_PUT(o, "key", "v", 1),
	                         MUT_OFF(PST_ARRAY_RESIZE, o, 100, 0),
	                         {.kind = PST_SET_LABEL, .oid = o, .val = "lab", .val_len = 3}};
	char n[4];

	assert_int_equal(ops_batch(s, c, make, 3), 0);
	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		struct pst_mut m[] = {MUT_KEY(PST_IF_KEY_PRESENT, o, "key", -EIO), t[i].cond,
		                      MUT_PUT(oid_of(3), "mark", "", 0)};
		struct pst_mut unmark = MUT_OFF(PST_OBJ_DELETE, oid_of(3), 0, 0);
		struct pst_op op = {.opcode = PST_OP_BATCH, .cont = c, .muts = m, .mut_count = 3};

		m[1].err = -ELOOP;
		assert_int_equal(ops_run(s, &op), t[i].holds ? 0 : -ELOOP);
		if (!t[i].holds)
			assert_int_equal(op.ret_index, 1);
		assert_int_equal(ops_kv_get(s, c, 0, oid_of(3), "mark", n, 4, NULL),
		                 t[i].holds ? 0 : -ENOENT);
		assert_int_equal(ops_batch(s, c, &unmark, 1), 0);
	}
}

static void batch_order(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct pst_oid o = oid_of(1), p = oid_of(2);
	struct pst_mut m[] = {
	        MUT_WRITE(o, 0, "aaaaaaaa", 8),
	        MUT_WRITE(o, 2, "bb", 2),
	        {.kind = PST_ARRAY_APPEND, .oid = o, .val = "cc", .val_len = 2, .len = 2},
	        MUT_OFF(PST_ARRAY_PUNCH, o, 6, 2),
	        {.kind = PST_ARRAY_APPEND, .oid = o, .val = "dd", .val_len = 2, .len = 2},
	        MUT_OFF(PST_ARRAY_RESIZE, o, 11, 0),
	        MUT_PUT(p, "k", "1", 1),
	        MUT_PUT(p, "k", "2", 1),
	        MUT_PUT(p, "gone", "2", 1),
	        MUT_KEY(PST_KV_DEL, p, "gone", 0),
	};
	struct pst_mut again[] = {MUT_OFF(PST_OBJ_DELETE, o, 0, 0), MUT_WRITE(o, 1, "z", 1)};
	char v[4] = {0};

	assert_int_equal(ops_batch(s, c, m, ARRAY_LEN(m)), 0);
	assert_int_equal(m[2].off, 8);
	assert_int_equal(m[4].off, 10);
	assert_int_equal(size_of(s, c, 0, o), 11);
	expect_bytes(s, c, 0, o, 0, "aabbaa\0\0ccd", 11);
	assert_int_equal(ops_kv_get(s, c, 0, p, "k", v, 4, NULL), 0);
	assert_string_equal(v, "2");
	assert_int_equal(ops_kv_get(s, c, 0, p, "gone", v, 4, NULL), -ENOENT);
	assert_int_equal(ops_batch(s, c, again, 2), 0);
	assert_int_equal(size_of(s, c, 0, o), 2);
	expect_bytes(s, c, 0, o, 0, "\0z", 2);
}

static void batch_bad(void **state)
{
	struct store *s = store_of(state);
	uint32_t c = make_cont(s);
	struct pst_mut m[PST_BATCH_MAX + 1];

	for (unsigned i = 0; i < ARRAY_LEN(m); i++)
		m[i] = (struct pst_mut)MUT_PUT(oid_of(1 + i), "k", "v", 1);
	assert_int_equal(ops_batch(s, c, m, PST_BATCH_MAX + 1), -E2BIG);
	assert_int_equal(ops_batch(s, c, m, 0), -EINVAL);
	m[3].kind = 77;
	assert_int_equal(ops_batch(s, c, m, 5), -EINVAL);
	m[3] = (struct pst_mut)MUT_PUT(oid_of(4), "", "v", 1);
	assert_int_equal(ops_batch(s, c, m, 5), -EINVAL);
	/* A condition that would end the batch with what is no error, whether it holds or not. */
	for (int kind = PST_IF_KEY_ABSENT; kind <= PST_IF_SIZE_EQ; kind++) {
		static const int errs[] = {0, 5, -4096, INT32_MIN};

		for (unsigned i = 0; i < ARRAY_LEN(errs); i++) {
			m[0] = (struct pst_mut)MUT_KEY((uint8_t)kind, oid_of(99), "k", errs[i]);
			assert_int_equal(ops_batch(s, c, m, 2), -EINVAL);
		}
	}
	m[0] = (struct pst_mut)MUT_PUT(oid_of(1), "k", "v", 1);
	for (unsigned i = 1; i <= 5; i++)
		assert_int_equal(size_of(s, c, 0, oid_of(i)), UINT64_MAX);
	m[3] = (struct pst_mut)MUT_PUT(oid_of(4), "k", "v", 1);
	m[4].err = 77; /* of a change it says nothing */
	assert_int_equal(ops_batch(s, c, m, PST_BATCH_MAX), 0);
	for (unsigned i = 1; i <= PST_BATCH_MAX; i++)
		assert_int_equal(size_of(s, c, 0, oid_of(i)), 0);
}

int contract_setup(void **state)
{
	struct contract_env *env = calloc(1, sizeof(*env));

	contract_factory->fresh(env);
	*state = env;
	return 0;
}

int contract_teardown(void **state)
{
	contract_factory->drop(*state);
	free(*state);
	return 0;
}

static const struct CMUnitTest cases[] = {
        CASE(cont_life),        CASE(cont_names),    CASE(cont_list),     CASE(unknown_cont),
        CASE(absent_object),    CASE(write_read),    CASE(read_short),    CASE(iov_pieces),
        CASE(io_limits),        CASE(existing_flag), CASE(append),        CASE(punch),
        CASE(resize),           CASE(label_mtime),   CASE(delete_object), CASE(object_list),
        CASE(extents),          CASE(kv_basic),      CASE(kv_limits),     CASE(kv_list),
        CASE(batch_conditions), CASE(batch_order),   CASE(batch_bad),
};

int store_contract_run(const struct contract_factory *factory)
{
	struct CMUnitTest all[64];
	size_t n = ARRAY_LEN(cases);

	pst_assert(n + contract_more_count <= ARRAY_LEN(all));
	memcpy(all, cases, sizeof(cases));
	memcpy(all + n, contract_more_cases, contract_more_count * sizeof(all[0]));
	contract_factory = factory;
	return _cmocka_run_group_tests(factory->name, all, n + contract_more_count, NULL, NULL);
}
