/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * help - what the command says of itself, from the table of commands; and the topics that are no
 * command: devices, paths.
 */
#include "cli/cli.h"

#include <string.h>

#include "bdev/bdev.h"
#include "cli/commands.h"
#include "cli/nvme.h"

/* The first of them is the one that not all commands take. */
static const struct cli_opt common[] = {
        {'s', "store", "STORE",
         "the store: local:DEV[,DEV...] or pst://HOST[:PORT] (default: $PENSTOCK_STORE)"},
        {'q', "quiet", NULL, "no notes and no progress, only errors"},
        {'v', "verbose", NULL, "say more on stderr"},
        {'h', "help", NULL, "this text"},
        {0, NULL, NULL, NULL},
};
static const struct cli_opt opt_json = {0, "json", NULL, "print JSON"};
static const struct cli_opt opt_progress = {0, "progress", NULL,
                                            "show progress even if stderr is no terminal"};

static const char paths_help[] =
        "A path on the store is CONTAINER:/path, or CONTAINER@SNAPSHOT:/path for what a snapshot\n"
        "holds (read-only). The slash after the colon may be left out. A local file whose name\n"
        "has a colon is written ./a:b.\n";

static const char devices_help[] =
        "A store that is served is named by its server, see below; another by its devices:\n"
        "local:DEV[,DEV...]. All devices that it was formatted\n"
        "on must be given, in any order. One process at a time has a store open.\n"
        "\n"
        "  penstock -s local:/srv/data.pst status\n"
        "  penstock -s local:/dev/nvme0n1,/dev/nvme1n1 status\n"
        "  penstock -s 'local:fault:/srv/data.pst?read_error=0.001' verify train:/\n"
        "\n"
        "A device is SCHEME:REST[?option=value&...]; a bare path is uring:PATH. A comma in a path\n"
        "can't be written. Options of the store itself may stand after any device:\n"
        "\n"
        "  index_limit=SIZE    memory for the index (default: a quarter of the machine's)\n"
        "  csum_cache=SIZE     memory for checksum pages\n"
        "  journal_cache=SIZE  memory for small overwrites on their way to their place (256m)\n"
        "  ops=N               operations under way at most\n"
        "  shards=N, journal=SIZE   of the formatting of mem: devices\n"
        "\n"
        "pst://HOST[:PORT][?option=value&...]: the store that a server has (penstock help serve),\n"
        "at port 7440 unless said otherwise:\n"
        "\n"
        "  penstock -s pst://localhost status\n"
        "  penstock -s 'pst://srv.example?channel=ofi:verbs&connect=30' ls train:/\n"
        "\n"
        "  channel=NAME        pipe, tcp, or ofi:PROVIDER (verbs, tcp: libfabric's); default: "
        "pipe\n"
        "                      if HOST is this host and the server has one, else tcp, with a\n"
        "                      warning if pipe could not be had. ofi is used only if it is named\n"
        "  socket=PATH         of the pipe (default: that beside the port, this user's, then the\n"
        "                      system's)\n"
        "  connect=SECONDS     how long to try while nobody is there (default 0: one try, of 10\n"
        "                      seconds at most)\n"
        "  reconnect=SECONDS   how long calls wait for a server that went away (120); 0: not at "
        "all\n"
        "  token=TEXT          a capability's (default: $PENSTOCK_TOKEN)\n"
        "  ops=N               operations under way at most (256)\n"
        "  slots=N             changes under way at most (128)\n"
        "  volatile=BOOL       changes that need not be durable at once are not (no): faster, and "
        "a\n"
        "                      crash of the server loses what was not flushed\n"
        "  tls=BOOL            TLS on tcp, with the system's authorities (no)\n"
        "  tls-ca=FILE         TLS with these authorities\n"
        "  tls-cert=FILE, tls-key=FILE   who we are\n"
        "  tls-name=NAME       that the server's certificate must have (default: HOST)\n"
        "  seal=MODE           auto (default): a token's holder seals what others could read;\n"
        "                      required: every channel; off: none\n"
        "  insecure=BOOL       show a token where others can read it (no)\n"
        "\n"
        "The schemes of devices and their options:\n";

/* The command's own letter hides that of a common option. */
static struct cli_opt common_opt(const struct cli_command *c, struct cli_opt o)
{
	for (unsigned n = 0; c && c->opts && c->opts[n].name; n++)
		if (c->opts[n].letter == o.letter)
			o.letter = 0;
	return o;
}

void cli_each_option(const struct cli_command *c, void (*each)(const struct cli_opt *o, void *arg),
                     void *arg)
{
	for (unsigned i = 0; c && c->opts && c->opts[i].name; i++)
		each(&c->opts[i], arg);
	if (c && c->flags & CLI_JSON)
		each(&opt_json, arg);
	if (c && c->flags & CLI_PROGRESS)
		each(&opt_progress, arg);
	for (unsigned i = c && c->flags & CLI_NO_STORE ? 1 : 0; common[i].name; i++) {
		struct cli_opt o = common_opt(c, common[i]);

		each(&o, arg);
	}
}

