/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Identify (Base 5.17). Each answer is built in c->log_buf, 4096 bytes of it, and copied out.
 */
#include <stdio.h>

#include "nvme/ctrlr_int.h"

static const uint8_t no_uuid[16];

static void pad(char *to, size_t size, const char *text)
{
	size_t n = strnlen(text, size);

	memcpy(to, text, n);
	memset(to + n, ' ', size - n);
}

static bool any_volatile(const struct nvme_subsys *s)
{
	for (unsigned i = 0; i < NVME_SUBSYS_NS_MAX; i++) {
		if (s->ns[i] && s->ns[i]->bdev->info.volatile_cache)
			return true;
	}
	return false;
}

static void ctrlr_limits(struct nvme_id_ctrlr *id, const struct nvme_ctrlr *c)
{
	id->mdts = (uint8_t)c->opts.mdts;
	id->acl = 3;
	id->aerl = AER_MAX - 1;
	id->elpe = ERROR_LOG_MAX - 1;
	id->kas = le16_make(KEEP_ALIVE_MS / 100);
	id->sqes = 6 << 4 | 6;
	id->cqes = 4 << 4 | 4;
	id->nn = le32_make(NVME_SUBSYS_NS_MAX);
	id->mnan = le32_make(NVME_SUBSYS_NS_MAX);
	id->anatt = 10;
	id->anagrpmax = le32_make(NVME_ANA_GROUPS_MAX);
	id->nanagrpid = le32_make(NVME_ANA_GROUPS_MAX);
	id->wctemp = le16_make(343); /* kelvin: nothing here gets warm, but 0 is reserved */
	id->cctemp = le16_make(353);
}

static void ctrlr_abilities(struct nvme_id_ctrlr *id, const struct nvme_ctrlr *c)
{
	id->cmic = NVME_CMIC_MULTI_CTRLR | NVME_CMIC_ANA;
	id->oaes = le32_make(NVME_OAES_NS | NVME_OAES_ANA);
	id->ctratt = le32_make(NVME_CTRATT_HOSTID_128);
	id->cntrltype = NVME_CNTRLTYPE_IO;
	id->oacs = le16_make(NVME_OACS_FORMAT | NVME_OACS_DBBUF);
	id->frmw = 1 << 1 | 1; /* one slot, read-only */
	id->lpa = NVME_LPA_EFFECTS | NVME_LPA_EXTENDED;
	id->anacap = NVME_ANACAP_OPTIMIZED | NVME_ANACAP_NONOPT | NVME_ANACAP_INACCESS |
	             NVME_ANACAP_LOSS | NVME_ANACAP_CHANGE | NVME_ANACAP_FIXED | NVME_ANACAP_GRPID;
	id->oncs = le16_make(NVME_ONCS_COMPARE | NVME_ONCS_DSM | NVME_ONCS_WRITE_ZEROES);
	id->fuses = le16_make(NVME_FUSES_CAW);
	id->vwc = NVME_VWC_FLUSH_ALL | (any_volatile(c->subsys) ? NVME_VWC_PRESENT : 0);
	id->sgls = le32_make(NVME_SGLS_BYTE | NVME_SGLS_BIT_BUCKET);
}

/* What differs where commands come in capsules. */
static void ctrlr_fabrics(struct nvme_id_ctrlr *id, const struct nvme_ctrlr *c)
{
	if (!c->opts.fabrics)
		return;
	id->oacs = le16_make(NVME_OACS_FORMAT);
	id->ctratt = le32_make(NVME_CTRATT_HOSTID_128 | NVME_CTRATT_TBKAS);
	id->maxcmd = le16_make((uint16_t)MIN(c->opts.depth_max, c->opts.entries_max - 1));
	id->sgls = le32_make(NVME_SGLS_BYTE | NVME_SGLS_OFFSET | NVME_SGLS_TRANSPORT);
	id->ioccsz = le32_make((uint32_t)(sizeof(struct nvme_cmd) + c->opts.icd_bytes) / 16);
	id->iorcsz = le32_make(sizeof(struct nvme_cqe) / 16);
	id->msdbd = 1;
	if (!c->opts.discovery)
		return;
	id->cntrltype = NVME_CNTRLTYPE_DISC;
	id->oacs = id->oncs = id->fuses = 0;
	id->nn = id->mnan = 0;
	id->vwc = id->cmic = 0;
	id->anatt = id->anacap = 0;
	id->anagrpmax = id->nanagrpid = 0;
	id->oaes = le32_make(NVME_ASYNC_DISCOVERY);
	id->lpa = NVME_LPA_EXTENDED;
}

