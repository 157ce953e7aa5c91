/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch - wait for changes in a container of a served store, by whichever client.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/base.h"
#include "cli/cli.h"
#include "cli/commands.h"

enum { OPT_SINCE, OPT_COUNT, OPT_TIMEOUT };

static const struct cli_opt opts[] = {
        [OPT_SINCE] = {0, "since", "NUMBER", "changes after this one (default: from now on)"},
        [OPT_COUNT] = {'n', "count", "N", "end after so many lines (default: never)"},
        [OPT_TIMEOUT] = {'t', "timeout", "SECONDS", "wait no longer for each (default: for ever)"},
        {0, NULL, NULL, NULL},
};

struct watch {
	struct cli *cli;
	const char *name; /* as it was given */
	struct pst_cont *cont;
	struct pst_oid oid;
	bool object;
	uint64_t seen, count, timeout_s;
	uint64_t began_ns; /* the last wait */
};

static int say(const struct watch *w)
{
	char at[32], number[24];

	/* A string: it has more bits than a double, which is what many readers of JSON make of a number, and one
	 * that was rounded is no good for --since. */
	(void)snprintf(number, sizeof(number), "%" PRIu64, w->seen);
	if (w->cli->json)
		return cli_print_json(w->cli, json_pack("{s:s}", "change", number));
	(void)printf("%" PRIu64 "  %s\n", w->seen, cli_time((int64_t)clock_real_ns(), at));
	return fflush(stdout) ? cli_fail(w->cli, -errno, "standard output") : CLI_OK;
}

static int wait_for(struct watch *w)
{
	w->began_ns = clock_mono_ns();
	return pst_cont_watch(w->cont, w->object ? &w->oid : NULL, w->timeout_s * NSEC_PER_SEC,
	                      &w->seen);
}

static int watch(struct watch *w)
{
	int rc = w->seen ? 0 : wait_for(w), status = CLI_OK;

	for (uint64_t n = 0; !rc && status == CLI_OK && (!w->count || n < w->count); n++) {
		rc = wait_for(w);
		if (!rc)
			status = say(w);
	}
	if (rc == -ENOTSUP)
		return cli_fail(w->cli, 0, "%s: only a served store (pst://...) tells of changes",
		                w->name);
	/* Before that it is the server that has been away for too long. */
	if (rc == -ETIMEDOUT && w->timeout_s &&
	    clock_mono_ns() - w->began_ns >= w->timeout_s * NSEC_PER_SEC)
		return cli_fail(w->cli, 0, "%s: no change within %" PRIu64 " s", w->name,
		                w->timeout_s);
	return rc ? cli_fail(w->cli, rc, "%s", w->name) : status;
}

static int open_what(struct watch *w, char *text)
{
	char *colon = strchr(text, ':');
	int status;

	w->object = colon != NULL;
	if (colon && cli_oid_parse(colon + 1, &w->oid) < 0)
		return cli_usage(
		        w->cli,
		        "%s: the object is a number but 0, or HIGH.LOW (0x for hexadecimal)", text);
	if (cli_open(w->cli, true) != CLI_OK)
		return CLI_FAILED;
	if (colon)
		*colon = 0;
	status = cli_cont_open(w->cli, text, &w->cont);
	if (colon)
		*colon = ':';
	return status == CLI_OK ? CLI_OK : cli_close(w->cli, status);
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct watch w = {.cli = cli};
	const char *value;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		if (opt == OPT_SINCE && cli_number(cli, "since", value, 1, UINT64_MAX, &w.seen) < 0)
			return CLI_USAGE;
		if (opt == OPT_COUNT &&
		    cli_number(cli, "count", value, 1, UINT64_MAX, &w.count) < 0)
			return CLI_USAGE;
		if (opt == OPT_TIMEOUT &&
		    cli_number(cli, "timeout", value, 1, 1000000000, &w.timeout_s) < 0)
			return CLI_USAGE;
	}
	if (opt == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 1, 1);
	if (status != CLI_OK)
		return status;
	w.name = cli->args[0];
	status = open_what(&w, cli->args[0]);
	if (status != CLI_OK)
		return status;
	status = watch(&w);
	pst_cont_close(w.cont);
	return cli_close(cli, status);
}

const struct cli_command cmd_watch = {
        .name = "watch",
        .args = "CONTAINER[:OBJECT] [--since NUMBER] [--count N] [--timeout SECONDS]",
        .summary = "Wait for changes in a served store's container",
        .help = "Prints a line when something in the container was changed, by whichever client:\n"
                "the number of the last change, and the time. Several that come close together\n"
                "may be one line, and a line may stand for no change at all (after a restart of\n"
                "the server, for one); but none is missed, if the number that was printed last\n"
                "is given back with --since. With an object's number only changes to that. In "
                "JSON\n"
                "the number is a string, since it may be larger than 2^53 (jq -r .change).\n"
                "\n"
                "Exit status: 1 when the timeout is over, too.\n"
                "\n"
                "Examples:\n"
                "  PENSTOCK_STORE=pst://localhost penstock watch train\n"
                "  penstock watch cache:17 --count 1 && ./reload\n",
        .opts = opts,
        .flags = CLI_JSON,
        .run = run,
};
