/* SPDX-License-Identifier: BSD-3-Clause */
/* First fit over a sorted array: a device has tens of mappings, not thousands. */
#include "nvme/iova.h"

int iova_allow(struct iova_space *s, uint64_t first, uint64_t last)
{
	unsigned n = s->allowed_count;

	if (first > last || (n && first <= s->allowed[n - 1].last))
		return -EINVAL;
	if (last < IOVA_FIRST)
		return 0;
	if (n == IOVA_ALLOWED_MAX)
		return -ENOSPC;
	s->allowed[n] = (struct iova_range){.first = MAX(first, IOVA_FIRST), .last = last};
	s->allowed_count++;
	return 0;
}

static bool allowed(const struct iova_space *s, const struct iova_range *r)
{
	for (unsigned i = 0; i < s->allowed_count; i++) {
		if (s->allowed[i].first <= r->first && r->last <= s->allowed[i].last)
			return true;
	}
	return false;
}

bool iova_allows(const struct iova_space *s, const struct iova_space *other)
{
	for (size_t i = 0; i < other->used_count; i++) {
		if (!allowed(s, &other->used[i]))
			return false;
	}
	return true;
}

/* Room for @len between @from and @last (inclusive), aligned. */
static bool fits(uint64_t from, uint64_t last, uint64_t len, uint64_t align, uint64_t *ret_addr)
{
	uint64_t addr = ALIGN_UP(from, align);

	if (addr < from || addr > last || len - 1 > last - addr)
		return false;
	*ret_addr = addr;
	return true;
}

/* Where in @used something at *ret_addr would stand. */
static bool find(const struct iova_space *s, uint64_t len, uint64_t align, uint64_t *ret_addr,
                 size_t *ret_at)
{
	size_t at = 0;

	for (unsigned i = 0; i < s->allowed_count; i++) {
		const struct iova_range *a = &s->allowed[i];
		uint64_t from = a->first;

		for (; at < s->used_count && s->used[at].first <= a->last; at++) {
			const struct iova_range *u = &s->used[at];

			if (u->first > from && fits(from, u->first - 1, len, align, ret_addr))
				break;
			from = u->last + 1; /* 0 only behind the last address there is */
			if (!from)
				return false;
		}
		if (fits(from,
		         at < s->used_count && s->used[at].first <= a->last ? s->used[at].first - 1
		                                                            : a->last,
		         len, align, ret_addr)) {
			*ret_at = at;
			return true;
		}
	}
	return false;
}

static int grow(struct iova_space *s)
{
	size_t max = s->used_max ? 2 * s->used_max : 16;
	struct iova_range *used = mem_calloc(max, sizeof(*used));

	if (!used)
		return -ENOMEM;
	if (s->used_count)
		memcpy(used, s->used, s->used_count * sizeof(*used));
	mem_free(s->used);
	s->used = used;
	s->used_max = max;
	return 0;
}

int iova_take(struct iova_space *s, uint64_t len_bytes, uint64_t align, uint64_t *ret_addr)
{
	uint64_t addr;
	size_t at;

	if (!len_bytes || !find(s, len_bytes, align, &addr, &at))
		return -ENOSPC;
	if (s->used_count == s->used_max && grow(s))
		return -ENOMEM;
	memmove(s->used + at + 1, s->used + at, (s->used_count - at) * sizeof(*s->used));
	s->used[at] = (struct iova_range){.first = addr, .last = addr + (len_bytes - 1)};
	s->used_count++;
	*ret_addr = addr;
	return 0;
}

uint64_t iova_give(struct iova_space *s, uint64_t addr)
{
	for (size_t i = 0; i < s->used_count; i++) {
		uint64_t len = s->used[i].last - s->used[i].first + 1;

		if (s->used[i].first != addr)
			continue;
		s->used_count--;
		memmove(s->used + i, s->used + i + 1, (s->used_count - i) * sizeof(*s->used));
		return len;
	}
	return 0;
}

void iova_done(struct iova_space *s)
{
	mem_free(s->used);
	memset(s, 0, sizeof(*s));
}
