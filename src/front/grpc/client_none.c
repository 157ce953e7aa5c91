/* SPDX-License-Identifier: BSD-3-Clause */
/* client - a build without gRPC reaches no control plane, and says so. */
#include "front/grpc/client.h"

static int none(struct pst_err *err)
{
	return err_set(err, -ENOTSUP, "this build has no gRPC: it reaches no control plane");
}

int control_open(struct control **ret_c, const char *store, const char *at, struct pst_err *err)
{
	return none(err);
}

void control_close(struct control *c)
{
}

int control_grant(struct control *c, struct cap_info *info, char ret_token[CAP_TOKEN_MAX],
                  struct pst_err *err)
{
	return none(err);
}

int control_renew(struct control *c, struct cap_info *info, char ret_token[CAP_TOKEN_MAX],
                  struct pst_err *err)
{
	return none(err);
}

int control_revoke(struct control *c, struct cap_info *info, struct pst_err *err)
{
	return none(err);
}

int control_list(struct control *c, bool (*fn)(void *arg, const struct cap_info *info), void *arg,
                 struct pst_err *err)
{
	return none(err);
}
