/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * do_server - the methods of the services Server, Capabilities and Tenants.
 */
#include "front/grpc/grpc_int.h"

static const Penstock__V1__Empty empty = PENSTOCK__V1__EMPTY__INIT;

static void end_empty(struct gcall *c, int status)
{
	call_end(c, status, &empty.base);
}

/* --- sessions --- */

static void session_opened(struct session_open *o, int status)
{
	struct gcall *c = container_of(o, struct gcall, u.open);
	struct grpc_front *f = c->front;
	Penstock__V1__OpenSessionReply r = PENSTOCK__V1__OPEN_SESSION_REPLY__INIT;
	Penstock__V1__Session s = PENSTOCK__V1__SESSION__INIT;
	Penstock__V1__Endpoint e[GRPC_FRONT_ENDPOINTS_MAX], *list[GRPC_FRONT_ENDPOINTS_MAX];
	uint8_t uuid[16];

	if (!status) {
		c->session->number = o->number;
		memcpy(c->session->secret, o->secret, sizeof(o->secret));
	}
	session_table_identity(f->table, uuid, &r.store_epoch);
	s.number = o->number;
	s.secret = (ProtobufCBinaryData){sizeof(o->secret), o->secret};
	r.session = &s;
	r.slots = o->slots;
	r.lease_ms = o->lease_ns / NSEC_PER_MSEC;
	r.expiry_ms = o->expiry_ns / NSEC_PER_MSEC;
	r.store_uuid = (ProtobufCBinaryData){sizeof(uuid), uuid};
	fill_endpoints(f, e, list);
	r.endpoints = list;
	r.n_endpoints = f->opts.endpoints;
	if (status)
		fsession_end(c->session);
	fsession_put(c->session);
	c->session = NULL;
	call_end(c, status, &r.base);
}

static int open_why(struct gcall *c, int status)
{
	switch (status) {
	case -EAGAIN:
		return call_fail(c, status,
		                 "OpenSession: this server has as many sessions as it takes");
	case -EDQUOT:
		return call_fail(c, status, "OpenSession: tenant %u has as many sessions as it may",
		                 c->u.open.ident.tenant);
	default:
		return status;
	}
}

void do_open_session(struct gcall *c)
{
	const Penstock__V1__OpenSessionRequest *in = (const void *)c->in;
	struct session_open *o = &c->u.open;
	int rc = call_identify(c, &o->ident);

	if (!rc) {
		c->session = fsession_new(c->front);
		rc = c->session ? 0 : -ENOMEM;
	}
	if (!rc && in->slots > SESSION_SLOTS_MAX)
		rc = call_fail(c, -EINVAL, "slots: %u: a session has at most %d", in->slots,
		               SESSION_SLOTS_MAX);
	if (!rc) {
		fsession_peer(c->session, c);
		o->conn = &c->session->conn;
		o->slots = in->slots;
		o->done = session_opened;
		rc = open_why(c, session_open(o));
	}
	if (!rc)
		return;
	if (c->session) {
		fsession_end(c->session);
		fsession_put(c->session);
		c->session = NULL;
	}
	call_end(c, rc, NULL);
}

void do_keep_alive(struct gcall *c)
{
	const Penstock__V1__SessionRequest *in = (const void *)c->in;
	int rc = call_session(c, in->session);

	if (!rc) {
		session_touch(&c->session->conn);
		fsession_put(c->session);
	}
	end_empty(c, rc);
}

void do_close_session(struct gcall *c)
{
	const Penstock__V1__SessionRequest *in = (const void *)c->in;
	int rc = call_session(c, in->session);

	if (!rc) {
		rc = session_close(&c->session->conn);
		fsession_end(c->session);
		fsession_put(c->session);
	}
	end_empty(c, rc);
}

