/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cap - capabilities: granted, renewed, revoked, listed.
 *
 * A prefix is a directory, not a name: it is looked up once, when the capability is granted, and its
 * inode number kept. Renamed, it takes the grant with it; removed, the grant is for nothing, and
 * another directory of that name is not covered (inode numbers are never used again).
 *
 * A revoked capability stays in the table until it is deleted in the store and its last request has
 * ended; then nothing refers to it any more (cap_drop).
 */
#include <inttypes.h>
#include <openssl/crypto.h>
#include <sys/stat.h>

#include "session/session_int.h"

/* --- the table of them, in order of ids --- */

static uint32_t cap_place(const struct session_table *t, uint64_t id)
{
	uint32_t lo = 0, hi = t->cap_count;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (t->cap[mid]->info.id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct cap *cap_find(const struct session_table *t, uint64_t id)
{
	uint32_t i = cap_place(t, id);

	return i < t->cap_count && t->cap[i]->info.id == id ? t->cap[i] : NULL;
}

/* Room for one more, beside those whose records are on their way. */
static int cap_reserve(struct session_table *t)
{
	uint32_t room = t->cap_room ? 2 * t->cap_room : 16;
	struct cap **more;

	if (t->cap_count + t->caps_coming < t->cap_room)
		return 0;
	more = mem_realloc(t->cap, room * sizeof(struct cap *));
	if (!more)
		return -ENOMEM;
	t->cap = more;
	t->cap_room = room;
	return 0;
}

static int cap_insert(struct session_table *t, struct cap *c)
{
	uint32_t at = cap_place(t, c->info.id);
	int err = cap_reserve(t);

	if (err)
		return err;
	memmove(&t->cap[at + 1], &t->cap[at], (t->cap_count - at) * sizeof(struct cap *));
	t->cap[at] = c;
	t->cap_count++;
	return 0;
}

static struct cap *cap_new(const struct cap_info *info)
{
	struct cap *c = mem_calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->info = *info;
	bucket_set(&c->bucket, info->bytes_per_s, info->ops_per_s);
	return c;
}

static void cap_free(struct cap *c)
{
	mem_free_secret(c, sizeof(*c));
}

/* Nothing refers to it any more. */
static void cap_drop(struct session_table *t, struct cap *c)
{
	uint32_t at = cap_place(t, c->info.id);
	struct session *s;

	handle_caches_drop(t, c);
	list_for_each (s, &t->every, every)
		for (uint32_t k = 0; k < s->ident.cap_count; k++)
			if (s->cap[k].cap == c)
				s->cap[k].cap = NULL;
	t->cap_count--;
	memmove(&t->cap[at], &t->cap[at + 1], (t->cap_count - at) * sizeof(struct cap *));
	cap_free(c);
}

void cap_free_all(struct session_table *t)
{
	for (uint32_t i = 0; i < t->cap_count; i++)
		cap_free(t->cap[i]);
	mem_free(t->cap);
}

int cap_add_owner(struct session_table *t)
{
	const struct cap_info info = {
	        .id = OWNER_CAP, .epoch = 1, .rights = RIGHTS_ALL, .subject = "owner"};
	struct cap *c = cap_new(&info);
	int err = c ? cap_insert(t, c) : -ENOMEM;

	if (err)
		cap_free(c);
	return err;
}

/* --- records --- */

static void rec_fill(struct cap_rec *r, const struct cap *c)
{
	const struct cap_info *i = &c->info;

	*r = (struct cap_rec){
	        .version = 1,
	        .map = i->map,
	        .range_count = i->range_count,
	        .epoch = le32_make(i->epoch),
	        .id = le64_make(i->id),
	        .tenant = le32_make(i->tenant),
	        .cont = le32_make(i->cont),
	        .rights = le32_make(i->rights),
	        .uid = le32_make(i->uid),
	        .gid = le32_make(i->gid),
	        .root_ino = le64_make(i->root_ino),
	        .expiry_ns = le64_make(i->expiry_ns),
	        .ctime_ns = le64_make(i->ctime_ns),
	        .bytes_per_s = le64_make(i->bytes_per_s),
	        .ops_per_s = le64_make(i->ops_per_s),
	};
	memcpy(r->key, c->key, sizeof(r->key));
	memcpy(r->subject, i->subject, strlen(i->subject));
	memcpy(r->prefix, i->prefix, strlen(i->prefix));
	memcpy(r->cont_name, i->cont_name, strlen(i->cont_name));
	for (unsigned k = 0; k < i->range_count; k++) {
		r->range[k].first = le32_make(i->range[k].first);
		r->range[k].last = le32_make(i->range[k].last);
	}
}

static bool terminated(const char *s, size_t cap)
{
	return memchr(s, 0, cap) != NULL;
}

/* A number as the kernel's are told, and nothing else: it is compared as text. */
static bool is_id(const char *text)
{
	char again[16];

	(void)snprintf(again, sizeof(again), "%" PRIu32, (uint32_t)strtoul(text, NULL, 10));
	return !strcmp(again, text);
}

bool cap_subject_ok(const char *s)
{
	if (!strncmp(s, "uid:", 4) || !strncmp(s, "gid:", 4))
		return is_id(s + 4);
	return !*s || !strcmp(s, "anyone") || (!strncmp(s, "cert:", 5) && s[5]);
}

/* What holds of a grant as asked for and as loaded. */
static bool info_ok(const struct cap_info *i)
{
	if (!terminated(i->subject, sizeof(i->subject)) ||
	    !terminated(i->prefix, sizeof(i->prefix)) ||
	    !terminated(i->cont_name, sizeof(i->cont_name)))
		return false;
	if (!i->rights || i->rights & ~RIGHTS_ALL || i->map > CAP_MAP_RANGES ||
	    i->range_count > CAP_RANGES_MAX)
		return false;
	if ((i->map == CAP_MAP_RANGES) != (i->range_count > 0))
		return false;
	for (unsigned k = 0; k < i->range_count; k++)
		if (i->range[k].first > i->range[k].last)
			return false;
	return true;
}

int cap_load(struct session_table *t, const struct cap_rec *r)
{
	struct cap_info i = {
	        .id = le64_get(r->id),
	        .epoch = le32_get(r->epoch),
	        .tenant = le32_get(r->tenant),
	        .cont = le32_get(r->cont),
	        .rights = le32_get(r->rights),
	        .root_ino = le64_get(r->root_ino),
	        .expiry_ns = le64_get(r->expiry_ns),
	        .ctime_ns = le64_get(r->ctime_ns),
	        .uid = le32_get(r->uid),
	        .gid = le32_get(r->gid),
	        .map = r->map,
	        .range_count = MIN(r->range_count, CAP_RANGES_MAX),
	        .bytes_per_s = le64_get(r->bytes_per_s),
	        .ops_per_s = le64_get(r->ops_per_s),
	};
	struct cap *c;
	int err;

	memcpy(i.subject, r->subject, sizeof(i.subject));
	memcpy(i.prefix, r->prefix, sizeof(i.prefix));
	memcpy(i.cont_name, r->cont_name, sizeof(i.cont_name));
	for (unsigned k = 0; k < i.range_count; k++) {
		i.range[k].first = le32_get(r->range[k].first);
		i.range[k].last = le32_get(r->range[k].last);
	}
	if (r->version != 1 || r->range_count > CAP_RANGES_MAX || !info_ok(&i) ||
	    i.id <= OWNER_CAP || i.id >= t->next_cap)
		return -EBADMSG;
	c = cap_new(&i);
	if (!c)
		return -ENOMEM;
	memcpy(c->key, r->key, sizeof(c->key));
	err = cap_insert(t, c);
	if (err)
		cap_free(c);
	return err;
}

/* --- granting: the container, then the prefix, then the record --- */

/* All of the capability: as it is where there is one, and else as it was asked for. */
static void tell(struct cap_op *o, enum audit_what what, int status)
{
	bool exists = (what == AUDIT_RENEW || what == AUDIT_REVOKE) && o->cap;
	struct cap_info i = exists ? o->cap->info : o->info;
	struct audit_event e = {
	        .what = what,
	        .status = status,
	        .cap = i.id,
	        .cont = i.cont,
	        .tenant = i.tenant,
	        .who = o->by,
	        .peer = o->by_peer,
	        .grant =
	                what == AUDIT_KEY_ROTATE || (what == AUDIT_REVOKE && !i.rights) ? NULL : &i,
	};

	if (what == AUDIT_RENEW && status)
		i.expiry_ns = o->info.expiry_ns; /* that it was not given */
	audit_tell(o->table, &e);
}

static void grant_end(struct cap_op *o, int status)
{
	tell(o, AUDIT_GRANT, status);
	o->done(o, status);
}

static void granted(struct sys_op *w, int status)
{
	struct cap_op *o = w->arg;
	struct session_table *t = w->t;
	struct cap *c = o->cap;

	t->caps_coming--;
	o->cap = NULL;
	if (status) {
		cap_free(c);
	} else {
		status = cap_insert(t, c);
		pst_assert(!status); /* room was reserved */
		status = cap_token(t, c->info.id, c->info.rights, o->token);
	}
	grant_end(o, status);
}

static int grant_write(struct cap_op *o)
{
	struct session_table *t = o->table;
	struct cap *c = cap_new(&o->info);
	int err = c ? cap_reserve(t) : -ENOMEM;
	struct sys_op *w = NULL;
	struct cap_rec r;
	le64 next;

	if (!err && t->next_cap >= UINT32_MAX)
		err = -EOVERFLOW;
	if (!err)
		err = session_random(t, c->key, sizeof(c->key));
	if (!err) {
		w = sys_new(t, PST_OP_BATCH, granted, o);
		err = w ? 0 : -ENOMEM;
	}
	if (err) {
		cap_free(c);
		return err;
	}
	c->info.id = o->info.id = t->next_cap++;
	c->info.epoch = o->info.epoch = 1;
	c->info.ctime_ns = o->info.ctime_ns = loop_real_now(t->loop);
	o->cap = c;
	t->caps_coming++;
	next = le64_make(t->next_cap);
	rec_fill(&r, c);
	sys_put(w, 'n', 0, 0, &next, sizeof(next));
	sys_put(w, 'C', c->info.id, 8, &r, sizeof(r));
	OPENSSL_cleanse(&r, sizeof(r));
	sys_go(w);
	return 0;
}

static void prefix_found(struct sys_op *w, int status)
{
	struct cap_op *o = w->arg;

	if (!status && !S_ISDIR(w->op.attr.mode))
		status = -ENOTDIR;
	if (status) {
		grant_end(o, status);
		return;
	}
	o->info.root_ino = w->op.ino == PST_INO_ROOT ? 0 : w->op.ino;
	status = grant_write(o);
	if (status)
		grant_end(o, status);
}

static int prefix_find(struct cap_op *o)
{
	struct sys_op *w = sys_new(o->table, PST_OP_LOOKUP, prefix_found, o);

	if (!w)
		return -ENOMEM;
	w->op.cont = o->info.cont;
	w->op.name = o->info.prefix;
	w->op.name_len = (uint32_t)strlen(o->info.prefix);
	sys_go(w);
	return 0;
}

static void cont_found(struct sys_op *w, int status)
{
	struct cap_op *o = w->arg;
	struct pst_cont_info *info = &o->cont_info;

	if (!status && info->id == o->table->sys_cont)
		status = -ENOENT;
	if (!status && o->info.prefix[0] && info->layout != PST_LAYOUT_POSIX)
		status = -EINVAL;
	if (status) {
		grant_end(o, status);
		return;
	}
	o->info.cont = info->id;
	(void)text_show(o->info.cont_name, sizeof(o->info.cont_name), info->name,
	                strlen(info->name));
	status = o->info.prefix[0] ? prefix_find(o) : grant_write(o);
	if (status)
		grant_end(o, status);
}

static int grant_check(struct session_table *t, const struct cap_op *o)
{
	const struct cap_info *i = &o->info;
	bool all;

	if (!info_ok(i) || (i->expiry_ns && i->expiry_ns <= loop_real_now(t->loop)))
		return -EINVAL;
	if (!cap_subject_ok(i->subject) || i->tenant > TENANT_ID_MAX)
		return -EINVAL;
	if (!text_plain(i->subject, strlen(i->subject)) ||
	    !text_plain(i->prefix, strlen(i->prefix)))
		return -EINVAL;
	all = !i->cont && !i->cont_name[0];
	if (all && i->prefix[0])
		return -EINVAL;
	if (i->prefix[0] && !(t->store->caps & PST_CAP_NAMES))
		return -ENOTSUP;
	return t->cap_count >= t->opts.caps_max ? -EAGAIN : 0;
}

static int grant_begin(struct session_table *t, struct cap_op *o)
{
	int err = grant_check(t, o);
	struct sys_op *w;

	if (err)
		return err;
	o->info.root_ino = 0;
	if (!o->info.cont && !o->info.cont_name[0])
		return grant_write(o);
	w = sys_new(t, PST_OP_CONT_GET, cont_found, o);
	if (!w)
		return -ENOMEM;
	w->op.cont_info = &o->cont_info;
	if (o->info.cont_name[0]) {
		w->op.name = o->info.cont_name;
		w->op.name_len = (uint32_t)strlen(o->info.cont_name);
	} else {
		w->op.cont = o->info.cont;
	}
	sys_go(w);
	return 0;
}

int cap_grant(struct session_table *t, struct cap_op *o)
{
	int err;

	o->table = t;
	err = grant_begin(t, o);
	if (err)
		tell(o, AUDIT_GRANT, err);
	return err;
}

/* --- renewing --- */

static void renewed(struct sys_op *w, int status)
{
	struct cap_op *o = w->arg;
	struct cap *c = o->cap;

	c->busy = false;
	if (!status) {
		c->info.expiry_ns = o->info.expiry_ns;
		watch_recheck(w->t);
		o->info = c->info;
		status = cap_token(w->t, c->info.id, c->info.rights, o->token);
	}
	tell(o, AUDIT_RENEW, status);
	o->done(o, status);
}

static int change_check(struct session_table *t, struct cap_op *o)
{
	struct cap *c = cap_find(t, o->info.id);

	o->table = t;
	o->cap = c;
	if (!c || c->revoked)
		return -ENOENT;
	if (c->info.id == OWNER_CAP)
		return -EPERM;
	return c->busy ? -EBUSY : 0;
}

int cap_renew(struct session_table *t, struct cap_op *o)
{
	int err = change_check(t, o);
	struct sys_op *w = NULL;
	struct cap_rec r;

	if (!err && o->info.expiry_ns && o->info.expiry_ns <= loop_real_now(t->loop))
		err = -EINVAL;
	if (!err)
		w = sys_new(t, PST_OP_BATCH, renewed, o);
	if (!w) {
		err = err ? err : -ENOMEM;
		tell(o, AUDIT_RENEW, err);
		return err;
	}
	rec_fill(&r, o->cap);
	r.expiry_ns = le64_make(o->info.expiry_ns);
	o->cap->busy = true;
	sys_put(w, 'C', o->cap->info.id, 8, &r, sizeof(r));
	OPENSSL_cleanse(&r, sizeof(r));
	sys_go(w);
	return 0;
}

/* --- revoking --- */

static void revoke_end(struct cap *c)
{
	struct cap_op *o = c->revoker;

	if (!o || !c->deleted || c->reqs)
		return;
	c->revoker = NULL;
	list_del(&o->link);
	o->info = c->info;
	o->cap = NULL;
	tell(o, AUDIT_REVOKE, o->status);
	if (!o->status && !SESSION_PLANTED(o->table, SESSION_PLANT_SERVE_REVOKED))
		cap_drop(o->table, c);
	o->done(o, o->status);
}

/* From the poller: the end of a request is no place to drop its capability. */
void cap_poll(struct session_table *t)
{
	struct cap_op *o, *tmp;

	list_for_each_safe (o, tmp, &t->revoking, link)
		revoke_end(o->cap);
}

static void revoked(struct sys_op *w, int status)
{
	struct cap_op *o = w->arg;

	o->status = status;
	o->cap->deleted = true; /* or it stays, revoked in memory */
	list_push(&w->t->revoking, &o->link);
	table_wake(w->t);
}

int cap_revoke(struct session_table *t, struct cap_op *o)
{
	int err = change_check(t, o);
	struct sys_op *w = err ? NULL : sys_new(t, PST_OP_BATCH, revoked, o);

	if (!w) {
		err = err ? err : -ENOMEM;
		tell(o, AUDIT_REVOKE, err);
		return err;
	}
	o->cap->revoked = true;
	o->cap->revoker = o;
	if (!SESSION_PLANTED(t, SESSION_PLANT_SERVE_REVOKED))
		reqs_stop_cap(t, o->cap, -EKEYREVOKED);
	sys_del(w, 'C', o->cap->info.id, 8);
	sys_go(w);
	return 0;
}

/* --- looking --- */

int cap_get(struct session_table *t, uint64_t id, struct cap_info *ret_info)
{
	const struct cap *c = cap_find(t, id);

	if (!c || c->revoked)
		return -ENOENT;
	*ret_info = c->info;
	return 0;
}

void cap_list(struct session_table *t, uint64_t after,
              bool (*fn)(void *arg, const struct cap_info *info), void *arg)
{
	for (uint32_t i = cap_place(t, after + 1); i < t->cap_count; i++)
		if (!t->cap[i]->revoked && !fn(arg, &t->cap[i]->info))
			return;
}

/* --- handle keys --- */

static void rotated(struct sys_op *w, int status)
{
	struct cap_op *o = w->arg;
	struct session_table *t = w->t;
	struct hkey fresh = {0};

	if (!status)
		status = hkey_set(t, &fresh, (uint16_t)(t->key[0].number + 1), w->val[0]);
	if (!status) {
		hkey_done(&t->key[1]);
		t->key[1] = t->key[0];
		t->key[0] = fresh;
		handle_caches_drop(t, NULL);
	}
	OPENSSL_cleanse(&fresh, sizeof(fresh));
	tell(o, AUDIT_KEY_ROTATE, status);
	o->done(o, status);
}

int session_key_rotate(struct session_table *t, struct cap_op *o)
{
	struct key_rec r = {.ctime_ns = le64_make(loop_real_now(t->loop))};
	struct sys_op *w = NULL;
	int err = -EOVERFLOW;

	o->table = t;
	if (t->key[0].number < UINT16_MAX)
		err = session_random(t, r.key, sizeof(r.key));
	if (!err)
		w = sys_new(t, PST_OP_BATCH, rotated, o);
	if (!w) {
		OPENSSL_cleanse(&r, sizeof(r));
		err = err ? err : -ENOMEM;
		tell(o, AUDIT_KEY_ROTATE, err);
		return err;
	}
	sys_put(w, 'K', t->key[0].number + 1u, 2, &r, sizeof(r));
	OPENSSL_cleanse(&r, sizeof(r));
	if (t->key[1].mac)
		sys_del(w, 'K', t->key[1].number, 2);
	sys_go(w);
	return 0;
}
