/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * admit - may this request be? Everything that a message says is a wish: here it is held against what
 * the session's capabilities allow, and replaced by what they say.
 *
 *   by a handle      the object and the rights are the handle's; it names either a container (or a
 *                    capability's part of it) or one object of it
 *   without          one of the session's capabilities that covers the container
 *
 * A capability with a prefix confines names to its directory: op->root tells the names layer, whose
 * paths then don't lead out of it. Files are named by number only with a handle, and objects, too.
 */
#include "session/session_int.h"

enum {
	MUT = 1,     /* it mutates, or opens: a token is judged */
	NAMED = 2,   /* names the container by name or id */
	STORE = 4,   /* of the store itself: any capability will do */
	OBJ = 8,     /* on objects */
	NAMES = 16,  /* on names and inodes */
	WHOLE = 32,  /* not with a prefix */
	ALL = 64,    /* of all containers */
	OWNER = 128, /* sets owners */
};

#define ANY_RIGHT RIGHTS_ALL

struct rule {
	uint16_t all, any; /* rights that it takes; 0: none */
	uint16_t is;
};

static const struct rule rules[] = {
        [PST_OP_CONT_CREATE] = {RIGHT_ADMIN, 0, MUT | NAMED | ALL},
        [PST_OP_CONT_OPEN] = {0, ANY_RIGHT, NAMED},
        [PST_OP_CONT_LIST] = {0, ANY_RIGHT, STORE},
        [PST_OP_CONT_GET] = {0, ANY_RIGHT, NAMED},
        [PST_OP_CONT_SET] = {RIGHT_ADMIN, 0, MUT | NAMED | WHOLE},
        [PST_OP_CONT_DESTROY] = {RIGHT_ADMIN, 0, MUT | NAMED | ALL},
        [PST_OP_SNAP_CREATE] = {RIGHT_SNAPSHOT, 0, MUT | NAMED | WHOLE},
        [PST_OP_SNAP_OPEN] = {0, ANY_RIGHT, NAMED},
        [PST_OP_SNAP_LIST] = {0, ANY_RIGHT, NAMED | WHOLE},
        [PST_OP_SNAP_DESTROY] = {RIGHT_SNAPSHOT, 0, MUT | NAMED | WHOLE},
        [PST_OP_READ] = {RIGHT_READ, 0, OBJ},
        [PST_OP_WRITE] = {RIGHT_WRITE, 0, MUT | OBJ},
        [PST_OP_BATCH] = {0, 0, MUT | OBJ},
        [PST_OP_STAT] = {0, RIGHT_READ | RIGHT_WRITE | RIGHT_APPEND | RIGHT_LIST, OBJ},
        [PST_OP_OBJ_LIST] = {RIGHT_LIST, 0, OBJ},
        [PST_OP_KV_GET] = {RIGHT_READ, 0, OBJ},
        [PST_OP_KV_LIST] = {RIGHT_READ, 0, OBJ},
        [PST_OP_FLUSH] = {0, ANY_RIGHT, STORE},
        [PST_OP_EXTENTS] = {RIGHT_READ, 0, OBJ},
        [PST_OP_LOOKUP] = {0, ANY_RIGHT, NAMES},
        [PST_OP_CREATE] = {RIGHT_CREATE, 0, MUT | NAMES | OWNER},
        [PST_OP_MKDIR] = {RIGHT_CREATE, 0, MUT | NAMES | OWNER},
        [PST_OP_SYMLINK] = {RIGHT_CREATE, 0, MUT | NAMES | OWNER},
        [PST_OP_LINK] = {RIGHT_CREATE, 0, MUT | NAMES},
        [PST_OP_UNLINK] = {RIGHT_REMOVE, 0, MUT | NAMES},
        [PST_OP_RMDIR] = {RIGHT_REMOVE, 0, MUT | NAMES},
        [PST_OP_RENAME] = {RIGHT_CREATE | RIGHT_REMOVE, 0, MUT | NAMES},
        [PST_OP_READDIR] = {RIGHT_LIST, 0, NAMES},
        [PST_OP_READLINK] = {0, RIGHT_READ | RIGHT_LIST, NAMES},
        [PST_OP_GETATTR] = {0, ANY_RIGHT, NAMES},
        [PST_OP_SETATTR] = {0, 0, MUT | NAMES | OWNER},
        [PST_OP_GETXATTR] = {RIGHT_READ, 0, NAMES},
        [PST_OP_SETXATTR] = {RIGHT_SETATTR, 0, MUT | NAMES},
        [PST_OP_LISTXATTR] = {RIGHT_READ, 0, NAMES},
        [PST_OP_REMOVEXATTR] = {RIGHT_SETATTR, 0, MUT | NAMES},
        [PST_OP_FILE_OPEN] = {0, RIGHT_READ | RIGHT_WRITE | RIGHT_APPEND, MUT | NAMES},
        [PST_OP_FILE_CLOSE] = {0, ANY_RIGHT, MUT | NAMES},
        [PST_OP_FILE_READ] = {RIGHT_READ, 0, NAMES},
        [PST_OP_FILE_WRITE] = {RIGHT_WRITE, 0, MUT | NAMES},
        [PST_OP_FSYNC] = {0, ANY_RIGHT, NAMES},
        [PST_OP_STATFS] = {0, ANY_RIGHT, NAMES},
        [PST_OP_STATUS] = {0, ANY_RIGHT, STORE},
        [PST_OP_SCRUB] = {RIGHT_ADMIN, 0, STORE | ALL},
        [PST_OP_FIGURES] = {RIGHT_ADMIN, 0, STORE | ALL},
        [PST_OP_WATCH] = {0, RIGHT_READ | RIGHT_LIST, OBJ},
};

