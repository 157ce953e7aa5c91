/* SPDX-License-Identifier: BSD-3-Clause */
/* Peers of channels that speak the protocols by hand; see fabric_raw.h. */
#include "fabric_raw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct raw_xfer {
	struct chan_xfer x;
	struct iovec iov;
	struct raw_server *s;
	struct raw_xfer *next;
};

/* --- the server --- */

static void xfer_done(struct chan_xfer *x, int status)
{
	struct raw_xfer *rx = container_of(x, struct raw_xfer, x);

	rx->s->busy--;
	rx->s->xfers++;
	free(rx);
}

static void transfer(struct raw_server *s, const struct fabric_desc *d)
{
	struct raw_xfer *rx = calloc(1, sizeof(*rx));
	bool write = d->addr & 1;
	int rc;

	rx->s = s;
	rx->iov = (struct iovec){s->mem->addr, MIN(d->len, s->mem->len_bytes)};
	rx->x = (struct chan_xfer){.done = xfer_done,
	                           .iov = &rx->iov,
	                           .iov_count = 1,
	                           .region = s->mem,
	                           .desc = *d,
	                           .off = d->addr & 0xfe,
	                           .len = rx->iov.iov_len};
	rc = write ? chan_write(s->c, &rx->x) : chan_read(s->c, &rx->x);
	if (rc < 0)
		free(rx);
	else
		s->busy++;
}

static void on_msg(struct chan *c, const void *data, uint32_t len)
{
	struct raw_server *s = c->user;
	struct fabric_desc d;

	s->msgs++;
	if (len == sizeof(d)) {
		memcpy(&d, data, sizeof(d));
		transfer(s, &d);
	} else {
		(void)chan_send(c, &(struct iovec){(void *)(uintptr_t)data, len}, 1);
	}
}

static void on_ready(struct chan *c)
{
}

static void win_closed(struct chan_window *w)
{
	container_of(w, struct raw_server, win)->win_open = false;
}

static void on_down(struct chan *c, int status)
{
	struct raw_server *s = c->user;

	s->downs++;
	s->status = status;
	s->c = NULL;
	chan_close(c);
}

static const struct chan_handlers handlers = {.msg = on_msg, .ready = on_ready, .down = on_down};

static bool on_accept(struct fabric_listener *l, struct chan *c)
{
	struct raw_server *s = l->user;

	if (s->c)
		return false;
	s->accepted++;
	s->c = c;
	c->handlers = &handlers;
	c->user = s;
	if (s->offer && !s->win_open) {
		s->win_iov = (struct iovec){s->mem->addr, s->mem->len_bytes};
		s->win = (struct chan_window){.iov = &s->win_iov,
		                              .iov_count = 1,
		                              .rights = FABRIC_PEER_READS | FABRIC_PEER_WRITES,
		                              .region = s->mem,
		                              .closed = win_closed};
		s->win_open = chan_window_open(c, &s->win) == 0;
	}
	return true;
}

void raw_server_open(struct raw_server *s, const char *provider, const char *addr, bool offer,
                     uint64_t connect_ns, uint32_t conns_max)
{
	struct fabric_opts opts = {.msg_max = 4096,
	                           .msg_credits = 8,
	                           .windows_max = 16,
	                           .xfers_max = 4,
	                           .conns_max = conns_max,
	                           .connect_ns = connect_ns,
	                           .provider = "tcp"}; /* ofi's */
	struct loop_opts lo;
	int rc;

	*s = (struct raw_server){.offer = offer};
	loop_opts_default(&lo);
	rc = loop_new(&s->loop, &lo, NULL);
	pst_assert(rc == 0);
	rc = mem_region_new(&s->mem, MEM_SHARED, 64 * KIB);
	pst_assert(rc == 0);
	rc = fabric_listen(&s->l, s->loop, provider, addr, &opts, NULL);
	pst_assert(rc == 0);
	s->l->accept = on_accept;
	s->l->user = s;
}

void raw_server_close(struct raw_server *s)
{
	struct chan *c = s->c;

	s->c = NULL;
	chan_close(c);
	fabric_listener_close(s->l);
	fabric_finish(s->loop);
	pst_assert(!s->busy && !s->win_open);
	mem_region_free(s->mem);
	loop_free(s->loop);
}

void raw_turns(struct raw_server *s, unsigned n)
{
	unsigned downs = s->downs;

	while (n-- && s->downs == downs) {
		int rc = loop_turn(s->loop, s->hurry ? 0 : NSEC_PER_MSEC);

		pst_assert(rc >= 0);
	}
}

