/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The host driver on the controller model: attach, queues, admin commands, events; and what happens
 * when the controller drops, repeats, delays or mixes up completions, fails, or goes away. Data is
 * verified block by block through all of it: each block's content names its place and its write.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

#include "nvme/loop.h"

#define BLOCK  512u
#define BLOCKS 4096u
#define DEPTH  24u

struct fix {
	struct loop *loop;
	struct nvme_ctrlr *ctrlr;
	struct nvme_host *host;
	struct nvme_hq *hq;
	struct mem_region *mem;
	uint64_t dma;
	uint32_t generation[BLOCKS];
	bool busy[BLOCKS];
	struct rng rng;
	unsigned ok, again, aborted;
	int dead; /* the error that commands ended with */
};

/* A command of the load below. */
struct req {
	struct fix *f;
	uint32_t lba, blocks;
	uint32_t generation; /* a write's */
	bool write, sent, ended;
	unsigned slot; /* of DEPTH buffers */
	uint16_t status;
};

#define BUF_BYTES (16 * 1024u)

static void fix_open(struct fix *f, const char *device)
{
	struct bdev_open_opts bo = {0};
	struct nvme_transport *t = NULL;
	struct nvme_device d;
	struct pst_err err = {0};
	struct loop_opts lo;
	int rc;

	memset(f, 0, sizeof(*f));
	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = NSEC_PER_SEC;
	assert_int_equal(loop_new(&f->loop, &lo, NULL), 0);
	rc = nvme_device_parse(&d, &nvme_carrier_loop, device, &err);
	if (!rc)
		rc = nvme_loop_new(&t, &d, f->loop, &bo, &f->ctrlr, &err);
	if (!rc)
		rc = nvme_host_new(&f->host, t, &d.host, &err);
	if (rc)
		fail_msg("%s: %s", device, err.text);
	assert_int_equal(nvme_host_queue_new(f->host, NULL, &f->hq), 0);
	assert_int_equal(mem_region_new(&f->mem, MEM_HOST, DEPTH * BUF_BYTES), 0);
	assert_int_equal(t->ops->map(t, f->mem, &f->dma), 0);
	rng_seed(&f->rng, 11);
}

static void fix_close(struct fix *f)
{
	struct nvme_transport *t = f->host->t;

	nvme_host_queue_free(f->hq);
	t->ops->unmap(t, f->mem, f->dma);
	mem_region_free(f->mem);
	nvme_host_free(f->host);
	loop_free(f->loop);
}

/* --- a load that verifies what it reads --- */

static uint8_t *buffer(struct req *r)
{
	return (uint8_t *)r->f->mem->addr + (size_t)r->slot * BUF_BYTES;
}

static void fill(struct req *r)
{
	for (uint32_t i = 0; i < r->blocks; i++) {
		uint64_t *p = (uint64_t *)(void *)(buffer(r) + (size_t)i * BLOCK);

		for (unsigned k = 0; k < BLOCK / 8; k++)
			p[k] = hash_u64((uint64_t)(r->lba + i) << 32 | (r->generation + k));
	}
}

static void verify(struct req *r)
{
	for (uint32_t i = 0; i < r->blocks; i++) {
		const uint64_t *p = (const uint64_t *)(void *)(buffer(r) + (size_t)i * BLOCK);
		uint32_t g = r->f->generation[r->lba + i];

		for (unsigned k = 0; k < BLOCK / 8; k++) {
			uint64_t want = g ? hash_u64((uint64_t)(r->lba + i) << 32 | (g + k)) : 0;

			if (p[k] != want)
				fail_msg("block %u, word %u: wrong data", r->lba + i, k);
		}
	}
}

static bool req_range(struct req *r)
{
	struct fix *f = r->f;

	r->blocks = 1 + (uint32_t)rng_below(&f->rng, BUF_BYTES / BLOCK);
	r->lba = (uint32_t)rng_below(&f->rng, BLOCKS - r->blocks + 1);
	for (uint32_t i = 0; i < r->blocks; i++) {
		if (f->busy[r->lba + i])
			return false;
	}
	for (uint32_t i = 0; i < r->blocks; i++)
		f->busy[r->lba + i] = true;
	return true;
}

