/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session - sessions and their connections: opened, resumed, closed, expired, cut off.
 *
 *   opening   its record is on its way to the store: not to be found yet        session_open()
 *   open      in the hash; attached to a connection, or silent                  opened()
 *   ending    out of the hash; its requests are stopped, none is taken          session_finish()
 *   gone      the last request has ended: inodes are let go, the record says
 *             that it is ending, the store forgets its answers, the record is
 *             deleted, in this order: a crash in between must not leave a
 *             session that can be resumed and knows none of its answers         session_maybe_gone()
 *
 * A session is attached to at most one connection, and only requests of that one are admitted: this
 * is the fence. A connection that loses its session (conn->session NULL) can't get in any more.
 */
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "session/session_int.h"

/* --- finding --- */

static struct list *bucket_of(struct session_table *t, uint64_t number)
{
	return &t->hash[hash_u64(number) % SESSION_HASH];
}

struct session *session_find(struct session_table *t, uint64_t number)
{
	struct session *s;

	list_for_each (s, bucket_of(t, number), link)
		if (s->number == number)
			return s;
	return NULL;
}

uint64_t session_number(const struct session *s)
{
	return s->number;
}

uint32_t session_slots(const struct session *s)
{
	return s->slots;
}

const struct ident *session_ident(const struct session *s)
{
	return &s->ident;
}

bool session_sees(const struct session *s, uint32_t cont)
{
	if (cont == s->table->sys_cont)
		return false;
	for (uint32_t i = 0; i < s->ident.cap_count; i++) {
		const struct cap *c = s->cap[i].cap;

		if (c && !cap_good(c, loop_real_now(s->table->loop)) &&
		    (!c->info.cont || c->info.cont == cont))
			return true;
	}
	return false;
}

bool session_ident_is_admin(const struct session_table *t, const struct ident *id)
{
	for (uint32_t i = 0; i < id->cap_count; i++) {
		const struct cap *c = cap_find(t, id->cap[i]);

		if (c && !c->info.cont && id->cap_rights[i] & RIGHT_ADMIN &&
		    !cap_good(c, loop_real_now(t->loop)))
			return true;
	}
	return false;
}

bool session_is_admin(const struct session *s)
{
	return session_ident_is_admin(s->table, &s->ident);
}

/* @c: on which connection that is, or NULL. @why: a sentence, or NULL. */
static void tell(const struct session *s, const struct session_conn *c, enum audit_what what,
                 int status, const char *why)
{
	struct audit_event e = {
	        .what = what,
	        .status = status,
	        .session = s->number,
	        .who = s->ident.who,
	        .peer = c ? c->peer : NULL,
	        .tenant = s->ident.tenant,
	        .why = why,
	};

	audit_tell(s->table, &e);
}

void session_tell_expired(const struct session *s, const char *why)
{
	tell(s, NULL, AUDIT_SESSION_EXPIRE, 0, why);
}

/* --- connections --- */

void session_conn_init(struct session_conn *c, struct session_table *t,
                       void (*cut)(struct session_conn *c, int why))
{
	memset(c, 0, sizeof(*c));
	c->table = t;
	c->cut = cut;
	list_push(&t->conns, &c->link);
	t->conn_count++;
}

static void attach(struct session *s, struct session_conn *c)
{
	s->conn = c;
	s->last_ns = loop_now(s->table->loop);
	c->session = s;
}

/* The connection's requests that have not begun are over; no more come. */
static void detach(struct session *s, int status)
{
	struct session_conn *c = s->conn;

	if (!c)
		return;
	s->conn = NULL;
	c->session = NULL;
	c->last_cap = NULL;
	mem_free(c->cache);
	c->cache = NULL;
	s->last_ns = loop_now(s->table->loop);
	reqs_drop_waiting(s, c, status);
}

