/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * server - the assembly: store, sessions, listener, doors, and down again in the reverse order.
 */
#include "server/server.h"

#include <stdio.h>
#include <unistd.h>

#include "client/stack.h"
#include "wire/place.h"

/* Is @name in "a,b,c"? Without a list all are, but those that have to be asked for. */
static bool wanted(const struct server_opts *o, const char *name)
{
	size_t len = strlen(name);
	const char *at = o->channels;

	if (!at)
		return strcmp(name, "pipe") == 0 || strcmp(name, "tcp") == 0;
	for (;; at++) {
		if (strncmp(at, name, len) == 0 && (at[len] == ',' || !at[len] || at[len] == ':'))
			return true;
		at = strchr(at, ',');
		if (!at)
			return false;
	}
}

static int door(struct server *s, const struct server_opts *o, const char *provider,
                const char *addr, struct pst_err *err)
{
	struct server_door *d = &s->door[s->door_count];
	int rc;

	if (s->door_count == SERVER_DOORS_MAX)
		return err_set(err, -E2BIG, "more than %d listeners", SERVER_DOORS_MAX);
	d->provider = provider;
	rc = wire_listener_add(s->listener, provider, addr, &o->fabric, &d->addr, err);
	s->door_count += rc == 0;
	return rc;
}

static int open_socket(struct server *s, const struct server_opts *o, const char *port,
                       struct pst_err *err)
{
	bool system = geteuid() == 0;
	int rc;

	if (o->socket) {
		(void)snprintf(s->socket, sizeof(s->socket), "%s", o->socket);
	} else {
		if (!wire_place_socket(s->socket, sizeof(s->socket), system, port))
			return err_set(err, -ENAMETOOLONG, "the socket's path is too long");
		rc = wire_place_folder(s->socket, system);
		if (rc < 0)
			return err_set(err, rc, "the folder of %s: %s", s->socket, strerror(-rc));
	}
	return door(s, o, "pipe", s->socket, err);
}

static int open_address(struct server *s, const struct server_opts *o, const char *text, bool first,
                        struct pst_err *err)
{
	char host[256], port[16], addr[300];
	int rc = wire_place_split(text, host, sizeof(host), port, sizeof(port));

	if (rc < 0)
		return err_set(err, rc, "--listen %s: write HOST:PORT", text);
	if (!o->insecure && !wire_place_is_loopback(host))
		return err_set(err, -EPERM,
		               "--listen %s: others can reach that address: it wants --insecure",
		               text);
	(void)snprintf(addr, sizeof(addr), strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
	if (wanted(o, "tcp")) {
		rc = door(s, o, "tcp", addr, err);
		if (rc < 0)
			return rc;
		/* The socket lies beside the port that it became. */
		if (!strcmp(port, "0")) {
			const char *colon = strrchr(s->door[s->door_count - 1].addr, ':');

			(void)snprintf(port, sizeof(port), "%s", colon ? colon + 1 : "0");
		}
	}
	return first && wanted(o, "pipe") ? open_socket(s, o, port, err) : 0;
}

static int open_doors(struct server *s, const struct server_opts *o, struct pst_err *err)
{
	int rc = 0;

	if (!o->listen_count)
		rc = open_address(s, o, "127.0.0.1:" WIRE_PORT, true, err);
	for (unsigned i = 0; rc == 0 && i < o->listen_count; i++)
		rc = open_address(s, o, o->listen[i], i == 0, err);
	if (rc == 0 && !s->door_count)
		rc = err_set(err, -EINVAL, "--channels %s: there is none to listen on",
		             o->channels ? o->channels : "");
	return rc;
}

int server_open(struct server *s, struct loop *loop, const struct server_opts *o,
                struct pst_err *err)
{
	struct session_opts so = o->session;
	struct wire_listener_opts lo = o->listener;
	struct stack_opts stack = {0};
	int rc;

	memset(s, 0, sizeof(*s));
	s->loop = loop;
	rc = stack_open(&s->store, o->store, loop, &stack, err);
	if (rc < 0)
		return rc;
	so.open_access = o->insecure;
	so.owner_uid = geteuid();
	rc = session_table_open(&s->table, s->store, &so, err);
	if (rc == 0) {
		lo.mem = MEM_SHARED; /* what all channels can register */
		rc = wire_listener_new(&s->listener, s->table, &lo, err);
	}
	if (rc == 0)
		rc = open_doors(s, o, err);
	if (rc < 0)
		(void)server_close(s, 0);
	return rc;
}

int server_close(struct server *s, uint64_t wait_ns)
{
	int rc;

	wire_listener_close(s->listener, wait_ns);
	session_table_close(s->table);
	rc = store_close(s->store);
	fabric_finish(s->loop);
	memset(s, 0, sizeof(*s));
	return rc;
}
