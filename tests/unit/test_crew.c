/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A store parted among reactors: what one may not take for durable while another's flush is under way,
 * how one's failure stops all, containers that come and go under a name, lists that need several loads,
 * a scrub, and being opened by another number of reactors than before. The reactors share a loop here;
 * with threads the store contract runs (store_local_threads).
 */
#include "eng_util.h"

#include "store/local/crew.h"

#define PARTS 2

/* --- a device that keeps chosen requests until it is told what becomes of them --- */

struct held_dev {
	struct bdev b;
	struct bdev *below;
	uint64_t from, to; /* bytes: writes in there are held while `hold` */
	bool hold;
	struct list held; /* bdev_io.link */
	struct list failing;
	struct loop_poller poller;
};

static struct held_dev *the_dev;

static void passed(struct bdev_io *io)
{
	io->done = (void (*)(struct bdev_io *))(uintptr_t)io->priv[BDEV_IO_PRIV_WORDS - 1];
	bdev_done(&the_dev->b, io, io->status);
}

/* To the device below, which leaves the last word alone. */
static void pass(struct held_dev *d, struct bdev_io *io)
{
	io->priv[BDEV_IO_PRIV_WORDS - 1] = (uint64_t)(uintptr_t)io->done;
	io->done = passed;
	bdev_submit(d->below, io);
}

static void held_submit(struct bdev *b, struct bdev_io *io)
{
	struct held_dev *d = container_of(b, struct held_dev, b);

	if (d->hold && io->op == BDEV_WRITE && io->off_bytes >= d->from && io->off_bytes < d->to) {
		list_push(&d->held, &io->link);
		return;
	}
	pass(d, io);
}

static void held_close(struct bdev *b)
{
	struct held_dev *d = container_of(b, struct held_dev, b);

	loop_poller_del(b->loop, &d->poller);
	bdev_close(d->below);
	free(d);
}

static int held_poll(struct loop_poller *p)
{
	struct held_dev *d = container_of(p, struct held_dev, poller);
	struct list *n;
	int did = 0;

	while ((n = list_pop(&d->failing)) != NULL) {
		bdev_done(&d->b, list_entry(n, struct bdev_io, link), -EIO);
		did++;
	}
	return did;
}

static const struct bdev_ops held_ops = {.submit = held_submit, .close = held_close};

static struct held_dev *held_wrap(struct bdev *below)
{
	struct held_dev *d = calloc(1, sizeof(*d));

	assert_non_null(d);
	d->b.ops = &held_ops;
	d->b.loop = below->loop;
	d->b.info = below->info;
	d->below = below;
	list_init(&d->held);
	list_init(&d->failing);
	d->poller.poll = held_poll;
	loop_poller_add(below->loop, &d->poller);
	the_dev = d;
	return d;
}

static void held_release(struct held_dev *d)
{
	struct list *n;

	d->hold = false;
	while ((n = list_pop(&d->held)) != NULL)
		pass(d, list_entry(n, struct bdev_io, link));
}

static void held_fail(struct held_dev *d)
{
	d->hold = false;
	list_splice(&d->failing, &d->held);
}

/* --- stores --- */

struct crew_env {
	struct eng e;
	struct held_dev *dev;
};

static void open_parts(struct crew_env *x, unsigned parts)
{
	struct loop *loops[4] = {x->e.loop, x->e.loop, x->e.loop, x->e.loop};
	struct bdev *dev;

	eng_open_devs(&x->e);
	x->dev = held_wrap(x->e.dev[0]);
	dev = &x->dev->b;
	if (local_open_on(&x->e.store, loops, parts, &dev, 1, &x->e.opts, &x->e.err))
		fail_msg("%s", x->e.err.text);
}

static void begin(struct crew_env *x, unsigned parts)
{
	*x = (struct crew_env){.e = {.dev_bytes = 64 * MIB, .plain = true}};
	x->e.format.shards = 4;
	eng_start(&x->e);
	assert_int_equal(eng_close(&x->e), 0);
	open_parts(x, parts);
}

static void close_parts(struct crew_env *x, int want)
{
	assert_int_equal(store_close(x->e.store), want);
	x->e.store = NULL;
	memset(x->e.dev, 0, sizeof(x->e.dev));
}

static void end(struct crew_env *x, int want)
{
	close_parts(x, want);
	eng_end(&x->e);
}

static struct crew *crew(struct crew_env *x)
{
	assert_true(local_is_crew(x->e.store));
	return container_of(x->e.store, struct crew, store);
}

