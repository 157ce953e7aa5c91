/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctrlr - an NVMe controller in software, over block devices: registers, queues in the host's
 * memory, admin and I/O commands, as spec.h has them. It is the other side of the host driver, a
 * front for any bdev, and the model that the driver is tested on.
 *
 * A subsystem holds namespaces, each over a bdev; a controller is one way into it (several
 * controllers of one subsystem share the namespaces and differ in their ANA states). All of them,
 * and the bdevs, belong to one loop, and all functions here are called on its thread, outside of
 * callbacks of the controller.
 *
 * What the host shares with the controller is memory, and nothing else:
 *
 *   - the BAR: NVME_REGS_BYTES of registers, then the doorbells (32-bit words, stride by
 *     CAP.DSTRD). It may lie in memory of the caller's, and the host may be another thread or
 *     another process: the host writes CC, AQA, ASQ, ACQ and doorbells with plain stores (release
 *     for doorbells and CC) and reads CSTS; the controller looks at them in nvme_ctrlr_poll().
 *     A caller that traps register accesses instead uses nvme_ctrlr_reg_read() and _write().
 *   - queues, PRP lists, SGLs and data: addresses that the dma() callback translates.
 *
 * All of that is hostile. A command, a list entry, a descriptor and a doorbell are each read once,
 * and what was checked is the copy. What the controller writes into the BAR it never reads back.
 * What dma() returns must stay mapped: for data until the command has completed, for queues until
 * they are deleted or the controller is disabled (CSTS.RDY 0).
 *
 * Ordering. A completion's phase bit is stored with release after all else of it and the data; a
 * host reads it with acquire. A doorbell is loaded with acquire; a host stores it with release.
 *
 * Nothing announces a doorbell: someone polls. A host that shares no thread with the controller
 * may spin, or use shadow doorbells (Doorbell Buffer Config) with opts.sleepy (see there).
 */
#ifndef NVME_CTRLR_H
#define NVME_CTRLR_H

#include "bdev/bdev.h"
#include "nvme/dma.h"
#include "nvme/spec.h"

struct nvme_subsys;
struct nvme_ctrlr;

#define NVME_SUBSYS_NS_MAX     128u /* namespaces, and the highest NSID */
#define NVME_SUBSYS_CTRLRS_MAX 64u
#define NVME_CTRLR_QUEUES_MAX  128u /* I/O queue pairs */
#define NVME_ANA_GROUPS_MAX    NVME_SUBSYS_NS_MAX

/* --- subsystem and namespaces --- */

struct nvme_subsys_opts {
	const char *nqn;    /* at most NVME_NQN_MAX bytes */
	const char *serial; /* at most 20 bytes of ASCII; NULL: made from the NQN */
	const char *model;  /* at most 40; NULL: "Penstock" */
};

/* 0, -ENOMEM, or -EINVAL with a sentence in @err. */
int nvme_subsys_new(struct nvme_subsys **ret_subsys, struct loop *loop,
                    const struct nvme_subsys_opts *opts, struct pst_err *err);
/* Accepts NULL. All its controllers are gone (asserted); the bdevs stay the caller's. */
void nvme_subsys_free(struct nvme_subsys *s);

struct nvme_ns_opts {
	uint32_t nsid; /* 1 to NVME_SUBSYS_NS_MAX; 0: the lowest that is free */
	/* 512 or 4096, not below the bdev's block; 0: the bdev's. Format NVM changes it. */
	uint32_t lba_bytes;
	uint32_t ana_group; /* 1 to NVME_ANA_GROUPS_MAX; 0: 1 */
	bool read_only;     /* as if write protected; a bdev opened read-only always is */
	uint8_t uuid[16];   /* all zero: made from NQN, NSID and the device's name */
};

/* Adds @b, which the subsystem uses until it is removed or freed. 0 and the NSID (NULL: not asked
 * for), -EEXIST, -ENOSPC, -EINVAL, -ENOMEM. Running controllers tell their hosts (event, changed
 * namespaces log). */
int nvme_subsys_ns_add(struct nvme_subsys *s, struct bdev *b, const struct nvme_ns_opts *opts,
                       uint32_t *ret_nsid, struct pst_err *err);
/* -ENOENT, or -EBUSY while commands run on it: new ones are refused from then on (Invalid
 * Namespace), so try again after some turns. Hosts are told when it is gone. */
int nvme_subsys_ns_remove(struct nvme_subsys *s, uint32_t nsid);

struct nvme_ns_info {
	uint64_t blocks;
	uint32_t lba_bytes, ana_group;
	bool read_only;
	const char *name; /* the bdev's */
};
/* -ENOENT. */
int nvme_subsys_ns_info(const struct nvme_subsys *s, uint32_t nsid, struct nvme_ns_info *ret_info);
bool nvme_subsys_group_used(const struct nvme_subsys *s, uint32_t group); /* by a namespace */

/* --- controller --- */