static void print_opt(const struct cli_opt *o, void *out)
{
	char left[64];

	snprintf(left, sizeof(left), "%c%c%s--%s%s%s", o->letter ? '-' : ' ',
	         o->letter ? o->letter : ' ', o->letter ? ", " : "  ", o->name, o->arg ? " " : "",
	         o->arg ? o->arg : "");
	fprintf(out, "  %-26s %s\n", left, o->help);
}

void cli_help(FILE *out)
{
	fprintf(out, "penstock - store, find and prove files, objects and key-values\n\n"
	             "Usage: penstock [-s STORE] COMMAND [ARGUMENT...]\n\nCommands:\n");
	for (unsigned i = 0; cli_commands[i]; i++)
		fprintf(out, "  %-10s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
	fprintf(out, "\nOptions for all commands:\n");
	cli_each_option(NULL, print_opt, out);
	fprintf(out,
	        "\nExit status: 0, 1 when something failed, 2 when the command line was wrong.\n"
	        "\n"
	        "To begin:\n"
	        "  penstock format data.pst --size 4g\n"
	        "  export PENSTOCK_STORE=local:data.pst\n"
	        "  penstock container create train\n"
	        "  penstock put -r /usr/share/doc train:/\n"
	        "  penstock ls train:/doc\n"
	        "\n"
	        "penstock help COMMAND, penstock help devices and penstock help paths say more.\n");
}

void cli_help_command(const struct cli_command *c, FILE *out)
{
	const char *line = c->args, *next;

	for (const char *head = "Usage:"; line; line = next, head = "      ") {
		size_t len = strcspn(line, "\n");

		next = line[len] ? line + len + 1 : NULL;
		fprintf(out, "%s penstock %s%s %s%.*s\n", head,
		        c->flags & CLI_NO_STORE ? "" : "[-s STORE] ", c->name, "", (int)len, line);
	}
	fprintf(out, "\n%s.\n\n%s\nOptions:\n", c->summary, c->help);
	cli_each_option(c, print_opt, out);
}

static void help_devices(void)
{
	fputs(devices_help, stdout);
	for (const struct bdev_driver *d = bdev_driver_first(); d; d = d->next)
		printf("\n%s:\n%s", d->scheme, d->help);
}

static void table_opt(const struct cli_opt *o, void *arg)
{
	printf("--%s ", o->name);
}

static void table_line(const struct cli_command *c)
{
	printf("%s\t%s\t", c->name, c->words ? c->words : "");
	cli_each_option(c, table_opt, NULL);
	putchar('\n');
}

/* For those who check that nothing was forgotten: one line per command: name, verbs, options. */
static void help_table(void)
{
	for (unsigned i = 0; cli_commands[i]; i++)
		table_line(cli_commands[i]);
	for (unsigned i = 0; nvme_verbs[i]; i++)
		table_line(nvme_verbs[i]);
}

int cli_help_topic(const char *topic)
{
	const struct cli_command *c = cli_command_find(topic);

	if (c)
		cli_help_command(c, stdout);
	else if (strcmp(topic, "devices") == 0)
		help_devices();
	else if (strcmp(topic, "paths") == 0)
		fputs(paths_help, stdout);
	else if (strcmp(topic, "--table") == 0)
		help_table();
	else
		return CLI_USAGE;
	return CLI_OK;
}

static int run_help(struct cli *cli, int argc, char **argv)
{
	if (argc == 1) {
		cli_help(stdout);
		return CLI_OK;
	}
	if (argc == 3 && strcmp(argv[1], "--man") == 0 && cli_command_find(argv[2])) {
		cli_help_man(cli_command_find(argv[2]));
		return CLI_OK;
	}
	if (strcmp(argv[1], "--complete") == 0) {
		cli_complete(argc - 2, argv + 2);
		return CLI_OK;
	}
	if (argc == 3 && strcmp(argv[1], "nvme") == 0 && nvme_verb_find(argv[2])) {
		cli_help_command(nvme_verb_find(argv[2]), stdout);
		return CLI_OK;
	}
	if (argc > 2)
		return cli_usage(cli, "\"%s\" is too much", argv[2]);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		cli_help_command(cli->command, stdout);
		return CLI_OK;
	}
	if (cli_help_topic(argv[1]) != CLI_OK)
		return cli_usage(cli, "there is no command or topic \"%s\"", argv[1]);
	return CLI_OK;
}

const struct cli_command cmd_help = {
        .name = "help",
        .args = "[COMMAND|devices|paths]",
        .summary = "Explain a command, device strings, or paths",
        .help = "Examples:\n"
                "  penstock help put\n"
                "  penstock help devices\n",
        .flags = CLI_NO_STORE,
        .run = run_help,
};
