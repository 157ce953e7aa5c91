/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * complete - what a shell may offer for the last word of a command line, out of the table of commands. The
 * scripts of the shells (packaging/) ask for it, so that they know no command.
 *
 * A line is an offer, a tab, and what it is. An offer of no characters stands for the names of files, after
 * what of the word is behind the tab.
 */
#include "cli/cli.h"

#include <string.h>

#include "base/base.h"
#include "cli/commands.h"
#include "cli/nvme.h"

/* The line: its last word, the one before it, the command, and what comes behind that. */
struct line {
	const char *word, *before; /* "" where there is none */
	const struct cli_command *command;
	bool first; /* the word is the first one of the command's */
	bool value; /* the one before it was an option that takes it */
};

static void offer_part(const struct line *l, const char *text, size_t len, const char *what)
{
	size_t typed = strlen(l->word);

	if (typed <= len && memcmp(text, l->word, typed) == 0)
		printf("%.*s\t%s\n", (int)len, text, what);
}

static void offer(const struct line *l, const char *text, const char *what)
{
	offer_part(l, text, strlen(text), what);
}

/* Each of several words with @between between them. */
static void offer_each(const struct line *l, const char *words, char between)
{
	for (size_t len; *words; words += len + (words[len] == between)) {
		len = strcspn(words, (char[]){between, 0});
		offer_part(l, words, len, "");
	}
}

/* Names of files, after the word's first @keep characters. */
static void offer_files(const struct line *l, size_t keep)
{
	printf("\t%.*s\n", (int)keep, l->word);
}

static void offer_stores(const struct line *l)
{
	const char *comma = strrchr(l->word, ',');

	if (strncmp(l->word, "local:", 6) == 0) {
		offer_files(l, comma ? (size_t)(comma + 1 - l->word) : 6);
		return;
	}
	offer(l, "local:", "devices, in this process");
	offer(l, "pst://", "a server");
}

static void offer_commands(const struct line *l)
{
	for (unsigned i = 0; cli_commands[i]; i++)
		offer(l, cli_commands[i]->name, cli_commands[i]->summary);
}

static void offer_option(const struct cli_opt *o, void *arg)
{
	char text[40];

	snprintf(text, sizeof(text), "--%s", o->name);
	offer(arg, text, o->help);
}

/* Is the word this option's value? Then that is offered, and nothing else. */
static void offer_value(const struct cli_opt *o, void *arg)
{
	struct line *l = arg;
	const char *name = l->before + 1;

	if (!o->arg || l->before[0] != '-')
		return;
	if (name[0] == '-' ? strcmp(name + 1, o->name) != 0
	                   : !o->letter || name[0] != o->letter || name[1])
		return;
	l->value = true;
	if (strcmp(o->name, "store") == 0)
		offer_stores(l);
	else if (strchr(o->arg, '|'))
		offer_each(l, o->arg, '|');
	else
		offer_files(l, 0);
}

/* False: there is no such command. The command is the first word that is no option, and no option's value. */
static bool line_read(struct line *l, int count, char **words)
{
	int at = 0;

	*l = (struct line){.word = count ? words[count - 1] : "",
	                   .before = count > 1 ? words[count - 2] : ""};
	while (at < count - 1 && words[at][0] == '-')
		at += strcmp(words[at], "-s") == 0 || strcmp(words[at], "--store") == 0 ? 2 : 1;
	if (at >= count - 1)
		return true;
	l->command = cli_command_find(words[at]);
	/* A verb with a table of its own (nvme target) has its own options. */
	if (l->command == &cmd_nvme && at + 1 < count - 1 && nvme_verb_find(words[at + 1]))
		l->command = nvme_verb_find(words[++at]);
	l->first = at == count - 2;
	return l->command;
}

void cli_complete(int count, char **words)
{
	struct line l;

	if (!line_read(&l, count, words))
		return;
	cli_each_option(l.command, offer_value, &l);
	if (l.value)
		return;
	if (!l.command || l.word[0] == '-')
		cli_each_option(l.command, offer_option, &l);
	if (!l.command) {
		offer(&l, "--version", "which this is");
		offer_commands(&l);
	} else if (l.word[0] == '-') {
		return;
	} else if (l.first && l.command->words) {
		offer_each(&l, l.command->words, ' ');
	} else if (l.command == &cmd_help) {
		offer_each(&l, "devices paths", ' ');
		offer_commands(&l);
	} else {
		offer_files(&l, 0);
	}
}
