/* SPDX-License-Identifier: BSD-3-Clause */
#include "eng_util.h"

static char log_text[64 * 1024];
static size_t log_len;

static void keep_line(void *arg, enum pst_log_level level, const char *line)
{
	size_t n = strlen(line);

	if (log_len + n + 2 > sizeof(log_text))
		log_len = 0;
	memcpy(log_text + log_len, line, n);
	log_text[log_len + n] = '\n';
	log_text[log_len + n + 1] = 0;
	log_len += n + 1;
}

bool eng_logged(const char *part)
{
	return strstr(log_text, part) != NULL;
}

void eng_log_clear(void)
{
	log_text[log_len = 0] = 0;
}

/* --- devices --- */

/* A case that failed has left its devices behind: each one has names of its own. */
static unsigned generation;

static void dev_name(unsigned i, char name[32])
{
	(void)snprintf(name, 32, "eng%u.%u", generation, i);
}

void eng_open_devs(struct eng *e)
{
	for (unsigned i = 0; i < e->devs; i++) {
		char spec[128], name[32];

		dev_name(i, name);
		if (e->plain)
			(void)snprintf(spec, sizeof(spec), "mem:%llu?name=%s",
			               (unsigned long long)e->dev_bytes, name);
		else
			(void)snprintf(spec, sizeof(spec), "fault:mem:%llu?name=%s&seed=%llu",
			               (unsigned long long)e->dev_bytes, name,
			               (unsigned long long)(e->seed + i));
		if (bdev_open(&e->dev[i], spec, e->loop, NULL, &e->err))
			fail_msg("%s: %s", spec, e->err.text);
	}
}

void eng_close_devs(struct eng *e)
{
	for (unsigned i = 0; i < e->devs; i++) {
		bdev_close(e->dev[i]);
		e->dev[i] = NULL;
	}
}

void eng_fail_at(struct eng *e, uint32_t ops_mask, uint64_t n, int status)
{
	for (unsigned i = 0; i < e->devs; i++)
		fault_fail_at(e->dev[i], ops_mask, n, status);
}

static struct bdev *raw(struct eng *e, unsigned dev)
{
	struct bdev *b = NULL;
	char spec[96], name[32];

	assert_null(e->dev[dev]);
	dev_name(dev, name);
	(void)snprintf(spec, sizeof(spec), "mem:%llu?name=%s", (unsigned long long)e->dev_bytes,
	               name);
	assert_int_equal(bdev_open(&b, spec, e->loop, NULL, &e->err), 0);
	return b;
}

void eng_peek(struct eng *e, unsigned dev, uint64_t block, void *buf, uint32_t blocks)
{
	struct bdev *b = raw(e, dev);

	assert_int_equal(bdev_read_sync(b, block * BB, buf, (size_t)blocks * BB), 0);
	bdev_close(b);
}

void eng_poke(struct eng *e, unsigned dev, uint64_t block, const void *buf, uint32_t blocks)
{
	struct bdev *b = raw(e, dev);

	assert_int_equal(bdev_write_sync(b, block * BB, buf, (size_t)blocks * BB, 0), 0);
	bdev_close(b);
}

