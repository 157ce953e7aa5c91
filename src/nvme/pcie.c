/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The pcie transport: a controller on the bus, by vfio. Registers and doorbells are BAR 0; memory is
 * mapped into the IOMMU; MSI-X vectors are eventfds that the loop watches. Vector 0 is the admin
 * queue's and always on where there are vectors, so that events wake a loop that sleeps. I/O queues
 * have vectors when interrupts=1 asks for them, else they are polled.
 *
 * A device that was pulled out is told by the kernel, which waits for us to let go of it, or shows in
 * registers that read all ones. We let go, and look for a function at its address that is with
 * vfio-pci again (relink.h): it gets the mappings and the vectors that the other one had. Whether it is
 * the same device is the driver's to ask (H6 of host.h).
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "nvme/device.h"
#include "nvme/relink.h"
#include "nvme/vfio.h"

#define CLASS_NVME 0x010802u

struct pcie;

/* An eventfd that the loop watches. */
struct pcie_event {
	struct loop_fd f;
	struct pcie *pcie;
	bool watched;
};

#define EVENT_NOTIFY 0u /* the kernel wants the device back */
#define EVENT_VECTOR 1u /* the first of the vectors */
#define EVENTS_MAX   (EVENT_VECTOR + VFIO_VECTORS_MAX)

/* Memory that the device reaches, to be mapped again. */
struct pcie_region {
	void *addr;
	size_t len_bytes;
	uint64_t dma;
	struct list link;
};

struct pcie {
	struct nvme_transport t;
	struct vfio_pci v;
	struct relink link;
	struct list regions;
	struct pcie_event event[EVENTS_MAX];
	unsigned watched; /* events that the loop still has */
};

static struct pcie *self(struct nvme_transport *t)
{
	return container_of(t, struct pcie, t);
}

/* --- registers --- */

static volatile uint32_t *at(struct pcie *p, uint32_t off)
{
	return (volatile uint32_t *)(void *)(p->v.bar + off);
}

static uint32_t bar_read32(struct nvme_transport *t, uint32_t off)
{
	return le32toh(*at(self(t), off));
}

static void bar_write32(struct nvme_transport *t, uint32_t off, uint32_t value)
{
	/* What was written to memory before is there when the device sees this. */
	fence_full();
	*at(self(t), off) = htole32(value);
}

/* In two halves: not every bridge passes 64 bits on whole. */
static void bar_write64(struct nvme_transport *t, uint32_t off, uint64_t value)
{
	bar_write32(t, off, (uint32_t)value);
	bar_write32(t, off + 4, (uint32_t)(value >> 32));
}

static uint64_t bar_cap(struct nvme_transport *t)
{
	uint32_t low = bar_read32(t, NVME_REG_CAP);

	return (uint64_t)bar_read32(t, NVME_REG_CAP + 4) << 32 | low;
}

static uint32_t pcie_read32(struct nvme_transport *t, uint32_t off)
{
	return relink_read32(&self(t)->link, off);
}

static uint64_t pcie_read64(struct nvme_transport *t, uint32_t off)
{
	return relink_read64(&self(t)->link, off);
}

static void pcie_write32(struct nvme_transport *t, uint32_t off, uint32_t value)
{
	relink_write32(&self(t)->link, off, value);
}

static void pcie_write64(struct nvme_transport *t, uint32_t off, uint64_t value)
{
	relink_write64(&self(t)->link, off, value);
}

static volatile uint32_t *pcie_doorbell(struct nvme_transport *t, uint32_t off)
{
	if (off + NVME_REG_DOORBELL + sizeof(uint32_t) > self(t)->v.bar_bytes)
		return NULL;
	return at(self(t), NVME_REG_DOORBELL + off);
}

/* --- memory --- */

static int pcie_map(struct nvme_transport *t, struct mem_region *r, uint64_t *ret_dma)
{
	struct pcie_region *n = mem_calloc(1, sizeof(*n));
	int rc = n ? vfio_pci_map(&self(t)->v, r->addr, r->len_bytes, &n->dma) : -ENOMEM;

	if (rc) {
		mem_free(n);
		return rc == -EINVAL ? -ENOTSUP : rc; /* not whole pages: not this kind of memory */
	}
	n->addr = r->addr;
	n->len_bytes = r->len_bytes;
	list_push(&self(t)->regions, &n->link);
	*ret_dma = n->dma;
	return 0;
}

static void pcie_unmap(struct nvme_transport *t, struct mem_region *r, uint64_t dma)
{
	struct pcie_region *n, *tmp;

	vfio_pci_unmap(&self(t)->v, dma);
	list_for_each_safe (n, tmp, &self(t)->regions, link) {
		if (n->dma != dma)
			continue;
		list_del(&n->link);
		mem_free(n);
	}
}

static void pcie_cut(struct nvme_transport *t)
{
	relink_stop(&self(t)->link);
	t->gone = true;
	vfio_pci_close(&self(t)->v);
}

