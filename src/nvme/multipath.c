/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * multipath: - one namespace by several controllers of its subsystem. Requests go down the paths
 * whose ANA state is best (optimized, then non-optimized), by turns or to the least busy one. A path
 * that fails, or says that it is not the way, gives its requests back, and they go down another: the
 * caller sees no error as long as there is a path again within WAIT_NS. A path that was lost goes
 * on trying, later and later, for as long as the device is open, where its transport can (TCP).
 *
 *  M1  A request is with at most one path. It goes to another one only when the first has given it
 *      back, which it does when no transfer of its can come late (H2 of host.h).
 *  M2  What a path gives back may be done again: reads, writes of the same bytes, zeroes, discards,
 *      flushes. What nobody can know is whether a controller that was lost still carries a write out,
 *      later than its repetition by another path, and than what the caller wrote there since then.
 *      That is so with all hosts of NVMe over Fabrics before TP4129.
 */
#include <stdio.h>

#include "nvme/bdev_nvme.h"

#define PATHS_MAX 8u
#define SPEC_MAX  2048u
#define WAIT_NS   (60 * NSEC_PER_SEC)

enum policy { ROUND_ROBIN, QUEUE_DEPTH };

struct path {
	struct bdev *bdev;
	struct nvme_bdev *nb;
	uint32_t inflight;
};

struct multipath {
	struct bdev bdev;
	struct path path[PATHS_MAX];
	unsigned paths, turn;
	enum policy policy;
	struct list waiting; /* requests without a path */
	struct list free;    /* of struct mp_child, as many as were ever needed at once */
	struct loop_poller poller;
	struct loop_timer tick;
};

/* A request's own words. */
struct mp_io {
	struct bdev_io *child; /* with a path; NULL: waiting */
	uint64_t since_ns;     /* without a path since */
};

struct mp_child {
	struct bdev_io io;
	struct multipath *mp;
	struct bdev_io *parent;
	struct path *path;
};

static struct mp_io *mp_io(struct bdev_io *io)
{
	_Static_assert(sizeof(struct mp_io) <= sizeof(io->priv), "fits its place");
	return (struct mp_io *)(void *)io->priv;
}

/* --- choosing --- */

/* 0: not usable now; the larger the better. */
static unsigned rank(const struct path *p)
{
	const struct nvme_host *h = p->nb->host;

	if (h->state != NVME_HOST_LIVE || p->nb->hq->state != HQ_LIVE)
		return 0;
	switch (nvme_host_ana(h, p->nb->ns.ana_group)) {
	case NVME_ANA_OPTIMIZED:
		return 2;
	case NVME_ANA_NON_OPTIMIZED:
		return 1;
	default:
		return 0;
	}
}

static struct path *choose(struct multipath *mp)
{
	struct path *best = NULL;
	unsigned best_rank = 0;

	for (unsigned i = 0; i < mp->paths; i++) {
		struct path *p = &mp->path[(mp->turn + i) % mp->paths];
		unsigned r = rank(p);

		if (!r || r < best_rank)
			continue;
		if (r > best_rank ||
		    (mp->policy == QUEUE_DEPTH && best && p->inflight < best->inflight)) {
			best = p;
			best_rank = r;
		}
	}
	if (best && mp->policy == ROUND_ROBIN)
		mp->turn = (unsigned)(best - mp->path + 1) % mp->paths;
	return best;
}

static bool all_dead(const struct multipath *mp)
{
	for (unsigned i = 0; i < mp->paths; i++) {
		if (mp->path[i].nb->host->state != NVME_HOST_DEAD)
			return false;
	}
	return true;
}

/* --- requests --- */

static void wait_for_path(struct multipath *mp, struct bdev_io *io)
{
	mp_io(io)->child = NULL;
	mp_io(io)->since_ns = loop_now(mp->bdev.loop);
	list_push(&mp->waiting, &io->link);
}

static void child_done(struct bdev_io *io)
{
	struct mp_child *c = container_of(io, struct mp_child, io);
	struct multipath *mp = c->mp;
	struct bdev_io *parent = c->parent;
	int status = io->status;

	c->path->inflight--;
	list_push(&mp->free, &io->link);
	/* Given back: not done by this path. */
	if (status == -EAGAIN || status == -ENODEV)
		wait_for_path(mp, parent);
	else
		bdev_done(&mp->bdev, parent, status);
}

static struct mp_child *child_get(struct multipath *mp)
{
	struct list *n = list_pop(&mp->free);

