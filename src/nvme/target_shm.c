/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A target's port for other processes of this machine: the controller's side of shm.h.
 *
 *   life of a host here
 *   GREETING   its socket was taken; nothing was said      accepted()
 *   LIVE       it has a controller                         hello()
 *   ENDING     its socket ended, or it broke the rules     ending(); until the controller is quiet
 *   (freed)    unmapped, the loop let go of its fds        conn_poll()
 *
 * Memory stays mapped until nothing of the controller lies in it: a host that unmaps what its own
 * commands use does itself no good, and us no harm.
 */
#include "nvme/shm.h"
#include "nvme/target_int.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNS_MAX 64u

enum conn_state { GREETING, LIVE, ENDING };

struct shm_range {
	uint64_t addr, len; /* len 0: not in use */
	uint8_t *mem;
	bool leaving; /* unmapped by the host; ours until nothing uses it */
};

struct shm_port {
	struct target_port port;
	char name[LOCAL_NAME_MAX + 1];
	int fd, lock;
	struct loop_fd sock;
	bool sock_open, stopping;
	unsigned conns;
	struct shm_msg msg;
};

struct shm_conn {
	struct target_host host;
	struct shm_port *port;
	enum conn_state state;
	int fd, kick_fd, irq_fd;
	struct loop_fd sock, kick;
	unsigned fds_open; /* watched */
	struct mem_region *bar;
	struct shm_ctl *ctl;
	uint64_t completions; /* as last told of */
	struct shm_range range[SHM_RANGES_MAX];
	unsigned range_count;
	struct nvme_dma_window window; /* on the range that was hit last */
	uint64_t mapped_bytes;
	unsigned leaving; /* ranges */
	struct loop_poller poller;
};

/* --- memory --- */

/* As nvme_ctrlr_opts.dma. Only this thread changes the ranges. */
static void *conn_dma(void *arg, uint64_t addr, size_t len)
{
	struct shm_conn *c = arg;

	for (unsigned i = 0; i < c->range_count; i++) {
		struct shm_range *r = &c->range[i];
		uint64_t off = addr - r->addr;

		if (r->leaving || off >= r->len || len > r->len - off)
			continue;
		nvme_dma_window_open(&c->window, r->addr, r->mem, r->len);
		return r->mem + off;
	}
	return NULL;
}

static int range_check(const struct shm_conn *c, uint64_t addr, uint64_t len, unsigned *ret_at)
{
	unsigned at = SHM_RANGES_MAX;

	if (!len || len > SHM_BYTES_MAX || len - 1 > UINT64_MAX - addr)
		return -EINVAL;
	if (len > SHM_BYTES_MAX - c->mapped_bytes)
		return -ENOSPC;
	for (unsigned i = 0; i < SHM_RANGES_MAX; i++) {
		const struct shm_range *r = &c->range[i];

		if (!r->len && at == SHM_RANGES_MAX)
			at = i;
		if (r->len && !r->leaving && addr <= r->addr + (r->len - 1) &&
		    r->addr <= addr + (len - 1))
			return -EEXIST;
	}
	*ret_at = at;
	return at == SHM_RANGES_MAX ? -ENOSPC : 0;
}

static int range_map(struct shm_conn *c, uint64_t addr, uint64_t len, int fd)
{
	unsigned at = 0;
	void *mem = NULL;
	int rc = range_check(c, addr, len, &at);

	if (!rc)
		rc = shm_map_fd(fd, len, &mem);
	if (rc)
		return rc;
	c->range[at] = (struct shm_range){.addr = addr, .len = len, .mem = mem};
	c->range_count = MAX(c->range_count, at + 1);
	c->mapped_bytes += len;
	return 0;
}

static void range_free(struct shm_conn *c, struct shm_range *r)
{
	munmap(r->mem, r->len);
	c->mapped_bytes -= r->len;
	c->leaving -= r->leaving;
	memset(r, 0, sizeof(*r));
}

static int range_unmap(struct shm_conn *c, uint64_t addr)
{
	for (unsigned i = 0; i < c->range_count; i++) {
		struct shm_range *r = &c->range[i];

		if (!r->len || r->leaving || r->addr != addr)
			continue;
		r->leaving = true;
		c->leaving++;
		nvme_dma_window_close(&c->window);
		return 0;
	}
	return -ENOENT;
}

