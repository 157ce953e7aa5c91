/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * path - how calls name a file: a directory's inode and a path from there.
 */
#ifndef CLIENT_PATH_H
#define CLIENT_PATH_H

#include "client/client.h"

/* The op of @r is about @path from @dir in @cont; without a path, about the inode @dir itself. */
static inline int path_fill(struct request *r, const struct pst_cont *cont, uint64_t dir,
                            const char *path, uint32_t flags)
{
	size_t len = path ? strlen(path) : 0;

	if (len > PST_PATH_MAX)
		return -ENAMETOOLONG;
	request_into(r, cont);
	r->op.flags = flags;
	r->op.ino = len ? 0 : dir ? dir : PST_INO_ROOT;
	r->op.dir = len ? dir : 0;
	r->op.name = path;
	r->op.name_len = (uint32_t)len;
	return 0;
}

/* The same for ops that make or remove a directory entry, which an inode alone does not name. */
static inline int path_fill_entry(struct request *r, const struct pst_cont *cont, uint64_t dir,
                                  const char *path, uint32_t flags)
{
	if (!path || !path[0])
		return -ENOENT;
	return path_fill(r, cont, dir, path, flags);
}

/* The second name of link and rename. */
static inline int path_fill_second(struct request *r, uint64_t dir2, const char *path2)
{
	size_t len = path2 ? strlen(path2) : 0;

	if (len == 0)
		return -ENOENT;
	if (len > PST_PATH_MAX)
		return -ENAMETOOLONG;
	r->op.dir2 = dir2;
	r->op.name2 = path2;
	r->op.name2_len = (uint32_t)len;
	return 0;
}

#endif