void raw_must_hang_up(struct raw_server *s, int fd)
{
	uint64_t end_ns = clock_mono_ns() + 30 * NSEC_PER_SEC;
	unsigned accepted = s->accepted;
	char buf[4096];
	ssize_t n = 1;

	while (n && clock_mono_ns() < end_ns) {
		raw_turns(s, 1);
		n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n < 0 && errno == ECONNRESET)
			n = 0;
	}
	pst_assert(n == 0 && s->accepted == accepted);
}

static void count_line(void *arg, enum pst_log_level level, const char *line)
{
	++*(unsigned *)arg;
}

void raw_must_tell_few(struct raw_server *s, int (*connect_to)(const char *addr), const char *addr,
                       size_t len)
{
	uint64_t begun_ns = clock_mono_ns();
	unsigned lines = 0, seconds;
	char junk[256];

	pst_assert(len <= sizeof(junk));
	memset(junk, 'x', len);
	pst_log_set(count_line, &lines, PST_LOG_WARN);
	for (unsigned i = 0; i < 200; i++) {
		int fd = connect_to(addr);
		bool sent = raw_send(fd, junk, len);

		pst_assert(sent);
		raw_must_hang_up(s, fd);
		close(fd);
	}
	pst_log_set(NULL, NULL, PST_LOG_ERROR);
	seconds = (unsigned)((clock_mono_ns() - begun_ns) / NSEC_PER_SEC) + 2;
	/* And a line for each second that says how many were not. */
	pst_assert(lines <= seconds * (LOG_STRANGERS_PER_S + 1));
}

static void on_up(struct chan *c, int status)
{
	*(int *)c->user = status;
}

static void give_up(struct loop *loop, const char *provider, const char *addr, uint64_t connect_ns,
                    unsigned turns_max)
{
	static const struct chan_handlers waiting = {.up = on_up};
	const struct fabric_opts opts = {.connect_ns = connect_ns, .provider = "tcp"};
	struct chan *c;
	int status = 0;
	int rc = fabric_connect(&c, loop, provider, addr, &opts, &waiting, &status, NULL);

	pst_assert(rc == 0);
	for (unsigned i = 0; i < turns_max && !status; i++)
		(void)loop_turn(loop, NSEC_PER_MSEC);
	pst_assert(status == (turns_max == UINT32_MAX ? -ETIMEDOUT : 0));
	chan_close(c);
	/* Turns and not time: who lingers does so for many more of them. */
	for (unsigned i = 0; i < 300 && !fabric_quiet(loop); i++)
		(void)loop_turn(loop, NSEC_PER_MSEC);
	pst_assert(fabric_quiet(loop));
}

void raw_must_let_go(const char *provider, const char *addr)
{
	struct raw_server still;
	struct loop_opts lo;
	struct loop *loop;
	int rc;

	raw_server_open(&still, provider, addr, false, 60 * NSEC_PER_SEC, 0);
	loop_opts_default(&lo);
	rc = loop_new(&loop, &lo, NULL);
	pst_assert(rc == 0);
	give_up(loop, provider, still.l->addr, 60 * NSEC_PER_SEC, 100);
	give_up(loop, provider, still.l->addr, 100 * NSEC_PER_MSEC, UINT32_MAX);
	fabric_finish(loop);
	loop_free(loop);
	raw_server_close(&still);
}

/* --- sockets --- */

/* Signals come in between (a fuzzer's alarm): as if they had been told to restart the call. */
static bool dial(int fd, const void *addr, socklen_t len)
{
	int rc;

	do {
		rc = connect(fd, addr, len);
	} while (rc && errno == EINTR);
	return rc == 0;
}

int raw_unix(const char *addr)
{
	const char *abstract = "unix-abstract:";
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	socklen_t len;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strncmp(addr, abstract, strlen(abstract)) == 0) {
		snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, "%s", addr + strlen(abstract));
		len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
		                  strlen(sa.sun_path + 1));
	} else {
		snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", addr);
		len = sizeof(sa);
	}
	if (fd >= 0 && !dial(fd, &sa, len)) {
		close(fd);
		return -1;
	}
	return fd;
}

int raw_tcp(const char *addr)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool there;

	to.sin_port = htons((uint16_t)atoi(strrchr(addr, ':') + 1));
	there = fd >= 0 && dial(fd, &to, sizeof(to));
	pst_assert(there);
	return fd;
}

bool raw_send(int fd, const void *bytes, size_t len)
{
	while (len) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n <= 0)
			return false;
		bytes = (const char *)bytes + n;
		len -= (size_t)n;
	}
	return true;
}