static void req_begin(struct req *r, uint32_t generation)
{
	while (!req_range(r))
		;
	r->write = rng_chance(&r->f->rng, 0.5);
	r->generation = generation * 1000;
	r->sent = r->ended = false;
	if (r->write)
		fill(r);
	else
		memset(buffer(r), 0xa5, (size_t)r->blocks * BLOCK);
}

static void req_end(struct req *r)
{
	struct fix *f = r->f;

	for (uint32_t i = 0; i < r->blocks; i++) {
		f->busy[r->lba + i] = false;
		if (r->write)
			f->generation[r->lba + i] = r->generation;
	}
	if (!r->write)
		verify(r);
	f->ok++;
}

static void send(struct fix *f, struct req *reqs)
{
	struct pst_nvme_batch b;

	pst_nvme_batch_begin(&f->hq->q, &b);
	for (unsigned i = 0; i < DEPTH; i++) {
		struct req *r = &reqs[i];

		if (r->sent)
			continue;
		r->sent = pst_nvme_batch_rw(
		        &b, r->write ? PST_NVME_OPC_WRITE : PST_NVME_OPC_READ, r, 1, r->lba,
		        r->blocks, f->dma + (uint64_t)r->slot * BUF_BYTES, r->blocks * BLOCK, 0);
	}
	pst_nvme_batch_end(&b);
}

static void receive(struct fix *f)
{
	struct pst_nvme_reap r;
	struct pst_nvme_done d;

	pst_nvme_reap_begin(&f->hq->q, &r);
	while (pst_nvme_reap_next(&r, &d)) {
		struct req *q = d.arg;

		assert_false(q->ended); /* each ends once */
		q->ended = true;
		q->status = d.status;
		f->again += nvme_status_retry(d.status);
		f->aborted += d.status == PST_NVME_STATUS_ABORTED;
	}
	pst_nvme_reap_end(&r);
}

/* @count commands end well, or the device is lost. */
static void load(struct fix *f, unsigned count)
{
	struct req reqs[DEPTH];
	uint32_t generation = 1;

	for (unsigned i = 0; i < DEPTH; i++) {
		reqs[i] = (struct req){.f = f, .slot = i};
		req_begin(&reqs[i], generation++);
	}
	for (unsigned turns = 0; f->ok < count && !f->dead; turns++) {
		assert_true(turns < 2000000);
		send(f, reqs);
		loop_turn(f->loop, NSEC_PER_SEC);
		receive(f);
		if (f->host->state == NVME_HOST_DEAD)
			f->dead = f->host->error;
		for (unsigned i = 0; i < DEPTH; i++) {
			struct req *r = &reqs[i];

			if (!r->ended)
				continue;
			if (!r->status) {
				req_end(r);
				req_begin(r, generation++);
			} else if (nvme_status_retry(r->status)) {
				r->sent = r->ended = false;
			} else {
				f->dead = f->dead ? f->dead : nvme_status_errno(r->status);
			}
		}
	}
	/* What is left ends, too. */
	for (unsigned turns = 0; pst_nvme_queue_inflight(&f->hq->q); turns++) {
		assert_true(turns < 2000000);
		loop_turn(f->loop, NSEC_PER_SEC);
		receive(f);
	}
	for (unsigned i = 0; i < DEPTH; i++) {
		for (uint32_t k = 0; k < reqs[i].blocks; k++)
			f->busy[reqs[i].lba + k] = false;
		if (reqs[i].sent && reqs[i].ended && !reqs[i].status)
			req_end(&reqs[i]);
	}
}

static const char *const plain[] = {
        "mem:2m?block=512",
        "mem:2m?block=512&sgl=0",
        "mem:2m?block=512&strict=1",
        "mem:2m?block=512&shadow=1",
        "fault:mem:2m?block=512&delay_us=50&delay_jitter_us=500",
};

static void test_load(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(plain); i++) {
		struct fix f;

		fix_open(&f, plain[i]);
		load(&f, 3000);
		assert_int_equal(f.dead, 0);
		assert_int_equal(f.again, 0);
		assert_int_equal(f.host->resets, 0);
		assert_int_equal(f.hq->q.bad_cids, 0);
		fix_close(&f);
	}
}

