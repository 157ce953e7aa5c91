/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * penstock/object.h - objects: arrays of bytes, and atomic batches.
 *
 * An object has a 128-bit id, an array (sparse, up to PST_OBJECT_MAX bytes), ordered key-value
 * pairs (penstock/kv.h), a short label, and a modification time. It comes into being when it is
 * first changed. Every change is atomic, and durable on completion unless PST_F_VOLATILE was given.
 *
 * Blocking calls may come from any thread of a threaded client; they return what the event of the
 * asynchronous form has in status. Common errors: -EIO (the device failed, or a checksum did not
 * match: never wrong data), -ENOSPC, -EDQUOT, -EROFS (a snapshot, or a client opened read-only),
 * -ENOENT (the container or snapshot is gone), -ETIMEDOUT (opts.op_timeout_ns), -EOWNERDEAD.
 */
#ifndef PENSTOCK_OBJECT_H
#define PENSTOCK_OBJECT_H

#include <stdbool.h>
#include <sys/uio.h>

#include "penstock/types.h"

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

struct pst_cont;
struct pst_cq;

struct pst_obj_stat {
	bool exists;
	uint8_t label_len;
	uint64_t size_bytes;
	uint64_t alloc_bytes; /* device space that its array takes in this view */
	uint64_t mtime_ns;    /* last change of the array, or what PST_SET_MTIME said */
	uint8_t label[PST_LABEL_MAX];
};

/* --- arrays --- */

/*
 * pst_obj_read - read up to @len bytes at @off.
 *
 * Holes read as zeroes; the end of the array cuts the read short (*ret_len, may be NULL), and an
 * object that does not exist has size 0. @flags: PST_F_NOVERIFY. -E2BIG: @len > PST_IO_MAX.
 */
int pst_obj_read(struct pst_cont *cont, struct pst_oid oid, void *buf, size_t len, uint64_t off,
                 uint32_t flags, size_t *ret_len);
/* pst_obj_read_async - the same; event.len is what was read. */
int pst_obj_read_async(struct pst_cont *cont, struct pst_oid oid, void *buf, size_t len,
                       uint64_t off, uint32_t flags, struct pst_cq *cq, void *user_data);
/* pst_obj_readv_async - the same into several pieces of memory; -EINVAL: more than 1024. */
int pst_obj_readv_async(struct pst_cont *cont, struct pst_oid oid, const struct iovec *iov,
                        unsigned iov_count, uint64_t off, uint32_t flags, struct pst_cq *cq,
                        void *user_data);

/*
 * pst_obj_write - write @len bytes at @off, all or nothing. The array grows as needed.
 *
 * @flags: PST_F_VOLATILE. -E2BIG: @len > PST_IO_MAX. -EFBIG: past PST_OBJECT_MAX.
 */
int pst_obj_write(struct pst_cont *cont, struct pst_oid oid, const void *buf, size_t len,
                  uint64_t off, uint32_t flags);
/* pst_obj_write_async - the same. */
int pst_obj_write_async(struct pst_cont *cont, struct pst_oid oid, const void *buf, size_t len,
                        uint64_t off, uint32_t flags, struct pst_cq *cq, void *user_data);
/* pst_obj_writev_async - the same from several pieces of memory; -EINVAL: more than 1024. */
int pst_obj_writev_async(struct pst_cont *cont, struct pst_oid oid, const struct iovec *iov,
                         unsigned iov_count, uint64_t off, uint32_t flags, struct pst_cq *cq,
                         void *user_data);

/*
 * pst_obj_append - write @len bytes at the end of the array, whatever others append at the same
 * time. *ret_off (may be NULL) says where. @flags: PST_F_VOLATILE.
 */
int pst_obj_append(struct pst_cont *cont, struct pst_oid oid, const void *buf, size_t len,
                   uint32_t flags, uint64_t *ret_off);

