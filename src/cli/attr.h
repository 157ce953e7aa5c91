/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * attr - attributes for people and for JSON.
 */
#ifndef CLI_ATTR_H
#define CLI_ATTR_H

#include <stddef.h>

#include "penstock/file.h"

struct json_t;

/* "-rw-r--r--" */
const char *attr_mode_text(uint32_t mode, char buf[12]);
/* "file", "directory", ... */
const char *attr_type_name(uint32_t mode);
/* Names are any bytes, JSON is UTF-8: what is not comes out as Latin-1, and KEY_latin1 is true. */
void json_set_text(struct json_t *object, const char *key, const char *text);
/* Bytes as a string; what is no UTF-8 comes out as "hex:...". */
struct json_t *json_bytes(const void *bytes, size_t len);
/* An object with all of them; @target may be NULL. */
struct json_t *attr_json(const char *name, const struct pst_attr *a, const char *target);

/* {"name", "size_bytes"} of a device. */
struct json_t *attr_device_json(const char *name, uint64_t size_bytes);

#endif
