/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * penstock/nvme_queue.h - an NVMe queue pair as the hot path sees it: build commands, ring once,
 * reap completions.
 *
 * Everything here is inline, needs nothing of libc and compiles as C, C++ and CUDA. It works on
 * memory that somebody else provides: rings, doorbells, PRP lists, slots and data may lie anywhere
 * that both sides reach. pst_nvme_queue_new() of penstock/nvme.h makes a queue on a controller;
 * pst_nvme_queue_init() lays one out over memory of your own.
 *
 * A queue belongs to one thread at a time. Nothing here locks, allocates, waits or reads a clock.
 *
 * Life of a command: pst_nvme_batch_begin(), one pst_nvme_batch_rw() (or _put, _cmd) per command,
 * pst_nvme_batch_end() rings the doorbell once. Later pst_nvme_reap_begin(),
 * pst_nvme_reap_next() until it says no, pst_nvme_reap_end(). Completions come in any order; each
 * brings back the argument that its command was given.
 *
 * Rules that the rest relies on:
 *  Q1  A ring of N entries carries at most N - 1 commands that have not completed. What completed
 *      was fetched, so neither ring can overflow, and the controller's head needs no tracking.
 *  Q2  A command id is slot | generation * N. A completion counts only when its id is the one that
 *      lives in its slot: a repeated, late or invented one is dropped and counted in bad_cids.
 *      Inside, ids stand in the upper half of 32 bits, where the submission queue entry wants them.
 *  Q3  Slot N - 1 is never used, so no id is FFFFh, which NVM Express reserves. It ends the list of
 *      free slots, which runs through the slots themselves.
 *  Q4  Memory that a command names stays untouched until it completes, or the controller was reset.
 */
#ifndef PENSTOCK_NVME_QUEUE_H
#define PENSTOCK_NVME_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "NVM Express is little-endian, and so is this header's idea of the machine"
#endif

/* How functions of the hot path are declared. */
#ifdef __CUDACC__
#define PST_NVME_FN static __host__ __device__ __forceinline__
#else
#define PST_NVME_FN static inline __attribute__((always_inline, unused))
#endif
/* What is needed now and then: kept out of the callers' registers. */
#ifdef __CUDACC__
#define PST_NVME_COLD static __host__ __device__ __noinline__
#else
#define PST_NVME_COLD static __attribute__((noinline, unused))
#endif
#define PST_NVME_LIKELY(x) __builtin_expect(!!(x), 1)

/*
 * Order between memory and a doorbell, which may be a device's register, and between the phase bit
 * of a completion and the rest of it. x86 keeps both orders by itself: the compiler must, too.
 */
#if defined(__CUDA_ARCH__)
#define PST_NVME_WMB() __threadfence_system()
#define PST_NVME_RMB() __threadfence_system()
#elif defined(__aarch64__)
#define PST_NVME_WMB() __asm__ volatile("dmb oshst" ::: "memory")
#define PST_NVME_RMB() __asm__ volatile("dmb oshld" ::: "memory")
#elif defined(__x86_64__) || defined(__i386__)
#define PST_NVME_WMB() __asm__ volatile("" ::: "memory")
#define PST_NVME_RMB() __asm__ volatile("" ::: "memory")
#else
#define PST_NVME_WMB() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define PST_NVME_RMB() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif
/* A store that must be seen before a later load (shadow doorbells). By name where it is known:
 * ThreadSanitizer's compilers refuse the general fence. */
#if defined(__CUDA_ARCH__)
#define PST_NVME_MB() __threadfence_system()
#elif defined(__aarch64__)
#define PST_NVME_MB() __asm__ volatile("dmb osh" ::: "memory")
#elif defined(__x86_64__) || defined(__i386__)
#define PST_NVME_MB() __asm__ volatile("mfence" ::: "memory")
#else
#define PST_NVME_MB() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif

/* Entries of the largest ring: ids keep four bits or more for generations. A power of two. */
#define PST_NVME_ENTRIES_MAX 4096u
#define PST_NVME_ENTRIES_MIN 2u

/* Opcodes of the NVM command set for the functions below. */
#define PST_NVME_OPC_WRITE 0x01u
#define PST_NVME_OPC_READ  0x02u

/* For dword 12 of a write: durable when it completes. */
#define PST_NVME_FUA (1u << 30)
/* For byte 1 of a command: its data pointer is an SGL. */
#define PST_NVME_PSDT_SGL 0x40u

/* A submission queue entry (NVM Express Base 2.0, figure 87). */
struct pst_nvme_sqe {
	uint8_t opc, flags;
	uint16_t cid; /* the queue's */
	uint32_t nsid;
	uint32_t cdw2, cdw3;
	uint64_t mptr;
	uint64_t prp1, prp2; /* or one SGL descriptor */
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};

/* A completion queue entry (figure 90). */
struct pst_nvme_cqe {
	uint32_t dw0, dw1;
	uint16_t sqhd, sqid;
	uint16_t cid, status; /* bit 0 of the status: the phase */
};
/* Id and status of an entry as one word, whatever the compiler assumes of types. */
#ifdef __GNUC__
typedef volatile uint32_t __attribute__((__may_alias__)) pst_nvme_cqe_word;
#else
typedef volatile uint32_t pst_nvme_cqe_word;
#endif

/*
 * What the queue knows of a command under way, by command id. The lower half of an id is zero, so
 * bit 0 of live tells a free slot, and the rest is then the id that is free after this one.
 */
struct pst_nvme_slot {
	void *arg;
	uint32_t live; /* the id that is under way here */
	uint32_t age;  /* in ticks; submission sets it to 0 in the same store as live */
};
#define PST_NVME_SLOT_FREE 1u

/* Memory for a queue. Sizes by the entries of its rings (N, a power of two). */
struct pst_nvme_queue_mem {
	struct pst_nvme_sqe *sq;    /* N; aligned to the controller's page */
	struct pst_nvme_cqe *cq;    /* N; aligned to the controller's page; zeroed */
	struct pst_nvme_slot *slot; /* N; the host's alone */
	uint64_t *prp;    /* N times prp_bytes for PRP lists, from a page's beginning; NULL: none */
	uint64_t prp_dma; /* where the controller finds them */
	/* For each command: 64 times a power of two, below a page; or whole pages, chained. */
	uint32_t prp_bytes;
};

struct pst_nvme_queue {
	/* submission */
	struct pst_nvme_sqe *sq_next, *sq_end;
	struct pst_nvme_slot *slot;
	uint32_t
	        free_head; /* the id that comes next, with PST_NVME_SLOT_FREE; of slot N - 1: full */
	uint32_t
	        sq_mask; /* slot_mask, or 0 while the queue is stopped: every slot looks like N - 1 */
	uint32_t slot_mask;  /* (N - 1) * sizeof(struct pst_nvme_slot) */
	uint32_t generation; /* N as the upper half of an id, with PST_NVME_SLOT_FREE */
	uint32_t inflight;
	volatile uint32_t *sq_doorbell;
	/* completion */
	struct pst_nvme_cqe *cq_next, *cq_end;
	uint32_t phase; /* 0 or PST_NVME_PHASE: makes the phase bit of a new completion 1 */
	uint32_t mask;  /* N - 1 */
	volatile uint32_t *cq_doorbell;
	struct pst_nvme_sqe *sq;
	struct pst_nvme_cqe *cq;
	/* PRP lists */
	uint64_t *prp;
	uint64_t prp_dma;
	uint32_t prp_stride; /* bytes of list memory for each command */
	uint32_t page_shift; /* of the controller's page: CC.MPS + 12 */
	/* shadow doorbells (Doorbell Buffer Config); NULL: none */
	volatile uint32_t *sq_shadow, *sq_eventidx, *cq_shadow, *cq_eventidx;
	uint32_t timeout_ticks; /* 0: commands may take for ever */
	uint32_t bad_cids;      /* completions that were dropped (Q2) */
	uint16_t qid;
	void *priv; /* the library's */
};
#define PST_NVME_PHASE 0x10000u /* in a completion's last dword */

