/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * signals - what SIGINT and SIGTERM do to a long command.
 *
 * It says that it was interrupted, and ends as the signal has it (status 130 or 143 in a shell). There
 * is nothing to tidy up: what was acknowledged is durable, and nothing half-done is ever seen. A
 * measurement, though, is what somebody waited for: the first signal only ends it, what came out is
 * told, and then the command ends as the signal has it.
 */
#include "cli/cli.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"

static char interrupted[64], ending[96];
static atomic_bool measuring;
static atomic_int cut_by; /* the signal; 0: none */

static void say(const char *text)
{
	ssize_t n = write(STDERR_FILENO, text, strlen(text));

	(void)n;
}

static void on_signal(int sig)
{
	int none = 0;

	if (atomic_load(&measuring) && atomic_compare_exchange_strong(&cut_by, &none, sig)) {
		say(ending);
		return;
	}
	say(interrupted);
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
}

void cli_signals(const struct cli *cli)
{
	static const int sigs[] = {SIGINT, SIGTERM};
	const char *line = isatty(STDERR_FILENO) ? "\n" : "", *name = cli->command->name;
	struct sigaction was, act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

	snprintf(interrupted, sizeof(interrupted), "%spenstock: %s: interrupted\n", line, name);
	snprintf(ending, sizeof(ending), "%spenstock: %s: cut short; once more ends it at once\n",
	         line, name);
	for (unsigned i = 0; i < ARRAY_LEN(sigs); i++)
		if (sigaction(sigs[i], NULL, &was) == 0 && was.sa_handler == SIG_DFL)
			sigaction(sigs[i], &act, NULL);
}

void cli_measuring(bool on)
{
	atomic_store(&measuring, on);
}

bool cli_cut_short(void)
{
	return atomic_load_explicit(&cut_by, memory_order_relaxed) != 0;
}

void cli_signals_end(void)
{
	int sig = atomic_load(&cut_by);

	if (!sig)
		return;
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
}
