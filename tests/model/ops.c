/* SPDX-License-Identifier: BSD-3-Clause */
#include "ops.h"

uint64_t ops_turns_max;

/* A store that never answers is a failure, not a wait. */
static void turn(struct store *s, uint64_t *turns)
{
	pst_assert(!ops_turns_max || ++*turns < ops_turns_max);
	loop_turn(s->loop, NSEC_PER_SEC);
}

static void ended(struct pst_op *op)
{
	*(bool *)op->user = true;
}

int ops_run(struct store *s, struct pst_op *op)
{
	bool done = false;
	uint64_t turns = 0;
	enum pst_outcome out;

	op->done = ended;
	op->user = &done;
	while ((out = store_submit(s, op)) == PST_BUSY)
		turn(s, &turns);
	while (out == PST_QUEUED && !done)
		turn(s, &turns);
	pst_assert(out == PST_QUEUED || !done);
	return op->status;
}

static struct pst_op cont_op(uint8_t opcode, const char *name, const char *name2)
{
	return (struct pst_op){
	        .opcode = opcode,
	        .name = name,
	        .name_len = name ? (uint32_t)strlen(name) : 0,
	        .name2 = name2,
	        .name2_len = name2 ? (uint32_t)strlen(name2) : 0,
	};
}

static int cont_id(struct store *s, uint8_t opcode, const char *name, uint32_t *ret_id)
{
	struct pst_cont_info info = {0};
	struct pst_op op = cont_op(opcode, name, NULL);
	int r;

	op.cont_info = &info;
	r = ops_run(s, &op);
	if (!r && ret_id)
		*ret_id = info.id;
	return r;
}

int ops_cont_create(struct store *s, const char *name, uint32_t *ret_id)
{
	return cont_id(s, PST_OP_CONT_CREATE, name, ret_id);
}

int ops_cont_open(struct store *s, const char *name, uint32_t *ret_id)
{
	return cont_id(s, PST_OP_CONT_OPEN, name, ret_id);
}

int ops_cont_get(struct store *s, uint32_t cont, struct pst_cont_info *ret_info)
{
	struct pst_op op = {.opcode = PST_OP_CONT_GET, .cont = cont, .cont_info = ret_info};

	return ops_run(s, &op);
}

int ops_cont_quota(struct store *s, uint32_t cont, uint64_t bytes, uint64_t objects)
{
	struct pst_cont_info info = {.quota_bytes = bytes, .quota_objects = objects};
	struct pst_op op = {.opcode = PST_OP_CONT_SET, .cont = cont, .cont_info = &info};

	op.attr_mask = PST_SET_QUOTA_BYTES | PST_SET_QUOTA_OBJECTS;
	return ops_run(s, &op);
}

int ops_cont_destroy(struct store *s, const char *name)
{
	struct pst_op op = cont_op(PST_OP_CONT_DESTROY, name, NULL);

	return ops_run(s, &op);
}

static int snap_view(struct store *s, uint8_t opcode, const char *cont, const char *snap,
                     uint64_t *ret_view)
{
	struct pst_snap_info info = {0};
	struct pst_op op = cont_op(opcode, cont, snap);
	int r;

	op.snap_info = &info;
	r = ops_run(s, &op);
	if (!r && ret_view)
		*ret_view = info.view;
	return r;
}

int ops_snap_create(struct store *s, const char *cont, const char *snap, uint64_t *ret_view)
{
	return snap_view(s, PST_OP_SNAP_CREATE, cont, snap, ret_view);
}

int ops_snap_open(struct store *s, const char *cont, const char *snap, uint64_t *ret_view)
{
	return snap_view(s, PST_OP_SNAP_OPEN, cont, snap, ret_view);
}

int ops_snap_destroy(struct store *s, const char *cont, const char *snap)
{
	struct pst_op op = cont_op(PST_OP_SNAP_DESTROY, cont, snap);

	return ops_run(s, &op);
}

int ops_write(struct store *s, uint32_t cont, struct pst_oid oid, uint64_t off, const void *buf,
              size_t len)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
	struct pst_op op = {.opcode = PST_OP_WRITE, .cont = cont, .oid = oid, .off = off};
	int r;

	op.len = len;
	op.iov = &iov;
	op.iov_count = 1;
	r = ops_run(s, &op);
	pst_assert(r || op.ret_len == len);
	return r;
}

int ops_read(struct store *s, uint32_t cont, uint64_t view, struct pst_oid oid, uint64_t off,
             void *buf, size_t len, uint64_t *ret_len)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	struct pst_op op = {.opcode = PST_OP_READ, .cont = cont, .view = view, .oid = oid};
	int r;

	op.off = off;
	op.len = len;
	op.iov = &iov;
	op.iov_count = 1;
	r = ops_run(s, &op);
	if (!r && ret_len)
		*ret_len = op.ret_len;
	return r;
}

int ops_stat(struct store *s, uint32_t cont, uint64_t view, struct pst_oid oid,
             struct pst_obj_stat *ret_stat)
{
	struct pst_op op = {.opcode = PST_OP_STAT, .cont = cont, .view = view, .oid = oid};

	op.stat = ret_stat;
	return ops_run(s, &op);
}

int ops_batch(struct store *s, uint32_t cont, struct pst_mut *muts, uint32_t count)
{
	struct pst_op op = {.opcode = PST_OP_BATCH, .cont = cont, .muts = muts};

	op.mut_count = count;
	return ops_run(s, &op);
}

int ops_kv_put(struct store *s, uint32_t cont, struct pst_oid oid, const char *key, const void *val,
               uint32_t val_len)
{
	struct pst_mut mut = MUT_PUT(oid, key, val, val_len);

	return ops_batch(s, cont, &mut, 1);
}

int ops_kv_get(struct store *s, uint32_t cont, uint64_t view, struct pst_oid oid, const char *key,
               void *val, uint32_t val_cap, uint64_t *ret_len)
{
	struct pst_op op = {.opcode = PST_OP_KV_GET, .cont = cont, .view = view, .oid = oid};
	int r;

	op.key = key;
	op.key_len = (uint32_t)strlen(key);
	op.val = val;
	op.val_cap = val_cap;
	r = ops_run(s, &op);
	if (!r && ret_len)
		*ret_len = op.ret_len;
	return r;
}

int ops_flush(struct store *s, uint32_t cont)
{
	struct pst_op op = {.opcode = PST_OP_FLUSH, .cont = cont};

	return ops_run(s, &op);
}
