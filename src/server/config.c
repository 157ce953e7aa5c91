/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * config - the server's options as YAML. libcyaml loads every value as text by the schema below, of
 * which config_outline.c has checked the structure before; the table of settings then says what each
 * text means, and where it goes. So each value has one sentence for what is wrong with it.
 */
#include "server/config.h"

#include <errno.h>
#include <stdio.h>

#include "server/config_int.h"

#define DEVICES_MAX PST_DEVICES_MAX
#define TEXT_MAX    4096

struct raw_qos {
	char *weight, *depth, *bytes, *bytes_per_s, *ops_per_s, *sessions;
};

struct raw_tenant {
	char *id, *name;
	struct raw_qos qos;
};

/* As libcyaml loads it. */
struct raw {
	char **devices, **listen, **channels;
	unsigned devices_count, listen_count, channels_count;
	char *socket, *insecure, *seal, *poll, *cores, *control, *metrics, *audit_log, *log_level,
	        *slow_op;
	struct {
		char *cert, *key, *ca;
	} tls;
	struct {
		char *connections, *depth, *hello, *dead, *sessions, *capabilities, *slots, *lease,
		        *expiry, *handle_life, *refusals, *opens, *running, *running_bytes;
	} limits;
	struct raw_qos session, tenant;
	struct raw_tenant *tenants;
	unsigned tenants_count;
	char *channel_list; /* ours: the channels with commas between */
};

/* --- the schema --- */

#define OPTIONAL (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define TEXT(key, type, member) \
	CYAML_FIELD_STRING_PTR(key, OPTIONAL, type, member, 0, CYAML_UNLIMITED)

static const cyaml_schema_value_t text_value = {
        CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED),
};

#define QOS_FIELDS(type, at)                                                                   \
	TEXT("weight", type, at weight), TEXT("depth", type, at depth),                        \
	        TEXT("bytes", type, at bytes), TEXT("bytes-per-second", type, at bytes_per_s), \
	        TEXT("ops-per-second", type, at ops_per_s), TEXT("sessions", type, at sessions)

static const cyaml_schema_field_t qos_fields[] = {
        QOS_FIELDS(struct raw_qos, ),
        CYAML_FIELD_END,
};

static const cyaml_schema_field_t tenant_fields[] = {
        CYAML_FIELD_STRING_PTR("id", CYAML_FLAG_POINTER, struct raw_tenant, id, 0, CYAML_UNLIMITED),
        TEXT("name", struct raw_tenant, name),
        QOS_FIELDS(struct raw_tenant, qos.),
        CYAML_FIELD_END,
};

static const cyaml_schema_value_t tenant_value = {
        CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_tenant, tenant_fields),
};

static const cyaml_schema_field_t tls_fields[] = {
        TEXT("cert", __typeof__(((struct raw *)0)->tls), cert),
        TEXT("key", __typeof__(((struct raw *)0)->tls), key),
        TEXT("ca", __typeof__(((struct raw *)0)->tls), ca),
        CYAML_FIELD_END,
};

#define LIMIT(key, member) TEXT(key, __typeof__(((struct raw *)0)->limits), member)

static const cyaml_schema_field_t limit_fields[] = {
        LIMIT("connections", connections),
        LIMIT("depth", depth),
        LIMIT("hello", hello),
        LIMIT("dead", dead),
        LIMIT("sessions", sessions),
        LIMIT("capabilities", capabilities),
        LIMIT("slots", slots),
        LIMIT("lease", lease),
        LIMIT("expiry", expiry),
        LIMIT("handle-life", handle_life),
        LIMIT("refusals", refusals),
        LIMIT("opens", opens),
        LIMIT("running", running),
        LIMIT("running-bytes", running_bytes),
        CYAML_FIELD_END,
};

