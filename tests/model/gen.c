/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>

#include "gen.h"

static const char *const key_words[] = {"a", "alpha", "b", "beta/", "beta/one", "beta/two", "z"};

static uint8_t *take(struct gen_op *g, size_t len)
{
	uint8_t *p = g->data + g->data_used;

	pst_assert(len <= g->data_len - g->data_used);
	g->data_used += len;
	return p;
}

static void reserve(struct gen_op *g, size_t len)
{
	g->data_len = len;
	g->data = malloc(len ? len : 1);
	pst_assert(g->data);
}

static void fill(struct rng *rng, uint8_t *p, size_t len)
{
	uint64_t x = rng_next(rng) | 1;

	for (size_t i = 0; i < len; i++) {
		p[i] = (uint8_t)(x >> 56);
		x = x * 0x9e3779b97f4a7c15ull + 0x1234567;
	}
}

/* Lengths and offsets that like the edges of blocks. */
static uint32_t pick_len(struct rng *rng, uint32_t max)
{
	uint64_t len;

	switch (rng_below(rng, 8)) {
	case 0:
		len = 1 + rng_below(rng, 512);
		break;
	case 1:
		len = 4096 * (1 + rng_below(rng, 16)) + rng_below(rng, 3) - 1;
		break;
	case 2:
		len = 1 + rng_below(rng, max);
		break;
	default:
		len = 4096 * (1 + rng_below(rng, 4));
		break;
	}
	return (uint32_t)MIN(len, max);
}

static uint64_t pick_off(struct rng *rng, uint64_t span, uint32_t len)
{
	uint64_t off = rng_below(rng, span > len ? span - len : 1);

	if (rng_below(rng, 200) == 0)
		return (1ull << 40) + off; /* sparse, far away */
	return rng_below(rng, 3) ? ALIGN_DOWN(off, 4096) : off;
}

static struct pst_oid pick_oid(struct rng *rng, const struct gen_scope *sc)
{
	return sc->oids[rng_below(rng, sc->oid_count)];
}

static void pick_key(struct gen_op *g, struct rng *rng, struct pst_mut *mut, unsigned i)
{
	const char *word = key_words[rng_below(rng, ARRAY_LEN(key_words))];

	snprintf(g->key[i], GEN_KEY_BYTES, "%s%u", word, (unsigned)rng_below(rng, 6));
	mut->key = g->key[i];
	mut->key_len = (uint32_t)strlen(g->key[i]);
}

static void split_iov(struct gen_op *g, struct rng *rng, uint8_t *p, uint32_t len)
{
	uint32_t count = len > 8192 ? 1 + (uint32_t)rng_below(rng, 3) : 1;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t n = i + 1 == count ? len : (uint32_t)rng_below(rng, len / 2);

		g->iov[i] = (struct iovec){.iov_base = p, .iov_len = n};
		p += n;
		len -= n;
	}
	g->op.iov = g->iov;
	g->op.iov_count = count;
}

static void make_write(struct gen_op *g, struct rng *rng, const struct gen_scope *sc)
{
	uint32_t len = pick_len(rng, sc->io_max_bytes);
	uint8_t *p;

	g->op.opcode = PST_OP_WRITE;
	g->op.oid = pick_oid(rng, sc);
	g->op.len = len;
	g->op.off = pick_off(rng, sc->span_bytes, len);
	reserve(g, len);
	p = take(g, len);
	fill(rng, p, len);
	split_iov(g, rng, p, len);
}

static void make_cond(struct gen_op *g, struct rng *rng, struct pst_mut *mut, unsigned i)
{
	static const uint8_t kinds[] = {PST_IF_KEY_ABSENT, PST_IF_KEY_PRESENT, PST_IF_NO_KEYS,
	                                PST_IF_LABEL_EQ,   PST_IF_OBJ_ABSENT,  PST_IF_OBJ_PRESENT,
	                                PST_IF_SIZE_EQ};

	mut->kind = kinds[rng_below(rng, ARRAY_LEN(kinds))];
	mut->err = -(int)(70 + i);
	pick_key(g, rng, mut, i);
	if (mut->kind == PST_IF_SIZE_EQ)
		mut->off = 0;
}

static void make_change(struct gen_op *g, struct rng *rng, const struct gen_scope *sc,
                        struct pst_mut *mut, unsigned i)
{
	uint64_t roll = rng_below(rng, 24 + 8 * sc->delete_weight);
	uint32_t len;

