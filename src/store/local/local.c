/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * local - the engine as a store: ops come in, are dispatched and complete; the poller drives what goes
 * on behind them. stall.c has those that wait.
 */
#include <stdio.h>
#include <unistd.h>

#include "store/local/engine.h"
#include "store/local/stall.h"

/* --- requests --- */

int req_error(const struct local *l)
{
	return l->reqs > reqs_max(l) ? -EAGAIN : -ENOMEM;
}

void *req_new(struct local *l)
{
	void *r = mem_alloc_aligned(64, REQ_BYTES);

	if (r)
		l->reqs++;
	return r;
}

/* --- FLUSH --- */

struct flush_state { /* in op->priv, after op_state */
	unsigned
	        shard; /* the next to wait for: what came to those before it is no business of this one */
};

static struct flush_state *flush_state(struct pst_op *op)
{
	return (struct flush_state *)((uint8_t *)op->priv + sizeof(struct op_state));
}

static enum pst_outcome flush_try(struct shard *s, struct pst_op *op);

static void flush_next(struct log_wait *w, int status)
{
	struct op_state *st = container_of(w, struct op_state, wait);
	struct pst_op *op = container_of((uint64_t *)st, struct pst_op, priv[0]);
	struct local *l = st->shard->l;

	if (status)
		op_done(l, op, status);
	else
		op_again(st->shard, op, flush_try);
}

static enum pst_outcome flush_try(struct shard *s, struct pst_op *op)
{
	struct local *l = s->l;
	struct op_state *st = op_state(op);

	if (op->cont)
		return op_committed(s, op, s->log.last_record);
	while (flush_state(op)->shard < l->owned) {
		struct shard *next = l->own[flush_state(op)->shard++];

		st->wait.durable = flush_next;
		if (log_wait(next, next->log.last_record, &st->wait) != 1)
			return PST_QUEUED;
	}
	return op_fail(op, 0);
}

/* Of shard @s, or of all. */
static bool nothing_to_flush(const struct local *l, const struct shard *s)
{
	for (unsigned i = 0; i < l->owned; i++)
		if ((!s || l->own[i] == s) && l->own[i]->log.last_record > l->own[i]->log.durable)
			return false;
	return !l->stopped;
}

/* It never stands in a shard's line (op_run()): what waits there has not been done, so that it is none
 * of a flush's business, and might wait for long. */
enum pst_outcome flush_submit(struct local *l, struct pst_op *op)
{
	struct shard *s = op->cont ? shard_of_cont(l, op->cont) : l->own[0];

	if (!s)
		return op_fail(op, -ENOENT);
	if (l->opts.read_only) /* there is nothing that could be lost */
		return op_fail(op, 0);
	if (nothing_to_flush(l, op->cont ? s : NULL)) /* however many ops there are */
		return op_fail(op, 0);
	flush_state(op)->shard = 0;
	return op_run(s, op, flush_try);
}

/* --- the store interface --- */

/* Out of line: what it needs would be saved and restored by every read. */
static __attribute__((noinline)) enum pst_outcome any_submit(struct local *l, struct pst_op *op)
{
	if (op->deadline_ns && loop_now(l->store.loop) > op->deadline_ns)
		return op_fail(op, -ETIMEDOUT);
	switch (op->opcode) {
	case PST_OP_READ:
		return read_submit(l, op);
	case PST_OP_WRITE:
	case PST_OP_BATCH:
		return write_submit(l, op);
	case PST_OP_KV_GET:
		return kv_get_submit(l, op);
	case PST_OP_KV_LIST:
	case PST_OP_OBJ_LIST:
		return list_submit(l, op);
	case PST_OP_STAT:
	case PST_OP_EXTENTS:
		return stat_submit(l, op);
	case PST_OP_FLUSH:
		return flush_submit(l, op);
	case PST_OP_STATUS:
		status_fill(l, op->status_out);
		return op_fail(op, 0);
	case PST_OP_SCRUB:
		return scrub_submit(l, op);
	case PST_OP_SESSION_CLOSE:
		return session_close_submit(l, op);
	}
	if (op->opcode >= PST_OP_CONT_CREATE && op->opcode <= PST_OP_SNAP_DESTROY)
		return cont_submit(l, op);
	return op_fail(op, -ENOTSUP);
}

static enum pst_outcome local_submit(struct store *store, struct pst_op *op)
{
	struct local *l = local_of(store);

