/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ofi, connecting and listening: the side, the first words, and the endpoints' first frames.
 *
 *   connecting end                      accepting end
 *   side is up, endpoint made
 *   HELLO --------------------------->  endpoint made
 *   <--------------------------- HELLO  (or a refusal)
 *   READY =====================frame=>  accept()
 *   <==========================frame= READY
 *   up()
 */
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>

#include "fabric/ofi_int.h"

struct ofi_listener {
	struct fabric_listener l;
	struct net_listener *net;
	struct fabric_opts opts;
	char provider[OFI_PROVIDER_MAX];
	struct ofi_part *part;
	struct fabric_crowd crowd;
};

/* --- first words --- */

static struct ofi_hello hello_of(const struct fabric_opts *opts, const char *provider, int status)
{
	struct ofi_hello h = {.magic = le64_make(OFI_MAGIC),
	                      .version = le16_make(OFI_VERSION),
	                      .status = le32_make((uint32_t)-status),
	                      .msg_max = le32_make(opts->msg_max),
	                      .msg_credits = le32_make(opts->msg_credits),
	                      .xfers_max = le32_make(opts->xfers_max),
	                      .windows_max = le32_make(opts->windows_max)};

	memcpy(h.provider, provider, sizeof(h.provider));
	return h;
}

static int hello_send(struct ofi *o, int status)
{
	struct ofi_hello h = hello_of(&o->opts, o->provider, status);
	size_t len = sizeof(h.name);
	int rc;

	if (status == 0) {
		h.token = le64_make(o->token_in);
		h.protocol = le32_make(o->ep.fab->info->ep_attr->protocol);
		rc = fi_getname(&o->ep.ep->fid, h.name, &len);
		if (rc < 0)
			return ofi_errno(rc);
		h.name_len = le16_make((uint16_t)len);
	}
	return net_sock_write(o->sock, &(struct iovec){&h, sizeof(h)}, 1);
}

/* The smaller of both ends' limits count. */
static int agree(struct ofi *o, const struct ofi_hello *h)
{
	struct chan *c = &o->c;

	c->msg_max = MIN(o->opts.msg_max, le32_get(h->msg_max));
	c->xfers_max = MIN(o->opts.xfers_max, le32_get(h->xfers_max));
	/* Not more than we give either: each is a buffer here, and the peer is nobody we know yet. */
	o->credits = o->credits_max = MIN(le32_get(h->msg_credits), o->opts.msg_credits);
	o->answers_max = MIN(le32_get(h->windows_max), OFI_WINDOWS_MAX);
	if (c->msg_max < 64 || !c->xfers_max || !o->credits || !o->answers_max)
		return -EPROTO;
	o->token_out = le64_get(h->token);
	/* So that the frame is one that the provider sends in one go. */
	c->inline_max = MIN(OFI_INLINE_MAX, c->msg_max - c->msg_max / 8);
	o->answers = mem_calloc(o->answers_max, sizeof(*o->answers));
	return o->answers ? 0 : -ENOMEM;
}

static int hello_check(const struct ofi *o, const struct ofi_hello *h)
{
	if (le64_get(h->magic) != OFI_MAGIC)
		return -EPROTO;
	if (le16_get(h->version) != OFI_VERSION)
		return -EPROTONOSUPPORT;
	if (le32_get(h->status))
		return le32_get(h->status) < 4096 ? -(int)le32_get(h->status) : -EPROTO;
	if (le16_get(h->name_len) > OFI_NAME_MAX || !le16_get(h->name_len))
		return -EPROTO;
	if (memcmp(h->provider, o->provider, sizeof(h->provider)) ||
	    (o->ep.fab && le32_get(h->protocol) != o->ep.fab->info->ep_attr->protocol))
		return -EPROTONOSUPPORT;
	return 0;
}

