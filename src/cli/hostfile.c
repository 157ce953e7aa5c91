/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostfile - see hostfile.h.
 */
#include "cli/hostfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

/* The store's times reach from 1677 to 2262; what is beyond is moved to the nearer end. */
static int64_t store_time(const struct timespec *t)
{
	int64_t ns;

	if (__builtin_mul_overflow((int64_t)t->tv_sec, (int64_t)NSEC_PER_SEC, &ns) ||
	    __builtin_add_overflow(ns, (int64_t)t->tv_nsec, &ns))
		return t->tv_sec < 0 ? INT64_MIN : INT64_MAX;
	return ns;
}

void host_attr(const struct stat *st, struct pst_attr *ret_attr)
{
	*ret_attr = (struct pst_attr){
	        .mode = st->st_mode,
	        .uid = st->st_uid,
	        .gid = st->st_gid,
	        .nlink = (uint32_t)st->st_nlink,
	        .size_bytes = (uint64_t)st->st_size,
	        .rdev = st->st_rdev,
	        .atime_ns = store_time(&st->st_atim),
	        .mtime_ns = store_time(&st->st_mtim),
	};
}

struct timespec host_time(int64_t ns)
{
	int64_t s = ns / (int64_t)NSEC_PER_SEC, left = ns % (int64_t)NSEC_PER_SEC;

	if (left < 0) { /* before 1970: the nanoseconds still count forward */
		s--;
		left += (int64_t)NSEC_PER_SEC;
	}
	return (struct timespec){.tv_sec = (time_t)s, .tv_nsec = (long)left};
}

/* --- extended attributes --- */

static ssize_t xattr_list(int fd, const char *path, char *buf, size_t cap)
{
	return fd >= 0 ? flistxattr(fd, buf, cap) : llistxattr(path, buf, cap);
}

static ssize_t xattr_get(int fd, const char *path, const char *name, void *buf, size_t cap)
{
	return fd >= 0 ? fgetxattr(fd, name, buf, cap) : lgetxattr(path, name, buf, cap);
}

void host_xattrs_done(struct host_xattrs *x)
{
	for (unsigned i = 0; i < x->count; i++)
		mem_free((void *)(uintptr_t)x->item[i].val);
	mem_free(x->item);
	mem_free(x->storage);
	*x = (struct host_xattrs){0};
}

static int xattr_read_one(int fd, const char *path, struct host_xattr *item)
{
	static _Thread_local char value[PST_VALUE_MAX];
	ssize_t n = xattr_get(fd, path, item->name, value, sizeof(value));
	void *copy;

	if (n < 0)
		return -errno;
	copy = mem_alloc((size_t)n + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, value, (size_t)n);
	item->val = copy;
	item->val_len = (uint32_t)n;
	return 0;
}

int host_xattrs_read(int fd, const char *path, struct host_xattrs *ret_xattrs)
{
	struct host_xattrs x = {0};
	ssize_t len = xattr_list(fd, path, NULL, 0);
	unsigned names = 0;

	*ret_xattrs = x;
	if (len == 0 || (len < 0 && (errno == ENOTSUP || errno == ENOSYS)))
		return 0;
	if (len < 0)
		return -errno;
	x.storage = mem_alloc((size_t)len);
	if (!x.storage)
		return -ENOMEM;
	len = xattr_list(fd, path, x.storage, (size_t)len);
	if (len < 0) {
		mem_free(x.storage);
		return errno == ERANGE ? -ESTALE : -errno;
	}
	for (ssize_t i = 0; i < len; i++)
		names += x.storage[i] == 0;
	x.item = mem_calloc(names ? names : 1, sizeof(*x.item));
	for (char *n = x.storage; x.item && n < x.storage + len; n += strlen(n) + 1) {
		int rc;

		x.item[x.count].name = n;
		rc = xattr_read_one(fd, path, &x.item[x.count]);
		if (rc == -ENODATA) /* removed meanwhile */
			continue;
		if (rc < 0) {
			host_xattrs_done(&x);
			return rc;
		}
		x.count++;
	}
	if (!x.item) {
		host_xattrs_done(&x);
		return -ENOMEM;
	}
	*ret_xattrs = x;
	return 0;
}

/* --- content --- */

static uint64_t timespec_ns(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * NSEC_PER_SEC + (uint64_t)t->tv_nsec;
}

/* Files get their times from this clock, which stands still for a tick (before Linux 6.13 always):
 * two changes in one tick look like one. */
static uint64_t tick_now(void)
{
	struct timespec t = {0};

	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	return timespec_ns(&t);
}

int host_stat_before(int fd, struct stat *ret_st)
{
	struct timespec tick = {.tv_nsec = 10 * (long)NSEC_PER_MSEC};
	struct stat st, again;
	uint64_t changed, now;

	if (fstat(fd, &st) < 0)
		return -errno;
	clock_getres(CLOCK_REALTIME_COARSE, &tick);
	changed = timespec_ns(&st.st_ctim);
	now = tick_now();
	/* Further ahead it is another machine's clock: waiting would not help. */
	if (now <= changed && changed - now <= timespec_ns(&tick)) {
		tick.tv_nsec *= 2;
		while (nanosleep(&tick, &tick) < 0 && errno == EINTR)
			;
		if (fstat(fd, &again) < 0)
			return -errno;
		if (host_changed(&st, &again))
			return -EAGAIN;
	}
	*ret_st = st;
	return 0;
}

