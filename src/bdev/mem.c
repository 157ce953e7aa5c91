/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mem: - a block device in memory. Requests are carried out by a poller in the turn after their
 * submission, so that a caller who lets go of a buffer too early is found out.
 *
 * Memory with a name outlives the device: it stays in the table below until bdev_mem_forget() or
 * the end of the process, and a test finds its bytes again by opening it a second time. Like a
 * file, it has one writer or any number of readers. Pages come into being when they are first
 * touched, so that opening costs the same at any size.
 */
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bdev/bdev.h"

#define MEM_NAME_MAX   64
#define MEM_SIZE_MAX   (1ull << 46)
#define DONTNEED_BYTES (256 * KIB) /* from here on pages are given back rather than zeroed */

struct backing {
	struct list link; /* in named.list when it has a name */
	char name[MEM_NAME_MAX];
	uint8_t *addr;
	uint64_t size_bytes;
	uint32_t block_bytes;
	unsigned readers;
	bool writer;
};

struct mem_bdev {
	struct bdev bdev;
	struct backing *back;
	bool also; /* of bdev_also(): the memory is another's */
	struct list pending;
	struct loop_poller poller;
};

/* The table of named memory is the process's: devices of several loops may look into it. */
static struct {
	pthread_mutex_t lock;
	struct list list;
} named = {PTHREAD_MUTEX_INITIALIZER, {&named.list, &named.list}};

/* --- memory and its names --- */

static int backing_new(struct backing **ret, uint64_t size_bytes, uint32_t block_bytes,
                       const char *name)
{
	struct backing *m = mem_calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->addr = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->addr == MAP_FAILED) {
		mem_free(m);
		return -ENOMEM;
	}
	m->size_bytes = size_bytes;
	m->block_bytes = block_bytes;
	list_init(&m->link);
	snprintf(m->name, sizeof(m->name), "%s", name ? name : "");
	*ret = m;
	return 0;
}

static void backing_free(struct backing *m)
{
	munmap(m->addr, m->size_bytes);
	mem_free(m);
}

static struct backing *named_find(const char *name)
{
	struct backing *m;

	list_for_each (m, &named.list, link) {
		if (!strcmp(m->name, name))
			return m;
	}
	return NULL;
}

static int backing_lock(struct backing *m, bool read_only)
{
	if (m->writer || (!read_only && m->readers))
		return -EBUSY;
	if (read_only)
		m->readers++;
	else
		m->writer = true;
	return 0;
}

/* With named.lock held where @name is not NULL. */
static int backing_get(struct backing **ret, uint64_t size_bytes, uint32_t block_bytes,
                       const char *name, bool read_only, struct pst_err *err)
{
	struct backing *m = name ? named_find(name) : NULL;
	int rc;

	if (m && (m->size_bytes != size_bytes || m->block_bytes != block_bytes))
		return err_set(err, -EINVAL,
		               "mem: '%s' exists with %llu bytes in blocks of %u, not %llu in %u",
		               name, (unsigned long long)m->size_bytes, m->block_bytes,
		               (unsigned long long)size_bytes, block_bytes);
	if (!m) {
		rc = backing_new(&m, size_bytes, block_bytes, name);
		if (rc)
			return err_set(err, rc, "mem: no memory for %llu bytes",
			               (unsigned long long)size_bytes);
		if (name)
			list_push(&named.list, &m->link);
	}
	rc = backing_lock(m, read_only);
	if (rc)
		return err_set(err, rc, "mem: '%s' is in use", m->name);
	*ret = m;
	return 0;
}

static void backing_put(struct backing *m, bool read_only)
{
	pthread_mutex_lock(&named.lock);
	if (read_only)
		m->readers--;
	else
		m->writer = false;
	pthread_mutex_unlock(&named.lock);
	if (!m->name[0])
		backing_free(m);
}

