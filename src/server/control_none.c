/* SPDX-License-Identifier: BSD-3-Clause */
/* control - a build without gRPC has no control plane, and says so when it is asked for one. */
#include "server/server.h"

const bool server_control_built = false;

int server_control_open(struct server *s, const struct server_opts *o, struct pst_err *err)
{
	if (o->control && strcmp(o->control, "none"))
		return err_set(err, -ENOTSUP, "--control: this build has no control plane (gRPC)");
	return 0;
}

void server_control_close(struct server *s)
{
}
