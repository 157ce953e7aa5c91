/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control - the control plane's doors: gRPC at an address and at a unix socket, both beside those of
 * the data plane unless the operator says otherwise. control_none.c stands in for it in a build
 * without gRPC.
 */
#include <stdio.h>

#include "front/grpc/grpc.h"
#include "server/server.h"
#include "wire/msg.h"
#include "wire/place.h"

#define PORT_MAX 65535

const bool server_control_built = true;

/* The first door over tcp; NULL: none. */
static const struct server_door *data_door(const struct server *s)
{
	for (unsigned i = 0; i < s->door_count; i++)
		if (!strcmp(s->door[i].provider, "tcp"))
			return &s->door[i];
	return NULL;
}

/*
 * The port after the data plane's (on this host's own address, where the data plane is sealed), or any
 * where the kernel chose that one, too (the next may be somebody else's). No tcp there, none here: buf is "".
 */
static int beside(const struct server *s, const struct server_opts *o, char *buf, size_t len,
                  struct pst_err *err)
{
	const struct server_door *d = data_door(s);
	char host[256], port[16];
	unsigned long number;

	buf[0] = 0;
	if (!d || wire_place_split(d->addr, host, sizeof(host), port, sizeof(port)) < 0)
		return 0;
	number = strtoul(port, NULL, 10) + 1;
	if (o->listen_count && strlen(o->listen[0]) > 2 &&
	    !strcmp(o->listen[0] + strlen(o->listen[0]) - 2, ":0"))
		number = 0;
	if (number > PORT_MAX)
		return err_set(err, -EINVAL,
		               "there is no port after %s for the control plane: say --control "
		               "HOST:PORT, or none",
		               port);
	/* It is not sealed: without TLS it stays at home, as the line of where it listens says. */
	if (!o->insecure && !o->tls_cert && !wire_place_is_loopback(host))
		(void)snprintf(host, sizeof(host), "%s", strchr(host, ':') ? "::1" : "127.0.0.1");
	(void)snprintf(buf, len, strchr(host, ':') ? "[%s]:%lu" : "%s:%lu", host, number);
	return 0;
}

static int address(const struct server *s, const struct server_opts *o, char *buf, size_t len,
                   struct pst_err *err)
{
	char host[256], port[16];
	int rc;

	if (!o->control)
		return beside(s, o, buf, len, err);
	rc = wire_place_split(o->control, host, sizeof(host), port, sizeof(port));
	if (rc < 0)
		return err_set(err, rc, "--control %s: write HOST:PORT", o->control);
	rc = server_may_listen(o, "--control", o->control, host, false, err);
	if (rc == 0)
		(void)snprintf(buf, len, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
	return rc;
}

/* The port that stands in a store's name, which has one for all channels. */
static uint16_t name_port(const struct server_door *d)
{
	char host[256], port[16];
	unsigned long number;

	if (!strcmp(d->provider, "pipe") ||
	    wire_place_split(d->addr, host, sizeof(host), port, sizeof(port)) < 0)
		return 0;
	number = strtoul(port, NULL, 10);
	return (uint16_t)(strcmp(d->provider, "ofi") ? number : number - WIRE_PLACE_OFI);
}

/* What follows the port in that name. */
static void name_options(const struct server *s, const struct server_door *d, char *buf, size_t len)
{
	const char *how = d->tls ? "&tls=yes" : d->sealed ? "&seal=required" : "";

	buf[0] = 0;
	if (!strcmp(d->provider, "pipe") && !strpbrk(d->addr, "?&"))
		(void)snprintf(buf, len, "channel=pipe&socket=%s", d->addr);
	else if (!strcmp(d->provider, "pipe"))
		return; /* a path that no store's name can have in it */
	else if (!strcmp(d->provider, "ofi"))
		(void)snprintf(buf, len, "channel=ofi:%s%s", s->ofi, how);
	else
		(void)snprintf(buf, len, "channel=%s%s", d->provider, how);
}

static void endpoint(const struct server *s, const struct server_opts *o,
                     const struct server_door *d, struct grpc_endpoint *e)
{
	(void)snprintf(e->channel, sizeof(e->channel), "%s%s", d->provider, server_door_cover(d));
	(void)snprintf(e->address, sizeof(e->address), "%s", d->addr);
	if (!strcmp(d->provider, "ofi"))
		(void)snprintf(e->provider, sizeof(e->provider), "%s", s->ofi);
	name_options(s, d, e->options, sizeof(e->options));
	e->port = name_port(d);
	e->tls = d->tls;
	e->client_cert = d->tls && o->tls_ca;
	e->seal_required = d->sealed;
	e->seal_taken = s->seal != SEAL_OFF;
	e->version = WIRE_VERSION;
	e->version_min = WIRE_VERSION_MIN;
}

/* What clients are told of the data plane. */
static void endpoints(const struct server *s, const struct server_opts *o,
                      struct grpc_front_opts *g)
{
	for (unsigned i = 0; i < s->door_count && g->endpoints < GRPC_FRONT_ENDPOINTS_MAX; i++)
		endpoint(s, o, &s->door[i], &g->endpoint[g->endpoints++]);
}

static void announce(struct server *s, const char *addr, bool tls)
{
	if (s->door_count < SERVER_DOORS_MAX)
		s->door[s->door_count++] =
		        (struct server_door){.provider = "control", .addr = addr, .tls = tls};
}

int server_control_open(struct server *s, const struct server_opts *o, struct pst_err *err)
{
	struct grpc_front_opts g = {
	        .tls_cert = o->tls_cert,
	        .tls_key = o->tls_key,
	        .tls_ca = o->tls_ca,
	        .insecure = o->insecure,
	};
	int rc;

	if (!server_has_control(o))
		return 0;
	rc = address(s, o, s->control_addr, sizeof(s->control_addr), err);
	if (rc < 0)
		return rc;
	if (!wire_place_control(s->control_socket, sizeof(s->control_socket), s->socket))
		return err_set(err, -ENAMETOOLONG, "%s: too long for a socket beside it",
		               s->socket);
	g.listen = s->control_addr;
	g.unix_path = s->control_socket;
	endpoints(s, o, &g);
	rc = grpc_front_start(&s->control, &g, s->loop, s->table, err);
	if (rc < 0)
		return rc;
	if (s->control_addr[0]) {
		char *colon = strrchr(s->control_addr, ':');

		(void)snprintf(colon, sizeof(s->control_addr) - (size_t)(colon - s->control_addr),
		               ":%u", grpc_front_port(s->control));
		announce(s, s->control_addr, o->tls_cert);
	}
	announce(s, s->control_socket, false);
	return 0;
}

void server_control_close(struct server *s)
{
	grpc_front_stop(s->control);
	s->control = NULL;
}
