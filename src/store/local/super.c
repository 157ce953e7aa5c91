/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * super - superblocks and shard headers: sealing them, and believing nothing that is not
 * consistent.
 */
#include "store/local/engine.h"

#define CRC_FROM(st, member) (offsetof(st, member) + sizeof(((st *)0)->member))

static uint32_t super_crc(const struct media_super *s)
{
	size_t from = CRC_FROM(struct media_super, crc);

	return crc32c(0, (const uint8_t *)s + from, sizeof(*s) - from);
}

void super_seal(struct media_super *s)
{
	memcpy(s->magic, SUPER_MAGIC, sizeof(s->magic));
	s->crc = le32_make(super_crc(s));
}

int super_check(const void *block, struct pst_err *err, const char *where)
{
	const struct media_super *s = block;

	if (memcmp(s->magic, SUPER_MAGIC, sizeof(s->magic)))
		return err_set(err, -ENODATA, "%s holds no Penstock store", where);
	/* The version comes before the checksum: a newer format may place it elsewhere. */
	if (le32_get(s->version) > MEDIA_VERSION)
		return err_set(err, -EPROTONOSUPPORT,
		               "%s holds a store of format version %u; this program knows up to %u",
		               where, le32_get(s->version), MEDIA_VERSION);
	if (le32_get(s->crc) != super_crc(s))
		return err_set(err, -EBADMSG, "%s: the superblock's checksum does not match",
		               where);
	if (le32_get(s->version) == 0)
		return err_set(err, -EBADMSG, "%s: the superblock has version 0", where);
	if (le64_get(s->feat_incompat) & ~MEDIA_INCOMPAT_KNOWN)
		return err_set(
		        err, -EPROTONOSUPPORT,
		        "%s holds a store with features that this program does not know (%#llx)",
		        where,
		        (unsigned long long)(le64_get(s->feat_incompat) & ~MEDIA_INCOMPAT_KNOWN));
	return 0;
}

static int geo_bad(struct pst_err *err, const char *what)
{
	return err_set(err, -EBADMSG, "the superblock's %s makes no sense", what);
}

/* Every field is bounded so that no later computation overflows or leaves the device. */
int geometry_from_super(struct geometry *g, const struct media_super *s, uint64_t dev_size_bytes,
                        struct pst_err *err)
{
	g->devs = le32_get(s->dev_count);
	g->stripe = le32_get(s->stripe_blocks);
	g->dev_blocks = le64_get(s->dev_blocks);
	g->header_start = le64_get(s->header_start);
	g->log_start = le64_get(s->log_start);
	g->log_blocks = le64_get(s->log_blocks);
	g->csum_start = le64_get(s->csum_start);
	g->csum_pages = le64_get(s->csum_pages);
	g->data_start = le64_get(s->data_start);
	g->region_blocks = le64_get(s->region_blocks);
	g->regions = le64_get(s->regions);
	g->shards = le32_get(s->shards);

	if (le32_get(s->block_bytes) != BLOCK_BYTES)
		return geo_bad(err, "block size");
	if (le32_get(s->roles) != ROLE_ALL)
		return err_set(err, -EPROTONOSUPPORT, "devices with roles are not supported yet");
	if (!g->devs || g->devs > PST_DEVICES_MAX || le32_get(s->dev_index) >= g->devs)
		return geo_bad(err, "device count");
	if (!g->shards || g->shards > SHARDS_MAX)
		return geo_bad(err, "shard count");
	if (g->dev_blocks > LOCAL_DEVICE_MAX_BYTES >> BLOCK_SHIFT || g->dev_blocks < 64)
		return geo_bad(err, "size");
	if (g->dev_blocks > dev_size_bytes >> BLOCK_SHIFT)
		return err_set(err, -EBADMSG,
		               "the store needs a device of %llu bytes and this one has %llu",
		               (unsigned long long)(g->dev_blocks << BLOCK_SHIFT),
		               (unsigned long long)dev_size_bytes);
	if (g->region_blocks < 16 || g->region_blocks > (1u << 20) || !g->regions ||
	    g->regions > g->dev_blocks / g->region_blocks)
		return geo_bad(err, "region size");
	if (!g->stripe || g->stripe > g->region_blocks || g->region_blocks % g->stripe)
		return geo_bad(err, "stripe unit");
	g->region_span = g->region_blocks * g->devs;
	g->csum_region_pages = (uint32_t)DIV_ROUND_UP(g->region_span, CSUMS_PER_PAGE);
	if (g->csum_pages != g->regions * g->csum_region_pages)
		return geo_bad(err, "number of checksum pages");
	if (g->log_blocks < 128 || g->log_blocks > (1ull << 32))
		return geo_bad(err, "log size");
	if (g->header_start < 16 || g->header_start > g->dev_blocks ||
	    g->log_start < g->header_start + 2ull * g->shards || g->log_start > g->dev_blocks ||
	    g->csum_start < g->log_start + g->shards * g->log_blocks ||
	    g->csum_start > g->dev_blocks || g->data_start < g->csum_start + 2 * g->csum_pages ||
	    g->data_start > g->dev_blocks ||
	    g->data_start + g->regions * g->region_blocks > g->dev_blocks - 1)
		return geo_bad(err, "layout");
	return 0;
}

static uint32_t header_crc(const struct media_header *h)
{
	size_t from = CRC_FROM(struct media_header, crc);

	return crc32c(0, (const uint8_t *)h + from, sizeof(*h) - from);
}

void header_seal(struct media_header *h)
{
	h->magic = le32_make(HEADER_MAGIC);
	h->crc = le32_make(header_crc(h));
}

bool header_ok(const struct media_header *h, const struct media_super *s, unsigned shard)
{
	return le32_get(h->magic) == HEADER_MAGIC && le32_get(h->crc) == header_crc(h) &&
	       !memcmp(h->store_uuid, s->store_uuid, sizeof(h->store_uuid)) &&
	       le32_get(h->shard) == shard;
}
