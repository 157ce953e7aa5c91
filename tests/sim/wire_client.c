/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_client - the clients of the wire's simulation: each holds a capability's token, tries ops on
 * a few objects that all share, with and without deadlines, now and then on a container that it was
 * not granted, and has its capability revoked.
 *
 * A buffer belongs to its lane from submit to done(); after that it is filled with UNUSED and must
 * stay so until the next op: what lands in it then landed too late.
 */
#include <stdlib.h>

#include "wire_sim.h"

/* --- what is written --- */

/* Every 8 bytes of a register say which write they are of. */
void bytes_fill(uint8_t *buf, uint32_t len, uint32_t id)
{
	for (uint32_t i = 0; i + 8 <= len; i += 8) {
		le64 v = le64_make((uint64_t)id << 32 | 0x57000000u | i);

		memcpy(buf + i, &v, 8);
	}
}

uint32_t bytes_saw(struct world *w, uint32_t at, const uint8_t *buf, uint32_t len)
{
	uint32_t id = 0;

	for (uint32_t i = 0; i + 8 <= len; i += 8) {
		le64 le;
		uint64_t v;

		memcpy(&le, buf + i, 8);
		v = le64_get(le);
		if (i == 0)
			id = (uint32_t)(v >> 32);
		if ((uint32_t)(v >> 32) != id || (uint32_t)v != (0x57000000u | i)) {
			WRONG(w, "op %u: a read of bytes that nobody wrote as one", at);
			break;
		}
	}
	return id;
}

/* --- a lane --- */

static void buf_check(struct world *w, struct lane *l)
{
	for (uint32_t i = 0; i < l->used; i++)
		if (l->buf[i] != UNUSED) {
			WRONG(w, "op %u: byte %u of its buffer changed after it had ended", l->at,
			      i);
			break;
		}
}

static void ended_read(struct world *w, struct lane *l, struct tried *t)
{
	uint32_t want = t->what == GET ? 8 : reg_len(t->target);

	if (!l->op.ret_len)
		return;
	if (l->op.ret_len != want) {
		WRONG(w, "op %u: a read of %llu bytes", l->at, (unsigned long long)l->op.ret_len);
		return;
	}
	t->saw = bytes_saw(w, l->at, l->buf, want);
	if (t->what == GET)
		w->cell[t->target - REGISTERS - LOGS] = t->saw;
}

static void done(struct pst_op *op)
{
	struct lane *l = container_of(op, struct lane, op);
	struct world *w = l->client->w;
	struct tried *t = &w->tried[l->at];

	t->ended = true;
	t->status = op->status;
	t->to_ns = loop_now(w->loop);
	if (t->what >= N_CREATE)
		names_ended(w, l, t);
	if (t->what == GET && t->status == -ENOENT)
		t->status = 0; /* it saw nothing */
	if ((t->what == READ || t->what == GET) && op->status == 0)
		ended_read(w, l, t);
	if (t->what == REPLACE && op->status == 0)
		w->cell[t->target - REGISTERS - LOGS] = l->at + 1;
	memset(l->buf, UNUSED, l->used); /* the next holder's */
	l->busy = false;
	w->busy--;
}

static void fill_array(struct world *w, struct lane *l, struct tried *t)
{
	struct pst_op *op = &l->op;

	l->used = t->what == APPEND ? 16 : reg_len(t->target);
	l->iov = (struct iovec){l->buf, l->used};
	op->iov = &l->iov;
	op->iov_count = 1;
	op->len = l->used;
	op->opcode = t->what == READ ? PST_OP_READ : PST_OP_WRITE;
	if (t->what == READ && rng_chance(&w->rng, 0.3))
		op->flags = PST_F_NOVERIFY; /* nobody but us sees what is wrong with it */
	if (t->what != READ)
		bytes_fill(l->buf, l->used, l->at + 1);
	if (t->what != APPEND)
		return;
	l->mut[0] = (struct pst_mut){.kind = PST_ARRAY_APPEND,
	                             .oid = op->oid,
	                             .iov = &l->iov,
	                             .iov_count = 1,
	                             .len = l->used};
	op->opcode = PST_OP_BATCH;
	op->muts = l->mut;
	op->mut_count = 1;
}

