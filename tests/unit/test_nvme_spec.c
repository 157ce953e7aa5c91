/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The structures of nvme/spec.h and spec_fabrics.h as bytes: each is filled with fields of known
 * values, and where they stand is compared with bytes written out by hand from the specification.
 * Pairs of (offset, byte); all other bytes must be zero.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "nvme/spec_fabrics.h"

struct golden {
	unsigned off;
	uint8_t byte;
};

static void check(const void *have, size_t size, const struct golden *g, size_t count)
{
	const uint8_t *b = have;
	size_t k = 0;

	for (size_t i = 0; i < size; i++) {
		uint8_t want = 0;

		if (k < count && g[k].off == i)
			want = g[k++].byte;
		if (b[i] != want)
			fail_msg("byte %zu is %02x, not %02x", i, b[i], want);
	}
	assert_int_equal(k, count);
}

#define CHECK(s, ...)                                      \
	do {                                               \
		const struct golden g_[] = {__VA_ARGS__};  \
		check(&(s), sizeof(s), g_, ARRAY_LEN(g_)); \
	} while (0)

static void test_command(void **state)
{
	struct nvme_cmd c = {.opc = 0x02,
	                     .flags = 0x41,
	                     .cid = le16_make(0x1234),
	                     .nsid = le32_make(0xa1b2c3d4),
	                     .mptr = le64_make(0x0102030405060708),
	                     .prp1 = le64_make(0x1112131415161718),
	                     .prp2 = le64_make(0x2122232425262728),
	                     .cdw10 = le32_make(0x31323334),
	                     .cdw15 = le32_make(0x41424344)};

	CHECK(c, {0, 2}, {1, 0x41}, {2, 0x34}, {3, 0x12}, {4, 0xd4}, {5, 0xc3}, {6, 0xb2},
	      {7, 0xa1}, {16, 8}, {17, 7}, {18, 6}, {19, 5}, {20, 4}, {21, 3}, {22, 2}, {23, 1},
	      {24, 0x18}, {25, 0x17}, {26, 0x16}, {27, 0x15}, {28, 0x14}, {29, 0x13}, {30, 0x12},
	      {31, 0x11}, {32, 0x28}, {33, 0x27}, {34, 0x26}, {35, 0x25}, {36, 0x24}, {37, 0x23},
	      {38, 0x22}, {39, 0x21}, {40, 0x34}, {41, 0x33}, {42, 0x32}, {43, 0x31}, {60, 0x44},
	      {61, 0x43}, {62, 0x42}, {63, 0x41});
}

static void test_completion(void **state)
{
	struct nvme_cqe e = {.dw0 = le32_make(0x01020304),
	                     .sqhd = le16_make(0x1112),
	                     .sqid = le16_make(0x2122),
	                     .cid = le16_make(0x3132),
	                     .status = le16_make(NVME_SC_COMPARE << 1 | NVME_STATUS_DNR << 1 | 1)};

	CHECK(e, {0, 4}, {1, 3}, {2, 2}, {3, 1}, {8, 0x12}, {9, 0x11}, {10, 0x22}, {11, 0x21},
	      {12, 0x32}, {13, 0x31}, {14, 0x0b}, {15, 0x85});
	assert_int_equal(NVME_STATUS_SCT(NVME_SC_COMPARE), NVME_SCT_MEDIA);
	assert_int_equal(NVME_STATUS_SC(NVME_SC_COMPARE), 0x85);
	assert_int_equal(NVME_STATUS(NVME_SCT_PATH, 2), NVME_SC_ANA_INACCESSIBLE);
	assert_int_equal(NVME_STATUS_CODE(NVME_SC_COMPARE | NVME_STATUS_DNR | NVME_STATUS_MORE),
	                 NVME_SC_COMPARE);
}