struct nvme_ctrlr_opts {
	uint16_t cntlid;      /* unique in the subsystem; 0: the lowest free from 1 */
	uint16_t vid, ssvid;  /* PCI vendor ids for Identify; 0 outside PCIe */
	unsigned queues_max;  /* I/O queue pairs offered (Number of Queues), 1 to ..._QUEUES_MAX */
	unsigned entries_max; /* of a queue: CAP.MQES + 1, 2 to 65536 */
	unsigned vectors;     /* interrupt vectors, 1 to 2048 */
	unsigned mdts;        /* log2 of 4096-byte pages per command, 1 to 10 (2 KiB.. 4 MiB) */
	unsigned mps_max;     /* host pages of up to 4096 << mps_max, 0 to 4 (64 KiB) */
	unsigned dstrd;       /* doorbell stride 4 << dstrd, 0 to 4 */
	unsigned depth_max;   /* commands in work at once, over all queues; further ones wait in
	                         their queues. 8 to 65535 */
	unsigned burst;       /* commands taken from one queue before the next has its turn */
	/* At most this many separate pieces of memory per command (adjacent ones count as one); an
	 * SGL of more is refused with NVME_SC_SGL_COUNT. 0: what MDTS needs with PRPs. */
	unsigned pieces_max;
	/* EventIdx asks for a ring of the doorbell whenever the controller has nothing to do, so
	 * that it may sleep; else it asks for none, since it polls. Only shadow doorbells. */
	bool sleepy;
	/* NULL: allocated. Else zeroed memory of nvme_ctrlr_bar_bytes(opts), aligned to 4096, that
	 * the host sees too; it outlives the controller. */
	void *bar;
	/* The memory behind @len bytes (1 to a host page) at @addr, or NULL: the host has no right
	 * to it (the command fails with Data Transfer Error; a queue there can't be created). Runs
	 * once per page or piece: be quick. See nvme_dma_map_translate(). */
	void *(*dma)(void *arg, uint64_t addr, size_t len);
	/* NULL, or a part of what dma() allows, that its owner opens, moves and closes on the
	 * controller's thread; dma() is asked for the rest. It outlives the controller. */
	const struct nvme_dma_window *window;
	/*
	 * Fabrics (Base 2.0, chapter 6): there are no queues in memory, no doorbells and no BAR that a
	 * host sees. Registers are properties (nvme_ctrlr_reg_read(), _write()), commands come as
	 * capsules. dma() is not called, and may be NULL.
	 */
	bool fabrics;
	uint32_t icd_bytes;  /* of data in a command capsule, a multiple of 16 */
	uint32_t kato_ms;    /* keep alive timeout from the beginning; 0: none */
	uint8_t host_id[16]; /* the host's, as Connect had it */
	/* A discovery controller: its log page 70h, *ret_len bytes. NULL: an I/O controller. */
	const void *(*discovery)(void *arg, size_t *ret_len);
	/* Completions were posted to queues of @vector since the last call; runs at most once per
	 * vector and poll. NULL: the host polls. */
	void (*irq)(void *arg, unsigned vector);
	void *arg;
};

/* 64 queues of 1024 entries, MDTS 128 KiB, 256 commands, and so on; dma, irq, arg: NULL. */
void nvme_ctrlr_opts_default(struct nvme_ctrlr_opts *opts);
size_t nvme_ctrlr_bar_bytes(const struct nvme_ctrlr_opts *opts);

/* 0, -ENOMEM, -EEXIST (cntlid), -ENOSPC (NVME_SUBSYS_CTRLRS_MAX), -EINVAL with a sentence. The
 * controller is disabled (CC.EN 0), as after power on. */
int nvme_ctrlr_new(struct nvme_ctrlr **ret_ctrlr, struct nvme_subsys *s,
                   const struct nvme_ctrlr_opts *opts, struct pst_err *err);
/* Accepts NULL. Waits (turns the loop) for what runs on bdevs; completes nothing. Never from inside
 * a callback. */
void nvme_ctrlr_free(struct nvme_ctrlr *c);

/*
 * Looks at registers and doorbells, takes commands, posts completions. Returns how many things it
 * did. Commands on bdevs go on in the loop's turns and complete there, or in the next poll. Never
 * blocks. Calling it from a poller of the loop is the usual thing.
 */
int nvme_ctrlr_poll(struct nvme_ctrlr *c);
/* True when there is nothing to do until the host writes: no command in work, none waiting. */
bool nvme_ctrlr_idle(const struct nvme_ctrlr *c);
/* True when there is nothing to do until the host writes or something on a bdev ends, which the
 * loop notices by itself. For a host that can wake this side: first tell it to, then ask. */
bool nvme_ctrlr_may_sleep(const struct nvme_ctrlr *c);
/* Surprise removal, and whether all has ended: nothing of the host's memory is touched any more,
 * and nvme_ctrlr_free() has nothing to wait for. For callers that can't turn the loop: ask again. */
bool nvme_ctrlr_quiet(struct nvme_ctrlr *c);
/* Whether queues or commands under way lie in the @len bytes at @mem, as dma() returned them. Walks
 * all requests. */
bool nvme_ctrlr_uses(struct nvme_ctrlr *c, const void *mem, size_t len);