static const cyaml_schema_field_t top_fields[] = {
        CYAML_FIELD_SEQUENCE("devices", OPTIONAL, struct raw, devices, &text_value, 0, DEVICES_MAX),
        CYAML_FIELD_SEQUENCE("listen", OPTIONAL, struct raw, listen, &text_value, 0,
                             SERVER_LISTEN_MAX),
        CYAML_FIELD_SEQUENCE("channels", OPTIONAL, struct raw, channels, &text_value, 0, 8),
        TEXT("socket", struct raw, socket),
        TEXT("insecure", struct raw, insecure),
        TEXT("seal", struct raw, seal),
        TEXT("poll", struct raw, poll),
        TEXT("cores", struct raw, cores),
        TEXT("control", struct raw, control),
        TEXT("metrics", struct raw, metrics),
        TEXT("audit-log", struct raw, audit_log),
        TEXT("log-level", struct raw, log_level),
        TEXT("slow-op", struct raw, slow_op),
        CYAML_FIELD_MAPPING("tls", CYAML_FLAG_OPTIONAL, struct raw, tls, tls_fields),
        CYAML_FIELD_MAPPING("limits", CYAML_FLAG_OPTIONAL, struct raw, limits, limit_fields),
        CYAML_FIELD_MAPPING("session", CYAML_FLAG_OPTIONAL, struct raw, session, qos_fields),
        CYAML_FIELD_MAPPING("tenant", CYAML_FLAG_OPTIONAL, struct raw, tenant, qos_fields),
        CYAML_FIELD_SEQUENCE("tenants", OPTIONAL, struct raw, tenants, &tenant_value, 0,
                             SERVER_TENANTS_MAX),
        CYAML_FIELD_END,
};

static const cyaml_schema_value_t top_value = {
        CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw, top_fields),
};

static void *realloc_or_free(void *ctx, void *p, size_t len)
{
	if (len)
		return mem_realloc(p, len);
	mem_free(p);
	return NULL;
}

static const cyaml_config_t cyaml = {
        .mem_fn = realloc_or_free,
        .log_level = CYAML_LOG_ERROR,
};

/* --- what texts mean --- */

enum kind {
	KIND_TEXT,
	KIND_BOOL,
	KIND_U32,
	KIND_U64,
	KIND_SIZE, /* uint64_t of bytes */
	KIND_TIME, /* uint64_t of ns */
	KIND_LEVEL,
	KIND_CORES,
};

struct setting {
	const char *path;
	size_t from, to; /* in the raw structure, in the one of options */
	enum kind kind;
	uint64_t min, max; /* of numbers, bytes; of times: ms */
};

