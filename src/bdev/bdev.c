/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The interface's own half: finding a driver by its scheme, checking each request before a backend
 * sees it, and the blocking helpers. A backend may rely on what request_check() lets through.
 */
#include <stdio.h>

#include "bdev/bdev.h"

#define SCHEME_MAX 16

static struct bdev_driver *drivers;

/* Of a static library only what is named gets linked: this names the drivers of this room, which
 * then register themselves. */
extern struct bdev_driver bdev_driver_fault, bdev_driver_mem, bdev_driver_null, bdev_driver_uring;
__attribute__((used)) static struct bdev_driver *const this_room[] = {
        &bdev_driver_fault,
        &bdev_driver_mem,
        &bdev_driver_null,
        &bdev_driver_uring,
};

void bdev_driver_register(struct bdev_driver *d)
{
	d->next = drivers;
	drivers = d;
}

const struct bdev_driver *bdev_driver_first(void)
{
	return drivers;
}

static const struct bdev_driver *driver_find(const char *scheme, size_t len)
{
	for (const struct bdev_driver *d = drivers; d; d = d->next) {
		if (strlen(d->scheme) == len && !memcmp(d->scheme, scheme, len))
			return d;
	}
	return NULL;
}

/* Length of the scheme that @spec begins with, 0 when it is a bare path. */
static size_t scheme_len(const char *spec)
{
	size_t n = strspn(spec, "abcdefghijklmnopqrstuvwxyz0123456789+-");

	return spec[n] == ':' && n <= SCHEME_MAX ? n : 0;
}

/* The driver of @spec, and what follows the scheme. */
static int driver_of(const struct bdev_driver **ret_d, const char **ret_rest, const char *spec,
                     struct pst_err *err)
{
	size_t len = scheme_len(spec);
	const struct bdev_driver *d = len ? driver_find(spec, len) : driver_find("uring", 5);
	const char *rest = len ? spec + len + 1 : spec;

	if (!d && len)
		return err_set(err, -EINVAL,
		               "'%s': there is no device scheme '%.*s:' (a file of that name is "
		               "written './%s')",
		               spec, (int)len, spec, spec);
	if (!d)
		return err_set(err, -ENOTSUP, "'%s': built without the uring: device", spec);
	if (!*rest)
		return err_set(err, -EINVAL, "'%s': nothing after the scheme", spec);
	*ret_d = d;
	*ret_rest = rest;
	return 0;
}

int bdev_check(const char *spec, struct pst_err *err)
{
	const struct bdev_driver *d;
	const char *rest;
	int rc = driver_of(&d, &rest, spec, err);

	return rc ? rc : d->check(rest, err);
}

int bdev_files(const char *spec, int (*each)(void *arg, const char *path), void *arg,
               struct pst_err *err)
{
	const struct bdev_driver *d;
	const char *rest;
	int rc = driver_of(&d, &rest, spec, err);

	return rc || !d->files ? rc : d->files(rest, each, arg, err);
}

int bdev_open(struct bdev **ret_bdev, const char *spec, struct loop *loop,
              const struct bdev_open_opts *opts, struct pst_err *err)
{
	static const struct bdev_open_opts defaults;
	const struct bdev_driver *d;
	const char *rest;
	struct bdev *b;
	int rc = driver_of(&d, &rest, spec, err);

	if (rc)
		return rc;
	if (!opts)
		opts = &defaults;
	rc = d->open(&b, rest, loop, opts, err);
	if (rc)
		return rc;
	b->read_only = opts->read_only;
	snprintf(b->info.name, sizeof(b->info.name), "%s", spec);
	*ret_bdev = b;
	return 0;
}

int bdev_also(struct bdev **ret_bdev, struct bdev *b, struct loop *loop, struct pst_err *err)
{
	struct bdev *also = NULL;
	int rc;

	if (!b->ops->also)
		return err_set(err, -ENOTSUP,
		               "'%s': this kind of device takes requests of one reactor only",
		               b->info.name);
	rc = b->ops->also(&also, b, loop, err);
	if (rc)
		return rc;
	also->read_only = b->read_only;
	snprintf(also->info.name, sizeof(also->info.name), "%s", b->info.name);
	*ret_bdev = also;
	return 0;
}

void bdev_close(struct bdev *b)
{
	if (!b)
		return;
	loop_assert(b->loop);
	pst_assert(b->inflight == 0);
	b->ops->close(b);
}

/* --- requests --- */

