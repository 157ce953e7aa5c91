/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tree - calls that name files by path. Each has one function that fills the request, and a
 * blocking and an asynchronous one around it.
 */
#include "client/path.h"

#include <sys/stat.h>

static int flags_check(uint32_t flags, uint32_t allowed)
{
	return flags & ~allowed ? -EINVAL : 0;
}

/* Results with attributes: out is the caller's place for them, or NULL. */
static void finish_attr(struct request *r)
{
	struct pst_attr *out = r->out;

	if (r->op.status < 0)
		return;
	r->op.ret_off = r->op.attr.ino;
	if (out)
		*out = r->op.attr;
}

static void want_attr(struct request *r, struct pst_attr *ret_attr)
{
	r->finish = finish_attr;
	r->out = ret_attr;
}

static void give_attr(struct request *r, const struct pst_attr *attr, uint32_t mask)
{
	if (attr)
		r->op.attr = *attr;
	r->op.attr_mask = mask;
}

#define ATTR_ALL                                                                        \
	(PST_ATTR_MODE | PST_ATTR_UID | PST_ATTR_GID | PST_ATTR_SIZE | PST_ATTR_ATIME | \
	 PST_ATTR_MTIME)

static int mask_check(const struct pst_attr *attr, uint32_t mask, uint32_t allowed)
{
	return (mask & ~allowed) || (mask && !attr) ? -EINVAL : 0;
}

/* A blocking call: request_init, @fill, wait. An asynchronous one: request_get, @fill, go. */
#define CALL(cont, opcode, fill)                         \
	do {                                             \
		struct request request_, *r = &request_; \
		int rc_;                                 \
		request_init(r, (cont)->client, opcode); \
		rc_ = (fill);                            \
		return rc_ < 0 ? rc_ : request_wait(r);  \
	} while (0)
#define CALL_ASYNC(cont, opcode, cq, user_data, fill)                             \
	do {                                                                      \
		struct request *r;                                                \
		int rc_ = request_get(&r, (cont)->client, cq, user_data, opcode); \
		return rc_ < 0 ? rc_ : request_go(r, fill);                       \
	} while (0)

/* --- attributes --- */

static int stat_fill(struct request *r, struct pst_cont *cont, uint64_t dir, const char *path,
                     uint32_t flags, struct pst_attr *ret_attr)
{
	if (flags_check(flags, PST_F_NOFOLLOW))
		return -EINVAL;
	want_attr(r, ret_attr);
	return path_fill(r, cont, dir, path, flags);
}

int pst_fs_stat(struct pst_cont *cont, uint64_t dir, const char *path, uint32_t flags,
                struct pst_attr *ret_attr)
{
	CALL(cont, PST_OP_GETATTR, stat_fill(r, cont, dir, path, flags, ret_attr));
}

int pst_fs_stat_async(struct pst_cont *cont, uint64_t dir, const char *path, uint32_t flags,
                      struct pst_attr *ret_attr, struct pst_cq *cq, void *user_data)
{
	CALL_ASYNC(cont, PST_OP_GETATTR, cq, user_data,
	           stat_fill(r, cont, dir, path, flags, ret_attr));
}

static int setattr_fill(struct request *r, struct pst_cont *cont, uint64_t dir, const char *path,
                        const struct pst_attr *attr, uint32_t mask, uint32_t flags)
{
	if (flags_check(flags, PST_F_NOFOLLOW | PST_F_VOLATILE) || mask_check(attr, mask, ATTR_ALL))
		return -EINVAL;
	give_attr(r, attr, mask);
	return path_fill(r, cont, dir, path, flags);
}

int pst_fs_setattr(struct pst_cont *cont, uint64_t dir, const char *path,
                   const struct pst_attr *attr, uint32_t mask, uint32_t flags)
{
	CALL(cont, PST_OP_SETATTR, setattr_fill(r, cont, dir, path, attr, mask, flags));
}

