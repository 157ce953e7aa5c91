/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * methods - the table of methods, made out of protobuf-c's descriptors of the services: the handlers
 * stand in the order of the .proto files, which the assertions below check by name and count.
 */
#include <stdio.h>

#include "front/grpc/grpc_int.h"

static const struct {
	const char *name;
	call_handler *handler;
} handlers[] = {
        {"penstock.v1.Server/OpenSession", do_open_session},
        {"penstock.v1.Server/KeepAlive", do_keep_alive},
        {"penstock.v1.Server/CloseSession", do_close_session},
        {"penstock.v1.Server/GetStatus", do_status},
        {"penstock.v1.Server/ListSessions", do_list_sessions},
        {"penstock.v1.Server/RotateHandleKey", do_rotate},
        {"penstock.v1.Containers/CreateContainer", do_create_container},
        {"penstock.v1.Containers/GetContainer", do_get_container},
        {"penstock.v1.Containers/SetContainer", do_set_container},
        {"penstock.v1.Containers/DestroyContainer", do_destroy_container},
        {"penstock.v1.Containers/ListContainers", do_list_containers},
        {"penstock.v1.Containers/CreateSnapshot", do_create_snapshot},
        {"penstock.v1.Containers/GetSnapshot", do_get_snapshot},
        {"penstock.v1.Containers/DestroySnapshot", do_destroy_snapshot},
        {"penstock.v1.Containers/ListSnapshots", do_list_snapshots},
        {"penstock.v1.Names/Lookup", do_name},
        {"penstock.v1.Names/Create", do_name},
        {"penstock.v1.Names/Mkdir", do_name},
        {"penstock.v1.Names/Symlink", do_name},
        {"penstock.v1.Names/Link", do_name},
        {"penstock.v1.Names/Unlink", do_name},
        {"penstock.v1.Names/Rmdir", do_name},
        {"penstock.v1.Names/Rename", do_name},
        {"penstock.v1.Names/SetAttr", do_name},
        {"penstock.v1.Names/ReadLink", do_name},
        {"penstock.v1.Names/ReadDir", do_read_dir},
        {"penstock.v1.Capabilities/Grant", do_grant},
        {"penstock.v1.Capabilities/Renew", do_renew},
        {"penstock.v1.Capabilities/Revoke", do_revoke},
        {"penstock.v1.Capabilities/ListCapabilities", do_list_capabilities},
        {"penstock.v1.Tenants/SetTenant", do_set_tenant},
        {"penstock.v1.Tenants/ListTenants", do_list_tenants},
        {"grpc.health.v1.Health/Check", do_health},
        {"grpc.health.v1.Health/Watch", do_watch},
        {"grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", NULL},
};

static struct method methods[ARRAY_LEN(handlers)];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void methods_fill(void)
{
	static const ProtobufCServiceDescriptor *const services[] = {
	        &penstock__v1__server__descriptor,
	        &penstock__v1__containers__descriptor,
	        &penstock__v1__names__descriptor,
	        &penstock__v1__capabilities__descriptor,
	        &penstock__v1__tenants__descriptor,
	        &grpc__health__v1__health__descriptor,
	        &grpc__reflection__v1alpha__server_reflection__descriptor,
	};
	unsigned n = 0;

	for (unsigned s = 0; s < ARRAY_LEN(services); s++)
		for (unsigned i = 0; i < services[s]->n_methods; i++, n++) {
			struct method *m = &methods[n];

			pst_assert(n < ARRAY_LEN(handlers));
			(void)snprintf(m->path, sizeof(m->path), "/%s/%s", services[s]->name,
			               services[s]->methods[i].name);
			pst_assert(!strcmp(m->path + 1, handlers[n].name));
			m->in = services[s]->methods[i].input;
			m->handler = handlers[n].handler;
			m->kind = !m->handler              ? METHOD_QUESTIONS
			          : m->handler == do_watch ? METHOD_WATCH
			                                   : METHOD_CALL;
		}
	pst_assert(n == ARRAY_LEN(handlers));
}

void methods_init(void)
{
	pthread_once(&once, methods_fill);
}

const struct method *method_find(const char *path, size_t len)
{
	for (unsigned i = 0; i < ARRAY_LEN(methods); i++)
		if (strlen(methods[i].path) == len && !memcmp(methods[i].path, path, len))
			return &methods[i];
	return NULL;
}

bool service_known(const char *name)
{
	size_t len = strlen(name);

	for (unsigned i = 0; i < ARRAY_LEN(methods); i++)
		if (!strncmp(methods[i].path + 1, name, len) && methods[i].path[1 + len] == '/')
			return true;
	return false;
}
