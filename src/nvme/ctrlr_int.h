/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctrlr_int - what the files of the controller model share.
 *
 * The life of a command (struct nvme_req), and who moves it on:
 *
 *   free      on c->free
 *     |  sq_take (ctrlr_queue.c): copies the entry out of host memory, once
 *   taken     counted in sq->taken and c->taken
 *     |  cmd_start: admin_start (ctrlr_admin.c) or io_start (ctrlr_io.c); checks, data_map.
 *     |  Most reads and writes: plain_read, plain_write (ctrlr_plain.c), which does the same in
 *     |  a straight line, or passes on to io_start what is not as usual
 *   working   on a bdev, or waiting: at a namespace's gate (ctrlr_gate.c), for an event
 *     |       (c->events_wanted), for its other half (sq->fused)
 *     |  req_complete, once
 *   full      on cq->waiting, when the host has left no room
 *     |  completion entry written (or not: fault plan, controller stopped)
 *   free
 *
 * Invariants:
 *  I1  host memory is read once: an entry, a list element, a descriptor, a doorbell is copied and
 *      the copy is checked and used. Data that decides something (ranges, host id) is copied too.
 *  I2  a request is completed or dropped exactly once, and only then is its slot free again;
 *      c->taken counts those that are not free.
 *  I3  queues live until no request of theirs is taken: the submission queue by sq->taken, the
 *      completion queue by its submission queues.
 *  I4  after CC.EN goes to 0, after a fatal error or removal nothing is written to host memory by
 *      the controller; what a bdev still reads or writes there ends before CSTS.RDY goes to 0.
 *  I5  an I/O command that was let in by the gate is counted in ns->users until it completes, and
 *      in ns->mutators if it changes the namespace; the one that holds the gate is neither.
 *  I6  c->usable[nsid - 1] is the namespace while I/O through c is allowed there (it is not closed,
 *      its ANA group passes I/O), else NULL: ns_update() after each change of either.
 */
#ifndef NVME_CTRLR_INT_H
#define NVME_CTRLR_INT_H

#include "nvme/ctrlr.h"

#define AER_MAX           4u /* Asynchronous Event Requests held (AERL + 1) */
#define EVENTS_MAX        8u /* kinds of event that wait for one */
#define ERROR_LOG_MAX     64u
#define CHANGED_NS_MAX    NVME_NS_LIST_MAX
#define LOG_BUF_BYTES     8192u
#define VECTORS_MAX       2048u
#define SGL_DESCS_MAX     4096u /* of one command: bounds the walk of a chain that goes in circles */
#define KEEP_ALIVE_MS     100u  /* granularity (KAS 1) */
#define ERR(sc)           ((uint16_t)((sc) | NVME_STATUS_DNR)) /* it would fail again */
#define FORMAT_CHUNK      (64 * MIB)
#define PENSTOCK_FIRMWARE "0.1"   /* what Identify calls the firmware: at most 8 bytes */
#define PENDING           0xffffu /* not a status: the command completes later */

struct nvme_subsys {
	struct loop *loop;
	struct nvme_ns *ns[NVME_SUBSYS_NS_MAX]; /* by NSID - 1 */
	struct nvme_ctrlr *ctrlrs[NVME_SUBSYS_CTRLRS_MAX];
	char nqn[NVME_NQN_BYTES];
	char serial[20], model[40]; /* padded with spaces */
};

struct nvme_ns {
	struct nvme_subsys *subsys;
	struct bdev *bdev;
	uint64_t blocks;   /* of 1 << lba_shift bytes */
	uint32_t mem_mask; /* bits that addresses and lengths for the bdev must not have */
	uint8_t lba_shift;
	bool read_only;
	bool closed;  /* new I/O is refused, since: */
	bool leaving; /* it is to be removed; else it is being formatted */
	uint32_t nsid, ana_group;
	uint8_t uuid[16];
	/* The gate: see ctrlr_gate.c. */
	uint32_t users, mutators;
	struct nvme_req *holder;
	struct list gate;
	bool opening;
};

