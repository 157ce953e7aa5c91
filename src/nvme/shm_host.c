/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The host's side of the loop transport between processes: see shm.h, and shm_host.h for its links.
 *
 * Memory is mapped for the target at our own pointers: an address in a command is a pointer, which
 * means something only here, and the target finds it in the list of what was mapped.
 *
 * A target that dies, or stops, may still have transfers under way into memory that we gave it: its
 * kernel finishes what its devices began. So losing it, or cutting it off (H2 of host.h), takes the
 * memory away for good: other pages, with the same contents, come into its place here, and whatever
 * still arrives lands in pages that nobody looks at. The next target gets the new ones.
 */
#include "nvme/shm_host.h"

#include <sys/mman.h>
#include <unistd.h>

static struct shm_host *self(struct nvme_transport *t)
{
	return container_of(t, struct shm_host, t);
}

void shm_kick(struct shm_host *s)
{
	const uint64_t one = 1;

	if (s->link != SHM_UP || !shm_flag_take(&s->ctl->target_asleep))
		return;
	if (write(s->kick_fd, &one, sizeof(one)) != sizeof(one))
		log_debug("nvme: a wake-up could not be sent: %s", strerror(errno));
}

/* --- registers --- */

static uint32_t bar_read32(const struct shm_host *s, uint32_t off)
{
	return le32_get(__atomic_load_n((le32 *)(void *)(s->bar + off), __ATOMIC_ACQUIRE));
}

/* Without a target there is a controller that is disabled, or that does not get ready. */
static uint32_t down_read32(const struct shm_host *s, uint32_t off)
{
	switch (off) {
	case NVME_REG_VS:
		return s->vs;
	case NVME_REG_CC:
		return s->cc;
	case NVME_REG_CSTS:
		return NVME_CC_SHN(s->cc) ? NVME_SHST_DONE << 2 : 0;
	case NVME_REG_AQA:
		return s->aqa;
	default:
		return 0;
	}
}

static uint32_t shm_read32(struct nvme_transport *t, uint32_t off)
{
	struct shm_host *s = self(t);
	uint32_t value;

	if (t->gone)
		return NVME_REG_GONE;
	value = s->link == SHM_UP ? bar_read32(s, off) : down_read32(s, off);
	/* Its target ended the controller, and the socket's end is on its way, or it was removed. */
	if (unlikely(value == NVME_REG_GONE) && (off == NVME_REG_CSTS || off == NVME_REG_CC)) {
		shm_lost(s);
		value = t->gone ? NVME_REG_GONE : down_read32(s, off);
	}
	if (off == NVME_REG_CSTS && (value & NVME_CSTS_RDY))
		s->seen_ready = true;
	return value;
}

static uint64_t shm_read64(struct nvme_transport *t, uint32_t off)
{
	struct shm_host *s = self(t);

	if (t->gone)
		return UINT64_MAX;
	if (off != NVME_REG_CAP)
		return 0;
	if (!s->cap_to)
		return s->cap;
	return (s->cap & ~(0xffull << 24)) | (uint64_t)s->cap_to << 24;
}

static void cc_write(struct shm_host *s, uint32_t cc)
{
	uint32_t old = s->cc;

	s->cc = cc;
	if (!((old ^ cc) & NVME_CC_EN))
		return;
	s->seen_ready = false;
	if (s->link != SHM_UP && (cc & NVME_CC_EN))
		shm_link_enable(s);
	else if (s->link != SHM_UP)
		shm_link_disable(s);
}

static void shm_write32(struct nvme_transport *t, uint32_t off, uint32_t value)
{
	struct shm_host *s = self(t);

	if (t->gone)
		return;
	if (off == NVME_REG_AQA)
		s->aqa = value;
	if (off == NVME_REG_CC)
		cc_write(s, value);
	if (s->link != SHM_UP)
		return;
	__atomic_store_n((le32 *)(void *)(s->bar + off), le32_make(value), __ATOMIC_RELEASE);
	shm_kick(s);
}

static void shm_write64(struct nvme_transport *t, uint32_t off, uint64_t value)
{
	struct shm_host *s = self(t);

	if (off == NVME_REG_ASQ)
		s->asq = value;
	if (off == NVME_REG_ACQ)
		s->acq = value;
	if (s->link == SHM_UP && !t->gone)
		__atomic_store_n((le64 *)(void *)(s->bar + off), le64_make(value),
		                 __ATOMIC_RELEASE);
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

	rc = shm_msg_send(s->fd, &s->msg, fds, fd_count);
	if (rc == -EPIPE || rc == -ECONNRESET) {
		shm_lost(s);
		return -ENODEV;
	}
	if (rc)
		return rc;
	rc = shm_msg_recv(s->fd, &s->msg, NULL, &none, SHM_ANSWER_MS);
	if (rc == 1 && le16_get(s->msg.type) == SHM_ANSWER) {
		uint32_t status = le32_get(s->msg.status);

		return status < 4096 ? -(int)status : -EPROTO;
	}
	/* Out of step from here on: no request can be told from the last one's answer. */
	shm_lost(s);
	return rc == 0 ? -ENODEV : rc < 0 ? rc : -EPROTO;
}

