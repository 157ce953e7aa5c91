/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * host - the driver: one controller behind a transport, its admin queue, its I/O queues, and what
 * happens when it stops answering. penstock/nvme.h and the bdev stand on it.
 *
 * A host belongs to its loop and works in its turns: nothing here blocks but what says so. The hot
 * path (penstock/nvme_queue.h) is the callers' own: they submit and reap on queues that they took
 * from nvme_host_queue_new(). What the host does to those queues, it does from its poller.
 *
 *   life of a host         made by
 *   NEW       -> DISABLING     nvme_host_new, host_reset
 *   DISABLING -> ENABLING      CSTS.RDY is 0: commands under way are answered for (H2)
 *   ENABLING  -> SETUP         CSTS.RDY is 1
 *   SETUP     -> LIVE          Identify, Number of Queues, shadow doorbells, events, namespaces
 *   LIVE      -> QUIESCING     a command took too long, nvme_host_reset()
 *   QUIESCING -> DISABLING     the I/O submission queues are deleted, or that took too long (H5)
 *   LIVE      -> DISABLING     CSTS.CFS, an admin command took too long
 *   any       -> DYING         removed (registers read all ones), resets failed, or what came back
 *                              after one is something else (H6)
 *   DYING     -> DEAD          no transfer is under way any more: what was is answered for
 *
 *  H1  A queue's memory and doorbells are the controller's only in LIVE queues; a queue that is not
 *      is stopped and its doorbells lead nowhere.
 *  H2  What was under way when the controller was disabled completes exactly once: with what the
 *      controller had written, else with NVME_SC_PATH_ABORTED (to be sent again), or with
 *      NVME_SC_PATH_HOST and Do Not Retry when the host is DEAD. Only after the controller said
 *      that it is disabled, or was cut off from memory: so no transfer comes late.
 *  H3  A stopped queue is created again once its owner reaped all that was under way.
 *      A controller that doesn't get disabled in its time is reset by the transport, if that can.
 *  H4  A command that takes longer than the timeout is aborted; one that is still there after two
 *      ticks more resets the controller.
 *  H5  A controller that still takes admin commands is asked to delete its I/O submission queues
 *      before it is disabled: it then has nothing under way. Devices, emulated and real ones, are
 *      known to fall over when they are disabled in the middle of I/O.
 *  H6  No command goes to a controller, after a reset, before it has said that it and the namespaces
 *      that callers were told of are the ones they were: NQN, serial number, and of each namespace
 *      NSID, NGUID, EUI64, UUID, block size, and at least as many blocks. Else the host is DEAD.
 */
#ifndef NVME_HOST_H
#define NVME_HOST_H

#include "nvme/status.h"
#include "nvme/transport.h"
#include "penstock/nvme.h"

enum nvme_host_state {
	NVME_HOST_DISABLING,
	NVME_HOST_ENABLING,
	NVME_HOST_SETUP,
	NVME_HOST_LIVE,
	NVME_HOST_QUIESCING,
	NVME_HOST_DYING,
	NVME_HOST_DEAD,
};

#define NVME_HOST_ANA_MAX 126u /* groups whose states fit into a page of log */
#define NVME_HOST_ABORTS  4u   /* under way at once */

/* An admin command under way. Its data is memory of the host's own: see nvme_host_admin(). */
struct nvme_admin {
	struct nvme_cmd cmd;
	void (*done)(struct nvme_admin *a);
	uint16_t status; /* as struct pst_nvme_done has it */
	uint32_t dw0;
	bool busy;
	struct list link; /* the host's: waiting for room */
};

/* What a namespace is known again by: see identity.c. */
struct nvme_identity {
	uint32_t nsid, block_bytes, ana_group;
	uint64_t blocks; /* 0: there is no such namespace, or it can't be used */
	uint8_t nguid[16], uuid[16], eui64[8]; /* zeroes: it has none */
	struct list link;                      /* the host's */
};

enum nvme_hq_state {
	HQ_WAITING, /* to be created, once empty and the host LIVE */
	HQ_CREATING,
	HQ_LIVE,
	HQ_FAILED,
	HQ_DELETING,
	HQ_GONE,
};

