/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * health - the standard health service: Check, and Watch, which tells the present status first and then each
 * other one that comes.
 *
 * There is one health of all services: serving, unless the store has stopped (nothing is written any more
 * until it is opened again) or the server ends. The store is asked when sessions are swept, when Check asks,
 * and when somebody begins to watch.
 *
 * All of this is on the loop: what the front's thread hears of a watcher it posts. A watcher has one message
 * on its way at a time: who reads slowly misses what came and went meanwhile, and holds nothing up. No stream
 * ends by itself. When the server ends, each is told that it does not serve, and why its stream is over; who
 * does not take that within STOP_S is cut off.
 */
#include "front/grpc/grpc_int.h"

typedef Grpc__Health__V1__HealthCheckResponse Response;

/* --- who watches --- */

/* Packs @status for the client if that is news to it. */
static bool news(struct gcall *c, int status)
{
	Response r = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

	if (c->told == status)
		return false;
	c->told = status;
	r.status = (unsigned)status;
	call_reply(c, &r.base);
	return true;
}

static void watch_end(struct gcall *c, grpc_status_code code, const char *text)
{
	c->ending = true;
	call_send(c, code, text);
}

/* Does what there is to do now. */
static void watch_go(struct gcall *c)
{
	bool stopping = atomic_load(&c->front->stopping);
	int health = stopping ? HEALTH_NOT : c->front->health;

	if (c->sending || c->ending)
		return;
	if (c->closed) {
		watch_end(c, GRPC_STATUS_CANCELLED, "");
		return;
	}
	c->sending = news(c, c->known ? health : HEALTH_UNKNOWN);
	if (stopping)
		watch_end(c, GRPC_STATUS_UNAVAILABLE, "ESHUTDOWN: this server ends");
	else if (c->sending)
		call_stream(c);
}

void do_watch(struct gcall *c)
{
	const Grpc__Health__V1__HealthCheckRequest *in = (const void *)c->in;

	list_push(&c->front->watchers, &c->watcher);
	c->known = !in->service[0] || service_known(in->service);
	c->told = -1;
	/* Most stores say at once how they are; else what is told first may be followed soon. */
	health_ask(c->front);
	watch_go(c);
}

void watch_sent(struct loop_msg *m)
{
	struct gcall *c = container_of(m, struct gcall, msg);

	grpc_byte_buffer_destroy(c->reply);
	c->reply = NULL;
	c->sending = false;
	c->closed = c->closed || !c->sent_ok;
	watch_go(c);
}

void watch_closed(struct loop_msg *m)
{
	struct gcall *c = container_of(m, struct gcall, closed_msg);

	c->closed = true;
	watch_go(c);
	call_unref(c);
}

void watch_gone(struct loop_msg *m)
{
	struct gcall *c = container_of(m, struct gcall, msg);

	list_del(&c->watcher);
	call_unref(c);
}

void watchers_end(struct grpc_front *f)
{
	struct gcall *c;

	list_for_each (c, &f->watchers, watcher)
		watch_go(c);
}

/* --- what it is --- */

static void health_take(struct grpc_front *f, int status, const struct pst_store_status *st)
{
	struct gcall *c;

	if (status || atomic_load(&f->stopping))
		return;
	f->health = st->stopped ? HEALTH_NOT : HEALTH_SERVING;
	list_for_each (c, &f->watchers, watcher)
		watch_go(c);
}

static void asked(struct pst_op *op)
{
	struct grpc_front *f = container_of(op, struct grpc_front, health_op);

	f->health_asked = false;
	health_take(f, op->status, f->health_status);
}

void health_ask(struct grpc_front *f)
{
	if (f->health_asked || atomic_load(&f->stopping))
		return;
	f->health_op = (struct pst_op){
	        .opcode = PST_OP_STATUS, .status_out = f->health_status, .done = asked};
	f->health_asked = true;
	switch (store_submit(session_table_store(f->table), &f->health_op)) {
	case PST_DONE:
		asked(&f->health_op);
		break;
	case PST_QUEUED:
		break;
	case PST_BUSY:
		f->health_asked = false; /* at the next sweep, then */
		break;
	}
}

static void checked(struct pst_op *op)
{
	struct gcall *c = container_of(op, struct gcall, req.op);
	Response r = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

	health_take(c->front, op->status, c->status);
	r.status = (unsigned)c->front->health;
	call_end(c, 0, &r.base);
}

void do_health(struct gcall *c)
{
	const Grpc__Health__V1__HealthCheckRequest *in = (const void *)c->in;
	char name[SHOWN_MAX];
	int rc = 0;

	if (in->service[0] && !service_known(in->service))
		rc = call_fail(c, -ENOENT, "service: no \"%s\" is served here",
		               shown(name, in->service));
	if (!rc)
		c->status = mem_calloc(1, sizeof(*c->status));
	if (!rc && !c->status)
		rc = -ENOMEM;
	if (rc) {
		call_end(c, rc, NULL);
		return;
	}
	c->req.op =
	        (struct pst_op){.opcode = PST_OP_STATUS, .status_out = c->status, .done = checked};
	switch (store_submit(session_table_store(c->front->table), &c->req.op)) {
	case PST_DONE:
		checked(&c->req.op);
		break;
	case PST_QUEUED:
		break;
	case PST_BUSY:
		call_end(c, call_fail(c, -EAGAIN, "Check: the store is busy: ask again"), NULL);
		break;
	}
}