	if (roll < 8) {
		mut->kind = PST_KV_PUT;
		pick_key(g, rng, mut, i);
		len = rng_below(rng, 10) ? (uint32_t)rng_below(rng, 100)
		                         : (uint32_t)rng_below(rng, sc->value_max);
		mut->val_len = len;
		mut->val = take(g, len);
		fill(rng, (uint8_t *)(uintptr_t)mut->val, len);
	} else if (roll < 14) {
		mut->kind = roll < 12 ? PST_ARRAY_WRITE : PST_ARRAY_APPEND;
		len = pick_len(rng, MIN(sc->io_max_bytes, 32768u));
		mut->off = pick_off(rng, sc->span_bytes, len);
		mut->len = mut->val_len = len;
		mut->val = take(g, len);
		fill(rng, (uint8_t *)(uintptr_t)mut->val, len);
	} else if (roll < 17) {
		mut->kind = PST_ARRAY_PUNCH;
		mut->len = pick_len(rng, (uint32_t)MIN(sc->span_bytes, 1u << 20));
		mut->off = pick_off(rng, sc->span_bytes, (uint32_t)mut->len);
	} else if (roll < 20) {
		mut->kind = PST_ARRAY_RESIZE;
		mut->off = rng_below(rng, sc->span_bytes);
	} else if (roll < 22) {
		mut->kind = PST_SET_LABEL;
		mut->val_len = (uint32_t)rng_below(rng, PST_LABEL_MAX + 1);
		fill(rng, g->label[i], mut->val_len);
		mut->val = g->label[i];
	} else if (roll < 24) {
		mut->kind = PST_SET_MTIME;
		mut->off = rng_next(rng) >> 2;
	} else {
		mut->kind = roll % 2 ? PST_KV_DEL : PST_OBJ_DELETE;
		pick_key(g, rng, mut, i);
	}
}

static void make_batch(struct gen_op *g, struct rng *rng, const struct gen_scope *sc)
{
	unsigned count = 1 + (unsigned)rng_below(rng, GEN_MUTS_MAX - 1);
	unsigned conds = rng_below(rng, 3) ? 0 : (unsigned)rng_below(rng, 2);

	g->op.opcode = PST_OP_BATCH;
	g->op.muts = g->muts;
	g->op.mut_count = count;
	reserve(g, GEN_MUTS_MAX * (size_t)MAX(32768u, sc->value_max));
	for (unsigned i = 0; i < count; i++) {
		g->muts[i].oid = pick_oid(rng, sc);
		if (i < conds)
			make_cond(g, rng, &g->muts[i], i);
		else
			make_change(g, rng, sc, &g->muts[i], i);
	}
}

static bool on_entry(struct pst_op *op, const struct pst_entry *e)
{
	struct gen_op *g = container_of(op, struct gen_op, op);
	uint32_t c = crc32c(0, e->name, e->name_len);

	if (e->val_len)
		c = crc32c(c, e->val, e->val_len);
	g->list_hash = hash_u64(g->list_hash ^ c ^ ((uint64_t)e->val_len << 32));
	return ++g->list_count < g->list_limit;
}

static void make_kv_look(struct gen_op *g, struct rng *rng, const struct gen_scope *sc)
{
	struct pst_mut tmp = {0};

	pick_key(g, rng, &tmp, 0);
	g->op.oid = pick_oid(rng, sc);
	g->op.key = tmp.key;
	g->op.key_len = tmp.key_len;
	if (rng_below(rng, 2)) {
		g->op.opcode = PST_OP_KV_GET;
		reserve(g, PST_VALUE_MAX);
		g->op.val = g->data;
		g->op.val_cap = PST_VALUE_MAX;
		return;
	}
	g->op.opcode = PST_OP_KV_LIST;
	g->op.key_len = (uint32_t)rng_below(rng, tmp.key_len);
	g->op.want_values = rng_below(rng, 2);
	g->op.entry = on_entry;
	g->list_limit = 1 + rng_below(rng, 40);
}