static bool add_session(void *arg, const struct session_figures *f)
{
	struct gcall *c = arg;
	Penstock__V1__SessionInfo *i = (Penstock__V1__SessionInfo *)c->out + c->count;

	if (c->count == PAGE_MAX) {
		c->more = true;
		return false;
	}
	penstock__v1__session_info__init(i);
	i->number = f->number;
	i->who = (char *)(uintptr_t)f->who;
	i->tenant = f->tenant;
	i->connected = f->connected;
	i->running = f->running;
	i->queued = f->queued;
	i->held_open = f->opens;
	i->ops = f->ops;
	i->bytes_in = f->bytes_in;
	i->bytes_out = f->bytes_out;
	i->errors = f->errors;
	i->refused = f->refused;
	i->idle_ms = f->idle_ns / NSEC_PER_MSEC;
	c->count++;
	return true;
}

/* Room for a page of @each bytes, and for the pointers to them. */
static void **page_begin(struct gcall *c, size_t each)
{
	void **list = mem_calloc(PAGE_MAX, sizeof(void *));

	c->out = mem_calloc(PAGE_MAX, each);
	c->count = 0;
	c->more = false;
	if (c->out && list)
		return list;
	mem_free(c->out);
	mem_free(list);
	c->out = NULL;
	return NULL;
}

static void page_list(struct gcall *c, void **list, size_t each)
{
	for (size_t i = 0; i < c->count; i++)
		list[i] = (char *)c->out + i * each;
}

/* Ends the call with the page: the call may be gone when call_end() returns. */
static void page_end(struct gcall *c, int rc, const ProtobufCMessage *m, void **list)
{
	void *out = c->out;

	c->out = NULL;
	call_end(c, rc, m);
	mem_free(list);
	mem_free(out);
}

void do_list_sessions(struct gcall *c)
{
	const Penstock__V1__ListSessionsRequest *in = (const void *)c->in;
	Penstock__V1__ListSessionsReply r = PENSTOCK__V1__LIST_SESSIONS_REPLY__INIT;
	const size_t each = sizeof(Penstock__V1__SessionInfo);
	void **list = NULL;
	int rc = call_admin(c);

	if (!rc) {
		list = page_begin(c, each);
		rc = list ? session_list(c->front->table, in->after, add_session, c) : -ENOMEM;
	}
	if (list)
		page_list(c, list, each);
	r.sessions = (void *)list;
	r.n_sessions = c->count;
	r.more = c->more;
	page_end(c, rc, &r.base, list);
}

/* --- status: the store is asked directly: it is the server that wants to know --- */

static void status_done(struct pst_op *op)
{
	struct gcall *c = container_of(op, struct gcall, req.op);
	struct grpc_front *f = c->front;
	Penstock__V1__StatusReply r = PENSTOCK__V1__STATUS_REPLY__INIT;
	Penstock__V1__Endpoint e[GRPC_FRONT_ENDPOINTS_MAX], *list[GRPC_FRONT_ENDPOINTS_MAX];
	const struct pst_store_status *st = c->status;
	struct table_figures fig;

	session_table_figures(f->table, &fig);
	r.store_uuid = (ProtobufCBinaryData){sizeof(st->uuid), c->status->uuid};
	r.store_epoch = st->epoch;
	r.size_bytes = st->size_bytes;
	r.used_bytes = st->used_bytes;
	r.free_bytes = st->free_bytes;
	r.stopped = st->stopped;
	r.stopped_why = c->status->stopped_why;
	(void)text_show(r.stopped_why, sizeof(c->status->stopped_why), r.stopped_why,
	                strlen(r.stopped_why));
	r.sessions = fig.sessions;
	r.connections = fig.conns;
	r.capabilities = fig.caps;
	r.running = fig.running;
	r.queued = fig.queued;
	r.ops = fig.ops;
	r.errors = fig.errors;
	r.refused = fig.refused;
	fill_endpoints(f, e, list);
	r.endpoints = list;
	r.n_endpoints = f->opts.endpoints;
	call_end(c, op->status, &r.base);
}

void do_status(struct gcall *c)
{
	int rc = call_admin(c);

	if (!rc)
		c->status = mem_calloc(1, sizeof(*c->status));
	if (!rc && !c->status)
		rc = -ENOMEM;
	if (rc) {
		call_end(c, rc, NULL);
		return;
	}
	c->req.op = (struct pst_op){
	        .opcode = PST_OP_STATUS, .status_out = c->status, .done = status_done};
	switch (store_submit(session_table_store(c->front->table), &c->req.op)) {
	case PST_DONE:
		status_done(&c->req.op);
		break;
	case PST_QUEUED:
		break;
	case PST_BUSY:
		call_end(c, call_fail(c, -EAGAIN, "GetStatus: the store is busy: ask again"), NULL);
		break;
	}
}