uint64_t nvme_ctrlr_completions(const struct nvme_ctrlr *c); /* posted so far */
void *nvme_ctrlr_bar(struct nvme_ctrlr *c); /* registers at 0, doorbells at NVME_REG_DOORBELL */
uint16_t nvme_ctrlr_cntlid(const struct nvme_ctrlr *c);

/*
 * A trapped access of the host: @off_bytes from the BAR's start, @len_bytes 4 or 8, naturally
 * aligned; an 8-byte access below the doorbells may be split by the host as it likes. Reads that
 * name no register give 0, writes to one are ignored. An access of another size or alignment, or
 * beyond the BAR, reads as all ones and writes nothing. Takes effect at once.
 */
uint64_t nvme_ctrlr_reg_read(struct nvme_ctrlr *c, uint32_t off_bytes, unsigned len_bytes);
void nvme_ctrlr_reg_write(struct nvme_ctrlr *c, uint32_t off_bytes, unsigned len_bytes,
                          uint64_t value);

/* ANA: from now on namespaces of @group are in @state through this controller; hosts that asked
 * get the event. All begin as NVME_ANA_OPTIMIZED. -EINVAL. */
int nvme_ctrlr_ana_set(struct nvme_ctrlr *c, uint32_t group, enum nvme_ana_state state);
enum nvme_ana_state nvme_ctrlr_ana(const struct nvme_ctrlr *c, uint32_t group);

/* --- capsules: the controller of a fabric --- */

struct nvme_capsule {
	struct nvme_cmd cmd; /* all but Fabrics commands, which are the transport's */
	uint16_t qid;
	/* For the data that the command's SGL describes: all of it, already there if it is to the
	 * controller. Until done(). */
	void *data;
	uint32_t len;
	struct mem_region *region; /* that holds data, or NULL */
	/* Ends it: from a turn, or from inside nvme_ctrlr_capsule(). */
	void (*done)(struct nvme_capsule *k);
	struct nvme_cqe cqe; /* the answer; bit 0 of the status is 0 */
	/* There is no answer: the controller was reset or is gone, or the fault plan says so. */
	bool dropped;
};

/* An I/O queue, connected: qid 1 to the granted number, @entries 2 to opts.entries_max. 0, or the
 * status to answer with. Queue 0 is there while the controller is enabled. */
uint16_t nvme_ctrlr_connect(struct nvme_ctrlr *c, uint16_t qid, uint32_t entries);
/* No capsule of it is under way (asserted). Harmless for one that is not there any more. */
void nvme_ctrlr_disconnect(struct nvme_ctrlr *c, uint16_t qid);
/* Takes @k. False: as many as there may be are under way; try again when one has ended. */
bool nvme_ctrlr_capsule(struct nvme_ctrlr *c, struct nvme_capsule *k);

/* --- what may go wrong, on purpose --- */

/*
 * nvme_ctrlr_faults - replaces the fault plan by @plan: rules, separated by ';', each an action
 * with what it applies to, "ACTION[:KEY=VALUE[,KEY=VALUE]...]". NULL or "": no faults.
 *
 *   drop            the command is carried out, no completion is posted
 *   delay           the completion is held back for ms=N (100)
 *   dup             the completion is posted twice
 *   cid             the completion names the wrong command (its cid xor 8000h)
 *   status          not carried out; completes with code=N (spec.h's NVME_SC_*, 0x006), dnr=0|1
 *   fatal           not carried out; CSTS.CFS is set and the controller stops
 *   remove          not carried out; the device is gone: registers read as all ones
 *   link            not carried out; the link is down for ms=N (100): as removed, and then there
 *                   again, as after power on
 *
 *   q=N             only queue N (default: any I/O queue; q=0 the admin queue)
 *   op=N            only this opcode
 *   after=N         passes N matching commands over first (0)
 *   every=N         then hits each N-th (1)
 *   count=N         at most N times (default: for ever; 1 for fatal, remove and link)
 *
 * The first rule that matches and hits decides. 0, or -EINVAL with a sentence (the old plan stays),
 * -ENOMEM.
 */
int nvme_ctrlr_faults(struct nvme_ctrlr *c, const char *plan, struct pst_err *err);
/* How often rule @index of the plan has hit. */
uint64_t nvme_ctrlr_fault_hits(const struct nvme_ctrlr *c, unsigned index);
/* At once: controller fatal status; surprise removal; and a link that is down for @ms, and longer
 * while commands are still on bdevs. */
void nvme_ctrlr_fail(struct nvme_ctrlr *c);
void nvme_ctrlr_remove(struct nvme_ctrlr *c);
void nvme_ctrlr_unlink(struct nvme_ctrlr *c, uint32_t ms);
bool nvme_ctrlr_unlinked(const struct nvme_ctrlr *c); /* it is down, and will be up again */

/* --- figures --- */

struct nvme_ctrlr_stats {
	uint64_t commands, completions, errors; /* errors: completions with a status */
	uint64_t resets, bad_doorbells;
	unsigned in_work; /* commands taken and not completed, events waited for not counted */
};
void nvme_ctrlr_stats(const struct nvme_ctrlr *c, struct nvme_ctrlr_stats *ret_stats);

#endif