static void make_look(struct gen_op *g, struct rng *rng, const struct gen_scope *sc)
{
	if (sc->view_count && !rng_below(rng, 3))
		g->op.view = sc->views[rng_below(rng, sc->view_count)];
	switch (rng_below(rng, 5)) {
	case 0:
		make_kv_look(g, rng, sc);
		break;
	case 1:
		g->op.opcode = PST_OP_STAT;
		g->op.oid = pick_oid(rng, sc);
		g->op.stat = &g->stat;
		break;
	default:
		g->op.opcode = PST_OP_READ;
		g->op.oid = pick_oid(rng, sc);
		g->op.len = pick_len(rng, sc->io_max_bytes);
		g->op.off = pick_off(rng, sc->span_bytes, (uint32_t)g->op.len);
		reserve(g, g->op.len);
		split_iov(g, rng, take(g, g->op.len), (uint32_t)g->op.len);
		break;
	}
}

struct gen_op *gen_op_new(struct rng *rng, const struct gen_scope *sc)
{
	struct gen_op *g = calloc(1, sizeof(*g));

	pst_assert(g);
	g->op.cont = sc->cont;
	if (rng_below(rng, 100) < sc->read_percent) {
		make_look(g, rng, sc);
		return g;
	}
	if (rng_below(rng, 2))
		make_write(g, rng, sc);
	else
		make_batch(g, rng, sc);
	if (sc->volatile_ok && rng_below(rng, 3) == 0)
		g->op.flags |= PST_F_VOLATILE;
	return g;
}

void gen_op_free(struct gen_op *g)
{
	if (!g)
		return;
	free(g->data);
	free(g);
}

bool gen_op_mutates(const struct gen_op *g)
{
	return g->op.opcode == PST_OP_WRITE || g->op.opcode == PST_OP_BATCH;
}

bool gen_op_frees_only(const struct gen_op *g)
{
	if (g->op.opcode != PST_OP_BATCH)
		return false;
	for (uint32_t i = 0; i < g->op.mut_count; i++) {
		if (g->muts[i].kind >= PST_KV_PUT && g->muts[i].kind != PST_KV_DEL &&
		    g->muts[i].kind != PST_OBJ_DELETE)
			return false;
	}
	return true;
}

uint64_t gen_op_bytes_max(const struct gen_op *g)
{
	uint64_t sum = 0;

	if (g->op.opcode == PST_OP_WRITE)
		return g->op.len + 2 * MODEL_BLOCK;
	for (uint32_t i = 0; i < g->op.mut_count; i++) {
		if (g->muts[i].kind == PST_ARRAY_WRITE || g->muts[i].kind == PST_ARRAY_APPEND)
			sum += g->muts[i].len + 2 * MODEL_BLOCK;
		if (g->muts[i].kind == PST_KV_PUT) /* a large value is not in the index */
			sum += g->muts[i].val_len + MODEL_BLOCK;
	}
	return sum;
}

void gen_op_rewind(struct gen_op *g)
{
	g->list_hash = g->list_count = 0;
	g->op.ret_off = g->op.ret_len = 0;
}

/* --- the answer against the model --- */

static int differs(const struct gen_op *g, struct pst_err *err, const char *what, uint64_t got,
                   uint64_t want)
{
	char text[200];

	return err_set(err, -EUCLEAN, "%s: %s is %lld, should be %lld",
	               gen_op_text(g, text, sizeof(text)), what, (long long)got, (long long)want);
}

static int check_read(struct gen_op *g, struct gen_op *want, struct pst_err *err)
{
	if (memcmp(g->data, want->data, g->op.ret_len))
		for (uint64_t i = 0;; i++)
			if (g->data[i] != want->data[i])
				return differs(g, err, "a byte read", g->data[i], want->data[i]);
	return 0;
}

static int check_appends(struct gen_op *g, const struct gen_op *want, struct pst_err *err)
{
	if (g->op.ret_off != want->op.ret_off)
		return differs(g, err, "ret_off", g->op.ret_off, want->op.ret_off);
	for (uint32_t i = 0; i < g->op.mut_count; i++) {
		if (g->muts[i].kind == PST_ARRAY_APPEND && g->muts[i].off != want->muts[i].off)
			return differs(g, err, "an append's offset", g->muts[i].off,
			               want->muts[i].off);
	}
	return 0;
}

/* A twin of @g with memory of its own for what the model answers. */
static struct gen_op *twin(const struct gen_op *g)
{
	struct gen_op *t = malloc(sizeof(*t));
	uint8_t *at;

