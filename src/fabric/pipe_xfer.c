/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pipe, windows and transfers: memory of regions is mapped by the peer once, and a transfer is one
 * copy made by who asked for it. See pipe_int.h.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "fabric/pipe_int.h"

/* --- regions: ours --- */

/* One that is registered with the loop's domain: known by a number that never comes again. */
struct pipe_region {
	struct mem_region *region;
	uint32_t id;
	struct list link;
};

int pipe_region_reg(struct mem_domain *d, struct mem_region *r, uint64_t *ret_key)
{
	struct pipe_loop *pl = container_of(d, struct pipe_loop, domain);
	struct pipe_region *pr = mem_calloc(1, sizeof(*pr));

	if (!pr)
		return -ENOMEM;
	pr->region = r;
	pr->id = ++pl->region_id; /* 2^32 regions of one loop: not in this world */
	list_push(&pl->regions, &pr->link);
	*ret_key = pr->id;
	return 0;
}

void pipe_regions_unregister(struct pipe_loop *pl)
{
	while (!list_empty(&pl->regions))
		mem_region_unregister(list_first(&pl->regions, struct pipe_region, link)->region,
		                      &pl->domain);
}

static void region_forget(struct pipe *p, uint32_t id)
{
	struct pipe_frame f = {.type = PIPE_REGION_GONE, .id = le32_make(id)};

	for (unsigned i = 0; i < PIPE_REGIONS; i++) {
		if (p->shown[i].state == REGION_NONE || p->shown[i].id != id)
			continue;
		p->shown[i].state = REGION_NONE;
		/* If it can't be told, the peer keeps the mapping until the channel ends. */
		if (p->state == PIPE_UP && p->sock)
			(void)pipe_frame_send(p, &f, -1);
	}
}

static void regions_forget(struct list *pipes, uint32_t id)
{
	struct pipe *p;

	list_for_each (p, pipes, link)
		region_forget(p, id);
}

void pipe_region_unreg(struct mem_domain *d, struct mem_region *r, uint64_t key)
{
	struct pipe_loop *pl = container_of(d, struct pipe_loop, domain);
	struct pipe_region *pr, *tmp;

	list_for_each_safe (pr, tmp, &pl->regions, link) {
		if (pr->id != (uint32_t)key)
			continue;
		list_del(&pr->link);
		mem_free(pr);
	}
	regions_forget(&pl->active, (uint32_t)key);
	regions_forget(&pl->parked, (uint32_t)key);
}

/* Shows the peer a region that it does not know; it will say whether it could map it. */
static int region_show(struct pipe *p, const struct mem_region *r, uint32_t id)
{
	struct pipe_frame f = {
	        .type = PIPE_REGION, .id = le32_make(id), .value = le64_make(r->len_bytes)};
	unsigned i;
	int rc;

	for (i = 0; i < PIPE_REGIONS && p->shown[i].state != REGION_NONE; i++)
		;
	if (i == PIPE_REGIONS)
		return -ENOSPC;
	rc = pipe_frame_send(p, &f, r->fd);
	if (rc < 0)
		return rc;
	p->shown[i].id = id;
	p->shown[i].state = REGION_SHOWN;
	return 0;
}

/* 0 if the peer has mapped it; -EAGAIN while that is being settled. */
static int region_ask(struct pipe *p, struct mem_region *r, uint32_t *ret_id)
{
	uint64_t key;
	int rc = 0;

	if (unlikely(!mem_region_key(r, &p->pl->domain, &key))) {
		rc = mem_region_register(r, &p->pl->domain);
		if (rc < 0)
			return rc;
		(void)mem_region_key(r, &p->pl->domain, &key);
	}
	*ret_id = (uint32_t)key;
	for (unsigned i = 0; i < PIPE_REGIONS; i++) {
		if (p->shown[i].id != (uint32_t)key || p->shown[i].state == REGION_NONE)
			continue;
		if (likely(p->shown[i].state == REGION_OK))
			return 0;
		return p->shown[i].state == REGION_BAD ? -ENOSPC : -EAGAIN;
	}
	rc = region_show(p, r, (uint32_t)key);
	return rc < 0 ? rc : -EAGAIN;
}

/* --- regions: the peer's --- */

static void region_unmap(struct pipe *p, unsigned i)
{
	munmap(p->mapped[i].addr, p->mapped[i].len);
	p->mapped_bytes -= p->mapped[i].len;
	p->mapped[i].addr = NULL;
}

