/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The one door to the heap. Each thread counts what it asks for, and a test can have its n-th
 * request refused: the sweep "fail the 1st, 2nd, 3rd ... until it passes" visits every error path.
 */
#include "base/base.h"

#include <malloc.h>
#include <sys/mman.h>

#define MEM_HUGE_BYTES (2 * MIB)

static _Thread_local struct {
	uint64_t asked;
	uint64_t fail_at; /* 0: never */
	bool all_after;
} door;

static bool refused(void)
{
	uint64_t n = ++door.asked;

	if (likely(!door.fail_at))
		return false;
	return n == door.fail_at || (door.all_after && n > door.fail_at);
}

uint64_t mem_alloc_fail_at(uint64_t n, bool all_after)
{
	uint64_t asked = door.asked;

	door.asked = 0;
	door.fail_at = n;
	door.all_after = all_after;
	return asked;
}

void *mem_alloc(size_t len)
{
	return refused() ? NULL : malloc(len);
}

void *mem_calloc(size_t n, size_t len)
{
	return refused() ? NULL : calloc(n, len);
}

void *mem_realloc(void *p, size_t len)
{
	return refused() ? NULL : realloc(p, len);
}

void *mem_alloc_aligned(size_t align, size_t len)
{
	void *p;

	pst_assert(align && !(align & (align - 1)));
	if (refused() || posix_memalign(&p, MAX(align, sizeof(void *)), len))
		return NULL;
	memset(p, 0, len);
	return p;
}

void *mem_alloc_pages(size_t len)
{
	void *p;

	return refused() || posix_memalign(&p, 4096, len) ? NULL : p;
}

void *mem_alloc_slab(size_t len)
{
	size_t align = len >= MEM_HUGE_BYTES ? MEM_HUGE_BYTES : 4096;
	void *p;

	if (refused() || posix_memalign(&p, align, len))
		return NULL;
	/* A wish: without huge pages it is slower, and nothing else. */
	if (len >= MEM_HUGE_BYTES)
		(void)madvise(p, ALIGN_DOWN(len, MEM_HUGE_BYTES), MADV_HUGEPAGE);
	memset(p, 0, len);
	return p;
}

/* What a test looks for in blocks that are given back. */
static _Thread_local struct {
	const void *bytes;
	size_t len;
	uint64_t found;
} needle;

uint64_t mem_freed_with(const void *bytes, size_t len)
{
	uint64_t found = needle.found;

	needle.bytes = bytes;
	needle.len = len;
	needle.found = 0;
	return found;
}

void mem_free(void *p)
{
	if (unlikely(needle.bytes) && p &&
	    memmem(p, malloc_usable_size(p), needle.bytes, needle.len))
		needle.found++;
	free(p);
}

void mem_free_secret(void *p, size_t len)
{
	if (p)
		explicit_bzero(p, len);
	mem_free(p);
}