static bool parse_number(const char *text, uint64_t *ret_n)
{
	uint64_t n = 0;

	for (const char *p = text; *p; p++)
		if (*p < '0' || *p > '9' || __builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
			return false;
	*ret_n = n;
	return *text != 0;
}

/* "250ms", "10s", "5m", "1h", "2d"; a bare number is none, but 0. */
static bool parse_time_ms(const char *text, uint64_t *ret_ms)
{
	static const struct {
		const char *unit;
		uint64_t ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
	size_t digits = strspn(text, "0123456789");
	char number[24];
	uint64_t n;

	if (digits >= sizeof(number))
		return false;
	memcpy(number, text, digits);
	number[digits] = 0;
	if (!parse_number(number, &n))
		return false;
	for (unsigned i = 0; i < ARRAY_LEN(units); i++)
		if (!strcmp(text + digits, units[i].unit))
			return !__builtin_mul_overflow(n, units[i].ms, ret_ms);
	*ret_ms = 0;
	return !n && !text[digits];
}

static bool parse_bool(const char *text, bool *ret_b)
{
	static const char *const yes[] = {"yes", "true", "on"}, *const no[] = {"no", "false",
	                                                                       "off"};

	for (unsigned i = 0; i < ARRAY_LEN(yes); i++) {
		if (!strcmp(text, yes[i]) || !strcmp(text, no[i])) {
			*ret_b = !strcmp(text, yes[i]);
			return true;
		}
	}
	return false;
}

/* Its form alone: which cores there are is for the machine to say on which it runs. */
static bool is_core_list(const char *text)
{
	int cores[CORES_MAX];
	unsigned count;

	return !cores_parse(cores, &count, text, false, NULL);
}

/* Where the sentences about values go. */
struct teller {
	const struct outline *o;
	struct config *c;
	struct pst_err *err;
};

static int wrong(const struct teller *t, const char *path, const char *text, const char *wanted)
{
	return err_set(t->err, -EINVAL, "%s:%u: %s: \"%.100s\" is not %s", t->o->file,
	               outline_line(t->o, path), path, text, wanted);
}

static int wrong_range(const struct teller *t, const struct setting *s, const char *path,
                       const char *text, const char *unit)
{
	return err_set(t->err, -EINVAL, "%s:%u: %s: %.100s is not from %llu%s to %llu%s",
	               t->o->file, outline_line(t->o, path), path, text, (unsigned long long)s->min,
	               unit, (unsigned long long)s->max, unit);
}

static int take_number(const struct teller *t, const struct setting *s, const char *path,
                       const char *text, void *to)
{
	uint64_t n = 0;

	if (s->kind == KIND_SIZE && parse_size(text, &n) < 0)
		return wrong(t, path, text, "a size (such as 4k, 512m, 20g)");
	if (s->kind == KIND_TIME && !parse_time_ms(text, &n))
		return wrong(t, path, text, "a time (such as 250ms, 10s, 5m, 1h, 2d)");
	if ((s->kind == KIND_U32 || s->kind == KIND_U64) && !parse_number(text, &n))
		return wrong(t, path, text, "a whole number");
	if (n < s->min || n > s->max)
		return wrong_range(t, s, path, text, s->kind == KIND_TIME ? " ms" : "");
	if (s->kind == KIND_U32)
		*(uint32_t *)to = (uint32_t)n;
	else
		*(uint64_t *)to = s->kind == KIND_TIME ? n * NSEC_PER_MSEC : n;
	return 0;
}

/* What is text has its meaning elsewhere, and is found to be wrong there: its line is kept. */
static void remember(const struct teller *t, const char *path, const char *text)
{
	struct config *c = t->c;

	pst_assert(c->at_count < CONFIG_TEXTS_MAX);
	c->at[c->at_count].text = text;
	c->at[c->at_count++].line = outline_line(t->o, path);
}

/* @prefix: before the setting's own path. */
static int take(const struct teller *t, const struct setting *s, const char *prefix,
                const void *raw, void *opts)
{
	char *text = *(char *const *)(const void *)((const char *)raw + s->from);
	void *to = (char *)opts + s->to;
	enum pst_log_level level;
	char path[OUTLINE_PATH_MAX];

	if (!text)
		return 0;
	(void)snprintf(path, sizeof(path), "%s%s", prefix, s->path);
	switch (s->kind) {
	case KIND_LEVEL:
		if (!server_log_level(text, &level))
			return wrong(t, path, text, "error, warning, info or debug");
		*(const char **)to = text;
		return 0;
	case KIND_CORES:
		if (!is_core_list(text))
			return wrong(t, path, text,
			             "a list of cores (such as 0,2-5, none of them twice)");
		*(const char **)to = text;
		remember(t, path, text);
		return 0;
	case KIND_TEXT:
		*(const char **)to = text;
		remember(t, path, text);
		return 0;
	case KIND_BOOL:
		return parse_bool(text, to) ? 0 : wrong(t, path, text, "yes or no");
	default:
		return take_number(t, s, path, text, to);
	}
}

static int take_all(const struct teller *t, const struct setting *s, unsigned count,
                    const char *prefix, const void *raw, void *opts)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < count; i++)
		rc = take(t, &s[i], prefix, raw, opts);
	return rc;
}

#define AT(path, from, to, kind, min, max)                                                    \
	{                                                                                     \
		path, offsetof(struct raw, from), offsetof(struct config, to), kind, min, max \
	}
#define DAYS(n) ((n)*86400000ull)

