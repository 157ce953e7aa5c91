/* SPDX-License-Identifier: BSD-3-Clause */
/* target_int - what target.c and the ports (target_shm.c, tcp_target.c) share. */
#ifndef NVME_TARGET_INT_H
#define NVME_TARGET_INT_H

#include "nvme/target.h"

struct target_port;

struct target_port_ops {
	const char *kind;
	/* Takes nobody in any more and ends who is there; they are gone when port->hosts is empty.
	 */
	void (*stop)(struct target_port *p);
	/* All hosts are gone: frees @p. May turn the loop. */
	void (*free)(struct target_port *p);
};

/* One way in. Embedded in what a kind of port has of its own. */
struct target_port {
	const struct target_port_ops *ops;
	struct nvme_target *target;
	unsigned number;   /* 0: only for control */
	char address[128]; /* for people */
	uint8_t ana[NVME_ANA_GROUPS_MAX + 1];
	struct list hosts; /* struct target_host */
	struct list link;
};

/* One host's controller. */
struct target_host {
	struct target_port *port;
	struct nvme_ctrlr *ctrlr; /* NULL: not yet, or not any more */
	char nqn[NVME_NQN_BYTES];
	struct list link;
};

struct nvme_target {
	struct loop *loop;
	struct nvme_subsys *subsys;
	struct bdev *bdev[NVME_SUBSYS_NS_MAX];
	unsigned bdevs;
	struct nvme_target_opts opts;
	char nqn[NVME_NQN_BYTES], faults[256];
	char *allow[NVME_TARGET_ALLOW_MAX];
	unsigned ports;
	struct list port_list;
};

/* Numbers @p and puts it on the list. -ENOSPC. */
int target_port_add(struct nvme_target *t, struct target_port *p, bool control_only);
/* Whether the host that calls itself @nqn may come in. */
bool target_allows(const struct nvme_target *t, const char *nqn);
/* A controller for @h, whose port and nqn are set, with @opts filled by target_ctrlr_opts() and the
 * port's own; the port's ANA states. */
void target_ctrlr_opts(const struct nvme_target *t, struct nvme_ctrlr_opts *ret_opts);
int target_host_begin(struct target_host *h, const struct nvme_ctrlr_opts *opts,
                      struct pst_err *err);
/* h->ctrlr is quiet: frees it. Takes @h off its port. */
void target_host_end(struct target_host *h);

#endif
