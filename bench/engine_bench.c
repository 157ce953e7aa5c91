/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine_bench - arguments, opening, and the order of things: format, lay out, check, warm up,
 * measure, check again, close. Each stage prints a line of JSON, so that whoever runs it can tell
 * what a figure cost and what was verified.
 */
#include <err.h>
#include <getopt.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine_bench.h"

static struct eb eb;

static void usage(FILE *to)
{
	(void)fprintf(
	        to,
	        "usage: engine_bench DEVICE [options]: measure the local engine below the public "
	        "API\n"
	        "  --format SIZE --journal SIZE --shards N   make the store first\n"
	        "  --csum-cache SIZE --journal-cache SIZE --index-limit SIZE\n"
	        "  --objects N --object-size SIZE            the data set\n"
	        "  --layout --check --warm --check-after     write it; read and verify it\n"
	        "  --settle                                  close and open again after --layout\n"
	        "  --rw read|write|randread|randwrite --bs SIZE --iodepth N --volatile\n"
	        "  --runtime SECONDS | --ops N, --windows N  measure; N windows of it\n"
	        "  --pause                                   SIGSTOP itself after each window\n"
	        "  --files N --crash-files N                 make files, change some, crash, "
	        "recover\n");
	exit(to == stdout ? 0 : 2);
}

static uint64_t size_arg(const char *text)
{
	uint64_t v;

	if (parse_size(text, &v))
		errx(2, "'%s' is not a size", text);
	return v;
}

static void parse_rw(struct eb_args *a, const char *text)
{
	a->sequential = strncmp(text, "rand", 4) != 0;
	if (!a->sequential)
		text += 4;
	a->write = !strcmp(text, "write");
	if (!a->write && strcmp(text, "read"))
		errx(2, "--rw read, write, randread or randwrite");
}

enum {
	O_FORMAT = 1,
	O_JOURNAL,
	O_SHARDS,
	O_CSUM,
	O_JCACHE,
	O_INDEX,
	O_OBJECTS,
	O_OSIZE,
	O_LAYOUT,
	O_CHECK,
	O_WARM,
	O_AFTER,
	O_SETTLE,
	O_RW,
	O_BS,
	O_DEPTH,
	O_VOLATILE,
	O_RUNTIME,
	O_OPS,
	O_WINDOWS,
	O_PAUSE,
	O_FILES,
	O_CRASH,
	O_HELP,
};

static const struct option options[] = {{"format", 1, NULL, O_FORMAT},
                                        {"journal", 1, NULL, O_JOURNAL},
                                        {"shards", 1, NULL, O_SHARDS},
                                        {"csum-cache", 1, NULL, O_CSUM},
                                        {"journal-cache", 1, NULL, O_JCACHE},
                                        {"index-limit", 1, NULL, O_INDEX},
                                        {"objects", 1, NULL, O_OBJECTS},
                                        {"object-size", 1, NULL, O_OSIZE},
                                        {"layout", 0, NULL, O_LAYOUT},
                                        {"check", 0, NULL, O_CHECK},
                                        {"warm", 0, NULL, O_WARM},
                                        {"check-after", 0, NULL, O_AFTER},
                                        {"rw", 1, NULL, O_RW},
                                        {"bs", 1, NULL, O_BS},
                                        {"iodepth", 1, NULL, O_DEPTH},
                                        {"volatile", 0, NULL, O_VOLATILE},
                                        {"runtime", 1, NULL, O_RUNTIME},
                                        {"ops", 1, NULL, O_OPS},
                                        {"windows", 1, NULL, O_WINDOWS},
                                        {"pause", 0, NULL, O_PAUSE},
                                        {"files", 1, NULL, O_FILES},
                                        {"crash-files", 1, NULL, O_CRASH},
                                        {"settle", 0, NULL, O_SETTLE},
                                        {"help", 0, NULL, O_HELP},
                                        {0}};

static bool option_store(struct eb_args *a, int o)
{
	switch (o) {
	case O_FORMAT:
		a->format_bytes = size_arg(optarg);
		return true;
	case O_JOURNAL:
		a->journal_bytes = size_arg(optarg);
		return true;
	case O_SHARDS:
		a->shards = (unsigned)size_arg(optarg);
		return true;
	case O_CSUM:
		a->csum_cache_bytes = size_arg(optarg);
		return true;
	case O_JCACHE:
		a->journal_cache_bytes = size_arg(optarg);
		return true;
	case O_INDEX:
		a->index_limit_bytes = size_arg(optarg);
		return true;
	case O_OBJECTS:
		a->objects = size_arg(optarg);
		return true;
	case O_OSIZE:
		a->object_bytes = size_arg(optarg);
		return true;
	case O_LAYOUT:
		a->layout = true;
		return true;
	case O_CHECK:
		a->check = true;
		return true;
	case O_WARM:
		a->warm = true;
		return true;
	case O_AFTER:
		a->check_after = true;
		return true;
	case O_SETTLE:
		a->settle = true;
		return true;
	}
	return false;
}

static void option_load(struct eb_args *a, int o)
{
	switch (o) {
	case O_RW:
		parse_rw(a, optarg);
		break;
	case O_BS:
		a->bs = size_arg(optarg);
		break;
	case O_DEPTH:
		a->depth = (unsigned)size_arg(optarg);
		break;
	case O_VOLATILE:
		a->volatile_writes = true;
		break;
	case O_RUNTIME:
		a->runtime_s = strtod(optarg, NULL);
		break;
	case O_OPS:
		a->ops = size_arg(optarg);
		break;
	case O_WINDOWS:
		a->windows = (unsigned)size_arg(optarg);
		break;
	case O_PAUSE:
		a->pause = true;
		break;
	case O_FILES:
		a->files = size_arg(optarg);
		break;
	case O_CRASH:
		a->crash_files = size_arg(optarg);
		break;
	case O_HELP:
		usage(stdout);
		break;
	default:
		usage(stderr);
	}
}

