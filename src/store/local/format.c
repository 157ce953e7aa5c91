/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * format - an empty store on devices, and the look before it at what they hold.
 */
#include <stdio.h>
#include <sys/stat.h>

#include <blkid/blkid.h>
#include <uuid/uuid.h>

#include "store/local/engine.h"

#define ZERO_CHUNK_BYTES MIB
#define PROBE_BYTES      (256 * KIB)

/* --- what is there --- */

/* The host's path of a device that libblkid can open, or NULL. */
static const char *host_path(const struct bdev *dev, char *buf, size_t len)
{
	const char *name = dev->info.name;
	struct stat st;
	size_t n;

	while (!strncmp(name, "uring:", 6) || !strncmp(name, "fault:", 6))
		name += 6;
	n = strcspn(name, "?");
	if (n >= len)
		return NULL;
	memcpy(buf, name, n);
	buf[n] = 0;
	return stat(buf, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) ? buf : NULL;
}

static int probe_blkid(const char *path, struct pst_err *err)
{
	blkid_probe pr = blkid_new_probe_from_filename(path);
	const char *what = NULL;
	int r;

	if (!pr)
		return 0; /* bdev_open() could, so this is not about permission: nothing to say */
	blkid_probe_enable_superblocks(pr, 1);
	blkid_probe_set_superblocks_flags(pr, BLKID_SUBLKS_TYPE);
	blkid_probe_enable_partitions(pr, 1);
	r = blkid_do_safeprobe(pr);
	if (r == 0 && blkid_probe_lookup_value(pr, "TYPE", &what, NULL) &&
	    blkid_probe_lookup_value(pr, "PTTYPE", &what, NULL))
		what = NULL;
	if (r == 0)
		r = err_set(err, -EEXIST, "%s holds something already: %s", path,
		            what ? what : "a signature that libblkid knows");
	else if (r == -2)
		r = err_set(err, -EEXIST,
		            "%s holds several things at once, as far as libblkid can tell", path);
	else
		r = 0;
	blkid_free_probe(pr);
	return r;
}

static const uint64_t super_places[SUPER_COPIES - 1] = {0, 8};

uint64_t super_place(unsigned copy, uint64_t dev_blocks)
{
	return copy < SUPER_COPIES - 1 ? super_places[copy] : dev_blocks - 1;
}

/* Zeroes at both ends, where nearly everything begins or ends that has no signature: an archive, a
 * text, an encrypted disk. */
static int probe_zeroes(struct bdev *dev, struct pst_err *err)
{
	uint64_t size = ALIGN_DOWN(dev->info.size_bytes, BLOCK_BYTES);
	size_t len = (size_t)MIN(size, PROBE_BYTES);
	uint8_t *buf = mem_alloc_aligned(BLOCK_BYTES, PROBE_BYTES);
	int r = 0;

	if (!buf)
		return err_set(err, -ENOMEM, "no memory to look at %s", dev->info.name);
	for (int end = 0; end < 2 && !r && len > 0; end++) {
		r = bdev_read_sync(dev, end ? size - len : 0, buf, len);
		if (r)
			r = err_set(err, r, "%s can't be read: %s", dev->info.name, strerror(-r));
		else if (buf[0] || memcmp(buf, buf + 1, len - 1))
			r = err_set(err, -EEXIST, "%s holds data that is not known here",
			            dev->info.name);
	}
	mem_free(buf);
	return r;
}

int local_probe(struct bdev *dev, struct pst_err *err)
{
	char path[512];
	uint8_t *block = mem_alloc_aligned(BLOCK_BYTES, BLOCK_BYTES);
	uint64_t blocks = dev->info.size_bytes >> BLOCK_SHIFT;
	int r = 0;

	if (!block)
		return err_set(err, -ENOMEM, "no memory to look at %s", dev->info.name);
	for (unsigned i = 0; i < SUPER_COPIES && !r && blocks > 8; i++) {
		r = bdev_read_sync(dev, super_place(i, blocks) << BLOCK_SHIFT, block, BLOCK_BYTES);
		if (r)
			r = err_set(err, r, "%s can't be read: %s", dev->info.name, strerror(-r));
		else if (!memcmp(block, SUPER_MAGIC, 8))
			r = err_set(err, -EEXIST, "%s holds a Penstock store already",
			            dev->info.name);
	}
	mem_free(block);
	if (!r && host_path(dev, path, sizeof(path)))
		r = probe_blkid(path, err);
	return r ? r : probe_zeroes(dev, err);
}

