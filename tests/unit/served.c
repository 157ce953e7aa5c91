/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "served.h"

#define DEVICE "mem:16m?name=served"

static void audit(void *arg, const struct audit_event *e)
{
	struct served *g = arg;

	if (!e->status)
		return;
	g->refused[e->what]++;
	g->refused_last = e->status;
}

void served_up(struct served *g)
{
	struct fs_opts fo = {.grace_ns = g->grace_ns};
	struct pst_err err = {0};
	struct store *engine;
	struct bdev *dev;

	assert_int_equal(bdev_open(&dev, DEVICE, g->loop, NULL, &err), 0);
	assert_int_equal(local_open(&engine, g->loop, &dev, 1, NULL, &err), 0);
	assert_int_equal(fs_new(&g->store, engine, &fo, &err), 0);
	assert_int_equal(session_table_open(&g->table, g->store, &g->so, &err), 0);
	assert_int_equal(wire_listener_new(&g->listener, g->table, &g->lo, &err), 0);
	assert_int_equal(wire_listener_add(g->listener, "sim", "here", NULL, NULL, &err), 0);
}

void served_down(struct served *g)
{
	wire_listener_crash(g->listener);
	wire_listener_close(g->listener, 0);
	session_table_close(g->table);
	assert_int_equal(store_close(g->store), 0);
}

void served_restart(struct served *g)
{
	served_down(g);
	served_up(g);
}

void served_start(struct served *g, uint64_t now_ns)
{
	struct local_format_opts fo = {0};
	struct pst_err err = {0};
	struct loop_opts lo;
	struct bdev *dev;

	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = now_ns;
	assert_int_equal(loop_new(&g->loop, &lo, NULL), 0);
	g->so.sim_seed = 7;
	g->so.owner_uid = 4000000;
	g->so.audit = audit;
	g->so.audit_arg = g;
	(void)bdev_mem_forget("served");
	assert_int_equal(bdev_open(&dev, DEVICE, g->loop, NULL, &err), 0);
	assert_int_equal(local_format(&dev, 1, &fo, &err), 0);
	bdev_close(dev);
	served_up(g);
}

void served_end(struct served *g)
{
	served_down(g);
	(void)bdev_mem_forget("served");
	fabric_finish(g->loop);
	loop_free(g->loop);
}

void served_sleep(struct served *g, uint64_t ns)
{
	uint64_t until = loop_now(g->loop) + ns;

	while (loop_now(g->loop) < until)
		(void)loop_turn(g->loop, until - loop_now(g->loop));
}

/* --- capabilities --- */

static void cap_done(struct cap_op *o, int status)
{
	struct served *g = container_of(o, struct served, op);

	g->done = true;
	g->status = status;
}

static int cap_wait(struct served *g, int rc)
{
	while (!rc && !g->done)
		(void)loop_turn(g->loop, NSEC_PER_MSEC);
	g->done = false;
	return rc ? rc : g->status;
}

void served_grant(struct served *g, const struct cap_info *info)
{
	g->op = (struct cap_op){.info = *info, .done = cap_done};
	assert_int_equal(cap_wait(g, cap_grant(g->table, &g->op)), 0);
}

int served_revoke(struct served *g, uint64_t id)
{
	g->op = (struct cap_op){.info.id = id, .done = cap_done};
	return cap_wait(g, cap_revoke(g->table, &g->op));
}

uint64_t served_records(struct served *g)
{
	struct pst_store_status st;
	struct pst_op op = {.opcode = PST_OP_STATUS, .status_out = &st};

	assert_int_equal(ops_run(g->store, &op), 0);
	return st.commit_records;
}
