/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The messages: golden bytes of each, both ways, and that what is decoded is what was encoded. The
 * remote store sends each op into a tape; this program plays the server, and answers.
 *
 * wire_golden.txt holds a line for each message. A difference means that a peer which exists doesn't
 * understand us any more: a new version of the protocol, not a new golden line. With the argument
 * --print the program prints what it found instead.
 */
#include "wire_play.h"

#define NAMED(opcode_, ...)                                 \
	{                                                   \
		.opcode = (opcode_), .cont = 5, __VA_ARGS__ \
	}

/* --- containers --- */

static void fill_cont(struct pst_op *op, void *payload, uint32_t *ret_len)
{
	struct pst_cont_info *c = op->cont_info;

	op->cont = 77;
	if (!c)
		return;
	memset(c, 0, sizeof(*c));
	(void)snprintf(c->name, sizeof(c->name), "train");
	c->id = 77;
	c->home_shard = 3;
	c->props = 1;
	c->layout = 1;
	memset(c->uuid, 0xc0, 16);
	c->ctime_ns = 1;
	c->quota_bytes = 2;
	c->quota_objects = 3;
	c->used_bytes = 4;
	c->used_objects = 5;
	c->logical_bytes = 6;
	c->snapshots = 7;
}

static void fill_snap(struct pst_op *op, void *payload, uint32_t *ret_len)
{
	memset(op->snap_info, 0, sizeof(*op->snap_info));
	(void)snprintf(op->snap_info->name, sizeof(op->snap_info->name), "v1");
	op->snap_info->view = 0x1122;
	op->snap_info->ctime_ns = 9;
	op->cont = 77;
}

static void containers(void **state)
{
	static const uint8_t opcodes[] = {PST_OP_CONT_CREATE, PST_OP_CONT_OPEN, PST_OP_CONT_GET,
	                                  PST_OP_CONT_SET};
	static const char *const names[] = {"CONT_CREATE", "CONT_OPEN", "CONT_GET", "CONT_SET"};
	struct pst_cont_info info = {.props = 1, .layout = 1, .quota_bytes = 100};

	for (unsigned i = 0; i < ARRAY_LEN(opcodes); i++) {
		struct pst_op op = {.opcode = opcodes[i], .name = "train", .name_len = 5};

		op.cont_info = &info;
		op.attr_mask = opcodes[i] == PST_OP_CONT_SET ? PST_SET_QUOTA_BYTES : 0;
		assert_int_equal(play(names[i], &op, fill_cont), 0);
		assert_int_equal(op.cont, 77);
		assert_string_equal(info.name, "train");
		assert_int_equal(info.snapshots, 7);
	}
	struct pst_op destroy = {.opcode = PST_OP_CONT_DESTROY, .name = "train", .name_len = 5};

	assert_int_equal(play("CONT_DESTROY", &destroy, NULL), 0);
}

static void snapshots(void **state)
{
	struct pst_snap_info info = {0};
	struct pst_op op = {.opcode = PST_OP_SNAP_CREATE,
	                    .name = "train",
	                    .name_len = 5,
	                    .name2 = "v1",
	                    .name2_len = 2,
	                    .snap_info = &info};
	struct pst_op destroy = op;

	assert_int_equal(play("SNAP_CREATE", &op, fill_snap), 0);
	assert_int_equal(info.view, 0x1122);
	op.opcode = PST_OP_SNAP_OPEN;
	assert_int_equal(play("SNAP_OPEN", &op, fill_snap), 0);
	destroy.opcode = PST_OP_SNAP_DESTROY;
	destroy.snap_info = NULL;
	assert_int_equal(play("SNAP_DESTROY", &destroy, NULL), 0);
}

/* --- data --- */

static uint8_t data[512];

static void fill_data(struct pst_op *op, void *payload, uint32_t *ret_len)
{
	for (unsigned i = 0; i < sizeof(data); i++)
		((uint8_t *)payload)[i] = (uint8_t)(i * 3);
	op->ret_len = *ret_len = sizeof(data);
}

static void fill_written(struct pst_op *op, void *payload, uint32_t *ret_len)
{
	op->ret_len = sizeof(data);
	op->ret_off = 4096;
}

