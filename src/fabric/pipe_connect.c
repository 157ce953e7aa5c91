/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pipe, the control socket: connecting, listening, frames. Both ends show their inbox; the listener's
 * end answers. Then the socket is silent but for regions, until its hang-up.
 */
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fabric/pipe_int.h"

static const char pipe_kind;

struct pipe_listener {
	struct fabric_listener l;
	struct net_listener *net;
	struct pipe_loop *pl;
	struct fabric_opts opts;
	struct fabric_crowd crowd;
};

/* --- what a loop has --- */

static struct pipe_loop *loop_get(struct loop *loop)
{
	struct loop_part *part = loop_part_find(loop, &pipe_kind);
	struct pipe_loop *pl;

	if (part) {
		pl = container_of(part, struct pipe_loop, part);
		pl->users++;
		return pl;
	}
	pl = mem_calloc(1, sizeof(*pl));
	if (!pl)
		return NULL;
	pl->part.kind = &pipe_kind;
	pl->loop = loop;
	pl->users = 1;
	pl->poller = (struct loop_poller){.poll = pipe_loop_poll,
	                                  .may_sleep = pipe_loop_may_sleep,
	                                  .sleeps = pipe_loop_sleeps};
	pl->domain = (struct mem_domain){
	        .name = "pipe", .reg = pipe_region_reg, .unreg = pipe_region_unreg};
	list_init(&pl->active);
	list_init(&pl->parked);
	list_init(&pl->regions);
	loop_poller_add(loop, &pl->poller);
	loop_part_add(loop, &pl->part);
	return pl;
}

void pipe_loop_put(struct pipe_loop *pl)
{
	if (--pl->users)
		return;
	pipe_regions_unregister(pl);
	loop_poller_del(pl->loop, &pl->poller);
	loop_part_del(pl->loop, &pl->part);
	mem_free(pl);
}

/* --- frames --- */

struct frame_out {
	struct net_send send;
	struct pipe_frame frame;
	struct iovec iov;
	int fds[2];
};

static void frame_sent(struct net_send *m, int status)
{
	struct frame_out *out = container_of(m, struct frame_out, send);

	for (unsigned i = 0; i < m->fd_count; i++)
		close(out->fds[i]);
	mem_free(out);
}

/* Takes the descriptors, in any case. */
static int frame_send_fds(struct pipe *p, const struct pipe_frame *f, const int *fds,
                          unsigned fd_count)
{
	struct frame_out *out = mem_calloc(1, sizeof(*out));
	int rc = out ? 0 : -ENOMEM;

	if (out) {
		out->frame = *f;
		out->iov = (struct iovec){&out->frame, sizeof(out->frame)};
		memcpy(out->fds, fds, fd_count * sizeof(*fds));
		out->send = (struct net_send){.done = frame_sent,
		                              .iov = &out->iov,
		                              .iov_count = 1,
		                              .fds = out->fds,
		                              .fd_count = fd_count};
		rc = net_sock_send(p->sock, &out->send);
	}
	if (rc < 0) {
		for (unsigned i = 0; i < fd_count; i++)
			close(fds[i]);
		mem_free(out);
	}
	return rc;
}

int pipe_frame_send(struct pipe *p, struct pipe_frame *f, int fd)
{
	int copy;

	if (!p->sock)
		return -ENOTCONN;
	f->magic = le64_make(PIPE_MAGIC);
	f->version = le16_make(PIPE_VERSION);
	f->type = le16_make(f->type);
	if (fd < 0)
		return net_sock_write(p->sock, &(struct iovec){f, sizeof(*f)}, 1);
	copy = dup(fd);
	if (copy < 0)
		return -errno;
	return frame_send_fds(p, f, &copy, 1);
}

/* Shows our inbox and bell. */
static int hello_send(struct pipe *p)
{
	struct pipe_frame f = {
	        .magic = le64_make(PIPE_MAGIC),
	        .version = le16_make(PIPE_VERSION),
	        .type = le16_make(PIPE_HELLO),
	        .hello = {.msg_max = le32_make(p->opts.msg_max),
	                  .msg_credits = le32_make(p->opts.msg_credits),
	                  .windows = le32_make(p->in.windows),
	                  .lists = le32_make(p->in.lists),
	                  .ring_bytes = le32_make(p->in.ring_bytes),
	                  .ring_off = le32_make(p->in.ring_off)},
	};
	int fds[2] = {p->inbox_fd, dup(p->bell.fd)};

	if (fds[1] < 0)
		return -errno;
	p->inbox_fd = -1;
	p->hello_sent = true;
	return frame_send_fds(p, &f, fds, 2);
}