/* Holds what is written to the log of @shard. */
static void hold_log(struct crew_env *x, unsigned shard)
{
	const struct geometry *g = &crew_root(crew(x))->geo;

	x->dev->from = (g->log_start + shard * g->log_blocks) * BLOCK_BYTES;
	x->dev->to = x->dev->from + g->log_blocks * BLOCK_BYTES;
	x->dev->hold = true;
}

/* Containers at home on shard 1 (of the second part) and, with the next id, on shard 2 (of the first). */
static void two_conts(struct crew_env *x, uint32_t *ret_there, uint32_t *ret_here)
{
	assert_int_equal(ops_cont_create(x->e.store, "there", ret_there), 0);
	assert_int_equal(ops_cont_create(x->e.store, "here", ret_here), 0);
	assert_int_equal(*ret_there % 4, 1);
	assert_int_equal(*ret_here % 4, 2);
}

static void some_turns(struct crew_env *x)
{
	for (unsigned i = 0; i < 200; i++)
		(void)loop_turn(x->e.loop, NSEC_PER_MSEC / 10);
}

/* --- cases --- */

static void waits_for_flush_of_other(void **state)
{
	struct pst_oid oid = {1, 1};
	uint8_t a[BB], b[BB];
	struct eng_op wa, wb;
	struct crew_env x;
	uint32_t there, here;

	begin(&x, PARTS);
	two_conts(&x, &there, &here);
	some_turns(&x);
	hold_log(&x, 1);
	eng_fill(a, BB, 1);
	eng_fill(b, BB, 2);
	eng_write_op(&wa, there, oid, 0, a, BB, 0);
	eng_submit(&x.e, &wa);
	some_turns(&x);
	assert_false(list_empty(&x.dev->held));
	/* Its own log is written and flushed, but what it flushed may go with the other's failure. */
	eng_write_op(&wb, here, oid, 0, b, BB, 0);
	eng_submit(&x.e, &wb);
	some_turns(&x);
	assert_false(wb.ended);
	assert_non_null(crew(&x)->mate[0].settling);
	held_release(x.dev);
	assert_int_equal(eng_wait(&x.e, &wa), 0);
	assert_int_equal(eng_wait(&x.e, &wb), 0);
	end(&x, 0);
}

static void failure_of_other_fails_it(void **state)
{
	struct pst_oid oid = {1, 1};
	uint8_t a[BB], b[BB];
	struct eng_op wa, wb;
	struct crew_env x;
	uint32_t there, here;
	char why[160];

	begin(&x, PARTS);
	two_conts(&x, &there, &here);
	eng_fill(a, BB, 1);
	assert_int_equal(eng_put(&x.e, here, oid, 0, BB, 3), 0);
	some_turns(&x);
	hold_log(&x, 1);
	eng_write_op(&wa, there, oid, 0, a, BB, 0);
	eng_submit(&x.e, &wa);
	some_turns(&x);
	eng_fill(b, BB, 2);
	eng_write_op(&wb, here, oid, 0, b, BB, 0);
	eng_submit(&x.e, &wb);
	some_turns(&x);
	held_fail(x.dev);
	assert_int_equal(eng_wait(&x.e, &wa), -EIO);
	assert_int_equal(eng_wait(&x.e, &wb), -EIO);
	/* All of it has stopped, for the reason of the one that failed; reads go on. */
	assert_int_equal(eng_put(&x.e, here, oid, 0, BB, 4), -EIO);
	assert_int_equal(eng_put(&x.e, there, oid, 0, BB, 4), -EIO);
	assert_true(eng_stopped(&x.e, why, sizeof(why)));
	assert_non_null(strstr(why, "log of shard 1"));
	close_parts(&x, -EIO);
	open_parts(&x, PARTS);
	assert_int_equal(eng_put(&x.e, here, oid, 0, BB, 5), 0);
	assert_int_equal(eng_expect(&x.e, here, 0, oid, 0, BB, 5), 0);
	end(&x, 0);
}

