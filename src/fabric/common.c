/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * common - what the providers share: the count of what lives on a loop, lists of memory, random
 * numbers.
 */
#include <sys/random.h>

#include "fabric/fabric_int.h"
#include "net/net.h"

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

/* --- lists of memory --- */

uint64_t iov_sum(const struct iovec *iov, uint32_t count)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (sum + iov[i].iov_len < sum)
			return UINT64_MAX;
		sum += iov[i].iov_len;
	}
	return sum;
}

/* A place in a list. */
struct place {
	const struct iovec *iov;
	uint32_t left; /* entries, this one included */
	size_t off;    /* in this entry */
};

static struct place place_at(const struct iovec *iov, uint32_t count, uint64_t off)
{
	struct place p = {.iov = iov, .left = count};

	while (p.left && off >= p.iov->iov_len) {
		off -= p.iov->iov_len;
		p.iov++;
		p.left--;
	}
	p.off = off;
	return p;
}

/* The bytes in one piece from here, @max at most; moves on. */
static void *place_take(struct place *p, uint64_t max, size_t *ret_len)
{
	void *at;

	while (p->left && p->off == p->iov->iov_len) {
		p->iov++;
		p->left--;
		p->off = 0;
	}
	pst_assert(p->left);
	at = (char *)p->iov->iov_base + p->off;
	*ret_len = MIN(max, p->iov->iov_len - p->off);
	p->off += *ret_len;
	return at;
}

void iov_gather(void *dst, const struct iovec *iov, uint32_t count, uint64_t off, uint64_t len)
{
	struct place p = place_at(iov, count, off);

	while (len) {
		size_t n;
		const void *src = place_take(&p, len, &n);

		memcpy(dst, src, n);
		dst = (char *)dst + n;
		len -= n;
	}
}

void iov_scatter(const struct iovec *iov, uint32_t count, uint64_t off, const void *src,
                 uint64_t len)
{
	struct place p = place_at(iov, count, off);

	while (len) {
		size_t n;
		void *dst = place_take(&p, len, &n);

		memcpy(dst, src, n);
		src = (const char *)src + n;
		len -= n;
	}
}

void iov_move(const struct iovec *to, uint32_t to_count, uint64_t to_off, const struct iovec *from,
              uint32_t from_count, uint64_t from_off, uint64_t len)
{
	struct place p = place_at(from, from_count, from_off);

	while (len) {
		size_t n;
		const void *src = place_take(&p, len, &n);

		iov_scatter(to, to_count, to_off, src, n);
		to_off += n;
		len -= n;
	}
}

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
