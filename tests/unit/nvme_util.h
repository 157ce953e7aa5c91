/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nvme_util - a bare host for tests of the controller model: it writes entries and doorbells itself,
 * well-formed or not, and sees every completion. Its memory is one arena at an address of its own,
 * so that no pointer passes for an address.
 */
#ifndef TESTS_NVME_UTIL_H
#define TESTS_NVME_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "nvme/ctrlr.h"
#include "nvme/dma.h"

#define RIG_BASE    0x100000000ull /* where the arena is for the controller */
#define RIG_BYTES   (8 * MIB)
#define RIG_NS_MAX  4
#define RIG_ENTRIES 16

struct rig_queue {
	uint16_t qid, cqid;
	struct nvme_cmd *sq;
	struct nvme_cqe *cq;
	uint32_t entries, tail, head;
	uint16_t phase;
	le32 *sq_db, *cq_db;
	uint16_t next_cid;
};

struct rig {
	struct loop *loop;
	struct nvme_subsys *subsys;
	struct nvme_ctrlr *ctrlr;
	struct nvme_ctrlr_opts opts;
	struct bdev *bdev[RIG_NS_MAX];
	unsigned bdevs;
	struct nvme_dma_map map;
	struct nvme_dma_window window; /* over all of the arena, or closed */
	uint8_t *mem, *alloc_at;
	uint8_t *bar;
	struct rig_queue admin, io;
	unsigned irqs[8];
};

/* Runs @tests (they have no setup) twice: with the window, and without, so that reads and writes go
 * the long way. Returns what main() does. */
#define RIG_TESTS_MAX 32
int rig_run_group(const struct CMUnitTest *tests, size_t count);

/* A loop, a subsystem, a namespace for each of @specs (NULL ends); the controller is not enabled.
 * @opts: NULL for small defaults. */
struct rig *rig_new(const char *const *specs, const struct nvme_ctrlr_opts *opts);
void rig_free(struct rig *r);
/* The same with "mem:1m?block=512", enabled, with one I/O queue (qid 1). */
struct rig *rig_ready(void);

/* Memory of the arena, zeroed, and its address. */
void *rig_mem(struct rig *r, size_t len, size_t align);
uint64_t rig_addr(const struct rig *r, const void *p);

uint32_t rig_reg(struct rig *r, uint32_t off);
void rig_enable(struct rig *r, uint32_t cc_more);
void rig_disable(struct rig *r);
/* Polls and turns @turns times; no time passes. */
void rig_run(struct rig *r, unsigned turns);
void rig_io_queue(struct rig *r, struct rig_queue *q, uint16_t qid, uint32_t entries);

/* Puts @cmd into the queue (its cid is set) without ringing; ring. Return the cid. */
uint16_t rig_put(struct rig_queue *q, const struct nvme_cmd *cmd);
void rig_ring(struct rig_queue *q);
uint16_t rig_submit(struct rig_queue *q, const struct nvme_cmd *cmd);
/* The next completion, if it is there now. */
bool rig_reap(struct rig_queue *q, struct nvme_cqe *ret_cqe);
/* The next completion, waited for; fails the test if none comes. */
struct nvme_cqe rig_wait(struct rig *r, struct rig_queue *q);
/* Submit and wait: the status without phase bit, and dword 0 (NULL: not asked for). */
uint16_t rig_exec(struct rig *r, struct rig_queue *q, const struct nvme_cmd *cmd,
                  uint32_t *ret_dw0);
#define rig_status(cqe) ((uint16_t)(le16_get((cqe).status) >> 1))

struct nvme_cmd rig_cmd(uint8_t opc, uint32_t nsid);
struct nvme_cmd rig_rw(uint8_t opc, uint32_t nsid, uint64_t lba, uint32_t blocks, uint64_t prp1,
                       uint64_t prp2);
#define DNR(sc) ((sc) | NVME_STATUS_DNR)

#endif