/* Each fault, and what the host makes of it. */
static void test_faults(void **state)
{
	static const struct {
		const char *plan;
		bool again, bad_cids, resets;
		int dead;
	} cases[] = {
	        {"dup:every=7", false, true, false, 0},
	        {"delay:every=11,ms=3", false, false, false, 0},
	        {"status:code=6,every=5", true, false, false, 0},
	        {"status:code=641,dnr=1,after=100", false, false, false, -EIO},
	        {"drop:every=200,count=4", true, false, true, 0},
	        {"cid:every=300,count=3", true, true, true, 0},
	        {"delay:every=400,count=4,ms=1200", true, false, false, 0}, /* aborted in time */
	        {"fatal:after=500", true, false, true, 0},
	        {"fatal:after=200,every=100,count=5", true, false, true, 0},
	        {"remove:after=300", false, false, false, -ENODEV},
	        {"link:after=300,ms=700", true, false, true, 0},
	        {"link:after=300,ms=5", true, false, true, 0}, /* up before anybody looked */
	        {"link:after=200,every=200,count=4,ms=400", true, false, true, 0},
	        {"link:q=0,op=8,ms=300;drop:every=400,count=2", true, false, true, 0},
	        {"link:after=300,ms=900000", true, false, true,
	         -EIO}, /* longer than it is waited for */
	        {"drop:q=0,op=8,count=2;drop:every=150,count=3", true, false, true, 0},
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct pst_err err = {0};
		struct fix f;

		fix_open(&f, "mem:2m?block=512&timeout=800&strict=1");
		assert_int_equal(nvme_ctrlr_faults(f.ctrlr, cases[i].plan, &err), 0);
		load(&f, 2500);
		if (f.dead != cases[i].dead || (f.again > 0) != cases[i].again ||
		    (f.hq->q.bad_cids > 0) != cases[i].bad_cids ||
		    (f.host->resets > 0) != cases[i].resets)
			fail_msg("%s: %d, %u again, %u bad ids, %u resets", cases[i].plan, f.dead,
			         f.again, f.hq->q.bad_cids, f.host->resets);
		assert_true(nvme_ctrlr_fault_hits(f.ctrlr, 0) > 0);
		if (!cases[i].dead)
			assert_true(f.ok >= 2500);
		fix_close(&f);
	}
}

/* A controller that never comes back is given up; everything that was under way ends. */
static void test_gives_up(void **state)
{
	struct pst_err err = {0};
	struct fix f;

	fix_open(&f, "mem:2m?block=512&timeout=800");
	assert_int_equal(nvme_ctrlr_faults(f.ctrlr, "drop:q=0;drop:after=50", &err), 0);
	load(&f, 2500);
	assert_int_equal(f.dead, -EIO);
	assert_int_equal(f.host->state, NVME_HOST_DEAD);
	assert_int_equal(nvme_host_admin(f.host, &(struct nvme_cmd){.opc = 6}, NULL, 0, NULL, NULL),
	                 -EIO);
	fix_close(&f);
}

/* A link that is down while the controller's device is at work: nobody is answered before that has
 * ended, whatever registers read as. */
static void test_link_in_flight(void **state)
{
	struct fix f;

	fix_open(&f, "fault:mem:2m?block=512&delay_us=900000&strict=1&timeout=3000");
	assert_int_equal(nvme_ctrlr_faults(f.ctrlr, "link:after=60,every=50,count=3,ms=1", NULL),
	                 0);
	load(&f, 300);
	assert_int_equal(f.dead, 0);
	assert_true(f.aborted > 0);
	assert_true(f.host->resets >= 3);
	fix_close(&f);
}

static void test_reset_in_flight(void **state)
{
	struct fix f;

	fix_open(&f, "fault:mem:2m?block=512&delay_us=900&strict=1");
	for (unsigned i = 1; i <= 20; i++) {
		load(&f, f.ok + 40);
		nvme_host_reset(f.host);
	}
	load(&f, f.ok + 100);
	assert_int_equal(f.dead, 0);
	assert_int_equal(f.host->resets, 20);
	/* H5: the controller itself ended what it had, before it was disabled. */
	assert_int_equal(f.aborted, 0);
	fix_close(&f);
}

