/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stack - which schemes there are. (Each comes with its engine.)
 */
#include "client/stack.h"

int stack_open(struct store **ret_store, const char *uri, struct loop *loop,
               const struct stack_opts *opts, struct pst_err *err)
{
	const char *colon = strchr(uri, ':');

	if (!colon)
		return err_set(err, -EINVAL, "store \"%s\": write local:DEVICE[,DEVICE...]", uri);
	return err_set(err, -ENOTSUP, "store \"%s\": the scheme \"%.*s\" is not known", uri,
	               (int)(colon - uri), uri);
}
