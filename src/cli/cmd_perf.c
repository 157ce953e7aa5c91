/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * perf - measure devices: options, and the results in words and as JSON.
 */
#include <errno.h>
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
	OPT_HISTOGRAM,
	OPT_FORCE,
};

static const struct cli_opt opts[] = {
        [OPT_RW] = {0, "rw", "read|write|randread|randwrite|randrw", "what is done (needed)"},
        [OPT_IOSIZE] = {0, "iosize", "SIZE", "bytes of each command (4k)"},
        [OPT_QDEPTH] = {0, "qdepth", "N", "commands under way, of each queue (32)"},
        [OPT_QUEUES] = {0, "queues", "N", "queues of each device, of each thread (1)"},
        [OPT_CPUS] = {0, "cpus", "LIST", "a thread on each of these processors, as 0-3,6 (one)"},
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
        [OPT_HISTOGRAM] = {0, "histogram", NULL,
                           "show how many commands took how long (JSON has it)"},
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

static int take_cpus(struct cli *cli, const char *value, struct perf_params *p)
{
	cpu_set_t may;

	if (!parse_cpus(value, &p->cpus)) {
		cli_usage(cli, "--cpus %s: not a list of processors, as 0-3,6", value);
		return -1;
	}
	sched_getaffinity(0, sizeof(may), &may);
	CPU_AND(&may, &may, &p->cpus);
	if (!CPU_EQUAL(&may, &p->cpus)) {
		cli_usage(cli, "--cpus %s: not all of them are there for this process", value);
		return -1;
	}
	if (CPU_COUNT(&p->cpus) > (int)PERF_THREADS_MAX) {
		cli_usage(cli, "--cpus %s: more than %u", value, PERF_THREADS_MAX);
		return -1;
	}
	return 0;
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
		return take_cpus(cli, value, p);
	case OPT_BATCH:
		return cli_number(cli, "batch", value, 1, PST_NVME_ENTRIES_MAX - 1, &p->batch);
	case OPT_RUNTIME:
		return take_seconds(cli, value, &p->runtime_s);
	case OPT_MIX:
		p->mixed = true;
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
	case OPT_HISTOGRAM:
		p->histogram = true;
		return 0;
	default:
		p->force = true;
		return 0;
	}
}

static int check(struct cli *cli, const struct perf_params *p, unsigned threads)
{
	if (!p->rw)
		return cli_usage(cli, "--rw is needed");
	if (p->iosize < BENCH_SECTOR || p->iosize % BENCH_SECTOR || p->iosize > 64 * MIB)
		return cli_usage(cli, "--iosize: a multiple of 512, at most 64m");
	if (p->batch > p->qdepth)
		return cli_usage(cli, "--batch: more than --qdepth");
	if (p->mixed && !(p->reads && p->writes))
		return cli_usage(cli, "--mix: only --rw randrw mixes");
	if (p->rate && p->rate < threads)
		return cli_usage(cli, "--rate: less than one for each of the threads");
	if (p->verify && !p->writes && !p->prepare)
		return cli_usage(cli, "--verify of reads needs --prepare: it checks what it wrote");
	return CLI_OK;
}

/* --- the threads --- */

static int open_devices(struct perf *perf)
{
	int status = CLI_OK;

	perf->devs = mem_calloc(perf->all->dev_count, sizeof(*perf->devs));
	if (!perf->devs)
		return cli_fail(perf->cli, -ENOMEM, "memory");
	perf->dev_count = perf->all->dev_count;
	for (unsigned n = 0; n < perf->dev_count; n++) {
		perf->devs[n].perf = perf;
		perf->devs[n].index = n;
	}
	for (unsigned n = 0; n < perf->dev_count && status == CLI_OK; n++)
		status = perf_dev_open(&perf->devs[n], perf->all->names[n]);
	return status;
}

static void close_devices(struct perf *perf)
{
	for (unsigned n = 0; n < perf->dev_count; n++)
		perf_dev_close(&perf->devs[n]);
	loop_free(perf->loop);
}

static void free_devices(struct perf *perf)
{
	for (unsigned n = 0; n < perf->dev_count; n++)
		perf_dev_free(&perf->devs[n]);
	mem_free(perf->devs);
}

/* Here and for what is started later: threads of the kernel's for our rings, a target's in this
 * process. */