static int region_map(struct pipe *p, uint32_t id, uint64_t len, int fd)
{
	unsigned i, place = PIPE_REGIONS;
	void *at;
	int rc;

	for (i = 0; i < PIPE_REGIONS; i++) {
		if (!p->mapped[i].addr)
			place = MIN(place, i); /* the first: it is looked for from there */
		else if (p->mapped[i].id == id)
			return -EEXIST;
	}
	if (place == PIPE_REGIONS || len > PIPE_MAPPED_MAX - p->mapped_bytes)
		return -ENOSPC;
	rc = len ? pipe_fd_check(fd, len) : -EINVAL;
	if (rc < 0)
		return rc;
	at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	p->mapped[place].id = id;
	p->mapped[place].addr = at;
	p->mapped[place].len = len;
	p->mapped_bytes += len;
	return 0;
}

static int region_shown_by_peer(struct pipe *p, const struct pipe_frame *f, int fd)
{
	struct pipe_frame answer = {.type = PIPE_REGION_OK, .id = f->id};
	int rc;

	if (fd < 0)
		return -EPROTO;
	rc = region_map(p, le32_get(f->id), le64_get(f->value), fd);
	if (rc < 0) {
		answer.type = PIPE_REGION_BAD;
		answer.value = le64_make((uint64_t)-rc);
	}
	return pipe_frame_send(p, &answer, -1);
}

/* The peer has tried to map one of ours. */
static int region_answered(struct pipe *p, const struct pipe_frame *f)
{
	for (unsigned i = 0; i < PIPE_REGIONS; i++) {
		if (p->shown[i].state != REGION_SHOWN || p->shown[i].id != le32_get(f->id))
			continue;
		p->shown[i].state = f->type == PIPE_REGION_OK ? REGION_OK : REGION_BAD;
		if (p->shown[i].state == REGION_BAD)
			log_warn("%s: the peer can't map memory of ours: %s", p->c.peer.addr,
			         strerror((int)MIN(le64_get(f->value), 4095)));
		pipe_place_came(p);
		break; /* else: it has gone meanwhile */
	}
	return 0;
}

int pipe_region_frame(struct pipe *p, const struct pipe_frame *f, int fd)
{
	switch (le16_get(f->type)) {
	case PIPE_REGION:
		return region_shown_by_peer(p, f, fd);
	case PIPE_REGION_OK:
	case PIPE_REGION_BAD:
		return region_answered(p, f);
	case PIPE_REGION_GONE:
		for (unsigned i = 0; i < PIPE_REGIONS; i++) {
			if (p->mapped[i].addr && p->mapped[i].id == le32_get(f->id))
				region_unmap(p, i);
		}
		return 0;
	}
	return -EPROTO;
}

void pipe_regions_end(struct pipe *p)
{
	for (unsigned i = 0; i < PIPE_REGIONS; i++) {
		if (p->mapped[i].addr)
			region_unmap(p, i);
	}
}

/* --- windows --- */

/* w->priv: [0] the key, [1] the list, [2] slot and list were given back */
static unsigned window_slot(const struct chan_window *w)
{
	return w->priv[0] & 0xffff;
}

static uint64_t in_region(const struct mem_region *r, const void *at)
{
	return (uint64_t)((const char *)at - (const char *)r->addr);
}

static void list_write(struct pipe *p, const struct chan_window *w, uint32_t list)
{
	struct pipe_piece *piece = pipe_list(&p->out, list);
	unsigned n = 0;

	for (unsigned i = 0; i < w->iov_count; i++) {
		if (!w->iov[i].iov_len)
			continue;
		piece[n].addr = in_region(w->region, w->iov[i].iov_base);
		piece[n++].len = w->iov[i].iov_len;
	}
	if (n < PIPE_LIST_PIECES)
		piece[n].len = 0;
}

/* Writes the table's entry, its key last. */
static void slot_write(struct pipe *p, struct chan_window *w, uint64_t len, uint32_t region,
                       uint32_t list)
{
	unsigned slot = p->slots_free[p->windows_max - 1 - p->windows_count];
	struct pipe_slot *s = &p->out.box->slot[slot];
	uint64_t key = p->window_number++ << PIPE_KEY_COUNT_SHIFT |
	               (uint64_t)(w->rights & 3) << PIPE_KEY_RIGHTS_SHIFT | slot;

	p->windows_count++;
	s->addr = in_region(w->region, w->iov[0].iov_base);
	s->len = len;
	s->region = region;
	s->list = list;
	if (list != PIPE_LIST_NONE) {
		list_write(p, w, list);
		p->lists_free &= ~(1u << list);
	}
	atomic_store_explicit(&s->key, key, memory_order_release);
	w->priv[0] = key;
	w->priv[1] = list;
	w->desc = (struct fabric_desc){.key = key, .addr = s->addr, .len = len, .region = region};
}

