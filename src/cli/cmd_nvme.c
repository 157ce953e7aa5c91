/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nvme - finds the verb. Each is a command with help, options and a man page of its own, in a file
 * nvme_VERB.c.
 */
#include <string.h>

#include "cli/commands.h"
#include "cli/nvme.h"

const struct cli_command *const nvme_verbs[] = {
        &nvme_list,  &nvme_identify, &nvme_log,     &nvme_feature, &nvme_format,
        &nvme_reset, &nvme_discover, &nvme_connect, &nvme_target,  &nvme_ana,
        &nvme_bind,  &nvme_unbind,   NULL,
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
        .args = "list [DEVICE...]\n"
                "identify DEVICE [--nsid N]\n"
                "log DEVICE PAGE\n"
                "feature DEVICE FEATURE [VALUE]\n"
                "format DEVICE --nsid N --force\n"
                "reset DEVICE\n"
                "discover tcp://HOST[:PORT]\n"
                "connect DEVICE [--queues N]\n"
                "target BDEV... [--listen tcp://ADDR] [--loop NAME] [--nqn NQN]\n"
                "ana NAME [[PORT:]GROUP=STATE...]\n"
                "bind|unbind DEV...",
        .summary = "See to NVMe controllers, and offer devices as such",
        .help = "  list       controllers and their namespaces\n"
                "  identify   what a controller, or a namespace, says of itself\n"
                "  log        a log page: smart, error, ana, ...\n"
                "  feature    see or set a feature\n"
                "  format     format a namespace\n"
                "  reset      reset a controller\n"
                "  discover   ask a target what it offers over the network\n"
                "  connect    try a controller out\n"
                "  target     offer block devices as namespaces to other processes and hosts\n"
                "  ana        see or change a target's ANA states while it runs\n"
                "  bind       take a controller from the kernel, for use from user space\n"
                "  unbind     give it back\n"
                "\n"
                "penstock nvme VERB --help says more of each.\n"
                "\n"
                "Examples:\n"
                "  penstock nvme target /srv/disk.img --loop disk\n"
                "  penstock perf nvme+loop:disk --rw randread\n",
        .words = "list identify log feature format reset discover connect target ana bind unbind",
        .flags = CLI_NO_STORE,
        .run = run,
};
