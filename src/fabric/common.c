/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * common - what the providers share: the count of what lives on a loop, lists of memory, random
 * numbers.
 */
#include <stdio.h>
#include <sys/random.h>

#include "fabric/fabric_int.h"
#include "net/net.h"

void fabric_flush_none(struct chan *c)
{
}

bool fabric_room_always(struct chan *c)
{
	return true;
}

/* --- what lives on a loop --- */

struct fabric_part {
	struct loop_part part;
	unsigned held;
};

static const char part_kind;

int fabric_hold(struct loop *loop)
{
	struct loop_part *part = loop_part_find(loop, &part_kind);
	struct fabric_part *fp;

	if (!part) {
		fp = mem_calloc(1, sizeof(*fp));
		if (!fp)
			return -ENOMEM;
		part = &fp->part;
		fp->part.kind = &part_kind;
		loop_part_add(loop, &fp->part);
	}
	container_of(part, struct fabric_part, part)->held++;
	return 0;
}

void fabric_drop(struct loop *loop)
{
	struct loop_part *part = loop_part_find(loop, &part_kind);
	struct fabric_part *fp;

	pst_assert(part);
	fp = container_of(part, struct fabric_part, part);
	if (--fp->held)
		return;
	loop_part_del(loop, &fp->part);
	mem_free(fp);
}

bool fabric_quiet(struct loop *loop)
{
	return !loop_part_find(loop, &part_kind);
}

void fabric_finish(struct loop *loop)
{
	while (!fabric_quiet(loop)) {
		int rc = loop_turn(loop, 100 * NSEC_PER_MSEC);

		pst_assert(rc >= 0);
	}
	if (!loop_is_sim(loop))
		net_finish(loop);
}

/* --- those that wait --- */

struct list *crowd_excess(const struct fabric_crowd *c)
{
	return c->count < FABRIC_CROWD_MAX ? NULL : c->waiting.next;
}

void crowd_join(struct fabric_crowd *c, struct list *link)
{
	list_push(&c->waiting, link);
	c->count++;
}

void crowd_leave(struct fabric_crowd *c, struct list *link)
{
	list_del(link);
	c->count--;
}

/* --- the first words --- */

int fabric_other_version(struct chan *c, const char *who, unsigned its, unsigned ours)
{
	(void)snprintf(c->why, sizeof(c->why),
	               "%s speaks version %u of the channel's protocol, and this end version %u",
	               who, its, ours);
	return -EPROTONOSUPPORT;
}

/* --- lists of memory --- */

bool iov_inside(const struct iovec *iov, uint32_t count, const struct mem_region *r)
{
	for (uint32_t i = 0; i < count; i++) {
		uintptr_t at = (uintptr_t)iov[i].iov_base - (uintptr_t)r->addr;

		if (at > r->len_bytes || iov[i].iov_len > r->len_bytes - at)
			return false;
	}
	return true;
}

int fabric_xfer_check(const struct chan_xfer *x)
{
	if (x->off > x->desc.len || x->len > x->desc.len - x->off)
		return -ERANGE;
	if (iov_sum(x->iov, x->iov_count) != x->len)
		return -EINVAL;
	if (x->region && !iov_inside(x->iov, x->iov_count, x->region))
		return -EINVAL;
	return 0;
}

int fabric_random(void *buf, size_t len)
{
	while (len) {
		ssize_t n = getrandom(buf, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		buf = (char *)buf + n;
		len -= (size_t)n;
	}
	return 0;
}
