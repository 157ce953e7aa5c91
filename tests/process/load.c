/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * load - see load.h. A file lane's n-th op is three ops of the store (create, write, rename); it
 * has happened when the rename has. The file that it makes, f(n % LOAD_FILES), begins with n and
 * has a length and a pattern that follow from (lane, n).
 */
#include <stdio.h>

#include "load.h"

#define LOAD_OIDS    4
#define FILE_LEN_MAX 100000u
#define LOAD_CONT    1u /* of the oracle's models */
#define FILE_STEPS   4

static const char *const object_cont = "load";
static const char *const file_cont = "fsload";

static uint64_t mix(unsigned lane, uint64_t n)
{
	return hash_u64(n * 64 + lane + 1);
}

/* --- object lanes --- */

static struct gen_op *object_op(unsigned lane, uint64_t n, uint32_t cont, unsigned io_max,
                                bool remote)
{
	struct pst_oid oids[LOAD_OIDS];
	struct gen_scope scope = {.cont = cont,
	                          .oids = oids,
	                          .oid_count = LOAD_OIDS,
	                          .span_bytes = MIB,
	                          .io_max_bytes = io_max,
	                          .value_max = 6000,
	                          .volatile_ok = !remote,
	                          .delete_weight = 1};
	struct gen_op *g;
	struct rng rng;

	for (unsigned i = 0; i < LOAD_OIDS; i++)
		oids[i] = (struct pst_oid){.hi = lane + 1, .lo = i};
	rng_seed(&rng, mix(lane, n));
	g = gen_op_new(&rng, &scope);
	if (!remote)
		g->op.token = (struct pst_token){.session = lane + 1, .seq = n};
	return g;
}

/* --- file lanes --- */

static uint32_t file_len(unsigned lane, uint64_t n)
{
	uint64_t x = mix(lane, n);

	return (uint32_t)(8 + (x % 4 ? x % 9000 : x % (FILE_LEN_MAX - 8)));
}

static void file_fill(unsigned lane, uint64_t n, uint8_t *buf, uint32_t len)
{
	uint64_t x = mix(lane, n);

	memcpy(buf, &n, 8);
	for (uint32_t i = 8; i < len; i++, x = x * 6364136223846793005ull + 1)
		buf[i] = (uint8_t)(x >> 33);
}

struct file_work {
	char from[32], to[32];
	uint8_t *data;
	struct iovec iov;
	unsigned step;
	uint64_t ino;
};

/* --- lanes at work --- */

struct worker {
	struct pst_op op; /* file lanes */
	struct gen_op *gen;
	struct file_work file;
	unsigned index;
	uint64_t n;
	bool flying, ended;
};

struct crew {
	struct store *store;
	const struct load_opts *opts;
	uint32_t cont, files;
	struct worker lane[LOAD_LANES];
	unsigned flying;
};

static void on_done(struct pst_op *op)
{
	((struct worker *)op->user)->ended = true;
}

static struct pst_op *file_step(struct crew *c, struct worker *w)
{
	struct file_work *f = &w->file;
	uint32_t len = file_len(w->index, w->n);

	w->op = (struct pst_op){.cont = c->files};
	switch (f->step) {
	case 0: /* of a run that was killed */
		snprintf(f->from, sizeof(f->from), "/L%u/new", w->index);
		snprintf(f->to, sizeof(f->to), "/L%u/f%llu", w->index,
		         (unsigned long long)(w->n % LOAD_FILES));
		w->op.opcode = PST_OP_UNLINK;
		break;
	case 1:
		w->op.opcode = PST_OP_CREATE;
		w->op.flags = PST_F_EXCL;
		break;
	case 2:
		f->data = malloc(len);
		pst_assert(f->data);
		file_fill(w->index, w->n, f->data, len);
		f->iov = (struct iovec){f->data, len};
		w->op.opcode = PST_OP_FILE_WRITE;
		w->op.ino = f->ino;
		w->op.iov = &f->iov;
		w->op.iov_count = 1;
		w->op.len = len;
		return &w->op;
	default:
		w->op.opcode = PST_OP_RENAME;
		w->op.name2 = f->to;
		w->op.name2_len = (uint32_t)strlen(f->to);
		break;
	}
	w->op.name = f->from;
	w->op.name_len = (uint32_t)strlen(f->from);
	return &w->op;
}

