/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scrub - read everything in the store, whoever it belongs to, and verify it.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>

#include "base/base.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/progress.h"

enum { OPT_RATE };

#define TICK_NS (200 * NSEC_PER_MSEC)

static const struct cli_opt opts[] = {
        [OPT_RATE] = {0, "rate", "SIZE", "bytes per second at most (default: no limit)"},
        {0, NULL, NULL, NULL},
};

struct scrub {
	struct cli *cli;
	struct pst_scrub_report report;
	struct progress progress;
	uint64_t told;
};

static void bad(struct pst_scrub_report *r, uint32_t cont, struct pst_oid oid, uint64_t off,
                int status)
{
	struct scrub *s = container_of(r, struct scrub, report);

	progress_clear(&s->progress);
	cli_fail(s->cli, status, "container %u, object 0x%" PRIx64 ".0x%" PRIx64 ", byte %" PRIu64,
	         cont, oid.hi, oid.lo, off);
	s->told++;
}

static int run_scrub(struct scrub *s)
{
	struct pst_event e;
	struct pst_cq *cq;
	int rc = pst_cq_new(&cq, s->cli->client, 1), n;

	if (rc < 0)
		return rc;
	progress_start(&s->progress, s->cli, "scrubbing");
	rc = pst_client_scrub_async(s->cli->client, &s->report, cq, s);
	if (rc == 0) {
		while ((n = pst_cq_poll(cq, &e, 1, TICK_NS)) == 0) {
			s->progress.done_bytes = s->report.done_bytes;
			s->progress.total_bytes = s->report.total_bytes;
			progress_tick(&s->progress);
		}
		rc = n < 0 ? n : e.status;
	}
	progress_end(&s->progress);
	pst_cq_free(cq);
	return rc;
}

static int show(struct scrub *s)
{
	const struct pst_scrub_report *r = &s->report;
	double seconds = (double)(clock_mono_ns() - s->progress.start_ns) / 1e9;
	char size[32];

	if (s->cli->json) {
		json_t *o = json_pack("{s:I, s:I, s:I, s:I, s:f}", "bytes",
		                      (json_int_t)r->done_bytes, "objects", (json_int_t)r->objects,
		                      "errors", (json_int_t)r->errors, "repaired",
		                      (json_int_t)r->repaired, "seconds", seconds);

		if (cli_print_json(s->cli, o) != CLI_OK)
			return CLI_FAILED;
	} else {
		printf("scrubbed %s, %" PRIu64 " object%s in %.1f s: %" PRIu64 " error%s, %" PRIu64
		       " repaired\n",
		       format_size(r->done_bytes, size, sizeof(size)), r->objects,
		       PLURAL(r->objects), seconds, r->errors, PLURAL(r->errors), r->repaired);
	}
	return r->errors > r->repaired ? CLI_FAILED : CLI_OK;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct scrub s = {.cli = cli, .report = {.bad = bad}};
	const char *value;
	int opt, rc, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0)
		if (cli_size(cli, "rate", value, &s.report.rate_bytes_per_s) < 0)
			return CLI_USAGE;
	if (opt == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 0, 0);
	if (status == CLI_OK)
		status = cli_open(cli, false);
	if (status != CLI_OK)
		return status;
	rc = run_scrub(&s);
	status = rc < 0 ? cli_fail(cli, rc, "scrubbing") : show(&s);
	return cli_close(cli, status);
}

const struct cli_command cmd_scrub = {
        .name = "scrub",
        .args = "[--rate SIZE]",
        .summary = "Read everything in the store and verify every checksum",
        .help = "All containers and snapshots, metadata too; what a mirror can repair is\n"
                "repaired. Each bad block is a line, with the object and the byte. Exit status\n"
                "1 if any is left.\n"
                "\n"
                "Examples:\n"
                "  penstock scrub\n"
                "  penstock scrub --rate 100m --json\n",
        .opts = opts,
        .flags = CLI_JSON | CLI_PROGRESS,
        .run = run,
};
