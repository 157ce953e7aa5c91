/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nvme - finds the verb. Each is a command with help, options and a man page of its own, in a file
 * nvme_VERB.c.
 */
#include <string.h>

#include "cli/commands.h"
#include "cli/nvme.h"

const struct cli_command *const nvme_verbs[] = {
        &nvme_target,
        &nvme_ana,
        NULL,
};

const struct cli_command *nvme_verb_find(const char *verb)
{
	for (unsigned i = 0; nvme_verbs[i]; i++) {
		if (strcmp(strchr(nvme_verbs[i]->name, ' ') + 1, verb) == 0)
			return nvme_verbs[i];
	}
	return NULL;
}

static int run(struct cli *cli, int argc, char **argv)
{
	const struct cli_command *verb = argc > 1 ? nvme_verb_find(argv[1]) : NULL;

	if (verb) {
		cli->command = verb;
		return verb->run(cli, argc - 1, argv + 1);
	}
	if (argc > 1 && argv[1][0] != '-')
		return cli_usage(cli, "there is no \"nvme %s\"", argv[1]);
	if (cli_operands(cli, argc, argv, 1, 1) < 0)
		return cli_end_status(cli);
	return CLI_USAGE;
}

const struct cli_command cmd_nvme = {
        .name = "nvme",
        .args = "target BDEV... [--loop NAME] [--nqn NQN]\n"
                "ana NAME [[PORT:]GROUP=STATE...]",
        .summary = "Offer devices as NVMe controllers, and see to them",
        .help = "  target     offer block devices as namespaces to other processes and hosts\n"
                "  ana        see or change a target's ANA states while it runs\n"
                "\n"
                "penstock nvme VERB --help says more of each.\n"
                "\n"
                "Examples:\n"
                "  penstock nvme target /srv/disk.img --loop disk\n"
                "  penstock perf nvme+loop:disk --rw randread\n",
        .words = "target ana",
        .flags = CLI_NO_STORE,
        .run = run,
};
