/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gen - random object ops with all the memory that they name, and the check of a store's answer
 * against a model. What comes out depends on the rng and the scope alone.
 */
#ifndef TESTS_MODEL_GEN_H
#define TESTS_MODEL_GEN_H

#include "model_store.h"

#define GEN_MUTS_MAX  8
#define GEN_KEY_BYTES 48

/* What an op may touch. */
struct gen_scope {
	uint32_t cont;
	const struct pst_oid *oids;
	unsigned oid_count;
	uint64_t span_bytes;   /* arrays stay below this, but for a rare far write */
	uint32_t io_max_bytes; /* of one write or read */
	uint32_t value_max;    /* of one value */
	bool volatile_ok;      /* some changes are PST_F_VOLATILE */
	const uint64_t *views; /* snapshots to read from now and then */
	unsigned view_count;
	unsigned read_percent;  /* of all ops */
	unsigned delete_weight; /* 1 is usual; more: a store that is to be emptied */
};

struct gen_op {
	struct pst_op op;
	struct pst_mut muts[GEN_MUTS_MAX];
	struct iovec iov[3];
	struct pst_obj_stat stat;
	char key[GEN_MUTS_MAX][GEN_KEY_BYTES];
	uint8_t label[GEN_MUTS_MAX][PST_LABEL_MAX];
	uint8_t *data; /* of writes and values; reads land here */
	size_t data_len, data_used;
	uint64_t list_hash, list_count; /* of what a list gave */
	uint64_t list_limit;
};

struct gen_op *gen_op_new(struct rng *rng, const struct gen_scope *scope);
void gen_op_free(struct gen_op *g); /* accepts NULL */
bool gen_op_mutates(const struct gen_op *g);
/* Does it take no space: deletions alone? */
bool gen_op_frees_only(const struct gen_op *g);
/* The most that it may add to the allocated bytes. */
uint64_t gen_op_bytes_max(const struct gen_op *g);
/* Before it is submitted again. */
void gen_op_rewind(struct gen_op *g);
/*
 * The op has ended on a store: executes it on @m too and compares status, outputs and data.
 * 0, or -EUCLEAN with a sentence.
 */
int gen_op_check(struct gen_op *g, struct model *m, uint64_t now_ns, struct pst_err *err);
/* Of the answer, for a trace. */
uint64_t gen_op_hash(const struct gen_op *g);
const char *gen_op_text(const struct gen_op *g, char *buf, size_t buf_len);

#endif
