/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The link to a target in another process, and finding that again when it is lost: see shm_host.h.
 * The first time it blocks; later nothing here does, for others run on this loop.
 */
#include "nvme/shm_host.h"

#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- the two descriptors that the loop watches --- */

static void sock_ready(struct loop_fd *f, uint32_t revents);

static void irq_ready(struct loop_fd *f, uint32_t revents)
{
	uint64_t count;

	/* The pollers look at the queues; this made the turn happen. */
	if (read(f->fd, &count, sizeof(count)) < 0)
		return;
}

static void sock_closed(struct loop_fd *f)
{
	close(f->fd);
	container_of(f, struct shm_host, sock)->closing--;
}

static void irq_closed(struct loop_fd *f)
{
	close(f->fd);
	container_of(f, struct shm_host, irq)->closing--;
}

static int watch(struct shm_host *s, struct loop_fd *f, int fd,
                 void (*ready)(struct loop_fd *, uint32_t), uint32_t events)
{
	f->fd = fd;
	f->ready = ready;
	return loop_fd_add(s->t.loop, f, events);
}

/* Closes what there is of a link: at once, or when the loop has let go of it. */
static void fds_close(struct shm_host *s)
{
	s->closing += s->sock_watched + s->irq_watched;
	if (s->sock_watched)
		loop_fd_del(s->t.loop, &s->sock, sock_closed);
	else if (s->fd >= 0)
		close(s->fd);
	if (s->irq_watched)
		loop_fd_del(s->t.loop, &s->irq, irq_closed);
	else if (s->irq_fd >= 0)
		close(s->irq_fd);
	if (s->kick_fd >= 0)
		close(s->kick_fd);
	s->sock_watched = s->irq_watched = false;
	s->fd = s->irq_fd = s->kick_fd = -1;
}

/* --- losing it --- */

static void retry_in(struct shm_host *s, uint64_t ns)
{
	if (!loop_timer_arm(s->t.loop, &s->retry, loop_now(s->t.loop) + ns))
		return;
	log_warn("nvme: no memory for a timer: no further try");
	s->t.gone = true;
}

/* This try is over; another one follows while the driver wants one. */
static void try_failed(struct shm_host *s)
{
	fds_close(s);
	s->link = SHM_DOWN;
	loop_timer_disarm(s->t.loop, &s->retry);
	if (!(s->cc & NVME_CC_EN) || s->is_cut || s->t.gone)
		return;
	s->retry_ns = MIN(MAX(2 * s->retry_ns, SHM_RETRY_MIN_NS), SHM_RETRY_MAX_NS);
	retry_in(s, s->retry_ns);
}

void shm_lost(struct shm_host *s)
{
	if (s->is_cut || s->t.gone || s->link == SHM_LOST || s->link == SHM_DOWN)
		return;
	if (s->link != SHM_UP) {
		s->t.gone = !shm_memory_back(s);
		try_failed(s);
		return;
	}
	log_warn("nvme: the target %s is gone", s->name);
	if (!s->t.comes_back || !shm_memory_back(s)) {
		s->t.gone = true;
		return;
	}
	fds_close(s);
	s->retry_ns = 0;
	s->told = false;
	s->t.failed = true;
	s->link = SHM_DOWN;
	if ((s->cc & NVME_CC_EN) && s->seen_ready)
		s->link = SHM_LOST;
	else if (s->cc & NVME_CC_EN)
		retry_in(s, SHM_RETRY_MIN_NS);
}

/* --- the welcome --- */

static bool welcome_ok(const struct shm_msg *m, unsigned fd_count)
{
	uint64_t bar = le64_get(m->addr), all = le64_get(m->len);

	return fd_count == 3 && bar > NVME_REG_DOORBELL && bar % 4096 == 0 && bar <= 16 * MIB &&
	       all <= 32 * MIB && all >= bar + sizeof(struct shm_ctl);
}

/* The registers of this target, where the last one's were (S1). */
static int bar_map(struct shm_host *s, int fd)
{
	uint64_t bar = le64_get(s->msg.addr), all = le64_get(s->msg.len);
	void *mem;
	int rc;

	if (s->bar && (bar != s->bar_bytes || all != s->map_bytes))
		return -EPROTO;
	rc = shm_map_fd(fd, all, &mem);
	if (rc)
		return rc;
	if (s->bar && mremap(mem, all, all, MREMAP_MAYMOVE | MREMAP_FIXED, s->bar) == MAP_FAILED) {
		rc = -errno;
		munmap(mem, all);
		return rc;
	}
	s->bar = s->bar ? s->bar : mem;
	s->bar_bytes = bar;
	s->map_bytes = all;
	s->ctl = (struct shm_ctl *)(void *)(s->bar + bar);
	return 0;
}

