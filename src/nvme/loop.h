/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop - the transport without a wire: the controller is ours, in this process. Its BAR is plain
 * memory; the host's doorbells are stores into it, and the host's poller lets it work. Or it is in
 * another process: then shm.h.
 */
#ifndef NVME_LOOP_H
#define NVME_LOOP_H

#include "nvme/device.h"

/* A controller over d->spec with one namespace, and the way to it; or the way to that of the target
 * d->name. Blocks. *ret_ctrlr (NULL: not wanted; only with d->spec) is for tests; it lives as long
 * as the transport. */
int nvme_loop_new(struct nvme_transport **ret_t, const struct nvme_device *d, struct loop *loop,
                  const struct bdev_open_opts *opts, struct nvme_ctrlr **ret_ctrlr,
                  struct pst_err *err);

#endif
