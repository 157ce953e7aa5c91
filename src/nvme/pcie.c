/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The pcie transport: a controller on the bus, by vfio. Registers and doorbells are BAR 0; memory is
 * mapped into the IOMMU; MSI-X vectors are eventfds that the loop watches. Vector 0 is the admin
 * queue's and always on where there are vectors, so that events wake a loop that sleeps. I/O queues
 * have vectors when interrupts=1 asks for them, else they are polled.
 *
 * A device that was pulled out is told by the kernel, which waits for us to let go of it: from then on
 * registers read all ones, which the host takes as its death, and cut() lets go.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "nvme/device.h"
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

struct pcie {
	struct nvme_transport t;
	struct vfio_pci v;
	bool is_cut;
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

static bool is_gone(const struct nvme_transport *t)
{
	const struct pcie *p = container_of(t, struct pcie, t);

	return p->is_cut || t->gone;
}

static uint32_t pcie_read32(struct nvme_transport *t, uint32_t off)
{
	return is_gone(t) ? NVME_REG_GONE : le32toh(*at(self(t), off));
}

/* In two halves: not every bridge passes 64 bits on whole. */
static uint64_t pcie_read64(struct nvme_transport *t, uint32_t off)
{
	uint32_t low = pcie_read32(t, off);

	return (uint64_t)pcie_read32(t, off + 4) << 32 | low;
}

static void pcie_write32(struct nvme_transport *t, uint32_t off, uint32_t value)
{
	/* What was written to memory before is there when the device sees this. */
	fence_full();
	if (!is_gone(t))
		*at(self(t), off) = htole32(value);
}

static void pcie_write64(struct nvme_transport *t, uint32_t off, uint64_t value)
{
	pcie_write32(t, off, (uint32_t)value);
	pcie_write32(t, off + 4, (uint32_t)(value >> 32));
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
	int rc = vfio_pci_map(&self(t)->v, r->addr, r->len_bytes, ret_dma);

	return rc == -EINVAL ? -ENOTSUP : rc; /* not whole pages: not this kind of memory */
}

static void pcie_unmap(struct nvme_transport *t, struct mem_region *r, uint64_t dma)
{
	vfio_pci_unmap(&self(t)->v, dma);
}

static void pcie_cut(struct nvme_transport *t)
{
	struct pcie *p = self(t);

	p->is_cut = true;
	vfio_pci_close(&p->v);
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
	e->pcie->t.gone = true;
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

/* @count vectors, each with an eventfd of its own. */
static int vectors_new(struct pcie *p, unsigned count)
{
	int fds[VFIO_VECTORS_MAX], rc = 0;

	for (unsigned i = 0; i < count && !rc; i++) {
		rc = event_new(p, EVENT_VECTOR + i);
		fds[i] = p->event[EVENT_VECTOR + i].f.fd;
	}
	if (!rc && count)
		rc = vfio_pci_vectors(&p->v, fds, count);
	return rc;
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
	if (rc)
		return err_set(err, rc, "%s: no interrupts: %s", p->v.name, strerror(-rc));
	p->t.vectors = count;
	p->t.polled = !d->interrupts;
	return 0;
}

/* --- */

static void pcie_close(struct nvme_transport *t)
{
	struct pcie *p = self(t);

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
	*ret_t = &p->t;
	return 0;
}

/* --- device strings --- */

static const char help[] =
        "nvme:BUS:DEV.FN        an NVMe controller on the PCI bus that was handed over to us\n"
        "                       (penstock nvme bind): driven from user space, by VFIO\n"
        "  nsid=N               the namespace (1)\n"
        "  interrupts=0|1       sleep until the device interrupts; else it is polled (0)\n"
        "  entries=N            of the I/O queue, 2 to 4096 (1024, or what the device takes)\n"
        "  timeout=MS           a command that takes longer is aborted (10000)\n"
        "  sgl=0|1              use SGLs where the device takes them (1)\n"
        "  shadow=0|1           use shadow doorbells where it has them (0)\n";

static int pcie_parse(struct nvme_device *d, const char *rest, struct pst_err *err)
{
	struct options o;
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

static struct bdev_driver bdev_driver_nvme = {
        .scheme = "nvme",
        .help = help,
        .open = open_bdev,
};

__attribute__((constructor)) static void nvme_register(void)
{
	bdev_driver_register(&bdev_driver_nvme);
}
