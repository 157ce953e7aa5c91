/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * uring - from a device string to an open device, or to a sentence that says why not.
 *
 * Order matters: the file is opened without side effects, locked, and only then changed (allocated)
 * or claimed; a file that was made here and can't be used is removed again.
 */
#include <fcntl.h>
#include <libgen.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "bdev/uring.h"

#define IO_MAX_DEFAULT   (8 * MIB)
#define OWN_RING_ENTRIES 256
#define PREWRITE_BYTES   (4 * MIB)
#define DEVICE_BYTES_MIN 4096

struct uring_opts {
	bool direct, sqpoll, iopoll, registered, registered_asked, discard, discard_asked;
	uint64_t io_max, block, sqpoll_idle_ms;
};

/* --- options --- */

static int opts_take(struct uring_opts *u, struct options *o, struct pst_err *err)
{
	int rc;

	*u = (struct uring_opts){
	        .direct = true,
	        .registered = true,
	        .registered_asked = options_str(o, "registered"),
	        .discard_asked = options_str(o, "discard"),
	        .io_max = IO_MAX_DEFAULT,
	        .sqpoll_idle_ms = 100,
	};
	if ((rc = options_bool(o, "direct", &u->direct, err)) ||
	    (rc = options_bool(o, "sqpoll", &u->sqpoll, err)) ||
	    (rc = options_bool(o, "iopoll", &u->iopoll, err)) ||
	    (rc = options_bool(o, "registered", &u->registered, err)) ||
	    (rc = options_bool(o, "discard", &u->discard, err)) ||
	    (rc = options_size(o, "io_max", &u->io_max, err)) ||
	    (rc = options_size(o, "block", &u->block, err)) ||
	    (rc = options_u64(o, "sqpoll_idle_ms", &u->sqpoll_idle_ms, err)) ||
	    (rc = options_finish(o, "uring:", err)))
		return rc;
	if (u->io_max < 4096 || u->io_max % 4096 || u->io_max > GIB)
		return err_set(err, -EINVAL, "io_max must be a multiple of 4096, of at most 1 GiB");
	if (u->block && u->block != 512 && u->block != 4096)
		return err_set(err, -EINVAL, "a block has 512 or 4096 bytes, not %llu",
		               (unsigned long long)u->block);
	if (u->iopoll && !u->direct)
		return err_set(err, -EINVAL, "iopoll=1 needs direct=1");
	if (u->sqpoll_idle_ms > 60000)
		return err_set(err, -EINVAL, "sqpoll_idle_ms is at most 60000");
	return 0;
}

/* --- what the kernel knows of a device --- */

/* Reads queue/@name of device @dev (a partition's is its disk's) into @buf. False: not to be had.
 */
static bool queue_attr(dev_t dev, const char *name, char *buf, size_t buf_len)
{
	static const char *const ways[] = {"", "../"};
	char path[128];
	FILE *f = NULL;
	bool ok;

	for (unsigned i = 0; !f && i < ARRAY_LEN(ways); i++) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/%s", major(dev),
		         minor(dev), ways[i], name);
		f = fopen(path, "re");
	}
	if (!f)
		return false;
	ok = fgets(buf, (int)buf_len, f);
	fclose(f);
	if (ok)
		buf[strcspn(buf, "\n")] = '\0';
	return ok;
}

static uint64_t queue_number(dev_t dev, const char *name, uint64_t otherwise)
{
	char text[64];

	return queue_attr(dev, name, text, sizeof(text)) ? strtoull(text, NULL, 10) : otherwise;
}

/* --- opening --- */

static int refuse_open(const char *path, int code, bool create, struct pst_err *err)
{
	switch (code) {
	case -ENOENT:
		return err_set(err, code,
		               create ? "cannot create '%s': its directory does not exist"
		                      : "'%s': no such file or device",
		               path);
	case -EACCES:
	case -EPERM:
		return err_set(err, code, "no permission to open '%s'", path);
	case -EROFS:
		return err_set(err, code, "'%s' is on a read-only file system", path);
	case -ENXIO:
	case -ENODEV:
		return err_set(err, code, "'%s': there is no device behind this name", path);
	default:
		return err_set(err, code, "cannot open '%s': %s", path, strerror(-code));
	}
}

