/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_grpc - the bytes of gRPC requests: the first byte chooses the method, the rest is its message;
 * or a question of server reflection. What unpacks must pack into as many bytes as was said. (Not every
 * message that protobuf-c takes does it take again when it has packed it: unknown fields come back as
 * they were, but for the length of their numbers.) Where strings_check() found nothing, all strings are
 * plain text.
 */
#include "front/grpc/grpc_int.h"

#include "fuzz.h"

static const char *const paths[] = {
        "/penstock.v1.Server/OpenSession",
        "/penstock.v1.Server/KeepAlive",
        "/penstock.v1.Server/ListSessions",
        "/penstock.v1.Containers/CreateContainer",
        "/penstock.v1.Containers/ListContainers",
        "/penstock.v1.Containers/CreateSnapshot",
        "/penstock.v1.Names/Create",
        "/penstock.v1.Names/ReadDir",
        "/penstock.v1.Capabilities/Grant",
        "/penstock.v1.Capabilities/ListCapabilities",
        "/penstock.v1.Tenants/SetTenant",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
};

static void strings_plain(const ProtobufCMessage *m)
{
	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
		bool many = f->label == PROTOBUF_C_LABEL_REPEATED;
		const char *base = (const char *)m;
		/* Strings and messages are pointers. */
		void *const *each = (void *const *)(const void *)(base + f->offset);
		size_t n = 1;

		if (f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_MESSAGE)
			continue;
		if (many) {
			each = (void *const *)each[0];
			memcpy(&n, base + f->quantifier_offset, sizeof(n));
		}
		for (size_t k = 0; k < n; k++)
			if (f->type == PROTOBUF_C_TYPE_STRING)
				pst_assert(text_plain(each[k], strlen(each[k])));
			else if (each[k])
				strings_plain(each[k]);
	}
}

static void message(const struct method *m, const uint8_t *data, size_t len)
{
	ProtobufCMessage *in = protobuf_c_message_unpack(m->in, NULL, len, data);
	struct pst_err err = {0};
	int rc = strings_check(m->in, data, len, &err);
	size_t size;
	uint8_t *out;

	pst_assert(!rc || (rc == -EINVAL && err.text[0] && text_plain(err.text, strlen(err.text))));
	if (!in)
		return;
	if (!rc)
		strings_plain(in);
	size = protobuf_c_message_get_packed_size(in);
	out = mem_alloc(size + 1);
	pst_assert(out && protobuf_c_message_pack(in, out) == size);
	protobuf_c_message_free_unpacked(in, NULL);
	mem_free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	const char *path;
	grpc_byte_buffer *b;

	if (!ready) {
		grpc_init();
		methods_init();
		ready = true;
	}
	if (!size)
		return 0;
	if (data[0] == 255) {
		b = reflect_answer(data + 1, size - 1);
		if (b)
			grpc_byte_buffer_destroy(b);
		(void)method_find((const char *)data, size);
		return 0;
	}
	path = paths[data[0] % ARRAY_LEN(paths)];
	message(method_find(path, strlen(path)), data + 1, size - 1);
	return 0;
}
