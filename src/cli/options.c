/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * options - the command line of a subcommand, by getopt_long(3) from the command's table, with the
 * options that all commands share.
 */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cli/commands.h"

#define OPTS_MAX 32 /* indexes of long options stay below the letters */

enum common {
	COMMON_HELP = 1000,
	COMMON_JSON,
	COMMON_PROGRESS,
	COMMON_STORE,
	COMMON_QUIET,
	COMMON_VERBOSE,
};

struct parser {
	struct option longs[OPTS_MAX + 8];
	char shorts[3 * OPTS_MAX + 16];
};

static void add(struct parser *p, unsigned *n, char letter, const char *name, bool arg, int val)
{
	size_t at = strlen(p->shorts);

	p->longs[*n] = (struct option){name, arg ? required_argument : no_argument, NULL, val};
	(*n)++;
	if (letter) {
		p->shorts[at++] = letter;
		if (arg)
			p->shorts[at++] = ':';
		p->shorts[at] = 0;
	}
}

/* A command's own letter hides a common one: ln -s is no store. */
static char common_letter(const struct cli_command *c, char letter)
{
	for (unsigned i = 0; c->opts && c->opts[i].name; i++)
		if (c->opts[i].letter == letter)
			return 0;
	return letter;
}

static struct parser *parser_new(const struct cli_command *c)
{
	struct parser *p = mem_calloc(1, sizeof(*p));
	unsigned n = 0;

	if (!p)
		return NULL;
	strcpy(p->shorts, ":"); /* errors are told here, not by getopt */
	add(p, &n, common_letter(c, 'h'), "help", false, COMMON_HELP);
	add(p, &n, common_letter(c, 's'), "store", true, COMMON_STORE);
	add(p, &n, common_letter(c, 'q'), "quiet", false, COMMON_QUIET);
	add(p, &n, common_letter(c, 'v'), "verbose", false, COMMON_VERBOSE);
	if (c->flags & CLI_JSON)
		add(p, &n, 0, "json", false, COMMON_JSON);
	if (c->flags & CLI_PROGRESS)
		add(p, &n, 0, "progress", false, COMMON_PROGRESS);
	for (unsigned i = 0; c->opts && c->opts[i].name; i++) {
		pst_assert(i < OPTS_MAX);
		add(p, &n, c->opts[i].letter, c->opts[i].name, c->opts[i].arg, (int)i);
	}
	optind = 0;
	return p;
}

/* A letter's meaning. */
static int by_letter(const struct cli_command *c, int letter)
{
	for (int i = 0; c->opts && c->opts[i].name; i++)
		if (c->opts[i].letter == letter)
			return i;
	switch (letter) {
	case 'h':
		return COMMON_HELP;
	case 's':
		return COMMON_STORE;
	case 'q':
		return COMMON_QUIET;
	case 'v':
		return COMMON_VERBOSE;
	}
	return '?';
}

/* A command that is given its devices would look at others than those of a store that is named too. */
bool cli_store_refused(struct cli *cli)
{
	if (!cli->store || !(cli->command->flags & CLI_NO_STORE) || cli->command == &cmd_help ||
	    cli->command == &cmd_version)
		return false;
	cli_usage(cli, "it takes no store (-s, --store)");
	return true;
}

static int take_common(struct cli *cli, int opt)
{
	switch (opt) {
	case COMMON_HELP:
		cli_help_command(cli->command, stdout);
		cli->ended = true;
		return -2;
	case COMMON_JSON:
		cli->json = true;
		return 0;
	case COMMON_PROGRESS:
		cli->progress = true;
		return 0;
	case COMMON_STORE:
		cli->store = optarg;
		return cli_store_refused(cli) ? -2 : 0;
	case COMMON_QUIET:
		cli->quiet = true;
		cli_log(cli);
		return 0;
	default:
		cli->verbose = true;
		cli_log(cli);
		return 0;
	}
}

int cli_option(struct cli *cli, int argc, char **argv, const char **ret_value)
{
	struct parser *p = cli->parser;
	int opt;

	if (!p)
		p = cli->parser = parser_new(cli->command);
	if (!p) {
		cli_fail(cli, -ENOMEM, "reading the options");
		return -2;
	}
	for (;;) {
		opt = getopt_long(argc, argv, p->shorts, p->longs, NULL);
		if (opt == '?' || opt == ':') {
			bool lacks = opt == ':';

			/* What getopt_long knows of the culprit: a letter, or the word before. */
			if (strncmp(argv[optind - 1], "--", 2) != 0 && optopt > 32 && optopt < 127)
				cli_usage(cli, "option -%c %s", optopt,
				          lacks ? "needs a value" : "is not known");
			else
				cli_usage(cli, "option %s %s", argv[optind - 1],
				          lacks ? "needs a value" : "is not known, or not clear");
			return -2;
		}
		if (opt == -1)
			break;
		if (opt >= OPTS_MAX && opt < COMMON_HELP)
			opt = by_letter(cli->command, opt);
		if (opt < COMMON_HELP) {
			*ret_value = optarg;
			return opt;
		}
		if (take_common(cli, opt) < 0)
			return -2;
	}
	cli->args = argv + optind;
	cli->arg_count = argc - optind;
	mem_free(p);
	cli->parser = NULL;
	return -1;
}

int cli_end_status(const struct cli *cli)
{
	return cli->ended ? CLI_OK : CLI_USAGE;
}

int cli_operand_count(struct cli *cli, int min, int max)
{
	if (cli->arg_count < min)
		return cli_usage(cli,
		                 cli->arg_count ? "something is missing after \"%s\""
		                                : "%sneeds more than that",
		                 cli->arg_count ? cli->args[cli->arg_count - 1] : "");
	if (max >= 0 && cli->arg_count > max)
		return cli_usage(cli, "\"%s\" is too much", cli->args[max]);
	return CLI_OK;
}

int cli_operands(struct cli *cli, int argc, char **argv, int min, int max)
{
	const char *value;

	pst_assert(!cli->command->opts);
	if (cli_option(cli, argc, argv, &value) == -2)
		return -2;
	return cli_operand_count(cli, min, max) == CLI_OK ? 0 : -2;
}

int cli_size(struct cli *cli, const char *option, const char *value, uint64_t *ret_bytes)
{
	int rc = parse_size(value, ret_bytes);

	if (rc == 0)
		return 0;
	if (rc == -ERANGE)
		cli_usage(cli, "--%s %s: not a size below 16 EiB", option, value);
	else
		cli_usage(cli, "--%s %s: not a size (such as 4k, 512m, 20g)", option, value);
	return -1;
}

int cli_number(struct cli *cli, const char *option, const char *value, uint64_t min, uint64_t max,
               uint64_t *ret_number)
{
	const char *end = value;
	uint64_t n = 0;

	if (cli_u64(value, &n, &end) == 0 && !*end && n >= min && n <= max) {
		*ret_number = n;
		return 0;
	}
	cli_usage(cli, "--%s %s: not a number from %llu to %llu", option, value,
	          (unsigned long long)min, (unsigned long long)max);
	return -1;
}