/* @fds: the BAR, the target's eventfd, ours. They are ours from here on. */
static int welcome(struct shm_host *s, const int *fds, unsigned fd_count)
{
	int rc = welcome_ok(&s->msg, fd_count) ? 0 : -EPROTO;

	if (!rc)
		rc = bar_map(s, fds[0]);
	if (rc) {
		while (fd_count)
			close(fds[--fd_count]);
		return rc;
	}
	close(fds[0]);
	s->kick_fd = fds[1];
	s->irq_fd = fds[2];
	rc = watch(s, &s->irq, s->irq_fd, irq_ready, POLLIN);
	s->irq_watched = !rc;
	return rc;
}

/* --- finding it again --- */

/* Its registers are the ones that the driver has come to terms with. */
static bool registers_same(const struct shm_host *s)
{
	uint64_t cap = le64_get(*(const le64 *)(const void *)(s->bar + NVME_REG_CAP));

	return NVME_CAP_MPSMIN(cap) == NVME_CAP_MPSMIN(s->cap) &&
	       NVME_CAP_DSTRD(cap) == NVME_CAP_DSTRD(s->cap) &&
	       NVME_CAP_MQES(cap) >= NVME_CAP_MQES(s->cap);
}

static void link_up(struct shm_host *s)
{
	const struct nvme_transport_ops *ops = s->t.ops;

	loop_timer_disarm(s->t.loop, &s->retry);
	s->link = SHM_UP;
	s->retry_ns = 0;
	ops->write32(&s->t, NVME_REG_AQA, s->aqa);
	ops->write64(&s->t, NVME_REG_ASQ, s->asq);
	ops->write64(&s->t, NVME_REG_ACQ, s->acq);
	ops->write32(&s->t, NVME_REG_CC, s->cc);
}

/* Hands over the next region, or is through. */
static void map_next(struct shm_host *s)
{
	unsigned i = 0;

	while (i < SHM_RANGES_MAX && (!s->region[i].r || s->region[i].mapped))
		i++;
	if (i == SHM_RANGES_MAX) {
		link_up(s);
		return;
	}
	s->link = SHM_MAPPING;
	s->asked = i;
	s->region[i].mapped = true; /* from now on it may be written to */
	shm_msg_make(&s->msg, SHM_MAP, NULL);
	s->msg.addr = le64_make((uintptr_t)s->region[i].r->addr);
	s->msg.len = le64_make(s->region[i].r->len_bytes);
	if (shm_msg_send(s->fd, &s->msg, &s->region[i].r->fd, 1))
		shm_lost(s);
}

void shm_link_unmapped(struct shm_host *s, unsigned i)
{
	if (s->link == SHM_MAPPING && s->region[i].mapped)
		shm_lost(s);
}

static void refused(struct shm_host *s)
{
	s->msg.text[MIN(le16_get(s->msg.text_len), SHM_TEXT_MAX - 1)] = '\0';
	if (!s->told)
		log_warn("nvme: target %s: %s", s->name, s->msg.text);
	s->told = true; /* once: it may come to its senses */
}

/* What a target says while the link is made. */
static void on_message(struct shm_host *s)
{
	int fds[LOCAL_FDS_MAX];
	unsigned fd_count = LOCAL_FDS_MAX;
	int rc = shm_msg_recv(s->fd, &s->msg, fds, &fd_count, 0);
	unsigned type = rc == 1 ? le16_get(s->msg.type) : 0;

	if (rc == -EAGAIN)
		return;
	if (s->link == SHM_GREETING && type == SHM_WELCOME) {
		if (!welcome(s, fds, fd_count) && registers_same(s))
			map_next(s);
		else
			shm_lost(s);
		return;
	}
	while (rc == 1 && fd_count)
		close(fds[--fd_count]);
	if (s->link == SHM_MAPPING && type == SHM_ANSWER && !le32_get(s->msg.status)) {
		map_next(s);
		return;
	}
	if (type == SHM_ANSWER)
		refused(s);
	shm_lost(s);
}

static void sock_ready(struct loop_fd *f, uint32_t revents)
{
	struct shm_host *s = container_of(f, struct shm_host, sock);
	char byte;
	ssize_t n;

	if (s->link != SHM_UP) {
		on_message(s);
		return;
	}
	/* Nothing is due here but the end: answers are waited for where requests are made. */
	n = recv(s->fd, &byte, 1, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR) && !(revents & (POLLHUP | POLLERR)))
		return;
	shm_lost(s);
	if (s->t.gone && s->sock_watched) /* it would be ready for ever */
		fds_close(s);
}

