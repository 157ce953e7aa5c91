/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostfile - files of the host: attributes, extended attributes, whole reads, changes under the
 * reader's hands.
 */
#ifndef CLI_HOSTFILE_H
#define CLI_HOSTFILE_H

#include <sys/stat.h>

#include "base/base.h"
#include "penstock/file.h"

#define HOST_ATTRS (PST_ATTR_MODE | PST_ATTR_UID | PST_ATTR_GID | PST_ATTR_ATIME | PST_ATTR_MTIME)

void host_attr(const struct stat *st, struct pst_attr *ret_attr);
struct timespec host_time(int64_t ns);

/* Extended attributes, packed: count, then name NUL value for each. */
struct host_xattr {
	const char *name;
	const void *val;
	uint32_t val_len;
};
struct host_xattrs {
	unsigned count;
	struct host_xattr *item;
	char *storage;
};
/* Of @fd, or of @path (not followed) when fd < 0. None, and file systems without them: count 0. */
int host_xattrs_read(int fd, const char *path, struct host_xattrs *ret_xattrs);
void host_xattrs_done(struct host_xattrs *x);

/*
 * The first look at an open file before it is read: one that was changed a moment ago is looked at
 * when the kernel's clock has moved on, so that a change from then on has another time. 0, -EAGAIN
 * when it changed again meanwhile, or another negative errno value.
 */
int host_stat_before(int fd, struct stat *ret_st);
/* Which file it is, by whatever name. */
struct host_file {
	dev_t dev;
	ino_t ino;
};
/* The host's path of a device string such as "uring:PATH?..." or "fault:PATH?...", to be freed;
 * NULL: it has none. */
char *host_device_path(const char *spec);
/* Did the file change between two looks? */
bool host_changed(const struct stat *before, const struct stat *after);
/* Exactly @len bytes at @off: 0, -errno, or -ESTALE when the file is shorter now. */
int host_pread(int fd, void *buf, size_t len, uint64_t off);
int host_pwrite(int fd, const void *buf, size_t len, uint64_t off);
/* The first stretch of data that ends after @off, within @size: false when there is none. File
 * systems that don't know report one of everything. */
bool host_next_data(int fd, uint64_t off, uint64_t size, uint64_t *ret_off, uint64_t *ret_len);

/* --- giving attributes and names --- */

/*
 * Mode, times, extended attributes and, with @owner, user and group. Owner first, since it takes
 * set-id bits away; times last. @fd may be -1: by path, not followed. 0, or a negative errno value
 * with *ret_what in words.
 */
int host_set_attrs(const char *path, int fd, const struct pst_attr *a, const struct host_xattrs *x,
                   bool owner, const char **ret_what);
char *host_dir_of(const char *path); /* to be freed with free(); NULL: no memory */
/* A name that nobody has beside @path, in the same directory and so on the same file system; another
 * one each time. To be freed with mem_free(); NULL: no memory. */
char *host_beside(const char *path);
/* @path becomes a further name of the file @from, in the place of what has it. */
int host_link_over(const char *from, const char *path);

#endif