/* --- what it takes --- */

static uint32_t batch_rights(const struct pst_op *op, uint32_t *any)
{
	uint32_t all = 0;

	for (uint32_t i = 0; i < op->mut_count; i++) {
		const struct pst_mut *m = &op->muts[i];

		if (m->kind == PST_ARRAY_APPEND)
			*any |= RIGHT_WRITE | RIGHT_APPEND;
		else if (m->kind == PST_OBJ_DELETE)
			all |= RIGHT_REMOVE;
		else
			all |= RIGHT_WRITE; /* conditions too: they tell what is there */
		if (m->oid.hi == FS_OID_HI && m->kind >= PST_KV_PUT)
			all |= RIGHT_ADMIN; /* the names layer's own */
	}
	if (!op->mut_count)
		*any |= ANY_RIGHT; /* "was this done?" */
	return all;
}

static bool allowed(const struct session_req *r, const struct rule *rule, uint32_t rights)
{
	const struct pst_op *op = &r->op;
	uint32_t all = rule->all, any = rule->any;

	switch (op->opcode) {
	case PST_OP_WRITE:
	case PST_OP_FILE_WRITE:
		if (op->flags & PST_F_APPEND) {
			all = 0;
			any = RIGHT_WRITE | RIGHT_APPEND;
		}
		if (op->opcode == PST_OP_WRITE && op->oid.hi == FS_OID_HI)
			all |= RIGHT_ADMIN;
		break;
	case PST_OP_BATCH:
		all = batch_rights(op, &any);
		break;
	case PST_OP_CREATE:
		if (op->flags & PST_F_TRUNCATE)
			all |= RIGHT_WRITE;
		break;
	case PST_OP_LINK:
		if (op->flags & PST_F_REPLACE)
			all |= RIGHT_REMOVE;
		break;
	case PST_OP_SETATTR:
		if (op->attr_mask & PST_ATTR_SIZE)
			all |= RIGHT_WRITE;
		if (op->attr_mask & ~PST_ATTR_SIZE || !op->attr_mask)
			all |= RIGHT_SETATTR;
		break;
	}
	return (rights & all) == all && (!any || rights & any);
}

/* --- by which capability --- */

struct grant {
	struct cap *cap;
	uint32_t rights, cont;
	struct pst_oid oid;
	bool object; /* one object only */
};

