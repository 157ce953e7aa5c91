/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz.h - the function that a fuzz target defines, and one that it may. LLVMFuzzerTestOneInput() is called
 * with hostile bytes, must keep no state from call to call, and returns 0; whatever goes wrong must end the
 * process.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* An input that is a program. */
struct input {
	const uint8_t *data;
	size_t len;
};

/* What lies beyond the end is 0. False: it ended before. */
static inline bool take(struct input *in, void *to, size_t len)
{
	size_t n = len < in->len ? len : in->len;

	memset(to, 0, len);
	if (n)
		memcpy(to, in->data, n);
	in->data += n;
	in->len -= n;
	return n == len;
}

static inline uint8_t byte(struct input *in)
{
	uint8_t b;

	(void)take(in, &b, 1);
	return b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/*
 * A target may say what its corpus is there for: called when all of it was replayed, it returns what was not
 * reached, in words, or NULL. (Most say nothing.)
 */
const char *fuzz_missing(void) __attribute__((weak));

#endif