static void test_sgl(void **state)
{
	struct nvme_sgl_desc d = {.addr = le64_make(0x0102030405060708),
	                          .len = le32_make(0x11121314),
	                          .type = NVME_SGL_TYPE(NVME_SGL_LAST_SEGMENT, NVME_SGL_OFFSET)};
	struct nvme_sgl_keyed k = {.addr = le64_make(1),
	                           .len = {2, 3, 4},
	                           .key = {5, 6, 7, 8},
	                           .type = NVME_SGL_TYPE(NVME_SGL_KEYED, 0)};

	CHECK(d, {0, 8}, {1, 7}, {2, 6}, {3, 5}, {4, 4}, {5, 3}, {6, 2}, {7, 1}, {8, 0x14},
	      {9, 0x13}, {10, 0x12}, {11, 0x11}, {15, 0x31});
	CHECK(k, {0, 1}, {8, 2}, {9, 3}, {10, 4}, {11, 5}, {12, 6}, {13, 7}, {14, 8}, {15, 0x40});
}

static void test_identify(void **state)
{
	struct nvme_id_ctrlr c = {.vid = le16_make(0x0102),
	                          .sn = "S",
	                          .mn = "M",
	                          .fr = "F",
	                          .cmic = 1,
	                          .mdts = 2,
	                          .cntlid = le16_make(3),
	                          .ver = le32_make(0x20000),
	                          .oaes = le32_make(0x900),
	                          .ctratt = le32_make(4),
	                          .cntrltype = 1,
	                          .oacs = le16_make(0x102),
	                          .acl = 5,
	                          .aerl = 6,
	                          .lpa = 7,
	                          .kas = le16_make(8),
	                          .anatt = 9,
	                          .anacap = 10,
	                          .anagrpmax = le32_make(11),
	                          .nanagrpid = le32_make(12),
	                          .sqes = 0x66,
	                          .cqes = 0x44,
	                          .nn = le32_make(13),
	                          .oncs = le16_make(14),
	                          .fuses = le16_make(15),
	                          .fna = 16,
	                          .vwc = 17,
	                          .acwu = le16_make(18),
	                          .sgls = le32_make(19),
	                          .mnan = le32_make(20),
	                          .subnqn = "N",
	                          .ioccsz = le32_make(21),
	                          .icdoff = le16_make(22),
	                          .msdbd = 23,
	                          .vs = {24}};
	struct nvme_id_ns n = {.nsze = le64_make(1),
	                       .ncap = le64_make(2),
	                       .nuse = le64_make(3),
	                       .nsfeat = 4,
	                       .nlbaf = 5,
	                       .flbas = 6,
	                       .nmic = 7,
	                       .dlfeat = 8,
	                       .noiob = le16_make(9),
	                       .nvmcap = {10},
	                       .anagrpid = le32_make(11),
	                       .nsattr = 12,
	                       .nguid = {13},
	                       .eui64 = {14},
	                       .lbaf = {{le16_make(15), 16, 17}, {0, 18, 0}},
	                       .vs = {19}};

	CHECK(c, {0, 2}, {1, 1}, {4, 'S'}, {24, 'M'}, {64, 'F'}, {76, 1}, {77, 2}, {78, 3}, {82, 2},
	      {93, 9}, {96, 4}, {111, 1}, {256, 2}, {257, 1}, {258, 5}, {259, 6}, {261, 7},
	      {320, 8}, {342, 9}, {343, 10}, {344, 11}, {348, 12}, {512, 0x66}, {513, 0x44},
	      {516, 13}, {520, 14}, {522, 15}, {524, 16}, {525, 17}, {532, 18}, {536, 19},
	      {540, 20}, {768, 'N'}, {1792, 21}, {1800, 22}, {1803, 23}, {3072, 24});
	CHECK(n, {0, 1}, {8, 2}, {16, 3}, {24, 4}, {25, 5}, {26, 6}, {30, 7}, {33, 8}, {46, 9},
	      {48, 10}, {92, 11}, {99, 12}, {104, 13}, {120, 14}, {128, 15}, {130, 16}, {131, 17},
	      {134, 18}, {384, 19});
}

