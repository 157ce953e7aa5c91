/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listener - doors and connections. listener_int.h has the rules; greet.c, how a channel says who it is.
 *
 *              HELLO           session_open() done, or resumed
 *   CONN_HELLO ------> CONN_OPENING ------> CONN_UP
 *        |                  |                  |
 *        '------------------'--- conn_doom ----'---> CONN_DOOMED ---kick---> CONN_GONE
 */
#include <stdio.h>

#include "wire/listener_int.h"

#define TICK_NS   (250 * NSEC_PER_MSEC)
#define CHUNK     16u
#define COLDS_MAX 64u

struct chunk {
	struct list link;
	struct sreq r[CHUNK];
};

/* --- requests of a connection --- */

bool conn_reqs_grow(struct conn *c)
{
	struct sreq *spare = c->spare;
	struct chunk *k;

	if (c->made >= c->depth)
		return false;
	if (spare) {
		c->spare = spare->next_free;
		spare->next_free = c->free;
		c->free = spare;
		c->made++;
		return true;
	}
	k = mem_calloc(1, sizeof(*k));
	if (!k)
		return false;
	list_push(&c->chunks, &k->link);
	for (unsigned i = 0; i < CHUNK && c->made < c->depth; i++, c->made++) {
		struct sreq *r = &k->r[i];

		sreq_init(r, c);
		r->next_made = c->all;
		c->all = r;
		r->next_free = c->free;
		c->free = r;
	}
	return true;
}

/* --- connections --- */

static void conn_free(struct conn *c)
{
	struct list *n;

	while ((n = list_pop(&c->chunks)))
		mem_free(list_entry(n, struct chunk, link));
	list_del(&c->link);
	c->l->fig.conns--;
	mem_free_secret(c, sizeof(*c)); /* its session's */
}

void conn_req_gone(struct conn *c)
{
	if (!c->count && !c->opening)
		conn_free(c);
}

static void conn_close(struct conn *c)
{
	struct chan *ch = c->chan;

	/* Rule 4: from here on nothing is sent; what the fabric has ends with the channel. */
	session_conn_done(&c->sc);
	figures_chan_gone(c->l, ch);
	c->chan = NULL;
	c->state = CONN_GONE;
	c->count++; /* a hold: the connection must not go from under this function */
	chan_close(ch);
	serve_abandon(c);
	c->count--;
	conn_req_gone(c);
}

static void kick_run(struct loop_msg *m)
{
	struct wire_listener *l = container_of(m, struct wire_listener, kick);
	struct conn *c;

	l->kicked = false;
again: /* a close may end others, and with them their connections */
	list_for_each (c, &l->conns, link)
		if (c->state == CONN_DOOMED) {
			conn_close(c);
			goto again;
		}
	list_for_each (c, &l->conns, link) /* of others only such go away meanwhile as are not up */
		serve_room(c);
	serve_drain(l);
}

static void kick(struct wire_listener *l)
{
	if (l->kicked)
		return;
	l->kicked = true;
	l->kick.run = kick_run;
	loop_post(l->loop, &l->kick);
}

void listener_drain_soon(struct wire_listener *l)
{
	kick(l);
}

void conn_doom(struct conn *c, int why)
{
	if (c->state >= CONN_DOOMED)
		return;
	c->state = CONN_DOOMED;
	kick(c->l);
}

void conn_complain(struct conn *c, const char *did, const char *why)
{
	log_stranger(PST_LOG_WARN, "%s: %s: %s", c->chan->peer.addr, did, why);
}

void conn_bad(struct conn *c, const char *what)
{
	if (c->state >= CONN_DOOMED)
		return;
	c->l->fig.cut++;
	conn_complain(c, "cut off", what);
	session_conn_broke(&c->sc, -EPROTO);
	conn_doom(c, -EPROTO);
}

void conn_cut(struct conn *c, const char *why)
{
	if (c->state >= CONN_DOOMED)
		return;
	c->l->fig.cut++;
	conn_complain(c, "cut off", why);
	conn_doom(c, -ETIMEDOUT);
}

/* --- messages --- */

static void note(struct conn *c, const void *data, uint32_t len)
{
	struct wire_note n;

	if (len < sizeof(n)) {
		conn_bad(c, "a message is too short");
		return;
	}
	wire_note_get(&n, data);
	if (n.kind == WIRE_BYE) {
		/* It won't come back: sessions are limited, and live for an hour. */
		(void)session_close(&c->sc);
		conn_doom(c, -EPIPE);
	} else if (len != sizeof(n) || n.opcode || n.what || n.version != c->version) {
		conn_bad(c, "a message is malformed");
	} else if (n.kind == WIRE_CANCEL) {
		serve_cancel(c, n.id);
	} else if (n.kind == WIRE_PING) {
		session_touch(&c->sc);
		c->pong_due = true;
		c->pong_id = n.id;
		answer_out(c);
	} else if (n.kind != WIRE_PONG && n.kind != WIRE_CREDIT) {
		conn_bad(c, "a message of an unknown kind");
	}
}