	loop_assert(store->loop);
	l->stat.ops++;
	if (likely(op->opcode == PST_OP_READ && !op->deadline_ns))
		return read_submit(l, op);
	return any_submit(l, op);
}

/* Only what waits for its turn can still be stopped: the rest is on its way to the device. */
static void local_cancel(struct store *store, struct pst_op *op)
{
	struct local *l = local_of(store);

	if (scrub_cancel(l, op))
		return;
	for (unsigned i = 0; i < l->owned; i++)
		if (stalled_cancel(l->own[i], op))
			return;
}

/* --- behind the ops --- */

void local_stop(struct local *l, int status, const char *fmt, ...)
{
	va_list ap;

	if (l->stopped)
		return;
	l->stopped = true;
	l->stop_status = status == -EREMOTEIO ? status : -EIO;
	va_start(ap, fmt);
	(void)vsnprintf(l->stop_why, sizeof(l->stop_why) - 64, fmt, ap);
	va_end(ap);
	(void)snprintf(l->stop_why + strlen(l->stop_why), 64, ": %s", strerror(-status));
	log_error("the store has stopped: %s; close it and open it again", l->stop_why);
	if (l->crew)
		crew_stop(l);
}

void local_stop_too(struct local *l, int status, const char *why)
{
	if (l->stopped)
		return;
	l->stopped = true;
	l->stop_status = status;
	(void)snprintf(l->stop_why, sizeof(l->stop_why), "%s", why);
}

/* Everybody who waits for what will not happen is told, from the loop's turn. */
void local_stop_tell(struct local *l, int status)
{
	l->stop_told = true;
	for (unsigned i = 0; i < l->owned; i++) {
		struct shard *s = l->own[i];
		struct list *n;

		log_fail_waiters(s, status);
		while ((n = list_pop(&s->ckpt.waiters)) != NULL) {
			struct log_wait *w = list_entry(n, struct log_wait, link);

			w->durable(w, status);
		}
	}
}

static void index_measure(struct local *l)
{
	uint64_t bytes = l->index_others_bytes;

	for (unsigned i = 0; i < l->owned; i++)
		bytes += bt_env_used(&l->own[i]->env);
	l->index_full = l->opts.index_limit_bytes && bytes > l->opts.index_limit_bytes;
}

int local_poll(struct loop_poller *p)
{
	struct local *l = container_of(p, struct local, poller);
	int did = 0;

	if (l->stopped) {
		if (!l->stop_told)
			local_stop_tell(l, l->stop_status);
		if (!list_empty(&l->scrubs))
			scrub_end_all(l, l->stop_status);
		/* What only reads goes on. A mutator may come back from the device at any time. */
		for (unsigned i = 0; i < l->owned; i++) {
			did += stalled_sweep(l->own[i]);
			did += stalled_retry(l->own[i]);
		}
		return did;
	}
	if (!list_empty(&l->scrubs))
		scrub_step(l);
	if (l->opts.read_only) { /* what recovery brought back stays in DRAM */
		for (unsigned i = 0; i < l->owned; i++)
			did += stalled_retry(l->own[i]);
		return did;
	}
	if (l->geo.shards > 1)
		index_measure(l);
	/* What comes until the next turn is looked at one by one when this is so. */
	l->index_near = !space_index_fits(l, 2 + l->owned);
	if (!list_empty(&l->dying))
		cont_reap_dying(l);
	for (unsigned i = 0; i < l->owned; i++) {
		struct shard *s = l->own[i];

		if (s->space.data.count) {
			if (s->readers[s->read_epoch % READ_EPOCHS])
				reader_turn(s);
			space_reap(s);
		}
		did += stalled_retry(s);
		if (ckpt_due(s))
			ckpt_want(s);
		ckpt_step(s);
		jrnl_apply_step(s);
		did += log_step(s);
	}
	return did;
}

bool local_may_sleep(struct loop_poller *p)
{
	struct local *l = container_of(p, struct local, poller);

	return !l->stopped || l->stop_told;
}

uint32_t reader_turn(struct shard *s)
{
	uint32_t was = s->read_epoch;

	if (!s->readers[(was + 1) % READ_EPOCHS])
		s->read_epoch++;
	return was;
}

bool reader_drained(struct shard *s, uint32_t epoch)
{
	while (s->read_oldest < s->read_epoch && !s->readers[s->read_oldest % READ_EPOCHS])
		s->read_oldest++;
	/* The newest epoch may be empty too. */
	return epoch < s->read_oldest ||
	       (s->read_oldest == s->read_epoch && !s->readers[s->read_epoch % READ_EPOCHS]);
}

