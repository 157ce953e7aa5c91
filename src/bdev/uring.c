/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * uring - requests, from uring_submit() to bdev_done().
 *
 * A request goes to the kernel in parts, one after the other. Nearly always there is one: the whole
 * of it. There are more when it is longer than io_max_bytes, has more pieces than the kernel takes,
 * or came back short. What is kept between parts is in bdev_io.priv (struct progress).
 *
 *   submit --> issue --> kernel --> part_done --> bdev_done
 *                |  ^                  |
 *        no room v  |                  | short, split, EINTR
 *              backlog <---------------'  EAGAIN
 *
 * The backlog is first in, first out, and is worked off by a poller that exists only while it is
 * needed. Everything that isn't a read or a write (flush, discard, zeroing a block device) goes
 * through the loop's ring, also when the device has one of its own: IOPOLL rings take nothing else.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bdev/uring.h"

/* linux/blkdev.h of 6.12: discard as a request on the ring. */
#ifndef BLOCK_URING_CMD_DISCARD
#define BLOCK_URING_CMD_DISCARD _IO(0x12, 0)
#endif

/* A part that comes back with EAGAIN this often in a row is given up. */
#define RETRIES_MAX 100000

struct progress {
	struct uring_dev *dev;
	struct iovec
	        *scratch; /* pieces of this part, when the caller's list doesn't fit; or NULL */
	uint64_t done_bytes;
	uint32_t part_bytes;
	uint32_t retries;
};
_Static_assert(sizeof(struct progress) <= sizeof(((struct bdev_io *)0)->priv),
               "a request's progress must fit the room that bdev.h gives a backend");

_Thread_local uint64_t uring_fixed_count;

/* What became of an attempt to hand a request on. */
enum issued {
	AT_KERNEL,
	NO_ROOM, /* the ring is full: later */
	ENDED,   /* nothing for the kernel to do: *ret_status is the request's */
};

static void part_done(struct loop_io *loop_io, int res, uint32_t cqe_flags);

static struct progress *progress_of(struct bdev_io *io)
{
	return (struct progress *)(void *)io->priv;
}

/* --- entries --- */

static struct io_uring_sqe *data_sqe(struct uring_dev *d, struct bdev_io *io)
{
	return likely(!d->own) ? loop_sqe(d->b.loop, &io->loop_io)
	                       : uring_ring_sqe(d->own, &io->loop_io);
}

/* Call it after io_uring_prep_*, which clears the flags. */
static void set_file(struct io_uring_sqe *sqe, bool registered, unsigned slot, int fd)
{
	sqe->fd = registered ? (int)slot : fd;
	if (registered)
		sqe->flags |= IOSQE_FIXED_FILE;
}

static void set_data_file(const struct uring_dev *d, struct io_uring_sqe *sqe)
{
	if (d->own)
		set_file(sqe, d->own_file_registered, 0, d->fd);
	else
		set_file(sqe, d->file_registered, d->file_slot, d->fd);
}

static void prep_single(struct uring_dev *d, struct bdev_io *io, struct io_uring_sqe *sqe,
                        char *base, uint32_t len, uint64_t off)
{
	const bool write = io->op != BDEV_READ;
	int buf = -1;

	if (io->region && d->domain && io->op != BDEV_WRITE_ZEROES)
		buf = uring_domain_buffer(d->domain, io->region, base, len);
	if (buf >= 0) {
		uring_fixed_count++;
		if (write)
			io_uring_prep_write_fixed(sqe, 0, base, len, off, buf);
		else
			io_uring_prep_read_fixed(sqe, 0, base, len, off, buf);
	} else if (write) {
		io_uring_prep_write(sqe, 0, base, len, off);
	} else {
		io_uring_prep_read(sqe, 0, base, len, off);
	}
}

static void prep_part(struct uring_dev *d, struct bdev_io *io, struct io_uring_sqe *sqe,
                      const struct iovec *iov, unsigned count)
{
	const struct progress *p = progress_of(io);
	const uint64_t off = io->off_bytes + p->done_bytes;

	if (likely(count == 1))
		prep_single(d, io, sqe, iov->iov_base, p->part_bytes, off);
	else if (io->op == BDEV_READ)
		io_uring_prep_readv(sqe, 0, iov, count, off);
	else
		io_uring_prep_writev(sqe, 0, iov, count, off);
	if (io->flags & BDEV_FUA)
		sqe->rw_flags = RWF_DSYNC;
	set_data_file(d, sqe);
}

