/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * walk - through a tree on the store, depth first, while the pump keeps other calls going.
 *
 * A directory is open as long as something holds it: its listing, the directories in it, and what
 * the caller holds for calls under way. When the last lets go, leave() is called, once, after
 * everything below it.
 */
#ifndef CLI_WALK_H
#define CLI_WALK_H

#include "cli/pump.h"

struct walk;

struct walk_dir {
	struct walk *walk;
	struct walk_dir *parent; /* NULL: the root of the walk */
	uint64_t ino;
	char *path; /* from the root of the walk: "" for itself */
	const char *name;
	struct pst_attr attr;
	uint64_t held;
	int status; /* of its listing */
	void *user;
	struct pump_task task; /* the caller's, for leave() */
	struct list link;
};

struct walk {
	struct pump *pump;
	struct pst_cont *cont;
	void *user;
	/* A directory was found: false: don't go in (leave() is not called). NULL: go in. */
	bool (*enter)(struct walk_dir *d);
	/* Something else was found, with attributes. */
	void (*entry)(struct walk_dir *d, const struct pst_dirent *e);
	/* All below is done; must lead to walk_dir_end(). NULL: nothing to do. */
	void (*leave)(struct walk_dir *d);
	/* The walk waits while this is true (too much is under way). NULL: never. */
	bool (*full)(struct walk *w);
	struct list stack; /* directories to be listed */
	bool stop;
};

/* Walks from the directory @attr; returns when all was left: 0 or -ENOMEM. */
int walk_run(struct walk *w, const struct pst_attr *attr);
void walk_hold(struct walk_dir *d);
void walk_let_go(struct walk_dir *d);
void walk_dir_end(struct walk_dir *d);

#endif
