/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * addrs - the addresses that a server is to have, out of its options: those it was given, and those that
 * follow from them. The check of the options compares them, and the start holds them while the store opens.
 */
#include <stdio.h>

#include "net/net.h"
#include "server/server.h"
#include "wire/place.h"

#define PORT_MAX 65535u

const char *server_channel(const struct server_opts *o, const char *name)
{
	size_t len = strlen(name);
	const char *at = o->channels ? o->channels : "pipe,tcp";

	for (;; at++) {
		if (strncmp(at, name, len) == 0 && (at[len] == ',' || !at[len] || at[len] == ':'))
			return at;
		at = strchr(at, ',');
		if (!at)
			return NULL;
	}
}

int server_host_port(char *host, size_t host_len, unsigned *ret_port, const char *option,
                     const char *text, struct pst_err *err)
{
	char port[16];
	int rc = text[0] ? wire_place_split(text, host, host_len, port, sizeof(port)) : -EINVAL;
	unsigned long n;

	if (rc < 0)
		return err_set(err, rc, "%s %s: write HOST:PORT", option,
		               text[0] ? text : "(nothing)");
	n = strtoul(port, NULL, 10);
	if (strlen(port) > 5 || n > PORT_MAX)
		return err_set(err, -EINVAL, "%s %s: there is no port %s", option, text, port);
	*ret_port = (unsigned)n;
	return 0;
}

/* Of an address that need not be Penstock's own data plane no port is guessed. */
static bool has_port(const char *text)
{
	const char *bracket = strrchr(text, ']');

	return strchr(bracket ? bracket : text, ':');
}

/* @who: "%s %s" of @option and @text go into it. */
static void add(struct server_addrs *a, enum server_addr_kind kind, const char *option,
                const char *text, const char *host, unsigned port)
{
	struct server_addr *at = &a->at[a->count++];
	const char *before = "", *behind = "";

	if (kind == SERVER_ADDR_OFI) {
		before = "ofi (two ports above ";
		behind = ")";
	} else if (kind == SERVER_ADDR_CONTROL && strcmp(option, "--control") != 0) {
		before = "the control plane (the port after ";
		behind = ")";
	}
	*at = (struct server_addr){.kind = kind, .option = option, .text = text, .port = port};
	(void)snprintf(at->addr, sizeof(at->addr), strchr(host, ':') ? "[%s]:%u" : "%s:%u", host,
	               port);
	(void)snprintf(at->who, sizeof(at->who), "%s%s %s%s", before, option, text, behind);
}

/* RDMA has ports of its own. */
static bool ofi_takes_tcp_port(const struct server_opts *o)
{
	const char *at = server_channel(o, "ofi");

	return at && strncmp(at, "ofi:tcp", 7) == 0;
}

static int add_ofi(struct server_addrs *a, const struct server_opts *o, const char *text,
                   const char *host, unsigned port, struct pst_err *err)
{
	if (o->seal && !strcmp(o->seal, "off") && !o->insecure && !wire_place_is_loopback(host))
		return err_set(err, -EPERM,
		               "--listen %s: others can reach that address, and ofi has no TLS: it "
		               "wants sealing (no --seal off), or --insecure",
		               text);
	if (port + WIRE_PLACE_OFI > PORT_MAX)
		return err_set(err, -EINVAL,
		               "--listen %s: ofi is two ports above, and there is no such port",
		               text);
	add(a, SERVER_ADDR_OFI, "--listen", text, host, port ? port + WIRE_PLACE_OFI : 0);
	a->at[a->count - 1].not_tcp = !ofi_takes_tcp_port(o);
	return 0;
}

static int add_data(struct server_addrs *a, const struct server_opts *o, const char *text,
                    struct pst_err *err)
{
	char host[256];
	unsigned port = 0;
	int rc = server_host_port(host, sizeof(host), &port, "--listen", text, err);

	a->looked_at = text;
	if (rc == 0)
		rc = server_may_listen(o, "--listen", text, host, true, err);
	if (rc == 0 && server_channel(o, "tcp"))
		add(a, SERVER_ADDR_TCP, "--listen", text, host, port);
	if (rc == 0 && server_channel(o, "ofi"))
		rc = add_ofi(a, o, text, host, port, err);
	return rc;
}

