/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_nvme_tcp_target - a hostile host before the NVMe/TCP target: PDUs, Fabrics commands, in-capsule
 * data and data that was asked for. What the target keeps is in pools and requests of its own, so
 * AddressSanitizer sees a byte that goes beyond them; the target must end with nothing left.
 *
 * The input's first byte says what a good host says first: bit 0 ICReq (bits 1, 2: its digests), bit 3
 * an admin Connect (bit 4: to discovery). The rest goes to the socket as it is, in parts whose sizes
 * follow from it.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "nvme/tcp_target.h"

#include "fuzz.h"

struct rig {
	struct loop *loop;
	struct nvme_target *target;
	struct tcp_port *port;
};

static void rig_open(struct rig *r)
{
	struct nvme_target_opts o;
	struct nvme_ns_opts no = {0};
	struct loop_opts lo;

	loop_opts_default(&lo);
	lo.ring_entries = 32;
	nvme_target_opts_default(&o);
	o.nqn = "nqn.t";
	o.ctrlr.mdts = 2;
	o.ctrlr.depth_max = 8;
	if (loop_new(&r->loop, &lo, NULL) || nvme_target_new(&r->target, r->loop, &o, NULL) ||
	    nvme_target_add(r->target, "mem:64k?block=512", &no, NULL) ||
	    nvme_target_listen_tcp(r->target, "127.0.0.1:0", false, NULL, NULL))
		abort();
	r->port = container_of(list_first(&r->target->port_list, struct target_port, link),
	                       struct tcp_port, port);
}

static void turn(struct rig *r)
{
	for (unsigned i = 0; i < 8; i++)
		loop_turn(r->loop, 0);
}

static void put(struct rig *r, int fd, const void *bytes, size_t len)
{
	uint8_t trash[4096];

	if (send(fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
	turn(r);
	while (recv(fd, trash, sizeof(trash), MSG_DONTWAIT) > 0)
		;
}

static void put_icreq(struct rig *r, int fd, uint8_t dgst)
{
	struct tcp_rules rules = {0};
	struct nvme_tcp_icreq q = {.dgst = dgst};

	tcp_pdu_make(&rules, &q.hdr, NVME_TCP_ICREQ, sizeof(q), 0, 0);
	put(r, fd, &q, sizeof(q));
}

static void put_connect(struct rig *r, int fd, uint8_t dgst, bool discovery)
{
	struct tcp_rules rules = {.hdgst = dgst & 1, .ddgst = dgst & 2};
	struct nvme_connect_data d = {.cntlid = le16_make(NVME_CNTLID_DYNAMIC), .hostnqn = "h"};
	struct nvme_connect_cmd c = {.opc = NVME_ADMIN_FABRICS,
	                             .flags = NVME_CMD_PSDT_SGL,
	                             .fctype = NVME_FC_CONNECT,
	                             .sqsize = le16_make(31)};
	uint8_t buf[sizeof(struct nvme_tcp_cmd) + TCP_HEADER_ROOM + sizeof(d) + 4];
	struct iovec v = {.iov_base = &d, .iov_len = sizeof(d)};
	struct nvme_tcp_cmd p;
	uint32_t at;
	le32 crc;

	strcpy(d.subnqn, discovery ? NVME_DISCOVERY_NQN : "nqn.t");
	c.sgl.len = le32_make(sizeof(d));
	c.sgl.type = NVME_SGL_TYPE(NVME_SGL_DATA, NVME_SGL_OFFSET);
	memcpy(&p.cmd, &c, sizeof(c));
	memcpy(buf, &p, sizeof(p));
	at = tcp_pdu_make(&rules, (struct nvme_tcp_hdr *)(void *)buf, NVME_TCP_CMD,
	                  sizeof(struct nvme_tcp_cmd), 0, sizeof(d));
	memcpy(buf + at, &d, sizeof(d));
	at += sizeof(d);
	crc = le32_make(tcp_digest(&v, 1));
	if (rules.ddgst)
		memcpy(buf + at, &crc, sizeof(crc));
	put(r, fd, buf, at + (rules.ddgst ? 4 : 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct net_handlers none = {0};
	uint8_t how = size ? data[0] : 0, dgst = how >> 1 & 3;
	struct net_sock *s;
	struct rig r;
	int fd[2];

	if (size > 65536)
		return 0;
	rig_open(&r);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) ||
	    net_sock_adopt(&s, r.loop, fd[0], true, NULL, &none, NULL, NULL) ||
	    !tcp_conn_accept(r.port, s))
		abort();
	if (how & 1)
		put_icreq(&r, fd[1], dgst);
	if (how & 8)
		put_connect(&r, fd[1], dgst, how & 16);
	for (size_t at = 1; at < size;) {
		size_t n = MIN(size - at, 1 + (size_t)data[at] * 7 % 200);

		put(&r, fd[1], data + at, n);
		at += n;
	}
	turn(&r);
	close(fd[1]);
	nvme_target_free(r.target);
	loop_free(r.loop);
	return 0;
}
