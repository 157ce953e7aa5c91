/* SPDX-License-Identifier: BSD-3-Clause */
/* A provider of libfabric inside the test; see fake_ofi.h. */
#include <errno.h>
#include <stdlib.h>

#include "fake_ofi.h"

enum { QUEUE = 64, UNDER_WAY = 512, SENT = 256, INJECT = 256 };

/* Something of ours that the provider holds until it completes. */
struct posted {
	void *context;
	struct iovec iov[OFI_IOV_MAX];
	size_t count;
	bool write_local; /* bytes come */
};

struct fake_mr {
	struct fid_mr mr;
	struct fake_ofi *f;
	struct fake_mr *next;
	uint8_t *at;
	size_t len;
	uint64_t access;
};

struct done {
	struct fi_cq_msg_entry entry;
	int err;
};

struct fake_ofi {
	struct fid_domain domain;
	struct fid_av av;
	struct fid_cq cq;
	struct fid_ep ep;
	unsigned open; /* of these four */
	bool enabled;
	struct fake_mr *mrs;
	uint64_t next_key;
	struct posted rx[QUEUE], flying[UNDER_WAY];
	unsigned rx_count, flying_count;
	struct done done[UNDER_WAY + QUEUE];
	unsigned done_at, done_count;
	struct ofi_head sent[SENT];
	unsigned sent_at, sent_count;
	unsigned refuse;
};

static struct {
	bool verbs;
	unsigned infos, fabrics, domains;
	struct fake_ofi *last;
} world;

/* Its content matters, and nothing else: a sum that can't be left out. */
static volatile uint8_t looked_at;

static void look_at(const void *at, size_t len)
{
	const uint8_t *b = at;
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + b[i]);
	looked_at = sum;
}

/* --- completions --- */

static void complete(struct fake_ofi *f, void *context, size_t len, int err)
{
	struct done *d = &f->done[(f->done_at + f->done_count) % ARRAY_LEN(f->done)];

	pst_assert(f->done_count < ARRAY_LEN(f->done));
	*d = (struct done){.entry = {.op_context = context, .len = len}, .err = err};
	f->done_count++;
}

static ssize_t cq_read(struct fid_cq *cq, void *buf, size_t count)
{
	struct fake_ofi *f = container_of(cq, struct fake_ofi, cq);
	struct fi_cq_msg_entry *e = buf;
	size_t n = 0;

	while (n < count && f->done_count && !f->done[f->done_at].err) {
		e[n++] = f->done[f->done_at].entry;
		f->done_at = (f->done_at + 1) % ARRAY_LEN(f->done);
		f->done_count--;
	}
	return n ? (ssize_t)n : f->done_count ? -FI_EAVAIL : -FI_EAGAIN;
}

static ssize_t cq_readerr(struct fid_cq *cq, struct fi_cq_err_entry *e, uint64_t flags)
{
	struct fake_ofi *f = container_of(cq, struct fake_ofi, cq);

	if (!f->done_count || !f->done[f->done_at].err)
		return -FI_EAGAIN;
	*e = (struct fi_cq_err_entry){.op_context = f->done[f->done_at].entry.op_context,
	                              .err = f->done[f->done_at].err};
	f->done_at = (f->done_at + 1) % ARRAY_LEN(f->done);
	f->done_count--;
	return 1;
}

static struct fi_ops_cq cq_ops = {.size = sizeof(cq_ops), .read = cq_read, .readerr = cq_readerr};

/* --- posting --- */

static bool refused(struct fake_ofi *f)
{
	if (!f->refuse)
		return false;
	f->refuse--;
	return true;
}

static ssize_t ep_recvmsg(struct fid_ep *ep, const struct fi_msg *m, uint64_t flags)
{
	struct fake_ofi *f = container_of(ep, struct fake_ofi, ep);
	struct posted *p = &f->rx[f->rx_count];

	pst_assert(f->rx_count < QUEUE && m->iov_count == 1); /* as many as the provider has said */
	pst_assert(!world.verbs || m->desc[0]);
	*p = (struct posted){.context = m->context, .iov = {m->msg_iov[0]}, .count = 1};
	f->rx_count++;
	return 0;
}

static void keep_head(struct fake_ofi *f, const struct iovec *iov)
{
	pst_assert(iov->iov_len >= sizeof(struct ofi_head));
	if (f->sent_count == SENT) { /* nobody looks */
		f->sent_at = (f->sent_at + 1) % SENT;
		f->sent_count--;
	}
	memcpy(&f->sent[(f->sent_at + f->sent_count++) % SENT], iov->iov_base,
	       sizeof(struct ofi_head));
}

