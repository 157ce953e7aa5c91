/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A store parted among reactors: what one may not take for durable while another's flush is under way,
 * how one's failure stops all, containers that come and go under a name, lists that need several loads,
 * a scrub, and being opened by another number of reactors than before. The reactors share a loop here;
 * with threads the store contract runs (store_local_threads).
 */
#include "eng_util.h"

#include "store/local/crew.h"
#include "store/local/stall.h"

#define PARTS 2

/* --- a device that keeps chosen requests until it is told what becomes of them --- */

struct held_dev {
	struct bdev b;
	struct bdev *below;
	uint64_t from, to; /* bytes: writes in there are held while `hold` */
	bool hold;
	unsigned flushes, forced;
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

	d->flushes += io->op == BDEV_FLUSH;
	d->forced += io->op == BDEV_WRITE && io->flags & BDEV_FUA;
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

static void snap_op(struct eng_op *o, const char *name)
{
	*o = (struct eng_op){.op = {.opcode = PST_OP_SNAP_CREATE,
	                            .name = "there",
	                            .name_len = 5,
	                            .name2 = name,
	                            .name2_len = (uint32_t)strlen(name)}};
}

/* A destruction that takes its time keeps snapshots of that container waiting, and nothing else. */
static void held_snapshot_waits_alone(void **state)
{
	struct pst_oid oid = {1, 1};
	struct eng_op s[4];
	struct crew_env x;
	uint32_t there, here;
	struct local *l;

	begin(&x, PARTS);
	two_conts(&x, &there, &here);
	some_turns(&x);
	l = crew(&x)->mate[1].l;
	cont_name_by_id(l, there)->holds++;
	for (unsigned i = 0; i < 4; i++) {
		static const char *const names[] = {"s0", "s1", "s2", "s3"};

		snap_op(&s[i], names[i]);
		if (i == 2)
			s[i].op.deadline_ns = loop_now(x.e.loop) + 10 * NSEC_PER_MSEC;
		eng_submit(&x.e, &s[i]);
	}
	some_turns(&x);
	assert_int_equal(eng_put(&x.e, there, oid, 0, BB, 1), 0);
	assert_int_equal(eng_expect(&x.e, there, 0, oid, 0, BB, 1), 0);
	assert_false(s[0].ended || s[1].ended || s[3].ended);
	store_cancel(x.e.store, &s[1].op);
	assert_int_equal(eng_wait(&x.e, &s[1]), -ECANCELED);
	assert_int_equal(eng_wait(&x.e, &s[2]), -ETIMEDOUT);
	cont_name_by_id(l, there)->holds--;
	shard_release(l->shard[1]);
	assert_int_equal(eng_wait(&x.e, &s[0]), 0);
	assert_int_equal(eng_wait(&x.e, &s[3]), 0);
	assert_int_equal(ops_cont_destroy(x.e.store, "there"), -EBUSY);
	end(&x, 0);
}

/* One that is held when the store stops is told so. */
static void held_snapshot_ends_with_store(void **state)
{
	struct pst_oid oid = {1, 1};
	struct crew_env x;
	struct eng_op s, w;
	uint32_t there, here;
	uint8_t a[BB];

	begin(&x, PARTS);
	two_conts(&x, &there, &here);
	some_turns(&x);
	cont_name_by_id(crew(&x)->mate[1].l, there)->holds++;
	snap_op(&s, "s");
	eng_submit(&x.e, &s);
	some_turns(&x);
	hold_log(&x, 2);
	eng_fill(a, BB, 1);
	eng_write_op(&w, here, oid, 0, a, BB, 0);
	eng_submit(&x.e, &w);
	some_turns(&x);
	assert_false(s.ended);
	held_fail(x.dev);
	assert_int_equal(eng_wait(&x.e, &w), -EIO);
	assert_int_equal(eng_wait(&x.e, &s), -EIO);
	end(&x, -EIO);
}

/* The answer that comes again tells what the container uses now, as it does with one reactor. */
static void create_again_tells_figures(void **state)
{
	struct pst_oid oid = {1, 1};
	struct pst_cont_info info[2] = {0};
	struct crew_env x;

	begin(&x, PARTS);
	for (unsigned i = 0; i < 2; i++) { /* at home on the other part, and on the first */
		struct pst_op op = {.opcode = PST_OP_CONT_CREATE,
		                    .name = i ? "b" : "a",
		                    .name_len = 1,
		                    .cont_info = &info[i],
		                    .token = {.session = 9, .slot = i, .seq = 1}};
		uint32_t id;

		assert_int_equal(ops_run(x.e.store, &op), 0);
		id = op.cont;
		assert_int_equal(eng_put(&x.e, id, oid, 0, 3 * BB, 1), 0);
		memset(&info[i], 0, sizeof(info[i]));
		op.cont = 0;
		assert_int_equal(ops_run(x.e.store, &op), 0);
		assert_int_equal(op.cont, id);
		assert_int_equal(info[i].id, id);
		assert_int_equal(info[i].used_objects, 1);
		assert_int_equal(info[i].used_bytes, 3 * BB);
	}
	end(&x, 0);
}

/*
 * On a device where forcing a write out costs a flush, a commit takes one of them, for its record and
 * the data that it speaks of; and what is committed at the same time on other shards shares it.
 */
static void one_flush_for_a_commit(void **state)
{
	const struct pst_oid oid = {1, 1};
	uint8_t *data = calloc(1, 64 * BB);
	struct eng_op w[3];
	struct crew_env x;
	uint32_t id[3];

	assert_non_null(data);
	begin(&x, 1);
	x.dev->b.info.fua_flushes = true;
	for (unsigned i = 0; i < 3; i++) {
		char name[4] = {'c', (char)('0' + i)};

		assert_int_equal(ops_cont_create(x.e.store, name, &id[i]), 0);
	}
	eng_settle(&x.e);
	x.dev->flushes = x.dev->forced = 0;
	/* Data that goes to new space, and the record. */
	eng_write_op(&w[0], id[0], oid, 0, data, 64 * BB, 0);
	eng_submit(&x.e, &w[0]);
	assert_int_equal(eng_wait(&x.e, &w[0]), 0);
	assert_int_equal(x.dev->flushes, 1);
	assert_int_equal(x.dev->forced, 0);
	eng_settle(&x.e);
	x.dev->flushes = 0;
	for (unsigned i = 0; i < 3; i++) {
		eng_write_op(&w[i], id[i], oid, 0, data, BB, 0);
		eng_submit(&x.e, &w[i]);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(eng_wait(&x.e, &w[i]), 0);
	assert_int_equal(x.dev->flushes, 1);
	assert_int_equal(x.dev->forced, 0);
	free(data);
	end(&x, 0);
}

/* Fills container @id: objects of 1 MiB, then keys, until there is no room for either. */
static void fill_up(struct crew_env *x, uint32_t id, unsigned *ret_objects, unsigned *ret_keys)
{
	enum { KEYS = 40 };
	static uint8_t val[250];
	struct pst_mut m[KEYS];
	char key[KEYS][16];
	int rc;

	*ret_objects = *ret_keys = 0;
	while (!(rc = eng_put(&x->e, id, (struct pst_oid){1, *ret_objects}, 0, MIB, 1)))
		++*ret_objects;
	assert_int_equal(rc, -ENOSPC);
	while (!(rc = eng_put(&x->e, id, (struct pst_oid){3, *ret_objects}, 0, BB, 1)))
		++*ret_objects;
	assert_int_equal(rc, -ENOSPC);
	for (rc = 0; !rc && *ret_keys < 100000; *ret_keys += rc ? 0 : KEYS) {
		for (unsigned i = 0; i < KEYS; i++) {
			(void)snprintf(key[i], sizeof(key[i]), "k%u", *ret_keys + i);
			m[i] = (struct pst_mut){.kind = PST_KV_PUT,
			                        .oid = {2, 0},
			                        .key = key[i],
			                        .key_len = (uint32_t)strlen(key[i]),
			                        .val = val,
			                        .val_len = sizeof(val)};
		}
		rc = ops_batch(x->e.store, id, m, KEYS);
	}
	assert_int_equal(rc, -ENOSPC);
}

/*
 * A small store that is as full as it can be, on one reactor and on several: it goes on, and what is
 * deleted makes room.
 */
static void full_store_deletes(void **state)
{
	for (unsigned parts = 1; parts <= 4; parts++) {
		unsigned objects[4], keys[4];
		struct crew_env x;
		uint32_t id[4];
		char why[160], name[4] = "c";

		begin(&x, parts);
		for (unsigned i = 0; i < 4; i++) {
			name[1] = (char)('0' + i);
			assert_int_equal(ops_cont_create(x.e.store, name, &id[i]), 0);
		}
		for (unsigned i = 0; i < 4; i++)
			fill_up(&x, id[i], &objects[i], &keys[i]);
		eng_settle(&x.e);
		if (eng_stopped(&x.e, why, sizeof(why)))
			fail_msg("%u parts: %s", parts, why);
		for (unsigned i = 0; i < 4; i++) {
			struct pst_mut m[] = {{.kind = PST_OBJ_DELETE, .oid = {2, 0}},
			                      {.kind = PST_OBJ_DELETE, .oid = {1, 0}}};

			print_message("%u parts, container %u: %u objects, %u keys\n", parts, i,
			              objects[i], keys[i]);
			if (!i) /* much more than the 1 MiB ones */
				assert_true(objects[i] + keys[i] > 200);
			for (unsigned k = keys[i] ? 0 : 1; k < 2 && objects[i]; k++)
				assert_int_equal(ops_batch(x.e.store, id[i], &m[k], 1), 0);
		}
		eng_settle(&x.e);
		assert_false(eng_stopped(&x.e, why, sizeof(why)));
		assert_int_equal(eng_put(&x.e, id[0], (struct pst_oid){9, 9}, 0, BB, 1), 0);
		for (unsigned i = 0; i < 4; i++) {
			name[1] = (char)('0' + i);
			assert_int_equal(ops_cont_destroy(x.e.store, name), 0);
		}
		end(&x, 0);
	}
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

/* It goes on to the next part when nobody looks at how far it is: at whatever moment it gets there. */
static void scrub_moves_unseen(void **state)
{
	struct pst_oid oid = {1, 1};
	struct crew_env x;
	uint32_t there, here;

	begin(&x, PARTS);
	two_conts(&x, &there, &here);
	assert_int_equal(eng_put(&x.e, there, oid, 0, 300 * BB, 1), 0);
	assert_int_equal(eng_put(&x.e, here, oid, 0, 200 * BB, 1), 0);
	/* The first part's 200 blocks take as long as it takes to look once, or a little less. */
	for (uint64_t us = 195000; us < 201000; us += 100) {
		struct pst_scrub_report rep = {.rate_bytes_per_s = 200 * BB * 1000000ull / us};
		struct pst_op op = {.opcode = PST_OP_SCRUB, .scrub = &rep};

		assert_int_equal(ops_run(x.e.store, &op), 0);
		assert_int_equal(rep.objects, 2);
		assert_int_equal(rep.done_bytes, 500 * BB);
	}
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
			struct pst_oid oid = {1 + c, i};

			if (i)
				assert_int_equal(eng_expect(&x.e, id[c], 0,
				                            (struct pst_oid){1 + c, i - 1}, 0,
				                            20 * BB, i - 1),
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
	        cmocka_unit_test(held_snapshot_waits_alone),
	        cmocka_unit_test(held_snapshot_ends_with_store),
	        cmocka_unit_test(create_again_tells_figures),
	        cmocka_unit_test(one_flush_for_a_commit),
	        cmocka_unit_test(full_store_deletes),
	        cmocka_unit_test(long_lists),
	        cmocka_unit_test(scrub_visits_all),
	        cmocka_unit_test(scrub_moves_unseen),
	        cmocka_unit_test(any_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
