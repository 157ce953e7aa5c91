/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reactors that have threads of their own: what they say of their load, by work that is known; one whose
 * io_uring fails; a scrub that is looked at while others work.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bdev/bdev.h"
#include "loop/thread.h"
#include "ops.h"
#include "store/local/local.h"

#define BB    4096u
#define SPIN  (60 * NSEC_PER_MSEC)
#define QUIET (120 * NSEC_PER_MSEC)

struct duo {
	struct loop *loop;
	struct loop_thread *other;
	struct store *store;
	char path[64], spec[96];
	uint32_t there, here; /* at home on the other's shard, on the first's */
};

static struct pst_oid oid_one = {1, 1};

/* --- the rig --- */

static void open_duo(struct duo *d, bool format, unsigned reactors)
{
	const struct bdev_open_opts bo = {.create = true, .size_bytes = 64 * MIB};
	const struct local_format_opts fo = {.shards = 2};
	struct loop *loops[2] = {d->loop, d->other ? loop_thread_loop(d->other) : NULL};
	struct pst_err err = {0};
	struct bdev *dev;

	if (bdev_open(&dev, d->spec, d->loop, &bo, &err) ||
	    (format && local_format(&dev, 1, &fo, &err)) ||
	    local_open_on(&d->store, loops, reactors, &dev, 1, NULL, &err))
		fail_msg("%s", err.text);
}

static void begin(struct duo *d, bool on_file)
{
	struct loop_opts lo;

	*d = (struct duo){0};
	loop_opts_default(&lo);
	assert_int_equal(loop_new(&d->loop, &lo, NULL), 0);
	assert_int_equal(loop_thread_start(&d->other, &lo, CORE_ANY, NULL), 0);
	(void)snprintf(d->path, sizeof(d->path), "/tmp/penstock-duo-%d", (int)getpid());
	if (on_file)
		(void)snprintf(d->spec, sizeof(d->spec), "uring:%s?direct=0", d->path);
	else
		(void)snprintf(d->spec, sizeof(d->spec), "mem:64m");
	open_duo(d, true, 2);
	assert_int_equal(ops_cont_create(d->store, "there", &d->there), 0);
	assert_int_equal(ops_cont_create(d->store, "here", &d->here), 0);
	assert_int_equal(d->there % 2, 1);
}

static void end(struct duo *d)
{
	assert_int_equal(store_close(d->store), 0);
	loop_thread_stop(d->other);
	loop_free(d->loop);
	(void)unlink(d->path);
}

static void status(struct duo *d, struct pst_store_status *st)
{
	struct pst_op op = {.opcode = PST_OP_STATUS, .status_out = st};

	assert_int_equal(ops_run(d->store, &op), 0);
	assert_int_equal(st->reactors, 2);
	for (unsigned i = 0; i < 2; i++)
		assert_true(st->reactor[i].busy_ns <= st->reactor[i].up_ns);
}

/* --- load --- */

struct spin {
	struct loop_msg msg;
	atomic_bool done;
};

static void spin(struct loop_msg *m)
{
	uint64_t until = clock_mono_ns() + SPIN;

	while (clock_mono_ns() < until)
		;
	atomic_store(&container_of(m, struct spin, msg)->done, true);
}

static void ops_are_counted_where_they_run(void **state)
{
	struct pst_store_status was, is;
	char block[BB] = "x";
	struct duo d;

	begin(&d, false);
	status(&d, &was);
	for (unsigned i = 0; i < 30; i++)
		assert_int_equal(ops_write(d.store, d.there, oid_one, 0, block, BB), 0);
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(ops_read(d.store, d.here, 0, oid_one, 0, block, BB, NULL), 0);
	status(&d, &is);
	assert_int_equal(is.reactor[1].ops - was.reactor[1].ops, 30);
	assert_int_equal(is.reactor[0].ops - was.reactor[0].ops, 7);
	assert_int_equal(is.reactor[0].core, -1);
	assert_int_equal(is.reactor[1].core, -1);
	end(&d);
}

