/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The order of vfio_pci_open() is the kernel's: a group is viable when all of its functions are with
 * vfio-pci or with no driver; a container gets its IOMMU with its first group; only then is there a
 * device to get. What can be wrong before is looked up in sysfs first, so that the answer is a
 * sentence and not a number.
 */
#include "nvme/vfio.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define BAR_MAP_MAX (1 * MIB) /* registers and doorbells; what else lies there is not ours */
#define INFO_MAX    4096u     /* of an answer with capabilities */

/* --- names --- */

/* Up to @max hexadecimal digits, then @end. */
static bool hex(const char **p, unsigned max, char end, unsigned *ret_val)
{
	unsigned val = 0, n = 0;

	for (; n < max && isxdigit((unsigned char)**p); n++, (*p)++) {
		int c = tolower((unsigned char)**p);

		val = val * 16 + (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
	}
	if (!n || **p != end)
		return false;
	if (end)
		(*p)++;
	*ret_val = val;
	return true;
}

bool vfio_pci_name(const char *text, char *ret_name)
{
	const char *p = text, *colon = strchr(text, ':');
	unsigned domain = 0, bus, device, function;

	if (colon && strchr(colon + 1, ':') && !hex(&p, 8, ':', &domain))
		return false;
	if (!hex(&p, 2, ':', &bus) || !hex(&p, 2, '.', &device) || device > 31 ||
	    !hex(&p, 1, '\0', &function) || function > 7)
		return false;
	snprintf(ret_name, VFIO_PCI_NAME_MAX, "%04x:%02x:%02x.%x", domain, bus, device, function);
	return true;
}

/* --- what sysfs says --- */

static void sys_path(char *path, size_t size, const char *name, const char *what)
{
	snprintf(path, size, "/sys/bus/pci/devices/%s%s%s", name, *what ? "/" : "", what);
}

/* The last part of where the link @what leads; false: there is none. */
static bool sys_link(const char *name, const char *what, char *ret_base, size_t size)
{
	char path[128], to[PATH_MAX];
	const char *base;
	ssize_t n;

	sys_path(path, sizeof(path), name, what);
	n = readlink(path, to, sizeof(to) - 1);
	if (n <= 0)
		return false;
	to[n] = '\0';
	base = strrchr(to, '/') ? strrchr(to, '/') + 1 : to;
	if (strlen(base) >= size)
		return false;
	memcpy(ret_base, base, strlen(base) + 1);
	return true;
}

static uint32_t sys_class(const char *name)
{
	char path[128];
	unsigned class24 = 0;
	FILE *f;

	sys_path(path, sizeof(path), name, "class");
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%x", &class24) != 1)
		class24 = 0;
	fclose(f);
	return class24;
}

/* In order, or a sentence; the number of its group. */
static int look_up(const char *name, uint32_t class24, char *ret_group, size_t size,
                   struct pst_err *err)
{
	char path[128], driver[64] = "";

	sys_path(path, sizeof(path), name, "");
	if (access(path, F_OK))
		return err_set(err, -ENOENT, "%s: there is no such PCI function", name);
	if (sys_class(name) != class24)
		return err_set(err, -EINVAL, "%s: PCI class %06x, not %06x", name, sys_class(name),
		               class24);
	if (!sys_link(name, "driver", driver, sizeof(driver)))
		return err_set(err, -EBUSY, "%s: not with vfio-pci (penstock nvme bind %s)", name,
		               name);
	if (strcmp(driver, "vfio-pci") != 0)
		return err_set(err, -EBUSY,
		               "%s: with the driver %s, not with vfio-pci (penstock nvme bind %s)",
		               name, driver, name);
	if (!sys_link(name, "iommu_group", ret_group, size))
		return err_set(err, -ENOTSUP,
		               "%s: in no IOMMU group: is the IOMMU on (intel_iommu=on)?", name);
	return 0;
}

/* --- group and container --- */

static int open_group(struct vfio_pci *v, const char *group, struct pst_err *err)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};
	char path[64];

	snprintf(path, sizeof(path), "/dev/vfio/%s", group);
	v->group = open(path, O_RDWR | O_CLOEXEC);
	if (v->group < 0 && errno == EBUSY)
		return err_set(err, -EBUSY, "%s: in use by another process (%s)", v->name, path);
	if (v->group < 0)
		return err_set(err, -errno, "%s: %s: %s", v->name, path, strerror(errno));
	if (ioctl(v->group, VFIO_GROUP_GET_STATUS, &status))
		return err_set(err, -errno, "%s: %s: %s", v->name, path, strerror(errno));
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return err_set(
		        err, -EBUSY,
		        "%s: other functions of its IOMMU group are still with drivers of the "
		        "kernel (/sys/kernel/iommu_groups/%s/devices)",
		        v->name, group);
	return 0;
}