/* A queue as the host keeps it; its priv is this. */
struct nvme_hq {
	struct pst_nvme_queue q;
	struct nvme_host *host;
	enum nvme_hq_state state;
	struct mem_region *region;
	uint64_t dma, sq_dma, cq_dma;
	struct pst_nvme_slot *slot;
	uint16_t *aborted; /* by slot: cid that was aborted, plus one */
	struct nvme_admin admin;
	struct list link;
	bool creating_sq, own_memory;
};

struct nvme_host {
	struct loop *loop;
	struct nvme_transport *t;
	struct pst_nvme_opts o;
	enum nvme_host_state state;
	int error;       /* why it is DEAD */
	unsigned resets; /* in all */
	unsigned tries;  /* since it was LIVE */
	bool ever_live, detaching, reset_wanted;
	bool patient; /* one of several paths: while it may come back, no number of tries is too many */
	bool reset_hard;   /* with reset_wanted: it takes no admin commands */
	unsigned deleting; /* QUIESCING: Delete I/O Submission Queue commands under way */
	bool was_reset;    /* by the transport, since it was last asked to get disabled */
	struct loop_poller poller;
	struct loop_timer tick, wait;
	uint64_t wait_until_ns; /* for CSTS.RDY */
	/* what it offers */
	uint64_t cap;
	uint32_t page_shift, dstrd, entries_max, queues_max, io_max_bytes;
	bool sgl, shadow, vwc;
	struct nvme_id_ctrlr *id; /* in buffer memory, so a copy of it is kept */
	/* admin */
	struct nvme_hq admin_q;
	struct list admin_waiting;
	struct nvme_admin setup;
	unsigned setup_step;
	/* The namespaces that callers were told of, as they were told; and those that are looked at
	 * again: in the set-up, or (checking) because the controller says that some have changed. */
	struct list identities;
	struct nvme_identity *checked, seen;
	bool checking, check_again;
	struct mem_region
	        *buf; /* one page for the set-up, one for callers, two of shadow doorbells */
	uint64_t buf_dma;
	bool buf_busy;
	/* asynchronous events */
	struct nvme_admin event;
	struct nvme_admin event_log;
	void (*event_fn)(void *arg, uint32_t dw0);
	void *event_arg;
	/* ANA states by group, as the controller's log has them; the driver reads it at each set-up
	 * and after each event. 0: none. */
	uint8_t ana[NVME_HOST_ANA_MAX + 1];
	uint8_t ana_said[NVME_HOST_ANA_MAX + 1]; /* what an operator was told last */
	struct log_limit ana_told;
	/* I/O queues */
	struct list queues;
	uint64_t qids[2];          /* used ones, by bits */
	volatile uint32_t nowhere; /* doorbell of stopped queues */
	struct nvme_admin abort[NVME_HOST_ABORTS];
};

#define NVME_HOST_BUF_SETUP  0u
#define NVME_HOST_BUF_CALLER 1u
#define NVME_HOST_BUF_SHADOW 2u
#define NVME_HOST_BUF_EVENT  3u
#define NVME_HOST_BUF_INDEX  4u
#define NVME_HOST_BUF_PAGES  5u
#define NVME_HOST_QUEUES_MAX 127u
#define NVME_HOST_TICKS      8u /* of the timeout: how finely it is looked at */

/* Takes @t over, also on failure. Blocks (turns the loop) until the controller is LIVE. */
int nvme_host_new(struct nvme_host **ret_host, struct nvme_transport *t,
                  const struct pst_nvme_opts *opts, struct pst_err *err);
/* Queues were given back. Shuts the controller down. Turns the loop. Accepts NULL. */
void nvme_host_free(struct nvme_host *h);
/* Asks for a reset; it happens in the loop's turns. */
void nvme_host_reset(struct nvme_host *h);

/* Sends a->cmd (id and PRPs as they are) to the admin queue; a->done runs from a later turn, always,
 * with NVME_SC_PATH_ABORTED when the controller was reset meanwhile. */
void nvme_host_admin_send(struct nvme_host *h, struct nvme_admin *a);
/* Blocks: a command with up to one page of data in or out. 0, or the status as a negative errno
 * (and in *ret_status); *ret_dw0. Both may be NULL. */
