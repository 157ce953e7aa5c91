/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ofi, what is libfabric's: finding a provider, its limits, endpoints, registrations. See ofi_int.h.
 *
 * What is asked for: reliable datagrams, messages and RMA; one thread (the loop's) for all of a
 * domain; progress only when we call, so that libfabric starts no threads; memory of devices, if the
 * provider has it. Everything else follows what the provider answers.
 */
#include "fabric/ofi_int.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define FI_API FI_VERSION(1, 17)

int ofi_errno(ssize_t rc)
{
	return rc >= 0 ? (int)rc : rc > -FI_ERRNO_OFFSET ? (int)rc : -EIO;
}

/* --- the loop's share --- */

static const char part_kind;

/* A region that some channel of this loop has registered, so that we hear of its end. */
struct known {
	struct list link;
	struct mem_region *region;
};

static int domain_reg(struct mem_domain *d, struct mem_region *r, uint64_t *ret_key)
{
	struct ofi_part *p = container_of(d, struct ofi_part, domain);
	struct known *k = mem_alloc(sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->region = r;
	list_push(&p->regions, &k->link);
	*ret_key = (uint64_t)(uintptr_t)k;
	return 0;
}

/* The region ends. */
static void domain_unreg(struct mem_domain *d, struct mem_region *r, uint64_t key)
{
	struct ofi_part *p = container_of(d, struct ofi_part, domain);
	struct known *k = (struct known *)(uintptr_t)key;
	struct ofi *o;

	list_del(&k->link);
	mem_free(k);
	list_for_each (o, &p->chans, part_link) {
		struct ofi_local *l, *next;

		list_for_each_safe (l, next, &o->locals, link) {
			if (l->region != r)
				continue;
			list_del(&l->link);
			ofi_mr_close(l->mr);
			mem_free(l);
		}
	}
}

int ofi_part_get(struct ofi_part **ret_p, struct loop *loop)
{
	struct loop_part *part = loop_part_find(loop, &part_kind);
	struct ofi_part *p;

	if (part) {
		p = container_of(part, struct ofi_part, part);
	} else {
		p = mem_calloc(1, sizeof(*p));
		if (!p)
			return -ENOMEM;
		p->part.kind = &part_kind;
		p->loop = loop;
		p->domain.name = "ofi";
		p->domain.reg = domain_reg;
		p->domain.unreg = domain_unreg;
		list_init(&p->fabs);
		list_init(&p->chans);
		list_init(&p->regions);
		loop_part_add(loop, &p->part);
	}
	p->held++;
	*ret_p = p;
	return 0;
}

void ofi_part_put(struct ofi_part *p)
{
	struct list *n;

	if (!p || --p->held)
		return;
	pst_assert(list_empty(&p->chans));
	while (!list_empty(&p->regions))
		mem_region_unregister(list_first(&p->regions, struct known, link)->region,
		                      &p->domain);
	while ((n = list_pop(&p->fabs))) {
		struct ofi_fab *f = list_entry(n, struct ofi_fab, link);

		(void)fi_close(&f->fabric->fid);
		ofi_lib.freeinfo(f->info);
		mem_free(f);
	}
	loop_part_del(p->loop, &p->part);
	mem_free(p);
}

/* --- finding a provider --- */

int ofi_provider_name(char ret_name[OFI_PROVIDER_MAX], const char *text, struct pst_err *err)
{
	bool whole = text && strchr(text, ';');
	/* Those that have connections only carry datagrams by the layer ofi_rxm. */
	bool layered = text && (!strcmp(text, "tcp") || !strcmp(text, "verbs"));

	if (!text || !*text)
		return err_set(err, -EINVAL,
		               "ofi: which provider? ofi:verbs or ofi:tcp, or one of fi_info's");
	if (snprintf(ret_name, OFI_PROVIDER_MAX, "%s%s", text,
	             layered && !whole ? ";ofi_rxm" : "") >= OFI_PROVIDER_MAX)
		return err_set(err, -EINVAL, "ofi:%.40s...: that name is too long", text);
	return 0;
}

static struct fi_info *hints_make(const char *provider, bool hmem, bool inject)
{
	struct fi_info *h = ofi_lib.dupinfo(NULL);

	if (!h)
		return NULL;
	h->caps = FI_MSG | FI_RMA | (hmem ? FI_HMEM : 0);
	h->mode = FI_CONTEXT | FI_CONTEXT2;
	h->ep_attr->type = FI_EP_RDM;
	h->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
	if (hmem)
		h->domain_attr->mr_mode |= FI_MR_HMEM;
	h->domain_attr->threading = FI_THREAD_DOMAIN;
	h->domain_attr->control_progress = FI_PROGRESS_MANUAL;
	h->domain_attr->data_progress = FI_PROGRESS_MANUAL;
	h->domain_attr->resource_mgmt = FI_RM_ENABLED;
	h->tx_attr->msg_order = FI_ORDER_SAS;
	h->rx_attr->msg_order = FI_ORDER_SAS;
	h->tx_attr->inject_size = inject ? OFI_INJECT_WANT : 0;
	h->fabric_attr->prov_name = strdup(provider);
	if (!h->fabric_attr->prov_name) {
		ofi_lib.freeinfo(h);
		return NULL;
	}
	return h;
}

/*
 * Three things that libfabric is told by the environment, before it is asked for the first time, because
 * there is no other way.
 *
 * ofi_rxm sizes its completion queue for as many peers as a job has processes, 256 unless told
 * otherwise, which is more than the queues of small devices hold (soft-RoCE: 32767 entries). An
 * endpoint here has one peer. Who has set it keeps what was set.
 *
 * ofi_rxm 1.17 takes its receives from each connection's own queue. Who closes while a message has just come
 * crashes: it frees the queue, then works off that message, and gives the receive back to the queue (seen at the
 * deadline of a connection over verbs; a peer that sends could do it to a server that closes). From a queue
 * that all connections share, which ends with the endpoint, that is no harm. Whose device has none sets it to 0.
 *
 * verbs keeps registrations in a cache: what was closed stays registered, and with all rights (seen: a
 * window to write was read). That would break the contract, whoever wishes it.
 */
static void environment(const char *provider)
{
	if (strncmp(provider, "verbs", 5) == 0) {
		(void)setenv("FI_UNIVERSE_SIZE", "2", 0);
		(void)setenv("FI_OFI_RXM_USE_SRX", "1", 0);
	}
	(void)setenv("FI_MR_CACHE_MAX_COUNT", "0", 1);
}

static int look(struct fi_info **ret_info, const char *provider, const char *node)
{
	int rc = -FI_ENODATA;

	environment(provider);
	/* Device memory first, then without; a large inject first, then what there is. */
	for (unsigned i = 0; i < 4 && rc == -FI_ENODATA; i++) {
		struct fi_info *hints = hints_make(provider, !(i & 2), !(i & 1));

		if (!hints)
			return -ENOMEM;
		rc = ofi_lib.getinfo(FI_API, node, NULL, node ? FI_SOURCE : 0, hints, ret_info);
		ofi_lib.freeinfo(hints);
	}
	return rc;
}

static bool is_name(const char *is, const char *name, size_t len)
{
	return is && strlen(is) == len && !strncmp(is, name, len);
}

/* Providers of devices may leave the list where there is no device, and that is not for now to tell. */
static bool knows(const struct fi_info *list, const char *name, size_t len)
{
	static const char *const devices[] = {"verbs", "efa", "psm",   "psm2", "psm3",
	                                      "opx",   "cxi", "usnic", "gni",  "ucx"};

	for (unsigned i = 0; i < ARRAY_LEN(devices); i++)
		if (is_name(devices[i], name, len))
			return true;
	for (; list; list = list->next)
		if (is_name(list->fabric_attr->prov_name, name, len))
			return true;
	return false;
}

/* @asked: what @provider was made of, as people write it. */
static int check_layers(const struct fi_info *list, const char *provider, const char *asked,
                        struct pst_err *err)
{
	char all[200] = "";
	size_t used = 0;

	for (const char *at = provider; *at;) {
		size_t len = strcspn(at, ";");

		if (!knows(list, at, len))
			break;
		at += len + (at[len] == ';');
		if (!*at)
			return 0;
	}
	/* Layers and hooks ("ofi_...") carry nothing by themselves. */
	for (; list && used < sizeof(all); list = list->next) {
		const char *is = list->fabric_attr->prov_name;

		if (is && strncmp(is, "ofi_", 4) != 0 && !strchr(is, ';'))
			used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s",
			                         used ? ", " : "", is);
	}
	return err_set(err, -ENOTSUP, "libfabric has no provider \"%s\" (it has %s)", asked, all);
}

int ofi_check(const struct fabric_opts *opts, struct pst_err *err)
{
	char provider[OFI_PROVIDER_MAX];
	struct fi_info *list = NULL;
	int rc = ofi_provider_name(provider, opts->provider, err);

	if (rc == 0)
		rc = ofi_lib_load(err);
	if (rc < 0)
		return rc;
	environment(provider);
	/* Names alone: it asks no provider what devices there are. */
	rc = ofi_lib.getinfo(FI_API, NULL, NULL, FI_PROV_ATTR_ONLY, NULL, &list);
	if (rc < 0)
		return err_set(err, ofi_errno(rc), "ofi: asking libfabric for its providers: %s",
		               ofi_lib.strerror(-rc));
	rc = check_layers(list, provider, opts->provider, err);
	ofi_lib.freeinfo(list);
	return rc;
}

int ofi_start(struct loop *loop, const char *provider, struct pst_err *err)
{
	static atomic_bool started;
	struct fi_info *info = NULL;
	int rc = ofi_lib_load(err);

	if (rc < 0 || atomic_exchange(&started, true))
		return rc;
	/* What it finds is asked again, for the address of a connection. */
	if (look(&info, provider, NULL) == 0)
		ofi_lib.freeinfo(info);
	loop_clock_read(loop);
	return 0;
}

static bool local_text(char *buf, size_t len, const struct net_addr *local)
{
	const struct sockaddr *sa = (const struct sockaddr *)&local->sa;

	return getnameinfo(sa, local->len, buf, (socklen_t)len, NULL, 0, NI_NUMERICHOST) == 0;
}

static int fab_new(struct ofi_fab **ret_f, const char *provider, const struct net_addr *local,
                   struct pst_err *err)
{
	char node[NI_MAXHOST] = "";
	int rc = ofi_lib_load(err);
	struct ofi_fab *f;

	if (rc < 0)
		return rc;
	f = mem_calloc(1, sizeof(*f));
	if (!f)
		return err_set(err, -ENOMEM, "ofi:%s: no memory", provider);
	(void)snprintf(f->provider, sizeof(f->provider), "%s", provider);
	f->local = *local;
	(void)local_text(node, sizeof(node), local);
	rc = look(&f->info, provider, node[0] ? node : NULL);
	if (rc < 0) {
		mem_free(f);
		return err_set(err, rc == -FI_ENODATA ? -ENOTSUP : ofi_errno(rc),
		               rc == -FI_ENODATA
		                       ? "ofi:%s: libfabric has no such provider with an endpoint "
		                         "at %s (fi_info lists what there is)"
		                       : "ofi:%s: asking libfabric for an endpoint at %s: %s",
		               provider, node, ofi_lib.strerror(-rc));
	}
	rc = ofi_lib.fabric(f->info->fabric_attr, &f->fabric, NULL);
	if (rc < 0) {
		ofi_lib.freeinfo(f->info);
		mem_free(f);
		return err_set(err, ofi_errno(rc), "ofi:%s: opening the fabric: %s", provider,
		               ofi_lib.strerror(-rc));
	}
	log_debug("ofi:%s at %s: domain %s, mr_mode %#x, inject %zu%s", provider, node,
	          f->info->domain_attr->name, (unsigned)f->info->domain_attr->mr_mode,
	          f->info->tx_attr->inject_size, f->info->caps & FI_HMEM ? ", device memory" : "");
	*ret_f = f;
	return 0;
}

static bool same_host(const struct net_addr *a, const struct net_addr *b)
{
	const struct sockaddr_in *a4 = (const void *)&a->sa, *b4 = (const void *)&b->sa;
	const struct sockaddr_in6 *a6 = (const void *)&a->sa, *b6 = (const void *)&b->sa;

	if (a->sa.ss_family != b->sa.ss_family)
		return false;
	if (a->sa.ss_family == AF_INET)
		return a4->sin_addr.s_addr == b4->sin_addr.s_addr;
	return a6->sin6_scope_id == b6->sin6_scope_id &&
	       memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr)) == 0;
}