/* --- capabilities --- */

static void cap_reply(Penstock__V1__Capability *m, const struct cap_info *i)
{
	penstock__v1__capability__init(m);
	m->id = i->id;
	m->epoch = i->epoch;
	m->tenant = i->tenant;
	m->container = (char *)(uintptr_t)i->cont_name;
	m->container_id = i->cont;
	m->prefix = (char *)(uintptr_t)i->prefix;
	m->rights = i->rights;
	m->subject = (char *)(uintptr_t)i->subject;
	m->expiry_ns = i->expiry_ns;
	m->created_ns = i->ctime_ns;
	m->map = i->map;
	m->uid = i->uid;
	m->gid = i->gid;
	m->bytes_per_s = i->bytes_per_s;
	m->ops_per_s = i->ops_per_s;
}

static int copy_text(struct gcall *c, const char *field, char *to, size_t cap, const char *from)
{
	if (strlen(from) >= cap)
		return call_fail(c, -ENAMETOOLONG, "%s: %zu bytes: it has at most %zu", field,
		                 strlen(from), cap - 1);
	memcpy(to, from, strlen(from) + 1);
	return 0;
}

/* 0 is "none of its own" everywhere. */
static int range_check(struct gcall *c, const char *field, uint64_t n, uint64_t min, uint64_t max)
{
	return !n || (n >= min && n <= max)
	               ? 0
	               : call_fail(c, -EINVAL,
	                           "%s: %llu: it is 0 (none of its own), or %llu to %llu", field,
	                           (unsigned long long)n, (unsigned long long)min,
	                           (unsigned long long)max);
}

static int tenant_id_check(struct gcall *c, const char *field, uint32_t id)
{
	return id <= TENANT_ID_MAX
	               ? 0
	               : call_fail(c, -EINVAL, "%s: %u: at most %u", field, id, TENANT_ID_MAX);
}

static int ranges_check(struct gcall *c, const Penstock__V1__Capability *m)
{
	if (m->map > CAP_MAP_RANGES)
		return call_fail(c, -EINVAL,
		                 "capability.map: %u: it is 0 (any), 1 (squash) or 2 (ranges)",
		                 m->map);
	if (m->n_ranges > CAP_RANGES_MAX)
		return call_fail(c, -EINVAL, "capability.ranges: %zu of them: there are at most %d",
		                 m->n_ranges, CAP_RANGES_MAX);
	if ((m->map == CAP_MAP_RANGES) != (m->n_ranges > 0))
		return call_fail(c, -EINVAL,
		                 "capability.ranges: they go with map 2, and that with them");
	if (m->map != CAP_MAP_SQUASH && (m->uid || m->gid))
		return call_fail(c, -EINVAL, "capability.%s: it goes with map 1",
		                 m->uid ? "uid" : "gid");
	for (size_t k = 0; k < m->n_ranges; k++)
		if (m->ranges[k]->first > m->ranges[k]->last)
			return call_fail(c, -EINVAL, "capability.ranges[%zu]: %u is above %u", k,
			                 m->ranges[k]->first, m->ranges[k]->last);
	return 0;
}

/* What a grant says. (The session room looks again, with one word for all of it.) */
static int grant_check(struct gcall *c, const Penstock__V1__Capability *m)
{
	char text[SHOWN_MAX];
	int rc = tenant_id_check(c, "capability.tenant", m->tenant);

	rc = rc ? rc
	        : range_check(c, "capability.bytes_per_s", m->bytes_per_s, QOS_RATE_MIN,
	                      QOS_BYTES_MAX);
	rc = rc ? rc : range_check(c, "capability.ops_per_s", m->ops_per_s, 1, QOS_OPS_MAX);
	if (rc)
		return rc;
	if (!m->rights || m->rights & ~RIGHTS_ALL)
		return call_fail(c, -EINVAL, "capability.rights: %#x: a sum of rights, 1 to %#x",
		                 m->rights, RIGHTS_ALL);
	if (!cap_subject_ok(m->subject))
		return call_fail(
		        c, -EINVAL,
		        "capability.subject: \"%s\": it is uid:N, gid:N, cert:NAME, anyone, "
		        "or nothing",
		        shown(text, m->subject));
	if (m->expiry_ns && m->expiry_ns <= loop_real_now(c->front->loop))
		return call_fail(
		        c, -EINVAL,
		        "capability.expiry_ns: %llu has passed: nanoseconds since 1970, or 0",
		        (unsigned long long)m->expiry_ns);
	if (m->prefix[0] && !m->container[0] && !m->container_id)
		return call_fail(c, -EINVAL, "capability.prefix: it goes with one container");
	return ranges_check(c, m);
}