/* Another try is due when a window closes, a transfer ends, or the peer has answered. */
static int place_wait(struct pipe *p)
{
	p->want_place = true;
	p->place_came = false;
	return -EAGAIN;
}

int pipe_window_open(struct chan *c, struct chan_window *w)
{
	struct pipe *p = container_of(c, struct pipe, c);
	uint32_t list = PIPE_LIST_NONE, id;
	uint64_t len;
	int rc;

	loop_assert(c->loop);
	if (unlikely(p->state != PIPE_UP))
		return p->state == PIPE_CONNECTING ? -ENOTCONN : p->status;
	if (unlikely(!w->region || w->region->fd < 0))
		return -ENOTSUP;
	len = iov_sum(w->iov, w->iov_count);
	if (unlikely(!len || !iov_inside(w->iov, w->iov_count, w->region)))
		return -EINVAL;
	if (unlikely(w->iov_count > PIPE_LIST_PIECES))
		return -E2BIG;
	if (unlikely(p->windows_count == p->windows_max))
		return place_wait(p);
	if (w->iov_count > 1) {
		if (!p->lists_free)
			return place_wait(p);
		list = (uint32_t)__builtin_ctz(p->lists_free);
	}
	rc = region_ask(p, w->region, &id);
	if (unlikely(rc < 0))
		return rc == -EAGAIN ? place_wait(p) : rc;
	slot_write(p, w, len, id, list);
	list_push(&p->windows, &w->link);
	return 0;
}

static void window_gone(struct pipe *p, struct chan_window *w)
{
	if (w->priv[1] != PIPE_LIST_NONE)
		p->lists_free |= 1u << w->priv[1];
	p->windows_count--;
	p->slots_free[p->windows_max - 1 - p->windows_count] = (uint16_t)window_slot(w);
	list_del(&w->link);
	pipe_place_came(p);
	w->closed(w);
}

/* Rule 4. */
static bool window_busy(const struct pipe *p, const struct chan_window *w)
{
	return atomic_load_explicit(&p->in.box->busy, memory_order_acquire) == w->priv[0];
}

void pipe_window_close(struct chan *c, struct chan_window *w)
{
	struct pipe *p = container_of(c, struct pipe, c);

	loop_assert(c->loop);
	atomic_store_explicit(&p->out.box->slot[window_slot(w)].key, 0, memory_order_relaxed);
	/* Pairs with the fence in window_enter() at the peer. */
	fence_full();
	if (likely(!window_busy(p, w))) {
		window_gone(p, w);
		return;
	}
	list_del(&w->link);
	list_push(&p->closing, &w->link);
	p->close_by_ns = loop_now(c->loop) + p->opts.dead_ns;
	pipe_activate(p);
}

/*
 * A peer that died is not busy: its mapping went before its socket did. One that hangs in the middle
 * of a copy is waited for as long as a silent peer is; a hostile one could have kept the memory
 * anyway.
 */
int pipe_windows_check(struct pipe *p)
{
	struct chan_window *w, *tmp;
	int count = 0;

	list_for_each_safe (w, tmp, &p->closing, link) {
		if (window_busy(p, w) && !(p->hung_up && !p->bye)) {
			if (loop_now(p->c.loop) < p->close_by_ns)
				continue;
			pipe_broken(p, -ETIMEDOUT);
		}
		window_gone(p, w);
		count++;
		break; /* closed() may have closed others: look again next time */
	}
	return count;
}

void pipe_windows_close_all(struct pipe *p)
{
	while (!list_empty(&p->windows))
		pipe_window_close(&p->c, list_first(&p->windows, struct chan_window, link));
}

/* --- transfers --- */

static uint8_t *region_at(const struct pipe *p, uint32_t id, uint64_t addr, uint64_t len)
{
	for (unsigned i = 0; i < PIPE_REGIONS; i++) {
		if (p->mapped[i].id != id || !p->mapped[i].addr)
			continue;
		if (addr > p->mapped[i].len || len > p->mapped[i].len - addr)
			return NULL;
		return p->mapped[i].addr + addr;
	}
	return NULL;
}

/* The pieces of the window's list as memory of this process. Everything is read once. */
static int list_read(const struct pipe *p, uint32_t list, uint32_t region, struct iovec *ret_iov,
                     uint32_t *ret_count)
{
	const volatile struct pipe_piece *piece;
	uint32_t n;

	if (list >= p->in.lists)
		return -EPROTO;
	piece = pipe_list(&p->in, list);
	for (n = 0; n < PIPE_LIST_PIECES; n++) {
		uint64_t addr = piece[n].addr, len = piece[n].len;

		if (!len)
			break;
		ret_iov[n].iov_base = region_at(p, region, addr, len);
		ret_iov[n].iov_len = len;
		if (!ret_iov[n].iov_base)
			return -EPROTO;
	}
	*ret_count = n;
	return 0;
}