int ofi_fab_get(struct ofi_fab **ret_f, struct ofi_part *p, const char *provider,
                const struct net_addr *local, struct pst_err *err)
{
	struct ofi_fab *f;
	int rc;

	list_for_each (f, &p->fabs, link) {
		if (strcmp(f->provider, provider) == 0 && same_host(&f->local, local)) {
			*ret_f = f;
			return 0;
		}
	}
	rc = fab_new(&f, provider, local, err);
	if (rc < 0)
		return rc;
	list_push(&p->fabs, &f->link);
	*ret_f = f;
	return 0;
}

/* --- endpoints --- */

static int cq_open(struct ofi_ep *e)
{
	const struct fi_info *info = e->fab->info;
	struct fi_cq_attr attr = {.size = info->tx_attr->size + info->rx_attr->size,
	                          .format = FI_CQ_FORMAT_MSG,
	                          .wait_obj = FI_WAIT_FD};
	int rc = fi_cq_open(e->domain, &attr, &e->cq, NULL);

	e->fd = -1;
	if (rc == 0 && fi_control(&e->cq->fid, FI_GETWAIT, &e->fd) == 0)
		return 0;
	e->fd = -1;
	if (rc == 0)
		(void)fi_close(&e->cq->fid);
	attr.wait_obj = FI_WAIT_NONE;
	return fi_cq_open(e->domain, &attr, &e->cq, NULL);
}