/* --- the two ends meet --- */

/* The peer's windows have their table in our inbox, and ours in its. */
static int agree(struct pipe *p, const struct pipe_frame *f)
{
	uint32_t msg_max = le32_get(f->hello.msg_max), credits = le32_get(f->hello.msg_credits);

	p->c.msg_max = MIN(msg_max, p->opts.msg_max);
	p->c.msg_max = MIN(p->c.msg_max, p->out.ring_bytes / 4);
	p->c.msg_max = MIN(p->c.msg_max, p->in.ring_bytes / 4);
	if (p->c.msg_max < 64 || !credits)
		return -EPROTO;
	p->credits = p->credits_max = credits;
	p->room = p->out.ring_bytes;
	p->c.inline_max = MIN(PIPE_INLINE_MAX, p->c.msg_max - p->c.msg_max / 8);
	p->windows_max = MIN(p->opts.windows_max, p->out.windows);
	p->lists_free = p->out.lists ? (uint32_t)((1ull << p->out.lists) - 1) : 0;
	p->copy = mem_alloc_aligned(64, ALIGN_UP(p->c.msg_max, 64));
	p->slots_free = mem_alloc(p->windows_max * sizeof(*p->slots_free));
	if (!p->copy || !p->slots_free)
		return -ENOMEM;
	/* The last is taken first. */
	for (uint32_t i = 0; i < p->windows_max; i++)
		p->slots_free[i] = (uint16_t)(p->windows_max - 1 - i);
	return 0;
}

static int meet(struct pipe *p, const struct pipe_frame *f)
{
	int fds[2], rc;
	unsigned n = net_sock_take_fds(p->sock, fds, 2);

	if (n != 2) {
		if (n)
			close(fds[0]);
		return -EPROTO;
	}
	rc = pipe_map_peer(&p->out, fds[0], f);
	close(fds[0]);
	p->out_bell = fds[1];
	if (rc == 0)
		rc = agree(p, f);
	if (rc == 0 && !p->hello_sent)
		rc = hello_send(p);
	return rc;
}

static void came_up(struct pipe *p)
{
	struct pipe_listener *l = p->listener;

	loop_timer_disarm(p->c.loop, &p->timer);
	p->state = PIPE_UP;
	p->was_up = true;
	pipe_activate(p);
	if (!l) {
		p->c.handlers->up(&p->c, 0);
		return;
	}
	p->listener = NULL;
	fabric_give(&l->l, &p->c);
}

static int other_version(struct pipe *p, unsigned version)
{
	struct pipe_frame ours = {.type = PIPE_HELLO};

	if (p->listener) /* so that it knows ours; there is nothing to show to it */
		(void)pipe_frame_send(p, &ours, -1);
	return fabric_other_version(&p->c, p->listener ? p->c.peer.addr : "it", version,
	                            PIPE_VERSION);
}

static int on_frame(struct pipe *p, const struct pipe_frame *f)
{
	bool first = p->state == PIPE_CONNECTING;
	int fd = -1, rc;

	if (first && le64_get(f->magic) != PIPE_MAGIC)
		(void)snprintf(p->c.why, sizeof(p->c.why), "%s does not speak Penstock's protocol",
		               p->c.peer.addr);
	else if (first && le16_get(f->version) != PIPE_VERSION)
		return other_version(p, le16_get(f->version));
	if (le64_get(f->magic) != PIPE_MAGIC || le16_get(f->version) != PIPE_VERSION)
		return -EPROTO;
	if (le16_get(f->type) == PIPE_BYE) {
		p->bye = true;
		return first && !p->listener && f->value
		               ? fabric_refused(&p->c,
		                                (uint32_t)MIN(le64_get(f->value), UINT32_MAX))
		               : 0;
	}
	if (first) {
		rc = le16_get(f->type) == PIPE_HELLO ? meet(p, f) : -EPROTO;
		if (rc == 0)
			came_up(p);
		return rc;
	}
	if (le16_get(f->type) == PIPE_REGION)
		(void)net_sock_take_fds(p->sock, &fd, 1);
	rc = pipe_region_frame(p, f, fd);
	if (fd >= 0)
		close(fd);
	return rc;
}