static void copy_one(const struct chan_xfer *x, uint8_t *at, bool write)
{
	for (uint32_t i = 0; i < x->iov_count; i++) {
		if (write)
			memcpy(at, x->iov[i].iov_base, x->iov[i].iov_len);
		else
			memcpy(x->iov[i].iov_base, at, x->iov[i].iov_len);
		at += x->iov[i].iov_len;
	}
}

/* With the window held: its extent is the peer's word, the memory's is ours. */
static int copy_window(struct pipe *p, const struct chan_xfer *x,
                       const volatile struct pipe_slot *s, bool write)
{
	uint64_t addr = s->addr, len = s->len;
	uint32_t region = s->region, list = s->list, count;
	struct iovec iov[PIPE_LIST_PIECES];
	uint8_t *at;
	int rc;

	if (x->off > len || x->len > len - x->off)
		return -EACCES;
	if (likely(list == PIPE_LIST_NONE)) {
		if (addr + x->off < addr)
			return -EPROTO;
		at = region_at(p, region, addr + x->off, x->len);
		if (!at)
			return -EPROTO;
		copy_one(x, at, write);
		return 0;
	}
	rc = list_read(p, list, region, iov, &count);
	if (rc < 0)
		return rc;
	if (iov_sum(iov, count) != len)
		return -EPROTO;
	if (write)
		iov_move(iov, count, x->off, x->iov, x->iov_count, 0, x->len);
	else
		iov_move(x->iov, x->iov_count, 0, iov, count, x->off, x->len);
	return 0;
}

/* Rule 4: says that we are busy with the window, then looks whether it is (still) there. */
static struct pipe_slot *window_enter(struct pipe *p, uint64_t key, uint32_t right)
{
	uint32_t slot = key & 0xffff;
	struct pipe_slot *s = &p->in.box->slot[slot];

	if (slot >= p->in.windows || !(key >> PIPE_KEY_RIGHTS_SHIFT & right))
		return NULL;
	atomic_store_explicit(&p->out.box->busy, key, memory_order_relaxed);
	/* Pairs with the fence in pipe_window_close() at the peer. */
	fence_full();
	if (likely(atomic_load_explicit(&s->key, memory_order_acquire) == key))
		return s;
	atomic_store_explicit(&p->out.box->busy, 0, memory_order_release);
	return NULL;
}

static int xfer_now(struct pipe *p, const struct chan_xfer *x, bool write)
{
	struct pipe_slot *s =
	        window_enter(p, x->desc.key, write ? FABRIC_PEER_WRITES : FABRIC_PEER_READS);
	int rc;

	if (unlikely(!s))
		return -EACCES;
	rc = copy_window(p, x, s, write);
	/* Release: the copy is over for who sees this. */
	atomic_store_explicit(&p->out.box->busy, 0, memory_order_release);
	return rc;
}

static int xfer_start(struct chan *c, struct chan_xfer *x, bool write)
{
	struct pipe *p = container_of(c, struct pipe, c);
	int rc;

	loop_assert(c->loop);
	if (unlikely(p->state != PIPE_UP))
		return p->state == PIPE_CONNECTING ? -ENOTCONN : p->status;
	rc = fabric_xfer_check(x);
	if (unlikely(rc < 0))
		return rc;
	if (unlikely(p->xfers == c->xfers_max)) {
		return place_wait(p);
	}
	x->priv[0] = (uint64_t)(int64_t)xfer_now(p, x, write);
	p->xfers++;
	list_push(&p->finished, &x->link);
	pipe_activate(p);
	return 0;
}

int pipe_write(struct chan *c, struct chan_xfer *x)
{
	return xfer_start(c, x, true);
}

int pipe_read(struct chan *c, struct chan_xfer *x)
{
	return xfer_start(c, x, false);
}

int pipe_xfers_finish(struct pipe *p)
{
	struct list todo, *n;
	int count = 0;

	/* Those that done() starts wait for the next turn. */
	list_init(&todo);
	list_splice(&todo, &p->finished);
	while ((n = list_pop(&todo))) {
		struct chan_xfer *x = list_entry(n, struct chan_xfer, link);

		p->xfers--;
		count++;
		x->done(x, (int)(int64_t)x->priv[0]);
	}
	pipe_place_came(p);
	return count;
}
