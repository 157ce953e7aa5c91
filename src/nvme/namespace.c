/* SPDX-License-Identifier: BSD-3-Clause */
/* A namespace as the host sees it: Identify, checked before anybody divides by it. */
#include "nvme/host.h"

static int namespace_parse(const struct nvme_host *h, uint32_t nsid, const struct nvme_id_ns *id,
                           struct pst_nvme_namespace *ret_ns)
{
	const struct nvme_lbaf *f = &id->lbaf[NVME_FLBAS_INDEX(id->flbas)];
	unsigned oncs = le16_get(h->id->oncs);

	if (!id->nsze)
		return -ENOENT; /* inactive: all zeroes */
	if (f->lbads < 9 || f->lbads > 16 || f->ms)
		return -ENOTSUP;
	if (le64_get(id->nsze) > UINT64_MAX >> f->lbads)
		return -EIO;
	*ret_ns = (struct pst_nvme_namespace){
	        .nsid = nsid,
	        .block_bytes = 1u << f->lbads,
	        .blocks = le64_get(id->nsze),
	        .optimal_write_blocks =
	                id->nsfeat & NVME_NSFEAT_IO_OPT ? le16_get(id->nows) + 1u : 0,
	        .read_only = id->nsattr & NVME_NSATTR_PROTECTED,
	        .dealloc_zeroes = (id->dlfeat & 7) == NVME_DLFEAT_ZEROES,
	        .write_zeroes = oncs & NVME_ONCS_WRITE_ZEROES,
	        .dealloc = oncs & NVME_ONCS_DSM,
	        .compare = oncs & NVME_ONCS_COMPARE,
	};
	ret_ns->ana_group = le32_get(id->anagrpid);
	memcpy(ret_ns->nguid, id->nguid, sizeof(id->nguid));
	memcpy(ret_ns->eui64, id->eui64, sizeof(id->eui64));
	return 0;
}

/* The descriptors' part of @i. A controller that has no such list (before NVMe 1.3) adds nothing. */
static int namespace_ids(struct nvme_host *h, uint32_t nsid, void *page, struct nvme_identity *i)
{
	struct nvme_cmd cmd = {.opc = NVME_ADMIN_IDENTIFY,
	                       .nsid = le32_make(nsid),
	                       .cdw10 = le32_make(NVME_CNS_NS_DESC)};
	uint16_t status = 0;
	int rc = nvme_host_admin(h, &cmd, page, NVME_IDENTIFY_BYTES, NULL, &status);

	if (!rc)
		nvme_identity_take_ids(i, page);
	return rc && status && !nvme_status_retry(status) ? 0 : rc;
}

static int namespace_read(struct nvme_host *h, uint32_t nsid, void *page,
                          struct pst_nvme_namespace *ret_ns)
{
	struct nvme_cmd cmd = {.opc = NVME_ADMIN_IDENTIFY,
	                       .nsid = le32_make(nsid),
	                       .cdw10 = le32_make(NVME_CNS_NS)};
	struct pst_nvme_namespace ns;
	struct nvme_identity i;
	unsigned resets;
	int rc;

	do { /* what a reset came between may be of two namespaces */
		resets = h->resets;
		rc = nvme_host_admin(h, &cmd, page, NVME_IDENTIFY_BYTES, NULL, NULL);
		if (!rc)
			rc = namespace_parse(h, nsid, page, &ns);
		if (rc)
			return rc;
		nvme_identity_take(&i, nsid, page);
		rc = namespace_ids(h, nsid, page, &i);
	} while (!rc && h->resets != resets);
	if (!rc)
		rc = nvme_identity_keep(h, &i);
	if (!rc)
		*ret_ns = ns;
	return rc;
}

int nvme_host_namespace(struct nvme_host *h, uint32_t nsid, struct pst_nvme_namespace *ret_ns)
{
	void *page;
	int rc;

	if (!nsid || nsid == NVME_NSID_ALL)
		return -ENOENT;
	page = mem_alloc(NVME_IDENTIFY_BYTES);
	if (!page)
		return -ENOMEM;
	rc = namespace_read(h, nsid, page, ret_ns);
	mem_free(page);
	return rc;
}