static size_t sock_data(struct net_sock *s, const void *bytes, size_t len)
{
	struct pipe *p = net_sock_user(s);
	size_t used = 0;

	while (len - used >= sizeof(struct pipe_frame) && p->sock == s && !p->status) {
		struct pipe_frame f;
		int rc;

		memcpy(&f, (const char *)bytes + used, sizeof(f));
		used += sizeof(f);
		rc = on_frame(p, &f);
		if (rc < 0)
			pipe_broken(p, rc);
	}
	return p->sock == s && !p->status ? used : len;
}

static void sock_up(struct net_sock *s, int status)
{
	struct pipe *p = net_sock_user(s);

	if (status == 0) {
		const struct net_peer *peer = net_sock_peer(s);

		p->c.peer.has_cred = peer->has_cred;
		p->c.peer.uid = peer->uid;
		p->c.peer.gid = peer->gid;
		p->c.peer.pid = peer->pid;
		status = hello_send(p);
	}
	if (status < 0)
		pipe_broken(p, status);
}

static void sock_down(struct net_sock *s, int status)
{
	struct pipe *p = net_sock_user(s);

	p->hung_up = true;
	if (p->state == PIPE_CONNECTING)
		pipe_broken(p, -ECONNREFUSED);
	pipe_activate(p);
}

static void sock_gone(void *user)
{
	struct pipe *p = user;

	p->sock_gone = true;
	pipe_activate(p);
}

static const struct net_handlers sock_handlers = {
        .up = sock_up, .data = sock_data, .down = sock_down, .gone = sock_gone};

void pipe_never_up(const struct pipe *p)
{
	if (p->c.why[0])
		log_stranger(PST_LOG_WARN, "pipe: a connection failed: %s", p->c.why);
	else
		log_stranger(PST_LOG_INFO, "pipe: %s has gone before it was connected: %s",
		             p->c.peer.addr, strerror(-p->status));
}

void pipe_sock_end(struct pipe *p)
{
	struct net_sock *s = p->sock;
	struct pipe_frame bye = {.type = PIPE_BYE};

	if (!s)
		return;
	/* What broke the rules is not told that this is a good end. If the frame can't be sent, it
	 * takes the hang-up for a crash, which is what it may look like. */
	if (p->state == PIPE_CLOSING && !p->status && !p->hung_up && p->hello_sent)
		(void)pipe_frame_send(p, &bye, -1);
	p->sock = NULL;
	/* Who never came up where he connected to has nothing to deliver, and nobody who takes it. */
	if (p->was_up || p->listener)
		net_sock_close(s);
	else
		net_sock_abort(s);
}

/* --- making and freeing --- */

void pipe_free(struct pipe *p)
{
	struct loop *loop = p->c.loop;
	struct pipe_loop *pl = p->pl;

	loop_timer_disarm(loop, &p->timer);
	pipe_delist(p);
	pipe_regions_end(p);
	pipe_unmap(&p->in);
	pipe_unmap(&p->out);
	if (p->inbox_fd >= 0)
		close(p->inbox_fd);
	if (p->bell.fd >= 0)
		close(p->bell.fd);
	if (p->out_bell >= 0)
		close(p->out_bell);
	/* The last message: it may have been one with a token or a session's secret. */
	mem_free_secret(p->copy, p->copy ? p->c.msg_max : 0);
	mem_free(p->slots_free);
	mem_free(p);
	pipe_loop_put(pl);
	fabric_drop(loop);
}

static void too_late(struct loop_timer *t)
{
	pipe_broken(container_of(t, struct pipe, timer), -ETIMEDOUT);
}