/* The port after the first of tcp, at this host's own address where that one is sealed. */
static int add_control_beside(struct server_addrs *a, const struct server_opts *o,
                              struct pst_err *err)
{
	const char *text = a->count ? a->at[0].text : NULL;
	char host[256];
	unsigned port = 0;

	a->looked_at = text;
	if (!text || a->at[0].kind != SERVER_ADDR_TCP ||
	    server_host_port(host, sizeof(host), &port, "--listen", text, err) < 0)
		return 0;
	if (port == PORT_MAX)
		return err_set(err, -EINVAL,
		               "--listen %s: there is no port after it for the control plane: say "
		               "--control HOST:PORT, or none",
		               text);
	if (!o->insecure && !o->tls_cert && !wire_place_is_loopback(host))
		(void)snprintf(host, sizeof(host), "%s", strchr(host, ':') ? "::1" : "127.0.0.1");
	add(a, SERVER_ADDR_CONTROL, "--listen", text, host, port ? port + 1 : 0);
	return 0;
}

static int add_named(struct server_addrs *a, const struct server_opts *o,
                     enum server_addr_kind kind, const char *option, const char *text,
                     struct pst_err *err)
{
	char host[256];
	unsigned port = 0;
	int rc = has_port(text) ? server_host_port(host, sizeof(host), &port, option, text, err)
	                        : err_set(err, -EINVAL, "%s %s: write HOST:PORT", option,
	                                  text[0] ? text : "(nothing)");

	a->looked_at = text;
	if (rc == 0 && kind == SERVER_ADDR_CONTROL)
		rc = server_may_listen(o, option, text, host, false, err);
	if (rc == 0)
		add(a, kind, option, text, host, port);
	return rc;
}

int server_addrs(struct server_addrs *a, const struct server_opts *o, struct pst_err *err)
{
	int rc = 0;

	a->count = 0;
	if (!o->listen_count)
		rc = add_data(a, o, SERVER_LISTEN_DEFAULT, err);
	for (unsigned i = 0; rc == 0 && i < o->listen_count; i++)
		rc = add_data(a, o, o->listen[i], err);
	if (rc == 0 && !o->control && server_control_built)
		rc = add_control_beside(a, o, err);
	else if (rc == 0 && o->control && strcmp(o->control, "none") != 0)
		rc = add_named(a, o, SERVER_ADDR_CONTROL, "--control", o->control, err);
	if (rc == 0 && o->metrics)
		rc = add_named(a, o, SERVER_ADDR_METRICS, "--metrics", o->metrics, err);
	return rc;
}

/* --- holding them --- */

static int hold_unix(struct server_hold *h, const char *path, struct pst_err *err)
{
	char addr[sizeof("unix:") + WIRE_PLACE_MAX];
	int rc;

	(void)snprintf(addr, sizeof(addr), "unix:%s", path);
	rc = net_hold(&h->at[h->count], addr, 0, 0, err);
	h->count += rc == 0;
	return rc;
}

int server_hold(struct server_hold *h, const struct server_opts *o, const char *socket,
                struct pst_err *err)
{
	struct server_addrs a;
	char control[WIRE_PLACE_MAX];
	int rc = server_addrs(&a, o, err);

	h->count = 0;
	for (unsigned i = 0; rc == 0 && i < a.count; i++) {
		if (a.at[i].not_tcp || !a.at[i].port)
			continue;
		rc = net_hold(&h->at[h->count], a.at[i].addr, 0, 0, err);
		if (rc < 0)
			err_prefix(err, rc, "%s", a.at[i].who);
		h->count += rc == 0;
	}
	if (rc == 0 && socket[0] && server_channel(o, "pipe"))
		rc = hold_unix(h, socket, err);
	if (rc == 0 && socket[0] && server_has_control(o) &&
	    wire_place_control(control, sizeof(control), socket))
		rc = hold_unix(h, control, err);
	if (rc < 0)
		server_hold_done(h);
	return rc;
}

void server_hold_done(struct server_hold *h)
{
	while (h->count)
		net_hold_free(h->at[--h->count]);
}