int bdev_mem_forget(const char *name)
{
	struct backing *m;
	int rc = 0;

	pthread_mutex_lock(&named.lock);
	m = named_find(name);
	if (!m)
		rc = -ENOENT;
	else if (m->writer || m->readers)
		rc = -EBUSY;
	else
		list_del(&m->link);
	pthread_mutex_unlock(&named.lock);
	if (!rc)
		backing_free(m);
	return rc;
}

/* --- requests --- */

/* Zero again. Large ranges give their pages back; what is left of a page at either end is cleared.
 */
static void zero(uint8_t *p, uint64_t len_bytes)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t begin = ((uintptr_t)p + page - 1) & ~(page - 1);
	uintptr_t end = ((uintptr_t)p + len_bytes) & ~(page - 1);

	if (len_bytes < DONTNEED_BYTES || madvise((void *)begin, end - begin, MADV_DONTNEED)) {
		memset(p, 0, len_bytes);
		return;
	}
	memset(p, 0, begin - (uintptr_t)p);
	memset((void *)end, 0, (uintptr_t)p + len_bytes - end);
}

static void execute(struct mem_bdev *m, struct bdev_io *io)
{
	uint8_t *at = m->back->addr + io->off_bytes;

	switch ((enum bdev_op)io->op) {
	case BDEV_READ:
		if (io->lend) {
			io->lent = at;
			break;
		}
		for (uint32_t i = 0; i < io->iov_count; i++) {
			memcpy(io->iov[i].iov_base, at, io->iov[i].iov_len);
			at += io->iov[i].iov_len;
		}
		break;
	case BDEV_WRITE:
		for (uint32_t i = 0; i < io->iov_count; i++) {
			memcpy(at, io->iov[i].iov_base, io->iov[i].iov_len);
			at += io->iov[i].iov_len;
		}
		break;
	case BDEV_DISCARD:
	case BDEV_WRITE_ZEROES:
		zero(at, io->len_bytes);
		break;
	case BDEV_FLUSH:
		break;
	}
}

static int mem_bdev_poll(struct loop_poller *p)
{
	struct mem_bdev *m = container_of(p, struct mem_bdev, poller);
	struct list batch, *n, *next;
	int count = 0;

	if (list_empty(&m->pending))
		return 0;
	/* What done() submits waits for the next turn: one turn's work is bounded. */
	list_init(&batch);
	list_splice(&batch, &m->pending);
	for (n = batch.next; n != &batch; n = next) { /* nobody takes one out meanwhile */
		struct bdev_io *io = list_entry(n, struct bdev_io, link);

		next = n->next;
		execute(m, io);
		bdev_done(&m->bdev, io, 0);
		count++;
	}
	return count;
}

static bool mem_bdev_may_sleep(struct loop_poller *p)
{
	return list_empty(&container_of(p, struct mem_bdev, poller)->pending);
}

static void mem_bdev_submit(struct bdev *b, struct bdev_io *io)
{
	list_push(&container_of(b, struct mem_bdev, bdev)->pending, &io->link);
}

/* --- open and close --- */

static void mem_bdev_close(struct bdev *b)
{
	struct mem_bdev *m = container_of(b, struct mem_bdev, bdev);

	loop_poller_del(b->loop, &m->poller);
	if (!m->also)
		backing_put(m->back, b->read_only);
	mem_free(m);
}

static struct bdev *mem_bdev_new(struct backing *back, struct loop *loop);

static int mem_bdev_also(struct bdev **ret_bdev, struct bdev *b, struct loop *loop,
                         struct pst_err *err)
{
	struct bdev *also = mem_bdev_new(container_of(b, struct mem_bdev, bdev)->back, loop);

	if (!also)
		return err_set(err, -ENOMEM, "out of memory");
	container_of(also, struct mem_bdev, bdev)->also = true;
	*ret_bdev = also;
	return 0;
}

static const struct bdev_ops mem_bdev_ops = {
        .submit = mem_bdev_submit,
        .close = mem_bdev_close,
        .also = mem_bdev_also,
};