static int endpoint(struct ofi *o)
{
	struct pst_err err = {0};
	struct ofi_fab *f;
	int rc = ofi_fab_get(&f, o->part, o->provider, net_sock_local(o->sock), &err);

	if (rc < 0) {
		(void)snprintf(o->c.why, sizeof(o->c.why), "%.255s", err.text);
		if (o->listener)
			log_stranger(PST_LOG_WARN, "%s", err.text);
		return rc;
	}
	/* A small device's queue holds fewer receives than there could be messages under way. */
	if (f->info->rx_attr->size <= OFI_RX_MORE)
		return -ENOTSUP;
	o->opts.msg_credits =
	        (uint32_t)MIN(o->opts.msg_credits, f->info->rx_attr->size - OFI_RX_MORE);
	return ofi_ep_open(&o->ep, f);
}

static void woken(struct loop_fd *f, uint32_t revents)
{
	/* The poller is about to look. */
}

static int begin(struct ofi *o, const struct ofi_hello *h)
{
	int rc = ofi_buffers(o);

	if (rc < 0)
		return rc;
	if (fi_av_insert(o->ep.av, h->name, 1, &o->ep.peer, 0, NULL) != 1) {
		o->ep.peer = FI_ADDR_UNSPEC;
		return -EPROTO;
	}
	if (o->ep.fd >= 0) {
		o->wake.fd = o->ep.fd;
		o->wake.ready = woken;
		rc = loop_fd_add(o->c.loop, &o->wake, POLLIN);
		if (rc < 0)
			return rc;
		o->fd_watched = true;
		o->fd_gone = false;
	}
	o->poller = (struct loop_poller){
	        .poll = ofi_poll, .may_sleep = ofi_may_sleep, .sleeps = ofi_sleeps};
	loop_poller_add(o->c.loop, &o->poller);
	o->polling = true;
	return 0;
}

static void explain(struct ofi *o, const struct ofi_hello *h, int status)
{
	const char *why = strerror(-status);
	bool other = status == -EPROTONOSUPPORT && le16_get(h->version) != OFI_VERSION;

	if (status == -EUSERS)
		why = "as many connections as may be are open";
	if (status == -EPROTO)
		why = "it does not speak this protocol";
	if (status == -EPROTONOSUPPORT)
		why = "the two ends name different providers";
	if (other)
		(void)fabric_other_version(&o->c, o->listener ? o->c.peer.addr : "it",
		                           le16_get(h->version), OFI_VERSION);
	else
		(void)snprintf(o->c.why, sizeof(o->c.why), "%.120s%s: %.100s", o->c.peer.addr,
		               le64_get(h->magic) == OFI_MAGIC && le32_get(h->status) ? " refuses"
		                                                                      : "",
		               why);
	if (o->listener)
		log_stranger(PST_LOG_WARN, "ofi: a connection failed: %s", o->c.why);
}

/* The accepting end answers when it is listening to the endpoint; the other says READY then. */
static int hello_came(struct ofi *o, const struct ofi_hello *h)
{
	int rc = hello_check(o, h);

	if (rc < 0)
		explain(o, h, rc);
	rc = rc == -EUSERS ? -ECONNREFUSED : rc;
	if (rc == 0)
		rc = agree(o, h);
	if (rc == 0 && o->listener)
		rc = endpoint(o);
	if (rc == 0 && o->listener)
		rc = hello_check(o, h); /* the protocol, too */
	if (rc == 0)
		rc = begin(o, h);
	if (rc < 0 && o->listener && !le32_get(h->status)) {
		(void)hello_send(o, rc);
		return rc;
	}
	if (rc == 0 && o->listener)
		return hello_send(o, 0);
	o->ready_due = rc == 0;
	return rc;
}

static void identity(struct ofi *o)
{
	const struct net_peer *peer = net_sock_peer(o->sock);
	char addr[NET_ADDR_TEXT_MAX];
	struct fabric_peer *p = &o->c.peer;

	(void)snprintf(p->addr, sizeof(p->addr), "ofi:%s:%.80s", o->provider,
	               net_addr_print(&peer->addr, addr, sizeof(addr)));
	/* Not FABRIC_WRITE_THEN_MSG: a transfer is posted in pieces. Not FABRIC_PRIVATE because the
	 * side is: the endpoints are not. */
	o->c.traits = FABRIC_ANY_MEMORY;
	if (net_addr_is_loopback(&peer->addr))
		o->c.traits |= FABRIC_SAME_HOST | FABRIC_PRIVATE;
}