/* Back to the state after pst_nvme_queue_init(), but for generations, counts and settings. For a
 * controller that was reset: all commands must have been answered for. */
PST_NVME_FN void pst_nvme_queue_rewind(struct pst_nvme_queue *q)
{
	q->sq_next = q->sq;
	q->cq_next = q->cq;
	q->phase = 0;
	for (uint32_t i = 0; i <= q->mask; i++)
		__builtin_memset(&q->cq[i], 0, sizeof(q->cq[i]));
}

/*
 * Lays a queue out over @mem. @entries: a power of two within the limits above, no more than
 * CAP.MQES + 1. Doorbells and timeouts are set in the structure
 * afterwards. Returns 0, or -1 when a
 * number is out of range.
 */
PST_NVME_FN int pst_nvme_queue_init(struct pst_nvme_queue *q, uint16_t qid, uint32_t entries,
                                    uint32_t page_shift, const struct pst_nvme_queue_mem *mem)
{
	if (entries < PST_NVME_ENTRIES_MIN || entries > PST_NVME_ENTRIES_MAX ||
	    (entries & (entries - 1)) || page_shift < 12 || page_shift > 27)
		return -1;
	__builtin_memset(q, 0, sizeof(*q));
	q->qid = qid;
	q->sq = mem->sq;
	q->sq_end = mem->sq + entries;
	q->cq = mem->cq;
	q->cq_end = mem->cq + entries;
	q->slot = mem->slot;
	q->slot_mask = (entries - 1) * (uint32_t)sizeof(struct pst_nvme_slot);
	q->sq_mask = q->slot_mask;
	q->generation = entries << 16 | PST_NVME_SLOT_FREE;
	q->prp = mem->prp;
	q->prp_dma = mem->prp_dma;
	q->prp_stride = mem->prp ? mem->prp_bytes : 0;
	q->page_shift = page_shift;
	q->mask = entries - 1;
	for (uint32_t i = 0; i < entries; i++) {
		q->slot[i].arg = NULL;
		q->slot[i].live = (i + 1) << 16 | PST_NVME_SLOT_FREE;
		q->slot[i].age = 0;
	}
	q->free_head = PST_NVME_SLOT_FREE;
	pst_nvme_queue_rewind(q);
	return 0;
}

/* Takes no more commands, or takes them again; reaping goes on. For who resets the controller. */
PST_NVME_FN void pst_nvme_queue_stop(struct pst_nvme_queue *q, bool stop)
{
	q->sq_mask = stop ? 0 : q->slot_mask;
}

/* Commands that have not completed. */
PST_NVME_FN uint32_t pst_nvme_queue_inflight(const struct pst_nvme_queue *q)
{
	return q->inflight;
}

/* Leaves @value in the shadow doorbell; true when the controller asked for the real one, too. */
PST_NVME_COLD bool pst_nvme_ring_shadow(volatile uint32_t *shadow, volatile uint32_t *eventidx,
                                        uint32_t value, uint32_t mask)
{
	uint32_t old = *shadow;

	*shadow = value;
	PST_NVME_MB();
	/* Passed the index at which it wants to be woken? All modulo the ring. */
	return ((value - *eventidx - 1) & mask) < ((value - old) & mask);
}

PST_NVME_FN void pst_nvme_ring(volatile uint32_t *doorbell, volatile uint32_t *shadow,
                               volatile uint32_t *eventidx, uint32_t value, uint32_t mask)
{
	PST_NVME_WMB();
	if (!PST_NVME_LIKELY(!shadow) && !pst_nvme_ring_shadow(shadow, eventidx, value, mask))
		return;
	*doorbell = value;
}