/* Anything but a request. Out of line: what it needs would be saved and restored by every request. */
static __attribute__((noinline)) void other_msg(struct conn *c, const void *data, uint32_t len)
{
	if (c->state == CONN_UP)
		note(c, data, len);
	else if (c->state == CONN_HELLO)
		greet_first(c, data, len);
	else if (c->state == CONN_OPENING)
		conn_bad(c, "a message before the welcome");
}

static void on_msg(struct chan *ch, const void *data, uint32_t len)
{
	struct conn *c = ch->user;

	if (likely(c->state == CONN_UP && len && *(const uint8_t *)data == WIRE_REQ))
		serve_req(c, data, len);
	else
		other_msg(c, data, len);
}

static void on_ready(struct chan *ch)
{
	struct conn *c = ch->user;

	if (c->welcome_len)
		greet_send(c);
	if (c->state == CONN_UP)
		answer_out(c);
	serve_room(c);
}

static void on_down(struct chan *ch, int status)
{
	struct conn *c = ch->user;

	if (status == -EBADMSG) {
		/* It has a beginning that somebody made with the token, and not the keys. */
		if (c->state == CONN_HELLO && c->sc.sealed)
			session_token_forged(c->l->table, c->sc.peer, c->sc.token);
		conn_bad(c, ch->why);
		return;
	}
	log_debug("%s: gone: %s", ch->peer.addr, strerror(-status));
	conn_doom(c, status);
}

static const struct chan_handlers handlers = {
        .msg = on_msg,
        .ready = on_ready,
        .down = on_down,
};

static void on_cut(struct session_conn *sc, int why)
{
	struct conn *c = container_of(sc, struct conn, sc);

	if (c->chan)
		log_info("%s: its session goes on elsewhere, or was ended: %s", c->chan->peer.addr,
		         strerror(-why));
	conn_doom(c, why);
}

/* It came over tcp from this host, where there is a shorter way. */
static bool second_choice(const struct wire_listener *l, const struct chan *ch)
{
	return l->has_pipe && ch->traits & FABRIC_SAME_HOST && !strcmp(ch->provider->name, "tcp");
}

static bool on_accept(struct fabric_listener *fl, struct chan *ch)
{
	struct door *d = fl->user;
	struct wire_listener *l = d->l;
	struct conn *c;

	if (l->closing)
		return false;
	c = mem_calloc(1, sizeof(*c));
	if (!c)
		return false;
	c->l = l;
	c->chan = ch;
	c->since_ns = loop_now(l->loop);
	c->version = WIRE_VERSION;
	list_init(&c->chunks);
	list_init(&c->out);
	list_init(&c->room);
	c->private = d->tls || !strcmp(ch->provider->name, "pipe");
	session_conn_init(&c->sc, l->table, on_cut);
	c->sc.peer = ch->peer.addr;
	ch->handlers = &handlers;
	ch->user = c;
	list_push(&l->conns, &c->link);
	l->fig.conns++;
	l->fig.accepted++;
	l->fig.second_choice += second_choice(l, ch);
	figures_chan_up(l, ch);
	listener_tick_arm(l);
	return true;
}

static void on_full(struct fabric_listener *fl, struct chan *ch)
{
	greet_no_room(ch->user);
}

/* --- the tick: channels that don't say who they are, scrubs that go on, clients that hold on --- */

static void tick(struct loop_timer *t)
{
	struct wire_listener *l = container_of(t, struct wire_listener, tick);
	uint64_t now = loop_now(l->loop);
	bool again = hold_check(l, now);
	struct conn *c;

	list_for_each (c, &l->conns, link) {
		if (c->state == CONN_HELLO && now - c->since_ns >= l->opts.hello_ns)
			conn_bad(c, "it did not say who it is");
		again |= c->state == CONN_HELLO;
		again |= c->state == CONN_UP && answer_progress(c);
	}
	if (again)
		listener_tick_arm(l);
}

void listener_tick_arm(struct wire_listener *l)
{
	if (!l->tick.heap_index &&
	    loop_timer_arm(l->loop, &l->tick, loop_now(l->loop) + TICK_NS) < 0)
		log_error("no memory for the listener's timer");
}

/* --- the listener --- */

static void opts_fill(struct wire_listener_opts *o, const struct wire_listener_opts *from)
{
	static const unsigned bufs[WIRE_BUF_CLASSES] = {512, 64, 32, 16, 2};
	unsigned any = 0;

	*o = from ? *from : (struct wire_listener_opts){0};
	o->depth_max = o->depth_max ? o->depth_max : 256;
	o->colds_max = o->colds_max ? o->colds_max : COLDS_MAX;
	o->version = o->version ? o->version : WIRE_VERSION;
	o->hello_ns = o->hello_ns ? o->hello_ns : 10 * NSEC_PER_SEC;
	for (unsigned i = 0; i < WIRE_BUF_CLASSES; i++)
		any += o->bufs[i];
	if (!any)
		memcpy(o->bufs, bufs, sizeof(bufs));
}

