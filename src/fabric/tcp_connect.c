/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp, connecting and listening, and the two ends' first words. See tcp_int.h. */
#include <stdio.h>

#include "fabric/tcp_int.h"

struct tcp_listener {
	struct fabric_listener l;
	struct net_listener *net;
	struct fabric_opts opts;
	struct fabric_crowd crowd;
};

/* --- first words --- */

struct first_words {
	struct tcp_head head;
	struct tcp_hello hello;
};

static struct first_words first_words(const struct fabric_opts *opts, uint32_t status)
{
	return (struct first_words){
	        .head = {.type = TCP_HELLO,
	                 .len = le32_make(sizeof(struct tcp_hello)),
	                 .status = le32_make(status)},
	        .hello = {.magic = le64_make(TCP_MAGIC),
	                  .version = le16_make(TCP_VERSION),
	                  .msg_max = le32_make(opts->msg_max),
	                  .msg_credits = le32_make(opts->msg_credits),
	                  .xfers_max = le32_make(opts->xfers_max)},
	};
}

static int hello_send(struct tcp *t)
{
	struct first_words w = first_words(&t->opts, 0);

	return net_sock_write(t->sock, &(struct iovec){&w, sizeof(w)}, 1);
}

static int agree(struct tcp *t, const struct tcp_hello *h)
{
	if (le64_get(h->magic) != TCP_MAGIC) {
		tcp_stranger(t, (const uint8_t[]){TCP_HELLO}, 1);
		return -EPROTO;
	}
	if (le16_get(h->version) != TCP_VERSION)
		return fabric_other_version(&t->c, t->listener ? t->c.peer.addr : "it",
		                            le16_get(h->version), TCP_VERSION);
	t->c.msg_max = MIN(t->opts.msg_max, le32_get(h->msg_max));
	t->c.xfers_max = MIN(t->opts.xfers_max, le32_get(h->xfers_max));
	t->credits = t->credits_max = le32_get(h->msg_credits);
	if (t->c.msg_max < 64 || !t->c.xfers_max || !t->credits)
		return -EPROTO;
	t->c.inline_max = MIN(TCP_INLINE_MAX, t->c.msg_max - t->c.msg_max / 8);
	t->xfers = mem_calloc(t->c.xfers_max, sizeof(struct tcp_job *));
	t->copy = mem_alloc_aligned(64, ALIGN_UP(t->c.msg_max, 64));
	return t->xfers && t->copy ? 0 : -ENOMEM;
}

static void identity(struct tcp *t)
{
	const struct net_peer *peer = net_sock_peer(t->sock);
	char addr[NET_ADDR_TEXT_MAX];
	struct fabric_peer *p = &t->c.peer;
	bool loopback = net_addr_is_loopback(&peer->addr);

	snprintf(p->addr, sizeof(p->addr), "tcp:%.*s", (int)sizeof(p->addr) - 5,
	         net_addr_print(&peer->addr, addr, sizeof(addr)));
	p->has_cred = peer->has_cred;
	p->uid = peer->uid;
	p->gid = peer->gid;
	p->pid = peer->pid;
	p->has_cert = peer->cert != NULL;
	if (peer->cert)
		snprintf(p->cert_name, sizeof(p->cert_name), "%s", peer->cert->name);
	/* Not FABRIC_WRITE_THEN_MSG: a message passes between the chunks of a long write. */
	t->c.traits = FABRIC_ANY_MEMORY | FABRIC_LENT |
	              (net_addr_is_own(&peer->addr) ? FABRIC_SAME_HOST : 0) |
	              (loopback ? FABRIC_PRIVATE : 0) |
	              (net_sock_is_tls(t->sock) ? FABRIC_PRIVATE : FABRIC_ROOM);
}

int tcp_hello_came(struct tcp *t, const struct tcp_hello *h, uint32_t status)
{
	struct tcp_listener *l = t->listener;
	int rc = agree(t, h);

	if (rc == 0 && status && !l)
		return fabric_refused(&t->c, status);
	if (rc == -EPROTONOSUPPORT && l)
		(void)hello_send(t); /* so that it knows ours */
	if (rc == 0 && l)
		rc = hello_send(t);
	if (rc < 0)
		return rc;
	t->state = TCP_UP;
	t->heard = true;
	tcp_soon(t); /* begins to probe */
	identity(t);
	if (!l) {
		t->c.handlers->up(&t->c, 0);
		return 0;
	}
	t->listener = NULL;
	fabric_give(&l->l, &t->c);
	return 0;
}

