/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_nvme_tcp_host - a hostile target before the NVMe/TCP host: answers, data, requests for data, and
 * the discovery log. The memory that commands name is one allocation, so that AddressSanitizer sees a
 * byte beyond it; ids, offsets and lengths are all the target's to make up.
 *
 * The input's first byte says how far a good target goes first: 0 nothing, 1 ICResp, 2 also Connect, CAP
 * and VS, 3 also the enabled controller with four admin commands under way (a read of 4096 bytes, one
 * of 512, a write of 16, an event); bit 7: the discovery log is asked for instead. Then the rest of
 * the input, and the end.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nvme/tcp_host.h"

#include "fuzz.h"

struct peer {
	struct loop *loop;
	struct loop_poller poller;
	int listen_fd, fd;
	unsigned step, steps;
	const uint8_t *data;
	size_t size;
	bool all_sent;
};

static void put(struct peer *p, const void *bytes, size_t len)
{
	ssize_t n = send(p->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);

	(void)n;
}

static void put_icresp(struct peer *p)
{
	struct tcp_rules rules = {0};
	struct nvme_tcp_icresp a = {.maxh2cdata = le32_make(4096)};

	tcp_pdu_make(&rules, &a.hdr, NVME_TCP_ICRESP, sizeof(a), 0, 0);
	put(p, &a, sizeof(a));
}

static void put_resp(struct peer *p, uint16_t cid, uint32_t dw0, uint32_t dw1)
{
	struct tcp_rules rules = {0};
	struct nvme_tcp_resp a = {
	        .cqe = {.dw0 = le32_make(dw0), .dw1 = le32_make(dw1), .cid = le16_make(cid)}};

	tcp_pdu_make(&rules, &a.hdr, NVME_TCP_RESP, sizeof(a), 0, 0);
	put(p, &a, sizeof(a));
}

static void put_identify(struct peer *p, uint16_t cid)
{
	struct tcp_rules rules = {0};
	struct {
		struct nvme_tcp_data d;
		uint8_t page[NVME_IDENTIFY_BYTES];
	} a = {.d = {.cccid = le16_make(cid), .datal = le32_make(NVME_IDENTIFY_BYTES)}};

	tcp_pdu_make(&rules, &a.d.hdr, NVME_TCP_C2H_DATA, sizeof(a.d),
	             NVME_TCP_LAST | NVME_TCP_SUCCESS, NVME_IDENTIFY_BYTES);
	put(p, &a, sizeof(a));
}

/* One answer for each step of the host's beginning; its ids are its slots, in order. */
static void answer(struct peer *p)
{
	switch (p->step++) {
	case 0:
		put_icresp(p);
		break;
	case 1:
		put_resp(p, 0, 1, 0);
		break;
	case 2:
		put_resp(p, 1, 0x1e01003f, 0x00000020); /* CAP */
		break;
	case 3:
		put_resp(p, 2, 0x20000, 0);
		break;
	case 4:
		put_resp(p, 3, 0, 0); /* CC */
		break;
	case 5:
		put_resp(p, 4, 1, 0); /* CSTS */
		break;
	default:
		put_identify(p, 5);
	}
}

static int peer_poll(struct loop_poller *lp)
{
	struct peer *p = container_of(lp, struct peer, poller);
	uint8_t trash[4096];
	ssize_t n;

	if (p->fd < 0) {
		p->fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (p->fd >= 0 && !p->steps)
			answer(p); /* nobody waits for a host that has not spoken */
		return p->fd >= 0;
	}
	n = recv(p->fd, trash, sizeof(trash), MSG_DONTWAIT);
	if (n > 0 && p->step < p->steps) {
		answer(p);
		return 1;
	}
	if (p->step < p->steps && n < 0)
		return 0;
	if (!p->all_sent) {
		p->all_sent = true;
		put(p, p->data, p->size);
		shutdown(p->fd, SHUT_WR);
		return 1;
	}
	return n > 0;
}

static int listen_here(char *addr, size_t size)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 4) ||
	    getsockname(fd, (struct sockaddr *)&a, &len))
		abort();
	snprintf(addr, size, "127.0.0.1:%u", ntohs(a.sin_port));
	return fd;
}