void session_conn_done(struct session_conn *c)
{
	struct session_table *t = c->table;

	if (!t)
		return;
	if (c->opening)
		c->opening->conn = NULL;
	if (c->session && c->session->conn == c)
		detach(c->session, -ECONNABORTED);
	mem_free(c->cache);
	list_del(&c->link);
	t->conn_count--;
	memset(c, 0, sizeof(*c));
}

void session_conn_broke(struct session_conn *c, int why)
{
	if (!c->session)
		return;
	c->table->fig.cut_off++;
	tell(c->session, c, AUDIT_SESSION_CUT, why, NULL);
}

void session_conn_refused(struct session_conn *c, int status, const char *why)
{
	struct audit_event e = {
	        .what = AUDIT_CHANNEL, .status = status, .peer = c->peer, .why = why};

	c->table->fig.refused++;
	audit_tell(c->table, &e);
}

void session_touch(struct session_conn *c)
{
	if (c->session)
		c->session->last_ns = loop_now(c->table->loop);
}

/* --- memory --- */

void session_free(struct session *s)
{
	if (!s)
		return;
	pst_assert(!s->conn && list_empty(&s->reqs));
#ifdef PST_TEST_FAULTS
	/* The planted bug NO_FENCE leaves connections that still name it. */
	struct session_conn *c;

	list_for_each (c, &s->table->conns, link)
		if (c->session == s) {
			c->session = NULL;
			c->cut(c, -ESTALE);
		}
#endif
	list_del(&s->link);
	list_del(&s->every);
	s->table->ending -= s->ending;
	sched_flow_done(&s->table->sched, &s->flow);
	if (s->tenant) {
		counts_tell(s);
		s->tenant->sessions -= !s->ending;
	}
	s->table->session_count--;
	mem_free(s->slot);
	mem_free(s->held);
	OPENSSL_cleanse(s->secret_hash, sizeof(s->secret_hash));
	mem_free(s);
}

static int session_new(struct session **ret_s, struct session_table *t, const struct ident *id,
                       uint32_t slots)
{
	struct session *s = mem_calloc(1, sizeof(*s));
	int err = -ENOMEM;

	if (!s)
		return -ENOMEM;
	s->table = t;
	s->ident = *id;
	s->ident.peer = NULL; /* it was there when it came */
	s->slots = slots;
	list_init(&s->link);
	list_push(&t->every, &s->every);
	list_init(&s->reqs);
	t->session_count++;
	s->holder = crowd_holder(id);
	s->slot = mem_calloc(slots, sizeof(*s->slot));
	if (!s->slot)
		goto fail;
	s->tenant = tenant_get(t, id->tenant, &err);
	if (!s->tenant)
		goto fail;
	s->tenant->sessions++;
	err = sched_flow_init(&s->flow, &s->tenant->flow, t->opts.session.weight);
	if (err)
		goto fail;
	bucket_set(&s->flow.bucket, t->opts.session.bytes_per_s, t->opts.session.ops_per_s);
	for (uint32_t i = 0; i < id->cap_count; i++) {
		s->cap[i].cap = cap_find(t, id->cap[i]);
		s->cap[i].rights = id->cap_rights[i];
	}
	s->last_ns = loop_now(t->loop);
	*ret_s = s;
	return 0;
fail:
	session_free(s);
	return err ? err : -ENOMEM;
}

/* --- opening --- */

static void rec_fill(struct session_rec *r, const struct session *s)
{
	*r = (struct session_rec){
	        .version = 1,
	        .slots = le32_make(s->slots),
	        .number = le64_make(s->number),
	        .tenant = le32_make(s->ident.tenant),
	        .uid = le32_make(s->ident.uid),
	        .gid = le32_make(s->ident.gid),
	        .cap_count = le32_make(s->ident.cap_count),
	};
	memcpy(r->secret_hash, s->secret_hash, sizeof(r->secret_hash));
	memcpy(r->who, s->ident.who, strlen(s->ident.who));
	for (uint32_t i = 0; i < s->ident.cap_count; i++) {
		r->cap[i].id = le32_make(s->ident.cap[i]);
		r->cap[i].rights = le32_make(s->ident.cap_rights[i]);
	}
}