static void reads_and_writes(void **state)
{
	struct iovec iov = {data, sizeof(data)};
	struct pst_op op = {.opcode = PST_OP_READ,
	                    .cont = 5,
	                    .view = 6,
	                    .oid = {7, 8},
	                    .off = 4096,
	                    .len = sizeof(data),
	                    .iov = &iov,
	                    .iov_count = 1};

	assert_int_equal(play("READ", &op, fill_data), 0);
	assert_int_equal(data[100], (uint8_t)300);
	op.opcode = PST_OP_WRITE;
	op.view = 0;
	op.flags = PST_F_VOLATILE;
	assert_int_equal(play("WRITE", &op, fill_written), 0);
	assert_int_equal(op.ret_len, sizeof(data));
	op.opcode = PST_OP_FILE_READ;
	op.flags = PST_F_NOVERIFY;
	op.ino = 12;
	op.oid = (struct pst_oid){0};
	assert_int_equal(play("FILE_READ", &op, fill_data), 0);
	op.opcode = PST_OP_FILE_WRITE;
	op.flags = PST_F_APPEND;
	assert_int_equal(play("FILE_WRITE", &op, fill_written), 0);
	assert_int_equal(op.ret_off, 4096);
	op = (struct pst_op){.opcode = PST_OP_FLUSH, .cont = 5};
	assert_int_equal(play("FLUSH", &op, NULL), 0);
	op = (struct pst_op){.opcode = PST_OP_FSYNC, .cont = 5, .ino = 12};
	assert_int_equal(play("FSYNC", &op, NULL), 0);
}

/* Longer than what goes inline: a window is shown, and written or read. */
static void on_long(struct tape *t, const void *msg, uint32_t len)
{
	struct wire_resp r = {.kind = WIRE_RESP, .version = 1};
	struct wire_req m;
	uint8_t *window = t->window->iov[0].iov_base;

	wire_req_get(&m, msg);
	golden(env.name, msg, len);
	assert_int_equal(len, sizeof(m) + sizeof(struct wire_desc));
	assert_int_equal(m.what & WIRE_WINDOW, WIRE_WINDOW);
	assert_int_equal(t->window->iov[0].iov_len, 64 * KIB);
	r.opcode = m.opcode;
	r.id = m.id;
	r.ret_len = 64 * KIB;
	if (m.opcode == PST_OP_READ) {
		memset(window, 0x77, 64 * KIB);
		r.len = 64 * KIB;
		r.what = WIRE_PUSHED | WIRE_CRC;
		r.crc = crc32c(0, window, r.len);
	} else {
		assert_int_equal(m.what & WIRE_PULL, WIRE_PULL);
		assert_int_equal(m.crc, crc32c(0, window, m.len));
	}
	tape_say(t, &r, sizeof(r));
}

static void long_ones(void **state)
{
	uint8_t *buf = calloc(1, 64 * KIB);
	struct iovec iov = {buf, 64 * KIB};
	struct pst_op op = {.opcode = PST_OP_READ, .cont = 5, .oid = {7, 8}, .len = 64 * KIB};

	op.iov = &iov;
	op.iov_count = 1;
	op.done = play_done;
	env.tape->sent = on_long;
	for (int i = 0; i < 2; i++) {
		env.name = i ? "REQ-WRITE-WINDOW" : "REQ-READ-WINDOW";
		env.ended = false;
		op.opcode = i ? PST_OP_WRITE : PST_OP_READ;
		assert_int_equal(store_submit(env.store, &op), PST_QUEUED);
		while (!env.ended)
			(void)loop_turn(env.loop, NSEC_PER_MSEC);
		assert_int_equal(op.status, 0);
		assert_int_equal(buf[64 * KIB - 1], 0x77);
		assert_null(env.tape->window); /* it was closed before the op ended */
	}
	free(buf);
}

static void deaf(struct tape *t, const void *msg, uint32_t len)
{
}

