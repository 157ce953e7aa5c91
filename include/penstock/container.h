/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * penstock/container.h - containers and their snapshots.
 *
 * A container is a set of objects with a name, a quota and properties: one file tree (layout posix)
 * or a flat space of objects (layout object). A snapshot is a read-only view of a container as it
 * was, made in constant time. All calls here block; they may come from any thread of a threaded
 * client. All may fail with -EOWNERDEAD in a forked child, and with -EIO when the store stopped.
 */
#ifndef PENSTOCK_CONTAINER_H
#define PENSTOCK_CONTAINER_H

#include <stdbool.h>

#include "penstock/types.h"

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

struct pst_client;
struct pst_cont;
struct pst_cq;

#define PST_PROP_CHECKSUM_OFF (1u << 0) /* data blocks carry no CRC32C */

#define PST_LAYOUT_POSIX  0 /* a tree of files */
#define PST_LAYOUT_OBJECT 1 /* objects named by their ids */

struct pst_cont_info {
	char name[PST_NAME_MAX + 1];
	uint32_t id;
	uint32_t home_shard;
	uint32_t props; /* PST_PROP_* */
	uint8_t layout; /* PST_LAYOUT_* */
	uint8_t uuid[16];
	uint64_t ctime_ns;                   /* when it was made, since the epoch */
	uint64_t quota_bytes, quota_objects; /* 0: none */
	uint64_t used_bytes, used_objects;   /* of the live view: allocated bytes */
	uint64_t logical_bytes;              /* sum of array sizes */
	uint64_t snapshots;
};

/* What pst_cont_set() changes. */
#define PST_SET_QUOTA_BYTES   (1u << 0)
#define PST_SET_QUOTA_OBJECTS (1u << 1)
#define PST_SET_PROPS         (1u << 2)

struct pst_snap_info {
	char name[PST_NAME_MAX + 1];
	uint64_t view; /* the library's number for it */
	uint64_t ctime_ns;
	uint64_t used_bytes, used_objects; /* as the live view had them then */
};

/*
 * pst_cont_create - make a container.
 *
 * @info: NULL, or in: props, layout, quota_bytes, quota_objects (the rest is ignored); out: all of
 *       it.
 *
 * Durable when it returns. -EEXIST; -EINVAL: an empty name, or one with '/', ':', '@' or a control
 * character, or unknown properties; -ENAMETOOLONG; -ENOSPC; -EROFS.
 */
int pst_cont_create(struct pst_client *client, const char *name, struct pst_cont_info *info);

/*
 * pst_cont_get - the properties and usage of the container @name. -ENOENT.
 */
int pst_cont_get(struct pst_client *client, const char *name, struct pst_cont_info *ret_info);

/*
 * pst_cont_set - change what @what (PST_SET_*) names to the values in @info. Durable when it
 * returns. -ENOENT, -EINVAL, -EROFS.
 */
int pst_cont_set(struct pst_client *client, const char *name, uint32_t what,
                 const struct pst_cont_info *info);

/*
 * pst_cont_destroy - remove the container and all that is in it. Space comes back in the
 * background. Handles that are still open get -ENOENT from then on. -ENOENT; -EBUSY: it has
 * snapshots; -EROFS.
 */
int pst_cont_destroy(struct pst_client *client, const char *name);

/*
 * pst_cont_list - call @fn for each container, in the order of names, on the calling thread.
 *
 * @fn: its argument is valid during the call; it may call the library; a false return ends the
 * list.
 */
int pst_cont_list(struct pst_client *client,
                  bool (*fn)(void *arg, const struct pst_cont_info *info), void *arg);

/*
 * pst_cont_open - a handle for working in a container.
 *
 * @name: "NAME", or "NAME@SNAPSHOT" for a snapshot (changes are then refused with -EROFS).
 *
 * *ret_cont is the caller's until pst_cont_close(). -ENOENT, -EINVAL, -ENOMEM.
 */
int pst_cont_open(struct pst_client *client, const char *name, struct pst_cont **ret_cont);

/*
 * pst_cont_close - end a handle; its files must be closed. Accepts NULL. -EBUSY: they are not.
 */
int pst_cont_close(struct pst_cont *cont);

/*
 * pst_cont_flush - make everything durable that was completed in it with PST_F_VOLATILE before.
 */
int pst_cont_flush(struct pst_cont *cont);
/* pst_cont_flush_async - the same; see penstock/cq.h. */
int pst_cont_flush_async(struct pst_cont *cont, struct pst_cq *cq, void *user_data);

/*
 * pst_cont_watch - wait until something in a served store's container was changed.
 *
 * @object: only this one, in a container of objects; NULL: anything.
 * @timeout_ns: how long to wait; 0: for ever.
 * @seen: in: the number of the change that was heard of last, 0: of none, which is answered at once;
 *   out: that of the last change.
 *
 * Ask for the number first, then read, then watch with it: no change that came after the number is
 * missed, by whichever client it was made. A number is of what it was asked for: it says nothing of
 * another container or object. Several may be heard of as one, and 0 may be returned
 * though nothing was changed (after a restart of the server, for one). A change is told of when it is
 * durable, or, if it was made with PST_F_VOLATILE, when it is complete.
 *
 * Blocks; other threads go on. -ETIMEDOUT; -EINVAL: a snapshot; -ENOTSUP: the store is in this
 * process; -ENOENT: the container is not there any more; -EACCES: it takes the right to read or to
 * list, in all of the container; -EKEYEXPIRED: that has ended; -EMFILE: 64 are waited for already.
 */
int pst_cont_watch(struct pst_cont *cont, const struct pst_oid *object, uint64_t timeout_ns,
                   uint64_t *seen);

/*
 * pst_cont_client - the client that @cont was opened with. Never fails.
 */
struct pst_client *pst_cont_client(const struct pst_cont *cont);

/*
 * pst_snap_create - snapshot the container @name as it is now, in constant time, and call it @snap.
 *
 * @ret_info: may be NULL. Durable when it returns, with everything completed before (volatile
 * writes too). -ENOENT; -EEXIST; -EINVAL, -ENAMETOOLONG: as for the name of a container; -ENOSPC.
 */
int pst_snap_create(struct pst_client *client, const char *name, const char *snap,
                    struct pst_snap_info *ret_info);

/*
 * pst_snap_list - call @fn for each snapshot of @name, in the order of names, as pst_cont_list()
 * does. -ENOENT.
 */
int pst_snap_list(struct pst_client *client, const char *name,
                  bool (*fn)(void *arg, const struct pst_snap_info *info), void *arg);

/*
 * pst_snap_destroy - remove a snapshot; space that only it held comes back in the background.
 * -ENOENT.
 */
int pst_snap_destroy(struct pst_client *client, const char *name, const char *snap);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
