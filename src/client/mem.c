/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mem - the application's registered buffers. The table is sorted by address and belongs to the
 * loop's thread, like the regions in it; each call finds the region of its buffer there, nearly
 * always at the place where the call before found its own.
 */
#include "client/client.h"

#include "wire/wire.h"

struct mem_call {
	size_t len;
	void *addr;
};

static int mem_add(struct pst_client *c, void *arg)
{
	struct mem_call *call = arg;
	struct mem_region *region;
	unsigned at = 0;
	int rc;

	if (c->mem_count == c->mem_max)
		return -ENOSPC;
	/* What a server may touch in place, where the channel is shared memory. */
	rc = mem_region_new(&region, store_is_remote(c->store) ? MEM_SHARED : MEM_HOST, call->len);
	if (rc < 0)
		return rc;
	call->addr = region->addr;
	while (at < c->mem_count && c->mem[at].begin < (uintptr_t)region->addr)
		at++;
	memmove(&c->mem[at + 1], &c->mem[at], (c->mem_count - at) * sizeof(*c->mem));
	c->mem[at].region = region;
	c->mem[at].begin = (uintptr_t)region->addr;
	c->mem[at].len = region->len_bytes;
	c->mem_count++;
	return 0;
}

static int mem_remove(struct pst_client *c, void *arg)
{
	struct mem_call *call = arg;

	for (unsigned i = 0; i < c->mem_count; i++) {
		if (c->mem[i].begin != (uintptr_t)call->addr)
			continue;
		mem_region_free(c->mem[i].region);
		c->mem_count--;
		memmove(&c->mem[i], &c->mem[i + 1], (c->mem_count - i) * sizeof(*c->mem));
		c->mem_last = 0;
		return 0;
	}
	return -EINVAL;
}

struct mem_region *client_mem_search(struct pst_client *c, uintptr_t addr, size_t len)
{
	unsigned lo = 0, hi = c->mem_count;

	while (lo < hi) { /* the last that begins at or before addr */
		unsigned mid = lo + (hi - lo) / 2;

		if (c->mem[mid].begin <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0 || !client_mem_holds(&c->mem[lo - 1], addr, len))
		return NULL;
	c->mem_last = lo - 1;
	return c->mem[lo - 1].region;
}

void client_mem_free_all(struct pst_client *c)
{
	for (unsigned i = 0; i < c->mem_count; i++)
		mem_region_free(c->mem[i].region);
	c->mem_count = 0;
	c->mem_last = 0;
}

int pst_mem_alloc(struct pst_client *client, size_t len_bytes, void **ret_addr)
{
	struct mem_call call = {.len = len_bytes};
	int rc = client_check(client);

	if (rc < 0)
		return rc;
	if (len_bytes == 0)
		return -EINVAL;
	rc = client_call(client, mem_add, &call);
	if (rc == 0)
		*ret_addr = call.addr;
	return rc;
}

int pst_mem_free(struct pst_client *client, void *addr)
{
	struct mem_call call = {.addr = addr};
	int rc = client_check(client);

	if (rc < 0 || !addr)
		return rc;
	return client_call(client, mem_remove, &call);
}