/* A reset at any moment of another one, also between a command's making and its sending. */
static void test_reset_in_reset(void **state)
{
	struct fix f;

	fix_open(&f, "mem:2m?block=512&strict=1");
	for (unsigned turns = 0; turns < 60; turns++) {
		nvme_host_reset(f.host);
		for (unsigned i = 0; i < turns; i++)
			loop_turn(f.loop, 10000);
		f.host->t->failed = true;
		load(&f, f.ok + 10);
		assert_int_equal(f.dead, 0);
		for (unsigned i = 0; f.hq->state != HQ_LIVE; i++) {
			assert_true(i < 10000);
			loop_turn(f.loop, NSEC_PER_SEC);
		}
	}
	assert_true(f.host->resets > 60);
	fix_close(&f);
}

/* --- a transport that can reset the function, in front of the real one --- */

static struct {
	const struct nvme_transport_ops *real;
	bool never_disabled; /* CSTS.RDY stays, until the function is reset */
	unsigned resets;
	int reset_rc;
} shim;

static uint32_t shim_read32(struct nvme_transport *t, uint32_t off)
{
	uint32_t value = shim.real->read32(t, off);

	return off == NVME_REG_CSTS && shim.never_disabled ? value | NVME_CSTS_RDY : value;
}

static int shim_reset(struct nvme_transport *t)
{
	shim.resets++;
	if (!shim.reset_rc)
		shim.never_disabled = false;
	return shim.reset_rc;
}

/* Who asks for resets all the time gets some, and does not lose the device over it. */
static void test_resets_always(void **state)
{
	struct fix f;

	fix_open(&f, "mem:2m?block=512&strict=1");
	for (unsigned i = 0; i < 2000; i++) {
		nvme_host_reset(f.host);
		loop_turn(f.loop, 10000);
	}
	assert_int_not_equal(f.host->state, NVME_HOST_DEAD);
	assert_true(f.host->resets > 10);
	load(&f, 100);
	assert_int_equal(f.dead, 0);
	fix_close(&f);
}

/* A controller that does not get disabled is reset by the transport, once; else it is lost. */
static void test_stuck(void **state)
{
	static struct nvme_transport_ops ops;

	for (int round = 0; round < 3; round++) {
		struct fix f;

		fix_open(&f, "mem:2m?block=512");
		memset(&shim, 0, sizeof(shim));
		shim.real = f.host->t->ops;
		shim.reset_rc = round == 1 ? -EIO : 0;
		ops = *shim.real;
		ops.read32 = shim_read32;
		ops.reset = round == 2 ? NULL : shim_reset;
		f.host->t->ops = &ops;
		load(&f, 100);
		shim.never_disabled = true;
		nvme_host_reset(f.host);
		load(&f, f.ok + 100);
		assert_int_equal(f.dead, round ? -ETIMEDOUT : 0);
		assert_int_equal(shim.resets, round < 2);
		assert_int_equal(f.host->state, round ? NVME_HOST_DEAD : NVME_HOST_LIVE);
		shim.never_disabled = false;
		f.host->t->ops = shim.real;
		fix_close(&f);
	}
}

/* A transport that says that its device is gone: everything ends, at once. */
static void test_gone(void **state)
{
	struct fix f;

	fix_open(&f, "fault:mem:2m?block=512&delay_us=900");
	load(&f, 100);
	f.host->t->gone = true;
	load(&f, f.ok + 10000);
	assert_int_equal(f.dead, -ENODEV);
	/* What the controller had on its device is over, too: memory may be freed. */
	fix_close(&f);
}

/* --- attach, admin, queues --- */

static void test_identify(void **state)
{
	struct pst_nvme_namespace ns;
	struct nvme_hq *more[2];
	struct fix f;

	fix_open(&f, "mem:2m?block=512&mdts=64k");
	assert_int_equal(f.host->io_max_bytes, 65536);
	assert_int_equal(nvme_host_namespace(f.host, 1, &ns), 0);
	assert_int_equal(ns.block_bytes, 512);
	assert_int_equal(ns.blocks, BLOCKS);
	assert_int_equal(nvme_host_namespace(f.host, 2, &ns), -ENOENT);
	assert_int_equal(nvme_host_namespace(f.host, 0, &ns), -ENOENT);
	assert_int_equal(nvme_host_queue_new(f.host, NULL, &more[0]), 0);
	assert_int_equal(more[0]->q.qid, 2);
	assert_int_equal(nvme_host_queue_new(f.host, NULL, &more[1]), 0);
	nvme_host_queue_free(more[0]);
	assert_int_equal(nvme_host_queue_new(f.host, NULL, &more[0]), 0);
	assert_int_equal(more[0]->q.qid, 2); /* free again, here and on the controller */
	nvme_host_queue_free(more[0]);
	nvme_host_queue_free(more[1]);
	fix_close(&f);
}

