/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file - open files: a handle holds an inode open, and reads and writes name the inode directly.
 */
#include "client/client.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "client/path.h"

#define OPEN_FLAGS (O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC)
/* A file can be removed between its creation and its opening; that often it is not chance. */
#define OPEN_ATTEMPTS 16

/* --- opening --- */

static int open_hold(struct pst_cont *cont, struct request *r, struct pst_attr *ret_attr)
{
	int rc = request_wait(r);

	if (rc < 0)
		return rc;
	*ret_attr = r->op.attr;
	ret_attr->ino = r->op.ino ? r->op.ino : r->op.attr.ino;
	return 0;
}

static int open_existing(struct pst_cont *cont, uint64_t dir, const char *path, uint32_t flags,
                         struct pst_attr *ret_attr)
{
	struct request r;
	int rc;

	request_init(&r, cont->client, PST_OP_FILE_OPEN);
	rc = path_fill(&r, cont, dir, path, flags);
	return rc < 0 ? rc : open_hold(cont, &r, ret_attr);
}

static int open_create(struct pst_cont *cont, uint64_t dir, const char *path, int flags,
                       uint32_t mode, struct pst_attr *ret_attr)
{
	struct pst_attr attr = {.mode = S_IFREG | (mode & 07777)};
	uint32_t op_flags = (flags & O_EXCL ? PST_F_EXCL : 0) |
	                    (flags & O_TRUNC ? PST_F_TRUNCATE : 0) |
	                    (flags & O_NOFOLLOW ? PST_F_NOFOLLOW : 0);
	struct request r;
	int rc = -ESTALE;

	for (int i = 0; i < OPEN_ATTEMPTS; i++) {
		/* An existing file keeps its mode: only a new one takes it. */
		rc = open_existing(cont, dir, path, op_flags & PST_F_NOFOLLOW, ret_attr);
		if (rc == 0 && !(flags & O_EXCL))
			return 0;
		if (rc == 0) {
			request_init(&r, cont->client, PST_OP_FILE_CLOSE);
			request_into(&r, cont);
			r.op.ino = ret_attr->ino;
			request_wait(&r);
			return -EEXIST;
		}
		if (rc != -ENOENT)
			return rc;
		request_init(&r, cont->client, PST_OP_CREATE);
		rc = path_fill_entry(&r, cont, dir, path, op_flags | PST_F_EXCL);
		if (rc < 0)
			return rc;
		r.op.attr = attr;
		r.op.attr_mask = PST_ATTR_MODE;
		rc = request_wait(&r);
		if (rc == -EEXIST && !(flags & O_EXCL))
			continue; /* somebody else made it: open that */
		if (rc < 0)
			return rc;
		rc = open_existing(cont, r.op.attr.ino, NULL, 0, ret_attr);
		if (rc != -ENOENT && rc != -ESTALE)
			return rc;
	}
	return rc;
}

static int open_check(const struct pst_cont *cont, int flags)
{
	if (flags & ~OPEN_FLAGS || (flags & O_ACCMODE) == O_ACCMODE)
		return -EINVAL;
	if ((flags & (O_TRUNC | O_APPEND)) && (flags & O_ACCMODE) == O_RDONLY)
		return -EINVAL;
	if (cont->view && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT)))
		return -EROFS;
	return 0;
}

int pst_file_open(struct pst_cont *cont, uint64_t dir, const char *path, int flags, uint32_t mode,
                  struct pst_file **ret_file)
{
	struct pst_attr attr = {0};
	struct pst_file *f;
	int rc = client_check(cont->client);

	if (rc == 0)
		rc = open_check(cont, flags);
	if (rc < 0)
		return rc;
	f = mem_calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	if (flags & O_CREAT)
		rc = open_create(cont, dir, path, flags, mode, &attr);
	else
		rc = open_existing(cont, dir, path, flags & O_NOFOLLOW ? PST_F_NOFOLLOW : 0, &attr);
	if (rc < 0) {
		mem_free(f);
		return rc;
	}
	f->cont = cont;
	f->ino = attr.ino;
	f->flags = flags;
	atomic_fetch_add(&cont->files, 1);
	if (S_ISDIR(attr.mode))
		rc = -EISDIR;
	else if (S_ISLNK(attr.mode))
		rc = -ELOOP;
	else if (!S_ISREG(attr.mode))
		rc = -EINVAL;
	else if ((flags & O_TRUNC) && attr.size_bytes > 0)
		rc = pst_file_truncate(f, 0);
	if (rc < 0) {
		pst_file_close(f);
		return rc;
	}
	*ret_file = f;
	return 0;
}

int pst_file_close(struct pst_file *file)
{
	struct request r;
	int rc;

	if (!file)
		return 0;
	rc = client_check(file->cont->client);
	if (rc < 0)
		return rc;
	request_init(&r, file->cont->client, PST_OP_FILE_CLOSE);
	request_into(&r, file->cont);
	r.op.ino = file->ino;
	rc = request_wait(&r);
	atomic_fetch_sub(&file->cont->files, 1);
	mem_free(file);
	return rc;
}

uint64_t pst_file_ino(const struct pst_file *file)
{
	return file->ino;
}

/* --- reading and writing --- */

static bool may_read(const struct pst_file *f)
{
	return (f->flags & O_ACCMODE) != O_WRONLY;
}

static bool may_write(const struct pst_file *f)
{
	return (f->flags & O_ACCMODE) != O_RDONLY;
}

/* Every field that FILE_READ and FILE_WRITE take, see request_get_io(). */
static void io_fill(struct request *r, const struct pst_file *f, uint32_t flags)
{
	request_into(r, f->cont);
	r->op.ino = f->ino;
	r->op.dir = 0;
	r->op.name_len = 0;
	r->op.flags = flags;
}