static int ask_map(struct shm_host *s, struct mem_region *r)
{
	shm_msg_make(&s->msg, SHM_MAP, NULL);
	s->msg.addr = le64_make((uintptr_t)r->addr);
	s->msg.len = le64_make(r->len_bytes);
	return ask(s, &r->fd, 1);
}

/* Without a target it is enough to remember what the next one gets. */
static int shm_map(struct nvme_transport *t, struct mem_region *r, uint64_t *ret_dma)
{
	struct shm_host *s = self(t);
	bool up = s->link == SHM_UP;
	unsigned i = 0;
	int rc;

	if (r->kind != MEM_SHARED || r->fd < 0)
		return -ENOTSUP;
	if (t->gone)
		return -ENODEV;
	while (i < SHM_RANGES_MAX && s->region[i].r)
		i++;
	if (i == SHM_RANGES_MAX)
		return -ENOSPC;
	s->region[i] = (struct shm_region){.r = r, .mapped = up};
	rc = up ? ask_map(s, r) : 0;
	if (rc && (t->gone || s->link == SHM_UP)) {
		s->region[i].r = NULL;
		return rc;
	}
	*ret_dma = (uintptr_t)r->addr;
	return 0;
}

static void shm_unmap(struct nvme_transport *t, struct mem_region *r, uint64_t dma)
{
	struct shm_host *s = self(t);
	unsigned i = 0;

	while (i < SHM_RANGES_MAX && s->region[i].r != r)
		i++;
	if (i == SHM_RANGES_MAX)
		return;
	if (!s->is_cut && !t->gone && s->link == SHM_UP) {
		shm_msg_make(&s->msg, SHM_UNMAP, NULL);
		s->msg.addr = le64_make(dma);
		if (ask(s, NULL, 0))
			log_warn("nvme: the target does not let go of memory");
	} else if (!s->is_cut && !t->gone) {
		shm_link_unmapped(s, i);
	}
	s->region[i].r = NULL;
}

/* --- the end --- */

/* Private pages for @r, with what it holds: it can't be handed over any more. */
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

bool shm_memory_back(struct shm_host *s)
{
	bool ok = true;

	for (unsigned i = 0; i < SHM_RANGES_MAX; i++) {
		struct shm_region *g = &s->region[i];

		if (g->r && g->mapped && mem_region_renew(g->r)) {
			region_swap(g->r);
			ok = false;
		}
		g->mapped = false;
	}
	return ok;
}

static void shm_cut(struct nvme_transport *t)
{
	struct shm_host *s = self(t);
	bool clean =
	        s->link == SHM_UP && !t->gone && !(bar_read32(s, NVME_REG_CSTS) & NVME_CSTS_RDY);

	if (s->is_cut)
		return;
	s->is_cut = true;
	loop_timer_disarm(t->loop, &s->retry);
	for (unsigned i = 0; i < SHM_RANGES_MAX && !clean; i++) {
		if (s->region[i].r && s->region[i].mapped)
			region_swap(s->region[i].r);
	}
}

/* A target that does not disable its controller: another link has another one. */
static int shm_reset(struct nvme_transport *t)
{
	struct shm_host *s = self(t);

	if (!t->comes_back || s->link != SHM_UP)
		return -ENOTSUP;
	shm_lost(s);
	return t->gone ? -ENODEV : 0;
}

static void shm_close(struct nvme_transport *t)
{
	struct shm_host *s = self(t);

	shm_link_close(s);
	if (s->bar)
		munmap(s->bar, s->map_bytes);
	mem_free(s);
}

/* --- the loop's turns --- */

static int shm_poll(struct nvme_transport *t)
{
	struct shm_host *s = self(t);

	if (unlikely(__atomic_load_n(&s->ctl->host_asleep, __ATOMIC_RELAXED)))
		__atomic_store_n(&s->ctl->host_asleep, 0, __ATOMIC_RELAXED);
	/* For users of queues, who ring doorbells and then poll. A target that sleeps is left alone
	 * by a host that polls without having anything for it. */
	PST_NVME_MB();
	if (unlikely(__atomic_load_n(&s->ctl->target_asleep, __ATOMIC_ACQUIRE)) && !t->gone &&
	    memcmp(s->ctl->seen, s->bar + NVME_REG_DOORBELL, sizeof(s->ctl->seen)) != 0)
		shm_kick(s);
	return 0;
}

/* The host looks at its queues after this. */
static void shm_sleeps(struct nvme_transport *t)
{
	shm_flag_set(&self(t)->ctl->host_asleep);
}

static void shm_rung(struct nvme_transport *t)
{
	if (!t->gone)
		shm_kick(self(t));
}

const struct nvme_transport_ops shm_ops = {
        .name = "loop",
        .read32 = shm_read32,
        .read64 = shm_read64,
        .write32 = shm_write32,
        .write64 = shm_write64,
        .doorbell = shm_doorbell,
        .map = shm_map,
        .unmap = shm_unmap,
        .cut = shm_cut,
        .reset = shm_reset,
        .poll = shm_poll,
        .sleeps = shm_sleeps,
        .rung = shm_rung,
        .close = shm_close,
};