static void test_admin_status(void **state)
{
	struct nvme_cmd bad = {.opc = 0x7e}, id = {.opc = NVME_ADMIN_IDENTIFY};
	uint8_t page[4096];
	uint16_t status = 0;
	struct fix f;

	fix_open(&f, "mem:2m?block=512");
	assert_int_equal(nvme_host_admin(f.host, &bad, NULL, 0, NULL, &status), -ENOTSUP);
	assert_int_equal(NVME_STATUS_CODE(status), NVME_SC_INVALID_OPCODE);
	id.cdw10 = NVME_CNS_CTRLR;
	assert_int_equal(nvme_host_admin(f.host, &id, page, sizeof(page), NULL, NULL), 0);
	assert_memory_equal(page, f.host->id, 4096);
	assert_int_equal(nvme_host_admin(f.host, &id, page, 8192, NULL, NULL), -EINVAL);
	fix_close(&f);
}

static unsigned events;
static uint32_t last_event;

static void event(void *arg, uint32_t dw0)
{
	events++;
	last_event = dw0;
}

/* An ANA change is told, again and again: reading the log arms the next event. Also after a reset. */
static void test_events(void **state)
{
	struct fix f;

	fix_open(&f, "mem:2m?block=512");
	f.host->event_fn = event;
	for (unsigned i = 0; i < 6; i++) {
		events = 0;
		if (i == 3) {
			nvme_host_reset(f.host);
			for (unsigned n = 0; n < 5000 && f.host->resets == 0; n++)
				loop_turn(f.loop, NSEC_PER_MSEC);
			load(&f, f.ok + 10);
		}
		assert_int_equal(
		        nvme_ctrlr_ana_set(f.ctrlr, 1,
		                           i & 1 ? NVME_ANA_OPTIMIZED : NVME_ANA_NON_OPTIMIZED),
		        0);
		for (unsigned n = 0; n < 5000 && !events; n++)
			loop_turn(f.loop, NSEC_PER_MSEC);
		assert_int_equal(events, 1);
		assert_int_equal(NVME_EVENT_TYPE(last_event), NVME_EVENT_NOTICE);
		assert_int_equal(NVME_EVENT_PAGE(last_event), NVME_LOG_ANA);
	}
	fix_close(&f);
}

/* --- what an operator hears of ANA --- */

static char said[2048];

static void keep(void *arg, enum pst_log_level level, const char *line)
{
	size_t n = strlen(said);

	(void)snprintf(said + n, sizeof(said) - n, "%s\n", line);
}

struct ana_page {
	struct nvme_ana_log log;
	struct nvme_ana_group group[100];
	uint8_t rest[4096];
};

static void ana_add(struct ana_page *p, uint32_t first, uint32_t last, unsigned state)
{
	for (uint32_t g = first; g <= last; g++) {
		unsigned n = le16_get(p->log.groups);

		p->group[n] =
		        (struct nvme_ana_group){.group = le32_make(g), .state = (uint8_t)state};
		p->log.groups = le16_make((uint16_t)(n + 1));
	}
}

/* Learns what is on @p, and forgets it; the host has to say @want. */
static void ana_hears(struct fix *f, struct ana_page *p, const char *want)
{
	said[0] = 0;
	host_ana_learn(f->host, p);
	memset(p, 0, sizeof(*p));
	if (strcmp(said, want) != 0)
		fail_msg("it says\n%snot\n%s", said, want);
}

/* However many groups change at a time, each is told of; a controller that talks all the time is not followed,
 * and what it left is made up for. */