static int cap_ok(const struct session_table *t, const struct cap *c)
{
	if (SESSION_PLANTED(t, SESSION_PLANT_SERVE_REVOKED))
		return 0;
	return cap_good(c, c->info.expiry_ns ? loop_real_now(t->loop) : 0);
}

static int grant_by_handle(struct session_conn *c, const struct session_req *r, struct grant *g)
{
	bool renews = r->op.opcode == PST_OP_GETATTR || r->op.opcode == PST_OP_FILE_OPEN;
	const struct cached *e;
	int err = handle_lookup(c, r->handle, r->op.view, renews ? RENEW_GRACE_S : 0, &e);

	if (unlikely(err))
		return err;
	g->cap = (struct cap *)(uintptr_t)e->cap;
	g->rights = e->rights;
	g->cont = e->cont;
	g->oid = e->oid;
	g->object = e->oid.hi || e->oid.lo;
	return cap_ok(c->table, e->cap);
}

static bool covers(const struct cap *c, const struct session_req *r, const struct rule *rule)
{
	const struct pst_op *op = &r->op;

	if (!c->info.cont || (rule->is & STORE && !op->cont))
		return !(rule->is & ALL) || !c->info.cont;
	if (rule->is & ALL)
		return false;
	if (rule->is & NAMED && op->name_len)
		return op->name && strlen(c->info.cont_name) == op->name_len &&
		       !memcmp(c->info.cont_name, op->name, op->name_len);
	return c->info.cont == op->cont;
}

/* The first that covers it and allows it; else what is said of the best one. */
static int grant_search(struct session *s, const struct session_req *r, const struct rule *rule,
                        struct grant *g)
{
	int why = -EACCES;

	for (uint32_t i = 0; i < s->ident.cap_count; i++) {
		struct cap *c = s->cap[i].cap;
		int err;

		if (!c) {
			why = why == -EACCES ? -EKEYREVOKED : why;
			continue;
		}
		if (!covers(c, r, rule))
			continue;
		err = cap_ok(s->table, c);
		if (err) {
			why = err;
			continue;
		}
		if (!allowed(r, rule, s->cap[i].rights))
			continue;
		g->cap = c;
		g->rights = s->cap[i].rights;
		g->cont = c->info.cont ? c->info.cont : r->op.cont;
		return 0;
	}
	return why;
}

static int grant_by_session(struct session_conn *c, const struct session_req *r,
                            const struct rule *rule, struct grant *g)
{
	int err;

	g->object = false;
	g->oid = (struct pst_oid){0};
	if (likely(c->last_cap && c->last_cont == r->op.cont && rule->is & (OBJ | NAMES) &&
	           allowed(r, rule, c->last_rights) && !cap_ok(c->table, c->last_cap))) {
		g->cap = (struct cap *)(uintptr_t)c->last_cap;
		g->rights = c->last_rights;
		g->cont = c->last_cont;
		return 0;
	}
	err = grant_search(c->session, r, rule, g);
	if (!err && rule->is & (OBJ | NAMES)) {
		c->last_cap = g->cap;
		c->last_cont = g->cont;
		c->last_rights = g->rights;
	}
	return err;
}

/* --- what it may name --- */

static bool same_oid(struct pst_oid a, struct pst_oid b)
{
	return a.hi == b.hi && a.lo == b.lo;
}

static int check_object(const struct session_req *r, const struct grant *g)
{
	const struct pst_op *op = &r->op;

	/* A file's changes are told with its container's, which is more than a directory. */
	if (op->opcode == PST_OP_WATCH && g->cap->info.root_ino)
		return -EACCES;
	if (!g->object)
		return g->cap->info.root_ino && op->opcode != PST_OP_FLUSH && !r->probe ? -EACCES
		                                                                        : 0;
	if (op->opcode == PST_OP_BATCH) {
		for (uint32_t i = 0; i < op->mut_count; i++)
			if (!same_oid(op->muts[i].oid, g->oid))
				return -EACCES;
		return 0;
	}
	return op->opcode != PST_OP_OBJ_LIST && same_oid(op->oid, g->oid) ? 0 : -EACCES;
}