/* The same name again and again, at homes on both parts, with something in it. */
static void names_come_and_go(void **state)
{
	struct pst_oid oid = {7, 7};
	struct pst_store_status st;
	struct crew_env x;
	uint64_t used = 0;

	begin(&x, PARTS);
	for (unsigned i = 0; i < 24; i++) {
		struct pst_cont_info info;
		uint32_t id, again;
		char snap[8];

		assert_int_equal(ops_cont_create(x.e.store, "c", &id), 0);
		assert_int_equal(ops_cont_create(x.e.store, "c", NULL), -EEXIST);
		assert_int_equal(eng_put(&x.e, id, oid, 0, 40 * BB, i), 0);
		assert_int_equal(eng_expect(&x.e, id, 0, oid, 0, 40 * BB, i), 0);
		assert_int_equal(ops_cont_open(x.e.store, "c", &again), 0);
		assert_int_equal(again, id);
		assert_int_equal(ops_cont_get(x.e.store, id, &info), 0);
		assert_int_equal(info.used_objects, 1);
		(void)snprintf(snap, sizeof(snap), "s%u", i);
		assert_int_equal(ops_snap_create(x.e.store, "c", snap, NULL), 0);
		assert_int_equal(ops_cont_destroy(x.e.store, "c"), -EBUSY);
		assert_int_equal(ops_snap_destroy(x.e.store, "c", snap), 0);
		assert_int_equal(ops_cont_destroy(x.e.store, "c"), 0);
		assert_int_equal(ops_cont_destroy(x.e.store, "c"), -ENOENT);
		assert_int_equal(eng_put(&x.e, id, oid, 0, BB, i), -ENOENT);
	}
	eng_settle(&x.e);
	/* Nothing is left of them, now and after the next open. */
	for (unsigned pass = 0; pass < 2; pass++) {
		struct pst_op op = {.opcode = PST_OP_STATUS, .status_out = &st};

		assert_int_equal(ops_run(x.e.store, &op), 0);
		assert_int_equal(st.containers, 0);
		assert_int_equal(st.objects, 0);
		used = st.used_bytes;
		close_parts(&x, 0);
		open_parts(&x, PARTS);
	}
	assert_true(used < 40 * BB);
	end(&x, 0);
}

/* While a destruction waits for its log, no snapshot is taken; if it fails, one is. */
static void destroy_holds_snapshots(void **state)
{
	struct eng_op d = {0}, s = {0};
	struct crew_env x;
	uint32_t there, here;

	begin(&x, PARTS);
	two_conts(&x, &there, &here);
	some_turns(&x);
	hold_log(&x, 0);
	d.op = (struct pst_op){.opcode = PST_OP_CONT_DESTROY, .name = "there", .name_len = 5};
	s.op = (struct pst_op){.opcode = PST_OP_SNAP_CREATE,
	                       .name = "there",
	                       .name_len = 5,
	                       .name2 = "s",
	                       .name2_len = 1};
	eng_submit(&x.e, &d);
	eng_submit(&x.e, &s);
	assert_int_equal(eng_wait(&x.e, &s), -ENOENT);
	assert_false(d.ended);
	held_release(x.dev);
	assert_int_equal(eng_wait(&x.e, &d), 0);
	assert_int_equal(crew(&x)->mate[1].l->owned, 2);
	end(&x, 0);
}

struct seen {
	struct pst_op op;
	unsigned count, stop_at;
	uint64_t sum;
	uint8_t last[PST_KEY_MAX];
	uint32_t last_len;
};

static bool see(struct pst_op *op, const struct pst_entry *e)
{
	struct seen *s = container_of(op, struct seen, op);
	size_t n = MIN(s->last_len, e->name_len);
	int c = n ? memcmp(s->last, e->name, n) : -1;

	assert_true(c < 0 || (c == 0 && s->last_len < e->name_len));
	memcpy(s->last, e->name, e->name_len);
	s->last_len = e->name_len;
	s->count++;
	s->sum += e->val_len;
	return s->count != s->stop_at;
}

/* More than one load holds: each entry once and in order, and no more than are wanted. */
static void long_lists(void **state)
{
	struct pst_oid oid = {2, 3};
	uint8_t *val = calloc(1, PST_VALUE_MAX);
	struct crew_env x;
	uint32_t there, here;

	assert_non_null(val);
	begin(&x, PARTS);
	two_conts(&x, &there, &here);
	for (unsigned i = 0; i < 3000; i += 50) {
		struct pst_mut m[50];
		char key[50][16];

		for (unsigned k = 0; k < 50; k++) {
			(void)snprintf(key[k], sizeof(key[k]), "key%05u", i + k);
			m[k] = (struct pst_mut){.kind = PST_KV_PUT,
			                        .oid = oid,
			                        .key = key[k],
			                        .key_len = 8,
			                        .val = val,
			                        .val_len = k           ? 40
			                                   : i == 1000 ? PST_VALUE_MAX
			                                               : 3000};
		}
		assert_int_equal(ops_batch(x.e.store, there, m, 50), 0);
	}
	for (unsigned stop = 0; stop < 2; stop++) {
		struct seen s = {.op = {.opcode = PST_OP_KV_LIST,
		                        .cont = there,
		                        .oid = oid,
		                        .want_values = true,
		                        .entry = see},
		                 .stop_at = stop ? 2900 : 0};

		assert_int_equal(ops_run(x.e.store, &s.op), 0);
		assert_int_equal(s.count, stop ? 2900 : 3000);
		assert_null(s.op.start);
		if (!stop)
			assert_int_equal(s.sum, 3000 / 50 * 49 * 40 + 59 * 3000 + PST_VALUE_MAX);
	}
	for (unsigned i = 0; i < 70; i++) { /* two more loads of CONT_LIST */
		char name[8];

		(void)snprintf(name, sizeof(name), "n%03u", i);
		assert_int_equal(ops_cont_create(x.e.store, name, NULL), 0);
	}
	struct seen c = {.op = {.opcode = PST_OP_CONT_LIST, .entry = see}};

	assert_int_equal(ops_run(x.e.store, &c.op), 0);
	assert_int_equal(c.count, 72);
	free(val);
	end(&x, 0);
}

