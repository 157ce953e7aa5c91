/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "served.h"

#include <stdio.h>

#include "model_store.h"

static void audit(void *arg, const struct audit_event *e)
{
	struct served *g = arg;

	if (!e->status)
		return;
	g->refused[e->what]++;
	g->refused_last = e->status;
}

/* --- the server --- */

struct bdev *served_device(struct served *g)
{
	struct pst_err err = {0};
	struct bdev *dev;
	char spec[64];

	(void)snprintf(spec, sizeof(spec), "mem:16m?name=%s", g->device);
	assert_int_equal(bdev_open(&dev, spec, g->loop, NULL, &err), 0);
	return dev;
}

void served_format(struct served *g)
{
	struct local_format_opts fo = {0};
	struct pst_err err = {0};
	struct bdev *dev;

	(void)bdev_mem_forget(g->device);
	dev = served_device(g);
	assert_int_equal(local_format(&dev, 1, &fo, &err), 0);
	bdev_close(dev);
}

static void open_store(struct served *g)
{
	struct fs_opts fo = {.grace_ns = g->grace_ns};
	struct pst_err err = {0};
	struct store *engine;
	struct bdev *dev;

	if (g->model) {
		assert_int_equal(model_store_new(&g->store, g->loop, NULL), 0);
		return;
	}
	dev = served_device(g);
	assert_int_equal(local_open(&engine, g->loop, &dev, 1, NULL, &err), 0);
	assert_int_equal(fs_new(&g->store, engine, &fo, &err), 0);
}

void served_up(struct served *g)
{
	struct pst_err err = {0};

	open_store(g);
	g->so.sim_seed++; /* another process draws other numbers */
	assert_int_equal(session_table_open(&g->table, g->store, &g->so, &err), 0);
	assert_int_equal(wire_listener_new(&g->listener, g->table, &g->lo, &err), 0);
	assert_int_equal(wire_listener_add(g->listener, "sim", "here", NULL, NULL, &err), 0);
}

static void down(struct served *g, uint64_t wait_ns)
{
	wire_listener_close(g->listener, wait_ns);
	session_table_close(g->table);
	assert_int_equal(store_close(g->store), 0);
}

void served_down(struct served *g)
{
	down(g, 0);
}

void served_crash(struct served *g)
{
	wire_listener_crash(g->listener);
	down(g, 0);
}

void served_restart(struct served *g)
{
	served_crash(g);
	served_up(g);
}

static void give_options(struct served *g)
{
	if (!g->device)
		g->device = "served";
	g->so.sim_seed = g->so.sim_seed ? g->so.sim_seed : 7;
	g->so.owner_uid = 4000000;
	g->so.audit = audit;
	g->so.audit_arg = g;
	g->ro.at[0].provider = "sim";
	g->ro.at[0].addr = "here";
	g->ro.at_count = 1;
	g->ro.seed = g->ro.fabric.seed = 11;
	g->ro.fabric.sim = &g->knobs;
	sim_knobs_draw(&g->knobs, 11);
}

void served_start(struct served *g, uint64_t now_ns)
{
	struct loop_opts lo;

	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = now_ns;
	assert_int_equal(loop_new(&g->loop, &lo, NULL), 0);
	give_options(g);
	if (!g->model)
		served_format(g);
	served_up(g);
}

void served_end(struct served *g)
{
	if (g->remote)
		served_hang_up(g);
	down(g, NSEC_PER_SEC);
	if (!g->model)
		(void)bdev_mem_forget(g->device);
	fabric_finish(g->loop);
	loop_free(g->loop);
}

void served_sleep(struct served *g, uint64_t ns)
{
	uint64_t until = loop_now(g->loop) + ns;

	while (loop_now(g->loop) < until)
		(void)loop_turn(g->loop, until - loop_now(g->loop));
}

/* --- a client --- */

int served_client(struct served *g, const char *cred)
{
	int rc;

	assert_null(g->remote);
	g->err = (struct pst_err){0};
	g->ro.cred = cred;
	rc = remote_open(&g->remote, g->loop, &g->ro, &g->err);
	assert_true(!rc == !g->err.text[0]);
	return rc;
}

void served_hang_up(struct served *g)
{
	assert_int_equal(store_close(g->remote), 0);
	g->remote = NULL;
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
	g->op.info.id = id; /* the token stays: others may try it */
	return cap_wait(g, cap_revoke(g->table, &g->op));
}

uint64_t served_records(struct served *g)
{
	struct pst_store_status st;
	struct pst_op op = {.opcode = PST_OP_STATUS, .status_out = &st};

	assert_int_equal(ops_run(g->store, &op), 0);
	return st.commit_records;
}
