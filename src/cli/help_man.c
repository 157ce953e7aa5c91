/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * help_man - a command's help as a man page (man(7) macros): there is one text to keep true. The
 * build writes and installs penstock-COMMAND.1 with it.
 */
#include <ctype.h>
#include <string.h>

#include "cli/cli.h"

/* Text with what roff would take for its own escaped. */
static void text(const char *s, size_t len)
{
	if (len && (s[0] == '.' || s[0] == '\''))
		fputs("\\&", stdout);
	for (size_t i = 0; i < len; i++) {
		if (s[i] == '\\')
			fputs("\\e", stdout);
		else if (s[i] == '-')
			fputs("\\-", stdout);
		else
			putchar(s[i]);
	}
}

static void text_line(const char *s)
{
	text(s, strlen(s));
	putchar('\n');
}

static void head(const struct cli_command *c)
{
	printf(".\\\" Made by: penstock help --man %s\n.TH PENSTOCK\\-", c->name);
	for (const char *n = c->name; *n; n++)
		fputs(*n == ' ' ? "\\-" : (char[]){(char)toupper((unsigned char)*n), 0}, stdout);
	printf(" 1 2026-11-20 \"Penstock %s\" \"Penstock\"\n.SH NAME\npenstock\\-",
	       pst_version_text());
	for (const char *n = c->name; *n; n++)
		fputs(*n == ' ' ? "\\-" : (char[]){*n, 0}, stdout);
	fputs(" \\- ", stdout);
	putchar(tolower((unsigned char)c->summary[0]));
	text_line(c->summary + 1);
}

static void synopsis(const struct cli_command *c)
{
	const char *line = c->args;

	printf(".SH SYNOPSIS\n");
	for (bool more = true; more; line++) {
		size_t len = strcspn(line, "\n");

		/* A line that is indented goes on with the one before. */
		if (line[0] != ' ')
			printf("%s.B penstock %s\n", line == c->args ? "" : ".br\n", c->name);
		text(line + strspn(line, " "), len - strspn(line, " "));
		putchar('\n');
		line += len;
		more = *line;
	}
}

/* Paragraphs; what is indented is shown as it is; "Examples:" begins a section. */
static void description(const struct cli_command *c)
{
	const char *line = c->help;
	bool shown = false;

	printf(".SH DESCRIPTION\n");
	text(c->summary, strlen(c->summary));
	puts(strncmp(line, "Example", 7) == 0 ? "." : ".\n.PP");
	while (*line) {
		size_t len = strcspn(line, "\n");
		bool indented = line[0] == ' ';

		if (indented != shown)
			puts(indented ? ".nf" : ".fi");
		shown = indented;
		if (strncmp(line, "Example", 7) == 0) {
			puts(".SH EXAMPLES");
		} else if (len == 0) {
			if (strncmp(line + 1, "Example", 7) != 0)
				puts(".PP");
		} else {
			text(line + (indented ? 2 : 0), len - (indented ? 2 : 0));
			putchar('\n');
		}
		line += len + (line[len] == '\n');
	}
	if (shown)
		puts(".fi");
}

static void option(char letter, const char *name, const char *arg, const char *help)
{
	puts(".TP");
	fputs(".B ", stdout);
	if (letter)
		printf("\\-%c, ", letter);
	fputs("\\-\\-", stdout);
	text(name, strlen(name));
	if (arg)
		printf(" \\fI%s\\fR", arg);
	putchar('\n');
	text_line(help);
}

void cli_help_man(const struct cli_command *c)
{
	head(c);
	synopsis(c);
	description(c);
	puts(".SH OPTIONS");
	for (unsigned i = 0; c->opts && c->opts[i].name; i++)
		option(c->opts[i].letter, c->opts[i].name, c->opts[i].arg, c->opts[i].help);
	if (c->flags & CLI_JSON)
		option(0, "json", NULL, "print JSON");
	if (c->flags & CLI_PROGRESS)
		option(0, "progress", NULL, "show progress even if stderr is no terminal");
	if ((c->opts && c->opts[0].name) || c->flags & (CLI_JSON | CLI_PROGRESS))
		puts(".PP");
	printf("Options for all commands are in\n.BR penstock (1).\n"
	       ".SH EXIT STATUS\n0, 1 when something failed, 2 when the command line was wrong.\n"
	       ".SH SEE ALSO\n.BR penstock (1),\n.BR penstock\\-devices (7)\n");
}
