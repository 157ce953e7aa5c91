/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mend - changes of a snapshot's keys and labels, for the repair of names that lost index pages. No
 * record tells of them: the checkpoint at close writes them. A crash before it leaves the snapshot
 * as it was, and the next fsck finds the same again.
 *
 * Nothing that holds blocks may change: other views rely on a snapshot having what they have (cont.c).
 */
#include "store/local/engine.h"

struct mending {
	struct shard *s;
	struct snap *snap;
};

static bool holds_blocks(const void *val, size_t len)
{
	return len > 0 && *(const uint8_t *)val == VAL_OUT;
}

static int head_mend(struct mending *d, struct pst_oid oid, const struct pst_mut *m)
{
	uint8_t label[PST_LABEL_MAX];
	struct head h;

	head_get(&d->snap->tree, oid, &h);
	if (h.exists && m->kind != PST_SET_LABEL)
		return 0;
	d->snap->objects += !h.exists;
	h.exists = true;
	if (m->kind == PST_SET_LABEL) {
		memcpy(label, m->val, m->val_len);
		h.label = label;
		h.label_len = (uint8_t)m->val_len;
	}
	head_put(&d->snap->tree, oid, &h);
	return 0;
}

static int key_mend(struct mending *d, const struct pst_mut *m)
{
	uint8_t key[BT_KEY_MAX], val[BT_VALUE_MAX] = {VAL_INLINE};
	struct btree *t = &d->snap->tree;
	const void *old;
	size_t len;

	if (!m->key_len || m->key_len > PST_KEY_MAX || m->val_len > sizeof(val) - 1)
		return -EINVAL;
	key_obj(key, m->oid, KEY_KV);
	memcpy(key + KEY_OBJ_BYTES, m->key, m->key_len);
	if (!bt_get(t, key, KEY_OBJ_BYTES + m->key_len, &old, &len) && holds_blocks(old, len))
		return -ENOTSUP;
	if (m->kind == PST_KV_DEL) {
		bt_del(t, key, KEY_OBJ_BYTES + m->key_len);
		return 0;
	}
	if (m->val_len)
		memcpy(val + 1, m->val, m->val_len);
	bt_put(t, key, KEY_OBJ_BYTES + m->key_len, val, m->val_len + 1);
	return head_mend(d, m->oid, m);
}

static int mut_mend(struct mending *d, const struct pst_mut *m)
{
	if (bt_reserve_beyond(&d->s->env, 4))
		return -ENOMEM;
	switch (m->kind) {
	case PST_SET_LABEL:
		return m->val_len <= PST_LABEL_MAX ? head_mend(d, m->oid, m) : -EINVAL;
	case PST_KV_PUT:
	case PST_KV_DEL:
		return key_mend(d, m);
	}
	return -ENOTSUP;
}

int local_mend_view(struct store *store, uint32_t cont, uint64_t view, const struct pst_mut *m,
                    uint32_t count)
{
	struct local *l = local_of(store);
	struct mending d = {0};
	struct shard *s;
	struct snap *n;
	struct cont *c;
	int err = 0;

	if (local_is_crew(store))
		return -ENOTSUP;
	s = d.s = shard_of_cont(l, cont);
	c = s ? cont_find(s, cont) : NULL;
	if (l->opts.read_only)
		return -EROFS;
	if (l->stopped)
		return l->stop_status;
	if (c)
		list_for_each (n, &c->snaps, link)
			if (n->id == view)
				d.snap = n;
	if (!d.snap)
		return -ENOENT;
	for (uint32_t i = 0; i < count && !err; i++)
		err = mut_mend(&d, &m[i]);
	s->map_version++;
	s->page_version++;
	l->mended = true;
	ckpt_want(s);
	return err;
}
