/* SPDX-License-Identifier: BSD-3-Clause */
/* penstock/nvme.h over the host driver: a loop of its own, memory that the controller reaches. */
#include "nvme/device.h"

struct nvme_memory {
	struct list link;
	struct mem_region *region;
	uint64_t dma;
};

struct pst_nvme {
	struct loop *loop;
	struct nvme_host *host;
	struct list memory;
	uint32_t nsid;
};

void pst_nvme_opts_default(struct pst_nvme_opts *opts)
{
	*opts = (struct pst_nvme_opts){.size = sizeof(*opts),
	                               .timeout_ms = 10000,
	                               .io_max_bytes = 1024 * 1024,
	                               .queues_max = 64,
	                               .resets_max = 3,
	                               .sgl = true};
}

void pst_nvme_queue_opts_default(struct pst_nvme_queue_opts *opts)
{
	*opts = (struct pst_nvme_queue_opts){.size = sizeof(*opts)};
}

/* The caller's options over those of the device string: what it left at the default is the
 * string's. */
static void opts_merge(struct pst_nvme_opts *to, const struct pst_nvme_opts *o)
{
	struct pst_nvme_opts def;

	pst_nvme_opts_default(&def);
	if (o->timeout_ms != def.timeout_ms)
		to->timeout_ms = o->timeout_ms;
	if (o->io_max_bytes != def.io_max_bytes)
		to->io_max_bytes = o->io_max_bytes;
	to->queues_max = o->queues_max;
	to->resets_max = o->resets_max;
	to->sgl = to->sgl && o->sgl;
	to->shadow = to->shadow || o->shadow;
}

static int nvme_open(struct pst_nvme *n, const char *device, const struct pst_nvme_opts *opts,
                     struct pst_err *err)
{
	const char *rest;
	const struct nvme_carrier *carrier = nvme_carrier_find(device, &rest);
	struct bdev_open_opts bo = {0};
	struct nvme_device d;
	struct loop_opts lo;
	int rc;

	if (!carrier)
		return err_set(err, -EINVAL,
		               "nvme: '%s' is no NVMe device (nvme:, nvme+loop:, nvme+tcp:)",
		               device);
	rc = nvme_device_parse(&d, carrier, rest, err);
	if (rc)
		return rc;
	if (opts)
		opts_merge(&d.host, opts);
	n->nsid = d.nsid;
	loop_opts_default(&lo);
	rc = loop_new(&n->loop, &lo, err);
	if (!rc)
		rc = nvme_device_attach(&n->host, &d, n->loop, &bo, err);
	return rc;
}

int pst_nvme_open(struct pst_nvme **ret_nvme, const char *device, const struct pst_nvme_opts *opts,
                  struct pst_err *err)
{
	struct pst_nvme *n;
	int rc;

	if (opts && opts->size != sizeof(*opts))
		return err_set(err, -EINVAL, "nvme: options of %zu bytes", opts->size);
	n = mem_calloc(1, sizeof(*n));
	if (!n)
		return err_set(err, -ENOMEM, "out of memory");
	list_init(&n->memory);
	rc = nvme_open(n, device, opts, err);
	if (rc) {
		loop_free(n->loop);
		mem_free(n);
		return rc;
	}
	*ret_nvme = n;
	return 0;
}

void pst_nvme_close(struct pst_nvme *nvme)
{
	if (!nvme)
		return;
	pst_assert(list_empty(&nvme->memory));
	nvme_host_free(nvme->host);
	loop_free(nvme->loop);
	mem_free(nvme);
}

/* --- what it is --- */

/* Text of a field that is padded with spaces, unprintable bytes as '?'. */
static void text(char *to, const char *from, size_t len)
{
	while (len && (from[len - 1] == ' ' || from[len - 1] == '\0'))
		len--;
	for (size_t i = 0; i < len; i++)
		to[i] = from[i] >= 32 && from[i] < 127 ? from[i] : '?';
	to[len] = '\0';
}

void pst_nvme_info(struct pst_nvme *nvme, struct pst_nvme_info *ret_info)
{
	const struct nvme_host *h = nvme->host;
	const struct nvme_id_ctrlr *id = h->id;

	*ret_info = (struct pst_nvme_info){
	        .vendor = le16_get(id->vid),
	        .cntlid = le16_get(id->cntlid),
	        .version = le32_get(id->ver),
	        .namespaces = le32_get(id->nn),
	        .queues_max = h->queues_max,
	        .entries_max = h->entries_max,
	        .page_bytes = 1u << h->page_shift,
	        .io_max_bytes = h->io_max_bytes,
	        .sgl = h->sgl,
	        .shadow = h->shadow,
	        .volatile_cache = h->vwc,
	        .live = h->state == NVME_HOST_LIVE,
	        .error = h->error,
	        .resets = h->resets,
	        .nsid = nvme->nsid,
	};
	text(ret_info->serial, id->sn, sizeof(id->sn));
	text(ret_info->model, id->mn, sizeof(id->mn));
	text(ret_info->firmware, id->fr, sizeof(id->fr));
	text(ret_info->subnqn, id->subnqn, strnlen(id->subnqn, NVME_NQN_MAX));
}

