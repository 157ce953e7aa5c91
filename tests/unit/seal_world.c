/* SPDX-License-Identifier: BSD-3-Clause */
#include "seal_world.h"

#include "model_store.h"

static struct end *end_of(struct chan *c)
{
	return c->user;
}

static void end_up(struct chan *c, int status)
{
	end_of(c)->up = status;
}
static void end_msg(struct chan *c, const void *data, uint32_t len)
{
	struct end *e = end_of(c);

	assert_true(IS_ALIGNED((uintptr_t)data, 8));
	e->got++;
	memcpy(e->data, data, len);
	e->len = len;
}
static void end_ready(struct chan *c)
{
	end_of(c)->readies++;
}
static void end_down(struct chan *c, int status)
{
	assert_int_equal(end_of(c)->down, 1);
	end_of(c)->down = status;
}
static const struct chan_handlers end_handlers = {
        .up = end_up, .msg = end_msg, .ready = end_ready, .down = end_down};

struct world *world;

/* The server's first message: it is sealed from then on, or not. */
static void first_msg(struct chan *c, const void *data, uint32_t len)
{
	struct world *w = world;

	assert_true(seal_begins(data, len));
	c->handlers = &end_handlers;
	w->accepted = seal_accept(&w->server.c, c, w->table, data, len);
	if (w->accepted < 0)
		w->server.c = NULL;
}
static const struct chan_handlers first_handlers = {.msg = first_msg};

static void end_init(struct end *e, struct end *peer, struct loop *loop)
{
	e->c = NULL;
	e->up = e->down = 1;
	e->got = e->readies = e->len = 0;
	hand_init(&e->h, &peer->h, loop);
}

int world_begin(struct world *w, const char *token)
{
	struct seal_opts o = {.token = token, .bufs = &w->bufs, .epoch_max = w->epoch_max};
	int rc;

	end_init(&w->client, &w->server, w->loop);
	end_init(&w->server, &w->client, w->loop);
	w->accepted = 1;
	w->server.h.c.handlers = &first_handlers;
	w->server.h.c.user = &w->server;
	rc = seal_connect(&w->client.c, &w->client.h.c, &o, &end_handlers, &w->client);
	if (rc < 0)
		w->client.c = NULL;
	return rc;
}

/* Passes one message on. */
void world_pass(struct end *e)
{
	struct hand_msg *m = hand_take(&e->h);

	hand_give(&e->h, m);
	free(m);
}

void world_connect(struct world *w)
{
	assert_int_equal(world_begin(w, w->token), 0);
	world_pass(&w->client);
	assert_int_equal(w->accepted, 0);
	world_pass(&w->server);
	assert_int_equal(w->client.up, 0);
	assert_true(w->client.c->traits & FABRIC_SEALED);
	assert_true(w->client.c->traits & FABRIC_PRIVATE);
}

void world_over(struct world *w)
{
	struct end *ends[] = {&w->client, &w->server};

	for (unsigned i = 0; i < 2; i++) {
		struct end *e = ends[i];

		if (e->c)
			chan_close(e->c);
		e->c = NULL;
		hand_done(&e->h);
	}
	for (unsigned i = 0; i < 3; i++)
		(void)loop_turn(w->loop, NSEC_PER_MSEC);
}

int end_say(struct end *e, const char *text)
{
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};

	return chan_send(e->c, &iov, 1);
}

void end_heard(const struct end *e, const char *text)
{
	assert_int_equal(e->len, strlen(text));
	assert_memory_equal(e->data, text, e->len);
}

/* --- the fixture --- */

static void audit(void *arg, const struct audit_event *e)
{
	struct world *w = arg;

	w->audited += e->status != 0;
	w->audited_last = e->status ? e->status : w->audited_last;
}

static void granted(struct cap_op *o, int status)
{
	assert_int_equal(status, 0);
	world->granted = true;
}

static void grant(struct world *w, char token[CAP_TOKEN_MAX])
{
	struct cap_op op = {.info = {.rights = RIGHTS_ALL}, .done = granted};

	w->granted = false;
	assert_int_equal(cap_grant(w->table, &op), 0);
	while (!w->granted)
		(void)loop_turn(w->loop, NSEC_PER_MSEC);
	memcpy(token, op.token, CAP_TOKEN_MAX);
}

int world_setup(void **state)
{
	static const unsigned bufs[WIRE_BUF_CLASSES] = {4, 2};
	struct world *w = calloc(1, sizeof(*w));
	struct session_opts so = {.sim_seed = 3, .audit = audit, .audit_arg = w};
	struct pst_err err = {0};
	struct loop_opts lo;

	*state = world = w;
	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = NSEC_PER_SEC;
	assert_int_equal(loop_new(&w->loop, &lo, NULL), 0);
	assert_int_equal(model_store_new(&w->store, w->loop, NULL), 0);
	assert_int_equal(session_table_open(&w->table, w->store, &so, &err), 0);
	assert_int_equal(wire_bufs_init(&w->bufs, MEM_HOST, bufs), 0);
	grant(w, w->token);
	grant(w, w->other);
	end_init(&w->client, &w->server, w->loop);
	end_init(&w->server, &w->client, w->loop);
	return 0;
}

int world_teardown(void **state)
{
	struct world *w = *state;

	world_over(w);
	wire_bufs_done(&w->bufs);
	session_table_close(w->table);
	assert_int_equal(store_close(w->store), 0);
	loop_free(w->loop);
	free(w);
	return 0;
}

uint64_t number_of(const struct hand_msg *m)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < 8; i++)
		n |= (uint64_t)m->data[8 + i] << (8 * i);
	return n;
}
