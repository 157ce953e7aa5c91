/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client - a server's control plane, called from the command: finding it, the credentials, and one
 * unary call at a time.
 */
#include "front/grpc/client.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/stack_remote.h"
#include "front/grpc/grpc_int.h"

#define SYSTEM_CAS "/etc/ssl/certs/ca-certificates.crt"

struct control {
	grpc_channel *channel;
	grpc_completion_queue *cq;
	char *bearer; /* "Bearer TOKEN", or NULL */
	char target[320];
};

/* --- where --- */

/* Does somebody listen there? A socket's file alone may be what a killed server left. */
static bool listens(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd;
	bool yes;

	if (strlen(path) >= sizeof(sa.sun_path))
		return false;
	memcpy(sa.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	yes = connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) == 0;
	close(fd);
	return yes;
}

/* The first socket beside those of the pipe, or the port after tcp's. */
static int target_beside(struct control *c, const struct remote_name *n, struct pst_err *err)
{
	unsigned long port = strtoul(n->port, NULL, 10) + 1;
	char path[WIRE_PLACE_MAX] = "";

	for (unsigned i = 0; i < n->opts.at_count; i++) {
		if (strcmp(n->opts.at[i].provider, "pipe") ||
		    !wire_place_control(path, sizeof(path), n->opts.at[i].addr) ||
		    (n->opts.at[i].own && wire_place_trust(path) < 0) || !listens(path))
			continue;
		(void)snprintf(c->target, sizeof(c->target), "unix:%s", path);
		return 0;
	}
	if (n->channel && !strcmp(n->channel, "pipe"))
		return err_set(err, -EHOSTUNREACH,
		               "nobody listens at %s: is there a server, with a control plane?",
		               path);
	(void)snprintf(c->target, sizeof(c->target), strchr(n->host, ':') ? "[%s]:%lu" : "%s:%lu",
	               n->host, port);
	return 0;
}

static bool is_local(const char *target)
{
	char host[256], port[16];

	return !strncmp(target, "unix:", 5) ||
	       (wire_place_split(target, host, sizeof(host), port, sizeof(port)) == 0 &&
	        wire_place_is_loopback(host));
}

/* --- credentials --- */

static int credentials(const struct remote_name *n, grpc_channel_credentials **ret_c,
                       struct pst_err *err)
{
	const struct net_tls_opts *t = &n->tls_opts;
	const char *path[3] = {t->ca_file ? t->ca_file : SYSTEM_CAS, t->key_file, t->cert_file};
	char *pem[3] = {NULL};
	int rc = 0;

	if (!t->cert_file != !t->key_file)
		return err_set(err, -EINVAL,
		               "a certificate needs its key, and a key its certificate");
	for (unsigned i = 0; i < 3 && rc == 0; i++) {
		int why = 0;

		if (!path[i])
			continue;
		pem[i] = front_read_pem(path[i], err, &why);
		rc = pem[i] ? 0 : why;
	}
	if (rc == 0) {
		grpc_ssl_pem_key_cert_pair pair = {.private_key = pem[1], .cert_chain = pem[2]};

		*ret_c = grpc_ssl_credentials_create(pem[0], pem[1] ? &pair : NULL, NULL, NULL);
		if (!*ret_c)
			rc = err_set(err, -EINVAL, "%s: not good for TLS", path[0]);
	}
	for (unsigned i = 0; i < 3; i++)
		mem_free_secret(pem[i], pem[i] ? strlen(pem[i]) : 0);
	return rc;
}