	pst_assert(t);
	*t = *g;
	t->list_hash = t->list_count = 0;
	if (g->op.muts)
		t->op.muts = t->muts;
	if (g->op.stat)
		t->op.stat = &t->stat;
	if (g->op.opcode != PST_OP_READ && g->op.opcode != PST_OP_KV_GET) {
		t->data = NULL;
		return t;
	}
	t->data = malloc(g->data_len);
	pst_assert(t->data);
	t->op.val = t->data;
	t->op.iov = t->iov;
	at = t->data;
	for (uint32_t i = 0; i < t->op.iov_count; i++) {
		t->iov[i].iov_base = at;
		at += t->iov[i].iov_len;
	}
	return t;
}

static int check_outputs(struct gen_op *g, struct gen_op *want, struct pst_err *err)
{
	switch (g->op.opcode) {
	case PST_OP_READ:
	case PST_OP_KV_GET:
		if (g->op.ret_len != want->op.ret_len)
			return differs(g, err, "ret_len", g->op.ret_len, want->op.ret_len);
		return check_read(g, want, err);
	case PST_OP_KV_LIST:
		if (g->list_count != want->list_count)
			return differs(g, err, "entries", g->list_count, want->list_count);
		if (g->list_hash != want->list_hash)
			return differs(g, err, "the entries' hash", g->list_hash, want->list_hash);
		return 0;
	case PST_OP_STAT:
		if (g->stat.exists != want->stat.exists)
			return differs(g, err, "existence", g->stat.exists, want->stat.exists);
		if (g->stat.size_bytes != want->stat.size_bytes)
			return differs(g, err, "size", g->stat.size_bytes, want->stat.size_bytes);
		return 0;
	case PST_OP_WRITE:
		if (g->op.ret_len != g->op.len)
			return differs(g, err, "ret_len", g->op.ret_len, g->op.len);
		return 0;
	default:
		return check_appends(g, want, err);
	}
}

int gen_op_check(struct gen_op *g, struct model *m, uint64_t now_ns, struct pst_err *err)
{
	struct gen_op *want = twin(g);
	int r = 0;

	model_apply(m, &want->op, now_ns);
	if (g->op.status != want->op.status)
		r = differs(g, err, "status", (uint64_t)g->op.status, (uint64_t)want->op.status);
	else if (g->op.status && g->op.opcode == PST_OP_BATCH &&
	         g->op.ret_index != want->op.ret_index)
		r = differs(g, err, "ret_index", g->op.ret_index, want->op.ret_index);
	else if (!g->op.status)
		r = check_outputs(g, want, err);
	free(want->data);
	free(want);
	return r;
}

uint64_t gen_op_hash(const struct gen_op *g)
{
	uint64_t h = hash_u64(g->op.opcode + ((uint64_t)(uint32_t)g->op.status << 8));

	h = hash_u64(h ^ g->op.oid.lo ^ g->op.off);
	h = hash_u64(h ^ g->op.ret_len);
	return hash_u64(h ^ g->op.ret_off ^ g->list_hash);
}

const char *gen_op_text(const struct gen_op *g, char *buf, size_t buf_len)
{
	static const char *const names[] = {
	        [PST_OP_READ] = "READ", [PST_OP_WRITE] = "WRITE",   [PST_OP_BATCH] = "BATCH",
	        [PST_OP_STAT] = "STAT", [PST_OP_KV_GET] = "KV_GET", [PST_OP_KV_LIST] = "KV_LIST"};
	const struct pst_op *op = &g->op;
	int n = snprintf(buf, buf_len, "%s%s cont %u view %llu object %llx.%llx off %llu len %llu",
	                 names[op->opcode], op->flags & PST_F_VOLATILE ? " volatile" : "", op->cont,
	                 (unsigned long long)op->view, (unsigned long long)op->oid.hi,
	                 (unsigned long long)op->oid.lo, (unsigned long long)op->off,
	                 (unsigned long long)op->len);

	for (uint32_t i = 0; i < op->mut_count && n > 0 && (size_t)n < buf_len; i++)
		n += snprintf(buf + n, buf_len - (size_t)n, " [%u %llx.%llx %llu+%llu]",
		              op->muts[i].kind, (unsigned long long)op->muts[i].oid.hi,
		              (unsigned long long)op->muts[i].oid.lo,
		              (unsigned long long)op->muts[i].off,
		              (unsigned long long)op->muts[i].len);
	return buf;
}