static void test_ana_told(void **state)
{
	static struct ana_page p;
	struct fix f;

	fix_open(&f, "mem:2m?block=512");
	pst_log_set(keep, NULL, PST_LOG_WARN);
	assert_int_equal(le16_get(f.host->id->cntlid), 1);
#define LINE(rest) "nvme: controller 1: " rest "\n"
	ana_add(&p, 1, 5, NVME_ANA_INACCESSIBLE);
	ana_add(&p, 9, 9, NVME_ANA_CHANGING);
	ana_add(&p, 10, 11, NVME_ANA_OPTIMIZED);
	ana_add(&p, 126, 126, NVME_ANA_INACCESSIBLE);
	ana_add(&p, 7, 7, NVME_ANA_INACCESSIBLE);
	ana_hears(&f, &p,
	          LINE("groups 1-5, 7, 126: the namespace is inaccessible this way (ANA)")
	                  LINE("group 9: this way to the namespace is about to change (ANA)"));
	ana_add(&p, 1, 2, NVME_ANA_INACCESSIBLE); /* no news */
	ana_hears(&f, &p, "");
	ana_add(&p, 2, 3, NVME_ANA_NON_OPTIMIZED);
	ana_hears(&f, &p, LINE("groups 2-3: accessible again (ANA)"));
	ana_add(&p, 4, 4, NVME_ANA_OPTIMIZED); /* too often, */
	ana_add(&p, 5, 5, NVME_ANA_OPTIMIZED);
	ana_add(&p, 20, 20, NVME_ANA_PERSISTENT_LOSS);
	ana_hears(&f, &p, "");
	ana_add(&p, 5, 5, NVME_ANA_INACCESSIBLE); /* and this is as it was */
	ana_hears(&f, &p, "");
	for (unsigned i = 0; i < 20; i++)
		loop_turn(f.loop, 100 * NSEC_PER_MSEC);
	ana_add(&p, 1, 1, NVME_ANA_INACCESSIBLE);
	ana_hears(&f, &p,
	          LINE("group 4: accessible again (ANA)")
	                  LINE("group 20: this way to the namespace is lost for good (ANA)"));
#undef LINE
	/* The longest that a line gets. */
	for (unsigned i = 0; i < 20; i++)
		loop_turn(f.loop, 100 * NSEC_PER_MSEC);
	for (uint32_t g = 22; g < 126; g += 2)
		ana_add(&p, g, g, NVME_ANA_INACCESSIBLE);
	host_ana_learn(f.host, &p);
	assert_non_null(strstr(said, "22, 24, 26, "));
	assert_non_null(strstr(said, "122, 124: the namespace is inaccessible"));
	pst_log_set(NULL, NULL, PST_LOG_WARN);
	fix_close(&f);
}

static void test_status_errno(void **state)
{
	assert_int_equal(nvme_status_errno(0), 0);
	assert_int_equal(nvme_status_errno(NVME_SC_READ_ERROR), -EIO);
	assert_int_equal(nvme_status_errno(NVME_SC_COMPARE), -EILSEQ);
	assert_int_equal(nvme_status_errno(NVME_SC_CAPACITY), -ENOSPC);
	assert_int_equal(nvme_status_errno(NVME_SC_NS_PROTECTED), -EROFS);
	assert_int_equal(nvme_status_errno(NVME_SC_LBA_RANGE), -EINVAL);
	assert_int_equal(nvme_status_errno(PST_NVME_STATUS_ABORTED), -EAGAIN);
	assert_int_equal(nvme_status_errno(PST_NVME_STATUS_GONE), -ENODEV);
	assert_true(nvme_status_retry(PST_NVME_STATUS_ABORTED));
	assert_false(nvme_status_retry(PST_NVME_STATUS_GONE));
	assert_true(nvme_status_retry(NVME_SC_ABORTED));
	assert_false(nvme_status_retry(NVME_SC_INTERNAL | NVME_STATUS_DNR));
	/* Every status there is has an answer; only success is 0. */
	for (unsigned s = 1; s < 0x800; s++)
		assert_true(nvme_status_errno((uint16_t)s) < 0);
}

/* The flags of the mapping that @addr lies in, as /proc has them; "": it says nothing of flags. */
static void mapping_flags(const void *addr, char *ret_flags, size_t size)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long first, last;
	bool in = false;
	char line[512];

	*ret_flags = '\0';
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &first, &last) == 2)
			in = first <= (uintptr_t)addr && (uintptr_t)addr < last;
		else if (in && !strncmp(line, "VmFlags:", 8))
			snprintf(ret_flags, size, "%s", line + 8);
	}
	fclose(f);
}

