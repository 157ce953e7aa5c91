/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * device - device strings of NVMe: which carrier (a kind of transport) a scheme stands for, and what
 * its options say. The bdev and penstock/nvme.h open controllers through here; a new carrier is a
 * file with its nvme_carrier, and a line in the table of device.c.
 */
#ifndef NVME_DEVICE_H
#define NVME_DEVICE_H

#include "bdev/bdev.h"
#include "nvme/ctrlr.h"
#include "nvme/host.h"

struct nvme_carrier;

/* What a device string says. */
struct nvme_device {
	const struct nvme_carrier *carrier;
	char spec[4096]; /* loop: the block device behind it, or ""; pcie: the function's address */
	struct pst_nvme_opts host;
	uint32_t nsid;    /* the namespace that it means */
	uint32_t entries; /* of the I/O queue of a bdev; 0: default */
	/* loop */
	struct nvme_ctrlr_opts ctrlr;
	uint32_t lba_bytes; /* 0: as the block device */
	bool strict;        /* the controller reaches only memory that was mapped */
	char faults[256];   /* the controller's fault plan */
	/* loop, with a target: spec is empty */
	char name[64];     /* of the target, another process */
	char hostnqn[224]; /* who we say we are; tcp, too */
	/* tcp: spec is HOST:PORT */
	char subnqn[224];
	bool hdgst, ddgst;
	uint32_t kato_ms;
	uint32_t reconnect_s; /* how long to look for a target that was lost; loop, too */
	/* pcie */
	bool interrupts; /* of I/O queues: sleep for completions; else they are polled */
};

struct nvme_carrier {
	const char *scheme; /* of the bdev: "nvme+loop" */
	const char *name;   /* also taken by pst_nvme_open(): "loop" */
	/* @rest: without the scheme; @d is zeroed, its host has the defaults. -EINVAL with a
	 * sentence. */
	int (*parse)(struct nvme_device *d, const char *rest, struct pst_err *err);
	/* The way to the controller. Blocks. */
	int (*connect)(struct nvme_transport **ret_t, const struct nvme_device *d,
	               struct loop *loop, const struct bdev_open_opts *opts, struct pst_err *err);
};

extern const struct nvme_carrier nvme_carrier_loop, nvme_carrier_pcie, nvme_carrier_tcp;

/* The carrier of "SCHEME:..." or "NAME:...", and what follows the colon; NULL. */
const struct nvme_carrier *nvme_carrier_find(const char *device, const char **ret_rest);
int nvme_device_parse(struct nvme_device *d, const struct nvme_carrier *carrier, const char *rest,
                      struct pst_err *err);
/* Connects and attaches. Blocks. */
int nvme_device_attach(struct nvme_host **ret_host, const struct nvme_device *d, struct loop *loop,
                       const struct bdev_open_opts *opts, struct pst_err *err);

/* For carriers: the options that all of them have (nsid, entries, timeout, sgl, shadow). */
int nvme_device_common(struct nvme_device *d, struct options *o, struct pst_err *err);
int nvme_device_ranged(struct options *o, const char *key, uint64_t min, uint64_t max,
                       uint64_t *val, struct pst_err *err);

/* For carriers: how long one of the driver's tries may take (as CAP.TO has it, in 500 ms), so that all
 * of them together take d->reconnect_s. */
uint32_t nvme_device_patience(const struct nvme_device *d);

/* For carriers: bdev_driver.check of their scheme. */
int nvme_device_check(const struct nvme_carrier *carrier, const char *rest, struct pst_err *err);
/* For carriers: bdev_driver.open of their scheme (bdev_nvme.c). */
int nvme_bdev_open(struct bdev **ret_bdev, const struct nvme_carrier *carrier, const char *rest,
                   struct loop *loop, const struct bdev_open_opts *opts, struct pst_err *err);

#endif