/* Before open(), which on some special files would have effects of its own. */
static int check_type(const char *path, mode_t mode, struct pst_err *err)
{
	if (S_ISDIR(mode))
		return err_set(err, -EISDIR, "'%s' is a directory, not a file or block device",
		               path);
	if (!S_ISREG(mode) && !S_ISBLK(mode))
		return err_set(err, -EINVAL, "'%s' is neither a file nor a block device", path);
	return 0;
}

static int open_file(struct uring_dev *d, const char *path, const struct bdev_open_opts *opts,
                     bool *ret_created, struct pst_err *err)
{
	int flags = (opts->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY;
	struct stat st;
	int rc;

	if (!stat(path, &st)) {
		rc = check_type(path, st.st_mode, err);
		if (rc)
			return rc;
		d->fd = open(path, flags);
	} else if (errno == ENOENT && opts->create && !opts->read_only) {
		d->fd = open(path, flags | O_CREAT | O_EXCL, 0600);
		*ret_created = d->fd >= 0;
	} else {
		return refuse_open(path, -errno, false, err);
	}
	if (d->fd < 0)
		return refuse_open(path, -errno, opts->create, err);
	if (fstat(d->fd, &st))
		return refuse_open(path, -errno, false, err);
	d->is_block = S_ISBLK(st.st_mode);
	return check_type(path, st.st_mode, err);
}

/* A claim keeps file systems, RAID and swap off; flock keeps other stores off. */
static int claim_block(struct uring_dev *d, const char *path, struct pst_err *err)
{
	d->claim_fd = open(path, O_RDWR | O_EXCL | O_CLOEXEC);
	if (d->claim_fd >= 0)
		return 0;
	if (errno == EBUSY)
		return err_set(err, -EBUSY,
		               "'%s' is in use by the kernel (mounted, swap, RAID or LVM)", path);
	return refuse_open(path, -errno, false, err);
}

/* --- O_DIRECT --- */

struct dio {
	uint32_t mem_align, off_align; /* 0: the kernel doesn't say */
	bool refused;
};

static void dio_ask(const struct uring_dev *d, struct dio *ret)
{
	*ret = (struct dio){0};
#ifdef STATX_DIOALIGN
	struct statx sx = {0};

	if (statx(d->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) || !(sx.stx_mask & STATX_DIOALIGN))
		return;
	ret->mem_align = sx.stx_dio_mem_align;
	ret->off_align = sx.stx_dio_offset_align;
	ret->refused = !sx.stx_dio_offset_align;
#endif
}

static int set_direct(struct uring_dev *d, const char *path, struct pst_err *err)
{
	struct statfs fs;
	struct dio dio;
	int flags;

	dio_ask(d, &dio);
	/* tmpfs takes the flag and ignores it. */
	if (!d->is_block && !fstatfs(d->fd, &fs) &&
	    (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC))
		dio.refused = true;
	flags = fcntl(d->fd, F_GETFL);
	if (flags >= 0 && !dio.refused && !fcntl(d->fd, F_SETFL, flags | O_DIRECT)) {
		d->direct = true;
		return 0;
	}
	if (flags >= 0 && !dio.refused && errno != EINVAL)
		return err_set(err, -errno, "cannot switch O_DIRECT on for '%s': %s", path,
		               strerror(errno));
	return err_set(err, -ENOTSUP,
	               "the file system of '%s' has no direct I/O (direct=0 goes through the page "
	               "cache instead)",
	               path);
}

/* --- creation --- */

static int prewrite(struct uring_dev *d, const char *path, const struct bdev_open_opts *opts,
                    struct pst_err *err)
{
	void *zeroes = mem_alloc_aligned(4096, PREWRITE_BYTES);
	uint64_t done = 0;
	int rc = 0;

	if (!zeroes)
		return err_set(err, -ENOMEM, "no memory to write '%s' with", path);
	while (!rc && done < opts->size_bytes) {
		size_t len = (size_t)MIN(PREWRITE_BYTES, opts->size_bytes - done);
		ssize_t n = pwrite(d->fd, zeroes, len, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			rc = err_set(err, n ? -errno : -EIO, "cannot write '%s': %s", path,
			             strerror(n ? errno : EIO));
		else
			done += (uint64_t)n;
		if (opts->progress)
			opts->progress(opts->progress_arg, done, opts->size_bytes);
	}
	mem_free(zeroes);
	return rc;
}

static int sync_directory(const char *path)
{
	char *copy = strdup(path);
	int fd, rc = 0;

	if (!copy)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd))
		rc = -errno;
	if (fd >= 0)
		close(fd);
	free(copy);
	return rc;
}

