/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * perf - measure devices: options, and the results in words and as JSON.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <sched.h>

#include "cli/bench.h"
#include "cli/commands.h"
#include "cli/perf.h"

enum {
	OPT_RW,
	OPT_IOSIZE,
	OPT_QDEPTH,
	OPT_QUEUES,
	OPT_CPUS,
	OPT_BATCH,
	OPT_RUNTIME,
	OPT_MIX,
	OPT_VERIFY,
	OPT_PREPARE,
	OPT_RATE,
	OPT_SIZE,
	OPT_SEED,
	OPT_RESET,
	OPT_FORCE,
};

static const struct cli_opt opts[] = {
        [OPT_RW] = {0, "rw", "MODE", "read, write, randread, randwrite or randrw"},
        [OPT_IOSIZE] = {0, "iosize", "SIZE", "bytes of each command (4k)"},
        [OPT_QDEPTH] = {0, "qdepth", "N", "commands under way, of each queue (32)"},
        [OPT_QUEUES] = {0, "queues", "N", "queues of each device (1)"},
        [OPT_CPUS] = {0, "cpus", "LIST", "run only on these processors, as in 0-3,6 (any)"},
        [OPT_BATCH] = {0, "batch", "N", "commands for one ring of the doorbell (1)"},
        [OPT_RUNTIME] = {0, "runtime", "SECONDS", "of the measurement (10)"},
        [OPT_MIX] = {0, "mix", "N", "percent of reads in randrw (70)"},
        [OPT_VERIFY] = {0, "verify", NULL, "check what this run wrote: when read, and at the end"},
        [OPT_PREPARE] = {0, "prepare", NULL, "first write all of it, so that reads find data"},
        [OPT_RATE] = {0, "rate", "IOPS", "at most so many a second, of all devices (no limit)"},
        [OPT_SIZE] = {0, "size", "SIZE", "use only the beginning of each device"},
        [OPT_SEED] = {0, "seed", "N", "of data and places (1)"},
        [OPT_RESET] = {0, "reset-every", "MS",
                       "reset NVMe controllers so often while it runs, commands under way or not"},
        [OPT_FORCE] = {0, "force", NULL, "write to a device that holds data"},
        {0, NULL, NULL, NULL},
};

/* --- options --- */

static int take_rw(struct cli *cli, const char *value, struct perf_params *p)
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

/* "A", "A-B", separated by commas, into @set. False: it is not that. */
static bool parse_cpus(const char *list, cpu_set_t *set)
{
	CPU_ZERO(set);
	for (;;) {
		char *end;
		unsigned long first = strtoul(list, &end, 10), last = first;

		if (end == list || *list < '0' || *list > '9')
			return false;
		if (*end == '-') {
			list = end + 1;
			last = strtoul(list, &end, 10);
			if (end == list || *list < '0' || *list > '9')
				return false;
		}
		if (last < first || last >= CPU_SETSIZE || (*end && *end != ','))
			return false;
		for (unsigned long i = first; i <= last; i++)
			CPU_SET(i, set);
		if (!*end)
			return true;
		list = end + 1;
	}
}

/* Here and for what is started later: threads of the kernel's for our rings, a target's in this
 * process. */
static int take_cpus(struct cli *cli, const char *value)
{
	cpu_set_t set;

	if (!parse_cpus(value, &set))
		cli_usage(cli, "--cpus %s: not a list of processors, as 0-3,6", value);
	else if (sched_setaffinity(0, sizeof(set), &set))
		cli_usage(cli, "--cpus %s: %s", value,
		          errno == EINVAL ? "there is no such processor" : strerror(errno));
	else
		return 0;
	return -1;
}