static int channel_make(struct control *c, const struct remote_name *n, struct pst_err *err)
{
	grpc_arg name = {
	        .type = GRPC_ARG_STRING,
	        .key = (char *)(uintptr_t)GRPC_SSL_TARGET_NAME_OVERRIDE_ARG,
	        .value.string = (char *)(uintptr_t)n->opts.fabric.tls_name,
	};
	const grpc_channel_args args = {.num_args = n->opts.fabric.tls_name ? 1 : 0, .args = &name};
	bool tls = n->tls && strncmp(c->target, "unix:", 5);
	grpc_channel_credentials *creds = NULL;
	int rc = 0;

	if (tls)
		rc = credentials(n, &creds, err);
	else
		creds = grpc_insecure_credentials_create();
	if (rc < 0)
		return rc;
	if (n->opts.cred && !tls && !n->opts.insecure && !is_local(c->target)) {
		rc = err_set(err, -EPERM,
		             "%s: others can read this connection: the token is shown over TLS "
		             "(tls-ca=FILE or tls=yes), or with insecure=yes",
		             c->target);
	} else if (n->opts.cred) {
		size_t len = strlen(n->opts.cred) + sizeof("Bearer ");

		c->bearer = mem_alloc(len);
		rc = c->bearer ? 0 : err_set(err, -ENOMEM, "no memory");
		if (c->bearer)
			(void)snprintf(c->bearer, len, "Bearer %s", n->opts.cred);
	}
	if (rc == 0)
		c->channel = grpc_channel_create(c->target, creds, &args);
	grpc_channel_credentials_release(creds);
	return rc;
}

int control_open(struct control **ret_c, const char *store, const char *at, struct pst_err *err)
{
	struct control *c;
	struct remote_name n;
	struct options o;
	int rc;

	if (!store || strncmp(store, "pst:", 4))
		return err_set(err, -EINVAL,
		               "a served store has capabilities: name it as pst://HOST[:PORT]");
	rc = remote_name_parse(&n, &o, store + 4, err);
	if (rc < 0)
		return rc;
	c = mem_calloc(1, sizeof(*c));
	if (!c) {
		options_done(&o);
		return err_set(err, -ENOMEM, "no memory");
	}
	if (at && strncmp(at, "unix:", 5) != 0 &&
	    (!strrchr(at, ':') || !strrchr(at, ':')[1] || strchr(at, ']') > strrchr(at, ':'))) {
		options_done(&o);
		mem_free(c);
		return err_set(err, -EINVAL, "--control %s: write HOST:PORT or unix:PATH",
		               at[0] ? at : "(nothing)");
	}
	/* The system's resolver knows what the system calls its hosts; c-ares, gRPC's own, does not,
	 * and leaks. Whoever set it otherwise meant it. */
	(void)setenv("GRPC_DNS_RESOLVER", "native", 0);
	grpc_init();
	gpr_set_log_function(front_log);
	if (at)
		(void)snprintf(c->target, sizeof(c->target), "%s", at);
	else
		rc = target_beside(c, &n, err);
	if (rc == 0)
		rc = channel_make(c, &n, err);
	options_done(&o);
	if (rc < 0) {
		control_close(c);
		return rc;
	}
	c->cq = grpc_completion_queue_create_for_pluck(NULL);
	*ret_c = c;
	return 0;
}

void control_close(struct control *c)
{
	if (!c)
		return;
	if (c->channel)
		grpc_channel_destroy(c->channel);
	if (c->cq) {
		grpc_completion_queue_shutdown(c->cq);
		grpc_completion_queue_destroy(c->cq);
	}
	grpc_shutdown_blocking();
	mem_free_secret(c->bearer, c->bearer ? strlen(c->bearer) : 0);
	mem_free(c);
}

/* --- a call --- */

static grpc_byte_buffer *pack(const ProtobufCMessage *m)
{
	size_t len = protobuf_c_message_get_packed_size(m);
	grpc_slice slice = grpc_slice_malloc(len);
	grpc_byte_buffer *b;

	(void)protobuf_c_message_pack(m, GRPC_SLICE_START_PTR(slice));
	b = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
	return b;
}

static ProtobufCMessage *unpack(grpc_byte_buffer *b, const ProtobufCMessageDescriptor *type)
{
	ProtobufCMessage *m = NULL;
	grpc_byte_buffer_reader r;
	grpc_slice all;

	if (!b || !grpc_byte_buffer_reader_init(&r, b))
		return NULL;
	all = grpc_byte_buffer_reader_readall(&r);
	m = protobuf_c_message_unpack(type, NULL, GRPC_SLICE_LENGTH(all),
	                              GRPC_SLICE_START_PTR(all));
	grpc_slice_unref(all);
	grpc_byte_buffer_reader_destroy(&r);
	return m;
}

/* "EACCES: Permission denied" -> -EACCES, and the words. */
static int server_said(const struct control *c, grpc_status_code code, const char *details,
                       struct pst_err *err)
{
	size_t len = strcspn(details, ":");

