/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vfio - a PCI function in our hands: the kernel's vfio-pci driver behind an IOMMU, by its group
 * interface. One function, one container: the device reaches the memory that was mapped here, and no
 * other. The kernel resets the function when it is opened, and again when we are gone, however that
 * happens: a device that was still writing into a process that died writes nowhere.
 */
#ifndef NVME_VFIO_H
#define NVME_VFIO_H

#include "nvme/iova.h"

#define VFIO_PCI_NAME_MAX 32

/* Vectors of one function that are of use: the admin queue's, and some for I/O queues. */
#define VFIO_VECTORS_MAX 33u

struct vfio_pci {
	char name[VFIO_PCI_NAME_MAX]; /* 0000:01:00.0 */
	int container, group, device;
	bool lost;    /* vfio_pci_lose() */
	uint8_t *bar; /* BAR 0, or plain memory of ones once it was closed or lost */
	size_t bar_bytes;
	uint64_t config_off; /* of configuration space in the device's file */
	unsigned vectors;    /* MSI-X that the function has */
	bool can_reset, iommu_set;
	struct iova_space iova;
};

/*
 * True when @text is a PCI function's address, [DOMAIN:]BUS:DEVICE.FUNCTION; *ret_name (of
 * VFIO_PCI_NAME_MAX bytes) is its full form in small letters.
 */
bool vfio_pci_name(const char *text, char *ret_name);

/*
 * Opens the function @name, maps BAR 0, lets it master the bus. @class24: what it must be.
 * -ENOENT: no such function. -EINVAL: of another class. -EBUSY: it is with another driver, or in use.
 * -ENOTSUP: no IOMMU. -EACCES, -ENOMEM, others of the kernel's; always with a sentence.
 */
int vfio_pci_open(struct vfio_pci *v, const char *name, uint32_t class24, struct pst_err *err);
/*
 * Ends it: nothing is reached any more, BAR 0 is plain memory of ones (v->bar stays until
 * vfio_pci_done()). Harmless when done before.
 */
void vfio_pci_close(struct vfio_pci *v);
void vfio_pci_done(struct vfio_pci *v);

/*
 * It went away: as vfio_pci_close(), but the function may be opened again. Addresses that were given
 * out stay so, and more are given out meanwhile.
 */
void vfio_pci_lose(struct vfio_pci *v);
/*
 * Opens it again: BAR 0 comes to where it was, with as many bytes, and with at least @vectors
 * vectors; the IOMMU allows the addresses that were given out. Nothing is mapped yet: that is for
 * vfio_pci_map_again(). On any error it is lost as before.
 */
int vfio_pci_open_again(struct vfio_pci *v, uint32_t class24, unsigned vectors,
                        struct pst_err *err);

/* Whole pages. *ret_dma: where the device finds them. -EINVAL, -ENOSPC, -ENOMEM (also: more than may
 * be locked, RLIMIT_MEMLOCK), -ENODEV (closed). While it is lost the address alone is given out. */
int vfio_pci_map(struct vfio_pci *v, void *addr, size_t len_bytes, uint64_t *ret_dma);
/* After vfio_pci_open_again(), at the address that it had. */
int vfio_pci_map_again(struct vfio_pci *v, void *addr, size_t len_bytes, uint64_t dma);
void vfio_pci_unmap(struct vfio_pci *v, uint64_t dma);

/* Signals eventfds: vector i rings fds[i]. 0 vectors switch interrupts off. */
int vfio_pci_vectors(struct vfio_pci *v, const int *fds, unsigned count);
/* Rings @fd when the kernel wants the device back (it was pulled out, or is unbound), or when PCI
 * Express reports an error that stops it. -ENOTSUP: this kernel doesn't tell. */
int vfio_pci_notify(struct vfio_pci *v, int fd);
/* Function level reset. Vectors and mappings stay. -ENOTSUP. */
int vfio_pci_reset(struct vfio_pci *v);

#endif