static int cap_fill(struct gcall *c, struct cap_info *i, const Penstock__V1__Capability *m,
                    bool grant)
{
	int rc = copy_text(c, "capability.container", i->cont_name, sizeof(i->cont_name),
	                   m->container);

	rc = rc ? rc : copy_text(c, "capability.prefix", i->prefix, sizeof(i->prefix), m->prefix);
	rc = rc ? rc
	        : copy_text(c, "capability.subject", i->subject, sizeof(i->subject), m->subject);
	rc = rc || !grant ? rc : grant_check(c, m);
	i->id = m->id;
	i->expiry_ns = m->expiry_ns;
	if (rc || !grant)
		return rc;
	i->tenant = m->tenant;
	i->cont = m->container[0] ? 0 : m->container_id;
	i->rights = m->rights;
	i->map = (uint8_t)m->map;
	i->uid = m->uid;
	i->gid = m->gid;
	i->bytes_per_s = m->bytes_per_s;
	i->ops_per_s = m->ops_per_s;
	i->range_count = (uint8_t)m->n_ranges;
	for (size_t k = 0; k < m->n_ranges; k++)
		i->range[k] = (struct cap_range){m->ranges[k]->first, m->ranges[k]->last};
	return 0;
}

/* The container's name is the session room's once it was found, and its number with it. */
static int grant_why(struct gcall *c, const Penstock__V1__Capability *m, int status)
{
	const struct cap_info *i = &c->u.cap.info;
	bool found = i->cont && i->cont_name[0];
	char cont[SHOWN_MAX], prefix[SHOWN_MAX];

	(void)shown(prefix, m->prefix);
	switch (status) {
	case -ENOENT:
		if (!found && m->container[0])
			return call_fail(c, status, "capability.container: there is no \"%s\"",
			                 shown(cont, m->container));
		if (!found)
			return call_fail(c, status, "capability.container_id: there is no %u",
			                 m->container_id);
		return call_fail(c, status, "capability.prefix: there is no \"%s\" in \"%s\"",
		                 prefix, shown(cont, i->cont_name));
	case -ENOTDIR:
		return call_fail(c, status, "capability.prefix: \"%s\" is no directory in \"%s\"",
		                 prefix, shown(cont, i->cont_name));
	case -EINVAL:
		return call_fail(c, status,
		                 "capability.prefix: \"%s\": a container of objects has no "
		                 "directories",
		                 prefix);
	case -EAGAIN:
		return call_fail(c, status,
		                 "Grant: this server has as many capabilities as it takes");
	default:
		return status;
	}
}

static int cap_why(struct gcall *c, int status)
{
	const Penstock__V1__Capability *m =
	        ((const Penstock__V1__CapabilityRequest *)(const void *)c->in)->capability;
	unsigned long long id = m->id;

	if (!status || c->why[0])
		return status;
	if (!strcmp(method_name(c), "Grant"))
		return grant_why(c, m, status);
	switch (status) {
	case -ENOENT:
		return call_fail(c, status, "capability.id: there is no capability %llu", id);
	case -EPERM:
		return call_fail(c, status,
		                 "capability.id: %llu is the owner's, which is there for ever", id);
	case -EBUSY:
		return call_fail(c, status, "capability.id: another call changes %llu now", id);
	case -EINVAL: /* Renew's */
		return call_fail(
		        c, status,
		        "capability.expiry_ns: %llu has passed: nanoseconds since 1970, or 0",
		        (unsigned long long)m->expiry_ns);
	default:
		return status;
	}
}