/*
 * A batch: the parts of a queue that submission changes, in the caller's registers. Nothing else
 * may use the queue between begin and end.
 */
struct pst_nvme_batch {
	struct pst_nvme_queue *q;
	struct pst_nvme_sqe *next, *end;
	struct pst_nvme_slot *slot;
	uint32_t free_head, slot_mask;
};

PST_NVME_FN void pst_nvme_batch_begin(struct pst_nvme_queue *q, struct pst_nvme_batch *b)
{
	b->q = q;
	b->next = q->sq_next;
	b->end = q->sq_end;
	b->slot = q->slot;
	b->free_head = q->free_head;
	b->slot_mask = q->sq_mask;
}

/* Bytes from the first slot to that of the id @id. */
PST_NVME_FN uint32_t pst_nvme_slot_at(uint32_t id, uint32_t slot_mask)
{
	return (id >> 12) & slot_mask; /* 16 bytes each, ids in the upper half */
}

/* How many more commands the queue takes. */
PST_NVME_FN uint32_t pst_nvme_batch_room(const struct pst_nvme_batch *b)
{
	const struct pst_nvme_queue *q = b->q;

	if (!b->slot_mask)
		return 0; /* stopped */
	return q->mask - q->inflight - ((uint32_t)(b->next - q->sq_next) & q->mask);
}

PST_NVME_FN void pst_nvme_batch_end(struct pst_nvme_batch *b)
{
	struct pst_nvme_queue *q = b->q;

	if (b->next == q->sq_next)
		return;
	q->inflight += (uint32_t)(b->next - q->sq_next) & q->mask;
	q->free_head = b->free_head;
	q->sq_next = b->next;
	pst_nvme_ring(q->sq_doorbell, q->sq_shadow, q->sq_eventidx, (uint32_t)(b->next - q->sq),
	              q->mask);
}

/* Takes a slot for @arg; its id into *ret_id, and the next entry of the ring. There is room. */
PST_NVME_FN struct pst_nvme_sqe *pst_nvme_batch_take(struct pst_nvme_batch *b, void *arg,
                                                     uint64_t *ret_id)
{
	uint64_t id = b->free_head - PST_NVME_SLOT_FREE;
	struct pst_nvme_slot *s;
	struct pst_nvme_sqe *e = b->next;

	s = (struct pst_nvme_slot *)(void *)((char *)b->slot +
	                                     pst_nvme_slot_at(b->free_head, b->slot_mask));
	b->free_head = s->live;
	s->arg = arg;
	__builtin_memcpy((char *)s + offsetof(struct pst_nvme_slot, live), &id, sizeof(id));
	b->next = e + 1;
	if (!PST_NVME_LIKELY(b->next != b->end))
		b->next = b->q->sq;
	*ret_id = id;
	return e;
}

PST_NVME_FN bool pst_nvme_batch_full(const struct pst_nvme_batch *b)
{
	return pst_nvme_slot_at(b->free_head, b->slot_mask) == b->slot_mask;
}

/* Fills an entry of @e eight bytes at a time. */
PST_NVME_FN void pst_nvme_sqe_fill(struct pst_nvme_sqe *e, uint64_t head, uint64_t dptr1,
                                   uint64_t dptr2, uint64_t cdw10_11, uint64_t cdw12_13)
{
	const uint64_t zero = 0;
	char *p = (char *)e;

	__builtin_memcpy(p, &head, sizeof(head));
	__builtin_memset(p + offsetof(struct pst_nvme_sqe, cdw2), 0, 16); /* and mptr */
	e->prp1 = dptr1;
	e->prp2 = dptr2;
	__builtin_memcpy(p + offsetof(struct pst_nvme_sqe, cdw10), &cdw10_11, sizeof(cdw10_11));
	__builtin_memcpy(p + offsetof(struct pst_nvme_sqe, cdw12), &cdw12_13, sizeof(cdw12_13));
	__builtin_memcpy(p + offsetof(struct pst_nvme_sqe, cdw14), &zero, sizeof(zero));
}