int pst_nvme_namespace(struct pst_nvme *nvme, uint32_t nsid, struct pst_nvme_namespace *ret_ns)
{
	return nvme_host_namespace(nvme->host, nsid, ret_ns);
}

int pst_nvme_admin(struct pst_nvme *nvme, const struct pst_nvme_sqe *cmd, void *data,
                   size_t len_bytes, struct pst_nvme_cqe *ret_cqe)
{
	struct nvme_cmd c;
	uint32_t dw0 = 0;
	uint16_t status = 0;
	int rc;

	memcpy(&c, cmd, sizeof(c));
	rc = nvme_host_admin(nvme->host, &c, data, len_bytes, &dw0, &status);
	if (ret_cqe && (!rc || status))
		*ret_cqe = (struct pst_nvme_cqe){.dw0 = dw0, .status = (uint16_t)(status << 1)};
	return rc;
}

/* --- queues --- */

int pst_nvme_queue_new(struct pst_nvme *nvme, const struct pst_nvme_queue_opts *opts,
                       struct pst_nvme_queue **ret_queue)
{
	struct nvme_hq *hq;
	int rc;

	if (opts && opts->size != sizeof(*opts))
		return -EINVAL;
	rc = nvme_host_queue_new(nvme->host, opts, &hq);
	if (!rc)
		*ret_queue = &hq->q;
	return rc;
}

void pst_nvme_queue_free(struct pst_nvme *nvme, struct pst_nvme_queue *queue)
{
	if (queue)
		nvme_host_queue_free(queue->priv);
}

/* --- memory --- */

static int memory_map(struct pst_nvme *nvme, struct mem_region *r, uint64_t *ret_dma)
{
	struct nvme_memory *m = mem_calloc(1, sizeof(*m));
	struct nvme_transport *t = nvme->host->t;
	int rc = m ? t->ops->map(t, r, &m->dma) : -ENOMEM;

	if (rc) {
		mem_free(m);
		mem_region_free(r);
		return rc;
	}
	m->region = r;
	list_push(&nvme->memory, &m->link);
	*ret_dma = m->dma;
	return 0;
}

int pst_nvme_mem_alloc(struct pst_nvme *nvme, size_t len_bytes, void **ret_addr, uint64_t *ret_dma)
{
	struct mem_region *r;
	int rc = mem_region_new(&r, nvme->host->t->mem_kind, len_bytes);
	void *addr;

	if (rc)
		return rc;
	addr = r->addr;
	rc = memory_map(nvme, r, ret_dma);
	if (!rc)
		*ret_addr = addr;
	return rc;
}

int pst_nvme_mem_map(struct pst_nvme *nvme, void *addr, size_t len_bytes, uint64_t *ret_dma)
{
	struct mem_region *r;
	int rc = mem_region_wrap(&r, addr, len_bytes);

	return rc ? rc : memory_map(nvme, r, ret_dma);
}

int pst_nvme_mem_free(struct pst_nvme *nvme, void *addr)
{
	struct nvme_transport *t = nvme->host->t;
	struct nvme_memory *m, *tmp;

	if (!addr)
		return 0;
	list_for_each_safe (m, tmp, &nvme->memory, link) {
		if (m->region->addr != addr)
			continue;
		list_del(&m->link);
		t->ops->unmap(t, m->region, m->dma);
		mem_region_free(m->region);
		mem_free(m);
		return 0;
	}
	return -EINVAL;
}

/* --- */

int pst_nvme_poll(struct pst_nvme *nvme, uint64_t timeout_ns)
{
	int rc = loop_turn(nvme->loop, timeout_ns);

	return nvme->host->state == NVME_HOST_DEAD ? -ENODEV : rc;
}

void pst_nvme_reset(struct pst_nvme *nvme)
{
	nvme_host_reset(nvme->host);
}

void pst_nvme_events(struct pst_nvme *nvme, void (*fn)(void *arg, uint32_t dw0), void *arg)
{
	nvme->host->event_fn = fn;
	nvme->host->event_arg = arg;
}