/* An op that timed out ends when its window is closed, not before: the peer may be writing there. */
static void timeout_waits_for_window(void **state)
{
	uint8_t *buf = calloc(1, 64 * KIB);
	struct iovec iov = {buf, 64 * KIB};
	struct pst_op op = {.opcode = PST_OP_READ, .cont = 5, .oid = {7, 8}, .len = 64 * KIB};
	uint64_t until = loop_now(env.loop) + 4 * NSEC_PER_SEC;

	op.iov = &iov;
	op.iov_count = 1;
	op.done = play_done;
	op.deadline_ns = loop_now(env.loop) + 10 * NSEC_PER_MSEC;
	env.tape->sent = deaf;
	env.tape->hold_close = true;
	env.ended = false;
	assert_int_equal(store_submit(env.store, &op), PST_QUEUED);
	while (!env.tape->held && loop_now(env.loop) < until)
		(void)loop_turn(env.loop, 100 * NSEC_PER_MSEC);
	assert_non_null(env.tape->held);
	for (unsigned i = 0; i < 10; i++)
		(void)loop_turn(env.loop, 100 * NSEC_PER_MSEC);
	assert_false(env.ended);
	env.tape->held->closed(env.tape->held);
	assert_true(env.ended);
	assert_int_equal(op.status, -ETIMEDOUT);
	free(buf);
}

static void fill_extent(struct pst_op *op, void *payload, uint32_t *ret_len)
{
	op->ret_off = 8192;
	op->ret_len = 100;
}

static void fill_stat(struct pst_op *op, void *payload, uint32_t *ret_len)
{
	*op->stat = (struct pst_obj_stat){.exists = true,
	                                  .label_len = 3,
	                                  .size_bytes = 10,
	                                  .alloc_bytes = 4096,
	                                  .mtime_ns = 5,
	                                  .label = "lab"};
}

static void fill_appends(struct pst_op *op, void *payload, uint32_t *ret_len)
{
	for (uint32_t i = 0; i < op->mut_count; i++)
		if (op->muts[i].kind == PST_ARRAY_APPEND)
			op->muts[i].off = 1000 + i;
	op->ret_off = 1004;
}

static void batches(void **state)
{
	char text[] = "payload";
	struct iovec iov[2] = {{text, 3}, {text + 3, 4}};
	struct pst_mut m[] = {
	        {.kind = PST_IF_KEY_EQ,
	         .err = -EEXIST,
	         .oid = {0, 1},
	         .key = "k",
	         .key_len = 1,
	         .val = "v",
	         .val_len = 1},
	        {.kind = PST_IF_NO_KEYS, .err = -EBUSY, .oid = {0, 2}},
	        {.kind = PST_KV_PUT,
	         .oid = {0, 3},
	         .key = "key",
	         .key_len = 3,
	         .val = "value",
	         .val_len = 5},
	        {.kind = PST_ARRAY_WRITE,
	         .oid = {0, 4},
	         .off = 9,
	         .len = 7,
	         .iov = iov,
	         .iov_count = 2},
	        {.kind = PST_ARRAY_APPEND, .oid = {0, 5}, .len = 4, .val = "tail", .val_len = 4},
	        {.kind = PST_ARRAY_PUNCH, .oid = {0, 6}, .off = 1, .len = 1ull << 40},
	        {.kind = PST_SET_LABEL, .oid = {0, 7}, .val = "l", .val_len = 1},
	        {.kind = PST_OBJ_DELETE, .oid = {0, 8}},
	};
	struct pst_op op = {
	        .opcode = PST_OP_BATCH, .cont = 5, .muts = m, .mut_count = ARRAY_LEN(m)};
	struct pst_obj_stat st;

	assert_int_equal(play("BATCH", &op, fill_appends), 0);
	assert_int_equal(m[4].off, 1004);
	op = (struct pst_op){.opcode = PST_OP_STAT, .cont = 5, .oid = {1, 2}, .stat = &st};
	assert_int_equal(play("STAT", &op, fill_stat), 0);
	assert_true(st.exists);
	assert_memory_equal(st.label, "lab", 3);
	op = (struct pst_op){
	        .opcode = PST_OP_EXTENTS, .cont = 5, .oid = {1, 2}, .off = 1, .len = 1ull << 50};
	assert_int_equal(play("EXTENTS", &op, fill_extent), 0);
	assert_int_equal(op.ret_off, 8192);
}

/* --- values and lists --- */

static void fill_value(struct pst_op *op, void *payload, uint32_t *ret_len)
{
	memcpy(payload, "abc", 3);
	op->ret_len = *ret_len = 3;
}