static ssize_t fly(struct fake_ofi *f, const struct iovec *iov, void *const *desc, size_t count,
                   void *context, bool write_local)
{
	struct posted *p = &f->flying[f->flying_count];

	pst_assert(count && count <= OFI_IOV_MAX);
	if (refused(f) || f->flying_count == UNDER_WAY)
		return -FI_EAGAIN;
	for (size_t i = 0; world.verbs && i < count; i++)
		pst_assert(desc[i]);
	*p = (struct posted){.context = context, .count = count, .write_local = write_local};
	memcpy(p->iov, iov, count * sizeof(*iov));
	f->flying_count++;
	return 0;
}

static ssize_t ep_sendmsg(struct fid_ep *ep, const struct fi_msg *m, uint64_t flags)
{
	struct fake_ofi *f = container_of(ep, struct fake_ofi, ep);
	ssize_t rc;

	if (flags & FI_INJECT) {
		pst_assert(iov_sum(m->msg_iov, m->iov_count) <= INJECT);
		if (refused(f))
			return -FI_EAGAIN;
		for (size_t i = 0; i < m->iov_count; i++)
			look_at(m->msg_iov[i].iov_base, m->msg_iov[i].iov_len);
		keep_head(f, m->msg_iov);
		return 0;
	}
	rc = fly(f, m->msg_iov, m->desc, m->iov_count, m->context, false);
	if (rc == 0)
		keep_head(f, m->msg_iov);
	return rc;
}

static ssize_t ep_inject(struct fid_ep *ep, const void *buf, size_t len, fi_addr_t to)
{
	struct fake_ofi *f = container_of(ep, struct fake_ofi, ep);

	pst_assert(len <= INJECT);
	if (refused(f))
		return -FI_EAGAIN;
	keep_head(f, &(struct iovec){(void *)(uintptr_t)buf, len});
	return 0;
}

static ssize_t ep_readmsg(struct fid_ep *ep, const struct fi_msg_rma *m, uint64_t flags)
{
	return fly(container_of(ep, struct fake_ofi, ep), m->msg_iov, m->desc, m->iov_count,
	           m->context, true);
}

static ssize_t ep_writemsg(struct fid_ep *ep, const struct fi_msg_rma *m, uint64_t flags)
{
	return fly(container_of(ep, struct fake_ofi, ep), m->msg_iov, m->desc, m->iov_count,
	           m->context, false);
}

static struct fi_ops_msg msg_ops = {
        .size = sizeof(msg_ops), .recvmsg = ep_recvmsg, .sendmsg = ep_sendmsg, .inject = ep_inject};
static struct fi_ops_rma rma_ops = {
        .size = sizeof(rma_ops), .readmsg = ep_readmsg, .writemsg = ep_writemsg};

/* --- the endpoint, and what it needs --- */

static void member_closed(struct fake_ofi *f)
{
	if (--f->open)
		return;
	pst_assert(!f->mrs); /* registrations end before their domain */
	if (world.last == f)
		world.last = NULL;
	world.domains--;
	free(f);
}

static int domain_close(struct fid *fid)
{
	member_closed(container_of(fid, struct fake_ofi, domain.fid));
	return 0;
}

static int av_close(struct fid *fid)
{
	member_closed(container_of(fid, struct fake_ofi, av.fid));
	return 0;
}

static int cq_close(struct fid *fid)
{
	member_closed(container_of(fid, struct fake_ofi, cq.fid));
	return 0;
}

static int ep_close(struct fid *fid)
{
	struct fake_ofi *f = container_of(fid, struct fake_ofi, ep.fid);

	f->rx_count = f->flying_count = 0;
	f->enabled = false;
	if (world.last == f)
		world.last = NULL;
	member_closed(f);
	return 0;
}

static int any_bind(struct fid *fid, struct fid *other, uint64_t flags)
{
	return 0;
}

static int ep_control(struct fid *fid, int command, void *arg)
{
	struct fake_ofi *f = container_of(fid, struct fake_ofi, ep.fid);

	pst_assert(command == FI_ENABLE);
	f->enabled = true;
	world.last = f;
	return 0;
}

/* There is no descriptor that wakes: who waits looks. */
static int cq_control(struct fid *fid, int command, void *arg)
{
	return -FI_ENOSYS;
}

static int ep_getname(fid_t fid, void *addr, size_t *len)
{
	pst_assert(*len >= 16);
	memset(addr, 0x5a, 16);
	*len = 16;
	return 0;
}

static int av_insert(struct fid_av *av, const void *addr, size_t count, fi_addr_t *ret_addr,
                     uint64_t flags, void *context)
{
	*ret_addr = 0;
	return 1;
}

static struct fi_ops domain_fid = {.size = sizeof(struct fi_ops), .close = domain_close};
static struct fi_ops av_fid = {.size = sizeof(struct fi_ops), .close = av_close};
static struct fi_ops cq_fid = {
        .size = sizeof(struct fi_ops), .close = cq_close, .control = cq_control};