static int allocate(struct uring_dev *d, const char *path, const struct bdev_open_opts *opts,
                    struct pst_err *err)
{
	const uint64_t size = opts->size_bytes;
	char text[32];
	int rc;

	if (size > INT64_MAX)
		return err_set(err, -EFBIG, "cannot create '%s' of %s: no file has more than 8 EiB",
		               path, format_size(size, text, sizeof(text)));
	if (size < DEVICE_BYTES_MIN || size % 4096)
		return err_set(err, -EINVAL,
		               "cannot create '%s' of %llu bytes: a multiple of 4096 is "
		               "needed",
		               path, (unsigned long long)size);
	do
		rc = fallocate(d->fd, 0, 0, (off_t)size) ? -errno : 0;
	while (rc == -EINTR);
	if (rc == -ENOSPC)
		return err_set(err, rc, "there is no room for '%s' of %s", path,
		               format_size(size, text, sizeof(text)));
	/* Where the file system can't allocate, writing does it. */
	if (rc && rc != -EOPNOTSUPP)
		return err_set(err, rc, "cannot allocate %s for '%s': %s",
		               format_size(size, text, sizeof(text)), path, strerror(-rc));
	if (rc || opts->prewrite) {
		rc = prewrite(d, path, opts, err);
		if (rc)
			return rc;
	}
	rc = fsync(d->fd) ? -errno : sync_directory(path);
	if (rc)
		return err_set(err, rc, "cannot make '%s' durable: %s", path, strerror(-rc));
	return 0;
}

/* A file that was made with holes would run out of space when they are written. */
static int fill_holes(struct uring_dev *d, const char *path, const struct stat *st,
                      struct pst_err *err)
{
	char text[32];
	int rc;

	if (st->st_blocks >= st->st_size / 512)
		return 0;
	do
		rc = fallocate(d->fd, 0, 0, st->st_size) ? -errno : 0;
	while (rc == -EINTR);
	if (rc == -ENOSPC)
		return err_set(err, rc, "'%s' has holes, and there is no room for all its %s", path,
		               format_size((uint64_t)st->st_size, text, sizeof(text)));
	if (rc)
		return err_set(err, rc,
		               "'%s' has holes, and its file system can't allocate them (%s): "
		               "remove it and have it made",
		               path, strerror(-rc));
	return 0;
}

/* --- geometry --- */

static int geometry_block(struct uring_dev *d, const struct stat *st, const struct uring_opts *u,
                          const char *path, struct pst_err *err)
{
	char cache[32];
	int sector;

	if (ioctl(d->fd, BLKGETSIZE64, &d->b.info.size_bytes) || ioctl(d->fd, BLKSSZGET, &sector))
		return err_set(err, -errno, "cannot get the size of '%s': %s", path,
		               strerror(errno));
	if (sector != 512 && sector != 4096)
		return err_set(err, -ENOTSUP,
		               "'%s' has sectors of %d bytes; 512 and 4096 are supported", path,
		               sector);
	if (u->block && u->block < (uint64_t)sector)
		return err_set(err, -EINVAL,
		               "'%s' has sectors of %d bytes: block=%llu can't be had", path,
		               sector, (unsigned long long)u->block);
	d->b.info.block_bytes = u->block ? (uint32_t)u->block : (uint32_t)sector;
	d->io_align = (uint32_t)sector;
	d->b.info.volatile_cache = !queue_attr(st->st_rdev, "write_cache", cache, sizeof(cache)) ||
	                           strcmp(cache, "write through") != 0;
	d->cmd_discard = true;
	d->b.info.discard = (!u->discard_asked || u->discard) &&
	                    queue_number(st->st_rdev, "discard_max_bytes", 0) > 0;
	if (u->discard_asked && u->discard && !d->b.info.discard)
		return err_set(err, -ENOTSUP, "'%s' takes no discards (discard=1 was asked for)",
		               path);
	return 0;
}