/* --- shards --- */

static void env_release(struct bt_env *env, uint64_t addr)
{
	space_free_meta(container_of(env, struct shard, env), addr);
}

struct shard *shard_new(struct local *l, unsigned id)
{
	struct shard *s = mem_calloc(1, sizeof(*s));
	uint64_t n = l->geo.shards;

	if (!s)
		return NULL;
	s->l = l;
	s->id = id;
	list_init(&s->conts);
	list_init(&s->rlocks);
	list_init(&s->stalled);
	list_init(&s->held);
	list_init(&s->jrnl.dirty);
	list_init(&s->csum.clock);
	list_init(&s->csum.to_write);
	list_init(&s->ckpt.waiters);
	s->read_epoch = s->read_oldest = 1;
	s->env.release = env_release;
	s->env.limit_bytes = l->opts.index_limit_bytes;
	s->env.shard = id;
	memcpy(s->env.store_id, l->super.store_uuid, sizeof(s->env.store_id));
	s->sys.env = &s->env;
	space_init(s);
	s->map_version = 1;
	s->head_cache = mem_calloc(HEAD_CACHE, sizeof(*s->head_cache));
	if (!s->head_cache || bt_env_init(&s->env)) {
		mem_free(s->head_cache);
		mem_free(s);
		return NULL;
	}
	if (csum_init(s, l->opts.csum_cache_bytes / n / sizeof(struct csum_page)) ||
	    jrnl_init(s, MIN(l->opts.journal_cache_bytes / n / BLOCK_BYTES, l->geo.log_blocks),
	              l->opts.journal_ahead) ||
	    log_init(s) || ckpt_init(s)) {
		shard_free(s);
		return NULL;
	}
	return s;
}

void shard_free(struct shard *s)
{
	if (!s)
		return;
	ckpt_done(s);
	log_done(s);
	while (!list_empty(&s->conts))
		cont_free(s, list_first(&s->conts, struct cont, link));
	bt_drop(&s->sys);
	jrnl_done(s);
	csum_done(s);
	space_done(s);
	bt_env_done(&s->env);
	for (unsigned i = 0; i < HEAD_CACHE; i++)
		mem_free(s->head_cache[i].index);
	mem_free(s->head_cache);
	mem_free(s);
}

void local_shards_note(struct local *l)
{
	l->owned = 0;
	for (unsigned i = 0; i < l->geo.shards; i++)
		if (l->shard[i])
			l->own[l->owned++] = l->shard[i];
}

/* --- opening and closing --- */