static struct fi_ops ep_fid = {
        .size = sizeof(struct fi_ops), .close = ep_close, .bind = any_bind, .control = ep_control};
static struct fi_ops_cm cm_ops = {.size = sizeof(cm_ops), .getname = ep_getname};
static struct fi_ops_av av_ops = {.size = sizeof(av_ops), .insert = av_insert};

/* --- registrations --- */

static int mr_close(struct fid *fid)
{
	struct fake_mr *m = container_of(fid, struct fake_mr, mr.fid), **at = &m->f->mrs;

	while (*at != m)
		at = &(*at)->next;
	*at = m->next;
	free(m);
	return 0;
}

static struct fi_ops mr_fid = {.size = sizeof(struct fi_ops), .close = mr_close};

static struct fake_mr *mr_find(const struct fake_ofi *f, uint64_t key)
{
	struct fake_mr *m = f->mrs;

	while (m && m->mr.key != key)
		m = m->next;
	return m;
}

static int mr_reg(struct fid *fid, const void *buf, size_t len, uint64_t access, uint64_t offset,
                  uint64_t key, uint64_t flags, struct fid_mr **ret_mr, void *context)
{
	struct fake_ofi *f = container_of(fid, struct fake_ofi, domain.fid);
	struct fake_mr *m;

	if (!world.verbs && mr_find(f, key))
		return -FI_ENOKEY;
	m = calloc(1, sizeof(*m));
	pst_assert(m && len);
	*m = (struct fake_mr){.mr = {.fid = {.ops = &mr_fid},
	                             .mem_desc = m,
	                             .key = world.verbs ? ++f->next_key : key},
	                      .f = f,
	                      .next = f->mrs,
	                      .at = (uint8_t *)(uintptr_t)buf,
	                      .len = len,
	                      .access = access};
	f->mrs = m;
	*ret_mr = &m->mr;
	return 0;
}

static struct fi_ops_mr mr_ops = {.size = sizeof(mr_ops), .reg = mr_reg};

/* --- domains --- */

static int open_member(struct fake_ofi *f)
{
	f->open++;
	return 0;
}

static int av_open(struct fid_domain *d, struct fi_av_attr *attr, struct fid_av **ret_av,
                   void *context)
{
	struct fake_ofi *f = container_of(d, struct fake_ofi, domain);

	f->av = (struct fid_av){.fid = {.ops = &av_fid}, .ops = &av_ops};
	*ret_av = &f->av;
	return open_member(f);
}

static int cq_open(struct fid_domain *d, struct fi_cq_attr *attr, struct fid_cq **ret_cq,
                   void *context)
{
	struct fake_ofi *f = container_of(d, struct fake_ofi, domain);

	f->cq = (struct fid_cq){.fid = {.ops = &cq_fid}, .ops = &cq_ops};
	*ret_cq = &f->cq;
	return open_member(f);
}

static int ep_open(struct fid_domain *d, struct fi_info *info, struct fid_ep **ret_ep,
                   void *context)
{
	struct fake_ofi *f = container_of(d, struct fake_ofi, domain);

	f->ep = (struct fid_ep){
	        .fid = {.ops = &ep_fid}, .cm = &cm_ops, .msg = &msg_ops, .rma = &rma_ops};
	*ret_ep = &f->ep;
	return open_member(f);
}

static struct fi_ops_domain domain_ops = {
        .size = sizeof(domain_ops), .av_open = av_open, .cq_open = cq_open, .endpoint = ep_open};

static int domain_open(struct fid_fabric *fabric, struct fi_info *info, struct fid_domain **ret_d,
                       void *context)
{
	struct fake_ofi *f = calloc(1, sizeof(*f));

	pst_assert(f);
	f->domain =
	        (struct fid_domain){.fid = {.ops = &domain_fid}, .ops = &domain_ops, .mr = &mr_ops};
	world.domains++;
	*ret_d = &f->domain;
	return open_member(f);
}

/* --- the library --- */

static int fabric_close(struct fid *fid)
{
	world.fabrics--;
	free(container_of(fid, struct fid_fabric, fid));
	return 0;
}

static int trywait(struct fid_fabric *fabric, struct fid **fids, int count)
{
	return -FI_EAGAIN;
}

static struct fi_ops fabric_fid = {.size = sizeof(struct fi_ops), .close = fabric_close};
static struct fi_ops_fabric fabric_ops = {
        .size = sizeof(fabric_ops), .domain = domain_open, .trywait = trywait};

static int lib_fabric(struct fi_fabric_attr *attr, struct fid_fabric **ret_fabric, void *context)
{
	struct fid_fabric *f = calloc(1, sizeof(*f));

	pst_assert(f);
	*f = (struct fid_fabric){.fid = {.ops = &fabric_fid}, .ops = &fabric_ops};
	world.fabrics++;
	*ret_fabric = f;
	return 0;
}