static void cap_done(struct cap_op *o, int status)
{
	struct gcall *c = container_of(o, struct gcall, u.cap);
	Penstock__V1__CapabilityReply r = PENSTOCK__V1__CAPABILITY_REPLY__INIT;
	Penstock__V1__IdRange range[CAP_RANGES_MAX], *list[CAP_RANGES_MAX];
	Penstock__V1__Capability m;

	cap_reply(&m, &o->info);
	for (unsigned i = 0; i < o->info.range_count; i++) {
		penstock__v1__id_range__init(&range[i]);
		range[i].first = o->info.range[i].first;
		range[i].last = o->info.range[i].last;
		list[i] = &range[i];
	}
	m.ranges = list;
	m.n_ranges = o->info.range_count;
	r.capability = &m;
	r.token = o->token;
	call_end(c, cap_why(c, status), &r.base);
}

static void cap_begin(struct gcall *c, int (*fn)(struct session_table *t, struct cap_op *o))
{
	const Penstock__V1__CapabilityRequest *in = (const void *)c->in;
	struct cap_op *o = &c->u.cap;
	int rc = call_admin(c);

	if (!rc && !in->capability) {
		call_end(c, call_fail(c, -EINVAL, "capability: %s takes one", method_name(c)),
		         NULL);
		return;
	}
	if (!rc)
		rc = cap_fill(c, &o->info, in->capability, fn == cap_grant);
	if (!rc) {
		o->by = c->ident.who;
		o->by_peer = c->ident.peer;
		o->done = cap_done;
		rc = cap_why(c, fn(c->front->table, o));
	}
	if (rc)
		call_end(c, rc, NULL);
}

void do_grant(struct gcall *c)
{
	cap_begin(c, cap_grant);
}

void do_renew(struct gcall *c)
{
	cap_begin(c, cap_renew);
}

void do_revoke(struct gcall *c)
{
	cap_begin(c, cap_revoke);
}

static bool add_cap(void *arg, const struct cap_info *info)
{
	struct gcall *c = arg;

	if (c->count == PAGE_MAX) {
		c->more = true;
		return false;
	}
	cap_reply((Penstock__V1__Capability *)c->out + c->count++, info);
	return true;
}

void do_list_capabilities(struct gcall *c)
{
	const Penstock__V1__ListCapabilitiesRequest *in = (const void *)c->in;
	Penstock__V1__ListCapabilitiesReply r = PENSTOCK__V1__LIST_CAPABILITIES_REPLY__INIT;
	const size_t each = sizeof(Penstock__V1__Capability);
	void **list = NULL;
	int rc = call_admin(c);

	if (!rc) {
		list = page_begin(c, each);
		rc = list ? 0 : -ENOMEM;
	}
	if (list) {
		cap_list(c->front->table, in->after, add_cap, c);
		page_list(c, list, each);
	}
	r.capabilities = (void *)list;
	r.n_capabilities = c->count;
	r.more = c->more;
	page_end(c, rc, &r.base, list);
}

static void rotated(struct cap_op *o, int status)
{
	end_empty(container_of(o, struct gcall, u.cap), status);
}

void do_rotate(struct gcall *c)
{
	int rc = call_admin(c);

	c->u.cap.by = c->ident.who;
	c->u.cap.by_peer = c->ident.peer;
	c->u.cap.done = rotated;
	rc = rc ? rc : session_key_rotate(c->front->table, &c->u.cap);
	if (rc)
		call_end(c, rc, NULL);
}

/* --- tenants --- */

static void tenant_done(struct tenant_op *o, int status)
{
	end_empty(container_of(o, struct gcall, u.tenant), status);
}