void local_uuid(struct local *l, uint8_t uuid[16])
{
	/* Only names something for people: drawn from time and the store's own identity, so that a
	 * simulation repeats itself. */
	struct rng r;
	uint64_t a, b;

	rng_seed(&r, loop_real_now(l->store.loop) ^ ((uint64_t)l->next_cont << 40) ^
	                     le64_get(l->super.log_id));
	a = rng_next(&r);
	b = rng_next(&r);
	memcpy(uuid, &a, 8);
	memcpy(uuid + 8, &b, 8);
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

/* Frees all memory; devices stay open. */
void local_free(struct local *l)
{
	for (unsigned i = 0; i < l->geo.shards; i++)
		shard_free(l->shard[i]);
	cont_names_done(l);
	spares_free(l);
	while (l->sub_free) {
		struct sub_io *s = l->sub_free;

		l->sub_free = s->next;
		mem_free(s);
	}
	while (l->req_free) {
		void **r = l->req_free;

		l->req_free = *r;
		mem_free(r);
	}
	mem_free(l->region);
	mem_free(l);
}

bool io_inflight(const struct local *l)
{
	for (unsigned i = 0; i < l->geo.devs; i++)
		if (l->dev[i]->inflight)
			return true;
	return false;
}

void local_detach(struct local *l)
{
	loop_poller_del(l->store.loop, &l->poller);
	loop_timer_disarm(l->store.loop, &l->stall_timer);
	for (unsigned i = 0; i < l->owned; i++)
		loop_timer_disarm(l->store.loop, &l->own[i]->log.timer);
}

static void closed(struct log_wait *w, int status)
{
}

/* A last checkpoint of each shard, so that the next open has nothing to replay. */
static int checkpoint_all(struct local *l)
{
	struct log_wait w[SHARDS_MAX] = {0};

	for (unsigned i = 0; i < l->owned; i++) {
		struct shard *s = l->own[i];

		if (!ckpt_needed(s))
			continue;
		w[i].durable = closed;
		list_push(&s->ckpt.waiters, &w[i].link);
		ckpt_want(s);
	}
	return ckpt_wait_all(l);
}

static int local_close(struct store *store)
{
	struct local *l = local_of(store);
	struct bdev *dev[PST_DEVICES_MAX];
	unsigned n = l->geo.devs;
	int err = 0;

	pst_assert(l->ops == 0);
	l->closing = true;
	if (!l->stopped && !l->opts.read_only) {
		err = checkpoint_all(l);
		if (!err && l->mended) /* one under way may have been frozen before that */
			err = checkpoint_all(l);
	} else if (l->stopped) {
		err = l->stop_status;
	}
	l->stopped = l->stop_told = true;
	while (io_inflight(l))
		(void)loop_turn(store->loop, NSEC_PER_SEC);
	local_detach(l);
	memcpy(dev, l->dev, sizeof(dev));
	local_free(l);
	for (unsigned i = 0; i < n; i++)
		bdev_close(dev[i]);
	return err;
}

void local_abandon(struct local *l)
{
	local_detach(l);
	local_free(l);
}

void local_take_stat(struct local *l, const struct local *from)
{
	uint64_t *sum = (uint64_t *)(void *)&l->stat;

	/* All counters, but for which was refused last. */
	for (size_t i = 0; i < offsetof(__typeof__(l->stat), refused_last) / sizeof(*sum); i++)
		sum[i] += ((const uint64_t *)(const void *)&from->stat)[i];
}

void local_crash(struct store *store)
{
	struct local *l = local_of(store);

	if (local_is_crew(store)) {
		crew_crash(store);
		return;
	}
	l->stopped = l->closing = true;
	l->stop_status = -ESHUTDOWN;
	while (io_inflight(l))
		(void)loop_turn(store->loop, NSEC_PER_SEC);
	local_stop_tell(l, -ESHUTDOWN);
	while (l->ops)
		(void)loop_turn(store->loop, 0);
	local_abandon(l);
}

static const struct store_ops local_ops = {
        .name = "local",
        .submit = local_submit,
        .cancel = local_cancel,
        .close = local_close,
};

static void opts_fill(struct local_opts *o, const struct local_opts *in)
{
	if (in)
		*o = *in;
	if (!o->index_limit_bytes) {
		long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

		o->index_limit_bytes =
		        pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size / 4 : GIB;
	}
	if (!o->csum_cache_bytes)
		o->csum_cache_bytes = 64 * MIB;
	if (!o->journal_cache_bytes)
		o->journal_cache_bytes = 256 * MIB;
	if (!o->ops_max)
		o->ops_max = 1024;
	/* One is made durable while the next one gathers. With twelve, of which each went as soon as it had
	 * a few blocks, flushes waited for flushes: two thirds of the durable overwrites at depth 32, and
	 * twice the processor time for each. */
	if (!o->commits_max)
		o->commits_max = 2;
}

struct local *local_new(struct loop *loop, const struct local_opts *opts)
{
	struct local *l = mem_calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->store.ops = &local_ops;
	l->store.loop = loop;
	l->store.caps = PST_CAP_OBJECTS | PST_CAP_BATCH | PST_CAP_SNAPSHOTS | PST_CAP_REPLAY |
	                PST_CAP_SCRUB | PST_CAP_VOLATILE | PST_CAP_EXISTING;
	l->next_cont = 1;
	list_init(&l->names);
	list_init(&l->scrubs);
	list_init(&l->dying);
	l->stall_timer.fired = stall_tick;
	l->poller.poll = local_poll;
	l->poller.may_sleep = local_may_sleep;
	opts_fill(&l->opts, opts);
	return l;
}

int local_open(struct store **ret_store, struct loop *loop, struct bdev *const *devs,
               unsigned count, const struct local_opts *opts, struct pst_err *err)
{
	struct local *l = local_new(loop, opts);
	uint64_t start = clock_mono_ns();
	int r;

	if (!l)
		return err_set(err, -ENOMEM, "no memory to open the store");
	r = devices_identify(l, devs, count, err);
	if (!r)
		r = recover(l, err);
	if (r) {
		local_free(l);
		return r;
	}
	l->stat.recovery_ns = clock_mono_ns() - start;
	loop_poller_add(loop, &l->poller);
	*ret_store = &l->store;
	return 0;
}
