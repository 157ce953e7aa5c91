/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * penstock/kv.h - the ordered key-value pairs of an object.
 *
 * Keys are 1 to PST_KEY_MAX bytes (-EINVAL, -ENAMETOOLONG), values up to PST_VALUE_MAX (-E2BIG);
 * both are any bytes, and keys are ordered bytewise. Several changes in one atomic step:
 * pst_batch(). Threads, durability and common errors are those of penstock/object.h.
 */
#ifndef PENSTOCK_KV_H
#define PENSTOCK_KV_H

#include <stdbool.h>

#include "penstock/types.h"

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

struct pst_cont;
struct pst_cq;

/*
 * pst_kv_get - the value of @key into @val, which has room for @val_cap bytes.
 *
 * *ret_len (may be NULL) is its length. -ENOENT: no such key. -ERANGE: the value is longer than
 * @val_cap; nothing is written (PST_VALUE_MAX is always enough).
 */
int pst_kv_get(struct pst_cont *cont, struct pst_oid oid, const void *key, uint32_t key_len,
               void *val, uint32_t val_cap, uint32_t *ret_len);
/* pst_kv_get_async - the same; event.len is the length. */
int pst_kv_get_async(struct pst_cont *cont, struct pst_oid oid, const void *key, uint32_t key_len,
                     void *val, uint32_t val_cap, struct pst_cq *cq, void *user_data);

/*
 * pst_kv_put - set @key to a value.
 *
 * @flags: PST_F_EXCL: -EEXIST if the key is there; PST_F_REPLACE: -ENOENT if it is not;
 *       PST_F_VOLATILE.
 */
int pst_kv_put(struct pst_cont *cont, struct pst_oid oid, const void *key, uint32_t key_len,
               const void *val, uint32_t val_len, uint32_t flags);
/* pst_kv_put_async - the same. */
int pst_kv_put_async(struct pst_cont *cont, struct pst_oid oid, const void *key, uint32_t key_len,
                     const void *val, uint32_t val_len, uint32_t flags, struct pst_cq *cq,
                     void *user_data);

/*
 * pst_kv_del - remove @key. @flags: PST_F_REPLACE: -ENOENT if it is not there (else that is no
 * error); PST_F_VOLATILE.
 */
int pst_kv_del(struct pst_cont *cont, struct pst_oid oid, const void *key, uint32_t key_len,
               uint32_t flags);
/* pst_kv_del_async - the same. */
int pst_kv_del_async(struct pst_cont *cont, struct pst_oid oid, const void *key, uint32_t key_len,
                     uint32_t flags, struct pst_cq *cq, void *user_data);

/* One pair of a list; valid during the call-back. */
struct pst_kv {
	const void *key;
	uint32_t key_len;
	const void *val; /* NULL when values were not asked for */
	uint32_t val_len;
};

/*
 * pst_kv_list - call @fn for the pairs whose key begins with @prefix (NULL, 0: all) and comes after
 * @start (NULL: from the first), in order, on the calling thread.
 *
 * @want_values: false: only keys are read.
 * @fn: may call the library; a false return ends the list.
 *
 * Each page of some hundred pairs is consistent; changes made meanwhile by others may or may not be
 * seen.
 */
int pst_kv_list(struct pst_cont *cont, struct pst_oid oid, const void *prefix, uint32_t prefix_len,
                const void *start, uint32_t start_len, bool want_values,
                bool (*fn)(void *arg, const struct pst_kv *kv), void *arg);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