static void ring_put(struct nvme_cmd *sq, unsigned at, uint8_t opc, uint32_t cdw10, void *mem)
{
	sq[at] = (struct nvme_cmd){.opc = opc,
	                           .cid = le16_make((uint16_t)at),
	                           .nsid = le32_make(1),
	                           .prp1 = le64_make((uintptr_t)mem),
	                           .cdw10 = le32_make(cdw10),
	                           .cdw11 = le32_make(NVME_HOST_ID_EXHID)};
}

/* As the driver would: rings, CC, four commands. */
static void drive(struct nvme_transport *t, struct peer *p)
{
	const struct nvme_transport_ops *ops = t->ops;
	uint8_t *rings = mem_alloc_aligned(4096, 64 * 80), *a = mem_alloc_aligned(4096, 4096);
	uint8_t *b = mem_alloc_aligned(512, 512), *c = mem_alloc_aligned(16, 16);
	struct nvme_cmd *sq = (struct nvme_cmd *)(void *)rings;

	if (!rings || !a || !b || !c)
		abort();
	ring_put(sq, 0, NVME_ADMIN_IDENTIFY, NVME_CNS_NS, a);
	ring_put(sq, 1, NVME_ADMIN_GET_LOG, NVME_LOG_SMART | 127 << 16, b);
	ring_put(sq, 2, NVME_ADMIN_SET_FEATURES, NVME_FEAT_HOST_ID, c);
	ring_put(sq, 3, NVME_ADMIN_ASYNC_EVENT, 0, NULL);
	sq[1].cdw11 = 0;
	ops->write32(t, NVME_REG_AQA, NVME_AQA_MAKE(63, 63));
	ops->write64(t, NVME_REG_ASQ, (uintptr_t)rings);
	ops->write64(t, NVME_REG_ACQ, (uintptr_t)rings + 64 * 64);
	ops->write32(t, NVME_REG_CC, NVME_CC_MAKE(0, 0, 0, 0, 6, 4) | NVME_CC_EN);
	for (unsigned i = 0; i < 200 && !t->failed && !t->gone; i++) {
		loop_turn(p->loop, NSEC_PER_MSEC);
		if (ops->read32(t, NVME_REG_CSTS) & NVME_CSTS_RDY)
			*ops->doorbell(t, 0) = 4;
		ops->poll(t);
	}
	ops->write32(t, NVME_REG_CC, 0);
	ops->cut(t);
	while (ops->read32(t, NVME_REG_CSTS))
		loop_turn(p->loop, NSEC_PER_MSEC);
	mem_free(rings);
	mem_free(a);
	mem_free(b);
	mem_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nvme_discovery_log *log = NULL;
	struct nvme_device d = {.kato_ms = 0};
	struct nvme_transport *t = NULL;
	struct loop_opts lo;
	struct peer p = {.fd = -1};
	uint64_t n;

	if (!size || size > 65536)
		return 0;
	loop_opts_default(&lo);
	lo.ring_entries = 32;
	if (loop_new(&p.loop, &lo, NULL))
		abort();
	p.steps = (unsigned[]){0, 1, 4, 7}[data[0] & 3];
	p.data = data + 1;
	p.size = size - 1;
	p.listen_fd = listen_here(d.spec, sizeof(d.spec));
	p.poller.poll = peer_poll;
	p.poller.may_sleep = NULL;
	loop_poller_add(p.loop, &p.poller);
	pst_nvme_opts_default(&d.host);
	strcpy(d.subnqn, "nqn.t");
	strcpy(d.hostnqn, "h");
	if (data[0] & 0x80) {
		if (!nvme_tcp_discover(d.spec, "h", p.loop, &log, &n, NULL))
			mem_free(log);
	} else if (!nvme_tcp_connect(&t, &d, p.loop, NULL)) {
		drive(t, &p);
		t->ops->close(t);
	}
	loop_poller_del(p.loop, &p.poller);
	if (p.fd >= 0)
		close(p.fd);
	close(p.listen_fd);
	net_finish(p.loop);
	loop_free(p.loop);
	return 0;
}
