/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport - how a host driver reaches a controller that has registers and queues in memory: an
 * ops table, filled by loop (a controller in this process, or in another one through shared
 * memory) and by pcie.
 */
#ifndef NVME_TRANSPORT_H
#define NVME_TRANSPORT_H

#include "loop/loop.h"
#include "mem/mem.h"
#include "nvme/spec.h"

struct nvme_transport;

struct nvme_transport_ops {
	const char *name;
	/* Registers. A device that is gone reads as all ones; writes to it are lost. */
	uint32_t (*read32)(struct nvme_transport *t, uint32_t off);
	uint64_t (*read64)(struct nvme_transport *t, uint32_t off);
	void (*write32)(struct nvme_transport *t, uint32_t off, uint32_t value);
	void (*write64)(struct nvme_transport *t, uint32_t off, uint64_t value);
	/* The doorbell @off bytes behind NVME_REG_DOORBELL, as memory to store to; NULL: beyond what
	 * the device maps. */
	volatile uint32_t *(*doorbell)(struct nvme_transport *t, uint32_t off);
	/*
	 * Makes @r reachable for the controller, contiguous from *ret_dma on, until unmapped.
	 * -ENOTSUP: not this kind of memory (use t->mem_kind); others as the carrier has them.
	 */
	int (*map)(struct nvme_transport *t, struct mem_region *r, uint64_t *ret_dma);
	void (*unmap)(struct nvme_transport *t, struct mem_region *r, uint64_t dma);
	/* From now on the controller reaches no memory of ours, whatever it does. */
	void (*cut)(struct nvme_transport *t);
	/* After cut(): whether transfers that had begun before it are over, too. Asked in later turns
	 * until it is true. NULL: they are at once. */
	bool (*quiet)(struct nvme_transport *t);
	/* Resets the device by means that don't need its registers, when it does not get disabled.
	 * Blocks. NULL: there are none. */
	int (*reset)(struct nvme_transport *t);
	/* Lets a controller in this process work. Returns how many things it did. */
	int (*poll)(struct nvme_transport *t);
	/* False: poll() has something to do. */
	bool (*may_sleep)(struct nvme_transport *t);
	/* The loop is about to sleep: asks to be woken; the queues are looked at once more after it. */
	void (*sleeps)(struct nvme_transport *t);
	/* After doorbells were rung: wakes a controller that sleeps. */
	void (*rung)(struct nvme_transport *t);
	void (*close)(struct nvme_transport *t); /* frees @t; all memory is unmapped */
};

struct nvme_transport {
	const struct nvme_transport_ops *ops;
	struct loop *loop;
	enum mem_kind mem_kind; /* of memory that map() takes */
	bool polled; /* nobody wakes us: the loop must not sleep while commands are under way */
	/* Interrupts that wake the loop: vector 0 is the admin queue's, and also where I/O queues are
	 * polled; else the others are theirs. */
	unsigned vectors;
	bool gone;   /* the transport's: there is no controller any more; the host is told soon */
	bool failed; /* the transport's: something went wrong that a reset may mend */
	bool comes_back; /* a controller that is lost may be found again: further tries make sense */
	bool patient;    /* the host's: it is looked for as long as the host lives */
	bool heard;      /* completions are written by another process: worth spinning for */
	bool identity;   /* the controller reaches all of this process at its own addresses */
};

#endif