static void worker_submit(struct crew *c, struct worker *w)
{
	struct pst_op *op;
	enum pst_outcome out;

	if (w->index < LOAD_OBJECT_LANES) {
		w->gen = object_op(w->index, w->n, c->cont, c->opts->io_max_bytes, c->opts->remote);
		op = &w->gen->op;
	} else {
		op = file_step(c, w);
	}
	op->user = w;
	op->done = on_done;
	w->ended = false;
	while ((out = store_submit(c->store, op)) == PST_BUSY)
		loop_turn(c->store->loop, NSEC_PER_MSEC);
	w->flying = true;
	c->flying++;
	if (out == PST_DONE)
		w->ended = true;
}

/* Statuses that make_cond() of gen.c asks for. */
static bool own_condition(int status)
{
	return status <= -70 && status > -70 - GEN_MUTS_MAX;
}

static void object_ended(struct crew *c, struct worker *w)
{
	int status = w->gen->op.status;
	bool durable = c->opts->remote || (!status && !(w->gen->op.flags & PST_F_VOLATILE));

	/* A failure changed nothing, and nothing is known to be durable by it (but what was before). */
	pst_assert(!status || own_condition(status));
	if (c->opts->acked)
		c->opts->acked(c->opts->arg, w->index, w->n, durable);
	gen_op_free(w->gen);
	w->gen = NULL;
	w->n++;
}

static void file_ended(struct crew *c, struct worker *w)
{
	struct file_work *f = &w->file;

	pst_assert(!w->op.status || (!f->step && w->op.status == -ENOENT));
	if (f->step == 1)
		f->ino = w->op.attr.ino;
	if (++f->step < FILE_STEPS)
		return;
	free(f->data);
	*f = (struct file_work){0};
	if (c->opts->acked)
		c->opts->acked(c->opts->arg, w->index, w->n, true);
	w->n++;
}

static bool works(const struct crew *c, unsigned lane)
{
	return !c->opts->lanes || (c->opts->lanes >> lane & 1);
}

static bool settle(struct crew *c, bool stopping)
{
	bool any = false;

	for (unsigned i = 0; i < LOAD_LANES; i++) {
		struct worker *w = &c->lane[i];

		if (w->flying && w->ended) {
			w->flying = false;
			c->flying--;
			any = true;
			if (i < LOAD_OBJECT_LANES)
				object_ended(c, w);
			else
				file_ended(c, w);
		}
		if (!w->flying && works(c, i) && (!stopping || w->file.step))
			worker_submit(c, w);
	}
	return any;
}

void load_run(struct store *s, const struct load_opts *opts)
{
	struct crew c = {.store = s, .opts = opts};
	bool stopping = false;

	pst_assert(!ops_cont_open(s, object_cont, &c.cont));
	pst_assert(!ops_cont_open(s, file_cont, &c.files));
	for (unsigned i = 0; i < LOAD_LANES; i++) {
		c.lane[i].index = i;
		c.lane[i].n = opts->next[i];
	}
	while (!stopping || c.flying) {
		stopping = stopping || opts->stop(opts->arg);
		if (!settle(&c, stopping))
			loop_turn(s->loop, NSEC_PER_MSEC);
	}
}