static int leaving_free(struct shm_conn *c)
{
	int did = 0;

	for (unsigned i = 0; i < c->range_count; i++) {
		struct shm_range *r = &c->range[i];

		if (!r->leaving || nvme_ctrlr_uses(c->host.ctrlr, r->mem, r->len))
			continue;
		range_free(c, r);
		did++;
	}
	return did;
}

/* --- the end of a host --- */

static void conn_free(struct shm_conn *c)
{
	for (unsigned i = 0; i < c->range_count; i++) {
		if (c->range[i].len)
			range_free(c, &c->range[i]);
	}
	mem_region_free(c->bar);
	close(c->fd);
	if (c->kick_fd >= 0)
		close(c->kick_fd);
	if (c->irq_fd >= 0)
		close(c->irq_fd);
	loop_poller_del(c->port->port.target->loop, &c->poller);
	c->port->conns--;
	mem_free(c);
}

static void sock_gone(struct loop_fd *f)
{
	container_of(f, struct shm_conn, sock)->fds_open--;
}

static void kick_gone(struct loop_fd *f)
{
	container_of(f, struct shm_conn, kick)->fds_open--;
}

static void ending(struct shm_conn *c)
{
	struct loop *loop = c->port->port.target->loop;

	if (c->state == ENDING)
		return;
	if (c->state == LIVE) {
		log_info("nvme: target %s: controller %u: host %s has left", c->port->name,
		         nvme_ctrlr_cntlid(c->host.ctrlr), c->host.nqn);
		loop_fd_del(loop, &c->kick, kick_gone);
	}
	c->state = ENDING;
	loop_fd_del(loop, &c->sock, sock_gone);
}

static int ending_poll(struct shm_conn *c)
{
	if (c->host.ctrlr && !nvme_ctrlr_quiet(c->host.ctrlr))
		return 0;
	if (c->fds_open)
		return 0;
	target_host_end(&c->host);
	conn_free(c);
	return 1;
}

/* --- the controller's turns --- */

static void wake_host(struct shm_conn *c)
{
	const uint64_t one = 1;

	if (shm_flag_take(&c->ctl->host_asleep) && write(c->irq_fd, &one, sizeof(one)) < 0)
		log_debug("nvme: a wake-up could not be sent: %s", strerror(errno));
}

static int conn_poll(struct loop_poller *p)
{
	struct shm_conn *c = container_of(p, struct shm_conn, poller);
	uint64_t completions;
	int did;

	if (unlikely(c->state != LIVE))
		return c->state == ENDING ? ending_poll(c) : 0;
	if (unlikely(__atomic_load_n(&c->ctl->target_asleep, __ATOMIC_RELAXED)))
		__atomic_store_n(&c->ctl->target_asleep, 0, __ATOMIC_RELAXED);
	did = nvme_ctrlr_poll(c->host.ctrlr);
	if (did)
		loop_heard(c->port->port.target->loop);
	completions = nvme_ctrlr_completions(c->host.ctrlr);
	if (completions != c->completions) {
		c->completions = completions;
		wake_host(c);
	}
	if (unlikely(c->leaving))
		did += leaving_free(c);
	return did;
}

static bool conn_may_sleep(struct loop_poller *p)
{
	struct shm_conn *c = container_of(p, struct shm_conn, poller);

	if (c->state == ENDING)
		return !c->host.ctrlr || !nvme_ctrlr_quiet(c->host.ctrlr) || c->fds_open;
	return c->state != LIVE || nvme_ctrlr_may_sleep(c->host.ctrlr);
}

static bool conn_sleeps(struct loop_poller *p)
{
	struct shm_conn *c = container_of(p, struct shm_conn, poller);

	if (c->state != LIVE)
		return true;
	memcpy(c->ctl->seen, (const char *)c->bar->addr + NVME_REG_DOORBELL, sizeof(c->ctl->seen));
	shm_flag_set(&c->ctl->target_asleep);
	return nvme_ctrlr_may_sleep(c->host.ctrlr);
}

static void kick_ready(struct loop_fd *f, uint32_t revents)
{
	uint64_t count;

	if (read(f->fd, &count, sizeof(count)) < 0)
		return; /* nothing there: the poller looks in any case */
}

/* --- what a host says --- */

static void answer(struct shm_conn *c, int rc, const char *text)
{
	struct shm_msg *m = &c->port->msg;

	shm_msg_make(m, SHM_ANSWER, text);
	m->status = le32_make((uint32_t)-rc);
	/* It waits for each answer, so its socket has room; else it is gone, or hostile. */
	if (shm_msg_send(c->fd, m, NULL, 0))
		ending(c);
}

