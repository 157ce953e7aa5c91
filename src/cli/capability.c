/* SPDX-License-Identifier: BSD-3-Clause */
/* capability - rights, times and ids between text and what the server takes. */
#include "cli/capability.h"

#include <inttypes.h>
#include <jansson.h>

#include "base/base.h"
#include "cli/attr.h"

#define RIGHTS_RO (RIGHT_READ | RIGHT_LIST)
#define RIGHTS_RW \
	(RIGHTS_RO | RIGHT_WRITE | RIGHT_APPEND | RIGHT_SETATTR | RIGHT_REMOVE | RIGHT_CREATE)

static const struct {
	const char *name;
	uint32_t rights;
} words[] = {
        {"read", RIGHT_READ},     {"write", RIGHT_WRITE},
        {"append", RIGHT_APPEND}, {"setattr", RIGHT_SETATTR},
        {"list", RIGHT_LIST},     {"remove", RIGHT_REMOVE},
        {"create", RIGHT_CREATE}, {"snapshot", RIGHT_SNAPSHOT},
        {"admin", RIGHT_ADMIN},   {"ro", RIGHTS_RO},
        {"rw", RIGHTS_RW},        {"all", RIGHTS_ALL},
};
#define SINGLE 9u /* of them are one right each */

bool capability_rights(const char *text, uint32_t *ret_rights)
{
	uint32_t rights = 0;

	while (*text) {
		size_t len = strcspn(text, ",");
		unsigned i = 0;

		while (i < ARRAY_LEN(words) &&
		       (strlen(words[i].name) != len || strncmp(words[i].name, text, len) != 0))
			i++;
		if (i == ARRAY_LEN(words))
			return false;
		rights |= words[i].rights;
		text += len;
		text += *text == ',' && text[1];
	}
	*ret_rights = rights;
	return rights != 0;
}

const char *capability_rights_text(uint32_t rights, char *buf, size_t len)
{
	size_t at = 0;

	buf[0] = 0;
	for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
		bool whole = i >= SINGLE && words[i].rights == rights;

		if (whole)
			(void)snprintf(buf, len, "%s", words[i].name);
		else if (i < SINGLE && (rights & words[i].rights) && at < len)
			at += (size_t)snprintf(buf + at, len - at, "%s%s", at ? "," : "",
			                       words[i].name);
	}
	return buf;
}

bool capability_expiry(const char *text, uint64_t now_ns, uint64_t *ret_ns)
{
	static const struct {
		char unit;
		uint64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
	uint64_t n = 0;
	const char *p = text;

	if (!strcmp(text, "never")) {
		*ret_ns = 0;
		return true;
	}
	for (; *p >= '0' && *p <= '9' && n < UINT32_MAX; p++)
		n = n * 10 + (uint64_t)(*p - '0');
	if (p == text || !n || !p[0] || p[1])
		return false;
	for (unsigned i = 0; i < ARRAY_LEN(units); i++)
		if (units[i].unit == *p && n <= UINT32_MAX / units[i].seconds) {
			*ret_ns = now_ns + n * units[i].seconds * NSEC_PER_SEC;
			return true;
		}
	return false;
}

/* One number, up to one of @ends (@last: or up to the end of the text); NULL: it is none. */
static const char *id(const char *text, const char *ends, bool last, uint32_t *ret_id)
{
	uint64_t n = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9' && n <= UINT32_MAX; p++)
		n = n * 10 + (uint64_t)(*p - '0');
	if (p == text || n > UINT32_MAX || !(*p ? strchr(ends, *p) != NULL : last))
		return NULL;
	*ret_id = (uint32_t)n;
	return p;
}

bool capability_ids(const char *text, struct cap_info *i)
{
	const char *p = text;

	if (!strcmp(text, "any")) {
		i->map = CAP_MAP_ANY;
		return true;
	}
	if (strchr(text, ':')) {
		i->map = CAP_MAP_SQUASH;
		p = id(p, ":", false, &i->uid);
		return p && id(p + 1, "", true, &i->gid);
	}
	i->map = CAP_MAP_RANGES;
	for (i->range_count = 0; i->range_count < CAP_RANGES_MAX; i->range_count++, p++) {
		struct cap_range *r = &i->range[i->range_count];

		p = id(p, "-", false, &r->first);
		p = p ? id(p + 1, ",", true, &r->last) : NULL;
		if (!p || r->last < r->first)
			return false;
		if (!*p) {
			i->range_count++;
			return true;
		}
	}
	return false;
}

/* --- out --- */

static json_t *ids_json(const struct cap_info *i)
{
	json_t *o = json_array();

	if (i->map == CAP_MAP_SQUASH) {
		json_decref(o);
		return json_pack("{s:I, s:I}", "uid", (json_int_t)i->uid, "gid",
		                 (json_int_t)i->gid);
	}
	for (unsigned k = 0; i->map == CAP_MAP_RANGES && k < i->range_count; k++)
		json_array_append_new(o, json_pack("{s:I, s:I}", "first",
		                                   (json_int_t)i->range[k].first, "last",
		                                   (json_int_t)i->range[k].last));
	return o;
}

json_t *capability_json(const struct cap_info *i)
{
	json_t *o = json_pack("{s:I, s:I, s:I}", "id", (json_int_t)i->id, "tenant",
	                      (json_int_t)i->tenant, "container_id", (json_int_t)i->cont);
	json_t *rights = json_array();

	for (unsigned k = 0; k < SINGLE; k++)
		if (i->rights & words[k].rights)
			json_array_append_new(rights, json_string(words[k].name));
	json_set_text(o, "container", i->cont_name);
	json_set_text(o, "prefix", i->prefix);
	json_set_text(o, "subject", i->subject);
	json_object_set_new(o, "rights", rights);
	json_object_set_new(o, "ids", ids_json(i));
	json_object_update_new(
	        o, json_pack("{s:I, s:I, s:I, s:I}", "expires_ns", (json_int_t)i->expiry_ns,
	                     "created_ns", (json_int_t)i->ctime_ns, "bytes_per_s",
	                     (json_int_t)i->bytes_per_s, "ops_per_s", (json_int_t)i->ops_per_s));
	return o;
}

void capability_print(const struct cap_info *i)
{
	char rights[96], when[32], name[PST_NAME_MAX + 1], prefix[CAP_PREFIX_MAX],
	        subject[SESSION_TEXT_MAX];

	printf("%6" PRIu64 "  %-20s %-12s %-20s %s:%s\n", i->id,
	       i->expiry_ns ? cli_time((int64_t)i->expiry_ns, when) : "never expires",
	       capability_rights_text(i->rights, rights, sizeof(rights)),
	       i->subject[0] ? cli_name(i->subject, subject, sizeof(subject)) : "-",
	       i->cont_name[0] ? cli_name(i->cont_name, name, sizeof(name)) : "*",
	       cli_name(i->prefix, prefix, sizeof(prefix)));
}
