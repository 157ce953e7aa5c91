/* SPDX-License-Identifier: BSD-3-Clause */
/* sim, names: listening and connecting; and what tests turn. See sim.h and sim_int.h. */
#include <stdio.h>
#include <unistd.h>

#include "fabric/sim_int.h"

static const char net_kind;

/* --- connecting --- */

static struct sim_listener *listener_find(struct loop *loop, const char *addr)
{
	struct loop_part *part = loop_part_find(loop, &net_kind);
	struct sim_listener *sl;

	if (!part)
		return NULL;
	list_for_each (sl, &container_of(part, struct sim_net, part)->listeners, link)
		if (strcmp(sl->l.addr, addr) == 0)
			return sl;
	return NULL;
}

/* Both ends know each other's limits. */
static void agree(struct sim_link *l, const struct sim_listener *sl)
{
	struct sim_end *a = &l->end[0], *b = &l->end[1];

	a->c.msg_max = b->c.msg_max = MIN(a->c.msg_max, sl->opts.msg_max);
	b->c.xfers_max = sl->opts.xfers_max;
	b->windows_max = sl->opts.windows_max;
	b->dead_ns = sl->opts.dead_ns;
	b->credits_given = sl->opts.msg_credits;
	b->credits = a->credits_given;
	a->credits = b->credits_given;
}

static void refused(struct sim_link *l)
{
	list_del(&l->end[1].closed_ev.link);
	end_gone(&l->end[1]);
	if (l->end[0].state == END_NEW && !l->cut)
		down_at(&l->end[0], -ECONNREFUSED, soon(l));
}

static void arrive_fire(struct sim_link *l, struct sim_ev *ev)
{
	struct sim_listener *sl = listener_find(l->loop, l->addr);
	struct sim_end *b = &l->end[1];

	if (sl && sl->door == SIM_SILENT) {
		end_gone(b);
		return; /* until the deadline */
	}
	if (!sl || sl->door == SIM_REFUSE || sl->conns >= sl->opts.conns_max || !sl->l.accept) {
		refused(l);
		return;
	}
	agree(l, sl);
	l->listener = sl;
	sl->conns++;
	list_push(&sl->links, &l->listed);
	b->state = END_UP;
	/* Armed before what accept() may send, so that it comes first. */
	l->end[0].lane_ns = soon(l);
	ev_arm(l, &l->end[0].up_ev, l->end[0].lane_ns);
	if (!sl->l.accept(&sl->l, &b->c)) {
		list_del(&l->end[0].up_ev.link);
		refused(l);
	}
}

static void identity(struct fabric_peer *p, const char *addr)
{
	*p = (struct fabric_peer){
	        .has_cred = true, .uid = getuid(), .gid = getgid(), .pid = getpid()};
	snprintf(p->addr, sizeof(p->addr), "sim:%.100s", addr);
}

static void link_init(struct sim_link *l, struct loop *loop, const struct fabric_opts *opts)
{
	l->loop = loop;
	list_init(&l->events);
	list_init(&l->listed);
	ev_init(&l->arrive_ev, false, arrive_fire);
	l->timer.fired = link_run;
	rng_seed(&l->rng, opts->seed ^ 0x51b);
	if (opts->sim)
		l->k = *opts->sim;
	else
		sim_knobs_draw(&l->k, opts->seed);
	pst_assert(l->k.pieces_max >= 1 && l->k.pieces_max <= SIM_PIECES_MAX);
	end_init(l, &l->end[0], &l->end[1]);
	end_init(l, &l->end[1], &l->end[0]);
}

static int sim_connect(struct chan **ret_c, struct loop *loop, const char *addr,
                       const struct fabric_opts *opts, const struct chan_handlers *handlers,
                       void *user, struct pst_err *err)
{
	struct sim_link *l;
	struct sim_end *e;

	if (opts->tls)
		return err_set(err, -ENOTSUP, "sim:%s: has no TLS", addr);
	if (strlen(addr) >= sizeof(l->addr))
		return err_set(err, -ENAMETOOLONG, "sim: the name is too long");
	l = mem_calloc(1, sizeof(*l));
	if (!l || fabric_hold(loop) < 0) {
		mem_free(l);
		return err_set(err, -ENOMEM, "sim:%s: no memory", addr);
	}
	link_init(l, loop, opts);
	if (loop_timer_arm(loop, &l->timer, NEVER) < 0) {
		fabric_drop(loop);
		mem_free(l);
		return err_set(err, -ENOMEM, "sim:%s: no memory", addr);
	}
	snprintf(l->addr, sizeof(l->addr), "%s", addr);
	e = &l->end[0];
	e->c.handlers = handlers;
	e->c.user = user;
	e->c.msg_max = opts->msg_max;
	e->c.xfers_max = opts->xfers_max;
	e->windows_max = opts->windows_max;
	e->credits_given = opts->msg_credits;
	e->dead_ns = opts->dead_ns;
	identity(&e->c.peer, addr);
	identity(&l->end[1].c.peer, addr);
	if (l->k.has_peer)
		l->end[1].c.peer = l->k.client;
	ev_arm(l, &l->arrive_ev, add_sat(loop_now(loop), delay(l)));
	down_at(e, -ETIMEDOUT, add_sat(loop_now(loop), opts->connect_ns));
	*ret_c = &e->c;
	return 0;
}

