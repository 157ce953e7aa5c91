/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sys - the table's own ops on its store: what it keeps in its container, and loading that. The
 * formats are in session_int.h. What is loaded is checked: it went through a device, and the engine's
 * checksums say nothing about what an older program wrote.
 *
 * A sys_op ends from the poller, never from inside the call that began it.
 */
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "session/session_int.h"

static const struct pst_oid sys_oid = {.hi = SYS_OID_HI, .lo = 1};

/* --- ops --- */

static void sys_done(struct pst_op *op)
{
	struct sys_op *o = container_of(op, struct sys_op, op);

	list_push(&o->t->sys_ended, &o->link);
	table_wake(o->t);
}

struct sys_op *sys_new(struct session_table *t, enum pst_opcode opcode,
                       void (*done)(struct sys_op *o, int status), void *arg)
{
	struct sys_op *o = mem_calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->t = t;
	o->done = done;
	o->arg = arg;
	o->op.opcode = (uint8_t)opcode;
	o->op.done = sys_done;
	list_init(&o->link);
	if (opcode == PST_OP_BATCH) {
		o->op.cont = t->sys_cont;
		o->op.muts = o->mut;
	}
	t->sys_count++;
	return o;
}

/* The key of @kind and @number (its low @number_len bytes, big-endian) into @key. */
static uint32_t key_make(uint8_t key[9], uint8_t kind, uint64_t number, unsigned number_len)
{
	key[0] = kind;
	for (unsigned i = 0; i < number_len; i++)
		key[1 + i] = (uint8_t)(number >> (8 * (number_len - 1 - i)));
	return 1 + number_len;
}

static struct pst_mut *sys_mut(struct sys_op *o, uint8_t mut_kind, uint8_t kind, uint64_t number,
                               unsigned number_len)
{
	unsigned i = o->op.mut_count++;

	pst_assert(i < SYS_MUTS);
	o->mut[i].kind = mut_kind;
	o->mut[i].oid = sys_oid;
	o->mut[i].key = o->key[i];
	o->mut[i].key_len = key_make(o->key[i], kind, number, number_len);
	return &o->mut[i];
}

void sys_put(struct sys_op *o, uint8_t kind, uint64_t number, unsigned number_len, const void *val,
             uint32_t val_len)
{
	unsigned i = o->op.mut_count;
	struct pst_mut *m = sys_mut(o, PST_KV_PUT, kind, number, number_len);

	pst_assert(val_len <= SYS_VAL_MAX);
	memcpy(o->val[i], val, val_len);
	m->val = o->val[i];
	m->val_len = val_len;
}

void sys_del(struct sys_op *o, uint8_t kind, uint64_t number, unsigned number_len)
{
	sys_mut(o, PST_KV_DEL, kind, number, number_len);
}

void sys_go(struct sys_op *o)
{
	switch (store_submit(o->t->store, &o->op)) {
	case PST_DONE:
		sys_done(&o->op);
		break;
	case PST_QUEUED:
		break;
	case PST_BUSY:
		list_push(&o->t->sys_busy, &o->link);
		table_wake(o->t);
		break;
	}
}

int sys_poll(struct session_table *t)
{
	struct list again, *n;
	int did = 0;

	list_init(&again);
	list_splice(&again, &t->sys_busy);
	while ((n = list_pop(&again)) != NULL)
		sys_go(list_entry(n, struct sys_op, link));
	list_splice(&again, &t->sys_ended);
	while ((n = list_pop(&again)) != NULL) {
		struct sys_op *o = list_entry(n, struct sys_op, link);

		did++;
		o->done(o, o->op.status);
		t->sys_count--;
		mem_free_secret(o, sizeof(*o)); /* records have keys in them */
	}
	return did;
}

int session_random(struct session_table *t, void *buf, size_t len)
{
	uint8_t *b = buf;

	if (loop_is_sim(t->loop)) {
		for (size_t i = 0; i < len; i++)
			b[i] = (uint8_t)rng_next(&t->rng);
		return 0;
	}
	return RAND_bytes(buf, (int)len) == 1 ? 0 : -EIO;
}