void tcp_sock_up(struct net_sock *s, int status)
{
	struct tcp *t = net_sock_user(s);

	if (status < 0)
		status = tcp_explain(t, s, status);
	else
		status = hello_send(t);
	if (status < 0)
		tcp_broken(t, status);
}

/* --- why there was no channel --- */

#define TLS_ALERT     21 /* the first byte of a record of TLS, and the second */
#define TLS_HANDSHAKE 22
#define TLS_MAJOR     3

void tcp_stranger(struct tcp *t, const uint8_t *at, size_t len)
{
	bool tls = (at[0] == TLS_ALERT || at[0] == TLS_HANDSHAKE) && len > 1 && at[1] == TLS_MAJOR;

	if (tls && t->listener)
		snprintf(t->c.why, sizeof(t->c.why), "%s speaks TLS, and this door does not",
		         t->c.peer.addr);
	else if (tls)
		snprintf(t->c.why, sizeof(t->c.why),
		         "%s wants TLS: say tls=yes or tls-ca=FILE in the store's name",
		         t->c.peer.addr);
	else
		snprintf(t->c.why, sizeof(t->c.why), "%s does not speak Penstock's protocol",
		         t->c.peer.addr);
}

int tcp_explain(struct tcp *t, struct net_sock *s, int status)
{
	bool tls = t->opts.tls, silent = status == -EPIPE || status == -ECONNRESET;

	if (!silent)
		snprintf(t->c.why, sizeof(t->c.why), "%s", net_sock_error(s));
	else if (!t->listener)
		snprintf(t->c.why, sizeof(t->c.why),
		         tls ? "%s closed the connection before TLS was up: is it for TLS?"
		             : "%s closed the connection before it said a word: if it wants TLS, "
		               "say tls=yes or tls-ca=FILE in the store's name",
		         t->c.peer.addr);
	return silent ? -ECONNREFUSED : status;
}

void tcp_never_up(const struct tcp *t)
{
	if (t->c.why[0])
		log_stranger(PST_LOG_WARN, "tcp: a connection failed: %s", t->c.why);
	else
		log_stranger(PST_LOG_INFO, "tcp: %s has gone before it said a word",
		             t->c.peer.addr);
}

/* --- making and freeing --- */

bool tcp_end(struct tcp *t)
{
	struct loop *loop = t->c.loop;
	struct list *n;

	if (!t->sock_gone || !list_empty(&t->jobs) || t->windows_count)
		return false;
	loop_timer_disarm(loop, &t->timer);
	while ((n = list_pop(&t->spare)))
		mem_free(list_entry(n, struct tcp_job, link));
	mem_free(t->windows);
	mem_free(t->xfers);
	/* The last message: it may have been one with a token or a session's secret. */
	mem_free_secret(t->copy, t->copy ? t->c.msg_max : 0);
	mem_free(t);
	fabric_drop(loop);
	return true;
}

static int tcp_new(struct tcp **ret_t, struct loop *loop, const struct fabric_opts *opts)
{
	struct tcp *t = mem_calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return -ENOMEM;
	t->c.ops = &tcp_ops;
	t->c.provider = &tcp_provider;
	t->c.loop = loop;
	t->opts = *opts;
	t->opts.msg_max = MIN(opts->msg_max, TCP_MSG_LIMIT);
	t->opts.windows_max = MIN(opts->windows_max, TCP_WINDOWS_MAX);
	t->opts.xfers_max = MIN(opts->xfers_max, TCP_XFERS_LIMIT);
	t->sock_gone = true;
	t->timer.fired = tcp_timer_fired;
	list_init(&t->jobs);
	list_init(&t->spare);
	list_init(&t->turns);
	rc = fabric_random(&t->window_number, sizeof(t->window_number));
	t->window_number >>= 17; /* 48 bits of number, half of them to go */
	if (rc == 0)
		rc = fabric_hold(loop);
	if (rc < 0) {
		mem_free(t);
		return rc;
	}
	rc = loop_timer_arm(loop, &t->timer, loop_now(loop) + opts->connect_ns);
	if (rc < 0) {
		(void)tcp_end(t);
		return rc;
	}
	*ret_t = t;
	return 0;
}

static void net_opts_fill(struct net_opts *n, const struct fabric_opts *opts)
{
	*n = (struct net_opts){
	        .connect_ns = opts->connect_ns,
	        .dead_ns = opts->dead_ns,
	        .linger_ns = FABRIC_LINGER_NS,
	        .queue_max = SIZE_MAX / 4, /* bounded by what is queued: see tcp_int.h */
	        .ahead_max = NET_AHEAD_LIMIT,
	        .tls = opts->tls,
	        .tls_name = opts->tls_name,
	        .conns_max = opts->conns_max,
	};
}