static int geometry_file(struct uring_dev *d, const struct stat *st, const struct uring_opts *u,
                         const char *path, struct pst_err *err)
{
	const uint64_t size = (uint64_t)st->st_size;

	d->b.info.size_bytes = size;
	d->io_align = 512;
	if (size % 512)
		return err_set(err, -EINVAL, "the size of '%s', %llu bytes, is no multiple of 512",
		               path, (unsigned long long)size);
	d->b.info.block_bytes = u->block ? (uint32_t)u->block : size % 4096 ? 512 : 4096;
	/* Extents still unwritten become written by a flush, whatever the disk's cache does. */
	d->b.info.volatile_cache = true;
	d->b.info.discard = u->discard;
	d->zeroes = mem_alloc_aligned(4096, ZEROES_BYTES);
	return d->zeroes ? 0 : err_set(err, -ENOMEM, "no memory to open '%s' with", path);
}

static int geometry(struct uring_dev *d, const struct uring_opts *u, const char *path,
                    bool read_only, struct pst_err *err)
{
	struct bdev_info *info = &d->b.info;
	struct dio dio;
	struct stat st;
	int rc;

	if (fstat(d->fd, &st))
		return err_set(err, -errno, "cannot look at '%s': %s", path, strerror(errno));
	rc = d->is_block ? geometry_block(d, &st, u, path, err)
	                 : geometry_file(d, &st, u, path, err);
	if (rc)
		return rc;
	dio_ask(d, &dio);
	if (d->direct) {
		uint64_t sector = queue_number(d->is_block ? st.st_rdev : st.st_dev,
		                               "logical_block_size", 4096);

		d->io_align = dio.off_align ? dio.off_align : MAX(d->io_align, (uint32_t)sector);
		info->mem_align = dio.mem_align ? dio.mem_align : (uint32_t)sector;
	} else {
		/* Through the page cache, a forced write is one and an fsync(). */
		info->fua_flushes = true;
		info->mem_align = 1;
		d->io_align = d->is_block ? d->io_align : 1;
	}
	if (d->io_align > info->block_bytes && !u->block && info->size_bytes % 4096 == 0)
		info->block_bytes = 4096;
	if (d->io_align > info->block_bytes)
		return err_set(
		        err, -ENOTSUP,
		        "'%s' wants direct I/O in units of %u bytes; blocks of %u can't be had",
		        path, d->io_align, info->block_bytes);
	if (info->size_bytes < DEVICE_BYTES_MIN || info->size_bytes % info->block_bytes)
		return err_set(err, -EINVAL,
		               "'%s' has %llu bytes: too small, or no multiple of its block of %u",
		               path, (unsigned long long)info->size_bytes, info->block_bytes);
	info->discard = info->discard && !read_only;
	d->io_max_bytes = info->io_max_bytes = (uint32_t)u->io_max;
	return 0;
}

/* --- rings and registrations --- */

/* True when the device behind @d completes polled requests: then it does so without interrupts. */
static bool can_poll(const struct uring_dev *d)
{
	struct stat st;

	return !fstat(d->fd, &st) &&
	       queue_number(d->is_block ? st.st_rdev : st.st_dev, "io_poll", 0) == 1;
}

static int own_ring(struct uring_dev *d, const char *path, struct pst_err *err)
{
	int rc;

	if (d->own_opts.iopoll && !can_poll(d))
		return err_set(err, -ENOTSUP,
		               "the device of '%s' has no polled queues (iopoll=1 was asked for)",
		               path);
	rc = uring_ring_new(&d->own, d->b.loop, &d->own_opts, err);
	return rc ? err_prefix(err, rc, "'%s'", path) : 0;
}

static int register_all(struct uring_dev *d)
{
	struct ring_slots *slots = loop_ring_slots(d->b.loop);
	unsigned own_slot;
	int rc;

	rc = ring_file_add(slots, d->fd, &d->file_slot);
	if (rc)
		return rc;
	d->file_registered = true;
	if (d->own) {
		slots = uring_ring_slots(d->own);
		rc = ring_file_add(slots, d->fd, &own_slot);
		if (rc)
			return rc;
		pst_assert(own_slot == 0);
		d->own_file_registered = true;
	}
	return uring_domain_get(&d->domain, d->b.loop, slots);
}

