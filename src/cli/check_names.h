/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_names - the namespace's part of fsck: every name against the inode that it names, and every
 * inode against the names that it has. The engine's part has found the objects themselves good.
 */
#ifndef CLI_CHECK_NAMES_H
#define CLI_CHECK_NAMES_H

#include "cli/cli.h"

struct check_names {
	bool repair;
	void (*finding)(void *arg, const char *text, bool repaired);
	void *arg;
	/* Out: */
	uint64_t findings, repaired, inodes, names, orphans;
};

/*
 * Checks all containers of layout posix with their snapshots (which are only looked at). 0, or a
 * negative errno value when something could not be read: @ret_where says what.
 */
int check_names(struct pst_client *client, struct check_names *c, const char **ret_where);

#endif