static void limits(struct ofi_ep *e)
{
	const struct fi_info *info = e->fab->info;
	uint64_t mode = (uint64_t)info->domain_attr->mr_mode;

	e->local_keys = mode & FI_MR_LOCAL;
	e->virt_addr = mode & FI_MR_VIRT_ADDR;
	e->prov_key = mode & FI_MR_PROV_KEY;
	e->inject_max = info->tx_attr->inject_size;
	e->iov_max = MAX(1, MIN(info->tx_attr->iov_limit, OFI_IOV_MAX));
	e->done_flag = FI_DELIVERY_COMPLETE;
}

int ofi_ep_open(struct ofi_ep *e, struct ofi_fab *f)
{
	struct fi_av_attr av = {.type = FI_AV_TABLE, .count = 1};
	int rc;

	*e = (struct ofi_ep){.fab = f, .fd = -1, .peer = FI_ADDR_UNSPEC};
	limits(e);
	rc = fi_domain(f->fabric, f->info, &e->domain, NULL);
	if (rc == 0)
		rc = fi_av_open(e->domain, &av, &e->av, NULL);
	if (rc == 0)
		rc = cq_open(e);
	if (rc == 0)
		rc = fi_endpoint(e->domain, f->info, &e->ep, NULL);
	if (rc == 0)
		rc = fi_ep_bind(e->ep, &e->av->fid, 0);
	if (rc == 0)
		rc = fi_ep_bind(e->ep, &e->cq->fid,
		                FI_TRANSMIT | FI_RECV | FI_SELECTIVE_COMPLETION);
	if (rc == 0)
		rc = fi_enable(e->ep);
	if (rc < 0) {
		ofi_ep_stop(e);
		ofi_ep_close(e);
	}
	return ofi_errno(rc);
}