	for (int e = 1; e < 134; e++) {
		const char *name = strerrorname_np(e);

		if (name && strlen(name) == len && !strncmp(name, details, len))
			return err_set(err, -e, "%s",
			               details[len] ? details + len + 2 : strerror(e));
	}
	if (code == GRPC_STATUS_DEADLINE_EXCEEDED)
		return err_set(err, -ETIMEDOUT, "%s does not answer within %d s", c->target,
		               CONTROL_CALL_S);
	if (code == GRPC_STATUS_UNAVAILABLE)
		return err_set(err, -EHOSTUNREACH, "there is no control plane at %s for us: %s",
		               c->target, details);
	return err_set(err, -EPROTO, "%s: %s", c->target, details);
}

struct answer {
	grpc_metadata_array head, tail;
	grpc_byte_buffer *body;
	grpc_status_code code;
	grpc_slice details;
};

static bool exchange(struct control *c, grpc_call *call, grpc_byte_buffer *body, struct answer *a)
{
	grpc_metadata bearer = {0};
	grpc_op ops[6] = {
	        {.op = GRPC_OP_SEND_INITIAL_METADATA},
	        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = body},
	        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
	        {.op = GRPC_OP_RECV_INITIAL_METADATA,
	         .data.recv_initial_metadata.recv_initial_metadata = &a->head},
	        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &a->body},
	        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
	         .data.recv_status_on_client = {.trailing_metadata = &a->tail,
	                                        .status = &a->code,
	                                        .status_details = &a->details}},
	};

	if (c->bearer) {
		bearer.key = grpc_slice_from_static_string("authorization");
		bearer.value = grpc_slice_from_copied_string(c->bearer);
		ops[0].data.send_initial_metadata.count = 1;
		ops[0].data.send_initial_metadata.metadata = &bearer;
	}
	if (grpc_call_start_batch(call, ops, ARRAY_LEN(ops), c, NULL) == GRPC_CALL_OK)
		(void)grpc_completion_queue_pluck(c->cq, c, gpr_inf_future(GPR_CLOCK_REALTIME),
		                                  NULL);
	else
		a->code = GRPC_STATUS_INTERNAL;
	if (c->bearer)
		grpc_slice_unref(bearer.value);
	return a->code == GRPC_STATUS_OK;
}

/* Calls @method; *@ret_out is the caller's to free. */
static int call(struct control *c, const char *method, const ProtobufCMessage *in,
                const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret_out,
                struct pst_err *err)
{
	gpr_timespec until = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
	                                  gpr_time_from_seconds(CONTROL_CALL_S, GPR_TIMESPAN));
	struct answer a = {.details = grpc_empty_slice(), .code = GRPC_STATUS_UNKNOWN};
	grpc_call *gc =
	        grpc_channel_create_call(c->channel, NULL, GRPC_PROPAGATE_DEFAULTS, c->cq,
	                                 grpc_slice_from_static_string(method), NULL, until, NULL);
	grpc_byte_buffer *body = pack(in);
	ProtobufCMessage *out = NULL;
	char *details;
	int rc = 0;

	grpc_metadata_array_init(&a.head);
	grpc_metadata_array_init(&a.tail);
	if (exchange(c, gc, body, &a)) {
		out = unpack(a.body, type);
		rc = out ? 0 : err_set(err, -EPROTO, "%s: an answer that is none", c->target);
	} else {
		details = grpc_slice_to_c_string(a.details);
		rc = server_said(c, a.code, details, err);
		gpr_free(details);
	}
	grpc_byte_buffer_destroy(body);
	grpc_byte_buffer_destroy(a.body);
	grpc_slice_unref(a.details);
	grpc_metadata_array_destroy(&a.head);
	grpc_metadata_array_destroy(&a.tail);
	grpc_call_unref(gc);
	if (rc == 0)
		*ret_out = out;
	return rc;
}

/* --- capabilities --- */

static void text_take(char *to, size_t len, const char *from)
{
	(void)snprintf(to, len, "%s", from ? from : "");
}

