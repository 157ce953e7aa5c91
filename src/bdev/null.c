/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * null: - a block device that does nothing, for measuring what is above it. Writes are forgotten,
 * reads leave the caller's memory as it is. Requests are completed by a poller in the turn after
 * their submission, as bdev.h promises.
 */
#include "bdev/bdev.h"

#define NULL_SIZE_MAX (1ull << 62)

struct null_bdev {
	struct bdev bdev;
	struct list pending;
	struct loop_poller poller;
};

static int null_poll(struct loop_poller *p)
{
	struct null_bdev *d = container_of(p, struct null_bdev, poller);
	struct list batch;
	struct list *n, *next;
	int count = 0;

	if (list_empty(&d->pending))
		return 0;
	/* What done() submits waits for the next turn. The batch is taken apart without care for its
	 * links, as no one looks at those of a request that is done. */
	list_init(&batch);
	list_splice(&batch, &d->pending);
	for (n = batch.next; n != &batch; n = next) {
		next = n->next;
		bdev_done(&d->bdev, list_entry(n, struct bdev_io, link), 0);
		count++;
	}
	return count;
}

static bool null_may_sleep(struct loop_poller *p)
{
	return list_empty(&container_of(p, struct null_bdev, poller)->pending);
}

static void null_submit(struct bdev *b, struct bdev_io *io)
{
	list_push(&container_of(b, struct null_bdev, bdev)->pending, &io->link);
}

static void null_close(struct bdev *b)
{
	struct null_bdev *d = container_of(b, struct null_bdev, bdev);

	loop_poller_del(b->loop, &d->poller);
	mem_free(d);
}

static struct bdev *null_new(const struct bdev_info *info, struct loop *loop);

static int null_also(struct bdev **ret_bdev, struct bdev *b, struct loop *loop, struct pst_err *err)
{
	*ret_bdev = null_new(&b->info, loop);
	return *ret_bdev ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static const struct bdev_ops null_ops = {
        .submit = null_submit,
        .close = null_close,
        .also = null_also,
};

static struct bdev *null_new(const struct bdev_info *info, struct loop *loop)
{
	struct null_bdev *d = mem_calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->bdev.ops = &null_ops;
	d->bdev.loop = loop;
	d->bdev.info = *info;
	list_init(&d->pending);
	d->poller.poll = null_poll;
	d->poller.may_sleep = null_may_sleep;
	loop_poller_add(loop, &d->poller);
	return &d->bdev;
}

static int null_options(struct options *o, uint64_t *ret_size, uint64_t *ret_block,
                        struct pst_err *err)
{
	uint64_t size, block = 512;
	char most[32];
	int rc;

	if (parse_size(o->base, &size))
		return err_set(err, -EINVAL, "null: '%s' is not a size", o->base);
	rc = options_size(o, "block", &block, err);
	if (!rc)
		rc = options_finish(o, "null:", err);
	if (rc)
		return rc;
	if (block != 512 && block != 4096)
		return err_set(err, -EINVAL, "null: a block has 512 or 4096 bytes, not %llu",
		               (unsigned long long)block);
	if (size > NULL_SIZE_MAX)
		return err_set(err, -EINVAL, "null: '%s' is more than %s", o->base,
		               format_size(NULL_SIZE_MAX, most, sizeof(most)));
	if (!size || size % block)
		return err_set(err, -EINVAL, "null: '%s' is not a whole number of blocks of %llu",
		               o->base, (unsigned long long)block);
	*ret_size = size;
	*ret_block = block;
	return 0;
}

static int null_make(struct bdev **ret_bdev, struct options *o, struct loop *loop,
                     struct pst_err *err)
{
	uint64_t size = 0, block = 0;
	int rc = null_options(o, &size, &block, err);

	if (rc)
		return rc;
	*ret_bdev = null_new(&(struct bdev_info){.size_bytes = size,
	                                         .block_bytes = (uint32_t)block,
	                                         .mem_align = 1,
	                                         .discard = true},
	                     loop);
	return *ret_bdev ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int null_check(const char *rest, struct pst_err *err)
{
	struct options o;
	uint64_t size, block;
	int rc = options_parse(&o, rest, err);

	if (rc)
		return rc;
	rc = null_options(&o, &size, &block, err);
	options_done(&o);
	return rc;
}

static int null_open(struct bdev **ret_bdev, const char *rest, struct loop *loop,
                     const struct bdev_open_opts *opts, struct pst_err *err)
{
	struct options o;
	int rc = options_parse(&o, rest, err);

	if (rc)
		return rc;
	rc = null_make(ret_bdev, &o, loop, err);
	options_done(&o);
	return rc;
}

struct bdev_driver bdev_driver_null = {
        .scheme = "null",
        .help = "null:SIZE              nothing: writes are forgotten, reads give what was there\n"
                "  block=512|4096       bytes of a block (512)\n",
        .open = null_open,
        .check = null_check,
};

__attribute__((constructor)) static void null_register(void)
{
	bdev_driver_register(&bdev_driver_null);
}
