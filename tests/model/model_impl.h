/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * model_impl - the model's state, for model.c and model_diff.c. Plain sorted arrays; blocks and
 * key-values are immutable once shared and counted, which is what makes a deep copy cheap.
 */
#ifndef TESTS_MODEL_IMPL_H
#define TESTS_MODEL_IMPL_H

#include "model_store.h"

struct m_data { /* a block */
	unsigned refs;
	uint8_t bytes[MODEL_BLOCK];
};

struct m_block {
	uint64_t index;
	struct m_data *data;
};

#define MODEL_VALUE_INLINE 511 /* bytes; what a store keeps elsewhere than its index is longer */

struct m_kv {
	unsigned refs;
	uint32_t key_len, val_len;
	uint8_t bytes[]; /* key, value */
};

struct m_obj {
	struct pst_oid oid;
	uint64_t size, mtime;
	bool mtime_set; /* by PST_SET_MTIME, not by the clock: comparable between stores */
	uint8_t label_len;
	uint8_t label[PST_LABEL_MAX];
	struct m_block *blocks; /* by index */
	size_t block_count;
	struct m_kv **kvs; /* by key */
	size_t kv_count;
};

struct m_view {
	struct m_obj **objs; /* by oid */
	size_t obj_count;
	uint64_t blocks; /* that arrays and large values take */
};

struct m_snap {
	struct pst_snap_info info;
	struct m_view view;
};

struct m_cont {
	struct pst_cont_info info; /* usage fields unused: computed */
	struct m_view live;
	struct m_snap *snaps;
	size_t snap_count;
};

struct m_replay {
	struct pst_token token; /* the newest of its slot */
	int status;
	uint64_t ret_off, ret_len, ino;
};

struct model {
	struct m_cont *conts; /* by name */
	size_t cont_count;
	struct m_replay *replays;
	size_t replay_count;
	uint32_t next_cont;
	uint64_t next_view;
	uint64_t size_bytes;
	bool adopt_ids, ignore_limits;
};

struct m_cont *m_cont_by_id(const struct model *m, uint32_t id);
struct m_obj *m_obj_find(const struct m_view *v, struct pst_oid oid);
const struct m_data *m_block_find(const struct m_obj *o, uint64_t index);
void m_cont_info(const struct m_cont *c, struct pst_cont_info *ret);
void m_obj_read(const struct m_obj *o, uint64_t off, void *buf, size_t len); /* holes: zero */
int m_oid_cmp(struct pst_oid a, struct pst_oid b);

/* model_obj.c. _pos: where it is or would be in its sorted array; true when it is there. */
void *m_xalloc(size_t len);
void *m_array_insert(void *items, size_t *count, size_t at, size_t item_len);
void m_array_remove(void *items, size_t *count, size_t at, size_t item_len);
void *m_array_dup(const void *items, size_t count, size_t item_len);
int m_bytes_cmp(const void *a, size_t a_len, const void *b, size_t b_len);
bool m_block_pos(const struct m_obj *o, uint64_t index, size_t *ret_at);
void m_array_write(struct m_obj *o, uint64_t off, const uint8_t *from, size_t len);
void m_array_punch(struct m_obj *o, uint64_t off, uint64_t len);
void m_array_resize(struct m_obj *o, uint64_t size);
bool m_kv_pos(const struct m_obj *o, const void *key, size_t key_len, size_t *ret_at);
const struct m_kv *m_kv_find(const struct m_obj *o, const void *key, size_t key_len);
void m_kv_put(struct m_obj *o, const struct pst_mut *mut);
void m_kv_del(struct m_obj *o, const void *key, size_t key_len);
bool m_obj_pos(const struct m_view *v, struct pst_oid oid, size_t *ret_at);
struct m_obj *m_obj_clone(const struct m_obj *o);
void m_obj_free(struct m_obj *o);
void m_view_clone(struct m_view *ret, const struct m_view *v);
void m_view_free(struct m_view *v);

/* model.c, model_batch.c */
int m_key_check(const void *key, uint32_t key_len);
uint64_t m_iov_bytes(const struct iovec *iov, uint32_t count);
int m_change(struct model *m, struct pst_op *op, uint64_t now);
uint64_t m_used(const struct model *m);

#endif