/* pst_obj_punch - make @len bytes at @off a hole; the size stays. @flags: PST_F_VOLATILE. */
int pst_obj_punch(struct pst_cont *cont, struct pst_oid oid, uint64_t off, uint64_t len,
                  uint32_t flags);

/* pst_obj_resize - the array becomes @size_bytes long; growth reads as zeroes. */
int pst_obj_resize(struct pst_cont *cont, struct pst_oid oid, uint64_t size_bytes, uint32_t flags);

/* pst_obj_delete - the object with its array, keys and label is gone; not an error if it was not
 * there. */
int pst_obj_delete(struct pst_cont *cont, struct pst_oid oid, uint32_t flags);

/* pst_obj_stat - size, space, time and label; ret_stat->exists is false when there is none. */
int pst_obj_stat(struct pst_cont *cont, struct pst_oid oid, struct pst_obj_stat *ret_stat);

/*
 * pst_obj_list - call @fn for each object of the container in the order of ids, on the calling
 * thread. @fn may call the library; a false return ends the list.
 */
int pst_obj_list(struct pst_cont *cont, bool (*fn)(void *arg, struct pst_oid oid), void *arg);

/* --- batches: conditions, then changes; all or nothing --- */

enum pst_mut_kind {
	/* Conditions: when one does not hold the batch ends with its mut.err, nothing is changed,
	 * and the event's index (or *ret_index) says which. */
	PST_IF_KEY_ABSENT = 1,
	PST_IF_KEY_PRESENT = 2,
	PST_IF_KEY_EQ = 3,   /* value equals val */
	PST_IF_NO_KEYS = 4,  /* no key begins with key */
	PST_IF_LABEL_EQ = 5, /* label equals val; an absent object has an empty label */
	PST_IF_OBJ_ABSENT = 6,
	PST_IF_OBJ_PRESENT = 7,
	PST_IF_SIZE_EQ = 8, /* array size equals off */
	/* Changes: objects come into being when first changed. */
	PST_KV_PUT = 32,
	PST_KV_DEL = 33,       /* absent: no error */
	PST_ARRAY_WRITE = 34,  /* off, iov or val */
	PST_ARRAY_APPEND = 35, /* at the size; the offset comes back in mut.off */
	PST_ARRAY_PUNCH = 36,  /* off, len: reads zero; the size stays */
	PST_ARRAY_RESIZE = 37, /* size becomes off; growth reads zero */
	PST_SET_LABEL = 38,    /* label becomes val */
	PST_SET_MTIME = 39,    /* mtime becomes off (ns since the epoch) */
	PST_OBJ_DELETE = 40,   /* array, keys and label: all of it */
};

/* One entry of a batch. What its kind does not name is ignored. */
struct pst_mut {
	uint8_t kind; /* enum pst_mut_kind */
	int err; /* conditions: the negative errno value of the batch when it does not hold; never 0 */
	struct pst_oid oid;
	const void *key;
	uint32_t key_len;
	const void *val; /* value, label, or the data of an array write when iov is NULL */
	uint32_t val_len;
	uint64_t off, len; /* len: of an array write too */
	const struct iovec *iov;
	uint32_t iov_count;
};

/*
 * pst_batch - check all conditions and make all changes, or none, as one atomic step.
 *
 * @muts: @count entries, 1 to PST_BATCH_MAX (-E2BIG), read and (appends) written by the call.
 * @flags: PST_F_VOLATILE.
 * @ret_index: may be NULL; set when a condition did not hold.
 *
 * The err of the condition that did not hold; -EINVAL: a bad entry; the common errors.
 */
int pst_batch(struct pst_cont *cont, struct pst_mut *muts, unsigned count, uint32_t flags,
              uint32_t *ret_index);
/* pst_batch_async - the same; @muts stay the library's until the event. */
int pst_batch_async(struct pst_cont *cont, struct pst_mut *muts, unsigned count, uint32_t flags,
                    struct pst_cq *cq, void *user_data);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
