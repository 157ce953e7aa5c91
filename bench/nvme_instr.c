/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The NVMe hot path against a controller that does nothing: it takes what was rung for and answers
 * each command with success, in an order of its own. bench/nvme-instr runs it under callgrind and
 * counts nb_submit() and nb_reap(): building, arming the timeout, ringing, reaping; the calls' own
 * prologues and the request's fields are in it.
 *
 *   nvme_instr BATCH BYTES OPS [sgl]
 */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/base.h"
#include "penstock/nvme_queue.h"

#define ENTRIES    256u
#define PAGE_SHIFT 12
#define NSID       1u

struct request {
	uint64_t lba, dma;
	bool done;
};

static struct pst_nvme_queue q;
static struct pst_nvme_rw rw;
static struct request requests[ENTRIES];
static struct request *ready[ENTRIES]; /* what may be submitted */
static unsigned ready_count;
static volatile uint32_t doorbell[2];
static bool use_sgl;

/* --- what is counted --- */

__attribute__((noinline)) void nb_submit(unsigned count);
__attribute__((noinline)) void nb_submit_one(struct request *r);
__attribute__((noinline)) unsigned nb_reap(void);
__attribute__((noinline)) struct request *nb_reap_one(void);
__attribute__((noinline)) unsigned nb_tick(void);

void nb_submit(unsigned count)
{
	struct pst_nvme_batch b;
	struct request **next = ready + ready_count, **stop;

	pst_nvme_batch_begin(&q, &b);
	count = MIN(count, pst_nvme_batch_room(&b));
	ready_count -= count;
	for (stop = next - count; next != stop;) {
		struct request *r = *--next;

		pst_nvme_batch_put(&b, &rw, r, r->lba, r->dma);
	}
	pst_nvme_batch_end(&b);
}

/* One command, as a caller without a batch would. */
void nb_submit_one(struct request *r)
{
	struct pst_nvme_batch b;

	pst_nvme_batch_begin(&q, &b);
	if (!pst_nvme_batch_full(&b))
		pst_nvme_batch_put(&b, &rw, r, r->lba, r->dma);
	pst_nvme_batch_end(&b);
}

unsigned nb_reap(void)
{
	struct pst_nvme_reap r;
	struct pst_nvme_done d;
	struct request **next = ready + ready_count;
	unsigned failed = 0;

	pst_nvme_reap_begin(&q, &r);
	while (pst_nvme_reap_next(&r, &d)) {
		failed += d.status != 0;
		*next++ = d.arg;
	}
	ready_count += pst_nvme_reap_end(&r);
	return failed;
}

/* One completion, or NULL. */
struct request *nb_reap_one(void)
{
	struct pst_nvme_reap r;
	struct pst_nvme_done d = {0};
	struct request *found = NULL;

	pst_nvme_reap_begin(&q, &r);
	if (pst_nvme_reap_next(&r, &d) && !d.status)
		found = d.arg;
	pst_nvme_reap_end(&r);
	return found;
}

unsigned nb_tick(void)
{
	unsigned late = 0;
	uint32_t at = 0;
	uint16_t cid;

	while (pst_nvme_queue_tick(&q, &at, &cid))
		late++;
	return late;
}

/* --- the controller that does nothing --- */

static struct {
	uint32_t sq_head, cq_tail;
	uint16_t pending[ENTRIES];
	unsigned count;
	struct rng rng;
} null;

static void null_fetch(uint64_t want_list)
{
	while (null.sq_head != doorbell[0]) {
		const struct pst_nvme_sqe *e = &q.sq[null.sq_head];

		if (e->opc != PST_NVME_OPC_READ || e->nsid != NSID || (want_list && !e->prp2))
			abort();
		null.pending[null.count++] = e->cid;
		null.sq_head = (null.sq_head + 1) & (ENTRIES - 1);
	}
}

static void null_answer(void)
{
	while (null.count) {
		unsigned i = (unsigned)rng_below(&null.rng, null.count);
		struct pst_nvme_cqe *e = &q.cq[null.cq_tail & (ENTRIES - 1)];

		e->sqhd = (uint16_t)null.sq_head;
		e->cid = null.pending[i];
		__atomic_store_n(&e->status, null.cq_tail & ENTRIES ? 0 : 1, __ATOMIC_RELEASE);
		null.pending[i] = null.pending[--null.count];
		null.cq_tail++;
	}
}

/* --- */

static int setup(uint64_t bytes)
{
	struct pst_nvme_queue_mem m = {.sq = mem_alloc_aligned(4096, ENTRIES * 64),
	                               .cq = mem_alloc_aligned(4096, ENTRIES * 16),
	                               .slot = mem_calloc(ENTRIES, sizeof(struct pst_nvme_slot)),
	                               .prp = mem_alloc_aligned(4096, ENTRIES * 4096),
	                               .prp_bytes = 4096};

	if (!m.sq || !m.cq || !m.slot || !m.prp)
		return -ENOMEM;
	m.prp_dma = (uint64_t)(uintptr_t)m.prp;
	if (pst_nvme_queue_init(&q, 1, ENTRIES, PAGE_SHIFT, &m))
		return -EINVAL;
	q.sq_doorbell = &doorbell[0];
	q.cq_doorbell = &doorbell[1];
	q.timeout_ticks = 300;
	pst_nvme_rw_init(&rw, &q, PST_NVME_OPC_READ, NSID, (uint32_t)(bytes / 512), (uint32_t)bytes,
	                 0);
	rng_seed(&null.rng, 1);
	for (unsigned i = 0; i < ENTRIES - 1; i++) {
		requests[i] = (struct request){.lba = 1000 + i, .dma = (1ull << 40) + i * bytes};
		ready[ready_count++] = &requests[i];
	}
	return 0;
}

int main(int argc, char **argv)
{
	unsigned batch = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 32;
	uint32_t bytes = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 512;
	uint64_t ops = argc > 3 ? strtoull(argv[3], NULL, 10) : 100000, done = 0;
	unsigned bad = 0;

	use_sgl = argc > 4;
	if (!batch || batch >= ENTRIES || bytes < 512 || bytes % 512 || bytes > 512 * 4096) {
		fprintf(stderr, "usage: nvme_instr BATCH BYTES OPS\n");
		return 2;
	}
	if (setup(bytes)) {
		fprintf(stderr, "nvme_instr: no memory\n");
		return 1;
	}
	while (done < ops) {
		if (batch == 1)
			nb_submit_one(ready[--ready_count]);
		else
			nb_submit(batch);
		null_fetch(bytes > 8192);
		null_answer();
		if (batch > 1)
			bad += nb_reap();
		else if (!(ready[ready_count++] = nb_reap_one()))
			return 1;
		done += batch;
		/* A tick stands for 100 ms, in which a slow queue does 10000 reads. */
		if (done / 10000 != (done - batch) / 10000)
			bad += nb_tick();
	}
	if (bad || q.bad_cids || pst_nvme_queue_inflight(&q) || ready_count != ENTRIES - 1) {
		fprintf(stderr, "nvme_instr: %u failed, %u strange ids\n", bad, q.bad_cids);
		return 1;
	}
	printf("{\"ops\": %" PRIu64 "}\n", done);
	return 0;
}
