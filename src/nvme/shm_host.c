/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The host's side of the loop transport between processes: see shm.h.
 *
 * Memory is mapped for the target at our own pointers: an address in a command is a pointer, which
 * means something only here, and the target finds it in the list of what was mapped.
 *
 * A target that dies, or stops, may still have transfers under way into memory that we gave it: its
 * kernel finishes what its devices began. So cutting it off (H2 of host.h) takes the memory away
 * for good: other pages, with the same contents, come into its place here, and whatever still
 * arrives lands in pages that nobody looks at.
 */
#include "nvme/shm.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct shm_host {
	struct nvme_transport t;
	int fd, kick_fd, irq_fd;
	struct loop_fd sock, irq;
	unsigned fds_open; /* of the two watched, until the loop let go of them */
	uint8_t *bar;
	size_t bar_bytes, map_bytes; /* registers and doorbells; all of it */
	struct shm_ctl *ctl;
	uint8_t *rung; /* the doorbells when the target was last woken */
	bool is_cut;
	struct mem_region *region[SHM_RANGES_MAX];
	struct shm_msg msg;
};

static struct shm_host *self(struct nvme_transport *t)
{
	return container_of(t, struct shm_host, t);
}

static void kick(struct shm_host *s)
{
	const uint64_t one = 1;

	if (!shm_flag_take(&s->ctl->target_asleep))
		return;
	memcpy(s->rung, s->bar + NVME_REG_DOORBELL, s->bar_bytes - NVME_REG_DOORBELL);
	if (write(s->kick_fd, &one, sizeof(one)) != sizeof(one))
		log_debug("nvme: a wake-up could not be sent: %s", strerror(errno));
}

/* --- registers --- */

static uint32_t shm_read32(struct nvme_transport *t, uint32_t off)
{
	struct shm_host *s = self(t);

	return t->gone ? NVME_REG_GONE
	               : le32_get(
	                         __atomic_load_n((le32 *)(void *)(s->bar + off), __ATOMIC_ACQUIRE));
}

static uint64_t shm_read64(struct nvme_transport *t, uint32_t off)
{
	struct shm_host *s = self(t);

	return t->gone ? UINT64_MAX
	               : le64_get(
	                         __atomic_load_n((le64 *)(void *)(s->bar + off), __ATOMIC_ACQUIRE));
}

static void shm_write32(struct nvme_transport *t, uint32_t off, uint32_t value)
{
	struct shm_host *s = self(t);

	__atomic_store_n((le32 *)(void *)(s->bar + off), le32_make(value), __ATOMIC_RELEASE);
	kick(s);
}

static void shm_write64(struct nvme_transport *t, uint32_t off, uint64_t value)
{
	struct shm_host *s = self(t);

	__atomic_store_n((le64 *)(void *)(s->bar + off), le64_make(value), __ATOMIC_RELEASE);
}

static volatile uint32_t *shm_doorbell(struct nvme_transport *t, uint32_t off)
{
	struct shm_host *s = self(t);

	if (off + NVME_REG_DOORBELL + sizeof(uint32_t) > s->bar_bytes)
		return NULL;
	return (volatile uint32_t *)(void *)(s->bar + NVME_REG_DOORBELL + off);
}

/* --- requests --- */

/* Sends s->msg with @fds and waits for the answer. */
static int ask(struct shm_host *s, const int *fds, unsigned fd_count)
{
	unsigned none = 0;
	int rc;

	if (s->t.gone)
		return -ENODEV;
	rc = shm_msg_send(s->fd, &s->msg, fds, fd_count);
	if (rc)
		return rc == -EPIPE ? -ENODEV : rc;
	rc = shm_msg_recv(s->fd, &s->msg, NULL, &none, SHM_ANSWER_MS);
	if (rc == 1 && le16_get(s->msg.type) == SHM_ANSWER) {
		uint32_t status = le32_get(s->msg.status);

		return status < 4096 ? -(int)status : -EPROTO;
	}
	/* Out of step from here on: no request can be told from the last one's answer. */
	s->t.gone = true;
	return rc == 0 ? -ENODEV : rc < 0 ? rc : -EPROTO;
}

static int shm_map(struct nvme_transport *t, struct mem_region *r, uint64_t *ret_dma)
{
	struct shm_host *s = self(t);
	unsigned i = 0;
	int rc;

	if (r->kind != MEM_SHARED || r->fd < 0)
		return -ENOTSUP;
	while (i < SHM_RANGES_MAX && s->region[i])
		i++;
	if (i == SHM_RANGES_MAX)
		return -ENOSPC;
	shm_msg_make(&s->msg, SHM_MAP, NULL);
	s->msg.addr = le64_make((uintptr_t)r->addr);
	s->msg.len = le64_make(r->len_bytes);
	rc = ask(s, &r->fd, 1);
	if (rc)
		return rc;
	s->region[i] = r;
	*ret_dma = (uintptr_t)r->addr;
	return 0;
}

