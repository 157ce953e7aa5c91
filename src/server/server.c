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
#include "wire/msg.h"
#include "wire/place.h"

/* Of an address without TLS: do all who come there have to seal? */
static bool must_seal(const struct server *s, const char *addr)
{
	char host[256], port[16];

	return s->seal == SEAL_REQUIRED ||
	       (s->seal == SEAL_AUTO &&
	        wire_place_split(addr, host, sizeof(host), port, sizeof(port)) == 0 &&
	        !wire_place_is_loopback(host));
}

static bool is_rdma(const struct server *s, const char *provider)
{
	return !strcmp(provider, "ofi") &&
	       (!strcmp(s->ofi, "verbs") || !strcmp(s->ofi, "verbs;ofi_rxm"));
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
	if (rc == 0 && is_rdma(s, provider))
		wire_listener_offer(s->listener, WIRE_OFFERS_RDMA);
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
			return err_set(err, rc, "the folder of %s: %s", s->socket,
			               rc == -EPERM ? "another user owns it, or may write to it"
			                            : strerror(-rc));
	}
	return server_file_socket(o, s->socket, err);
}

/* The same before there is a door: it lies beside a port that is known. Where the kernel is to choose that, s->socket
 * stays empty. */
static int place_early(struct server *s, const struct server_opts *o, struct pst_err *err)
{
	char host[256], text[8];
	unsigned port = 0;
	int rc = server_host_port(host, sizeof(host), &port, "--listen",
	                          o->listen_count ? o->listen[0] : SERVER_LISTEN_DEFAULT, err);

	if (rc < 0 || (!port && !o->socket && server_channel(o, "tcp")))
		return rc;
	(void)snprintf(text, sizeof(text), "%u", port);
	return place_socket(s, o, text, err);
}

/* "ofi:PROVIDER" of the list: its provider. */
static int ofi_provider(struct server *s, const struct server_opts *o, struct pst_err *err)
{
	const char *at = server_channel(o, "ofi");

	if (!at)
		return 0;
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

static int open_tcp(struct server *s, const struct server_opts *o, struct server_addrs *a,
                    struct pst_err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < a->count; i++) {
		if (a->at[i].kind != SERVER_ADDR_TCP)
			continue;
		rc = door(s, o, "tcp", a->at[i].addr, err);
		a->at[i].bound = rc == 0 ? s->door[s->door_count - 1].addr : NULL;
	}
	return rc;
}

/* Two ports above the one that the kernel chose for tcp: that is where clients look for it. */
static int place_ofi(struct server_addr *ofi, const struct server_addr *tcp, struct pst_err *err)
{
	char host[256], port[16], two_above[8];
	int rc = wire_place_split(tcp->bound, host, sizeof(host), port, sizeof(port));

	if (rc == 0)
		rc = wire_place_ofi_port(two_above, sizeof(two_above), port);
	if (rc < 0)
		return err_set(err, rc, "ofi is two ports above %s: there is no such port",
		               tcp->bound);
	(void)snprintf(ofi->addr, sizeof(ofi->addr), strchr(host, ':') ? "[%s]:%s" : "%s:%s", host,
	               two_above);
	return 0;
}

/* Those whose port is known before tcp's is, or the others. */
static int open_ofi(struct server *s, const struct server_opts *o, struct server_addrs *a,
                    bool known, struct pst_err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < a->count; i++) {
		if (a->at[i].kind != SERVER_ADDR_OFI || (a->at[i].port != 0) != known)
			continue;
		if (!known && i && a->at[i - 1].bound)
			rc = place_ofi(&a->at[i], &a->at[i - 1], err);
		if (rc == 0)
			rc = door(s, o, "ofi", a->at[i].addr, err);
	}
	return rc;
}

static int open_pipe(struct server *s, const struct server_opts *o, struct pst_err *err)
{
	return server_channel(o, "pipe") ? door(s, o, "pipe", s->socket, err) : 0;
}

