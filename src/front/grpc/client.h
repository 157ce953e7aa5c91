/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client - the other end of the control plane, for the command: a connection to a server's gRPC, and
 * the calls that manage capabilities. libpenstock never links it.
 *
 * One thread; every call blocks, for CONTROL_CALL_S at most. Don't fork after control_open().
 */
#ifndef FRONT_GRPC_CLIENT_H
#define FRONT_GRPC_CLIENT_H

#include "base/base.h"
#include "session/session.h"

#define CONTROL_CALL_S 30

struct control;

/*
 * The control plane of the server that @store names (pst://...), with the identity that its options
 * give. @at: where, if not beside the data plane: HOST:PORT or unix:PATH; NULL: the unix sockets
 * beside the pipe's where the server may be on this host, then the port after the data plane's.
 * Connects to none but sockets yet: the first call tells. -EINVAL: the name, or no pst:; -EPERM: a token would be
 * shown where others can read it; -ENOENT, -EACCES, ...: files of TLS; -ENOTSUP: a build without
 * gRPC; -ENOMEM; with a sentence.
 */
int control_open(struct control **ret_c, const char *store, const char *at, struct pst_err *err);
void control_close(struct control *c); /* accepts NULL */

/*
 * As cap_grant(), cap_renew() and cap_revoke(), at the server. @info goes in as they take it (the
 * container by its name) and comes out as it is then; the token of grant and renew in @ret_token. The
 * server's errno and words; -EHOSTUNREACH: nobody answers there; -ETIMEDOUT; -EPROTO.
 */
int control_grant(struct control *c, struct cap_info *info, char ret_token[CAP_TOKEN_MAX],
                  struct pst_err *err);
int control_renew(struct control *c, struct cap_info *info, char ret_token[CAP_TOKEN_MAX],
                  struct pst_err *err);
int control_revoke(struct control *c, struct cap_info *info, struct pst_err *err);
/* Calls @fn in the order of ids; false ends it. */
int control_list(struct control *c, bool (*fn)(void *arg, const struct cap_info *info), void *arg,
                 struct pst_err *err);

#endif
