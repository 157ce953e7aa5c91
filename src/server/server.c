/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * server - the assembly: store, sessions, listener, doors, and down again in the reverse order.
 */
#include "server/server.h"

#include <stdio.h>
#include <unistd.h>

#include "client/stack.h"
#include "net/net.h"
#include "server/metrics.h"
#include "session/audit.h"
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

/* Of an address without TLS: do all who come there have to seal? */
static bool must_seal(const struct server *s, const char *addr)
{
	char host[256], port[16];

	return s->seal == SEAL_REQUIRED ||
	       (s->seal == SEAL_AUTO &&
	        wire_place_split(addr, host, sizeof(host), port, sizeof(port)) == 0 &&
	        !wire_place_is_loopback(host));
}

static int door(struct server *s, const struct server_opts *o, const char *provider,
                const char *addr, struct pst_err *err)
{
	struct server_door *d = &s->door[s->door_count];
	struct fabric_opts fo = o->fabric;
	int rc;

	if (s->door_count == SERVER_DOORS_MAX)
		return err_set(err, -E2BIG, "more than %d listeners", SERVER_DOORS_MAX);
	d->provider = provider;
	d->tls = s->tls && !strcmp(provider, "tcp");
	d->sealed = !d->tls && strcmp(provider, "pipe") && must_seal(s, addr);
	fo.tls = d->tls ? s->tls : NULL;
	if (s->ofi[0])
		fo.provider = s->ofi;
	rc = wire_listener_add(s->listener, provider, addr, &fo, &d->addr, err);
	s->door_count += rc == 0;
	return rc;
}

/* Where the sockets are: of the pipe, and beside it of the control plane. */
static int place_socket(struct server *s, const struct server_opts *o, const char *port,
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
	return 0;
}

/* "ofi:PROVIDER" of the list: its provider. */
static int ofi_provider(struct server *s, const struct server_opts *o, struct pst_err *err)
{
	const char *at = o->channels;

	while (strncmp(at, "ofi", 3) != 0 || (at[3] != ':' && at[3] != ',' && at[3]))
		at = strchr(at, ',') + 1;
	if (at[3] != ':' || !at[4] || at[4] == ',')
		return err_set(
		        err, -EINVAL,
		        "--channels %s: which ofi? ofi:verbs for RDMA, ofi:tcp without a NIC",
		        o->channels);
	if ((size_t)snprintf(s->ofi, sizeof(s->ofi), "%.*s", (int)strcspn(at + 4, ","), at + 4) >=
	    sizeof(s->ofi))
		return err_set(err, -EINVAL, "--channels %s: that provider's name is too long",
		               o->channels);
	return 0;
}

/* @port: of the data channels at this address, "0" if there are none. */
static int open_ofi(struct server *s, const struct server_opts *o, const char *text,
                    const char *host, const char *port, struct pst_err *err)
{
	char addr[300], mine[8];
	int rc = ofi_provider(s, o, err);

	if (rc < 0)
		return rc;
	if (s->seal == SEAL_OFF && !o->insecure && !wire_place_is_loopback(host))
		return err_set(err, -EPERM,
		               "--listen %s: others can reach that address, and ofi has no TLS: it "
		               "wants sealing (no --seal off), or --insecure",
		               text);
	if (wire_place_ofi_port(mine, sizeof(mine), port) < 0)
		return err_set(err, -EINVAL,
		               "--listen %s: ofi is two ports above, and there is no such port",
		               text);
	(void)snprintf(addr, sizeof(addr), strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, mine);
	return door(s, o, "ofi", addr, err);
}

static int open_address(struct server *s, const struct server_opts *o, const char *text, bool first,
                        struct pst_err *err)
{
	char host[256], port[16], addr[300];
	int rc = wire_place_split(text, host, sizeof(host), port, sizeof(port));

	if (rc < 0)
		return err_set(err, rc, "--listen %s: write HOST:PORT", text);
	rc = server_may_listen(o, "--listen", text, host, true, err);
	if (rc < 0)
		return rc;
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
	if (wanted(o, "ofi"))
		rc = open_ofi(s, o, text, host, port, err);
	if (rc == 0 && first)
		rc = place_socket(s, o, port, err);
	return rc == 0 && first && wanted(o, "pipe") ? door(s, o, "pipe", s->socket, err) : rc;
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

/* --- what the configuration says of tenants, and the audit log --- */

struct tenants {
	struct tenant_op op;
	bool ended;
	int status;
};

static void tenant_done(struct tenant_op *op, int status)
{
	struct tenants *t = container_of(op, struct tenants, op);

	t->status = status;
	t->ended = true;
}

static int set_tenants(struct server *s, const struct server_opts *o, struct pst_err *err)
{
	for (unsigned i = 0; i < o->tenant_count; i++) {
		struct tenants t = {.op = {.id = o->tenant[i].id,
		                           .qos = o->tenant[i].qos,
		                           .by = "configuration"}};
		int rc;

		memcpy(t.op.name, o->tenant[i].name, sizeof(t.op.name));
		t.op.done = tenant_done;
		rc = tenant_set(s->table, &t.op);
		while (rc == 0 && !t.ended)
			(void)loop_turn(s->loop, NSEC_PER_SEC);
		rc = rc == 0 ? t.status : rc;
		if (rc < 0)
			return err_set(err, rc, "tenant %u: its settings can't be kept: %s",
			               t.op.id, strerror(-rc));
	}
	return 0;
}

static int open_audit(struct server *s, const struct server_opts *o, struct session_opts *so,
                      struct pst_err *err)
{
	int rc;