static const struct setting settings[] = {
        AT("socket", socket, opts.socket, KIND_TEXT, 0, 0),
        AT("insecure", insecure, opts.insecure, KIND_BOOL, 0, 0),
        AT("seal", seal, opts.seal, KIND_TEXT, 0, 0),
        AT("poll", poll, poll, KIND_BOOL, 0, 0),
        AT("cores", cores, opts.cores, KIND_CORES, 0, 0),
        AT("control", control, opts.control, KIND_TEXT, 0, 0),
        AT("metrics", metrics, opts.metrics, KIND_TEXT, 0, 0),
        AT("audit-log", audit_log, opts.audit_log, KIND_TEXT, 0, 0),
        AT("log-level", log_level, opts.log_level, KIND_LEVEL, 0, 0),
        AT("slow-op", slow_op, opts.listener.slow_ns, KIND_TIME, 0, DAYS(1)),
        AT("tls.cert", tls.cert, opts.tls_cert, KIND_TEXT, 0, 0),
        AT("tls.key", tls.key, opts.tls_key, KIND_TEXT, 0, 0),
        AT("tls.ca", tls.ca, opts.tls_ca, KIND_TEXT, 0, 0),
        AT("limits.connections", limits.connections, opts.fabric.conns_max, KIND_U32, 1, 65536),
        AT("limits.depth", limits.depth, opts.listener.depth_max, KIND_U32, 1, 65536),
        AT("limits.hello", limits.hello, opts.listener.hello_ns, KIND_TIME, 100, DAYS(1)),
        AT("limits.dead", limits.dead, opts.fabric.dead_ns, KIND_TIME, 1000, DAYS(1)),
        AT("limits.sessions", limits.sessions, opts.session.sessions_max, KIND_U32, 1, 1 << 20),
        AT("limits.capabilities", limits.capabilities, opts.session.caps_max, KIND_U32, 1, 1 << 24),
        AT("limits.slots", limits.slots, opts.session.slots_default, KIND_U32, 1,
           SESSION_SLOTS_MAX),
        AT("limits.lease", limits.lease, opts.session.lease_ns, KIND_TIME, 1000, DAYS(30)),
        AT("limits.expiry", limits.expiry, opts.session.expiry_ns, KIND_TIME, 1000, DAYS(365)),
        AT("limits.handle-life", limits.handle_life, opts.session.handle_ns, KIND_TIME, 1000,
           DAYS(30)),
        AT("limits.refusals", limits.refusals, opts.session.refusals_max, KIND_U32, 1, UINT32_MAX),
        AT("limits.opens", limits.opens, opts.session.opens_max, KIND_U32, 1, 1 << 24),
        AT("limits.running", limits.running, opts.session.running_max, KIND_U32, 1, 65536),
        AT("limits.running-bytes", limits.running_bytes, opts.session.running_bytes, KIND_SIZE, MIB,
           1024 * GIB),
};

#define QOS(path, from, to, kind, min, max)                                                    \
	{                                                                                      \
		path, offsetof(struct raw_qos, from), offsetof(struct qos, to), kind, min, max \
	}

static const struct setting qos_settings[] = {
        QOS("weight", weight, weight, KIND_U32, 1, TENANT_WEIGHT_MAX),
        QOS("depth", depth, depth_max, KIND_U32, 1, QOS_DEPTH_MAX),
        QOS("bytes", bytes, bytes_max, KIND_SIZE, QOS_BYTES_MIN, QOS_BYTES_MAX),
        QOS("bytes-per-second", bytes_per_s, bytes_per_s, KIND_SIZE, QOS_RATE_MIN, QOS_BYTES_MAX),
        QOS("ops-per-second", ops_per_s, ops_per_s, KIND_U64, 1, QOS_OPS_MAX),
        QOS("sessions", sessions, sessions_max, KIND_U32, 1, QOS_SESSIONS_MAX),
};

static int take_qos(const struct teller *t, const char *prefix, const struct raw_qos *raw,
                    struct qos *qos)
{
	return take_all(t, qos_settings, ARRAY_LEN(qos_settings), prefix, raw, qos);
}

/* --- lists --- */

static int take_tenant(const struct teller *t, const struct raw_tenant *from, unsigned i,
                       struct config *c)
{
	static const struct setting id = {"id",
	                                  offsetof(struct raw_tenant, id),
	                                  offsetof(struct server_tenant, id),
	                                  KIND_U32,
	                                  0,
	                                  TENANT_ID_MAX};
	struct server_tenant *to = &c->opts.tenant[i];
	char prefix[OUTLINE_PATH_MAX];
	int rc;