static int pipe_fill(struct pipe *p)
{
	struct loop *loop = p->c.loop;
	int rc = pipe_map_new(&p->in, &p->inbox_fd, &p->opts);

	if (rc < 0)
		return rc;
	p->bell.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->bell.fd < 0)
		return -errno;
	rc = fabric_random(&p->window_number, 4); /* 46 bits are enough for ever from there, too */
	if (rc == 0)
		rc = loop_timer_arm(loop, &p->timer, loop_now(loop) + p->opts.connect_ns);
	if (rc == 0)
		rc = loop_fd_add_edge(loop, &p->bell, POLLIN);
	p->window_number = (p->window_number & UINT32_MAX) + 1;
	p->bell_watched = rc == 0;
	return rc;
}

/* A channel without its socket. */
static int pipe_new(struct pipe **ret_p, struct loop *loop, const struct fabric_opts *opts)
{
	struct pipe *p = mem_calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return -ENOMEM;
	if (fabric_hold(loop) < 0) {
		mem_free(p);
		return -ENOMEM;
	}
	p->pl = loop_get(loop);
	if (!p->pl) {
		fabric_drop(loop);
		mem_free(p);
		return -ENOMEM;
	}
	p->c.ops = &pipe_ops;
	p->c.provider = &pipe_provider;
	p->c.loop = loop;
	p->c.traits = FABRIC_WRITE_THEN_MSG | FABRIC_PRIVATE | FABRIC_SAME_HOST | FABRIC_LENT;
	p->c.msg_max = opts->msg_max;
	p->c.xfers_max = opts->xfers_max;
	p->opts = *opts;
	p->out_bell = p->inbox_fd = p->bell.fd = -1;
	p->bell.ready = pipe_bell_ready;
	p->timer.fired = too_late;
	p->ring_io.done = pipe_bell_rung;
	p->sock_gone = true;
	list_init(&p->finished);
	list_init(&p->windows);
	list_init(&p->closing);
	pipe_enlist(p);
	rc = pipe_fill(p);
	if (rc < 0) {
		pst_assert(!p->bell_watched);
		pipe_free(p);
		return rc;
	}
	*ret_p = p;
	return 0;
}

static int opts_check(char addr[256 + 8], const char *text, const struct fabric_opts *opts,
                      struct pst_err *err)
{
	const char *scheme = strncmp(text, "unix", 4) == 0 && strchr(text, ':') ? "" : "unix:";

	if (opts->tls)
		return err_set(err, -ENOTSUP, "pipe: %s: there is no TLS on one host", text);
	if (opts->msg_max > PIPE_RING_MAX / 8)
		return err_set(err, -EINVAL, "pipe: messages of at most %llu bytes",
		               (unsigned long long)PIPE_RING_MAX / 8);
	if ((size_t)snprintf(addr, 256 + 8, "%s%s", scheme, text) >= 256)
		return err_set(err, -ENAMETOOLONG, "pipe: %.64s...: the path is too long", text);
	return 0;
}

static int pipe_connect(struct chan **ret_c, struct loop *loop, const char *text,
                        const struct fabric_opts *opts, const struct chan_handlers *handlers,
                        void *user, struct pst_err *err)
{
	const struct net_opts net = {
	        .connect_ns = opts->connect_ns, .linger_ns = FABRIC_LINGER_NS, .fds_max = 4};
	char addr[256 + 8];
	struct pipe *p;
	int rc = opts_check(addr, text, opts, err);

	if (rc < 0)
		return rc;
	rc = pipe_new(&p, loop, opts);
	if (rc < 0)
		return err_set(err, rc, "pipe: %s: %s", text, strerror(-rc));
	p->c.handlers = handlers;
	p->c.user = user;
	snprintf(p->c.peer.addr, sizeof(p->c.peer.addr), "pipe:%.100s", text);
	rc = net_sock_connect(&p->sock, loop, addr, &net, &sock_handlers, p, err);
	if (rc < 0) {
		p->sock = NULL;
		chan_close(&p->c);
		return rc;
	}
	p->sock_gone = false;
	*ret_c = &p->c;
	return 0;
}

/* --- listening --- */