struct ctrlr_cq {
	struct nvme_cqe *entries; /* host memory; NULL: completions are capsules */
	le32 *db, *event_idx;     /* event_idx: NULL without shadow doorbells */
	uint32_t size, room;      /* entries that may be written before the host consumes more */
	uint16_t qid, vector;
	uint32_t tail, head;
	uint32_t db_seen; /* as last looked at, good or not */
	uint32_t phase;   /* 0 or 1 << 16: of the next entry, at its place in the last dword */
	bool irq_enabled, notify;
	unsigned sqs; /* submission queues that complete here */
	struct list waiting;
};

struct ctrlr_sq {
	const struct nvme_cmd *entries; /* host memory; NULL: commands are capsules */
	le32 *db, *event_idx;
	struct ctrlr_cq *cq;
	struct nvme_req **pool; /* c->free or c->admin_free */
	uint32_t size;
	uint16_t qid;
	uint32_t qid_high;   /* qid << 16: its place in a completion */
	uint32_t head, tail; /* tail: the last good one */
	uint32_t db_seen;
	uint32_t taken;
	uint32_t held;            /* of those, the ones whose place is not REQ_WORKING */
	struct nvme_req *fused;   /* the first half, until the second is taken */
	struct nvme_req *deleter; /* Delete I/O Submission Queue that waits for taken to be 0 */
};

enum fault_action {
	FAULT_NONE,
	FAULT_DROP,
	FAULT_DELAY,
	FAULT_DUP,
	FAULT_CID,
	FAULT_STATUS,
	FAULT_FATAL,
	FAULT_REMOVE,
	FAULT_LINK,
};

enum req_place { /* where Abort may find it */
	         REQ_WORKING,
	         REQ_AT_GATE,
	         REQ_DELAYED,
	         REQ_EVENT,
};

struct nvme_req {
	struct nvme_cmd cmd; /* the copy; see I1 */
	struct nvme_ctrlr *c;
	struct ctrlr_sq *sq;
	struct nvme_ns *ns; /* counted in ns->users; NULL: not */
	uint32_t dw0;
	uint16_t status;
	uint8_t place;
	bool mutates;          /* counted in ns->mutators */
	bool holds, holds_all; /* wants the gate for itself, or has it */
	uint8_t fault;         /* enum fault_action that waits for the completion */
	uint32_t fault_ms;
	uint32_t iov_count;
	uint32_t len; /* bytes of data */
	struct iovec *iov;
	uint8_t *bounce; /* data in memory of ours, or a copy of ranges */
	struct iovec bounce_iov;
	struct nvme_capsule *capsule; /* where it came from; NULL: a queue in memory */
	struct nvme_req *other;       /* compare and write: each other */
	struct nvme_req *next;        /* on its pool */
	struct list link;             /* on a list of its place, or cq->waiting */
	void (*gate_run)(struct nvme_req *r);
	uint32_t step, step_count; /* of a command that takes several */
	uint64_t off, end;
	struct loop_timer timer; /* FAULT_DELAY */
	struct bdev_io io;
};

enum ctrlr_state {
	CTRLR_RUNNING,  /* CSTS.RDY 1 */
	CTRLR_SHUT,     /* shut down, or on the way: takes nothing more, completes what it has */
	CTRLR_DISABLED, /* CC.EN 0, CSTS.RDY 0 */
	CTRLR_DRAINING, /* CC.EN went to 0: until I/O on bdevs has ended */
	CTRLR_FAILED,   /* CSTS.CFS 1 */
	CTRLR_REMOVED,
};

struct nvme_event {
	uint8_t type, info, page;
};

struct ctrlr_features {
	uint32_t arbitration, power, error_recovery, coalescing, atomicity, async, keep_alive_ms;
	uint32_t temp_over, temp_under;
	bool write_cache;
	unsigned host_id_bytes; /* 8 or 16, as it was set; 0: it was not */
	uint8_t host_id[16], host_behavior[512];
	uint8_t vector_cd[VECTORS_MAX / 8]; /* bits: no coalescing */
};

struct fault_rule {
	uint8_t action;
	int32_t qid; /* -1: any I/O queue */
	int32_t op;  /* -1: any */
	uint16_t code;
	uint32_t ms;
	uint64_t after, every, count;
	uint64_t seen, hits;
};
#define FAULT_RULES_MAX 16u
struct fault_plan {
	unsigned count;
	struct fault_rule rule[FAULT_RULES_MAX];
};