/* --- parts --- */

/*
 * Gathers into @out up to IOV_MAX pieces and io_max_bytes, from where @io stands. The total comes
 * out as a multiple of io_align, as O_DIRECT wants it. Returns the number of pieces and sets
 * *@ret_bytes.
 */
static unsigned gather(const struct uring_dev *d, const struct bdev_io *io, struct iovec *out,
                       uint64_t *ret_bytes)
{
	uint64_t skip = progress_of((struct bdev_io *)(uintptr_t)io)->done_bytes;
	uint64_t total = 0, extra;
	unsigned count = 0;

	for (uint32_t i = 0; i < io->iov_count && count < IOV_MAX && total < d->io_max_bytes; i++) {
		const struct iovec *v = &io->iov[i];
		uint64_t len = v->iov_len > skip ? v->iov_len - skip : 0;

		len = MIN(len, d->io_max_bytes - total);
		if (len) {
			out[count].iov_base = (char *)v->iov_base + skip;
			out[count].iov_len = len;
			total += len;
			count++;
		}
		skip -= MIN(skip, v->iov_len);
	}
	for (extra = total % d->io_align; extra;) {
		uint64_t cut;

		pst_assert(count); /* the pieces hold at least what is left to cut */
		cut = MIN(extra, out[count - 1].iov_len);

		out[count - 1].iov_len -= cut;
		count -= !out[count - 1].iov_len;
		extra -= cut;
		total -= cut;
	}
	*ret_bytes = total;
	return count;
}

/* One piece of a list of zeroes stands in for the caller's list. */
static unsigned gather_zeroes(const struct uring_dev *d, const struct bdev_io *io,
                              struct iovec *out, uint64_t *ret_bytes)
{
	const struct progress *p = progress_of((struct bdev_io *)(uintptr_t)io);

	out->iov_base = d->zeroes;
	out->iov_len = MIN(io->len_bytes - p->done_bytes, MIN(ZEROES_BYTES, d->io_max_bytes));
	*ret_bytes = out->iov_len;
	return 1;
}

/* The next part of a request that doesn't go out whole. */
static enum issued issue_part(struct uring_dev *d, struct bdev_io *io, int *ret_status)
{
	struct progress *p = progress_of(io);
	struct io_uring_sqe *sqe;
	struct iovec one, *iov = &one;
	unsigned count, room = MIN(io->iov_count, (uint32_t)IOV_MAX);
	uint64_t bytes;

	if (io->op != BDEV_WRITE_ZEROES && room > 1) {
		if (!p->scratch)
			p->scratch = mem_alloc(room * sizeof(*iov));
		if (!p->scratch) {
			*ret_status = -ENOMEM;
			return ENDED;
		}
		iov = p->scratch;
	}
	count = io->op == BDEV_WRITE_ZEROES ? gather_zeroes(d, io, iov, &bytes)
	                                    : gather(d, io, iov, &bytes);
	if (!bytes) {
		*ret_status = -EINVAL; /* IOV_MAX pieces are shorter than a block */
		return ENDED;
	}
	sqe = data_sqe(d, io);
	if (!sqe)
		return NO_ROOM;
	p->part_bytes = (uint32_t)bytes;
	prep_part(d, io, sqe, iov, count);
	return AT_KERNEL;
}

static bool goes_whole(const struct uring_dev *d, const struct bdev_io *io)
{
	return io->op <= BDEV_WRITE && io->len_bytes <= d->io_max_bytes && io->iov_count <= IOV_MAX;
}

static enum issued issue_data(struct uring_dev *d, struct bdev_io *io, int *ret_status)
{
	struct progress *p = progress_of(io);
	struct io_uring_sqe *sqe;

	if (unlikely(p->done_bytes || !goes_whole(d, io)))
		return issue_part(d, io, ret_status);
	sqe = data_sqe(d, io);
	if (unlikely(!sqe))
		return NO_ROOM;
	p->part_bytes = (uint32_t)io->len_bytes;
	prep_part(d, io, sqe, io->iov, io->iov_count);
	return AT_KERNEL;
}