static void test_small(void **state)
{
	struct nvme_dsm_range dsm = {le32_make(1), le32_make(2), le64_make(3)};
	struct nvme_ana_log ana = {.change_count = le64_make(1), .groups = le16_make(2)};
	struct nvme_ana_group group = {.group = le32_make(1),
	                               .nsids = le32_make(2),
	                               .change_count = le64_make(3),
	                               .state = 4};
	struct nvme_error_entry e = {.error_count = le64_make(1),
	                             .sqid = le16_make(2),
	                             .cid = le16_make(3),
	                             .status = le16_make(4),
	                             .location = le16_make(5),
	                             .lba = le64_make(6),
	                             .nsid = le32_make(7),
	                             .specific = le64_make(8)};
	struct nvme_smart s = {.critical_warning = 1,
	                       .temperature = {2},
	                       .avail_spare = 3,
	                       .percent_used = 4,
	                       .units_read = {5},
	                       .host_writes = {6},
	                       .media_errors = {7},
	                       .error_entries = {8},
	                       .sensor = {le16_make(9)}};
	struct nvme_power_state p = {.mp = le16_make(1),
	                             .flags = 2,
	                             .enlat = le32_make(3),
	                             .idlp = le16_make(4),
	                             .actp = le16_make(5),
	                             .apws = 6};

	CHECK(dsm, {0, 1}, {4, 2}, {8, 3});
	CHECK(ana, {0, 1}, {8, 2});
	CHECK(group, {0, 1}, {4, 2}, {8, 3}, {16, 4});
	CHECK(e, {0, 1}, {8, 2}, {10, 3}, {12, 4}, {14, 5}, {16, 6}, {24, 7}, {32, 8});
	CHECK(s, {0, 1}, {1, 2}, {3, 3}, {5, 4}, {32, 5}, {80, 6}, {160, 7}, {176, 8}, {200, 9});
	CHECK(p, {0, 1}, {3, 2}, {4, 3}, {16, 4}, {20, 5}, {22, 6});
}

/* What Identify and Get Log Page fill whole pages with. */
static void test_pages(void **state)
{
	struct nvme_id_ns_indep ns = {.nsfeat = 1,
	                              .nmic = 2,
	                              .rescap = 3,
	                              .fpi = 4,
	                              .anagrpid = le32_make(5),
	                              .nsattr = 6,
	                              .nvmsetid = le16_make(7),
	                              .endgid = le16_make(8),
	                              .nstat = 9};
	struct nvme_id_nvm_ctrlr c = {.vsl = 1,
	                              .wzsl = 2,
	                              .wusl = 3,
	                              .dmrl = 4,
	                              .dmrsl = le32_make(5),
	                              .dmsl = le64_make(6)};
	struct nvme_ctrlr_list list = {.count = le16_make(0x0102),
	                               .id = {le16_make(0x0304), le16_make(5)}};
	struct nvme_fw_log fw = {.afi = 1, .frs = {"a", "b"}};
	static struct nvme_effects_log effects;
	union {
		struct nvme_ns_desc d;
		uint8_t room[sizeof(struct nvme_ns_desc) + 2];
	} desc = {.room = {0}};

	effects.admin[1] = le32_make(0x01020304);
	effects.io[0] = le32_make(5);
	effects.io[255] = le32_make(6);
	desc.d.nidt = NVME_NIDT_CSI;
	desc.d.nidl = 1;
	desc.d.nid[0] = 7;
	CHECK(ns, {0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}, {8, 6}, {10, 7}, {12, 8}, {14, 9});
	CHECK(c, {0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}, {8, 6});
	CHECK(list, {0, 2}, {1, 1}, {2, 4}, {3, 3}, {4, 5});
	CHECK(fw, {0, 1}, {8, 'a'}, {16, 'b'});
	CHECK(effects, {4, 4}, {5, 3}, {6, 2}, {7, 1}, {1024, 5}, {2044, 6});
	CHECK(desc, {0, 4}, {1, 1}, {4, 7});
}