static void values(void **state)
{
	static const uint8_t opcodes[] = {PST_OP_KV_GET, PST_OP_GETXATTR, PST_OP_READLINK};
	static const char *const names[] = {"KV_GET", "GETXATTR", "READLINK"};
	char val[16];

	for (unsigned i = 0; i < ARRAY_LEN(opcodes); i++) {
		struct pst_op op = {.opcode = opcodes[i], .cont = 5, .oid = {1, 2}, .ino = 9};

		if (i < 2) {
			op.key = "user.k";
			op.key_len = 6;
		}
		op.val = val;
		op.val_cap = sizeof(val);
		assert_int_equal(play(names[i], &op, fill_value), 0);
		assert_int_equal(op.ret_len, 3);
		assert_memory_equal(val, "abc", 3);
	}
	struct pst_op set = {
	        .opcode = PST_OP_SETXATTR, .cont = 5, .ino = 9, .key = "user.k", .key_len = 6};

	set.val = val;
	set.val_cap = 3;
	assert_int_equal(play("SETXATTR", &set, NULL), 0);
	set.opcode = PST_OP_REMOVEXATTR;
	assert_int_equal(play("REMOVEXATTR", &set, NULL), 0);
}

static unsigned entries;

static bool one_entry(struct pst_op *op, const struct pst_entry *e)
{
	entries++;
	if (op->opcode == PST_OP_OBJ_LIST) {
		assert_int_equal(e->oid.lo, entries);
		assert_int_equal(e->name_len, sizeof(struct pst_oid));
	} else {
		assert_memory_equal(e->name, entries == 1 ? "one" : "two", 3);
	}
	if (op->want_values && op->opcode == PST_OP_READDIR)
		assert_int_equal(e->attr->size_bytes, 99);
	return true;
}

static void fill_page(struct pst_op *op, void *payload, uint32_t *ret_len)
{
	struct wire_out out = {.at = payload, .end = (uint8_t *)payload + 4096};
	struct pst_attr attr = {.ino = 5, .size_bytes = 99, .mode = 0100644};
	struct pst_cont_info cont = {.name = "one", .id = 4};
	struct pst_snap_info snap = {.name = "one", .view = 4};

	for (uint64_t i = 1; i <= 2; i++) {
		struct pst_entry e = {.name = i == 1 ? "one" : "two", .name_len = 3, .id = i};

		e.oid.lo = op->opcode == PST_OP_OBJ_LIST ? i : 0;
		e.cont = op->opcode == PST_OP_CONT_LIST ? &cont : NULL;
		e.snap = op->opcode == PST_OP_SNAP_LIST ? &snap : NULL;
		e.attr = op->opcode == PST_OP_READDIR ? &attr : NULL;
		if (op->opcode == PST_OP_KV_LIST) {
			e.val = "val";
			e.val_len = 3;
		}
		assert_true(wire_entry_put(&out, op, &e, NULL));
	}
	*ret_len = (uint32_t)(out.at - (uint8_t *)payload);
}

static void lists(void **state)
{
	static const uint8_t opcodes[] = {PST_OP_CONT_LIST, PST_OP_SNAP_LIST, PST_OP_OBJ_LIST,
	                                  PST_OP_KV_LIST,   PST_OP_READDIR,   PST_OP_LISTXATTR};
	static const char *const names[] = {"CONT_LIST", "SNAP_LIST", "OBJ_LIST",
	                                    "KV_LIST",   "READDIR",   "LISTXATTR"};
	struct pst_oid oid = {0x0102, 0x0304};

	for (unsigned i = 0; i < ARRAY_LEN(opcodes); i++) {
		struct pst_op op = {.opcode = opcodes[i], .entry = one_entry};

		op.cont = i ? 5 : 0;
		op.start = opcodes[i] == PST_OP_OBJ_LIST ? (const void *)&oid : "name";
		op.start_len = opcodes[i] == PST_OP_OBJ_LIST ? sizeof(oid) : 4;
		op.want_values = opcodes[i] == PST_OP_KV_LIST || opcodes[i] == PST_OP_READDIR;
		op.ino = opcodes[i] == PST_OP_LISTXATTR ? 9 : 0;
		entries = 0;
		assert_int_equal(play(names[i], &op, fill_page), 0);
		assert_int_equal(entries, 2);
	}
}