/* --- loading --- */

struct loader {
	struct session_table *t;
	int status;
	uint8_t last[9]; /* key */
	uint32_t last_len;
	bool more;
	unsigned count;
};

#define LOAD_AT_ONCE 256

static uint64_t key_number(const struct pst_entry *e)
{
	const uint8_t *k = e->name;
	uint64_t n = 0;

	for (uint32_t i = 1; i < e->name_len; i++)
		n = n << 8 | k[i];
	return n;
}

static int load_key(struct session_table *t, const struct pst_entry *e)
{
	const struct key_rec *r = e->val;
	uint64_t number = key_number(e);

	if (e->name_len != 3 || e->val_len != sizeof(*r) || !number)
		return -EBADMSG;
	/* They come in order: the last two stay. */
	hkey_done(&t->key[1]);
	t->key[1] = t->key[0];
	t->key[0] = (struct hkey){0};
	return hkey_set(t, &t->key[0], (uint16_t)number, r->key);
}

/* Is it a record of @len bytes, by a number of @number_len? */
static bool fits(const struct pst_entry *e, unsigned number_len, size_t len)
{
	return e->name_len == 1 + number_len && e->val_len == len;
}

static int load_one(struct session_table *t, const struct pst_entry *e)
{
	const struct cap_rec *c = e->val;
	const struct session_rec *s = e->val;
	const struct tenant_rec *n = e->val;
	const uint8_t *kind = e->name;
	uint64_t number = key_number(e);
	le64 next;

	switch (*kind) {
	case 'K':
		return load_key(t, e);
	case 'C':
		return fits(e, 8, sizeof(*c)) && le64_get(c->id) == number ? cap_load(t, c)
		                                                           : -EBADMSG;
	case 'S':
		return fits(e, 8, sizeof(*s)) && le64_get(s->number) == number ? session_load(t, s)
		                                                               : -EBADMSG;
	case 'T':
		return fits(e, 4, sizeof(*n)) && le32_get(n->id) == number ? tenant_load(t, n)
		                                                           : -EBADMSG;
	case 'O':
		return fits(e, 8, sizeof(struct opening_rec)) ? opening_load(t, number, e->val)
		                                              : -EBADMSG;
	case 'n':
		if (!fits(e, 0, sizeof(next)))
			return -EBADMSG;
		memcpy(&next, e->val, sizeof(next));
		t->next_cap = le64_get(next);
		return t->next_cap > OWNER_CAP && t->next_cap <= UINT32_MAX ? 0 : -EBADMSG;
	}
	return -EBADMSG;
}

/* A value may lie anywhere: it is copied to where its fields are aligned. */
static bool load_entry(struct pst_op *op, const struct pst_entry *e)
{
	struct loader *ld = (struct loader *)op->user;
	_Alignas(8) uint8_t val[SYS_VAL_MAX];
	struct pst_entry copy = *e;

	if (!e->name_len || e->name_len > sizeof(ld->last) || e->val_len > sizeof(val)) {
		ld->status = -EBADMSG;
		return false;
	}
	memcpy(val, e->val, e->val_len);
	copy.val = val;
	ld->status = load_one(ld->t, &copy);
	OPENSSL_cleanse(val, e->val_len);
	memcpy(ld->last, e->name, e->name_len);
	ld->last_len = e->name_len;
	ld->more = ++ld->count == LOAD_AT_ONCE;
	return !ld->status && !ld->more;
}

/* store_run() uses op->user itself: the list runs by hand. */
struct load_op {
	struct pst_op op;
	bool ended;
};

static void load_done(struct pst_op *op)
{
	container_of(op, struct load_op, op)->ended = true;
}