void ofi_ep_stop(struct ofi_ep *e)
{
	struct fi_cq_msg_entry left;

	/* ofi_rxm 1.17 on verbs crashes in fi_close() if the end of the connection has come and was
	 * not looked at; on tcp if it was, and transfers were under way. Both seen. */
	for (unsigned i = 0; e->ep && e->prov_key && i < 1000; i++) {
		struct fi_cq_err_entry bad = {0};
		ssize_t n = fi_cq_read(e->cq, &left, 1);

		if (n == -FI_EAVAIL)
			(void)fi_cq_readerr(e->cq, &bad, 0);
		else if (n <= 0)
			break;
	}
	if (e->ep)
		(void)fi_close(&e->ep->fid);
	e->ep = NULL;
}

void ofi_ep_close(struct ofi_ep *e)
{
	if (e->cq)
		(void)fi_close(&e->cq->fid);
	if (e->av)
		(void)fi_close(&e->av->fid);
	if (e->domain)
		(void)fi_close(&e->domain->fid);
	e->cq = NULL;
	e->av = NULL;
	e->domain = NULL;
	e->fd = -1;
}

/* --- registrations --- */

int ofi_mr_open(struct fid_mr **ret_mr, struct ofi_ep *e, const void *at, size_t len,
                uint64_t access)
{
	int rc = -FI_ENOKEY;

	/* A key of our choice: unguessable (O4), and so hardly ever one that is in use. */
	for (unsigned i = 0; i < 4 && rc == -FI_ENOKEY; i++) {
		uint64_t key = 0;

		if (!e->prov_key) {
			rc = fabric_random(&key, sizeof(key));
			if (rc < 0)
				return rc;
		}
		rc = fi_mr_reg(e->domain, at, len, access, 0, key, 0, ret_mr, NULL);
	}
	/* Locked memory, or entries of the device's table. */
	return rc == 0 ? 0 : rc == -ENOMEM || rc == -EAGAIN ? -ENOSPC : ofi_errno(rc);
}

void ofi_mr_close(struct fid_mr *mr)
{
	if (mr)
		(void)fi_close(&mr->fid);
}