static void try_now(struct shm_host *s)
{
	int rc;

	if (s->closing) { /* the last one's are still there */
		retry_in(s, NSEC_PER_MSEC);
		return;
	}
	for (unsigned i = 0; i < SHM_RANGES_MAX; i++)
		s->region[i].mapped = false;
	rc = local_connect_now(s->name, &s->fd, NULL);
	if (!rc)
		rc = watch(s, &s->sock, s->fd, sock_ready, POLLIN | POLLRDHUP);
	s->sock_watched = !rc;
	if (!rc) {
		shm_msg_make(&s->msg, SHM_HELLO, s->hostnqn);
		rc = shm_msg_send(s->fd, &s->msg, NULL, 0);
	}
	if (rc) {
		try_failed(s);
		return;
	}
	s->link = SHM_GREETING;
	retry_in(s, SHM_ANSWER_MS * NSEC_PER_MSEC);
}

static void retry_fired(struct loop_timer *t)
{
	struct shm_host *s = container_of(t, struct shm_host, retry);

	if (s->link == SHM_DOWN)
		try_now(s);
	else if (s->link == SHM_GREETING || s->link == SHM_MAPPING)
		shm_lost(s); /* it does not answer */
}

void shm_link_enable(struct shm_host *s)
{
	if (s->link == SHM_DOWN && !s->is_cut)
		retry_in(s, s->retry_ns);
}

void shm_link_disable(struct shm_host *s)
{
	if (s->link == SHM_GREETING || s->link == SHM_MAPPING)
		shm_lost(s);
	s->link = SHM_DOWN;
	loop_timer_disarm(s->t.loop, &s->retry);
}

/* --- the first time --- */

static int hello(struct shm_host *s, struct pst_err *err)
{
	int fds[LOCAL_FDS_MAX] = {-1, -1, -1, -1}, rc;
	unsigned fd_count = LOCAL_FDS_MAX;

	shm_msg_make(&s->msg, SHM_HELLO, s->hostnqn);
	rc = shm_msg_send(s->fd, &s->msg, NULL, 0);
	if (!rc)
		rc = shm_msg_recv(s->fd, &s->msg, fds, &fd_count, SHM_ANSWER_MS);
	if (rc == 1 && le16_get(s->msg.type) == SHM_WELCOME) {
		rc = welcome(s, fds, fd_count);
		return rc ? err_set(err, rc, "nvme: the target's welcome makes no sense") : 0;
	}
	while (rc == 1 && fd_count)
		close(fds[--fd_count]);
	if (rc == 1 && le16_get(s->msg.type) == SHM_ANSWER && le32_get(s->msg.status) - 1 < 4095)
		return err_set(err, -(int)le32_get(s->msg.status), "nvme: target %s: %s", s->name,
		               s->msg.text);
	return err_set(err, rc < 0 ? rc : -EPROTO, "nvme: target %s does not answer", s->name);
}

static int first_link(struct shm_host *s, struct pst_err *err)
{
	int rc = local_connect(s->name, &s->fd, err);

	if (!rc)
		rc = hello(s, err);
	if (rc)
		return rc;
	rc = watch(s, &s->sock, s->fd, sock_ready, POLLIN | POLLRDHUP);
	s->sock_watched = !rc;
	if (rc)
		return err_set(err, rc, "nvme: the loop can't watch more");
	s->cap = le64_get(*(const le64 *)(const void *)(s->bar + NVME_REG_CAP));
	s->vs = le32_get(*(const le32 *)(const void *)(s->bar + NVME_REG_VS));
	return 0;
}

void shm_link_close(struct shm_host *s)
{
	loop_timer_disarm(s->t.loop, &s->retry);
	fds_close(s);
	while (s->closing) {
		int rc = loop_turn(s->t.loop, NSEC_PER_SEC);

		pst_assert(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
	}
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
	snprintf(s->name, sizeof(s->name), "%s", d->name);
	snprintf(s->hostnqn, sizeof(s->hostnqn), "%s", d->hostnqn);
	s->fd = s->kick_fd = s->irq_fd = -1;
	s->retry.fired = retry_fired;
	s->t = (struct nvme_transport){.ops = &shm_ops,
	                               .loop = loop,
	                               .mem_kind = MEM_SHARED,
	                               .heard = true,
	                               .comes_back = d->reconnect_s != 0};
	if (d->reconnect_s)
		s->cap_to = nvme_device_patience(d);
	rc = first_link(s, err);
	if (rc) {
		s->is_cut = true;
		s->t.ops->close(&s->t);
		return rc;
	}
	*ret_t = &s->t;
	return 0;
}