struct nvme_ctrlr {
	/* What each command touches. */
	struct nvme_subsys *subsys;
	struct nvme_req *free, *admin_free; /* so that a flood of I/O can't keep Abort out */
	void *(*dma)(void *arg, uint64_t addr, size_t len);
	void *dma_arg;
	const struct nvme_dma_window *window; /* never NULL */
	struct fault_plan *plan;              /* NULL: none */
	uint32_t page_bytes, data_max;
	uint32_t taken;
	uint8_t state; /* enum ctrlr_state */
	bool irqs_due;
	unsigned burst, active_count, turn;
	unsigned deleters; /* submission queues that wait for their commands to end */
	uint64_t commands, completions, errors;
	uint64_t reads, writes, bytes_read, bytes_written;
	struct nvme_ns *usable[NVME_SUBSYS_NS_MAX]; /* see I6 */
	uint8_t ana[NVME_ANA_GROUPS_MAX + 1];
	struct ctrlr_sq *active[NVME_CTRLR_QUEUES_MAX + 1]; /* in the order of their turns */
	struct ctrlr_cq *cqs[NVME_CTRLR_QUEUES_MAX + 1];    /* by qid; 0: admin */
	struct ctrlr_sq *sqs[NVME_CTRLR_QUEUES_MAX + 1];

	/* Registers. The BAR is the host's to scribble on: these are ours. */
	struct nvme_ctrlr_opts opts;
	uint8_t *bar;
	bool bar_own;
	uint64_t cap;
	uint32_t cc, csts, intm;
	/* Shutdown: namespaces are flushed one after the other. */
	struct bdev_io shut_io;
	struct nvme_ns *shut_ns; /* being flushed */
	uint32_t shut_step;

	struct nvme_req *reqs;
	unsigned req_count;
	struct iovec *iovs;
	uint8_t *trash; /* where bit buckets point to */
	uint16_t cntlid;

	/* Shadow doorbells. */
	uint8_t *shadow, *event_idx;

	struct ctrlr_features feat;
	unsigned queues; /* granted by Set Features */
	bool traffic;    /* since the keep alive timer was armed */
	struct loop_timer keep_alive, link;

	/* Events, the newest last; and what masks their types until a log page is read. */
	struct list events_wanted; /* Asynchronous Event Requests */
	unsigned aer_count;
	struct nvme_event events[EVENTS_MAX];
	unsigned event_count;
	uint8_t masked_page[8]; /* by type; 0: not masked */

	/* Logs. */
	struct nvme_error_entry error_log[ERROR_LOG_MAX]; /* a ring by error_count */
	uint64_t error_count;
	uint32_t changed_ns[CHANGED_NS_MAX];
	unsigned changed_count;
	bool changed_many;
	uint64_t ana_count[NVME_ANA_GROUPS_MAX + 1], ana_changes;
	uint64_t started_ns, media_errors;
	uint8_t log_buf[LOG_BUF_BYTES];

	uint64_t resets, bad_doorbells;
	struct list delayed;
};

/* It may write to host memory (I4). */
static inline bool ctrlr_lives(const struct nvme_ctrlr *c)
{
	return c->state <= CTRLR_SHUT;
}
static inline uint32_t cdw(const le32 v)
{
	return le32_get(v);
}

/* --- ctrlr.c --- */

/* Ends what waits for the host, or for each other. */
void ctrlr_waiting_drop(struct nvme_ctrlr *c);

/* --- ctrlr_queue.c --- */

int queues_poll(struct nvme_ctrlr *c);
/* @r, whose command was copied, is carried out. */
void cmd_start(struct nvme_req *r);
/* @r ends with @status (r->dw0 set before). Frees it, now or when the host makes room. */
void req_complete(struct nvme_req *r, uint16_t status);
/* Ends without a completion entry. */
void req_drop(struct nvme_req *r);
/* Writes @r's completion entry. @free_it: and frees @r, or leaves it on cq->waiting for lack of room;
 * else a lack of room loses the entry. */
void req_post(struct nvme_req *r, bool free_it);
void irqs_send(struct nvme_ctrlr *c);

