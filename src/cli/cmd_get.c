/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * get - files and trees of a container onto the host.
 */
#include <string.h>

#include "cli/commands.h"
#include "cli/export.h"

enum { OPT_RECURSIVE, OPT_JOBS };

static const struct cli_opt opts[] = {
        [OPT_RECURSIVE] = {'r', "recursive", NULL, "directories with all that is in them"},
        [OPT_JOBS] = {'j', "jobs", "N", "reads under way at a time (32)"},
        {0, NULL, NULL, NULL},
};

static int run(struct cli *cli, int argc, char **argv)
{
	struct export_opts ex = {.jobs = 32};
	struct cli_path source;
	const char *value;
	uint64_t jobs;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		ex.recursive |= opt == OPT_RECURSIVE;
		if (opt == OPT_JOBS) {
			if (cli_number(cli, "jobs", value, 1, 1024, &jobs) < 0)
				return CLI_USAGE;
			ex.jobs = (unsigned)jobs;
		}
	}
	if (opt == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 1, 2);
	if (status == CLI_OK)
		status = cli_path_parse(cli, cli->args[0], &source);
	if (status == CLI_OK && cli->arg_count > 1 && strcmp(cli->args[1], "-") == 0)
		return cli_usage(cli, "penstock cat writes to the standard output (./- is a file)");
	if (status == CLI_OK)
		status = cli_open(cli, true);
	if (status != CLI_OK)
		return status;
	status = export_run(cli, &source, cli->arg_count > 1 ? cli->args[1] : ".", &ex);
	return cli_close(cli, status);
}

const struct cli_command cmd_get = {
        .name = "get",
        .args = "[-r] [-j N] CONTAINER[@SNAPSHOT]:/path [DESTINATION]",
        .summary = "Export files and directory trees",
        .help = "Into DESTINATION (default: here), if that is a directory; else it is the new\n"
                "name. Type, mode, times, links, holes and extended attributes are restored;\n"
                "owners and devices too, for root. Every byte is verified against its checksum.\n"
                "A file gets its name when it is whole: one that can't be read to its end is\n"
                "reported and not left behind, and what has the name already stays until then.\n"
                "\n"
                "Examples:\n"
                "  penstock get train:/shards/0001.tar\n"
                "  penstock get -r train@v1:/ /tmp/train-v1\n",
        .opts = opts,
        .flags = CLI_JSON | CLI_PROGRESS,
        .run = run,
};
