/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * model_store - the reference: what the ops of store/store.h mean, in the plainest code there is.
 * It is a store in memory for the tests of layers (the fs room's fake neighbour), the first
 * subject of the store contract suite, and the oracle of the simulation.
 *
 * Two things are here. A *model* is the state alone: model_apply() executes an op on it, at once.
 * A *model store* is a struct store around a model.
 *
 * What it settles where store.h leaves room:
 *  - An object that does not exist reads as an empty one: STAT says exists = false, READ gives 0
 *    bytes, KV_GET -ENOENT, KV_LIST nothing. Changes make it, but for KV_DEL, ARRAY_PUNCH and
 *    OBJ_DELETE of what is not there. It goes by OBJ_DELETE only.
 *  - A container that does not exist, or a view that is not one of the container's: -ENOENT. A
 *    change with a view: -EROFS.
 *  - All conditions of a batch are looked at before its first change, in order.
 *  - Blocks of 4096 bytes are allocated when a byte of them is written, and go when a punch covers
 *    them wholly or a resize leaves them wholly beyond the size. Quotas count those of the live
 *    view, and those that values beyond 511 bytes fill; a batch that takes more than before and ends above the quota is -EDQUOT.
 *  - Containers and snapshots are named by name / name2, or, where name_len is 0, by op->cont.
 *    CONT_SET takes the PST_SET_* bits in attr_mask. CONT_DESTROY with snapshots left: -EBUSY.
 *  - OBJ_LIST entries carry the struct pst_oid as name too; start is a struct pst_oid. Lists are
 *    ordered: objects by (hi, lo), the others by name as memcmp has it.
 *  - KV_GET into too few bytes: -ERANGE. Names with a NUL or without bytes: -EINVAL.
 *  - EXTENTS: ret_off and ret_len are the first run of allocated blocks that ends after off, cut
 *    to [off, off + len); -ENXIO when there is none.
 *  - Replay: successes are recorded, failures changed nothing and may be executed again. A token's
 *    slot is known by (session, slot) alone.
 *  - mtime is set by array changes (write, append, punch, resize) and PST_SET_MTIME.
 */
#ifndef TESTS_MODEL_STORE_H
#define TESTS_MODEL_STORE_H

#include "store/store.h"

#define MODEL_BLOCK 4096u

struct model;

struct model *model_new(uint64_t size_bytes); /* size_bytes: -ENOSPC above it; 0: no limit */
void model_free(struct model *m);             /* accepts NULL */
struct model *model_clone(const struct model *m);
/*
 * Executes @op: status and outputs are set. done() is not called.
 *
 * With model_adopt_ids(), a container or snapshot is created under the id that the op's cont_info
 * or snap_info already holds (what the real store answered), so that later ops need no translation.
 */
void model_apply(struct model *m, struct pst_op *op, uint64_t now_ns);
void model_adopt_ids(struct model *m);
/* Quotas and size are known, but nothing is refused for them: for an oracle that can't tell in
 * which order ops of several clients took the last of it. */
void model_ignore_limits(struct model *m);
/* Puts a snapshot into container @cont whose content is @from's live view of it. */
void model_snap_insert(struct model *m, uint32_t cont, const struct pst_snap_info *info,
                       const struct model *from);
/* Of all views, as if they shared nothing. */
uint64_t model_used_bytes(const struct model *m);
/* What the container uses by now. */
void model_cont_used(const struct model *m, uint32_t cont, uint64_t *ret_bytes,
                     uint64_t *ret_objects);

/*
 * model_diff - is @s in the state @m? Looks through public ops only: containers, quotas, usage,
 * snapshots, objects with their labels, keys and bytes, in every view. Ids may differ, names count.
 * 0, or -EUCLEAN with the first difference in words; an op that failed gives its errno.
 */
int model_diff(const struct model *m, struct store *s, struct pst_err *err);
/* The same for one object: the model's in the live view, the store's in @view. */
int model_diff_object(const struct model *m, struct store *s, uint32_t cont, uint64_t view,
                      struct pst_oid oid, struct pst_err *err);
/* The same where the container's id differs: @model_cont in the model. */
int model_diff_object_as(const struct model *m, uint32_t model_cont, struct store *s, uint32_t cont,
                         uint64_t view, struct pst_oid oid, struct pst_err *err);

/* Usage and allocation are compared too (default); off for stores that count otherwise. */
extern bool model_diff_usage;
/* Containers of the store whose name begins so are nobody's business; NULL: none. */
extern const char *model_diff_ignore;

struct model_store_opts {
	uint64_t size_bytes; /* as model_new */
	bool later;          /* ops complete from a poller, in an order that the seed chooses */
	double busy;         /* probability of PST_BUSY */
	uint64_t seed;
};

/* @opts may be NULL: everything completes inline. store_close() ends it and its model. */
int model_store_new(struct store **ret_store, struct loop *loop,
                    const struct model_store_opts *opts);
/* The store's model, borrowed. */
struct model *model_store_model(struct store *s);

#endif
