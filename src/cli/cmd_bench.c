/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench - lay data out, verify it, measure, verify again.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>

#include "base/base.h"
#include "cli/attr.h"
#include "cli/bench.h"
#include "cli/commands.h"

#define LAYOUT_MEMORY (16ull << 20)

enum {
	OPT_CONTAINER,
	OPT_RW,
	OPT_BS,
	OPT_IODEPTH,
	OPT_JOBS,
	OPT_SIZE,
	OPT_RUNTIME,
	OPT_OBJECTS,
	OPT_VERIFY,
	OPT_DURABILITY,
	OPT_MIX,
	OPT_SEED,
	OPT_KEEP,
	OPT_CREATE,
	OPT_OPS,
	OPT_NO_CHECKSUM,
	OPT_POLL,
};

static const struct cli_opt opts[] = {
        [OPT_CONTAINER] = {0, "container", "C", "where the data is laid out"},
        [OPT_RW] = {0, "rw", "read|write|randread|randwrite|randrw", "what is done (needed)"},
        [OPT_BS] = {0, "bs", "SIZE", "bytes of each call (4k)"},
        [OPT_IODEPTH] = {0, "iodepth", "N", "calls under way, of each job (32)"},
        [OPT_JOBS] = {0, "jobs", "N", "streams, all driven by one thread (1)"},
        [OPT_SIZE] = {0, "size", "SIZE", "of all data (1g)"},
        [OPT_RUNTIME] = {0, "runtime", "SECONDS", "of the measurement (10)"},
        [OPT_OBJECTS] = {0, "objects", "N", "that share the data (1)"},
        [OPT_VERIFY] = {0, "verify", NULL, "every read too, and all data after writing"},
        [OPT_DURABILITY] = {0, "durability", "durable|volatile",
                            "writes are durable on completion (default), or by a flush at the end"},
        [OPT_MIX] = {0, "read-percent", "N", "reads in randrw (50)"},
        [OPT_SEED] = {0, "seed", "N", "of data and offsets (1)"},
        [OPT_KEEP] = {0, "keep", NULL,
                      "leave the data there, for another run with the same options"},
        [OPT_CREATE] = {0, "create", NULL, "make the container, and destroy it afterwards"},
        [OPT_OPS] = {0, "ops", "N", "end after so many calls, if the runtime is not over before"},
        [OPT_NO_CHECKSUM] = {0, "no-checksum", NULL,
                             "don't have the store verify checksums of measured reads"},
        [OPT_POLL] = {0, "poll", NULL, "spin for completions, never sleep: takes a whole core"},
        {0, NULL, NULL, NULL},
};

/* --- options --- */

static int take_rw(struct cli *cli, const char *value, struct bench_params *p)
{
	static const struct {
		const char *name;
		bool reads, writes, random;
	} modes[] = {
	        {"read", true, false, false},    {"write", false, true, false},
	        {"randread", true, false, true}, {"randwrite", false, true, true},
	        {"randrw", true, true, true},
	};

	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		if (strcmp(modes[i].name, value) != 0)
			continue;
		p->rw = modes[i].name;
		p->reads = modes[i].reads;
		p->writes = modes[i].writes;
		p->random = modes[i].random;
		return 0;
	}
	cli_usage(cli, "--rw %s: read, write, randread, randwrite or randrw", value);
	return -1;
}

static int take_seconds(struct cli *cli, const char *value, double *ret_seconds)
{
	char *end;
	double s = strtod(value, &end);

	if (end == value || *end || !(s > 0 && s <= 86400)) {
		cli_usage(cli, "--runtime %s: not a number of seconds", value);
		return -1;
	}
	*ret_seconds = s;
	return 0;
}

static int take_durability(struct cli *cli, const char *value, bool *ret_volatile)
{
	*ret_volatile = strcmp(value, "volatile") == 0;
	if (*ret_volatile || strcmp(value, "durable") == 0)
		return 0;
	cli_usage(cli, "--durability %s: durable or volatile", value);
	return -1;
}

