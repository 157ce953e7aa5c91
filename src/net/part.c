/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A loop's share of this room: the list of sockets that have something to do, which a poller works
 * off once a turn, and buffers that are lent. Made with the first socket or listener, gone with the
 * last.
 */
#include "net/net_int.h"

#define SPARE_CHUNKS_MAX 64
#define SPARE_OUTS_MAX   8

static const char part_kind;

static int part_poll(struct loop_poller *poller)
{
	struct net_part *p = container_of(poller, struct net_part, poller);
	struct list now, *n;
	int count = 0;

	if (list_empty(&p->todo))
		return 0;
	/* Who wakes now has its turn in the next one, so that no socket can keep the loop here. */
	list_init(&now);
	list_splice(&now, &p->todo);
	p->alive++; /* the share itself must outlive this */
	while ((n = list_pop(&now))) {
		sock_service(list_entry(n, struct net_sock, link));
		count++;
	}
	part_put(p);
	return count;
}

static bool part_may_sleep(struct loop_poller *poller)
{
	return list_empty(&container_of(poller, struct net_part, poller)->todo);
}

struct net_part *part_get(struct loop *loop)
{
	struct loop_part *lp = loop_part_find(loop, &part_kind);
	struct net_part *p;

	if (lp) {
		p = container_of(lp, struct net_part, part);
		p->alive++;
		return p;
	}
	p = mem_calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->scratch = mem_alloc_pages(NET_SCRATCH_BYTES);
	if (!p->scratch) {
		mem_free(p);
		return NULL;
	}
	p->part.kind = &part_kind;
	p->loop = loop;
	p->poller.poll = part_poll;
	p->poller.may_sleep = part_may_sleep;
	p->alive = 1;
	list_init(&p->todo);
	list_init(&p->socks);
	list_init(&p->spare);
	list_init(&p->outs);
	loop_part_add(loop, &p->part);
	loop_poller_add(loop, &p->poller);
	return p;
}

void part_put(struct net_part *p)
{
	struct list *n;

	if (--p->alive)
		return;
	pst_assert(list_empty(&p->todo));
	while ((n = list_pop(&p->spare)))
		mem_free(list_entry(n, struct net_chunk, m.link));
	while ((n = list_pop(&p->outs)))
		mem_free(list_entry(n, struct tls_out, link));
	loop_poller_del(p->loop, &p->poller);
	loop_part_del(p->loop, &p->part);
	mem_free(p->scratch);
	mem_free(p);
}

struct net_chunk *part_chunk_get(struct net_part *p, size_t bytes)
{
	struct list *n = bytes <= NET_CHUNK_BYTES ? list_pop(&p->spare) : NULL;
	size_t room = MAX(bytes, NET_CHUNK_BYTES);
	struct net_chunk *c;

	if (n) {
		p->spare_count--;
		return list_entry(n, struct net_chunk, m.link);
	}
	c = mem_alloc(sizeof(*c) + room);
	if (c)
		c->room = room;
	return c;
}

void part_chunk_put(struct net_part *p, struct net_chunk *c)
{
	if (c->room == NET_CHUNK_BYTES && p->spare_count < SPARE_CHUNKS_MAX) {
		list_push_front(&p->spare, &c->m.link);
		p->spare_count++;
	} else {
		mem_free(c);
	}
}

struct tls_out *part_out_get(struct net_part *p)
{
	struct list *n = list_pop(&p->outs);

	if (!n)
		return mem_alloc(sizeof(struct tls_out));
	p->outs_count--;
	return list_entry(n, struct tls_out, link);
}

void part_out_put(struct net_part *p, struct tls_out *out)
{
	if (p->outs_count == SPARE_OUTS_MAX) {
		mem_free(out);
		return;
	}
	list_push_front(&p->outs, &out->link);
	p->outs_count++;
}

unsigned net_alive(struct loop *loop)
{
	struct loop_part *lp = loop_part_find(loop, &part_kind);

	return lp ? container_of(lp, struct net_part, part)->alive : 0;
}

static void abort_lingering(struct loop *loop)
{
	struct loop_part *lp = loop_part_find(loop, &part_kind);
	struct net_part *p;
	struct net_sock *s;

	if (!lp)
		return;
	p = container_of(lp, struct net_part, part);
	pst_assert(!p->owned);
	list_for_each (s, &p->socks, part_link)
		if (s->state == NET_CLOSING)
			sock_kill(s);
}

void net_finish(struct loop *loop)
{
	abort_lingering(loop);
	while (net_alive(loop))
		pst_assert(loop_turn(loop, UINT64_MAX) >= 0);
	/* A thread that looked up a name for a socket may have left its answer in the inbox. */
	pst_assert(loop_turn(loop, 0) >= 0);
}