/* The attributes lie behind it. */
struct whole_info {
	struct fi_info info;
	struct fi_tx_attr tx;
	struct fi_rx_attr rx;
	struct fi_ep_attr ep;
	struct fi_domain_attr domain;
	struct fi_fabric_attr fabric;
};

static struct fi_info *lib_dupinfo(const struct fi_info *none)
{
	struct whole_info *w = calloc(1, sizeof(*w));

	pst_assert(w && !none);
	w->info = (struct fi_info){.tx_attr = &w->tx,
	                           .rx_attr = &w->rx,
	                           .ep_attr = &w->ep,
	                           .domain_attr = &w->domain,
	                           .fabric_attr = &w->fabric};
	world.infos++;
	return &w->info;
}

static void lib_freeinfo(struct fi_info *info)
{
	world.infos--;
	free(info->fabric_attr->prov_name);
	free(container_of(info, struct whole_info, info));
}

static int lib_getinfo(uint32_t version, const char *node, const char *service, uint64_t flags,
                       const struct fi_info *hints, struct fi_info **ret_info)
{
	struct fi_info *i = lib_dupinfo(NULL);

	i->tx_attr->size = i->rx_attr->size = QUEUE;
	i->tx_attr->inject_size = INJECT;
	i->tx_attr->iov_limit = 2;
	i->ep_attr->protocol = FI_PROTO_RXM;
	i->domain_attr->mr_mode =
	        world.verbs ? FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY : 0;
	*ret_info = i;
	return 0;
}

static const char *lib_strerror(int err)
{
	return strerror(err < 0 ? -err : err);
}

void fake_ofi_use(bool verbs)
{
	pst_assert(fake_ofi_clean());
	world.verbs = verbs;
	ofi_lib = (struct ofi_lib){.dupinfo = lib_dupinfo,
	                           .freeinfo = lib_freeinfo,
	                           .getinfo = lib_getinfo,
	                           .fabric = lib_fabric,
	                           .strerror = lib_strerror};
}

bool fake_ofi_clean(void)
{
	return !world.infos && !world.fabrics && !world.domains;
}

/* --- the peer --- */

struct fake_ofi *fake_ofi_last(void)
{
	return world.last;
}

bool fake_ofi_deliver(struct fake_ofi *f, const void *bytes, size_t len)
{
	struct posted p = f->rx[0];

	if (!f->rx_count || f->done_count >= UNDER_WAY)
		return false;
	memmove(&f->rx[0], &f->rx[1], --f->rx_count * sizeof(f->rx[0]));
	memcpy(p.iov[0].iov_base, bytes, MIN(len, p.iov[0].iov_len));
	complete(f, p.context, len, len > p.iov[0].iov_len ? FI_ETRUNC : 0);
	return true;
}

bool fake_ofi_complete(struct fake_ofi *f, unsigned nth, int err, uint8_t fill)
{
	struct posted p;
	size_t len = 0;

	if (nth >= f->flying_count || f->done_count >= UNDER_WAY)
		return false;
	p = f->flying[nth];
	f->flying_count--;
	memmove(&f->flying[nth], &f->flying[nth + 1],
	        (f->flying_count - nth) * sizeof(f->flying[0]));
	for (size_t i = 0; i < p.count; i++) {
		if (p.write_local)
			memset(p.iov[i].iov_base, fill, p.iov[i].iov_len);
		else
			look_at(p.iov[i].iov_base, p.iov[i].iov_len);
		len += p.iov[i].iov_len;
	}
	complete(f, p.context, len, err);
	return true;
}

void fake_ofi_refuse(struct fake_ofi *f, unsigned n)
{
	f->refuse = n;
}

int fake_ofi_reach(struct fake_ofi *f, uint64_t key, uint64_t addr, size_t len, bool write,
                   uint8_t fill)
{
	struct fake_mr *m = mr_find(f, key);
	uint64_t off = m && world.verbs ? addr - (uint64_t)(uintptr_t)m->at : addr;

	if (!m || !(m->access & (write ? FI_REMOTE_WRITE : FI_REMOTE_READ)) || off > m->len ||
	    len > m->len - off)
		return -EACCES;
	if (write)
		memset(m->at + off, fill, len);
	else
		look_at(m->at + off, len);
	return 0;
}

bool fake_ofi_sent(struct fake_ofi *f, struct ofi_head *ret_head)
{
	if (!f->sent_count)
		return false;
	*ret_head = f->sent[f->sent_at];
	f->sent_at = (f->sent_at + 1) % SENT;
	f->sent_count--;
	return true;
}
