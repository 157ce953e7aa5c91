/* SPDX-License-Identifier: BSD-3-Clause */
/* PDUs of NVMe/TCP: headers checked and made, digests. See tcp_pdu.h. */
#include "nvme/tcp_pdu.h"

/* --- reading --- */

static uint8_t hlen_of(uint8_t type)
{
	switch (type) {
	case NVME_TCP_ICREQ:
	case NVME_TCP_ICRESP:
		return sizeof(struct nvme_tcp_icreq);
	case NVME_TCP_H2C_TERM:
	case NVME_TCP_C2H_TERM:
		return sizeof(struct nvme_tcp_term);
	case NVME_TCP_CMD:
		return sizeof(struct nvme_tcp_cmd);
	case NVME_TCP_RESP:
		return sizeof(struct nvme_tcp_resp);
	case NVME_TCP_H2C_DATA:
	case NVME_TCP_C2H_DATA:
		return sizeof(struct nvme_tcp_data);
	case NVME_TCP_R2T:
		return sizeof(struct nvme_tcp_r2t);
	default:
		return 0;
	}
}

/* Hosts send even types, targets odd ones. */
static bool type_ok(const struct tcp_rules *r, uint8_t type)
{
	return hlen_of(type) && !(type & 1) == r->target;
}

/* Digests are for all but those at a connection's beginning and end. */
static bool has_digests(uint8_t type)
{
	return type >= NVME_TCP_CMD;
}

static bool may_have_data(uint8_t type)
{
	return type == NVME_TCP_CMD || type == NVME_TCP_H2C_DATA || type == NVME_TCP_C2H_DATA;
}

static int fault(struct tcp_fault *f, uint16_t fes, uint32_t fei)
{
	*f = (struct tcp_fault){fes, fei};
	return -EPROTO;
}

/* Where the data begins and how much there is. */
static int data_place(const struct tcp_rules *r, struct tcp_pdu *p, struct tcp_fault *f)
{
	uint32_t plen = le32_get(p->hdr.plen), head = p->head_bytes, tail, pdo = p->hdr.pdo;

	if (plen == head && p->hdr.type == NVME_TCP_CMD)
		return p->hdr.flags & NVME_TCP_DDGSTF ? fault(f, NVME_TCP_FES_HEADER, 1) : 0;
	if (!may_have_data(p->hdr.type))
		return plen == head ? 0 : fault(f, NVME_TCP_FES_HEADER, 4);
	if (pdo < head || pdo % (4u * (r->rx_pda + 1u)) || pdo > TCP_HEAD_MAX)
		return fault(f, NVME_TCP_FES_HEADER, 3);
	tail = r->ddgst ? NVME_TCP_DIGEST_BYTES : 0;
	if (!(p->hdr.flags & NVME_TCP_DDGSTF) != !r->ddgst)
		return fault(f, NVME_TCP_FES_HEADER, 1);
	if (plen <= pdo + tail || plen > TCP_PDU_MAX)
		return fault(f, NVME_TCP_FES_HEADER, 4);
	p->head_bytes = pdo;
	p->data_bytes = plen - pdo - tail;
	p->ddgst = r->ddgst;
	return 0;
}

static int header_digest(const struct tcp_rules *r, struct tcp_pdu *p, const uint8_t *bytes,
                         struct tcp_fault *f)
{
	uint8_t hlen = p->hdr.hlen;
	le32 got;

	if (!has_digests(p->hdr.type) || !r->hdgst)
		return p->hdr.flags & NVME_TCP_HDGSTF ? fault(f, NVME_TCP_FES_HEADER, 1) : 0;
	if (!(p->hdr.flags & NVME_TCP_HDGSTF))
		return fault(f, NVME_TCP_FES_HEADER, 1);
	memcpy(&got, bytes + hlen, sizeof(got));
	if (le32_get(got) != crc32c(0, bytes, hlen))
		return fault(f, NVME_TCP_FES_DIGEST, le32_get(got));
	return 0;
}

int tcp_pdu_read(const struct tcp_rules *r, const void *bytes, size_t len, struct tcp_pdu *ret_pdu,
                 struct tcp_fault *ret_fault)
{
	struct tcp_pdu *p = ret_pdu;
	bool term, digest;
	uint32_t plen;

