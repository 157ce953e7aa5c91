/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * perf_dev - the two kinds of device that perf drives: any block device, by its requests; and NVMe
 * ("nvme+...:"), by its queues themselves, with nothing in between but the inline hot path.
 */
#include "cli/perf.h"

#include <unistd.h>

/* --- opening --- */

static int open_nvme(struct perf_dev *d)
{
	struct cli *cli = d->perf->cli;
	const struct perf_params *p = &d->perf->p;
	struct pst_nvme_queue_opts qo;
	struct pst_nvme_info info;
	struct pst_err err = {0};
	int rc = pst_nvme_open(&d->nvme, d->name, NULL, &err);

	if (rc)
		return cli_fail(cli, 0, "%s: %s", d->name, err.text);
	pst_nvme_info(d->nvme, &info);
	rc = pst_nvme_namespace(d->nvme, info.nsid, &d->ns);
	if (rc)
		return cli_fail(cli, rc, "%s: namespace %u", d->name, info.nsid);
	if (p->iosize > info.io_max_bytes)
		return cli_fail(cli, 0, "%s: takes %u bytes in one command, --iosize is more",
		                d->name, info.io_max_bytes);
	if (p->queues > info.queues_max)
		return cli_fail(cli, 0, "%s: has %u queues", d->name, info.queues_max);
	pst_nvme_queue_opts_default(&qo);
	qo.entries = PST_NVME_ENTRIES_MIN;
	while (qo.entries <= p->qdepth)
		qo.entries *= 2;
	if (qo.entries > info.entries_max)
		return cli_fail(cli, 0, "%s: has queues of %u commands", d->name,
		                info.entries_max - 1);
	for (unsigned i = 0; i < p->queues; i++) {
		rc = pst_nvme_queue_new(d->nvme, &qo, &d->queues[i].nvme);
		if (rc)
			return cli_fail(cli, rc, "%s: queue %u", d->name, i + 1);
	}
	d->size_bytes = d->ns.blocks * d->ns.block_bytes;
	d->align = d->ns.block_bytes;
	return CLI_OK;
}

static int open_bdev(struct perf_dev *d)
{
	struct perf *perf = d->perf;
	struct bdev_open_opts opts = {.read_only = !perf->p.writes && !perf->p.prepare};
	struct pst_err err = {0};
	int rc = 0;

	if (!perf->loop) {
		struct loop_opts lo;

		loop_opts_default(&lo);
		rc = loop_new(&perf->loop, &lo, &err);
	}
	if (!rc)
		rc = bdev_open(&d->bdev, d->name, perf->loop, &opts, &err);
	if (rc)
		return cli_fail(perf->cli, 0, "%s: %s%s", d->name, err.text,
		                rc == -EBUSY && perf->all->threads > 1
		                        ? " (each thread of --cpus opens it)"
		                        : "");
	d->size_bytes = d->bdev->info.size_bytes;
	d->align = d->bdev->info.block_bytes;
	return CLI_OK;
}

static bool is_nvme(const char *name)
{
	return strncmp(name, "nvme+", 5) == 0 || strncmp(name, "nvme:", 5) == 0;
}

/* A buffer for each command: reading into one buffer over and over would measure its cache line. */
static int make_memory(struct perf_dev *d)
{
	const struct perf_params *p = &d->perf->p;
	size_t each = ALIGN_UP(p->iosize, 4096), len = each * p->qdepth * p->queues;
	int rc;

	if (d->nvme) {
		rc = pst_nvme_mem_alloc(d->nvme, len, &d->memory, &d->memory_dma);
	} else {
		rc = mem_region_new(&d->region, MEM_HOST, len);
		d->memory = rc ? NULL : d->region->addr;
	}
	return rc;
}

static void io_done(struct bdev_io *io)
{
	struct perf_req *r = container_of(io, struct perf_req, io);

	r->status = io->status;
	r->q->came[r->q->came_count++] = r;
}

static int make_queue(struct perf_queue *q, uint64_t from)
{
	struct perf_dev *d = q->dev;
	const struct perf_params *p = &d->perf->p;
	size_t each = ALIGN_UP(p->iosize, 4096);

	q->reqs = mem_calloc(p->qdepth, sizeof(*q->reqs));
	q->ready = mem_calloc(p->qdepth, sizeof(struct perf_req *));
	q->came = mem_calloc(p->qdepth, sizeof(struct perf_req *));
	if (!q->reqs || !q->ready || !q->came)
		return -ENOMEM;
	for (unsigned i = 0; i < p->qdepth; i++) {
		struct perf_req *r = &q->reqs[i];
		size_t at = (q->index * p->qdepth + i) * each;

		r->q = q;
		r->buf = (uint8_t *)d->memory + at;
		r->dma = d->memory_dma + at;
		r->iov = (struct iovec){.iov_base = r->buf, .iov_len = p->iosize};
		r->io = (struct bdev_io){.iov = &r->iov,
		                         .iov_count = 1,
		                         .len_bytes = p->iosize,
		                         .region = d->region,
		                         .done = io_done};
		q->ready[q->ready_count++] = r;
	}
	q->next_block = from;
	hist_init(&q->read_lat);
	hist_init(&q->write_lat);
	return 0;
}

