/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * subject_local - the local engine on memory behind fault devices, with the names layer on top in
 * some seeds. The memory outlives the stack, as flash does: a cut ends the stack and what the fault
 * devices decided to keep is found when they are opened again.
 */
#include <stdio.h>

#include "fs/fs.h"
#include "sim_int.h"
#include "store/local/local.h"
#include "store/local/media.h"

struct local_subject {
	struct rng rng; /* of what the devices do */
	enum local_plant plant;
	struct local_opts opts;
	unsigned damaged; /* the device whose metadata is damaged while the power is off */
	bool opened_before;
};

static struct local_subject *of(struct sim *sim)
{
	return sim->subject_priv;
}

/* --- devices --- */

static void dev_name(char buf[32], unsigned i)
{
	snprintf(buf, 32, "sim%u", i);
}

static struct bdev *raw_open(struct sim *sim, unsigned i)
{
	struct bdev_open_opts opts = {0};
	struct pst_err err;
	struct bdev *dev;
	char spec[80], name[32];

	dev_name(name, i);
	snprintf(spec, sizeof(spec), "mem:%llu?name=%s", (unsigned long long)sim->profile.dev_bytes,
	         name);
	if (bdev_open(&dev, spec, sim->loop, &opts, &err))
		sim_fail(sim, "%s: %s", spec, err.text);
	return dev;
}

static void devs_open(struct sim *sim, bool faulty)
{
	struct pst_err err;

	for (unsigned i = 0; i < sim->profile.devs; i++) {
		struct bdev *raw = raw_open(sim, i);

		if (!faulty)
			sim->dev[i] = raw;
		else if (fault_wrap(&sim->dev[i], raw, rng_next(&of(sim)->rng), &err))
			sim_fail(sim, "fault device: %s", err.text);
		/* A page cache's way: what is written is forced out by a flush. */
		sim->dev[i]->info.fua_flushes = faulty && sim->seed % 4 == 3;
	}
}

static void devs_close(struct sim *sim)
{
	for (unsigned i = 0; i < sim->profile.devs; i++) {
		bdev_close(sim->dev[i]);
		sim->dev[i] = NULL;
	}
}

static void devs_set(struct sim *sim, const char *name, const char *value)
{
	struct pst_err err;

	for (unsigned i = 0; i < sim->profile.devs; i++) {
		if (fault_set(sim->dev[i], name, value, &err))
			sim_fail(sim, "%s=%s: %s", name, value, err.text);
	}
}

/* A cut at one of the next @within writes or flushes of one device. */
static void strike_soon(struct sim *sim, uint64_t within)
{
	struct bdev *dev = sim->dev[rng_below(&of(sim)->rng, sim->profile.devs)];
	struct pst_err err;
	char value[32];

	snprintf(value, sizeof(value), "%llu",
	         (unsigned long long)(fault_mutations(dev) + 1 + rng_below(&of(sim)->rng, within)));
	if (fault_set(dev, "cut_after", value, &err))
		sim_fail(sim, "cut_after: %s", err.text);
}

static void l_stir(struct sim *sim)
{
	if (sim->profile.delays) {
		devs_set(sim, "delay_us", "50");
		devs_set(sim, "delay_jitter_us", "200");
	}
	if (sim->profile.read_faults) {
		devs_set(sim, "read_error", "0.01");
		devs_set(sim, "bit_flip", "0.01");
	}
	if (sim->profile.torn && sim->cuts_done < sim->cuts)
		strike_soon(sim, 1 + sim->ops_target);
}

static void l_calm(struct sim *sim)
{
	devs_set(sim, "delay_us", "0");
	devs_set(sim, "delay_jitter_us", "0");
	devs_set(sim, "read_error", "0");
	devs_set(sim, "bit_flip", "0");
	devs_set(sim, "cut_after", "0");
}

static bool l_power_lost(struct sim *sim)
{
	for (unsigned i = 0; i < sim->profile.devs; i++) {
		if (sim->dev[i] && fault_is_cut(sim->dev[i]))
			return true;
	}
	return false;
}

/* --- damage to one copy of the metadata --- */

static void flip_or_wipe(struct sim *sim, struct bdev *dev, uint64_t block)
{
	struct rng *rng = &of(sim)->rng;
	uint8_t *buf = aligned_alloc(4096, 4096);
	uint64_t bit = rng_below(rng, 4096 * 8);

	if (!buf || bdev_read_sync(dev, block * BLOCK_BYTES, buf, BLOCK_BYTES))
		sim_fail(sim, "can't read block %llu", (unsigned long long)block);
	if (rng_below(rng, 2))
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	else
		memset(buf, (int)bit, BLOCK_BYTES);
	if (bdev_write_sync(dev, block * BLOCK_BYTES, buf, BLOCK_BYTES, BDEV_FUA))
		sim_fail(sim, "can't write block %llu", (unsigned long long)block);
	free(buf);
}

static void damage(struct sim *sim)
{
	struct rng *rng = &of(sim)->rng;
	struct bdev *dev = raw_open(sim, of(sim)->damaged);
	struct media_super *sb = aligned_alloc(4096, sizeof(*sb));
	uint64_t first, end;

	if (!sb || bdev_read_sync(dev, 0, sb, sizeof(*sb)))
		sim_fail(sim, "can't read the superblock");
	first = le64_get(sb->header_start);
	end = le64_get(sb->data_start);
	for (uint64_t n = 1 + rng_below(rng, 6); n; n--) {
		uint64_t log = le64_get(sb->log_start) + rng_below(rng, 24);

		flip_or_wipe(sim, dev,
		             rng_below(rng, 2) ? log : first + rng_below(rng, end - first));
	}
	free(sb);
	bdev_close(dev);
}

