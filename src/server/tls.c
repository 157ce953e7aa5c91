/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls - what keeps strangers out: the certificates of the server, what it seals, and which addresses
 * it may listen at without them.
 */
#include "net/net.h"
#include "server/server.h"
#include "wire/place.h"

int server_tls_new(struct net_tls **ret_tls, const struct server_opts *o, struct pst_err *err)
{
	const struct net_tls_opts t = {
	        .cert_file = o->tls_cert,
	        .key_file = o->tls_key,
	        .ca_file = o->tls_ca,
	        .need_cert = o->tls_ca,
	};

	if (!o->tls_cert && !o->tls_key && !o->tls_ca)
		return 0;
	if (o->insecure)
		return err_set(
		        err, -EINVAL,
		        "TLS keeps strangers out, --insecure lets them in: it is one of them");
	if (!o->tls_cert || !o->tls_key)
		return err_set(err, -EINVAL,
		               "TLS takes a certificate (--tls-cert) and its key (--tls-key)");
	return net_tls_new(ret_tls, &t, err);
}

int server_seal(enum seal_policy *ret_policy, const struct server_opts *o, struct pst_err *err)
{
	const char *text = o->seal ? o->seal : "auto";

	if (!strcmp(text, "off")) {
		*ret_policy = SEAL_OFF;
	} else if (!strcmp(text, "required")) {
		if (o->insecure)
			return err_set(err, -EINVAL,
			               "sealing keeps strangers out, --insecure lets them in: it "
			               "is one of them");
		*ret_policy = SEAL_REQUIRED;
	} else if (!strcmp(text, "auto")) {
		*ret_policy = o->insecure ? SEAL_ALLOWED : SEAL_AUTO;
	} else {
		return err_set(err, -EINVAL, "--seal %s: it is auto, required or off", text);
	}
	return 0;
}

int server_may_listen(const struct server_opts *o, const char *option, const char *text,
                      const char *host, bool data, struct pst_err *err)
{
	bool off = o->seal && !strcmp(o->seal, "off");

	if (o->insecure || o->tls_cert || wire_place_is_loopback(host) || (data && !off))
		return 0;
	return err_set(err, -EPERM,
	               "%s %s: others can reach that address: it wants TLS (--tls-cert, --tls-key, "
	               "and --tls-ca for clients with certificates)%s, or --insecure",
	               option, text, data ? ", sealing (no --seal off)" : "");
}
