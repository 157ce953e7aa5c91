/* SPDX-License-Identifier: BSD-3-Clause */
/* The NVMe hot path by itself: PRP lists of any place and size, ids, full and stopped queues, a
 * controller that answers out of order, twice, late and with nonsense, time, shadow doorbells. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"
#include "penstock/nvme_queue.h"

struct fix {
	struct pst_nvme_queue q;
	struct pst_nvme_queue_mem m;
	uint32_t entries;
	uint32_t sq_db, cq_db;
	uint32_t fetched, posted; /* the controller's */
};

static void fix_new(struct fix *f, uint32_t entries, uint32_t page_shift, uint32_t prp_bytes)
{
	size_t page = (size_t)1 << page_shift;

	*f = (struct fix){.entries = entries};
	f->m.sq = mem_alloc_aligned(4096, entries * sizeof(*f->m.sq));
	f->m.cq = mem_alloc_aligned(4096, entries * sizeof(*f->m.cq));
	f->m.slot = mem_calloc(entries, sizeof(*f->m.slot));
	if (prp_bytes)
		f->m.prp = mem_alloc_aligned(page, ALIGN_UP((size_t)entries * prp_bytes, page));
	f->m.prp_dma = (uintptr_t)f->m.prp;
	f->m.prp_bytes = prp_bytes;
	assert_int_equal(pst_nvme_queue_init(&f->q, 1, entries, page_shift, &f->m), 0);
	f->q.sq_doorbell = &f->sq_db;
	f->q.cq_doorbell = &f->cq_db;
}

static void fix_free(struct fix *f)
{
	mem_free(f->m.sq);
	mem_free(f->m.cq);
	mem_free(f->m.slot);
	mem_free(f->m.prp);
}

static void post(struct fix *f, uint16_t cid, uint16_t status)
{
	struct pst_nvme_cqe *e = &f->m.cq[f->posted & (f->entries - 1)];

	*e = (struct pst_nvme_cqe){.cid = cid,
	                           .dw0 = cid * 3u,
	                           .status = (uint16_t)(status << 1 | !(f->posted & f->entries))};
	f->posted++;
}

/* --- PRPs --- */

/* What a controller makes of a command's PRPs: every page's address, through all lists. */
static void prp_check(const struct pst_nvme_sqe *e, uint64_t dma, uint32_t bytes, uint64_t page)
{
	uint64_t at = dma, end = dma + bytes, in_page;
	const uint64_t *list;

	assert_int_equal(e->prp1, dma);
	at += page - at % page;
	if (at >= end) {
		assert_int_equal(e->prp2, 0);
		return;
	}
	if (end - at <= page) {
		assert_int_equal(e->prp2, at);
		return;
	}
	list = (const uint64_t *)(uintptr_t)e->prp2;
	assert_int_equal((uintptr_t)list % 8, 0);
	in_page = (page - (uintptr_t)list % page) / 8;
	while (at < end) {
		if (--in_page == 0 && end - at > page) {
			list = (const uint64_t *)(uintptr_t)*list;
			assert_int_equal((uintptr_t)list % page, 0);
			in_page = page / 8 - 1;
		}
		assert_int_equal(*list++, at);
		at += page;
	}
}

static void prp_try(struct fix *f, uint64_t dma, uint32_t bytes)
{
	struct pst_nvme_batch b;
	struct pst_nvme_reap r;
	struct pst_nvme_done d;
	struct pst_nvme_sqe *e;

	pst_nvme_batch_begin(&f->q, &b);
	e = b.next;
	assert_true(pst_nvme_batch_rw(&b, PST_NVME_OPC_READ, f, 1, 77, bytes / 4, dma, bytes, 0));
	pst_nvme_batch_end(&b);
	prp_check(e, dma, bytes, 1ull << f->q.page_shift);
	assert_int_equal(e->cdw12, bytes / 4 - 1);
	post(f, e->cid, 0);
	pst_nvme_reap_begin(&f->q, &r);
	assert_true(pst_nvme_reap_next(&r, &d));
	pst_nvme_reap_end(&r);
}