	return n ? container_of(list_entry(n, struct bdev_io, link), struct mp_child, io)
	         : mem_calloc(1, sizeof(struct mp_child));
}

static bool send(struct multipath *mp, struct bdev_io *io)
{
	struct path *p = choose(mp);
	struct mp_child *c = p ? child_get(mp) : NULL;

	if (!c)
		return false;
	c->mp = mp;
	c->parent = io;
	c->path = p;
	c->io = (struct bdev_io){.op = io->op,
	                         .flags = io->flags,
	                         .off_bytes = io->off_bytes,
	                         .len_bytes = io->len_bytes,
	                         .iov = io->iov,
	                         .iov_count = io->iov_count,
	                         .region = io->region,
	                         .done = child_done};
	mp_io(io)->child = &c->io;
	p->inflight++;
	bdev_submit(p->bdev, &c->io);
	return true;
}

static void mp_submit(struct bdev *b, struct bdev_io *io)
{
	struct multipath *mp = container_of(b, struct multipath, bdev);

	if (!list_empty(&mp->waiting) || !send(mp, io))
		wait_for_path(mp, io);
}

static void tick_fired(struct loop_timer *t)
{
	/* The poller looks at who waits; this makes the turn happen. */
}

static int mp_poll(struct loop_poller *p)
{
	struct multipath *mp = container_of(p, struct multipath, poller);
	uint64_t now = loop_now(mp->bdev.loop);
	struct list todo;
	struct list *n;
	int did = 0;

	if (list_empty(&mp->waiting))
		return 0;
	list_init(&todo);
	list_splice(&todo, &mp->waiting);
	while ((n = list_pop(&todo))) {
		struct bdev_io *io = list_entry(n, struct bdev_io, link);

		if (send(mp, io)) {
			did++;
		} else if (all_dead(mp) || now - mp_io(io)->since_ns >= WAIT_NS) {
			bdev_done(&mp->bdev, io, all_dead(mp) ? -ENODEV : -EIO);
			did++;
		} else {
			list_push(&mp->waiting, &io->link);
		}
	}
	if (!list_empty(&mp->waiting) &&
	    loop_timer_arm(mp->bdev.loop, &mp->tick, now + 10 * NSEC_PER_MSEC))
		log_debug("nvme: no memory for a timer, trying again");
	return did;
}

static void mp_close(struct bdev *b)
{
	struct multipath *mp = container_of(b, struct multipath, bdev);
	struct list *n;

	loop_poller_del(b->loop, &mp->poller);
	loop_timer_disarm(b->loop, &mp->tick);
	for (unsigned i = 0; i < mp->paths; i++)
		bdev_close(mp->path[i].bdev);
	while ((n = list_pop(&mp->free)))
		mem_free(container_of(list_entry(n, struct bdev_io, link), struct mp_child, io));
	mem_free(mp);
}

static const struct bdev_ops mp_ops = {.submit = mp_submit, .close = mp_close};

/* --- opening --- */

/* Paths lead to one namespace: of one subsystem, with the same ids and the same size. From then on
 * each host sees to it that its own stays the same (H6 of host.h). */
static int path_same(const struct path *first, const struct path *p, const char *spec,
                     struct pst_err *err)
{
	struct nvme_host *a = first->nb->host, *b = p->nb->host;
	const struct nvme_identity *was = nvme_identity_find(a, first->nb->ns.nsid);
	const struct nvme_identity *is = nvme_identity_find(b, p->nb->ns.nsid);
	char expected[NVME_IDENTITY_TEXT], there[NVME_IDENTITY_TEXT];

	pst_assert(was && is); /* kept when the device was opened */
	if (!nvme_ctrlr_same(a->id, b->id)) {
		nvme_ctrlr_text(expected, sizeof(expected), a->id);
		nvme_ctrlr_text(there, sizeof(there), b->id);
		return err_set(err, -EINVAL,
		               "multipath: '%s' is another subsystem: expected %s; there is %s",
		               spec, expected, there);
	}
	if (nvme_identity_same(was, is) && was->blocks == is->blocks)
		return 0;
	nvme_identity_text(expected, sizeof(expected), was);
	nvme_identity_text(there, sizeof(there), is);
	return err_set(err, -EINVAL,
	               "multipath: '%s' is another namespace: expected %s; there is %s", spec,
	               expected, there);
}

static int path_add(struct multipath *mp, const char *spec, const struct bdev_open_opts *opts,
                    struct pst_err *err)
{
	struct path *p = &mp->path[mp->paths];
	int rc = bdev_open(&p->bdev, spec, mp->bdev.loop, opts, err);

