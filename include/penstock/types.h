/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * penstock/types.h - what all other headers share: the limits, the object id, the flags of calls.
 */
#ifndef PENSTOCK_TYPES_H
#define PENSTOCK_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Limits of this version, refused with the errors named. */
#define PST_NAME_MAX     255 /* bytes of a container, snapshot or file name: -ENAMETOOLONG */
#define PST_KEY_MAX      320 /* bytes of a key: -ENAMETOOLONG */
#define PST_VALUE_MAX    (64 * 1024)  /* bytes of a value: -E2BIG */
#define PST_LABEL_MAX    96           /* bytes of an object's label: -E2BIG */
#define PST_IO_MAX       (4u << 20)   /* bytes of one array read or write: -E2BIG */
#define PST_BATCH_MAX    64           /* entries of one batch: -E2BIG */
#define PST_PATH_MAX     4096         /* bytes of a path: -ENAMETOOLONG */
#define PST_SYMLINKS_MAX 40           /* links followed in one path: -ELOOP */
#define PST_OBJECT_MAX   (1ull << 56) /* largest array size: -EFBIG */

/* Names an object within its container. The caller chooses it; any value but 0,0 is good in a
 * container of layout `object`. The names layer owns those of a container of layout `posix`.
 * 0,0 is no object: what would make one of it is -EINVAL, what reads or removes finds nothing. */
struct pst_oid {
	uint64_t hi, lo;
};

/* Flags of calls; each call says which it takes, others are -EINVAL. */
#define PST_F_VOLATILE (1u << 0) /* complete before it is durable; a later flush makes it so */
#define PST_F_APPEND   (1u << 1) /* write at the end, atomically */
#define PST_F_EXCL     (1u << 2) /* create: -EEXIST if it is there; rename: don't replace */
#define PST_F_NOFOLLOW (1u << 3) /* the last symbolic link of a path is not followed */
#define PST_F_EXCHANGE (1u << 4) /* rename: swap the two */
#define PST_F_NOVERIFY (1u << 5) /* read: don't verify checksums (whoever asked will) */
#define PST_F_REPLACE  (1u << 6) /* setxattr: -ENODATA if absent; link: replace what is there */
#define PST_F_TRUNCATE (1u << 7) /* create: what exists is emptied */

#ifdef __cplusplus
}
#endif
#endif