/* The port that the socket lies beside became one only now. */
static int open_pipe_late(struct server *s, const struct server_opts *o,
                          const struct server_addrs *a, struct pst_err *err)
{
	const char *colon = a->count && a->at[0].bound ? strrchr(a->at[0].bound, ':') : NULL;
	int rc = place_socket(s, o, colon ? colon + 1 : "0", err);

	return rc == 0 ? open_pipe(s, o, err) : rc;
}

/*
 * tcp comes last: who finds no pipe, or is not offered RDMA, takes tcp, and stays there. Only a port that was not
 * known before, which nobody waits for, comes first.
 */
static int open_doors(struct server *s, const struct server_opts *o, struct pst_err *err)
{
	struct server_addrs a;
	bool early = s->socket[0];
	int rc = server_addrs(&a, o, err);

	if (rc == 0)
		rc = ofi_provider(s, o, err);
	if (rc == 0 && early)
		rc = open_pipe(s, o, err);
	if (rc == 0)
		rc = open_ofi(s, o, &a, true, err);
	if (rc == 0)
		rc = open_tcp(s, o, &a, err);
	if (rc == 0 && !early)
		rc = open_pipe_late(s, o, &a, err);
	if (rc == 0)
		rc = open_ofi(s, o, &a, false, err);
	if (rc == 0 && !s->door_count)
		rc = err_set(err, -EINVAL, "--channels %s: there is none to listen on",
		             o->channels ? o->channels : "");
	return rc;
}

static int rank(const struct server_door *d)
{
	return !strcmp(d->provider, "tcp") ? 0 : !strcmp(d->provider, "pipe") ? 1 : 2;
}

/* In the order in which people look for them: tcp, pipe, ofi. */
static void sort_doors(struct server *s)
{
	for (unsigned i = 1; i < s->door_count; i++) {
		struct server_door d = s->door[i];
		unsigned to = i;

		for (; to && rank(&s->door[to - 1]) > rank(&d); to--)
			s->door[to] = s->door[to - 1];
		s->door[to] = d;
	}
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

/* May what its path leads to by now be appended to? */
static int audit_may(const struct server *s, struct pst_err *err)
{
	return server_files_audit(&s->files, s->audit_log, s->socket[0] ? s->socket : NULL, err);
}

static int open_audit(struct server *s, const struct server_opts *o, struct session_opts *so,
                      struct pst_err *err)
{
	int rc;

	if (!o->audit_log)
		return 0;
	s->audit_log = o->audit_log;
	rc = audit_may(s, err);
	if (rc == 0)
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
	struct stack_opts stack = {.more_loops = loops, .memory_ahead = true};
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

/* By now: they may be renamed while the server has them open. */
static int note_files(struct server *s, const struct server_opts *o, struct pst_err *err)
{
	int rc = o->audit_log ? server_files_devices(&s->files, o->store, err) : 0;

	return rc == 0 && o->audit_log ? server_files_others(&s->files, o, err) : rc;
}

int server_open(struct server *s, struct loop *loop, const struct server_opts *o,
                struct pst_err *err)
{
	struct session_opts so = o->session;
	struct wire_listener_opts lo = o->listener;
	struct server_hold hold = {.count = 0};
	int rc;

	memset(s, 0, sizeof(*s));
	s->loop = loop;
	rc = server_seal(&s->seal, o, err);
	if (rc == 0)
		rc = server_tls_new(&s->tls, o, err);
	if (rc == 0)
		rc = place_early(s, o, err);
	if (rc == 0)
		rc = note_files(s, o, err);
	if (rc == 0)
		rc = server_hold(&hold, o, s->socket, err);
	if (rc == 0)
		rc = open_store(s, o, err);
	if (rc < 0) {
		server_hold_done(&hold);
		server_files_done(&s->files);
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
	server_hold_done(&hold);
	if (rc == 0)
		rc = metrics_start(&s->metrics, s, o->metrics, err);
	if (rc == 0)
		rc = open_doors(s, o, err);
	sort_doors(s);
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
	else if (audit_may(s, &err) < 0 || audit_file_reopen(s->audit, &err) < 0)
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
	server_files_done(&s->files);
	fabric_finish(s->loop);
	net_tls_free(s->tls);
	memset(s, 0, sizeof(*s));
	return rc;
}
