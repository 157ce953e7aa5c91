/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The store contract, on the local engine: on one device, on three, and on one that delays and
 * reorders completions; parted among reactors that share one loop, and among such that have threads of
 * their own. Reopening closes the devices too.
 */
#include <stdio.h>

#include "bdev/bdev.h"
#include "loop/thread.h"
#include "store/local/local.h"
#include "store_contract.h"

struct setup {
	const char *name;
	unsigned devs;
	const char *spec; /* with the device's number */
	struct local_format_opts format;
	struct local_opts opts;
	unsigned reactors; /* 0: one */
	bool threads;
};

#define REACTORS_MAX 4

static const struct setup setups[] = {
        {.name = "one", .devs = 1, .spec = "mem:256m?name=contract%u"},
        {.name = "three", .devs = 3, .spec = "mem:96m?name=contract%u"},
        {.name = "late",
         .devs = 2,
         .spec = "fault:mem:160m?name=contract%u&delay_us=20&delay_jitter_us=50&seed=7"},
        {.name = "small",
         .devs = 1,
         .spec = "mem:192m?name=contract%u",
         .format = {.shards = 3, .journal_bytes = 3 * MIB, .region_bytes = 256 * KIB},
         .opts = {.csum_cache_bytes = 256 * KIB, .journal_cache_bytes = MIB, .ops_max = 32}},
        {.name = "parted",
         .devs = 2,
         .spec = "fault:mem:160m?name=contract%u&delay_us=20&delay_jitter_us=50&seed=7",
         .format = {.shards = 5},
         .reactors = 3},
        {.name = "parted_small",
         .devs = 1,
         .spec = "mem:192m?name=contract%u",
         .format = {.shards = 3, .journal_bytes = 3 * MIB, .region_bytes = 256 * KIB},
         .opts = {.csum_cache_bytes = 256 * KIB, .journal_cache_bytes = MIB, .ops_max = 32},
         .reactors = 2},
        {.name = "threads",
         .devs = 2,
         .spec = "mem:160m?name=contract%u",
         .format = {.shards = 4},
         .reactors = 3,
         .threads = true},
};
static const struct setup *setup;
static struct loop_thread *thread[REACTORS_MAX];

static void open_store(struct contract_env *env, bool format)
{
	struct bdev *dev[PST_DEVICES_MAX];
	struct loop *loops[REACTORS_MAX];
	struct pst_err err = {0};

	for (unsigned i = 0; i < REACTORS_MAX; i++)
		loops[i] =
		        i && setup->threads && thread[i] ? loop_thread_loop(thread[i]) : env->loop;
	for (unsigned i = 0; i < setup->devs; i++) {
		char spec[128];

		(void)snprintf(spec, sizeof(spec), setup->spec, i);
		if (bdev_open(&dev[i], spec, env->loop, NULL, &err)) {
			(void)fprintf(stderr, "%s\n", err.text);
			abort();
		}
	}
	if ((format && local_format(dev, setup->devs, &setup->format, &err)) ||
	    local_open_on(&env->store, loops, MAX(setup->reactors, 1), dev, setup->devs,
	                  &setup->opts, &err)) {
		(void)fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

static void fresh(struct contract_env *env)
{
	struct loop_opts lo;

	for (unsigned i = 0; i < setup->devs; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "contract%u", i);
		bdev_mem_forget(name);
	}
	loop_opts_default(&lo);
	lo.sim = !setup->threads;
	lo.sim_start_ns = lo.sim ? NSEC_PER_SEC : 0;
	pst_assert(!loop_new(&env->loop, &lo, NULL));
	for (unsigned i = 1; setup->threads && i < setup->reactors; i++)
		pst_assert(!loop_thread_start(&thread[i], &lo, CORE_ANY, NULL));
	open_store(env, true);
}

static void reopen(struct contract_env *env)
{
	pst_assert(!store_close(env->store));
	open_store(env, false);
}

static void drop(struct contract_env *env)
{
	pst_assert(!store_close(env->store));
	for (unsigned i = 0; i < REACTORS_MAX; i++) {
		loop_thread_stop(thread[i]);
		thread[i] = NULL;
	}
	loop_free(env->loop);
}

static void log_to_stderr(void *arg, enum pst_log_level level, const char *line)
{
	(void)fprintf(stderr, "# %s\n", line);
}

int main(int argc, char **argv)
{
	char name[64];
	struct contract_factory f = {name, fresh, reopen, drop};

	pst_log_set(log_to_stderr, NULL, PST_LOG_WARN);
	for (size_t i = 0; i < ARRAY_LEN(setups); i++)
		if (argc > 1 && !strcmp(argv[1], setups[i].name))
			setup = &setups[i];
	if (!setup) {
		(void)fprintf(stderr,
		              "usage: %s one|three|late|small|parted|parted_small|threads\n",
		              argv[0]);
		return 2;
	}
	(void)snprintf(name, sizeof(name), "store contract: local, %s", setup->name);
	return store_contract_run(&f);
}