/* A handle of a directory is also a root of its own: what it leads to lies below it. */
static int check_inode_handle(struct session_req *r, const struct grant *g)
{
	struct pst_op *op = &r->op;
	uint64_t ino = g->oid.lo;

	if (g->oid.hi != FS_OID_HI)
		return -EACCES;
	if (op->ino) {
		op->root = g->cap->info.root_ino;
		return op->ino == ino ? 0 : -EACCES;
	}
	if (op->dir && op->dir != ino)
		return -EACCES;
	if (!op->name_len && fs_ino_kind(ino) != FS_KIND_DIR)
		op->ino = ino;
	op->dir = ino;
	op->root = fs_ino_kind(ino) == FS_KIND_DIR ? ino : g->cap->info.root_ino;
	return op->name_len && fs_ino_kind(ino) != FS_KIND_DIR ? -ENOTDIR : 0;
}

/* What isn't a directory has no way up that could be checked. */
static bool no_way_up(uint64_t ino)
{
	return ino && fs_ino_kind(ino) != FS_KIND_DIR;
}

static int check_names(struct session_req *r, const struct grant *g)
{
	struct pst_op *op = &r->op;
	uint64_t root = g->cap->info.root_ino;

	if (g->object)
		return check_inode_handle(r, g);
	op->root = root;
	if (likely(!root || (!no_way_up(op->ino) && !no_way_up(op->dir) && !no_way_up(op->dir2))))
		return 0;
	return op->opcode == PST_OP_FILE_CLOSE ? 0 : -EACCES;
}

/* Names stand in lists and logs, whoever made them: over the wire it may be no library of ours. */
static bool has_control(const char *name, size_t len)
{
	for (size_t i = 0; name && i < len; i++)
		if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
			return true;
	return false;
}

static int check_container(const struct session *s, struct session_req *r, const struct rule *rule,
                           const struct grant *g)
{
	struct pst_op *op = &r->op;

	if (rule->is & NAMED && (g->cap->info.cont || r->handle))
		op->name_len =
		        0; /* the one that was granted, not another one that has its name now */
	if (rule->is & NAMED && op->name_len && op->name && op->name[0] == ':')
		return op->opcode == PST_OP_CONT_CREATE ? -EINVAL : -ENOENT;
	if ((op->opcode == PST_OP_CONT_CREATE && has_control(op->name, op->name_len)) ||
	    (op->opcode == PST_OP_SNAP_CREATE && has_control(op->name2, op->name2_len)))
		return -EINVAL;
	if (rule->is & WHOLE && g->cap->info.root_ino)
		return -EACCES;
	return op->cont == s->table->sys_cont ? -ENOENT : 0;
}

/* --- as whom --- */

static bool in_ranges(const struct cap_info *i, uint32_t id)
{
	for (unsigned k = 0; k < i->range_count; k++)
		if (id >= i->range[k].first && id <= i->range[k].last)
			return true;
	return false;
}

static int map_id(const struct cap_info *i, uint32_t squash, uint32_t own, bool makes, uint32_t bit,
                  uint32_t *mask, uint32_t *id)
{
	if (!makes && !(*mask & bit))
		return 0;
	if (i->map == CAP_MAP_SQUASH) {
		*id = squash;
		*mask |= bit;
	} else if (*mask & bit) {
		return in_ranges(i, *id) ? 0 : -EPERM;
	} else {
		*id = in_ranges(i, own) ? own : i->range[0].first;
		*mask |= bit;
	}
	return 0;
}

static int check_ids(const struct session *s, struct session_req *r, const struct cap *c)
{
	const struct cap_info *i = &c->info;
	struct pst_op *op = &r->op;
	bool makes = op->opcode != PST_OP_SETATTR;
	int err;

	if (i->map == CAP_MAP_ANY)
		return 0;
	err = map_id(i, i->uid, s->ident.uid, makes, PST_ATTR_UID, &op->attr_mask, &op->attr.uid);
	return err ? err
	           : map_id(i, i->gid, s->ident.gid, makes, PST_ATTR_GID, &op->attr_mask,
	                    &op->attr.gid);
}

