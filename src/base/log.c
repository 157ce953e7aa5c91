/* SPDX-License-Identifier: BSD-3-Clause */
/* Logging through the application's callback, and the last words of a failed assertion. */
#include <stdio.h>

#include "base/base.h"

#define LOG_LINE_BYTES 1024

/* Set once before other calls (pst_log_set says so), hence plain. */
static struct {
	void (*fn)(void *arg, enum pst_log_level level, const char *line);
	void *arg;
	enum pst_log_level level;
} sink;

__attribute__((visibility("default"))) void
pst_log_set(void (*fn)(void *arg, enum pst_log_level level, const char *line), void *arg,
            enum pst_log_level level)
{
	sink.fn = fn;
	sink.arg = arg;
	sink.level = level;
}

void log_line(enum pst_log_level level, const char *fmt, ...)
{
	char line[LOG_LINE_BYTES];
	va_list ap;

	if (!sink.fn || level > sink.level)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	sink.fn(sink.arg, level, line);
}

bool log_may(struct log_limit *l, uint64_t now_ns, unsigned per_second)
{
	if (now_ns - l->since_ns >= NSEC_PER_SEC) {
		l->since_ns = now_ns;
		l->told = 0;
	}
	if (l->told == per_second) {
		l->untold++;
		return false;
	}
	l->told++;
	return true;
}

/*
 * The one place where the library writes to standard error: the process is about to die, and a
 * reason that only a callback knows would often be lost with it.
 */
_Noreturn void assert_failed(const char *expr, const char *file, int line, const char *func)
{
	log_error("assertion failed: %s (%s:%d, %s)", expr, file, line, func);
	fprintf(stderr, "penstock: assertion failed: %s (%s:%d, %s)\n", expr, file, line, func);
	abort();
}
