/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stack_remote - a store that another process serves: "pst://HOST[:PORT][?option=value&...]".
 *
 * Which channel. With channel=pipe, tcp or ofi:PROVIDER (libfabric's name, "verbs" and "tcp" meaning
 * "verbs;ofi_rxm" and "tcp;ofi_rxm"; two ports above the server's) that one, or an error. Without it the best
 * that both ends can use: pipe to a server on this host (HOST is one of its addresses, or a name of one); else
 * ofi:verbs if this host has a device for RDMA and the server, which is asked over tcp, says that it takes it; else
 * tcp. Where TLS is asked for, that is tcp's. What could not be had is said in the log, and the status says what
 * is in use.
 *
 * Other options: socket=PATH (of the pipe), connect=SECONDS (how long to try again while the server isn't
 * there; 0, the default: one try, of ten seconds at most), reconnect=SECONDS (how long to wait for one that
 * went away: 120; 0: not at all, what is under way fails, and all that follows), token=TEXT (a capability's; also from
 * the environment, PENSTOCK_TOKEN), ops=N, slots=N, volatile=BOOL (changes that need not be durable at
 * once are not: faster, but a crash of the server loses those that were not flushed).
 *
 * TLS of the channel tcp: tls-ca=FILE (who vouches for the server), or tls=yes for the system's list
 * of authorities; tls-cert=FILE and tls-key=FILE (who we are); tls-name=NAME (the server's, where its
 * certificate is for another one than HOST). A pipe needs none of it: the kernel vouches for its
 * ends. Without TLS a token's holder seals what others could read (wire/seal.h): seal=auto, the default;
 * required: every channel; off: none. insecure=yes shows a token even where others can read it.
 */
#include "client/stack.h"

#include <stdio.h>

#include "client/stack_remote.h"

static void add(struct remote_name *n, const char *provider, const char *addr)
{
	struct remote_place *p = &n->opts.at[n->opts.at_count++];

	*p = (struct remote_place){
	        .provider = provider, .addr = addr, .tls = n->tls && !strcmp(provider, "tcp")};
}

/* The servers of this user and of the system may both have a socket beside that port. */
static void add_pipe(struct remote_name *n, const char *socket)
{
	if (socket) {
		add(n, "pipe", socket);
		return;
	}
	for (int i = 0; i < 2; i++) {
		if (!wire_place_socket(n->socket[i], sizeof(n->socket[i]), i == 1, n->port))
			continue;
		add(n, "pipe", n->socket[i]);
		n->opts.at[n->opts.at_count - 1].own = i == 0;
	}
}

static int add_ofi(struct remote_name *n, const char *provider, struct pst_err *err)
{
	char port[8];

	if (wire_place_ofi_port(port, sizeof(port), n->port) < 0)
		return err_set(err, -EINVAL, "port %s: ofi is two above, and there is no such port",
		               n->port);
	(void)snprintf(n->ofi_addr, sizeof(n->ofi_addr), strchr(n->host, ':') ? "[%s]:%s" : "%s:%s",
	               n->host, port);
	n->opts.fabric.provider = provider;
	add(n, "ofi", n->ofi_addr);
	return 0;
}

/* RDMA, if there is any at both ends: the server has to say so. */
static void add_rdma(struct remote_name *n)
{
	if (!n->tls && fabric_provider_find("ofi") && fabric_has_rdma() &&
	    add_ofi(n, "verbs", NULL) == 0)
		n->opts.at[n->opts.at_count - 1].offered = true;
}

static int channels(struct remote_name *n, const char *socket, struct pst_err *err)
{
	const char *c = n->channel;
	bool v6 = strchr(n->host, ':');

	(void)snprintf(n->addr, sizeof(n->addr), v6 ? "[%s]:%s" : "%s:%s", n->host, n->port);
	if (!c) {
		if ((socket || wire_place_is_loopback(n->host)) && fabric_provider_find("pipe"))
			add_pipe(n, socket);
		add(n, "tcp", n->addr);
		add_rdma(n);
	} else if (!strcmp(c, "pipe")) {
		add_pipe(n, socket);
	} else if (!strcmp(c, "tcp")) {
		add(n, "tcp", n->addr);
	} else if (!strncmp(c, "ofi:", 4) && c[4]) {
		return add_ofi(n, c + 4, err);
	} else {
		return err_set(err, -EINVAL, "channel=%s: it is pipe, tcp or ofi:PROVIDER", c);
	}
	return 0;
}

/* *ret_zero: it is given, and 0; may be NULL. */
/* A HOST that only the resolver knows; who waits for it longer would wait again to connect. */
#define LOOK_UP_NS (2 * NSEC_PER_SEC)

static bool is_own(const struct remote_name *n, struct loop *loop)
{
	struct net_addr all[NET_ADDRS_MAX];
	struct pst_err err = {0};
	unsigned count = 0;
	int rc = net_resolve_by(loop, loop_now(loop) + LOOK_UP_NS, all, &count, n->addr, 0, &err);

	/* Any other error is met again by tcp, which says so. */
	if (rc == -ETIMEDOUT)
		log_warn("%s: %s: whether it is this host is not known, and the pipe is not tried",
		         n->addr, err.text);
	for (unsigned i = 0; i < count; i++)
		if (net_addr_is_own(&all[i]))
			return true;
	return false;
}

/* A pipe is better than what was chosen for another host. */
static void prefer_pipe(struct remote_name *n, struct loop *loop)
{
	if (n->channel || strcmp(n->opts.at[0].provider, "tcp") || !fabric_provider_find("pipe") ||
	    !is_own(n, loop))
		return;
	n->opts.at_count = 0;
	add_pipe(n, NULL);
	add(n, "tcp", n->addr);
	add_rdma(n);
}

static int seconds(struct options *o, const char *key, uint64_t *ns, bool *ret_zero,
                   struct pst_err *err)
{
	bool given = options_str(o, key);
	uint64_t s = 0;
	int rc = options_u64(o, key, &s, err);

	if (rc == 0 && s > 1000000)
		return err_set(err, -EINVAL, "option %s: too long", key);
	if (rc == 0 && s)
		*ns = s * NSEC_PER_SEC;
	if (ret_zero)
		*ret_zero = rc == 0 && given && !s;
	return rc;
}

static int seal_parse(struct remote_name *n, const char *text, struct pst_err *err)
{
	if (!text || !strcmp(text, "auto"))
		n->opts.seal = SEAL_AUTO;
	else if (!strcmp(text, "required"))
		n->opts.seal = SEAL_REQUIRED;
	else if (!strcmp(text, "off"))
		n->opts.seal = SEAL_OFF;
	else
		return err_set(err, -EINVAL, "seal=%s: it is auto, required or off", text);
	return 0;
}

/* Any option of TLS asks for it. */
static int tls_parse(struct remote_name *n, struct options *o, struct pst_err *err)
{
	bool asked = false;
	int rc = options_bool(o, "tls", &asked, err);

	n->tls_opts.ca_file = options_str(o, "tls-ca");
	n->tls_opts.cert_file = options_str(o, "tls-cert");
	n->tls_opts.key_file = options_str(o, "tls-key");
	n->opts.fabric.tls_name = options_str(o, "tls-name");
	n->tls = asked || n->tls_opts.ca_file || n->tls_opts.cert_file || n->tls_opts.key_file ||
	         n->opts.fabric.tls_name;
	if (rc == 0 && n->tls && n->channel && strcmp(n->channel, "tcp"))
		rc = err_set(err, -EINVAL, "channel=%s has no TLS: it is for tcp", n->channel);
	if (rc == 0)
		rc = options_bool(o, "insecure", &n->opts.insecure, err);
	return rc ? rc : seal_parse(n, options_str(o, "seal"), err);
}

static int take_options(struct remote_name *n, struct options *o, struct pst_err *err)
{
	uint64_t ops = 0, slots = 0;
	const char *socket;
	int rc = wire_place_split(o->base, n->host, sizeof(n->host), n->port, sizeof(n->port));

	if (rc < 0)
		return err_set(err, rc, "pst://%s: write pst://HOST[:PORT][?option=value&...]",
		               o->base);
	n->channel = options_str(o, "channel");
	socket = options_str(o, "socket");
	n->opts.cred = options_str(o, "token");
	if (!n->opts.cred)
		n->opts.cred = getenv("PENSTOCK_TOKEN");
	rc = tls_parse(n, o, err);
	if (rc == 0)
		rc = seconds(o, "connect", &n->opts.connect_ns, NULL, err);
	n->opts.connect_wait =
	        n->opts.connect_ns != 0; /* 0 is what it is without the option: one try */
	if (rc == 0)
		rc = seconds(o, "reconnect", &n->opts.reconnect_ns, &n->opts.no_reconnect, err);
	if (rc == 0)
		rc = options_bool(o, "volatile", &n->opts.volatile_ok, err);
	if (rc == 0)
		rc = options_u64(o, "ops", &ops, err);
	if (rc == 0)
		rc = options_u64(o, "slots", &slots, err);
	if (rc == 0 && (ops > 65536 || slots > SESSION_SLOTS_MAX))
		rc = err_set(err, -EINVAL, "options ops and slots: at most 65536 and %d",
		             SESSION_SLOTS_MAX);
	if (rc == 0)
		rc = options_finish(o, "pst:", err);
	n->opts.ops_max = (uint32_t)ops;
	n->opts.slots = (uint32_t)slots;
	n->opts.fabric.connect_ns = n->opts.connect_ns;
	return rc == 0 ? channels(n, socket, err) : rc;
}

int remote_name_parse(struct remote_name *ret_n, struct options *ret_o, const char *text,
                      struct pst_err *err)
{
	int rc;

	memset(ret_n, 0, sizeof(*ret_n));
	if (strncmp(text, "//", 2) != 0)
		return err_set(err, -EINVAL, "pst:%s: write pst://HOST[:PORT]", text);
	rc = options_parse(ret_o, text + 2, err);
	if (rc < 0)
		return rc;
	rc = take_options(ret_n, ret_o, err);
	if (rc < 0)
		options_done(ret_o);
	return rc;
}

int stack_remote_open(struct store **ret_store, const char *text, struct loop *loop,
                      const struct stack_opts *opts, struct pst_err *err)
{
	struct remote_name n;
	struct options o;
	int rc = remote_name_parse(&n, &o, text, err);

	if (rc < 0)
		return rc;
	prefer_pipe(&n, loop);
	if (n.tls)
		rc = net_tls_new(&n.opts.tls, &n.tls_opts, err);
	if (rc == 0)
		rc = remote_open(ret_store, loop, &n.opts, err);
	if (rc < 0)
		net_tls_free(n.opts.tls);
	options_done(&o);
	return rc;
}
