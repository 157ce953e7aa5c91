/* SPDX-License-Identifier: BSD-3-Clause */
/* PDUs of NVMe/TCP: golden bytes, what is refused and with which error, and pieces of memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "nvme/tcp_pdu.h"

static const struct tcp_rules plain_host, plain_target = {.target = true};

/* --- golden bytes --- */

static void same(const void *got, const char *hex, size_t len)
{
	const uint8_t *b = got;

	assert_int_equal(strlen(hex), 2 * len);
	for (size_t i = 0; i < len; i++) {
		unsigned v = 0;

		assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
		if (b[i] != v)
			fail_msg("byte %zu is %02x, wanted %02x", i, b[i], v);
	}
}

static void test_golden(void **state)
{
	struct tcp_rules both = {.hdgst = true, .ddgst = true, .tx_pda = 3};
	struct nvme_tcp_icreq icreq = {.hpda = 1, .dgst = 3, .maxr2t = le32_make(2)};
	union {
		struct nvme_tcp_data d;
		uint8_t room[sizeof(struct nvme_tcp_data) + TCP_HEADER_ROOM];
	} data = {.d = {.cccid = le16_make(0x1234),
	                .ttag = le16_make(0x5678),
	                .datao = le32_make(0x1000),
	                .datal = le32_make(0x200)}};
	union {
		struct nvme_tcp_r2t r;
		uint8_t room[sizeof(struct nvme_tcp_r2t) + TCP_HEADER_ROOM];
	} r2t = {.r = {.cccid = le16_make(0x0102),
	               .ttag = le16_make(0x0304),
	               .r2to = le32_make(0x05060708),
	               .r2tl = le32_make(0x090a0b0c)}};
	struct tcp_fault f = {NVME_TCP_FES_RANGE, 12};
	uint8_t term[NVME_TCP_TERM_MAX];

	assert_int_equal(tcp_pdu_make(&both, &icreq.hdr, NVME_TCP_ICREQ, sizeof(icreq), 0, 0), 128);
	same(&icreq,
	     "0000800080000000"
	     "0000"
	     "01"
	     "03"
	     "02000000",
	     16); /* no digest of its own */
	assert_int_equal(
	        tcp_pdu_make(&plain_host, &data.d.hdr, NVME_TCP_H2C_DATA, 24, NVME_TCP_LAST, 0x200),
	        24);
	same(&data,
	     "0604181818020000"
	     "3412"
	     "7856"
	     "00100000"
	     "00020000"
	     "00000000",
	     24);
	/* With digests, and data at multiples of 16 bytes: 24 + 4, padded to 32; 512; 4. */
	assert_int_equal(
	        tcp_pdu_make(&both, &data.d.hdr, NVME_TCP_H2C_DATA, 24, NVME_TCP_LAST, 0x200), 32);
	same(&data,
	     "0607182024020000"
	     "3412"
	     "7856"
	     "00100000"
	     "00020000"
	     "00000000",
	     24);
	assert_int_equal(le32_get(*(le32 *)(void *)(data.room + 24)), crc32c(0, &data, 24));
	assert_int_equal(*(uint32_t *)(void *)(data.room + 28), 0);
	assert_int_equal(tcp_pdu_make(&both, &r2t.r.hdr, NVME_TCP_R2T, 24, 0, 0), 28);
	same(&r2t,
	     "090118001c000000"
	     "0201"
	     "0403"
	     "08070605"
	     "0c0b0a09"
	     "00000000",
	     24);
	assert_int_equal(tcp_term_make(term, true, &f, "abcd", 4), 28);
	same(term,
	     "030018001c000000"
	     "0400"
	     "0c000000"
	     "00000000000000000000"
	     "61626364",
	     28);
}

/* CRC32C of 32 zero bytes (RFC 3720 B.4), in pieces. */
static void test_digest(void **state)
{
	uint8_t zero[32] = {0};
	struct iovec v[3] = {{zero, 5}, {zero + 5, 0}, {zero + 5, 27}};

	assert_int_equal(tcp_digest(v, 3), 0x8a9136aa);
}

/* --- reading --- */

static int read_as(const struct tcp_rules *r, const uint8_t *b, size_t len, struct tcp_pdu *p,
                   struct tcp_fault *f)
{
	memset(p, 0xa5, sizeof(*p));
	*f = (struct tcp_fault){0, 0};
	return tcp_pdu_read(r, b, len, p, f);
}

static void refuses(const struct tcp_rules *r, const uint8_t *b, size_t len, uint16_t fes,
                    uint32_t fei)
{
	struct tcp_fault f;
	struct tcp_pdu p;

	assert_int_equal(read_as(r, b, len, &p, &f), -EPROTO);
	assert_int_equal(f.fes, fes);
	assert_int_equal(f.fei, fei);
}