/*
 * PRP list of @count pages from @dma on into @list, which the controller sees at @list_dma. Where a
 * page of the list is full its last entry points to the next one (NVM Express Base 2.0, 4.1.1).
 * @list and @list_dma begin a page. What follows the list in its last page may be overwritten.
 */
PST_NVME_COLD void pst_nvme_prp_list(uint64_t *list, uint64_t list_dma, uint32_t page_shift,
                                     uint64_t dma, uint64_t count)
{
	uint64_t page = (uint64_t)1 << page_shift, in_page = page / 8;

	for (;;) {
		/* A page that is followed by another keeps its last entry for the link. */
		uint64_t here = count <= in_page ? count : in_page - 1, *next = list + in_page;

		/* In eights, beyond the end too: a page holds a multiple of eight. */
		for (uint64_t *end = list + here; list < end; list += 8) {
			uint64_t at = dma;

			list[0] = at, list[1] = at += page, list[2] = at += page;
			list[3] = at += page, list[4] = at += page, list[5] = at += page;
			list[6] = at += page, list[7] = at += page;
			dma = at + page;
		}
		if (here == count)
			return;
		count -= here;
		dma -= page; /* the eights went over the link's place */
		list_dma += page;
		next[-1] = list_dma;
		list = next;
	}
}

/* Bytes that one command can carry with the queue's PRP lists, from any address on. */
PST_NVME_FN uint64_t pst_nvme_queue_prp_max(const struct pst_nvme_queue *q)
{
	uint64_t page = (uint64_t)1 << q->page_shift, lists = q->prp_stride >> q->page_shift;

	if (!q->prp_stride)
		return page; /* PRP1 and PRP2: two pages, of which the first may be part of one */
	if (!lists)
		return q->prp_stride / 8 * page;
	return (lists * (page / 8 - 1) + 1) * page;
}

/* PRP2 for the command in @e, whose @bytes from PRP1 on don't end in its first page. */
PST_NVME_COLD void pst_nvme_prp2(const struct pst_nvme_queue *q, struct pst_nvme_sqe *e,
                                 uint32_t bytes)
{
	uint64_t mask = ((uint64_t)1 << q->page_shift) - 1, second = (e->prp1 | mask) + 1;
	uint64_t rest = e->prp1 + bytes - second, offset;

	if (rest <= mask + 1) {
		e->prp2 = second;
		return;
	}
	offset = (uint64_t)(e->cid & q->mask) * q->prp_stride;
	e->prp2 = q->prp_dma + offset;
	pst_nvme_prp_list((uint64_t *)(void *)((char *)q->prp + offset), e->prp2, q->page_shift,
	                  second, (rest + mask) >> q->page_shift);
}

/* What reads or writes of one size to one namespace have in common. */
struct pst_nvme_rw {
	uint64_t head;  /* dword 0 without an id, and the namespace */
	uint64_t cdw12; /* number of blocks, flags */
	uint64_t page_mask;
	int64_t in_page; /* from where in a page on such a transfer crosses into the next */
	uint32_t bytes;
};

/*
 * @opc: PST_NVME_OPC_READ or _WRITE. @blocks logical blocks, which are @bytes; at most
 * pst_nvme_queue_prp_max() and the controller's limit. @flags: PST_NVME_FUA.
 */
PST_NVME_FN void pst_nvme_rw_init(struct pst_nvme_rw *t, const struct pst_nvme_queue *q,
                                  uint32_t opc, uint32_t nsid, uint32_t blocks, uint32_t bytes,
                                  uint32_t flags)
{
	t->head = (uint64_t)nsid << 32 | opc;
	t->cdw12 = (blocks - 1) | flags;
	t->page_mask = ((uint64_t)1 << q->page_shift) - 1;
	t->in_page = (int64_t)t->page_mask + 1 - bytes;
	t->bytes = bytes;
}