int session_load(struct session_table *t, const struct session_rec *r)
{
	struct ident id = {
	        .tenant = le32_get(r->tenant),
	        .uid = le32_get(r->uid),
	        .gid = le32_get(r->gid),
	        .cap_count = le32_get(r->cap_count),
	};
	uint32_t slots = le32_get(r->slots);
	struct session *s;
	int err;

	if (r->version != 1 || !slots || slots > SESSION_SLOTS_MAX || !r->number ||
	    id.cap_count > SESSION_CAPS_MAX || !memchr(r->who, 0, sizeof(r->who)))
		return -EBADMSG;
	memcpy(id.who, r->who, sizeof(id.who));
	for (uint32_t i = 0; i < id.cap_count; i++) {
		id.cap[i] = le32_get(r->cap[i].id);
		id.cap_rights[i] = (uint16_t)le32_get(r->cap[i].rights);
	}
	err = session_new(&s, t, &id, slots);
	if (err)
		return err;
	s->number = le64_get(r->number);
	s->recorded = true;
	memcpy(s->secret_hash, r->secret_hash, sizeof(s->secret_hash));
	if (r->ending) {
		s->ending = s->finished = true; /* session_end_rest() does the rest */
		s->tenant->sessions--;
		t->ending++;
	} else {
		list_push(bucket_of(t, s->number), &s->link);
	}
	return 0;
}

/* The owner hears of it, and the connection has the session, or none. */
static void opened(struct sys_op *w, int status)
{
	struct session_open *o = w->arg;
	struct session *s = o->session;
	struct session_table *t = w->t;
	struct session_conn *c = o->conn;

	o->session = NULL;
	if (c)
		c->opening = NULL;
	if (!status && !c)
		status = -ECONNABORTED;
	tell(s, c, AUDIT_SESSION_OPEN, status, NULL);
	if (!w->op.status) {
		s->recorded = true;
		list_push(bucket_of(t, s->number), &s->link);
		t->fig.opened++;
	}
	if (status) {
		session_finish(s, 0);
	} else {
		attach(s, c);
		o->slots = s->slots;
		o->number = s->number;
		o->lease_ns = t->opts.lease_ns;
		o->expiry_ns = t->opts.expiry_ns;
	}
	o->done(o, status);
}

static int draw(struct session *s, struct session_open *o)
{
	struct session_table *t = s->table;
	int err;

	do {
		err = session_random(t, &s->number, sizeof(s->number));
	} while (!err && (!s->number || session_find(t, s->number)));
	err = err ? err : session_random(t, o->secret, sizeof(o->secret));
	if (!err && !SHA256(o->secret, sizeof(o->secret), s->secret_hash))
		err = -ENOMEM;
	return err;
}

static int open_check(struct session_table *t, const struct session_open *o)
{
	struct tenant *n = tenant_find(t, o->ident.tenant);

	if (!o->ident.cap_count || o->ident.cap_count > SESSION_CAPS_MAX ||
	    !session_conn_takes(o->conn, &o->ident))
		return -EACCES;
	if (o->slots > SESSION_SLOTS_MAX || o->conn->session || o->conn->opening)
		return -EINVAL;
	return crowd_enter(t, n);
}

static int open_begin(struct session_table *t, struct session_open *o)
{
	struct session_rec r;
	struct session *s;
	struct sys_op *w;
	int err = open_check(t, o);

	if (!err)
		err = session_new(&s, t, &o->ident, o->slots ? o->slots : t->opts.slots_default);
	if (err)
		return err;
	err = draw(s, o);
	w = err ? NULL : sys_new(t, PST_OP_BATCH, opened, o);
	if (!w) {
		session_free(s);
		return err ? err : -ENOMEM;
	}
	o->session = s;
	o->conn->opening = o;
	for (uint32_t i = 0; i < s->slots; i++)
		s->slot[i].known = true;
	rec_fill(&r, s);
	sys_put(w, 'S', s->number, 8, &r, sizeof(r));
	sys_go(w);
	return 0;
}

