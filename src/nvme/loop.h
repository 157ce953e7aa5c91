/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop - the transport without a wire: the controller is ours, in this process. Its BAR is plain
 * memory; the host's doorbells are stores into it, and the host's poller lets it work.
 */
#ifndef NVME_LOOP_H
#define NVME_LOOP_H

#include "nvme/ctrlr.h"
#include "nvme/host.h"

/* What a device string says after "nvme+loop:". */
struct nvme_device {
	char spec[4096]; /* the block device behind it */
	struct nvme_ctrlr_opts ctrlr;
	struct pst_nvme_opts host;
	uint32_t lba_bytes; /* 0: as the block device */
	uint32_t entries;   /* of the I/O queue of a bdev; 0: default */
	bool strict;        /* the controller reaches only memory that was mapped */
	char faults[256];   /* the controller's fault plan */
};

extern const char nvme_device_help[];
/* @rest: without the scheme. -EINVAL with a sentence. */
int nvme_device_parse(struct nvme_device *d, const char *rest, struct pst_err *err);

/* A controller over d->spec with one namespace, and the way to it. Blocks. *ret_ctrlr (NULL: not
 * wanted) is for tests; it lives as long as the transport. */
int nvme_loop_new(struct nvme_transport **ret_t, const struct nvme_device *d, struct loop *loop,
                  const struct bdev_open_opts *opts, struct nvme_ctrlr **ret_ctrlr,
                  struct pst_err *err);

#endif
