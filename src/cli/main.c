/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * main - options that stand before the command, then the command. The table below is the list of
 * all commands: help, completion and the man page's test come from it.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "cli/commands.h"
#include "cli/nvme.h"

const struct cli_command *const cli_commands[] = {
        &cmd_format,     &cmd_container, &cmd_snapshot, &cmd_put,   &cmd_get,  &cmd_ls,
        &cmd_stat,       &cmd_cat,       &cmd_mkdir,    &cmd_mv,    &cmd_ln,   &cmd_rm,
        &cmd_du,         &cmd_verify,    &cmd_kv,       &cmd_bench, &cmd_perf, &cmd_nvme,
        &cmd_status,     &cmd_scrub,     &cmd_fsck,     &cmd_serve, &cmd_top,  &cmd_watch,
        &cmd_capability, &cmd_version,   &cmd_help,     NULL,
};

const struct cli_command *cli_command_find(const char *name)
{
	for (unsigned i = 0; cli_commands[i]; i++)
		if (strcmp(cli_commands[i]->name, name) == 0)
			return cli_commands[i];
	/* "nvme VERB", as one word or with a dash: for help and for man pages. */
	if (strncmp(name, "nvme ", 5) == 0 || strncmp(name, "nvme-", 5) == 0)
		return nvme_verb_find(name + 5);
	return NULL;
}

/* Takes what stands before the command. The index of the command's name, or -status - 1. */
static int globals(struct cli *cli, int argc, char **argv)
{
	int i;

	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		const char *a = argv[i];

		if (strcmp(a, "-s") == 0 || strcmp(a, "--store") == 0) {
			if (++i == argc)
				return -cli_usage(cli, "%s needs a value", a) - 1;
			cli->store = argv[i];
		} else if (strncmp(a, "--store=", 8) == 0) {
			cli->store = a + 8;
		} else if (strncmp(a, "-s", 2) == 0) {
			cli->store = a + 2;
		} else if (strcmp(a, "-q") == 0 || strcmp(a, "--quiet") == 0) {
			cli->quiet = true;
		} else if (strcmp(a, "-v") == 0 || strcmp(a, "--verbose") == 0) {
			cli->verbose = true;
		} else if (strcmp(a, "-h") == 0 || strcmp(a, "--help") == 0) {
			cli_help(stdout);
			return -CLI_OK - 1;
		} else if (strcmp(a, "-V") == 0 || strcmp(a, "--version") == 0) {
			printf("penstock %s\n", pst_version_text());
			return -CLI_OK - 1;
		} else {
			return -cli_usage(cli, "option %s is not known", a) - 1;
		}
	}
	return i;
}

/* Output that can't be written is a failure, also when it was buffered until now. What could not be
 * written before, and is in the buffer still, is tried again by the flush, which so has the reason. */
static int end(struct cli *cli, int status)
{
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	if (!cli->out_errno)
		cli->out_errno = errno ? errno : EIO;
	return cli_fail(cli, 0, "writing to the standard output: %s", strerror(cli->out_errno));
}

/* Where the standard descriptors are closed the next files that are opened would be those: a store, and messages go
 * into it. False: there is nothing to open there. */
static bool descriptors_open(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR); /* the lowest that is free */
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
	return fd > STDERR_FILENO;
}

int main(int argc, char **argv)
{
	bool whole = descriptors_open();
	struct cli cli = {0};
	int at = globals(&cli, argc, argv), status;

	if (!whole)
		return CLI_FAILED;
	if (at < 0)
		return end(&cli, -(at + 1));
	if (at == argc) {
		cli_help(stderr);
		return CLI_USAGE;
	}
	cli.command = cli_command_find(argv[at]);
	if (!cli.command)
		return cli_usage(&cli, "there is no command \"%s\"", argv[at]);
	if (cli_store_refused(&cli))
		return CLI_USAGE;
	cli_log(&cli);
	if (cli.command->flags & CLI_PROGRESS)
		cli_signals(&cli);
	status = cli.command->run(&cli, argc - at, argv + at);
	mem_free(cli.parser);
	status = end(&cli, status);
	if (status == CLI_OK)
		cli_signals_end();
	return status;
}