static int pcie_reset(struct nvme_transport *t)
{
	return vfio_pci_reset(&self(t)->v);
}

/* --- events --- */

/* Nothing else to do: pollers look at queues and registers in each turn, and now there is one. */
static void event_ready(struct loop_fd *f, uint32_t revents)
{
	struct pcie_event *e = container_of(f, struct pcie_event, f);
	uint64_t count;

	if (read(f->fd, &count, sizeof(count)) != sizeof(count))
		return;
	if (e != &e->pcie->event[EVENT_NOTIFY] || e->pcie->t.gone)
		return;
	log_warn("%s: the kernel wants the device back", e->pcie->v.name);
	relink_lost(&e->pcie->link);
}

static void event_gone(struct loop_fd *f)
{
	struct pcie_event *e = container_of(f, struct pcie_event, f);

	e->watched = false;
	e->pcie->watched--;
	close(f->fd);
}

static int event_new(struct pcie *p, unsigned i)
{
	struct pcie_event *e = &p->event[i];
	int rc;

	e->pcie = p;
	e->f.ready = event_ready;
	e->f.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->f.fd < 0)
		return -errno;
	rc = loop_fd_add(p->t.loop, &e->f, POLLIN);
	if (rc) {
		close(e->f.fd);
		return rc;
	}
	e->watched = true;
	p->watched++;
	return 0;
}

static int vectors_new(struct pcie *p, unsigned count)
{
	int rc = 0;

	for (unsigned i = 0; i < count && !rc; i++)
		rc = event_new(p, EVENT_VECTOR + i);
	return rc;
}

/* The eventfds that there are, to the device: each vector its own. */
static int vectors_set(struct pcie *p)
{
	int fds[VFIO_VECTORS_MAX];

	for (unsigned i = 0; i < p->t.vectors; i++)
		fds[i] = p->event[EVENT_VECTOR + i].f.fd;
	return p->t.vectors ? vfio_pci_vectors(&p->v, fds, p->t.vectors) : 0;
}

static int events_new(struct pcie *p, const struct nvme_device *d, struct pst_err *err)
{
	unsigned count = MIN(p->v.vectors, 1u);
	int rc = event_new(p, EVENT_NOTIFY);

	if (!rc)
		rc = vfio_pci_notify(&p->v, p->event[EVENT_NOTIFY].f.fd);
	if (rc == -ENOTSUP)
		log_info("%s: this kernel does not tell when it wants the device back", p->v.name);
	else if (rc)
		return err_set(err, rc, "%s: no event for its removal", p->v.name);
	if (d->interrupts && !p->v.vectors)
		return err_set(err, -ENOTSUP, "%s: interrupts=1: it has no MSI-X", p->v.name);
	if (d->interrupts)
		count = MIN(p->v.vectors, 1 + d->host.queues_max);
	rc = vectors_new(p, count);
	p->t.vectors = count;
	if (!rc)
		rc = vectors_set(p);
	if (rc)
		return err_set(err, rc, "%s: no interrupts: %s", p->v.name, strerror(-rc));
	p->t.polled = !d->interrupts;
	return 0;
}

/* --- lost, and found --- */

static void bar_lost(struct nvme_transport *t)
{
	vfio_pci_lose(&self(t)->v);
}

/* As after power on: the kernel has reset it, where it can be reset. */
static int be_disabled(struct pcie *p, struct pst_err *err)
{
	uint32_t csts = bar_read32(&p->t, NVME_REG_CSTS), cc = bar_read32(&p->t, NVME_REG_CC);

	if (csts == NVME_REG_GONE || cc == NVME_REG_GONE)
		return err_set(err, -ENOENT, "%s: it does not answer", p->v.name);
	if ((csts & NVME_CSTS_RDY) || (cc & NVME_CC_EN))
		return err_set(err, -ENODEV, "%s: it is there again, but not reset", p->v.name);
	return 0;
}

static int give_again(struct pcie *p)
{
	struct pcie_region *r;
	int rc;

	list_for_each (r, &p->regions, link) {
		rc = vfio_pci_map_again(&p->v, r->addr, r->len_bytes, r->dma);
		if (rc)
			return rc;
	}
	rc = vfio_pci_notify(&p->v, p->event[EVENT_NOTIFY].f.fd);
	return rc && rc != -ENOTSUP ? rc : vectors_set(p);
}

static int bar_find(struct nvme_transport *t)
{
	struct pcie *p = self(t);
	struct pst_err err = {.text = "its memory, or its interrupts"};
	int rc = vfio_pci_open_again(&p->v, CLASS_NVME, t->vectors, &err);

	if (!rc) {
		rc = be_disabled(p, &err);
		if (!rc)
			rc = give_again(p);
		if (rc)
			vfio_pci_lose(&p->v);
	}
	/* That it is not there, or not with vfio-pci, is what it is looked for for. */
	if (rc && rc != -ENOENT && rc != -EBUSY && !p->link.told) {
		log_warn("nvme: %s (%s)", err.text, strerror(-rc));
		p->link.told = true;
	}
	return rc;
}