/* --- the layout --- */

struct layout {
	struct media_super super;
	uint64_t used_blocks; /* headers, logs and checksum pages end here */
};

static uint64_t pow2_at_most(uint64_t n)
{
	uint64_t p = 1;

	while (2 * p <= n)
		p *= 2;
	return p;
}

static uint32_t default_shards(uint64_t bytes)
{
	if (bytes < GIB)
		return 1;
	return bytes < 64 * GIB ? 4 : 16;
}

static int layout_make(struct layout *lay, uint64_t dev_blocks, unsigned count,
                       const struct local_format_opts *o, struct pst_err *err)
{
	struct media_super *s = &lay->super;
	uint64_t total = dev_blocks * count, region, log, at, csum_pages, regions, csum_per;
	uint32_t shards = o->shards ? o->shards : default_shards(total << BLOCK_SHIFT);

	if (dev_blocks < LOCAL_DEVICE_MIN_BYTES >> BLOCK_SHIFT)
		return err_set(err, -EINVAL, "a device needs at least %llu MiB",
		               (unsigned long long)(LOCAL_DEVICE_MIN_BYTES / MIB));
	if (dev_blocks > LOCAL_DEVICE_MAX_BYTES >> BLOCK_SHIFT)
		return err_set(err, -EFBIG, "a device has at most %llu PiB",
		               (unsigned long long)(LOCAL_DEVICE_MAX_BYTES >> 50));
	if (shards > SHARDS_MAX)
		return err_set(err, -EINVAL, "at most %u shards, not %u", SHARDS_MAX, shards);
	region = o->region_bytes ? o->region_bytes >> BLOCK_SHIFT : dev_blocks / 256;
	region = MIN(MAX(pow2_at_most(region), 64), 16384);
	log = (o->journal_bytes ? o->journal_bytes : MIN((total << BLOCK_SHIFT) / 32, 4 * GIB)) >>
	      BLOCK_SHIFT;
	log = MAX(log / shards, 256);
	log = MIN(log, 1ull << 30);
	at = 16;
	s->header_start = le64_make(at);
	at += 2ull * shards;
	s->log_start = le64_make(at);
	at += shards * log;
	if (at + 2 * region >= dev_blocks)
		return err_set(err, -EINVAL,
		               "a journal of %llu MiB leaves no room on devices of %llu MiB",
		               (unsigned long long)(shards * log * BLOCK_BYTES / MIB),
		               (unsigned long long)(dev_blocks * BLOCK_BYTES / MIB));
	csum_per = DIV_ROUND_UP(region * count, CSUMS_PER_PAGE);
	regions = (dev_blocks - 1 - at) / (region + 2 * csum_per);
	csum_pages = regions * csum_per;
	if (regions < 8)
		return err_set(err, -EINVAL,
		               "the devices are too small for a journal of %llu MiB and regions of "
		               "%llu KiB",
		               (unsigned long long)(shards * log * BLOCK_BYTES / MIB),
		               (unsigned long long)(region * BLOCK_BYTES / KIB));
	s->csum_start = le64_make(at);
	lay->used_blocks = at + 2 * csum_pages;
	s->data_start = le64_make(lay->used_blocks);
	s->csum_pages = le64_make(csum_pages);
	s->region_blocks = le64_make(region);
	s->regions = le64_make(regions);
	s->log_blocks = le64_make(log);
	s->shards = le32_make(shards);
	s->stripe_blocks = le32_make((uint32_t)MIN(256, region / 4));
	s->dev_blocks = le64_make(dev_blocks);
	s->dev_count = le32_make(count);
	s->version = le32_make(MEDIA_VERSION);
	s->block_bytes = le32_make(BLOCK_BYTES);
	s->roles = le32_make(ROLE_ALL);
	if (o->label && strlen(o->label) >= sizeof(s->label))
		return err_set(err, -EINVAL, "a label has at most %zu bytes", sizeof(s->label) - 1);
	if (o->label)
		(void)snprintf((char *)s->label, sizeof(s->label), "%s", o->label);
	return 0;
}