static void test_fabrics(void **state)
{
	struct nvme_fabrics_cmd any = {.opc = 0x7f,
	                               .flags = 0x40,
	                               .cid = le16_make(1),
	                               .fctype = 2,
	                               .sgl = {.addr = le64_make(3), .type = 4}};
	struct nvme_disconnect_cmd leave = {.opc = 0x7f,
	                                    .flags = 0x40,
	                                    .cid = le16_make(1),
	                                    .fctype = 8,
	                                    .recfmt = le16_make(2)};
	struct nvme_connect_cmd c = {.opc = 0x7f,
	                             .cid = le16_make(1),
	                             .fctype = 1,
	                             .sgl = {.type = 2},
	                             .recfmt = le16_make(3),
	                             .qid = le16_make(4),
	                             .sqsize = le16_make(5),
	                             .cattr = 6,
	                             .kato = le32_make(7)};
	struct nvme_connect_data d = {
	        .hostid = {1}, .cntlid = le16_make(0xffff), .subnqn = "s", .hostnqn = "h"};
	struct nvme_property_cmd p = {.opc = 0x7f,
	                              .fctype = 4,
	                              .attrib = 1,
	                              .offset = le32_make(0x14),
	                              .value = le64_make(2)};
	struct nvme_discovery_entry e = {.trtype = 3,
	                                 .adrfam = 1,
	                                 .subtype = 2,
	                                 .treq = 4,
	                                 .portid = le16_make(5),
	                                 .cntlid = le16_make(6),
	                                 .asqsz = le16_make(32),
	                                 .eflags = le16_make(1),
	                                 .trsvcid = "p",
	                                 .subnqn = "n",
	                                 .traddr = "a",
	                                 .tsas = {9}};
	struct nvme_discovery_log l = {le64_make(1), le64_make(2), le16_make(3), {0}};

	CHECK(c, {0, 0x7f}, {2, 1}, {4, 1}, {39, 2}, {40, 3}, {42, 4}, {44, 5}, {46, 6}, {48, 7});
	CHECK(d, {0, 1}, {16, 0xff}, {17, 0xff}, {256, 's'}, {512, 'h'});
	CHECK(p, {0, 0x7f}, {4, 4}, {40, 1}, {44, 0x14}, {48, 2});
	CHECK(e, {0, 3}, {1, 1}, {2, 2}, {3, 4}, {4, 5}, {6, 6}, {8, 32}, {10, 1}, {32, 'p'},
	      {256, 'n'}, {512, 'a'}, {768, 9});
	CHECK(l, {0, 1}, {8, 2}, {16, 3});
	CHECK(any, {0, 0x7f}, {1, 0x40}, {2, 1}, {4, 2}, {24, 3}, {39, 4});
	CHECK(leave, {0, 0x7f}, {1, 0x40}, {2, 1}, {4, 8}, {40, 2});
}

