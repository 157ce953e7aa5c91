/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_super - a superblock and a shard header as hostile devices hold them. The input: the
 * device's size in blocks (4 bytes), then bytes laid over a zeroed superblock, whose checksum is
 * made right. What geometry_from_super() accepts must lie on the device, all of it, in order.
 */
#include "store/local/engine.h"

#include "fuzz.h"

static void layout_holds(const struct geometry *g, uint64_t size_bytes)
{
	uint64_t blocks = size_bytes >> BLOCK_SHIFT;
	unsigned slot;

	pst_assert(g->devs >= 1 && g->devs <= PST_DEVICES_MAX);
	pst_assert(g->shards >= 1 && g->shards <= SHARDS_MAX);
	pst_assert(g->dev_blocks <= blocks);
	pst_assert(g->header_start + 2ull * g->shards <= g->log_start);
	pst_assert(g->log_start + g->shards * g->log_blocks <= g->csum_start);
	pst_assert(g->csum_start + 2 * g->csum_pages <= g->data_start);
	pst_assert(g->data_start + g->regions * g->region_blocks < g->dev_blocks);
	pst_assert(g->region_span <= UINT32_MAX && g->stripe && g->region_blocks % g->stripe == 0);
	for (uint64_t r = 0; r < MIN(g->regions, 3); r++)
		for (uint64_t in = 0; in < 3; in++) {
			uint64_t at = (g->regions - 1 - r) * g->region_span,
			         last = g->region_span - 1;

			pst_assert(geo_csum_page(g, at + last - in, &slot) < g->csum_pages);
			pst_assert(slot < CSUMS_PER_PAGE);
			pst_assert(geo_meta_block(g, at + g->region_blocks - 1 - in) <
			           g->dev_blocks - 1);
		}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct media_super s;
	static struct media_header h;
	struct pst_err err = {0};
	struct geometry g = {0};
	uint32_t blocks;

	if (size < sizeof(blocks))
		return 0;
	memcpy(&blocks, data, sizeof(blocks));
	data += sizeof(blocks);
	size -= sizeof(blocks);
	memset(&s, 0, sizeof(s));
	memcpy(&s, data, MIN(size, sizeof(s)));
	(void)super_check(&s, &err, "it"); /* as it came */
	super_seal(&s);
	if (!super_check(&s, &err, "it") &&
	    !geometry_from_super(&g, &s, (uint64_t)blocks << BLOCK_SHIFT, &err))
		layout_holds(&g, (uint64_t)blocks << BLOCK_SHIFT);
	memset(&h, 0, sizeof(h));
	memcpy(&h, data, MIN(size, sizeof(h)));
	(void)header_ok(&h, &s, 0);
	header_seal(&h);
	(void)header_ok(&h, &s, le32_get(h.shard));
	return 0;
}