static void random_bytes(struct rng *rng, uint8_t *p, size_t len)
{
	uuid_t u;

	for (size_t i = 0; i < len; i++) {
		if (!rng && i % sizeof(u) == 0)
			uuid_generate(u);
		p[i] = rng ? (uint8_t)rng_next(rng) : u[i % sizeof(u)];
	}
}

/* --- writing it --- */

static int zero_range(struct bdev *dev, uint64_t block, uint64_t blocks, const uint8_t *zeros)
{
	int err = 0;

	while (blocks && !err) {
		uint64_t n = MIN(blocks, ZERO_CHUNK_BYTES >> BLOCK_SHIFT);

		err = bdev_write_sync(dev, block << BLOCK_SHIFT, zeros, n << BLOCK_SHIFT, 0);
		block += n;
		blocks -= n;
	}
	return err;
}

static int write_headers(struct bdev *dev, const struct media_super *s, uint8_t *block)
{
	int err = 0;

	for (uint32_t i = 0; i < le32_get(s->shards) && !err; i++) {
		struct media_header *h = (void *)block;

		memset(h, 0, sizeof(*h));
		memcpy(h->store_uuid, s->store_uuid, sizeof(h->store_uuid));
		h->shard = le32_make(i);
		h->gen = le64_make(1);
		h->epoch = le64_make(1);
		h->time_ns = s->ctime_ns;
		h->next_cont = le64_make(1);
		h->clean = le32_make(1);
		header_seal(h);
		err = bdev_write_sync(dev,
		                      (le64_get(s->header_start) + 2ull * i + 1) << BLOCK_SHIFT, h,
		                      BLOCK_BYTES, 0);
	}
	return err;
}

/* Old superblocks go first and new ones come last: an interrupted format leaves no store. */
static int format_one(struct bdev *dev, const struct layout *lay, unsigned index, struct rng *rng,
                      uint8_t *buf)
{
	struct media_super *s = (void *)buf;
	uint64_t blocks = le64_get(lay->super.dev_blocks);
	const uint8_t *zeros = buf + BLOCK_BYTES;
	int err = zero_range(dev, 0, lay->used_blocks, zeros);

	if (!err)
		err = zero_range(dev, blocks - 1, 1, zeros);
	if (!err && dev->info.size_bytes >> BLOCK_SHIFT != blocks)
		err = zero_range(dev, (dev->info.size_bytes >> BLOCK_SHIFT) - 1, 1, zeros);
	if (!err)
		err = write_headers(dev, &lay->super, buf);
	if (!err)
		err = bdev_flush_sync(dev);
	*s = lay->super;
	s->dev_index = le32_make(index);
	random_bytes(rng, s->dev_uuid, sizeof(s->dev_uuid));
	super_seal(s);
	for (unsigned i = 0; i < SUPER_COPIES && !err; i++)
		err = bdev_write_sync(dev, super_place(i, blocks) << BLOCK_SHIFT, s, BLOCK_BYTES,
		                      0);
	return err ? err : bdev_flush_sync(dev);
}

int local_format(struct bdev *const *devs, unsigned count, const struct local_format_opts *opts,
                 struct pst_err *err)
{
	static const struct local_format_opts none;
	struct layout lay = {0};
	uint64_t blocks = UINT64_MAX;
	uint8_t *buf;
	int r = 0;

	if (!opts)
		opts = &none;
	if (!count || count > PST_DEVICES_MAX)
		return err_set(err, -EINVAL, "a store has 1 to %d devices, not %u", PST_DEVICES_MAX,
		               count);
	for (unsigned i = 0; i < count && !r; i++) {
		blocks = MIN(blocks, devs[i]->info.size_bytes >> BLOCK_SHIFT);
		if (!opts->force)
			r = local_probe(devs[i], err);
	}
	if (!r)
		r = layout_make(&lay, blocks, count, opts, err);
	if (r)
		return r;
	random_bytes(opts->rng, lay.super.store_uuid, sizeof(lay.super.store_uuid));
	random_bytes(opts->rng, (uint8_t *)&lay.super.log_id, sizeof(lay.super.log_id));
	lay.super.ctime_ns = le64_make(loop_real_now(devs[0]->loop));
	buf = mem_alloc_aligned(BLOCK_BYTES, BLOCK_BYTES + ZERO_CHUNK_BYTES);
	if (!buf)
		return err_set(err, -ENOMEM, "no memory to format");
	for (unsigned i = 0; i < count && !r; i++) {
		r = format_one(devs[i], &lay, i, opts->rng, buf);
		if (r)
			err_set(err, r, "%s can't be written: %s", devs[i]->info.name,
			        strerror(-r));
		memset(buf, 0, BLOCK_BYTES);
	}
	mem_free(buf);
	return r;
}

