/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * names_model - the oracle of the name space: files, directories, symbolic links and hard links as
 * POSIX has them, as small arrays in memory. It shares nothing with the fs room but the op.
 *
 * Only what the simulation sends is here: absolute paths that pass through no symbolic link,
 * contents of at most NAMES_DATA_MAX bytes.
 */
#ifndef TESTS_SIM_NAMES_MODEL_H
#define TESTS_SIM_NAMES_MODEL_H

#include "sim_int.h"

#define NAMES_DATA_MAX  65536u
#define NAMES_NAME_MAX  8u
#define NAMES_XATTR_MAX 32u

struct n_entry {
	char name[NAMES_NAME_MAX];
	unsigned id;
};

struct n_node {
	unsigned id;
	uint64_t ino;  /* as the store answered; 0: not known */
	uint32_t mode; /* type and permissions */
	uint32_t nlink;
	unsigned opens;
	uint64_t size;
	uint8_t *data;   /* files: NAMES_DATA_MAX bytes */
	char target[40]; /* symbolic links */
	char xattr[NAMES_XATTR_MAX];
	struct n_entry *ent; /* directories: by name */
	size_t ent_count;
};

struct names_state {
	struct n_node **nodes; /* by id */
	size_t count;
	unsigned next_id;
	struct {
		uint64_t seq; /* newest token that did something */
		uint64_t ino;
		uint64_t off, len;
	} done[SIM_LANES_MAX];
};

struct name_op {
	struct pst_op op;
	struct pst_attr attr_in; /* the answer overwrites op.attr */
	struct iovec iov;
	char path[40], path2[40];
	uint8_t *data;
	unsigned lane;
	bool blind;         /* it may have succeeded and not been able to look at the result */
	uint64_t made;      /* inode that a create made, learned from the answer or the store */
	uint64_t list_hash; /* of what READDIR gave */
};

#define NAMES_ROOT 1u

struct names_state *names_new(void);
struct n_node *names_by_id(const struct names_state *st, unsigned id);
struct n_node *names_by_ino(const struct names_state *st, uint64_t ino);
/* NULL: not there. *ret_dir: the directory that it is or would be in; NULL: that is not there. */
struct n_node *names_walk(const struct names_state *st, const char *path, struct n_node **ret_dir,
                          const char **ret_name);
/* What is open is closed: nodes without a name go. */
void names_crash(struct names_state *st);
/* Executes it; the status that is right, and (READ, READDIR, LOOKUP) what to compare in *@want. */
struct names_answer {
	uint64_t len, off;
	uint64_t list_hash;
	const struct n_node *node; /* whose attributes come back */
	const uint8_t *bytes;
};
int names_execute(struct names_state *st, struct name_op *n, struct names_answer *want);
uint64_t names_list_hash(uint64_t hash, const void *name, size_t len, uint8_t type);

#endif