static int host_memory(struct shm_conn *c, struct nvme_ctrlr_opts *o, struct pst_err *err)
{
	size_t bar = nvme_ctrlr_bar_bytes(o);
	int rc = mem_region_new(&c->bar, MEM_SHARED, bar + 4096);

	if (rc)
		return err_set(err, rc, "memory for the registers");
	c->ctl = (struct shm_ctl *)(void *)((char *)c->bar->addr + bar);
	o->bar = c->bar->addr;
	o->dma = conn_dma;
	o->arg = c;
	o->window = &c->window;
	c->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->kick_fd < 0 || c->irq_fd < 0)
		return err_set(err, -errno, "an eventfd: %s", strerror(errno));
	return 0;
}

static int host_start(struct shm_conn *c, struct pst_err *err)
{
	struct nvme_target *t = c->port->port.target;
	struct nvme_ctrlr_opts o;
	int rc;

	if (!target_allows(t, c->host.nqn))
		return err_set(err, -EACCES, "host %s is not allowed here", c->host.nqn);
	target_ctrlr_opts(t, &o);
	rc = host_memory(c, &o, err);
	if (!rc)
		rc = target_host_begin(&c->host, &o, err);
	if (rc)
		return rc;
	c->kick.fd = c->kick_fd;
	c->kick.ready = kick_ready;
	rc = loop_fd_add(t->loop, &c->kick, POLLIN);
	if (rc)
		return err_set(err, rc, "the loop can't watch more");
	c->fds_open++;
	c->state = LIVE;
	return 0;
}

static void hello(struct shm_conn *c, const char *nqn)
{
	struct pst_err err = {0};
	struct shm_msg *m = &c->port->msg;
	size_t len = strlen(nqn);
	int fds[3], rc;

	if (c->state != GREETING || c->host.ctrlr || !len || len > NVME_NQN_MAX) {
		ending(c);
		return;
	}
	memcpy(c->host.nqn, nqn, len + 1);
	rc = host_start(c, &err);
	if (rc) {
		answer(c, rc, err.text);
		ending(c);
		return;
	}
	log_info("nvme: target %s: controller %u: host %s", c->port->name,
	         nvme_ctrlr_cntlid(c->host.ctrlr), c->host.nqn);
	shm_msg_make(m, SHM_WELCOME, NULL);
	m->addr = le64_make((uint64_t)((uint8_t *)c->ctl - (uint8_t *)c->bar->addr));
	m->len = le64_make(c->bar->len_bytes);
	fds[0] = c->bar->fd;
	fds[1] = c->kick_fd;
	fds[2] = c->irq_fd;
	if (shm_msg_send(c->fd, m, fds, 3))
		ending(c);
}

static void control(struct shm_conn *c, const char *command)
{
	char *text = mem_alloc(SHM_TEXT_MAX);
	int rc = -ENOMEM;

	if (text)
		rc = nvme_target_control(c->port->port.target, command, text, SHM_TEXT_MAX);
	answer(c, rc, text ? text : "out of memory");
	mem_free(text);
}

static void request(struct shm_conn *c, const struct shm_msg *m, const int *fds, unsigned fd_count)
{
	uint64_t addr = le64_get(m->addr), len = le64_get(m->len);
	unsigned type = le16_get(m->type);

	if (type == SHM_HELLO && c->port->port.number)
		hello(c, m->text);
	else if (type == SHM_HELLO)
		answer(c, -ENODEV, "this target is not offered to hosts of this machine");
	else if (type == SHM_CONTROL)
		control(c, m->text);
	else if (c->state == LIVE && type == SHM_MAP)
		answer(c, fd_count == 1 ? range_map(c, addr, len, fds[0]) : -EINVAL, NULL);
	else if (c->state == LIVE && type == SHM_UNMAP)
		answer(c, range_unmap(c, addr), NULL);
	else
		ending(c);
}

static void sock_ready(struct loop_fd *f, uint32_t revents)
{
	struct shm_conn *c = container_of(f, struct shm_conn, sock);
	struct shm_msg *m = &c->port->msg;
	int fds[LOCAL_FDS_MAX], rc;
	unsigned fd_count = LOCAL_FDS_MAX;

	/* One for each turn: a host that talks without end gets no more than that. */
	rc = shm_msg_recv(c->fd, m, fds, &fd_count, 0);
	if (rc == 1)
		request(c, m, fds, fd_count);
	else if (rc != -EAGAIN)
		ending(c);
	while (rc == 1 && fd_count)
		close(fds[--fd_count]);
}

