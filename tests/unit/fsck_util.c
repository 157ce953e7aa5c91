/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>

#include "fsck_util.h"

static void die(const struct fx *x, const char *what)
{
	(void)fprintf(stderr, "%s: %s\n", what, x->err.text);
	for (unsigned i = 0; i < x->texts; i++)
		(void)fprintf(stderr, "  found%s: %s\n", x->repaired[i] ? " and repaired" : "",
		              x->text[i]);
	abort();
}

void fx_format(struct fx *x, unsigned devs, unsigned mib, const struct local_format_opts *format)
{
	struct local_format_opts fo = {0};
	struct loop_opts lo;

	memset(x, 0, sizeof(*x));
	x->devs = devs;
	rng_seed(&x->rng, 7);
	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = NSEC_PER_SEC;
	if (loop_new(&x->loop, &lo, &x->err))
		die(x, "no loop");
	if (format)
		fo = *format;
	fo.rng = &x->rng;
	for (unsigned i = 0; i < devs; i++) {
		char spec[64];

		(void)snprintf(spec, sizeof(spec), "mem:%um", mib);
		if (bdev_open(&x->dev[i], spec, x->loop, NULL, &x->err))
			die(x, "no device");
	}
	if (local_format(x->dev, devs, &fo, &x->err))
		die(x, "format");
}

void fx_open(struct fx *x)
{
	if (local_open(&x->store, x->loop, x->dev, x->devs, &x->opts, &x->err))
		die(x, "open");
}

void fx_crash(struct fx *x)
{
	local_crash(x->store);
	x->store = NULL;
}

/* A close in peace would close the devices, which hold the store: what it does before that is a
 * checkpoint, so here it is one, and a crash that has nothing to lose. */
void fx_close(struct fx *x)
{
	struct local *l = local_of(x->store);

	if (ops_flush(x->store, 0))
		die(x, "flush");
	for (unsigned i = 0; i < l->geo.shards; i++) {
		uint64_t done = l->shard[i]->ckpt.gen;

		ckpt_want(l->shard[i]);
		for (unsigned n = 0; l->shard[i]->ckpt.gen == done; n++) {
			pst_assert(n < 100000);
			(void)loop_turn(x->loop, NSEC_PER_SEC);
		}
	}
	fx_crash(x);
}

void fx_done(struct fx *x)
{
	if (x->store)
		fx_crash(x);
	for (unsigned i = 0; i < x->devs; i++)
		bdev_close(x->dev[i]);
	loop_free(x->loop);
}

void fx_fill(struct fx *x, unsigned ops, unsigned oids)
{
	struct pst_oid oid[64];
	struct gen_scope scope = {.oids = oid,
	                          .oid_count = MIN(oids, 64),
	                          .span_bytes = 600000,
	                          .io_max_bytes = 150000,
	                          .value_max = 20000,
	                          .volatile_ok = true,
	                          .delete_weight = 1};

	for (unsigned i = 0; i < scope.oid_count; i++)
		oid[i] = oid_of(i + 1);
	if (ops_cont_open(x->store, "box", &x->cont) && ops_cont_create(x->store, "box", &x->cont))
		die(x, "no container");
	scope.cont = x->cont;
	for (unsigned i = 0; i < ops; i++) {
		struct gen_op *g = gen_op_new(&x->rng, &scope);

		(void)ops_run(x->store, &g->op);
		gen_op_free(g);
	}
}

static void finding(void *arg, const char *text, bool repaired)
{
	struct fx *x = arg;

	pst_assert(strlen(text) > 10);
	if (x->texts == FX_TEXTS)
		return;
	(void)snprintf(x->text[x->texts], sizeof(x->text[0]), "%s", text);
	x->repaired[x->texts++] = repaired;
}

int fx_fsck(struct fx *x, bool repair)
{
	struct local_fsck_opts o = {.repair = repair, .data = true, .finding = finding, .arg = x};

	x->texts = 0;
	x->err.text[0] = 0;
	memset(&x->rep, 0, sizeof(x->rep));
	return local_fsck(x->loop, x->dev, x->devs, &o, &x->rep, &x->err);
}

void fx_expect_clean(struct fx *x)
{
	if (fx_fsck(x, false) || x->rep.findings)
		die(x, "fsck should find nothing");
}

void fx_expect(struct fx *x, const char *part)
{
	for (unsigned i = 0; i < x->texts; i++)
		if (strstr(x->text[i], part))
			return;
	(void)fprintf(stderr, "no finding says '%s'\n", part);
	die(x, "findings");
}

void fx_read(struct fx *x, unsigned dev, uint64_t block, void *buf)
{
	if (bdev_read_sync(x->dev[dev], block << BLOCK_SHIFT, buf, BLOCK_BYTES))
		die(x, "read");
}

void fx_write(struct fx *x, unsigned dev, uint64_t block, const void *buf)
{
	if (bdev_write_sync(x->dev[dev], block << BLOCK_SHIFT, buf, BLOCK_BYTES, 0))
		die(x, "write");
}

void fx_flip(struct fx *x, unsigned dev, uint64_t block, unsigned byte)
{
	static _Alignas(4096) uint8_t buf[BLOCK_BYTES];

	fx_read(x, dev, block, buf);
	buf[byte % BLOCK_BYTES] ^= 0x10;
	fx_write(x, dev, block, buf);
}

void fx_geometry(struct fx *x, struct geometry *ret_geo, struct media_super *ret_super)
{
	static _Alignas(4096) uint8_t buf[BLOCK_BYTES];

	for (unsigned i = 0; i < SUPER_COPIES - 1; i++) {
		fx_read(x, 0, i * 8, buf);
		if (!super_check(buf, NULL, "") &&
		    !geometry_from_super(ret_geo, (void *)buf, x->dev[0]->info.size_bytes, NULL)) {
			memcpy(ret_super, buf, sizeof(*ret_super));
			return;
		}
	}
	die(x, "no superblock");
}

void fx_header(struct fx *x, unsigned shard, struct media_header *ret_h)
{
	static _Alignas(4096) struct media_header h;
	struct media_super s;
	struct geometry g;
	bool any = false;

	fx_geometry(x, &g, &s);
	for (unsigned k = 0; k < 2; k++) {
		fx_read(x, 0, g.header_start + 2ull * shard + k, &h);
		if (header_ok(&h, &s, shard) && (!any || le64_get(h.gen) > le64_get(ret_h->gen))) {
			*ret_h = h;
			any = true;
		}
	}
	pst_assert(any);
}