static int take(struct cli *cli, int opt, const char *value, struct bench_params *p)
{
	uint64_t n;
	int rc;

	switch (opt) {
	case OPT_CONTAINER:
		p->cont = value;
		return 0;
	case OPT_RW:
		return take_rw(cli, value, p);
	case OPT_BS:
		return cli_size(cli, "bs", value, &p->bs);
	case OPT_IODEPTH:
		return cli_number(cli, "iodepth", value, 1, 4096, &p->depth);
	case OPT_JOBS:
		return cli_number(cli, "jobs", value, 1, 64, &p->jobs);
	case OPT_SIZE:
		return cli_size(cli, "size", value, &p->size);
	case OPT_RUNTIME:
		return take_seconds(cli, value, &p->runtime_s);
	case OPT_OBJECTS:
		return cli_number(cli, "objects", value, 1, 1ull << 32, &p->objects);
	case OPT_VERIFY:
		p->verify = true;
		return 0;
	case OPT_DURABILITY:
		return take_durability(cli, value, &p->is_volatile);
	case OPT_MIX:
		rc = cli_number(cli, "read-percent", value, 0, 100, &n);
		p->read_percent = rc == 0 ? (unsigned)n : 0;
		return rc;
	case OPT_SEED:
		return cli_number(cli, "seed", value, 0, UINT64_MAX, &p->seed);
	case OPT_CREATE:
		p->create = true;
		return 0;
	case OPT_OPS:
		return cli_number(cli, "ops", value, 1, UINT64_MAX, &p->ops_max);
	case OPT_NO_CHECKSUM:
		p->no_checksum = true;
		return 0;
	case OPT_POLL:
		p->poll = true;
		return 0;
	default:
		p->keep = true;
		return 0;
	}
}

static int check(struct cli *cli, struct bench *b)
{
	struct bench_params *p = &b->p;

	if (!p->cont || !p->rw)
		return cli_usage(cli, "--container and --rw are needed");
	if (p->bs < BENCH_SECTOR || p->bs % BENCH_SECTOR || p->bs > PST_IO_MAX)
		return cli_usage(cli, "--bs: a multiple of 512, at most %u", PST_IO_MAX);
	b->blocks_per_object = p->size / p->objects / p->bs;
	if (b->blocks_per_object == 0)
		return cli_usage(cli, "--size: less than a block for each object");
	b->blocks = b->blocks_per_object * p->objects;
	if (b->blocks / p->jobs < 2 * p->depth)
		return cli_usage(cli, "--size: it takes twice as many blocks as calls under way");
	if (p->jobs * p->depth > PST_CQ_DEPTH_MAX)
		return cli_usage(cli, "--iodepth times --jobs: more than %d", PST_CQ_DEPTH_MAX);
	return CLI_OK;
}

/* --- results --- */

static json_t *lat_json(const struct hist *h)
{
	return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "min",
	                 h->count ? (double)h->min / 1e3 : 0.0, "mean", hist_mean(h) / 1e3, "p50",
	                 (double)hist_percentile(h, 0.5) / 1e3, "p90",
	                 (double)hist_percentile(h, 0.9) / 1e3, "p99",
	                 (double)hist_percentile(h, 0.99) / 1e3, "p999",
	                 (double)hist_percentile(h, 0.999) / 1e3, "p9999",
	                 (double)hist_percentile(h, 0.9999) / 1e3, "max", (double)h->max / 1e3);
}