static int make_queues(struct perf_dev *d)
{
	const struct perf_params *p = &d->perf->p;
	int rc = make_memory(d);

	for (unsigned i = 0; i < p->queues && !rc; i++) {
		d->queues[i].dev = d;
		d->queues[i].index = i;
		rc = make_queue(&d->queues[i], d->blocks / p->queues * i);
	}
	if (!rc && p->verify) {
		d->generation = mem_calloc(d->blocks, sizeof(*d->generation));
		d->busy = mem_calloc(d->blocks, 1);
		rc = d->generation && d->busy ? 0 : -ENOMEM;
	}
	return rc;
}

int perf_dev_open(struct perf_dev *d, const char *name)
{
	const struct perf_params *p = &d->perf->p;
	struct cli *cli = d->perf->cli;
	uint64_t bytes;
	int status, rc;

	d->name = name;
	d->queues = mem_calloc(p->queues, sizeof(*d->queues));
	if (!d->queues)
		return cli_fail(cli, -ENOMEM, "memory");
	d->is_nvme = is_nvme(name);
	status = d->is_nvme ? open_nvme(d) : open_bdev(d);
	if (status != CLI_OK)
		return status;
	if (p->reset_ms && !d->nvme)
		return cli_fail(cli, 0, "%s: has no controller to reset (--reset-every)", name);
	if (p->iosize % d->align)
		return cli_fail(cli, 0, "%s: has blocks of %u bytes: --iosize is no multiple", name,
		                d->align);
	bytes = p->size ? MIN(p->size, d->size_bytes) : d->size_bytes;
	d->blocks = bytes / p->iosize / d->perf->all->threads;
	d->first = d->blocks * d->perf->thread;
	if (d->blocks < 2 * p->qdepth * p->queues)
		return cli_fail(cli, 0, "%s: too small for so many commands of this size", name);
	rc = make_queues(d);
	return rc ? cli_fail(cli, rc, "%s: memory for the run", name) : CLI_OK;
}

void perf_dev_close(struct perf_dev *d)
{
	for (unsigned i = 0; d->queues && i < d->perf->p.queues; i++) {
		pst_nvme_queue_free(d->nvme, d->queues[i].nvme);
		mem_free(d->queues[i].reqs);
		mem_free(d->queues[i].ready);
		mem_free(d->queues[i].came);
	}
	if (d->nvme && d->memory)
		pst_nvme_mem_free(d->nvme, d->memory);
	pst_nvme_close(d->nvme);
	bdev_close(d->bdev);
	mem_region_free(d->region);
	mem_free(d->generation);
	mem_free(d->busy);
}

void perf_dev_free(struct perf_dev *d)
{
	mem_free(d->queues);
}

bool perf_dev_reset(struct perf_dev *d)
{
	if (!d->nvme)
		return false;
	pst_nvme_reset(d->nvme);
	return true;
}

uint64_t perf_dev_resets(const struct perf_dev *d)
{
	struct pst_nvme_info info = {0};

	if (d->nvme)
		pst_nvme_info(d->nvme, &info);
	return info.resets;
}

/* --- sending and receiving --- */

static unsigned send_bdev(struct perf_queue *q, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct perf_req *r = q->ready[--q->ready_count];

		r->io.op = r->write ? BDEV_WRITE : BDEV_READ;
		r->io.off_bytes = (q->dev->first + r->block) * r->io.len_bytes;
		bdev_submit(q->dev->bdev, &r->io);
	}
	return count;
}

static unsigned send_nvme(struct perf_queue *q, unsigned count)
{
	uint32_t bytes = (uint32_t)q->dev->perf->p.iosize, blocks = bytes / q->dev->ns.block_bytes;
	uint32_t nsid = q->dev->ns.nsid;
	struct pst_nvme_rw read, write;
	struct pst_nvme_batch b;

	pst_nvme_rw_init(&read, q->nvme, PST_NVME_OPC_READ, nsid, blocks, bytes, 0);
	pst_nvme_rw_init(&write, q->nvme, PST_NVME_OPC_WRITE, nsid, blocks, bytes, 0);
	pst_nvme_batch_begin(q->nvme, &b);
	count = MIN(count, pst_nvme_batch_room(&b));
	for (unsigned i = 0; i < count; i++) {
		struct perf_req *r = q->ready[--q->ready_count];

		pst_nvme_batch_put(&b, r->write ? &write : &read, r,
		                   (q->dev->first + r->block) * blocks, r->dma);
	}
	pst_nvme_batch_end(&b);
	return count;
}

unsigned perf_send(struct perf_queue *q, unsigned count)
{
	count = q->nvme ? send_nvme(q, count) : send_bdev(q, count);
	q->inflight += count;
	return count;
}

static void reap_nvme(struct perf_queue *q)
{
	struct pst_nvme_reap reap;
	struct pst_nvme_done done;

	pst_nvme_reap_begin(q->nvme, &reap);
	while (pst_nvme_reap_next(&reap, &done)) {
		struct perf_req *r = done.arg;

		r->status = done.status ? pst_nvme_errno(done.status) : 0;
		q->came[q->came_count++] = r;
	}
	pst_nvme_reap_end(&reap);
}

int perf_poll(struct perf *perf, struct perf_dev *d)
{
	int rc;

	if (d->bdev) {
		rc = loop_turn(perf->loop, NSEC_PER_MSEC);
		return rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY ? rc : 0;
	}
	rc = pst_nvme_poll(d->nvme, 0);
	for (unsigned i = 0; i < perf->p.queues; i++)
		reap_nvme(&d->queues[i]);
	return rc == -ENODEV ? rc : 0;
}