static int open_container(struct vfio_pci *v, struct pst_err *err)
{
	v->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (v->container < 0)
		return err_set(err, -errno, "/dev/vfio/vfio: %s", strerror(errno));
	if (ioctl(v->container, VFIO_GET_API_VERSION) != VFIO_API_VERSION ||
	    ioctl(v->container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) <= 0)
		return err_set(err, -ENOTSUP, "this kernel's VFIO has no type 1 IOMMU (version 2)");
	if (ioctl(v->group, VFIO_GROUP_SET_CONTAINER, &v->container))
		return err_set(err, -errno, "%s: its group: %s", v->name, strerror(errno));
	if (ioctl(v->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		return err_set(err, -errno, "%s: the IOMMU refuses: %s%s", v->name, strerror(errno),
		               errno == EPERM
		                       ? " (without interrupt remapping VFIO takes no device)"
		                       : "");
	v->iommu_set = true;
	return 0;
}

/* --- what the IOMMU can --- */

/* The capability @id of an answer of @len bytes, with at least @min bytes; NULL. */
static const void *capability(const void *info, uint32_t len, uint32_t off, uint16_t id, size_t min)
{
	for (unsigned hops = 0; hops < 64 && off && off <= len; hops++) {
		const struct vfio_info_cap_header *h;

		if (len - off < sizeof(*h))
			return NULL;
		h = (const void *)((const char *)info + off);
		if (h->id == id)
			return len - off >= min ? h : NULL;
		off = h->next;
	}
	return NULL;
}

static int take_ranges(struct iova_space *s, const void *info, uint32_t len, uint32_t cap_offset)
{
	const struct vfio_iommu_type1_info_cap_iova_range *c =
	        capability(info, len, cap_offset, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, sizeof(*c));
	size_t room;
	int rc = 0;

	if (!c) {
		/* An old kernel: what any IOMMU has, without the window of message interrupts. */
		rc = iova_allow(s, IOVA_FIRST, 0xfedfffff);
		return rc ? rc : iova_allow(s, 1ull << 32, (1ull << 39) - 1);
	}
	room = (size_t)((const char *)info + len - (const char *)c->iova_ranges) /
	       sizeof(c->iova_ranges[0]);
	for (uint32_t i = 0; i < c->nr_iovas && i < room && !rc; i++)
		rc = iova_allow(s, c->iova_ranges[i].start, c->iova_ranges[i].end);
	return rc == -ENOSPC ? 0 : rc; /* the ones that we have are enough */
}

/* What it allows, into @s. */
static int learn_iommu(struct vfio_pci *v, struct iova_space *s, struct pst_err *err)
{
	struct vfio_iommu_type1_info *info = mem_calloc(1, INFO_MAX);
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	int rc = 0;

	if (!info)
		return err_set(err, -ENOMEM, "out of memory");
	info->argsz = INFO_MAX;
	if (ioctl(v->container, VFIO_IOMMU_GET_INFO, info))
		rc = err_set(err, -errno, "%s: the IOMMU says nothing of itself: %s", v->name,
		             strerror(errno));
	else if ((info->flags & VFIO_IOMMU_INFO_PGSIZES) && !(info->iova_pgsizes & (2 * page - 1)))
		rc = err_set(err, -ENOTSUP, "%s: the IOMMU's pages are larger than the system's",
		             v->name);
	else
		rc = take_ranges(s, info, MIN(info->argsz, INFO_MAX),
		                 info->flags & VFIO_IOMMU_INFO_CAPS ? info->cap_offset : 0);
	mem_free(info);
	if (!rc && !s->allowed_count)
		rc = err_set(err, -ENOTSUP, "%s: the IOMMU allows no addresses", v->name);
	return rc;
}

/* --- the function --- */

static int region_info(struct vfio_pci *v, unsigned index, struct vfio_region_info *r)
{
	memset(r, 0, INFO_MAX);
	r->argsz = INFO_MAX;
	r->index = index;
	return ioctl(v->device, VFIO_DEVICE_GET_REGION_INFO, r) ? -errno : 0;
}

/* Bytes from its beginning on that may be mapped. */
static uint64_t mappable(const struct vfio_region_info *r)
{
	const struct vfio_region_info_cap_sparse_mmap *s = NULL;

	if (!(r->flags & VFIO_REGION_INFO_FLAG_MMAP))
		return 0;
	if (r->flags & VFIO_REGION_INFO_FLAG_CAPS)
		s = capability(r, MIN(r->argsz, INFO_MAX), r->cap_offset,
		               VFIO_REGION_INFO_CAP_SPARSE_MMAP, sizeof(*s) + sizeof(s->areas[0]));
	if (!s)
		return r->size;
	return s->nr_areas && !s->areas[0].offset ? s->areas[0].size : 0;
}

static int map_bar(struct vfio_pci *v, struct vfio_region_info *r, struct pst_err *err)
{
	int rc = region_info(v, VFIO_PCI_BAR0_REGION_INDEX, r);
	uint64_t bytes = rc ? 0 : MIN(mappable(r), BAR_MAP_MAX);
	void *p;

	if (!bytes)
		return err_set(err, rc ? rc : -ENOTSUP, "%s: BAR 0 can't be mapped", v->name);
	if (v->bar && bytes != v->bar_bytes)
		return err_set(err, -ENODEV, "%s: BAR 0 has another size now", v->name);
	p = mmap(v->bar, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (v->bar ? MAP_FIXED : 0),
	         v->device, (off_t)r->offset);
	if (p == MAP_FAILED)
		return err_set(err, -errno, "%s: BAR 0: %s", v->name, strerror(errno));
	v->bar = p;
	v->bar_bytes = bytes;
	return 0;
}

/* Whether the device may read and write memory of its own accord. */
static int bus_master(struct vfio_pci *v, bool on)
{
	off_t at = (off_t)v->config_off + PCI_COMMAND;
	uint16_t cmd;

	if (pread(v->device, &cmd, sizeof(cmd), at) != sizeof(cmd))
		return -EIO;
	cmd = le16toh(cmd);
	if (on)
		cmd |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	else
		cmd &= (uint16_t)~PCI_COMMAND_MASTER;
	cmd = htole16(cmd);
	return pwrite(v->device, &cmd, sizeof(cmd), at) == sizeof(cmd) ? 0 : -EIO;
}

static int learn_device(struct vfio_pci *v, struct vfio_region_info *r, struct pst_err *err)
{
	struct vfio_device_info info = {.argsz = sizeof(info)};
	struct vfio_irq_info irq = {.argsz = sizeof(irq), .index = VFIO_PCI_MSIX_IRQ_INDEX};
	int rc;

	if (ioctl(v->device, VFIO_DEVICE_GET_INFO, &info) || !(info.flags & VFIO_DEVICE_FLAGS_PCI))
		return err_set(err, -EIO, "%s: no PCI device behind VFIO", v->name);
	v->can_reset = info.flags & VFIO_DEVICE_FLAGS_RESET;
	if (!ioctl(v->device, VFIO_DEVICE_GET_IRQ_INFO, &irq) &&
	    (irq.flags & VFIO_IRQ_INFO_EVENTFD))
		v->vectors = MIN(irq.count, VFIO_VECTORS_MAX);
	rc = region_info(v, VFIO_PCI_CONFIG_REGION_INDEX, r);
	v->config_off = r->offset;
	if (!rc)
		rc = bus_master(v, true);
	if (rc)
		return err_set(err, rc, "%s: its configuration space can't be used", v->name);
	return map_bar(v, r, err);
}

static int open_device(struct vfio_pci *v, struct pst_err *err)
{
	struct vfio_region_info *r;
	int rc;

	v->device = ioctl(v->group, VFIO_GROUP_GET_DEVICE_FD, v->name);
	if (v->device < 0)
		return err_set(err, -errno, "%s: VFIO does not hand it out: %s", v->name,
		               strerror(errno));
	r = mem_alloc(INFO_MAX);
	if (!r)
		return err_set(err, -ENOMEM, "out of memory");
	rc = learn_device(v, r, err);
	mem_free(r);
	return rc;
}

int vfio_pci_open(struct vfio_pci *v, const char *name, uint32_t class24, struct pst_err *err)
{
	char group[32];
	int rc;

	memset(v, 0, sizeof(*v));
	v->container = v->group = v->device = -1;
	snprintf(v->name, sizeof(v->name), "%s", name);
	if ((rc = look_up(name, class24, group, sizeof(group), err)) ||
	    (rc = open_group(v, group, err)) || (rc = open_container(v, err)) ||
	    (rc = learn_iommu(v, &v->iova, err)) || (rc = open_device(v, err)))
		vfio_pci_done(v);
	return rc;
}

int vfio_pci_open_again(struct vfio_pci *v, uint32_t class24, unsigned vectors, struct pst_err *err)
{
	struct iova_space now = {0};
	char group[32];
	int rc;

	pst_assert(v->lost && v->bar);
	v->vectors = 0;
	if (!(rc = look_up(v->name, class24, group, sizeof(group), err)) &&
	    !(rc = open_group(v, group, err)) && !(rc = open_container(v, err)) &&
	    !(rc = learn_iommu(v, &now, err)) && !(rc = open_device(v, err)) &&
	    (!iova_allows(&now, &v->iova) || v->vectors < vectors))
		rc = err_set(err, -ENODEV, "%s: it is there again, but with %s", v->name,
		             v->vectors < vectors ? "fewer interrupts" : "other addresses");
	iova_done(&now);
	if (rc)
		vfio_pci_lose(v);
	else
		v->lost = false;
	return rc;
}

/* --- ending --- */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Memory that the device still reaches must not be used for anything else. (That a part of it was never
 * mapped, after an opening that was not finished, is no error to the kernel.) */
static void iommu_unmap(struct vfio_pci *v, const struct iova_range *r)
{
	struct vfio_iommu_type1_dma_unmap u = {
	        .argsz = sizeof(u), .iova = r->first, .size = r->last - r->first + 1};

	if (v->container >= 0 && v->iommu_set)
		pst_assert(!ioctl(v->container, VFIO_IOMMU_UNMAP_DMA, &u));
}

/* Doorbells that somebody still rings, by a pointer from before, do no harm. */
static void bar_to_memory(struct vfio_pci *v)
{
	if (!v->bar)
		return;
	if (mmap(v->bar, v->bar_bytes, PROT_READ | PROT_WRITE,
	         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		munmap(v->bar, v->bar_bytes), v->bar = NULL;
	else
		memset(v->bar, 0xff, v->bar_bytes);
}

/* From now on it reaches nothing. What was mapped is still taken. */
static void disconnect(struct vfio_pci *v)
{
	if (v->device >= 0 && bus_master(v, false))
		log_debug("%s: does not take bus mastering away: it is gone, probably", v->name);
	for (size_t i = 0; i < v->iova.used_count; i++)
		iommu_unmap(v, &v->iova.used[i]);
	bar_to_memory(v);
	/* The kernel resets it now, and takes the IOMMU's table down with the container. */
	close_fd(&v->device);
	close_fd(&v->group);
	close_fd(&v->container);
	v->iommu_set = false;
}

void vfio_pci_close(struct vfio_pci *v)
{
	disconnect(v);
	while (v->iova.used_count)
		iova_give(&v->iova, v->iova.used[v->iova.used_count - 1].first);
	v->lost = false;
}

void vfio_pci_lose(struct vfio_pci *v)
{
	disconnect(v);
	v->lost = true;
}

void vfio_pci_done(struct vfio_pci *v)
{
	vfio_pci_close(v);
	if (v->bar)
		munmap(v->bar, v->bar_bytes);
	v->bar = NULL;
	iova_done(&v->iova);
}

/* --- memory --- */

/* Large memory starts where the IOMMU can use large pages for it. */
static uint64_t alignment(uint64_t page, size_t len_bytes)
{
	uint64_t align = page;

	while (align < 2 * MIB && align * 2 <= len_bytes)
		align *= 2;
	return align;
}

static int iommu_map(struct vfio_pci *v, const void *addr, size_t len_bytes, uint64_t dma)
{
	struct vfio_iommu_type1_dma_map m = {.argsz = sizeof(m),
	                                     .flags = VFIO_DMA_MAP_FLAG_READ |
	                                              VFIO_DMA_MAP_FLAG_WRITE,
	                                     .vaddr = (uintptr_t)addr,
	                                     .iova = dma,
	                                     .size = len_bytes};
	int rc = ioctl(v->container, VFIO_IOMMU_MAP_DMA, &m) ? -errno : 0;

	if (rc)
		log_warn("%s: %zu bytes can't be mapped: %s%s", v->name, len_bytes, strerror(-rc),
		         rc == -ENOMEM ? " (is the limit of locked memory, ulimit -l, high enough?)"
		                       : "");
	return rc;
}

int vfio_pci_map(struct vfio_pci *v, void *addr, size_t len_bytes, uint64_t *ret_dma)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), dma;
	int rc;

	if (v->container < 0 && !v->lost)
		return -ENODEV;
	/* Part of a page would show the device the rest of it. */
	if (!IS_ALIGNED((uintptr_t)addr, page) || !len_bytes || !IS_ALIGNED(len_bytes, page))
		return -EINVAL;
	rc = iova_take(&v->iova, len_bytes, alignment(page, len_bytes), &dma);
	if (!rc && !v->lost && (rc = iommu_map(v, addr, len_bytes, dma)))
		iova_give(&v->iova, dma);
	if (!rc)
		*ret_dma = dma;
	return rc;
}

int vfio_pci_map_again(struct vfio_pci *v, void *addr, size_t len_bytes, uint64_t dma)
{
	pst_assert(!v->lost);
	return iommu_map(v, addr, len_bytes, dma);
}

void vfio_pci_unmap(struct vfio_pci *v, uint64_t dma)
{
	uint64_t len = iova_give(&v->iova, dma);
	const struct iova_range r = {.first = dma, .last = dma + len - 1};

	if (len)
		iommu_unmap(v, &r);
}

/* --- interrupts and resets --- */

static int set_irqs(struct vfio_pci *v, unsigned index, const int *fds, unsigned count)
{
	union {
		struct vfio_irq_set set;
		uint8_t room[sizeof(struct vfio_irq_set) + VFIO_VECTORS_MAX * sizeof(int32_t)];
	} s = {.set = {.argsz = sizeof(s.set), .index = index, .count = count}};

	if (v->device < 0)
		return -ENODEV;
	s.set.flags = VFIO_IRQ_SET_ACTION_TRIGGER |
	              (count ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE);
	s.set.argsz += count * (uint32_t)sizeof(int32_t);
	memcpy(s.set.data, fds, count * sizeof(int32_t));
	return ioctl(v->device, VFIO_DEVICE_SET_IRQS, &s) ? -errno : 0;
}

int vfio_pci_vectors(struct vfio_pci *v, const int *fds, unsigned count)
{
	if (count > v->vectors)
		return -EINVAL;
	return set_irqs(v, VFIO_PCI_MSIX_IRQ_INDEX, fds, count);
}

int vfio_pci_notify(struct vfio_pci *v, int fd)
{
	struct vfio_irq_info irq = {.argsz = sizeof(irq), .index = VFIO_PCI_REQ_IRQ_INDEX};

	if (ioctl(v->device, VFIO_DEVICE_GET_IRQ_INFO, &irq) || !irq.count)
		return -ENOTSUP;
	/* Errors are reported only by functions that have the capability for it. */
	set_irqs(v, VFIO_PCI_ERR_IRQ_INDEX, &fd, 1);
	return set_irqs(v, VFIO_PCI_REQ_IRQ_INDEX, &fd, 1);
}

int vfio_pci_reset(struct vfio_pci *v)
{
	if (!v->can_reset || v->device < 0)
		return -ENOTSUP;
	return ioctl(v->device, VFIO_DEVICE_RESET) ? -errno : 0;
}