void load_setup(struct store *s)
{
	uint32_t id;
	int r = ops_cont_create(s, object_cont, NULL);

	pst_assert(!r || r == -EEXIST);
	r = ops_cont_create(s, file_cont, NULL);
	pst_assert(!r || r == -EEXIST);
	pst_assert(!ops_cont_open(s, file_cont, &id));
	for (unsigned i = LOAD_OBJECT_LANES; i < LOAD_LANES; i++) {
		char path[16];
		struct pst_op op = {.opcode = PST_OP_MKDIR, .cont = id, .name = path};

		op.name_len = (uint32_t)snprintf(path, sizeof(path), "/L%u", i);
		r = ops_run(s, &op);
		pst_assert(!r || r == -EEXIST);
	}
}

/* --- the oracle --- */

void load_oracle_init(struct load_oracle *o, unsigned io_max_bytes, bool remote)
{
	*o = (struct load_oracle){.io_max_bytes = io_max_bytes, .remote = remote};
	for (unsigned i = 0; i < LOAD_OBJECT_LANES; i++) {
		struct pst_cont_info info = {.id = LOAD_CONT};
		struct pst_op op = {.opcode = PST_OP_CONT_CREATE, .name = object_cont};

		op.name_len = (uint32_t)strlen(object_cont);
		op.cont_info = &info;
		o->model[i] = model_new(0);
		model_adopt_ids(o->model[i]);
		model_apply(o->model[i], &op, 0);
	}
}

void load_oracle_done(struct load_oracle *o)
{
	for (unsigned i = 0; i < LOAD_OBJECT_LANES; i++)
		model_free(o->model[i]);
}

/* Ops (@from, @to] of an object lane. */
static void advance(const struct load_oracle *o, struct model *m, unsigned lane, uint64_t from,
                    uint64_t to)
{
	for (uint64_t n = from + 1; n <= to; n++) {
		struct gen_op *g = object_op(lane, n, LOAD_CONT, o->io_max_bytes, o->remote);

		model_apply(m, &g->op, 0);
		gen_op_free(g);
	}
}

/* How far the replay records say that the lane is. */
static int ask(struct store *s, uint32_t cont, unsigned lane, const struct load_known *known,
               uint64_t *ret_n, struct pst_err *err)
{
	for (uint64_t n = known->top; n > known->floor; n--) {
		struct pst_op op = {.opcode = PST_OP_BATCH, .cont = cont};
		int r;

		op.token = (struct pst_token){.session = lane + 1, .seq = n};
		r = ops_run(s, &op);
		if (!r) {
			*ret_n = n;
			return 0;
		}
		if (r != -ENOENT)
			return err_set(err, -EUCLEAN, "lane %u: token %llu: error %d", lane,
			               (unsigned long long)n, r);
	}
	*ret_n = known->floor;
	return 0;
}

/* Is lane's work in the store what it is after op @n, at or after the oracle's? */
static int objects_at(struct store *s, const struct load_oracle *o, unsigned lane, uint32_t cont,
                      uint64_t n, struct pst_err *err)
{
	struct model *m = model_clone(o->model[lane]);
	int r = 0;

	advance(o, m, lane, o->n[lane], n);
	for (unsigned i = 0; !r && i < LOAD_OIDS; i++) {
		struct pst_oid oid = {.hi = lane + 1, .lo = i};

		r = model_diff_object_as(m, LOAD_CONT, s, cont, 0, oid, err);
	}
	model_free(m);
	return r;
}

static int verify_objects(struct store *s, struct load_oracle *o, unsigned lane, uint32_t cont,
                          const struct load_known *known, uint64_t *ret_n, struct pst_err *err)
{
	int r = 0;

	*ret_n = known->floor;
	if (!o->remote)
		r = ask(s, cont, lane, known, ret_n, err);
	if (r)
		return r;
	pst_assert(known->floor >= o->n[lane] && (!o->remote || known->top <= known->floor + 1));
	advance(o, o->model[lane], lane, o->n[lane], known->floor);
	o->n[lane] = known->floor;
	r = objects_at(s, o, lane, cont, *ret_n, err);
	if (r == -EUCLEAN && o->remote && known->top > known->floor) {
		*ret_n = known->top;
		r = objects_at(s, o, lane, cont, *ret_n, err);
	}
	return r ? err_prefix(err, r, "lane %u after op %llu (known: %llu to %llu)", lane,
	                      (unsigned long long)*ret_n, (unsigned long long)known->floor,
	                      (unsigned long long)known->top)
	         : 0;
}

