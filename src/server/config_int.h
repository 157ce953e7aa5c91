/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * config_int - where in a configuration each thing stands: libcyaml loads values and forgets their
 * lines, so they are looked up here for sentences about them.
 */
#ifndef SERVER_CONFIG_INT_H
#define SERVER_CONFIG_INT_H

#include <cyaml/cyaml.h>

#include "base/base.h"

#define OUTLINE_MAX      4096
#define OUTLINE_PATH_MAX 64

struct outline {
	const char *file;
	struct {
		char path[OUTLINE_PATH_MAX]; /* "tenants[1].weight" */
		unsigned line;               /* from 1 */
	} * at;
	unsigned count;
};

/*
 * Reads @text against @schema, whose leaves are all strings: one document, no anchors or aliases, no
 * unknown or repeated keys, each value of its kind and not empty. 0, -EINVAL or -ENOMEM, with a
 * sentence that begins FILE:LINE. outline_done() in any case.
 */
int outline_read(struct outline *o, const char *file, const void *text, size_t len,
                 const cyaml_schema_value_t *schema, struct pst_err *err);
unsigned outline_line(const struct outline *o, const char *path); /* 0: not there */
void outline_done(struct outline *o);

#endif