static unsigned bad_blocks;

static void bad(struct pst_scrub_report *r, uint32_t cont, struct pst_oid oid, uint64_t off,
                int status)
{
	bad_blocks++;
	assert_int_equal(r->errors, bad_blocks);
}

static void scrub_visits_all(void **state)
{
	struct pst_oid oid = {1, 1};
	struct pst_scrub_report rep = {.bad = bad};
	struct pst_op op = {.opcode = PST_OP_SCRUB, .scrub = &rep};
	struct eng_op late = {.op = {.opcode = PST_OP_SCRUB, .scrub = &rep}};
	struct crew_env x;
	uint32_t there, here;
	struct shard *s;
	uint64_t block;

	begin(&x, PARTS);
	two_conts(&x, &there, &here);
	assert_int_equal(eng_put(&x.e, there, oid, 0, 300 * BB, 1), 0);
	assert_int_equal(eng_put(&x.e, here, oid, 0, 500 * BB, 1), 0);
	assert_int_equal(ops_run(x.e.store, &op), 0);
	assert_int_equal(rep.objects, 2);
	assert_int_equal(rep.done_bytes, 800 * BB);
	assert_int_equal(rep.total_bytes, 800 * BB);
	assert_int_equal(rep.errors, 0);
	s = crew(&x)->mate[1].l->shard[1];
	block = s->l->geo.data_start + s->space.class[SPACE_DATA].region * s->l->geo.region_span +
	        s->space.class[SPACE_DATA].next - 1;
	close_parts(&x, 0);
	eng_flip(&x.e, 0, block, 77);
	open_parts(&x, PARTS);
	assert_int_equal(ops_run(x.e.store, &op), 0);
	assert_int_equal(rep.errors, 1);
	assert_int_equal(bad_blocks, 1);
	rep.bad = NULL;
	/* A slow one is stopped when it is asked to. */
	rep.rate_bytes_per_s = 64 * KIB;
	eng_submit(&x.e, &late);
	some_turns(&x);
	assert_false(late.ended);
	store_cancel(x.e.store, &late.op);
	assert_int_equal(eng_wait(&x.e, &late), -ECANCELED);
	end(&x, 0);
}

/* Nothing on media depends on how many reactors there were. */
static void any_number(void **state)
{
	static const unsigned order[] = {2, 1, 3, 4, 2};
	struct loop *loops[5];
	struct crew_env x;
	uint32_t id[6];

	begin(&x, 1);
	for (unsigned c = 0; c < 6; c++) {
		char name[4] = {'c', (char)('0' + c)};

		assert_int_equal(ops_cont_create(x.e.store, name, &id[c]), 0);
	}
	for (unsigned i = 0; i < ARRAY_LEN(order); i++) {
		close_parts(&x, 0);
		open_parts(&x, order[i]);
		for (unsigned c = 0; c < 6; c++) {
			struct pst_oid oid = {c, i};

			if (i)
				assert_int_equal(eng_expect(&x.e, id[c], 0,
				                            (struct pst_oid){c, i - 1}, 0, 20 * BB,
				                            i - 1),
				                 0);
			assert_int_equal(eng_put(&x.e, id[c], oid, 0, 20 * BB, i), 0);
		}
	}
	close_parts(&x, 0);
	eng_open_devs(&x.e);
	for (unsigned i = 0; i < 5; i++)
		loops[i] = x.e.loop;
	assert_int_equal(local_open_on(&x.e.store, loops, 5, x.e.dev, 1, NULL, &x.e.err), -EINVAL);
	assert_non_null(strstr(x.e.err.text, "4 shards"));
	x.e.store = NULL;
	eng_end(&x.e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(waits_for_flush_of_other),
	        cmocka_unit_test(failure_of_other_fails_it),
	        cmocka_unit_test(names_come_and_go),
	        cmocka_unit_test(destroy_holds_snapshots),
	        cmocka_unit_test(long_lists),
	        cmocka_unit_test(scrub_visits_all),
	        cmocka_unit_test(any_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