/* Which op of the lane made what lies at @path; 0: it is not there. */
static int file_made_by(struct store *s, uint32_t cont, unsigned lane, const char *path,
                        uint64_t *ret_n, struct pst_err *err)
{
	static uint8_t got[FILE_LEN_MAX + 1], want[FILE_LEN_MAX];
	struct iovec iov = {got, sizeof(got)};
	struct pst_op op = {.opcode = PST_OP_FILE_READ, .cont = cont, .name = path};
	uint32_t len;
	int r;

	op.name_len = (uint32_t)strlen(path);
	op.len = sizeof(got);
	op.iov = &iov;
	op.iov_count = 1;
	r = ops_run(s, &op);
	*ret_n = 0;
	if (r == -ENOENT)
		return 0;
	if (r)
		return err_set(err, r, "%s: read: error %d", path, r);
	if (op.ret_len < 8)
		return err_set(err, -EUCLEAN, "%s: has %llu bytes", path,
		               (unsigned long long)op.ret_len);
	memcpy(ret_n, got, 8);
	len = file_len(lane, *ret_n);
	file_fill(lane, *ret_n, want, len);
	if (op.ret_len != len || memcmp(got, want, len))
		return err_set(err, -EUCLEAN, "%s: is not what op %llu wrote", path,
		               (unsigned long long)*ret_n);
	return 0;
}

static int verify_files(struct store *s, unsigned lane, uint32_t cont,
                        const struct load_known *known, uint64_t *ret_n, struct pst_err *err)
{
	uint64_t made[LOAD_FILES];

	*ret_n = known->floor;
	for (unsigned i = 0; i < LOAD_FILES; i++) {
		char path[32];
		int r;

		snprintf(path, sizeof(path), "/L%u/f%u", lane, i);
		r = file_made_by(s, cont, lane, path, &made[i], err);
		if (r)
			return r;
		*ret_n = MAX(*ret_n, made[i]);
	}
	if (*ret_n > known->top)
		return err_set(err, -EUCLEAN, "lane %u: op %llu was never sent", lane,
		               (unsigned long long)*ret_n);
	for (unsigned i = 0; i < LOAD_FILES; i++) {
		uint64_t back = (*ret_n + LOAD_FILES - i) % LOAD_FILES;
		uint64_t want = *ret_n > back ? *ret_n - back : 0;

		if (made[i] != want)
			return err_set(err, -EUCLEAN,
			               "lane %u after op %llu (known: %llu to %llu): /L%u/f%u is "
			               "of op %llu, should be of op %llu",
			               lane, (unsigned long long)*ret_n,
			               (unsigned long long)known->floor,
			               (unsigned long long)known->top, lane, i,
			               (unsigned long long)made[i], (unsigned long long)want);
	}
	return 0;
}

int load_verify(struct store *s, struct load_oracle *o, const struct load_known known[LOAD_LANES],
                uint64_t ret_n[LOAD_LANES], struct pst_err *err)
{
	uint32_t cont, files;
	int r = ops_cont_open(s, object_cont, &cont);

	if (!r)
		r = ops_cont_open(s, file_cont, &files);
	if (r)
		return err_set(err, r, "a container is not there: error %d", r);
	for (unsigned i = 0; i < LOAD_LANES; i++) {
		r = i < LOAD_OBJECT_LANES ? verify_objects(s, o, i, cont, &known[i], &ret_n[i], err)
		                          : verify_files(s, i, files, &known[i], &ret_n[i], err);
		if (r)
			return r;
	}
	return 0;
}