static int take(struct cli *cli, int opt, const char *value, struct perf_params *p)
{
	switch (opt) {
	case OPT_RW:
		return take_rw(cli, value, p);
	case OPT_IOSIZE:
		return cli_size(cli, "iosize", value, &p->iosize);
	case OPT_QDEPTH:
		return cli_number(cli, "qdepth", value, 1, PST_NVME_ENTRIES_MAX - 1, &p->qdepth);
	case OPT_QUEUES:
		return cli_number(cli, "queues", value, 1, 64, &p->queues);
	case OPT_CPUS:
		return take_cpus(cli, value);
	case OPT_BATCH:
		return cli_number(cli, "batch", value, 1, PST_NVME_ENTRIES_MAX - 1, &p->batch);
	case OPT_RUNTIME:
		return take_seconds(cli, value, &p->runtime_s);
	case OPT_MIX:
		return cli_number(cli, "mix", value, 0, 100, &p->mix);
	case OPT_VERIFY:
		p->verify = true;
		return 0;
	case OPT_PREPARE:
		p->prepare = true;
		return 0;
	case OPT_RATE:
		return cli_number(cli, "rate", value, 1, UINT32_MAX, &p->rate);
	case OPT_SIZE:
		return cli_size(cli, "size", value, &p->size);
	case OPT_SEED:
		return cli_number(cli, "seed", value, 0, UINT64_MAX, &p->seed);
	case OPT_RESET:
		return cli_number(cli, "reset-every", value, 1, 3600000, &p->reset_ms);
	default:
		p->force = true;
		return 0;
	}
}

static int check(struct cli *cli, const struct perf_params *p)
{
	if (!p->rw)
		return cli_usage(cli, "--rw is needed");
	if (p->iosize < BENCH_SECTOR || p->iosize % BENCH_SECTOR || p->iosize > 64 * MIB)
		return cli_usage(cli, "--iosize: a multiple of 512, at most 64m");
	if (p->batch > p->qdepth)
		return cli_usage(cli, "--batch: more than --qdepth");
	if (p->verify && !p->writes && !p->prepare)
		return cli_usage(cli, "--verify of reads needs --prepare: it checks what it wrote");
	return CLI_OK;
}

/* --- results --- */

static double us(uint64_t ns)
{
	return (double)ns / 1e3;
}

static json_t *lat_json(const struct hist *h)
{
	json_t *buckets = json_array();

	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		if (h->bucket[i])
			json_array_append_new(buckets,
			                      json_pack("[I, I]", (json_int_t)hist_bucket_top(i),
			                                (json_int_t)h->bucket[i]));
	return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "count",
	                 (json_int_t)h->count, "min", h->count ? us(h->min) : 0.0, "mean",
	                 hist_mean(h) / 1e3, "p50", us(hist_percentile(h, 0.5)), "p90",
	                 us(hist_percentile(h, 0.9)), "p99", us(hist_percentile(h, 0.99)), "p999",
	                 us(hist_percentile(h, 0.999)), "p9999", us(hist_percentile(h, 0.9999)),
	                 "max", us(h->max), "histogram_ns", buckets);
}

static json_t *queue_json(const struct perf *perf, const struct perf_queue *q)
{
	uint64_t ios = q->read_lat.count + q->write_lat.count;
	json_t *o = json_pack("{s:i, s:I, s:f, s:f, s:I}", "queue", (int)q->index + 1, "ios",
	                      (json_int_t)ios, "iops", (double)ios / perf->seconds, "bytes_per_s",
	                      (double)ios * (double)perf->p.iosize / perf->seconds, "retries",
	                      (json_int_t)q->retries);

	if (q->read_lat.count)
		json_object_set_new(o, "read_latency_us", lat_json(&q->read_lat));
	if (q->write_lat.count)
		json_object_set_new(o, "write_latency_us", lat_json(&q->write_lat));
	return o;
}

