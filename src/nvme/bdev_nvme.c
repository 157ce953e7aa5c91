/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A namespace as a block device, on one I/O queue of the host driver, by whatever carrier.
 *
 * Requests wait in @pending; the poller cuts them into commands, as many as the queue takes, rings
 * once, and reaps. A command that comes back with something worth another try (a reset controller,
 * a path that changes, an error without Do Not Retry) is sent again, NB_TRIES_MAX times in all:
 * reads, writes, zeroes and discards of the same bytes, and flushes, may all be repeated. A request
 * ends when all of its commands have, with the first error.
 */
#include "nvme/bdev_nvme.h"
#include "nvme/device.h"

/* --- ends --- */

/* What struct bdev_io allows. */
static int bdev_status(int rc)
{
	switch (rc) {
	case 0:
	case -ENOSPC:
	case -ENODEV:
	case -EROFS:
	case -ENOMEM:
	case -EAGAIN: /* only to multipath.c */
		return rc;
	default:
		return -EIO;
	}
}

static void io_end(struct nvme_bdev *nb, struct bdev_io *io)
{
	struct nb_io *s = nb_io(io);

	if (s->all_sent && !s->commands)
		bdev_done(&nb->bdev, io, bdev_status(s->status));
}

/* Nothing more of @io is sent; what is under way still counts. It is not in a list any more. */
static void io_fail(struct nvme_bdev *nb, struct bdev_io *io, int rc)
{
	struct nb_io *s = nb_io(io);

	if (!s->status)
		s->status = rc;
	s->all_sent = true;
	io_end(nb, io);
}

static void cmd_end(struct nvme_bdev *nb, struct nb_cmd *c, int rc)
{
	struct bdev_io *io = c->io;
	struct nb_io *s = nb_io(io);

	if (!rc)
		nb_cmd_finish(nb, c);
	else if (!s->status)
		s->status = rc;
	nb_cmd_release(nb, c);
	s->commands--;
	io_end(nb, io);
}

static void cmd_done(struct nvme_bdev *nb, struct nb_cmd *c, uint16_t status)
{
	/* Not this way: the path's errors, those of a controller that was reset among them. */
	if (status && nb->multipath && NVME_STATUS_SCT(status) == NVME_SCT_PATH)
		cmd_end(nb, c, -EAGAIN);
	else if (status && nvme_status_retry(status) && c->tries < NB_TRIES_MAX)
		list_push(&nb->again, &c->link);
	else
		cmd_end(nb, c, nvme_status_errno(status));
}

static int reap(struct nvme_bdev *nb)
{
	struct nb_cmd *cmd[64];
	uint16_t status[64];
	struct pst_nvme_reap r;
	struct pst_nvme_done d;
	unsigned n = 0;

	pst_nvme_reap_begin(&nb->hq->q, &r);
	while (n < ARRAY_LEN(cmd) && pst_nvme_reap_next(&r, &d)) {
		cmd[n] = d.arg;
		status[n++] = d.status;
	}
	pst_nvme_reap_end(&r);
	if (n && nb->host->t->heard)
		loop_heard(nb->bdev.loop);
	/* Only now: what the callbacks submit may go to the queue at once. */
	for (unsigned i = 0; i < n; i++)
		cmd_done(nb, cmd[i], status[i]);
	return (int)n;
}

/* --- sending --- */

static int again_put(struct nvme_bdev *nb, struct pst_nvme_batch *b)
{
	int count = 0;

	while (!list_empty(&nb->again) && !pst_nvme_batch_full(b)) {
		struct nb_cmd *c = list_first(&nb->again, struct nb_cmd, link);

		if (nb_cmd_put(nb, b, c))
			break; /* it has its bounce buffer: can't be */
		list_del(&c->link);
		c->tries++;
		count++;
	}
	return count;
}

/* The next command of @io into the batch: as nb_cmd_put(). */
static int io_put(struct nvme_bdev *nb, struct pst_nvme_batch *b, struct bdev_io *io)
{
	struct nb_cmd *c = list_first(&nb->free, struct nb_cmd, link);
	struct nb_io *s = nb_io(io);
	int rc;

	c->io = io;
	c->off_bytes = io->off_bytes + s->sent_bytes;
	c->len_bytes = 0;
	c->iov = s->iov;
	c->skip = s->skip;
	c->tries = 1;
	rc = nb_cmd_put(nb, b, c);
	if (rc)
		return rc;
	list_del(&c->link);
	s->commands++;
	s->sent_bytes += c->len_bytes;
	s->all_sent = io->op == BDEV_FLUSH || s->sent_bytes == io->len_bytes;
	if (io->op > BDEV_WRITE)
		return 0;
	for (uint64_t left = c->len_bytes; left;) {
		uint64_t here = MIN(io->iov[s->iov].iov_len - s->skip, left);

		left -= here;
		s->skip += (uint32_t)here;
		if (s->skip == io->iov[s->iov].iov_len) {
			s->iov++;
			s->skip = 0;
		}
	}
	return 0;
}