/* --- names --- */

static void fill_attr(struct pst_op *op, void *payload, uint32_t *ret_len)
{
	op->ino = 44;
	op->attr = (struct pst_attr){.ino = 44,
	                             .mode = 0100600,
	                             .uid = 1,
	                             .gid = 2,
	                             .nlink = 3,
	                             .size_bytes = 4,
	                             .alloc_bytes = 5,
	                             .rdev = 6,
	                             .atime_ns = -7,
	                             .mtime_ns = 8,
	                             .ctime_ns = 9,
	                             .btime_ns = 10};
}

static void names(void **state)
{
	static const struct {
		uint8_t opcode;
		const char *name;
		bool two;
	} t[] = {{PST_OP_LOOKUP, "LOOKUP", false},      {PST_OP_CREATE, "CREATE", false},
	         {PST_OP_MKDIR, "MKDIR", false},        {PST_OP_SYMLINK, "SYMLINK", true},
	         {PST_OP_LINK, "LINK", true},           {PST_OP_UNLINK, "UNLINK", false},
	         {PST_OP_RMDIR, "RMDIR", false},        {PST_OP_RENAME, "RENAME", true},
	         {PST_OP_GETATTR, "GETATTR", false},    {PST_OP_SETATTR, "SETATTR", false},
	         {PST_OP_FILE_OPEN, "FILE_OPEN", false}};
	struct iovec iov = {data, 16};

	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		struct pst_op op = NAMED(t[i].opcode, .dir = 3, .name = "a/b", .name_len = 3);

		if (t[i].two) {
			op.dir2 = t[i].opcode == PST_OP_SYMLINK ? 0 : 4;
			op.name2 = "c/d";
			op.name2_len = 3;
		}
		if (t[i].opcode == PST_OP_CREATE || t[i].opcode == PST_OP_SETATTR) {
			op.attr.mode = 0100600;
			op.attr_mask = PST_ATTR_MODE;
		}
		if (t[i].opcode == PST_OP_CREATE) {
			op.iov = &iov;
			op.iov_count = 1;
			op.len = 16;
		}
		assert_int_equal(play(t[i].name, &op, fill_attr), 0);
		assert_int_equal(op.attr.mtime_ns, 8);
		assert_int_equal(op.attr.atime_ns, -7);
		assert_int_equal(op.ino, 44);
	}
	struct pst_op op = {.opcode = PST_OP_FILE_CLOSE, .cont = 5, .ino = 44};

	assert_int_equal(play("FILE_CLOSE", &op, NULL), 0);
}

/* --- the store --- */

static void fill_status(struct pst_op *op, void *payload, uint32_t *ret_len)
{
	struct pst_store_status *s = op->status_out;

	if (op->cont_info)
		fill_cont(op, payload, ret_len);
	memset(s, 0, sizeof(*s));
	memset(s->uuid, 0x51, 16);
	s->epoch = 9;
	s->shards = 4;
	s->devices = 2;
	s->size_bytes = 1000;
	s->recovery_index_bytes = 31;
	(void)snprintf(s->device[1].name, sizeof(s->device[1].name), "mem:");
	s->device[1].size_bytes = 500;
	(void)snprintf(s->label, sizeof(s->label), "gold");
}

static void fill_scrub(struct pst_op *op, void *payload, uint32_t *ret_len)
{
	op->scrub->total_bytes = 10;
	op->scrub->done_bytes = 10;
	op->scrub->objects = 2;
	op->scrub->errors = 1;
}

static void the_store(void **state)
{
	struct pst_store_status st;
	struct pst_cont_info info;
	struct pst_scrub_report rep = {.rate_bytes_per_s = 1000};
	struct pst_op op = {.opcode = PST_OP_STATUS, .status_out = &st};

	assert_int_equal(play("STATUS", &op, fill_status), 0);
	assert_string_equal(st.device[1].name, "mem:");
	assert_int_equal(st.recovery_index_bytes, 31);
	assert_string_equal(st.channel, "tape golden");
	op = (struct pst_op){
	        .opcode = PST_OP_STATFS, .cont = 5, .status_out = &st, .cont_info = &info};
	assert_int_equal(play("STATFS", &op, fill_status), 0);
	assert_string_equal(info.name, "train");
	op = (struct pst_op){.opcode = PST_OP_SCRUB, .scrub = &rep};
	assert_int_equal(play("SCRUB", &op, fill_scrub), 0);
	assert_int_equal(rep.errors, 1);
	assert_int_equal(rep.rate_bytes_per_s, 1000);
}