void eng_flip(struct eng *e, unsigned dev, uint64_t block, uint32_t bit)
{
	uint8_t buf[BB];

	eng_peek(e, dev, block, buf, 1);
	buf[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	eng_poke(e, dev, block, buf, 1);
}

/* --- the store's life --- */

void eng_start(struct eng *e)
{
	struct loop_opts lo;

	pst_log_set(keep_line, NULL, PST_LOG_WARN);
	eng_log_clear();
	ops_turns_max = 500000;
	e->devs = MAX(e->devs, 1);
	e->dev_bytes = e->dev_bytes ? e->dev_bytes : 32 * MIB;
	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = e->start_ns ? e->start_ns : NSEC_PER_SEC;
	assert_int_equal(loop_new(&e->loop, &lo, NULL), 0);
	generation++;
	eng_open_devs(e);
	if (local_format(e->dev, e->devs, &e->format, &e->err))
		fail_msg("format: %s", e->err.text);
	if (local_open(&e->store, e->loop, e->dev, e->devs, &e->opts, &e->err))
		fail_msg("open: %s", e->err.text);
}

int eng_try_open(struct eng *e)
{
	int r;

	eng_open_devs(e);
	r = local_open(&e->store, e->loop, e->dev, e->devs, &e->opts, &e->err);
	if (r) {
		e->store = NULL;
		eng_close_devs(e);
	}
	return r;
}

void eng_open(struct eng *e)
{
	if (eng_try_open(e))
		fail_msg("open: %s", e->err.text);
}

int eng_close(struct eng *e)
{
	int r = store_close(e->store);

	e->store = NULL;
	memset(e->dev, 0, sizeof(e->dev));
	return r;
}

void eng_drop(struct eng *e)
{
	if (e->store)
		local_crash(e->store);
	e->store = NULL;
	if (e->dev[0])
		eng_close_devs(e);
}

void eng_cut(struct eng *e)
{
	for (unsigned i = 0; i < e->devs; i++)
		fault_cut(e->dev[i]);
	eng_drop(e);
}

void eng_reopen(struct eng *e)
{
	assert_int_equal(eng_close(e), 0);
	eng_open(e);
}

void eng_end(struct eng *e)
{
	eng_drop(e);
	loop_free(e->loop);
	for (unsigned i = 0; i < e->devs; i++) {
		char name[32];

		dev_name(i, name);
		(void)bdev_mem_forget(name);
	}
}

struct local *eng_local(struct eng *e)
{
	return local_of(e->store);
}

void eng_settle(struct eng *e)
{
	uint64_t until = loop_now(e->loop) + 200 * NSEC_PER_MSEC;

	for (unsigned i = 0; loop_now(e->loop) < until; i++) {
		assert_true(i < ops_turns_max);
		(void)loop_turn(e->loop, NSEC_PER_MSEC);
	}
}

static void ckpt_ended(struct log_wait *w, int status)
{
}

void eng_checkpoint(struct eng *e)
{
	struct local *l = eng_local(e);

	for (unsigned i = 0; i < l->geo.shards; i++) {
		struct log_wait w = {.durable = ckpt_ended};
		struct shard *s = l->shard[i];
		uint64_t turns = 0;

		/* One that is under way has frozen already: it is the next that counts. */
		for (unsigned k = s->ckpt.state == CKPT_IDLE; k < 2; k++) {
			list_push(&s->ckpt.waiters, &w.link);
			ckpt_want(s);
			while (!list_empty(&s->ckpt.waiters) && !l->stopped) {
				assert_true(++turns < ops_turns_max);
				(void)loop_turn(e->loop, NSEC_PER_MSEC);
			}
		}
	}
}

/* --- ops --- */

static void ended(struct pst_op *op)
{
	container_of(op, struct eng_op, op)->ended = true;
}

void eng_submit(struct eng *e, struct eng_op *o)
{
	uint64_t turns = 0;

	o->ended = false;
	o->op.done = ended;
	while ((o->out = store_submit(e->store, &o->op)) == PST_BUSY) {
		assert_true(++turns < ops_turns_max);
		(void)loop_turn(e->loop, NSEC_PER_MSEC);
	}
	if (o->out == PST_DONE)
		o->ended = true;
}

int eng_wait(struct eng *e, struct eng_op *o)
{
	for (uint64_t turns = 0; !o->ended; turns++) {
		assert_true(turns < ops_turns_max);
		(void)loop_turn(e->loop, NSEC_PER_MSEC);
	}
	return o->op.status;
}

static void io_op(struct eng_op *o, uint8_t opcode, uint32_t cont, struct pst_oid oid, uint64_t off,
                  void *buf, size_t len)
{
	memset(o, 0, sizeof(*o));
	o->iov = (struct iovec){buf, len};
	o->op = (struct pst_op){.opcode = opcode,
	                        .cont = cont,
	                        .oid = oid,
	                        .off = off,
	                        .len = len,
	                        .iov = &o->iov,
	                        .iov_count = 1};
}

void eng_write_op(struct eng_op *o, uint32_t cont, struct pst_oid oid, uint64_t off, void *buf,
                  size_t len, uint32_t flags)
{
	io_op(o, PST_OP_WRITE, cont, oid, off, buf, len);
	o->op.flags = flags;
}

void eng_read_op(struct eng_op *o, uint32_t cont, uint64_t view, struct pst_oid oid, uint64_t off,
                 void *buf, size_t len)
{
	io_op(o, PST_OP_READ, cont, oid, off, buf, len);
	o->op.view = view;
}

void eng_fill(void *buf, size_t len, uint64_t tag)
{
	uint8_t *p = buf;
	uint64_t v = 0;

	for (size_t i = 0; i < len; i++) {
		if (i % 8 == 0)
			v = hash_u64(tag * 0x9e3779b97f4a7c15ull + i + 1);
		p[i] = (uint8_t)(v >> (i % 8 * 8));
	}
}

int eng_put(struct eng *e, uint32_t cont, struct pst_oid oid, uint64_t off, size_t len,
            uint64_t tag)
{
	uint8_t *buf = malloc(len);
	int r;

	assert_non_null(buf);
	eng_fill(buf, len, tag);
	r = ops_write(e->store, cont, oid, off, buf, len);
	free(buf);
	return r;
}

int eng_expect(struct eng *e, uint32_t cont, uint64_t view, struct pst_oid oid, uint64_t off,
               size_t len, uint64_t tag)
{
	uint8_t *got = malloc(len), *want = malloc(len);
	uint64_t n = 0;
	int r;

	assert_non_null(got);
	assert_non_null(want);
	r = ops_read(e->store, cont, view, oid, off, got, len, &n);
	if (!r) {
		eng_fill(want, len, tag);
		assert_int_equal(n, len);
		assert_memory_equal(got, want, len);
	}
	free(got);
	free(want);
	return r;
}

static void status_of(struct eng *e, struct pst_store_status *st)
{
	struct pst_op op = {.opcode = PST_OP_STATUS, .status_out = st};

	assert_int_equal(ops_run(e->store, &op), 0);
}

uint64_t eng_free_bytes(struct eng *e)
{
	struct pst_store_status *st = malloc(sizeof(*st));
	uint64_t n;

	assert_non_null(st);
	status_of(e, st);
	n = st->free_bytes;
	free(st);
	return n;
}

bool eng_stopped(struct eng *e, char *why, size_t len)
{
	struct pst_store_status *st = malloc(sizeof(*st));
	bool stopped;

	assert_non_null(st);
	status_of(e, st);
	stopped = st->stopped;
	if (why)
		(void)snprintf(why, len, "%s", st->stopped_why);
	free(st);
	return stopped;
}
