/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * config_outline - the structure of a configuration, event by event of libyaml, held against
 * libcyaml's schema before libcyaml sees it. Recursion is as deep as the schema, whatever the text.
 */
#include <stdio.h>
#include <yaml.h>

#include "server/config_int.h"

#define VALUE_MAX 4096

struct reader {
	struct outline *o;
	struct pst_err *err;
	yaml_parser_t parser;
	yaml_event_t event;
	unsigned line; /* of the event */
	char path[OUTLINE_PATH_MAX];
};

#define bad(r, ...) bad_at((r), (r)->line, __VA_ARGS__)

static int bad_at(struct reader *r, unsigned line, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

static int bad_at(struct reader *r, unsigned line, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(r->err, -EINVAL, "%s:%u: %s", r->o->file, line, text);
}

/* The next event, in r->event. */
static int next(struct reader *r)
{
	yaml_event_delete(&r->event);
	if (!yaml_parser_parse(&r->parser, &r->event)) {
		r->line = (unsigned)r->parser.problem_mark.line + 1;
		if (r->parser.error == YAML_MEMORY_ERROR)
			return err_set(r->err, -ENOMEM, "%s: no memory", r->o->file);
		return bad(r, "not YAML: %s", r->parser.problem ? r->parser.problem : "?");
	}
	r->line = (unsigned)r->event.start_mark.line + 1;
	if (r->event.type == YAML_ALIAS_EVENT ||
	    (r->event.type == YAML_SCALAR_EVENT && r->event.data.scalar.anchor) ||
	    (r->event.type == YAML_SEQUENCE_START_EVENT && r->event.data.sequence_start.anchor) ||
	    (r->event.type == YAML_MAPPING_START_EVENT && r->event.data.mapping_start.anchor))
		return bad(r, "anchors and aliases are not taken here");
	return 0;
}

static int value(struct reader *r, const cyaml_schema_value_t *v);

static const char *what_it_is(const struct reader *r)
{
	return r->path[0] ? r->path : "the configuration";
}

static int remember(struct reader *r)
{
	struct outline *o = r->o;

	if (o->count == OUTLINE_MAX)
		return bad(r, "more than %d values", OUTLINE_MAX);
	if (!o->at) {
		o->at = mem_calloc(OUTLINE_MAX, sizeof(*o->at));
		if (!o->at)
			return err_set(r->err, -ENOMEM, "%s: no memory", o->file);
	}
	memcpy(o->at[o->count].path, r->path, sizeof(r->path));
	o->at[o->count++].line = r->line;
	return 0;
}

/* A value of text: what libcyaml is to load. */
static int scalar(struct reader *r)
{
	const char *text = (const char *)r->event.data.scalar.value;
	size_t len = r->event.data.scalar.length;

	if (r->event.type != YAML_SCALAR_EVENT)
		return bad(r, "%s: one value is wanted here, not a list or a group", what_it_is(r));
	if (!len)
		return bad(r, "%s has no value", what_it_is(r));
	if (len > VALUE_MAX)
		return bad(r, "%s: longer than %d bytes", what_it_is(r), VALUE_MAX);
	if (memchr(text, 0, len))
		return bad(r, "%s: a NUL character", what_it_is(r));
	return remember(r);
}

static int sequence(struct reader *r, const cyaml_schema_value_t *v)
{
	size_t base = strlen(r->path);
	int rc = remember(r);

	if (rc == 0 && r->event.type != YAML_SEQUENCE_START_EVENT)
		return bad(r, "%s: a list is wanted here ([A, B], or lines that begin with \"- \")",
		           what_it_is(r));
	for (unsigned i = 0; rc == 0; i++) {
		rc = next(r);
		if (rc < 0 || r->event.type == YAML_SEQUENCE_END_EVENT)
			break;
		if (i == v->sequence.max)
			return bad(r, "%s: more than %u of them", what_it_is(r), i);
		(void)snprintf(r->path + base, sizeof(r->path) - base, "[%u]", i);
		rc = value(r, v->sequence.entry);
		r->path[base] = 0;
	}
	return rc;
}

/* The field that the key in r->event names; NULL, and *ret_rc, where it is none. */
static const cyaml_schema_field_t *field(struct reader *r, const cyaml_schema_field_t *fields,
                                         uint64_t *seen, int *ret_rc)
{
	char where[OUTLINE_PATH_MAX + 8] = "";
	const char *key = (const char *)r->event.data.scalar.value;

	if (r->path[0])
		(void)snprintf(where, sizeof(where), " in %s", r->path);
	if (r->event.type != YAML_SCALAR_EVENT) {
		*ret_rc = bad(r, "a name is wanted here%s", where);
		return NULL;
	}
	for (unsigned i = 0; fields[i].key; i++) {
		if (strcmp(fields[i].key, key) != 0 || strlen(key) != r->event.data.scalar.length)
			continue;
		if (*seen & 1ull << i) {
			*ret_rc = bad(r, "%s is given twice%s", key, where);
			return NULL;
		}
		*seen |= 1ull << i;
		return &fields[i];
	}
	*ret_rc = bad(r, "there is no option \"%.100s\"%s", key, where);
	return NULL;
}

static int mapping(struct reader *r, const cyaml_schema_value_t *v)
{
	const cyaml_schema_field_t *fields = v->mapping.fields;
	size_t base = strlen(r->path);
	unsigned line = r->line;
	uint64_t seen = 0;
	int rc = remember(r);

	if (rc == 0 && r->event.type != YAML_MAPPING_START_EVENT)
		return bad(r, "%s: a group of NAME: VALUE is wanted here", what_it_is(r));
	while (rc == 0) {
		const cyaml_schema_field_t *f;

		rc = next(r);
		if (rc < 0 || r->event.type == YAML_MAPPING_END_EVENT)
			break;
		f = field(r, fields, &seen, &rc);
		if (!f)
			return rc;
		(void)snprintf(r->path + base, sizeof(r->path) - base, "%s%s", base ? "." : "",
		               f->key);
		rc = next(r);
		if (rc == 0)
			rc = value(r, &f->value);
		r->path[base] = 0;
	}
	for (unsigned i = 0; rc == 0 && fields[i].key; i++)
		if (!(fields[i].value.flags & CYAML_FLAG_OPTIONAL) && !(seen & 1ull << i))
			rc = bad_at(r, line, "%s has no %s", what_it_is(r), fields[i].key);
	return rc;
}

static int value(struct reader *r, const cyaml_schema_value_t *v)
{
	if (v->type == CYAML_MAPPING)
		return mapping(r, v);
	if (v->type == CYAML_SEQUENCE)
		return sequence(r, v);
	pst_assert(v->type == CYAML_STRING);
	return scalar(r);
}

static int document(struct reader *r, const cyaml_schema_value_t *schema)
{
	int rc = next(r); /* the stream's start */

	if (rc == 0)
		rc = next(r);
	if (rc == 0 && r->event.type == YAML_STREAM_END_EVENT)
		return err_set(r->err, -EINVAL, "%s: there is nothing in it", r->o->file);
	if (rc == 0)
		rc = next(r); /* of the document */
	if (rc == 0)
		rc = value(r, schema);
	if (rc == 0)
		rc = next(r); /* its end */
	if (rc == 0)
		rc = next(r);
	if (rc == 0 && r->event.type != YAML_STREAM_END_EVENT)
		rc = bad(r, "a second document");
	return rc;
}

int outline_read(struct outline *o, const char *file, const void *text, size_t len,
                 const cyaml_schema_value_t *schema, struct pst_err *err)
{
	struct reader r = {.o = o, .err = err};
	int rc;

	*o = (struct outline){.file = file};
	if (!yaml_parser_initialize(&r.parser))
		return err_set(err, -ENOMEM, "%s: no memory", file);
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.parser, text, len);
	rc = document(&r, schema);
	yaml_event_delete(&r.event);
	yaml_parser_delete(&r.parser);
	return rc;
}

unsigned outline_line(const struct outline *o, const char *path)
{
	for (unsigned i = 0; i < o->count; i++)
		if (!strcmp(o->at[i].path, path))
			return o->at[i].line;
	return 0;
}

void outline_done(struct outline *o)
{
	mem_free(o->at);
	o->at = NULL;
	o->count = 0;
}
