/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * version
 */
#include <jansson.h>

#include "cli/cli.h"
#include "cli/commands.h"

static int run(struct cli *cli, int argc, char **argv)
{
	if (cli_operands(cli, argc, argv, 0, 0) < 0)
		return cli_end_status(cli);
	if (cli->json)
		return cli_print_json(cli, json_pack("{s:s, s:i}", "version", pst_version_text(),
		                                     "number", pst_version()));
	printf("penstock %s\n", pst_version_text());
	return CLI_OK;
}

const struct cli_command cmd_version = {
        .name = "version",
        .args = "",
        .summary = "Print the version",
        .help = "Example:\n"
                "  penstock version --json\n",
        .flags = CLI_JSON | CLI_NO_STORE,
        .run = run,
};
