/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shm_host - the host's side of the loop transport between processes: what shm_host.c (registers and
 * memory) and shm_link.c (the way to the target, and finding it again) share. What is said stands in
 * shm.h.
 *
 *   link                      made by
 *   UP      -> LOST           the target is gone, or out of step; the driver has seen CSTS.RDY
 *   UP      -> DOWN           the same while it has not; nothing more to do before CC.EN is 1
 *   LOST    -> DOWN           the driver sets CC.EN to 0: CSTS.RDY is 0
 *   DOWN    -> HELLO          CC.EN is 1: at once, then later and later
 *   HELLO   -> MAPPING        WELCOME: its registers are mapped where the old ones were
 *   MAPPING -> UP             all memory was handed over again; then AQA, ASQ, ACQ and CC are set
 *   HELLO, MAPPING -> DOWN    anything else: another try
 *
 *  S1  The registers and doorbells lie at one address for as long as the transport lives: doorbells
 *      are in the hands of the driver's users.
 *  S2  Memory is taken back (other pages come in its place) before the loss of a target is told to
 *      anybody: nothing that it, or its kernel, still writes arrives.
 *  S3  A target that can't be had again (reconnect=0, a cut transport) is gone: registers read as all
 *      ones.
 */
#ifndef NVME_SHM_HOST_H
#define NVME_SHM_HOST_H

#include "nvme/shm.h"

#define SHM_RETRY_MIN_NS (20 * NSEC_PER_MSEC)
#define SHM_RETRY_MAX_NS NSEC_PER_SEC

enum shm_link { SHM_UP, SHM_LOST, SHM_DOWN, SHM_GREETING, SHM_MAPPING };

struct shm_region {
	struct mem_region *r; /* NULL: free */
	bool mapped;          /* the target of this link has it */
};

struct shm_host {
	struct nvme_transport t;
	char name[64], hostnqn[224]; /* whom to look for again, as whom */
	uint8_t link;                /* enum shm_link */
	bool is_cut, told;           /* told: that it was found, but refuses us */
	int fd, kick_fd, irq_fd;
	struct loop_fd sock, irq;
	bool sock_watched, irq_watched;
	unsigned closing; /* of the two, those that the loop still has */
	uint8_t *bar;
	size_t bar_bytes, map_bytes; /* registers and doorbells; all of it */
	struct shm_ctl *ctl;
	/* The registers while there is no target, and to give to the next one. */
	uint64_t cap, asq, acq;
	uint32_t vs, cc, aqa, csts;
	bool seen_ready; /* by the driver, since CC.EN became 1 */
	uint32_t cap_to; /* what we say, in 500 ms; 0: what the target says */
	struct loop_timer retry;
	uint64_t retry_ns;
	struct shm_region region[SHM_RANGES_MAX];
	unsigned asked; /* MAPPING: the region that was handed over last */
	struct shm_msg msg;
};

/* --- shm_host.c --- */

extern const struct nvme_transport_ops shm_ops;
/* Other pages for all memory that the target has (S2). False: it can't be handed over again. */
bool shm_memory_back(struct shm_host *s);
void shm_kick(struct shm_host *s);

/* --- shm_link.c --- */

/* The target is gone, or of no use any more. */
void shm_lost(struct shm_host *s);
/* CC.EN was set, or cleared, while the link is not UP. */
void shm_link_enable(struct shm_host *s);
void shm_link_disable(struct shm_host *s);
/* Ends the link and all watching; turns the loop. */
void shm_link_close(struct shm_host *s);
/* MAPPING: @i was handed over and is not wanted any more: this try is over. */
void shm_link_unmapped(struct shm_host *s, unsigned i);

#endif