static void parse(struct eb_args *a, int argc, char **argv)
{
	int o;

	*a = (struct eb_args){.objects = 1,
	                      .object_bytes = MIB,
	                      .bs = EB_BLOCK_BYTES,
	                      .depth = 32,
	                      .runtime_s = 5,
	                      .shards = 1};
	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1)
		if (!option_store(a, o))
			option_load(a, o);
	if (optind != argc - 1)
		usage(stderr);
	a->dev = argv[optind];
	if (!a->bs || a->bs % EB_BLOCK_BYTES || a->bs > PST_IO_MAX || !a->objects ||
	    a->object_bytes % a->bs || a->object_bytes < a->bs || !a->depth ||
	    a->depth > EB_DEPTH_MAX || (!a->ops && a->runtime_s <= 0))
		usage(stderr);
}

/* --- the store --- */

static void container(void)
{
	struct pst_cont_info info = {.layout = PST_LAYOUT_OBJECT};
	struct pst_op op = {
	        .opcode = PST_OP_CONT_OPEN, .name = "bench", .name_len = 5, .cont_info = &info};
	int r = store_run(eb.store, &op);

	if (r == -ENOENT) {
		op = (struct pst_op){.opcode = PST_OP_CONT_CREATE,
		                     .name = "bench",
		                     .name_len = 5,
		                     .cont_info = &info};
		r = store_run(eb.store, &op);
	}
	if (r)
		errx(1, "container: %s", strerror(-r));
	eb.cont = info.id;
}

void eb_open(struct eb *e)
{
	const struct eb_args *a = &e->args;
	struct bdev_open_opts bo = {
	        .create = a->format_bytes > 0, .size_bytes = a->format_bytes, .prewrite = true};
	struct local_format_opts fo = {
	        .force = true, .shards = a->shards, .journal_bytes = a->journal_bytes};
	struct local_opts lo = {.csum_cache_bytes = a->csum_cache_bytes,
	                        .journal_cache_bytes = a->journal_cache_bytes,
	                        .index_limit_bytes = a->index_limit_bytes};
	uint64_t start = clock_mono_ns();
	struct pst_err err = {0};
	struct loop_opts opts;
	struct bdev *dev;

	loop_opts_default(&opts);
	if (loop_new(&e->loop, &opts, &err) || bdev_open(&dev, a->dev, e->loop, &bo, &err))
		errx(1, "%s", err.text);
	if (a->format_bytes && local_format(&dev, 1, &fo, &err))
		errx(1, "%s", err.text);
	if (local_open(&e->store, e->loop, &dev, 1, &lo, &err))
		errx(1, "%s", err.text);
	e->args.format_bytes = 0; /* once */
	container();
	(void)printf("{\"stage\": \"open\", \"seconds\": %.3f}\n",
	             (double)(clock_mono_ns() - start) / 1e9);
}

double eb_close(struct eb *e)
{
	uint64_t start = clock_mono_ns();
	int r = store_close(e->store);

	if (r)
		errx(1, "close: %s", strerror(-r));
	e->store = NULL;
	loop_free(e->loop);
	return (double)(clock_mono_ns() - start) / 1e9;
}

double eb_cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)u.ru_utime.tv_sec + (double)u.ru_utime.tv_usec / 1e6 +
	       (double)u.ru_stime.tv_sec + (double)u.ru_stime.tv_usec / 1e6;
}

/* What this process had the kernel write, -1 where that is not known. */
static long long written_bytes(void)
{
	FILE *f = fopen("/proc/self/io", "re");
	char line[128];
	long long v = -1;

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "write_bytes: ", 13))
			v = strtoll(line + 13, NULL, 10);
	if (f)
		(void)fclose(f);
	return v;
}

static void load_and_measure(void)
{
	const struct eb_args *a = &eb.args;
	uint64_t big = MIN(a->object_bytes, MIB);
	long long before;
	double drain_s;

	if (a->layout)
		(void)eb_pass(&eb, PST_OP_WRITE, "layout");
	if (a->settle) {
		(void)eb_close(&eb);
		eb_open(&eb);
	}
	if (a->check || a->warm)
		(void)eb_pass(&eb, PST_OP_READ, a->check ? "check" : "warm");
	before = written_bytes();
	if (a->windows) {
		eb_slots(&eb, a->bs, a->depth);
		eb_measure(&eb);
		eb_slots_free(&eb);
	}
	if (a->check_after)
		(void)eb_pass(&eb, PST_OP_READ, "check-after");
	drain_s = eb_close(&eb);
	(void)printf("{\"stage\": \"close\", \"drain_s\": %.3f, \"proc_write_bytes\": %lld, "
	             "\"transfer_bytes\": %llu}\n",
	             drain_s, before < 0 ? -1 : written_bytes() - before, (unsigned long long)big);
}

static void log_to_stderr(void *arg, enum pst_log_level level, const char *line)
{
	(void)fprintf(stderr, "engine_bench: %s\n", line);
}

int main(int argc, char **argv)
{
	pst_log_set(log_to_stderr, NULL, PST_LOG_WARN);
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	parse(&eb.args, argc, argv);
	if (eb.args.files) {
		eb_recovery(&eb);
		return 0;
	}
	eb_open(&eb);
	load_and_measure();
	return 0;
}