static void fill_cell(struct world *w, struct lane *l, struct tried *t)
{
	unsigned cell = t->target - REGISTERS - LOGS;
	struct pst_op *op = &l->op;

	l->used = 8;
	if (t->what == GET) {
		op->opcode = PST_OP_KV_GET;
		op->key = "k";
		op->key_len = 1;
		op->val = l->buf;
		op->val_cap = 8;
		return;
	}
	t->saw = w->cell[cell];
	l->expected = le64_make((uint64_t)t->saw << 32 | 0x57000000u);
	bytes_fill(l->buf, 8, l->at + 1);
	l->mut[0] = (struct pst_mut){.kind = t->saw ? PST_IF_KEY_EQ : PST_IF_KEY_ABSENT,
	                             .err = NOT_EQUAL,
	                             .oid = op->oid,
	                             .key = "k",
	                             .key_len = 1};
	if (t->saw) {
		l->mut[0].val = &l->expected;
		l->mut[0].val_len = 8;
	}
	l->mut[1] = (struct pst_mut){.kind = PST_KV_PUT,
	                             .oid = op->oid,
	                             .key = "k",
	                             .key_len = 1,
	                             .val = l->buf,
	                             .val_len = 8};
	op->opcode = PST_OP_BATCH;
	op->muts = l->mut;
	op->mut_count = 2;
}

static void choose(struct world *w, struct tried *t)
{
	static const struct {
		enum what what;
		unsigned first, count, odds;
	} of[] = {
	        {WRITE, 0, REGISTERS, 30},         {READ, 0, REGISTERS, 30},
	        {APPEND, REGISTERS, LOGS, 20},     {REPLACE, REGISTERS + LOGS, CELLS, 10},
	        {GET, REGISTERS + LOGS, CELLS, 8}, {TRESPASS, 0, REGISTERS, 2},
	};
	uint64_t dice = rng_below(&w->rng, 100);
	unsigned i = 0;

	for (; dice >= of[i].odds; i++)
		dice -= of[i].odds;
	t->what = (uint8_t)of[i].what;
	t->target = (uint16_t)(of[i].first + rng_below(&w->rng, of[i].count));
}

static void lane_fill(struct world *w, struct lane *l, struct tried *t)
{
	struct pst_op *op = &l->op;

	if (l->client->prefixed || (!l->hurry && rng_chance(&w->rng, 0.25)))
		names_choose(w, l, t);
	else
		choose(w, t);
	if (l->hurry && !l->client->prefixed) {
		t->what = WRITE;
		t->target = 0;
	}
	memset(op, 0, sizeof(*op));
	op->cont = t->what == TRESPASS ? w->forbidden : w->cont;
	op->done = done;
	if (t->what < N_CREATE)
		op->oid = oid_target(t->target);
	if (t->what >= N_CREATE)
		names_fill(l, t);
	else if (t->target < REGISTERS + LOGS)
		fill_array(w, l, t);
	else
		fill_cell(w, l, t);
	if (l->hurry) {
		op->deadline_ns = t->deadline_ns = loop_now(w->loop) + 200 * NSEC_PER_USEC;
		return;
	}
	/* About as long as it takes, so that time is often over while something is on its way. */
	if (rng_chance(&w->rng, t->what == READ ? 0.4 : 0.1))
		op->deadline_ns = t->deadline_ns =
		        loop_now(w->loop) + rng_below(&w->rng, 400 * NSEC_PER_USEC);
}

static void lane_go(struct world *w, struct lane *l)
{
	struct tried *t = &w->tried[w->count];

	buf_check(w, l);
	memset(t, 0, sizeof(*t));
	l->at = w->count;
	t->life = l->client->life;
	lane_fill(w, l, t);
	t->from_ns = loop_now(w->loop);
	l->busy = true;
	w->busy++;
	w->count++;
	switch (store_submit(l->client->store, &l->op)) {
	case PST_DONE:
		done(&l->op);
		break;
	case PST_BUSY: /* never tried */
		w->busy--;
		w->count--;
		l->busy = false;
		memset(l->buf, UNUSED, l->used);
		break;
	case PST_QUEUED:
		break;
	}
}

void clients_go(struct world *w)
{
	struct client *c = &w->client[rng_below(&w->rng, CLIENTS)];
	struct lane *l = &c->lane[rng_below(&w->rng, LANES)];

	if (l->busy || w->count == OPS_MAX)
		return;
	if (c->revoking == REVOKED) {
		if (!c->more)
			return;
		c->more--;
	}
	lane_go(w, l);
}

void client_hurry(struct world *w, struct client *c)
{
	for (unsigned i = 0; i < LANES && w->count < OPS_WANTED; i++) {
		struct lane *l = &c->lane[i];

		if (l->busy || c->revoking == REVOKED)
			continue;
		l->hurry = true;
		lane_go(w, l);
		l->hurry = false;
		return;
	}
}

/* --- a client --- */

static void granted(struct cap_op *o, int status)
{
	struct client *c = container_of(o, struct client, cap);

	if (status < 0)
		WRONG(c->w, "a grant failed: %d", status);
	c->cap_id = o->info.id;
	memcpy(c->token, o->token, sizeof(c->token));
	c->revoking = GRANTED;
}

