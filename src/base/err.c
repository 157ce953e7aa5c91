/* SPDX-License-Identifier: BSD-3-Clause */
/* Errors in words: filling and prefixing struct pst_err. */
#include <stdio.h>

#include "base/base.h"

#undef err_set
#undef err_prefix

int err_set(struct pst_err *err, int code, const char *fmt, ...)
{
	/* Formatted aside, so that an argument may point into err->text. */
	char text[PST_ERR_TEXT_BYTES];
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err->code = code;
	memcpy(err->text, text, sizeof(text));
	return code;
}

int err_prefix(struct pst_err *err, int code, const char *fmt, ...)
{
	char prefix[PST_ERR_TEXT_BYTES], text[2 * PST_ERR_TEXT_BYTES + 2];
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	vsnprintf(prefix, sizeof(prefix), fmt, ap);
	va_end(ap);
	snprintf(text, sizeof(text), "%s: %s", prefix, err->text);
	text[sizeof(err->text) - 1] = '\0';
	memcpy(err->text, text, sizeof(err->text));
	return err->code;
}