int pst_fs_setattr_async(struct pst_cont *cont, uint64_t dir, const char *path,
                         const struct pst_attr *attr, uint32_t mask, uint32_t flags,
                         struct pst_cq *cq, void *user_data)
{
	CALL_ASYNC(cont, PST_OP_SETATTR, cq, user_data,
	           setattr_fill(r, cont, dir, path, attr, mask, flags));
}

/* --- making --- */

static int create_fill(struct request *r, struct pst_cont *cont, uint64_t dir, const char *path,
                       const struct pst_attr *attr, uint32_t mask, const void *data, size_t len,
                       uint32_t flags, struct pst_attr *ret_attr)
{
	if (flags_check(flags, PST_F_EXCL | PST_F_TRUNCATE | PST_F_VOLATILE) ||
	    mask_check(attr, mask, ATTR_ALL))
		return -EINVAL;
	if (len > PST_IO_MAX)
		return -E2BIG;
	give_attr(r, attr, mask);
	if (!(mask & PST_ATTR_MODE)) {
		r->op.attr.mode = S_IFREG | 0644;
		r->op.attr_mask |= PST_ATTR_MODE;
	}
	if (len)
		request_buffer(r, data, len, 0);
	want_attr(r, ret_attr);
	if (path && path[0])
		return path_fill(r, cont, dir, path, flags);
	request_into(r, cont);
	r->op.flags = flags;
	return 0;
}

int pst_fs_create(struct pst_cont *cont, uint64_t dir, const char *path,
                  const struct pst_attr *attr, uint32_t mask, const void *data, size_t len,
                  uint32_t flags, struct pst_attr *ret_attr)
{
	CALL(cont, PST_OP_CREATE,
	     create_fill(r, cont, dir, path, attr, mask, data, len, flags, ret_attr));
}

int pst_fs_create_async(struct pst_cont *cont, uint64_t dir, const char *path,
                        const struct pst_attr *attr, uint32_t mask, const void *data, size_t len,
                        uint32_t flags, struct pst_attr *ret_attr, struct pst_cq *cq,
                        void *user_data)
{
	CALL_ASYNC(cont, PST_OP_CREATE, cq, user_data,
	           create_fill(r, cont, dir, path, attr, mask, data, len, flags, ret_attr));
}

static int release_fill(struct request *r, struct pst_cont *cont, uint64_t ino)
{
	request_into(r, cont);
	r->op.ino = ino;
	return 0;
}

int pst_fs_release(struct pst_cont *cont, uint64_t ino)
{
	CALL(cont, PST_OP_FILE_CLOSE, release_fill(r, cont, ino));
}

int pst_fs_release_async(struct pst_cont *cont, uint64_t ino, struct pst_cq *cq, void *user_data)
{
	CALL_ASYNC(cont, PST_OP_FILE_CLOSE, cq, user_data, release_fill(r, cont, ino));
}

static int mkdir_fill(struct request *r, struct pst_cont *cont, uint64_t dir, const char *path,
                      const struct pst_attr *attr, uint32_t mask, uint32_t flags,
                      struct pst_attr *ret_attr)
{
	if (flags_check(flags, PST_F_VOLATILE) || mask_check(attr, mask, ATTR_ALL & ~PST_ATTR_SIZE))
		return -EINVAL;
	give_attr(r, attr, mask);
	if (!(mask & PST_ATTR_MODE))
		r->op.attr.mode = 0755;
	r->op.attr.mode = S_IFDIR | (r->op.attr.mode & 07777);
	r->op.attr_mask |= PST_ATTR_MODE;
	want_attr(r, ret_attr);
	return path_fill_entry(r, cont, dir, path, flags);
}

int pst_fs_mkdir(struct pst_cont *cont, uint64_t dir, const char *path, const struct pst_attr *attr,
                 uint32_t mask, uint32_t flags, struct pst_attr *ret_attr)
{
	CALL(cont, PST_OP_MKDIR, mkdir_fill(r, cont, dir, path, attr, mask, flags, ret_attr));
}

