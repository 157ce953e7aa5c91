/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * model_diff - compares a model with what a store says through its public ops. Arrays are read
 * whole up to WHOLE_READ_MAX; of larger ones the model's blocks and their neighbours are read, and
 * the allocated bytes tell whether there is anything else.
 */
#include <stdio.h>

#include "model_impl.h"
#include "ops.h"

#define CHUNK          (256u * 1024)
#define WHOLE_READ_MAX (16ull << 20)

bool model_diff_usage = true;
const char *model_diff_ignore;

struct diff {
	struct store *store;
	struct pst_err *err;
	const struct m_cont *cont;
	const char *snap; /* name; NULL: live */
	uint32_t cont_id; /* the store's */
	uint64_t view;
	uint8_t *got, *want; /* CHUNK each */
};

static const char *where(const struct diff *d, char buf[600])
{
	snprintf(buf, 600, "%s%s%s", d->cont->info.name, d->snap ? "@" : "",
	         d->snap ? d->snap : "");
	return buf;
}

#define DIFFERS(d, fmt, ...) \
	err_set((d)->err, -EUCLEAN, "%s: " fmt, where((d), (char[600]){0}), ##__VA_ARGS__)
#define FAILED(d, r, fmt, ...)                                                                     \
	err_set((d)->err, (r), "%s: " fmt ": error %d", where((d), (char[600]){0}), ##__VA_ARGS__, \
	        (r))

#define OID_FMT    "object %llx.%llx"
#define OID_ARG(o) (unsigned long long)(o).hi, (unsigned long long)(o).lo

/* --- one object --- */

static int diff_bytes(struct diff *d, const struct m_obj *o, uint64_t off, uint64_t len)
{
	while (len) {
		size_t n = MIN(len, (uint64_t)CHUNK);
		uint64_t got = 0, want = off < o->size ? MIN(n, o->size - off) : 0;
		int r = ops_read(d->store, d->cont_id, d->view, o->oid, off, d->got, n, &got);

		if (r)
			return FAILED(d, r, OID_FMT ": read at %llu", OID_ARG(o->oid),
			              (unsigned long long)off);
		if (got != want)
			return DIFFERS(d, OID_FMT ": read at %llu gave %llu bytes, not %llu",
			               OID_ARG(o->oid), (unsigned long long)off,
			               (unsigned long long)got, (unsigned long long)want);
		m_obj_read(o, off, d->want, want);
		for (size_t i = 0; memcmp(d->got, d->want, want) && i < want; i++) {
			if (d->got[i] != d->want[i])
				return DIFFERS(d, OID_FMT ": byte %llu is %02x, not %02x",
				               OID_ARG(o->oid), (unsigned long long)(off + i),
				               d->got[i], d->want[i]);
		}
		off += n;
		len -= n;
	}
	return 0;
}

static int diff_array(struct diff *d, const struct m_obj *o)
{
	if (o->size <= WHOLE_READ_MAX)
		return diff_bytes(d, o, 0, o->size + 1);
	for (size_t i = 0; i < o->block_count; i++) {
		uint64_t start = o->blocks[i].index ? (o->blocks[i].index - 1) * MODEL_BLOCK : 0;
		int r = diff_bytes(d, o, start, 3 * MODEL_BLOCK);

		if (r)
			return r;
	}
	return 0;
}

static int diff_stat(struct diff *d, const struct m_obj *o)
{
	struct pst_obj_stat st;
	int r = ops_stat(d->store, d->cont_id, d->view, o->oid, &st);

	if (r)
		return FAILED(d, r, OID_FMT ": stat", OID_ARG(o->oid));
	if (!st.exists)
		return DIFFERS(d, OID_FMT ": is not there", OID_ARG(o->oid));
	if (st.size_bytes != o->size)
		return DIFFERS(d, OID_FMT ": size is %llu, not %llu", OID_ARG(o->oid),
		               (unsigned long long)st.size_bytes, (unsigned long long)o->size);
	if (st.label_len != o->label_len || memcmp(st.label, o->label, o->label_len))
		return DIFFERS(d, OID_FMT ": another label", OID_ARG(o->oid));
	if (o->mtime_set && st.mtime_ns != o->mtime)
		return DIFFERS(d, OID_FMT ": mtime is %llu, not %llu", OID_ARG(o->oid),
		               (unsigned long long)st.mtime_ns, (unsigned long long)o->mtime);
	if (model_diff_usage && st.alloc_bytes != o->block_count * MODEL_BLOCK)
		return DIFFERS(d, OID_FMT ": %llu bytes allocated, not %llu", OID_ARG(o->oid),
		               (unsigned long long)st.alloc_bytes,
		               (unsigned long long)o->block_count * MODEL_BLOCK);
	return 0;
}

/* --- key-values --- */

struct kv_walk {
	struct pst_op op;
	struct diff *d;
	const struct m_obj *obj;
	size_t next;
	int r;
};

static bool kv_entry(struct pst_op *op, const struct pst_entry *e)
{
	struct kv_walk *w = container_of(op, struct kv_walk, op);
	const struct m_kv *kv;

	if (w->next >= w->obj->kv_count) {
		w->r = DIFFERS(w->d, OID_FMT ": a key too many, \"%.*s\"", OID_ARG(w->obj->oid),
		               (int)e->name_len, (const char *)e->name);
		return false;
	}
	kv = w->obj->kvs[w->next++];
	if (e->name_len != kv->key_len || memcmp(e->name, kv->bytes, kv->key_len))
		w->r = DIFFERS(w->d, OID_FMT ": key \"%.*s\" where \"%.*s\" should be",
		               OID_ARG(w->obj->oid), (int)e->name_len, (const char *)e->name,
		               (int)kv->key_len, (const char *)kv->bytes);
	else if (e->val_len != kv->val_len ||
	         (kv->val_len && memcmp(e->val, kv->bytes + kv->key_len, kv->val_len)))
		w->r = DIFFERS(w->d, OID_FMT ": key \"%.*s\" has another value",
		               OID_ARG(w->obj->oid), (int)e->name_len, (const char *)e->name);
	return !w->r;
}

static int diff_kvs(struct diff *d, const struct m_obj *o)
{
	struct kv_walk w = {.d = d, .obj = o};
	int r;

	w.op.opcode = PST_OP_KV_LIST;
	w.op.cont = d->cont_id;
	w.op.view = d->view;
	w.op.oid = o->oid;
	w.op.want_values = true;
	w.op.entry = kv_entry;
	r = ops_run(d->store, &w.op);
	if (r)
		return FAILED(d, r, OID_FMT ": list of keys", OID_ARG(o->oid));
	if (!w.r && w.next < o->kv_count)
		return DIFFERS(d, OID_FMT ": key \"%.*s\" is not there", OID_ARG(o->oid),
		               (int)o->kvs[w.next]->key_len, (const char *)o->kvs[w.next]->bytes);
	return w.r;
}

static int diff_obj(struct diff *d, const struct m_obj *o)
{
	int r = diff_stat(d, o);

	if (!r)
		r = diff_array(d, o);
	return r ? r : diff_kvs(d, o);
}

/* --- one view --- */

struct obj_walk {
	struct pst_op op;
	struct diff *d;
	const struct m_view *view;
	size_t next;
	int r;
};

static bool obj_entry(struct pst_op *op, const struct pst_entry *e)
{
	struct obj_walk *w = container_of(op, struct obj_walk, op);
	const struct m_obj *o = w->next < w->view->obj_count ? w->view->objs[w->next] : NULL;

	w->next++;
	if (!o || m_oid_cmp(e->oid, o->oid) < 0)
		w->r = DIFFERS(w->d, OID_FMT ": should not be there", OID_ARG(e->oid));
	else if (m_oid_cmp(e->oid, o->oid))
		w->r = DIFFERS(w->d, OID_FMT ": is not listed", OID_ARG(o->oid));
	return !w->r;
}

static int diff_view(struct diff *d, const struct m_view *v)
{
	struct obj_walk w = {.d = d, .view = v};
	int r;

	w.op.opcode = PST_OP_OBJ_LIST;
	w.op.cont = d->cont_id;
	w.op.view = d->view;
	w.op.entry = obj_entry;
	r = ops_run(d->store, &w.op);
	if (r)
		return FAILED(d, r, "list of objects");
	if (!w.r && w.next < v->obj_count)
		return DIFFERS(d, OID_FMT ": is not listed", OID_ARG(v->objs[w.next]->oid));
	r = w.r;
	for (size_t i = 0; !r && i < v->obj_count; i++)
		r = diff_obj(d, v->objs[i]);
	return r;
}

/* --- containers --- */

static int diff_info(struct diff *d)
{
	struct pst_cont_info got, want;
	int r = ops_cont_get(d->store, d->cont_id, &got);

	if (r)
		return FAILED(d, r, "properties");
	m_cont_info(d->cont, &want);
	if (strcmp(got.name, want.name))
		return DIFFERS(d, "calls itself %s", got.name);
	if (got.quota_bytes != want.quota_bytes || got.quota_objects != want.quota_objects ||
	    got.props != want.props || got.layout != want.layout)
		return DIFFERS(d, "other properties or quotas");
	if (got.snapshots != want.snapshots)
		return DIFFERS(d, "%llu snapshots, not %llu", (unsigned long long)got.snapshots,
		               (unsigned long long)want.snapshots);
	if (!model_diff_usage)
		return 0;
	if (got.used_bytes != want.used_bytes || got.used_objects != want.used_objects ||
	    got.logical_bytes != want.logical_bytes)
		return DIFFERS(
		        d, "uses %llu bytes, %llu objects, %llu logical; not %llu, %llu, %llu",
		        (unsigned long long)got.used_bytes, (unsigned long long)got.used_objects,
		        (unsigned long long)got.logical_bytes, (unsigned long long)want.used_bytes,
		        (unsigned long long)want.used_objects,
		        (unsigned long long)want.logical_bytes);
	return 0;
}

static int diff_snaps(struct diff *d)
{
	for (size_t i = 0; i < d->cont->snap_count; i++) {
		const struct m_snap *s = &d->cont->snaps[i];
		int r;

		d->snap = s->info.name;
		r = ops_snap_open(d->store, d->cont->info.name, d->snap, &d->view);
		if (r == -ENOENT)
			return DIFFERS(d, "is not there");
		if (r)
			return FAILED(d, r, "open");
		r = diff_view(d, &s->view);
		if (r)
			return r;
	}
	return 0;
}

static int diff_cont(struct diff *d, const struct m_cont *c)
{
	int r;

	d->cont = c;
	d->snap = NULL;
	d->view = 0;
	r = ops_cont_open(d->store, c->info.name, &d->cont_id);
	if (r == -ENOENT)
		return DIFFERS(d, "is not there");
	if (r)
		return FAILED(d, r, "open");
	r = diff_view(d, &c->live);
	if (!r)
		r = diff_info(d);
	return r ? r : diff_snaps(d);
}

static bool cont_entry(struct pst_op *op, const struct pst_entry *e)
{
	if (model_diff_ignore && e->name_len >= strlen(model_diff_ignore) &&
	    !memcmp(e->name, model_diff_ignore, strlen(model_diff_ignore)))
		return true;
	op->ino++; /* counts; not otherwise used by CONT_LIST */
	return true;
}

static int diff_cont_count(const struct model *m, struct diff *d)
{
	struct pst_op op = {.opcode = PST_OP_CONT_LIST, .entry = cont_entry};
	int r = ops_run(d->store, &op);

	if (r)
		return err_set(d->err, r, "list of containers: error %d", r);
	if (op.ino != m->cont_count)
		return err_set(d->err, -EUCLEAN, "%llu containers, not %zu",
		               (unsigned long long)op.ino, m->cont_count);
	return 0;
}

static int diff_init(struct diff *d, struct store *s, struct pst_err *err)
{
	*d = (struct diff){.store = s, .err = err, .got = malloc(CHUNK), .want = malloc(CHUNK)};
	pst_assert(d->got && d->want);
	return 0;
}

static void diff_done(struct diff *d)
{
	free(d->got);
	free(d->want);
}

int model_diff(const struct model *m, struct store *s, struct pst_err *err)
{
	struct diff d;
	int r = diff_init(&d, s, err);

	for (size_t i = 0; !r && i < m->cont_count; i++)
		r = diff_cont(&d, &m->conts[i]);
	if (!r)
		r = diff_cont_count(m, &d);
	diff_done(&d);
	return r;
}

int model_diff_object(const struct model *m, struct store *s, uint32_t cont, uint64_t view,
                      struct pst_oid oid, struct pst_err *err)
{
	return model_diff_object_as(m, cont, s, cont, view, oid, err);
}

int model_diff_object_as(const struct model *m, uint32_t model_cont, struct store *s, uint32_t cont,
                         uint64_t view, struct pst_oid oid, struct pst_err *err)
{
	struct diff d;
	const struct m_obj *o;
	struct pst_obj_stat st;
	int r = diff_init(&d, s, err);

	d.cont = m_cont_by_id(m, model_cont);
	d.cont_id = cont;
	d.view = view;
	d.snap = view ? "(view)" : NULL;
	pst_assert(d.cont);
	o = m_obj_find(&d.cont->live, oid);
	if (o)
		r = diff_obj(&d, o);
	else
		r = ops_stat(s, cont, view, oid, &st);
	if (!o && !r && st.exists)
		r = DIFFERS(&d, OID_FMT ": should not be there", OID_ARG(oid));
	diff_done(&d);
	return r;
}
