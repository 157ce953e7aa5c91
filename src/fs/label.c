/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * label - the two formats of the layer, labels and directory entries, to and from bytes. The tables
 * are in fs.h. What is read is checked: it went through a device.
 */
#include "fs_int.h"

struct label_bytes {
	uint8_t version, zero;
	le16 mode;
	le32 uid, gid, nlink;
	le64 atime_ns, ctime_ns, btime_ns;
	le64 last; /* parent or rdev */
};
#define LABEL_SHORT offsetof(struct label_bytes, last)

_Static_assert(sizeof(struct label_bytes) == FS_LABEL_BYTES, "a label is 48 bytes, without gaps");
_Static_assert(LABEL_SHORT == 40, "a label without its last field is 40 bytes");
_Static_assert(FS_LABEL_BYTES <= PST_LABEL_MAX, "a label fits");

static bool has_last(uint32_t mode)
{
	return S_ISDIR(mode) || S_ISCHR(mode) || S_ISBLK(mode);
}

uint8_t fs_label_pack(const struct fs_label *l, uint8_t ret_bytes[FS_LABEL_BYTES])
{
	struct label_bytes b = {
	        .version = FS_LABEL_VERSION,
	        .mode = le16_make((uint16_t)l->mode),
	        .uid = le32_make(l->uid),
	        .gid = le32_make(l->gid),
	        .nlink = le32_make(l->nlink),
	        .atime_ns = le64_make(l->atime_ns),
	        .ctime_ns = le64_make(l->ctime_ns),
	        .btime_ns = le64_make(l->btime_ns),
	        .last = le64_make(S_ISDIR(l->mode) ? l->parent : l->rdev),
	};

	memcpy(ret_bytes, &b, sizeof(b));
	return has_last(l->mode) ? sizeof(b) : LABEL_SHORT;
}

static enum fs_kind kind_of_mode(uint32_t mode)
{
	return S_ISREG(mode) ? FS_KIND_FILE : S_ISDIR(mode) ? FS_KIND_DIR : FS_KIND_OTHER;
}

int fs_label_unpack(struct fs_label *ret_label, uint64_t ino, const void *bytes, size_t len)
{
	struct label_bytes b = {0};
	struct fs_label l = {0};

	if (len != sizeof(b) && len != LABEL_SHORT)
		return -EBADMSG;
	memcpy(&b, bytes, len);
	l.mode = le16_get(b.mode);
	if (b.version != FS_LABEL_VERSION || b.zero || (len == sizeof(b)) != has_last(l.mode))
		return -EBADMSG;
	if (fs_type_of_mode(l.mode) == DT_UNKNOWN || kind_of_mode(l.mode) != fs_ino_kind(ino))
		return -EBADMSG;
	l.uid = le32_get(b.uid);
	l.gid = le32_get(b.gid);
	l.nlink = le32_get(b.nlink);
	l.atime_ns = le64_get(b.atime_ns);
	l.ctime_ns = le64_get(b.ctime_ns);
	l.btime_ns = le64_get(b.btime_ns);
	if (S_ISDIR(l.mode))
		l.parent = le64_get(b.last);
	else
		l.rdev = le64_get(b.last);
	if (S_ISDIR(l.mode) && fs_ino_kind(l.parent) != FS_KIND_DIR)
		return -EBADMSG;
	*ret_label = l;
	return 0;
}

uint8_t fs_type_of_mode(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return DT_REG;
	case S_IFDIR:
		return DT_DIR;
	case S_IFLNK:
		return DT_LNK;
	case S_IFCHR:
		return DT_CHR;
	case S_IFBLK:
		return DT_BLK;
	case S_IFIFO:
		return DT_FIFO;
	case S_IFSOCK:
		return DT_SOCK;
	default:
		return DT_UNKNOWN;
	}
}

static enum fs_kind kind_of_type(uint8_t type)
{
	return type == DT_REG ? FS_KIND_FILE : type == DT_DIR ? FS_KIND_DIR : FS_KIND_OTHER;
}

void fs_dirent_pack(uint64_t ino, uint8_t type, uint8_t ret_bytes[FS_DIRENT_BYTES])
{
	le64 le = le64_make(ino);

	memcpy(ret_bytes, &le, sizeof(le));
	ret_bytes[8] = type;
}

int fs_dirent_unpack(uint64_t *ret_ino, uint8_t *ret_type, const void *bytes, size_t len)
{
	const uint8_t *b = bytes;
	uint64_t ino;
	le64 le;

	if (len != FS_DIRENT_BYTES)
		return -EBADMSG;
	memcpy(&le, b, sizeof(le));
	ino = le64_get(le);
	if (ino == FS_INO_BOOK || ino == PST_INO_ROOT || fs_ino_kind(ino) != kind_of_type(b[8]))
		return -EBADMSG;
	*ret_ino = ino;
	*ret_type = b[8];
	return 0;
}
