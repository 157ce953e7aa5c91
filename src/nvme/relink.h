/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * relink - the registers of a controller that may be lost and come back, for transports that read and
 * write them directly (pcie, and loop within a process). While it is there they are the device's own;
 * while it is not, the driver finds a controller that is disabled or does not get ready, and it is
 * looked for: later and later, for as long as the driver wants it enabled.
 *
 *   link                made by
 *   UP   -> LOST        CSTS or CC read as all ones, or relink_lost(); the driver has seen CSTS.RDY
 *   UP   -> DOWN        the same while it has not
 *   LOST -> DOWN        the driver sets CC.EN to 0: CSTS.RDY is 0 once nothing is under way
 *   DOWN -> UP          CC.EN is 1 and find() has it again: then AQA, ASQ, ACQ and CC are set
 *
 *  R1  Before the driver hears of the loss, lost() has seen to it that nothing of the device's arrives
 *      in our memory, or quiet() says when it is so; until then CSTS.RDY stays 1.
 *  R2  Memory and doorbells have the addresses that they had: the driver's users have them in hand.
 *  R3  Without t->comes_back a lost device is gone: registers read as all ones. So is one that is not
 *      found in its time, unless t->patient.
 */
#ifndef NVME_RELINK_H
#define NVME_RELINK_H

#include "nvme/transport.h"

struct relink_ops {
	/* The device's own registers; only while it is there. */
	uint32_t (*read32)(struct nvme_transport *t, uint32_t off);
	void (*write32)(struct nvme_transport *t, uint32_t off, uint32_t value);
	void (*write64)(struct nvme_transport *t, uint32_t off, uint64_t value);
	/* See R1. quiet is NULL where nothing can be left after lost(). */
	void (*lost)(struct nvme_transport *t);
	bool (*quiet)(struct nvme_transport *t);
	/* 0: it is there, disabled, with all memory that is mapped (R2). Else not now: no trace of the
	 * try is left. Asked often. */
	int (*find)(struct nvme_transport *t);
	/* The registers' first eight bytes; after find(). */
	uint64_t (*cap)(struct nvme_transport *t);
};

enum relink_state { RELINK_UP, RELINK_LOST, RELINK_DOWN };

struct relink {
	struct nvme_transport *t;
	const struct relink_ops *ops;
	const char *name; /* for messages */
	enum relink_state state;
	uint64_t cap, asq, acq;
	uint32_t vs, cc, aqa;
	bool seen_ready; /* by the driver, since CC.EN became 1 */
	bool stopped, told;
	struct loop_timer retry;
	uint64_t retry_ns, lost_ns, window_ns;
};

/*
 * @t is connected, its ops are set. @seconds: how long it is looked for; 0: for as long as the driver
 * tries. @patience_500ms: how long the driver is to wait in each of its tries, where the device itself
 * asks for less (CAP.TO); 0: it is not looked for at all.
 */
void relink_init(struct relink *l, struct nvme_transport *t, const struct relink_ops *ops,
                 const char *name, uint32_t seconds, uint32_t patience_500ms);
/* No more looking. Harmless when done before. */
void relink_stop(struct relink *l);
/* The transport knows that the device is gone. */
void relink_lost(struct relink *l);

/* What the transport's operations of these names do. */
uint32_t relink_read32(struct relink *l, uint32_t off);
uint64_t relink_read64(struct relink *l, uint32_t off);
void relink_write32(struct relink *l, uint32_t off, uint32_t value);
void relink_write64(struct relink *l, uint32_t off, uint64_t value);

#endif
