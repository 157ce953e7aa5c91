/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory regions as registered buffers: one mem_domain for each ring. The domain of the loop's ring
 * is shared by all devices on that loop (as a part of the loop), so that a region is registered
 * once however many devices it is used with.
 *
 * A region is registered when a request first uses it. The domain remembers what is registered, and
 * ends those registrations when its last device is closed.
 */
#include "bdev/uring.h"

struct uring_domain {
	struct mem_domain domain;
	struct loop_part part; /* linked only for the loop's ring */
	struct loop *loop;
	struct ring_slots *slots;
	unsigned users;
	bool shared;
	bool refused; /* the kernel takes no more: not asked again */
	struct mem_region *regions[RING_BUFFERS_MAX]; /* by first slot */
	/* The region used last, so that most requests need no search. */
	const struct mem_region *last;
	unsigned last_slot;
};

static const char domain_kind[] = "bdev/uring memory";

static int domain_reg(struct mem_domain *md, struct mem_region *r, uint64_t *ret_key)
{
	struct uring_domain *d = container_of(md, struct uring_domain, domain);
	unsigned first;
	int rc = ring_buffer_add(d->slots, r->addr, r->len_bytes, &first);

	if (rc < 0)
		return rc;
	d->regions[first] = r;
	*ret_key = first;
	return 0;
}

static void domain_unreg(struct mem_domain *md, struct mem_region *r, uint64_t key)
{
	struct uring_domain *d = container_of(md, struct uring_domain, domain);

	pst_assert(key < RING_BUFFERS_MAX && d->regions[key] == r);
	d->regions[key] = NULL;
	if (d->last == r)
		d->last = NULL;
	ring_buffer_del(d->slots, (unsigned)key, r->len_bytes);
}

int uring_domain_get(struct uring_domain **ret_domain, struct loop *loop, struct ring_slots *slots)
{
	const bool shared = slots == loop_ring_slots(loop);
	struct loop_part *part = shared ? loop_part_find(loop, domain_kind) : NULL;
	struct uring_domain *d;

	if (part) {
		d = container_of(part, struct uring_domain, part);
		d->users++;
		*ret_domain = d;
		return 0;
	}
	d = mem_calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->domain =
	        (struct mem_domain){.name = "io_uring", .reg = domain_reg, .unreg = domain_unreg};
	d->part.kind = domain_kind;
	d->loop = loop;
	d->slots = slots;
	d->users = 1;
	d->shared = shared;
	if (shared)
		loop_part_add(loop, &d->part);
	*ret_domain = d;
	return 0;
}

void uring_domain_put(struct uring_domain *d)
{
	if (!d || --d->users)
		return;
	for (unsigned i = 0; i < RING_BUFFERS_MAX; i++)
		if (d->regions[i])
			mem_region_unregister(d->regions[i], &d->domain);
	if (d->shared)
		loop_part_del(d->loop, &d->part);
	mem_free(d);
}

static bool domain_find(struct uring_domain *d, struct mem_region *r)
{
	uint64_t key;
	int rc;

	if (!mem_region_key(r, &d->domain, &key)) {
		if (d->refused)
			return false;
		rc = mem_region_register(r, &d->domain);
		if (rc < 0) {
			d->refused = true;
			log_warn("%zu bytes of memory can't be registered with io_uring (%s%s): "
			         "unregistered memory is used from now on, at a higher cost",
			         r->len_bytes, strerror(-rc),
			         rc == -ENOMEM ? "; see RLIMIT_MEMLOCK" : "");
			return false;
		}
		if (!mem_region_key(r, &d->domain, &key))
			return false;
	}
	d->last = r;
	d->last_slot = (unsigned)key;
	return true;
}

int uring_domain_buffer(struct uring_domain *d, struct mem_region *region, const void *addr,
                        size_t len)
{
	const size_t off = (size_t)((const char *)addr - (const char *)region->addr);
	const size_t last = off + len - 1;

	if (unlikely(region != d->last) && !domain_find(d, region))
		return -1;
	/* Outside the region, or across two buffers of it. */
	if (unlikely(off >= region->len_bytes || len > region->len_bytes - off ||
	             off >> RING_BUFFER_BYTES_SHIFT != last >> RING_BUFFER_BYTES_SHIFT))
		return -1;
	return (int)(d->last_slot + (off >> RING_BUFFER_BYTES_SHIFT));
}
