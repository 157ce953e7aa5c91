/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * table - the session table itself: opening and closing it, its timers and poller, tenants, figures,
 * and what is told to the audit.
 */
#include "session/session_int.h"

/* --- audit --- */

static void audit_flush(struct session_table *t, struct audit_budget *b)
{
	struct audit_event e = {
	        .what = AUDIT_SUPPRESSED, .status = -EACCES, .count = b->suppressed};

	b->count = 0;
	if (!b->suppressed)
		return;
	b->suppressed = 0;
	audit_tell(t, &e);
}

/* What can be refused as often as somebody likes must not fill the disk. Strangers have a budget of their
 * own: they don't hide what those do who have a session. NULL: there is no limit. */
static struct audit_budget *budget_of(struct session_table *t, const struct audit_event *e)
{
	switch (e->status ? e->what : AUDIT_SUPPRESSED) {
	case AUDIT_CHANNEL:
	case AUDIT_AUTH:
	case AUDIT_CONTROL:
	case AUDIT_SESSION_OPEN:
	case AUDIT_SESSION_RESUME:
		return &t->audit_strangers;
	case AUDIT_REQUEST:
	case AUDIT_SESSION_CUT:
		return &t->audit_known;
	default:
		return NULL;
	}
}

/* So many a second, then their number. */
static bool audit_may(struct session_table *t, const struct audit_event *e)
{
	uint64_t second = loop_real_now(t->loop) / NSEC_PER_SEC;
	struct audit_budget *b = budget_of(t, e);

	if (!b)
		return true;
	if (second != b->second) {
		audit_flush(t, b);
		b->second = second;
	}
	if (++b->count <= AUDIT_PER_S)
		return true;
	b->suppressed++;
	return false;
}

void audit_tell(struct session_table *t, struct audit_event *e)
{
	if (!t->opts.audit || !audit_may(t, e))
		return;
	e->time_ns = loop_real_now(t->loop);
	t->opts.audit(t->opts.audit_arg, e);
}

void audit_request(struct session_conn *c, const struct session_req *r, int status)
{
	struct session_table *t = c->table;
	struct session *s = c->session;
	struct audit_event e = {
	        .what = AUDIT_REQUEST,
	        .status = status,
	        .session = s->number,
	        .who = s->ident.who,
	        .peer = c->peer,
	        .tenant = s->tenant->id,
	        .opcode = r->op.opcode,
	        .cont = r->op.cont,
	        .ino = r->op.ino,
	        .dir = r->op.dir,
	        .name = r->op.name,
	        .name_len = r->op.name ? r->op.name_len : 0,
	        .name2 = r->op.name2,
	        .name2_len = r->op.name2 ? r->op.name2_len : 0,
	        .cap = r->cap ? r->cap->info.id : 0,
	};

	audit_tell(t, &e);
}

/* --- tenants --- */

void qos_fill(struct qos *q, const struct qos *defaults)
{
	q->weight = q->weight ? q->weight : defaults->weight;
	q->depth_max = q->depth_max ? q->depth_max : defaults->depth_max;
	q->bytes_max = q->bytes_max ? q->bytes_max : defaults->bytes_max;
	q->bytes_per_s = q->bytes_per_s ? q->bytes_per_s : defaults->bytes_per_s;
	q->ops_per_s = q->ops_per_s ? q->ops_per_s : defaults->ops_per_s;
	q->sessions_max = q->sessions_max ? q->sessions_max : defaults->sessions_max;
}

