/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reflect - server reflection: what services there are, and the descriptors of their files, which
 * protoc wrote into one FileDescriptorSet at build time. The set is ours, so it is walked, not parsed:
 * each file is one field 1, and its name is the file's own first field.
 */
#include "front/grpc/grpc_int.h"
#include "protos.pb-c.h"

struct piece {
	const uint8_t *data;
	size_t len;
};

#define FILES_MAX 8
static struct piece files[FILES_MAX];
static unsigned file_count;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static size_t varint(const uint8_t **p, const uint8_t *end)
{
	size_t v = 0;

	for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
		uint8_t b = *(*p)++;

		v |= (size_t)(b & 0x7f) << shift;
		if (!(b & 0x80))
			break;
	}
	return v;
}

static void files_find(void)
{
	const uint8_t *p = protos_bytes, *end = protos_bytes + protos_len;

	while (p < end && *p++ == 0x0a) {
		size_t len = varint(&p, end);

		pst_assert(file_count < FILES_MAX && len <= (size_t)(end - p));
		files[file_count++] = (struct piece){p, len};
		p += len;
	}
}

static struct piece file_name(const struct piece *f)
{
	const uint8_t *p = f->data + 1;
	size_t len = varint(&p, f->data + f->len);

	return (struct piece){p, len};
}

static const struct piece *file_by_name(const char *name)
{
	for (unsigned i = 0; i < file_count; i++) {
		struct piece n = file_name(&files[i]);

		if (n.len == strlen(name) && !memcmp(n.data, name, n.len))
			return &files[i];
	}
	return NULL;
}

/* A symbol is in the file of its package: each of ours has one of its own. */
static const struct piece *file_by_symbol(const char *symbol)
{
	static const char *const packages[][2] = {
	        {"penstock.v1.", "penstock/v1/control.proto"},
	        {"grpc.health.v1.", "grpc/health.proto"},
	        {"grpc.reflection.v1alpha.", "grpc/reflection.proto"},
	};

	for (unsigned i = 0; i < ARRAY_LEN(packages); i++)
		if (!strncmp(symbol, packages[i][0], strlen(packages[i][0])))
			return file_by_name(packages[i][1]);
	return NULL;
}

static grpc_byte_buffer *pack(const ProtobufCMessage *m)
{
	grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(m));
	grpc_byte_buffer *b;

	protobuf_c_message_pack(m, GRPC_SLICE_START_PTR(slice));
	b = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
	return b;
}

typedef Grpc__Reflection__V1alpha__ServerReflectionRequest Question;
typedef Grpc__Reflection__V1alpha__ServerReflectionResponse Answer;

#define ANSWER(what)   GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##what
#define QUESTION(what) GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##what

static grpc_byte_buffer *answer_file(Question *q, const struct piece *f)
{
	Grpc__Reflection__V1alpha__FileDescriptorResponse file =
	        GRPC__REFLECTION__V1ALPHA__FILE_DESCRIPTOR_RESPONSE__INIT;
	Grpc__Reflection__V1alpha__ErrorResponse err =
	        GRPC__REFLECTION__V1ALPHA__ERROR_RESPONSE__INIT;
	Answer r = GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_RESPONSE__INIT;
	char none[] = "not served here";
	ProtobufCBinaryData data;

	r.valid_host = q->host;
	r.original_request = q;
	if (f) {
		data = (ProtobufCBinaryData){f->len, (uint8_t *)(uintptr_t)f->data};
		file.file_descriptor_proto = &data;
		file.n_file_descriptor_proto = 1;
		r.message_response_case = ANSWER(FILE_DESCRIPTOR_RESPONSE);
		r.file_descriptor_response = &file;
	} else {
		err.error_code = GRPC_STATUS_NOT_FOUND;
		err.error_message = none;
		r.message_response_case = ANSWER(ERROR_RESPONSE);
		r.error_response = &err;
	}
	return pack(&r.base);
}

static grpc_byte_buffer *answer_list(Question *q)
{
	static const char *const names[] = {
	        "penstock.v1.Server",
	        "penstock.v1.Containers",
	        "penstock.v1.Names",
	        "penstock.v1.Capabilities",
	        "penstock.v1.Tenants",
	        "grpc.health.v1.Health",
	        "grpc.reflection.v1alpha.ServerReflection",
	};
	Grpc__Reflection__V1alpha__ServiceResponse s[ARRAY_LEN(names)], *list[ARRAY_LEN(names)];
	Grpc__Reflection__V1alpha__ListServiceResponse l =
	        GRPC__REFLECTION__V1ALPHA__LIST_SERVICE_RESPONSE__INIT;
	Answer r = GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_RESPONSE__INIT;

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		grpc__reflection__v1alpha__service_response__init(&s[i]);
		s[i].name = (char *)(uintptr_t)names[i];
		list[i] = &s[i];
	}
	l.service = list;
	l.n_service = ARRAY_LEN(names);
	r.valid_host = q->host;
	r.original_request = q;
	r.message_response_case = ANSWER(LIST_SERVICES_RESPONSE);
	r.list_services_response = &l;
	return pack(&r.base);
}

grpc_byte_buffer *reflect_answer(const uint8_t *bytes, size_t len)
{
	Question *q =
	        grpc__reflection__v1alpha__server_reflection_request__unpack(NULL, len, bytes);
	grpc_byte_buffer *b;

	if (!q)
		return NULL;
	pthread_once(&once, files_find);
	switch (q->message_request_case) {
	case QUESTION(LIST_SERVICES):
		b = answer_list(q);
		break;
	case QUESTION(FILE_BY_FILENAME):
		b = answer_file(q, file_by_name(q->file_by_filename));
		break;
	case QUESTION(FILE_CONTAINING_SYMBOL):
		b = answer_file(q, file_by_symbol(q->file_containing_symbol));
		break;
	default:
		b = answer_file(q, NULL);
	}
	protobuf_c_message_free_unpacked(&q->base, NULL);
	return b;
}
