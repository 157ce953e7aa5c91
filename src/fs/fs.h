/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs - the POSIX namespace: a layer that turns the names ops (PST_OP_LOOKUP to PST_OP_STATFS) into
 * ops on objects, and passes every other op down as it is. It works on any store that takes objects
 * and batches. It belongs to the loop of the store below.
 *
 * What is kept, and where. An inode number names an object; the object {FS_OID_HI, 0} of a
 * container is the layer's own book-keeping. All of it is little-endian and written by batches
 * only:
 *
 *   OBJECT               WHERE            WHAT
 *   {FS_OID_HI, ino}     label            the inode: struct fs_label, packed (below)
 *                        array            content; of a symbolic link: nothing, its size is the
 *                                         target's length
 *                        mtime            the inode's
 *                        key 'd' NAME     of a directory: an entry (below)
 *                        key 'x' NAME     an extended attribute
 *                        key 's'          of a symbolic link: the target
 *   {FS_OID_HI, 0}       key 'n'          u64: inode counters below it may be in use
 *                        key 'o' INO      an orphan (INO big-endian): an inode without a name that
 *                                         somebody held open; empty value
 *
 * An inode number is counter << 2 | kind, so that data ops see without a look-up whether they may
 * read and write. It is never used again. The root is counter 0 and a directory: 1.
 *
 *   The label                              A directory entry's value
 *   OFFSET SIZE MEANING                    OFFSET SIZE MEANING
 *        0    1 version: 1                      0    8 inode number
 *        1    1 zero                            8    1 type, as d_type of readdir(3)
 *        2    2 mode: type and permissions
 *        4    4 owner
 *        8    4 group
 *       12    4 links
 *       16    8 atime, ns since the epoch
 *       24    8 ctime
 *       32    8 btime
 *       40    8 directory: parent inode; device: rdev; other types: not there, 40 bytes in all
 *
 * The ctime that is reported is the later of the label's and the engine's mtime, so that a write
 * changes no label. atime is what it was set to: reads don't change it.
 *
 * Confinement. An op with op->root resolves as if that directory were the root: absolute paths and the
 * targets of links begin there, ".." ends there, and directories that it names by number must lie
 * below it (-EACCES). A file's number is taken as it is: whoever sets root vouches for it. What is
 * checked is checked when it is resolved; a directory that is moved out at that moment is a race
 * that the mover lost.
 *
 * Opens (FILE_OPEN) are counted in memory and end with the layer; what had no name then is deleted when
 * its container is first used again. Where those who held something open may come back (a server's
 * clients, after its restart) there is a time of grace, in which nothing is deleted that somebody
 * may want to open again by its number: orphans can be opened and linked, and who loses his last
 * name becomes an orphan, as if it were open. What was not opened when it ends is deleted when its
 * container is next used.
 *
 * A container of layout object has no tree: what would change names there is -ENOTSUP.
 *
 * Not here. Permissions are kept, never checked: whoever may send ops may do everything. A directory is
 * gone with rmdir even while it is open.
 */
#ifndef FS_FS_H
#define FS_FS_H

#include "store/store.h"

#define FS_OID_HI 0x7073742e66732e31ull /* "pst.fs.1" */

enum fs_kind {
	FS_KIND_FILE = 0,
	FS_KIND_DIR = 1,
	FS_KIND_OTHER = 2, /* symbolic links, devices, FIFOs, sockets */
};

static inline enum fs_kind fs_ino_kind(uint64_t ino)
{
	return (enum fs_kind)(ino & 3);
}
static inline struct pst_oid fs_oid(uint64_t ino)
{
	return (struct pst_oid){.hi = FS_OID_HI, .lo = ino};
}

#define FS_LABEL_VERSION 1
#define FS_LABEL_BYTES   48 /* the longest */
#define FS_DIRENT_BYTES  9
#define FS_COUNTER_MAX   (1ull << 61)

#define FS_KEY_DIRENT  'd'
#define FS_KEY_XATTR   'x'
#define FS_KEY_SYMLINK 's'
#define FS_KEY_COUNTER 'n'
#define FS_KEY_ORPHAN  'o'

struct fs_label {
	uint32_t mode, uid, gid, nlink;
	uint64_t atime_ns, ctime_ns, btime_ns;
	uint64_t parent; /* directories */
	uint64_t rdev;   /* devices */
};

/* Packs @l; returns how many bytes. */
uint8_t fs_label_pack(const struct fs_label *l, uint8_t ret_bytes[FS_LABEL_BYTES]);
/* -EBADMSG: not a label, or not one of an inode of this number. */
int fs_label_unpack(struct fs_label *ret_label, uint64_t ino, const void *bytes, size_t len);
void fs_dirent_pack(uint64_t ino, uint8_t type, uint8_t ret_bytes[FS_DIRENT_BYTES]);
/* -EBADMSG: not an entry's value. */
int fs_dirent_unpack(uint64_t *ret_ino, uint8_t *ret_type, const void *bytes, size_t len);

struct fs_opts {
	unsigned requests_max; /* names ops under way; more: PST_BUSY. 0: 256 */
	unsigned open_max;     /* inodes held open; more: -ENFILE. 0: 65536 */
	unsigned ino_range;    /* inode numbers reserved at a time. 0: 1024 */
	uint32_t link_max;     /* links of a file; more: -EMLINK. 0: 65000 */
	unsigned attempts_max; /* of an op that others get in the way of; then -EAGAIN. 0: 64 */
	uint64_t grace_ns;     /* from the start on: see below. 0: none */
};

/*
 * Puts the layer on @below, which it closes when it is closed. @opts may be NULL. -EINVAL: the
 * store below lacks PST_CAP_OBJECTS or PST_CAP_BATCH; -ENOMEM. On failure @below stays the
 * caller's.
 */
int fs_new(struct store **ret_store, struct store *below, const struct fs_opts *opts,
           struct pst_err *err);

#endif
