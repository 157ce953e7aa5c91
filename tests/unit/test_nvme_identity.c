/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whether what comes back is what was there: identities as they are read and compared, and a host
 * whose controller answers, after a reset, for another namespace or another subsystem. It must be
 * dead before a command of the caller's goes there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "nvme/ctrlr_int.h"
#include "nvme/loop.h"

struct fix {
	struct loop *loop;
	struct nvme_ctrlr *ctrlr;
	struct nvme_host *host;
	struct nvme_hq *hq;
	struct pst_nvme_namespace ns;
};

static void fix_open(struct fix *f)
{
	struct bdev_open_opts bo = {0};
	struct nvme_transport *t;
	struct nvme_device d;
	struct loop_opts lo;

	memset(f, 0, sizeof(*f));
	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = NSEC_PER_SEC;
	assert_int_equal(loop_new(&f->loop, &lo, NULL), 0);
	assert_int_equal(nvme_device_parse(&d, &nvme_carrier_loop, "mem:2m?block=512", NULL), 0);
	assert_int_equal(nvme_loop_new(&t, &d, f->loop, &bo, &f->ctrlr, NULL), 0);
	assert_int_equal(nvme_host_new(&f->host, t, &d.host, NULL), 0);
	assert_int_equal(nvme_host_queue_new(f->host, NULL, &f->hq), 0);
	assert_int_equal(nvme_host_namespace(f->host, 1, &f->ns), 0);
}

static void fix_close(struct fix *f)
{
	nvme_host_queue_free(f->hq);
	nvme_host_free(f->host);
	loop_free(f->loop);
}

/* A flush of the caller's, put into the queue if it takes one: its status, or -1 when it can't go. */
static int flush(struct fix *f)
{
	struct pst_nvme_sqe e = {.opc = NVME_IO_FLUSH, .nsid = le32_make(1)};
	struct pst_nvme_batch b;
	struct pst_nvme_reap r;
	struct pst_nvme_done d;
	bool sent, came = false;

	pst_nvme_batch_begin(&f->hq->q, &b);
	sent = !pst_nvme_batch_full(&b);
	if (sent)
		pst_nvme_batch_cmd(&b, f, &e, NULL);
	pst_nvme_batch_end(&b);
	for (unsigned n = 0; sent && !came && n < 10000; n++) {
		loop_turn(f->loop, NSEC_PER_MSEC);
		pst_nvme_reap_begin(&f->hq->q, &r);
		came = pst_nvme_reap_next(&r, &d);
		pst_nvme_reap_end(&r);
	}
	return came ? d.status : -1;
}

/* Resets, and goes on until that is over. */
static void reset(struct fix *f)
{
	unsigned before = f->host->resets;

	nvme_host_reset(f->host);
	for (unsigned n = 0; n < 20000; n++) {
		loop_turn(f->loop, NSEC_PER_MSEC);
		if (f->host->state == NVME_HOST_DEAD)
			return;
		if (f->host->resets != before && f->host->state == NVME_HOST_LIVE &&
		    f->hq->state == HQ_LIVE)
			return;
	}
	fail_msg("neither live nor dead");
}

static void lives(struct fix *f)
{
	reset(f);
	assert_int_equal(f->host->state, NVME_HOST_LIVE);
	assert_int_equal(flush(f), 0);
	fix_close(f);
}

static void dies(struct fix *f)
{
	reset(f);
	assert_int_equal(f->host->state, NVME_HOST_DEAD);
	assert_int_equal(f->host->error, -ENODEV);
	assert_int_equal(flush(f), -1);
	fix_close(f);
}

static void test_reset(void **state)
{
	struct fix f;
	struct nvme_ns *ns;

	fix_open(&f);
	lives(&f);
	fix_open(&f);
	f.ctrlr->subsys->ns[0]->blocks += 8; /* grown */
	lives(&f);
	fix_open(&f);
	f.ctrlr->subsys->ns[0]->blocks -= 8;
	dies(&f);
	fix_open(&f);
	f.ctrlr->subsys->ns[0]->lba_shift = 12;
	dies(&f);
	fix_open(&f);
	f.ctrlr->subsys->ns[0]->uuid[15] ^= 1;
	dies(&f);
	fix_open(&f);
	f.ctrlr->subsys->serial[19] = 'x';
	dies(&f);
	fix_open(&f);
	f.ctrlr->subsys->nqn[0] = 'x';
	dies(&f);
	fix_open(&f);
	ns = f.ctrlr->subsys->ns[0];
	f.ctrlr->subsys->ns[0] = NULL; /* no such namespace */
	reset(&f);
	f.ctrlr->subsys->ns[0] = ns;
	assert_int_equal(f.host->state, NVME_HOST_DEAD);
	fix_close(&f);
}