/* --- finding the devices of a store --- */

static int super_read(struct bdev *dev, struct media_super *ret_s, struct pst_err *err)
{
	uint8_t *block = mem_alloc_aligned(BLOCK_BYTES, BLOCK_BYTES);
	uint64_t blocks = dev->info.size_bytes >> BLOCK_SHIFT;
	struct pst_err first = {0}, e;
	int r = -ENODATA, worst = 0;

	if (!block)
		return err_set(err, -ENOMEM, "no memory to open the store");
	for (unsigned i = 0; i < SUPER_COPIES && blocks > 16; i++) {
		r = bdev_read_sync(dev, super_place(i, blocks) << BLOCK_SHIFT, block, BLOCK_BYTES);
		if (r)
			err_set(&e, r, "%s can't be read: %s", dev->info.name, strerror(-r));
		else
			r = super_check(block, &e, dev->info.name);
		if (!r)
			break;
		/* A damaged or newer copy says more than one that is not there. */
		if (!worst || worst == -ENODATA) {
			worst = r;
			first = e;
		}
	}
	if (!r)
		memcpy(ret_s, block, sizeof(*ret_s));
	else if (worst)
		r = err_set(err, worst, "%s", first.text);
	else
		r = err_set(err, -ENODATA, "%s is too small to hold a store", dev->info.name);
	mem_free(block);
	return r;
}

/* All devices of a store have one layout: everything from the number of devices on, but the roles.
 */
static bool same_layout(const struct media_super *a, const struct media_super *b)
{
	size_t from = offsetof(struct media_super, dev_count);

	return !memcmp((const uint8_t *)a + from, (const uint8_t *)b + from, sizeof(*a) - from);
}

int devices_identify(struct local *l, struct bdev *const *devs, unsigned count, struct pst_err *err)
{
	struct media_super *s;
	int r = 0;

	if (!count || count > PST_DEVICES_MAX)
		return err_set(err, -EINVAL, "a store has 1 to %d devices", PST_DEVICES_MAX);
	s = mem_alloc(sizeof(*s));
	if (!s)
		return err_set(err, -ENOMEM, "no memory to open the store");
	for (unsigned i = 0; i < count && !r; i++) {
		uint32_t index;

		r = super_read(devs[i], s, err);
		if (r)
			break;
		if (i == 0)
			l->super = *s;
		index = le32_get(s->dev_index);
		if (memcmp(s->store_uuid, l->super.store_uuid, sizeof(s->store_uuid)))
			r = err_set(err, -ENXIO, "%s belongs to another store than %s",
			            devs[i]->info.name, devs[0]->info.name);
		else if (!same_layout(s, &l->super))
			r = err_set(err, -EBADMSG, "the superblocks of %s and %s disagree",
			            devs[i]->info.name, devs[0]->info.name);
		else
			r = geometry_from_super(&l->geo, s, devs[i]->info.size_bytes, err);
		if (r)
			break;
		if (l->dev[index])
			r = err_set(err, -ENXIO, "%s and %s are the same device of the store",
			            devs[i]->info.name, l->dev[index]->info.name);
		l->dev[index] = devs[i];
		l->mem_align = MAX(l->mem_align, MAX(devs[i]->info.mem_align, 1));
		if (le64_get(s->feat_ro) & ~MEDIA_RO_KNOWN && !l->opts.read_only)
			r = err_set(err, -EPROTONOSUPPORT,
			            "%s: a newer program wrote this store; it can only be read",
			            devs[i]->info.name);
	}
	if (!r && count != l->geo.devs)
		r = err_set(err, -ENXIO, "the store has %u devices, and %u %s given", l->geo.devs,
		            count, count == 1 ? "was" : "were");
	mem_free(s);
	if (r) /* nothing of the geometry was used yet */
		l->geo.shards = 0;
	return r;
}
