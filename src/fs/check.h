/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check - is the tree of a container of layout posix whole? Works on the store below the names
 * layer, through its ops alone, while nobody else changes the container.
 *
 * It costs about 40 bytes of memory for each inode, and nothing for names.
 */
#ifndef FS_CHECK_H
#define FS_CHECK_H

#include "fs/fs.h"

struct fs_check_opts {
	bool repair;
	/* Changes a snapshot, which the store's ops don't. NULL: snapshots are not repaired. */
	int (*change)(void *arg, uint32_t cont, uint64_t view, const struct pst_mut *m,
	              uint32_t count);
	/* Called for each finding. */
	void (*finding)(void *arg, const char *text, bool repaired);
	void *arg;
};
struct fs_check_report {
	uint64_t findings, repaired;
	uint64_t inodes, directories, entries, orphans;
	uint64_t others; /* objects that are no inodes, and none of the layer's business */
};

/*
 * Checks container @cont of @below, as it is in @view (0: live). What is wrong and what repair does
 * about it:
 *   an entry that leads to no inode, whose value or name makes no sense, or the second one of a
 *      directory: it is dropped;
 *   an entry whose type is not its inode's: corrected;
 *   a link count or a directory's parent that is not what the entries say: corrected;
 *   an inode that no entry leads to and that is not on the orphan list, and a directory on a cycle
 *      that is cut off: it gets a name in /lost+found (#INO);
 *   an orphan that is gone, or has a name: it is taken off the list;
 *   an inode whose label makes no sense, or is lost: it gets a new one, for its owner alone; what was
 *      a device, FIFO or socket is a socket after that;
 *   no root directory, a counter of inode numbers that would give some out again: made anew;
 * 0 when it could be examined (findings or not). -ENOENT: no such container; -ENOMEM; the errors of
 * the store.
 */
int fs_check(struct store *below, uint32_t cont, uint64_t view, const struct fs_check_opts *opts,
             struct fs_check_report *ret_report, struct pst_err *err);

#endif