int ofi_up(struct ofi *o)
{
	struct ofi_listener *l = o->listener;

	o->state = OFI_UP;
	o->heard = true;
	o->probe_ns = 0;
	ofi_soon(o); /* begins to probe */
	identity(o);
	if (!l) {
		o->c.handlers->up(&o->c, 0);
		return 0;
	}
	o->ready_due = true;
	o->listener = NULL;
	fabric_give(&l->l, &o->c);
	return 0;
}

/* --- the side --- */

static void side_up(struct net_sock *s, int status)
{
	struct ofi *o = net_sock_user(s);

	if (status < 0)
		(void)snprintf(o->c.why, sizeof(o->c.why), "%s", net_sock_error(s));
	if (status == 0)
		status = endpoint(o);
	if (status == 0)
		status = hello_send(o, 0);
	if (status < 0)
		ofi_broken(o, status);
}

static size_t side_data(struct net_sock *s, const void *bytes, size_t len)
{
	struct ofi *o = net_sock_user(s);
	struct ofi_hello h;
	int rc;

	if (o->status || o->state != OFI_CONNECTING)
		return len;
	if (len < sizeof(h))
		return 0;
	memcpy(&h, bytes, sizeof(h));
	/* One hello, and nothing more: ever. */
	rc = len > sizeof(h) || o->polling ? -EPROTO : hello_came(o, &h);
	if (rc < 0)
		ofi_broken(o, rc);
	return len;
}

static void side_filled(struct net_sock *s)
{
}

static void side_down(struct net_sock *s, int status)
{
	ofi_side_down(net_sock_user(s), status);
}

static void side_gone(void *user)
{
	struct ofi *o = user;

	o->sock_gone = true;
	ofi_soon(o);
}

static const struct net_handlers side_handlers = {
        .up = side_up,
        .data = side_data,
        .filled = side_filled,
        .down = side_down,
        .gone = side_gone,
};

/* --- making and freeing --- */

static void locals_close(struct ofi *o)
{
	struct list *n;

	while ((n = list_pop(&o->locals))) {
		struct ofi_local *l = list_entry(n, struct ofi_local, link);

		ofi_mr_close(l->mr);
		mem_free(l);
	}
}

static void ofi_free(struct ofi *o)
{
	struct loop *loop = o->c.loop;
	struct list *n;

	loop_timer_disarm(loop, &o->timer);
	list_del(&o->part_link);
	while ((n = list_pop(&o->jobs_spare)))
		mem_free(list_entry(n, struct ofi_job, link));
	locals_close(o);
	ofi_mr_close(o->rx_mr);
	ofi_mr_close(o->tx_mr);
	ofi_ep_close(&o->ep);
	mem_free(o->rx_slab);
	mem_free(o->tx_slab);
	mem_free(o->rx);
	mem_free(o->early);
	mem_free(o->tx);
	mem_free(o->windows);
	mem_free(o->answers);
	ofi_part_put(o->part);
	mem_free(o);
	fabric_drop(loop);
}

bool ofi_end(struct ofi *o)
{
	if (!o->sock_gone || !o->fd_gone || o->windows_count || o->jobs_count)
		return false;
	ofi_free(o);
	return true;
}

static void lists_init(struct ofi *o)
{
	struct list *all[] = {&o->part_link, &o->txq,  &o->tx_spare, &o->locals,    &o->closes,
	                      &o->told,      &o->jobs, &o->blocked,  &o->jobs_spare};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		list_init(all[i]);
}

static void opts_take(struct fabric_opts *o)
{
	o->msg_max = MIN(o->msg_max, OFI_MSG_LIMIT);
	o->msg_credits = MIN(o->msg_credits, OFI_CREDITS_MAX);
	o->windows_max = MIN(o->windows_max, OFI_WINDOWS_MAX);
	o->xfers_max = MIN(o->xfers_max, OFI_XFERS_LIMIT);
}