/* --- the subject --- */

static void opts_choose(struct sim *sim, struct local_opts *o)
{
	struct rng *rng = &of(sim)->rng;

	o->index_limit_bytes = 64 * MIB;
	o->csum_cache_bytes = rng_below(rng, 2) ? MIB : 16 * MIB;
	o->journal_cache_bytes = 16 * MIB;
	o->ops_max = 4 + (unsigned)rng_below(rng, 60);
	o->commits_max = 1 + (unsigned)rng_below(rng, 6);
	o->plant = of(sim)->plant;
}

static void l_format(struct sim *sim)
{
	struct local_subject *s = calloc(1, sizeof(*s));
	struct local_format_opts opts = {.force = true};
	struct pst_err err = {0};
	struct rng rng;

	pst_assert(s);
	sim->subject_priv = s;
	rng_seed(&s->rng, rng_next(&sim->rng));
	rng_seed(&rng, rng_next(&sim->rng));
	s->plant = sim->plant ? local_plant_by_name(sim->plant) : PLANT_NONE;
	s->damaged = (unsigned)rng_below(&s->rng, sim->profile.devs);
	opts_choose(sim, &s->opts);
	opts.shards = sim->profile.shards;
	opts.journal_bytes = sim->profile.journal_bytes;
	opts.rng = &rng;
	devs_open(sim, false);
	if (local_format(sim->dev, sim->profile.devs, &opts, &err))
		sim_fail(sim, "format: %s", err.text);
	devs_close(sim);
}

static int l_open(struct sim *sim, struct pst_err *err)
{
	struct local_subject *s = of(sim);
	struct loop *loops[SIM_REACTORS_MAX];
	struct store *local;
	bool hurt;
	int r;

	/*
	 * Damage, or a cut during recovery, not both: the tail of the log may be whole on one device
	 * only, and if that copy goes after a recovery has begun to act on it, nothing can help.
	 */
	hurt = sim->profile.mirror_damage && sim->lights_out && !sim->recovery_cut &&
	       !rng_below(&s->rng, 2);
	if (hurt)
		damage(sim);
	devs_open(sim, true);
	if (sim->lights_out && !hurt && !rng_below(&s->rng, 3))
		strike_soon(sim, 1 + rng_below(&s->rng, 100));
	for (unsigned i = 0; i < SIM_REACTORS_MAX; i++)
		loops[i] = sim->loop;
	r = local_open_on(&local, loops, MIN(sim->reactors, sim->profile.shards), sim->dev,
	                  sim->profile.devs, &s->opts, err);
	if (r)
		return r;
	sim->store = local;
	if (!sim->profile.names)
		return 0;
	r = fs_new(&sim->store, local, NULL, err);
	if (r)
		sim_fail(sim, "names layer: %s", err->text);
	return 0;
}

/* The devices fail, the stack notices, its ops end, and it is closed: which must not do harm. */
static void end_by_errors(struct sim *sim)
{
	while (sim->flying_unheard) {
		loop_turn(sim->loop, NSEC_PER_SEC);
		if (++sim->turns_idle > 100000)
			sim_fail(sim, "power is cut, and lane %u's op does not end: %s",
			         sim_stuck_lane(sim), sim_stuck_text(sim));
	}
	store_close(sim->store); /* its error says that it could not make things durable */
	for (unsigned i = 0; i < sim->profile.devs; i++)
		sim->dev[i] = NULL;
}

static void l_crash(struct sim *sim)
{
	for (unsigned i = 0; i < sim->profile.devs; i++)
		fault_cut(sim->dev[i]);
	if (!sim->store) {
		devs_close(sim); /* it was being opened */
		return;
	}
	if (sim->profile.names || rng_below(&of(sim)->rng, 2)) {
		end_by_errors(sim);
	} else {
		local_crash(sim->store);
		devs_close(sim);
	}
	sim->store = NULL;
}

static int l_close(struct sim *sim, struct pst_err *err)
{
	int r = store_close(sim->store);

	sim->store = NULL;
	for (unsigned i = 0; i < sim->profile.devs; i++)
		sim->dev[i] = NULL;
	return r ? err_set(err, r, "store_close: %d", r) : 0;
}

struct findings {
	unsigned count;
	char first[300];
};

static void finding(void *arg, const char *text, bool repaired)
{
	struct findings *f = arg;

	if (!f->count++)
		snprintf(f->first, sizeof(f->first), "%s", text);
}

static int l_fsck(struct sim *sim, struct pst_err *err)
{
	struct local_fsck_report report = {0};
	struct findings f = {0};
	struct local_fsck_opts opts = {.data = true, .finding = finding, .arg = &f};
	int r;

	if (sim->profile.mirror_damage)
		return 0; /* it would find it */
	devs_open(sim, false);
	r = local_fsck(sim->loop, sim->dev, sim->profile.devs, &opts, &report, err);
	devs_close(sim);
	if (!r && report.findings)
		r = err_set(err, -EUCLEAN, "%llu findings, the first: %s",
		            (unsigned long long)report.findings, f.first);
	return r;
}

static void l_forget(struct sim *sim)
{
	char name[32];

	for (unsigned i = 0; i < sim->profile.devs; i++) {
		dev_name(name, i);
		bdev_mem_forget(name);
	}
	free(sim->subject_priv);
}

static bool l_plant(const char *name)
{
	return local_plant_by_name(name) != PLANT_NONE;
}

const struct subject subject_local = {
        .name = "local",
        .names = true,
        .format = l_format,
        .open = l_open,
        .crash = l_crash,
        .close = l_close,
        .power_lost = l_power_lost,
        .fsck = l_fsck,
        .forget = l_forget,
        .stir = l_stir,
        .calm = l_calm,
        .plant = l_plant,
};
