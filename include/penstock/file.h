/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * penstock/file.h - the file tree of a container of layout posix.
 *
 * Naming. Calls that name something take @dir and @path: @path is resolved from the directory whose
 * inode number is @dir (0: the root), in one step next to the data; "/a" starts at the root always.
 * An empty or NULL path is the inode @dir itself. Symbolic links are followed, the last one too
 * unless PST_F_NOFOLLOW is among the flags (calls that create, remove or rename never follow the
 * last). Common errors of naming: -ENOENT, -ENOTDIR, -ELOOP, -ENAMETOOLONG (PST_NAME_MAX,
 * PST_PATH_MAX), -ESTALE (no such inode).
 *
 * The library checks no permissions: whoever can open the store can do everything in it. Modes and
 * owners are kept for those who ask.
 *
 * Everything is atomic, and durable on completion unless PST_F_VOLATILE is given. Threads and
 * common errors are those of penstock/object.h.
 */
#ifndef PENSTOCK_FILE_H
#define PENSTOCK_FILE_H

#include <stdbool.h>
#include <sys/uio.h>

#include "penstock/types.h"

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

struct pst_cont;
struct pst_cq;
struct pst_file;

/* Inode attributes, POSIX meanings. */
struct pst_attr {
	uint64_t ino;
	uint32_t mode; /* S_IFMT and permission bits */
	uint32_t uid, gid;
	uint32_t nlink;
	uint64_t size_bytes, alloc_bytes;
	uint64_t rdev;
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns; /* since 1970; before it, negative */
};

/* Which of them a call sets. */
#define PST_ATTR_MODE  (1u << 0)
#define PST_ATTR_UID   (1u << 1)
#define PST_ATTR_GID   (1u << 2)
#define PST_ATTR_SIZE  (1u << 3)
#define PST_ATTR_ATIME (1u << 4)
#define PST_ATTR_MTIME (1u << 5)

#define PST_INO_ROOT 1ull

/* --- open files --- */

/*
 * pst_file_open - open a regular file.
 *
 * @flags: as for open(2): O_RDONLY, O_WRONLY or O_RDWR; O_CREAT, O_EXCL, O_TRUNC, O_APPEND,
 *       O_NOFOLLOW. Others: -EINVAL.
 * @mode: permission bits of a file that is created.
 *
 * An open file lives on when it is unlinked, until the last close. *ret_file is the caller's until
 * pst_file_close(). -EEXIST, -EISDIR; -EINVAL: not a regular file; -ENOMEM.
 */
int pst_file_open(struct pst_cont *cont, uint64_t dir, const char *path, int flags, uint32_t mode,
                  struct pst_file **ret_file);

/* pst_file_close - end it; no call on it may be under way. Accepts NULL. What was written with
 * PST_F_VOLATILE is not made durable by it: see pst_file_sync(). */
int pst_file_close(struct pst_file *file);

/* pst_file_ino - its inode number. Never fails. */
uint64_t pst_file_ino(const struct pst_file *file);

/*
 * pst_file_pread - read up to @len bytes at @off; *ret_len (may be NULL) is shorter only at the end
 * of the file. -EBADF: opened O_WRONLY. -E2BIG: @len > PST_IO_MAX.
 */
int pst_file_pread(struct pst_file *file, void *buf, size_t len, uint64_t off, size_t *ret_len);
/* pst_file_pread_async - the same; event.len is what was read. */
int pst_file_pread_async(struct pst_file *file, void *buf, size_t len, uint64_t off,
                         struct pst_cq *cq, void *user_data);
/* pst_file_preadv_async - the same into several pieces of memory; -EINVAL: more than 1024. */
int pst_file_preadv_async(struct pst_file *file, const struct iovec *iov, unsigned iov_count,
                          uint64_t off, struct pst_cq *cq, void *user_data);

/*
 * pst_file_pwrite - write @len bytes at @off, all or nothing; at the end with O_APPEND.
 *
 * @flags: PST_F_VOLATILE, PST_F_APPEND. -EBADF: opened O_RDONLY. -E2BIG: @len > PST_IO_MAX.
 */
int pst_file_pwrite(struct pst_file *file, const void *buf, size_t len, uint64_t off,
                    uint32_t flags);
/* pst_file_pwrite_async - the same; event.off is where the data went. */
int pst_file_pwrite_async(struct pst_file *file, const void *buf, size_t len, uint64_t off,
                          uint32_t flags, struct pst_cq *cq, void *user_data);