static int set_up_rings(struct uring_dev *d, bool registered, const char *path, struct pst_err *err)
{
	int rc;

	if (d->own_opts.sqpoll || d->own_opts.iopoll) {
		rc = own_ring(d, path, err);
		if (rc)
			return rc;
	}
	if (!registered)
		return 0;
	rc = register_all(d);
	if (rc && (d->registered_asked || rc == -ENOMEM))
		return err_set(err, rc, "'%s' can't be registered with io_uring: %s", path,
		               strerror(-rc));
	if (rc)
		log_warn("'%s' can't be registered with io_uring (%s): requests cost a little more",
		         path, strerror(-rc));
	return 0;
}

/* --- all together --- */

static int open_steps(struct uring_dev *d, const char *path, const struct uring_opts *u,
                      const struct bdev_open_opts *opts, bool *ret_created, struct pst_err *err)
{
	struct stat st;
	int rc;

	rc = open_file(d, path, opts, ret_created, err);
	if (rc)
		return rc;
	rc = uring_lock(d->fd, path, opts->read_only, err);
	if (rc)
		return rc;
	if (d->is_block && !opts->read_only) {
		rc = claim_block(d, path, err);
		if (rc)
			return rc;
	}
	if (u->direct) {
		rc = set_direct(d, path, err);
		if (rc)
			return rc;
	}
	if (!d->is_block && !opts->read_only && !fstat(d->fd, &st)) {
		if (opts->create && !st.st_size)
			rc = allocate(d, path, opts, err);
		else if (opts->allocate)
			rc = fill_holes(d, path, &st, err);
		if (rc)
			return rc;
	}
	rc = geometry(d, u, path, opts->read_only, err);
	if (rc)
		return rc;
	d->registered_asked = u->registered_asked;
	d->own_opts = (struct uring_ring_opts){
	        .sqpoll = u->sqpoll,
	        .iopoll = u->iopoll,
	        .sqpoll_idle_ms = (unsigned)u->sqpoll_idle_ms,
	        .entries = OWN_RING_ENTRIES,
	};
	return set_up_rings(d, u->registered, path, err);
}

/*
 * The same file once more, under a descriptor that shares nothing with the first: the kernel tells
 * each open file description of a failed write-back once, so that of two that shared one the second
 * would take a flush for good whose data was lost. The claim stays with the first.
 */
static int reopen(struct uring_dev *d, const struct uring_dev *of, struct pst_err *err)
{
	int flags = fcntl(of->fd, F_GETFL);
	char path[40];

	if (flags < 0)
		return err_set(err, -errno, "'%s': %s", of->b.info.name, strerror(errno));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", of->fd);
	d->fd = open(path, (flags & (O_ACCMODE | O_DIRECT)) | O_CLOEXEC | O_NOCTTY);
	if (d->fd < 0)
		return err_set(err, -errno, "'%s' can't be opened for a second reactor (%s): %s",
		               of->b.info.name, path, strerror(errno));
	return 0;
}

/*
 * The lock has to outlive this reactor's last request, too, after a SIGKILL (uring_lock.c): so each
 * ring that it uses keeps the file that has it.
 */
static int keep_lock(struct uring_dev *d, const struct uring_dev *of, struct pst_err *err)
{
	int rc = ring_file_add(loop_ring_slots(d->b.loop), of->fd, &d->lock_slot[0]);

	d->lock_held[0] = rc == 0;
	if (rc == 0 && d->own) {
		rc = ring_file_add(uring_ring_slots(d->own), of->fd, &d->lock_slot[1]);
		d->lock_held[1] = rc == 0;
	}
	return rc < 0 ? err_set(err, rc, "'%s': a second reactor can't keep its lock: %s",
	                        of->b.info.name, strerror(-rc))
	              : 0;
}