static void fill_failure(struct pst_op *op, void *payload, uint32_t *ret_len)
{
	op->status = -EEXIST;
	op->ret_index = 3;
}

/* A failure carries no fields. */
static void failures(void **state)
{
	struct pst_mut m[] = {{.kind = PST_IF_OBJ_ABSENT, .err = -EEXIST, .oid = {0, 1}}};
	struct pst_op op = {.opcode = PST_OP_BATCH, .cont = 5, .muts = m, .mut_count = 1};

	assert_int_equal(play("FAILED", &op, fill_failure), -EEXIST);
	assert_int_equal(op.ret_index, 3);
}

static void notes(void **state)
{
	uint8_t msg[256];
	struct pst_scrub_report r = {.total_bytes = 5, .done_bytes = 4, .errors = 1}, got = {0};
	struct wire_bad_block bad = {.cont = 5, .oid = {1, 2}, .off = 3, .status = -EIO}, b;
	bool is_bad;
	uint32_t len;

	wire_note_make(msg, 1, WIRE_CANCEL, 0, 0x100000007);
	golden("CANCEL", msg, 16);
	wire_note_make(msg, 1, WIRE_BYE, (uint32_t)-ESHUTDOWN, 0);
	golden("BYE", msg, 16);
	wire_note_make(msg, 1, WIRE_PING, 0, 1);
	golden("PING", msg, 16);
	wire_note_make(msg, 1, WIRE_PONG, 0, 1);
	golden("PONG", msg, 16);
	wire_note_make(msg, 1, WIRE_CREDIT, 8, 9);
	golden("CREDIT", msg, 16);
	len = wire_scrub_event_put(msg, sizeof(msg), 1, 7, &r, NULL);
	golden("EVENT-SCRUB", msg, len);
	assert_int_equal(wire_scrub_event_get(msg, len, &got, &is_bad, &b), 0);
	assert_false(is_bad);
	assert_int_equal(got.done_bytes, 4);
	len = wire_scrub_event_put(msg, sizeof(msg), 1, 7, &r, &bad);
	golden("EVENT-BAD", msg, len);
	assert_int_equal(wire_scrub_event_get(msg, len, &got, &is_bad, &b), 0);
	assert_true(is_bad && b.off == 3 && b.status == -EIO && b.oid.lo == 2);
	assert_int_equal(wire_scrub_event_get(msg, len - 1, &got, &is_bad, &b), -EPROTO);
	assert_int_equal(b.view, 0); /* version 1 does not say */
	bad.view = 0x77;
	len = wire_scrub_event_put(msg, sizeof(msg), 2, 7, &r, &bad);
	golden("EVENT-BAD-2", msg, len);
	assert_int_equal(wire_scrub_event_get(msg, len, &got, &is_bad, &b), 0);
	assert_true(is_bad && b.off == 3 && b.view == 0x77);
}

/* What version 2 has more than 1, and that a reader of either finds nothing missing or left over. */
/* They come to who asks for them; to others the answer is what it was before there were any. */
static void status_reactors(void **state)
{
	struct pst_store_status s = {.reactors = 2}, got;
	uint8_t msg[2048];

	s.reactor[0] = (struct pst_reactor_status){.core = 5, .up_ns = 7, .busy_ns = 6, .ops = 1};
	s.reactor[1] = (struct pst_reactor_status){.core = -1, .up_ns = 9, .busy_ns = 8, .ops = 2};
	for (unsigned asked = 0; asked < 2; asked++) {
		struct pst_op op = {.opcode = PST_OP_STATUS, .want_values = asked};
		struct wire_out out = {.at = msg, .end = msg + sizeof(msg)};
		struct wire_in in = {.at = msg};

		op.status_out = &s;
		assert_true(wire_answer_put(&out, &op));
		in.end = out.at;
		op.status_out = &got;
		assert_int_equal(wire_answer_get(&in, &op, NULL), 0);
		assert_int_equal(got.reactors, asked ? 2 : 0);
		if (asked)
			assert_memory_equal(got.reactor, s.reactor, sizeof(s.reactor));
	}
}