/* --- all of it --- */

static const struct rule *rule_of(const struct pst_op *op)
{
	static const struct rule extents = {RIGHT_READ, 0, NAMES};

	if (unlikely(op->opcode == PST_OP_EXTENTS && (op->ino || op->name_len)))
		return &extents;
	return likely(op->opcode < ARRAY_LEN(rules) && rules[op->opcode].is) ? &rules[op->opcode]
	                                                                     : NULL;
}

static int authorize(struct session_conn *c, struct session_req *r)
{
	struct session *s = c->session;
	const struct rule *rule = rule_of(&r->op);
	struct grant g;
	int err;

	if (unlikely(!rule))
		return -EINVAL;
	r->mutates = rule->is & MUT;
	r->probe = r->op.opcode == PST_OP_BATCH && !r->op.mut_count;
	if (r->handle && !(rule->is & ALL)) {
		err = grant_by_handle(c, r, &g);
		if (!err && !allowed(r, rule, g.rights))
			err = -EACCES;
	} else {
		err = grant_by_session(c, r, rule, &g);
	}
	if (unlikely(err))
		return err;
	r->cap = g.cap;
	r->rights = g.rights;
	r->op.cont = g.cont;
	r->op.tenant = g.cap->info.tenant;
	r->op.root = 0;
	if (likely(rule->is & OBJ))
		err = check_object(r, &g);
	else if (rule->is & NAMES)
		err = check_names(r, &g);
	if (likely(!err))
		err = check_container(s, r, rule, &g);
	if (!err && unlikely(rule->is & OWNER))
		err = check_ids(s, r, g.cap);
	return err;
}

/*
 * authorize() for a read of an object by the capability that the last request came by. What is kept of
 * that is which one it was; whether it is still good, and what it allows, is looked at each time.
 */
static bool known(struct session_conn *c, struct session_req *r)
{
	struct cap *cap = (struct cap *)(uintptr_t)c->last_cap;
	struct pst_op *op = &r->op;

	if (op->opcode != PST_OP_READ || r->handle || !cap || c->last_cont != op->cont ||
	    !(c->last_rights & RIGHT_READ) || cap->info.root_ino ||
	    op->cont == c->table->sys_cont || cap_ok(c->table, cap))
		return false;
	r->cap = cap;
	r->rights = c->last_rights;
	op->tenant = cap->info.tenant;
	op->root = 0;
	return true;
}

/* What it holds in memory, at most. */
static uint64_t bytes_of(const struct pst_op *op)
{
	uint64_t n = op->len;

	if (op->opcode == PST_OP_BATCH)
		for (uint32_t i = 0; i < op->mut_count; i++)
			n += op->muts[i].val_len + op->muts[i].len;
	return n + op->val_cap;
}

static inline __attribute__((always_inline)) int check_limits(struct session *s,
                                                              struct session_req *r)
{
	const struct qos *q = &s->table->opts.session;
	const struct tenant *n = s->tenant;

	r->bytes = bytes_of(&r->op);
	if (unlikely(s->running + s->queued >= q->depth_max ||
	             n->running + n->queued >= n->qos.depth_max))
		return -EAGAIN;
	/* One alone is always taken, so that nothing is too large for ever. */
	if (unlikely((s->running_bytes + r->bytes > q->bytes_max && s->running_bytes) ||
	             (n->running_bytes + r->bytes > n->qos.bytes_max && n->running_bytes)))
		return -EAGAIN;
	return 0;
}

static bool makes_hold(const struct pst_op *op)
{
	return (op->opcode == PST_OP_FILE_OPEN && !op->view) ||
	       (op->opcode == PST_OP_CREATE && !op->name_len);
}