/* The host is held to the namespaces that it was told of, and to no others. */
static void test_told(void **state)
{
	struct fix f;

	fix_open(&f);
	nvme_identities_free(f.host);
	f.ctrlr->subsys->ns[0]->uuid[15] ^= 1;
	reset(&f);
	assert_int_equal(f.host->state, NVME_HOST_LIVE);
	assert_int_equal(nvme_host_namespace(f.host, 1, &f.ns), 0);
	f.ctrlr->subsys->ns[0]->uuid[15] ^= 1;
	assert_int_equal(nvme_host_namespace(f.host, 1, &f.ns), 0); /* asked again: that one */
	lives(&f);
}

/* A controller that says that namespaces have changed is asked, without a reset. */
static void test_changed(void **state)
{
	for (unsigned other = 0; other < 2; other++) {
		struct nvme_ns *ns;
		struct fix f;

		fix_open(&f);
		ns = f.ctrlr->subsys->ns[0];
		ns->blocks += 8;
		ns->uuid[3] ^= (uint8_t)other;
		ns_changed(ns, NULL);
		for (unsigned n = 0; n < 100; n++)
			loop_turn(f.loop, NSEC_PER_MSEC);
		assert_int_equal(f.host->resets, 0);
		assert_int_equal(f.host->state, other ? NVME_HOST_DEAD : NVME_HOST_LIVE);
		assert_int_equal(flush(&f), other ? -1 : 0);
		fix_close(&f);
	}
}

/* Where the ANA state lets a controller hide what a namespace is, that is no loss. */
static void test_hidden(void **state)
{
	struct nvme_ns *ns;
	struct fix f;

	fix_open(&f);
	assert_int_equal(nvme_ctrlr_ana_set(f.ctrlr, 1, NVME_ANA_INACCESSIBLE), 0);
	ns = f.ctrlr->subsys->ns[0];
	ns->blocks = 0;
	reset(&f);
	assert_int_equal(f.host->state, NVME_HOST_LIVE);
	assert_int_equal(nvme_ctrlr_ana_set(f.ctrlr, 1, NVME_ANA_OPTIMIZED), 0);
	reset(&f);
	assert_int_equal(f.host->state, NVME_HOST_DEAD);
	fix_close(&f);
}

/* --- reading what a controller says --- */

static const uint8_t id16[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static void test_descriptors(void **state)
{
	uint8_t page[NVME_IDENTIFY_BYTES] = {NVME_NIDT_UUID, 16}, all[NVME_IDENTIFY_BYTES];
	struct nvme_identity i = {0}, was;
	struct rng rng;

	memcpy(page + 4, id16, 16);
	page[20] = NVME_NIDT_EUI64;
	page[21] = 8;
	page[24] = 77;
	page[32] = NVME_NIDT_NGUID; /* of a length that it can't have */
	page[33] = 8;
	nvme_identity_take_ids(&i, page);
	assert_memory_equal(i.uuid, id16, 16);
	assert_int_equal(i.eui64[0], 77);
	assert_int_equal(i.nguid[0], 0);
	memset(all, NVME_NIDT_UUID, sizeof(all)); /* lengths that lead past the end */
	was = i;
	all[4092] = all[4093] = 16;
	nvme_identity_take_ids(&i, all);
	assert_memory_equal(&i, &was, sizeof(i));
	rng_seed(&rng, 3);
	for (unsigned n = 0; n < 2000; n++) {
		for (unsigned k = 0; k < sizeof(all); k++)
			all[k] = (uint8_t)rng_below(&rng, n % 2 ? 5 : 256);
		nvme_identity_take(&i, 1, all);
		nvme_identity_take_ids(&i, all);
		nvme_identity_text((char *)page, sizeof(page), &i);
	}
}

static void test_text(void **state)
{
	struct nvme_identity i = {
	        .nsid = NVME_NSID_ALL, .block_bytes = 1u << 31, .blocks = UINT64_MAX};
	struct nvme_id_ctrlr id = {0};
	char text[NVME_IDENTITY_TEXT];

	memset(i.nguid, 0xff, sizeof(i.nguid));
	memset(i.eui64, 0xff, sizeof(i.eui64));
	memset(i.uuid, 0xfe, sizeof(i.uuid));
	nvme_identity_text(text, sizeof(text), &i);
	assert_non_null(strstr(text, "UUID fefefefefefefefefefefefefefefefe"));
	memset(id.subnqn, 'n', sizeof(id.subnqn));
	memset(id.sn, '\n', sizeof(id.sn));
	nvme_ctrlr_text(text, sizeof(text), &id);
	assert_non_null(strstr(text, "number ????????????????????"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_reset),       cmocka_unit_test(test_told),
	        cmocka_unit_test(test_changed),     cmocka_unit_test(test_hidden),
	        cmocka_unit_test(test_descriptors), cmocka_unit_test(test_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