static int tcp_connect(struct chan **ret_c, struct loop *loop, const char *addr,
                       const struct fabric_opts *opts, const struct chan_handlers *handlers,
                       void *user, struct pst_err *err)
{
	struct net_opts net;
	struct tcp *t;
	int rc = tcp_new(&t, loop, opts);

	if (rc < 0)
		return err_set(err, rc, "tcp: %s: %s", addr, strerror(-rc));
	t->c.handlers = handlers;
	t->c.user = user;
	snprintf(t->c.peer.addr, sizeof(t->c.peer.addr), "tcp:%.100s", addr);
	net_opts_fill(&net, opts);
	rc = net_sock_connect(&t->sock, loop, addr, &net, &tcp_handlers, t, err);
	if (rc < 0) {
		t->sock = NULL;
		(void)tcp_end(t);
		return rc;
	}
	t->sock_gone = false;
	*ret_c = &t->c;
	return 0;
}

/* --- listening --- */

static bool on_accept(struct net_listener *nl, struct net_sock *s, void *user)
{
	struct tcp_listener *l = user;
	char addr[NET_ADDR_TEXT_MAX];
	struct tcp *t;

	if (tcp_new(&t, l->l.loop, &l->opts) < 0)
		return false;
	t->listener = l;
	t->sock = s;
	t->sock_gone = false;
	snprintf(t->c.peer.addr, sizeof(t->c.peer.addr), "tcp:%.100s",
	         net_addr_print(&net_sock_peer(s)->addr, addr, sizeof(addr)));
	crowd_join(&l->crowd, &t->c, net_sock_peer(s));
	net_sock_set_handlers(s, &tcp_handlers, t);
	return true;
}

static void on_failed(struct net_listener *nl, const struct net_addr *peer, int status,
                      const char *sentence, void *user)
{
	log_stranger(PST_LOG_WARN, "tcp: %s: a connection failed: %s",
	             ((struct tcp_listener *)user)->l.addr, sentence);
}

static size_t refusal(void *buf, void *user)
{
	const struct tcp_listener *l = user;
	struct first_words w = first_words(&l->opts, EUSERS);

	memcpy(buf, &w, sizeof(w));
	return sizeof(w);
}

/* Of a stranger that said nothing. */
static void refuse(struct chan *c)
{
	struct tcp *t = container_of(c, struct tcp, c);
	struct first_words w = first_words(&t->opts, EUSERS);

	(void)net_sock_try(t->sock, &(struct iovec){&w, sizeof(w)}, 1);
	chan_close(c);
}

static bool on_full(struct net_listener *nl, unsigned early, void *user)
{
	struct tcp_listener *l = user;

	return crowd_make_room(&l->crowd, early, &l->l, refuse);
}

static const struct net_accept acceptor = {
        .accept = on_accept, .failed = on_failed, .full = on_full, .refusal = refusal};

static void tcp_unlisten(struct fabric_listener *fl)
{
	struct tcp_listener *l = container_of(fl, struct tcp_listener, l);
	struct loop *loop = fl->loop;

	loop_assert(loop);
	net_listener_close(l->net);
	crowd_end(&l->crowd);
	mem_free(l);
	fabric_drop(loop);
}

static int tcp_listen(struct fabric_listener **ret_l, struct loop *loop, const char *addr,
                      const struct fabric_opts *opts, struct pst_err *err)
{
	struct tcp_listener *l = mem_calloc(1, sizeof(*l));
	struct net_opts net;
	int rc;

	if (!l || fabric_hold(loop) < 0) {
		mem_free(l);
		return err_set(err, -ENOMEM, "tcp: %s: no memory", addr);
	}
	l->l = (struct fabric_listener){
	        .provider = &tcp_provider, .loop = loop, .close = tcp_unlisten};
	l->opts = *opts;
	crowd_init(&l->crowd);
	net_opts_fill(&net, opts);
	rc = net_listen(&l->net, loop, addr, 0, &net, &acceptor, l, err);
	if (rc < 0) {
		mem_free(l);
		fabric_drop(loop);
		return rc;
	}
	net_addr_print(net_listener_addr(l->net), l->l.addr, sizeof(l->l.addr));
	*ret_l = &l->l;
	return 0;
}

struct fabric_provider tcp_provider = {
        .name = "tcp", .listen = tcp_listen, .connect = tcp_connect, .check = fabric_check_any};

__attribute__((constructor)) static void tcp_register(void)
{
	fabric_provider_add(&tcp_provider);
}
