/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_grpc - the bytes of gRPC requests: the first byte chooses the method, the rest is its message;
 * or a question of server reflection. What unpacks must pack into as many bytes as was said. (Not every
 * message that protobuf-c takes does it take again when it has packed it: unknown fields come back as
 * they were, but for the length of their numbers.)
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

static void message(const struct method *m, const uint8_t *data, size_t len)
{
	ProtobufCMessage *in = protobuf_c_message_unpack(m->in, NULL, len, data);
	size_t size;
	uint8_t *out;

	if (!in)
		return;
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