static void status_versions(void **state)
{
	static uint8_t msg[4096];
	struct pst_store_status s = {.refused_last = PST_SCARCE_INDEX}, got;
	struct pst_op op = {.opcode = PST_OP_STATUS};

	s.refused[PST_SCARCE_DATA] = 3;
	s.refused[PST_SCARCE_INDEX] = 4;
	for (uint8_t put = 1; put <= 2; put++)
		for (uint8_t get = 1; get <= 2; get++) {
			struct wire_out out = {.at = msg, .end = msg + sizeof(msg), .version = put};
			struct wire_in in = {.at = msg, .version = get};

			op.status_out = &s;
			assert_true(wire_answer_put(&out, &op));
			in.end = out.at;
			if (put == 2 && get == 2)
				golden("FIELD-STATUS-2", msg, (size_t)(out.at - msg));
			op.status_out = &got;
			assert_int_equal(wire_answer_get(&in, &op, NULL), put == get ? 0 : -EPROTO);
			if (put != get)
				continue;
			assert_int_equal(got.refused[PST_SCARCE_INDEX], put == 2 ? 4 : 0);
			assert_int_equal(got.refused_last, put == 2 ? PST_SCARCE_INDEX : 0);
		}
}

/* Handles: with a request, in an answer, in a list. Version 1 has none. */
static void handles(void **state)
{
	static uint8_t msg[4096];
	struct wire_out out = {.at = msg, .end = msg + sizeof(msg), .version = 2};
	struct pst_op op = {.opcode = PST_OP_FILE_OPEN}, dir = {.opcode = PST_OP_READDIR};
	struct pst_entry e = {.name = "one", .name_len = 3, .id = 44};
	struct wire_req m = {.kind = WIRE_REQ, .version = 2, .opcode = PST_OP_FILE_READ};
	uint8_t handle[WIRE_HANDLE_BYTES];
	const uint8_t *got = NULL;
	struct wire_entry we;
	struct wire_in in;

	for (unsigned i = 0; i < sizeof(handle); i++)
		handle[i] = (uint8_t)(0x80 + i);
	m.what = WIRE_HANDLE;
	m.id = 7;
	m.cont = 5;
	m.oid_lo = 44;
	m.len = 4096;
	wire_req_put(msg, &m);
	memcpy(msg + sizeof(m), handle, sizeof(handle));
	golden("REQ-FILE_READ-HANDLE-2", msg, sizeof(m) + sizeof(handle));
	assert_true(wire_req_sane(&m, sizeof(m) + sizeof(handle)));
	assert_false(wire_req_sane(&m, sizeof(m) + sizeof(handle) - 1));
	m.version = 1;
	assert_false(wire_req_sane(&m, sizeof(m) + sizeof(handle)));

	op.attr.ino = 44;
	assert_true(wire_answer_put(&out, &op));
	assert_true(wire_handle_put(&out, handle));
	golden("FIELDS-FILE_OPEN-HANDLE-2", msg, (size_t)(out.at - msg));
	in = (struct wire_in){.at = msg, .end = out.at};
	assert_int_equal(wire_answer_get(&in, &op, &got), 0);
	assert_non_null(got);
	assert_memory_equal(got, handle, sizeof(handle));
	in = (struct wire_in){.at = msg, .end = out.at - 8};
	assert_int_equal(wire_answer_get(&in, &op, NULL), -EPROTO);

	out = (struct wire_out){.at = msg, .end = msg + sizeof(msg), .version = 2};
	assert_true(wire_entry_put(&out, &dir, &e, handle));
	golden("ENTRY-READDIR-HANDLE-2", msg, (size_t)(out.at - msg));
	in = (struct wire_in){.at = msg, .end = out.at};
	assert_int_equal(wire_entry_get(&in, &dir, &we), 0);
	assert_non_null(we.handle);
	assert_memory_equal(we.handle, handle, sizeof(handle));
	dir.opcode = PST_OP_LISTXATTR; /* has none */
	in = (struct wire_in){.at = msg, .end = out.at};
	assert_int_equal(wire_entry_get(&in, &dir, &we), -EPROTO);
}

