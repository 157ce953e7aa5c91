/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The loop transport in one process: a subsystem with one namespace over a block device, one
 * controller, and a host that shares its thread. The host's poller calls loop_poll(), which is all
 * the time that the controller gets.
 */
#include "nvme/dma.h"
#include "nvme/relink.h"
#include "nvme/shm.h"

struct nvme_loop {
	struct nvme_transport t;
	struct relink link;
	struct bdev *bdev;
	struct nvme_subsys *subsys;
	struct nvme_ctrlr *ctrlr;
	struct nvme_dma_map map;       /* strict: all that the controller reaches */
	struct nvme_dma_window window; /* else: all of this process but its first page */
	size_t bar_bytes;
	bool strict, is_cut;
};

static struct nvme_loop *self(struct nvme_transport *t)
{
	return container_of(t, struct nvme_loop, t);
}

/* --- registers: plain memory, as between two processes --- */

static void *at(struct nvme_transport *t, uint32_t off)
{
	return (char *)nvme_ctrlr_bar(self(t)->ctrlr) + off;
}

static uint32_t bar_read32(struct nvme_transport *t, uint32_t off)
{
	uint32_t value = __atomic_load_n((uint32_t *)at(t, off), __ATOMIC_ACQUIRE);

	/* Gone for good, or as long as the fault plan says? */
	if (unlikely(value == NVME_REG_GONE))
		t->comes_back = nvme_ctrlr_unlinked(self(t)->ctrlr);
	return value;
}

static uint64_t bar_cap(struct nvme_transport *t)
{
	return __atomic_load_n((uint64_t *)at(t, NVME_REG_CAP), __ATOMIC_ACQUIRE);
}

static void bar_write32(struct nvme_transport *t, uint32_t off, uint32_t value)
{
	__atomic_store_n((uint32_t *)at(t, off), value, __ATOMIC_RELEASE);
}

static void bar_write64(struct nvme_transport *t, uint32_t off, uint64_t value)
{
	__atomic_store_n((uint64_t *)at(t, off), value, __ATOMIC_RELEASE);
}

static bool bar_there(struct nvme_transport *t)
{
	return bar_read32(t, NVME_REG_CSTS) != NVME_REG_GONE;
}

static void bar_lost(struct nvme_transport *t)
{
	/* The controller itself writes nothing any more; what bdevs still do, bar_quiet() waits for. */
}

static bool bar_quiet(struct nvme_transport *t)
{
	return bar_there(t) || nvme_ctrlr_quiet(self(t)->ctrlr);
}

static int bar_find(struct nvme_transport *t)
{
	return bar_there(t) ? 0 : -ENODEV;
}

static const struct relink_ops bar_ops = {
        .read32 = bar_read32,
        .write32 = bar_write32,
        .write64 = bar_write64,
        .lost = bar_lost,
        .quiet = bar_quiet,
        .find = bar_find,
        .cap = bar_cap,
};

static uint32_t loop_read32(struct nvme_transport *t, uint32_t off)
{
	return relink_read32(&self(t)->link, off);
}

static uint64_t loop_read64(struct nvme_transport *t, uint32_t off)
{
	return relink_read64(&self(t)->link, off);
}

static void loop_write32(struct nvme_transport *t, uint32_t off, uint32_t value)
{
	relink_write32(&self(t)->link, off, value);
}

static void loop_write64(struct nvme_transport *t, uint32_t off, uint64_t value)
{
	relink_write64(&self(t)->link, off, value);
}

static volatile uint32_t *loop_doorbell(struct nvme_transport *t, uint32_t off)
{
	if (off + NVME_REG_DOORBELL + sizeof(uint32_t) > self(t)->bar_bytes)
		return NULL;
	return at(t, NVME_REG_DOORBELL + off);
}

/* --- memory --- */

/* All of this process is the controller's, at its own addresses. */
static void *dma_any(void *arg, uint64_t addr, size_t len)
{
	struct nvme_loop *l = arg;

	if (l->is_cut || !addr || addr + len < addr)
		return NULL;
	return (void *)(uintptr_t)addr;
}

static void *dma_strict(void *arg, uint64_t addr, size_t len)
{
	struct nvme_loop *l = arg;

	return l->is_cut ? NULL : nvme_dma_map_translate(&l->map, addr, len);
}

