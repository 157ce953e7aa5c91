/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * penstock/error.h - how Penstock says what went wrong.
 *
 * Every fallible function returns 0 or a negative errno value. Functions that a person may have to
 * debug (open, format, configuration) also fill a struct pst_err with one sentence that says what
 * failed and where. The library itself never prints and never exits.
 */
#ifndef PENSTOCK_ERROR_H
#define PENSTOCK_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/* Bytes of text that a struct pst_err holds, its final NUL included. */
#define PST_ERR_TEXT_BYTES 400

/*
 * One error in words. Owned by the caller; plain data, may be copied. A function that is given one
 * writes it only when it fails. NULL is accepted everywhere one is taken.
 */
struct pst_err {
	int code;                      /* the negative errno value that was returned */
	char text[PST_ERR_TEXT_BYTES]; /* a sentence without a final newline */
};

/*
 * The levels of the log callback, most severe first.
 */
enum pst_log_level {
	PST_LOG_ERROR,
	PST_LOG_WARN,
	PST_LOG_INFO,
	PST_LOG_DEBUG,
};

/*
 * pst_log_set - choose where log lines go.
 *
 * @fn: called with each line (no newline), from any thread that the library runs on; must not call
 *      back into the library. NULL drops all lines, which is the default.
 * @arg: handed to @fn; must stay valid until another callback is set.
 * @level: lines less severe than this are not formatted at all.
 *
 * Call it before other library functions; it is not synchronised with them. Never blocks.
 */
void pst_log_set(void (*fn)(void *arg, enum pst_log_level level, const char *line), void *arg,
                 enum pst_log_level level);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