/*
 * A read or write of the size in @t from block @lba on; the memory is contiguous for the
 * controller from @dma on (a multiple of four). @arg comes back with the completion. There is room
 * (pst_nvme_batch_room()): asked for once, a loop needs no check per command.
 */
PST_NVME_FN void pst_nvme_batch_put(struct pst_nvme_batch *b, const struct pst_nvme_rw *t,
                                    void *arg, uint64_t lba, uint64_t dma)
{
	uint64_t id;
	struct pst_nvme_sqe *e = pst_nvme_batch_take(b, arg, &id);

	pst_nvme_sqe_fill(e, t->head + id, dma, 0, lba, t->cdw12);
	if ((int64_t)(dma & t->page_mask) > t->in_page)
		pst_nvme_prp2(b->q, e, t->bytes);
}

/* The same for one command, checked: false when the queue is full (or stopped). */
PST_NVME_FN bool pst_nvme_batch_rw(struct pst_nvme_batch *b, uint32_t opc, void *arg, uint32_t nsid,
                                   uint64_t lba, uint32_t blocks, uint64_t dma, uint32_t bytes,
                                   uint32_t flags)
{
	struct pst_nvme_rw t;

	if (!PST_NVME_LIKELY(!pst_nvme_batch_full(b)))
		return false;
	pst_nvme_rw_init(&t, b->q, opc, nsid, blocks, bytes, flags);
	pst_nvme_batch_put(b, &t, arg, lba, dma);
	return true;
}

/* The same with one SGL data block descriptor: for controllers that take SGLs, at any length. */
PST_NVME_FN bool pst_nvme_batch_rw_sgl(struct pst_nvme_batch *b, uint32_t opc, void *arg,
                                       uint32_t nsid, uint64_t lba, uint32_t blocks, uint64_t dma,
                                       uint32_t bytes, uint32_t flags)
{
	struct pst_nvme_sqe *e;
	uint64_t id;

	if (!PST_NVME_LIKELY(!pst_nvme_batch_full(b)))
		return false;
	e = pst_nvme_batch_take(b, arg, &id);
	pst_nvme_sqe_fill(e, ((uint64_t)nsid << 32 | PST_NVME_PSDT_SGL << 8 | opc) + id, dma, bytes,
	                  lba, (blocks - 1) | flags);
	return true;
}

/*
 * Any command: a copy of *@cmd with the queue's id in it. *ret_cid (NULL: not wanted) names it to
 * Abort. False when the queue is full (or stopped).
 */
PST_NVME_FN bool pst_nvme_batch_cmd(struct pst_nvme_batch *b, void *arg,
                                    const struct pst_nvme_sqe *cmd, uint16_t *ret_cid)
{
	struct pst_nvme_sqe *e;
	uint64_t id;

	if (!PST_NVME_LIKELY(!pst_nvme_batch_full(b)))
		return false;
	e = pst_nvme_batch_take(b, arg, &id);
	*e = *cmd;
	e->cid = (uint16_t)(id >> 16);
	if (ret_cid)
		*ret_cid = e->cid;
	return true;
}

/* List memory of the command that comes next in this batch, prp_stride bytes: lists for it may be
 * built there before it is submitted. Only where there is room. */
PST_NVME_FN uint64_t *pst_nvme_batch_list(const struct pst_nvme_batch *b, uint64_t *ret_dma)
{
	uint64_t slot = pst_nvme_slot_at(b->free_head, b->slot_mask) / sizeof(struct pst_nvme_slot);

	*ret_dma = b->q->prp_dma + slot * b->q->prp_stride;
	return b->q->prp + slot * b->q->prp_stride / 8;
}

/* One completion. */
struct pst_nvme_done {
	void *arg;
	uint32_t dw0;
	/* Without the phase: 0 is success; code in 7:0, type in 10:8, More 13, Do Not Retry 14. */
	uint16_t status;
};