	(void)snprintf(prefix, sizeof(prefix), "tenants[%u].", i);
	rc = take(t, &id, prefix, from, to);
	if (rc == 0)
		rc = take_qos(t, prefix, &from->qos, &to->qos);
	if (rc < 0)
		return rc;
	(void)snprintf(prefix, sizeof(prefix), "tenants[%u].name", i);
	if (from->name && strlen(from->name) >= sizeof(to->name))
		return wrong(t, prefix, from->name, "shorter than 64 bytes");
	for (const char *p = from->name; p && *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return wrong(t, prefix, "...", "free of control characters");
	(void)snprintf(to->name, sizeof(to->name), "%s", from->name ? from->name : "");
	(void)snprintf(prefix, sizeof(prefix), "tenants[%u].id", i);
	for (unsigned k = 0; k < i; k++)
		if (c->opts.tenant[k].id == to->id)
			return wrong(t, prefix, from->id, "free: an earlier tenant has it");
	return 0;
}

/* A list that is there, and empty: whoever wants what is done without it leaves it out. */
static int given_none(const struct teller *t, const char *path)
{
	unsigned line = outline_line(t->o, path);

	return line ? err_set(t->err, -EINVAL, "%s:%u: %s: there is none in the list", t->o->file,
	                      line, path)
	            : 0;
}

/* "pipe", "tcp" -> "pipe,tcp" */
static int take_channels(const struct teller *t, struct raw *raw, struct config *c)
{
	size_t len = 1;
	char *at;

	for (unsigned i = 0; i < raw->channels_count; i++) {
		char path[OUTLINE_PATH_MAX];

		(void)snprintf(path, sizeof(path), "channels[%u]", i);
		if (strchr(raw->channels[i], ','))
			return wrong(t, path, raw->channels[i], "one channel");
		len += strlen(raw->channels[i]) + 1;
	}
	if (!raw->channels_count)
		return given_none(t, "channels");
	raw->channel_list = at = mem_calloc(1, len);
	if (!at)
		return err_set(t->err, -ENOMEM, "%s: no memory", t->o->file);
	for (unsigned i = 0; i < raw->channels_count; i++) {
		at = stpcpy(at, i ? "," : "");
		at = stpcpy(at, raw->channels[i]);
	}
	c->opts.channels = raw->channel_list;
	remember(t, "channels", raw->channel_list);
	return 0;
}

/* Texts one below the other, each with its line. */
static int take_texts(const struct teller *t, const char *name, char *const *from, unsigned count,
                      const char **to, unsigned *to_count)
{
	char path[OUTLINE_PATH_MAX];

	for (unsigned i = 0; i < count; i++) {
		(void)snprintf(path, sizeof(path), "%s[%u]", name, i);
		remember(t, path, from[i]);
		to[(*to_count)++] = from[i];
	}
	return count ? 0 : given_none(t, name);
}

/* A session that ends before what it holds open is let go of for its silence: one of the two is a mistake. */
static int check_times(const struct teller *t, const struct config *c)
{
	const struct session_opts *s = &c->opts.session;
	uint64_t lease = s->lease_ns ? s->lease_ns : SESSION_LEASE_NS;
	uint64_t expiry = s->expiry_ns ? s->expiry_ns : SESSION_EXPIRY_NS;
	const char *path = s->expiry_ns ? "limits.expiry" : "limits.lease";

	if (lease <= expiry)
		return 0;
	return err_set(t->err, -EINVAL,
	               "%s:%u: %s: a session ends after %llu ms of silence, before its lease of "
	               "%llu ms does",
	               t->o->file, outline_line(t->o, path), path,
	               (unsigned long long)(expiry / NSEC_PER_MSEC),
	               (unsigned long long)(lease / NSEC_PER_MSEC));
}

static int take_lists(const struct teller *t, struct raw *raw, struct config *c)
{
	int rc = take_channels(t, raw, c);

	if (rc == 0)
		rc = take_texts(t, "devices", raw->devices, raw->devices_count, c->devices,
		                &c->device_count);
	if (rc == 0)
		rc = take_texts(t, "listen", raw->listen, raw->listen_count, c->opts.listen,
		                &c->opts.listen_count);
	if (rc < 0 || !raw->tenants_count)
		return rc;
	c->opts.tenant = mem_calloc(raw->tenants_count, sizeof(*c->opts.tenant));
	if (!c->opts.tenant)
		return err_set(t->err, -ENOMEM, "%s: no memory", t->o->file);
	c->opts.tenant_count = raw->tenants_count;
	for (unsigned i = 0; rc == 0 && i < raw->tenants_count; i++)
		rc = take_tenant(t, &raw->tenants[i], i, c);
	return rc;
}

/* --- all of it --- */

static int load(struct config *c, const struct outline *o, const void *text, size_t len,
                struct pst_err *err)
{
	struct teller t = {o, c, err};
	struct raw *raw = NULL;
	cyaml_err_t bad =
	        cyaml_load_data(text, len, &cyaml, &top_value, (cyaml_data_t **)&raw, NULL);
	int rc;