static void busy_is_told_from_idle(void **state)
{
	struct spin s = {.msg.run = spin};
	struct pst_store_status a, b, c;
	struct duo d;

	begin(&d, false);
	status(&d, &a);
	loop_post(loop_thread_loop(d.other), &s.msg);
	while (!atomic_load(&s.done))
		(void)loop_turn(d.loop, NSEC_PER_MSEC);
	status(&d, &b);
	assert_true(b.reactor[1].busy_ns - a.reactor[1].busy_ns >= SPIN);
	for (uint64_t until = clock_mono_ns() + QUIET; clock_mono_ns() < until;)
		(void)loop_turn(d.loop, QUIET);
	status(&d, &c);
	assert_true(c.reactor[1].up_ns - b.reactor[1].up_ns >= QUIET / 2);
	assert_true(c.reactor[1].busy_ns - b.reactor[1].busy_ns <
	            (c.reactor[1].up_ns - b.reactor[1].up_ns) / 2);
	end(&d);
}

/* --- a reactor that can reach no device any more --- */

struct breaker {
	struct loop_msg msg;
	struct loop *loop;
};

static void breaks(struct loop_msg *m)
{
	loop_break(container_of(m, struct breaker, msg)->loop, -EBADF);
}

static char logged[4096];

static void keep_log(void *arg, enum pst_log_level level, const char *line)
{
	size_t n = strlen(logged);

	(void)snprintf(logged + n, sizeof(logged) - n, "%s\n", line);
}

static void failed_ring_stops_the_store(void **state)
{
	char a[BB], b[BB], now[BB];
	struct pst_store_status st;
	struct breaker br = {.msg.run = breaks};
	uint64_t len = 0;
	struct duo d;
	int rc;

	begin(&d, true);
	memset(a, 'a', BB);
	memset(b, 'b', BB);
	assert_int_equal(ops_write(d.store, d.there, oid_one, 0, a, BB), 0);
	assert_int_equal(ops_write(d.store, d.here, oid_one, 0, a, BB), 0);
	pst_log_set(keep_log, NULL, PST_LOG_ERROR);
	br.loop = loop_thread_loop(d.other);
	loop_post(br.loop, &br.msg);
	/* Whoever waits is told, and so is who comes later. */
	assert_int_equal(ops_write(d.store, d.there, oid_one, 0, b, BB), -EIO);
	assert_int_equal(ops_write(d.store, d.there, oid_one, BB, b, BB), -EIO);
	assert_int_equal(ops_write(d.store, d.here, oid_one, BB, b, BB), -EIO);
	status(&d, &st);
	assert_true(st.stopped);
	assert_non_null(strstr(st.stopped_why, "io_uring of reactor fails: Bad file descriptor"));
	assert_non_null(strstr(logged, "reactor: io_uring fails: Bad file descriptor"));
	assert_int_equal(ops_read(d.store, d.here, 0, oid_one, 0, now, BB, &len), 0);
	assert_memory_equal(now, a, BB);
	rc = ops_read(d.store, d.there, 0, oid_one, 0, now, BB, &len);
	assert_true(rc == 0 || rc == -EIO);
	assert_int_equal(store_close(d.store), -EIO);
	loop_thread_stop(d.other);
	d.other = NULL;
	pst_log_set(NULL, NULL, PST_LOG_ERROR);
	/* What was acknowledged is there; what failed may be, as after any crash. */
	open_duo(&d, false, 1);
	assert_int_equal(ops_read(d.store, d.here, 0, oid_one, 0, now, BB, &len), 0);
	assert_memory_equal(now, a, BB);
	assert_int_equal(ops_read(d.store, d.there, 0, oid_one, 0, now, BB, &len), 0);
	assert_true(!memcmp(now, a, BB) || !memcmp(now, b, BB));
	assert_int_equal(ops_write(d.store, d.there, oid_one, 0, b, BB), 0);
	end(&d);
}

/* --- a scrub, for ThreadSanitizer --- */

static void scrub_is_looked_at(void **state)
{
	struct pst_scrub_report rep = {.rate_bytes_per_s = 4 * MIB};
	struct pst_op op = {.opcode = PST_OP_SCRUB, .scrub = &rep};
	char *data = calloc(1, MIB);
	struct duo d;

	assert_non_null(data);
	begin(&d, false);
	assert_int_equal(ops_write(d.store, d.there, oid_one, 0, data, MIB), 0);
	assert_int_equal(ops_write(d.store, d.here, oid_one, 0, data, MIB), 0);
	assert_int_equal(ops_run(d.store, &op), 0);
	assert_int_equal(rep.objects, 2);
	assert_int_equal(rep.done_bytes, 2 * MIB);
	assert_int_equal(rep.errors, 0);
	end(&d);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(ops_are_counted_where_they_run),
	        cmocka_unit_test(busy_is_told_from_idle),
	        cmocka_unit_test(failed_ring_stops_the_store),
	        cmocka_unit_test(scrub_is_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