static int pending_put(struct nvme_bdev *nb, struct pst_nvme_batch *b)
{
	int count = 0;

	while (!list_empty(&nb->pending) && !list_empty(&nb->free) && !pst_nvme_batch_full(b)) {
		struct bdev_io *io = list_first(&nb->pending, struct bdev_io, link);
		/* A discard on a device that has no such command ends here. */
		bool nothing = io->op == BDEV_DISCARD && !nb->ns.dealloc;
		int rc = nothing ? 0 : io_put(nb, b, io);

		if (rc == -EAGAIN)
			break;
		count++;
		if (rc || nothing) {
			list_del(&io->link);
			io_fail(nb, io, rc);
		} else if (nb_io(io)->all_sent) {
			list_del(&io->link);
		}
	}
	return count;
}

static int send(struct nvme_bdev *nb)
{
	struct pst_nvme_batch b;
	int count;

	if (list_empty(&nb->pending) && list_empty(&nb->again))
		return 0;
	pst_nvme_batch_begin(&nb->hq->q, &b);
	count = again_put(nb, &b);
	count += pending_put(nb, &b);
	pst_nvme_batch_end(&b);
	if (count && nb->host->t->ops->rung)
		nb->host->t->ops->rung(nb->host->t);
	return count;
}

/* The device is gone, or its queue: nothing waits for it. */
static int fail_all(struct nvme_bdev *nb, int rc)
{
	struct list again, pending;
	struct list *n;
	int count = 0;

	list_init(&again);
	list_init(&pending);
	list_splice(&again, &nb->again);
	list_splice(&pending, &nb->pending);
	for (; (n = list_pop(&again)); count++)
		cmd_end(nb, list_entry(n, struct nb_cmd, link), rc);
	for (; (n = list_pop(&pending)); count++)
		io_fail(nb, list_entry(n, struct bdev_io, link), rc);
	return count;
}

static int nb_poll(struct loop_poller *p)
{
	struct nvme_bdev *nb = container_of(p, struct nvme_bdev, poller);
	struct nvme_transport *t = nb->host->t;
	int count = reap(nb);

	if (nb->host->state == NVME_HOST_DEAD)
		return count + fail_all(nb, nb->host->error);
	if (nb->hq->state == HQ_FAILED)
		return count + fail_all(nb, nb->multipath ? -EAGAIN : -EIO);
	if (unlikely(nb->multipath && nb->host->state != NVME_HOST_LIVE))
		return count + fail_all(nb, -EAGAIN);
	count += send(nb);
	/* A controller in this process may have the answer at once. */
	if (count && t->ops->poll && t->ops->poll(t) > 0)
		count += reap(nb);
	return count;
}

static bool nb_may_sleep(struct loop_poller *p)
{
	struct nvme_bdev *nb = container_of(p, struct nvme_bdev, poller);
	bool waiting = !list_empty(&nb->pending) || !list_empty(&nb->again);

	if (pst_nvme_reap_waits(&nb->hq->q))
		return false;
	/* What waits for a completion, or for the end of a reset, is woken by it. */
	return !waiting || (nb->hq->state != HQ_LIVE && nb->hq->state != HQ_FAILED) ||
	       pst_nvme_queue_inflight(&nb->hq->q);
}

/* --- memory that callers registered --- */

struct nb_region {
	struct mem_region *region;
	struct list link;
};

static int nb_reg(struct mem_domain *d, struct mem_region *r, uint64_t *ret_key)
{
	struct nvme_bdev *nb = container_of(d, struct nvme_bdev, domain);
	struct nvme_transport *t = nb->host->t;
	struct nb_region *n = mem_calloc(1, sizeof(*n));
	int rc = n ? t->ops->map(t, r, ret_key) : -ENOMEM;

	if (rc) {
		mem_free(n);
		return rc;
	}
	n->region = r;
	list_push(&nb->regions, &n->link);
	return 0;
}

static void nb_unreg(struct mem_domain *d, struct mem_region *r, uint64_t key)
{
	struct nvme_bdev *nb = container_of(d, struct nvme_bdev, domain);
	struct nb_region *n, *tmp;

	nb->host->t->ops->unmap(nb->host->t, r, key);
	list_for_each_safe (n, tmp, &nb->regions, link) {
		if (n->region != r)
			continue;
		list_del(&n->link);
		mem_free(n);
	}
}

/* Regions outlive the device: what it registered ends with it. */
static void regions_end(struct nvme_bdev *nb)
{
	while (!list_empty(&nb->regions))
		mem_region_unregister(list_first(&nb->regions, struct nb_region, link)->region,
		                      &nb->domain);
}

/* --- the interface --- */