	if (bad != CYAML_OK || !raw)
		return err_set(err, bad == CYAML_ERR_OOM ? -ENOMEM : -EINVAL, "%s: %s", o->file,
		               bad == CYAML_OK ? "there is nothing in it" : cyaml_strerror(bad));
	c->raw = raw;
	rc = take_all(&t, settings, ARRAY_LEN(settings), "", raw, c);
	if (rc == 0)
		rc = check_times(&t, c);
	if (rc == 0)
		rc = take_qos(&t, "session.", &raw->session, &c->opts.session.session);
	if (rc == 0)
		rc = take_qos(&t, "tenant.", &raw->tenant, &c->opts.session.tenant);
	return rc == 0 ? take_lists(&t, raw, c) : rc;
}

int config_parse(struct config *ret_c, const char *file, const void *text, size_t len,
                 struct pst_err *err)
{
	struct config c = {0};
	struct outline o;
	int rc;

	if (len > CONFIG_BYTES_MAX)
		return err_set(err, -E2BIG, "%s: longer than %u bytes", file, CONFIG_BYTES_MAX);
	rc = outline_read(&o, file, text, len, &top_value, err);
	if (rc == 0)
		rc = load(&c, &o, text, len, err);
	outline_done(&o);
	if (rc < 0)
		config_done(&c);
	else
		*ret_c = c;
	return rc;
}

int config_load(struct config *ret_c, const char *path, struct pst_err *err)
{
	char *text = mem_alloc(CONFIG_BYTES_MAX + 1);
	FILE *f = text ? fopen(path, "re") : NULL;
	size_t len = 0;
	int rc = 0;

	if (!text)
		return err_set(err, -ENOMEM, "%s: no memory", path);
	if (f) {
		len = fread(text, 1, CONFIG_BYTES_MAX + 1, f);
		if (ferror(f))
			rc = errno ? -errno : -EIO;
		(void)fclose(f);
	} else {
		rc = -errno;
	}
	if (rc < 0)
		rc = err_set(err, rc, "%s: %s", path, strerror(-rc));
	else
		rc = config_parse(ret_c, path, text, len, err);
	mem_free(text);
	return rc;
}

unsigned config_line(const struct config *c, const char *text)
{
	for (unsigned i = 0; text && i < c->at_count; i++)
		if (c->at[i].text == text)
			return c->at[i].line;
	return 0;
}

void config_done(struct config *c)
{
	struct raw *raw = c->raw;

	if (raw) {
		mem_free(raw->channel_list);
		(void)cyaml_free(&cyaml, &top_value, raw, 0);
	}
	mem_free(c->opts.tenant);
	*c = (struct config){0};
}

void config_override(struct server_opts *o, const struct server_opts *over)
{
	const struct {
		const char **to, *from;
	} texts[] = {
	        {&o->store, over->store},         {&o->channels, over->channels},
	        {&o->socket, over->socket},       {&o->control, over->control},
	        {&o->metrics, over->metrics},     {&o->audit_log, over->audit_log},
	        {&o->log_level, over->log_level}, {&o->tls_cert, over->tls_cert},
	        {&o->tls_key, over->tls_key},     {&o->tls_ca, over->tls_ca},
	        {&o->seal, over->seal},           {&o->cores, over->cores},
	};

	for (unsigned i = 0; i < ARRAY_LEN(texts); i++)
		if (texts[i].from)
			*texts[i].to = texts[i].from;
	if (over->listen_count) {
		memcpy(o->listen, over->listen, sizeof(o->listen));
		o->listen_count = over->listen_count;
	}
	o->insecure |= over->insecure;
	if (over->listener.slow_ns)
		o->listener.slow_ns = over->listener.slow_ns;
}