/* --- the end of a command, inline for those that end well --- */

static inline uint32_t ring_next(uint32_t i, uint32_t size)
{
	return i + 1 == size ? 0 : i + 1;
}

static inline bool cq_is_full(const struct ctrlr_cq *cq)
{
	return !cq->room;
}

/* There is room. Two stores: the second one holds the phase bit, and all before it is seen by a
 * host that reads it with acquire (data, dword 0). */
static inline void cqe_write(struct nvme_ctrlr *c, const struct ctrlr_sq *sq, struct ctrlr_cq *cq,
                             uint16_t cid, uint32_t dw0, uint16_t status)
{
	uint32_t tail = cq->tail;
	le64 *e = (le64 *)(void *)&cq->entries[tail];
	uint32_t low = sq->head | sq->qid_high;
	uint64_t high = cid | (uint32_t)status << 17 | cq->phase;

	__atomic_store_n(&e[0], le64_make(dw0), __ATOMIC_RELAXED);
	__atomic_store_n(&e[1], le64_make(low | high << 32), __ATOMIC_RELEASE);
	cq->room--;
	cq->tail = tail + 1;
	if (unlikely(tail + 1 == cq->size)) {
		cq->tail = 0;
		cq->phase ^= 1u << 16;
	}
	c->completions++;
	if (cq->irq_enabled)
		c->irqs_due = cq->notify = true;
}

static inline void req_move(struct nvme_req *r, enum req_place place)
{
	r->sq->held += (uint32_t)(place != REQ_WORKING) - (uint32_t)(r->place != REQ_WORKING);
	r->place = (uint8_t)place;
}

static inline void req_return(struct nvme_ctrlr *c, struct ctrlr_sq *sq, struct nvme_req *r)
{
	struct nvme_req **pool = sq->pool;

	sq->taken--;
	c->taken--;
	r->next = *pool;
	*pool = r;
}

static inline void req_free(struct nvme_req *r)
{
	req_return(r->c, r->sq, r);
}

/* --- ctrlr_capsule.c --- */

/* The admin queue of a fabrics controller. 0 or -ENOMEM. */
int capsule_admin_new(struct nvme_ctrlr *c);
/* As data_map(), for a command that came in a capsule. */
uint16_t capsule_map(struct nvme_req *r, uint32_t len);
/* @r's answer, or with @dropped that there is none; the capsule is its owner's again. */
void capsule_end(struct nvme_req *r, bool dropped);

/* --- ctrlr_qadmin.c: commands return a status, or PENDING --- */

/* The admin queues, from AQA, ASQ and ACQ. 0 or -EINVAL, -ENOMEM. */
int admin_queues_new(struct nvme_ctrlr *c, uint32_t aqa, uint64_t asq, uint64_t acq);
void queues_free(struct nvme_ctrlr *c); /* none of their requests is taken */
/* Queues whose entries are capsules: @mem NULL. NULL: no memory. */
struct ctrlr_cq *cq_new(struct nvme_ctrlr *c, uint16_t qid, void *mem, uint32_t size);
struct ctrlr_sq *sq_new(struct nvme_ctrlr *c, uint16_t qid, const void *mem, uint32_t size,
                        struct ctrlr_cq *cq);
void cq_free(struct nvme_ctrlr *c, struct ctrlr_cq *cq);
void sq_free(struct nvme_ctrlr *c, struct ctrlr_sq *sq);
int deletions_poll(struct nvme_ctrlr *c);
uint16_t sq_create(struct nvme_req *r);
uint16_t cq_create(struct nvme_req *r);
uint16_t sq_delete(struct nvme_req *r);
uint16_t cq_delete(struct nvme_req *r);
uint16_t dbbuf_config(struct nvme_req *r);

/* --- ctrlr_data.c --- */

/* r->iov, iov_count and len over the host memory of @len bytes that the command names, or why not.
 */
uint16_t data_map(struct nvme_req *r, uint32_t len);
/* To the host (all of r->len is written: zeroes after @len), and from it. */
void data_put(struct nvme_req *r, const void *buf, uint32_t len);
void data_get(struct nvme_req *r, void *buf);

