/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kv - key-value pairs: gets are ops of their own, changes are batches of one, with a condition
 * before it where the flags ask for one.
 */
#include "client/client.h"

static int key_check(uint32_t key_len)
{
	if (key_len == 0)
		return -EINVAL;
	return key_len > PST_KEY_MAX ? -ENAMETOOLONG : 0;
}

static int get_fill(struct request *r, const struct pst_cont *cont, struct pst_oid oid,
                    const void *key, uint32_t key_len, void *val, uint32_t val_cap)
{
	int rc = key_check(key_len);

	if (rc < 0)
		return rc;
	request_into(r, cont);
	r->op.oid = oid;
	r->op.key = key;
	r->op.key_len = key_len;
	r->op.val = val;
	r->op.val_cap = val_cap;
	return 0;
}

int pst_kv_get(struct pst_cont *cont, struct pst_oid oid, const void *key, uint32_t key_len,
               void *val, uint32_t val_cap, uint32_t *ret_len)
{
	struct request r;
	int rc;

	request_init(&r, cont->client, PST_OP_KV_GET);
	rc = get_fill(&r, cont, oid, key, key_len, val, val_cap);
	if (rc == 0)
		rc = request_wait(&r);
	if (rc == 0 && ret_len)
		*ret_len = (uint32_t)r.op.ret_len;
	return rc;
}

int pst_kv_get_async(struct pst_cont *cont, struct pst_oid oid, const void *key, uint32_t key_len,
                     void *val, uint32_t val_cap, struct pst_cq *cq, void *user_data)
{
	struct request *r;
	int rc = request_get(&r, cont->client, cq, user_data, PST_OP_KV_GET);

	return rc < 0 ? rc : request_go(r, get_fill(r, cont, oid, key, key_len, val, val_cap));
}

/* The batch in r->mut: a condition, if @flags have one, then @change on the key. */
static int change_fill(struct request *r, const struct pst_cont *cont, struct pst_mut change,
                       uint32_t flags)
{
	struct pst_mut *m = r->mut;
	int rc = key_check(change.key_len);

	if (rc < 0)
		return rc;
	if (change.val_len > PST_VALUE_MAX)
		return -E2BIG;
	if (flags & (PST_F_EXCL | PST_F_REPLACE)) {
		bool excl = flags & PST_F_EXCL;

		if (excl && (flags & PST_F_REPLACE))
			return -EINVAL;
		*m++ = (struct pst_mut){.kind = excl ? PST_IF_KEY_ABSENT : PST_IF_KEY_PRESENT,
		                        .err = excl ? -EEXIST : -ENOENT,
		                        .oid = change.oid,
		                        .key = change.key,
		                        .key_len = change.key_len};
	}
	*m++ = change;
	request_into(r, cont);
	r->op.flags = flags & PST_F_VOLATILE;
	r->op.muts = r->mut;
	r->op.mut_count = (uint32_t)(m - r->mut);
	return 0;
}

static int change(struct pst_cont *cont, struct pst_mut mut, uint32_t flags)
{
	struct request r;
	int rc;

	request_init(&r, cont->client, PST_OP_BATCH);
	rc = change_fill(&r, cont, mut, flags);
	return rc < 0 ? rc : request_wait(&r);
}

static int change_async(struct pst_cont *cont, struct pst_mut mut, uint32_t flags,
                        struct pst_cq *cq, void *user_data)
{
	struct request *r;
	int rc = request_get(&r, cont->client, cq, user_data, PST_OP_BATCH);

	return rc < 0 ? rc : request_go(r, change_fill(r, cont, mut, flags));
}

#define PUT_FLAGS (PST_F_VOLATILE | PST_F_EXCL | PST_F_REPLACE)
#define DEL_FLAGS (PST_F_VOLATILE | PST_F_REPLACE)

static struct pst_mut mut_put(struct pst_oid oid, const void *key, uint32_t key_len,
                              const void *val, uint32_t val_len)
{
	return (struct pst_mut){.kind = PST_KV_PUT,
	                        .oid = oid,
	                        .key = key,
	                        .key_len = key_len,
	                        .val = val,
	                        .val_len = val_len};
}

static struct pst_mut mut_del(struct pst_oid oid, const void *key, uint32_t key_len)
{
	return (struct pst_mut){.kind = PST_KV_DEL, .oid = oid, .key = key, .key_len = key_len};
}

int pst_kv_put(struct pst_cont *cont, struct pst_oid oid, const void *key, uint32_t key_len,
               const void *val, uint32_t val_len, uint32_t flags)
{
	if (flags & ~PUT_FLAGS)
		return -EINVAL;
	return change(cont, mut_put(oid, key, key_len, val, val_len), flags);
}

int pst_kv_put_async(struct pst_cont *cont, struct pst_oid oid, const void *key, uint32_t key_len,
                     const void *val, uint32_t val_len, uint32_t flags, struct pst_cq *cq,
                     void *user_data)
{
	if (flags & ~PUT_FLAGS)
		return -EINVAL;
	return change_async(cont, mut_put(oid, key, key_len, val, val_len), flags, cq, user_data);
}

int pst_kv_del(struct pst_cont *cont, struct pst_oid oid, const void *key, uint32_t key_len,
               uint32_t flags)
{
	if (flags & ~DEL_FLAGS)
		return -EINVAL;
	return change(cont, mut_del(oid, key, key_len), flags);
}

int pst_kv_del_async(struct pst_cont *cont, struct pst_oid oid, const void *key, uint32_t key_len,
                     uint32_t flags, struct pst_cq *cq, void *user_data)
{
	if (flags & ~DEL_FLAGS)
		return -EINVAL;
	return change_async(cont, mut_del(oid, key, key_len), flags, cq, user_data);
}

struct kv_list {
	bool (*fn)(void *arg, const struct pst_kv *kv);
	void *arg;
};

static bool kv_list_one(void *arg, const struct list_entry_out *e)
{
	struct kv_list *l = arg;
	struct pst_kv kv = {
	        .key = e->name, .key_len = e->name_len, .val = e->val, .val_len = e->val_len};

	return l->fn(l->arg, &kv);
}

int pst_kv_list(struct pst_cont *cont, struct pst_oid oid, const void *prefix, uint32_t prefix_len,
                const void *start, uint32_t start_len, bool want_values,
                bool (*fn)(void *arg, const struct pst_kv *kv), void *arg)
{
	struct kv_list l = {.fn = fn, .arg = arg};
	struct request r;

	if (prefix_len > PST_KEY_MAX || start_len > PST_KEY_MAX)
		return -ENAMETOOLONG;
	request_init(&r, cont->client, PST_OP_KV_LIST);
	request_into(&r, cont);
	r.op.oid = oid;
	r.op.key = prefix;
	r.op.key_len = prefix_len;
	r.op.want_values = want_values;
	return list_run(&r, start, start_len, kv_list_one, &l);
}