/* pst_file_pwritev_async - the same from several pieces of memory; -EINVAL: more than 1024. */
int pst_file_pwritev_async(struct pst_file *file, const struct iovec *iov, unsigned iov_count,
                           uint64_t off, uint32_t flags, struct pst_cq *cq, void *user_data);

/* pst_file_append - write @len bytes at the end, atomically; *ret_off (may be NULL) says where. */
int pst_file_append(struct pst_file *file, const void *buf, size_t len, uint32_t flags,
                    uint64_t *ret_off);

/* pst_file_truncate - the file becomes @size_bytes long; growth is a hole. */
int pst_file_truncate(struct pst_file *file, uint64_t size_bytes);

/* pst_file_sync - what was completed on it with PST_F_VOLATILE is durable when this returns. */
int pst_file_sync(struct pst_file *file);
/* pst_file_sync_async - the same. */
int pst_file_sync_async(struct pst_file *file, struct pst_cq *cq, void *user_data);

/* pst_file_stat - its attributes. */
int pst_file_stat(struct pst_file *file, struct pst_attr *ret_attr);

/* --- the tree --- */

/*
 * pst_fs_stat - attributes of what is named. @flags: PST_F_NOFOLLOW.
 */
int pst_fs_stat(struct pst_cont *cont, uint64_t dir, const char *path, uint32_t flags,
                struct pst_attr *ret_attr);
/* pst_fs_stat_async - the same; *ret_attr is filled before the event; event.off is the inode. */
int pst_fs_stat_async(struct pst_cont *cont, uint64_t dir, const char *path, uint32_t flags,
                      struct pst_attr *ret_attr, struct pst_cq *cq, void *user_data);

/*
 * pst_fs_setattr - set what @mask (PST_ATTR_*) names to the values in @attr. @flags:
 * PST_F_NOFOLLOW, PST_F_VOLATILE. -EISDIR, -EINVAL: the size of what is no regular file.
 */
int pst_fs_setattr(struct pst_cont *cont, uint64_t dir, const char *path,
                   const struct pst_attr *attr, uint32_t mask, uint32_t flags);
/* pst_fs_setattr_async - the same; @attr is copied. */
int pst_fs_setattr_async(struct pst_cont *cont, uint64_t dir, const char *path,
                         const struct pst_attr *attr, uint32_t mask, uint32_t flags,
                         struct pst_cq *cq, void *user_data);

/*
 * pst_fs_create - make a file with its attributes and content in one atomic step: it becomes
 * visible whole or not at all. Also makes FIFOs, devices and sockets (attr->mode).
 *
 * @attr, @mask: as for setattr; without PST_ATTR_MODE a regular file of mode 0644. A size
 *       (PST_ATTR_SIZE) above @len makes the rest a hole.
 * @data, @len: content of a regular file, up to PST_IO_MAX bytes (-E2BIG); NULL, 0: none.
 * @flags: PST_F_EXCL: -EEXIST if it is there; PST_F_TRUNCATE: an existing file gets exactly this
 *       content and size, and keeps its mode, owner and atime, as with open(2); with neither an
 *       existing file is left as it is. PST_F_VOLATILE.
 * @ret_attr: may be NULL.
 *
 * Without a path the file has no name (@dir is ignored): it is held open until pst_fs_release(),
 * and gone then, or after a crash, if pst_fs_link() did not give it a name. This is how a large
 * file is written in pieces and appears whole.
 */
int pst_fs_create(struct pst_cont *cont, uint64_t dir, const char *path,
                  const struct pst_attr *attr, uint32_t mask, const void *data, size_t len,
                  uint32_t flags, struct pst_attr *ret_attr);
/* pst_fs_create_async - the same; @attr is copied; event.off is the inode. */
int pst_fs_create_async(struct pst_cont *cont, uint64_t dir, const char *path,
                        const struct pst_attr *attr, uint32_t mask, const void *data, size_t len,
                        uint32_t flags, struct pst_attr *ret_attr, struct pst_cq *cq,
                        void *user_data);

/* pst_fs_release - stop holding open what pst_fs_create() made without a name. */
int pst_fs_release(struct pst_cont *cont, uint64_t ino);
/* pst_fs_release_async - the same. */
int pst_fs_release_async(struct pst_cont *cont, uint64_t ino, struct pst_cq *cq, void *user_data);

