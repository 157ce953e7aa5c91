/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iov - lists of pieces of memory. The lists are short: a place in one is found from its beginning.
 */
#include "base/iov.h"

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

uint32_t iov_slice(const struct iovec *iov, uint32_t count, uint64_t off, uint64_t len,
                   struct iovec *ret, uint32_t max, uint64_t *ret_len)
{
	uint32_t n = 0;
	uint64_t got = 0;

	for (uint32_t i = 0; i < count && n < max && got < len; i++) {
		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		ret[n].iov_base = (char *)iov[i].iov_base + off;
		ret[n].iov_len = MIN(iov[i].iov_len - off, len - got);
		got += ret[n++].iov_len;
		off = 0;
	}
	*ret_len = got;
	return n;
}