static uint16_t put(struct nvme_req *r)
{
	uint16_t st = data_map(r, NVME_IDENTIFY_BYTES);

	if (!st)
		data_put(r, r->c->log_buf, NVME_IDENTIFY_BYTES);
	return st;
}

static void identify_ctrlr(struct nvme_ctrlr *c)
{
	struct nvme_id_ctrlr *id = (void *)c->log_buf;
	struct nvme_subsys *s = c->subsys;

	id->vid = le16_make(c->opts.vid);
	id->ssvid = le16_make(c->opts.ssvid);
	memcpy(id->sn, s->serial, sizeof(id->sn));
	memcpy(id->mn, s->model, sizeof(id->mn));
	pad(id->fr, sizeof(id->fr), PENSTOCK_FIRMWARE);
	id->cntlid = le16_make(c->cntlid);
	id->ver = le32_make(NVME_VERSION(2, 0, 0));
	ctrlr_limits(id, c);
	ctrlr_abilities(id, c);
	ctrlr_fabrics(id, c);
	snprintf(id->subnqn, sizeof(id->subnqn), "%s", s->nqn);
}

static void identify_ns(struct nvme_ctrlr *c, const struct nvme_ns *ns)
{
	struct nvme_id_ns *id = (void *)c->log_buf;
	bool both = ns->bdev->info.block_bytes == 512;

	id->nsze = id->ncap = id->nuse = le64_make(ns->blocks);
	id->nlbaf = both;
	id->flbas = both && ns->lba_shift == 12;
	id->nmic = NVME_NMIC_SHARED;
	id->lbaf[0].lbads = both ? 9 : 12;
	if (both)
		id->lbaf[1].lbads = 12;
	id->anagrpid = le32_make(ns->ana_group);
	id->nsattr = ns->read_only ? NVME_NSATTR_PROTECTED : 0;
	memcpy(id->nguid, ns->uuid, sizeof(id->nguid));
}

static void ns_descriptors(struct nvme_ctrlr *c, const struct nvme_ns *ns)
{
	uint8_t *p = c->log_buf;

	if (memcmp(ns->uuid, no_uuid, sizeof(no_uuid))) {
		*p++ = NVME_NIDT_NGUID;
		*p++ = 16;
		memcpy(p + 2, ns->uuid, 16);
		p += 18;
		*p++ = NVME_NIDT_UUID;
		*p++ = 16;
		memcpy(p + 2, ns->uuid, 16);
		p += 18;
	}
	*p++ = NVME_NIDT_CSI;
	*p++ = 1;
	p[2] = NVME_CSI_NVM;
}

static void ns_indep(struct nvme_ctrlr *c, const struct nvme_ns *ns)
{
	struct nvme_id_ns_indep *id = (void *)c->log_buf;

	id->nmic = NVME_NMIC_SHARED;
	id->anagrpid = le32_make(ns->ana_group);
	id->nsattr = ns->read_only ? NVME_NSATTR_PROTECTED : 0;
	id->nstat = 1;
}

/* Ascending NSIDs above @above. */
static void ns_list(struct nvme_ctrlr *c, uint32_t above)
{
	le32 *out = (void *)c->log_buf;
	unsigned n = 0;

	for (uint32_t i = above; i < NVME_SUBSYS_NS_MAX && n < NVME_NS_LIST_MAX; i++) {
		if (subsys_ns(c->subsys, i + 1))
			out[n++] = le32_make(i + 1);
	}
}

/* Controllers with an id of at least @from; all are attached to all namespaces. */
static void ctrlr_list(struct nvme_ctrlr *c, uint32_t from)
{
	struct nvme_ctrlr_list *out = (void *)c->log_buf;
	uint32_t next = from;
	uint16_t n = 0;

	for (;;) {
		const struct nvme_ctrlr *best = NULL;

		for (unsigned i = 0; i < NVME_SUBSYS_CTRLRS_MAX; i++) {
			const struct nvme_ctrlr *o = c->subsys->ctrlrs[i];

			if (o && o->cntlid >= next && (!best || o->cntlid < best->cntlid))
				best = o;
		}
		if (!best)
			break;
		out->id[n++] = le16_make(best->cntlid);
		next = best->cntlid + 1u;
	}
	out->count = le16_make(n);
}

static uint16_t need_ns(struct nvme_req *r,
                        void (*fill)(struct nvme_ctrlr *, const struct nvme_ns *))
{
	uint32_t nsid = cdw(r->cmd.nsid);
	const struct nvme_ns *ns = subsys_ns(r->c->subsys, nsid);

	/* An identifier that is valid but names nothing gives zeroes (Base 5.17.2.1). */
	if (!nsid || nsid > NVME_SUBSYS_NS_MAX)
		return ERR(NVME_SC_INVALID_NS);
	if (ns)
		fill(r->c, ns);
	return put(r);
}