int pst_fs_mkdir_async(struct pst_cont *cont, uint64_t dir, const char *path,
                       const struct pst_attr *attr, uint32_t mask, uint32_t flags,
                       struct pst_attr *ret_attr, struct pst_cq *cq, void *user_data)
{
	CALL_ASYNC(cont, PST_OP_MKDIR, cq, user_data,
	           mkdir_fill(r, cont, dir, path, attr, mask, flags, ret_attr));
}

static int symlink_fill(struct request *r, struct pst_cont *cont, uint64_t dir, const char *path,
                        const char *target, const struct pst_attr *attr, uint32_t mask,
                        uint32_t flags, struct pst_attr *ret_attr)
{
	size_t len = strlen(target);

	if (flags_check(flags, PST_F_VOLATILE) ||
	    mask_check(attr, mask, ATTR_ALL & ~(PST_ATTR_SIZE | PST_ATTR_MODE)) || len == 0)
		return -EINVAL;
	if (len > PST_PATH_MAX)
		return -ENAMETOOLONG;
	give_attr(r, attr, mask);
	r->op.name2 = target;
	r->op.name2_len = (uint32_t)len;
	want_attr(r, ret_attr);
	return path_fill_entry(r, cont, dir, path, flags);
}

int pst_fs_symlink(struct pst_cont *cont, uint64_t dir, const char *path, const char *target,
                   const struct pst_attr *attr, uint32_t mask, uint32_t flags,
                   struct pst_attr *ret_attr)
{
	CALL(cont, PST_OP_SYMLINK,
	     symlink_fill(r, cont, dir, path, target, attr, mask, flags, ret_attr));
}

int pst_fs_symlink_async(struct pst_cont *cont, uint64_t dir, const char *path, const char *target,
                         const struct pst_attr *attr, uint32_t mask, uint32_t flags,
                         struct pst_attr *ret_attr, struct pst_cq *cq, void *user_data)
{
	CALL_ASYNC(cont, PST_OP_SYMLINK, cq, user_data,
	           symlink_fill(r, cont, dir, path, target, attr, mask, flags, ret_attr));
}

static int readlink_fill(struct request *r, struct pst_cont *cont, uint64_t dir, const char *path,
                         char *buf, uint32_t cap)
{
	r->op.val = buf;
	r->op.val_cap = cap;
	return path_fill(r, cont, dir, path, PST_F_NOFOLLOW);
}

int pst_fs_readlink(struct pst_cont *cont, uint64_t dir, const char *path, char *buf, uint32_t cap,
                    uint32_t *ret_len)
{
	struct request r;
	int rc;

	request_init(&r, cont->client, PST_OP_READLINK);
	rc = readlink_fill(&r, cont, dir, path, buf, cap);
	if (rc == 0)
		rc = request_wait(&r);
	if (rc == 0)
		*ret_len = (uint32_t)r.op.ret_len;
	return rc;
}

int pst_fs_readlink_async(struct pst_cont *cont, uint64_t dir, const char *path, char *buf,
                          uint32_t cap, struct pst_cq *cq, void *user_data)
{
	CALL_ASYNC(cont, PST_OP_READLINK, cq, user_data,
	           readlink_fill(r, cont, dir, path, buf, cap));
}

/* --- names --- */

static int link_fill(struct request *r, struct pst_cont *cont, uint64_t dir, const char *path,
                     uint64_t dir2, const char *path2, uint32_t flags)
{
	int rc;

	if (flags_check(flags, PST_F_VOLATILE | PST_F_REPLACE))
		return -EINVAL;
	rc = path_fill(r, cont, dir, path, flags | PST_F_NOFOLLOW);
	return rc < 0 ? rc : path_fill_second(r, dir2, path2);
}