int session_open(struct session_open *o)
{
	struct session_table *t = o->conn->table;
	struct audit_event e = {
	        .what = AUDIT_SESSION_OPEN,
	        .status = open_begin(t, o),
	        .who = o->ident.who,
	        .peer = o->conn->peer,
	        .tenant = o->ident.tenant,
	};

	if (e.status)
		audit_tell(t, &e);
	return e.status;
}

/* --- resuming --- */

int session_resume(struct session_conn *c, uint64_t number,
                   const uint8_t secret[SESSION_SECRET_BYTES])
{
	struct session_table *t = c->table;
	struct session *s = session_find(t, number);
	struct session_conn *old;
	uint8_t hash[32];
	int err = 0;

	if (c->session)
		return -EINVAL;
	if (!s)
		err = -ESTALE;
	else if (!SHA256(secret, SESSION_SECRET_BYTES, hash) ||
	         CRYPTO_memcmp(hash, s->secret_hash, sizeof(hash)) ||
	         !session_conn_takes(c, &s->ident))
		err = -EACCES;
	if (err) {
		struct audit_event e = {.what = AUDIT_SESSION_RESUME,
		                        .status = err,
		                        .session = number,
		                        .who = s ? s->ident.who : NULL,
		                        .peer = c->peer};

		t->fig.refused++;
		audit_tell(t, &e);
		return err;
	}
	old = s->conn;
	if (old && !SESSION_PLANTED(t, SESSION_PLANT_NO_FENCE)) {
		t->fig.fenced++;
		detach(s, -ECONNABORTED);
		old->cut(old, -ESTALE);
	}
	attach(s, c);
	t->fig.resumed++;
	tell(s, c, AUDIT_SESSION_RESUME, 0, NULL);
	return 0;
}

/* --- ending --- */

static void deleted(struct sys_op *w, int status)
{
	struct session *s = w->arg;

	/* A record that stayed comes back at the next start, and expires. */
	if (status)
		log_warn("session %016llx: its record can't be deleted: %s",
		         (unsigned long long)s->number, strerror(-status));
	session_free(s);
}

static void forget_next(struct session *s);

static void forgot(struct sys_op *w, int status)
{
	struct session *s = w->arg;
	struct sys_op *del;

	if (!status) {
		s->forget_shard++;
		forget_next(s);
		return;
	}
	/* -ENXIO: that was the last shard; -ENOTSUP: a store that keeps no answers. */
	del = s->recorded ? sys_new(s->table, PST_OP_BATCH, deleted, s) : NULL;
	if (!del) {
		session_free(s);
		return;
	}
	sys_del(del, 'S', s->number, 8);
	sys_go(del);
}

/* The store forgets the session's answers, shard by shard. */
static void forget_next(struct session *s)
{
	struct sys_op *w = sys_new(s->table, PST_OP_SESSION_CLOSE, forgot, s);

	if (!w) {
		session_free(s); /* the record stays, and so the next start finds and expires it */
		return;
	}
	w->op.ino = s->number;
	w->op.off = s->forget_shard;
	sys_go(w);
}

static void marked(struct sys_op *w, int status)
{
	struct session *s = w->arg;

	if (status)
		session_free(s); /* as it was: the next start finds it, and it expires */
	else
		forget_next(s);
}

void session_maybe_gone(struct session *s)
{
	struct session_rec r;
	struct sys_op *w;

	if (!s->ending || s->finished || !list_empty(&s->reqs))
		return;
	s->finished = true;
	held_release_all(s);
	if (!s->recorded) {
		forget_next(s); /* nobody can resume it */
		return;
	}
	w = sys_new(s->table, PST_OP_BATCH, marked, s);
	if (!w) {
		session_free(s);
		return;
	}
	rec_fill(&r, s);
	r.ending = 1;
	sys_put(w, 'S', s->number, 8, &r, sizeof(r));
	sys_go(w);
}