/* --- who comes --- */

static int conn_new(struct shm_port *p, int fd)
{
	struct nvme_target *t = p->port.target;
	struct shm_conn *c = mem_calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->port = p;
	c->host.port = &p->port;
	c->fd = fd;
	c->kick_fd = c->irq_fd = -1;
	c->sock.fd = fd;
	c->sock.ready = sock_ready;
	if (loop_fd_add(t->loop, &c->sock, POLLIN | POLLRDHUP)) {
		mem_free(c);
		return -EBUSY;
	}
	c->fds_open = 1;
	c->poller.poll = conn_poll;
	c->poller.may_sleep = conn_may_sleep;
	c->poller.sleeps = conn_sleeps;
	loop_poller_add(t->loop, &c->poller);
	list_push(&p->port.hosts, &c->host.link);
	p->conns++;
	return 0;
}

/* Of the same user, or root: the run directory keeps others out, too. */
static bool may_come(int fd)
{
	uid_t uid;
	pid_t pid;

	if (local_peer(fd, &uid, &pid))
		return false;
	if (uid == geteuid() || uid == 0)
		return true;
	log_stranger(PST_LOG_WARN, "nvme: process %d of user %u was turned away", (int)pid,
	             (unsigned)uid);
	return false;
}

static void port_ready(struct loop_fd *f, uint32_t revents)
{
	struct shm_port *p = container_of(f, struct shm_port, sock);
	int fd = accept4(p->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			log_warn("nvme: target %s: nobody can be let in: %s", p->name,
			         strerror(errno));
		return;
	}
	if (p->conns == CONNS_MAX || !may_come(fd) || conn_new(p, fd))
		close(fd);
}

static void port_gone(struct loop_fd *f)
{
	container_of(f, struct shm_port, sock)->sock_open = false;
}

static void shm_stop(struct target_port *tp)
{
	struct shm_port *p = container_of(tp, struct shm_port, port);
	struct target_host *h;

	if (p->stopping)
		return;
	p->stopping = true;
	if (p->sock_open)
		loop_fd_del(tp->target->loop, &p->sock, port_gone);
	list_for_each (h, &tp->hosts, link)
		ending(container_of(h, struct shm_conn, host));
}

static void shm_free(struct target_port *tp)
{
	struct shm_port *p = container_of(tp, struct shm_port, port);

	while (p->sock_open) {
		int rc = loop_turn(tp->target->loop, NSEC_PER_SEC);

		pst_assert(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
	}
	local_unlisten(p->name, p->fd, p->lock);
	mem_free(p);
}

static const struct target_port_ops shm_port_ops = {
        .kind = "loop", .stop = shm_stop, .free = shm_free};

static int listen_as(struct nvme_target *t, const char *name, bool control_only, unsigned *ret_port,
                     struct pst_err *err)
{
	struct shm_port *p = mem_calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	rc = local_listen(name, &p->fd, &p->lock, err);
	if (rc) {
		mem_free(p);
		return rc;
	}
	strcpy(p->name, name); /* local_listen() checked it */
	strcpy(p->port.address, name);
	p->port.ops = &shm_port_ops;
	p->sock.fd = p->fd;
	p->sock.ready = port_ready;
	rc = loop_fd_add(t->loop, &p->sock, POLLIN);
	if (!rc)
		p->sock_open = true;
	if (!rc)
		rc = target_port_add(t, &p->port, control_only);
	if (rc) {
		err_set(err, rc, rc == -ENOSPC ? "too many ports" : "the loop can't watch more");
		p->port.target = t;
		list_init(&p->port.hosts);
		shm_stop(&p->port);
		shm_free(&p->port);
		return rc;
	}
	if (ret_port)
		*ret_port = p->port.number;
	return 0;
}

int nvme_target_listen_loop(struct nvme_target *t, const char *name, unsigned *ret_port,
                            struct pst_err *err)
{
	return listen_as(t, name, false, ret_port, err);
}

int nvme_target_listen_control(struct nvme_target *t, const char *name, struct pst_err *err)
{
	return listen_as(t, name, true, NULL, err);
}