static void grant(struct world *w, struct client *c)
{
	memset(&c->cap, 0, sizeof(c->cap));
	c->cap.info.cont = w->cont;
	c->cap.info.rights = RIGHTS_ALL;
	c->prefixed = rng_chance(&w->rng, 0.25);
	if (c->prefixed)
		(void)snprintf(c->cap.info.prefix, sizeof(c->cap.info.prefix), NAMES_DIR);
	c->cap.done = granted;
	c->token[0] = 0;
	pst_assert(cap_grant(w->table, &c->cap) == 0);
	while (!c->token[0] && !w->wrong[0])
		(void)loop_turn(w->loop, NSEC_PER_MSEC);
}

static void connect_client(struct world *w, struct client *c)
{
	struct remote_opts o = {.at = {{.provider = "sim", .addr = "server"},
	                               {.provider = "sim", .addr = "better", .offered = true}},
	                        .at_count = 2,
	                        .seed = rng_next(&w->rng) | 1,
	                        .ops_max = 8,
	                        .slots = 4,
	                        .name = "sim",
	                        .cred = c->token,
	                        .bufs = {4, 8, 0, 0, 0},
	                        .plant = w->remote_plant};
	struct pst_err err = {0};
	unsigned tries = 0;
	int rc = -1;

	o.fabric.seed = o.seed;
	o.fabric.sim = &w->knobs;
	o.reconnect_ns = 1000 * NSEC_PER_SEC;
	o.grace_ns = 20 * NSEC_PER_USEC; /* so that ops end while their windows are in use */
	/* The first connection may be cut like any other. */
	for (; rc < 0 && tries < 20; tries++) {
		o.seed += 1000003;
		rc = remote_open(&c->store, w->loop, &o, &err);
	}
	must(rc, &err);
}

static void client_up(struct world *w, struct client *c)
{
	pst_assert(w->lives < LIVES_MAX);
	c->w = w;
	c->life = (uint8_t)w->lives++;
	for (unsigned i = 0; i < LANES; i++)
		c->lane[i].held = 0;
	watchers_up(w, c);
	grant(w, c);
	connect_client(w, c);
}

void clients_up(struct world *w)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *c = &w->client[i];

		client_up(w, c);
		for (unsigned j = 0; j < LANES; j++) {
			c->lane[j].client = c;
			c->lane[j].buf = malloc(BUF_MAX);
			pst_assert(c->lane[j].buf);
			memset(c->lane[j].buf, UNUSED, BUF_MAX);
		}
	}
}

static void client_down(struct client *c)
{
	struct remote_figures f;

	watchers_down(c);
	if (c->w->wrong[0])
		return; /* that is the end of it */
	remote_figures(c->store, &f);
	c->w->timeouts += f.timeouts;
	c->w->fallbacks += f.fallbacks;
	(void)store_close(c->store);
	for (unsigned j = 0; j < LANES; j++)
		buf_check(c->w, &c->lane[j]);
}

void clients_down(struct world *w)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		client_down(&w->client[i]);
		for (unsigned j = 0; j < LANES; j++)
			free(w->client[i].lane[j].buf);
	}
}

/* --- revocation --- */

static void is_revoked(struct client *c)
{
	struct world *w = c->w;

	c->revoking = REVOKED;
	w->revoked_ns[c->life] = loop_now(w->loop);
	c->more = (unsigned)rng_below(&w->rng, 12);
}

static void revoked(struct cap_op *o, int status)
{
	struct client *c = container_of(o, struct client, cap);

	if (status == 0)
		is_revoked(c);
	else
		c->revoking = REVOKE_LOST;
}

static void revoke(struct world *w, struct client *c)
{
	int rc;

	memset(&c->cap, 0, sizeof(c->cap));
	c->cap.info.id = c->cap_id;
	c->cap.done = revoked;
	c->revoking = REVOKE_ASKED;
	rc = cap_revoke(w->table, &c->cap);
	if (rc == -ENOENT)
		is_revoked(c); /* the crash came between its end and its answer */
	else if (rc < 0)
		WRONG(w, "a capability can't be revoked: %d", rc);
}

void clients_revoke(struct world *w)
{
	struct client *c = &w->client[rng_below(&w->rng, CLIENTS)];

	if (c->revoking != GRANTED || w->lives > LIVES_MAX - CLIENTS)
		return;
	w->revokes++;
	revoke(w, c);
}

static bool idle(const struct client *c)
{
	for (unsigned i = 0; i < LANES; i++)
		if (c->lane[i].busy)
			return false;
	return true;
}

void clients_renew(struct world *w)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *c = &w->client[i];

		if (c->revoking == REVOKE_LOST)
			revoke(w, c);
		if (c->revoking != REVOKED || c->more || !idle(c))
			continue;
		client_down(c);
		if (w->wrong[0])
			return;
		client_up(w, c);
	}
}