int pst_fs_link(struct pst_cont *cont, uint64_t dir, const char *path, uint64_t dir2,
                const char *path2, uint32_t flags)
{
	CALL(cont, PST_OP_LINK, link_fill(r, cont, dir, path, dir2, path2, flags));
}

int pst_fs_link_async(struct pst_cont *cont, uint64_t dir, const char *path, uint64_t dir2,
                      const char *path2, uint32_t flags, struct pst_cq *cq, void *user_data)
{
	CALL_ASYNC(cont, PST_OP_LINK, cq, user_data,
	           link_fill(r, cont, dir, path, dir2, path2, flags));
}

static int remove_fill(struct request *r, struct pst_cont *cont, uint64_t dir, const char *path,
                       uint32_t flags)
{
	if (flags_check(flags, PST_F_VOLATILE))
		return -EINVAL;
	return path_fill_entry(r, cont, dir, path, flags);
}

int pst_fs_unlink(struct pst_cont *cont, uint64_t dir, const char *path, uint32_t flags)
{
	CALL(cont, PST_OP_UNLINK, remove_fill(r, cont, dir, path, flags));
}

int pst_fs_unlink_async(struct pst_cont *cont, uint64_t dir, const char *path, uint32_t flags,
                        struct pst_cq *cq, void *user_data)
{
	CALL_ASYNC(cont, PST_OP_UNLINK, cq, user_data, remove_fill(r, cont, dir, path, flags));
}

int pst_fs_rmdir(struct pst_cont *cont, uint64_t dir, const char *path, uint32_t flags)
{
	CALL(cont, PST_OP_RMDIR, remove_fill(r, cont, dir, path, flags));
}

int pst_fs_rmdir_async(struct pst_cont *cont, uint64_t dir, const char *path, uint32_t flags,
                       struct pst_cq *cq, void *user_data)
{
	CALL_ASYNC(cont, PST_OP_RMDIR, cq, user_data, remove_fill(r, cont, dir, path, flags));
}

static int rename_fill(struct request *r, struct pst_cont *cont, uint64_t dir, const char *path,
                       uint64_t dir2, const char *path2, uint32_t flags)
{
	int rc;

	if (flags_check(flags, PST_F_EXCL | PST_F_EXCHANGE | PST_F_VOLATILE) ||
	    (flags & (PST_F_EXCL | PST_F_EXCHANGE)) == (PST_F_EXCL | PST_F_EXCHANGE))
		return -EINVAL;
	rc = path_fill_entry(r, cont, dir, path, flags);
	return rc < 0 ? rc : path_fill_second(r, dir2, path2);
}

int pst_fs_rename(struct pst_cont *cont, uint64_t dir, const char *path, uint64_t dir2,
                  const char *path2, uint32_t flags)
{
	CALL(cont, PST_OP_RENAME, rename_fill(r, cont, dir, path, dir2, path2, flags));
}

int pst_fs_rename_async(struct pst_cont *cont, uint64_t dir, const char *path, uint64_t dir2,
                        const char *path2, uint32_t flags, struct pst_cq *cq, void *user_data)
{
	CALL_ASYNC(cont, PST_OP_RENAME, cq, user_data,
	           rename_fill(r, cont, dir, path, dir2, path2, flags));
}

/* --- lists --- */

struct dir_list {
	bool (*fn)(void *arg, const struct pst_dirent *e);
	void *arg;
};

static bool dir_list_one(void *arg, const struct list_entry_out *e)
{
	struct dir_list *l = arg;
	struct pst_dirent d = {.name = e->name,
	                       .name_len = e->name_len,
	                       .ino = e->id,
	                       .type = e->type,
	                       .attr = e->attr};

	return l->fn(l->arg, &d);
}

