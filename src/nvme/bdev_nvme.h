/* SPDX-License-Identifier: BSD-3-Clause */
/* bdev_nvme - a namespace as a block device: what bdev_nvme.c (life, queueing) and bdev_nvme_cmd.c
 * (from a request to commands) share. */
#ifndef NVME_BDEV_NVME_H
#define NVME_BDEV_NVME_H

#include "bdev/bdev.h"
#include "nvme/host.h"

#define NB_TRIES_MAX 5u  /* of a command, the first one included */
#define NB_BOUNCES   16u /* buffers for memory that the controller does not reach */

/* A command under way: a part of a request. */
struct nb_cmd {
	struct bdev_io *io;
	uint64_t off_bytes; /* on the device */
	uint32_t len_bytes; /* 0: not cut yet */
	uint32_t iov, skip; /* where its memory begins: an element, bytes into it */
	uint8_t *bounce;
	unsigned tries;
	struct list link; /* free, or waiting to be sent again */
};

struct nvme_bdev {
	struct bdev bdev;
	struct nvme_host *host;
	struct nvme_hq *hq;
	struct pst_nvme_namespace ns;
	uint32_t block_shift;
	/* One of several ways to its namespace: what another way may do is given back at once, with
	 * -EAGAIN, instead of being sent again. */
	bool multipath;
	struct list pending; /* requests of which something is still to be sent */
	struct list again;   /* commands to be sent again */
	struct list free;
	struct nb_cmd *cmds;
	struct mem_pool *bounces; /* NULL until one is needed */
	uint64_t bounce_dma;
	struct mem_domain domain; /* of callers' memory */
	struct list regions;
	struct loop_poller poller;
};

/* NULL: @b is no such device. */
struct nvme_bdev *nvme_bdev_of(struct bdev *b);

/* A request's own words (struct bdev_io.priv). */
struct nb_io {
	uint64_t sent_bytes;
	uint32_t commands; /* under way, or to be sent again */
	int32_t status;
	uint32_t iov, skip;
	bool all_sent;
};

static inline struct nb_io *nb_io(struct bdev_io *io)
{
	_Static_assert(sizeof(struct nb_io) <= sizeof(io->priv), "fits its place");
	return (struct nb_io *)(void *)io->priv;
}

/*
 * Puts @c into the batch: cut to what one command can carry when c->len_bytes is 0. 0, -EAGAIN when
 * there is no bounce buffer now, or another negative errno value: the request can't be done.
 * There is room in the batch.
 */
int nb_cmd_put(struct nvme_bdev *nb, struct pst_nvme_batch *b, struct nb_cmd *c);
/* After its end with success: data to where it belongs. */
void nb_cmd_finish(struct nvme_bdev *nb, struct nb_cmd *c);
void nb_cmd_release(struct nvme_bdev *nb, struct nb_cmd *c);

#endif
