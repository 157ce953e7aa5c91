/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stack_remote - what a name "pst://HOST[:PORT][?option=value&...]" says, for those who need a
 * server's other doors: the control plane.
 */
#ifndef CLIENT_STACK_REMOTE_H
#define CLIENT_STACK_REMOTE_H

#include "net/net.h"
#include "wire/place.h"
#include "wire/wire.h"

struct remote_name {
	struct remote_opts opts; /* with the places to try, best first */
	char host[256], port[16];
	char addr[300], ofi_addr[300];
	char socket[2][WIRE_PLACE_MAX];
	const char *channel; /* NULL: the best */
	bool tls;            /* of tcp: by @tls_opts, and opts.fabric.tls_name */
	struct net_tls_opts tls_opts;
};

/*
 * @text is what follows "pst:". *ret_n points into itself and into *ret_o, which the caller ends
 * with options_done() unless this fails. -EINVAL, -ENAMETOOLONG, -ENOMEM, with a sentence.
 */
int remote_name_parse(struct remote_name *ret_n, struct options *ret_o, const char *text,
                      struct pst_err *err);

#endif