int pst_fs_list(struct pst_cont *cont, uint64_t dir, const char *path, const char *start,
                bool want_attrs, bool (*fn)(void *arg, const struct pst_dirent *e), void *arg)
{
	struct dir_list l = {.fn = fn, .arg = arg};
	struct request r;
	int rc;

	if (start && strlen(start) > PST_NAME_MAX)
		return -ENAMETOOLONG;
	request_init(&r, cont->client, PST_OP_READDIR);
	rc = path_fill(&r, cont, dir, path, 0);
	if (rc < 0)
		return rc;
	r.op.want_values = want_attrs;
	return list_run(&r, start, start ? (uint32_t)strlen(start) : 0, dir_list_one, &l);
}

struct xattr_list {
	bool (*fn)(void *arg, const char *name);
	void *arg;
};

static bool xattr_list_one(void *arg, const struct list_entry_out *e)
{
	struct xattr_list *l = arg;

	return l->fn(l->arg, e->name);
}

int pst_fs_listxattr(struct pst_cont *cont, uint64_t dir, const char *path, uint32_t flags,
                     bool (*fn)(void *arg, const char *name), void *arg)
{
	struct xattr_list l = {.fn = fn, .arg = arg};
	struct request r;
	int rc = flags_check(flags, PST_F_NOFOLLOW);

	if (rc < 0)
		return rc;
	request_init(&r, cont->client, PST_OP_LISTXATTR);
	rc = path_fill(&r, cont, dir, path, flags);
	return rc < 0 ? rc : list_run(&r, NULL, 0, xattr_list_one, &l);
}

/* --- content by path --- */

static int io_fill(struct request *r, struct pst_cont *cont, uint64_t dir, const char *path,
                   const void *buf, size_t len, uint64_t off, uint32_t flags, uint32_t allowed)
{
	if (flags_check(flags, allowed))
		return -EINVAL;
	if (len > PST_IO_MAX)
		return -E2BIG;
	request_buffer(r, buf, len, off);
	r->op.ret_off = off;
	return path_fill(r, cont, dir, path, flags);
}

int pst_fs_read(struct pst_cont *cont, uint64_t dir, const char *path, void *buf, size_t len,
                uint64_t off, uint32_t flags, size_t *ret_len)
{
	struct request r;
	int rc;

	request_init(&r, cont->client, PST_OP_FILE_READ);
	rc = io_fill(&r, cont, dir, path, buf, len, off, flags, PST_F_NOVERIFY);
	if (rc == 0)
		rc = request_wait(&r);
	if (rc == 0 && ret_len)
		*ret_len = r.op.ret_len;
	return rc;
}

int pst_fs_read_async(struct pst_cont *cont, uint64_t dir, const char *path, void *buf, size_t len,
                      uint64_t off, uint32_t flags, struct pst_cq *cq, void *user_data)
{
	struct request *r;
	int rc = request_get_io(&r, cont->client, cq, user_data, PST_OP_FILE_READ);

	if (unlikely(rc < 0))
		return rc;
	return request_go(r, io_fill(r, cont, dir, path, buf, len, off, flags, PST_F_NOVERIFY));
}

int pst_fs_sync_async(struct pst_cont *cont, uint64_t dir, const char *path, struct pst_cq *cq,
                      void *user_data)
{
	CALL_ASYNC(cont, PST_OP_FSYNC, cq, user_data, path_fill(r, cont, dir, path, 0));
}

int pst_fs_write_async(struct pst_cont *cont, uint64_t dir, const char *path, const void *buf,
                       size_t len, uint64_t off, uint32_t flags, struct pst_cq *cq, void *user_data)
{
	struct request *r;
	int rc = request_get_io(&r, cont->client, cq, user_data, PST_OP_FILE_WRITE);

	if (unlikely(rc < 0))
		return rc;
	return request_go(r, io_fill(r, cont, dir, path, buf, len, off, flags,
	                             PST_F_VOLATILE | PST_F_APPEND));
}

static int next_data_fill(struct request *r, struct pst_cont *cont, uint64_t dir, const char *path,
                          uint64_t off)
{
	r->op.off = off;
	r->op.len = PST_OBJECT_MAX > off ? PST_OBJECT_MAX - off : 0;
	return path_fill(r, cont, dir, path, 0);
}