/* The same where something that is not active is an error (descriptors: Base 5.17.2.3). */
static uint16_t need_active(struct nvme_req *r,
                            void (*fill)(struct nvme_ctrlr *, const struct nvme_ns *))
{
	if (!subsys_ns(r->c->subsys, cdw(r->cmd.nsid)))
		return ERR(cdw(r->cmd.nsid) - 1 < NVME_SUBSYS_NS_MAX ? NVME_SC_INVALID_FIELD
		                                                     : NVME_SC_INVALID_NS);
	return need_ns(r, fill);
}

static void nothing(struct nvme_ctrlr *c, const struct nvme_ns *ns)
{
}

/* Namespaces of all formats: what NSID FFFFFFFFh asks for, with no size. */
static uint16_t common_ns(struct nvme_req *r)
{
	struct nvme_id_ns *id = (void *)r->c->log_buf;

	id->nlbaf = 1;
	id->nmic = NVME_NMIC_SHARED;
	id->lbaf[0].lbads = 9;
	id->lbaf[1].lbads = 12;
	return put(r);
}

static uint16_t list(struct nvme_req *r)
{
	uint32_t nsid = cdw(r->cmd.nsid);

	if (nsid >= NVME_NSID_ALL - 1)
		return ERR(NVME_SC_INVALID_NS);
	ns_list(r->c, nsid);
	return put(r);
}

/* Those that a command set has part in. */
static uint16_t identify_iocs(struct nvme_req *r, uint32_t cns)
{
	if (NVME_IDENTIFY_CSI(cdw(r->cmd.cdw11)) != NVME_CSI_NVM)
		return cns == NVME_CNS_IOCS_NS_LIST ? ERR(NVME_SC_IOCS_NOT_SUPPORTED)
		                                    : ERR(NVME_SC_INVALID_FIELD);
	switch (cns) {
	case NVME_CNS_IOCS_NS:
		return need_active(r, nothing);
	case NVME_CNS_IOCS_CTRLR:
		return put(r); /* zeroes: no limits of its own */
	default:
		return list(r);
	}
}

static uint16_t identify_sets(struct nvme_req *r)
{
	uint32_t cntid = NVME_IDENTIFY_CNTID(cdw(r->cmd.cdw10));

	if (cntid != 0xffff && cntid != r->c->cntlid)
		return ERR(NVME_SC_INVALID_FIELD);
	r->c->log_buf[0] = 1; /* the first combination: the NVM command set */
	return put(r);
}

static uint16_t identify_ctrlrs(struct nvme_req *r, bool of_ns)
{
	uint32_t nsid = cdw(r->cmd.nsid);

	if (of_ns && (!nsid || nsid > NVME_SUBSYS_NS_MAX))
		return ERR(NVME_SC_INVALID_NS);
	if (!of_ns || subsys_ns(r->c->subsys, nsid))
		ctrlr_list(r->c, NVME_IDENTIFY_CNTID(cdw(r->cmd.cdw10)));
	return put(r);
}

uint16_t identify(struct nvme_req *r)
{
	struct nvme_ctrlr *c = r->c;
	uint32_t cns = NVME_IDENTIFY_CNS(cdw(r->cmd.cdw10));

	if (c->opts.discovery && cns != NVME_CNS_CTRLR)
		return ERR(NVME_SC_INVALID_FIELD);
	memset(c->log_buf, 0, NVME_IDENTIFY_BYTES);
	switch (cns) {
	case NVME_CNS_NS:
		return cdw(r->cmd.nsid) == NVME_NSID_ALL ? common_ns(r) : need_ns(r, identify_ns);
	case NVME_CNS_CTRLR:
		identify_ctrlr(c);
		return put(r);
	case NVME_CNS_NS_LIST:
	case NVME_CNS_ALLOCATED_LIST:
		return list(r);
	case NVME_CNS_ALLOCATED_NS:
		return need_ns(r, identify_ns);
	case NVME_CNS_NS_DESC:
		return need_active(r, ns_descriptors);
	case NVME_CNS_NS_INDEP:
		return need_active(r, ns_indep);
	case NVME_CNS_IOCS_NS:
	case NVME_CNS_IOCS_CTRLR:
	case NVME_CNS_IOCS_NS_LIST:
		return identify_iocs(r, cns);
	case NVME_CNS_NS_CTRLRS:
	case NVME_CNS_CTRLRS:
		return identify_ctrlrs(r, cns == NVME_CNS_NS_CTRLRS);
	case NVME_CNS_IOCS_SETS:
		return identify_sets(r);
	default:
		return ERR(NVME_SC_INVALID_FIELD);
	}
}