int uring_also(struct bdev **ret_bdev, struct bdev *b, struct loop *loop, struct pst_err *err)
{
	const struct uring_dev *of = container_of(b, struct uring_dev, b);
	struct uring_dev *d = mem_calloc(1, sizeof(*d));
	int rc;

	if (!d)
		return err_set(err, -ENOMEM, "no memory to open '%s' with", b->info.name);
	uring_dev_init(d);
	d->b.loop = loop;
	d->b.info = b->info;
	d->is_block = of->is_block;
	d->direct = of->direct;
	d->cmd_discard = of->cmd_discard;
	d->io_align = of->io_align;
	d->io_max_bytes = of->io_max_bytes;
	d->own_opts = of->own_opts;
	d->registered_asked = of->registered_asked;
	rc = reopen(d, of, err);
	if (!rc && of->zeroes) {
		d->zeroes = mem_alloc_aligned(4096, ZEROES_BYTES);
		if (!d->zeroes)
			rc = err_set(err, -ENOMEM, "no memory to open '%s' with", b->info.name);
	}
	if (!rc)
		rc = set_up_rings(d, of->file_registered, b->info.name, err);
	if (!rc)
		rc = keep_lock(d, of, err);
	if (rc) {
		uring_dev_free(d);
		return rc;
	}
	*ret_bdev = &d->b;
	return 0;
}

static int uring_make(struct bdev **ret_bdev, struct options *o, struct loop *loop,
                      const struct bdev_open_opts *opts, struct pst_err *err)
{
	struct uring_opts u;
	struct uring_dev *d;
	bool created = false;
	int rc;

	rc = opts_take(&u, o, err);
	if (rc)
		return rc;
	if (loop_is_sim(loop))
		return err_set(err, -EINVAL, "'%s': a simulation has no real devices", o->base);
	d = mem_calloc(1, sizeof(*d));
	if (!d)
		return err_set(err, -ENOMEM, "no memory to open '%s' with", o->base);
	uring_dev_init(d);
	d->b.loop = loop;
	rc = open_steps(d, o->base, &u, opts, &created, err);
	if (rc) {
		if (created)
			unlink(o->base);
		uring_dev_free(d);
		return rc;
	}
	*ret_bdev = &d->b;
	return 0;
}

static int uring_open(struct bdev **ret_bdev, const char *rest, struct loop *loop,
                      const struct bdev_open_opts *opts, struct pst_err *err)
{
	struct options o;
	int rc;

	rc = options_parse(&o, rest, err);
	if (rc)
		return rc;
	rc = *o.base ? uring_make(ret_bdev, &o, loop, opts, err)
	             : err_set(err, -EINVAL, "uring: wants a path");
	options_done(&o);
	return rc;
}

/* The path that @o names, as far as it can be seen from outside. */
static int check_path(const char *path, struct pst_err *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, -EINVAL, "%s: neither a file nor a block device", path);
	if (access(path, R_OK | W_OK) < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

static int uring_check(const char *rest, struct pst_err *err)
{
	struct options o;
	struct uring_opts u;
	int rc = options_parse(&o, rest, err);

	if (rc)
		return rc;
	rc = *o.base ? opts_take(&u, &o, err) : err_set(err, -EINVAL, "uring: wants a path");
	if (!rc)
		rc = check_path(o.base, err);
	options_done(&o);
	return rc;
}

static int uring_files(const char *rest, int (*each)(void *arg, const char *path), void *arg,
                       struct pst_err *err)
{
	struct options o;
	int rc = options_parse(&o, rest, err);

	if (rc)
		return rc;
	rc = each(arg, o.base);
	options_done(&o);
	return rc;
}

struct bdev_driver bdev_driver_uring = {
        .scheme = "uring",
        .help = "uring:PATH             file or block device, by io_uring; also a path alone\n"
                "  direct=BOOL          O_DIRECT, past the page cache (1)\n"
                "  registered=BOOL      register file and memory with the ring (1)\n"
                "  discard=BOOL         give freed space back (block devices 1, files 0: a file\n"
                "                       would lose space that was allocated for it)\n"
                "  block=512|4096       bytes of a block (what the device has; files 4096)\n"
                "  io_max=SIZE          split larger requests (8m)\n"
                "  sqpoll=BOOL          a kernel thread takes submissions (0)\n"
                "  sqpoll_idle_ms=N     and goes to sleep after N ms without any (100)\n"
                "  iopoll=BOOL          completions are polled for (0)\n",
        .open = uring_open,
        .check = uring_check,
        .files = uring_files,
};

__attribute__((constructor)) static void uring_register(void)
{
	bdev_driver_register(&bdev_driver_uring);
}
