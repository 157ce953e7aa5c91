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

int nvme_host_namespace(struct nvme_host *h, uint32_t nsid, struct pst_nvme_namespace *ret_ns)
{
	struct nvme_cmd cmd = {.opc = NVME_ADMIN_IDENTIFY,
	                       .nsid = le32_make(nsid),
	                       .cdw10 = le32_make(NVME_CNS_NS)};
	struct nvme_id_ns *id;
	int rc;

	if (!nsid || nsid == NVME_NSID_ALL)
		return -ENOENT;
	id = mem_alloc(sizeof(*id));
	if (!id)
		return -ENOMEM;
	rc = nvme_host_admin(h, &cmd, id, sizeof(*id), NULL, NULL);
	if (!rc)
		rc = namespace_parse(h, nsid, id, ret_ns);
	mem_free(id);
	return rc;
}