/*
 * pst_fs_mkdir - make a directory. @attr, @mask: mode (0755 without), owner, times; may be NULL, 0.
 * -EEXIST.
 */
int pst_fs_mkdir(struct pst_cont *cont, uint64_t dir, const char *path, const struct pst_attr *attr,
                 uint32_t mask, uint32_t flags, struct pst_attr *ret_attr);
/* pst_fs_mkdir_async - the same; @attr is copied; event.off is the inode. */
int pst_fs_mkdir_async(struct pst_cont *cont, uint64_t dir, const char *path,
                       const struct pst_attr *attr, uint32_t mask, uint32_t flags,
                       struct pst_attr *ret_attr, struct pst_cq *cq, void *user_data);

/*
 * pst_fs_symlink - make a symbolic link that points to @target. -EEXIST; -EINVAL: an empty target.
 */
int pst_fs_symlink(struct pst_cont *cont, uint64_t dir, const char *path, const char *target,
                   const struct pst_attr *attr, uint32_t mask, uint32_t flags,
                   struct pst_attr *ret_attr);
/* pst_fs_symlink_async - the same; @attr is copied; event.off is the inode. */
int pst_fs_symlink_async(struct pst_cont *cont, uint64_t dir, const char *path, const char *target,
                         const struct pst_attr *attr, uint32_t mask, uint32_t flags,
                         struct pst_attr *ret_attr, struct pst_cq *cq, void *user_data);

/*
 * pst_fs_readlink - where a symbolic link points, into @buf (@cap bytes); *ret_len bytes, no NUL.
 * -EINVAL: not a symbolic link. -ERANGE: @cap is too small (PST_PATH_MAX never is).
 */
int pst_fs_readlink(struct pst_cont *cont, uint64_t dir, const char *path, char *buf, uint32_t cap,
                    uint32_t *ret_len);
/* pst_fs_readlink_async - the same; event.len is the length. */
int pst_fs_readlink_async(struct pst_cont *cont, uint64_t dir, const char *path, char *buf,
                          uint32_t cap, struct pst_cq *cq, void *user_data);

/*
 * pst_fs_link - a further name, @dir2 @path2, for the file @dir @path (not followed if it is a
 * symbolic link). @flags: PST_F_REPLACE: takes the place of what has the name, unless that is a
 * directory (-EISDIR); PST_F_VOLATILE. -EEXIST; -EPERM: a directory; -EMLINK.
 */
int pst_fs_link(struct pst_cont *cont, uint64_t dir, const char *path, uint64_t dir2,
                const char *path2, uint32_t flags);
/* pst_fs_link_async - the same. */
int pst_fs_link_async(struct pst_cont *cont, uint64_t dir, const char *path, uint64_t dir2,
                      const char *path2, uint32_t flags, struct pst_cq *cq, void *user_data);

/* pst_fs_unlink - remove a name; the file goes with its last name and close. -EISDIR. */
int pst_fs_unlink(struct pst_cont *cont, uint64_t dir, const char *path, uint32_t flags);
/* pst_fs_unlink_async - the same. */
int pst_fs_unlink_async(struct pst_cont *cont, uint64_t dir, const char *path, uint32_t flags,
                        struct pst_cq *cq, void *user_data);

/* pst_fs_rmdir - remove an empty directory. -ENOTEMPTY, -ENOTDIR, -EBUSY (the root). */
int pst_fs_rmdir(struct pst_cont *cont, uint64_t dir, const char *path, uint32_t flags);
/* pst_fs_rmdir_async - the same. */
int pst_fs_rmdir_async(struct pst_cont *cont, uint64_t dir, const char *path, uint32_t flags,
                       struct pst_cq *cq, void *user_data);

/*
 * pst_fs_rename - move @dir @path to @dir2 @path2, replacing what is there, atomically.
 *
 * @flags: PST_F_EXCL: -EEXIST instead of replacing; PST_F_EXCHANGE: swap the two. -EISDIR,
 * -ENOTDIR, -ENOTEMPTY: as rename(2); -EINVAL: a directory into itself.
 */
int pst_fs_rename(struct pst_cont *cont, uint64_t dir, const char *path, uint64_t dir2,
                  const char *path2, uint32_t flags);
/* pst_fs_rename_async - the same. */
int pst_fs_rename_async(struct pst_cont *cont, uint64_t dir, const char *path, uint64_t dir2,
                        const char *path2, uint32_t flags, struct pst_cq *cq, void *user_data);