static int tenant_check(struct gcall *c, const Penstock__V1__Tenant *m)
{
	const struct {
		const char *field;
		uint64_t n, min, max;
	} limits[] = {
	        {"tenant.depth_max", m->depth_max, 1, QOS_DEPTH_MAX},
	        {"tenant.bytes_max", m->bytes_max, QOS_BYTES_MIN, QOS_BYTES_MAX},
	        {"tenant.bytes_per_s", m->bytes_per_s, QOS_RATE_MIN, QOS_BYTES_MAX},
	        {"tenant.ops_per_s", m->ops_per_s, 1, QOS_OPS_MAX},
	        {"tenant.sessions_max", m->sessions_max, 1, QOS_SESSIONS_MAX},
	};
	int rc = tenant_id_check(c, "tenant.id", m->id);

	if (!rc && m->weight > TENANT_WEIGHT_MAX)
		rc = call_fail(c, -EINVAL, "tenant.weight: %u: at most %u, and 0 is 1", m->weight,
		               TENANT_WEIGHT_MAX);
	for (size_t i = 0; !rc && i < ARRAY_LEN(limits); i++)
		rc = range_check(c, limits[i].field, limits[i].n, limits[i].min, limits[i].max);
	return rc;
}

void do_set_tenant(struct gcall *c)
{
	const Penstock__V1__Tenant *m =
	        ((const Penstock__V1__TenantRequest *)(const void *)c->in)->tenant;
	struct tenant_op *o = &c->u.tenant;
	int rc = call_admin(c);

	if (!rc && !m) {
		call_end(c, call_fail(c, -EINVAL, "tenant: SetTenant takes one"), NULL);
		return;
	}
	rc = rc ? rc : copy_text(c, "tenant.name", o->name, sizeof(o->name), m->name);
	rc = rc ? rc : tenant_check(c, m);
	if (!rc) {
		o->id = m->id;
		o->qos = (struct qos){.weight = m->weight,
		                      .depth_max = m->depth_max,
		                      .bytes_max = m->bytes_max,
		                      .bytes_per_s = m->bytes_per_s,
		                      .ops_per_s = m->ops_per_s,
		                      .sessions_max = m->sessions_max};
		o->by = c->ident.who;
		o->by_peer = c->ident.peer;
		o->done = tenant_done;
		rc = tenant_set(c->front->table, o);
		if (rc == -EAGAIN)
			(void)call_fail(c, rc,
			                "SetTenant: there are as many tenants as there may be");
	}
	if (rc)
		call_end(c, rc, NULL);
}

struct tenant_page {
	struct gcall *c;
	struct tenant_figures *figures; /* the names live here */
};

static bool add_tenant(void *arg, const struct tenant_figures *figures)
{
	struct tenant_page *p = arg;
	struct gcall *c = p->c;
	Penstock__V1__Tenant *m = (Penstock__V1__Tenant *)c->out + c->count;
	struct tenant_figures *f = &p->figures[c->count];

	if (c->count == PAGE_MAX)
		return false;
	*f = *figures;
	penstock__v1__tenant__init(m);
	m->id = f->id;
	m->name = f->name;
	m->weight = f->qos.weight;
	m->depth_max = f->qos.depth_max;
	m->bytes_max = f->qos.bytes_max;
	m->bytes_per_s = f->qos.bytes_per_s;
	m->ops_per_s = f->qos.ops_per_s;
	m->sessions_max = f->qos.sessions_max;
	m->sessions = f->sessions;
	m->ops = f->ops;
	m->bytes_in = f->bytes_in;
	m->bytes_out = f->bytes_out;
	m->queue_ns = f->queue_ns;
	c->count++;
	return true;
}

void do_list_tenants(struct gcall *c)
{
	Penstock__V1__ListTenantsReply r = PENSTOCK__V1__LIST_TENANTS_REPLY__INIT;
	const size_t each = sizeof(Penstock__V1__Tenant);
	struct tenant_page p = {.c = c};
	void **list = NULL;
	int rc = call_admin(c);

	if (!rc) {
		p.figures = mem_calloc(PAGE_MAX, sizeof(*p.figures));
		list = p.figures ? page_begin(c, each) : NULL;
		rc = list ? 0 : -ENOMEM;
	}
	if (list) {
		tenant_list(c->front->table, UINT32_MAX, add_tenant, &p);
		page_list(c, list, each);
	}
	r.tenants = (void *)list;
	r.n_tenants = c->count;
	page_end(c, rc, &r.base, list);
	mem_free(p.figures);
}
