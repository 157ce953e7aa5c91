/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * put - files and trees of the host into a container.
 */
#include "cli/commands.h"
#include "cli/import.h"

enum { OPT_RECURSIVE, OPT_JOBS, OPT_LOG };

static const struct cli_opt opts[] = {
        [OPT_RECURSIVE] = {'r', "recursive", NULL, "directories with all that is in them"},
        [OPT_JOBS] = {'j', "jobs", "N", "files under way at a time (32)"},
        [OPT_LOG] = {0, "log", "FILE", "append a line for each file as soon as it is durable"},
        {0, NULL, NULL, NULL},
};

static int run(struct cli *cli, int argc, char **argv)
{
	struct import_opts im = {.jobs = 32};
	struct cli_path dest;
	const char *value;
	uint64_t jobs;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		switch (opt) {
		case OPT_RECURSIVE:
			im.recursive = true;
			break;
		case OPT_JOBS:
			if (cli_number(cli, "jobs", value, 1, 1024, &jobs) < 0)
				return CLI_USAGE;
			im.jobs = (unsigned)jobs;
			break;
		case OPT_LOG:
			im.log_path = value;
			break;
		}
	}
	if (opt == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 2, -1);
	if (status == CLI_OK)
		status = cli_path_parse(cli, cli->args[cli->arg_count - 1], &dest);
	if (status == CLI_OK)
		status = cli_open(cli, false);
	if (status != CLI_OK)
		return status;
	status = import_run(cli, cli->args, (unsigned)cli->arg_count - 1, &dest, &im);
	return cli_close(cli, status);
}

const struct cli_command cmd_put = {
        .name = "put",
        .args = "[-r] [-j N] [--log FILE] SOURCE... CONTAINER:/path",
        .summary = "Import files and directory trees",
        .help = "Into the destination, if it is a directory; else a single source takes its\n"
                "name. SOURCE/. is what is in SOURCE; SOURCE - is the standard input. What is\n"
                "kept: content with its holes, type, mode, owner, group, times, symbolic links,\n"
                "hard links, extended attributes, FIFOs and devices; sockets are left out with a\n"
                "note. A file that is there is replaced.\n"
                "\n"
                "Each file appears whole or not at all, and is durable when it is counted and\n"
                "logged: killed at any moment, put leaves whole files behind. A file that\n"
                "vanishes or changes while it is read is reported and left out; the exit status\n"
                "is 1 then.\n"
                "\n"
                "Examples:\n"
                "  penstock put shard.tar train:/shards/0001.tar\n"
                "  penstock put -r -j 64 /data/imagenet train:/\n"
                "  tar c samples | penstock put - train:/samples.tar\n"
                "  penstock put -r --log done.txt photos music train:/media\n",
        .opts = opts,
        .flags = CLI_JSON | CLI_PROGRESS,
        .run = run,
};
