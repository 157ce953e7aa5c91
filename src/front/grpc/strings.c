/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * strings - the strings of a message, looked at as they came. protobuf-c takes any bytes for a string, and a
 * NUL inside ends it: the name that is served would be another one than was sent. proto3 says UTF-8, and we
 * say: no control characters, because all strings here are names that people read in lists, logs and
 * figures. (Paths of files are bytes.)
 */
#include <stdio.h>

#include "front/grpc/grpc_int.h"

struct bytes {
	const uint8_t *p, *end;
};

static bool number(struct bytes *b, uint64_t *ret_n)
{
	uint64_t n = 0;

	for (unsigned shift = 0; b->p < b->end && shift < 70; shift += 7) {
		uint8_t byte = *b->p++;

		n |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
		if (!(byte & 0x80)) {
			*ret_n = n;
			return true;
		}
	}
	return false;
}

/* The next field with its bytes, if it is of those; false: there is none that can be read. */
static bool next(struct bytes *b, uint32_t *ret_field, struct bytes *ret_body)
{
	uint64_t tag, n = 0;

	*ret_body = (struct bytes){b->end, b->end};
	if (!number(b, &tag))
		return false;
	switch (tag & 7) {
	case PROTOBUF_C_WIRE_TYPE_VARINT:
		if (!number(b, &n))
			return false;
		n = 0;
		break;
	case PROTOBUF_C_WIRE_TYPE_64BIT:
		n = 8;
		break;
	case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
		if (!number(b, &n))
			return false;
		break;
	case PROTOBUF_C_WIRE_TYPE_32BIT:
		n = 4;
		break;
	default:
		return false;
	}
	if (n > (uint64_t)(b->end - b->p))
		return false;
	if ((tag & 7) == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED)
		*ret_body = (struct bytes){b->p, b->p + n};
	*ret_field = tag >> 3 <= UINT32_MAX ? (uint32_t)(tag >> 3) : 0;
	b->p += n;
	return true;
}

static int refuse(const char *path, const char *name, const char *s, size_t len,
                  struct pst_err *err)
{
	char shown[80];
	size_t at = 0;

	while (at < len && utf8_char(s + at, len - at))
		at += utf8_char(s + at, len - at);
	return err_set(err, -EINVAL,
	               "%s%s: \"%s\" %s: text in UTF-8 without control characters, please", path,
	               name, text_show(shown, sizeof(shown), s, len),
	               at < len ? "is no UTF-8" : "has control characters");
}

static int check(const ProtobufCMessageDescriptor *d, struct bytes in, const char *path,
                 struct pst_err *err)
{
	struct bytes body;
	uint32_t field;
	int rc = 0;

	while (rc == 0 && next(&in, &field, &body)) {
		const ProtobufCFieldDescriptor *f =
		        protobuf_c_message_descriptor_get_field(d, field);
		const char *text = (const char *)body.p;
		char below[64];

		if (f && f->type == PROTOBUF_C_TYPE_STRING &&
		    !text_plain(text, (size_t)(body.end - body.p)))
			rc = refuse(path, f->name, text, (size_t)(body.end - body.p), err);
		if (!f || f->type != PROTOBUF_C_TYPE_MESSAGE)
			continue;
		(void)snprintf(below, sizeof(below), "%s%s.", path, f->name);
		rc = check(f->descriptor, body, below, err);
	}
	/* What protobuf-c takes can be read here, too. If it ever is not so, a string may stand behind. */
	if (rc == 0 && in.p < in.end)
		rc = err_set(err, -EINVAL, "the bytes are no message");
	return rc;
}

int strings_check(const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t len,
                  struct pst_err *err)
{
	return check(d, (struct bytes){data, data + len}, "", err);
}