/* Queues lie in no huge page, so that no payload can lie in the same one. */
static void test_apart(void **state)
{
	char flags[512], payload[512];
	struct fix f;

	fix_open(&f, "mem:2m?block=512");
	mapping_flags(f.mem->addr, payload, sizeof(payload));
	mapping_flags(f.hq->q.sq, flags, sizeof(flags));
	if (!access("/sys/kernel/mm/transparent_hugepage", F_OK) && flags[0]) {
		assert_non_null(strstr(flags, " nh"));
		assert_null(strstr(payload, " nh"));
	}
	fix_close(&f);
}

/* --- the public interface --- */

static void test_public(void **state)
{
	struct pst_nvme_queue_opts qo;
	struct pst_nvme_queue *q = NULL, *own = NULL;
	struct pst_nvme_queue_mem m = {0};
	struct pst_nvme_info info;
	struct pst_nvme *n = NULL;
	struct pst_err err = {0};
	void *ring = NULL;
	uint64_t dma = 0;

	assert_int_equal(pst_nvme_open(&n, "rfc1149:pigeon", NULL, &err), -EINVAL);
	assert_int_equal(pst_nvme_open(&n, "pcie:ffff:ff:1f.7", NULL, &err), -ENOENT);
	assert_int_equal(pst_nvme_open(&n, "loop:no body", NULL, &err), -EINVAL);
	setenv("PENSTOCK_RUN_DIR", "/nonexistent", 1);
	assert_int_equal(pst_nvme_open(&n, "loop:nobody", NULL, &err), -ENOENT);
	assert_null(n);
	assert_int_equal(pst_nvme_open(&n, "loop:mem:4m?block=4096", NULL, &err), 0);
	pst_nvme_info(n, &info);
	assert_true(info.live);
	assert_int_equal(info.page_bytes, 4096);
	assert_true(strlen(info.model) > 0);
	assert_int_equal(pst_nvme_queue_new(n, NULL, &q), 0);
	/* A queue in memory of the caller's. */
	assert_int_equal(pst_nvme_mem_alloc(n, 8192, &ring, &dma), 0);
	pst_nvme_queue_opts_default(&qo);
	m.sq = ring;
	m.cq = (struct pst_nvme_cqe *)((char *)ring + 4096);
	qo.mem = &m;
	qo.sq_dma = dma;
	qo.cq_dma = dma + 4096;
	qo.entries = 48; /* no power of two */
	assert_int_equal(pst_nvme_queue_new(n, &qo, &own), -EINVAL);
	qo.entries = 32;
	assert_int_equal(pst_nvme_queue_new(n, &qo, &own), 0);
	assert_ptr_equal(own->sq, ring);
	pst_nvme_queue_free(n, own);
	pst_nvme_queue_free(n, q);
	assert_int_equal(pst_nvme_mem_free(n, (char *)ring + 1), -EINVAL);
	assert_int_equal(pst_nvme_mem_free(n, ring), 0);
	pst_nvme_close(n);
	pst_nvme_close(NULL);
}

static void say(void *arg, enum pst_log_level level, const char *line)
{
	fprintf(stderr, "# %s\n", line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_load),          cmocka_unit_test(test_faults),
	        cmocka_unit_test(test_gives_up),      cmocka_unit_test(test_reset_in_flight),
	        cmocka_unit_test(test_identify),      cmocka_unit_test(test_admin_status),
	        cmocka_unit_test(test_events),        cmocka_unit_test(test_status_errno),
	        cmocka_unit_test(test_resets_always), cmocka_unit_test(test_reset_in_reset),
	        cmocka_unit_test(test_stuck),         cmocka_unit_test(test_gone),
	        cmocka_unit_test(test_public),        cmocka_unit_test(test_link_in_flight),
	        cmocka_unit_test(test_apart),         cmocka_unit_test(test_ana_told),
	};

	if (getenv("PST_TEST_LOG"))
		pst_log_set(say, NULL, PST_LOG_DEBUG);
	return cmocka_run_group_tests_name("nvme_host", tests, NULL, NULL);
}
