/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * grpc - the control plane's door: penstock.v1 (proto/penstock/v1/control.proto), the standard health
 * service and server reflection, over gRPC's C core and protobuf-c. It turns calls into requests of
 * the session room; libpenstock never links it.
 *
 * Threads. gRPC's own threads and one of the front receive and send; what a call asks for runs on
 * the store's loop, where it is brought by loop_post(). The functions below belong to that loop.
 *
 * Don't fork after grpc_front_start().
 */
#ifndef FRONT_GRPC_GRPC_H
#define FRONT_GRPC_GRPC_H

#include "base/base.h"
#include "loop/loop.h"
#include "session/session.h"

#define GRPC_FRONT_ENDPOINTS_MAX 16

struct grpc_front;

/* As Endpoint of the proto. */
struct grpc_endpoint {
	char channel[32], address[256], provider[64], options[384];
	uint16_t port;
	bool tls, client_cert;
	bool seal_taken, seal_required;
	unsigned version, version_min;
};

struct grpc_front_opts {
	/* HOST:PORT, or "" for none. Port 0: any. Without TLS it must be a loopback address, unless
	 * insecure is set. */
	const char *listen;
	/* A unix socket's path, or NULL: clients are who the kernel says. It is made with mode 0666
	 * (its directory decides who may come) and taken over if nobody listens there; net_hold() says how. */
	const char *unix_path;
	/* PEM files. A certificate has its key; with tls_ca clients must show one of that authority. */
	const char *tls_cert, *tls_key, *tls_ca;
	bool insecure;
	unsigned calls_max; /* under way; more wait. 0: 64 */
	/* The ways to the data plane, to be told to clients. */
	struct grpc_endpoint endpoint[GRPC_FRONT_ENDPOINTS_MAX];
	unsigned endpoints;
};

/*
 * Starts to serve. @opts is copied. -EINVAL: no address, TLS half given, or a plain address that is
 * not loopback; -EADDRINUSE: somebody listens there; -EACCES, -ENOENT: a file can't be read; -ENOMEM;
 * with a sentence.
 */
int grpc_front_start(struct grpc_front **ret_f, const struct grpc_front_opts *opts,
                     struct loop *loop, struct session_table *table, struct pst_err *err);
/* The TCP port, 0 if there is none. */
unsigned grpc_front_port(const struct grpc_front *f);
/* Ends all calls and frees it: turns the loop meanwhile, so never from a callback. Accepts NULL. */
void grpc_front_stop(struct grpc_front *f);

#endif