static int load_run(struct session_table *t, struct load_op *o)
{
	enum pst_outcome out;

	o->op.done = load_done;
	while ((out = store_submit(t->store, &o->op)) == PST_BUSY)
		(void)loop_turn(t->loop, NSEC_PER_MSEC);
	while (out == PST_QUEUED && !o->ended)
		(void)loop_turn(t->loop, NSEC_PER_SEC);
	return o->op.status;
}

/* All keys of one kind, in order. */
static int load_kind(struct session_table *t, uint8_t kind)
{
	struct loader ld = {.t = t};
	int rc = 0;

	do {
		struct load_op o = {.op = {.opcode = PST_OP_KV_LIST,
		                           .cont = t->sys_cont,
		                           .oid = sys_oid,
		                           .key = &kind,
		                           .key_len = 1,
		                           .start = ld.last_len ? ld.last : NULL,
		                           .start_len = ld.last_len,
		                           .want_values = true,
		                           .entry = load_entry,
		                           .user = &ld}};

		ld.more = false;
		ld.count = 0;
		rc = load_run(t, &o);
	} while (!rc && !ld.status && ld.more);
	return rc ? rc : ld.status;
}

static int find_container(struct session_table *t)
{
	struct pst_cont_info info = {.layout = PST_LAYOUT_OBJECT};
	struct pst_op op = {.opcode = PST_OP_CONT_OPEN,
	                    .name = SYS_CONT_NAME,
	                    .name_len = sizeof(SYS_CONT_NAME) - 1,
	                    .cont_info = &info};
	int rc = store_run(t->store, &op);

	if (rc == -ENOENT) {
		op = (struct pst_op){.opcode = PST_OP_CONT_CREATE,
		                     .name = SYS_CONT_NAME,
		                     .name_len = sizeof(SYS_CONT_NAME) - 1,
		                     .cont_info = &info};
		info = (struct pst_cont_info){.layout = PST_LAYOUT_OBJECT};
		rc = store_run(t->store, &op);
	}
	t->sys_cont = op.cont;
	return rc;
}

/* The first key of a store. */
static int first_key(struct session_table *t)
{
	struct key_rec r = {.ctime_ns = le64_make(loop_real_now(t->loop))};
	uint8_t key[9];
	struct pst_mut m = {.kind = PST_KV_PUT, .oid = sys_oid, .key = key, .val = &r};
	struct pst_op op = {
	        .opcode = PST_OP_BATCH, .cont = t->sys_cont, .muts = &m, .mut_count = 1};
	int rc = session_random(t, r.key, sizeof(r.key));

	m.key_len = key_make(key, 'K', 1, 2);
	m.val_len = sizeof(r);
	rc = rc ? rc : store_run(t->store, &op);
	rc = rc ? rc : hkey_set(t, &t->key[0], 1, r.key);
	OPENSSL_cleanse(&r, sizeof(r));
	return rc;
}

int sys_load(struct session_table *t, struct pst_err *err)
{
	static const char kinds[] = {'K', 'n', 'T', 'C', 'S', 'O'};
	struct pst_store_status *st = mem_calloc(1, sizeof(*st));
	struct pst_op op = {.opcode = PST_OP_STATUS, .status_out = st};
	int rc;

	if (!st)
		return err_set(err, -ENOMEM, "no memory");
	rc = store_run(t->store, &op);
	memcpy(t->uuid, st->uuid, sizeof(t->uuid));
	t->epoch = st->epoch;
	mem_free(st);
	if (rc)
		return err_set(err, rc, "sessions: the store's status: %s", strerror(-rc));
	rc = find_container(t);
	if (rc)
		return err_set(err, rc, "sessions: the container that keeps them: %s",
		               strerror(-rc));
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		rc = load_kind(t, (uint8_t)kinds[i]);
		if (rc)
			return err_set(err, rc,
			               "sessions: a record of kind '%c' can't be loaded: %s",
			               kinds[i], strerror(-rc));
	}
	if (!t->key[0].mac) {
		rc = first_key(t);
		if (rc)
			return err_set(err, rc, "sessions: the first handle key: %s",
			               strerror(-rc));
	}
	return 0;
}