static int iov_check(const struct bdev *b, const struct bdev_io *io)
{
	uint64_t left = io->len_bytes, mask = b->info.mem_align ? b->info.mem_align - 1 : 0;

	if (likely(io->iov_count == 1))
		return io->iov->iov_len != left || ((uintptr_t)io->iov->iov_base | left) & mask
		               ? -EINVAL
		               : 0;
	for (uint32_t i = 0; i < io->iov_count; i++) {
		uint64_t len = io->iov[i].iov_len;

		if (len > left || (((uintptr_t)io->iov[i].iov_base | len) & mask))
			return -EINVAL;
		left -= len;
	}
	return left ? -EINVAL : 0;
}

static int request_check(const struct bdev *b, const struct bdev_io *io)
{
	uint64_t size = b->info.size_bytes;

	if (io->op != BDEV_READ || io->flags) {
		if (io->op > BDEV_WRITE_ZEROES || (io->flags & ~BDEV_FUA) ||
		    (io->flags && io->op != BDEV_WRITE))
			return -EINVAL;
		if (b->read_only && io->op != BDEV_FLUSH)
			return -EROFS;
		if (io->op == BDEV_FLUSH)
			return 0;
	}
	if (((io->off_bytes | io->len_bytes) & (b->info.block_bytes - 1)) || !io->len_bytes)
		return -EINVAL;
	if (io->off_bytes > size || io->len_bytes > size - io->off_bytes)
		return -EINVAL;
	return io->op <= BDEV_WRITE ? iov_check(b, io) : 0;
}

static int rejects_poll(struct loop_poller *p)
{
	struct bdev *b = container_of(p, struct bdev, reject_poller);
	struct list batch;
	struct list *n;
	int count = 0;

	list_init(&batch);
	list_splice(&batch, &b->rejected);
	loop_poller_del(b->loop, p);
	while ((n = list_pop(&batch))) {
		struct bdev_io *io = list_entry(n, struct bdev_io, link);

		bdev_done(b, io, io->status);
		count++;
	}
	return count;
}

static bool rejects_may_sleep(struct loop_poller *p)
{
	return false; /* it is there only while a request waits */
}

/* done() never runs inside bdev_submit(), so a refusal waits for the loop as well. Out of line:
 * what it needs would be saved and restored by every request. */
static __attribute__((noinline, cold)) void reject(struct bdev *b, struct bdev_io *io, int status)
{
	if (!b->reject_poller.poll) {
		b->reject_poller.poll = rejects_poll;
		b->reject_poller.may_sleep = rejects_may_sleep;
		list_init(&b->rejected);
	}
	if (list_empty(&b->rejected))
		loop_poller_add(b->loop, &b->reject_poller);
	io->status = status;
	list_push(&b->rejected, &io->link);
}

void bdev_submit(struct bdev *b, struct bdev_io *io)
{
	int rc;

	loop_assert(b->loop);
	b->inflight++;
	rc = request_check(b, io);
	if (unlikely(rc))
		reject(b, io, rc);
	else
		b->ops->submit(b, io);
}

void bdev_done(struct bdev *b, struct bdev_io *io, int status)
{
	pst_assert_slow(b->inflight > 0);
	b->inflight--;
	io->status = status;
	io->done(io); /* may free or resubmit it */
}

/* --- blocking helpers --- */

struct sync_io {
	struct bdev_io io;
	bool done;
};

static void sync_done(struct bdev_io *io)
{
	container_of(io, struct sync_io, io)->done = true;
}

static int sync_run(struct bdev *b, struct sync_io *s)
{
	s->io.done = sync_done;
	bdev_submit(b, &s->io);
	while (!s->done) {
		int rc = loop_turn(b->loop, UINT64_MAX);

		/* The request is on our stack: without a loop that turns there is no way out. */
		pst_assert(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
	}
	return s->io.status;
}

static int sync_transfer(struct bdev *b, enum bdev_op op, uint64_t off_bytes, void *buf,
                         size_t len_bytes, uint32_t flags)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len_bytes};
	struct sync_io s = {.io = {.op = op,
	                           .flags = flags,
	                           .iov = &iov,
	                           .iov_count = 1,
	                           .off_bytes = off_bytes,
	                           .len_bytes = len_bytes}};

	return sync_run(b, &s);
}

int bdev_read_sync(struct bdev *b, uint64_t off_bytes, void *buf, size_t len_bytes)
{
	return sync_transfer(b, BDEV_READ, off_bytes, buf, len_bytes, 0);
}

int bdev_write_sync(struct bdev *b, uint64_t off_bytes, const void *buf, size_t len_bytes,
                    uint32_t flags)
{
	/* An iovec has no const; a write only reads from it. */
	return sync_transfer(b, BDEV_WRITE, off_bytes, (void *)(uintptr_t)buf, len_bytes, flags);
}

int bdev_flush_sync(struct bdev *b)
{
	struct sync_io s = {.io = {.op = BDEV_FLUSH}};

	return sync_run(b, &s);
}