/* --- listening --- */

static void sim_unlisten(struct fabric_listener *l)
{
	struct sim_listener *sl = container_of(l, struct sim_listener, l);
	struct loop_part *part = loop_part_find(l->loop, &net_kind);
	struct sim_net *net = container_of(part, struct sim_net, part);

	loop_assert(l->loop);
	while (!list_empty(&sl->links))
		listener_forget(list_first(&sl->links, struct sim_link, listed));
	list_del(&sl->link);
	if (list_empty(&net->listeners)) {
		loop_part_del(l->loop, &net->part);
		mem_free(net);
	}
	fabric_drop(l->loop);
	mem_free(sl);
}

static struct sim_net *net_get(struct loop *loop)
{
	struct loop_part *part = loop_part_find(loop, &net_kind);
	struct sim_net *net;

	if (part)
		return container_of(part, struct sim_net, part);
	net = mem_calloc(1, sizeof(*net));
	if (!net)
		return NULL;
	list_init(&net->listeners);
	net->part.kind = &net_kind;
	loop_part_add(loop, &net->part);
	return net;
}

static int sim_listen(struct fabric_listener **ret_l, struct loop *loop, const char *addr,
                      const struct fabric_opts *opts, struct pst_err *err)
{
	struct sim_listener *sl;
	struct sim_net *net;

	if (opts->tls)
		return err_set(err, -ENOTSUP, "sim:%s: has no TLS", addr);
	if (!*addr || strlen(addr) >= sizeof(sl->l.addr))
		return err_set(err, -EINVAL, "sim: a name of 1 to %zu characters is needed",
		               sizeof(sl->l.addr) - 1);
	if (listener_find(loop, addr))
		return err_set(err, -EADDRINUSE, "sim:%s: somebody listens there already", addr);
	sl = mem_calloc(1, sizeof(*sl));
	if (!sl || fabric_hold(loop) < 0) {
		mem_free(sl);
		return err_set(err, -ENOMEM, "sim:%s: no memory", addr);
	}
	net = net_get(loop);
	if (!net) {
		fabric_drop(loop);
		mem_free(sl);
		return err_set(err, -ENOMEM, "sim:%s: no memory", addr);
	}
	sl->l = (struct fabric_listener){
	        .provider = &sim_provider, .loop = loop, .close = sim_unlisten};
	snprintf(sl->l.addr, sizeof(sl->l.addr), "%s", addr);
	sl->opts = *opts;
	list_init(&sl->links);
	list_push(&net->listeners, &sl->link);
	*ret_l = &sl->l;
	return 0;
}

/* --- for tests --- */

void sim_knobs_draw(struct sim_knobs *k, uint64_t seed)
{
	struct rng r;

	rng_seed(&r, seed);
	*k = (struct sim_knobs){
	        .delay_min_ns = 1 + rng_below(&r, 2000),
	        .xfer_max_ns = 1 + rng_below(&r, 100000),
	        .pieces_max = 1 + (unsigned)rng_below(&r, SIM_PIECES_MAX),
	        .inline_max = 512,
	        .again = rng_chance(&r, 0.5) ? 0.05 : 0,
	        .late_close = (double)rng_below(&r, 3) / 2,
	        .bad_desc_cuts = rng_chance(&r, 0.5),
	};
	k->delay_max_ns = k->delay_min_ns + rng_below(&r, 50000);
}

static struct sim_end *end_of(const struct chan *c)
{
	pst_assert(c->ops == &sim_ops);
	return container_of(c, struct sim_end, c);
}

void sim_cut(struct chan *c, uint64_t here_ns, uint64_t there_ns)
{
	struct sim_end *e = end_of(c);
	bool first = e == &e->link->end[0];

	link_cut(e->link, -ECONNRESET, first ? here_ns : there_ns, first ? there_ns : here_ns);
}

void sim_stall(struct chan *c, uint64_t ns)
{
	struct sim_link *l = end_of(c)->link;

	l->stalled_until_ns = MAX(l->stalled_until_ns, add_sat(now_of(l), ns));
	for (unsigned i = 0; i < 2; i++) {
		if (l->end[i].state == END_UP && l->end[i].dead_ns < ns)
			down_at(&l->end[i], -ETIMEDOUT, add_sat(now_of(l), l->end[i].dead_ns));
	}
	link_rearm(l);
}

uint64_t sim_events(const struct chan *c)
{
	return end_of(c)->link->events_seen;
}

struct chan *sim_peer(struct chan *c)
{
	return &end_of(c)->peer->c;
}

void sim_listener_door(struct fabric_listener *l, enum sim_door door)
{
	pst_assert(l->provider == &sim_provider);
	container_of(l, struct sim_listener, l)->door = door;
}

struct fabric_provider sim_provider = {
        .name = "sim", .listen = sim_listen, .connect = sim_connect, .check = fabric_check_any};

__attribute__((constructor)) static void sim_register(void)
{
	fabric_provider_add(&sim_provider);
}
