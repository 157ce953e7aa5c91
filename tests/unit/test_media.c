/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Golden bytes of what the local engine writes: each structure is built by the engine's own code from
 * fixed input and compared with bytes that are written down here. A difference means that stores
 * which exist can't be read any more: a new format version, not a new golden line.
 *
 * With an argument the program prints what it found instead.
 */
#include "eng_util.h"

static bool print_only;

static void golden(const char *what, const void *bytes, size_t len, const char *want)
{
	static char hex[16384];

	assert_true(2 * len < sizeof(hex));
	for (size_t i = 0; i < len; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", ((const uint8_t *)bytes)[i]);
	if (print_only)
		(void)printf("GOLDEN %s %s\n", what, hex);
	else if (strcmp(hex, want))
		fail_msg("%s:\n%s\nis not\n%s", what, hex, want);
}

static void superblock(void **state)
{
	static struct media_super s;

	memset(&s, 0, sizeof(s));
	s.version = le32_make(MEDIA_VERSION);
	s.feat_compat = le64_make(0x11);
	for (unsigned i = 0; i < 16; i++) {
		s.store_uuid[i] = (uint8_t)(0x20 + i);
		s.dev_uuid[i] = (uint8_t)(0x40 + i);
	}
	s.dev_index = le32_make(1);
	s.dev_count = le32_make(2);
	s.block_bytes = le32_make(4096);
	s.roles = le32_make(ROLE_ALL);
	s.dev_blocks = le64_make(8192);
	s.ctime_ns = le64_make(0x1122334455667788);
	s.shards = le32_make(4);
	s.stripe_blocks = le32_make(16);
	s.header_start = le64_make(16);
	s.log_start = le64_make(24);
	s.log_blocks = le64_make(256);
	s.csum_start = le64_make(1048);
	s.csum_pages = le64_make(100);
	s.data_start = le64_make(1248);
	s.region_blocks = le64_make(64);
	s.regions = le64_make(100);
	s.log_id = le64_make(0xa1b2c3d4e5f60718);
	memcpy(s.label, "label", 5);
	super_seal(&s);
	golden("superblock", &s, 192,
	       "50454e53544f434b583d525901000000110000000000000000000000000000000000000000000000"
	       "202122232425262728292a2b2c2d2e2f404142434445464748494a4b4c4d4e4f0100000002000000"
	       "00100000070000000020000000000000887766554433221104000000100000001000000000000000"
	       "1800000000000000000100000000000018040000000000006400000000000000e004000000000000"
	       "400000000000000064000000000000001807f6e5d4c3b2a16c6162656c000000");
	assert_int_equal(super_check(&s, NULL, "x"), 0);
}

static void header(void **state)
{
	static struct media_header h;

	memset(&h, 0, sizeof(h));
	for (unsigned i = 0; i < 16; i++)
		h.store_uuid[i] = (uint8_t)(0x20 + i);
	h.shard = le32_make(3);
	h.gen = le64_make(9);
	h.epoch = le64_make(4);
	h.frame_seq = le64_make(1000);
	h.log_pos = le64_make(5000);
	h.sys_root = le64_make(77);
	h.sys_items = le64_make(12);
	h.time_ns = le64_make(0x1122334455667788);
	h.next_cont = le64_make(6);
	h.clean = le32_make(1);
	header_seal(&h);
	golden("header", &h, 112,
	       "505354484d0e8493202122232425262728292a2b2c2d2e2f03000000000000000900000000000000"
	       "0400000000000000e80300000000000088130000000000004d000000000000000c00000000000000"
	       "8877665544332211060000000000000001000000000000000000000000000000");
}

/* --- the log, as a store writes it --- */

static void mask_times(uint8_t *rec)
{
	struct media_record *r = (void *)rec;
	uint8_t *body = rec + sizeof(*r);

	r->time_ns = 0;
	if (le16_get(r->flags) & REC_F_TOKEN) {
		((struct media_reply *)(void *)body)->time_ns = 0;
		body += sizeof(struct media_reply);
	}
	if (le16_get(r->type) == REC_CONT_CREATE) {
		struct media_cont_name *m = (void *)body;

		m->ctime_ns = 0;
		memset(m->uuid, 0, sizeof(m->uuid));
	}
}

static const char *const records[] = {
        "60000000020000000100000000000000000000000000000000000000000000000100000000000000"
        "00000000000006000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000676f6c64656e0000",
        "38000000040000000100000000000000000000000000000000000000000000000300000000000000"
        "00001000000000006300000000000000",
        "18010000010001000100000008000000000000000000000004000000000000007700000000000000"
        "03000000000000000c00000000000000001000000000000000000000000000003412000000000000"
        "00000000000000000100030008000000000000000000000001000000000000006b657976616c7565"
        "010105001d000000000000000000000001000000000000006c617267655802000001000000010000"
        "00c4c95b990100000000000100000000020004000400000000000000000000000100000000000000"
        "676f6e6500000000030000002c000000050000000000000002000000000000000020000000000000"
        "010000000000000001000000000000000200000000000000010000000100000032fe719c00000000",
        "c0000000010000000100000000000000000000000000000005000000000000000600000003000000"
        "050000000000000002000000000000006c6162000000000007000000080000000500000000000000"
        "02000000000000000807060504030201040000001000000005000000000000000200000000000000"
        "01000000000000000100000000000000050000000800000005000000000000000200000000000000"
        "00a0000000000000080000000000000000000000000000000100000000000000",
        "38000000050000000100000000000000000000000000000000000000000000000100000000000000"
        "0400000000000000736e617000000000",
        "28000000060000000100000000000000000000000000000000000000000000000100000000000000",
        "2000000003000000010000000000000000000000000000000000000000000000",
};
static const char *const record_names[] = {"cont_create", "cont_set",    "batch",
                                           "batch_more",  "snap_create", "snap_destroy",
                                           "cont_destroy"};

static void write_log(struct eng *e)
{
	static uint8_t block[BB], value[600];
	uint32_t c;

	for (unsigned i = 0; i < BB; i++)
		block[i] = (uint8_t)i;
	memset(value, 'v', sizeof(value));
	assert_int_equal(ops_cont_create(e->store, "golden", &c), 0);
	assert_int_equal(ops_cont_quota(e->store, c, 1 << 20, 99), 0);
	struct pst_mut m[] = {
	        MUT_PUT(oid_of(1), "key", "value", 5),
	        MUT_PUT(oid_of(1), "large", value, sizeof(value)),
	        MUT_KEY(PST_KV_DEL, oid_of(1), "gone", 0),
	        MUT_WRITE(((struct pst_oid){5, 2}), BB, block, BB),
	};
	struct pst_op op = {.opcode = PST_OP_BATCH,
	                    .cont = c,
	                    .tenant = 8,
	                    .token = {.session = 0x77, .slot = 3, .seq = 12},
	                    .ino = 0x1234,
	                    .muts = m,
	                    .mut_count = ARRAY_LEN(m)};
	assert_int_equal(ops_run(e->store, &op), 0);
	struct pst_mut more[] = {
	        {.kind = PST_SET_LABEL, .oid = {5, 2}, .val = "lab", .val_len = 3},
	        MUT_OFF(PST_SET_MTIME, ((struct pst_oid){5, 2}), 0x0102030405060708, 0),
	        MUT_OFF(PST_ARRAY_PUNCH, ((struct pst_oid){5, 2}), BB, BB),
	        MUT_OFF(PST_ARRAY_RESIZE, ((struct pst_oid){5, 2}), 10 * BB, 0),
	        MUT_OFF(PST_OBJ_DELETE, oid_of(1), 0, 0),
	};
	assert_int_equal(ops_batch(e->store, c, more, ARRAY_LEN(more)), 0);
	assert_int_equal(ops_snap_create(e->store, "golden", "snap", NULL), 0);
	assert_int_equal(ops_snap_destroy(e->store, "golden", "snap"), 0);
	assert_int_equal(ops_cont_destroy(e->store, "golden"), 0);
}

static void log_and_records(void **state)
{
	struct rng rng;
	struct eng e = {.dev_bytes = 16 * MIB, .format = {.rng = &rng}};
	uint64_t start, blocks, pos, end;
	unsigned found = 0;
	uint8_t frame[BB];

	rng_seed(&rng, 1);
	eng_start(&e);
	pos = eng_local(&e)->shard[0]->log.head;
	write_log(&e);
	start = eng_local(&e)->geo.log_start;
	blocks = eng_local(&e)->geo.log_blocks;
	end = eng_local(&e)->shard[0]->log.head;
	eng_drop(&e);
	for (bool first = true; pos < end; first = false) {
		struct media_frame *f = (void *)frame;
		uint8_t *p = frame + sizeof(*f);

		eng_peek(&e, 0, start + pos % blocks, frame, 1);
		assert_int_equal(le32_get(f->magic), FRAME_MAGIC);
		assert_true(le32_get(f->meta_bytes) <= BB);
		assert_int_equal(le32_get(f->crc),
		                 crc32c(0, frame + 8, le32_get(f->meta_bytes) - 8));
		pos += 1 + le32_get(f->data_blocks);
		for (uint32_t i = 0; i < le32_get(f->records); i++) {
			uint32_t len = le32_get(((struct media_record *)(void *)p)->len);

			mask_times(p);
			assert_true(found < ARRAY_LEN(records));
			golden(record_names[found], p, len, records[found]);
			found++;
			p += len;
		}
		if (first) {
			f->crc = 0;
			golden("frame", f, sizeof(*f),
			       "5053544600000000010000000000000000000000000000000000000000000000872"
			       "fc0af9179c142"
			       "a00000000000000000000000010000000200000000000000");
		}
	}
	assert_int_equal(found, ARRAY_LEN(records));
	eng_end(&e);
}

static void checksum_page(void **state)
{
	struct rng rng;
	struct eng e = {.dev_bytes = 16 * MIB, .format = {.rng = &rng}};
	static uint8_t block[20 * BB], page[2 * BB];
	uint64_t at;
	uint32_t c;

	rng_seed(&rng, 1);
	for (unsigned i = 0; i < sizeof(block); i++)
		block[i] = (uint8_t)(i / BB + i);
	eng_start(&e);
	assert_int_equal(ops_cont_create(e.store, "golden", &c), 0);
	assert_int_equal(ops_write(e.store, c, oid_of(1), 0, block, sizeof(block)), 0);
	eng_checkpoint(&e);
	at = eng_local(&e)->geo.csum_start;
	eng_drop(&e);
	eng_peek(&e, 0, at, page, 2);
	/* The first version goes into slot 0. */
	golden("checksum_page", page, 96,
	       "505354439482061b00000000000000000100000000000000872fc0af9179c1420000000000000000"
	       "0000000000000000000000000000000000000000000000000000000032fe719cc41061b3f6cb7569"
	       "a8236ba8f51b035a0a2d319b2c0f7939");
	eng_end(&e);
}

/* --- an index page --- */

static uint64_t next_addr;

static uint64_t assign(void *arg)
{
	return next_addr++;
}

struct sealed {
	struct bt_env *env;
	uint8_t image[2][BT_PAGE_BYTES];
	unsigned count;
};

static void emit(void *arg, struct bt_node *node, uint64_t addr)
{
	struct sealed *s = arg;

	assert_true(s->count < 2);
	bt_page_seal(s->env, node, 7, 5, s->image[s->count++]);
}

static void index_page(void **state)
{
	struct bt_env env = {.store_id = {1, 2, 3, 4, 5, 6, 7, 8}, .shard = 2};
	struct btree t = {.env = &env};
	static struct sealed s;
	struct pst_err err = {0};
	static uint8_t tail[64];

	s.env = &env;
	assert_int_equal(bt_env_init(&env), 0);
	assert_int_equal(bt_reserve(&env, 4, false), 0);
	bt_put(&t, "common/alpha", 12, "first", 5);
	bt_put(&t, "common/beta", 11, "second", 6);
	bt_put(&t, "common/gamma", 12, "", 0);
	next_addr = 0x123456;
	bt_dirty_assign(&t, 7, 5, assign, emit, &s);
	assert_int_equal(s.count, 1);
	assert_int_equal(bt_page_check(&env, s.image[0], 0x123456, &err), 0);
	golden("index_page_head", s.image[0], 128,
	       "505362742a724b2b5634120000000000070000000000000001020304050607080200000005000000"
	       "010000000300d20f001000000000000000000000000000006d6d6f63efcfa0006d6d6f63debfc000"
	       "6d6d6f63d2cf00000000000000000000000000000000000000000000000000000000000000000000"
	       "0000000000000000");
	memcpy(tail, s.image[0] + BT_PAGE_BYTES - sizeof(tail), sizeof(tail));
	golden("index_page_tail", tail, sizeof(tail),
	       "000000000000000000000000000000000000636f6d6d6f6e2f67616d6d617365636f6e64636f6d6d"
	       "6f6e2f626574616669727374636f6d6d6f6e2f616c706861");
	bt_drop(&t);
	bt_env_done(&env);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(superblock),      cmocka_unit_test(header),
	        cmocka_unit_test(log_and_records), cmocka_unit_test(checksum_page),
	        cmocka_unit_test(index_page),
	};

	print_only = argc > 1;
	return cmocka_run_group_tests_name("media: golden bytes", tests, NULL, NULL);
}