bool host_changed(const struct stat *a, const struct stat *b)
{
	return a->st_size != b->st_size || a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
	       a->st_mtim.tv_nsec != b->st_mtim.tv_nsec || a->st_ctim.tv_sec != b->st_ctim.tv_sec ||
	       a->st_ctim.tv_nsec != b->st_ctim.tv_nsec;
}

int host_pread(int fd, void *buf, size_t len, uint64_t off)
{
	while (len > 0) {
		ssize_t n = pread(fd, buf, len, (off_t)off);

		if (n == 0)
			return -ESTALE;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			buf = (char *)buf + n;
			len -= (size_t)n;
			off += (uint64_t)n;
		}
	}
	return 0;
}

int host_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, buf, len, (off_t)off);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			buf = (const char *)buf + n;
			len -= (size_t)n;
			off += (uint64_t)n;
		}
	}
	return 0;
}

bool host_next_data(int fd, uint64_t off, uint64_t size, uint64_t *ret_off, uint64_t *ret_len)
{
	off_t data = off < size ? lseek(fd, (off_t)off, SEEK_DATA) : -1, hole;

	if (off >= size || (data < 0 && errno == ENXIO))
		return false;
	if (data < 0 || (uint64_t)data >= size) { /* not known here: all of it */
		if (data >= 0)
			return false;
		data = (off_t)off;
	}
	hole = lseek(fd, data, SEEK_HOLE);
	if (hole < 0 || (uint64_t)hole > size)
		hole = (off_t)size;
	*ret_off = (uint64_t)data;
	*ret_len = (uint64_t)(hole - data);
	return *ret_len > 0;
}

/* --- giving attributes and names --- */

static const char what_owner[] = "setting the owner", what_mode[] = "setting the mode",
                  what_times[] = "setting the times", what_xattr[] = "setting extended attributes";

static int set_xattrs(const char *path, int fd, const struct host_xattrs *x)
{
	for (unsigned i = 0; i < x->count; i++) {
		const struct host_xattr *a = &x->item[i];
		int rc = fd >= 0 ? fsetxattr(fd, a->name, a->val, a->val_len, 0)
		                 : lsetxattr(path, a->name, a->val, a->val_len, 0);

		if (rc < 0)
			return -errno;
	}
	return 0;
}

int host_set_attrs(const char *path, int fd, const struct pst_attr *a, const struct host_xattrs *x,
                   bool owner, const char **ret_what)
{
	struct timespec times[2] = {host_time(a->atime_ns), host_time(a->mtime_ns)};
	int rc = 0;

	if (owner) {
		rc = fd >= 0 ? fchown(fd, a->uid, a->gid) : lchown(path, a->uid, a->gid);
		*ret_what = what_owner;
	}
	if (rc == 0 && !S_ISLNK(a->mode)) {
		rc = fd >= 0 ? fchmod(fd, a->mode & 07777) : chmod(path, a->mode & 07777);
		*ret_what = what_mode;
	}
	if (rc < 0)
		return -errno;
	if (x->count) {
		*ret_what = what_xattr;
		rc = set_xattrs(path, fd, x);
		if (rc < 0)
			return rc;
	}
	*ret_what = what_times;
	rc = fd >= 0 ? futimens(fd, times) : utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
	return rc < 0 ? -errno : 0;
}

char *host_dir_of(const char *path)
{
	const char *base = cli_base_name(path);

	return base == path ? strdup(".") : strndup(path, (size_t)(base - path));
}

char *host_beside(const char *path)
{
	static _Atomic unsigned number;
	char name[48], *dir = host_dir_of(path), *beside;

	snprintf(name, sizeof(name), ".penstock-get-%d-%u", (int)getpid(), number++);
	beside = dir ? cli_join(dir, name) : NULL;
	free(dir);
	return beside;
}

static bool is_link_of(const char *path, const char *file)
{
	struct stat a, b;

	return lstat(path, &a) == 0 && lstat(file, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

int host_link_over(const char *from, const char *path)
{
	int rc = link(from, path) < 0 ? -errno : 0;
	char *beside = NULL;

	if (rc != -EEXIST)
		return rc;
	do {
		mem_free(beside);
		beside = host_beside(path);
		rc = !beside ? -ENOMEM : link(from, beside) < 0 ? -errno : 0;
	} while (rc == -EEXIST);
	if (rc == 0) {
		rc = rename(beside, path) < 0 ? -errno : 0;
		/* It is still there if that failed, or if the two were one file already. Else a file of that name is
		 * somebody else's. */
		if (rc < 0 || is_link_of(beside, from))
			unlink(beside);
	}
	mem_free(beside);
	return rc;
}

/* --- devices --- */

char *host_device_path(const char *spec)
{
	size_t scheme;
	char *path;

	while (strncmp(spec, "uring:", 6) == 0 || strncmp(spec, "fault:", 6) == 0)
		spec += 6;
	scheme = strspn(spec, "abcdefghijklmnopqrstuvwxyz0123456789+-");
	if (spec[scheme] == ':')
		return NULL;
	path = cli_join("", spec);
	if (path)
		path[strcspn(path, "?")] = 0;
	return path;
}