static json_t *to_json(const struct perf *perf, const struct hist *reads, const struct hist *writes)
{
	const struct perf_params *p = &perf->p;
	uint64_t ios = reads->count + writes->count;
	double cpu = perf->cpu_user_s + perf->cpu_sys_s;
	json_t *devices = json_array();
	json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:I, s:f, s:f, s:f, s:f, s:I}", "rw",
	                      p->rw, "iosize_bytes", (json_int_t)p->iosize, "qdepth",
	                      (json_int_t)p->qdepth, "queues", (json_int_t)p->queues, "batch",
	                      (json_int_t)p->batch, "seconds", perf->seconds, "ios",
	                      (json_int_t)ios, "iops", (double)ios / perf->seconds, "bytes_per_s",
	                      (double)ios * (double)p->iosize / perf->seconds, "cpu_seconds", cpu,
	                      "cpu_us_per_io", ios ? cpu * 1e6 / (double)ios : 0.0, "errors",
	                      (json_int_t)perf->errors);

	json_object_set_new(o, "verified",
	                    json_pack("{s:b, s:I, s:I, s:I, s:I}", "asked", p->verify, "reads",
	                              (json_int_t)perf->verified, "prepared_bytes",
	                              (json_int_t)perf->prepared_bytes, "read_again_bytes",
	                              (json_int_t)perf->checked_bytes, "wrong",
	                              (json_int_t)perf->verify_errors));
	if (reads->count)
		json_object_set_new(o, "read_latency_us", lat_json(reads));
	if (writes->count)
		json_object_set_new(o, "write_latency_us", lat_json(writes));
	for (unsigned n = 0; n < perf->dev_count; n++) {
		json_t *queues = json_array();

		for (unsigned i = 0; i < p->queues; i++)
			json_array_append_new(queues, queue_json(perf, &perf->devs[n].queues[i]));
		json_array_append_new(
		        devices, json_pack("{s:s, s:s, s:o}", "device", perf->devs[n].name, "path",
		                           perf->devs[n].nvme ? "nvme" : "bdev", "queues", queues));
	}
	json_object_set_new(o, "devices", devices);
	if (p->reset_ms)
		json_object_set_new(o, "resets", json_integer((json_int_t)perf->resets));
	return o;
}

static void print_lat(const char *what, const struct hist *h)
{
	if (h->count)
		printf("%-8s mean %.1f  p50 %.1f  p90 %.1f  p99 %.1f  p99.9 %.1f  max %.1f us\n",
		       what, hist_mean(h) / 1e3, us(hist_percentile(h, 0.5)),
		       us(hist_percentile(h, 0.9)), us(hist_percentile(h, 0.99)),
		       us(hist_percentile(h, 0.999)), us(h->max));
}

static void print_queues(const struct perf *perf)
{
	printf("%-32s %5s %12s %10s %10s %10s\n", "device", "queue", "IOPS", "mean us", "p99 us",
	       "retries");
	for (unsigned n = 0; n < perf->dev_count; n++)
		for (unsigned i = 0; i < perf->p.queues; i++) {
			const struct perf_queue *q = &perf->devs[n].queues[i];
			struct hist all = q->read_lat;

			hist_merge(&all, &q->write_lat);
			printf("%-32s %5u %12.0f %10.1f %10.1f %10" PRIu64 "\n", perf->devs[n].name,
			       i + 1, (double)all.count / perf->seconds, hist_mean(&all) / 1e3,
			       us(hist_percentile(&all, 0.99)), q->retries);
		}
}

static void print_results(const struct perf *perf, const struct hist *reads,
                          const struct hist *writes)
{
	const struct perf_params *p = &perf->p;
	uint64_t ios = reads->count + writes->count;
	double cpu = perf->cpu_user_s + perf->cpu_sys_s;
	char size[32], rate[32], again[32];

	printf("%s %s, depth %" PRIu64 ", %" PRIu64 " queues, batch %" PRIu64 ": %" PRIu64
	       " in %.2f s\n",
	       p->rw, format_size(p->iosize, size, sizeof(size)), p->qdepth, p->queues, p->batch,
	       ios, perf->seconds);
	printf("rate     %.0f IOPS, %s/s\n", (double)ios / perf->seconds,
	       format_size((uint64_t)((double)ios * (double)p->iosize / perf->seconds), rate,
	                   sizeof(rate)));
	print_lat("reads", reads);
	print_lat("writes", writes);
	printf("cpu      %.2f s user, %.2f s system, %.3f us per I/O\n", perf->cpu_user_s,
	       perf->cpu_sys_s, ios ? cpu * 1e6 / (double)ios : 0.0);
	if (p->verify)
		printf("verified %" PRIu64 " reads, %s at the end, %" PRIu64 " wrong\n",
		       perf->verified, format_size(perf->checked_bytes, again, sizeof(again)),
		       perf->verify_errors);
	if (p->reset_ms)
		printf("resets   %" PRIu64 "\n", perf->resets);
	if (perf->dev_count * p->queues > 1)
		print_queues(perf);
}

