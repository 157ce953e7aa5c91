/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ops - one-line ops for tests: each makes the op, submits it (again while the store is busy),
 * turns the loop until it has ended, and returns its status.
 */
#ifndef TESTS_MODEL_OPS_H
#define TESTS_MODEL_OPS_H

#include "store/store.h"

static inline struct pst_oid oid_of(uint64_t lo)
{
	return (struct pst_oid){.hi = 0, .lo = lo};
}

/* An op on a name, which may be NULL. */
static inline struct pst_op names_op(uint8_t opcode, uint32_t cont, const char *name)
{
	return (struct pst_op){.opcode = opcode,
	                       .cont = cont,
	                       .name = name,
	                       .name_len = name ? (uint32_t)strlen(name) : 0};
}

/* Not 0: so many turns of the loop without an answer are an assertion. For simulated time only. */
extern uint64_t ops_turns_max;

int ops_run(struct store *s, struct pst_op *op);

/* Containers and snapshots, by name. @ret_id and @ret_view may be NULL. */
int ops_cont_create(struct store *s, const char *name, uint32_t *ret_id);
int ops_cont_open(struct store *s, const char *name, uint32_t *ret_id);
int ops_cont_get(struct store *s, uint32_t cont, struct pst_cont_info *ret_info);
int ops_cont_quota(struct store *s, uint32_t cont, uint64_t bytes, uint64_t objects);
int ops_cont_destroy(struct store *s, const char *name);
int ops_snap_create(struct store *s, const char *cont, const char *snap, uint64_t *ret_view);
int ops_snap_open(struct store *s, const char *cont, const char *snap, uint64_t *ret_view);
int ops_snap_destroy(struct store *s, const char *cont, const char *snap);

int ops_write(struct store *s, uint32_t cont, struct pst_oid oid, uint64_t off, const void *buf,
              size_t len);
/* @ret_len: bytes read, may be NULL. */
int ops_read(struct store *s, uint32_t cont, uint64_t view, struct pst_oid oid, uint64_t off,
             void *buf, size_t len, uint64_t *ret_len);
int ops_stat(struct store *s, uint32_t cont, uint64_t view, struct pst_oid oid,
             struct pst_obj_stat *ret_stat);
int ops_batch(struct store *s, uint32_t cont, struct pst_mut *muts, uint32_t count);
int ops_kv_put(struct store *s, uint32_t cont, struct pst_oid oid, const char *key, const void *val,
               uint32_t val_len);
int ops_kv_get(struct store *s, uint32_t cont, uint64_t view, struct pst_oid oid, const char *key,
               void *val, uint32_t val_cap, uint64_t *ret_len);
int ops_flush(struct store *s, uint32_t cont);

/* Initializers of batch entries. Keys are C strings here. */
#define MUT_KEY(kind_, oid_, key_, err_)                                                          \
	{                                                                                         \
		.kind = (kind_), .oid = (oid_), .key = (key_), .key_len = (uint32_t)strlen(key_), \
		.err = (err_)                                                                     \
	}
#define MUT_PUT(oid_, key_, val_, val_len_)                                             \
	{                                                                               \
		.kind = PST_KV_PUT, .oid = (oid_), .key = (key_),                       \
		.key_len = (uint32_t)strlen(key_), .val = (val_), .val_len = (val_len_) \
	}
#define MUT_WRITE(oid_, off_, buf_, len_)                                             \
	{                                                                             \
		.kind = PST_ARRAY_WRITE, .oid = (oid_), .off = (off_), .val = (buf_), \
		.val_len = (len_), .len = (len_)                                      \
	}
#define MUT_OFF(kind_, oid_, off_, len_)                                     \
	{                                                                    \
		.kind = (kind_), .oid = (oid_), .off = (off_), .len = (len_) \
	}

#endif
