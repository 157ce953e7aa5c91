/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * top - a served store, as it is now, again and again: on a terminal the screen is drawn anew, into a
 * pipe one block follows the other.
 */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/base.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/top.h"

enum { OPT_INTERVAL, OPT_COUNT };

#define TURN_NS (50 * NSEC_PER_MSEC) /* a key is noticed so soon */

static const struct cli_opt opts[] = {
        [OPT_INTERVAL] = {'i', "interval", "SECONDS", "between two samples (default: 2)"},
        [OPT_COUNT] = {'n', "count", "N", "end after so many (default: never; with --json: 1)"},
        {0, NULL, NULL, NULL},
};

struct top {
	struct cli *cli;
	uint64_t interval_ns, count; /* count 0: for ever */
	bool screen, keys;           /* stdout, and stdin, is a terminal */
	struct termios was;
	char *text;
	struct top_sample *sample[2];
};

static volatile sig_atomic_t ended;

static void on_signal(int sig)
{
	ended = 1;
}

/* --- the terminal: as it was, however this ends --- */

static void screen_open(struct top *t)
{
	const struct sigaction act = {.sa_handler = on_signal};

	t->screen = isatty(STDOUT_FILENO) && !t->cli->json;
	if (!t->screen)
		return;
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGHUP, &act, NULL);
	t->keys = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &t->was) == 0;
	if (t->keys) {
		struct termios raw = t->was;

		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		t->keys = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
	}
	printf("\033[?1049h\033[?25l"); /* the other screen, no cursor */
}

static void screen_close(struct top *t)
{
	if (!t->screen)
		return;
	printf("\033[?25h\033[?1049l");
	(void)fflush(stdout);
	if (t->keys)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &t->was);
}

static bool quit_asked(struct top *t)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
	char c;

	if (ended)
		return true;
	if (!t->keys || poll(&p, 1, 0) <= 0)
		return false;
	if (read(STDIN_FILENO, &c, 1) != 1) {
		t->keys = false;
		return false;
	}
	return c == 'q' || c == 'Q' || c == 4;
}

/* --- samples --- */

static int take(struct top *t, struct top_sample *s)
{
	int rc = pst_client_figures(t->cli->client, t->text, TOP_TEXT_MAX, NULL);

	if (rc == -ENOTSUP)
		return cli_fail(t->cli, 0,
		                "nobody serves this store, or an older server: top is for "
		                "pst://HOST[:PORT]");
	if (rc == -EACCES)
		return cli_fail(t->cli, 0, "that takes the right to manage the server");
	if (rc < 0)
		return cli_fail(t->cli, rc, "asking the server");
	if (!top_parse(s, t->text))
		return cli_fail(t->cli, 0, "the server's figures can't be read");
	s->time_ns = clock_mono_ns();
	return CLI_OK;
}

/* True: go on. The client is driven meanwhile: it has to answer the server's questions. */
static bool wait_for_next(struct top *t, uint64_t from_ns)
{
	uint64_t now, until = from_ns + t->interval_ns;

	while ((now = clock_mono_ns()) < until) {
		if (quit_asked(t))
			return false;
		(void)pst_client_turn(t->cli->client, MIN(until - now, TURN_NS));
	}
	return !quit_asked(t);
}

static int show(struct top *t, uint64_t done)
{
	const struct top_sample *a = t->sample[0], *b = t->sample[1];
	const char *store = t->cli->store ? t->cli->store : getenv("PENSTOCK_STORE");
	struct winsize w = {0};

	if (t->cli->json)
		return cli_print_json(t->cli, top_json(a, b));
	store = store ? store : "";
	if (t->screen) {
		(void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &w);
		printf("\033[H");
		top_show(stdout, store, a, b, w.ws_col ? w.ws_col : 80, w.ws_row ? w.ws_row : 24,
		         "\033[K\n");
		printf("\033[J");
	} else {
		if (done)
			printf("\n");
		top_show(stdout, store, a, b, 0, 0, "\n");
	}
	return fflush(stdout) == 0 ? CLI_OK : cli_fail(t->cli, -errno, "writing");
}

static int watch(struct top *t)
{
	int status = take(t, t->sample[0]);

	for (uint64_t done = 0; status == CLI_OK && (!t->count || done < t->count); done++) {
		struct top_sample *swap = t->sample[0];

		/* The first screen comes soon: what a short while tells is better than nothing. */
		if (!wait_for_next(t, t->sample[0]->time_ns))
			break;
		status = take(t, t->sample[1]);
		if (status == CLI_OK)
			status = show(t, done);
		t->sample[0] = t->sample[1];
		t->sample[1] = swap;
	}
	return status;
}

static int run_on(struct cli *cli, struct top *t)
{
	int status;

	t->text = mem_alloc(TOP_TEXT_MAX);
	t->sample[0] = mem_alloc(sizeof(struct top_sample));
	t->sample[1] = mem_alloc(sizeof(struct top_sample));
	if (!t->text || !t->sample[0] || !t->sample[1]) {
		status = cli_fail(cli, -ENOMEM, "the figures");
	} else {
		screen_open(t);
		status = watch(t);
		screen_close(t);
	}
	mem_free(t->text);
	mem_free(t->sample[0]);
	mem_free(t->sample[1]);
	return status;
}

static int take_interval(struct cli *cli, const char *value, uint64_t *ret_ns)
{
	char *end;
	double s = strtod(value, &end);

	if (end == value || *end || !isfinite(s) || s < 0.1 || s > 86400)
		return cli_usage(cli, "--interval %s: not seconds from 0.1 to 86400", value);
	*ret_ns = (uint64_t)(s * 1e9);
	return CLI_OK;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct top t = {.cli = cli, .interval_ns = 2 * NSEC_PER_SEC};
	const char *value;
	bool counted = false;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		if (opt == OPT_INTERVAL && take_interval(cli, value, &t.interval_ns) != CLI_OK)
			return CLI_USAGE;
		if (opt == OPT_COUNT &&
		    cli_number(cli, "count", value, 1, UINT64_MAX, &t.count) < 0)
			return CLI_USAGE;
		counted |= opt == OPT_COUNT;
	}
	if (opt == -2)
		return cli_end_status(cli);
	if (!counted)
		t.count = cli->json;
	status = cli_operand_count(cli, 0, 0);
	if (status == CLI_OK)
		status = cli_open(cli, true);
	if (status != CLI_OK)
		return status;
	return cli_close(cli, run_on(cli, &t));
}

const struct cli_command cmd_top = {
        .name = "top",
        .args = "[--interval SECONDS] [--count N]",
        .summary = "Watch a served store: requests, latency, tenants, space",
        .help = "Asks the server for its figures over the data plane, as who may manage it, and\n"
                "shows what happened since the last time: for each kind of request its rate,\n"
                "errors, payload, latency (half, and 99 in 100, were not slower; out of buckets\n"
                "that double, so about) and where its time went: waiting for its turn (QUEUE),\n"
                "for memory and payload (IN), in the STORE, until the answer had left (OUT). Then\n"
                "the tenants, the busiest first. q ends it.\n"
                "\n"
                "Into a pipe one block follows the other. With --json one object for each.\n"
                "\n"
                "Examples:\n"
                "  PENSTOCK_STORE=pst://localhost penstock top\n"
                "  penstock -s pst://localhost top --json --interval 10 | jq .ops[0].p99_s\n",
        .opts = opts,
        .flags = CLI_JSON,
        .run = run,
};
