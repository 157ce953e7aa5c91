/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck_util - a small local store on memory devices in simulated time, filled at random, damaged
 * byte by byte, and examined: for the tests of fsck.
 */
#ifndef TESTS_UNIT_FSCK_UTIL_H
#define TESTS_UNIT_FSCK_UTIL_H

#include "bdev/bdev.h"
#include "gen.h"
#include "ops.h"
#include "store/local/engine.h"

#define FX_TEXTS 64

struct fx {
	struct loop *loop;
	struct bdev *dev[PST_DEVICES_MAX];
	unsigned devs;
	struct store *store; /* NULL: closed */
	struct local_opts opts;
	struct rng rng;
	uint32_t cont; /* of fx_fill() */
	/* What fsck said last */
	struct local_fsck_report rep;
	struct pst_err err;
	unsigned texts;
	char text[FX_TEXTS][1024];
	bool repaired[FX_TEXTS];
};

/* Devices of @mib MiB each, formatted. */
void fx_format(struct fx *x, unsigned devs, unsigned mib, const struct local_format_opts *format);
void fx_open(struct fx *x);
void fx_close(struct fx *x); /* in peace */
void fx_crash(struct fx *x);
void fx_done(struct fx *x);
/* @ops random changes in container "box" (made at the first call), on @oids objects. */
void fx_fill(struct fx *x, unsigned ops, unsigned oids);
/* fsck, with data; the status of local_fsck(). */
int fx_fsck(struct fx *x, bool repair);
/* fsck must find nothing. */
void fx_expect_clean(struct fx *x);
/* Was there a finding whose text contains @part? Fails, with all of them, if not. */
void fx_expect(struct fx *x, const char *part);
/* Reads or flips bytes of a device's block. */
void fx_read(struct fx *x, unsigned dev, uint64_t block, void *buf);
void fx_write(struct fx *x, unsigned dev, uint64_t block, const void *buf);
void fx_flip(struct fx *x, unsigned dev, uint64_t block, unsigned byte);
/* The geometry, and the newest header of @shard: from the devices. */
void fx_geometry(struct fx *x, struct geometry *ret_geo, struct media_super *ret_super);
void fx_header(struct fx *x, unsigned shard, struct media_header *ret_h);

#endif