/* --- what is neither a read nor a write: always on the loop's ring --- */

static void prep_discard(struct uring_dev *d, struct bdev_io *io, struct io_uring_sqe *sqe)
{
	if (d->cmd_discard) {
		io_uring_prep_rw(IORING_OP_URING_CMD, sqe, 0, NULL, 0, 0);
		sqe->cmd_op = BLOCK_URING_CMD_DISCARD;
		sqe->addr = io->off_bytes;
		sqe->addr3 = io->len_bytes;
	} else {
		io_uring_prep_fallocate(sqe, 0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		                        (off_t)io->off_bytes, (off_t)io->len_bytes);
	}
}

static enum issued issue_control(struct uring_dev *d, struct bdev_io *io, int *ret_status)
{
	struct io_uring_sqe *sqe;

	if (io->op == BDEV_DISCARD && !d->b.info.discard) {
		*ret_status = 0;
		return ENDED;
	}
	sqe = loop_sqe(d->b.loop, &io->loop_io);
	if (!sqe)
		return NO_ROOM;
	progress_of(io)->part_bytes = 0;
	switch (io->op) {
	case BDEV_FLUSH:
		io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
		break;
	case BDEV_DISCARD:
		prep_discard(d, io, sqe);
		break;
	default:
		io_uring_prep_fallocate(sqe, 0, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		                        (off_t)io->off_bytes, (off_t)io->len_bytes);
		break;
	}
	set_file(sqe, d->file_registered, d->file_slot, d->fd);
	return AT_KERNEL;
}

/* --- issue and backlog --- */

static enum issued issue(struct uring_dev *d, struct bdev_io *io, int *ret_status)
{
	enum issued what;

	if (likely(io->op <= BDEV_WRITE || (io->op == BDEV_WRITE_ZEROES && !d->is_block)))
		what = issue_data(d, io, ret_status);
	else
		what = issue_control(d, io, ret_status);
	d->inflight += what == AT_KERNEL;
	return what;
}

static void finish(struct uring_dev *d, struct bdev_io *io, int status)
{
	if (unlikely(progress_of(io)->scratch))
		mem_free(progress_of(io)->scratch);
	bdev_done(&d->b, io, status);
}

static void backlog_put(struct uring_dev *d, struct bdev_io *io, bool first)
{
	if (first)
		list_push_front(&d->backlog, &io->link);
	else
		list_push(&d->backlog, &io->link);
	if (!d->backlog_polled)
		loop_poller_add(d->b.loop, &d->backlog_poller);
	d->backlog_polled = true;
}

static int backlog_poll(struct loop_poller *poller)
{
	struct uring_dev *d = container_of(poller, struct uring_dev, backlog_poller);
	struct list *n;
	int count = 0;

	while ((n = list_pop(&d->backlog))) {
		struct bdev_io *io = list_entry(n, struct bdev_io, link);
		int status = 0;
		enum issued what = issue(d, io, &status);

		if (what == NO_ROOM) {
			list_push_front(&d->backlog, &io->link);
			break;
		}
		count++;
		if (what == ENDED)
			finish(d, io, status);
	}
	if (list_empty(&d->backlog)) {
		loop_poller_del(d->b.loop, poller);
		d->backlog_polled = false;
	}
	return count;
}

/* With requests at the kernel a completion will come and make room. */
static bool backlog_may_sleep(struct loop_poller *poller)
{
	const struct uring_dev *d = container_of(poller, struct uring_dev, backlog_poller);

	return d->inflight || loop_ring_inflight(d->b.loop);
}

static void uring_submit(struct bdev *b, struct bdev_io *io)
{
	struct uring_dev *d = container_of(b, struct uring_dev, b);
	struct progress *p = progress_of(io);
	int status;

	*p = (struct progress){.dev = d};
	io->loop_io.done = part_done;
	/* What may end before the kernel sees it goes to the backlog, whose poller may call done().
	 */
	if (unlikely(d->backlog_polled || !(goes_whole(d, io) || io->op == BDEV_FLUSH)) ||
	    unlikely(issue(d, io, &status) != AT_KERNEL))
		backlog_put(d, io, false);
}

/* --- completions --- */