static void info_take(struct cap_info *i, const Penstock__V1__Capability *m)
{
	memset(i, 0, sizeof(*i));
	text_take(i->cont_name, sizeof(i->cont_name), m->container);
	text_take(i->prefix, sizeof(i->prefix), m->prefix);
	text_take(i->subject, sizeof(i->subject), m->subject);
	i->id = m->id;
	i->epoch = m->epoch;
	i->tenant = m->tenant;
	i->cont = m->container_id;
	i->rights = m->rights;
	i->expiry_ns = m->expiry_ns;
	i->ctime_ns = m->created_ns;
	i->map = (uint8_t)m->map;
	i->uid = m->uid;
	i->gid = m->gid;
	i->bytes_per_s = m->bytes_per_s;
	i->ops_per_s = m->ops_per_s;
	i->range_count = (uint8_t)MIN(m->n_ranges, CAP_RANGES_MAX);
	for (unsigned k = 0; k < i->range_count; k++)
		i->range[k] = (struct cap_range){m->ranges[k]->first, m->ranges[k]->last};
}

static int change(struct control *c, const char *method, struct cap_info *info, char *ret_token,
                  struct pst_err *err)
{
	Penstock__V1__CapabilityRequest in = PENSTOCK__V1__CAPABILITY_REQUEST__INIT;
	Penstock__V1__Capability m = PENSTOCK__V1__CAPABILITY__INIT;
	Penstock__V1__IdRange range[CAP_RANGES_MAX], *list[CAP_RANGES_MAX];
	Penstock__V1__CapabilityReply *out = NULL;
	int rc;

	m.id = info->id;
	m.tenant = info->tenant;
	m.container = info->cont_name;
	m.prefix = info->prefix;
	m.rights = info->rights;
	m.subject = info->subject;
	m.expiry_ns = info->expiry_ns;
	m.map = info->map;
	m.uid = info->uid;
	m.gid = info->gid;
	m.bytes_per_s = info->bytes_per_s;
	m.ops_per_s = info->ops_per_s;
	for (unsigned i = 0; i < info->range_count; i++) {
		penstock__v1__id_range__init(&range[i]);
		range[i].first = info->range[i].first;
		range[i].last = info->range[i].last;
		list[i] = &range[i];
	}
	m.ranges = list;
	m.n_ranges = info->range_count;
	in.capability = &m;
	rc = call(c, method, &in.base, &penstock__v1__capability_reply__descriptor,
	          (ProtobufCMessage **)(void *)&out, err);
	if (!out)
		return rc;
	if (out->capability)
		info_take(info, out->capability);
	if (ret_token)
		text_take(ret_token, CAP_TOKEN_MAX, out->token);
	penstock__v1__capability_reply__free_unpacked(out, NULL);
	return 0;
}

int control_grant(struct control *c, struct cap_info *info, char ret_token[CAP_TOKEN_MAX],
                  struct pst_err *err)
{
	return change(c, "/penstock.v1.Capabilities/Grant", info, ret_token, err);
}

int control_renew(struct control *c, struct cap_info *info, char ret_token[CAP_TOKEN_MAX],
                  struct pst_err *err)
{
	return change(c, "/penstock.v1.Capabilities/Renew", info, ret_token, err);
}

int control_revoke(struct control *c, struct cap_info *info, struct pst_err *err)
{
	return change(c, "/penstock.v1.Capabilities/Revoke", info, NULL, err);
}

int control_list(struct control *c, bool (*fn)(void *arg, const struct cap_info *info), void *arg,
                 struct pst_err *err)
{
	Penstock__V1__ListCapabilitiesRequest in = PENSTOCK__V1__LIST_CAPABILITIES_REQUEST__INIT;
	bool more = true;

	while (more) {
		Penstock__V1__ListCapabilitiesReply *out = NULL;
		uint64_t after = in.after;
		int rc = call(c, "/penstock.v1.Capabilities/ListCapabilities", &in.base,
		              &penstock__v1__list_capabilities_reply__descriptor,
		              (ProtobufCMessage **)(void *)&out, err);

		if (!out)
			return rc;
		more = out->more;
		for (size_t i = 0; i < out->n_capabilities; i++) {
			struct cap_info info;

			info_take(&info, out->capabilities[i]);
			in.after = info.id;
			if (!fn(arg, &info))
				more = false;
		}
		more = more && in.after > after; /* or a server could keep us for ever */
		penstock__v1__list_capabilities_reply__free_unpacked(out, NULL);
	}
	return 0;
}
