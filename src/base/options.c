/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options of device and store strings: "BASE?key=value&key=value". Split at the last '?', since a
 * file's name may hold one before it and no option's value may. Whoever understands an option takes
 * it by name; options_finish() then refuses what nobody took, so that a mistyped option never
 * passes in silence.
 */
#include <locale.h>
#include <math.h>

#include "base/base.h"

static int parse_one(struct options *o, char *text, struct pst_err *err)
{
	char *value = strchr(text, '=');

	if (value)
		*value++ = '\0';
	else
		value = text + strlen(text);
	if (!*text)
		return err_set(err, -EINVAL, "an option without a name in '%s'", o->base);
	for (unsigned i = 0; i < o->count; i++) {
		if (!strcmp(o->kv[i].key, text))
			return err_set(err, -EINVAL, "option '%s' is given twice", text);
	}
	if (o->count == OPTIONS_MAX)
		return err_set(err, -EINVAL, "more than %d options", OPTIONS_MAX);
	o->kv[o->count].key = text;
	o->kv[o->count].value = value;
	o->kv[o->count].used = false;
	o->count++;
	return 0;
}

int options_parse(struct options *o, const char *text, struct pst_err *err)
{
	size_t len = strlen(text) + 1;
	char *next;
	int rc;

	memset(o, 0, sizeof(*o));
	o->storage = mem_alloc(len);
	if (!o->storage)
		return err_set(err, -ENOMEM, "out of memory");
	o->storage_len = len;
	memcpy(o->storage, text, len);
	o->base = o->storage;
	next = strrchr(o->storage, '?');
	if (!next)
		return 0;
	*next++ = '\0';
	while (next && *next) {
		char *one = next;

		next = strchr(one, '&');
		if (next)
			*next++ = '\0';
		rc = parse_one(o, one, err);
		if (rc) {
			options_done(o);
			return rc;
		}
	}
	return 0;
}

void options_done(struct options *o)
{
	mem_free_secret(o->storage, o->storage_len);
	memset(o, 0, sizeof(*o));
}

const char *options_str(struct options *o, const char *key)
{
	for (unsigned i = 0; i < o->count; i++) {
		if (!strcmp(o->kv[i].key, key)) {
			o->kv[i].used = true;
			return o->kv[i].value;
		}
	}
	return NULL;
}

int options_size(struct options *o, const char *key, uint64_t *val, struct pst_err *err)
{
	const char *text = options_str(o, key);

	if (text && parse_size(text, val))
		return err_set(err, -EINVAL, "option %s: '%s' is not a size (as 512, 4k, 2MiB)",
		               key, text);
	return 0;
}

int options_u64(struct options *o, const char *key, uint64_t *val, struct pst_err *err)
{
	const char *text = options_str(o, key);
	uint64_t n = 0;

	if (!text)
		return 0;
	for (const char *p = text; *p || p == text; p++) {
		if (*p < '0' || *p > '9' || __builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
			return err_set(err, -EINVAL, "option %s: '%s' is not a whole number", key,
			               text);
	}
	*val = n;
	return 0;
}

int options_bool(struct options *o, const char *key, bool *val, struct pst_err *err)
{
	static const char *const yes[] = {"", "1", "true", "yes", "on"};
	static const char *const no[] = {"0", "false", "no", "off"};
	const char *text = options_str(o, key);

	if (!text)
		return 0;
	for (unsigned i = 0; i < ARRAY_LEN(yes); i++) {
		if (!strcmp(text, yes[i])) {
			*val = true;
			return 0;
		}
	}
	for (unsigned i = 0; i < ARRAY_LEN(no); i++) {
		if (!strcmp(text, no[i])) {
			*val = false;
			return 0;
		}
	}
	return err_set(err, -EINVAL, "option %s: '%s' is neither 1 nor 0", key, text);
}

/* The application's locale may write a comma where ours has a point, hence the C locale's. */
static int parse_double(const char *text, double *ret_val)
{
	locale_t c;
	double val;
	char *end;

	if ((*text < '0' || *text > '9') && *text != '.' && *text != '-')
		return -EINVAL; /* strtod would take white space, "inf" and "nan" */
	c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (!c)
		return -ENOMEM;
	val = strtod_l(text, &end, c);
	freelocale(c);
	if (*end || end == text || !isfinite(val))
		return -EINVAL;
	*ret_val = val;
	return 0;
}

int options_double(struct options *o, const char *key, double *val, struct pst_err *err)
{
	const char *text = options_str(o, key);

	if (text && parse_double(text, val))
		return err_set(err, -EINVAL, "option %s: '%s' is not a number", key, text);
	return 0;
}

int options_finish(struct options *o, const char *what, struct pst_err *err)
{
	for (unsigned i = 0; i < o->count; i++) {
		if (!o->kv[i].used)
			return err_set(err, -EINVAL, "%s has no option '%s'", what, o->kv[i].key);
	}
	return 0;
}