static void test_read(void **state)
{
	struct tcp_rules digests = {.target = true, .hdgst = true, .ddgst = true};
	uint8_t buf[256] = {0};
	struct nvme_tcp_cmd *c = (struct nvme_tcp_cmd *)(void *)buf;
	struct tcp_fault f;
	struct tcp_pdu p;

	/* A command with 16 bytes in its capsule; byte by byte it is not there, until it is. */
	c->cmd.opc = 1;
	assert_int_equal(tcp_pdu_make(&digests, &c->hdr, NVME_TCP_CMD, sizeof(*c), 0, 16), 76);
	for (size_t n = 0; n < 76; n++)
		assert_int_equal(read_as(&digests, buf, n, &p, &f), 0);
	assert_int_equal(read_as(&digests, buf, 76, &p, &f), 1);
	assert_int_equal(p.head_bytes, 76);
	assert_int_equal(p.data_bytes, 16);
	assert_true(p.ddgst);
	assert_int_equal(p.cmd.cmd.opc, 1);
	/* A flipped bit anywhere in the header is found. */
	for (unsigned bit = 0; bit < 76 * 8; bit++) {
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_not_equal(read_as(&digests, buf, sizeof(buf), &p, &f), 1);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	tcp_pdu_make(&plain_target, &c->hdr, NVME_TCP_CMD, sizeof(*c), 0, 0);
	assert_int_equal(read_as(&plain_target, buf, 72, &p, &f), 1);
	assert_int_equal(p.data_bytes, 0);
	refuses(&plain_host, buf, 72, NVME_TCP_FES_HEADER, 0); /* a host gets no commands */
	refuses(&digests, buf, 76, NVME_TCP_FES_HEADER, 4);    /* no room for its digest */
	c->hdr.hlen = 71;
	refuses(&plain_target, buf, 72, NVME_TCP_FES_HEADER, 2);
	c->hdr.hlen = 72;
	c->hdr.flags = NVME_TCP_HDGSTF;
	refuses(&plain_target, buf, 72, NVME_TCP_FES_HEADER, 1);
	c->hdr.flags = 0;
	c->hdr.plen = le32_make(71);
	refuses(&plain_target, buf, 72, NVME_TCP_FES_HEADER, 4);
	c->hdr.plen = le32_make(TCP_PDU_MAX + 1);
	c->hdr.pdo = 72;
	refuses(&plain_target, buf, 72, NVME_TCP_FES_HEADER, 4);
	c->hdr.plen = le32_make(100);
	c->hdr.pdo = 71;
	refuses(&plain_target, buf, 72, NVME_TCP_FES_HEADER, 3);
	c->hdr.pdo = 74; /* no multiple of 4 */
	refuses(&plain_target, buf, 74, NVME_TCP_FES_HEADER, 3);
	c->hdr.pdo = 76; /* padding is skipped */
	assert_int_equal(read_as(&plain_target, buf, 76, &p, &f), 1);
	assert_int_equal(p.head_bytes, 76);
	assert_int_equal(p.data_bytes, 24);
}

static void test_read_random(void **state)
{
	uint8_t buf[TCP_HEAD_MAX];
	struct rng rng;

	rng_seed(&rng, 4);
	for (unsigned i = 0; i < 300000; i++) {
		struct tcp_rules r = {.target = rng_next(&rng) & 1,
		                      .hdgst = !(rng_next(&rng) & 3),
		                      .ddgst = rng_next(&rng) & 1};
		size_t len = rng_below(&rng, sizeof(buf) + 1);
		struct tcp_fault f;
		struct tcp_pdu p;
		int rc;

		for (unsigned k = 0; k < sizeof(buf); k++)
			buf[k] = (uint8_t)rng_next(&rng);
		buf[0] %= 10;
		buf[2] = (uint8_t[]){24, 72, 128, 16, buf[2]}[rng_below(&rng, 5)];
		buf[3] = (uint8_t[]){0, 24, 72, 28, buf[3]}[rng_below(&rng, 5)];
		buf[6] = buf[7] = 0;
		rc = read_as(&r, buf, len, &p, &f);
		if (rc < 0)
			assert_true(f.fes >= NVME_TCP_FES_HEADER && f.fes <= NVME_TCP_FES_PARAM);
		if (rc != 1)
			continue;
		assert_true(p.head_bytes <= len && p.head_bytes >= p.hdr.hlen);
		if (p.hdr.type != NVME_TCP_H2C_TERM && p.hdr.type != NVME_TCP_C2H_TERM)
			assert_int_equal(p.head_bytes + p.data_bytes + (p.ddgst ? 4 : 0),
			                 le32_get(p.hdr.plen));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_golden),
	        cmocka_unit_test(test_digest),
	        cmocka_unit_test(test_read),
	        cmocka_unit_test(test_read_random),
	};

	return cmocka_run_group_tests_name("nvme_tcp", tests, NULL, NULL);
}