static void test_prp_any(void **state)
{
	static const struct {
		uint32_t page_shift, prp_bytes;
	} cases[] = {
	        {12, 64},       {12, 256},  {12, 2048}, {12, 4096},
	        {12, 3 * 4096}, {13, 8192}, {16, 512},  {16, 65536},
	};
	struct rng rng;

	rng_seed(&rng, 7);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		uint32_t shift = cases[i].page_shift, page = 1u << shift;
		struct fix f;
		uint64_t max;

		fix_new(&f, 16, shift, cases[i].prp_bytes);
		max = MIN(pst_nvme_queue_prp_max(&f.q), 0x80000000u);
		for (unsigned n = 0; n < 3000; n++) {
			uint64_t base = (1ull << 40) + (rng_next(&rng) & 0xffffff) * page;
			/* Around the edges as often as in between. */
			uint64_t off = n & 1 ? rng_below(&rng, page / 4) * 4 : page - 4 * (n % 5);
			uint64_t len = rng_below(&rng, max / 4) * 4 + 4;

			if (n % 3 == 0)
				len = MIN(max, page * (1 + n % 9) + 4 * (n % 3) - 4);
			else if (n % 7 == 0)
				len = max - 4 * (n % 3);
			prp_try(&f, base + off % page, (uint32_t)MIN(MAX(len, 4), max));
		}
		fix_free(&f);
	}
}

static void test_prp_max(void **state)
{
	struct fix f;

	fix_new(&f, 2, 12, 0);
	assert_int_equal(pst_nvme_queue_prp_max(&f.q), 4096);
	prp_try(&f, (1ull << 32) + 4092, 4096);
	fix_free(&f);
	fix_new(&f, 2, 12, 64);
	assert_int_equal(pst_nvme_queue_prp_max(&f.q), 8 * 4096);
	prp_try(&f, (1ull << 32) + 4092, 8 * 4096);
	fix_free(&f);
	fix_new(&f, 2, 12, 4096);
	assert_int_equal(pst_nvme_queue_prp_max(&f.q), 512 * 4096);
	prp_try(&f, (1ull << 32) + 4092, 512 * 4096);
	fix_free(&f);
	fix_new(&f, 2, 12, 8192);
	assert_int_equal(pst_nvme_queue_prp_max(&f.q), (2 * 511 + 1) * 4096);
	prp_try(&f, (1ull << 32) + 4092, (2 * 511 + 1) * 4096);
	fix_free(&f);
}

/* --- ids --- */

static void test_init_refuses(void **state)
{
	struct pst_nvme_queue q;
	struct pst_nvme_queue_mem m = {0};

	assert_int_equal(pst_nvme_queue_init(&q, 1, 0, 12, &m), -1);
	assert_int_equal(pst_nvme_queue_init(&q, 1, 1, 12, &m), -1);
	assert_int_equal(pst_nvme_queue_init(&q, 1, 48, 12, &m), -1);
	assert_int_equal(pst_nvme_queue_init(&q, 1, 8192, 12, &m), -1);
	assert_int_equal(pst_nvme_queue_init(&q, 1, 64, 11, &m), -1);
}

static unsigned submit(struct fix *f, unsigned count, uint16_t *cids)
{
	struct pst_nvme_batch b;
	unsigned n = 0;

	pst_nvme_batch_begin(&f->q, &b);
	assert_int_equal(pst_nvme_batch_room(&b), f->q.sq_mask ? f->q.mask - f->q.inflight : 0);
	for (; n < count; n++) {
		struct pst_nvme_sqe e = {.opc = 2, .nsid = n}, *at = b.next;

		if (!pst_nvme_batch_cmd(&b, (void *)(uintptr_t)(n + 1), &e, &cids[n]))
			break;
		assert_int_equal(at->cid, cids[n]);
	}
	pst_nvme_batch_end(&b);
	return n;
}

/* All slots, many rounds, completions in random order: each comes back once with its own argument;
 * ids are unique among those under way, and never FFFFh. */
