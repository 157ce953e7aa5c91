/* SPDX-License-Identifier: BSD-3-Clause */
/* Text for people, out of bytes that anybody may have chosen. */
#include "base/base.h"

unsigned utf8_char(const char *p, size_t len)
{
	const unsigned char *u = (const unsigned char *)p;
	unsigned n;

	if (!len || u[0] > 0xf4 || (u[0] >= 0x80 && u[0] < 0xc2))
		return 0;
	n = u[0] < 0x80 ? 1 : u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
	if (n > len)
		return 0;
	for (unsigned i = 1; i < n; i++)
		if ((u[i] & 0xc0) != 0x80)
			return 0;
	if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f) ||
	    (u[0] == 0xf0 && u[1] < 0x90) || (u[0] == 0xf4 && u[1] > 0x8f))
		return 0;
	return n;
}

/* Some terminals obey those of Latin-1, too: U+0080 to U+009F. */
static bool is_control(const char *p, unsigned n)
{
	const unsigned char *u = (const unsigned char *)p;

	return n == 1 ? u[0] < 0x20 || u[0] == 0x7f : n == 2 && u[0] == 0xc2 && u[1] < 0xa0;
}

static unsigned plain_char(const char *p, size_t len)
{
	unsigned n = utf8_char(p, len);

	return n && !is_control(p, n) ? n : 0;
}

bool text_plain(const char *s, size_t len)
{
	for (size_t at = 0; at < len;) {
		unsigned n = plain_char(s + at, len - at);

		if (!n)
			return false;
		at += n;
	}
	return true;
}

const char *text_show(char *buf, size_t cap, const char *s, size_t len)
{
	size_t to = 0, room = len < cap ? cap : cap - 3; /* a byte becomes a byte */

	pst_assert(cap > 3 || len < cap);
	for (size_t at = 0; at < len;) {
		unsigned n = plain_char(s + at, len - at);
		unsigned take = n ? n : 1;

		if (to + take >= room) {
			memcpy(buf + to, "...", 4);
			return buf;
		}
		if (n)
			memmove(buf + to, s + at, n);
		else
			buf[to] = '?';
		to += take;
		at += take;
	}
	buf[to] = 0;
	return buf;
}