static void shm_unmap(struct nvme_transport *t, struct mem_region *r, uint64_t dma)
{
	struct shm_host *s = self(t);

	for (unsigned i = 0; i < SHM_RANGES_MAX; i++) {
		if (s->region[i] == r)
			s->region[i] = NULL;
	}
	if (s->is_cut || t->gone)
		return;
	shm_msg_make(&s->msg, SHM_UNMAP, NULL);
	s->msg.addr = le64_make(dma);
	if (ask(s, NULL, 0))
		log_warn("nvme: the target does not let go of memory");
}

/* --- the end --- */

/* Other pages for @r, with what it holds: see the head. */
static void region_swap(struct mem_region *r)
{
	void *p = mmap(NULL, r->len_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
	               0);

	if (p != MAP_FAILED) {
		memcpy(p, r->addr, r->len_bytes);
		if (mremap(p, r->len_bytes, r->len_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, r->addr) !=
		    MAP_FAILED) {
			close(r->fd);
			r->fd = -1;
			r->kind = MEM_HOST;
			return;
		}
	}
	/* There is no going on with memory that somebody else may write to. */
	log_error("nvme: no memory to take back what a lost target can write to");
	abort();
}

static void shm_cut(struct nvme_transport *t)
{
	struct shm_host *s = self(t);
	bool clean = !t->gone && !(shm_read32(t, NVME_REG_CSTS) & NVME_CSTS_RDY);

	if (s->is_cut)
		return;
	s->is_cut = true;
	for (unsigned i = 0; i < SHM_RANGES_MAX && !clean; i++) {
		if (s->region[i])
			region_swap(s->region[i]);
	}
}

static void free_it(struct shm_host *s)
{
	if (s->bar)
		munmap(s->bar, s->map_bytes);
	mem_free(s->rung);
	if (s->fd >= 0)
		close(s->fd);
	if (s->kick_fd >= 0)
		close(s->kick_fd);
	if (s->irq_fd >= 0)
		close(s->irq_fd);
	mem_free(s);
}

static void fd_gone_sock(struct loop_fd *f)
{
	container_of(f, struct shm_host, sock)->fds_open--;
}

static void fd_gone_irq(struct loop_fd *f)
{
	container_of(f, struct shm_host, irq)->fds_open--;
}

static void shm_close(struct nvme_transport *t)
{
	struct shm_host *s = self(t);

	if (s->sock.loop)
		loop_fd_del(t->loop, &s->sock, fd_gone_sock);
	if (s->irq.loop)
		loop_fd_del(t->loop, &s->irq, fd_gone_irq);
	while (s->fds_open) {
		int rc = loop_turn(t->loop, NSEC_PER_SEC);

		pst_assert(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
	}
	free_it(s);
}

/* --- the loop's turns --- */

/* Nothing is due here but the end: answers are waited for where requests are made. */
static void sock_ready(struct loop_fd *f, uint32_t revents)
{
	struct shm_host *s = container_of(f, struct shm_host, sock);
	char byte;
	ssize_t n = recv(s->fd, &byte, 1, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR) && !(revents & (POLLHUP | POLLERR)))
		return;
	if (!s->t.gone)
		log_warn("nvme: the target is gone");
	s->t.gone = true;
	loop_fd_del(s->t.loop, f, fd_gone_sock);
	f->loop = NULL;
}

static void irq_ready(struct loop_fd *f, uint32_t revents)
{
	uint64_t count;

	/* The pollers look at the queues; this made the turn happen. */
	if (read(f->fd, &count, sizeof(count)) < 0)
		return;
}

static int shm_poll(struct nvme_transport *t)
{
	struct shm_host *s = self(t);

	if (unlikely(__atomic_load_n(&s->ctl->host_asleep, __ATOMIC_RELAXED)))
		__atomic_store_n(&s->ctl->host_asleep, 0, __ATOMIC_RELAXED);
	/* For users of queues, who ring doorbells and then poll. A target that sleeps is left alone
	 * by a host that polls without having anything for it. */
	PST_NVME_MB();
	if (unlikely(__atomic_load_n(&s->ctl->target_asleep, __ATOMIC_RELAXED)) && !t->gone &&
	    memcmp(s->rung, s->bar + NVME_REG_DOORBELL, s->bar_bytes - NVME_REG_DOORBELL) != 0)
		kick(s);
	return 0;
}

/* The host's pollers look at their queues after this: see loop.h for the order. */
static bool shm_may_sleep(struct nvme_transport *t)
{
	shm_flag_set(&self(t)->ctl->host_asleep);
	return true;
}

static void shm_rung(struct nvme_transport *t)
{
	if (!t->gone)
		kick(self(t));
}

static const struct nvme_transport_ops shm_ops = {
        .name = "loop",
        .read32 = shm_read32,
        .read64 = shm_read64,
        .write32 = shm_write32,
        .write64 = shm_write64,
        .doorbell = shm_doorbell,
        .map = shm_map,
        .unmap = shm_unmap,
        .cut = shm_cut,
        .poll = shm_poll,
        .may_sleep = shm_may_sleep,
        .rung = shm_rung,
        .close = shm_close,
};