static int loop_map(struct nvme_transport *t, struct mem_region *r, uint64_t *ret_dma)
{
	struct nvme_loop *l = self(t);
	int rc = l->strict ? nvme_dma_map_add_self(&l->map, r->addr, r->len_bytes) : 0;

	if (!rc)
		*ret_dma = (uintptr_t)r->addr;
	return rc;
}

static void loop_unmap(struct nvme_transport *t, struct mem_region *r, uint64_t dma)
{
	struct nvme_loop *l = self(t);

	if (l->strict)
		nvme_dma_map_del(&l->map, dma);
}

static void loop_cut(struct nvme_transport *t)
{
	struct nvme_loop *l = self(t);

	if (l->is_cut)
		return;
	l->is_cut = true;
	relink_stop(&l->link);
	nvme_dma_window_close(&l->window);
	nvme_ctrlr_remove(l->ctrlr);
}

/* What is on a bdev goes on there, into the host's memory. */
static bool loop_quiet(struct nvme_transport *t)
{
	return nvme_ctrlr_quiet(self(t)->ctrlr);
}

/* --- */

static int loop_poll(struct nvme_transport *t)
{
	struct nvme_loop *l = self(t);

	return l->is_cut ? 0 : nvme_ctrlr_poll(l->ctrlr);
}

static void loop_close(struct nvme_transport *t)
{
	struct nvme_loop *l = self(t);

	relink_stop(&l->link);
	nvme_ctrlr_free(l->ctrlr);
	nvme_subsys_free(l->subsys);
	bdev_close(l->bdev);
	mem_free(l);
}

static const struct nvme_transport_ops loop_ops = {
        .name = "loop",
        .read32 = loop_read32,
        .read64 = loop_read64,
        .write32 = loop_write32,
        .write64 = loop_write64,
        .doorbell = loop_doorbell,
        .map = loop_map,
        .unmap = loop_unmap,
        .cut = loop_cut,
        .quiet = loop_quiet,
        .poll = loop_poll,
        .close = loop_close,
};

static int loop_ctrlr(struct nvme_loop *l, const struct nvme_device *d, struct loop *loop,
                      const struct bdev_open_opts *opts, struct pst_err *err)
{
	struct nvme_subsys_opts so = {.nqn = "nqn.2026-11.io.penstock:loop"};
	struct nvme_ns_opts no = {
	        .nsid = d->nsid, .lba_bytes = d->lba_bytes, .read_only = opts->read_only};
	struct nvme_ctrlr_opts co = d->ctrlr;
	int rc;

	if ((rc = bdev_open(&l->bdev, d->spec, loop, opts, err)) ||
	    (rc = nvme_subsys_new(&l->subsys, loop, &so, err)) ||
	    (rc = nvme_subsys_ns_add(l->subsys, l->bdev, &no, NULL, err)))
		return rc;
	co.dma = d->strict ? dma_strict : dma_any;
	co.arg = l;
	co.window = &l->window;
	if (!d->strict)
		nvme_dma_window_open(&l->window, 4096, (uint8_t *)4096, UINT64_MAX - 8191);
	l->bar_bytes = nvme_ctrlr_bar_bytes(&co);
	rc = nvme_ctrlr_new(&l->ctrlr, l->subsys, &co, err);
	if (!rc && d->faults[0])
		rc = nvme_ctrlr_faults(l->ctrlr, d->faults, err);
	return rc;
}

int nvme_loop_new(struct nvme_transport **ret_t, const struct nvme_device *d, struct loop *loop,
                  const struct bdev_open_opts *opts, struct nvme_ctrlr **ret_ctrlr,
                  struct pst_err *err)
{
	struct nvme_loop *l;
	int rc;

	if (d->name[0])
		return nvme_shm_connect(ret_t, d, loop, err);
	l = mem_calloc(1, sizeof(*l));
	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	l->t = (struct nvme_transport){
	        .ops = &loop_ops, .loop = loop, .mem_kind = MEM_HOST, .identity = !d->strict};
	l->strict = d->strict;
	nvme_dma_map_init(&l->map);
	rc = loop_ctrlr(l, d, loop, opts, err);
	if (rc) {
		loop_close(&l->t);
		return rc;
	}
	/* CAP.TO is patience enough. */
	relink_init(&l->link, &l->t, &bar_ops, "the controller in this process", 0, 1);
	if (ret_ctrlr)
		*ret_ctrlr = l->ctrlr;
	*ret_t = &l->t;
	return 0;
}
