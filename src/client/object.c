/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * object - arrays and batches.
 */
#include "client/client.h"

static int flags_check(uint32_t flags, uint32_t allowed)
{
	return flags & ~allowed ? -EINVAL : 0;
}

/* --- reads and writes: every field that the opcode takes, see request_get_io() --- */

static void io_fill(struct request *r, const struct pst_cont *cont, struct pst_oid oid,
                    uint32_t flags)
{
	request_into(r, cont);
	r->op.oid = oid;
	r->op.flags = flags;
}

int pst_obj_read(struct pst_cont *cont, struct pst_oid oid, void *buf, size_t len, uint64_t off,
                 uint32_t flags, size_t *ret_len)
{
	struct request r;
	int rc;

	if (flags_check(flags, PST_F_NOVERIFY))
		return -EINVAL;
	if (len > PST_IO_MAX)
		return -E2BIG;
	request_init(&r, cont->client, PST_OP_READ);
	io_fill(&r, cont, oid, flags);
	request_buffer(&r, buf, len, off);
	rc = request_wait(&r);
	if (rc == 0 && ret_len)
		*ret_len = r.op.ret_len;
	return rc;
}

static inline __attribute__((always_inline)) int
io_async(struct pst_cont *cont, enum pst_opcode opcode, struct pst_oid oid, const void *buf,
         size_t len, uint64_t off, uint32_t flags, struct pst_cq *cq, void *user_data)
{
	struct request *r;
	int rc;

	if (unlikely(len > PST_IO_MAX))
		return -E2BIG;
	rc = request_get_io(&r, cont->client, cq, user_data, opcode);
	if (unlikely(rc < 0))
		return rc;
	io_fill(r, cont, oid, flags);
	request_buffer(r, buf, len, off);
	request_submit(r);
	return 0;
}

static int iov_async(struct pst_cont *cont, enum pst_opcode opcode, struct pst_oid oid,
                     const struct iovec *iov, unsigned iov_count, uint64_t off, uint32_t flags,
                     struct pst_cq *cq, void *user_data)
{
	struct request *r;
	int rc = request_get_io(&r, cont->client, cq, user_data, opcode);

	if (rc < 0)
		return rc;
	io_fill(r, cont, oid, flags);
	return request_go(r, request_vector(r, iov, iov_count, off));
}

int pst_obj_read_async(struct pst_cont *cont, struct pst_oid oid, void *buf, size_t len,
                       uint64_t off, uint32_t flags, struct pst_cq *cq, void *user_data)
{
	if (unlikely(flags & ~PST_F_NOVERIFY))
		return -EINVAL;
	return io_async(cont, PST_OP_READ, oid, buf, len, off, flags, cq, user_data);
}

int pst_obj_readv_async(struct pst_cont *cont, struct pst_oid oid, const struct iovec *iov,
                        unsigned iov_count, uint64_t off, uint32_t flags, struct pst_cq *cq,
                        void *user_data)
{
	if (flags_check(flags, PST_F_NOVERIFY))
		return -EINVAL;
	return iov_async(cont, PST_OP_READ, oid, iov, iov_count, off, flags, cq, user_data);
}

int pst_obj_write(struct pst_cont *cont, struct pst_oid oid, const void *buf, size_t len,
                  uint64_t off, uint32_t flags)
{
	struct request r;

	if (flags_check(flags, PST_F_VOLATILE))
		return -EINVAL;
	if (len > PST_IO_MAX)
		return -E2BIG;
	request_init(&r, cont->client, PST_OP_WRITE);
	io_fill(&r, cont, oid, flags);
	request_buffer(&r, buf, len, off);
	return request_wait(&r);
}

int pst_obj_write_async(struct pst_cont *cont, struct pst_oid oid, const void *buf, size_t len,
                        uint64_t off, uint32_t flags, struct pst_cq *cq, void *user_data)
{
	if (unlikely(flags & ~PST_F_VOLATILE))
		return -EINVAL;
	return io_async(cont, PST_OP_WRITE, oid, buf, len, off, flags, cq, user_data);
}

int pst_obj_writev_async(struct pst_cont *cont, struct pst_oid oid, const struct iovec *iov,
                         unsigned iov_count, uint64_t off, uint32_t flags, struct pst_cq *cq,
                         void *user_data)
{
	if (flags_check(flags, PST_F_VOLATILE))
		return -EINVAL;
	return iov_async(cont, PST_OP_WRITE, oid, iov, iov_count, off, flags, cq, user_data);
}

/* --- batches --- */