static json_t *to_json(const struct bench *b)
{
	const struct bench_params *p = &b->p;
	const struct bench_results *r = b->r;
	double cpu = r->cpu_user_s + r->cpu_sys_s;
	json_t *o = json_object();

	json_set_text(o, "container", p->cont);
	json_object_update_new(
	        o,
	        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:I, s:I, s:I, s:f, s:f, s:f, "
	                  "s:f, "
	                  "s:f, s:f}",
	                  "rw", p->rw, "bs_bytes", (json_int_t)p->bs, "iodepth",
	                  (json_int_t)p->depth, "jobs", (json_int_t)p->jobs, "size_bytes",
	                  (json_int_t)(b->blocks * p->bs), "objects", (json_int_t)p->objects,
	                  "durability", p->is_volatile ? "volatile" : "durable", "seconds",
	                  r->seconds, "ops", (json_int_t)r->ops, "read_ops", (json_int_t)r->reads,
	                  "write_ops", (json_int_t)r->writes, "iops", (double)r->ops / r->seconds,
	                  "bytes_per_s", (double)r->bytes / r->seconds, "cpu_seconds", cpu,
	                  "cpu_user_seconds", r->cpu_user_s, "cpu_sys_seconds", r->cpu_sys_s,
	                  "cpu_us_per_op", r->ops ? cpu * 1e6 / (double)r->ops : 0.0));
	json_object_set_new(o, "cut_short", json_boolean(cli_cut_short()));
	json_object_set_new(o, "latency_us", lat_json(&r->lat));
	if (r->reads)
		json_object_set_new(o, "read_latency_us", lat_json(&r->read_lat));
	if (r->writes)
		json_object_set_new(o, "write_latency_us", lat_json(&r->write_lat));
	json_object_set_new(
	        o, "verified",
	        json_pack("{s:I, s:I, s:I, s:I, s:I}", "layout_bytes", (json_int_t)r->layout_bytes,
	                  "before_bytes", (json_int_t)r->verified_before_bytes, "read_ops",
	                  (json_int_t)r->verified_ops, "after_bytes",
	                  (json_int_t)r->verified_after_bytes, "errors", (json_int_t)r->errors));
	return o;
}

static void print_lat(const char *what, const struct hist *h)
{
	if (!h->count)
		return;
	printf("%-8s mean %.1f  p50 %.1f  p90 %.1f  p99 %.1f  p99.9 %.1f  max %.1f us\n", what,
	       hist_mean(h) / 1e3, (double)hist_percentile(h, 0.5) / 1e3,
	       (double)hist_percentile(h, 0.9) / 1e3, (double)hist_percentile(h, 0.99) / 1e3,
	       (double)hist_percentile(h, 0.999) / 1e3, (double)h->max / 1e3);
}

static void print_results(const struct bench *b)
{
	const struct bench_results *r = b->r;
	double cpu = r->cpu_user_s + r->cpu_sys_s;
	char bs[32], rate[32], before[32], after[32];

	printf("%s %s, depth %" PRIu64 ", %" PRIu64 " job%s%s: %" PRIu64 " ops in %.2f s\n",
	       b->p.rw, format_size(b->p.bs, bs, sizeof(bs)), b->p.depth, b->p.jobs,
	       PLURAL(b->p.jobs),
	       !b->p.writes       ? ""
	       : b->p.is_volatile ? ", volatile"
	                          : ", durable",
	       r->ops, r->seconds);
	printf("rate     %.0f ops/s, %s/s\n", (double)r->ops / r->seconds,
	       format_size((uint64_t)((double)r->bytes / r->seconds), rate, sizeof(rate)));
	print_lat("reads", &r->read_lat);
	print_lat("writes", &r->write_lat);
	printf("cpu      %.2f s user, %.2f s system, %.2f us per op\n", r->cpu_user_s, r->cpu_sys_s,
	       r->ops ? cpu * 1e6 / (double)r->ops : 0.0);
	printf("verified %s before, %" PRIu64 " reads, %s after\n",
	       format_size(r->verified_before_bytes, before, sizeof(before)), r->verified_ops,
	       format_size(r->verified_after_bytes, after, sizeof(after)));
}

/* --- the run --- */

static int run_phases(struct bench *b)
{
	int status = bench_layout(b);

	if (status == CLI_OK)
		status = bench_verify_all(b, "verifying", &b->r->verified_before_bytes);
	if (status == CLI_OK)
		status = bench_measure(b);
	if (status == CLI_OK && b->p.writes && b->p.verify)
		status = bench_verify_all(b, "verifying", &b->r->verified_after_bytes);
	return status;
}

