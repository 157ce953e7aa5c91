/* SPDX-License-Identifier: BSD-3-Clause */
/* Sizes as people write them. */
#include <stdio.h>

#include "base/base.h"

static const char units[] = "KMGTPE"; /* 1024 to the 1st, 2nd, ... 6th */

/* The power of 1024 that @suffix ("", "B", "k", "kB", "Ki", "KiB"...) stands for, or -EINVAL. */
static int suffix_power(const char *suffix)
{
	int power = 0;

	if (*suffix && *suffix != 'b' && *suffix != 'B') {
		char upper = (*suffix >= 'a' && *suffix <= 'z') ? (char)(*suffix - 32) : *suffix;
		const char *u = strchr(units, upper);

		if (!u)
			return -EINVAL;
		power = (int)(u - units) + 1;
		suffix++;
		if (*suffix == 'i')
			suffix++;
	}
	if (*suffix == 'b' || *suffix == 'B')
		suffix++;
	return *suffix ? -EINVAL : power;
}

int parse_size(const char *text, uint64_t *ret_bytes)
{
	uint64_t n = 0;
	int power;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	for (; *text >= '0' && *text <= '9'; text++) {
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return -ERANGE;
	}
	power = suffix_power(text);
	if (power < 0)
		return power;
	while (power--) {
		if (__builtin_mul_overflow(n, KIB, &n))
			return -ERANGE;
	}
	*ret_bytes = n;
	return 0;
}

/* @bytes in tenths of the @power-th unit, rounded. Far below an overflow for any @bytes. */
static unsigned tenths_of(uint64_t bytes, unsigned power)
{
	return (unsigned)(((bytes >> (10 * (power - 1))) * 10 + 512) / 1024);
}

char *format_size(uint64_t bytes, char *buf, size_t buf_len)
{
	unsigned power, tenths;

	if (bytes < KIB) {
		snprintf(buf, buf_len, "%u B", (unsigned)bytes);
		return buf;
	}
	power = (63 - (unsigned)__builtin_clzll(bytes)) / 10;
	if (tenths_of(bytes, power) >= 10240 && power < sizeof(units) - 1)
		power++; /* rounding would print 1024 of the smaller unit */
	tenths = tenths_of(bytes, power);
	if (tenths % 10)
		snprintf(buf, buf_len, "%u.%u %ciB", tenths / 10, tenths % 10, units[power - 1]);
	else
		snprintf(buf, buf_len, "%u %ciB", tenths / 10, units[power - 1]);
	return buf;
}