/* A blocking batch of the one change in r->mut[0]. */
static int one_mut(struct request *r, struct pst_cont *cont, uint32_t flags)
{
	if (flags_check(flags, PST_F_VOLATILE))
		return -EINVAL;
	request_init(r, cont->client, PST_OP_BATCH);
	request_into(r, cont);
	r->op.flags = flags;
	r->op.muts = r->mut;
	r->op.mut_count = 1;
	return request_wait(r);
}

int pst_obj_append(struct pst_cont *cont, struct pst_oid oid, const void *buf, size_t len,
                   uint32_t flags, uint64_t *ret_off)
{
	struct request r;
	int rc;

	if (len > PST_IO_MAX)
		return -E2BIG;
	r.mut[0] = (struct pst_mut){.kind = PST_ARRAY_APPEND,
	                            .oid = oid,
	                            .val = buf,
	                            .val_len = (uint32_t)len,
	                            .len = len};
	rc = one_mut(&r, cont, flags);
	if (rc == 0 && ret_off)
		*ret_off = r.mut[0].off;
	return rc;
}

int pst_obj_punch(struct pst_cont *cont, struct pst_oid oid, uint64_t off, uint64_t len,
                  uint32_t flags)
{
	struct request r;

	r.mut[0] = (struct pst_mut){.kind = PST_ARRAY_PUNCH, .oid = oid, .off = off, .len = len};
	return one_mut(&r, cont, flags);
}

int pst_obj_resize(struct pst_cont *cont, struct pst_oid oid, uint64_t size_bytes, uint32_t flags)
{
	struct request r;

	r.mut[0] = (struct pst_mut){.kind = PST_ARRAY_RESIZE, .oid = oid, .off = size_bytes};
	return one_mut(&r, cont, flags);
}

int pst_obj_delete(struct pst_cont *cont, struct pst_oid oid, uint32_t flags)
{
	struct request r;

	r.mut[0] = (struct pst_mut){.kind = PST_OBJ_DELETE, .oid = oid};
	return one_mut(&r, cont, flags);
}

static int batch_fill(struct request *r, const struct pst_cont *cont, struct pst_mut *muts,
                      unsigned count, uint32_t flags)
{
	if (flags_check(flags, PST_F_VOLATILE) || count == 0)
		return -EINVAL;
	if (count > PST_BATCH_MAX)
		return -E2BIG;
	request_into(r, cont);
	r->op.flags = flags;
	r->op.muts = muts;
	r->op.mut_count = count;
	return 0;
}

int pst_batch(struct pst_cont *cont, struct pst_mut *muts, unsigned count, uint32_t flags,
              uint32_t *ret_index)
{
	struct request r;
	int rc;

	request_init(&r, cont->client, PST_OP_BATCH);
	r.op.ret_index = UINT32_MAX;
	rc = batch_fill(&r, cont, muts, count, flags);
	if (rc < 0)
		return rc;
	rc = request_wait(&r);
	if (rc < 0 && ret_index && r.op.ret_index != UINT32_MAX)
		*ret_index = r.op.ret_index;
	return rc;
}

int pst_batch_async(struct pst_cont *cont, struct pst_mut *muts, unsigned count, uint32_t flags,
                    struct pst_cq *cq, void *user_data)
{
	struct request *r;
	int rc = request_get(&r, cont->client, cq, user_data, PST_OP_BATCH);

	return rc < 0 ? rc : request_go(r, batch_fill(r, cont, muts, count, flags));
}

/* --- looking --- */

int pst_obj_stat(struct pst_cont *cont, struct pst_oid oid, struct pst_obj_stat *ret_stat)
{
	struct pst_obj_stat stat = {0};
	struct request r;
	int rc;

	request_init(&r, cont->client, PST_OP_STAT);
	io_fill(&r, cont, oid, 0);
	r.op.stat = &stat;
	rc = request_wait(&r);
	if (rc == 0)
		*ret_stat = stat;
	return rc;
}

struct obj_list {
	bool (*fn)(void *arg, struct pst_oid oid);
	void *arg;
};

static bool obj_list_one(void *arg, const struct list_entry_out *e)
{
	struct obj_list *l = arg;

	return l->fn(l->arg, e->oid);
}

int pst_obj_list(struct pst_cont *cont, bool (*fn)(void *arg, struct pst_oid oid), void *arg)
{
	struct obj_list l = {.fn = fn, .arg = arg};
	struct request r;

	request_init(&r, cont->client, PST_OP_OBJ_LIST);
	request_into(&r, cont);
	return list_run(&r, NULL, 0, obj_list_one, &l);
}