static void test_out_of_order(void **state)
{
	struct rng rng;
	struct fix f;
	uint16_t cids[4096];
	uint64_t total = 0;

	rng_seed(&rng, 3);
	for (uint32_t entries = 2; entries <= 4096; entries *= 8) {
		fix_new(&f, entries, 12, 0);
		for (unsigned round = 0; round < 70; round++) {
			unsigned n = submit(&f, entries, cids), got = 0;
			struct pst_nvme_reap r;
			struct pst_nvme_done d;
			uint64_t sum = 0;

			assert_int_equal(n, entries - 1);
			assert_int_equal(pst_nvme_queue_inflight(&f.q), n);
			assert_int_equal(f.sq_db, (f.sq_db + entries) % entries);
			for (unsigned i = n; i; i--) {
				unsigned k = (unsigned)rng_below(&rng, i);

				assert_int_not_equal(cids[k], 0xffff);
				post(&f, cids[k], (uint16_t)(k & 1 ? 0x281 : 0));
				cids[k] = cids[i - 1];
			}
			assert_true(pst_nvme_reap_waits(&f.q));
			pst_nvme_reap_begin(&f.q, &r);
			while (pst_nvme_reap_next(&r, &d)) {
				sum += (uintptr_t)d.arg;
				assert_true(d.status == 0 || d.status == 0x281);
				got++;
			}
			assert_int_equal(pst_nvme_reap_end(&r), got);
			assert_int_equal(got, n);
			assert_int_equal(sum, (uint64_t)n * (n + 1) / 2);
			assert_int_equal(pst_nvme_queue_inflight(&f.q), 0);
			assert_int_equal(f.cq_db, f.posted % entries);
			assert_false(pst_nvme_reap_waits(&f.q));
			total += got;
		}
		assert_int_equal(f.q.bad_cids, 0);
		fix_free(&f);
	}
	assert_true(total > 80000);
}

static unsigned reap_all(struct fix *f)
{
	unsigned count = 0;

	while (pst_nvme_reap_waits(&f->q)) {
		struct pst_nvme_reap r;
		struct pst_nvme_done d;

		pst_nvme_reap_begin(&f->q, &r);
		while (pst_nvme_reap_next(&r, &d))
			count++;
		pst_nvme_reap_end(&r);
	}
	return count;
}

static void test_bad_ids(void **state)
{
	uint16_t cids[16], again[16];
	struct fix f;

	fix_new(&f, 16, 12, 0);
	assert_int_equal(submit(&f, 3, cids), 3);
	post(&f, cids[1], 0);
	post(&f, cids[1], 0);          /* twice */
	post(&f, 0xffff, 0);           /* reserved */
	post(&f, 9, 0);                /* nothing lives there */
	post(&f, cids[0] ^ 0x8000, 0); /* another generation */
	assert_int_equal(reap_all(&f), 1);
	assert_int_equal(f.q.bad_cids, 4);
	assert_int_equal(pst_nvme_queue_inflight(&f.q), 2);
	/* The slot is used again: the old id still means nothing. */
	assert_int_equal(submit(&f, 1, again), 1);
	assert_int_equal(again[0] & 15, cids[1] & 15);
	assert_int_not_equal(again[0], cids[1]);
	post(&f, cids[1], 0);
	assert_int_equal(reap_all(&f), 0);
	assert_int_equal(f.q.bad_cids, 5);
	post(&f, again[0], 0);
	post(&f, cids[0], 0);
	post(&f, cids[2], 0);
	assert_int_equal(reap_all(&f), 3);
	assert_int_equal(pst_nvme_queue_inflight(&f.q), 0);
	/* A ring full of nonsense ends, and is given back. */
	for (unsigned i = 0; i < 16; i++)
		post(&f, 3, 0);
	assert_int_equal(reap_all(&f), 0);
	assert_int_equal(f.cq_db, f.posted % 16);
	assert_int_equal(submit(&f, 16, cids), 15);
	fix_free(&f);
}

