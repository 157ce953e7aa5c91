/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * penstock/nvme.h - NVMe controllers from user space: attach, make queues, submit and reap.
 *
 * Usable without the object store. A controller and all of its queues belong to the thread that
 * opened it. The hot path is penstock/nvme_queue.h, inline; the functions here set things up, and
 * pst_nvme_poll() keeps them going: timeouts, resets, events, and a controller that lives in this
 * process. Call it now and then while commands are under way, and whenever reaping found nothing.
 *
 * When a controller stops answering, the driver aborts, then resets it. Commands that were under
 * way then complete with PST_NVME_STATUS_ABORTED, or with the controller's own word for it, and
 * should be sent again if repeating them is safe (reads, and writes of the same bytes, are):
 * pst_nvme_errno() is -EAGAIN or -ETIMEDOUT for them. Their queue refuses new ones until all were
 * reaped and pst_nvme_poll() has made it anew. When a device is gone they complete with
 * PST_NVME_STATUS_GONE.
 */
#ifndef PENSTOCK_NVME_H
#define PENSTOCK_NVME_H

#include "penstock/error.h"
#include "penstock/nvme_queue.h"

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

struct pst_nvme;

/* Status of commands that the host itself answered for: "Command Aborted By Host", and "Host
 * Pathing Error" with Do Not Retry. */
#define PST_NVME_STATUS_ABORTED 0x0371u
#define PST_NVME_STATUS_GONE    0x4370u

/*
 * How to use a controller. pst_nvme_opts_default() fills it; new fields come at the end.
 */
struct pst_nvme_opts {
	size_t size;           /* of this structure, for the library */
	uint32_t timeout_ms;   /* a command that takes longer is aborted (10000); 0: never */
	uint32_t io_max_bytes; /* largest transfer that queues get PRP lists for (1 MiB) */
	uint32_t queues_max;   /* I/O queues to ask the controller for (64) */
	uint32_t resets_max;   /* attempts in a row before the controller counts as dead (3) */
	bool sgl;              /* use SGLs where the controller takes them (true) */
	bool shadow;           /* use shadow doorbells where it has them (false) */
};

/*
 * What a controller is.
 */
struct pst_nvme_info {
	char serial[21], model[41], firmware[9], subnqn[224]; /* without the padding */
	uint16_t vendor, cntlid;
	uint32_t version;      /* as CAP's neighbour VS has it: 0x020000 is 2.0 */
	uint32_t namespaces;   /* the largest namespace id */
	uint32_t queues_max;   /* I/O queues that may be made */
	uint32_t entries_max;  /* of one queue */
	uint32_t page_bytes;   /* the controller's page */
	uint32_t io_max_bytes; /* of one command */
	bool sgl, shadow;      /* in use */
	bool volatile_cache;   /* completed writes need a flush */
	bool live;             /* false while it is reset, and when it is dead */
	int error;             /* why it is dead: a negative errno value */
	uint32_t resets;       /* since it was attached */
	uint32_t nsid;         /* the namespace that the device string means: its nsid=, or 1 */
};

/*
 * A namespace.
 */
struct pst_nvme_namespace {
	uint32_t nsid;
	uint32_t block_bytes;
	uint64_t blocks;
	uint32_t optimal_write_blocks; /* 0: not told */
	bool read_only;
	bool dealloc_zeroes;                 /* deallocated blocks read as zeroes */
	bool write_zeroes, dealloc, compare; /* commands that the controller has */
	uint8_t nguid[16], eui64[8];
	uint32_t ana_group; /* 0: the subsystem has no ANA */
};

/*
 * A queue to be made. pst_nvme_queue_opts_default() fills it.
 */
struct pst_nvme_queue_opts {
	size_t size;
	uint32_t
	        entries; /* rounded down to a power of two; 0: as many as there can be, up to 1024 */
	/* NULL: the library's. Else memory of the caller's (a GPU's, say), which it made reachable:
	 * pst_nvme_mem_map(), or by other means. */
	const struct pst_nvme_queue_mem *mem;
	uint64_t sq_dma, cq_dma; /* with mem: where the controller finds the rings */
};

/*
 * pst_nvme_opts_default - fill *@opts with what suits most.
 */
void pst_nvme_opts_default(struct pst_nvme_opts *opts);

/*
 * pst_nvme_queue_opts_default - fill *@opts with what suits most.
 */
void pst_nvme_queue_opts_default(struct pst_nvme_queue_opts *opts);

/*
 * pst_nvme_open - attach to the controller that @device names.
 *
 * @device: "loop:DEVICE", a controller in this process over a block device ("loop:mem:64m"): see
 *          penstock-devices(7), nvme+loop.
 * @opts: NULL for the defaults.
 *
 * Blocks until the controller is ready, CAP.TO at most for each attempt. *ret_nvme is the caller's
 * until pst_nvme_close().
 *
 * -EINVAL: bad device string. -ENOENT: nothing there. -ENODEV: it went away.
 * -ETIMEDOUT: it does not get ready. -EIO: it answers nonsense. -ENOMEM.
 */
int pst_nvme_open(struct pst_nvme **ret_nvme, const char *device, const struct pst_nvme_opts *opts,
                  struct pst_err *err);