/* The parts of a queue that reaping changes, in the caller's registers. */
struct pst_nvme_reap {
	struct pst_nvme_queue *q;
	struct pst_nvme_cqe *next, *end;
	struct pst_nvme_slot *slot;
	uint32_t free_head, slot_mask, generation, phase, count, bad;
};

/* Nothing may be submitted between begin and end of a reap: note it, and submit afterwards. */
PST_NVME_FN void pst_nvme_reap_begin(struct pst_nvme_queue *q, struct pst_nvme_reap *r)
{
	r->q = q;
	r->next = q->cq_next;
	r->end = q->cq_end;
	r->slot = q->slot;
	r->free_head = q->free_head;
	r->slot_mask = q->slot_mask;
	r->generation = q->generation;
	r->phase = q->phase;
	r->count = r->bad = 0;
}

/*
 * The next completion into @d. False: there is none, or there was one that belongs to no command:
 * it was counted and dropped, and what follows it comes with the next reap. (So a controller that
 * writes nonsense without end can't keep its host here.)
 */
PST_NVME_FN bool pst_nvme_reap_next(struct pst_nvme_reap *r, struct pst_nvme_done *d)
{
	struct pst_nvme_cqe *e = r->next;
	/* Id and status in one load. From here on bit 16 says that it is new. */
	uint32_t last = *(pst_nvme_cqe_word *)(void *)&e->cid ^ r->phase;
	uint32_t id = last << 16;
	struct pst_nvme_slot *s;

	if (!(last & PST_NVME_PHASE))
		return false;
	PST_NVME_RMB();
	r->next = e + 1;
	if (!PST_NVME_LIKELY(r->next != r->end)) {
		r->next = r->q->cq;
		r->phase ^= PST_NVME_PHASE;
	}
	s = (struct pst_nvme_slot *)(void *)((char *)r->slot + pst_nvme_slot_at(id, r->slot_mask));
	if (!PST_NVME_LIKELY(s->live == id)) {
		r->bad = 1;
		return false;
	}
	d->arg = s->arg;
	d->dw0 = e->dw0;
	d->status = (uint16_t)(last >> 17);
	s->live = r->free_head;
	r->free_head = id + r->generation;
	r->count++;
	return true;
}

/* Gives the entries back to the controller, with one ring of the doorbell. Returns how many
 * commands completed. */
PST_NVME_FN uint32_t pst_nvme_reap_end(struct pst_nvme_reap *r)
{
	struct pst_nvme_queue *q = r->q;

	if (!(r->count | r->bad))
		return 0;
	q->cq_next = r->next;
	q->phase = r->phase;
	q->inflight -= r->count;
	if (r->bad)
		q->bad_cids++;
	q->free_head = r->free_head;
	pst_nvme_ring(q->cq_doorbell, q->cq_shadow, q->cq_eventidx, (uint32_t)(r->next - q->cq),
	              q->mask);
	return r->count;
}

/* Whether a completion waits: look before you sleep. */
PST_NVME_FN bool pst_nvme_reap_waits(const struct pst_nvme_queue *q)
{
	return (*(pst_nvme_cqe_word *)(void *)&q->cq_next->cid ^ q->phase) & PST_NVME_PHASE;
}

/* --- time: coarse, counted in ticks of the caller's choice --- */

/*
 * Once per tick, with *@at 0 at first: everything under way grows a tick older, and the first
 * command from slot *@at on that is older than timeout_ticks is returned in *ret_cid, with *@at
 * behind it. False: all were looked at. Such a command is named again after as long.
 */
PST_NVME_FN bool pst_nvme_queue_tick(struct pst_nvme_queue *q, uint32_t *at, uint16_t *ret_cid)
{
	while (*at < q->mask) {
		struct pst_nvme_slot *s = &q->slot[(*at)++];

		if ((s->live & PST_NVME_SLOT_FREE) || ++s->age <= q->timeout_ticks ||
		    !q->timeout_ticks)
			continue;
		s->age = 0;
		*ret_cid = (uint16_t)(s->live >> 16);
		return true;
	}
	return false;
}

#endif