int pst_fs_next_data(struct pst_cont *cont, uint64_t dir, const char *path, uint64_t off,
                     uint64_t *ret_off, uint64_t *ret_len)
{
	struct request r;
	int rc;

	request_init(&r, cont->client, PST_OP_EXTENTS);
	rc = next_data_fill(&r, cont, dir, path, off);
	if (rc == 0)
		rc = request_wait(&r);
	if (rc < 0)
		return rc;
	*ret_off = r.op.ret_off;
	*ret_len = r.op.ret_len;
	return 0;
}

int pst_fs_next_data_async(struct pst_cont *cont, uint64_t dir, const char *path, uint64_t off,
                           struct pst_cq *cq, void *user_data)
{
	CALL_ASYNC(cont, PST_OP_EXTENTS, cq, user_data, next_data_fill(r, cont, dir, path, off));
}

/* --- extended attributes --- */

static int xattr_fill(struct request *r, struct pst_cont *cont, uint64_t dir, const char *path,
                      const char *name, const void *val, uint32_t val_len, uint32_t flags,
                      uint32_t allowed)
{
	size_t len = strlen(name);

	if (flags_check(flags, allowed) || len == 0)
		return -EINVAL;
	if (len > PST_NAME_MAX)
		return -ENAMETOOLONG;
	r->op.key = name;
	r->op.key_len = (uint32_t)len;
	r->op.val = (void *)(uintptr_t)val;
	r->op.val_cap = val_len;
	return path_fill(r, cont, dir, path, flags);
}

int pst_fs_getxattr(struct pst_cont *cont, uint64_t dir, const char *path, const char *name,
                    void *val, uint32_t val_cap, uint32_t flags, uint32_t *ret_len)
{
	struct request r;
	int rc;

	request_init(&r, cont->client, PST_OP_GETXATTR);
	rc = xattr_fill(&r, cont, dir, path, name, val, val_cap, flags, PST_F_NOFOLLOW);
	if (rc == 0)
		rc = request_wait(&r);
	if (rc == 0 && ret_len)
		*ret_len = (uint32_t)r.op.ret_len;
	return rc;
}

#define SETXATTR_FLAGS (PST_F_EXCL | PST_F_REPLACE | PST_F_NOFOLLOW | PST_F_VOLATILE)

static int setxattr_fill(struct request *r, struct pst_cont *cont, uint64_t dir, const char *path,
                         const char *name, const void *val, uint32_t val_len, uint32_t flags)
{
	if ((flags & PST_F_EXCL) && (flags & PST_F_REPLACE))
		return -EINVAL;
	if (val_len > PST_VALUE_MAX)
		return -E2BIG;
	return xattr_fill(r, cont, dir, path, name, val, val_len, flags, SETXATTR_FLAGS);
}

int pst_fs_setxattr(struct pst_cont *cont, uint64_t dir, const char *path, const char *name,
                    const void *val, uint32_t val_len, uint32_t flags)
{
	CALL(cont, PST_OP_SETXATTR, setxattr_fill(r, cont, dir, path, name, val, val_len, flags));
}

int pst_fs_setxattr_async(struct pst_cont *cont, uint64_t dir, const char *path, const char *name,
                          const void *val, uint32_t val_len, uint32_t flags, struct pst_cq *cq,
                          void *user_data)
{
	CALL_ASYNC(cont, PST_OP_SETXATTR, cq, user_data,
	           setxattr_fill(r, cont, dir, path, name, val, val_len, flags));
}

int pst_fs_removexattr(struct pst_cont *cont, uint64_t dir, const char *path, const char *name,
                       uint32_t flags)
{
	CALL(cont, PST_OP_REMOVEXATTR,
	     xattr_fill(r, cont, dir, path, name, NULL, 0, flags, PST_F_NOFOLLOW | PST_F_VOLATILE));
}