static void test_stop(void **state)
{
	uint16_t cids[8], more[8];
	struct fix f;

	fix_new(&f, 8, 12, 0);
	assert_int_equal(submit(&f, 4, cids), 4);
	pst_nvme_queue_stop(&f.q, true);
	assert_int_equal(submit(&f, 1, more), 0);
	for (unsigned i = 0; i < 4; i++)
		post(&f, cids[i], 0x371);
	assert_int_equal(reap_all(&f), 4);
	assert_int_equal(submit(&f, 1, more), 0);
	pst_nvme_queue_rewind(&f.q);
	f.posted = 0;
	pst_nvme_queue_stop(&f.q, false);
	assert_int_equal(submit(&f, 8, cids), 7);
	for (unsigned i = 0; i < 7; i++)
		post(&f, cids[i], 0);
	assert_int_equal(reap_all(&f), 7);
	fix_free(&f);
}

/* --- time --- */

static void test_ticks(void **state)
{
	uint16_t cids[8], late;
	uint32_t at;
	struct fix f;

	fix_new(&f, 8, 12, 0);
	f.q.timeout_ticks = 3;
	assert_int_equal(submit(&f, 1, cids), 1);
	for (unsigned tick = 1; tick <= 3; tick++) {
		at = 0;
		assert_false(pst_nvme_queue_tick(&f.q, &at, &late));
		if (tick == 2)
			assert_int_equal(submit(&f, 1, cids + 1), 1); /* younger */
	}
	at = 0;
	assert_true(pst_nvme_queue_tick(&f.q, &at, &late));
	assert_int_equal(late, cids[0]);
	assert_false(pst_nvme_queue_tick(&f.q, &at, &late));
	/* Its slot's next command begins anew. */
	post(&f, cids[0], 0);
	assert_int_equal(reap_all(&f), 1);
	assert_int_equal(submit(&f, 1, cids), 1);
	at = 0;
	assert_false(pst_nvme_queue_tick(&f.q, &at, &late));
	at = 0;
	assert_true(pst_nvme_queue_tick(&f.q, &at, &late));
	assert_int_equal(late, cids[1]);
	f.q.timeout_ticks = 0;
	for (unsigned tick = 0; tick < 10; tick++) {
		at = 0;
		assert_false(pst_nvme_queue_tick(&f.q, &at, &late));
	}
	fix_free(&f);
}

/* --- shadow doorbells --- */

static void test_shadow(void **state)
{
	uint32_t sq_shadow = 0, sq_event = 0, cq_shadow = 0, cq_event = 0;
	uint16_t cids[8];
	struct fix f;

	fix_new(&f, 8, 12, 0);
	f.q.sq_shadow = &sq_shadow;
	f.q.sq_eventidx = &sq_event;
	f.q.cq_shadow = &cq_shadow;
	f.q.cq_eventidx = &cq_event;
	sq_event = 1; /* wake me when entry 1 is there */
	submit(&f, 1, cids);
	assert_int_equal(sq_shadow, 1);
	assert_int_equal(f.sq_db, 0); /* not yet */
	submit(&f, 2, cids + 1);
	assert_int_equal(sq_shadow, 3);
	assert_int_equal(f.sq_db, 3); /* passed it */
	f.sq_db = 99;
	submit(&f, 2, cids + 3);
	assert_int_equal(sq_shadow, 5);
	assert_int_equal(f.sq_db, 99); /* it knows already */
	for (unsigned i = 0; i < 5; i++)
		post(&f, cids[i], 0);
	sq_event = 7;
	reap_all(&f);
	assert_int_equal(cq_shadow, 5);
	submit(&f, 4, cids); /* around the end: from 5 to 1, over 7 */
	assert_int_equal(sq_shadow, 1);
	assert_int_equal(f.sq_db, 1);
	fix_free(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_prp_any),      cmocka_unit_test(test_prp_max),
	        cmocka_unit_test(test_init_refuses), cmocka_unit_test(test_out_of_order),
	        cmocka_unit_test(test_bad_ids),      cmocka_unit_test(test_stop),
	        cmocka_unit_test(test_ticks),        cmocka_unit_test(test_shadow),
	};

	return cmocka_run_group_tests_name("nvme_queue", tests, NULL, NULL);
}
