/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cli - the `penstock` command: one file per subcommand, one table of them, and what they share:
 * options, errors, opening the store, paths on it.
 *
 * Everything runs on the main thread over a driven client, but for jobs.h. A command returns its
 * exit status: CLI_OK, CLI_FAILED, CLI_USAGE; errors go to stderr as
 * "penstock: COMMAND: what and where: why".
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "penstock/penstock.h"

struct json_t;

enum {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
};

/* An option of a command. The array ends with one whose name is NULL. */
struct cli_opt {
	char letter;      /* 0: only the long form */
	const char *name; /* without the dashes */
	const char *arg;  /* what its argument is called; NULL: it takes none */
	const char *help;
};

#define CLI_JSON     1u /* takes --json */
#define CLI_PROGRESS 2u /* takes --progress */
#define CLI_NO_STORE 4u /* takes no store: -s is refused, but by help and version */

struct cli;

struct cli_command {
	const char *name;
	const char *args;    /* the usage line after the name; several lines: several forms */
	const char *summary; /* one line for `penstock help` */
	const char *help;    /* paragraphs; examples last */
	const char *words;   /* verbs that come first, separated by spaces; NULL: none */
	const struct cli_opt *opts;
	unsigned flags;
	int (*run)(struct cli *cli, int argc, char **argv);
};

/* NULL-terminated. */
extern const struct cli_command *const cli_commands[];
const struct cli_command *cli_command_find(const char *name);

struct cli {
	const struct cli_command *command;
	const char *store; /* -s, or NULL */
	bool quiet, verbose, json, progress;
	struct pst_client *client;
	char cont[PST_NAME_MAX + 1]; /* of the path that was opened last */
	int out_errno; /* why the standard output took no more, where that is known; 0: not yet */
	/* cli_option()'s */
	int arg_count;
	char **args; /* the operands, once all options were taken */
	bool ended;  /* --help was asked for and answered */
	void *parser;
};

/* --- options.c --- */

/*
 * Takes the next option of the command line, wherever it stands. Returns its index in the command's
 * table, with *ret_value its argument; -1 at the end (cli->args are the operands then); -2 when the
 * command should return cli_end_status() at once (usage error, or --help). Common options are taken
 * inside.
 */
int cli_option(struct cli *cli, int argc, char **argv, const char **ret_value);
int cli_end_status(const struct cli *cli);
/* True, with a message, when the command takes no store and was given one: CLI_USAGE. */
bool cli_store_refused(struct cli *cli);
/* For commands without options of their own: takes the common ones and checks how many operands
 * there are. 0, or -2. max < 0: any number. */
int cli_operands(struct cli *cli, int argc, char **argv, int min, int max);
/* After cli_option(): the number of operands. 0, or CLI_USAGE with a message. */
int cli_operand_count(struct cli *cli, int min, int max);
/* Values of options; on a bad one they say so and return -1. */
int cli_size(struct cli *cli, const char *option, const char *value, uint64_t *ret_bytes);
int cli_number(struct cli *cli, const char *option, const char *value, uint64_t min, uint64_t max,
               uint64_t *ret_number);

/* --- help.c --- */

void cli_help(FILE *out);
void cli_help_command(const struct cli_command *c, FILE *out);
void cli_help_man(const struct cli_command *c); /* as a man page, on stdout; in help_man.c */
/* The command's options, the common ones last; NULL: those alone. */
void cli_each_option(const struct cli_command *c, void (*each)(const struct cli_opt *o, void *arg),
                     void *arg);
int cli_help_topic(const char *topic); /* command or topic; CLI_USAGE when there is none */

/* --- complete.c --- */

void cli_complete(int count, char **words);

/* --- signals.c --- */

/* From now on SIGINT and SIGTERM end the command with a sentence, unless they are ignored. */
void cli_signals(const struct cli *cli);
/* While @on is so the first of them only asks for the end of a measurement. */
void cli_measuring(bool on);
/* Whether that was asked for. On any thread. */
bool cli_cut_short(void);
/* The end of a command that was cut short and is all right otherwise: it does not return then. */
void cli_signals_end(void);

/* --- cli.c --- */

/* "penstock: COMMAND: ..." and CLI_FAILED; with @rc < 0 the reason is added. */
int cli_fail(struct cli *cli, int rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same, with a hint at --help, and CLI_USAGE. */
int cli_usage(struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A line on stderr unless -q. */
void cli_note(struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* What an errno value means here, in words. */
const char *cli_why(int rc);

/* Opens cli->client (driven). CLI_OK, or a status with the message printed. */
int cli_open(struct cli *cli, bool read_only);
/* Closes it, if it is open; @status, or CLI_FAILED when closing failed. */
int cli_close(struct cli *cli, int status);

/* "file", "files": the ending of a plural. */
#define PLURAL(n) ((n) == 1 ? "" : "s")

/* Prints JSON with a newline, frees it; CLI_OK, or CLI_FAILED when there was no memory. */
int cli_print_json(struct cli *cli, struct json_t *value);
/* "2026-11-20 23:59:59" in local time. */
const char *cli_time(int64_t ns, char buf[32]);
/* Control characters in names as "?", so that a name can't write to the terminal; in pipes as is.
 */
const char *cli_name(const char *name, char *buf, size_t buf_len);
/* Bytes as they are, on the standard output. */
void cli_print_raw(struct cli *cli, const void *bytes, size_t len);
/* Names' control characters as above, of bytes that no NUL ends, there too. */
void cli_print_bytes(struct cli *cli, const void *bytes, size_t len);
void cli_uuid(const uint8_t uuid[16], char buf[37]);

/* --- paths: CONTAINER:/path and CONTAINER@SNAPSHOT:/path --- */

struct cli_path {
	char cont[2 * PST_NAME_MAX + 2]; /* with the snapshot */
	const char *path;                /* without leading slashes: "" is the root */
	const char *text;                /* as given */
};
/* True when @text has the form of one: a container's name, a colon. "./a:b" is a local file. */
bool cli_is_store_path(const char *text);
/* 0, or CLI_USAGE with a message. */
int cli_path_parse(struct cli *cli, const char *text, struct cli_path *ret_path);
/* A number, decimal or hexadecimal (0x), and where it ends. 0; -EINVAL: it begins with no digit; -ERANGE. */
int cli_u64(const char *text, uint64_t *ret_number, const char **ret_end);
/* An object's id: a number, decimal or hexadecimal (0x), or HI.LO. 0, or -EINVAL. */
int cli_oid_parse(const char *text, struct pst_oid *ret_oid);
/* Opens the container of a path; a message when it fails. */
int cli_path_open(struct cli *cli, const struct cli_path *p, struct pst_cont **ret_cont);
/* The same of CONTAINER or CONTAINER@SNAPSHOT. */
int cli_cont_open(struct cli *cli, const char *name, struct pst_cont **ret_cont);
/* For commands whose operands are devices: CLI_USAGE, and told, if one is a store's name. */
int cli_devices(struct cli *cli);
/* Sets the log's level: by -q, -v and PENSTOCK_DEBUG. */
void cli_log(const struct cli *cli);
/* The last component: points into @path; "" for the root. */
const char *cli_base_name(const char *path);
/* "a/b" of "a" and "b" into a new string; NULL: no memory. */
char *cli_join(const char *dir, const char *name);

#endif
