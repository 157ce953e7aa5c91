/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory of a command, as the driver describes it to a controller in the next room: PRPs or an
 * SGL with addresses, which are pointers of this process. On the wire there is only its length.
 *
 * A PRP does not say how long the data is. That follows from the command, and for those that count
 * in blocks from what Identify Namespace has said before (tcp_learn()).
 */
#include "nvme/tcp_host.h"

#define ERR(sc) ((uint16_t)((sc) | NVME_STATUS_DNR))
#define PAGE    4096u

static uint16_t piece(struct tcp_slot *s, uint64_t addr, uint32_t len)
{
	struct iovec *v = &s->data[s->pieces];
	void *p = (void *)(uintptr_t)addr;

	if (!len)
		return 0;
	s->len += len;
	if (s->pieces && (char *)v[-1].iov_base + v[-1].iov_len == (char *)p) {
		v[-1].iov_len += len;
		return 0;
	}
	if (s->pieces == TCP_PIECES_MAX)
		return ERR(NVME_SC_SGL_COUNT);
	*v = (struct iovec){.iov_base = p, .iov_len = len};
	s->pieces++;
	return 0;
}

static uint16_t prp_list(struct tcp_slot *s, const le64 *list, uint32_t len)
{
	while (len) {
		bool link = (((uintptr_t)list + 8) & (PAGE - 1)) == 0 && len > PAGE;
		uint32_t here = MIN(len, PAGE);
		uint16_t st;

		if (link) {
			list = (const le64 *)(uintptr_t)le64_get(*list);
			continue;
		}
		st = piece(s, le64_get(*list++), here);
		if (st)
			return st;
		len -= here;
	}
	return 0;
}

static uint16_t prp(struct tcp_slot *s, uint32_t len)
{
	uint64_t prp1 = le64_get(s->cmd.cmd.prp1), prp2 = le64_get(s->cmd.cmd.prp2);
	uint32_t first = MIN(len, PAGE - (uint32_t)(prp1 & (PAGE - 1)));
	uint16_t st = piece(s, prp1, first);

	len -= first;
	if (st || !len)
		return st;
	return len <= PAGE ? piece(s, prp2, len) : prp_list(s, (const le64 *)(uintptr_t)prp2, len);
}

static uint16_t sgl(struct tcp_slot *s)
{
	const struct nvme_sgl_desc *d = &s->cmd.cmd.sgl;
	const struct nvme_sgl_desc *list = (const void *)(uintptr_t)le64_get(d->addr);
	uint32_t n = le32_get(d->len) / sizeof(*d);
	uint16_t st = 0;

	if (d->type == NVME_SGL_TYPE(NVME_SGL_DATA, NVME_SGL_ADDRESS))
		return piece(s, le64_get(d->addr), le32_get(d->len));
	if (d->type != NVME_SGL_TYPE(NVME_SGL_LAST_SEGMENT, NVME_SGL_ADDRESS))
		return ERR(NVME_SC_SGL_TYPE);
	for (uint32_t i = 0; i < n && !st; i++) {
		if (list[i].type != NVME_SGL_TYPE(NVME_SGL_DATA, NVME_SGL_ADDRESS))
			return ERR(NVME_SC_SGL_TYPE);
		st = piece(s, le64_get(list[i].addr), le32_get(list[i].len));
	}
	return st;
}

/* Bytes of data of an admin command; what is not known has none. */
static uint32_t admin_bytes(const struct nvme_cmd *c)
{
	uint32_t cdw10 = le32_get(c->cdw10), cdw11 = le32_get(c->cdw11);

	switch (c->opc) {
	case NVME_ADMIN_IDENTIFY:
		return NVME_IDENTIFY_BYTES;
	case NVME_ADMIN_GET_LOG:
		return ((NVME_LOG_NUMDL(cdw10) | NVME_LOG_NUMDU(cdw11) << 16) + 1) * 4;
	case NVME_ADMIN_SET_FEATURES:
	case NVME_ADMIN_GET_FEATURES:
		if (NVME_FEATURE_FID(cdw10) == NVME_FEAT_HOST_BEHAVIOR)
			return 512;
		if (NVME_FEATURE_FID(cdw10) == NVME_FEAT_HOST_ID)
			return cdw11 & NVME_HOST_ID_EXHID ? 16 : 8;
		return 0;
	default:
		return 0;
	}
}

static uint16_t io_bytes(const struct tcp_host *h, const struct nvme_cmd *c, uint32_t *ret_len)
{
	uint32_t nsid = le32_get(c->nsid);

	switch (c->opc) {
	case NVME_IO_READ:
	case NVME_IO_WRITE:
	case NVME_IO_COMPARE:
		if (nsid >= TCP_NS_KNOWN || !h->ns_shift[nsid])
			return ERR(NVME_SC_INVALID_NS); /* nobody has looked at it yet */
		*ret_len = (NVME_RW_NLB(le32_get(c->cdw12)) + 1) << h->ns_shift[nsid];
		return 0;
	case NVME_IO_DSM:
		*ret_len = (NVME_DSM_NR(le32_get(c->cdw10)) + 1) *
		           (uint32_t)sizeof(struct nvme_dsm_range);
		return 0;
	default:
		*ret_len = 0;
		return 0;
	}
}

uint16_t tcp_data_map(struct tcp_slot *s)
{
	struct nvme_cmd *c = &s->cmd.cmd;
	uint32_t len = 0;
	uint16_t st = 0;

	s->pieces = 0;
	s->len = s->moved = 0;
	s->dir = NVME_OPC_DIR(c->opc);
	if ((c->flags & NVME_CMD_PSDT_MASK) != NVME_CMD_PSDT_PRP) {
		st = s->dir ? sgl(s) : 0;
	} else {
		if (s->q->qid)
			st = io_bytes(s->q->h, c, &len);
		else
			len = admin_bytes(c);
		if (!st && len)
			st = prp(s, len);
	}
	if (!st && !s->len)
		s->dir = NVME_DIR_NONE;
	return st;
}