	if (!o->audit_log)
		return 0;
	rc = audit_file_open(&s->audit, o->audit_log, err);
	if (rc == 0) {
		so->audit = audit_file_write;
		so->audit_arg = s->audit;
	}
	return rc;
}

/* --- the store, and the reactors that it is parted among --- */

static void stop_reactors(struct server *s)
{
	while (s->reactor_count)
		loop_thread_stop(s->reactor[--s->reactor_count]);
}

static int start_reactors(struct server *s, const struct server_opts *o, struct pst_err *err)
{
	struct loop_opts lo;
	int rc = 0;

	if (!o->cores)
		return 0;
	rc = cores_parse(s->cores, &s->core_count, o->cores, true, err);
	loop_opts_default(&lo);
	lo.poll = o->poll;
	while (rc == 0 && s->reactor_count + 1 < s->core_count) {
		rc = loop_thread_start(&s->reactor[s->reactor_count], &lo,
		                       s->cores[s->reactor_count + 1], err);
		s->reactor_count += rc == 0;
	}
	if (rc < 0)
		stop_reactors(s);
	return rc;
}

static int open_store(struct server *s, const struct server_opts *o, struct pst_err *err)
{
	struct loop *loops[CORES_MAX];
	struct stack_opts stack = {.more_loops = loops};
	uint64_t lease_ns = o->session.lease_ns;
	int rc = start_reactors(s, o, err);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < s->reactor_count; i++)
		loops[i] = loop_thread_loop(s->reactor[i]);
	stack.more_loop_count = s->reactor_count;
	/* As long as a session keeps what it holds open, when nothing is heard of its client. */
	stack.grace_ns = lease_ns ? lease_ns : SESSION_LEASE_NS;
	rc = stack_open(&s->store, o->store, s->loop, &stack, err);
	if (rc < 0)
		stop_reactors(s);
	return rc;
}

int server_open(struct server *s, struct loop *loop, const struct server_opts *o,
                struct pst_err *err)
{
	struct session_opts so = o->session;
	struct wire_listener_opts lo = o->listener;
	int rc;

	memset(s, 0, sizeof(*s));
	s->loop = loop;
	rc = server_seal(&s->seal, o, err);
	if (rc == 0)
		rc = server_tls_new(&s->tls, o, err);
	if (rc < 0)
		return rc;
	rc = open_store(s, o, err);
	if (rc < 0) {
		net_tls_free(s->tls);
		return rc;
	}
	so.open_access = o->insecure;
	so.owner_uid = geteuid();
	rc = open_audit(s, o, &so, err);
	if (rc == 0)
		rc = session_table_open(&s->table, s->store, &so, err);
	if (rc == 0)
		rc = set_tenants(s, o, err);
	if (rc == 0) {
		lo.mem = MEM_SHARED; /* what all channels can register */
		lo.seal = s->seal;
		lo.figures = metrics_figures;
		lo.figures_arg = s;
		rc = wire_listener_new(&s->listener, s->table, &lo, err);
	}
	if (rc == 0)
		rc = metrics_start(&s->metrics, s, o->metrics, err);
	if (rc == 0)
		rc = open_doors(s, o, err);
	if (rc == 0)
		rc = server_control_open(s, o, err);
	/* Last: the threads of the metrics and of the control plane, which began before, go elsewhere. */
	if (rc == 0 && s->core_count)
		rc = core_pin(s->cores[0], err);
	if (rc == 0 && s->core_count)
		loop_core_set(loop, s->cores[0]);
	if (rc < 0)
		(void)server_close(s, 0);
	return rc;
}

void server_reopen(struct server *s)
{
	struct pst_err err = {0};

	if (!s->audit)
		log_info("there is no audit log to open anew");
	else if (audit_file_reopen(s->audit, &err) < 0)
		log_error("%s: the old one is written to still", err.text);
	else
		log_info("the audit log is opened anew");
}

const char *server_door_cover(const struct server_door *d)
{
	return d->tls ? "+tls" : d->sealed ? "+sealed" : "";
}

const char *server_metrics_addr(const struct server *s)
{
	return metrics_addr(s->metrics);
}

int server_close(struct server *s, uint64_t wait_ns)
{
	int rc;

	server_control_close(s);
	metrics_quiet(s->metrics);
	wire_listener_close(s->listener, wait_ns);
	metrics_free(s->metrics);
	session_table_close(s->table);
	rc = store_close(s->store);
	stop_reactors(s);
	audit_file_close(s->audit);
	fabric_finish(s->loop);
	net_tls_free(s->tls);
	memset(s, 0, sizeof(*s));
	return rc;
}
