/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stack - which schemes there are.
 */
#include "client/stack.h"

static const struct {
	const char *scheme;
	int (*open)(struct store **ret_store, const char *text, struct loop *loop,
	            const struct stack_opts *opts, struct pst_err *err);
} schemes[] = {
        {"local:", stack_local_open},
        {"pst:", stack_remote_open},
};

int stack_open(struct store **ret_store, const char *uri, struct loop *loop,
               const struct stack_opts *opts, struct pst_err *err)
{
	const char *colon = strchr(uri, ':');

	for (unsigned i = 0; i < ARRAY_LEN(schemes); i++) {
		size_t len = strlen(schemes[i].scheme);

		if (strncmp(uri, schemes[i].scheme, len) == 0)
			return schemes[i].open(ret_store, uri + len, loop, opts, err);
	}
	if (!colon)
		return err_set(err, -EINVAL,
		               "store \"%s\": write local:DEVICE[,DEVICE...] or pst://HOST[:PORT]",
		               uri);
	return err_set(err, -ENOTSUP,
	               "store \"%s\": the scheme \"%.*s\" is not known (local: and pst: are)", uri,
	               (int)(colon - uri), uri);
}
