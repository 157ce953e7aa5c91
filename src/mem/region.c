/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Regions: where their memory comes from, and who has registered it. Memory that another process
 * will map is sealed first: a peer that could shrink it would kill us with SIGBUS at the next
 * touch.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem/mem.h"

#define HUGE_PAGE_BYTES (2 * MIB)
#define HUGE_PAGE_SHIFT 21
#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif

/* --- memory by kind: each sets addr (and fd), or returns a negative errno value --- */

static int map_private(struct mem_region *r, int extra_flags)
{
	void *p = mmap(NULL, r->len_bytes, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS | extra_flags, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	r->addr = p;
	return 0;
}

static int memfd_sealed(size_t len_bytes)
{
	int fd = memfd_create("penstock", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int rc;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)len_bytes) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

static int map_shared(struct mem_region *r)
{
	int fd = memfd_sealed(r->len_bytes), rc;
	void *p;

	if (fd < 0)
		return fd;
	p = mmap(NULL, r->len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		rc = -errno;
		close(fd);
		return rc;
	}
	r->addr = p;
	r->fd = fd;
	return 0;
}

static int map_by_kind(struct mem_region *r)
{
	switch (r->kind) {
	case MEM_HOST:
		return map_private(r, 0);
	case MEM_HUGE:
		return map_private(r, MAP_HUGETLB | (HUGE_PAGE_SHIFT << MAP_HUGE_SHIFT));
	case MEM_SHARED:
		return map_shared(r);
	}
	return -EINVAL;
}

/* --- regions --- */

int mem_region_new(struct mem_region **ret_region, enum mem_kind kind, size_t len_bytes)
{
	size_t page = kind == MEM_HUGE ? HUGE_PAGE_BYTES : (size_t)sysconf(_SC_PAGESIZE);
	struct mem_region *r;
	int rc;

	if (!len_bytes || len_bytes > PTRDIFF_MAX - page)
		return -EINVAL;
	r = mem_calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->kind = kind;
	r->len_bytes = ALIGN_UP(len_bytes, page);
	r->fd = -1;
	rc = map_by_kind(r);
	if (rc) {
		mem_free(r);
		return rc;
	}
	*ret_region = r;
	return 0;
}

int mem_region_wrap(struct mem_region **ret_region, void *addr, size_t len_bytes)
{
	struct mem_region *r;

	if (!addr || !len_bytes || (uintptr_t)addr + len_bytes < (uintptr_t)addr)
		return -EINVAL;
	r = mem_calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->kind = MEM_HOST;
	r->addr = addr;
	r->len_bytes = len_bytes;
	r->fd = -1;
	r->borrowed = true;
	*ret_region = r;
	return 0;
}

int mem_region_renew(struct mem_region *r)
{
	struct mem_region now = {.kind = MEM_SHARED, .len_bytes = r->len_bytes, .fd = -1};
	int rc = r->kind == MEM_SHARED ? map_shared(&now) : -EINVAL;

	if (rc)
		return rc;
	memcpy(now.addr, r->addr, r->len_bytes);
	if (mremap(now.addr, r->len_bytes, r->len_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, r->addr) ==
	    MAP_FAILED) {
		rc = -errno;
		munmap(now.addr, r->len_bytes);
		close(now.fd);
		return rc;
	}
	close(r->fd);
	r->fd = now.fd;
	return 0;
}

void mem_region_free(struct mem_region *r)
{
	if (!r)
		return;
	for (unsigned i = 0; i < MEM_DOMAINS_MAX; i++) {
		if (r->reg[i].domain)
			mem_region_unregister(r, r->reg[i].domain);
	}
	if (!r->borrowed)
		munmap(r->addr, r->len_bytes);
	if (r->fd >= 0)
		close(r->fd);
	mem_free(r);
}

/* --- registrations --- */

/* The slot that holds @d (NULL: a free one), or -1. */
static int slot_of(const struct mem_region *r, const struct mem_domain *d)
{
	for (int i = 0; i < MEM_DOMAINS_MAX; i++) {
		if (r->reg[i].domain == d)
			return i;
	}
	return -1;
}

int mem_region_register(struct mem_region *r, struct mem_domain *d)
{
	uint64_t key;
	int slot, rc;

	if (slot_of(r, d) >= 0)
		return 0;
	slot = slot_of(r, NULL);
	if (slot < 0)
		return -ENOSPC;
	rc = d->reg(d, r, &key);
	if (rc)
		return rc;
	r->reg[slot].domain = d;
	r->reg[slot].key = key;
	return 0;
}

void mem_region_unregister(struct mem_region *r, struct mem_domain *d)
{
	int slot = slot_of(r, d);

	if (slot < 0)
		return;
	r->reg[slot].domain = NULL;
	d->unreg(d, r, r->reg[slot].key);
}

bool mem_region_key(const struct mem_region *r, const struct mem_domain *d, uint64_t *ret_key)
{
	int slot = slot_of(r, d);

	if (slot < 0)
		return false;
	*ret_key = r->reg[slot].key;
	return true;
}
