/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verify - read everything; compare it with the host.
 */
#include <inttypes.h>
#include <jansson.h>

#include "base/base.h"
#include "cli/commands.h"
#include "cli/compare.h"

enum { OPT_RECURSIVE, OPT_JOBS };

static const struct cli_opt opts[] = {
        [OPT_RECURSIVE] = {'r', "recursive", NULL, "as always: accepted for the sake of habit"},
        [OPT_JOBS] = {'j', "jobs", "N", "reads under way at a time (32)"},
        {0, NULL, NULL, NULL},
};

static int show(struct cli *cli, const struct compare_result *r, bool compared, int status)
{
	char size[32], rate[32];

	if (cli->json) {
		json_t *o = json_pack(
		        "{s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "ok", status == CLI_OK,
		        "compared", compared, "files", (json_int_t)r->files, "directories",
		        (json_int_t)r->dirs, "others", (json_int_t)r->others, "bytes",
		        (json_int_t)r->bytes, "differences", (json_int_t)r->differences, "errors",
		        (json_int_t)r->errors, "seconds", r->seconds);

		return cli_print_json(cli, o) == CLI_OK ? status : CLI_FAILED;
	}
	cli_note(cli,
	         "%s %" PRIu64 " file%s (%s), %" PRIu64 " director%s, %" PRIu64
	         " other%s in %.1f s (%s/s): %" PRIu64 " difference%s, %" PRIu64 " error%s",
	         compared ? "compared" : "verified", r->files, PLURAL(r->files),
	         format_size(r->bytes, size, sizeof(size)), r->dirs, r->dirs == 1 ? "y" : "ies",
	         r->others, PLURAL(r->others), r->seconds,
	         format_size(r->seconds > 0 ? (uint64_t)((double)r->bytes / r->seconds) : 0, rate,
	                     sizeof(rate)),
	         r->differences, PLURAL(r->differences), r->errors, PLURAL(r->errors));
	return status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct compare_result r = {0};
	struct cli_path source;
	const char *value, *host;
	uint64_t jobs = 32;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0)
		if (opt == OPT_JOBS && cli_number(cli, "jobs", value, 1, 1024, &jobs) < 0)
			return CLI_USAGE;
	if (opt == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 1, 2);
	if (status != CLI_OK)
		return status;
	host = cli->arg_count > 1 ? cli->args[0] : NULL;
	/* Both orders are clear when only one of the two is a path on the store. */
	if (host && cli_is_store_path(host) && !cli_is_store_path(cli->args[1]))
		host = cli->args[1];
	status = cli_path_parse(cli, host == cli->args[0] ? cli->args[1] : cli->args[0], &source);
	if (status == CLI_OK)
		status = cli_open(cli, true);
	if (status != CLI_OK)
		return status;
	status = compare_run(cli, host, &source, (unsigned)jobs, &r);
	if (r.seconds > 0)
		status = show(cli, &r, host, status);
	return cli_close(cli, status);
}

const struct cli_command cmd_verify = {
        .name = "verify",
        .args = "[-j N] [SOURCE] CONTAINER[@SNAPSHOT]:/path",
        .summary = "Read everything and verify it; compare it with files of the host",
        .help = "Every byte below the path is read, and with it every checksum verified. With\n"
                "SOURCE the two are compared byte by byte, and so are names, types, modes,\n"
                "owners, modification times, links, devices and extended attributes. Each\n"
                "difference is a line; the exit status is 1 then.\n"
                "\n"
                "Examples:\n"
                "  penstock verify train:/\n"
                "  penstock put -r samples train:/ && penstock verify samples train:/samples\n"
                "  penstock verify -j 64 /data/imagenet train@v1:/imagenet --json\n",
        .opts = opts,
        .flags = CLI_JSON | CLI_PROGRESS,
        .run = run,
};