static const struct relink_ops bar_ops = {
        .read32 = bar_read32,
        .write32 = bar_write32,
        .write64 = bar_write64,
        .lost = bar_lost,
        .find = bar_find,
        .cap = bar_cap,
};

/* --- */

static void pcie_close(struct nvme_transport *t)
{
	struct pcie *p = self(t);

	relink_stop(&p->link);
	for (unsigned i = 0; i < EVENTS_MAX; i++) {
		if (p->event[i].watched)
			loop_fd_del(t->loop, &p->event[i].f, event_gone);
	}
	while (p->watched)
		loop_turn(t->loop, NSEC_PER_SEC);
	vfio_pci_done(&p->v);
	mem_free(p);
}

static const struct nvme_transport_ops pcie_ops = {
        .name = "pcie",
        .read32 = pcie_read32,
        .read64 = pcie_read64,
        .write32 = pcie_write32,
        .write64 = pcie_write64,
        .doorbell = pcie_doorbell,
        .map = pcie_map,
        .unmap = pcie_unmap,
        .cut = pcie_cut,
        .reset = pcie_reset,
        .close = pcie_close,
};

static int pcie_connect(struct nvme_transport **ret_t, const struct nvme_device *d,
                        struct loop *loop, const struct bdev_open_opts *opts, struct pst_err *err)
{
	struct pcie *p;
	int rc;

	if (loop_is_sim(loop))
		return err_set(err, -ENOTSUP, "%s: no real device in a simulation", d->spec);
	p = mem_calloc(1, sizeof(*p));
	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	p->t = (struct nvme_transport){.ops = &pcie_ops, .loop = loop, .mem_kind = MEM_HOST};
	list_init(&p->regions);
	rc = vfio_pci_open(&p->v, d->spec, CLASS_NVME, err);
	if (rc) {
		mem_free(p);
		return rc;
	}
	rc = events_new(p, d, err);
	if (rc) {
		pcie_close(&p->t);
		return rc;
	}
	relink_init(&p->link, &p->t, &bar_ops, p->v.name, d->reconnect_s,
	            d->reconnect_s ? nvme_device_patience(d) : 0);
	*ret_t = &p->t;
	return 0;
}

/* --- device strings --- */

static const char help[] =
        "nvme:BUS:DEV.FN        an NVMe controller on the PCI bus that was handed over to us\n"
        "                       (penstock nvme bind): driven from user space, by VFIO\n"
        "  nsid=N               the namespace (1)\n"
        "  reconnect=SECONDS    how long to look for it when it was pulled out, or the kernel "
        "took\n"
        "                       it, before it counts as gone (60); 0: not at all\n"
        "  interrupts=0|1       sleep until the device interrupts; else it is polled (0)\n"
        "  entries=N            of the I/O queue, 2 to 4096 (1024, or what the device takes)\n"
        "  timeout=MS           a command that takes longer is aborted (10000)\n"
        "  sgl=0|1              use SGLs where the device takes them (1)\n"
        "  shadow=0|1           use shadow doorbells where it has them (0)\n";

static int pcie_parse(struct nvme_device *d, const char *rest, struct pst_err *err)
{
	struct options o;
	uint64_t reconnect = 60;
	int rc = options_parse(&o, rest, err);

	if (rc)
		return rc;
	if (!vfio_pci_name(o.base, d->spec))
		rc = err_set(err, -EINVAL, "nvme: '%s' is no PCI address, as 0000:01:00.0", o.base);
	if (!rc)
		rc = nvme_device_common(d, &o, err);
	if (!rc)
		rc = options_bool(&o, "interrupts", &d->interrupts, err);
	if (!rc)
		rc = nvme_device_ranged(&o, "reconnect", 0, 500, &reconnect, err);
	d->reconnect_s = (uint32_t)reconnect;
	if (!rc)
		rc = options_finish(&o, "nvme", err);
	options_done(&o);
	return rc;
}

const struct nvme_carrier nvme_carrier_pcie = {
        .scheme = "nvme",
        .name = "pcie",
        .parse = pcie_parse,
        .connect = pcie_connect,
};

static int open_bdev(struct bdev **ret_bdev, const char *rest, struct loop *loop,
                     const struct bdev_open_opts *opts, struct pst_err *err)
{
	return nvme_bdev_open(ret_bdev, &nvme_carrier_pcie, rest, loop, opts, err);
}

static int check(const char *rest, struct pst_err *err)
{
	return nvme_device_check(&nvme_carrier_pcie, rest, err);
}

static struct bdev_driver bdev_driver_nvme = {
        .scheme = "nvme",
        .help = help,
        .open = open_bdev,
        .check = check,
};

__attribute__((constructor)) static void nvme_register(void)
{
	bdev_driver_register(&bdev_driver_nvme);
}