/*
 * pst_nvme_close - shut the controller down and let go of it. NULL is accepted. All queues were
 * freed, all memory that was mapped was unmapped. Blocks.
 */
void pst_nvme_close(struct pst_nvme *nvme);

/*
 * pst_nvme_info - what the controller is, and how it is. Does not block.
 */
void pst_nvme_info(struct pst_nvme *nvme, struct pst_nvme_info *ret_info);

/*
 * pst_nvme_namespace - look at namespace @nsid. Blocks.
 *
 * From then on the controller is held to it: when after a reset (or a lost connection) another
 * namespace is in its place, or one with other blocks or fewer, or another subsystem altogether, the
 * controller is dead (-ENODEV) before any command goes there. A larger one is accepted.
 *
 * -ENOENT: there is none. -ENOTSUP: blocks with metadata, or of a size that can't be used. Others
 * as pst_nvme_admin().
 */
int pst_nvme_namespace(struct pst_nvme *nvme, uint32_t nsid, struct pst_nvme_namespace *ret_ns);

/*
 * pst_nvme_admin - send an admin command and wait for its end.
 *
 * @cmd: all but id and data pointer. @data: @len_bytes, at most a page, to or from the controller as
 *       the opcode says; NULL: none. *ret_cqe (NULL: not wanted) is set whenever the controller
 *       answered, also with an error.
 *
 * Blocks. 0, or the status as pst_nvme_errno() has it; -ENODEV, -EINVAL, -EBUSY (from inside
 * another).
 */
int pst_nvme_admin(struct pst_nvme *nvme, const struct pst_nvme_sqe *cmd, void *data,
                   size_t len_bytes, struct pst_nvme_cqe *ret_cqe);

/*
 * pst_nvme_queue_new - make an I/O queue pair.
 *
 * @opts: NULL for the defaults. *ret_queue stays the library's memory, for use with
 * penstock/nvme_queue.h, until pst_nvme_queue_free(). Blocks.
 *
 * -ENOSPC: no more queues. -EINVAL: bad sizes. -ENODEV, -ENOMEM, others as pst_nvme_admin().
 */
int pst_nvme_queue_new(struct pst_nvme *nvme, const struct pst_nvme_queue_opts *opts,
                       struct pst_nvme_queue **ret_queue);

/*
 * pst_nvme_queue_free - delete a queue. Nothing may be under way on it. NULL is accepted. Blocks.
 */
void pst_nvme_queue_free(struct pst_nvme *nvme, struct pst_nvme_queue *queue);

/*
 * pst_nvme_mem_alloc - zeroed memory, page-aligned, that the controller reaches.
 *
 * It is contiguous for the controller from *ret_dma on. Freed with pst_nvme_mem_free(), when no
 * command uses it.
 *
 * -ENOMEM, -EINVAL (length 0), or why the carrier can't map it.
 */
int pst_nvme_mem_alloc(struct pst_nvme *nvme, size_t len_bytes, void **ret_addr, uint64_t *ret_dma);

/*
 * pst_nvme_mem_map - make memory of the caller's reachable, contiguous from *ret_dma on.
 *
 * The memory stays there until pst_nvme_mem_free(), which then only ends the mapping.
 *
 * -ENOTSUP: the carrier can't reach such memory (a controller in another process).
 */
int pst_nvme_mem_map(struct pst_nvme *nvme, void *addr, size_t len_bytes, uint64_t *ret_dma);

/*
 * pst_nvme_mem_free - end what pst_nvme_mem_alloc() or pst_nvme_mem_map() began. NULL is accepted.
 *
 * -EINVAL: @addr is not the beginning of such memory.
 */
int pst_nvme_mem_free(struct pst_nvme *nvme, void *addr);

/*
 * pst_nvme_poll - one turn of what the driver does beside the hot path.
 *
 * @timeout_ns: sleeps at most this long when there is nothing to do; 0: not at all.
 *
 * Returns how many things happened, or -ENODEV once the controller is dead (what was under way can
 * still be reaped), or why it could not wait.
 */
int pst_nvme_poll(struct pst_nvme *nvme, uint64_t timeout_ns);

/*
 * pst_nvme_reset - reset the controller. What is under way completes with PST_NVME_STATUS_ABORTED,
 * or with what the controller answered. Happens in pst_nvme_poll(); does not block.
 */
void pst_nvme_reset(struct pst_nvme *nvme);

/*
 * pst_nvme_events - choose who hears of asynchronous events.
 *
 * @fn: called from pst_nvme_poll() with dword 0 of each event's completion (type in 2:0,
 *      information in 15:8, log page in 23:16), after the driver read the log page, which makes the
 *      controller ready for the next one. NULL: nobody.
 */
void pst_nvme_events(struct pst_nvme *nvme, void (*fn)(void *arg, uint32_t dw0), void *arg);

/*
 * pst_nvme_errno - a completion's status as a negative errno value; 0 for success.
 *
 * -EIO: medium, or an internal error. -EILSEQ: Compare found a difference. -EINVAL: the command was
 * wrong. -ENOSPC, -EROFS, -EACCES, -ENODEV, -ENOENT (namespace), -ENOTSUP, -ETIMEDOUT (aborted),
 * -EAGAIN (reset, or a path that changes: send it again), -EBUSY.
 */
int pst_nvme_errno(uint16_t status);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