int nvme_host_admin(struct nvme_host *h, const struct nvme_cmd *cmd, void *data, size_t len_bytes,
                    uint32_t *ret_dw0, uint16_t *ret_status);

/* Blocks until it is LIVE. */
int nvme_host_queue_new(struct nvme_host *h, const struct pst_nvme_queue_opts *opts,
                        struct nvme_hq **ret_q);
/* Nothing is under way on it (asserted). Blocks. */
void nvme_host_queue_free(struct nvme_hq *hq);

/* Looks at a namespace. From then on the host is held to it: if after a reset another one is in its
 * place, the host is dead. Blocks. */
int nvme_host_namespace(struct nvme_host *h, uint32_t nsid, struct pst_nvme_namespace *ret_ns);

/* --- identity.c --- */

#define NVME_IDENTITY_TEXT 448u /* bytes that hold any of the texts */

/* What Identify Namespace says (a page), and then its list of descriptors (4096 bytes); read once. */
void nvme_identity_take(struct nvme_identity *i, uint32_t nsid, const void *id_ns);
void nvme_identity_take_ids(struct nvme_identity *i, const void *descriptors);
/* @now may be larger than @was. */
bool nvme_identity_same(const struct nvme_identity *was, const struct nvme_identity *now);
void nvme_identity_text(char *to, size_t size, const struct nvme_identity *i);
/* What @h was told of @nsid; NULL: nothing. */
struct nvme_identity *nvme_identity_find(struct nvme_host *h, uint32_t nsid);
/* Remembers @i for @h, in place of what was known of its NSID. -ENOMEM. */
int nvme_identity_keep(struct nvme_host *h, const struct nvme_identity *i);
void nvme_identities_free(struct nvme_host *h);
/* The subsystem: NQN and serial number. */
bool nvme_ctrlr_same(const struct nvme_id_ctrlr *was, const struct nvme_id_ctrlr *now);
void nvme_ctrlr_text(char *to, size_t size, const struct nvme_id_ctrlr *id);

/* The ANA state of @group through this controller; optimized where there is no ANA. */
enum nvme_ana_state nvme_host_ana(const struct nvme_host *h, uint32_t group);

/* Who this machine is to controllers, made at the first call: its NQN, and 16 bytes. */
const char *nvme_host_nqn(void);
const uint8_t *nvme_host_id(void);

/* --- host_queue.c, for host.c --- */

int hq_layout(struct nvme_hq *hq, struct nvme_host *h, uint16_t qid, uint32_t entries,
              const struct pst_nvme_queue_opts *opts);
void hq_release(struct nvme_hq *hq);
void hq_stop(struct nvme_hq *hq);
/* Answers for all that is under way (H2). */
void hq_answer(struct nvme_hq *hq, uint16_t status);
void hq_doorbells(struct nvme_hq *hq);
/* QUIESCING: asks the controller to delete its submission queue. False: there is none. */
bool hq_delete_sq(struct nvme_hq *hq);
int hq_poll(struct nvme_hq *hq); /* its way from HQ_WAITING to HQ_LIVE */
/* One tick: what takes too long is aborted; true when the controller should be reset. */
bool hq_tick(struct nvme_hq *hq);

/* --- host_admin.c, for host.c --- */

int admin_poll(struct nvme_host *h);
void admin_fail_waiting(struct nvme_host *h, uint16_t status);
void host_ana_learn(struct nvme_host *h, const void *page);
void host_events_arm(struct nvme_host *h);
void host_abort(struct nvme_host *h, uint16_t qid, uint16_t cid);
void host_live(struct nvme_host *h); /* the set-up's end */

/* --- host_setup.c --- */

void host_setup_begin(struct nvme_host *h);
/* LIVE: are the namespaces that callers were told of the ones they were? If not the host is dead. */
void host_namespaces_check(struct nvme_host *h);

/* Pages of h->buf: NVME_HOST_BUF_*. */
static inline uint64_t host_buf_dma(const struct nvme_host *h, unsigned page)
{
	return h->buf_dma + ((uint64_t)page << h->page_shift);
}
static inline void *host_buf(const struct nvme_host *h, unsigned page)
{
	return (char *)h->buf->addr + ((size_t)page << h->page_shift);
}

void host_dead(struct nvme_host *h, int error);

#endif