	if (len < sizeof(struct nvme_tcp_hdr))
		return 0;
	memcpy(&p->hdr, bytes, sizeof(p->hdr));
	plen = le32_get(p->hdr.plen);
	term = p->hdr.type == NVME_TCP_H2C_TERM || p->hdr.type == NVME_TCP_C2H_TERM;
	if (!type_ok(r, p->hdr.type))
		return fault(ret_fault, NVME_TCP_FES_HEADER, 0);
	if (p->hdr.hlen != hlen_of(p->hdr.type))
		return fault(ret_fault, NVME_TCP_FES_HEADER, 2);
	digest = r->hdgst && has_digests(p->hdr.type);
	p->head_bytes = p->hdr.hlen + (digest ? NVME_TCP_DIGEST_BYTES : 0);
	p->data_bytes = 0;
	p->ddgst = false;
	if (plen < p->head_bytes || (term && plen > NVME_TCP_TERM_MAX))
		return fault(ret_fault, NVME_TCP_FES_HEADER, 4);
	if (len < p->head_bytes)
		return 0;
	memcpy(p->bytes, bytes, p->hdr.hlen); /* the length that was checked: it is the type's */
	if (p->hdr.hlen != hlen_of(p->hdr.type) || le32_get(p->hdr.plen) != plen)
		return fault(ret_fault, NVME_TCP_FES_HEADER, 0);
	if (term) {
		p->head_bytes = plen; /* what it quotes is of no use to us */
		return len < plen ? 0 : 1;
	}
	if (header_digest(r, p, bytes, ret_fault) || data_place(r, p, ret_fault))
		return -EPROTO;
	return len < p->head_bytes ? 0 : 1;
}

/* --- making --- */

uint32_t tcp_pdu_make(const struct tcp_rules *r, struct nvme_tcp_hdr *hdr, uint8_t type,
                      uint8_t hlen, uint8_t flags, uint32_t data_bytes)
{
	bool digest = r->hdgst && has_digests(type), ddgst = r->ddgst && data_bytes;
	uint32_t head = hlen + (digest ? NVME_TCP_DIGEST_BYTES : 0), bare = head;
	uint8_t *bytes = (uint8_t *)hdr;

	if (data_bytes)
		head = (uint32_t)(DIV_ROUND_UP(head, 4u * (r->tx_pda + 1u)) * 4u *
		                  (r->tx_pda + 1u));
	*hdr = (struct nvme_tcp_hdr){
	        .type = type,
	        .flags = (uint8_t)(flags | (digest ? NVME_TCP_HDGSTF : 0) |
	                           (ddgst ? NVME_TCP_DDGSTF : 0)),
	        .hlen = hlen,
	        .pdo = data_bytes ? (uint8_t)head : 0,
	        .plen = le32_make(head + data_bytes + (ddgst ? NVME_TCP_DIGEST_BYTES : 0)),
	};
	if (digest) {
		le32 crc = le32_make(crc32c(0, bytes, hlen));

		memcpy(bytes + hlen, &crc, sizeof(crc));
	}
	memset(bytes + bare, 0, head - bare);
	return head;
}

uint32_t tcp_digest(const struct iovec *iov, unsigned count)
{
	uint32_t crc = 0;

	for (unsigned i = 0; i < count; i++)
		crc = crc32c(crc, iov[i].iov_base, iov[i].iov_len);
	return crc;
}

uint32_t tcp_term_make(uint8_t *buf, bool target, const struct tcp_fault *f, const void *bytes,
                       size_t len)
{
	struct nvme_tcp_term *t = (struct nvme_tcp_term *)(void *)buf;
	uint32_t quoted = (uint32_t)MIN(len, NVME_TCP_TERM_MAX - sizeof(*t));
	le32 fei = le32_make(f->fei);

	memset(t, 0, sizeof(*t));
	t->hdr.type = target ? NVME_TCP_C2H_TERM : NVME_TCP_H2C_TERM;
	t->hdr.hlen = sizeof(*t);
	t->hdr.plen = le32_make((uint32_t)sizeof(*t) + quoted);
	t->fes = le16_make(f->fes);
	memcpy(t->fei, &fei, sizeof(fei));
	if (quoted)
		memcpy(buf + sizeof(*t), bytes, quoted);
	return (uint32_t)sizeof(*t) + quoted;
}
