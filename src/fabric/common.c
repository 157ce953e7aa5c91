/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * common - what the providers share: the count of what lives on a loop, lists of memory, random
 * numbers.
 */
#include <netinet/in.h>
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

/* --- strangers --- */

void crowd_init(struct fabric_crowd *w)
{
	w->count = 0;
	for (unsigned i = 0; i < FABRIC_GROUPS; i++) {
		list_init(&w->group[i].waiting);
		w->group[i].count = 0;
	}
}

/* A user of this host; else a host, or the network of those that have one each to themselves. */
static uint32_t who_of(const struct net_peer *p)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&p->addr.sa;
	const struct in6_addr *v6 = &((const struct sockaddr_in6 *)&p->addr.sa)->sin6_addr;

	if (p->has_cred)
		return crc32c(0, &p->uid, sizeof(p->uid));
	if (p->addr.sa.ss_family == AF_INET)
		return crc32c(0, &v4->sin_addr, 4);
	if (p->addr.sa.ss_family != AF_INET6)
		return 0;
	return IN6_IS_ADDR_V4MAPPED(v6) ? crc32c(0, &v6->s6_addr[12], 4) : crc32c(0, v6, 8);
}

void crowd_join(struct fabric_crowd *w, struct chan *c, const struct net_peer *peer)
{
	c->stranger.in = w;
	c->stranger.group = who_of(peer) % FABRIC_GROUPS;
	list_push(&w->group[c->stranger.group].waiting, &c->stranger.link);
	w->group[c->stranger.group].count++;
	w->count++;
}

void chan_known(struct chan *c)
{
	struct fabric_crowd *w = c->stranger.in;

	if (!w)
		return;
	c->stranger.in = NULL;
	list_del(&c->stranger.link);
	w->group[c->stranger.group].count--;
	w->count--;
}

static struct chan *oldest_of(const struct fabric_crowd *w)
{
	unsigned most = 0;

	for (unsigned i = 1; i < FABRIC_GROUPS; i++)
		if (w->group[i].count > w->group[most].count)
			most = i;
	return list_first(&w->group[most].waiting, struct chan, stranger.link);
}

bool crowd_make_room(struct fabric_crowd *w, unsigned others, struct fabric_listener *l,
                     void (*refuse)(struct chan *c))
{
	struct chan *c;

	if (w->count <= others)
		return false;
	c = oldest_of(w);
	chan_known(c);
	if (c->handlers) {
		l->cut(l, c);
		return true;
	}
	log_stranger(PST_LOG_WARN, "%s: %s: cut off: it said nothing, and the door is full",
	             l->provider->name, c->peer.addr);
	refuse(c);
	return true;
}

void crowd_end(struct fabric_crowd *w)
{
	while (w->count) {
		struct chan *c = oldest_of(w);

		chan_known(c);
		if (!c->handlers)
			chan_close(c);
	}
}

void fabric_give(struct fabric_listener *l, struct chan *c)
{
	if (!l->cut)
		chan_known(c);
	if (!l->accept || !l->accept(l, c))
		chan_close(c);
}

/* --- the first words --- */

int fabric_other_version(struct chan *c, const char *who, unsigned its, unsigned ours)
{
	(void)snprintf(c->why, sizeof(c->why),
	               "%s speaks version %u of the channel's protocol, and this end version %u",
	               who, its, ours);
	return -EPROTONOSUPPORT;
}

int fabric_refused(struct chan *c, uint32_t status)
{
	const char *why = status == EUSERS ? "as many connections as may be are open"
	                  : status < 4096  ? strerror((int)status)
	                                   : "it does not say why";

	(void)snprintf(c->why, sizeof(c->why), "%.120s refuses: %s", c->peer.addr, why);
	return -ECONNREFUSED;
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
