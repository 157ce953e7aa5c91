/* SPDX-License-Identifier: BSD-3-Clause */
/* Logging through the application's callback, and the last words of a failed assertion. */
#include <pthread.h>
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

static bool is_off(enum pst_log_level level)
{
	return !sink.fn || level > sink.level;
}

static void tell(enum pst_log_level level, const char *fmt, va_list ap)
{
	char line[LOG_LINE_BYTES];

	vsnprintf(line, sizeof(line), fmt, ap);
	sink.fn(sink.arg, level, line);
}

void log_line(enum pst_log_level level, const char *fmt, ...)
{
	va_list ap;

	if (is_off(level))
		return;
	va_start(ap, fmt);
	tell(level, fmt, ap);
	va_end(ap);
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

/* One limit for all doors: who is shut out at one goes to the next. */
void log_stranger(enum pst_log_level level, const char *fmt, ...)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct log_limit limit;
	uint64_t untold = 0;
	va_list ap;
	bool may;

	if (is_off(level))
		return;
	pthread_mutex_lock(&lock);
	may = log_may(&limit, clock_mono_ns(), LOG_STRANGERS_PER_S);
	if (may) {
		untold = limit.untold;
		limit.untold = 0;
	}
	pthread_mutex_unlock(&lock);
	if (!may)
		return;
	if (untold)
		log_warn("%llu more were refused or cut off than are told of",
		         (unsigned long long)untold);
	va_start(ap, fmt);
	tell(level, fmt, ap);
	va_end(ap);
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