static struct bdev *mem_bdev_new(struct backing *back, struct loop *loop)
{
	struct mem_bdev *m = mem_calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->back = back;
	m->bdev.ops = &mem_bdev_ops;
	m->bdev.loop = loop;
	m->bdev.info = (struct bdev_info){.size_bytes = back->size_bytes,
	                                  .block_bytes = back->block_bytes,
	                                  .mem_align = 1,
	                                  .discard = true};
	list_init(&m->pending);
	m->poller.poll = mem_bdev_poll;
	m->poller.may_sleep = mem_bdev_may_sleep;
	loop_poller_add(loop, &m->poller);
	return &m->bdev;
}

/* The numbers and the name in @o, checked; *ret_name points into @o. */
static int mem_options(struct options *o, uint64_t *ret_size, uint32_t *ret_block,
                       const char **ret_name, struct pst_err *err)
{
	uint64_t size, block = 4096;
	const char *name;
	char most[32];
	int rc;

	if (parse_size(o->base, &size))
		return err_set(err, -EINVAL, "mem: '%s' is not a size", o->base);
	rc = options_size(o, "block", &block, err);
	if (rc)
		return rc;
	name = options_str(o, "name");
	rc = options_finish(o, "mem:", err);
	if (rc)
		return rc;
	if (block != 512 && block != 4096)
		return err_set(err, -EINVAL, "mem: a block has 512 or 4096 bytes, not %llu",
		               (unsigned long long)block);
	if (size > MEM_SIZE_MAX)
		return err_set(err, -EINVAL, "mem: '%s' is more than %s", o->base,
		               format_size(MEM_SIZE_MAX, most, sizeof(most)));
	if (!size || size % block)
		return err_set(err, -EINVAL, "mem: '%s' is not a whole number of blocks of %llu",
		               o->base, (unsigned long long)block);
	if (name && (!*name || strlen(name) >= MEM_NAME_MAX))
		return err_set(err, -EINVAL, "mem: a name has 1 to %d bytes", MEM_NAME_MAX - 1);
	*ret_size = size;
	*ret_block = (uint32_t)block;
	*ret_name = name;
	return 0;
}

static int mem_bdev_make(struct bdev **ret_bdev, struct options *o, struct loop *loop,
                         bool read_only, struct pst_err *err)
{
	struct backing *back = NULL;
	uint64_t size = 0;
	uint32_t block = 0;
	const char *name = NULL;
	int rc;

	rc = mem_options(o, &size, &block, &name, err);
	if (rc)
		return rc;
	pthread_mutex_lock(&named.lock);
	rc = backing_get(&back, size, block, name, read_only, err);
	pthread_mutex_unlock(&named.lock);
	if (rc)
		return rc;
	*ret_bdev = mem_bdev_new(back, loop);
	if (!*ret_bdev) {
		backing_put(back, read_only);
		return err_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

static int mem_bdev_open(struct bdev **ret_bdev, const char *rest, struct loop *loop,
                         const struct bdev_open_opts *opts, struct pst_err *err)
{
	struct options o;
	int rc;

	rc = options_parse(&o, rest, err);
	if (rc)
		return rc;
	rc = mem_bdev_make(ret_bdev, &o, loop, opts->read_only, err);
	options_done(&o);
	return rc;
}

static int mem_bdev_check(const char *rest, struct pst_err *err)
{
	struct options o;
	const char *name;
	uint64_t size;
	uint32_t block;
	int rc = options_parse(&o, rest, err);

	if (rc)
		return rc;
	rc = mem_options(&o, &size, &block, &name, err);
	options_done(&o);
	return rc;
}

struct bdev_driver bdev_driver_mem = {
        .scheme = "mem",
        .help = "mem:SIZE               memory, gone when it is closed\n"
                "  block=512|4096       bytes of a block (4096)\n"
                "  name=NAME            keeps its contents for the life of the process\n",
        .open = mem_bdev_open,
        .check = mem_bdev_check,
};

__attribute__((constructor)) static void mem_bdev_register(void)
{
	bdev_driver_register(&bdev_driver_mem);
}