/* --- connecting --- */

/* @fds: the BAR, the target's eventfd, ours. They are ours from here on. */
static int welcome(struct shm_host *s, const int *fds, unsigned fd_count, struct pst_err *err)
{
	uint64_t bar = le64_get(s->msg.addr), all = le64_get(s->msg.len);
	void *mem = NULL;
	int rc = -EPROTO;

	if (fd_count == 3 && bar > NVME_REG_DOORBELL && bar % 4096 == 0 && bar <= 16 * MIB &&
	    all <= 32 * MIB && all >= bar + sizeof(struct shm_ctl)) {
		s->rung = mem_calloc(1, bar - NVME_REG_DOORBELL);
		rc = s->rung ? shm_map_fd(fds[0], all, &mem) : -ENOMEM;
	}
	if (!rc) {
		s->bar = mem;
		s->bar_bytes = bar;
		s->map_bytes = all;
		s->ctl = (struct shm_ctl *)(void *)(s->bar + bar);
		s->kick_fd = fds[1];
		s->irq_fd = fds[2];
		close(fds[0]);
		return 0;
	}
	while (fd_count)
		close(fds[--fd_count]);
	return err_set(err, rc, "nvme: the target's welcome makes no sense");
}

static int hello(struct shm_host *s, const struct nvme_device *d, struct pst_err *err)
{
	int fds[LOCAL_FDS_MAX] = {-1, -1, -1, -1}, rc;
	unsigned fd_count = LOCAL_FDS_MAX;

	shm_msg_make(&s->msg, SHM_HELLO, d->hostnqn);
	rc = shm_msg_send(s->fd, &s->msg, NULL, 0);
	if (!rc)
		rc = shm_msg_recv(s->fd, &s->msg, fds, &fd_count, SHM_ANSWER_MS);
	if (rc == 1 && le16_get(s->msg.type) == SHM_WELCOME)
		return welcome(s, fds, fd_count, err);
	while (rc == 1 && fd_count)
		close(fds[--fd_count]);
	if (rc == 1 && le16_get(s->msg.type) == SHM_ANSWER && le32_get(s->msg.status) - 1 < 4095)
		return err_set(err, -(int)le32_get(s->msg.status), "nvme: target %s: %s", d->name,
		               s->msg.text);
	return err_set(err, rc < 0 ? rc : -EPROTO, "nvme: target %s does not answer", d->name);
}

static int watch(struct shm_host *s, struct loop *loop)
{
	int rc;

	s->sock.fd = s->fd;
	s->sock.ready = sock_ready;
	s->irq.fd = s->irq_fd;
	s->irq.ready = irq_ready;
	rc = loop_fd_add(loop, &s->sock, POLLIN | POLLRDHUP);
	if (rc) {
		s->sock.loop = NULL;
		return rc;
	}
	s->fds_open++;
	rc = loop_fd_add(loop, &s->irq, POLLIN);
	if (rc)
		s->irq.loop = NULL;
	else
		s->fds_open++;
	return rc;
}

int nvme_shm_connect(struct nvme_transport **ret_t, const struct nvme_device *d, struct loop *loop,
                     struct pst_err *err)
{
	struct shm_host *s;
	int rc;

	if (loop_is_sim(loop))
		return err_set(err, -ENOTSUP, "nvme: no other process in a simulation");
	s = mem_calloc(1, sizeof(*s));
	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->fd = s->kick_fd = s->irq_fd = -1;
	s->t = (struct nvme_transport){.ops = &shm_ops, .loop = loop, .mem_kind = MEM_SHARED};
	rc = local_connect(d->name, &s->fd, err);
	if (!rc)
		rc = hello(s, d, err);
	if (!rc && (rc = watch(s, loop)))
		err_set(err, rc, "nvme: the loop can't watch more");
	if (rc) {
		shm_close(&s->t);
		return rc;
	}
	*ret_t = &s->t;
	return 0;
}

int nvme_shm_control(const char *name, const char *command, char *ret_text, size_t size,
                     struct pst_err *err)
{
	struct shm_msg *m = mem_alloc(sizeof(*m));
	unsigned none = 0;
	int fd = -1, rc;

	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	rc = local_connect(name, &fd, err);
	if (rc)
		goto out;
	shm_msg_make(m, SHM_CONTROL, command);
	rc = shm_msg_send(fd, m, NULL, 0);
	if (!rc)
		rc = shm_msg_recv(fd, m, NULL, &none, SHM_ANSWER_MS);
	if (rc != 1 || le16_get(m->type) != SHM_ANSWER || le32_get(m->status) > 4095) {
		rc = err_set(err, rc < 0 ? rc : -EPROTO, "target %s does not answer", name);
		goto out;
	}
	rc = -(int)le32_get(m->status);
	if (rc)
		err_set(err, rc, "target %s: %s", name, m->text);
	else
		strncat(strcpy(ret_text, ""), m->text, size - 1);
out:
	if (fd >= 0)
		close(fd);
	mem_free(m);
	return rc;
}