static int stay(struct perf *perf)
{
	cpu_set_t set;

	if (perf->cpu < 0)
		return CLI_OK;
	CPU_ZERO(&set);
	CPU_SET((size_t)perf->cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		return cli_fail(perf->cli, -errno, "processor %d", perf->cpu);
	return CLI_OK;
}

static void *run_thread(void *arg)
{
	struct perf *perf = arg;
	int status = stay(perf);

	if (status == CLI_OK)
		status = open_devices(perf);
	if (!perf_meet(perf, status == CLI_OK))
		status = CLI_FAILED;
	else
		status = perf_run(perf);
	perf->status = status;
	close_devices(perf);
	return NULL;
}

static void perf_init(struct perf *perf, struct perf_all *all, const struct perf_params *p,
                      unsigned thread)
{
	uint64_t rest = p->rate % all->threads;

	perf->all = all;
	perf->cli = all->cli;
	perf->thread = thread;
	perf->p = *p;
	perf->p.rate = p->rate / all->threads + (thread < rest);
	perf->cpu = -1;
	for (unsigned i = 0, n = 0; i < CPU_SETSIZE && CPU_COUNT(&p->cpus); i++) {
		if (CPU_ISSET(i, &p->cpus) && n++ == thread)
			perf->cpu = (int)i;
	}
}

/* The first is this thread. */
static int run_threads(struct perf_all *all)
{
	unsigned n = 1;
	int rc = pthread_barrier_init(&all->meeting, NULL, all->threads);

	if (rc)
		return cli_fail(all->cli, -rc, "threads");
	while (n < all->threads && !rc) {
		rc = pthread_create(&all->perf[n].pthread, NULL, run_thread, &all->perf[n]);
		n += !rc;
	}
	if (rc) { /* who is there waits for those who are not */
		cli_fail(all->cli, -rc, "threads");
		exit(CLI_FAILED);
	}
	run_thread(&all->perf[0]);
	for (unsigned i = 1; i < all->threads; i++)
		pthread_join(all->perf[i].pthread, NULL);
	pthread_barrier_destroy(&all->meeting);
	return CLI_OK;
}

static int run_all(struct perf_all *all, const struct perf_params *p)
{
	bool measured = true;
	int status, rc;

	all->perf = mem_calloc(all->threads, sizeof(*all->perf));
	if (!all->perf)
		return cli_fail(all->cli, -ENOMEM, "memory");
	for (unsigned i = 0; i < all->threads; i++)
		perf_init(&all->perf[i], all, p, i);
	status = run_threads(all);
	for (unsigned i = 0; i < all->threads; i++) {
		measured = measured && all->perf[i].seconds > 0;
		status = status == CLI_OK ? all->perf[i].status : status;
	}
	rc = measured ? perf_report(all) : CLI_OK;
	for (unsigned i = 0; i < all->threads; i++)
		free_devices(&all->perf[i]);
	mem_free(all->perf);
	return status == CLI_OK ? rc : status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct perf_params p = {.iosize = 4096,
	                        .qdepth = 32,
	                        .queues = 1,
	                        .batch = 1,
	                        .runtime_s = 10,
	                        .mix = 70,
	                        .seed = 1};
	struct perf_all all = {.cli = cli};
	const char *value;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0)
		if (take(cli, opt, value, &p) < 0)
			return CLI_USAGE;
	if (opt == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 1, 64);
	all.names = cli->args;
	all.dev_count = (unsigned)cli->arg_count;
	all.threads = MAX((unsigned)CPU_COUNT(&p.cpus), 1u);
	if (status == CLI_OK)
		status = check(cli, &p, all.threads);
	if (status != CLI_OK)
		return status;
	bench_pattern_init(p.seed);
	return run_all(&all, &p);
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
                "device. The clock is read once for a batch, so that a latency is off by at most\n"
                "what a batch takes to be built.\n"
                "\n"
                "One thread drives all devices and queues; with --cpus there is one on each of\n"
                "those processors. Each opens the devices for itself (a controller, queues and a\n"
                "ring of its own) and works on its part of their blocks. A device that lives in\n"
                "this process (mem:, null:, nvme+loop: of such) is another one for each thread, "
                "and\n"
                "one that can be opened only once (a file that is written to, nvme:) takes one\n"
                "thread. --rate is for all of them together, the other options for each.\n"
                "\n"
                "Writing destroys what the devices hold: one whose beginning is not empty is\n"
                "refused without --force. With --verify what was written is checked, when it is\n"
                "read during the run and once more at the end. Reading what was never written may\n"
                "measure nothing on some devices: --prepare writes all of it first.\n"
                "\n"
                "SIGINT and SIGTERM end the measurement early; what was measured is checked and\n"
                "told all the same, and a second one ends it at once.\n"
                "\n"
                "Examples:\n"
                "  penstock perf nvme+loop:null:1t --rw randread --iosize 512 --qdepth 128 --batch "
                "32\n"
                "  penstock perf /dev/nvme1n1 --rw randread --qdepth 64 --json\n"
                "  penstock perf scratch.img --rw randrw --mix 70 --verify --size 256m --force\n"
                "  penstock perf nvme+loop:mem:64m --rw randwrite --queues 4 --rate 100000\n"
                "  penstock perf nvme+tcp://127.0.0.1:4420/nqn.2026-11.a:b --rw randread --cpus "
                "0-3\n",
        .opts = opts,
        .flags = CLI_JSON | CLI_PROGRESS | CLI_NO_STORE,
        .run = run,
};