static int check_opens(struct session *s, struct session_req *r)
{
	const struct pst_op *op = &r->op;

	if (op->opcode == PST_OP_FILE_CLOSE && !op->view) {
		r->closes = held_find(s, op->cont, op->ino);
		r->answered = !r->closes;
	}
	r->holds = makes_hold(op);
	return r->holds ? held_reserve(s) : 0;
}

static int refuse(struct session_conn *c, struct session_req *r, int err)
{
	struct session *s = c->session;

	s->refused++;
	s->tenant->refused++;
	c->table->fig.refused++;
	audit_request(c, r, err);
	r->cap = NULL;
	if (err == -EPROTO || (err == -EBADF && ++s->refusals >= c->table->opts.refusals_max)) {
		session_finish(s, err);
		return -ECONNABORTED;
	}
	return err;
}

static inline __attribute__((always_inline)) void enter(struct session *s, struct session_conn *c,
                                                        struct session_req *r)
{
	r->session = s;
	r->conn = c;
	list_push(&s->reqs, &r->link);
	r->cap->reqs++;
	s->running_bytes += r->bytes;
	s->tenant->running_bytes += r->bytes;
}

static bool list_filter(struct pst_op *op, const struct pst_entry *e)
{
	struct session_req *r = container_of(op, struct session_req, op);
	struct pst_entry shown = *e;
	struct pst_cont_info info;

	if (!session_sees(r->session, (uint32_t)e->id))
		return true;
	if (e->cont) {
		info = *e->cont;
		narrow_entry(r->session, &info);
		shown.cont = &info;
	}
	return r->entry(op, &shown);
}

/* Out of line: what it needs would be saved and restored by every read. */
static __attribute__((noinline)) int admit_any(struct session *s, struct session_conn *c,
                                               struct session_req *r)
{
	int err = authorize(c, r);

	if (likely(!err))
		err = check_limits(s, r);
	if (likely(!err) && unlikely(r->op.opcode >= PST_OP_CREATE))
		err = check_opens(s, r);
	if (r->mutates && !err && r->op.token.session) {
		err = slot_judge(s, r);
		r->slotted = !err || err == -EINPROGRESS;
	} else if (!r->mutates) {
		r->op.token.session = 0;
	}
	if (unlikely(err && err != -EINPROGRESS)) {
		if (r->mutates && r->op.token.session && err != -EPROTO)
			slot_skip(s, &r->op.token);
		return refuse(c, r, err);
	}
	pst_assert(r->cap);
	enter(s, c, r);
	/* What is being closed is not held from now on: two closes at a time are not two, since the
	 * store would count the second one against somebody else. Its place is kept. */
	if (unlikely(r->closes))
		held_del(s, r->op.cont, r->op.ino);
	if (unlikely(r->holds || r->closes))
		s->opens_coming++;
	if (unlikely(r->op.opcode == PST_OP_CONT_LIST)) {
		r->entry = r->op.entry;
		r->op.entry = list_filter;
	}
	if (unlikely(r->op.opcode < PST_OP_READ || r->op.opcode >= PST_OP_STATFS))
		r->narrow = narrow_wants(s, r);
	return run_enter(s, r, err == -EINPROGRESS);
}

int session_admit(struct session_conn *c, struct session_req *r)
{
	struct session *s = c->session;
	int err;

	pst_assert(r->state == REQ_NONE);
	if (unlikely(!s))
		return -ECONNABORTED;
	s->last_ns = loop_now(c->table->loop);
	r->mutates = r->submitted = r->stopped = r->probe = r->answered = r->slotted = false;
	r->holds = r->closes = r->watching = r->narrow = false;
	r->cap = NULL;
	if (unlikely(!known(c, r)))
		return admit_any(s, c, r);
	r->op.token.session = 0; /* it changes nothing */
	err = check_limits(s, r);
	if (unlikely(err))
		return refuse(c, r, err);
	enter(s, c, r);
	return run_enter(s, r, false);
}

void session_skip(struct session_conn *c, const struct pst_token *token)
{
	if (c->session && token->session)
		slot_skip(c->session, token);
}

/* --- the end --- */