/* Every byte of a hello counts: cut short anywhere it is none. */
static void hello_strict(void **state)
{
	struct wire_hello h = {.version = 1, .version_min = 1, .slots = 4, .depth = 5}, got;
	uint8_t msg[512];
	uint32_t len;

	h.name = "n";
	h.name_len = 1;
	h.cred = "cred";
	h.cred_len = 4;
	len = wire_hello_put(msg, sizeof(msg), &h);
	assert_int_equal(wire_hello_get(&got, msg, len), 0);
	assert_int_equal(got.cred_len, 4);
	for (uint32_t i = 0; i < len; i++)
		assert_int_equal(wire_hello_get(&got, msg, i), -EPROTO);
	msg[1] = 9; /* a newer client that knows ours too */
	assert_int_equal(wire_hello_get(&got, msg, len), 0);
	msg[16] = 9; /* and one that doesn't */
	assert_int_equal(wire_hello_get(&got, msg, len), -EPROTONOSUPPORT);
	assert_int_equal(wire_hello_put(msg, 50, &h), 0);
}

/* Of either version, since a server that knows no numbers of openings says 0; of the welcome that is played, the number
 * is in the golden line of version 1. */
static void welcome_openings(void **state)
{
	struct wire_welcome w = {.version = 2,
	                         .resumed = true,
	                         .session = 0x5e5510,
	                         .epoch = 9,
	                         .opening = 0x11223344,
	                         .opening_seen = 0x55667788,
	                         .caps = 0x1ff,
	                         .slots = 64,
	                         .depth = 32,
	                         .lease_ms = 60000,
	                         .expiry_s = 3600,
	                         .text = "golden",
	                         .text_len = 6},
	                    got;
	uint8_t msg[512];
	uint32_t len;

	memset(w.secret, 0x5e, 16);
	memset(w.store, 0x51, 16);
	len = wire_welcome_put(msg, sizeof(msg), &w);
	golden("WELCOME-2", msg, len);
	assert_int_equal(wire_welcome_get(&got, msg, len), 0);
	assert_int_equal(got.opening, 0x11223344);
	assert_int_equal(got.opening_seen, 0x55667788);
	for (uint32_t i = 0; i < len; i++)
		assert_int_equal(wire_welcome_get(&got, msg, i), -EPROTO);

	w = (struct wire_welcome){.version = 2,
	                          .status = -ESTALE,
	                          .epoch = 9,
	                          .opening = 7,
	                          .opening_seen = 1,
	                          .text = "no",
	                          .text_len = 2};
	memset(w.store, 0x51, 16);
	len = wire_welcome_put(msg, sizeof(msg), &w);
	golden("WELCOME-REFUSES-2", msg, len);
	assert_int_equal(wire_welcome_get(&got, msg, len), 0);
	assert_int_equal(got.status, -ESTALE);
	assert_int_equal(got.opening_seen, 1);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(containers, play_setup, play_teardown),
	        cmocka_unit_test_setup_teardown(snapshots, play_setup, play_teardown),
	        cmocka_unit_test_setup_teardown(reads_and_writes, play_setup, play_teardown),
	        cmocka_unit_test_setup_teardown(long_ones, play_setup, play_teardown),
	        cmocka_unit_test_setup_teardown(timeout_waits_for_window, play_setup,
	                                        play_teardown),
	        cmocka_unit_test_setup_teardown(batches, play_setup, play_teardown),
	        cmocka_unit_test_setup_teardown(values, play_setup, play_teardown),
	        cmocka_unit_test_setup_teardown(lists, play_setup, play_teardown),
	        cmocka_unit_test_setup_teardown(names, play_setup, play_teardown),
	        cmocka_unit_test_setup_teardown(the_store, play_setup, play_teardown),
	        cmocka_unit_test_setup_teardown(failures, play_setup, play_teardown),
	        cmocka_unit_test(notes),
	        cmocka_unit_test(status_versions),
	        cmocka_unit_test(status_reactors),
	        cmocka_unit_test(handles),
	        cmocka_unit_test(hello_strict),
	        cmocka_unit_test(welcome_openings),
	};

	golden_print = argc > 1 && !strcmp(argv[1], "--print");
	golden_path = argc > 1 ? argv[1] : "wire_golden.txt";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