/* One directory entry; valid during the call-back. */
struct pst_dirent {
	const char *name; /* with a NUL; never "." or ".." */
	uint32_t name_len;
	uint64_t ino;
	uint8_t type;                /* DT_REG, DT_DIR, ... of <dirent.h> */
	const struct pst_attr *attr; /* NULL when attributes were not asked for */
};

/*
 * pst_fs_list - call @fn for each entry of a directory, on the calling thread.
 *
 * @start: NULL, or the name of an entry: the list goes on after it (it need not be there any more).
 * @want_attrs: attributes too, of the entry itself (links are not followed).
 * @fn: may call the library; a false return ends the list.
 *
 * Entries that are there all the time come exactly once. -ENOTDIR.
 */
int pst_fs_list(struct pst_cont *cont, uint64_t dir, const char *path, const char *start,
                bool want_attrs, bool (*fn)(void *arg, const struct pst_dirent *e), void *arg);

/*
 * pst_fs_read - read from a file that is not opened; as pst_file_pread(). @flags: PST_F_NOVERIFY.
 * With an inode as @dir and no path nothing has to be looked up.
 */
int pst_fs_read(struct pst_cont *cont, uint64_t dir, const char *path, void *buf, size_t len,
                uint64_t off, uint32_t flags, size_t *ret_len);
/* pst_fs_read_async - the same; event.len is what was read. */
int pst_fs_read_async(struct pst_cont *cont, uint64_t dir, const char *path, void *buf, size_t len,
                      uint64_t off, uint32_t flags, struct pst_cq *cq, void *user_data);
/* pst_fs_sync_async - as pst_file_sync(), of a file that is not opened. */
int pst_fs_sync_async(struct pst_cont *cont, uint64_t dir, const char *path, struct pst_cq *cq,
                      void *user_data);
/* pst_fs_write_async - write to a file that is not opened; as pst_file_pwrite_async(). */
int pst_fs_write_async(struct pst_cont *cont, uint64_t dir, const char *path, const void *buf,
                       size_t len, uint64_t off, uint32_t flags, struct pst_cq *cq,
                       void *user_data);

/*
 * pst_fs_next_data - the first stretch of data of a regular file that ends after @off: *ret_off
 * (not below @off) and *ret_len. What lies between stretches is a hole. -ENXIO: no more data.
 */
int pst_fs_next_data(struct pst_cont *cont, uint64_t dir, const char *path, uint64_t off,
                     uint64_t *ret_off, uint64_t *ret_len);
/* pst_fs_next_data_async - the same; event.off and event.len. */
int pst_fs_next_data_async(struct pst_cont *cont, uint64_t dir, const char *path, uint64_t off,
                           struct pst_cq *cq, void *user_data);

/* --- extended attributes: names of 1 to 255 bytes, values up to PST_VALUE_MAX --- */

/*
 * pst_fs_getxattr - the value of @name into @val. *ret_len is its length. -ENODATA: none;
 * -ERANGE: longer than @val_cap. @flags: PST_F_NOFOLLOW.
 */
int pst_fs_getxattr(struct pst_cont *cont, uint64_t dir, const char *path, const char *name,
                    void *val, uint32_t val_cap, uint32_t flags, uint32_t *ret_len);

/*
 * pst_fs_setxattr - set one. @flags: PST_F_EXCL: -EEXIST if there; PST_F_REPLACE: -ENODATA if not;
 * PST_F_NOFOLLOW, PST_F_VOLATILE.
 */
int pst_fs_setxattr(struct pst_cont *cont, uint64_t dir, const char *path, const char *name,
                    const void *val, uint32_t val_len, uint32_t flags);
/* pst_fs_setxattr_async - the same. */
int pst_fs_setxattr_async(struct pst_cont *cont, uint64_t dir, const char *path, const char *name,
                          const void *val, uint32_t val_len, uint32_t flags, struct pst_cq *cq,
                          void *user_data);

/* pst_fs_removexattr - remove one. -ENODATA. */
int pst_fs_removexattr(struct pst_cont *cont, uint64_t dir, const char *path, const char *name,
                       uint32_t flags);

/* pst_fs_listxattr - call @fn for each name (with a NUL), on the calling thread. */
int pst_fs_listxattr(struct pst_cont *cont, uint64_t dir, const char *path, uint32_t flags,
                     bool (*fn)(void *arg, const char *name), void *arg);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