void session_end_rest(struct session_table *t)
{
	struct session *s, *tmp;

	list_for_each_safe (s, tmp, &t->every, every)
		if (s->ending)
			forget_next(s);
}

void session_finish(struct session *s, int why)
{
	struct session_conn *c = s->conn;

	if (s->ending)
		return;
	s->ending = true;
	s->finished = true; /* not before all of this is done */
	list_del(&s->link);
	s->table->ending++;
	s->tenant->sessions--;
	detach(s, -ECONNABORTED);
	reqs_drop_waiting(s, NULL, -ECONNABORTED);
	reqs_stop(s, -ESTALE);
	if (c && why) {
		s->table->fig.cut_off++;
		tell(s, c, AUDIT_SESSION_CUT, why, NULL);
		c->cut(c, why);
	}
	s->finished = false;
	session_maybe_gone(s);
}

int session_close(struct session_conn *c)
{
	struct session *s = c->session;

	if (!s)
		return -ESTALE;
	tell(s, c, AUDIT_SESSION_CLOSE, 0, NULL);
	s->table->fig.closed++;
	session_finish(s, 0);
	return 0;
}

/* One that has not been revoked; it may have expired, and be renewed. */
static bool any_cap(const struct session *s)
{
	for (uint32_t i = 0; i < s->ident.cap_count; i++)
		if (s->cap[i].cap && !s->cap[i].cap->revoked)
			return true;
	return false;
}

void session_sweep(struct session_table *t)
{
	uint64_t now = loop_now(t->loop);

	for (unsigned i = 0; i < SESSION_HASH; i++) {
		struct session *s, *tmp;

		list_for_each_safe (s, tmp, &t->hash[i], link) {
			uint64_t idle = now - s->last_ns;

			if (s->conn || !list_empty(&s->reqs))
				continue;
			if (idle >= t->opts.expiry_ns) {
				t->fig.expired++;
				session_tell_expired(s, NULL);
				session_finish(s, 0);
			} else if (!any_cap(s)) {
				t->fig.expired++;
				session_tell_expired(s, "what it came by was revoked");
				session_finish(s, 0);
			} else if (idle >= t->opts.lease_ns) {
				held_release_all(s);
			}
		}
	}
}

/* --- listing --- */

static int by_number(const void *a, const void *b)
{
	uint64_t x = (*(struct session *const *)a)->number,
	         y = (*(struct session *const *)b)->number;

	return x < y ? -1 : x > y;
}

static void figures(const struct session *s, struct session_figures *f)
{
	*f = (struct session_figures){
	        .number = s->number,
	        .who = s->ident.who,
	        .tenant = s->tenant->id,
	        .connected = s->conn != NULL,
	        .running = s->running,
	        .queued = s->queued,
	        .opens = s->held_count,
	        .ops = s->count.ops,
	        .bytes_in = s->count.bytes_in,
	        .bytes_out = s->count.bytes_out,
	        .errors = s->count.errors,
	        .refused = s->refused,
	        .idle_ns = loop_now(s->table->loop) - s->last_ns,
	};
}

int session_list(struct session_table *t, uint64_t after,
                 bool (*fn)(void *arg, const struct session_figures *f), void *arg)
{
	struct session **all = mem_calloc(t->session_count + 1, sizeof(struct session *));
	struct session_figures f;
	uint32_t n = 0;

	if (!all)
		return -ENOMEM;
	for (unsigned i = 0; i < SESSION_HASH; i++) {
		struct session *s;

		list_for_each (s, &t->hash[i], link)
			if (s->number > after)
				all[n++] = s;
	}
	if (n)
		qsort(all, n, sizeof(all[0]), by_number);
	for (uint32_t i = 0; i < n; i++) {
		figures(all[i], &f);
		if (!fn(arg, &f))
			break;
	}
	mem_free(all);
	return 0;
}