	if (rc)
		return rc;
	mp->paths++;
	p->nb = nvme_bdev_of(p->bdev);
	if (!p->nb)
		return err_set(err, -EINVAL, "multipath: '%s' is no NVMe device", spec);
	p->nb->multipath = true;
	p->nb->host->patient = p->nb->host->t->patient = true;
	return mp->paths == 1 ? 0 : path_same(&mp->path[0], p, spec, err);
}

static int take_policy(struct multipath *mp, const char **rest, struct pst_err *err)
{
	static const struct {
		const char *name;
		enum policy policy;
	} names[] = {{"round-robin:", ROUND_ROBIN}, {"queue-depth:", QUEUE_DEPTH}};

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		size_t len = strlen(names[i].name);

		if (strncmp(*rest, names[i].name, len) != 0)
			continue;
		mp->policy = names[i].policy;
		*rest += len;
		return 0;
	}
	return err_set(err, -EINVAL, "multipath:%s: round-robin: or queue-depth: comes first",
	               *rest);
}

/* Takes the next path's device off *@rest; @count were before it. */
static int next_path(char *spec, size_t size, const char **rest, unsigned count,
                     struct pst_err *err)
{
	size_t len = strcspn(*rest, "|");

	if (count == PATHS_MAX || len >= size)
		return err_set(err, -EINVAL, "multipath: too many paths, or one too long");
	snprintf(spec, size, "%.*s", (int)len, *rest);
	*rest += len + ((*rest)[len] == '|');
	return 0;
}

static int mp_check(const char *rest, struct pst_err *err)
{
	struct multipath mp = {.paths = 0};
	char spec[SPEC_MAX];
	int rc = take_policy(&mp, &rest, err);

	while (!rc && *rest) {
		rc = next_path(spec, sizeof(spec), &rest, mp.paths++, err);
		if (!rc)
			rc = bdev_check(spec, err);
	}
	if (!rc && !mp.paths)
		rc = err_set(err, -EINVAL, "multipath: no path");
	return rc;
}

static int mp_files(const char *rest, int (*each)(void *arg, const char *path), void *arg,
                    struct pst_err *err)
{
	struct multipath mp = {.paths = 0};
	char spec[SPEC_MAX];
	int rc = take_policy(&mp, &rest, err);

	while (!rc && *rest) {
		rc = next_path(spec, sizeof(spec), &rest, mp.paths++, err);
		if (!rc)
			rc = bdev_files(spec, each, arg, err);
	}
	return rc;
}

static int paths_open(struct multipath *mp, const char *rest, const struct bdev_open_opts *opts,
                      struct pst_err *err)
{
	char spec[SPEC_MAX];
	int rc = take_policy(mp, &rest, err);

	while (!rc && *rest) {
		rc = next_path(spec, sizeof(spec), &rest, mp->paths, err);
		if (!rc)
			rc = path_add(mp, spec, opts, err);
	}
	if (!rc && !mp->paths)
		rc = err_set(err, -EINVAL, "multipath: no path");
	return rc;
}

static int mp_open(struct bdev **ret_bdev, const char *rest, struct loop *loop,
                   const struct bdev_open_opts *opts, struct pst_err *err)
{
	struct multipath *mp = mem_calloc(1, sizeof(*mp));
	int rc;

	if (!mp)
		return err_set(err, -ENOMEM, "out of memory");
	mp->bdev.ops = &mp_ops;
	mp->bdev.loop = loop;
	list_init(&mp->waiting);
	list_init(&mp->free);
	rc = paths_open(mp, rest, opts, err);
	if (rc) {
		while (mp->paths)
			bdev_close(mp->path[--mp->paths].bdev);
		mem_free(mp);
		return rc;
	}
	mp->bdev.info = mp->path[0].bdev->info;
	mp->tick.fired = tick_fired;
	mp->poller.poll = mp_poll;
	loop_poller_add(loop, &mp->poller);
	*ret_bdev = &mp->bdev;
	return 0;
}

struct bdev_driver bdev_driver_multipath = {
        .scheme = "multipath",
        .help = "multipath:POLICY:DEV|DEV...   one namespace by several NVMe devices (nvme+tcp: "
                "and\n"
                "                       others), by their ANA states; POLICY is round-robin or\n"
                "                       queue-depth. A path that fails gives its requests to "
                "another\n",
        .open = mp_open,
        .check = mp_check,
        .files = mp_files,
};

__attribute__((constructor)) static void multipath_register(void)
{
	bdev_driver_register(&bdev_driver_multipath);
}