static void test_tcp(void **state)
{
	struct nvme_tcp_icreq req = {.hdr = {0, 0, 128, 0, le32_make(128)},
	                             .hpda = 1,
	                             .dgst = 3,
	                             .maxr2t = le32_make(4)};
	struct nvme_tcp_icresp resp = {.hdr = {1, 0, 128, 0, le32_make(128)},
	                               .cpda = 1,
	                               .dgst = 2,
	                               .maxh2cdata = le32_make(0x20000)};
	struct nvme_tcp_data data = {.hdr = {7, 0x0e, 24, 28, le32_make(0x01020304)},
	                             .cccid = le16_make(5),
	                             .ttag = le16_make(6),
	                             .datao = le32_make(7),
	                             .datal = le32_make(8)};
	struct nvme_tcp_r2t r2t = {.hdr = {9, 0, 24, 0, le32_make(24)},
	                           .cccid = le16_make(1),
	                           .ttag = le16_make(2),
	                           .r2to = le32_make(3),
	                           .r2tl = le32_make(4)};
	struct nvme_tcp_term term = {
	        .hdr = {2, 0, 24, 0, le32_make(24)}, .fes = le16_make(3), .fei = {4, 5, 6, 7}};

	struct nvme_tcp_cmd cmd = {.hdr = {4, 0, 72, 72, le32_make(0x48)},
	                           .cmd = {.opc = 1, .cid = le16_make(2), .cdw15 = le32_make(3)}};
	struct nvme_tcp_resp answer = {
	        .hdr = {5, 0, 24, 0, le32_make(24)},
	        .cqe = {.dw0 = le32_make(1), .cid = le16_make(2), .status = le16_make(3)}};

	CHECK(cmd, {0, 4}, {2, 72}, {3, 72}, {4, 72}, {8, 1}, {10, 2}, {68, 3});
	CHECK(answer, {0, 5}, {2, 24}, {4, 24}, {8, 1}, {20, 2}, {22, 3});
	CHECK(req, {2, 128}, {4, 128}, {10, 1}, {11, 3}, {12, 4});
	CHECK(resp, {0, 1}, {2, 128}, {4, 128}, {10, 1}, {11, 2}, {14, 2});
	CHECK(data, {0, 7}, {1, 0x0e}, {2, 24}, {3, 28}, {4, 4}, {5, 3}, {6, 2}, {7, 1}, {8, 5},
	      {10, 6}, {12, 7}, {16, 8});
	CHECK(r2t, {0, 9}, {2, 24}, {4, 24}, {8, 1}, {10, 2}, {12, 3}, {16, 4});
	CHECK(term, {0, 2}, {2, 24}, {4, 24}, {8, 3}, {10, 4}, {11, 5}, {12, 6}, {13, 7});
}

/* Register fields by the figures of Base 3.1.3. */
static void test_registers(void **state)
{
	uint64_t cap = 0x1842003028010fffull;

	assert_int_equal(NVME_CAP_MQES(cap), 0xfff);
	assert_int_equal(NVME_CAP_CQR(cap), 1);
	assert_int_equal(NVME_CAP_TO(cap), 0x28);
	assert_int_equal(NVME_CAP_DSTRD(cap), 0);
	assert_int_equal(NVME_CAP_NSSRS(cap), 1);
	assert_int_equal(NVME_CAP_CSS(cap), 1);
	assert_int_equal(NVME_CAP_MPSMIN(cap), 2);
	assert_int_equal(NVME_CAP_MPSMAX(cap), 4);
	assert_int_equal(NVME_CAP_CRMS(cap), 3);
	assert_int_equal(NVME_CC_MAKE(6, 1, 0, 2, 6, 4) | NVME_CC_EN, 0x4680e1);
	assert_int_equal(NVME_CC_SHN(0x4680e1), 2);
	assert_int_equal(NVME_CC_IOSQES(0x4680e1), 6);
	assert_int_equal(NVME_AQA_MAKE(31, 63), 0x3f001f);
	assert_int_equal(NVME_REG_DOORBELL + NVME_DB_SQ(1, 0), 0x1008);
	assert_int_equal(NVME_REG_DOORBELL + NVME_DB_CQ(1, 0), 0x100c);
	assert_int_equal(NVME_REG_DOORBELL + NVME_DB_CQ(3, 2), 0x1000 + 7 * 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_command), cmocka_unit_test(test_completion),
	        cmocka_unit_test(test_sgl),     cmocka_unit_test(test_identify),
	        cmocka_unit_test(test_small),   cmocka_unit_test(test_fabrics),
	        cmocka_unit_test(test_tcp),     cmocka_unit_test(test_registers),
	        cmocka_unit_test(test_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