/* The block layer's ways to say that the medium or the way to it failed. Others pass unchanged. */
static int status_of(int res)
{
	switch (res) {
	case -ENODATA:   /* medium error */
	case -EREMOTEIO: /* the device rejected the command */
	case -EILSEQ:    /* protection information */
	case -ENOLINK:   /* transport */
	case -ETIMEDOUT:
	case -EBADE:
		return -EIO;
	case -ENXIO:
		return -ENODEV;
	default:
		return res;
	}
}

static void retry(struct uring_dev *d, struct bdev_io *io, int res)
{
	if (++progress_of(io)->retries > RETRIES_MAX)
		finish(d, io, res);
	else
		backlog_put(d, io, true);
}

/* True when the request goes on without what the device turned out not to have. */
static bool discard_refused(struct uring_dev *d, struct bdev_io *io, int res)
{
	if (res != -EOPNOTSUPP && res != -ENOTTY && !(d->cmd_discard && res == -EINVAL))
		return false;
	if (d->cmd_discard) {
		d->cmd_discard = false; /* a kernel before 6.12 */
		backlog_put(d, io, true);
		return true;
	}
	d->b.info.discard = false;
	log_warn("%s: discards are not supported after all; none are sent from now on",
	         d->b.info.name);
	finish(d, io, 0);
	return true;
}

static void control_done(struct uring_dev *d, struct bdev_io *io, int res)
{
	if (res == -EINTR || res == -EAGAIN)
		retry(d, io, res);
	else if (io->op != BDEV_DISCARD || res >= 0 || !discard_refused(d, io, res))
		finish(d, io, status_of(MIN(res, 0)));
}

static void data_short(struct uring_dev *d, struct bdev_io *io, uint32_t got)
{
	struct progress *p = progress_of(io);

	got = got / d->io_align * d->io_align;
	if (!got) {
		log_error("%s: end of file at byte %llu, inside the device", d->b.info.name,
		          (unsigned long long)(io->off_bytes + p->done_bytes));
		finish(d, io, -EIO);
		return;
	}
	p->done_bytes += got;
	p->retries = 0;
	backlog_put(d, io, true);
}

static void part_done(struct loop_io *loop_io, int res, uint32_t cqe_flags)
{
	struct bdev_io *io = container_of(loop_io, struct bdev_io, loop_io);
	struct progress *p = progress_of(io);
	struct uring_dev *d = p->dev;

	d->inflight--;
	if (unlikely(!p->part_bytes))
		control_done(d, io, res);
	else if (likely(res == (int)p->part_bytes &&
	                p->done_bytes + p->part_bytes == io->len_bytes))
		finish(d, io, 0);
	else if (res >= 0)
		data_short(d, io, (uint32_t)res);
	else if (res == -EINTR || res == -EAGAIN)
		retry(d, io, res);
	else
		finish(d, io, status_of(res));
}

/* --- the end --- */

void uring_dev_free(struct uring_dev *d)
{
	if (d->file_registered)
		ring_file_del(loop_ring_slots(d->b.loop), d->file_slot);
	uring_domain_put(d->domain);
	if (d->lock_held[0])
		ring_file_del(loop_ring_slots(d->b.loop), d->lock_slot[0]);
	if (d->lock_held[1])
		ring_file_del(uring_ring_slots(d->own), d->lock_slot[1]);
	if (d->own_file_registered)
		ring_file_del(uring_ring_slots(d->own), 0);
	uring_ring_free(d->own);
	/* By hand: the kernel may drop a ring's last reference to the file a little later. */
	if (d->fd >= 0) {
		flock(d->fd, LOCK_UN);
		close(d->fd);
	}
	if (d->claim_fd >= 0)
		close(d->claim_fd);
	mem_free(d->zeroes);
	mem_free(d);
}

static void uring_close(struct bdev *b)
{
	struct uring_dev *d = container_of(b, struct uring_dev, b);

	pst_assert(list_empty(&d->backlog) && !d->inflight);
	uring_dev_free(d);
}

static const struct bdev_ops uring_ops = {
        .submit = uring_submit, .close = uring_close, .also = uring_also};

void uring_dev_init(struct uring_dev *d)
{
	d->b.ops = &uring_ops;
	d->fd = d->claim_fd = -1;
	list_init(&d->backlog);
	d->backlog_poller.poll = backlog_poll;
	d->backlog_poller.may_sleep = backlog_may_sleep;
}