static int results(struct perf *perf)
{
	struct hist *reads = mem_alloc(2 * sizeof(*reads)), *writes;
	int status = CLI_OK;

	if (!reads)
		return cli_fail(perf->cli, -ENOMEM, "the results");
	writes = reads + 1;
	hist_init(reads);
	hist_init(writes);
	for (unsigned n = 0; n < perf->dev_count; n++)
		for (unsigned i = 0; i < perf->p.queues; i++) {
			hist_merge(reads, &perf->devs[n].queues[i].read_lat);
			hist_merge(writes, &perf->devs[n].queues[i].write_lat);
		}
	if (perf->cli->json)
		status = cli_print_json(perf->cli, to_json(perf, reads, writes));
	else
		print_results(perf, reads, writes);
	mem_free(reads);
	return status;
}

/* --- the run --- */

static int run_devices(struct perf *perf, char **names)
{
	int status = CLI_OK, rc;

	perf->devs = mem_calloc(perf->dev_count, sizeof(*perf->devs));
	if (!perf->devs)
		return cli_fail(perf->cli, -ENOMEM, "memory");
	for (unsigned n = 0; n < perf->dev_count; n++) {
		perf->devs[n].perf = perf;
		perf->devs[n].index = n;
	}
	for (unsigned n = 0; n < perf->dev_count && status == CLI_OK; n++)
		status = perf_dev_open(&perf->devs[n], names[n]);
	if (status == CLI_OK) {
		status = perf_run(perf);
		rc = perf->seconds > 0 ? results(perf) : CLI_OK;
		status = status == CLI_OK ? rc : status;
	}
	for (unsigned n = 0; n < perf->dev_count; n++)
		perf_dev_close(&perf->devs[n]);
	loop_free(perf->loop);
	mem_free(perf->devs);
	return status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct perf perf = {.cli = cli,
	                    .p = {.iosize = 4096,
	                          .qdepth = 32,
	                          .queues = 1,
	                          .batch = 1,
	                          .runtime_s = 10,
	                          .mix = 70,
	                          .seed = 1}};
	const char *value;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0)
		if (take(cli, opt, value, &perf.p) < 0)
			return CLI_USAGE;
	if (opt == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 1, 64);
	if (status == CLI_OK)
		status = check(cli, &perf.p);
	if (status != CLI_OK)
		return status;
	bench_pattern_init(perf.p.seed);
	perf.dev_count = (unsigned)cli->arg_count;
	return run_devices(&perf, cli->args);
}

const struct cli_command cmd_perf = {
        .name = "perf",
        .args = "DEVICE... --rw MODE [--iosize SIZE] [--qdepth N] [--queues N] [--cpus LIST]\n"
                "      [--batch N] [--runtime SECONDS] [--mix N] [--verify] [--prepare] [--rate "
                "IOPS]",
        .summary = "Measure devices: IOPS, latencies, CPU time of each I/O",
        .help = "Measures devices below any store: files and block devices through io_uring, "
                "memory,\n"
                "and NVMe controllers. An nvme+ device is driven by its queues themselves, any\n"
                "other one by its requests; `penstock help devices` lists them.\n"
                "\n"
                "Every command has a buffer of its own and a place that may be anywhere on the\n"
                "device. One thread drives all devices and queues. The clock is read once for a\n"
                "batch, so that a latency is off by at most what a batch takes to be built.\n"
                "\n"
                "Writing destroys what the devices hold: one whose beginning is not empty is\n"
                "refused without --force. With --verify what was written is checked, when it is\n"
                "read during the run and once more at the end. Reading what was never written may\n"
                "measure nothing on some devices: --prepare writes all of it first.\n"
                "\n"
                "Examples:\n"
                "  penstock perf nvme+loop:null:1t --rw randread --iosize 512 --qdepth 128 --batch "
                "32\n"
                "  penstock perf /dev/nvme1n1 --rw randread --qdepth 64 --json\n"
                "  penstock perf scratch.img --rw randrw --mix 70 --verify --size 256m --force\n"
                "  penstock perf nvme+loop:mem:64m --rw randwrite --queues 4 --rate 100000\n",
        .opts = opts,
        .flags = CLI_JSON | CLI_PROGRESS | CLI_NO_STORE,
        .run = run,
};