static int run_open(struct bench *b)
{
	uint64_t calls = b->p.jobs * b->p.depth;
	void *memory;
	int rc;

	b->memory_bytes = MAX(calls * b->p.bs, MAX(LAYOUT_MEMORY, 16 * b->p.bs));
	b->generation = mem_calloc(b->blocks, sizeof(*b->generation));
	b->busy = mem_calloc(b->blocks, 1);
	if (!b->generation || !b->busy)
		return -ENOMEM;
	rc = pst_cq_new(&b->cq, b->cli->client, (uint32_t)MAX(calls, 16));
	if (rc < 0)
		return rc;
	rc = pst_mem_alloc(b->cli->client, b->memory_bytes, &memory);
	b->memory = rc == 0 ? memory : NULL;
	return rc;
}

static int bench_run(struct bench *b)
{
	struct cli_path path = {.path = ""};
	int rc, status;

	if (strlen(b->p.cont) >= sizeof(path.cont))
		return cli_usage(b->cli, "--container: the name is too long");
	strcpy(path.cont, b->p.cont);
	rc = b->p.create ? pst_cont_create(b->cli->client, b->p.cont, NULL) : 0;
	if (rc < 0)
		return cli_fail(b->cli, rc, "creating %s", b->p.cont);
	status = cli_path_open(b->cli, &path, &b->cont);
	if (status != CLI_OK)
		return status;
	rc = run_open(b);
	if (rc < 0)
		status = cli_fail(b->cli, rc, "memory for the run");
	else
		status = run_phases(b);
	if (rc == 0 && !b->p.keep && bench_remove(b) != CLI_OK)
		status = CLI_FAILED;
	if (b->memory)
		pst_mem_free(b->cli->client, b->memory);
	pst_cq_free(b->cq);
	pst_cont_close(b->cont);
	if (b->p.create && !b->p.keep) {
		rc = pst_cont_destroy(b->cli->client, b->p.cont);
		if (rc < 0)
			status = cli_fail(b->cli, rc, "destroying %s", b->p.cont);
	}
	mem_free(b->generation);
	mem_free(b->busy);
	return status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct bench b = {.cli = cli,
	                  .p = {.bs = 4096,
	                        .depth = 32,
	                        .jobs = 1,
	                        .size = 1ull << 30,
	                        .objects = 1,
	                        .runtime_s = 10,
	                        .read_percent = 50,
	                        .seed = 1}};
	const char *value;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0)
		if (take(cli, opt, value, &b.p) < 0)
			return CLI_USAGE;
	if (opt == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 0, 0);
	if (status == CLI_OK)
		status = check(cli, &b);
	if (status == CLI_OK)
		status = cli_open(cli, false);
	if (status != CLI_OK)
		return status;
	b.r = mem_calloc(1, sizeof(*b.r));
	if (!b.r)
		return cli_close(cli, cli_fail(cli, -ENOMEM, "memory"));
	bench_pattern_init(b.p.seed);
	status = bench_run(&b);
	if (status == CLI_OK && cli->json)
		status = cli_print_json(cli, to_json(&b));
	else if (status == CLI_OK)
		print_results(&b);
	mem_free(b.r);
	return cli_close(cli, status);
}

const struct cli_command cmd_bench = {
        .name = "bench",
        .args = "--container C --rw MODE [--bs SIZE] [--iodepth N] [--jobs N] [--size SIZE]\n"
                "      [--objects N] [--runtime SECONDS] [--verify] [--durability CLASS]",
        .summary = "Measure: operations per second, latencies, CPU time",
        .help = "Lays its data out in objects of its own, verifies every byte of it, and\n"
                "measures then: reading holes would measure nothing. The data names its place\n"
                "and its write, so that wrong, old and torn data is seen. It is removed\n"
                "afterwards (see --keep). SIGINT and SIGTERM end the measurement early: what was\n"
                "measured is told all the same.\n"
                "\n"
                "Examples:\n"
                "  penstock bench --container t --rw randread --bs 4k --iodepth 32\n"
                "  penstock -s local:mem:2g bench --container t --create --rw randwrite\n"
                "  penstock bench --container t --rw write --bs 1m --iodepth 8 --size 4g --verify\n"
                "  penstock bench --container t --rw randread --objects 1000000 --size 4g --json\n",
        .opts = opts,
        .flags = CLI_JSON | CLI_PROGRESS,
        .run = run,
};