static int write_flags(const struct pst_file *f, uint32_t *flags)
{
	if (!may_write(f))
		return -EBADF;
	if (*flags & ~(PST_F_VOLATILE | PST_F_APPEND))
		return -EINVAL;
	if (f->flags & O_APPEND)
		*flags |= PST_F_APPEND;
	return 0;
}

int pst_file_pread(struct pst_file *file, void *buf, size_t len, uint64_t off, size_t *ret_len)
{
	struct request r;
	int rc;

	if (!may_read(file))
		return -EBADF;
	if (len > PST_IO_MAX)
		return -E2BIG;
	request_init(&r, file->cont->client, PST_OP_FILE_READ);
	io_fill(&r, file, 0);
	request_buffer(&r, buf, len, off);
	rc = request_wait(&r);
	if (rc == 0 && ret_len)
		*ret_len = r.op.ret_len;
	return rc;
}

int pst_file_pread_async(struct pst_file *file, void *buf, size_t len, uint64_t off,
                         struct pst_cq *cq, void *user_data)
{
	struct request *r;
	int rc;

	if (unlikely(!may_read(file)))
		return -EBADF;
	if (unlikely(len > PST_IO_MAX))
		return -E2BIG;
	rc = request_get_io(&r, file->cont->client, cq, user_data, PST_OP_FILE_READ);
	if (unlikely(rc < 0))
		return rc;
	io_fill(r, file, 0);
	request_buffer(r, buf, len, off);
	request_submit(r);
	return 0;
}

int pst_file_preadv_async(struct pst_file *file, const struct iovec *iov, unsigned iov_count,
                          uint64_t off, struct pst_cq *cq, void *user_data)
{
	struct request *r;
	int rc;

	if (!may_read(file))
		return -EBADF;
	rc = request_get_io(&r, file->cont->client, cq, user_data, PST_OP_FILE_READ);
	if (rc < 0)
		return rc;
	io_fill(r, file, 0);
	return request_go(r, request_vector(r, iov, iov_count, off));
}

static int write_wait(struct pst_file *file, const void *buf, size_t len, uint64_t off,
                      uint32_t flags, uint64_t *ret_off)
{
	struct request r;
	int rc = write_flags(file, &flags);

	if (rc < 0)
		return rc;
	if (len > PST_IO_MAX)
		return -E2BIG;
	request_init(&r, file->cont->client, PST_OP_FILE_WRITE);
	io_fill(&r, file, flags);
	request_buffer(&r, buf, len, off);
	rc = request_wait(&r);
	if (rc == 0 && ret_off)
		*ret_off = flags & PST_F_APPEND ? r.op.ret_off : off;
	return rc;
}

int pst_file_pwrite(struct pst_file *file, const void *buf, size_t len, uint64_t off,
                    uint32_t flags)
{
	return write_wait(file, buf, len, off, flags, NULL);
}

int pst_file_append(struct pst_file *file, const void *buf, size_t len, uint32_t flags,
                    uint64_t *ret_off)
{
	return write_wait(file, buf, len, 0, flags | PST_F_APPEND, ret_off);
}

int pst_file_pwrite_async(struct pst_file *file, const void *buf, size_t len, uint64_t off,
                          uint32_t flags, struct pst_cq *cq, void *user_data)
{
	struct request *r;
	int rc = write_flags(file, &flags);

	if (unlikely(rc < 0))
		return rc;
	if (unlikely(len > PST_IO_MAX))
		return -E2BIG;
	rc = request_get_io(&r, file->cont->client, cq, user_data, PST_OP_FILE_WRITE);
	if (unlikely(rc < 0))
		return rc;
	io_fill(r, file, flags);
	request_buffer(r, buf, len, off);
	r->op.ret_off = off; /* appends overwrite it */
	request_submit(r);
	return 0;
}

int pst_file_pwritev_async(struct pst_file *file, const struct iovec *iov, unsigned iov_count,
                           uint64_t off, uint32_t flags, struct pst_cq *cq, void *user_data)
{
	struct request *r;
	int rc = write_flags(file, &flags);

	if (rc < 0)
		return rc;
	rc = request_get_io(&r, file->cont->client, cq, user_data, PST_OP_FILE_WRITE);
	if (rc < 0)
		return rc;
	io_fill(r, file, flags);
	r->op.ret_off = off;
	return request_go(r, request_vector(r, iov, iov_count, off));
}

/* --- the rest --- */

int pst_file_truncate(struct pst_file *file, uint64_t size_bytes)
{
	struct request r;

	if (!may_write(file))
		return -EBADF;
	request_init(&r, file->cont->client, PST_OP_SETATTR);
	io_fill(&r, file, 0);
	r.op.attr.size_bytes = size_bytes;
	r.op.attr_mask = PST_ATTR_SIZE;
	return request_wait(&r);
}

int pst_file_sync(struct pst_file *file)
{
	struct request r;

	request_init(&r, file->cont->client, PST_OP_FSYNC);
	io_fill(&r, file, 0);
	return request_wait(&r);
}

int pst_file_sync_async(struct pst_file *file, struct pst_cq *cq, void *user_data)
{
	struct request *r;
	int rc = request_get(&r, file->cont->client, cq, user_data, PST_OP_FSYNC);

	if (rc < 0)
		return rc;
	io_fill(r, file, 0);
	return request_go(r, 0);
}

int pst_file_stat(struct pst_file *file, struct pst_attr *ret_attr)
{
	return pst_fs_stat(file->cont, file->ino, NULL, 0, ret_attr);
}