static void nb_submit(struct bdev *b, struct bdev_io *io)
{
	struct nvme_bdev *nb = container_of(b, struct nvme_bdev, bdev);

	*nb_io(io) = (struct nb_io){0};
	list_push(&nb->pending, &io->link);
}

static void nb_close(struct bdev *b)
{
	struct nvme_bdev *nb = container_of(b, struct nvme_bdev, bdev);
	struct nvme_host *h = nb->host;

	loop_poller_del(b->loop, &nb->poller);
	regions_end(nb);
	nvme_host_queue_free(nb->hq);
	if (nb->bounces) {
		h->t->ops->unmap(h->t, mem_pool_region(nb->bounces), nb->bounce_dma);
		mem_pool_free(nb->bounces);
	}
	nvme_host_free(h);
	mem_free(nb->cmds);
	mem_free(nb);
}

static const struct bdev_ops nb_ops = {.submit = nb_submit, .close = nb_close};

struct nvme_bdev *nvme_bdev_of(struct bdev *b)
{
	return b->ops == &nb_ops ? container_of(b, struct nvme_bdev, bdev) : NULL;
}

/* --- opening --- */

static int nb_namespace(struct nvme_bdev *nb, uint32_t nsid, bool read_only, struct pst_err *err)
{
	struct nvme_host *h = nb->host;
	int rc = nvme_host_namespace(h, nsid, &nb->ns);
	uint64_t size;

	if (rc)
		return err_set(err, rc, "nvme: namespace %u can't be used", nsid);
	if (nb->ns.block_bytes != 512 && nb->ns.block_bytes != 4096)
		return err_set(err, -ENOTSUP, "nvme: blocks of %u bytes", nb->ns.block_bytes);
	if (nb->ns.read_only && !read_only)
		return err_set(err, -EROFS, "nvme: namespace %u is write protected", nsid);
	if (h->io_max_bytes < nb->ns.block_bytes)
		return err_set(err, -ENOTSUP, "nvme: transfers of %u bytes at most",
		               h->io_max_bytes);
	nb->block_shift = (uint32_t)__builtin_ctz(nb->ns.block_bytes);
	size = nb->ns.blocks << nb->block_shift;
	nb->bdev.info = (struct bdev_info){.size_bytes = size,
	                                   .block_bytes = nb->ns.block_bytes,
	                                   .mem_align = 4,
	                                   .io_max_bytes = 0,
	                                   .volatile_cache = h->vwc,
	                                   .discard = nb->ns.dealloc};
	return 0;
}

static int nb_queue(struct nvme_bdev *nb, uint32_t entries, struct pst_err *err)
{
	struct pst_nvme_queue_opts qo = {.size = sizeof(qo), .entries = entries};
	int rc = nvme_host_queue_new(nb->host, &qo, &nb->hq);
	uint32_t n;

	if (rc)
		return err_set(err, rc, "nvme: no I/O queue");
	n = nb->hq->q.mask;
	nb->cmds = mem_calloc(n, sizeof(*nb->cmds));
	if (!nb->cmds)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < n; i++)
		list_push(&nb->free, &nb->cmds[i].link);
	return 0;
}

static int nb_start(struct nvme_bdev *nb, const struct nvme_device *d, bool read_only,
                    struct pst_err *err)
{
	int rc = nb_namespace(nb, d->nsid, read_only, err);

	if (!rc)
		rc = nb_queue(nb, d->entries, err);
	if (rc) {
		nvme_host_queue_free(nb->hq);
		nvme_host_free(nb->host);
		mem_free(nb->cmds);
	}
	return rc;
}

int nvme_bdev_open(struct bdev **ret_bdev, const struct nvme_carrier *carrier, const char *rest,
                   struct loop *loop, const struct bdev_open_opts *opts, struct pst_err *err)
{
	struct nvme_device d;
	struct nvme_bdev *nb;
	int rc = nvme_device_parse(&d, carrier, rest, err);

	if (rc)
		return rc;
	nb = mem_calloc(1, sizeof(*nb));
	if (!nb)
		return err_set(err, -ENOMEM, "out of memory");
	list_init(&nb->pending);
	list_init(&nb->again);
	list_init(&nb->free);
	list_init(&nb->regions);
	rc = nvme_device_attach(&nb->host, &d, loop, opts, err);
	if (!rc)
		rc = nb_start(nb, &d, opts->read_only, err);
	if (rc) {
		mem_free(nb);
		return rc;
	}
	nb->domain = (struct mem_domain){.name = "nvme", .reg = nb_reg, .unreg = nb_unreg};
	nb->bdev.ops = &nb_ops;
	nb->bdev.loop = loop;
	nb->poller.poll = nb_poll;
	nb->poller.may_sleep = nb_may_sleep;
	loop_poller_add(loop, &nb->poller);
	*ret_bdev = &nb->bdev;
	return 0;
}