static int ofi_new(struct ofi **ret_o, struct loop *loop, const struct fabric_opts *opts,
                   const char *provider)
{
	struct ofi *o = mem_calloc(1, sizeof(*o));
	int rc;

	if (!o)
		return -ENOMEM;
	o->c.ops = &ofi_ops;
	o->c.provider = &ofi_provider;
	o->c.loop = loop;
	o->opts = *opts;
	opts_take(&o->opts);
	(void)snprintf(o->provider, sizeof(o->provider), "%s", provider);
	o->sock_gone = o->fd_gone = true;
	o->ep.fd = -1;
	o->ep.peer = FI_ADDR_UNSPEC;
	o->timer.fired = ofi_timer_fired;
	lists_init(o);
	memset(o->revoked, 0xff, sizeof(o->revoked));
	rc = fabric_random(&o->token_in, sizeof(o->token_in));
	if (rc == 0)
		rc = fabric_hold(loop);
	if (rc < 0) {
		mem_free(o);
		return rc;
	}
	rc = ofi_part_get(&o->part, loop);
	if (rc == 0) {
		list_push(&o->part->chans, &o->part_link);
		rc = loop_timer_arm(loop, &o->timer, loop_now(loop) + opts->connect_ns);
	}
	if (rc < 0) {
		ofi_free(o);
		return rc;
	}
	*ret_o = o;
	return 0;
}

static void net_opts_fill(struct net_opts *n, const struct fabric_opts *opts)
{
	*n = (struct net_opts){
	        .connect_ns = opts->connect_ns,
	        .dead_ns = opts->dead_ns,
	        .linger_ns = FABRIC_LINGER_NS,
	        .conns_max = opts->conns_max,
	};
}

static int check_opts(char provider[OFI_PROVIDER_MAX], const struct fabric_opts *opts,
                      struct pst_err *err)
{
	if (opts->tls)
		return err_set(err, -ENOTSUP, "ofi: there is no TLS between RDMA endpoints");
	return ofi_provider_name(provider, opts->provider, err);
}

static int ofi_connect(struct chan **ret_c, struct loop *loop, const char *addr,
                       const struct fabric_opts *opts, const struct chan_handlers *handlers,
                       void *user, struct pst_err *err)
{
	char provider[OFI_PROVIDER_MAX] = {0};
	struct net_opts net;
	struct ofi *o;
	int rc = check_opts(provider, opts, err);

	if (rc == 0)
		rc = ofi_start(loop, provider, err);
	if (rc < 0)
		return rc;
	rc = ofi_new(&o, loop, opts, provider);
	if (rc < 0)
		return err_set(err, rc, "ofi: %s: %s", addr, strerror(-rc));
	o->c.handlers = handlers;
	o->c.user = user;
	(void)snprintf(o->c.peer.addr, sizeof(o->c.peer.addr), "ofi:%s:%.80s", provider, addr);
	net_opts_fill(&net, opts);
	rc = net_sock_connect(&o->sock, loop, addr, &net, &side_handlers, o, err);
	if (rc < 0) {
		o->sock = NULL;
		ofi_free(o);
		return rc;
	}
	o->sock_gone = false;
	*ret_c = &o->c;
	return 0;
}

/* --- listening --- */

static size_t refusal(void *buf, void *user)
{
	const struct ofi_listener *l = user;
	struct ofi_hello h = hello_of(&l->opts, l->provider, -EUSERS);

	memcpy(buf, &h, sizeof(h));
	return sizeof(h);
}

/* Of a stranger that said nothing, or no READY. */
static void refuse(struct chan *c)
{
	struct ofi *o = container_of(c, struct ofi, c);
	struct ofi_hello h = hello_of(&o->opts, o->provider, -EUSERS);

	if (!o->polling) /* else there was a hello: one is all that it may be told */
		(void)net_sock_try(o->sock, &(struct iovec){&h, sizeof(h)}, 1);
	chan_close(c);
}

static bool on_full(struct net_listener *nl, unsigned early, void *user)
{
	struct ofi_listener *l = user;

	return crowd_make_room(&l->crowd, early, &l->l, refuse);
}