void req_held(struct session_req *r, int status)
{
	struct session *s = r->session;
	const struct pst_op *op = &r->op;

	if (!r->holds && !r->closes)
		return;
	s->opens_coming--; /* its place is there for what follows */
	if (r->closes && status && status != -EBADF && !held_find(s, op->cont, op->ino))
		held_add(s, op->cont, op->ino);
	if (!r->holds || status)
		return;
	/* A repeated CREATE was answered, and counted once. */
	if (held_find(s, op->cont, op->ino)) {
		if (op->opcode == PST_OP_FILE_OPEN)
			held_let_go(s->table, op->cont, op->ino);
		return;
	}
	held_add(s, op->cont, op->ino);
}

static void count(struct session *s, const struct session_req *r, int status)
{
	const struct pst_op *op = &r->op;

	s->count.ops++;
	if (unlikely(status))
		s->count.errors++;
	else if (op->opcode == PST_OP_READ || op->opcode == PST_OP_FILE_READ)
		s->count.bytes_out += op->ret_len;
	else if (op->opcode == PST_OP_WRITE || op->opcode == PST_OP_FILE_WRITE ||
	         op->opcode == PST_OP_CREATE)
		s->count.bytes_in += op->len;
	else if (op->opcode == PST_OP_BATCH)
		s->count.bytes_in += r->bytes;
}

/* What a read has nothing to do with. Out of line, as its admission. */
static __attribute__((noinline)) void settle(struct session *s, struct session_req *r)
{
	if (r->op.opcode == PST_OP_CONT_LIST)
		r->op.entry = r->entry;
	req_held(r, r->submitted ? r->op.status : -ECANCELED);
	if (r->mutates && r->submitted && !r->op.status && !r->answered && !r->probe)
		watch_changed(s->table, &r->op);
}

int session_end(struct session_req *r)
{
	bool reads = r->op.opcode == PST_OP_READ; /* no slot, and nothing for settle() */
	struct session *s = r->session;
	int status = r->stopped ? r->stop_status : r->op.status;

	pst_assert(r->state == REQ_RUNNING);
	count(s, r, status);
	if (!reads)
		settle(s, r);
	req_leave(r);
	if (likely(reads || !r->watching))
		run_leave(s, r);
	if (!reads && r->slotted)
		slot_end(s, r, r->submitted ? r->op.status : -ECANCELED);
	if (unlikely(s->ending))
		session_maybe_gone(s);
	return status;
}

/* --- handles for answers --- */

int session_handle(struct session_req *r, uint8_t ret_handle[SESSION_HANDLE_BYTES])
{
	const struct pst_op *op = &r->op;
	struct session *s = r->session;

	pst_assert(r->state == REQ_RUNNING);
	if (r->stopped || op->status)
		return -ENOENT;
	switch (op->opcode) {
	case PST_OP_CONT_OPEN:
	case PST_OP_CONT_CREATE:
	case PST_OP_SNAP_OPEN:
		if (op->cont == s->table->sys_cont)
			return -ENOENT;
		return handle_seal(s, r->cap, r->rights, op->cont, (struct pst_oid){0}, 0,
		                   ret_handle);
	case PST_OP_LOOKUP:
	case PST_OP_GETATTR:
	case PST_OP_CREATE:
	case PST_OP_MKDIR:
	case PST_OP_SYMLINK:
	case PST_OP_LINK:
	case PST_OP_FILE_OPEN:
		return handle_seal(s, r->cap, r->rights, op->cont, fs_oid(op->ino), op->view,
		                   ret_handle);
	}
	return -ENOENT;
}

int session_handle_entry(struct session_req *r, uint64_t ino,
                         uint8_t ret_handle[SESSION_HANDLE_BYTES])
{
	pst_assert(r->state == REQ_RUNNING);
	return handle_seal(r->session, r->cap, r->rights, r->op.cont, fs_oid(ino), r->op.view,
	                   ret_handle);
}

bool session_wants_handles(const struct session_req *r)
{
	return r->state == REQ_RUNNING && r->cap->info.root_ino;
}