static void listener_free(struct wire_listener *l)
{
	wire_bufs_done(&l->bufs);
	mem_free(l->cold_all);
	mem_free(l);
}

int wire_listener_new(struct wire_listener **ret_l, struct session_table *table,
                      const struct wire_listener_opts *opts, struct pst_err *err)
{
	struct wire_listener *l = mem_calloc(1, sizeof(*l));

	if (!l)
		return err_set(err, -ENOMEM, "no memory");
	opts_fill(&l->opts, opts);
	l->table = table;
	l->store = session_table_store(table);
	l->loop = l->store->loop;
	l->tick.fired = tick;
	for (unsigned i = 0; i < WIRE_CLASSES; i++)
		hist_init(&l->class[i].latency);
	list_init(&l->conns);
	list_init(&l->doors);
	list_init(&l->mem_wait);
	list_init(&l->colds);
	figures_init(l);
	(void)snprintf(l->name, sizeof(l->name), "%s", l->opts.name ? l->opts.name : "penstock");
	session_table_identity(table, l->uuid, &l->epoch);
	l->cold_all = mem_calloc(l->opts.colds_max, sizeof(*l->cold_all));
	if (!l->cold_all || wire_bufs_init(&l->bufs, l->opts.mem, l->opts.bufs) < 0) {
		listener_free(l);
		return err_set(err, -ENOMEM, "no memory for the listener's buffers");
	}
	for (unsigned i = 0; i < l->opts.colds_max; i++)
		list_push(&l->colds, &l->cold_all[i].link);
	l->fig.mem_bytes = l->bufs.region->len_bytes;
	*ret_l = l;
	return 0;
}

int wire_listener_add(struct wire_listener *l, const char *provider, const char *addr,
                      const struct fabric_opts *opts, const char **ret_addr, struct pst_err *err)
{
	struct door *d = mem_calloc(1, sizeof(*d));
	int rc;

	if (!d)
		return err_set(err, -ENOMEM, "no memory");
	d->l = l;
	d->tls = opts && opts->tls;
	rc = fabric_listen(&d->fl, l->loop, provider, addr, opts, err);
	if (rc < 0) {
		mem_free(d);
		return rc;
	}
	d->fl->accept = on_accept;
	d->fl->cut = on_full;
	d->fl->user = d;
	list_push(&l->doors, &d->link);
	l->has_pipe |= !strcmp(provider, "pipe");
	if (ret_addr)
		*ret_addr = d->fl->addr;
	return 0;
}

void wire_listener_offer(struct wire_listener *l, uint64_t what)
{
	l->offers |= what & ~WIRE_STORE_CAPS;
}

static void doors_close(struct wire_listener *l)
{
	struct list *n;

	while ((n = list_pop(&l->doors))) {
		struct door *d = list_entry(n, struct door, link);

		fabric_listener_close(d->fl);
		mem_free(d);
	}
}

static void say_bye(struct conn *c)
{
	uint8_t msg[sizeof(struct wire_note)];
	struct iovec iov = {msg, sizeof(msg)};

	wire_note_make(msg, c->version, WIRE_BYE, (uint32_t)-ESHUTDOWN, 0);
	if (c->state == CONN_UP)
		(void)chan_send(c->chan, &iov, 1); /* or they see the channel's end */
}

/* Anything that is worth waiting for? */
static bool any_running(const struct wire_listener *l)
{
	const struct conn *c;
	const struct sreq *r;

	list_for_each (c, &l->conns, link)
		for (r = c->all; r; r = r->next_made)
			if (r->state != SREQ_FREE && !ends_with_conn(&r->s.op))
				return true;
	return false;
}

void wire_listener_crash(struct wire_listener *l)
{
	struct conn *c;

	l->closing = true;
	doors_close(l);
	list_for_each (c, &l->conns, link)
		conn_doom(c, -ECONNRESET);
}

void wire_listener_close(struct wire_listener *l, uint64_t wait_ns)
{
	uint64_t until;
	struct conn *c;

	if (!l)
		return;
	until = loop_now(l->loop) + wait_ns;
	if (!l->closing)
		list_for_each (c, &l->conns, link)
			say_bye(c);
	l->closing = true;
	doors_close(l);
	while (any_running(l) && loop_now(l->loop) < until)
		(void)loop_turn(l->loop, until - loop_now(l->loop));
	list_for_each (c, &l->conns, link)
		conn_doom(c, -ESHUTDOWN);
	while (!list_empty(&l->conns) || l->kicked)
		(void)loop_turn(l->loop, 10 * NSEC_PER_MSEC);
	loop_timer_disarm(l->loop, &l->tick);
	listener_free(l);
}