static bool on_accept(struct net_listener *nl, struct net_sock *s, void *user)
{
	struct ofi_listener *l = user;
	struct ofi *o;

	if (l->crowd.count >= OFI_CROWD_MAX)
		(void)crowd_make_room(&l->crowd, 0, &l->l, refuse);
	if (ofi_new(&o, l->l.loop, &l->opts, l->provider) < 0)
		return false;
	o->listener = l;
	o->sock = s;
	o->sock_gone = false;
	net_addr_print(&net_sock_peer(s)->addr, o->c.peer.addr, sizeof(o->c.peer.addr));
	crowd_join(&l->crowd, &o->c, net_sock_peer(s));
	net_sock_set_handlers(s, &side_handlers, o);
	return true;
}

static void on_failed(struct net_listener *nl, const struct net_addr *peer, int status,
                      const char *sentence, void *user)
{
	log_stranger(PST_LOG_WARN, "ofi: %s: a connection failed: %s",
	             ((struct ofi_listener *)user)->l.addr, sentence);
}

static const struct net_accept acceptor = {
        .accept = on_accept, .failed = on_failed, .full = on_full, .refusal = refusal};

static void listener_free(struct ofi_listener *l)
{
	struct loop *loop = l->l.loop;

	net_listener_close(l->net);
	ofi_part_put(l->part);
	mem_free(l);
	fabric_drop(loop);
}

static void ofi_unlisten(struct fabric_listener *fl)
{
	struct ofi_listener *l = container_of(fl, struct ofi_listener, l);

	loop_assert(fl->loop);
	crowd_end(&l->crowd);
	listener_free(l);
}

static bool is_any(const struct net_addr *a)
{
	static const struct in6_addr any6;

	return a->sa.ss_family == AF_INET
	               ? ((const struct sockaddr_in *)&a->sa)->sin_addr.s_addr == 0
	               : memcmp(&((const struct sockaddr_in6 *)&a->sa)->sin6_addr, &any6, 16) == 0;
}

/* So that a provider that isn't there is said now, and the first client does not wait for it. */
static int provider_is_there(struct ofi_listener *l, struct pst_err *err)
{
	const struct net_addr *a = net_listener_addr(l->net);
	struct ofi_fab *f;

	if (net_addr_is_unix(a))
		return err_set(err, -EINVAL, "ofi: %s: it is HOST:PORT", l->l.addr);
	return is_any(a) ? 0 : ofi_fab_get(&f, l->part, l->provider, a, err);
}

static int ofi_listen(struct fabric_listener **ret_l, struct loop *loop, const char *addr,
                      const struct fabric_opts *opts, struct pst_err *err)
{
	char provider[OFI_PROVIDER_MAX] = {0};
	struct ofi_listener *l;
	struct net_opts net;
	int rc = check_opts(provider, opts, err);

	if (rc < 0)
		return rc;
	l = mem_calloc(1, sizeof(*l));
	if (!l || fabric_hold(loop) < 0) {
		mem_free(l);
		return err_set(err, -ENOMEM, "ofi: %s: no memory", addr);
	}
	l->l = (struct fabric_listener){
	        .provider = &ofi_provider, .loop = loop, .close = ofi_unlisten};
	l->opts = *opts;
	memcpy(l->provider, provider, sizeof(provider));
	crowd_init(&l->crowd);
	net_opts_fill(&net, opts);
	rc = ofi_part_get(&l->part, loop);
	if (rc < 0)
		(void)err_set(err, rc, "ofi: %s: no memory", addr);
	else
		rc = net_listen(&l->net, loop, addr, 0, &net, &acceptor, l, err);
	if (rc == 0) {
		net_addr_print(net_listener_addr(l->net), l->l.addr, sizeof(l->l.addr));
		rc = provider_is_there(l, err);
	}
	if (rc < 0) {
		listener_free(l);
		return rc;
	}
	*ret_l = &l->l;
	return 0;
}

struct fabric_provider ofi_provider = {
        .name = "ofi", .listen = ofi_listen, .connect = ofi_connect, .check = ofi_check};

__attribute__((constructor)) static void ofi_register(void)
{
	fabric_provider_add(&ofi_provider);
}