/* Where @id is among the tenants, or belongs. */
static uint32_t tenant_place(const struct session_table *t, uint32_t id)
{
	uint32_t lo = 0, hi = t->tenant_count;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (t->tenant[mid]->id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct tenant *tenant_find(struct session_table *t, uint32_t id)
{
	uint32_t i = tenant_place(t, id);

	return i < t->tenant_count && t->tenant[i]->id == id ? t->tenant[i] : NULL;
}

struct tenant *tenant_get(struct session_table *t, uint32_t id, int *ret_err)
{
	struct tenant *n = tenant_find(t, id);
	uint32_t at = tenant_place(t, id);

	if (n)
		return n;
	*ret_err = t->tenant_count == TENANTS_MAX ? -EAGAIN : -ENOMEM;
	n = t->tenant_count < TENANTS_MAX ? mem_calloc(1, sizeof(*n)) : NULL;
	if (!n)
		return NULL;
	n->id = id;
	qos_fill(&n->qos, &t->opts.tenant);
	if (sched_flow_init(&n->flow, &t->sched.root, n->qos.weight)) {
		mem_free(n);
		return NULL;
	}
	bucket_set(&n->flow.bucket, n->qos.bytes_per_s, n->qos.ops_per_s);
	memmove(&t->tenant[at + 1], &t->tenant[at],
	        (t->tenant_count - at) * sizeof(struct tenant *));
	t->tenant[at] = n;
	t->tenant_count++;
	return n;
}

static void tenant_apply(struct session_table *t, struct tenant *n, const struct qos *q,
                         const char *name)
{
	n->qos = *q;
	qos_fill(&n->qos, &t->opts.tenant);
	memcpy(n->name, name, sizeof(n->name));
	sched_flow_weight(&n->flow, n->qos.weight);
	bucket_set(&n->flow.bucket, n->qos.bytes_per_s, n->qos.ops_per_s);
	table_wake(t); /* what a rate held may go */
}

static bool text_ok(const char name[SESSION_TEXT_MAX])
{
	return memchr(name, 0, SESSION_TEXT_MAX);
}

int tenant_load(struct session_table *t, const struct tenant_rec *r)
{
	struct qos q = {
	        .weight = le32_get(r->weight),
	        .depth_max = le32_get(r->depth_max),
	        .bytes_max = le64_get(r->bytes_max),
	        .bytes_per_s = le64_get(r->bytes_per_s),
	        .ops_per_s = le64_get(r->ops_per_s),
	        .sessions_max = le32_get(r->sessions_max),
	};
	struct tenant *n;
	int err = 0;

	if (r->version != 1 || !text_ok(r->name))
		return -EBADMSG;
	n = tenant_get(t, le32_get(r->id), &err);
	if (!n)
		return err;
	tenant_apply(t, n, &q, r->name);
	return 0;
}

static void tenant_tell(const struct tenant_op *o, int status)
{
	struct audit_event e = {.what = AUDIT_TENANT,
	                        .status = status,
	                        .tenant = o->id,
	                        .who = o->by,
	                        .peer = o->by_peer,
	                        .name = o->name,
	                        .name_len = (uint32_t)strnlen(o->name, sizeof(o->name)),
	                        .limits = &o->qos};

	audit_tell(o->table, &e);
}

static void tenant_saved(struct sys_op *w, int status)
{
	struct tenant_op *o = w->arg;

	if (!status)
		tenant_apply(o->table, o->tenant, &o->qos, o->name);
	tenant_tell(o, status);
	o->done(o, status);
}

static int tenant_begin(struct session_table *t, struct tenant_op *o)
{
	struct tenant_rec r = {
	        .version = 1,
	        .id = le32_make(o->id),
	        .weight = le32_make(o->qos.weight),
	        .depth_max = le32_make(o->qos.depth_max),
	        .bytes_max = le64_make(o->qos.bytes_max),
	        .bytes_per_s = le64_make(o->qos.bytes_per_s),
	        .ops_per_s = le64_make(o->qos.ops_per_s),
	        .sessions_max = le32_make(o->qos.sessions_max),
	};
	struct sys_op *w;
	int err = 0;

	if (!text_ok(o->name) || !text_plain(o->name, strlen(o->name)) || o->id > TENANT_ID_MAX ||
	    o->qos.weight > TENANT_WEIGHT_MAX)
		return -EINVAL;
	o->tenant = tenant_get(t, o->id, &err);
	if (!o->tenant)
		return err;
	w = sys_new(t, PST_OP_BATCH, tenant_saved, o);
	if (!w)
		return -ENOMEM;
	memcpy(r.name, o->name, strlen(o->name));
	sys_put(w, 'T', o->id, 4, &r, sizeof(r));
	sys_go(w);
	return 0;
}

int tenant_set(struct session_table *t, struct tenant_op *o)
{
	int err;

	o->table = t;
	err = tenant_begin(t, o);
	if (err)
		tenant_tell(o, err);
	return err;
}

/* Requests count for their session alone; whoever asks about tenants has them added up. */
void counts_tell(struct session *s)
{
	struct counts *c = &s->count, *told = &s->told, *n = &s->tenant->count;

	n->ops += c->ops - told->ops;
	n->errors += c->errors - told->errors;
	n->bytes_in += c->bytes_in - told->bytes_in;
	n->bytes_out += c->bytes_out - told->bytes_out;
	*told = *c;
}

static void tenant_figures(const struct tenant *n, struct tenant_figures *f)
{
	*f = (struct tenant_figures){
	        .id = n->id,
	        .qos = n->qos,
	        .sessions = n->sessions,
	        .running = n->running,
	        .queued = n->queued,
	        .running_bytes = n->running_bytes,
	        .ops = n->count.ops,
	        .bytes_in = n->count.bytes_in,
	        .bytes_out = n->count.bytes_out,
	        .errors = n->count.errors,
	        .refused = n->refused,
	        .queue_ns = n->queue_ns,
	        .queue_max_ns = n->queue_max_ns,
	        .throttled = n->throttled,
	};
	memcpy(f->name, n->name, sizeof(f->name));
}

void tenant_list(struct session_table *t, uint32_t after,
                 bool (*fn)(void *arg, const struct tenant_figures *f), void *arg)
{
	struct tenant_figures f;
	struct session *s;

	list_for_each (s, &t->every, every)
		counts_tell(s);
	for (uint32_t i = after == UINT32_MAX ? 0 : tenant_place(t, after); i < t->tenant_count;
	     i++) {
		if (t->tenant[i]->id == after)
			continue;
		tenant_figures(t->tenant[i], &f);
		if (!fn(arg, &f))
			return;
	}
}

/* --- figures --- */

void session_table_figures(const struct session_table *t, struct table_figures *ret_f)
{
	const struct session *s;

	*ret_f = t->fig;
	for (uint32_t i = 0; i < t->tenant_count; i++) {
		ret_f->ops += t->tenant[i]->count.ops;
		ret_f->errors += t->tenant[i]->count.errors;
	}
	list_for_each (s, &t->every, every) {
		ret_f->ops += s->count.ops - s->told.ops;
		ret_f->errors += s->count.errors - s->told.errors;
	}
	ret_f->sessions = t->session_count - t->ending;
	ret_f->conns = t->conn_count;
	ret_f->caps = t->cap_count;
	ret_f->running = t->running;
	ret_f->queued = (uint32_t)t->sched.queued;
	ret_f->running_bytes = t->running_bytes;
}

struct store *session_table_store(const struct session_table *t)
{
	return t->store;
}

void session_table_identity(const struct session_table *t, uint8_t ret_uuid[16],
                            uint64_t *ret_epoch)
{
	memcpy(ret_uuid, t->uuid, 16);
	*ret_epoch = t->epoch;
}

/* --- poller and timers --- */

void table_wake(struct session_table *t)
{
	t->pump = true;
}

static int table_poll(struct loop_poller *p)
{
	struct session_table *t = container_of(p, struct session_table, poller);
	int did;

	if (likely(!t->pump && list_empty(&t->busy) && list_empty(&t->sys_busy) &&
	           list_empty(&t->sys_ended)))
		return 0;
	t->pump = false;
	did = sys_poll(t);
	if (unlikely(!list_empty(&t->revoking)))
		cap_poll(t);
	did += watch_poll(t);
	return did + run_poll(t);
}

static bool table_may_sleep(struct loop_poller *p)
{
	const struct session_table *t = container_of(p, struct session_table, poller);

	/* Nothing tells when a store that was busy no longer is. */
	return !t->pump && list_empty(&t->sys_busy) && list_empty(&t->sys_ended) &&
	       list_empty(&t->busy);
}

static void sweep_arm(struct session_table *t)
{
	uint64_t every = MIN(t->opts.lease_ns, t->opts.expiry_ns) / 4;

	(void)loop_timer_arm(t->loop, &t->sweep, loop_now(t->loop) + MAX(every, NSEC_PER_MSEC));
}

static void sweep_fired(struct loop_timer *timer)
{
	struct session_table *t = container_of(timer, struct session_table, sweep);

	audit_flush(t, &t->audit_strangers);
	audit_flush(t, &t->audit_known);
	session_sweep(t);
	sweep_arm(t);
}

/* --- life --- */

static void opts_fill(struct session_opts *o, const struct session_opts *from)
{
	const struct qos session = {.weight = 1, .depth_max = 1024, .bytes_max = 256 * MIB};
	const struct qos tenant = {
	        .weight = 1, .depth_max = 4096, .bytes_max = GIB, .sessions_max = UINT32_MAX};

	*o = from ? *from : (struct session_opts){.owner_uid = UINT32_MAX};
	o->sessions_max = o->sessions_max ? o->sessions_max : 4096;
	o->caps_max = o->caps_max ? o->caps_max : 65536;
	o->slots_default = o->slots_default ? o->slots_default : 64;
	o->lease_ns = o->lease_ns ? o->lease_ns : SESSION_LEASE_NS;
	o->expiry_ns = o->expiry_ns ? o->expiry_ns : SESSION_EXPIRY_NS;
	o->handle_ns = o->handle_ns ? o->handle_ns : 3600 * NSEC_PER_SEC;
	o->refusals_max = o->refusals_max ? o->refusals_max : 64;
	o->opens_max = o->opens_max ? o->opens_max : 16384;
	o->running_max = o->running_max ? o->running_max : 512;
	o->running_bytes = o->running_bytes ? o->running_bytes : 256 * MIB;
	qos_fill(&o->session, &session);
	qos_fill(&o->tenant, &tenant);
}

static void table_free(struct session_table *t)
{
	struct session *s, *tmp;

	list_for_each_safe (s, tmp, &t->every, every)
		session_free(s);
	cap_free_all(t);
	for (uint32_t i = 0; i < t->tenant_count; i++) {
		sched_flow_done(&t->sched, &t->tenant[i]->flow);
		mem_free(t->tenant[i]);
	}
	mem_free(t->tenant);
	sched_done(&t->sched);
	hkey_done(&t->key[0]);
	hkey_done(&t->key[1]);
	if (t->watches.place)
		watch_done(t);
	EVP_MAC_CTX_free(t->scratch);
	EVP_MAC_free(t->hmac);
	mem_free(t);
}

static struct session_table *table_alloc(struct store *store, const struct session_opts *opts)
{
	struct session_table *t = mem_calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->store = store;
	t->loop = store->loop;
	opts_fill(&t->opts, opts);
	rng_seed(&t->rng, t->opts.sim_seed);
	t->next_cap = OWNER_CAP + 1;
	for (unsigned i = 0; i < SESSION_HASH; i++)
		list_init(&t->hash[i]);
	list_init(&t->conns);
	list_init(&t->every);
	list_init(&t->revoking);
	list_init(&t->busy);
	list_init(&t->sys_busy);
	list_init(&t->sys_ended);
	sched_init(&t->sched);
	t->poller.poll = table_poll;
	t->poller.may_sleep = table_may_sleep;
	t->sweep.fired = sweep_fired;
	t->rate.fired = run_rate_fired;
	t->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	t->scratch = t->hmac ? EVP_MAC_CTX_new(t->hmac) : NULL;
	t->tenant = mem_calloc(TENANTS_MAX, sizeof(struct tenant *));
	if (!watch_init(t) && t->scratch && t->tenant)
		return t;
	table_free(t);
	return NULL;
}

int session_table_open(struct session_table **ret_t, struct store *store,
                       const struct session_opts *opts, struct pst_err *err)
{
	const uint64_t needed = PST_CAP_OBJECTS | PST_CAP_BATCH;
	struct session_table *t;
	int rc = 0;

	if ((store->caps & needed) != needed)
		return err_set(err, -ENOTSUP, "sessions need a store with objects and batches");
	t = table_alloc(store, opts);
	if (!t)
		return err_set(err, -ENOMEM, "no memory for the session table");
	if (!tenant_get(t, 0, &rc) || (rc = cap_add_owner(t)) != 0)
		err_set(err, rc, "no memory for the session table");
	else
		rc = sys_load(t, err);
	if (!rc)
		rc = opening_begin(t, err);
	if (rc) {
		table_free(t);
		return rc;
	}
	watch_begin(t);
	loop_poller_add(t->loop, &t->poller);
	sweep_arm(t);
	session_end_rest(t);
	*ret_t = t;
	return 0;
}

void session_table_close(struct session_table *t)
{
	if (!t)
		return;
	pst_assert(!t->conn_count && !t->running && !t->sched.queued);
	t->closing_down = true;
	while (t->sys_count || t->ending) {
		int n = loop_turn(t->loop, NSEC_PER_SEC);

		pst_assert(n >= 0); /* the store's ops end: there is no way back */
	}
	loop_poller_del(t->loop, &t->poller);
	loop_timer_disarm(t->loop, &t->sweep);
	loop_timer_disarm(t->loop, &t->rate);
	table_free(t);
}
