/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log - how much a server says, and where its lines go: the standard error output, as lines that a journal
 * takes apart by their "<N>" where it reads them, else with the time and the level in front.
 */
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/server.h"

static const char *const levels[] = {"error", "warning", "info", "debug"};

bool server_log_level(const char *text, enum pst_log_level *ret_level)
{
	for (unsigned i = 0; i < ARRAY_LEN(levels); i++) {
		if (!strcmp(text, levels[i])) {
			*ret_level = (enum pst_log_level)i;
			return true;
		}
	}
	return false;
}

/* Is the standard error output the journal's? systemd says which file that is. */
static bool to_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

static void journal_line(void *arg, enum pst_log_level level, const char *line)
{
	static const int priority[] = {3, 4, 6, 7};

	(void)fprintf(stderr, "<%d>%s\n", priority[level], line);
}

static void plain_line(void *arg, enum pst_log_level level, const char *line)
{
	uint64_t now = clock_real_ns();
	time_t seconds = (time_t)(now / NSEC_PER_SEC);
	char when[32];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	(void)fprintf(stderr, "%s.%03uZ penstock: %s: %s\n", when,
	              (unsigned)(now % NSEC_PER_SEC / NSEC_PER_MSEC), levels[level], line);
}

void server_log_start(enum pst_log_level level)
{
	pst_log_set(to_journal() ? journal_line : plain_line, NULL, level);
}