void raw_tcp_hello(struct tcp_head *ret_head, struct tcp_hello *ret_hello)
{
	*ret_head = (struct tcp_head){.type = TCP_HELLO, .len = le32_make(sizeof(*ret_hello))};
	*ret_hello = (struct tcp_hello){.magic = le64_make(TCP_MAGIC),
	                                .version = le16_make(TCP_VERSION),
	                                .msg_max = le32_make(4096),
	                                .msg_credits = le32_make(8),
	                                .xfers_max = le32_make(4)};
}

/* --- pipe --- */

bool raw_pipe_frame(struct raw_pipe *p, const struct pipe_frame *f, const int *fds, unsigned n)
{
	char control[CMSG_SPACE(4 * sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)f, sizeof(*f)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n) {
		struct cmsghdr *c;

		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	return sendmsg(p->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(*f);
}

void raw_pipe_hello(struct raw_pipe *p, struct pipe_frame *ret_frame)
{
	struct fabric_opts opts = {.msg_max = 4096, .windows_max = 16};
	int rc = pipe_map_new(&p->mine, &p->mine_fd, &opts);

	pst_assert(rc == 0);
	p->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pst_assert(p->bell >= 0);
	*ret_frame = (struct pipe_frame){
	        .magic = le64_make(PIPE_MAGIC),
	        .version = le16_make(PIPE_VERSION),
	        .type = le16_make(PIPE_HELLO),
	        .hello = {.msg_max = le32_make(4096),
	                  .msg_credits = le32_make(8),
	                  .windows = le32_make(p->mine.windows),
	                  .lists = le32_make(p->mine.lists),
	                  .ring_bytes = le32_make(p->mine.ring_bytes),
	                  .ring_off = le32_make(p->mine.ring_off)},
	};
}

/* Takes the server's answer. */
static bool hello_take(struct raw_pipe *p)
{
	char control[CMSG_SPACE(4 * sizeof(int))];
	struct pipe_frame f;
	struct iovec iov = {&f, sizeof(f)};
	struct msghdr m = {.msg_iov = &iov,
	                   .msg_iovlen = 1,
	                   .msg_control = control,
	                   .msg_controllen = sizeof(control)};
	struct cmsghdr *c;
	int fds[2], rc;

	if (recvmsg(p->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != sizeof(f))
		return false;
	c = CMSG_FIRSTHDR(&m);
	if (!c || c->cmsg_len != CMSG_LEN(sizeof(fds)))
		return false;
	memcpy(fds, CMSG_DATA(c), sizeof(fds));
	rc = pipe_map_peer(&p->its, fds[0], &f);
	close(fds[0]);
	p->its_bell = fds[1];
	return rc == 0;
}

bool raw_pipe_open(struct raw_pipe *p, struct raw_server *s, const char *addr)
{
	uint64_t end_ns = clock_mono_ns() + 10 * NSEC_PER_SEC;
	struct pipe_frame f;
	int fds[2];

	*p = (struct raw_pipe){.fd = raw_unix(addr), .mine_fd = -1, .bell = -1, .its_bell = -1};
	if (p->fd < 0)
		return false;
	raw_pipe_hello(p, &f);
	fds[0] = p->mine_fd;
	fds[1] = p->bell;
	if (!raw_pipe_frame(p, &f, fds, 2))
		return false;
	while (clock_mono_ns() < end_ns) {
		raw_turns(s, 1);
		if (hello_take(p))
			return true;
	}
	return false;
}

void raw_pipe_close(struct raw_pipe *p)
{
	const int fds[] = {p->fd, p->mine_fd, p->bell, p->its_bell};

	pipe_unmap(&p->mine);
	pipe_unmap(&p->its);
	for (unsigned i = 0; i < ARRAY_LEN(fds); i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
}

void raw_pipe_ring(struct raw_pipe *p)
{
	const uint64_t one = 1;

	if (write(p->its_bell, &one, sizeof(one)) != sizeof(one))
		pst_assert(errno == EAGAIN);
}

void raw_pipe_send(struct raw_pipe *p, const void *data, uint64_t len)
{
	uint64_t tail = atomic_load(&p->its.box->tail);
	uint8_t *at = p->its.ring + (tail & (p->its.ring_bytes - 1));

	memcpy(at, &len, sizeof(len));
	memcpy(at + PIPE_HEAD, data, len);
	atomic_store(&p->its.box->tail, tail + PIPE_HEAD + ALIGN_UP(len, 8));
	raw_pipe_ring(p);
}