static bool on_accept(struct net_listener *nl, struct net_sock *s, void *user)
{
	struct pipe_listener *l = user;
	const struct net_peer *peer = net_sock_peer(s);
	struct pipe *p;

	if (pipe_new(&p, l->l.loop, &l->opts) < 0)
		return false;
	p->listener = l;
	p->sock = s;
	p->sock_gone = false;
	p->c.peer.has_cred = peer->has_cred;
	p->c.peer.uid = peer->uid;
	p->c.peer.gid = peer->gid;
	p->c.peer.pid = peer->pid;
	snprintf(p->c.peer.addr, sizeof(p->c.peer.addr), "pipe:uid=%u,pid=%d", peer->uid,
	         peer->pid);
	crowd_join(&l->crowd, &p->c, peer);
	net_sock_set_handlers(s, &sock_handlers, p);
	return true;
}

static struct pipe_frame no_room(void)
{
	return (struct pipe_frame){.magic = le64_make(PIPE_MAGIC),
	                           .version = le16_make(PIPE_VERSION),
	                           .type = le16_make(PIPE_BYE),
	                           .value = le64_make(EUSERS)};
}

static size_t refusal(void *buf, void *user)
{
	struct pipe_frame f = no_room();

	memcpy(buf, &f, sizeof(f));
	return sizeof(f);
}

/* Of a stranger that said nothing. */
static void refuse(struct chan *c)
{
	struct pipe *p = container_of(c, struct pipe, c);
	struct pipe_frame f = no_room();

	(void)net_sock_try(p->sock, &(struct iovec){&f, sizeof(f)}, 1);
	chan_close(c);
}

static bool on_full(struct net_listener *nl, unsigned early, void *user)
{
	struct pipe_listener *l = user;

	return crowd_make_room(&l->crowd, early, &l->l, refuse);
}

static void on_failed(struct net_listener *nl, const struct net_addr *peer, int status,
                      const char *sentence, void *user)
{
	log_stranger(PST_LOG_WARN, "pipe: %s: a connection failed: %s",
	             ((struct pipe_listener *)user)->l.addr, sentence);
}

static const struct net_accept acceptor = {
        .accept = on_accept, .failed = on_failed, .full = on_full, .refusal = refusal};

static void pipe_unlisten(struct fabric_listener *fl)
{
	struct pipe_listener *l = container_of(fl, struct pipe_listener, l);
	struct loop *loop = fl->loop;

	loop_assert(loop);
	net_listener_close(l->net);
	crowd_end(&l->crowd);
	pipe_loop_put(l->pl);
	mem_free(l);
	fabric_drop(loop);
}

static int pipe_listen(struct fabric_listener **ret_l, struct loop *loop, const char *text,
                       const struct fabric_opts *opts, struct pst_err *err)
{
	/* Who may do what is decided by whom the kernel says they are, not by whose the socket is. */
	const struct net_opts net = {.connect_ns = opts->connect_ns,
	                             .linger_ns = FABRIC_LINGER_NS,
	                             .fds_max = 4,
	                             .conns_max = opts->conns_max,
	                             .unix_mode = 0666};
	char addr[256 + 8];
	struct pipe_listener *l;
	int rc = opts_check(addr, text, opts, err);

	if (rc < 0)
		return rc;
	l = mem_calloc(1, sizeof(*l));
	if (!l || fabric_hold(loop) < 0) {
		mem_free(l);
		return err_set(err, -ENOMEM, "pipe: %s: no memory", text);
	}
	l->l = (struct fabric_listener){
	        .provider = &pipe_provider, .loop = loop, .close = pipe_unlisten};
	l->opts = *opts;
	crowd_init(&l->crowd);
	snprintf(l->l.addr, sizeof(l->l.addr), "%s", text);
	l->pl = loop_get(loop);
	rc = l->pl ? net_listen(&l->net, loop, addr, 0, &net, &acceptor, l, err)
	           : err_set(err, -ENOMEM, "pipe: %s: no memory", text);
	if (rc < 0) {
		if (l->pl)
			pipe_loop_put(l->pl);
		mem_free(l);
		fabric_drop(loop);
		return rc;
	}
	*ret_l = &l->l;
	return 0;
}

struct fabric_provider pipe_provider = {
        .name = "pipe",
        .listen = pipe_listen,
        .connect = pipe_connect,
        .check = fabric_check_any,
};

__attribute__((constructor)) static void pipe_register(void)
{
	fabric_provider_add(&pipe_provider);
}
