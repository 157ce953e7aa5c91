/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * target - offers block devices as namespaces of one subsystem to hosts outside of this process.
 *
 * A target has ports: ways in, numbered from 1. A host that connects to a port gets a controller of
 * its own. What differs between ports is where hosts find them, and their ANA states: the state of
 * a group on a port holds for all controllers that came in there, now and later.
 *
 * A target belongs to its loop and works in its turns. A host that dies, lies or stays away costs
 * its own controller and nothing else.
 *
 * A target whose port is a loop (target_shm.c: other processes of this machine), or that was given
 * a control name, takes commands there (nvme_target_control(), said by nvme_shm_control()):
 *
 *   status                     what there is, one fact per line
 *   ana GROUP=STATE            on all ports; STATE: optimized, non-optimized, inaccessible,
 *   ana PORT:GROUP=STATE       persistent-loss, change; on one port
 */
#ifndef NVME_TARGET_H
#define NVME_TARGET_H

#include "nvme/ctrlr.h"

#define NVME_TARGET_PORTS_MAX 16u
#define NVME_TARGET_ALLOW_MAX 64u

struct nvme_target;

struct nvme_target_opts {
	const char *nqn; /* NULL: nqn.2026-11.io.penstock:target */
	const char *serial;
	/* Hosts by NQN that may connect; none: any. */
	const char *const *allow;
	unsigned allow_count;
	/* Of each host's controller; dma, irq, arg and bar are the ports'. */
	struct nvme_ctrlr_opts ctrlr;
	const char *faults; /* of each host's controller; NULL: none */
};

void nvme_target_opts_default(struct nvme_target_opts *opts);
/* 0, -ENOMEM, -EINVAL with a sentence. Strings are copied. */
int nvme_target_new(struct nvme_target **ret_target, struct loop *loop,
                    const struct nvme_target_opts *opts, struct pst_err *err);
/* Ends all ports, controllers and devices. Turns the loop. Accepts NULL. */
void nvme_target_free(struct nvme_target *t);

/* Opens @spec and offers it. 0 or bdev_open()'s and nvme_subsys_ns_add()'s errors. Blocks. */
int nvme_target_add(struct nvme_target *t, const char *spec, const struct nvme_ns_opts *opts,
                    struct pst_err *err);

/* A port for other processes of this machine, under @name in the run directory; and a name to be
 * controlled by only. 0, -EADDRINUSE, -ENOSPC (ports), -EINVAL. */
int nvme_target_listen_loop(struct nvme_target *t, const char *name, unsigned *ret_port,
                            struct pst_err *err);
int nvme_target_listen_control(struct nvme_target *t, const char *name, struct pst_err *err);

/* A port for NVMe/TCP at @addr ("127.0.0.1:4420"; without a port number 4420). Only a loopback address,
 * unless @anywhere: nothing is encrypted, and hosts are believed who they say they are. Errors also
 * of net_listen(). Blocks if a name is to be looked up. */
int nvme_target_listen_tcp(struct nvme_target *t, const char *addr, bool anywhere,
                           unsigned *ret_port, struct pst_err *err);
/* The text of a port's address, as hosts reach it. NULL: there is no such port. */
const char *nvme_target_address(const struct nvme_target *t, unsigned port);

/* @port: 0 for all. -EINVAL, -ENOENT (port). */
int nvme_target_ana_set(struct nvme_target *t, unsigned port, uint32_t group,
                        enum nvme_ana_state state);
/* NVME_ANA_*, or -EINVAL. */
int nvme_ana_parse(const char *text);
const char *nvme_ana_text(enum nvme_ana_state state);
/* "[PORT:]GROUP=STATE". 0 or -EINVAL. */
int nvme_ana_parse_rule(const char *text, unsigned *ret_port, uint32_t *ret_group,
                        enum nvme_ana_state *ret_state);

/* Carries @command out; its answer, or what was wrong with it, as text into @buf. */
int nvme_target_control(struct nvme_target *t, const char *command, char *buf, size_t size);

#endif