/* Memory of the host's, or NULL. */
static inline void *dma_get(const struct nvme_ctrlr *c, uint64_t addr, size_t len)
{
	void *mem = nvme_dma_window_find(c->window, addr, len);

	return likely(mem != NULL) ? mem : c->dma(c->dma_arg, addr, len);
}

/* --- ctrlr_plain.c --- */

/* A Read, and a Write, not fused, with PRPs, out of an I/O queue, without a fault plan. */
void plain_read(struct nvme_ctrlr *c, struct nvme_req *r);
/* False: it was passed on. */
bool plain_write(struct nvme_ctrlr *c, struct nvme_req *r);

/* --- ctrlr_io.c, ctrlr_rmw.c (also DSM), ctrlr_gate.c --- */

/* Out of bdevs and errno values, as a status. */
uint16_t bdev_status(const struct nvme_req *r, int rc);
void io_start(struct nvme_req *r);
/* The namespace that @r names, if it may be used now. */
uint16_t io_ns(struct nvme_req *r, struct nvme_ns **ret_ns);
/* And the range of SLBA and NLB, in bytes of the bdev. */
uint16_t io_range(const struct nvme_req *r, const struct nvme_ns *ns, uint64_t *ret_off,
                  uint64_t *ret_len);
/* Submits @r->io, which was filled but for its done. */
void io_submit(struct nvme_req *r, void (*done)(struct bdev_io *io));
/* Memory of ours for r->len bytes, with r->io's iov on it. false: @r was completed. */
bool io_bounce(struct nvme_req *r);
void compare_start(struct nvme_req *r);
void fused_start(struct nvme_req *first, struct nvme_req *second);
void dsm_start(struct nvme_req *r);

/* For what changes the namespace: counts @r in and runs @run(@r), now or when the holder is
 * through. What only reads needs no gate: it adds itself to ns->users and sets r->ns. */
void gate_enter(struct nvme_req *r, struct nvme_ns *ns, void (*run)(struct nvme_req *r));
/* As enter, and alone: when @run(@r) runs, nothing that changes the namespace (@all: nothing) is
 * under way, nor begins until gate_leave(). */
void gate_hold(struct nvme_req *r, struct nvme_ns *ns, bool all, void (*run)(struct nvme_req *r));
void gate_leave(struct nvme_req *r); /* called by req_complete and req_drop */

/* --- ctrlr_admin.c, ctrlr_format.c, ctrlr_identify.c, ctrlr_feature.c, ctrlr_log.c, _event.c --- */

void admin_start(struct nvme_req *r);
/* The command with this id that waits: for an event, at a gate, delayed on purpose. NULL: none. */
struct nvme_req *find_waiting(struct nvme_ctrlr *c, uint16_t sqid, uint16_t cid);
uint16_t identify(struct nvme_req *r);
uint16_t format_start(struct nvme_req *r);
void features_reset(struct nvme_ctrlr *c);
uint16_t features_get(struct nvme_req *r);
uint16_t features_set(struct nvme_req *r);
void keep_alive_restart(struct nvme_ctrlr *c);
uint16_t log_get(struct nvme_req *r);
void error_note(struct nvme_req *r, uint16_t status);
uint16_t event_wait(struct nvme_req *r);
void event_raise(struct nvme_ctrlr *c, uint8_t type, uint8_t info, uint8_t page);
void event_log_read(struct nvme_ctrlr *c, uint8_t page);
void event_reset(struct nvme_ctrlr *c);
void ns_changed(struct nvme_ns *ns, const struct nvme_ctrlr *except);

/* --- ctrlr_fault.c --- */

/* Before @r is carried out: true when it must not be, and was dealt with. */
bool fault_before(struct nvme_req *r);
/* At its completion: true when that was dealt with. */
bool fault_after(struct nvme_req *r);
void fault_reset(struct nvme_ctrlr *c); /* ends delays */

/* --- subsys.c --- */

/* After a change of what I6 is about; by a controller that is new, for all its namespaces. */
void ns_update(const struct nvme_ns *ns);
void ns_update_all(struct nvme_ctrlr *c);

struct nvme_ns *subsys_ns(const struct nvme_subsys *s, uint32_t nsid); /* NULL: none */

#endif
